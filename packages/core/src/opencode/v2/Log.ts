/**
 * What only the log of a session of OpenCode 2.x tells. A server may have none.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Contained from "../../domain/Contained.ts"
import type { MessageId, SessionId } from "../../domain/Ids.ts"
import type { RequestError } from "../ClientError.ts"
import { maybe } from "../Lenient.ts"
import type { Requests } from "../Requests.ts"
import { MessageId as WireMessageId, WireTokens } from "../WireValues.ts"
import { experimental } from "./Routes.ts"
import * as Wire from "./Wire.ts"

/**
 * - `runEnd`: how the last step of the session ended, or the last summary that a run needed. A server without a log leaves it open.
 * - `summaryUsage`: what these summaries took, which have ended. The beta has an event of its own for that, and the release tells it with the
 *   end of the summary. One of which neither tells took nothing that the server knows of.
 *
 * @category models
 * @since 0.1.0
 */
export interface Log {
  readonly runEnd: (id: SessionId) => Effect.Effect<Wire.RunEnd, RequestError>
  readonly summaryUsage: (
    id: SessionId,
    summaries: ReadonlyArray<MessageId>
  ) => Effect.Effect<SummaryUsage, RequestError>
}

/**
 * @category models
 * @since 0.1.0
 */
export type SummaryUsage = (summary: MessageId) => Wire.Used | undefined

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = ({ request }: Pick<Requests, "request">): Log => {
  const readAfter = (id: SessionId, after: number) =>
    request(
      "read log",
      HttpClientRequest.get(experimental(id, "/log"), { urlParams: { after: String(after), follow: "false" } })
    ).pipe(Effect.map(entriesOf))

  /** The number of the last event, which the end of each answer tells. */
  const lastSeq = (id: SessionId) =>
    Effect.map(
      readAfter(id, Number.MAX_SAFE_INTEGER),
      (entries) => entries.findLast(({ type }) => type === "log.synced")?.seq ?? 0
    )

  /** What summaries took does not change once they have ended. */
  const known = new Map<MessageId, Wire.Used>()
  const remember = (summary: MessageId, used: Wire.Used): void => {
    known.set(summary, used)
    for (const oldest of known.keys()) {
      if (known.size <= maxKnown) break
      known.delete(oldest)
    }
  }
  const isUnknown = (summary: MessageId) => !known.has(summary)

  /** Reads the log from its end on, as far back as it takes. */
  const learn = Effect.fnUntraced(
    function*(id: SessionId, summaries: ReadonlyArray<MessageId>) {
      let after = yield* lastSeq(id)
      for (let length = summaryLength; after > 0 && summaries.some(isUnknown); length *= 4) {
        after = Math.max(0, after - length)
        for (const [summary, used] of usageOfSummaries(yield* readAfter(id, after))) remember(summary, used)
      }
    },
    (effect, id) =>
      Effect.catchIf(
        effect,
        (error) => !error.isRetryable,
        (error) => Contained.report("usage of summaries", { session: id }, Cause.fail(error))
      )
  )

  return {
    runEnd: (id) =>
      lastSeq(id).pipe(
        Effect.flatMap((seq) => readAfter(id, Math.max(0, seq - tailLength))),
        Effect.map(runEndOf),
        Effect.catchTag(
          "StatusError",
          (error) => (error.isRetryable ? Effect.fail(error) : Effect.succeed("open" as const))
        )
      ),
    summaryUsage: Effect.fnUntraced(function*(id, summaries) {
      if (summaries.some(isUnknown)) yield* learn(id, summaries)
      // The copies in a fork are in no log of its own, and what cannot be read is not asked for again.
      for (const summary of summaries.filter(isUnknown)) remember(summary, {})
      return (summary) => known.get(summary)
    })
  }
}

// internal

/** The events at the end of a log among which the end of the last run is: behind it come only names and costs. */
const tailLength = 20

/** The events at the end of a log that are read first for what a summary took. A step has about ten. */
const summaryLength = 100

/** The number of summaries whose usage is remembered. */
const maxKnown = 1000

const started = "session.execution.started"

const WireEntry = Schema.Struct({
  id: maybe(Schema.String),
  type: maybe(Schema.String),
  seq: maybe(Schema.Finite),
  data: maybe(Schema.Struct({
    reason: maybe(Schema.String),
    inputID: maybe(WireMessageId),
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
  const work = log.findLastIndex(({ data, type = "" }) =>
    type.startsWith("session.step.") || (type.startsWith("session.compaction.") && data?.reason === "auto")
  )
  const ends = log.slice(work + 1).filter(({ type = "" }) => type.startsWith("session.execution."))
  // A prompt that is posted again begins and ends a run without a step, and so does a summary that somebody ordered.
  const end = ends.find(({ type }) => type !== started)
  return end === undefined || ends.at(-1)?.type === started
    ? "running"
    : end.type !== "session.execution.interrupted"
    ? "ended"
    : end.data?.reason === "shutdown"
    ? "shutdown"
    : end.data?.reason === "inactivity"
    ? "inactive"
    : "stopped"
}

const usageOfSummaries = (log: Entries): ReadonlyMap<MessageId, Wire.Used> => {
  const all = new Map<MessageId, Wire.Used>()
  let summary: MessageId | undefined
  let recorded: Wire.Used | undefined
  for (const { data, id, type } of log) {
    if (type === "session.compaction.started") {
      summary = data?.inputID ?? (id === undefined ? undefined : Wire.summaryId(id))
      recorded = undefined
    } else if (type === "session.usage.recorded" && data?.source === "compaction") {
      recorded = data
    } else if (type === "session.compaction.ended" || type === "session.compaction.failed") {
      const ended = summary ?? data?.inputID
      const { cost, tokens } = recorded ?? data ?? {}
      if (ended !== undefined) all.set(ended, { cost, tokens })
      summary = undefined
      recorded = undefined
    }
  }
  return all
}
