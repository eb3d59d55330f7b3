/**
 * What the tests on the real server have in common: turns with a script, people who answer, and the server's own word.
 */
import type { Answer, Ask } from "@opencode-turn/core/Ask"
import * as Client from "@opencode-turn/core/Client"
import * as HumanGate from "@opencode-turn/core/HumanGate"
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
