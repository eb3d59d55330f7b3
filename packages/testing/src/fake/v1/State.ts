/**
 * The stored state of the fake OpenCode, and the only functions that change it. Each change sends the event of the real server.
 *
 * **Responsibilities**: sessions, messages, parts, statuses, asks and to-do lists.
 *
 * **Not responsibilities**: the order of changes in a turn (`Turn`), requests (`Routes`).
 *
 * Values are replaced, never changed in place, so a returned value never changes.
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { FileChange } from "../Edit.ts"
import type { Events, Properties } from "../Events.ts"
import * as Files from "../Files.ts"
import type { IdGenerator } from "../Ids.ts"
import type { PermissionRule } from "../Permission.ts"
import type {
  AskInfo,
  Assistant,
  Failure,
  Message,
  MessageInfo,
  ModelRef,
  Part,
  Session,
  Status,
  Todo,
  Tokens,
  User
} from "./Wire.ts"
import { zeroTokens } from "./Wire.ts"

/**
 * A stored message. `order` grows whenever the message is posted: the server answers the user message that was posted last, but lists
 * messages by id (1.18.33).
 *
 * @category models
 * @since 0.1.0
 */
export interface StoredMessage {
  info: MessageInfo
  order: number
  readonly parts: Map<string, Part>
}

/**
 * @category models
 * @since 0.1.0
 */
export interface StoredSession {
  info: Session
  /** Its working directory: the stored directory, decoded once more by the server. A subagent's session uses its parent's. */
  readonly directory: string
  isDeleted: boolean
  todos: ReadonlyArray<Todo>
  readonly messages: Map<string, StoredMessage>
}

/**
 * How an ask ended. A rejection without a message ends the turn.
 *
 * @category models
 * @since 0.1.0
 */
export type AskResult =
  | { readonly _tag: "Allowed" }
  | { readonly _tag: "Answered"; readonly answers: ReadonlyArray<ReadonlyArray<string>> }
  | { readonly _tag: "Rejected"; readonly message?: string }

/**
 * @category models
 * @since 0.1.0
 */
export interface Ask {
  readonly kind: "permission" | "question"
  readonly info: AskInfo
  readonly result: Deferred.Deferred<AskResult>
}

/**
 * @category models
 * @since 0.1.0
 */
export interface SessionFields {
  readonly directory: string
  /** The working directory of a subagent; the decoded directory by default. */
  readonly cwd?: string | undefined
  readonly title?: string | undefined
  readonly parentID?: string | undefined
  readonly agent?: string | undefined
  readonly model?: { readonly id: string; readonly providerID: string; readonly variant?: string } | undefined
  readonly permission?: ReadonlyArray<PermissionRule> | undefined
  readonly metadata?: Properties | undefined
}

/**
 * @category models
 * @since 0.1.0
 */
export interface State {
  readonly now: () => number
  readonly ids: IdGenerator
  readonly files: Files.Files
  readonly session: (id: string) => StoredSession | undefined
  /** The sessions, newest first. */
  readonly sessions: () => ReadonlyArray<StoredSession>
  readonly createSession: (fields: SessionFields) => StoredSession
  readonly updateSession: (session: StoredSession, changes: Partial<Session>) => void
  /** Deletes the session and its descendants, children first. A busy status stays (1.18.33). */
  readonly deleteSession: (session: StoredSession) => void

  /** The messages, oldest first, with parts in the order of their ids. */
  readonly messages: (session: StoredSession) => ReadonlyArray<Message>
  /** Stores a user message; an existing message is posted again. */
  readonly postUser: (session: StoredSession, info: User) => void
  readonly putAssistant: (session: StoredSession, info: Assistant) => void
  readonly putPart: (session: StoredSession, part: Part) => void
  readonly delta: (session: StoredSession, part: Part, delta: string) => void
  readonly lastPosted: (session: StoredSession, role: "user" | "assistant") => MessageInfo | undefined
  readonly removeMessage: (session: StoredSession, id: string) => void
  /** The total cost of the session's steps. */
  readonly spent: (session: StoredSession) => Pick<Session, "cost" | "tokens">
  /** Updates the total cost of the session's steps. */
  readonly sum: (session: StoredSession) => void
  readonly publishDiff: (session: StoredSession) => void
  /** Lists in the user message the files that the steps of its turn have changed so far. */
  readonly summarize: (session: StoredSession, userId: string) => void
  /** Writes files, and announces them in the directory. */
  readonly writeFiles: (session: StoredSession, changes: ReadonlyArray<FileChange>) => void

  readonly setStatus: (session: StoredSession, status: Status) => void
  readonly statuses: (directory: string) => Readonly<Record<string, Status>>
  readonly fail: (session: StoredSession, error: Failure) => void
  readonly compacted: (session: StoredSession) => void
  readonly setTodos: (session: StoredSession, todos: ReadonlyArray<Todo>) => void

  readonly ask: (kind: Ask["kind"], session: StoredSession, tool: AskInfo["tool"], fields: Properties) => Ask
  readonly asks: (kind: Ask["kind"], directory: string) => ReadonlyArray<AskInfo>
  /** Resolves asks, all of them before any turn continues; unknown and closed asks are skipped. */
  readonly resolveAsks: (kind: Ask["kind"], results: ReadonlyMap<string, AskResult>, event: Properties) => void
  /** Drops the state that a crash loses: statuses and open asks. */
  readonly forget: () => void
}

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: {
  readonly events: Events
  readonly ids: IdGenerator
  readonly now: () => number
  readonly files: Files.Files
}): State => {
  const { events, files, ids, now } = options
  const sessions = new Map<string, StoredSession>()
  const statuses = new Map<string, { readonly directory: string; readonly status: Status }>()
  const asks = new Map<string, Ask>()
  let order = 0

  const publish = (session: StoredSession, type: string, properties: Properties = {}) => {
    if (session.isDeleted) return
    events.publish(type, { sessionID: session.info.id, ...properties }, session.directory)
  }

  const store = (session: StoredSession, info: MessageInfo, isPosted: boolean) => {
    const message = session.messages.get(info.id)
    if (message === undefined) session.messages.set(info.id, { info, order: ++order, parts: new Map() })
    else {
      message.info = info
      if (isPosted) message.order = ++order
    }
    publish(session, "message.updated", { info })
  }

  const publishDiff = (session: StoredSession) => publish(session, "session.diff", { diff: [] })

  const updateSession: State["updateSession"] = (session, changes) => {
    session.info = { ...session.info, ...changes, time: { ...session.info.time, updated: now(), ...changes.time } }
    publish(session, "session.updated", { info: session.info })
  }

  const deleteSession: State["deleteSession"] = (session) => {
    for (const child of sessions.values()) if (child.info.parentID === session.info.id) deleteSession(child)
    publish(session, "session.deleted", { info: session.info })
    session.isDeleted = true
    sessions.delete(session.info.id)
  }

  return {
    now,
    ids,
    files,
    session: (id) => sessions.get(id),
    sessions: () => [...sessions.values()].toReversed(),
    createSession: ({ agent, cwd, directory, metadata, model, parentID, permission, title }) => {
      const created = now()
      const kind = parentID === undefined ? "New" : "Child"
      const session: StoredSession = {
        info: {
          id: ids.session(),
          slug: "fake-session",
          projectID: files.isRepository ? repositoryId : "global",
          directory,
          path: Files.relative(files.worktree(directory), directory),
          ...(parentID !== undefined && { parentID }),
          title: title ?? `${kind} session - ${new Date(created).toISOString()}`,
          ...(agent !== undefined && { agent }),
          ...(model !== undefined && { model }),
          version,
          cost: 0,
          tokens: zeroTokens,
          ...(metadata !== undefined && { metadata }),
          ...(permission !== undefined && { permission }),
          time: { created, updated: created }
        },
        directory: cwd ?? decoded(directory),
        isDeleted: false,
        todos: [],
        messages: new Map()
      }
      sessions.set(session.info.id, session)
      publish(session, "session.created", { info: session.info })
      return session
    },
    updateSession,
    deleteSession,
    messages,
    postUser: (session, info) => store(session, info, true),
    putAssistant: (session, info) => store(session, info, false),
    putPart: (session, part) => {
      session.messages.get(part.messageID)?.parts.set(part.id, asStored(part))
      publish(session, "message.part.updated", { part, time: now() })
    },
    delta: (session, part, delta) =>
      publish(session, "message.part.delta", { messageID: part.messageID, partID: part.id, field: "text", delta }),
    lastPosted: (session, role) => {
      let last: StoredMessage | undefined
      for (const message of session.messages.values()) {
        if (message.info.role === role && (last === undefined || message.order > last.order)) last = message
      }
      return last?.info
    },
    removeMessage: (session, id) => {
      if (session.messages.delete(id)) publish(session, "message.removed", { messageID: id })
    },
    spent,
    sum: (session) => {
      updateSession(session, { summary: { additions: 0, deletions: 0, files: 0 }, ...spent(session) })
      publishDiff(session)
    },
    publishDiff,
    summarize: (session, userId) => {
      const user = session.messages.get(userId)
      // A prompt with a format never gets a summary (1.18.33).
      if (user?.info.role !== "user" || user.info.format !== undefined) return
      const parts = [...session.messages.values()].flatMap(({ info, parts }) =>
        info.role === "assistant" && info.parentID === userId ? [...parts.values()] : []
      )
      const [from] = parts.flatMap((part) => (part.type === "step-start" ? part.snapshot ?? [] : []))
      const to = parts.flatMap((part) => (part.type === "step-finish" ? part.snapshot ?? [] : [])).at(-1)
      const diffs = from === undefined || to === undefined ? [] : files.diffs(session.directory, from, to)
      user.info = { ...user.info, summary: { diffs } }
      publish(session, "message.updated", { info: user.info })
    },
    writeFiles: (session, changes) => {
      const announce = (type: string, properties: Properties) => events.publish(type, properties, session.directory)
      for (const { after, isMoved, path } of changes) {
        files.write(path, after, { isMoved })
        if (after !== undefined) announce("file.edited", { file: path })
      }
      for (const { after, before, path } of changes) {
        const event = before === undefined ? "add" : after === undefined ? "unlink" : "change"
        announce("file.watcher.updated", { file: path, event })
      }
    },
    setStatus: (session, status) => {
      const { directory, info: { id } } = session
      if (status.type === "idle") statuses.delete(id)
      else if (!session.isDeleted) statuses.set(id, { directory, status })
      publish(session, "session.status", { status })
      if (status.type === "idle") publish(session, "session.idle")
    },
    statuses: (directory) =>
      Object.fromEntries(
        [...statuses].flatMap(([id, entry]) => (entry.directory === directory ? [[id, entry.status]] : []))
      ),
    fail: (session, error) => publish(session, "session.error", { error }),
    compacted: (session) => publish(session, "session.compacted"),
    setTodos: (session, todos) => {
      session.todos = todos
      publish(session, "todo.updated", { todos })
    },
    ask: (kind, session, tool, fields) => {
      const ask = {
        kind,
        info: { ...fields, id: ids.ascending(kind === "permission" ? "per" : "que"), sessionID: session.info.id, tool },
        result: Deferred.makeUnsafe<AskResult>()
      }
      asks.set(ask.info.id, ask)
      publish(session, `${kind}.asked`, ask.info)
      return ask
    },
    asks: (kind, directory) =>
      [...asks.values()].flatMap((ask) =>
        ask.kind === kind && sessions.get(ask.info.sessionID)?.directory === directory ? [ask.info] : []
      ),
    resolveAsks: (kind, results, event) => {
      const resolved = [...results].flatMap(([id, result]) => {
        const ask = asks.get(id)
        if (ask === undefined || ask.kind !== kind) return []
        asks.delete(id)
        const session = sessions.get(ask.info.sessionID)
        const type = kind === "question" && result._tag === "Rejected" ? "question.rejected" : `${kind}.replied`
        if (session !== undefined) publish(session, type, { requestID: id, ...event })
        return [{ ask, result }]
      })
      for (const { ask, result } of resolved) Deferred.doneUnsafe(ask.result, Effect.succeed(result))
    },
    forget: () => {
      statuses.clear()
      asks.clear()
    }
  }
}

/**
 * Decodes a directory as the server does; a value that cannot be decoded stays unchanged (1.18.33).
 *
 * @category constructors
 * @since 0.1.0
 */
export const decoded = (directory: string): string =>
  Result.getOrElse(Result.try(() => decodeURIComponent(directory)), () => directory)

/**
 * The version that the fake reports and imitates.
 *
 * @category constants
 * @since 0.1.0
 */
export const version = "1.18.33"

/**
 * The text of a message's text parts.
 *
 * @category getters
 * @since 0.1.0
 */
export const textOf = (message: Message): string =>
  message.parts.flatMap((part) => (part.type === "text" ? [part.text] : [])).join("\n")

/**
 * @category getters
 * @since 0.1.0
 */
export const modelOf = (session: StoredSession): ModelRef | undefined =>
  session.info.model && { providerID: session.info.model.providerID, modelID: session.info.model.id }

// internal

const messages: State["messages"] = (session) =>
  [...session.messages.values()]
    .sort((left, right) => (left.info.id < right.info.id ? -1 : 1))
    .map(({ info, parts }) => ({
      info,
      parts: [...parts.values()].sort((left, right) => (left.id < right.id ? -1 : 1))
    }))

const spent: State["spent"] = ({ messages }) => {
  const steps = [...messages.values()].flatMap(({ info }) => (info.role === "assistant" ? [info] : []))
  return {
    cost: steps.reduce((sum, { cost }) => sum + cost, 0),
    tokens: steps.reduce((sum, { tokens }) => addTokens(sum, tokens), zeroTokens)
  }
}

/** OpenCode names a project after the first commit of its repository. */
const repositoryId = "1".repeat(40)

const addTokens = (left: Tokens, right: Tokens): Tokens => ({
  input: left.input + right.input,
  output: left.output + right.output,
  reasoning: left.reasoning + right.reasoning,
  cache: { read: left.cache.read + right.cache.read, write: left.cache.write + right.cache.write }
})

/** The title of a call that failed is announced but not stored (1.18.33). */
const asStored = (part: Part): Part => {
  if (part.type !== "tool" || part.state.status !== "error") return part
  const { title: _title, ...state } = part.state
  return { ...part, state }
}
