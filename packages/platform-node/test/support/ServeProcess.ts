/** `opencode-turn serve` as a process, with a database and a home of its own. */
import { Effect, FileSystem, Schema } from "effect"
import { type Options, Playground, type Running } from "./CliProcess.ts"

const Serving = Schema.fromJsonString(
  Schema.Struct({ type: Schema.Literal("serving"), url: Schema.String, link: Schema.String })
)

/** A place for gateways, one after the other or side by side. */
export const place = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const playground = yield* Playground
  const home = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-serve-" })
  const env = { OPENCODE_TURN_DATABASE: `${home}/turns.db`, HOME: home }
  const tokenFile = `${home}/.local/share/opencode-turn/gateway-token`
  const serve = Effect.fnUntraced(function*(port = "0", options: Options = {}) {
    const running: Running = yield* playground.start(["serve", "--port", port, "--json"], {
      ...options,
      env: { ...env, ...options.env }
    })
    yield* running.printed("}\n")
    const { link, url } = yield* Schema.decodeEffect(Serving)(yield* running.stdout)
    const token = (yield* fs.readFileString(tokenFile)).trim()
    return { running, url, link, token }
  })
  return { serve, tokenFile, home, env }
})
