/**
 * What the model says, and how it fails.
 */
import { Effect } from "effect"
import type { Script, Words } from "../Script.ts"

export const scripts = ({ shell }: Words): ReadonlyArray<Script> => [
  { name: "a text", prompt: { steps: [{ text: "Hello from the model." }] } },
  { name: "thoughts and a text", prompt: { steps: [{ reasoning: "Let me think.", text: "I thought." }] } },
  { name: "thoughts alone", prompt: { steps: [{ reasoning: "I think." }] } },
  { name: "thoughts that are too long", prompt: { steps: [{ reasoning: "I think.", finish: "length" }] } },
  { name: "nothing at all", prompt: { steps: [{}] } },
  { name: "an empty text", prompt: { steps: [{ text: "" }] } },
  { name: "an answer of blank text", prompt: { steps: [{ text: " \n\t " }] } },
  { name: "an answer that begins and ends with blank text", prompt: { steps: [{ text: "\n\n done \n" }] } },
  { name: "an answer that is too long", prompt: { steps: [{ text: "Half of", finish: "length" }] } },
  { name: "an answer that is too long before its first word", prompt: { steps: [{ finish: "length" }] } },
  {
    name: "an answer that is filtered",
    prompt: { steps: [{ text: "Half of", finish: "content_filter" }] },
    ends: ["failed"],
    told1x: { idles: 1, errors: 0 }
  },
  {
    name: "an answer that is filtered before its first word",
    prompt: { steps: [{ finish: "content_filter" }] },
    ends: ["failed"],
    told1x: { idles: 1, errors: 0 }
  },
  {
    name: "an answer that is filtered after a call",
    prompt: { steps: [shell("echo hi"), { text: "Half of", finish: "content_filter" }] },
    ends: ["failed"],
    told1x: { idles: 1, errors: 0 }
  },
  {
    name: "usage with cached tokens and reasoning",
    prompt: { steps: [{ text: "Done.", usage: { input: 1000, output: 100, reasoning: 30, cacheRead: 400 } }] }
  },
  {
    name: "a failure of the provider",
    prompt: { steps: [{ fail: 400, message: "no such parameter" }] },
    ends: ["failed"]
  },
  { name: "a key that the provider refuses", prompt: { steps: [{ fail: 401, message: "no key" }] }, ends: ["failed"] },
  {
    name: "a failure that is retried",
    prompt: { steps: [{ fail: 429, headers: { "retry-after-ms": "50" } }, { text: "At last." }] }
  },
  {
    name: "a failure of the provider's server that is retried",
    prompt: { steps: [{ fail: 500, message: "boom" }, { text: "At last." }] }
  },
  {
    name: "a connection of the model that breaks",
    prompt: { steps: [{ text: "Half of", gate: "cut", ending: "cut" }, { text: "At last." }] },
    during: ({ pieces, release }) => pieces(2).pipe(Effect.andThen(release("cut")))
  },
  {
    name: "a model that does not exist",
    model: { providerID: "nope", id: "zip" },
    prompt: { steps: [{ text: "Never said." }] },
    ends: ["failed"],
    told1x: { idles: 1, errors: 1 }
  },
  {
    name: "an agent that does not exist",
    agent: "nope",
    prompt: { steps: [{ text: "Never said." }] },
    ends: ["failed"],
    told1x: { idles: 0, errors: 2 }
  },
  {
    name: "a context that is full",
    prompt: { steps: [{ fail: 413, message: "prompt is too long" }, { text: "At last." }] }
  },
  {
    name: "a context that is full after an earlier prompt, twice",
    prompt: { steps: [{ text: "One." }] },
    during: ({ ended, post }) =>
      ended.pipe(Effect.andThen(post({
        steps: [shell("echo hi"), { fail: 413, message: "prompt is too long", times: 2 }, { text: "Two." }]
      }))),
    ends: ["answered", "answered"]
  }
]
