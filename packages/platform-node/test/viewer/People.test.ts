import * as Listen from "#gateway/Listen"
import { assert, it } from "@effect/vitest"
import * as Gateway from "@opencode-turn/platform-node/gateway"
import { FakeOpencode, prompt } from "@opencode-turn/testing/FakeOpencode"
import type { Step } from "@opencode-turn/testing/ModelScript"
import { Effect, Layer } from "effect"
import type { Page } from "playwright-core"
import { describe } from "vitest"
import * as Browser from "../support/Browser.ts"
import { act } from "../support/Browser.ts"
import * as Gateways from "../support/Gateways.ts"

/** Every command asks. */
const input = () => ({ permission: [{ permission: "bash", pattern: "*", action: "ask" }] as const })

/** A page that is signed in. */
const opened = Effect.gen(function*() {
  const gateway = yield* Gateway.make({ token: Gateways.token, viewer: true, input })
  const port = yield* Effect.orDie(Listen.listen(gateway, { host: "127.0.0.1", port: 0 }))
  const { page, problems } = yield* Browser.newPage()
  const link = yield* gateway.makeLink
  yield* act(() => page.goto(`http://127.0.0.1:${port}${link}`))
  yield* act(() => page.getByLabel("Prompt", { exact: true }).waitFor())
  return { page, problems }
})

const send = (page: Page, text: string) =>
  act(async () => {
    await page.getByLabel("Prompt", { exact: true }).fill(text)
    await page.keyboard.press("Enter")
  })

const bash = (command: string): Step => ({ tool: "bash", args: { command, description: "Run it" } })

const call = (command: string) => ({ tool: "bash", args: { command, description: "Run it" } })

/** Shows why its subagent failed. */
const shows = (tab: Page) =>
  act(async () => {
    await tab.locator("details.subagent.error > summary").click()
    await tab.getByText("It failed: no <b>quota</b>").waitFor()
    await tab.locator("details.timeline > summary").click()
    await tab.locator(".lane-name .failure", { hasText: "failed: no <b>quota</b>" }).waitFor()
  })

describe.skipIf(Browser.whyNone !== undefined)(`the page in Chromium ${Browser.whyNone ?? ""}`, () => {
  it.layer(Layer.merge(Gateways.layer, Browser.layer), { excludeTestServices: true })(
    "for the person before it",
    (it) => {
      it.effect("takes a key that is held down for one answer", () =>
        Effect.gen(function*() {
          const { page, problems } = yield* opened
          yield* send(page, prompt("Do it.", [{ ...bash("echo one"), tools: [call("echo two")] }, { text: "Done." }]))
          yield* act(async () => {
            await page.locator(".ask").nth(1).waitFor()
            await page.locator(".ask button.primary").first().focus()
            await page.keyboard.down("y")
            await page.locator(".ask").nth(1).waitFor({ state: "detached" })
            // The next ask gets the focus, and none of its buttons: Enter and the blank allow nothing.
            await page.locator(".ask .decision:focus").waitFor()
            await page.keyboard.press("Enter")
            await page.keyboard.press("Space")
            // The browser repeats a key until it is let go.
            for (let times = 0; times < 5; times++) await page.keyboard.down("y")
            await page.keyboard.up("y")
            await page.keyboard.press("n")
            await page.locator(".ending.error").waitFor()
          })
          yield* act(() => page.locator(".banner.bad", { hasText: "Refused" }).waitFor())
          assert.deepStrictEqual(problems, [])
        }).pipe(Effect.scoped))

      it.effect("shows the whole command that it asks for, also what is behind empty lines or invisible", () =>
        Effect.gen(function*() {
          const { page, problems } = yield* opened
          const command = `echo ok${"\n".repeat(60)}; echo hidden-tail\u202E # tset nur\u200B`
          yield* send(page, prompt("Do it.", [bash(command), { text: "Done." }]))
          yield* Browser.shows(
            () => page.locator(".ask pre").innerText(),
            "echo ok\n⏎ 59 empty lines\n; echo hidden-tail<U+202E> # tset nur<U+200B>"
          )
          yield* Browser.shows(
            () => page.locator(".ask pre").evaluate((pre) => pre.scrollHeight <= pre.clientHeight + 1),
            true
          )
          yield* act(() => page.getByRole("button", { name: "Allow once" }).click())
          yield* act(() => page.locator(".ending.completed").waitFor())
          assert.deepStrictEqual(problems, [])
        }).pipe(Effect.scoped))

      it.effect("is led to what is asked by keys, and refuses with a reason by Enter", () =>
        Effect.gen(function*() {
          const { page, problems } = yield* opened
          yield* send(page, prompt("Do it.", [bash("echo one"), { text: "Done." }]))
          yield* act(async () => {
            await page.locator(".ask").waitFor()
            await page.getByLabel("Prompt", { exact: true }).focus()
            await page.keyboard.press("Escape")
            await page.keyboard.press("p")
            await page.locator(".ask .decision:focus").waitFor()
            await page.getByLabel("Reason for a refusal").fill("Not today.")
            await page.keyboard.press("Enter")
            await page.locator(".ending.completed").waitFor()
          })
          assert.deepStrictEqual(problems, [])
        }).pipe(Effect.scoped))

      it.effect("sends files with text of any kind as text, and pictures as they are", () =>
        Effect.gen(function*() {
          const { page, problems } = yield* opened
          const names = [
            "a.css",
            "a.csv",
            "a.html",
            "a.js",
            "a.json",
            "a.md",
            "a.svg",
            "a.ts",
            "a.xml",
            "a.yaml",
            "noname"
          ]
          const text = names.map((name) => ({
            name,
            mimeType: "text/x-of-the-browser",
            buffer: Buffer.from("<a>ü</a>")
          }))
          const png = Buffer.from(
            "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
            "base64"
          )
          yield* act(() =>
            page.getByLabel("Add files").setInputFiles([...text, { name: "a.png", mimeType: "image/png", buffer: png }])
          )
          const sent = yield* act(async () => {
            const request = page.waitForRequest((request) =>
              request.method() === "POST" && request.url().endsWith("/turns")
            )
            await page.getByRole("button", { name: "Send" }).click()
            return (await request).postDataJSON().prompt
          })
          assert.deepStrictEqual(
            sent.map((part: { readonly mediaType: string }) => part.mediaType),
            [...names.map(() => "text/plain"), "image/png"]
          )
          yield* act(() => page.locator(".turn").waitFor())
          assert.deepStrictEqual(problems, [])
        }).pipe(Effect.scoped))

      it.effect("is told that there is no room for a prompt, and takes it back", () =>
        Effect.gen(function*() {
          const { page, problems } = yield* opened
          yield* act(() =>
            page.route("**/conversations/*/turns", (route) =>
              route.request().method() === "POST"
                ? route.fulfill({
                  status: 429,
                  json: { _tag: "TooMany", message: "this client has 32 turns", advice: "cancel one" }
                })
                : route.continue())
          )
          yield* send(page, "Words that took an hour.")
          yield* act(async () => {
            await page.getByText("Not sent yet, this client has 32 turns: cancel one.").waitFor()
            await page.getByRole("button", { name: "Take it back" }).click()
            await page.getByText("Not sent yet").waitFor({ state: "detached" })
          })
          const field = page.getByLabel("Prompt", { exact: true })
          yield* Browser.shows(() => field.inputValue(), "Words that took an hour.")
          assert.isTrue(problems.every((problem) => problem.includes("429")))
        }).pipe(Effect.scoped))

      it.effect("is told the end of each turn, also of one behind which another was begun", () =>
        Effect.gen(function*() {
          const { page, problems } = yield* opened
          const fake = yield* FakeOpencode
          yield* send(page, prompt("First.", [{ text: "one two", gate: "first", gateAfter: 1 }]))
          yield* act(() => page.locator(".reply").getByText("one").waitFor())
          yield* send(page, prompt("Second.", [{ text: "three four", gate: "second", gateAfter: 1 }]))
          yield* act(() => page.getByText("queued behind another turn").waitFor())
          yield* fake.release("first")
          yield* act(() => page.getByRole("status").getByText("The turn is done: First.").waitFor())
          yield* fake.release("second")
          yield* act(() => page.getByRole("status").getByText("The turn is done: Second.").waitFor())
          assert.deepStrictEqual(problems, [])
        }).pipe(Effect.scoped))

      it.effect("gives a refused prompt back, also to a person who went elsewhere or loaded the page anew", () =>
        Effect.gen(function*() {
          const { page, problems } = yield* opened
          let answered = Promise.withResolvers<void>()
          yield* act(() =>
            page.route("**/conversations/*/turns", async (route) => {
              if (route.request().method() !== "POST") return route.continue()
              await answered.promise
              await route.fulfill({
                status: 422,
                json: { _tag: "Unprocessable", message: "no such model", advice: "choose another" }
              })
            })
          )
          const field = page.getByLabel("Prompt", { exact: true })
          yield* send(page, "Words that took an hour.")
          yield* act(async () => {
            await page.getByText("Sending…").waitFor()
            await page.getByRole("link", { name: "Inbox" }).click()
            await page.locator("h2", { hasText: "Inbox" }).waitFor()
            answered.resolve()
            await page.getByText("A prompt was not sent: no such model").waitFor()
            await page.getByRole("link", { name: "Back to it" }).click()
            await page.locator(".composer .problem", { hasText: "no such model" }).waitFor()
          })
          yield* Browser.shows(() => field.inputValue(), "Words that took an hour.")
          answered = Promise.withResolvers<void>()
          yield* act(async () => {
            const asked = page.waitForRequest((request) =>
              request.method() === "POST" && request.url().endsWith("/turns")
            )
            await page.keyboard.press("Enter")
            await asked
            await page.getByText("Sending…").waitFor()
            await page.reload()
            await page.getByText("Sending…").waitFor()
            answered.resolve()
            // The gateway had named a conversation before, in which the prompt was to be the first.
            await page.getByRole("link", { name: "Back to it" }).click()
            await page.locator(".composer .problem", { hasText: "no such model" }).waitFor()
          })
          yield* Browser.shows(() => field.inputValue(), "Words that took an hour.")
          assert.deepStrictEqual(problems, [])
        }).pipe(Effect.scoped))

      it.effect("shows why a subagent failed, in its place and in the timeline, also in a tab that is opened later", () =>
        Effect.gen(function*() {
          const { page, problems } = yield* opened
          const inside = prompt("Look.", [{ fail: 400, message: "no <b>quota</b>" }])
          const task = { tool: "task", args: { description: "Look around", prompt: inside, subagent_type: "general" } }
          yield* send(page, prompt("Do it.", [task, { text: "one two", gate: "end", gateAfter: 1 }]))
          yield* act(() => page.locator(".reply").getByText("one").waitFor())
          const fake = yield* FakeOpencode
          yield* shows(page)
          const during = yield* act(() => page.context().newPage())
          yield* act(() => during.goto(page.url()))
          yield* shows(during)
          yield* fake.release("end")
          yield* act(() => page.locator(".ending.completed").waitFor())
          yield* act(() => page.locator(".lane-name .failure").waitFor())
          const later = yield* act(() => page.context().newPage())
          yield* act(() => later.goto(page.url()))
          yield* shows(later)
          assert.deepStrictEqual(problems, [])
        }).pipe(Effect.scoped))

      it.effect("tells a tab that is opened meanwhile that the model is called again later", () =>
        Effect.gen(function*() {
          const { page, problems } = yield* opened
          yield* send(
            page,
            prompt("Do it.", [
              { fail: 503, message: "busy now", headers: { "retry-after-ms": "60000" } },
              { text: "Done." }
            ])
          )
          yield* act(() => page.locator(".reply").getByText("busy now").waitFor())
          const other = yield* act(() => page.context().newPage())
          yield* act(() => other.goto(page.url()))
          yield* act(() => other.locator(".reply").getByText("busy now").waitFor())
          yield* act(() => other.getByRole("button", { name: "Stop" }).click())
          yield* act(() => page.locator(".ending.cancelled").waitFor())
          assert.deepStrictEqual(problems, [])
        }).pipe(Effect.scoped))
    }
  )
})
