/**
 * The files that an agent changed in a turn.
 *
 * **Responsibilities**: the models, and combining the parts of a turn with the server's own account of the changes.
 *
 * **Not responsibilities**: reading that account (`ReadArtifacts`), and the meaning of a tool's metadata (`v1/`).
 *
 * @since 0.1.0
 */
import * as FilePath from "../domain/FilePath.ts"
import type { MessageId, PartId, SessionId } from "../domain/Ids.ts"
import type { FileChange, FileDiff, Part, PatchPart } from "../domain/Part.ts"
import * as Media from "../opencode/Media.ts"

/**
 * A changed file.
 *
 * **Details**
 *
 * `path` is relative to the session's folder if it lies inside, else absolute, with `/`. `change` is the net change of
 * the turn. It is `unknown` if only the name is known: a shell command changed the file, which may be gone, and the
 * server has no account of the turn. `additions` and `deletions` count lines; they are absent if nobody counted them.
 * `content` is the whole file as the agent last wrote it, if a part of the turn holds it. `mediaType` is the type of the file's
 * name, and `text/plain` for another text; it is absent if neither the name nor counted lines tell. `ArtifactFile.read` also looks at
 * the bytes. `sessionIds` are the turn's sessions whose tool calls changed the file; a shell command names no file.
 *
 * **Gotchas**
 *
 * `content` may be out of date: a formatter of the server or a shell command of the same step may have changed the file
 * after the write.
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
  readonly mediaType: string | undefined
  readonly sessionIds: ReadonlyArray<SessionId>
}

/**
 * @category models
 * @since 0.1.0
 */
export type Change = FileChange["change"]

/**
 * All known changed files, sorted by path. `unread` names the reads that failed, and why; the list may lack files that
 * only those reads would have told.
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
 * A session's folder, and the root of its repository, as `AssistantMessage` has them.
 *
 * @category models
 * @since 0.1.0
 */
export interface Place {
  readonly directory: string | undefined
  readonly worktree: string | undefined
}

/**
 * The server's account of a turn. `covered` are the sessions whose steps the account covers completely. A file that
 * only one of their `patch` parts names, and not the account, was not changed after all.
 *
 * @category models
 * @since 0.1.0
 */
export interface Account {
  readonly files: ReadonlyArray<FileDiff>
  readonly covered: ReadonlyArray<SessionId>
}

/**
 * No changed files.
 *
 * @category constructors
 * @since 0.1.0
 */
export const none: Artifacts = { files: [], unread: [] }

/**
 * Combines the parts of all sessions of a turn into a list of files, sorted by path. An account decides change and
 * counts; contents and sessions come from the parts.
 *
 * **Details**
 *
 * The ids of the parts sort by time and give the order of the changes, so that the order of the sessions does not matter, and a part
 * that is passed twice counts once. Parts whose ids are of the same time stay in their order: those of a step of 2.x have the time of its
 * start. A file that was created and removed again is left out.
 * An account does not see a file that no `patch` part names (git ignores it, or it lies outside of the session's
 * folder); such a file stays as the calls tell.
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
      mediaType: mediaTypeOf(path, content, additions, deletions),
      sessionIds: sessionsByPath.get(path) ?? []
    })
  }
  for (const { additions, change, deletions, path: inRepository } of account.files) {
    const path = pathOf(inRepository, place.worktree, place)
    const content = change === "deleted" ? undefined : told.get(path)?.content
    artifacts.set(path, {
      path,
      change,
      additions,
      deletions,
      content,
      mediaType: mediaTypeOf(path, content, additions, deletions),
      sessionIds: sessionsByPath.get(path) ?? []
    })
  }
  return [...artifacts.values()].toSorted((self, that) => compare(self.path, that.path))
}

// internal

/**
 * What one part tells of one file. `at` is its time, for a `patch` part that of the end of the step that it sums up; `since` is the start
 * of that step.
 */
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
 * What the parts told of a file so far. `gone`: the turn created and removed it. `isCovered`: the account would contain
 * it. `calledAt` is the time of the last tool call that named it.
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
  const endOf = endsOf(sessions)
  for (const { parts, sessionId } of sessions) {
    for (const part of parts) {
      if ((part.type !== "tool" && part.type !== "patch") || seen.has(part.id)) continue
      seen.add(part.id)
      const time = timeOf(part.id)
      if (part.type === "patch") {
        const since = timeOf(part.messageId)
        const at = time > since ? time : endOf(sessionId, since)
        const isCovered = covered.has(sessionId)
        for (const path of pathsOf(part, place)) events.push({ type: "patch", at, path, since, isCovered })
        continue
      }
      for (const change of part.files ?? []) {
        const content = change.contentKey === undefined ? undefined : part.input[change.contentKey]
        events.push({
          type: "call",
          at: time,
          path: pathOf(change.path, place.directory, place),
          sessionId,
          change,
          content: typeof content === "string" ? content : undefined
        })
      }
    }
  }
  // A step has ended before the next one begins.
  const rank = ({ type }: Event): number => (type === "patch" ? 0 : 1)
  return events.toSorted((self, that) => compare(self.at, that.at) || rank(self) - rank(that))
}

/**
 * Finds when a step of a session ended, by when its next step began, or that of the session that opened it. The id of a `patch` part does
 * not tell it on 2.x.
 */
const endsOf = (sessions: ReadonlyArray<SessionParts>) => {
  const begins = new Map<SessionId, Set<string>>()
  const openers = new Map<SessionId, { readonly sessionId: SessionId; readonly since: string }>()
  for (const { parts, sessionId } of sessions) {
    const times = begins.get(sessionId) ?? new Set()
    begins.set(sessionId, times)
    for (const part of parts) {
      if (!("messageId" in part)) continue
      const since = timeOf(part.messageId)
      times.add(since)
      if (part.type === "tool" && part.subagent !== undefined) openers.set(part.subagent, { sessionId, since })
    }
  }
  const nexts = new Map(
    Array.from(begins, ([sessionId, times]) => {
      const sorted = [...times].toSorted(compare)
      return [sessionId, new Map(sorted.map((time, index) => [time, sorted[index + 1]]))] as const
    })
  )
  return (sessionId: SessionId, since: string): string => {
    const asked = new Set<SessionId>()
    let step: { readonly sessionId: SessionId; readonly since: string } | undefined = { sessionId, since }
    while (step !== undefined && !asked.has(step.sessionId)) {
      const next = nexts.get(step.sessionId)?.get(step.since)
      if (next !== undefined) return next
      asked.add(step.sessionId)
      step = openers.get(step.sessionId)
    }
    return afterAll
  }
}

/** Sorts after every time. */
const afterAll = "~"

const pathsOf = (part: PatchPart, place: Place) => part.files.map((path) => pathOf(path, place.directory, place))

const after = (before: Told | undefined, event: Event): Told => {
  if (event.type === "call") {
    const { change: { additions, change, deletions }, content } = event
    const isFirst = before === undefined
    return {
      change: isFirst ? change : net(before.change, change),
      // Several calls may have changed the same lines, so their sum would not be the net change.
      additions: isFirst ? additions : undefined,
      deletions: isFirst ? deletions : undefined,
      content,
      isCovered: before?.isCovered ?? false,
      calledAt: event.at
    }
  }
  // The patch of a step repeats the changes of its calls, including its subagents' calls. Only a file without such a
  // call is news.
  const isCovered = event.isCovered || (before?.isCovered ?? false)
  if (before !== undefined && before.calledAt >= event.since) return { ...before, isCovered }
  return {
    change: "unknown",
    additions: undefined,
    deletions: undefined,
    content: undefined,
    isCovered,
    calledAt: before?.calledAt ?? ""
  }
}

/** The net of two successive changes. */
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

/** Only texts have a content in a part, and lines that are counted. */
const mediaTypeOf = (path: string, content: string | undefined, additions = 0, deletions = 0): string | undefined =>
  content !== undefined || additions + deletions > 0 ? Media.ofText(path) : Media.ofName(path)

const lineCount = (text: string): number => text === "" ? 0 : text.split("\n").length - (text.endsWith("\n") ? 1 : 0)

const pathOf = (path: string, base: string | undefined, place: Place): string =>
  FilePath.within(place.directory, FilePath.resolve(base, path))

/** The time in an id: the 12 digits behind its prefix. The rest of it is random, or names a part of the message (2.x). */
const timeOf = (id: PartId | MessageId): string => {
  const start = id.indexOf("_") + 1
  return id.slice(start, start + 12)
}

const compare = (self: string, that: string): number => (self < that ? -1 : self > that ? 1 : 0)
