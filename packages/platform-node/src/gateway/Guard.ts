/**
 * What stands before and behind every route: which requests come in at all, and the headers and the form of each answer.
 *
 * **Responsibilities**
 * - Host names: a page of another name that resolves to this machine (DNS rebinding) is refused.
 * - Origins: a page of another site can neither read nor post, not even with the user's cookie.
 * - Each answer has a content security policy, and says that its type is not to be guessed and that nobody may keep it.
 * - Each error has the JSON form of `GatewayError`, also one of the router or a defect.
 *
 * **Not responsibilities**: who the user is (`Access`).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as HttpEffect from "effect/http/HttpEffect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import type * as Scope from "effect/Scope"
import { InvalidConfig } from "../live/LiveLayer.ts"
import * as GatewayError from "./GatewayError.ts"

/**
 * **Details**
 *
 * - `hosts`: the names under which the gateway is reached, with or without a port: `app.example.com`. By default only those of the
 *   loopback interface.
 * - `origins`: origins of other pages that may call and read, for example `https://app.example.com`. Pages of the gateway's own host always
 *   may.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly hosts?: ReadonlyArray<string> | undefined
  readonly origins?: ReadonlyArray<string> | undefined
}

/**
 * No script, style or connection but of the gateway itself, and nobody may put a page of it into a frame.
 *
 * @category constants
 * @since 0.1.0
 */
export const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
  "font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

/**
 * Fails for a host or an origin that no request can have.
 *
 * @category constructors
 * @since 0.1.0
 */
export const check = ({ hosts = [], origins = [] }: Options): Effect.Effect<void, InvalidConfig> => {
  const host = hosts.find((host) => !isPlainHost(host))
  const origin = origins.find((origin) => !isOrigin(origin))
  if (host !== undefined) {
    return Effect.fail(
      new InvalidConfig({
        setting: "hosts",
        reason: `cannot be ${JSON.stringify(host)}: give names alone, as app.example.com, or with a port`
      })
    )
  }
  return origin === undefined ? Effect.void : Effect.fail(
    new InvalidConfig({
      setting: "origins",
      reason: `cannot be ${JSON.stringify(origin)}: give a scheme, a name and its port, as https://app.example.com`
    })
  )
}

/**
 * Guards an application.
 *
 * @category combinators
 * @since 0.1.0
 */
export const guard = (options: Options) =>
<E, R>(
  app: Effect.Effect<HttpServerResponse.HttpServerResponse, E, R>
): Effect.Effect<
  HttpServerResponse.HttpServerResponse,
  E,
  R | HttpServerRequest.HttpServerRequest | Scope.Scope
> =>
  Effect.gen(function*() {
    const request = yield* HttpServerRequest.HttpServerRequest
    // Here, and not around the application, because the answer to a failure is made behind it.
    const refused = refusedOrigin(request, options)
    const shared = refused === undefined ? sharedWith(request, options) : {}
    yield* HttpEffect.appendPreResponseHandler((_, response) => Effect.succeed(harden(response, shared)))
    if (refused !== undefined) return toResponse(refused)
    return isPreflight(request) && "vary" in shared ? HttpServerResponse.empty({ status: 204 }) : yield* app
  })

/**
 * The answer that tells an error.
 *
 * @category conversions
 * @since 0.1.0
 */
export const toResponse = (error: GatewayError.GatewayError): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.jsonUnsafe(
    { _tag: error._tag, message: error.message, advice: error.advice },
    // What is left of a body that was refused would otherwise be read as the next request.
    { status: statusOf[error._tag], ...(error._tag === "BodyTooLarge" && { headers: { connection: "close" } }) }
  )

// internal

const statusOf: Record<GatewayError.GatewayError["_tag"], number> = {
  InvalidRequest: 400,
  Unauthorized: 401,
  RefusedOrigin: 403,
  NotFound: 404,
  Busy: 409,
  TooLate: 409,
  BodyTooLarge: 413,
  UnsupportedMediaType: 415,
  Unprocessable: 422,
  TooMany: 429,
  InternalError: 500,
  Unavailable: 503
}

const refusedOrigin = (
  request: HttpServerRequest.HttpServerRequest,
  { hosts = loopback, origins = [] }: Options
): GatewayError.RefusedOrigin | undefined => {
  const host = hostOf(request)
  if (host === undefined || !hosts.some((allowed) => isHost(host, allowed))) {
    return new GatewayError.RefusedOrigin({
      message: "this gateway is not known under the host name of the request",
      advice: "open it under the address that it printed, or name the host in its option `hosts` (`--allow-host`)"
    })
  }
  const origin = request.headers["origin"]
  const site = request.headers["sec-fetch-site"]
  const isOwn = origin === undefined
    // A link on another page may lead to a page of the gateway. The cookie is not sent with it.
    ? site === undefined || site === "same-origin" || site === "none" ||
      (request.headers["sec-fetch-mode"] === "navigate" && /^(?:GET|HEAD)$/.test(request.method))
    : isOriginOf(origin, host)
  return isOwn || (origin !== undefined && origins.includes(origin)) ? undefined : new GatewayError.RefusedOrigin({
    message: "a page of another site may not call this gateway",
    advice: "call it from its own page, or name the page's origin in its option `origins` (`--allow-origin`)"
  })
}

/** A name or an address, with a port or without. */
const isPlainHost = (host: string): boolean =>
  /^[^/?#@\\\s*]+$/.test(host) && URL.canParse(`http://${host}`) && new URL(`http://${host}`).pathname === "/"

/** Pages of apps and extensions have schemes of their own, whose origins a URL does not know. */
const isOrigin = (text: string): boolean =>
  /^https?:/i.test(text)
    ? !text.includes("*") && URL.canParse(text) && new URL(text).origin === text
    : /^[a-z][a-z\d+.-]*:\/\/[\w.-]+(?::\d{1,5})?$/.test(text)

const loopback = ["localhost", "127.0.0.1", "[::1]"]

const hostOf = ({ headers, originalUrl }: HttpServerRequest.HttpServerRequest): string | undefined =>
  headers["host"] ?? (URL.canParse(originalUrl) ? new URL(originalUrl).host : undefined)

/** `allowed` without a port stands for all of them. */
const isHost = (host: string, allowed: string): boolean => {
  const given = host.toLowerCase()
  return given === allowed.toLowerCase() || given.replace(/:\d{1,5}$/, "") === allowed.toLowerCase()
}

/** Compared as URLs, because a browser leaves out the scheme's own port. A proxy before the gateway may have another scheme. */
const isOriginOf = (origin: string, host: string): boolean => {
  if (!URL.canParse(origin)) return false
  const { host: own, protocol } = new URL(origin)
  return /^https?:$/.test(protocol) && URL.canParse(`${protocol}//${host}`) &&
    new URL(`${protocol}//${host}`).host === own
}

const fixed = {
  "content-security-policy": contentSecurityPolicy,
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "referrer-policy": "no-referrer",
  "cross-origin-resource-policy": "same-origin",
  "cross-origin-opener-policy": "same-origin",
  "cache-control": "no-store"
}

/** What lets a page of an origin that is named in `origins` read the answer. */
const sharedWith = ({ headers: { origin } }: HttpServerRequest.HttpServerRequest, { origins = [] }: Options) =>
  origin !== undefined && origins.includes(origin)
    ? {
      "access-control-allow-origin": origin,
      "access-control-allow-credentials": "true",
      "access-control-allow-methods": "GET, POST",
      "access-control-allow-headers": "authorization, content-type, idempotency-key, last-event-id",
      "access-control-expose-headers": "retry-after",
      "access-control-max-age": "600",
      vary: "Origin"
    }
    : {}

/** Whether a browser asks if it may send the request itself. */
const isPreflight = ({ headers, method }: HttpServerRequest.HttpServerRequest): boolean =>
  method === "OPTIONS" && headers["access-control-request-method"] !== undefined

const harden = (
  response: HttpServerResponse.HttpServerResponse,
  shared: Readonly<Record<string, string>>
): HttpServerResponse.HttpServerResponse => {
  const told = isTold(response) ? response : toResponse(errorOf(response.status))
  return HttpServerResponse.setHeaders(told, {
    ...fixed,
    ...shared,
    ...(told.status === 401 && { "www-authenticate": "Bearer realm=\"opencode-turn\"" }),
    ...(told.status === 429 && { "retry-after": "1" }),
    // A route may say more about itself, a page for example how long it may be kept.
    ...told.headers
  })
}

/** Whether the response is no error, or one with a body of its own. */
const isTold = ({ body, status }: HttpServerResponse.HttpServerResponse): boolean =>
  status < 400 || (body._tag === "Uint8Array" && body.contentType === "application/json")

const errorOf = (status: number): GatewayError.GatewayError => {
  switch (status) {
    case 404:
      return new GatewayError.NotFound({
        message: "there is no such route",
        advice: "GET /openapi.json describes all routes"
      })
    case 413:
      return new GatewayError.BodyTooLarge({
        message: "the body of the request is too large",
        advice: "send fewer or smaller files"
      })
    case 415:
      return new GatewayError.UnsupportedMediaType({
        message: "the body of the request is not JSON",
        advice: "send it as application/json"
      })
    case 499:
    case 503:
      return new GatewayError.Unavailable({ message: "the gateway is stopping", advice: "try again in a while" })
    default:
      return status < 500
        ? new GatewayError.InvalidRequest({
          message: "the request cannot be read",
          advice: "GET /openapi.json describes what each route takes"
        })
        : new GatewayError.InternalError({
          message: "the gateway failed",
          advice: "try again; if it happens again, look at what the gateway reported"
        })
  }
}
