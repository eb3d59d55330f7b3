/**
 * The order and times of events by their ids, which sort by the server's time of sending.
 *
 * @since 0.1.0
 */

/** Whether an event is not newer than the newest one that counted. Without both ids it counts as newer. */
export const isStale = (newest: string | undefined, eventId: string | undefined): boolean =>
  newest !== undefined && eventId !== undefined && eventId <= newest

/**
 * The milliseconds from the making of an event, a permission or a question to `atMillis`, both by the server's clock. `undefined` if the id
 * does not tell its time: an id has 12 hex digits behind its prefix, the low 48 bits of milliseconds × 4096 (1.18.33, 2.x).
 */
export const millisFrom = (id: string | undefined, atMillis: number): number | undefined => {
  const hex = id === undefined ? undefined : /^(?:evt|per|que|frm)_([0-9a-f]{12})/.exec(id)?.[1]
  if (hex === undefined) return undefined
  const sentMillis = Math.floor(Number.parseInt(hex, 16) / ticksPerMilli)
  const millis = (Math.trunc(atMillis) - sentMillis) % cycleMillis
  // A time in the past gives a negative distance, instead of nearly a whole cycle of 2 years.
  return millis > cycleMillis / 2 ? millis - cycleMillis : millis < -cycleMillis / 2 ? millis + cycleMillis : millis
}

// internal

const ticksPerMilli = 4096

/** The ids count milliseconds in 36 bits. */
const cycleMillis = 2 ** 36
