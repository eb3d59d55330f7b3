/** The fake OpenCode over HTTP, in a process of its own. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as FakeOpencode from "../../packages/testing/src/fake/FakeOpencode.ts"
import * as FakeServer from "../../packages/testing/src/fake/Server.ts"

await Effect.runPromise(
  Effect.gen(function*() {
    const { url } = yield* FakeServer.FakeServer
    yield* Effect.callback<void>((resume) => {
      process.once("disconnect", () => resume(Effect.void))
      process.on("message", (message) => {
        if (message === "count") process.send?.({})
      })
      process.send?.({ url })
    })
  }).pipe(Effect.provide(Layer.provide(FakeServer.layer(), FakeOpencode.layer())))
)
process.exit(0)
