/**
 * What users can import. A change of it is a change of the contract: it is made here, and told in a changeset.
 */
import { assert, it } from "@effect/vitest"
import * as core from "@opencode-turn/core"
import * as steps from "@opencode-turn/core/steps"
import { readFileSync } from "node:fs"

const pathsOf = (name: string): Array<string> => {
  const url = new URL(`../../${name}/package.json`, import.meta.url)
  const { exports, publishConfig } = JSON.parse(readFileSync(url, "utf8"))
  assert.deepStrictEqual(
    Object.keys(publishConfig.exports),
    Object.keys(exports),
    "the same published as in the repository"
  )
  return Object.keys(exports).filter((path) => path !== "." && path !== "./package.json").map((path) => path.slice(2))
}

const verbs = [
  "attachTurn",
  "answerAsk",
  "cancelTurn",
  "pendingAsks",
  "pruneMessages",
  "resumeTurn",
  "resumeTurns",
  "runTurn",
  "streamTurn"
]

it("the core gives these verbs and namespaces", () => {
  assert.sameMembers(Object.keys(core), [
    ...verbs,
    "Ask",
    "Ids",
    "Part",
    "Prompt",
    "Tracer",
    "TurnError",
    "TurnPolicy",
    "Usage",
    "Attachment",
    "Client",
    "ClientError",
    "HumanGate",
    "StoredGate",
    "Artifact",
    "Reply",
    "ReplyUpdate",
    "MemorySessionStore",
    "SessionStore",
    "Output",
    "TurnInput",
    "TurnResult",
    "TurnWorker"
  ])
})

it("the core gives these modules", () => {
  assert.sameMembers(pathsOf("core"), [
    "Artifact",
    "Ask",
    "AttachTurn",
    "Attachment",
    "CancelTurn",
    "ChangeNotifier",
    "Client",
    "ClientError",
    "Contained",
    "EventHub",
    "HumanGate",
    "Ids",
    "Journal",
    "MemorySessionStore",
    "Message",
    "Output",
    "Part",
    "PermissionRules",
    "Prompt",
    "Reply",
    "ReplyUpdate",
    "Retrying",
    "SessionStore",
    "StorableIds",
    "StoredAsk",
    "StoredGate",
    "StoredMessage",
    "Subagent",
    "Tracer",
    "Turn",
    "TurnError",
    "TurnEvent",
    "TurnInput",
    "TurnPolicy",
    "TurnResult",
    "TurnWorker",
    "UpstreamFailure",
    "Usage",
    "WireUpdate",
    "steps"
  ])
})

it("the core gives these steps, which may change", () => {
  assert.sameMembers(Object.keys(steps), [
    "AnswerAsks",
    "Drive",
    "LiveReply",
    "ReadArtifacts",
    "ReadExchange",
    "ReadSubagents",
    "PromptCheck",
    "Exchange",
    "Finalize",
    "CheckAgents",
    "Claim",
    "Conclude",
    "EnsureSession",
    "Ownership",
    "RecordPrompt",
    "Refusals",
    "Settle"
  ])
})

it("platform-node gives these modules", () => {
  assert.sameMembers(pathsOf("platform-node"), [
    "Cli",
    "LiveLayer",
    "OpencodeServer",
    "SqlMigrations",
    "SqlSessionStore",
    "SqliteClient",
    "TerminalGate",
    "promise"
  ])
})

it("testing gives these modules", () => {
  assert.sameMembers(pathsOf("testing"), [
    "FakeHttp",
    "FakeHttpClient",
    "FakeOpencode",
    "FakeServer",
    "FaultProxy",
    "Faults",
    "Hostile",
    "ModelScript",
    "ScriptedModel",
    "ScriptedProvider",
    "SessionStoreContract",
    "Storm"
  ])
})
