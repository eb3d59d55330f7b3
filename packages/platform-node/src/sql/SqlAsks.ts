/**
 * The asks of agents in a SQL database: opened, answered once, withdrawn, and watched.
 */
import type { AskId } from "@opencode-turn/core/Ids"
import type { SessionStore } from "@opencode-turn/core/SessionStore"
import { AskClosed, isSameAnswer, UnknownAsk } from "@opencode-turn/core/StoredAsk"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as SqlRows from "./SqlRows.ts"
import { atMost, maxRounds, type SqlTable, type Statement, tooBusy } from "./SqlTable.ts"
import type { SqlWatch } from "./SqlWatch.ts"

type Asks = Pick<
  SessionStore["Service"],
  "openAsk" | "answerAsk" | "withdrawAsk" | "getAsk" | "listAsks" | "askChanges"
>

/** The operations of `SessionStore` on asks. */
export const make = (
  { asks, encoded, isChanged, listAsks, news, readAsks, sql }: SqlTable,
  watch: SqlWatch["watch"]
): Asks => {
  const columns = sql.literal(SqlRows.askColumns)
  const isAwaited = sql.literal(SqlRows.isAwaited)

  const readAsk = (operation: string, statement: Statement) =>
    Effect.map(readAsks(operation, statement), (found) => Option.fromUndefinedOr(found[0]))

  const findAsk = (operation: string, id: AskId) =>
    readAsk(operation, sql`SELECT ${columns} FROM ${asks} WHERE id = ${id}`)

  return {
    openAsk: Effect.fnUntraced(function*({ ask, conversationId, messageId }) {
      const created_millis = yield* Clock.currentTimeMillis
      const asked = yield* encoded("openAsk", SqlRows.encodeAsk({ ask }))
      const row = {
        ...asked,
        id: ask.id,
        message_id: messageId,
        conversation_id: conversationId,
        status: "open",
        created_millis
      }
      for (let round = 0; round < maxRounds; round++) {
        const opened = yield* readAsk(
          "openAsk",
          sql`INSERT INTO ${asks} ${sql.insert(row)}
            ON CONFLICT (id) DO UPDATE SET
              message_id = excluded.message_id, conversation_id = excluded.conversation_id, ask = excluded.ask
            WHERE ${asks}.status = 'open' AND ${asks}.message_id <> excluded.message_id
            RETURNING ${columns}${news}`
        )
        if (Option.isSome(opened)) return opened.value

        const existing = yield* findAsk("openAsk", ask.id)
        if (Option.isSome(existing)) return existing.value
        // The row was pruned between the two statements.
      }
      return yield* tooBusy("openAsk", "the ask")
    }),

    answerAsk: Effect.fnUntraced(function*(id, answer) {
      const closed_millis = yield* Clock.currentTimeMillis
      const changes = yield* encoded("answerAsk", SqlRows.encodeAnswer({ answer }))
      for (let round = 0; round < maxRounds; round++) {
        const answered = yield* readAsk(
          "answerAsk",
          sql`UPDATE ${asks} SET ${sql.update({ ...changes, status: "answered", closed_millis })}
            WHERE id = ${id} AND status = 'open' AND ${isAwaited} RETURNING ${columns}${news}`
        )
        if (Option.isSome(answered)) return answered.value

        const existing = yield* findAsk("answerAsk", id)
        if (Option.isNone(existing)) return yield* new UnknownAsk({ askId: id })
        const { answer: stored, status } = existing.value
        if (stored !== null && isSameAnswer(stored, answer)) return existing.value
        if (status !== "open") return yield* new AskClosed({ askId: id, status })
        // The ask was opened between the two statements, or moved to another message.
      }
      return yield* tooBusy("answerAsk", "the ask")
    }),

    withdrawAsk: Effect.fnUntraced(function*(id) {
      const closed_millis = yield* Clock.currentTimeMillis
      return yield* isChanged(
        "withdrawAsk",
        sql`UPDATE ${asks} SET ${sql.update({ status: "withdrawn", closed_millis })}
          WHERE id = ${id} AND status = 'open' AND ${isAwaited} RETURNING id${news}`
      )
    }),

    getAsk: (id) => findAsk("getAsk", id),

    listAsks: ({ after, conversationId, limit, messageId }) =>
      limit >= 1
        ? listAsks(
          "listAsks",
          sql`SELECT ${columns} FROM ${asks} WHERE ${
            sql.and([
              sql`status = 'open'`,
              ...(conversationId === undefined ? [] : [sql`conversation_id = ${conversationId}`]),
              ...(messageId === undefined ? [] : [sql`message_id = ${messageId}`]),
              ...(after === undefined
                ? []
                : [sql`position > COALESCE((SELECT position FROM ${asks} AS shown WHERE shown.id = ${after}), 0)`]),
              isAwaited
            ])
          } ORDER BY position LIMIT ${atMost(limit)}`
        )
        : Effect.succeed([]),

    askChanges: (id) => watch("askChanges", "ask", id)
  }
}
