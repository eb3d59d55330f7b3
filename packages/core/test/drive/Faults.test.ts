/**
 * Every step of a turn against every fault of a request, once and for ever: what it comes to, and what must hold whatever it
 * comes to. Faults of the event stream are in `Gaps.test.ts`.
 */
import { assert, it } from "@effect/vitest"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import * as Faults from "@opencode-turn/testing/Faults"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Finished } from "../support/driving.ts"
import { answered, finish, isPost, layer, start, tape, tapeText } from "../support/driving.ts"

const faults = {
  "refused": Faults.reset,
  "answer lost": Faults.lostAnswer,
  "401": Faults.status(401),
  "404": Faults.status(404),
  "409": Faults.status(409),
  "429": Faults.status(429),
  "503": Faults.status(503),
  "never answers": Faults.hang,
  "acts, never answers": Faults.hangAfter,
  "malformed": Faults.malformed,
  "a web page": Faults.htmlPage
}
type FaultName = keyof typeof faults

/** `completed`, the same in a session that replaced the lost one (`recreated`), or the tag of the error. */
type Outcome = string

const once: Readonly<Record<FaultName, Outcome>> = {
  "refused": "completed",
  "answer lost": "completed",
  "401": "Unauthorized",
  "404": "recreated",
  "409": "StatusError",
  "429": "completed",
  "503": "completed",
  "never answers": "completed",
  "acts, never answers": "completed",
  "malformed": "completed",
  "a web page": "UnsupportedServer"
}

const forEver: Readonly<Record<FaultName, Outcome>> = {
  ...once,
  "refused": "TransportError",
  "answer lost": "TransportError",
  "404": "SessionNotFound",
  "429": "StatusError",
  "503": "StatusError",
  "never answers": "RequestTimeout",
  "acts, never answers": "RequestTimeout",
  "malformed": "DecodeError"
}

interface Request {
  readonly method: string
  readonly path: string
  readonly query: Readonly<Record<string, string>>
}

interface Step {
  readonly step: string
  readonly matcher: Faults.RequestMatcher
  /** The other faults that make the step necessary. */
  readonly before?: Faults.RequestMatcher
  readonly once?: Partial<Record<FaultName, Outcome>>
  readonly forEver?: Partial<Record<FaultName, Outcome>>
}

/**
 * A server that answers without telling the state of the turn, so that the wait for the final exchange ends the turn.
 */
const notAnswered = {
  "refused": "TurnTimeout",
  "answer lost": "TurnTimeout",
  "429": "TurnTimeout",
  "503": "TurnTimeout",
  "never answers": "TurnTimeout",
  "acts, never answers": "TurnTimeout"
}

const isExchange = ({ path, query }: Request) => path.endsWith("/message") && query["limit"] !== "1"

const steps: ReadonlyArray<Step> = [
  {
    step: "find out what answers",
    matcher: { method: "GET", path: "/global/health" },
    once: { "404": "UnsupportedServer", "malformed": "UnsupportedServer" },
    forEver: { "404": "UnsupportedServer", "malformed": "UnsupportedServer" }
  },
  {
    step: "make the session",
    matcher: { method: "POST", path: "/session" },
    once: { "404": "StatusError", "malformed": "DecodeError" },
    forEver: { "404": "StatusError" }
  },
  { step: "read the session", matcher: { method: "GET", path: /^\/session\/ses_\w+$/ } },
  {
    step: "read the newest message",
    matcher: ({ path, query }: Request) => path.endsWith("/message") && query["limit"] === "1"
  },
  {
    step: "open the stream",
    matcher: { method: "GET", path: "/event" },
    once: { "404": "StatusError" },
    forEver: {
      "404": "StatusError",
      // No body exists yet that could be malformed.
      "malformed": "completed"
    }
  },
  {
    step: "prompt",
    matcher: isPost,
    once: { "409": "completed" },
    // An accepted prompt is not sent again, and nothing of its response is read.
    forEver: { "answer lost": "completed", "acts, never answers": "completed", "malformed": "completed" }
  },
  {
    step: "ask for the status",
    matcher: { method: "GET", path: "/session/status" },
    // A complete answer makes this read unnecessary.
    before: isExchange,
    once: { "404": "StatusError" },
    forEver: { "404": "StatusError", ...notAnswered }
  },
  {
    step: "read the exchange",
    matcher: isExchange,
    // Tools have run, so the prompt is not sent again.
    // The list was read before, so a page in its place means that the server is away.
    once: { "404": "SessionLost", "a web page": "completed" },
    forEver: { "404": "SessionLost", ...notAnswered, "a web page": "TurnTimeout" }
  }
]

const assertInvariants = ({ connections, modelCalls, nowMillis, posts, result, trace, userMessages }: Finished) => {
  const sessions = result.isRecreated ? 2 : 1
  assert.isAtMost(userMessages, 1, "user messages of a session")
  assert.isAtMost(modelCalls, 2 * sessions, "model calls")
  assert.isAtMost(new Set(posts.map(({ body }) => JSON.stringify(body))).size, sessions, "different posts")
  assert.strictEqual(connections, 0, "event connections")
  assert.strictEqual(result.message?.status, result.status === "completed" ? "completed" : "error")
  assert.strictEqual(trace.filter((name) => name === "turn.finished").length, 1)
  assert.isAtMost(nowMillis, 160_000, "how long it took")
  if (result.status === "completed") assert.strictEqual(result.content, tapeText)
}

const outcomeOf = ({ result }: Finished): Outcome =>
  result.error?._tag ?? (result.isRecreated ? "recreated" : result.status)

const isFaultName = (name: string): name is FaultName => name in faults
const faultNames = Object.keys(faults).filter(isFaultName)

const rows = steps.flatMap((step) =>
  faultNames.flatMap((fault) => [
    { ...step, fault, times: 1, how: "once", outcome: step.once?.[fault] ?? once[fault] },
    { ...step, fault, times: Infinity, how: "for ever", outcome: step.forEver?.[fault] ?? forEver[fault] }
  ])
)

it.effect.each(rows)(
  "$step: $fault, $how: $outcome",
  ({ before, fault, matcher, outcome, times }) =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      // Twice, because the server reports idle twice.
      if (before !== undefined) yield* fake.fail(before, answered(200, "[]"), 2)
      yield* fake.fail(matcher, faults[fault], times)
      // For the session that replaces a lost one.
      yield* fake.script(tape)
      const end = yield* finish(yield* start(tape), 300)
      assert.strictEqual(outcomeOf(end), outcome)
      assertInvariants(end)
    }).pipe(Effect.provide(layer()))
)

it.effect.each(faultNames.map((fault) => ({ fault })))(
  "abort: $fault: the turn ends as it does without the fault",
  ({ fault }) =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* fake.fail({ method: "POST", path: /\/abort$/ }, faults[fault], Infinity)
      const end = yield* finish(yield* start([{ text: "words", ending: "hang" }]), 30)
      assert.strictEqual(outcomeOf(end), "BudgetExceeded")
      assert.strictEqual(end.result.content, "words")
      assert.isAtMost(end.nowMillis, 15_000)
      assertInvariants(end)
    }).pipe(Effect.provideService(TurnPolicy.Budget, { wallClock: Duration.seconds(9) }), Effect.provide(layer()))
)
