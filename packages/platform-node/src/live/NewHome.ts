/**
 * Prepares the home of an OpenCode server that does not use the user's.
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"

/**
 * Makes a new home say that it has the package which plugins import. Otherwise OpenCode (1.18.33) fetches it from the registry in the
 * background: 36 MB and 4 s of a processor at the first start in each home, for plugins that a new home does not have.
 */
export const prepare = Effect.fnUntraced(function*(home: string) {
  const fs = yield* FileSystem.FileSystem
  const directory = `${home}/.config/opencode`
  if (yield* fs.exists(directory)) return
  yield* fs.makeDirectory(`${directory}/node_modules`, { recursive: true })
  const root = { dependencies: { "@opencode-ai/plugin": "*" } }
  yield* fs.writeFileString(`${directory}/package-lock.json`, JSON.stringify({ packages: { "": root } }))
})
