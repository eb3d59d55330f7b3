/** The timeline of a turn: lanes of agents on one axis of time, and the same as a table. */
import { nowMillis, readInside, type TurnModel } from "../state/Model.ts"
import type { Turn } from "../state/Types.ts"
import { cost, count, duration, tokens } from "../text/Format.ts"
import { Fold } from "./Fold.tsx"
import { type Lane, type Span, type Times, timesOf } from "./Times.ts"

export const Timeline = ({ turn }: { readonly turn: TurnModel }) => (
  <Fold kind="timeline" summary={<span class="title">Timeline</span>} onOpen={() => readInside(turn)}>
    {() => <Inside turn={turn} />}
  </Fold>
)

// internal

const Inside = ({ turn }: { readonly turn: TurnModel }) => {
  const stored = turn.stored.value
  const times = timesOf({
    turn: stored,
    subagents: turn.reply.subagents.value,
    partsOf: turn.reply.partsOf,
    seen: turn.seen.value,
    nowMillis: stored.finishedMillis ?? nowMillis.value
  })
  return (
    <>
      <Shares timing={stored.finishedMillis === null ? null : stored.timing} times={times} />
      <div class="lanes" aria-hidden="true">
        {times.lanes.map((lane, index) => <LaneView key={index} lane={lane} times={times} />)}
        <Axis times={times} />
      </div>
      <Fold kind="table" summary={<span class="title">As a table</span>}>{() => <Table times={times} />}</Fold>
    </>
  )
}

/** The account of an ended turn, which also knows what no lane shows; before that, what the lanes show. */
const Shares = ({ timing, times }: { readonly timing: Turn["timing"]; readonly times: Times }) => (
  <p class="shares">
    {share("model", timing?.modelMillis ?? times.model)} {share("tools", timing?.toolsMillis ?? times.tools)}{" "}
    {share("people", timing?.peopleMillis ?? times.people)}
    {timing !== null && rest(timing).map(([name, millis]) => <>{share(name, millis)}</>)}
  </p>
)

/** What took a tenth of a second or more, as times are shown. */
const rest = ({ orphanedMillis, otherMillis, queueMillis, retriesMillis }: NonNullable<Turn["timing"]>) =>
  ([["queue", queueMillis], ["retries", retriesMillis], ["no owner", orphanedMillis], ["other", otherMillis]] as const)
    .filter(([, millis]) => millis >= 50)

const share = (name: string, millis: number) => <span class={`share ${name}`}>{`${name} ${duration(millis)}`}</span>

/** More would be narrower than what can be seen. */
const maxSpans = 500

const rowHeight = 1.15

const LaneView = ({ lane, times }: { readonly lane: Lane; readonly times: Times }) => (
  <div class="lane">
    <div class="lane-name" title={lane.name} style={{ paddingLeft: `${lane.depth * 0.8}rem` }}>
      <span>{lane.name}</span>
      <small>{cost(lane.usage.cost)} · {count(tokens(lane.usage))}</small>
      {lane.failure !== undefined && <small class="failure" title={lane.failure}>failed: {lane.failure}</small>}
    </div>
    <div class="track" style={{ height: `${lane.rows * rowHeight}rem` }}>
      {lane.spans.slice(0, maxSpans).map((span, index) => <SpanView key={index} span={span} times={times} />)}
    </div>
  </div>
)

const SpanView = ({ span, times: { fromMillis, toMillis } }: { readonly span: Span; readonly times: Times }) => {
  const whole = toMillis - fromMillis
  const width = (span.toMillis - span.fromMillis) / whole * 100
  return (
    <div
      class={`span ${span.kind} ${span.state}`}
      title={describe(span)}
      style={{
        left: `${(span.fromMillis - fromMillis) / whole * 100}%`,
        width: `${width}%`,
        top: `${span.row * rowHeight}rem`
      }}
    >
      {width > 6 && span.name}
    </div>
  )
}

const describe = ({ fromMillis, kind, name, state, toMillis, usage }: Span): string =>
  [
    kind === "step" || kind === "tool" ? name : `${kind}: ${name}`,
    duration(toMillis - fromMillis),
    ...(state === "done" ? [] : [state]),
    ...(usage === undefined ? [] : [cost(usage.cost), `${count(tokens(usage))} tokens`])
  ].join(" · ")

const Axis = ({ times: { fromMillis, toMillis } }: { readonly times: Times }) => {
  const whole = toMillis - fromMillis
  const ticks = [0, 0.25, 0.5, 0.75, 1]
  return (
    <div class="lane axis">
      <div class="lane-name" />
      <div class="track">
        {ticks.map((tick) => (
          <span key={tick} style={tick === 1 ? { right: "0" } : { left: `${tick * 100}%` }}>
            {duration(whole * tick)}
          </span>
        ))}
      </div>
    </div>
  )
}

const maxLines = 1_000

const Table = ({ times: { fromMillis, lanes } }: { readonly times: Times }) => (
  <div class="scroll" tabIndex={0} role="group" aria-label="Timeline">
    <table>
      <thead>
        <tr>
          <th>Agent</th>
          <th>What</th>
          <th>At</th>
          <th>Took</th>
          <th>State</th>
          <th>Tokens</th>
          <th>Cost</th>
        </tr>
      </thead>
      <tbody>
        {lanes.flatMap((lane) =>
          lane.spans.map((span) => ({ lane, span }))
        ).slice(0, maxLines).map((
          { lane, span },
          index
        ) => (
          <tr key={index}>
            <td>{lane.failure === undefined ? lane.name : `${lane.name} (failed: ${lane.failure})`}</td>
            <td>{span.kind === "step" || span.kind === "tool" ? span.name : `${span.kind}: ${span.name}`}</td>
            <td>{duration(span.fromMillis - fromMillis)}</td>
            <td>{duration(span.toMillis - span.fromMillis)}</td>
            <td>{span.state}</td>
            <td>{span.usage === undefined ? "" : count(tokens(span.usage))}</td>
            <td>{span.usage === undefined ? "" : cost(span.usage.cost)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  </div>
)
