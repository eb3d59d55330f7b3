/**
 * What earlier versions of the tables held is read back unchanged, and goes on.
 */
import { NodeFileSystem } from "@effect/platform-node"
import { assert, it } from "@effect/vitest"
import type { Answer, Ask } from "@opencode-turn/core/Ask"
import { AskId, AssistantMessageId, ConversationId, MessageId, PartId, SessionId } from "@opencode-turn/core/Ids"
import * as Journal from "@opencode-turn/core/Journal"
import type { Part } from "@opencode-turn/core/Part"
import { type Content, type PromptRecord, SessionStore, StoreError } from "@opencode-turn/core/SessionStore"
import type { StoredMessage } from "@opencode-turn/core/StoredMessage"
import type { Subagent } from "@opencode-turn/core/Subagent"
import type { Usage } from "@opencode-turn/core/Usage"
import * as SqliteClient from "@opencode-turn/platform-node/SqliteClient"
import * as SqlSessionStore from "@opencode-turn/platform-node/SqlSessionStore"
import { Context, Effect, FileSystem, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { clientOf, makeDatabase } from "../support/PostgresDatabase.ts"
import * as OldTables from "./OldTables.ts"

const sqlite = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const filename = `${yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-old-" })}/turn.db`
  const client = yield* Layer.build(SqliteClient.layer({ filename }))
  return {
    sql: Context.get(client, SqlClient.SqlClient),
    tables: "SELECT name, sql FROM sqlite_master ORDER BY name",
    layer: () => SqlSessionStore.layerSqlite({ filename })
  }
})

const postgres = Effect.gen(function*() {
  const url = yield* makeDatabase
  const sql: SqlClient.SqlClient = yield* clientOf(url)
  return {
    sql,
    tables: `SELECT table_name, column_name, column_default, is_nullable FROM information_schema.columns
      WHERE table_schema = 'public' ORDER BY 1, 2`,
    layer: () => SqlSessionStore.layerPostgres({ url })
  }
})

const databases = [{ kind: "a SQLite file", make: sqlite }, { kind: "PostgreSQL", make: postgres }]

const versions = [1, 2, 3, 4, 5] as const

const cases = databases.flatMap((database) => versions.map((version) => ({ ...database, version })))

type Database = Effect.Success<typeof sqlite>

/** The times in old rows are those of the test, which a database of the real time must not correct: it is asked at the real one. */
const open = (database: Database) =>
  TestClock.withLive(Effect.map(Layer.build(database.layer()), (context) => Context.get(context, SessionStore)))

const conversationId = ConversationId.make("con_1")
const messageId = MessageId.make("msg_1")
const finishedMillis = OldTables.createdMillis + 1000.5

const usage: Usage = { cost: 0.25, tokens: { input: 1, output: 2, reasoning: 3, cacheRead: 4, cacheWrite: 5 } }

/** What neither PostgreSQL's texts nor UTF-8 can hold. */
const odd = "nul \u0000, lone \ud800 and \udc00, both \ud83d\ude00, line\u2028 \"quoted\" \\ 'single'"

const part = (id: string) => ({ id: PartId.make(id), messageId })

const parts: ReadonlyArray<Part> = [
  { ...part("prt_0"), type: "reasoning", text: `Think. ${odd}`, isComplete: true },
  { ...part("prt_1"), type: "text", text: "First.", isComplete: true },
  { ...part("prt_2"), type: "tool", callId: "1", tool: "bash", status: "pending", input: {} },
  {
    ...part("prt_3"),
    type: "tool",
    callId: "2",
    tool: "bash",
    status: "running",
    input: { command: odd },
    title: "ls"
  },
  {
    ...part("prt_4"),
    type: "tool",
    callId: "3",
    tool: "task",
    status: "completed",
    input: { [odd]: [1, null, { deep: odd }] },
    output: odd,
    metadata: { exit: 0 },
    subagent: SessionId.make("ses_2"),
    files: [{ path: "/a", change: "added", additions: 1, deletions: 0, contentKey: "content" }],
    startedMillis: 1.5,
    endedMillis: 2.5
  },
  {
    ...part("prt_5"),
    type: "tool",
    callId: "4",
    tool: "edit",
    status: "error",
    input: {},
    error: "no",
    isRefused: true,
    refusal: odd
  },
  { ...part("prt_6"), type: "file", mediaType: "image/png", url: "data:,", filename: odd },
  { ...part("prt_7"), type: "step-finish", reason: "tool-calls", cost: 0.25, tokens: usage.tokens },
  { ...part("prt_8"), type: "patch", files: ["/a", odd] },
  { type: "todos", id: PartId.make("todos"), todos: [{ content: odd, status: "in_progress", priority: "high" }] },
  { ...part("prt_9"), type: "text", text: "", isComplete: true },
  { ...part("prt_10"), type: "text", text: odd, isComplete: false }
]

const subagents: ReadonlyArray<Subagent> = [
  {
    sessionId: SessionId.make("ses_2"),
    parentId: SessionId.make("ses_1"),
    openedBy: PartId.make("prt_4"),
    title: odd,
    agent: "general",
    status: "completed",
    text: odd,
    usage
  },
  {
    sessionId: SessionId.make("ses_3"),
    parentId: SessionId.make("ses_2"),
    title: "",
    status: "running",
    text: "",
    usage
  }
]

const begun: ReadonlyArray<Part> = [{ ...part("prt_1"), type: "text", text: "Hel", isComplete: false }]

const prompt = [{ type: "text", text: `Hi, ${odd}` }] as const

const withoutIds: PromptRecord = { sessionId: SessionId.make("ses_1"), prompt: { parts: prompt } }

const withIds: PromptRecord = {
  sessionId: SessionId.make("ses_1"),
  prompt: {
    ids: { promptId: MessageId.make("msg_0"), partIds: [PartId.make("prt_0")] },
    parts: [{ type: "text", text: "Another." }],
    agent: "plan",
    model: { providerId: "anthropic", modelId: "claude" }
  },
  earlier: [MessageId.make("msg_-1")],
  refusals: 1
}

const questionOf = (id: string): Ask => ({
  _tag: "Question",
  id: AskId.make(id),
  sessionId: SessionId.make("ses_1"),
  questions: [{ question: odd, header: "One", options: [], multiple: false, custom: true }]
})

const answer: Answer = { _tag: "Answers", answers: [["the first"]] }

/** What the fourth version keeps of a message. */
type Old =
  & Pick<StoredMessage, "content" | "draft" | "error" | "finish" | "isFallback" | "leaseUntilMillis" | "owner">
  & Pick<StoredMessage, "parts" | "promptRecord" | "revision" | "status" | "subagents" | "takeovers">
  & { readonly id: string }

const empty = {
  content: "",
  draft: null,
  error: null,
  finish: null,
  isFallback: false,
  leaseUntilMillis: null,
  owner: null,
  parts: [],
  promptRecord: null,
  revision: 1,
  subagents: [],
  takeovers: 0
} as const

/** The order of the ids is not that of the messages. */
const messages: ReadonlyArray<Old> = [
  {
    ...empty,
    id: "z_told",
    status: "completed",
    content: `First.\n\n${odd}`,
    draft: { agent: "plan", system: odd, outputSchema: { type: "object" } },
    finish: "stop",
    owner: "gone",
    leaseUntilMillis: 7.5,
    parts,
    promptRecord: withIds,
    revision: 9,
    subagents,
    takeovers: 2
  },
  { ...empty, id: "y_output", status: "completed", content: odd, parts, promptRecord: withoutIds },
  { ...empty, id: "x_bare", status: "completed", content: "Hello." },
  { ...empty, id: "w_cancelled", status: "cancelled", content: "Stopped.", isFallback: true, parts: begun },
  {
    ...empty,
    id: "v_failed",
    status: "error",
    error: { tag: "Upstream", message: odd, details: { status: 529 } },
    subagents
  },
  {
    ...empty,
    id: "u_pending",
    status: "pending",
    content: "Hel",
    draft: { agent: "plan" },
    owner: "a",
    leaseUntilMillis: 1000,
    parts: begun,
    promptRecord: withoutIds,
    revision: 4
  },
  { ...empty, id: "t_queued", status: "queued", draft: { title: odd } }
]

/** The messages that a version could hold, without what it did not know. */
const heldBy = (version: OldTables.OldVersion): ReadonlyArray<Old> =>
  messages.flatMap((message) =>
    version === 1 && message.status === "queued" ? [] : [{
      ...message,
      ...(version < 2 && { draft: null, leaseUntilMillis: null, owner: null, revision: 1 }),
      waits: [],
      ...(version < 3 && { subagents: [] }),
      ...(version < 4 && { finish: null, isFallback: false, takeovers: 0 })
    }]
  )

const isOpen = ({ status }: Old): boolean => status === "pending" || status === "queued"

/** The record's parts are left out where they are the prompt. */
const requestOf = ({ prompt: { parts, ...choices }, ...record }: PromptRecord) =>
  JSON.stringify({ ...record, prompt: parts === prompt ? choices : { ...choices, parts } })

const partJson = (part: Part) => JSON.stringify({ type: "part", part })

/** The reply as the fifth version wrote it: a text is opened empty, appended to, and closed. */
const journalOf = ({ parts, subagents }: Pick<Old, "parts" | "subagents">): ReadonlyArray<OldTables.OldEntry> => [
  ...parts.flatMap((part): ReadonlyArray<OldTables.OldEntry> => {
    const entry = JSON.stringify(`part ${part.id}`)
    if (part.type !== "text" && part.type !== "reasoning") return [{ entry, kind: "open", change: partJson(part) }]
    const delta = { type: `${part.type}.delta`, partId: part.id, delta: part.text }
    return [
      { entry, kind: "open", change: partJson({ ...part, text: "", isComplete: false }) },
      ...(part.text === "" ? [] : [{ entry, kind: "append", change: JSON.stringify(delta) } as const]),
      ...(part.isComplete ? [{ entry, kind: "close", change: partJson({ ...part, text: "" }) } as const] : [])
    ]
  }),
  ...subagents.map((subagent) => ({
    entry: JSON.stringify(`subagent ${subagent.sessionId}`),
    kind: "open" as const,
    change: JSON.stringify({ type: "subagent", subagent })
  }))
]

const excerpt = `Hi, ${odd.replaceAll(/\s+/g, " ").toWellFormed()}`

const started = { sessionId: "ses_1", promptId: "msg_0", model: "anthropic/claude", agent: "plan" }

const rowOf = (message: Old): OldTables.OldRow => ({
  id: message.id,
  status: message.status,
  prompt: JSON.stringify(prompt),
  content: JSON.stringify(message.content),
  parts: JSON.stringify(message.parts),
  usage: JSON.stringify(usage),
  subagents: JSON.stringify(message.subagents),
  revision: message.revision,
  takeovers: message.takeovers,
  ...(message.isFallback && { is_fallback: 1 }),
  ...(message.owner !== null && { owner: message.owner }),
  ...(message.leaseUntilMillis !== null && { lease_until_millis: message.leaseUntilMillis }),
  ...(message.draft !== null && { draft: JSON.stringify(message.draft) }),
  ...(message.error !== null && { error: JSON.stringify(message.error) }),
  ...(message.finish !== null && { finish: JSON.stringify(message.finish) }),
  ...(message.promptRecord !== null && { request: requestOf(message.promptRecord) }),
  excerpt: JSON.stringify(excerpt),
  ...(message.promptRecord === withIds && { started: JSON.stringify(started) }),
  journal: journalOf(message),
  ...(!isOpen(message) && { finished_millis: finishedMillis })
})

const unreadableParts = "[{\"type\":\"canary\"}]"

/** What the fifth version made of an older row that it could not read. */
const unreadableChange = JSON.stringify({ parts: unreadableParts, subagents: "[]" })

/** It stands in the middle, so that what comes after it is seen to be converted. */
const unreadable: OldTables.OldRow = {
  ...rowOf({ ...empty, id: "unreadable", status: "completed", content: "canary" }),
  parts: unreadableParts,
  journal: [{ entry: "unreadable", kind: "open", change: unreadableChange }]
}

const asks: ReadonlyArray<OldTables.OldAsk> = [
  { id: "que_1", message_id: "u_pending", ask: JSON.stringify(questionOf("que_1")), status: "open" },
  {
    id: "que_2",
    message_id: "u_pending",
    ask: JSON.stringify(questionOf("que_2")),
    status: "answered",
    answer: JSON.stringify(answer),
    closed_millis: 5
  }
]

const rowsOf = (version: OldTables.OldVersion) => {
  const [first, ...rest] = heldBy(version).map(rowOf)
  return [...(first === undefined ? [] : [first]), unreadable, ...rest]
}

const pagesOf = (store: SessionStore["Service"], id: string) =>
  Effect.map(
    Journal.readAll((after) => store.listUpdates(AssistantMessageId.make(id), after, 2)),
    (updates) => updates.map(({ update }) => update)
  )

it.layer(NodeFileSystem.layer)("SqlMigrations", (it) => {
  it.effect.each(cases)(
    "reads everything back that $kind of version $version held, and goes on with it",
    ({ make, version }) =>
      Effect.gen(function*() {
        const database = yield* make
        yield* OldTables.write(database.sql, { version, rows: rowsOf(version), asks })
        const store = yield* open(database)

        const expected = heldBy(version).map((message, at) => ({
          ...message,
          position: at === 0 ? 1 : at + 2,
          epoch: 1,
          account: null,
          revertedBy: null,
          conversationId,
          prompt,
          usage,
          excerpt,
          started: message.promptRecord === withIds ? started : null,
          createdMillis: OldTables.createdMillis,
          finishedMillis: isOpen(message) ? null : finishedMillis
        }))
        const found = yield* Effect.forEach(
          expected,
          ({ id }) => Effect.map(store.getMessage(AssistantMessageId.make(id)), Option.getOrThrow)
        )
        assert.deepStrictEqual<unknown>(found, expected.map((each, at) => ({ ...each, offset: found[at]?.offset })))
        assert.deepStrictEqual(yield* store.listMessages(conversationId, Infinity), found)
        for (const { id, offset, parts, subagents } of found) {
          const told = Journal.apply(yield* pagesOf(store, id))
          assert.deepStrictEqual({ parts: told.parts, subagents: told.subagents }, { parts, subagents })
          assert.strictEqual((yield* store.listUpdates(id, 0, Infinity)).at(-1)?.offset ?? 0, offset)
        }
        assert.deepStrictEqual(yield* store.getSession(conversationId), Option.some(SessionId.make("ses_1")))

        const id = AssistantMessageId.make("u_pending")
        if (version >= 3) {
          const [open, ...others] = yield* store.listAsks({ limit: 9 })
          assert.isEmpty(others)
          assert.deepInclude(open, {
            id: AskId.make("que_1"),
            messageId: id,
            conversationId,
            ask: questionOf("que_1"),
            status: "open"
          })
          const answered = Option.getOrThrow(yield* store.getAsk(AskId.make("que_2")))
          assert.deepInclude(answered, { ask: questionOf("que_2"), status: "answered", answer, closedMillis: 5 })
        }

        // The pending message goes on.
        yield* TestClock.adjust("1 minute")
        const { epoch, offset } = yield* store.claim({ id, conversationId, prompt, lease: { owner: "b", millis: 1 } })
        assert.strictEqual(epoch, 2)
        const before: Content = { content: "Hel", parts: begun, usage }
        const after: Content = {
          content: "Hello",
          parts: [{ ...part("prt_1"), type: "text", text: "Hello", isComplete: false }],
          usage
        }
        assert.isTrue(yield* store.snapshot(id, epoch, after, { before }))
        assert.deepStrictEqual<unknown>(yield* store.listUpdates(id, offset, 9), [
          { offset: offset + 1, update: { _tag: "TextDelta", partId: "prt_1", delta: "lo" } }
        ])
        const last: Content = { content: `First.\n\n${odd}`, parts, subagents, usage }
        assert.isTrue(
          yield* store.finalize(id, epoch, { ...last, status: "completed", error: null }, { before: after })
        )
        const ended = Option.getOrThrow(yield* store.getMessage(id))
        assert.deepInclude(ended, { status: "completed", content: last.content, parts, subagents })
        if (version >= 2) {
          const next = yield* store.claim({ id: AssistantMessageId.make("t_queued"), conversationId, prompt })
          assert.strictEqual(next.status, "pending")
        }

        // What could not be read before cannot be read now, and its text is still there for a person.
        const spoiled = AssistantMessageId.make(unreadable.id)
        for (
          const read of [Effect.asVoid(store.getMessage(spoiled)), Effect.asVoid(store.listUpdates(spoiled, 0, 9))]
        ) {
          const error = yield* Effect.flip(read)
          assert.instanceOf(error, StoreError)
          assert.include(
            error.reason,
            "table opencode_turn_journal holds a row that cannot be decoded (id \"unreadable\", field change)"
          )
          assert.notInclude(error.message, "canary")
          assert.isFalse(error.isRetryable)
        }
        const [kept] = yield* database.sql`SELECT change FROM opencode_turn_journal WHERE message_id = 'unreadable'`
        assert.deepStrictEqual({ ...kept }, { change: unreadableChange })
      })
  )

  it.effect.each(databases)(
    "leaves $kind of version 4 as it was when the migration fails half way, and migrates it later",
    ({ make }) =>
      Effect.gen(function*() {
        const database = yield* make
        const { sql } = database
        yield* OldTables.write(sql, { version: 4, rows: rowsOf(4), asks })
        // A column that somebody's view reads cannot be dropped, which comes after everything was converted.
        yield* sql`CREATE VIEW somebodys AS SELECT parts FROM opencode_turn_assistant_messages`
        const dump = Effect.all([
          sql.unsafe(database.tables),
          sql`SELECT migration_id, name FROM opencode_turn_migrations ORDER BY 1`,
          sql`SELECT * FROM opencode_turn_assistant_messages ORDER BY position`,
          sql`SELECT * FROM opencode_turn_prompts ORDER BY 1`,
          sql`SELECT * FROM opencode_turn_asks ORDER BY position`
        ])
        const before = yield* dump
        const error = yield* Effect.flip(open(database))
        assert.instanceOf(error, StoreError)
        assert.deepInclude(error, { operation: "migrate", isRetryable: false })
        assert.deepStrictEqual(yield* dump, before)

        yield* sql`DROP VIEW somebodys`
        const store = yield* open(database)
        assert.lengthOf(yield* store.listMessages(conversationId, Infinity), messages.length)
      })
  )
})
