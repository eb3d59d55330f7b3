import * as Listen from "#gateway/Listen"
import { assert, it } from "@effect/vitest"
import * as Gateway from "@opencode-turn/platform-node/gateway"
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"
import { Effect, Layer } from "effect"
import { describe } from "vitest"
import * as Browser from "../support/Browser.ts"
import { act } from "../support/Browser.ts"
import * as Gateways from "../support/Gateways.ts"

describe.skipIf(Browser.whyNone !== undefined)(`the page in Chromium ${Browser.whyNone ?? ""}`, () => {
  it.layer(Layer.merge(Gateways.layer, Browser.layer), { excludeTestServices: true })("mounted in a product", (it) => {
    it.effect("works below a path, and asks who is not signed in to do so", () =>
      Effect.gen(function*() {
        const gateway = yield* Gateway.make({ token: Gateways.token, viewer: true, prefix: "/agent" })
        const port = yield* Effect.orDie(Listen.listen(gateway, { host: "127.0.0.1", port: 0 }))
        const { page, problems } = yield* Browser.newPage()
        const origin = `http://127.0.0.1:${port}`
        yield* act(() => page.goto(`${origin}/agent`))
        yield* act(() => page.getByText("This browser is not signed in.").waitFor())
        yield* act(async () => page.goto(`${origin}${await Effect.runPromise(gateway.makeLink)}`))
        yield* act(() =>
          page.getByLabel("Prompt", { exact: true }).fill(FakeOpencode.prompt("Do it.", [{ text: "Done." }]))
        )
        yield* act(() => page.keyboard.press("Enter"))
        yield* act(() => page.locator(".ending.completed").waitFor())
        yield* Browser.shows(() => page.locator(".reply .markdown").allInnerTexts(), ["Done."])
        assert.match(page.url(), new RegExp(`^${origin}/agent/#/c/web-`))
        assert.deepStrictEqual(problems, [])
      }).pipe(Effect.scoped))

    it.effect("begins conversations under the ids that are the user's", () =>
      Effect.gen(function*() {
        const gateway = yield* Gateway.make({ authorize: () => Gateway.ofPrefix("alice", "alice/"), viewer: true })
        const port = yield* Effect.orDie(Listen.listen(gateway, { host: "127.0.0.1", port: 0 }))
        const { page, problems } = yield* Browser.newPage()
        yield* act(() => page.goto(`http://127.0.0.1:${port}`))
        yield* act(() =>
          page.getByLabel("Prompt", { exact: true }).fill(FakeOpencode.prompt("Do it.", [{ text: "Done." }]))
        )
        yield* act(() => page.keyboard.press("Enter"))
        yield* act(() => page.locator(".ending.completed").waitFor())
        assert.match(page.url(), /#\/c\/alice%2Fweb-/)
        assert.deepStrictEqual(problems, [])
      }).pipe(Effect.scoped))
  })
})
