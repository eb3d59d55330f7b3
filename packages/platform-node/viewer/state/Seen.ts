/**
 * What a turn waits for, people and tries of its model: as it is stored, and as the page sees it before that.
 *
 * **Details**
 *
 * What is stored has the last word: it is the same for every page, whenever it was opened. A wait that the page only saw is shown until the
 * turn ends.
 */
import { idMillis, type Seen } from "../turn/Times.ts"
import type { Turn, TurnUpdate } from "./Types.ts"

/** The list with the waits that are stored of a turn, in place of those that were seen of them. */
export const withStored = (
  seen: ReadonlyArray<Seen>,
  { sessionId: rootId, status, waits }: Pick<Turn, "sessionId" | "status" | "waits">
): ReadonlyArray<Seen> => {
  const stored = waits.map((wait): Seen => {
    const { fromMillis, toMillis } = wait
    const sessionId = wait.sessionId === rootId ? undefined : wait.sessionId
    const times = { sessionId, fromMillis, toMillis: toMillis ?? undefined }
    return wait.type === "ask"
      ? {
        kind: "wait",
        id: wait.id,
        name: wait.kind === "permission" ? `permission ${wait.name}` : "question",
        callId: wait.tool?.callId,
        ...times
      }
      : { kind: "retry", id: retryId(sessionId, wait), name: wait.message, ...times }
  })
  if (status !== "pending" && status !== "queued") return stored
  // The store is a moment behind: an end that was seen stays.
  const before = new Map(seen.map((one) => [one.id, one]))
  const known = new Set(stored.map(({ id }) => id))
  return [
    ...stored.map((one) => ({ ...one, toMillis: one.toMillis ?? before.get(one.id)?.toMillis })),
    ...seen.filter(({ id }) => !known.has(id))
  ]
}

/** The list with what an update tells at a time. */
export const noted = (
  seen: ReadonlyArray<Seen>,
  update: TurnUpdate,
  rootId: string | null,
  atMillis: number
): ReadonlyArray<Seen> => {
  switch (update.type) {
    case "asked": {
      const { ask } = update
      if (seen.some(({ id }) => id === ask.id)) return seen
      const told = idMillis(ask.id, atMillis)
      return [...seen, {
        kind: "wait",
        id: ask.id,
        sessionId: ask.sessionId === rootId ? undefined : ask.sessionId,
        name: ask._tag === "Permission" ? `permission ${ask.permission}` : "question",
        // A page that was opened later than the ask learns of its time by its id.
        fromMillis: told !== undefined && told < atMillis && atMillis - told < maxAge ? told : atMillis,
        toMillis: undefined,
        callId: ask.tool?.callId
      }]
    }
    case "answered":
      return seen.some(({ id, toMillis }) => id === update.askId && toMillis === undefined)
        ? seen.map((one) => one.id === update.askId ? { ...one, toMillis: atMillis } : one)
        : seen
    case "retrying":
      return withRetry(seen, retry(update, undefined, atMillis))
    case "subagent.update":
      return update.update.type === "retrying"
        ? withRetry(seen, retry(update.update, update.sessionId, atMillis))
        : seen
    case "turn.finished":
      return withStored(seen, update.turn)
    default:
      return seen
  }
}

// internal

const maxAge = 30 * 86_400_000

const retry = (
  { attempt, message, nextMillis }: { readonly attempt: number; readonly message: string; readonly nextMillis: number },
  sessionId: string | undefined,
  atMillis: number
): Seen => ({
  kind: "retry",
  id: retryId(sessionId, { attempt, nextMillis }),
  sessionId,
  name: message,
  fromMillis: atMillis,
  toMillis: Math.max(nextMillis, atMillis)
})

/** A page that attaches again is told once more of a try that is waited for. */
const withRetry = (seen: ReadonlyArray<Seen>, retry: Seen): ReadonlyArray<Seen> =>
  seen.some(({ id }) => id === retry.id) ? seen : [...seen, retry]

const retryId = (
  sessionId: string | undefined,
  { attempt, nextMillis }: { readonly attempt: number; readonly nextMillis: number }
): string => `retry ${sessionId ?? ""} ${attempt} ${nextMillis}`
