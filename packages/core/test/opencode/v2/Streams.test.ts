/**
 * Every recording of the beta, as it was sent and with whatever a network, a slow server or another release may make of it: what the turn
 * ends with is the server's record.
 */
import * as Runs from "#opencode/v2/Runs"
import * as Exchange from "#reply/Exchange"
import { assert, describe, it } from "@effect/vitest"
import * as Reply from "@opencode-turn/core/Reply"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type { Tape } from "../../support/tapes2x.ts"
import * as Tapes from "../../support/tapes2x.ts"

const tapes = Tapes.names.map((name) => ({ name, tape: Tapes.load(name) }))

/** The recordings whose prompt was answered, stopped or refused as the server's record says, without an end of the server. */
const whole = tapes.filter(({ name }) => !/^(?:kill|term)_/.test(name))

/** Without the one of a run that failed before its first step: that nobody tells but an event. */
const answered = tapes.filter(({ tape }) => tape.messages.length > 1)

const exchangeOf = (tape: Tape) => Exchange.fromMessages(tape, Tapes.messagesOf(tape, "stopped"))

/** What a turn makes of its reply at the end: the record of the prompt's answer, and of each subagent. */
const settle = (tape: Tape, reply: Reply.Reply): Reply.Reply => {
  const told = Reply.subagentStates(reply).filter(Reply.isTold).map(({ sessionId }) => sessionId)
  const opened = Tapes.fold(
    Exchange.reconcile(exchangeOf(tape), reply),
    Tapes.childrenOf(tape).filter(({ sessionId }) => !told.includes(sessionId)).map(({ sessionId }) => ({
      _tag: "SessionOpened",
      eventId: undefined,
      sessionId,
      parentId: tape.sessionId,
      title: "sub",
      agent: "general"
    }))
  )
  return Reply.closeSubagents(
    Tapes.childrenOf(tape).reduce(
      (reply, { messages, sessionId }) => Reply.reconcileSubagent(reply, sessionId, messages),
      opened
    )
  )
}

const withoutTimes = (part: ReturnType<typeof Reply.parts>[number]) => {
  if (part.type !== "tool") return part
  // The events have their own times.
  const { endedMillis: _end, startedMillis: _start, ...rest } = part
  return rest
}

/** All that a result tells of a reply. */
const view = (reply: Reply.Reply) => ({
  parts: Reply.parts(reply).map(withoutTimes),
  text: Reply.text(reply),
  reasoning: Reply.reasoning(reply),
  finish: Reply.finish(reply),
  failure: reply.session.failure?.name,
  usage: Reply.usage(reply),
  steps: Reply.steps(reply),
  messages: Reply.messages(reply).filter(({ ownership }) => ownership !== "foreign").map(({ info }) => ({
    id: info.id,
    parentId: info.parentId,
    error: info.error,
    agent: info.agent,
    model: info.model,
    usage: info.usage
  })),
  subagents: Reply.subagentStates(reply).map((state) => ({
    ...Reply.toSubagent(state),
    parts: Reply.parts(state.reply).map(withoutTimes)
  }))
})

const settled = (tape: Tape, events: ReadonlyArray<unknown>) => view(settle(tape, Tapes.streamed(tape, events)))

const uncut = new Map(tapes.map(({ name, tape }) => [name, settled(tape, tape.events)]))

const pick = <A>(all: ReadonlyArray<A>, index: number): A => {
  const found = all[index % all.length]
  if (found === undefined) throw new Error("nothing to pick")
  return found
}

const isDelta = (event: unknown) => /^session\.(?:text|reasoning)\.delta$/.test(Tapes.typeOf(event))
const isDurable = (event: unknown) => Predicate.hasProperty(event, "durable")
const isRestart = (event: unknown) => Predicate.hasProperty(event, "__restart")

/** No message tells that a run failed before its first step, as on 1.x. A turn that misses the event makes the session go on. */
const isOnlyWord = (tape: Tape, at: number) =>
  tape.messages.length === 1 && Tapes.typeOf(tape.events[at]) === "session.execution.failed"

/** The same words in fewer, larger deltas, or one for each character (`0`). */
const rebatched = (events: ReadonlyArray<unknown>, size: number): ReadonlyArray<unknown> => {
  const told: Array<unknown> = []
  let held: { event: object; data: Readonly<Record<string, unknown>>; words: string; count: number } | undefined
  const flush = () => {
    if (held !== undefined) told.push({ ...held.event, data: { ...held.data, delta: held.words } })
    held = undefined
  }
  for (const event of events) {
    if (!isDelta(event) || !Predicate.isObject(event)) {
      flush()
      told.push(event)
      continue
    }
    const data = Tapes.dataOf(event)
    const delta = String(data["delta"])
    if (size === 0) {
      for (const [at, character] of [...delta].entries()) {
        told.push({ ...event, id: `${event["id"]}.${at}`, data: { ...data, delta: character } })
      }
      continue
    }
    const isSame = held !== undefined && Tapes.typeOf(held.event) === Tapes.typeOf(event) &&
      held.data["ordinal"] === data["ordinal"] && held.data["assistantMessageID"] === data["assistantMessageID"]
    if (!isSame) flush()
    held = { event, data, words: (held?.words ?? "") + delta, count: (held?.count ?? 0) + 1 }
    if (held.count === size) flush()
  }
  flush()
  return told
}

describe("the events of a beta of 2.x", () => {
  for (const { name, tape } of whole) {
    it(`and what it stored tell the same of a turn and its subagents: ${name}`, () => {
      const reply = Tapes.streamed(tape)
      const streamed = view(reply)
      const read = view(settle(tape, reply))
      assert.deepStrictEqual({ ...streamed, subagents: [] }, { ...read, subagents: [] })
      assert.deepStrictEqual(
        streamed.subagents.map(({ parts, text, usage }) => ({ parts, text, usage })),
        read.subagents.map(({ parts, text, usage }) => ({ parts, text, usage }))
      )
      assert.strictEqual(read.subagents.length, tape.children.length)
      assert.deepStrictEqual(view(settle(tape, Reply.make(tape))).parts, read.parts)
    })
  }

  for (const { name, tape } of tapes) {
    const expected = uncut.get(name)

    it(`come to the same when each of them comes twice, at once or after the next one: ${name}`, () => {
      assert.deepStrictEqual(settled(tape, tape.events.flatMap((event) => [event, event])), expected)
      const late = tape.events.flatMap((event, index) => (index === 0 ? [event] : [event, tape.events[index - 1]]))
      assert.deepStrictEqual(settled(tape, late), expected)
    })

    it(`come to the same when any two neighbours are exchanged: ${name}`, () => {
      for (let at = 0; at + 1 < tape.events.length; at++) {
        const events = [...tape.events]
        events.splice(at, 2, tape.events[at + 1], tape.events[at])
        assert.deepStrictEqual(settled(tape, events), expected, `at ${at}`)
      }
    })

    it(`come to the same when any one of them is missing: ${name}`, () => {
      for (let at = 0; at < tape.events.length; at++) {
        if (isOnlyWord(tape, at)) continue
        assert.deepStrictEqual(settled(tape, tape.events.toSpliced(at, 1)), expected, `without ${at}`)
      }
    })

    it(`mean the same beside events and fields that nobody knows: ${name}`, () => {
      const strange = [
        { id: "evt_strange", created: 1, type: "session.step.streamed", data: { sessionID: tape.sessionId } },
        { id: "evt_strange", created: 1, type: "session.unheard.of", data: { sessionID: tape.sessionId, callID: 7 } },
        { id: "evt_strange", created: 1, type: "session.idle", data: { sessionID: tape.sessionId } },
        { id: "evt_strange", created: 1, type: "unheard.of", data: null },
        {
          id: "evt_strange",
          created: 1,
          type: "session.inbox.delivery.changed",
          data: { sessionID: tape.sessionId, inboxID: tape.promptId, delivery: "steer" }
        }
      ]
      const around = tape.events.flatMap((event) => [
        ...strange,
        Predicate.isObject(event)
          ? { ...event, unheard: { of: 1 }, data: { ...Tapes.dataOf(event), unheard: ["of"] } }
          : event
      ])
      assert.deepStrictEqual(Tapes.translate(around), Tapes.translate(tape.events))
    })

    it(`show the same text in whatever pieces it comes: ${name}`, () => {
      for (const size of [0, 2, 3, Infinity]) {
        const events = rebatched(tape.events, size)
        assert.deepStrictEqual(view(Tapes.streamed(tape, events)), view(Tapes.streamed(tape)), `${size}`)
      }
    })

    it(`are carried on by the log behind the last of them, wherever they are cut: ${name}`, () => {
      for (let cut = 0; cut <= tape.events.length; cut++) {
        const runs = Runs.make()
        const before = Tapes.fold(Reply.make(tape), Tapes.translate(tape.events.slice(0, cut), runs))
        // The log has neither deltas nor asks.
        const log = tape.events.slice(cut).filter((event) => isDurable(event) || isRestart(event))
        const after = Tapes.fold(Reply.markGap(before), Tapes.translate(log, runs))
        assert.deepStrictEqual(view(settle(tape, after)), expected, `at ${cut}`)
      }
    })

    if (tape.messages.length === 1) continue
    it(`are carried on by another connection, which has not seen the prompt, wherever they are cut: ${name}`, () => {
      for (let cut = 0; cut <= tape.events.length; cut++) {
        const before = Tapes.streamed(tape, tape.events.slice(0, cut))
        const merged = Exchange.merge(exchangeOf(tape), Reply.markGap(before))
        const after = Tapes.fold(merged, Tapes.translate(tape.events.slice(cut)))
        assert.deepStrictEqual(view(settle(tape, after)), expected, `at ${cut}`)
      }
    })
  }

  const index = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 10_000 }))
  const places = Schema.Array(index).check(Schema.isMaxLength(12))
  it.prop("come to the server's record, whatever is lost, doubled, late or cut", {
    at: index,
    lost: places,
    doubled: places,
    late: places,
    cuts: places,
    size: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 5 }))
  }, ({ at, cuts, doubled, late, lost, size }) => {
    const { name, tape } = pick(answered, at)
    const length = tape.events.length
    const isAt = (places: ReadonlyArray<number>, index: number) => places.some((place) => place % length === index)
    const told = tape.events.flatMap((event, index) =>
      isAt(lost, index) ? [] : isAt(doubled, index) ? [event, event] : [event]
    )
    for (const place of late) {
      const [event] = told.splice(place % Math.max(1, told.length), 1)
      if (event !== undefined) told.splice((place * 7) % (told.length + 1), 0, event)
    }
    const events = rebatched(told, size)
    let reply = Reply.make(tape)
    let from = 0
    for (const cut of [...cuts.map((cut) => cut % (events.length + 1)), events.length].toSorted((a, b) => a - b)) {
      reply = Tapes.fold(reply, Tapes.translate(events.slice(from, cut)))
      if (cut < events.length) reply = Reply.markGap(reply)
      from = cut
    }
    assert.deepStrictEqual(view(settle(tape, reply)), uncut.get(name), name)
  }, { arbitrary: { runs: 300 } })
})
