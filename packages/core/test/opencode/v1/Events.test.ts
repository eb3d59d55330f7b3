import { decodeEvent, makeDecoder } from "#opencode/v1/Events"
import { assert, describe, it } from "@effect/vitest"
import type { ServerEvent } from "@opencode-turn/core/TurnEvent"
import * as Schema from "effect/Schema"
import { tape, tapes } from "../../support/tapes.ts"

const utf8 = new TextEncoder()
const bytesOf = (text: string) => utf8.encode(text)
const frame = (json: string) => `data: ${json}\n\n`
const heartbeat = `{"id":"evt_1","type":"server.heartbeat","properties":{}}`
const delta = (text: string) =>
  JSON.stringify({
    id: "evt_1",
    type: "message.part.delta",
    properties: { sessionID: "ses_1", messageID: "msg_1", partID: "prt_1", field: "text", delta: text }
  })
const read = (...reads: ReadonlyArray<Uint8Array>) => {
  const decoder = makeDecoder()
  return { events: reads.flatMap((bytes) => decoder.push(bytes)), dropped: decoder.dropped() }
}
const readText = (...reads: ReadonlyArray<string>) => read(...reads.map(bytesOf))
const cutAt = (bytes: Uint8Array, cuts: ReadonlyArray<number>) => {
  const at = [0, ...cuts.toSorted((a, b) => a - b), bytes.length]
  return at.slice(1).map((end, index) => bytes.subarray(at[index], end))
}
const said = (events: ReadonlyArray<ServerEvent>) =>
  events.map((event) => (event._tag === "PartDelta" ? event.delta : event._tag))

describe("framing", () => {
  const sample = [
    frame(`{"id":"evt_0","type":"server.connected","properties":{}}`),
    ": a comment\n\n",
    frame(delta("grüße, 世界 🎉")),
    frame(heartbeat),
    frame(delta("end"))
  ].join("")
  const expected = ["Connected", "grüße, 世界 🎉", "Heartbeat", "end"]

  it("completes an event at a blank line, and not before", () => {
    const decoder = makeDecoder()
    const [line = ""] = frame(heartbeat).split("\n")
    assert.deepStrictEqual(decoder.push(bytesOf(line)), [])
    assert.deepStrictEqual(decoder.push(bytesOf("\n")), [])
    assert.deepStrictEqual(decoder.push(bytesOf("\n")), [{ _tag: "Heartbeat" }])
  })

  for (const [name, newline] of [["LF", "\n"], ["CRLF", "\r\n"], ["CR", "\r"]] as const) {
    const bytes = bytesOf(sample.replaceAll("\n", newline))

    it(`cut at any byte, also within a character, lines end with ${name}: the same events`, () => {
      for (let cut = 0; cut <= bytes.length; cut++) {
        assert.deepStrictEqual(said(read(...cutAt(bytes, [cut])).events), expected, `cut at ${cut}`)
      }
    })

    it(`byte by byte, lines end with ${name}: each event as soon as its blank line is there`, () => {
      const decoder = makeDecoder()
      const at: Array<number> = []
      for (const [index, byte] of bytes.entries()) {
        if (decoder.push(Uint8Array.of(byte)).length > 0) at.push(index)
      }
      assert.lengthOf(at, expected.length)
      // A CR ends the line at once, without waiting for an LF after it.
      assert.strictEqual(at.at(-1), bytes.length - (name === "CRLF" ? 2 : 1))
    })
  }

  it.prop("reads the same lines with any line ends and any cuts", {
    ends: Schema.Array(Schema.Literals(["\n", "\r", "\r\n"])).check(Schema.isMinLength(1)),
    cuts: Schema.Array(Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 1 }))).check(Schema.isMaxLength(40))
  }, ({ cuts, ends }) => {
    // A CR right before the LF of the next, empty line would form one line end with it.
    let before = ""
    let line = 0
    const text = sample.replaceAll("\n", () => {
      const end = ends[line++ % ends.length] ?? "\n"
      before = before === "\r" && end === "\n" ? "\r" : end
      return before
    })
    const bytes = bytesOf(text)
    const reads = cutAt(bytes, cuts.map((cut) => Math.floor(cut * bytes.length)))
    assert.deepStrictEqual(said(read(...reads).events), expected)
  })

  it("skips a byte order mark at the start of the stream only", () => {
    const [first, second] = [frame(heartbeat), frame(delta("a"))]
    assert.deepStrictEqual(said(readText(`\uFEFF${first}`, second).events), ["Heartbeat", "a"])
    assert.deepStrictEqual(said(readText(`\uFEFF${first}`, `\uFEFF${second}`, second).events), ["Heartbeat", "a"])
    const bytes = bytesOf(`\uFEFF${first}`)
    assert.deepStrictEqual(said(read(...cutAt(bytes, [1, 2])).events), ["Heartbeat"])
  })

  it.prop("decodes the same events from a recorded turn with any cuts", {
    at: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 1000 })),
    cuts: Schema.Array(Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 1 }))).check(Schema.isMaxLength(40))
  }, ({ at, cuts }) => {
    const recorded = tapes[at % tapes.length] ?? tape("todo")
    const bytes = bytesOf(recorded.wire.map(frame).join(""))
    const { dropped, events } = read(...cutAt(bytes, cuts.map((cut) => Math.floor(cut * bytes.length))))
    assert.deepStrictEqual(events, recorded.events)
    assert.strictEqual(dropped, recorded.wire.length - recorded.events.length)
  })

  it("ignores empty reads, empty frames and blank lines between events", () => {
    const { dropped, events } = readText("", "\n\n\n", frame(heartbeat), "", "\n\n", frame(heartbeat), "\n", "")
    assert.deepStrictEqual(said(events), ["Heartbeat", "Heartbeat"])
    assert.strictEqual(dropped, 0)
    const blank = makeDecoder()
    assert.deepStrictEqual(blank.push(bytesOf(`${frame(heartbeat)}\n`)).length, 1)
    assert.deepStrictEqual(blank.push(bytesOf(frame(heartbeat))).length, 1)
  })

  it("joins data over several lines by line breaks", () => {
    const split = (at: number) => readText(`data: ${heartbeat.slice(0, at)}\ndata: ${heartbeat.slice(at)}\n\n`)
    assert.deepStrictEqual(said(split(heartbeat.indexOf(",") + 1).events), ["Heartbeat"])
    // JSON allows a line break between its tokens only, so this shows that there is one.
    assert.deepStrictEqual(said(split(heartbeat.indexOf("evt")).events), ["Unread"])
  })

  it("reads comments, other fields and a missing blank after the colon by the standard", () => {
    const text = `: keep-alive\nevent: message\nid: 7\nretry: 10\ndata:${heartbeat}\n\ndata\n\n: only a comment\n\n`
    const { dropped, events } = readText(text)
    assert.deepStrictEqual(said(events), ["Heartbeat"])
    assert.strictEqual(dropped, 0)
  })

  it("skips a byte order mark before the first event", () => {
    assert.deepStrictEqual(said(readText(`\uFEFF${frame(heartbeat)}`).events), ["Heartbeat"])
  })

  it("loses only a broken character, not the stream", () => {
    const bytes = bytesOf(frame(delta("a?b")))
    const broken = bytes.with(bytes.indexOf("?".charCodeAt(0)), 0xff)
    assert.deepStrictEqual(said(read(broken, bytesOf(frame(heartbeat))).events), ["a\uFFFDb", "Heartbeat"])
  })

  it("drops and counts events of an unknown type and unreadable deltas", () => {
    const { dropped, events } = readText(
      frame(`{"type":"plugin.added","properties":{"id":"x"}}`),
      frame(`{"type":"toString","properties":{}}`),
      frame(`{"type":"message.part.delta","properties":{"sessionID":"ses_1","delta":5}}`),
      frame(heartbeat)
    )
    assert.deepStrictEqual(said(events), ["Heartbeat"])
    assert.strictEqual(dropped, 3)
  })

  it.each([
    "{not json",
    "null",
    "[]",
    "7",
    `{"type":7}`,
    `{"properties":{}}`,
    `{"type":"session.idle","properties":{}}`,
    `{"type":"message.part.delta"`,
    `{"type":"message.part.updated","properties":{"part":{"id":"prt_1"}}}`,
    `{"type":"message.updated","properties":{"info":{"role":"assistant"}}}`,
    `{"type":"session.created","properties":{"info":null}}`,
    `{"type":"todo.updated","properties":{"todos":null}}`,
    `{"type":"permission.renamed","properties":{"id":"per_1"}}`
  ])("%s is an unreadable event of an unknown session", (data) => {
    assert.deepStrictEqual(readText(frame(data)).events, [{ _tag: "Unread", sessionId: undefined }])
  })

  it.each([
    `{"type":null,"properties":{"id":"per_1","sessionID":"ses_1"}}`,
    `{"type":"x","properties":{"requestID":"que_1","sessionID":"ses_1"}}`,
    `{"type":"todo.updated","properties":{"sessionID":"ses_1","todos":null}}`,
    `{"type":"message.part.updated","properties":{"part":{"id":"prt_1","sessionID":"ses_1","type":null}}}`,
    `{"type":"message.updated","properties":{"info":{"id":"msg_1","sessionID":"ses_1"}}}`
  ])("%s is an unreadable event of a known session", (data) => {
    assert.deepStrictEqual<unknown>(readText(frame(data)).events, [{ _tag: "Unread", sessionId: "ses_1" }])
  })

  it("refuses an event beyond the limit, and accepts a stream of small ones", () => {
    const decoder = makeDecoder(1000)
    for (let index = 0; index < 100; index++) decoder.push(bytesOf(frame(heartbeat)))
    assert.throws(() => {
      for (let index = 0; index < 100; index++) decoder.push(bytesOf("data: ".padEnd(100, "x")))
    }, RangeError)
    assert.throws(() => makeDecoder(1000).push(bytesOf(`data: ${"x".repeat(2000)}`)), RangeError)
  })

  it("decodes an event of 16 MB in small reads once", () => {
    const text = "0123456789abcdef".repeat(1 << 20)
    const bytes = bytesOf(frame(delta(text)) + frame(heartbeat))
    const decoder = makeDecoder()
    let decoded = 0
    const decode = TextDecoder.prototype.decode
    TextDecoder.prototype.decode = function(input, options) {
      decoded += input?.byteLength ?? 0
      return decode.call(this, input, options)
    }
    try {
      const events: Array<ServerEvent> = []
      for (let at = 0; at < bytes.length; at += 1 << 14) {
        events.push(...decoder.push(bytes.subarray(at, at + (1 << 14))))
      }
      assert.strictEqual(events.length, 2)
      assert.strictEqual(said(events)[0], text)
      assert.strictEqual(decoded, bytes.length)
    } finally {
      TextDecoder.prototype.decode = decode
    }
  })

  it("the rest of a read does not keep the whole read alive", () => {
    const read = bytesOf(frame(heartbeat) + frame(delta("next")))
    const cut = read.length - 5
    const decoder = makeDecoder()
    assert.lengthOf(decoder.push(read.subarray(0, cut)), 1)
    const rest = read.slice(cut)
    read.fill(0)
    assert.deepStrictEqual(said(decoder.push(rest)), ["next"])
  })
})

const event = (type: string, properties: unknown, envelope: object = { id: "evt_1" }) =>
  decodeEvent(JSON.stringify({ ...envelope, type, properties }))

describe("events", () => {
  const base = { eventId: "evt_1", sessionId: "ses_1" }
  const session = {
    id: "ses_1",
    parentID: "ses_0",
    title: "sub",
    agent: "general",
    directory: "/workspace",
    time: { created: 1, updated: 2 }
  }

  const cases: ReadonlyArray<readonly [string, unknown, unknown]> = [
    ["server.connected", {}, { _tag: "Connected" }],
    ["server.heartbeat", {}, { _tag: "Heartbeat" }],
    [
      "session.created",
      { sessionID: "ses_1", info: session },
      { _tag: "SessionOpened", ...base, parentId: "ses_0", title: "sub", agent: "general" }
    ],
    [
      "session.updated",
      { info: session },
      { _tag: "SessionOpened", ...base, parentId: "ses_0", title: "sub", agent: "general" }
    ],
    ["session.deleted", { sessionID: "ses_1", info: session }, { _tag: "SessionDeleted", ...base }],
    [
      "session.status",
      { sessionID: "ses_1", status: { type: "busy" } },
      { _tag: "StatusChanged", ...base, status: { type: "busy" } }
    ],
    [
      "session.status",
      { sessionID: "ses_1", status: { type: "retry", attempt: 2, message: "slow down", next: 9 } },
      { _tag: "StatusChanged", ...base, status: { type: "retry", attempt: 2, message: "slow down", nextMillis: 9 } }
    ],
    [
      "session.status",
      { sessionID: "ses_1", status: { type: "something new" } },
      { _tag: "StatusChanged", ...base, status: { type: "busy" } }
    ],
    ["session.idle", { sessionID: "ses_1" }, { _tag: "StatusChanged", ...base, status: { type: "idle" } }],
    [
      "session.error",
      { sessionID: "ses_1", error: { name: "APIError", data: { message: "no\nstack", statusCode: 400 } } },
      {
        _tag: "SessionFailed",
        ...base,
        failure: { name: "APIError", message: "no", statusCode: 400, isRetryable: false }
      }
    ],
    [
      "session.error",
      { sessionID: "ses_1" },
      {
        _tag: "SessionFailed",
        ...base,
        failure: { name: "UnknownError", message: "UnknownError", isRetryable: false }
      }
    ],
    ["session.error", { error: { name: "UnknownError", data: {} } }, undefined],
    [
      "message.updated",
      { info: { role: "user", id: "msg_1", sessionID: "ses_1", time: { created: 3 } } },
      {
        _tag: "MessageUpdated",
        ...base,
        info: { role: "user", id: "msg_1", sessionId: "ses_1", createdMillis: 3, isContinuation: false }
      }
    ],
    [
      "message.removed",
      { sessionID: "ses_1", messageID: "msg_1" },
      { _tag: "MessageRemoved", ...base, messageId: "msg_1" }
    ],
    [
      "message.part.updated",
      { part: { id: "prt_1", messageID: "msg_1", sessionID: "ses_1", type: "text", text: "", time: { start: 1 } } },
      {
        _tag: "PartUpdated",
        ...base,
        part: { type: "text", id: "prt_1", messageId: "msg_1", text: "", isComplete: false }
      }
    ],
    [
      "message.part.updated",
      { part: { id: "prt_1", messageID: "msg_1", sessionID: "ses_1", type: "compaction", auto: true } },
      { _tag: "TurnContinued", ...base, messageId: "msg_1" }
    ],
    [
      "message.part.updated",
      { part: { id: "prt_1", messageID: "msg_1", sessionID: "ses_1", type: "compaction", auto: false } },
      undefined
    ],
    [
      "message.part.updated",
      {
        part: {
          id: "prt_1",
          messageID: "msg_1",
          sessionID: "ses_1",
          type: "text",
          text: "go on",
          synthetic: true,
          metadata: { compaction_continue: true }
        }
      },
      { _tag: "TurnContinued", ...base, messageId: "msg_1" }
    ],
    // Before 1.2, a text that grows came whole, with what it grew by.
    [
      "message.part.updated",
      {
        part: {
          id: "prt_1",
          sessionID: "ses_1",
          messageID: "msg_1",
          type: "reasoning",
          text: "one two ",
          time: { start: 1 }
        },
        delta: "two "
      },
      { _tag: "PartDelta", ...base, messageId: "msg_1", partId: "prt_1", field: "reasoning", delta: "two " }
    ],
    [
      "message.part.updated",
      {
        part: {
          id: "prt_1",
          sessionID: "ses_1",
          messageID: "msg_1",
          type: "text",
          text: "one two",
          time: { start: 1, end: 2 }
        },
        delta: "two"
      },
      {
        _tag: "PartUpdated",
        ...base,
        part: { id: "prt_1", messageId: "msg_1", type: "text", text: "one two", isComplete: true }
      }
    ],
    ["message.part.updated", { part: { id: "prt_1", type: "step-start" } }, undefined],
    ["message.part.updated", { part: { type: "something new" } }, undefined],
    [
      "message.part.removed",
      { sessionID: "ses_1", messageID: "msg_1", partID: "prt_1" },
      { _tag: "PartRemoved", ...base, messageId: "msg_1", partId: "prt_1" }
    ],
    [
      "message.part.delta",
      { sessionID: "ses_1", messageID: "msg_1", partID: "prt_1", field: "reasoning", delta: "hm" },
      { _tag: "PartDelta", ...base, messageId: "msg_1", partId: "prt_1", field: "reasoning", delta: "hm" }
    ],
    [
      "message.part.delta",
      { sessionID: "ses_1", messageID: "msg_1", partID: "prt_1", delta: "hm" },
      { _tag: "PartDelta", ...base, messageId: "msg_1", partId: "prt_1", field: "text", delta: "hm" }
    ],
    [
      "todo.updated",
      { sessionID: "ses_1", todos: [{ content: "a", status: "In-Progress", priority: "high" }] },
      { _tag: "TodosUpdated", ...base, todos: [{ content: "a", status: "in_progress", priority: "high" }] }
    ],
    [
      "permission.asked",
      {
        id: "per_1",
        sessionID: "ses_1",
        permission: "bash",
        patterns: ["ls"],
        always: ["ls *"],
        metadata: { command: "ls" },
        tool: { messageID: "msg_1", callID: "call_1" }
      },
      {
        _tag: "Asked",
        ...base,
        ask: {
          _tag: "Permission",
          id: "per_1",
          sessionId: "ses_1",
          permission: "bash",
          patterns: ["ls"],
          always: ["ls *"],
          metadata: { command: "ls" },
          tool: { messageId: "msg_1", callId: "call_1" }
        }
      }
    ],
    [
      "question.asked",
      {
        id: "que_1",
        sessionID: "ses_1",
        questions: [{ question: "Which?", header: "Pick", options: [{ label: "A" }] }]
      },
      {
        _tag: "Asked",
        ...base,
        ask: {
          _tag: "Question",
          id: "que_1",
          sessionId: "ses_1",
          questions: [{
            question: "Which?",
            header: "Pick",
            options: [{ label: "A", description: "" }],
            multiple: false,
            custom: true
          }]
        }
      }
    ],
    ...["permission.replied", "question.replied", "question.rejected"].map((type) =>
      [
        type,
        { sessionID: "ses_1", requestID: "per_1", reply: "once" },
        { _tag: "AskResolved", ...base, askId: "per_1" }
      ] as const
    )
  ]

  it.each(cases)("%s %j", (type, properties, expected) => {
    assert.deepStrictEqual<unknown>(event(type, properties), expected)
  })

  it("gives no event id if the id is missing or odd", () => {
    for (const envelope of [{}, { id: 7 }, { id: null }]) {
      const decoded = event("session.idle", { sessionID: "ses_1" }, envelope)
      assert.isTrue(decoded?._tag === "StatusChanged" && decoded.eventId === undefined)
    }
  })
})
