import { availableParallelism } from "node:os"
import { defineConfig } from "vitest/config"

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
