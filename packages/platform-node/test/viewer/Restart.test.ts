import * as Listen from "#gateway/Listen"
import { assert, it } from "@effect/vitest"
import * as Gateway from "@opencode-turn/platform-node/gateway"
import { LiveLayer } from "@opencode-turn/platform-node/LiveLayer"
import * as OpencodeServer from "@opencode-turn/platform-node/OpencodeServer"
import { prompt, ScriptedModel } from "@opencode-turn/testing/ScriptedModel"
import { Effect, Layer, Redacted } from "effect"
import { describe } from "vitest"
import * as Browser from "../support/Browser.ts"
import { act } from "../support/Browser.ts"
import * as Gateways from "../support/Gateways.ts"
import * as RealServer from "../support/RealServer.ts"

const password = Redacted.make("the same after the restart")

describe.skipIf(Browser.whyNone !== undefined)(`the page in Chromium ${Browser.whyNone ?? ""}`, () => {
  const layer = Layer.merge(RealServer.layerWithoutServer, Browser.layer)
  it.layer(layer, { excludeTestServices: true })("when a real OpenCode is killed in the middle of a turn", (it) => {
    it.effect("says that OpenCode does not answer, and shows the whole answer once when it is back", () =>
      Effect.gen(function*() {
        const model = yield* ScriptedModel
        const { directory, options } = yield* RealServer.Workplace
        const first = yield* OpencodeServer.make({ ...options, password })
        const port = Number(new URL(first.url).port)
        const live = yield* Layer.build(
          LiveLayer.make({ baseUrl: first.url, password, directory, database: "memory" })
        )
        const gateway = yield* Effect.provide(Gateway.make({ token: Gateways.token, viewer: true }), live)
        const at = yield* Effect.orDie(Listen.listen(gateway, { host: "127.0.0.1", port: 0 }))
        const { page, problems } = yield* Browser.newPage()
        yield* act(() => page.clock.install())
        yield* act(async () => page.goto(`http://127.0.0.1:${at}${await Effect.runPromise(gateway.makeLink)}`))
        yield* act(() =>
          page.getByLabel("Prompt", { exact: true }).fill(prompt("Do it.", [
            { text: "half of an answer", gate: "killed", gateAfter: 2, ending: "hang" },
            { text: "half of an answer is whole.", gate: "again", gateAfter: 3 }
          ]))
        )
        yield* act(() => page.keyboard.press("Enter"))
        const shown = page.locator(".reply .markdown")
        yield* act(() => shown.filter({ hasText: "half of" }).waitFor())
        yield* first.kill
        yield* Browser.hurried(page, act(() => page.getByText("OpenCode does not answer").waitFor()))
        yield* Browser.shows(() => shown.allInnerTexts(), ["half of"])
        yield* OpencodeServer.make({ ...options, port, password })
        yield* model.reached("again")
        yield* act(() => shown.filter({ hasText: "half of an" }).waitFor())
        // The server died before it stored a word of the first try.
        yield* Browser.shows(() => shown.allInnerTexts(), ["half of an"])
        yield* model.release("again")
        yield* act(() => page.locator(".ending.completed").waitFor())
        yield* Browser.shows(() => shown.allInnerTexts(), ["half of an answer is whole."])
        yield* Browser.hurried(page, act(() => page.locator(".connection.good").waitFor()))
        assert.strictEqual(yield* model.modelCalls, 2)
        assert.deepStrictEqual(problems, [])
        yield* model.release("killed")
      }).pipe(Effect.scoped))
  })
})
