import * as Timing from "#reply/Timing"
import { assert, describe } from "@effect/vitest"
import { cancelTurn } from "@opencode-turn/core/CancelTurn"
import { Client } from "@opencode-turn/core/Client"
import { AssistantMessageId, ConversationId } from "@opencode-turn/core/Ids"
import { compactConversation, forkConversation, revertTurn, unrevertTurn } from "@opencode-turn/core/Operations"
import { type Operation, SessionStore } from "@opencode-turn/core/SessionStore"
import { runTurn } from "@opencode-turn/core/Turn"
import { resumeTurns } from "@opencode-turn/core/TurnWorker"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import type { ModelRequest, Step } from "@opencode-turn/testing/ModelScript"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Carrying from "../support/carrying.ts"
import { assertFields } from "../support/http.ts"
import * as Turns from "../support/turns.ts"

const { ended, halfway, launch, messageIdOf, rowOf } = Carrying
const { conversationId } = Turns

const summary = ({ messages }: ModelRequest): Step =>
  messages.some(({ text }) => text.includes("no summary"))
    ? { fail: 400, message: "not today" }
    : messages.some(({ text }) => text.includes("slow"))
    ? { text: "the summary", gate: "summary", gateAfter: 1 }
    : messages.some(({ text }) => text.includes("blank"))
    ? { text: " ", usage: { input: 1000, output: 100 } }
    : { text: "the summary" }

const fake = { fake: { summary } }

type Line = "1.x" | "2.x" | "2.x release"

const say = Effect.fnUntraced(function*(name: string, conversation = "conversation", steps?: ReadonlyArray<Step>) {
  const result = yield* runTurn(
    Turns.turn(steps ?? [{ text: `answer to ${name}` }], { messageId: name, conversationId: conversation })
  )
  assert.strictEqual(result.status, "completed", result.error?.message)
  return result
})

/** Each line has its own name for the path. */
const write = (path: string, content: string): Step => ({ tool: "write", args: { path, filePath: path, content } })

/** What the model was last asked with: the answers before. */
const known = Effect.gen(function*() {
  const requests = yield* (yield* FakeOpencode).modelRequests
  return (requests.findLast(({ isTitle }) => !isTitle)?.messages ?? []).flatMap(({ role, text }) =>
    role === "assistant" ? [text] : checkpoint(text)
  )
})

/** 2.x tells the model of the summary, and of the last exchange before it, in the words of a user. */
const checkpoint = (text: string): ReadonlyArray<string> =>
  text.startsWith("<conversation-checkpoint>")
    ? Array.from(text.matchAll(/<summary>\n(.*)\n<\/summary>|\[Assistant\]: (.*)/g), ([, summary, answer]) =>
      summary ?? answer ?? "")
    : []

const list = Effect.fnUntraced(function*(conversation = "conversation") {
  const store = yield* SessionStore
  const messages = yield* store.listMessages(ConversationId.make(conversation), Infinity)
  return messages.map(({ excerpt, revertedBy, status }) =>
    `${excerpt.startsWith("/") ? excerpt.split(" ")[0] : "turn"} ${status}${revertedBy === null ? "" : " reverted"}`
  )
})

const tagOf = <A, E extends { readonly _tag: string }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.flip(effect), ({ _tag }) => _tag)

/** Whether the file exists: 1.x says so of a file that is written, and the fake of 2.x reads what is there. */
const fileOf = Effect.fnUntraced(function*(line: Line, path: string) {
  const step = line === "1.x" ? write(path, "x") : { tool: "read", args: { path } }
  const { reply } = yield* say(`look-${path}`, `looking at ${path}`, [step, { text: "done" }])
  return /"exists":true|1: x/.test(JSON.stringify(reply.parts))
})

/** What a worker leaves that was killed with this operation: its claimed message. */
const left = Effect.fnUntraced(function*(name: string, operation: Operation, conversation = "conversation") {
  const store = yield* SessionStore
  return yield* store.claim({
    id: messageIdOf(name),
    conversationId: ConversationId.make(conversation),
    prompt: [{ type: "text", text: `/${operation.type}` }],
    draft: { operation },
    lease: { owner: "gone", millis: 0 }
  })
})

const operations = (line: Line) => {
  const test: typeof Turns.test = (name, body, options) =>
    Turns.test(name, body, { ...options, fake: { line, ...options?.fake } })
  // 2.x tells no rules of a session, and keeps no order whose summary failed.
  const on1x: typeof Turns.test = (name, body, options) => {
    if (line === "1.x") test(name, body, options)
  }

  describe("a fork", () => {
    test("knows what was said up to its turn, and both conversations go on by themselves", () =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const first = yield* say("one")
        yield* say("two")
        const fork = yield* forkConversation({ conversationId, at: "one", into: "copy" })
        assertFields(fork, { status: "completed", conversationId: "copy" })
        assert.deepStrictEqual(fork.draft?.operation, { type: "fork", conversationId, messageId: messageIdOf("one") })
        const three = yield* say("three", "copy")
        assert.deepStrictEqual(yield* known, ["answer to one"])
        const four = yield* say("four")
        assert.deepStrictEqual(yield* known, ["answer to one", "answer to two"])
        for (const { usage } of [three, four]) assert.deepStrictEqual(usage.total, first.usage.total)
        assert.deepStrictEqual(yield* list("copy"), ["/fork completed", "turn completed"])
        const client = yield* Client
        const copy = Option.getOrThrow(yield* store.getSession(ConversationId.make("copy")))
        const { metadata } = yield* client.getSession(copy)
        const named = { conversationId: "copy", forkedFrom: { conversationId, messageId: "one" } }
        // The beta keeps none.
        assertFields(metadata, line === "2.x" ? {} : named)
      }))

    on1x("keeps the permissions of the session", () =>
      Effect.gen(function*() {
        const client = yield* Client
        const store = yield* SessionStore
        const permission = [{ permission: "bash", pattern: "*", action: "deny" }] as const
        yield* runTurn(Turns.turn([{ text: "hi" }], { permission }))
        yield* forkConversation({ conversationId, into: "copy" })
        const copy = Option.getOrThrow(yield* store.getSession(ConversationId.make("copy")))
        assert.deepStrictEqual((yield* client.getSession(copy)).permission, permission)
      }))

    test("is made once, however often it is asked for, at once and later", () =>
      Effect.gen(function*() {
        const fake = yield* FakeOpencode
        yield* say("one")
        const fork = forkConversation({ conversationId, into: "copy" })
        const [first, second] = yield* Effect.all([fork, fork], { concurrency: "unbounded" })
        assert.deepStrictEqual(second, first)
        yield* say("two", "copy")
        assert.deepStrictEqual(yield* fork, first)
        assert.lengthOf(yield* fake.sessions, 2)
      }))

    test("of a conversation with a running turn ends with a turn before it", () =>
      Effect.gen(function*() {
        const fake = yield* FakeOpencode
        yield* say("one")
        const running = yield* launch("two", halfway)
        assert.strictEqual(
          yield* tagOf(forkConversation({ conversationId, at: "two", into: "copy" })),
          "TurnInProgress"
        )
        yield* forkConversation({ conversationId, into: "copy" })
        yield* fake.release("half")
        yield* ended(running)
        yield* say("three", "copy")
        assert.deepStrictEqual(yield* known, ["answer to one"])
      }))

    test("without a turn to begin with, of another conversation, or into one that exists, is refused", () =>
      Effect.gen(function*() {
        const fork = (input: { readonly at?: string; readonly into: string }) =>
          tagOf(forkConversation({ conversationId, ...input }))
        assert.strictEqual(yield* fork({ into: "copy" }), "NoSession")
        yield* say("one")
        yield* say("elsewhere", "other")
        assert.strictEqual(yield* fork({ into: "other" }), "ConversationExists")
        assert.strictEqual(yield* fork({ into: conversationId }), "ConversationExists")
        assert.strictEqual(yield* fork({ at: "elsewhere", into: "copy" }), "TurnNotInSession")
        assert.strictEqual(yield* fork({ at: "nowhere", into: "copy" }), "UnknownMessage")
        assert.strictEqual(yield* fork({ into: "\uD800" }), "InvalidInput")
        assert.strictEqual((yield* forkConversation({ conversationId, into: "copy" })).status, "completed")
      }))

    test("of a reverted conversation leaves out what was reverted", () =>
      Effect.gen(function*() {
        yield* say("one")
        yield* say("two")
        yield* revertTurn(messageIdOf("two"))
        yield* forkConversation({ conversationId, into: "copy" })
        yield* say("three", "copy")
        assert.deepStrictEqual(yield* known, ["answer to one"])
      }))

    test("whose worker died is made by the next one", () =>
      Effect.gen(function*() {
        yield* say("one")
        yield* left("dead", { type: "fork", conversationId }, "copy")
        yield* resumeTurns()
        assert.deepStrictEqual(yield* list("copy"), ["/fork completed"])
        yield* say("two", "copy")
        assert.deepStrictEqual(yield* known, ["answer to one"])
      }))
  })

  describe("a revert", () => {
    test("takes back the files and the turns from there on, and the next turn is as if they had never been", () =>
      Effect.gen(function*() {
        const first = yield* say("one")
        yield* say("two", "conversation", [write("made.txt", "x"), { text: "answer to two" }])
        yield* say("three")
        const revert = yield* revertTurn(messageIdOf("two"))
        assertFields(revert, { status: "completed", conversationId })
        assert.deepStrictEqual(yield* list(), [
          "turn completed",
          "turn completed reverted",
          "turn completed reverted",
          "/revert completed"
        ])
        assertFields(yield* rowOf("three"), { revertedBy: revert.id, content: "answer to three" })
        const four = yield* say("four")
        assert.deepStrictEqual(yield* known, ["answer to one"])
        assert.deepStrictEqual(four.usage.total, first.usage.total)
        assert.isFalse(yield* fileOf(line, "made.txt"))
      }))

    test("can be undone until the next turn", () =>
      Effect.gen(function*() {
        yield* say("one", "conversation", [write("kept.txt", "x"), { text: "answer to one" }])
        yield* say("two")
        assert.strictEqual(yield* tagOf(unrevertTurn(conversationId)), "NothingReverted")
        yield* revertTurn(messageIdOf("one"))
        yield* revertTurn(messageIdOf("two"))
        assert.deepStrictEqual((yield* list()).slice(0, 2), ["turn completed", "turn completed reverted"])
        yield* revertTurn(messageIdOf("one"))
        yield* unrevertTurn(conversationId)
        // 2.x looks then whether an input waits.
        yield* Turns.rest
        assert.deepStrictEqual((yield* list()).slice(0, 2), ["turn completed", "turn completed"])
        yield* say("three")
        assert.deepStrictEqual((yield* known).filter((text) => text !== ""), ["answer to one", "answer to two"])
        yield* revertTurn(messageIdOf("three"))
        yield* say("four")
        assert.strictEqual(yield* tagOf(unrevertTurn(conversationId)), "NothingReverted")
        assert.strictEqual(yield* tagOf(revertTurn(messageIdOf("three"))), "TurnNotInSession")
        assert.isNotNull((yield* rowOf("three"))?.revertedBy)
        assert.isTrue(yield* fileOf(line, "kept.txt"))
      }))

    test("is refused while a turn runs or waits, and while another client works in the session", () =>
      Effect.gen(function*() {
        const fake = yield* FakeOpencode
        const client = yield* Client
        const store = yield* SessionStore
        yield* say("one")
        const running = yield* launch("two", halfway)
        assert.strictEqual(yield* tagOf(revertTurn(messageIdOf("one"))), "TurnInProgress")
        assert.strictEqual(yield* tagOf(revertTurn(messageIdOf("two"))), "TurnInProgress")
        assert.strictEqual(yield* tagOf(unrevertTurn(conversationId)), "TurnInProgress")
        yield* fake.release("half")
        yield* ended(running)
        const session = Option.getOrThrow(yield* store.getSession(conversationId))
        yield* client.prompt(session, { parts: [{ type: "text", text: `[[{"text":"x","gate":"other"}]]` }] })
        yield* fake.reached("other")
        const refused = yield* Effect.forkChild(Effect.flip(revertTurn(messageIdOf("one"))))
        assertFields((yield* ended(refused, 60_000)).value, { _tag: "SessionBusy" })
        yield* fake.release("other")
        yield* Turns.rest
        assert.strictEqual((yield* revertTurn(messageIdOf("one"))).status, "completed")
      }))

    test("of a turn that is unknown or was never prompted is refused", () =>
      Effect.gen(function*() {
        assert.strictEqual(yield* tagOf(revertTurn(messageIdOf("nowhere"))), "UnknownMessage")
        assert.strictEqual(yield* tagOf(unrevertTurn(conversationId)), "NothingReverted")
        const store = yield* SessionStore
        yield* store.claim({ id: messageIdOf("early"), conversationId, prompt: [] })
        yield* store.cancel(messageIdOf("early"), "stopped")
        assert.strictEqual(yield* tagOf(revertTurn(messageIdOf("early"))), "TurnNotInSession")
      }))

    test("whose worker died is finished before the next turn begins, also if it was done", () =>
      Effect.gen(function*() {
        const client = yield* Client
        const store = yield* SessionStore
        yield* say("one")
        yield* say("two")
        const promptId = (yield* rowOf("two"))?.started?.promptId ?? assert.fail("it was not prompted")
        const session = Option.getOrThrow(yield* store.getSession(conversationId))
        yield* left("dead", { type: "revert", messageId: messageIdOf("two") })
        yield* client.revertSession(session, promptId)
        yield* ended(yield* launch("three", [{ text: "answer to three" }]), 60_000)
        assert.deepStrictEqual(yield* known, ["answer to one"])
        assertFields(yield* rowOf("dead"), { status: "completed" })
        assertFields(yield* rowOf("two"), { revertedBy: "dead" })
        assertFields(yield* rowOf("three"), { status: "completed", revertedBy: null })
      }))
  })

  describe("a compaction", () => {
    test("puts a summary in place of what was said, and says what it cost", () =>
      Effect.gen(function*() {
        const first = yield* say("one")
        const compaction = yield* compactConversation(conversationId)
        assertFields(compaction, { status: "completed", content: "the summary", isFallback: false })
        assert.isAbove(compaction.usage.cost, 0)
        assert.deepStrictEqual(compaction.account?.models, [{ model: "scripted/m", steps: 1, ...compaction.usage }])
        const again = yield* compactConversation(conversationId)
        assert.strictEqual(again.usage.cost, 0)
        assert.deepStrictEqual(again.account?.models, [])
        const two = yield* say("two")
        assert.deepStrictEqual(two.usage.total, first.usage.total)
        assert.strictEqual(two.content, "answer to two")
        assert.deepStrictEqual(yield* list(), [
          "turn completed",
          "/compact completed",
          "/compact completed",
          "turn completed"
        ])
      }), fake)

    test("waits for the running turn, and turns that begin meanwhile wait for it", () =>
      Effect.gen(function*() {
        const server = yield* FakeOpencode
        const running = yield* launch("slow", halfway, {
          prompt: `slow [[{"text":"a b","gate":"half","gateAfter":1}]]`
        })
        const compaction = yield* Effect.forkChild(compactConversation(conversationId))
        yield* Turns.rest
        const next = yield* launch("next", [{ text: "answer to next" }])
        assert.deepStrictEqual(yield* list(), ["turn pending", "/compact queued", "turn queued"])
        yield* server.release("half")
        yield* ended(running)
        yield* Carrying.until(Effect.map(list(), (all) => all[1] === "/compact pending"), 60_000)
        yield* server.reached("summary")
        assert.deepStrictEqual((yield* list())[2], "turn queued")
        yield* server.release("summary")
        assertFields((yield* ended(compaction, 60_000)).value, { content: "the summary" })
        assertFields((yield* ended(next, 60_000)).value, { status: "completed", content: "answer to next" })
      }), fake)

    test("that fails says why, is stored, and leaves the conversation as it was", () =>
      Effect.gen(function*() {
        yield* say("one", "conversation", [{ text: "no summary" }])
        const error = yield* Effect.flip(compactConversation(conversationId))
        assertFields(error, { _tag: "CompactionFailed" })
        assert.include(error.message, "not today")
        assert.deepStrictEqual(yield* list(), ["turn completed", "/compact error"])
        assertFields(yield* say("two"), { content: "answer to two" })
        assert.deepStrictEqual(yield* known, ["no summary"])
      }), fake)

    test("has an account of its time, which the turns before it and the model took", () =>
      Effect.gen(function*() {
        const server = yield* FakeOpencode
        const running = yield* launch("slow", halfway, {
          prompt: `slow [[{"text":"a b","gate":"half","gateAfter":1}]]`
        })
        const compaction = yield* Effect.forkChild(compactConversation(conversationId))
        yield* Carrying.pass(3000)
        yield* server.release("half")
        yield* ended(running)
        yield* server.reached("summary").pipe(Effect.forkChild, Effect.flatMap((fiber) => ended(fiber, 60_000)))
        yield* Carrying.pass(5000)
        yield* server.release("summary")
        const { account, createdMillis, finishedMillis } = (yield* ended(compaction, 60_000)).value
        assert.isNotNull(account)
        if (account === null) return
        const { modelMillis, queueMillis } = account.timing
        assert.isAtLeast(queueMillis, 3000)
        assert.isAtLeast(modelMillis, 5000)
        assert.strictEqual(Timing.total(account.timing), (finishedMillis ?? 0) - createdMillis)
      }), fake)

    test("that gives nothing tells what it took in vain", () =>
      Effect.gen(function*() {
        yield* say("one", "conversation", [{ text: "blank" }])
        const outcome = yield* Effect.result(compactConversation(conversationId))
        const [, stored] = yield* (yield* SessionStore).listMessages(conversationId, Infinity)
        // 1.x takes any words for a summary (1.18.33).
        assert.strictEqual(stored?.status, line === "1.x" ? "completed" : "error")
        const usage = outcome._tag === "Success"
          ? outcome.success.usage
          : outcome.failure._tag === "CompactionFailed"
          ? outcome.failure.usage
          : assert.fail(outcome.failure.message)
        assert.closeTo(usage.cost, 0.0012, 1e-9)
        assert.deepStrictEqual(stored?.usage, usage)
        assert.closeTo(stored?.account?.models[0]?.cost ?? 0, 0.0012, 1e-9)
      }), fake)

    test("is refused for a conversation without a turn, and for a model that is none", () =>
      Effect.gen(function*() {
        assert.strictEqual(yield* tagOf(compactConversation("nobody")), "NoSession")
        assert.strictEqual(yield* tagOf(compactConversation("nobody", { model: "none" })), "InvalidInput")
        const store = yield* SessionStore
        assert.deepStrictEqual(yield* store.listConversations({ limit: 10 }), [])
      }))

    test("that is cancelled or interrupted stops, and the next turn is answered", () =>
      Effect.gen(function*() {
        const server = yield* FakeOpencode
        const store = yield* SessionStore
        yield* say("one", "conversation", [{ text: "slow" }])
        const cancelled = yield* Effect.forkChild(Effect.flip(compactConversation(conversationId)))
        yield* server.reached("summary")
        const [state] = yield* store.listByStatus({ status: "pending", limit: 1 })
        if (state === undefined) return assert.fail("nothing is pending")
        const cancel = yield* Effect.forkChild(cancelTurn(state.id))
        assertFields((yield* ended(cancelled, 60_000)).value, { _tag: "TurnCancelled" })
        yield* ended(cancel, 60_000)
        const interrupted = yield* Effect.forkChild(compactConversation(conversationId))
        yield* Carrying.until(Effect.map(list(), (all) => all.at(-1) === "/compact pending"), 60_000)
        yield* Fiber.interrupt(interrupted)
        assert.deepStrictEqual(yield* list(), ["turn completed", "/compact cancelled", "/compact cancelled"])
        assertFields(yield* say("two"), { content: "answer to two" })
      }), fake)

    test("whose worker died is finished by the next one, and its summary is counted", () =>
      Effect.gen(function*() {
        const client = yield* Client
        const store = yield* SessionStore
        yield* say("one")
        const session = Option.getOrThrow(yield* store.getSession(conversationId))
        yield* left("dead", { type: "compact" })
        yield* client.compactSession(session, { providerId: "scripted", modelId: "m" })
        yield* resumeTurns()
        const stored = yield* rowOf("dead")
        assertFields(stored, { status: "completed", content: "the summary" })
        assert.isAbove(stored?.usage.cost ?? 0, 0)
        const requests = yield* (yield* FakeOpencode).requests
        assert.lengthOf(requests.filter(({ path }) => path.endsWith("/summarize") || path.endsWith("/compact")), 1)
      }), fake)

    on1x(
      "that another client left without a summary does not take the place of the next answer",
      () =>
        Effect.gen(function*() {
          const client = yield* Client
          const store = yield* SessionStore
          const server = yield* FakeOpencode
          yield* say("one", "conversation", [{ text: "no summary" }])
          const session = Option.getOrThrow(yield* store.getSession(conversationId))
          // As a client does that asks once and leaves what comes of it.
          const summarize = (model: { readonly providerID: string; readonly modelID: string }) =>
            server.handle({
              method: "POST",
              path: `/session/${session}/summarize`,
              query: {},
              headers: { "content-type": "application/json" },
              body: JSON.stringify(model)
            })
          for (const modelID of ["m", "unknown"]) {
            yield* summarize({ providerID: "scripted", modelID })
            assert.isAbove((yield* client.listMessages(session, { limit: 50 })).messages.length, 2)
            assertFields(yield* say(`after ${modelID}`), { content: `answer to after ${modelID}` })
          }
          assert.deepStrictEqual(yield* known, ["no summary", "answer to after m"])
        }),
      fake
    )

    test("makes a revert final", () =>
      Effect.gen(function*() {
        yield* say("one")
        yield* say("two")
        yield* revertTurn(AssistantMessageId.make("two"))
        yield* compactConversation(conversationId)
        assert.strictEqual(yield* tagOf(unrevertTurn(conversationId)), "NothingReverted")
        assert.isNotNull((yield* rowOf("two"))?.revertedBy)
      }), fake)
  })
}

for (const line of ["1.x", "2.x", "2.x release"] as const) describe(`on OpenCode ${line}`, () => operations(line))
