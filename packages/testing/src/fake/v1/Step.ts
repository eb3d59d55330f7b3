/**
 * One step of the fake OpenCode's answer: one assistant message, filled by one call of the model, or by several if the call is retried.
 *
 * **Responsibilities**: the order of parts, deltas and tool calls in the message, and their state after a failure or an abort.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as ModelScript from "../../model/ModelScript.ts"
import { toolCalls } from "../../model/ModelScript.ts"
import { modelId, providerId } from "../../model/ScriptedProvider.ts"
import * as Answer from "../Answer.ts"
import type { Properties } from "../Events.ts"
import { isRetryable, messageOf, retryMillis } from "../Failure.ts"
import * as Call from "./Call.ts"
import * as Failures from "./Failure.ts"
import * as Rules from "./Rules.ts"
import type { StoredSession } from "./State.ts"
import { textOf } from "./State.ts"
import * as Tool from "./Tool.ts"
import * as ToolRun from "./ToolRun.ts"
import type { Assistant, Failure, Message, ModelRef, TextPart, Tokens, User } from "./Wire.ts"

/**
 * The end of a step: a finished answer; an answer that stops the turn, because a person refused a tool or the provider filtered it; a
 * failure; or a full context.
 *
 * @category models
 * @since 0.1.0
 */
export type StepEnd =
  | { readonly _tag: "Finished" }
  | { readonly _tag: "Stopped" }
  | { readonly _tag: "Failed"; readonly error: Failure }
  | { readonly _tag: "Overflowed"; readonly message: string }

/**
 * @category models
 * @since 0.1.0
 */
export interface Step {
  /** Calls the model, retries if that may help, and executes its answer. */
  readonly run: (ask: (tools: ReadonlyArray<string>) => ModelScript.Step) => Effect.Effect<StepEnd>
  /** Completes the stored message with these fields. */
  readonly close: (fields: Partial<Assistant>) => void
  /** Stores the content streamed so far, and marks the message as aborted. */
  readonly abort: () => void
  /** The unfinished tool calls. */
  readonly calls: () => ReadonlyArray<Call.ToolRun>
  /** Whether the step waits for its next try. */
  readonly isWaiting: () => boolean
}

/**
 * The default model of the fake: the model of `ScriptedProvider`.
 *
 * @category constants
 * @since 0.1.0
 */
export const defaultModel: ModelRef = { providerID: providerId, modelID: modelId }

/**
 * A step that fills the stored message `initial`, and answers `user`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  services: Call.Services,
  session: StoredSession,
  initial: Assistant,
  user?: Pick<User, "format" | "tools">
): Step => {
  const { state } = services
  const isStructured = user?.format?.type === "json_schema"
  const ids = { messageID: initial.id, sessionID: session.info.id }
  let info = initial
  let open: OpenPart | undefined
  /** The snapshot of the files at the start of the step; `undefined` without a repository. */
  let started: string | undefined
  let tools: ReadonlyArray<Call.ToolRun> = []
  let isWaiting = false

  const close: Step["close"] = (fields) => {
    info = { ...info, ...fields, time: { ...info.time, completed: state.now() } }
    state.putAssistant(session, info)
  }

  const closePart = () => {
    if (open === undefined) return
    state.putPart(session, { ...open.part, text: open.text, time: { start: open.startMillis, end: state.now() } })
    open = undefined
  }

  const say = (type: TextPart["type"], delta: string) => {
    if (open?.part.type !== type) {
      closePart()
      const startMillis = state.now()
      const part: TextPart = { id: state.ids.ascending("prt"), ...ids, type, text: "", time: { start: startMillis } }
      open = { part, startMillis, text: "" }
      state.putPart(session, part)
    }
    open.text += delta
    state.delta(session, open.part, delta)
  }

  const stream = Effect.fnUntraced(function*(answer: ModelScript.Answer): Effect.fn.Return<"cut" | StepEnd> {
    started = state.files.isRepository ? state.files.snapshot() : undefined
    state.putPart(session, {
      id: state.ids.ascending("prt"),
      ...ids,
      type: "step-start",
      ...(started !== undefined && { snapshot: started })
    })
    if ((yield* Answer.play(answer, services.gate, ({ text, type }) => say(type, text))) === "cut") return "cut"

    const calls = toolCalls(answer)
    if (open?.part.type === "reasoning" && calls.length > 0) closePart()
    const finishes: Array<Effect.Effect<Call.ToolEnd>> = []
    const { directory } = session
    const { files } = state
    const available = offered()
    for (const call of calls) {
      const plan = Tool.plan(call, { offered: available, directory, files })
      const callID = `call_${state.ids.ascending("prt").slice("prt_".length)}`
      const { finish, run } = yield* ToolRun.start(services, session, info.id, callID, call.tool, plan)
      tools = [...tools, run]
      finishes.push(finish)
    }
    closePart()
    const ends = yield* Effect.all(finishes, { concurrency: "unbounded" })

    const reason = Answer.finishReason(answer)
    const used = { tokens: withTotal(Answer.tokensOf(answer)), cost: Answer.costOf(answer) }
    state.putPart(session, {
      id: state.ids.ascending("prt"),
      ...ids,
      type: "step-finish",
      reason,
      ...(started !== undefined && { snapshot: state.files.snapshot() }),
      ...used
    })
    info = { ...info, ...used }
    const isCompared = started !== undefined
    if (isCompared) {
      // Finding the changed files takes a while; meanwhile the message is finished, but not completed.
      info = { ...info, finish: reason }
      state.putAssistant(session, info)
      putPatch()
    }
    const isFiltered = reason === "content-filter"
    const structured = structuredOf(tools)
    const isMissing = isStructured && structured === undefined && reason !== "tool-calls"
    const error = isFiltered ? Failures.contentFilter : isMissing ? Failures.notStructured : undefined
    const isLast = structured !== undefined || error !== undefined
    close({ finish: reason, ...(structured !== undefined && { structured }), ...(error !== undefined && { error }) })
    if (!isCompared) state.putAssistant(session, info)
    if (isLast) state.putAssistant(session, info)
    if (isFiltered) state.fail(session, Failures.contentFilter)
    return { _tag: isLast || ends.includes("refused") ? "Stopped" : "Finished" }
  })

  /** Adds a part with the files that changed since the step began, if there are any. */
  const putPatch = () => {
    if (started === undefined) return
    const files = state.files.changed(session.directory, started)
    if (files.length === 0) return
    state.putPart(session, { id: state.ids.ascending("prt"), ...ids, type: "patch", hash: started, files })
  }

  const calls = () => tools.filter((run) => !Call.isEnded(run))

  const offered = (): ReadonlyArray<string> => {
    const tools = Rules.offered(services.ruleset(session)).filter((tool) => user?.tools?.[tool] !== false)
    return isStructured ? [...tools, Tool.structuredOutput].sort(alphabetically) : tools
  }

  const retry = Effect.fnUntraced(function*(attempt: number, message: string, delayMillis: number) {
    state.setStatus(session, { type: "retry", attempt, message, next: state.now() + delayMillis })
    isWaiting = true
    yield* Effect.sleep(delayMillis)
    isWaiting = false
  })

  return {
    run: Effect.fnUntraced(function*(ask) {
      for (let attempt = 1;; attempt++) {
        state.setStatus(session, { type: "busy" })
        const step = ask(offered())
        if (step.delayMillis !== undefined) yield* Effect.sleep(step.delayMillis)
        if ("fail" in step) {
          const message = messageOf(step)
          if (Failures.isOverflow(step)) return { _tag: "Overflowed", message }
          if (!isRetryable(step)) return { _tag: "Failed", error: Failures.api(step) }
          yield* retry(attempt, message, retryMillis(step.headers, attempt))
          continue
        }
        if (isUnconnected(step)) {
          yield* retry(attempt, unconnected, retryMillis(undefined, attempt))
          continue
        }
        const end = yield* stream(step)
        if (end !== "cut") return end
        // The open part stays in the message, empty and never closed (1.18.33).
        open = undefined
        yield* retry(attempt, "Connection reset by server", retryMillis(undefined, attempt))
      }
    }),
    close,
    abort: () => {
      closePart()
      for (const run of calls()) Call.abort(services, run)
      putPatch()
      close({ error: Failures.aborted })
    },
    calls,
    isWaiting: () => isWaiting
  }
}

/**
 * The messages of a session as the model receives them, with the script data of a user message that is not in its text.
 *
 * @category getters
 * @since 0.1.0
 */
export const history = (
  messages: ReadonlyArray<Message>,
  scriptOf: (messageId: string) => string | undefined
): ReadonlyArray<ModelScript.ModelMessage> => {
  const summary = messages.findLastIndex(({ info }) => info.role === "assistant" && info.summary === true)
  return messages.slice(Math.max(0, summary - 1)).flatMap((message): ReadonlyArray<ModelScript.ModelMessage> => {
    if (message.info.role === "user") {
      const script = scriptOf(message.info.id)
      const said = message.parts.some(({ type }) => type === "subtask")
        ? `${textOf(message)}\nThe following tool was executed by the user`
        : textOf(message)
      const text = script === undefined ? said : `${script} ${said}`
      return [{ role: "user", text, toolCalls: [] }]
    }
    if (message.info.error !== undefined && message.info.error.name !== Failures.aborted.name) return []
    if (message.parts.every(({ type }) => type === "step-start")) return []
    const tools = message.parts.flatMap((part) => (part.type === "tool" ? [part] : []))
    return [
      { role: "assistant", text: textOf(message), toolCalls: tools.map(({ tool }) => tool) },
      ...tools.map(({ state }) => ({
        role: "tool",
        text: state.output ?? state.error ?? "[Tool execution was interrupted]",
        toolCalls: []
      }))
    ]
  })
}

/**
 * The failure of a turn that ended with this message: the message's error, or the error of the tool that stopped it.
 *
 * @category getters
 * @since 0.1.0
 */
export const failureOf = ({ info, parts }: Message): string | undefined => {
  if (info.role !== "assistant") return undefined
  if (info.error !== undefined) return info.error.data.message
  if (info.finish !== "tool-calls") return undefined
  const refused = parts.findLast((part) => part.type === "tool" && part.state.status === "error")
  return refused?.type === "tool" ? refused.state.error : undefined
}

// internal

/** Whether the connection to the provider breaks before the first word. */
const isUnconnected = ({ ending, reasoning = "", text = "" }: ModelScript.Answer): boolean =>
  ending === "cut" && reasoning === "" && text === ""

const unconnected = "Cannot connect to API: The socket connection was closed unexpectedly. " +
  "For more information, pass `verbose: true` in the second argument to fetch()"

interface OpenPart {
  readonly part: TextPart
  readonly startMillis: number
  text: string
}

const alphabetically = (left: string, right: string) => left.toLowerCase() < right.toLowerCase() ? -1 : 1

/** The last value counts. */
const structuredOf = (tools: ReadonlyArray<Call.ToolRun>): Properties | undefined =>
  tools.flatMap(({ plan: { action } }) => (action._tag === "Structured" ? [action.value] : [])).at(-1)

/** The total counts cached tokens too. */
const withTotal = (tokens: Answer.Tokens): Tokens => ({
  total: tokens.input + tokens.cache.read + tokens.output + tokens.reasoning,
  ...tokens
})
