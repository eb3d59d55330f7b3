/**
 * OpenCode 1.x over HTTP: routes, bodies, and errors.
 *
 * **Gotchas**
 *
 * - `/event`, `/session/status`, `/permission` and `/question` are per directory: a client sees one directory's (1.18.33).
 * - The server decodes the header `x-opencode-directory` once and the query's `directory` twice, so the directory goes into the header.
 *   It also decodes the directory that it stored for a session, on each route of the session (1.18.33): see `sessionHeader`.
 * - An unknown route answers 200 with the HTML of the web application, so every JSON answer is checked for it. From a server that was
 * known, such a page may also be a proxy's while the server is away: its health tells, and that it gave another answer there before.
 * - Redirects are not followed and the password goes to the configured origin only.
 * - No body is read beyond its limit. The bytes are counted as the client gives them, after any decompression.
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
 * Where the server is and how it is talked to.
 *
 * **Details**
 *
 * `directory` is the project's folder on the server (default: the server's own working directory). A relative one is resolved
 * against the server's working directory. `workspace` is the id of a workspace. `requestTimeout` bounds one request, with the probe
 * that may precede it: 30 s by default.
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
  // One that is not used is a secret all the same.
  const redaction = Redaction.make([options.password, inUrl])
  const timeoutMillis = Duration.toMillis(Duration.fromInputUnsafe(options.requestTimeout ?? "30 seconds"))
  const { directory } = options
  const ownHeader = directory === undefined ? {} : directoryHeader(directory)
  const workspaceParam = options.workspace === undefined ? {} : { workspace: options.workspace }

  /** The server answered last, and no connection to it was lost since. */
  let isUp = false
  let isKnown = false
  /** What it has answered in its own words. */
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
        // An interrupted request tells nothing about the connection.
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

  /** The body as text of a success; otherwise the error that the server described. */
  const read = Effect.fnUntraced(function*(operation: string, response: HttpClientResponse.HttpClientResponse) {
    const isSuccess = response.status >= 200 && response.status < 300
    const maxBytes = isSuccess ? maxAnswerBytes : maxErrorBytes
    const { isWhole, text: body } = yield* Effect.mapError(
      readBody(response, maxBytes),
      (error) => toTransportError(operation, origin, error, true, redaction.text)
    )
    // A page instead of an answer is another server's, or OpenCode's own for a route that it does not have. With any other
    // status it is a proxy's, and may be worth another try.
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

  /** The server was known; another one answers in its place, for as long as it is away. */
  const away = (operation: string, error: ForeignAnswer): Effect.Effect<never, TransportError> => {
    const seen = error._tag === "UnsupportedServer"
      ? error.seen
      : error._tag === "StatusError"
      ? `a redirect (${error.status})`
      : "something else than JSON"
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
      return yield* new UnsupportedServer({ origin, seen: "something else than OpenCode's health" })
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
   * A probe that reaches a server in the first moments of its cold start can hang for a minute (1.18.33), and a slow server needs
   * its time. So each attempt keeps running while the next one starts; the first one that ends decides.
   */
  const hedged: Effect.Effect<Health, RequestError> = Effect.raceAllFirst([
    probe,
    Effect.delay(Effect.suspend(() => hedged), hedgeMillis)
  ])

  /** Tells an answer that is not OpenCode's, of a server that is away, from one of a route that it does not have, or has otherwise. */
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

  /** Precedes the first request, and the next one after a connection broke. Requests that wait at the same time share a probe. */
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

  /**
   * The server takes any path for a folder, and makes sessions in what is not there (1.18.33). It answers 500 when it is to list the
   * files of such a path; that it can list others tells this from a server in trouble.
   */
  const findDirectory: Effect.Effect<string, RequestError | UnknownDirectory> = Effect.gen(function*() {
    const { directory } = yield* requestJson("path", Wire.WirePaths, HttpClientRequest.get("/path"))
    yield* Effect.catchIf(
      listsFiles(ownHeader),
      isServerError,
      (error) =>
        Effect.matchEffect(listsFiles(directoryHeader("/")), {
          onFailure: () => Effect.fail(error),
          onSuccess: () => Effect.fail(new UnknownDirectory({ origin, directory: options.directory ?? directory }))
        })
    )
    return directory
  })
  const directories = yield* Cache.makeWith(() => findDirectory, {
    capacity: 1,
    timeToLive: (exit) => (Exit.isSuccess(exit) ? directoryMillis : 0)
  })
  const workingDirectory = Cache.get(directories, "")

  /** One message that was asked for; what is known of it need not be read. */
  const oneMessage = Effect.fnUntraced(function*(operation: string, body: string, within: Wire.Within) {
    const message = Wire.toMessage(
      yield* decoded(operation, Schema.Record(Schema.String, Schema.Unknown), body),
      within
    )
    if (Option.isNone(message)) return yield* new DecodeError({ operation, reason: "info.id is missing" })
    return redaction.message(message.value)
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

    createSession: ({ parentId, permission, title }) =>
      Effect.flatMap(workingDirectory, (resolved) =>
        requestJson(
          "create session",
          Wire.WireSession,
          post("/session", {
            ...(title !== undefined && { title }),
            ...(parentId !== undefined && { parentID: parentId }),
            ...(permission !== undefined && { permission })
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
      /** Whatever comes first on a stream of events shows that it is open, be it a comment of a proxy's or something unreadable. */
      const opened = (events: ReadonlyArray<ServerEvent>): ReadonlyArray<ServerEvent> => {
        if (isOpen || !decoder.hasFrame()) return events
        isOpen = true
        if (events.some(({ _tag }) => _tag === "Connected")) return events
        // What cannot be read and stands in the place of `server.connected` is taken for it: before it nothing can be missed.
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
        // The server or the network ended it. A stream that nobody reads any more is interrupted instead.
        Stream.onExit((exit) => (Exit.hasInterrupts(exit) ? Effect.void : lost))
      )
    }))
  }
})

// internal

/** So many sessions are remembered as reported. */
const maxReported = 1000

/** What could not be read of a message, each with the message that it is in. */
const unreadFields = ({ altered = [], info, unread = [] }: Message): ReadonlyArray<string> => [
  ...(info.role === "opaque" ? [`${info.field} of ${info.id}`] : []),
  ...altered.map((field) => `${field} of ${info.id}`),
  ...unread.map(({ field }) => `${field} of ${info.id}`)
]

/** After how long a probe that was not answered gets company. A cold start of 1.18.33 takes 2 to 4 s. */
const hedgeMillis = 2000

/** How long a folder that was there counts as there. A turn costs no request for it within this time. */
const directoryMillis = 30_000

/** A connection attempt that hangs leaves time for others within `TurnPolicy.ConnectTimeout`. */
const openMillis = 5000

/** As large as an event may be: a page of messages holds the files and the tool outputs in them. */
const maxAnswerBytes = 64 * 1024 * 1024

/** The server's own errors have some hundred bytes. */
const maxErrorBytes = 64 * 1024

/** Stands in for the body of an error that was not read to its end. */
const tooLargeError = `{"message": "its details are larger than 64 KiB"}`

/** The body as text; without `isWhole` it has more bytes than are read, and its beginning is given. */
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

/** A development build of OpenCode calls itself 0.0.0-…; any 1.x is this dialect. */
const isSupported = (version: string): boolean => /^v?(?:1|0\.0\.0)(?:\.|-|$)/.test(version)

/**
 * `fetch` follows redirects unless told otherwise; undici's dispatcher never does. The client's own span would hold the whole URL:
 * `traced` makes one without.
 */
const httpContext = Context.make(FetchHttpClient.RequestInit, { redirect: "manual" }).pipe(
  Context.add(HttpClient.TracerDisabledWhen, () => true)
)

/** Runs a request in a span that holds no path, query, header or error of the client, and tells the server of it as usual. */
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
        // Without the response, which holds the request.
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
 * Credentials in the URL are taken out of it: errors name the URL. Those in `password` are preferred.
 */
const addressOf = (options: Options) => {
  const url = URL.canParse(options.baseUrl) ? new URL(options.baseUrl) : undefined
  // Not a URL: no request will leave, and what stands before an @ may be a password.
  if (url === undefined || url.host === "") {
    return {
      baseUrl: "",
      inUrl: undefined,
      password: undefined,
      origin: (options.baseUrl.split(/[?#]/, 1)[0] ?? "").split("@").at(-1) ?? ""
    }
  }
  // One with a malformed escape is taken as it is written.
  const decoded = Option.getOrElse(decodeUri(url.password), () => url.password)
  const inUrl = decoded === "" ? undefined : Redacted.make(decoded)
  return {
    baseUrl: `${url.origin}${withoutSlashes(url.pathname)}`,
    origin: url.origin,
    inUrl,
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

/**
 * The server decodes the header once. The `directory` of a query it decodes twice: there `a%20b` becomes the folder `a b` (1.18.33).
 * A lone surrogate is in no folder's name, and cannot be encoded.
 */
const directoryHeader = (directory: string) => ({
  "x-opencode-directory": encodeURIComponent(directory.toWellFormed())
})

/**
 * A session is to be stored in what the server decodes to the directory: it decodes the directory of a session anew on each of its
 * routes, so a session of `a%20b` would work in `a b` (1.18.33). That the encoded path is no folder matters to nothing else.
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

/** Whether the answer may be of something else than OpenCode: a page, a redirect to a login, another JSON. */
const isForeign = (error: RequestError): error is ForeignAnswer =>
  error._tag === "UnsupportedServer" || error._tag === "DecodeError" ||
  (error._tag === "StatusError" && error.status >= 300 && error.status < 400)

const isEventStream = (response: HttpClientResponse.HttpClientResponse): boolean =>
  (response.headers["content-type"] ?? "").includes("text/event-stream")

const post = (path: string, body: Record<string, unknown>) =>
  HttpClientRequest.post(path).pipe(HttpClientRequest.bodyJsonUnsafe(body))

const orSessionNotFound = (sessionId: SessionId) => <A>(effect: Effect.Effect<A, RequestError>) =>
  Effect.catchIf(effect, isNotFound, () => Effect.fail(new SessionNotFound({ sessionId })))

/** A lone surrogate is in no id of the server's, and cannot be encoded: the server is asked for what it does not have. */
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

/** What was expected and where, in one line. The value found instead may be anybody's text, so it is left out. */
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

/** What undici and Node say where one side speaks TLS and the other does not. A TLS server just hangs up on plain HTTP. */
const schemeAdvice = (origin: string, cause: string): string | undefined => {
  const isTls = origin.startsWith("https:")
  if (isTls && /wrong.version.number|packet length too long|EPROTO|record layer failure/i.test(cause)) return noTls
  return !isTls && /other side closed|socket hang up|ECONNRESET|HTTP\/1\.1 protocol|HPE_/i.test(cause)
    ? `the request went out over plain http and got no HTTP answer (${cause}): if the port speaks TLS, use https://`
    : undefined
}

const noTls =
  "the request went out over https, but the port does not speak TLS: use http://, or the port of the TLS proxy"

/** What nginx, Go's server and Apache answer to plain HTTP at a TLS port. */
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
      // 1.18.33 quotes the row that it cannot read, with the words of people in it.
      // Redacted before it is cut: the first part of a secret would not be found any more.
      : redact(error?.data?.message ?? error?.message ?? "").replace(/, got [{["][^]*$/, "").slice(0, maxDetailLength)
  })
}
