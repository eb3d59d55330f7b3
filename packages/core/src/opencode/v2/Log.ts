/**
 * What only the log of a session of OpenCode 2.x tells. A server may have none.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { MessageId, SessionId } from "../../domain/Ids.ts"
import * as Usage from "../../domain/Usage.ts"
import type { RequestError } from "../ClientError.ts"
import { maybe } from "../Lenient.ts"
import type { Requests } from "../Requests.ts"
import { toUsage, WireTokens } from "../WireValues.ts"
import { experimental } from "./Routes.ts"
import type * as Wire from "./Wire.ts"

/**
 * - `runEnd`: how the last step of the session ended. A server without a log leaves it open.
 * - `summaryUsage`: what the summary took that the order asked for. The session's messages do not tell it. The beta has an event of its own
 *   for that, and the release tells it with the summary as well.
 *
 * @category models
 * @since 0.1.0
 */
export interface Log {
  readonly runEnd: (id: SessionId) => Effect.Effect<Wire.RunEnd, RequestError>
  readonly summaryUsage: (id: SessionId, orderId: MessageId) => Effect.Effect<Usage.Usage, RequestError>
}

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = ({ request }: Pick<Requests, "request">): Log => {
  /** The end of the session's log; nothing if the server has none. */
  const tail = (id: SessionId) => {
    const read = (after: number) =>
      request(
        "read log",
        HttpClientRequest.get(experimental(id, "/log"), { urlParams: { after: String(after), follow: "false" } })
      ).pipe(Effect.map(entriesOf))
    return Effect.gen(function*() {
      const seq = (yield* read(Number.MAX_SAFE_INTEGER)).findLast(({ type }) => type === "log.synced")?.seq ?? 0
      return yield* read(Math.max(0, seq - tailLength))
    }).pipe(
      Effect.catchTag("StatusError", (error) => (error.isRetryable ? Effect.fail(error) : Effect.undefined))
    )
  }
  return {
    runEnd: (id) => Effect.map(tail(id), (log) => (log === undefined ? "open" : runEndOf(log))),
    summaryUsage: (id, orderId) => Effect.map(tail(id), (log = []) => summaryUsageOf(log, orderId))
  }
}

// internal

/** The events at the end of a log among which the end of the last run is: behind it come only names and costs. */
const tailLength = 20

const started = "session.execution.started"

const WireEntry = Schema.Struct({
  type: maybe(Schema.String),
  seq: maybe(Schema.Finite),
  data: maybe(Schema.Struct({
    reason: maybe(Schema.String),
    inputID: maybe(Schema.String),
    source: maybe(Schema.String),
    cost: maybe(Schema.Finite),
    tokens: maybe(WireTokens)
  }))
})
type Entries = ReadonlyArray<typeof WireEntry.Type>
const decodeEntry = Schema.decodeUnknownOption(Schema.fromJsonString(WireEntry))

/** The entries of a log, which comes as an event stream that ends. */
const entriesOf = (body: string): Entries =>
  body.split("\n").flatMap((line) =>
    line.startsWith("data:") ? Option.toArray(decodeEntry(line.slice("data:".length).trim())) : []
  )

const runEndOf = (log: Entries): Wire.RunEnd => {
  const step = log.findLastIndex(({ type = "" }) => type.startsWith("session.step."))
  const ends = log.slice(step + 1).filter(({ type = "" }) => type.startsWith("session.execution."))
  // A prompt that is posted again begins and ends a run without a step, and so does a summary.
  const end = ends.find(({ type }) => type !== started)
  return end === undefined || ends.at(-1)?.type === started
    ? "running"
    : end.type !== "session.execution.interrupted"
    ? "ended"
    : end.data?.reason === "shutdown"
    ? "shutdown"
    : "stopped"
}

const summaryUsageOf = (log: Entries, orderId: MessageId): Usage.Usage => {
  const begun = log.findLastIndex(({ data, type }) =>
    type === "session.compaction.started" && data?.inputID === orderId
  )
  const behind = log.slice(begun + 1)
  const used = behind.find(({ data, type }) => type === "session.usage.recorded" && data?.source === "compaction") ??
    behind.find(({ type }) => type === "session.compaction.ended")
  return begun < 0 ? Usage.zero : toUsage(used?.data?.cost, used?.data?.tokens)
}
