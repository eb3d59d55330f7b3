/**
 * Sends prompts, each exactly once: a prompt has a key before it is sent, and is sent again under the same key until the gateway answers.
 * A prompt that is on its way survives a reload of the page.
 */
import { batch, signal } from "@preact/signals"
import type { Outcome } from "./Api.ts"
import { call, path } from "./Api.ts"
import { changed } from "./Model.ts"
import type { PromptPart, StartedTurn } from "./Types.ts"

/** A prompt on its way. It begins a conversation where it names none. */
export interface Sending {
  readonly conversationId: string | undefined
  readonly key: string
  readonly prompt: string | ReadonlyArray<PromptPart>
}

/** The prompt that is on its way. */
export const sending = signal<Sending | undefined>(undefined)

/** A prompt that the gateway refused, until the place where it was written has it back. */
export interface Refused {
  readonly conversationId: string | undefined
  readonly text: string
  readonly problem: string
}

export const refused = signal<Refused | undefined>(undefined)

/** Why the gateway has no room for the prompt that is on its way. It stored nothing of it then. */
export const full = signal<string | undefined>(undefined)

/** Gives a prompt back for which there is no room, instead of trying again. */
export const takeBack = (): void => {
  isLeft = true
  wake()
}

/** A new id, which nobody guesses. */
export const makeId = (): string => {
  const bytes = crypto.getRandomValues(new Uint8Array(12))
  return Array.from(bytes, (byte) => byte.toString(36).padStart(2, "0")).join("")
}

/** Sends a prompt; without a connection it waits for one. */
export const send = async (prompt: Sending): Promise<Outcome<StartedTurn>> => {
  keep(prompt)
  const begun = await begin(prompt.conversationId)
  const outcome = begun.ok ? await start({ ...prompt, ...begun.value }) : begun
  sessionStorage.removeItem(place)
  // The words about a prompt on its way go in the same render in which its text comes back.
  batch(() => {
    sending.value = undefined
    full.value = undefined
    if (outcome.ok) return
    const { conversationId } = prompt
    refused.value = { conversationId, text: textOf(prompt), problem: `${outcome.message}: ${outcome.advice}` }
  })
  if (outcome.ok) await changed()
  return outcome
}

/** The prompt that an earlier load of the page left on its way. */
export const leftover = (): Sending | undefined => {
  try {
    const text = sessionStorage.getItem(place)
    return text === null ? undefined : JSON.parse(text)
  } catch {
    return undefined
  }
}

// internal

/** The gateway chooses the ids of new conversations, because it knows which ones the user may begin. */
const begin = async (
  conversationId: string | undefined
): Promise<Outcome<{ readonly conversationId: string }>> =>
  conversationId === undefined
    ? answered(() => call("conversations", {}))
    : { ok: true, value: { conversationId } }

const start = (prompt: Sending & { readonly conversationId: string }): Promise<Outcome<StartedTurn>> => {
  keep(prompt)
  return answered(() =>
    call(path`conversations/${prompt.conversationId}/turns`, { prompt: prompt.prompt }, {
      "idempotency-key": prompt.key
    })
  )
}

const textOf = ({ prompt }: Sending): string =>
  typeof prompt === "string" ? prompt : prompt.map((part) => part.type === "text" ? part.text : "").join("")

/** Calls again until the gateway answers. */
const answered = async <A>(ask: () => Promise<Outcome<A>>): Promise<Outcome<A>> => {
  isLeft = false
  for (let tries = 0;; tries++) {
    const outcome = await ask()
    const isPassing = !outcome.ok && (outcome.status === undefined || outcome.status === 429 || outcome.status === 503)
    const isFull = !outcome.ok && outcome.status === 429
    full.value = isFull ? `${outcome.message}: ${outcome.advice}` : undefined
    if (isPassing && !(isFull && isLeft)) {
      await new Promise<void>((resolve) => {
        wake = resolve
        setTimeout(resolve, Math.min(500 * 2 ** tries, 5_000))
      })
    }
    if (isPassing && !(isFull && isLeft)) continue
    return outcome
  }
}

/** Whether the person wants the prompt back. */
let isLeft = false
let wake = (): void => undefined

const place = "opencode-turn sending"

const keep = (prompt: Sending): void => {
  sending.value = prompt
  try {
    sessionStorage.setItem(place, JSON.stringify(prompt))
  } catch {
    // Files may be larger than the storage: then a reload before the answer loses the prompt.
  }
}
