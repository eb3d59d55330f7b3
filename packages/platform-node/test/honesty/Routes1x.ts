/**
 * The routes of OpenCode 1.x: the shapes of answers and errors, and the agents.
 */
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { Effect, Schema } from "effect"
import { HttpClientResponse } from "effect/http"
import { makeNormaliser, sending, words } from "./Line1x.ts"
import type { Target } from "./Script.ts"
import { format, structured } from "./scripts/Structured.ts"
import type { Method } from "./Wire.ts"
import { bodyOf, idOf, typeOf, unauthorized } from "./Wire.ts"

const { shell: bash } = words

const prompt = (steps: ReadonlyArray<ScriptedModel.Step>, fields: object = {}) => ({
  parts: [{ type: "text", text: ScriptedModel.prompt("go", steps) }],
  ...fields
})

/** Formats that the server refuses in a prompt. */
const formats: ReadonlyArray<object> = [
  { type: "json_schema" },
  { type: "json_schema", schema: "x" },
  { type: "json_schema", schema: [1] },
  { ...format, retryCount: -1 },
  { ...format, retryCount: 1.5 },
  { type: "nope" }
]

/** Requests by method, path (`*` is the session) and body. Their answers are compared unchanged. */
const requests: ReadonlyArray<readonly [method: Method, path: string, body?: unknown]> = [
  ["GET", "/session/*"],
  ["GET", "/session/*/message?limit=2"],
  ["GET", "/session/*/message?limit=abc"],
  ["GET", "/session/*/message?limit=2&before=garbage"],
  ["GET", "/session/*/message?before=x"],
  ["GET", "/session/*/message/msg_nope"],
  ["GET", "/session/*/message/nope"],
  ["GET", "/session/ses_unknown000"],
  ["GET", "/session/nope"],
  ["GET", "/session/ses_unknown000/message"],
  ["GET", "/session/ses_unknown000/children"],
  ["POST", "/session/ses_unknown000/prompt_async", prompt([])],
  ["POST", "/session/ses_unknown000/message", prompt([])],
  ["POST", "/session/ses_unknown000/abort"],
  ["DELETE", "/session/ses_unknown000"],
  ["PATCH", "/session/ses_unknown000", { title: "x" }],
  ["POST", "/session/*/prompt_async", {}],
  ["POST", "/session/*/prompt_async", { parts: "x" }],
  ["POST", "/session/*/prompt_async", { parts: [{ type: "text" }] }],
  ["POST", "/session/*/prompt_async", { messageID: "nope", parts: [] }],
  ["POST", "/session/*/prompt_async", { parts: [{ id: "zzz", type: "text", text: "x" }] }],
  ["POST", "/session/*/prompt_async", { parts: [{ type: "file", url: "data:," }] }],
  ["POST", "/session/*/prompt_async", { parts: [{ type: "agent" }] }],
  ["POST", "/session/*/prompt_async", { parts: [{ type: "subtask", prompt: "x", description: "y" }] }],
  ["POST", "/session/*/prompt_async", { parts: [{ type: "nope" }] }],
  ["GET", "/session/*/diff"],
  ["GET", "/session/*/diff?messageID=x"],
  ["GET", "/session/*/diff?messageID=msg_nope"],
  ["GET", "/session/ses_unknown000/diff"],
  ["GET", "/session/ses_unknown000/diff?messageID=msg_nope"],
  ["POST", "/session/*/abort"],
  ["POST", "/session", { title: 5 }],
  ["POST", "/session", { permission: { bash: "ask" } }],
  ["PATCH", "/session/*", { title: "new" }],
  ["PATCH", "/session/*", { permission: [{ permission: "edit", pattern: "*", action: "ask" }] }],
  ["POST", "/permission/per_unknown000/reply", { reply: "once" }],
  ["POST", "/permission/per_unknown000/reply", { reply: "maybe" }],
  ["POST", "/question/que_unknown000/reply", { answers: [["A"]] }],
  ["POST", "/question/que_unknown000/reply", { answers: "A" }],
  ["POST", "/question/que_unknown000/reject"],
  ["POST", "/session/*/message", prompt([bash("echo hi"), { text: "done" }])],
  ["POST", "/session/*/message", prompt([{ fail: 400, message: "no" }])],
  ["POST", "/session/*/message", { ...prompt([]), noReply: true }],
  ["POST", "/session/*/message", { ...prompt([]), model: { providerID: "a", modelID: "b" } }],
  ...formats.map((format) => ["POST", "/session/*/prompt_async", { ...prompt([]), format }] as const),
  ["POST", "/session/*/message", { ...prompt([structured(1)]), format }],
  ["POST", "/session/*/message", { ...prompt([]), noReply: true, format }],
  ["GET", "/session/*/message"],
  ["GET", "/session/*/message?limit=2"],
  ["GET", "/session/*/message?limit=3"],
  ["DELETE", "/session/*"],
  ["DELETE", "/session/*"]
]

export const answers = Effect.fnUntraced(function*(target: Target) {
  const execute = yield* sending(target)
  const id = idOf(yield* Effect.flatMap(execute("POST", "/session", { title: "shapes" }), bodyOf))
  for (const text of ["one", "two"]) yield* execute("POST", `/session/${id}/message`, prompt([{ text }]))
  const normalise = makeNormaliser(target.directory)
  const seen = yield* Effect.forEach(requests, ([method, path, body]) =>
    Effect.gen(function*() {
      const response = yield* execute(method, path.replace("*", id), body)
      return [
        `${method} ${path}`,
        response.status,
        typeOf(response),
        "x-next-cursor" in response.headers,
        yield* bodyOf(response)
      ]
    }))
  const open = yield* unauthorized(target, `/session/${id}`)
  const page = yield* execute("GET", "/no-such-route")
  return [normalise(seen), open, [page.status, typeOf(page)]]
})

/** The agents without their texts, and without the rules about the server's own folders. */
export const agents = Effect.fnUntraced(function*(target: Target) {
  const execute = yield* sending(target)
  const response = yield* execute("GET", "/agent")
  const list = yield* HttpClientResponse.schemaBodyJson(Schema.Array(Agent))(response)
  return list.map((agent) => ({
    ...agent,
    permission: agent.permission.filter(({ pattern }) => !/opencode\//.test(pattern))
  }))
})

const Agent = Schema.Struct({
  name: Schema.String,
  mode: Schema.String,
  native: Schema.Boolean,
  hidden: Schema.optionalKey(Schema.NullOr(Schema.Boolean)),
  permission: Schema.Array(Schema.Struct({
    permission: Schema.String,
    pattern: Schema.String,
    action: Schema.String
  })),
  options: Schema.JsonObject
})
