/**
 * What the page saw of a turn that the store does not keep: waits for people and retries. It survives a reload of the tab.
 */
import { type Signal, signal } from "@preact/signals"
import { idMillis, type Seen } from "../turn/Times.ts"
import type { TurnUpdate } from "./Types.ts"

export const makeSeen = (messageId: string): Signal<ReadonlyArray<Seen>> => signal(restore(messageId))

/** Notes what an update tells. */
export const note = (
  messageId: string,
  seen: Signal<ReadonlyArray<Seen>>,
  update: TurnUpdate,
  rootId: string | null
): void => {
  const next = noted(seen.peek(), update, rootId, Date.now())
  if (next === seen.peek()) return
  seen.value = next
  try {
    sessionStorage.setItem(`${place} ${messageId}`, JSON.stringify(next))
  } catch {
    // A full storage: then a reload forgets them.
  }
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
      return [...seen, retry(update, undefined, atMillis)]
    case "subagent.update":
      return update.update.type === "retrying" ? [...seen, retry(update.update, update.sessionId, atMillis)] : seen
    case "turn.finished":
      return seen.some(({ toMillis }) => toMillis === undefined)
        ? seen.map((one) => ({ ...one, toMillis: one.toMillis ?? update.turn.finishedMillis ?? atMillis }))
        : seen
    default:
      return seen
  }
}

// internal

const place = "opencode-turn seen"

const maxAge = 30 * 86_400_000

const retry = (
  { attempt, message, nextMillis }: { readonly attempt: number; readonly message: string; readonly nextMillis: number },
  sessionId: string | undefined,
  atMillis: number
): Seen => ({
  kind: "retry",
  id: `retry ${sessionId ?? ""} ${attempt} ${nextMillis}`,
  sessionId,
  name: message,
  fromMillis: atMillis,
  toMillis: Math.max(nextMillis, atMillis)
})

const restore = (messageId: string): ReadonlyArray<Seen> => {
  try {
    return JSON.parse(sessionStorage.getItem(`${place} ${messageId}`) ?? "[]")
  } catch {
    return []
  }
}
