/**
 * A human gate that asks the person at the terminal, with the arrow keys or by number.
 *
 * **Responsibilities**: showing one prompt at a time, in the order of the asks; showing each ask in full, safe for a terminal, with the
 * subagent that asks; reading the answers. A prompt ends when somebody else answers first.
 *
 * **Not responsibilities**: deciding what is asked (`TurnInput.permission` and OpenCode's own rules); the turn's other output, which
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
 * The options of a gate at the terminal.
 *
 * **Details**
 *
 * - `alone` gives the terminal to one ask, for example after ending an unfinished line. Without it, prompts only wait for each other.
 * - `onQuit` handles Ctrl-C while a prompt reads the keys. The prompt then keeps the signal from this process; by default the gate sends
 *   the signal. The ask stays unanswered.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly alone?: (<A, E, R>(ask: Ask, effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>) | undefined
  readonly onQuit?: Effect.Effect<void> | undefined
}

/**
 * Makes the gate over the terminal of the context.
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
 * The gate at the terminal of this process. Without a terminal on standard input or output, the gate is `HumanGate.deny`.
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
 * Asks the person at the terminal once. `subagent` is the subagent that asks. Ctrl-C fails with `QuitError`.
 *
 * **Details**
 *
 * Afterwards the cursor is at the beginning of a line, however the prompt ends.
 *
 * @category asking
 * @since 0.1.0
 */
export const prompt = (
  ask: Ask,
  options?: { readonly subagent?: HumanGate.Asking["subagent"] }
): Effect.Effect<Answer, Terminal.QuitError, Prompt.Environment> => {
  const who = options?.subagent === undefined ? "" : `${describeAsker(options.subagent)} asks: `
  return Effect.updateService(
    ask._tag === "Permission" ? askPermission(ask, who) : askQuestions(ask, who),
    Terminal.Terminal,
    withoutFailures
  )
}

// internal

type Asking<A = Answer> = Effect.Effect<A, Terminal.QuitError, Prompt.Environment>

const subagentOf = (ask: Ask, { sessionId, subagent }: HumanGate.Asking): HumanGate.Asking["subagent"] =>
  ask.sessionId === sessionId ? undefined : subagent ?? unknownSubagent

/** Ignores failed output, which `Prompt` would turn into a defect: a closed terminal also ends the input, and so the prompt. */
const withoutFailures = (terminal: Terminal.Terminal): Terminal.Terminal =>
  Terminal.make({ ...terminal, display: (text) => Effect.ignore(terminal.display(text)) })

/** Ends the line of a prompt that was left, because its cursor stays behind the last choice. */
const run = <A>(prompt: Prompt.Prompt<A>): Asking<A> =>
  Effect.onError(
    Prompt.run(prompt),
    () => Effect.flatMap(Terminal.Terminal, (terminal) => Effect.ignore(terminal.display("\n")))
  )

/** Escape does not stop a turn, because people press it to leave a list. */
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
    yield* Effect.ignore(terminal.display(describePermission(ask)))
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

/** The chosen labels, or `undefined` if the person declines to answer. */
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
