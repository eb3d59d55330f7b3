import { noted, withStored } from "#viewer/state/Seen"
import { idMillis, type Input, type Seen, timesOf } from "#viewer/turn/Times"
import { assert, describe, it } from "@effect/vitest"
import { AskId, AssistantMessageId, ConversationId, MessageId, PartId, SessionId } from "@opencode-turn/core/Ids"
import type { Part } from "@opencode-turn/core/Part"
import * as Usage from "@opencode-turn/core/Usage"

const start = 1_795_952_024_000

/** An id that holds a time, as OpenCode 1.18 makes it. */
const idAt = (prefix: string, millis: number, n = 1) =>
  `${prefix}_${(((start + millis) % 2 ** 36) * 0x1000 + n).toString(16).padStart(12, "0")}I5qdzH6LNMoW3O`

const message = (millis: number) => MessageId.make(idAt("msg", millis))

const finish = (from: number, to: number, cost: number): Part => ({
  type: "step-finish",
  id: PartId.make(idAt("prt", to)),
  messageId: message(from),
  reason: "stop",
  cost,
  tokens: { input: 10, output: 5, reasoning: 0, cacheRead: 0, cacheWrite: 0 }
})

const tool = (step: number, from: number, to: number | undefined, more: object = {}): Part => ({
  type: "tool",
  id: PartId.make(idAt("prt", from)),
  messageId: message(step),
  callId: `call ${from}`,
  tool: "bash",
  status: to === undefined ? "running" : "completed",
  input: {},
  startedMillis: start + from,
  ...(to !== undefined && { endedMillis: start + to }),
  ...more
})

const turn: Input["turn"] = {
  messageId: AssistantMessageId.make("asm_1"),
  conversationId: ConversationId.make("c"),
  status: "completed",
  excerpt: "",
  isFallback: false,
  finish: "stop",
  usage: Usage.zero,
  error: null,
  models: [],
  timing: null,
  firstTokenMillis: null,
  revertedBy: null,
  operation: null,
  sessionId: SessionId.make("ses_root"),
  model: null,
  agent: "build",
  createdMillis: start,
  finishedMillis: start + 10_000,
  offset: "1",
  prompt: [],
  content: "",
  parts: [],
  subagents: [],
  waits: []
}

const input = (parts: ReadonlyArray<Part>, more: Partial<Input> = {}): Input => ({
  turn,
  subagents: [],
  partsOf: (sessionId) => sessionId === undefined ? parts : [],
  seen: [],
  nowMillis: start + 20_000,
  ...more
})

const spansOf = (given: Input) =>
  timesOf(given).lanes.map(({ spans }) =>
    spans.map(({ fromMillis, kind, row, state, toMillis }) =>
      `${kind} ${fromMillis - start}-${toMillis - start} row ${row} ${state}`
    )
  )

const odd = (id: string): Part => {
  const part = finish(1, 2, 1)
  return part.type === "step-finish" ? { ...part, messageId: MessageId.make(id) } : part
}

const subagent = (id: string, parent: string): Input["subagents"][number] => ({
  sessionId: SessionId.make(id),
  parentId: SessionId.make(parent),
  title: id,
  status: "completed",
  text: "",
  usage: { ...Usage.zero, cost: 1 }
})

const asked = (id: string) => ({
  type: "asked" as const,
  openedBy: null,
  ask: {
    _tag: "Permission" as const,
    id: AskId.make(id),
    sessionId: SessionId.make("ses_root"),
    permission: "bash",
    patterns: [],
    always: [],
    metadata: {}
  }
})

describe("the timeline of a turn", () => {
  it("reads the time in an id of OpenCode's, across the end of its period, and none where there is none", () => {
    assert.strictEqual(idMillis("msg_2271513db001YgsIk3xaxxbc5z", start), 1_795_952_022_491)
    for (const millis of [0, 1, 2 ** 36 - 1, 2 ** 36, 27 * 2 ** 36 - 5, 27 * 2 ** 36 + 5]) {
      const id = `prt_${((millis % 2 ** 36) * 0x1000 + 7).toString(16).padStart(12, "0")}rest`
      assert.strictEqual(idMillis(id, millis + 1_000), millis)
      assert.strictEqual(idMillis(id, millis - 1_000), millis)
    }
    for (const id of ["", "prt_1", "prt_xyz151b23001", "2271513db001", "<b>"]) assert.isUndefined(idMillis(id, start))
  })

  it("has steps from their messages to their ends, and tools below them, side by side where they overlap", () => {
    const given = input([
      tool(1_000, 2_000, 3_000),
      tool(1_000, 2_500, 4_000),
      finish(1_000, 4_100, 0.5),
      finish(5_000, 9_000, 0.25)
    ])
    assert.deepStrictEqual(spansOf(given), [[
      "step 1000-4100 row 0 done",
      "tool 2000-3000 row 1 done",
      "tool 2500-4000 row 2 done",
      "step 5000-9000 row 0 done"
    ]])
    const { lanes, model, people, tools } = timesOf(given)
    assert.deepStrictEqual([model, tools, people], [5_100, 2_000, 0])
    assert.deepStrictEqual([lanes[0]?.usage.cost, lanes[0]?.usage.tokens.input], [0.75, 20])
  })

  it("lets what runs go on to now, and ends it with the turn", () => {
    const parts = [tool(1_000, 2_000, undefined)]
    const running = { ...turn, status: "pending" as const, finishedMillis: null }
    assert.deepStrictEqual(spansOf(input(parts, { turn: running })), [[
      "step 1000-20000 row 0 running",
      "tool 2000-20000 row 1 running"
    ]])
    assert.deepStrictEqual(spansOf(input(parts)), [["step 1000-2000 row 0 failed", "tool 2000-2000 row 1 done"]])
  })

  it("leaves out a step whose ids hold no time, or one that cannot be", () => {
    assert.deepStrictEqual(spansOf(input([odd("msg_1"), odd(idAt("msg", 90_000_000))])), [[]])
  })

  it("counts a wait for a person once, as people's time, and no longer than the call that waits", () => {
    const wait = (toMillis: number | undefined): Seen => ({
      kind: "wait",
      id: "per_1",
      sessionId: undefined,
      name: "bash",
      fromMillis: start + 2_500,
      toMillis,
      callId: "call 2000"
    })
    const parts = [tool(1_000, 2_000, 6_000), finish(1_000, 6_500, 0)]
    for (const to of [undefined, start + 9_000]) {
      const times = timesOf(input(parts, { seen: [wait(to)] }))
      assert.deepStrictEqual([times.people, times.tools, times.model], [3_500, 500, 1_500])
    }
    assert.strictEqual(timesOf(input(parts, { seen: [wait(start + 3_000)] })).people, 500)
  })

  it("counts what a subagent waited for people as people's time, and not as that of the tool that opened it", () => {
    const subagents = [subagent("a", "ses_root")]
    const seen: ReadonlyArray<Seen> = [{
      kind: "wait",
      id: "per_1",
      sessionId: "a",
      name: "bash",
      fromMillis: start + 3_000,
      toMillis: start + 5_000
    }]
    const times = timesOf(input([tool(1_000, 2_000, 6_000), finish(1_000, 6_500, 0)], { subagents, seen }))
    assert.deepStrictEqual([times.people, times.tools, times.model], [2_000, 2_000, 1_500])
  })

  it("has a lane for each subagent below the one that opened it, and none twice where they open each other", () => {
    const subagents = [
      subagent("b", "a"),
      subagent("a", "ses_root"),
      subagent("c", "ses_other_root"),
      subagent("x", "y"),
      subagent("y", "x")
    ]
    const { lanes } = timesOf(input([], { subagents, partsOf: (id) => id === "b" ? [finish(1_000, 2_000, 1)] : [] }))
    assert.deepStrictEqual(lanes.map(({ depth, name, spans }) => `${depth} ${name} ${spans.length}`), [
      "0 build 0",
      "1 subagent: a 0",
      "2 subagent: b 1",
      "1 subagent: c 0"
    ])
  })
})

describe("what the page saw", () => {
  it("begins a wait when it was asked, also where the page came later, and ends it once", () => {
    const id = idAt("per", 1_000)
    const seen = noted([], asked(id), "ses_root", start + 5_000)
    assert.deepInclude(seen[0], { kind: "wait", fromMillis: start + 1_000, toMillis: undefined, sessionId: undefined })
    assert.strictEqual(noted(seen, asked(id), "ses_root", start + 6_000), seen)
    const answered = noted(seen, { type: "answered", askId: AskId.make(id) }, "ses_root", start + 7_000)
    assert.deepInclude(answered[0], { toMillis: start + 7_000 })
    assert.strictEqual(
      noted(answered, { type: "answered", askId: AskId.make(id) }, "ses_root", start + 9_000),
      answered
    )
    assert.deepInclude(noted([], asked("per_1"), "ses_root", start)[0], { fromMillis: start })
  })

  it("gives way to what is stored, which is all that a page knows that is opened later", () => {
    const retrying = { type: "retrying" as const, attempt: 1, message: "busy", nextMillis: start + 3_000 }
    const seen = [
      ...noted([], asked("per_1"), "ses_root", start),
      ...noted(
        [],
        { type: "subagent.update", sessionId: SessionId.make("s"), openedBy: null, update: retrying },
        "ses_root",
        start + 1_000
      )
    ]
    assert.deepStrictEqual(seen.map(({ kind, sessionId, toMillis }) => [kind, sessionId, toMillis]), [
      ["wait", undefined, undefined],
      ["retry", "s", start + 3_000]
    ])
    const waits: typeof turn["waits"] = [{
      type: "ask",
      id: AskId.make("per_1"),
      sessionId: SessionId.make("ses_root"),
      kind: "permission",
      name: "bash",
      tool: { messageId: message(0), callId: "call 1" },
      fromMillis: start - 5,
      toMillis: null
    }, {
      type: "retry",
      sessionId: SessionId.make("s"),
      attempt: 1,
      message: "busy",
      nextMillis: start + 3_000,
      fromMillis: start + 900,
      toMillis: start + 2_900
    }]
    const all = [{
      kind: "wait",
      id: "per_1",
      name: "permission bash",
      callId: "call 1",
      sessionId: undefined,
      fromMillis: start - 5,
      toMillis: undefined
    }, {
      kind: "retry",
      id: `retry s 1 ${start + 3_000}`,
      name: "busy",
      sessionId: "s",
      fromMillis: start + 900,
      toMillis: start + 2_900
    }] satisfies ReadonlyArray<Seen>
    assert.deepStrictEqual(
      noted(seen, { type: "turn.finished", turn: { ...turn, waits } }, "ses_root", start + 20_000),
      all
    )
    assert.deepStrictEqual(withStored([], { ...turn, waits }), all)
    // While the turn runs, what was seen meanwhile stays.
    const answered = noted(seen, { type: "answered", askId: AskId.make("per_1") }, "ses_root", start + 7_000)
    assert.deepStrictEqual(
      withStored(answered, { ...turn, status: "pending", waits: waits.slice(0, 1) }).map((
        { id, toMillis }
      ) => [id, toMillis]),
      [["per_1", start + 7_000], [`retry s 1 ${start + 3_000}`, start + 3_000]]
    )
  })
})
