/** OpenCode 2.x as its background service, which goes on by itself with what its end stopped. */
import { Effect, FileSystem } from "effect"

/** The password of every such server: it takes it from a file of its home alone. */
export const password = "the same for every start"

/** A command that starts it with this home. */
export const commandOf = Effect.fnUntraced(function*(command: string, home: string) {
  const fs = yield* FileSystem.FileSystem
  const config = `${home}/.config/opencode`
  yield* fs.makeDirectory(config, { recursive: true })
  yield* fs.writeFileString(`${config}/service.json`, JSON.stringify({ password }))
  const script = `${home}/service`
  yield* fs.writeFileString(script, `#!/bin/sh\nexec '${command}' "$@" --service\n`, { mode: 0o755 })
  return script
})
