import { defineConfig } from "vitest/config"

// One project per package; vitest reads this file through `--config vitest.workspace.ts`.
const project = (name: string, overrides: object = {}) => ({
  test: {
    name,
    root: `./packages/${name}`,
    include: ["test/**/*.test.ts"],
    ...overrides
  }
})

export default defineConfig({
  test: {
    // The JSON report is where the number of tests that ran is read from.
    reporters: ["default", ["json", { outputFile: "node_modules/.cache/vitest-report.json" }]],
    projects: [
      project("core"),
      project("testing", { testTimeout: 60_000, hookTimeout: 60_000 }),
      project("platform-node", {
        testTimeout: 60_000,
        hookTimeout: 60_000,
        globalSetup: "test/support/PostgresGlobalSetup.ts"
      })
    ]
  }
})
