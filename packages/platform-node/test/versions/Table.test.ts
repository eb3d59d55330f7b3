import { assert, it } from "@effect/vitest"
import * as Table from "./Table.ts"

const refusal = (port: number) =>
  `AssertionError [ERR_ASSERTION]: the turn ended with UnsupportedOperation: OpenCode at http://127.0.0.1:${port} cannot do this ` +
  "(keep rules, before 1.17)\n+ actual - expected"

it("shows the versions by their age, the betas of 2.x last, and each reason once without the server's address", () => {
  const table = Table.render([
    { version: "0.0.0-next-2", script: "rules", failure: refusal(3) },
    { version: "1.18.3", script: "rules", failure: undefined },
    {
      version: "1.3.2",
      script: "rules",
      failure: "UnsupportedOperation: OpenCode at http://127.0.0.1:1 cannot do this (other): its agent (build) may"
    },
    { version: "1.18.18", script: "rules", failure: refusal(4) }
  ])
  assert.deepStrictEqual(table.split("\n"), [
    "| | 1.3.2 | 1.18.3 | 1.18.18 | 0.0.0-next-2 |",
    "| --- | --- | --- | --- | --- |",
    "| rules | no (1) | yes | no (2) | no (2) |",
    "",
    "1. UnsupportedOperation: other",
    "2. UnsupportedOperation: keep rules, before 1.17"
  ])
})
