import * as Scripted from "#cli/setup/Scripted"
import { assert, it } from "@effect/vitest"

const answers = [
  {
    reasoning: "First a plan.",
    text: "I plan.",
    tool: "todowrite",
    args: { todos: [] },
    usage: { input: 1, output: 1 }
  },
  { tool: "bash", args: { command: "ls", description: "List" }, delayMillis: 5, usage: { input: 2, output: 2 } },
  { tool: "task", args: { description: "Check", prompt: "Check it.", subagent_type: "general" } },
  { tool: "edit", args: { filePath: "a.txt", oldString: "a", newString: "b" } },
  { tool: "question", args: { questions: [] } },
  { tool: "todowrite", args: { todos: [] } },
  { text: "Done." }
]

it("a demo's answers stay as they are for OpenCode 1.x", () => {
  assert.deepStrictEqual(Scripted.fitted(answers, { tools: ["bash", "todowrite"] }), answers)
})

it("a demo's answers call the tools of OpenCode 2.x, and leave out the to-dos that it does not have", () => {
  assert.deepStrictEqual<unknown>(Scripted.fitted(answers, { tools: ["shell", "subagent", "edit"] }), [
    {
      reasoning: "First a plan.",
      text: "I plan.",
      tool: "shell",
      args: { command: "ls" },
      delayMillis: 5,
      usage: { input: 2, output: 2 }
    },
    { tool: "subagent", args: { prompt: "Check it.", agent: "general", description: "Check" } },
    { tool: "edit", args: { oldString: "a", newString: "b", path: "a.txt" } },
    { tool: "question", args: { questions: [] } },
    { text: "Done." }
  ])
})
