/**
 * A turn as the parts of a response of `effect/ai`: whole, or while it runs.
 *
 * **Details**
 *
 * The texts of all text parts together are the turn's `content`: a text behind another one begins with a blank line.
 *
 * A stream of parts can take nothing back. Where the text of a part turns out to be another one, the part is ended, and a new one begins,
 * whose metadata names the one that it `replaces`. If the turn's content is not what the stream said, the metadata of the `finish` part
 * has the `content`.
 *
 * **Not responsibilities**: errors (`AiErrors`).
 *
 * @since 0.1.0
 */
import type * as Response from "effect/ai/Response"
import type * as Tool from "effect/ai/Tool"
import * as DateTime from "effect/DateTime"
import * as HashMap from "effect/HashMap"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { FilePart, Part, ReasoningPart, TextPart, ToolPart } from "../domain/Part.ts"
import type { Usage } from "../domain/Usage.ts"
import * as DataUrl from "../opencode/DataUrl.ts"
import type { ReplyUpdate, Started } from "../reply/ReplyUpdate.ts"
import type { StoredMessage } from "../store/SessionStore.ts"
import { isOpencodeTool } from "./OpencodeTool.ts"

/**
 * What each part of a response carries of its turn. A later request that has the answer in its prompt goes on with the conversation.
 *
 * @category models
 * @since 0.1.0
 */
export type PartMetadata = {
  readonly conversationId: string
  readonly messageId: string
  readonly partId?: string
  readonly replaces?: string
}

/**
 * What the `finish` part tells of the turn besides.
 *
 * **Details**
 *
 * - `cost`: US dollars, over all steps and subagents.
 * - `finish`: the server's word for why the answer ended.
 * - `tools`: the calls of OpenCode's tools that the request's toolkit does not name, without their output.
 * - `subagents`: what the subagents answered, and what they cost.
 * - `content`: the turn's text, where the stream said something else before.
 *
 * @category models
 * @since 0.1.0
 */
export type FinishMetadata = {
  readonly conversationId: string
  readonly messageId: string
  readonly sessionId: string | null
  readonly cost: number
  readonly finish: string | null
  readonly tools: ReadonlyArray<{
    readonly id: string
    readonly tool: string
    readonly status: string
    readonly title: string | null
    readonly input: Schema.Json
    readonly error: string | null
  }>
  readonly subagents: ReadonlyArray<{
    readonly sessionId: string
    readonly agent: string | null
    readonly title: string
    readonly status: string
    readonly text: string
    readonly cost: number
  }>
  readonly content?: string
}

declare module "effect/ai/Response" {
  export interface TextPartMetadata {
    readonly opencode?: PartMetadata
  }
  export interface TextStartPartMetadata {
    readonly opencode?: PartMetadata
  }
  export interface ReasoningPartMetadata {
    readonly opencode?: PartMetadata
  }
  export interface ReasoningStartPartMetadata {
    readonly opencode?: PartMetadata
  }
  export interface ToolCallPartMetadata {
    readonly opencode?: PartMetadata
  }
  export interface ToolResultPartMetadata {
    readonly opencode?: PartMetadata
  }
  export interface FilePartMetadata {
    readonly opencode?: PartMetadata
  }
  export interface FinishPartMetadata {
    readonly opencode?: FinishMetadata
  }
}

/**
 * The names that a request gives OpenCode's tools, by their names in OpenCode.
 *
 * @category models
 * @since 0.1.0
 */
export type ToolNames = ReadonlyMap<string, string>

/**
 * The names of the tools of a request.
 *
 * @category constructors
 * @since 0.1.0
 */
export const namesOf = (tools: ReadonlyArray<Tool.Any>): ToolNames =>
  new Map(tools.flatMap((tool) => isOpencodeTool(tool) ? [[tool.providerName, String(tool.name)] as const] : []))

/**
 * The parts of a turn that has ended.
 *
 * @category conversions
 * @since 0.1.0
 */
export const fromMessage = (message: StoredMessage, names: ToolNames): Array<Response.PartEncoded> => {
  const parts: Array<Response.PartEncoded> = [startOf(message)]
  let hasText = false
  for (const part of message.parts) {
    switch (part.type) {
      case "text":
        if (part.text === "") break
        parts.push({
          type: "text",
          text: `${hasText ? blankLine : ""}${part.text}`,
          metadata: carried(message, part.id)
        })
        hasText = true
        break
      case "reasoning":
        if (part.text !== "") parts.push({ type: "reasoning", text: part.text, metadata: carried(message, part.id) })
        break
      case "tool":
        parts.push(...callOf(message, part, names), ...resultOf(message, part, names))
        break
      case "file":
        parts.push(fileOf(message, part))
        break
      default:
    }
  }
  parts.push(finishOf(message, names, message.content))
  return parts
}

/**
 * The parts of a turn that was asked for a value: the value is the only text.
 *
 * @category conversions
 * @since 0.1.0
 */
export const fromValue = (message: StoredMessage, names: ToolNames): Array<Response.PartEncoded> => {
  const parts = fromMessage(message, names).filter(({ type }) => type !== "text")
  parts.splice(-1, 0, { type: "text", text: message.content, metadata: carried(message) })
  return parts
}

/**
 * What a stream has written of a turn.
 *
 * @category models
 * @since 0.1.0
 */
export interface Written {
  readonly names: ToolNames
  readonly nowMillis: number
  readonly turn: Turn | undefined
  /** The model that the response named at its beginning. */
  readonly model: string | undefined
  readonly texts: HashMap.HashMap<string, Text>
  readonly calls: HashMap.HashMap<string, "started" | "called" | "ended">
  readonly files: HashMap.HashMap<string, true>
  /** The texts in the order in which they were begun. */
  readonly said: ReadonlyArray<string>
  /** What was said is not the text: something was replaced, taken away, or came too late for its place, and cannot be taken back. */
  readonly isWrong: boolean
}

/**
 * A change of a running turn, or the message as it ended.
 *
 * @category models
 * @since 0.1.0
 */
export type Update = ReplyUpdate | { readonly _tag: "Ended"; readonly message: StoredMessage }

/**
 * Nothing is written yet. `nowMillis` is the time of the response.
 *
 * @category constructors
 * @since 0.1.0
 */
export const begin = (names: ToolNames, nowMillis: number): Written => ({
  names,
  nowMillis,
  turn: undefined,
  model: undefined,
  texts: HashMap.empty(),
  calls: HashMap.empty(),
  files: HashMap.empty(),
  said: [],
  isWrong: false
})

/**
 * The parts for one update.
 *
 * @category combinators
 * @since 0.1.0
 */
export const apply = (self: Written, update: Update): Step => {
  switch (update._tag) {
    case "Started":
      return self.turn === undefined ? start(self, update) : [self, []]
    case "TextDelta":
      return grow(self, update.partId, "text", update.delta)
    case "ReasoningDelta":
      return grow(self, update.partId, "reasoning", update.delta)
    case "PartChanged":
      return show(self, update.part, false)
    case "PartRemoved":
      return remove(self, update.partId)
    case "Reset":
      return replaceAll(self, update.parts, false)
    case "Ended":
      return end(self, update.message)
    default:
      return [self, []]
  }
}

// internal

type StreamPart = Response.StreamPartEncoded
type Step = readonly [Written, ReadonlyArray<StreamPart>]
type Turn = Pick<StoredMessage, "id" | "conversationId">

/**
 * A text of the reply. `shown` is what a reader sees of it, `written` what the stream said; `isEven` if they are the same. `streamId` is
 * undefined until it has characters.
 */
interface Text {
  readonly type: "text" | "reasoning"
  readonly streamId: string | undefined
  readonly shown: string
  readonly written: string
  readonly isEven: boolean
  readonly isOpen: boolean
  readonly replaced: number
}

const blankLine = "\n\n"

const carried = ({ conversationId, id }: Turn, partId?: string): { readonly opencode: PartMetadata } => ({
  opencode: { conversationId, messageId: id, ...(partId !== undefined && { partId }) }
})

const responseOf = (id: string, model: string | undefined, millis: number): Response.ResponseMetadataPartEncoded => ({
  type: "response-metadata",
  id,
  ...(model !== undefined && { modelId: model }),
  timestamp: DateTime.formatIso(DateTime.makeUnsafe(millis))
})

const startOf = (message: StoredMessage) => responseOf(message.id, answeredBy(message), message.createdMillis)

/** The model that answered: of several, the agent's first. Without an account only the model that was asked for is known. */
const answeredBy = ({ account, started }: StoredMessage): string | undefined =>
  account?.models.find(({ model }) => model !== "")?.model ?? started?.model

const start = (self: Written, { conversationId, messageId, model }: Started): Step => [
  { ...self, turn: { conversationId, id: messageId }, model },
  [responseOf(messageId, model, self.nowMillis)]
]

const newText = (type: Text["type"]): Text => ({
  type,
  streamId: undefined,
  shown: "",
  written: "",
  isEven: true,
  isOpen: true,
  replaced: 0
})

const textOf = (self: Written, id: string, type: Text["type"]): Text =>
  Option.getOrElse(HashMap.get(self.texts, id), () => newText(type))

const setText = (self: Written, id: string, text: Text): Written => ({
  ...self,
  texts: HashMap.set(self.texts, id, text)
})

/** More of a text. The common case costs no look at the text before. */
const grow = (self: Written, id: string, type: Text["type"], delta: string): Step => {
  const before = textOf(self, id, type)
  const shown = before.shown + delta
  if (!before.isEven || before.streamId === undefined || !before.isOpen) return write(self, id, before, shown, false)
  const next = setText(inOrder(self, id, before.type), id, { ...before, shown, written: shown })
  return [next, [deltaOf(before.type, before.streamId, delta)]]
}

/** More of a text behind which another one has begun: whoever puts the deltas together gets them in another order. */
const inOrder = (self: Written, id: string, type: Text["type"]): Written =>
  self.isWrong || type === "reasoning" || self.said.at(-1) === id ? self : { ...self, isWrong: true }

const deltaOf = (type: Text["type"], id: string, delta: string): StreamPart =>
  type === "text" ? { type: "text-delta", id, delta } : { type: "reasoning-delta", id, delta }

const endOf = (type: Text["type"], id: string): StreamPart =>
  type === "text" ? { type: "text-end", id } : { type: "reasoning-end", id }

/** What leads from the text that was written to the one that is shown. */
const write = (self: Written, id: string, before: Text, shown: string, isComplete: boolean): Step => {
  const { isOpen, streamId, type, written } = before
  // The model is called again: its next answer may begin with the same words.
  if (!isComplete && written.startsWith(shown)) {
    return [setText(self, id, { ...before, shown, isEven: shown === written }), []]
  }
  const isMore = shown.startsWith(written) && (isOpen || shown === written)
  if (isMore) return extend(self, id, before, shown, isComplete)
  const replaced = before.replaced + 1
  const [next, parts] = extend(
    { ...self, isWrong: self.isWrong || type === "text" },
    id,
    { ...newText(type), replaced },
    shown,
    isComplete
  )
  return [next, [...(isOpen && streamId !== undefined ? [endOf(type, streamId)] : []), ...parts]]
}

/** Writes the rest of a text that begins with what was written. */
const extend = (self: Written, id: string, before: Text, shown: string, isComplete: boolean): Step => {
  const { type, written } = before
  const rest = shown.slice(written.length)
  const isFirst = before.streamId === undefined && rest !== ""
  const streamId = isFirst ? `${id}${before.replaced === 0 ? "" : `.${before.replaced}`}` : before.streamId
  const text: Text = { ...before, streamId, shown, written: shown, isEven: true, isOpen: !isComplete }
  const isBegun = isFirst && type === "text"
  const told = isBegun ? { ...self, said: [...self.said, id] } : rest === "" ? self : inOrder(self, id, type)
  const next = setText(told, id, text)
  if (streamId === undefined) return [next, []]
  const prefix = isFirst && type === "text" && self.said.length > 0 ? blankLine : ""
  return [next, [
    ...(isFirst ? [beginning(self, type, streamId, id, before.replaced)] : []),
    ...(rest === "" ? [] : [deltaOf(type, streamId, `${prefix}${rest}`)]),
    ...(isComplete && before.isOpen ? [endOf(type, streamId)] : [])
  ]]
}

const beginning = (self: Written, type: Text["type"], id: string, partId: string, replaced: number): StreamPart => {
  const replaces = replaced === 0 ? {} : { replaces: replaced === 1 ? partId : `${partId}.${replaced - 1}` }
  // Ids are missing where a part comes before the turn is known to have started.
  const metadata = self.turn === undefined
    ? {}
    : { opencode: { ...carried(self.turn, partId).opencode, ...replaces } }
  return type === "text" ? { type: "text-start", id, metadata } : { type: "reasoning-start", id, metadata }
}

const remove = (self: Written, id: string): Step => {
  const text = Option.getOrUndefined(HashMap.get(self.texts, id))
  if (text === undefined) return [self, []]
  const { isOpen, streamId, type } = text
  const next = {
    ...self,
    texts: HashMap.remove(self.texts, id),
    isWrong: self.isWrong || (type === "text" && streamId !== undefined)
  }
  return [next, isOpen && streamId !== undefined ? [endOf(type, streamId)] : []]
}

const show = (self: Written, part: Part, hasEnded: boolean): Step => {
  switch (part.type) {
    case "text":
    case "reasoning":
      return showText(self, part, part.isComplete || hasEnded)
    case "tool":
      return showTool(self, part, hasEnded)
    case "file": {
      if (self.turn === undefined || HashMap.has(self.files, part.id)) return [self, []]
      return [{ ...self, files: HashMap.set(self.files, part.id, true) }, [fileOf(self.turn, part)]]
    }
    default:
      return [self, []]
  }
}

const showText = (self: Written, part: TextPart | ReasoningPart, isComplete: boolean): Step => {
  const before = textOf(self, part.id, part.type)
  if (before.type === part.type) return write(self, part.id, before, part.text, isComplete)
  // An older server named the type with the part, behind its first deltas.
  const [removed, ended] = remove(self, part.id)
  const fresh = { ...newText(part.type), replaced: before.streamId === undefined ? 0 : before.replaced + 1 }
  const [next, parts] = write(removed, part.id, fresh, part.text, isComplete)
  return [next, [...ended, ...parts]]
}

const showTool = (self: Written, part: ToolPart, hasEnded: boolean): Step => {
  const name = self.names.get(part.tool)
  if (name === undefined || self.turn === undefined) return [self, []]
  const before = Option.getOrUndefined(HashMap.get(self.calls, part.id))
  if (before === "ended") return [self, []]
  const parts: Array<StreamPart> = []
  if (before === undefined) {
    parts.push({ type: "tool-params-start", id: part.id, name, providerExecuted: true })
  }
  const isCalled = part.status !== "pending" || hasEnded
  if (before !== "called" && isCalled) {
    const params: StreamPart = { type: "tool-params-delta", id: part.id, delta: JSON.stringify(part.input) }
    parts.push(params, { type: "tool-params-end", id: part.id }, ...callOf(self.turn, part, self.names))
  }
  const results = resultOf(self.turn, part, self.names)
  const now = results.length > 0 ? "ended" : isCalled ? "called" : "started"
  return [{ ...self, calls: HashMap.set(self.calls, part.id, now) }, [...parts, ...results]]
}

/** The parts that are there now, and no others. */
const replaceAll = (self: Written, all: ReadonlyArray<Part>, hasEnded: boolean): Step => {
  const there = new Set(all.map((part) => String(part.id)))
  let state = self
  const parts: Array<StreamPart> = []
  const step = ([next, more]: Step) => {
    state = next
    parts.push(...more)
  }
  for (const id of HashMap.keys(self.texts)) if (!there.has(id)) step(remove(state, id))
  for (const part of all) step(show(state, part, hasEnded))
  return [state, parts]
}

const end = (self: Written, message: StoredMessage): Step => {
  const model = answeredBy(message)
  // At the beginning only the model that was asked for is known.
  const named: ReadonlyArray<StreamPart> = self.turn === undefined || model === undefined || model === self.model
    ? []
    : [{ type: "response-metadata", modelId: model }]
  const started: Step = self.turn === undefined
    ? [{ ...self, turn: message, model }, [startOf(message)]]
    : [self, []]
  const [written, parts] = replaceAll(started[0], message.parts, true)
  const said = written.isWrong
    ? undefined
    : written.said
      .flatMap((id) => Option.toArray(Option.map(HashMap.get(written.texts, id), ({ shown }) => shown)))
      .join(blankLine)
  return [written, [...started[1], ...parts, ...named, finishOf(message, self.names, said)]]
}

const callOf = (turn: Turn, part: ToolPart, names: ToolNames): ReadonlyArray<Response.ToolCallPartEncoded> => {
  const name = names.get(part.tool)
  if (name === undefined) return []
  const { id, input: params } = part
  return [{ type: "tool-call", id, name, params, providerExecuted: true, metadata: carried(turn, id) }]
}

const resultOf = (turn: Turn, part: ToolPart, names: ToolNames): ReadonlyArray<Response.ToolResultPartEncoded> => {
  const name = names.get(part.tool)
  if (name === undefined || (part.status !== "completed" && part.status !== "error")) return []
  const isFailure = part.status === "error"
  const isDenied = part.isRefused === true || part.refusal !== undefined
  const error = part.refusal ?? part.error ?? "the tool failed"
  const result = isFailure ? isDenied ? { type: "execution-denied", reason: error } : error : part.output ?? ""
  const metadata = carried(turn, part.id)
  return [{ type: "tool-result", id: part.id, name, result, isFailure, providerExecuted: true, metadata }]
}

/** A file inside the answer; one that only has an address is a source. */
const fileOf = (turn: Turn, { filename, id, mediaType, url }: FilePart): Response.FilePartEncoded | Source => {
  const data = DataUrl.parse(url)
  const metadata = carried(turn, id)
  if (data?.isBase64 === true && DataUrl.byteLength(data) !== undefined) {
    return { type: "file", mediaType, data: data.data, metadata }
  }
  const title = filename ?? mediaType
  return { type: "source", sourceType: "document", id, mediaType, title, metadata }
}

type Source = Response.DocumentSourcePartEncoded

const finishOf = (
  message: StoredMessage,
  names: ToolNames,
  said: string | undefined
): Response.FinishPartEncoded => ({
  type: "finish",
  reason: reasonOf(message.finish),
  usage: usageOf(message.usage),
  metadata: {
    opencode: {
      conversationId: message.conversationId,
      messageId: message.id,
      sessionId: message.started?.sessionId ?? null,
      cost: message.usage.cost,
      finish: message.finish,
      tools: message.parts.flatMap((part) =>
        part.type === "tool" && !names.has(part.tool)
          ? [{
            id: part.id,
            tool: part.tool,
            status: part.status,
            title: part.title ?? null,
            input: isJson(part.input) ? part.input : null,
            error: part.error ?? null
          }]
          : []
      ),
      subagents: message.subagents.map(({ agent, sessionId, status, text, title, usage }) => ({
        sessionId,
        agent: agent ?? null,
        title,
        status,
        text,
        cost: usage.cost
      })),
      ...(said !== message.content && !message.isFallback && { content: message.content })
    }
  }
})

const isJson = Schema.is(Schema.Json)

const reasonOf = (finish: string | null): Response.FinishReason => {
  switch (finish) {
    case null:
    case "unknown":
      return "unknown"
    case "stop":
    case "length":
    case "content-filter":
    case "tool-calls":
    case "error":
      return finish
    default:
      return "other"
  }
}

/** OpenCode counts what came from the cache and what was reasoning apart; a response counts both in its totals as well. */
const usageOf = ({ tokens: { cacheRead, cacheWrite, input, output, reasoning } }: Usage) => {
  const [uncached, read, written, text, thought] = [input, cacheRead, cacheWrite, output, reasoning].map(Math.round)
  return {
    inputTokens: {
      uncached,
      cacheRead: read,
      cacheWrite: written,
      total: Math.round(input + cacheRead + cacheWrite)
    },
    outputTokens: { text, reasoning: thought, total: Math.round(output + reasoning) }
  }
}
