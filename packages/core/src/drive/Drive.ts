/**
 * Drives one prompt to the end of its answer: subscribes, prompts once, folds the events into the reply, and reads the server's record
 * whenever the stream does not tell the whole story.
 *
 * **Responsibilities**
 * - The prompt leaves only once the stream is open; a lost stream is reopened without prompting.
 * - After a gap nothing is decided before what it hid was read (`CatchUp`).
 * - The end is the server's word: an `idle` from the stream raises the question, and the stored exchange decides it.
 * - A turn that the server left unfinished (killed and restarted) is posted again under the same ids.
 * - Where the session is busy already, what it waits for is taken to the gate (`PendingAsks`): the prompt is queued behind it.
 * - Its budget (`Budget`) and the absence of the server end a turn whatever it is at.
 *
 * **Not responsibilities**: what news mean for the prompt (`PromptState`), which session (`EnsureSession`), what to make of an empty or
 * failed answer (`Settle`), storing.
 *
 * ```
 *   events ─▶ reply ─▶ PromptState.next ─▶ actions ─▶ read the record, post again, tell of activity, take asks to the gate
 *                            ▲                                          │
 *                            └──────────── what came of it ─────────────┘
 * ```
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Ref from "effect/Ref"
import { Tracer } from "../domain/Tracer.ts"
import { step } from "../domain/Tracing.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import { Client } from "../opencode/Client.ts"
import type { Subscriber } from "../opencode/EventHub.ts"
import { millisFrom } from "../reply/EventOrder.ts"
import type * as Exchange from "../reply/Exchange.ts"
import * as Reply from "../reply/Reply.ts"
import type { IdentifiedPrompt } from "../store/StoredMessage.ts"
import type * as AnswerAsks from "./AnswerAsks.ts"
import * as Budget from "./Budget.ts"
import type { Driving, DrivingOptions, Folding } from "./Driving.ts"
import { act, check, checkDue, checking, isCheckDue, post, reportLost, weigh } from "./Driving.ts"
import type { LiveReply } from "./LiveReply.ts"
import { takePending } from "./PendingAsks.ts"
import * as PromptCell from "./PromptCell.ts"
import * as PromptState from "./PromptState.ts"

/**
 * What a drive comes to: the exchange as the server stored it last, and the refusals that the gate gave meanwhile.
 *
 * @category models
 * @since 0.1.0
 */
export interface Driven {
  readonly exchange: Exchange.Exchange
  readonly refusals: ReadonlyArray<AnswerAsks.GivenRefusal>
}

/**
 * Drives the prompt until its exchange is final, or is known to stay without an answer. The reply is folded into `live`.
 *
 * **Details**
 *
 * - `confirm`: runs right before each time the prompt is posted. Its failure is the end of the drive.
 * - `onActivity`: runs at most every `TurnPolicy.ActivityTick`. It starts a fiber that tells of activity; where that gives `false`, the
 *   next sign of life tells of it again.
 * - `isBusy`: the session works on something already. What that waits for is found then.
 * - `spentMillis`: how long the turn took so far, without the time in which a person was asked. However the drive ends, it adds what it
 *   took.
 *
 * @category steps
 * @since 0.1.0
 */
export const drive = Effect.fnUntraced(
  function*<E extends { readonly _tag: string; readonly message: string }, R1 = never, R2 = never>(
    request: IdentifiedPrompt,
    live: LiveReply,
    options: DrivingOptions<E, R1, R2> & {
      readonly isBusy?: boolean | undefined
      readonly spentMillis?: Ref.Ref<number> | undefined
    }
  ) {
    const client = yield* Client
    const tracer = yield* Tracer
    const spentMillis = options.spentMillis ?? (yield* Ref.make(0))
    const spentBefore = Budget.spentOn(live.earlier(), yield* Ref.get(spentMillis))
    const cell = yield* PromptCell.make({
      sessionId: request.sessionId,
      promptId: request.prompt.ids.promptId,
      limits: yield* limits,
      spentMillis: spentBefore.wallClockMillis
    })
    const folding: Folding = { cell, live, budget: yield* TurnPolicy.Budget }
    yield* live.listen((before, after) => {
      // A delta to a part that is open makes nothing larger that is counted.
      if (before.session === after.session && before.entries === after.entries) return
      const hasAsks = before.session.asks !== after.session.asks
      if (!hasAsks && cell.state().hasGrown) return
      cell.tell({ _tag: "Changed", asks: hasAsks ? { isBlocked: Reply.isBlocked(after) } : undefined })
    })
    const startedMillis = yield* Clock.currentTimeMillis
    const subscriber = subscriberOf(folding, yield* Clock.Clock)
    const driving: Driving<E, R1, R2> = {
      ...folding,
      request,
      options,
      tracer,
      spentBefore,
      startedMillis,
      subscription: yield* client.subscribe(request.sessionId, subscriber),
      scope: yield* Effect.scope,
      asking: yield* Ref.make<AnswerAsks.AnswerAsks | undefined>(undefined)
    }

    cell.tell({ _tag: "Prompting" })
    const begin = Effect.suspend(() => {
      // What may have been posted before is looked for first, as after any other gap.
      if (live.current().session.hasGap) return Effect.sync(subscriber.onGap)
      if (options.isBusy !== true) return post(driving)
      return Effect.andThen(
        takePending(live, driving.subscription),
        Effect.suspend(() => {
          weigh(driving)
          return post(driving)
        })
      )
    })
    const exchange = yield* Effect.suspend(() => untilOver(driving, begin)).pipe(
      Effect.ensuring(Effect.suspend(() => Ref.set(spentMillis, Budget.wallClockMillis(cell)))),
      Effect.tapError((error) => reportLost(driving, error))
    )
    // The end may come with the first text, and before its flush.
    const textMillis = Reply.hasText(live.current()) ? cell.totalMillis() : undefined
    yield* tracer.emit("stream.completed", {
      duration_ms: (yield* Clock.currentTimeMillis) - startedMillis,
      first_token_ms: cell.state().firstTextMillis ?? textMillis ?? null,
      event_count: live.current().eventCount,
      tool_count: Reply.parts(live.current()).filter((part) => part.type === "tool").length
    })
    const driven: Driven = { exchange, refusals: (yield* Ref.get(driving.asking))?.refusals() ?? [] }
    return driven
  },
  Effect.scoped,
  step("Turn.drive")
)

// internal

/** While nothing happens, this one fiber waits for whatever comes next. */
const untilOver = Effect.fnUntraced(function*<E, R1, R2, E3, R3>(
  driving: Driving<E, R1, R2>,
  begin: Effect.Effect<void, E3, R3>
) {
  const { cell } = driving
  const isWoken = (state: PromptState.PromptState) => PromptState.hasNews(state) || isCheckDue(driving, state)
  let exchange: Exchange.Exchange | undefined = yield* Effect.raceFirst(
    Effect.as(begin, undefined),
    checking(driving)
  )
  while (exchange === undefined) {
    yield* cell.until(isWoken, Math.min(PromptState.due(cell.state()).next, checkDue(driving)))
    exchange = yield* check(driving)
    if (exchange !== undefined) break
    const actions = cell.tell({ _tag: "Woken" })
    if (actions.length > 0) exchange = yield* Effect.raceFirst(act(driving, actions), checking(driving))
  }
  return exchange
})

const limits = Effect.gen(function*() {
  const limits: PromptState.Limits = {
    firstEventMillis: Duration.toMillis(yield* TurnPolicy.FirstEvent),
    finalExchangeMillis: Duration.toMillis(yield* TurnPolicy.FinalExchange),
    pollMillis: Duration.toMillis(yield* TurnPolicy.FinalExchangePoll),
    activityTickMillis: Duration.toMillis(yield* TurnPolicy.ActivityTick),
    absenceMillis: Duration.toMillis(yield* TurnPolicy.ServerAbsence),
    maxReposts: yield* TurnPolicy.MaxReposts,
    maxIdleSteps: yield* TurnPolicy.MaxIdleSteps,
    budget: yield* TurnPolicy.Budget
  }
  return limits
})

/** What the event stream tells of the prompt: folded into its reply, then told to its state. */
const subscriberOf = (driving: Folding, clock: Clock.Clock): Subscriber => {
  const { cell, live } = driving
  return {
    onEvent: (event) => {
      if (PromptState.isOfOther(cell.state(), event)) return
      const told = live.apply(event)
      if (told === undefined || told._tag === "Grew") return
      if (told._tag === "Status" && told.status.type === "retry") {
        const { message, nextMillis } = told.status
        const waitMillis = millisFrom(told.eventId, nextMillis) ??
          PromptState.waitByOurClock(nextMillis, clock.currentTimeMillisUnsafe())
        cell.tell({ _tag: "RetryAnnounced", retry: { message, nextMillis, waitMillis } })
      }
      cell.tell({ _tag: "Folded", told, reply: live.current() })
    },
    onFlush: () => {
      // Once for all events that came together; the hub bounds how many these are.
      weigh(driving)
      live.flush()
      const hasText = cell.state().firstTextMillis === undefined && Reply.hasText(live.current())
      cell.tell({ _tag: "Heard", hasText })
    },
    onHeartbeat: () => void cell.tell({ _tag: "Heartbeat" }),
    onLost: (error) => {
      live.update(Reply.markGap)
      cell.tell({ _tag: "Lost", error })
    },
    onGap: () => {
      live.update(Reply.markGap)
      cell.tell({ _tag: "Back" })
    },
    onClosed: (error) => void cell.tell({ _tag: "Closed", error })
  }
}
