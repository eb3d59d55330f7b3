/**
 * The folder that the agent works in, on a real OpenCode: it is the one that was named, whatever its name, or the turn fails.
 */
import { NodeHttpClient } from "@effect/platform-node"
import { assert } from "@effect/vitest"
import type { Answer } from "@opencode-turn/core/Ask"
import * as Client from "@opencode-turn/core/Client"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import { runTurn } from "@opencode-turn/core/Turn"
import * as OpencodeServer from "@opencode-turn/platform-node/OpencodeServer"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { Effect, Layer } from "effect"
import { existsSync, mkdirSync, realpathSync, rmdirSync, symlinkSync, writeFileSync } from "node:fs"
import { onBothLines } from "../support/BothLines.ts"
import * as RealServer from "../support/RealServer.ts"
import type { Tools } from "../support/Tools.ts"

/** Gives an effect a client of its own that works in the folder. */
const within = (directory: string | undefined) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(OpencodeServer.OpencodeServer, ({ password, url }) =>
    Effect.provide(
      effect,
      Client.layer({ baseUrl: url, password, directory }).pipe(Layer.provide(NodeHttpClient.layerUndici))
    ))

const once: Answer = { _tag: "Permission", reply: { reply: "once" } }

const pwdWith = ({ names, printed, shell }: Tools) => (conversationId: string) =>
  runTurn({
    conversationId,
    // The agent asks: the ask and its answer have to reach the folder too.
    prompt: ScriptedModel.prompt("Where are you?", [shell("pwd -P"), { text: "There." }])
  }).pipe(
    Effect.provideService(HumanGate.HumanGate, () => Effect.succeed(once)),
    Effect.map((result) => ({ result, output: printed(result.reply.tools.find(({ tool }) => tool === names.shell)) }))
  )

const names = [
  "a%20b",
  "a b",
  "a%2520b",
  "100%",
  "a#b&c+d?e",
  "a%2Fb",
  "q\"'q",
  "dot.",
  "-dash",
  "%E6%97%A5",
  "日本語 🚀 go"
]

onBothLines(
  "the folder on the real server",
  {
    layerOf: RealServer.onLine(RealServer.nested),
    exceptions: { "that is a link is the folder to which it leads": "2.x takes a folder as it was spelled" }
  },
  (it, tools) => {
    const pwd = pwdWith(tools)
    const root = Effect.map(RealServer.Workplace, ({ directory }) => {
      const root = `${realpathSync(directory)}/folders`
      mkdirSync(`${root}/a/b`, { recursive: true })
      for (const name of names) mkdirSync(`${root}/${name}`, { recursive: true })
      return root
    })

    it.effect("is the one that was named, whatever is in its name", () =>
      Effect.gen(function*() {
        const folder = yield* root
        const worked = yield* Effect.forEach(names, (name) => pwd(`named ${name}`).pipe(within(`${folder}/${name}`)), {
          concurrency: 4
        })
        const expected = names.map((name) => `${folder}/${name}`)
        assert.deepStrictEqual(worked.map(({ output, result }) => output ?? result.error), expected)
        const [first] = worked
        const again = yield* pwd(`named ${names[0]}`).pipe(within(`${expected[0]}/`))
        assert.strictEqual(again.output, expected[0], again.result.error?.message)
        assert.strictEqual(again.result.sessionId, first?.result.sessionId)
      }), 180_000)

    it.effect(
      "that is not there is an error, makes no session and no folder, and does not spoil the conversation",
      () =>
        Effect.gen(function*() {
          const folder = yield* root
          writeFileSync(`${folder}/file`, "")
          for (const wrong of [`${folder}/missing`, `${folder}/missing/deep`, `${folder}/file`, "no/such/folder"]) {
            const { result } = yield* pwd("typo").pipe(within(wrong))
            assert(result.error?._tag === "UnknownDirectory", result.error?.message)
            assert.strictEqual(result.error.directory, wrong)
            assert.isUndefined(result.sessionId)
          }
          assert.isFalse(existsSync(`${folder}/missing`))
          const { output } = yield* pwd("typo").pipe(within(`${folder}/dot.`))
          assert.strictEqual(output, `${folder}/dot.`)
        }),
      60_000
    )

    it.effect(
      "with a backslash in its name is one that the server does not find, and the error says so",
      () =>
        Effect.gen(function*() {
          const folder = `${yield* root}/back\\slash`
          mkdirSync(folder)
          const { result } = yield* pwd("backslash").pipe(within(folder))
          assert(result.error?._tag === "UnknownDirectory", result.error?.message)
          assert.match(result.error.message, /back\\slash": it finds no folder whose path holds a backslash$/)
        }),
      60_000
    )

    it.effect("that is a link is the folder to which it leads", () =>
      Effect.gen(function*() {
        const folder = yield* root
        symlinkSync(`${folder}/a%20b`, `${folder}/link`)
        const { output } = yield* pwd("linked").pipe(within(`${folder}/link`))
        assert.strictEqual(output, `${folder}/a%20b`)
        assert.strictEqual((yield* pwd("linked").pipe(within(`${folder}/a%20b`))).output, `${folder}/a%20b`)
      }), 60_000)

    it.effect("of a conversation does not change", () =>
      Effect.gen(function*() {
        const folder = yield* root
        assert.strictEqual((yield* pwd("settled").pipe(within(`${folder}/a%20b`))).output, `${folder}/a%20b`)
        for (const other of [`${folder}/a b`, undefined]) {
          const { result } = yield* pwd("settled").pipe(within(other))
          assert(result.error?._tag === "DirectoryMismatch", result.error?.message)
          assert.strictEqual(result.error.sessionDirectory, `${folder}/a%20b`)
          assert.notStrictEqual(result.error.directory, result.error.sessionDirectory)
        }
      }), 60_000)

    it.effect("that was deleted between two turns is an error", () =>
      Effect.gen(function*() {
        const folder = `${yield* root}/short-lived`
        mkdirSync(folder)
        assert.strictEqual((yield* pwd("deleted").pipe(within(folder))).output, folder)
        rmdirSync(folder)
        const { result } = yield* pwd("deleted").pipe(within(folder))
        assert.strictEqual(result.error?._tag, "UnknownDirectory", result.error?.message)
        assert.isFalse(existsSync(folder))
      }), 60_000)
  }
)
