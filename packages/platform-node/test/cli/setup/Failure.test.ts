import { describe, failed } from "#cli/setup/Failure"
import { assert, it } from "@effect/vitest"
import { AskId, SessionId } from "@opencode-turn/core/Ids"
import { UnknownAsk } from "@opencode-turn/core/StoredAsk"
import { BudgetExceeded, EmptyStream, HumanTimeout, TurnTimeout } from "@opencode-turn/core/TurnError"

const exceeded = (limit: BudgetExceeded["limit"], value: number, allowed: number) =>
  describe(new BudgetExceeded({ limit, value, allowed }))

const told = (millis: number) => describe(new TurnTimeout({ millis }))

it("gives the time that the end of a turn was waited for in seconds", () => {
  assert.match(told(90_500), /did not come within 90\.5 s after/)
  assert.match(told(500), /within 500 ms after/)
})

it("gives advice for a turn that exceeded its time", () => {
  const timed = describe(new BudgetExceeded({ limit: "wallClock", value: 2001, allowed: 2000 }))
  assert.strictEqual(
    timed,
    "the turn is over its budget: it took longer than 2 s. Allow more time with --timeout"
  )
})

it("uses the singular for one", () => {
  assert.match(exceeded("steps", 2, 1), /2 calls of the model; allowed: 1 call of the model/)
  assert.match(exceeded("modelRetries", 1, 0), /1 retry of the model; allowed: 0 retries of the model/)
})

it("describes an exceeded budget in its units, without the name of the limit", () => {
  assert.match(exceeded("wallClock", 90_500, 60_000), /it took longer than 60 s/)
  assert.match(exceeded("stall", 2500, 2000), /it gave no sign of life for longer than 2 s/)
  assert.match(exceeded("cost", 0.1 + 0.2, 0.25), /\$0\.3; allowed: \$0\.25/)
  assert.match(exceeded("cost", 2e-7, 1e-7), /\$2e-7; allowed: \$1e-7/)
  assert.match(exceeded("tokens", 1200, 1000), /1200 tokens; allowed: 1000 tokens/)
  for (const limit of ["wallClock", "stall", "cost", "tokens", "steps", "modelRetries"] as const) {
    assert.notInclude(exceeded(limit, 2, 1), `(${limit})`)
  }
  assert.strictEqual(
    exceeded("openAsks", 1001, 1000),
    "the turn is over its budget: 1001 open asks; allowed: 1000 open asks"
  )
  assert.strictEqual(exceeded("parts", 2, 1), "the turn is over its budget: 2 parts; allowed: 1 part")
})

it("says how long an ask was open, and which command lists asks", () => {
  const askId = AskId.make("per_1")
  assert.match(describe(new HumanTimeout({ askId, millis: 600_000 })), /nobody answered per_1 within 600 s/)
  assert.match(describe(new UnknownAsk({ askId })), /no ask per_1\. opencode-turn asks/)
})

it("gives advice for an answer without text", () => {
  const silent = { sessionId: SessionId.make("ses_1"), hasReasoning: false, tools: [] }
  assert.match(
    describe(new EmptyStream({ ...silent, finish: "stop" })),
    /without a word \(stop\)\. Send the prompt again/
  )
  assert.match(describe(new EmptyStream({ ...silent, finish: "length" })), /\(length\)\. .*output limit$/)
})

it("shows the message of other errors", () => {
  assert.strictEqual(describe(failed("it took 5 ms (wholeStream)")), "it took 5 ms (wholeStream)")
})
