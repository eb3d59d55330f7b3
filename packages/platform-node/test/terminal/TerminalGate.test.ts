import { NodeServices } from "@effect/platform-node"
import { assert, it } from "@effect/vitest"
import type { Answer, Ask, PermissionAsk, QuestionAsk } from "@opencode-turn/core/Ask"
import { type Asking, HumanGate } from "@opencode-turn/core/HumanGate"
import { AskId, AssistantMessageId, ConversationId, SessionId } from "@opencode-turn/core/Ids"
import * as TerminalGate from "@opencode-turn/platform-node/TerminalGate"
import { type Cause, Deferred, Effect, Fiber, Option, PlatformError, Queue, Ref, Terminal } from "effect"

const showCursor = "\u001b[?25h"

const permission: PermissionAsk = {
  _tag: "Permission",
  id: AskId.make("per_1"),
  sessionId: SessionId.make("ses_1"),
  permission: "bash",
  patterns: ["echo hi\u001b[2J"],
  always: ["echo *"],
  metadata: { diff: "- a\n+ b" }
}

const question = (fields: Partial<QuestionAsk["questions"][number]> = {}): QuestionAsk => ({
  _tag: "Question",
  id: AskId.make("que_1"),
  sessionId: SessionId.make("ses_1"),
  questions: [{
    question: "Which?",
    header: "Pick",
    options: [{ label: "A", description: "first" }, { label: "B", description: "second" }],
    multiple: false,
    custom: true,
    ...fields
  }]
})

const asking: Asking = {
  conversationId: ConversationId.make("c1"),
  messageId: AssistantMessageId.make("asm_1"),
  sessionId: SessionId.make("ses_1"),
  openedBy: undefined,
  subagent: undefined,
  isOpen: () => true
}

const key = (name: string): Terminal.UserInput => ({
  input: name.length === 1 ? Option.some(name) : Option.none(),
  key: { name, ctrl: false, meta: false, shift: false }
})

/** A person who presses these keys, and then Ctrl-C if they are asked on. */
const ask = (asked: Ask, keys: ReadonlyArray<string>, subagent?: Asking["subagent"]) =>
  Effect.gen(function*() {
    const shown = yield* Ref.make("")
    const display = (text: string) => Ref.update(shown, (all) => all + text)
    const input = yield* Queue.unbounded<Terminal.UserInput, Cause.Done>()
    const terminal = Terminal.make({
      columns: Effect.succeed(80),
      rows: Effect.succeed(24),
      size: Effect.die("unused"),
      readInput: Effect.succeed(input),
      readLine: Effect.die("unused"),
      display
    })
    yield* Queue.offerAll(input, keys.map(key))
    yield* Queue.end(input)
    const quit = yield* Deferred.make<void>()
    const gate = yield* TerminalGate.make({
      onQuit: Effect.asVoid(Deferred.succeed(quit, undefined))
    }).pipe(Effect.provideService(Terminal.Terminal, terminal))
    const answer = yield* Effect.raceFirst(
      Effect.map(gate(asked, { ...asking, subagent }), Option.some<Answer>),
      Effect.as(Deferred.await(quit), Option.none<Answer>())
    )
    return { answer: Option.getOrUndefined(answer), shown: yield* Ref.get(shown) }
  })

it.layer(NodeServices.layer)("TerminalGate", (it) => {
  const permissions = [
    ["once by its number", ["1"], { reply: "once" }],
    ["once with Enter", ["return"], { reply: "once" }],
    ["always with the arrow keys", ["down", "return"], { reply: "always" }],
    ["a rejection", ["3"], { reply: "reject" }],
    ["a rejection with words for the agent", ["4", "n", "o", "return"], { reply: "reject", message: "no" }]
  ] as const
  for (const [name, keys, reply] of permissions) {
    it.effect(`answers a permission with ${name}`, () =>
      Effect.gen(function*() {
        const { answer } = yield* ask(permission, keys)
        assert.deepStrictEqual(answer, { _tag: "Permission", reply })
      }))
  }

  it.effect("shows the whole permission without its control characters", () =>
    Effect.gen(function*() {
      const { shown } = yield* ask(permission, ["1"])
      assert.include(shown, "  echo hi␛[2J\n  - a\n  + b\n")
      assert.include(shown, "2. Always - from now on: echo *")
    }))

  it.effect("takes the label of an option by its number", () =>
    Effect.gen(function*() {
      const { answer } = yield* ask(question(), ["2"])
      assert.deepStrictEqual(answer, { _tag: "Answers", answers: [["B"]] })
    }))

  it.effect("takes free text", () =>
    Effect.gen(function*() {
      const { answer } = yield* ask(question(), ["3", "o", "w", "n", "return"])
      assert.deepStrictEqual(answer, { _tag: "Answers", answers: [["own"]] })
    }))

  it.effect("offers no free text if only labels are allowed", () =>
    Effect.gen(function*() {
      const { answer, shown } = yield* ask(question({ custom: false }), ["1"])
      assert.deepStrictEqual(answer, { _tag: "Answers", answers: [["A"]] })
      assert.notInclude(shown, "Something else")
    }))

  it.effect("takes several options", () =>
    Effect.gen(function*() {
      const { answer } = yield* ask(question({ multiple: true }), ["2", "1", "return"])
      assert.deepStrictEqual(answer, { _tag: "Answers", answers: [["A", "B"]] })
    }))

  it.effect("takes the option at the cursor if no option is marked", () =>
    Effect.gen(function*() {
      const { answer } = yield* ask(question({ multiple: true }), ["down", "return"])
      assert.deepStrictEqual(answer, { _tag: "Answers", answers: [["B"]] })
    }))

  it.effect("dismisses a question with several options, whatever was marked before", () =>
    Effect.gen(function*() {
      for (const keys of [["up", "return"], ["4", "return"], ["1", "4", "return"]]) {
        const { answer, shown } = yield* ask(question({ multiple: true }), keys)
        assert.include(shown, "4. Do not answer - the turn ends here")
        assert.deepStrictEqual(answer, { _tag: "Reject" })
      }
      const { answer } = yield* ask(question({ multiple: true }), ["4", "2", "return"])
      assert.deepStrictEqual(answer, { _tag: "Answers", answers: [["B"]] })
    }))

  it.effect("dismisses a question that the person declines", () =>
    Effect.gen(function*() {
      const { answer } = yield* ask(question(), ["up", "return"])
      assert.deepStrictEqual(answer, { _tag: "Reject" })
    }))

  it.effect("answers the questions of an ask in their order", () =>
    Effect.gen(function*() {
      const both = { ...question(), questions: [...question().questions, ...question({ multiple: true }).questions] }
      const { answer } = yield* ask(both, ["1", "2", "return"])
      assert.deepStrictEqual(answer, { _tag: "Answers", answers: [["A"], ["B"]] })
    }))

  it.effect("says which subagent it is that asks", () =>
    Effect.gen(function*() {
      const child = { sessionId: SessionId.make("ses_2") }
      const named = { title: "look\u001b around (@general subagent)", agent: "general" }
      assert.include(
        (yield* ask({ ...permission, ...child }, ["1"], named)).shown,
        "? look␛ around (general) asks: Allow bash?"
      )
      assert.include((yield* ask({ ...question(), ...child }, ["1"], named)).shown, "(general) asks: Which?")
      assert.include((yield* ask({ ...permission, ...child }, ["1"])).shown, "? a subagent asks: Allow bash?")
      assert.include((yield* ask(permission, ["1"])).shown, "? Allow bash?")
    }))

  it.effect("asks one thing at a time", () =>
    Effect.gen(function*() {
      const shown = yield* Ref.make("")
      const input = yield* Queue.unbounded<Terminal.UserInput, Cause.Done>()
      const drawn = yield* Queue.unbounded<string>()
      const terminal = Terminal.make({
        columns: Effect.succeed(80),
        rows: Effect.succeed(24),
        size: Effect.die("unused"),
        readInput: Effect.succeed(input),
        readLine: Effect.die("unused"),
        display: (text) =>
          Effect.andThen(
            Ref.update(shown, (all) => all + text),
            text.includes("4. Reject and explain") ? Effect.asVoid(Queue.offer(drawn, text)) : Effect.void
          )
      })
      const gate = yield* Effect.provideService(TerminalGate.make(), Terminal.Terminal, terminal)
      const both = yield* Effect.forkChild(
        Effect.all(
          [gate(permission, asking), gate({ ...permission, patterns: ["second"] }, asking)],
          { concurrency: "unbounded" }
        )
      )
      yield* Queue.take(drawn)
      assert.notInclude(yield* Ref.get(shown), "second")
      yield* Queue.offer(input, key("1"))
      yield* Queue.take(drawn)
      assert.include(yield* Ref.get(shown), "second")
      yield* Queue.offer(input, key("3"))
      assert.deepStrictEqual(yield* Fiber.join(both), [
        { _tag: "Permission", reply: { reply: "once" } },
        { _tag: "Permission", reply: { reply: "reject" } }
      ])
    }))

  it.effect("asks nobody without a terminal", () =>
    Effect.gen(function*() {
      assert.isNotTrue(process.stdout.isTTY)
      const answer = yield* Effect.flatMap(HumanGate, (gate) => gate(permission, asking)).pipe(
        Effect.provide(TerminalGate.layer)
      )
      assert.strictEqual(answer._tag, "Reject")
    }))

  it.effect("stops the turn with Ctrl-C, and answers nothing", () =>
    Effect.gen(function*() {
      const { answer } = yield* ask(permission, ["down"])
      assert.isUndefined(answer)
    }))

  it.effect("ends the line of a prompt that Ctrl-C leaves", () =>
    Effect.gen(function*() {
      const left = [
        yield* ask(permission, []),
        yield* ask(permission, ["4", "n", "o"]),
        yield* ask(question(), []),
        yield* ask(question({ multiple: true }), ["1"])
      ]
      for (const { shown } of left) assert.isTrue(shown.endsWith(`${showCursor}\n`), JSON.stringify(shown))
    }))

  it.effect("shows the cursor again and ends the line when somebody else answers first", () =>
    Effect.gen(function*() {
      const shown = yield* Ref.make("")
      const drawn = yield* Deferred.make<void>()
      const terminal = Terminal.make({
        columns: Effect.succeed(80),
        rows: Effect.succeed(24),
        size: Effect.die("unused"),
        readInput: Queue.unbounded<Terminal.UserInput, Cause.Done>(),
        readLine: Effect.die("unused"),
        display: (text) =>
          Effect.andThen(
            Ref.update(shown, (all) => all + text),
            text.includes("4. Reject and explain") ? Effect.asVoid(Deferred.succeed(drawn, undefined)) : Effect.void
          )
      })
      const gate = yield* TerminalGate.make({ onQuit: Effect.void }).pipe(
        Effect.provideService(Terminal.Terminal, terminal)
      )
      const waiting = yield* Effect.forkChild(gate(permission, asking))
      yield* Deferred.await(drawn)
      yield* Fiber.interrupt(waiting)
      assert.isTrue((yield* Ref.get(shown)).endsWith(`${showCursor}\n`))
    }))

  it.effect("ignores output that a closed terminal does not take, and quits when its input ends", () =>
    Effect.gen(function*() {
      const closed = PlatformError.systemError({ module: "Terminal", method: "display", _tag: "Unknown" })
      const input = yield* Queue.unbounded<Terminal.UserInput, Cause.Done>()
      const terminal = Terminal.make({
        columns: Effect.succeed(80),
        rows: Effect.succeed(24),
        size: Effect.die("unused"),
        readInput: Effect.succeed(input),
        readLine: Effect.die("unused"),
        display: () => Effect.fail(closed)
      })
      const prompt = Effect.provideService(TerminalGate.prompt(permission), Terminal.Terminal, terminal)
      yield* Queue.offer(input, key("1"))
      assert.deepStrictEqual(yield* prompt, { _tag: "Permission", reply: { reply: "once" } })
      yield* Queue.end(input)
      assert.strictEqual((yield* Effect.flip(prompt))._tag, "QuitError")
    }))
})
