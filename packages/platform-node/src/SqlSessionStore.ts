/**
 * `SessionStore` in a SQL database: one implementation over Effect's `SqlClient`, for SQLite and PostgreSQL.
 *
 * **Responsibilities**
 * - Every change is one statement that names the state it expects, and the row it gives back tells who won. No operation
 *   reads first and writes unguarded later, so none needs a transaction, and any number of processes may share a database.
 * - At most one pending message per conversation is a unique index, not a convention.
 * - A row that cannot be decoded is a `StoreError` with its table and id.
 *
 * **Not responsibilities**: the tables (`SqlMigrations`), the connection (`SqliteClient`), when to delete what is old.
 *
 * @since 0.1.0
 */
import { type AssistantMessageId, SessionId } from "@opencode-turn/core/Ids"
import {
  SessionStore,
  StoredMessage,
  StoredRequest,
  StoreError,
  UnknownMessage
} from "@opencode-turn/core/SessionStore"
import { AlreadyFinished, TurnInProgress } from "@opencode-turn/core/TurnError"
import * as Usage from "@opencode-turn/core/Usage"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as SqlFailure from "./internal/SqlFailure.ts"
import * as SqliteClient from "./SqliteClient.ts"
import * as SqlMigrations from "./SqlMigrations.ts"

/**
 * A store in the database of the `SqlClient`, whose tables exist.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: Effect.Effect<SessionStore["Service"], StoreError, SqlClient.SqlClient> = Effect.gen(function*() {
  const sql = (yield* SqlClient.SqlClient).withoutTransforms()
  const database = yield* SqlFailure.database
  yield* SqlMigrations.check

  const messages = sql("opencode_turn_assistant_messages")
  const conversations = sql("opencode_turn_conversations")
  const columns = sql.literal(
    `id, conversation_id AS "conversationId", status, epoch, prompt, request, content, parts, usage, error, ` +
      `created_millis AS "createdMillis", finished_millis AS "finishedMillis"`
  )

  const query = (operation: string, statement: Effect.Effect<ReadonlyArray<object>, SqlError>) =>
    Effect.mapError(statement, database.failure(operation))

  /** For a guarded statement with `RETURNING`: whether it changed the row. */
  const isChanged = (operation: string, statement: Effect.Effect<ReadonlyArray<object>, SqlError>) =>
    Effect.map(query(operation, statement), (rows) => rows.length > 0)

  const readMessages = (operation: string, statement: Effect.Effect<ReadonlyArray<object>, SqlError>) =>
    Effect.flatMap(
      query(operation, statement),
      (rows) =>
        Effect.forEach(rows, (row) =>
          Effect.mapError(decodeMessage(row), (error) =>
            new StoreError({
              operation,
              reason: `${database.name}: ${undecodable("opencode_turn_assistant_messages", row, error)}`,
              isRetryable: false
            })))
    )

  const readMessage = (operation: string, statement: Effect.Effect<ReadonlyArray<object>, SqlError>) =>
    Effect.map(readMessages(operation, statement), (found) => Option.fromUndefinedOr(found[0]))

  const findMessage = (operation: string, id: AssistantMessageId) =>
    readMessage(operation, sql`SELECT ${columns} FROM ${messages} WHERE id = ${id}`)

  const encoded = <A>(operation: string, encoding: Effect.Effect<A, Schema.SchemaError>) =>
    Effect.mapError(encoding, (error) =>
      new StoreError({
        operation,
        reason: `${database.name}: ${field(error)} is not a value that can be kept as JSON`,
        isRetryable: false
      }))

  return SessionStore.of({
    getSession: Effect.fnUntraced(function*(conversationId) {
      const rows = yield* query(
        "getSession",
        sql`SELECT id, session_id AS "sessionId" FROM ${conversations} WHERE id = ${conversationId}`
      )
      if (rows[0] === undefined) return Option.none()
      const { sessionId } = yield* Effect.mapError(decodeConversation(rows[0]), (error) =>
        new StoreError({
          operation: "getSession",
          reason: `${database.name}: ${undecodable("opencode_turn_conversations", rows[0], error)}`,
          isRetryable: false
        }))
      return Option.some(sessionId)
    }),

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

    claim: Effect.fnUntraced(function*({ conversationId, id, prompt }) {
      const created_millis = yield* Clock.currentTimeMillis
      const columnsOfPrompt = yield* encoded("claim", encodePrompt({ prompt }))
      // Each step is atomic, and the state may change between two of them: then none applies, and the round is lost.
      for (let round = 0; round < maxRounds; round++) {
        // Conflicts with the message itself, and with the other pending one through the partial unique index.
        const made = yield* readMessage(
          "claim",
          sql`INSERT INTO ${messages} ${
            sql.insert({
              ...emptyReply,
              ...columnsOfPrompt,
              id,
              conversation_id: conversationId,
              status: "pending",
              epoch: 1,
              created_millis
            })
          } ON CONFLICT DO NOTHING RETURNING ${columns}`
        )
        if (Option.isSome(made)) return made.value

        const takenOver = yield* readMessage(
          "claim",
          sql`UPDATE ${messages} SET epoch = epoch + 1
            WHERE id = ${id} AND conversation_id = ${conversationId} AND status = 'pending' RETURNING ${columns}`
        )
        if (Option.isSome(takenOver)) return takenOver.value

        const existing = yield* findMessage("claim", id)
        if (Option.isSome(existing)) {
          if (existing.value.conversationId !== conversationId) {
            return yield* new StoreError({
              operation: "claim",
              reason: "the message belongs to another conversation: choose a new message id",
              isRetryable: false
            })
          }
          if (existing.value.status !== "pending") return existing.value
          continue
        }

        const other = yield* readMessage(
          "claim",
          sql`SELECT ${columns} FROM ${messages} WHERE conversation_id = ${conversationId} AND status = 'pending'`
        )
        if (Option.isSome(other)) {
          return yield* new TurnInProgress({ conversationId, messageId: other.value.id })
        }
      }
      return yield* tooBusy("claim")
    }),

    recordRequest: Effect.fnUntraced(function*(id, epoch, request) {
      const changes = yield* encoded("recordRequest", encodeRequest({ request }))
      return yield* isChanged(
        "recordRequest",
        sql`UPDATE ${messages} SET ${sql.update(changes)}
          WHERE id = ${id} AND status = 'pending' AND epoch = ${epoch} RETURNING id`
      )
    }),

    finalize: Effect.fnUntraced(function*(id, epoch, outcome) {
      const finished_millis = yield* Clock.currentTimeMillis
      const changes = yield* encoded("finalize", encodeOutcome(outcome))
      return yield* isChanged(
        "finalize",
        sql`UPDATE ${messages} SET ${sql.update({ ...changes, finished_millis })}
          WHERE id = ${id} AND status = 'pending' AND epoch = ${epoch} RETURNING id`
      )
    }),

    cancel: Effect.fnUntraced(function*(id, content) {
      const finished_millis = yield* Clock.currentTimeMillis
      const changes = yield* encoded("cancel", encodeText({ content }))
      for (let round = 0; round < maxRounds; round++) {
        const cancelled = yield* readMessage(
          "cancel",
          sql`UPDATE ${messages} SET ${sql.update({ ...changes, status: "cancelled", finished_millis })}
            WHERE id = ${id} AND status = 'pending' RETURNING ${columns}`
        )
        if (Option.isSome(cancelled)) return cancelled.value

        const existing = yield* findMessage("cancel", id)
        if (Option.isNone(existing)) return yield* new UnknownMessage({ messageId: id })
        if (existing.value.status === "cancelled") return existing.value
        if (existing.value.status !== "pending") {
          return yield* new AlreadyFinished({ messageId: id, status: existing.value.status })
        }
        // Claimed between the two statements.
      }
      return yield* tooBusy("cancel")
    }),

    keepPartial: Effect.fnUntraced(function*(id, epoch, partial) {
      const changes = yield* encoded("keepPartial", encodeContent(partial))
      return yield* isChanged(
        "keepPartial",
        sql`UPDATE ${messages} SET ${sql.update(changes)}
          WHERE id = ${id} AND status = 'cancelled' AND epoch = ${epoch} RETURNING id`
      )
    }),

    getMessage: (id) => findMessage("getMessage", id),

    listMessages: (conversationId, limit) =>
      limit >= 1
        ? Effect.map(
          readMessages(
            "listMessages",
            sql`SELECT ${columns} FROM ${messages} WHERE conversation_id = ${conversationId}
              ORDER BY position DESC LIMIT ${Math.min(Math.floor(limit), Number.MAX_SAFE_INTEGER)}`
          ),
          (newestFirst) => newestFirst.toReversed()
        )
        : Effect.succeed([])
  })
})

/**
 * Makes or updates the tables, see `SqlMigrations.run`: for a deployment step of its own.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMigrate: Layer.Layer<never, StoreError, SqlClient.SqlClient> = Layer.effectDiscard(SqlMigrations.run)

/**
 * The store over tables that exist, for a user of the database who may not change them. Fails when the tables are not of
 * this version.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWithoutMigrations: Layer.Layer<SessionStore, StoreError, SqlClient.SqlClient> = Layer.effect(
  SessionStore,
  make
)

/**
 * The store, with its tables made or updated first.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<SessionStore, StoreError, SqlClient.SqlClient> = Layer.effect(
  SessionStore,
  Effect.andThen(SqlMigrations.run, make)
)

/**
 * The store in a SQLite file of its own, made if it is missing; its folder is not. `:memory:` keeps it for as long as the
 * layer lives.
 *
 * **Details**
 *
 * With the default options a write survives a crash of the process; the last few before a power failure may be lost, see
 * `SqliteClient.make`. Any number of processes of one machine may share the file, which must not be on a network drive.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerSqlite = (options: SqliteClient.Options): Layer.Layer<SessionStore, StoreError> =>
  // Not `layer`: layers are built once per reference, and a second file would get the first one's store.
  Layer.effect(SessionStore, Effect.andThen(SqlMigrations.run, make)).pipe(
    Layer.provide(Layer.effect(
      SqlClient.SqlClient,
      Effect.mapError(SqliteClient.make(options), SqlFailure.sqliteDatabase(options.filename).failure("open"))
    )),
    Layer.provide(Reactivity.layer)
  )

// internal

/** How often a claim or a cancel looks again when the state changed under it: each time somebody else made progress. */
const maxRounds = 10

const tooBusy = (operation: string) =>
  new StoreError({ operation, reason: "the message changed too often meanwhile: try again", isRetryable: true })

const { content, error, parts, prompt, usage } = StoredMessage.fields

const ContentColumns = Schema.Struct({
  content: Schema.fromJsonString(content),
  parts: Schema.fromJsonString(parts),
  usage: Schema.fromJsonString(usage)
})

const OutcomeColumns = Schema.Struct({
  ...ContentColumns.fields,
  status: StoredMessage.fields.status,
  error: Schema.NullOr(Schema.fromJsonString(error.members[0]))
})

const Row = Schema.Struct({
  ...StoredMessage.fields,
  ...OutcomeColumns.fields,
  prompt: Schema.fromJsonString(prompt),
  request: Schema.NullOr(Schema.fromJsonString(StoredRequest))
})

const decodeMessage = Schema.decodeUnknownEffect(Row)
const decodeConversation = Schema.decodeUnknownEffect(Schema.Struct({ sessionId: SessionId }))
const encodePrompt = Schema.encodeEffect(Schema.Struct({ prompt: Row.fields.prompt }))
const encodeRequest = Schema.encodeEffect(Schema.Struct({ request: Schema.fromJsonString(StoredRequest) }))
const encodeText = Schema.encodeEffect(Schema.Struct({ content: ContentColumns.fields.content }))
const encodeContent = Schema.encodeEffect(ContentColumns)
const encodeOutcome = Schema.encodeEffect(OutcomeColumns)

const emptyReply = Schema.encodeSync(ContentColumns)({ content: "", parts: [], usage: Usage.zero })

/** Where a value does not fit its schema, by the top field alone: what lies deeper are the conversation's own words. */
const field = (error: Schema.SchemaError): string =>
  String(SchemaIssue.makeFormatterStandardSchemaV1()(error.issue).issues[0]?.path?.[0] ?? "the row")

const undecodable = (table: string, row: unknown, error: Schema.SchemaError): string => {
  const id = Predicate.hasProperty(row, "id") && Predicate.isString(row.id) ? JSON.stringify(row.id) : "without an id"
  return `table ${table} holds a row that cannot be decoded (id ${id}, field ${field(error)}): correct it or delete it`
}
