import * as Listen from "#gateway/Listen"
import { assert, it } from "@effect/vitest"
import * as Gateway from "@opencode-turn/platform-node/gateway"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import type { Step } from "@opencode-turn/testing/ModelScript"
import { Effect, Layer } from "effect"
import { describe } from "vitest"
import * as Browser from "../support/Browser.ts"
import * as Gateways from "../support/Gateways.ts"

const act = <A>(f: () => Promise<A>) => Effect.promise(f)

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
        assert.deepStrictEqual(yield* act(() => page.locator(".reply .markdown").allInnerTexts()), [
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
        assert.deepStrictEqual(yield* act(() => shown.allInnerTexts()), ["Hello from the"])
        yield* fake.release("again")
        yield* act(() => page.locator(".ending.completed").waitFor())
        assert.deepStrictEqual(yield* act(() => page.locator(".reply .markdown").allInnerTexts()), [
          "Hello from the second one"
        ])
        assert.deepStrictEqual(problems, [])
      }).pipe(Effect.scoped))
  })
})
