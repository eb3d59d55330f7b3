/**
 * Combinators that make a wire schema tolerant: an odd value loses itself, and nothing around it.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SchemaTransformation from "effect/SchemaTransformation"

/**
 * A schema that decodes without a service.
 *
 * @category models
 * @since 0.1.0
 */
export type Decodable = Schema.Top & { readonly DecodingServices: never }

/**
 * A field that may be absent, `null` or of another shape; the decoded value then lacks it.
 *
 * @category combinators
 * @since 0.1.0
 */
export const maybe = <S extends Decodable>(schema: S) =>
  Schema.optionalKey(schema.pipe(Schema.catchDecoding(() => Effect.succeedNone)))

/**
 * An object of any content. Values below {@link maxLevels} levels are replaced by {@link cutMark}, because comparing,
 * hashing or storing them would overflow the stack.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Json = Schema.Record(Schema.String, Schema.Unknown).pipe(
  Schema.decodeTo(
    Schema.Record(Schema.String, Schema.Unknown),
    SchemaTransformation.transform<Fields, Fields>({
      decode: (fields) => (isDeeper(fields, maxLevels) ? cutFields(fields, maxLevels) : fields),
      encode: identity
    })
  )
)

/**
 * The most levels of objects and lists in an open value. Tools use some ten.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxLevels = 200

/**
 * Replaces a value that was nested too deep.
 *
 * @category constants
 * @since 0.1.0
 */
export const cutMark = "<cut: nested deeper than 200 levels>"

/**
 * A list that drops its odd entries.
 *
 * @category combinators
 * @since 0.1.0
 */
export const each = <S extends Decodable>(schema: S) => {
  const decode = Schema.decodeUnknownOption(schema)
  return Schema.Array(Schema.Unknown).pipe(
    Schema.decodeTo(
      Schema.Array(Schema.toType(schema)),
      SchemaTransformation.transform<ReadonlyArray<S["Type"]>, ReadonlyArray<unknown>>({
        decode: (entries) => entries.flatMap((entry) => Option.toArray(decode(entry))),
        encode: identity
      })
    )
  )
}

/**
 * A list that replaces its odd entries, because the place of an entry has a meaning.
 *
 * @category combinators
 * @since 0.1.0
 */
export const eachOr = <S extends Decodable>(schema: S, replacement: S["Type"]) =>
  Schema.Array(schema.pipe(Schema.catchDecoding(() => Effect.succeedSome(replacement))))

/**
 * Whether {@link Json} would cut the value.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isTooDeep = (value: unknown): boolean => isDeeper(value, maxLevels)

// internal

type Fields = Readonly<Record<string, unknown>>

const isDeeper = (value: unknown, levels: number): boolean =>
  typeof value === "object" && value !== null &&
  (levels === 0 || Object.values(value).some((nested) => isDeeper(nested, levels - 1)))

const cut = (value: unknown, levels: number): unknown => {
  if (typeof value !== "object" || value === null) return value
  if (levels === 0) return cutMark
  return Array.isArray(value)
    ? value.map((nested: unknown) => cut(nested, levels - 1))
    : cutFields(value, levels)
}

const cutFields = (fields: object, levels: number): Fields =>
  Object.fromEntries(Object.entries(fields).map(([key, nested]) => [key, cut(nested, levels - 1)]))
