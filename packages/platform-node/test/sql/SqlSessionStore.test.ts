import { NodeFileSystem } from "@effect/platform-node"
import { assert, it } from "@effect/vitest"
import type { Ask } from "@opencode-turn/core/Ask"
import {
  AskId,
  AssistantMessageId,
  ConversationId,
  makeId,
  MessageId,
  PartId,
  SessionId
} from "@opencode-turn/core/Ids"
import type { Part } from "@opencode-turn/core/Part"
import type { Content, Outcome, PromptRecord } from "@opencode-turn/core/SessionStore"
import { SessionStore, StoreError } from "@opencode-turn/core/SessionStore"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import * as Usage from "@opencode-turn/core/Usage"
import * as SqliteClient from "@opencode-turn/platform-node/SqliteClient"
import * as SqlMigrations from "@opencode-turn/platform-node/SqlMigrations"
import * as SqlSessionStore from "@opencode-turn/platform-node/SqlSessionStore"
import { describeSessionStore } from "@opencode-turn/testing/SessionStoreContract"
import {
  Context,
  Effect,
  ErrorReporter,
  Exit,
  Fiber,
  FileSystem,
  Layer,
  Option,
  Queue,
  Scope,
  Stream,
  Tracer
} from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"

const temporaryFile = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  return `${yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-store-" })}/turn.db`
})

describeSessionStore("SqlSessionStore on SQLite in memory", SqlSessionStore.layerSqlite({ filename: ":memory:" }), {
  rounds: 100
})

describeSessionStore(
  "SqlSessionStore on a SQLite file",
  Layer.unwrap(Effect.map(temporaryFile, (filename) => SqlSessionStore.layerSqlite({ filename }))).pipe(
    Layer.provide(NodeFileSystem.layer)
  )
)

describeSessionStore(
  "SqlSessionStore over a client that renames columns",
  SqlSessionStore.layer.pipe(Layer.provide(SqliteClient.layer({
    filename: ":memory:",
    transformResultNames: (name) => `renamed_${name}`
  }))),
  { rounds: 50 }
)

const open = (filename: string) =>
  Effect.map(
    Layer.build(SqlSessionStore.layerSqlite({ filename })),
    (context) => Context.get(context, SessionStore)
  )

const openClient = (options: SqliteClient.Options) =>
  Effect.map(Layer.build(SqliteClient.layer(options)), (context) => Context.get(context, SqlClient.SqlClient))

/** A store and the client below it, to see and to spoil what is stored. */
const openBoth = (options: SqliteClient.Options) =>
  Effect.map(
    Layer.build(Layer.fresh(SqlSessionStore.layer).pipe(Layer.provideMerge(SqliteClient.layer(options)))),
    (context) => ({ store: Context.get(context, SessionStore), sql: Context.get(context, SqlClient.SqlClient) })
  )

const newTurn = Effect.gen(function*() {
  return {
    id: AssistantMessageId.make(yield* makeId("asm")),
    conversationId: ConversationId.make(yield* makeId("con")),
    prompt: [{ type: "text", text: "canary-prompt" }] as const
  }
})

const permissionOf = (id: string): Ask => ({
  _tag: "Permission",
  id: AskId.make(id),
  sessionId: SessionId.make("ses_1"),
  permission: "bash",
  patterns: [],
  always: [],
  metadata: {}
})

const completed: Outcome = {
  status: "completed",
  content: "canary-content",
  parts: [{
    type: "text",
    id: PartId.make("prt_1"),
    messageId: MessageId.make("msg_1"),
    text: "done",
    isComplete: true
  }],
  usage: Usage.zero,
  error: null
}

const record: PromptRecord = {
  sessionId: SessionId.make("ses_1"),
  prompt: {
    ids: { promptId: MessageId.make("msg_1"), partIds: [PartId.make("prt_1")] },
    parts: [{ type: "text", text: "canary-prompt" }]
  }
}

const newAsk = Effect.gen(function*() {
  return {
    _tag: "Permission",
    id: AskId.make(yield* makeId("per")),
    sessionId: SessionId.make("ses_1"),
    permission: "bash",
    patterns: ["canary"],
    always: [],
    metadata: {}
  } satisfies Ask
})

const numbers = (count: number) => Array.from({ length: count }, (_, n) => n)

/** A store's failure as it is told, with a check that it tells no value. */
const failureOf = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.flip(effect), (error) => {
    assert.instanceOf(error, StoreError)
    assert.notInclude(JSON.stringify(error), "canary")
    return error
  })

const dump = (sql: SqlClient.SqlClient) =>
  Effect.all([
    sql`SELECT * FROM sqlite_master ORDER BY name`.values,
    sql`SELECT * FROM opencode_turn_migrations`.values,
    sql`SELECT * FROM opencode_turn_assistant_messages`.values,
    sql`SELECT * FROM opencode_turn_prompts`.values,
    sql`SELECT * FROM opencode_turn_prompt_records`.values,
    sql`SELECT * FROM opencode_turn_journal`.values,
    sql`PRAGMA data_version`.values
  ])

it.layer(NodeFileSystem.layer)("SqlSessionStore", (it) => {
  it.effect("keeps everything when the file is closed and opened again", () =>
    Effect.gen(function*() {
      const filename = yield* temporaryFile
      const scope = yield* Scope.make()
      const [ended, pending, cancelled] = [yield* newTurn, yield* newTurn, yield* newTurn]
      const before = yield* Effect.gen(function*() {
        const store = yield* open(filename)
        yield* store.setSession(ended.conversationId, Option.none(), SessionId.make("ses_1"))
        yield* store.claim(ended)
        yield* store.recordPrompt(ended.id, 1, record)
        yield* store.finalize(ended.id, 1, completed)
        yield* store.claim(pending)
        yield* store.claim(cancelled)
        yield* store.cancel(cancelled.id, "stopped")
        return yield* Effect.forEach([ended, pending, cancelled], (turn) => store.getMessage(turn.id))
      }).pipe(Scope.provide(scope))
      yield* Scope.close(scope, Exit.void)

      const store = yield* open(filename)
      assert.deepStrictEqual(
        yield* Effect.forEach([ended, pending, cancelled], (turn) => store.getMessage(turn.id)),
        before
      )
      assert.deepStrictEqual(yield* store.getSession(ended.conversationId), Option.some(SessionId.make("ses_1")))
      assert.strictEqual((yield* store.claim(pending)).epoch, 2)
    }))

  it.effect("keeps the stores of two files apart when they are built together", () =>
    Effect.gen(function*() {
      const left = SqlSessionStore.layerSqlite({ filename: yield* temporaryFile })
      const right = SqlSessionStore.layerSqlite({ filename: yield* temporaryFile })
      const built = yield* Layer.build(Layer.merge(
        Layer.effectDiscard(Effect.flatMap(SessionStore, (store) =>
          store.setSession(ConversationId.make("con"), Option.none(), SessionId.make("ses_left")))).pipe(
            Layer.provide(left)
          ),
        right
      ))
      const store = Context.get(built, SessionStore)
      assert.deepStrictEqual(yield* store.getSession(ConversationId.make("con")), Option.none())
    }))

  it.effect("refuses a second pending message of a conversation in the database itself", () =>
    Effect.gen(function*() {
      const { sql, store } = yield* openBoth({ filename: ":memory:" })
      const turn = yield* newTurn
      yield* store.claim(turn)
      const copy = sql`
        INSERT INTO opencode_turn_assistant_messages
          (id, conversation_id, status, epoch, usage, created_millis, finished_millis)
        SELECT 'copy', conversation_id, status, epoch, usage, created_millis, finished_millis
        FROM opencode_turn_assistant_messages`
      assert.strictEqual((yield* Effect.flip(copy)).reason._tag, "UniqueViolation")
      yield* store.finalize(turn.id, 1, completed)
      yield* copy
      for (
        const change of [
          sql`UPDATE opencode_turn_assistant_messages SET status = 'done'`,
          sql`UPDATE opencode_turn_assistant_messages SET finished_millis = NULL`,
          sql`UPDATE opencode_turn_assistant_messages SET status = 'queued'`,
          sql`UPDATE opencode_turn_assistant_messages SET revision = 0`,
          sql`UPDATE opencode_turn_assistant_messages SET epoch = 0`,
          sql`UPDATE opencode_turn_assistant_messages SET journal_offset = -1`,
          sql`UPDATE opencode_turn_journal SET kind = 'other'`,
          sql`UPDATE opencode_turn_journal SET place = 1`
        ]
      ) assert.strictEqual((yield* Effect.flip(change)).reason._tag, "ConstraintError")
    }))

  it.effect.each([
    {
      what: "a page of a long history",
      query: "WHERE conversation_id = 'a' ORDER BY position DESC LIMIT 1",
      plan: ["SEARCH messages USING INDEX opencode_turn_assistant_messages_history (conversation_id=?)"]
    },
    {
      what: "a page of one status",
      query: "WHERE status = 'error' ORDER BY position DESC LIMIT 1",
      plan: ["SEARCH messages USING INDEX opencode_turn_assistant_messages_status (status=?)"]
    },
    {
      what: "the queue of a conversation",
      query: "WHERE conversation_id = 'a' AND status = 'queued' AND position < 9",
      plan: ["SEARCH messages USING INDEX opencode_turn_assistant_messages_queued (conversation_id=? AND position<?)"]
    },
    {
      what: "the few orphans among many messages",
      query: "WHERE finished_millis IS NULL AND lease_until_millis <= 9 ORDER BY position LIMIT 9",
      plan: [
        "SEARCH messages USING INDEX opencode_turn_assistant_messages_leases (lease_until_millis<?)",
        "USE TEMP B-TREE FOR ORDER BY"
      ]
    },
    {
      what: "what is to be pruned",
      query: "WHERE finished_millis < 9 LIMIT 9",
      plan: ["SEARCH messages USING INDEX opencode_turn_assistant_messages_finished (finished_millis<?)"]
    }
  ])("reads $what through its index", ({ plan, query }) =>
    Effect.gen(function*() {
      const { sql } = yield* openBoth({ filename: ":memory:" })
      const steps = yield* sql<{ detail: string }>`EXPLAIN QUERY PLAN
        SELECT * FROM opencode_turn_assistant_messages AS messages ${sql.literal(query)}`
      assert.deepStrictEqual(steps.map((step) => step.detail), plan)
    }))

  it.effect.each([
    {
      what: "the open asks of all conversations",
      query: "WHERE status = 'open' ORDER BY position LIMIT 9",
      plan: ["SCAN asks USING INDEX opencode_turn_asks_open"]
    },
    {
      what: "the open asks of a conversation",
      query: "WHERE status = 'open' AND conversation_id = 'a' ORDER BY position LIMIT 9",
      plan: ["SEARCH asks USING INDEX opencode_turn_asks_conversation (conversation_id=?)"]
    },
    {
      what: "the open asks of a message",
      query: "WHERE status = 'open' AND message_id = 'a' ORDER BY position LIMIT 9",
      plan: ["SEARCH asks USING INDEX opencode_turn_asks_message (message_id=?)"]
    },
    {
      what: "the asks of pruned messages",
      query: "WHERE message_id IN ('a', 'b')",
      plan: ["SEARCH asks USING INDEX opencode_turn_asks_message (message_id=?)"]
    }
  ])("finds $what through an index", ({ plan, query }) =>
    Effect.gen(function*() {
      const { sql } = yield* openBoth({ filename: ":memory:" })
      const steps = yield* sql<{ detail: string }>`EXPLAIN QUERY PLAN
        SELECT * FROM opencode_turn_asks AS asks ${sql.literal(query)}`
      assert.deepStrictEqual(steps.map((step) => step.detail), plan)
    }))

  it.effect("finds orphans, and messages of a status, through an index", () =>
    Effect.gen(function*() {
      const { sql, store } = yield* openBoth({ filename: ":memory:" })
      const statements: Array<string> = []
      const tracer = Tracer.make({
        span: (options) => {
          const span = new Tracer.NativeSpan(options)
          const attribute = span.attribute.bind(span)
          span.attribute = (key, value) => {
            if (key === "db.query.text") statements.push(String(value))
            attribute(key, value)
          }
          return span
        }
      })
      const planOf = Effect.fnUntraced(function*<A, E>(read: Effect.Effect<A, E>) {
        statements.length = 0
        yield* read.pipe(
          Effect.withTracer(tracer),
          Effect.provideService(TurnPolicy.TraceDetail, "statements")
        )
        assert.lengthOf(statements, 1)
        const steps = yield* sql.unsafe<{ detail: string }>(`EXPLAIN QUERY PLAN ${statements.join()}`)
        return steps.map(({ detail }) => detail)
      })
      const table = "opencode_turn_assistant_messages"
      const conversationId = ConversationId.make("con")
      const orphans = [
        `SEARCH ${table} USING INDEX ${table}_leases (lease_until_millis<?)`,
        "USE TEMP B-TREE FOR ORDER BY"
      ]
      assert.deepStrictEqual(yield* planOf(store.listOrphans(9)), orphans)
      assert.deepStrictEqual(yield* planOf(store.listOrphans(Infinity, 5)), orphans)
      assert.deepStrictEqual(yield* planOf(store.listByStatus({ status: "pending", limit: 9 })), [
        `SEARCH ${table} USING INDEX ${table}_status (status=?)`
      ])
      assert.deepStrictEqual(yield* planOf(store.listByStatus({ status: "error", beforePosition: 5, limit: 9 })), [
        `SEARCH ${table} USING INDEX ${table}_status (status=? AND position<?)`
      ])
      // Newest first, which is the order of the table itself.
      assert.deepStrictEqual(yield* planOf(store.listByStatus({ beforePosition: 5, limit: 9 })), [
        `SEARCH ${table} USING INTEGER PRIMARY KEY (rowid<?)`
      ])
      assert.deepStrictEqual(yield* planOf(store.listConversations({ beforePosition: 5, limit: 9 })), [
        `SEARCH ${table} USING INTEGER PRIMARY KEY (rowid<?)`,
        "CORRELATED SCALAR SUBQUERY 1",
        `SEARCH later USING COVERING INDEX ${table}_history (conversation_id=? AND position>?)`
      ])
      for (const status of ["pending", "queued", "completed"] as const) {
        const plan = yield* planOf(store.listByStatus({ conversationId, status, limit: 9 }))
        assert.lengthOf(plan.filter((step) => step.startsWith(`SEARCH ${table} USING INDEX`)), plan.length, plan.join())
      }
    }))

  it.effect.each([
    { what: "30 tool calls of 40 KB", texts: 0, tools: 30 },
    { what: "60 tool calls of 40 KB", texts: 0, tools: 60 },
    { what: "500 KB of text in 120 snapshots", texts: 120, tools: 0 }
  ])(
    "writes at most three times what it holds of $what, from the first snapshot to the end",
    ({ texts, tools }) =>
      Effect.gen(function*() {
        const fs = yield* FileSystem.FileSystem
        const filename = yield* temporaryFile
        const { sql, store } = yield* openBoth({ filename })
        yield* sql`PRAGMA wal_autocheckpoint = 0`
        const turn = yield* newTurn
        yield* store.claim(turn)
        yield* sql`PRAGMA wal_checkpoint(TRUNCATE)`

        const messageId = MessageId.make("msg_1")
        let before: Content = { content: "", parts: [], usage: Usage.zero }
        const write = Effect.fnUntraced(function*(parts: ReadonlyArray<Part>, content = "") {
          const after = { content, parts, usage: Usage.zero }
          assert.isTrue(yield* store.snapshot(turn.id, 1, after, { before }))
          before = after
        })
        for (const n of numbers(tools)) {
          const { parts } = before
          const tool = {
            type: "tool",
            id: PartId.make(`prt_${n}`),
            messageId,
            callId: String(n),
            tool: "bash"
          } as const
          const input = { command: "cat file" }
          yield* write([...parts, { ...tool, status: "pending", input: {} }])
          yield* write([...parts, { ...tool, status: "running", input }])
          yield* write([...parts, { ...tool, status: "completed", input, output: "x".repeat(40_000) }])
        }
        for (const _ of numbers(texts)) {
          const text = before.content + "word ".repeat(833)
          yield* write([{ type: "text", id: PartId.make("prt_text"), messageId, text, isComplete: false }], text)
        }
        assert.isTrue(yield* store.finalize(turn.id, 1, { ...before, status: "completed", error: null }, { before }))
        const held = 40_000 * tools + before.content.length
        assert.isBelow(Number((yield* fs.stat(`${filename}-wal`)).size), 3 * held)
        assert.deepInclude(Option.getOrThrow(yield* store.getMessage(turn.id)), { parts: before.parts })
      })
  )

  it.effect("writes little when text is appended to a large reply, and when its lease is renewed", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const filename = yield* temporaryFile
      const { sql, store } = yield* openBoth({ filename })
      yield* sql`PRAGMA wal_autocheckpoint = 0`
      const turn = yield* newTurn
      yield* store.claim({ ...turn, lease: { owner: "a", millis: 1_000 } })
      const messageId = MessageId.make("msg_1")
      const tools = numbers(50).map((n) => ({
        type: "tool",
        id: PartId.make(`prt_${n}`),
        messageId,
        callId: String(n),
        tool: "bash",
        status: "completed",
        input: {},
        output: "x".repeat(50_000)
      } as const))
      const textOf = (text: string): Content => ({
        content: text,
        parts: [...tools, { type: "text", id: PartId.make("prt_text"), messageId, text, isComplete: false }],
        usage: Usage.zero
      })
      const text = "y".repeat(2_500_000)
      const before = textOf(text)
      yield* store.snapshot(turn.id, 1, before)
      const growthOf = Effect.fnUntraced(function*<A, E>(write: Effect.Effect<A, E>) {
        yield* sql`PRAGMA wal_checkpoint(TRUNCATE)`
        assert.deepStrictEqual<unknown>(yield* write, true)
        return Number((yield* fs.stat(`${filename}-wal`)).size)
      })
      const limit = 64 * 1024
      assert.isBelow(yield* growthOf(store.snapshot(turn.id, 1, textOf(`${text} And on.`), { before })), limit)
      assert.isBelow(yield* growthOf(store.renew(turn.id, 1, { owner: "a", millis: 2_000 })), limit)
      const read = Option.getOrThrow(yield* store.getMessage(turn.id))
      assert.strictEqual(read.content, `${text} And on.`)
      assert.lengthOf(read.parts, 51)
    }))

  it.effect("an unreadable row hides no other row from a list, is reported once, and fails a read of that row", () =>
    Effect.gen(function*() {
      const reports: Array<string> = []
      const reporter = ErrorReporter.make(({ error }) => void reports.push(String(error.cause)))
      yield* Effect.gen(function*() {
        const { sql, store } = yield* openBoth({ filename: ":memory:" })
        const spoiled = yield* newTurn
        const { conversationId } = spoiled
        const turns = [spoiled, { ...yield* newTurn, conversationId }, { ...yield* newTurn, conversationId }]
        for (const turn of turns) {
          yield* store.claim(turn)
          yield* store.finalize(turn.id, 1, completed)
        }
        const readable = turns.slice(1).map(({ id }) => id)
        yield* sql`UPDATE opencode_turn_assistant_messages SET usage = 'not JSON' WHERE id = ${spoiled.id}`

        for (const _ of [1, 2]) {
          assert.deepStrictEqual((yield* store.listMessages(conversationId, 9)).map(({ id }) => id), readable)
          const newestFirst = (yield* store.listByStatus({ limit: 9 })).map(({ id }) => id)
          assert.deepStrictEqual(newestFirst, readable.toReversed())
        }
        const error = yield* Effect.flip(store.getMessage(spoiled.id))
        assert.include(error.message, `holds a row that cannot be decoded (id "${spoiled.id}", field usage)`)
        assert.lengthOf(reports, 1)
        assert.include(reports[0] ?? "", spoiled.id)

        // Where there is nothing else, an empty list would say that there is nothing at all.
        yield* sql`UPDATE opencode_turn_assistant_messages SET usage = 'not JSON'`
        assert.include((yield* Effect.flip(store.listMessages(conversationId, 9))).message, "cannot be decoded")
      }).pipe(Effect.provide(ErrorReporter.layer([reporter])))
    }))

  it.effect("unreadable orphans keep no sweep from the orphans behind them", () =>
    Effect.gen(function*() {
      const { sql, store } = yield* openBoth({ filename: ":memory:" })
      const turns = [yield* newTurn, yield* newTurn, yield* newTurn, yield* newTurn]
      for (const turn of turns) yield* store.claim({ ...turn, lease: { owner: "gone", millis: 1 } })
      yield* TestClock.adjust("1 second")
      const [first, second, third] = turns
      yield* sql`UPDATE opencode_turn_assistant_messages SET usage = 'not JSON' WHERE id IN (${first?.id ?? ""}, ${
        second?.id ?? ""
      })`
      const sweep = Effect.map(store.listOrphans(1), (orphans) => orphans.map(({ id }) => id))
      // The first ones find out what is in the way.
      for (const _ of [1, 2]) yield* sweep
      assert.deepStrictEqual(yield* sweep, [third?.id])
      assert.lengthOf(yield* store.listOrphans(Infinity), 2)
    }))

  it.effect("an ask that cannot be read hides no other ask", () =>
    Effect.gen(function*() {
      const { sql, store } = yield* openBoth({ filename: ":memory:" })
      const turn = yield* newTurn
      yield* store.claim(turn)
      for (const id of ["per_1", "per_2"]) {
        yield* store.openAsk({ messageId: turn.id, conversationId: turn.conversationId, ask: permissionOf(id) })
      }
      yield* sql`UPDATE opencode_turn_asks SET ask = '[]' WHERE id = 'per_1'`
      assert.deepStrictEqual((yield* store.listAsks({ limit: 9 })).map(({ id }) => id), ["per_2"])
      assert.include((yield* Effect.flip(store.getAsk(AskId.make("per_1")))).message, "cannot be decoded")
    }))

  it.effect.each([
    { what: "prompt", table: "prompts", column: "prompt", value: "not JSON canary" },
    { what: "request", table: "prompt_records", column: "request", value: "{\"sessionId\":\"canary\"}" },
    { what: "draft", table: "prompt_records", column: "draft", value: "{\"permission\":\"canary\"}" },
    { what: "content", table: "assistant_messages", column: "content", value: "canary" },
    { what: "excerpt", table: "assistant_messages", column: "excerpt", value: "canary" },
    { what: "started turn", table: "assistant_messages", column: "started", value: "{\"sessionId\":\"canary\"}" },
    { what: "finish", table: "assistant_messages", column: "finish", value: "canary" },
    { what: "usage", table: "assistant_messages", column: "usage", value: "{}" },
    { what: "error", table: "assistant_messages", column: "error", value: "[]" },
    { what: "entry", table: "journal", column: "change", value: "not JSON canary" },
    { what: "part", table: "journal", column: "change", value: "{\"type\":\"part\",\"part\":{\"type\":\"canary\"}}" },
    {
      what: "subagent",
      table: "journal",
      column: "change",
      value: "{\"type\":\"subagent\",\"subagent\":{\"sessionId\":\"canary\"}}"
    }
  ])(
    "names table, id and field of a row whose $what cannot be decoded",
    ({ column, table, value }) =>
      Effect.gen(function*() {
        const filename = yield* temporaryFile
        const { sql, store } = yield* openBoth({ filename })
        const turn = { ...(yield* newTurn), draft: { agent: "plan" } }
        const sound = yield* newTurn
        for (const { id, ...each } of [turn, sound]) {
          yield* store.claim({ id, ...each })
          yield* store.recordPrompt(id, 1, record)
          yield* store.snapshot(id, 1, completed)
        }
        const id = sql.literal(table === "assistant_messages" ? "id" : "message_id")
        yield* sql`UPDATE ${sql(`opencode_turn_${table}`)} SET ${sql(column)} = ${value} WHERE ${id} = ${turn.id}`
        // The rows of a journal are decoded by themselves, and all others as one with the message.
        const named = table === "journal" ? "opencode_turn_journal" : "opencode_turn_assistant_messages"
        const reads = [
          Effect.asVoid(store.getMessage(turn.id)),
          Effect.asVoid(store.listMessages(turn.conversationId, 10)),
          Effect.asVoid(store.claim(turn)),
          ...(table === "journal" ? [Effect.asVoid(store.listUpdates(turn.id, 0, 10))] : [])
        ]
        for (const read of reads) {
          const error = yield* failureOf(read)
          assert.strictEqual(
            error.reason,
            `the SQLite database "${filename}": table ${named} holds a row that cannot be decoded ` +
              `(id "${turn.id}", field ${column}): correct it or delete it`
          )
          assert.isFalse(error.isRetryable)
        }
        assert.isTrue(Option.isSome(yield* store.getMessage(sound.id)))
        assert.isNotEmpty(yield* store.listUpdates(sound.id, 0, 10))
      })
  )

  it.effect("an unreadable journal hides no other message, is reported once, and leaves the state of its message readable", () =>
    Effect.gen(function*() {
      const reports: Array<string> = []
      const reporter = ErrorReporter.make(({ error }) => void reports.push(String(error.cause)))
      yield* Effect.gen(function*() {
        const { sql, store } = yield* openBoth({ filename: ":memory:" })
        const spoiled = yield* newTurn
        const { conversationId } = spoiled
        const sound = { ...yield* newTurn, conversationId }
        for (const turn of [spoiled, sound]) {
          yield* store.claim(turn)
          yield* store.finalize(turn.id, 1, completed)
        }
        yield* sql`UPDATE opencode_turn_journal SET change = 'not JSON' WHERE message_id = ${spoiled.id}`
        for (const _ of [1, 2]) {
          assert.deepStrictEqual((yield* store.listMessages(conversationId, 9)).map(({ id }) => id), [sound.id])
        }
        assert.lengthOf(reports, 1)
        assert.include(reports[0] ?? "", spoiled.id)
        assert.deepStrictEqual((yield* store.listByStatus({ limit: 9 })).map(({ id }) => id), [sound.id, spoiled.id])
        assert.isTrue(Option.isSome(yield* store.getState(spoiled.id)))
      }).pipe(Effect.provide(ErrorReporter.layer([reporter])))
    }))

  it.effect("names the table, the id and the field of an unreadable message", () =>
    Effect.gen(function*() {
      const { sql, store } = yield* openBoth({ filename: ":memory:" })
      const turn = yield* newTurn
      yield* store.claim(turn)
      const reasonOf = (field: string) =>
        "the SQLite database in memory: table opencode_turn_assistant_messages holds a row that cannot be decoded " +
        `(id "${turn.id}", field ${field}): correct it or delete it`
      yield* sql`DELETE FROM opencode_turn_prompts`
      assert.strictEqual((yield* failureOf(store.getMessage(turn.id))).reason, reasonOf("prompt"))
      const state = Option.getOrThrow(yield* store.getState(turn.id))
      assert.deepInclude(state, { status: "pending", epoch: 1, revision: 1 })
      yield* sql`UPDATE opencode_turn_assistant_messages SET revision = 'canary'`
      assert.strictEqual((yield* failureOf(store.getState(turn.id))).reason, reasonOf("revision"))
    }))

  it.effect("makes a message anew that somebody deleted by hand, with its new prompt", () =>
    Effect.gen(function*() {
      const { sql, store } = yield* openBoth({ filename: ":memory:" })
      const turn = yield* newTurn
      yield* store.claim({ ...turn, draft: { agent: "plan" } })
      yield* store.recordPrompt(turn.id, 1, record)
      yield* store.snapshot(turn.id, 1, completed)
      yield* sql`DELETE FROM opencode_turn_assistant_messages`
      const prompt = [{ type: "text", text: "again" }] as const
      const anew = { epoch: 1, offset: 0, prompt, draft: null, promptRecord: null, content: "", parts: [] }
      assert.deepInclude(yield* store.claim({ ...turn, prompt }), anew)
      assert.deepInclude(Option.getOrThrow(yield* store.getMessage(turn.id)), anew)
      assert.deepStrictEqual(yield* store.listUpdates(turn.id, 0, 9), [])
    }))

  it.effect.each([
    { column: "ask", value: "{\"_tag\":\"canary\"}" },
    { column: "answer", value: "not JSON canary" }
  ])(
    "names table, id and field of an ask whose $column cannot be decoded",
    ({ column, value }) =>
      Effect.gen(function*() {
        const filename = yield* temporaryFile
        const { sql, store } = yield* openBoth({ filename })
        const turn = yield* newTurn
        yield* store.claim(turn)
        const asked = { messageId: turn.id, conversationId: turn.conversationId }
        const [spoilt, sound] = [yield* newAsk, yield* newAsk]
        for (const ask of [spoilt, sound]) yield* store.openAsk({ ...asked, ask })
        yield* store.answerAsk(spoilt.id, { _tag: "Reject", message: "canary" })
        yield* sql`UPDATE opencode_turn_asks SET ${sql(column)} = ${value} WHERE id = ${spoilt.id}`
        const reads = [
          Effect.asVoid(store.getAsk(spoilt.id)),
          Effect.asVoid(store.openAsk({ ...asked, ask: spoilt }))
        ]
        for (const read of reads) {
          const error = yield* failureOf(read)
          assert.strictEqual(
            error.reason,
            `the SQLite database "${filename}": table opencode_turn_asks holds a row that cannot be decoded ` +
              `(id "${spoilt.id}", field ${column}): correct it or delete it`
          )
          assert.isFalse(error.isRetryable)
        }
        assert.deepStrictEqual((yield* store.listAsks({ ...asked, limit: 9 })).map(({ id }) => id), [sound.id])
      })
  )

  it.effect("fails for an ask that JSON cannot hold, and opens no ask", () =>
    Effect.gen(function*() {
      const { store } = yield* openBoth({ filename: ":memory:" })
      const turn = yield* newTurn
      yield* store.claim(turn)
      const ask = { ...(yield* newAsk), metadata: { canary: 1n } }
      const error = yield* failureOf(store.openAsk({ messageId: turn.id, conversationId: turn.conversationId, ask }))
      assert.strictEqual(error.reason, "the SQLite database in memory: ask is not a value that can be kept as JSON")
      assert.deepStrictEqual(yield* store.getAsk(ask.id), Option.none())
    }))

  it.effect("refuses an ask of an impossible state in the database itself", () =>
    Effect.gen(function*() {
      const { sql, store } = yield* openBoth({ filename: ":memory:" })
      const turn = yield* newTurn
      yield* store.claim(turn)
      yield* store.openAsk({ messageId: turn.id, conversationId: turn.conversationId, ask: yield* newAsk })
      for (
        const change of [
          sql`UPDATE opencode_turn_asks SET status = 'done', closed_millis = 1`,
          sql`UPDATE opencode_turn_asks SET status = 'withdrawn'`,
          sql`UPDATE opencode_turn_asks SET status = 'answered', closed_millis = 1`,
          sql`UPDATE opencode_turn_asks SET answer = '{}'`
        ]
      ) assert.strictEqual((yield* Effect.flip(change)).reason._tag, "ConstraintError")
    }))

  it.effect("fails for a reply that JSON cannot hold, and leaves the message pending", () =>
    Effect.gen(function*() {
      const { store } = yield* openBoth({ filename: ":memory:" })
      const turn = yield* newTurn
      const pending = yield* store.claim(turn)
      for (const cost of [NaN, Infinity]) {
        const error = yield* failureOf(store.finalize(turn.id, 1, { ...completed, usage: { ...Usage.zero, cost } }))
        assert.strictEqual(
          error.reason,
          "the SQLite database in memory: usage is not a value that can be kept as JSON"
        )
      }
      const input = { count: 1n }
      const tool = { type: "tool", callId: "1", tool: "t", status: "running", input } as const
      const parts = [{ ...tool, id: PartId.make("prt_1"), messageId: MessageId.make("msg_1") }]
      const reasonOf = (outcome: Outcome) =>
        Effect.map(failureOf(store.finalize(turn.id, 1, outcome)), ({ reason }) => reason)
      const prefix = "the SQLite database in memory: change of"
      assert.strictEqual(
        yield* reasonOf({ ...completed, parts }),
        `${prefix} part prt_1 is not a value that can be kept as JSON`
      )
      const sessionId = SessionId.make("ses_2")
      const subagent = {
        sessionId,
        parentId: SessionId.make("ses_1"),
        title: "canary",
        status: "running",
        text: ""
      } as const
      assert.strictEqual(
        yield* reasonOf({ ...completed, subagents: [{ ...subagent, usage: { ...Usage.zero, cost: NaN } }] }),
        `${prefix} subagent ses_2 is not a value that can be kept as JSON`
      )
      assert.strictEqual(
        yield* reasonOf({
          ...completed,
          subagents: [{ ...subagent, usage: Usage.zero }],
          unstored: { partsOf: new Map([[sessionId, parts]]), asks: [], retry: undefined, failure: undefined }
        }),
        `${prefix} part prt_1 is not a value that can be kept as JSON`
      )
      assert.deepStrictEqual(yield* store.getMessage(turn.id), Option.some(pending))
    }))

  // migrations

  it.effect("makes its tables once, however often it is opened, and at once from several connections", () =>
    Effect.gen(function*() {
      const filename = yield* temporaryFile
      yield* Effect.forEach(numbers(5), () => open(filename), { concurrency: "unbounded" })
      const sql = yield* openClient({ filename })
      const before = yield* dump(sql)
      yield* open(filename)
      assert.deepStrictEqual(yield* dump(sql), before)
      assert.deepStrictEqual(yield* sql`SELECT migration_id, name FROM opencode_turn_migrations`.values, [
        [1, "conversations_and_messages"],
        [2, "leases_and_queue"],
        [3, "subagents_and_asks"],
        [4, "ends_and_takeovers"],
        [5, "journals"],
        [6, "reverts"],
        [SqlMigrations.version, "stops"]
      ])
    }))

  it.effect("waits for its tables while another connection holds the lock", () =>
    Effect.gen(function*() {
      const filename = yield* temporaryFile
      const holder = yield* openClient({ filename })
      yield* holder`BEGIN IMMEDIATE`
      const opening = yield* Effect.forkScoped(openBoth({ filename, busyTimeout: 0 }), { startImmediately: true })
      assert.isUndefined(opening.pollUnsafe())
      yield* holder`COMMIT`
      yield* TestClock.adjust("50 millis")
      const { store } = yield* Fiber.join(opening)
      assert.deepInclude(yield* store.claim(yield* newTurn), { epoch: 1 })
    }))

  it.effect("fails retryably when the lock that keeps it from its tables is never released", () =>
    Effect.gen(function*() {
      const filename = yield* temporaryFile
      const holder = yield* openClient({ filename })
      yield* holder`BEGIN IMMEDIATE`
      const opening = yield* Effect.forkScoped(failureOf(openBoth({ filename, busyTimeout: 0 })))
      yield* TestClock.adjust("1 second")
      assert.deepInclude(yield* Fiber.join(opening), { operation: "migrate", isRetryable: true })
    }))

  it.effect("refuses a database that a newer version wrote, and leaves it untouched", () =>
    Effect.gen(function*() {
      const filename = yield* temporaryFile
      const { sql, store } = yield* openBoth({ filename })
      yield* store.claim(yield* newTurn)
      yield* sql`INSERT INTO opencode_turn_migrations (migration_id, name) VALUES (8, 'from the future')`
      const before = yield* dump(sql)
      const client = SqliteClient.layer({ filename })
      for (
        const layer of [
          SqlSessionStore.layerSqlite({ filename }),
          SqlSessionStore.layer.pipe(Layer.provide(client)),
          SqlSessionStore.layerWithoutMigrations.pipe(Layer.provide(client)),
          SqlSessionStore.layerMigrate.pipe(Layer.provide(client))
        ]
      ) {
        const error = yield* failureOf(Layer.build(layer))
        assert.strictEqual(
          error.message,
          `the store failed (migrate): the SQLite database "${filename}" was written by a newer version of ` +
            "opencode-turn (its tables have version 8, this program knows 7): update this program; nothing was changed"
        )
        assert.isFalse(error.isRetryable)
      }
      assert.deepStrictEqual(yield* dump(sql), before)
    }))

  it.effect("opens only migrated tables without migrations, and changes nothing", () =>
    Effect.gen(function*() {
      const filename = yield* temporaryFile
      const client = SqliteClient.layer({ filename })
      const store = SqlSessionStore.layerWithoutMigrations.pipe(Layer.provide(client))
      const error = yield* failureOf(Layer.build(store))
      assert.strictEqual(
        error.reason,
        `the SQLite database "${filename}" lacks the tables of this version of opencode-turn (it has version 0, this ` +
          "program needs 7): run the migrations first"
      )
      const sql = yield* openClient({ filename })
      assert.deepStrictEqual(yield* sql`SELECT name FROM sqlite_master`.values, [])
      yield* Layer.build(SqlSessionStore.layerMigrate.pipe(Layer.provide(client)))
      const context = yield* Layer.build(store)
      assert.deepInclude(yield* Context.get(context, SessionStore).claim(yield* newTurn), { status: "pending" })
    }))

  it.effect("rolls a migration back that fails half way, so that the next start can run it", () =>
    Effect.gen(function*() {
      const filename = yield* temporaryFile
      const sql = yield* openClient({ filename })
      yield* sql`CREATE TABLE opencode_turn_assistant_messages (other TEXT)`
      const error = yield* failureOf(open(filename))
      assert.include(error.reason, filename)
      assert.include(error.reason, "table opencode_turn_assistant_messages already exists")
      assert.deepStrictEqual(yield* sql`SELECT name FROM sqlite_master WHERE name LIKE '%conversations'`.values, [])
      yield* sql`DROP TABLE opencode_turn_assistant_messages`
      yield* open(filename)
    }))

  // a database that cannot be used

  it.effect("says which file is not a database", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const filename = yield* temporaryFile
      yield* fs.writeFileString(filename, "certainly not a database\n".repeat(100))
      const error = yield* failureOf(open(filename))
      assert.deepInclude(error, { operation: "open", isRetryable: false })
      assert.include(error.reason, filename)
      assert.include(error.reason, "file is not a database; restore the file from a backup")
    }))

  it.effect("says which path is a directory, or has no folder", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const directory = yield* fs.makeTempDirectoryScoped()
      for (const filename of [directory, `${directory}/missing/turn.db`]) {
        const error = yield* failureOf(open(filename))
        assert.deepInclude(error, { operation: "open", isRetryable: false })
        assert.include(error.reason, filename)
        assert.include(error.reason, "the folder must exist")
      }
      assert.isFalse(yield* fs.exists(`${directory}/missing`))
    }))

  it.effect("reads a file that it may not write, and fails to write it with advice", () =>
    Effect.gen(function*() {
      const filename = yield* temporaryFile
      const turn = yield* newTurn
      const pending = yield* (yield* open(filename)).claim(turn)
      const { store } = yield* openBoth({ filename, readonly: true })
      assert.deepStrictEqual(yield* store.getMessage(turn.id), Option.some(pending))
      for (
        const failure of [
          failureOf(store.claim(turn)),
          failureOf(store.cancel(turn.id, "canary")),
          failureOf(store.finalize(turn.id, 1, completed)),
          failureOf(store.setSession(turn.conversationId, Option.none(), SessionId.make("ses_canary")))
        ]
      ) {
        const error = yield* failure
        assert.isFalse(error.isRetryable)
        assert.strictEqual(
          error.reason,
          `the SQLite database "${filename}": failed to execute a statement: attempt to write a readonly database; ` +
            "make the file and its folder writable"
        )
      }
    }))

  it.effect("fails when the disk is full, keeps the stored rows, and works again once there is space", () =>
    Effect.gen(function*() {
      const { sql, store } = yield* openBoth({ filename: yield* temporaryFile })
      const turn = yield* newTurn
      const pending = yield* store.claim(turn)
      const outcome = { ...completed, content: "canary".repeat(100_000) }
      yield* sql`PRAGMA max_page_count = 20`
      const error = yield* failureOf(store.finalize(turn.id, 1, outcome))
      assert.isFalse(error.isRetryable)
      assert.include(error.reason, "database or disk is full; free some space")
      assert.deepStrictEqual(yield* store.getMessage(turn.id), Option.some(pending))
      yield* sql`PRAGMA max_page_count = 100000`
      assert.isTrue(yield* store.finalize(turn.id, 1, outcome))
    }))

  it.effect("fails retryably while another connection holds the lock, and works afterwards", () =>
    Effect.gen(function*() {
      const filename = yield* temporaryFile
      const { store } = yield* openBoth({ filename, busyTimeout: 0 })
      const holder = yield* openClient({ filename })
      const turn = yield* newTurn
      const error = yield* holder.withTransaction(failureOf(store.claim(turn)))
      assert.deepInclude(error, { operation: "claim", isRetryable: true })
      assert.include(
        error.reason,
        `${filename}": failed to execute a statement: database is locked; another connection`
      )
      assert.deepInclude(yield* store.claim(turn), { epoch: 1 })
    }))

  it.effect("keeps a watcher while another connection holds the lock, and updates it afterwards", () =>
    Effect.gen(function*() {
      const options = { filename: yield* temporaryFile, busyTimeout: 0, disableWAL: true }
      const { store } = yield* openBoth(options)
      const holder = yield* openClient(options)
      const { id } = yield* store.claim(yield* newTurn)
      yield* holder`BEGIN EXCLUSIVE`
      const news = yield* Queue.unbounded<void>()
      const watcher = yield* Effect.forkScoped(
        Stream.runForEach(store.changes(id), () => Queue.offer(news, undefined)),
        { startImmediately: true }
      )
      assert.strictEqual((yield* failureOf(store.getMessage(id))).isRetryable, true)
      yield* TestClock.adjust("1 minute")
      assert.isUndefined(watcher.pollUnsafe())
      assert.strictEqual(yield* Queue.size(news), 0)
      yield* holder`COMMIT`
      yield* TestClock.adjust("250 millis")
      yield* Queue.take(news)
    }))

  it.effect("fails typed when it is used after its layer was released", () =>
    Effect.gen(function*() {
      const filename = yield* temporaryFile
      const scope = yield* Scope.make()
      const store = yield* open(filename).pipe(Scope.provide(scope))
      yield* Scope.close(scope, Exit.void)
      const error = yield* failureOf(store.getMessage(AssistantMessageId.make("asm")))
      assert.isFalse(error.isRetryable)
      assert.include(error.reason, filename)
    }))
})
