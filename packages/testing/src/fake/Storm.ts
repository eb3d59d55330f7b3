/**
 * Storms of events: a server that asks, opens and writes without end.
 *
 * **Responsibilities**: each storm as a list of events. Pass them to `FakeOpencode.emit` during a turn, and check that the turn ends and
 * that other turns continue.
 *
 * **Not responsibilities**: the server's responses (`Hostile`). The fake stores nothing of a storm.
 *
 * **Example**
 * ```ts
 * const events = Storm.permissions({ sessionId, messageId, count: 10_000 })
 * yield* Effect.forEach(events, fake.emit, { discard: true })
 * ```
 *
 * @since 0.1.0
 */
import type { Event } from "./Events.ts"

/**
 * The place of a storm: the session, the message whose tools cause it, and the number of its elements.
 *
 * @category models
 * @since 0.1.0
 */
export interface Storm {
  readonly sessionId: string
  readonly messageId: string
  readonly count: number
}

/**
 * An event for `FakeOpencode.emit`.
 *
 * @category models
 * @since 0.1.0
 */
export type StormEvent = Omit<Event, "id">

/**
 * The session asks for permissions. The fake does not know these asks, and answers each reply with 404.
 *
 * @category constructors
 * @since 0.1.0
 */
export const permissions = (storm: Storm): ReadonlyArray<StormEvent> =>
  each(storm, (n) =>
    event("permission.asked", storm, {
      id: `per_${n}`,
      permission: "bash",
      patterns: [`rm ${n}`],
      always: ["rm *"],
      metadata: {},
      tool: { messageID: storm.messageId, callID: `call_${n}` }
    }))

/**
 * The session asks questions. The fake does not know these asks either.
 *
 * @category constructors
 * @since 0.1.0
 */
export const questions = (storm: Storm): ReadonlyArray<StormEvent> =>
  each(storm, (n) =>
    event("question.asked", storm, {
      id: `que_${n}`,
      questions: [{ question: `${n}?`, header: n, options: [{ label: "A", description: "a" }] }],
      tool: { messageID: storm.messageId, callID: `call_${n}` }
    }))

/**
 * Tools of the message each open a session, and all these sessions work.
 *
 * @category constructors
 * @since 0.1.0
 */
export const subagents = (storm: Storm): ReadonlyArray<StormEvent> =>
  each(storm, (n) => `ses_${n}`).flatMap((sessionId, index) => [
    event("session.created", { ...storm, sessionId }, {
      info: {
        id: sessionId,
        parentID: storm.sessionId,
        title: sessionId,
        agent: "general",
        directory: "/project",
        time: { created: 1, updated: 1 }
      }
    }),
    event("message.part.updated", storm, {
      part: {
        ...toolOf(storm, digits(index)),
        tool: "task",
        state: {
          status: "running",
          input: {},
          title: sessionId,
          metadata: { sessionId, parentSessionId: storm.sessionId },
          time: { start: 1 }
        }
      }
    }),
    event("session.status", { ...storm, sessionId }, { status: { type: "busy" } })
  ])

/**
 * The message opens text parts and closes none of them.
 *
 * @category constructors
 * @since 0.1.0
 */
export const openTexts = (storm: Storm): ReadonlyArray<StormEvent> => [
  ...each(storm, (n) =>
    event("message.part.updated", storm, {
      part: { ...partOf(storm, n), type: "text", text: "", time: { start: 1 } }
    })),
  ...each(storm, (n) =>
    event("message.part.delta", storm, {
      messageID: storm.messageId,
      partID: partOf(storm, n).id,
      field: "text",
      delta: "words "
    }))
]

/**
 * The message calls tools that never end.
 *
 * @category constructors
 * @since 0.1.0
 */
export const tools = (storm: Storm): ReadonlyArray<StormEvent> =>
  each(storm, (n) => event("message.part.updated", storm, { part: toolOf(storm, n) }))

/**
 * The session rewrites its to-do list again and again.
 *
 * @category constructors
 * @since 0.1.0
 */
export const todos = (storm: Storm): ReadonlyArray<StormEvent> =>
  each(
    storm,
    (n) => event("todo.updated", storm, { todos: [{ id: "1", content: n, status: "pending", priority: "high" }] })
  )

/**
 * Other clients write prompts into the session.
 *
 * @category constructors
 * @since 0.1.0
 */
export const prompts = (storm: Storm): ReadonlyArray<StormEvent> =>
  each(storm, (n) =>
    event("message.updated", storm, {
      info: { role: "user", id: `msg_ffff${n}Other`, sessionID: storm.sessionId, time: { created: 1 }, agent: "build" }
    }))

// internal

const digits = (index: number): string => String(index).padStart(8, "0")

const each = <A>({ count }: Storm, f: (n: string) => A): ReadonlyArray<A> =>
  Array.from({ length: count }, (_, index) => f(digits(index)))

const event = (type: string, { sessionId }: Storm, properties: Event["properties"]): StormEvent => ({
  type,
  properties: { sessionID: sessionId, ...properties }
})

const partOf = ({ messageId, sessionId }: Storm, n: string) => ({
  id: `prt_ffff${n}Storm`,
  sessionID: sessionId,
  messageID: messageId
})

const toolOf = (storm: Storm, n: string) => ({
  ...partOf(storm, n),
  type: "tool",
  tool: "bash",
  callID: `call_${n}`,
  state: { status: "running", input: { command: n }, time: { start: 1 } }
})
