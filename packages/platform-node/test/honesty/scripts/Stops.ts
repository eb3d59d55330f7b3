/**
 * What is stopped, and when.
 */
import { Effect } from "effect"
import type { Script, Words } from "../Script.ts"

const colour = { question: "Which?", header: "Pick", options: [{ label: "A", description: "first" }] }

export const scripts = ({ ask, read, shell, subagent }: Words): ReadonlyArray<Script> => [
  {
    name: "a stop of a model that hangs",
    prompt: { steps: [{ text: "some partial words", ending: "hang" }] },
    during: ({ pieces, stop }) => Effect.andThen(pieces(3), stop()),
    ends: ["stopped"]
  },
  {
    name: "a stop in the middle of a text",
    prompt: { steps: [{ text: "one two three", gate: "stop", gateAfter: 2 }] },
    during: ({ pieces, release, stop }) => Effect.all([pieces(2), stop(), release("stop")]),
    ends: ["stopped"]
  },
  {
    name: "a stop of a command",
    prompt: { steps: [shell("echo up; sleep 60"), { text: "Never said." }] },
    during: ({ printed, stop }) => Effect.andThen(printed("up"), stop()),
    ends: ["stopped"]
  },
  {
    name: "a stop of a command in a repository",
    repository: "read",
    prompt: { steps: [shell("echo up; sleep 60"), { text: "Never said." }] },
    during: ({ printed, stop }) => Effect.andThen(printed("up"), stop()),
    ends: ["stopped"]
  },
  {
    name: "a stop of a permission",
    prompt: { steps: [shell("echo asked"), { text: "Never said." }] },
    during: ({ permission, stop }) => Effect.andThen(permission, stop()),
    ends: ["stopped"]
  },
  {
    name: "a stop of a question",
    prompt: { steps: [ask(colour), { text: "Never said." }] },
    during: ({ question, stop }) => Effect.andThen(question, stop()),
    ends: ["stopped"]
  },
  {
    name: "a stop of a retry",
    prompt: { steps: [{ fail: 500, headers: { "retry-after-ms": "60000" } }, { text: "Never said." }] },
    during: ({ retried, stop }) => Effect.andThen(retried, stop()),
    ends: ["stopped"],
    told1x: { idles: 1, errors: 0 }
  },
  {
    name: "a stop while a subagent works",
    prompt: { steps: [subagent([{ text: "child hangs", ending: "hang" }]), { text: "Never said." }] },
    during: ({ pieces, stop }) => Effect.andThen(pieces(2), stop()),
    ends: ["stopped"]
  },
  {
    name: "a stop while a subagent runs a command",
    // A fast answer of the model would sometimes be complete before the abort reaches the turn of 1.x.
    prompt: {
      steps: [
        subagent([shell("echo up; sleep 60"), { text: "Never said." }]),
        { text: "Never said.", delayMillis: 10_000 }
      ]
    },
    during: ({ printed, stop }) => Effect.andThen(printed("up"), stop()),
    ends: ["stopped"],
    told1x: { idles: 1, errors: 0 },
    isRacy: "1.x"
  },
  {
    name: "a stop while a subagent asks, and the answer to what is still asked",
    prompt: {
      steps: [
        subagent([read("/etc/hostname"), { text: "Never said." }]),
        { text: "Never said.", delayMillis: 10_000 }
      ]
    },
    during: ({ permission, refuse, stop }) =>
      Effect.gen(function*() {
        const asked = yield* permission
        yield* stop()
        yield* refuse(asked)
      }),
    ends: ["stopped"],
    told1x: { idles: 1, errors: 0 },
    isRacy: true
  },
  {
    name: "a stop of a subagent",
    prompt: { steps: [subagent([{ text: "child hangs", ending: "hang" }]), { text: "Parent done." }] },
    during: ({ children, pieces, stop }) =>
      Effect.gen(function*() {
        yield* pieces(2)
        const [child] = yield* children
        yield* stop(child)
      })
  }
]
