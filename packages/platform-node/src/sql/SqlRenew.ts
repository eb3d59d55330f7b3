/**
 * Renews leases in a SQL database: the renewals of one moment are one statement, because all turns of a process renew at the same moments.
 */
import type { AssistantMessageId } from "@opencode-turn/core/Ids"
import type { SessionStore, StoreError } from "@opencode-turn/core/SessionStore"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Request from "effect/Request"
import * as RequestResolver from "effect/RequestResolver"
import type * as SqlClient from "effect/sql/SqlClient"
import * as SqlRows from "./SqlRows.ts"
import type { SqlTable } from "./SqlTable.ts"

/** `SessionStore.renew` over the table, through a client of its own where there is one. */
export const make = (
  { now, query, sql: shared }: SqlTable,
  reserved: SqlClient.SqlClient = shared
): SessionStore["Service"]["renew"] => {
  const sql = reserved.withoutTransforms()
  const messages = sql(SqlRows.messagesTable)
  const renewSome = Effect.fnUntraced(function*(some: ReadonlyArray<Held>, millis: number) {
    const nowMillis = yield* now
    const held = some.map(({ epoch, id, owner }) =>
      owner === undefined
        ? sql`(id = ${id} AND epoch = ${epoch})`
        : sql`(id = ${id} AND epoch = ${epoch} AND owner = ${owner})`
    )
    const renewed = yield* query(
      "renew",
      sql<Renewed>`UPDATE ${messages} SET lease_until_millis = ${nowMillis + millis}
        WHERE ${sql.in("id", some.map(({ id }) => id))} AND finished_millis IS NULL AND ${sql.or(held)}
        RETURNING id, epoch, owner`
    )
    const byId = new Map(renewed.map((row) => [row.id, row]))
    return ({ epoch, id, owner }: Held) => {
      const row = byId.get(id)
      return row !== undefined && row.epoch === epoch && (owner === undefined || row.owner === owner)
    }
  })

  const resolver = RequestResolver.make<Renew>((entries) =>
    Effect.forEach(
      Arr.chunksOf(entries.toSorted((self, that) => self.request.millis - that.request.millis), batchLength)
        .flatMap((some) => Array.from(Map.groupBy(some, ({ request }) => request.millis))),
      ([millis, some]) =>
        Effect.map(Effect.exit(renewSome(some.map(({ request }) => request), millis)), (exit) => {
          for (const entry of some) {
            entry.completeUnsafe(Exit.map(exit, (isHeld) => isHeld(entry.request)))
          }
        }),
      { discard: true }
    )
  ).pipe(RequestResolver.batchN(batchLength))

  return (id, epoch, { millis, owner }) => Effect.request(new Renew({ id, epoch, owner, millis }), resolver)
}

// internal

interface Held {
  readonly id: AssistantMessageId
  readonly epoch: number
  readonly owner: string | undefined
}

interface Renewed {
  readonly id: string
  readonly epoch: number
  readonly owner: string | null
}

class Renew extends Request.TaggedClass("Renew")<Held & { readonly millis: number }, boolean, StoreError> {}

/** How many leases one statement renews: SQLite allows an expression of 1,000 terms. */
const batchLength = 200
