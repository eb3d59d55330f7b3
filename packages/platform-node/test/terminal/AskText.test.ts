import { describeAlways, describeAsk, describeAsker, describePermission } from "#terminal/AskText"
import { assert, it } from "@effect/vitest"
import type { PermissionAsk, Question, QuestionAsk } from "@opencode-turn/core/Ask"
import { AskId, SessionId } from "@opencode-turn/core/Ids"

const permission = (fields: Partial<PermissionAsk>): PermissionAsk => ({
  _tag: "Permission",
  id: AskId.make("per_1"),
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
  id: AskId.make("que_1"),
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

it("shows the whole command of a shell tool, and not the pieces that OpenCode splits it into", () => {
  assert.strictEqual(describePermission(bash), "  echo hi # nothing\n    rm -rf build␛[2J\n")
  assert.strictEqual(describePermission({ ...bash, permission: "shell" }), describePermission(bash))
})

it("marks line ends on one line, and never prints a control character", () => {
  assert.deepStrictEqual(describeAsk(bash), ["permission bash: echo hi # nothing ⏎ rm -rf build␛[2J"])
})

const unseen = {
  "zero-width space": 0x200B,
  "zero-width joiner": 0x200D,
  "word joiner": 0x2060,
  "soft hyphen": 0xAD,
  "byte order mark": 0xFEFF,
  "grapheme joiner": 0x34F,
  "Hangul filler": 0x3164,
  "halfwidth Hangul filler": 0xFFA0,
  "variation selector": 0xFE0F,
  "variation selector of a higher plane": 0xE0100,
  "tag": 0xE0041,
  "right-to-left override": 0x202E,
  "left-to-right mark": 0x200E,
  "no-break space": 0xA0,
  "ideographic space": 0x3000,
  "thin space": 0x2009,
  "line separator": 0x2028,
  "blank pattern of Braille": 0x2800,
  "private character": 0xE000,
  "interlinear mark": 0xFFF9,
  "half of a surrogate pair": 0xD800
}

for (const [name, code] of Object.entries(unseen)) {
  it(`shows a ${name} in whatever is asked as what it is`, () => {
    const hidden = `a${String.fromCodePoint(code)}b`
    const shown = `a<U+${code.toString(16).toUpperCase().padStart(4, "0")}>b`
    const asked = permission({ permission: hidden, patterns: [hidden], always: [hidden], metadata: { diff: hidden } })
    assert.strictEqual(describePermission(asked), `  ${shown}\n  ${shown}\n`)
    assert.strictEqual(describePermission(permission({ metadata: { command: hidden } })), `  ${shown}\n`)
    assert.deepStrictEqual(describeAsk(asked), [`permission ${shown}: ${shown}`])
    assert.strictEqual(describeAlways({ ...asked, patterns: [] }), `from now on: ${shown}`)
    assert.deepStrictEqual(
      describeAsk(questions(question({ question: hidden, options: [{ label: hidden, description: "" }] }))),
      [`question: ${shown} (one of: ${shown})`]
    )
    assert.strictEqual(describeAsker({ title: hidden, agent: hidden }), `${shown} (${shown})`)
  })
}

it("shows a hidden character at the beginning, at the end and on a line of its own", () => {
  const asked = permission({ metadata: { command: "\u3000ls\u00a0\n\u200b\nrm" } })
  assert.deepStrictEqual(describeAsk(asked), ["permission bash: <U+3000>ls<U+00A0> ⏎ <U+200B> ⏎ rm"])
  assert.strictEqual(describePermission(asked), "  <U+3000>ls<U+00A0>\n  <U+200B>\n  rm\n")
})

it("costs no more than the length of a command, whatever it is made of", () => {
  for (const filler of [" ", "\t", "\n", " \n", "\u200b", "("]) {
    const asked = permission({ metadata: { command: `ls${filler.repeat(200_000)}; rm` } })
    assert.match(describeAsk(asked)[0] ?? "", /^permission bash: ls.*; rm$/)
    assert.match(describePermission(asked), /; rm\n$/)
  }
})

it("shows a task and its agent", () => {
  assert.strictEqual(describePermission(task), "  look around (general)\n")
  assert.deepStrictEqual(describeAsk(task), ["permission task: look around (general)"])
})

it("shows the patterns of other tools, and the changes of an edit", () => {
  const edit = permission({ permission: "edit", patterns: ["a.txt"], metadata: { diff: "- a\n+ b\n" } })
  assert.strictEqual(describePermission(edit), "  a.txt\n  - a\n  + b\n")
  assert.deepStrictEqual(describeAsk(edit), ["permission edit: a.txt"])
})

it("shows what `always` allows, without repeating a long command", () => {
  assert.strictEqual(describeAlways(bash), "from now on: echo *, rm *")
  assert.strictEqual(describeAlways(permission({})), "for this server")
  const same = permission({ patterns: ["./deploy"], always: ["./deploy"] })
  assert.strictEqual(describeAlways(same), "from now on: the same")
  const whole = permission({ patterns: ["./deploy"], always: ["./deploy"], metadata: { command: "./deploy" } })
  assert.strictEqual(describeAlways(whole), "from now on: the same")
})

it("shows which answers each question takes", () => {
  const several = question({ question: "And\nthese?", multiple: true, custom: true })
  assert.deepStrictEqual(describeAsk(questions(question())), ["question: Which? (one of: A | B)"])
  assert.deepStrictEqual(describeAsk(questions(question(), several, question({ options: [] }))), [
    "question 1 of 3: Which? (one of: A | B)",
    "question 2 of 3: And these? (several of: A | B; or any text)",
    "question 3 of 3: Which? (any text)"
  ])
})

it("names a subagent by its known details", () => {
  const named = { title: "look around (@general subagent)", agent: "general" }
  assert.strictEqual(describeAsker(named), "look around (general)")
  assert.strictEqual(describeAsker({ ...named, agent: undefined }), "look around")
  assert.strictEqual(describeAsker({ title: "", agent: "general" }), "subagent general")
  assert.strictEqual(describeAsker({ title: "", agent: undefined }), "a subagent")
  assert.deepStrictEqual(describeAsk(task, named), [
    "look around (general) asks: permission task: look around (general)"
  ])
})
