/** An unreadable part of the stored answer fails the turn only if it may hold text that the stream did not tell. */
import { assert, it } from "@effect/vitest"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import type { Fault } from "@opencode-turn/testing/Faults"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import { finish, layer, rewritten, start } from "../support/driving.ts"

const isList = { method: "GET", path: /\/message$/ }
const isRead = { method: "GET", path: /\/message(?:\/|$)/ }

const withParts = (f: (parts: ReadonlyArray<unknown>) => unknown): Fault => {
  const odd = (message: unknown) =>
    Predicate.hasProperty(message, "info") && Predicate.hasProperty(message.info, "role") &&
      message.info.role === "assistant" && Predicate.hasProperty(message, "parts") && Array.isArray(message.parts)
      ? { ...message, parts: f(message.parts) }
      : message
  return rewritten((body) => (Array.isArray(body) ? body.map(odd) : odd(body)))
}

const typeOf = (part: unknown): unknown => (Predicate.hasProperty(part, "type") ? part.type : undefined)
const inPlaceOf = (type: string, f: (part: object) => unknown) => (parts: ReadonlyArray<unknown>) =>
  parts.map((part) => (typeOf(part) === type && Predicate.isObject(part) ? f(part) : part))

/** A turn of two steps, whose stream may have a gap before its end. */
const turn = Effect.fnUntraced(function*(fault: Fault, hasGap: boolean, times = Infinity) {
  const fake = yield* FakeOpencode
  const running = yield* start([{ text: "one", tool: "bash", args: { command: "ls" } }, { text: "two", gate: "gate" }])
  if (hasGap) yield* fake.cutEvents
  yield* fake.fail(isRead, fault, times)
  yield* fake.release("gate")
  return (yield* finish(running, 30)).result
})

const harmless: ReadonlyArray<readonly [string, (parts: ReadonlyArray<unknown>) => unknown]> = [
  ["a start without a type", inPlaceOf("step-start", (part) => ({ ...part, type: null }))],
  ["a start without a type and an id", inPlaceOf("step-start", (part) => ({ ...part, type: null, id: null }))],
  ["null in place of the start", inPlaceOf("step-start", () => null)],
  ["null in place of the finish", inPlaceOf("step-finish", () => null)],
  ["a finish without a type and an id", inPlaceOf("step-finish", (part) => ({ ...part, type: 7, id: 7 }))],
  ["a tool without a type and an id", inPlaceOf("tool", (part) => ({ ...part, type: {}, id: {} }))],
  ["null before the start", (parts) => [null, ...parts]],
  ["a number behind the finish", (parts) => [...parts, 7]]
]

for (const hasGap of [false, true]) {
  it.effect.each(harmless)(
    `no text can be missing with %s: the turn completes${hasGap ? ", also where its stream had a gap" : ""}`,
    ([, f]) =>
      Effect.gen(function*() {
        const result = yield* turn(withParts(f), hasGap)
        assert.strictEqual(result.status, "completed", result.error?.message)
        assert.strictEqual(result.content, "one\n\ntwo")
      }).pipe(Effect.provide(layer()))
  )
}

const mayHideText: ReadonlyArray<readonly [string, (parts: ReadonlyArray<unknown>) => unknown]> = [
  ["null in place of a text", inPlaceOf("text", () => null)],
  ["a text without a type", inPlaceOf("text", (part) => ({ ...part, type: null }))],
  ["a text without its text", inPlaceOf("text", (part) => ({ ...part, text: null }))],
  ["no list of parts", () => null]
]

it.effect.each(mayHideText)(
  "the stream brought the text that the record has in place of %s: the turn completes",
  ([, f]) =>
    Effect.gen(function*() {
      const result = yield* turn(withParts(f), false)
      assert.strictEqual(result.status, "completed", result.error?.message)
      assert.strictEqual(result.content, "one\n\ntwo")
    }).pipe(Effect.provide(layer()))
)

it.effect.each(mayHideText)(
  "the stream did not bring the text that the record has in place of %s: the turn fails and names the field",
  ([, f]) =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* fake.dropEvents(({ type }) => type.startsWith("message."))
      yield* fake.fail(isRead, withParts(f), Infinity)
      const { result } = yield* finish(yield* start([{ text: "words" }]), 30)
      assert.strictEqual(result.error?._tag, "DecodeError", result.error?.message)
      assert.match(result.error?.message ?? "", /the field parts\S* of msg_\S+ is missing or odd$/)
    }).pipe(Effect.provide(layer()))
)

it.effect.each(mayHideText)(
  "a record with %s is read once more before the turn fails",
  ([, f]) =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* fake.dropEvents(({ type }) => type.startsWith("message."))
      yield* fake.fail(isList, withParts(f), 1)
      const { result } = yield* finish(yield* start([{ text: "words" }]), 30)
      assert.strictEqual(result.status, "completed", result.error?.message)
      assert.strictEqual(result.content, "words")
    }).pipe(Effect.provide(layer()))
)

it.effect("an unreadable list of parts loses nothing if its message had ended before the gap", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    const running = yield* start([{ text: "one", tool: "bash", args: { command: "ls" } }, {
      text: "two",
      delayMillis: 5000
    }])
    yield* fake.fail(
      isRead,
      withParts((parts) => (parts.some((part) => typeOf(part) === "tool") ? null : parts)),
      Infinity
    )
    yield* fake.emit({ type: "permission.asked", properties: {} })
    const { result } = yield* finish(running, 30)
    assert.strictEqual(result.status, "completed", result.error?.message)
    assert.strictEqual(result.content, "one\n\ntwo")
  }).pipe(Effect.provide(layer())))
