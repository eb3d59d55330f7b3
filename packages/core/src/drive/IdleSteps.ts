/**
 * Whether the model is called again and again without anything new coming of it.
 *
 * **Responsibilities**: counts, for each session of the turn's tree, the steps in a row that brought no tool result that is new in that
 * session; notices a context that overflows again after it was compacted.
 *
 * **Not responsibilities**: what becomes of such a turn (`Drive`).
 *
 * A step is judged when the next one of its session begins: then all its tools have ended, and it was not the last one. What the
 * model said does not count: a step that only says something is the last one of a healthy answer.
 *
 * @since 0.1.0
 */
import * as Hash from "effect/Hash"
import type { MessageId, SessionId } from "../domain/Ids.ts"
import type { AssistantMessage } from "../domain/Message.ts"
import type { ToolPart } from "../domain/Part.ts"
import { NoProgress, Upstream } from "../domain/TurnError.ts"
import type { SessionFailed, TurnEvent } from "../domain/TurnEvent.ts"
import * as Reply from "../reply/Reply.ts"

/**
 * `apply` is given each event after the reply was folded with it. `found` is why the turn is to end, once it is.
 *
 * @category models
 * @since 0.1.0
 */
export interface IdleSteps {
  readonly apply: (reply: Reply.Reply, event: TurnEvent) => void
  readonly found: () => NoProgress | Upstream | undefined
}

/**
 * Counts from now on. `maxSteps` in a row are too many; one that only repeats a call with its result counts half, because an agent may
 * wait for something by asking for it again and again.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (maxSteps: number): IdleSteps => {
  const sessions = new Map<SessionId, Steps>()
  let found: NoProgress | Upstream | undefined

  const stepsOf = (sessionId: SessionId): Steps => {
    const known = sessions.get(sessionId)
    if (known !== undefined) return known
    const steps: Steps = { newest: undefined, idle: 0, weight: 0, results: new Set(), overflowId: undefined }
    sessions.set(sessionId, steps)
    return steps
  }

  const judge = (steps: Steps, turn: Reply.Reply, reply: Reply.Reply, { finish, id }: AssistantMessage): void => {
    let isNew = false
    const tools = Reply.endedTools(reply, id)
    for (const tool of tools) {
      const result = resultOf(tool)
      if (steps.results.has(result)) continue
      steps.results.add(result)
      isNew = true
    }
    if (isNew) {
      steps.idle = 0
      steps.weight = 0
      steps.overflowId = undefined
      return
    }
    steps.idle++
    steps.weight += tools.length > 0 ? 0.5 : 1
    if (steps.weight < maxSteps) return
    const last = Reply.trouble(reply)
    found ??= new NoProgress({
      sessionId: reply.sessionId,
      steps: steps.idle,
      allSteps: Reply.steps(turn),
      ...(finish !== undefined && { finish }),
      ...(last !== undefined && { last })
    })
  }

  const onStep = (turn: Reply.Reply, reply: Reply.Reply, info: AssistantMessage): void => {
    const message = Reply.message(reply, info.id)
    if (message === undefined || message.ownership === "foreign") return
    const steps = stepsOf(reply.sessionId)
    const before = steps.newest
    if (before !== undefined && info.id <= before) return
    steps.newest = info.id
    const ended = before === undefined ? undefined : Reply.message(reply, before)
    if (ended !== undefined) judge(steps, turn, reply, ended.info)
  }

  /** Each overflow is told once, in no sure order with the messages around it (1.18.33): its event's id tells it from a copy. */
  const onFailure = ({ eventId, failure, sessionId }: SessionFailed): void => {
    if (failure.name !== "ContextOverflowError") return
    const steps = stepsOf(sessionId)
    if (steps.overflowId !== undefined && steps.overflowId !== eventId) {
      const { message, ...rest } = failure
      found ??= new Upstream({ ...rest, reason: message })
    }
    steps.overflowId = eventId
  }

  return {
    found: () => found,
    apply: (reply, event) => {
      switch (event._tag) {
        case "SessionFailed":
          return onFailure(event)
        case "MessageUpdated": {
          const { info } = event
          if (info.role !== "assistant") return
          const own = Reply.replyOf(reply, event.sessionId)
          if (own !== undefined) onStep(reply, own, info)
          return
        }
        default:
          return
      }
    }
  }
}

// internal

/**
 * What is known of the steps of one session: how many in a row were idle, and how much they count. `overflowId` is the event that told
 * of the last overflow of the context, as long as no new result has come since.
 */
interface Steps {
  newest: MessageId | undefined
  idle: number
  weight: number
  readonly results: Set<string>
  overflowId: string | undefined
}

/** The results of a turn may hold megabytes: their hashes tell them apart well enough for a guard. */
const resultOf = ({ error, input, output, tool }: ToolPart): string =>
  `${tool} ${Hash.hash(input)} ${Hash.string(output ?? error ?? "")} ${(output ?? error ?? "").length}`
