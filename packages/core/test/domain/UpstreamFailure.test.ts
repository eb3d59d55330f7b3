import { assert, describe, it } from "@effect/vitest"
import { StatusError } from "@opencode-turn/core/ClientError"
import { Upstream } from "@opencode-turn/core/TurnError"
import * as UpstreamFailures from "@opencode-turn/core/UpstreamFailure"

const told = (name: string, message: string, statusCode?: number) =>
  UpstreamFailures.describe({ name, message, statusCode })

describe("the description of a failure", () => {
  it("starts with the kind and the status, then gives the reason", () => {
    assert.strictEqual(told("APIError", "overloaded", 529), "APIError 529: overloaded")
    assert.strictEqual(told("ProviderAuthError", "no key"), "ProviderAuthError: no key")
    const error = new Upstream({ name: "APIError", reason: "overloaded", statusCode: 529, isRetryable: true })
    assert.strictEqual(error.message, "APIError 529: overloaded")
  })

  it("leaves out the name UnknownError", () => {
    assert.strictEqual(told("UnknownError", "Model not found: scripted/none."), "Model not found: scripted/none.")
    assert.strictEqual(told("UnknownError", "bad gateway", 502), "bad gateway (status 502)")
    assert.strictEqual(told("", "Model not found."), "Model not found.")
  })

  it("says that the reason is missing if there is none or it only repeats the name", () => {
    for (const message of ["", "  \n", "APIError", "APIError:", "APIError: APIError"]) {
      assert.strictEqual(
        told("APIError", message, 500),
        "the model's provider failed and did not say why (APIError 500)"
      )
    }
    for (const name of ["UnknownError", ""]) {
      assert.strictEqual(told(name, name), "the model's provider failed and did not say why (UnknownError)")
    }
  })

  it("names the kind once if the reason begins with it", () => {
    assert.strictEqual(told("APIError", "APIError: overloaded"), "APIError: overloaded")
    assert.strictEqual(told("UnknownError", "UnknownError: UnknownError: no agent"), "no agent")
  })
})

describe("the message of a failure without its kind", () => {
  it("is its message, unless that is blank or only the name", () => {
    const failure = { name: "APIError", message: "overloaded", statusCode: 529, isRetryable: true }
    assert.strictEqual(UpstreamFailures.wordsOf(failure), "overloaded")
    for (const message of ["", " ", "APIError"]) {
      assert.match(UpstreamFailures.wordsOf({ ...failure, message }), /did not say why \(APIError 529\)$/)
    }
  })
})

const answered = (name: string, detail: string) =>
  new StatusError({ operation: "create session", status: 500, name, detail }).message

describe("an error response of OpenCode", () => {
  it("leaves out the name UnknownError and a repeated name", () => {
    assert.strictEqual(answered("BadRequest", "no"), "OpenCode answered 500 BadRequest (create session): no")
    for (const name of ["UnknownError", "error", ""]) {
      assert.strictEqual(answered(name, "no"), "OpenCode answered 500 (create session): no")
      assert.strictEqual(answered(name, name), "OpenCode answered 500 (create session)")
    }
  })
})

describe("the reason in OpenCode's message", () => {
  it("is the first line that is not blank", () => {
    assert.strictEqual(UpstreamFailures.reasonOf("no agent\n    at stack"), "no agent")
    assert.strictEqual(UpstreamFailures.reasonOf("\n \nno agent\n    at stack"), "no agent")
    assert.strictEqual(UpstreamFailures.reasonOf(" \n"), "")
  })

  it("is the most telling field of a body, and nothing else of the body", () => {
    const reasons: ReadonlyArray<readonly [unknown, string]> = [
      [{ error: { message: "no credits", key: "canary" } }, "no credits"],
      [{ error: { message: "", type: "scripted_failure" } }, "scripted_failure"],
      [{ error: "overloaded" }, "overloaded"],
      [{ detail: "not allowed", code: "x" }, "not allowed"],
      [{ error: { code: 7 }, message: "seven" }, "seven"],
      [{ error: null }, ""],
      [{ key: "canary" }, ""]
    ]
    for (const [body, reason] of reasons) {
      assert.strictEqual(UpstreamFailures.reasonOf(JSON.stringify(body)), reason)
      assert.strictEqual(UpstreamFailures.reasonOf(JSON.stringify(body, null, 2)), reason)
    }
  })

  it("is the message itself if it only looks like a body", () => {
    assert.strictEqual(UpstreamFailures.reasonOf("{model} is not known\nmore"), "{model} is not known")
  })
})
