/**
 * `opencode-turn demo`: runs a whole turn on a real OpenCode server with a scripted model. It needs no key and no network.
 */
import * as MemorySessionStore from "@opencode-turn/core/MemorySessionStore"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import * as Tracer from "@opencode-turn/core/Tracer"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Connection from "../setup/Connection.ts"
import { type Failure, fromError } from "../setup/Failure.ts"
import * as Scripted from "../setup/Scripted.ts"
import { Stop } from "../setup/Stop.ts"
import { layerStdout, Streams } from "../setup/Streams.ts"
import * as Ending from "../view/Ending.ts"
import * as TurnView from "../view/TurnView.ts"
import type { Services } from "./Run.ts"

/** Shows the turn, and then the next commands to try. */
export const demo: Effect.Effect<void, Failure, Services> = Effect.gen(function*() {
  const streams = yield* Streams
  yield* streams.progress("A turn on a real OpenCode server with a scripted model: no key, no network.\n\n")

  const view = yield* TurnView.human()
  const server = yield* Scripted.start({
    script: ({ sequence }) => (request, earlier) => sequence(Scripted.fitted(steps, request))(request, earlier)
  }, view)
  yield* streams.progress(`\n> ${prompt}\n\n`)
  const { now: onQuit } = yield* Stop
  const result = yield* Effect.raceFirst(
    Effect.mapError(
      TurnView.run({ conversationId: "demo", prompt, title: "Demo" }, { view, permission: "allow", onQuit }),
      fromError
    ),
    server.ended
  ).pipe(
    Effect.provide(
      Layer.mergeAll(
        Layer.orDie(Connection.client(server, undefined)),
        Layer.effect(SessionStore, MemorySessionStore.make),
        Tracer.layerNoop
      )
    )
  )
  yield* Ending.toExit(result)
  yield* streams.progress(`\n${next}`)
}).pipe(Effect.scoped, Effect.provide(layerStdout))

// internal

const prompt = "Write three lines into notes.txt and count them."

const todos = (written: string, counted: string) => ({
  todos: [
    { content: "Write three lines into notes.txt", status: written, priority: "high" },
    { content: "Count the lines", status: counted, priority: "medium" }
  ]
})

const steps = [
  {
    reasoning: "Two small steps: write the file, then count. A plan first, so that one can see where I am.",
    text: "I will write the file and count its lines.",
    tool: "todowrite",
    args: todos("in_progress", "pending"),
    usage: { input: 1200, output: 60, reasoning: 22 },
    ...Scripted.pace
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
    tool: "todowrite",
    args: todos("completed", "completed"),
    usage: { input: 1400, output: 30, cacheRead: 1300 },
    delayMillis: 200
  },
  {
    text: "Done: notes.txt holds 3 lines. The prompt, every tool call and this answer came through one turn, " +
      "and what you read is the server's own record of it.",
    usage: { input: 1500, output: 35, cacheRead: 1400 },
    ...Scripted.pace
  }
]

const next = `Where to go next:
  opencode-turn run "Explain this repository"    a turn on your own OpenCode, in this folder
  opencode-turn demo --web                       a longer one in the browser, with what it asks
  opencode-turn run --json "…"                   the same for programs, a line of JSON for each event
  opencode-turn --help                           everything else
`
