/**
 * Watches rows for their watchers: one poll for all of them, however many there are, and none while nobody watches.
 *
 * **Responsibilities**: the own writes of this process wake their watchers at once; those of others with the next poll, which reads the
 * states of the watched rows and nothing else. A database that can tell whether another connection wrote is asked for that first.
 */
import * as ChangeNotifier from "@opencode-turn/core/ChangeNotifier"
import { PollInterval, type StoreError } from "@opencode-turn/core/SessionStore"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as RcRef from "effect/RcRef"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import * as SqlFailure from "./SqlFailure.ts"
import * as SqlRows from "./SqlRows.ts"
import type { Statement } from "./SqlTable.ts"

/** What is watched. */
export type Kind = "message" | "ask"

/** Emits when another connection reports a change of the row, see `Postgres.listen`. */
export type Listen = (id: string) => Stream.Stream<void>

/** The result of {@link make}. */
export type SqlWatch = Effect.Success<ReturnType<typeof make>>

/** The watch over a store, whose poll ends with the scope. `listen` replaces what the poll and the own writes would tell. */
export const make = Effect.fnUntraced(function*(listen?: Listen): Effect.fn.Return<
  {
    readonly watch: (operation: string, kind: Kind, id: string) => Stream.Stream<void, StoreError>
    /** After a change of a row; `undefined` after rows were deleted. */
    readonly wrote: (id: string | undefined) => Effect.Effect<void>
  },
  StoreError,
  SqlClient.SqlClient | Scope.Scope
> {
  const sql = (yield* SqlClient.SqlClient).withoutTransforms()
  const database = yield* SqlFailure.database
  const notifier = yield* ChangeNotifier.make
  const watched = new Map<string, Watched>()
  let hasWritten = false
  let seenVersion: unknown

  const look = (operation: string, kind: Kind, ids: ReadonlyArray<string>) => {
    const statement: Statement = kind === "message"
      ? sql`SELECT id, revision AS state FROM ${sql(SqlRows.messagesTable)} WHERE ${sql.in("id", ids)}`
      : sql`SELECT id, ${sql.literal(SqlRows.askStatus)} || ' ' || message_id AS state
        FROM ${sql(SqlRows.asksTable)} WHERE ${sql.in("id", ids)}`
    return Effect.map(
      Effect.mapError(statement, database.failure(operation)),
      (rows) =>
        new Map(rows.flatMap((row) => Option.toArray(SqlRows.decodeState(row))).map(({ id, state }) => [id, state]))
    )
  }

  /** Whether another connection may have written since the last poll. */
  const hasForeignWrites = sql.onDialectOrElse({
    pg: () => Effect.succeed(true),
    orElse: () =>
      Effect.map(sql<{ readonly data_version: number }>`PRAGMA data_version`, ([row]) => {
        const isNew = row?.data_version !== seenVersion
        seenVersion = row?.data_version
        return isNew
      })
  })

  const poll = Effect.gen(function*() {
    const isStale = yield* Effect.orElseSucceed(hasForeignWrites, () => true)
    if (!isStale && !hasWritten) return
    hasWritten = false
    for (const kind of ["message", "ask"] as const) {
      const ids = Array.from(watched).flatMap(([id, one]) => one.kind === kind && one.isKnown ? [id] : [])
      for (const some of Arr.chunksOf(ids, lookLength)) {
        const states = yield* look("changes", kind, some)
        for (const id of some) {
          const one = watched.get(id)
          if (one === undefined || one.state === states.get(id)) continue
          one.state = states.get(id)
          notifier.notify(id)
        }
      }
    }
  })

  const interval = yield* PollInterval
  const polling = yield* RcRef.make({
    acquire: poll.pipe(
      // The next poll that succeeds tells what this one missed.
      Effect.catch(() =>
        Effect.sync(() => {
          hasWritten = true
        })
      ),
      Effect.repeat(Schedule.spaced(interval)),
      Effect.forkScoped
    )
  })

  const add = (kind: Kind, id: string) =>
    Effect.sync(() => {
      const one = watched.get(id) ?? { kind, watchers: 0, isKnown: false, state: undefined }
      one.watchers++
      watched.set(id, one)
      return one
    })

  const remove = (id: string, one: Watched) =>
    Effect.sync(() => {
      one.watchers--
      if (one.watchers === 0) watched.delete(id)
    })

  return {
    watch: (operation, kind, id) =>
      Stream.unwrap(Effect.gen(function*() {
        yield* RcRef.get(polling)
        const one = yield* Effect.acquireRelease(add(kind, id), (one) => remove(id, one))
        if (!one.isKnown) {
          const states = yield* look(operation, kind, [id]).pipe(
            // After an outage the next successful read reports the change.
            Effect.retry({ while: (error) => error.isRetryable, schedule: Schedule.spaced(interval) })
          )
          one.state = states.get(id)
          one.isKnown = true
        }
        const changes = notifier.watch(id)
        return listen === undefined ? changes : Stream.merge(listen(id), Stream.drop(changes, 1))
      })),

    wrote: (id) =>
      Effect.sync(() => {
        // What else changed with it, such as the asks of a message that ended, is found by the next poll.
        hasWritten = true
        if (id === undefined) notifier.notifyAll()
        else if (listen === undefined) notifier.notify(id)
      })
  }
})

// internal

/** `isKnown`: its state was read, so that a poll can tell a change. */
interface Watched {
  readonly kind: Kind
  watchers: number
  isKnown: boolean
  state: string | number | undefined
}

/** How many rows one statement of a poll reads. */
const lookLength = 500
