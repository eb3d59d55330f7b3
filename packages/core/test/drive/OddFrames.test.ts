/** An unreadable frame of the event stream costs the turn nothing: its content is read from the server. */
import { assert, it } from "@effect/vitest"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import { FakeOpencode, prompt } from "@opencode-turn/testing/FakeOpencode"
import type { Fault } from "@opencode-turn/testing/Faults"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { assertCompleted, finish, layer, start } from "../support/driving.ts"

const utf8 = { encoder: new TextEncoder(), decoder: new TextDecoder() }

/** Replaces the frames of this type. */
const garbled = (type: string, garble: (frame: string) => string): Fault => (serve) =>
  Effect.map(serve, (response) =>
    response._tag === "Events"
      ? {
        ...response,
        stream: Stream.map(response.stream, (bytes) => {
          const frame = utf8.decoder.decode(bytes)
          return frame.includes(`"type":"${type}"`) ? utf8.encoder.encode(garble(frame)) : bytes
        })
      }
      : response)

const withType = (type: string) => (frame: string) => frame.replace(/"type":"[a-z.]+"/, `"type":${type}`)
const garbles: ReadonlyArray<readonly [string, (frame: string) => string]> = [
  ["cut short", (frame) => `${frame.slice(0, -20)}\n\n`],
  ["no JSON at all", () => "data: <html>\n\n"],
  ["a number", () => "data: 7\n\n"],
  ["a list", () => "data: []\n\n"],
  ["without a type", (frame) => frame.replace(/"type":"[a-z.]+",?/, "")],
  ["of the type null", withType("null")],
  ["of a type that is a number", withType("7")],
  ["of an unknown type", withType(`"x"`)],
  ["without properties", (frame) => frame.replace(/"properties":.*/, `"properties":null}\n\n`)]
]
const isEvents = { path: "/event" }
const permission = [{ permission: "bash", pattern: "*", action: "ask" } as const]
const bash = { tool: "bash", args: { command: "ls" } }
const question = {
  tool: "question",
  args: { questions: [{ question: "Which?", header: "W", options: [{ label: "A", description: "a" }] }] }
}

const answered = Effect.provideService(
  HumanGate.HumanGate,
  (ask) =>
    Effect.succeed(
      ask._tag === "Permission"
        ? { _tag: "Permission", reply: { reply: "once" } }
        : { _tag: "Answers", answers: [["A"]] }
    )
)

for (const [type, step] of [["permission.asked", bash], ["question.asked", question]] as const) {
  it.effect.each(garbles)(`a ${type} that is %s is found in the server's list`, ([, garble]) =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* fake.fail(isEvents, garbled(type, garble))
      const running = yield* start([step, { text: "done" }], { permission })
      assertCompleted(yield* finish(running, 5), { text: "done", modelCalls: 2 })
    }).pipe(answered, Effect.provide(layer())))
}

it.effect.each(garbles)(
  "a to-do list whose frame is %s is read from the server",
  ([, garble]) =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* fake.fail(isEvents, garbled("todo.updated", garble))
      const todos = [{ content: "look", status: "in_progress", priority: "high" }]
      const running = yield* start([{ tool: "todowrite", args: { todos } }, { text: "done", delayMillis: 5000 }])
      const { result } = yield* finish(running, 10)
      assert.strictEqual(result.content, "done", result.error?.message)
      // Nobody can tell whether an event of an unknown type matters.
      if (garble(`"type":"todo.updated"`) !== `"type":"x"`) {
        assert.deepStrictEqual(result.reply.todos.map(({ content }) => content), ["look"])
      }
    }).pipe(Effect.provide(layer()))
)

it.effect.each(garbles)(
  "what a subagent asks is found although the frame that opened it is %s",
  ([, garble]) =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* fake.fail(isEvents, garbled("session.created", garble))
      const task = {
        tool: "task",
        args: {
          description: "sub",
          prompt: prompt("look", [{ tool: "read", args: { filePath: "/etc/hostname" } }, { text: "seen" }]),
          subagent_type: "general"
        }
      }
      const { result } = yield* finish(yield* start([task, { text: "done" }]), 5)
      assert.strictEqual(result.content, "done", result.error?.message)
    }).pipe(answered, Effect.provide(layer()))
)

it.effect.each([...garbles, ["a comment", () => ": hello\n\n"] as const])(
  "the stream is open although its first frame is %s",
  ([, garble]) =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* fake.fail(isEvents, garbled("server.connected", garble))
      assertCompleted(yield* finish(yield* start([{ text: "done" }]), 0), { text: "done", modelCalls: 1 })
    }).pipe(Effect.provide(layer()))
)
