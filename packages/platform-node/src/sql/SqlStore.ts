/**
 * The operations of `SqlSessionStore`. Most are one guarded statement, or a few without a transaction. Those that change several tables
 * use a short one: a new message, its recorded prompt, its journal, and its deletion.
 */
import type { AssistantMessageId } from "@opencode-turn/core/Ids"
import * as Journal from "@opencode-turn/core/Journal"
import { SessionStore, type Since, type StoreError, UnknownMessage } from "@opencode-turn/core/SessionStore"
import { storable } from "@opencode-turn/core/StorableIds"
import { type Content, isOpen, type MessageStatus } from "@opencode-turn/core/StoredMessage"
import { AlreadyFinished } from "@opencode-turn/core/TurnError"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type * as SqlClient from "effect/sql/SqlClient"
import * as SqlAsks from "./SqlAsks.ts"
import * as SqlClaim from "./SqlClaim.ts"
import * as SqlMigrations from "./SqlMigrations.ts"
import * as SqlQueue from "./SqlQueue.ts"
import * as SqlRenew from "./SqlRenew.ts"
import * as SqlRows from "./SqlRows.ts"
import { atMost, make as makeTable, maxRounds, tooBusy } from "./SqlTable.ts"
import * as SqlWatch from "./SqlWatch.ts"

/**
 * `listen` tells of other connections' changes. `connections`: how many the client has. `reserved`: a client for the renewals of leases,
 * which must not wait behind anything else.
 */
export interface Options {
  readonly listen?: SqlWatch.Listen | undefined
  readonly connections?: number | undefined
  readonly reserved?: SqlClient.SqlClient | undefined
}

/** Makes the store over existing tables. */
export const make = Effect.fnUntraced(function*(
  { connections = 1, listen, reserved }: Options = {}
): Effect.fn.Return<SessionStore["Service"], StoreError, SqlClient.SqlClient | Scope.Scope> {
  yield* SqlMigrations.check
  const table = yield* makeTable
  const { untilState, watch, wrote } = yield* SqlWatch.make(listen)
  const { asks, columns, conversations, encoded, findMessage, isChanged, journal, messages, news, prompts, query } =
    table
  const { holdColumns, ownColumns, readChanged, listMessages, listReadable, listStates, readConversations } = table
  const { now, readHold, readState, records, sql, stateColumns, stateNews } = table

  const renew = SqlRenew.make(table, reserved)
  const queue = yield* SqlQueue.make(connections)

  /** Changes a message with this status and epoch, and writes to its journal what has changed in its reply. */
  const writeReply = Effect.fnUntraced(function*(
    operation: "snapshot" | "finalize" | "keepPartial",
    { changes, content, epoch, id, since, status }: {
      readonly id: AssistantMessageId
      readonly epoch: number
      readonly status: MessageStatus
      readonly changes: Record<string, unknown>
      readonly content: Content
      readonly since: Since | undefined
    }
  ) {
    const told = Journal.between(since?.before, content, since?.reason)
    const entries = yield* Effect.forEach(
      told,
      (entry) => encoded(operation, SqlRows.encodeEntry(entry), `change of ${entry.key}`)
    )
    const update = sql<{ last: number }>`UPDATE ${messages} SET ${sql.update(changes)}, revision = revision + 1,
        journal_offset = journal_offset + ${entries.length}
      WHERE id = ${id} AND status = ${status} AND epoch = ${epoch} RETURNING journal_offset AS last${
      operation === "finalize" ? stateNews : news
    }`
    return yield* isChanged(operation, journal.writeWith(id, update, entries))
  })

  const before = (position: number | undefined) =>
    position === undefined ? sql.literal("1 = 1") : sql`position < ${position}`

  /** The number of unreadable orphans. They stay first in the list, so a sweep must read that many more. */
  let unreadableOrphans = 0

  const store: SessionStore["Service"] = {
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

    renew,

    release: Effect.fnUntraced(function*(id, epoch) {
      const nowMillis = yield* now
      return yield* isChanged(
        "release",
        sql`UPDATE ${messages} SET lease_until_millis = ${nowMillis}, owner = NULL
          WHERE id = ${id} AND finished_millis IS NULL AND epoch = ${epoch} RETURNING id`
      )
    }),

    takeOver: Effect.fnUntraced(function*(id, { millis, owner }) {
      const nowMillis = yield* now
      return yield* readChanged(
        "takeOver",
        id,
        sql`UPDATE ${messages} SET ${sql.update({ owner, lease_until_millis: nowMillis + millis })},
            takeovers = CASE WHEN status = 'pending' AND owner IS NOT NULL THEN takeovers + 1 ELSE takeovers END,
            epoch = epoch + 1, revision = revision + 1
          WHERE id = ${id} AND finished_millis IS NULL AND lease_until_millis <= ${nowMillis}
          RETURNING ${ownColumns}${stateNews}`
      )
    }),

    findBlocker: Effect.fnUntraced(function*(id) {
      const nowMillis = yield* now
      const own = yield* readState(
        "findBlocker",
        sql`SELECT ${stateColumns} FROM ${messages} WHERE id = ${id} AND status = 'queued'`
      )
      if (Option.isNone(own)) return Option.none()
      const { conversationId, position } = own.value
      const blocker = yield* readHold(
        "findBlocker",
        // Two statements in one, each with an index of its own.
        sql`SELECT * FROM (
            SELECT ${holdColumns}, 0 AS rank, position FROM ${messages}
            WHERE conversation_id = ${conversationId} AND status = 'pending' AND id <> ${id}
            UNION ALL
            SELECT ${holdColumns}, 1 AS rank, position FROM ${messages}
            WHERE conversation_id = ${conversationId} AND status = 'queued' AND position < ${position}
              AND (lease_until_millis IS NULL OR lease_until_millis > ${nowMillis})
          ) AS blocking ORDER BY rank, position LIMIT 1`
      )
      return Option.map(blocker, ({ id }) => id)
    }),

    listOrphans: Effect.fnUntraced(function*(limit, afterPosition = 0) {
      const nowMillis = yield* now
      // This also covers NaN.
      if (!(limit >= 1)) return []
      const { errors, readable } = yield* listReadable(
        "listOrphans",
        // The sign keeps SQLite from walking over all messages in the order of their positions: it uses the index of the leases.
        sql`SELECT ${stateColumns} FROM ${messages}
          WHERE finished_millis IS NULL AND lease_until_millis <= ${nowMillis} AND position > ${afterPosition}
          ORDER BY +position LIMIT ${atMost(limit + unreadableOrphans)}`
      )
      unreadableOrphans = Math.max(unreadableOrphans, errors.length)
      return readable.slice(0, limit)
    }),

    findOrphan: Effect.fnUntraced(function*(conversationId) {
      const nowMillis = yield* now
      const orphan = yield* readHold(
        "findOrphan",
        sql`SELECT ${holdColumns} FROM ${messages}
          WHERE conversation_id = ${conversationId} AND status = 'pending' AND lease_until_millis <= ${nowMillis}`
      )
      return Option.map(orphan, ({ id }) => id)
    }),

    recordPrompt: Effect.fnUntraced(function*(id, epoch, record) {
      const columns = yield* encoded("recordPrompt", SqlRows.encodePromptRecord(record))
      return yield* isChanged(
        "recordPrompt",
        sql.withTransaction(Effect.gen(function*() {
          const changed = yield* sql`UPDATE ${messages} SET revision = revision + 1, started = ${columns.started}
            WHERE id = ${id} AND status = 'pending' AND epoch = ${epoch} RETURNING id${news}`
          if (changed.length === 0) return []
          yield* sql`INSERT INTO ${records} (message_id, request)
            SELECT ${id}, CASE WHEN EXISTS (SELECT 1 FROM ${prompts} WHERE message_id = ${id} AND prompt = ${columns.prompt})
              THEN ${columns.withoutParts} ELSE ${columns.whole} END
            WHERE 1 = 1
            ON CONFLICT (message_id) DO UPDATE SET request = excluded.request`
          return changed
        }))
      )
    }),

    snapshot: Effect.fnUntraced(function*(id, epoch, content, since) {
      const changes = yield* encoded("snapshot", SqlRows.encodeContent(content))
      return yield* queue.snapshot(writeReply("snapshot", { id, epoch, status: "pending", changes, content, since }))
    }),

    finalize: Effect.fnUntraced(function*(id, epoch, outcome, since) {
      const finished_millis = yield* Clock.currentTimeMillis
      const changes = {
        ...yield* encoded("finalize", SqlRows.encodeOutcome(outcome)),
        finished_millis,
        ...(outcome.isStopDue === true && { stop_due_millis: finished_millis })
      }
      return yield* queue.end(
        writeReply("finalize", { id, epoch, status: "pending", changes, content: outcome, since })
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
              stop_due_millis = CASE WHEN started IS NULL THEN NULL ELSE CAST(${finished_millis} AS DOUBLE PRECISION) END,
              revision = revision + 1
            WHERE id = ${id} AND finished_millis IS NULL RETURNING ${ownColumns}${stateNews}`
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

    keepPartial: Effect.fnUntraced(function*(id, epoch, partial, since) {
      const changes = yield* encoded("keepPartial", SqlRows.encodeContent(partial))
      return yield* writeReply("keepPartial", { id, epoch, status: "cancelled", changes, content: partial, since })
    }),

    listStops: Effect.fnUntraced(function*({ conversationId, endedSinceMillis, limit }) {
      const nowMillis = yield* now
      if (!(limit >= 1)) return []
      const { readable } = yield* listReadable(
        "listStops",
        sql`SELECT ${stateColumns} FROM ${messages} WHERE ${
          sql.and([
            sql`stop_due_millis IS NOT NULL`,
            sql`(lease_until_millis IS NULL OR lease_until_millis <= ${nowMillis})`,
            ...(endedSinceMillis === undefined ? [] : [sql`stop_due_millis >= ${endedSinceMillis}`]),
            ...(conversationId === undefined ? [] : [sql`conversation_id = ${conversationId}`])
          ])
        } ORDER BY stop_due_millis DESC LIMIT ${atMost(limit)}`
      )
      return readable
    }),

    settleStop: (id) =>
      Effect.asVoid(query(
        "settleStop",
        sql`UPDATE ${messages} SET stop_due_millis = NULL WHERE id = ${id} AND stop_due_millis IS NOT NULL RETURNING id`
      )),

    markReverted: (by, { beforePosition, conversationId, fromPosition }) =>
      Effect.asVoid(query(
        "markReverted",
        sql`UPDATE ${messages} SET reverted_by = ${by}, revision = revision + 1
          WHERE conversation_id = ${conversationId} AND position >= ${fromPosition} AND position < ${beforePosition}
            AND reverted_by IS NULL RETURNING id${news}`
      )),

    unmarkReverted: (by) =>
      Effect.asVoid(query(
        "unmarkReverted",
        sql`UPDATE ${messages} SET reverted_by = NULL, revision = revision + 1
          WHERE reverted_by = ${by} RETURNING id${news}`
      )),

    getMessage: (id) => findMessage("getMessage", id),

    getState: (id) => readState("getState", sql`SELECT ${stateColumns} FROM ${messages} WHERE id = ${id}`),

    listUpdates: (id, after, limit) =>
      limit >= 1 ? journal.read("listUpdates", id, after, atMost(limit)) : Effect.succeed([]),

    listMessages: (conversationId, limit, beforePosition) =>
      limit >= 1
        ? Effect.map(
          listMessages(
            "listMessages",
            sql`SELECT ${columns} FROM ${messages} WHERE conversation_id = ${conversationId} AND ${
              before(beforePosition)
            }
              ORDER BY ${messages}.position DESC LIMIT ${atMost(limit)}`
          ),
          (newestFirst) => newestFirst.toReversed()
        )
        : Effect.succeed([]),

    listByStatus: ({ beforePosition, conversationId, limit, status }) =>
      limit >= 1
        ? listStates(
          "listByStatus",
          sql`SELECT ${stateColumns} FROM ${messages} WHERE ${
            sql.and([
              before(beforePosition),
              ...(status === undefined ? [] : [sql`status = ${status}`]),
              ...(conversationId === undefined ? [] : [sql`conversation_id = ${conversationId}`])
            ])
          } ORDER BY ${messages}.position DESC LIMIT ${atMost(limit)}`
        )
        : Effect.succeed([]),

    listConversations: ({ beforePosition, limit }) =>
      limit >= 1
        ? listStates(
          "listConversations",
          // From the newest message on, until enough of them are the last of their conversation.
          sql`SELECT ${stateColumns} FROM ${messages} WHERE ${before(beforePosition)} AND NOT EXISTS (
              SELECT 1 FROM ${messages} AS later
              WHERE later.conversation_id = ${messages}.conversation_id AND later.position > ${messages}.position)
            ORDER BY ${messages}.position DESC LIMIT ${atMost(limit)}`
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
            for (const table of [prompts, records, sql(SqlRows.journalTable)]) {
              yield* sql`DELETE FROM ${table} WHERE ${sql.in("message_id", old)}`
            }
            const gone = yield* sql<{ conversationId: string }>`DELETE FROM ${messages} WHERE ${sql.in("id", old)}
              RETURNING conversation_id AS "conversationId"${stateNews}`
            const left = Array.from(new Set(gone.map(({ conversationId }) => conversationId)))
            if (left.length > 0) {
              yield* sql`DELETE FROM ${conversations} WHERE ${sql.in("id", left)} AND NOT EXISTS (
                SELECT 1 FROM ${messages} WHERE conversation_id = ${conversations}.id)`
            }
            return gone
          }))
        )
        pruned += gone.length
        // Others have their turn between two batches.
        yield* SqlQueue.nextTurn
        if (old.length < pruneBatch) return pruned
      }
    }),

    ...SqlAsks.make(table, watch),

    untilState: (id, isTrue) => untilState("untilState", id, isTrue),

    changes: (id) => watch("changes", "message", id)
  }
  return SessionStore.of(storable(telling(store, wrote)))
})

// internal

/** Tells the watchers of what this process writes. */
const telling = (
  store: SessionStore["Service"],
  wrote: SqlWatch.SqlWatch["wrote"]
): SessionStore["Service"] => {
  const after = (id: string, what?: "state") => <A, E>(effect: Effect.Effect<A, E>) =>
    Effect.tap(effect, () => wrote(id, what))
  return {
    ...store,
    claim: (claim) => after(claim.id, "state")(store.claim(claim)),
    takeOver: (id, lease) => after(id, "state")(store.takeOver(id, lease)),
    recordPrompt: (id, ...record) => after(id)(store.recordPrompt(id, ...record)),
    snapshot: (id, ...content) => after(id)(store.snapshot(id, ...content)),
    finalize: (id, ...outcome) => after(id, "state")(store.finalize(id, ...outcome)),
    cancel: (id, content) => after(id, "state")(store.cancel(id, content)),
    keepPartial: (id, ...partial) => after(id)(store.keepPartial(id, ...partial)),
    markReverted: (by, range) => Effect.tap(store.markReverted(by, range), () => wrote(undefined)),
    unmarkReverted: (by) => Effect.tap(store.unmarkReverted(by), () => wrote(undefined)),
    prune: (finishedBeforeMillis) => Effect.tap(store.prune(finishedBeforeMillis), () => wrote(undefined)),
    openAsk: (asked) => after(asked.ask.id)(store.openAsk(asked)),
    answerAsk: (id, answer) => after(id)(store.answerAsk(id, answer)),
    withdrawAsk: (id) => after(id)(store.withdrawAsk(id))
  }
}

/** Deletes in batches: one statement over a million rows would hold SQLite's only lock, and the event loop, for seconds. */
const pruneBatch = 40
