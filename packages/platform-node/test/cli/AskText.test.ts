import { assert, it } from "@effect/vitest"
import type { PermissionAsk, Question, QuestionAsk } from "@opencode-turn/core/Ask"
import { RequestId, SessionId } from "@opencode-turn/core/Ids"
import { describeAlways, describeAsk, describeAsker, describePermission } from "../../src/internal/AskText.ts"

const permission = (fields: Partial<PermissionAsk>): PermissionAsk => ({
  _tag: "Permission",
  id: RequestId.make("per_1"),
  sessionId: SessionId.make("ses_1"),
  permission: "bash",
  patterns: [],
  always: [],
  metadata: {},
  ...fields
})

const question = (fields: Partial<Question> = {}): Question => ({
  question: "Which?",
  header: "Pick",
  options: [{ label: "A", description: "first" }, { label: "B", description: "second" }],
  multiple: false,
  custom: false,
  ...fields
})

const questions = (...questions: ReadonlyArray<Question>): QuestionAsk => ({
  _tag: "Question",
  id: RequestId.make("que_1"),
  sessionId: SessionId.make("ses_1"),
  questions
})

const bash = permission({
  patterns: ["echo hi", "rm -rf build"],
  always: ["echo *", "rm *"],
  metadata: { command: "echo hi # nothing\n  rm -rf build\u001b[2J" }
})

const task = permission({
  permission: "task",
  patterns: ["general"],
  always: ["*"],
  metadata: { description: "look around", subagent_type: "general" }
})

it("tells the whole command of a shell tool, not the pieces that OpenCode takes it apart into", () => {
  assert.strictEqual(describePermission(bash), "  echo hi # nothing\n    rm -rf build␛[2J\n")
})

it("shows on one line where a line ends, and never a control character", () => {
  assert.deepStrictEqual(describeAsk(bash), ["permission bash: echo hi # nothing ⏎ rm -rf build␛[2J"])
})

it("tells what a task is, and whose", () => {
  assert.strictEqual(describePermission(task), "  look around (general)\n")
  assert.deepStrictEqual(describeAsk(task), ["permission task: look around (general)"])
})

it("tells the patterns of everything else, and what an edit changes", () => {
  const edit = permission({ permission: "edit", patterns: ["a.txt"], metadata: { diff: "- a\n+ b\n" } })
  assert.strictEqual(describePermission(edit), "  a.txt\n  - a\n  + b\n")
  assert.deepStrictEqual(describeAsk(edit), ["permission edit: a.txt"])
})

it("tells what is allowed from now on, and a long command not twice", () => {
  assert.strictEqual(describeAlways(bash), "from now on: echo *, rm *")
  assert.strictEqual(describeAlways(permission({})), "for this server")
  const same = permission({ patterns: ["./deploy"], always: ["./deploy"] })
  assert.strictEqual(describeAlways(same), "from now on: the same")
  const whole = permission({ patterns: ["./deploy"], always: ["./deploy"], metadata: { command: "./deploy" } })
  assert.strictEqual(describeAlways(whole), "from now on: the same")
})

it("tells of each question which answers it takes", () => {
  const several = question({ question: "And\nthese?", multiple: true, custom: true })
  assert.deepStrictEqual(describeAsk(questions(question())), ["question: Which? (one of: A | B)"])
  assert.deepStrictEqual(describeAsk(questions(question(), several, question({ options: [] }))), [
    "question 1 of 3: Which? (one of: A | B)",
    "question 2 of 3: And these? (several of: A | B; or any text)",
    "question 3 of 3: Which? (any text)"
  ])
})

it("names a subagent by what is known of it", () => {
  const named = { title: "look around (@general subagent)", agent: "general" }
  assert.strictEqual(describeAsker(named), "look around (general)")
  assert.strictEqual(describeAsker({ ...named, agent: undefined }), "look around")
  assert.strictEqual(describeAsker({ title: "", agent: "general" }), "subagent general")
  assert.strictEqual(describeAsker({ title: "", agent: undefined }), "a subagent")
  assert.deepStrictEqual(describeAsk(task, named), [
    "look around (general) asks: permission task: look around (general)"
  ])
})
