import { makeReply, type Reply } from "#viewer/state/Fold"
import { assert, describe, it } from "@effect/vitest"
import * as Ids from "@opencode-turn/core/Ids"
import * as Journal from "@opencode-turn/core/Journal"
import type { Part } from "@opencode-turn/core/Part"
import * as WireUpdate from "@opencode-turn/core/WireUpdate"
import { Schema } from "effect"

type Session = WireUpdate.WireSessionUpdate

const Choices = Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 1_000 })))

const messageId = Ids.MessageId.make("msg_1")

const usage = { cost: 0, tokens: { input: 0, output: 0, reasoning: 0, cacheRead: 0, cacheWrite: 0 } }

const partId = (n: number) => Ids.PartId.make(`prt_${n % 4}`)

const sessionId = (n: number) => Ids.SessionId.make(`ses_${n % 3}`)

const part = (n: number): Part => {
  const fields = { id: partId(n), messageId }
  switch (n % 5) {
    case 0:
    case 1:
      return { type: "text", ...fields, text: `t${n}`, isComplete: n % 2 === 0 }
    case 2:
      return { type: "reasoning", ...fields, text: `r${n}`, isComplete: false }
    case 3:
      return { type: "tool", ...fields, callId: "call", tool: "bash", status: "running", input: { n } }
    default:
      return { type: "todos", id: fields.id, todos: [{ content: `do ${n}`, status: "pending" }] }
  }
}

const sessionUpdate = (n: number): Session => {
  switch (n % 6) {
    case 0:
    case 1:
      return { type: "text.delta", partId: partId(n), delta: `d${n}` }
    case 2:
      return { type: "reasoning.delta", partId: partId(n), delta: `d${n}` }
    case 3:
      return { type: "part.removed", partId: partId(n) }
    default:
      return { type: "part", part: part(n) }
  }
}

const subagent = (n: number) => ({
  sessionId: sessionId(n),
  parentId: Ids.SessionId.make("ses_root"),
  title: `s${n}`,
  status: n % 2 === 0 ? "running" as const : "completed" as const,
  text: "",
  usage
})

const ask = (n: number) => ({
  ask: {
    _tag: "Permission" as const,
    id: Ids.AskId.make(`per_${n % 3}`),
    sessionId: sessionId(n),
    permission: "bash",
    patterns: [`p${n}`],
    always: [],
    metadata: {}
  },
  openedBy: null
})

/** An update for a number: few ids, so that updates meet. */
const update = (n: number): WireUpdate.WireUpdate => {
  switch (n % 8) {
    case 0:
      return n % 16 === 0
        ? {
          type: "reset",
          reason: "reconciled",
          parts: [part(n)],
          subagents: [{ ...subagent(n), parts: [part(n + 1), part(n + 2)] }],
          asks: [ask(n)]
        }
        : { type: "subagent", subagent: subagent(n >> 3) }
    case 1:
      return { type: "asked", ...ask(n >> 3) }
    case 2:
      return { type: "answered", askId: ask(n >> 3).ask.id }
    case 3:
    case 4:
      return { type: "subagent.update", sessionId: sessionId(n >> 3), openedBy: null, update: sessionUpdate(n >> 3) }
    default:
      return sessionUpdate(n >> 3)
  }
}

const stateOf = (reply: Reply, sessions: Iterable<string>) => ({
  parts: reply.partsOf(),
  partsOf: Object.fromEntries(Array.from(sessions, (id) => [id, reply.partsOf(id)])),
  subagents: reply.subagents.value.map(({ sessionId, status, title }) => [sessionId, status, title]),
  asks: reply.asks.value.map(({ ask }) => ask).toSorted((one, other) => one.id < other.id ? -1 : 1)
})

const expected = (updates: ReadonlyArray<WireUpdate.WireUpdate>) => {
  const state = Journal.apply(updates.map(WireUpdate.fromWire))
  return {
    parts: state.parts,
    partsOf: Object.fromEntries(state.partsOf),
    subagents: state.subagents.map(({ sessionId, status, title }) => [sessionId, status, title]),
    asks: state.asks.map(({ ask }) => ask).toSorted((one, other) => one.id < other.id ? -1 : 1)
  }
}

describe("the fold of the page", () => {
  it.prop("agrees with the core's own fold on any updates, however they are cut into reads", {
    choices: Choices,
    cut: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 7 }))
  }, ({ choices, cut }) => {
    const updates = choices.map(update)
    const reply = makeReply()
    for (let at = 0; at < updates.length; at += cut) reply.apply(updates.slice(at, at + cut))
    const state = expected(updates)
    assert.deepStrictEqual(stateOf(reply, Object.keys(state.partsOf)), state)
  }, { arbitrary: { runs: 500 } })

  it("forgets a retry with the next sign of life", () => {
    const reply = makeReply()
    reply.apply([{ type: "retrying", attempt: 1, message: "busy", nextMillis: 5 }])
    assert.deepStrictEqual(reply.root.retry.value, { attempt: 1, message: "busy", nextMillis: 5 })
    reply.apply([{ type: "part", part: part(0) }])
    assert.isUndefined(reply.root.retry.value)
  })
})
