/**
 * The files that a tool call of OpenCode 2.x changed, by the metadata of its edits, and the input and output of its writes
 * (0.0.0-next-16350).
 *
 * @since 0.1.0
 */
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type { FileChange, ToolStatus } from "../../domain/Part.ts"
import { maybe } from "../Lenient.ts"

/**
 * The changed files. They are `undefined` if unknown: the call has not ended, or was interrupted, or its tool may change files without reporting
 * them. A call that failed before it began has changed none: its tool does not exist, or was refused.
 *
 * @category translations
 * @since 0.1.0
 */
export const changedFiles = (
  tool: string,
  { error, input = {}, isInterrupted, metadata, output, status }: {
    readonly status: ToolStatus
    readonly input?: Readonly<Record<string, unknown>>
    readonly metadata?: Readonly<Record<string, unknown>>
    readonly output: string | undefined
    readonly error: string | undefined
    readonly isInterrupted: boolean
  }
): ReadonlyArray<FileChange> | undefined => {
  if (harmless.has(tool)) return []
  const hasBegun = isInterrupted || hasShell(metadata) || hasShell(metadata?.["metadata"])
  if (error !== undefined && !hasBegun && (own.has(tool) || error.startsWith("Unknown tool"))) return []
  if (!writers.has(tool) || status !== "completed") return undefined
  const { content } = input
  const path = input["path"] ?? input["filePath"]
  const told = Option.getOrUndefined(decodeFiles(metadata))
  if (told !== undefined) {
    const changes = told.files.map(toChange)
    // The metadata names a file from the session's folder on.
    return changes.length === 1 && typeof path === "string" ? changes.map((change) => ({ ...change, path })) : changes
  }
  if (typeof path !== "string") return undefined
  if (tool !== "write") return [{ path, change: "modified" }]
  const isNew = output?.startsWith("Created file") === true
  return [{
    path,
    change: output === undefined ? "unknown" : isNew ? "added" : "modified",
    ...(isNew && typeof content === "string" && { additions: lineCount(content), deletions: 0 }),
    contentKey: "content"
  }]
}

// internal

const writers = new Set(["write", "edit", "patch", "apply_patch"])

/** OpenCode's own tools, of which a failure says that they did nothing. A program that calls tools may fail behind some of them. */
const own = new Set([...writers, "shell"])

/** A command that has begun has an id, which the beta nests once more in its progress. */
const hasShell = Predicate.hasProperty("shellID")

const WireFile = Schema.Struct({
  file: Schema.String,
  status: maybe(Schema.String),
  additions: maybe(Schema.Finite),
  deletions: maybe(Schema.Finite)
})
const decodeFiles = Schema.decodeUnknownOption(Schema.Struct({ files: Schema.Array(WireFile) }))

const toChange = ({ file, status, ...counts }: typeof WireFile.Type): FileChange => ({
  path: file,
  change: status === "added" || status === "deleted" || status === "modified" ? status : "unknown",
  ...counts
})

/** OpenCode's own tools that write no file; a subagent does its own writing. */
const harmless = new Set(["glob", "grep", "question", "read", "skill", "subagent", "webfetch", "websearch"])

/** The lines of a text; what follows its last line break is a line unless it is empty. */
const lineCount = (text: string): number => text.split("\n").length - (text === "" || text.endsWith("\n") ? 1 : 0)
