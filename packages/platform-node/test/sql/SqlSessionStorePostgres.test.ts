import { assert, describe, it } from "@effect/vitest"
import type { Ask } from "@opencode-turn/core/Ask"
import { AskId, AssistantMessageId, ConversationId, makeId, SessionId } from "@opencode-turn/core/Ids"
import type { Outcome } from "@opencode-turn/core/SessionStore"
import { PollInterval, SessionStore, StoreError } from "@opencode-turn/core/SessionStore"
import * as Usage from "@opencode-turn/core/Usage"
import * as SqlSessionStore from "@opencode-turn/platform-node/SqlSessionStore"
import { describeSessionStore } from "@opencode-turn/testing/SessionStoreContract"
import {
  Cause,
  Clock,
  Context,
  Duration,
  Effect,
  Exit,
  Fiber,
  Layer,
  Option,
  Queue,
  Redacted,
  Result,
  Schedule,
  Stream
} from "effect"
import type { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { once } from "node:events"
import { createServer } from "node:net"
import { clientOf, makeDatabase, urlOf } from "../support/PostgresDatabase.ts"

describeSessionStore(
  "SqlSessionStore on PostgreSQL",
  Layer.unwrap(Effect.map(makeDatabase, (url) => SqlSessionStore.layerPostgres({ url })))
)

describeSessionStore(
  "SqlSessionStore on PostgreSQL with one connection",
  Layer.unwrap(Effect.map(makeDatabase, (url) => SqlSessionStore.layerPostgres({ url, maxConnections: 1 }))),
  { rounds: 50 }
)

const open = (options: SqlSessionStore.PostgresOptions) =>
  Effect.map(Layer.build(SqlSessionStore.layerPostgres(options)), (context) => Context.get(context, SessionStore))

const newTurn = Effect.gen(function*() {
  return {
    id: AssistantMessageId.make(yield* makeId("asm")),
    conversationId: ConversationId.make(yield* makeId("con")),
    prompt: [{ type: "text", text: "canary-prompt" }] as const
  }
})

const completed: Outcome = { status: "completed", content: "Done.", parts: [], usage: Usage.zero, error: null }

const permissionOf = (id: string): Ask => ({
  _tag: "Permission",
  id: AskId.make(id),
  sessionId: SessionId.make("ses_1"),
  permission: "bash",
  patterns: ["ls"],
  always: [],
  metadata: {}
})

const numbers = (count: number) => Array.from({ length: count }, (_, n) => n)

/** The sessions of this database that wait for notifications. */
const listeners = (sql: SqlClient.SqlClient) =>
  Effect.map(
    sql`SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'`,
    (rows) => rows.length
  )

/** Ten times as fast as the real one, so that it does not outrun the server. */
const timePasses = Effect.andThen(TestClock.adjust("10 millis"), TestClock.withLive(Effect.sleep("1 milli")))

/** Asks the server until it says so; the test's own time limit is the end of it. */
const until = <A, E, R>(ask: Effect.Effect<A, E, R>, isSo: (answer: A) => boolean) =>
  Effect.repeat(ask, { until: isSo, schedule: Schedule.forever })

/** A failure as it is told, with a check that it tells no secret and no value, in one line. */
const failureOf = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.exit(effect), (exit) => {
    assert.isTrue(Exit.isFailure(exit))
    const cause = Exit.isFailure(exit) ? exit.cause : Cause.empty
    const error = Option.getOrUndefined(Cause.findErrorOption(cause))
    assert.instanceOf(error, StoreError)
    for (const text of [Cause.pretty(cause), String(cause), JSON.stringify(cause), JSON.stringify(error)]) {
      assert.notInclude(text, "canary")
    }
    assert.notInclude(error.message, "\n")
    return error
  })

describe("SqlSessionStore on a PostgreSQL server", () => {
  // a server that cannot be used

  it.live("says which server cannot be reached, and that it may be later", () =>
    Effect.gen(function*() {
      const port = yield* closedPort
      const url = Redacted.make(`postgres://user:canary-password@127.0.0.1:${port}/turns`)
      const error = yield* failureOf(open({ url }))
      assert.strictEqual(
        error.message,
        `the store failed (migrate): the PostgreSQL database "turns" at 127.0.0.1:${port}: it cannot be reached`
      )
      assert.isTrue(error.isRetryable)
    }))

  it.live("says that the credentials are wrong, without them", () =>
    Effect.gen(function*() {
      const url = yield* urlOf("postgres")
      url.password = "canary-password"
      const error = yield* failureOf(open({ url: Redacted.make(url.href) }))
      assert.strictEqual(
        error.message,
        `the store failed (migrate): the PostgreSQL database "postgres" at ${url.host}: it refused the credentials; check ` +
          "user and password"
      )
      assert.isFalse(error.isRetryable)
    }))

  it.live("says that there is no such database", () =>
    Effect.gen(function*() {
      const url = yield* urlOf("missing%20one")
      const error = yield* failureOf(open({ url: Redacted.make(url.href) }))
      assert.strictEqual(
        error.message,
        `the store failed (migrate): the PostgreSQL database "missing one" at ${url.host}: there is no database of that ` +
          "name; create it"
      )
      assert.isFalse(error.isRetryable)
    }))

  it.live.each(["canary", "postgres://user:canary-password@host:canary/turns", "mysql://user:canary@host/turns"])(
    "does not repeat a url that it cannot use",
    (url) =>
      Effect.gen(function*() {
        const error = yield* failureOf(open({ url: Redacted.make(url) }))
        assert.include(error.message, "the url of the PostgreSQL database cannot be read")
        assert.isFalse(error.isRetryable)
      })
  )

  it.live("gives up on a server that does not answer", () =>
    Effect.gen(function*() {
      const port = yield* silentPort
      const url = Redacted.make(`postgres://user:canary-password@127.0.0.1:${port}/turns`)
      const error = yield* failureOf(open({ url, connectTimeout: "20 millis" }))
      assert.include(error.message, "it cannot be reached")
      assert.isTrue(error.isRetryable)
    }))

  it.live("hides the values of a statement that the server refuses", () =>
    Effect.gen(function*() {
      const store = yield* open({ url: yield* makeDatabase })
      const turn = { ...(yield* newTurn), id: AssistantMessageId.make("canary\u0000") }
      const error = yield* failureOf(store.claim(turn))
      assert.deepInclude(error, { operation: "claim", isRetryable: false })
    }))

  // connections

  it.effect("goes on after the server has ended its connections, and its watchers hear of later changes", () =>
    Effect.gen(function*() {
      const url = yield* makeDatabase
      const sql = yield* clientOf(url)
      const store = yield* open({ url })
      const turn = yield* newTurn
      yield* store.claim(turn)
      const news = yield* watch(store, turn.id)
      yield* Queue.take(news)
      yield* until(listeners(sql), (count) => count === 1)

      yield* sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'opencode-turn'`
      const finalize = store.finalize(turn.id, 1, completed)
      const first = yield* Effect.result(finalize)
      if (Result.isFailure(first)) assert.isTrue(first.failure.isRetryable)
      else assert.isTrue(first.success)
      if (Result.isFailure(first)) assert.isTrue(yield* finalize)

      yield* Effect.raceFirst(Queue.take(news), Effect.forever(timePasses))
      yield* until(Effect.andThen(timePasses, listeners(sql)), (count) => count === 1)
    }))

  // clocks that differ

  it.live("judges leases by the database's clock, however wrong the clocks of the workers are", () =>
    Effect.gen(function*() {
      const url = yield* makeDatabase
      const clock = yield* Clock.Clock
      for (const skewMillis of [-3_600_000, 3_600_000]) {
        const wrong = Effect.provideService(Clock.Clock, {
          currentTimeNanosUnsafe: () => clock.currentTimeNanosUnsafe(),
          currentTimeNanos: clock.currentTimeNanos,
          monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
          monotonicTimeNanos: clock.monotonicTimeNanos,
          sleep: (duration) => clock.sleep(duration),
          currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + skewMillis,
          currentTimeMillis: Effect.map(clock.currentTimeMillis, (millis) => millis + skewMillis)
        })
        const right = yield* open({ url })
        const other = yield* wrong(open({ url }))
        const turn = yield* newTurn
        yield* right.claim({ ...turn, lease: { owner: "right", millis: 60_000 } })
        assert.isTrue(Option.isNone(yield* wrong(other.takeOver(turn.id, { owner: "other", millis: 60_000 }))))
        assert.isTrue(yield* wrong(other.renew(turn.id, 1, { owner: "right", millis: 60_000 })))
        const seen = Option.getOrThrow(yield* wrong(other.getMessage(turn.id)))
        assert.closeTo(seen.leaseUntilMillis ?? 0, (yield* clock.currentTimeMillis) + skewMillis + 60_000, 50_000)
        assert.isTrue(Option.isNone(yield* right.takeOver(turn.id, { owner: "third", millis: 60_000 })))
        yield* wrong(other.release(turn.id, 1))
        const released = Option.getOrThrow(yield* right.getState(turn.id))
        // How far a clock is ahead is known to half a second.
        assert.isAtMost(released.leaseUntilMillis ?? Infinity, (yield* clock.currentTimeMillis) + 1000)
        yield* until(right.takeOver(turn.id, { owner: "third", millis: 60_000 }), Option.isSome)
      }
    }))

  // claims in the same moment

  it.effect("fills the queue exactly when all claims come at the same moment", () =>
    Effect.gen(function*() {
      const url = yield* makeDatabase
      const stores = [yield* open({ url }), yield* open({ url })] as const
      const claimAt = yield* inOneMoment(url)
      for (const _ of numbers(5)) {
        const first = yield* newTurn
        yield* stores[0].claim(first)
        const join = (n: number) =>
          Effect.flatMap(newTurn, (turn) =>
            Effect.result(stores[n % 2 === 0 ? 0 : 1].claim({
              ...turn,
              conversationId: first.conversationId,
              whenBusy: "queue",
              maxQueued: 3
            })))
        const results = yield* claimAt(numbers(16).map(join))
        assert.lengthOf(results.filter(Result.isSuccess), 3)
        const queued = yield* stores[0].listMessages(first.conversationId, 100)
        assert.deepStrictEqual(queued.map(({ status }) => status), ["pending", "queued", "queued", "queued"])
      }
    }))

  it.effect("lets one of two waiting messages in when the older one comes back in the moment in which it is passed over", () =>
    Effect.gen(function*() {
      const url = yield* makeDatabase
      const stores = [yield* open({ url }), yield* open({ url })] as const
      const claimAt = yield* inOneMoment(url)
      for (const _ of numbers(10)) {
        const first = yield* newTurn
        yield* stores[0].claim(first)
        const turns = yield* Effect.forEach(["late", "next"], (owner) =>
          Effect.map(newTurn, (turn) => ({
            ...turn,
            conversationId: first.conversationId,
            whenBusy: "queue" as const,
            lease: { owner, millis: 1_000 }
          })))
        yield* Effect.forEach(turns, (turn) => stores[0].claim(turn))
        yield* TestClock.adjust("1 second")
        yield* stores[0].finalize(first.id, 1, completed)
        const claimed = yield* claimAt(turns.map((turn, n) => stores[n === 0 ? 0 : 1].claim(turn)))
        assert.deepStrictEqual(claimed.map(({ status }) => status).toSorted(), ["pending", "queued"])
      }
    }))

  // answers in the same moment

  it.effect("stores one answer when all answers come while another message opens the ask", () =>
    Effect.gen(function*() {
      const url = yield* makeDatabase
      const stores = [yield* open({ url }), yield* open({ url })] as const
      const [before, after] = [yield* newTurn, yield* newTurn]
      for (const turn of [before, after]) yield* stores[0].claim(turn)
      const asked = { messageId: before.id, conversationId: before.conversationId }
      const moved = { messageId: after.id, conversationId: after.conversationId }
      const atOnce = yield* inOneMoment(url, "opencode_turn_asks")
      for (const round of numbers(5)) {
        const ask = permissionOf(`per_${round}`)
        yield* stores[0].openAsk({ ...asked, ask })
        const answers = numbers(12).map((n) =>
          Effect.map(
            Effect.result(stores[n % 2 === 0 ? 0 : 1].answerAsk(ask.id, { _tag: "Reject", message: `${n}` })),
            (result) => Option.getOrUndefined(Result.getSuccess(result))
          )
        )
        const opening = Effect.as(stores[0].openAsk({ ...moved, ask }), undefined)
        const winners = (yield* atOnce([...answers.slice(0, 6), opening, ...answers.slice(6)])).flatMap((won) =>
          won ?? []
        )
        assert.lengthOf(winners, 1)
        const found = yield* stores[1].getAsk(ask.id)
        assert.deepStrictEqual(found, Option.some(winners[0]))
      }
    }))

  // changes

  it.effect("reports a change at once when it listens", () =>
    Effect.gen(function*() {
      const url = yield* makeDatabase
      const sql = yield* clientOf(url)
      const [reader, writer] = [yield* open({ url }), yield* open({ url })]
      const long = AssistantMessageId.make(`${"👩‍👧".repeat(90)}${yield* makeId("asm")}`)
      for (const id of [(yield* newTurn).id, long]) {
        const turn = { ...(yield* newTurn), id }
        yield* writer.claim(turn)
        const news = yield* watch(reader, turn.id)
        yield* Queue.take(news)
        yield* until(listeners(sql), (count) => count === 1)
        yield* writer.snapshot(turn.id, 1, completed)
        yield* Queue.take(news)
        yield* writer.finalize(turn.id, 1, completed)
        yield* Queue.take(news)
      }
    }).pipe(Effect.provideService(PollInterval, Duration.days(1))))

  it.effect("reports an answer at once when it listens", () =>
    Effect.gen(function*() {
      const url = yield* makeDatabase
      const sql = yield* clientOf(url)
      const [reader, writer] = [yield* open({ url }), yield* open({ url })]
      const turn = yield* newTurn
      yield* reader.claim(turn)
      for (const prefix of ["per", "👩‍👧".repeat(90)]) {
        const ask = permissionOf(`${prefix}${yield* makeId("per")}`)
        const news = yield* watchAsk(reader, ask.id)
        yield* Queue.take(news)
        yield* until(listeners(sql), (count) => count === 1)
        yield* reader.openAsk({ messageId: turn.id, conversationId: turn.conversationId, ask })
        yield* Queue.take(news)
        yield* writer.answerAsk(ask.id, { _tag: "Reject" })
        yield* Queue.take(news)
      }
    }).pipe(Effect.provideService(PollInterval, Duration.days(1))))

  it.effect("listens on one connection for all watchers, and closes it a minute after the last watcher", () =>
    Effect.gen(function*() {
      const url = yield* makeDatabase
      const sql = yield* clientOf(url)
      const store = yield* open({ url })
      assert.strictEqual(yield* listeners(sql), 0)
      const watchers = yield* Effect.forEach(numbers(20), () =>
        Effect.gen(function*() {
          const { id } = yield* store.claim(yield* newTurn)
          return yield* Effect.forkScoped(Stream.runDrain(store.changes(id)))
        }))
      yield* until(listeners(sql), (count) => count > 0)
      assert.strictEqual(yield* listeners(sql), 1)
      yield* Fiber.interruptAll(watchers)
      assert.strictEqual(yield* listeners(sql), 1)
      yield* TestClock.adjust("1 minute")
      yield* until(listeners(sql), (count) => count === 0)
    }))

  it.effect("leaves no connection behind when its layer is released", () =>
    Effect.gen(function*() {
      const url = yield* makeDatabase
      const sql = yield* clientOf(url)
      yield* Effect.scoped(Effect.gen(function*() {
        const store = yield* open({ url })
        const { id } = yield* store.claim(yield* newTurn)
        yield* Effect.forkScoped(Stream.runDrain(store.changes(id)))
        yield* until(listeners(sql), (count) => count === 1)
      }))
      const sessions = sql`SELECT 1 FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'opencode-turn'`
      yield* until(sessions, (rows) => rows.length === 0)
    }))
})

/** Holds the table until every effect waits for it in a session of its own, and then lets all of them go. */
const inOneMoment = Effect.fnUntraced(function*(url: Redacted.Redacted, table = "opencode_turn_assistant_messages") {
  const [holder, observer] = [yield* clientOf(url), yield* clientOf(url)]
  const waiting = observer`SELECT 1 FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'opencode-turn' AND wait_event_type = 'Lock'`
  return <A, E>(effects: ReadonlyArray<Effect.Effect<A, E>>) =>
    holder.withTransaction(Effect.gen(function*() {
      yield* holder`LOCK TABLE ${holder(table)} IN ACCESS EXCLUSIVE MODE`
      const fibers = yield* Effect.forEach(effects, (effect) => Effect.forkScoped(effect))
      yield* until(waiting, (rows) => rows.length === effects.length)
      return fibers
    })).pipe(Effect.flatMap((fibers) => Effect.forEach(fibers, (fiber) => Fiber.join(fiber))))
})

const newsOf = Effect.fnUntraced(function*(changes: Stream.Stream<void, StoreError>) {
  const news = yield* Queue.unbounded<void>()
  yield* Effect.forkScoped(Stream.runForEach(changes, () => Queue.offer(news, undefined)))
  return news
})

const watch = (store: SessionStore["Service"], id: AssistantMessageId) => newsOf(store.changes(id))

const watchAsk = (store: SessionStore["Service"], id: AskId) => newsOf(store.askChanges(id))

const listening = Effect.acquireRelease(
  Effect.promise(async () => {
    const server = createServer().listen(0, "127.0.0.1")
    await once(server, "listening")
    const address = server.address()
    return { server, port: typeof address === "object" ? address?.port ?? 0 : 0 }
  }),
  ({ server }) => Effect.sync(() => server.close())
)

/** A port that takes connections and says nothing. */
const silentPort = Effect.map(listening, ({ port }) => port)

/** A port that was free a moment ago. */
const closedPort = Effect.scoped(silentPort)
