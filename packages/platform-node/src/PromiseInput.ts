/**
 * Checks what a program gives to the Promise API, which a program without types may get wrong.
 *
 * **Not responsibilities**: what the turn itself checks, such as ids and budgets, and what `LiveLayer` checks, such as URLs.
 */
import { Answer, PermissionRule } from "@opencode-turn/core/Ask"
import { idFlaw } from "@opencode-turn/core/Ids"
import { PromptPart } from "@opencode-turn/core/Prompt"
import { InvalidInput } from "@opencode-turn/core/TurnError"
import type { Budget } from "@opencode-turn/core/TurnPolicy"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import { InvalidConfig } from "./live/LiveLayer.ts"

/** What a value must be. An object with `fields` has no others. */
export interface Check {
  readonly isFit: (value: unknown) => boolean
  readonly expected: string
  readonly fields?: Readonly<Record<string, Check>>
}

/** What each option must be; an option without a check does not compile. */
export type Checks<A> = { readonly [K in keyof Required<A> & string]: Check }

/** Checks the options of `openTurns`. No reason repeats a value, which may be a secret. */
export const checkOpen = <A>(options: A, checks: Checks<A>): Effect.Effect<void, InvalidConfig> => {
  const flaw = flawOf(options, checks)
  if (flaw !== undefined) {
    return Effect.fail(new InvalidConfig({ setting: flaw.field, reason: flaw.reason.replace(/^it /, "") }))
  }
  const baseUrl = Predicate.hasProperty(options, "baseUrl") ? String(options.baseUrl) : ""
  const url = URL.canParse(baseUrl) ? new URL(baseUrl) : undefined
  return url === undefined || (url.username === "" && url.password === "")
    ? Effect.void
    : Effect.fail(
      new InvalidConfig({
        setting: "baseUrl",
        reason: "holds a user name or a password, which messages may show: give the password as password instead"
      })
    )
}

/** Checks the options of a turn. */
export const checkTurn = <A>(options: A, checks: Checks<A>): Effect.Effect<void, InvalidInput> =>
  failing(flawOf(options, checks, ["conversation", "prompt"]))

/** Checks the id of a message or an ask. */
export const checkId = (field: string, id: unknown): Effect.Effect<void, InvalidInput> => {
  const reason = typeof id === "string" ? idFlaw(id) : "it is not a text"
  return failing(reason === undefined ? undefined : { field, reason })
}

/** Checks the answer to an ask. */
export const checkAnswer = (answer: unknown): Effect.Effect<void, InvalidInput> =>
  failing(
    isAnswer(answer)
      ? undefined
      : { field: "answer", reason: "it is none: its _tag is Permission, Answers or Reject, each with its fields" }
  )

/** Checks the options of `attach`. */
export const checkAttach = (options: unknown): Effect.Effect<void, InvalidInput> =>
  failing(flawOf(options ?? {}, { from: text }))

/** Checks the options of `fork`. */
export const checkFork = (options: unknown): Effect.Effect<void, InvalidInput> =>
  failing(flawOf(options, { conversation: text, at: text, into: text }, ["conversation", "into"]))

/** Checks the options of `compact`. */
export const checkCompact = (options: unknown): Effect.Effect<void, InvalidInput> =>
  failing(flawOf(options, { model: text, signal }))

/** Checks the filter of `pendingAsks`. */
export const checkFilter = (filter: unknown): Effect.Effect<void, InvalidInput> =>
  failing(flawOf(filter, { conversation: text, messageId: text, limit: number }))

/** Checks an age in milliseconds. */
export const checkAge = (field: string, age: unknown): Effect.Effect<void, InvalidInput> =>
  failing(
    typeof age === "number" && Number.isFinite(age) && age >= 0
      ? undefined
      : { field, reason: "it is not a number of milliseconds from 0 on, such as 30 * 24 * 60 * 60 * 1000" }
  )

// internal

interface Flaw {
  readonly field: string
  readonly reason: string
}

const failing = (flaw: Flaw | undefined): Effect.Effect<void, InvalidInput> =>
  flaw === undefined ? Effect.void : Effect.fail(new InvalidInput(flaw))

/** The first flaw of an object: a field that cannot be used, at any depth, or one that nobody would read. */
const flawOf = (
  options: unknown,
  checks: Readonly<Record<string, Check>>,
  required: ReadonlyArray<string> = []
): Flaw | undefined => {
  if (!Predicate.isObject(options)) return { field: "options", reason: "it is not an object" }
  for (const [field, { expected, fields, isFit }] of Object.entries(checks)) {
    const value = Predicate.hasProperty(options, field) ? options[field] : undefined
    if (value === undefined && !required.includes(field)) continue
    if (!isFit(value)) {
      return { field, reason: value === undefined ? `it is missing: give ${expected}` : `it is not ${expected}` }
    }
    const inside = fields && flawOf(value, fields)
    if (inside !== undefined) return { ...inside, field: `${field}.${inside.field}` }
  }
  const unknown = Object.entries(options).find(([field, value]) => value !== undefined && !Object.hasOwn(checks, field))
  return unknown && { field: unknown[0], reason: `it is not known, only ${Object.keys(checks).join(", ")}` }
}

/** A field that a schema does not have may be a misspelled one. */
const isExactly = <A>(schema: Schema.Schema<A>) => {
  const decode = Schema.decodeUnknownOption(Schema.toType(schema), { onExcessProperty: "error" })
  return (value: unknown): boolean => Option.isSome(decode(value))
}

const isAnswer = isExactly(Answer)

const text: Check = { isFit: Predicate.isString, expected: "a text" }
const flag: Check = { isFit: Predicate.isBoolean, expected: "true or false" }
const object: Check = { isFit: Predicate.isObject, expected: "an object" }
const callback: Check = { isFit: Predicate.isFunction, expected: "a function" }
const count: Check = {
  isFit: (value) => value === Infinity || (typeof value === "number" && Number.isInteger(value) && value >= 0),
  expected: "a whole number from 0 on"
}
const number: Check = {
  isFit: (value) => typeof value === "number" && Number.isSafeInteger(value) && value > 0,
  expected: "a whole number above 0"
}
const positive: Check = {
  isFit: (value) => typeof value === "number" && value > 0,
  expected: "a number above 0"
}
const signal: Check = { isFit: (value) => value instanceof AbortSignal, expected: "an AbortSignal" }
const oneOf = (...words: ReadonlyArray<string>): Check => ({
  isFit: (value) => typeof value === "string" && words.includes(value),
  expected: `one of ${words.join(", ")}`
})
const listOf = (isFit: (value: unknown) => boolean, expected: string): Check => ({
  isFit: (value) => Array.isArray(value) && value.every(isFit),
  expected
})

/** Whether it is in range, the turn checks. */
const amount: Check = { isFit: Predicate.isNumber, expected: "a number" }
const span = Schema.optionalKey(Schema.UndefinedOr(Schema.Finite))
const isTime = isExactly(Schema.Union([
  Schema.BigInt,
  Schema.Duration,
  Schema.String.check(
    Schema.isPattern(/^(?:-?\d+(?:\.\d+)? +(?:nano|micro|milli|second|minute|hour|day|week)s?|-?Infinity)$/)
  ),
  Schema.Tuple([Schema.Finite, Schema.Finite]),
  Schema.Struct({
    weeks: span,
    days: span,
    hours: span,
    minutes: span,
    seconds: span,
    milliseconds: span,
    microseconds: span,
    nanoseconds: span
  })
]))
/** The forms of `Duration.Input`. */
const time: Check = {
  isFit: (value) => Predicate.isNumber(value) || isTime(value),
  expected: "a time: a number of milliseconds, or a text such as 30 minutes"
}

const budgetChecks = {
  wallClock: time,
  cost: amount,
  tokens: amount,
  modelRetries: amount,
  steps: amount,
  stall: time,
  openAsks: amount,
  subagents: amount,
  messages: amount,
  parts: amount
} satisfies Checks<Budget>

const policyChecks = {
  budget: { ...object, fields: budgetChecks },
  whenBusy: oneOf("queue", "reject", "replace"),
  maxQueued: count,
  onInterrupt: oneOf("cancel", "release"),
  onLostSession: oneOf("resendIfUntouched", "resend", "fail"),
  allowSilent: flag,
  outputRepairs: count,
  refusalRepairs: count,
  maxIdleSteps: count,
  maxAttachmentBytes: count,
  fallbackContent: text,
  cancelledContent: text,
  traceDetail: oneOf("turn", "pipeline", "statements"),
  traceContent: {
    isFit: (value) => Predicate.isBoolean(value) || Predicate.isFunction(value),
    expected: "true, false or a function"
  }
} satisfies Record<string, Check>

/** What `checkOpen` checks. */
export const openChecks = {
  ...policyChecks,
  baseUrl: text,
  password: text,
  directory: text,
  workspace: text,
  database: text,
  requestTimeoutMillis: positive,
  gate: {
    isFit: (value) => Predicate.isFunction(value) || oneOf("deny", "allow", "store").isFit(value),
    expected: "one of deny, allow, store, or a function"
  },
  worker: flag,
  telemetry: flag
} satisfies Record<string, Check>

const isPromptPart = isExactly(PromptPart)

/** What `checkTurn` checks. */
export const turnChecks = {
  ...policyChecks,
  conversation: text,
  prompt: {
    isFit: (value) => typeof value === "string" || listOf(isPromptPart, "").isFit(value),
    expected: "a text, or a list of prompt parts"
  },
  messageId: text,
  agent: text,
  model: text,
  variant: text,
  system: text,
  tools: {
    isFit: Schema.is(Schema.Record(Schema.String, Schema.Boolean)),
    expected: "an object of true and false under the names of tools"
  },
  title: text,
  metadata: { isFit: Schema.is(Schema.Record(Schema.String, Schema.Json)), expected: "an object of JSON values" },
  permission: listOf(isExactly(PermissionRule), "a list of rules, each with permission, pattern and action alone"),
  output: { isFit: (value) => Predicate.isObject(value) || Predicate.isFunction(value), expected: "a schema" },
  onUpdate: callback,
  onFinalized: callback,
  onActivityTick: callback,
  signal
} satisfies Record<string, Check>
