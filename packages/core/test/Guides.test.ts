/** What the guides promise to name. */
import { assert, it } from "@effect/vitest"
import { globSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../../../", import.meta.url))

/** The tags of the errors that a package can give. The command's own failure never leaves it. */
const tags = globSync("packages/*/src/**/*.ts", { cwd: root, exclude: ["packages/platform-node/src/cli/**"] })
  .flatMap((file) =>
    [...readFileSync(`${root}${file}`, "utf8").matchAll(/TaggedError<\w+>\(\)\("(\w+)"/g)].map(([, tag = ""]) => tag)
  )

it("docs/ERRORS.md names every error once, and no other", () => {
  const page = readFileSync(`${root}docs/ERRORS.md`, "utf8")
  const named = [...page.matchAll(/^\| `(\w+)` +\|/gm)].map(([, tag = ""]) => tag)
  assert.deepStrictEqual(named.toSorted(), tags.toSorted())
})
