import { fromStreams, isSameTarget } from "#cli/setup/Streams"
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { closeSync, mkdtempSync, openSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

it("knows two descriptors of one file, and takes a closed one for nothing", () => {
  const folder = mkdtempSync(join(tmpdir(), "opencode-turn-output-"))
  const [one, same, other] = ["a", "a", "b"].map((name) => openSync(join(folder, name), "a"))
  assert(one !== undefined && same !== undefined && other !== undefined)
  assert.isTrue(isSameTarget(one, same))
  assert.isFalse(isSameTarget(one, other))
  closeSync(same)
  assert.isFalse(isSameTarget(one, same))
  closeSync(one)
  closeSync(other)
  rmSync(folder, { recursive: true })
})

it.effect("holds lines that belong to no turn back while somebody streams, and then writes them in their order", () =>
  Effect.gen(function*() {
    let screen = ""
    const stream = (fd: number) => ({
      fd,
      write: (text: string, written: () => void) => {
        screen += text
        written()
      }
    })
    const { answer, aside, holdAsides } = fromStreams(stream(-1), stream(-2))
    yield* aside("before\n")
    yield* Effect.scoped(Effect.gen(function*() {
      yield* holdAsides
      yield* answer("All is ")
      yield* aside("one\n")
      yield* Effect.scoped(holdAsides)
      yield* aside("two\n")
      yield* answer("well.\n")
    }))
    yield* aside("after\n")
    assert.strictEqual(screen, "before\nAll is well.\none\ntwo\nafter\n")
  }))
