/**
 * The fake OpenCode's tools that write files (`write`, `edit`, `apply_patch`), with their changes and outputs (1.18.33).
 *
 * **Gotchas**
 *
 * A file with unknown content is assumed to hold the text that an edit looks for. An edit therefore fails only if the content is known,
 * from an earlier call or from the option `files`.
 *
 * @since 0.1.0
 */
import type { Properties } from "./Events.ts"
import * as Files from "./Files.ts"
import * as Patch from "./Patch.ts"

/**
 * The arguments of a call.
 *
 * @category models
 * @since 0.1.0
 */
export type Edit =
  | { readonly tool: "write"; readonly filePath: string; readonly content: string }
  | {
    readonly tool: "edit"
    readonly filePath: string
    readonly oldString: string
    readonly newString: string
    readonly replaceAll?: boolean | undefined
  }
  | { readonly tool: "apply_patch"; readonly patchText: string }

/**
 * The result of a call. `running` is announced before the call completes.
 *
 * @category models
 * @since 0.1.0
 */
export interface Edited {
  readonly changes: ReadonlyArray<FileChange>
  readonly output: string
  readonly title: string
  readonly metadata: Properties
  readonly running?: Properties
}

/**
 * A file before and after; `undefined` for a missing file. A moved file has its new path.
 *
 * @category models
 * @since 0.1.0
 */
export interface FileChange {
  readonly path: string
  readonly before: string | undefined
  readonly after: string | undefined
  readonly isMoved: boolean
}

/**
 * The effect of an edit at this moment; a text says why it is impossible.
 *
 * @category getters
 * @since 0.1.0
 */
export const plan = (files: Files.Files, directory: string, edit: Edit): Edited | string => {
  const worktree = files.worktree(directory)
  switch (edit.tool) {
    case "write": {
      const path = Files.resolve(directory, edit.filePath)
      const before = files.read(path)
      return {
        changes: [{ path, before, after: edit.content, isMoved: false }],
        output: "Wrote file successfully.",
        title: Files.relative(worktree, path),
        metadata: { diagnostics: {}, filepath: path, exists: before !== undefined }
      }
    }
    case "edit": {
      const path = Files.resolve(directory, edit.filePath)
      const { newString, oldString } = edit
      if (oldString === newString) return "No changes to apply: oldString and newString are identical."
      const before = files.read(path) ?? (oldString === "" ? undefined : oldString)
      const after = before === undefined ? newString : replace(before, edit)
      if (typeof after !== "string") return after.error
      const { additions, deletions, patch } = diff(path, before, after)
      const metadata = { diff: patch, filediff: { file: path, patch, additions, deletions }, diagnostics: {} }
      return {
        changes: [{ path, before, after, isMoved: false }],
        output: "Edit applied successfully.",
        title: Files.relative(worktree, path),
        metadata,
        running: metadata
      }
    }
    case "apply_patch":
      return applyPatch(files, directory, edit.patchText)
  }
}

/**
 * The diff of a change as the tools print it.
 *
 * @category getters
 * @since 0.1.0
 */
export const diffOf = ({ after, before, path }: FileChange): string => diff(path, before, after).patch

// internal

const diff = (path: string, before: string | undefined, after: string | undefined) =>
  Patch.unified(path, before ?? "", after ?? "", { context: 4, suffix: "" })

const replace = (
  content: string,
  { newString, oldString, replaceAll }: Extract<Edit, { tool: "edit" }>
): string | { readonly error: string } => {
  const pieces = content.split(oldString)
  if (pieces.length === 1) {
    return {
      error: "Could not find oldString in the file. " +
        "It must match exactly, including whitespace, indentation, and line endings."
    }
  }
  if (pieces.length > 2 && replaceAll !== true) {
    return {
      error: "Found multiple matches for oldString. Provide more surrounding context to make the match unique."
    }
  }
  return pieces.join(newString)
}

const applyPatch = (files: Files.Files, directory: string, patchText: string): Edited | string => {
  const worktree = files.worktree(directory)
  const patches = Patch.parse(patchText)
  if (patches === undefined) {
    return "apply_patch verification failed: Error: Invalid patch format: missing Begin/End markers"
  }
  const changes: Array<FileChange> = []
  const told: Array<Properties & { readonly patch: string }> = []
  const lines: Array<string> = []
  for (const patch of patches) {
    const path = Files.resolve(directory, patch.path)
    const relativePath = Files.relative(worktree, path)
    const known = files.read(path)
    switch (patch.type) {
      case "add": {
        changes.push({ path, before: known, after: patch.content, isMoved: false })
        told.push({ filePath: path, relativePath, type: "add", ...diff(path, undefined, patch.content) })
        lines.push(`A ${relativePath}`)
        break
      }
      case "delete": {
        const before = known ?? ""
        changes.push({ path, before, after: undefined, isMoved: false })
        const { patch: text } = diff(path, before, undefined)
        // The empty line after the last line break counts (1.18.33).
        const deletions = before.split("\n").length
        told.push({ filePath: path, relativePath, type: "delete", patch: text, additions: 0, deletions })
        lines.push(`D ${relativePath}`)
        break
      }
      case "update": {
        const before = known ?? patch.hunks.flatMap((hunk) => hunk.before).map((line) => `${line}\n`).join("")
        let after = before
        for (const hunk of patch.hunks) {
          const [old, now] = [hunk.before, hunk.after].map((part) => part.map((line) => `${line}\n`).join(""))
          if (old === undefined || now === undefined || !after.includes(old)) {
            const expected = `Failed to find expected lines in ${path}:\n${hunk.before.join("\n")}`
            return `apply_patch verification failed: Error: ${expected}`
          }
          after = after.replace(old, () => now)
        }
        const movePath = patch.movePath === undefined ? undefined : Files.resolve(directory, patch.movePath)
        if (movePath === undefined) changes.push({ path, before, after, isMoved: false })
        else {
          changes.push({ path, before, after: undefined, isMoved: true })
          changes.push({ path: movePath, before: files.read(movePath), after, isMoved: false })
        }
        const target = Files.relative(worktree, movePath ?? path)
        told.push({
          filePath: path,
          relativePath: target,
          type: movePath === undefined ? "update" : "move",
          ...diff(path, before, after),
          ...(movePath !== undefined && { movePath })
        })
        lines.push(`M ${target}`)
      }
    }
  }
  const output = `Success. Updated the following files:\n${lines.join("\n")}`
  return {
    changes,
    output,
    title: output,
    metadata: { diff: told.map(({ patch }) => `${patch}\n`).join(""), files: told, diagnostics: {} }
  }
}
