/**
 * Who may use the gateway: the holder of its token, or whom a product's own check lets in.
 *
 * ```
 *   Authorization: Bearer TOKEN ─┐
 *   cookie of a one-time link ───┴▶ the user of the token, who owns all conversations
 *   authorize(request) ───────────▶ a user of the product, who owns some
 * ```
 *
 * **Responsibilities**: the check of a request, the one-time links, the cookie that such a link sets.
 *
 * **Not responsibilities**: which host names and origins may call at all (`Guard`), and what a user may see (`Ownership`).
 *
 * **Details**
 *
 * Secrets are compared by their digests, so that the time of a comparison tells nothing of them. The cookie is made of the token by a
 * one-way function: it stays valid when the gateway starts again with the same token, and does not hold the token.
 *
 * @since 0.1.0
 */
import * as Contained from "@opencode-turn/core/Contained"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import { createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto"
import { InvalidConfig } from "../live/LiveLayer.ts"
import { Unauthorized, Unavailable } from "./GatewayError.ts"
import type { User } from "./User.ts"

/**
 * A product's check of a request: its user, or undefined for a request that is refused. The request has no body.
 *
 * @category models
 * @since 0.1.0
 */
export type Authorize = (request: Request) => User | undefined | Promise<User | undefined>

/**
 * Either the secret token of the gateway's one user, or a product's own check.
 *
 * @category models
 * @since 0.1.0
 */
export type Credentials =
  | { readonly token: Redacted.Redacted | string; readonly authorize?: undefined }
  | { readonly authorize: Authorize; readonly token?: undefined }

/**
 * @category services
 * @since 0.1.0
 */
export class Access extends Context.Service<Access, {
  /** The user of a request. */
  readonly userOf: (request: HttpServerRequest.HttpServerRequest) => Effect.Effect<User, Unauthorized | Unavailable>
  /** The path of a new one-time link; undefined where a product checks requests itself. */
  readonly makeLink: Effect.Effect<string | undefined>
  /** The cookie for the code of a link, once. */
  readonly redeem: (code: string) => Effect.Effect<Option.Option<Cookie>>
}>()("@opencode-turn/platform-node/gateway/Access") {}

/**
 * @category models
 * @since 0.1.0
 */
export interface Cookie {
  readonly name: string
  readonly value: Redacted.Redacted
}

/**
 * The path of one-time links, before their code.
 *
 * @category constants
 * @since 0.1.0
 */
export const linkPath = "/login"

/**
 * Fails for a token that can be guessed.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (credentials: Credentials): Effect.Effect<Access["Service"], InvalidConfig> => {
  if (credentials.authorize !== undefined) return Effect.succeed(ofProduct(credentials.authorize))
  const { token } = credentials
  const text = Redacted.isRedacted(token) ? Redacted.value(token) : token
  return isStrong(text) ? Effect.succeed(ofToken(text)) : Effect.fail(
    new InvalidConfig({ setting: "token", reason: "is too short or holds blanks: give at least 16 random characters" })
  )
}

/**
 * Whether a text may be a token: at least 16 characters, none of them blank.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isStrong = (token: string): boolean => /^\S{16,}$/.test(token)

/**
 * The whole address of a request, as far as the server knows it: behind a proxy the scheme may be another one.
 *
 * @category getters
 * @since 0.1.0
 */
export const urlOf = ({ headers, originalUrl }: HttpServerRequest.HttpServerRequest): URL => {
  const base = `http://${headers["host"] ?? "localhost"}`
  return new URL(URL.canParse(originalUrl, base) ? originalUrl : "/", URL.canParse(base) ? base : "http://localhost")
}

/**
 * A new random token of 256 bits.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeToken: Effect.Effect<Redacted.Redacted> = Effect.sync(() => Redacted.make(random()))

// internal

const ofToken = (token: string): Access["Service"] => {
  const key = digest(token)
  // Cookies know no ports: gateways with other tokens on the same host have cookies of other names.
  const name = `opencode_turn_${derive(token, "name").slice(0, 8)}`
  const value = derive(token, "cookie")
  const cookieKey = digest(value)
  const codes = new Set<string>()
  const user: User = { id: "token", owns: () => true, mayAllowAlways: true }
  return Access.of({
    userOf: (request) => {
      const [, bearer] = /^bearer +(\S+)$/i.exec(request.headers["authorization"] ?? "") ?? []
      const cookie = request.cookies[name]
      return (bearer !== undefined && isSame(bearer, key)) || (cookie !== undefined && isSame(cookie, cookieKey))
        ? Effect.succeed(user)
        : Effect.fail(
          new Unauthorized({
            message: "this request has no valid token",
            advice:
              "send the gateway's token as `Authorization: Bearer TOKEN`, or open a one-time link of the gateway in the browser"
          })
        )
    },
    makeLink: Effect.sync(() => {
      const code = random()
      codes.add(hex(digest(code)))
      return `${linkPath}/${code}`
    }),
    // The code is looked up by its digest, so that the time of the look-up tells nothing of it.
    redeem: (code) =>
      Effect.sync(() =>
        codes.delete(hex(digest(code))) ? Option.some({ name, value: Redacted.make(value) }) : Option.none()
      )
  })
}

const ofProduct = (authorize: Authorize): Access["Service"] =>
  Access.of({
    userOf: (request) =>
      Effect.tryPromise(async () => await authorize(toWeb(request))).pipe(
        Effect.catch(({ cause }) =>
          Effect.andThen(
            Contained.report("authorize", {}, Cause.fail(cause)),
            Effect.fail(
              new Unavailable({ message: "nobody could check who sends this request", advice: "try again in a while" })
            )
          )
        ),
        Effect.filterOrFail(
          Predicate.isNotUndefined,
          () => new Unauthorized({ message: "this request names no user", advice: "sign in first" })
        )
      ),
    makeLink: Effect.undefined,
    redeem: () => Effect.succeedNone
  })

/** The request without its body, which is the gateway's to read. */
const toWeb = (request: HttpServerRequest.HttpServerRequest): Request =>
  new Request(urlOf(request), { method: request.method, headers: request.headers })

const random = (): string => randomBytes(32).toString("base64url")

const digest = (text: string): Buffer => createHash("sha256").update(text).digest()

const derive = (token: string, purpose: string): string =>
  createHmac("sha256", token).update(`opencode-turn ${purpose}`).digest("hex")

const hex = (bytes: Buffer): string => bytes.toString("hex")

const isSame = (text: string, key: Buffer): boolean => timingSafeEqual(digest(text), key)
