/**
 * The examples of the guides, each run as the program that it is.
 */
import { assert, it } from "@effect/vitest"
import { Context, Effect, Layer, Redacted } from "effect"
import { readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { cli, hasScript, inTerminal, start } from "../support/CliProcess.ts"
import * as SharedOpencode from "../support/SharedOpencode.ts"

const folder = fileURLToPath(new URL("../../../../examples/gates/", import.meta.url))

/**
 * The environment of the programs: one server for all of them, and what Node compiled of the sources, which is half of the time of
 * a start.
 */
class Shared extends Context.Service<Shared, {
  readonly OPENCODE_BASE_URL: string
  readonly OPENCODE_SERVER_PASSWORD: string
  readonly NODE_COMPILE_CACHE: string
}>()("test/Shared") {}

const shared = Layer.effect(
  Shared,
  Effect.gen(function*() {
    const { password, url } = yield* SharedOpencode.server
    return {
      OPENCODE_BASE_URL: url,
      OPENCODE_SERVER_PASSWORD: Redacted.value(password),
      NODE_COMPILE_CACHE: fileURLToPath(new URL("../../../../node_modules/.cache/examples", import.meta.url))
    }
  })
)

const refused = "The user rejected permission to use this specific tool call with the following feedback: "

/** What each of them prints; the terminal's is not among them, it needs one. */
const printed: ReadonlyMap<string, ReadonlyArray<string>> = new Map([
  ["deny.ts", [
    `bash: ${refused}Nobody is here to answer. Go on without it, or say what you would need.`,
    "I may not remove the build: somebody has to allow it."
  ]],
  ["allow.ts", ["bash: allowed", "Nobody had to answer."]],
  ["wait.ts", ["the other client allows echo elsewhere", "It was answered elsewhere."]],
  ["rules.ts", [
    "bash: hello",
    "",
    `bash: ${refused}A rule denies bash for "*", and this asks for "rm -r build". Only echo is allowed here.`,
    "I said hello, and left the build alone."
  ]],
  ["callback.ts", [
    "callback asks: Which colour?",
    "callback wants to run: echo red > colour.txt",
    "It is red now."
  ]],
  ["stored.ts", ["stored waits for per_…: echo released", "It is released."]],
  ["within.ts", [
    `bash: ${refused}Nobody answered within 2s. Go on without it, or say what you would need.`,
    "Nobody answered, so I did nothing."
  ]]
])

const guides = fileURLToPath(new URL("../../../../examples/guides/", import.meta.url))

/** What the programs of the guides print. */
const guided: ReadonlyMap<string, ReadonlyArray<string>> = new Map([
  ["bot.ts", ["Once upon a time, it was fixed."]],
  ["ci.ts", [`{"status":"completed","verdict":"approve","reason":"It is small and tested."}`]],
  ["effect-ai.ts", [
    "OpencodeBash: 12 passed",
    "All tests pass.",
    "passes: true, failures: 0",
    "The build is green."
  ]],
  ["errors.ts", [
    "The agent gave no answer. Try again.",
    "This cannot be sent: it is empty: say what the agent is to do",
    "Something."
  ]],
  ["web.ts", [
    "the page is reloaded: in the middle of the answer",
    "Nothing is lost, and nothing is shown twice."
  ]],
  ["worker.ts", [
    "the first worker is gone",
    "completed: This takes a while and then some, but in the end it is done."
  ]]
])

/** The lines that they log for an operator. */
const inLog: ReadonlyMap<string, ReadonlyArray<string>> = new Map([
  ["errors.ts", ["turn ended: error", "turn ended: failed"]]
])

it.layer(shared, { excludeTestServices: true })("examples", (it) => {
  for (const [name, lines] of printed) {
    it.effect(`gates/${name} prints what its gate does`, () =>
      Effect.gen(function*() {
        const env = yield* Shared
        const { code, stderr, stdout } = yield* cli([], {
          env,
          wrapper: ([node = "node"]) => [node, `${folder}${name}`]
        })
        assert.deepEqual([code, stderr], [0, ""])
        assert.deepEqual(stdout, `${lines.join("\n")}\n`)
      }))
  }

  for (const [name, lines] of guided) {
    it.effect(`guides/${name} does what its guide says`, () =>
      Effect.gen(function*() {
        const env = yield* Shared
        const { code, stderr, stdout } = yield* cli([], {
          env,
          wrapper: ([node = "node"]) => [node, `${guides}${name}`]
        })
        const logged = Array.from(stderr.matchAll(/ (?:WARN|ERROR) .*?: ([^{\n]*[^{\s])/g), ([, line]) => line)
        assert.deepEqual([code, logged], [0, inLog.get(name) ?? []], stderr)
        assert.deepEqual(stdout, `${lines.join("\n")}\n`)
      }))
  }

  it.effect.skipIf(!hasScript)("gates/terminal.ts asks at the terminal", () =>
    Effect.gen(function*() {
      const env = yield* Shared
      const running = yield* start([], {
        env,
        wrapper: ([node = "node"]) => inTerminal([node, `${folder}terminal.ts`]),
        input: { open: true }
      })
      yield* running.printed("Reject and explain")
      yield* running.type("1")
      const { code, stdout } = yield* running.finished
      assert.strictEqual(code, 0)
      assert.include(stdout, "echo hello > hello.txt")
      assert.include(stdout, "Thank you: hello.txt is written.")
    }))

  // The other programs use the server of the tests, for a start of one takes seconds.
  it.effect("gates/deny.ts starts a server of its own", () =>
    Effect.gen(function*() {
      const { NODE_COMPILE_CACHE } = yield* Shared
      const { code, stderr, stdout } = yield* cli([], {
        env: { NODE_COMPILE_CACHE },
        wrapper: ([node = "node"]) => [node, `${folder}deny.ts`]
      })
      assert.deepEqual([code, stderr], [0, ""])
      assert.deepEqual(stdout, `${printed.get("deny.ts")?.join("\n")}\n`)
    }))
})

it("every example is run, and linked to", () => {
  const names = readdirSync(folder)
  assert.sameMembers(names, [...printed.keys(), "terminal.ts"])
  const page = readFileSync(new URL("../../../../docs/PEOPLE.md", import.meta.url), "utf8")
  for (const name of names) assert.include(page, `(../examples/gates/${name})`)
})

it("every program of the guides is run, and linked to", () => {
  const names = readdirSync(guides)
  assert.sameMembers(names, [...guided.keys()])
  const page = readFileSync(new URL("../../../../docs/GUIDE.md", import.meta.url), "utf8")
  for (const name of names) assert.include(page, `(../examples/guides/${name})`)
})
