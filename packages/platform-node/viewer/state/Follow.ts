/**
 * Follows a turn over a connection that may be lost at any time: after sleep, a restart of the gateway, or a change of the network.
 *
 * **Details**
 *
 * The gateway writes a comment every 15 seconds. A connection that is silent for longer than two of them is given up, because a machine
 * that slept may hold one that is dead. Each new connection goes on behind the last offset, so that nothing is lost and nothing comes
 * twice. `EventSource` is not used: it stops for good where a proxy answers with an error once.
 *
 * A tab that nobody sees for a while lets its connection go, because a browser has only six of them to a host for all its tabs. The lists,
 * which are asked for in any case, tell it of the end and of asks.
 */
import { createParser } from "eventsource-parser"
import { address, keyHeaders, path, seen } from "./Api.ts"
import type { TurnUpdate } from "./Types.ts"

/** The connection of a followed turn. */
export type FollowState = "connecting" | "live" | "lost" | "ended"

export interface Options {
  readonly messageId: string
  /** Gets the updates of one read together. */
  readonly onUpdates: (updates: ReadonlyArray<TurnUpdate>) => void
  readonly onState: (state: FollowState) => void
}

/** Follows until the turn's end, and gives a function that leaves it. */
export const follow = ({ messageId, onState, onUpdates }: Options): () => void => {
  const left = new AbortController()
  let offset: string | undefined

  /** Whether it is to be tried again. */
  const attach = async (): Promise<boolean> => {
    const attempt = new AbortController()
    const watchdog = makeWatchdog(() => attempt.abort())
    const unwatch = whenHidden(() => attempt.abort())
    try {
      const response = await fetch(address(path`turns/${messageId}/updates`), {
        headers: {
          ...keyHeaders(),
          accept: "text/event-stream",
          ...(offset !== undefined && { "last-event-id": offset })
        },
        signal: AbortSignal.any([left.signal, attempt.signal])
      })
      seen(response.status)
      if (response.status === 204 || response.status === 404) return false
      if (response.status !== 200 || response.body === null) return true
      onState("live")
      let updates: Array<TurnUpdate> = []
      let isOver = false
      const parser = createParser({
        onEvent: ({ data, id }) => {
          const update: TurnUpdate = JSON.parse(data)
          if (id !== undefined) offset = id
          updates.push(update)
          isOver ||= update.type === "turn.finished"
        }
      })
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
      while (true) {
        const { done, value } = await reader.read()
        if (done) return true
        watchdog.feed()
        parser.feed(value)
        if (updates.length > 0) onUpdates(updates)
        updates = []
        if (isOver) return false
      }
    } catch {
      if (!left.signal.aborted && !attempt.signal.aborted) seen(undefined)
      return true
    } finally {
      watchdog.stop()
      unwatch()
      attempt.abort()
    }
  }

  const run = async () => {
    for (let tries = 0; !left.signal.aborted; tries++) {
      await shown(left.signal)
      onState(tries === 0 ? "connecting" : "lost")
      const before = offset
      if (!(await attach())) break
      if (offset !== before) tries = 0
      await pause(Math.min(200 * 2 ** tries, 5_000), left.signal)
    }
    onState("ended")
  }
  void run()
  return () => left.abort()
}

// internal

const silentMillis = 35_000

const makeWatchdog = (onSilence: () => void) => {
  let lastMillis = Date.now()
  const timer = setInterval(() => {
    if (Date.now() - lastMillis > silentMillis) onSilence()
  }, 5_000)
  return {
    feed: () => {
      lastMillis = Date.now()
    },
    stop: () => clearInterval(timer)
  }
}

const hiddenMillis = 30_000

/** Calls once the page has been hidden for a while. */
const whenHidden = (onHidden: () => void): () => void => {
  let timer: ReturnType<typeof setTimeout> | undefined
  const look = () => {
    clearTimeout(timer)
    if (document.hidden) timer = setTimeout(onHidden, hiddenMillis)
  }
  look()
  document.addEventListener("visibilitychange", look)
  return () => {
    clearTimeout(timer)
    document.removeEventListener("visibilitychange", look)
  }
}

/** Waits until somebody sees the page. */
const shown = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const look = () => {
      if (document.hidden && !signal.aborted) return
      document.removeEventListener("visibilitychange", look)
      signal.removeEventListener("abort", look)
      resolve()
    }
    document.addEventListener("visibilitychange", look)
    signal.addEventListener("abort", look)
    look()
  })

/** Waits, but not longer than until the page comes back to life. */
const pause = (millis: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer)
      window.removeEventListener("online", end)
      document.removeEventListener("visibilitychange", end)
      signal.removeEventListener("abort", end)
      resolve()
    }
    const timer = setTimeout(end, millis)
    window.addEventListener("online", end)
    document.addEventListener("visibilitychange", end)
    signal.addEventListener("abort", end)
  })
