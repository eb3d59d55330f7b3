/**
 * OpenCode 1.x over HTTP: routes, bodies, and errors.
 *
 * **Gotchas**
 *
 * - `/event`, `/session/status`, `/permission` and `/question` are per directory: a client sees one directory's (1.18.33).
 * - An unknown route answers 200 with the HTML of the web application, so every JSON answer is checked for it.
 * - Redirects are not followed and the password goes to the configured origin only.
 *
 * @since 0.1.0
 */
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import type * as HttpClientError from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import type { EventsError, RequestError } from "../ClientError.ts"
import {
  DecodeError,
  MessageNotFound,
  RequestNotFound,
  RequestTimeout,
  SessionNotFound,
  StatusError,
  StreamLost,
  TransportError,
  Unauthorized,
  UnsupportedServer
} from "../ClientError.ts"
import * as Contained from "../Contained.ts"
import type { Dialect, Health, MessagePage } from "../Dialect.ts"
import { SessionId } from "../Ids.ts"
import type { Message } from "../Message.ts"
import { makeDecoder } from "./Events.ts"
import { each } from "./Lenient.ts"
import * as Wire from "./Wire.ts"

/**
 * Where the server is and how it is talked to.
 *
 * **Details**
 *
 * `directory` is the project's folder on the server (default: the server's own working directory), `workspace` the id of a
 * workspace. `requestTimeout` is for one request, 30 s by default: a request that reaches a server in the first moments of a
 * cold start can hang for a minute, and is better sent again.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly baseUrl: string
  readonly password?: Redacted.Redacted<string> | undefined
  readonly directory?: string | undefined
  readonly workspace?: string | undefined
  readonly requestTimeout?: Duration.Input | undefined
}

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<Dialect, never, HttpClient.HttpClient> {
  const http = yield* HttpClient.HttpClient
  const { baseUrl, origin, password } = addressOf(options)
  const timeoutMillis = Duration.toMillis(Duration.fromInputUnsafe(options.requestTimeout ?? "30 seconds"))
  const scope = {
    ...(options.directory !== undefined && { directory: options.directory }),
    ...(options.workspace !== undefined && { workspace: options.workspace })
  }

  /** The server answered last, and no connection to it was lost since. */
  let isUp = false

  /** Sends one request and gives the response whatever its status, once it is known to be the server's own. */
  const send = (operation: string, request: HttpClientRequest.HttpClientRequest) =>
    http.execute(request.pipe(
      HttpClientRequest.prependUrl(baseUrl),
      HttpClientRequest.setUrlParams(scope),
      password === undefined
        ? (request) => request
        : HttpClientRequest.basicAuth("opencode", Redacted.value(password))
    )).pipe(
      Effect.provideContext(notFollowingRedirects),
      Effect.onExit((exit) =>
        Effect.sync(() => {
          isUp = Exit.isSuccess(exit)
        })
      ),
      Effect.mapError((error) => toTransportError(operation, origin, error)),
      Effect.filterOrFail(
        (response) => response.status !== 401 && response.status !== 403,
        (response) => new Unauthorized({ origin, status: response.status })
      )
    )

  const within = <A, E, R>(millis: number, operation: string, effect: Effect.Effect<A, E, R>) =>
    Effect.timeoutOrElse(effect, {
      duration: millis,
      orElse: () => Effect.fail(new RequestTimeout({ operation, origin, millis }))
    })
  const withTimeout = <A, E, R>(operation: string, effect: Effect.Effect<A, E, R>) =>
    within(timeoutMillis, operation, effect)

  /** The body as text of a success; otherwise the error that the server described. */
  const read = Effect.fnUntraced(function*(operation: string, response: HttpClientResponse.HttpClientResponse) {
    const body = yield* Effect.mapError(response.text, (error) => toTransportError(operation, origin, error))
    // A page instead of an answer is another server's, or OpenCode's own for a route that it does not have. With any other
    // status it is a proxy's, and may be worth another try.
    if (isHtml(response) && (response.status === 200 || response.status === 404)) {
      return yield* new UnsupportedServer({ origin, seen: `an HTML page (${response.status})` })
    }
    if (response.status < 200 || response.status >= 300) {
      return yield* toStatusError(operation, response.status, body)
    }
    return body
  })

  const requestText = (operation: string, request: HttpClientRequest.HttpClientRequest) =>
    Effect.flatMap(send(operation, HttpClientRequest.acceptJson(request)), (response) => read(operation, response))

  let isKnown = false
  const probe: Effect.Effect<Health, RequestError> = Effect.gen(function*() {
    const response = yield* send("health", HttpClientRequest.get("/global/health", { acceptJson: true }))
    if (response.status === 404) {
      return yield* new UnsupportedServer({ origin, seen: "404 for GET /global/health" })
    }
    const health = Option.getOrUndefined(decodeHealth(yield* read("health", response)))
    if (health === undefined) {
      return yield* new UnsupportedServer({ origin, seen: "something else than OpenCode's health" })
    }
    if (!isSupported(health.version)) {
      return yield* new UnsupportedServer({ origin, seen: `OpenCode ${health.version}` })
    }
    isKnown = true
    return health
  })

  /**
   * Before the first request, and before the next one after a request that broke off: the server may be starting, and lets a
   * request hang for a minute that reaches it in its first moments (1.18.33). The probe is given up soon and tried again by
   * whoever retries. The time limit is around the wait for somebody else's probe too: requests that come together to a server
   * that hangs fail together.
   */
  const probing = yield* Semaphore.make(1)
  const isReady = () => isUp && isKnown
  const whenReady = Effect.suspend(() =>
    isReady() ? Effect.void : within(
      probeMillis,
      "health",
      Semaphore.withPermit(probing, Effect.suspend(() => (isReady() ? Effect.void : Effect.asVoid(probe))))
    )
  )

  const request = (operation: string, request: HttpClientRequest.HttpClientRequest) =>
    Effect.andThen(whenReady, withTimeout(operation, requestText(operation, request)))

  const requestJson = <S extends Schema.Top & { readonly DecodingServices: never }>(
    operation: string,
    schema: S,
    httpRequest: HttpClientRequest.HttpClientRequest
  ): Effect.Effect<S["Type"], RequestError> =>
    Effect.flatMap(request(operation, httpRequest), (body) => json(operation, schema, body))

  /** One message that was asked for; what is known of it need not be read. */
  const oneMessage = Effect.fnUntraced(function*(operation: string, body: string, within: Wire.Within) {
    const message = Wire.toMessage(yield* json(operation, Schema.Record(Schema.String, Schema.Unknown), body), within)
    if (Option.isNone(message)) return yield* new DecodeError({ operation, reason: "info.id is missing" })
    return message.value
  })

  /** A session that was reported as hard to read is not reported again with every page. */
  const reported = new Set<SessionId>()
  const reportUnread = (
    sessionId: SessionId,
    operation: string,
    { messages, unread = [] }: Pick<MessagePage, "messages" | "unread">
  ): Effect.Effect<void> => {
    const fields = [...unread.map(({ field }) => field), ...messages.flatMap(unreadFields)]
    const [first] = fields
    if (first === undefined || reported.has(sessionId)) return Effect.void
    reported.add(sessionId)
    for (const oldest of reported) if (reported.size > maxReported) reported.delete(oldest)
    return Contained.report(
      "unreadable messages",
      { session: sessionId, count: String(fields.length) },
      Cause.fail(new DecodeError({ operation, reason: `${first} is missing or odd` }))
    )
  }

  return {
    origin,
    health: withTimeout("health", probe),

    agents: requestJson("list agents", each(Wire.WireAgent), HttpClientRequest.get("/agent")).pipe(
      Effect.map((agents) => agents.map(Wire.toAgent))
    ),

    createSession: ({ parentId, permission, title }) =>
      requestJson(
        "create session",
        Wire.WireSession,
        post("/session", {
          ...(title !== undefined && { title }),
          ...(parentId !== undefined && { parentID: parentId }),
          ...(permission !== undefined && { permission })
        })
      ).pipe(Effect.map(Wire.toSession)),

    getSession: (id) =>
      requestJson("get session", Wire.WireKnownSession, HttpClientRequest.get(session(id))).pipe(
        Effect.map((wire) => Wire.toSession({ id, ...wire })),
        orSessionNotFound(id)
      ),

    updateSession: (id, patch) =>
      requestJson(
        "update session",
        Wire.WireKnownSession,
        HttpClientRequest.patch(session(id)).pipe(HttpClientRequest.bodyJsonUnsafe(patch))
      ).pipe(Effect.map((wire) => Wire.toSession({ id, ...wire })), orSessionNotFound(id)),

    deleteSession: (id) =>
      request("delete session", HttpClientRequest.delete(session(id))).pipe(Effect.asVoid, orSessionNotFound(id)),

    abortSession: (id) => Effect.asVoid(request("abort session", HttpClientRequest.post(session(id, "/abort")))),

    children: (id) =>
      requestJson("list children", each(Wire.WireSession), HttpClientRequest.get(session(id, "/children")))
        .pipe(Effect.map((children) => children.map(Wire.toSession)), orSessionNotFound(id)),

    statuses: requestJson(
      "session status",
      Wire.WireStatuses,
      HttpClientRequest.get("/session/status")
    ).pipe(
      Effect.map((statuses) =>
        new Map(Object.entries(statuses).map(([id, status]) => [SessionId.make(id), Wire.toStatus(status)]))
      )
    ),

    listMessages: Effect.fnUntraced(
      function*(id, { before, limit }) {
        yield* whenReady
        const operation = "list messages"
        const get = HttpClientRequest.get(session(id, "/message"), { acceptJson: true }).pipe(
          HttpClientRequest.setUrlParams({ limit: String(limit), ...(before !== undefined && { before }) })
        )
        const [body, cursor] = yield* withTimeout(
          operation,
          Effect.gen(function*() {
            const response = yield* send(operation, get)
            return [yield* read(operation, response), response.headers["x-next-cursor"]] as const
          })
        )
        const page = Wire.toMessages(yield* json(operation, Schema.Array(Schema.Unknown), body), id)
        yield* reportUnread(id, operation, page)
        return { ...page, before: Option.fromUndefinedOr(cursor) }
      },
      (effect, id) => orSessionNotFound(id)(effect)
    ),

    getMessage: (sessionId, messageId) =>
      request(
        "get message",
        HttpClientRequest.get(session(sessionId, `/message/${encodeURIComponent(messageId)}`))
      ).pipe(
        Effect.flatMap((body) => oneMessage("get message", body, { sessionId, messageId })),
        Effect.catchIf(isNotFound, () => Effect.fail(new MessageNotFound({ sessionId, messageId })))
      ),

    prompt: (id, prompt) =>
      request("prompt", post(session(id, "/prompt_async"), Wire.fromPrompt(prompt))).pipe(
        Effect.asVoid,
        orSessionNotFound(id)
      ),

    promptAndWait: (id, prompt) =>
      whenReady.pipe(
        Effect.andThen(requestText("send message", post(session(id, "/message"), Wire.fromPrompt(prompt)))),
        Effect.flatMap((body) => oneMessage("send message", body, { sessionId: id })),
        orSessionNotFound(id)
      ),

    questions: requestJson("list questions", each(Wire.WireQuestion), HttpClientRequest.get("/question")).pipe(
      Effect.map((questions) => questions.map(Wire.toQuestion))
    ),

    answerQuestion: (requestId, answers) =>
      request("answer question", post(`/question/${encodeURIComponent(requestId)}/reply`, { answers })).pipe(
        Effect.asVoid,
        Effect.catchIf(isNotFound, () => Effect.fail(new RequestNotFound({ requestId })))
      ),

    rejectQuestion: (requestId) =>
      request("reject question", HttpClientRequest.post(`/question/${encodeURIComponent(requestId)}/reject`)).pipe(
        Effect.asVoid,
        Effect.catchIf(isNotFound, () => Effect.fail(new RequestNotFound({ requestId })))
      ),

    permissions: requestJson(
      "list permissions",
      each(Wire.WirePermission),
      HttpClientRequest.get("/permission")
    ).pipe(Effect.map((permissions) => permissions.map(Wire.toPermission))),

    answerPermission: (requestId, reply) =>
      request("answer permission", post(`/permission/${encodeURIComponent(requestId)}/reply`, { ...reply })).pipe(
        Effect.asVoid,
        Effect.catchIf(isNotFound, () => Effect.fail(new RequestNotFound({ requestId })))
      ),

    todos: (id) =>
      requestJson("list todos", each(Wire.WireTodo), HttpClientRequest.get(session(id, "/todo"))).pipe(
        Effect.map((todos) => todos.map(Wire.toTodo)),
        orSessionNotFound(id)
      ),

    diff: (id, promptId) =>
      requestJson(
        "diff",
        each(Wire.WireDiff),
        HttpClientRequest.get(session(id, "/diff"), { urlParams: { messageID: promptId } })
      ).pipe(Effect.map((files) => files.map(Wire.toDiff))),

    events: Stream.unwrap(Effect.gen(function*() {
      yield* whenReady
      const operation = "open event stream"
      const response = yield* within(
        Math.min(openMillis, timeoutMillis),
        operation,
        send(operation, HttpClientRequest.get("/event", { accept: "text/event-stream" }))
      )
      if (response.status !== 200 || isHtml(response)) {
        return yield* Effect.flatMap(
          read(operation, response),
          () => Effect.fail(new UnsupportedServer({ origin, seen: `${response.status} for GET /event` }))
        )
      }
      const decoder = makeDecoder()
      return response.stream.pipe(
        Stream.mapError((error): EventsError => toTransportError(operation, origin, error)),
        Stream.mapArrayEffect((reads) =>
          Effect.try({
            try: () => Arr.map(reads, decoder.push),
            catch: () => new StreamLost({ origin, reason: "an event was larger than can be read" })
          })
        ),
        Stream.ensuring(Effect.sync(() => {
          isUp = false
        }))
      )
    }))
  }
})

// internal

/** So many sessions are remembered as reported. */
const maxReported = 1000

/** What could not be read of a message, each with the message that it is in. */
const unreadFields = ({ info, unread = [] }: Message): ReadonlyArray<string> => [
  ...(info.role === "opaque" ? [`${info.field} of ${info.id}`] : []),
  ...unread.map(({ field }) => `${field} of ${info.id}`)
]

const probeMillis = 2000

/** A connection attempt that hangs leaves time for others within `TurnPolicy.ConnectTimeout`. */
const openMillis = 5000

const WireHealth = Schema.Struct({ healthy: Schema.Boolean, version: Schema.String })
const decodeHealth = Schema.decodeUnknownOption(Schema.fromJsonString(WireHealth))

/** A development build of OpenCode calls itself 0.0.0-…; any 1.x is this dialect. */
const isSupported = (version: string): boolean => /^v?(?:1|0\.0\.0)(?:\.|-|$)/.test(version)

/** `fetch` follows redirects unless told otherwise; undici's dispatcher never does. */
const notFollowingRedirects = Context.make(FetchHttpClient.RequestInit, { redirect: "manual" })

/**
 * Credentials in the URL are taken out of it: errors name the URL. Those in `password` are preferred.
 */
const addressOf = (options: Options) => {
  const url = URL.canParse(options.baseUrl) ? new URL(options.baseUrl) : undefined
  // Not a URL: no request will leave, and what stands before an @ may be a password.
  if (url === undefined || url.host === "") {
    return { baseUrl: "", origin: (options.baseUrl.split(/[?#]/, 1)[0] ?? "").split("@").at(-1) ?? "" }
  }
  // One with a malformed escape is taken as it is written.
  const decoded = Option.getOrElse(decodeUri(url.password), () => url.password)
  const inUrl = decoded === "" ? undefined : Redacted.make(decoded)
  return {
    baseUrl: `${url.origin}${withoutSlashes(url.pathname)}`,
    origin: url.origin,
    password: options.password ?? inUrl
  }
}

/** Without the slashes at the end. */
const withoutSlashes = (path: string): string => {
  let end = path.length
  while (path[end - 1] === "/") end--
  return path.slice(0, end)
}

const decodeUri = Option.liftThrowable(decodeURIComponent)

const isHtml = (response: HttpClientResponse.HttpClientResponse): boolean =>
  (response.headers["content-type"] ?? "").includes("text/html")

const post = (path: string, body: Record<string, unknown>) =>
  HttpClientRequest.post(path).pipe(HttpClientRequest.bodyJsonUnsafe(body))

const orSessionNotFound = (sessionId: SessionId) => <A>(effect: Effect.Effect<A, RequestError>) =>
  Effect.catchIf(effect, isNotFound, () => Effect.fail(new SessionNotFound({ sessionId })))

const session = (id: SessionId, rest = "") => `/session/${encodeURIComponent(id)}${rest}`

const isNotFound = (error: RequestError): error is StatusError => error._tag === "StatusError" && error.status === 404

const json = <S extends Schema.Top & { readonly DecodingServices: never }>(
  operation: string,
  schema: S,
  body: string
): Effect.Effect<S["Type"], DecodeError> =>
  Option.match(parseJson(body), {
    onNone: () => Effect.fail(new DecodeError({ operation, reason: "it is not JSON" })),
    onSome: (value) =>
      Effect.mapError(
        Schema.decodeUnknownEffect(schema)(value),
        (error) => new DecodeError({ operation, reason: describe(error) })
      )
  })

const parseJson = Schema.decodeOption(Schema.fromJsonString(Schema.Unknown))

/** What was expected and where, in one line. The value found instead may be anybody's text, so it is left out. */
const describe = (error: Schema.SchemaError): string => {
  const [first = "", ...rest] = error.message.split("\n").map((line) => line.trim())
  const path = rest.find((line) => line.startsWith("at "))
  return `${first.replace(/, (?:got|actual) .*$/, "")}${path === undefined ? "" : ` ${path}`}`
}

const toTransportError = (
  operation: string,
  origin: string,
  { reason }: HttpClientError.HttpClientError
): TransportError => new TransportError({ operation, origin, reason: causeOf(reason) })

/** The innermost reason in a few words: `connect ECONNREFUSED 127.0.0.1:4096`. */
const causeOf = (reason: HttpClientError.HttpClientErrorReason): string => {
  let cause: unknown = "cause" in reason ? reason.cause : undefined
  let words: string = reason._tag
  for (let depth = 0; depth < 5 && Predicate.isError(cause); depth++) {
    if (cause.message !== "") words = cause.message
    else if (Predicate.hasProperty(cause, "code") && typeof cause.code === "string") words = cause.code
    cause = cause.cause
  }
  return words
}

const WireError = Schema.fromJsonString(Schema.Struct({
  name: Schema.optionalKey(Schema.String),
  _tag: Schema.optionalKey(Schema.String),
  message: Schema.optionalKey(Schema.String),
  data: Schema.optionalKey(Schema.Struct({ message: Schema.optionalKey(Schema.String) }))
}))
const decodeError = Schema.decodeUnknownOption(WireError)

const maxDetailLength = 300

/** The server's shapes: `{name, data: {message}}`, `{_tag, message?}`, or no JSON at all (1.18.33). */
const toStatusError = (operation: string, status: number, body: string): StatusError => {
  const error = Option.getOrUndefined(decodeError(body))
  const isRedirect = status >= 300 && status < 400
  return new StatusError({
    operation,
    status,
    name: error?.name ?? error?._tag ?? (isRedirect ? "redirect" : "error"),
    detail: isRedirect
      ? "redirects are not followed"
      // 1.18.33 quotes the row that it cannot read, with the words of people in it.
      : (error?.data?.message ?? error?.message ?? "").replace(/, got [{["][^]*$/, "").slice(0, maxDetailLength)
  })
}
