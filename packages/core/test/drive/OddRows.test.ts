/** Unreadable values of a session are reported once, and an unreadable ask still reaches a person. */
import { assert, it } from "@effect/vitest"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import * as Effect from "effect/Effect"
import * as ErrorReporter from "effect/ErrorReporter"
import * as Predicate from "effect/Predicate"
import { assertCompleted, finish, layer, rest, rewritten, run, start } from "../support/driving.ts"

const isList = { method: "GET", path: /\/message$/ }
const text = [{ text: "done" }]

/** Removes the parent of every answer in a list. */
const withoutParents = rewritten((messages) =>
  Array.isArray(messages)
    ? messages.map((message: unknown) =>
      Predicate.hasProperty(message, "info") && Predicate.isObject(message.info)
        ? { ...message, info: { ...message.info, parentID: null } }
        : message
    )
    : messages
)

it.effect("messages that cannot be read are reported once for their session", () =>
  Effect.gen(function*() {
    const reports: Array<readonly [string, unknown]> = []
    const reporter = ErrorReporter.make(({ attributes, error }) => {
      reports.push([error.message, attributes["feature"]])
    })
    yield* Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* fake.fail(isList, withoutParents, Infinity)
      for (const _ of [1, 2, 3]) assert.strictEqual((yield* run(text)).result.content, "done")
    }).pipe(Effect.provide(ErrorReporter.layer([reporter])))
    assert.deepStrictEqual(reports.map(([, feature]) => feature), ["unreadable messages"])
  }).pipe(Effect.provide(layer())))

it.effect.each(["id", "sessionID"])(
  "an ask event without its %s makes the turn find the ask in the server's list and ask the gate",
  (field) =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* fake.dropEvents(({ type }) => type === "permission.asked")
      const permission = [{ permission: "bash", pattern: "*", action: "ask" } as const]
      const running = yield* start([{ tool: "bash", args: { command: "ls" } }, ...text], { permission })
      assert.isFalse(running.isDone())
      const sessionId = (yield* fake.requests).find(({ path }) => path.endsWith("/prompt_async"))?.path.split("/")[2]
      yield* fake.emit({
        type: "permission.asked",
        properties: { id: "per_1", sessionID: sessionId, permission: "bash", patterns: ["ls"], [field]: null }
      })
      yield* rest
      assertCompleted(yield* finish(running), { text: "done", modelCalls: 2 })
    }).pipe(Effect.provideService(HumanGate.HumanGate, HumanGate.allow), Effect.provide(layer()))
)
