/**
 * Proves that the sources import each other without a cycle, type imports included, that each room of the core imports only
 * rooms that stand above it in the table of docs/ARCHITECTURE.md, and that the rooms of the two lines of OpenCode (`v1/`, `v2/`) know nothing
 * of each other.
 *
 * oxlint's `import/no-cycle` finds the same cycles in values; it leaves type imports out.
 */
import { globSync, readFileSync } from "node:fs"
import { dirname, join, normalize, relative, sep } from "node:path"

const files = globSync(["packages/*/src/**/*.ts", "packages/*/viewer/**/*.{ts,tsx}"]).map(normalize).sort()

const withoutComments = (file: string): string => readFileSync(file, "utf8").replaceAll(/^\s*(?:\*|\/\*|\/\/).*$/gm, "")

/** The file that a package gives for a subpath; a path that is none where it gives nothing. */
const exported = (name: string, subpath: string): string => {
  const folder = join("packages", name)
  const { exports }: { readonly exports: Record<string, string> } = JSON.parse(
    readFileSync(join(folder, "package.json"), "utf8")
  )
  return join(folder, exports[subpath] ?? subpath)
}

const importsOf = (file: string): ReadonlyArray<string> =>
  [...withoutComments(file).matchAll(/(?:from|import)\s*\(?\s*"([^"]+)"/g)].flatMap(([, target = ""]) => {
    if (target.startsWith(".")) return [join(dirname(file), target)]
    const [, name, path] = /^@opencode-turn\/([^/]+)(?:\/(.+))?$/.exec(target) ?? []
    return name === undefined ? [] : [exported(name, path === undefined ? "." : `./${path}`)]
  })

const graph = new Map(files.map((file) => [file, importsOf(file)]))
const problems: Array<string> = []

for (const [file, targets] of graph) {
  for (const target of targets) if (!graph.has(target)) problems.push(`${file} imports ${target}, which does not exist`)
}

const done = new Set<string>()
const visit = (file: string, path: ReadonlyArray<string>): void => {
  if (path.includes(file)) {
    problems.push(`cycle: ${[...path.slice(path.indexOf(file)), file].join(" → ")}`)
    return
  }
  if (done.has(file)) return
  for (const target of graph.get(file) ?? []) visit(target, [...path, file])
  done.add(file)
}
for (const file of files) visit(file, [])

const core = join("packages", "core", "src")
const rooms = [...readFileSync("docs/ARCHITECTURE.md", "utf8").matchAll(/^\| `(\w+)\/` /gm)].map(([, name = ""]) =>
  name
)
/** The number of a file's room; the entries `index.ts` and `steps.ts` stand after them all. */
const roomOf = (file: string): number => {
  const [room = "", ...rest] = relative(core, file).split(sep)
  return rest.length === 0 ? rooms.length : rooms.indexOf(room)
}
for (const file of files.filter((file) => file.startsWith(core))) {
  if (roomOf(file) === -1) problems.push(`${file} is in no room of docs/ARCHITECTURE.md`)
  for (const target of graph.get(file) ?? []) {
    if (roomOf(target) > roomOf(file)) problems.push(`${file} imports ${target}, which is in a later room`)
  }
}
const lineOf = (file: string) => file.split(sep).find((segment) => segment === "v1" || segment === "v2")
for (const [file, targets] of graph) {
  for (const target of targets) {
    const lines = [lineOf(file), lineOf(target)]
    if (lines.includes("v1") && lines.includes("v2")) {
      problems.push(`${file} imports ${target}, which is of the other line`)
    }
  }
}
for (const room of rooms) {
  if (!files.some((file) => file.startsWith(join(core, room) + sep))) problems.push(`the room ${room} holds no file`)
}

for (const problem of problems) console.error(problem)
console.log(`${files.length} files, ${rooms.length} rooms, ${problems.length} problems`)
process.exitCode = problems.length === 0 ? 0 : 1
