/**
 * The named points of a turn at which a worker process kills, freezes or announces itself. They are wrappers around the services that the
 * turn uses, so the code under test does not know them.
 */
import { Client } from "@opencode-turn/core/Client"
import type { Subscriber } from "@opencode-turn/core/EventHub"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import type { TurnEvent } from "@opencode-turn/core/TurnEvent"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

/** The points, in the order in which a turn reaches them. */
export const points = [
  "before claim",
  "after claim",
  "session made, not stored",
  "after session",
  "before prompt",
  "prompt on its way",
  "prompt sent and answer not read",
  "tool running",
  "mid stream",
  "before finalize",
  "after finalize"
] as const

export type Point = typeof points[number]

/** Calls `reached` each time that a turn with these services reaches the point. `onTheWayMillis`: how long a prompt has been on its way then. */
export const layer = (
  point: Point | undefined,
  onTheWayMillis: number,
  reached: () => void
): Layer.Layer<SessionStore | Client, never, SessionStore | Client> => {
  const signal = Effect.sync(reached)
  const before = (name: Point) => <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    name === point ? Effect.andThen(signal, effect) : effect
  const after = (name: Point) => <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    name === point ? Effect.tap(effect, signal) : effect

  const store = Effect.map(SessionStore, (store) =>
    SessionStore.of({
      ...store,
      claim: (claim) => store.claim(claim).pipe(before("before claim"), after("after claim")),
      setSession: (...change) => after("after session")(store.setSession(...change)),
      finalize: (...write) => store.finalize(...write).pipe(before("before finalize"), after("after finalize"))
    }))

  const client = Effect.map(Client, (client) =>
    Client.of({
      ...client,
      createSession: (options) => after("session made, not stored")(client.createSession(options)),
      prompt: (id, prompt) =>
        client.prompt(id, prompt).pipe(
          before("before prompt"),
          after("prompt sent and answer not read"),
          point === "prompt on its way" ? duringSome(signal, onTheWayMillis) : (effect) => effect
        ),
      subscribe: (id, subscriber) => client.subscribe(id, watched(subscriber, point, reached))
    }))

  return Layer.merge(Layer.effect(SessionStore, store), Layer.effect(Client, client))
}

// internal

/**
 * Signals some time between the first byte of a request and its answer: posting a prompt takes some ten milliseconds. It signals at the
 * answer where that was faster.
 */
const duringSome =
  (signal: Effect.Effect<void>, millis: number) => <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.raceFirst(
      Effect.tap(effect, signal),
      Effect.andThen(Effect.sleep(millis), Effect.andThen(signal, Effect.never))
    )

/** This many deltas are well inside the long answer, because the step before it streams fewer. */
const deltasToMidStream = 15

const watched = (subscriber: Subscriber, point: Point | undefined, reached: () => void): Subscriber => {
  if (point !== "tool running" && point !== "mid stream") return subscriber
  let deltas = 0
  const isThere = (event: TurnEvent): boolean =>
    point === "mid stream"
      ? event._tag === "PartDelta" && ++deltas === deltasToMidStream
      : event._tag === "PartUpdated" && event.part.type === "tool" && event.part.status === "running"
  return {
    ...subscriber,
    onEvent: (event) => {
      subscriber.onEvent(event)
      if (isThere(event)) reached()
    }
  }
}
