import { assert } from "@effect/vitest"
import type { Attached } from "@opencode-turn/core/AttachTurn"
import { AssistantMessageId } from "@opencode-turn/core/Ids"
import * as Journal from "@opencode-turn/core/Journal"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { layerStore } from "@opencode-turn/platform-node/LiveLayer"
import * as OpencodeServer from "@opencode-turn/platform-node/OpencodeServer"
import { type OpenOptions, openTurns, type Turns } from "@opencode-turn/platform-node/promise"
import { prompt, ScriptedModel } from "@opencode-turn/testing/ScriptedModel"
import { Effect, Option, Predicate, Redacted, Schema } from "effect"
import { DatabaseSync } from "node:sqlite"
import { fileURLToPath } from "node:url"
import * as zod from "zod"
import { onBothLines } from "../support/BothLines.ts"
import { start } from "../support/CliProcess.ts"
import * as RealServer from "../support/RealServer.ts"
import { shows } from "../support/RealTurns.ts"

/** Uses turns as a program without Effect does. */
const using = <A>(options: OpenOptions, use: (turns: Turns, settings: OpenOptions) => Promise<A>) =>
  Effect.gen(function*() {
    const { password, url } = yield* OpencodeServer.OpencodeServer
    const { directory } = yield* RealServer.Workplace
    const settings = { baseUrl: url, password: Redacted.value(password), directory, database: "memory", ...options }
    return yield* Effect.promise(async () => {
      await using turns = await openTurns(settings)
      return await use(turns, settings)
    })
  })

/** The updates up to the end, or up to the one after which it is enough. */
const collect = async (
  updates: AsyncIterable<Attached>,
  isEnough: (told: ReadonlyArray<Attached>) => boolean = () => false
) => {
  const told: Array<Attached> = []
  for await (const update of updates) {
    told.push(update)
    if (isEnough(told)) break
  }
  return told
}

/** The text that a reader of the updates shows: some of it may have come before the reader, in the state that it begins with. */
const textOf = (told: ReadonlyArray<Attached>) =>
  Journal.textOf(Journal.apply(told.flatMap(({ update }) => update._tag === "Finished" ? [] : [update])).parts)

/** Lets the lease of a killed process run out at once. */
const expire = (database: string, id: string) =>
  Effect.gen(function*() {
    const store = yield* SessionStore
    const state = Option.getOrThrow(yield* store.getState(AssistantMessageId.make(id)))
    yield* store.release(state.id, state.epoch)
  }).pipe(Effect.provide(layerStore(database)))

const throwing = () => {
  throw new Error("a bug of the program")
}

const program = fileURLToPath(new URL("PromiseProcess.ts", import.meta.url))

onBothLines("the Promise API", { layerOf: RealServer.onLine() }, (it, tools) => {
  const total = (total: number) => tools.value({ total })
  const echo = tools.shell("echo asked")

  it.effect("runs a turn, and goes on with its conversation", () =>
    using({}, async (turns) => {
      const first = await turns.run({ conversation: "c1", prompt: prompt("Begin.", [{ text: "Begun." }]) })
      assert.deepEqual([first.status, first.content, first.isNewSession], ["completed", "Begun.", true])
      const second = await turns.run({ conversation: "c1", prompt: prompt("Go on.", [{ text: "Gone on." }]) })
      assert.deepEqual([second.content, second.sessionId], ["Gone on.", first.sessionId])
      const seen: Array<string> = []
      for await (const { update } of turns.attach(second.messageId)) {
        if (update._tag === "Started") seen.push(update.sessionId)
        if (update._tag === "Finished") seen.push(update.message.content)
      }
      assert.deepEqual(seen, [second.sessionId ?? "", "Gone on."])
    }))

  it.effect("forks, reverts and compacts a conversation", () =>
    using({}, async (turns) => {
      const say = (conversation: string, text: string) =>
        turns.run({ conversation, prompt: prompt("Say.", [{ text }]) })
      const first = await say("history", "First.")
      const second = await say("history", "Second.")
      const fork = await turns.fork({ conversation: "history", at: first.messageId, into: "copy" })
      assert.deepEqual([fork.status, fork.conversationId as string], ["completed", "copy"])
      const revert = await turns.revert(second.messageId)
      assert.equal(revert.status, "completed")
      assert.equal((await turns.unrevert("history")).status, "completed")
      const compaction = await turns.compact("history")
      assert.equal(compaction.content, "Scripted summary")
      const stopped = await turns.compact("copy", { signal: AbortSignal.abort(new Error("no")) }).catch(String)
      assert.equal(stopped, "Error: no")
      const again = await turns.unrevert("history").catch((error: unknown) => error)
      assert.deepInclude(Object(again), { _tag: "NothingReverted" })
      assert.equal((await say("copy", "Third.")).status, "completed")
    }))

  it.effect("gives each change of a reply, and the result at last", () =>
    using({}, async (turns) => {
      let text = ""
      let status = ""
      for await (
        const update of turns.stream({ conversation: "c2", prompt: prompt("Say.", [{ text: "Some words." }]) })
      ) {
        if (update._tag === "TextDelta") text += update.delta
        if (update._tag === "Finished") status = update.result.status
      }
      assert.deepEqual([text, status], ["Some words.", "completed"])
    }))

  it.effect("calls functions of the program with each update and at the end, and contains those that throw", () =>
    using({}, async (turns) => {
      const called: Array<string> = []
      const turn = { conversation: "called", prompt: prompt("Say.", [{ text: "Some words." }]) }
      const { content, messageId } = await turns.run({
        ...turn,
        onUpdate: async (update) => {
          await Promise.resolve()
          if (update._tag === "Started" || update._tag === "TextDelta") called.push(update._tag)
        },
        onFinalized: (message) => void called.push(`${message.id} ${message.status}`)
      })
      assert.strictEqual(called[0], "Started")
      assert.include(called, "TextDelta")
      assert.include(called, `${messageId} completed`)
      const other = await turns.run({
        ...turn,
        onUpdate: throwing,
        onFinalized: () => Promise.reject(new Error("another"))
      })
      assert.deepEqual([content, other.status, other.content], ["Some words.", "completed", "Some words."])
    }))

  it.effect("gives the result of a failed turn, and throws nothing", () =>
    using({}, async (turns) => {
      const { error, status } = await turns.run({ conversation: "c3", prompt: " " })
      assert.deepEqual([status, error?._tag, error instanceof Error], ["failed", "InvalidInput", true])
    }))

  it.effect("cancels a turn whose signal aborts, and keeps the streamed content", () =>
    Effect.flatMap(ScriptedModel, (model) =>
      using({}, async (turns) => {
        for (const how of ["run", "stream"] as const) {
          const abort = new AbortController()
          const talk = prompt("Talk.", [{ text: "first words and the rest", gate: `never ${how}`, gateAfter: 2 }])
          const options = {
            conversation: `c4 ${how}`,
            prompt: talk,
            signal: abort.signal,
            messageId: `asm_abort_${how}`
          }
          if (how === "stream") {
            for await (const update of turns.stream(options)) {
              if (shows(update, "words")) abort.abort()
              if (update._tag === "Finished") {
                assert.strictEqual(update.result.status, "cancelled")
                assert.include(update.result.content, "first words")
              }
            }
          } else {
            const running = turns.run(options)
            await Effect.runPromise(model.reached(`never ${how}`))
            abort.abort()
            assert.strictEqual((await running).status, "cancelled")
          }
          assert.throws(() => options.signal.throwIfAborted())
          let thrown: unknown
          try {
            await turns.run(options)
          } catch (cause) {
            thrown = cause
          }
          assert.strictEqual(thrown, abort.signal.reason)
        }
      })))

  it.effect("cancels a turn whose stream is left, and keeps the streamed content", () =>
    using({}, async (turns) => {
      const talk = prompt("Talk.", [{ text: "first words and the rest", gate: "never left", gateAfter: 2 }])
      for await (const update of turns.stream({ conversation: "left", prompt: talk, messageId: "asm_left" })) {
        if (shows(update, "words")) break
      }
      const last = (await collect(turns.attach("asm_left"))).at(-1)?.update
      assert.deepStrictEqual(
        last?._tag === "Finished" ? [last.message.status, last.message.content.trim()] : [],
        ["cancelled", "first words"]
      )
    }))

  it.effect("asks a function of the program, or keeps an ask until it is answered", () =>
    Effect.gen(function*() {
      const steps = prompt("Ask.", [echo, { text: "I was allowed." }])
      const asked: Array<string> = []
      const gate: OpenOptions["gate"] = async (ask, { conversationId, signal }) => {
        asked.push(`${conversationId} ${ask._tag} ${signal.aborted}`)
        return { _tag: "Permission", reply: { reply: "once" } }
      }
      const first = yield* using(
        { gate },
        (turns) => turns.run({ conversation: "c5", prompt: steps })
      )
      assert.deepEqual([first.content, asked], ["I was allowed.", ["c5 Permission false"]])

      const second = yield* using({ gate: "store" }, async (turns) => {
        const stream = turns.stream({ conversation: "c6", prompt: steps })
        for await (const update of stream) {
          if (update._tag === "Asked") {
            let pending = await turns.pendingAsks({ conversation: "c6" })
            while (pending.length === 0) pending = await turns.pendingAsks({ conversation: "c6" })
            const [ask] = pending
            await turns.answer(ask?.id ?? "", { _tag: "Permission", reply: { reply: "once" } })
          }
          if (update._tag === "Finished") return update.result.content
        }
        return ""
      })
      assert.strictEqual(second, "I was allowed.")
    }))

  it.effect("gives values of Effect's schemas, of zod's, and of a JSON Schema", () =>
    using({}, async (turns) => {
      const steps = [total(3)]
      const effect = await turns.run({
        conversation: "c7",
        prompt: prompt("Sum.", steps),
        output: Schema.Struct({ total: Schema.Finite })
      })
      const sum: number | undefined = effect.output?.total
      assert.strictEqual(sum, 3)

      const fromZod = await turns.run({
        conversation: "c8",
        prompt: prompt("Sum.", steps),
        output: zod.object({ total: zod.number().max(5).transform((value) => `${value} in all`) })
      })
      const words: string | undefined = fromZod.output?.total
      assert.strictEqual(words, "3 in all")

      const refused = await turns.run({
        conversation: "c9",
        prompt: prompt("Sum.", [total(9), total(9), total(9)]),
        output: zod.object({ total: zod.number().refine((value) => value < 5, "too much") })
      })
      assert.strictEqual(refused.error?._tag, "OutputInvalid")
      assert.include(refused.error?.message, "too much")

      const json = await turns.run({
        conversation: "c10",
        prompt: prompt("Sum.", steps),
        output: { type: "object", properties: { total: { type: "number" } }, required: ["total"] }
      })
      assert.deepEqual(json.output, { total: 3 })
    }))

  it.effect("applies the policies of openTurns to all turns, and those of a turn in their place", () =>
    using({ outputRepairs: 0, fallbackContent: "Nothing to read.", maxAttachmentBytes: 3 }, async (turns) => {
      const small = zod.object({ total: zod.number().max(5) })
      const sum = prompt("Sum.", [total(9), total(4)])
      const first = await turns.run({ conversation: "c11", prompt: sum, output: small })
      assert.strictEqual(first.error?._tag, "OutputInvalid")
      const second = await turns.run({ conversation: "c12", prompt: sum, output: small, outputRepairs: 1 })
      assert.deepEqual(second.output, { total: 4 })

      const silent = prompt("Think.", [{ reasoning: "No words.", text: "" }])
      const empty = await turns.run({ conversation: "c13", prompt: silent })
      assert.deepEqual([empty.status, empty.content, empty.isFallback], ["error", "Nothing to read.", true])
      const allowed = await turns.run({ conversation: "c14", prompt: silent, allowSilent: true })
      assert.deepEqual([allowed.status, allowed.content], ["completed", ""])

      const file = { type: "file", mediaType: "text/plain", url: "data:text/plain,four" } as const
      const large = await turns.run({ conversation: "c15", prompt: [{ type: "text", text: "Read." }, file] })
      assert.strictEqual(large.error?._tag, "InvalidInput")
      const over = await turns.run({
        conversation: "c16",
        prompt: sum,
        output: small,
        outputRepairs: 1,
        budget: { steps: 1 }
      })
      assert.strictEqual(over.error?._tag, "BudgetExceeded")
    }))

  it.effect("rejects a turn of a busy conversation or replaces the running one, as whenBusy says", () =>
    Effect.flatMap(
      ScriptedModel,
      (model) =>
        using({ whenBusy: "reject", cancelledContent: "Replaced." }, async (turns) => {
          const talk = prompt("Talk.", [{ text: "never said", gate: "busy", gateAfter: 0 }])
          const running = turns.run({ conversation: "c17", prompt: talk })
          await Effect.runPromise(model.reached("busy"))
          const say = prompt("Say.", [{ text: "Said." }])
          const rejected = await turns.run({ conversation: "c17", prompt: say })
          assert.strictEqual(rejected.error?._tag, "TurnInProgress")
          const replacing = await turns.run({ conversation: "c17", prompt: say, whenBusy: "replace" })
          assert.deepEqual([replacing.status, replacing.content], ["completed", "Said."])
          const replaced = await running
          assert.deepEqual([replaced.status, replaced.content], ["cancelled", "Replaced."])
        })
    ))

  it.effect("leaves an interrupted turn to the next process if onInterrupt is release", () =>
    Effect.flatMap(Effect.all([ScriptedModel, RealServer.Workplace]), ([model, { directory }]) => {
      const database = `${directory}/released.db`
      const talk = prompt("Talk.", [{ text: "said at last", gate: "released" }])
      const interrupted = using({ database, onInterrupt: "release" }, async (turns) => {
        const running = turns.run({ conversation: "c18", prompt: talk, messageId: "asm_released" }).catch(() => {})
        await Effect.runPromise(model.reached("released"))
        await turns.close()
        await running
      })
      return Effect.gen(function*() {
        yield* interrupted
        yield* model.release("released")
        const results = yield* using({ database }, (turns) => turns.resume())
        assert.deepEqual(results.map(({ content, messageId }) => [messageId, content]), [[
          "asm_released",
          "said at last"
        ]])
      })
    }))

  it.effect("carries a turn that was let go to its end without being asked, as a worker", () =>
    Effect.flatMap(Effect.all([ScriptedModel, RealServer.Workplace]), ([model, { directory }]) => {
      const database = `${directory}/worker.db`
      const ask = prompt("Ask.", [{ ...echo, gate: "let go" }, { text: "I was allowed." }])
      const interrupted = using({ database, onInterrupt: "release" }, async (turns) => {
        const running = turns.run({ conversation: "c21", prompt: ask, messageId: "asm_let_go" })
          .catch(() => {})
        await Effect.runPromise(model.reached("let go"))
        await turns.close()
        await running
      })
      return Effect.gen(function*() {
        yield* interrupted
        yield* model.release("let go")
        const told = yield* using(
          { database, worker: true, gate: "allow" },
          (turns) => collect(turns.attach("asm_let_go"))
        )
        const last = told.at(-1)?.update
        assert.strictEqual(last?._tag === "Finished" ? last.message.content : "", "I was allowed.")
      })
    }))

  it.effect("attaches to a turn whose process was killed: behind an offset of before it gives exactly the rest", () =>
    Effect.gen(function*() {
      const model = yield* ScriptedModel
      const promise = Effect.runPromiseWith(yield* Effect.context())
      const { password, url } = yield* OpencodeServer.OpencodeServer
      const { directory } = yield* RealServer.Workplace
      const database = `${directory}/killed.db`
      const id = "asm_killed"
      const words = prompt("Talk.", [{ text: "first words and the rest", gate: "killed", gateAfter: 2 }])
      const running = yield* start([], {
        wrapper: () => [process.execPath, program, id, "c19", words],
        env: {
          OPENCODE_BASE_URL: url,
          OPENCODE_SERVER_PASSWORD: Redacted.value(password),
          OPENCODE_DIRECTORY: directory,
          OPENCODE_TURN_DATABASE: database
        }
      })
      yield* running.printed("words")
      yield* using({ database }, async (turns) => {
        const seen = await collect(turns.attach(id), (told) => textOf(told).includes("words"))
        await promise(running.kill("SIGKILL"))
        const { stdout } = await promise(running.finished)
        await promise(expire(database, id))

        const following = collect(turns.attach(id, { from: seen.at(-1)?.offset }))
        const resuming = turns.resume()
        await promise(model.release("killed"))
        const results = await resuming
        assert.deepStrictEqual(results.map(({ content, messageId, status }) => [messageId, status, content]), [
          [id, "completed", "first words and the rest"]
        ])

        const all = await collect(turns.attach(id))
        const stored = all.at(-1)?.update
        assert.deepInclude(stored, { _tag: "Finished" })
        for (const rest of [await following, await collect(turns.attach(id, { from: seen.at(-1)?.offset }))]) {
          assert.strictEqual(textOf([...seen, ...rest]), "first words and the rest")
          assert.deepStrictEqual(rest.filter(({ update }) => update._tag === "Started" || update._tag === "Reset"), [])
          assert.deepStrictEqual(rest.at(-1)?.update, stored)
        }
        for (const { offset } of all) {
          const rest = await collect(turns.attach(id, { from: offset }))
          const before = all.slice(0, all.findIndex((one) => one.offset === offset) + 1)
          assert.strictEqual(textOf([...before, ...rest]), "first words and the rest")
        }

        // What the killed process told live, it may not have stored.
        const live: { readonly offset: string } = JSON.parse(stdout.trim().split("\n").at(-1) ?? "")
        const told = await collect(turns.attach(id, { from: live.offset }))
        assert.deepInclude(told[0]?.update, { _tag: "Reset", reason: "attached" })
        assert.deepStrictEqual(told.at(-1)?.update, stored)
      })
    }))

  it.effect("cancels a turn of another process by its id, and forgets ended turns that are pruned", () =>
    Effect.gen(function*() {
      const model = yield* ScriptedModel
      const promise = Effect.runPromiseWith(yield* Effect.context())
      const { directory } = yield* RealServer.Workplace
      const id = "asm_cancelled"
      const talk = prompt("Talk.", [{ text: "first words and the rest", gate: "cancelled", gateAfter: 2 }])
      yield* using({ database: `${directory}/cancelled.db` }, async (turns, settings) => {
        const running = turns.run({ conversation: "c20", prompt: talk, messageId: id })
        await promise(model.reached("cancelled"))
        const seen = await collect(turns.attach(id), (told) => textOf(told).includes("words"))
        assert.include(textOf(seen), "first words")
        const again = await collect(turns.attach(id), (told) => textOf(told).includes("words"))
        assert.deepStrictEqual(again.map(({ update }) => update._tag), ["Started", "Reset"])

        await using others = await openTurns(settings)
        assert.strictEqual((await others.cancel(id)).status, "cancelled")
        const { content, status } = await running
        assert.deepStrictEqual([status, content.trim()], ["cancelled", "first words"])
        const last = (await collect(others.attach(id))).at(-1)?.update
        assert.strictEqual(last?._tag === "Finished" ? last.message.content : "", content)

        assert.strictEqual(await turns.prune(0), 1)
        const thrown = await collect(turns.attach(id)).catch((error: unknown) => error)
        assert.isTrue(thrown instanceof Error && Predicate.isTagged(thrown, "UnknownMessage"))
      })
    }))

  it.effect("throws an error with a tag where a turn cannot be stored, from run and from stream", () =>
    Effect.flatMap(
      RealServer.Workplace,
      ({ directory }) =>
        using({ database: `${directory}/broken.db` }, async (turns) => {
          const database = new DatabaseSync(`${directory}/broken.db`)
          const tables = database.prepare(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
          )
          database.exec("PRAGMA foreign_keys = OFF")
          for (const { name } of tables.all()) database.exec(`DROP TABLE "${String(name)}"`)
          database.close()
          const options = { conversation: "c22", prompt: "Say." }
          const streamed = async () => {
            for await (const update of turns.stream(options)) assert.fail(`told ${update._tag}`)
          }
          for (const ended of [turns.run(options), streamed()]) {
            const thrown = await ended.catch((error: unknown) => error)
            assert.isTrue(thrown instanceof Error && Predicate.isTagged(thrown, "StoreError"))
          }
        })
    ))

  it.effect("refuses settings that cannot be used, and leaves nothing open", () =>
    Effect.promise(async () => {
      let thrown: unknown
      try {
        await openTurns({ baseUrl: "nonsense", database: "memory" })
      } catch (cause) {
        thrown = cause
      }
      assert.deepInclude(thrown, { _tag: "InvalidConfig", setting: "baseUrl" })
    }))
})
