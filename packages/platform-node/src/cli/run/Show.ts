/**
 * `opencode-turn show`: prints a stored conversation.
 */
import { ConversationId } from "@opencode-turn/core/Ids"
import type { ToolPart } from "@opencode-turn/core/Part"
import { SessionStore, type StoredMessage } from "@opencode-turn/core/SessionStore"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import {
  describeCall,
  describeCost,
  describeDuration,
  describePrompt,
  describeTiming,
  describeTokens
} from "../../terminal/Describe.ts"
import { line, sanitize } from "../../terminal/TerminalText.ts"
import * as Database from "../setup/Database.ts"
import { failed, type Failure, fromError, usage } from "../setup/Failure.ts"
import { Streams } from "../setup/Streams.ts"
import * as JsonLines from "../view/JsonLines.ts"
import * as Unreadable from "../view/Unreadable.ts"

/** The options of the command line. */
export interface Options {
  readonly database: string | undefined
  readonly json: boolean
  readonly conversation: string
}

/** Prints the messages of the conversation, oldest first. */
export const show = Effect.fnUntraced(
  function*(options: Options): Effect.fn.Return<void, Failure, Streams | FileSystem.FileSystem | Scope.Scope> {
    if (options.conversation === "") return yield* usage("the conversation is empty: name one")
    const { name, store } = yield* Database.openExisting(options.database)
    yield* Effect.gen(function*() {
      const store = yield* SessionStore
      const streams = yield* Streams
      const conversationId = ConversationId.make(options.conversation)
      const messages = yield* store.listMessages(conversationId, Number.POSITIVE_INFINITY)
      if (messages.length === 0) {
        return yield* failed(
          `there is no conversation ${JSON.stringify(line(options.conversation))} in ${name}: ` +
            `each run prints its conversation's name at its end`
        )
      }
      const session = Option.getOrUndefined(yield* store.getSession(conversationId))
      yield* streams.answer(
        options.json
          ? messages.map((message) => JsonLines.fromStored(message)).join("")
          : [
            `conversation ${line(options.conversation)}, OpenCode session ${line(session ?? "none")}\n`,
            ...messages.map(describe)
          ].join("\n")
      )
    }).pipe(
      Effect.provideContext(store),
      Effect.catchTag("StoreError", (error) => Effect.fail(fromError(error)))
    )
  },
  Effect.scoped,
  (effect, { json }) => Unreadable.told(effect, json)
)

// internal

/** Recognizes a dismissed question or a rejected permission. The server keeps only the first of several reasons (1.18.33). */
const isRefused = (part: ToolPart): boolean => part.isRefused === true || part.refusal !== undefined

const describeRefusal = (part: ToolPart): string =>
  `refused ${describeCall(part)}${part.refusal === undefined ? "" : `: ${line(part.refusal)}`}`

const spentOn = (account: StoredMessage["account"]): string => {
  const spent = account === null ? "" : describeTiming(account.timing)
  return spent === "" ? "" : ` (${spent})`
}

const describe = (message: StoredMessage): string => {
  const { account, content, createdMillis, error, finish, finishedMillis, isFallback, parts, status } = message
  const { subagents, usage } = message
  const tools = parts.filter((part) => part.type === "tool")
  const facts = [
    status,
    ...(message.revertedBy === null ? [] : ["reverted"]),
    ...(finish === null ? [] : [`finish ${line(finish)}`]),
    new Date(createdMillis).toISOString(),
    ...(finishedMillis === null ? [] : [describeDuration(finishedMillis - createdMillis) + spentOn(account)]),
    `${tools.length} ${tools.length === 1 ? "tool" : "tools"}`,
    ...(subagents.length === 0 ? [] : [`${subagents.length} ${subagents.length === 1 ? "subagent" : "subagents"}`]),
    describeTokens(usage),
    describeCost(usage.cost),
    // One model is that of the conversation.
    ...(account === null || account.models.length < 2
      ? []
      : account.models.map(({ cost, model }) => `${line(model)} ${describeCost(cost)}`))
  ]
  return [
    sanitize(describePrompt(message.prompt)).replaceAll(/^/gm, "> "),
    ...(content === "" ? [] : [`${isFallback ? "[not the agent's text] " : ""}${sanitize(content)}`]),
    ...tools.filter(isRefused).map(describeRefusal),
    ...(error === null ? [] : [`error ${line(error.tag)}: ${line(error.message)}`]),
    `${facts.join(" · ")}\n`
  ].join("\n")
}
