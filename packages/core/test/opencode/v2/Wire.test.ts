/** How a step of OpenCode 2.x ends, as its message tells it and as its events do (0.0.0-next-16350). */
import { decodeEvent } from "#opencode/v2/Events"
import * as Runs from "#opencode/v2/Runs"
import * as Wire from "#opencode/v2/Wire"
import * as Exchange from "#reply/Exchange"
import * as Refusals from "#turn/Refusals"
import { assert, describe, it } from "@effect/vitest"
import { AskId, MessageId, SessionId } from "@opencode-turn/core/Ids"

const sessionID = "ses_1"
const inMessage = { sessionID, assistantMessageID: "msg_2" }
const place = { directory: "/work", worktree: undefined }
const tokens = { input: 10, output: 5, reasoning: 0, cache: { read: 0, write: 0 } }
const call = { type: "tool", id: "call_1", name: "shell", state: { status: "completed", input: {}, content: [] } }

const stored = (message: object) =>
  Wire.toMessages(
    [
      { id: "msg_1", type: "user", time: { created: 1 } },
      { id: "msg_2", type: "assistant", content: [], time: { created: 2, completed: 3 }, tokens, ...message }
    ],
    SessionId.make(sessionID),
    place,
    "ended"
  ).messages[1]?.info

/** The message that the last of these events tell, behind the begin of a step. */
const streamed = (...events: ReadonlyArray<readonly [type: string, data: object]>) => {
  const runs = Runs.make()
  const input = { inputID: "msg_1", input: { type: "user", data: {} } }
  const told = [
    ["session.input.admitted", { sessionID, ...input }],
    ["session.input.promoted", { sessionID, ...input }],
    ["session.step.started", inMessage],
    ...events.map(([type, data]) => [type, { ...inMessage, ...data }])
  ].flatMap(([type, data], created) => decodeEvent(JSON.stringify({ type, created, data }), runs, place) ?? [])
  return told.findLast((event) => event._tag === "MessageUpdated")?.info
}

const refused = (id: string, command: string, error: object) => ({
  type: "tool",
  id,
  name: "shell",
  state: { status: "error", input: { command }, error }
})

const finishOf = (
  info: ReturnType<typeof stored> | ReturnType<typeof streamed>
) => (info?.role === "assistant" ? info.finish : "no answer")

describe("a step of 2.x", () => {
  it("whose finish reason is unknown is the last one, unless it called a tool", () => {
    const ended = ["session.step.ended", { finish: "unknown", tokens }] as const
    assert.strictEqual(finishOf(stored({ finish: "unknown" })), "other")
    assert.strictEqual(finishOf(streamed(ended)), "other")
    assert.strictEqual(finishOf(stored({ finish: "unknown", content: [call] })), "unknown")
    assert.strictEqual(
      finishOf(streamed(["session.tool.input.started", { callID: "call_1", name: "shell" }], ended)),
      "unknown"
    )
  })

  it("that was filtered has the finish reason and the failure of 1.x", () => {
    const error = { type: "provider.content-filter", message: "Provider blocked the response" }
    for (const info of [stored({ finish: "error", error }), streamed(["session.step.failed", { error, tokens }])]) {
      assert(info?.role === "assistant")
      assert.deepStrictEqual([info.finish, info.error?.name], ["content-filter", "ContentFilterError"])
    }
    const { messages } = Wire.toMessages(
      [{ id: "msg_1", type: "user" }, { id: "msg_2", type: "assistant", content: [], finish: "error", error, tokens }],
      SessionId.make(sessionID),
      place,
      "ended"
    )
    const reasons = messages.flatMap(({ parts }) =>
      parts.flatMap((part) => (part.type === "step-finish" ? [part.reason] : []))
    )
    assert.deepStrictEqual(reasons, ["content-filter"])
  })

  it("whose refusals stopped the agent names them with the reasons that the gate gave, because the server records none", () => {
    const sessionId = SessionId.make(sessionID)
    const promptId = MessageId.make("msg_1")
    const { messages } = Wire.toMessages(
      [{ id: promptId, type: "user" }, {
        id: "msg_2",
        type: "assistant",
        time: { created: 2, completed: 3 },
        finish: "error",
        error: { type: "aborted", message: "Step interrupted" },
        content: [
          refused("call_1", "echo a", { type: "tool.execution", message: "Unable to execute command: echo a" }),
          refused("call_2", "echo b", { type: "aborted", message: "The user declined this tool call" }),
          refused("call_3", "false", { type: "tool.execution", message: "no such command" })
        ]
      }],
      sessionId,
      place,
      "shutdown"
    )
    const exchange = Exchange.fromMessages({ sessionId, promptId }, messages)
    const given = (callId: string, command: string, reason: string, messageId = "msg_2") => ({
      ask: {
        ...Wire.toPermission({ id: AskId.make(`per_${callId}`), sessionID: sessionId, resources: [command] }),
        tool: { messageId: MessageId.make(messageId), callId }
      },
      reason
    })
    const reasons = [
      given("call_1", "echo a", "not a"),
      given("call_2", "echo b", "not b"),
      // The ids of calls are those of their step.
      given("call_3", "echo c", "not c", "msg_0")
    ]
    assert.isTrue(Exchange.isRefused(exchange))
    assert.deepStrictEqual(Refusals.of(exchange, reasons), [
      { tool: "shell", asked: "echo a", reason: "not a" },
      { tool: "shell", asked: "echo b", reason: "not b" }
    ])
    assert.isTrue(Refusals.areExplained(exchange, reasons))
  })

  it("that failed has the status that the release tells beside the words, and that of the words on the beta", () => {
    const error = { type: "provider.invalid-request", message: "Provider request failed with HTTP 400: too long" }
    assert.strictEqual(Wire.toFailure(error).statusCode, 400)
    assert.deepInclude(Wire.toFailure({ ...error, message: "too long", status: 413 }), {
      statusCode: 413,
      message: "too long"
    })
  })

  it("has a call whose input is still written, without what is there of it", () => {
    const state = { status: "streaming", input: "{\"comma" }
    const { messages } = Wire.toMessages(
      [
        { id: "msg_1", type: "user", time: { created: 1 } },
        { id: "msg_2", type: "assistant", content: [{ ...call, state }], time: { created: 2 } }
      ],
      SessionId.make(sessionID),
      place,
      "open"
    )
    const [part] = messages[1]?.parts ?? []
    assert(part?.type === "tool")
    assert.deepInclude(part, { status: "pending", input: {}, tool: "shell" })
    assert.isUndefined(messages[1]?.unread)
  })

  it("that failed for no known reason has no name before its words", () => {
    assert.strictEqual(Wire.toFailure({ type: "unknown", message: `Agent not found: "x"` }).name, "UnknownError")
  })
})

const delivered = { id: "msg_1", type: "user", time: { created: 10 } }
const timed = (id: string, created: number, completed: number, finish: string) => ({
  id,
  type: "assistant",
  content: [],
  time: { created, completed },
  finish,
  tokens
})
const calledIn = (...messages: ReadonlyArray<object>) =>
  Wire.toMessages(messages, SessionId.make(sessionID), place, "ended").messages.flatMap(({ info }) =>
    info.role === "assistant" ? [info.calledMillis] : []
  )

describe("the model of 2.x is called", () => {
  it("once its input is delivered, and again when a step with tools has ended", () => {
    assert.deepStrictEqual(
      calledIn(delivered, timed("msg_2", 50, 60, "tool-calls"), timed("msg_3", 90, 99, "stop")),
      [10, 60]
    )
    const events = [
      ["session.input.admitted", { inputID: "msg_1", input: { type: "user", data: {} } }, 5],
      ["session.input.promoted", { inputID: "msg_1" }, 10],
      ["session.step.started", { assistantMessageID: "msg_2" }, 50],
      ["session.step.ended", { assistantMessageID: "msg_2", finish: "tool-calls", tokens }, 60],
      ["session.step.started", { assistantMessageID: "msg_3" }, 90]
    ] as const
    const runs = Runs.make()
    const told = events.flatMap(([type, data, created]) =>
      decodeEvent(JSON.stringify({ type, created, data: { sessionID, ...data } }), runs, place) ?? []
    )
    const called = told.flatMap((event) =>
      event._tag === "MessageUpdated" && event.info.role === "assistant" ? [event.info.calledMillis] : []
    )
    assert.deepStrictEqual(called, [10, 10, 60])
  })

  it("not before the time that is known where something else came before the step", () => {
    const failed = { ...timed("msg_2", 50, 60, "error"), error: { type: "aborted", message: "Step interrupted" } }
    const summary = { id: "msg_4", type: "compaction", status: "completed", summary: "So far.", time: { created: 62 } }
    assert.deepStrictEqual(calledIn(delivered, failed, timed("msg_3", 90, 99, "stop")), [10, undefined])
    assert.deepStrictEqual(
      calledIn(delivered, timed("msg_2", 50, 60, "tool-calls"), summary, timed("msg_3", 90, 99, "stop")),
      [10, undefined, 90]
    )
    assert.deepStrictEqual(calledIn({ ...delivered, time: { created: 70 } }, timed("msg_2", 50, 60, "stop")), [
      undefined
    ])
  })
})

describe("a permission of 2.x", () => {
  const wire = { id: AskId.make("per_1"), sessionID: SessionId.make(sessionID) }

  it("for a line of the shell names each of its commands, as 1.x does, and has the line for people to read", () => {
    const { metadata, patterns } = Wire.toPermission({
      ...wire,
      action: "shell",
      resources: ["cd a && git log; rm -rf b"]
    })
    assert.deepStrictEqual(patterns, ["git log", "rm -rf b"])
    assert.deepStrictEqual(metadata, { command: "cd a && git log; rm -rf b" })
  })

  it("for anything else is for what it names", () => {
    const { metadata, patterns } = Wire.toPermission({ ...wire, action: "edit", resources: ["a;b && c"] })
    assert.deepStrictEqual(patterns, ["a;b && c"])
    assert.deepStrictEqual(metadata, {})
  })

  it("whose resources are unreadable names nothing, so that no rule allows it", () => {
    const { metadata, patterns } = Wire.toPermission({ ...wire, action: "shell" })
    assert.deepStrictEqual(patterns, [])
    assert.deepStrictEqual(metadata, {})
  })
})

const id = SessionId.make(sessionID)

const promptId = MessageId.make("msg_1")

const prompted = { id: promptId, type: "user", time: { created: 1 } }

/** What the server keeps of a summary that a run needs. */
const summary = (status: string, fields: object = {}) => ({
  id: "msg_2",
  type: "compaction",
  reason: "auto",
  time: { created: 2 },
  status,
  ...fields
})

const read = (end: Wire.RunEnd, ...messages: ReadonlyArray<object>) =>
  Exchange.fromMessages(
    { sessionId: id, promptId },
    Wire.toMessages([prompted, ...messages], id, place, end).messages
  )

const failedSummary = (type: string) => summary("failed", { error: { type, message: "no" } })

const stepOf = (modelId: string) => ({
  id: "msg_9",
  type: "assistant",
  content: [],
  model: { id: modelId, providerID: "p" },
  time: { created: 3 }
})

/** The model of the summary. */
const modelOf = (...messages: ReadonlyArray<object>) => {
  const info = read("ended", ...messages).steps.find(({ info }) => info.isSummary)?.info
  return info?.model?.modelId
}

describe("a summary of 2.x that the answer needs", () => {
  it("is told alike by events and by its message: a step of the answer, which costs", () => {
    const told = ["started", "ended"].flatMap((type, index) => [{
      id: index === 0 ? "evt_2" : "evt_3",
      type: `session.compaction.${type}`,
      created: 2 + index,
      data: { sessionID, reason: "auto", ...(type === "ended" && { cost: 0.5, tokens }) }
    }])
    const runs = Runs.make()
    runs.of(id).input = promptId
    const streamed = told.flatMap((event) => decodeEvent(JSON.stringify(event), runs, place) ?? [])
    const info = streamed.findLast((event) => event._tag === "MessageUpdated")?.info
    const [stored] = read("ended", summary("completed", { cost: 0.5, tokens, summary: "" }), {
      id: "msg_4",
      type: "assistant",
      content: [],
      time: { created: 3 }
    }).steps
    assert.deepStrictEqual(stored?.info, info)
    assert.deepStrictEqual(
      stored?.parts,
      streamed.flatMap((event) => (event._tag === "PartUpdated" ? [event.part] : []))
    )
    assert.deepInclude(info, { id: MessageId.make("msg_2"), parentId: promptId, isSummary: true, agent: "compaction" })
  })

  it("is by the model that the session had", () => {
    const chosen = {
      id: "msg_1s",
      type: "model-switched",
      model: { id: "chosen", providerID: "p" },
      time: { created: 1 }
    }
    const done = summary("completed")
    assert.strictEqual(modelOf(done, stepOf("next")), "next")
    assert.strictEqual(modelOf(chosen, done, stepOf("next")), "chosen")
    assert.strictEqual(modelOf({ ...stepOf("last"), id: "msg_1a" }, done, stepOf("next")), "last")
    assert.strictEqual(modelOf(summary("completed", { model: { id: "own", providerID: "p" } }), stepOf("next")), "own")
  })

  it("is no end of the answer, and a prompt behind it is a prompt", () => {
    const next = { id: "msg_3", type: "user", time: { created: 3 } }
    const exchange = read("ended", summary("completed"), next)
    assert.isFalse(exchange.isCurrent)
    assert.deepStrictEqual(exchange.messages.map(({ info }) => info.id), [promptId, MessageId.make("msg_2")])
    assert.isFalse(Exchange.isFinalWhenIdle(read("ended", summary("completed"))))
  })

  it("that fails ends the answer if nothing follows, unless the server died with it", () => {
    const errorOf = (end: Wire.RunEnd, type: string) => read(end, failedSummary(type)).steps[0]?.info.error?.name
    assert.strictEqual(errorOf("ended", "compaction.failed"), "compaction.failed")
    assert.strictEqual(errorOf("stopped", "compaction.interrupted"), "MessageAbortedError")
    for (const end of ["shutdown", "running", "open"] as const) {
      assert.isUndefined(errorOf(end, "compaction.interrupted"), end)
    }
    const behind = { id: "msg_3", type: "synthetic", time: { created: 3 } }
    assert.isUndefined(read("ended", failedSummary("compaction.failed"), behind).steps[0]?.info.error)
  })

  it("that somebody ordered is none", () => {
    assert.deepStrictEqual(read("ended", summary("completed", { reason: "manual", cost: 1, tokens })).steps, [])
    assert.isTrue(Wire.toCompactions([summary("running", { reason: "manual" }), prompted]).isLeft)
    assert.isFalse(Wire.toCompactions([summary("running"), prompted]).isLeft)
  })
})
