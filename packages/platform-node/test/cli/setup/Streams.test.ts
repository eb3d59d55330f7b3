import { isSameTarget } from "#cli/setup/Streams"
import { assert, it } from "@effect/vitest"
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
