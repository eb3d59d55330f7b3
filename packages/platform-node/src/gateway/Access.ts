/**
 * Who may use the gateway: the holder of its token, or whom a product's own check lets in.
 *
 * ```
 *   Authorization: Bearer TOKEN ──────────┐
 *   cookie and key of a one-time link ────┴▶ the user of the token, who owns all conversations
 *   authorize(request) ────────────────────▶ a user of the product, who owns some
 * ```
 *
 * **Responsibilities**: the check of a request, the one-time links, the cookie and the key that such a link gives.
 *
 * **Not responsibilities**: which host names and origins may call at all (`Guard`), what a user may see (`Ownership`), and the page that
 * redeems a link (`Login`).
 *
 * **Details**
 *
 * Secrets are compared by their digests, so that the time of a comparison tells nothing of them. The cookie and the key are made of the
 * token by a one-way function: they stay valid when the gateway starts again with the same token, and do not hold it.
 *
 * A cookie knows no ports: the browser sends it to every server on the same host name. It therefore opens nothing without the key, which a
 * page keeps in the storage of its own origin. The key opens nothing without the cookie, which no script can read.
 *
 * A link is signed by the token and says when it was made. Whoever holds the token can make one (`opencode-turn link`), and need not
 * send the token to anybody for that. A gateway takes a link once, for 10 minutes, and none that is older than the gateway itself, because
 * it does not know which of those were used. Nor does it know which links another gateway with the same token took.
 *
 * @since 0.1.0
 */
import * as Contained from "@opencode-turn/core/Contained"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
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
  /** The path of a new one-time link below that of the gateway; undefined where a product checks requests itself. */
  readonly makeLink: Effect.Effect<string | undefined>
  /** What a browser gets for the code of a link, once. */
  readonly redeem: (code: string) => Effect.Effect<Option.Option<SignedIn>>
}>()("@opencode-turn/platform-node/gateway/Access") {}

/**
 * The cookie that a browser keeps, and the key that its page keeps. Only both together name the user.
 *
 * @category models
 * @since 0.1.0
 */
export interface SignedIn {
  readonly cookie: { readonly name: string; readonly value: Redacted.Redacted }
  readonly key: Redacted.Redacted
}

/**
 * The header in which a page sends its key.
 *
 * @category constants
 * @since 0.1.0
 */
export const keyHeader = "x-opencode-turn-key"

/**
 * The path of one-time links. Their code is the fragment, which a browser sends to nobody.
 *
 * @category constants
 * @since 0.1.0
 */
export const linkPath = "/login"

/**
 * How long a link can be used.
 *
 * @category constants
 * @since 0.1.0
 */
export const linkMinutes = 10

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
  return isStrong(text) ? Effect.map(Clock.currentTimeMillis, (millis) => ofToken(text, millis)) : Effect.fail(
    new InvalidConfig({ setting: "token", reason: "is too short or holds blanks: give at least 16 random characters" })
  )
}

/**
 * The path of a new link for the gateways of a token.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeLink = (token: Redacted.Redacted): Effect.Effect<string> =>
  Effect.map(Clock.currentTimeMillis, (millis) => {
    const made = `${millis.toString(36)}.${random()}`
    return `${linkPath}#${made}.${sign(Redacted.value(token), made)}`
  })

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

const ofToken = (token: string, startedMillis: number): Access["Service"] => {
  const bearerDigest = digest(token)
  // Gateways with other tokens on the same host have cookies of other names.
  const cookie = {
    name: `opencode_turn_${derive(token, "name").slice(0, 8)}`,
    value: Redacted.make(derive(token, "cookie"))
  }
  const key = Redacted.make(derive(token, "key"))
  const cookieDigest = digest(Redacted.value(cookie.value))
  const keyDigest = digest(Redacted.value(key))
  /** The links that were used, with the time that each was made. */
  const used = new Map<string, number>()
  const user: User = { id: "token", owns: () => true, mayAllowAlways: true }
  return Access.of({
    userOf: (request) => {
      const [, bearer = ""] = /^bearer +(\S+)$/i.exec(request.headers["authorization"] ?? "") ?? []
      const isPage = [
        isSame(request.cookies[cookie.name] ?? "", cookieDigest),
        isSame(request.headers[keyHeader] ?? "", keyDigest)
      ].every((is) => is)
      return isSame(bearer, bearerDigest) || isPage
        ? Effect.succeed(user)
        : Effect.fail(
          new Unauthorized({
            message: "this request has no valid token",
            advice:
              "send the gateway's token as `Authorization: Bearer TOKEN`, or open a one-time link of the gateway in the browser"
          })
        )
    },
    makeLink: makeLink(Redacted.make(token)),
    redeem: (code) =>
      Effect.map(Clock.currentTimeMillis, (nowMillis) => {
        const oldestMillis = nowMillis - linkMinutes * 60_000
        for (const [made, millis] of used) if (millis < oldestMillis) used.delete(made)
        const [, made = "", time = "", signature = ""] = /^(([0-9a-z]{1,10})\.[\w-]{43})\.([\w-]{43})$/.exec(code) ?? []
        const millis = Number.parseInt(time, 36)
        const isValid = isSame(signature, digest(sign(token, made))) && millis >= Math.max(startedMillis, oldestMillis)
        if (!isValid || used.has(made)) return Option.none()
        used.set(made, millis)
        return Option.some({ cookie, key })
      })
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

const sign = (token: string, made: string): string =>
  createHmac("sha256", token).update(`opencode-turn link ${made}`).digest("base64url")

const isSame = (text: string, key: Buffer): boolean => timingSafeEqual(digest(text), key)
