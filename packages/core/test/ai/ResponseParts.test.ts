import * as ResponseParts from "#ai/ResponseParts"
import { assert, describe, it } from "@effect/vitest"
import { AssistantMessageId, ConversationId, MessageId, PartId, SessionId } from "@opencode-turn/core/Ids"
import type { Part } from "@opencode-turn/core/Part"
import type { ReplyUpdate } from "@opencode-turn/core/ReplyUpdate"
import type { StoredMessage } from "@opencode-turn/core/SessionStore"
import * as Usage from "@opencode-turn/core/Usage"
import * as Schema from "effect/Schema"

const messageId = MessageId.make("msg_1")
const started: ReplyUpdate = {
  _tag: "Started",
  conversationId: ConversationId.make("c"),
  messageId: AssistantMessageId.make("m"),
  sessionId: SessionId.make("ses_1"),
  promptId: MessageId.make("msg_0"),
  model: "scripted/m"
}

const text = (id: string, text: string, isComplete = false, type: "text" | "reasoning" = "text"): Part => ({
  type,
  id: PartId.make(id),
  messageId,
  text,
  isComplete
})
const tool = (status: "pending" | "running" | "completed" | "error", more: object = {}): Part => ({
  type: "tool",
  id: PartId.make("t"),
  messageId,
  callId: "call",
  tool: "bash",
  status,
  input: status === "pending" ? {} : { command: "ls" },
  ...(status === "completed" && { output: "a.txt" }),
  ...(status === "error" && { error: "no such command" }),
  ...more
})
const file = (id: string, url: string): Part => ({
  type: "file",
  id: PartId.make(id),
  messageId,
  mediaType: "image/png",
  url,
  filename: "a.png"
})
const changed = (part: Part): ReplyUpdate => ({ _tag: "PartChanged", part })
const delta = (id: string, delta: string): ReplyUpdate => ({ _tag: "TextDelta", partId: PartId.make(id), delta })
const reset = (...parts: ReadonlyArray<Part>): ReplyUpdate => ({
  _tag: "Reset",
  reason: "reconciled",
  parts,
  subagents: [],
  asks: []
})

const message = (parts: ReadonlyArray<Part>, fields: Partial<StoredMessage> = {}): StoredMessage => ({
  id: AssistantMessageId.make("m"),
  conversationId: ConversationId.make("c"),
  position: 1,
  status: "completed",
  epoch: 1,
  revision: 1,
  offset: 1,
  owner: null,
  account: null,
  leaseUntilMillis: null,
  takeovers: 0,
  revertedBy: null,
  excerpt: "",
  started: null,
  isFallback: false,
  finish: "stop",
  usage: Usage.zero,
  error: null,
  createdMillis: 0,
  finishedMillis: 1,
  prompt: [],
  draft: null,
  promptRecord: null,
  content: parts.flatMap((part) => part.type === "text" && part.text !== "" ? [part.text] : []).join("\n\n"),
  parts,
  subagents: [],
  waits: [],
  ...fields
})

const names: ResponseParts.ToolNames = new Map([["bash", "Bash"]])

const streamed = (updates: ReadonlyArray<ReplyUpdate>, end?: StoredMessage) => {
  let state = ResponseParts.begin(names, 0)
  return [...updates, ...(end === undefined ? [] : [{ _tag: "Ended" as const, message: end }])].flatMap((update) => {
    const [next, parts] = ResponseParts.apply(state, update)
    state = next
    return parts
  })
}

/** Each part in a word. */
const words = (parts: ReturnType<typeof streamed>) =>
  parts.map((part) =>
    "delta" in part ? `${part.type} ${part.delta}` : "id" in part ? `${part.type} ${part.id}` : part.type
  )

/** What a reader has in the end: the content where the stream tells it, and else all that it said. */
const read = (parts: ReturnType<typeof streamed>) => {
  const finish = parts.find((part) => part.type === "finish")
  const said = parts.map((part) => part.type === "text-delta" ? part.delta : "").join("")
  return finish?.metadata?.opencode?.content ?? said
}

const Id = Schema.Literals(["a", "b", "c"])
const Said = Schema.Literals(["", "He", "Hello", "Good", "Good day"])
const Told = Schema.Struct({
  what: Schema.Literals(["delta", "open", "closed", "thought", "removed", "reset"]),
  id: Id,
  words: Said
})
const toUpdate = ({ id, what, words }: typeof Told.Type): ReplyUpdate => {
  switch (what) {
    case "delta":
      return delta(id, words)
    case "open":
    case "closed":
      return changed(text(id, words, what === "closed"))
    case "thought":
      return changed(text(id, words, false, "reasoning"))
    case "removed":
      return { _tag: "PartRemoved", partId: PartId.make(id) }
    case "reset":
      return reset(text(id, words))
  }
}

const resultOf = (part: Part) => streamed([started, changed(part)]).find(({ type }) => type === "tool-result")

describe("the parts of a running turn", () => {
  it("tell a text in deltas, and one behind it behind a blank line", () => {
    const parts = streamed([
      started,
      changed(text("a", "")),
      delta("a", "Hel"),
      delta("a", "lo"),
      changed(text("a", "Hello", true)),
      changed(text("b", "")),
      delta("b", "Bye")
    ], message([text("a", "Hello", true), text("b", "Bye.", true)]))
    assert.deepStrictEqual(words(parts), [
      "response-metadata m",
      "text-start a",
      "text-delta Hel",
      "text-delta lo",
      "text-end a",
      "text-start b",
      "text-delta \n\nBye",
      "text-delta .",
      "text-end b",
      "finish"
    ])
    assert.strictEqual(read(parts), "Hello\n\nBye.")
  })

  it("wait where a text is taken back, and go on where it comes again", () => {
    const parts = streamed([
      started,
      changed(text("a", "Hello")),
      changed(text("a", "")),
      delta("a", "Hel"),
      delta("a", "lo you")
    ], message([text("a", "Hello you", true)]))
    assert.deepStrictEqual(words(parts).slice(1, -1), [
      "text-start a",
      "text-delta Hello",
      "text-delta  you",
      "text-end a"
    ])
  })

  it("begin another text where one turns out to be another, and tell which it replaces", () => {
    const parts = streamed([
      started,
      changed(text("a", "Hello")),
      changed(text("a", "")),
      delta("a", "Good day")
    ], message([text("a", "Good day", true)]))
    assert.deepStrictEqual(words(parts).slice(1), [
      "text-start a",
      "text-delta Hello",
      "text-end a",
      "text-start a.1",
      "text-delta \n\nGood day",
      "text-end a.1",
      "finish"
    ])
    const second = parts.findLast((part) => part.type === "text-start")
    assert.strictEqual(second?.metadata?.opencode?.replaces, "a")
    assert.strictEqual(read(parts), "Good day")
  })

  it("end what a reset no longer has", () => {
    const parts = streamed([started, changed(text("a", "Hello")), reset(text("b", "Good day"))])
    assert.deepStrictEqual(words(parts).slice(1), [
      "text-start a",
      "text-delta Hello",
      "text-end a",
      "text-start b",
      "text-delta \n\nGood day"
    ])
  })

  it("tell the content where a text goes on behind the next one", () => {
    const parts = streamed([
      started,
      changed(text("a", "One")),
      changed(text("b", "Two")),
      delta("a", " more")
    ], message([text("a", "One more", true), text("b", "Two", true)]))
    assert.deepStrictEqual(words(parts).slice(1), [
      "text-start a",
      "text-delta One",
      "text-start b",
      "text-delta \n\nTwo",
      "text-delta  more",
      "text-end a",
      "text-end b",
      "finish"
    ])
    assert.strictEqual(read(parts), "One more\n\nTwo")
  })

  it("take the first deltas of an older server, which come before their part", () => {
    const parts = streamed([started, delta("a", "Hm"), changed(text("a", "Hm, yes", true, "reasoning"))])
    assert.deepStrictEqual(words(parts).slice(1), [
      "text-start a",
      "text-delta Hm",
      "text-end a",
      "reasoning-start a.1",
      "reasoning-delta Hm, yes",
      "reasoning-end a.1"
    ])
  })

  it("tell a call when it begins, when its input is known, and when it has a result", () => {
    const updates = [started, changed(tool("pending")), changed(tool("running")), changed(tool("running"))]
    const parts = streamed([...updates, changed(tool("completed"))], message([tool("completed")]))
    assert.deepStrictEqual(words(parts), [
      "response-metadata m",
      "tool-params-start t",
      "tool-params-delta {\"command\":\"ls\"}",
      "tool-params-end t",
      "tool-call t",
      "tool-result t",
      "finish"
    ])
  })

  it("tell a failed call with its error, and a refused one as denied", () => {
    assert.deepInclude(resultOf(tool("error")), { isFailure: true, result: "no such command" })
    assert.deepInclude(resultOf(tool("error", { refusal: "not here" })), {
      isFailure: true,
      result: { type: "execution-denied", reason: "not here" }
    })
  })

  it("hold a file inside the answer, and the address of another one", () => {
    const parts = streamed([
      started,
      changed(file("a", "data:image/png;base64,AAAA")),
      changed(file("b", "file:///a.png")),
      changed(file("a", "data:image/png;base64,AAAA"))
    ])
    assert.deepStrictEqual(parts.map(({ type }) => type), ["response-metadata", "file", "source"])
  })

  it("of a turn that had ended tell all of it", () => {
    const parts = [text("r", "Hm", true, "reasoning"), tool("completed"), text("a", "Hello", true)]
    assert.deepStrictEqual(words(streamed([], message(parts))), [
      "response-metadata m",
      "reasoning-start r",
      "reasoning-delta Hm",
      "reasoning-end r",
      "tool-params-start t",
      "tool-params-delta {\"command\":\"ls\"}",
      "tool-params-end t",
      "tool-call t",
      "tool-result t",
      "text-start a",
      "text-delta Hello",
      "text-end a",
      "finish"
    ])
  })

  it.prop("lead to the turn's content whatever happened, and leave no text open", {
    updates: Schema.Array(Told),
    ends: Schema.Array(Schema.Tuple([Id, Said]))
  }, ({ ends, updates }) => {
    const end = message(Array.from(new Map(ends), ([id, words]) => text(id, words, true)))
    const parts = streamed([started, ...updates.map(toUpdate)], end)
    assert.strictEqual(read(parts), end.content)
    const open = new Set<string>()
    for (const part of parts) {
      if (part.type === "text-start" || part.type === "reasoning-start") {
        assert.isFalse(open.has(part.id), "begun twice")
        open.add(part.id)
      }
      if (part.type === "text-delta" || part.type === "reasoning-delta") {
        assert.isTrue(open.has(part.id), "a delta outside of its text")
      }
      if (part.type === "text-end" || part.type === "reasoning-end") assert.isTrue(open.delete(part.id), "ended twice")
    }
    assert.strictEqual(open.size, 0)
  }, { arbitrary: { runs: 1000 } })
})

describe("the parts of a turn that has ended", () => {
  it("leave empty texts out, and tell calls that the toolkit does not name in the metadata", () => {
    const parts = ResponseParts.fromMessage(message([text("a", "", true), tool("completed")]), new Map())
    assert.deepStrictEqual(parts.map(({ type }) => type), ["response-metadata", "finish"])
    const finish = parts.find((part) => part.type === "finish")
    assert.deepStrictEqual(finish?.metadata?.opencode?.tools, [
      { id: "t", tool: "bash", status: "completed", title: null, input: { command: "ls" }, error: null }
    ])
  })

  it("have one text where a value was asked for", () => {
    const ended = message([text("a", "I think.", true), tool("completed")], { content: "{\"a\":1}" })
    const parts = ResponseParts.fromValue(ended, names)
    assert.deepStrictEqual(parts.map(({ type }) => type), [
      "response-metadata",
      "tool-call",
      "tool-result",
      "text",
      "finish"
    ])
    assert.isUndefined(parts.find((part) => part.type === "finish")?.metadata?.opencode?.content)
  })

  it("count cached tokens and reasoning in the totals", () => {
    const tokens = { input: 1, output: 2, reasoning: 4, cacheRead: 8, cacheWrite: 16 }
    const parts = ResponseParts.fromMessage(message([], { usage: { cost: 0.5, tokens } }), names)
    const finish = parts.find((part) => part.type === "finish")
    assert.deepStrictEqual(finish?.usage, {
      inputTokens: { uncached: 1, cacheRead: 8, cacheWrite: 16, total: 25 },
      outputTokens: { text: 2, reasoning: 4, total: 6 }
    })
    assert.strictEqual(finish?.metadata?.opencode?.cost, 0.5)
  })

  it.each([
    ["stop", "stop"],
    ["length", "length"],
    ["content-filter", "content-filter"],
    ["tool-calls", "tool-calls"],
    ["max_tokens", "other"],
    [null, "unknown"]
  ])("that the server calls %s have the reason %s", (finish, reason) => {
    const parts = ResponseParts.fromMessage(message([], { finish }), names)
    assert.strictEqual(parts.find((part) => part.type === "finish")?.reason, reason)
  })
})
