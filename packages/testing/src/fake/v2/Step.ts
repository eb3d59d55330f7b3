/**
 * One step of the fake OpenCode 2.x: one assistant message, filled by one call of the model, or by several if the call is retried.
 *
 * **Responsibilities**: the order of blocks, deltas and tool calls in the message, and their state after a failure or a stop.
 *
 * **Not responsibilities**: which step is due (`Execution`), a call from its ask to its end (`ToolRun`).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as ModelScript from "../../model/ModelScript.ts"
import { toolCalls } from "../../model/ModelScript.ts"
import * as Answer from "../Answer.ts"
import type { Properties } from "../Events.ts"
import { isRetryable, retryMillis } from "../Failure.ts"
import * as Failures from "./Failure.ts"
import type { StoredSession } from "./State.ts"
import * as Tool from "./Tool.ts"
import type { Services } from "./ToolRun.ts"
import * as ToolRun from "./ToolRun.ts"
import type { Assistant, Content, Failure, ModelRef } from "./Wire.ts"

/**
 * The end of a step: the run goes on, the answer is finished, a person stopped the run by a refusal, the model failed, or the prompt was too
 * large and the session was summarised, so that the step is to be taken anew.
 *
 * @category models
 * @since 0.1.0
 */
export type StepEnd =
  | { readonly _tag: "Calls" }
  | { readonly _tag: "Finished" }
  | { readonly _tag: "Refused" }
  | { readonly _tag: "Shortened" }
  | { readonly _tag: "Failed"; readonly error: Failure }

/**
 * @category models
 * @since 0.1.0
 */
export interface Step {
  readonly run: Effect.Effect<StepEnd>
  /** Stores what was streamed, and marks the message as stopped. */
  readonly stop: () => void
}

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  services: Services,
  session: StoredSession,
  { agent, ask, deltaWords, model, offered, shorten }: {
    readonly agent: string
    readonly model: ModelRef
    readonly offered: ReadonlyArray<string>
    /** How many words one event tells of. */
    readonly deltaWords: number
    readonly ask: () => ModelScript.Step
    /** Summarises the session for a prompt that is too large, and gives why it has no summary. Once is enough. */
    readonly shorten: Effect.Effect<Failure | undefined> | undefined
  }
): Step => {
  const { state } = services
  const id = state.ids.ascending("msg")
  const base = { assistantMessageID: id }
  const isRelease = state.names.edition === "release"
  let isBegun = false
  /** Whether the try has begun: with the first word of the model, not with its call (0.0.0-next-16350). */
  let isTrying = false
  let isWaiting = false
  let started: string | undefined
  let open: OpenBlock | undefined
  let texts = 0
  let thoughts = 0
  let used: Pick<Assistant, "cost" | "tokens"> = {}

  const change = (fields: Partial<Assistant>) =>
    state.changeAssistant(session, id, (message) => ({ ...message, ...fields }))
  const add = (content: Content) =>
    state.changeAssistant(session, id, (message) => ({ ...message, content: [...message.content, content] }))

  const begin = () => {
    if (isTrying) return
    isTrying = true
    started = state.files.isRepository ? state.files.snapshot() : undefined
    if (!isBegun) {
      // Whatever a crash left open ends when the next message begins.
      for (const message of session.messages) {
        if (message.type === "assistant" && message.time.completed === undefined) {
          state.changeAssistant(
            session,
            message.id,
            (left) => ({ ...left, time: { ...left.time, completed: state.now() } })
          )
        }
      }
      state.addMessage(session, { id, type: "assistant", agent, model, content: [], time: { created: state.now() } })
      isBegun = true
    }
    if (started !== undefined) change({ snapshot: { start: started } })
    state.record(session, "session.step.started", {
      ...base,
      agent,
      model,
      ...(started !== undefined && { snapshot: started }),
      ...(isRelease && { started: state.now() })
    })
  }

  /** Tells of the words that came since the last event. */
  const flush = () => {
    if (open === undefined || open.untold === "") return
    const { ordinal, type, untold } = open
    state.tell(session, `session.${type}.delta`, { sessionID: session.info.id, ...base, ordinal, delta: untold })
    open.untold = ""
    open.words = 0
  }

  const closeBlock = () => {
    flush()
    if (open === undefined) return
    const { at, created, ordinal, text, type } = open
    open = undefined
    state.changeAssistant(session, id, (message) => ({
      ...message,
      content: message.content.map((content, index) =>
        index === at && content.type !== "tool"
          ? { ...content, text, ...(content.type === "reasoning" && { time: { created, completed: state.now() } }) }
          : content
      )
    }))
    state.record(session, `session.${type}.ended`, {
      ...base,
      ordinal,
      text,
      ...(type === "reasoning" && { state: reasoningState })
    })
  }

  const say = ({ text, type }: Answer.Piece) => {
    begin()
    if (open?.type !== type) {
      closeBlock()
      const ordinal = type === "text" ? texts++ : thoughts++
      const created = state.now()
      open = { type, ordinal, created, at: contentOf(session, id).length, text: "", untold: "", words: 0 }
      add(type === "text" ? { type, text: "" } : { type, text: "", state: reasoningState, time: { created } })
      state.record(session, `session.${type}.started`, {
        ...base,
        ordinal,
        ...(type === "reasoning" && { state: reasoningState })
      })
    }
    open.text += text
    open.untold += text
    if (++open.words >= deltaWords) flush()
  }

  /** What the step did to the files, if the folder is a repository. */
  const snapshot = (): Properties => {
    if (started === undefined) return {}
    const end = state.files.snapshot()
    const files = state.files.diffs(session.directory, started, end).map(({ file }) => file)
    change({ snapshot: { start: started, end, files } })
    return { snapshot: end, files }
  }

  const end = (finish: string) => {
    closeBlock()
    change({ ...used, finish, time: { ...timeOf(session, id), completed: state.now() } })
    state.record(session, "session.step.ended", { ...base, finish, ...used, ...snapshot() })
    if (used.cost !== undefined && used.tokens !== undefined) state.spend(session, used.cost, used.tokens)
  }

  const fail = (error: Failure) => {
    closeBlock()
    change({ ...used, finish: "error", error, time: { ...timeOf(session, id), completed: state.now() } })
    state.record(session, "session.step.failed", { ...base, error, ...used, ...snapshot() })
    if (used.cost !== undefined && used.tokens !== undefined) state.spend(session, used.cost, used.tokens)
  }

  const stream = Effect.fnUntraced(function*(answer: ModelScript.Answer): Effect.fn.Return<StepEnd | "cut"> {
    if ((yield* Answer.play(answer, services.gate, say)) === "cut") return "cut"
    begin()
    const calls = toolCalls(answer)
    const runs = calls.map((call) => {
      const { directory } = session
      const plan = Tool.plan(call, { offered, directory, files: state.files })
      return ToolRun.announce(services, session, id, call.tool, plan)
    })
    if (open?.type === "reasoning") closeBlock()
    for (const run of runs) run.called()
    closeBlock()
    if (isRelease) state.record(session, "session.step.streamed", base)
    used = { cost: Answer.costOf(answer), tokens: Answer.tokensOf(answer) }
    const ends = yield* ToolRun.all(runs)
    if (ends === "refused") {
      fail(Failures.stepInterrupted)
      return { _tag: "Refused" }
    }
    const finish = Answer.finishReason(answer)
    if (finish === "content-filter") {
      fail(Failures.contentFilter)
      return { _tag: "Failed", error: Failures.contentFilter }
    }
    end(runs.length > 0 && finish === "stop" ? "tool-calls" : finish)
    return { _tag: runs.length > 0 ? "Calls" : "Finished" }
  })

  return {
    run: Effect.gen(function*() {
      for (let attempt = 1;; attempt++) {
        isTrying = false
        const step = ask()
        if (step.delayMillis !== undefined) yield* Effect.sleep(step.delayMillis)
        let error = Failures.unconnected
        // The wait that a provider asks for in milliseconds is not kept (0.0.0-next-16350).
        const wait = retryMillis(undefined, attempt)
        let mayRetry = true
        if ("fail" in step) {
          error = Failures.provider(step)
          mayRetry = isRetryable(step)
          if (shorten !== undefined && Failures.isOverflow(step) && (yield* shorten) === undefined) {
            return { _tag: "Shortened" }
          }
        } else {
          const end = yield* stream(step)
          if (end !== "cut") return end
          if (isTrying) {
            error = Failures.cut
            mayRetry = false
          }
        }
        begin()
        if (!mayRetry || attempt === Failures.maxCalls) {
          fail(error)
          return { _tag: "Failed", error }
        }
        const retry = { attempt: attempt + 1, at: state.now() + wait, error }
        change({ retry })
        state.record(session, "session.retry.scheduled", { ...base, ...retry })
        isWaiting = true
        yield* Effect.sleep(wait).pipe(
          Effect.ensuring(Effect.sync(() => {
            if (!services.isCrashed()) state.changeAssistant(session, id, withoutRetry)
          }))
        )
        isWaiting = false
      }
    }),
    // A step that waits for its next try stays open for ever (0.0.0-next-16350).
    stop: () => {
      if (isBegun && !isWaiting && timeOf(session, id).completed === undefined) fail(Failures.stepInterrupted)
    }
  }
}

// internal

interface OpenBlock {
  readonly type: Answer.Piece["type"]
  readonly ordinal: number
  readonly created: number
  /** Its place in the message's content. */
  readonly at: number
  text: string
  /** What no event has told of yet, in so many words. */
  untold: string
  words: number
}

const withoutRetry = ({ retry: _retry, ...message }: Assistant): Assistant => message

const reasoningState: Properties = { reasoningField: "reasoning_content" }

const assistantOf = (session: StoredSession, id: string): Assistant | undefined => {
  const message = session.messages.find((message) => message.id === id)
  return message?.type === "assistant" ? message : undefined
}

const contentOf = (session: StoredSession, id: string): ReadonlyArray<Content> =>
  assistantOf(session, id)?.content ?? []

const timeOf = (session: StoredSession, id: string): Assistant["time"] =>
  assistantOf(session, id)?.time ?? { created: 0 }
