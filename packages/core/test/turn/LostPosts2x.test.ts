/**
 * Requests of a turn on OpenCode 2.x that go wrong on the way, before or after the server has done what they ask: the prompt is there once, and
 * the model is asked once. `Drive.test.ts` has the same for the prompt on 1.x.
 */
import { assert, it } from "@effect/vitest"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import * as Faults from "@opencode-turn/testing/Faults"
import * as Effect from "effect/Effect"
import { ended, launch } from "../support/carrying.ts"
import { answered } from "../support/driving.ts"
import * as Turns from "../support/turns.ts"

const lines = ["2.x", "2.x release"] as const

const faults = [
  { fault: "a reset connection", break: Faults.reset },
  { fault: "a 503", break: Faults.status(503) },
  { fault: "a proxy's page with 502", break: answered(502, "<html>Bad gateway</html>") },
  { fault: "a 429", break: Faults.status(429) },
  { fault: "no answer", break: Faults.hang },
  { fault: "an answer that is lost", break: Faults.lostAnswer },
  { fault: "an answer that never comes", break: Faults.hangAfter }
]

const requests = [
  { request: "the prompt", path: /^\/api\/session\/[^/]+\/prompt$/ },
  { request: "the choice of the agent", path: /^\/api\/session\/[^/]+\/agent$/ },
  { request: "the choice of the model", path: /^\/api\/session\/[^/]+\/model$/ }
]

const cases = lines.flatMap((line) =>
  requests.flatMap(({ path, request }) => faults.map((fault) => ({ line, path, request, ...fault })))
)

it.effect.each(cases)(
  "one prompt and one call of the model come of $fault for $request: $line",
  (broken) =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const isIt = ({ method, path }: { readonly method: string; readonly path: string }) =>
        method === "POST" && broken.path.test(path)
      yield* fake.fail(isIt, broken.break)
      const fiber = yield* launch("asm_1", [{ text: "Done." }], { agent: "reviewer", model: "scripted/n" })
      const { value: { content, error, sessionId, status } } = yield* ended(fiber, 120_000)
      assert.deepStrictEqual([status, content, error], ["completed", "Done.", undefined])
      assert.isTrue((yield* fake.requests).filter(isIt).length >= 1)
      const messages = yield* fake.messages2x(sessionId ?? "")
      assert.lengthOf(messages.filter(({ type }) => type === "user"), 1)
      const answers = messages.filter((message) => message.type === "assistant")
      assert.deepStrictEqual(answers.map(({ agent, model }) => [agent, model.id]), [["reviewer", "n"]])
      assert.strictEqual(yield* fake.modelCalls, 1)
    }).pipe(
      Effect.scoped,
      Effect.provide(Turns.layer({
        fake: {
          line: broken.line,
          models: { m: [], n: [] },
          agents: { reviewer: { mode: "primary", description: "reviews" } }
        }
      }))
    )
)
