/**
 * `opencode-turn asks`: what agents ask and nobody has answered yet.
 */
import { ConversationId } from "@opencode-turn/core/Ids"
import type { StoredAsk } from "@opencode-turn/core/StoredAsk"
import * as StoredGate from "@opencode-turn/core/StoredGate"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import type * as Scope from "effect/Scope"
import { type Asker, describeAsk } from "../../terminal/AskText.ts"
import { describeAge } from "../../terminal/Describe.ts"
import { fit, line } from "../../terminal/TerminalText.ts"
import * as AskedBy from "../setup/AskedBy.ts"
import * as Database from "../setup/Database.ts"
import { type Failure, fromError } from "../setup/Failure.ts"
import { Output } from "../setup/Streams.ts"
import * as JsonLines from "../view/JsonLines.ts"
import * as Unreadable from "../view/Unreadable.ts"

/** What the command line says. */
export interface Options {
  readonly database: string | undefined
  readonly conversation: string | undefined
  readonly json: boolean
}

/** Prints the open requests, oldest first, see {@link describe}. */
export const asks = Effect.fnUntraced(
  function*(options: Options): Effect.fn.Return<void, Failure, Output | FileSystem.FileSystem | Scope.Scope> {
    const { store } = yield* Database.openExisting(options.database)
    const output = yield* Output
    const conversationId = options.conversation === undefined ? undefined : ConversationId.make(options.conversation)
    const open = yield* StoredGate.pendingAsks({ conversationId, limit: maxListed }).pipe(
      Effect.flatMap(AskedBy.withAskers),
      Effect.provideContext(store),
      Effect.mapError(fromError)
    )
    if (open.length === 0) return yield* options.json ? Effect.void : output.progress("nothing waits for an answer\n")
    const nowMillis = yield* Clock.currentTimeMillis
    yield* output.answer(
      open.map(([stored, asker]) => options.json ? JsonLines.fromAsk(stored) : describe(stored, asker, nowMillis)).join(
        ""
      )
    )
  },
  Effect.scoped,
  (effect, { json }) => Unreadable.told(effect, json)
)

/** A line for each question, each with the id of its request. What is asked is never cut: a person decides on it. */
export const describe = (
  { ask, conversationId, createdMillis, id }: Pick<StoredAsk, "ask" | "conversationId" | "createdMillis" | "id">,
  asker: Asker,
  nowMillis: number
): string =>
  describeAsk(ask, asker)
    .map((text) => [line(id), fit(conversationId, 30), describeAge(nowMillis - createdMillis), text].join("  "))
    .map((row) => `${row}\n`)
    .join("")

// internal

const maxListed = 1000
