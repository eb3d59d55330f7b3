/**
 * The tools of the fake OpenCode 1.x. Nothing is executed: the outcome of each call follows from its arguments.
 *
 * **Responsibilities**: the outcomes.
 *
 * **Not responsibilities**: announcing the states of a call (`ToolRun`).
 *
 * **Details**
 *
 * - `bash` understands `echo`, `printf` (without a format), `sleep` (seconds), and their sequences with `;` and `&&`.
 * - `read` returns one line for any file, and asks for `external_directory` outside the session's directory.
 * - `write`, `edit` and `apply_patch` write to files in memory.
 * - `question`, `todowrite` and `task` behave as on the real server; a subagent's prompt may carry its own script.
 * - `withOutcome` of `fake/Tool` gives any call another outcome.
 *
 * @since 0.1.0
 */
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { ToolCall } from "../../model/ModelScript.ts"
import * as Edit from "../Edit.ts"
import type { Properties } from "../Events.ts"
import * as Files from "../Files.ts"
import type { PermissionRequest } from "../Permission.ts"
import type { Outcome, Progress } from "../Tool.ts"
import { runShell, takeOutcome } from "../Tool.ts"
import { permissionOf } from "./Rules.ts"
import type { ModelRef, Todo } from "./Wire.ts"

/**
 * A parsed call. `tool` is `invalid` if parsing failed.
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
    | { readonly _tag: "Structured"; readonly value: Properties }
    | { readonly _tag: "Edit"; readonly edit: Edit.Edit }
    | ({ readonly _tag: "Task" } & Task)
  readonly progress: ReadonlyArray<Progress>
  readonly gate: string | undefined
  readonly hangs: boolean
  /** Changes of files without contents. */
  readonly files: ReadonlyArray<Files.Change>
}

/**
 * The task of a subagent.
 *
 * @category models
 * @since 0.1.0
 */
export interface Task {
  readonly agent: string
  readonly prompt: string
  readonly title: string
  /** The session to continue. */
  readonly taskId?: string | undefined
  /** A model that replaces the parent's. */
  readonly model?: ModelRef | undefined
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Question {
  readonly question: string
  readonly header: string
  readonly options: ReadonlyArray<{ readonly label: string; readonly description: string }>
  readonly multiple?: boolean
}

/**
 * The tool that receives the answer to a prompt with a format.
 *
 * @category constants
 * @since 0.1.0
 */
export const structuredOutput = "StructuredOutput"

/**
 * Parses a call.
 *
 * @category constructors
 * @since 0.1.0
 */
export const plan = (
  call: ToolCall,
  context: Context & { readonly offered: ReadonlyArray<string> }
): Plan => {
  const { input, outcome } = takeOutcome(call.args)
  // OpenCode offers `apply_patch` to some models instead of `edit` and `write`; here all three can be called.
  const isOffered = context.offered.includes(call.tool === "apply_patch" ? "edit" : call.tool)
  if (!isOffered) {
    const available = [...context.offered, "invalid"].sort().join(", ")
    return invalid(call.tool, `Model tried to call unavailable tool '${call.tool}'. Available tools: ${available}.`)
  }
  if (call.tool === structuredOutput) {
    return { ...nothingElse, tool: call.tool, input, action: { _tag: "Structured", value: input } }
  }
  const planned = builtins[call.tool]?.(input, context) ?? simple(call.tool, input)
  return outcome === undefined ? planned : override(planned, outcome)
}

// internal

const nothingElse = { permission: undefined, progress: [], gate: undefined, hangs: false, files: [] } as const

const simple = (tool: string, input: Properties): Plan => ({
  ...nothingElse,
  tool,
  input,
  permission: {
    permission: permissionOf(tool),
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
    files: outcome.files?.map((change) => ({
      ...{ status: "modified", additions: 0, deletions: 0, patch: "" } as const,
      ...change
    })) ?? [],
    hangs: outcome.hang ?? false
  }
}

interface Context {
  readonly directory: string
  readonly files: Files.Files
}

type Builtin = (input: Properties, context: Context) => Plan

const builtin = <A>(
  tool: string,
  schema: Schema.Codec<A, unknown>,
  toPlan: (args: A, context: Context) => Partial<Plan> & Pick<Plan, "action">
): Builtin => {
  const decode = Schema.decodeUnknownResult(schema)
  return (input, context) =>
    Result.match(decode(input), {
      onFailure: ({ message }) => {
        const error = `The ${tool} tool was called with invalid arguments: SchemaError(${message}).\n` +
          "Please rewrite the input so it satisfies the expected schema."
        return { ...nothingElse, tool, input, action: { _tag: "Error", error } }
      },
      onSuccess: (args) => ({ ...nothingElse, tool, input, ...toPlan(args, context) })
    })
}

/** A tool that writes files: it asks for `edit` and shows the change. */
const editing = <A>(
  tool: Edit.Edit["tool"],
  schema: Schema.Codec<A, unknown>,
  toEdit: (args: A) => Edit.Edit
): Builtin =>
  builtin(tool, schema, (args, { directory, files }) => {
    const edit = toEdit(args)
    const edited = Edit.plan(files, directory, edit)
    if (typeof edited === "string") return { action: { _tag: "Error", error: edited } }
    const worktree = files.worktree(directory)
    const diff = edited.changes.map((change) => Edit.diffOf(change)).join("\n")
    return {
      permission: {
        permission: "edit",
        patterns: edited.changes.map(({ path }) => Files.relative(worktree, path)),
        always: ["*"],
        metadata: { filepath: edited.changes[0]?.path, diff },
        isForced: false
      },
      action: { _tag: "Edit", edit }
    }
  })

const builtins: Readonly<Record<string, Builtin>> = {
  bash: builtin("bash", Schema.Struct({ command: Schema.String }), ({ command }) => {
    const progress = runShell(command)
    const printed = progress.at(-1)?.output ?? ""
    const output = printed === "" ? "(no output)" : printed
    const commands = [...new Set(simpleCommands(command))]
    return {
      permission: {
        permission: "bash",
        patterns: commands,
        always: [...new Set(commands.map((simple) => `${prefixOf(simple)} *`))],
        metadata: { command },
        isForced: false
      },
      progress: [{ afterMillis: 0, output: "" }, ...progress],
      action: {
        _tag: "Result",
        output,
        title: command,
        metadata: { output, exit: 0 }
      }
    }
  }),

  read: builtin("read", Schema.Struct({ filePath: Schema.String }), ({ filePath }, { directory, files }) => {
    const path = Files.resolve(directory, filePath)
    const content = files.read(path)
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
        ...printedFile(path, content ?? "scripted"),
        title: Files.relative(files.worktree(directory), path)
      }
    }
  }),

  write: editing(
    "write",
    Schema.Struct({ content: Schema.String, filePath: Schema.String }),
    (args) => ({ tool: "write", ...args })
  ),

  edit: editing(
    "edit",
    Schema.Struct({
      filePath: Schema.String,
      oldString: Schema.String,
      newString: Schema.String,
      replaceAll: Schema.optionalKey(Schema.Boolean)
    }),
    (args) => ({ tool: "edit", ...args })
  ),

  apply_patch: editing(
    "apply_patch",
    Schema.Struct({ patchText: Schema.String }),
    (args) => ({ tool: "apply_patch", ...args })
  ),

  question: builtin(
    "question",
    Schema.Struct({
      questions: Schema.Array(Schema.Struct({
        question: Schema.String,
        header: Schema.String,
        options: Schema.Array(Schema.Struct({ label: Schema.String, description: Schema.String })),
        multiple: Schema.optionalKey(Schema.Boolean)
      }))
    }),
    ({ questions }) => ({ action: { _tag: "Question", questions } })
  ),

  todowrite: builtin(
    "todowrite",
    Schema.Struct({
      todos: Schema.Array(Schema.Struct({
        content: Schema.String,
        status: Schema.String,
        priority: Schema.String
      }))
    }),
    ({ todos }) => ({ action: { _tag: "Todos", todos } })
  ),

  task: builtin(
    "task",
    Schema.Struct({
      description: Schema.String,
      prompt: Schema.String,
      subagent_type: Schema.String,
      task_id: Schema.optionalKey(Schema.String)
    }),
    ({ description, prompt, subagent_type, task_id }) => ({
      permission: {
        permission: "task",
        patterns: [subagent_type],
        always: ["*"],
        metadata: { description, subagent_type },
        isForced: false
      },
      action: { _tag: "Task", title: description, prompt, agent: subagent_type, taskId: task_id }
    })
  )
}

/** How `read` shows a file. */
const printedFile = (path: string, content: string) => {
  const lines = content.replace(/\n$/, "").split("\n")
  const text = lines.join("\n")
  const totalLines = lines.length
  const numbered = lines.map((line, at) => `${at + 1}: ${line}`).join("\n")
  return {
    output: `<path>${path}</path>\n<type>file</type>\n<content>\n${numbered}\n\n` +
      `(End of file - total ${totalLines} lines)\n</content>`,
    metadata: {
      preview: text,
      loaded: [],
      display: { type: "file", path, text, lineStart: 1, lineEnd: totalLines, totalLines, truncated: false },
      truncated: false
    }
  }
}

/** Splits a script into commands, each with its own permission. Neither quoting nor substitution is supported. */
const simpleCommands = (script: string): ReadonlyArray<string> =>
  script.split(/;|&&|\|\|?|\n/).map((simple) => simple.trim()).filter((simple) =>
    simple !== "" && !/^cd\b/.test(simple)
  )

/** The prefix that `always` allows: the command, and for some commands their subcommand. */
const prefixOf = (simple: string): string => {
  const [name = "", subcommand] = simple.split(/\s+/)
  return withSubcommand.has(name) && subcommand !== undefined ? `${name} ${subcommand}` : name
}

const withSubcommand = new Set(["bun", "cargo", "docker", "git", "go", "npm", "pip", "pnpm", "yarn"])
