/** Tests of the error messages for people. */
import { assert, it } from "@effect/vitest"
import { UnknownDirectory } from "@opencode-turn/core/ClientError"
import { SessionId } from "@opencode-turn/core/Ids"
import {
  BudgetExceeded,
  detailsOf,
  DirectoryMismatch,
  InputFailed,
  NoProgress,
  OutputInvalid,
  Refused,
  SessionLost,
  TurnDied,
  TurnUnfinished,
  Upstream
} from "@opencode-turn/core/TurnError"

const sessionId = SessionId.make("ses_1")
const origin = "http://127.0.0.1:4096"

it("counts the idle steps, and all steps that the turn began", () => {
  assert.strictEqual(
    new NoProgress({ sessionId, steps: 8, allSteps: 10, finish: "weird" }).message,
    "session ses_1 made 8 steps in a row without a new result (finish reason: weird); the turn began 10 steps in all"
  )
  assert.match(new NoProgress({ sessionId, steps: 1, allSteps: 1 }).message, /1 step in a row .* began 1 step in all$/)
})

it("drops a clause's full stop before a semicolon", () => {
  const reason = "Only git is allowed here."
  const refusals = [{ tool: "bash", asked: "ls", reason }, { tool: "bash", asked: "ps", reason }]
  assert.strictEqual(
    new Refused({ refusals, repairs: 0 }).message,
    "the agent was stopped: bash (ls) was refused: Only git is allowed here; " +
      "bash (ps) was refused: Only git is allowed here."
  )
  const issues = [{ path: "a", message: "It is missing." }, { path: "b", message: "It is missing." }]
  assert.match(new OutputInvalid({ issues, repairs: 1 }).message, /a: It is missing; b: It is missing\.$/)
  assert.match(
    new Upstream({ name: "APIError", reason: "Try later.", isRetryable: true, retryAtMillis: 0 }).message,
    /^APIError: Try later; OpenCode planned to call the model again at 1970-01-01T00:00:00\.000Z$/
  )
})

it("names the limit that a retry of the model is too late for", () => {
  const late = { name: "RetryTooLate", reason: "Try later.", isRetryable: true, retryAtMillis: 0 }
  assert.match(
    new Upstream({ ...late, limit: "wallClock", allowedMillis: 40_000 }).message,
    /00Z, past the limit of 40 s for the turn$/
  )
  assert.match(
    new Upstream({ ...late, limit: "stall", allowedMillis: 600_000 }).message,
    /00Z, past the limit of 600 s without a sign of life$/
  )
})

it("gives the fields of an error as data, without its cause", () => {
  const last = { name: "APIError", message: "no", isRetryable: false }
  assert.deepStrictEqual(detailsOf(new NoProgress({ sessionId, steps: 8, allSteps: 10, last })), {
    sessionId,
    steps: 8,
    allSteps: 10,
    last
  })
  const upstream = { name: "RetryTooLate", reason: "no", isRetryable: true, retryAtMillis: 5 }
  assert.deepStrictEqual(detailsOf(new Upstream(upstream)), upstream)
  assert.deepStrictEqual(detailsOf(new InputFailed({ field: "model", cause: new Error("secret") })), { field: "model" })
  assert.deepStrictEqual(detailsOf(new TurnDied({ cause: { password: "secret" } })), {})
})

it("distinguishes a session that another prompt took over from one that the server lost", () => {
  assert.strictEqual(
    new TurnUnfinished({ sessionId, reposts: 0, isSuperseded: true }).message,
    "another prompt took over session ses_1 before the turn was finished"
  )
  assert.strictEqual(
    new TurnUnfinished({ sessionId, reposts: 3, isSuperseded: false }).message,
    "session ses_1 became idle and left the turn unfinished after 3 reposts"
  )
})

it("does not claim that a tool has ended while it may still run", () => {
  assert.match(new SessionLost({ sessionId, tools: ["bash"] }).message, / after bash had started: the prompt was not/)
  assert.match(new SessionLost({ sessionId, tools: ["bash", "edit"] }).message, / after bash and edit had started:/)
  assert.match(new SessionLost({ sessionId, tools: [] }).message, /lost the session ses_1: the prompt was not/)
})

it("shows the backslash in a folder's name once, and says that OpenCode cannot find such a folder", () => {
  assert.strictEqual(
    new UnknownDirectory({ origin, directory: "/srv/a\\b" }).message,
    `OpenCode at ${origin} cannot work in "/srv/a\\b": it finds no folder whose path holds a backslash`
  )
  for (const directory of ["/srv/a", "C:\\a", "a"]) {
    assert.strictEqual(
      new UnknownDirectory({ origin, directory }).message,
      `OpenCode at ${origin} finds no folder "${directory}" that it can read`
    )
  }
  assert.include(
    new DirectoryMismatch({ sessionId, sessionDirectory: "C:\\a", directory: "/b\nc" }).message,
    "works in \"C:\\a\", not in \"/b\\nc\":"
  )
})

const over = (limit: BudgetExceeded["limit"], value: number, allowed: number) =>
  new BudgetExceeded({ limit, value, allowed }).message

it("uses singular and plural, and rounds money", () => {
  const texts = [
    [over("wallClock", 2, 1), "it took longer than 1 ms"],
    [over("wallClock", 2001, 2000), "it took longer than 2 s"],
    [over("stall", 2, 1), "it gave no sign of life for longer than 1 ms"],
    [over("cost", 0.1 + 0.2, 0.25), "$0.3; allowed: $0.25"],
    [over("tokens", 1, 0), "1 token; allowed: 0 tokens"],
    [over("modelRetries", 2, 1), "2 retries of the model; allowed: 1 retry of the model"],
    [over("steps", 2, 1), "2 calls of the model; allowed: 1 call of the model"]
  ]
  for (const [text, expected] of texts) assert.strictEqual(text, `the turn is over its budget: ${expected}`)
})
