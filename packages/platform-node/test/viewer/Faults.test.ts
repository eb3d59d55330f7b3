import * as Listen from "#gateway/Listen"
import { assert, it } from "@effect/vitest"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import * as Gateway from "@opencode-turn/platform-node/gateway"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import type { Step } from "@opencode-turn/testing/ModelScript"
import { Effect, Fiber, Layer } from "effect"
import { describe } from "vitest"
import * as Browser from "../support/Browser.ts"
import { act } from "../support/Browser.ts"
import * as Gateways from "../support/Gateways.ts"

/** A page with a turn that stands in the middle of its answer. */
const halfway = Effect.fnUntraced(function*(gate: string, ...more: ReadonlyArray<Step>) {
  const fake = yield* FakeOpencode
  const gateway = yield* Gateway.make({ token: Gateways.token, viewer: true })
  const port = yield* Effect.orDie(Listen.listen(gateway, { host: "127.0.0.1", port: 0 }))
  const { page, problems } = yield* Browser.newPage()
  yield* act(async () => page.goto(`http://127.0.0.1:${port}${await Effect.runPromise(gateway.makeLink)}`))
  yield* fake.script([
    { text: "Hello from the first one", gate, gateAfter: 2, ...(more.length > 0 && { ending: "hang" }) },
    ...more
  ])
  yield* act(() => page.getByLabel("Prompt", { exact: true }).fill("Say hello."))
  yield* act(() => page.keyboard.press("Enter"))
  yield* act(() => page.locator(".reply .markdown", { hasText: "Hello from" }).waitFor())
  return { page, problems, fake }
})

describe.skipIf(Browser.whyNone !== undefined)(`the page in Chromium ${Browser.whyNone ?? ""}`, () => {
  it.layer(Layer.merge(Gateways.layer, Browser.layer), { excludeTestServices: true })("when OpenCode fails", (it) => {
    it.effect("replaces what it showed when the session is lost in the middle of the answer", () =>
      Effect.gen(function*() {
        const { fake, page, problems } = yield* halfway("lost")
        yield* fake.script([{ text: "Hello from the second one" }])
        yield* Effect.flatMap(fake.sessions, (all) => Effect.forEach(all, fake.deleteSession, { discard: true }))
        yield* act(() => page.locator(".ending.completed").waitFor())
        yield* Browser.shows(() => page.locator(".reply .markdown").allInnerTexts(), [
          "Hello from the second one"
        ])
        assert.deepStrictEqual(problems, [])
      }).pipe(Effect.scoped))

    it.effect("keeps what it showed when OpenCode restarts, and shows the answer once", () =>
      Effect.gen(function*() {
        const { fake, page, problems } = yield* halfway("killed", {
          text: "Hello from the second one",
          gate: "again",
          gateAfter: 3
        })
        yield* fake.restart
        yield* fake.reached("again")
        const shown = page.locator(".reply .markdown")
        yield* act(() => shown.filter({ hasText: "Hello from the" }).waitFor())
        yield* Browser.shows(() => shown.allInnerTexts(), ["Hello from the"])
        yield* fake.release("again")
        yield* act(() => page.locator(".ending.completed").waitFor())
        yield* Browser.shows(() => page.locator(".reply .markdown").allInnerTexts(), [
          "Hello from the second one"
        ])
        assert.deepStrictEqual(problems, [])
      }).pipe(Effect.scoped))

    it.effect("shows what came while the machine slept, with a connection that is alive afterwards and with one that is dead", () =>
      Effect.gen(function*() {
        for (const isDead of [false, true]) {
          const { fake, page, problems } = yield* halfway(`slept ${isDead}`)
          const store = yield* SessionStore
          const devtools = yield* act(() => page.context().newCDPSession(page))
          const [turn] = yield* store.listByStatus({ status: "pending", limit: 1 })
          assert(turn !== undefined)
          yield* act(() => devtools.send("Page.setWebLifecycleState", { state: "frozen" }))
          if (isDead) yield* act(() => page.context().setOffline(true))
          yield* fake.release(`slept ${isDead}`)
          yield* store.untilState(turn.id, (state) => state?.status === "completed")
          // The page runs nothing while it is frozen.
          yield* act(() => devtools.send("Page.setWebLifecycleState", { state: "active" }))
          if (isDead) {
            yield* act(() => page.getByText("No connection to the gateway").waitFor())
            yield* act(() => page.context().setOffline(false))
          }
          yield* act(() => page.locator(".ending.completed").waitFor())
          yield* act(() => page.getByText("No connection to the gateway").waitFor({ state: "detached" }))
          yield* Browser.shows(() => page.locator(".reply .markdown").allInnerTexts(), [
            "Hello from the first one"
          ])
          yield* Browser.shows(() => page.locator(".turn").count(), 1)
          assert.deepStrictEqual(problems, [])
        }
      }).pipe(Effect.scoped))

    it.effect("gives up a connection that brought nothing for longer than the gateway is ever silent, and goes on where it was", () =>
      Effect.gen(function*() {
        const gateway = yield* Gateway.make({ token: Gateways.token, viewer: true })
        const port = yield* Effect.orDie(Listen.listen(gateway, { host: "127.0.0.1", port: 0 }))
        const { page, problems } = yield* Browser.newPage()
        const link = yield* gateway.makeLink
        const fake = yield* FakeOpencode
        yield* act(() => page.clock.install())
        // The page gets the first stream through a hole: what comes later never arrives, as on a machine that slept.
        yield* act(() =>
          page.addInitScript(`
            const own = window.fetch
            let isFirst = true
            window.fetch = async (url, options) => {
              const response = await own(url, options)
              if (!String(url).endsWith("/updates") || !isFirst) return response
              isFirst = false
              const reader = response.body.getReader()
              let isHeld = false
              window.hold = () => { isHeld = true }
              return new Response(new ReadableStream({
                pull: async (controller) => {
                  const { value } = await reader.read()
                  if (!isHeld) return controller.enqueue(value)
                  await new Promise((_, reject) => options.signal.addEventListener("abort", () => reject(options.signal.reason)))
                }
              }), { status: response.status, headers: response.headers })
            }
          `)
        )
        yield* act(() => page.goto(`http://127.0.0.1:${port}${link}`))
        yield* fake.script([{ text: "Hello from the first one", gate: "silent", gateAfter: 2 }])
        yield* act(async () => {
          await page.getByLabel("Prompt", { exact: true }).fill("Say hello.")
          await page.keyboard.press("Enter")
          await page.locator(".reply .markdown", { hasText: "Hello from" }).waitFor()
          await page.evaluate("window.hold()")
        })
        yield* fake.release("silent")
        const again = act(() =>
          page.waitForRequest((request) =>
            request.url().endsWith("/updates") && request.headers()["last-event-id"] !== undefined
          )
        )
        const asked = yield* Effect.forkChild(again, { startImmediately: true })
        yield* act(() => page.clock.fastForward(45_000))
        yield* act(() => page.clock.runFor(10_000))
        yield* Fiber.join(asked)
        yield* act(() => page.locator(".ending.completed").waitFor())
        yield* Browser.shows(() => page.locator(".reply .markdown").allInnerTexts(), [
          "Hello from the first one"
        ])
        assert.deepStrictEqual(problems, [])
      }).pipe(Effect.scoped))
  })
})
