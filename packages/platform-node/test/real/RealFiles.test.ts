/**
 * Files that go into a turn and files that come out of it, against a real OpenCode in a git repository.
 */
import { assert } from "@effect/vitest"
import * as Attachment from "@opencode-turn/core/Attachment"
import { runTurn } from "@opencode-turn/core/Turn"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { Effect, FileSystem, Schema } from "effect"
import { onBothLines } from "../support/BothLines.ts"
import * as RealServer from "../support/RealServer.ts"
import { base, turn } from "../support/RealTurns.ts"

const text = (text: string) => ({ type: "text", text }) as const

/** The text of everything that the model was sent last. */
const lastRequest = Effect.gen(function*() {
  const model = yield* ScriptedModel.ScriptedModel
  return (yield* model.requests).findLast(({ isTitle }) => !isTitle)?.messages.map((message) => message.text).join(
    "\n"
  ) ?? ""
})

/** One black pixel. */
const png = Uint8Array.from(
  atob("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="),
  (character) => character.charCodeAt(0)
)

onBothLines(
  "files on the real server",
  {
    layerOf: RealServer.onLine({ isRepository: true }),
    exceptions: {
      "that the agent, its shell and its subagent changed are listed with the net change of each":
        "the beta has no account of a turn's changes",
      "and a subtask is run by its agent, before the turn's own model is asked":
        "2.x takes no subtask, which is told before anything is sent"
    }
  },
  (it, tools) => {
    it.effect("that the agent, its shell and its subagent changed are listed with the net change of each", () =>
      Effect.gen(function*() {
        const { directory } = yield* RealServer.Workplace
        const result = yield* runTurn(turn([
          tools.write(`${directory}/src/new.txt`, "one\ntwo\n"),
          tools.edit(`${directory}/old.txt`, "two", "TWO"),
          tools.shell("echo shell > shell.ts && printf '\\0\\1' > made.png && echo gone > gone.txt"),
          tools.shell("rm gone.txt"),
          tools.task("Write one.", [tools.write(`${directory}/child.txt`, "child\n"), { text: "Written." }]),
          { text: "All done." }
        ]))
        assert.strictEqual(result.status, "completed", result.error?.message)
        const [child] = result.subagents
        assert.deepEqual(result.artifacts, {
          unread: [],
          files: [
            {
              path: "child.txt",
              change: "added",
              additions: 1,
              deletions: 0,
              content: "child\n",
              mediaType: "text/plain",
              sessionIds: child === undefined ? [] : [child.sessionId]
            },
            {
              path: "made.png",
              change: "added",
              additions: 0,
              deletions: 0,
              content: undefined,
              mediaType: "image/png",
              sessionIds: []
            },
            {
              path: "old.txt",
              change: "modified",
              additions: 1,
              deletions: 1,
              content: undefined,
              mediaType: "text/plain",
              sessionIds: result.sessionId === undefined ? [] : [result.sessionId]
            },
            {
              path: "shell.ts",
              change: "added",
              additions: 1,
              deletions: 0,
              content: undefined,
              mediaType: "text/plain",
              sessionIds: []
            },
            {
              path: "src/new.txt",
              change: "added",
              additions: 2,
              deletions: 0,
              content: "one\ntwo\n",
              mediaType: "text/plain",
              sessionIds: result.sessionId === undefined ? [] : [result.sessionId]
            }
          ]
        })
      }))

    it.effect("that the tools of the agent and its subagent changed are listed with what became of each", () =>
      Effect.gen(function*() {
        const { directory } = yield* RealServer.Workplace
        const result = yield* runTurn(turn([
          tools.task("Write two.", [
            tools.write(`${directory}/sub/one.txt`, "one\n"),
            tools.edit(`${directory}/old.txt`, "three", "THREE"),
            { text: "Written." }
          ]),
          tools.write(`${directory}/sub/two.txt`, "two\ntwo\n"),
          { text: "All done." }
        ]))
        assert.strictEqual(result.status, "completed", result.error?.message)
        const child = result.subagents.map(({ sessionId }) => sessionId)
        const text = { content: undefined, mediaType: "text/plain" }
        assert.deepEqual(result.artifacts, {
          unread: [],
          files: [
            { ...text, path: "old.txt", change: "modified", additions: 1, deletions: 1, sessionIds: child },
            {
              ...text,
              path: "sub/one.txt",
              change: "added",
              additions: 1,
              deletions: 0,
              content: "one\n",
              sessionIds: child
            },
            {
              ...text,
              path: "sub/two.txt",
              change: "added",
              additions: 2,
              deletions: 0,
              content: "two\ntwo\n",
              sessionIds: result.sessionId === undefined ? [] : [result.sessionId]
            }
          ]
        })
      }))

    it.effect("that a shell command changed on the way to a requested value are listed by their names", () =>
      Effect.gen(function*() {
        const input = base([tools.shell("echo made > made.ts"), tools.value({ made: true })])
        const result = yield* runTurn({ ...input, output: Schema.Struct({ made: Schema.Boolean }) })
        assert.deepEqual(result.output, { made: true }, result.error?.message)
        assert.deepEqual(result.artifacts, {
          unread: [],
          files: [{
            path: "made.ts",
            change: "unknown",
            additions: undefined,
            deletions: undefined,
            content: undefined,
            mediaType: undefined,
            sessionIds: []
          }]
        })
      }))

    it.effect("are empty if the turn only talked or only read files", () =>
      Effect.gen(function*() {
        const result = yield* runTurn(turn([tools.read("old.txt"), { text: "Read." }]))
        assert.deepEqual(result.artifacts, { files: [], unread: [] })
      }))

    it.effect("of a failed turn are listed as well", () =>
      Effect.gen(function*() {
        const { directory } = yield* RealServer.Workplace
        const result = yield* runTurn(turn([
          tools.write(`${directory}/half.txt`, "half\n"),
          { fail: 400, message: "no more" }
        ]))
        assert.strictEqual(result.status, "error")
        assert.deepEqual(result.artifacts.files.map(({ change, path }) => [change, path]), [["added", "half.txt"]])
      }))

    it.effect("that go along reach the model: a text by its words, an image as the model takes it", () =>
      Effect.gen(function*() {
        const fs = yield* FileSystem.FileSystem
        const { directory } = yield* RealServer.Workplace
        yield* fs.writeFileString(`${directory}/notes.json`, `{"colour":"teal"}`)
        const notes = yield* Attachment.fromPath(`${directory}/notes.json`)
        const pixel = yield* Attachment.fromBytes({ bytes: png, filename: "pixel.png" })
        const { prompt } = turn([{ text: "Seen." }])
        assert(typeof prompt === "string")
        const result = yield* runTurn(turn([], { prompt: [text(prompt), notes, pixel] }))
        assert.strictEqual(result.content, "Seen.", result.error?.message)
        const sent = yield* lastRequest
        assert.include(sent, "teal")
        // The scripted model takes no images: OpenCode tells it so.
        assert.include(sent, "does not support image input")
      }))

    it.effect("that OpenCode would lose or hang on are refused before anything is sent", () =>
      Effect.gen(function*() {
        const model = yield* ScriptedModel.ScriptedModel
        const before = (yield* model.requests).length
        for (
          const [url, mediaType] of [
            ["https://example.com/page.txt", "text/plain"],
            ["data:image/png,notbase64", "image/png"],
            ["data:application/json;base64,e30=", "application/json"]
          ] as const
        ) {
          const result = yield* runTurn(turn([], { prompt: [text("Look."), { type: "file", url, mediaType }] }))
          assert.strictEqual(result.status, "failed")
          assert(result.error?._tag === "InvalidInput")
          assert.strictEqual(result.error.field, "prompt")
          assert.isUndefined(result.message)
        }
        assert.lengthOf(yield* model.requests, before)
      }))

    it.effect("and a subtask is run by its agent, before the turn's own model is asked", () =>
      Effect.gen(function*() {
        // The model finds the subtask in its history as a step that it made itself.
        const steps = [{ text: "the subtask" }, { text: "The turn is done." }]
        const subtask = {
          type: "subtask",
          agent: "general",
          description: "look",
          prompt: ScriptedModel.prompt("Look.", [{ text: "The subtask is done." }])
        } as const
        const result = yield* runTurn(turn([], { prompt: [text(ScriptedModel.prompt("Then go on.", steps)), subtask] }))
        assert.strictEqual(result.content, "The turn is done.", result.error?.message)
        assert.deepEqual(
          result.subagents.map(({ agent, status, text }) => [agent, status, text]),
          [["general", "completed", "The subtask is done."]]
        )
        const unknown = yield* runTurn(turn([], { prompt: [text("Go on."), { ...subtask, agent: "nope" }] }))
        assert(unknown.error?._tag === "InvalidInput")
        assert.match(unknown.error.reason, /no agent "nope", only .*general/)
      }))
  }
)
