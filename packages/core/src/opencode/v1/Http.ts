/**
 * OpenCode 1.x over HTTP: routes, bodies, and errors.
 *
 * **Gotchas**
 *
 * - `/event`, `/session/status`, `/permission` and `/question` cover one directory, so a client sees only its own (1.18.33).
 * - The server decodes the header `x-opencode-directory` once and the query's `directory` twice, so the directory goes into the header.
 *   It also decodes a session's stored directory on each route of the session (1.18.33): see `sessionHeader`.
 * - An unknown route answers 200 with the HTML of the web application, so every JSON response is checked for it. While a known server
 *   is away, a proxy may send such a page too. A probe of the server's health, and its earlier answers on the route, tell these apart.
 * - Redirects are not followed, and the password goes to the configured origin only.
 * - No body is read beyond its limit, which counts the bytes after any decompression.
 *
 * @since 0.1.0
 */
import * as Arr from "effect/Array"
import * as Cache from "effect/Cache"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import type * as HttpClientError from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as HttpTraceContext from "effect/http/HttpTraceContext"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import type * as Tracer from "effect/Tracer"
import * as Contained from "../../domain/Contained.ts"
import { SessionId } from "../../domain/Ids.ts"
import type { Message } from "../../domain/Message.ts"
import type { ServerEvent } from "../../domain/TurnEvent.ts"
import type { EventsError, RequestError } from "../ClientError.ts"
import {
  AnswerTooLarge,
  AskNotFound,
  DecodeError,
  MessageNotFound,
  RequestTimeout,
  SessionNotFound,
  StatusError,
  StreamLost,
  TransportError,
  Unauthorized,
  UnknownDirectory,
  UnsupportedServer
} from "../ClientError.ts"
import type { Dialect, Health, MessagePage } from "../Dialect.ts"
import * as Redaction from "../Redaction.ts"
import { makeDecoder } from "./Events.ts"
import { each } from "./Lenient.ts"
import * as Wire from "./Wire.ts"

/**
 * The address of the server, and the options of its requests.
 *
 * **Details**
 *
 * `directory` is the project's folder on the server (default: the server's own working directory). A relative path is
 * resolved against the server's working directory. `workspace` is the id of a workspace. `requestTimeout` limits one
 * request, including a probe before it: 30 s by default.
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
  const { baseUrl, inUrl, origin, password } = addressOf(options)
  // The unused password is a secret too.
  const redaction = Redaction.make([options.password, inUrl])
  const timeoutMillis = Duration.toMillis(Duration.fromInputUnsafe(options.requestTimeout ?? "30 seconds"))
  const { directory } = options
  const ownHeader = directory === undefined ? {} : directoryHeader(directory)
  const workspaceParam = options.workspace === undefined ? {} : { workspace: options.workspace }

  /** Whether the server answered and no connection to it was lost since. */
  let isUp = false
  let isKnown = false
  /** The operations that OpenCode itself has answered. */
  const answered = new Set<string>()
  const lost = Effect.sync(() => {
    isUp = false
  })

  /** Sends one request and gives the response whatever its status, once it is known to be the server's own. */
  const send = (operation: string, request: HttpClientRequest.HttpClientRequest, header = ownHeader) => {
    const prepared = request.pipe(
      HttpClientRequest.prependUrl(baseUrl),
      HttpClientRequest.setHeaders(header),
      HttpClientRequest.setUrlParams(workspaceParam),
      password === undefined
        ? (request) => request
        : HttpClientRequest.basicAuth("opencode", Redacted.value(password))
    )
    return traced(operation, prepared, (request) =>
      http.execute(request).pipe(
        Effect.provideContext(httpContext),
        Effect.tap(() =>
          Effect.sync(() => {
            isUp = true
          })
        ),
        // An interruption tells nothing about the connection.
        Effect.tapError(() => lost),
        Effect.mapError((error) => toTransportError(operation, origin, error, isKnown, redaction.text))
      )).pipe(
        Effect.filterOrFail(
          (response) => response.status !== 401 && response.status !== 403,
          (response) => new Unauthorized({ origin, status: response.status })
        )
      )
  }

  const within = <A, E, R>(millis: number, operation: string, effect: Effect.Effect<A, E, R>) =>
    Effect.timeoutOrElse(effect, {
      duration: millis,
      orElse: () => Effect.fail(new RequestTimeout({ operation, origin, millis }))
    })
  const withTimeout = <A, E, R>(operation: string, effect: Effect.Effect<A, E, R>) =>
    within(timeoutMillis, operation, effect)

  /** The body text of a successful response; otherwise the error that the server described. */
  const read = Effect.fnUntraced(function*(operation: string, response: HttpClientResponse.HttpClientResponse) {
    const isSuccess = response.status >= 200 && response.status < 300
    const maxBytes = isSuccess ? maxAnswerBytes : maxErrorBytes
    const { isWhole, text: body } = yield* Effect.mapError(
      readBody(response, maxBytes),
      (error) => toTransportError(operation, origin, error, true, redaction.text)
    )
    // An HTML page comes from another server, or from OpenCode for an unknown route. With any other status it comes
    // from a proxy, and a retry may help.
    if (isHtml(response) && (response.status === 200 || response.status === 404)) {
      return yield* new UnsupportedServer({ origin, seen: `an HTML page (${response.status})` })
    }
    if (!isSuccess) {
      const scheme = otherScheme(response.status, body)
      return yield* scheme === undefined
        ? toStatusError(operation, response.status, isWhole ? body : tooLargeError, redaction.text)
        : new TransportError({ operation, origin, reason: scheme })
    }
    if (!isWhole) return yield* new AnswerTooLarge({ operation, maxBytes })
    if (isKnown && body !== "" && isText(response) && Option.isNone(parseJson(body))) {
      return yield* new DecodeError({ operation, reason: "it is not JSON" })
    }
    answered.add(operation)
    return body
  })

  /** Reports a known server as unreachable, because another server answers in its place. */
  const away = (operation: string, error: ForeignAnswer): Effect.Effect<never, TransportError> => {
    const seen = error._tag === "UnsupportedServer"
      ? error.seen
      : error._tag === "StatusError"
      ? `a redirect (${error.status})`
      : "something other than JSON"
    return Effect.andThen(
      lost,
      Effect.fail(new TransportError({ operation, origin, reason: `it answered with ${seen}` }))
    )
  }

  const checkHealth: Effect.Effect<Health, RequestError> = Effect.gen(function*() {
    const response = yield* send("health", HttpClientRequest.get("/global/health", { acceptJson: true }))
    if (response.status === 404) {
      return yield* new UnsupportedServer({ origin, seen: "404 for GET /global/health" })
    }
    const health = Option.getOrUndefined(decodeHealth(yield* read("health", response)))
    if (health === undefined) {
      return yield* new UnsupportedServer({ origin, seen: "something other than OpenCode's health" })
    }
    return health
  })

  const probe: Effect.Effect<Health, RequestError> = Effect.gen(function*() {
    const health = yield* Effect.catchIf(
      checkHealth,
      isForeign,
      (error): Effect.Effect<never, RequestError> => (isKnown ? away("health", error) : Effect.fail(error))
    )
    if (!isSupported(health.version)) {
      return yield* new UnsupportedServer({ origin, seen: redaction.text(`OpenCode ${health.version}`) })
    }
    isKnown = true
    return health
  })

  /**
   * A probe in the first moments of a cold start can hang for a minute (1.18.33), and a slow server needs its time.
   * Each attempt therefore keeps running while the next one starts; the first one that ends decides.
   */
  // @effect-diagnostics-next-line raceFirstWithSleepToTimeout:off
  const hedged: Effect.Effect<Health, RequestError> = Effect.raceAllFirst([
    probe,
    Effect.delay(Effect.suspend(() => hedged), hedgeMillis)
  ])

  /** Tells a foreign answer while the server is away from an answer of the server for an unknown route. */
  const orAway = (operation: string) => <A>(effect: Effect.Effect<A, RequestError>): Effect.Effect<A, RequestError> =>
    Effect.catchIf(effect, isForeign, (error) =>
      !isKnown
        ? Effect.fail(error)
        : error._tag === "UnsupportedServer" && answered.has(operation)
        ? away(operation, error)
        : Effect.andThen(withTimeout("health", hedged), Effect.fail(error)))

  const requestText = (operation: string, request: HttpClientRequest.HttpClientRequest, header = ownHeader) =>
    send(operation, HttpClientRequest.acceptJson(request), header).pipe(
      Effect.flatMap((response) => read(operation, response)),
      orAway(operation)
    )

  const decoded = <S extends Schema.Top & { readonly DecodingServices: never }>(
    operation: string,
    schema: S,
    body: string
  ): Effect.Effect<S["Type"], RequestError> => orAway(operation)(json(operation, schema, body))

  /** Probes before the first request, and again after a connection broke. Concurrent requests share one probe. */
  const probing = yield* Semaphore.make(1)
  const isReady = () => isUp && isKnown
  const whenReady = Effect.suspend(() =>
    isReady()
      ? Effect.void
      : Semaphore.withPermit(probing, Effect.suspend(() => (isReady() ? Effect.void : Effect.asVoid(hedged))))
  )

  const request = (operation: string, request: HttpClientRequest.HttpClientRequest, header = ownHeader) =>
    withTimeout(operation, Effect.andThen(whenReady, requestText(operation, request, header)))

  const requestJson = <S extends Schema.Top & { readonly DecodingServices: never }>(
    operation: string,
    schema: S,
    httpRequest: HttpClientRequest.HttpClientRequest,
    header = ownHeader
  ): Effect.Effect<S["Type"], RequestError> =>
    Effect.flatMap(request(operation, httpRequest, header), (body) => decoded(operation, schema, body))

  const listsFiles = (header: typeof ownHeader) =>
    request("list files", HttpClientRequest.get("/file", { urlParams: { path: "" } }), header)

  const orUnknownDirectory = (directory: string | undefined) => <A>(request: Effect.Effect<A, RequestError>) =>
    directory === undefined ? request : Effect.catchIf(
      request,
      isServerError,
      (error) =>
        Effect.matchEffect(listsFiles(directoryHeader("/")), {
          onFailure: () => Effect.fail(error),
          onSuccess: () => Effect.fail(new UnknownDirectory({ origin, directory }))
        })
    )

  /**
   * The server accepts any path as a folder, and creates sessions in folders that do not exist (1.18.33). It answers
   * 500 when it lists the files of such a path, and 500 to every request about a file where it looks for settings of the
   * project. If it can list another folder, the folder is at fault and not the server.
   */
  const findDirectory: Effect.Effect<string, RequestError | UnknownDirectory> = Effect.gen(function*() {
    const { directory } = yield* requestJson("path", Wire.WirePaths, HttpClientRequest.get("/path")).pipe(
      orUnknownDirectory(options.directory)
    )
    yield* orUnknownDirectory(options.directory ?? directory)(listsFiles(ownHeader))
    return directory
  })
  const directories = yield* Cache.makeWith(() => findDirectory, {
    capacity: 1,
    timeToLive: (exit) => (Exit.isSuccess(exit) ? directoryMillis : 0)
  })
  const workingDirectory = Cache.get(directories, "")

  /** Reads a requested message; the request already tells some of its fields. */
  const oneMessage = Effect.fnUntraced(function*(operation: string, body: string, within: Wire.Within) {
    const message = Wire.toMessage(
      yield* decoded(operation, Schema.Record(Schema.String, Schema.Unknown), body),
      within
    )
    if (Option.isNone(message)) return yield* new DecodeError({ operation, reason: "info.id is missing" })
    return redaction.message(message.value)
  })

  /** Sessions whose unreadable fields were reported. They are not reported again with every page. */
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
      Cause.fail(new DecodeError({ operation, reason: `the field ${first} is missing or odd` }))
    )
  }

  return {
    origin,
    health: withTimeout("health", hedged),
    directory: workingDirectory,

    agents: requestJson("list agents", each(Wire.WireAgent), HttpClientRequest.get("/agent")).pipe(
      Effect.map((agents) => agents.map(Wire.toAgent))
    ),

    createSession: ({ metadata, parentId, permission, title }) =>
      Effect.flatMap(workingDirectory, (resolved) =>
        requestJson(
          "create session",
          Wire.WireSession,
          post("/session", {
            ...(title !== undefined && { title }),
            ...(parentId !== undefined && { parentID: parentId }),
            ...(permission !== undefined && { permission }),
            ...(metadata !== undefined && { metadata })
          }),
          directory === undefined ? ownHeader : sessionHeader(resolved)
        )).pipe(Effect.map(Wire.toSession)),

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
        const operation = "list messages"
        const get = HttpClientRequest.get(session(id, "/message"), { acceptJson: true }).pipe(
          HttpClientRequest.setUrlParams({ limit: String(limit), ...(before !== undefined && { before }) })
        )
        const [body, cursor] = yield* withTimeout(
          operation,
          Effect.gen(function*() {
            yield* whenReady
            const response = yield* send(operation, get)
            return [yield* orAway(operation)(read(operation, response)), response.headers["x-next-cursor"]] as const
          })
        )
        const page = Wire.toMessages(yield* decoded(operation, Schema.Array(Schema.Unknown), body), id)
        yield* reportUnread(id, operation, page)
        return {
          ...page,
          messages: page.messages.map(redaction.message),
          before: Option.fromUndefinedOr(cursor),
          size: body.length
        }
      },
      (effect, id) => orSessionNotFound(id)(effect)
    ),

    getMessage: (sessionId, messageId) =>
      request(
        "get message",
        HttpClientRequest.get(session(sessionId, `/message/${segment(messageId)}`))
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
      withTimeout("send message", whenReady).pipe(
        Effect.andThen(requestText("send message", post(session(id, "/message"), Wire.fromPrompt(prompt)))),
        Effect.flatMap((body) => oneMessage("send message", body, { sessionId: id })),
        orSessionNotFound(id)
      ),

    questions: requestJson("list questions", each(Wire.WireQuestion), HttpClientRequest.get("/question")).pipe(
      Effect.map((questions) => questions.map(Wire.toQuestion))
    ),

    answerQuestion: (askId, answers) =>
      request("answer question", post(`/question/${segment(askId)}/reply`, { answers })).pipe(
        Effect.asVoid,
        Effect.catchIf(isNotFound, () => Effect.fail(new AskNotFound({ askId })))
      ),

    rejectQuestion: (askId) =>
      request("reject question", HttpClientRequest.post(`/question/${segment(askId)}/reject`)).pipe(
        Effect.asVoid,
        Effect.catchIf(isNotFound, () => Effect.fail(new AskNotFound({ askId })))
      ),

    permissions: requestJson(
      "list permissions",
      each(Wire.WirePermission),
      HttpClientRequest.get("/permission")
    ).pipe(Effect.map((permissions) => permissions.map(Wire.toPermission))),

    answerPermission: (askId, reply) =>
      request("answer permission", post(`/permission/${segment(askId)}/reply`, { ...reply })).pipe(
        Effect.asVoid,
        Effect.catchIf(isNotFound, () => Effect.fail(new AskNotFound({ askId })))
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
      const operation = "open event stream"
      yield* withTimeout(operation, whenReady)
      const response = yield* within(
        Math.min(openMillis, timeoutMillis),
        operation,
        send(operation, HttpClientRequest.get("/event", { accept: "text/event-stream" }))
      )
      if (response.status !== 200 || isHtml(response)) {
        return yield* Effect.flatMap(
          withTimeout(operation, orAway(operation)(read(operation, response))),
          () => Effect.fail(new UnsupportedServer({ origin, seen: `${response.status} for GET /event` }))
        )
      }
      answered.add(operation)
      const decoder = makeDecoder()
      let isOpen = !isEventStream(response)
      /** The first item of an event stream shows that it is open, even a comment of a proxy or something unreadable. */
      const opened = (events: ReadonlyArray<ServerEvent>): ReadonlyArray<ServerEvent> => {
        if (isOpen || !decoder.hasFrame()) return events
        isOpen = true
        if (events.some(({ _tag }) => _tag === "Connected")) return events
        // An unreadable first item counts as `server.connected`: nothing can be missed before it.
        return [{ _tag: "Connected" }, ...events.slice(events[0]?._tag === "Unread" ? 1 : 0)]
      }
      return response.stream.pipe(
        Stream.mapError((error): EventsError => toTransportError(operation, origin, error, true, redaction.text)),
        Stream.mapArrayEffect((reads) =>
          Effect.try({
            try: () => Arr.map(reads, (bytes) => opened(decoder.push(bytes)).map(redaction.event)),
            catch: () => new StreamLost({ origin, reason: "an event was larger than can be read" })
          })
        ),
        // The server or the network ended the stream. A stream without a reader is interrupted instead.
        Stream.onExit((exit) => (Exit.hasInterrupts(exit) ? Effect.void : lost))
      )
    }))
  }
})

// internal

/** The number of sessions that are remembered as reported. */
const maxReported = 1000

/** The unreadable fields of a message, each with the message's id. */
const unreadFields = ({ altered = [], info, unread = [] }: Message): ReadonlyArray<string> => [
  ...(info.role === "opaque" ? [`${info.field} of ${info.id}`] : []),
  ...altered.map((field) => `${field} of ${info.id}`),
  ...unread.map(({ field }) => `${field} of ${info.id}`)
]

/** The time after which an unanswered probe is joined by a second one. A cold start of 1.18.33 takes 2 to 4 s. */
const hedgeMillis = 2000

/** How long a found folder counts as existing. Turns within this time send no request for it. */
const directoryMillis = 30_000

/** The limit of one connection attempt, which leaves time for others within `TurnPolicy.ConnectTimeout`. */
const openMillis = 5000

/** The limit of a response, the same as for an event: a page of messages holds their files and tool outputs. */
const maxAnswerBytes = 64 * 1024 * 1024

/** The limit of an error response. The server's own errors have some hundred bytes. */
const maxErrorBytes = 64 * 1024

/** Replaces the body of an error response that was too large. */
const tooLargeError = `{"message": "its details are larger than 64 KiB"}`

/** The body as text; without `isWhole` it is the beginning of a body beyond the limit. */
const readBody = Effect.fnUntraced(function*(response: HttpClientResponse.HttpClientResponse, maxBytes: number) {
  const decoder = new TextDecoder()
  let text = ""
  let bytes = 0
  yield* Stream.runForEachWhile(response.stream, (chunk) =>
    Effect.sync(() => {
      bytes += chunk.length
      if (bytes <= maxBytes) text += decoder.decode(chunk, { stream: true })
      return bytes <= maxBytes
    })).pipe(
      Effect.catchIf(({ reason }) => reason._tag === "EmptyBodyError", () => Effect.void)
    )
  return { text: text + decoder.decode(), isWhole: bytes <= maxBytes }
})

const WireHealth = Schema.Struct({ healthy: Schema.Boolean, version: Schema.String })
const decodeHealth = Schema.decodeUnknownOption(Schema.fromJsonString(WireHealth))

/** Any 1.x version has this dialect; a development build of OpenCode has version 0.0.0-…. */
const isSupported = (version: string): boolean => /^v?(?:1|0\.0\.0)(?:\.|-|$)/.test(version)

/**
 * `fetch` follows redirects by default; undici's dispatcher never does. The client's own span would hold the whole URL,
 * so it is replaced by `traced`.
 */
const httpContext = Context.make(FetchHttpClient.RequestInit, { redirect: "manual" }).pipe(
  Context.add(HttpClient.TracerDisabledWhen, () => true)
)

/**
 * Runs a request in a span without its path, query, headers and errors, and propagates the span to the server as usual.
 */
const traced = <E extends { readonly _tag: string }>(
  operation: string,
  request: HttpClientRequest.HttpClientRequest,
  execute: (
    request: HttpClientRequest.HttpClientRequest
  ) => Effect.Effect<HttpClientResponse.HttpClientResponse, E>
) =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const span = yield* Effect.makeSpan(`OpenCode ${operation}`, { kind: "client" })
      annotateRequest(span, request)
      const isPropagated = yield* HttpClient.TracerPropagationEnabled
      const sent = isPropagated ? HttpClientRequest.setHeaders(request, HttpTraceContext.toHeaders(span)) : request
      return yield* restore(execute(sent)).pipe(
        Effect.tap(({ status }) =>
          Effect.sync(() => {
            span.attribute("http.response.status_code", status)
            if (status >= 400) span.attribute("error.type", `${status}`)
          })
        ),
        // The recorded exit leaves out the response, which holds the request.
        Effect.onExit((exit) =>
          Effect.map(Clock.currentTimeNanos, (now) => {
            span.end(now, Exit.asVoid(exit))
          })
        )
      )
    })
  )

const annotateRequest = (span: Tracer.Span, { method, url }: HttpClientRequest.HttpClientRequest) => {
  span.attribute("http.request.method", method)
  if (!URL.canParse(url)) return
  const { hostname, port, protocol } = new URL(url)
  span.attribute("url.scheme", protocol.slice(0, -1))
  span.attribute("server.address", hostname)
  if (port !== "") span.attribute("server.port", Number(port))
}

/**
 * Removes the credentials from the URL, because errors name the URL. Those in `password` take precedence.
 */
const addressOf = (options: Options) => {
  const url = URL.canParse(options.baseUrl) ? new URL(options.baseUrl) : undefined
  // This is not a URL, so no request will be sent. The text before an @ may be a password.
  if (url === undefined || url.host === "") {
    return {
      baseUrl: "",
      inUrl: undefined,
      password: undefined,
      origin: (options.baseUrl.split(/[?#]/, 1)[0] ?? "").split("@").at(-1) ?? ""
    }
  }
  // A password with a malformed escape is used literally.
  const decoded = Option.getOrElse(decodeUri(url.password), () => url.password)
  const inUrl = decoded === "" ? undefined : Redacted.make(decoded)
  return {
    baseUrl: `${url.origin}${withoutSlashes(url.pathname)}`,
    origin: url.origin,
    inUrl,
    password: options.password ?? inUrl
  }
}

/** Removes the slashes at the end. */
const withoutSlashes = (path: string): string => {
  let end = path.length
  while (path[end - 1] === "/") end--
  return path.slice(0, end)
}

const decodeUri = Option.liftThrowable(decodeURIComponent)

/**
 * The server decodes the header once. It decodes the `directory` of a query twice, so that `a%20b` becomes the folder
 * `a b` (1.18.33). A lone surrogate occurs in no folder's name and cannot be encoded.
 */
const directoryHeader = (directory: string) => ({
  "x-opencode-directory": encodeURIComponent(directory.toWellFormed())
})

/**
 * Encodes the directory of a new session once more. The server decodes a session's stored directory again on each of
 * its routes, so a session of `a%20b` would work in `a b` (1.18.33). The encoded path does not have to exist.
 */
const sessionHeader = (directory: string) =>
  directoryHeader(Wire.decodeDirectory(directory) === directory ? directory : directory.replaceAll("%", "%25"))

const isServerError = (error: RequestError): error is StatusError =>
  error._tag === "StatusError" && error.status === 500

const isHtml = (response: HttpClientResponse.HttpClientResponse): boolean =>
  (response.headers["content-type"] ?? "").includes("text/html")

const isText = (response: HttpClientResponse.HttpClientResponse): boolean =>
  (response.headers["content-type"] ?? "").startsWith("text/")

type ForeignAnswer = UnsupportedServer | DecodeError | StatusError

/** Whether the response may come from another program: a page, a redirect to a login, other JSON. */
const isForeign = (error: RequestError): error is ForeignAnswer =>
  error._tag === "UnsupportedServer" || error._tag === "DecodeError" ||
  (error._tag === "StatusError" && error.status >= 300 && error.status < 400)

const isEventStream = (response: HttpClientResponse.HttpClientResponse): boolean =>
  (response.headers["content-type"] ?? "").includes("text/event-stream")

const post = (path: string, body: Record<string, unknown>) =>
  HttpClientRequest.post(path).pipe(HttpClientRequest.bodyJsonUnsafe(body))

const orSessionNotFound = (sessionId: SessionId) => <A>(effect: Effect.Effect<A, RequestError>) =>
  Effect.catchIf(effect, isNotFound, () => Effect.fail(new SessionNotFound({ sessionId })))

/** A lone surrogate occurs in no id of the server and cannot be encoded; the server then reports an unknown id. */
const segment = (id: string): string => encodeURIComponent(id.toWellFormed())

const session = (id: SessionId, rest = "") => `/session/${segment(id)}${rest}`

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

/** The expected shape and its place, in one line. The found value is left out, because it may be private text. */
const describe = (error: Schema.SchemaError): string => {
  const [first = "", ...rest] = error.message.split("\n").map((line) => line.trim())
  const path = rest.find((line) => line.startsWith("at "))
  return `${first.replace(/, (?:got|actual) .*$/, "")}${path === undefined ? "" : ` ${path}`}`
}

const toTransportError = (
  operation: string,
  origin: string,
  { reason }: HttpClientError.HttpClientError,
  isKnown: boolean,
  redact: (text: string) => string
): TransportError => {
  const cause = redact(causeOf(reason))
  return new TransportError({ operation, origin, reason: isKnown ? cause : schemeAdvice(origin, cause) ?? cause })
}

/**
 * The texts of undici and Node when only one side speaks TLS. A TLS server closes a plain HTTP connection without a
 * response.
 */
const schemeAdvice = (origin: string, cause: string): string | undefined => {
  const isTls = origin.startsWith("https:")
  if (isTls && /wrong.version.number|packet length too long|EPROTO|record layer failure/i.test(cause)) return noTls
  return !isTls && /other side closed|socket hang up|ECONNRESET|HTTP\/1\.1 protocol|HPE_/i.test(cause)
    ? `the request went out over plain http and got no HTTP answer (${cause}): if the port speaks TLS, use https://`
    : undefined
}

const noTls =
  "the request went out over https, but the port does not speak TLS: use http://, or the port of the TLS proxy"

/** The answers of nginx, Go's server and Apache to plain HTTP at a TLS port. */
const otherScheme = (status: number, body: string): string | undefined =>
  status === 400 &&
    /plain HTTP request was sent to HTTPS port|HTTP request to an HTTPS server|speaking plain HTTP to an SSL/i
      .test(body)
    ? "the request went out over plain http, but the port speaks TLS: use https://"
    : undefined

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
const toStatusError = (
  operation: string,
  status: number,
  body: string,
  redact: (text: string) => string
): StatusError => {
  const error = Option.getOrUndefined(decodeError(body))
  const isRedirect = status >= 300 && status < 400
  return new StatusError({
    operation,
    status,
    name: redact(error?.name ?? error?._tag ?? (isRedirect ? "redirect" : "error")),
    detail: isRedirect
      ? "redirects are not followed"
      // 1.18.33 quotes an unreadable row together with people's words. The text is redacted before it is cut, because a
      // cut secret would not be recognised.
      : redact(error?.data?.message ?? error?.message ?? "").replace(/, got [{["][^]*$/, "").slice(0, maxDetailLength)
  })
}
