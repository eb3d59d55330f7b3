/**
 * Recordings of opencode 1.18.33: the events of one turn as `GET /event` sent them, and the messages stored afterwards.
 *
 * The machine's paths are replaced by `/workspace`, response headers are left out, and of the events that name no session
 * one of each type is kept. A second `server.connected` in a recording stands where the server was killed and restarted.
 */

import * as Events from "#opencode/v1/Events"
import * as Wire from "#opencode/v1/Wire"
import type { MessageId, SessionId } from "@opencode-turn/core/Ids"
import type { Message } from "@opencode-turn/core/Message"
import * as Reply from "@opencode-turn/core/Reply"
import type { ServerEvent, TurnEvent } from "@opencode-turn/core/TurnEvent"
import * as Schema from "effect/Schema"
import { readdirSync, readFileSync } from "node:fs"

export interface Tape {
  readonly name: string
  readonly ids: { readonly sessionId: SessionId; readonly promptId: MessageId }
  /** The JSON of each event. */
  readonly wire: ReadonlyArray<string>
  readonly events: ReadonlyArray<ServerEvent>
  readonly messages: ReadonlyArray<Message>
}

const directory = new URL("../fixtures/", import.meta.url)

const decode = Schema.decodeUnknownSync(Schema.fromJsonString(Schema.Struct({
  sessionId: Wire.SessionId,
  promptId: Wire.MessageId,
  events: Schema.Array(Schema.Unknown),
  messages: Schema.Array(Schema.Unknown)
})))

const load = (name: string): Tape => {
  const { events, messages, promptId, sessionId } = decode(readFileSync(new URL(`${name}.json`, directory), "utf8"))
  const wire = events.map((event) => JSON.stringify(event))
  return {
    name,
    ids: { sessionId, promptId },
    wire,
    events: wire.flatMap((json) => Events.decodeEvent(json) ?? []),
    messages: Wire.toMessages(messages, sessionId).messages
  }
}

export const tapes: ReadonlyArray<Tape> = readdirSync(directory)
  .filter((file) => file.endsWith(".json"))
  .map((file) => load(file.slice(0, -".json".length)))

export const tape = (name: string): Tape => {
  const found = tapes.find((tape) => tape.name === name)
  if (found === undefined) throw new Error(`no recording ${name}`)
  return found
}

export const empty = (tape: Tape): Reply.Reply => Reply.make(tape.ids)

/** Folds what one read of a stream may bring; a connection after the first comes with a gap. */
export const step = (reply: Reply.Reply, event: ServerEvent): Reply.Reply => {
  if (event._tag === "Heartbeat") return reply
  if (event._tag === "Connected") return reply.eventCount === 0 ? reply : Reply.markGap(reply)
  return event._tag === "Unread" ? Reply.markGap(reply) : Reply.apply(reply, event)
}

export const play = (tape: Tape, events: ReadonlyArray<ServerEvent> = tape.events): Reply.Reply =>
  events.reduce(step, empty(tape))

export const isTurnEvent = (event: ServerEvent): event is TurnEvent =>
  event._tag !== "Connected" && event._tag !== "Heartbeat" && event._tag !== "Unread"
