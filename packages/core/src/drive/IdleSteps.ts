/**
 * Counts steps that bring nothing new: whether the model is called again and again in vain.
 *
 * **Responsibilities**: for each session of the turn's tree, the steps in a row that brought no tool result that is new in that session;
 * a context that overflows again after it was compacted.
 *
 * **Not responsibilities**: what becomes of such a turn (`PromptState`).
 *
 * A step is judged when the next one of its session begins: then all its tools have ended, and it was not the last one. What the model
 * said does not count: a step that only says something is the last one of a healthy answer.
 *
 * @since 0.1.0
 */
import * as Hash from "effect/Hash"
import * as HashMap from "effect/HashMap"
import * as HashSet from "effect/HashSet"
import * as Option from "effect/Option"
import type { MessageId, SessionId } from "../domain/Ids.ts"
import type { ToolPart } from "../domain/Part.ts"
import { NoProgress, Upstream } from "../domain/TurnError.ts"
import * as Reply from "../reply/Reply.ts"

/**
 * The count so far. `maxSteps` in a row are too many; `found` is why the turn is to end, once it is.
 *
 * @category models
 * @since 0.1.0
 */
export interface IdleSteps {
  readonly maxSteps: number
  readonly sessions: HashMap.HashMap<SessionId, Steps>
  readonly found: NoProgress | Upstream | undefined
}

/**
 * The steps of one session. `idle` steps in a row brought nothing, and weigh `weight`. `overflowId` is the event of the last overflow of
 * the context, as long as no new result has come since.
 *
 * @category models
 * @since 0.1.0
 */
export interface Steps {
  readonly newest: MessageId | undefined
  readonly idle: number
  readonly weight: number
  readonly results: HashSet.HashSet<string>
  readonly overflowId: string | undefined
}

/**
 * Counts from now on.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (maxSteps: number): IdleSteps => ({ maxSteps, sessions: HashMap.empty(), found: undefined })

/**
 * Counts what the fold of an event told; `turn` is the reply after it. Gives back `self` for what changes nothing.
 *
 * @category folding
 * @since 0.1.0
 */
export const apply = (self: IdleSteps, turn: Reply.Reply, told: Reply.Told): IdleSteps => {
  switch (told._tag) {
    case "Failure":
      return onFailure(self, told)
    case "Step": {
      const reply = Reply.replyOf(turn, told.sessionId)
      return reply === undefined ? self : onStep(self, turn, reply, told.info.id)
    }
    default:
      return self
  }
}

// internal

const unknown: Steps = {
  newest: undefined,
  idle: 0,
  weight: 0,
  results: HashSet.empty(),
  overflowId: undefined
}

const stepsOf = (self: IdleSteps, sessionId: SessionId): Steps =>
  Option.getOrElse(HashMap.get(self.sessions, sessionId), () => unknown)

const withSteps = (self: IdleSteps, sessionId: SessionId, steps: Steps): IdleSteps => ({
  ...self,
  sessions: HashMap.set(self.sessions, sessionId, steps)
})

const onStep = (self: IdleSteps, turn: Reply.Reply, reply: Reply.Reply, messageId: MessageId): IdleSteps => {
  const { sessionId } = reply
  const before = stepsOf(self, sessionId)
  if (before.newest !== undefined && messageId <= before.newest) return self
  const ended = before.newest === undefined ? undefined : Reply.message(reply, before.newest)?.info
  const tools = ended === undefined ? [] : Reply.endedTools(reply, ended.id)
  const judged = ended === undefined ? before : judge(before, tools, ended.finish)
  const after = withSteps(self, sessionId, { ...judged, newest: messageId })
  if (self.found !== undefined || ended === undefined || judged.idle === 0 || judged.weight < self.maxSteps) {
    return after
  }
  const last = Reply.trouble(reply)
  const found = new NoProgress({
    sessionId,
    steps: judged.idle,
    allSteps: Reply.steps(turn),
    ...(ended.finish !== undefined && { finish: ended.finish }),
    ...(last !== undefined && { last })
  })
  return { ...after, found }
}

/**
 * A step that only repeats a call with its result counts half, because an agent may wait for something by asking again and again. It then
 * ends for its call: after a finish reason of no known kind the server calls the model again, whether the model wants it or not.
 */
const judge = (steps: Steps, tools: ReadonlyArray<ToolPart>, finish: string | undefined): Steps => {
  const results = tools.map(resultOf)
  const mayWait = tools.length > 0 && finish === "tool-calls"
  return results.every((result) => HashSet.has(steps.results, result))
    ? { ...steps, idle: steps.idle + 1, weight: steps.weight + (mayWait ? 0.5 : 1) }
    : {
      ...steps,
      idle: 0,
      weight: 0,
      overflowId: undefined,
      results: HashSet.union(steps.results, HashSet.fromIterable(results))
    }
}

/** Each overflow is told once, in no sure order with the messages around it (1.18.33): its event's id tells it from a copy. */
const onFailure = (
  self: IdleSteps,
  { eventId, failure, sessionId }: Extract<Reply.Told, { readonly _tag: "Failure" }>
): IdleSteps => {
  if (failure.name !== "ContextOverflowError") return self
  const steps = stepsOf(self, sessionId)
  const after = withSteps(self, sessionId, { ...steps, overflowId: eventId })
  if (self.found !== undefined || steps.overflowId === undefined || steps.overflowId === eventId) return after
  const { message, ...rest } = failure
  return { ...after, found: new Upstream({ ...rest, reason: message }) }
}

/** The results of a turn may hold megabytes: their hashes tell them apart well enough for a guard. */
const resultOf = ({ error, input, output, tool }: ToolPart): string =>
  `${tool} ${Hash.hash(input)} ${Hash.string(output ?? error ?? "")} ${(output ?? error ?? "").length}`
