// The API reference: every path that the packages export. typedoc has a compiler of its own here, because it cannot use TypeScript 7.
import { readFileSync } from "node:fs"

const folder = (name) => new URL(`../../packages/${name}/`, import.meta.url)
const entryPoints = ["core", "platform-node", "testing"].flatMap((name) =>
  Object.values(JSON.parse(readFileSync(new URL("package.json", folder(name)), "utf8")).exports)
    .filter((path) => path.endsWith(".ts"))
    .map((path) => new URL(path, folder(name)).pathname)
)

export default {
  name: "opencode-turn",
  entryPoints,
  tsconfig: "tsconfig.json",
  basePath: "../../packages",
  displayBasePath: "../../packages",
  readme: "../../README.md",
  // `pnpm check` does that, with the compiler of the project.
  skipErrorChecking: true,
  excludeExternals: true,
  disableGit: true,
  sourceLinkTemplate: "https://git.example.com/opencode-turn/opencode-turn/blob/main/packages/{path}#L{line}",
  blockTags: ["@example", "@category", "@since", "@see", "@param", "@returns"],
  // A link that leads nowhere fails; scripts/checkDocs.ts finds what has no comment.
  validation: { invalidLink: true, notExported: false, rewrittenLink: false, invalidPath: false },
  treatWarningsAsErrors: true
}
