import * as Exchange from "#reply/Exchange"
import { assert, it } from "@effect/vitest"
import { MessageId } from "@opencode-turn/core/Ids"
import type { Message } from "@opencode-turn/core/Message"
import * as Reply from "@opencode-turn/core/Reply"
import * as Make from "../support/make.ts"
import { play, tape, tapes } from "../support/tapes.ts"

const { answerId, promptId, root } = Make
const ids = { sessionId: root, promptId }
const from = (...messages: ReadonlyArray<Message>) => Exchange.fromMessages(ids, messages)
const prompt = Make.stored(Make.user())
const recorded = (name: string) => Exchange.fromMessages(tape(name).ids, tape(name).messages)

it("finds the answers by the prompt that they name, at any place", () => {
  const exchange = from(
    Make.stored(Make.user("msg_01")),
    Make.stored(Make.ended("msg_02", { parentId: MessageId.make("msg_01") })),
    prompt,
    Make.stored(Make.ended(answerId, { finish: "tool-calls" })),
    Make.stored(Make.user("msg_30")),
    Make.stored(Make.ended("msg_31", { parentId: MessageId.make("msg_30") })),
    Make.stored(Make.ended("msg_32"))
  )
  assert.deepStrictEqual(exchange.steps.map(({ info }) => info.id), [answerId, "msg_32"])
  assert.deepStrictEqual(exchange.messages.map(({ info }) => info.id), [promptId, answerId, "msg_32"])
  assert.isTrue(exchange.isAccepted)
  assert.isFalse(exchange.isCurrent)
})

it("ignores messages of another session as answer, prompt and following prompt", () => {
  const stranger = { sessionId: Make.stranger }
  const theirs = [
    Make.stored(Make.ended("msg_21", { ...stranger, finish: "stop" }), Make.text("prt_1", "theirs")),
    Make.stored(Make.user("msg_30", stranger))
  ]
  const exchange = from(prompt, ...theirs)
  assert.deepInclude(exchange, { isAccepted: true, isCurrent: true, steps: [], messages: [prompt] })
  assert.isFalse(from(...theirs).isAccepted)
  const opaque = Make.stored({
    role: "opaque",
    id: MessageId.make("msg_31"),
    createdMillis: 1,
    field: "info.role",
    ...stranger
  })
  assert.deepStrictEqual(from(prompt, opaque).unread, { lost: [], hidden: [], other: [] })
})

it("does not accept a missing prompt, and accepts an unreadable one by its answer", () => {
  assert.isFalse(from(Make.stored(Make.user("msg_01"))).isAccepted)
  assert.isTrue(from(Make.stored(Make.user("msg_01"))).isCurrent)
  assert.isTrue(from(Make.stored(Make.ended())).isAccepted)
  assert.deepStrictEqual(from(prompt).steps, [])
  assert.isTrue(from(prompt).isCurrent)
})

it("gives continuations to the prompt before them, while that is the newest", () => {
  const next = Make.stored(Make.user("msg_40", { isContinuation: true }))
  const theirs = Make.stored(Make.ended("msg_41", { parentId: MessageId.make("msg_40") }))
  const overflow = Make.stored(Make.assistant(answerId, { completedMillis: 2 }))
  assert.strictEqual(from(prompt, overflow, next, theirs).steps.length, 2)
  assert.strictEqual(from(prompt, overflow, Make.stored(Make.user("msg_30")), next, theirs).steps.length, 1)
  assert.strictEqual(from(next, theirs, prompt, overflow).steps.length, 1)
})

/** What OpenCode 1.18.33 stores when the context overflows in a later turn of its session. */
const replayId = "msg_42_replay"
const summary = { parentId: MessageId.make("msg_40"), isSummary: true, completedMillis: 5 }
const overflowed = [
  Make.stored(Make.assistant(answerId, { completedMillis: 2 })),
  Make.stored(Make.user("msg_40", { isContinuation: true, createdMillis: 3 }))
]
const replay = Make.stored(Make.user(replayId, { createdMillis: 5 }))
const replayed = Make.stored(Make.ended("msg_43", { parentId: MessageId.make(replayId) }))
const isCurrent = (...after: ReadonlyArray<Message>) => from(prompt, ...overflowed, ...after).isCurrent

it("counts the prompt that the server posts again behind a summary as the turn's", () => {
  const record = [prompt, ...overflowed, Make.stored(Make.assistant("msg_41", summary)), replay, replayed]
  const exchange = from(...record)
  assert.deepStrictEqual(exchange.messages, record)
  assert.isTrue(exchange.isCurrent)
  assert.isTrue(Exchange.isFinal(exchange))
  assert.strictEqual(Reply.messages(Reply.fromMessages(ids, record)).length, 3)
  record.forEach((_, index) =>
    assert.strictEqual(Exchange.isFinal(from(...record.slice(0, index + 1))), index === record.length - 1)
  )
})

it("counts only the first message after a successful summary as the turn's", () => {
  const next = Make.stored(Make.user("msg_44", { createdMillis: 9 }))
  const end = Make.stored(Make.assistant("msg_41", summary))
  const goOn = Make.stored(Make.user(replayId, { isContinuation: true, createdMillis: 5 }))
  const error = Make.failure("APIError")
  assert.isTrue(isCurrent(end, replay))
  assert.isTrue(isCurrent(end, goOn))
  assert.isFalse(isCurrent(end, replay, next))
  assert.isFalse(isCurrent(end, goOn, next))
  assert.isFalse(isCurrent(end, replay, replayed, next))
  assert.isFalse(isCurrent(Make.stored(Make.assistant("msg_41", { ...summary, completedMillis: undefined })), replay))
  assert.isFalse(isCurrent(Make.stored(Make.assistant("msg_41", { ...summary, error })), replay))
  assert.isFalse(isCurrent(end, Make.stored(Make.user("msg_42", { createdMillis: 4 })), replay))
  assert.isFalse(isCurrent(replay))
})

it("follows an unreadable prompt from its first answer on", () => {
  const next = Make.stored(Make.user(replayId, { isContinuation: true }))
  const record = [...overflowed, Make.stored(Make.assistant("msg_41", summary)), next, replayed]
  const exchange = from(...record)
  assert.isTrue(exchange.isAccepted)
  assert.deepStrictEqual(exchange.messages, record)
  assert.isTrue(Exchange.isFinal(exchange))
  const reply = Exchange.reconcile(exchange, Make.empty)
  assert.deepStrictEqual(Reply.messages(reply).map(({ id }) => id), [answerId, "msg_41", "msg_43"])
  assert.strictEqual(Reply.messages(Exchange.merge(exchange, Make.empty)).length, 3)
  assert.isFalse(from(...record, Make.stored(Make.user("msg_44"))).isCurrent)
})

it("is final when the last message failed, or completed with a final finish reason", () => {
  const error = Make.failure("APIError")
  assert.isFalse(Exchange.isFinal(from(prompt)))
  assert.isFalse(Exchange.isFinal(from(prompt, Make.stored(Make.assistant()))))
  assert.isFalse(Exchange.isFinal(from(prompt, Make.stored(Make.ended(answerId, { finish: "tool-calls" })))))
  assert.isTrue(Exchange.isFinal(from(prompt, Make.stored(Make.ended()))))
  assert.isTrue(Exchange.isFinal(from(prompt, Make.stored(Make.ended(answerId, { finish: "length" })))))
  assert.isTrue(Exchange.isFinal(from(prompt, Make.stored(Make.assistant(answerId, { error })))))
})

it("is not final at any moment of a compaction", () => {
  const { ids, messages } = tape("compaction")
  const finals = messages.map((_, index) => Exchange.isFinal(Exchange.fromMessages(ids, messages.slice(0, index + 1))))
  assert.deepStrictEqual(finals, messages.map((_, index) => index === messages.length - 1))
})

it("fails with a failed summary", () => {
  const error = Make.failure("APIError", "no credit")
  const parentId = MessageId.make("msg_30")
  const exchange = from(
    prompt,
    Make.stored(Make.assistant(answerId, { completedMillis: 2 })),
    Make.stored(Make.user("msg_30", { isContinuation: true })),
    Make.stored(Make.assistant("msg_31", { parentId, isSummary: true, error, completedMillis: 3 }))
  )
  assert.isTrue(Exchange.isFinal(exchange))
  assert.strictEqual(Exchange.reconcile(exchange, Make.empty).session.failure, error)
  assert.strictEqual(Exchange.lastStep(exchange)?.info.id, answerId)
})

it("neither ends nor stays open because of the remains of a killed server", () => {
  const { ids, messages } = tape("resume")
  assert.isFalse(Exchange.isFinal(Exchange.fromMessages(ids, messages.slice(0, -1))))
  const exchange = recorded("resume")
  assert.isTrue(Exchange.isFinal(exchange))
  assert.strictEqual(exchange.steps.length, 3)
  assert.strictEqual(Exchange.finish(exchange), "stop")
})

it("ends with a refused tool, although the step's finish reason is tool calls", () => {
  const refused = recorded("question_dismissed")
  assert.strictEqual(Exchange.finish(refused), "tool-calls")
  assert.isTrue(Exchange.isRefused(refused))
  assert.isFalse(Exchange.isFinal(refused))
  assert.isFalse(Exchange.isRefused(recorded("question")))
  const running = Make.stored(Make.assistant(), Make.tool("t", { status: "error", isRefused: true }))
  assert.isFalse(Exchange.isRefused(from(prompt, running)))
})

const failureOf = (name: string) => {
  const exchange = recorded(name)
  return Exchange.reconcile(exchange, Reply.make(exchange)).session.failure?.name
}

it("gives a reply the error of the last step", () => {
  assert.strictEqual(failureOf("llm400"), "APIError")
  assert.strictEqual(failureOf("abort"), "MessageAbortedError")
  assert.isUndefined(failureOf("tool_error"))
})

it("replaces a reply, or is merged into one that is ahead of it", () => {
  for (const recorded of tapes) {
    const exchange = Exchange.fromMessages(recorded.ids, recorded.messages)
    const reply = play(recorded)
    const final = Exchange.reconcile(exchange, reply)
    assert.deepStrictEqual(Reply.result(final), Reply.result(Reply.reconcile(reply, recorded.messages)), recorded.name)
    assert.strictEqual(Exchange.merge(exchange, final), final, recorded.name)
  }
})
