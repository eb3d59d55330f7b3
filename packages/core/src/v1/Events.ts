/**
 * The event stream of OpenCode 1.x: bytes of `GET /event` to domain events.
 *
 * **Contract**
 *
 * Each event is one or more `data:` lines and a blank line; the data is JSON `{id, type, properties}`. There is no SSE `id:`,
 * no `retry:`, no replay. A read may hold many events, or a piece of one. The decoder keeps what is incomplete as a list of
 * chunks and joins them once, so that a large event costs linear time; a block of complete events is decoded from UTF-8 once.
 *
 * Deltas, nearly all of the traffic, are checked by a hand-written guard (as fast as none); everything else by the schemas
 * of `Wire`.
 *
 * @since 0.1.0
 */
import * as Brand from "effect/Brand"
import * as Bytes from "effect/Bytes"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import { MessageId, PartId, RequestId, SessionId } from "../Ids.ts"
import type { ServerEvent } from "../TurnEvent.ts"
import * as Wire from "./Wire.ts"

/**
 * Turns the bytes of one connection into events.
 *
 * **Details**
 *
 * `push` takes one read and gives the events that it completed. `dropped` counts the events that were not understood: of an
 * unknown type, of a session that they do not name, or not JSON. `push` throws a `RangeError` for an event of more than
 * `maxEventBytes`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Decoder {
  readonly push: (bytes: Uint8Array) => ReadonlyArray<ServerEvent>
  readonly dropped: () => number
}

/**
 * @category constructors
 * @since 0.1.0
 */
export const makeDecoder = (maxEventBytes = defaultMaxEventBytes): Decoder => {
  const utf8 = new TextDecoder()
  let pending: Array<Uint8Array> = []
  let pendingBytes = 0
  // The last two bytes of the reads before: a blank line may begin in one and end in another.
  let last = newline
  let lastButOne = 0
  let dropped = 0

  const decodeBlock = (block: string): ReadonlyArray<ServerEvent> => {
    const events: Array<ServerEvent> = []
    let start = 0
    while (start < block.length) {
      const blank = block.indexOf("\n\n", start)
      const end = blank === -1 ? block.length : blank
      const data = dataOf(block, start, end)
      if (data !== "") {
        const event = decodeEvent(data)
        if (event === undefined) dropped++
        else events.push(event)
      }
      start = end + 2
    }
    return events
  }

  /** The index behind the last blank line in `bytes`, or -1. */
  const behindBlankLine = (bytes: Uint8Array): number => {
    const byteAt = (index: number) => (index >= 0 ? bytes[index] : index === -1 ? last : lastButOne)
    for (let at = bytes.lastIndexOf(newline); at !== -1; at = at === 0 ? -1 : bytes.lastIndexOf(newline, at - 1)) {
      const before = byteAt(at - 1)
      if (before === newline || (before === carriageReturn && byteAt(at - 2) === newline)) return at + 1
    }
    return -1
  }

  return {
    dropped: () => dropped,
    push: (bytes) => {
      if (bytes.length === 0) return []
      const end = behindBlankLine(bytes)
      lastButOne = bytes.at(-2) ?? last
      last = bytes.at(-1) ?? last
      if (end === -1) {
        pendingBytes += bytes.length
        if (pendingBytes > maxEventBytes) throw new RangeError(`an event of more than ${maxEventBytes} bytes`)
        pending.push(bytes)
        return []
      }
      const complete = bytes.subarray(0, end)
      const block = pendingBytes === 0 ? complete : Bytes.concat([...pending, complete])
      // A read belongs to the socket's buffer: what stays is copied, or one event would keep 64 KB alive.
      pending = end === bytes.length ? [] : [bytes.slice(end)]
      pendingBytes = bytes.length - end
      const text = utf8.decode(block)
      return decodeBlock(text.includes("\r") ? text.replaceAll("\r\n", "\n") : text)
    }
  }
}

/**
 * The most that one event may take: 64 MiB, far above what OpenCode sends (tool outputs are cut at some 50 KB, attachments
 * are not), and a bound on the memory that a broken server can take.
 *
 * @category constants
 * @since 0.1.0
 */
export const defaultMaxEventBytes = 64 * 1024 * 1024

/**
 * Reads the JSON of one event; `undefined` for one that is not understood.
 *
 * @category translations
 * @since 0.1.0
 */
export const decodeEvent = (data: string): ServerEvent | undefined => {
  const event = parse(data)
  if (!Predicate.isObject(event)) return undefined
  const { id, properties, type } = event
  const eventId = typeof id === "string" ? id : undefined
  if (type === "message.part.delta" && Predicate.isObject(properties)) {
    const { delta, field, messageID, partID, sessionID } = properties
    return typeof delta === "string" && typeof partID === "string" && typeof messageID === "string" &&
        typeof sessionID === "string"
      ? {
        _tag: "PartDelta",
        eventId,
        sessionId: sessionId(sessionID),
        messageId: messageId(messageID),
        partId: partId(partID),
        field: typeof field === "string" ? field : "text",
        delta
      }
      : undefined
  }
  const decode = typeof type === "string" ? decoders.get(type) : undefined
  return decode?.(properties, eventId)
}

// internal

const sessionId = Brand.nominal<SessionId>()
const messageId = Brand.nominal<MessageId>()
const partId = Brand.nominal<PartId>()

const parse = (data: string): unknown => {
  try {
    return JSON.parse(data)
  } catch {
    return undefined
  }
}

const newline = 10
const carriageReturn = 13

/** The data of the event in `block` from `start` to the blank line at `end`. */
const dataOf = (block: string, start: number, end: number): string =>
  // What OpenCode sends is one line; it is cut out of the block and copied nowhere.
  block.startsWith("data: ", start) && block.indexOf("\n", start) === end
    ? block.slice(start + 6, end)
    : block.slice(start, end).split("\n").filter((line) => line.startsWith("data:"))
      .map((line) => line.slice(line.startsWith("data: ") ? 6 : 5))
      .join("\n")

type Decode = (properties: unknown, eventId: string | undefined) => ServerEvent | undefined

const on = <S extends Schema.Top & { readonly DecodingServices: never }>(
  schema: S,
  translate: (properties: S["Type"], eventId: string | undefined) => ServerEvent | undefined
): Decode => {
  const decode = Schema.decodeUnknownOption(schema)
  return (properties, eventId) =>
    Option.getOrUndefined(Option.flatMapNullishOr(decode(properties), (decoded) => translate(decoded, eventId)))
}

const bySession = { sessionID: SessionId }

const sessionOpened = on(
  Schema.Struct({ info: Wire.WireSession }),
  ({ info }, eventId) => ({
    _tag: "SessionOpened",
    eventId,
    sessionId: info.id,
    parentId: info.parentID,
    title: info.title,
    agent: info.agent
  })
)

const askResolved = on(
  Schema.Struct({ ...bySession, requestID: RequestId }),
  ({ requestID, sessionID }, eventId) => ({
    _tag: "AskResolved",
    eventId,
    sessionId: sessionID,
    requestId: requestID
  })
)

const decoders = new Map<string, Decode>([
  ["server.connected", () => ({ _tag: "Connected" })],
  ["server.heartbeat", () => ({ _tag: "Heartbeat" })],
  ["session.created", sessionOpened],
  ["session.updated", sessionOpened],
  [
    "session.deleted",
    on(Schema.Struct(bySession), ({ sessionID }, eventId) => ({
      _tag: "SessionDeleted",
      eventId,
      sessionId: sessionID
    }))
  ],
  [
    "session.status",
    on(Schema.Struct({ ...bySession, status: Wire.WireStatus }), ({ sessionID, status }, eventId) => ({
      _tag: "StatusChanged",
      eventId,
      sessionId: sessionID,
      status: Wire.toStatus(status)
    }))
  ],
  [
    "session.idle",
    on(Schema.Struct(bySession), ({ sessionID }, eventId) => ({
      _tag: "StatusChanged",
      eventId,
      sessionId: sessionID,
      status: { type: "idle" }
    }))
  ],
  [
    // An error without a session belongs to nobody's turn.
    "session.error",
    on(
      Schema.Struct({ ...bySession, error: Schema.optionalKey(Wire.WireFailure) }),
      ({ error, sessionID }, eventId) => ({
        _tag: "SessionFailed",
        eventId,
        sessionId: sessionID,
        failure: Wire.toFailure(error ?? { name: "UnknownError" })
      })
    )
  ],
  [
    "message.updated",
    on(Schema.Struct({ info: Wire.WireInfo }), ({ info }, eventId) => ({
      _tag: "MessageUpdated",
      eventId,
      sessionId: info.sessionID,
      info: Wire.toInfo(info, [])
    }))
  ],
  [
    "message.removed",
    on(Schema.Struct({ ...bySession, messageID: MessageId }), ({ messageID, sessionID }, eventId) => ({
      _tag: "MessageRemoved",
      eventId,
      sessionId: sessionID,
      messageId: messageID
    }))
  ],
  [
    "message.part.updated",
    on(
      Schema.Struct({ part: Schema.Unknown }),
      ({ part }, eventId) =>
        Option.getOrUndefined(Option.flatMap(Wire.decodePart(part), (wire): Option.Option<ServerEvent> => {
          const base = { eventId, sessionId: wire.sessionID }
          return Wire.isContinuation(wire)
            ? Option.some({ _tag: "TurnContinued", ...base, messageId: wire.messageID })
            : Option.map(Wire.fromAnyPart(wire), (part) => ({ _tag: "PartUpdated", ...base, part }))
        }))
    )
  ],
  [
    "message.part.removed",
    on(
      Schema.Struct({ ...bySession, messageID: MessageId, partID: PartId }),
      ({ messageID, partID, sessionID }, eventId) => ({
        _tag: "PartRemoved",
        eventId,
        sessionId: sessionID,
        messageId: messageID,
        partId: partID
      })
    )
  ],
  [
    "todo.updated",
    on(Schema.Struct({ ...bySession, todos: Schema.Array(Wire.WireTodo) }), ({ sessionID, todos }, eventId) => ({
      _tag: "TodosUpdated",
      eventId,
      sessionId: sessionID,
      todos: todos.map(Wire.toTodo)
    }))
  ],
  [
    "permission.asked",
    on(Wire.WirePermission, (wire, eventId) => ({
      _tag: "Asked",
      eventId,
      sessionId: wire.sessionID,
      ask: Wire.toPermission(wire)
    }))
  ],
  [
    "question.asked",
    on(Wire.WireQuestion, (wire, eventId) => ({
      _tag: "Asked",
      eventId,
      sessionId: wire.sessionID,
      ask: Wire.toQuestion(wire)
    }))
  ],
  ["permission.replied", askResolved],
  ["question.replied", askResolved],
  ["question.rejected", askResolved]
])
