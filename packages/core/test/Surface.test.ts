/**
 * What users can import: the verbs, modules and steps are listed here, and every exported name in `surface.json`. A change of them changes
 * the contract: change the lists too, and describe the change in a changeset.
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
    "the published paths are those of the repository"
  )
  return Object.keys(exports).filter((path) => path !== "." && path !== "./package.json").map((path) => path.slice(2))
}

const verbs = [
  "attachTurn",
  "answerAsk",
  "cancelTurn",
  "compactConversation",
  "forkConversation",
  "pendingAsks",
  "pruneMessages",
  "resumeTurn",
  "resumeTurns",
  "revertTurn",
  "runTurn",
  "streamTurn",
  "unrevertTurn"
]

it("the core exports these verbs and namespaces", () => {
  assert.sameMembers(Object.keys(core), [
    ...verbs,
    "Ask",
    "Ids",
    "Metrics",
    "OperationError",
    "Operations",
    "Part",
    "Prompt",
    "ToolCall",
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
    "ArtifactFile",
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

it("the core exports these modules", () => {
  assert.sameMembers(pathsOf("core"), [
    "Account",
    "Artifact",
    "ArtifactFile",
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
    "Metrics",
    "OpencodeLanguageModel",
    "OpencodeTool",
    "OperationError",
    "Operations",
    "Output",
    "Part",
    "PermissionRules",
    "Prompt",
    "PruneMessages",
    "Reply",
    "ReplyUpdate",
    "Retrying",
    "SessionStore",
    "StorableIds",
    "StoredAsk",
    "StoredGate",
    "StoredMessage",
    "Subagent",
    "Timing",
    "ToolCall",
    "Tracer",
    "Tracing",
    "Turn",
    "TurnError",
    "TurnEvent",
    "TurnInput",
    "TurnPolicy",
    "TurnResult",
    "TurnWorker",
    "UpstreamFailure",
    "Usage",
    "Wait",
    "WireUpdate",
    "steps"
  ])
})

it("the core exports these steps, which may change", () => {
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
    "LimitTools",
    "Lease",
    "OwnServer",
    "Recall",
    "RecordPrompt",
    "Refusals",
    "Settle"
  ])
})

it("platform-node exports these modules", () => {
  assert.sameMembers(pathsOf("platform-node"), [
    "Cli",
    "GatewayApi",
    "LiveLayer",
    "OpencodeServer",
    "SqlMigrations",
    "SqlSessionStore",
    "SqliteClient",
    "Telemetry",
    "TerminalGate",
    "gateway",
    "promise"
  ])
})

it("testing exports these modules", () => {
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

/** The names that a module exports, values and types alike, as its source tells them. */
const namesOf = (url: URL): ReadonlyArray<string> => {
  const source = readFileSync(url, "utf8")
  const declared = source.matchAll(
    /^export (?:abstract class|async function|class|const|function|interface|namespace|type) ([\w$]+)/gm
  )
  const namespaces = source.matchAll(/^export \* as ([\w$]+) from/gm)
  const listed = source.matchAll(/^export (?:type )?\{([^}]*)\}/gm).flatMap(([, list = ""]) => list.split(","))
  const others = source.matchAll(/^export \* from "([^"]+)"/gm).flatMap(([, path = ""]) => namesOf(new URL(path, url)))
  const names = [
    ...declared.map(([, name = ""]) => name),
    ...namespaces.map(([, name = ""]) => name),
    ...listed.map((item) => item.trim().replace(/^type /, "").replace(/^.* as /, "")),
    ...others
  ]
  const unknown = source.match(
    /^export (?!(?:abstract|async|class|const|function|interface|namespace|type|\*|\{) ?).*/gm
  )
  assert.isNull(unknown, `an export that this test cannot read: ${unknown}`)
  return Array.from(new Set(names.filter((name) => name !== ""))).sort()
}

const surfaceOf = (name: string): Record<string, ReadonlyArray<string>> => {
  const folder = new URL(`../../${name}/`, import.meta.url)
  const { exports } = JSON.parse(readFileSync(new URL("package.json", folder), "utf8"))
  return Object.fromEntries(
    Object.entries(exports).filter(([path]) => path !== "./package.json").map(([path, file]) => [
      path,
      namesOf(new URL(String(file), folder))
    ])
  )
}

it.each(["core", "platform-node", "testing"])("%s exports the names that surface.json lists", (name) => {
  const listed = JSON.parse(readFileSync(new URL("surface.json", import.meta.url), "utf8"))[name]
  assert.deepStrictEqual(surfaceOf(name), listed)
})

it("the source of the core's index names what a program finds there", () => {
  const { ".": index, "./steps": ofSteps } = surfaceOf("core")
  assert.sameMembers([...index ?? []], Object.keys(core))
  assert.sameMembers([...ofSteps ?? []], Object.keys(steps))
})
