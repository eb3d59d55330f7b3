/**
 * OpenCode's own tools as tools of `effect/ai`.
 *
 * OpenCode runs them itself. Where the toolkit of a request names one, its calls and results are parts of the response, executed by the
 * provider. They need no handler, so a toolkit of them can be given to a request as it is.
 *
 * **Example**
 * ```ts
 * const response = yield* LanguageModel.generateText({ prompt: "Run the tests.", toolkit: OpencodeTool.toolkit })
 * const outputs = response.toolResults.map(({ name, result }) => [name, result])
 * ```
 *
 * @since 0.1.0
 */
import * as Tool from "effect/ai/Tool"
import * as Toolkit from "effect/ai/Toolkit"
import * as Schema from "effect/Schema"

/**
 * A tool of OpenCode. Its parameters are what the model wrote, its result is the output that the model read, and its failure is the error.
 *
 * @category models
 * @since 0.1.0
 */
export type OpencodeTool<Name extends string> = Tool.ProviderDefined<
  `opencode.${string}`,
  Name,
  {
    readonly args: typeof Schema.Void
    readonly parameters: typeof Parameters
    readonly success: typeof Schema.String
    readonly failure: typeof Schema.String
    readonly failureMode: "return"
  }
>

/**
 * What the model wrote for a tool. A model may write anything, and a call that OpenCode rejected is told as well: so no schema of a tool
 * can be relied on.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Parameters = Schema.Record(Schema.String, Schema.Unknown)

/**
 * Makes a tool of OpenCode that this module does not name, for example one of a plugin or of an MCP server. `providerName` is its name in
 * OpenCode, and `name` the one in responses.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <const Name extends string>(name: Name, providerName: string = name): OpencodeTool<Name> =>
  Tool.providerDefined({
    id: `opencode.${providerName}`,
    customName: name,
    providerName,
    parameters: Parameters,
    success: Schema.String,
    failure: Schema.String
    // Without a handler the mode only says that a failed call is a result, and no failure of the request.
  })<"return">(undefined)

/**
 * Runs a shell command, on OpenCode 1.x.
 *
 * @category tools
 * @since 0.1.0
 */
export const Bash = make("OpencodeBash", "bash")

/**
 * Runs a shell command, on OpenCode 2.x.
 *
 * @category tools
 * @since 0.1.0
 */
export const Shell = make("OpencodeShell", "shell")

/**
 * Reads a file.
 *
 * @category tools
 * @since 0.1.0
 */
export const Read = make("OpencodeRead", "read")

/**
 * Writes a file.
 *
 * @category tools
 * @since 0.1.0
 */
export const Write = make("OpencodeWrite", "write")

/**
 * Changes a part of a file.
 *
 * @category tools
 * @since 0.1.0
 */
export const Edit = make("OpencodeEdit", "edit")

/**
 * Applies a patch to several files.
 *
 * @category tools
 * @since 0.1.0
 */
export const ApplyPatch = make("OpencodeApplyPatch", "apply_patch")

/**
 * Lists a folder.
 *
 * @category tools
 * @since 0.1.0
 */
export const List = make("OpencodeList", "list")

/**
 * Finds files by a pattern of their names.
 *
 * @category tools
 * @since 0.1.0
 */
export const Glob = make("OpencodeGlob", "glob")

/**
 * Searches the contents of files.
 *
 * @category tools
 * @since 0.1.0
 */
export const Grep = make("OpencodeGrep", "grep")

/**
 * Fetches a web page.
 *
 * @category tools
 * @since 0.1.0
 */
export const WebFetch = make("OpencodeWebFetch", "webfetch")

/**
 * Searches the web.
 *
 * @category tools
 * @since 0.1.0
 */
export const WebSearch = make("OpencodeWebSearch", "websearch")

/**
 * Gives a task to a subagent, on OpenCode 1.x.
 *
 * @category tools
 * @since 0.1.0
 */
export const Task = make("OpencodeTask", "task")

/**
 * Gives a task to a subagent, on OpenCode 2.x.
 *
 * @category tools
 * @since 0.1.0
 */
export const Subagent = make("OpencodeSubagent", "subagent")

/**
 * Runs a program that calls other tools, on OpenCode 2.x.
 *
 * @category tools
 * @since 0.1.0
 */
export const Execute = make("OpencodeExecute", "execute")

/**
 * Writes the agent's list of to-dos.
 *
 * @category tools
 * @since 0.1.0
 */
export const TodoWrite = make("OpencodeTodoWrite", "todowrite")

/**
 * Asks the person a question. The turn's gate answers it (`HumanGate`).
 *
 * @category tools
 * @since 0.1.0
 */
export const Question = make("OpencodeQuestion", "question")

/**
 * Loads a skill.
 *
 * @category tools
 * @since 0.1.0
 */
export const Skill = make("OpencodeSkill", "skill")

/**
 * All tools of this module: a response with this toolkit tells every call of OpenCode's own tools.
 *
 * @category toolkits
 * @since 0.1.0
 */
export const toolkit = Toolkit.make(
  Bash,
  Shell,
  Read,
  Write,
  Edit,
  ApplyPatch,
  List,
  Glob,
  Grep,
  WebFetch,
  WebSearch,
  Task,
  Subagent,
  Execute,
  TodoWrite,
  Question,
  Skill
)

/**
 * Whether a tool is one of OpenCode's.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isOpencodeTool = (tool: Tool.Any): tool is Tool.Any & { readonly providerName: string } =>
  Tool.isProviderDefined(tool) && tool.id.startsWith("opencode.")
