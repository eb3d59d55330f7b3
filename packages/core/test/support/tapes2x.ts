/**
 * Recordings of a beta of OpenCode 2.x (0.0.0-next-16350): the events of one turn as `GET /api/event` sent them, and the session and its
 * messages afterwards. `{"__restart":true}` stands where the server was ended and started again.
 */
import { decodeEvent } from "#opencode/v2/Events"
import * as Runs from "#opencode/v2/Runs"
import * as Wire from "#opencode/v2/Wire"
import { MessageId, SessionId } from "@opencode-turn/core/Ids"
import * as Reply from "@opencode-turn/core/Reply"
import type { ServerEvent } from "@opencode-turn/core/TurnEvent"
import * as Schema from "effect/Schema"
import { readFileSync } from "node:fs"

export interface Tape {
  readonly sessionId: SessionId
  readonly promptId: MessageId
  readonly events: ReadonlyArray<unknown>
  readonly messages: ReadonlyArray<unknown>
}

const decode = Schema.decodeUnknownSync(Schema.fromJsonString(Schema.Struct({
  session: Schema.Struct({ id: SessionId }),
  events: Schema.Array(Schema.Unknown),
  messages: Schema.Array(Schema.Unknown)
})))
const isWithId = Schema.is(Schema.Struct({ id: MessageId }))

export const load = (name: string): Tape => {
  const file = new URL(`../fixtures/v2/${name}.json`, import.meta.url)
  const { events, messages, session } = decode(readFileSync(file, "utf8"))
  const [first] = messages
  if (!isWithId(first)) throw new Error(`${name} has no prompt`)
  return { sessionId: session.id, promptId: first.id, events, messages }
}

export const place: Wire.Place = { directory: "/workspace", worktree: "/" }

/** What the events mean to a client that has seen all of them. */
export const translate = (events: ReadonlyArray<unknown>, runs = Runs.make()): ReadonlyArray<ServerEvent> =>
  events.flatMap((event) => decodeEvent(JSON.stringify(event), runs, place) ?? [])

/** The reply that the events tell of. */
export const streamed = (tape: Tape, events = tape.events): Reply.Reply =>
  translate(events).reduce(
    (reply, event) =>
      event._tag === "Connected" || event._tag === "Heartbeat" || event._tag === "Unread"
        ? reply
        : Reply.apply(reply, event),
    Reply.make(tape)
  )

export const messagesOf = (tape: Tape, end: Wire.RunEnd = "ended") =>
  Wire.toMessages(tape.messages, tape.sessionId, place, end).messages
