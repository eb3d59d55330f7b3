import * as Wire from "#opencode/v1/Wire"
import { assert, describe, it } from "@effect/vitest"
import { MessageId, PartId } from "@opencode-turn/core/Ids"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { assertFields } from "../../support/http.ts"
import { tape, tapes } from "../../support/tapes.ts"

const ids = { id: "prt_1", messageID: "msg_1", sessionID: "ses_1" }
const own = { id: "prt_1", messageId: "msg_1" }
const part = (wire: object) => Option.getOrUndefined(Wire.toPart({ ...ids, ...wire }))
const wireTokens = { total: 140, input: 70, output: 25, reasoning: 15, cache: { read: 30, write: 1 } }
const tokens = { input: 70, output: 25, reasoning: 15, cacheRead: 30, cacheWrite: 1 }

const isRefused = (error: string) => {
  const call = part({ type: "tool", callID: "c", tool: "bash", state: { status: "error", error } })
  return call?.type === "tool" && call.isRefused === true
}

const isInterrupted = (tool: string, state: object) => {
  const call = part({ type: "tool", callID: "c", tool, state: { status: "error", ...state } })
  return call?.type === "tool" && call.isInterrupted === true
}

const nameOf = (input: object) => {
  const call = part({ type: "tool", callID: "c", tool: "invalid", state: { status: "running", input } })
  return call?.type === "tool" ? call.tool : undefined
}

describe("parts", () => {
  it("text and reasoning are complete when they have an end", () => {
    assert.deepStrictEqual<unknown>(part({ type: "text", text: "a", time: { start: 1, end: 2 } }), {
      ...own,
      type: "text",
      text: "a",
      isComplete: true
    })
    assert.deepStrictEqual<unknown>(part({ type: "reasoning", text: "", time: { start: 1 } }), {
      ...own,
      type: "reasoning",
      text: "",
      isComplete: false
    })
  })

  it("a tool call in each state", () => {
    const call = { type: "tool", callID: "call_1", tool: "bash" }
    const base = { ...own, type: "tool", callId: "call_1", tool: "bash" }
    assert.deepStrictEqual<unknown>(part({ ...call, state: { status: "pending", input: {}, raw: "" } }), {
      ...base,
      status: "pending",
      input: {}
    })
    assert.deepStrictEqual<unknown>(
      part({
        ...call,
        state: { status: "running", input: { command: "ls" }, metadata: { output: "a" }, time: { start: 1 } }
      }),
      { ...base, status: "running", input: { command: "ls" }, metadata: { output: "a" }, startedMillis: 1 }
    )
    assert.deepStrictEqual<unknown>(
      part({
        ...call,
        state: { status: "completed", input: {}, output: "a", title: "List", time: { start: 1, end: 2 } }
      }),
      { ...base, status: "completed", input: {}, title: "List", output: "a", startedMillis: 1, endedMillis: 2 }
    )
    assert.deepStrictEqual<unknown>(part({ ...call, state: { status: "error", error: "no" } }), {
      ...base,
      status: "error",
      input: {},
      error: "no",
      files: []
    })
  })

  it("distinguishes a refusal that ends the turn from one with feedback and from other errors", () => {
    assert.isTrue(isRefused("The user rejected permission to use this specific tool call."))
    assert.isTrue(isRefused("The user dismissed this question"))
    assert.isFalse(
      isRefused(
        "The user rejected permission to use this specific tool call with the following feedback: use ls instead"
      )
    )
    assert.isFalse(
      isRefused("Subagent failed (task_id: ses_1): The user rejected permission to use this specific tool call.")
    )
    assert.isFalse(isRefused("Tool execution aborted"))
  })

  it("tells a call that was stopped with its session from one that failed", () => {
    assert.isTrue(isInterrupted("task", { error: "Task cancelled" }))
    assert.isTrue(isInterrupted("bash", { error: "Tool execution aborted", metadata: { interrupted: true } }))
    assert.isFalse(isInterrupted("task", { error: "Subagent failed" }))
    assert.isFalse(isInterrupted("bash", { status: "completed", output: "", metadata: { interrupted: true } }))
  })

  it("a task names the session of its subagent", () => {
    const call = part({
      type: "tool",
      callID: "c",
      tool: "task",
      state: { status: "running", metadata: { sessionId: "ses_child" } }
    })
    assertFields(call, { subagent: "ses_child" })
  })

  it("a call renamed `invalid` has the name that the model gave it", () => {
    assert.strictEqual(nameOf({ tool: "grep", error: "no such tool" }), "grep")
    assert.strictEqual(nameOf({}), "invalid")
  })

  it("files, finished steps and patches", () => {
    assert.deepStrictEqual<unknown>(part({ type: "file", mime: "image/png", url: "data:,", filename: "a.png" }), {
      ...own,
      type: "file",
      mediaType: "image/png",
      url: "data:,",
      filename: "a.png"
    })
    assert.deepStrictEqual<unknown>(part({ type: "file", mime: "image/png", url: "data:," }), {
      ...own,
      type: "file",
      mediaType: "image/png",
      url: "data:,"
    })
    assert.deepStrictEqual<unknown>(part({ type: "step-finish", reason: "stop", cost: 0.5, tokens: wireTokens }), {
      ...own,
      type: "step-finish",
      reason: "stop",
      cost: 0.5,
      tokens
    })
    assert.deepStrictEqual<unknown>(part({ type: "patch", hash: "h", files: ["a.ts"] }), {
      ...own,
      type: "patch",
      files: ["a.ts"]
    })
  })

  it("leaves out parts of other types, and broken ones", () => {
    for (const type of ["step-start", "snapshot", "agent", "retry", "subtask", "compaction", "something new"]) {
      assert.isUndefined(part({ type, auto: true }), type)
    }
    assert.isUndefined(part({ type: "text" }))
    assert.isTrue(Option.isNone(Wire.toPart(null)))
  })
})

const decode = (wire: unknown) => Option.getOrThrow(Wire.toMessage(wire))

describe("messages", () => {
  const info = {
    role: "assistant",
    id: "msg_2",
    sessionID: "ses_1",
    parentID: "msg_1",
    time: { created: 1 },
    cost: 0.5,
    tokens: wireTokens
  }

  const read = (fields: object) => decode({ info: { ...info, ...fields }, parts: [] }).info

  it("an answer that runs, one that ended, one that failed", () => {
    const running = {
      role: "assistant",
      id: "msg_2",
      sessionId: "ses_1",
      parentId: "msg_1",
      createdMillis: 1,
      completedMillis: undefined,
      finish: undefined,
      error: undefined,
      usage: { cost: 0.5, tokens },
      isSummary: false,
      structured: undefined,
      directory: undefined,
      worktree: undefined,
      agent: undefined,
      model: undefined
    }
    assert.deepStrictEqual<unknown>(read({}), running)
    assert.deepStrictEqual<unknown>(read({ mode: "build", providerID: "anthropic", modelID: "claude" }), {
      ...running,
      agent: "build",
      model: { providerId: "anthropic", modelId: "claude" }
    })
    assert.deepStrictEqual<unknown>(read({ mode: "subagent", agent: "explore", providerID: "anthropic" }), {
      ...running,
      agent: "explore"
    })
    assert.deepStrictEqual<unknown>(read({ path: { cwd: "/repo/sub", root: "/repo" } }), {
      ...running,
      directory: "/repo/sub",
      worktree: "/repo"
    })
    assert.deepStrictEqual<unknown>(
      read({ time: { created: 1, completed: 2 }, finish: "stop", summary: true, structured: { a: 1 } }),
      { ...running, completedMillis: 2, finish: "stop", isSummary: true, structured: { a: 1 } }
    )
    assert.deepStrictEqual<unknown>(read({ error: { name: "MessageOutputLengthError", data: {} } }), {
      ...running,
      error: { name: "MessageOutputLengthError", message: "MessageOutputLengthError", isRetryable: false }
    })
  })

  it("leaves out a user's parts, and unknown parts of an answer", () => {
    const [prompt, answer] = tape("tool_error").messages
    assert.deepStrictEqual(prompt?.parts, [])
    assert.deepStrictEqual(answer?.parts.map((part) => part.type), ["text", "tool", "step-finish"])
  })

  it("marks the messages by which OpenCode continues a turn, but not a person's order to sum up", () => {
    assert.deepStrictEqual(
      tape("compaction").messages.map(({ info }) => info.role === "user" && info.isContinuation),
      [false, false, true, false, true, false]
    )
    const manual = decode({
      info: { role: "user", id: "msg_1", sessionID: "ses_1", time: { created: 1 }, summary: { diffs: [] } },
      parts: [{ ...ids, type: "compaction", auto: false }]
    })
    assert.isTrue(manual.info.role === "user")
    assert.deepInclude(manual.info, { isContinuation: false })
  })

  it("every recorded message can be read", () => {
    for (const recorded of tapes) {
      assert.isNotEmpty(recorded.messages, recorded.name)
      for (const { parts } of recorded.messages) for (const part of parts) assert.match(part.id, /^prt_/)
    }
  })
})

describe("failures", () => {
  it("keep the fields for a product's user, and drop body, headers and query", () => {
    const failure = Wire.toFailure({
      name: "APIError",
      data: {
        message: "overloaded\n    at stack",
        statusCode: 529,
        isRetryable: true,
        responseHeaders: { "x-key": "canary" },
        responseBody: "canary",
        metadata: { url: "https://api.example/v1/messages?key=canary#canary" }
      }
    })
    assert.deepStrictEqual<unknown>(failure, {
      name: "APIError",
      message: "overloaded",
      statusCode: 529,
      isRetryable: true,
      url: "https://api.example/v1/messages"
    })
    assert.notInclude(JSON.stringify(failure), "canary")
  })

  it("without data have their name as message", () => {
    assert.deepStrictEqual<unknown>(Wire.toFailure({ name: "UnknownError" }), {
      name: "UnknownError",
      message: "UnknownError",
      isRetryable: false
    })
  })
})

const statusOf = (wire: object) => Wire.toStatus(Schema.decodeUnknownSync(Wire.WireStatus)(wire))

describe("sessions", () => {
  const decode = Schema.decodeUnknownSync(Wire.WireSession)
  const session = { id: "ses_1", title: "t", directory: "/workspace", time: { created: 1, updated: 2 } }

  it("with their own usage", () => {
    assert.deepStrictEqual<unknown>(
      Wire.toSession(decode({ ...session, parentID: "ses_0", agent: "general", cost: 0.5, tokens: wireTokens })),
      {
        id: "ses_1",
        parentId: "ses_0",
        title: "t",
        agent: "general",
        directory: "/workspace",
        createdMillis: 1,
        updatedMillis: 2,
        permission: [],
        metadata: {},
        usage: { cost: 0.5, tokens },
        model: undefined,
        revertedFrom: undefined
      }
    )
  })

  it("with the model of the last prompt and the pending revert, if they can be read", () => {
    const revert = { messageID: "msg_2", snapshot: "1234", diff: "" }
    const read = Wire.toSession(decode({ ...session, revert, model: { id: "m", providerID: "p", variant: "default" } }))
    assert.deepStrictEqual(read.model, { providerId: "p", modelId: "m" })
    assert.strictEqual(read.revertedFrom, "msg_2")
    const odd = Wire.toSession(decode({ ...session, revert: { messageID: 2 }, model: "m" }))
    assert.isUndefined(odd.model)
    assert.isUndefined(odd.revertedFrom)
  })

  it("of older servers may lack usage, agent and the time of change", () => {
    const read = Wire.toSession(decode({ ...session, time: { created: 1 } }))
    assert.strictEqual(read.updatedMillis, 1)
    assert.strictEqual(read.usage.cost, 0)
  })

  it("have the status idle, retry, or else busy", () => {
    assert.deepStrictEqual(statusOf({ type: "idle" }), { type: "idle" })
    assert.deepStrictEqual(statusOf({ type: "busy" }), { type: "busy" })
    assert.deepStrictEqual(statusOf({ type: "compacting" }), { type: "busy" })
    assert.deepStrictEqual(statusOf({ type: "retry" }), { type: "retry", attempt: 1, message: "", nextMillis: 0 })
    assert.deepStrictEqual(statusOf({ type: "retry", attempt: 1, message: "m", next: 2 }), {
      type: "retry",
      attempt: 1,
      message: "m",
      nextMillis: 2
    })
  })
})

describe("to-dos", () => {
  it.each(
    [
      ["pending", "pending"],
      ["todo", "pending"],
      ["in_progress", "in_progress"],
      ["in-progress", "in_progress"],
      ["In Progress", "in_progress"],
      ["inProgress", "in_progress"],
      ["completed", "completed"],
      ["DONE", "completed"],
      ["cancelled", "cancelled"],
      ["canceled", "cancelled"],
      ["something new", "pending"]
    ] as const
  )("%s is %s", (wire, status) => {
    assert.deepStrictEqual(Wire.toTodo({ content: "a", status: wire }), { content: "a", status })
  })
})

describe("prompts", () => {
  it("with the fewest fields", () => {
    assert.deepStrictEqual(Wire.fromPrompt({ parts: [{ type: "text", text: "go" }] }), {
      parts: [{ type: "text", text: "go" }]
    })
  })

  it("with everything, each part under its id", () => {
    assert.deepStrictEqual(
      Wire.fromPrompt({
        ids: {
          promptId: MessageId.make("msg_1"),
          partIds: ["prt_1", "prt_2", "prt_3"].map((id) => PartId.make(id))
        },
        parts: [
          { type: "text", text: "go" },
          { type: "file", mediaType: "image/png", url: "data:,", filename: "a.png" },
          { type: "agent", name: "plan" }
        ],
        agent: "build",
        model: { providerId: "anthropic", modelId: "claude" },
        variant: "high",
        system: "be brief",
        format: { type: "json_schema", schema: {} }
      }),
      {
        messageID: "msg_1",
        parts: [
          { id: "prt_1", type: "text", text: "go" },
          { id: "prt_2", type: "file", mime: "image/png", url: "data:,", filename: "a.png" },
          { id: "prt_3", type: "agent", name: "plan" }
        ],
        agent: "build",
        model: { providerID: "anthropic", modelID: "claude" },
        variant: "high",
        system: "be brief",
        format: { type: "json_schema", schema: {} }
      }
    )
  })
})

it("names the values of a message that were clamped or cut", () => {
  const deep = JSON.parse(`${"{\"a\":".repeat(300)}1${"}".repeat(300)}`)
  const ids = { messageID: "msg_2", sessionID: "ses_1" }
  const message = Wire.toMessage({
    info: { role: "assistant", id: "msg_2", sessionID: "ses_1", parentID: "msg_1", cost: -1, tokens: { input: 1e308 } },
    parts: [
      { ...ids, id: "prt_1", type: "text", text: "words" },
      { ...ids, id: "prt_2", type: "tool", callID: "call_1", tool: "bash", state: { status: "running", input: deep } }
    ]
  })
  assert.deepStrictEqual(Option.getOrThrow(message).altered, ["info.cost or info.tokens", "parts.1.state"])
})
