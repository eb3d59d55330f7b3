/**
 * Whole turns under the names of the release of OpenCode 2.x, which cannot be installed: each has the result that it has on the beta, and
 * sends the requests of the release. Restarts are in `Restarts2x.test.ts`, forks, reverts and summaries in `Operations.test.ts`.
 */
import { assert, describe, it } from "@effect/vitest"
import type { Answer } from "@opencode-turn/core/Ask"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import { runTurn } from "@opencode-turn/core/Turn"
import type { TurnInput } from "@opencode-turn/core/TurnInput"
import { FakeOpencode, prompt } from "@opencode-turn/testing/FakeOpencode"
import type { Options as FakeOptions } from "@opencode-turn/testing/FakeOpencode"
import * as Faults from "@opencode-turn/testing/Faults"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import { ended } from "../support/carrying.ts"
import * as Turns from "../support/turns.ts"

type Line = "2.x" | "2.x release"

interface Case {
  readonly name: string
  readonly steps: ReadonlyArray<Step>
  readonly answer?: Answer
  /** The turn is cancelled when it has come to this gate. */
  readonly cancelAt?: string
  readonly status: "cancelled" | "completed" | "error"
  /** A request that the release has under another name than the beta. */
  readonly sends?: readonly [method: string, path: RegExp, body?: object]
}

const done: Step = { text: "done" }
const shell: Step = { tool: "shell", args: { command: "echo hi" } }
const question: Step = {
  tool: "question",
  args: { questions: [{ question: "Which?", header: "Pick", options: [{ label: "A", description: "first" }] }] }
}
const decision = /\/permission\/per_[^/]+\/reply$/

const cases: ReadonlyArray<Case> = [
  {
    name: "a plain answer",
    steps: [{ text: "Hello.", reasoning: "Hm." }],
    status: "completed",
    sends: ["GET", /^\/api\/info$/]
  },
  {
    name: "a tool that a person allows",
    steps: [shell, done],
    answer: { _tag: "Permission", reply: { reply: "once" } },
    status: "completed",
    sends: ["POST", decision, { decision: "once" }]
  },
  {
    name: "a tool that a person refuses with a reason",
    steps: [shell, done],
    answer: { _tag: "Reject", message: "Not now." },
    status: "completed",
    sends: ["POST", decision]
  },
  {
    name: "a question that a person answers",
    steps: [question, done],
    answer: { _tag: "Answers", answers: [["A"]] },
    status: "completed",
    sends: ["POST", /\/form\/frm_[^/]+\/reply$/, { answer: { q0: "A" } }]
  },
  {
    name: "a question that a person dismisses",
    steps: [question, done],
    answer: { _tag: "Reject" },
    status: "error",
    sends: ["DELETE", /\/form\/frm_[^/]+$/]
  },
  {
    name: "a subagent",
    steps: [{
      tool: "subagent",
      args: { agent: "general", description: "child", prompt: prompt("x", [{ text: "child text" }]) }
    }, done],
    status: "completed"
  },
  {
    name: "changed files",
    steps: [{ tool: "write", args: { path: "made.txt", content: "x\n" } }, done],
    status: "completed",
    sends: ["GET", /\/diff$/]
  },
  {
    name: "a turn that is cancelled in the middle",
    steps: [{ text: "one two three", gate: "half", gateAfter: 2 }],
    cancelAt: "half",
    status: "cancelled",
    sends: ["GET", /\/inbox$/]
  }
]

const isReply = ({ path }: { readonly path: string }) => path.endsWith("/reply")

const isAsked = (action: Answer | undefined) => action?._tag === "Permission" || action?._tag === "Reject"

const gateOf = (answer: Answer = { _tag: "Skip" }): HumanGate.Gate => () => Effect.succeed(answer)

/** What a test adds to the turn, and to the fake. */
interface Extra extends FakeOptions {
  readonly input?: Partial<TurnInput>
}

/** What of a turn must not depend on the names. */
const outcome = ({ answer, cancelAt, steps }: Case, line: Line, { input, ...options }: Extra = {}) =>
  Effect.scoped(Effect.gen(function*() {
    const fake = yield* FakeOpencode
    const fiber = yield* runTurn(Turns.turn(steps, input)).pipe(
      Effect.provideService(HumanGate.HumanGate, gateOf(answer)),
      Effect.forkChild
    )
    if (cancelAt !== undefined) {
      yield* fake.reached(cancelAt)
      yield* Turns.rest
      yield* Turns.cancel
    }
    const { value } = yield* ended(fiber, 60_000)
    const sent = yield* fake.requests
    return {
      sent,
      unread: value.artifacts.unread,
      result: {
        status: value.status,
        error: value.error?._tag,
        content: value.content,
        finish: value.finish,
        usage: value.usage,
        files: value.artifacts.files,
        subagents: value.subagents.map(({ status, usage }) => ({ status, usage })),
        parts: value.reply.parts.map((part) =>
          part.type === "tool" ? [part.tool, part.status, part.output, part.error] : [part.type]
        ),
        stored: (yield* Turns.row)?.status
      }
    }
  })).pipe(Effect.provide(Turns.layer({
    fake: {
      line,
      ...(isAsked(answer) && { permission: [{ permission: "bash", pattern: "*", action: "ask" }] }),
      ...options
    }
  })))

describe("a turn under the names of the release", () => {
  for (const turn of cases) {
    it.effect(`has the result of the beta: ${turn.name}`, () =>
      Effect.gen(function*() {
        const beta = yield* outcome(turn, "2.x")
        const release = yield* outcome(turn, "2.x release")
        assert.deepStrictEqual(release.result, beta.result)
        assert.strictEqual(release.result.status, turn.status)
        assert.deepStrictEqual(release.unread, [])
        if (turn.sends === undefined) return
        const [method, path, body] = turn.sends
        const isMeant = (request: typeof release.sent[number]) => request.method === method && path.test(request.path)
        const found = release.sent.filter(isMeant)
        assert.isAbove(found.length, 0)
        if (body !== undefined) assert.deepStrictEqual(found.map(({ body }) => body), [body])
      }))
  }
})

describe("what the release does and the beta does not", () => {
  const [plain] = cases

  it.effect("events that tell of several words at once tell of the same turn", () =>
    Effect.gen(function*() {
      assert(plain !== undefined)
      const one = yield* outcome(plain, "2.x release")
      const several = yield* outcome(plain, "2.x release", { deltaWords: 3 })
      assert.deepStrictEqual(several.result, one.result)
    }))

  it.effect("a question that is dismissed with a reason tells the agent the reason, and the agent goes on", () =>
    Effect.gen(function*() {
      const turn: Case = {
        name: "a reason",
        steps: [question, done],
        answer: { _tag: "Reject", message: "Not now." },
        status: "completed"
      }
      const { result, sent } = yield* outcome(turn, "2.x release")
      assert.deepInclude(result, { status: "completed", content: "done" })
      assert.deepInclude(result.parts, ["question", "error", undefined, "Not now."])
      const dismissals = sent.filter(({ method, path }) => method === "DELETE" && path.includes("/form/"))
      assert.deepStrictEqual(dismissals.map(({ query }) => query), [{ message: "Not now." }])
      assert.lengthOf(sent.filter(({ method, path }) => method === "POST" && path.endsWith("/prompt")), 1)
    }))

  // What a rule of the configuration is to the beta, a rule of the session is to the release.
  it.effect.each(["allow", "ask", "deny"] as const)(
    "rules of a session decide as those of the configuration: %s",
    (action) =>
      Effect.gen(function*() {
        const turn: Case = { name: action, steps: [shell, done], status: "completed" }
        const answer = { answer: { _tag: "Permission", reply: { reply: "once" } } } as const
        const rule = { pattern: "echo*", action }
        const beta = yield* outcome({ ...turn, ...answer }, "2.x", { permission: [{ permission: "bash", ...rule }] })
        const release = yield* outcome({ ...turn, ...answer }, "2.x release", {
          permission: [],
          input: { permission: [{ permission: "shell", ...rule }] }
        })
        assert.deepStrictEqual(release.result, beta.result)
        const created = release.sent.find(({ method, path }) => method === "POST" && path === "/api/session")
        assert.deepInclude(created?.body, { permissions: [{ action: "shell", resource: "echo*", effect: action }] })
        assert.strictEqual(release.sent.filter(isReply).length, action === "ask" ? 1 : 0)
        assert.strictEqual(beta.sent.filter(isReply).length, action === "ask" ? 1 : 0)
      })
  )

  it.effect.each(["seen", "missed"] as const)(
    "a turn that waits for a person for an hour is stopped by the server, and says so: its end is %s",
    (how) =>
      Effect.scoped(Effect.gen(function*() {
        const fake = yield* FakeOpencode
        const fiber = yield* runTurn(Turns.turn([shell, done])).pipe(
          Effect.provideService(HumanGate.HumanGate, HumanGate.wait),
          Effect.forkChild
        )
        yield* Turns.rest
        yield* TestClock.adjust("59 minutes")
        yield* Turns.rest
        assert.isUndefined(fiber.pollUnsafe())
        if (how === "missed") {
          yield* fake.fail({ path: "/api/event" }, Faults.delay("2 minutes"))
          yield* fake.cutEvents
        }
        const { value } = yield* ended(fiber, 5 * 60_000)
        assert(value.error?._tag === "Upstream")
        assert.deepInclude(value.error, { name: "InactivityError", isRetryable: false })
        assert.include(value.error.message, "nothing had happened")
        assert.strictEqual(value.status, "error")
      })).pipe(Effect.provide(Turns.layer({
        fake: { line: "2.x release", permission: [{ permission: "bash", pattern: "*", action: "ask" }] }
      })))
  )
})
