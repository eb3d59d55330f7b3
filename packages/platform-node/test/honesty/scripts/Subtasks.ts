/**
 * Subtasks of a prompt, which 1.x alone knows.
 */
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { Effect } from "effect"
import type { Prompt, Script, Words } from "../Script.ts"
import { format, structured } from "./Structured.ts"

const subtask = (steps: ReadonlyArray<Step>, fields: object = {}) => ({
  type: "subtask",
  prompt: ScriptedModel.prompt("look", steps),
  description: "look",
  agent: "general",
  ...fields
})

/** A prompt of a text and these parts. A subtask counts as the first step, so that the second answers the prompt. */
const withParts = (steps: ReadonlyArray<Step>, ...parts: ReadonlyArray<object>): Prompt => ({
  steps,
  fields: { parts: [{ type: "text", text: ScriptedModel.prompt("go", steps) }, ...parts] }
})

const steps: ReadonlyArray<Step> = [{ text: "First." }, { text: "Second." }]

export const scripts = ({ read, shell }: Words): ReadonlyArray<Script> => [
  { name: "a subtask", prompt: withParts(steps, subtask([{ text: "Child done." }])) },
  {
    name: "a subtask without a text, of an agent that is no subagent",
    prompt: {
      steps,
      fields: { parts: [subtask([shell("echo a"), { text: "Child done." }], { agent: "build" })] }
    }
  },
  {
    name: "a subtask with a command",
    prompt: withParts(steps, subtask([{ text: "Child done." }], { command: "c" }))
  },
  {
    name: "two subtasks",
    prompt: withParts(steps, subtask([{ text: "Never said." }]), subtask([{ text: "Child done." }]))
  },
  { name: "a subtask that fails", prompt: withParts(steps, subtask([{ fail: 400, message: "childbad" }])) },
  {
    name: "a subtask with a structured answer",
    prompt: structuredOf(withParts([{ text: "Skipped." }, structured(1)], subtask([{ text: "Child done." }])))
  },
  {
    name: "a subtask whose permission is asked for",
    prompt: withParts(steps, subtask([read("/etc/hostname"), { text: "Never said." }])),
    during: ({ permission, refuse }) => Effect.flatMap(permission, (ask) => refuse(ask))
  },
  {
    name: "a subtask of an agent that does not exist, and the prompt after it",
    prompt: withParts(steps, subtask([{ text: "Never said." }], { agent: "nope" })),
    during: ({ failed, post }) =>
      Effect.andThen(Effect.replicateEffect(failed, 2), post({ steps: [{ text: "Never said." }] })),
    told1x: { idles: 1, errors: 3 }
  },
  {
    name: "a stop of a subtask",
    prompt: withParts(
      [{ text: "Skipped." }, { text: "Never said.", delayMillis: 10_000 }],
      subtask([shell("echo up; sleep 60"), { text: "Never said." }])
    ),
    during: ({ printed, stop }) => Effect.andThen(printed("up"), stop()),
    ends: ["stopped"],
    told1x: { idles: 1, errors: 0 },
    isRacy: true
  }
]

const structuredOf = ({ fields, steps }: Prompt): Prompt => ({ steps, fields: { ...fields, format } })
