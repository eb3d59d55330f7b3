/**
 * `opencode-turn demo --web`: a turn on a real OpenCode server with a scripted model, in the browser. It asks for permissions, opens a
 * subagent and asks a question, so that one sees what becomes of them.
 */
import * as HumanGate from "@opencode-turn/core/HumanGate"
import * as MemorySessionStore from "@opencode-turn/core/MemorySessionStore"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import * as StoredGate from "@opencode-turn/core/StoredGate"
import * as Tracer from "@opencode-turn/core/Tracer"
import { runTurn } from "@opencode-turn/core/Turn"
import type { Answer, Script } from "@opencode-turn/testing/ModelScript"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Gateway from "../../gateway/Gateway.ts"
import * as Listen from "../../gateway/Listen.ts"
import * as Connection from "../setup/Connection.ts"
import { failed, type Failure, fromError } from "../setup/Failure.ts"
import * as Scripted from "../setup/Scripted.ts"
import { layerStdout, Streams } from "../setup/Streams.ts"
import * as TurnView from "../view/TurnView.ts"
import type { Services } from "./Run.ts"

/** Serves the page until it is stopped, and starts the turn. */
export const demoWeb: Effect.Effect<never, Failure, Services> = Effect.gen(function*() {
  const streams = yield* Streams
  yield* streams.progress("A turn on a real OpenCode server with a scripted model: no key, no network.\n\n")
  const view = yield* TurnView.human()
  const config = { permission: { bash: "ask", edit: "ask" } }
  const server = yield* Scripted.start({ script: () => script, config }, view)
  return yield* Effect.gen(function*() {
    const gateway = yield* Effect.mapError(
      Gateway.make({ token: yield* Gateway.makeToken, viewer: true, home: "/#/c/demo" }),
      fromError
    )
    const port = yield* Effect.mapError(
      Listen.listen(gateway, { host: "127.0.0.1", port: 0 }),
      () => failed("cannot listen on 127.0.0.1")
    )
    yield* Effect.forkScoped(
      runTurn({ conversationId: "demo", prompt, title: "Demo" }).pipe(
        Effect.provideServiceEffect(HumanGate.HumanGate, StoredGate.gate)
      )
    )
    yield* streams.progress(
      "\nOpen this link in a browser; it signs in once, within 10 minutes. Ctrl-C ends the demo.\n\n"
    )
    yield* streams.answer(`http://127.0.0.1:${port}${yield* gateway.makeLink}\n`)
    return yield* server.ended
  }).pipe(
    Effect.provide(
      Layer.mergeAll(
        Layer.orDie(Connection.client(server, undefined)),
        Layer.effect(SessionStore, MemorySessionStore.make),
        Tracer.layerNoop
      )
    )
  )
}).pipe(Effect.scoped, Effect.provide(layerStdout))

// internal

const prompt = "Write three lines into notes.txt, have somebody else check them, and improve one."

const check = "Read notes.txt and say whether it has three lines."

const todos = (...statuses: ReadonlyArray<string>) => ({
  todos: ["Write three lines into notes.txt", "Have them checked", "Improve one"].map((content, index) => ({
    content,
    status: statuses[index] ?? "pending",
    priority: "medium"
  }))
})

const { pace } = Scripted

/** What the model does for a prompt, whose first words these are. */
const scripts: ReadonlyArray<readonly [prompt: string, steps: ReadonlyArray<Answer>]> = [
  [prompt, [
    {
      reasoning: "Three small steps: write the file, let a subagent check it, then ask which line is to be improved.",
      text: "I will write the file, have it **checked by a subagent**, and then improve a line.",
      tool: "todowrite",
      args: todos("in_progress"),
      usage: { input: 1200, output: 60, reasoning: 22 },
      ...pace
    },
    {
      tool: "bash",
      args: {
        command: `printf '%s\\n' one two three > notes.txt && wc -l notes.txt`,
        description: "Write three lines and count them"
      },
      usage: { input: 1300, output: 40, cacheRead: 1200 },
      delayMillis: 300
    },
    {
      tool: "task",
      args: { description: "Check the notes", prompt: check, subagent_type: "general" },
      usage: { input: 1400, output: 50, cacheRead: 1300 },
      delayMillis: 300
    },
    {
      text: "The subagent is content. One question is left.",
      tool: "question",
      args: {
        questions: [{
          question: "Which line shall I improve?",
          header: "Line",
          options: ["one", "two", "three"].map((label) => ({ label, description: `The line "${label}"` })),
          multiple: false
        }]
      },
      usage: { input: 1500, output: 45, cacheRead: 1400 },
      ...pace
    },
    {
      tool: "read",
      args: { filePath: "notes.txt" },
      usage: { input: 1600, output: 20, cacheRead: 1500 },
      delayMillis: 200
    },
    {
      tool: "edit",
      args: { filePath: "notes.txt", oldString: "two", newString: "two, and better than before" },
      usage: { input: 1700, output: 40, cacheRead: 1600 },
      delayMillis: 300
    },
    { tool: "todowrite", args: todos("completed", "completed", "completed"), usage: { input: 1800, output: 30 } },
    {
      text: [
        "Done. Here is what `notes.txt` holds now:",
        "",
        "| line | words |",
        "| ---- | ----- |",
        "| 1 | one |",
        "| 2 | two, and better than before |",
        "| 3 | three |",
        "",
        "To look at it yourself:",
        "",
        "```sh",
        "cat notes.txt",
        "```",
        "",
        "Everything above came through **one turn**: reload the page, or open it in a second tab, and it is all there."
      ].join("\n"),
      usage: { input: 1900, output: 90, cacheRead: 1800 },
      ...pace
    }
  ]],
  [check, [
    {
      reasoning: "I look at the file.",
      tool: "bash",
      args: { command: "cat notes.txt", description: "Read the notes" },
      usage: { input: 600, output: 30 },
      delayMillis: 400
    },
    { text: "It has three lines: one, two, three.", usage: { input: 700, output: 20, cacheRead: 600 }, ...pace }
  ]]
]

const otherwise: Answer = {
  text:
    "I am a scripted model and know one task only. With a model of your own, `opencode-turn serve` shows the same page.",
  usage: { input: 500, output: 30 },
  ...pace
}

/** Each session, and each prompt, has steps of its own: how many are done is told by the tool calls that the history holds. */
const script: Script = (request) => {
  const { messages } = request
  const at = messages.findLastIndex(({ role, text }) => role === "user" && text.trim() !== "")
  const steps = scripts.find(([words]) => messages[at]?.text.includes(words))?.[1] ?? []
  const done =
    messages.slice(at + 1).filter(({ role, toolCalls }) => role === "assistant" && toolCalls.length > 0).length
  return Scripted.fitted(steps, request)[done] ?? otherwise
}
