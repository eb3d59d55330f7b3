/**
 * Where the time and the money of a turn went: its model calls, its tools, its retries and its waits for people, for each agent.
 *
 * **Details**
 *
 * Tools have times of their own. A step, which is one call of the model with the tools that it called, has none: it begins when its message
 * was made and ends when its last part was, and OpenCode writes the time into the ids of both (1.18). An id without a time, or with one
 * that cannot be, gives none. Waits are stored with the turn (`Seen`).
 */
import type { Part, Subagent, Turn, Usage } from "../state/Types.ts"

/** Something that a session waited for. */
export interface Seen {
  readonly kind: "wait" | "retry"
  readonly id: string
  /** Undefined for the turn's own session. */
  readonly sessionId: string | undefined
  readonly name: string
  readonly fromMillis: number
  readonly toMillis: number | undefined
  /** The tool call that waits, where it is known. */
  readonly callId?: string | undefined
}

/** A piece of time. What still lasts goes to now. */
export interface Span {
  readonly kind: "step" | "tool" | "wait" | "retry"
  readonly name: string
  readonly fromMillis: number
  readonly toMillis: number
  /** The line of its lane, from 0. */
  readonly row: number
  readonly state: "running" | "done" | "failed"
  readonly usage: Usage | undefined
}

/** An agent with its time. */
export interface Lane {
  readonly name: string
  readonly depth: number
  readonly rows: number
  readonly spans: ReadonlyArray<Span>
  readonly usage: Usage
  /** Why the agent failed. That of the turn's own agent is the error of the turn. */
  readonly failure: string | undefined
}

export interface Times {
  readonly fromMillis: number
  readonly toMillis: number
  readonly lanes: ReadonlyArray<Lane>
  /** Milliseconds without overlap: of people that any agent waited for first, then of the tools and the model of the turn's own agent. */
  readonly people: number
  readonly tools: number
  readonly model: number
}

export interface Input {
  readonly turn: Turn
  readonly subagents: ReadonlyArray<Subagent>
  readonly partsOf: (sessionId?: string) => ReadonlyArray<Part>
  readonly seen: ReadonlyArray<Seen>
  readonly nowMillis: number
}

export const timesOf = ({ nowMillis, partsOf, seen, subagents, turn }: Input): Times => {
  const fromMillis = turn.createdMillis
  const toMillis = Math.max(turn.finishedMillis ?? nowMillis, fromMillis + 1)
  const clock = { fromMillis, toMillis, isOpen: turn.finishedMillis === null }
  const laneOf = (name: string, depth: number, subagent: Subagent | undefined): Lane => {
    const sessionId = subagent?.sessionId
    const parts = partsOf(sessionId)
    const own = seen.filter((one) => one.sessionId === sessionId)
    const spans = packed([
      ...stepsOf(parts, clock),
      ...toolsOf(parts, clock),
      ...own.map((one) => seenSpan(one, parts, clock))
    ])
    return {
      name,
      depth,
      rows: 1 + Math.max(0, ...spans.map(({ row }) => row)),
      spans,
      usage: subagent?.usage ?? sum(parts),
      failure: subagent && failureOf(subagent)
    }
  }
  const children = (
    parentId: string | null | undefined,
    depth: number,
    path: ReadonlySet<string>
  ): ReadonlyArray<Lane> =>
    subagents.filter((subagent) => subagent.parentId === parentId && !path.has(subagent.sessionId)).flatMap((
      subagent
    ) => [
      laneOf(`${subagent.agent ?? "subagent"}: ${subagent.title}`, depth, subagent),
      ...children(subagent.sessionId, depth + 1, new Set([...path, subagent.sessionId]))
    ])
  const ids = new Set<string>(subagents.map(({ sessionId }) => sessionId))
  // The session of the turn is not known before its prompt is recorded, and may have been another one.
  const parents = new Set(subagents.map(({ parentId }) => parentId).filter((id) => !ids.has(id)))
  const root = laneOf(turn.agent ?? "agent", 0, undefined)
  const lanes = [root, ...Array.from(parents).flatMap((parentId) => children(parentId, 1, new Set()))]
  const waits = lanes.flatMap(({ spans }) => spans.filter(({ kind }) => kind === "wait"))
  const people = merged(waits)
  const busy = merged([...waits, ...root.spans.filter(({ kind }) => kind === "tool")])
  const all = merged([...waits, ...root.spans.filter(({ kind }) => kind !== "retry")])
  return { fromMillis, toMillis, lanes, people, tools: busy - people, model: all - busy }
}

/** Why a subagent failed, in words. An abort is no failure. */
export const failureOf = ({ failure, status }: Subagent): string | undefined =>
  failure === undefined || status !== "error" ? undefined : failure.message === "" ? failure.name : failure.message

/**
 * The time in an id of OpenCode's (1.18): 12 hexadecimal digits, of which the last three count. The number of milliseconds is cut to 36
 * bits, which repeat every 795 days: the one nearest to `nearMillis` is taken.
 */
export const idMillis = (id: string, nearMillis: number): number | undefined => {
  const [, digits] = /^[a-z]+_([\da-f]{12})/.exec(id) ?? []
  if (digits === undefined) return undefined
  const short = Math.floor(parseInt(digits, 16) / 0x1000)
  return short + Math.round((nearMillis - short) / period) * period
}

// internal

const period = 2 ** 36

interface Clock {
  readonly fromMillis: number
  readonly toMillis: number
  readonly isOpen: boolean
}

/** How far the clocks of the server and of the gateway may differ. */
const drift = 60_000

const timeIn = (id: string, { fromMillis, toMillis }: Clock): number | undefined => {
  const millis = idMillis(id, fromMillis)
  if (millis === undefined || millis < fromMillis - drift || millis > toMillis + drift) return undefined
  return clamp(millis, fromMillis, toMillis)
}

const clamp = (value: number, low: number, high: number): number => Math.min(Math.max(value, low), high)

type Unplaced = Omit<Span, "row">

const stepsOf = (parts: ReadonlyArray<Part>, clock: Clock): ReadonlyArray<Unplaced> => {
  const steps = new Map<string, Array<Part>>()
  for (const part of parts) {
    if (part.type === "todos") continue
    const known = steps.get(part.messageId)
    if (known === undefined) steps.set(part.messageId, [part])
    else known.push(part)
  }
  return Array.from(steps, ([messageId, own], index): ReadonlyArray<Unplaced> => {
    const fromMillis = timeIn(messageId, clock)
    if (fromMillis === undefined) return []
    const finish = own.find((part) => part.type === "step-finish")
    const isLast = index === steps.size - 1
    const toMillis = finish === undefined
      ? clock.isOpen && isLast ? clock.toMillis : timeIn(own.at(-1)?.id ?? "", clock) ?? fromMillis
      : timeIn(finish.id, clock) ?? fromMillis
    return [{
      kind: "step",
      name: `Step ${index + 1}`,
      fromMillis,
      toMillis: Math.max(toMillis, fromMillis),
      state: finish !== undefined ? "done" : clock.isOpen && isLast ? "running" : "failed",
      usage: finish
    }]
  }).flat()
}

const toolsOf = (parts: ReadonlyArray<Part>, clock: Clock): ReadonlyArray<Unplaced> =>
  parts.flatMap((part): ReadonlyArray<Unplaced> => {
    if (part.type !== "tool" || part.startedMillis === undefined) return []
    const isRunning = clock.isOpen && (part.status === "running" || part.status === "pending")
    const fromMillis = clamp(part.startedMillis, clock.fromMillis, clock.toMillis)
    return [{
      kind: "tool",
      name: part.tool,
      fromMillis,
      toMillis: clamp(isRunning ? clock.toMillis : part.endedMillis ?? fromMillis, fromMillis, clock.toMillis),
      state: isRunning ? "running" : part.status === "error" ? "failed" : "done",
      usage: undefined
    }]
  })

/** A wait lasts no longer than the call that waits: the page may have been elsewhere when the answer came. */
const seenSpan = (
  { callId, fromMillis, kind, name, toMillis }: Seen,
  parts: ReadonlyArray<Part>,
  clock: Clock
): Unplaced => {
  const from = clamp(fromMillis, clock.fromMillis, clock.toMillis)
  const call = callId === undefined ? undefined : parts.find((part) => part.type === "tool" && part.callId === callId)
  const called = call?.type === "tool" ? call.endedMillis : undefined
  const to = Math.min(toMillis ?? Infinity, called ?? Infinity)
  return {
    kind,
    name,
    fromMillis: from,
    toMillis: clamp(to, from, clock.toMillis),
    state: to === Infinity && clock.isOpen ? "running" : "done",
    usage: undefined
  }
}

/** Steps stand in the first row; everything else in the first row below it that is free. A wait lies in its tool, and below it. */
const packed = (spans: ReadonlyArray<Unplaced>): ReadonlyArray<Span> => {
  const ends: Array<number> = [Infinity]
  return spans.toSorted((one, other) => one.fromMillis - other.fromMillis).map((span) => {
    if (span.kind === "step") return { ...span, row: 0 }
    const free = ends.findIndex((end) => end <= span.fromMillis)
    const row = free === -1 ? ends.length : free
    ends[row] = Math.max(span.toMillis, span.fromMillis + 1)
    return { ...span, row }
  })
}

/** The length of spans without their overlaps. */
const merged = (spans: ReadonlyArray<Span>): number => {
  let total = 0
  let end = -Infinity
  for (const { fromMillis, toMillis } of spans.toSorted((one, other) => one.fromMillis - other.fromMillis)) {
    total += Math.max(0, toMillis - Math.max(fromMillis, end))
    end = Math.max(end, toMillis)
  }
  return total
}

const sum = (parts: ReadonlyArray<Part>): Usage => {
  const tokens = { input: 0, output: 0, reasoning: 0, cacheRead: 0, cacheWrite: 0 }
  let cost = 0
  for (const part of parts) {
    if (part.type !== "step-finish") continue
    cost += part.cost
    tokens.input += part.tokens.input
    tokens.output += part.tokens.output
    tokens.reasoning += part.tokens.reasoning
    tokens.cacheRead += part.tokens.cacheRead
    tokens.cacheWrite += part.tokens.cacheWrite
  }
  return { cost, tokens }
}
