/**
 * The files that an agent changed in a turn.
 *
 * Owns: the models, and how what the parts of a turn tell of files is put together with the server's own account of the changes. Does
 * not own: how that account is read (`ReadArtifacts`), what a tool's metadata means (`v1/`).
 *
 * @since 0.1.0
 */
import * as FilePath from "../domain/FilePath.ts"
import type { MessageId, PartId, SessionId } from "../domain/Ids.ts"
import type { FileChange, FileDiff, Part, PatchPart } from "../domain/Part.ts"

/**
 * A file that was changed.
 *
 * **Details**
 *
 * `path` is relative to the session's folder where it lies inside it, absolute elsewhere, with `/`. `change` is the net change of the
 * turn; `unknown` where only the name is known (a shell command changed it, and the server has no account of the turn): the file may
 * be gone. `additions` and `deletions` count lines; absent where nobody counted them. `content` is the whole file as the agent wrote it
 * last, only where a part of the turn carries it. `sessionIds` are the sessions of the turn that changed it, as far as tool calls
 * tell: a shell command does not.
 *
 * **Gotchas**
 *
 * A formatter that the server runs after a write may have changed the file behind `content`, and so may a shell command of the same step.
 *
 * @category models
 * @since 0.1.0
 */
export interface Artifact {
  readonly path: string
  readonly change: Change
  readonly additions: number | undefined
  readonly deletions: number | undefined
  readonly content: string | undefined
  readonly sessionIds: ReadonlyArray<SessionId>
}

/**
 * @category models
 * @since 0.1.0
 */
export type Change = FileChange["change"]

/**
 * All files that are known to have been changed, by path. `unread` says what could not be found out, and why: the list may lack
 * what only that would have told.
 *
 * @category models
 * @since 0.1.0
 */
export interface Artifacts {
  readonly files: ReadonlyArray<Artifact>
  readonly unread: ReadonlyArray<{ readonly sessionId: SessionId; readonly reason: string }>
}

/**
 * The parts of one session of the turn.
 *
 * @category models
 * @since 0.1.0
 */
export interface SessionParts {
  readonly sessionId: SessionId
  readonly parts: ReadonlyArray<Part>
}

/**
 * Where a session works: its folder, and the root of the repository that it lies in, as `AssistantMessage` has them.
 *
 * @category models
 * @since 0.1.0
 */
export interface Place {
  readonly directory: string | undefined
  readonly worktree: string | undefined
}

/**
 * The server's account of a turn. `covered` are the sessions of whose steps it lacks nothing: a file that one of their `patch` parts
 * names, and it does not, was not changed after all.
 *
 * @category models
 * @since 0.1.0
 */
export interface Account {
  readonly files: ReadonlyArray<FileDiff>
  readonly covered: ReadonlyArray<SessionId>
}

/**
 * No file was changed.
 *
 * @category constructors
 * @since 0.1.0
 */
export const none: Artifacts = { files: [], unread: [] }

/**
 * What the parts of all sessions of a turn tell of files, sorted by path. An account decides about change and counts; contents and
 * sessions come from the parts.
 *
 * **Details**
 *
 * The ids of the parts, which sort by time, say what came after what: neither the order of the sessions nor of their parts matters, and
 * a part that is given twice counts once. What was made and removed again is taken away. A file that no `patch` part names is out of
 * an account's sight (it is ignored by git, or lies outside of the session's folder) and stays as the calls tell.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromParts = (
  sessions: ReadonlyArray<SessionParts>,
  place: Place,
  account: Account = { files: [], covered: [] }
): ReadonlyArray<Artifact> => {
  const events = eventsOf(sessions, place, new Set(account.covered))
  const sessionsByPath = sessionsOf(events)
  const told = new Map<string, Told>()
  for (const event of events) told.set(event.path, after(told.get(event.path), event))

  const artifacts = new Map<string, Artifact>()
  for (const [path, { additions, change, content, deletions, isCovered }] of told) {
    if (change === "gone" || isCovered) continue
    const isWhole = change === "added" && content !== undefined
    artifacts.set(path, {
      path,
      change,
      additions: isWhole ? lineCount(content) : additions,
      deletions: isWhole ? 0 : deletions,
      content,
      sessionIds: sessionsByPath.get(path) ?? []
    })
  }
  for (const { additions, change, deletions, path: inRepository } of account.files) {
    const path = pathOf(inRepository, place.worktree, place)
    artifacts.set(path, {
      path,
      change,
      additions,
      deletions,
      content: change === "deleted" ? undefined : told.get(path)?.content,
      sessionIds: sessionsByPath.get(path) ?? []
    })
  }
  return [...artifacts.values()].toSorted((self, that) => compare(self.path, that.path))
}

// internal

/** One thing that a part tells of one file. `at` is when, `since` when the step began that a `patch` part sums up. */
type Event =
  | {
    readonly type: "call"
    readonly at: string
    readonly path: string
    readonly sessionId: SessionId
    readonly change: FileChange
    readonly content: string | undefined
  }
  | {
    readonly type: "patch"
    readonly at: string
    readonly path: string
    readonly since: string
    readonly isCovered: boolean
  }

/**
 * What was told of a file so far. `gone`: made in the turn, and removed again. `isCovered`: the account would know of it. `calledAt` is
 * when a tool call named it last.
 */
interface Told {
  readonly change: Change | "gone"
  readonly additions: number | undefined
  readonly deletions: number | undefined
  readonly content: string | undefined
  readonly isCovered: boolean
  readonly calledAt: string
}

const eventsOf = (
  sessions: ReadonlyArray<SessionParts>,
  place: Place,
  covered: ReadonlySet<SessionId>
): ReadonlyArray<Event> => {
  const events: Array<Event> = []
  const seen = new Set<PartId>()
  for (const { parts, sessionId } of sessions) {
    for (const part of parts) {
      if ((part.type !== "tool" && part.type !== "patch") || seen.has(part.id)) continue
      seen.add(part.id)
      const at = timeOf(part.id)
      if (part.type === "patch") {
        const since = timeOf(part.messageId)
        const isCovered = covered.has(sessionId)
        for (const path of pathsOf(part, place)) events.push({ type: "patch", at, path, since, isCovered })
        continue
      }
      for (const change of part.files ?? []) {
        const content = change.contentKey === undefined ? undefined : part.input[change.contentKey]
        events.push({
          type: "call",
          at,
          path: pathOf(change.path, place.directory, place),
          sessionId,
          change,
          content: typeof content === "string" ? content : undefined
        })
      }
    }
  }
  return events.toSorted((self, that) => compare(self.at, that.at))
}

const pathsOf = (part: PatchPart, place: Place) => part.files.map((path) => pathOf(path, place.directory, place))

const after = (before: Told | undefined, event: Event): Told => {
  if (event.type === "call") {
    const { change: { additions, change, deletions }, content } = event
    const isFirst = before === undefined
    return {
      change: isFirst ? change : net(before.change, change),
      // Lines that several calls changed may be the same ones: the sum would not be the net change.
      additions: isFirst ? additions : undefined,
      deletions: isFirst ? deletions : undefined,
      content,
      isCovered: before?.isCovered ?? false,
      calledAt: event.at
    }
  }
  // The patch of a step names what its calls changed, its subagents' too: only what no call tells of is news.
  const isCovered = event.isCovered || (before?.isCovered ?? false)
  if (before !== undefined && before.calledAt > event.since) return { ...before, isCovered }
  return {
    change: "unknown",
    additions: undefined,
    deletions: undefined,
    content: undefined,
    isCovered,
    calledAt: before?.calledAt ?? ""
  }
}

/** What two changes, one after the other, come to. */
const net = (before: Told["change"], next: Change): Told["change"] => {
  if (next === "unknown") return "unknown"
  const isDeleted = next === "deleted"
  switch (before) {
    case "added":
    case "gone":
      return isDeleted ? "gone" : "added"
    case "modified":
    case "deleted":
      return isDeleted ? "deleted" : "modified"
    case "unknown":
      return isDeleted ? "deleted" : "unknown"
  }
}

const sessionsOf = (events: ReadonlyArray<Event>): ReadonlyMap<string, ReadonlyArray<SessionId>> => {
  const sessions = new Map<string, ReadonlyArray<SessionId>>()
  for (const event of events) {
    if (event.type === "patch") continue
    const known = sessions.get(event.path) ?? []
    if (!known.includes(event.sessionId)) sessions.set(event.path, [...known, event.sessionId].toSorted(compare))
  }
  return sessions
}

const lineCount = (text: string): number => text === "" ? 0 : text.split("\n").length - (text.endsWith("\n") ? 1 : 0)

const pathOf = (path: string, base: string | undefined, place: Place): string =>
  FilePath.within(place.directory, FilePath.resolve(base, path))

/** Ids of messages and parts sort by time behind their prefix. */
const timeOf = (id: PartId | MessageId): string => id.slice(id.indexOf("_") + 1)

const compare = (self: string, that: string): number => (self < that ? -1 : self > that ? 1 : 0)
