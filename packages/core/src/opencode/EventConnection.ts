/**
 * Opens a server's event stream and reads its events.
 *
 * @since 0.1.0
 */
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as HttpClientRequest from "effect/http/HttpClientRequest"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Stream from "effect/Stream"
import type { ServerEvent } from "../domain/TurnEvent.ts"
import { type EventsError, StreamLost, UnsupportedServer } from "./ClientError.ts"
import type { Decoder } from "./EventFrames.ts"
import { isHtml, type Requests, toTransportError } from "./Requests.ts"

/**
 * One connection, with a list of events for each read.
 *
 * @category constructors
 * @since 0.1.0
 */
export const open = (
  { limited, lost, noteAnswered, orAway, origin, read, redaction, send, timeoutMillis, whenReady, withTimeout }:
    Requests,
  request: HttpClientRequest.HttpClientRequest,
  makeDecoder: () => Decoder
): Stream.Stream<ReadonlyArray<ServerEvent>, EventsError> =>
  Stream.unwrap(Effect.gen(function*() {
    yield* withTimeout(operation, whenReady)
    const response = yield* limited(Math.min(openMillis, timeoutMillis), operation, send(operation, request))
    if (response.status !== 200 || isHtml(response)) {
      return yield* Effect.flatMap(
        withTimeout(operation, orAway(operation)(read(operation, response))),
        () => Effect.fail(new UnsupportedServer({ origin, seen: `${response.status} for GET ${request.url}` }))
      )
    }
    noteAnswered(operation)
    const decoder = makeDecoder()
    let isOpen = !isEventStream(response)
    /** The first item of an event stream shows that it is open, even a comment of a proxy or something unreadable. */
    const opened = (events: ReadonlyArray<ServerEvent>): ReadonlyArray<ServerEvent> => {
      if (isOpen || !decoder.hasFrame()) return events
      isOpen = true
      if (events.some(({ _tag }) => _tag === "Connected")) return events
      // An unreadable first item counts as `server.connected`: nothing can be missed before it.
      return [{ _tag: "Connected" }, ...events.slice(events[0]?._tag === "Unread" ? 1 : 0)]
    }
    return response.stream.pipe(
      Stream.mapError((error): EventsError => toTransportError(operation, origin, error, true, redaction.text)),
      Stream.mapArrayEffect((reads) =>
        Effect.try({
          try: () => Arr.map(reads, (bytes) => opened(decoder.push(bytes)).map(redaction.event)),
          catch: () => new StreamLost({ origin, reason: "an event was larger than can be read" })
        })
      ),
      // The server or the network ended the stream. A stream without a reader is interrupted instead.
      Stream.onExit((exit) => (Exit.hasInterrupts(exit) ? Effect.void : lost))
    )
  }))

// internal

const operation = "open event stream"

/** The limit of one connection attempt, which leaves time for others within `TurnPolicy.ConnectTimeout`. */
const openMillis = 5000

const isEventStream = (response: HttpClientResponse.HttpClientResponse): boolean =>
  (response.headers["content-type"] ?? "").includes("text/event-stream")
