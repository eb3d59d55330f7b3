/**
 * The history of a session on the fake OpenCode 2.x: its copies, and its reverts (0.0.0-next-16350).
 *
 * @since 0.1.0
 */
import * as Files from "../Files.ts"
import type { State, StoredSession } from "./State.ts"
import type { Message, Revert } from "./Wire.ts"

/**
 * Copies the messages before one, or all of them, to a new session. Instructions, costs and the pending revert are not copied.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fork = (state: State, source: StoredSession, before: string | undefined): StoredSession => {
  const { agent, model, title } = source.info
  const end = before === undefined ? source.messages.length : placeOf(source, before)
  const copy = state.createSession({
    directory: source.directory,
    title: forkTitle(title),
    agent,
    model,
    fork: { sessionID: source.info.id, ...(before !== undefined && { messageID: before }) }
  })
  for (const message of source.messages.slice(0, end)) {
    state.addMessage(copy, { ...message, id: state.ids.ascending("msg") })
  }
  return copy
}

/**
 * Restores the files that the steps behind a message changed, and marks the message as the first one that is taken back. A revert that is
 * pending already keeps the contents that it would give back.
 *
 * @category combinators
 * @since 0.1.0
 */
export const stage = (state: State, session: StoredSession, messageId: string, isOfFiles: boolean): Revert => {
  const { files } = state
  const pending = session.info.revert
  const snapshot = pending?.snapshot ?? (files.isRepository ? files.snapshot() : undefined)
  const behind = session.messages.slice(placeOf(session, messageId))
  const planned = new Map<string, string>()
  for (const message of isOfFiles ? behind : []) {
    const before = message.type === "assistant" ? message.snapshot?.["start"] : undefined
    if (typeof before !== "string") continue
    for (const file of changedBy(message)) if (!planned.has(file)) planned.set(file, before)
  }
  if (snapshot !== undefined) {
    for (const { file } of pending?.files ?? []) if (!planned.has(file)) restore(state, session, file, snapshot)
  }
  for (const [file, before] of planned) restore(state, session, file, before)
  const revert: Revert = {
    messageID: messageId,
    ...(snapshot !== undefined && { snapshot }),
    files: snapshot === undefined
      ? []
      : files.diffs(session.directory, snapshot, files.snapshot()).filter(({ file }) => planned.has(file))
  }
  state.updateSession(session, { revert, time: { ...session.info.time, updated: state.now() } })
  state.record(session, "session.revert.staged", { revert })
  return revert
}

/**
 * Gives the files the contents of before the revert.
 *
 * @category combinators
 * @since 0.1.0
 */
export const clear = (state: State, session: StoredSession): void => {
  const { revert } = session.info
  if (revert === undefined) return
  const { files, snapshot } = revert
  if (snapshot !== undefined) { for (const { file } of files) restore(state, session, file, snapshot) }
  forget(session)
  state.record(session, "session.revert.cleared")
}

/**
 * Removes the messages that the revert takes back, as every prompt does first. The model is told its instructions anew.
 *
 * @category combinators
 * @since 0.1.0
 */
export const commit = (state: State, session: StoredSession): void => {
  const { revert } = session.info
  if (revert === undefined) return
  session.messages = session.messages.slice(0, placeOf(session, revert.messageID))
  session.told = undefined
  forget(session)
  state.record(session, "session.revert.committed", { to: revert.messageID })
}

/**
 * The place of a message in its session.
 *
 * @category getters
 * @since 0.1.0
 */
export const placeOf = ({ messages }: StoredSession, id: string): number =>
  messages.findIndex((message) => message.id === id)

// internal

const forkTitle = (title: string): string => {
  const [, name, count] = /^(.+) \(fork #(\d+)\)$/.exec(title) ?? []
  return name === undefined ? `${title} (fork #1)` : `${name} (fork #${Number(count) + 1})`
}

const changedBy = (message: Message): ReadonlyArray<string> => {
  const files = message.type === "assistant" ? message.snapshot?.["files"] : undefined
  return Array.isArray(files) ? files.map(String) : []
}

const restore = ({ files }: State, { directory }: StoredSession, file: string, snapshot: string): void => {
  const path = Files.resolve(files.worktree(directory), file)
  const content = files.at(path, snapshot)
  if (content !== files.read(path)) files.write(path, content)
}

const forget = (session: StoredSession): void => {
  const { revert: _revert, ...info } = session.info
  session.info = info
}
