/**
 * Requests of tests of the fake, past the client of `core`: they see what is on the wire, and what a client would refuse to read.
 */
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"

/** Answers a request of the fake with its status and its decoded body. */
export const request = Effect.fnUntraced(function*(
  method: "GET" | "POST",
  target: string,
  body?: object
) {
  const fake = yield* FakeOpencode.FakeOpencode
  const [path = "", query = ""] = target.split("?", 2)
  const response = yield* fake.handle({
    method,
    path,
    query: Object.fromEntries(new URLSearchParams(query)),
    headers: { "content-type": "application/json" },
    body: body === undefined ? "" : JSON.stringify(body)
  })
  return response._tag === "Body"
    ? { status: response.status, body: response.body === "" ? undefined : decode(response.body) }
    : { status: 0, body: undefined }
})

/** A new session's id. */
export const newSession = (fields: object = {}) =>
  Effect.map(request("POST", "/session", { title: "t", ...fields }), ({ body }) => idOf(body))

/** Posts a prompt of these steps and does not wait. */
export const post = (session: string, steps: ReadonlyArray<Step>, fields: object = {}) =>
  request("POST", `/session/${session}/prompt_async`, {
    parts: [{ type: "text", text: FakeOpencode.prompt("go", steps) }],
    ...fields
  })

/** The ids of a session's subagents. */
export const childrenOf = (session: string) =>
  Effect.map(request("GET", `/session/${session}/children`), ({ body }) => asArray(body).map(idOf))

/** The ids of the permissions that are asked for. */
export const permissions = Effect.map(request("GET", "/permission"), ({ body }) => asArray(body).map(idOf))

/** The assistant messages of a session, each in a line: how it ended, and its parts. */
export const answersOf = Effect.fnUntraced(function*(session: string) {
  const fake = yield* FakeOpencode.FakeOpencode
  return (yield* fake.messages(session)).flatMap(({ info, parts }) => {
    if (info.role !== "assistant") return []
    const said = parts.flatMap((part) =>
      part.type === "text" ? [part.text] : part.type === "tool" ? [part.state.error ?? part.state.status] : []
    )
    return [[info.error?.name ?? info.finish ?? "open", ...said].join(": ")]
  })
})

export const idOf = (value: unknown): string =>
  Predicate.hasProperty(value, "id") && typeof value.id === "string" ? value.id : ""

export const asArray = (value: unknown): ReadonlyArray<unknown> => Array.isArray(value) ? value : []

const decode = (text: string): unknown => JSON.parse(text)
