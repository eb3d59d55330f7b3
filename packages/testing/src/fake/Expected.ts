/**
 * How both lines say that a body does not fit.
 *
 * @since 0.1.0
 */
import * as Predicate from "effect/Predicate"

/**
 * Appends the actual value to the expected one, as the server does: `Expected array, got "x"`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const withValue = (message: string, payload: unknown): string => {
  const [first = "", at = ""] = message.split("\n")
  if (!first.startsWith("Expected")) return message
  const path = [...at.matchAll(/\[("[^"]*"|\d+)\]/g)].map(([, key]) => String(JSON.parse(key ?? "")))
  const found = path.reduce<unknown>(
    (value, key) => (Predicate.hasProperty(value, key) ? value[key] : undefined),
    payload
  )
  return [`${first}, got ${JSON.stringify(found)}`, at].join("\n").trimEnd()
}
