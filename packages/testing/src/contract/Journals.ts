/**
 * Tests of the journal of a reply: written by what changes, and read on from any offset.
 */
import { assert } from "@effect/vitest"
import { AskId, MessageId, PartId } from "@opencode-turn/core/Ids"
import * as Journal from "@opencode-turn/core/Journal"
import type { Part } from "@opencode-turn/core/Part"
import { type Content, SessionStore } from "@opencode-turn/core/SessionStore"
import * as Usage from "@opencode-turn/core/Usage"
import type { Wait } from "@opencode-turn/core/Wait"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as TestClock from "effect/testing/TestClock"
import {
  completed,
  leaseOf,
  newConversation,
  newTurn,
  newTurnOf,
  numbers,
  offsetOf,
  session,
  someUsage,
  stored,
  type StoreTests
} from "./Samples.ts"

const messageId = MessageId.make("msg_0123456789abAnswer")

const text = (name: string, text: string, isComplete = false): Part => ({
  type: "text",
  id: PartId.make(`prt_${name}`),
  messageId,
  text,
  isComplete
})

const tool = (name: string, status: "pending" | "running" | "completed", output = ""): Part => ({
  type: "tool",
  id: PartId.make(`prt_${name}`),
  messageId,
  callId: name,
  tool: "bash",
  status,
  input: {},
  output
})

const contentOf = (...parts: ReadonlyArray<Part>): Content => ({
  content: Journal.textOf(parts),
  parts,
  usage: Usage.zero
})

/** What follows an offset, read in pages of two. */
const updatesOf = (id: Parameters<SessionStore["Service"]["getMessage"]>[0], after = 0) =>
  Effect.flatMap(SessionStore, (store) => Journal.readAll((offset) => store.listUpdates(id, offset, 2), after))

const stateOf = (placed: ReadonlyArray<Journal.PlacedUpdate>, before?: Journal.JournalState) =>
  Journal.apply(placed.map(({ update }) => update), before)

export const journals = (it: StoreTests): void => {
  it.effect("writes only what has changed since the content that it is told", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      yield* store.claim(turn)
      const steps = [
        contentOf(text("a", "one ")),
        contentOf(text("a", "one two"), tool("b", "pending")),
        contentOf(text("a", "one two three", true), tool("b", "running")),
        contentOf(text("a", "one two three", true), tool("b", "completed", "done"))
      ]
      let before = Journal.nothing
      for (const content of steps) {
        const { offset } = yield* stored(turn.id)
        assert.isTrue(yield* store.snapshot(turn.id, 1, content, { before }))
        const expected = Journal.between(before, content).map(({ update }) => update)
        assert.deepStrictEqual((yield* updatesOf(turn.id, offset)).map(({ update }) => update), expected)
        assert.deepInclude(yield* stored(turn.id), { parts: content.parts, content: content.content })
        before = content
      }
      // The opening of each part stays, the text in its pieces, and of the tool only its last state.
      const tags = (yield* updatesOf(turn.id)).map(({ update }) => update._tag)
      assert.deepStrictEqual(tags, [
        "PartChanged",
        "TextDelta",
        "TextDelta",
        "PartChanged",
        "TextDelta",
        "PartChanged",
        "PartChanged"
      ])
    }))

  it.effect("gives the whole text with the closing of a text, wherever it is read from", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      yield* store.claim(turn)
      const open = contentOf(text("a", "one \u0000"))
      const closed = contentOf(text("a", "one \u0000\ud800two", true))
      yield* store.snapshot(turn.id, 1, open, { before: Journal.nothing })
      yield* store.snapshot(turn.id, 1, closed, { before: open })
      const { offset } = yield* stored(turn.id)
      assert.deepStrictEqual(yield* store.listUpdates(turn.id, offset - 1, 10), [
        { offset, update: { _tag: "PartChanged", part: text("a", "one \u0000\ud800two", true) } }
      ])
      assert.deepStrictEqual(yield* store.listUpdates(turn.id, offset, 10), [])
    }))

  it.effect("begins anew behind a reset without a content to begin from, and where parts change their order", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      yield* store.claim(turn)
      const first = contentOf(text("a", "one"), text("b", "two"))
      yield* store.snapshot(turn.id, 1, first)
      assert.strictEqual((yield* stored(turn.id)).offset, offsetOf(first))
      assert.strictEqual((yield* updatesOf(turn.id))[0]?.update._tag, "Reset")
      const second = contentOf(text("b", "two"), text("a", "one"))
      yield* store.snapshot(turn.id, 1, second, { before: first })
      const all = yield* updatesOf(turn.id)
      assert.deepInclude(all[0]?.update, { _tag: "Reset", reason: "reconciled" })
      assert.strictEqual(all[0]?.offset, offsetOf(first) + 1)
      assert.deepStrictEqual((yield* stored(turn.id)).parts, second.parts)
      yield* store.snapshot(turn.id, 1, first, { reason: "repaired" })
      assert.deepInclude((yield* updatesOf(turn.id))[0]?.update, { _tag: "Reset", reason: "repaired" })
    }))

  it.effect("keeps what is asked, announced and done by subagents for readers of the journal", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      yield* store.claim(turn)
      const sessionId = session("child")
      const subagent = {
        sessionId,
        parentId: session("root"),
        title: "look",
        status: "running",
        text: "",
        usage: Usage.zero
      } as const
      const ask = {
        _tag: "Permission",
        id: AskId.make("per_1"),
        sessionId,
        permission: "bash",
        patterns: ["ls"],
        always: [],
        metadata: {}
      } as const
      const retry = { attempt: 1, message: "busy", nextMillis: 5 }
      const nothing = { partsOf: new Map(), asks: [], retry: undefined, failure: undefined }
      const asked: Wait = {
        type: "ask",
        id: ask.id,
        sessionId,
        kind: "permission",
        name: "bash",
        fromMillis: 1,
        toMillis: null
      }
      const tried: Wait = { type: "retry", sessionId, ...retry, fromMillis: 2, toMillis: null }
      const running = {
        ...contentOf(tool("task", "running")),
        subagents: [{ ...subagent, text: "I loo" }],
        waits: [asked, tried],
        unstored: {
          ...nothing,
          partsOf: new Map([[sessionId, [text("c", "I loo")]]]),
          asks: [{ ask, openedBy: undefined }],
          retry
        }
      } satisfies Content
      const ended = {
        ...contentOf(tool("task", "completed")),
        waits: [{ ...asked, toMillis: 3 }, { ...tried, toMillis: 4.5 }],
        subagents: [{ ...subagent, status: "completed", text: "I looked.", usage: someUsage }],
        unstored: { ...nothing, partsOf: new Map([[sessionId, [text("c", "I looked.", true)]]]), retry }
      } satisfies Content
      yield* store.snapshot(turn.id, 1, running, { before: Journal.nothing })
      const half = yield* updatesOf(turn.id)
      assert.deepStrictEqual(stateOf(half), {
        ...nothing,
        ...running.unstored,
        parts: running.parts,
        subagents: running.subagents,
        waits: running.waits
      })
      assert.deepStrictEqual((yield* stored(turn.id)).subagents, running.subagents)
      assert.deepStrictEqual((yield* stored(turn.id)).waits, running.waits)
      yield* store.snapshot(turn.id, 1, ended, { before: running })
      const whole = {
        ...nothing,
        ...ended.unstored,
        parts: ended.parts,
        subagents: ended.subagents,
        waits: ended.waits
      }
      assert.deepStrictEqual(stateOf(yield* updatesOf(turn.id)), whole)
      assert.deepStrictEqual(stateOf(yield* updatesOf(turn.id, half.at(-1)?.offset), stateOf(half)), whole)
      assert.deepStrictEqual((yield* stored(turn.id)).subagents, ended.subagents)
      assert.deepStrictEqual((yield* stored(turn.id)).waits, ended.waits)
      yield* store.finalize(turn.id, 1, { ...ended, status: "completed", error: null }, { reason: "repaired" })
      assert.deepStrictEqual((yield* stored(turn.id)).waits, ended.waits)
    }))

  it.effect("tells the same from every offset, whatever was written", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      for (const _ of numbers(20)) {
        const turn = yield* newTurn
        yield* store.claim(turn)
        let before = Journal.nothing
        const seen: Array<{ readonly offset: number; readonly state: Journal.JournalState }> = [
          { offset: 0, state: stateOf([]) }
        ]
        for (const _ of numbers(8)) {
          const content = yield* next(before)
          const { offset } = yield* stored(turn.id)
          const isAnew = (yield* Random.nextIntBetween(0, 9)) === 0
          yield* store.snapshot(turn.id, 1, content, isAnew ? {} : { before })
          before = content
          const news = yield* updatesOf(turn.id, offset)
          const last = seen.at(-1)?.state
          for (const place of news.keys()) {
            const part = news.slice(0, place + 1)
            seen.push({ offset: part.at(-1)?.offset ?? 0, state: stateOf(part, last) })
          }
        }
        const parts = [...before.parts]
        assert.deepStrictEqual(stateOf(yield* updatesOf(turn.id)).parts, parts)
        assert.deepStrictEqual((yield* stored(turn.id)).parts, parts)
        for (const { offset, state } of seen) {
          const rest = yield* updatesOf(turn.id, offset)
          assert.deepStrictEqual(stateOf(rest, state).parts, parts, `from ${offset}`)
          assert.isTrue(rest.every((update) => update.offset > offset))
        }
      }
    }))

  it.effect("writes the end by what has changed, too, and once", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      yield* store.claim(turn)
      const before = contentOf(text("a", "one "))
      yield* store.snapshot(turn.id, 1, before, { before: Journal.nothing })
      const outcome = { ...contentOf(text("a", "one two", true)), status: "completed", error: null } as const
      const { offset } = yield* stored(turn.id)
      assert.isTrue(yield* store.finalize(turn.id, 1, outcome, { before }))
      assert.isFalse(yield* store.finalize(turn.id, 1, outcome, { before }))
      assert.deepStrictEqual((yield* updatesOf(turn.id, offset)).map(({ update }) => update._tag), [
        "TextDelta",
        "PartChanged"
      ])
      assert.deepInclude(yield* stored(turn.id), { content: "one two", parts: outcome.parts })
      const cancelled = yield* newTurn
      yield* store.claim(cancelled)
      yield* store.snapshot(cancelled.id, 1, before, { before: Journal.nothing })
      yield* store.cancel(cancelled.id, "Stopped.")
      assert.isTrue(yield* store.keepPartial(cancelled.id, 1, contentOf(text("a", "one two")), { before }))
      assert.deepInclude(yield* stored(cancelled.id), { content: "one two", parts: [text("a", "one two")] })
    }))

  it.effect("writes nothing to the journal for an owner that was taken over", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      yield* store.claim({ ...turn, lease: leaseOf("a") })
      yield* store.snapshot(turn.id, 1, completed)
      yield* TestClock.adjust("1 second")
      yield* store.takeOver(turn.id, leaseOf("b"))
      const before = yield* updatesOf(turn.id)
      assert.isFalse(yield* store.snapshot(turn.id, 1, contentOf(text("a", "late")), { before: completed }))
      assert.isFalse(yield* store.finalize(turn.id, 1, completed))
      assert.isFalse(yield* store.keepPartial(turn.id, 1, completed))
      assert.deepStrictEqual(yield* updatesOf(turn.id), before)
    }))

  it.effect("has no updates of a message that does not exist or was pruned", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      assert.deepStrictEqual(yield* updatesOf(turn.id), [])
      yield* store.claim(turn)
      yield* store.finalize(turn.id, 1, completed)
      assert.isAbove((yield* updatesOf(turn.id)).length, 0)
      for (const limit of [0, -1, NaN]) assert.deepStrictEqual(yield* store.listUpdates(turn.id, 0, limit), [])
      yield* TestClock.adjust("1 milli")
      yield* store.prune(Number.MAX_SAFE_INTEGER)
      assert.deepStrictEqual(yield* updatesOf(turn.id), [])
    }))

  it.effect("renews many leases at once, each for its own owner", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turns = yield* Effect.forEach(numbers(3), () => newTurn)
      for (const turn of turns) yield* store.claim({ ...turn, lease: leaseOf("a") })
      const [first, second, third] = turns
      assert(first !== undefined && second !== undefined && third !== undefined)
      yield* store.cancel(second.id, "")
      const unknown = yield* newTurn
      const renew = (id: typeof first.id, owner: string, epoch = 1) => store.renew(id, epoch, leaseOf(owner))
      yield* TestClock.adjust("500 millis")
      const isHeld = yield* Effect.all([
        renew(first.id, "a"),
        renew(second.id, "a"),
        renew(third.id, "b"),
        renew(third.id, "a"),
        renew(third.id, "a", 2),
        renew(unknown.id, "a")
      ], { concurrency: "unbounded" })
      assert.deepStrictEqual(isHeld, [true, false, false, true, false, false])
      yield* TestClock.adjust("999 millis")
      for (const { id } of [first, third]) {
        assert.deepStrictEqual(yield* store.takeOver(id, leaseOf("c")), Option.none())
      }
    }))

  it.effect("finds the message that a queued one waits for", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const conversationId = yield* newConversation
      const [first, second, third] = yield* Effect.forEach(numbers(3), () => newTurnOf(conversationId))
      assert(first !== undefined && second !== undefined && third !== undefined)
      const lease = { owner: "a", millis: 60_000 }
      for (const turn of [first, second, third]) yield* store.claim({ ...turn, whenBusy: "queue", lease })
      assert.deepStrictEqual(yield* store.findBlocker(first.id), Option.none())
      assert.deepStrictEqual(yield* store.findBlocker(second.id), Option.some(first.id))
      assert.deepStrictEqual(yield* store.findBlocker(third.id), Option.some(first.id))
      yield* store.cancel(first.id, "")
      assert.deepStrictEqual(yield* store.findBlocker(second.id), Option.none())
      assert.deepStrictEqual(yield* store.findBlocker(third.id), Option.some(second.id))
      // A queued message whose lease ran out blocks nobody.
      yield* store.release(second.id, 1)
      assert.deepStrictEqual(yield* store.findBlocker(third.id), Option.none())
      assert.deepStrictEqual(yield* store.findBlocker((yield* newTurn).id), Option.none())
    }))

  it.effect("lists page by page", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const conversationId = yield* newConversation
      const turns = yield* Effect.forEach(numbers(5), () => newTurnOf(conversationId))
      for (const turn of turns) yield* store.claim({ ...turn, whenBusy: "queue", lease: leaseOf("a") })
      const ids = turns.map(({ id }) => id)
      const newest = yield* store.listMessages(conversationId, 2)
      assert.deepStrictEqual(newest.map(({ id }) => id), ids.slice(3))
      const older = yield* store.listMessages(conversationId, 2, newest[0]?.position)
      assert.deepStrictEqual(older.map(({ id }) => id), ids.slice(1, 3))
      const states = yield* store.listByStatus({ conversationId, limit: 3 })
      assert.deepStrictEqual(states.map(({ id }) => id), ids.slice(2).toReversed())
      const rest = yield* store.listByStatus({ conversationId, limit: 3, beforePosition: states.at(-1)?.position })
      assert.deepStrictEqual(rest.map(({ id }) => id), ids.slice(0, 2).toReversed())
      const queued = yield* store.listByStatus({ conversationId, status: "queued", limit: 9 })
      assert.lengthOf(queued, 4)
      yield* TestClock.adjust("1 minute")
      const orphans: Array<string> = []
      let position = 0
      while (true) {
        const page = yield* store.listOrphans(2, position)
        if (page.length === 0) break
        assert.isAtMost(page.length, 2)
        position = page.at(-1)?.position ?? position
        orphans.push(...page.map(({ id }) => id))
      }
      assert.deepStrictEqual(orphans.filter((id) => ids.some((ours) => ours === id)), [...ids])
    }))
}

/** Another content: parts grow, change, come and go. */
const next = Effect.fnUntraced(function*(before: Content) {
  const parts: Array<Part> = []
  for (const part of before.parts) {
    const dice = yield* Random.nextIntBetween(0, 10)
    if (dice === 0) continue
    if (part.type === "text" && !part.isComplete && dice < 6) {
      parts.push({ ...part, text: `${part.text}${"more ".repeat(dice)}`, isComplete: dice === 5 })
    } else if (part.type === "text" && dice === 6) {
      parts.push({ ...part, text: "something else" })
    } else if (part.type === "tool" && dice < 6) {
      parts.push({ ...part, status: dice < 3 ? "running" : "completed", output: `out ${dice}` })
    } else {
      parts.push(part)
    }
  }
  const name = `${yield* Random.nextIntBetween(0, 1_000_000)}`
  const dice = yield* Random.nextIntBetween(0, 4)
  if (dice < 2) parts.push(text(name, dice === 0 ? "" : "new"))
  if (dice === 2) parts.push(tool(name, "pending"))
  if (parts.length > 2 && (yield* Random.nextIntBetween(0, 12)) === 0) parts.reverse()
  return contentOf(...parts)
})
