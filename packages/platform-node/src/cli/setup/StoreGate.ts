/**
 * The gate of `--permission store`: it keeps asks in the store and prints how to answer them.
 */
import type { Ask } from "@opencode-turn/core/Ask"
import type { Asking, Gate } from "@opencode-turn/core/HumanGate"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import * as StoredGate from "@opencode-turn/core/StoredGate"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { describeAsk, unknownSubagent } from "../../terminal/AskText.ts"

/** Makes the gate. It calls `tell` once an ask can be answered. */
export const make = Effect.fnUntraced(function*(
  tell: (ask: Ask, asking: Asking) => Effect.Effect<void>
): Effect.fn.Return<Gate, never, SessionStore> {
  const store = yield* SessionStore
  const gate = yield* StoredGate.gate
  return (ask, asking) => {
    const told = store.askChanges(ask.id).pipe(
      Stream.mapEffect(() => store.getAsk(ask.id)),
      Stream.filter(Option.exists(({ status }) => status === "open")),
      Stream.runHead,
      Effect.andThen(tell(ask, asking)),
      // The gate uses the same store and reports its failures.
      Effect.ignore,
      Effect.andThen(Effect.never)
    )
    return Effect.raceFirst(gate(ask, asking), told)
  }
})

/** The text that says how to answer an ask, one line for each question. */
export const describe = (ask: Ask, { sessionId, subagent }: Asking): ReadonlyArray<string> =>
  describeAsk(ask, ask.sessionId === sessionId ? undefined : subagent ?? unknownSubagent).map((text) =>
    `waiting for an answer: opencode-turn answer ${ask.id} · ${text}`
  )
