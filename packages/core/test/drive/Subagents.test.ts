import * as LiveReply from "#drive/LiveReply"
import { readSubagents } from "#drive/ReadSubagents"
import * as Ordered from "#reply/Ordered"
import { assert, describe, it } from "@effect/vitest"
import { Client } from "@opencode-turn/core/Client"
import * as ClientError from "@opencode-turn/core/ClientError"
import { MessageId, PartId, SessionId } from "@opencode-turn/core/Ids"
import type { AssistantMessage, Message, Session } from "@opencode-turn/core/Message"
import type { ToolPart, WirePart } from "@opencode-turn/core/Part"
import * as Reply from "@opencode-turn/core/Reply"
import * as ReplyUpdate from "@opencode-turn/core/ReplyUpdate"
import type { Subagent } from "@opencode-turn/core/Subagent"
import { streamTurn, type TurnUpdate } from "@opencode-turn/core/Turn"
import type { TurnEvent } from "@opencode-turn/core/TurnEvent"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import * as Usage from "@opencode-turn/core/Usage"
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"
import * as Faults from "@opencode-turn/testing/Faults"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Effect from "effect/Effect"
import * as ErrorReporter from "effect/ErrorReporter"
import * as Fiber from "effect/Fiber"
import * as HashSet from "effect/HashSet"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Driving from "../support/driving.ts"
import * as Make from "../support/make.ts"
import * as Turns from "../support/turns.ts"

const { child, fold, grandchild, promptId, root } = Make

/** The prompt that the tool gave the child, and the answer to it: both sort after the turn's prompt. */
const childPrompt = "msg_30_child"
const childAnswer = "msg_31_child"

const answering = (sessionId: SessionId, prompt: string, fields: Partial<AssistantMessage> = {}) => ({
  sessionId,
  parentId: MessageId.make(prompt),
  ...fields
})
const prompted = (sessionId = child, id = childPrompt) => Make.message(Make.user(id, { sessionId }))
const answered = (
  fields: Partial<AssistantMessage> = {},
  sessionId = child,
  id = childAnswer,
  prompt = childPrompt
) => Make.message(Make.assistant(id, answering(sessionId, prompt, fields)))
const said = (id: string, text: string, sessionId = child, messageId = childAnswer) => [
  Make.part(Make.text(id, "", false, messageId), sessionId),
  Make.delta(id, text, { messageId, sessionId })
]
const task = (id: string, subagent: SessionId | undefined, messageId: string = Make.answerId) =>
  Make.tool(id, {
    tool: "task",
    status: "running",
    messageId: MessageId.make(messageId),
    ...(subagent !== undefined && { subagent })
  })
const failed = (name: string, sessionId = child): TurnEvent => ({ ...Make.failed(name), sessionId })
const retry = (attempt: number, sessionId = child): TurnEvent => ({ ...Make.retry(attempt), sessionId })

/** A child that the root opened, and that began to answer. */
const begun = [
  Make.message(Make.assistant()),
  Make.opened(child, root),
  Make.part(task("task", child)),
  prompted(),
  answered()
]
const only = (reply: Reply.Reply): Subagent => {
  const [subagent, ...others] = Reply.subagents(reply)
  assert(subagent !== undefined && others.length === 0)
  return subagent
}
const more = (reply: Reply.Reply, ...events: ReadonlyArray<TurnEvent>) => events.reduce(Reply.apply, reply)
const isUnchanged = (reply: Reply.Reply, ...events: ReadonlyArray<TurnEvent>) => {
  for (const event of events) assert.strictEqual(Reply.apply(reply, event), reply, event._tag)
}

describe("the reply of a subagent", () => {
  it("is separate: the root's parts, text and usage are the same as without the subagent", () => {
    const reply = fold(...begun, ...said("c", "child words"), Make.part(Make.finish("f", 2, childAnswer), child))
    assert.deepStrictEqual(Reply.parts(reply).map(({ id }) => id), ["task"])
    assert.strictEqual(Reply.text(reply), "")
    assert.strictEqual(Reply.usage(reply).cost, 0)
    assert.isFalse(Reply.hasText(reply))
    assert.deepStrictEqual(only(reply), {
      sessionId: child,
      parentId: root,
      openedBy: PartId.make("task"),
      title: "sub",
      agent: "general",
      status: "running",
      text: "child words",
      usage: Make.usage(2)
    })
    const usage = Reply.turnUsage(reply)
    assert.deepStrictEqual([usage.total.cost, usage.root.cost, usage.subagents.cost], [2, 0, 2])
  })

  it("is folded for the subagent of a subagent too", () => {
    const reply = fold(
      ...begun,
      Make.part(task("inner", grandchild, childAnswer), child),
      Make.opened(grandchild, child),
      prompted(grandchild, "msg_40"),
      answered({}, grandchild, "msg_41", "msg_40"),
      ...said("g", "deep words", grandchild, "msg_41")
    )
    const [first, second] = Reply.subagents(reply)
    assert.deepInclude(first, { sessionId: child, openedBy: PartId.make("task"), text: "" })
    assert.deepInclude(second, {
      sessionId: grandchild,
      parentId: child,
      openedBy: PartId.make("inner"),
      text: "deep words"
    })
  })

  it("leaves out its prompt and its answers to earlier turns", () => {
    const reply = fold(
      Make.message(Make.assistant()),
      Make.opened(child, root),
      Make.part(task("task", child)),
      Make.message(Make.user("msg_02_old", { sessionId: child })),
      Make.message(Make.assistant("msg_03_old", answering(child, "msg_02_old"))),
      ...said("old", "old words", child, "msg_03_old"),
      Make.part(Make.text("early", "its prompt", false, childPrompt), child),
      prompted(),
      Make.part(Make.text("p", "its prompt", false, childPrompt), child),
      answered(),
      ...said("c", "new words"),
      { _tag: "TurnContinued", ...Make.base(child), messageId: MessageId.make("msg_02_old") }
    )
    assert.strictEqual(only(reply).text, "new words")
    assert.deepStrictEqual(Reply.subagentStates(reply).map(({ reply }) => Reply.size(reply).parts), [1])
    assert.strictEqual(Reply.steps(reply), 2)
  })

  describe("of a session that an earlier turn used too", () => {
    const called = (id: string, startedMillis: number) => Make.part({ ...task(id, child), startedMillis })
    const old = { sessionId: child, createdMillis: 60 }
    const before = [
      Make.message(Make.user("msg_30_old", old)),
      Make.message(Make.ended("msg_31_old", { ...old, parentId: MessageId.make("msg_30_old") })),
      ...said("old", "old words", child, "msg_31_old"),
      Make.part(Make.finish("f_old", 5, "msg_31_old"), child)
    ]
    const fresh = { sessionId: child, createdMillis: 102 }
    const after = [
      Make.message(Make.user("msg_40", fresh)),
      Make.message(Make.ended("msg_41", { ...fresh, parentId: MessageId.make("msg_40") })),
      ...said("new", "new words", child, "msg_41"),
      Make.part(Make.finish("f_new", 3, "msg_41"), child)
    ]
    const calling = Make.assistant(undefined, { createdMillis: 90 })
    const answer = Make.message(calling)

    it("leaves out work for an earlier turn that came after the last message of the root", () => {
      for (
        const events of [
          [called("task", 100), ...before, ...after],
          [Make.opened(child, root), ...before, called("task", 100), ...after, ...before.slice(0, 2)],
          [called("task", 200), called("again", 100), ...before, ...after]
        ]
      ) {
        const reply = fold(answer, ...events)
        assert.deepInclude(only(reply), { text: "new words", usage: Make.usage(3) })
        assert.strictEqual(Reply.steps(reply), 2)
      }
    })

    it("begins with the message of its first call, whether the start of a call is known or not", () => {
      const [first, second] = [task("first", child), task("second", child)]
      for (
        const calls of [
          [{ ...first, startedMillis: 100 }, { ...second, startedMillis: 200 }],
          [{ ...first, startedMillis: 200 }, { ...second, startedMillis: 100 }],
          [{ ...first, startedMillis: 100 }, second],
          [first, { ...second, startedMillis: 100 }],
          [{ ...first, startedMillis: 300 }]
        ]
      ) {
        const reply = Reply.merge(fold(), [Make.stored(Make.user()), Make.stored(calling, ...calls)])
        const told = more(reply, ...before, ...after)
        assert.deepInclude(only(told), { openedBy: PartId.make("first"), text: "new words" })
      }
    })

    it("leaves that work out of the server's record too", () => {
      const record = [
        Make.stored(Make.user("msg_30_old", old)),
        Make.stored(
          Make.ended("msg_31_old", { ...old, parentId: MessageId.make("msg_30_old") }),
          Make.text("old", "old words", true, "msg_31_old")
        ),
        Make.stored(Make.user("msg_40", fresh)),
        Make.stored(
          Make.ended("msg_41", { ...fresh, parentId: MessageId.make("msg_40") }),
          Make.text("new", "new words", true, "msg_41")
        )
      ]
      const reply = fold(answer, called("task", 100))
      assert.strictEqual(only(Reply.mergeSubagent(reply, child, record)).text, "new words")
      assert.strictEqual(only(Reply.reconcileSubagent(reply, child, record)).text, "new words")
    })
  })

  it("belongs to the turn even if its prompt was missed or its parts come before their message", () => {
    const reply = fold(Make.opened(child, root), ...said("c", "early words"), answered())
    assert.strictEqual(only(reply).text, "early words")
    isUnchanged(reply, prompted())
  })

  it("holds the answers to every prompt of the turn", () => {
    const reply = fold(
      ...begun,
      ...said("c", "first"),
      prompted(child, "msg_40"),
      answered({}, child, "msg_41", "msg_40"),
      ...said("d", "second", child, "msg_41")
    )
    assert.strictEqual(only(reply).text, "first\n\nsecond")
  })

  it("loses its removed parts, and keeps its to-do list apart from the turn's", () => {
    const reply = fold(...begun, ...said("c", "one"), { ...Make.todos("its own"), sessionId: child })
    assert.deepStrictEqual(Reply.todos(reply), [])
    const state = Reply.subagentStates(reply)[0]
    assert.deepStrictEqual(state && Reply.todos(state.reply).map(({ content }) => content), ["its own"])
    const without = more(reply, { _tag: "MessageRemoved", ...Make.base(child), messageId: MessageId.make(childAnswer) })
    assert.strictEqual(only(without).text, "")
  })

  it("holds its text back after a gap until the part is closed, also for a subagent that was found after the gap", () => {
    const lost = Reply.markGap(fold(...begun, ...said("c", "before ")))
    isUnchanged(lost, Make.delta("c", "after", { messageId: childAnswer, sessionId: child }))
    assert.strictEqual(Reply.markGap(lost), lost)
    const found = more(lost, Make.opened(grandchild, child))
    isUnchanged(found, Make.delta("g", "the middle", { messageId: "msg_41", sessionId: grandchild }))
  })
})

const statusOf = (...events: ReadonlyArray<TurnEvent>) => only(fold(...begun, ...events)).status

describe("the status of a subagent", () => {
  it("is running once it is opened, and completed once it is idle", () => {
    assert.strictEqual(only(fold(Make.opened(child, root))).status, "running")
    assert.strictEqual(statusOf(Make.busy(child), retry(1)), "running")
    assert.strictEqual(statusOf(Make.busy(child), Make.idle(child)), "completed")
  })

  it("is error or cancelled if the subagent failed, even if the failure is known only after the idle", () => {
    assert.strictEqual(statusOf(failed("APIError"), Make.idle(child)), "error")
    assert.strictEqual(statusOf(failed("MessageAbortedError"), Make.idle(child)), "cancelled")
    assert.strictEqual(statusOf(Make.idle(child), failed("MessageAbortedError")), "cancelled")
    assert.strictEqual(statusOf(Make.idle(child), answered({ error: Make.failure("APIError") })), "error")
  })

  it("is running again after a second call, and then tells how the second run ended", () => {
    const again = () => [prompted(child, "msg_40"), Make.busy(child)]
    assert.strictEqual(statusOf(Make.idle(child), ...again()), "running")
    assert.strictEqual(statusOf(failed("APIError"), Make.idle(child), ...again()), "running")
    assert.strictEqual(statusOf(failed("APIError"), Make.idle(child), ...again(), Make.idle(child)), "completed")
  })

  it("follows the tool that called the subagent last if the subagent's record shows no failure", () => {
    const end = (id: string, fields: Partial<ToolPart>) => Make.part({ ...task(id, child), ...fields })
    const error = end("task", { status: "error", error: "Subagent failed: The user rejected permission" })
    assert.strictEqual(statusOf(Make.idle(child), error), "error")
    assert.strictEqual(statusOf(Make.idle(child), error, Make.idle(child)), "error")
    assert.strictEqual(
      statusOf(Make.idle(child), end("task", { status: "error", isInterrupted: true })),
      "cancelled"
    )
    const again = () => [Make.part(task("again", child)), prompted(child, "msg_40"), Make.busy(child)]
    assert.strictEqual(statusOf(Make.idle(child), error, ...again()), "running")
    assert.strictEqual(statusOf(Make.idle(child), error, ...again(), Make.idle(child)), "completed")
    const reply = fold(...begun, error)
    assert.strictEqual(only(Reply.endSubagent(more(reply, answered({ completedMillis: 2 })), child)).status, "error")
    assert.strictEqual(
      only(Reply.closeSubagents(more(reply, answered({ completedMillis: 2 })))).status,
      "error"
    )
    assert.strictEqual(statusOf(error, failed("MessageAbortedError"), Make.idle(child)), "cancelled")
  })

  it("does not return to running because of a late copy of an event", () => {
    const first = Make.idle(child)
    const second = Make.busy(child)
    const running = fold(...begun, first, second)
    isUnchanged(running, first, second)
    const [idle, again] = [Make.idle(child), Make.idle(child)]
    const failure = failed("APIError")
    const prompt = prompted(child, "msg_40")
    isUnchanged(more(running, failure, idle, again, prompt), idle, again, failure)
    const ended = more(running, idle)
    isUnchanged(ended, first, second, idle)
  })

  it("is cancelled when its session is deleted", () => {
    assert.strictEqual(statusOf({ _tag: "SessionDeleted", ...Make.base(child) }), "cancelled")
    assert.strictEqual(statusOf(Make.idle(child), { _tag: "SessionDeleted", ...Make.base(child) }), "completed")
  })

  it("and its failure change nothing in the root", () => {
    const reply = fold(...begun, failed("APIError"), retry(1), Make.idle(child))
    assert.isUndefined(reply.session.failure)
    assert.isUndefined(reply.session.retry)
    assert.deepStrictEqual([Reply.retries(reply), reply.session.retries], [1, 0])
  })
})

const openerOf = (...events: ReadonlyArray<TurnEvent>) => Reply.subagents(fold(...events))[0]?.openedBy

describe("the tool that opened a subagent", () => {
  const answer = Make.message(Make.assistant())

  it("is known in any order of its part, its message and the session", () => {
    const part = Make.part(task("task", child))
    assert.strictEqual(openerOf(answer, part, Make.opened(child, root)), "task")
    assert.strictEqual(openerOf(answer, Make.opened(child, root), part), "task")
    assert.strictEqual(openerOf(part, Make.opened(child, root), answer), "task")
    assert.isUndefined(openerOf(part, Make.opened(child, root)))
  })

  it("opens a session of an earlier turn again, although no event announces the session", () => {
    const part = Make.part({ ...Make.tool("task", { status: "running", subagent: child, title: "look" }) })
    const named = fold(answer, part)
    assert.deepInclude(only(named), { parentId: root, title: "look", status: "running", openedBy: PartId.make("task") })
    isUnchanged(named, part)
    const told = more(named, Make.opened(child, root))
    assert.deepInclude(only(told), { title: "sub", agent: "general", openedBy: PartId.make("task") })
    assert.deepStrictEqual(only(told), only(fold(answer, Make.opened(child, root), part)))
    isUnchanged(told, Make.opened(child, root), part)
  })

  it("is the first tool of this turn that names the session, and never one of another prompt", () => {
    const [first, second] = [Make.part(task("first", child)), Make.part(task("second", child))]
    assert.strictEqual(openerOf(answer, Make.opened(child, root), first, second, first), "first")
    const theirs = Make.message(Make.assistant("msg_05", { parentId: MessageId.make("msg_04") }))
    assert.isUndefined(openerOf(theirs, Make.opened(child, root), Make.part(task("theirs", child, "msg_05"))))
  })

  it("is the first of two calls that the record shows at once, and the second call tells how the subagent ended", () => {
    const [first, second] = [task("first", child), task("second", child)]
    const reply = fold(answer, Make.opened(child, root), prompted(), answered(), Make.idle(child))
    for (
      const [calls, status] of [
        [[{ ...first, status: "error" }, { ...second, status: "completed" }], "completed"],
        [[{ ...first, status: "completed" }, { ...second, status: "error" }], "error"]
      ] as const
    ) {
      const merged = Reply.merge(reply, [Make.stored(Make.user()), Make.stored(Make.assistant(), ...calls)])
      assert.deepInclude(only(merged), { openedBy: first.id, status })
    }
  })

  it("is known from the stored message too", () => {
    const stored = [Make.stored(Make.user()), Make.stored(Make.ended(), task("task", child))]
    const reply = fold(Make.opened(child, root))
    assert.strictEqual(only(Reply.merge(reply, stored)).openedBy, "task")
    assert.strictEqual(only(Reply.reconcile(reply, stored)).openedBy, "task")
  })
})

const counted = (reply: Reply.Reply) => [
  Reply.turnUsage(reply).total.cost,
  Reply.turnUsage(reply).subagents.cost,
  Reply.steps(reply),
  Reply.retries(reply)
]

describe("what budgets count", () => {
  it("includes the steps of the whole tree and their summaries, and of no other turn", () => {
    const reply = fold(
      ...begun,
      Make.message(Make.assistant("msg_21", { isSummary: true })),
      Make.message(Make.assistant("msg_22", { parentId: MessageId.make("msg_04") })),
      answered({}, child, "msg_32")
    )
    assert.strictEqual(Reply.steps(reply), 4)
  })

  it("leaves out sessions that no tool of the turn opened, at any depth, until the end decides whose they are", () => {
    const events = [
      Make.message(Make.assistant()),
      Make.opened(child, root),
      prompted(),
      answered(),
      Make.part(Make.finish("f", 2, childAnswer), child),
      retry(1),
      Make.part(task("inner", grandchild, childAnswer), child),
      prompted(grandchild, "msg_40"),
      answered({}, grandchild, "msg_41", "msg_40"),
      Make.part(Make.finish("g", 3, "msg_41"), grandchild)
    ]
    const reply = fold(...events)
    assert.deepStrictEqual(counted(reply), [0, 0, 1, 0])
    assert.deepStrictEqual(counted(more(reply, Make.part(task("task", child)))), [5, 5, 3, 1])
    assert.deepStrictEqual(counted(Reply.closeSubagents(reply)), [5, 5, 3, 1])
  })

  it("includes each retry of each session once", () => {
    const events = [Make.retry(1), Make.busy(), Make.retry(1), Make.retry(2), retry(1), Make.busy(child), retry(2)]
    const reply = fold(...begun, ...events.flatMap((event) => [event, event]))
    assert.strictEqual(Reply.retries(reply), 5)
    isUnchanged(reply, ...events)
  })
})

/** A call of a subagent that failed, and whose part never named the subagent's session. */
const calling = (id: string, description: string, fields: Partial<ToolPart> = {}) =>
  Make.part({ ...task(id, undefined), input: { description }, status: "error", startedMillis: 11, ...fields })
const titled = (title: string, sessionId = child) => Make.opened(sessionId, root, title)
const answerAtTen = Make.message(Make.ended(Make.answerId, { createdMillis: 10 }))
const working = (createdMillis: number, sessionId = child) => [
  Make.message(Make.user(childPrompt, { sessionId, createdMillis })),
  Make.message(Make.ended(childAnswer, answering(sessionId, childPrompt, { createdMillis }))),
  ...said(`said_${sessionId}`, "words", sessionId)
]
const closed = (...events: ReadonlyArray<TurnEvent>) => Reply.subagents(Reply.closeSubagents(fold(...events)))
const pairs = (...events: ReadonlyArray<TurnEvent>) =>
  closed(answerAtTen, ...events).map(({ openedBy, sessionId, status }) => [sessionId, openedBy, status].map(String))

describe("the record of a subagent", () => {
  const record = (...parts: Message["parts"]): ReadonlyArray<Message> => [
    Make.stored(
      Make.ended("msg_03_old", answering(child, "msg_02_old")),
      Make.text("old", "old words", true, "msg_03_old")
    ),
    Make.stored(Make.user(childPrompt, { sessionId: child }), Make.text("p", "its prompt", true, childPrompt)),
    Make.stored(Make.ended(childAnswer, answering(child, childPrompt)), ...parts)
  ]
  const full = record(Make.text("c", "all of it", true, childAnswer), Make.finish("f", 3, childAnswer))

  it("replaces the streamed reply at the end, from this turn on, and so does its status", () => {
    const reply = fold(...begun, ...said("c", "half"), ...said("d", "never stored"))
    const final = Reply.reconcileSubagent(reply, child, full)
    assert.deepInclude(only(final), { text: "all of it", usage: Make.usage(3), status: "completed" })
    assert.strictEqual(Reply.steps(final), 2)
    assert.deepStrictEqual(Reply.subagents(Reply.reconcileSubagent(final, child, full)), Reply.subagents(final))
  })

  it("removes nothing while the turn runs", () => {
    const reply = Reply.markGap(fold(...begun, ...said("c", "more than is stored")))
    const open = Make.text("c", "", false, childAnswer)
    const info = Make.assistant(childAnswer, answering(child, childPrompt))
    const merged = Reply.mergeSubagent(reply, child, [Make.stored(info, open)])
    assert.strictEqual(only(merged).text, "more than is stored")
    assert.strictEqual(merged.eventCount, reply.eventCount)
    const later = Reply.mergeSubagent(merged, child, full)
    assert.strictEqual(only(later).text, "all of it")
    assert.strictEqual(Reply.mergeSubagent(later, child, full), later)
  })

  it("names the subagent's own subagents", () => {
    const reply = fold(...begun, Make.opened(grandchild, child))
    const merged = Reply.mergeSubagent(reply, child, record(task("inner", grandchild, childAnswer)))
    assert.strictEqual(Reply.subagents(merged)[1]?.openedBy, "inner")
  })

  it("without text removes no text whose part the stream had closed", () => {
    const closed = fold(
      ...begun,
      ...said("c", "half"),
      Make.part(Make.text("c", "half of it", true, childAnswer), child),
      Make.message(Make.ended(childAnswer, answering(child, childPrompt)))
    )
    const messages = (...parts: ReadonlyArray<WirePart>) => [
      Make.stored(Make.user(childPrompt, { sessionId: child })),
      Make.stored(Make.ended(childAnswer, answering(child, childPrompt)), ...parts)
    ]
    const textOf = (...parts: ReadonlyArray<WirePart>) =>
      only(Reply.reconcileSubagent(closed, child, messages(...parts))).text
    assert.strictEqual(textOf(), "half of it")
    assert.strictEqual(textOf(Make.text("c", " ", true, childAnswer)), "half of it")
    assert.strictEqual(textOf(Make.text("c", "half", true, childAnswer)), "half")
  })

  it("says that a failed or aborted subagent ended so; an empty record says nothing", () => {
    const ended = (fields: Partial<AssistantMessage>) =>
      only(Reply.reconcileSubagent(fold(...begun, ...said("c", "half")), child, [
        Make.stored(Make.user(childPrompt, { sessionId: child })),
        Make.stored(Make.assistant(childAnswer, answering(child, childPrompt, fields)))
      ])).status
    assert.strictEqual(ended({ error: Make.failure("APIError") }), "error")
    assert.strictEqual(ended({ error: Make.failure("MessageAbortedError") }), "cancelled")
    assert.strictEqual(ended({}), "cancelled", "cut off")
    const reply = fold(...begun, ...said("c", "half"))
    assert.strictEqual(Reply.reconcileSubagent(reply, child, []), reply)
    assert.strictEqual(Reply.reconcileSubagent(reply, Make.stranger, full), reply)
  })

  it("ends the subagent when the turn has ended", () => {
    assert.strictEqual(only(Reply.closeSubagents(fold(...begun))).status, "cancelled")
    assert.strictEqual(only(Reply.closeSubagents(fold(...begun, answered({ completedMillis: 2 })))).status, "completed")
  })

  describe("that no tool part names, because its call failed before a running part named the session", () => {
    it("joins the turn by the title that the call gave it, also if it worked before its call was noted", () => {
      const failed = [[child, "call", "error"]]
      for (const title of ["sub", "sub (@general subagent)"]) {
        assert.deepEqual(pairs(titled(title), ...working(10), calling("call", "sub")), failed)
      }
      assert.deepEqual(pairs(calling("call", "sub"), titled("sub"), ...working(12)), failed)
    })

    it("joins in the order of the calls if their titles are the same", () => {
      const events = [titled("sub"), titled("sub", grandchild), ...working(12), ...working(13, grandchild)]
      assert.deepEqual(pairs(...events, calling("one", "sub"), calling("two", "sub"), calling("three", "sub")), [
        [child, "one", "error"],
        [grandchild, "two", "error"]
      ])
    })

    it("joins no call of another title, none that names its own, none that was refused or did not begin", () => {
      const events = [titled("sub"), ...working(12)]
      assert.deepEqual(pairs(...events, calling("call", "su")), [])
      assert.deepEqual(pairs(...events, calling("call", "sub", { isRefused: true })), [])
      assert.deepEqual(pairs(...events, calling("call", "sub", { tool: "bash" })), [])
      assert.deepEqual(pairs(...events, Make.part({ ...task("call", undefined), input: { description: "sub" } })), [])
      assert.deepEqual(pairs(...events, calling("call", "sub", { subagent: grandchild })), [
        [grandchild, "call", "cancelled"]
      ])
    })

    it("does not join if it worked before the call's message: it is an earlier turn's", () => {
      assert.deepEqual(pairs(titled("sub"), ...working(9), calling("call", "sub")), [])
    })
  })

  it("joins a turn only if one of its tools names the subagent, or if that tool may have been missed", () => {
    const unnamed = [Make.opened(child, root), prompted(), answered(), ...said("c", "words")]
    assert.deepStrictEqual(closed(...unnamed), [])
    assert.deepStrictEqual(closed(Make.message(Make.ended()), ...unnamed), [])
    assert.lengthOf(closed(Make.message(Make.assistant()), ...unnamed), 1)
    assert.deepStrictEqual(closed(Make.message(Make.assistant()), Make.opened(child, root)), [])
  })
})

describe("a subagent that was stored", () => {
  const stored: Subagent = {
    sessionId: child,
    parentId: root,
    openedBy: PartId.make("task"),
    title: "sub",
    agent: "general",
    status: "running",
    text: "stored words",
    usage: Make.usage(5)
  }
  const restored = Reply.restore({ sessionId: root, promptId }, [task("task", child)], [stored])

  it("keeps its stored reply until the server's record replaces it", () => {
    assert.deepStrictEqual(only(restored), stored)
    assert.isTrue(Reply.isInTree(restored, child))
    const record = [
      Make.stored(Make.user(childPrompt, { sessionId: child })),
      Make.stored(
        Make.ended(childAnswer, answering(child, childPrompt)),
        Make.text("c", "stored words and more", true, childAnswer),
        Make.finish("f", 7, childAnswer)
      )
    ]
    for (const reply of [Reply.mergeSubagent, Reply.reconcileSubagent].map((read) => read(restored, child, record))) {
      assert.deepInclude(only(reply), { text: "stored words and more", usage: Make.usage(7) })
    }
    assert.deepStrictEqual(only(Reply.reconcileSubagent(restored, child, [])), stored)
  })

  it("still tells why it failed", () => {
    const failed: Subagent = { ...stored, status: "error", failure: Make.failure("APIError") }
    assert.deepStrictEqual(
      only(Reply.restore({ sessionId: root, promptId }, [task("task", child)], [failed])),
      failed
    )
  })

  it("continues with the events of the stream", () => {
    const reply = more(restored, answered(), ...said("c", "new words"), Make.idle(child))
    assert.deepInclude(only(reply), { text: "stored words\n\nnew words", status: "completed" })
  })
})

describe("properties of a tree", () => {
  const scripts: ReadonlyArray<ReadonlyArray<TurnEvent>> = [
    [
      Make.message(Make.user()),
      Make.message(Make.assistant()),
      ...said("a", "root words", root, Make.answerId),
      Make.part(task("task", undefined)),
      Make.part(task("task", child)),
      Make.retry(1),
      Make.busy(),
      Make.part(Make.finish("fa", 1)),
      Make.message(Make.ended()),
      Make.idle()
    ],
    [
      prompted(),
      Make.part(Make.text("p", "its prompt", false, childPrompt), child),
      Make.busy(child),
      answered(),
      ...said("c", "child words"),
      Make.part(task("inner", grandchild, childAnswer), child),
      { ...Make.todos("its own"), sessionId: child },
      retry(1),
      Make.busy(child),
      Make.part(Make.finish("fc", 2, childAnswer), child),
      failed("APIError"),
      Make.idle(child),
      answered({ error: Make.failure("APIError") }),
      Make.idle(child),
      prompted(child, "msg_50"),
      Make.busy(child),
      answered({}, child, "msg_51", "msg_50"),
      ...said("e", "again", child, "msg_51"),
      Make.idle(child)
    ],
    [
      answered({}, grandchild, "msg_41", "msg_40"),
      ...said("g", "deep words", grandchild, "msg_41"),
      prompted(grandchild, "msg_40"),
      Make.part(Make.finish("fg", 3, "msg_41"), grandchild),
      Make.idle(grandchild),
      failed("MessageAbortedError", grandchild)
    ]
  ]
  const openings = [Make.opened(child, root), Make.opened(grandchild, child)]

  /** The scripts as one stream: each in its order, mixed by the choices. */
  const mixed = (choices: ReadonlyArray<number>): ReadonlyArray<TurnEvent> => {
    const left = scripts.map((script) => [...script])
    const events: Array<TurnEvent> = []
    for (let at = 0; left.some((script) => script.length > 0); at++) {
      const open = left.filter((script) => script.length > 0)
      const next = open[(choices[at % choices.length] ?? 0) % open.length]?.shift()
      if (next !== undefined) events.push(next)
    }
    return events
  }
  const index = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 10_000 }))
  const choices = Schema.Array(index).check(Schema.isMinLength(1), Schema.isMaxLength(40))
  const options = { arbitrary: { runs: 300 } }

  it.prop("the replies of sessions do not depend on the order in which the events of different sessions interleave", {
    choices
  }, ({ choices }) => {
    const reply = fold(...openings, ...mixed(choices))
    const inOrder = fold(...openings, ...scripts.flat())
    assert.deepStrictEqual(Reply.subagentStates(reply), Reply.subagentStates(inOrder))
    assert.deepStrictEqual(Reply.result(reply), Reply.result(inOrder))
    assert.deepStrictEqual(Reply.parts(reply), Reply.parts(fold(...(scripts[0] ?? []))))
    assert.deepStrictEqual(Reply.subagents(reply).map(({ openedBy, status, text }) => [openedBy, status, text]), [
      ["task", "completed", "again"],
      ["inner", "cancelled", "deep words"]
    ])
    assert.deepStrictEqual([Reply.steps(reply), Reply.retries(reply)], [4, 2])
  }, options)

  const removals: ReadonlyArray<TurnEvent> = [
    { _tag: "PartRemoved", ...Make.base(), messageId: Make.answerId, partId: PartId.make("fa") },
    { _tag: "MessageRemoved", ...Make.base(child), messageId: MessageId.make(childAnswer) },
    Make.part(Make.finish("fc", 7, childAnswer), child),
    Make.part(Make.finish("fe", 4, "msg_51"), child)
  ]

  it.prop("its sums are those of its sessions after each event, in any order and with any events left out", {
    picks: Schema.Array(index).check(Schema.isMaxLength(60))
  }, ({ picks }) => {
    const events = [...openings, ...scripts.flat(), ...removals]
    const played = picks.flatMap((pick) => events[pick % events.length] ?? [])
    let reply = Make.empty
    for (const event of played) {
      reply = Reply.apply(reply, event)
      assert.deepStrictEqual(sumsOf(reply), recounted(reply))
    }
    const closed = Reply.closeSubagents(reply)
    assert.deepStrictEqual(sumsOf(closed), recounted(closed))
  }, options)

  it.prop("folding an event a second time, at once or later, returns the same reply", {
    choices,
    repeats: Schema.Array(Schema.Tuple([index, index])).check(Schema.isMaxLength(30))
  }, ({ choices, repeats }) => {
    const events = [...openings, ...mixed(choices)]
    let reply = Make.empty
    for (const [at, event] of events.entries()) {
      reply = Reply.apply(reply, event)
      const late = repeats.flatMap(([from, to]) => to % events.length === at ? (events[from % (at + 1)] ?? []) : [])
      isUnchanged(reply, event, ...late)
    }
  }, options)
})

const sumsOf = (reply: Reply.Reply) => ({
  steps: Reply.steps(reply),
  retries: Reply.retries(reply),
  usage: Reply.turnUsage(reply),
  size: Reply.size(reply)
})

const used = (all: ReadonlyArray<Reply.Reply>) =>
  Usage.sum(all.flatMap(Reply.parts).filter((part) => part.type === "step-finish"))

/** The sums of a reply, counted anew. */
const recounted = (reply: Reply.Reply): ReturnType<typeof sumsOf> => {
  const states = Reply.subagentStates(reply)
  const own = new Set([root])
  for (const { openedBy, parentId, sessionId } of states) {
    if (reply.session.isClosed || (openedBy !== undefined && own.has(parentId))) own.add(sessionId)
  }
  const replies = [reply, ...states.map(({ reply }) => reply)]
  const owned = replies.filter(({ sessionId }) => own.has(sessionId))
  const total = (of: (reply: Reply.Reply) => number, all = replies) => all.reduce((sum, reply) => sum + of(reply), 0)
  return {
    steps: total((each) => Reply.messages(each).filter(({ ownership }) => ownership !== "foreign").length, owned),
    retries: total(({ session }) => session.retries, owned),
    usage: { total: used(owned), root: used(owned.slice(0, 1)), subagents: used(owned.slice(1)) },
    size: {
      openAsks: Reply.asks(reply).length,
      subagents: states.length,
      messages: total(({ session: { continuations, messages, userMessages } }) =>
        Ordered.size(messages) + HashSet.size(userMessages) + HashSet.size(continuations)
      ),
      parts: total(({ entries }) => Ordered.size(entries))
    }
  }
}

/** What a watcher gets for each of the events. */
const updatesOf = (before: Reply.Reply, ...events: ReadonlyArray<TurnEvent>): ReadonlyArray<ReplyUpdate.ReplyUpdate> =>
  events.flatMap((event) => {
    const [after, told] = Reply.fold(before, event)
    const updates = ReplyUpdate.fromFold(before, after, told)
    before = after
    return updates
  })
const tagsOf = (updates: ReadonlyArray<ReplyUpdate.ReplyUpdate | TurnUpdate>) =>
  updates.map((update) => (update._tag === "SubagentUpdate" ? `${update._tag} ${update.update._tag}` : update._tag))

describe("the updates of a subagent", () => {
  it("carry its session and the tool part that opened it, and follow the updates that announce both", () => {
    const updates = updatesOf(
      Make.empty,
      ...begun,
      ...said("c", "words"),
      { ...Make.todos("its own"), sessionId: child },
      retry(1),
      Make.asked("per_1", child),
      Make.resolved("per_1", child),
      failed("APIError"),
      failed("UnknownError"),
      Make.idle(child),
      answered({ error: Make.failure("APIError") })
    )
    assert.deepStrictEqual(tagsOf(updates), [
      "SubagentChanged",
      "PartChanged",
      "SubagentChanged",
      "SubagentUpdate PartChanged",
      "SubagentUpdate TextDelta",
      "SubagentUpdate TodosChanged",
      "SubagentUpdate PartChanged",
      "SubagentUpdate Retrying",
      "Asked",
      "AskResolved",
      "SubagentUpdate Failed",
      "SubagentChanged",
      "SubagentChanged"
    ])
    const openedBy = PartId.make("task")
    for (const update of updates) {
      if (update._tag === "SubagentUpdate") assert.deepInclude(update, { sessionId: child, openedBy })
      if (update._tag === "Asked") assert.strictEqual(update.openedBy, openedBy)
    }
    const changes = updates.flatMap((update) => (update._tag === "SubagentChanged" ? [update.subagent] : []))
    assert.deepStrictEqual(changes.map(({ failure, openedBy, status }) => [openedBy, status, failure?.name]), [
      [undefined, "running", undefined],
      [openedBy, "running", undefined],
      [openedBy, "running", "APIError"],
      [openedBy, "error", "APIError"]
    ])
  })

  it("correct its status if an event after the idle says otherwise, and say when it runs again", () => {
    const updates = updatesOf(
      fold(...begun),
      Make.idle(child),
      failed("MessageAbortedError"),
      prompted(child, "msg_40"),
      Make.busy(child)
    )
    assert.deepStrictEqual(
      updates.flatMap((update) =>
        update._tag === "SubagentChanged" ? [[update.subagent.status, update.subagent.failure?.name]] : []
      ),
      [["completed", undefined], ["cancelled", "MessageAbortedError"], ["cancelled", undefined], ["running", undefined]]
    )
  })

  it("give its title as soon as it is known", () => {
    const named = fold(Make.message(Make.assistant()), Make.part(task("task", child)))
    const [update, ...others] = updatesOf(named, Make.opened(child, root))
    assert.lengthOf(others, 0)
    assert(update?._tag === "SubagentChanged")
    assert.deepInclude(update.subagent, { title: "sub", agent: "general", openedBy: PartId.make("task") })
  })

  it("are a reset if its changes cannot be given part by part", () => {
    const before = fold(...begun, Make.part(Make.text("late", "", false, "msg_32"), child), ...said("c", "words"))
    const event = answered({}, child, "msg_32")
    assert.deepStrictEqual(updatesOf(before, event), [
      { _tag: "Reset", reason: "reconciled", ...ReplyUpdate.shown(Reply.apply(before, event)) }
    ])
  })

  it("leave out events that change nothing", () => {
    const before = fold(...begun, ...said("c", "words"))
    assert.deepStrictEqual(updatesOf(before, ...begun, prompted(), Make.busy(child), Make.opened(child, root)), [])
  })

  it("give the failure of the root once, whichever event brings it", () => {
    const filtered = Make.message(Make.assistant(Make.answerId, { error: Make.failure("ContentFilterError") }))
    assert.deepStrictEqual(tagsOf(updatesOf(Make.empty, Make.failed("APIError"), Make.failed("UnknownError"))), [
      "Failed"
    ])
    assert.deepStrictEqual(tagsOf(updatesOf(Make.empty, filtered, Make.failed("ContentFilterError"))), ["Failed"])
  })
})

describe("whether a reader sees the same", () => {
  const reply = fold(...begun, ...said("c", "words"))

  it("depends on the replies and the statuses of subagents", () => {
    assert.isFalse(ReplyUpdate.isSameToReader(reply, more(reply, ...said("d", "!"))))
    assert.isFalse(ReplyUpdate.isSameToReader(reply, more(reply, Make.idle(child))))
    assert.isFalse(ReplyUpdate.isSameToReader(reply, more(reply, Make.opened(grandchild, child))))
  })

  it("does not depend on changes that no reader sees", () => {
    assert.isTrue(ReplyUpdate.isSameToReader(reply, Reply.markGap(reply)))
    assert.isTrue(
      ReplyUpdate.isSameToReader(reply, more(reply, Make.message(Make.user("msg_60", { sessionId: child }))))
    )
  })
})

const deltas = (updates: ReadonlyArray<ReplyUpdate.ReplyUpdate>) =>
  updates.map((update) =>
    update._tag === "SubagentUpdate" && update.update._tag === "TextDelta"
      ? [update.update.partId, update.update.delta]
      : update._tag
  )

describe("a watcher of a subagent", () => {
  const watched = Effect.gen(function*() {
    const live = yield* LiveReply.make
    const queue = yield* live.watch
    live.begin({ sessionId: root, promptId })
    for (const event of [...begun, ...said("c", ""), ...said("d", "")]) live.apply(event)
    live.flush()
    yield* Queue.clear(queue)
    return {
      live,
      read: Queue.clear(queue),
      say: (id: string, words: string) =>
        live.apply(Make.delta(id, words, { messageId: childAnswer, sessionId: child }))
    }
  })

  it.effect("gets one delta for each part and read", () =>
    Effect.gen(function*() {
      const { live, read, say } = yield* watched
      for (const word of ["one ", "two"]) say("c", word)
      say("d", "three")
      live.flush()
      assert.deepStrictEqual(deltas(yield* read), [["c", "one two"], ["d", "three"]])
    }))

  it.effect("that reads seldom gets the deltas of several reads joined, and none twice", () =>
    Effect.gen(function*() {
      const { live, read, say } = yield* watched
      const second = yield* live.watch
      for (const word of ["one ", "two ", "three"]) {
        say("c", word)
        live.flush()
      }
      assert.deepStrictEqual(deltas(yield* read), [["c", "one two three"]])
      assert.deepStrictEqual(deltas(yield* Queue.clear(second)), [["c", "one two three"]])
      say("c", "!")
      live.flush()
      assert.deepStrictEqual(deltas(yield* read), [["c", "!"]])
      assert.strictEqual(only(live.current()).text, "one two three!")
    }))
})

const session = (id: SessionId, parentId: SessionId): Session => ({
  id,
  parentId,
  title: `title of ${id}`,
  agent: "general",
  directory: "/project",
  createdMillis: 1,
  updatedMillis: 2,
  permission: [],
  metadata: {},
  usage: Usage.zero,
  model: undefined,
  revertedFrom: undefined
})

const answers = (status: number) =>
  new ClientError.StatusError({ operation: "listMessages", status, name: "BadRequest", detail: "no" })

const reporting = (features: Array<unknown>) =>
  ErrorReporter.layer([ErrorReporter.make(({ attributes }) => void features.push(attributes["feature"]))])

const stored = (sessionId: SessionId, prompt: string, answer: string, ...parts: Message["parts"]) => [
  Make.stored(Make.user(prompt, { sessionId })),
  Make.stored(Make.ended(answer, answering(sessionId, prompt)), ...parts)
]

describe("reading the subagents", () => {
  const records = new Map<SessionId, ReadonlyArray<Message>>([
    [
      child,
      [
        ...stored(child, "msg_02_old", "msg_03_old", Make.text("old", "old words", true, "msg_03_old")),
        ...stored(
          child,
          childPrompt,
          childAnswer,
          task("inner", grandchild, childAnswer),
          Make.text("c", "child words", true, childAnswer),
          Make.finish("fc", 2, childAnswer)
        )
      ]
    ],
    [
      grandchild,
      stored(
        grandchild,
        "msg_40",
        "msg_41",
        Make.text("g", "deep words", true, "msg_41"),
        Make.finish("fg", 3, "msg_41")
      )
    ]
  ])
  const children = new Map([
    [root, [session(child, root), session(Make.stranger, root)]],
    [child, [session(grandchild, child)]]
  ])
  const listMessages: Client["Service"]["listMessages"] = (id) =>
    Effect.succeed({ messages: records.get(id) ?? [], before: Option.none() })
  /** A server that has the records, and counts what it was asked. */
  const server = (
    asked: Array<string>,
    replaced: Partial<Pick<Client["Service"], "listMessages" | "children" | "statuses">> = {}
  ) => {
    const noting =
      <A extends ReadonlyArray<unknown>, B>(name: string, f: (id: SessionId, ...rest: A) => B) =>
      (id: SessionId, ...rest: A) => {
        asked.push(`${name} ${id}`)
        return f(id, ...rest)
      }
    return Layer.mock(Client, {
      origin: "http://127.0.0.1",
      statuses: replaced.statuses ?? Effect.succeed(new Map()),
      children: noting("children", replaced.children ?? ((id) => Effect.succeed(children.get(id) ?? []))),
      listMessages: noting("messages", replaced.listMessages ?? listMessages),
      getMessage: (id, messageId) =>
        Effect.mapError(
          Effect.fromNullishOr(records.get(id)?.find(({ info }) => info.id === messageId)),
          () => new ClientError.MessageNotFound({ sessionId: id, messageId })
        )
    })
  }
  const liveWith = Effect.fnUntraced(function*(...events: ReadonlyArray<TurnEvent>) {
    const live = yield* LiveReply.make
    live.begin({ sessionId: root, promptId })
    for (const event of events) live.apply(event)
    return live
  })

  it.effect("leaves a subagent running that works on, unless the turn was stopped", () =>
    Effect.gen(function*() {
      const working = { statuses: Effect.succeed(new Map([[child, { type: "busy" as const }]])) }
      const events = [...begun, ...said("c", "child words")]
      const live = yield* liveWith(...events)
      yield* Effect.provide(readSubagents(live), server([], working))
      live.update(Reply.closeSubagents)
      const stopped = yield* liveWith(...events)
      yield* Effect.provide(readSubagents(stopped, { wasStopped: true }), server([], working))
      const statuses = [live, stopped].map((live) => LiveReply.subagents(live)[0]?.status)
      assert.deepStrictEqual(statuses, ["running", "completed"])
    }))

  it.effect("sends no request for a turn without subagents", () =>
    Effect.gen(function*() {
      const live = yield* liveWith(Make.message(Make.assistant()), Make.part(Make.tool("t")))
      const before = live.current()
      const asked: Array<string> = []
      yield* Effect.provide(readSubagents(live), server(asked))
      assert.deepStrictEqual(asked, [])
      assert.strictEqual(live.current(), before)
    }))

  it.effect("finds a subagent that neither the stream nor the call that opened it named", () =>
    Effect.gen(function*() {
      const call = { ...task("task", undefined), input: { description: `title of ${child}` }, startedMillis: 11 }
      const live = yield* liveWith(Make.message(Make.assistant()), Make.part({ ...call, status: "error" }))
      const asked: Array<string> = []
      yield* Effect.provide(readSubagents(live), server(asked))
      assert.deepStrictEqual(Reply.subagents(live.current()).map(({ openedBy, text }) => [openedBy, text]), [
        [call.id, "child words"],
        [PartId.make("inner"), "deep words"]
      ])
    }))

  it.effect("finds subagents that the stream missed, at any depth, and reads their records", () =>
    Effect.gen(function*() {
      const live = yield* liveWith(Make.message(Make.assistant()), Make.part(task("task", child)))
      const asked: Array<string> = []
      yield* Effect.provide(readSubagents(live), server(asked))
      assert.deepStrictEqual(Reply.subagents(live.current()), [
        {
          sessionId: child,
          parentId: root,
          openedBy: PartId.make("task"),
          title: `title of ${child}`,
          agent: "general",
          status: "completed",
          text: "child words",
          usage: Make.usage(2)
        },
        {
          sessionId: grandchild,
          parentId: child,
          openedBy: PartId.make("inner"),
          title: `title of ${grandchild}`,
          agent: "general",
          status: "completed",
          text: "deep words",
          usage: Make.usage(3)
        }
      ])
      assert.strictEqual(Reply.turnUsage(live.current()).subagents.cost, 5)
      yield* Effect.provide(readSubagents(live), server(asked))
      assert.deepStrictEqual(asked, [
        `children ${root}`,
        `messages ${child}`,
        `children ${child}`,
        `messages ${grandchild}`,
        // All of them are known now.
        `messages ${child}`,
        `messages ${grandchild}`
      ])
    }))

  it.effect("reads known messages one by one if the server cannot list them", () =>
    Effect.gen(function*() {
      const live = yield* liveWith(...begun)
      yield* Effect.provide(readSubagents(live), server([], { listMessages: () => Effect.fail(answers(400)) }))
      assert.deepInclude(Reply.subagents(live.current())[0], { text: "child words", status: "completed" })
    }))

  it.effect("reports a subagent that cannot be read, and keeps its streamed reply", () =>
    Effect.gen(function*() {
      const features: Array<unknown> = []
      const live = yield* liveWith(...begun, ...said("c", "streamed"), Make.idle(child))
      yield* readSubagents(live).pipe(
        Effect.provide([
          server([], { listMessages: () => Effect.fail(answers(500)) }),
          reporting(features)
        ]),
        Effect.provideService(TurnPolicy.RequestRetry, Schedule.recurs(0))
      )
      assert.deepInclude(only(live.current()), { text: "streamed", status: "completed" })
      assert.deepStrictEqual(features, ["subagents"])
    }))

  it.effect("takes a bounded time, and ends the subagents that it could not read", () =>
    Effect.gen(function*() {
      const features: Array<unknown> = []
      const live = yield* liveWith(...begun, ...said("c", "streamed"))
      const fiber = yield* Effect.forkChild(
        Effect.provide(readSubagents(live), [server([], { listMessages: () => Effect.never }), reporting(features)])
      )
      yield* TestClock.adjust("4999 millis")
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      yield* Fiber.join(fiber)
      assert.deepInclude(only(live.current()), { text: "streamed", status: "cancelled" })
      assert.deepStrictEqual(features, ["subagents"])
    }))

  it.effect("reads four subagents at a time", () =>
    Effect.gen(function*() {
      const ids = Array.from({ length: 10 }, (_, index) => SessionId.make(`ses_child_${index}`))
      const live = yield* liveWith(Make.message(Make.assistant()), ...ids.map((id) => Make.opened(id, root)))
      let reading = 0
      let most = 0
      const listMessages: Client["Service"]["listMessages"] = () =>
        Effect.gen(function*() {
          most = Math.max(most, ++reading)
          yield* Effect.yieldNow
          reading--
          return { messages: [], before: Option.none() }
        })
      yield* Effect.provide(readSubagents(live), server([], { listMessages }))
      assert.strictEqual(most, 4)
      // None of them did anything for this turn.
      assert.deepStrictEqual(Reply.subagents(live.current()), [])
    }))
})

/** A turn whose first step calls a subagent that looks around and answers. */
const withSubagent = (steps: ReadonlyArray<Step>): ReadonlyArray<Step> => [
  {
    tool: "task",
    args: {
      description: "look",
      prompt: FakeOpencode.prompt("Look around.", steps),
      subagent_type: "general"
    }
  },
  { text: "The parent's words." }
]
const childSteps: ReadonlyArray<Step> = [
  { reasoning: "Hm.", text: "I look.", tool: "bash", args: { command: "echo one" }, chunks: 4, chunkDelayMillis: 5 },
  { text: "All is well.", chunks: 4, chunkDelayMillis: 5 }
]

/** What a reader shows of each session in the end. */
const readTexts = (updates: ReadonlyArray<ReplyUpdate.ReplyUpdate | TurnUpdate>) => {
  const own = new Map<SessionId | "root", Array<ReplyUpdate.ReplyUpdate | TurnUpdate>>()
  const show = (id: SessionId | "root", update: ReplyUpdate.ReplyUpdate | TurnUpdate) =>
    own.set(id, [...(own.get(id) ?? []), update])
  for (const update of updates) {
    if (update._tag === "SubagentUpdate") show(update.sessionId, update.update)
    else show("root", update)
    if (update._tag === "Reset") {
      for (const { parts, sessionId } of update.subagents) show(sessionId, { ...update, parts })
    }
  }
  return new Map([...own].map(([id, shown]) => [id, Turns.readText(shown)]))
}

describe("a turn with a subagent", () => {
  const run = Effect.fnUntraced(function*(steps: ReadonlyArray<Step>, disturb: Effect.Effect<unknown> = Effect.void) {
    const updates: Array<TurnUpdate> = []
    const fiber = yield* Effect.forkChild(
      Stream.runForEach(streamTurn(Turns.turn(steps)), (update) => Effect.sync(() => void updates.push(update)))
    )
    yield* Turns.rest
    yield* TestClock.adjust("7 millis")
    yield* Turns.rest
    yield* disturb
    for (let step = 0; step < 60 && fiber.pollUnsafe() === undefined; step++) {
      yield* Turns.rest
      yield* TestClock.adjust(step < 30 ? 5 : 1000)
    }
    yield* Fiber.join(fiber)
    const last = updates.at(-1)
    assert(last?._tag === "Finished")
    const { result } = last
    const [subagent] = result.subagents
    assert(subagent !== undefined)
    return { updates, result, subagent }
  })
  const assertWhole = ({ result, subagent, updates }: Effect.Success<ReturnType<typeof run>>) => {
    assert.deepInclude(subagent, { text: "I look.\n\nAll is well.", status: "completed", agent: "general" })
    const part = result.reply.tools.find(({ subagent: named }) => named === subagent.sessionId)
    assert.strictEqual(subagent.openedBy, part?.id)
    assert.isAbove(subagent.usage.cost, 0)
    assert.deepStrictEqual(result.usage.subagents, subagent.usage)
    assert.deepStrictEqual(result.usage.total, Usage.sum([result.usage.root, subagent.usage]))
    const shown = readTexts(updates)
    assert.strictEqual(shown.get("root"), "The parent's words.")
    assert.strictEqual(shown.get(subagent.sessionId), subagent.text)
  }

  Turns.test("streams the updates of the subagent, marked with its session", () =>
    Effect.gen(function*() {
      const turn = yield* run(withSubagent(childSteps))
      assertWhole(turn)
      const own = turn.updates.flatMap((update) =>
        update._tag === "SubagentUpdate" || update._tag === "SubagentChanged" ? [update] : []
      )
      assert.strictEqual(own[0]?._tag, "SubagentChanged")
      const { openedBy } = turn.subagent
      assert.isTrue(own.every((update) => update._tag === "SubagentChanged" || update.openedBy === openedBy))
      assert.includeMembers(tagsOf(own), [
        "SubagentUpdate ReasoningDelta",
        "SubagentUpdate TextDelta",
        "SubagentUpdate PartChanged"
      ])
      assert.isFalse(turn.updates.some(({ _tag }) => _tag === "Reset"))
      assert.lengthOf(yield* Turns.requests("GET", /\/children$/), 0)
    }))

  const disturbances = [
    ["its deltas are lost", (fake) => fake.dropEvents(({ type }) => type === "message.part.delta")],
    ["its parts are lost", (fake) => fake.dropEvents(({ type }) => type === "message.part.updated", 3)],
    ["every event comes twice", (fake) => fake.duplicateEvents(() => true)],
    ["the stream is cut", (fake) => fake.cutEvents],
    [
      "the subagent ends while the stream is lost",
      (fake) => Effect.andThen(fake.fail({ path: "/event" }, Faults.delay("3 seconds")), fake.cutEvents)
    ]
  ] satisfies ReadonlyArray<
    readonly [string, (fake: FakeOpencode.FakeOpencode["Service"]) => Effect.Effect<unknown>]
  >
  for (const [name, disturb] of disturbances) {
    Turns.test(`has the whole reply of the subagent if ${name}`, () =>
      Effect.gen(function*() {
        const fake = yield* FakeOpencode.FakeOpencode
        assertWhole(yield* run(withSubagent(childSteps), disturb(fake)))
      }))
  }

  Turns.test("tells how the subagent failed, and goes on", () =>
    Effect.gen(function*() {
      const { result, subagent, updates } = yield* run(withSubagent([{ fail: 400, message: "no" }]))
      assert.strictEqual(result.status, "completed")
      assert.strictEqual(subagent.status, "error")
      assert.strictEqual(subagent.failure?.message, "no")
      const failures = updates.flatMap((update) =>
        update._tag === "SubagentUpdate" && update.update._tag === "Failed" ? [update.update.failure.message] : []
      )
      assert.deepStrictEqual(failures, ["no"])
    }))

  Turns.test("counts the cost of the subagent even if the root fails later", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode.FakeOpencode
      yield* fake.dropEvents(({ type }) => type === "message.part.updated")
      const steps = [...withSubagent(childSteps).slice(0, 1), { fail: 400, message: "no" } as const]
      const { result, subagent } = yield* run(steps)
      assert.strictEqual(result.error?._tag, "Upstream")
      assert.isAbove(result.usage.subagents.cost, 0)
      assert.strictEqual(subagent.text, "I look.\n\nAll is well.")
    }))
})

it.effect("a to-do list that was written during a gap is read after the gap", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const running = yield* Driving.start([
      {
        tool: "todowrite",
        args: { todos: [{ content: "look", status: "in_progress", priority: "high" }] },
        delayMillis: 1000
      },
      { text: "words", delayMillis: 5000 }
    ])
    yield* fake.fail({ path: "/event" }, Faults.delay("3 seconds"))
    yield* fake.cutEvents
    const { result } = yield* Driving.finish(running, 15)
    assert.deepStrictEqual(result.reply.todos.map(({ content }) => content), ["look"])
  }).pipe(Effect.provide(Driving.layer())))
