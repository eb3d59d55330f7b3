/**
 * The names of OpenCode 2.x: those of the beta (0.0.0-next-16350), which can be run and measured, and those of the release (2.0.21),
 * which could only be read.
 *
 * @since 0.1.0
 */
import type { Properties } from "../Events.ts"
import type { Input, Order } from "./Wire.ts"

/**
 * Which of the two servers of the 2.x line the fake imitates.
 *
 * @category models
 * @since 0.1.0
 */
export type Edition = "beta" | "release"

/**
 * The words in which the two differ.
 *
 * @category models
 * @since 0.1.0
 */
export interface Names {
  readonly edition: Edition
  readonly version: string
  /** The events of an input that was accepted, and of one that became a message. */
  readonly admitted: string
  readonly promoted: string
  readonly admission: (input: Input) => Properties
  readonly promotion: (input: Input) => Properties
  /** The event of an order to summarise, and its entry in the list of inputs. */
  readonly ordered: string
  readonly orderOf: (order: Order) => Properties
  readonly orderAnswer: (order: Order) => Properties
  /** The answer to a posted input, and its entry in the list of those that wait. */
  readonly answer: (input: Input) => Properties
  /** The field of a tool's events that names the call. */
  readonly callId: (id: string) => Properties
  /** The field of a permission's answer. */
  readonly decision: "decision" | "reply"
}

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = (edition: Edition): Names => edition === "beta" ? beta : release

// internal

const beta: Names = {
  edition: "beta",
  version: "0.0.0-next-16350",
  admitted: "session.input.admitted",
  promoted: "session.input.promoted",
  admission: ({ data, delivery, id, type }) => ({ inputID: id, input: { type, data, delivery } }),
  promotion: ({ id }) => ({ inputID: id }),
  ordered: "session.compaction.admitted",
  orderOf: ({ id }) => ({ inputID: id }),
  orderAnswer: ({ admittedSeq, createdMillis, id, sessionID }) => ({
    admittedSeq,
    id,
    sessionID,
    timeCreated: createdMillis,
    type: "compaction"
  }),
  answer: ({ admittedSeq, createdMillis, data, delivery, id, sessionID, type }) => ({
    admittedSeq,
    id,
    sessionID,
    timeCreated: createdMillis,
    type,
    data,
    delivery
  }),
  callId: (callID) => ({ callID }),
  decision: "reply"
}

const release: Names = {
  edition: "release",
  version: "2.0.21",
  admitted: "session.inbox.enqueued",
  promoted: "session.inbox.delivered",
  admission: ({ data, delivery, id, type }) => ({ inboxID: id, item: { type, payload: data, delivery } }),
  promotion: ({ id }) => ({ inboxID: id }),
  ordered: "session.inbox.enqueued",
  orderOf: ({ id }) => ({ inboxID: id, item: { type: "compaction", payload: {}, delivery: "steer" } }),
  orderAnswer: ({ createdMillis, id, sessionID }) => ({
    id,
    sessionID,
    time: { created: createdMillis },
    type: "compaction",
    payload: {},
    delivery: "steer"
  }),
  answer: ({ createdMillis, data, delivery, id, sessionID, type }) => ({
    id,
    sessionID,
    time: { created: createdMillis },
    type,
    payload: data,
    delivery
  }),
  callId: (id) => ({ id }),
  decision: "decision"
}
