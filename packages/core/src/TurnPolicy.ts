/**
 * The limits and delays of a turn, each a `Context.Reference` with a default.
 *
 * **Example**
 * ```ts
 * runTurn(input).pipe(Effect.provideService(TurnPolicy.WholeStream, Duration.minutes(30)))
 * ```
 *
 * **Gotchas**
 *
 * While a question or a permission request is open, all deadlines of the turn stand still.
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
 * How long the stream of a turn may last, from the prompt: 600 s. Longer than agents usually work on one message, short
 * enough that a model that never ends does not hold the conversation for hours.
 *
 * @category references
 * @since 0.1.0
 */
export const WholeStream: Context.Reference<Duration.Duration> = duration("WholeStream", Duration.minutes(10))

/**
 * How long the session may send nothing before the server is asked whether the turn still runs: off. A tool may work in
 * silence for minutes, so there is no number that suits all.
 *
 * @category references
 * @since 0.1.0
 */
export const IdleStream: Context.Reference<Option.Option<Duration.Duration>> = Context.Reference(
  "@opencode-turn/core/TurnPolicy/IdleStream",
  { defaultValue: () => Option.none() }
)

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
 * How long to wait before the record of a turn without content is read: 2 s. The server stores the end of a turn some
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
 * How often an unfinished turn that the server lost is resumed: 3 times. Each costs a call of the model.
 *
 * @category references
 * @since 0.1.0
 */
export const MaxResumes: Context.Reference<number> = Context.Reference(
  "@opencode-turn/core/TurnPolicy/MaxResumes",
  { defaultValue: () => 3 }
)

/**
 * At most how often `onActivityTick` is called while the stream lives, heartbeats included: every 5 minutes, for products
 * that reap conversations without activity.
 *
 * @category references
 * @since 0.1.0
 */
export const ActivityTick: Context.Reference<Duration.Duration> = duration("ActivityTick", Duration.minutes(5))

/**
 * How often the stored message is looked at, to notice that somebody cancelled the turn: every second.
 *
 * @category references
 * @since 0.1.0
 */
export const CancelPoll: Context.Reference<Duration.Duration> = duration("CancelPoll", Duration.seconds(1))

/**
 * How long a callback or an observer may take before it is given up and reported: 5 s.
 *
 * @category references
 * @since 0.1.0
 */
export const CallbackTimeout: Context.Reference<Duration.Duration> = duration("CallbackTimeout", Duration.seconds(5))

/**
 * How long stopping may take: to abort the session, to read what it kept, to store it. 5 s; it cannot be interrupted.
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

// internal

function duration(name: string, value: Duration.Duration): Context.Reference<Duration.Duration> {
  return Context.Reference(`@opencode-turn/core/TurnPolicy/${name}`, { defaultValue: () => value })
}
