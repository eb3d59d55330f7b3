/**
 * Whether a session has what it was to be given. Some servers drop a field without saying so, and their answer shows it.
 *
 * @since 0.1.0
 */
import * as Equal from "effect/Equal"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { PermissionRule } from "../domain/Ask.ts"
import type { Session } from "../domain/Message.ts"

/**
 * Whether the last rules of the session are these.
 *
 * @category predicates
 * @since 0.1.0
 */
export const keepsRules = (
  rules: ReadonlyArray<PermissionRule>,
  { permission }: Pick<Session, "permission">
): boolean =>
  rules.length === 0 ||
  Equal.equals(
    permission.slice(-rules.length),
    rules.map(({ action, pattern, permission }) => ({ permission, pattern, action }))
  )

/**
 * Whether the session has each field of the metadata. A field that is `undefined` is not sent.
 *
 * @category predicates
 * @since 0.1.0
 */
export const keepsMetadata = (
  metadata: Readonly<Record<string, unknown>>,
  session: Pick<Session, "metadata">
): boolean => {
  const sent = Option.getOrElse(sentAs(metadata), () => metadata)
  return Object.entries(sent).every(([key, value]) => Equal.equals(session.metadata[key], value))
}

// internal

const encode = Schema.encodeUnknownOption(Schema.fromJsonString(Schema.Unknown))
const decode = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Record(Schema.String, Schema.Unknown)))

/** The value as JSON carries it. */
const sentAs = (metadata: Readonly<Record<string, unknown>>) => Option.flatMap(encode(metadata), decode)
