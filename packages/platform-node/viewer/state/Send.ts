/**
 * Sends prompts, each exactly once: a prompt has a key before it is sent, and is sent again under the same key until the gateway answers.
 * A prompt that is on its way survives a reload of the page.
 */
import { signal } from "@preact/signals"
import type { Outcome } from "./Api.ts"
import { call, path } from "./Api.ts"
import { changed } from "./Model.ts"
import type { PromptPart, StartedTurn } from "./Types.ts"

/** A prompt on its way. */
export interface Sending {
  readonly conversationId: string
  readonly key: string
  readonly prompt: string | ReadonlyArray<PromptPart>
}

/** The prompt that is on its way. */
export const sending = signal<Sending | undefined>(undefined)

/** A new id, which nobody guesses. */
export const makeId = (): string => {
  const bytes = crypto.getRandomValues(new Uint8Array(12))
  return Array.from(bytes, (byte) => byte.toString(36).padStart(2, "0")).join("")
}

/** Sends a prompt; without a connection it waits for one. */
export const send = async (prompt: Sending): Promise<Outcome<StartedTurn>> => {
  sending.value = prompt
  keep(prompt)
  for (let tries = 0;; tries++) {
    const outcome = await call<StartedTurn>(
      path`conversations/${prompt.conversationId}/turns`,
      { prompt: prompt.prompt },
      { "idempotency-key": prompt.key }
    )
    const isPassing = !outcome.ok && (outcome.status === undefined || outcome.status === 429 || outcome.status === 503)
    if (!isPassing) {
      sending.value = undefined
      sessionStorage.removeItem(place)
      if (outcome.ok) await changed()
      return outcome
    }
    await new Promise((resolve) => setTimeout(resolve, Math.min(500 * 2 ** tries, 5_000)))
  }
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

const place = "opencode-turn sending"

const keep = (prompt: Sending): void => {
  try {
    sessionStorage.setItem(place, JSON.stringify(prompt))
  } catch {
    // Files may be larger than the storage: then a reload before the answer loses the prompt.
  }
}
