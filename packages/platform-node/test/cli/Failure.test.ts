import { describe, failed } from "#cli/Failure"
import { assert, it } from "@effect/vitest"
import { TurnTimeout } from "@opencode-turn/core/TurnError"

const told = (millis: number) => describe(new TurnTimeout({ limit: "wholeStream", millis }))

it("tells how long a turn may take in seconds, and not how the limit is called", () => {
  assert.strictEqual(told(2000), "the turn did not end within 2 s. Allow more time with --timeout")
  assert.match(told(90_500), /within 90\.5 s\./)
  assert.match(told(500), /within 500 ms\./)
})

it("tells of other errors what they say", () => {
  assert.strictEqual(describe(failed("it took 5 ms (wholeStream)")), "it took 5 ms (wholeStream)")
})
