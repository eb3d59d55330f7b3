/** A turn on OpenCode 2.x whose prompt waits behind that of another client, and the reverse: who cancels stops what is his own. */
import { assert, describe, it } from "@effect/vitest"
import { Client } from "@opencode-turn/core/Client"
import { AssistantMessageId, SessionId } from "@opencode-turn/core/Ids"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { runTurn } from "@opencode-turn/core/Turn"
import { FakeOpencode, prompt } from "@opencode-turn/testing/FakeOpencode"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { ended, until } from "../support/carrying.ts"
import { answered } from "../support/driving.ts"
import * as Turns from "../support/turns.ts"

type Line = "2.x" | "2.x release"

const both: ReadonlyArray<Line> = ["2.x", "2.x release"]

const second = AssistantMessageId.make("second")

/** A request of another client. */
const send = Effect.fnUntraced(function*(method: "DELETE" | "GET" | "PATCH" | "POST", path: string, body?: object) {
  const fake = yield* FakeOpencode
  const response = yield* fake.handle({
    method,
    path,
    query: {},
    headers: {},
    body: body === undefined ? "" : JSON.stringify(body)
  })
  return response._tag === "Body" ? response.body : ""
})

const held: Step = { text: "other's words", gate: "other", gateAfter: 1 }

/** A conversation whose session another client has prompted, and works on. */
const busy = Effect.fnUntraced(function*(steps: ReadonlyArray<Step> = [held]) {
  const fake = yield* FakeOpencode
  const first = yield* runTurn(Turns.turn([{ text: "First." }]))
  assert(first.sessionId !== undefined)
  const path = `/api/session/${first.sessionId}`
  yield* send("POST", `${path}/prompt`, { text: prompt("other", steps), id: "msg_other" })
  if (steps[0] === held) yield* fake.reached("other")
  return { sessionId: first.sessionId, path }
})

const ignore = () => {}

/** Keeps the connection of all turns open, so that a turn knows what another client's run did before it. */
const keepConnected = Effect.gen(function*() {
  const client = yield* Client
  const subscription = yield* client.subscribe(SessionId.make("ses_none"), {
    onEvent: ignore,
    onFlush: ignore,
    onHeartbeat: ignore,
    onLost: ignore,
    onGap: ignore,
    onClosed: ignore
  })
  yield* subscription.connected
})

const inbox = (path: string, line: Line) =>
  Effect.map(
    send("GET", `${path}/${line === "2.x" ? "pending" : "inbox"}`),
    (body) => [...body.matchAll(/"id":"(msg_[^"]*)"/g)].map(([, id = ""]) => id)
  )

/** A turn whose prompt waits, with the id of its prompt. */
const waitingTurn = Effect.fnUntraced(function*(path: string, line: Line) {
  const before = yield* inbox(path, line)
  const fiber = yield* Effect.forkChild(runTurn(Turns.turn([{ text: "Ours." }], { messageId: second })))
  const ours = Effect.map(inbox(path, line), (ids) => ids.find((id) => !before.includes(id)))
  yield* until(Effect.map(ours, (id) => id !== undefined), 30_000)
  return { fiber, prompt: (yield* ours) ?? "" }
})

const said = Effect.fnUntraced(function*(sessionId: SessionId) {
  const fake = yield* FakeOpencode
  return (yield* fake.messages2x(sessionId)).flatMap((message) =>
    message.type === "assistant"
      ? [message.content.map((content) => (content.type === "text" ? content.text : content.type)).join()]
      : message.type === "user"
      ? ["user"]
      : []
  )
})

const cancelSecond = Effect.flatMap(SessionStore, (store) => store.cancel(second, "Stopped."))

const on = <E>(line: Line, body: Effect.Effect<void, E, Turns.Services | Scope.Scope>) =>
  Effect.scoped(body).pipe(Effect.provide(Turns.layer({ fake: { line } })))

describe("a turn that waits behind another client's prompt", () => {
  const stops: ReadonlyArray<readonly [string, ReadonlyArray<Step>, boolean]> = [
    ["in the middle of its answer", [held], false],
    ["in the middle of its answer, which was seen to begin", [held], true],
    ["while its model's next try is waited for", [{ fail: 500, times: 9 }], false],
    ["while its model's next try is waited for, which was seen to fail", [{ fail: 500, times: 9 }], true]
  ]
  for (const [when, steps, isSeen] of stops) {
    it.effect.each(both)(
      `is answered if that client stops its own ${when}: %s`,
      (line) =>
        on(
          line,
          Effect.gen(function*() {
            const fake = yield* FakeOpencode
            if (isSeen) yield* keepConnected
            const { path, sessionId } = yield* busy(steps)
            yield* Turns.rest
            const { fiber } = yield* waitingTurn(path, line)
            yield* send("POST", `${path}/interrupt`)
            const { millis, value } = yield* ended(fiber, 60_000)
            assert.isBelow(millis, 5000)
            assert.deepStrictEqual([value.status, value.content, value.error], ["completed", "Ours.", undefined])
            assert.strictEqual(yield* fake.userMessageCount(sessionId), 3)
            assert.deepStrictEqual(yield* inbox(path, line), [])
          })
        )
    )
  }

  it.effect.each(both)(
    "is answered at once although the server still takes the stopped session for one at work: %s",
    (line) =>
      on(
        line,
        Effect.gen(function*() {
          const fake = yield* FakeOpencode
          const { path, sessionId } = yield* busy()
          const { fiber } = yield* waitingTurn(path, line)
          const atWork = JSON.stringify({ data: { [sessionId]: { type: "running" } } })
          yield* fake.fail({ path: "/api/session/active" }, answered(200, atWork), 3)
          yield* send("POST", `${path}/interrupt`)
          const { millis, value } = yield* ended(fiber, 60_000)
          assert.deepStrictEqual([value.status, value.content], ["completed", "Ours."])
          assert.isBelow(millis, 5000)
        })
      )
  )

  it.effect.each(both)("is answered if the other answer fails: %s", (line) =>
    on(
      line,
      Effect.gen(function*() {
        const fake = yield* FakeOpencode
        const { path, sessionId } = yield* busy([{ fail: 400, delayMillis: 3000 }])
        const { fiber } = yield* waitingTurn(path, line)
        yield* TestClock.adjust("3 seconds")
        const { millis, value } = yield* ended(fiber, 60_000)
        assert.isBelow(millis, 5000)
        assert.deepStrictEqual([value.status, value.content, value.error], ["completed", "Ours.", undefined])
        assert.strictEqual(yield* fake.userMessageCount(sessionId), 3)
      })
    ))

  it.effect("is cancelled if another client takes it out of the inbox", () =>
    on(
      "2.x release",
      Effect.gen(function*() {
        const fake = yield* FakeOpencode
        const { path, sessionId } = yield* busy()
        const { fiber, prompt: waiting } = yield* waitingTurn(path, "2.x release")
        yield* send("DELETE", `${path}/inbox/${waiting}`)
        yield* Turns.rest
        yield* fake.release("other")
        const { value } = yield* ended(fiber, 60_000)
        assert.strictEqual(value.status, "cancelled")
        assert.deepStrictEqual(yield* said(sessionId), ["user", "First.", "user", "other's words"])
      })
    ))

  it.effect("is answered beside the other one if another client lets it steer, and says that it was not alone", () =>
    on(
      "2.x release",
      Effect.gen(function*() {
        const fake = yield* FakeOpencode
        const { path } = yield* busy()
        const { fiber, prompt: waiting } = yield* waitingTurn(path, "2.x release")
        yield* send("PATCH", `${path}/inbox/${waiting}`, { delivery: "steer" })
        yield* fake.release("other")
        const { value } = yield* ended(fiber, 60_000)
        assert.deepStrictEqual([value.status, value.content], ["completed", "Ours."])
      })
    ))

  it.effect("leaves the other answer alone when it is cancelled, and is gone", () =>
    on(
      "2.x release",
      Effect.gen(function*() {
        const fake = yield* FakeOpencode
        const { path, sessionId } = yield* busy()
        yield* send("POST", `${path}/prompt`, {
          text: prompt("later", [{ text: "Later." }]),
          delivery: "queue",
          id: "msg_later"
        })
        const { fiber } = yield* waitingTurn(path, "2.x release")
        yield* cancelSecond
        const { value } = yield* ended(fiber, 60_000)
        assert.strictEqual(value.status, "cancelled")
        assert.deepStrictEqual(yield* inbox(path, "2.x release"), ["msg_later"])
        yield* fake.release("other")
        yield* Turns.rest
        assert.deepStrictEqual(yield* said(sessionId), ["user", "First.", "user", "other's words", "user", "Later."])
      })
    ))

  it.effect("stays parked on the beta when it is cancelled, and is answered behind the next prompt", () =>
    on(
      "2.x",
      Effect.gen(function*() {
        const fake = yield* FakeOpencode
        const { path, sessionId } = yield* busy()
        const { fiber, prompt: waiting } = yield* waitingTurn(path, "2.x")
        yield* cancelSecond
        const { value } = yield* ended(fiber, 60_000)
        assert.strictEqual(value.status, "cancelled")
        assert.deepStrictEqual(yield* inbox(path, "2.x"), [waiting])
        yield* fake.release("other")
        const next = yield* runTurn(Turns.turn([{ text: "Next." }], { messageId: "third" }))
        assert.deepStrictEqual([next.status, next.content], ["completed", "Next."])
        yield* Turns.rest
        const texts = (yield* said(sessionId)).filter((text) => text !== "user")
        assert.sameMembers(texts.slice(-2), ["Ours.", "Next."])
        assert.deepStrictEqual(yield* inbox(path, "2.x"), [])
      })
    ))
})

describe("a turn of the release that is cancelled", () => {
  it.effect("leaves what other clients have in the inbox, for the next prompt", () =>
    on(
      "2.x release",
      Effect.gen(function*() {
        const fake = yield* FakeOpencode
        const fiber = yield* Effect.forkChild(
          runTurn(Turns.turn([{ text: "one two three", gate: "ours", gateAfter: 2 }]))
        )
        yield* fake.reached("ours")
        yield* Turns.rest
        const [sessionId = ""] = yield* fake.sessions
        const path = `/api/session/${sessionId}`
        yield* send("POST", `${path}/prompt`, {
          text: prompt("other", [{ text: "Other." }]),
          delivery: "queue",
          id: "msg_other"
        })
        yield* Turns.cancel
        const { value } = yield* ended(fiber, 60_000)
        assert.deepStrictEqual([value.status, value.content], ["cancelled", "one two "])
        assert.deepStrictEqual(yield* inbox(path, "2.x release"), ["msg_other"])
        const next = yield* runTurn(Turns.turn([{ text: "Next." }], { messageId: second }))
        assert.deepStrictEqual([next.status, next.content], ["completed", "Next."])
        const client = yield* Client
        assert.strictEqual((yield* client.statuses).size, 0)
        assert.strictEqual(yield* fake.userMessageCount(sessionId), 3)
      })
    ))
})
