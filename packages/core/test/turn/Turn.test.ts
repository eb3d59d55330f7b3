import { baseline } from "#drive/ReadExchange"
import { assert, describe } from "@effect/vitest"
import { Client } from "@opencode-turn/core/Client"
import { AssistantMessageId, makePromptIds, type SessionId } from "@opencode-turn/core/Ids"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import type { TurnUpdate } from "@opencode-turn/core/Turn"
import { runTurn, streamTurn } from "@opencode-turn/core/Turn"
import type { TurnInput } from "@opencode-turn/core/TurnInput"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import { FakeOpencode, prompt } from "@opencode-turn/testing/FakeOpencode"
import * as Faults from "@opencode-turn/testing/Faults"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Ref from "effect/Ref"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Turns from "../support/turns.ts"

const { conversationId, messageId, names, payloads, row, test, turn } = Turns

/** Every value inside it that could be printed. */
const serialized = (value: unknown): string => {
  const seen = new Set<unknown>()
  return JSON.stringify(value, (_key, value) => {
    if (typeof value !== "object" || value === null) return value
    if (seen.has(value)) return null
    seen.add(value)
    return value instanceof Error
      ? { ...value, name: value.name, message: value.message, stack: value.stack, cause: value.cause }
      : value
  }) ?? ""
}

const usage = (input: number, output: number) => ({ input, output })

describe("a turn that completes", () => {
  test("whose context overflows after an earlier turn has its work from before and after the overflow", () =>
    Effect.gen(function*() {
      yield* runTurn(turn([{ text: "The first turn." }], { messageId: "first" }))
      const fail = { fail: 413, message: "prompt is too long" }
      const steps = [{ text: "I look.", tool: "bash", args: { command: "echo one" } }, fail, { text: "Done." }]
      const result = yield* runTurn(turn(steps))
      assert.strictEqual(result.error?.message, undefined)
      assert.strictEqual(result.status, "completed")
      // The server posts the prompt again, and the model begins with it.
      assert.strictEqual(result.content, "I look.\n\nI look.\n\nDone.")
      assert.lengthOf(yield* Turns.prompts, 2)
      assert.strictEqual((yield* row)?.content, result.content)
      const next = yield* runTurn(turn([{ text: "The next turn." }], { messageId: "next" }))
      assert.strictEqual(next.content, "The next turn.")
    }))

  test("gives the answer, its usage over all steps, and the row that is stored", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const result = yield* runTurn(turn([
        { text: "I look.", tool: "bash", args: { command: "echo one" }, usage: usage(10, 2) },
        { text: "Done.", usage: usage(20, 3) }
      ]))
      assert.strictEqual(result.status, "completed")
      assert.strictEqual(result.content, "I look.\n\nDone.")
      assert.strictEqual(result.conversationId, conversationId)
      assert.strictEqual(result.messageId, messageId)
      assert.deepStrictEqual<unknown>([result.sessionId], yield* fake.sessions)
      assert.isTrue(result.isNewSession)
      assert.isFalse(result.isRecreated)
      assert.isUndefined(result.error)
      assert.deepStrictEqual(result.subagents, [])
      assert.deepInclude(result.reply.usage.tokens, usage(30, 5))
      assert.deepStrictEqual(result.reply.tools.map((tool) => tool.output), ["one\n"])
      assert.deepStrictEqual(result.message, yield* row)
      assert.deepInclude(yield* row, {
        status: "completed",
        content: result.content,
        parts: result.reply.parts,
        usage: result.reply.usage,
        error: null,
        epoch: 1,
        finishedMillis: 0
      })
      assert.strictEqual((yield* row)?.promptRecord?.prompt.ids?.promptId, result.promptId)
    }))

  test("traces its events in their order, with these keys", () =>
    Effect.gen(function*() {
      const steps = [{ text: "Ran.", tool: "bash", args: { command: "sleep 2" } }, { text: "Done." }]
      const fiber = yield* Effect.forkChild(runTurn(turn(steps)))
      yield* Turns.rest
      yield* TestClock.adjust("2 seconds")
      const result = yield* Fiber.join(fiber)
      const sessionId = result.sessionId ?? ""
      const { cost, tokens } = result.reply.usage
      const trace = {
        status: "completed",
        duration_ms: 2000,
        cost,
        input_tokens: tokens.input,
        output_tokens: tokens.output,
        tool_count: 1,
        finish: "stop",
        first_token_ms: 0,
        queue_ms: 0,
        people_ms: 0,
        model_ms: 0,
        tools_ms: 2000,
        retries_ms: 0,
        orphaned_ms: 0,
        other_ms: 0,
        error: null,
        error_message: null
      } as const
      const all = yield* Turns.events
      const count = all[2]?.payload["event_count"] ?? null
      assert.isAbove(Number(count), 10)
      assert.deepStrictEqual(all, [
        { name: "opencode.response.started", payload: { subject_id: conversationId, message_id: messageId } },
        { name: "opencode.session.created", payload: { session_id: sessionId, subject_id: conversationId } },
        {
          name: "opencode.stream.completed",
          payload: { duration_ms: 2000, first_token_ms: 0, event_count: count, tool_count: 1 }
        },
        { name: "opencode.turn.finished", payload: trace }
      ])
      assert.deepStrictEqual(result.trace, trace)
      assert.strictEqual(result.durationMillis, 2000)
    }))

  test("puts the product's prefix before the names", () =>
    Effect.gen(function*() {
      yield* runTurn(turn([{ text: "Hi." }]))
      const all = yield* Turns.events
      assert.deepStrictEqual(all.map((event) => event.name), [
        "chat.response.started",
        "chat.session.created",
        "chat.stream.completed",
        "chat.turn.finished"
      ])
    }), { trace: { prefix: "chat" } })

  test("keeps the session for the next turn of the conversation", () =>
    Effect.gen(function*() {
      const first = yield* runTurn(turn([{ text: "One." }]))
      const second = yield* runTurn(turn([{ text: "Two." }], { messageId: "second" }))
      assert.strictEqual(second.content, "Two.")
      assert.strictEqual(second.sessionId, first.sessionId)
      assert.isFalse(second.isNewSession)
      assert.lengthOf(yield* payloads("session.created"), 1)
    }))

  test("creates the message's id if none is given", () =>
    Effect.gen(function*() {
      const result = yield* runTurn(turn([{ text: "Hi." }], { messageId: undefined }))
      assert.match(result.messageId, /^asm_\w{22}$/)
      assert.strictEqual(result.message?.id, result.messageId)
    }))

  test("makes the session with the title and the permissions", () =>
    Effect.gen(function*() {
      const permission = [{ permission: "bash", pattern: "*", action: "deny" }] as const
      yield* runTurn(turn([{ text: "Hi." }], { title: "A talk", permission }))
      const [create] = yield* Turns.requests("POST", /^\/session$/)
      assert.deepStrictEqual(create?.body, { title: "A talk", permission, metadata: { conversationId } })
    }))

  test("lists subagents separately, and keeps their usage out of the reply", () =>
    Effect.gen(function*() {
      const task = {
        tool: "task",
        args: { description: "child", prompt: prompt("x", [{ text: "Found." }]), subagent_type: "general" },
        usage: usage(1, 1)
      }
      const result = yield* runTurn(turn([task, { text: "Done.", usage: usage(1, 1) }]))
      assert.strictEqual(result.content, "Done.")
      assert.lengthOf(result.subagents, 1)
      assert.strictEqual(result.reply.tools[0]?.subagent, result.subagents[0]?.sessionId)
      assert.strictEqual(result.reply.usage.tokens.input, 2)
    }))
})

describe("what is posted", () => {
  test("is stored, with its ids, before the first byte of it", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* fake.fail({ method: "POST", path: /prompt_async$/ }, Faults.holdAt("post"))
      const fiber = yield* Effect.forkChild(runTurn(turn([{ text: "Hi." }])))
      yield* fake.reached("post")
      const stored = (yield* row)?.promptRecord
      assert.deepInclude((yield* Turns.prompts)[0]?.body, { messageID: stored?.prompt.ids?.promptId })
      assert.strictEqual(stored?.prompt.parts.length, stored?.prompt.ids?.partIds.length)
      yield* fake.release("post")
      assert.strictEqual((yield* Fiber.join(fiber)).promptId, stored?.prompt.ids?.promptId)
    }))

  const recorded: Array<number> = []
  test("is not posted when it cannot be stored", () =>
    Effect.gen(function*() {
      const result = yield* runTurn(turn([{ text: "Hi." }]))
      assert.strictEqual(result.error?._tag, "StoreError")
      assert.strictEqual(result.status, "failed")
      assert.lengthOf(recorded, 1)
      assert.lengthOf(yield* Turns.prompts, 0)
      assert.deepInclude(yield* row, { status: "error" })
    }), {
    store: () => ({
      recordPrompt: () =>
        Effect.suspend(() => {
          recorded.push(1)
          return Effect.fail(Turns.unavailable("recordPrompt", false))
        })
    })
  })

  test("has the same ids on every attempt", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* fake.fail({ method: "POST", path: /prompt_async$/ }, Faults.status(503), 2)
      const fiber = yield* Effect.forkChild(runTurn(turn([{ text: "Hi." }])))
      yield* TestClock.adjust("5 seconds")
      const result = yield* Fiber.join(fiber)
      assert.strictEqual(result.content, "Hi.")
      const bodies = (yield* Turns.prompts).map((request) => request.body)
      assert.lengthOf(bodies, 3)
      for (const body of bodies) assert.deepStrictEqual(body, bodies[0])
      assert.strictEqual(yield* fake.userMessageCount(result.sessionId ?? ""), 1)
    }))

  test("holds the evaluated fields, given as values or as effects", () =>
    Effect.gen(function*() {
      class Config extends Context.Service<Config, { readonly model: string }>()("test/Config") {}
      const values = { agent: "plan", model: "scripted/m", variant: "high", system: "Be brief." }
      const effects = {
        agent: Effect.succeed("plan"),
        model: Effect.map(Config, (config) => config.model),
        variant: Effect.succeed("high"),
        system: Effect.succeed("Be brief.")
      }
      yield* runTurn(turn([{ text: "Hi." }], values))
      yield* runTurn(turn([{ text: "Hi." }], { ...effects, messageId: "second" })).pipe(
        Effect.provideService(Config, { model: "scripted/m" })
      )
      yield* runTurn(turn([{ text: "Hi." }], { model: Effect.undefined, messageId: "third" }))
      const [first, second, third] = (yield* Turns.prompts).map((request) => request.body)
      const wanted = { ...values, model: { providerID: "scripted", modelID: "m" } }
      assert.deepInclude(first, wanted)
      assert.deepInclude(second, wanted)
      assert.notProperty(third, "model")
    }))

  test("is evaluated once the session is there, and anew for a new session", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const seen: Array<number> = []
      const model = Effect.map(fake.sessions, (sessions) => {
        seen.push(sessions.length)
        return "scripted/m"
      })
      yield* fake.fail({ method: "POST", path: /prompt_async$/ }, Faults.status(404))
      const result = yield* runTurn(turn([{ text: "Hi." }], { model }))
      assert.strictEqual(result.status, "completed")
      assert.deepStrictEqual(seen, [1, 2])
    }))
})

describe("input that cannot be used", () => {
  const invalid: ReadonlyArray<readonly [string, Partial<TurnInput>]> = [
    ["prompt", { prompt: " \n" }],
    ["prompt", { prompt: [] }],
    ["model", { model: "nonsense" }],
    ["conversationId", { conversationId: "" }],
    ["messageId", { messageId: "" }],
    ["conversationId", { conversationId: "a\0b" }],
    ["conversationId", { conversationId: "cut \ud83d" }],
    ["conversationId", { conversationId: "x".repeat(513) }],
    ["messageId", { messageId: "a\0b" }],
    ["messageId", { messageId: "cut \ud83d" }],
    ["messageId", { messageId: "x".repeat(513) }]
  ]
  for (const [field, input] of invalid) {
    test(`fails before anything is stored or sent: ${JSON.stringify(input).slice(0, 60)}`, () =>
      Effect.gen(function*() {
        const fake = yield* FakeOpencode
        const finished = yield* Ref.make<ReadonlyArray<TurnResult>>([])
        const result = yield* runTurn(turn([], {
          ...input,
          onTurnFinished: (result) => Ref.update(finished, (all) => [...all, result]),
          onFinalized: () => Effect.die("nothing was finalized")
        }))
        assert(result.error?._tag === "InvalidInput")
        assert.strictEqual(result.error.field, field)
        assert.strictEqual(result.status, "failed")
        assert.isUndefined(result.message)
        assert.isUndefined(yield* row)
        assert.deepStrictEqual(yield* fake.requests, [])
        assert.deepStrictEqual(yield* names, ["turn.finished"])
        assert.deepStrictEqual(yield* Ref.get(finished), [result])
      }))
  }

  const failing: ReadonlyArray<readonly [string, Effect.Effect<string, string>, string]> = [
    ["fails", Effect.fail("no config"), "InputFailed"],
    ["dies", Effect.die(new Error("a bug")), "InputFailed"],
    ["throws", Effect.sync(() => assert.fail("thrown")), "InputFailed"],
    ["interrupts itself", Effect.interrupt, "InputFailed"],
    ["gives nonsense", Effect.succeed("nonsense"), "InvalidInput"]
  ]
  for (const [what, model, tag] of failing) {
    test(`is stored as an error if the effect for the model ${what}`, () =>
      Effect.gen(function*() {
        const result = yield* runTurn(turn([{ text: "Hi." }], { model }))
        assert.strictEqual(result.status, "failed")
        assert(result.error?._tag === "InputFailed" || result.error?._tag === "InvalidInput")
        assert.strictEqual(result.error._tag, tag)
        assert.strictEqual(result.error.field, "model")
        assert.deepInclude(yield* row, { status: "error", error: Turns.storedError(result.error) })
        assert.strictEqual(result.content, "Sorry, an error occurred while generating this response.")
        assert.lengthOf(yield* Turns.prompts, 0)
        assert.lengthOf(yield* Turns.aborts, 0)
      }))
  }
})

describe("the claim", () => {
  test("of a cancelled message ends cancelled, without a request", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const store = yield* SessionStore
      yield* store.claim({ id: messageId, conversationId, prompt: [] })
      const before = yield* Turns.cancel
      const result = yield* runTurn(turn([{ text: "Hi." }], { onFinalized: () => Effect.die("not ours") }))
      assert.strictEqual(result.status, "cancelled")
      assert.strictEqual(result.error?._tag, "TurnCancelled")
      assert.strictEqual(result.content, "Stopped.")
      assert.deepStrictEqual(yield* row, before)
      assert.deepStrictEqual(yield* fake.requests, [])
      assert.deepStrictEqual(yield* names, ["turn.finished"])
      assert.deepStrictEqual(yield* Turns.reports, [])
    }))

  test("of a completed message fails, and leaves it unchanged", () =>
    Effect.gen(function*() {
      yield* runTurn(turn([{ text: "Hi." }]))
      const before = yield* row
      const result = yield* runTurn(turn([{ text: "Again." }], { onFinalized: () => Effect.die("not ours") }))
      assert.strictEqual(result.status, "failed")
      assert.strictEqual(result.error?._tag, "AlreadyFinished")
      assert.strictEqual(result.content, "Hi.")
      assert.deepStrictEqual(result.message, before)
      assert.deepStrictEqual(yield* row, before)
      assert.lengthOf(yield* Turns.prompts, 1)
      assert.deepStrictEqual(yield* Turns.reports, [])
    }))

  test("of a message that ended with an error fails too, without a request", () =>
    Effect.gen(function*() {
      const first = yield* runTurn(turn([{ text: "" }], { model: Effect.fail("no model") }))
      assert.strictEqual(first.message?.status, "error")
      const result = yield* runTurn(turn([{ text: "Again." }]))
      assert(result.error?._tag === "AlreadyFinished")
      assert.strictEqual(result.error.status, "error")
      assert.deepStrictEqual(yield* row, first.message)
      assert.lengthOf(yield* Turns.prompts, 0)
    }))

  let claims = 0
  test("is retried after a momentary failure of the store", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.forkChild(runTurn(turn([{ text: "Hi." }])))
      yield* Turns.rest
      yield* TestClock.adjust("1 seconds")
      assert.strictEqual((yield* Fiber.join(fiber)).content, "Hi.")
      assert.strictEqual(claims, 2)
    }), {
    store: (store) => ({
      claim: (claim) =>
        Effect.suspend(() => claims++ === 0 ? Effect.fail(Turns.unavailable("claim")) : store.claim(claim))
    })
  })

  test("with the policy reject fails while another turn of the conversation runs", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const other = AssistantMessageId.make("other")
      yield* store.claim({ id: other, conversationId, prompt: [] })
      const result = yield* runTurn(turn([{ text: "Hi." }])).pipe(
        Effect.provideService(TurnPolicy.WhenBusy, "reject")
      )
      assert.strictEqual(result.status, "failed")
      assert(result.error?._tag === "TurnInProgress")
      assert.strictEqual(result.error.messageId, other)
      assert.isUndefined(result.message)
      assert.isUndefined(yield* row)
      assert.strictEqual(Option.getOrUndefined(yield* store.getMessage(other))?.status, "pending")
    }))

  test("fails the effect if the store cannot answer it", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const error = yield* Effect.flip(runTurn(turn([{ text: "Hi." }])))
      assert.strictEqual(error.operation, "claim")
      assert.deepStrictEqual(yield* fake.requests, [])
      assert.deepStrictEqual(yield* names, [])
    }), { store: () => ({ claim: () => Effect.fail(Turns.unavailable("claim", false)) }) })
})

describe("a message that an earlier worker left", () => {
  /** The leftovers of a killed worker: the row, and the recorded and posted prompt. */
  const leave = Effect.fnUntraced(function*(steps: Parameters<typeof turn>[0], isPosted: boolean) {
    const store = yield* SessionStore
    const client = yield* Client
    const parts = [{ type: "text", text: prompt("Do it.", steps) }] as const
    const claimed = yield* store.claim({ id: messageId, conversationId, prompt: parts })
    const session = yield* client.createSession({})
    yield* store.setSession(conversationId, Option.none(), session.id)
    const ids = yield* makePromptIds(yield* baseline(session.id), 1)
    const request = { sessionId: session.id, prompt: { parts, ids } }
    yield* store.recordPrompt(messageId, claimed.epoch, request)
    if (isPosted) yield* client.prompt(session.id, request.prompt)
    yield* Turns.rest
    return { sessionId: session.id, ids }
  })

  for (const isPosted of [false, true]) {
    test(`is answered under the ids it recorded, ${isPosted ? "which the server has" : "before it posted them"}`, () =>
      Effect.gen(function*() {
        const fake = yield* FakeOpencode
        const { ids, sessionId } = yield* leave([{ text: "Answered." }], isPosted)
        const result = yield* runTurn(turn([{ text: "Never." }], { model: Effect.die("evaluated again") }))
        assert.strictEqual(result.status, "completed")
        assert.strictEqual(result.content, "Answered.")
        assert.strictEqual(result.promptId, ids.promptId)
        assert.strictEqual(result.message?.epoch, 2)
        assert.strictEqual(yield* fake.userMessageCount(sessionId), 1)
        assert.strictEqual(yield* fake.modelCalls, 1)
        assert.lengthOf(yield* Turns.prompts, 1)
        assert.strictEqual((yield* payloads("response.recovered_from_exchange")).length, isPosted ? 1 : 0)
      }))
  }

  test("is followed without a hole in the text while the server works on it", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* leave([{ text: "one two three four", gate: "half", gateAfter: 2 }], true)
      yield* fake.reached("half")
      const updates = yield* Ref.make<ReadonlyArray<TurnUpdate>>([])
      const fiber = yield* Effect.forkChild(
        Stream.runForEach(streamTurn(turn([])), (update) => Ref.update(updates, (all) => [...all, update]))
      )
      yield* Turns.rest
      yield* fake.release("half")
      yield* Fiber.join(fiber)
      const all = yield* Ref.get(updates)
      const last = all.at(-1)
      assert(last?._tag === "Finished")
      assert.strictEqual(last.result.content, "one two three four")
      assert.strictEqual(Turns.readText(all), "one two three four")
      for (const update of all) assert.isFalse(update._tag === "TextDelta", "a delta from the middle")
      assert.strictEqual(yield* fake.modelCalls, 1)
    }))

  test("does not call the model again if the answer ended with an error", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* leave([{ fail: 400, message: "no" }, { text: "Never." }], true)
      const result = yield* runTurn(turn([]))
      assert.strictEqual(result.error?._tag, "Upstream")
      assert.strictEqual(yield* fake.modelCalls, 1)
    }))

  test("gets new ids if its session is lost", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const { ids, sessionId } = yield* leave([{ text: "Answered." }], true)
      yield* fake.deleteSession(sessionId)
      const result = yield* runTurn(turn([{ text: "Never." }]))
      assert.strictEqual(result.content, "Answered.")
      assert.isTrue(result.isRecreated)
      assert.notStrictEqual(result.promptId, ids.promptId)
    }))
})

describe("a lost session", () => {
  const steps = [{ text: "Hello again." }]

  const lost: ReadonlyArray<readonly [string, boolean, Effect.Effect<void, never, FakeOpencode>]> = [
    [
      "before the turn",
      false,
      Effect.flatMap(
        FakeOpencode,
        (fake) => Effect.flatMap(fake.sessions, (all) => Effect.forEach(all, fake.deleteSession, { discard: true }))
      )
    ],
    [
      "at the prompt",
      true,
      Effect.flatMap(
        FakeOpencode,
        (fake) => fake.fail({ method: "POST", path: /prompt_async$/ }, Faults.status(404))
      )
    ]
  ]
  for (const [when, isShown, lose] of lost) {
    test(`${when} is made anew, and the prompt sent again`, () =>
      Effect.gen(function*() {
        const first = yield* runTurn(turn([{ text: "Hello." }], { messageId: "first" }))
        yield* lose
        const updates = Array.from(yield* Stream.runCollect(streamTurn(turn(steps))))
        yield* assertRecreated(updates, first.sessionId, isShown)
      }))
  }

  test("in the middle of the answer is replaced, and the shown reply is reset", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const first = yield* runTurn(turn([{ text: "Hello." }], { messageId: "first" }))
      yield* fake.script([{ text: "Hello from the lost one", gate: "half", gateAfter: 2 }])
      yield* fake.script(steps)
      const fiber = yield* Effect.forkChild(Stream.runCollect(streamTurn(turn([]))))
      yield* fake.reached("half")
      yield* Turns.rest
      yield* fake.deleteSession(first.sessionId ?? "")
      const updates = Array.from(yield* Fiber.join(fiber))
      const reset = updates.findIndex((update) => update._tag === "Reset")
      assert.deepInclude(updates[reset], { _tag: "Reset", reason: "recreated" })
      assert.strictEqual(Turns.readText(updates.slice(0, reset)), "Hello from ")
      yield* assertRecreated(updates, first.sessionId, true)
    }))

  /** A turn whose session is deleted after its first tool has run, while the next step is under way. */
  const loseAfterTool = Effect.gen(function*() {
    const fake = yield* FakeOpencode
    const worked = { text: "I did it.", tool: "bash", args: { command: "echo done" } }
    const fiber = yield* Effect.forkChild(
      runTurn(turn([worked, { text: "And more of it", gate: "half", gateAfter: 2 }, ...steps]))
    )
    yield* fake.reached("half")
    yield* Turns.rest
    const [session = ""] = yield* fake.sessions
    yield* fake.deleteSession(session)
    yield* Turns.rest
    // The next answer comes at once, because the end of a turn takes a bounded time.
    yield* fake.release("half")
    yield* TestClock.adjust("20 seconds")
    return yield* Fiber.join(fiber)
  })

  test("is not replaced by the turn that lost it after a tool had run, but by the next one", () =>
    Effect.gen(function*() {
      const result = yield* loseAfterTool
      assert.strictEqual(result.status, "failed")
      assert(result.error?._tag === "SessionLost")
      assert.deepStrictEqual(result.error.tools, ["bash"])
      assert.strictEqual(result.content, "I did it.\n\nAnd more ")
      assert.isFalse(result.isRecreated)
      assert.lengthOf(yield* Turns.prompts, 1)
      assert.deepInclude(yield* row, { status: "error", content: "I did it.\n\nAnd more " })
      const [lost] = yield* payloads("session.lost")
      assert.deepInclude(lost, { decision: "fail", tool_count: 1, subject_id: conversationId })
      const next = yield* runTurn(turn(steps, { messageId: "next" }))
      assert.strictEqual(next.content, "Hello again.")
      assert.notStrictEqual(next.sessionId, result.sessionId)
    }))

  test("is replaced after a tool had run with the policy resend", () =>
    Effect.gen(function*() {
      const result = yield* Effect.provideService(loseAfterTool, TurnPolicy.OnLostSession, "resend")
      assert.strictEqual(result.status, "completed", result.error?.message)
      assert.isTrue(result.isRecreated)
      assert.lengthOf(yield* Turns.prompts, 2)
      assert.deepInclude((yield* payloads("session.lost"))[0], { decision: "resend", tool_count: 1 })
    }))

  test("still names its changed files if no new session can be created", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const wrote = { text: "I did it.", tool: "write", args: { filePath: "notes.md", content: "one" } }
      const fiber = yield* Effect.forkChild(runTurn(turn([wrote, { text: "And more", gate: "half", gateAfter: 1 }])))
      yield* fake.reached("half")
      yield* Turns.rest
      yield* fake.fail({ method: "POST", path: "/session" }, Faults.status(400), Infinity)
      yield* fake.deleteSession((yield* fake.sessions)[0] ?? "")
      yield* TestClock.adjust("20 seconds")
      const result = yield* Fiber.join(fiber)
      assert.strictEqual(result.error?._tag, "StatusError")
      assert.deepStrictEqual(result.artifacts.files.map(({ change, path }) => `${change} ${path}`), ["added notes.md"])
    }).pipe(Effect.provideService(TurnPolicy.OnLostSession, "resend")))

  test("with the policy fail is replaced before the prompt, but not after it", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const first = yield* runTurn(turn([{ text: "Hello." }], { messageId: "first" }))
      yield* fake.deleteSession(first.sessionId ?? "")
      const fails = Effect.provideService(TurnPolicy.OnLostSession, "fail")
      const before = yield* fails(runTurn(turn(steps, { messageId: "before" })))
      assert.strictEqual(before.content, "Hello again.")
      const fiber = yield* Effect.forkChild(fails(runTurn(turn([{ text: "Half of it", gate: "half", gateAfter: 1 }]))))
      yield* fake.reached("half")
      yield* Turns.rest
      yield* fake.deleteSession(before.sessionId ?? "")
      yield* TestClock.adjust("20 seconds")
      const after = yield* Fiber.join(fiber)
      assert.strictEqual(after.error?._tag, "SessionLost")
      assert.deepInclude((yield* row)?.draft, { policy: { onLostSession: "fail" } })
    }))

  test("is replaced only once", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* fake.fail({ method: "POST", path: /prompt_async$/ }, Faults.status(404), 2)
      const result = yield* runTurn(turn(steps))
      assert.strictEqual(result.status, "failed")
      assert(result.error?._tag === "SessionNotFound")
      assert.strictEqual(result.error.sessionId, result.sessionId)
      assert.isTrue(result.isRecreated)
      assert.lengthOf(yield* payloads("session.recreated_with_resend"), 1)
      assert.deepInclude(yield* row, { status: "error" })
      assert.lengthOf(yield* fake.sessions, 2)
    }))

  test("includes a silent one: it is aborted and replaced", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      // The server accepts the prompt and does nothing.
      yield* fake.fail(
        { method: "POST", path: /prompt_async$/ },
        () => Effect.succeed({ _tag: "Body", status: 204, headers: {}, body: "" })
      )
      const fiber = yield* Effect.forkChild(runTurn(turn(steps)))
      yield* TestClock.adjust("119 seconds")
      assert.lengthOf(yield* Turns.prompts, 1)
      yield* TestClock.adjust("1 seconds")
      const result = yield* Fiber.join(fiber)
      assert.strictEqual(result.content, "Hello again.")
      assert.isTrue(result.isRecreated)
      const [first, second] = yield* Turns.prompts
      assert.notStrictEqual(first?.path, second?.path)
      assert.notDeepEqual(first?.body, second?.body)
      assert.lengthOf(yield* Turns.aborts, 1)
      const [interrupted] = yield* payloads("stream.interrupted")
      assert.deepInclude(interrupted, { error: "StaleSession", duration_ms: 120_000 })
      assert.hasAllKeys(interrupted, ["duration_ms", "event_count", "error", "error_message"])
    }))

  test("stays lost when it is silent twice", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* fake.fail(
        { method: "POST", path: /prompt_async$/ },
        () => Effect.succeed({ _tag: "Body", status: 204, headers: {}, body: "" }),
        2
      )
      const fiber = yield* Effect.forkChild(runTurn(turn(steps)))
      yield* TestClock.adjust("4 minutes")
      const result = yield* Fiber.join(fiber)
      assert.strictEqual(result.status, "failed")
      assert.strictEqual(result.error?._tag, "StaleSession")
      assert.lengthOf(yield* payloads("session.recreated_with_resend"), 1)
    }))

  const assertRecreated = Effect.fnUntraced(function*(
    updates: ReadonlyArray<TurnUpdate>,
    firstSession: SessionId | undefined,
    isShown: boolean
  ) {
    const last = updates.at(-1)
    assert(last?._tag === "Finished")
    const { result } = last
    assert.strictEqual(result.status, "completed")
    assert.strictEqual(result.content, "Hello again.")
    assert.strictEqual(Turns.readText(updates), "Hello again.")
    assert.isTrue(result.isRecreated)
    assert.isTrue(result.isNewSession)
    assert.notStrictEqual(result.sessionId, firstSession)
    assert.deepStrictEqual(yield* payloads("session.recreated_with_resend"), [
      { session_id: result.sessionId ?? "", subject_id: conversationId }
    ])
    assert.lengthOf(yield* payloads("session.created"), 1)
    assert.strictEqual(updates.some((update) => update._tag === "Reset"), isShown)
    assert.strictEqual((yield* row)?.promptRecord?.sessionId, result.sessionId)
    assert.deepStrictEqual((yield* row)?.promptRecord?.prompt.ids?.promptId, result.promptId)
    const ids = (yield* Turns.prompts).map((request) => JSON.stringify(request.body).match(/msg_\w+/)?.[0])
    assert.strictEqual(new Set(ids).size, ids.length)
  })
})

describe("the stream of a turn", () => {
  test("brings the updates in their order, then the result", () =>
    Effect.gen(function*() {
      const updates = Array.from(
        yield* Stream.runCollect(streamTurn(turn([
          { reasoning: "Hm.", text: "I look.", tool: "bash", args: { command: "echo one" } },
          { text: "Done at last." }
        ])))
      )
      const last = updates.at(-1)
      assert(last?._tag === "Finished")
      assert.lengthOf(updates.filter((update) => update._tag === "Finished"), 1)
      assert.isFalse(updates.some((update) => update._tag === "Reset"))
      const opened = updates.flatMap((update) => (update._tag === "PartChanged" ? [update.part.type] : []))
      assert.deepStrictEqual(opened.filter((type, index) => type !== opened[index - 1]), [
        "reasoning",
        "text",
        "tool",
        "text",
        "tool",
        "step-finish",
        "text",
        "step-finish"
      ])
      const deltas = updates.flatMap((update) => (update._tag === "TextDelta" ? [update.delta] : []))
      assert.strictEqual(deltas.join(""), "I look.Done at last.")
      assert.strictEqual(Turns.readText(updates), last.result.content)
    }))

  test("fails with the defect of a turn that dies", () =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(Stream.runDrain(streamTurn(turn([{ text: "Hi." }]))))
      assert(Exit.isFailure(exit))
      assert.strictEqual(Cause.squash(exit.cause), bug)
    }), { client: dyingAtTheEnd })
})

const bug = new Error("a bug in the client")

/** Dies at the first read of the exchange. */
const dyingAtTheEnd = (client: Client["Service"]): Partial<Client["Service"]> => {
  let hasDied = false
  return {
    listMessages: (id, page) => {
      if (page.limit === 1 || hasDied) return client.listMessages(id, page)
      hasDied = true
      return Effect.die(bug)
    }
  }
}

describe("a defect in the pipeline", () => {
  test("is stored as the end of the message, and thrown again", () =>
    Effect.gen(function*() {
      const finished = yield* Ref.make<TurnResult | undefined>(undefined)
      const exit = yield* Effect.exit(
        runTurn(turn([{ text: "Hi." }], { onTurnFinished: (result) => Ref.set(finished, result) }))
      )
      assert(Exit.isFailure(exit))
      assert.deepStrictEqual(exit.cause.reasons.map((reason) => Cause.isDieReason(reason) && reason.defect), [bug])
      assert.deepInclude(yield* row, {
        status: "error",
        content: "Hi.",
        error: { tag: "TurnDied", message: "the turn died of an unexpected error", details: {} }
      })
      const result = yield* Ref.get(finished)
      assert.deepStrictEqual([result?.status, result?.error?._tag], ["failed", "TurnDied"])
      // The server had already answered.
      assert.lengthOf(yield* Turns.aborts, 0)
      assert.deepInclude(result?.trace, { error: "TurnDied", error_message: "the turn died of an unexpected error" })
      assert.strictEqual((yield* names).at(-1), "turn.finished")
    }), { client: dyingAtTheEnd })
})

describe("secrets", () => {
  const canary = "canary-6b1d9f"
  const faults: ReadonlyArray<readonly [string, Faults.Fault | undefined]> = [
    ["nothing", undefined],
    ["401", Faults.status(401)],
    ["reset", Faults.reset],
    ["html", Faults.htmlPage],
    ["malformed", Faults.malformed]
  ]
  for (const path of [/^\/session$/, /prompt_async$/, /\/message$/, /^\/event$/]) {
    for (const [what, fault] of faults) {
      test(`are in no trace, result, report or row: ${what} at ${path.source}`, () =>
        Effect.gen(function*() {
          const fake = yield* FakeOpencode
          if (fault !== undefined) yield* fake.fail({ path }, fault, 20)
          const fiber = yield* Effect.forkChild(
            Effect.exit(runTurn(turn([{ text: "Hi." }], { onFinalized: () => Effect.fail("no") })))
          )
          yield* TestClock.adjust("5 minutes")
          const all = [yield* Fiber.join(fiber), yield* Turns.events, yield* Turns.reports, yield* row]
          assert.include(serialized(all), messageId)
          assert.notInclude(serialized(all), canary)
          assert.notInclude(serialized(all), btoa(`opencode:${canary}`))
        }), { fake: { password: Redacted.make(canary) } })
    }
  }
})

describe("many turns at once", () => {
  test("share one event connection, and each gets its own answer", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const count = 50
      const fibers = yield* Effect.forEach(
        Array.from({ length: count }, (_, index) => index),
        (index) =>
          Effect.forkChild(
            runTurn(
              turn([{ text: `Answer number ${index} in some words.`, chunkDelayMillis: 10 + index }], {
                conversationId: `conversation-${index}`,
                messageId: `message-${index}`
              })
            )
          )
      )
      yield* TestClock.adjust("15 millis")
      assert.strictEqual(yield* fake.eventConnections, 1)
      yield* TestClock.adjust("1 seconds")
      const results = yield* Effect.forEach(fibers, Fiber.join)
      for (const [index, result] of results.entries()) {
        assert.strictEqual(result.status, "completed")
        assert.strictEqual(result.content, `Answer number ${index} in some words.`)
        assert.strictEqual(result.conversationId, `conversation-${index}`)
      }
      assert.lengthOf(yield* Turns.requests("GET", /^\/event$/), 1)
      assert.strictEqual(new Set(results.map((result) => result.sessionId)).size, count)
      assert.lengthOf(yield* payloads("turn.finished"), count)
    }))
})
