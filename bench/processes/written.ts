/** How many bytes SQLite writes for one turn, beside what it holds in the end: the growth of the log, with checkpoints off. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { statSync } from "node:fs"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { AssistantMessageId, ConversationId, MessageId, PartId } from "../../packages/core/src/domain/Ids.ts"
import type { Part } from "../../packages/core/src/domain/Part.ts"
import * as Usage from "../../packages/core/src/domain/Usage.ts"
import * as Journal from "../../packages/core/src/store/Journal.ts"
import { type Content, SessionStore } from "../../packages/core/src/store/SessionStore.ts"
import * as SqliteClient from "../../packages/platform-node/src/sql/SqliteClient.ts"
import * as SqlSessionStore from "../../packages/platform-node/src/sql/SqlSessionStore.ts"
import { begin, int, text } from "../Child.ts"

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

const written = await Effect.runPromise(
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const store = yield* SessionStore
    yield* sql`PRAGMA wal_checkpoint(TRUNCATE)`
    yield* sql`PRAGMA wal_autocheckpoint = 0`
    yield* store.claim({ id, conversationId: ConversationId.make("c"), prompt: [{ type: "text", text: "go" }] })
    const size = () => statSync(`${filename}-wal`).size
    const before = size()
    const end = begin()
    let last = Journal.nothing
    for (const content of contents()) {
      yield* store.snapshot(id, 1, content, { before: last })
      last = content
    }
    yield* store.finalize(id, 1, { ...last, status: "completed", error: null }, { before: last })
    return { end, bytes: size() - before, held: JSON.stringify(last.parts).length }
  }).pipe(Effect.provide(Live))
)
await rm(folder, { recursive: true, force: true })
written.end({ bytes: written.bytes, held: written.held })
