/**
 * Reads the flags of `run` that hold a name and a value: `--tool bash=false`, `--metadata ticket=42`.
 */
import * as Effect from "effect/Effect"
import { line } from "../../terminal/TerminalText.ts"
import { type Failure, usage } from "./Failure.ts"

/** The tools of `--tool`, in their order; `undefined` without any. */
export const readTools = Effect.fnUntraced(function*(
  texts: ReadonlyArray<string>
): Effect.fn.Return<Readonly<Record<string, boolean>> | undefined, Failure> {
  const tools: Array<readonly [string, boolean]> = []
  for (const [name, value, text] of yield* readPairs("--tool", "NAME=false or NAME=true", texts)) {
    if (value !== "true" && value !== "false") return yield* malformed("--tool", "NAME=false or NAME=true", text)
    tools.push([name, value === "true"])
  }
  return tools.length === 0 ? undefined : Object.fromEntries(tools)
})

/** The metadata of `--metadata`; `undefined` without any. */
export const readMetadata = Effect.fnUntraced(function*(
  texts: ReadonlyArray<string>
): Effect.fn.Return<Readonly<Record<string, string>> | undefined, Failure> {
  const pairs = yield* readPairs("--metadata", "KEY=VALUE", texts)
  if (pairs.some(([key]) => key === "conversationId")) {
    return yield* usage("--metadata cannot set conversationId: the turn writes it there itself")
  }
  return pairs.length === 0 ? undefined : Object.fromEntries(pairs.map(([key, value]) => [key, value]))
})

// internal

type Pair = readonly [name: string, value: string, text: string]

/** A later value would move a name to the place of the earlier one, so that a name may stand only once. */
const readPairs = Effect.fnUntraced(function*(
  flag: string,
  form: string,
  texts: ReadonlyArray<string>
): Effect.fn.Return<ReadonlyArray<Pair>, Failure> {
  const pairs: Array<Pair> = []
  for (const text of texts) {
    const at = text.indexOf("=")
    const name = text.slice(0, Math.max(0, at)).trim()
    if (name === "") return yield* malformed(flag, form, text)
    if (pairs.some(([known]) => known === name)) {
      return yield* usage(`${flag} names ${JSON.stringify(line(name))} twice: give it one value`)
    }
    pairs.push([name, text.slice(at + 1), text])
  }
  return pairs
})

const malformed = (flag: string, form: string, text: string): Failure =>
  usage(`${flag} does not have the form ${form}: ${JSON.stringify(line(text))}`)
