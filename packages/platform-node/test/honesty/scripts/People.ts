/**
 * What people are asked, and what they answer.
 */
import { Effect } from "effect"
import type { Question, Script, Talk, Words } from "../Script.ts"

const colour: Question = {
  question: "Which colour?",
  header: "Colour",
  options: [{ label: "Red", description: "warm" }, { label: "Blue", description: "cold" }]
}

const allowing = (how: "always" | "once") => ({ allow, permission }: Talk) =>
  Effect.flatMap(permission, (ask) => allow(ask, how))

const refusing = (message?: string) => ({ permission, refuse }: Talk) =>
  Effect.flatMap(permission, (ask) => refuse(ask, message))

export const scripts = ({ ask, fetch, read, shell, write }: Words): ReadonlyArray<Script> => [
  {
    name: "a permission that is given once",
    prompt: { steps: [shell("echo asked"), { text: "Ran." }] },
    during: allowing("once")
  },
  {
    name: "a permission that is given for good",
    prompt: { steps: [shell("printf always"), shell("printf always"), { text: "Ran." }] },
    during: allowing("always")
  },
  {
    name: "a permission that is refused",
    prompt: { steps: [shell("echo asked"), { text: "Never said." }] },
    during: refusing(),
    ends: ["refused"]
  },
  {
    name: "a permission that is refused with a reason",
    prompt: { steps: [shell("echo asked"), { text: "Then not." }] },
    during: refusing("use ls")
  },
  {
    name: "a permission of an agent",
    agent: "asker",
    prompt: { steps: [shell("echo hi"), { text: "Ran." }] },
    during: allowing("once")
  },
  {
    name: "a permission for a page of the web",
    prompt: { steps: [fetch("http://127.0.0.1:9/"), { text: "Then not." }] },
    during: refusing("no")
  },
  {
    name: "a permission to write",
    repository: "written",
    prompt: { steps: [write("asked/last.txt", "a\nb\n"), { text: "Written." }] },
    during: allowing("once")
  },
  {
    name: "a file outside the folder",
    prompt: { steps: [read("/etc/hostname"), { text: "Then not." }] },
    during: refusing("no")
  },
  {
    name: "a script of several commands",
    agent: "asker",
    prompt: {
      steps: [shell("echo a && git status --short || echo b | head -1; echo a"), { text: "Then not." }]
    },
    during: refusing("no")
  },
  {
    name: "one of two calls that is refused",
    prompt: { steps: [{ ...shell("echo asked"), tools: [shell("sleep 1")] }, { text: "Never said." }] },
    during: refusing(),
    ends: ["refused"],
    isRacy: true
  },
  {
    name: "two permissions of which the first is refused with a reason",
    agent: "asker",
    prompt: { steps: [{ ...shell("echo a"), tools: [shell("echo b")] }, { text: "Never said." }] },
    during: ({ permission, refuse }) =>
      Effect.flatMap(Effect.replicateEffect(permission, 2), ([first = none]) => refuse(first, "use ls")),
    ends: ["refused"]
  },
  ...(["not a", undefined] as const).map((message): Script => ({
    name: `two permissions of which one is given before the other is refused ${
      message === undefined ? "without" : "with"
    } a reason`,
    agent: "asker",
    prompt: { steps: [{ ...shell("echo a"), tools: [shell("echo b")] }, { text: "Then not." }] },
    during: ({ allow, called, permission, refuse }) =>
      Effect.gen(function*() {
        // 2.x asks for them in any order.
        const asked = yield* Effect.replicateEffect(permission, 2)
        const [first = none, second = none] = asked.toSorted((one, other) => (one.about < other.about ? -1 : 1))
        yield* allow(second, "once")
        yield* called
        yield* refuse(first, message)
      }),
    ends: [message === undefined ? "refused" : "answered"],
    isRacy: "2.x"
  })),
  {
    name: "three permissions of which one is given for good",
    agent: "asker",
    prompt: { steps: [{ ...shell("true a"), tools: [shell("true b"), shell("ls -a")] }, { text: "Never said." }] },
    during: ({ allow, permission, refuse }) =>
      Effect.gen(function*() {
        const [first = none, , third = none] = yield* Effect.replicateEffect(permission, 3)
        yield* allow(first, "always")
        yield* refuse(third)
      }),
    ends: ["refused"],
    isRacy: true
  },
  {
    name: "a permission that is refused while a question stays open",
    agent: "asker",
    prompt: { steps: [{ ...shell("echo a"), tools: [ask(colour)] }, { text: "I see." }] },
    during: ({ answer, asks, refuse }) =>
      Effect.gen(function*() {
        const { permission, question } = yield* asks
        yield* refuse(permission, "not a")
        yield* answer(question, [["Red"]])
      }),
    isRacy: "2.x"
  },
  {
    name: "a question",
    prompt: { steps: [ask(colour), { text: "Red it is." }] },
    during: ({ answer, question }) => Effect.flatMap(question, (asked) => answer(asked, [["Red"]]))
  },
  {
    name: "questions with several, without and with other answers",
    prompt: {
      steps: [ask({ ...colour, multiple: true }, colour, { ...colour, options: [] }), { text: "All answered." }]
    },
    during: ({ answer, question }) =>
      Effect.flatMap(question, (asked) => answer(asked, [["Red", "Blue"], [], ["Green, or so"]]))
  },
  ...(["answer", "dismiss"] as const).map((end): Script => ({
    name: `the state of a question before and after its ${end}`,
    prompt: { steps: [ask(colour), { text: "Done." }] },
    during: ({ answer, dismiss, question, send }) =>
      Effect.gen(function*() {
        const asked = yield* question
        const form = `/api/session/${asked.sessionId}/form/${asked.id}`
        const show = Effect.forEach([form, `${form}/state`], (path) => send("GET", path))
        const before = yield* show
        yield* end === "answer" ? answer(asked, [["Red"]]) : dismiss(asked)
        return [before, yield* show]
      }),
    isSaid: true,
    ends: [end === "answer" ? "answered" : "refused"]
  })),
  {
    name: "a question that is dismissed",
    prompt: { steps: [ask(colour), { text: "Never said." }] },
    during: ({ dismiss, question }) => Effect.flatMap(question, dismiss),
    ends: ["refused"]
  },
  {
    name: "a question with surplus answers",
    prompt: {
      steps: [
        ask(...["One?", "Many?", "None?", "Empty?"].map((question) => ({
          question,
          header: "Pick",
          multiple: true,
          options: []
        }))),
        { text: "All answered." }
      ]
    },
    during: ({ answer, question }) =>
      Effect.flatMap(question, (asked) => answer(asked, [["A"], ["B", "C"], [], [""], ["surplus"]]))
  }
]

/** What is asked when less is asked than a script says. */
const none = { id: "none", sessionId: "none", about: "" }
