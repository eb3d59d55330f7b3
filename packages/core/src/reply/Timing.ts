/**
 * Where the time of a turn went.
 *
 * **Responsibilities**: each moment of the turn belongs to exactly one purpose, so the times add up to the turn's duration, however many
 * subagents and tools were at work at once.
 *
 * @since 0.1.0
 */
import * as Timeline from "./Timeline.ts"

/**
 * How long a turn spent for what. The times add up to the turn's duration.
 *
 * **Details**
 *
 * A moment belongs to the first of these that holds, in the turn's own session or in a subagent's:
 *
 * 1. `queueMillis`: the turn waits for the turns before it in its conversation.
 * 2. `peopleMillis`: something is asked. The clock of the turn's budget stands still meanwhile.
 * 3. `modelMillis`: a model is at its answer.
 * 4. `toolsMillis`: a tool runs. A tool that calls a subagent counts only where nothing else holds.
 * 5. `retriesMillis`: a session waits before it calls its model again.
 * 6. `otherMillis`: everything else, such as the requests to the server and to the store, and the server's own work between two steps.
 *
 * @category models
 * @since 0.1.0
 */
export interface Timing {
  readonly queueMillis: number
  readonly peopleMillis: number
  readonly modelMillis: number
  readonly toolsMillis: number
  readonly retriesMillis: number
  readonly otherMillis: number
}

/**
 * Divides the time of a turn. What lies outside of its bounds, because another process ran the turn before, does not count.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (timeline: Timeline.Timeline): Timing => {
  const { endedMillis, queuedMillis, startedMillis } = timeline
  const edges: Array<Edge> = []
  const add = (rank: Rank, from: number, to: number): void => {
    const [start, end] = [Math.max(from, startedMillis), Math.min(to, endedMillis)]
    if (start < end) edges.push({ atMillis: start, rank, change: 1 }, { atMillis: end, rank, change: -1 })
  }
  add(0, startedMillis, startedMillis + queuedMillis)
  for (const { asks, retries, steps, tools } of Timeline.runs(timeline)) {
    const waits = retries.toSorted((a, b) => a.startedMillis - b.startedMillis)
    for (const ask of asks) add(1, ask.startedMillis, ask.endedMillis)
    for (const step of steps) {
      // The model is not at work while its session waits to call it again.
      let from = step.startedMillis
      for (const retry of waits) {
        if (retry.endedMillis <= from || retry.startedMillis >= step.answeredMillis) continue
        add(2, from, retry.startedMillis)
        from = retry.endedMillis
      }
      add(2, from, step.answeredMillis)
    }
    for (const tool of tools) add(tool.run === undefined ? 3 : 5, tool.startedMillis, tool.endedMillis)
    for (const retry of retries) add(4, retry.startedMillis, retry.endedMillis)
  }
  const spent = sweep(edges)
  const [queueMillis, peopleMillis, modelMillis, tools, retriesMillis, calls] = spent
  return {
    queueMillis,
    peopleMillis,
    modelMillis,
    toolsMillis: tools + calls,
    retriesMillis,
    otherMillis: endedMillis - startedMillis - spent.reduce((sum, millis) => sum + millis, 0)
  }
}

/**
 * All of it, which is the turn's duration.
 *
 * @category getters
 * @since 0.1.0
 */
export const total = (self: Timing): number =>
  self.queueMillis + self.peopleMillis + self.modelMillis + self.toolsMillis + self.retriesMillis + self.otherMillis

// internal

/** The purposes in the order in which they count: the queue, people, the model, tools, retries, tools that call subagents. */
type Rank = 0 | 1 | 2 | 3 | 4 | 5
type Spent = readonly [number, number, number, number, number, number]

interface Edge {
  readonly atMillis: number
  readonly rank: Rank
  readonly change: 1 | -1
}

/** Gives each moment between two edges to the first purpose that is open there. */
const sweep = (edges: ReadonlyArray<Edge>): Spent => {
  const spent: [...Spent] = [0, 0, 0, 0, 0, 0]
  const open: [...Spent] = [0, 0, 0, 0, 0, 0]
  const ranks: ReadonlyArray<Rank> = [0, 1, 2, 3, 4, 5]
  let last = 0
  for (const { atMillis, change, rank } of edges.toSorted((a, b) => a.atMillis - b.atMillis)) {
    const first = ranks.find((rank) => open[rank] > 0)
    if (first !== undefined) spent[first] += atMillis - last
    open[rank] += change
    last = atMillis
  }
  return spent
}
