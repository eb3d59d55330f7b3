/**
 * What the tools of the fake OpenCode do: nothing is executed, each call has an outcome that follows from its arguments.
 *
 * Owns the outcomes. Does not own when the states of a call are announced (`FakeToolRun`).
 *
 * **Details**
 *
 * - `bash` understands `echo`, `sleep` (seconds) and their sequences with `;` and `&&`.
 * - `read` gives one line for any file, and asks for `external_directory` outside of the session's directory.
 * - `question`, `todowrite` and `task` do what they do on the real server; a subagent's prompt may carry a script of its own.
 * - Any call can be given another outcome: {@link withOutcome}.
 *
 * @since 0.1.0
 */
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type { PermissionRequest } from "./FakePermission.ts"
import type { Properties, Todo } from "./FakeWire.ts"
import type { ToolCall } from "./ModelScript.ts"

/**
 * What becomes of a call, in place of what the tool would do.
 *
 * @category models
 * @since 0.1.0
 */
export const Outcome = Schema.Struct({
  output: Schema.optionalKey(Schema.String),
  title: Schema.optionalKey(Schema.String),
  metadata: Schema.optionalKey(Schema.JsonObject),
  /** The call fails with this text; the turn goes on. */
  error: Schema.optionalKey(Schema.String),
  /** A permission that is asked for first, whatever the rules say, unless it was allowed for always. */
  ask: Schema.optionalKey(Schema.Struct({
    permission: Schema.String,
    patterns: Schema.Array(Schema.String),
    always: Schema.optionalKey(Schema.Array(Schema.String)),
    metadata: Schema.optionalKey(Schema.JsonObject)
  })),
  /** Output so far, each announced by a running state of its own. */
  progress: Schema.optionalKey(Schema.Array(Schema.String)),
  /** How long the call runs. */
  delayMillis: Schema.optionalKey(Schema.Natural),
  /** Name of a gate at which the running call waits. */
  gate: Schema.optionalKey(Schema.String),
  /** The call runs until it is aborted. */
  hang: Schema.optionalKey(Schema.Boolean)
})
/**
 * @category models
 * @since 0.1.0
 */
export interface Outcome extends Schema.Schema.Type<typeof Outcome> {}

/**
 * The arguments of a call that is to have this outcome on the fake. The fake takes the outcome out again, so that it is seen by
 * nobody; the real server would see it.
 *
 * @example
 * ```ts
 * { tool: "bash", args: FakeTool.withOutcome({ command: "make" }, { error: "make: no targets" }) }
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const withOutcome = (args: Schema.JsonObject, outcome: Outcome): Schema.JsonObject => ({
  ...args,
  [outcomeKey]: encodeOutcome(outcome)
})

/**
 * One stretch of a running call: it waits, then its output so far is announced.
 *
 * @category models
 * @since 0.1.0
 */
export interface Progress {
  readonly afterMillis: number
  readonly output: string
}

/**
 * A call that has been understood. `tool` is `invalid` for one that was not.
 *
 * @category models
 * @since 0.1.0
 */
export interface Plan {
  readonly tool: string
  readonly input: Properties
  readonly permission: PermissionRequest | undefined
  readonly action:
    | { readonly _tag: "Result"; readonly output: string; readonly title: string; readonly metadata: Properties }
    | { readonly _tag: "Error"; readonly error: string }
    | { readonly _tag: "Question"; readonly questions: ReadonlyArray<Question> }
    | { readonly _tag: "Todos"; readonly todos: ReadonlyArray<Todo> }
    | { readonly _tag: "Task"; readonly title: string; readonly prompt: string; readonly agent: string }
  readonly progress: ReadonlyArray<Progress>
  readonly gate: string | undefined
  readonly hangs: boolean
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Question {
  readonly question: string
}

/**
 * Understands a call.
 *
 * @category constructors
 * @since 0.1.0
 */
export const plan = (
  call: ToolCall,
  context: { readonly offered: ReadonlyArray<string>; readonly directory: string }
): Plan => {
  const { [outcomeKey]: scripted, ...input } = call.args ?? {}
  if (!context.offered.includes(call.tool)) {
    const available = [...context.offered, "invalid"].sort().join(", ")
    return invalid(call.tool, `Model tried to call unavailable tool '${call.tool}'. Available tools: ${available}.`)
  }
  const planned = builtins[call.tool]?.(input, context.directory) ?? simple(call.tool, input)
  return scripted === undefined ? planned : override(planned, decodeOutcome(scripted))
}

// internal

const outcomeKey = "fake:outcome"
const encodeOutcome = Schema.encodeSync(Outcome)
const decodeOutcome = Schema.decodeUnknownSync(Outcome, { onExcessProperty: "error" })

const nothingElse = { permission: undefined, progress: [], gate: undefined, hangs: false } as const

const simple = (tool: string, input: Properties): Plan => ({
  ...nothingElse,
  tool,
  input,
  permission: {
    permission: tool === "write" ? "edit" : tool,
    patterns: [Object.values(input).find(Predicate.isString) ?? "*"],
    always: ["*"],
    metadata: input,
    isForced: false
  },
  action: { _tag: "Result", output: "ok", title: "", metadata: {} }
})

const invalid = (tool: string, error: string): Plan => ({
  ...nothingElse,
  tool: "invalid",
  input: { tool, error },
  action: {
    _tag: "Result",
    output: `The arguments provided to the tool are invalid: ${error}`,
    title: "Invalid Tool",
    metadata: {}
  }
})

const override = (plan: Plan, outcome: Outcome): Plan => {
  const before = plan.action._tag === "Result" ? plan.action : { output: "", title: "", metadata: {} }
  const isResult = outcome.output !== undefined || outcome.title !== undefined || outcome.metadata !== undefined
  const progress = outcome.progress?.map((output) => ({ afterMillis: 0, output })) ?? (isResult ? [] : plan.progress)
  return {
    ...plan,
    permission: outcome.ask === undefined
      ? plan.permission
      : {
        ...outcome.ask,
        always: outcome.ask.always ?? outcome.ask.patterns,
        metadata: outcome.ask.metadata ?? {},
        isForced: true
      },
    action: outcome.error !== undefined
      ? { _tag: "Error", error: outcome.error }
      : isResult
      ? {
        _tag: "Result",
        output: outcome.output ?? before.output,
        title: outcome.title ?? before.title,
        metadata: outcome.metadata ?? {}
      }
      : plan.action,
    progress: outcome.delayMillis === undefined
      ? progress
      : [...progress, { afterMillis: outcome.delayMillis, output: progress.at(-1)?.output ?? "" }],
    gate: outcome.gate,
    hangs: outcome.hang ?? false
  }
}

type Builtin = (input: Properties, directory: string) => Plan

const builtin = <A>(
  tool: string,
  schema: Schema.Codec<A, unknown>,
  toPlan: (args: A, directory: string) => Partial<Plan> & Pick<Plan, "action">
): Builtin => {
  const decode = Schema.decodeUnknownOption(schema)
  return (input, directory) =>
    Option.match(decode(input), {
      onNone: () => invalid(tool, `Invalid input for tool ${tool}`),
      onSome: (args) => ({ ...nothingElse, tool, input, ...toPlan(args, directory) })
    })
}

const builtins: Readonly<Record<string, Builtin>> = {
  bash: builtin("bash", Schema.Struct({ command: Schema.String }), ({ command }) => {
    const progress = runShell(command)
    const output = progress.at(-1)?.output ?? ""
    return {
      permission: {
        permission: "bash",
        patterns: [command],
        always: [`${command.split(" ", 1)[0] ?? ""} *`],
        metadata: { command },
        isForced: false
      },
      progress: [{ afterMillis: 0, output: "" }, ...progress],
      action: {
        _tag: "Result",
        output: output === "" ? "(no output)" : output,
        title: command,
        metadata: { output, exit: 0 }
      }
    }
  }),

  read: builtin("read", Schema.Struct({ filePath: Schema.String }), ({ filePath }, directory) => {
    const parentDir = filePath.replace(/\/[^/]*$/, "")
    const isOutside = filePath.startsWith("/") && !filePath.startsWith(`${directory}/`)
    const pattern = `${parentDir}/*`
    return {
      permission: isOutside
        ? {
          permission: "external_directory",
          patterns: [pattern],
          always: [pattern],
          metadata: { filepath: filePath, parentDir },
          isForced: false
        }
        : { permission: "read", patterns: [filePath], always: ["*"], metadata: {}, isForced: false },
      action: {
        _tag: "Result",
        output:
          `<path>${filePath}</path>\n<type>file</type>\n<content>\n1: scripted\n\n(End of file - total 1 lines)\n</content>`,
        title: filePath.replace(/^\//, ""),
        metadata: { preview: "scripted", loaded: [] }
      }
    }
  }),

  question: builtin(
    "question",
    Schema.Struct({ questions: Schema.Array(Schema.Struct({ question: Schema.String })) }),
    ({ questions }) => ({ action: { _tag: "Question", questions } })
  ),

  todowrite: builtin(
    "todowrite",
    Schema.Struct({
      todos: Schema.Array(Schema.Struct({
        content: Schema.String,
        status: Schema.String,
        priority: Schema.optionalKey(Schema.String)
      }))
    }),
    ({ todos }) => ({ action: { _tag: "Todos", todos } })
  ),

  task: builtin(
    "task",
    Schema.Struct({ description: Schema.String, prompt: Schema.String, subagent_type: Schema.String }),
    ({ description, prompt, subagent_type }) => ({
      action: { _tag: "Task", title: description, prompt, agent: subagent_type }
    })
  )
}

const runShell = (command: string): ReadonlyArray<Progress> => {
  let output = ""
  return command.split(/\s*(?:;|&&)\s*/).map((simple) => {
    const [name, ...words] = simple.split(" ")
    const text = words.join(" ").replace(/^(["'])(.*)\1$/, "$2")
    if (name === "echo") output += `${text}\n`
    return { afterMillis: name === "sleep" && Predicate.isTruthy(Number(text)) ? Number(text) * 1000 : 0, output }
  })
}
