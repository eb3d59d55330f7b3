/**
 * Answers with a format, which 1.x alone knows.
 */
import type { Step } from "@opencode-turn/testing/ModelScript"
import { Effect } from "effect"
import type { Prompt, Script, Words } from "../Script.ts"

const schema = { type: "object", properties: { n: { type: "integer" } }, required: ["n"] }

export const format = { type: "json_schema", schema }

export const structured = (n: number | string) => ({ tool: "StructuredOutput", args: { n } })

const fields = { format }

const prompt = (...steps: ReadonlyArray<Step>): Prompt => ({ steps, fields })

const again: Prompt = { id: 4, steps: [structured(1), structured(2)], fields }

export const scripts = ({ shell }: Words): ReadonlyArray<Script> => [
  {
    name: "a structured answer",
    prompt: prompt({ reasoning: "hm", text: "thinking", ...structured(1) }, { text: "Never said." })
  },
  {
    name: "a structured answer that follows a tool and does not fit",
    prompt: prompt(shell("echo a"), structured("no"), { text: "Never said." })
  },
  {
    name: "two structured answers at once",
    prompt: prompt({ ...structured(1), tools: [structured(2), shell("echo a")] }, { text: "Never said." }),
    isRacy: true
  },
  {
    name: "a structured answer that is asked for and not given",
    prompt: {
      steps: [shell("echo a"), { text: "{\"n\":1}" }, structured(1)],
      fields: { format: { ...format, retryCount: 0 } }
    }
  },
  {
    name: "a structured answer whose finish is another",
    prompt: prompt({ ...structured(1), finish: "stop" }, { text: "Never said." })
  },
  { name: "a structured answer that is too long", prompt: prompt({ text: "half", finish: "length" }, structured(1)) },
  {
    name: "a structured answer that is filtered",
    prompt: prompt({ text: "half", finish: "content_filter" }, structured(1))
  },
  { name: "a structured answer whose model fails", prompt: prompt({ fail: 400, message: "bad" }), ends: ["failed"] },
  {
    name: "a structured answer of which a tool is rejected",
    agent: "asker",
    prompt: prompt(shell("echo hi"), { text: "Never said." }),
    during: ({ permission, refuse }) => Effect.flatMap(permission, (ask) => refuse(ask)),
    ends: ["refused"]
  },
  {
    name: "a structured answer whose context is full",
    prompt: prompt({ fail: 413, message: "prompt is too long" }, structured(1))
  },
  {
    name: "a context that is full after an earlier prompt, with a format",
    prompt: { steps: [{ text: "One." }] },
    during: ({ ended, post }) =>
      Effect.andThen(ended, post(prompt({ fail: 413, message: "prompt is too long" }, structured(1)))),
    ends: ["answered", "answered"]
  },
  {
    name: "a structured prompt that is posted again when it is answered",
    prompt: again,
    during: ({ ended, post }) => Effect.andThen(ended, post(again)),
    ends: ["answered", "answered"]
  },
  {
    name: "a structured prompt that is posted again without its format",
    prompt: { id: 5, steps: [structured(1)], fields },
    during: ({ ended, post }) => Effect.andThen(ended, post({ id: 5, steps: [structured(1), { text: "Plain." }] })),
    ends: ["answered", "answered"]
  },
  {
    name: "a format that says text",
    prompt: { steps: [{ text: "As usual." }], fields: { format: { type: "text" } } }
  }
]
