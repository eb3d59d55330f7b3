/**
 * The examples of docs/PEOPLE.md, each run as the program that it is.
 */
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { cli, hasScript, inTerminal, start } from "../support/CliProcess.ts"

const folder = fileURLToPath(new URL("../../../../examples/gates/", import.meta.url))

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

for (const [name, lines] of printed) {
  it.live(`gates/${name} prints what its gate does`, () =>
    Effect.gen(function*() {
      const { code, stderr, stdout } = yield* cli([], { wrapper: ([node = "node"]) => [node, `${folder}${name}`] })
      assert.deepEqual([code, stderr], [0, ""])
      assert.deepEqual(stdout, `${lines.join("\n")}\n`)
    }))
}

it.live.skipIf(!hasScript)("gates/terminal.ts asks at the terminal", () =>
  Effect.gen(function*() {
    const running = yield* start([], {
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

it("every example is run, and linked to", () => {
  const names = readdirSync(folder)
  assert.sameMembers(names, [...printed.keys(), "terminal.ts"])
  const page = readFileSync(new URL("../../../../docs/PEOPLE.md", import.meta.url), "utf8")
  for (const name of names) assert.include(page, `(../examples/gates/${name})`)
})
