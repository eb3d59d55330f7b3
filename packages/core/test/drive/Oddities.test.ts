/** Leaves out or distorts each field of every recorded event and message in turn. The turn is the same, or its error names the field. */
import * as Events from "#opencode/v1/Events"
import * as Wires from "#opencode/v1/Wire"
import { assert, it } from "@effect/vitest"
import { SessionId } from "@opencode-turn/core/Ids"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import type { Ended, Recording, Told, Wire } from "../support/taped.ts"
import { recordings, runTwice } from "../support/taped.ts"

type Path = ReadonlyArray<string | number>

const odd: ReadonlyArray<readonly [string, unknown]> = [
  ["left out", undefined],
  ["null", null],
  ["a number", 7],
  ["a string", "odd"],
  ["an object", {}],
  ["an empty list", []]
]

const pathsOf = (value: unknown, path: Path = []): ReadonlyArray<Path> => {
  const below = Array.isArray(value)
    ? value.flatMap((entry, index) => pathsOf(entry, [...path, index]))
    : Predicate.isObject(value)
    ? Object.entries(value).flatMap(([key, entry]) => pathsOf(entry, [...path, key]))
    : []
  return path.length === 0 ? below : [path, ...below]
}

const withOdd = (value: unknown, [key, ...rest]: Path, replacement: unknown): unknown => {
  if (key === undefined) return replacement
  if (Array.isArray(value)) {
    return value.flatMap((entry, index) =>
      index !== key
        ? [entry]
        : rest.length === 0 && replacement === undefined
        ? []
        : [withOdd(entry, rest, replacement)]
    )
  }
  if (!Predicate.isObject(value)) return value
  return Object.fromEntries(
    Object.entries(value).map(([name, entry]) => [name, name === key ? withOdd(entry, rest, replacement) : entry])
  )
}

const field = (from: unknown, name: string): unknown =>
  Predicate.isObject(from) && Predicate.hasProperty(from, name) ? from[name] : undefined

/** Names the kind of a field, independent of its recording: the tests take one field of each kind. */
const kindOf = (value: Wire, path: Path): string => {
  const { info, parts, properties } = value
  const part = field(properties, "part") ?? (Array.isArray(parts) ? parts[Number(path[1])] : undefined)
  const about = field(properties, "info") ?? info
  const shape = path.map((key) => (typeof key === "number" ? "*" : key))
  return [
    value["type"],
    field(about, "role"),
    field(about, "error") !== undefined,
    field(part, "type"),
    field(field(part, "state"), "status"),
    field(field(properties, "status"), "type"),
    ...shape
  ].join(" ")
}

/**
 * Whether the turn can notice the odd field. It cannot if the odd message is a valid one: a message with one part less, with a part of a type
 * that a later version may have, with another text, or with another error.
 */
const isNoticed = ({ path, what }: Case): boolean => {
  const key = path.at(-1)
  return !(typeof key === "number" && what === "left out") && !(key === "parts" && what === "an empty list") &&
    !((key === "type" || key === "text" || key === "role") && what === "a string") && path[1] !== "error"
}

interface Case {
  readonly recording: Recording
  readonly told: Told
  readonly name: string
  readonly path: Path
  readonly what: string
  readonly at: number
  /** The other field that is odd. */
  readonly with?: Path
}

/** Two odd values that the client reads as the same value make the same turn. */
const readingOf = {
  events: (value: unknown) => JSON.stringify(Events.decodeEvent(JSON.stringify(value))),
  messages: (value: unknown) => JSON.stringify(Option.getOrUndefined(Wires.toMessage(value, { sessionId: anySession })))
}
const anySession = SessionId.make("ses_any")

const casesOf = (kind: "events" | "messages"): ReadonlyArray<Case> => {
  const kinds = new Set<string>()
  return recordings.flatMap((recording) =>
    recording[kind].flatMap((value, at) => {
      const readings = new Set([readingOf[kind](value)])
      return pathsOf(value).flatMap((path) => {
        const name = kindOf(value, path)
        if (kinds.has(name)) return []
        kinds.add(name)
        return odd.flatMap(([what, replacement]): ReadonlyArray<Case> => {
          const changed = withOdd(value, path, replacement)
          const reading = readingOf[kind](changed)
          if (readings.has(reading)) return []
          readings.add(reading)
          const told = {
            ...recording,
            [kind]: [...recording[kind].slice(0, at), changed, ...recording[kind].slice(at + 1)]
          }
          return [{ recording, told, name: `${recording.name} ${at}: ${path.join(".")} is ${what}`, path, what, at }]
        })
      })
    })
  )
}

/** Draws two odd events of one recording at random, with a fixed seed. */
const pairsOf = (cases: ReadonlyArray<Case>, count: number): ReadonlyArray<Case> => {
  let seed = 1
  const draw = <A>(from: ReadonlyArray<A>): A | undefined => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0
    return from[Math.floor(seed / 2 ** 32 * from.length)]
  }
  return Array.from({ length: count }).flatMap(() => {
    const first = draw(cases)
    if (first === undefined) return []
    const second = draw(cases.filter(({ at, recording }) => recording === first.recording && at !== first.at))
    if (second === undefined) return []
    const events = first.told.events.with(second.at, second.told.events[second.at])
    return [{ ...first, told: { ...first.told, events }, name: `${first.name}, ${second.name}`, with: second.path }]
  })
}

/** A refusal repeats the names of what was refused, and those names are the odd fields. */
const outcome = (turn: TurnResult | undefined) => ({
  status: turn?.status,
  text: turn?.content,
  error: turn?.error?._tag === "Refused" ? turn.error._tag : turn?.error?.message
})

/** The cases whose turn neither ended like the recorded one nor named the odd field, and those whose next turn failed. */
const problemsOf = Effect.fnUntraced(
  function*(cases: ReadonlyArray<Case>, tell: (told: Told) => Told, isNextRun: boolean) {
    const expected = new Map<Recording, Ended>()
    for (const recording of recordings) {
      const ended = yield* runTwice(recording, tell(recording), true)
      assert.isDefined(ended.first, recording.name)
      assert.isDefined(ended.second, recording.name)
      expected.set(recording, ended)
    }
    const problems: Array<unknown> = []
    for (const { name, path, recording, told, with: other = path } of cases) {
      const whole = expected.get(recording)
      const ended = yield* runTwice(recording, tell(told), isNextRun)
      const { error } = ended.first ?? {}
      const keys = [path, other].map((path) => String(path.findLast((key) => typeof key === "string")))
      const isSame = Equal.equals(outcome(ended.first), outcome(whole?.first)) ||
        // If nothing was streamed, the text of a failed turn may be lost. The turn must have failed all the same.
        (tell(told).events.length === 0 && error !== undefined && error.message === whole?.first?.error?.message)
      const isNamed = error?._tag === "DecodeError" && keys.some((key) => error.message.includes(key))
      const isNextSame = !isNextRun || Equal.equals(outcome(ended.second), outcome(whole?.second))
      if (!(isSame || isNamed) || !isNextSame || ended.prompts !== 1) {
        problems.push({ name, first: outcome(ended.first), second: outcome(ended.second), prompts: ended.prompts })
      }
    }
    return problems
  }
)

it.effect("an odd field of an event changes nothing, or the turn's error names it", () =>
  Effect.gen(function*() {
    const cases = casesOf("events")
    assert.isAbove(cases.length, 500)
    assert.deepStrictEqual(yield* problemsOf(cases, (told) => told, false), [])
  }), 600_000)

it.effect(
  "two odd fields of two events change nothing, or the turn's error names one of them",
  () =>
    Effect.gen(function*() {
      const pairs = pairsOf(casesOf("events"), 100)
      assert.isAbove(pairs.length, 80)
      assert.deepStrictEqual(yield* problemsOf(pairs, (told) => told, false), [])
    }),
  600_000
)

it.effect(
  "an odd field of a stored message changes neither its turn nor the next one, or the turn's error names it",
  () =>
    Effect.gen(function*() {
      const cases = casesOf("messages").filter(isNoticed)
      assert.isAbove(cases.length, 200)
      assert.deepStrictEqual(yield* problemsOf(cases, (told) => told, true), [])
    }),
  600_000
)

it.effect(
  "if nothing of the turn was streamed, an odd field of a stored message changes nothing, or the turn's error names it",
  () =>
    Effect.gen(function*() {
      const cases = casesOf("messages").filter(isNoticed)
      // The next turn reads the same messages, so it does not depend on what was streamed of this one.
      assert.deepStrictEqual(yield* problemsOf(cases, ({ messages }) => ({ events: [], messages }), false), [])
    }),
  600_000
)
