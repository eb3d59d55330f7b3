/**
 * The bodies that the fake OpenCode accepts, and its errors for invalid ones (1.18.33).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { withValue } from "../Expected.ts"
import type { FakeRequest, FakeResponse } from "../Http.ts"
import { json, text, unknownError } from "../Http.ts"

const PermissionRule = Schema.Struct({
  permission: Schema.String,
  pattern: Schema.String,
  action: Schema.Literals(["allow", "ask", "deny"])
})

const NewSession = Schema.Struct({
  title: Schema.optional(Schema.String),
  parentID: Schema.optional(Schema.String),
  permission: Schema.optional(Schema.Array(PermissionRule)),
  agent: Schema.optional(Schema.String),
  model: Schema.optional(Schema.Struct({ id: Schema.String, providerID: Schema.String })),
  metadata: Schema.optional(Schema.Record(Schema.String, Schema.Unknown))
})

const SessionPatch = Schema.Struct({
  title: Schema.optionalKey(Schema.String),
  permission: Schema.optionalKey(Schema.Array(PermissionRule)),
  metadata: Schema.optionalKey(Schema.Record(Schema.String, Schema.Unknown)),
  time: Schema.optionalKey(Schema.Struct({ archived: Schema.optionalKey(Schema.Finite) }))
})

const partId = Schema.optionalKey(Schema.String.check(Schema.isStartingWith("prt")))

const FormatText = Schema.Struct({ type: Schema.Literal("text") }).annotate({ identifier: "OutputFormatText" })
const FormatJsonSchema = Schema.Struct({
  type: Schema.Literal("json_schema"),
  schema: Schema.Record(Schema.String, Schema.Unknown).annotate({ identifier: "JSONSchema" }),
  retryCount: Schema.Natural.pipe(Schema.withDecodingDefaultKey(Effect.succeed(2)))
}).annotate({ identifier: "OutputFormatJsonSchema" })
const Format = Schema.Union([FormatText, FormatJsonSchema]).annotate({ identifier: "OutputFormat" })

const Prompt = Schema.Struct({
  messageID: Schema.optionalKey(Schema.String.check(Schema.isStartingWith("msg"))),
  model: Schema.optionalKey(Schema.Struct({ providerID: Schema.String, modelID: Schema.String })),
  agent: Schema.optionalKey(Schema.String),
  variant: Schema.optionalKey(Schema.String),
  noReply: Schema.optionalKey(Schema.Boolean),
  tools: Schema.optionalKey(Schema.Record(Schema.String, Schema.Boolean)),
  format: Schema.optionalKey(Format),
  parts: Schema.Array(Schema.Union([
    Schema.Struct({ id: partId, type: Schema.Literal("text"), text: Schema.String }),
    Schema.Struct({
      id: partId,
      type: Schema.Literal("file"),
      mime: Schema.String,
      url: Schema.String,
      filename: Schema.optionalKey(Schema.String)
    }),
    Schema.Struct({ id: partId, type: Schema.Literal("agent"), name: Schema.String }),
    Schema.Struct({
      id: partId,
      type: Schema.Literal("subtask"),
      prompt: Schema.String,
      description: Schema.String,
      agent: Schema.String,
      model: Schema.optionalKey(Schema.Struct({ providerID: Schema.String, modelID: Schema.String })),
      command: Schema.optionalKey(Schema.String)
    })
  ]))
})

/**
 * A posted prompt. Fields that the fake does not use, such as `system`, are accepted and dropped.
 *
 * @category models
 * @since 0.1.0
 */
export interface Prompt extends Schema.Schema.Type<typeof Prompt> {}

const Fork = Schema.Struct({ messageID: Schema.optionalKey(Schema.String.check(Schema.isStartingWith("msg"))) })

const Revert = Schema.Struct({ messageID: Schema.String.check(Schema.isStartingWith("msg")) })

const Summarize = Schema.Struct({
  providerID: Schema.String,
  modelID: Schema.String,
  auto: Schema.optionalKey(Schema.Boolean)
})

const PermissionReply = Schema.Struct({
  reply: Schema.Literals(["once", "always", "reject"]),
  message: Schema.optionalKey(Schema.String)
})

const QuestionReply = Schema.Struct({ answers: Schema.Array(Schema.Array(Schema.String)) })

/**
 * The shape of most rejections; `kind` is `Payload`, `Params` or `Query`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const badRequest = (message: string, kind: string): FakeResponse =>
  json(400, { name: "BadRequest", data: { message, kind } })

/**
 * The shape of the other rejections.
 *
 * @category constants
 * @since 0.1.0
 */
export const plainBadRequest: FakeResponse = json(400, { _tag: "BadRequest" })

// Decodes a body, or returns the server's error text: the server validates with Effect's Schema too.
const payload = <A>(schema: Schema.Codec<A, unknown>) => {
  const decode = Schema.decodeUnknownResult(schema)
  return (request: FakeRequest): Result.Result<A, FakeResponse> => {
    const type = request.headers["content-type"] ?? "application/json"
    if (!type.includes("json")) {
      return Result.fail(text(415, "text/plain", `Unsupported content-type: ${type.split(";", 1)[0]}`))
    }
    const parsed = parse(request.body)
    return Result.isFailure(parsed)
      ? Result.fail(unknownError())
      : Result.mapError(
        decode(parsed.success),
        ({ message }) => badRequest(withValue(message, parsed.success), "Payload")
      )
  }
}

const decodeNewSession = Schema.decodeUnknownResult(NewSession)

/**
 * The body of a new session; a missing body equals an empty one.
 *
 * @category decoding
 * @since 0.1.0
 */
export const newSession = ({ body }: FakeRequest): Result.Result<typeof NewSession.Type, FakeResponse> =>
  parse(body).pipe(
    Result.flatMap((value) => decodeNewSession(value ?? {})),
    Result.mapError(() => plainBadRequest)
  )

/**
 * @category decoding
 * @since 0.1.0
 */
export const sessionPatch = payload(SessionPatch)

/**
 * @category decoding
 * @since 0.1.0
 */
export const prompt = payload(Prompt)

const decodeFork = Schema.decodeUnknownResult(Fork)

/**
 * @category decoding
 * @since 0.1.0
 */
export const fork = ({ body }: FakeRequest): Result.Result<typeof Fork.Type, FakeResponse> =>
  parse(body).pipe(
    Result.flatMap((value) => decodeFork(value ?? {})),
    Result.mapError(() => plainBadRequest)
  )

/**
 * @category decoding
 * @since 0.1.0
 */
export const revert = payload(Revert)

/**
 * @category decoding
 * @since 0.1.0
 */
export const summarize = payload(Summarize)

/**
 * @category decoding
 * @since 0.1.0
 */
export const permissionReply = payload(PermissionReply)

/**
 * @category decoding
 * @since 0.1.0
 */
export const questionReply = payload(QuestionReply)

// internal

const parse = (body: string): Result.Result<unknown, "malformed"> => {
  if (body === "") return Result.succeed(undefined)
  try {
    return Result.succeed(JSON.parse(body))
  } catch {
    return Result.fail("malformed")
  }
}
