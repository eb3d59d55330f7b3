/**
 * The files that a tool call of OpenCode 1.x changed, by its metadata (1.18.33).
 *
 * @since 0.1.0
 */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { FileChange, ToolStatus } from "../../domain/Part.ts"

/**
 * The changed files. They are `undefined` if unknown: the call has not ended or was interrupted, or its tool may change
 * files without reporting them (a shell command, a tool of a plugin or an MCP server).
 *
 * @category translations
 * @since 0.1.0
 */
export const changedFiles = (
  tool: string,
  { error, input = {}, metadata = {}, status }: {
    readonly status: ToolStatus
    readonly input?: Readonly<Record<string, unknown>>
    readonly error?: string
    readonly metadata?: Readonly<Record<string, unknown>>
  }
): ReadonlyArray<FileChange> | undefined => {
  if (harmless.has(tool)) return []
  const read = writers.get(tool)
  if (error !== undefined && (read !== undefined || tool === "bash") && metadata["interrupted"] !== true) return []
  return read === undefined || status !== "completed" ? undefined : read(metadata, input)
}

// internal

/**
 * OpenCode's own tools that write no file. `invalid` replaces an impossible call; `task` leaves the writing to a
 * subagent.
 */
const harmless = new Set([
  "codesearch",
  "glob",
  "grep",
  "invalid",
  "list",
  "lsp",
  "plan_enter",
  "plan_exit",
  "question",
  "read",
  "skill",
  "StructuredOutput",
  "task",
  "todoread",
  "todowrite",
  "webfetch",
  "websearch"
])

type Read = (
  metadata: Readonly<Record<string, unknown>>,
  input: Readonly<Record<string, unknown>>
) => ReadonlyArray<FileChange> | undefined

const WriteMetadata = Schema.Struct({ filepath: Schema.String, exists: Schema.optionalKey(Schema.Boolean) })
const decodeWrite = Schema.decodeUnknownOption(WriteMetadata)

const write: Read = (metadata, input) =>
  Option.match(decodeWrite(metadata), {
    onNone: () => byInput(input, { change: "unknown", contentKey: "content" }),
    onSome: ({ exists, filepath }) => [{
      path: filepath,
      change: exists === undefined ? "unknown" : exists ? "modified" : "added",
      contentKey: "content"
    }]
  })

const EditMetadata = Schema.Struct({
  filediff: Schema.Struct({
    file: Schema.String,
    additions: Schema.optionalKey(Schema.Finite),
    deletions: Schema.optionalKey(Schema.Finite)
  })
})
const decodeEdit = Schema.decodeUnknownOption(EditMetadata)

const edit: Read = (metadata, input) => {
  // OpenCode refuses an empty `oldString` for an existing file, even for an empty one.
  const kind: Pick<FileChange, "change" | "contentKey"> = input["oldString"] === ""
    ? { change: "added", contentKey: "newString" }
    : { change: "modified" }
  return Option.match(decodeEdit(metadata), {
    onNone: () => byInput(input, kind),
    onSome: ({ filediff: { file, ...counts } }) => [{ path: file, ...counts, ...kind }]
  })
}

const PatchMetadata = Schema.Struct({
  files: Schema.Array(Schema.Struct({
    filePath: Schema.String,
    type: Schema.String,
    movePath: Schema.optionalKey(Schema.String),
    additions: Schema.optionalKey(Schema.Finite),
    deletions: Schema.optionalKey(Schema.Finite)
  }))
})
const decodePatch = Schema.decodeUnknownOption(PatchMetadata)

const applyPatch: Read = (metadata) =>
  Option.getOrUndefined(
    Option.map(decodePatch(metadata), ({ files }) =>
      files.flatMap(({ filePath, movePath, type, ...counts }): ReadonlyArray<FileChange> => {
        switch (type) {
          case "add":
            return [{ path: filePath, change: "added", ...counts }]
          case "update":
            return [{ path: filePath, change: "modified", ...counts }]
          case "delete":
            // The tool's counts are too high by one (1.18.33).
            return [{ path: filePath, change: "deleted" }]
          case "move":
            return [
              { path: filePath, change: "deleted" },
              ...(movePath === undefined ? [] : [{ path: movePath, change: "added" as const }])
            ]
          default:
            return [{ path: filePath, change: "unknown" }]
        }
      }))
  )

/** Older servers report less than the input of the call itself. */
const byInput = (input: Readonly<Record<string, unknown>>, change: Omit<FileChange, "path">) => {
  const path = input["filePath"]
  return typeof path === "string" ? [{ path, ...change }] : undefined
}

const writers = new Map<string, Read>([
  ["write", write],
  ["edit", edit],
  ["multiedit", (_metadata, input) => byInput(input, { change: "modified" })],
  ["apply_patch", applyPatch]
])
