/**
 * The order of events, as far as their ids tell it: they sort by the server's time of sending.
 *
 * @since 0.1.0
 */

/** Whether an event is not newer than the newest one that counted. Without both ids nothing can be told. */
export const isStale = (newest: string | undefined, eventId: string | undefined): boolean =>
  newest !== undefined && eventId !== undefined && eventId <= newest
