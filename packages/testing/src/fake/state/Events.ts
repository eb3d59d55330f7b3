/**
 * The event stream of the fake OpenCode: its connections, and the events that reach them.
 *
 * **Responsibilities**: connections, heartbeats, and the faults that a test injects into them.
 *
 * **Not responsibilities**: the meaning of an event.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type { Event, IdGenerator, Properties } from "./Wire.ts"

/**
 * The connection broke: a reset socket over HTTP, a transport error in memory.
 *
 * @category errors
 * @since 0.1.0
 */
export class ConnectionReset extends Schema.TaggedError<ConnectionReset>()("ConnectionReset", {}) {
  override get message() {
    return "the connection was reset"
  }
}

/**
 * Whether an event is meant.
 *
 * @category models
 * @since 0.1.0
 */
export type EventPredicate = (event: Event) => boolean

/**
 * @category models
 * @since 0.1.0
 */
export interface Events {
  /** Makes an event and sends it to the connections of its directory; `undefined` means to all. */
  readonly publish: (type: string, properties: Properties, directory?: string) => void
  /** Sends an event as it is, past every rule. */
  readonly send: (event: Event) => void
  /** One connection: `server.connected`, then events and heartbeats, as frames of server-sent events. */
  readonly connect: (options: {
    readonly directory: string
    readonly isGlobal: boolean
  }) => Stream.Stream<Uint8Array, ConnectionReset>
  /** Ends all connections, cleanly or as a crash does. */
  readonly end: (how: "clean" | "reset") => void
  /** The connections that are open. */
  readonly connections: () => number
  /** Nothing leaves the server any more, heartbeats included; connections stay open and may be opened. */
  readonly setMuted: (isMuted: boolean) => void
  /** Loses, or sends twice, the next `times` events that match. */
  readonly spoil: (how: "drop" | "duplicate", predicate: EventPredicate, times: number) => void
}

/**
 * The time between two heartbeats of a connection (1.18.33).
 *
 * @category constants
 * @since 0.1.0
 */
export const heartbeatMillis = 10_000

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = (ids: IdGenerator): Events => {
  const connections = new Set<Connection>()
  const rules: Array<Rule> = []
  let isMuted = false

  const deliver = (connection: Connection, event: Event) => {
    if (!isMuted) Queue.offerUnsafe(connection.queue, frame(connection.isGlobal ? { payload: event } : event))
  }

  const copies = (event: Event): number => {
    const rule = rules.find(({ predicate, times }) => times > 0 && predicate(event))
    if (rule === undefined) return 1
    rule.times--
    return rule.how === "drop" ? 0 : 2
  }

  const beat = (connection: Connection) =>
    Effect.sync(() => deliver(connection, { id: ids.ascending("evt"), type: "server.heartbeat", properties: {} })).pipe(
      Effect.delay(heartbeatMillis),
      Effect.forever
    )

  return {
    publish: (type, properties, directory) => {
      const event = { id: ids.ascending("evt"), type, properties }
      const count = copies(event)
      for (const connection of connections) {
        if (directory !== undefined && connection.directory !== directory && !connection.isGlobal) continue
        for (let copy = 0; copy < count; copy++) deliver(connection, event)
      }
    },
    send: (event) => {
      for (const connection of connections) deliver(connection, event)
    },
    connect: ({ directory, isGlobal }) =>
      Stream.unwrap(Effect.gen(function*() {
        const queue = yield* Queue.unbounded<Uint8Array, ConnectionReset | Cause.Done>()
        const connection = { directory, isGlobal, queue }
        yield* Effect.acquireRelease(
          Effect.sync(() => connections.add(connection)),
          () => Effect.sync(() => connections.delete(connection))
        )
        deliver(connection, { id: ids.ascending("evt"), type: "server.connected", properties: {} })
        yield* Effect.forkScoped(beat(connection))
        return Stream.fromQueue(queue)
      })),
    end: (how) => {
      for (const { queue } of connections) {
        if (how === "clean") Queue.endUnsafe(queue)
        else Queue.failCauseUnsafe(queue, resetCause)
      }
      connections.clear()
    },
    connections: () => connections.size,
    setMuted: (muted) => {
      isMuted = muted
    },
    spoil: (how, predicate, times) => {
      rules.push({ how, predicate, times })
    }
  }
}

// internal

interface Connection {
  readonly directory: string
  readonly isGlobal: boolean
  readonly queue: Queue.Queue<Uint8Array, ConnectionReset | Cause.Done>
}

interface Rule {
  readonly how: "drop" | "duplicate"
  readonly predicate: EventPredicate
  times: number
}

const encoder = new TextEncoder()

const frame = (event: unknown): Uint8Array => encoder.encode(`data: ${JSON.stringify(event)}\n\n`)

const resetCause = Cause.fail(new ConnectionReset())
