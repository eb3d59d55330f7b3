import { assert, it } from "@effect/vitest"
import * as OpencodeServer from "@opencode-turn/platform-node/OpencodeServer"
import { type OpenOptions, openTurns, type Turns } from "@opencode-turn/platform-node/promise"
import { prompt, ScriptedModel } from "@opencode-turn/testing/ScriptedModel"
import { Effect, Redacted, Schema } from "effect"
import * as zod from "zod"
import * as RealServer from "../support/RealServer.ts"

/** Uses turns as a program without Effect does. */
const using = <A>(options: OpenOptions, use: (turns: Turns) => Promise<A>) =>
  Effect.gen(function*() {
    const { password, url } = yield* OpencodeServer.OpencodeServer
    const { directory } = yield* RealServer.Workplace
    return yield* Effect.promise(async () => {
      await using turns = await openTurns({
        baseUrl: url,
        password: Redacted.value(password),
        directory,
        database: "memory",
        ...options
      })
      return await use(turns)
    })
  })

/** How 1.18.33 has the model give a value. */
const total = (total: number) => ({ tool: "StructuredOutput", args: { total } })

const echo = { tool: "bash", args: { command: "echo asked", description: "Say so" } }
const asks = [{ permission: "bash", pattern: "*", action: "ask" }] as const

it.layer(RealServer.layer, { excludeTestServices: true, timeout: "5 minutes" })("the Promise face", (it) => {
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
              if (update._tag === "TextDelta" && update.delta.includes("words")) abort.abort()
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
        (turns) => turns.run({ conversation: "c5", prompt: steps, permission: asks })
      )
      assert.deepEqual([first.content, asked], ["I was allowed.", ["c5 Permission false"]])

      const second = yield* using({ gate: "store" }, async (turns) => {
        const stream = turns.stream({ conversation: "c6", prompt: steps, permission: asks })
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
