/**
 * Translates the events of OpenCode 1.x, `{id, type, properties}`, to domain events. There is no replay.
 *
 * Deltas are nearly all of the traffic. A hand-written guard checks them at no measurable cost; the schemas of `Wire`
 * check all other events.
 *
 * @since 0.1.0
 */
import * as Brand from "effect/Brand"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type { MessageId, PartId, SessionId } from "../../domain/Ids.ts"
import { maxIdLength } from "../../domain/Ids.ts"
import type { WirePart } from "../../domain/Part.ts"
import type { PartDelta, ServerEvent } from "../../domain/TurnEvent.ts"
import * as EventFrames from "../EventFrames.ts"
import { each, maybe } from "../Lenient.ts"
import * as Wire from "./Wire.ts"

/**
 * Decodes the bytes of one connection.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeDecoder = (maxEventBytes?: number): EventFrames.Decoder =>
  EventFrames.makeDecoder(decodeEvent, maxEventBytes)

/**
 * Decodes the JSON of one event; `undefined` for an event that the domain ignores.
 *
 * **Details**
 *
 * An unreadable event is `Unread`, with two exceptions. An unreadable delta is dropped, because the end of its part
 * repeats the text, and no stored message has it before that. An event of an unknown type is dropped too, unless it
 * names an ask: its type may be the unreadable field.
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

/** A delta gets no further check: its part comes with an event or a stored message that is checked as a whole. */
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

type Decode = (properties: unknown, eventId: string | undefined) => ServerEvent | undefined

const bySession = { sessionID: Wire.SessionId }

const decodeOwner = Schema.decodeUnknownOption(Schema.Struct({
  sessionID: maybe(Wire.SessionId),
  info: maybe(Schema.Struct({ sessionID: maybe(Wire.SessionId) })),
  part: maybe(Schema.Struct({ sessionID: maybe(Wire.SessionId) }))
}))

/** The server must be asked about this event; without a session it may concern anybody's. */
const unreadOf = (properties: unknown): ServerEvent => {
  const owner = Option.getOrUndefined(decodeOwner(properties))
  return { _tag: "Unread", sessionId: owner?.sessionID ?? owner?.info?.sessionID ?? owner?.part?.sessionID }
}

const isAskId = Schema.is(Wire.AskId)

const namesAsk = (properties: unknown): boolean =>
  Predicate.isObject(properties) && (isAskId(properties["id"]) || isAskId(properties["requestID"]))

/**
 * Properties of another shape make the event `Unread`; a translation to `undefined` means that the domain ignores it.
 */
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

/**
 * What a text grew by, where the server tells it with the part (1.1.65). Newer servers have an event of its own for it (1.2.27).
 */
const growth = (
  part: WirePart,
  delta: string | undefined,
  base: { readonly eventId: string | undefined; readonly sessionId: SessionId }
): PartDelta | undefined =>
  delta === undefined || (part.type !== "text" && part.type !== "reasoning") || part.isComplete ? undefined : {
    _tag: "PartDelta",
    ...base,
    messageId: part.messageId,
    partId: part.id,
    field: part.type,
    delta
  }

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
        // A later event or the stored messages may tell whose message it is; until then its parts are neither shown nor
        // dropped.
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
      Schema.Struct({ sessionID: maybe(Wire.SessionId), part: Schema.Unknown, delta: maybe(Schema.String) }),
      ({ delta, part, sessionID }, eventId) => {
        const read = Wire.readPart(part)
        if (read._tag === "Unknown") return undefined
        const sessionId = read._tag === "Part" ? read.part.sessionID ?? sessionID : undefined
        if (read._tag === "Unread" || sessionId === undefined) return unreadOf({ sessionID, part })
        const base = { eventId, sessionId }
        return Wire.isContinuation(read.part)
          ? { _tag: "TurnContinued", ...base, messageId: read.part.messageID }
          : Option.getOrUndefined(
            Option.map(
              Wire.fromAnyPart(read.part),
              (part): ServerEvent => growth(part, delta, base) ?? { _tag: "PartUpdated", ...base, part }
            )
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
