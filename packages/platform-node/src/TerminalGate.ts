/**
 * A human gate that asks the person at the terminal, with the arrow keys or by number.
 *
 * **Responsibilities**: one prompt at a time, in the order in which is asked; what is asked in full and made safe for a terminal;
 * the answers. A prompt goes away when somebody else answers first.
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
import * as ChoicePrompt from "./internal/ChoicePrompt.ts"
import { line, sanitize } from "./internal/TerminalText.ts"

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
      alone(ask, prompt(ask, { isSubagent: ask.sessionId !== asking.sessionId })).pipe(
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
 * Asks the person at the terminal once. Ctrl-C fails with `QuitError`.
 *
 * @category asking
 * @since 0.1.0
 */
export const prompt = (
  ask: Ask,
  options?: { readonly isSubagent?: boolean | undefined }
): Effect.Effect<Answer, Terminal.QuitError, Prompt.Environment> => {
  const who = options?.isSubagent === true ? "a subagent asks: " : ""
  return ask._tag === "Permission" ? askPermission(ask, who) : askQuestions(ask, who)
}

// internal

type Asking<A = Answer> = Effect.Effect<A, Terminal.QuitError, Prompt.Environment>

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
    yield* Effect.orDie(terminal.display(describe(ask)))
    const always = ask.always.map(line).join(", ")
    const reply = yield* Prompt.run(ChoicePrompt.one<"once" | "always" | "reject" | "explain">(
      `${who}Allow ${line(ask.permission)}?`,
      [
        { title: "Once", value: "once" },
        { title: "Always", description: always === "" ? "for this server" : `from now on: ${always}`, value: "always" },
        {
          title: "Reject",
          description: who === "" ? "the turn ends here" : "the subagent ends here",
          value: "reject"
        },
        { title: "Reject and explain", description: "the agent goes on with what you say", value: "explain" }
      ]
    ))
    if (reply !== "explain") return { _tag: "Permission", reply: { reply } }
    const message = yield* Prompt.run(Prompt.String({ message: "What should it do instead?" }))
    return { _tag: "Permission", reply: message === "" ? { reply: "reject" } : { reply: "reject", message } }
  })

/** The whole of what would be allowed: a line that is cut hides what stands behind the cut. */
const describe = ({ metadata, patterns }: PermissionAsk): string => {
  const { diff } = metadata
  return [...patterns, ...(Predicate.isString(diff) ? [diff] : [])]
    .map((text) => `${sanitize(text).trimEnd().replaceAll(/^/gm, "  ")}\n`)
    .join("")
}

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
    if (question.multiple) {
      const labels = yield* Prompt.run(ChoicePrompt.several<string | typeof other>(message, [
        ...options,
        ...(freeText ? [{ title: "Something else…", value: other } as const] : [])
      ]))
      const own = labels.includes(other) ? yield* askText(message) : ""
      const chosen = [...labels.filter(Predicate.isString), ...(own === "" ? [] : [own])]
      return chosen.length === 0 ? undefined : chosen
    }
    const label = yield* Prompt.run(ChoicePrompt.one<string | typeof other | typeof dismiss>(message, [
      ...options,
      ...(freeText ? [{ title: "Something else…", value: other } as const] : []),
      { title: "Do not answer", description: "the turn ends here", value: dismiss }
    ]))
    if (label === dismiss) return undefined
    if (label !== other) return [label]
    const own = yield* askText(message)
    return own === "" ? undefined : [own]
  })

const askText = (message: string) => Prompt.run(Prompt.String({ message }))

const other: unique symbol = Symbol("other")
const dismiss: unique symbol = Symbol("dismiss")
