/**
 * What answers what in the sessions of a server, as far as its events have told since the connection was opened.
 *
 * A step of 2.x does not name its prompt: it answers the input that was delivered last. Who has not seen that input cannot tell, and asks
 * for the messages, from which this memory learns as well.
 *
 * The server tells of every session that it has, so the memory is bounded: a session that is forgotten is learned again from its messages.
 *
 * @since 0.1.0
 */
import type { MessageId, SessionId } from "../../domain/Ids.ts"
import type { Message } from "../../domain/Message.ts"
import type { UpstreamFailure } from "../../domain/UpstreamFailure.ts"
import type { WireTokens } from "../WireValues.ts"

/**
 * **Details**
 *
 * - `input`: what was delivered last; `undefined` if that was not seen.
 * - `hasBegun`: the beginning of the run was seen. `worksFor`: what was delivered last in it.
 * - `hasEnded`: the answer to it has its last step, so that a word of a subagent in the background begins another run.
 * - `model`: what the session's next step is made by, as far as events tell.
 * - `summary`: the summary that the answer needs and that is being written.
 * - `calledMillis`: when the model was called for the step that is to begin, as far as it was seen.
 * - `step`: the step that has begun. `calls` are its tool calls that have not ended, `hasCalls` says whether it has called any, `isRefused`
 *   whether one of them was refused.
 * - `kinds`: inputs that wait, and whether the server itself made them.
 *
 * @category models
 * @since 0.1.0
 */
export interface Run {
  input: MessageId | undefined
  hasBegun: boolean
  worksFor: MessageId | undefined
  hasEnded: boolean
  model: Model | undefined
  summary: Summary | undefined
  calledMillis: number | undefined
  step: Step | undefined
  readonly kinds: Map<MessageId, Input>
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Input {
  readonly type: string
  readonly metadata: Readonly<Record<string, unknown>> | undefined
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Model {
  readonly id: string
  readonly providerID: string
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Summary {
  readonly id: MessageId
  readonly parentId: MessageId
  readonly createdMillis: number
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Step {
  readonly id: MessageId
  readonly parentId: MessageId
  readonly createdMillis: number
  readonly calledMillis?: number
  readonly agent: string | undefined
  readonly model: Model | undefined
  readonly calls: Map<string, Call>
  hasCalls: boolean
  isRefused: boolean
  /** The end of a step that was interrupted, until the end of the run says by whom. */
  failed: Failed | undefined
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Failed {
  readonly completedMillis: number
  readonly error: UpstreamFailure
  readonly cost?: number
  readonly tokens?: typeof WireTokens.Type
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Call {
  readonly name: string
  readonly input: Readonly<Record<string, unknown>> | undefined
  readonly metadata: Readonly<Record<string, unknown>> | undefined
  readonly ran: number | undefined
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Runs {
  readonly of: (id: SessionId) => Run
  /** Takes the last input and the last step from a page of the newest messages, unless the events have told the input. */
  readonly learn: (id: SessionId, input: MessageId | undefined, last: Message | undefined) => void
  readonly forget: (id: SessionId) => void
  /** Events were missed: everything is to be learned again. */
  readonly clear: () => void
}

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = (): Runs => {
  const runs = new Map<SessionId, Run>()
  const of = (id: SessionId): Run => {
    const known = runs.get(id)
    if (known !== undefined) return known
    const run: Run = {
      input: undefined,
      hasBegun: false,
      worksFor: undefined,
      hasEnded: false,
      calledMillis: undefined,
      model: undefined,
      summary: undefined,
      step: undefined,
      kinds: new Map()
    }
    runs.set(id, run)
    for (const oldest of runs.keys()) {
      if (runs.size <= maxRuns) break
      runs.delete(oldest)
    }
    return run
  }
  return {
    of,
    learn: (id, input, last) => {
      const run = of(id)
      if (run.input !== undefined || input === undefined) return
      run.input = input
      const info = last?.info
      const model = info?.role === "assistant" ? info.model : undefined
      run.model ??= model && { id: model.modelId, providerID: model.providerId }
      run.hasEnded = info?.role === "assistant" && info.completedMillis !== undefined && info.finish !== undefined &&
        info.finish !== "tool-calls" && info.finish !== "unknown"
      if (info?.role === "assistant" && info.completedMillis === undefined) {
        run.step ??= {
          id: info.id,
          parentId: info.parentId,
          createdMillis: info.createdMillis,
          ...(info.calledMillis !== undefined && { calledMillis: info.calledMillis }),
          agent: info.agent,
          model: run.model,
          calls: new Map(
            last?.parts.flatMap((part) =>
              part.type === "tool"
                ? [[part.callId, {
                  name: part.tool,
                  input: part.input,
                  metadata: part.metadata,
                  ran: part.startedMillis
                }]]
                : []
            )
          ),
          hasCalls: last?.parts.some(({ type }) => type === "tool") ?? false,
          isRefused: false,
          failed: undefined
        }
      }
    },
    forget: (id) => void runs.delete(id),
    clear: () => runs.clear()
  }
}

/**
 * A call that has not ended, if its step is known.
 *
 * @category getters
 * @since 0.1.0
 */
export const callOf = (runs: Runs, id: SessionId, messageId: MessageId, callId: string): Call | undefined => {
  const { step } = runs.of(id)
  return step?.id === messageId ? step.calls.get(callId) : undefined
}

// internal

/** Sessions whose order is remembered. */
const maxRuns = 4096
