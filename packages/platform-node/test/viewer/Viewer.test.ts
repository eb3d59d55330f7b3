import { assert, it } from "@effect/vitest"
import type { Step } from "@opencode-turn/testing/ModelScript"
import { prompt, ScriptedModel } from "@opencode-turn/testing/ScriptedModel"
import { Effect, Layer } from "effect"
import type { Page } from "playwright-core"
import { describe } from "vitest"
import * as Browser from "../support/Browser.ts"
import { layerSharedOf } from "../support/CliProcess.ts"
import * as ServeProcess from "../support/ServeProcess.ts"

const release = (gate: string) => Effect.flatMap(ScriptedModel, (model) => model.release(gate))

const act = <A>(f: () => Promise<A>) => Effect.promise(f)

/** Writes a prompt and sends it. */
const send = (page: Page, steps: ReadonlyArray<Step>, text = "Do it.") =>
  act(async () => {
    await page.getByLabel("Prompt", { exact: true }).fill(prompt(text, steps))
    await page.keyboard.press("Enter")
  })

const seen = (page: Page, text: string) => act(() => page.getByText(text).first().waitFor())

/** Waits until the answer of the agent holds the text. The prompt holds it too, because it carries the script. */
const said = (page: Page, text: string) => act(() => page.locator(".reply").getByText(text).first().waitFor())

const ended = (page: Page, count = 1) => act(() => page.locator(".ending.completed").nth(count - 1).waitFor())

/** The text of the answer. */
const answer = (page: Page) => act(() => page.locator(".reply .markdown").allInnerTexts())

/** A page that is signed in at a gateway. */
const opened = Effect.gen(function*() {
  const { serve } = yield* ServeProcess.place
  const gateway = yield* serve()
  const { page, problems } = yield* Browser.newPage()
  yield* act(() => page.goto(gateway.link))
  yield* act(() => page.getByLabel("Prompt", { exact: true }).waitFor())
  return { serve, gateway, page, problems }
})

/** A session's own rules do not reach its subagents (1.18.33). */
const layer = Layer.merge(layerSharedOf({ permission: { bash: "ask" } }), Browser.layer)

describe.skipIf(Browser.whyNone !== undefined)(`the page in Chromium ${Browser.whyNone ?? ""}`, () => {
  it.layer(layer, { excludeTestServices: true })("on a real OpenCode", (it) => {
    it.effect("shows a turn as it streams, and goes on in the middle of a word after a reload", () =>
      Effect.gen(function*() {
        const { page, problems } = yield* opened
        yield* send(page, [{
          text: "Some **bold** words and unfin-ished ones.",
          chunks: 10,
          gate: "word",
          gateAfter: 6
        }])
        yield* said(page, "words and")
        const before = (yield* answer(page)).join("")
        yield* act(() => page.reload())
        yield* said(page, "words and")
        assert.deepStrictEqual((yield* answer(page)).join(""), before)
        yield* release("word")
        yield* ended(page)
        assert.deepStrictEqual(yield* answer(page), ["Some bold words and unfin-ished ones."])
        assert.deepStrictEqual(problems, [])
      }).pipe(Effect.scoped))

    it.effect("shows the permission that a subagent asks for, and a click answers it", () =>
      Effect.gen(function*() {
        const { page, problems } = yield* opened
        const inside = prompt("Look.", [
          { tool: "bash", args: { command: "echo found", description: "Look around" } },
          { text: "I found it." }
        ])
        yield* send(page, [
          { tool: "task", args: { description: "Look around", prompt: inside, subagent_type: "general" } },
          { text: "All done." }
        ])
        // The gateway's sessions ask for a subagent, too.
        yield* said(page, "Permission: task")
        yield* act(() => page.getByRole("button", { name: "Allow once" }).click())
        yield* said(page, "The subagent general asks: Look around")
        yield* act(() => page.locator(".inbox-link .badge", { hasText: "1" }).waitFor())
        assert.deepStrictEqual(yield* act(() => page.title()), "(1) opencode-turn")
        yield* act(() => page.getByRole("link", { name: "Inbox" }).click())
        yield* seen(page, "Permission: bash")
        yield* act(() => page.getByRole("button", { name: "Allow once" }).click())
        yield* act(() => page.goBack())
        yield* ended(page)
        assert.deepInclude(yield* answer(page), "All done.")
        yield* act(() => page.locator("details.subagent > summary").click())
        yield* said(page, "I found it.")
        yield* act(() => page.locator("details.subagent details.tool > summary").click())
        yield* act(() => page.getByLabel("Output", { exact: true }).getByText("found").waitFor())
        assert.deepStrictEqual(problems, [])
      }).pipe(Effect.scoped))

    it.effect("stops a turn, shows it in a second tab, and keeps what was streamed", () =>
      Effect.gen(function*() {
        const { page, problems } = yield* opened
        yield* send(page, [{ text: "first words and never the rest", gate: "stop", gateAfter: 2 }])
        yield* said(page, "first words")
        const other = yield* act(() => page.context().newPage())
        yield* act(() => other.goto(page.url()))
        yield* said(other, "first words")
        yield* act(() => other.getByRole("button", { name: "Stop" }).click())
        for (const tab of [page, other]) {
          yield* act(() => tab.locator(".ending.cancelled").waitFor())
          assert.deepStrictEqual(yield* answer(tab), ["first words"])
        }
        assert.deepStrictEqual(problems, [])
      }).pipe(Effect.scoped))

    it.effect("goes on where it was when the gateway is killed and started again in the middle of a turn", () =>
      Effect.gen(function*() {
        const { gateway, page, problems, serve } = yield* opened
        yield* send(page, [{ text: "first words and the rest", gate: "killed", gateAfter: 2 }])
        yield* said(page, "first words")
        yield* gateway.running.kill("SIGKILL")
        yield* gateway.running.finished
        yield* seen(page, "No connection to the gateway")
        yield* serve(new URL(gateway.url).port)
        yield* act(() => page.getByText("No connection to the gateway").waitFor({ state: "detached" }))
        yield* release("killed")
        yield* ended(page)
        assert.deepStrictEqual(yield* answer(page), ["first words and the rest"])
        assert.lengthOf(yield* act(() => page.locator(".turn").all()), 1)
        assert.deepStrictEqual(problems, [])
      }).pipe(Effect.scoped))
  })
})
