/**
 * The combinators that make a wire schema tolerant: an odd value costs itself, and nothing around it.
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
 * A field that may be absent, `null` or of another shape: it is then absent from the decoded value.
 *
 * @category combinators
 * @since 0.1.0
 */
export const maybe = <S extends Decodable>(schema: S) =>
  Schema.optionalKey(schema.pipe(Schema.catchDecoding(() => Effect.succeedNone)))

/**
 * A list whose odd entries are left out.
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
 * A list whose odd entries are replaced, because the place of an entry means something.
 *
 * @category combinators
 * @since 0.1.0
 */
export const eachOr = <S extends Decodable>(schema: S, replacement: S["Type"]) =>
  Schema.Array(schema.pipe(Schema.catchDecoding(() => Effect.succeedSome(replacement))))
