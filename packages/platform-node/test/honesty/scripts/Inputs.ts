/**
 * What is posted: prompts again, prompts of a busy session, files and mentions.
 */
import { Effect } from "effect"
import type { File, Prompt, Script, Words } from "../Script.ts"

/** An image of one pixel. */
const png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

const steps: Prompt["steps"] = [{ text: "Read." }]

const withFiles = (name: string, ...files: ReadonlyArray<File>): Script => ({ name, prompt: { steps, files } })

export const scripts = ({ shell }: Words): ReadonlyArray<Script> => [
  {
    name: "a prompt that is posted again when it is answered",
    prompt: once,
    during: ({ ended, post }) => Effect.andThen(ended, post(once)),
    ends: ["answered", "answered"]
  },
  {
    name: "a prompt that is posted again while it is answered",
    prompt: held,
    during: ({ pieces, post, release, stored }) => Effect.all([pieces(2), post(held), stored, release("held")])
  },
  {
    name: "a prompt that is posted again while it is answered, and afterwards",
    prompt: heldAgain,
    during: ({ ended, pieces, post, release, stored }) =>
      Effect.all([pieces(2), post(heldAgain), stored, release("held again"), ended, post(heldAgain)]),
    ends: ["answered", "answered"]
  },
  {
    name: "a prompt while another one is answered",
    prompt: { steps: [{ text: "One.", gate: "first" }] },
    during: ({ pieces, post, release, stored }) =>
      Effect.all([pieces(1), post({ steps: [{ text: "Two." }] }), stored, release("first")])
  },
  {
    name: "a prompt for later and one for now",
    prompt: { steps: [shell("sleep 1"), { text: "Never said." }] },
    during: ({ post, printed }) =>
      Effect.all([
        printed(""),
        post({ steps: [{ text: "Later." }], fields: { delivery: "queue" } }),
        post({ steps: [{ text: "Now." }] })
      ])
  },
  ...Object.entries({
    "a stop while a prompt waits, which is posted again": { text: "one two", gate: "parked", gateAfter: 1 },
    "a stop between two tries of the model while a prompt waits, which is posted again": {
      fail: 500,
      headers: { "retry-after-ms": "60000" }
    }
  }).map(([name, step], index): Script => ({
    name,
    prompt: { steps: [step] },
    during: ({ ended, pieces, post, release, retried, send, sessionId, stop }) =>
      Effect.gen(function*() {
        const parked = waiting(4 + index)
        yield* "fail" in step ? retried : pieces(1)
        yield* post(parked)
        yield* stop()
        yield* ended
        yield* release("parked")
        const pending = yield* send("GET", `/api/session/${sessionId}/pending`)
        yield* post(parked)
        return pending
      }),
    isSaid: true,
    ends: ["stopped", "answered"]
  })),
  {
    name: "a failure while a prompt waits, which is posted again",
    prompt: { steps: [shell("sleep 1"), { fail: 400 }] },
    during: ({ ended, post, printed }) =>
      Effect.gen(function*() {
        yield* printed("")
        yield* post(waiting(6))
        yield* ended
        yield* post(waiting(6))
      }),
    ends: ["failed", "answered"]
  },
  {
    name: "an input that no person wrote",
    prompt: { steps: [{ text: "One." }, { text: "Two." }] },
    during: ({ ended, send, sessionId }) =>
      Effect.andThen(
        ended,
        send("POST", `/api/session/${sessionId}/synthetic`, { text: "Go on.", description: "on" })
      ),
    ends: ["answered", "answered"]
  },
  {
    name: "files of the folder in the prompt",
    repository: "read",
    prompt: (directory) => ({
      steps,
      files: [
        { mime: "text/plain", name: "old.txt", url: `file://${directory}/old.txt` },
        { mime: "text/plain", url: `file://${directory}/gone.txt` }
      ]
    })
  },
  {
    name: "some lines of a file in the prompt",
    repository: "read",
    prompt: (directory) => ({
      steps,
      files: [{ mime: "text/plain", url: `file://${directory}/long.txt?start=2&end=4` }]
    })
  },
  withFiles("a text as data", { mime: "text/plain", name: "d.txt", url: "data:text/plain;base64,aGVsbG8K" }),
  withFiles("a text as data that is not encoded", { mime: "text/plain", url: "data:text/plain,hi%20there" }),
  ...Object.entries({
    "a text file that is missing": "file:///nonexistent/n.txt",
    "a text that is not fetched": "http://127.0.0.1:9/n.txt"
  }).map(([name, url]): Script => ({
    ...withFiles(name, { mime: "text/plain", name: "n.txt", url }),
    ends: [],
    told1x: { idles: 1, errors: 0 }
  })),
  withFiles(
    "a picture and a document that the model does not take",
    { mime: "image/png", name: "p.png", url: `data:image/png;base64,${png}` },
    { mime: "application/pdf", name: "p.pdf", url: "data:application/pdf;base64,JVBERi0xLjQK" }
  ),
  {
    name: "a file of a kind that no model takes, and the prompt after it",
    prompt: { steps, files: [{ mime: "application/json", url: "data:application/json,{}" }] },
    during: ({ ended, post }) => Effect.andThen(ended, post({ steps: [{ text: "Next." }] })),
    ends: ["answered", "answered"],
    told1x: { idles: 3, errors: 0 }
  },
  ...Object.entries({
    "a picture that is missing": "file:///nonexistent/n.png",
    "a picture that is broken": "data:image/png;base64,AAAA",
    "a picture elsewhere": "http://127.0.0.1:9/n.png",
    "an address that is none": "not a url"
  }).map(([name, url]): Script => ({
    ...withFiles(name, { mime: "image/png", name: "n.png", url }),
    ends: name === "a picture that is broken" ? ["answered"] : [],
    told1x: { idles: 0, errors: 1 }
  })),
  { name: "a mention of an agent", prompt: { steps, mentions: ["general", "nobody"] } }
]

const waiting = (id: number): Prompt => ({ id, steps: [{ text: "Waited." }], fields: { delivery: "queue" } })
const once: Prompt = { id: 1, steps: [{ text: "Only once." }] }
const held: Prompt = { id: 2, steps: [{ text: "a b", gate: "held" }] }
const heldAgain: Prompt = { id: 3, steps: [{ text: "a b", gate: "held again" }] }
