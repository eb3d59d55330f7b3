/**
 * The operations of `SqlSessionStore`. Most are one guarded statement, or a few without a transaction. Only inserting and deleting a
 * message use one, because they change two tables.
 */
import type { AssistantMessageId } from "@opencode-turn/core/Ids"
import { PollInterval, SessionStore, type StoreError, UnknownMessage } from "@opencode-turn/core/SessionStore"
import { storable } from "@opencode-turn/core/StorableIds"
import { type Content, isOpen, type MessageStatus } from "@opencode-turn/core/StoredMessage"
import { AlreadyFinished } from "@opencode-turn/core/TurnError"
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import * as SqlAsks from "./SqlAsks.ts"
import * as SqlClaim from "./SqlClaim.ts"
import * as SqlMigrations from "./SqlMigrations.ts"
import * as SqlRows from "./SqlRows.ts"
import { atMost, make as makeTable, maxRounds, type Statement, tooBusy } from "./SqlTable.ts"

/** Emits when a watched message or ask should be read; the first time at once. */
export type Looks = (id: string, interval: Duration.Duration) => Stream.Stream<void>

/** Makes the store over existing tables. */
export const make = Effect.fnUntraced(function*(
  looks: Looks
): Effect.fn.Return<SessionStore["Service"], StoreError, SqlClient.SqlClient> {
  yield* SqlMigrations.check
  const table = yield* makeTable
  const { asks, columns, conversations, encoded, findMessage, isChanged, messages, news, prompts, query, sql } = table
  const { ownColumns, readChanged, listMessages, listReadable, readConversations, readState, stateColumns } = table

  const promptOfMessage = sql.literal(SqlRows.promptOfMessage)

  /** Emits at once, and then whenever the statement's only row has another `state`. */
  const watch = (operation: string, id: string, statement: Statement): Stream.Stream<void, StoreError> =>
    Stream.unwrap(Effect.map(PollInterval, (interval) => {
      const look = query(operation, statement).pipe(
        // After an outage the next successful read reports the change.
        Effect.retry({ while: (error) => error.isRetryable, schedule: Schedule.spaced(interval) }),
        Effect.map((rows) => Option.getOrUndefined(SqlRows.decodeState(rows[0]))?.state)
      )
      return looks(id, interval).pipe(Stream.mapEffect(() => look), Stream.changes, Stream.map(() => undefined))
    }))

  /** Writes streamed content to a message with this status and epoch. */
  const writeContent = (operation: "snapshot" | "keepPartial", status: MessageStatus) =>
    Effect.fnUntraced(function*(id: AssistantMessageId, epoch: number, content: Content) {
      const changes = yield* encoded(operation, SqlRows.encodeContent(content))
      return yield* isChanged(
        operation,
        sql`UPDATE ${messages} SET ${sql.update(changes)}, revision = revision + 1
          WHERE id = ${id} AND status = ${status} AND epoch = ${epoch} RETURNING id${news}`
      )
    })

  /** The number of unreadable orphans. They stay first in the list, so a sweep must read that many more. */
  let unreadableOrphans = 0

  return SessionStore.of(storable({
    getSession: (conversationId) =>
      Effect.map(
        readConversations(
          "getSession",
          sql`SELECT id, session_id AS "sessionId" FROM ${conversations} WHERE id = ${conversationId}`
        ),
        ([found]) => Option.fromUndefinedOr(found?.sessionId)
      ),

    setSession: (conversationId, expected, next) =>
      isChanged(
        "setSession",
        Option.match(expected, {
          onNone: () =>
            sql`INSERT INTO ${conversations} ${sql.insert({ id: conversationId, session_id: next })}
              ON CONFLICT DO NOTHING RETURNING id`,
          onSome: (expected) =>
            sql`UPDATE ${conversations} SET session_id = ${next}
              WHERE id = ${conversationId} AND session_id = ${expected} RETURNING id`
        })
      ),

    claim: SqlClaim.make(table),

    renew: Effect.fnUntraced(function*(id, epoch, { millis, owner }) {
      const nowMillis = yield* Clock.currentTimeMillis
      const isOwner = owner === undefined ? sql.literal("1 = 1") : sql`owner = ${owner}`
      return yield* isChanged(
        "renew",
        sql`UPDATE ${messages} SET lease_until_millis = ${nowMillis + millis}
          WHERE id = ${id} AND finished_millis IS NULL AND epoch = ${epoch} AND ${isOwner} RETURNING id`
      )
    }),

    release: Effect.fnUntraced(function*(id, epoch) {
      const nowMillis = yield* Clock.currentTimeMillis
      return yield* isChanged(
        "release",
        sql`UPDATE ${messages} SET lease_until_millis = ${nowMillis}, owner = NULL
          WHERE id = ${id} AND finished_millis IS NULL AND epoch = ${epoch} RETURNING id`
      )
    }),

    takeOver: Effect.fnUntraced(function*(id, { millis, owner }) {
      const nowMillis = yield* Clock.currentTimeMillis
      return yield* readChanged(
        "takeOver",
        id,
        sql`UPDATE ${messages} SET ${sql.update({ owner, lease_until_millis: nowMillis + millis })},
            takeovers = CASE WHEN status = 'pending' AND owner IS NOT NULL THEN takeovers + 1 ELSE takeovers END,
            epoch = epoch + 1, revision = revision + 1
          WHERE id = ${id} AND finished_millis IS NULL AND lease_until_millis <= ${nowMillis}
          RETURNING ${ownColumns}${news}`
      )
    }),

    listOrphans: Effect.fnUntraced(function*(limit) {
      const nowMillis = yield* Clock.currentTimeMillis
      // This also covers NaN.
      if (!(limit >= 1)) return []
      const { errors, readable } = yield* listReadable(
        "listOrphans",
        // Sorted and limited before reading the prompts, because SQLite would otherwise read the prompts of all orphans.
        sql`SELECT ${columns} FROM ${messages} WHERE position IN (
            SELECT position FROM ${messages} WHERE finished_millis IS NULL AND lease_until_millis <= ${nowMillis}
            ORDER BY position LIMIT ${atMost(limit + unreadableOrphans)}
          ) ORDER BY position`
      )
      unreadableOrphans = Math.max(unreadableOrphans, errors.length)
      return readable.slice(0, limit)
    }),

    findOrphan: Effect.fnUntraced(function*(conversationId) {
      const nowMillis = yield* Clock.currentTimeMillis
      const orphan = yield* readState(
        "findOrphan",
        sql`SELECT ${stateColumns} FROM ${messages}
          WHERE conversation_id = ${conversationId} AND status = 'pending' AND lease_until_millis <= ${nowMillis}`
      )
      return Option.map(orphan, ({ id }) => id)
    }),

    recordPrompt: Effect.fnUntraced(function*(id, epoch, record) {
      const columns = yield* encoded("recordPrompt", SqlRows.encodePromptRecord(record))
      return yield* isChanged(
        "recordPrompt",
        sql`UPDATE ${messages} SET revision = revision + 1, request = CASE
            WHEN ${promptOfMessage} = ${columns.prompt} THEN ${columns.withoutParts} ELSE ${columns.whole}
          END
          WHERE id = ${id} AND status = 'pending' AND epoch = ${epoch} RETURNING id${news}`
      )
    }),

    snapshot: writeContent("snapshot", "pending"),

    finalize: Effect.fnUntraced(function*(id, epoch, outcome) {
      const finished_millis = yield* Clock.currentTimeMillis
      const changes = yield* encoded("finalize", SqlRows.encodeOutcome(outcome))
      return yield* isChanged(
        "finalize",
        sql`UPDATE ${messages} SET ${sql.update({ ...changes, finished_millis })}, revision = revision + 1
          WHERE id = ${id} AND status = 'pending' AND epoch = ${epoch} RETURNING id${news}`
      )
    }),

    cancel: Effect.fnUntraced(function*(id, content) {
      const finished_millis = yield* Clock.currentTimeMillis
      const changes = yield* encoded("cancel", SqlRows.encodeFallback(content))
      for (let round = 0; round < maxRounds; round++) {
        const cancelled = yield* readChanged(
          "cancel",
          id,
          sql`UPDATE ${messages} SET ${sql.update({ ...changes, status: "cancelled", finished_millis })},
              revision = revision + 1
            WHERE id = ${id} AND finished_millis IS NULL RETURNING ${ownColumns}${news}`
        )
        if (Option.isSome(cancelled)) return cancelled.value

        const existing = yield* findMessage("cancel", id)
        if (Option.isNone(existing)) return yield* new UnknownMessage({ messageId: id })
        if (existing.value.status === "cancelled") return existing.value
        if (!isOpen(existing.value.status)) {
          return yield* new AlreadyFinished({ messageId: id, status: existing.value.status })
        }
        // The message was claimed between the two statements.
      }
      return yield* tooBusy("cancel")
    }),

    keepPartial: writeContent("keepPartial", "cancelled"),

    getMessage: (id) => findMessage("getMessage", id),

    getState: (id) =>
      Effect.map(
        readState("getState", sql`SELECT ${stateColumns} FROM ${messages} WHERE id = ${id}`),
        Option.map(({ epoch, revision, status }) => ({ status, epoch, revision }))
      ),

    listMessages: (conversationId, limit) =>
      limit >= 1
        ? Effect.map(
          listMessages(
            "listMessages",
            sql`SELECT ${columns} FROM ${messages} WHERE conversation_id = ${conversationId}
              ORDER BY position DESC LIMIT ${atMost(limit)}`
          ),
          (newestFirst) => newestFirst.toReversed()
        )
        : Effect.succeed([]),

    listByStatus: ({ limit, status }) =>
      limit >= 1
        ? listMessages(
          "listByStatus",
          sql`SELECT ${columns} FROM ${messages} WHERE ${
            status === undefined ? sql.literal("1 = 1") : sql`status = ${status}`
          } ORDER BY position DESC LIMIT ${atMost(limit)}`
        )
        : Effect.succeed([]),

    prune: Effect.fnUntraced(function*(finishedBeforeMillis) {
      let pruned = 0
      for (;;) {
        const found = sql<{ id: string }>`
          SELECT id FROM ${messages} WHERE finished_millis < ${finishedBeforeMillis} LIMIT ${pruneBatch}`
        const old = (yield* query("prune", found)).map(({ id }) => id)
        if (old.length === 0) return pruned
        // Finished messages stay finished, so the deletion may come after the query. One transaction keeps readers from seeing a
        // message without its prompt, and a crash from leaving half of it.
        const gone = yield* query(
          "prune",
          sql.withTransaction(Effect.gen(function*() {
            yield* sql`DELETE FROM ${asks} WHERE ${sql.in("message_id", old)} RETURNING id${news}`
            yield* sql`DELETE FROM ${prompts} WHERE ${sql.in("message_id", old)}`
            return yield* sql`DELETE FROM ${messages} WHERE ${sql.in("id", old)} RETURNING id${news}`
          }))
        )
        pruned += gone.length
        if (old.length < pruneBatch) return pruned
      }
    }),

    ...SqlAsks.make(table, watch),

    changes: (id) => watch("changes", id, sql`SELECT revision AS state FROM ${messages} WHERE id = ${id}`)
  }))
})

// internal

/** Deletes in batches: one statement over a million rows would hold SQLite's only lock, and the event loop, for seconds. */
const pruneBatch = 1000
