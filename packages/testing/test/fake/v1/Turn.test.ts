import * as Tool from "#fake/Tool"
import { assert, it } from "@effect/vitest"
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Effect from "effect/Effect"
import { TestClock } from "effect/testing"
import { answersOf, asArray, childrenOf, newSession, permissions, post, request } from "../faking.ts"

const withFake = (options?: FakeOpencode.Options) => Effect.provide(FakeOpencode.layerTest(options))

const format = { type: "json_schema", schema: { type: "object" } }
const structured = (n: number) => ({ tool: "StructuredOutput", args: { n } })
const bash = (command: string) => ({ tool: "bash", args: { command } })
const write = (filePath: string, content: string): Step => ({ tool: "write", args: { filePath, content } })

const task = (text: string, fields: object = {}): Step => ({
  tool: "task",
  args: {
    description: "look",
    prompt: FakeOpencode.prompt("look", [{ text }]),
    subagent_type: "general",
    ...fields
  }
})

const patch = (...lines: ReadonlyArray<string>): Step => ({
  tool: "apply_patch",
  args: { patchText: ["*** Begin Patch", ...lines, "*** End Patch"].join("\n") }
})

const subtask = (text: string) => ({
  type: "subtask",
  prompt: FakeOpencode.prompt("look", [{ text }]),
  description: "look",
  agent: "general"
})

const reply = (id: string, answer: string, query = "") =>
  Effect.map(request("POST", `/permission/${id}/reply${query}`, { reply: answer }), ({ status }) => status)

const statusOf = (target: string) => Effect.map(request("GET", target), ({ status }) => status)

/** What `GET …/diff` says about the turn of the session's first prompt. */
const diffOf = Effect.fnUntraced(function*(session: string) {
  const fake = yield* FakeOpencode.FakeOpencode
  const [first] = yield* fake.messages(session)
  const { body } = yield* request("GET", `/session/${session}/diff?messageID=${first?.info.id}`)
  return asArray(body)
})

it.effect("takes the last of several structured answers, and asks the model no more", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const session = yield* newSession()
    yield* post(session, [{ ...structured(1), tools: [bash("echo a"), structured(2)] }, { text: "x" }], { format })
    yield* TestClock.adjust(0)
    const last = (yield* fake.messages(session)).at(-1)?.info
    assert.deepStrictEqual(last?.role === "assistant" && last.structured, { n: 2 })
    assert.strictEqual(yield* fake.modelCalls, 1)
  }).pipe(withFake()))

it.effect("cannot list a structured prompt on the first page", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const session = yield* newSession()
    yield* post(session, [{ text: "plain" }])
    yield* TestClock.adjust(0)
    yield* post(session, [structured(1)], { format })
    yield* TestClock.adjust(0)
    const messages = `/session/${session}/message`
    assert.strictEqual(yield* statusOf(messages), 400)
    assert.strictEqual(yield* statusOf(`${messages}?limit=4`), 400)
    assert.strictEqual(yield* statusOf(`${messages}?limit=2`), 200)
    const [, , prompt, answer] = yield* fake.messages(session)
    assert.strictEqual(yield* statusOf(`${messages}/${prompt?.info.id}`), 400)
    assert.strictEqual(yield* statusOf(`${messages}/${answer?.info.id}`), 200)
  }).pipe(withFake()))

it.effect("runs a structured turn again when it is posted again, and heals its session without its format", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const session = yield* newSession()
    const ids = { messageID: "msg_00000000000100000000000000" }
    for (const _ of [1, 2]) {
      yield* post(session, [structured(1), structured(2)], { ...ids, format })
      yield* TestClock.adjust(0)
    }
    assert.strictEqual(yield* fake.modelCalls, 2)
    yield* post(session, [{ text: "x" }], { ...ids, noReply: true })
    assert.strictEqual(yield* statusOf(`/session/${session}/message`), 200)
    assert.strictEqual(yield* fake.modelCalls, 2)
  }).pipe(withFake()))

it.effect("runs a subagent again in the session that the task names", () =>
  Effect.gen(function*() {
    const session = yield* newSession()
    yield* post(session, [task("one"), { text: "done" }])
    yield* TestClock.adjust(0)
    const [child = ""] = yield* childrenOf(session)
    yield* post(session, [task("two", { task_id: child }), { text: "done" }])
    yield* TestClock.adjust(0)
    assert.deepStrictEqual(yield* childrenOf(session), [child])
    assert.deepStrictEqual(yield* answersOf(child), ["stop: one", "stop: two"])
  }).pipe(withFake()))

it.effect("allows for always in one directory, and answers nothing that another session asks", () =>
  Effect.gen(function*() {
    const options = { permission: [{ permission: "bash", pattern: "*", action: "ask" }] }
    const [first, second] = [yield* newSession(options), yield* newSession(options)]
    yield* post(first, [{ ...bash("ls a"), tools: [bash("ls b"), bash("make")] }, { text: "first done" }])
    yield* post(second, [bash("ls c"), bash("ls d"), { text: "second done" }])
    yield* TestClock.adjust(0)
    const [a = "", b = "", make = "", c = ""] = yield* permissions
    assert.strictEqual(yield* reply(a, "always", "?directory=/elsewhere"), 404)
    assert.strictEqual(yield* reply(a, "always"), 200)
    assert.deepStrictEqual(yield* permissions, [make, c])
    assert.strictEqual(yield* reply(b, "once"), 404)
    yield* reply(make, "once")
    yield* reply(c, "once")
    yield* TestClock.adjust(0)
    assert.deepStrictEqual(yield* permissions, [])
    assert.strictEqual((yield* answersOf(second)).at(-1), "stop: second done")
  }).pipe(withFake()))

it.effect("ends a turn if one of two permissions was rejected, even with a message", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const session = yield* newSession({ permission: [{ permission: "bash", pattern: "*", action: "ask" }] })
    yield* post(session, [{ ...bash("ls"), tools: [bash("make")] }, { text: "never said" }])
    yield* TestClock.adjust(0)
    const [first] = yield* permissions
    yield* request("POST", `/permission/${first}/reply`, { reply: "reject", message: "no" })
    yield* TestClock.adjust(0)
    const rejected = "The user rejected permission to use this specific tool call"
    assert.deepStrictEqual(yield* answersOf(session), [
      `tool-calls: ${rejected} with the following feedback: no: ${rejected}.`
    ])
    assert.strictEqual(yield* fake.modelCalls, 1)
  }).pipe(withFake()))

it.effect("reports the net changes of a turn, and the changes that outcomes declare", () =>
  Effect.gen(function*() {
    const session = yield* newSession()
    yield* post(session, [
      write("new.txt", "a\n"),
      write("new.txt", "b\n"),
      write("old.txt", "2\n"),
      write("old.txt", "1\n"),
      {
        tool: "bash",
        args: Tool.withOutcome({ command: "make" }, { files: [{ file: "made.o", status: "added" }] })
      },
      { text: "done" }
    ])
    yield* TestClock.adjust(0)
    assert.deepStrictEqual(yield* diffOf(session), [
      { file: "made.o", status: "added", additions: 0, deletions: 0, patch: "" },
      {
        file: "new.txt",
        patch: `Index: new.txt\n${"=".repeat(67)}\n--- new.txt\t\n+++ new.txt\t\n@@ -0,0 +1,1 @@\n+b\n`,
        additions: 1,
        deletions: 0,
        status: "added"
      }
    ])
    assert.deepStrictEqual((yield* request("GET", `/session/${session}/diff`)).body, [])
  }).pipe(withFake({ files: { "old.txt": "1\n" } })))

it.effect("serves the diff of a turn later if a delay is set", () =>
  Effect.gen(function*() {
    const session = yield* newSession()
    yield* post(session, [write("new.txt", "a\n"), { text: "done" }])
    yield* TestClock.adjust("99 millis")
    assert.deepStrictEqual(yield* diffOf(session), [])
    yield* TestClock.adjust("1 millis")
    assert.strictEqual((yield* diffOf(session)).length, 1)
  }).pipe(withFake({ summaryDelay: "100 millis" })))

it.effect("has a patch part of an aborted step, and no diff", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const session = yield* newSession()
    const outcome = { files: [{ file: "made.o" }], gate: "made" }
    yield* post(session, [{ tool: "bash", args: Tool.withOutcome({ command: "make" }, outcome) }])
    yield* fake.reached("made")
    yield* request("POST", `/session/${session}/abort`)
    assert.deepStrictEqual(yield* diffOf(session), [])
    const parts = (yield* fake.messages(session)).flatMap(({ parts }) => parts)
    assert.deepStrictEqual(parts.flatMap((part) => (part.type === "patch" ? part.files : [])), ["/project/made.o"])
  }).pipe(withFake()))

it.effect("has neither diffs nor snapshots without a repository", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const session = yield* newSession()
    yield* post(session, [write("new.txt", "a\n"), { text: "done" }])
    yield* TestClock.adjust(0)
    assert.deepStrictEqual(yield* diffOf(session), [])
    const parts = (yield* fake.messages(session)).flatMap(({ parts }) => parts)
    assert.isFalse(parts.some((part) => part.type === "patch" || "snapshot" in part))
  }).pipe(withFake({ git: false })))

it.effect("applies a patch to files that it knows and to files that the patch describes", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const session = yield* newSession()
    yield* post(session, [
      patch("*** Update File: known.txt", "*** Move to: moved.txt", "@@", "-one", "+1"),
      patch("*** Update File: told.txt", "@@", "-two", "+2"),
      patch("*** Update File: moved.txt", "@@", "-three", "+3"),
      { text: "done" }
    ])
    yield* TestClock.adjust(0)
    const calls = (yield* fake.messages(session)).flatMap(({ parts }) => parts.filter((part) => part.type === "tool"))
    assert.deepStrictEqual(calls.map((part) => part.type === "tool" && (part.state.output ?? part.state.error)), [
      "Success. Updated the following files:\nM moved.txt",
      "Success. Updated the following files:\nM told.txt",
      "apply_patch verification failed: Error: Failed to find expected lines in /project/moved.txt:\nthree"
    ])
    const told = (yield* diffOf(session)).map((change) => JSON.stringify(change)).join()
    assert.match(told, /"file":"known\.txt".*"status":"deleted".*"file":"moved\.txt".*"status":"added"/)
  }).pipe(withFake({ files: { "known.txt": "one\n" } })))

it.effect("gives a subtask to its agent before the model, and runs the last of several only", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const session = yield* newSession()
    const text = FakeOpencode.prompt("go", [{ text: "skipped" }, { text: "root done" }])
    yield* post(session, [], { parts: [{ type: "text", text }, subtask("one"), subtask("two")] })
    yield* TestClock.adjust(0)
    assert.deepStrictEqual(yield* answersOf(session), ["tool-calls: completed", "stop: root done"])
    const [child = "", other] = yield* childrenOf(session)
    assert.isUndefined(other)
    assert.deepStrictEqual(yield* answersOf(child), ["stop: two"])
    assert.deepStrictEqual((yield* fake.modelRequests).map(({ sessionId }) => sessionId), [child, session])
  }).pipe(withFake()))

it.effect("does not store a prompt with a broken picture, and reports no end", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const session = yield* newSession()
    const picture = { type: "file", mime: "image/png", url: "data:image/png;base64,AAAA" }
    assert.strictEqual((yield* post(session, [], { parts: [picture] })).status, 204)
    yield* TestClock.adjust(0)
    assert.strictEqual(yield* fake.userMessageCount(session), 0)
    assert.strictEqual(yield* fake.modelCalls, 0)
  }).pipe(withFake()))

it.effect("gives the model the lines of a file that a prompt names", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const session = yield* newSession()
    const file = { type: "file", mime: "text/plain", url: "file:///project/notes.txt?start=2&end=3" }
    yield* post(session, [], { parts: [{ type: "text", text: "look" }, file] })
    yield* TestClock.adjust(0)
    const [request] = yield* fake.modelRequests
    assert.include(request?.messages[0]?.text, "2: b\n3: c\n\n(Showing lines 2-3 of 4. Use offset=4 to continue.)")
  }).pipe(withFake({ files: { "notes.txt": "a\nb\nc\nd\n" } })))

it.effect("lists its agents, those of the configuration among them", () =>
  Effect.gen(function*() {
    const { body } = yield* request("GET", "/agent")
    const names = asArray(body).map((agent) => JSON.stringify(agent)).filter((agent) =>
      agent.includes("\"name\":\"mine\"")
    )
    assert.strictEqual(names.length, 1)
  }).pipe(withFake({ agents: { mine: { mode: "subagent" } } })))
