/**
 * Builds the page into `dist/viewer`, which the package ships.
 *
 * `--if-stale` builds only where the sources changed since; `--check` only says whether they did.
 */
import { createHash } from "node:crypto"
import { globSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"

const folder = import.meta.dirname
const stamp = join(folder, "../dist/viewer/sources.sha256")

/** The digest of all that the build reads: the sources, and the versions of the libraries. */
const digest = (): string => {
  const hash = createHash("sha256")
  for (const file of ["../package.json", "../../../pnpm-lock.yaml", ...globSync("**/*.*", { cwd: folder }).sort()]) {
    hash.update(file).update("\0").update(readFileSync(join(folder, file))).update("\0")
  }
  return hash.digest("hex")
}

/** Whether what is built is of these sources. */
export const isFresh = (): boolean => {
  try {
    return readFileSync(stamp, "utf8") === digest()
  } catch {
    return false
  }
}

/** Builds the page. */
export const build = async (): Promise<void> => {
  // Loaded on demand: most starts find a page that is fresh.
  const vite = await import("vite")
  await vite.build({ configFile: join(folder, "vite.config.ts") })
  writeFileSync(stamp, digest())
}

if (import.meta.main) {
  const flags = process.argv.slice(2)
  if (flags.includes("--check")) {
    if (!isFresh()) {
      console.error("the viewer is not built of its sources: run `pnpm build`")
      process.exitCode = 1
    }
  } else if (!flags.includes("--if-stale") || !isFresh()) await build()
}
