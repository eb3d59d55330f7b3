import { assert, it } from "@effect/vitest"
import { Client } from "@opencode-turn/core/Client"
import { AssistantMessageId, ConversationId } from "@opencode-turn/core/Ids"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { layerStore } from "@opencode-turn/platform-node/LiveLayer"
import { prompt, ScriptedModel } from "@opencode-turn/testing/ScriptedModel"
import { environment, opencodeConfig } from "@opencode-turn/testing/ScriptedProvider"
import { Deferred, Effect, FileSystem, Option, Redacted, Schedule, Stream } from "effect"
import { readFileSync } from "node:fs"
import { createServer, request } from "node:http"
import {
  cli,
  errorLine,
  type Finished,
  jsonLines,
  layerShared,
  live,
  newHome,
  type Options,
  Playground,
  progressOf,
  type Running,
  start as startAlone
} from "../support/CliProcess.ts"
import { makeDatabase } from "../support/PostgresDatabase.ts"

const lastLine = (finished: Finished) => jsonLines(finished).at(-1) ?? {}

/** The text that the lines of a turn tell. */
const told = (lines: ReadonlyArray<Record<string, unknown>>) =>
  lines.map(({ delta, type }) => (type === "text.delta" ? delta : "")).join("")

const release = (gate: string) => Effect.flatMap(ScriptedModel, (model) => model.release(gate))

/** Says two words, and the rest once the gate is open. */
const gated = (gate: string) => prompt("Talk.", [{ text: "first words and the rest", gate, gateAfter: 2 }])

const next = (text: string, ...flags: ReadonlyArray<string>) => [
  "run",
  "--conversation",
  "busy",
  ...flags,
  prompt(text, [{ text }])
]

/** The command line against the shared server, with a SQLite file that no other test touches. */
const apart = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  return yield* apartIn(`${yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-cli-" })}/turns.db`)
})

/** The same with a database that is given. */
const apartIn = Effect.fnUntraced(function*(database: string) {
  const playground = yield* Playground
  const withDatabase = (options: Options = {}): Options => ({
    ...options,
    env: { OPENCODE_TURN_DATABASE: database, ...options.env }
  })
  const stored = <A, E>(use: (store: SessionStore["Service"]) => Effect.Effect<A, E>) =>
    Effect.provide(Effect.flatMap(SessionStore, use), layerStore(database))
  const messagesOf = (conversation: string) =>
    stored((store) => store.listMessages(ConversationId.make(conversation), 10))
  return {
    ...playground,
    database,
    run: (args: ReadonlyArray<string>, options?: Options) => playground.run(args, withDatabase(options)),
    start: (args: ReadonlyArray<string>, options?: Options) => playground.start(args, withDatabase(options)),
    messagesOf,
    /** Starts a turn that waits at the gate, and gives its message. */
    startGated: Effect.fnUntraced(function*(conversation: string, gate: string, options?: Options) {
      const running = yield* playground.start(
        ["run", "--conversation", conversation, gated(gate)],
        withDatabase(options)
      )
      yield* running.printed("words")
      const [message] = yield* messagesOf(conversation)
      return { running, id: message?.id ?? "" }
    }),
    /** Kills the process of a turn, whose lease runs out at once. */
    orphan: Effect.fnUntraced(function*(conversation: string, running: Running) {
      yield* running.kill("SIGKILL")
      yield* running.finished
      const [message] = yield* messagesOf(conversation)
      if (message !== undefined) yield* stored((store) => store.release(message.id, message.epoch))
      return message
    }),
    /** Waits until somebody has taken the turn over. */
    takenOver: (id: string) =>
      Stream.unwrap(Effect.map(SessionStore, (store) => {
        const messageId = AssistantMessageId.make(id)
        return Stream.mapEffect(store.changes(messageId), () => store.getState(messageId))
      })).pipe(
        Stream.takeUntil(Option.exists(({ epoch }) => epoch > 1)),
        Stream.runDrain,
        Effect.provide(layerStore(database))
      )
  }
})

/** Passes everything on to the server but aborts, which it does not answer. */
const deafToAborts = (target: string) =>
  Effect.gen(function*() {
    const asked = yield* Deferred.make<void>()
    const server = createServer((incoming, outgoing) => {
      if (incoming.url?.includes("/abort") === true) return void Deferred.doneUnsafe(asked, Effect.void)
      const { headers, method, url } = incoming
      const upstream = request(new URL(url ?? "/", target), { method, headers }, (answer) => {
        outgoing.writeHead(answer.statusCode ?? 502, answer.headers)
        answer.pipe(outgoing)
        outgoing.on("close", () => answer.destroy())
      })
      upstream.on("error", () => outgoing.destroy())
      incoming.pipe(upstream)
    })
    yield* Effect.acquireRelease(
      Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
      () =>
        Effect.sync(() => {
          server.close()
          server.closeAllConnections()
        })
    )
    const { port }: { readonly port: number } = Object(server.address())
    return { url: `http://127.0.0.1:${port}`, asked: Deferred.await(asked) }
  })

const isBusy = (sessionId: string | undefined) =>
  Effect.flatMap(Client, (client) => client.statuses).pipe(
    Effect.map((statuses) => [...statuses].some(([id, { type }]) => id === sessionId && type !== "idle")),
    Effect.provide(live)
  )

const hasProc = process.platform === "linux"

const childrenOf = (pid: number): ReadonlyArray<number> =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter((text) => text.trim() !== "").map(Number)

/** Whether the process is gone, or dead and only not collected by its parent. */
const isGone = (pid: number): boolean => {
  try {
    return /^\d+ \(.*\) [ZX]/.test(readFileSync(`/proc/${pid}/stat`, "utf8"))
  } catch {
    return true
  }
}

it.layer(layerShared, { excludeTestServices: true, timeout: "5 minutes" })("a turn and its commands", (it) => {
  it.effect("resume carries the turn of a killed process to its end, and then has nothing to do", () =>
    Effect.gen(function*() {
      const { messagesOf, run, startGated } = yield* apart
      const { id, running } = yield* startGated("killed", "killed")
      yield* running.kill("SIGKILL")
      yield* running.finished
      assert.deepStrictEqual((yield* messagesOf("killed")).map(({ status }) => status), ["pending"])

      yield* release("killed")
      const resumed = yield* run(["resume"])
      assert.match(resumed.stdout, new RegExp(`^${id} · completed · [^\n]* · conversation killed\n$`))
      assert.strictEqual(resumed.code, 0)
      const [message] = yield* messagesOf("killed")
      assert.deepInclude(message, { status: "completed", content: "first words and the rest" })

      const again = yield* run(["resume"])
      assert.deepStrictEqual({ code: again.code, stdout: again.stdout }, { code: 0, stdout: "" })
      assert.match(errorLine(again), /nothing to resume/)
    }))

  it.effect("run takes over the turn of a killed process that blocks the queue", () =>
    Effect.gen(function*() {
      const { messagesOf, orphan, start, startGated } = yield* apart
      const { running } = yield* startGated("in the way", "in-the-way")
      yield* orphan("in the way", running)
      const taking = yield* start(["run", "--conversation", "in the way", prompt("Next.", [{ text: "Then this." }])])
      yield* taking.printed("conversation in the way is busy")
      yield* release("in-the-way")
      const { code, stdout } = yield* taking.finished
      assert.deepStrictEqual([code, stdout], [0, "Then this.\n"])
      assert.deepStrictEqual((yield* messagesOf("in the way")).map(({ content, status }) => [status, content]), [
        ["completed", "first words and the rest"],
        ["completed", "Then this."]
      ])
    }))

  it.effect("resume exits with 1 and reports a failed turn, in JSON as run does", () =>
    Effect.gen(function*() {
      const { orphan, run, start } = yield* apart
      const running = yield* start([
        "run",
        "--conversation",
        "bad",
        prompt("Fail.", [
          {
            text: "before the failure",
            gate: "bad",
            gateAfter: 1,
            tool: "bash",
            args: { command: "true", description: "nothing" }
          },
          { fail: 400, message: "no such thing" }
        ]),
        "--permission",
        "allow"
      ])
      yield* running.printed("before")
      yield* orphan("bad", running)
      yield* release("bad")
      const resumed = yield* run(["resume", "--json"])
      assert.strictEqual(resumed.code, 1)
      assert.match(errorLine(resumed), /1 of 1 resumed turns did not complete/)
      const { error, ...last } = lastLine(resumed)
      assert.deepInclude(last, { type: "turn.finished", status: "error", conversationId: "bad" })
      assert.deepInclude(error, { tag: "Upstream" })
    }))

  it.effect("a worker resumes turns as they appear, and leaves unfinished turns to the next worker", () =>
    Effect.gen(function*() {
      const { messagesOf, orphan, run, start, startGated, takenOver } = yield* apart
      const worker = yield* start(["resume", "--worker"])
      yield* worker.printed("waiting for turns")
      const first = yield* startGated("first", "worker-1")
      yield* orphan("first", first.running)
      yield* release("worker-1")
      yield* worker.printed("conversation first")
      const second = yield* startGated("second", "worker-2")
      yield* orphan("second", second.running)
      yield* takenOver(second.id)
      yield* worker.kill("SIGINT")
      const { code, stderr } = yield* worker.finished
      assert.strictEqual(code, 130)
      assert.include(stderr, `${second.id} is left to the next resume`)
      assert.deepStrictEqual((yield* messagesOf("second")).map(({ status }) => status), ["pending"])
      yield* release("worker-2")
      assert.match((yield* run(["resume"])).stdout, /completed .* conversation second\n$/)
    }))

  it.effect("a second Ctrl-C, while the server does not answer the abort, leaves the turn to resume", () =>
    Effect.gen(function*() {
      const { messagesOf, run, startGated, url } = yield* apart
      const proxy = yield* deafToAborts(url)
      const { id, running } = yield* startGated("twice", "twice", { env: { OPENCODE_BASE_URL: proxy.url } })
      yield* running.kill("SIGINT")
      yield* proxy.asked
      yield* running.kill("SIGINT")
      const finished = yield* running.finished
      assert.strictEqual(finished.code, 130)
      assert.match(
        progressOf(finished),
        new RegExp(
          `^opencode-turn: stopped\\. The turn is left unfinished; opencode-turn resume .*${id}, conversation \\S+\\)\n$`
        )
      )
      assert.deepStrictEqual((yield* messagesOf("twice")).map(({ status }) => status), ["pending"])

      yield* release("twice")
      const resumed = yield* run(["resume", "--json"])
      assert.strictEqual(resumed.code, 0)
      assert.deepInclude(lastLine(resumed), {
        type: "turn.finished",
        status: "completed",
        text: "first words and the rest",
        messageId: id
      })
    }))

  it.effect.runIf(hasProc)(
    "a second Ctrl-C ends a server of its own, and resume starts another one",
    () =>
      Effect.gen(function*() {
        const fs = yield* FileSystem.FileSystem
        const folder = yield* fs.makeTempDirectoryScoped()
        const env = { ...yield* newHome(folder), ...environment(opencodeConfig(yield* ScriptedModel)) }
        const running = yield* startAlone(["run", "--directory", folder, gated("embedded-twice")], { env })
        yield* running.printed("words")
        const [server = 0] = childrenOf(running.pid)
        // It does not answer any more.
        process.kill(server, "SIGSTOP")
        yield* running.kill("SIGINT")
        yield* running.printed("Ctrl-C again")
        yield* running.kill("SIGINT")
        const { code, stderr } = yield* running.finished
        assert.strictEqual(code, 130)
        assert.include(stderr, "opencode-turn resume carries it on")
        // Killed with the process; the kernel takes a moment.
        yield* Effect.repeat(Effect.sync(() => isGone(server)), {
          until: (gone) => gone,
          schedule: Schedule.spaced("20 millis")
        })

        yield* release("embedded-twice")
        const resumed = yield* cli(["resume"], { env })
        assert.match(resumed.stdout, /^asm_\w+ · completed · /)
        assert.strictEqual(resumed.code, 0)
        const listed = yield* cli(["list", "--json"], { env })
        const { conversationId, status } = lastLine(listed)
        assert.strictEqual(status, "completed")
        const shown = yield* cli(["show", "--json", String(conversationId)], { env })
        assert.deepInclude(lastLine(shown), { status: "completed", text: "first words and the rest" })
      })
  )

  it.effect("run waits for the turn before it and says so; --when-busy rejects or replaces", () =>
    Effect.gen(function*() {
      const { messagesOf, run, start, startGated } = yield* apart
      const { id, running } = yield* startGated("busy", "busy")
      const rejected = yield* run(next("Rejected.", "--when-busy", "reject", "--json"))
      assert.strictEqual(rejected.code, 1)
      assert.match(errorLine(rejected), /already has a turn in progress.*--when-busy queue/)
      assert.deepInclude(Object(lastLine(rejected)["error"]), { tag: "TurnInProgress" })

      const waiting = yield* start(next("Queued.", "--json"))
      yield* waiting.printed("\"turn.queued\"")
      yield* release("busy")
      assert.strictEqual((yield* running.finished).stdout, "first words and the rest\n")
      const queued = yield* waiting.finished
      assert.deepInclude(jsonLines(queued)[0] ?? {}, { type: "turn.queued", conversationId: "busy", behind: id })
      assert.deepInclude(lastLine(queued), { status: "completed", text: "Queued." })

      const replaced = yield* start(["run", "--conversation", "busy", gated("replaced")])
      yield* replaced.printed("words")
      const replacing = yield* run(next("Instead.", "--when-busy", "replace"))
      assert.deepStrictEqual([replacing.code, replacing.stdout], [0, "Instead.\n"])
      assert.strictEqual((yield* replaced.finished).code, 130)
      assert.deepStrictEqual(
        (yield* messagesOf("busy")).map(({ content, status }) => [status, content.trim()]),
        [
          ["completed", "first words and the rest"],
          ["completed", "Queued."],
          ["cancelled", "first words"],
          ["completed", "Instead."]
        ]
      )
    }))

  it.effect("watch shows a turn that another process runs, up to its end; Ctrl-C only stops watching", () =>
    Effect.gen(function*() {
      const { run, start, startGated } = yield* apart
      const { id, running } = yield* startGated("watched", "watched")
      const human = yield* start(["watch", id])
      yield* human.printed("first words")
      const bored = yield* start(["watch", id])
      yield* bored.printed("first words")
      const json = yield* start(["watch", "--json", id])
      yield* json.printed("first words")
      yield* bored.kill("SIGINT")
      const stopped = yield* bored.finished
      assert.strictEqual(stopped.code, 130)
      assert.include(stopped.stderr, `stopped watching. The turn goes on; stop it with: opencode-turn cancel ${id}`)

      yield* release("watched")
      const ran = yield* running.finished
      const watched = yield* human.finished
      assert.deepStrictEqual([watched.code, watched.stdout], [0, ran.stdout])
      assert.match(watched.stderr, /completed · [^\n]* · conversation watched\n$/)

      const lines = jsonLines(yield* json.finished)
      assert.deepInclude(lines[0] ?? {}, { type: "turn.started", messageId: id, conversationId: "watched" })
      assert.strictEqual(told(lines), "first words and the rest")
      assert.deepInclude(lines.at(-1) ?? {}, {
        type: "turn.finished",
        status: "completed",
        text: "first words and the rest"
      })
      const offsets = lines.slice(0, -1).map(({ offset }) => String(offset))
      for (const [place, offset] of offsets.entries()) {
        const rest = jsonLines(yield* run(["watch", "--json", "--from", offset, id]))
        assert.deepStrictEqual(rest.at(-1), lines.at(-1))
        assert.strictEqual(told(lines.slice(0, place + 1)) + told(rest), "first words and the rest", `from ${offset}`)
      }
      const same = lastLine(yield* run(["run", "--json", prompt("Same keys.", [{ text: "Yes." }])]))
      assert.deepStrictEqual(Object.keys(lines.at(-1) ?? {}), Object.keys(same))
      const again = lastLine(yield* run(["watch", "--json", String(same["messageId"])]))
      // The store does not keep the changed files, nor what the server dropped.
      assert.deepStrictEqual({ ...again, files: [], filesUnread: [], dropped: [] }, same)
      const [stored] = jsonLines(yield* run(["show", "--json", String(same["conversationId"])]))
      assert.deepInclude(stored, { timing: same["timing"], firstTokenMillis: same["firstTokenMillis"] })
    }))

  it.effect.each(["SQLite", "PostgreSQL"])(
    "three processes that watch a turn see one reply, although its own is killed and another carries it on, on %s",
    (kind) =>
      Effect.gen(function*() {
        const { messagesOf, orphan, start, startGated, takenOver } = kind === "SQLite"
          ? yield* apart
          : yield* apartIn(Redacted.value(yield* makeDatabase))
        const gate = `attached-${kind}`
        const { id, running } = yield* startGated(gate, gate)
        const readers = yield* Effect.forEach([1, 2, 3], () => start(["watch", "--json", id]))
        for (const reader of readers) yield* reader.printed("words")
        yield* orphan(gate, running)
        const next = yield* start(["resume"])
        yield* takenOver(id)
        yield* release(gate)
        assert.strictEqual((yield* next.finished).code, 0)
        for (const reader of readers) {
          const lines = jsonLines(yield* reader.finished)
          assert.strictEqual(told(lines), "first words and the rest")
          assert.lengthOf(lines.filter(({ type }) => type === "turn.started"), 1)
          assert.lengthOf(lines.filter(({ type }) => type === "reset"), 0)
          assert.deepInclude(lines.at(-1) ?? {}, { type: "turn.finished", text: "first words and the rest" })
        }
        const [message] = yield* messagesOf(gate)
        assert.strictEqual(message?.content, "first words and the rest")
      })
  )

  it.effect("cancel stops a turn of another process, and says so if the turn has already ended", () =>
    Effect.gen(function*() {
      const { messagesOf, run, startGated } = yield* apart
      const { id, running } = yield* startGated("cancelled", "cancelled")
      const cancelled = yield* run(["cancel", id])
      assert.deepStrictEqual(
        [cancelled.code, cancelled.stdout],
        [0, `cancelled ${id} · conversation cancelled · its owner stops the agent\n`]
      )
      assert.strictEqual((yield* running.finished).code, 130)
      const [message] = yield* messagesOf("cancelled")
      assert.deepStrictEqual([message?.status, message?.content.trim()], ["cancelled", "first words"])

      const again = yield* run(["cancel", "--json", id])
      assert.deepInclude(lastLine(again), { type: "message", messageId: id, status: "cancelled" })
      assert.strictEqual((yield* run(["watch", id])).code, 130)

      const other = yield* run(["run", "--json", prompt("Done.", [{ text: "Done." }])])
      const finished = yield* run(["cancel", String(lastLine(other)["messageId"])])
      assert.deepStrictEqual([finished.code, finished.stdout], [1, ""])
      assert.match(errorLine(finished), /is already completed/)
    }))

  it.effect("cancel stops the agent of a turn without a process if it can reach the server", () =>
    Effect.gen(function*() {
      const { messagesOf, orphan, run, startGated } = yield* apart
      const orphaned = Effect.fnUntraced(function*(name: string) {
        const { id, running } = yield* startGated(name, name)
        const message = yield* orphan(name, running)
        return { id, sessionId: message?.promptRecord?.sessionId }
      })

      const first = yield* orphaned("orphan-1")
      const unreachable = yield* run(["cancel", "--url", "http://127.0.0.1:1", first.id])
      assert.strictEqual(unreachable.code, 0)
      assert.match(unreachable.stdout, /its owner is gone, and the server does not answer/)
      assert.deepStrictEqual((yield* messagesOf("orphan-1")).map(({ status }) => status), ["cancelled"])
      assert.isTrue(yield* isBusy(first.sessionId))
      yield* release("orphan-1")

      const second = yield* orphaned("orphan-2")
      const asked = yield* run(["cancel", second.id])
      assert.match(asked.stdout, /its owner is gone; the server was asked to stop the agent\n$/)
      assert.isFalse(yield* isBusy(second.sessionId))
      const [message] = yield* messagesOf("orphan-2")
      assert.deepStrictEqual([message?.status, message?.content.trim()], ["cancelled", "first words"])
      yield* release("orphan-2")
    }))
})
