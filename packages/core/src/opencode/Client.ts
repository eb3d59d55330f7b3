/**
 * An OpenCode server as typed effects and one shared event stream.
 *
 * **Responsibilities**: the requests of a {@link Dialect}, the shared subscription ({@link EventHub}), and two short
 * ways to use a session without a store: `stream` and `sendMessage`.
 *
 * **Not responsibilities**: recovering a turn whose stream is lost (`Turn`).
 *
 * @since 0.1.0
 */
import * as Cache from "effect/Cache"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { SessionId } from "../domain/Ids.ts"
import type { Message } from "../domain/Message.ts"
import type { Prompt } from "../domain/Prompt.ts"
import type { TurnEvent } from "../domain/TurnEvent.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import { isAborted } from "../domain/UpstreamFailure.ts"
import * as AnyDialect from "./AnyDialect.ts"
import type { ClientError, EventsError, RequestError, SessionNotFound } from "./ClientError.ts"
import type { Dialect } from "./Dialect.ts"
import type { Subscriber, Subscription } from "./EventHub.ts"
import * as EventHub from "./EventHub.ts"
import type { Options } from "./Requests.ts"

/**
 * A prompt, or just its text.
 *
 * @category models
 * @since 0.1.0
 */
export type PromptInput = string | Prompt

/**
 * An event of {@link Client}'s `stream`, or a mark that events may be missing: the connection was lost for a time
 * (`reconnect`), or the reader was slower than the server (`overflow`).
 *
 * @category models
 * @since 0.1.0
 */
export type StreamEvent = TurnEvent | { readonly _tag: "Gap"; readonly reason: "reconnect" | "overflow" }

/**
 * @category services
 * @since 0.1.0
 */
export class Client extends Context.Service<
  Client,
  Omit<Dialect, "events" | "prompt" | "promptAndWait"> & {
    /** The folder of a session. The server is asked at most once in ten minutes. */
    readonly directoryOf: (id: SessionId) => Effect.Effect<string, RequestError | SessionNotFound>

    /** Posts a prompt; success means that the server accepted it. With `ids` it may be posted again. */
    readonly prompt: (id: SessionId, prompt: PromptInput) => Effect.Effect<void, RequestError | SessionNotFound>

    /**
     * Posts a prompt and gives the last message of the answer. A cut connection loses the answer, so use a turn for
     * important prompts.
     */
    readonly sendMessage: (
      id: SessionId,
      prompt: PromptInput
    ) => Effect.Effect<Message, RequestError | SessionNotFound>

    /**
     * Subscribes, prompts, and gives the events of the session and its subagents. The stream ends when the session is
     * idle, fails before it began, or is deleted. The server stores an abort or a failure some milliseconds after that
     * `idle` (1.18.33).
     */
    readonly stream: (id: SessionId, prompt: PromptInput) => Stream.Stream<StreamEvent, ClientError>

    /** Subscribes to the events of a session and its subagents over the one connection that all subscribers share. */
    readonly subscribe: (
      id: SessionId,
      subscriber: Subscriber
    ) => Effect.Effect<Subscription, EventsError, Scope.Scope>
  }
>()("@opencode-turn/core/Client") {}

/**
 * Makes a client over a dialect.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  dialect: Dialect
): Effect.fn.Return<Client["Service"], never, Scope.Scope> {
  const hub = yield* EventHub.make(dialect)
  const { events: _events, prompt: _prompt, promptAndWait: _promptAndWait, ...requests } = dialect
  const prompt = (id: SessionId, input: PromptInput) => dialect.prompt(id, toPrompt(input))
  const directories = yield* Cache.makeWith(
    (id: SessionId) => Effect.map(dialect.getSession(id), ({ directory }) => directory),
    { capacity: maxKnown, timeToLive: (exit) => (Exit.isSuccess(exit) ? "10 minutes" : 0) }
  )

  return Client.of({
    ...requests,
    directoryOf: (id) => Cache.get(directories, id),
    prompt,
    sendMessage: (id, input) => dialect.promptAndWait(id, toPrompt(input)),
    subscribe: hub.subscribe,
    stream: (id, input) =>
      Stream.unwrap(Effect.gen(function*() {
        const queue = yield* Queue.unbounded<StreamEvent, EventsError | Cause.Done>()
        const { onIdle, subscriber } = intoQueue(queue, id)
        yield* hub.subscribe(id, subscriber)
        yield* prompt(id, input)
        const retry = yield* TurnPolicy.RequestRetry
        // The session may have become idle during the gap.
        const catchUp = dialect.statuses.pipe(
          Effect.retry({ schedule: retry, while: (error) => error.isRetryable }),
          Effect.map((statuses) => {
            if (!statuses.has(id)) onIdle()
          })
        )
        return Stream.fromQueue(queue).pipe(
          Stream.mapArrayEffect((events) =>
            events.some((event) => event._tag === "Gap" && event.reason === "reconnect")
              ? Effect.as(catchUp, events)
              : Effect.succeed(events)
          )
        )
      }))
  })
})

/**
 * A client of the server at `baseUrl` over any `HttpClient`. The first request is preceded by one check which
 * line of OpenCode answers there.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<Client, never, HttpClient.HttpClient> =>
  Layer.effect(Client, Effect.flatMap(AnyDialect.make(options), make))

// internal

const toPrompt = (input: PromptInput): Prompt =>
  typeof input === "string" ? { parts: [{ type: "text", text: input }] } : input

/** The number of sessions whose folders are remembered. */
const maxKnown = 1024

/** The limit of waiting events. Further events are dropped and a gap replaces them, so memory stays bounded. */
const maxQueued = 4096

const reconnect: StreamEvent = { _tag: "Gap", reason: "reconnect" }

const intoQueue = (queue: Queue.Queue<StreamEvent, EventsError | Cause.Done>, id: SessionId) => {
  let hasBegun = false
  let isOver = false

  const offer = (event: StreamEvent) => {
    if (Queue.sizeUnsafe(queue) >= maxQueued) {
      let hasReconnected = false
      for (let dropped = Queue.takeUnsafe(queue); dropped !== undefined; dropped = Queue.takeUnsafe(queue)) {
        hasReconnected ||= Exit.isSuccess(dropped) && dropped.value === reconnect
      }
      Queue.offerUnsafe(queue, { _tag: "Gap", reason: "overflow" })
      // The overflow may have dropped the mark of a reconnect, after which the reader must still ask the server.
      if (hasReconnected) Queue.offerUnsafe(queue, reconnect)
    }
    Queue.offerUnsafe(queue, event)
  }
  // Nothing is offered after the end, because a later event could push the end out of a full queue.
  const end = () => {
    isOver = true
    Queue.endUnsafe(queue)
  }
  const isEnd = (event: TurnEvent): boolean => {
    switch (event._tag) {
      case "StatusChanged":
        hasBegun ||= event.status.type !== "idle"
        // An aborted earlier run reports `idle` a second time, perhaps only now (1.18.33).
        return hasBegun && event.status.type === "idle"
      case "SessionFailed":
        // The agent is unknown, so neither `busy` nor `idle` will follow (1.18.33).
        return !hasBegun && !isAborted(event.failure)
      default:
        return event._tag === "SessionDeleted"
    }
  }

  const subscriber: Subscriber = {
    onEvent: (event) => {
      if (isOver) return
      offer(event)
      if (event.sessionId === id && isEnd(event)) end()
    },
    onFlush: () => {},
    onHeartbeat: () => {},
    onLost: () => {},
    onGap: () => {
      if (!isOver) offer(reconnect)
    },
    onClosed: (error) => {
      Queue.failCauseUnsafe(queue, Cause.fail(error))
    }
  }
  return {
    subscriber,
    onIdle: () => {
      hasBegun = true
      subscriber.onEvent({ _tag: "StatusChanged", eventId: undefined, sessionId: id, status: { type: "idle" } })
    }
  }
}
