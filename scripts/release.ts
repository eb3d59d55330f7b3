/**
 * Releases the packages. By default it only shows what would happen; `--publish` does it.
 *
 * A release has two commits: `pnpm changeset version` writes the versions and the changelogs, which are then committed; this script
 * tries the tarballs and publishes what the registry does not have yet, with provenance.
 */
import { execFileSync } from "node:child_process"
import { globSync } from "node:fs"
import { join } from "node:path"

const root = join(import.meta.dirname, "..")
const run = (...args: ReadonlyArray<string>) => {
  console.log(`$ pnpm ${args.join(" ")}`)
  execFileSync("pnpm", args, { cwd: root, stdio: "inherit" })
}

const isReal = process.argv.slice(2).includes("--publish")
const pending = globSync(".changeset/*.md", { cwd: root }).filter((file) => !file.endsWith("README.md"))
if (pending.length > 0) {
  console.log(`${pending.length} changesets wait: \`pnpm changeset version\` turns them into versions and changelogs.`)
}
if (isReal && pending.length > 0) {
  console.error("Nothing is published before they are versions: commit those first.")
  process.exit(1)
}
run("tarballs")
run(
  "--recursive",
  "--workspace-concurrency=1",
  "--filter",
  "./packages/*",
  "publish",
  "--access=public",
  ...(isReal ? ["--provenance"] : ["--dry-run", "--no-git-checks"])
)
console.log(isReal ? "published" : "a dry run: add --publish to publish")
