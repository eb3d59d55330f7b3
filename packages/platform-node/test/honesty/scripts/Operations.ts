/**
 * Reverts, forks, summaries and instructions of 2.x. `History1x` has those of 1.x, whose routes and results are others.
 */
import type { Step } from "@opencode-turn/testing/ModelScript"
import { Effect } from "effect"
import type { Act, Script, Talk, Words } from "../Script.ts"
import { asArray, field, idOf, textOf } from "../Wire.ts"

export const scripts = ({ shell, write }: Words): ReadonlyArray<Script> => [
  {
    name: "a revert that is undone",
    repository: "read",
    prompt: { steps: [write("made.txt", "a\n"), { text: "Written." }] },
    after: [
      stage,
      send("GET", ""),
      stage,
      send("POST", "/revert/stage", { messageID: "msg_unknown" }),
      send("POST", "/revert/clear", {}),
      idle,
      send("GET", "")
    ],
    ends: ["answered", "answered"],
    chance: ["patch"]
  },
  {
    name: "a revert that the next prompt makes final",
    prompt: { steps: [{ text: "Never said." }] },
    after: [stage, said({ text: "Said." }), send("GET", "")],
    ends: ["answered", "answered"]
  },
  {
    name: "a revert that is made final",
    prompt: { steps: [{ text: "Never said." }] },
    after: [stage, send("POST", "/revert/commit", {}), send("POST", "/revert/commit", {}), send("GET", "/message")]
  },
  {
    name: "a revert while the session works",
    prompt: { steps: [{ text: "one two", gate: "works", gateAfter: 1 }] },
    during: (talk) =>
      Effect.gen(function*() {
        yield* talk.pieces(1)
        yield* stage(talk)
        yield* send("POST", "/revert/clear", {})(talk)
        yield* send("POST", "/revert/commit", {})(talk)
        yield* talk.release("works")
      })
  },
  { name: "a fork", prompt: { steps: [shell("echo one"), { text: "Done." }] }, after: [fork] },
  {
    name: "summaries",
    prompt: { steps: [shell("echo one"), { text: "Done." }] },
    after: [
      again("/compact", { id: "msg_summary_of_one" }),
      send("POST", "/compact", { id: "msg_summary_of_one" }),
      again("/compact"),
      said({ text: "Two." }),
      said({ text: "Three." }),
      again("/compact")
    ],
    ends: Array.from({ length: 6 }, () => "answered")
  },
  {
    name: "a summary by an unknown model",
    prompt: { steps: [{ text: "Done." }] },
    after: [send("POST", "/model", { model: { providerID: "nobody", id: "x" } }), again("/compact")],
    ends: ["answered", "failed"]
  },
  {
    name: "a summary that is ordered twice in the middle of a run",
    prompt: {
      steps: [{ ...shell("echo one"), text: "I look.", gate: "order", gateAfter: 1 }, { text: "Never said." }]
    },
    during: (talk) =>
      Effect.gen(function*() {
        yield* talk.pieces(1)
        yield* send("POST", "/compact", {})(talk)
        yield* send("POST", "/compact", {})(talk)
        yield* talk.release("order")
      })
  },
  {
    name: "a summary that gives nothing",
    prompt: { steps: [{ text: "blank summary", usage: { input: 95_000, output: 5 } }] },
    after: [said({ text: "Never said." })],
    ends: ["answered", "failed"]
  },
  {
    name: "a summary that is stopped",
    prompt: { steps: [{ text: "slow summary", usage: { input: 95_000, output: 5 } }] },
    after: [(talk) =>
      Effect.gen(function*() {
        yield* talk.post({ steps: [{ text: "Never said." }] })
        yield* talk.pieces(1)
        yield* talk.stop()
        yield* talk.release("slow summary")
      })],
    ends: ["answered", "stopped"]
  },
  {
    name: "a summary that the model needs",
    prompt: { steps: [{ text: "One." }] },
    after: [said({ ...shell("echo one"), usage: { input: 95_000, output: 5 } }, { text: "Done." })],
    ends: ["answered", "answered"]
  },
  {
    name: "instructions that change",
    prompt: { steps: [{ text: "One." }] },
    after: [
      send("PUT", "/instructions/entries/a", { value: "Be brief." }),
      send("GET", "/instructions/entries"),
      said({ text: "Two." }),
      said({ text: "Three." }),
      send("PUT", "/instructions/entries/a", { value: { of: "another shape" } }),
      send("DELETE", "/instructions/entries/b"),
      said({ text: "Four." }),
      send("DELETE", "/instructions/entries/a"),
      said({ text: "Five." }),
      send("PUT", "/instructions/entries/a", { value: "x".repeat(8193) })
    ],
    ends: Array.from({ length: 5 }, () => "answered")
  }
]

const send = (...[method, path, body]: Parameters<Talk["send"]>): Act => (talk) =>
  talk.send(method, `/api/session/${talk.sessionId}${path}`, body)

/** Waits until the session is idle. */
const idle: Act = send("POST", "/wait", {})

const again = (path: string, body: object = {}): Act => (talk) =>
  Effect.tap(send("POST", path, body)(talk), () => idle(talk))

/** Prompts again, and waits until the session is idle. */
const said = (...steps: ReadonlyArray<Step>): Act => (talk) => Effect.tap(talk.post({ steps }), () => idle(talk))

/** The first message of the session of this type. */
const firstOf = (talk: Talk, type: string) =>
  Effect.map(
    send("GET", "/message?order=asc&limit=100")(talk),
    (page) => idOf(asArray(field(page, "data")).find((message) => textOf(message, "type") === type))
  )

/** Takes back what the session said from its first prompt on. */
const stage: Act = (talk) =>
  Effect.flatMap(firstOf(talk, "user"), (messageID) => send("POST", "/revert/stage", { messageID })(talk))

/** Forks the session before its last answer, and gives what the fork holds. */
const fork: Act = (talk) =>
  Effect.gen(function*() {
    const messageID = yield* firstOf(talk, "assistant")
    const copy = yield* send("POST", "/fork", { messageID })(talk)
    return [copy, yield* talk.send("GET", `/api/session/${idOf(field(copy, "data"))}/message?order=asc`)]
  })
