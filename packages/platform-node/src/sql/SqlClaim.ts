/**
 * Claims a message in a SQL database: decides whether the claimant creates it, takes it over, waits, or is refused.
 */
import type { Claim, StoredMessage } from "@opencode-turn/core/SessionStore"
import { StoreError } from "@opencode-turn/core/SessionStore"
import { excerptOf, isHeldByOther, isOpen } from "@opencode-turn/core/StoredMessage"
import { TurnInProgress } from "@opencode-turn/core/TurnError"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as SqlRows from "./SqlRows.ts"
import type { SqlTable, Statement } from "./SqlTable.ts"
import { maxRounds, tooBusy } from "./SqlTable.ts"

/** `SessionStore.claim` over the table. */
export const make = (
  {
    encoded,
    findMessage,
    messages,
    now,
    holdColumns,
    journal,
    ownColumns,
    prompts,
    readChanged,
    readHold,
    readMessage,
    records,
    sql,
    stateNews
  }: SqlTable
) => {
  const queueLength = (conversationId: string) =>
    sql.onDialectOrElse({
      pg: () => sql`opencode_turn_queue_length(${conversationId})`,
      orElse: () =>
        sql`(SELECT count(*) FROM ${messages} WHERE conversation_id = ${conversationId} AND status = 'queued')`
    })

  /** Other messages of the conversation that a message must wait for; `isBefore` selects among the queued ones. */
  const inTheWay = (conversationId: string, nowMillis: number, isBefore = sql.literal("1 = 1")) =>
    sql`(
      EXISTS (SELECT 1 FROM ${messages} AS other WHERE other.conversation_id = ${conversationId} AND other.status = 'pending')
      OR EXISTS (
        SELECT 1 FROM ${messages} AS other
        WHERE other.conversation_id = ${conversationId} AND other.status = 'queued'
          AND (other.lease_until_millis IS NULL OR other.lease_until_millis > ${nowMillis}) AND ${isBefore}
      )
    )`

  return Effect.fnUntraced(function*(
    { conversationId, draft, id, lease, maxQueued, prompt, whenBusy }: Claim
  ): Effect.fn.Return<StoredMessage, TurnInProgress | StoreError> {
    const createdMillis = yield* Clock.currentTimeMillis
    const nowMillis = yield* now
    const owner = lease?.owner ?? null
    const leaseUntilMillis = lease === undefined ? null : nowMillis + lease.millis
    const isLimited = maxQueued !== undefined && maxQueued !== Infinity
    const isBusy = inTheWay(conversationId, nowMillis)
    const status = whenBusy === "queue"
      ? sql`CASE WHEN ${isBusy} THEN 'queued' ELSE 'pending' END`
      : sql.literal("'pending'")
    const mayJoin = whenBusy !== "queue"
      ? sql`NOT ${isBusy}`
      : isLimited
      // A CASE, because counting takes a lock on PostgreSQL.
      ? sql`CASE WHEN ${isBusy} THEN ${queueLength(conversationId)} < ${maxQueued} ELSE 1 = 1 END`
      : sql.literal("1 = 1")
    // A full queue is the only reason to refuse a claimant that is ready to wait; a message claimed at the same time is not.
    const isRefused = whenBusy !== "queue"
      ? sql.literal("1 = 1")
      : isLimited
      ? sql`${queueLength(conversationId)} >= ${maxQueued}`
      : sql.literal("1 = 0")

    // It conflicts with the same message, and with a pending message through the partial unique index.
    const insert = ({ excerpt }: ClaimColumns) =>
      sql`INSERT INTO ${messages} (
          id, conversation_id, status, epoch, revision, owner, lease_until_millis, excerpt, usage, created_millis
        )
        SELECT ${id}, ${conversationId}, ${status}, 1, 1, ${owner}, CAST(${leaseUntilMillis} AS DOUBLE PRECISION),
          ${excerpt}, ${SqlRows.emptyReply.usage}, CAST(${createdMillis} AS DOUBLE PRECISION)
        WHERE ${mayJoin}
        ON CONFLICT DO NOTHING RETURNING ${ownColumns}${stateNews}`
    // An existing prompt or journal belongs to a message that somebody deleted by hand.
    const insertPrompt = ({ prompt }: ClaimColumns) =>
      sql`INSERT INTO ${prompts} ${sql.insert({ message_id: id, prompt })}
        ON CONFLICT (message_id) DO UPDATE SET prompt = excluded.prompt`
    const insertRecord = ({ draft }: ClaimColumns) =>
      sql`INSERT INTO ${records} ${sql.insert({ message_id: id, draft })}
        ON CONFLICT (message_id) DO UPDATE SET draft = excluded.draft, request = NULL`
    // The message and its prompt become visible together.
    const insertBoth = (claimed: ClaimColumns) =>
      sql.withTransaction(Effect.flatMap(insert(claimed), (made) =>
        made.length === 0
          ? Effect.succeed([])
          : Effect.as(
            Effect.andThen(journal.clear(id), Effect.andThen(insertPrompt(claimed), insertRecord(claimed))),
            made.map((row) => ({ ...row, prompt: claimed.prompt, draft: claimed.draft, request: null }))
          )))

    const findState = readHold("claim", sql`SELECT ${holdColumns} FROM ${messages} WHERE id = ${id}`)

    // Each step is atomic. If the state changes between two steps, none applies and the next round begins.
    for (let round = 0; round < maxRounds; round++) {
      // A queued turn claims repeatedly, so this reads the state first: its prompt may be large and need not be encoded or sent again.
      const before = yield* findState
      if (Option.isNone(before)) {
        const claimed = yield* encoded(
          "claim",
          SqlRows.encodeClaim({ prompt, draft: draft ?? null, excerpt: excerptOf(prompt) })
        )
        const made = yield* readMessage("claim", insertBoth(claimed))
        if (Option.isSome(made)) return made.value
      }

      const existing = Option.getOrUndefined(Option.isSome(before) ? before : yield* findState)
      if (existing === undefined) {
        const other = yield* readHold(
          "claim",
          sql`SELECT ${holdColumns} FROM ${messages} WHERE conversation_id = ${conversationId} AND finished_millis IS NULL
              AND (status = 'pending' OR lease_until_millis IS NULL OR lease_until_millis > ${nowMillis}) AND ${isRefused}
            ORDER BY CASE status WHEN 'pending' THEN 0 ELSE 1 END, position LIMIT 1`
        )
        if (Option.isNone(other)) continue
        return yield* new TurnInProgress({ conversationId, messageId: other.value.id })
      }
      if (existing.conversationId !== conversationId) {
        return yield* new StoreError({
          operation: "claim",
          reason: "the message belongs to another conversation: choose a new message id",
          isRetryable: false
        })
      }

      const isFree = sql`(
        lease_until_millis IS NULL OR lease_until_millis <= ${nowMillis} OR owner IS NOT DISTINCT FROM ${owner}
      )`
      // A released message has no owner, and a claimant without a lease is not its previous owner.
      const isSameOwner = sql`(
        owner IS NOT DISTINCT FROM ${owner} AND (owner IS NOT NULL OR lease_until_millis IS NULL)
      )`
      const taken = yield* readChanged(
        "claim",
        id,
        existing.status === "pending"
          ? sql`UPDATE ${messages} SET ${sql.update({ owner, lease_until_millis: leaseUntilMillis })},
              takeovers = CASE
                WHEN owner IS NOT NULL AND lease_until_millis <= ${nowMillis} AND NOT ${isSameOwner} THEN takeovers + 1
                ELSE takeovers
              END,
              epoch = epoch + 1, revision = revision + 1
            WHERE id = ${id} AND status = 'pending' AND ${isFree} RETURNING ${ownColumns}${stateNews}`
          : unlessDoubled(sql`UPDATE ${messages} AS waiting
            SET ${sql.update({ owner, lease_until_millis: leaseUntilMillis })}, status = 'pending',
              epoch = CASE WHEN ${isSameOwner} THEN epoch ELSE epoch + 1 END, revision = revision + 1
            WHERE id = ${id} AND status = 'queued' AND ${isFree}
              AND NOT ${inTheWay(conversationId, nowMillis, sql.literal("other.position < waiting.position"))}
            RETURNING ${ownColumns}${stateNews}`)
      )
      if (Option.isSome(taken)) return taken.value

      const waits = yield* readChanged(
        "claim",
        id,
        sql`UPDATE ${messages} SET ${sql.update({ owner, lease_until_millis: leaseUntilMillis })},
            epoch = CASE WHEN ${isSameOwner} THEN epoch ELSE epoch + 1 END,
            revision = CASE WHEN ${isSameOwner} THEN revision ELSE revision + 1 END
          WHERE id = ${id} AND status = 'queued' AND ${isFree} RETURNING ${ownColumns}`
      )
      if (Option.isSome(waits)) return waits.value

      const found = Option.getOrUndefined(yield* findMessage("claim", id))
      if (found !== undefined && !isOpen(found.status)) return found
      if (found !== undefined && isHeldByOther(found, lease?.owner, createdMillis)) {
        return yield* new TurnInProgress({ conversationId, messageId: id })
      }
    }
    return yield* tooBusy("claim")
  })
}

// internal

type ClaimColumns = Effect.Success<ReturnType<typeof SqlRows.encodeClaim>>

/** Changes nothing if another message of the conversation became pending at the same time. */
const unlessDoubled = (statement: Statement): Statement =>
  Effect.catchIf(statement, (error) => error.reason._tag === "UniqueViolation", () => Effect.succeed([]))
