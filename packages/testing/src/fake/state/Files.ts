/**
 * The files of the fake OpenCode: contents in memory, and a log of their changes from which the changes of a turn follow.
 *
 * Responsibilities: what a path holds, what changed between two snapshots, the forms in which that is told.
 *
 * Not responsibilities: a disk, ignored files, commits. What a tool changes is `FakeEdit`'s.
 *
 * **Details**
 *
 * A snapshot is a place in the log, written as the hash of a tree that OpenCode has instead. A file that nobody has spoken of is not
 * there; an outcome may tell of changes without contents ({@link Change}).
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import * as FakePatch from "./Patch.ts"

/**
 * A change of a file as `GET /session/{id}/diff` tells it; `file` is relative to the root of the repository.
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
export interface FakeFiles {
  /** The root of the repository that a directory is in, and `/` without one. */
  readonly worktree: (directory: string) => string
  readonly isRepository: boolean
  /** The content of a path; `undefined` where there is no file. */
  readonly read: (path: string) => string | undefined
  /** What a folder holds, folders with a slash behind them; nothing for what is none. */
  readonly entries: (path: string) => ReadonlyArray<string>
  /** Writes a file, or deletes it. A file that is moved away is not told of as deleted in a step. */
  readonly write: (path: string, content: string | undefined, options?: { readonly isMoved?: boolean }) => void
  /** A change that was not made here. */
  readonly tell: (directory: string, change: Change) => void
  /** The files as they are. */
  readonly snapshot: () => string
  /** The paths below a directory that have changed since a snapshot, absolute. */
  readonly changed: (directory: string, since: string) => ReadonlyArray<string>
  /** What is different below a directory between two snapshots, a file once. */
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
}): FakeFiles => {
  const contents = new Map(
    Object.entries(options.files).map(([path, content]) => [resolve(options.directory, path), content])
  )
  const log: Array<Entry> = []

  const worktree: FakeFiles["worktree"] = (directory) => {
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
 * A path as it is meant in a directory.
 *
 * @category getters
 * @since 0.1.0
 */
export const resolve = (directory: string, path: string): string => path.startsWith("/") ? path : `${directory}/${path}`

/**
 * A path as it is called in a worktree.
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

/** What entries come to, path by path: a file that is again as it was has not changed. */
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
    ...FakePatch.unified(file, before ?? "", after ?? "", { context: Infinity, suffix: "\t" }),
    status: before === undefined ? "added" : after === undefined ? "deleted" : "modified"
  }
}
