/**
 * How many bytes SQLite writes for one turn, beside what it holds in the end: the growth of the log, with checkpoints off. With `watched`
 * another connection attaches to the turn, as another process would, and what it reads is counted beside what changes.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import { statSync } from "node:fs"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { AssistantMessageId, ConversationId, MessageId, PartId } from "../../packages/core/src/domain/Ids.ts"
import type { Part } from "../../packages/core/src/domain/Part.ts"
import * as Usage from "../../packages/core/src/domain/Usage.ts"
import * as Journal from "../../packages/core/src/store/Journal.ts"
import { type Content, PollInterval, SessionStore } from "../../packages/core/src/store/SessionStore.ts"
import { attachTurn } from "../../packages/core/src/turn/AttachTurn.ts"
import * as SqliteClient from "../../packages/platform-node/src/sql/SqliteClient.ts"
import * as SqlSessionStore from "../../packages/platform-node/src/sql/SqlSessionStore.ts"
import { begin, flag, int, text } from "../Child.ts"

const folder = await mkdtemp(join(tmpdir(), "opencode-turn-bench-"))
const filename = join(folder, "turns.db")
const Live = Layer.provideMerge(SqlSessionStore.layer, SqliteClient.layer({ filename }))
const id = AssistantMessageId.make("asm_1")
const messageId = MessageId.make("msg_1")

const contentOf = (parts: ReadonlyArray<Part>): Content => ({
  content: Journal.textOf(parts),
  parts,
  usage: Usage.zero
})

/** The contents that the snapshots of a turn see. */
function* contents(): Generator<Content> {
  const parts: Array<Part> = []
  for (let n = 0; n < int("count"); n++) {
    if (text("shape") === "text") {
      const before = parts[0]?.type === "text" ? parts[0].text : ""
      parts[0] = {
        type: "text",
        id: PartId.make("prt_1"),
        messageId,
        text: before + "word ".repeat(int("bytes") / 5 / int("count")),
        isComplete: n === int("count") - 1
      }
      yield contentOf([...parts])
      continue
    }
    for (const status of ["pending", "running", "completed"] as const) {
      parts[n] = {
        type: "tool",
        id: PartId.make(`prt_${n}`),
        messageId,
        callId: `call_${n}`,
        tool: "bash",
        status,
        input: status === "pending" ? {} : { command: "ls" },
        ...(status === "completed" && { output: "o".repeat(int("bytes")) })
      }
      yield contentOf([...parts])
    }
  }
}

/** The log: it only grows, because nothing is moved out of it. */
const size = () => statSync(`${filename}-wal`).size

/** Another connection's view of the store, which counts what it reads as JSON. */
const reading = { bytes: 0 }
const counted = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.tap(effect, (read) =>
    Effect.sync(() => {
      reading.bytes += JSON.stringify(read).length
    }))
const Watching = Layer.effect(
  SessionStore,
  Effect.map(SessionStore, (store) =>
    SessionStore.of({
      ...store,
      getState: (id) => counted(store.getState(id)),
      getMessage: (id) => counted(store.getMessage(id)),
      listUpdates: (...page) => counted(store.listUpdates(...page))
    }))
).pipe(
  Layer.provide(Layer.fresh(SqlSessionStore.layerSqlite({ filename }))),
  Layer.provide(Layer.succeed(PollInterval, Duration.millis(2)))
)
const watching = Effect.provide(Stream.runDrain(attachTurn(id)), Watching)

const written = await Effect.runPromise(
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const store = yield* SessionStore
    yield* sql`PRAGMA wal_checkpoint(TRUNCATE)`
    yield* sql`PRAGMA wal_autocheckpoint = 0`
    yield* store.claim({ id, conversationId: ConversationId.make("c"), prompt: [{ type: "text", text: "go" }] })
    const watcher = flag("watched") ? yield* Effect.forkChild(watching) : undefined
    const before = size()
    const end = begin()
    let last = Journal.nothing
    let changed = 0
    for (const content of contents()) {
      changed += JSON.stringify(Journal.between(last, content)).length
      yield* store.snapshot(id, 1, content, { before: last })
      last = content
      if (watcher !== undefined) yield* Effect.sleep("10 millis")
    }
    yield* store.finalize(id, 1, { ...last, status: "completed", error: null }, { before: last })
    if (watcher !== undefined) yield* Fiber.join(watcher)
    return { end, bytes: size() - before, held: JSON.stringify(last.parts).length, changed }
  }).pipe(Effect.provide(Live))
)
await rm(folder, { recursive: true, force: true })
written.end({ bytes: written.bytes, held: written.held, changed: written.changed, read: reading.bytes })
