/**
 * What a turn's answer is to be, where it is to be a value instead of a text.
 *
 * **Responsibilities**: the JSON Schema that is sent, the reading of what came back, the words in which the agent is told what is
 * wrong with it.
 *
 * **Not responsibilities**: when it is told (`Turn`). OpenCode turns the schema into a tool that the model has to call, and gives
 * the arguments of that call as the message's `structured` (1.18.33).
 *
 * @since 0.1.0
 */
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as JsonPointer from "effect/JsonPointer"
import * as JsonSchema from "effect/JsonSchema"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as SchemaAST from "effect/SchemaAST"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaRepresentation from "effect/SchemaRepresentation"
import type { WirePart } from "../domain/Part.ts"
import { InvalidInput, type OutputIssue } from "../domain/TurnError.ts"
import * as Exchange from "../reply/Exchange.ts"
import * as JsonInText from "./JsonInText.ts"
import * as SchemaBounds from "./SchemaBounds.ts"

/**
 * Where an answer is no value of the output; never empty.
 *
 * @category models
 * @since 0.1.0
 */
export type Issues = Arr.NonEmptyReadonlyArray<OutputIssue>

/**
 * An answer that was read: the value, and its JSON, which is what a reader sees. What the schema leaves out is in neither.
 *
 * @category models
 * @since 0.1.0
 */
export interface Answer<out A> {
  readonly value: A
  readonly json: string
}

/**
 * An output of type `A`: its JSON Schema (draft 2020-12), and how the value that came back is read.
 *
 * **Details**
 *
 * Providers take objects only as the arguments of a tool, so a value of any other kind comes as the field `value` of an object.
 *
 * @category models
 * @since 0.1.0
 */
export interface Output<out A> {
  readonly jsonSchema: JsonSchema.JsonSchema
  readonly decode: (sent: unknown) => Effect.Effect<Answer<A>, Issues>
}

/**
 * A schema, or an output that was made before, for example from a JSON Schema.
 *
 * @category models
 * @since 0.1.0
 */
export type OutputInput<A> = Schema.Codec<A, unknown> | Output<A>

/**
 * The output that a schema describes. A value is read from the schema's JSON form: a `Schema.Date` from a text, for example.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromSchema = <A>(schema: Schema.Codec<A, unknown>): Output<A> => {
  const { definitions, schema: root } = Schema.toJsonSchemaDocument(schema)
  // The schema of a class, and any other with an identifier, is nothing but a reference to its definition.
  const [folder, name = ""] = JsonPointer.parseUriFragment(String(root["$ref"])) ?? []
  return make(
    {
      ...(folder === "$defs" ? definitions[name] : root),
      ...(Object.keys(definitions).length > 0 && { $defs: definitions })
    },
    Schema.toCodecJson(schema)
  )
}

/**
 * The output that a JSON Schema (draft 2020-12) describes. Fails for what is none, and for keywords that cannot be checked here
 * (`if`, `contains`, references to other documents, …): an answer that nobody checked is not to pass for one that fits.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromJsonSchema = Effect.fnUntraced(function*(
  jsonSchema: unknown
): Effect.fn.Return<Output<unknown>, InvalidInput> {
  if (!Predicate.isReadonlyObject(jsonSchema) || Array.isArray(jsonSchema)) {
    return yield* notASchema("it is no JSON object")
  }
  const own: JsonSchema.JsonSchema = { ...jsonSchema }
  const reason = SchemaBounds.whyUnsafe(own)
  if (reason !== undefined) return yield* notASchema(reason)
  const patterns = new Map<string, SchemaBounds.Guarded>()
  const schema = yield* Effect.catch(
    Effect.try({
      try: () =>
        SchemaRepresentation.fromJsonSchemaDocument(JsonSchema.fromSchemaDraft2020_12(own), {
          patterns: "apply",
          onEnter: (schema) => withGuards(checkKeywords(schema), patterns)
        }),
      catch: (cause) => (Predicate.isError(cause) ? cause.message : "it is no JSON Schema")
    }),
    notASchema
  )
  // What is imported is made of built-in schemas, which need no services. It has an index signature wherever it allows further
  // properties, so that any other one is too much.
  return make(own, Schema.make<Schema.Codec<unknown>>(schema.ast), { onExcessProperty: "error" }, patterns)
})

/**
 * An output of which any value fits: for a schema that cannot be checked here.
 *
 * @category constructors
 * @since 0.1.0
 */
export const unchecked = (jsonSchema: JsonSchema.JsonSchema): Output<unknown> => make(jsonSchema, Schema.Unknown)

/**
 * The output that a turn's input asks for.
 *
 * @category constructors
 * @since 0.1.0
 */
export const from = <A>(input: OutputInput<A>): Output<A> => (Schema.isSchema(input) ? fromSchema(input) : input)

/**
 * OpenCode's `format` of a prompt for values of a JSON Schema.
 *
 * @category conversions
 * @since 0.1.0
 */
export const toFormat = (jsonSchema: JsonSchema.JsonSchema): Readonly<Record<string, unknown>> => ({
  type: "json_schema",
  schema: isObjectSchema(jsonSchema) ? jsonSchema : wrapped(jsonSchema)
})

/**
 * Reads the answer of an exchange: the structured value of its last message, or, where the server has none, the value that its
 * text gives.
 *
 * **Details**
 *
 * A text that is JSON is the value. In a text with other words, it is the one JSON value that fits and is set apart from the words: in a
 * block of code, on lines of its own, or as an object behind the last word. A text with two values that fit gives none.
 *
 * @category steps
 * @since 0.1.0
 */
export const read = <A>(output: Output<A>, exchange: Exchange.Exchange): Effect.Effect<Answer<A>, Issues> => {
  const last = Exchange.lastStep(exchange)
  const structured = last?.info.structured ?? undefined
  return structured === undefined ? readText(output, textOf(last?.parts ?? [])) : output.decode(structured)
}

/**
 * Tells the agent what is wrong with its answer.
 *
 * @category constructors
 * @since 0.1.0
 */
export const repairPrompt = (issues: ReadonlyArray<OutputIssue>): string =>
  [
    "Your last answer is not a value of the JSON Schema that was asked for:",
    ...issues.map(({ message, path }) => (path === "" ? `- ${message}` : `- ${path}: ${message}`)),
    "Give the whole answer again, as a value that fits the schema."
  ].join("\n")

/**
 * The one issue of a value as a whole.
 *
 * @category constructors
 * @since 0.1.0
 */
export const issue = (message: string): Issues => [{ path: "", message }]

// internal

const make = <A>(
  jsonSchema: JsonSchema.JsonSchema,
  codec: Schema.Codec<A, unknown>,
  options?: Pick<SchemaAST.ParseOptions, "onExcessProperty">,
  patterns: ReadonlyMap<string, SchemaBounds.Guarded> = new Map()
): Output<A> => {
  const decode = Schema.decodeUnknownEffect(codec, { ...options, errors: "all" })
  const encode = Schema.encodeEffect(codec)
  const isWrapped = !isObjectSchema(jsonSchema)
  return {
    jsonSchema,
    decode: Effect.fnUntraced(function*(sent) {
      const given = isWrapped && isWrapper(sent) ? sent.value : sent
      if (SchemaBounds.isTooDeep(given)) {
        return yield* Effect.fail(issue(`it is nested more than ${SchemaBounds.maxDepth} levels deep`))
      }
      if (SchemaBounds.isTooMuch(given, [...patterns.values()])) {
        return yield* Effect.fail(
          issue("its texts are too long together for the patterns of the schema: give shorter or fewer texts")
        )
      }
      const value = yield* Effect.mapError(decode(given), ({ issue }) => toIssues(issue, patterns))
      // A schema that cannot go back leaves the JSON as it came.
      const json = yield* Effect.orElseSucceed(encode(value), () => given)
      return { value, json: JSON.stringify(json, undefined, 2) }
    })
  }
}

/** Fails for a keyword of the wrong shape. The import would read it as "anything goes", and check nothing. */
const checkKeywords = (schema: JsonSchema.JsonSchema): JsonSchema.JsonSchema => {
  const issue = Result.getOrUndefined(Result.flip(decodeKeywords(schema)))
  if (issue !== undefined) {
    throw new Error(toIssues(issue.issue).map(({ message, path }) => `${path}: ${message}`).join("; "))
  }
  return schema
}

/**
 * Puts a guard around each pattern, so that a long text cannot hold up everything else. `patterns` collects the guarded patterns by their
 * original, so that an issue can quote the original.
 */
const withGuards = (
  schema: JsonSchema.JsonSchema,
  patterns: Map<string, SchemaBounds.Guarded>
): JsonSchema.JsonSchema => {
  const guard = (pattern: string): string => {
    const guarded = SchemaBounds.guarded(pattern)
    if (guarded !== undefined) patterns.set(pattern, guarded)
    return guarded?.pattern ?? pattern
  }
  const { pattern, patternProperties } = schema
  return {
    ...schema,
    ...(Predicate.isString(pattern) && { pattern: guard(pattern) }),
    ...(Predicate.isObject(patternProperties) && {
      patternProperties: Object.fromEntries(
        Object.entries(patternProperties).map(([pattern, schema]) => [guard(pattern), schema])
      )
    })
  }
}

const TypeName = Schema.Literals(["array", "boolean", "integer", "null", "number", "object", "string"])
const Subschema = Schema.Union([Schema.Boolean, Schema.Record(Schema.String, Schema.Unknown)])
const Subschemas = Schema.Record(Schema.String, Subschema)
const Count = Schema.optionalKey(Schema.Natural)
const Limit = Schema.optionalKey(Schema.Finite)

/** The keywords that decide what fits, as far as their shape goes. */
const decodeKeywords = Schema.decodeUnknownResult(Schema.Struct({
  type: Schema.optionalKey(Schema.Union([TypeName, Schema.Array(TypeName)])),
  enum: Schema.optionalKey(Schema.Array(Schema.Unknown)),
  properties: Schema.optionalKey(Subschemas),
  patternProperties: Schema.optionalKey(Subschemas),
  additionalProperties: Schema.optionalKey(Subschema),
  required: Schema.optionalKey(Schema.Array(Schema.String)),
  minProperties: Count,
  maxProperties: Count,
  items: Schema.optionalKey(Subschema),
  prefixItems: Schema.optionalKey(Schema.Array(Subschema)),
  minItems: Count,
  maxItems: Count,
  uniqueItems: Schema.optionalKey(Schema.Boolean),
  minLength: Count,
  maxLength: Count,
  pattern: Schema.optionalKey(Schema.String),
  minimum: Limit,
  maximum: Limit,
  exclusiveMinimum: Limit,
  exclusiveMaximum: Limit,
  multipleOf: Limit,
  allOf: Schema.optionalKey(Schema.Array(Subschema)),
  anyOf: Schema.optionalKey(Schema.Array(Subschema)),
  oneOf: Schema.optionalKey(Schema.Array(Subschema)),
  $defs: Schema.optionalKey(Subschemas),
  $ref: Schema.optionalKey(Schema.String)
}))

const isObjectSchema = (jsonSchema: JsonSchema.JsonSchema): boolean => jsonSchema["type"] === "object"

const wrapped = ({ $defs, $schema, ...value }: JsonSchema.JsonSchema): JsonSchema.JsonSchema => ({
  ...($schema !== undefined && { $schema }),
  type: "object",
  properties: { value },
  required: ["value"],
  additionalProperties: false,
  ...($defs !== undefined && { $defs })
})

/** The model may also give the value as it is, without the object around it. */
const isWrapper = (sent: unknown): sent is { readonly value: unknown } =>
  Predicate.hasProperty(sent, "value") && Object.keys(sent).length === 1

const textOf = (parts: ReadonlyArray<WirePart>): string =>
  parts.flatMap((part) => (part.type === "text" ? [part.text] : [])).join("\n\n").trim()

const readText = Effect.fnUntraced(function*<A>(output: Output<A>, text: string): Effect.fn.Return<Answer<A>, Issues> {
  if (text === "") return yield* Effect.fail(issue("there is no value"))
  const whole = JsonInText.parse(text)
  if (Result.isSuccess(whole)) return yield* output.decode(whole.success)
  const found = JsonInText.find(text)
  if (found === undefined) return yield* Effect.fail(issue(severalValues))
  const fitting = new Map<string, { readonly answer: Answer<A>; isSetApart: boolean }>()
  let issues = issue("it is no JSON")
  for (const { isSetApart, value } of found) {
    const answer = yield* Effect.result(output.decode(value))
    if (Result.isFailure(answer)) {
      // Of several that do not fit, the last one is most likely to be meant.
      if (isSetApart) issues = answer.failure
      continue
    }
    const { json } = answer.success
    fitting.set(json, {
      answer: answer.success,
      isSetApart: isSetApart || fitting.get(json)?.isSetApart === true
    })
  }
  if (fitting.size > 1) return yield* Effect.fail(issue(severalValues))
  const [only] = fitting.values()
  return only?.isSetApart === true ? only.answer : yield* Effect.fail(issues)
})

const severalValues = "it holds several JSON values, and it is not clear which one is meant: give only one"

/** As many as help: the agent reads them, and they are stored. */
const maxIssues = 20
const maxIssueLength = 500

const toIssues = (
  failed: SchemaIssue.Issue,
  patterns: ReadonlyMap<string, SchemaBounds.Guarded> = new Map()
): Issues => {
  const { issues } = format(failed)
  const told = issues.slice(0, maxIssues).map(({ message, path }): OutputIssue => ({
    path: cut((path ?? []).reduce<string>((before, segment) => {
      const key = Predicate.isObject(segment) && "key" in segment ? segment.key : segment
      return typeof key === "number" ? `${before}[${key}]` : before === "" ? String(key) : `${before}.${String(key)}`
    }, "")),
    message: cut(
      [...patterns].reduce(
        (before, [pattern, { longest, pattern: guarded }]) =>
          before.replaceAll(guarded, `${pattern}, and of at most ${longest} characters`),
        message
      )
    )
  }))
  const rest = issues.length - told.length
  const all = rest > 0 ? [...told, { path: "", message: `and ${rest} more` }] : told
  return Arr.isReadonlyArrayNonEmpty(all) ? all : issue("it does not fit")
}

const cut = (text: string): string =>
  text.length > maxIssueLength ? `${text.slice(0, maxIssueLength).toWellFormed()}…` : text

const format = SchemaIssue.makeFormatterStandardSchemaV1()

const notASchema = (reason: string): Effect.Effect<never, InvalidInput> =>
  Effect.fail(new InvalidInput({ field: "output", reason: `it is no JSON Schema that can be checked: ${reason}` }))
