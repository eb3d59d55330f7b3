import * as Listen from "#gateway/Listen"
import { assert, it } from "@effect/vitest"
import * as Gateway from "@opencode-turn/platform-node/gateway"
import { FakeOpencode, prompt } from "@opencode-turn/testing/FakeOpencode"
import * as Faults from "@opencode-turn/testing/Faults"
import type { Step } from "@opencode-turn/testing/ModelScript"
import { Effect, Layer } from "effect"
import type { Page } from "playwright-core"
import { describe } from "vitest"
import * as Browser from "../support/Browser.ts"
import * as Gateways from "../support/Gateways.ts"

const act = <A>(f: () => Promise<A>) => Effect.promise(f)

const opened = Effect.gen(function*() {
  const gateway = yield* Gateway.make({ token: Gateways.token, viewer: true })
  const port = yield* Effect.orDie(Listen.listen(gateway, { host: "127.0.0.1", port: 0 }))
  const { page, problems } = yield* Browser.newPage()
  const link = yield* gateway.makeLink
  yield* act(() => page.goto(`http://127.0.0.1:${port}${link}`))
  yield* act(() => page.getByLabel("Prompt", { exact: true }).waitFor())
  return { page, problems }
})

/** Has a turn run to its end. `n` is how many turns there are then. */
const say = (page: Page, n: number, words: string, steps: ReadonlyArray<Step>) =>
  act(async () => {
    await page.getByLabel("Prompt", { exact: true }).fill(prompt(words, steps))
    await page.keyboard.press("Enter")
    await page.locator(".ending.completed").nth(n - 1).waitFor()
  })

const write: Step = { tool: "write", args: { filePath: "notes.txt", content: "one" } }

describe.skipIf(Browser.whyNone !== undefined)(`a conversation in the page ${Browser.whyNone ?? ""}`, () => {
  it.layer(Layer.merge(Gateways.layer, Browser.layer), { excludeTestServices: true })("of a person", (it) => {
    it.effect("is forked at a turn, and the fork leads back", () =>
      Effect.gen(function*() {
        const { page, problems } = yield* opened
        yield* say(page, 1, "First.", [{ text: "One." }])
        yield* say(page, 2, "Second.", [{ text: "Two." }])
        const source = page.url()
        yield* act(async () => {
          await page.locator(".turn").first().getByRole("button", { name: "Fork from here" }).press("Enter")
          await page.getByRole("link", { name: "Open the fork" }).click()
          await page.getByText("This conversation is a fork").waitFor()
        })
        assert.notStrictEqual(page.url(), source)
        yield* say(page, 2, "Third.", [{ text: "Three." }])
        yield* act(async () => {
          await page.getByRole("link", { name: "Open what it was forked from" }).click()
          await page.locator(".reply").getByText("Two.").waitFor()
        })
        assert.strictEqual(page.url(), source)
        assert.deepStrictEqual(problems, [])
      }).pipe(Effect.scoped))

    it.effect("loses turns that a person takes back and confirms, and gets them back, in all tabs", () =>
      Effect.gen(function*() {
        const { page, problems } = yield* opened
        yield* say(page, 1, "First.", [{ text: "One." }])
        yield* say(page, 2, "Second.", [write, { text: "Two." }])
        yield* say(page, 3, "Third.", [{ text: "Three." }])
        const other = yield* act(() => page.context().newPage())
        yield* act(() => other.goto(page.url()))
        yield* act(() => other.locator(".ending.completed").nth(2).waitFor())
        const takeBack = page.locator(".turn").nth(1).getByRole("button", { name: "Take back…" })
        const dialog = page.getByRole("dialog", { name: "Take back 2 turns?" })
        // A closed dialog has no role any more, a moment before the page takes it away.
        const gone = () => page.locator("dialog").waitFor({ state: "detached" })
        yield* act(async () => {
          await takeBack.press("Enter")
          await dialog.getByText("The agent forgets this turn and the one after it.").waitFor()
          await dialog.getByText("notes.txt").waitFor()
          // Keys of the page do nothing in front of it, and Escape and Enter keep the turns.
          await page.keyboard.press("c")
          await page.keyboard.press("Escape")
          await gone()
          await takeBack.and(page.locator(":focus")).waitFor()
          await page.keyboard.press("Enter")
          await dialog.waitFor()
          await page.keyboard.press("Enter")
          await gone()
        })
        assert.strictEqual(yield* act(() => page.locator(".turn.reverted").count()), 0)
        yield* act(async () => {
          await takeBack.click()
          await dialog.getByRole("button", { name: "Take back" }).click()
          for (const tab of [page, other]) {
            await tab.getByText("Turns were taken back.", { exact: true }).locator("visible=true").first().waitFor()
            await tab.locator(".turn.reverted").nth(1).waitFor()
          }
        })
        assert.strictEqual(yield* act(() => page.locator(".turn.reverted").count()), 2)
        yield* act(() => page.locator(".side .excerpt", { hasText: "Turns taken back" }).waitFor())
        // What the agent still knows can be summarised.
        yield* act(() => page.locator(".turn").first().getByRole("button", { name: "Summarise" }).waitFor())
        yield* act(async () => {
          await page.getByRole("button", { name: "Bring the turns back" }).click()
          for (const tab of [page, other]) {
            await tab.locator(".turn.reverted").first().waitFor({ state: "detached" })
            await tab.locator(".operation", { hasText: "are here again" }).waitFor()
          }
          await page.getByRole("button", { name: "Bring the turns back" }).waitFor({ state: "detached" })
        })
        assert.deepStrictEqual(problems, [])
      }).pipe(Effect.scoped))

    it.effect("shows what was taken back, and brought back, also where the page saw it begin", () =>
      Effect.gen(function*() {
        const { page, problems } = yield* opened
        const fake = yield* FakeOpencode
        yield* say(page, 1, "First.", [{ text: "One." }])
        const other = yield* act(() => page.context().newPage())
        yield* act(() => other.goto(page.url()))
        yield* act(() => other.locator(".ending.completed").waitFor())
        for (
          const { button, doing, route, state } of [
            { button: "Take back", doing: "Taking turns back.", route: "revert", state: "visible" },
            { button: "Bring the turns back", doing: "Bringing turns back.", route: "unrevert", state: "detached" }
          ] as const
        ) {
          yield* fake.fail({ path: new RegExp(`/${route}$`) }, Faults.holdAt(route))
          if (route === "revert") yield* act(() => page.getByRole("button", { name: "Take back…" }).click())
          yield* act(() => page.getByRole("button", { name: button, exact: true }).click())
          yield* fake.reached(route)
          for (const tab of [page, other]) {
            // Each page looks again every few seconds, and at once where somebody comes back to it.
            yield* act(() => tab.evaluate("document.dispatchEvent(new Event('visibilitychange'))"))
            yield* act(() => tab.locator(".operation", { hasText: doing }).waitFor())
          }
          yield* fake.release(route)
          for (const tab of [page, other]) yield* act(() => tab.locator(".turn.reverted").waitFor({ state }))
        }
        assert.deepStrictEqual(problems, [])
      }).pipe(Effect.scoped))

    it.effect("is summarised as a turn runs, and shows the summary", () =>
      Effect.gen(function*() {
        const { page, problems } = yield* opened
        yield* say(page, 1, "First.", [{ text: "One." }])
        yield* act(async () => {
          await page.getByRole("button", { name: "Summarise" }).click()
          await page.getByText("A summary takes the place of what was said before.").waitFor()
          await page.locator("details.summary > summary").click()
          await page.getByText("Scripted summary").waitFor()
        })
        assert.deepStrictEqual(problems, [])
      }).pipe(Effect.scoped))

    it.effect("says in words what the server does not support or refuses, and takes nothing back while a turn runs", () =>
      Effect.gen(function*() {
        const { page, problems } = yield* opened
        const fake = yield* FakeOpencode
        yield* say(page, 1, "First.", [{ text: "One." }])
        const advice = "change the request as the message says"
        yield* act(() =>
          page.route(
            /\/(?:fork|revert|compact)$/,
            (route) =>
              route.fulfill({
                status: 422,
                json: { _tag: "Unprocessable", message: "OpenCode 2.x has no such thing", advice }
              })
          )
        )
        yield* act(async () => {
          for (const name of ["Fork from here", "Summarise", "Take back…"]) {
            await page.getByRole("button", { name }).click()
            if (name === "Take back…") await page.getByRole("dialog").getByRole("button", { name: "Take back" }).click()
            await page.getByRole("alert").getByText("OpenCode 2.x has no such thing").waitFor()
            await page.getByRole("button", { name, disabled: false }).waitFor()
          }
          await page.getByLabel("Prompt", { exact: true }).fill(
            prompt("Go.", [{ text: "a b", gate: "go", gateAfter: 1 }])
          )
          await page.keyboard.press("Enter")
          await page.getByRole("button", { name: "Take back…", disabled: true }).waitFor()
        })
        yield* fake.release("go")
        yield* act(() => page.getByRole("button", { name: "Take back…", disabled: false }).nth(1).waitFor())
        assert.deepStrictEqual(problems, [])
      }).pipe(Effect.scoped))
  })
})
