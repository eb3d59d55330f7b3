/**
 * The script of a scripted model: the steps that a test writes down, and the functions that pick the step for a model call.
 *
 * The position in the script is derived, never stored. A tool loop sends its whole history with every call, so the history shows how
 * many steps are finished, and the recorded calls show how often an unfinished step was tried.
 *
 * **Not responsibilities**: HTTP (`ScriptedModel`).
 */
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"

/**
 * Tokens as an OpenAI-compatible provider counts them: `input` includes `cacheRead`, and `output` includes `reasoning`.
 *
 * @category models
 * @since 0.1.0
 */
export const Usage = Schema.Struct({
  input: Schema.Natural,
  output: Schema.Natural,
  reasoning: Schema.optionalKey(Schema.Natural),
  cacheRead: Schema.optionalKey(Schema.Natural)
})

/**
 * @category models
 * @since 0.1.0
 */
export interface Usage extends Schema.Schema.Type<typeof Usage> {}

/**
 * One call of a tool.
 *
 * @category models
 * @since 0.1.0
 */
export const ToolCall = Schema.Struct({
  tool: Schema.String,
  args: Schema.optionalKey(Schema.JsonObject)
})

/**
 * @category models
 * @since 0.1.0
 */
export interface ToolCall extends Schema.Schema.Type<typeof ToolCall> {}

/**
 * A streamed answer: reasoning, then text, then tool calls.
 *
 * **Gotchas**
 *
 * An answer with `ending` stays unfinished and never sends its tool calls, so that the history of the next call does not show it as a
 * finished step.
 *
 * @category models
 * @since 0.1.0
 */
export const Answer = Schema.Struct({
  reasoning: Schema.optionalKey(Schema.String),
  text: Schema.optionalKey(Schema.String),
  /** The only tool call of this answer; `tools` holds several. */
  tool: Schema.optionalKey(Schema.String),
  /** Arguments of `tool`. */
  args: Schema.optionalKey(Schema.JsonObject),
  /** Tool calls that follow `tool`. */
  tools: Schema.optionalKey(Schema.Array(ToolCall)),
  /** The number of equal deltas of reasoning and of text. The default is one delta for each word. */
  chunks: Schema.optionalKey(Schema.Int.check(Schema.isGreaterThan(0))),
  /** The wait before the response begins. */
  delayMillis: Schema.optionalKey(Schema.Natural),
  /** The wait before each delta. */
  chunkDelayMillis: Schema.optionalKey(Schema.Natural),
  /** The name of a gate at which the answer waits for `ScriptedModel.release`. */
  gate: Schema.optionalKey(Schema.String),
  /** The number of deltas of reasoning and text before the gate; all by default. */
  gateAfter: Schema.optionalKey(Schema.Natural),
  /** `hang` never ends the answer and stays open until the client leaves; `cut` closes the connection in the middle. */
  ending: Schema.optionalKey(Schema.Literals(["hang", "cut"])),
  /** The number of calls that get this answer despite its `ending`; then the next step is tried. 1 by default. */
  times: Schema.optionalKey(Schema.Natural),
  usage: Schema.optionalKey(Usage),
  /** The finish reason; by default `tool_calls` if the answer calls a tool, else `stop`. */
  finish: Schema.optionalKey(Schema.String)
})

/**
 * @category models
 * @since 0.1.0
 */
export interface Answer extends Schema.Schema.Type<typeof Answer> {}

/**
 * An HTTP error in place of an answer.
 *
 * @category models
 * @since 0.1.0
 */
export const Failure = Schema.Struct({
  /** The HTTP status. */
  fail: Schema.Int.check(Schema.isBetween({ minimum: 400, maximum: 599 })),
  /** The provider's message. */
  message: Schema.optionalKey(Schema.String),
  /** Response headers, such as `retry-after-ms`. */
  headers: Schema.optionalKey(Schema.Record(Schema.String, Schema.String)),
  /** The wait before the response. */
  delayMillis: Schema.optionalKey(Schema.Natural),
  /** The number of calls that fail; then the next step is tried. 1 by default. */
  times: Schema.optionalKey(Schema.Natural)
})

/**
 * @category models
 * @since 0.1.0
 */
export interface Failure extends Schema.Schema.Type<typeof Failure> {}

/**
 * The model's behaviour for one call.
 *
 * @category models
 * @since 0.1.0
 */
export const Step = Schema.Union([Failure, Answer])

/**
 * @category models
 * @since 0.1.0
 */
export type Step = typeof Step.Type

/**
 * A message of a model call, with the text parts of its content joined.
 *
 * @category models
 * @since 0.1.0
 */
export interface ModelMessage {
  readonly role: string
  readonly text: string
  /** Names of the tools an assistant message calls. */
  readonly toolCalls: ReadonlyArray<string>
}

/**
 * A call of the model as it was received.
 *
 * @category models
 * @since 0.1.0
 */
export interface ModelRequest {
  readonly model: string
  readonly messages: ReadonlyArray<ModelMessage>
  /** Names of the tools offered to the model. */
  readonly tools: ReadonlyArray<string>
  /** Whether the call offers no tools. OpenCode asks for a session's title with such a call, and for a summary. */
  readonly isTitle: boolean
  /** Whether the call asks for a summary of the conversation, which its last message holds as text. */
  readonly isSummary: boolean
  /** The OpenCode session of the call, also for child sessions; absent if the caller is not OpenCode. */
  readonly sessionId: string | undefined
  /** The decoded JSON body. */
  readonly body: unknown
}

/**
 * Picks the step for a call from the call itself and from the calls before it.
 *
 * @category models
 * @since 0.1.0
 */
export type Script = (request: ModelRequest, earlier: ReadonlyArray<ModelRequest>) => Step

/**
 * The answer to a prompt that carries no script.
 *
 * @category constants
 * @since 0.1.0
 */
export const unscripted: Answer = { text: "This prompt carries no script." }

/**
 * The answer to a call that asks for a summary.
 *
 * @category constants
 * @since 0.1.0
 */
export const scriptedSummary: Answer = { text: "Scripted summary" }

/**
 * The answer to a call that comes after the last step.
 * @category constants
 * @since 0.1.0
 */
export const exhausted: Answer = { text: "The script has no more steps." }

/**
 * The tool calls of an answer, `tool` before `tools`.
 *
 * @category getters
 * @since 0.1.0
 */
export const toolCalls = (answer: Answer): ReadonlyArray<ToolCall> => {
  const first = answer.tool === undefined
    ? []
    : [{ tool: answer.tool, ...(answer.args === undefined ? {} : { args: answer.args }) }]
  return [...first, ...(answer.tools ?? [])]
}

/**
 * Writes a prompt that carries its script, for `fromPrompt`.
 *
 * **Details**
 *
 * The script of a subagent goes into its task's prompt: `args: { prompt: prompt("look around", [{ text: "found it" }]) }`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const prompt = (text: string, steps: ReadonlyArray<Step>): string => `${text} [${JSON.stringify(steps)}]`

/**
 * Reads the steps from the prompt: from the last user message with `[[{…}, …]]` in it.
 *
 * **Details**
 *
 * Sessions run side by side without disturbing each other, and so do subagents with a script in their own prompt. A script that does not
 * parse, or has an unknown field, fails the call with status 400 and the reason.
 *
 * **Gotchas**
 *
 * If the caller sends no session id, the tries of an unfinished step are counted for each prompt text.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromPrompt: Script = (request, earlier) => {
  const current = positionOf(request)
  if (current === undefined) return unscripted
  const steps = decodeSteps(current.script)
  if (Result.isFailure(steps)) return { fail: 400, message: steps.failure }
  let tries = 0
  for (const call of earlier) {
    if (call.isTitle || call.sessionId !== request.sessionId) continue
    const position = positionOf(call)
    if (position?.finished === current.finished && position.script === current.script) tries++
  }
  return stepAt(steps.success, current.finished, tries)
}

/**
 * Answers with the steps in the order of the calls, whatever the caller. Title calls use no step.
 *
 * @category constructors
 * @since 0.1.0
 */
export const sequence = (steps: ReadonlyArray<Step>): Script => {
  const unrolled = steps.flatMap((step) =>
    isUnfinished(step) ? Array.from({ length: step.times ?? 1 }, () => step) : [step]
  )
  return (_request, earlier) => unrolled[earlier.filter((call) => !call.isTitle).length] ?? exhausted
}

// internal

const isUnfinished = (step: Step): boolean => "fail" in step || step.ending !== undefined

interface Position {
  readonly script: string
  /** The number of steps whose answer the history already holds. */
  readonly finished: number
}

const positionOf = (request: ModelRequest): Position | undefined => {
  for (let index = request.messages.length - 1; index >= 0; index--) {
    const message = request.messages[index]
    if (message === undefined || message.role !== "user") continue
    const script = findScript(message.text)
    if (script === undefined) continue
    return { script, finished: countFinished(request.messages.slice(index + 1)) }
  }
  return undefined
}

// An answer without a tool call ends its turn, so a user message follows it. An answer that anything else follows was interrupted (a
// crash, a cut connection), and this call repeats it.
const countFinished = (messages: ReadonlyArray<ModelMessage>): number =>
  messages.filter((message, index) => {
    if (message.role !== "assistant") return false
    const next = messages[index + 1]
    return message.toolCalls.length > 0 || (next?.role === "user" && !carriesOn.test(next.text))
  }).length

/** What tells the agent to go on with an interrupted answer: the words of `core`, and those of a release of OpenCode 2.x. */
const carriesOn = /^(?:You were interrupted|The server restarted)/

const stepAt = (steps: ReadonlyArray<Step>, finished: number, tries: number): Step => {
  for (const step of steps) {
    if (!isUnfinished(step)) {
      if (finished === 0) return step
      finished--
    } else if (finished === 0) {
      const times = step.times ?? 1
      if (tries < times) return step
      tries -= times
    }
  }
  return exhausted
}

// Finds the outermost balanced array. A script nested in an argument lies inside a string of the outer array and is skipped with it.
const findScript = (text: string): string | undefined => {
  const start = text.search(/\[\s*\[\s*\{/)
  if (start === -1) return undefined
  let depth = 0
  let inString = false
  for (let index = start; index < text.length; index++) {
    const char = text[index]
    if (inString) {
      if (char === "\\") index++
      else if (char === "\"") inString = false
    } else if (char === "\"") inString = true
    else if (char === "[") depth++
    else if (char === "]" && --depth === 0) return text.slice(start, index + 1)
  }
  return text.slice(start)
}

const decodeScript = Schema.decodeUnknownResult(
  Schema.fromJsonString(Schema.Tuple([Schema.Array(Step)])),
  { onExcessProperty: "error" }
)

const decodeSteps = (script: string): Result.Result<ReadonlyArray<Step>, string> =>
  decodeScript(script).pipe(
    Result.map(([steps]) => steps),
    Result.mapError((issue) => `invalid script: ${issue.message}`)
  )
