import { assert, it } from "@effect/vitest"
import * as ToolCall from "@opencode-turn/core/ToolCall"

const calls = [
  ["bash", undefined, { command: "npm test", description: "Run the tests" }, "run", "Running npm test", "Ran npm test"],
  ["read", "src/a.ts", { filePath: "/project/src/a.ts" }, "read", "Reading src/a.ts", "Read src/a.ts"],
  ["write", undefined, { filePath: "/a.ts", content: "x" }, "edit", "Writing /a.ts", "Wrote /a.ts"],
  ["grep", undefined, { pattern: "TODO" }, "search", "Searching for TODO", "Searched for TODO"],
  [
    "webfetch",
    undefined,
    { url: "https://a.example" },
    "fetch",
    "Fetching https://a.example",
    "Fetched https://a.example"
  ],
  ["task", "look around", {}, "delegate", "Delegating look around", "Delegated look around"],
  [
    "question",
    undefined,
    { questions: [{ question: "Red?" }, 7, { question: "Blue?" }] },
    "ask",
    "Asking Red? Blue?",
    "Asked Red? Blue?"
  ],
  ["question", "Asked 1 question", { questions: [{ question: "Red?" }] }, "ask", "Asking Red?", "Asked Red?"],
  ["todowrite", "1 todos", { todos: [{}, {}] }, "plan", "Planning 2 to-dos", "Planned 2 to-dos"],
  ["glob", "", { pattern: "**/*.ts" }, "search", "Looking for **/*.ts", "Looked for **/*.ts"],
  ["skill", "Loaded skill: pdf", { name: "pdf" }, "read", "Loading the skill pdf", "Loaded the skill pdf"],
  [
    "websearch",
    "Exa Web Search: effect",
    { query: "effect" },
    "search",
    "Searching the web for effect",
    "Searched the web for effect"
  ],
  ["StructuredOutput", "Structured Output", { total: 3 }, "answer", "Answering", "Answered"],
  ["edit", "Invalid Tool", { tool: "edit", error: "no path" }, "edit", "Calling edit", "Failed to call edit"],
  ["write", "tmp/a.ts", { filePath: "/tmp/a.ts" }, "edit", "Writing /tmp/a.ts", "Wrote /tmp/a.ts"],
  ["write", "tmp/project/a.ts", { filePath: "a.ts" }, "edit", "Writing a.ts", "Wrote a.ts"],
  ["read", "", {}, "read", "Reading", "Read"],
  [
    "apply_patch",
    "Success. Updated the following files:\nA a.ts\nM b.ts",
    { patchText: "*** Begin Patch\n*** Add File: a.ts\n+x\n*** Update File: b.ts\n@@\n-y\n+z\n*** End Patch" },
    "edit",
    "Patching a.ts, b.ts",
    "Patched a.ts, b.ts"
  ],
  ["write", undefined, { path: "a.ts", content: "x" }, "edit", "Writing a.ts", "Wrote a.ts"],
  ["edit", undefined, { path: "/p/a.ts", oldString: "x" }, "edit", "Editing /p/a.ts", "Edited /p/a.ts"],
  ["read", undefined, { path: "src" }, "read", "Reading src", "Read src"],
  ["grep", undefined, { pattern: "TODO", path: "src" }, "search", "Searching for TODO", "Searched for TODO"],
  ["patch", undefined, { patchText: "*** Update File: b.ts" }, "edit", "Patching b.ts", "Patched b.ts"],
  ["skill", undefined, { id: "pdf" }, "read", "Loading the skill pdf", "Loaded the skill pdf"],
  ["execute", undefined, { code: "1 + 1" }, "run", "Running code", "Ran code"],
  ["tickets_get", "", { name: "42" }, "other", "Calling tickets_get 42", "Called tickets_get 42"],
  ["tickets_find", undefined, { id: 7 }, "other", "Calling tickets_find", "Called tickets_find"],
  ["bash", undefined, {}, "run", "Running", "Ran"],
  ["constructor", undefined, { command: 7 }, "other", "Calling constructor", "Called constructor"]
] as const

for (const [tool, title, input, kind, present, past] of calls) {
  it(`describes ${tool} with ${JSON.stringify(input)} as ${JSON.stringify(present)}`, () => {
    const part = { tool, input, ...(title !== undefined && { title }) }
    const described = ToolCall.describe(part)
    assert.deepStrictEqual([described.kind, described.present, described.past], [kind, present, past])
  })
}
