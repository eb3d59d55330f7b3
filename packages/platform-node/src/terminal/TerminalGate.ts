/**
 * A human gate that asks the person at the terminal, with the arrow keys or by number.
 *
 * **Responsibilities**: one prompt at a time, in the order in which is asked; what is asked in full and made safe for a terminal,
 * and by which subagent; the answers. A prompt ends when somebody else answers first.
 *
 * **Not responsibilities**: what is asked at all (`TurnInput.permission`, and OpenCode's own rules), the turn's other output, which
 * should not be written while a prompt is open ({@link Options.alone}).
 *
 * **Example**
 * ```ts
 * runTurn({ conversationId: "c1", prompt: "Tidy up", permission: [{ permission: "bash", pattern: "*", action: "ask" }] }).pipe(
 *   Effect.provide([LiveLayer, TerminalGate.layer])
 * )
 * ```
 *
 * @since 0.1.0
 */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import * as NodeTerminal from "@effect/platform-node/NodeTerminal"
import type { Answer, Ask, PermissionAsk, Question, QuestionAsk } from "@opencode-turn/core/Ask"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import * as Prompt from "effect/cli/Prompt"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import * as Semaphore from "effect/Semaphore"
import * as Terminal from "effect/Terminal"
import { describeAlways, describeAsker, describePermission, line, unknownSubagent } from "./AskText.ts"
import * as ChoicePrompt from "./ChoicePrompt.ts"

/**
 * What a gate at the terminal may be given.
 *
 * **Details**
 *
 * - `alone`: gives the terminal to one ask, for example once what was written before it has ended its line. Without it prompts only
 *   wait for each other.
 * - `onQuit`: what Ctrl-C means while a prompt reads the keys, which keeps the signal from this process; by default the signal is
 *   sent. The request stays unanswered.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly alone?: (<A, E, R>(ask: Ask, effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>) | undefined
  readonly onQuit?: Effect.Effect<void> | undefined
}

/**
 * The gate, over the terminal of this context.
 *
 * @category gates
 * @since 0.1.0
 */
export const make = (options: Options = {}): Effect.Effect<HumanGate.Gate, never, Prompt.Environment> =>
  Effect.gen(function*() {
    const context = yield* Effect.context<Prompt.Environment>()
    const terminal = yield* Semaphore.make(1)
    const { alone = (_: Ask, effect) => terminal.withPermit(effect), onQuit = interruptProcess } = options
    return (ask, asking) =>
      alone(ask, prompt(ask, { subagent: subagentOf(ask, asking) })).pipe(
        Effect.catchTag("QuitError", () => Effect.andThen(onQuit, Effect.never)),
        Effect.provideContext(context)
      )
  })

/**
 * The gate at the terminal of this process. Where standard input or output is none, nobody is asked: `HumanGate.deny`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<never> = Layer.unwrap(
  Effect.sync(() =>
    process.stdin.isTTY === true && process.stdout.isTTY === true
      ? Layer.effect(HumanGate.HumanGate, make()).pipe(
        Layer.provide(Layer.mergeAll(layerTerminal, NodeFileSystem.layer, NodePath.layer))
      )
      : HumanGate.layer(HumanGate.deny)
  )
)

/**
 * Asks the person at the terminal once; `subagent` is what asks, where it is one. Ctrl-C fails with `QuitError`.
 *
 * **Details**
 *
 * However it ends, the cursor stands at the beginning of a line afterwards.
 *
 * @category asking
 * @since 0.1.0
 */
export const prompt = (
  ask: Ask,
  options?: { readonly subagent?: HumanGate.Asking["subagent"] }
): Effect.Effect<Answer, Terminal.QuitError, Prompt.Environment> => {
  const who = options?.subagent === undefined ? "" : `${describeAsker(options.subagent)} asks: `
  return ask._tag === "Permission" ? askPermission(ask, who) : askQuestions(ask, who)
}

// internal

type Asking<A = Answer> = Effect.Effect<A, Terminal.QuitError, Prompt.Environment>

const subagentOf = (ask: Ask, { sessionId, subagent }: HumanGate.Asking): HumanGate.Asking["subagent"] =>
  ask.sessionId === sessionId ? undefined : subagent ?? unknownSubagent

/** A prompt that is left leaves its cursor behind the last choice, where the next output would go on. */
const run = <A>(prompt: Prompt.Prompt<A>): Asking<A> =>
  Effect.onError(
    Prompt.run(prompt),
    () => Effect.flatMap(Terminal.Terminal, (terminal) => Effect.orDie(terminal.display("\n")))
  )

/** Escape is no way to stop a turn: it is too near to what a person presses to leave a list. */
const layerTerminal: Layer.Layer<Terminal.Terminal> = Layer.effect(
  Terminal.Terminal,
  NodeTerminal.make(({ key }) => key.ctrl && (key.name === "c" || key.name === "d"))
)

const interruptProcess = Effect.sync(() => {
  process.kill(process.pid, "SIGINT")
})

const askPermission = (ask: PermissionAsk, who: string): Asking =>
  Effect.gen(function*() {
    const terminal = yield* Terminal.Terminal
    yield* Effect.orDie(terminal.display(describePermission(ask)))
    const reply = yield* run(ChoicePrompt.one<"once" | "always" | "reject" | "explain">(
      `${who}Allow ${line(ask.permission)}?`,
      [
        { title: "Once", value: "once" },
        { title: "Always", description: describeAlways(ask), value: "always" },
        {
          title: "Reject",
          description: who === "" ? "the turn ends here" : "the subagent ends here",
          value: "reject"
        },
        { title: "Reject and explain", description: "the agent goes on with what you say", value: "explain" }
      ]
    ))
    if (reply !== "explain") return { _tag: "Permission", reply: { reply } }
    const message = yield* askText("What should it do instead?")
    return { _tag: "Permission", reply: message === "" ? { reply: "reject" } : { reply: "reject", message } }
  })

const askQuestions = (ask: QuestionAsk, who: string): Asking =>
  Effect.gen(function*() {
    const answers: Array<ReadonlyArray<string>> = []
    for (const question of ask.questions) {
      const answer = yield* askQuestion(question, who)
      if (answer === undefined) return { _tag: "Reject" }
      answers.push(answer)
    }
    return { _tag: "Answers", answers }
  })

/** The labels chosen, or `undefined` for a question that is not to be answered. */
const askQuestion = (question: Question, who: string): Asking<ReadonlyArray<string> | undefined> =>
  Effect.gen(function*() {
    const message = `${who}${line(question.question)}`
    const options = question.options.map(({ description, label }) => ({
      title: line(label),
      description: line(description),
      value: label
    }))
    const freeText = question.custom || options.length === 0
    const choices: ReadonlyArray<ChoicePrompt.Choice<string | typeof other | typeof dismiss>> = [
      ...options,
      ...(freeText ? [{ title: "Something else…", value: other } as const] : []),
      { title: "Do not answer", description: "the turn ends here", value: dismiss, isExclusive: true }
    ]
    const chosen = question.multiple
      ? yield* run(ChoicePrompt.several(message, choices))
      : [yield* run(ChoicePrompt.one(message, choices))]
    const own = chosen.includes(other) ? yield* askText(message) : ""
    const answer = [...chosen.filter(Predicate.isString), ...(own === "" ? [] : [own])]
    return answer.length === 0 ? undefined : answer
  })

const askText = (message: string) => run(Prompt.String({ message }))

const other: unique symbol = Symbol("other")
const dismiss: unique symbol = Symbol("dismiss")
