import { availableParallelism } from "node:os"
import { join } from "node:path"
import { defineConfig } from "vitest/config"
import { BaseSequencer, type TestSpecification } from "vitest/node"

// Workers, and the processes that tests start, load the same modules again and again. This halves the time of a start.
process.env["NODE_COMPILE_CACHE"] ??= join(import.meta.dirname, "node_modules/.cache/compile")
// The servers that tests start do not live long enough to win back what this compiler costs: a ninth of their time (OpenCode 1.18.33).
process.env["BUN_JSC_useFTLJIT"] ??= "0"

/** The order of the projects. The last one has many files that take no time, with which all workers end together. */
const projects = ["platform-node", "testing", "core"]

/** How the names of the files begin that take longest, in this order. One that started late would run alone at the end. */
const longest = [
  "real/Honesty",
  "cli/CliTurns",
  "real/Soak",
  "real/BothLines",
  "real/RealTurn",
  "cli/Cli.",
  "real/Examples",
  "viewer/Viewer",
  "mcp/Mcp",
  "sql/SqlSessionStorePostgres",
  "real/RealOperations",
  "live/OpencodeServer",
  "sql/SqlSessionStore.",
  "cli/CliWithoutServer",
  "cli/Serve",
  "viewer/Restart",
  "real/",
  "fake/Hostile",
  "drive/Oddities",
  "drive/Storms"
].map((name) => `/test/${name}`)

class LongestFirst extends BaseSequencer {
  override async sort(files: Array<TestSpecification>) {
    const places = new Map((await super.sort(files)).map((file, index) => {
      const at = longest.findIndex((name) => file.moduleId.includes(name))
      return [file, [projects.indexOf(file.project.name), at === -1 ? longest.length : at, index]] as const
    }))
    const compare = (one: TestSpecification, other: TestSpecification) => {
      const [project = 0, at = 0, index = 0] = places.get(one) ?? []
      const [otherProject = 0, otherAt = 0, otherIndex = 0] = places.get(other) ?? []
      return project - otherProject || at - otherAt || index - otherIndex
    }
    return files.toSorted(compare)
  }
}

// One project per package; vitest reads this file through `--config vitest.workspace.ts`.
const project = (name: string, overrides: object = {}) => ({
  test: {
    name,
    root: `./packages/${name}`,
    include: ["test/**/*.test.ts"],
    // Nothing is kept in modules, so that the files of a worker share them: loading them took a fifth of the time.
    isolate: false,
    // No test is about how long something takes: these only end what hangs.
    testTimeout: 300_000,
    hookTimeout: 300_000,
    ...overrides
  }
})

export default defineConfig({
  test: {
    sequence: { sequencer: LongestFirst },
    // Most of the tests that take long wait for processes: one worker more than the machine has cores keeps it busy.
    maxWorkers: availableParallelism() + 1,
    // The JSON report is where the number of tests that ran is read from.
    reporters: ["default", ["json", { outputFile: "node_modules/.cache/vitest-report.json" }]],
    projects: [
      project("core"),
      project("testing"),
      project("platform-node", {
        globalSetup: [
          "test/support/ViewerGlobalSetup.ts",
          "test/support/PostgresGlobalSetup.ts",
          "test/support/OpencodeGlobalSetup.ts"
        ]
      })
    ]
  }
})
