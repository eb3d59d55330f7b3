/**
 * The limits and delays of a turn, each a `Context.Reference` with a default.
 *
 * **Example**
 * ```ts
 * runTurn(input).pipe(Effect.provideService(TurnPolicy.Budget, { wallClock: "30 minutes" }))
 * ```
 *
 * **Gotchas**
 *
 * While a person is asked and the server is reachable, all deadlines of the turn stand still.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"

/**
 * How long the first event of the session may take after the prompt: 120 s. A cold server first loads its plugins, its
 * catalogue and the project's configuration. After this time the turn asks the server before it calls the session
 * stale.
 *
 * @category references
 * @since 0.1.0
 */
export const FirstEvent: Context.Reference<Duration.Duration> = duration("FirstEvent", Duration.seconds(120))

/**
 * How long the event stream may stay silent, without even a heartbeat, before it is reopened: 30 s. The server sends a
 * heartbeat every 10 s, so three have been missed.
 *
 * @category references
 * @since 0.1.0
 */
export const StreamSilence: Context.Reference<Duration.Duration> = duration("StreamSilence", Duration.seconds(30))

/**
 * How long a turn waits for the event stream to open: 15 s. A starting server needs 2 to 4.
 *
 * @category references
 * @since 0.1.0
 */
export const ConnectTimeout: Context.Reference<Duration.Duration> = duration("ConnectTimeout", Duration.seconds(15))

/**
 * The delays between attempts to reopen the event stream: from 100 ms, doubling to 5 s, with jitter, without an end. A
 * restarting server is back in seconds, and many turns must not reconnect all at once. The turn's deadlines end the
 * attempts.
 *
 * @category references
 * @since 0.1.0
 */
export const ReconnectBackoff: Context.Reference<Schedule.Schedule<unknown>> = Context.Reference(
  "@opencode-turn/core/TurnPolicy/ReconnectBackoff",
  {
    defaultValue: (): Schedule.Schedule<unknown> =>
      Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("5 seconds")]).pipe(Schedule.jittered)
  }
)

/**
 * The delays between attempts of one retryable request: from 200 ms, doubling, 4 retries, with jitter. Every request of
 * a turn is safe to repeat, because prompts carry ids that the client chose.
 *
 * @category references
 * @since 0.1.0
 */
export const RequestRetry: Context.Reference<Schedule.Schedule<unknown>> = Context.Reference(
  "@opencode-turn/core/TurnPolicy/RequestRetry",
  {
    defaultValue: (): Schedule.Schedule<unknown> =>
      Schedule.exponential("200 millis").pipe(Schedule.jittered, Schedule.upTo({ times: 4 }))
  }
)

/**
 * Whether an answer without words completes the turn: no. Set it for a product whose agent works in silence. The turn
 * then completes with an empty content if the agent sent reasoning, ran a tool or made a file, and its `finish` tells
 * why it ended. An answer without anything always fails with `EmptyStream`.
 *
 * @category references
 * @since 0.1.0
 */
export const AllowSilent: Context.Reference<boolean> = Context.Reference<boolean>(
  "@opencode-turn/core/TurnPolicy/AllowSilent",
  { defaultValue: () => false }
)

/**
 * How long to wait before the stored messages of a turn without an answer are read: 2 s. The server stores the end of a
 * turn some milliseconds after it sent the event; a slow disk needs longer.
 *
 * @category references
 * @since 0.1.0
 */
export const EmptyStreamRetry: Context.Reference<Duration.Duration> = duration("EmptyStreamRetry", Duration.seconds(2))

/**
 * How long to wait for the final exchange if the stream ended first: 120 s, as long as a first event may take.
 *
 * @category references
 * @since 0.1.0
 */
export const FinalExchange: Context.Reference<Duration.Duration> = duration("FinalExchange", Duration.seconds(120))

/**
 * How often the final exchange is read while the turn waits for it: every 2 s. A read costs the server 2–5 ms.
 *
 * @category references
 * @since 0.1.0
 */
export const FinalExchangePoll: Context.Reference<Duration.Duration> = duration(
  "FinalExchangePoll",
  Duration.seconds(2)
)

/**
 * The limits of a turn. A limit that is left out does not apply, except for `stall` and the sizes, which have defaults.
 *
 * **Details**
 *
 * - `wallClock`: the time from the start of the session's lookup to the answer. The wait behind other turns of the conversation does
 *   not count, and the stages of the turn's end have their own limit (`StopTimeout`).
 * - `stall`: how long the session and its subagents may stay silent. The default is 10 minutes; `Infinity` means no limit. A command
 *   without output is silent too; OpenCode itself stops most commands after 2 minutes.
 * - Both stand still while a person is asked, and start again after a takeover. Before one of them ends the turn, the turn asks the
 *   server once more for the answer.
 * - `cost`: US dollars. `tokens`: all kinds together. `steps`: calls of the model, finished or begun. `modelRetries`: how often a
 *   failed call may be repeated; OpenCode itself never gives up (1.18.33). All of them include subagents and repairs.
 * - `openAsks`, `subagents`, `messages`, `parts`: the sizes. They bound the cost of a broken or hostile server: the number of asks
 *   that are open at once, of subagents, and of the messages and parts in the sessions of the turn and its subagents since the prompt.
 *   {@link defaultSize} holds the defaults; `Infinity` means no limit.
 *
 * @category models
 * @since 0.1.0
 */
export interface Budget {
  readonly wallClock?: Duration.Input | undefined
  readonly cost?: number | undefined
  readonly tokens?: number | undefined
  readonly modelRetries?: number | undefined
  readonly steps?: number | undefined
  readonly stall?: Duration.Input | undefined
  readonly openAsks?: number | undefined
  readonly subagents?: number | undefined
  readonly messages?: number | undefined
  readonly parts?: number | undefined
}

/**
 * The limits of each turn. By default a turn may use anything while something arrives at least every 10 minutes, within
 * the default sizes. Crossing a limit aborts the session and its subagents, keeps the streamed reply, and ends the turn
 * with `BudgetExceeded`.
 *
 * @category references
 * @since 0.1.0
 */
export const Budget: Context.Reference<Budget> = Context.Reference<Budget>("@opencode-turn/core/TurnPolicy/Budget", {
  defaultValue: () => ({})
})

/**
 * How many steps in a row may pass without a new tool result before the turn ends with `NoProgress`: 8. The limit
 * doubles for steps that end for a call which they repeat with the same result, as an agent does while it waits for
 * something. `Infinity` means no limit.
 *
 * **Details**
 *
 * A step is one call of the model, by the turn's session or a subagent. A step counts only if another step follows it.
 * OpenCode calls the model again without a pause after an unrecognised finish reason (150 to 306 calls in 25 s), and
 * when the context overflows again after a compaction (87 calls in 20 s, 1.18.33). A healthy agent seldom takes two
 * such steps in a row. If the context overflows a second time without a new result, the turn ends at once with
 * `Upstream`.
 *
 * @category references
 * @since 0.1.0
 */
export const MaxIdleSteps: Context.Reference<number> = Context.Reference(
  "@opencode-turn/core/TurnPolicy/MaxIdleSteps",
  {
    defaultValue: () => 8
  }
)

/**
 * What happens to a turn when the server has lost its session. `resendIfUntouched` (the default) sends the prompt again
 * in a new session if no tool of the turn has run yet; otherwise the turn ends with `SessionLost`, because its actions
 * would be repeated. `resend` always sends the prompt again; `fail` never does once it was sent. A new turn of a conversation whose session
 * is on another server ends with `ServerMismatch`, except with `resend`.
 *
 * @category references
 * @since 0.1.0
 */
export const OnLostSession: Context.Reference<"resendIfUntouched" | "resend" | "fail"> = Context.Reference<
  "resendIfUntouched" | "resend" | "fail"
>("@opencode-turn/core/TurnPolicy/OnLostSession", { defaultValue: () => "resendIfUntouched" })

/**
 * How many owners of a turn may lose their lease before the turn ends with `TakenOverTooOften`: 5. A turn that kills
 * its worker would otherwise kill all workers, one after the other. A worker that releases its turn, for a deployment,
 * does not count.
 *
 * @category references
 * @since 0.1.0
 */
export const MaxTakeovers: Context.Reference<number> = Context.Reference(
  "@opencode-turn/core/TurnPolicy/MaxTakeovers",
  {
    defaultValue: () => 5
  }
)

/**
 * The label `feature` in reports of failed turns, which tells products apart: `opencode-turn`.
 *
 * @category references
 * @since 0.1.0
 */
export const ErrorFeature: Context.Reference<string> = Context.Reference(
  "@opencode-turn/core/TurnPolicy/ErrorFeature",
  {
    defaultValue: () => "opencode-turn"
  }
)

/**
 * How long the server may be unreachable before the turn ends as lost: 2 minutes. A restarted server is back in
 * seconds, a redeployed one within a minute or two.
 *
 * **Details**
 *
 * The server counts as unreachable while its event stream is lost and it answers no request. The turn's clock then runs
 * even if a person is asked, and open asks are withdrawn when the turn ends.
 *
 * After this time the turn looks for its answer once more and then tries to abort the session, so its end comes up to twice
 * `StopTimeout` later: after 16 s where 6 s are allowed and the server's connections hang.
 *
 * @category references
 * @since 0.1.0
 */
export const ServerAbsence: Context.Reference<Duration.Duration> = duration("ServerAbsence", Duration.minutes(2))

/**
 * How often the agent is told the schema issues of its answer and prompted again: once.
 *
 * @category references
 * @since 0.1.0
 */
export const OutputRepairs: Context.Reference<number> = Context.Reference(
  "@opencode-turn/core/TurnPolicy/OutputRepairs",
  { defaultValue: () => 1 }
)

/**
 * How often the agent is told its refusals with their reasons and prompted again, after they have stopped it: once.
 * With 0 the turn ends with `Refused`.
 *
 * @category references
 * @since 0.1.0
 */
export const RefusalRepairs: Context.Reference<number> = Context.Reference(
  "@opencode-turn/core/TurnPolicy/RefusalRepairs",
  { defaultValue: () => 1 }
)

/**
 * How long a refusal waits for other asks of the same session that the gate left to another client (`Skip`): 10
 * minutes. The server rejects a session's other permissions together with the first one (1.18.33).
 *
 * @category references
 * @since 0.1.0
 */
export const RefusalHold: Context.Reference<Duration.Duration> = Context.Reference(
  "@opencode-turn/core/TurnPolicy/RefusalHold",
  { defaultValue: () => Duration.minutes(10) }
)

/**
 * The most bytes that the files inside one prompt may have together: 10 MiB. They are stored with the turn, and models
 * accept little more.
 *
 * @category references
 * @since 0.1.0
 */
export const MaxAttachmentBytes: Context.Reference<number> = Context.Reference(
  "@opencode-turn/core/TurnPolicy/MaxAttachmentBytes",
  { defaultValue: () => 10 * 1024 * 1024 }
)

/**
 * How often the prompt of an unfinished turn that the server lost is reposted: 3 times. Each repost costs a call of the
 * model.
 *
 * @category references
 * @since 0.1.0
 */
export const MaxReposts: Context.Reference<number> = Context.Reference(
  "@opencode-turn/core/TurnPolicy/MaxReposts",
  { defaultValue: () => 3 }
)

/**
 * The shortest time between two calls of `onActivityTick` while the stream lives, heartbeats included: 5 minutes. It
 * serves products that reap inactive conversations. A failed tick is repeated at the next sign of life.
 *
 * @category references
 * @since 0.1.0
 */
export const ActivityTick: Context.Reference<Duration.Duration> = duration("ActivityTick", Duration.minutes(5))

/**
 * How long an owner keeps its turn without renewing the lease: 4 s. A dead worker is noticed after that time; with a
 * sweep every second its turns are taken over within 6 s. A living owner loses its turn only after four missed
 * renewals.
 *
 * @category references
 * @since 0.1.0
 */
export const Lease: Context.Reference<Duration.Duration> = duration("Lease", Duration.seconds(4))

/**
 * How often the owner of a turn renews its lease: every second. A renewal is one small write.
 *
 * @category references
 * @since 0.1.0
 */
export const LeaseRenewal: Context.Reference<Duration.Duration> = duration("LeaseRenewal", Duration.seconds(1))

/**
 * How many times longer than {@link Lease} the lease of a process may be that renews it late: 5.
 *
 * @category constants
 * @since 0.1.0
 */
export const longestLease = 5

/**
 * How often a worker looks for orphaned turns: every second. A sweep is one small read.
 *
 * @category references
 * @since 0.1.0
 */
export const SweepInterval: Context.Reference<Duration.Duration> = duration("SweepInterval", Duration.seconds(1))

/**
 * How often a changing reply is stored while it streams: every 500 ms, with one write in flight. That is often enough
 * for a watcher in another process, and a small load: a hundred streaming turns make two hundred writes a second.
 *
 * @category references
 * @since 0.1.0
 */
export const SnapshotInterval: Context.Reference<Duration.Duration> = duration(
  "SnapshotInterval",
  Duration.millis(500)
)

/**
 * What a turn does while another turn of its conversation runs. `queue` (the default) waits for its turn, `reject`
 * fails with `TurnInProgress`, and `replace` cancels the running turn and the queue behind it.
 *
 * @category references
 * @since 0.1.0
 */
export const WhenBusy: Context.Reference<"queue" | "reject" | "replace"> = Context.Reference<
  "queue" | "reject" | "replace"
>("@opencode-turn/core/TurnPolicy/WhenBusy", { defaultValue: () => "queue" })

/**
 * How many turns of one conversation may wait: 16; the next one fails with `TurnInProgress`. People do not write
 * further ahead, and the limit stops a runaway loop.
 *
 * @category references
 * @since 0.1.0
 */
export const MaxQueued: Context.Reference<number> = Context.Reference("@opencode-turn/core/TurnPolicy/MaxQueued", {
  defaultValue: () => 16
})

/**
 * How often a queued turn looks for its place and for an orphan before it, besides the changes that the store tells: every 2 s.
 *
 * @category references
 * @since 0.1.0
 */
export const QueuePoll: Context.Reference<Duration.Duration> = duration("QueuePoll", Duration.seconds(2))

/**
 * What an interrupted turn does. `cancel` (the default) aborts the session and stores the message as cancelled, as when
 * a user stops it. `release` leaves the message pending and the agent working for the next worker, as at a shutdown.
 *
 * @category references
 * @since 0.1.0
 */
export const OnInterrupt: Context.Reference<"cancel" | "release"> = Context.Reference<"cancel" | "release">(
  "@opencode-turn/core/TurnPolicy/OnInterrupt",
  { defaultValue: () => "cancel" }
)

/**
 * How long a turn waits before its prompt for its session to become idle: 2 s. A cancelled turn may still be stopping
 * there.
 *
 * @category references
 * @since 0.1.0
 */
export const SessionIdle: Context.Reference<Duration.Duration> = duration("SessionIdle", Duration.seconds(2))

/**
 * How long a cancel waits for the owner to stop the turn before it stops the turn itself: 1.5 s. A living owner notices
 * the cancel within a second; a dead one, whose lease has not run out yet, never does.
 *
 * @category references
 * @since 0.1.0
 */
export const CancelGrace: Context.Reference<Duration.Duration> = duration("CancelGrace", Duration.millis(1500))

/**
 * How long a callback or an observer may take before it is stopped and reported: 5 s.
 *
 * @category references
 * @since 0.1.0
 */
export const CallbackTimeout: Context.Reference<Duration.Duration> = duration("CallbackTimeout", Duration.seconds(5))

/**
 * The limit for each stage of a turn's end: 5 s. The stages are aborting the session and reading its stored messages,
 * and each terminal write. They cannot be interrupted.
 *
 * @category references
 * @since 0.1.0
 */
export const StopTimeout: Context.Reference<Duration.Duration> = duration("StopTimeout", Duration.seconds(5))

/**
 * How long the terminal write is waited for while the lease of the turn can be kept: a minute. Until then the answer is safe in this
 * process. Where the lease cannot be kept either, {@link StopTimeout} bounds it.
 *
 * @category references
 * @since 0.1.0
 */
export const FinalizeTimeout: Context.Reference<Duration.Duration> = duration("FinalizeTimeout", Duration.minutes(1))

/**
 * How many updates wait for an observer that is slower than the stream: 4,096. Further updates are dropped, and one
 * `Reset` with the whole reply replaces them.
 *
 * @category references
 * @since 0.1.0
 */
export const ObserverBuffer: Context.Reference<number> = Context.Reference(
  "@opencode-turn/core/TurnPolicy/ObserverBuffer",
  { defaultValue: () => 4096 }
)

/**
 * The text that a reader sees for a turn that ended as `error` or `failed` without any text.
 *
 * @category references
 * @since 0.1.0
 */
export const FallbackContent: Context.Reference<string> = Context.Reference(
  "@opencode-turn/core/TurnPolicy/FallbackContent",
  { defaultValue: () => "Sorry, an error occurred while generating this response." }
)

/**
 * The text that a reader sees for a turn that was stopped before any text.
 *
 * @category references
 * @since 0.1.0
 */
export const CancelledContent: Context.Reference<string> = Context.Reference(
  "@opencode-turn/core/TurnPolicy/CancelledContent",
  { defaultValue: () => "Response was stopped." }
)

/**
 * Which spans are written: those of the `turn` by default, which are its agents, models, tools and waits. `pipeline` adds those of the
 * steps that carry the turn, and of the requests to the server. `statements` adds those of the store's statements. Each has many more
 * spans than the one before it.
 *
 * @category references
 * @since 0.1.0
 */
export const TraceDetail: Context.Reference<TraceDetail> = Context.Reference<TraceDetail>(
  "@opencode-turn/core/TurnPolicy/TraceDetail",
  { defaultValue: () => "turn" }
)
/**
 * @category models
 * @since 0.1.0
 */
export type TraceDetail = "turn" | "pipeline" | "statements"

/**
 * Whether spans carry what was said: prompts, answers, and the arguments and results of tools. They do not by default. A function decides
 * for each attribute: it gets its name and its content, and gives the content that is written, or undefined.
 *
 * **Gotchas**
 *
 * Contents may hold secrets: what people wrote, and what tools read.
 *
 * @category references
 * @since 0.1.0
 */
export const TraceContent: Context.Reference<TraceContent> = Context.Reference<TraceContent>(
  "@opencode-turn/core/TurnPolicy/TraceContent",
  { defaultValue: () => false }
)
/**
 * @category models
 * @since 0.1.0
 */
export type TraceContent = boolean | ((attribute: string, content: string) => string | undefined)

/**
 * A time limit of a budget in milliseconds; `NaN` if the input is not a duration.
 *
 * @category conversions
 * @since 0.1.0
 */
export const limitMillis = (limit: Duration.Input | undefined): number | undefined =>
  limit === undefined
    ? undefined
    : Option.match(Duration.fromInput(limit), { onNone: () => NaN, onSome: Duration.toMillis })

/**
 * The `stall` of a budget that does not set it.
 *
 * @category constants
 * @since 0.1.0
 */
export const defaultStall: Duration.Duration = Duration.minutes(10)

/**
 * The names of a budget's sizes.
 *
 * @category constants
 * @since 0.1.0
 */
export const sizes = ["openAsks", "subagents", "messages", "parts"] as const

/**
 * The sizes of a budget that does not set them. No healthy turn comes near: a step of an agent is one message with some
 * 5 parts, so they allow 20,000 steps.
 *
 * @category constants
 * @since 0.1.0
 */
export const defaultSize: { readonly [Size in (typeof sizes)[number]]: number } = {
  openAsks: 1000,
  subagents: 1000,
  messages: 20_000,
  parts: 100_000
}

// internal

function duration(name: string, value: Duration.Duration): Context.Reference<Duration.Duration> {
  return Context.Reference(`@opencode-turn/core/TurnPolicy/${name}`, { defaultValue: () => value })
}
