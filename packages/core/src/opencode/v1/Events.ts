/**
 * The event stream of OpenCode 1.x: bytes of `GET /event` to domain events.
 *
 * **Contract**
 *
 * Each event is one or more `data:` lines and a blank line; the data is JSON `{id, type, properties}`. Lines end with LF, CRLF or CR,
 * as WHATWG has it. There is no SSE `id:`, no `retry:`, no replay. A read may hold many events, or a piece of one. The decoder keeps what is incomplete as a list of
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
import type { MessageId, PartId, SessionId } from "../../domain/Ids.ts"
import { maxIdLength } from "../../domain/Ids.ts"
import type { ServerEvent } from "../../domain/TurnEvent.ts"
import { each, maybe } from "./Lenient.ts"
import * as Wire from "./Wire.ts"

/**
 * Turns the bytes of one connection into events.
 *
 * **Details**
 *
 * `push` takes one read and gives the events that it completed. `dropped` counts the events that were not understood: of an
 * unknown type, of a session or a message that they do not name, or not JSON. `push` throws a `RangeError` for an event of more than
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
  // A byte order mark counts at the start of the stream only, so it is taken off by hand.
  const utf8 = new TextDecoder("utf-8", { ignoreBOM: true })
  let isFirst = true
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

  /**
   * The index behind the last blank line in `bytes`, or -1. A line ends with LF, CR, or both; a CR ends it at once, and the LF that
   * may follow it, perhaps in the next read, ends no other line.
   */
  const behindBlankLine = (bytes: Uint8Array): number => {
    const byteAt = (index: number) => (index >= 0 ? bytes[index] : index === -1 ? last : lastButOne)
    const before = (byte: number, at: number) => (at <= 0 ? -1 : bytes.lastIndexOf(byte, at - 1))
    let lf = before(newline, bytes.length)
    let cr = before(carriageReturn, bytes.length)
    while (lf !== -1 || cr !== -1) {
      const at = Math.max(lf, cr)
      const isPair = at === lf && byteAt(at - 1) === carriageReturn
      if (isLineEnd(byteAt(isPair ? at - 2 : at - 1))) return at + 1
      if (at === lf) lf = before(newline, at)
      else cr = before(carriageReturn, at)
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
      const decoded = utf8.decode(block)
      const text = isFirst && decoded.startsWith(byteOrderMark) ? decoded.slice(1) : decoded
      isFirst = false
      return decodeBlock(text.includes("\r") ? text.replaceAll(/\r\n?/g, "\n") : text)
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
  // The ids sort by time, so an odd one would make every later event look old.
  const eventId = typeof id === "string" && id.startsWith("evt_") ? id : undefined
  if (type === "message.part.delta" && Predicate.isObject(properties)) {
    const { delta, field, messageID, partID, sessionID } = properties
    return typeof delta === "string" && isId(partID) && isId(messageID) && isId(sessionID)
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

/** Of a delta no more is asked: its part comes with an event or a record that is checked as a whole. */
const isId = (value: unknown): value is string => typeof value === "string" && value.length <= maxIdLength

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
const byteOrderMark = "\uFEFF"

const isLineEnd = (byte: number | undefined): boolean => byte === newline || byte === carriageReturn

/** The data of the event in `block` from `start` to the blank line at `end`. */
const dataOf = (block: string, start: number, end: number): string =>
  // What OpenCode sends is one line; it is cut out of the block and copied nowhere.
  block.startsWith("data: ", start) && block.indexOf("\n", start) === end
    ? block.slice(start + 6, end)
    : block.slice(start, end).split("\n").filter((line) => line === "data" || line.startsWith("data:"))
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

const bySession = { sessionID: Wire.SessionId }

/** Events whose loss nothing but the server's lists can make good. */
const orUnread = (decode: Decode): Decode => {
  const sessionOf = Schema.decodeUnknownOption(Schema.Struct(bySession))
  return (properties, eventId) =>
    decode(properties, eventId) ??
      { _tag: "Unread", sessionId: Option.getOrUndefined(sessionOf(properties))?.sessionID }
}

const sessionOpened = on(
  Schema.Struct({ sessionID: maybe(Wire.SessionId), info: Wire.WireKnownSession }),
  ({ info, sessionID }, eventId) => {
    const id = info.id ?? sessionID
    return id === undefined ? undefined : {
      _tag: "SessionOpened",
      eventId,
      sessionId: id,
      parentId: info.parentID,
      title: info.title ?? "",
      agent: info.agent
    }
  }
)

const askResolved = orUnread(on(
  Schema.Struct({ ...bySession, requestID: Wire.AskId }),
  ({ requestID, sessionID }, eventId) => ({
    _tag: "AskResolved",
    eventId,
    sessionId: sessionID,
    askId: requestID
  })
))

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
      Schema.Struct({ ...bySession, error: Schema.optionalKey(Schema.Unknown) }),
      ({ error, sessionID }, eventId) => ({
        _tag: "SessionFailed",
        eventId,
        sessionId: sessionID,
        failure: Wire.toFailure(error)
      })
    )
  ],
  [
    "message.updated",
    on(
      Schema.Struct({ sessionID: maybe(Wire.SessionId), info: Wire.WireInfo }),
      ({ info: wire, sessionID }, eventId) => {
        const info = Option.getOrUndefined(Wire.toInfo(wire, [], { sessionId: sessionID }))
        // Whose it is may be told by a later event or by the record: its parts are neither shown nor dropped until then.
        return info === undefined || info.role === "opaque"
          ? undefined
          : { _tag: "MessageUpdated", eventId, sessionId: info.sessionId, info }
      }
    )
  ],
  [
    "message.removed",
    on(Schema.Struct({ ...bySession, messageID: Wire.MessageId }), ({ messageID, sessionID }, eventId) => ({
      _tag: "MessageRemoved",
      eventId,
      sessionId: sessionID,
      messageId: messageID
    }))
  ],
  [
    "message.part.updated",
    on(
      Schema.Struct({ sessionID: maybe(Wire.SessionId), part: Schema.Unknown }),
      ({ part, sessionID }, eventId) =>
        Option.getOrUndefined(Option.flatMap(Wire.decodePart(part), (wire): Option.Option<ServerEvent> => {
          const sessionId = wire.sessionID ?? sessionID
          if (sessionId === undefined) return Option.none()
          const base = { eventId, sessionId }
          return Wire.isContinuation(wire)
            ? Option.some({ _tag: "TurnContinued", ...base, messageId: wire.messageID })
            : Option.map(Wire.fromAnyPart(wire), (part) => ({ _tag: "PartUpdated", ...base, part }))
        }))
    )
  ],
  [
    "message.part.removed",
    on(
      Schema.Struct({ ...bySession, messageID: Wire.MessageId, partID: Wire.PartId }),
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
    on(Schema.Struct({ ...bySession, todos: each(Wire.WireTodo) }), ({ sessionID, todos }, eventId) => ({
      _tag: "TodosUpdated",
      eventId,
      sessionId: sessionID,
      todos: todos.map(Wire.toTodo)
    }))
  ],
  [
    "permission.asked",
    orUnread(on(Wire.WirePermission, (wire, eventId) => ({
      _tag: "Asked",
      eventId,
      sessionId: wire.sessionID,
      ask: Wire.toPermission(wire)
    })))
  ],
  [
    "question.asked",
    orUnread(on(Wire.WireQuestion, (wire, eventId) => ({
      _tag: "Asked",
      eventId,
      sessionId: wire.sessionID,
      ask: Wire.toQuestion(wire)
    })))
  ],
  ["permission.replied", askResolved],
  ["question.replied", askResolved],
  ["question.rejected", askResolved]
])
