/**
 * Requests to an OpenCode server: where they go, how long they may take, what they may answer, and the errors of all of that.
 *
 * **Responsibilities**: the address without its credentials, one span for each request, the probe before the first request, time limits,
 * limits of bodies, the answers of other programs, and redaction.
 *
 * **Not responsibilities**: how the lines of OpenCode are told apart (`ServerLine`), routes, and what the bodies mean (`v1/Http`,
 * `v2/Http`).
 *
 * **Gotchas**
 *
 * - OpenCode 1.x answers an unknown route with 200 and the HTML of the web application, so every JSON response is checked for it. While a
 *   known server is away, a proxy may send such a page too. A probe of the server's health, and its earlier answers on the route, tell these apart.
 * - Redirects are not followed, and the password goes to the configured origin only.
 * - No body is read beyond its limit, which counts the bytes after any decompression.
 *
 * @since 0.1.0
 */
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
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import type { RequestError } from "./ClientError.ts"
import {
  AnswerTooLarge,
  DecodeError,
  RequestTimeout,
  StatusError,
  TransportError,
  Unauthorized,
  UnsupportedServer
} from "./ClientError.ts"
import * as Redaction from "./Redaction.ts"
import * as ServerLine from "./ServerLine.ts"

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
 * - `send`: one request, whose response is given whatever its status. `read`: the body of its response.
 * - `request`: all of a request, within the time limit; `requestJson` decodes its body. `requestText` has no limit and does not probe.
 * - `whenReady`: probes before the first request, and again after a connection broke; gives what answered.
 * - `server`: what answered, once that is known.
 * - `lost`: notes that a connection broke. `noteAnswered`: notes that OpenCode itself answered the operation.
 *
 * @category models
 * @since 0.1.0
 */
export type Requests = Effect.Success<ReturnType<typeof make>>

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(options: Options) {
  const http = yield* HttpClient.HttpClient
  const { baseUrl, inUrl, origin, password } = addressOf(options)
  // The unused password is a secret too.
  const redaction = Redaction.make([options.password, inUrl])
  const timeoutMillis = Duration.toMillis(Duration.fromInputUnsafe(options.requestTimeout ?? "30 seconds"))

  /** Whether the server answered and no connection to it was lost since. */
  let isUp = false
  let known: ServerLine.Server | undefined
  /** The operations that OpenCode itself has answered. */
  const answered = new Set<string>()
  const lost = Effect.sync(() => {
    isUp = false
  })

  /** Sends one request and gives the response whatever its status, once it is known to be the server's own. */
  const send = (operation: string, request: HttpClientRequest.HttpClientRequest) => {
    const prepared = request.pipe(
      HttpClientRequest.prependUrl(baseUrl),
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
        Effect.mapError((error) => toTransportError(operation, origin, error, known !== undefined, redaction.text))
      )).pipe(
        Effect.filterOrFail(
          (response) => response.status !== 401 && response.status !== 403,
          (response) => new Unauthorized({ origin, status: response.status })
        )
      )
  }

  const limited = <A, E, R>(millis: number, operation: string, effect: Effect.Effect<A, E, R>) =>
    Effect.timeoutOrElse(effect, {
      duration: millis,
      orElse: () => Effect.fail(new RequestTimeout({ operation, origin, millis }))
    })
  const withTimeout = <A, E, R>(operation: string, effect: Effect.Effect<A, E, R>) =>
    limited(timeoutMillis, operation, effect)

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
    if (known !== undefined && body !== "" && isText(response) && Option.isNone(parseJson(body))) {
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

  const unsupported = (seen: string) => Effect.fail(new UnsupportedServer({ origin, seen }))
  /** The version of the server, if it is one of the line that the route belongs to. */
  const ask = Effect.fnUntraced(function*(route: ServerLine.Route) {
    const response = yield* send("health", HttpClientRequest.get(route.path, { acceptJson: true }))
    if (response.status === 404) return yield* unsupported(`404 for GET ${route.path}`)
    const version = route.versionIn(yield* read("health", response))
    return version === undefined
      ? yield* unsupported("something other than OpenCode's health")
      : { route, version }
  })
  /**
   * Asks one route after the other; where none is answered, the error tells what the first one gave. A server that fails may be one that
   * starts, which has no other answer on the other routes.
   */
  const askEach = ([route, ...others]: ServerLine.Routes): ReturnType<typeof ask> => {
    const [next, ...rest] = others
    return next === undefined ? ask(route) : Effect.catchIf(
      ask(route),
      isNoAnswer,
      (error) => Effect.catchIf(askEach([next, ...rest]), isNoAnswer, () => Effect.fail(error))
    )
  }

  const probe: Effect.Effect<ServerLine.Server, RequestError> = Effect.gen(function*() {
    const { route, version } = yield* Effect.catchIf(
      askEach(ServerLine.routesOf(known?.line)),
      isForeign,
      (error): Effect.Effect<never, RequestError> => (known === undefined ? Effect.fail(error) : away("health", error))
    )
    if (!route.isSupported(version)) return yield* unsupported(redaction.text(`OpenCode ${version}`))
    known = { line: route.line, version }
    return known
  })

  /**
   * A probe in the first moments of a cold start can hang for a minute (1.18.33), and a slow server needs its time.
   * Each attempt therefore keeps running while the next one starts; the first one that ends decides.
   */
  // @effect-diagnostics-next-line raceFirstWithSleepToTimeout:off
  const hedged: Effect.Effect<ServerLine.Server, RequestError> = Effect.raceAllFirst([
    probe,
    Effect.delay(Effect.suspend(() => hedged), hedgeMillis)
  ])

  /** Tells a foreign answer while the server is away from an answer of the server for an unknown route. */
  const orAway = (operation: string) => <A>(effect: Effect.Effect<A, RequestError>): Effect.Effect<A, RequestError> =>
    Effect.catchIf(effect, isForeign, (error) =>
      known === undefined
        ? Effect.fail(error)
        : error._tag === "UnsupportedServer" && answered.has(operation)
        ? away(operation, error)
        : Effect.andThen(withTimeout("health", hedged), Effect.fail(error)))

  const requestText = (operation: string, request: HttpClientRequest.HttpClientRequest) =>
    send(operation, HttpClientRequest.acceptJson(request)).pipe(
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
  const ready = () => (isUp ? known : undefined)
  const probeOnce = Semaphore.withPermit(
    probing,
    Effect.suspend(() => {
      const server = ready()
      return server === undefined ? hedged : Effect.succeed(server)
    })
  )
  const whenReady = Effect.suspend(() => {
    const server = ready()
    return server === undefined ? probeOnce : Effect.succeed(server)
  })

  const request = (operation: string, request: HttpClientRequest.HttpClientRequest) =>
    withTimeout(operation, Effect.andThen(whenReady, requestText(operation, request)))

  const requestJson = <S extends Schema.Top & { readonly DecodingServices: never }>(
    operation: string,
    schema: S,
    httpRequest: HttpClientRequest.HttpClientRequest
  ): Effect.Effect<S["Type"], RequestError> =>
    Effect.flatMap(request(operation, httpRequest), (body) => decoded(operation, schema, body))

  return {
    decoded,
    health: withTimeout("health", hedged),
    limited,
    lost,
    noteAnswered: (operation: string): void => void answered.add(operation),
    orAway,
    origin,
    read,
    redaction,
    request,
    requestJson,
    requestText,
    send,
    server: () => known,
    timeoutMillis,
    whenReady,
    withTimeout
  }
})

export const isHtml = (response: HttpClientResponse.HttpClientResponse): boolean =>
  (response.headers["content-type"] ?? "").includes("text/html")

export const toTransportError = (
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
 * An id as a segment of a path. A lone surrogate occurs in no id of the server and cannot be encoded; the server then reports an unknown id.
 *
 * @category conversions
 * @since 0.1.0
 */
export const segment = (id: string): string => encodeURIComponent(id.toWellFormed())

// internal

/** The time after which an unanswered probe is joined by a second one. A cold start of 1.18.33 takes 2 to 4 s. */
const hedgeMillis = 2000

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

/**
 * `fetch` follows redirects by default; undici's dispatcher never does. The client's own span would hold the whole URL,
 * so it is replaced by `traced`.
 */
const httpContext = Context.make(FetchHttpClient.RequestInit, { redirect: "manual" }).pipe(
  Context.add(HttpClient.TracerDisabledWhen, () => true)
)

/**
 * Runs a request in a span without its path, query, headers and errors, and propagates the span to the server as usual. By default
 * (`TurnPolicy.TraceDetail`) there is no such span, and the span around it is propagated.
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
      const isPropagated = yield* HttpClient.TracerPropagationEnabled
      if ((yield* TurnPolicy.TraceDetail) === "turn") {
        const parent = isPropagated ? Option.getOrUndefined(yield* Effect.option(Effect.currentSpan)) : undefined
        return yield* restore(execute(parent === undefined ? request : withParent(request, parent)))
      }
      const span = yield* Effect.makeSpan(`OpenCode ${operation}`, { kind: "client" })
      annotateRequest(span, request)
      const sent = isPropagated ? withParent(request, span) : request
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

const withParent = (request: HttpClientRequest.HttpClientRequest, span: Tracer.Span) =>
  HttpClientRequest.setHeaders(request, HttpTraceContext.toHeaders(span))

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

/** Whether the body is the words of another program: OpenCode answers with JSON, or with an event stream that ends. */
const isText = (response: HttpClientResponse.HttpClientResponse): boolean =>
  /^text\/(?!event-stream)/.test(response.headers["content-type"] ?? "")

/** Whether the server does not have the route. */
const isNoAnswer = (error: { readonly _tag: string; readonly isRetryable: boolean }): boolean =>
  error._tag === "UnsupportedServer" || (error._tag === "StatusError" && !error.isRetryable)

type ForeignAnswer = UnsupportedServer | DecodeError | StatusError

/** Whether the response may come from another program: a page, a redirect to a login, other JSON. */
const isForeign = (error: RequestError): error is ForeignAnswer =>
  error._tag === "UnsupportedServer" || error._tag === "DecodeError" ||
  (error._tag === "StatusError" && error.status >= 300 && error.status < 400)

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
