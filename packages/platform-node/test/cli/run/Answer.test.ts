import { type Given, toAnswer } from "#cli/run/Answer"
import { assert, it } from "@effect/vitest"
import type { Ask, Question } from "@opencode-turn/core/Ask"
import { AskId, SessionId } from "@opencode-turn/core/Ids"
import { Result } from "effect"

const permission: Ask = {
  _tag: "Permission",
  id: AskId.make("per_1"),
  sessionId: SessionId.make("ses_1"),
  permission: "bash",
  patterns: ["echo hi"],
  always: [],
  metadata: {}
}

const colour: Question = {
  question: "Which colour?",
  header: "Colour",
  options: [{ label: "Red", description: "warm" }, { label: "Blue", description: "cold" }],
  multiple: true,
  custom: true
}

const question = (...questions: ReadonlyArray<Question>): Ask => ({
  _tag: "Question",
  id: AskId.make("que_1"),
  sessionId: SessionId.make("ses_1"),
  questions
})

const given = (ask: Ask, fields: Partial<Given>) =>
  toAnswer(ask, { allow: undefined, reject: undefined, answers: [], ...fields })

const refused = (ask: Ask, fields: Partial<Given>) =>
  Result.match(given(ask, fields), { onSuccess: (answer) => assert.fail(JSON.stringify(answer)), onFailure: String })

it("grants and refuses a permission, with the message if there is one", () => {
  assert.deepStrictEqual(
    given(permission, { allow: "always" }),
    Result.succeed({ _tag: "Permission", reply: { reply: "always" } })
  )
  assert.deepStrictEqual(given(permission, { reject: "" }), Result.succeed({ _tag: "Reject" }))
  assert.deepStrictEqual(given(permission, { reject: "No" }), Result.succeed({ _tag: "Reject", message: "No" }))
})

it("answers each question, and splits at commas only between labels", () => {
  assert.deepStrictEqual(
    given(question(colour, colour), { answers: ["Red, Blue", "red, of course"] }),
    Result.succeed({ _tag: "Answers", answers: [["Red", "Blue"], ["red, of course"]] })
  )
  assert.deepStrictEqual(given(question(colour), { reject: "" }), Result.succeed({ _tag: "Reject" }))
})

it("dismisses a question with a message to the agent", () => {
  assert.deepStrictEqual(
    given(question(colour), { reject: "Use green" }),
    Result.succeed({ _tag: "Reject", message: "Use green" })
  )
})

it("names the right flag when the given one does not fit the ask", () => {
  assert.match(refused(permission, { answers: ["Red"] }), /per_1 asks for a permission.*--allow once.*--reject/)
  assert.match(refused(question(colour), { allow: "once" }), /que_1 is a question.*--answer.*--reject/)
})

it("says how many answers were expected and given", () => {
  assert.match(
    refused(question(colour, colour), { answers: ["Red"] }),
    /que_1 has 2 questions, and the command line has 1 answer: give --answer once for each question/
  )
  assert.match(
    refused(question(colour), { answers: ["Red", "Blue"] }),
    /que_1 has 1 question, and the command line has 2 answers.*commas between several labels/
  )
})
