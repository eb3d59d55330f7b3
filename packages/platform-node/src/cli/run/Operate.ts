/**
 * `opencode-turn fork`, `revert`, `unrevert` and `compact`: what changes a conversation besides turns.
 */
import { Client } from "@opencode-turn/core/Client"
import { ConversationId, idFlaw } from "@opencode-turn/core/Ids"
import type { OperationFailure } from "@opencode-turn/core/Operations"
import { retrying } from "@opencode-turn/core/Retrying"
import { SessionStore, type StoredMessage, type StoreError, UnknownMessage } from "@opencode-turn/core/SessionStore"
import * as Tracer from "@opencode-turn/core/Tracer"
import type { TurnServices } from "@opencode-turn/core/Turn"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { line, sanitize } from "../../terminal/TerminalText.ts"
import * as Connection from "../setup/Connection.ts"
import * as Database from "../setup/Database.ts"
import { type Failure, fromError, usage } from "../setup/Failure.ts"
import { Streams } from "../setup/Streams.ts"
import * as JsonLines from "../view/JsonLines.ts"
import * as TurnView from "../view/TurnView.ts"
import type { Services } from "./Run.ts"

/** The options of the command line. */
export interface Options extends Connection.Flags {
  readonly database: string | undefined
  readonly json: boolean
}

/** What a command does: in which conversation, and how. */
export interface Operation {
  readonly conversation: Effect.Effect<string, StoreError | UnknownMessage, SessionStore>
  readonly run: Effect.Effect<StoredMessage, OperationFailure, TurnServices>
}

/** The conversation of a turn. */
export const conversationOf = (message: StoredMessage["id"]): Operation["conversation"] =>
  Effect.gen(function*() {
    const store = yield* SessionStore
    const state = yield* retrying(store.getState(message))
    if (Option.isNone(state)) return yield* new UnknownMessage({ messageId: message })
    return state.value.conversationId
  })

/** Fails for a conversation whose name cannot be stored. */
export const named = (what: string, conversation: string): Effect.Effect<string, Failure> => {
  const flaw = conversation === "" ? "it is empty" : idFlaw(conversation)
  return flaw === undefined ? Effect.succeed(conversation) : Effect.fail(usage(`${what} cannot be used: ${flaw}`))
}

/** Does what the command says, and prints the stored message of it. */
export const operate = Effect.fnUntraced(
  function*(options: Options, operation: Operation): Effect.fn.Return<void, Failure, Services | Scope.Scope> {
    const flags = yield* Connection.settings(options)
    const { store } = yield* Database.openExisting(options.database)
    const streams = yield* Streams
    const view = yield* options.json ? TurnView.json : TurnView.human()
    const message = yield* Effect.gen(function*() {
      const conversation = ConversationId.make(yield* Effect.mapError(operation.conversation, fromError))
      const server = yield* Connection.connect(flags, view)
      const clients = yield* Connection.makeClients(server)
      const home = Context.get(yield* clients(undefined), Client)
      const client = yield* Connection.clientOf(conversation, home, clients)
      const run = operation.run.pipe(Effect.provideService(Client, client), Effect.mapError(fromError))
      return yield* Effect.raceFirst(run, server.ended)
    }).pipe(Effect.provideContext(store), Effect.provide(Tracer.layerNoop))
    yield* streams.answer(options.json ? JsonLines.fromStored(message) : describe(message))
  },
  Effect.scoped
)

// internal

const describe = ({ content, conversationId, id, isFallback }: StoredMessage): string =>
  isFallback
    ? `${line(content)} · conversation ${line(conversationId)} · message ${line(id)}\n`
    : `${sanitize(content)}\n\ncompacted conversation ${line(conversationId)} · message ${line(id)}\n`
