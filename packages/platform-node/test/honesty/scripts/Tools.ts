/**
 * What the model does with its tools.
 */
import type { Script, Words } from "../Script.ts"

export const scripts = ({ edit, read, shell, write }: Words): ReadonlyArray<Script> => [
  {
    name: "a loop of tools",
    prompt: {
      steps: [
        {
          reasoning: "hm",
          text: "I look.",
          ...shell("echo one"),
          usage: { input: 100, output: 40, reasoning: 15, cacheRead: 30 }
        },
        shell("echo two"),
        { text: "Both ran." }
      ]
    }
  },
  {
    name: "two calls at once",
    prompt: { steps: [{ ...shell("sleep 0.5; echo one"), tools: [read("old.txt")] }, { text: "Both ran." }] },
    isRacy: "1.x"
  },
  { name: "thoughts before a call", prompt: { steps: [{ reasoning: "hm", ...shell("echo one") }, { text: "Ran." }] } },
  { name: "a call and then nothing", prompt: { steps: [shell("echo hi"), {}] } },
  {
    name: "blank text beside a call, and then thoughts",
    prompt: { steps: [{ text: "\n", ...shell("echo hi") }, { reasoning: "done" }] }
  },
  {
    name: "a call whose finish says that it is the end",
    prompt: { steps: [{ ...shell("echo a"), finish: "stop" }, { text: "Ran." }] }
  },
  { name: "a call of an unknown tool", prompt: { steps: [{ tool: "nope", args: { n: 1 } }, { text: "Not." }] } },
  {
    name: "a call of StructuredOutput that nobody asked for",
    prompt: { steps: [{ tool: "StructuredOutput", args: { n: 1 } }, { text: "Not." }] }
  },
  {
    name: "a call without its arguments",
    prompt: { steps: [{ tool: "write", args: { content: "x" } }, { text: "Not." }] }
  },
  {
    name: "a tool that the agent does not have",
    agent: "denier",
    prompt: { steps: [shell("echo hi"), { text: "Not." }] }
  },
  { name: "a rule that denies", prompt: { steps: [shell("echo denied"), { text: "Then not." }] } },
  {
    name: "files that are read, written and edited",
    prompt: {
      steps: [
        read("old.txt"),
        write("new.txt", "a\nb\n"),
        write("new.txt", "c\nd\n"),
        edit("new.txt", "nowhere", "x"),
        edit("new.txt", "c", "c"),
        edit("new.txt", "c", "e"),
        { text: "Written." }
      ]
    }
  },
  {
    name: "files in a repository",
    repository: "written",
    prompt: {
      steps: [
        write("made.txt", "x\ny"),
        write("old.txt", "one\n2\nthree\nfour\n"),
        edit("long.txt", "line 15\n", "line xv\nand more\n"),
        edit("old.txt", "nowhere", "x"),
        edit("old.txt", "e", "x"),
        edit("old.txt", "one", "one"),
        shell("echo seen"),
        write("last.txt", "the end\n"),
        { text: "Written." }
      ]
    }
  },
  {
    name: "a file that an edit makes",
    repository: "written",
    prompt: { steps: [edit("edited/last.txt", "", "made by an edit\n"), { text: "Written." }] }
  },
  {
    name: "files that were written before a failure",
    repository: "written",
    prompt: { steps: [write("before/last.txt", "a\n"), { fail: 400, message: "bad" }] },
    ends: ["failed"]
  },
  {
    name: "a to-do list",
    prompt: {
      steps: [
        { tool: "todowrite", args: { todos: [{ content: "a", status: "pending", priority: "high" }] } },
        { text: "Listed." }
      ]
    }
  },
  {
    name: "a to-do list that is not one",
    prompt: {
      steps: [{ tool: "todowrite", args: { todos: [{ content: "a", status: "weird" }] } }, { text: "Not." }]
    }
  }
]
