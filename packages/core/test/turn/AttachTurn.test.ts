import { assert, describe } from "@effect/vitest"
import type { Attached, AttachOptions } from "@opencode-turn/core/AttachTurn"
import { attachTurn } from "@opencode-turn/core/AttachTurn"
import { ConversationId, MessageId, PartId, SessionId } from "@opencode-turn/core/Ids"
import * as Journal from "@opencode-turn/core/Journal"
import { SessionStore, type Since } from "@opencode-turn/core/SessionStore"
import { resumeTurn, runTurn } from "@opencode-turn/core/Turn"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import * as Usage from "@opencode-turn/core/Usage"
import { FakeOpencode, prompt } from "@opencode-turn/testing/FakeOpencode"
import * as Faults from "@opencode-turn/testing/Faults"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Stream from "effect/Stream"
import * as Carrying from "../support/carrying.ts"
import * as Turns from "../support/turns.ts"

const { ended, halfway, launch, leave, messageIdOf, pass, takeOver } = Carrying
const { messageId, row, test } = Turns

/** Runs the effect as another process would: with the same rows, and without the turns of this process. */
const elsewhere = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.updateService(effect, SessionStore, (store) => ({ ...store }))

/** As in another process whose store tells of each change twice: by a notification, and by its poll. */
const wokenTwice = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.updateService(effect, SessionStore, (store) => ({
    ...store,
    changes: (id) => Stream.flatMap(store.changes(id), () => Stream.make(undefined, undefined))
  }))

const here = <A, E, R>(effect: Effect.Effect<A, E, R>) => effect

const places = [["of this process", here], ["of another process", elsewhere]] as const

/** What a reader shows of updates: it begins with a state, and follows them. */
const read = (seen: ReadonlyArray<Attached>, before?: Journal.JournalState) =>
  Journal.apply(
    seen.flatMap(({ update }) => update._tag === "Started" || update._tag === "Finished" ? [] : [update]),
    before
  )

const textOf = (seen: ReadonlyArray<Attached>): string => Journal.textOf(read(seen).parts)

const tagsOf = (seen: ReadonlyArray<Attached>) => seen.map(({ update }) => update._tag)

/** The prompts that updates tell of, and the reasons of their resets. */
const starts = (all: ReadonlyArray<Attached>) =>
  all.flatMap(({ update }): ReadonlyArray<string> =>
    update._tag === "Started" ? [update.promptId] : update._tag === "Reset" ? [update.reason] : []
  )

/** Attaches to the turn, and collects what it is told. */
const attach = Effect.fnUntraced(function*(options: AttachOptions & { readonly name?: string } = {}) {
  const seen: Array<Attached> = []
  const fiber = yield* Effect.forkChild(
    Stream.runForEach(
      attachTurn(messageIdOf(options.name ?? messageId), options),
      (update) => Effect.sync(() => void seen.push(update))
    )
  )
  yield* Turns.rest
  return { fiber, seen }
})

/** A reply of thoughts, texts, a tool, to-dos and a subagent. */
const rich: ReadonlyArray<Step> = [
  {
    reasoning: "I think about it.",
    text: "First I look.",
    tool: "bash",
    args: { command: "echo hi", description: "Say" }
  },
  {
    tool: "todowrite",
    args: { todos: [{ content: "look", status: "completed", priority: "high", id: "1" }] }
  },
  {
    tool: "task",
    args: {
      description: "Look closer",
      prompt: prompt("Look.", [{ text: "I looked closer." }]),
      subagent_type: "general"
    }
  },
  { text: "That is all of it." }
]

describe("attachTurn", () => {
  for (const [where, at] of places) {
    test(`to a turn ${where}: tells where it works, then its reply while it grows, then its end`, () =>
      Effect.gen(function*() {
        const fake = yield* FakeOpencode
        const turn = yield* launch(messageId, halfway)
        const { fiber, seen } = yield* at(attach())
        yield* pass(3000)
        assert.strictEqual(tagsOf(seen)[0], "Started")
        assert.strictEqual(textOf(seen), "one two ")
        yield* fake.release("half")
        const { value } = yield* ended(turn)
        yield* ended(fiber)
        assert.strictEqual(textOf(seen), "one two three")
        const [started] = seen.map(({ update }) => update)
        assert(started?._tag === "Started")
        assert.deepStrictEqual(
          [started.conversationId, started.messageId, started.sessionId, started.promptId],
          [value.conversationId, value.messageId, value.sessionId, value.promptId]
        )
        const last = seen.at(-1)?.update
        assert(last?._tag === "Finished")
        assert.deepStrictEqual(last.message, yield* row)
        assert.lengthOf(tagsOf(seen).filter((tag) => tag === "Started" || tag === "Finished"), 2)
      }))

    test(`to a turn ${where}: taken up at any offset tells the rest and nothing twice`, () =>
      Effect.gen(function*() {
        const fake = yield* FakeOpencode
        const turn = yield* launch(messageId, [...rich.slice(0, -1), ...halfway])
        const first = yield* at(attach())
        for (let step = 0; step < 20; step++) yield* pass(250)
        yield* fake.reached("half")
        const known = first.seen.slice()
        assert.isAbove(known.length, 1)
        const others = yield* Effect.forEach(known, ({ offset }) => at(attach({ from: offset })))
        yield* fake.release("half")
        yield* ended(turn, 1000)
        yield* ended(first.fiber)
        const whole = read(first.seen)
        assert.isTrue(textOf(first.seen).includes("one two three"))
        for (const [place, { fiber, seen }] of others.entries()) {
          yield* ended(fiber)
          assert.notInclude(tagsOf(seen), "Started")
          // Only what was not seen yet is told, so that a reader who goes on from what it had shows the same.
          assert.deepStrictEqual(read(seen, read(known.slice(0, place + 1))), whole, `from ${known[place]?.offset}`)
          const isReset = seen.some(({ update }) => update._tag === "Reset")
          assert.strictEqual(isReset, at === here && place === 0, `reset from ${known[place]?.offset}`)
        }
      }))

    test(`to a turn ${where}: leaving it does not stop the turn`, () =>
      Effect.gen(function*() {
        const fake = yield* FakeOpencode
        const turn = yield* launch(messageId, halfway)
        const { fiber } = yield* at(attach())
        yield* Fiber.interrupt(fiber)
        yield* fake.release("half")
        assert.strictEqual((yield* ended(turn)).value.content, "one two three")
      }))

    test(`to a turn ${where} that waits in a queue: tells nothing until its prompt is recorded`, () =>
      Effect.gen(function*() {
        const fake = yield* FakeOpencode
        const first = yield* launch("first", halfway)
        const second = yield* launch("second", [{ text: "two" }])
        const { fiber, seen } = yield* at(attach({ name: "second" }))
        yield* pass(5000)
        assert.deepStrictEqual(seen, [])
        yield* fake.release("half")
        yield* ended(first)
        yield* ended(second, 500)
        yield* ended(fiber)
        assert.strictEqual(tagsOf(seen)[0], "Started")
        assert.strictEqual(textOf(seen), "two")
      }))

    test(`to a turn ${where} that is cancelled: keeps what was streamed`, () =>
      Effect.gen(function*() {
        const turn = yield* launch(messageId, halfway)
        const { fiber, seen } = yield* at(attach())
        yield* pass(1000)
        yield* Turns.cancel
        yield* ended(turn)
        yield* ended(fiber)
        assert.strictEqual(textOf(seen), "one two ")
        const last = seen.at(-1)?.update
        assert(last?._tag === "Finished")
        assert.deepInclude(last.message, { status: "cancelled", content: "one two " })
      }))
  }

  test("tells the same of a rich turn, live and from the journal, while it runs and afterwards", () =>
    Effect.gen(function*() {
      const turn = yield* launch(messageId, rich)
      const live = yield* attach()
      const stored = yield* elsewhere(attach())
      const { value } = yield* ended(turn, 20_000)
      yield* ended(live.fiber)
      yield* ended(stored.fiber, 1000)
      const late = yield* elsewhere(attach())
      yield* ended(late.fiber)
      const shown = ({ seen }: typeof live) => {
        const { asks, parts, subagents } = read(seen)
        return { asks, subagents, parts: parts.filter(({ type }) => type !== "todos") }
      }
      assert.lengthOf(value.subagents, 1)
      assert.deepStrictEqual(shown(stored), shown(late))
      assert.deepStrictEqual(shown(live), shown(late))
      assert.deepStrictEqual(shown(late).subagents, value.subagents)
      assert.deepStrictEqual(
        shown(late).parts,
        value.reply.parts.filter(({ type }) => type !== "todos")
      )
      for (const { seen } of [stored, late]) {
        assert.isTrue(seen.some(({ update }) => update._tag === "TodosChanged"))
        assert.isTrue(seen.some(({ update }) => update._tag === "SubagentUpdate"))
      }
    }))

  test("of an ended turn tells all of it, and ends", () =>
    Effect.gen(function*() {
      yield* runTurn(Turns.turn([{ text: "Hi." }]))
      const { fiber, seen } = yield* attach()
      yield* ended(fiber)
      assert.strictEqual(textOf(seen), "Hi.")
      assert.deepStrictEqual([tagsOf(seen)[0], tagsOf(seen).at(-1)], ["Started", "Finished"])
      const again = yield* attach({ from: seen.at(-1)?.offset })
      yield* ended(again.fiber)
      assert.deepStrictEqual(tagsOf(again.seen), ["Finished"])
    }))

  test("of a message that does not exist fails", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Stream.runDrain(attachTurn(messageId)))
      assert.strictEqual(error._tag, "UnknownMessage")
    }))

  test("at an offset that it does not know gives the whole state in one update", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const turn = yield* launch(messageId, halfway)
      yield* pass(1000)
      for (const from of ["999999", "run_other.3", "no offset"]) {
        for (const [where, at] of places) {
          const { fiber, seen } = yield* at(attach({ from }))
          assert.deepStrictEqual(tagsOf(seen), ["Reset"], `${from} ${where}`)
          assert.strictEqual(textOf(seen), "one two ")
          yield* Fiber.interrupt(fiber)
        }
      }
      yield* fake.release("half")
      yield* ended(turn)
    }))

  test("follows a turn of another process to its next owner, as one reply", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const first = yield* launch(messageId, halfway).pipe(Effect.provideService(TurnPolicy.OnInterrupt, "release"))
      const { fiber, seen } = yield* elsewhere(attach())
      yield* pass(1000)
      yield* Fiber.interrupt(first)
      const next = yield* Effect.forkChild(resumeTurn(yield* takeOver(messageIdOf(messageId))))
      yield* pass(1000)
      yield* fake.release("half")
      yield* ended(next, 500)
      yield* ended(fiber, 500)
      assert.strictEqual(textOf(seen), "one two three")
      assert.notInclude(tagsOf(seen), "Reset")
      assert.lengthOf(tagsOf(seen).filter((tag) => tag === "Started"), 1)
    }))

  test("follows a turn that leaves this process to its next owner", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const first = yield* launch(messageId, halfway).pipe(Effect.provideService(TurnPolicy.OnInterrupt, "release"))
      const { fiber, seen } = yield* attach()
      yield* Fiber.interrupt(first)
      const next = yield* Effect.forkChild(elsewhere(resumeTurn(yield* takeOver(messageIdOf(messageId)))))
      yield* pass(1000)
      yield* fake.release("half")
      yield* ended(next, 500)
      yield* ended(fiber, 500)
      assert.strictEqual(textOf(seen), "one two three")
      assert.strictEqual(seen.at(-1)?.update._tag, "Finished")
    }))

  for (const [how, at] of [["once", elsewhere], ["twice", wokenTwice]] as const) {
    test(`of a cancelled turn waits for the streamed reply, if it is woken ${how} for each change`, () =>
      Effect.gen(function*() {
        const fake = yield* FakeOpencode
        yield* fake.fail({ method: "POST", path: /abort$/ }, Faults.delay("1 second"))
        const turn = yield* launch(messageId, halfway)
        const { fiber, seen } = yield* at(attach())
        yield* Turns.cancel
        yield* ended(turn, 1000)
        yield* ended(fiber)
        const last = seen.at(-1)?.update
        assert(last?._tag === "Finished")
        assert.strictEqual(last.message.content, "one two ")
      }))
  }

  test("of a turn whose text nobody will store still ends", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* leave(halfway, { stage: "posted" })
      const { fiber, seen } = yield* attach()
      yield* Turns.cancel
      assert.isAtMost((yield* ended(fiber, 6000)).millis, 5000)
      const last = seen.at(-1)?.update
      assert(last?._tag === "Finished")
      assert.strictEqual(last.message.content, "Stopped.")
      yield* fake.release("half")
    }))

  test("of a turn that is prompted again tells of the new prompt behind the reset, and so to who takes it up before", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const id = messageIdOf(messageId)
      const told = (prompt: string, text: string, changes: Partial<Since> = {}) =>
        Effect.gen(function*() {
          const part = { type: "text", id: PartId.make(`prt_${prompt}`), text, isComplete: false } as const
          const content = {
            content: text,
            parts: [{ ...part, messageId: MessageId.make(`msg_${prompt}`) }],
            usage: Usage.zero
          }
          yield* store.snapshot(id, 1, content, { before: Journal.nothing, ...changes })
          yield* pass(2000)
          return content
        })
      const record = (prompt: string) =>
        store.recordPrompt(id, 1, {
          sessionId: SessionId.make("ses_1"),
          prompt: {
            parts: [{ type: "text", text: "Go." }],
            ids: { promptId: MessageId.make(prompt), partIds: [PartId.make("prt_0")] }
          }
        })
      yield* store.claim({ id, conversationId: ConversationId.make("con_1"), prompt: [{ type: "text", text: "Go." }] })
      yield* record("msg_1")
      const { fiber, seen } = yield* elsewhere(attach())
      const before = yield* told("1", "no value")
      yield* record("msg_2")
      yield* told("1", "no value at all", { before })
      const from = seen.at(-1)?.offset
      yield* told("2", "a value", { before: undefined, reason: "repaired" })
      const again = yield* elsewhere(attach({ from }))
      yield* store.finalize(id, 1, {
        status: "completed",
        error: null,
        content: "a value",
        parts: [],
        usage: Usage.zero
      }, {})
      yield* ended(fiber)
      yield* ended(again.fiber)
      assert.deepStrictEqual(starts(seen).slice(0, 3), ["msg_1", "repaired", "msg_2"])
      assert.include(starts(again.seen), "msg_2")
      assert.notInclude(starts(again.seen), "msg_1")
    }))

  test("gives a reader that is too slow for the log the whole state, and holds nobody up", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const words = Array.from({ length: 12 }, (_, n): Step => ({
        text: `${n} ${"word ".repeat(10_000)}`,
        tool: "bash",
        args: { command: "true", description: "Nothing" }
      }))
      const turn = yield* launch(messageId, [
        ...halfway.map((step) => ({ ...step, tool: "bash", args: { command: "true", description: "Nothing" } })),
        ...words,
        { text: "end" }
      ])
      const seen: Array<Attached> = []
      const gate = yield* Latch.make()
      const slow = yield* Effect.forkChild(
        Stream.runForEach(
          attachTurn(messageIdOf(messageId)),
          (update) => Effect.andThen(Effect.sync(() => void seen.push(update)), gate.await)
        )
      )
      yield* Turns.rest
      yield* fake.release("half")
      const { value } = yield* ended(turn, 60_000)
      yield* gate.open
      yield* ended(slow, 1000)
      assert.strictEqual(textOf(seen), Journal.textOf(value.reply.parts))
    }))

  let isDown = false
  test("survives a store that fails for twenty seconds", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      yield* leave([{ text: "Hi." }], { stage: "claimed", leaseMillis: 1_000_000 })
      const { fiber, seen } = yield* attach()
      isDown = true
      yield* store.finalize(messageIdOf(messageId), 1, {
        content: "more",
        parts: [],
        usage: Usage.zero,
        status: "completed",
        error: null
      })
      yield* pass(20_000, 1000)
      assert.deepStrictEqual(tagsOf(seen), [])
      isDown = false
      yield* pass(1000)
      yield* ended(fiber)
      assert.strictEqual(seen.at(-1)?.update._tag, "Finished")
    }), {
    store: (store) => ({
      getState: (id) => Effect.suspend(() => isDown ? Effect.fail(Turns.unavailable("getState")) : store.getState(id))
    })
  })
})
