/**
 * Runs before a package is packed: refuses npm and yarn, and removes what an earlier build left.
 *
 * Only pnpm puts the published exports and the versions of the workspace into a tarball's package.json. The script is JavaScript,
 * because any Node may start it.
 */
import { rmSync } from "node:fs"

if (process.env.npm_config_user_agent?.startsWith("pnpm/")) {
  rmSync("dist", { recursive: true, force: true })
} else {
  console.error("Use pnpm: `npx -y pnpm@12.21.0 release` publishes, `npx -y pnpm@12.21.0 tarballs` packs and tries the packages.")
  process.exitCode = 1
}
