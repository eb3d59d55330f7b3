import * as Exchange from "#reply/Exchange"
import { assert, describe, it } from "@effect/vitest"
import { MessageId, PartId } from "@opencode-turn/core/Ids"
import type { Part, WirePart } from "@opencode-turn/core/Part"
import { isBlank, maxErrorLength } from "@opencode-turn/core/Part"
import * as Reply from "@opencode-turn/core/Reply"
import type { ServerEvent, TurnEvent } from "@opencode-turn/core/TurnEvent"
import * as Usage from "@opencode-turn/core/Usage"
import * as Schema from "effect/Schema"
import * as Make from "../support/make.ts"
import type { Tape } from "../support/tapes.ts"
import { empty, isTurnEvent, play, step, tape, tapes } from "../support/tapes.ts"

const { answerId, child, fold, grandchild, promptId, root, stranger } = Make
const answer = Make.message(Make.assistant())
const ids = { sessionId: root, promptId }
const texts = (reply: Reply.Reply) =>
  Reply.parts(reply).map((part) => ("text" in part ? `${part.type}:${part.text}` : `${part.type}:${part.id}`))
const open = (id: string, messageId?: string) => Make.part(Make.text(id, "", false, messageId))
/** Asserts that folding the event changes nothing, not even the reference. */
const isUnchanged = (reply: Reply.Reply, ...events: ReadonlyArray<TurnEvent>) => {
  for (const event of events) assert.strictEqual(Reply.apply(reply, event), reply, event._tag)
}

describe("parts", () => {
  it("keep the order in which they were opened, whatever grows later", () => {
    const reply = fold(
      answer,
      Make.part(Make.thought("r", "", false)),
      open("a"),
      Make.part(Make.tool("t")),
      open("b"),
      Make.delta("b", "two"),
      Make.delta("a", "one"),
      Make.delta("r", "hm")
    )
    assert.deepStrictEqual(texts(reply), ["reasoning:hm", "text:one", "tool:t", "text:two"])
  })

  it("get their type from their opening, not from the field of a delta", () => {
    const reply = fold(answer, Make.part(Make.thought("r", "", false)), Make.delta("r", "hm", { field: "text" }))
    assert.deepStrictEqual(texts(reply), ["reasoning:hm"])
    assert.isFalse(Reply.hasText(reply))
  })

  it("are opened by an earlier delta, with its field as their type until the part arrives", () => {
    const reply = fold(answer, Make.delta("r", "hm", { field: "reasoning" }), Make.delta("a", "answer"))
    assert.deepStrictEqual(texts(reply), ["reasoning:hm", "text:answer"])
    const mistaken = fold(answer, Make.delta("a", "hm"))
    assert.isTrue(Reply.hasText(mistaken))
    const corrected = Reply.apply(mistaken, Make.part(Make.thought("a", "", false)))
    assert.deepStrictEqual(texts(corrected), ["reasoning:hm"])
    assert.isFalse(Reply.hasText(corrected))
    assert.deepStrictEqual(texts(Reply.apply(mistaken, Make.part(Make.tool("a")))), ["tool:a"])
  })

  it("ignore deltas of fields other than text", () => {
    const reply = fold(answer, open("a"), Make.delta("a", "shown"))
    isUnchanged(reply, Make.delta("a", "{", { field: "raw" }), Make.delta("b", "{", { field: "raw" }))
  })

  it("are closed with the full text, so that losing the last deltas loses no text", () => {
    const reply = fold(
      answer,
      open("a"),
      Make.delta("a", "the be"),
      Make.part(Make.text("a", "the beginning and the end"))
    )
    assert.strictEqual(Reply.text(reply), "the beginning and the end")
    assert.isTrue(Reply.part(reply, PartId.make("a"))?.type === "text")
  })

  it("take the server's text when it closes them with less than was streamed", () => {
    const reply = fold(answer, open("a"), Make.delta("a", "answer  "), Make.part(Make.text("a", "answer")))
    assert.strictEqual(Reply.text(reply), "answer")
    const cleared = Reply.apply(fold(answer, open("a"), Make.delta("a", " ")), Make.part(Make.text("a", "")))
    assert.isFalse(Reply.hasText(cleared))
  })

  it("stay closed: later deltas and openings change nothing, a newer closing does", () => {
    const opening = open("a")
    const first = Make.part(Make.text("a", "answer"))
    const reply = fold(answer, opening, first)
    isUnchanged(reply, Make.delta("a", " more"), opening, first, open("a"))
    const corrected = Reply.apply(reply, Make.part(Make.text("a", "corrected")))
    assert.strictEqual(Reply.text(corrected), "corrected")
    isUnchanged(corrected, first)
  })

  it("that arrive before their message are shown once it is known to be ours, and dropped if it is not", () => {
    const early = fold(open("a"), Make.delta("a", "early"), Make.part(Make.tool("t")))
    assert.deepStrictEqual(Reply.parts(early), [])
    assert.isFalse(Reply.hasText(early))
    assert.isTrue(Reply.isEmpty(early))
    const ours = Reply.apply(early, answer)
    assert.deepStrictEqual(texts(ours), ["text:early", "tool:t"])
    assert.isTrue(Reply.hasText(ours))
    const others = Reply.apply(
      early,
      Make.message(Make.assistant(answerId, { parentId: MessageId.make("msg_05_old") }))
    )
    assert.isTrue(holdsNoPart(others))
  })

  it("keep a long text in pieces without losing a character", () => {
    const words = Array.from({ length: Reply.pieceLength + 7 }, (_, index) => `${index} `)
    const reply = fold(answer, open("a"), ...words.map((word) => Make.delta("a", word)))
    assert.strictEqual(Reply.text(reply), words.join(""))
  })

  it("that were removed do not come back with a late event", () => {
    const opening = open("a")
    const words = Make.delta("a", "gone")
    const before = fold(answer, opening, words, open("b"), Make.delta("b", "stays"))
    const removal: TurnEvent = { _tag: "PartRemoved", ...Make.base(), messageId: answerId, partId: PartId.make("a") }
    const reply = Reply.apply(before, removal)
    assert.deepStrictEqual(texts(reply), ["text:stays"])
    isUnchanged(reply, opening, words, removal)
    const withoutMessage = Reply.apply(reply, { _tag: "MessageRemoved", ...Make.base(), messageId: answerId })
    assert.deepStrictEqual(Reply.parts(withoutMessage), [])
    assert.isFalse(Reply.hasText(withoutMessage))
    isUnchanged(withoutMessage, answer, open("b"), words)
  })
})

describe("foreign events", () => {
  const reply = fold(answer, open("a"), Make.delta("a", "answer"))

  it("of the user's own parts never change the reply", () => {
    isUnchanged(
      reply,
      Make.message(Make.user()),
      Make.part(Make.text("u", "the prompt", false, promptId)),
      Make.delta("u", "the prompt", { messageId: promptId })
    )
  })

  it("of foreign sessions never change the reply", () => {
    isUnchanged(
      reply,
      Make.message(Make.assistant("msg_x", { sessionId: stranger })),
      Make.part(Make.text("a", "stranger"), stranger),
      Make.delta("a", "stranger", { sessionId: stranger }),
      { ...Make.todos("stranger"), sessionId: stranger },
      Make.idle(stranger),
      Make.asked("per_x", stranger),
      Make.resolved("per_x", stranger),
      Make.opened(stranger),
      Make.opened(grandchild, stranger),
      { ...Make.failed("APIError"), sessionId: stranger },
      { ...Make.continued("msg_x"), sessionId: stranger },
      { _tag: "MessageRemoved", ...Make.base(stranger), messageId: answerId },
      { _tag: "PartRemoved", ...Make.base(stranger), messageId: answerId, partId: PartId.make("a") },
      { _tag: "SessionDeleted", ...Make.base(stranger) }
    )
  })

  it("of another prompt and its answer are neither shown nor kept", () => {
    const later = [
      Make.message(Make.user("msg_30_later")),
      Make.part(Make.text("v", "another prompt", false, "msg_30_later")),
      Make.message(Make.assistant("msg_40_later", { parentId: MessageId.make("msg_30_later") })),
      open("w", "msg_40_later"),
      Make.delta("w", "another answer", { messageId: "msg_40_later" }),
      Make.part(Make.finish("f", 1, "msg_40_later"))
    ].reduce(Reply.apply, reply)
    assert.deepStrictEqual(Reply.result(later), Reply.result(reply))
    assert.strictEqual(later.entries.length, reply.entries.length)
  })

  it("of another prompt's parts are dropped even if they came before it", () => {
    const early = fold(Make.part(Make.text("v", "another prompt", false, "msg_30_later")))
    assert.isTrue(holdsNoPart(Reply.apply(early, Make.message(Make.user("msg_30_later")))))
  })
})

describe("todos", () => {
  it("are a stream-only part that keeps its place in reconciliation", () => {
    const reply = fold(
      answer,
      open("a"),
      Make.delta("a", "I plan"),
      Make.part(Make.tool("t", { tool: "todowrite" })),
      Make.todos("one"),
      Make.part(Make.text("a", "I plan")),
      open("b"),
      Make.delta("b", "done"),
      Make.todos("one", "two")
    )
    const expected = ["text:I plan", "tool:t", "todos:todos_ses_root", "text:done"]
    assert.deepStrictEqual(texts(reply), expected)
    const messages = [
      Make.stored(Make.user()),
      Make.stored(
        Make.ended(),
        Make.text("a", "I plan"),
        Make.tool("t", { tool: "todowrite", status: "completed" }),
        Make.text("b", "done")
      )
    ]
    const final = Reply.reconcile(reply, messages)
    assert.deepStrictEqual(texts(final), expected)
    assert.deepStrictEqual(Reply.todos(final).map((todo) => todo.content), ["one", "two"])
    assert.deepStrictEqual(Reply.parts(final).map(({ type }) => type), ["text", "tool", "todos", "text"])
    assert.deepStrictEqual(Reply.todos(Reply.fromMessages(ids, messages)), [])
  })

  it("that arrive late a second time do not restore an older list", () => {
    const first = Make.todos("one")
    const second = Make.todos("one", "two")
    isUnchanged(fold(answer, first, second), first, second)
  })

  it("are not an answer", () => {
    assert.isTrue(Reply.isEmpty(fold(answer, Make.todos("one"), Make.part(Make.finish("f", 1)), open("a"))))
    assert.isFalse(Reply.isEmpty(fold(answer, Make.part(Make.tool("t")))))
  })
})

describe("tools", () => {
  it("keep what a later state leaves out", () => {
    const reply = fold(
      answer,
      Make.part(Make.tool("t", { input: { command: "ls" }, metadata: { a: 1 } })),
      Make.part(Make.tool("t", { status: "running", startedMillis: 1, title: "List", metadata: { output: "x" } })),
      Make.part(Make.tool("t", { status: "completed", output: "x", endedMillis: 2 }))
    )
    assert.deepStrictEqual(
      Reply.parts(reply),
      [Make.tool("t", {
        status: "completed",
        input: { command: "ls" },
        metadata: { a: 1, output: "x" },
        title: "List",
        output: "x",
        startedMillis: 1,
        endedMillis: 2
      })]
    )
  })

  it("keep their first name, and the model's arguments, when they are renamed `invalid`", () => {
    const reply = fold(
      answer,
      Make.part(Make.tool("t", { tool: "grep", input: { pattern: "x" } })),
      Make.part(Make.tool("t", { tool: "invalid", status: "completed", input: { error: "no such tool" } }))
    )
    const [call] = Reply.result(reply).tools
    assert.deepInclude(call, { tool: "grep", input: { pattern: "x" } })
    const final = Reply.reconcile(reply, [
      Make.stored(Make.user()),
      Make.stored(Make.ended(), Make.tool("t", { tool: "invalid", status: "completed" }))
    ])
    assert.strictEqual(Reply.result(final).tools[0]?.tool, "grep")
  })

  it("never return to an earlier state or leave a terminal one", () => {
    const pending = Make.part(Make.tool("t"))
    const first = Make.part(Make.tool("t", { status: "running", metadata: { output: "a" } }))
    const second = Make.part(Make.tool("t", { status: "running", metadata: { output: "ab" } }))
    const running = fold(answer, pending, first, second)
    isUnchanged(running, pending, first, second)
    const done = Reply.apply(running, Make.part(Make.tool("t", { status: "error", error: "no" })))
    isUnchanged(done, pending, first, second, Make.part(Make.tool("t", { status: "completed", output: "x" })))
  })

  it("keep as much of an error as a reader needs", () => {
    const error = "x".repeat(maxErrorLength * 3)
    const long = Make.tool("t", { status: "error", error })
    for (
      const reply of [
        fold(answer, Make.part(long)),
        fold(answer, Make.part(Make.tool("t")), Make.part(long)),
        Reply.fromMessages(ids, [Make.stored(Make.user()), Make.stored(Make.ended(), long)])
      ]
    ) {
      assert.strictEqual(Reply.result(reply).tools[0]?.error?.length, maxErrorLength)
    }
  })

  it("are in the result only after they have ended", () => {
    const reply = fold(
      answer,
      Make.part(Make.tool("p")),
      Make.part(Make.tool("r", { status: "running" })),
      Make.part(Make.tool("c", { status: "completed" })),
      Make.part(Make.tool("e", { status: "error" }))
    )
    assert.deepStrictEqual(Reply.result(reply).tools.map((call) => call.status), ["completed", "error"])
  })
})

describe("asks", () => {
  it("are open from the question to the answer, and block the turn meanwhile", () => {
    const question = Make.asked("per_1")
    const reply = fold(question)
    assert.isTrue(Reply.isBlocked(reply))
    isUnchanged(reply, question)
    const answered = Reply.apply(reply, Make.resolved("per_1"))
    assert.isFalse(Reply.isBlocked(answered))
    isUnchanged(answered, question)
  })

  it("are removed when their session is idle or deleted, but not by a late older `idle`", () => {
    const before = Make.idle()
    const reply = fold(before, Make.asked("per_1"))
    isUnchanged(reply, before)
    assert.isFalse(Reply.isBlocked(Reply.apply(reply, Make.idle())))
    assert.isFalse(Reply.isBlocked(Reply.apply(reply, { _tag: "SessionDeleted", ...Make.base() })))
    const other = fold(Make.opened(child, root), Make.asked("per_2", child))
    assert.isTrue(Reply.isBlocked(Reply.apply(other, Make.idle())))
    assert.isFalse(Reply.isBlocked(Reply.apply(other, Make.idle(child))))
  })

  it("of subagents and of their subagents belong to the turn", () => {
    const reply = fold(
      Make.opened(child, root),
      Make.opened(grandchild, child),
      Make.asked("per_1", grandchild)
    )
    assert.deepStrictEqual(Reply.subagentStates(reply).map((subagent) => subagent.sessionId), [child, grandchild])
    assert.isTrue(Reply.isBlocked(reply))
    assert.isTrue(Reply.isInTree(reply, grandchild))
    isUnchanged(reply, Make.opened(child, root), Make.opened(grandchild, child), Make.opened(root))
  })

  it("follow the server's list after a gap", () => {
    const reply = fold(Make.asked("per_1"), Make.asked("per_2"))
    const synced = Reply.syncAsks(reply, [
      Make.permission("per_2"),
      Make.permission("per_3"),
      Make.permission("per_4", stranger)
    ])
    assert.deepStrictEqual(Reply.asks(synced).map((ask) => ask.id), ["per_2", "per_3"])
    assert.strictEqual(Reply.syncAsks(synced, Reply.asks(synced)), synced)
  })

  it("that were opened or answered during the read of the list survive it", () => {
    const asOf = fold(Make.asked("per_1"))
    const now = [Make.asked("per_2"), Make.resolved("per_3"), Make.resolved("per_1")].reduce(Reply.apply, asOf)
    const synced = Reply.syncAsks(now, [Make.permission("per_1"), Make.permission("per_3")], asOf)
    assert.deepStrictEqual(Reply.asks(synced).map((ask) => ask.id), ["per_2"])
  })
})

describe("status and failure", () => {
  it("show a retry until the session is busy again; a late copy does not restore it", () => {
    const first = Make.retry(1)
    const waiting = fold(first)
    assert.strictEqual(waiting.session.retry?.attempt, 1)
    const again = Reply.apply(waiting, Make.busy())
    assert.isUndefined(again.session.retry)
    isUnchanged(again, first, Make.busy())
  })

  it("let a retry empty the failed try's text for good, and keep ended parts", () => {
    const opening = open("a")
    const word = Make.delta("a", "half")
    const reply = fold(
      answer,
      Make.part(Make.thought("r", "done thinking")),
      Make.part(Make.thought("s", "", false)),
      Make.delta("s", "hm"),
      opening,
      word,
      Make.part(Make.tool("t"))
    )
    assert.isTrue(Reply.hasText(reply))
    const retrying = Reply.apply(reply, Make.retry(1))
    assert.deepStrictEqual(texts(retrying), ["reasoning:done thinking", "reasoning:", "text:", "tool:t"])
    assert.isFalse(Reply.hasText(retrying))
    isUnchanged(retrying, opening, word, Make.delta("a", " of it"))
    const next = [open("b"), Make.delta("b", "all of it")].reduce(Reply.apply, retrying)
    assert.strictEqual(Reply.text(next), "all of it")
    assert.strictEqual(Reply.text(Reply.apply(next, Make.retry(2))), "")
    const aborted = Reply.apply(retrying, Make.part(Make.text("a", "half")))
    assert.strictEqual(Reply.text(aborted), "half")
  })

  it("let a retry keep an earlier message, and a try that began after it", () => {
    const second = Make.message(Make.assistant("msg_21"))
    const reply = fold(
      answer,
      open("a"),
      Make.delta("a", "its end was lo"),
      second,
      open("b", "msg_21"),
      Make.delta("b", "half", { messageId: "msg_21" })
    )
    assert.strictEqual(Reply.text(Reply.apply(reply, Make.retry(1))), "its end was lo")
    const late = Make.retry(1)
    assert.strictEqual(Reply.text(fold(answer, open("a"), Make.delta("a", "the next try"), late)), "the next try")
  })

  it("keep the first failure of a session, unless its message has an error", () => {
    const reply = fold(answer, Make.failed("UnknownError", "Model not found"), Make.failed("UnknownError", "a stack"))
    assert.strictEqual(reply.session.failure?.message, "Model not found")
    const stored = Reply.apply(reply, Make.message(Make.assistant(answerId, { error: Make.failure("APIError") })))
    assert.strictEqual(stored.session.failure?.name, "APIError")
  })

  it("keep an ended message ended", () => {
    const end = Make.message(Make.ended())
    isUnchanged(fold(answer, end), answer, end, Make.message(Make.assistant(answerId, { finish: "stop" })))
  })
})

describe("totals", () => {
  it("are the sums over the steps that have ended", () => {
    const reply = fold(
      answer,
      Make.part(Make.finish("f1", 0.00008)),
      Make.part(Make.finish("f2", 0.00008)),
      Make.part(Make.finish("f3", 0.00008))
    )
    assert.deepStrictEqual(Reply.usage(reply), Make.usage(0.00024, 30))
    assert.strictEqual(Reply.result(reply).usage.cost, 0.00024)
  })

  it("join texts by a blank line and leave empty ones out", () => {
    const reply = fold(
      answer,
      Make.part(Make.thought("r", "first")),
      Make.part(Make.text("a", "one")),
      Make.part(Make.text("b", "")),
      Make.part(Make.thought("s", "second")),
      Make.part(Make.text("c", "two"))
    )
    const { reasoning, text } = Reply.result(reply)
    assert.deepStrictEqual({ reasoning, text }, { reasoning: "first\n\nsecond", text: "one\n\ntwo" })
  })

  it("count the events that changed the reply", () => {
    const opening = open("a")
    const word = Make.delta("a", "x")
    const reply = fold(answer, opening, word, word, Make.idle(stranger))
    assert.strictEqual(reply.eventCount, 3)
    assert.isTrue(Reply.hasText(reply))
  })
})

describe("gaps", () => {
  it("hold an open part until it is closed", () => {
    const lost = Reply.markGap(fold(answer, open("a"), Make.delta("a", "before ")))
    isUnchanged(lost, Make.delta("a", "after"))
    assert.strictEqual(Reply.text(lost), "before ")
    assert.strictEqual(Reply.markGap(lost), lost)
    assert.strictEqual(
      Reply.text(Reply.apply(lost, Make.part(Make.text("a", "before between after")))),
      "before between after"
    )
  })

  it("let no delta open a part, because its beginning may have been missed", () => {
    const lost = Reply.markGap(fold(answer))
    isUnchanged(lost, Make.delta("a", "the middle"))
    const next = [open("b"), Make.delta("b", "from the start")].reduce(Reply.apply, lost)
    assert.strictEqual(Reply.text(next), "from the start")
  })

  it("are filled by stored messages that may lag: nothing shrinks, and missed parts stand in their place", () => {
    const reply = [open("d"), Make.delta("d", "live")].reduce(
      Reply.apply,
      Reply.markGap(fold(answer, open("a"), Make.delta("a", "begin"), Make.todos("one")))
    )
    const merged = Reply.merge(reply, [
      Make.stored(Make.user()),
      Make.stored(
        Make.assistant(),
        Make.text("a", "beginning"),
        Make.tool("b", { status: "completed" }),
        Make.text("c", "", false),
        Make.text("d", "", false)
      )
    ])
    assert.deepStrictEqual(texts(merged), [
      "text:beginning",
      "todos:todos_ses_root",
      "tool:b",
      "text:",
      "text:live"
    ])
    assert.strictEqual(merged.eventCount, reply.eventCount)
    // The store does not have the streamed text of the open part `c`, so the next deltas would continue another text.
    isUnchanged(merged, Make.delta("c", "the middle"))
    assert.strictEqual(Reply.text(Reply.apply(merged, Make.delta("d", "ly"))), "beginning\n\nlively")
    assert.strictEqual(Reply.merge(merged, []), merged)
  })

  it("are filled behind the shown part, even if the store has a hidden part in between", () => {
    const removed: TurnEvent = { _tag: "PartRemoved", ...Make.base(), messageId: answerId, partId: PartId.make("b") }
    const shown = ["a", "b"].map((id) => Make.part(Make.text(id, id)))
    const reply = Reply.markGap(fold(answer, ...shown, removed))
    const record = ["a", "b", "c"].map((id) => Make.text(id, id))
    assert.strictEqual(Reply.text(Reply.merge(reply, [Make.stored(Make.assistant(), ...record)])), "a\n\nc")
  })

  it("in which the server died empty what it was saying when the model is called again, and keep what it had said", () => {
    const reply = fold(answer, Make.part(Make.text("said", "first")), open("a"), Make.delta("a", "half"))
    const abandoned = Reply.abandonTry(reply)
    assert.strictEqual(Reply.text(abandoned), "first")
    isUnchanged(abandoned, Make.delta("a", " of it"))
    const next = [Make.message(Make.assistant("msg_21")), Make.part(Make.text("b", "all", true, "msg_21"))]
      .reduce(Reply.apply, abandoned)
    assert.strictEqual(Reply.text(next), "first\n\nall")
  })

  it("that hid a retry are filled by the message's end, which empties a text that it left open and empty", () => {
    const reply = Reply.markGap(fold(answer, open("a"), Make.delta("a", "half")))
    const parts = [Make.text("a", "", false), Make.text("b", "all of it")]
    const running = Reply.merge(reply, [Make.stored(Make.assistant(), ...parts)])
    assert.strictEqual(Reply.text(running), "half\n\nall of it")
    const ended = Reply.merge(running, [Make.stored(Make.ended(), ...parts)])
    assert.strictEqual(Reply.text(ended), "all of it")
    assert.deepStrictEqual(Reply.parts(Reply.reconcile(ended, [Make.stored(Make.ended(), ...parts)])), parts)
  })

  it("do not hold a part whose opening arrives after it was read", () => {
    const read = Reply.merge(fold(answer), [Make.stored(Make.assistant(), Make.text("a", "", false))])
    const reply = [open("a"), Make.delta("a", "all of it")].reduce(Reply.apply, read)
    assert.strictEqual(Reply.text(reply), "all of it")
  })
})

/** The stored prompt, and an ended answer with these parts. */
const recordOf = (...parts: ReadonlyArray<WirePart>) => [Make.stored(Make.user()), Make.stored(Make.ended(), ...parts)]

/** The stored prompt, and an answer with these parts that ended with the error. */
const cutOff = (name: string, ...parts: ReadonlyArray<WirePart>) => [
  Make.stored(Make.user()),
  Make.stored(Make.ended(answerId, { error: Make.failure(name) }), ...parts)
]

/** The ids of the parts. */
const idsOf = (reply: Reply.Reply) => Reply.parts(reply).map(({ id }) => id)

/** The text after the answer is stored like this. */
const recordedText = (reply: Reply.Reply, ...parts: ReadonlyArray<WirePart>) =>
  Reply.text(Reply.reconcile(reply, recordOf(...parts)))

const isSaidText = (part: Part) => part.type === "text" && part.isComplete && !isBlank(part.text)

describe("reconcile", () => {
  it("takes the stored parts, order and text, even if they are less", () => {
    const reply = fold(answer, open("a"), Make.delta("a", "streamed and cut"), open("b"), Make.delta("b", "lost"))
    const final = Reply.reconcile(reply, [
      Make.stored(Make.user()),
      Make.stored(Make.ended(), Make.text("c", "new"), Make.text("a", "streamed"))
    ])
    assert.deepStrictEqual(texts(final), ["text:new", "text:streamed"])
    isUnchanged(final, Make.delta("a", " and cut"))
  })

  const said = fold(answer, open("a"), Make.delta("a", "The ans"), Make.part(Make.text("a", "The answer.")))

  it("keeps a text that the stream had closed if the stored one is blank or missing", () => {
    const end = Make.finish("z", 1)
    for (const blank of ["", " \n", "\u200b"]) {
      for (const isComplete of [true, false]) {
        const final = Reply.reconcile(said, recordOf(Make.text("a", blank, isComplete), end))
        assert.deepStrictEqual(Reply.parts(final), [Make.text("a", "The answer."), end])
        assert.isTrue(Reply.hasText(final))
      }
    }
    const thought = fold(answer, Make.part(Make.thought("r", "hm")), Make.part(Make.text("a", "The answer.")))
    for (const reply of [said, thought]) {
      assert.strictEqual(Reply.text(Reply.reconcile(reply, recordOf(end))), "The answer.")
      assert.strictEqual(Reply.text(Reply.reconcile(reply, recordOf(Make.text("b", " "), end))), "The answer.\n\n ")
    }
    const final = Reply.reconcile(thought, recordOf(Make.thought("r", "")))
    assert.deepStrictEqual(texts(final), ["reasoning:hm", "text:The answer."])
  })

  it("keeps it in its step, and in its place", () => {
    const next = "msg_30"
    const reply = fold(
      answer,
      Make.part(Make.text("a", "I look.")),
      Make.part(Make.tool("t", { status: "completed" })),
      Make.message(Make.ended(next)),
      Make.part(Make.text("b", "Both ran.", true, next)),
      Make.part(Make.finish("c", 1, next))
    )
    const record = (step: ReadonlyArray<WirePart>, last: ReadonlyArray<WirePart>) => [
      Make.stored(Make.user()),
      Make.stored(Make.ended(answerId, { finish: "tool-calls" }), ...step),
      Make.stored(Make.ended(next), ...last)
    ]
    const tool = Make.tool("t", { status: "completed" })
    const end = Make.finish("c", 1, next)
    for (
      const messages of [
        record([Make.text("a", "I look."), tool], [Make.text("b", "", true, next), end]),
        record([Make.text("a", "I look."), tool], [end]),
        record([Make.text("a", ""), tool], [end]),
        record([tool], [end])
      ]
    ) {
      const final = Reply.reconcile(reply, messages)
      assert.strictEqual(Reply.text(final), "I look.\n\nBoth ran.")
      assert.deepStrictEqual<ReadonlyArray<string>>(idsOf(final), ["a", "t", "b", "c"])
    }
  })

  it("takes the stored text if it has words or the stream had not closed the text", () => {
    assert.strictEqual(recordedText(said, Make.text("a", "The")), "The")
    assert.strictEqual(recordedText(said, Make.text("b", "Another.")), "Another.")
    const streaming = fold(answer, open("a"), Make.delta("a", "The ans"))
    assert.strictEqual(recordedText(streaming, Make.text("a", "", false)), "")
    assert.strictEqual(recordedText(streaming, Make.text("a", "")), "")
    assert.strictEqual(recordedText(streaming), "")
    assert.strictEqual(Reply.text(Reply.reconcile(said, [Make.stored(Make.user())])), "")
  })

  it("keeps what was streamed of a text that an abort left open and empty", () => {
    const streaming = fold(answer, open("a"), Make.delta("a", "The ans"))
    const left = Make.text("a", "", false)
    for (const read of [Reply.reconcile, Reply.merge]) {
      assert.strictEqual(Reply.text(read(streaming, cutOff("MessageAbortedError", left))), "The ans")
      assert.strictEqual(Reply.text(read(streaming, cutOff("APIError", left))), "")
      // It belongs to a failed try, and the abort hit the next one.
      assert.strictEqual(Reply.text(read(streaming, cutOff("MessageAbortedError", left, Make.text("b", "The")))), "The")
    }
  })

  it("clears the failure of a session that answered after all, and keeps a failure without a message", () => {
    const reply = fold(Make.failed("UnknownError"))
    assert.isUndefined(Reply.reconcile(reply, [Make.stored(Make.ended())]).session.failure)
    assert.strictEqual(Reply.reconcile(reply, [Make.stored(Make.user())]).session.failure?.name, "UnknownError")
    const between = Make.stored(Make.ended(answerId, { finish: "tool-calls" }))
    assert.strictEqual(Reply.reconcile(reply, [between]).session.failure?.name, "UnknownError")
    const error = Make.failure("APIError")
    assert.strictEqual(Reply.reconcile(reply, [Make.stored(Make.ended(answerId, { error }))]).session.failure, error)
  })

  it("does not count reasoning as text", () => {
    assert.isFalse(Reply.hasText(Reply.fromMessages(ids, [Make.stored(Make.ended(), Make.thought("r", "hm"))])))
  })

  it("takes the continuations of this prompt, not those of another", () => {
    const messages = [
      Make.stored(Make.user()),
      Make.stored(Make.assistant(answerId, { completedMillis: 2 })),
      Make.stored(Make.user("msg_21", { isContinuation: true })),
      Make.stored(Make.ended("msg_22", { parentId: MessageId.make("msg_21") }), Make.text("a", "ours", true, "msg_22")),
      Make.stored(Make.user("msg_30")),
      Make.stored(Make.user("msg_31", { isContinuation: true })),
      Make.stored(
        Make.ended("msg_32", { parentId: MessageId.make("msg_31") }),
        Make.text("b", "theirs", true, "msg_32")
      )
    ]
    assert.strictEqual(Reply.text(Reply.fromMessages(ids, messages)), "ours")
    assert.strictEqual(Reply.text(Reply.merge(Make.empty, messages)), "ours")
    const misled = fold(answer, Make.continued("msg_21"), Make.continued("msg_31"))
    assert.strictEqual(Reply.text(Reply.reconcile(misled, messages)), "ours")
  })
})

const full = (name: string) => {
  const { events, messages, ...rest } = tape(name)
  const reply = play(tape(name))
  return { ...rest, events, messages, reply, final: Reply.reconcile(reply, messages) }
}

/** An answer to that prompt; its text is its id. */
const answering = (prompt: string, id: string) => [
  Make.message(Make.assistant(id, { parentId: MessageId.make(prompt) })),
  Make.part(Make.text(`prt_${id}`, "", false, id)),
  Make.delta(`prt_${id}`, id, { messageId: id })
]

describe("a context overflow after the session's first turn", () => {
  const order = "msg_40"
  const summary = Make.assistant("msg_41", { parentId: MessageId.make(order), isSummary: true })
  const summarized = [
    Make.message(Make.user()),
    Make.message(Make.assistant(Make.answerId)),
    Make.message(Make.assistant(Make.answerId, { completedMillis: 2 })),
    Make.message(Make.user(order, { createdMillis: 3 })),
    Make.continued(order),
    Make.message(summary),
    Make.message({ ...summary, completedMillis: 5, finish: "stop" })
  ]
  const replay = Make.message(Make.user("msg_42", { createdMillis: 5 }))

  it("counts answers to the prompt that was posted again", () => {
    const reply = Make.fold(...summarized, replay, Make.part(Make.text("p", "the prompt", true, "msg_42")))
    assert.strictEqual(Reply.apply(reply, replay), reply)
    assert.strictEqual(Reply.text(answering("msg_42", "msg_43").reduce(Reply.apply, reply)), "msg_43")
  })

  it("does not count answers to the next prompt", () => {
    const next = Make.message(Make.user("msg_44", { createdMillis: 9 }))
    const reply = Make.fold(...summarized, replay, ...answering("msg_42", "msg_43"), next, ...answering("msg_44", "m"))
    assert.strictEqual(Reply.text(reply), "msg_43")
    const early = Make.message(Make.user("msg_411", { createdMillis: 4 }))
    const queued = Make.fold(...summarized, early, replay, ...answering("msg_411", "x"), ...answering("msg_42", "y"))
    assert.strictEqual(Reply.text(queued), "")
    const late = Make.fold(...summarized, Make.message(Make.user("msg_01", { createdMillis: 9 })), replay)
    assert.sameMembers(Array.from(late.session.continuations), [order, "msg_42"].map((id) => MessageId.make(id)))
  })
})

describe("recorded turns", () => {
  it("a kill and a resume: the result lacks the broken message's text and doubles nothing", () => {
    const { final, reply } = full("resume")
    assert.strictEqual(Reply.text(reply), "I run it\n\nsome partial words\n\nresumed answer")
    assert.strictEqual(Reply.text(final), "I run it\n\nresumed answer")
  })

  it("a context overflow: the answer is found, the summary is hidden, its cost counts", () => {
    const { final, reply } = full("compaction")
    for (const each of [reply, final, Reply.fromMessages(tape("compaction").ids, tape("compaction").messages)]) {
      assert.strictEqual(Reply.text(each), "This prompt carries no script.")
      assert.strictEqual(Reply.usage(each).cost, 0.00004)
      assert.isUndefined(each.session.failure)
    }
  })

  it("a cut connection of the model: the failed try's text is removed before the next try repeats it", () => {
    const { events, final, reply } = full("cut")
    const retrying = events.findIndex((event) => event._tag === "StatusChanged" && event.status.type === "retry")
    assert.strictEqual(Reply.text(play(tape("cut"), events.slice(0, retrying))), "a b c d e")
    assert.strictEqual(Reply.text(play(tape("cut"), events.slice(0, retrying + 1))), "")
    assert.strictEqual(Reply.text(reply), "after it")
    assert.deepStrictEqual(Reply.parts(final), Reply.parts(reply))
  })

  it("an abort keeps the partial text and says why it ended", () => {
    const { final, reply } = full("abort")
    assert.strictEqual(Reply.text(reply), "some partial words")
    assert.strictEqual(Reply.text(final), "some partial words")
    assert.strictEqual(final.session.failure?.name, "MessageAbortedError")
  })

  it("an unknown model: a failure, and no answer", () => {
    const { final } = full("unknown_model")
    assert.strictEqual(final.session.failure?.message, "Model not found: nope/zip. Did you mean: standardcompute?")
    assert.isTrue(Reply.isEmpty(final))
  })

  it("a to-do list stands behind the call that wrote it", () => {
    const { final, reply } = full("todo")
    for (const each of [reply, final]) {
      const parts = Reply.parts(each)
      const index = parts.findIndex((part) => part.type === "todos")
      const before = parts[index - 1]
      assert.strictEqual(before?.type === "tool" && before.tool, "todowrite")
      assert.deepStrictEqual(Reply.todos(each).map((todo) => todo.status), ["completed", "in_progress"])
    }
  })

  it("a question and a permission of a subagent are opened and answered", () => {
    for (const name of ["question", "child_ask", "permission"]) {
      const { events, ids } = tape(name)
      const asked: Array<string> = []
      let reply = Reply.make(ids)
      for (const event of events) {
        reply = step(reply, event)
        if (event._tag === "Asked") asked.push(...Reply.asks(reply).map((ask) => ask.id))
      }
      assert.strictEqual(asked.length, 1, name)
      assert.isFalse(Reply.isBlocked(reply), name)
    }
    assert.strictEqual(Reply.subagentStates(full("child_ask").reply).length, 1)
  })

  it("a subagent has its own text, cost and end, and names the tool part that opened it", () => {
    const { final, ids } = full("subagent")
    const [subagent, ...others] = Reply.subagents(final)
    assert.lengthOf(others, 0)
    const opener = Reply.result(final).tools.find(({ tool }) => tool === "task")
    assert.strictEqual(subagent?.openedBy, opener?.id)
    assert.deepInclude(subagent, {
      parentId: ids.sessionId,
      title: "sub (@general subagent)",
      agent: "general",
      status: "completed",
      text: "child result 42"
    })
    assert.deepStrictEqual(
      [Reply.turnUsage(final).root.cost, Reply.turnUsage(final).subagents.cost, Reply.turnUsage(final).total.cost],
      [0.00016, 0.00016, 0.00032]
    )
    assert.strictEqual(Reply.steps(final), 4)
  })

  it("a call that OpenCode renamed has the name that the model gave it, streamed and stored", () => {
    const { final, ids, messages, reply } = full("invalid_tool")
    for (const each of [reply, final, Reply.fromMessages(ids, messages)]) {
      assert.deepStrictEqual(Reply.result(each).tools.map((call) => call.tool), ["nosuchtool", "read"])
    }
  })

  it("a turn that succeeds after a retry of the model shows the retry while it waits", () => {
    const { events } = tape("retry")
    const waiting = events.findIndex((event) => event._tag === "StatusChanged" && event.status.type === "retry")
    const reply = play(tape("retry"), events.slice(0, waiting + 1))
    assert.strictEqual(reply.session.retry?.message, "slow down")
    assert.isUndefined(play(tape("retry")).session.retry)
  })
})

const pick = <A>(all: ReadonlyArray<A>, at: number): A => {
  const found = all[at % all.length]
  if (found === undefined) throw new Error("nothing to pick from")
  return found
}

/** The stream's knowledge without the server: only a read finds what a killed server broke. */
const isTold = ({ name }: Tape) => name !== "resume"
const view = (reply: Reply.Reply) => {
  const { continuations, failure, retry } = reply.session
  return {
    ...Reply.result(reply),
    asks: Reply.asks(reply),
    continuations: Array.from(continuations).toSorted(),
    failure,
    messages: Reply.messages(reply),
    retry,
    subagents: Reply.subagents(reply),
    hasText: Reply.hasText(reply)
  }
}

const holdsNoPart = (reply: Reply.Reply): boolean => Reply.size(reply).parts === 0

const renamed = (id: string) => `${id}_other`

describe("properties over recorded turns", () => {
  const index = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 10_000 }))
  const options = { arbitrary: { runs: 300 } }
  it.prop("folding an event twice, at once or later, returns the same reply", {
    at: index,
    repeats: Schema.Array(Schema.Tuple([index, index])).check(Schema.isMaxLength(30))
  }, ({ at, repeats }) => {
    const recorded = pick(tapes, at)
    const events = recorded.events.filter(isTurnEvent)
    const late = new Map<number, Array<number>>()
    for (const [a, b] of repeats) {
      const [from, to] = [a % events.length, b % events.length].toSorted((x, y) => x - y)
      if (from !== undefined && to !== undefined) late.set(to, [...(late.get(to) ?? []), from])
    }
    let reply = empty(recorded)
    for (const [index, event] of events.entries()) {
      reply = Reply.apply(reply, event)
      isUnchanged(reply, event, ...(late.get(index) ?? []).map((from) => pick(events, from)))
    }
    assert.deepStrictEqual(view(reply), view(events.reduce(Reply.apply, empty(recorded))))
  }, options)

  it.prop("events of foreign sessions and of other users change nothing", {
    at: index,
    other: index,
    places: Schema.Array(index).check(Schema.isMaxLength(20))
  }, ({ at, other, places }) => {
    const recorded = pick(tapes, at)
    const foreign = pick(tapes.filter((tape) => tape !== recorded), other).events.filter(isTurnEvent)
    // Another prompt of the same session.
    const queued: ReadonlyArray<TurnEvent> = [
      Make.message({ ...Make.user(renamed(recorded.ids.promptId)), sessionId: recorded.ids.sessionId }),
      {
        _tag: "PartUpdated",
        eventId: undefined,
        sessionId: recorded.ids.sessionId,
        part: Make.text("prt_other", "another prompt", false, renamed(recorded.ids.promptId))
      }
    ]
    const strangers = [...foreign, ...queued]
    const mixed = recorded.events.flatMap((event, index): ReadonlyArray<ServerEvent> =>
      places.some((place) => place % recorded.events.length === index) ? [event, ...strangers] : [event]
    )
    assert.deepStrictEqual(view(play(recorded, mixed)), view(play(recorded)))
  }, options)

  it.prop("a subagent and the root keep their own text in any order of their events", {
    at: index,
    delays: Schema.Array(index).check(Schema.isMinLength(1), Schema.isMaxLength(20))
  }, ({ at, delays }) => {
    const recorded = pick(tapes.filter(({ name }) => name === "subagent" || name === "child_ask"), at)
    const isRoot = (event: TurnEvent) => event.sessionId === recorded.ids.sessionId
    const events = recorded.events.filter(isTurnEvent)
    const opening = events.findIndex((event) => event._tag === "SessionOpened" && !isRoot(event))
    const [before, after] = [events.slice(0, opening + 1), events.slice(opening + 1)]
    const left = [after.filter(isRoot), after.filter((event) => !isRoot(event))]
    const mixed: Array<TurnEvent> = []
    for (let step = 0; left.some((some) => some.length > 0); step++) {
      const next = pick(left.filter((some) => some.length > 0), pick(delays, step)).shift()
      if (next !== undefined) mixed.push(next)
    }
    assert.deepStrictEqual(view([...before, ...mixed].reduce(Reply.apply, empty(recorded))), view(play(recorded)))
    const alone = events.filter(isRoot).reduce(Reply.apply, empty(recorded))
    assert.deepStrictEqual(Reply.result(alone), Reply.result(play(recorded)))
  }, options)

  it.prop("any prefix of a turn, reconciled with the stored messages, equals the stored messages", {
    at: index,
    cut: index
  }, ({
    at,
    cut
  }) => {
    const recorded = pick(tapes, at)
    const { events, ids, messages } = recorded
    const prefix = play(recorded, events.slice(0, cut % (events.length + 1)))
    const final = Reply.reconcile(prefix, messages)
    const read = Reply.fromMessages(ids, messages)
    assert.deepStrictEqual(
      Reply.parts(final).filter(({ type }) => type !== "todos"),
      Reply.parts(read)
    )
    assert.strictEqual(Reply.hasText(final), Reply.hasText(read))
    if (isTold(recorded)) assert.strictEqual(Reply.text(final), Reply.text(play(recorded)))
    // A gap in between must lead to the same text.
    const merged = events.slice(cut % (events.length + 1)).reduce(step, Reply.merge(Reply.markGap(prefix), messages))
    if (isTold(recorded)) assert.strictEqual(Reply.text(merged), Reply.text(read))
    assert.deepStrictEqual(
      Reply.parts(merged).filter(({ type }) => type !== "todos").map((part) => part.id),
      Reply.parts(read).map((part) => part.id)
    )
  }, options)

  it.prop("stored messages without words remove none of the closed texts", { at: index, cut: index }, ({ at, cut }) => {
    const recorded = pick(tapes, at)
    const { messages } = recorded
    const reply = play(recorded)
    const emptied = messages.map((message) => ({
      ...message,
      parts: message.parts.flatMap((part): ReadonlyArray<WirePart> =>
        part.type !== "text" ? [part] : cut % 2 === 0 ? [] : [{ ...part, text: cut % 3 === 0 ? "" : " \n" }]
      )
    }))
    const final = Reply.reconcile(reply, emptied)
    assert.deepStrictEqual(Reply.parts(final).filter(isSaidText), Reply.parts(reply).filter(isSaidText))
  }, options)

  it("the text of an open part never shrinks, unless the model is called again", () => {
    for (const recorded of tapes) {
      let reply = empty(recorded)
      for (const event of recorded.events) {
        const next = step(reply, event)
        if (next.session.retry !== undefined) reply = next
        for (const before of Reply.parts(reply)) {
          if (before.type !== "text" && before.type !== "reasoning") continue
          const after = Reply.part(next, before.id)
          assert.isTrue(after !== undefined && "text" in after && after.text.startsWith(before.text), recorded.name)
        }
        reply = next
      }
    }
  })

  it.prop("two continuations of one reply do not disturb each other", { at: index, cut: index, other: index }, ({
    at,
    cut,
    other
  }) => {
    const recorded = pick(tapes, at)
    const begun = play(recorded, recorded.events.slice(0, cut % recorded.events.length))
    const before = view(begun)
    const rest = recorded.events.slice(cut % recorded.events.length)
    const without = rest.filter((_, index) => index % 3 !== other % 3)
    const alone = view(rest.reduce(step, begun))
    without.reduce(step, begun)
    const again = view(rest.reduce(step, begun))
    assert.deepStrictEqual(again, alone)
    assert.deepStrictEqual(view(begun), before)
  }, options)

  it("the totals of the fold are those of the stored messages", () => {
    for (const recorded of tapes) {
      const exchange = Exchange.fromMessages(recorded.ids, recorded.messages)
      assert.deepStrictEqual(
        Reply.usage(play(recorded)),
        Usage.sum(exchange.steps.map(({ info }) => info.usage)),
        recorded.name
      )
    }
  })
})
