/**
 * Proves that every public export has a doc comment: those of the paths that the packages export, and of the modules that these export
 * again.
 */
import { readFileSync } from "node:fs"
import { dirname, join } from "node:path"

const problems: Array<string> = []
const checked = new Set<string>()
let count = 0

const check = (file: string): void => {
  if (checked.has(file)) return
  checked.add(file)
  const source = readFileSync(file, "utf8")
  const documented = new Set<string>()
  const lines = source.split("\n")
  for (const [index, line] of lines.entries()) {
    const [, kind = "", name] =
      /^export (?:declare |abstract |async )*(const|let|function|class|interface|type|enum) (\w+)/.exec(line) ??
        []
    if (name === undefined) continue
    count++
    // The overloads of a function share the comment of the first one.
    const own = `${kind === "function" ? "function" : index} ${name}`
    if (lines[index - 1]?.trimEnd().endsWith("*/") === true) documented.add(own)
    if (!documented.has(own)) problems.push(`${file}:${index + 1}: ${name} has no doc comment`)
  }
  for (const [, target = ""] of source.matchAll(/^export .*? from "(\.[^"]+)"/gms)) check(join(dirname(file), target))
}

for (const name of ["core", "platform-node", "testing"]) {
  const folder = join("packages", name)
  const { exports }: { readonly exports: Record<string, string> } = JSON.parse(
    readFileSync(join(folder, "package.json"), "utf8")
  )
  for (const path of Object.values(exports)) if (path.endsWith(".ts")) check(join(folder, path))
}

for (const problem of problems) console.error(problem)
console.log(`${count} public exports, ${problems.length} without a doc comment`)
process.exitCode = problems.length === 0 ? 0 : 1
