/**
 * One round of a soak: runs several turns at once, each in a worker of its own that ends as planned, waits until all turns are terminal, and
 * checks them.
 */
import { AssistantMessageId, ConversationId } from "@opencode-turn/core/Ids"
import type { StoredMessage } from "@opencode-turn/core/StoredMessage"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { Effect, Fiber, Option, Schedule } from "effect"
import { existsSync, readFileSync } from "node:fs"
import * as Checks from "./Checks.ts"
import type { Point } from "./CrashPoint.ts"
import type { Place } from "./Place.ts"
import * as Seed from "./Seed.ts"
import type { WorkerProcess } from "./WorkerProcess.ts"

/**
 * The planned end of a turn's worker.
 *
 * - `killed`: `SIGKILL` at the point, or at a random time if there is no point.
 * - `frozen`: `SIGSTOP` at the point, and `SIGCONT` when another worker has brought the turn to its end.
 * - `stopped`: `SIGTERM` at the point, as by a deployment.
 * - `spared`: nothing.
 */
export type End =
  | { readonly type: "killed"; readonly point?: Point }
  | { readonly type: "frozen" | "stopped"; readonly point: Point }
  | { readonly type: "spared" }

export interface Plan {
  readonly end: End
  readonly conversationId: string
}

export interface Options {
  /** The name of the turns of this round, unique in the place. */
  readonly name: string
  readonly plans: ReadonlyArray<Plan>
  /**
   * When the server is killed and restarted while the turns run: after the model was called for every turn, or early, when some turns may
   * not have begun.
   */
  readonly serverKilled?: "amid all" | "early" | undefined
  /** Whether one of the workers that take turns over is killed as well. */
  readonly isCarrierKilled?: boolean | undefined
}

/** What happened to one turn. Times are in milliseconds, and undefined if there was nothing to measure. */
export interface Outcome {
  readonly end: string
  /** Whether the turn's worker died or was frozen before the turn had ended. */
  readonly wasLeft: boolean
  /** Whether nothing of the turn was stored, because its worker was killed before. */
  readonly isUnclaimed: boolean
  /** Whether it ended before its prompt, because the server was away. */
  readonly isUnbegun: boolean
  readonly toTakeOver: number | undefined
  readonly toTerminal: number | undefined
  readonly extraModelCalls: number
  readonly epoch: number
  readonly violations: ReadonlyArray<string>
}

export interface Result {
  readonly outcomes: ReadonlyArray<Outcome>
  /** What is wrong with the round as a whole. */
  readonly violations: ReadonlyArray<string>
  readonly serverKills: number
  readonly carrierKills: number
}

export const describeEnd = (end: End): string =>
  end.type === "killed"
    ? `killed ${end.point ?? "at random"}`
    : end.type === "spared"
    ? "spared"
    : `${end.type} ${end.point}`

export const run = Effect.fnUntraced(function*(place: Place, options: Options): Effect.fn.Return<Result> {
  const plans = options.plans.map((plan, index) => ({ ...plan, id: `${options.name}-${index}` }))
  const server = yield* Effect.forkChild(
    options.serverKilled === undefined ? Effect.undefined : bounceServer(place, options)
  )
  const carrier = yield* Effect.forkChild(
    options.isCarrierKilled === true ? Effect.delay(place.replaceCarrier, "5500 millis") : Effect.void
  )
  const watched = yield* Effect.forEach(
    plans,
    (plan) => Effect.scoped(runOne(place, plan, Fiber.join(server))),
    { concurrency: "unbounded" }
  )
  const serverKilledMillis = yield* Fiber.join(server)
  yield* Fiber.join(carrier)
  const serverKills = serverKilledMillis === undefined ? 0 : 1
  const outcomes = yield* Effect.forEach(watched, (turn) => conclude(place, turn, serverKills, serverKilledMillis))
  const open = yield* Effect.orDie(Effect.all([
    place.store.listByStatus({ status: "pending", limit: 100 }),
    place.store.listByStatus({ status: "queued", limit: 100 })
  ]))
  return {
    outcomes,
    violations: open.flat().map(({ id, status }) => `${id} is left ${status}`),
    serverKills,
    carrierKills: options.isCarrierKilled === true ? 1 : 0
  }
})

// internal

/** The number of model calls that a turn needs. */
const steps = 2

/** The script of a turn: a short step with a tool, and an answer that streams for a second. */
const promptOf = ({ shell }: Place, id: string): string =>
  ScriptedModel.prompt(`turn ${id}`, [
    {
      text: Checks.firstText(id),
      tool: shell,
      args: { command: `echo ran >> ${id}.txt`, description: "leave a trace" }
    },
    { text: `${Checks.lastText(id)} ${"word ".repeat(39)}end.`, chunkDelayMillis: 25 }
  ])

/** How long a turn may take from the end of its worker until it is terminal. It only bounds a hang, on any machine. */
const patience = "5 minutes"

interface Watched {
  readonly plan: Plan & { readonly id: string }
  /** The time at which its worker died or froze. */
  readonly leftMillis: number | undefined
  readonly takenOverMillis: number | undefined
  readonly row: StoredMessage | undefined
  readonly violations: ReadonlyArray<string>
  /** The output of its worker. */
  readonly output: string
}

const runOne = Effect.fnUntraced(function*(
  place: Place,
  plan: Plan & { readonly id: string },
  serverIsBack: Effect.Effect<unknown>
) {
  const { end, id } = plan
  const violations: Array<string> = []
  const worker = yield* place.worker({
    turn: { conversationId: plan.conversationId, messageId: id, prompt: promptOf(place, id) },
    ...("point" in end && { point: end.point }),
    ...(end.type === "killed" && end.point !== undefined && { action: "kill" }),
    ...(end.type === "frozen" && { action: "freeze" })
  })
  const takeOver = yield* Effect.forkChild(watchTakeOver(place, id))
  const leftMillis = yield* leave(place, worker, plan)
  yield* serverIsBack
  const row = yield* untilTerminal(place, id, leftMillis !== undefined)
  if (row !== undefined && Checks.isOpen(row)) violations.push(`is ${row.status} ${patience} after its worker's end`)
  // On a machine that is too busy, a living worker may renew its lease too late and lose its turn.
  const isLeft = row?.takeovers === 0 && !Checks.isUnbegun(row) && !worker.output().includes("ended completed")
  if (end.type === "spared" && isLeft) {
    violations.push("its worker did not complete it")
  }
  if (end.type === "frozen" && leftMillis !== undefined) violations.push(...yield* wake(place, id, worker, row))
  yield* Fiber.interrupt(takeOver)
  const exit = yield* Fiber.await(takeOver)
  return {
    plan,
    leftMillis,
    takenOverMillis: exit._tag === "Success" ? exit.value : undefined,
    row,
    violations,
    output: worker.output()
  } satisfies Watched
})

/** Carries out the plan for the worker. Returns the time since which the turn has no worker; undefined if it never lacked one. */
const leave = Effect.fnUntraced(
  function*({ seed }: Place, worker: WorkerProcess, { end, id }: Plan & { readonly id: string }) {
    if (end.type === "frozen") return yield* worker.said("reached")
    if (end.type === "stopped" && (yield* worker.said("reached")) !== undefined) yield* worker.send("SIGTERM")
    if (end.type === "killed" && end.point === undefined) {
      yield* worker.said("started")
      yield* Effect.sleep(Seed.millisBelow(1500, seed, `${id} dies`))
      yield* worker.send("SIGKILL")
    }
    const { atMillis } = yield* worker.ended
    return worker.output().includes("ended ") ? undefined : atMillis
  }
)

/** A frozen worker that continues finds that another worker owns the turn. It ends by itself and changes nothing. */
const wake = Effect.fnUntraced(
  function*(place: Place, id: string, worker: WorkerProcess, before: StoredMessage | undefined) {
    yield* worker.send("SIGCONT")
    const ended = yield* Effect.timeoutOption(worker.ended, patience)
    const after = yield* read(place, id)
    return [
      ...(Option.isNone(ended) ? ["its frozen worker did not end after it was woken"] : []),
      ...(JSON.stringify(before) === JSON.stringify(after) ? [] : ["its frozen worker changed it after it was woken"])
    ]
  }
)

const read = (place: Place, id: string) =>
  Effect.map(Effect.orDie(place.store.getMessage(AssistantMessageId.make(id))), Option.getOrUndefined)

const looking = Schedule.spaced("50 millis")

/** The time at which a second worker took the turn over. */
const watchTakeOver = (place: Place, id: string) =>
  read(place, id).pipe(
    Effect.repeat({ schedule: looking, until: (row) => row !== undefined && row.epoch > 1 }),
    Effect.map(() => Date.now())
  )

/** The row once it is terminal, or as it is when the limit is over. A turn whose worker left nothing has no row. */
const untilTerminal = (place: Place, id: string, wasLeft: boolean) =>
  read(place, id).pipe(
    Effect.repeat({
      schedule: looking,
      until: (row) => (row === undefined ? wasLeft : !Checks.isOpen(row))
    }),
    Effect.timeoutOption(patience),
    Effect.flatMap(Option.match({ onNone: () => read(place, id), onSome: Effect.succeed }))
  )

const bounceServer = Effect.fnUntraced(function*(place: Place, { name, plans, serverKilled }: Options) {
  const asked = Effect.map(place.model.requests, (requests) => {
    const turns = requests.map(turnOf).filter((id) => id.startsWith(`${name}-`))
    return serverKilled === "early" ? turns.length : new Set(turns).size
  })
  yield* Effect.repeat(asked, { schedule: looking, until: (count) => count >= plans.length })
  yield* Effect.sleep(Seed.millisBelow(1000, place.seed, `${name} server`))
  // Both ends of a server happen: a crash, and a stop that it is asked for.
  const atMillis = yield* place.endServer(Seed.fraction(place.seed, `${name} signal`) < 0.5 ? "SIGKILL" : "SIGTERM")
  yield* place.startServer
  return atMillis
})

/** The turn whose prompt a model call answers. Behind the prompt may stand a word to go on after the server died (2.x). */
const turnOf = ({ messages }: ScriptedModel.ModelRequest): string =>
  messages.findLast(({ role, text }) => role === "user" && text.startsWith("turn "))?.text.split(" ")[1] ?? ""

const conclude = Effect.fnUntraced(function*(
  place: Place,
  { leftMillis, output, plan: { conversationId, end, id }, row, takenOverMillis, violations: early }: Watched,
  serverKills: number,
  serverKilledMillis: number | undefined
): Effect.fn.Return<Outcome> {
  // 2.x makes a title from the first prompt of a session, also of one that has a title.
  const requests = (yield* place.model.requests).filter((request) => !request.isTitle && turnOf(request) === id)
  const stored = yield* Effect.orDie(place.store.getSession(ConversationId.make(conversationId)))
  const sessionId = row?.promptRecord?.sessionId ?? Option.getOrUndefined(stored)
  const trace = `${place.directory}/${id}.txt`
  const found: Checks.Found = {
    id,
    row,
    conversation: yield* Effect.orDie(place.store.listMessages(ConversationId.make(conversationId), 1000)),
    record: sessionId === undefined ? [] : yield* place.record(sessionId),
    modelCalls: requests.length,
    toolRuns: existsSync(trace) ? readFileSync(trace, "utf8").split("\n").length - 1 : 0
  }
  const violations = [...early, ...Checks.check(found, { mayBeUnclaimed: mayBeUnclaimed(end), steps, serverKills })]
  const finishedMillis = row?.finishedMillis ?? undefined
  // For a turn that ran when the server was killed, the time counts from the kill.
  const sinceMillis = leftMillis ?? serverKilledMillis
  return {
    end: describeEnd(end),
    // What another worker had to end, or nothing was stored of. The clock does not tell: this process may learn late of a worker's death.
    wasLeft: leftMillis !== undefined && row?.epoch !== 1,
    isUnclaimed: row === undefined,
    isUnbegun: Checks.isUnbegun(row),
    toTakeOver: leftMillis === undefined || takenOverMillis === undefined ? undefined : takenOverMillis - leftMillis,
    toTerminal: sinceMillis === undefined || finishedMillis === undefined || finishedMillis < sinceMillis
      ? undefined
      : finishedMillis - sinceMillis,
    extraModelCalls: Math.max(0, requests.length - steps),
    epoch: row?.epoch ?? 0,
    violations: violations.length === 0
      ? []
      : [`${id} (${describeEnd(end)}): ${violations.join("; ")}. Its worker said: ${output}`]
  }
})

const mayBeUnclaimed = (end: End): boolean =>
  end.type === "killed" && (end.point === undefined || end.point === "before claim")
