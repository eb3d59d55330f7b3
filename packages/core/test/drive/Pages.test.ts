/** A page in place of OpenCode's answers is met with the patience for a server that is away, once the server was known. */
import { assert, it } from "@effect/vitest"
import { Client } from "@opencode-turn/core/Client"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import type { Fault } from "@opencode-turn/testing/Faults"
import * as Faults from "@opencode-turn/testing/Faults"
import * as Effect from "effect/Effect"
import { assertCompleted, finish, lasts, layer, rest, start } from "../support/driving.ts"

const page = (contentType: string, body: string, status = 200): Fault => () =>
  Effect.succeed({ _tag: "Body", status, headers: { "content-type": contentType }, body })

const pages: ReadonlyArray<readonly [string, Fault]> = [
  ["an HTML page", Faults.htmlPage],
  ["an HTML page with the status 404", page("text/html", "<html>", 404)],
  ["a text", page("text/plain", "Closed for maintenance.")],
  ["another JSON", page("application/json", `{"status":"maintenance"}`)],
  ["a redirect to a login", page("text/plain", "", 302)],
  ["the status 502", Faults.status(502)]
]
const permission = [{ permission: "bash", pattern: "*", action: "ask" } as const]
const steps = [{ tool: "bash", args: { command: "ls" } }, { text: "done" }]

/** A turn that waits for a person, and whose server is replaced by a page. */
const replaced = Effect.fnUntraced(function*(fault: Fault) {
  const fake = yield* FakeOpencode
  const running = yield* start(steps, { permission })
  yield* fake.fail({}, fault, Infinity)
  yield* fake.cutEvents
  yield* rest
  return { fake, running }
})

it.effect.each(pages)(
  "a turn that waits for a person goes on after %s took the server's place for a minute",
  ([, fault]) =>
    Effect.gen(function*() {
      const { fake, running } = yield* replaced(fault)
      yield* lasts(running, "1 minute")
      yield* fake.clearFaults
      yield* lasts(running, "1 minute")
      const client = yield* Client
      const [ask] = yield* client.permissions
      assert(ask !== undefined)
      yield* client.answerPermission(ask.id, { reply: "once" })
      assertCompleted(yield* finish(running, 10), { text: "done", modelCalls: 2 })
    }).pipe(Effect.provideService(HumanGate.HumanGate, HumanGate.wait), Effect.provide(layer()))
)

it.effect.each(pages)(
  "a turn that waits for a person ends if %s answers in the server's place",
  ([, fault]) =>
    Effect.gen(function*() {
      const { running } = yield* replaced(fault)
      yield* lasts(running, "110 seconds")
      const { result } = yield* finish(running, 60)
      assert.strictEqual(result.status, "failed")
    }).pipe(Effect.provideService(HumanGate.HumanGate, HumanGate.wait), Effect.provide(layer()))
)
