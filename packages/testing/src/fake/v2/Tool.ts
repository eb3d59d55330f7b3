/**
 * The tools of the fake OpenCode 2.x. Nothing is executed: the outcome of each call follows from its arguments, or from
 * `FakeTool.withOutcome`.
 *
 * **Responsibilities**: the outcomes.
 *
 * **Not responsibilities**: the events of a call (`ToolRun`).
 *
 * @since 0.1.0
 */
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { ToolCall } from "../../model/ModelScript.ts"
import * as Edit from "../Edit.ts"
import type { Properties } from "../Events.ts"
import type * as Files from "../Files.ts"
import { resolve } from "../Files.ts"
import * as Patch from "../Patch.ts"
import type { Outcome } from "../Tool.ts"
import { runShell, takeOutcome } from "../Tool.ts"

/**
 * A permission that a call needs. `isForced` asks for it whatever the rules say.
 *
 * @category models
 * @since 0.1.0
 */
export interface PermissionRequest {
  readonly action: string
  readonly resources: ReadonlyArray<string>
  readonly save: ReadonlyArray<string>
  readonly metadata?: Properties
  readonly isForced: boolean
}

/**
 * A parsed call.
 *
 * @category models
 * @since 0.1.0
 */
export interface Plan {
  readonly input: Properties
  readonly permission: PermissionRequest | undefined
  readonly action:
    | { readonly _tag: "Result"; readonly content: ReadonlyArray<string>; readonly metadata?: Properties }
    | { readonly _tag: "Error"; readonly error: string }
    | { readonly _tag: "Question"; readonly questions: ReadonlyArray<Question> }
    | { readonly _tag: "Edit"; readonly edit: Edit.Edit; readonly path: string }
    | ({ readonly _tag: "Subagent" } & Task)
  /** Whether a process runs, which the server announces. */
  readonly isProcess: boolean
  readonly delaysMillis: ReadonlyArray<number>
  readonly gate: string | undefined
  readonly hangs: boolean
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
  readonly description: string
  readonly prompt: string
  readonly background?: boolean | undefined
}

/**
 * @category models
 * @since 0.1.0
 */
export type Question = typeof Question.Type

/**
 * Parses a call.
 *
 * @category constructors
 * @since 0.1.0
 */
export const plan = (
  call: ToolCall,
  context: { readonly directory: string; readonly files: Files.Files; readonly offered: ReadonlyArray<string> }
): Plan => {
  const { input, outcome } = takeOutcome(call.args)
  const base = { ...nothingElse, input }
  if (!context.offered.includes(call.tool)) {
    return { ...base, action: { _tag: "Error", error: `Unknown tool: ${call.tool}` } }
  }
  const planned = { ...base, ...(builtins[call.tool]?.(input, context) ?? simple(call.tool, input)) }
  return outcome === undefined ? planned : override(planned, outcome)
}

/**
 * The names of the tools.
 *
 * @category constants
 * @since 0.1.0
 */
export const names: ReadonlyArray<string> = [
  "edit",
  "glob",
  "grep",
  "question",
  "read",
  "shell",
  "skill",
  "subagent",
  "webfetch",
  "websearch",
  "write",
  "execute"
]

/**
 * What a call of an edit did; a text says why it could not.
 *
 * @category getters
 * @since 0.1.0
 */
export const edited = (
  files: Files.Files,
  directory: string,
  { edit, path }: { readonly edit: Edit.Edit; readonly path: string }
):
  | { readonly changes: ReadonlyArray<Edit.FileChange>; readonly text: string; readonly metadata?: Properties }
  | string =>
{
  if (edit.tool === "edit" && edit.oldString === "") {
    return "oldString must not be empty. Use write to create or overwrite a file."
  }
  if (edit.tool === "edit" && edit.oldString === edit.newString) {
    return "No changes to apply: oldString and newString are identical."
  }
  const done = Edit.plan(files, directory, edit)
  if (typeof done === "string") {
    const matches = edit.tool === "edit" ? occurrences(files.read(resolve(directory, path)), edit.oldString) : 0
    if (matches > 1) {
      return `Found ${matches} matches for oldString, but expected exactly one. ` +
        "Add more surrounding context to make oldString unique, or set replaceAll to true to replace every occurrence."
    }
    return edit.tool === "edit"
      ? `Could not find oldString in ${path}. It must match exactly, including whitespace and indentation.`
      : done
  }
  const [change] = done.changes
  if (edit.tool === "write") {
    const verb = change?.before === undefined ? "Created" : "Wrote"
    return { changes: done.changes, text: `${verb} file successfully: ${path}` }
  }
  const diff = Patch.unified(path, change?.before ?? "", change?.after ?? "", { context: 4, suffix: "" })
  return {
    changes: done.changes,
    text: `Edited ${path} (1 replacement)`,
    metadata: { files: [{ file: path, ...diff, status: "modified" }] }
  }
}

// internal

const occurrences = (content = "", text: string): number => content.split(text).length - 1

const nothingElse = {
  permission: undefined,
  isProcess: false,
  delaysMillis: [],
  gate: undefined,
  hangs: false,
  files: []
} as const

type Planned = Partial<Plan> & Pick<Plan, "action">

const result = (content: ReadonlyArray<string>, metadata?: Properties): Plan["action"] => ({
  _tag: "Result",
  content,
  ...(metadata !== undefined && { metadata })
})

const simple = (tool: string, input: Properties): Planned => {
  const resource = Object.values(input).find(Predicate.isString) ?? "*"
  return {
    permission: { action: tool, resources: [resource], save: [resource], isForced: false },
    action: result(["ok"])
  }
}

const override = (plan: Plan, outcome: Outcome): Plan => {
  const { ask, delayMillis, error, files, gate, hang, metadata, output } = outcome
  const { action } = plan
  const isResult = output !== undefined || metadata !== undefined
  return {
    ...plan,
    permission: ask === undefined ? plan.permission : {
      action: ask.permission,
      resources: ask.patterns,
      save: ask.always ?? ask.patterns,
      isForced: true
    },
    action: error !== undefined
      ? { _tag: "Error", error }
      : isResult
      ? result(output === undefined && action._tag === "Result" ? action.content : [output ?? ""], metadata)
      : action,
    delaysMillis: delayMillis === undefined ? plan.delaysMillis : [...plan.delaysMillis, delayMillis],
    gate,
    hangs: hang ?? false,
    files: files?.map((change) => ({
      ...{ status: "modified", additions: 0, deletions: 0, patch: "" } as const,
      ...change
    })) ?? []
  }
}

interface Context {
  readonly directory: string
  readonly files: Files.Files
}

type Builtin = (input: Properties, context: Context) => Planned

const builtin = <A>(schema: Schema.Codec<A, unknown>, toPlan: (args: A, context: Context) => Planned): Builtin => {
  const decode = Schema.decodeUnknownResult(schema)
  return (input, context) =>
    Result.match(decode(input), {
      onFailure: ({ message }) => ({ action: { _tag: "Error", error: `Invalid tool input: ${message}` } }),
      onSuccess: (args) => toPlan(args, context)
    })
}

const Question = Schema.Struct({
  question: Schema.String,
  header: Schema.String,
  options: Schema.Array(Schema.Struct({ label: Schema.String, description: Schema.String })),
  multiple: Schema.optionalKey(Schema.Boolean)
})

const outsideOf = ({ directory }: Context, path: string): PermissionRequest | undefined => {
  const absolute = resolve(directory, path)
  if (absolute.startsWith(`${directory}/`) || absolute === directory) return undefined
  const pattern = `${absolute.replace(/\/[^/]*$/, "")}/*`
  return { action: "external_directory", resources: [pattern], save: [pattern], isForced: false }
}

const editing = <A extends { readonly path: string }>(
  schema: Schema.Codec<A, unknown>,
  toEdit: (args: A) => Edit.Edit
): Builtin =>
  builtin(schema, (args, context) => ({
    permission: outsideOf(context, args.path) ??
      { action: "edit", resources: [args.path], save: ["*"], isForced: false },
    action: { _tag: "Edit", edit: toEdit(args), path: args.path }
  }))

const builtins: Readonly<Record<string, Builtin>> = {
  shell: builtin(Schema.Struct({ command: Schema.String }), ({ command }) => {
    const steps = runShell(command)
    const printed = steps.at(-1)?.output ?? ""
    return {
      permission: { action: "shell", resources: [command], save: [command], isForced: false },
      isProcess: true,
      delaysMillis: steps.flatMap(({ afterMillis }) => (afterMillis > 0 ? [afterMillis] : [])),
      action: result([printed === "" ? "(no output)" : printed, "Command exited with code 0."], {
        truncated: false,
        exit: 0
      })
    }
  }),

  read: builtin(Schema.Struct({ path: Schema.String }), ({ path }, context) => {
    const content = context.files.read(resolve(context.directory, path))
    const outside = outsideOf(context, path)
    const lines = (content ?? "scripted").replace(/\n$/, "").split("\n")
    return {
      permission: outside ?? { action: "read", resources: [path], save: ["*"], isForced: false },
      action: result([
        [`Read file ${path}, lines 1-${lines.length}`, ...lines.map((line, at) => `${at + 1}: ${line}`)].join("\n")
      ])
    }
  }),

  write: editing(
    Schema.Struct({ path: Schema.String, content: Schema.String }),
    ({ content, path }) => ({ tool: "write", filePath: path, content })
  ),

  edit: editing(
    Schema.Struct({
      path: Schema.String,
      oldString: Schema.String,
      newString: Schema.String,
      replaceAll: Schema.optionalKey(Schema.Boolean)
    }),
    ({ newString, oldString, path, replaceAll }) => ({ tool: "edit", filePath: path, oldString, newString, replaceAll })
  ),

  webfetch: builtin(Schema.Struct({ url: Schema.String, format: Schema.optionalKey(Schema.String) }), (input) => ({
    permission: { action: "webfetch", resources: [input.url], save: ["*"], metadata: input, isForced: false },
    action: result(["ok"])
  })),

  question: builtin(
    Schema.Struct({ questions: Schema.Array(Question) }),
    ({ questions }) => ({ action: { _tag: "Question", questions } })
  ),

  subagent: builtin(
    Schema.Struct({
      agent: Schema.String,
      description: Schema.String,
      prompt: Schema.String,
      background: Schema.optionalKey(Schema.Boolean)
    }),
    (task) => ({
      permission: { action: "subagent", resources: [task.agent], save: [task.agent], isForced: false },
      action: { _tag: "Subagent", ...task }
    })
  )
}
