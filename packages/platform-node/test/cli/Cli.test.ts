import { assert, it } from "@effect/vitest"
import { Client } from "@opencode-turn/core/Client"
import { ConversationId } from "@opencode-turn/core/Ids"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import * as WireUpdate from "@opencode-turn/core/WireUpdate"
import { prompt, ScriptedModel } from "@opencode-turn/testing/ScriptedModel"
import { environment, opencodeConfig } from "@opencode-turn/testing/ScriptedProvider"
import { Effect, FileSystem } from "effect"
import {
  cli,
  errorLine,
  type Finished,
  hasScript,
  inTerminal,
  jsonLines,
  layer,
  live,
  newHome,
  Playground,
  progressOf,
  start,
  store
} from "../support/CliProcess.ts"

const echo = { tool: "bash", args: { command: "echo hi", description: "say hi" } }

const saysHi = prompt("Say hi.", [{ reasoning: "let me think", text: "I run it.", ...echo }, { text: "It said hi." }])

const lastLine = (finished: Finished) => jsonLines(finished).at(-1) ?? {}

const messagesOf = (conversation: string) =>
  Effect.flatMap(SessionStore, (store) => store.listMessages(ConversationId.make(conversation), 10)).pipe(
    Effect.provide(store)
  )

const busySessions = Effect.flatMap(Client, (client) => client.statuses).pipe(
  Effect.map((statuses) => [...statuses.values()].filter(({ type }) => type !== "idle")),
  Effect.provide(live)
)

it.layer(layer, { excludeTestServices: true, timeout: "5 minutes" })("opencode-turn run", (it) => {
  it.effect("prints the answer alone on standard output, and all else on standard error", () =>
    Effect.gen(function*() {
      const { run } = yield* Playground
      const finished = yield* run(["run", "--conversation", "human", "--permission", "allow", saysHi])
      assert.strictEqual(finished.stdout, "I run it.\n\nIt said hi.\n")
      assert.match(
        progressOf(finished),
        /^thinking: let me think\n● Running echo hi\n✓ Ran echo hi \d+\.\d s\nwhat bash changed [^\n]*\ncompleted · [^\n]* · conversation human\n$/
      )
      assert.strictEqual(finished.code, 0)
    }))

  it.effect("prints nothing but JSON with --json, the result last and with all of its keys", () =>
    Effect.gen(function*() {
      const { run } = yield* Playground
      const finished = yield* run(["run", "--json", "--conversation", "json", "--permission", "allow", saysHi])
      assert.strictEqual(finished.stderr, "")
      assert.strictEqual(finished.code, 0)
      const lines = jsonLines(finished)
      assert.includeMembers(lines.map(({ type }) => type), ["text.delta", "reasoning.delta", "part"])
      assert.strictEqual(
        lines.flatMap(({ delta, type }) => (type === "text.delta" ? [delta] : [])).join(""),
        "I run it.It said hi."
      )
      const last = lastLine(finished)
      const { messageId, promptId, sessionId } = last
      assert.deepStrictEqual(lines[0], {
        type: "turn.started",
        version: WireUpdate.version,
        conversationId: "json",
        messageId,
        sessionId,
        promptId,
        model: null,
        agent: null
      })
      assert.deepStrictEqual(Object.keys(last), [
        "type",
        "status",
        "finish",
        "text",
        "content",
        "isFallback",
        "output",
        "reasoning",
        "parts",
        "tools",
        "todos",
        "cost",
        "tokens",
        "usage",
        "subagents",
        "files",
        "filesUnread",
        "durationMillis",
        "firstTokenMillis",
        "timing",
        "dropped",
        "conversationId",
        "sessionId",
        "messageId",
        "promptId",
        "error"
      ])
      assert.deepInclude(last, {
        type: "turn.finished",
        status: "completed",
        finish: "stop",
        isFallback: false,
        text: "I run it.\n\nIt said hi.",
        reasoning: "let me think",
        cost: 0.00004,
        tokens: { input: 20, output: 10, reasoning: 0, cacheRead: 0, cacheWrite: 0 },
        conversationId: "json",
        error: null
      })
    }))

  it.effect("continues a conversation, and shows its stored turns", () =>
    Effect.gen(function*() {
      const { run } = yield* Playground
      yield* run(["run", "--conversation", "two", prompt("First.", [{ text: "One." }])])
      yield* run(["run", "--conversation", "two", prompt("Second.", [{ text: "Two." }])])
      const [first, second] = yield* messagesOf("two")
      assert.strictEqual(first?.promptRecord?.sessionId, second?.promptRecord?.sessionId)

      const shown = yield* run(["show", "two"])
      assert.strictEqual(shown.code, 0)
      assert.match(
        shown.stdout,
        /^conversation two, OpenCode session ses_\w+\n\n> First\.[^\n]*\nOne\.\ncompleted · [^\n]* · 0 tools · [^\n]*\n\n> Second/
      )
      const json = yield* run(["show", "--json", "two"])
      assert.deepStrictEqual(jsonLines(json).map(({ status, text, type }) => ({ status, text, type })), [
        { type: "message", status: "completed", text: "One." },
        { type: "message", status: "completed", text: "Two." }
      ])
    }))

  it.effect("continues a conversation in its own folder, and refuses another folder", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const { run } = yield* Playground
      const folder = yield* fs.makeTempDirectoryScoped()
      const other = yield* fs.makeTempDirectoryScoped()
      const where = prompt("Where?", [
        { tool: "bash", args: { command: "pwd", description: "where" } },
        { text: "There." }
      ])
      const common = ["run", "--json", "--permission", "allow", "--conversation", "folders"]
      const refused = ["--directory", other]
      for (const named of [["--directory", folder], refused, []]) {
        // From a folder of its own, which a process alone has.
        const finished = yield* run([...common, ...named, where], { cwd: "/" })
        if (named === refused) {
          assert.strictEqual(finished.code, 1)
          assert.include(errorLine(finished), folder)
          const { error, status } = Object(lastLine(finished))
          assert.deepStrictEqual([status, error.tag], ["failed", "DirectoryMismatch"])
          assert.deepInclude(error.details, { directory: other, sessionDirectory: folder })
          continue
        }
        const [tool] = Object(lastLine(finished)["tools"])
        assert.strictEqual(tool.output.trim(), folder)
        // Without the session's events a turn is seen to be done only after minutes.
        assert.includeMembers(jsonLines(finished).map(({ type }) => type), ["text.delta"])
      }
      const inWords = ["run", "--permission", "allow", "--conversation", "folders"]
      const goneOn = yield* run([...inWords, where], { cwd: "/" })
      assert.include(goneOn.stderr, `the conversation works in ${folder}, where it began`)
      const mismatched = yield* run([...inWords, ...refused, where], { cwd: "/" })
      assert.match(mismatched.stderr, /failed · conversation folders/)
    }))

  it.effect("reads the prompt from standard input, for - and for nothing", () =>
    Effect.gen(function*() {
      const { run } = yield* Playground
      const input = prompt("From a pipe.", [{ text: "Read." }])
      for (const args of [["run", "-"], ["run"]]) {
        const { code, stdout } = yield* run(args, { input: `${input}\n` })
        assert.deepStrictEqual({ code, stdout }, { code: 0, stdout: "Read.\n" })
      }
    }))

  it.effect("refuses asks when nobody can answer, also in a conversation that began without such rules", () =>
    Effect.gen(function*() {
      const { run } = yield* Playground
      yield* run(["run", "--conversation", "rules", "--permission", "allow", prompt("Begin.", [{ text: "Ok." }])])
      for (const args of [["--conversation", "rules"], ["--permission", "deny"]]) {
        const finished = yield* run(["run", "--json", ...args, prompt("Try.", [echo, { text: "I was refused." }])])
        assert.deepInclude(lastLine(finished), { status: "completed", text: "I was refused." })
        const [tool] = Object(lastLine(finished)["tools"])
        assert.strictEqual(tool.status, "error")
        assert.include(tool.error, "Nobody is here to answer")
        assert.includeMembers(jsonLines(finished).map(({ type }) => type), ["asked", "answered"])
      }
    }))

  it.effect("gives the reasons to an agent that refusals stopped, and exits with 1 if they stop it again", () =>
    Effect.gen(function*() {
      const { run } = yield* Playground
      const asks = { tool: "question", args: { questions: [{ question: "Which?", header: "Pick", options: [] }] } }
      const told = yield* run(["run", "--permission", "deny", prompt("Try.", [asks, { text: "I was refused." }])])
      assert.deepStrictEqual([told.code, told.stdout], [0, "I was refused.\n"])
      const [, name = ""] = /· conversation (\S+)\n/.exec(told.stderr) ?? []
      assert.match((yield* run(["show", name])).stdout, /^I was refused\.\nrefused question Which\?\ncompleted · /m)

      const args = ["run", "--permission", "deny", "--conversation", "refused"]
      const stopped = yield* run([...args, prompt("Try.", [asks, asks, { text: "never" }])])
      assert.deepStrictEqual([stopped.code, stopped.stdout], [1, ""])
      assert.include(stopped.stderr, "the agent was stopped: question (Which?) was refused: Nobody is here to answer.")
      const [message] = yield* messagesOf("refused")
      assert.deepInclude(message, { status: "error" })
      assert.strictEqual(message?.error?.tag, "Refused")
    }))

  it.effect("allows asks with --permission allow", () =>
    Effect.gen(function*() {
      const { run } = yield* Playground
      const finished = yield* run([
        "run",
        "--json",
        "--permission",
        "allow",
        // Outside of the project OpenCode asks by itself.
        prompt("Read.", [{ tool: "read", args: { filePath: "/etc/hostname" } }, { text: "Read." }])
      ])
      const [tool] = Object(lastLine(finished)["tools"])
      assert.strictEqual(tool.status, "completed")
      assert.includeMembers(jsonLines(finished).map(({ type }) => type), ["asked", "answered"])
    }))

  it.effect.runIf(hasScript)("asks at the terminal, and goes on with the answer", () =>
    Effect.gen(function*() {
      const { start } = yield* Playground
      const running = yield* start(["run", "--conversation", "asked", saysHi], {
        wrapper: inTerminal,
        input: { open: true },
        env: { NO_COLOR: "1" }
      })
      yield* running.printed("4. Reject and explain")
      yield* running.type("1")
      yield* running.printed("conversation asked")
      const { code, stdout } = yield* running.finished
      assert.strictEqual(code, 0)
      assert.include(stdout, "? permission bash\r\n  echo hi\r\n")
      assert.strictEqual(stdout.split("  echo hi\r\n").length, 2)
      assert.include(stdout, "✓ Ran echo hi")
      assert.include(stdout, "It said hi.")
    }))

  it.effect.runIf(hasScript)("cancels the turn with Ctrl-C at a prompt", () =>
    Effect.gen(function*() {
      const { start } = yield* Playground
      const running = yield* start(["run", "--conversation", "quit", saysHi], {
        wrapper: inTerminal,
        input: { open: true },
        env: { NO_COLOR: "1" }
      })
      yield* running.printed("4. Reject and explain")
      yield* running.type("\u0003")
      const { code, stdout } = yield* running.finished
      assert.strictEqual(code, 130)
      assert.match(stdout, /\ncancelled · /)
      assert.deepStrictEqual((yield* messagesOf("quit")).map(({ status }) => status), ["cancelled"])
      assert.deepStrictEqual(yield* busySessions, [])
    }))

  it.effect("separates lines if standard output and standard error are one pipe", () =>
    Effect.gen(function*() {
      const { run } = yield* Playground
      const finished = yield* run(["run", "--permission", "allow", saysHi], {
        wrapper: (command) => ["sh", "-c", `"$0" "$@" 2>&1`, ...command]
      })
      assert.match(
        finished.stdout,
        /^thinking: let me think\n\nI run it\.\n● Running echo hi\n✓ Ran echo hi \d+\.\d s\n\nIt said hi\.\n/
      )
    }))

  it.effect.runIf(hasScript)("uses colour at a terminal only, and never with NO_COLOR", () =>
    Effect.gen(function*() {
      const { run } = yield* Playground
      const args = ["run", "--permission", "allow", prompt("Think.", [{ reasoning: "hm", text: "Thought." }])]
      assert.include((yield* run(args, { wrapper: inTerminal })).stdout, "\u001b[2mthinking: ")
      const plain = yield* run(args, { wrapper: inTerminal, env: { NO_COLOR: "1" } })
      assert.include(plain.stdout, "thinking: ")
      assert.notInclude(plain.stdout, "\u001b[2m")
    }))

  for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
    it.effect(`cancels the turn on ${signal}: aborted on the server, the partial text stored`, () =>
      Effect.gen(function*() {
        const { start } = yield* Playground
        const conversation = `stopped by ${signal}`
        const running = yield* start([
          "run",
          "--json",
          "--conversation",
          conversation,
          prompt("Talk.", [{ text: "some partial words and no end", gate: signal, gateAfter: 3 }])
        ])
        yield* running.printed("words")
        yield* running.kill(signal)
        const finished = yield* running.finished
        assert.strictEqual(finished.code, code)
        assert.strictEqual(finished.stderr, "")
        assert.deepInclude(lastLine(finished), {
          type: "turn.finished",
          status: "cancelled",
          conversationId: conversation
        })
        const [message] = yield* messagesOf(conversation)
        assert.strictEqual(message?.status, "cancelled")
        assert.strictEqual(message?.content.trim(), "some partial words")
        assert.deepStrictEqual(yield* busySessions, [])
        yield* Effect.flatMap(ScriptedModel, (model) => model.release(signal))
      }))
  }

  it.effect("ends quietly when its standard output is closed", () =>
    Effect.gen(function*() {
      const { start } = yield* Playground
      const running = yield* start([
        "run",
        "--conversation",
        "closed",
        prompt("Talk.", [{ text: "first words and then more", gate: "closed", gateAfter: 2 }])
      ])
      yield* running.printed("words")
      yield* running.closeStdout
      yield* Effect.flatMap(ScriptedModel, (model) => model.release("closed"))
      const { code, stderr } = yield* running.finished
      assert.isNotNull(code)
      assert.notMatch(stderr, /EPIPE|Error|\n\s+at /)
      assert.notInclude((yield* messagesOf("closed")).map(({ status }) => status), "pending")
    }))

  it.effect("exits with 1 and prints one line when the model fails, and still prints the result as JSON", () =>
    Effect.gen(function*() {
      const { run } = yield* Playground
      const finished = yield* run(["run", "--json", prompt("Fail.", [{ fail: 400, message: "no\u001b[2Jsuch thing" }])])
      assert.strictEqual(finished.code, 1)
      assert.match(errorLine(finished), /^opencode-turn: APIError 400: .*no␛\[2Jsuch thing/)
      const { error, status } = lastLine(finished)
      assert.strictEqual(status, "error")
      assert.strictEqual(Object(error).tag, "Upstream")
    }))

  it.effect("names an unknown model in words alone", () =>
    Effect.gen(function*() {
      const { run } = yield* Playground
      const finished = yield* run(["run", "--model", "scripted/nope", prompt("Hi.", [])])
      assert.deepStrictEqual([finished.code, finished.stdout], [1, ""])
      assert.match(errorLine(finished), /^opencode-turn: Model not found: scripted\/nope\.$/)
      const [, conversation = ""] = /· conversation (\S+)\n/.exec(finished.stderr) ?? []
      assert.include((yield* run(["show", conversation])).stdout, "error Upstream: Model not found")
    }))

  it.effect("shows why an answer ended, and exits with 1 for an answer without text", () =>
    Effect.gen(function*() {
      const { run } = yield* Playground
      const cut = yield* run([
        "run",
        "--conversation",
        "ends",
        prompt("Tell.", [{ text: "Half of", finish: "length" }])
      ])
      assert.deepStrictEqual([cut.code, cut.stdout], [0, "Half of\n"])
      assert.match(cut.stderr, /^The answer was cut off at the output limit \(length\)\.\ncompleted · /m)
      const silent = yield* run(["run", "--json", "--conversation", "ends", prompt("Think.", [{ reasoning: "Hm." }])])
      assert.strictEqual(silent.code, 1)
      assert.match(errorLine(silent), /^opencode-turn: the agent ended the turn without a word \(stop\): it thought\. /)
      assert.deepInclude(lastLine(silent), { status: "error", finish: "stop", text: "", isFallback: true })
      const shown = yield* run(["show", "ends"])
      assert.match(shown.stdout, /\nHalf of\ncompleted · finish length · /)
      assert.match(shown.stdout, /\n\[not the agent's text\] Sorry, .*\nerror EmptyStream: .*\nerror · finish stop · /)
    }))

  it.effect("ends with 1 for a turn that takes longer than --timeout", () =>
    Effect.gen(function*() {
      const { run } = yield* Playground
      const finished = yield* run([
        "run",
        "--json",
        "--timeout",
        "500ms",
        prompt("Hang.", [{ text: "a", ending: "hang" }])
      ])
      assert.strictEqual(finished.code, 1)
      assert.match(errorLine(finished), /over its budget: it took longer than 500 ms\..*--timeout/)
      assert.deepInclude(lastLine(finished), { status: "error" })
    }))

  it.effect("keeps the password to itself when it is wrong", () =>
    Effect.gen(function*() {
      const { run } = yield* Playground
      const finished = yield* run(["run", "--json", "hello"], { env: { OPENCODE_SERVER_PASSWORD: "canary-secret" } })
      assert.strictEqual(finished.code, 1)
      assert.match(errorLine(finished), /^opencode-turn: .*refused the password.*OPENCODE_SERVER_PASSWORD/)
      assert.notInclude(finished.stdout + finished.stderr, "canary-secret")
      assert.deepInclude(lastLine(finished), { status: "failed" })
    }))

  it.effect("knows an unknown conversation", () =>
    Effect.gen(function*() {
      const { run } = yield* Playground
      const finished = yield* run(["show", "nobody's"])
      assert.strictEqual(finished.code, 1)
      assert.strictEqual(finished.stdout, "")
      assert.match(errorLine(finished), /there is no conversation "nobody's"/)
    }))

  it.effect("starts a server in the folder if no server is named, and stops it when the command stops", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const folder = yield* fs.makeTempDirectoryScoped()
      const model = yield* ScriptedModel
      const home = yield* newHome(folder)
      const running = yield* start(
        [
          "run",
          "--permission",
          "allow",
          "--directory",
          folder,
          prompt("Write.", [
            { text: "Writing.", tool: "bash", args: { command: "echo hi > here.txt", description: "write" } },
            { text: "and then nothing more", gate: "embedded", gateAfter: 2 }
          ])
        ],
        { env: { ...home, ...environment(opencodeConfig(model)) } }
      )
      yield* running.printed("and then")
      assert.strictEqual(yield* fs.readFileString(`${folder}/here.txt`), "hi\n")
      yield* running.kill("SIGINT")
      const { code, stderr, stdout } = yield* running.finished
      assert.strictEqual(code, 130)
      assert.strictEqual(stdout.trimEnd(), "Writing.\n\nand then")
      assert.match(stderr, /\ncancelled · /)
      const conversation = /conversation (conv_\w+)/.exec(stderr)?.[1] ?? ""
      const shown = yield* cli(["show", conversation], { env: home })
      assert.match(shown.stdout, /\nand then\s+[^\n]*\ncancelled · /)
      const url = /OpenCode is ready on (\S+)/.exec(stderr)?.[1] ?? ""
      const answer = yield* Effect.flip(Effect.tryPromise(() => fetch(url)))
      assert.include(String(answer.cause), "fetch failed")
      yield* model.release("embedded")
    }))
})
