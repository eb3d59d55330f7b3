/** Turns whose answer is a value: their repair, and workers that go away in the middle. */
import { assert, describe } from "@effect/vitest"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import * as Output from "@opencode-turn/core/Output"
import { resumeTurn, runTurn, streamTurn } from "@opencode-turn/core/Turn"
import type { TurnInput } from "@opencode-turn/core/TurnInput"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import * as Stream from "effect/Stream"
import * as Carrying from "../support/carrying.ts"
import * as Turns from "../support/turns.ts"

const { takeOver } = Carrying
const { messageId, row, test } = Turns

const Count = Schema.Struct({ n: Schema.Int })

const used = { input: 1000, output: 100 }

/** The cost of both answers of a repaired turn, in thousands of tokens. */
const inputTokens = (
  { usage }: { readonly usage: { readonly total: { readonly tokens: { readonly input: number } } } }
) => usage.total.tokens.input

const value = (n: Schema.Json, step: Partial<Step> = {}): Step => ({
  tool: "StructuredOutput",
  args: { n },
  usage: used,
  ...step
})

const structured = <A = unknown>(
  steps: ReadonlyArray<Step>,
  output: Output.OutputInput<A>,
  input: Partial<TurnInput<never, never, A>> = {}
): TurnInput<never, never, A> => ({ ...Turns.turn(steps), output, ...input })

/** The ids of the posted prompts, oldest first. */
const promptIds = Effect.map(Turns.prompts, (posts) => posts.map(({ body }) => Object(body).messageID))

describe("an answer", () => {
  test("is the value of the schema, and the message holds its JSON", () =>
    Effect.gen(function*() {
      const result = yield* runTurn(structured([value(3)], Count))
      assert.strictEqual(result.output?.n, 3)
      assert.deepStrictEqual(JSON.parse(result.content), { n: 3 })
      assert.deepInclude(yield* row, { status: "completed", content: result.content })
      const [post] = yield* Turns.prompts
      assert.deepNestedPropertyVal(post?.body, "format.type", "json_schema")
    }))

  test("of a type other than an object is requested inside one", () =>
    Effect.gen(function*() {
      const steps: ReadonlyArray<Step> = [{ tool: "StructuredOutput", args: { value: ["a", "b"] } }]
      const result = yield* runTurn(structured(steps, Schema.Array(Schema.String)))
      assert.deepStrictEqual(result.output, ["a", "b"])
      assert.deepStrictEqual(JSON.parse(result.content), ["a", "b"])
    }))

  test("that does not fit is repaired, and the new answer replaces the old one", () =>
    Effect.gen(function*() {
      const updates = Array.from(yield* Stream.runCollect(streamTurn(structured([value("one"), value(1)], Count))))
      const last = updates.at(-1)
      assert(last?._tag === "Finished")
      assert.strictEqual(last.result.output?.n, 1)
      assert.deepInclude(last.result, { finish: "tool-calls", isFallback: false })
      const resets = updates.flatMap((update) => (update._tag === "Reset" ? [update.reason] : []))
      assert.deepStrictEqual(resets, ["repaired"])
      const posts = yield* Turns.prompts
      assert.lengthOf(posts, 2)
      assert.include(JSON.stringify(posts[1]?.body), "- n: ")
      assert.strictEqual(inputTokens(last.result), 2000)
      assert.strictEqual((yield* row)?.usage.tokens.input, 2000)
    }))

  test("that never fits ends the turn after as many repairs as the policy allows", () =>
    Effect.gen(function*() {
      const steps = ["a", "b", "c", "d"].map((n) => value(n))
      const result = yield* runTurn(structured(steps, Count)).pipe(Effect.provideService(TurnPolicy.OutputRepairs, 2))
      assert(result.error?._tag === "OutputInvalid")
      assert.strictEqual(result.error.repairs, 2)
      assert.deepStrictEqual(result.error.issues.map(({ path }) => path), ["n"])
      assert.strictEqual(result.status, "error")
      assert.lengthOf(yield* Turns.prompts, 3)
      assert.deepInclude(yield* row, {
        status: "error",
        error: Turns.storedError(result.error)
      })
    }))

  test("that a person's refusal ended is not requested again", () =>
    Effect.gen(function*() {
      const permission = [{ permission: "bash", pattern: "*", action: "ask" }] as const
      const steps = [{ tool: "bash", args: { command: "echo hi" } }, value(1)]
      const result = yield* runTurn(structured(steps, Count, { permission })).pipe(
        Effect.provideService(HumanGate.HumanGate, () => Effect.succeed({ _tag: "Reject" }))
      )
      assert(result.error?._tag === "Refused")
      assert.strictEqual(result.error.repairs, 0)
      assert.lengthOf(yield* Turns.prompts, 1)
    }))

  test("that refusals with a reason have stopped is requested again, and may be repaired after that", () =>
    Effect.gen(function*() {
      const permission = [{ permission: "bash", pattern: "*", action: "ask" }] as const
      const calls = ["echo a", "echo b"].map((command) => ({ tool: "bash", args: { command } }))
      const steps: ReadonlyArray<Step> = [{ tools: calls, usage: used }, value("one"), value(1)]
      const result = yield* runTurn(structured(steps, Count, { permission }))
      assert.deepStrictEqual(result.output, { n: 1 })
      const posts = yield* Turns.prompts
      assert.lengthOf(posts, 3)
      for (const post of posts) assert.deepNestedPropertyVal(post.body, "format.type", "json_schema")
      assert.deepInclude((yield* row)?.promptRecord, { refusals: 1 })
      assert.strictEqual(inputTokens(result), 3000)
    }))

  test("is within one budget with its repair", () =>
    Effect.gen(function*() {
      const result = yield* runTurn(structured([value("one"), value(1)], Count)).pipe(
        Effect.provideService(TurnPolicy.Budget, { tokens: 1500 })
      )
      assert(result.error?._tag === "BudgetExceeded")
      assert.deepInclude(result.error, { limit: "tokens", allowed: 1500, value: 2200 })
      assert.isUndefined(result.output)
      assert.strictEqual(inputTokens(result), 2000)
    }))
})

describe("a worker that went away", () => {
  const output = Output.fromSchema(Count)

  /** Runs the turn until the model waits at the gate, and releases it. */
  const abandon = Effect.fnUntraced(function*(steps: ReadonlyArray<Step>) {
    const fake = yield* FakeOpencode.FakeOpencode
    const fiber = yield* Effect.forkChild(
      runTurn(structured(steps, output)).pipe(Effect.provideService(TurnPolicy.OnInterrupt, "release"))
    )
    yield* fake.reached("here")
    yield* Fiber.interrupt(fiber)
    return yield* takeOver(messageId)
  })

  test("before the value leaves a schema that the next worker checks the value with", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode.FakeOpencode
      const taken = yield* abandon([value("one", { gate: "here" }), value(1)])
      yield* fake.release("here")
      const result = yield* resumeTurn(taken)
      assert.deepStrictEqual(result.output, { n: 1 })
      assert.lengthOf(yield* Turns.prompts, 2)
      assert.strictEqual(inputTokens(result), 2000)
    }))

  test("before the value leaves one that a schema of the next worker reads", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode.FakeOpencode
      const taken = yield* abandon([value(1, { gate: "here" })])
      yield* fake.release("here")
      const FromJson = Schema.Struct({
        n: Schema.Int.pipe(
          Schema.decodeTo(Schema.String, { decode: SchemaGetter.String(), encode: SchemaGetter.Number() })
        )
      })
      const result = yield* resumeTurn(taken, { output: FromJson })
      assert.deepStrictEqual(result.output, { n: "1" })
    }))

  test("during a repair leaves a turn that is asked for no other one, and what both answers cost", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode.FakeOpencode
      const taken = yield* abandon([value("one"), value("two", { gate: "here" }), value(3)])
      assert.lengthOf(taken.promptRecord?.earlier ?? [], 1)
      yield* fake.release("here")
      const result = yield* resumeTurn(taken)
      assert(result.error?._tag === "OutputInvalid")
      assert.strictEqual(result.error.repairs, 1)
      assert.lengthOf(new Set(yield* promptIds), 2)
      assert.strictEqual(inputTokens(result), 2000)
    }))

  const task = (prompt: string, steps: ReadonlyArray<Step>): Step => ({
    tool: "task",
    args: { description: "look", prompt: FakeOpencode.prompt(prompt, steps), subagent_type: "general" },
    usage: used
  })
  const child: ReadonlyArray<Step> = [{ text: "I looked.", usage: used }]

  for (const [name, text] of [["before its text", {}], ["in its text", { text: "one two", gateAfter: 1 }]] as const) {
    test(`during a repair, ${name}, leaves what the subagents of each prompt did, each once`, () =>
      Effect.gen(function*() {
        const fake = yield* FakeOpencode.FakeOpencode
        const taken = yield* abandon([
          task("Look.", child),
          value("one"),
          task("Look again.", child),
          value(3, { gate: "here", ...text })
        ])
        assert.lengthOf(taken.subagents, 2)
        yield* fake.release("here")
        const result = yield* resumeTurn(taken)
        assert.deepStrictEqual(result.output, { n: 3 })
        const shares = result.subagents.map(({ status, text, usage }) => [status, text, usage.tokens.input])
        assert.deepStrictEqual(shares, [["completed", "I looked.", 1000], ["completed", "I looked.", 1000]])
        assert.strictEqual(inputTokens(result), 6000)
        assert.lengthOf((yield* row)?.subagents ?? [], 2)
      }))
  }
})

describe("an answer before which the context overflowed", () => {
  test("is found as the first message of its session, and the value is requested again", () =>
    Effect.gen(function*() {
      const result = yield* runTurn(structured([], Count))
      assert.strictEqual(result.error?.message, undefined)
      assert.deepStrictEqual(result.output, { n: 1 })
      assert.lengthOf(yield* Turns.prompts, 2)
    }), {
    fake: {
      script: (_request, earlier) =>
        [{ fail: 413, message: "prompt is too long" }, { text: "no value" }][earlier.length] ?? value(1)
    }
  })
})
