/**
 * What subagents do.
 */
import { Effect } from "effect"
import type { Script, Words } from "../Script.ts"

export const scripts = ({ fetch, read, shell, subagent, write }: Words): ReadonlyArray<Script> => [
  {
    name: "a subagent",
    prompt: {
      steps: [
        { text: "I ask somebody.", ...subagent([shell("echo hi"), { text: "Child done." }]) },
        { text: "Parent done." }
      ]
    }
  },
  {
    name: "a subagent that says nothing",
    prompt: { steps: [subagent([{}]), { text: "Parent done." }] }
  },
  {
    name: "a subagent whose answer is filtered",
    prompt: { steps: [subagent([{ text: "Half of", finish: "content_filter" }]), { text: "Parent done." }] }
  },
  {
    name: "a subagent whose model fails",
    prompt: { steps: [subagent([{ fail: 400, message: "childbad" }]), { text: "Parent goes on." }] }
  },
  {
    name: "a subagent that asks",
    prompt: { steps: [subagent([shell("echo asked"), { text: "Child done." }]), { text: "Parent done." }] },
    during: ({ allow, permission }) => Effect.flatMap(permission, (ask) => allow(ask, "once"))
  },
  {
    name: "a subagent that asks for a page of the web, and gets a reason",
    prompt: {
      steps: [subagent([fetch("http://127.0.0.1:9/"), { text: "Child done." }]), { text: "Parent done." }]
    },
    during: ({ permission, refuse }) => Effect.flatMap(permission, (ask) => refuse(ask, "no"))
  },
  {
    name: "a subagent that is refused",
    prompt: { steps: [subagent([read("/etc/hostname"), { text: "Never said." }]), { text: "Parent goes on." }] },
    during: ({ permission, refuse }) => Effect.flatMap(permission, (ask) => refuse(ask))
  },
  {
    name: "a subagent whose permission is given for good, and then not asked any more",
    prompt: {
      steps: [
        subagent([shell("test -d ."), shell("test -d ."), { text: "Child done." }]),
        { text: "Parent done." }
      ]
    },
    during: ({ allow, permission }) => Effect.flatMap(permission, (ask) => allow(ask, "always"))
  },
  {
    name: "a subagent of a subagent",
    prompt: {
      steps: [
        subagent([subagent([shell("echo leaf"), { text: "Leaf done." }]), { text: "Child done." }], {
          agent: "nester"
        }),
        { text: "Parent done." }
      ]
    }
  },
  {
    name: "subagents that are too deep",
    prompt: {
      steps: [
        subagent([
          subagent([subagent([{ text: "Never said." }]), { text: "Leaf done." }], { agent: "nester" }),
          subagent([subagent([{ text: "Never said." }]), { text: "Leaf done." }]),
          { text: "Child done." }
        ], { agent: "nester" }),
        { text: "Parent done." }
      ]
    }
  },
  {
    name: "a subagent that does not exist",
    prompt: { steps: [subagent([{ text: "Never said." }], { agent: "nope" }), { text: "Parent goes on." }] }
  },
  {
    name: "a primary agent as a subagent",
    prompt: { steps: [subagent([{ text: "Child done." }], { agent: "plan" }), { text: "Parent done." }] }
  },
  {
    name: "a subagent that is asked for",
    agent: "asker",
    prompt: { steps: [subagent([{ text: "Child done." }]), { text: "Parent done." }] },
    during: ({ allow, permission }) => Effect.flatMap(permission, (ask) => allow(ask, "once"))
  },
  {
    name: "a subagent that is asked for and refused",
    agent: "asker",
    prompt: { steps: [subagent([{ text: "Never said." }]), { text: "Never said." }] },
    during: ({ permission, refuse }) => Effect.flatMap(permission, (ask) => refuse(ask)),
    ends: ["refused"]
  },
  {
    name: "a subagent that a rule denies",
    agent: "denier",
    prompt: { steps: [subagent([{ text: "Never said." }]), { text: "Parent goes on." }] }
  },
  {
    name: "a subagent that writes files",
    repository: "written",
    prompt: {
      steps: [subagent([write("sub/deep/last.txt", "child\n"), { text: "Child done." }]), { text: "Parent done." }]
    }
  },
  ...["bogus", "ses_unknown000"].map((task_id): Script => ({
    name: `a session of a subagent that is ${task_id === "bogus" ? "none" : "unknown"}`,
    prompt: { steps: [subagent([{ text: "Child done." }], fieldsOf({ task_id })), { text: "Parent done." }] }
  })),
  {
    name: "a subagent that is called again in its session",
    prompt: { steps: [subagent([{ text: "Child done." }]), { text: "Parent done." }] },
    during: ({ children, ended, post }) =>
      Effect.gen(function*() {
        yield* ended
        const [task_id = ""] = yield* children
        yield* post({
          steps: [
            subagent([{ text: "Child again." }], fieldsOf({ task_id, agent: "nester" })),
            { text: "Parent again." }
          ]
        })
      }),
    ends: ["answered", "answered"]
  },
  {
    name: "a primary agent as a subagent that inherits rules",
    session: {
      permission: [
        { permission: "bash", pattern: "rm *", action: "deny" },
        { permission: "bash", pattern: "ls", action: "ask" },
        { permission: "external_directory", pattern: "/x/*", action: "allow" }
      ]
    },
    prompt: { steps: [subagent([{ text: "Child done." }], { agent: "plan" }), { text: "Parent done." }] }
  },
  {
    name: "a subagent in the background",
    prompt: {
      steps: [
        subagent([{ text: "Child done.", delayMillis: 800 }], fieldsOf({ background: true })),
        { text: "Did not wait." },
        { text: "Woken." }
      ]
    },
    ends: ["answered", "answered"],
    isRacy: true
  }
]

/** Arguments that one line alone knows. */
const fieldsOf = (fields: { readonly agent?: string; readonly [key: string]: boolean | string }) => fields
