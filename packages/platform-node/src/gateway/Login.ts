/**
 * Signs a browser in: the page to which a one-time link leads, and the route to which that page brings the code of the link.
 *
 * **Details**
 *
 * The page is the same for all, and only its script uses a link up: what merely looks at a link, as a chat program does that shows a
 * preview of it, does not. The answer sets the cookie and gives the key, which the script keeps for all pages of this origin and path.
 *
 * **Not responsibilities**: the links themselves, and who is signed in (`Access`).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Access from "./Access.ts"
import { Unauthorized } from "./GatewayError.ts"
import * as Guard from "./Guard.ts"

/**
 * The routes below a path without a slash at its end. `home` is the path to which a browser is led that is signed in.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  { base, home }: { readonly base: string; readonly home: string }
): Layer.Layer<never, never, HttpRouter.HttpRouter | HttpRouter.Request.From<"Requires", Access.Access>> =>
  Layer.mergeAll(
    HttpRouter.add("GET", Access.linkPath, HttpServerResponse.text(page, { contentType: "text/html; charset=utf-8" })),
    HttpRouter.add(
      "GET",
      scriptPath,
      HttpServerResponse.text(script, { contentType: "text/javascript; charset=utf-8" })
    ),
    HttpRouter.add(
      "POST",
      Access.linkPath,
      Effect.gen(function*() {
        const { redeem, userOf } = yield* Access.Access
        const request = yield* HttpServerRequest.HttpServerRequest
        const signedIn = Option.getOrUndefined(yield* redeem(request.headers[codeHeader] ?? ""))
        if (signedIn === undefined) {
          // Whoever is signed in already, and opens an old link again, wants the page.
          yield* Effect.mapError(userOf(request), () =>
            new Unauthorized({
              message: "this link is not valid any more",
              advice:
                `a link signs one browser in, within ${Access.linkMinutes} minutes: make a new one with \`opencode-turn link\`, or in a ` +
                "browser that is signed in"
            }))
          return HttpServerResponse.jsonUnsafe({ home: `${base}${home}` })
        }
        const { cookie, key } = signedIn
        const answer = HttpServerResponse.jsonUnsafe({ home: `${base}${home}`, key: Redacted.value(key) })
        return yield* Effect.orDie(HttpServerResponse.setCookie(answer, cookie.name, Redacted.value(cookie.value), {
          httpOnly: true,
          sameSite: "strict",
          path: base === "" ? "/" : base,
          // A proxy that speaks TLS says so. Nobody gains by saying it falsely: the own browser would not send the cookie.
          secure: Access.urlOf(request).protocol === "https:" || request.headers["x-forwarded-proto"] === "https"
        }))
      }).pipe(Effect.catch((error) => Effect.succeed(Guard.toResponse(error))))
    )
  )

// internal

/** A header, because nothing is read of the body of a request without a user. */
const codeHeader = "x-opencode-turn-code"

const scriptPath = `${Access.linkPath}.js`

const page = `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <title>opencode-turn</title>
    <script type="module" src=".${scriptPath}"></script>
  </head>
  <body>
    <p role="status">Signing in…</p>
    <noscript>This page needs JavaScript.</noscript>
  </body>
</html>
`

/** Keeps the key under the path of the gateway, because several may share an origin. */
const script = `const name = "opencode-turn key " + new URL(".", location.href).pathname
const say = (text) => {
  document.querySelector("p").textContent = text
}
const signIn = async () => {
  try {
    // Fails where the browser keeps nothing, before the link is used up.
    const known = localStorage.getItem(name)
    localStorage.setItem(name, known ?? "")
    const response = await fetch("login", {
      method: "POST",
      headers: { "${codeHeader}": location.hash.slice(1), "${Access.keyHeader}": known ?? "" }
    })
    const { advice, home, key, message } = await response.json()
    if (!response.ok) return say("You are not signed in: " + message + ". Advice: " + advice + ".")
    if (key !== undefined) localStorage.setItem(name, key)
    location.replace(home)
  } catch {
    say("You are not signed in: the gateway does not answer, or this browser keeps nothing for its page. Load this page again.")
  }
}
addEventListener("hashchange", signIn)
void signIn()
`
