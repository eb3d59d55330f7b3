/**
 * What the tests on the real server have in common: turns with a script, people who answer, and the server's own word.
 */
import { assert } from "@effect/vitest"
import type { Answer, Ask } from "@opencode-turn/core/Ask"
import * as Client from "@opencode-turn/core/Client"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import { runTurn } from "@opencode-turn/core/Turn"
import type { TurnInput } from "@opencode-turn/core/TurnInput"
import type { Step } from "@opencode-turn/testing/ScriptedModel"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { Effect, Ref, Schedule } from "effect"

let conversations = 0

/** A turn of a conversation of its own whose model does these steps. */
export const turn = (steps: ReadonlyArray<Step>, input: Partial<TurnInput> = {}): TurnInput => ({
  ...base(steps),
  ...input
})

/** The same, for a turn that is given an output. */
export const base = (steps: ReadonlyArray<Step>) => ({
  conversationId: `conversation-${++conversations}`,
  title: "a test",
  prompt: ScriptedModel.prompt("Do it.", steps)
})

export const bash = (command: string): Step => ({ tool: "bash", args: { command, description: "a command" } })

/** A gate that gives the answers in turn and remembers what was asked. */
export const gate = Effect.fnUntraced(function*(...answers: ReadonlyArray<Answer>) {
  const asked = yield* Ref.make<ReadonlyArray<Ask>>([])
  return {
    asked: Ref.get(asked),
    provide: Effect.provideService(
      HumanGate.HumanGate,
      (ask) => Ref.modify(asked, (all) => [answers[all.length] ?? { _tag: "Skip" }, [...all, ask]])
    )
  }
})

/** The sessions of the client's folder that work on something. 2.x names those of the whole server, which other tests use as well. */
export const busy = Effect.gen(function*() {
  const client = yield* Client.Client
  const directory = yield* client.directory
  const ids = Array.from((yield* client.statuses).keys())
  const here = yield* Effect.filter(
    ids,
    (id) =>
      Effect.match(client.getSession(id), {
        onFailure: () => false,
        onSuccess: (session) => session.directory === directory
      })
  )
  return new Set(here)
})

/** Whether no session of the folder works on anything. */
export const isIdle = Effect.map(busy, (ids) => ids.size === 0)

/**
 * Whether an update shows the text. A reader who waits for a delta may wait in vain: on a busy machine the text can come in a reset or in a part.
 */
export const shows = (update: { readonly _tag: string }, text: string): boolean =>
  update._tag !== "Finished" && JSON.stringify(update).includes(text)

/** Asks again and again until it holds. */
export const until = <E, R>(condition: Effect.Effect<boolean, E, R>) =>
  Effect.repeat(condition, { schedule: Schedule.spaced("20 millis"), until: (holds) => holds })

/** Has a turn of a conversation run to its end. Its answer names the turn. */
export const say = Effect.fnUntraced(function*(
  conversationId: string,
  name: string,
  steps: ReadonlyArray<Step> = []
) {
  const result = yield* runTurn(
    turn([...steps, { text: `answer to ${name}` }], { conversationId, messageId: `${conversationId}-${name}` })
  )
  assert.strictEqual(result.status, "completed", result.error?.message)
  assert.strictEqual(result.content, `answer to ${name}`)
  assert.closeTo(result.usage.total.cost, 0.00002 * (steps.length + 1), 1e-9)
  return result
})

/** What the model was last asked with: the summary and the answers before. */
export const known = Effect.gen(function*() {
  const requests = yield* (yield* ScriptedModel.ScriptedModel).requests
  return (requests.findLast(({ isTitle }) => !isTitle)?.messages ?? []).flatMap(({ role, text }) =>
    role === "assistant" && text !== "" ? [text] : checkpoint(text)
  )
})

// internal

/** 2.x tells the model of the summary, and of the last exchange before it, in the words of a user. */
const checkpoint = (text: string): ReadonlyArray<string> =>
  text.startsWith("<conversation-checkpoint>")
    ? Array.from(text.matchAll(/<summary>\n(.*)\n<\/summary>|\[Assistant\]: (.*)/g), ([, summary, answer]) =>
      summary ?? answer ?? "")
    : []
