/**
 * Takes what the agent asks to the {@link HumanGate}, and the answers to the server.
 *
 * One fiber for each open request; it is interrupted when somebody else answers first, or when the turn ends.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberMap from "effect/FiberMap"
import type * as Scope from "effect/Scope"
import type { Answer, Ask } from "./Ask.ts"
import { Client } from "./Client.ts"
import type { RequestError, RequestNotFound } from "./ClientError.ts"
import * as Contained from "./Contained.ts"
import { HumanGate } from "./HumanGate.ts"
import type { RequestId } from "./Ids.ts"
import type { LiveReply } from "./LiveReply.ts"
import { retrying } from "./Retrying.ts"

/**
 * @category models
 * @since 0.1.0
 */
export interface AnswerAsks {
  /** Starts what was asked since, stops what is no longer open. */
  readonly sync: Effect.Effect<void>
}

/**
 * Answers what `live` shows as open. `onAnswered` is called after each answer that was given here.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  live: LiveReply,
  onAnswered: () => void
): Effect.fn.Return<AnswerAsks, never, Client | Scope.Scope> {
  const client = yield* Client
  const gate = yield* HumanGate
  const fibers = yield* FiberMap.make<RequestId, void>()

  const answer = Effect.fnUntraced(function*(ask: Ask) {
    const exit = yield* Effect.exit(Effect.suspend(() => gate(ask)))
    if (Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause)) {
      yield* Contained.report("human gate", { request: ask.id }, exit.cause)
    }
    const given: Answer = Exit.isSuccess(exit)
      ? exit.value
      : { _tag: "Reject", message: "The request could not be answered." }
    if (given._tag === "Skip") return
    const sent = yield* Effect.exit(retrying(send(client, ask, given)))
    // Answered elsewhere, or its session was aborted: not open either way.
    const isGone = Exit.isFailure(sent) &&
      sent.cause.reasons.some((reason) => Cause.isFailReason(reason) && reason.error._tag === "RequestNotFound")
    if (Exit.isFailure(sent) && !isGone) return yield* Contained.report("answer", { request: ask.id }, sent.cause)
    live.apply({ _tag: "AskResolved", eventId: undefined, sessionId: ask.sessionId, requestId: ask.id })
    live.flush()
    onAnswered()
  })

  return {
    sync: Effect.gen(function*() {
      const open = live.current().frame.asks
      for (const [id] of fibers) {
        if (!open.some((ask) => ask.id === id)) yield* FiberMap.remove(fibers, id)
      }
      for (const ask of open) {
        yield* FiberMap.run(fibers, ask.id, answer(ask), { onlyIfMissing: true })
      }
    })
  }
})

// internal

const send = (
  client: Client["Service"],
  ask: Ask,
  answer: Exclude<Answer, { _tag: "Skip" }>
): Effect.Effect<void, RequestError | RequestNotFound> => {
  if (ask._tag === "Question") {
    return answer._tag === "Answers" ? client.answerQuestion(ask.id, answer.answers) : client.rejectQuestion(ask.id)
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
      return client.answerPermission(ask.id, { reply: "reject", message: "The request could not be answered." })
  }
}
