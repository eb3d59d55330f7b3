import * as Listen from "#gateway/Listen"
import { assert, it } from "@effect/vitest"
import * as Gateway from "@opencode-turn/platform-node/gateway"
import { Effect, Layer } from "effect"
import { createServer, type IncomingHttpHeaders } from "node:http"
import type { Page } from "playwright-core"
import { describe } from "vitest"
import * as Browser from "../support/Browser.ts"
import * as Gateways from "../support/Gateways.ts"

const act = <A>(f: () => Promise<A>) => Effect.promise(f)

const served = Effect.gen(function*() {
  const gateway = yield* Gateway.make({ token: Gateways.token, viewer: true })
  const port = yield* Effect.orDie(Listen.listen(gateway, { host: "127.0.0.1", port: 0 }))
  const url = `http://127.0.0.1:${port}`
  return { url, makeLink: Effect.map(gateway.makeLink, (link) => `${url}${link}`) }
})

const isSignedIn = (page: Page) => act(() => page.getByLabel("Prompt", { exact: true }).waitFor())
const isSignedOut = (page: Page) => act(() => page.getByText("This browser is not signed in.").waitFor())

/** Another program of this machine, and what it is sent. */
const otherServer = Effect.gen(function*() {
  const got: Array<IncomingHttpHeaders> = []
  const server = createServer((request, response) => {
    got.push(request.headers)
    response.end("Hello.")
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
    () => Effect.sync(() => server.close())
  )
  const { port }: { readonly port: number } = Object(server.address())
  return { got, url: `http://127.0.0.1:${port}` }
})

describe.skipIf(Browser.whyNone !== undefined)(`a browser ${Browser.whyNone ?? ""}`, () => {
  it.layer(Layer.merge(Gateways.layer, Browser.layer), { excludeTestServices: true })("that signs in", (it) => {
    it.effect("sends its cookie to a server on another port too, which can do nothing with it", () =>
      Effect.gen(function*() {
        const { makeLink, url } = yield* served
        const other = yield* otherServer
        const { page, problems } = yield* Browser.newPage()
        const link = yield* makeLink
        yield* act(() => page.goto(link))
        yield* isSignedIn(page)
        yield* act(() => page.goto(other.url))
        const sent = other.got.map(({ cookie }) => cookie ?? "").find((cookie) => cookie.includes("opencode_turn_"))
        assert.isDefined(sent)
        assert.notInclude(JSON.stringify(other.got), "x-opencode-turn-key")
        // The storage of the other origin holds no key.
        assert.strictEqual(yield* act(() => page.evaluate("JSON.stringify(localStorage)")), "{}")
        for (const path of ["asks", "conversations", "connection", "link"]) {
          const method = path === "link" ? "POST" : "GET"
          const replayed = yield* act(() => fetch(`${url}/${path}`, { method, headers: { cookie: sent ?? "" } }))
          assert.strictEqual(replayed.status, 401, path)
        }
        yield* act(() => page.goto(url))
        yield* isSignedIn(page)
        assert.deepStrictEqual(problems, [])
      }).pipe(Effect.scoped))

    it.effect("makes a link for another one, stays so in all its tabs, and signs out of all of them", () =>
      Effect.gen(function*() {
        const { makeLink, url } = yield* served
        const { page, problems } = yield* Browser.newPage()
        const link = yield* makeLink
        yield* act(() => page.goto(link))
        yield* isSignedIn(page)
        assert.notInclude(page.url(), "login")
        yield* act(() => page.reload())
        yield* isSignedIn(page)
        const tab = yield* act(() => page.context().newPage())
        yield* act(() => tab.goto(url))
        yield* isSignedIn(tab)

        yield* act(() => page.getByRole("button", { name: "Open elsewhere" }).click())
        yield* act(() => page.getByText("Its address is known on this machine only.").waitFor())
        const made = yield* act(() => page.locator("code.link").innerText())
        const phone = yield* Browser.newPage()
        yield* act(() => phone.page.goto(made))
        yield* isSignedIn(phone.page)

        const stranger = yield* Browser.newPage()
        yield* act(() => stranger.page.goto(made))
        yield* act(() => stranger.page.getByText("You are not signed in: this link is not valid any more").waitFor())
        yield* act(() => stranger.page.goto(url))
        yield* isSignedOut(stranger.page)
        // Whoever is signed in is led to the page by an old link.
        yield* act(() => phone.page.goto(made))
        yield* isSignedIn(phone.page)

        yield* act(() => page.getByRole("button", { name: "Sign out" }).click())
        yield* isSignedOut(page)
        yield* isSignedOut(tab)
        yield* act(() => phone.page.reload())
        yield* isSignedIn(phone.page)
        for (const all of [problems, phone.problems, stranger.problems]) assert.deepStrictEqual(all, [])
      }).pipe(Effect.scoped))
  })
})
