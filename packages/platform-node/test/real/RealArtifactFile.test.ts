/**
 * What an agent made on a real OpenCode is read back from the disk, and nothing else.
 */
import { assert } from "@effect/vitest"
import { runTurn } from "@opencode-turn/core"
import * as ArtifactFile from "@opencode-turn/core/ArtifactFile"
import { Effect, FileSystem } from "effect"
import { onBothLines } from "../support/BothLines.ts"
import * as RealServer from "../support/RealServer.ts"
import { base } from "../support/RealTurns.ts"

onBothLines("files of a turn", { layerOf: RealServer.onLine() }, (it, tools) => {
  it.effect("are read back with their media types", () =>
    Effect.gen(function*() {
      const { directory } = yield* RealServer.Workplace
      const write = (name: string, content: string) => tools.write(`${directory}/${name}`, content)
      const { artifacts, error } = yield* runTurn(base([
        write("page.html", "<p>Hi.</p>"),
        write("src/a.ts", "export {}"),
        { text: "Done." }
      ]))
      assert.isUndefined(error, error?.message)
      const files = yield* Effect.forEach(artifacts.files, ({ path }) => ArtifactFile.read(directory, path))
      assert.deepStrictEqual(
        files.map(({ bytes, mediaType, path }) => [path, mediaType, new TextDecoder().decode(bytes)]),
        [["page.html", "text/html", "<p>Hi.</p>"], ["src/a.ts", "text/plain", "export {}"]]
      )
    }))

  it.effect("are not read through links out of the folder, nor without a bound", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const { directory } = yield* RealServer.Workplace
      yield* fs.writeFileString(`${directory}/../secret.txt`, "secret")
      const command = "ln -s ../secret.txt link; ln -s .. up; ln -s inner.txt own; echo inner > inner.txt; mkfifo pipe"
      const { error } = yield* runTurn(base([
        tools.shell(command),
        { text: "Done." }
      ]))
      assert.isUndefined(error, error?.message)
      for (
        const path of [
          "link",
          "up/secret.txt",
          "../secret.txt",
          `${directory}/../secret.txt`,
          "/etc/passwd",
          ".",
          "pipe"
        ]
      ) {
        const refused = yield* Effect.flip(ArtifactFile.read(directory, path))
        assert.strictEqual(refused._tag, "InvalidInput", path)
        assert.notInclude(refused.message, "has 6 bytes")
      }
      const { bytes } = yield* ArtifactFile.read(directory, "own")
      assert.strictEqual(new TextDecoder().decode(bytes), "inner\n")
      const bounded = yield* Effect.flip(ArtifactFile.read(directory, "inner.txt", { maxBytes: 5 }))
      assert.include(bounded.message, "the limit is 5 bytes")
    }))
})
