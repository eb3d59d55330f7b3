/** Turns against the fake server, for the tests of what drives them. */
import { assert } from "@effect/vitest"
import type { Ask } from "@opencode-turn/core/Ask"
import * as MemorySessionStore from "@opencode-turn/core/MemorySessionStore"
import type { ReplyUpdate } from "@opencode-turn/core/ReplyUpdate"
import type { StoreError } from "@opencode-turn/core/SessionStore"
import * as Tracer from "@opencode-turn/core/Tracer"
import { runTurn } from "@opencode-turn/core/Turn"
import type { TurnInput } from "@opencode-turn/core/TurnInput"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"
import type { Fault } from "@opencode-turn/testing/Faults"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"

/** All that a turn needs, over a fake of its own. */
export const layer = (options?: FakeOpencode.Options) =>
  Layer.mergeAll(FakeOpencode.layerTest(options), MemorySessionStore.layer, Tracer.layerCollect())

/** Lets everything run that can run without the clock: what wakes up wakes others up, a few times over. */
export const rest = Effect.repeat(TestClock.adjust(0), { times: 50 })

/** Whether a request posts a prompt. */
export const isPost = ({ method, path }: { readonly method: string; readonly path: string }): boolean =>
  method === "POST" && path.endsWith("/prompt_async")

/** Acts, and answers with another body. */
export const rewritten = (f: (body: unknown) => unknown): Fault => (serve) =>
  Effect.map(
    serve,
    (response) =>
      response._tag === "Body" ? { ...response, body: JSON.stringify(f(JSON.parse(response.body))) } : response
  )

/** Answers with this, and does not act. */
export const answered = (status: number, body: string): Fault => () =>
  Effect.succeed({ _tag: "Body", status, headers: { "content-type": "application/json" }, body })

/** A turn that has been started and runs as far as it can. */
export interface Running {
  readonly fiber: Fiber.Fiber<TurnResult, StoreError>
  readonly updates: ReadonlyArray<ReplyUpdate>
  readonly isDone: () => boolean
}

export const start = Effect.fnUntraced(function*(steps: ReadonlyArray<Step>, input: Partial<TurnInput> = {}) {
  const fake = yield* FakeOpencode.FakeOpencode
  yield* fake.script(steps)
  const updates: Array<ReplyUpdate> = []
  const fiber = yield* Effect.forkChild(runTurn({
    conversationId: "42",
    prompt: "hello",
    observers: [(update) => Effect.sync(() => void updates.push(update))],
    ...input
  }))
  yield* rest
  const running: Running = { fiber, updates, isDone: () => fiber.pollUnsafe() !== undefined }
  return running
})

/** Moves the clock on, a second at a time and no further than needed, and gives the result and what the turn left behind. */
export const finish = Effect.fnUntraced(function*(running: Running, withinSeconds = 0) {
  for (let second = 0; second < withinSeconds && !running.isDone(); second++) yield* TestClock.adjust("1 second")
  yield* rest
  assert.isTrue(running.isDone(), `the turn still runs after ${withinSeconds} s`)
  const result = yield* Fiber.join(running.fiber)
  yield* rest
  return { result, ...(yield* afterwards(result)) }
})

/** Starts and finishes a turn. */
export const run = Effect.fnUntraced(
  function*(steps: ReadonlyArray<Step>, withinSeconds = 0, input: Partial<TurnInput> = {}) {
    return yield* finish(yield* start(steps, input), withinSeconds)
  }
)

/** Checks that the turn ends when exactly so many milliseconds have passed from now on. */
export const endsAfter = Effect.fnUntraced(function*(running: Running, millis: number) {
  yield* TestClock.adjust(millis - 1)
  yield* rest
  assert.isFalse(running.isDone(), `it ended before ${millis} ms`)
  yield* TestClock.adjust(1)
  return yield* finish(running)
})

/** Checks that the turn still runs after all this time. */
export const lasts = Effect.fnUntraced(function*(running: Running, duration: Duration.Input) {
  yield* TestClock.adjust(duration)
  yield* rest
  assert.isFalse(running.isDone())
})

/** What a turn left behind on the server, in the store and in the trace. */
export const afterwards = Effect.fnUntraced(function*(result: TurnResult) {
  const fake = yield* FakeOpencode.FakeOpencode
  const traces = yield* Tracer.TraceLog
  const requests = yield* fake.requests
  const messages = result.sessionId === undefined ? [] : yield* fake.messages(result.sessionId)
  const nowMillis = yield* Clock.currentTimeMillis
  // The event connection is kept that long for the next turn.
  yield* TestClock.adjust("2 seconds")
  return {
    posts: requests.filter(isPost),
    requests,
    messages,
    userMessages: messages.filter(({ info }) => info.role === "user").length,
    serverText: messages.filter(({ info }) => info.role === "assistant" && info.summary !== true)
      .flatMap(({ parts }) => parts.flatMap((part) => (part.type === "text" && part.text !== "" ? [part.text] : [])))
      .join("\n\n"),
    modelCalls: yield* fake.modelCalls,
    connections: yield* fake.eventConnections,
    events: yield* traces.events,
    trace: (yield* traces.events).map(({ name }) => name.replace("opencode.", "")),
    nowMillis
  }
})

export type Finished = Effect.Success<ReturnType<typeof finish>>

/** What every turn that completed must leave behind, whatever happened on the way. */
export const assertCompleted = (
  { connections, messages, modelCalls, posts, result, serverText, trace, userMessages }: Finished,
  expected: { readonly text: string; readonly modelCalls: number; readonly posts?: number }
) => {
  assert.isUndefined(result.error, result.error?.message)
  assert.strictEqual(result.status, "completed")
  assert.strictEqual(result.content, expected.text)
  assert.strictEqual(serverText, expected.text)
  assert.strictEqual(result.message?.status, "completed")
  assert.strictEqual(modelCalls, expected.modelCalls, "model calls")
  assert.strictEqual(userMessages, 1, "user messages")
  assert.strictEqual(posts.length, expected.posts ?? 1, "posts")
  assert.isAtMost(new Set(posts.map(({ body }) => JSON.stringify(body))).size, 1, "all posts are the same")
  assert.strictEqual(connections, 0, "event connections")
  assert.strictEqual(trace.at(-1), "turn.finished")
  assert.isTrue(messages.length > 0)
}

/** Follows the updates as a reader would, and checks that no text shown on the way was garbled. */
export const assertNeverGarbled = (updates: ReadonlyArray<ReplyUpdate>, { reply }: TurnResult) => {
  const finals = new Map(reply.parts.flatMap((part) => ("text" in part ? [[part.id, part.text] as const] : [])))
  const shown = new Map<string, string>()
  const show = (id: string, text: string) => {
    shown.set(id, text)
    // A try of the model that was given up leaves its part empty or takes it away; what was shown of it is just dropped.
    const final = [...finals].find(([known]) => known === id)?.[1]
    if (final !== undefined && final !== "") assert.isTrue(final.startsWith(text), `"${text}" of "${final}"`)
  }
  for (const update of updates) {
    if (update._tag === "TextDelta" || update._tag === "ReasoningDelta") {
      show(update.partId, (shown.get(update.partId) ?? "") + update.delta)
    } else if (update._tag === "PartChanged" && "text" in update.part) {
      show(update.part.id, update.part.text)
    } else if (update._tag === "Reset") {
      shown.clear()
      for (const part of update.parts) if ("text" in part) show(part.id, part.text)
    }
  }
  // In the end the reader sees what the result says.
  for (const [id, text] of finals) if (text !== "") assert.strictEqual(shown.get(id), text, `shown in the end: ${id}`)
}

/** The asks that the updates showed. */
export const asked = (updates: ReadonlyArray<ReplyUpdate>): ReadonlyArray<Ask> =>
  updates.flatMap((update) =>
    update._tag === "Asked" ? [update.ask] : update._tag === "Reset" ? update.asks.map(({ ask }) => ask) : []
  )

/** The lines of a tape-like turn: reasoning, text and a tool, then text. */
export const tape: ReadonlyArray<Step> = [
  {
    reasoning: "let me think about it",
    text: "First I look around here.",
    tool: "bash",
    args: { command: "echo hi" }
  },
  { text: "And that is the whole answer." }
]
export const tapeText = "First I look around here.\n\nAnd that is the whole answer."

/** Has something happen right after the n-th event of a turn; `count` says how many there were. */
export const atEvent = Effect.fnUntraced(function*<R>(n: number, effect: Effect.Effect<unknown, never, R>) {
  const fake = yield* FakeOpencode.FakeOpencode
  const due = Latch.makeUnsafe()
  let count = 0
  yield* fake.dropEvents(({ type }) => {
    // That is before the prompt, and nobody listens yet.
    if (type === "session.created") return false
    if (++count === n) due.openUnsafe()
    return false
  })
  yield* Effect.forkChild(Effect.andThen(due.await, effect), { startImmediately: true })
  return { count: () => count }
})

/** Runs a turn once for each of its events, each time with something else happening right after that one. */
export const atEveryEvent = Effect.fnUntraced(function*<E, R>(
  turn: (n: number) => Effect.Effect<{ readonly count: number }, E, R>
) {
  const { count } = yield* turn(Infinity)
  for (let n = 1; n <= count; n++) {
    yield* turn(n).pipe(
      Effect.catchDefect((defect) =>
        Effect.die(
          new Error(`at event ${n} of ${count}: ${defect instanceof Error ? defect.message : defect}`, {
            cause: defect
          })
        )
      )
    )
  }
  return count
})
