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
 * While a person is asked and the server is there, all deadlines of the turn stand still.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"

/**
 * How long the first event of the session may take after the prompt: 120 s. A cold server loads its plugins, its catalogue
 * and the project's configuration first. When it passes, the server is asked before the session is called stale.
 *
 * @category references
 * @since 0.1.0
 */
export const FirstEvent: Context.Reference<Duration.Duration> = duration("FirstEvent", Duration.seconds(120))

/**
 * How long the event stream may bring nothing at all, not even a heartbeat, before it is opened anew: 30 s. The server
 * sends a heartbeat every 10 s, so three have been missed.
 *
 * @category references
 * @since 0.1.0
 */
export const StreamSilence: Context.Reference<Duration.Duration> = duration("StreamSilence", Duration.seconds(30))

/**
 * How long a turn waits for the event stream to open: 15 s. A server that starts needs 2 to 4.
 *
 * @category references
 * @since 0.1.0
 */
export const ConnectTimeout: Context.Reference<Duration.Duration> = duration("ConnectTimeout", Duration.seconds(15))

/**
 * The delays between attempts to open the event stream anew: from 100 ms, doubling to 5 s, with jitter, without an end. A
 * restarting server is back in seconds, and many turns must not knock all at once. Deadlines of the turn end it.
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
 * The delays between attempts of one request that may be retried: from 200 ms, doubling, 4 retries, with jitter. Every
 * request of a turn is safe to repeat: prompts carry ids of our choice.
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
 * Whether an answer without words completes the turn: no. A product whose agent is to work in silence sets it; the turn then completes
 * where the agent thought, ran a tool or made a file, with an empty content, and its `finish` tells why it ended. An answer with
 * nothing in it at all is `EmptyStream` in any case.
 *
 * @category references
 * @since 0.1.0
 */
export const AllowSilent: Context.Reference<boolean> = Context.Reference<boolean>(
  "@opencode-turn/core/TurnPolicy/AllowSilent",
  { defaultValue: () => false }
)

/**
 * How long to wait before the record of a turn without an answer is read: 2 s. The server stores the end of a turn some
 * milliseconds after it told of it; a slow disk needs more.
 *
 * @category references
 * @since 0.1.0
 */
export const EmptyStreamRetry: Context.Reference<Duration.Duration> = duration("EmptyStreamRetry", Duration.seconds(2))

/**
 * How long to wait for the final exchange when the stream ended before it: 120 s, as long as a first event may take.
 *
 * @category references
 * @since 0.1.0
 */
export const FinalExchange: Context.Reference<Duration.Duration> = duration("FinalExchange", Duration.seconds(120))

/**
 * How often the exchange is read while it is waited for: every 2 s, cheap for a server (2–5 ms a read) and soon enough.
 *
 * @category references
 * @since 0.1.0
 */
export const FinalExchangePoll: Context.Reference<Duration.Duration> = duration(
  "FinalExchangePoll",
  Duration.seconds(2)
)

/**
 * What a turn may use. What is left out is not limited, except for `stall` and the sizes.
 *
 * **Details**
 *
 * - `wallClock`: how long it may take, from the look for its session to its answer. The time in which it waits behind other turns of its
 *   conversation does not count, and the parts of its end have limits of their own (`StopTimeout`).
 * - `stall`: how long nothing at all may come from the session and its subagents: 10 minutes where it is left out, `Infinity` for no
 *   limit. A command that runs in silence brings nothing; OpenCode itself stops most commands after 2 minutes.
 * - Both stand still while a person is asked, and begin anew where another worker takes the turn over. Before one of them ends the
 *   turn, the server is asked once more whether the answer is there.
 * - `cost`: US dollars. `tokens`: all kinds together. `steps`: calls of the model that were answered or begun. `modelRetries`: how
 *   often a failed call may be made again; OpenCode itself never gives up (1.18.33). All of them count subagents and repairs too.
 * - `openAsks`, `subagents`, `messages`, `parts`: the sizes, which bound what a broken or hostile server can cost: how many requests may
 *   be open at once, how many subagents there may be, and how many messages and parts in the turn's session and in those of its
 *   subagents, since the prompt. {@link defaultSize} where they are left out, `Infinity` for no limit.
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
 * What a turn may use: anything, as long as something comes at least every 10 minutes, and not without bounds. Crossing a limit aborts the session and its
 * subagents, keeps what was streamed, and ends the turn with `BudgetExceeded`.
 *
 * @category references
 * @since 0.1.0
 */
export const Budget: Context.Reference<Budget> = Context.Reference<Budget>("@opencode-turn/core/TurnPolicy/Budget", {
  defaultValue: () => ({})
})

/**
 * How many steps in a row may bring no new tool result before the turn ends with `NoProgress`: 8, or twice as many that repeat a call
 * with its result, as an agent does that waits for something. `Infinity` for no limit.
 *
 * **Details**
 *
 * A step is one call of the model, of the turn's session or of a subagent; only one that another step follows counts. OpenCode calls
 * the model again without a pause where its finish reason is of no known kind (150 to 306 calls in 25 s), or where the context
 * overflows again after it was compacted (87 calls in 20 s, 1.18.33). A healthy agent seldom takes two such steps in a row.
 * A context that overflows a second time without a new result ends the turn at once, as `Upstream`.
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
 * What becomes of a turn whose session the server does not have any more: `resendIfUntouched` (the default) sends the prompt again in a
 * new session where no tool of the turn has run yet, and ends the turn with `SessionLost` otherwise: what was done would be done twice.
 * `resend` always sends it again, `fail` never once it was sent.
 *
 * @category references
 * @since 0.1.0
 */
export const OnLostSession: Context.Reference<"resendIfUntouched" | "resend" | "fail"> = Context.Reference<
  "resendIfUntouched" | "resend" | "fail"
>("@opencode-turn/core/TurnPolicy/OnLostSession", { defaultValue: () => "resendIfUntouched" })

/**
 * How often a turn may be taken over from a worker whose lease ran out before it ends with `TakenOverTooOften`: 5 times. A turn that
 * kills its worker would kill all of them, one after the other. A worker that lets its turn go, for a deployment, does not count.
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
 * The label `feature` of the reports of turns that failed, for those who tell them apart by product: `opencode-turn`.
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
 * How long the server may be gone before the turn ends as lost: 2 minutes. A server that restarts is back in seconds, one that is
 * deployed anew within a minute or two.
 *
 * **Details**
 *
 * The server is gone while its event stream is lost and it answers no request. Nobody waits for a person on a server that is gone: the
 * turn's clock runs then, and what was asked is withdrawn when the turn ends.
 *
 * After this time the turn looks for its answer once more and then tries to abort the session, so its end comes up to twice
 * `StopTimeout` later: after 16 s where 6 s are allowed and the server's connections hang.
 *
 * @category references
 * @since 0.1.0
 */
export const ServerAbsence: Context.Reference<Duration.Duration> = duration("ServerAbsence", Duration.minutes(2))

/**
 * How often the agent is told what is wrong with an answer that does not fit its schema, and asked again: once.
 *
 * @category references
 * @since 0.1.0
 */
export const OutputRepairs: Context.Reference<number> = Context.Reference(
  "@opencode-turn/core/TurnPolicy/OutputRepairs",
  { defaultValue: () => 1 }
)

/**
 * How often the agent is told what was refused and why, and prompted again, after refusals that came with a reason have stopped it:
 * once. With 0 the turn ends with `Refused`.
 *
 * @category references
 * @since 0.1.0
 */
export const RefusalRepairs: Context.Reference<number> = Context.Reference(
  "@opencode-turn/core/TurnPolicy/RefusalRepairs",
  { defaultValue: () => 1 }
)

/**
 * How long a refusal is held back for requests of the same session that the gate left to another client (`Skip`): 10 minutes. The
 * server rejects the other permissions of a session together with the first one (1.18.33).
 *
 * @category references
 * @since 0.1.0
 */
export const RefusalHold: Context.Reference<Duration.Duration> = Context.Reference(
  "@opencode-turn/core/TurnPolicy/RefusalHold",
  { defaultValue: () => Duration.minutes(10) }
)

/**
 * How many bytes the files of one prompt may have together, where they travel inside it: 10 MiB. They are stored with the turn,
 * and models take little more.
 *
 * @category references
 * @since 0.1.0
 */
export const MaxAttachmentBytes: Context.Reference<number> = Context.Reference(
  "@opencode-turn/core/TurnPolicy/MaxAttachmentBytes",
  { defaultValue: () => 10 * 1024 * 1024 }
)

/**
 * How often an unfinished turn that the server lost is resumed: 3 times. Each costs a call of the model.
 *
 * @category references
 * @since 0.1.0
 */
export const MaxReposts: Context.Reference<number> = Context.Reference(
  "@opencode-turn/core/TurnPolicy/MaxReposts",
  { defaultValue: () => 3 }
)

/**
 * At most how often `onActivityTick` is called while the stream lives, heartbeats included: every 5 minutes, for products
 * that reap conversations without activity. A tick that failed is called again at the next sign of life.
 *
 * @category references
 * @since 0.1.0
 */
export const ActivityTick: Context.Reference<Duration.Duration> = duration("ActivityTick", Duration.minutes(5))

/**
 * How long a turn is its owner's without a sign of life: 4 s. A worker that died is noticed after it; with a sweep every
 * second its turns are taken over within 6 s. Four renewals must be missed for a living owner to lose a turn.
 *
 * @category references
 * @since 0.1.0
 */
export const Lease: Context.Reference<Duration.Duration> = duration("Lease", Duration.seconds(4))

/**
 * How often the owner of a turn renews its lease: every second, one small write.
 *
 * @category references
 * @since 0.1.0
 */
export const LeaseRenewal: Context.Reference<Duration.Duration> = duration("LeaseRenewal", Duration.seconds(1))

/**
 * How often a worker looks for turns whose owner died: every second, one small read.
 *
 * @category references
 * @since 0.1.0
 */
export const SweepInterval: Context.Reference<Duration.Duration> = duration("SweepInterval", Duration.seconds(1))

/**
 * How often what was streamed is stored while it changes: every 500 ms, one write in flight. Often enough for somebody who
 * watches from another process, and a small load: a hundred streaming turns make two hundred writes a second.
 *
 * @category references
 * @since 0.1.0
 */
export const SnapshotInterval: Context.Reference<Duration.Duration> = duration(
  "SnapshotInterval",
  Duration.millis(500)
)

/**
 * What a turn does while another one of its conversation runs: `queue` (the default) waits its turn, `reject` fails with
 * `TurnInProgress`, `replace` cancels the running one and what waits behind it.
 *
 * @category references
 * @since 0.1.0
 */
export const WhenBusy: Context.Reference<"queue" | "reject" | "replace"> = Context.Reference<
  "queue" | "reject" | "replace"
>("@opencode-turn/core/TurnPolicy/WhenBusy", { defaultValue: () => "queue" })

/**
 * How many turns of one conversation may wait: 16; the next one fails with `TurnInProgress`. People do not write more ahead,
 * and a loop that does is stopped.
 *
 * @category references
 * @since 0.1.0
 */
export const MaxQueued: Context.Reference<number> = Context.Reference("@opencode-turn/core/TurnPolicy/MaxQueued", {
  defaultValue: () => 16
})

/**
 * How often a turn that waits asks whether it is its turn: every 250 ms.
 *
 * @category references
 * @since 0.1.0
 */
export const QueuePoll: Context.Reference<Duration.Duration> = duration("QueuePoll", Duration.millis(250))

/**
 * What an interrupted turn does: `cancel` (the default) aborts the session and stores the message as cancelled, as for a
 * user who stops it; `release` leaves the message pending and the agent at work, for the next worker, as for a shutdown.
 *
 * @category references
 * @since 0.1.0
 */
export const OnInterrupt: Context.Reference<"cancel" | "release"> = Context.Reference<"cancel" | "release">(
  "@opencode-turn/core/TurnPolicy/OnInterrupt",
  { defaultValue: () => "cancel" }
)

/**
 * How long a turn waits for its session to become idle before it prompts: 2 s. A turn that was just cancelled may still be
 * stopping there.
 *
 * @category references
 * @since 0.1.0
 */
export const SessionIdle: Context.Reference<Duration.Duration> = duration("SessionIdle", Duration.seconds(2))

/**
 * How long who cancels a turn waits for its owner to stop it, before stopping it in its place: 1.5 s. A living owner hears
 * of it within a second; a dead one, whose lease has not run out yet, never does.
 *
 * @category references
 * @since 0.1.0
 */
export const CancelGrace: Context.Reference<Duration.Duration> = duration("CancelGrace", Duration.millis(1500))

/**
 * How long a callback or an observer may take before it is given up and reported: 5 s.
 *
 * @category references
 * @since 0.1.0
 */
export const CallbackTimeout: Context.Reference<Duration.Duration> = duration("CallbackTimeout", Duration.seconds(5))

/**
 * How long each part of a turn's end may take: to abort the session and read what it kept, and each terminal write, after a
 * stop or not. 5 s; it cannot be interrupted.
 *
 * @category references
 * @since 0.1.0
 */
export const StopTimeout: Context.Reference<Duration.Duration> = duration("StopTimeout", Duration.seconds(5))

/**
 * How many updates wait for an observer that is slower than the stream: 4,096. Past that they are dropped, and one `Reset`
 * with the whole reply takes their place.
 *
 * @category references
 * @since 0.1.0
 */
export const ObserverBuffer: Context.Reference<number> = Context.Reference(
  "@opencode-turn/core/TurnPolicy/ObserverBuffer",
  { defaultValue: () => 4096 }
)

/**
 * What a reader sees of a turn that failed without any text.
 *
 * @category references
 * @since 0.1.0
 */
export const FallbackContent: Context.Reference<string> = Context.Reference(
  "@opencode-turn/core/TurnPolicy/FallbackContent",
  { defaultValue: () => "Sorry, an error occurred while generating this response." }
)

/**
 * What a reader sees of a turn that was stopped before any text.
 *
 * @category references
 * @since 0.1.0
 */
export const CancelledContent: Context.Reference<string> = Context.Reference(
  "@opencode-turn/core/TurnPolicy/CancelledContent",
  { defaultValue: () => "Response was stopped." }
)

/**
 * A time limit of a budget in milliseconds; `NaN` for what is no duration.
 *
 * @category conversions
 * @since 0.1.0
 */
export const limitMillis = (limit: Duration.Input | undefined): number | undefined =>
  limit === undefined
    ? undefined
    : Option.match(Duration.fromInput(limit), { onNone: () => NaN, onSome: Duration.toMillis })

/**
 * How long nothing may come of a turn where its budget says nothing of it.
 *
 * @category constants
 * @since 0.1.0
 */
export const defaultStall: Duration.Duration = Duration.minutes(10)

/**
 * The names of the sizes of a budget.
 *
 * @category constants
 * @since 0.1.0
 */
export const sizes = ["openAsks", "subagents", "messages", "parts"] as const

/**
 * How large a turn may become where its budget says nothing of it. No healthy turn comes near: a step of an agent is one message with
 * some 5 parts, so these are 20,000 steps.
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
