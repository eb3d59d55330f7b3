/**
 * A turn as server-sent events.
 *
 * ```
 *   : attached                    at once, so that a proxy and a page see an open stream
 *   id: run_1.7
 *   data: {"type":"text.delta",…} an update; its id is the offset behind which Last-Event-ID goes on
 *   : alive                       every 15 seconds, because proxies close what is silent; then the access is checked again
 *   id: 42.end
 *   data: {"type":"turn.finished",…}
 * ```
 *
 * **Details**
 *
 * The offset of the end differs from that of the last update: whoever saw only the update is still told the end. A page that comes back
 * with the offset of the end gets 204, at which a browser's `EventSource` stops trying.
 *
 * @since 0.1.0
 */
import { type Attached, attachTurn } from "@opencode-turn/core/AttachTurn"
import type { AssistantMessageId } from "@opencode-turn/core/Ids"
import { SessionStore, type StoreError, type UnknownMessage } from "@opencode-turn/core/SessionStore"
import * as WireUpdate from "@opencode-turn/core/WireUpdate"
import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as ErrorReporter from "effect/ErrorReporter"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import type { Told } from "./Asking.ts"
import type { MayFollow } from "./Following.ts"
import * as TurnJson from "./TurnJson.ts"

/**
 * How often a stream without news says that it is alive: every 15 seconds. Common proxies close a silent connection after 30 to 60.
 *
 * @category constants
 * @since 0.1.0
 */
export const keepAlive: Duration.Input = "15 seconds"

/**
 * The offset in an id of an event, and whether it is that of the end.
 *
 * @category getters
 * @since 0.1.0
 */
export const parseOffset = (id: string): { readonly offset: string; readonly isEnd: boolean } =>
  id.endsWith(endMark) ? { offset: id.slice(0, -endMark.length), isEnd: true } : { offset: id, isEnd: false }

/**
 * The events of a turn, behind an offset or from its beginning.
 *
 * @category streams
 * @since 0.1.0
 */
export const ofTurn = (
  id: AssistantMessageId,
  from: string | undefined,
  mayFollow: MayFollow,
  told: Told
): Stream.Stream<Uint8Array, never, SessionStore> =>
  open(
    mayFollow,
    // What came at once is written at once.
    Stream.mapArray(attachTurn(id, { from }), (chunk) => [toBytes(chunk.map(told))]),
    (failure) => event({ type: "stream.failed", ...failure })
  )

/**
 * Events of a turn as a stream that says that it is alive, and that ends with the words for what it failed with, also where its reader may
 * follow it no more.
 *
 * @category streams
 * @since 0.1.0
 */
export const open = <R>(
  mayFollow: MayFollow,
  events: Stream.Stream<Uint8Array, StoreError | UnknownMessage, R>,
  toText: (failure: { readonly message: string; readonly advice: string }) => string
): Stream.Stream<Uint8Array, never, R> => {
  const told = Stream.catch(events, (error) =>
    Stream.fromEffect(
      Effect.as(
        error._tag === "StoreError" ? ErrorReporter.report(Cause.fail(error)) : Effect.void,
        encode(toText(
          error._tag === "StoreError"
            ? { message: "the store cannot be reached", advice: "attach again in a while" }
            : { message: "the turn was deleted", advice: "nothing follows" }
        ))
      )
    ))
  // Not Stream.merge: with it, 500 streams cost a quarter more in all. A slow reader holds up only its own queue.
  return Stream.unwrap(Effect.gen(function*() {
    const queue = yield* Queue.bounded<Uint8Array, Cause.Done>(16)
    yield* Queue.offer(queue, attached)
    yield* Effect.forkScoped(Stream.runIntoQueue(told, queue))
    const look = Effect.map(mayFollow, (may) => {
      // A reader that is behind needs no sign of life, and must not hold up the check.
      Queue.offerUnsafe(queue, may ? alive : encode(toText(refused)))
      if (!may) Queue.endUnsafe(queue)
      return may
    })
    yield* Effect.forkScoped(Effect.repeat(Effect.delay(look, keepAlive), { while: (may) => may }))
    return Stream.fromQueue(queue)
  }))
}

/**
 * The answer that streams events.
 *
 * @category streams
 * @since 0.1.0
 */
export const toResponse = (
  events: Stream.Stream<Uint8Array, never, SessionStore>,
  store: SessionStore["Service"],
  headers: Readonly<Record<string, string>> = {}
): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.stream(Stream.provideService(events, SessionStore, store), {
    contentType: "text/event-stream",
    headers: { "cache-control": "no-store, no-transform", "x-accel-buffering": "no", ...headers }
  })

/**
 * The bytes of a text.
 *
 * @category conversions
 * @since 0.1.0
 */
export const encode = (text: string): Uint8Array => encoder.encode(text)

// internal

const encoder = new TextEncoder()

const refused = { message: "this client may not follow the turn any more", advice: "sign in again" }

const attached = encode(": attached\n\n")
const alive = encode(": alive\n\n")

/** What was written last, by its last update: where a turn runs in this process, all of its readers get the same objects. */
const written = new WeakMap<object, { readonly events: ReadonlyArray<Attached>; readonly bytes: Uint8Array }>()

/** Readers of a turn that are told the same at once share its bytes. A reset is made for each reader. */
const toBytes = (events: ReadonlyArray<Attached>): Uint8Array => {
  const last = events.at(-1)
  if (last === undefined || events.some(({ update }) => update._tag === "Reset")) return toNewBytes(events)
  const key = toldBy(last)
  const known = written.get(key)
  if (known !== undefined && isSame(known.events, events)) return known.bytes
  const bytes = toNewBytes(events)
  written.set(key, { events, bytes })
  return bytes
}

const toNewBytes = (events: ReadonlyArray<Attached>): Uint8Array => encode(events.map(toEvent).join(""))

/** The message at the end is the store's, which may give the same one to all. */
const toldBy = ({ update }: Attached): object => update._tag === "Finished" ? update.message : update

const isSame = (some: ReadonlyArray<Attached>, others: ReadonlyArray<Attached>): boolean =>
  some.length === others.length &&
  some.every((one, at) => {
    const other = others[at]
    return other !== undefined && one.offset === other.offset && toldBy(one) === toldBy(other)
  })

const endMark = ".end"

const toEvent = ({ offset, update }: Attached): string =>
  update._tag === "Finished"
    ? event({ type: "turn.finished", turn: TurnJson.toTurn(update.message) }, `${offset}${endMark}`)
    : event(WireUpdate.toWire(update), offset)

/** JSON has no line breaks, so the data is one line. An update is its own JSON form, so that it is not encoded once more. */
const event = (update: TurnJson.TurnUpdate, id?: string): string =>
  `${id === undefined ? "" : `id: ${id}\n`}data: ${JSON.stringify(update)}\n\n`
