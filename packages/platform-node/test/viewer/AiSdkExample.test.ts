import * as Listen from "#gateway/Listen"
import { assert, it } from "@effect/vitest"
import * as Gateway from "@opencode-turn/platform-node/gateway"
import type { Step } from "@opencode-turn/testing/ModelScript"
import { prompt, ScriptedModel } from "@opencode-turn/testing/ScriptedModel"
import { Effect, FileSystem, Layer } from "effect"
import { fileURLToPath } from "node:url"
import type { Page } from "playwright-core"
import { build } from "vite"
import { describe } from "vitest"
import * as Browser from "../support/Browser.ts"
import { act } from "../support/Browser.ts"
import * as Gateways from "../support/Gateways.ts"
import * as RealServer from "../support/RealServer.ts"

const example = fileURLToPath(new URL("../../../../examples/ai-sdk", import.meta.url))

/** The page of the example on the gateway, as a product would serve it: from the same origin. */
const opened = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const outDir = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-example-" })
  yield* act(() =>
    build({
      root: example,
      configFile: false,
      logLevel: "error",
      build: { outDir, emptyOutDir: true, target: "esnext" }
    })
  )
  const gateway = yield* Effect.orDie(Gateway.make({ token: Gateways.token, home: "/#ticket-42" }))
  const port = yield* Effect.orDie(Listen.listen(gateway, { host: "127.0.0.1", port: 0 }))
  const { page, problems } = yield* Browser.newPage()
  const origin = `http://127.0.0.1:${port}`
  yield* act(() => page.route(`${origin}/`, (route) => route.fulfill({ path: `${outDir}/index.html` })))
  yield* act(() =>
    page.route(
      `${origin}/assets/*`,
      (route) => route.fulfill({ path: `${outDir}${new URL(route.request().url()).pathname}` })
    )
  )
  const link = yield* gateway.makeLink
  yield* act(() => page.goto(`${origin}${link}`))
  yield* act(() => page.getByLabel("Message").waitFor())
  return { page, problems }
})

const send = (page: Page, steps: ReadonlyArray<Step>) =>
  act(async () => {
    await page.getByLabel("Message").fill(prompt("Do it.", steps))
    await page.getByRole("button", { name: "Send" }).click()
  })

/** What the agent said last. */
const answer = (page: Page) => () =>
  page.getByRole("article", { name: "assistant" }).last().locator("> p").allInnerTexts()

const said = (page: Page, text: string) =>
  act(() => page.getByRole("article", { name: "assistant" }).last().locator("> p", { hasText: text }).waitFor())

const idle = (page: Page) => act(() => page.getByRole("button", { name: "Stop" }).waitFor({ state: "detached" }))

const layer = Layer.merge(RealServer.layerOf({ config: { permission: { bash: "ask" } } }), Browser.layer)

describe.skipIf(Browser.whyNone !== undefined)(`the example of the AI SDK in Chromium ${Browser.whyNone ?? ""}`, () => {
  it.layer(layer, { excludeTestServices: true })("on a real OpenCode", (it) => {
    it.effect("streams an answer, goes on in the middle of a word after a reload, is answered by a click, and stops its turn", () =>
      Effect.gen(function*() {
        const model = yield* ScriptedModel
        const { page, problems } = yield* opened
        yield* send(page, [
          { text: "first words and the rest", gate: "example", gateAfter: 2 }
        ])
        yield* said(page, "first words")
        yield* act(() => page.reload())
        yield* said(page, "first words")
        yield* Browser.shows(answer(page), ["first words"])
        yield* model.release("example")
        yield* said(page, "and the rest")
        yield* idle(page)
        yield* Browser.shows(answer(page), ["first words and the rest"])

        yield* send(page, [
          { tool: "bash", args: { command: "echo found-it", description: "Look" } },
          { text: "I found it." }
        ])
        yield* act(() => page.getByRole("button", { name: "Allow once" }).click())
        yield* said(page, "I found it.")
        yield* idle(page)
        yield* act(() => page.locator("pre", { hasText: "found-it" }).waitFor())
        yield* Browser.shows(() => page.getByRole("button", { name: "Allow once" }).count(), 0)

        yield* send(page, [{ text: "some words and never the rest", gate: "never", gateAfter: 2 }])
        yield* said(page, "some words")
        yield* act(() => page.getByRole("button", { name: "Stop" }).click())
        yield* idle(page)
        yield* Browser.shows(answer(page), ["some words"])
        yield* model.release("never")

        // Loaded anew, the page shows the same chat.
        const articles = page.getByRole("article")
        const before = yield* act(() => articles.allInnerTexts())
        yield* act(() => page.reload())
        yield* Browser.shows(() => articles.allInnerTexts(), before)
        assert.lengthOf(before, 6)
        assert.deepStrictEqual(problems, [])
      }).pipe(Effect.scoped))
  })
})
