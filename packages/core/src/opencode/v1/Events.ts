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
 * `push` takes one read and gives the events that it completed; an event that cannot be read is `Unread`. `dropped` counts the events
 * that mean nothing to the domain: those of an unknown type, and deltas that cannot be read. `hasFrame` tells whether anything was
 * complete so far, be it a comment. `push` throws a `RangeError` for an event of more than `maxEventBytes`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Decoder {
  readonly push: (bytes: Uint8Array) => ReadonlyArray<ServerEvent>
  readonly dropped: () => number
  readonly hasFrame: () => boolean
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
  let hasFrame = false

  const decodeBlock = (block: string): ReadonlyArray<ServerEvent> => {
    const events: Array<ServerEvent> = []
    let start = 0
    while (start < block.length) {
      const blank = block.indexOf("\n\n", start)
      const end = blank === -1 ? block.length : blank
      hasFrame ||= end > start
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
    hasFrame: () => hasFrame,
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
 * Reads the JSON of one event; `undefined` for one that means nothing to the domain.
 *
 * **Details**
 *
 * An event that cannot be read is `Unread`. A delta is not, because the end of its part repeats its text, and until then no record has
 * it. Neither is an event of an unknown type, unless it names a request for a person: its type may be what cannot be read.
 *
 * @category translations
 * @since 0.1.0
 */
export const decodeEvent = (data: string): ServerEvent | undefined => {
  const event = parse(data)
  if (!Predicate.isObject(event)) return unreadOf(undefined)
  const { id, properties, type } = event
  if (typeof type !== "string") return unreadOf(properties)
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
  const decode = decoders.get(type)
  if (decode !== undefined) return decode(properties, eventId)
  return namesAsk(properties) ? unreadOf(properties) : undefined
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

const bySession = { sessionID: Wire.SessionId }

const decodeOwner = Schema.decodeUnknownOption(Schema.Struct({
  sessionID: maybe(Wire.SessionId),
  info: maybe(Schema.Struct({ sessionID: maybe(Wire.SessionId) })),
  part: maybe(Schema.Struct({ sessionID: maybe(Wire.SessionId) }))
}))

/** What the server must be asked about; without a session it may be anybody's. */
const unreadOf = (properties: unknown): ServerEvent => {
  const owner = Option.getOrUndefined(decodeOwner(properties))
  return { _tag: "Unread", sessionId: owner?.sessionID ?? owner?.info?.sessionID ?? owner?.part?.sessionID }
}

const isAskId = Schema.is(Wire.AskId)

const namesAsk = (properties: unknown): boolean =>
  Predicate.isObject(properties) && (isAskId(properties["id"]) || isAskId(properties["requestID"]))

/** Properties of another shape make the event unread; those that are translated to `undefined` mean nothing to the domain. */
const on = <S extends Schema.Top & { readonly DecodingServices: never }>(
  schema: S,
  translate: (properties: S["Type"], eventId: string | undefined) => ServerEvent | undefined
): Decode => {
  const decode = Schema.decodeUnknownOption(schema)
  return (properties, eventId) =>
    Option.match(decode(properties), {
      onNone: () => unreadOf(properties),
      onSome: (decoded) => translate(decoded, eventId)
    })
}

const sessionOpened = on(
  Schema.Struct({ sessionID: maybe(Wire.SessionId), info: Wire.WireKnownSession }),
  ({ info, sessionID }, eventId) => {
    const id = info.id ?? sessionID
    return id === undefined ? unreadOf({ sessionID: info.parentID }) : {
      _tag: "SessionOpened",
      eventId,
      sessionId: id,
      parentId: info.parentID,
      title: info.title ?? "",
      agent: info.agent
    }
  }
)

const askResolved = on(
  Schema.Struct({ ...bySession, requestID: Wire.AskId }),
  ({ requestID, sessionID }, eventId) => ({
    _tag: "AskResolved",
    eventId,
    sessionId: sessionID,
    askId: requestID
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
      Schema.Struct({ sessionID: Schema.optionalKey(Wire.SessionId), error: Schema.optionalKey(Schema.Unknown) }),
      ({ error, sessionID }, eventId) =>
        sessionID === undefined ? undefined : {
          _tag: "SessionFailed",
          eventId,
          sessionId: sessionID,
          failure: Wire.toFailure(error)
        }
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
          ? unreadOf({ sessionID, info: wire })
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
      ({ part, sessionID }, eventId) => {
        const read = Wire.readPart(part)
        if (read._tag === "Unknown") return undefined
        const sessionId = read._tag === "Part" ? read.part.sessionID ?? sessionID : undefined
        if (read._tag === "Unread" || sessionId === undefined) return unreadOf({ sessionID, part })
        const base = { eventId, sessionId }
        return Wire.isContinuation(read.part)
          ? { _tag: "TurnContinued", ...base, messageId: read.part.messageID }
          : Option.getOrUndefined(
            Option.map(Wire.fromAnyPart(read.part), (part) => ({ _tag: "PartUpdated", ...base, part }))
          )
      }
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
