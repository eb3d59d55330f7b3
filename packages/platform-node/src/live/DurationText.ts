/**
 * Reads durations from a command line or the environment.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

/** Examples of valid durations, for error messages. */
export const example = `"30 seconds", 90s, 10m, or milliseconds as a plain number`

/** Reads a duration as {@link parse} does, but only with a unit: where milliseconds make no sense, a plain number is a slip. */
export const parseWithUnit = (text: string): Option.Option<Duration.Duration> =>
  /^[\d.\s]*$/.test(text) ? Option.none() : parse(text)

/** Reads a duration above zero: Effect's own spelling (`30 seconds`), a short unit (`90s`), or plain milliseconds. */
export const parse = (text: string): Option.Option<Duration.Duration> => {
  const [, count, unit = ""] = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text.trim()) ?? []
  if (count === undefined) return Option.none()
  const name = unit.toLowerCase()
  return Option.filter(
    decode(`${count} ${units.get(name) ?? name}`),
    (duration) => Duration.isGreaterThan(duration, Duration.zero)
  )
}

// internal

const decode = Schema.decodeOption(Schema.DurationFromString)

const units = new Map([
  ["", "millis"],
  ["ms", "millis"],
  ["s", "seconds"],
  ["sec", "seconds"],
  ["m", "minutes"],
  ["min", "minutes"],
  ["h", "hours"],
  ["d", "days"]
])
