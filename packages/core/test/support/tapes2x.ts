/**
 * Recordings of a beta of OpenCode 2.x (0.0.0-next-16350): the events of one turn as `GET /api/event` sent them, and the session, its
 * messages and those of its subagents afterwards. `{"__restart":true}` stands where the server was ended and started again.
 */
import { decodeEvent } from "#opencode/v2/Events"
import * as Runs from "#opencode/v2/Runs"
import * as Wire from "#opencode/v2/Wire"
import { MessageId, SessionId } from "@opencode-turn/core/Ids"
import * as Reply from "@opencode-turn/core/Reply"
import type { ServerEvent, TurnEvent } from "@opencode-turn/core/TurnEvent"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import { readdirSync, readFileSync } from "node:fs"

export interface Tape {
  readonly sessionId: SessionId
  readonly promptId: MessageId
  readonly events: ReadonlyArray<unknown>
  readonly messages: ReadonlyArray<unknown>
  readonly children: ReadonlyArray<{ readonly sessionId: SessionId; readonly messages: ReadonlyArray<unknown> }>
}

const directory = new URL("../fixtures/v2/", import.meta.url)

const decode = Schema.decodeUnknownSync(Schema.fromJsonString(Schema.Struct({
  session: Schema.Struct({ id: SessionId }),
  events: Schema.Array(Schema.Unknown),
  messages: Schema.Array(Schema.Unknown),
  children: Schema.optionalKey(
    Schema.Array(Schema.Struct({ sessionId: SessionId, messages: Schema.Array(Schema.Unknown) }))
  )
})))
const isWithId = Schema.is(Schema.Struct({ id: MessageId }))

/** The names of all recordings. */
export const names: ReadonlyArray<string> = readdirSync(directory)
  .filter((file) => file.endsWith(".json"))
  .map((file) => file.slice(0, -".json".length))

export const load = (name: string): Tape => {
  const { children = [], events, messages, session } = decode(
    readFileSync(new URL(`${name}.json`, directory), "utf8")
  )
  const [first] = messages
  if (!isWithId(first)) throw new Error(`${name} has no prompt`)
  return { sessionId: session.id, promptId: first.id, events, messages, children }
}

export const place: Wire.Place = { directory: "/workspace", worktree: "/" }

/** The type of an event as the server names it, and its data. */
export const typeOf = (event: unknown): string =>
  Predicate.hasProperty(event, "type") && typeof event.type === "string" ? event.type : ""
export const dataOf = (event: unknown): Readonly<Record<string, unknown>> =>
  Predicate.hasProperty(event, "data") && Predicate.isObject(event.data) ? event.data : {}

/** What the events mean to a client that has seen all of them. */
export const translate = (events: ReadonlyArray<unknown>, runs = Runs.make()): ReadonlyArray<ServerEvent> =>
  events.flatMap((event) => decodeEvent(JSON.stringify(event), runs, place) ?? [])

export const isTurnEvent = (event: ServerEvent): event is TurnEvent =>
  event._tag !== "Connected" && event._tag !== "Heartbeat" && event._tag !== "Unread"

/** Goes on with a reply by what the events tell. */
export const fold = (reply: Reply.Reply, events: ReadonlyArray<ServerEvent>): Reply.Reply =>
  events.filter(isTurnEvent).reduce(Reply.apply, reply)

/** The reply that the events tell of. */
export const streamed = (tape: Tape, events = tape.events): Reply.Reply => fold(Reply.make(tape), translate(events))

export const messagesOf = (tape: Tape, end: Wire.RunEnd = "ended") =>
  Wire.toMessages(tape.messages, tape.sessionId, place, end).messages

/** What the server has stored of each subagent. */
export const childrenOf = ({ children }: Tape) =>
  children.map(({ messages, sessionId }) => ({
    sessionId,
    messages: Wire.toMessages(messages, sessionId, place, "stopped").messages
  }))
