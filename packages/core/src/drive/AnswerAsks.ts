/**
 * Takes what the agent asks to the {@link HumanGate}, and the answers to the server.
 *
 * ```
 *   asked ──▶ gate ──▶ answered: the reply shows it as resolved ──▶ sent until the server has it, or has closed the ask itself
 *              │
 *              ├ answered elsewhere: the gate's effect is interrupted
 *              ├ HumanTimeout: the ask stays open, and the turn ends
 *              ├ Skip: the ask is left to somebody else
 *              └ an answer that does not fit: the ask is rejected
 * ```
 *
 * Each open ask has a fiber of its own; it is taken to the gate once, and answered at most once. With the answer the turn's deadlines go
 * on: from then on the turn waits for the server, not for a person.
 *
 * A refusal is held back, and its ask stays open, while the same session has other asks without an answer: with the first rejected
 * permission, 1.18.33 rejects every other one of the session, without the message, and a later allowance is too late. Refusals with a
 * message are sent first, because the server keeps only the message of the first one.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberMap from "effect/FiberMap"
import * as Metric from "effect/Metric"
import * as Ref from "effect/Ref"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type { Answer, Ask } from "../domain/Ask.ts"
import { checkAnswer, InvalidAnswer } from "../domain/Ask.ts"
import * as Contained from "../domain/Contained.ts"
import type { AskId, MessageId, SessionId } from "../domain/Ids.ts"
import * as Metrics from "../domain/Metrics.ts"
import type { HumanTimeout } from "../domain/TurnError.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import { Client } from "../opencode/Client.ts"
import type { AskNotFound, RequestError } from "../opencode/ClientError.ts"
import type { Asking } from "../people/HumanGate.ts"
import { HumanGate, start } from "../people/HumanGate.ts"
import * as Reply from "../reply/Reply.ts"
import type { LiveReply } from "./LiveReply.ts"

/**
 * A refusal that the gate gave, with its message for the model.
 *
 * @category models
 * @since 0.1.0
 */
export interface GivenRefusal {
  readonly ask: Ask
  readonly reason: string | undefined
}

/**
 * @category models
 * @since 0.1.0
 */
export interface AnswerAsks {
  /** Takes new asks to the gate, and stops the gate's work on asks that are no longer open. */
  readonly sync: Effect.Effect<void>
  /** Fails once nobody answered in time. The ask stays open until the session is aborted. */
  readonly failed: Effect.Effect<never, HumanTimeout>
  /** The refusals that the gate gave so far. */
  readonly refusals: () => ReadonlyArray<GivenRefusal>
}

/**
 * Answers what `live` shows as open, until the scope closes. Each answer is shown in `live` before it is sent.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  live: LiveReply,
  turn: Pick<Asking, "conversationId" | "messageId">
): Effect.fn.Return<AnswerAsks, never, Client | Scope.Scope> {
  const client = yield* Client
  const gate = yield* HumanGate
  const scope = yield* Effect.scope
  const failed = yield* Deferred.make<never, HumanTimeout>()
  /** Made with the first ask: most turns have none. */
  const atGate = yield* Effect.cached(Scope.provide(FiberMap.make<AskId, void>(), scope))
  /** The reply as of the last `sync`. */
  const synced = yield* Ref.make(Reply.make(live.current()))
  const asked = new Set<AskId>()
  const refusals: Array<GivenRefusal> = []
  const sessions = new Map<SessionId, Session>()
  let checks: Checks = unchecked
  const refusalHold = yield* TurnPolicy.RefusalHold
  const posting = yield* Semaphore.make(maxPosts)
  const measure = yield* measuring
  const askingOf = (ask: Ask): Asking => ({
    ...turn,
    sessionId: live.current().sessionId,
    ...askerOf(live.current(), ask),
    isOpen: () => Reply.isAsked(live.current(), ask.id)
  })
  const sessionOf = ({ sessionId }: Ask): Session => {
    const known = sessions.get(sessionId)
    if (known !== undefined) return known
    const session: Session = { held: new Map(), skipped: new Set(), onTheWay: 0 }
    sessions.set(sessionId, session)
    return session
  }

  const send = (answers: ReadonlyArray<Held>) => {
    for (const { ask } of answers) {
      sessionOf(ask).onTheWay++
      live.apply({ _tag: "AskResolved", eventId: undefined, sessionId: ask.sessionId, askId: ask.id })
    }
    live.flush()
    const deliverAll = Effect.forEach(
      answers,
      ({ ask, given }) =>
        deliver(client, posting, ask, given).pipe(
          Effect.andThen(Effect.sync(() => void sessionOf(ask).onTheWay--)),
          Effect.andThen(Effect.suspend(() => release([ask.sessionId])))
        ),
      { discard: true }
    )
    return Effect.asVoid(Effect.forkIn(Effect.interruptible(deliverAll), scope, { startImmediately: true }))
  }

  /** The refusals of a session, if all its other asks are answered; otherwise none. */
  const readyOf = (sessionId: SessionId): ReadonlyArray<Held> => {
    const session = sessions.get(sessionId)
    if (session === undefined || session.onTheWay > 0) return []
    const { held, skipped } = session
    // This decides nearly always, however many asks there are.
    if (held.size === 0 || Reply.countAsksOf(live.current(), sessionId) > held.size + skipped.size) return []
    const refusals = Array.from(held.values())
    const isPatient = refusals.every(({ isPatient }) => isPatient)
    const isWaitedFor = ({ id }: Ask) => !held.has(id) && (isPatient || !skipped.has(id))
    return Reply.asksOf(live.current(), sessionId).some(isWaitedFor) ? [] : refusals
  }

  /**
   * The calls of one step ask right after each other, so the server may know of an ask that the stream has not told yet. It lists the
   * asks of all sessions, so one request serves all sessions that are ready.
   */
  const unheardOf = (ready: ReadonlySet<SessionId>) => {
    const steps = new Map<MessageId, SessionId>()
    for (const sessionId of ready) {
      for (const { ask } of readyOf(sessionId)) if (ask.tool !== undefined) steps.set(ask.tool.messageId, sessionId)
    }
    return Effect.all([client.permissions, client.questions], { concurrency: 2 }).pipe(
      Effect.map((listed) =>
        listed.flat().flatMap((ask) => {
          const sessionId = ask.tool === undefined || asked.has(ask.id) ? undefined : steps.get(ask.tool.messageId)
          return sessionId === undefined ? [] : [{ ask, sessionId }]
        })
      ),
      // The refusal is sent even if the server cannot list its asks.
      Effect.orElseSucceed(() => [])
    )
  }

  const checkAll = Effect.gen(function*() {
    while (checks.waiting.size > 0) {
      const ready = checks.waiting
      checks = { waiting: none, asking: ready, isRunning: true }
      const unheard = yield* unheardOf(ready)
      checks = { ...checks, asking: none }
      const waiting = new Set(unheard.map(({ sessionId }) => sessionId))
      for (const { ask, sessionId } of unheard) live.apply({ _tag: "Asked", eventId: undefined, sessionId, ask })
      if (unheard.length > 0) live.flush()
      for (const sessionId of ready) {
        const refusals = waiting.has(sessionId) ? [] : readyOf(sessionId)
        if (refusals.length === 0) continue
        for (const { ask } of refusals) sessionOf(ask).held.delete(ask.id)
        yield* send([...refusals.filter(isExplained), ...refusals.filter((refusal) => !isExplained(refusal))])
      }
    }
    checks = unchecked
  })

  /** Sends the refusals of those sessions whose other asks are all answered. */
  const release = (changed: Iterable<SessionId>): Effect.Effect<void> =>
    Effect.suspend(() => {
      const ready = Array.from(changed).filter((id) => !checks.asking.has(id) && readyOf(id).length > 0)
      const { isRunning } = checks
      checks = withWaiting(checks, ready)
      if (checks.waiting.size === 0 || isRunning) return Effect.void
      checks = { ...checks, isRunning: true }
      return Effect.forkIn(Effect.interruptible(checkAll), scope, { startImmediately: true })
    })

  const answer = (ask: Ask) =>
    // An interruption between the gate's answer and its sending would lose the answer.
    Effect.uninterruptibleMask((restore) =>
      Effect.gen(function*() {
        const asking = askingOf(ask)
        const answering = yield* start(gate, ask, asking)
        const exit = yield* restore(Fiber.await(answering)).pipe(
          Effect.onInterrupt(() => Effect.sync(() => answering.interruptUnsafe()))
        )
        const timeout = timeoutOf(exit)
        if (timeout !== undefined) {
          // Another client may have answered in the same moment.
          if (asking.isOpen()) yield* Deferred.fail(failed, timeout)
          return
        }
        const given = yield* fitting(ask, exit)
        const { held, skipped } = sessionOf(ask)
        const releaseOwn = release([ask.sessionId])
        if (given._tag === "Skip") {
          skipped.add(ask.id)
          return yield* releaseOwn
        }
        const refusal = refusalOf(given)
        if (refusal === undefined) return yield* send([{ ask, given, isPatient: true }])
        refusals.push({ ask, reason: refusal.message })
        held.set(ask.id, { ask, given, isPatient: true })
        yield* releaseOwn
        if (!held.has(ask.id)) return
        yield* restore(Effect.sleep(refusalHold))
        if (!held.has(ask.id)) return
        held.set(ask.id, { ask, given, isPatient: false })
        yield* releaseOwn
      })
    )

  return {
    sync: Effect.gen(function*() {
      const now = live.current()
      const before = yield* Ref.getAndSet(synced, now)
      const opened = Reply.newAsks(now, before)
      const closed = Reply.newAsks(before, now)
      if (opened.length === 0 && closed.length === 0) return
      yield* measure(opened, closed)
      const answering = yield* atGate
      for (const ask of closed) {
        // Another client answered it, or its session has ended.
        const { held, skipped } = sessionOf(ask)
        held.delete(ask.id)
        skipped.delete(ask.id)
        yield* FiberMap.remove(answering, ask.id)
      }
      for (const ask of opened) {
        if (asked.has(ask.id)) continue
        asked.add(ask.id)
        yield* FiberMap.run(answering, ask.id, answer(ask))
      }
      yield* release(new Set([...opened, ...closed].map(({ sessionId }) => sessionId)))
    }),
    failed: Deferred.await(failed),
    refusals: () => refusals
  }
})

/**
 * An answer that is sent to the server.
 *
 * @category models
 * @since 0.1.0
 */
export type GivenAnswer = Exclude<Answer, { _tag: "Skip" }>

/**
 * Sends an answer once. An answer of the wrong kind is sent as a rejection.
 *
 * @category steps
 * @since 0.1.0
 */
export const sendAnswer = (
  client: Client["Service"],
  ask: Ask,
  answer: GivenAnswer
): Effect.Effect<void, RequestError | AskNotFound> => {
  if (ask._tag === "Question") {
    return answer._tag === "Answers"
      ? client.answerQuestion(ask.id, answer.answers)
      : client.rejectQuestion(ask.id, answer._tag === "Reject" ? answer.message : undefined)
  }
  switch (answer._tag) {
    case "Permission":
      return client.answerPermission(ask.id, answer.reply)
    case "Reject":
      return client.answerPermission(ask.id, {
        reply: "reject",
        ...(answer.message !== undefined && { message: answer.message })
      })
    case "Answers":
      return sendAnswer(client, ask, rejection)
  }
}

// internal

/**
 * How many answers are on their way at once: 8. More would be no faster, because a server handles them one after the other, and they
 * would keep the requests of other turns waiting.
 */
const maxPosts = 8

/**
 * The answers of one session that are held back, and the asks that were left to another client. `onTheWay` counts the answers that the
 * server may not have yet.
 */
interface Session {
  readonly held: Map<AskId, Held>
  readonly skipped: Set<AskId>
  onTheWay: number
}

/** Counts the asks that are open until the scope closes, however they are answered, and the turn that has any. */
const measuring = Effect.gen(function*() {
  const open = new Map<AskId, { readonly kind: string; readonly openedMillis: number }>()
  const isWaiting = () => open.size > 0
  const count = Effect.fnUntraced(function*(opened: ReadonlyArray<Ask>, closed: ReadonlyArray<Pick<Ask, "id">>) {
    const wasWaiting = isWaiting()
    const nowMillis = yield* Clock.currentTimeMillis
    for (const { _tag, id } of opened) {
      if (open.has(id)) continue
      const kind = _tag === "Question" ? "question" : "permission"
      open.set(id, { kind, openedMillis: nowMillis })
      yield* Metric.modify(Metric.withAttributes(Metrics.openAsks, { kind }), 1)
    }
    for (const { id } of closed) {
      const ask = open.get(id)
      if (ask === undefined) continue
      open.delete(id)
      const { kind, openedMillis } = ask
      yield* Metric.modify(Metric.withAttributes(Metrics.openAsks, { kind }), -1)
      yield* Metrics.record(Metric.withAttributes(Metrics.askDuration, { kind }), nowMillis - openedMillis)
    }
    if (wasWaiting !== isWaiting()) yield* Metric.modify(Metrics.waiting, isWaiting() ? 1 : -1)
  }, Effect.uninterruptible)
  yield* Effect.addFinalizer(() => count([], Array.from(open.keys(), (id) => ({ id }))))
  return count
})

/** An answer that was not sent yet. Unless `isPatient`, it does not wait for asks that were left to another client. */
interface Held {
  readonly ask: Ask
  readonly given: GivenAnswer
  readonly isPatient: boolean
}

/**
 * The sessions whose refusals may be ready (`waiting`), and those for which the server is being asked whether they have more asks
 * (`asking`).
 * `isRunning`: a fiber is at it, and takes what comes.
 */
interface Checks {
  readonly waiting: ReadonlySet<SessionId>
  readonly asking: ReadonlySet<SessionId>
  readonly isRunning: boolean
}

const none: ReadonlySet<SessionId> = new Set()

const unchecked: Checks = { waiting: none, asking: none, isRunning: false }

const withWaiting = (checks: Checks, ready: ReadonlyArray<SessionId>): Checks =>
  ready.length === 0 ? checks : { ...checks, waiting: new Set([...checks.waiting, ...ready]) }

const refusalOf = (given: GivenAnswer): { readonly message?: string | undefined } | undefined =>
  given._tag === "Reject"
    ? given
    : given._tag === "Permission" && given.reply.reply === "reject"
    ? given.reply
    : undefined

const isExplained = ({ given }: Held): boolean => refusalOf(given)?.message !== undefined

/** Sent where the gate gave no answer, or one that does not fit. */
const rejection: GivenAnswer = { _tag: "Reject", message: "The ask could not be answered." }

const timeoutOf = (exit: Exit.Exit<Answer, HumanTimeout>): HumanTimeout | undefined =>
  Exit.isFailure(exit) ? exit.cause.reasons.find(Cause.isFailReason)?.error : undefined

/** The gate's answer, if it fits the ask; otherwise the rejection. */
const fitting = (ask: Ask, exit: Exit.Exit<Answer, HumanTimeout>): Effect.Effect<Answer> =>
  Effect.flatMap(exit, (answer) => {
    const reason = checkAnswer(ask, answer)
    return reason === undefined
      ? Effect.succeed(answer)
      : Effect.fail(new InvalidAnswer({ askId: ask.id, reason }))
  }).pipe(
    Effect.catchCause((cause) => Effect.as(Contained.report("human gate", { ask: ask.id }, cause), rejection))
  )

const askerOf = (reply: Reply.Reply, ask: Ask): Pick<Asking, "openedBy" | "subagent"> => {
  const subagent = Reply.subagentOf(reply, ask.sessionId)
  return {
    openedBy: subagent?.openedBy,
    subagent: subagent && { title: subagent.title, agent: subagent.agent }
  }
}

/** Sends the answer until the server has it. If the server does not accept it, a rejection is sent, so that the turn goes on. */
const deliver = Effect.fnUntraced(function*(
  client: Client["Service"],
  posting: Semaphore.Semaphore,
  ask: Ask,
  answer: GivenAnswer
) {
  const schedule = yield* TurnPolicy.ReconnectBackoff
  const deliverOnce = (answer: GivenAnswer) =>
    Effect.retry(posting.withPermit(sendAnswer(client, ask, answer)), { schedule, while: (error) => error.isRetryable })
      .pipe(
        // Another client answered it, or its session was aborted.
        Effect.catchTag("AskNotFound", () => Effect.void)
      )
  yield* deliverOnce(answer).pipe(
    Effect.catch((error) =>
      Effect.andThen(
        Contained.report("answer", { ask: ask.id }, Cause.fail(error)),
        deliverOnce(rejection)
      )
    ),
    Effect.catch((error) => Contained.report("answer", { ask: ask.id }, Cause.fail(error)))
  )
})
