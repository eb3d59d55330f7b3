/**
 * A prompt for one or several choices of a list, by number or with the arrow keys.
 *
 * Effect's own `Prompt.Select` does not take numbers, and people answer an agent many times a day.
 */
import { displayWidth } from "effect/cli/CliOutput"
import * as Prompt from "effect/cli/Prompt"
import * as Effect from "effect/Effect"
import * as Terminal from "effect/Terminal"

/** A choice. Its texts are printed unchanged, so make them safe first. */
export interface Choice<A> {
  readonly title: string
  readonly description?: string
  readonly value: A
  /** Whether it cannot be marked together with others. */
  readonly isExclusive?: boolean
}

/** Asks for one choice: by its number, or with the arrow keys and Enter. */
export const one = <A>(message: string, choices: ReadonlyArray<Choice<A>>): Prompt.Prompt<A> =>
  Prompt.map(
    prompt(message, choices, "one"),
    (chosen) => choices.flatMap(({ value }, index) => (chosen.has(index) ? [value] : []))
  ).pipe(Prompt.flatMap(([value]) => value === undefined ? one(message, choices) : Prompt.succeed(value)))

/** Asks for at least one choice. Numbers or the space bar mark choices. Enter takes the marked ones, or else the one at the cursor. */
export const several = <A>(message: string, choices: ReadonlyArray<Choice<A>>): Prompt.Prompt<ReadonlyArray<A>> =>
  Prompt.map(
    prompt(message, choices, "several"),
    (chosen) => choices.flatMap(({ value }, index) => (chosen.has(index) ? [value] : []))
  )

// internal

interface State {
  readonly at: number
  readonly chosen: ReadonlySet<number>
}

const describe = ({ description, title }: Choice<unknown>): string =>
  description === undefined || description === "" ? title : `${title} - ${description}`

const prompt = (
  message: string,
  choices: ReadonlyArray<Choice<unknown>>,
  mode: "one" | "several"
): Prompt.Prompt<ReadonlySet<number>> => {
  const titles = choices.map(describe)
  const frame = (state: State): string =>
    [
      `? ${message}`,
      ...titles.map((title, index) => {
        const mark = mode === "one" ? "" : state.chosen.has(index) ? "☒ " : "☐ "
        return `${index === state.at ? "❯" : " "} ${mark}${index + 1}. ${title}`
      })
    ].join("\n")

  const process = (key: string, state: State): Prompt.Action<State, ReadonlySet<number>> => {
    switch (key) {
      case "up":
      case "k":
        return { _tag: "NextFrame", state: { ...state, at: (state.at + titles.length - 1) % titles.length } }
      case "down":
      case "j":
      case "tab":
        return { _tag: "NextFrame", state: { ...state, at: (state.at + 1) % titles.length } }
      case "space":
        return mode === "one" ? { _tag: "Beep" } : { _tag: "NextFrame", state: toggle(state, state.at, choices) }
      case "enter":
      case "return":
        return { _tag: "Submit", value: state.chosen.size === 0 ? new Set([state.at]) : state.chosen }
      default: {
        const index = Number(key) - 1
        if (!/^[1-9]$/.test(key) || index >= titles.length) return { _tag: "Beep" }
        return mode === "one"
          ? { _tag: "Submit", value: new Set([index]) }
          : { _tag: "NextFrame", state: { ...toggle(state, index, choices), at: index } }
      }
    }
  }

  return Prompt.Custom<State, ReadonlySet<number>>({ at: 0, chosen: new Set() }, {
    render: (state, action) =>
      Effect.succeed(
        action._tag === "Beep"
          ? "\u0007"
          : action._tag === "NextFrame"
          ? frame(action.state)
          : `? ${message} ${titles.filter((_, index) => action.value.has(index)).join(", ")}\n`
      ),
    process: ({ input, key }, state) =>
      // On some terminals digits have no key name.
      Effect.succeed(process(input._tag === "Some" && /^[1-9]$/.test(input.value) ? input.value : key.name, state)),
    clear: (state) =>
      Effect.gen(function*() {
        const terminal = yield* Terminal.Terminal
        return eraseFrame(frame(state), yield* terminal.columns)
      })
  })
}

const toggle = (state: State, index: number, choices: ReadonlyArray<Choice<unknown>>): State => {
  const others = [...state.chosen].filter((chosen) => chosen !== index)
  if (state.chosen.has(index)) return { ...state, chosen: new Set(others) }
  const isExclusive = (at: number) => choices[at]?.isExclusive === true
  return { ...state, chosen: new Set([...others.filter((at) => !isExclusive(at) && !isExclusive(index)), index]) }
}

/** Moves to the start of the frame above the cursor, and erases everything after it. */
const eraseFrame = (frame: string, columns: number): string => {
  const rows = frame.split("\n").reduce(
    (rows, line) => rows + (columns === 0 ? 1 : Math.max(1, Math.ceil(displayWidth(line) / columns))),
    0
  )
  return `\r${rows > 1 ? `\u001b[${rows - 1}A` : ""}\u001b[J`
}
