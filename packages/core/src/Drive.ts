/**
 * Drives one prompt to the end of its answer: subscribe, prompt once, fold, and reconcile with the server whenever the
 * stream does not tell the whole story.
 *
 * **Responsibilities**
 * - The prompt leaves only after `server.connected`; a lost stream is reopened without prompting.
 * - After a gap: the subagents' sessions and the open asks are read, the exchange is merged, the server is asked whether the
 *   turn still runs.
 * - The end is the server's word: `idle` from the stream starts the question, the stored exchange decides it.
 * - A turn that the server left unfinished (killed and restarted) is resumed under the same ids.
 * - Deadlines, which stand still while a person is asked.
 *
 * **Not responsibilities**: which session (`EnsureSession`), what to make of an empty or failed answer (`Settle`), storing.
 *
 * ```
 *               idle, gap, failure, deadline
 *   streaming ────────────────────────────────▶ looking ──▶ final ──▶ done
 *       ▲                                        │  │  │
 *       │            the session is busy         │  │  │ idle and unfinished, twice
 *       └────────────────────────────────────────┘  │  ▼
 *       ▲                                           │ resume: post the same ids
 *       └───────────────────────────────────────────┼──┘
 *                                     no event, idle ▼
 *                                              StaleSession
 * ```
 *
 * **Gotchas**
 *
 * A server that fails or aborts a turn says `idle` some milliseconds before it stores the end, and says it twice
 * (1.18.33): hence the second look, and hence an `idle` before anything of this turn was seen counts for nothing. Ids whose
 * answer ended with an error are never posted again, and neither are those that a later prompt has followed: both would ask
 * the model anew.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as AnswerAsks from "./AnswerAsks.ts"
import { Client } from "./Client.ts"
import type { EventsError, RequestError } from "./ClientError.ts"
import { SessionNotFound } from "./ClientError.ts"
import type { Subscription } from "./EventHub.ts"
import * as Exchange from "./Exchange.ts"
import type { SessionId } from "./Ids.ts"
import type { LiveReply } from "./LiveReply.ts"
import type { SessionStatus } from "./Message.ts"
import { promptOnce, readExchange } from "./ReadExchange.ts"
import * as Reply from "./Reply.ts"
import { retrying } from "./Retrying.ts"
import type { StoredRequest } from "./SessionStore.ts"
import { Tracer } from "./Tracer.ts"
import { StaleSession, TurnTimeout, TurnUnfinished } from "./TurnError.ts"
import type { TurnEvent } from "./TurnEvent.ts"
import * as TurnPolicy from "./TurnPolicy.ts"

/**
 * @category errors
 * @since 0.1.0
 */
export type DriveError = RequestError | EventsError | SessionNotFound | StaleSession | TurnTimeout | TurnUnfinished

/**
 * Drives the request until its exchange is final, or is known to stay without an answer. The reply is folded into `live`;
 * `onActivity` is run at most every `TurnPolicy.ActivityTick`.
 *
 * @category steps
 * @since 0.1.0
 */
export const drive = Effect.fn("Turn.drive")(
  function*<R>(
    request: StoredRequest & { readonly prompt: { readonly ids: NonNullable<StoredRequest["prompt"]["ids"]> } },
    live: LiveReply,
    options: { readonly messageId: string; readonly onActivity: Effect.Effect<void, never, R> }
  ) {
    const client = yield* Client
    const tracer = yield* Tracer
    const clock = yield* Clock.Clock
    const limits = yield* readLimits
    const { sessionId } = request
    const ids = { sessionId, promptId: request.prompt.ids.promptId }

    // What the dispatcher leaves for the loop below, which it wakes. Both run on one thread and neither waits halfway.
    const wake = Latch.makeUnsafe(false)
    const seen = { idle: false, failed: false, deleted: false, gap: false, asks: false, tick: false }
    let lost: EventsError | undefined
    let closed: EventsError | undefined
    let hasStarted = false
    let hasNews = false
    const subscribedMillis = clock.currentTimeMillisUnsafe()
    let lastEventMillis = subscribedMillis
    let lastTickMillis = subscribedMillis
    let firstTextMillis: number | undefined

    const signal = (name: keyof typeof seen) => {
      seen[name] = true
      wake.openUnsafe()
    }
    const tick = (nowMillis: number) => {
      if (nowMillis - lastTickMillis < limits.activityTick) return
      lastTickMillis = nowMillis
      signal("tick")
    }
    const onOwnEvent = (event: TurnEvent) => {
      switch (event._tag) {
        case "MessageUpdated":
          hasStarted ||= event.info.role === "user"
            ? event.info.id === ids.promptId
            : event.info.parentId === ids.promptId
          // The end of a failed turn is stored after its `idle`.
          if (event.info.role === "assistant" && event.info.error !== undefined) signal("idle")
          return
        case "StatusChanged":
          if (event.status.type === "idle" && hasStarted) signal("idle")
          return
        case "SessionFailed":
          hasStarted = true
          return signal("failed")
        case "SessionDeleted":
          return signal("deleted")
        default:
          return
      }
    }

    const subscription = yield* client.subscribe(sessionId, {
      onEvent: (event) => {
        const { asks } = live.current().frame
        live.apply(event)
        hasNews = true
        if (event._tag === "PartDelta") return
        if (event.sessionId === sessionId) onOwnEvent(event)
        if (live.current().frame.asks !== asks) signal("asks")
      },
      onFlush: () => {
        const nowMillis = clock.currentTimeMillisUnsafe()
        if (hasNews) lastEventMillis = nowMillis
        hasNews = false
        if (firstTextMillis === undefined && live.current().hasText) firstTextMillis = nowMillis
        live.flush()
        tick(nowMillis)
      },
      onHeartbeat: () => tick(clock.currentTimeMillisUnsafe()),
      onLost: (error) => {
        lost = error
        live.update(Reply.markGap)
        wake.openUnsafe()
      },
      onGap: () => {
        live.update(Reply.markGap)
        signal("gap")
      },
      onClosed: (error) => {
        closed = error
        wake.openUnsafe()
      }
    })
    const asks = yield* AnswerAsks.make(live, () => signal("asks"))

    /** Status first: an exchange read after it is at least as new. Undefined while the server cannot be asked. */
    const look = Effect.gen(function*() {
      const statuses = yield* retrying(client.statuses)
      const known = live.current().frame.messages.map((message) => message.id)
      const exchange = yield* readExchange(ids, known)
      return { exchange, statuses, status: statuses.get(sessionId)?.type ?? "idle" } satisfies Look
    }).pipe(Effect.catchIf((error) => error.isRetryable, () => Effect.undefined))

    yield* promptOnce(request)

    let startMillis = clock.currentTimeMillisUnsafe()
    let waitingMillis = startMillis
    lastEventMillis = startMillis
    let blockedMillis: number | undefined
    let settling: Settling | undefined
    let hadGap = false
    let resumes = 0

    const deadlines = () => {
      if (Reply.isBlocked(live.current())) return { at: Number.POSITIVE_INFINITY, kind: "none" } as const
      const all = [
        { at: startMillis + limits.wholeStream, kind: "wholeStream" },
        { at: hasStarted ? Number.POSITIVE_INFINITY : waitingMillis + limits.firstEvent, kind: "firstEvent" },
        { at: lastEventMillis + limits.idleStream, kind: "idleStream" },
        { at: settling?.nextLookMillis ?? Number.POSITIVE_INFINITY, kind: "poll" }
      ] as const
      return all.reduce((first, next) => (next.at < first.at ? next : first))
    }

    /** While a person is asked the deadlines stand still: afterwards they are moved by as long as it took. */
    const accountBlocked = (nowMillis: number) => {
      if (Reply.isBlocked(live.current())) {
        blockedMillis ??= nowMillis
      } else if (blockedMillis !== undefined) {
        const waitedMillis = nowMillis - blockedMillis
        blockedMillis = undefined
        startMillis += waitedMillis
        waitingMillis += waitedMillis
        lastEventMillis = nowMillis
        if (settling !== undefined) settling = { ...settling, sinceMillis: settling.sinceMillis + waitedMillis }
      }
    }

    const interrupted = (error: { readonly _tag: string; readonly message: string }) =>
      tracer.emit("stream.interrupted", {
        duration_ms: clock.currentTimeMillisUnsafe() - subscribedMillis,
        event_count: live.current().eventCount,
        error: error._tag,
        error_message: error.message.slice(0, 200)
      })

    const untilEnd = Effect.gen(function*() {
      while (true) {
        const deadline = deadlines()
        const leftMillis = deadline.at - clock.currentTimeMillisUnsafe()
        const isWoken = leftMillis === Number.POSITIVE_INFINITY
          ? yield* Effect.as(wake.await, true)
          : Option.isSome(yield* Effect.timeoutOption(wake.await, Math.max(0, leftMillis)))
        wake.closeUnsafe()
        const signals = { ...seen }
        Object.assign(seen, { idle: false, failed: false, deleted: false, gap: false, asks: false, tick: false })
        const nowMillis = clock.currentTimeMillisUnsafe()
        accountBlocked(nowMillis)

        if (closed !== undefined) return yield* closed
        if (signals.deleted) return yield* new SessionNotFound({ sessionId })
        if (lost !== undefined) {
          const error = lost
          lost = undefined
          yield* interrupted(error)
        }
        if (signals.tick) yield* options.onActivity
        if (signals.asks) yield* asks.sync
        const due = isWoken ? "none" : deadline.kind
        if (!signals.idle && !signals.failed && !signals.gap && due === "none") continue

        const view = yield* look
        if (signals.gap) {
          hadGap = true
          if (view !== undefined) yield* catchUp(live, subscription, view)
          yield* asks.sync
        }
        if (view !== undefined && Exchange.isFinal(view.exchange)) return view.exchange
        if (view !== undefined && view.status === "idle" && Exchange.isRefused(view.exchange)) return view.exchange
        if (due === "wholeStream") return yield* new TurnTimeout({ limit: "wholeStream", millis: limits.wholeStream })
        if (view === undefined || view.status !== "idle") {
          // The server works on it, or cannot be asked just now: the deadline begins anew, and an `idle` is followed up.
          if (due === "firstEvent") waitingMillis = nowMillis
          if (due === "idleStream") lastEventMillis = nowMillis
          if (signals.idle || settling !== undefined) {
            settling = { sinceMillis: nowMillis, ...settling, isIdle: false, nextLookMillis: nowMillis + limits.poll }
          }
        } else if (due === "firstEvent") {
          return yield* new StaleSession({ sessionId, silentMillis: nowMillis - waitingMillis })
        } else if (settling?.isIdle !== true) {
          if (settling === undefined && live.current().frame.failure === undefined) {
            yield* tracer.emit("response.waiting_for_final_text", { message_id: options.messageId })
          }
          settling = { sinceMillis: nowMillis, ...settling, isIdle: true, nextLookMillis: nowMillis + secondLookMillis }
        } else if (due !== "poll") {
          // Woken between the two looks: the second one is still to come.
          continue
        } else if (isWithoutAnswer(view, live.current(), hadGap)) {
          return view.exchange
        } else if (resumes >= limits.maxResumes || (view.exchange.isAccepted && !view.exchange.isCurrent)) {
          return yield* new TurnUnfinished({ sessionId, resumes })
        } else {
          resumes++
          settling = undefined
          live.update(Reply.markGap)
          yield* subscription.connected
          yield* promptOnce(request)
          settling = { sinceMillis: nowMillis, isIdle: false, nextLookMillis: nowMillis + limits.poll }
        }
        if (
          settling !== undefined && nowMillis - Math.max(settling.sinceMillis, lastEventMillis) >= limits.finalExchange
        ) {
          return yield* new TurnTimeout({ limit: "finalExchange", millis: limits.finalExchange })
        }
      }
    })

    const exchange = yield* Effect.tapError(untilEnd, interrupted)
    yield* tracer.emit("stream.completed", {
      duration_ms: clock.currentTimeMillisUnsafe() - subscribedMillis,
      first_token_ms: firstTextMillis === undefined ? null : firstTextMillis - subscribedMillis,
      event_count: live.current().eventCount,
      tool_count: Reply.parts(live.current()).filter((part) => part.type === "tool").length
    })
    return exchange
  },
  Effect.scoped
)

/**
 * Aborts the session and the sessions of its subagents. Best effort: what cannot be reached is left to the server.
 *
 * @category steps
 * @since 0.1.0
 */
export const abortTree = Effect.fn("Turn.abortTree")(function*(
  reply: Reply.Reply
): Effect.fn.Return<void, RequestError, Client> {
  const client = yield* Client
  // OpenCode aborts running subagents with their root (1.18.33); asking for each as well costs little.
  yield* Effect.forEach(
    [reply.sessionId, ...reply.frame.subagents.map((subagent) => subagent.sessionId)],
    (sessionId) => client.abortSession(sessionId),
    { concurrency: 4, discard: true }
  )
})

// internal

interface Look {
  readonly exchange: Exchange.Exchange
  readonly statuses: ReadonlyMap<SessionId, SessionStatus>
  readonly status: SessionStatus["type"]
}

/** Between the first sign that the turn may have ended and its final exchange. */
interface Settling {
  readonly sinceMillis: number
  readonly isIdle: boolean
  readonly nextLookMillis: number
}

/** A failed turn's end is stored some 2 ms after its `idle` (1.18.33); a hundred times that is still soon. */
const secondLookMillis = 250

const readLimits = Effect.gen(function*() {
  const idleStream = yield* TurnPolicy.IdleStream
  return {
    firstEvent: Duration.toMillis(yield* TurnPolicy.FirstEvent),
    wholeStream: Duration.toMillis(yield* TurnPolicy.WholeStream),
    idleStream: Option.match(idleStream, { onNone: () => Number.POSITIVE_INFINITY, onSome: Duration.toMillis }),
    finalExchange: Duration.toMillis(yield* TurnPolicy.FinalExchange),
    poll: Duration.toMillis(yield* TurnPolicy.FinalExchangePoll),
    activityTick: Duration.toMillis(yield* TurnPolicy.ActivityTick),
    maxResumes: yield* TurnPolicy.MaxResumes
  }
})

/** The server is idle and will say no more: it failed the turn, or ended it, on an unbroken stream, without a message. */
const isWithoutAnswer = ({ exchange }: Look, reply: Reply.Reply, hadGap: boolean): boolean =>
  reply.frame.failure !== undefined || (!hadGap && exchange.isAccepted && exchange.steps.length === 0)

/** Reads what a gap may have hidden: the exchange, the sessions of subagents, and what is asked. */
const catchUp = Effect.fnUntraced(function*(live: LiveReply, subscription: Subscription, view: Look) {
  const client = yield* Client
  live.update((reply) => Exchange.merge(view.exchange, reply))
  const opened = new Set(
    Reply.parts(live.current()).flatMap((part) => (part.type === "tool" && part.subagent ? [part.subagent] : []))
  )
  const adoptChildren = (parentId: SessionId): Effect.Effect<void> =>
    Effect.gen(function*() {
      const children = yield* Effect.orElseSucceed(client.children(parentId), () => [])
      for (const { agent, id, title } of children) {
        // Sessions of earlier turns are children too: only those that run or that this turn's tools name are its own.
        if (!view.statuses.has(id) && !opened.has(id)) continue
        subscription.adopt(id)
        live.apply({ _tag: "SessionOpened", eventId: undefined, sessionId: id, parentId, title, agent })
        yield* adoptChildren(id)
      }
    })
  yield* adoptChildren(live.current().sessionId)
  const steps = new Set(view.exchange.steps.map(({ info }) => info.id))
  const pending = yield* Effect.all([client.questions, client.permissions], { concurrency: 2 }).pipe(
    Effect.map((all) => all.flat()),
    Effect.orElseSucceed(() => undefined)
  )
  // After an abort the server still lists what was asked (1.18.33): only what a session that runs asks is open.
  const isOpen = (ask: Reply.Frame["asks"][number]) =>
    view.statuses.has(ask.sessionId) &&
    (ask.sessionId !== live.current().sessionId || ask.tool === undefined || steps.has(ask.tool.messageId))
  if (pending !== undefined) live.update((reply) => Reply.syncAsks(reply, pending.filter(isOpen)))
  live.flush()
})
