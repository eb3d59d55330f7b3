/**
 * What a prompt of `effect/ai` is for a turn.
 *
 * OpenCode keeps the conversation, so a turn gets only the messages behind the last answer. Where OpenCode does not know the conversation
 * yet, the messages before are told as a text ahead of them.
 *
 * **Not responsibilities**: which conversation it is (`Conversation`).
 *
 * @since 0.1.0
 */
import type * as Prompt from "effect/ai/Prompt"
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { PromptFile, PromptPart } from "../domain/Prompt.ts"
import { InvalidInput } from "../domain/TurnError.ts"
import * as Attachment from "../opencode/Attachment.ts"
import * as DataUrl from "../opencode/DataUrl.ts"

/**
 * The system prompt: the messages of the system, in their order.
 *
 * @category conversions
 * @since 0.1.0
 */
export const systemOf = ({ content }: Prompt.Prompt): string =>
  content.flatMap((message) => message.role === "system" ? [message.content] : []).join("\n\n")

/**
 * The parts of the turn's prompt. `isKnown`: OpenCode has what was said before.
 *
 * @category conversions
 * @since 0.1.0
 */
export const partsOf = Effect.fnUntraced(function*(
  { content }: Prompt.Prompt,
  isKnown: boolean
): Effect.fn.Return<ReadonlyArray<PromptPart>, InvalidInput> {
  const start = content.findLastIndex(({ role }) => role === "assistant") + 1
  const said = content.slice(start).flatMap(userParts)
  // OpenCode does not know what tools of others gave.
  const before = content.filter(({ role }, index) => index < start ? !isKnown : role === "tool")
  const told = before.flatMap(toldAs)
  const hasResults = content.slice(start).some((message) => message.role === "tool" && toldAs(message).length > 0)
  if (said.length === 0 && !hasResults) {
    return yield* invalid("there is no message of the user behind the last answer")
  }
  const news: ReadonlyArray<PromptPart> = said.length === 0
    ? [{ type: "text", text: "Go on with the conversation." }]
    : yield* Effect.forEach(withoutEmpty(said), toPart)
  if (told.length === 0) return news
  const text = ["<conversation_so_far>", ...told, "</conversation_so_far>"].join("\n\n")
  // Files cannot be told as text: those of the earlier messages are sent again.
  const files = before.flatMap(userParts).filter(({ type }) => type === "file")
  return [{ type: "text", text }, ...(yield* Effect.forEach(files, toPart)), ...news]
})

// internal

const invalid = (reason: string) => Effect.fail(new InvalidInput({ field: "prompt", reason }))

const userParts = (message: Prompt.Message): ReadonlyArray<Prompt.UserMessagePart> =>
  message.role === "user" ? message.content : []

/** Some providers refuse an empty text. If there is nothing else, the turn says so. */
const withoutEmpty = (parts: ReadonlyArray<Prompt.UserMessagePart>): ReadonlyArray<Prompt.UserMessagePart> => {
  const rest = parts.filter((part) => part.type !== "text" || part.text !== "")
  return rest.length === 0 ? parts : rest
}

const toPart = (part: Prompt.UserMessagePart): Effect.Effect<PromptPart, InvalidInput> =>
  part.type === "text" ? Effect.succeed({ type: "text", text: part.text }) : toFile(part)

const toFile = (part: Prompt.FilePart): Effect.Effect<PromptFile, InvalidInput> => {
  const { data } = part
  if (data instanceof Uint8Array) return fromBytes(part, data)
  const text = String(data)
  if (data instanceof URL || /^[a-z][a-z0-9+.-]*:/i.test(text)) return fromUrl(part, text)
  const bytes = Result.getOrUndefined(Base64.decode(text))
  return bytes === undefined
    ? invalid(`the data of ${nameOf(part)} is neither base64 nor a URL`)
    : fromBytes(part, bytes)
}

const fromBytes = ({ fileName: filename, mediaType }: Prompt.FilePart, bytes: Uint8Array) =>
  Attachment.fromBytes({ mediaType, bytes, filename })

/** Of a file on the server's disk only the URL is sent. Any other URL is refused with the remedy, like that of a prompt. */
const fromUrl = (part: Prompt.FilePart, url: string): Effect.Effect<PromptFile, InvalidInput> => {
  if (url.startsWith("data:")) {
    const data = DataUrl.parse(url)
    const bytes = data && DataUrl.decode(data)
    return bytes === undefined
      ? invalid(`the data: URL of ${nameOf(part)} is malformed: data:<media type>;base64,<data>`)
      : fromBytes(part, bytes)
  }
  const { fileName, mediaType } = part
  const isTaken = /^(?:image\/|application\/(?:pdf|x-directory)$)/.test(mediaType)
  return Effect.succeed({
    type: "file",
    mediaType: isTaken ? mediaType : "text/plain",
    url,
    ...(fileName !== undefined && { filename: fileName })
  })
}

const nameOf = ({ fileName, mediaType }: Prompt.FilePart): string =>
  fileName === undefined ? `the file (${mediaType})` : JSON.stringify(fileName)

/** A message of the conversation in words; nothing for what the agent does not need to go on. */
const toldAs = (message: Prompt.Message): ReadonlyArray<string> => {
  switch (message.role) {
    case "system":
      return []
    case "user":
      return said("User", message.content.map((part) => part.type === "text" ? part.text : `[${nameOf(part)}]`))
    case "assistant":
      return said("Assistant", message.content.flatMap(answered))
    case "tool":
      return said("Tool", message.content.flatMap((part) => part.type === "tool-result" ? [resultOf(part)] : []))
  }
}

const said = (who: string, words: ReadonlyArray<string>): ReadonlyArray<string> =>
  words.every((text) => text.trim() === "") ? [] : [`${who}:\n${words.join("\n")}`]

const answered = (part: Prompt.AssistantMessagePart): ReadonlyArray<string> => {
  switch (part.type) {
    case "text":
      return [part.text]
    case "tool-call":
      return [`[called ${part.name} with ${json(part.params)}]`]
    case "tool-result":
      return [resultOf(part)]
    default:
      return []
  }
}

const resultOf = ({ isFailure, name, result }: Prompt.ToolResultPart): string =>
  `[${name} ${isFailure ? "failed with" : "gave"} ${json(result)}]`

const json = (value: unknown): string =>
  Predicate.isString(value) ? value : Result.getOrElse(encodeJson(value), () => String(value))

const encodeJson = Schema.encodeUnknownResult(Schema.fromJsonString(Schema.Unknown))
