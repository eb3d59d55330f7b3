/**
 * One real OpenCode for the tests of this package that need none of their own: a start takes seconds. Each folder brings the
 * settings of its own scripted model along (`SharedOpencode.ts`).
 */
import { NodeHttpClient, NodeServices } from "@effect/platform-node"
import * as OpencodeServer from "@opencode-turn/platform-node/OpencodeServer"
import * as ScriptedProvider from "@opencode-turn/testing/ScriptedProvider"
import { Effect, Exit, FileSystem, Layer, Redacted, Scope } from "effect"
import type { TestProject } from "vitest/node"

/** The server, or why there is none. */
export type SharedOpencode =
  | { readonly url: string; readonly password: string; readonly pid: number }
  | { readonly failure: string }

declare module "vitest" {
  interface ProvidedContext {
    readonly opencode: SharedOpencode
  }
}

export default async (project: TestProject) => {
  const scope = Scope.makeUnsafe()
  const shared = await Effect.runPromise(
    start.pipe(
      Effect.catch((error) => Effect.succeed({ failure: error.message })),
      Scope.provide(scope)
    )
  )
  project.provide("opencode", shared)
  return () => Effect.runPromise(Scope.close(scope, Exit.void))
}

const start = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const home = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-shared-" })
  const { OPENCODE_DISABLE_PROJECT_CONFIG: _, ...environment } = ScriptedProvider.environment({})
  const { password, pid, url } = yield* OpencodeServer.make({ home, directory: home, environment })
  return { url, password: Redacted.value(password), pid }
}).pipe(Effect.provide(Layer.mergeAll(NodeServices.layer, NodeHttpClient.layerUndici)))
