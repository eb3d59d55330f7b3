/**
 * Where the time of a turn went.
 *
 * **Responsibilities**: each moment of the turn belongs to exactly one purpose, so the times add up to the turn's duration, however many
 * subagents and tools were at work at once.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
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
 * 6. `orphanedMillis`: no process carried the turn, from what its last owner stored last until the next one took it over.
 * 7. `otherMillis`: everything else, such as the requests to the server and to the store, and the server's own work between two steps.
 *
 * A turn without an owner waits for its model, its tools and people as before, because the server goes on.
 *
 * @category models
 * @since 0.1.0
 */
export const Timing = Schema.Struct({
  queueMillis: Schema.Finite,
  peopleMillis: Schema.Finite,
  modelMillis: Schema.Finite,
  toolsMillis: Schema.Finite,
  retriesMillis: Schema.Finite,
  orphanedMillis: Schema.Finite,
  otherMillis: Schema.Finite
})
/**
 * @category models
 * @since 0.1.0
 */
export interface Timing extends Schema.Schema.Type<typeof Timing> {}

/**
 * Divides the time of a turn within the bounds of its timeline.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (timeline: Timeline.Timeline): Timing => {
  const { endedMillis, queued, startedMillis, takenMillis } = timeline
  const edges: Array<Edge> = []
  const put = (rank: Rank, from: number, to: number): void => {
    const [start, end] = [Math.max(from, startedMillis), Math.min(to, endedMillis)]
    if (start < end) edges.push({ atMillis: start, rank, change: 1 }, { atMillis: end, rank, change: -1 })
  }
  if (queued !== undefined) put(0, queued.startedMillis, queued.endedMillis)
  put(6, startedMillis, takenMillis)
  for (const { asks, retries, steps, tools } of Timeline.runs(timeline)) {
    const waits = retries.toSorted((a, b) => a.startedMillis - b.startedMillis)
    for (const ask of asks) put(1, ask.startedMillis, ask.endedMillis)
    for (const step of steps) {
      // The model is not at work while its session waits to call it again.
      let from = step.startedMillis
      for (const retry of waits) {
        if (retry.endedMillis <= from || retry.startedMillis >= step.answeredMillis) continue
        put(2, from, retry.startedMillis)
        from = retry.endedMillis
      }
      put(2, from, step.answeredMillis)
    }
    for (const tool of tools) put(tool.run === undefined ? 3 : 5, tool.startedMillis, tool.endedMillis)
    for (const retry of retries) put(4, retry.startedMillis, retry.endedMillis)
  }
  const spent = sweep(edges)
  const [queueMillis, peopleMillis, modelMillis, tools, retriesMillis, calls, orphanedMillis] = spent
  return {
    queueMillis,
    peopleMillis,
    modelMillis,
    toolsMillis: tools + calls,
    retriesMillis,
    orphanedMillis,
    otherMillis: endedMillis - startedMillis - spent.reduce((sum, millis) => sum + millis, 0)
  }
}

/**
 * No time.
 *
 * @category constructors
 * @since 0.1.0
 */
export const zero: Timing = {
  queueMillis: 0,
  peopleMillis: 0,
  modelMillis: 0,
  toolsMillis: 0,
  retriesMillis: 0,
  orphanedMillis: 0,
  otherMillis: 0
}

/**
 * Adds what a later owner of the turn spent.
 *
 * @category combinators
 * @since 0.1.0
 */
export const add = (self: Timing, that: Timing): Timing => ({
  queueMillis: self.queueMillis + that.queueMillis,
  peopleMillis: self.peopleMillis + that.peopleMillis,
  modelMillis: self.modelMillis + that.modelMillis,
  toolsMillis: self.toolsMillis + that.toolsMillis,
  retriesMillis: self.retriesMillis + that.retriesMillis,
  orphanedMillis: self.orphanedMillis + that.orphanedMillis,
  otherMillis: self.otherMillis + that.otherMillis
})

/**
 * All of it, which is the turn's duration.
 *
 * @category getters
 * @since 0.1.0
 */
export const total = (self: Timing): number =>
  self.queueMillis + self.peopleMillis + self.modelMillis + self.toolsMillis + self.retriesMillis +
  self.orphanedMillis + self.otherMillis

// internal

/**
 * The purposes in the order in which they count: the queue, people, the model, tools, retries, tools that call subagents, and the time
 * without an owner.
 */
type Rank = 0 | 1 | 2 | 3 | 4 | 5 | 6
type Spent = readonly [number, number, number, number, number, number, number]

interface Edge {
  readonly atMillis: number
  readonly rank: Rank
  readonly change: 1 | -1
}

/** Gives each moment between two edges to the first purpose that is open there. */
const sweep = (edges: ReadonlyArray<Edge>): Spent => {
  const spent: [...Spent] = [0, 0, 0, 0, 0, 0, 0]
  const open: [...Spent] = [0, 0, 0, 0, 0, 0, 0]
  const ranks: ReadonlyArray<Rank> = [0, 1, 2, 3, 4, 5, 6]
  let last = 0
  for (const { atMillis, change, rank } of edges.toSorted((a, b) => a.atMillis - b.atMillis)) {
    const first = ranks.find((rank) => open[rank] > 0)
    if (first !== undefined) spent[first] += atMillis - last
    open[rank] += change
    last = atMillis
  }
  return spent
}
