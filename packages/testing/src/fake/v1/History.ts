/**
 * The history of a session on the fake: its copies, its reverts, and the removal of what a revert hides (1.18.33).
 *
 * @since 0.1.0
 */
import type { State, StoredSession } from "./State.ts"
import type { MessageInfo, Part } from "./Wire.ts"

/**
 * Copies the messages before one, or all of them, to a new session. An unknown message counts as none. Rules and reverts are not copied.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fork = (state: State, source: StoredSession, before: string | undefined): StoredSession => {
  const { directory, metadata, title } = source.info
  const copy = state.createSession({ directory, cwd: source.directory, title: forkTitle(title), metadata })
  const messages = state.messages(source)
  const end = before === undefined ? -1 : messages.findIndex(({ info }) => info.id === before)
  const ids = new Map<string, string>()
  for (const { info, parts } of messages.slice(0, end < 0 ? messages.length : end)) {
    const id = state.ids.ascending("msg")
    ids.set(info.id, id)
    const moved = { id, sessionID: copy.info.id }
    if (info.role === "user") state.postUser(copy, { ...info, ...moved })
    else state.putAssistant(copy, { ...info, ...moved, parentID: ids.get(info.parentID) ?? info.parentID })
    for (const part of parts) {
      state.putPart(copy, { ...part, id: state.ids.ascending("prt"), messageID: id, sessionID: copy.info.id })
    }
  }
  copy.info = { ...copy.info, ...state.spent(copy) }
  return copy
}

/**
 * Restores the files that the steps since a message changed, and hides the messages from its prompt on. A message without parts, or one of
 * another session, changes nothing.
 *
 * @category combinators
 * @since 0.1.0
 */
export const revert = (state: State, session: StoredSession, messageId: string): void => {
  const messages = state.messages(session)
  const at = messages.findIndex(({ info, parts }) => info.id === messageId && parts.length > 0)
  if (at < 0) return
  const from = messages.slice(0, at + 1).findLastIndex(({ info }) => info.role === "user")
  const first = messages[from < 0 ? at : from]
  if (first === undefined) return
  const { files } = state
  const before = session.info.revert?.snapshot
  const snapshot = before ?? (files.isRepository ? files.snapshot() : undefined)
  if (before !== undefined) restoreAll(state, session, before)
  const restored = new Set<string>()
  for (const part of messages.slice(at).flatMap(({ parts }) => parts)) {
    if (part.type !== "patch") continue
    for (const path of part.files) {
      if (restored.has(path)) continue
      restored.add(path)
      const content = files.at(path, part.hash)
      if (content !== files.read(path)) files.write(path, content)
    }
  }
  state.publishDiff(session)
  state.updateSession(session, {
    revert: { messageID: first.info.id, ...(snapshot !== undefined && { snapshot, diff: "" }) }
  })
}

/**
 * Gives the files the contents that they had at the revert, and shows the messages again. Files that did not exist then stay.
 *
 * @category combinators
 * @since 0.1.0
 */
export const unrevert = (state: State, session: StoredSession): void => {
  const { revert } = session.info
  if (revert === undefined) return
  if (revert.snapshot !== undefined) restoreAll(state, session, revert.snapshot)
  forget(state, session)
}

/**
 * Removes the messages that a revert hides, as every prompt and every order to compact does first.
 *
 * @category combinators
 * @since 0.1.0
 */
export const cleanUp = (state: State, session: StoredSession): void => {
  const { revert } = session.info
  if (revert === undefined) return
  const messages = state.messages(session)
  const from = messages.findIndex(({ info }) => info.id === revert.messageID)
  for (const { info } of from < 0 ? [] : messages.slice(from)) state.removeMessage(session, info.id)
  session.info = { ...session.info, ...state.spent(session) }
  forget(state, session)
}

/**
 * Whether an order to compact is due: none of the answers since is finished.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isCompactionDue = (
  messages: ReadonlyArray<{ readonly info: MessageInfo; readonly parts: ReadonlyArray<Part> }>
): boolean => {
  const finished = messages.findLastIndex(({ info }) => info.role === "assistant" && info.finish !== undefined)
  return messages.slice(finished + 1).some(({ parts }) => parts.some(({ type }) => type === "compaction"))
}

// internal

const forkTitle = (title: string): string => {
  const [, name, count] = /^(.+) \(fork #(\d+)\)$/.exec(title) ?? []
  return name === undefined ? `${title} (fork #1)` : `${name} (fork #${Number(count) + 1})`
}

const restoreAll = ({ files }: State, { directory }: StoredSession, snapshot: string) => {
  for (const path of files.changed(directory, snapshot)) {
    const content = files.at(path, snapshot)
    if (content !== undefined) files.write(path, content)
  }
}

const forget = (state: State, session: StoredSession) => {
  const { revert: _revert, ...info } = session.info
  session.info = info
  state.updateSession(session, {})
}
