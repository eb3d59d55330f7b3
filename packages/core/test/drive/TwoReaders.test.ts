import * as LiveReply from "#drive/LiveReply"
import { assert, describe, it } from "@effect/vitest"
import { AssistantMessageId, ConversationId, MessageId, type SessionId } from "@opencode-turn/core/Ids"
import * as Journal from "@opencode-turn/core/Journal"
import type { Part, Todo } from "@opencode-turn/core/Part"
import * as Reply from "@opencode-turn/core/Reply"
import type { ReplyUpdate, SessionUpdate } from "@opencode-turn/core/ReplyUpdate"
import type { Content } from "@opencode-turn/core/SessionStore"
import type { TurnEvent } from "@opencode-turn/core/TurnEvent"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Make from "../support/make.ts"
import * as Tapes from "../support/tapes.ts"

/**
 * What a reader shows. To-dos are a part in the journal and an update live, so they are compared apart from the parts. Waits are no update:
 * they are read with the message.
 */
interface Shown extends Journal.JournalState {
  readonly todos: ReadonlyMap<SessionId | "root", ReadonlyArray<Todo>>
}

const noTodos: Shown["todos"] = new Map()

/**
 * A turn with two readers: one follows its updates live, the other one reads what is stored in its journal. Both have to show the same
 * after each read.
 */
const withReaders = Effect.fnUntraced(function*(ids: Tapes.Tape["ids"]) {
  const live = yield* LiveReply.make
  const told: Array<ReplyUpdate> = []
  let written: Content = Journal.nothing
  let stored = Journal.apply([])
  let shown = { ...stored, todos: noTodos }
  live.subscribe((updates) => {
    for (const update of updates ?? []) {
      told.push(update)
      shown = next(shown, update)
    }
  })
  live.begin(ids)
  return {
    live,
    told,
    apply: (events: ReadonlyArray<TurnEvent>) => {
      for (const event of events) live.apply(event)
    },
    /** Stores what the turn has so far, compares what both readers show, and gives it. */
    assertSame: (when: string, comparable = withoutTodoParts) => {
      live.flush()
      const content = LiveReply.content(live)
      stored = Journal.apply(Journal.between(written, content).map(({ update }) => update), stored)
      written = content
      const seen = comparable(shown)
      assert.deepStrictEqual(comparable({ ...stored, todos: todosIn(stored) }), seen, when)
      return seen
    }
  }
})

const next = (before: Shown, update: ReplyUpdate): Shown => {
  const after = Journal.apply([update], before)
  if (update._tag === "Reset") return { ...after, todos: todosIn(after) }
  const session = update._tag === "SubagentUpdate" ? update.sessionId : "root"
  const said = update._tag === "SubagentUpdate" ? update.update : update
  return {
    ...after,
    todos: said._tag === "TodosChanged" ? new Map([...before.todos, [session, said.todos]]) : before.todos
  }
}

const todosIn = ({ parts, partsOf }: Journal.JournalState): Shown["todos"] =>
  new Map(
    ([["root", parts], ...partsOf] as const).flatMap(([session, parts]) =>
      parts.flatMap((part) => part.type === "todos" ? [[session, part.todos] as const] : [])
    )
  )

const withoutTodoParts = (shown: Shown): Shown => ({
  ...shown,
  waits: [],
  parts: shown.parts.filter(isNoTodo),
  partsOf: new Map(
    Array.from(shown.partsOf, ([id, parts]) => [id, parts.filter(isNoTodo)] as const)
      .filter(([, parts]) => parts.length > 0)
  )
})

/** Between two snapshots an announcement may come and be over, and is then told live alone. */
const withoutAnnouncements = (shown: Shown): Shown => ({
  ...withoutTodoParts(shown),
  retry: undefined,
  failure: undefined
})

const isNoTodo = ({ type }: Part): boolean => type !== "todos"

/** Where the events of a kind happen. */
interface Place {
  readonly sessionId: SessionId
  readonly messageId: string
}

/** Events that lead up to an update, and those that make it. */
interface Way {
  readonly before: ReadonlyArray<TurnEvent>
  readonly events: ReadonlyArray<TurnEvent>
}

const text = ({ messageId, sessionId }: Place) => Make.part(Make.text("a", "", false, messageId), sessionId)
const thought = ({ messageId, sessionId }: Place) => Make.part(Make.thought("r", "", false, messageId), sessionId)

/** A new update does not compile until a way to it stands here, and fails until the journal tells what the live updates tell. */
const ofSession: Record<SessionUpdate["_tag"], (place: Place) => Way> = {
  TextDelta: (place) => ({ before: [text(place)], events: [Make.delta("a", "one", place)] }),
  ReasoningDelta: (place) => ({ before: [thought(place)], events: [Make.delta("r", "hm", place)] }),
  PartChanged: (place) => ({ before: [], events: [text(place)] }),
  PartRemoved: (place) => ({
    before: [text(place)],
    events: [{
      _tag: "PartRemoved",
      ...Make.base(place.sessionId),
      messageId: MessageId.make(place.messageId),
      partId: Make.text("a", "").id
    }]
  }),
  TodosChanged: ({ sessionId }) => ({ before: [], events: [{ ...Make.todos("look"), sessionId }] }),
  Retrying: ({ sessionId }) => ({ before: [], events: [{ ...Make.retry(1), sessionId }] }),
  Failed: ({ sessionId }) => ({ before: [], events: [{ ...Make.failed("APIError"), sessionId }] })
}

const answer = Make.message(Make.assistant())
const inRoot: Place = { sessionId: Make.root, messageId: Make.answerId }
const inChild: Place = { sessionId: Make.child, messageId: "msg_31_child" }
const opened: ReadonlyArray<TurnEvent> = [
  Make.opened(Make.child, Make.root),
  Make.part(Make.tool("task", { tool: "task", status: "running", subagent: Make.child })),
  Make.message(Make.user("msg_30_child", { sessionId: Make.child })),
  Make.message(
    Make.assistant(inChild.messageId, { sessionId: Make.child, parentId: MessageId.make("msg_30_child") })
  )
]
const resetting: ReadonlyArray<TurnEvent> = [
  Make.part(Make.text("b", "", false, "msg_21")),
  text(inRoot),
  Make.message(Make.assistant("msg_21"))
]

const ofTurn: Record<Exclude<ReplyUpdate["_tag"], SessionUpdate["_tag"] | "SubagentUpdate" | "Started">, Way> = {
  SubagentChanged: { before: [answer], events: opened },
  Asked: { before: [answer], events: [Make.asked("per_1")] },
  AskResolved: { before: [answer, Make.asked("per_1")], events: [Make.resolved("per_1")] },
  Reset: { before: [answer], events: resetting }
}

const ways: ReadonlyArray<readonly [name: string, Way]> = [
  ...Object.entries(ofTurn),
  ...Object.entries(ofSession).map(([tag, way]) => {
    const { before, events } = way(inRoot)
    return [tag, { before: [answer, ...before], events }] as const
  }),
  ...Object.entries(ofSession).map(([tag, way]) => {
    const { before, events } = way(inChild)
    return [`SubagentUpdate ${tag}`, { before: [answer, ...opened, ...before], events }] as const
  })
]

/** A subagent's announcements are told live alone, and nobody shows them as a state. */
const isShown = (name: string) => name !== "SubagentUpdate Retrying" && name !== "SubagentUpdate Failed"

const root = { sessionId: Make.root, promptId: Make.promptId }

describe("a reader of the journal shows what a live reader shows", () => {
  it.effect.each(ways)("after the update %s", ([name, { before, events }]) =>
    Effect.gen(function*() {
      const { apply, assertSame, told } = yield* withReaders(root)
      apply(before)
      const shownBefore = assertSame("before")
      told.length = 0
      apply(events)
      const shown = assertSame("after")
      const names = told.map((update) =>
        update._tag === "SubagentUpdate" ? `${update._tag} ${update.update._tag}` : update._tag
      )
      assert.include(names, name)
      if (isShown(name)) assert.notDeepEqual(shown, shownBefore)
    }))

  it.effect("after the beginning, which the state of the message tells", () =>
    Effect.gen(function*() {
      const { assertSame, live, told } = yield* withReaders(root)
      live.start({
        _tag: "Started",
        conversationId: ConversationId.make("42"),
        messageId: AssistantMessageId.make("asm_1"),
        ...root
      })
      assertSame("started")
      assert.deepStrictEqual(told.map(({ _tag }) => _tag), ["Started"])
    }))

  for (const tape of Tapes.tapes) {
    it.effect(`at any moment of a recorded turn: ${tape.name}`, () =>
      Effect.gen(function*() {
        for (let round = 0; round < 10; round++) {
          const { apply, assertSame, live } = yield* withReaders(tape.ids)
          for (const event of tape.events.filter(Tapes.isTurnEvent)) {
            apply([event])
            if ((yield* Random.next) < 0.2) assertSame(`round ${round}`, withoutAnnouncements)
          }
          live.update((reply) => Reply.reconcile(reply, tape.messages))
          assertSame(`round ${round}, reconciled`, withoutAnnouncements)
        }
      }).pipe(Random.withSeed(tape.name)))
  }
})
