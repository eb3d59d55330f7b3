/**
 * Watches rows for their watchers: one poll for all of them, however many there are, and none while nobody watches.
 *
 * **Responsibilities**: the own writes of this process wake their watchers at once; those of others with the next poll, which reads the
 * states of the watched rows and nothing else. A database that can tell whether another connection wrote is asked for that first.
 */
import * as ChangeNotifier from "@opencode-turn/core/ChangeNotifier"
import type { AssistantMessageId } from "@opencode-turn/core/Ids"
import { type MessageState, type MessageStatus, PollInterval, type StoreError } from "@opencode-turn/core/SessionStore"
import * as Tracing from "@opencode-turn/core/Tracing"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
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

/**
 * Tells of changes through any connection, by the keys `SqlRows.changeKey` and `stateKey`: `notifier` is told while a scope holds
 * `connection`.
 */
export interface Listen {
  readonly connection: Effect.Effect<unknown, never, Scope.Scope>
  readonly notifier: ChangeNotifier.ChangeNotifier
}

/** The result of {@link make}. */
export type SqlWatch = Effect.Success<ReturnType<typeof make>>

/** The watch over a store, whose poll ends with the scope. `listen` replaces what the own writes would tell. */
export const make = Effect.fnUntraced(function*(listen?: Listen): Effect.fn.Return<
  {
    readonly watch: (operation: string, kind: Kind, id: string) => Stream.Stream<void, StoreError>
    readonly untilState: (
      operation: string,
      id: AssistantMessageId,
      isTrue: (state: Standing | undefined) => boolean
    ) => Effect.Effect<void, StoreError>
    /** After a change of a row, or of a message's `state`; `undefined` after rows were deleted. */
    readonly wrote: (id: string | undefined, what?: "state") => Effect.Effect<void>
  },
  StoreError,
  SqlClient.SqlClient | Scope.Scope
> {
  const sql = (yield* SqlClient.SqlClient).withoutTransforms()
  const database = yield* SqlFailure.database
  const notifier = listen?.notifier ?? (yield* ChangeNotifier.make)
  const watched = new Map<string, Watched>()
  let hasWritten = false
  let seenVersion: unknown

  const look = (operation: string, kind: Kind, ids: ReadonlyArray<string>) => {
    const statement: Statement = kind === "message"
      ? sql`SELECT id, revision AS state, status, epoch FROM ${sql(SqlRows.messagesTable)} WHERE ${sql.in("id", ids)}`
      : sql`SELECT id, ${sql.literal(SqlRows.askStatus)} || ' ' || message_id AS state
        FROM ${sql(SqlRows.asksTable)} WHERE ${sql.in("id", ids)}`
    return Effect.map(
      Effect.mapError(Tracing.statement(statement), database.failure(operation)),
      (rows) => new Map(rows.flatMap((row) => Option.toArray(SqlRows.decodeState(row))).map((row) => [row.id, row]))
    )
  }

  /** Reads what is known of the rows anew, and wakes the watchers of those that have changed. */
  const refresh = Effect.fnUntraced(function*(operation: string, kind: Kind, ids: ReadonlyArray<string>) {
    const rows = yield* look(operation, kind, ids)
    for (const id of ids) {
      const one = watched.get(id)
      if (one === undefined) continue
      const row = rows.get(id)
      const { isKnown, state, status, epoch } = one
      Object.assign(one, { isKnown: true, state: row?.state, status: row?.status, epoch: row?.epoch })
      if (!isKnown) continue
      if (state !== one.state) notifier.notify(SqlRows.changeKey(id))
      if (status !== one.status || epoch !== one.epoch) notifier.notify(SqlRows.stateKey(id))
    }
  })

  /** Whether another connection may have written since the last poll. */
  const hasForeignWrites = sql.onDialectOrElse({
    pg: () => Effect.succeed(true),
    orElse: () =>
      Effect.map(Tracing.statement(sql<{ readonly data_version: number }>`PRAGMA data_version`), ([row]) => {
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
      for (const some of Arr.chunksOf(ids, lookLength)) yield* refresh("changes", kind, some)
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
  const connected = Effect.andThen(RcRef.get(polling), listen?.connection ?? Effect.void)

  const add = (kind: Kind, id: string) => {
    const one = watched.get(id) ??
      { kind, watchers: 0, isKnown: false, state: undefined, status: undefined, epoch: undefined }
    one.watchers++
    watched.set(id, one)
    return one
  }

  const remove = (id: string, one: Watched) => {
    one.watchers--
    if (one.watchers === 0) watched.delete(id)
  }

  /** After an outage the next successful read reports the change. */
  const persistently = <A>(effect: Effect.Effect<A, StoreError>): Effect.Effect<A, StoreError> =>
    Effect.retry(effect, { while: (error) => error.isRetryable, schedule: Schedule.spaced(interval) })

  return {
    watch: (operation, kind, id) =>
      Stream.unwrap(Effect.gen(function*() {
        yield* connected
        const added = Effect.sync(() => add(kind, id))
        const one = yield* Effect.acquireRelease(added, (one) => Effect.sync(() => remove(id, one)))
        if (!one.isKnown) yield* persistently(refresh(operation, kind, [id]))
        return notifier.watch(SqlRows.changeKey(id))
      })),

    untilState: (operation, id, isTrue) =>
      Effect.scoped(Effect.gen(function*() {
        yield* connected
        const isStale = yield* Latch.make(true)
        const added = Effect.sync(() => {
          const forget = notifier.listen(SqlRows.stateKey(id), () => isStale.openUnsafe())
          return { one: add("message", id), forget }
        })
        const { one } = yield* Effect.acquireRelease(added, ({ forget, one }) =>
          Effect.sync(() => {
            forget()
            remove(id, one)
          }))
        while (true) {
          yield* isStale.await
          isStale.closeUnsafe()
          yield* persistently(refresh(operation, "message", [id]))
          const { epoch, status } = one
          if (isTrue(status === undefined || epoch === undefined ? undefined : { status, epoch })) return
        }
      })),

    wrote: (id, what) =>
      Effect.sync(() => {
        // What else changed with it, such as the asks of a message that ended, is found by the next poll.
        hasWritten = true
        if (id === undefined) notifier.notifyAll()
        else if (listen === undefined) {
          notifier.notify(SqlRows.changeKey(id))
          if (what === "state") notifier.notify(SqlRows.stateKey(id))
        }
      })
  }
})

// internal

type Standing = Pick<MessageState, "status" | "epoch">

/** `isKnown`: its state was read, so that a poll can tell a change. */
interface Watched {
  readonly kind: Kind
  watchers: number
  isKnown: boolean
  state: string | number | undefined
  status: MessageStatus | undefined
  epoch: number | undefined
}

/** How many rows one statement of a poll reads. */
const lookLength = 500
