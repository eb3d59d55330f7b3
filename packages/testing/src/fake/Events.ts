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
import type { IdGenerator } from "./Ids.ts"

/**
 * An event, in the shape of OpenCode 1.x.
 *
 * @category models
 * @since 0.1.0
 */
export interface Event {
  readonly id: string
  readonly type: string
  readonly properties: Properties
}

/**
 * The data of an event. Events about a session name it in `sessionID`.
 *
 * @category models
 * @since 0.1.0
 */
export type Properties = { readonly [key: string]: unknown }

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
  /**
   * Makes an event and sends it to the connections of its directory; `undefined` means to all. `toWire` gives the event another shape on
   * the wire. Gives the event's id.
   */
  readonly publish: (
    type: string,
    properties: Properties,
    directory?: string,
    toWire?: (event: Event) => object
  ) => string
  /** Sends an event as it is, past every rule. */
  readonly send: (event: object) => void
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
 * What a connection gets although nothing happens.
 *
 * @category models
 * @since 0.1.0
 */
export interface Pulse {
  /** The first frames of a connection. */
  readonly greeting: (ids: IdGenerator) => string
  readonly heartbeat: (ids: IdGenerator) => string
  /** The time between two heartbeats. */
  readonly heartbeatMillis: number
}

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = (ids: IdGenerator, pulse: Pulse): Events => {
  const connections = new Set<Connection>()
  const rules: Array<Rule> = []
  let isMuted = false

  const say = ({ queue }: Connection, text: string) => {
    if (!isMuted) Queue.offerUnsafe(queue, encoder.encode(text))
  }
  const deliver = (connection: Connection, event: object) =>
    say(connection, frame(connection.isGlobal ? { payload: event } : event))

  const copies = (event: Event): number => {
    const rule = rules.find(({ predicate, times }) => times > 0 && predicate(event))
    if (rule === undefined) return 1
    rule.times--
    return rule.how === "drop" ? 0 : 2
  }

  const beat = (connection: Connection) =>
    Effect.sync(() => say(connection, pulse.heartbeat(ids))).pipe(
      Effect.delay(pulse.heartbeatMillis),
      Effect.forever
    )

  return {
    publish: (type, properties, directory, toWire) => {
      const event = { id: ids.ascending("evt"), type, properties }
      const wire = toWire?.(event) ?? event
      const count = copies(event)
      for (const connection of connections) {
        if (directory !== undefined && connection.directory !== directory && !connection.isGlobal) continue
        for (let copy = 0; copy < count; copy++) deliver(connection, wire)
      }
      return event.id
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
        say(connection, pulse.greeting(ids))
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

/**
 * An event as a frame of server-sent events.
 *
 * @category constructors
 * @since 0.1.0
 */
export const frame = (event: unknown): string => `data: ${JSON.stringify(event)}\n\n`

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

const resetCause = Cause.fail(new ConnectionReset())
