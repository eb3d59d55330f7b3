/**
 * What several stores on one database must hold to, on every kind of database.
 */
import { NodeFileSystem } from "@effect/platform-node"
import { assert, it } from "@effect/vitest"
import type { Answer, Ask } from "@opencode-turn/core/Ask"
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
import * as Usage from "@opencode-turn/core/Usage"
import * as SqliteClient from "@opencode-turn/platform-node/SqliteClient"
import * as SqlMigrations from "@opencode-turn/platform-node/SqlMigrations"
import * as SqlSessionStore from "@opencode-turn/platform-node/SqlSessionStore"
import { Clock, Context, Effect, FileSystem, Layer, Option, Redacted, Result, Stream } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { clientOf, makeDatabase } from "../support/PostgresDatabase.ts"
import * as OldTables from "./OldTables.ts"

const databases = [
  {
    kind: "a SQLite file",
    make: Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const filename = `${yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-shared-" })}/turn.db`
      const client = yield* Layer.build(SqliteClient.layer({ filename }))
      return {
        name: `the SQLite database "${filename}"`,
        sql: Context.get(client, SqlClient.SqlClient),
        layer: () => SqlSessionStore.layerSqlite({ filename })
      }
    })
  },
  {
    kind: "PostgreSQL",
    make: Effect.gen(function*() {
      const url = yield* makeDatabase
      const { host, pathname } = new URL(Redacted.value(url))
      const sql: SqlClient.SqlClient = yield* clientOf(url)
      return {
        name: `the PostgreSQL database "${pathname.slice(1)}" at ${host}`,
        sql,
        layer: () => SqlSessionStore.layerPostgres({ url })
      }
    })
  }
]

type Database = Effect.Success<(typeof databases)[number]["make"]>

const open = (database: Database) =>
  Effect.map(Layer.build(database.layer()), (context) => Context.get(context, SessionStore))

const newTurn = Effect.gen(function*() {
  return {
    id: AssistantMessageId.make(yield* makeId("asm")),
    conversationId: ConversationId.make(yield* makeId("con")),
    prompt: [{ type: "text", text: "What is new?" }] as const
  }
})

const completed: Outcome = { status: "completed", content: "Nothing.", parts: [], usage: Usage.zero, error: null }

const promptRecord: PromptRecord = {
  sessionId: SessionId.make("ses_1"),
  prompt: { parts: [{ type: "text", text: "What is new?" }] }
}

const newAsk = Effect.gen(function*() {
  return {
    _tag: "Question",
    id: AskId.make(yield* makeId("que")),
    sessionId: SessionId.make("ses_1"),
    questions: [{ question: "Which one?", header: "One", options: [], multiple: false, custom: true }]
  } satisfies Ask
})

const answer: Answer = { _tag: "Answers", answers: [["the first"]] }

const steps = [
  [1, "conversations_and_messages"],
  [2, "leases_and_queue"],
  [3, "subagents_and_asks"],
  [4, "ends_and_takeovers"],
  [5, "journals"],
  [6, "reverts"],
  [SqlMigrations.version, "stops"]
]

/** The columns that the fourth, the fifth and the sixth step add to a row without a reply. */
const since3 = { finish: null, is_fallback: 0, takeovers: 0 }
const since4 = { journal_offset: 0, excerpt: "\"Hi\"", started: null, reverted_by: null, stop_due_millis: null }

/** A row without the columns that the fifth step takes away. */
const smallOf = (row: object) =>
  Object.fromEntries(
    Object.entries(row).filter(([column]) => !["draft", "parts", "request", "subagents"].includes(column))
  )

/** What the fifth step makes of the content of a message without parts. */
const toldBy = (content: unknown) => content === "\"\"" ? null : content

const numbers = (count: number) => Array.from({ length: count }, (_, n) => n)

/** A part whose ids hold what no text of PostgreSQL does. */
const toolOf = (n: number, status: "running" | "completed") => ({
  type: "tool",
  id: PartId.make(`prt_\u0000\ud800 '"${n}`),
  messageId: MessageId.make("msg_\u0000"),
  callId: "1",
  tool: "bash",
  status,
  input: {}
} as const)

const contentOf = (parts: ReadonlyArray<Part>) => ({ content: "", parts, usage: Usage.zero })

/** Ten times as fast as the real one, so that it does not outrun the database. */
const timePasses = Effect.forever(
  Effect.andThen(TestClock.adjust("10 millis"), TestClock.withLive(Effect.sleep("1 milli")))
)

const failureOf = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.flip(effect), (error) => {
    assert.instanceOf(error, StoreError)
    return error
  })

it.layer(NodeFileSystem.layer)("SqlSessionStore, shared", (it) => {
  it.effect.each(databases)(
    "lets one turn of a conversation in when they come through two connections to $kind",
    ({ make }) =>
      Effect.gen(function*() {
        const database = yield* make
        const stores = [yield* open(database), yield* open(database)] as const
        const conversationId = ConversationId.make("shared")
        for (const _ of numbers(20)) {
          const results = yield* Effect.forEach(
            numbers(10),
            Effect.fnUntraced(function*(n) {
              const turn = { ...(yield* newTurn), conversationId }
              return yield* Effect.result(stores[n % 2 === 0 ? 0 : 1].claim(turn))
            }),
            { concurrency: "unbounded" }
          )
          const winners = results.filter(Result.isSuccess).map(({ success }) => success.id)
          assert.lengthOf(winners, 1)
          assert.deepStrictEqual<unknown>(
            results.filter(Result.isFailure).map(({ failure }) => ({ ...failure })),
            numbers(9).flatMap(() =>
              winners.map((messageId) => ({ _tag: "TurnInProgress", conversationId, messageId }))
            )
          )
          yield* Effect.forEach(winners, (id) => stores[1].finalize(id, 1, completed))
        }
        assert.lengthOf(yield* stores[0].listMessages(conversationId, Infinity), 20)
      })
  )

  it.effect.each(databases)(
    "has one winner when a cancel and a terminal write come through two connections to $kind",
    ({ make }) =>
      Effect.gen(function*() {
        const database = yield* make
        const [owner, stopper] = [yield* open(database), yield* open(database)]
        const round = Effect.fnUntraced(function*(n: number) {
          const turn = yield* newTurn
          yield* owner.claim(turn)
          const finalize = Effect.map(owner.finalize(turn.id, 1, completed), (isWinner) => ({ finalized: isWinner }))
          const cancel = Effect.map(Effect.result(stopper.cancel(turn.id, "stopped")), (result) => ({
            cancelled: Result.isSuccess(result)
          }))
          const [first, second] = yield* Effect.all(n % 2 === 0 ? [finalize, cancel] : [cancel, finalize], {
            concurrency: 2
          })
          const outcome = { ...first, ...second }
          const message = yield* stopper.getMessage(turn.id)
          assert.deepStrictEqual(
            {
              ...outcome,
              ...Option.getOrUndefined(Option.map(message, ({ content, status }) => ({ content, status })))
            },
            "finalized" in outcome && outcome.finalized
              ? { finalized: true, cancelled: false, status: "completed", content: "Nothing." }
              : { finalized: false, cancelled: true, status: "cancelled", content: "stopped" }
          )
        })
        yield* Effect.forEach(numbers(200), round, { concurrency: 10, discard: true })
      })
  )

  it.effect.each(databases)(
    "gives an orphan to one of 100 takers on two connections to $kind, and fences its owner out",
    ({ make }) =>
      Effect.gen(function*() {
        const database = yield* make
        const [stale, other] = [yield* open(database), yield* open(database)]
        const turn = yield* newTurn
        yield* stale.claim({ ...turn, lease: { owner: "stale", millis: 1_000 } })
        yield* TestClock.adjust("1 second")
        const taken = yield* Effect.forEach(
          numbers(100),
          (n) => (n % 2 === 0 ? stale : other).takeOver(turn.id, { owner: `${n}`, millis: 1_000 }),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(taken.flatMap(Option.toArray).map(({ epoch }) => epoch), [2])
        assert.isFalse(yield* stale.recordPrompt(turn.id, 1, promptRecord))
        assert.isFalse(yield* stale.snapshot(turn.id, 1, completed))
        assert.isFalse(yield* stale.finalize(turn.id, 1, completed))
        assert.isTrue(yield* other.finalize(turn.id, 2, completed))
      })
  )

  it.effect.each(databases)(
    "keeps the order of a queue, and its limit, across two connections to $kind",
    ({ make }) =>
      Effect.gen(function*() {
        const database = yield* make
        const stores = [yield* open(database), yield* open(database)] as const
        const first = yield* newTurn
        yield* stores[0].claim(first)
        const turns = yield* Effect.replicateEffect(
          Effect.map(newTurn, (turn) => ({ ...turn, conversationId: first.conversationId })),
          20
        )
        const ask = (turn: (typeof turns)[number], n: number) =>
          stores[n % 2 === 0 ? 0 : 1].claim({ ...turn, whenBusy: "queue", maxQueued: 6 })
        const results = yield* Effect.forEach(turns, (turn, n) => Effect.result(ask(turn, n)), {
          concurrency: "unbounded"
        })
        const waiting = turns.filter((_, n) => results[n] !== undefined && Result.isSuccess(results[n]))
        assert.lengthOf(waiting, 6)
        const order = (yield* stores[0].listMessages(first.conversationId, 6)).map(({ id }) => id)

        yield* stores[1].finalize(first.id, 1, completed)
        const served: Array<AssistantMessageId> = []
        while (served.length < waiting.length) {
          const open = waiting.filter(({ id }) => !served.includes(id)).toReversed()
          yield* Effect.forEach(open, ask, { concurrency: "unbounded" })
          const asked = yield* Effect.forEach(open, ask, { concurrency: "unbounded" })
          const [next] = asked.filter(({ status }) => status === "pending")
          if (next === undefined) return assert.fail("nobody's turn came")
          served.push(next.id)
          assert.isTrue(yield* stores[served.length % 2 === 0 ? 0 : 1].finalize(next.id, next.epoch, completed))
        }
        assert.deepStrictEqual(served, order)
      })
  )

  it.effect.each(databases)(
    "shows a change through one connection to $kind to a watcher on another connection",
    ({ make }) =>
      Effect.gen(function*() {
        const database = yield* make
        const [reader, writer] = [yield* open(database), yield* open(database)]
        const turn = yield* newTurn
        yield* writer.claim(turn)
        const seen = reader.changes(turn.id).pipe(
          Stream.mapEffect(() => reader.getMessage(turn.id)),
          Stream.takeUntil((message) => Option.isSome(message) && message.value.status === "completed"),
          Stream.runLast
        )
        const writing = Effect.andThen(writer.finalize(turn.id, 1, completed), Effect.never)
        const last = yield* Effect.raceAllFirst([seen, timePasses, writing])
        assert.deepStrictEqual(last, Option.some(yield* reader.getMessage(turn.id)))
      })
  )

  it.effect.each(databases)(
    "stores one of 100 answers that come through two connections to $kind",
    ({ make }) =>
      Effect.gen(function*() {
        const database = yield* make
        const stores = [yield* open(database), yield* open(database)] as const
        const turn = yield* newTurn
        yield* stores[0].claim(turn)
        const ask = yield* newAsk
        yield* stores[0].openAsk({ messageId: turn.id, conversationId: turn.conversationId, ask })
        const results = yield* Effect.forEach(
          numbers(100),
          (n) => Effect.result(stores[n % 2 === 0 ? 0 : 1].answerAsk(ask.id, { _tag: "Reject", message: `${n}` })),
          { concurrency: "unbounded" }
        )
        const winners = results.filter(Result.isSuccess).map(({ success }) => success)
        assert.lengthOf(winners, 1)
        for (const { failure } of results.filter(Result.isFailure)) {
          assert.deepInclude(failure, { _tag: "AskClosed", status: "answered" })
        }
        for (const store of stores) assert.deepStrictEqual(yield* store.getAsk(ask.id), Option.some(winners[0]))
      })
  )

  it.effect.each(databases)(
    "gives an answer through one connection to $kind to a waiter on another connection",
    ({ make }) =>
      Effect.gen(function*() {
        const database = yield* make
        const [asking, answering] = [yield* open(database), yield* open(database)]
        const turn = yield* newTurn
        yield* asking.claim(turn)
        const ask = yield* newAsk
        yield* asking.openAsk({ messageId: turn.id, conversationId: turn.conversationId, ask })
        const seen = asking.askChanges(ask.id).pipe(
          Stream.mapEffect(() => asking.getAsk(ask.id)),
          Stream.takeUntil((found) => Option.isSome(found) && found.value.status === "answered"),
          Stream.runLast
        )
        const writing = Effect.andThen(answering.answerAsk(ask.id, answer), Effect.never)
        const last = yield* Effect.raceAllFirst([seen, timePasses, writing])
        assert.deepStrictEqual(last, Option.some(yield* answering.getAsk(ask.id)))
      })
  )

  // prompts

  it.effect.each(databases)(
    "stores a prompt once in $kind, in no row that is written again, however it is posted",
    ({ make }) =>
      Effect.gen(function*() {
        const database = yield* make
        const store = yield* open(database)
        // The row holds an excerpt of the beginning.
        const prompt = [{ type: "text", text: `${"What is new? ".repeat(20)}All of it.` }] as const
        const promptRecord = { sessionId: SessionId.make("ses_1"), prompt: { parts: prompt } }
        const turn = { ...(yield* newTurn), prompt }
        yield* store.claim(turn)
        yield* store.recordPrompt(turn.id, 1, promptRecord)
        yield* store.snapshot(turn.id, 1, completed)
        for (const table of ["opencode_turn_assistant_messages", "opencode_turn_prompt_records"]) {
          const rows = yield* database.sql`SELECT * FROM ${database.sql(table)}`
          assert.lengthOf(rows, 1)
          for (const value of rows.flatMap((row) => Object.values(row))) assert.notInclude(String(value), "All of it.")
        }
        assert.deepStrictEqual(
          yield* database.sql`SELECT message_id, prompt FROM opencode_turn_prompts`.values,
          [[turn.id, JSON.stringify(turn.prompt)]]
        )
        assert.deepInclude(Option.getOrThrow(yield* store.getMessage(turn.id)), { prompt: turn.prompt, promptRecord })
      })
  )

  it.effect.each(databases)(
    "leaves no prompt in $kind of a claim that was refused, or of a message that was pruned",
    ({ make }) =>
      Effect.gen(function*() {
        const database = yield* make
        const store = yield* open(database)
        const turn = yield* newTurn
        yield* store.claim(turn)
        const refused = { ...(yield* newTurn), conversationId: turn.conversationId }
        yield* Effect.flip(store.claim(refused))
        yield* store.cancel(turn.id, "")
        const kept = yield* newTurn
        yield* store.claim(kept)
        const prompts = database.sql`SELECT message_id FROM opencode_turn_prompts ORDER BY message_id`.values
        assert.deepStrictEqual(yield* prompts, [[turn.id], [kept.id]].toSorted())
        yield* TestClock.adjust("1 milli")
        assert.strictEqual(yield* store.prune(yield* Clock.currentTimeMillis), 1)
        assert.deepStrictEqual(yield* prompts, [[kept.id]])
      })
  )

  it.effect.each(databases)(
    "writes, replaces and removes 1,200 parts at once in $kind, whatever their ids",
    ({ make }) =>
      Effect.gen(function*() {
        const database = yield* make
        const store = yield* open(database)
        const turn = yield* newTurn
        yield* store.claim(turn)
        const [few, many, done, some] = [
          contentOf(numbers(400).map((n) => toolOf(n, "running"))),
          contentOf(numbers(1200).map((n) => toolOf(n, "running"))),
          contentOf(numbers(1200).map((n) => toolOf(n, "completed"))),
          contentOf(numbers(400).map((n) => toolOf(n, "completed")))
        ]
        let before: Content | undefined
        for (const content of [few, many, done, some, few, done]) {
          assert.isTrue(yield* store.snapshot(turn.id, 1, content, { before }))
          assert.isFalse(yield* store.snapshot(turn.id, 2, content))
          before = content
          const { offset, parts } = Option.getOrThrow(yield* store.getMessage(turn.id))
          assert.deepStrictEqual<unknown>(parts, content.parts)
          assert.strictEqual((yield* store.listUpdates(turn.id, 0, Infinity)).at(-1)?.offset, offset)
        }
      })
  )

  // migrations

  it.effect.each(databases)(
    "brings $kind of version 1 up to date with all its rows, once, however many open it at once",
    (kind) =>
      Effect.gen(function*() {
        const database = yield* kind.make
        const { sql } = database
        yield* writeVersion1(sql)
        const [store] = yield* Effect.all([open(database), open(database), open(database)], {
          concurrency: "unbounded"
        })
        assert.deepStrictEqual(
          yield* sql`SELECT migration_id, name FROM opencode_turn_migrations ORDER BY migration_id`.values,
          steps
        )

        const conversationId = ConversationId.make("con_1")
        assert.deepStrictEqual(yield* store.getSession(conversationId), Option.some(SessionId.make("ses_1")))
        const [cancelled, ended, failed, pending] = yield* store.listMessages(conversationId, 10)
        const old = {
          conversationId,
          epoch: 1,
          revision: 1,
          offset: 0,
          excerpt: "Hi",
          started: null,
          owner: null,
          leaseUntilMillis: null,
          takeovers: 0,
          account: null,
          revertedBy: null,
          prompt: [{ type: "text", text: "Hi" }],
          draft: null,
          promptRecord: null,
          content: "",
          isFallback: false,
          finish: null,
          parts: [],
          usage: Usage.zero,
          subagents: [],
          waits: [],
          error: null,
          createdMillis: 1_754_000_000_000,
          finishedMillis: 1_754_000_001_000.5
        } as const
        assert.deepStrictEqual(cancelled, {
          ...old,
          id: AssistantMessageId.make("z_cancelled"),
          position: 1,
          status: "cancelled",
          content: "Stopped."
        })
        assert.deepStrictEqual(ended, {
          ...old,
          id: AssistantMessageId.make("y_completed"),
          position: 2,
          status: "completed",
          content: "Hello.",
          promptRecord
        })
        assert.deepStrictEqual(failed, {
          ...old,
          id: AssistantMessageId.make("x_error"),
          position: 3,
          status: "error",
          error: { tag: "Upstream", message: "529" }
        })
        const running = {
          ...old,
          id: AssistantMessageId.make("w_pending"),
          position: 4,
          status: "pending",
          epoch: 3,
          finishedMillis: null
        } as const
        assert.deepStrictEqual(pending, running)

        // It has no lease, so nobody takes it for an orphan; its own worker may claim it, and others wait behind it.
        yield* TestClock.adjust("1 day")
        assert.deepStrictEqual(yield* store.listOrphans(Infinity), [])
        const next = { ...(yield* newTurn), conversationId }
        assert.deepInclude(yield* store.claim({ ...next, whenBusy: "queue" }), { status: "queued" })
        assert.deepInclude(yield* store.claim({ ...running, draft: undefined }), { epoch: 4, revision: 2 })
        assert.isTrue(yield* store.finalize(running.id, 4, completed))
        assert.deepInclude(yield* store.claim(next), { status: "pending" })
        const copy = sql`
        INSERT INTO opencode_turn_assistant_messages
          (id, conversation_id, status, epoch, usage, created_millis)
        SELECT 'copy', conversation_id, status, epoch, usage, created_millis
        FROM opencode_turn_assistant_messages WHERE status = 'pending'`
        assert.strictEqual((yield* Effect.flip(copy)).reason._tag, "UniqueViolation")
      })
  )

  it.effect.each(databases)(
    "brings $kind of version 2 up to date with all its rows, which have no subagents and no asks",
    (kind) =>
      Effect.gen(function*() {
        const database = yield* kind.make
        const { sql } = database
        yield* writeVersion2(sql)
        const before = yield* sql`SELECT * FROM opencode_turn_assistant_messages ORDER BY position`
        const [store] = yield* TestClock.withLive(
          // The times in old rows are those of the test: a database of the real time, asked at the real one, does not correct them.
          Effect.all([open(database), open(database)], { concurrency: "unbounded" })
        )
        assert.deepStrictEqual(
          yield* sql`SELECT migration_id, name FROM opencode_turn_migrations ORDER BY migration_id`.values,
          steps
        )
        assert.deepStrictEqual(
          yield* sql`SELECT messages.*, prompt, draft, request FROM opencode_turn_assistant_messages AS messages
            JOIN opencode_turn_prompts AS prompts ON prompts.message_id = id
            JOIN opencode_turn_prompt_records AS records ON records.message_id = id ORDER BY position`,
          before.map(({ draft, prompt, request, ...row }) => ({
            ...smallOf(row),
            ...since3,
            ...since4,
            content: toldBy(row.content),
            draft,
            prompt,
            request
          }))
        )

        const conversationId = ConversationId.make("con_1")
        assert.deepStrictEqual(yield* store.getSession(conversationId), Option.some(SessionId.make("ses_1")))
        const old = {
          conversationId,
          epoch: 1,
          revision: 1,
          offset: 0,
          excerpt: "Hi",
          started: null,
          owner: null,
          leaseUntilMillis: null,
          takeovers: 0,
          account: null,
          revertedBy: null,
          prompt: [{ type: "text", text: "Hi" }],
          draft: null,
          promptRecord: null,
          content: "",
          isFallback: false,
          finish: null,
          parts: [],
          usage: Usage.zero,
          subagents: [],
          waits: [],
          error: null,
          createdMillis: 1_754_000_000_000,
          finishedMillis: null
        } as const
        assert.deepStrictEqual(yield* store.listMessages(conversationId, 10), [
          {
            ...old,
            id: AssistantMessageId.make("z_completed"),
            position: 1,
            status: "completed",
            epoch: 2,
            revision: 9,
            owner: "gone",
            content: "Hello.",
            promptRecord,
            finishedMillis: 1_754_000_001_000.5
          },
          {
            ...old,
            id: AssistantMessageId.make("y_pending"),
            position: 2,
            status: "pending",
            revision: 4,
            owner: "a",
            leaseUntilMillis: 1_000,
            draft: { agent: "plan" }
          },
          { ...old, id: AssistantMessageId.make("x_queued"), position: 3, status: "queued" }
        ])
        assert.deepStrictEqual(yield* store.listAsks({ limit: Infinity }), [])

        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual((yield* store.listOrphans(9)).map(({ id }) => id), ["y_pending"])
        const ask = yield* newAsk
        const messageId = AssistantMessageId.make("y_pending")
        yield* store.openAsk({ messageId, conversationId, ask })
        assert.deepInclude(yield* store.answerAsk(ask.id, answer), { status: "answered", answer })
        assert.isTrue(yield* store.finalize(messageId, 1, completed))
        assert.deepInclude(yield* store.claim({ ...old, id: AssistantMessageId.make("x_queued"), draft: undefined }), {
          status: "pending"
        })
      })
  )

  it.effect.each(databases)(
    "brings $kind of version 3 up to date with all its rows, whose content reads as the agent's",
    (kind) =>
      Effect.gen(function*() {
        const database = yield* kind.make
        const { sql } = database
        yield* writeVersion3(sql)
        const table = (name: string) => sql`SELECT * FROM ${sql(name)} ORDER BY 1`
        const before = {
          messages: yield* table("opencode_turn_assistant_messages"),
          prompts: yield* table("opencode_turn_prompts"),
          asks: yield* table("opencode_turn_asks")
        }
        const [store] = yield* Effect.all([open(database), open(database)], { concurrency: "unbounded" })
        assert.deepStrictEqual(
          yield* sql`SELECT migration_id, name FROM opencode_turn_migrations ORDER BY migration_id`.values,
          steps
        )
        assert.deepStrictEqual({
          messages: yield* table("opencode_turn_assistant_messages"),
          prompts: yield* table("opencode_turn_prompts"),
          records: yield* sql`SELECT records.* FROM opencode_turn_prompt_records AS records
            JOIN opencode_turn_assistant_messages ON id = message_id ORDER BY position`,
          asks: yield* table("opencode_turn_asks"),
          journal: yield* table("opencode_turn_journal")
        }, {
          ...before,
          messages: before.messages.map((row) => ({
            ...smallOf(row),
            ...since3,
            ...since4,
            content: toldBy(row.content)
          })),
          records: before.messages.map(({ draft, id, request }) => ({ message_id: id, draft, request })),
          journal: []
        })

        const conversationId = ConversationId.make("con_1")
        const [ended, pending, queued] = yield* store.listMessages(conversationId, 10)
        for (const message of [ended, pending, queued]) {
          assert.deepInclude(message, { isFallback: false, finish: null, takeovers: 0 })
        }
        assert.deepInclude(ended, {
          id: AssistantMessageId.make("z_completed"),
          status: "completed",
          epoch: 2,
          content: "Hello.",
          promptRecord,
          finishedMillis: 1_754_000_001_000.5
        })
        assert.deepStrictEqual((yield* store.listAsks({ limit: 9 })).map(({ id }) => id), ["per_1"])

        yield* TestClock.adjust("1 second")
        const taken = yield* Effect.fromOption(
          yield* store.takeOver(AssistantMessageId.make("y_pending"), { owner: "b", millis: 1_000 })
        )
        assert.deepInclude(taken, { epoch: 2, owner: "b", takeovers: 1, draft: { agent: "plan" } })
        assert.isTrue(yield* store.finalize(taken.id, 2, { ...completed, isFallback: true, finish: "length" }))
        const stored = Option.getOrUndefined(yield* store.getMessage(taken.id))
        assert.deepInclude(stored, { content: "Nothing.", isFallback: true, finish: "length", takeovers: 1 })
        assert.deepInclude(yield* store.cancel(AssistantMessageId.make("x_queued"), "Stopped."), {
          content: "Stopped.",
          isFallback: true
        })
      })
  )

  it.effect.each(databases)(
    "makes its tables in $kind once, however many open it at once",
    ({ make }) =>
      Effect.gen(function*() {
        const database = yield* make
        yield* Effect.forEach(numbers(5), () => open(database), { concurrency: "unbounded" })
        assert.deepStrictEqual(
          yield* database.sql`SELECT migration_id FROM opencode_turn_migrations ORDER BY 1`.values,
          [
            [1],
            [2],
            [3],
            [4],
            [5],
            [6],
            [7]
          ]
        )
      })
  )

  it.effect.each(databases)(
    "refuses $kind that a newer version wrote, and leaves it untouched",
    ({ make }) =>
      Effect.gen(function*() {
        const database = yield* make
        const { name, sql } = database
        yield* (yield* open(database)).claim(yield* newTurn)
        yield* sql`INSERT INTO opencode_turn_migrations (migration_id, name) VALUES (8, 'from the future')`
        const dump = Effect.all([
          sql`SELECT migration_id, name FROM opencode_turn_migrations ORDER BY migration_id`.values,
          sql`SELECT * FROM opencode_turn_assistant_messages`.values
        ])
        const before = yield* dump
        const error = yield* failureOf(open(database))
        assert.strictEqual(
          error.message,
          `the store failed (migrate): ${name} was written by a newer version of opencode-turn (its tables have version 8, ` +
            "this program knows 7): update this program; nothing was changed"
        )
        assert.isFalse(error.isRetryable)
        assert.deepStrictEqual(yield* dump, before)
      })
  )
})

const oldRow = { prompt: "[{\"type\":\"text\",\"text\":\"Hi\"}]", usage: JSON.stringify(Usage.zero) }
const oldEndMillis = OldTables.createdMillis + 1000.5

/** A message of every status, whose order is not that of their ids. */
const writeVersion1 = (sql: SqlClient.SqlClient) =>
  OldTables.write(sql, {
    version: 1,
    asks: [],
    rows: [
      { ...oldRow, id: "z_cancelled", status: "cancelled", content: "\"Stopped.\"", finished_millis: oldEndMillis },
      {
        ...oldRow,
        id: "y_completed",
        status: "completed",
        content: "\"Hello.\"",
        request: JSON.stringify(promptRecord),
        finished_millis: oldEndMillis
      },
      {
        ...oldRow,
        id: "x_error",
        status: "error",
        error: "{\"tag\":\"Upstream\",\"message\":\"529\"}",
        finished_millis: oldEndMillis
      },
      { ...oldRow, id: "w_pending", status: "pending", epoch: 3 }
    ]
  })

/** A message of every stage. */
const oldRows: ReadonlyArray<OldTables.OldRow> = [
  {
    ...oldRow,
    id: "z_completed",
    status: "completed",
    epoch: 2,
    revision: 9,
    owner: "gone",
    content: "\"Hello.\"",
    request: JSON.stringify(promptRecord),
    finished_millis: oldEndMillis
  },
  {
    ...oldRow,
    id: "y_pending",
    status: "pending",
    revision: 4,
    owner: "a",
    lease_until_millis: 1_000,
    draft: "{\"agent\":\"plan\"}"
  },
  { ...oldRow, id: "x_queued", status: "queued" }
]

const writeVersion2 = (sql: SqlClient.SqlClient) => OldTables.write(sql, { version: 2, rows: oldRows, asks: [] })

/** The same, and an open ask. */
const writeVersion3 = Effect.fnUntraced(function*(sql: SqlClient.SqlClient) {
  const ask = JSON.stringify({ ...(yield* newAsk), id: "per_1" })
  yield* OldTables.write(sql, {
    version: 3,
    rows: oldRows,
    asks: [{ id: "per_1", message_id: "y_pending", ask, status: "open" }]
  })
})
