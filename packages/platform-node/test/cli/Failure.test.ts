import { describe, failed } from "#cli/Failure"
import { assert, it } from "@effect/vitest"
import { RequestId } from "@opencode-turn/core/Ids"
import { UnknownRequest } from "@opencode-turn/core/StoredAsk"
import { BudgetExceeded, HumanTimeout, TurnTimeout } from "@opencode-turn/core/TurnError"

const told = (millis: number) => describe(new TurnTimeout({ limit: "wholeStream", millis }))

it("tells how long a turn may take in seconds, and not how the limit is called", () => {
  assert.strictEqual(told(2000), "the turn did not end within 2 s. Allow more time with --timeout")
  assert.match(told(90_500), /within 90\.5 s\./)
  assert.match(told(500), /within 500 ms\./)
})

const exceeded = (limit: BudgetExceeded["limit"], value: number, allowed: number) =>
  describe(new BudgetExceeded({ limit, value, allowed }))

it("tells of a passed budget in its units, and not how the limit is called", () => {
  assert.match(exceeded("wallClock", 90_500, 60_000), /90\.5 s, and 60 s/)
  assert.match(exceeded("stall", 2500, 2000), /2\.5 s.*, and 2 s/)
  assert.match(exceeded("cost", 0.1 + 0.2, 0.25), /\$0\.30, and \$0\.25/)
  assert.match(exceeded("cost", 2e-7, 1e-7), /\$0, and \$0/)
  assert.match(exceeded("tokens", 1200, 1000), /1200 tokens, and 1000 tokens/)
  for (const limit of ["wallClock", "stall", "cost", "tokens", "steps", "modelRetries"] as const) {
    assert.notInclude(exceeded(limit, 2, 1), `(${limit})`)
  }
})

it("tells how long nobody answered, and where the requests are listed", () => {
  const requestId = RequestId.make("per_1")
  assert.match(describe(new HumanTimeout({ requestId, millis: 600_000 })), /nobody answered per_1 within 600 s/)
  assert.match(describe(new UnknownRequest({ requestId })), /no request per_1\. opencode-turn asks/)
})

it("tells of other errors what they say", () => {
  assert.strictEqual(describe(failed("it took 5 ms (wholeStream)")), "it took 5 ms (wholeStream)")
})
