/**
 * `opencode-turn resume`: carries turns without a living owner to their end, once or continuously.
 *
 * **Responsibilities**: finding the turns, a client for the folder of each turn, and a line for each end.
 *
 * **Not responsibilities**: resuming a turn (`Turn.resumeTurn`). `TurnWorker` does the same for servers with one folder.
 */
import { stopEnded } from "@opencode-turn/core/CancelTurn"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import type { AssistantMessageId } from "@opencode-turn/core/Ids"
import * as Metrics from "@opencode-turn/core/Metrics"
import { retrying } from "@opencode-turn/core/Retrying"
import { type MessageState, SessionStore } from "@opencode-turn/core/SessionStore"
import { OwnServer } from "@opencode-turn/core/steps"
import * as Tracer from "@opencode-turn/core/Tracer"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import * as TurnWorker from "@opencode-turn/core/TurnWorker"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberMap from "effect/FiberMap"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { describeDuration } from "../../terminal/Describe.ts"
import { line } from "../../terminal/TerminalText.ts"
import * as Connection from "../setup/Connection.ts"
import * as Database from "../setup/Database.ts"
import { describe, failed, type Failure, fromError, usage } from "../setup/Failure.ts"
import * as MetricsPort from "../setup/MetricsPort.ts"
import { type Mode, rules } from "../setup/Permissions.ts"
import * as StoreGate from "../setup/StoreGate.ts"
import { Streams } from "../setup/Streams.ts"
import * as JsonLines from "../view/JsonLines.ts"
import { describeResult } from "../view/Summary.ts"
import * as TurnView from "../view/TurnView.ts"
import type { Services } from "./Run.ts"

/** The options of the command line. */
export interface Options extends Connection.Flags {
  readonly database: string | undefined
  readonly permission: Exclude<Mode, "ask">
  readonly worker: boolean
  readonly metricsPort: number | undefined
  readonly json: boolean
}

/** Resumes the orphaned turns; with `worker`, it never ends. */
export const resume = Effect.fnUntraced(
  function*(options: Options): Effect.fn.Return<void, Failure, Services | Scope.Scope> {
    if (options.metricsPort !== undefined && !options.worker) {
      return yield* usage("--metrics-port needs --worker: without it, resume ends before anybody reads the metrics")
    }
    const flags = yield* Connection.settings(options)
    const database = yield* options.worker ? Database.open(options.database) : Database.openExisting(options.database)
    if (options.permission === "store") yield* Database.mustBeShared(database)
    const { store } = database
    const view = yield* options.json ? TurnView.json : TurnView.human()

    yield* Effect.gen(function*() {
      const orphans = options.worker ? [] : yield* Effect.mapError(findOrphans(view), fromError)
      const stops = options.worker ? [] : yield* Effect.mapError(findStops, fromError)
      if (!options.worker && orphans.length + stops.length === 0) return yield* view.note("there is nothing to resume")
      const server = yield* Connection.connect(flags, view, rules(options.permission))
      const streams = yield* Streams
      const clients = yield* Connection.makeClients(server)
      const carry = yield* makeCarry(
        clients,
        (result) => streams.answer(options.json ? JsonLines.fromEnding(result) : `${describeCarried(result)}\n`)
      )
      if (options.metricsPort !== undefined) {
        yield* view.note(`${yield* MetricsPort.listen(options.metricsPort)} shows the metrics`)
      }
      if (options.worker) {
        yield* view.note(
          "waiting for turns to resume; Ctrl-C stops this, and leaves unfinished turns to the next resume"
        )
      }
      yield* Effect.raceFirst(options.worker ? work(carry, clients) : once(orphans, carry, clients), server.ended)
    }).pipe(
      Effect.provideServiceEffect(HumanGate.HumanGate, gateOf(options.permission, view)),
      Effect.provideContext(store),
      Effect.provide(Tracer.layerNoop),
      Effect.provideService(TurnPolicy.OnInterrupt, "release")
    )
  },
  Effect.scoped
)

/**
 * Looks for orphans every `TurnPolicy.SweepInterval` and carries them, a bounded number at once. Turns that could not be carried, or are
 * another worker's (`undefined`), stay in the list and are tried again, but only after all others.
 */
export const sweepOrphans = Effect.fnUntraced(function*<R>(
  carry: (orphan: MessageState) => Effect.Effect<unknown, Failure, R>,
  tell: (error: Failure) => Effect.Effect<void>
): Effect.fn.Return<never, never, SessionStore | Scope.Scope | R> {
  const store = yield* SessionStore
  const running = yield* FiberMap.make<AssistantMessageId, void>()
  const failures = new Map<AssistantMessageId, number>()
  const tries = (id: AssistantMessageId) => failures.get(id) ?? 0
  const carryOnce = (orphan: MessageState) =>
    carry(orphan).pipe(
      Effect.map((result) =>
        result === undefined ? failures.set(orphan.id, tries(orphan.id) + 1) : failures.delete(orphan.id)
      ),
      Effect.asVoid,
      Effect.catch((error) => {
        failures.set(orphan.id, tries(orphan.id) + 1)
        return tell(error)
      })
    )
  const sweep = Effect.gen(function*() {
    const free = maxConcurrent - (yield* FiberMap.size(running))
    if (free <= 0) return
    const listed = yield* Effect.mapError(store.listOrphans(maxConcurrent + failures.size), fromError)
    yield* Metric.update(Metrics.orphaned, listed.length)
    const ids = new Set(listed.map(({ id }) => id))
    for (const id of failures.keys()) if (!ids.has(id)) failures.delete(id)
    const waiting = listed.filter(({ id }) => !FiberMap.hasUnsafe(running, id))
    for (const orphan of waiting.toSorted((self, that) => tries(self.id) - tries(that.id)).slice(0, free)) {
      yield* FiberMap.run(running, orphan.id, carryOnce(orphan), { onlyIfMissing: true })
    }
  })
  return yield* sweep.pipe(
    Effect.catch(tell),
    Effect.repeat(Schedule.spaced(yield* TurnPolicy.SweepInterval)),
    Effect.andThen(Effect.never)
  )
}, Effect.scoped)

// internal

/** Takes a turn over, carries it to its end and prints the result; `undefined` if another worker has it, or is to have it. */
type Carry = (orphan: MessageState) => Effect.Effect<TurnResult | undefined, Failure, SessionStore | Tracer.Tracer>

/** The gate of a mode. */
export const gateOf = (
  mode: Options["permission"],
  view: TurnView.View
): Effect.Effect<HumanGate.Gate, never, SessionStore> => {
  switch (mode) {
    case "store":
      return StoreGate.make((ask, asking) =>
        Effect.forEach(StoreGate.describe(ask, asking), (text) => view.note(`${asking.messageId} · ${text}`), {
          discard: true
        })
      )
    case "allow":
      return Effect.succeed(HumanGate.allow)
    case "deny":
      return Effect.succeed(HumanGate.deny)
  }
}

/** The maximum number of turns that are resumed at once. */
const maxConcurrent = 16

/** The maximum number of orphans that one query returns. */
const batch = 1000

/** Finds the orphans, also those whose owner was killed so recently that their lease has not run out yet. */
export const findOrphans = Effect.fnUntraced(function*(view: Pick<TurnView.View, "note">) {
  const store = yield* SessionStore
  const open = [
    ...yield* store.listByStatus({ status: "pending", limit: batch }),
    ...yield* store.listByStatus({ status: "queued", limit: batch })
  ]
  const nowMillis = yield* Clock.currentTimeMillis
  // An owner on a busy machine had asked for more time than usual.
  const mostMillis = TurnPolicy.longestLease * Duration.toMillis(yield* TurnPolicy.Lease)
  const leftMillis = open
    .map(({ leaseUntilMillis }) => Math.min((leaseUntilMillis ?? nowMillis) - nowMillis, mostMillis))
    .filter((millis) => millis > 0)
  if (leftMillis.length > 0) {
    const longest = Math.max(...leftMillis)
    const who = leftMillis.length === 1 ? "the owner of 1 turn" : `the owners of ${leftMillis.length} turns`
    yield* view.note(`waiting ${describeDuration(longest)}: ${who} may have died just now`)
    // A living owner renews its lease before it expires.
    yield* Effect.sleep(longest)
  }
  return yield* store.listOrphans(batch)
})

/** Ended turns for which a server may still work. */
const findStops = Effect.flatMap(SessionStore, (store) => store.listStops({ limit: batch }))

/** Stops what the server still does for an ended turn, in the folder of its session. */
const stopIn = (clientOf: Connection.Clients) => (message: MessageState) =>
  Effect.gen(function*() {
    if (message.started === null) return true
    const home = yield* clientOf(undefined)
    const folder = yield* Effect.provideContext(Connection.folderOf(message.started.sessionId), home)
    return yield* Effect.provideContext(stopEnded(message), yield* clientOf(folder))
  }).pipe(Effect.orElseSucceed(() => false))

/** `print` is called with the result of each turn. */
export const makeCarry = Effect.fnUntraced(
  function*(
    clientOf: Connection.Clients,
    print: (result: TurnResult) => Effect.Effect<void>,
    onCarry?: TurnWorker.Options["onCarry"]
  ): Effect.fn.Return<Carry, never, Streams> {
    const streams = yield* Streams
    /** The turns of other servers of which it was told. */
    const told = new Set<AssistantMessageId>()
    return Effect.fnUntraced(function*(orphan) {
      const store = yield* SessionStore
      const sessionId = orphan.started?.sessionId ??
        Option.getOrUndefined(yield* Effect.mapError(retrying(store.getSession(orphan.conversationId)), fromError))
      const home = yield* clientOf(undefined)
      // Before the takeover: a turn whose server cannot be reached stays as it is.
      const folder = sessionId === undefined
        ? undefined
        : yield* Effect.mapError(Effect.provideContext(Connection.folderOf(sessionId), home), fromError)
      const mismatch = sessionId === undefined || folder !== undefined
        ? Option.none()
        : yield* Effect.mapError(Effect.provideContext(OwnServer.findMismatch(orphan.id, sessionId), home), fromError)
      if (Option.isSome(mismatch)) {
        if (!told.has(orphan.id)) {
          yield* streams.progress(`opencode-turn: ${orphan.id} is left alone: ${line(mismatch.value.message)}\n`)
        }
        told.add(orphan.id)
        return undefined
      }
      const client = yield* clientOf(folder)
      const resumed = yield* TurnWorker.resumeOrphan(orphan, onCarry === undefined ? {} : { onCarry }).pipe(
        Effect.provideContext(client),
        Effect.mapError(fromError),
        Effect.onInterrupt(() => streams.progress(`${orphan.id} is left to the next resume\n`))
      )
      if (Option.isNone(resumed)) return undefined
      yield* print(resumed.value)
      return resumed.value
    }, Effect.scoped)
  }
)

/** The line of a turn that was carried to its end. */
export const describeCarried = (result: TurnResult): string =>
  `${result.messageId} · ${describeResult(result)}${
    result.error === undefined ? "" : `: ${line(describe(result.error))}`
  }`

const once = Effect.fnUntraced(function*(
  orphans: ReadonlyArray<MessageState>,
  carry: Carry,
  clientOf: Connection.Clients
) {
  yield* Effect.mapError(TurnWorker.stopOnce(stopIn(clientOf)), fromError)
  const results = yield* Effect.forEach(orphans, carry, { concurrency: maxConcurrent })
  const bad = results.filter((result) => result?.status === "error" || result?.status === "failed")
  if (bad.length > 0) return yield* failed(`${bad.length} of ${results.length} resumed turns did not complete`)
})

/**
 * Looks for orphans repeatedly, and for ended turns that are to be stopped. A failure is printed once while it stays the same, and the search
 * continues.
 */
export const work = Effect.fnUntraced(function*(carry: Carry, clientOf: Connection.Clients) {
  const { progress } = yield* Streams
  const told = yield* Ref.make("")
  const tell = (error: Failure) =>
    Effect.flatMap(
      Ref.getAndSet(told, error.message),
      (before) => before === error.message ? Effect.void : progress(`opencode-turn: ${line(error.message)}\n`)
    )
  return yield* Effect.raceFirst(sweepOrphans(carry, tell), TurnWorker.sweepStops(stopIn(clientOf)))
})
