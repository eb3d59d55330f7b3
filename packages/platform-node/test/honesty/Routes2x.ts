/**
 * The routes of OpenCode 2.x: the shapes of answers and errors, and the agents.
 */
import { Effect, Schema } from "effect"
import { HttpClientRequest, HttpClientResponse } from "effect/http"
import { makeNormaliser } from "./Line2x.ts"
import type { Target } from "./Script.ts"
import { nowhere } from "./Servers.ts"
import type { Method } from "./Wire.ts"
import { bodyOf, executing, field, idOf, typeOf, unauthorized } from "./Wire.ts"

const requests: ReadonlyArray<readonly [method: Method, path: string, body?: unknown]> = [
  ["POST", "/api/session", { id: "own2" }],
  ["POST", "/api/session", { location: "x" }],
  ["POST", "/api/session", { model: "x" }],
  ["GET", "/api/session/*"],
  ["GET", "/api/session/ses_unknown0"],
  ["GET", "/api/session/nope"],
  ["GET", "/api/session/*/message/msg_unknown0"],
  ["GET", "/api/session/*/message/nope"],
  ["GET", "/api/session/ses_unknown0/message"],
  ["GET", "/api/session/*/message?limit=abc"],
  ["GET", "/api/session/*/message?limit=2&cursor=garbage"],
  ["POST", "/api/session/*/prompt", {}],
  ["POST", "/api/session/*/prompt", { text: 5 }],
  ["POST", "/api/session/*/prompt", { id: "nope", text: "x" }],
  ["POST", "/api/session/*/prompt", { text: "x", delivery: "zzz" }],
  ["POST", "/api/session/ses_unknown0/prompt", { text: "x" }],
  ["POST", "/api/session/*/synthetic", { id: "msg_synthetic", text: "x", resume: false, metadata: { a: 1 } }],
  ["POST", "/api/session/*/synthetic", { id: "msg_synthetic", text: "x", resume: false, metadata: { a: 1 } }],
  ["POST", "/api/session/*/synthetic", { id: "msg_synthetic", text: "other", resume: false }],
  ["POST", "/api/session/*/prompt", { id: "msg_prompt00", text: "x", resume: false, delivery: "queue" }],
  ["POST", "/api/session/*/prompt", { id: "msg_prompt00", text: "y", resume: false, delivery: "queue" }],
  ["GET", "/api/session/*/pending"],
  ["GET", "/api/session/ses_unknown0/pending"],
  ["POST", "/api/session/*/interrupt"],
  ["POST", "/api/session/ses_unknown0/interrupt"],
  ["GET", "/api/session/*/permission"],
  ["POST", "/api/session/*/permission/per_unknown0/reply", { reply: "once" }],
  ["POST", "/api/session/*/permission/per_unknown0/reply", { decision: "once" }],
  ["GET", "/api/session/*/form"],
  ["POST", "/api/session/*/form/frm_unknown0/reply", { answer: {} }],
  ["POST", "/api/session/*/form/frm_unknown0/cancel"],
  ["GET", "/api/session/*/form/frm_unknown0"],
  ["GET", "/api/session/*/form/frm_unknown0/state"],
  ["DELETE", "/api/session/*/form/frm_unknown0"],
  ["POST", "/api/session/*/wait"],
  ["POST", "/api/session/ses_unknown0/wait"],
  ["POST", "/api/session/*/agent", { agent: "plan" }],
  ["POST", "/api/session/*/model", { model: { providerID: "scripted", id: "m" } }],
  ["POST", "/api/session/*/rename", { title: "t" }],
  ["GET", "/api/session/*/message"],
  ["GET", "/api/session/*/message?limit=1"],
  ["GET", "/api/experimental/session/*/log?after=-1"],
  ["GET", "/api/experimental/session/*/log?after=x"],
  ["GET", "/api/experimental/session/ses_unknown0/log"],
  ["GET", "/global/health"],
  ["GET", "/api/info"],
  ["GET", "/api/nope"],
  ["GET", `/api/agent?location%5Bdirectory%5D=${nowhere}`],
  ["GET", "/api/location?location%5Bdirectory%5D=FOLDER"],
  ["GET", `/api/location?location%5Bdirectory%5D=${nowhere}`],
  ["GET", `/api/fs/list?location%5Bdirectory%5D=${nowhere}`],
  ["DELETE", "/api/session/*"],
  ["DELETE", "/api/session/*"]
]

export const answers = Effect.fnUntraced(function*(target: Target) {
  const execute = yield* executing(target)
  const created = yield* Effect.flatMap(
    execute("POST", "/api/session", { location: { directory: target.directory } }),
    bodyOf
  )
  const id = idOf(field(created, "data"))
  const normalise = makeNormaliser(target.directory)
  const seen = yield* Effect.forEach(requests, ([method, path, body]) =>
    Effect.gen(function*() {
      const response = yield* execute(method, path.replace("*", id).replace("FOLDER", target.directory), body)
      return [`${method} ${path}`, response.status, typeOf(response), yield* bodyOf(response)]
    }))
  return [normalise(seen), yield* unauthorized(target, "/api/health")]
})

const Agents = Schema.Struct({
  data: Schema.Array(Schema.Struct({
    id: Schema.String,
    name: Schema.String,
    mode: Schema.String,
    hidden: Schema.Boolean
  }))
})

/** The agents without their rules and their texts. */
export const agents = Effect.fnUntraced(function*(target: Target) {
  const execute = yield* executing(target, HttpClientRequest.setUrlParam("location[directory]", target.directory))
  const { data } = yield* Effect.flatMap(execute("GET", "/api/agent"), HttpClientResponse.schemaBodyJson(Agents))
  return data.toSorted((left, right) => (left.id < right.id ? -1 : 1))
})
