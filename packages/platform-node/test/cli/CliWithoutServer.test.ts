import { NodeServices } from "@effect/platform-node"
import { assert, it } from "@effect/vitest"
import { AssistantMessageId, ConversationId, MessageId, PartId, SessionId } from "@opencode-turn/core/Ids"
import type { Part } from "@opencode-turn/core/Part"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { EmptyStream } from "@opencode-turn/core/TurnError"
import * as Usage from "@opencode-turn/core/Usage"
import { layerStore } from "@opencode-turn/platform-node/LiveLayer"
import { Effect, FileSystem } from "effect"
import { spawnSync } from "node:child_process"
import { createServer, type RequestListener } from "node:http"
import { DatabaseSync } from "node:sqlite"
import { fileURLToPath } from "node:url"
import { cli } from "../support/CliInProcess.ts"
import { cli as cliProcess, errorLine, jsonLines, start } from "../support/CliProcess.ts"
import * as Gateways from "../support/Gateways.ts"

const hasGit = spawnSync("git", ["--version"]).status === 0

const bin = fileURLToPath(new URL("../../bin/opencode-turn.js", import.meta.url))

/** A server that answers everything like this. */
const served = (listener: RequestListener) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly url: string; readonly close: () => void }>((resume) => {
      const server = createServer(listener)
      server.listen(0, "127.0.0.1", () => {
        const { port }: { readonly port: number } = Object(server.address())
        resume(Effect.succeed({ url: `http://127.0.0.1:${port}`, close: () => void server.close() }))
      })
    }),
    ({ close }) => Effect.sync(close)
  )

/** A completed turn, one that failed, and one that is pending. */
const storeTurns = Effect.gen(function*() {
  const store = yield* SessionStore
  const claim = (id: string, conversation: string, text: string) =>
    store.claim({
      id: AssistantMessageId.make(id),
      conversationId: ConversationId.make(conversation),
      prompt: [{ type: "text", text }]
    })
  const first = yield* claim("asm_1", "c1", "First.")
  const second = yield* claim("asm_2", "c2", "Second.")
  yield* claim("asm_3", "c3", "And\u001b[2Jthen?")
  const content = { content: "", parts: [], usage: Usage.zero }
  yield* store.finalize(first.id, first.epoch, { ...content, status: "completed", error: null })
  yield* store.finalize(second.id, second.epoch, {
    ...content,
    status: "error",
    error: { tag: "Upstream", message: "APIError 400: no" }
  })
})

/** An answer that was cut off, and one without words. */
const storeEnds = Effect.gen(function*() {
  const store = yield* SessionStore
  const claim = (id: string) =>
    store.claim({
      id: AssistantMessageId.make(id),
      conversationId: ConversationId.make("c1"),
      prompt: [{ type: "text", text: "Say it." }]
    })
  const messageId = MessageId.make("msg_1")
  const text: Part = { type: "text", id: PartId.make("prt_1"), messageId, text: "Half of", isComplete: true }
  const thought: Part = { type: "reasoning", id: PartId.make("prt_2"), messageId, text: "Hm.", isComplete: true }
  const first = yield* claim("asm_1")
  yield* store.finalize(first.id, first.epoch, {
    status: "completed",
    content: "Half of",
    finish: "length",
    parts: [text],
    usage: Usage.zero,
    error: null
  })
  const second = yield* claim("asm_2")
  const error = new EmptyStream({
    sessionId: SessionId.make("ses_1"),
    finish: "stop",
    hasReasoning: true,
    tools: []
  })
  yield* store.finalize(second.id, second.epoch, {
    status: "error",
    content: "Sorry.",
    isFallback: true,
    finish: "stop",
    parts: [thought],
    usage: Usage.zero,
    error: { tag: error._tag, message: error.message }
  })
})

it.layer(NodeServices.layer, { excludeTestServices: true })("opencode-turn", (it) => {
  const invalid: ReadonlyArray<readonly [string, ReadonlyArray<string>, RegExp]> = [
    ["an unknown flag", ["run", "--nope", "hello"], /Unrecognized flag: --nope/],
    ["an unknown command", ["rnu", "hello"], /Unknown subcommand "rnu"/],
    ["a second argument", ["run", "two", "words"], /Unexpected positional argument/],
    ["an empty prompt", ["run", ""], /the prompt is empty/],
    ["a blank prompt", ["run", "  \n"], /the prompt is empty/],
    ["a missing prompt", ["run"], /standard input is empty/],
    [
      "a malformed model",
      ["run", "--model", "sonnet", "hello"],
      /invalid model: "sonnet" does not have the form provider\/model/
    ],
    ["a malformed duration", ["run", "--timeout", "soon", "hello"], /--timeout.*"soon".*duration/],
    ["a duration of nothing", ["run", "--timeout", "0", "hello"], /--timeout/],
    ["a permission that there is not", ["run", "--permission", "maybe", "hello"], /--permission.*maybe/],
    ["a terminal that is missing", ["run", "--permission", "ask", "hello"], /needs a terminal/],
    ["a malformed URL", ["run", "--url", "localhost:4096", "hello"], /--url is not an http or https URL/],
    ["an empty conversation", ["run", "--conversation", "", "hello"], /--conversation is empty/],
    [
      "a conversation that is too long",
      ["run", "--conversation", "x".repeat(513), "hello"],
      /--conversation cannot be stored: it is longer than 512 characters/
    ],
    [
      "a directory that there is not",
      ["run", "--directory", "/no/such/place", "hello"],
      /no directory "\/no\/such\/place"/
    ],
    [
      "a password on the command line",
      ["run", "--database", "postgres://me:canary@host/turns", "hello"],
      /--database.*password.*OPENCODE_TURN_DATABASE/
    ],
    [
      "a password in a parameter",
      ["list", "--database", "postgresql://host/turns?password=canary"],
      /OPENCODE_TURN_DATABASE/
    ],
    [
      "a password that is not encoded",
      ["list", "--database", "postgres://me:cana#ry@host/turns"],
      /OPENCODE_TURN_DATABASE/
    ],
    ["a password in words", ["list", "--database", "host=h password=canary"], /--database looks like/],
    [
      "a database that would keep nothing",
      ["list", "--database", "file:canary.db?mode=memory"],
      /--database is a file: URI/
    ],
    [
      "a token on the command line",
      ["run", "--url", "http://canary@host", "hello"],
      /--url holds.*OPENCODE_SERVER_PASSWORD/
    ],
    [
      "a password in the URL",
      ["run", "--url", "http://u:canary@host", "hello"],
      /--url holds.*OPENCODE_SERVER_PASSWORD/
    ],
    ["a broken escape in the URL", ["run", "--url", "http://u:canary%zz@host", "hello"], /--url holds a %/],
    [
      "a token in the URL's query",
      ["run", "--url", "http://host/?token=canary", "hello"],
      /--url is more than the address/
    ],
    ["what is done while busy that there is not", ["run", "--when-busy", "hurry", "hello"], /--when-busy.*hurry/],
    [
      "a file that there is not",
      ["run", "--file", "/no/such/file.png", "hello"],
      /"\/no\/such\/file\.png" does not exist/
    ],
    ["a folder for a file", ["run", "--file", "/", "hello"], /"\/" is a folder/],
    [
      "a schema that there is not",
      ["run", "--schema", "/no/such.json", "hello"],
      /--schema: "\/no\/such\.json" does not exist: check the path/
    ],
    ["a folder without a name", ["run", "--directory", "", "hello"], /--directory is empty: leave it out, or name/],
    ["a worker's folder without a name", ["resume", "--directory", ""], /--directory is empty/],
    [
      "a tool without a value",
      ["run", "--tool", "bash", "hello"],
      /--tool does not have the form NAME=false.*: "bash"$/
    ],
    ["a tool without a name", ["run", "--tool", " =false", "hello"], /--tool does not have the form.*: "=false"$/],
    ["a tool that is neither", ["run", "--tool", "bash=no", "hello"], /--tool does not have the form.*: "bash=no"$/],
    ["a tool twice", ["run", "--tool", "a=false", "--tool", "a=true", "hello"], /--tool names "a" twice/],
    [
      "tools beside rules that they would replace",
      ["run", "--permission", "deny", "--tool", "bash=false", "hello"],
      /--tool needs --permission allow: OpenCode would drop the rules of --permission deny/
    ],
    ["tools beside the default rules", ["run", "--tool", "bash=false", "hello"], /--tool needs --permission allow/],
    [
      "metadata without a value",
      ["run", "--metadata", "ticket", "hello"],
      /--metadata does not have the form KEY=VALUE/
    ],
    ["metadata without a key", ["run", "--metadata", "=42", "hello"], /--metadata does not have the form/],
    ["metadata twice", ["run", "--metadata", "a=1", "--metadata", "a=2", "hello"], /--metadata names "a" twice/],
    [
      "metadata in the place of the turn's",
      ["run", "--metadata", "conversationId=c", "hello"],
      /--metadata cannot set conversationId/
    ],
    ["an agent without a name", ["run", "--agent", "", "hello"], /--agent is empty/],
    ["a status of a result", ["list", "--status", "failed"], /--status.*"queued" \| "pending" \| "completed"/],
    ["a folder for a schema", ["run", "--schema", "/", "hello"], /--schema: "\/" is a folder/],
    [
      "a device for a schema",
      ["run", "--schema", "/dev/zero", "hello"],
      /--schema: "\/dev\/zero" is not a regular file/
    ],
    ["a device for a file", ["run", "--file", "/dev/zero", "hello"], /--file: "\/dev\/zero" is not a regular file/],
    ["a schema without a name", ["run", "--schema", "", "hello"], /--schema is empty/],
    ["a schema that is not JSON", ["run", "--schema", bin, "hello"], /--schema: "[^"]+" is not JSON$/],
    [
      "asks in a database that nobody else can open",
      ["run", "--permission", "store", "hello"],
      /--permission store .* "memory".* --database/
    ],
    [
      "a worker's asks in a database that nobody else can open",
      ["resume", "--worker", "--permission", "store", "--database", ":memory:"],
      /--permission store .* and ":memory:" is not one/
    ],
    ["an answer that names no ask", ["answer"], /Missing required argument: ask/],
    ["an answer that allows nothing", ["answer", "per_1", "--allow", "never"], /--allow.*never/],
    [
      "two answers",
      ["answer", "per_1", "--allow", "once", "--reject"],
      /give only one of --allow, --reject and --answer/
    ],
    ["a resume that asks", ["resume", "--permission", "ask"], /--permission.*ask/],
    ["a status that there is not", ["list", "--status", "lost"], /--status.*lost/],
    ["a limit of nothing", ["list", "--limit", "0"], /--limit.*above zero/],
    ["a place that is no offset", ["watch", "--from", "garbage", "m"], /--from.*"garbage" is no offset/],
    ["a missing age", ["prune"], /--older-than/],
    ["a malformed age", ["prune", "--older-than", "long"], /--older-than.*"long".*duration/],
    ["an age without a unit", ["prune", "--older-than", "5"], /--older-than.*"5".*with its unit, such as 5d/],
    ["an age of nothing", ["prune", "--older-than", "0d"], /--older-than.*"0d".*above zero/],
    ["an age below zero", ["prune", "--older-than", "-5d"], /--older-than is followed by -5d.*--older-than=-5d/],
    ["an age below zero in one word", ["prune", "--older-than=-5d"], /--older-than.*"-5d".*above zero/],
    ["a limit of no time", ["run", "--timeout", "0s", "hello"], /--timeout.*"0s".*above zero/],
    ["a database that no other process can share", ["watch", "m"], /the database "memory" .* cannot be shared/],
    ["a message that is not named", ["cancel"], /Missing required argument: message/],
    ["an empty message", ["watch", ""], /the message is empty/],
    ["a missing conversation", ["show"], /Missing required argument: conversation/]
  ]
  for (const [name, args, expected] of invalid) {
    it.effect(`ends with 2 and one line for ${name}`, () =>
      Effect.gen(function*() {
        const finished = yield* cli(args, { env: { OPENCODE_TURN_DATABASE: "memory" } })
        assert.deepStrictEqual([finished.code, finished.stdout], [2, ""])
        assert.match(errorLine(finished), expected)
        assert.match(errorLine(finished), /^opencode-turn: /)
        assert.notMatch(finished.stderr, /cana/)
      }))
  }

  it.effect("ends with 2 for a schema or a file that may have no end, or is too large, or is empty", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const folder = yield* fs.makeTempDirectoryScoped()
      yield* fs.symlink("/dev/zero", `${folder}/link`)
      spawnSync("mkfifo", [`${folder}/pipe`])
      yield* fs.writeFileString(`${folder}/empty`, "")
      yield* fs.writeFileString(`${folder}/large`, " ".repeat(11 * 1024 * 1024))
      const cases: ReadonlyArray<readonly [string, RegExp]> = [
        ["link", /is not a regular file/],
        ["pipe", /is not a regular file/],
        ["large", /has 11534336 bytes, and the limit is \d+ bytes/]
      ]
      for (const [name, expected] of cases) {
        for (const flag of ["--schema", "--file"]) {
          const finished = yield* cli(["run", flag, `${folder}/${name}`, "hello"])
          assert.strictEqual(finished.code, 2)
          assert.match(errorLine(finished), expected)
        }
      }
      const empty = yield* cli(["run", "--schema", `${folder}/empty`, "hello"])
      assert.match(errorLine(empty), /is empty: write a JSON Schema into it/)
    }))

  it.effect("ends with 2 for standard input without an end", () =>
    Effect.gen(function*() {
      const finished = yield* cliProcess(["run", "-"], {
        wrapper: (command) => ["sh", "-c", `yes | "$@"`, "sh", ...command]
      })
      assert.strictEqual(finished.code, 2)
      assert.match(errorLine(finished), /standard input has more than 10485760 bytes/)
    }))

  it.effect("ends with 2 for a schema whose values could not be checked", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const schema = `${yield* fs.makeTempDirectoryScoped()}/schema.json`
      const ring = `{"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"}`
      const slow = `{"type":"string","pattern":"^(a+)+$"}`
      for (const text of ["[]", `{"type":"array","contains":{"type":"string"}}`, ring, slow]) {
        yield* fs.writeFileString(schema, text)
        const finished = yield* cli(["run", "--json", "--schema", schema, "hello"])
        assert.strictEqual(finished.code, 2)
        assert.match(errorLine(finished), /--schema: "[^"]+" cannot be used: it is no JSON Schema that can be checked/)
        assert.deepInclude(jsonLines(finished)[0] ?? {}, { status: "failed", output: null })
      }
    }))

  const early: ReadonlyArray<readonly [string, number, ReadonlyArray<string>, string]> = [
    ["an empty prompt", 2, ["run", "--json", "--conversation", "c1", ""], "InvalidUsage"],
    ["a missing server", 1, ["run", "--json", "--conversation", "c1", "hello"], "OpencodeNotFound"],
    [
      "an unusable database",
      1,
      ["run", "--json", "--conversation", "c1", "--database", "/dev/null/x", "hello"],
      "StoreError"
    ]
  ]
  for (const [name, code, args, tag] of early) {
    it.effect(`reports ${name} in the last line of --json`, () =>
      Effect.gen(function*() {
        const finished = yield* cli(args, {
          env: { OPENCODE_TURN_DATABASE: "memory", OPENCODE_BIN: "/no/such/opencode" }
        })
        assert.strictEqual(finished.code, code)
        const [last, ...others] = jsonLines(finished)
        assert.deepStrictEqual(others, [])
        assert.deepInclude(last ?? {}, {
          type: "turn.finished",
          status: "failed",
          conversationId: "c1",
          messageId: null
        })
        const error: { readonly tag: string; readonly message: string } = Object(last?.["error"])
        assert.strictEqual(error.tag, tag)
        assert.include(errorLine(finished), error.message)
      }))
  }

  it.effect("lists, watches, cancels and prunes stored turns without a server", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const database = `${yield* fs.makeTempDirectoryScoped()}/turns.db`
      const env = { OPENCODE_TURN_DATABASE: database }
      yield* Effect.provide(storeTurns, layerStore(database))

      const listed = yield* cli(["list"], { env })
      assert.match(
        listed.stdout,
        /^asm_3 +pending +c3 +\d+ s ago  And\u241b\[2Jthen\?\nasm_2 +error +c2 +\d+ s ago  Second\.\nasm_1 +completed +c1 +\d+ s ago  First\.\n$/
      )
      const one = yield* cli(["list", "--json", "--limit", "1"], { env })
      assert.deepStrictEqual(jsonLines(one).map(({ messageId }) => messageId), ["asm_3"])
      const failed = yield* cli(["list", "--json", "--status", "error"], { env })
      assert.deepStrictEqual(jsonLines(failed).map(({ messageId }) => messageId), ["asm_2"])
      const none = yield* cli(["list", "--status", "queued"], { env })
      assert.deepStrictEqual([none.code, none.stdout], [0, ""])
      assert.match(errorLine(none), /no such turn/)

      const watched = yield* cli(["watch", "asm_2"], { env })
      assert.strictEqual(watched.code, 1)
      assert.match(errorLine(watched), /^opencode-turn: APIError 400: no$/)

      const unknown = yield* cli(["watch", "--json", "asm_9"], { env })
      assert.strictEqual(unknown.code, 1)
      assert.match(errorLine(unknown), /there is no message asm_9/)
      assert.deepInclude(jsonLines(unknown)[0] ?? {}, { type: "turn.finished", status: "failed" })

      const pruned = yield* cli(["prune", "--older-than", "1ms"], { env })
      assert.deepStrictEqual([pruned.code, pruned.stdout], [0, "deleted 2 turns\n"])
      const cancelled = yield* cli(["cancel", "asm_3"], { env })
      assert.deepStrictEqual(
        [cancelled.code, cancelled.stdout],
        [0, "cancelled asm_3 · conversation c3 · it had not begun\n"]
      )
      const gone = yield* cli(["cancel", "asm_1"], { env })
      assert.strictEqual(gone.code, 1)
      assert.match(errorLine(gone), /there is no message asm_1/)
      assert.deepStrictEqual(jsonLines(yield* cli(["prune", "--json", "--older-than", "1 d"], { env })), [
        { type: "pruned", count: 0 }
      ])
    }))

  it.effect("prints the rows that can be read, names those that cannot, and exits 1", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const database = `${yield* fs.makeTempDirectoryScoped()}/turns.db`
      const env = { OPENCODE_TURN_DATABASE: database }
      yield* Effect.provide(storeTurns, layerStore(database))
      const spoil = (statement: string) =>
        Effect.sync(() => {
          const sqlite = new DatabaseSync(database)
          sqlite.exec(statement)
          sqlite.close()
        })
      yield* spoil("UPDATE opencode_turn_assistant_messages SET usage = 'not JSON' WHERE id IN ('asm_1', 'asm_3')")

      const listed = yield* cli(["list"], { env })
      assert.match(listed.stdout, /^asm_2 .*\n$/)
      assert.strictEqual(
        errorLine(listed),
        "opencode-turn: 2 stored rows cannot be read and are left out: asm_3, asm_1. Correct or delete them in the database"
      )
      assert.strictEqual(listed.code, 1)
      const lines = yield* cli(["list", "--json"], { env })
      assert.deepStrictEqual(jsonLines(lines).map(({ messageId }) => messageId), ["asm_2", undefined])
      assert.deepStrictEqual(jsonLines(lines).at(-1), { type: "unreadable", ids: ["asm_3", "asm_1"] })
      assert.strictEqual(lines.code, 1)

      // Nothing else is there to show.
      const shown = yield* cli(["show", "c1"], { env })
      assert.deepStrictEqual([shown.code, shown.stdout], [1, ""])
      assert.match(errorLine(shown), /^opencode-turn: 1 stored row cannot be read and is left out: asm_1\./)
      assert.strictEqual((yield* cli(["show", "c2"], { env })).code, 0)
    }))

  it.effect("shows why an answer ended and whether its text is a fallback, in every command that shows a turn", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const database = `${yield* fs.makeTempDirectoryScoped()}/turns.db`
      const env = { OPENCODE_TURN_DATABASE: database }
      yield* Effect.provide(storeEnds, layerStore(database))

      const listed = yield* cli(["list"], { env })
      assert.match(listed.stdout, /^asm_2 +error +c1 .*\nasm_1 +completed \(length\) +c1 /)
      const [listedSecond, listedFirst] = jsonLines(yield* cli(["list", "--json"], { env }))
      assert.deepInclude(listedFirst ?? {}, { finish: "length", isFallback: false })
      assert.deepInclude(listedSecond ?? {}, { finish: "stop", isFallback: true })

      const shown = yield* cli(["show", "c1"], { env })
      assert.match(shown.stdout, /\nHalf of\ncompleted · finish length · /)
      assert.match(shown.stdout, /\n\[not the agent's text\] Sorry\.\nerror EmptyStream: .*\nerror · finish stop · /)
      const [first, second] = jsonLines(yield* cli(["show", "--json", "c1"], { env }))
      assert.deepInclude(first ?? {}, { finish: "length", text: "Half of", isFallback: false })
      assert.deepInclude(second ?? {}, { finish: "stop", text: "", content: "Sorry.", isFallback: true })
      // A list names the turns, and holds neither prompts nor replies.
      assert.notProperty(listedFirst, "text")
      assert.deepStrictEqual(
        [listedFirst?.["messageId"], listedSecond?.["error"]],
        [first?.["messageId"], second?.["error"]]
      )

      const watched = yield* cli(["watch", "asm_1"], { env })
      assert.deepStrictEqual([watched.code, watched.stdout], [0, "Half of\n"])
      assert.match(watched.stderr, /The answer was cut off at the output limit \(length\)\.\ncompleted · /)
      const silent = yield* cli(["watch", "asm_2"], { env })
      assert.deepStrictEqual([silent.code, silent.stdout], [1, ""])
      assert.notInclude(silent.stderr, "Sorry")
      const last = jsonLines(yield* cli(["watch", "--json", "asm_2"], { env })).at(-1)
      assert.deepInclude(last ?? {}, { status: "error", finish: "stop", text: "", content: "Sorry.", isFallback: true })
      assert.deepStrictEqual([last?.["error"], last?.["text"]], [second?.["error"], second?.["text"]])
    }))

  it.effect("names a database that cannot be opened once", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const folder = yield* fs.makeTempDirectoryScoped()
      const finished = yield* cli(["list", "--database", folder])
      assert.strictEqual(finished.code, 1)
      assert.match(errorLine(finished), /cannot open the SQLite database/)
      assert.lengthOf(errorLine(finished).split(folder), 2)
    }))

  it.effect("creates no database if there is none to read", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const database = `${yield* fs.makeTempDirectoryScoped()}/turns.db`
      for (const args of [["list"], ["resume"], ["watch", "m"], ["cancel", "m"], ["prune", "--older-than", "1d"]]) {
        const finished = yield* cli([...args, "--database", database])
        assert.deepStrictEqual([finished.code, finished.stdout], [1, ""])
        assert.match(errorLine(finished), /there is no database/)
      }
      assert.isFalse(yield* fs.exists(database))
    }))

  const unusable: ReadonlyArray<readonly [string, RequestListener, RegExp]> = [
    ["an HTML page", (_, response) => {
      response.setHeader("content-type", "text/html").end("<html>")
    }, /no OpenCode 1\.x or 2\.x server at .*an HTML page/],
    ["a server of a 3.x line", (_, response) => {
      response.setHeader("content-type", "application/json").end(`{"healthy":true,"version":"3.0.1"}`)
    }, /no OpenCode 1\.x or 2\.x server at .*OpenCode 3\.0\.1/],
    ["a server without the routes of OpenCode", (_, response) => {
      response.statusCode = 404
      response.end("{}")
    }, /no OpenCode 1\.x or 2\.x server at .*404/]
  ]
  for (const [name, listener, expected] of unusable) {
    it.effect(`ends with 1 and one line for ${name}`, () =>
      Effect.gen(function*() {
        const { url } = yield* served(listener)
        const finished = yield* cli(["run", "--url", url, "hello"], { env: { OPENCODE_TURN_DATABASE: "memory" } })
        assert.deepStrictEqual([finished.code, finished.stdout], [1, ""])
        assert.match(errorLine(finished), expected)
      }))
  }

  it.effect("exits with 1 and one line if no server listens", () =>
    Effect.gen(function*() {
      const finished = yield* cli(["run", "--json", "--url", "http://127.0.0.1:1", "hello"], {
        env: { OPENCODE_TURN_DATABASE: "memory" }
      })
      assert.strictEqual(finished.code, 1)
      assert.match(errorLine(finished), /cannot reach OpenCode at http:\/\/127\.0\.0\.1:1 .*Check that the server runs/)
      assert.deepInclude(jsonLines(finished).at(-1) ?? {}, { status: "failed", text: "", sessionId: null })
    }))

  it.effect("exits with 1 and one line if OpenCode is not installed", () =>
    Effect.gen(function*() {
      const finished = yield* cli(["run", "hello"], {
        env: { OPENCODE_TURN_DATABASE: "memory", OPENCODE_BIN: "/no/such/opencode" }
      })
      assert.strictEqual(finished.code, 1)
      assert.match(finished.stderr, /opencode-turn: OpenCode was not found .*install it/)
    }))

  it.effect("ends with 1 and one line for a database that cannot be read", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const folder = yield* fs.makeTempDirectoryScoped()
      yield* fs.writeFileString(`${folder}/turns.db`, "this is not a database at all, and long enough to be sure of it")
      for (const args of [["run", "--database", `${folder}/turns.db`, "hello"], ["show", "--database", folder, "c1"]]) {
        const finished = yield* cli(args)
        assert.deepStrictEqual([finished.code, finished.stdout], [1, ""])
        assert.match(errorLine(finished), /^opencode-turn: the store failed \(open\): /)
      }
      const missing = yield* cli(["show", "--database", `${folder}/missing.db`, "c1"])
      assert.match(errorLine(missing), /there is no database/)
      assert.isFalse(yield* fs.exists(`${folder}/missing.db`))
    }))

  it.effect("ends with 2 and one line for a setting that cannot be used", () =>
    Effect.gen(function*() {
      const finished = yield* cli(["run", "--url", "http://127.0.0.1:1", "hello"], {
        env: { OPENCODE_TURN_DATABASE: "memory", OPENCODE_TIMEOUT: "soon" }
      })
      assert.deepStrictEqual([finished.code, finished.stdout], [2, ""])
      assert.match(errorLine(finished), /^opencode-turn: OPENCODE_TIMEOUT is not a duration above zero: "soon"/)
    }))

  it.effect("ends with 2 for an address or a database that cannot be one, and repeats no secret", () =>
    Effect.gen(function*() {
      const wrong: ReadonlyArray<readonly [ReadonlyArray<string>, Record<string, string>, RegExp]> = [
        [["list", "--database", "mysql://u:canary@h/x"], {}, /^opencode-turn: --database is the URL of another kind/],
        [["list", "--database", ""], {}, /^opencode-turn: --database is empty/],
        [["run", "--url", "http://u:canary@h", "hi"], {}, /^opencode-turn: --url holds a user name or a password/],
        [["run", "hi"], { OPENCODE_BASE_URL: "nonsense" }, /^opencode-turn: OPENCODE_BASE_URL is not an http/],
        [
          ["list"],
          { OPENCODE_TURN_DATABASE: "mysql://u:canary@h/x" },
          /^opencode-turn: OPENCODE_TURN_DATABASE is the URL/
        ]
      ]
      for (const [args, env, expected] of wrong) {
        const finished = yield* cli(args, { env })
        assert.strictEqual(finished.code, 2, args.join(" "))
        assert.match(errorLine(finished), expected)
        assert.notInclude(finished.stdout + finished.stderr, "canary")
      }
    }))

  it.effect("says its version", () =>
    Effect.gen(function*() {
      for (const args of [["--version"], ["run", "--version"]]) {
        const { code, stderr, stdout } = yield* cliProcess(args)
        assert.match(stdout, /^opencode-turn \d+\.\d+\.\d+\S*\n$/)
        assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: "" })
      }
    }))

  it.effect("runs the demo without a key, and cleans up behind it", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const temporary = yield* fs.makeTempDirectoryScoped()
      const { code, stderr, stdout } = yield* cliProcess(["demo"], { env: { TMPDIR: temporary } })
      assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: "" })
      assert.include(stdout, "no key, no network")
      assert.match(stdout, /OpenCode is ready on http:\/\/127\.0\.0\.1:\d+/)
      assert.match(stdout, /thinking: Two small steps/)
      assert.match(stdout, /☑ Count the lines/)
      assert.match(stdout, /✓ Ran .*notes\.txt/)
      assert.match(stdout, /\nDone: notes\.txt holds 3 lines\./)
      if (hasGit) assert.match(stdout, /\n(added|modified|changed) notes\.txt/)
      assert.match(stdout, /\ncompleted · \d+ tokens in, \d+ out.* · \$0\.\d+ · \d+\.\d s/)
      assert.include(stdout, "Where to go next:")
      // Node keeps compiled code there, for the next start.
      const left = (yield* fs.readDirectory(temporary)).filter((name) => name !== "node-compile-cache")
      assert.deepStrictEqual(left, [])
    }))

  it.effect("shows the demo in the browser until it is stopped, and cleans up behind it", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const temporary = yield* fs.makeTempDirectoryScoped()
      const demo = yield* start(["demo", "--web"], { env: { TMPDIR: temporary } })
      yield* demo.printed(/\/login#\S+\s/)
      const [link = ""] = /http:\/\/127\.0\.0\.1:\d+\/login#\S+/.exec(yield* demo.stdout) ?? []
      const { headers } = yield* Effect.promise(async () =>
        Gateways.signedIn(await Gateways.redeem(link, (request) => fetch(request)))
      )
      const get = (path: string) => Effect.promise(() => fetch(new URL(path, link), { headers }))
      assert.strictEqual((yield* get("/conversations")).status, 200)
      const page = yield* Effect.flatMap(get("/"), (response) => Effect.promise(() => response.text()))
      assert.match(page, /<script type="module"/)
      yield* demo.kill("SIGINT")
      const { code, stderr } = yield* demo.finished
      assert.deepStrictEqual({ code, stderr }, { code: 130, stderr: "" })
      const left = (yield* fs.readDirectory(temporary)).filter((name) => name !== "node-compile-cache")
      assert.deepStrictEqual(left, [])
    }))
})
