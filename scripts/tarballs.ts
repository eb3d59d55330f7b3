/**
 * Tries the packages as users get them: packs the three, looks at the tarballs, installs them into a project of npm's outside of the
 * workspace, type-checks the README's programs there, runs a turn against a real OpenCode, the command and its demo.
 */
import { execFileSync, spawnSync } from "node:child_process"
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { createRequire } from "node:module"
import { tmpdir } from "node:os"
import { basename, dirname, join } from "node:path"

const root = join(import.meta.dirname, "..")
const folder = mkdtempSync(join(tmpdir(), "opencode-turn-tarballs-"))
const project = join(folder, "project")

const run = (
  command: string,
  args: ReadonlyArray<string>,
  options: { cwd?: string; env?: Record<string, string> } = {}
) => {
  console.log(`$ ${[command, ...args].join(" ")}`)
  return execFileSync(command, args, {
    cwd: options.cwd ?? root,
    env: { ...process.env, ...options.env },
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"]
  })
}

/** What a command says that has to fail. */
const failure = (command: string, args: ReadonlyArray<string>): string => {
  const { status, stderr } = spawnSync(command, args, { cwd: project, encoding: "utf8" })
  if (status === 0) throw new Error(`${[command, ...args].join(" ")} did not fail`)
  return stderr
}

const expect = (text: string, part: string) => {
  if (!text.includes(part)) throw new Error(`expected ${JSON.stringify(part)} in:\n${text}`)
}

/** The version that this repository tests with, of a package that a user installs beside ours. */
const versionOf = (name: string): string =>
  `${name}@${JSON.parse(readFileSync(join(root, "node_modules", name, "package.json"), "utf8")).version}`

const pack = (): ReadonlyArray<string> => {
  run("pnpm", ["packages", folder])
  const tarballs = readdirSync(folder).filter((name) => name.endsWith(".tgz")).map((name) => join(folder, name))
  for (const tarball of tarballs) {
    run("pnpm", ["exec", "publint", "run", tarball, "--strict"])
    run("pnpm", ["exec", "attw", tarball, "--profile", "esm-only", "--no-emoji"])
  }
  return tarballs
}

/** The TypeScript programs of the READMEs, each a module of its own. */
const programs = (): ReadonlyArray<readonly [name: string, code: string]> =>
  ["", "packages/core", "packages/platform-node", "packages/testing"].flatMap((folder) =>
    [...readFileSync(join(root, folder, "README.md"), "utf8").matchAll(/^```ts\n(.*?)^```/gms)].map((
      [, code = ""],
      index
    ) => [`${basename(folder) || "root"}-${index + 1}.ts`, code] as const)
  )

/** Compiler options that users have. */
const settings = ["NodeNext", "Bundler"].flatMap((moduleResolution) =>
  [true, false].map((exactOptionalPropertyTypes) => ({
    module: moduleResolution === "NodeNext" ? "NodeNext" : "ESNext",
    moduleResolution,
    exactOptionalPropertyTypes,
    target: "ES2022",
    lib: ["ES2024", "DOM", "ESNext.Disposable"],
    types: ["node"],
    strict: true,
    noEmit: true,
    skipLibCheck: false,
    allowImportingTsExtensions: true
  }))
)

try {
  const tarballs = pack()
  mkdirSync(project)
  writeFileSync(join(project, "package.json"), JSON.stringify({ name: "user", private: true, type: "module" }))
  const others = ["effect", "@effect/platform-node", "typescript", "@types/node"].map(versionOf)
  run("npm", ["install", "--no-audit", "--no-fund", "--loglevel=error", ...tarballs, ...others], { cwd: project })

  const codes = programs()
  for (const [name, code] of codes) writeFileSync(join(project, name), code)
  for (const compilerOptions of settings) {
    writeFileSync(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["*.ts"] }))
    run("node", ["node_modules/typescript/bin/tsc"], { cwd: project })
  }

  // The binary of this repository: it is the size of everything else together.
  const opencode = createRequire(import.meta.url).resolve("opencode-ai/package.json")
  const env = { OPENCODE_BIN: join(dirname(opencode), "bin", "opencode.exe") }
  expect(run("node", ["testing-1.ts"], { cwd: project }), "Hello.")
  expect(run("node", ["testing-2.ts"], { cwd: project, env }), "Hello from a script.")
  expect(run("npx", ["opencode-turn", "--version"], { cwd: project }), "opencode-turn ")
  expect(
    failure("npx", ["opencode-turn", "list", "--database", "postgres://host/turns"]),
    "needs the package @effect/sql-pg"
  )
  expect(run("npx", ["opencode-turn", "demo"], { cwd: project, env }), "completed · ")
  // The page is built before the package is packed.
  const page = join(project, "node_modules/@opencode-turn/platform-node/dist/viewer/index.html")
  expect(readFileSync(page, "utf8"), "<script type=\"module\"")
  console.log(
    `${tarballs.length} tarballs, ${codes.length} programs of the READMEs, ${settings.length} compiler settings: all as they should be`
  )
} finally {
  rmSync(folder, { recursive: true, force: true })
}
