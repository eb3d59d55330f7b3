import { describe } from "#cli/run/Asks"
import { subagentOf } from "#cli/setup/AskedBy"
import { assert, it } from "@effect/vitest"
import type { Ask } from "@opencode-turn/core/Ask"
import { AskId, ConversationId, SessionId } from "@opencode-turn/core/Ids"
import type { StoredMessage } from "@opencode-turn/core/SessionStore"
import type { Subagent } from "@opencode-turn/core/Subagent"
import { zero } from "@opencode-turn/core/Usage"

const root = SessionId.make("ses_1")
const child = SessionId.make("ses_2")

const ask = (sessionId: SessionId): Ask => ({
  _tag: "Question",
  id: AskId.make("que_1"),
  sessionId,
  questions: ["First?", "Second?"].map((question) => ({
    question,
    header: "",
    options: [{ label: "Yes", description: "" }],
    multiple: false,
    custom: false
  }))
})

const subagent: Subagent = {
  sessionId: child,
  parentId: root,
  title: "look around (@general subagent)",
  agent: "general",
  status: "running",
  text: "",
  usage: zero
}

const message = (
  ...subagents: ReadonlyArray<Subagent>
): Pick<StoredMessage, "promptRecord" | "subagents"> => ({
  promptRecord: { sessionId: root, prompt: { parts: [] } },
  subagents
})

it("begins every line with the id of the ask, also the line of its second question", () => {
  const stored = { id: AskId.make("que_1"), conversationId: ConversationId.make("c1"), createdMillis: 1000 }
  assert.deepStrictEqual(describe({ ...stored, ask: ask(root) }, undefined, 4000).split("\n"), [
    "que_1  c1  3 s ago  question 1 of 2: First? (one of: Yes)",
    "que_1  c1  3 s ago  question 2 of 2: Second? (one of: Yes)",
    ""
  ])
  assert.include(
    describe({ ...stored, ask: ask(child) }, { title: "look around", agent: undefined }, 4000),
    "3 s ago  look around asks: question 1 of 2: First?"
  )
})

it("recognises the ask of a subagent by its session, even before the subagent is stored", () => {
  assert.isUndefined(subagentOf({ ask: ask(root) }, message(subagent)))
  assert.isUndefined(subagentOf({ ask: ask(child) }, undefined))
  assert.deepStrictEqual(subagentOf({ ask: ask(child) }, message(subagent)), {
    title: subagent.title,
    agent: "general"
  })
  assert.deepStrictEqual(subagentOf({ ask: ask(child) }, message()), { title: "", agent: undefined })
})
