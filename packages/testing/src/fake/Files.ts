/**
 * The files of the fake OpenCode: contents in memory, and a log of changes, which gives the changes of a turn.
 *
 * **Responsibilities**: the content of a path, the changes between two snapshots, the forms in which changes are reported.
 *
 * **Not responsibilities**: a disk, ignored files, commits, the changes of a tool (`Edit`).
 *
 * **Details**
 *
 * A snapshot is a position in the log, written like the tree hash of OpenCode. An unmentioned file does not exist. An outcome may report
 * changes without contents ({@link Change}).
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import * as Patch from "./Patch.ts"

/**
 * A change of a file in the form of `GET /session/{id}/diff`; `file` is relative to the root of the repository.
 *
 * @category models
 * @since 0.1.0
 */
export const Change = Schema.Struct({
  file: Schema.String,
  status: Schema.Literals(["added", "modified", "deleted"]),
  additions: Schema.Natural,
  deletions: Schema.Natural,
  patch: Schema.String
})
/**
 * @category models
 * @since 0.1.0
 */
export interface Change extends Schema.Schema.Type<typeof Change> {}

/**
 * @category models
 * @since 0.1.0
 */
export interface Files {
  /** The root of the directory's repository; `/` without one. */
  readonly worktree: (directory: string) => string
  readonly isRepository: boolean
  /** The content of a path; `undefined` for a missing file. */
  readonly read: (path: string) => string | undefined
  /** The entries of a folder, with a slash after each folder; empty for a path that is not a folder. */
  readonly entries: (path: string) => ReadonlyArray<string>
  /** Writes or deletes a file. A file that is moved away is not reported as deleted in a step. */
  readonly write: (path: string, content: string | undefined, options?: { readonly isMoved?: boolean }) => void
  /** Records a change without contents. */
  readonly tell: (directory: string, change: Change) => void
  /** The content that a path had at a snapshot. */
  readonly at: (path: string, snapshot: string) => string | undefined
  /** A snapshot of the files. */
  readonly snapshot: () => string
  /** The absolute paths below a directory that changed since a snapshot. */
  readonly changed: (directory: string, since: string) => ReadonlyArray<string>
  /** The differences below a directory between two snapshots, with each file once. */
  readonly diffs: (directory: string, from: string, to: string) => ReadonlyArray<Change>
}

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: {
  /** The server's directory: the root of the repository of all directories below it. */
  readonly directory: string
  readonly isRepository: boolean
  /** Contents by path, relative to the directory. */
  readonly files: Readonly<Record<string, string>>
}): Files => {
  const contents = new Map(
    Object.entries(options.files).map(([path, content]) => [resolve(options.directory, path), content])
  )
  const log: Array<Entry> = []

  const worktree: Files["worktree"] = (directory) => {
    if (!options.isRepository) return "/"
    return isBelow(options.directory, directory) ? options.directory : directory
  }

  return {
    worktree,
    isRepository: options.isRepository,
    read: (path) => contents.get(path),
    entries: (path) => {
      const names = [...contents.keys()].flatMap((file) => {
        if (file === path || !isBelow(path, file)) return []
        const [name = "", ...rest] = relative(path, file).split("/")
        return [rest.length === 0 ? name : `${name}/`]
      })
      return [...new Set(names)].sort()
    },
    write: (path, content, { isMoved = false } = {}) => {
      log.push({ _tag: "Written", path, before: contents.get(path), after: content, isMoved })
      if (content === undefined) contents.delete(path)
      else contents.set(path, content)
    },
    at: (path, snapshot) => {
      const later = log.slice(placeOf(snapshot)).find((entry) => entry._tag === "Written" && entry.path === path)
      return later?._tag === "Written" ? later.before : contents.get(path)
    },
    tell: (directory, change) => {
      log.push({ _tag: "Told", path: resolve(worktree(directory), change.file), change })
    },
    snapshot: () => log.length.toString(16).padStart(40, "0"),
    changed: (directory, since) =>
      [...netOf(log.slice(placeOf(since)))].flatMap(([path, net]) =>
        isBelow(directory, path) && !(net._tag === "Written" && net.isMoved) ? [path] : []
      ).sort(),
    diffs: (directory, from, to) =>
      [...netOf(log.slice(placeOf(from), placeOf(to)))].flatMap(([path, net]) =>
        isBelow(directory, path) ? [net._tag === "Told" ? net.change : toChange(worktree(directory), net)] : []
      ).sort((left, right) => (left.file < right.file ? -1 : 1))
  }
}

/**
 * Resolves a path in a directory.
 *
 * @category getters
 * @since 0.1.0
 */
export const resolve = (directory: string, path: string): string => path.startsWith("/") ? path : `${directory}/${path}`

/**
 * A path relative to a worktree.
 *
 * @category getters
 * @since 0.1.0
 */
export const relative = (worktree: string, path: string): string =>
  isBelow(worktree, path) ? path.slice(worktree === "/" ? 1 : worktree.length + 1) : path

// internal

type Entry =
  | {
    readonly _tag: "Written"
    readonly path: string
    readonly before: string | undefined
    readonly after: string | undefined
    readonly isMoved: boolean
  }
  | { readonly _tag: "Told"; readonly path: string; readonly change: Change }

const isBelow = (directory: string, path: string): boolean =>
  path === directory || path.startsWith(directory === "/" ? "/" : `${directory}/`)

const placeOf = (snapshot: string): number => Number.parseInt(snapshot, 16)

/** The net change of each path: a file with its earlier content has not changed. */
const netOf = (entries: ReadonlyArray<Entry>): ReadonlyMap<string, Entry> => {
  const net = new Map<string, Entry>()
  for (const entry of entries) {
    const earlier = net.get(entry.path)
    if (earlier?._tag === "Told" || (earlier !== undefined && entry._tag === "Told")) net.set(entry.path, entry)
    else if (earlier !== undefined && entry._tag === "Written") {
      if (earlier.before === entry.after) net.delete(entry.path)
      else net.set(entry.path, { ...entry, before: earlier.before })
    } else if (entry._tag === "Told" || entry.before !== entry.after) net.set(entry.path, entry)
  }
  return net
}

const toChange = (worktree: string, { after, before, path }: Extract<Entry, { _tag: "Written" }>): Change => {
  const file = relative(worktree, path)
  return {
    file,
    ...Patch.unified(file, before ?? "", after ?? "", { context: Infinity, suffix: "\t" }),
    status: before === undefined ? "added" : after === undefined ? "deleted" : "modified"
  }
}
