/**
 * Proves that the sources import each other without a cycle, type imports included, and that the imports within the core go
 * down the ranks of docs/ARCHITECTURE.md only.
 *
 * oxlint's `import/no-cycle` finds the same cycles in values; it leaves type imports out.
 */
import { globSync, readFileSync } from "node:fs"
import { dirname, join, normalize } from "node:path"

const files = globSync("packages/*/src/**/*.ts").map(normalize).sort()

const withoutComments = (file: string): string => readFileSync(file, "utf8").replaceAll(/^\s*(?:\*|\/\*|\/\/).*$/gm, "")

const importsOf = (file: string): ReadonlyArray<string> =>
  [...withoutComments(file).matchAll(/(?:from|import)\s*\(?\s*"([^"]+)"/g)].flatMap(([, target = ""]) => {
    if (target.startsWith(".")) return [join(dirname(file), target)]
    const [, name, path = "index"] = /^@opencode-turn\/([^/]+)(?:\/(.+))?$/.exec(target) ?? []
    return name === undefined ? [] : [join("packages", name, "src", `${path}.ts`)]
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
const ranks = new Map<string, number>()
for (
  const [, rank = "", names = ""] of readFileSync("docs/ARCHITECTURE.md", "utf8").matchAll(/^\| (\d+) +\| ([^|]+)\|/gm)
) {
  for (const [, name = ""] of names.matchAll(/`([^`]+)`/g)) ranks.set(join(core, `${name}.ts`), Number(rank))
}
for (const file of files.filter((file) => file.startsWith(core))) {
  const rank = ranks.get(file)
  if (rank === undefined) problems.push(`${file} has no rank in docs/ARCHITECTURE.md`)
  for (const target of graph.get(file) ?? []) {
    const targetRank = ranks.get(target)
    if (rank !== undefined && targetRank !== undefined && targetRank >= rank) {
      problems.push(`${file} (rank ${rank}) imports ${target} (rank ${targetRank})`)
    }
  }
}
for (const file of ranks.keys()) {
  if (!graph.has(file)) problems.push(`docs/ARCHITECTURE.md ranks ${file}, which does not exist`)
}

for (const problem of problems) console.error(problem)
console.log(`${files.length} files, ${ranks.size} ranked, ${problems.length} problems`)
process.exitCode = problems.length === 0 ? 0 : 1
