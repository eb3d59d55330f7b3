/**
 * A `HumanGate` that asks the person at the terminal.
 *
 * *Responsibilities*: one prompt at a time, what is asked in full and made safe for a terminal, the answers.
 *
 * *Not responsibilities*: which tools ask at all (`Permissions`), the turn's other output.
 */
import type { Answer, Ask, PermissionAsk, Question, QuestionAsk } from "@opencode-turn/core/Ask"
import type { Gate } from "@opencode-turn/core/HumanGate"
import * as Prompt from "effect/cli/Prompt"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import type { QuitError } from "effect/Terminal"
import * as ChoicePrompt from "./ChoicePrompt.ts"
import { line, sanitize } from "./TerminalText.ts"

/** What the gate needs besides a terminal. */
export interface Options {
  /** Gives the terminal to an ask alone, once all that came before it is shown. */
  readonly alone: <A, E, R>(ask: Ask, effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  readonly print: (text: string) => Effect.Effect<void>
  /** What Ctrl-C means while a prompt reads the keys. */
  readonly onQuit: Effect.Effect<void>
}

/** The gate of the terminal. */
export const make = (options: Options): Effect.Effect<Gate, never, Prompt.Environment> =>
  Effect.contextWith((context) =>
    Effect.succeed((ask) =>
      options.alone(
        ask,
        ask._tag === "Permission" ? askPermission(ask, options.print) : askQuestions(ask)
      ).pipe(
        Effect.catchTag("QuitError", () => Effect.andThen(options.onQuit, Effect.never)),
        Effect.provideContext(context)
      )
    )
  )

// internal

type Asking = Effect.Effect<Answer, QuitError, Prompt.Environment>

const askPermission = (ask: PermissionAsk, print: Options["print"]): Asking =>
  Effect.gen(function*() {
    yield* print(describe(ask))
    const always = ask.always.map(line).join(", ")
    const reply = yield* Prompt.run(ChoicePrompt.one<"once" | "always" | "reject" | "explain">(
      `Allow ${line(ask.permission)}?`,
      [
        { title: "Once", value: "once" },
        { title: "Always", description: always === "" ? "for this server" : `from now on: ${always}`, value: "always" },
        { title: "Reject", description: "the turn ends here", value: "reject" },
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

const askQuestions = (ask: QuestionAsk): Asking =>
  Effect.gen(function*() {
    const answers: Array<ReadonlyArray<string>> = []
    for (const question of ask.questions) {
      const answer = yield* askQuestion(question)
      if (answer === undefined) return { _tag: "Reject" }
      answers.push(answer)
    }
    return { _tag: "Answers", answers }
  })

/** The labels chosen, or `undefined` for a question that is not to be answered. */
const askQuestion = (
  question: Question
): Effect.Effect<ReadonlyArray<string> | undefined, QuitError, Prompt.Environment> =>
  Effect.gen(function*() {
    const message = line(question.question)
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
