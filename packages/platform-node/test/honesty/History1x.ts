/**
 * Forks, reverts and compactions on OpenCode 1.x.
 */
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { Effect, Predicate, Schedule } from "effect"
import { makeNormaliser, sending, words } from "./Line1x.ts"
import type { Target } from "./Script.ts"
import type { Method } from "./Wire.ts"
import { asArray, bodyOf, idOf } from "./Wire.ts"

const model = { providerID: "scripted", modelID: "m" }

/** Forks, reverts and compactions of a session, and what its next prompts find. */
export const history = Effect.fnUntraced(function*(target: Target) {
  const execute = yield* sending(target)
  const send = (method: Method, path: string, body?: unknown) =>
    Effect.flatMap(
      execute(method, path, body),
      (response) => Effect.map(bodyOf(response), (answer) => [response.status, answer] as const)
    )
  const said: Array<unknown> = []
  const tell = (what: string, value: unknown) => said.push([what, value])
  const make = Effect.map(
    send("POST", "/session", { title: "history", metadata: { a: 1 }, permission: [rule] }),
    ([, session]) => idOf(session)
  )
  const ask = (id: string, steps: ReadonlyArray<ScriptedModel.Step>, text = "go") =>
    send("POST", `/session/${id}/message`, { parts: [{ type: "text", text: ScriptedModel.prompt(text, steps) }] })
  const messages = (id: string) =>
    Effect.map(send("GET", `/session/${id}/message`), ([, list]) => asArray(list).map(withoutSummary))
  const ids = (id: string) => Effect.map(messages(id), (all) => all.map((message) => idOf(infoOf(message))))
  const session = (id: string) => Effect.map(send("GET", `/session/${id}`), ([, info]) => steady(info))

  const first = yield* make
  yield* ask(first, [write("a.txt", "A1\n"), { text: "first" }])
  yield* ask(first, [write("a.txt", "A2\n"), write("b.txt", "B\n"), { text: "second" }])
  const all = yield* ids(first)
  for (const before of [undefined, ...all, "msg_zzzz"]) {
    const [status, forked] = yield* send("POST", `/session/${first}/fork`, { ...(before && { messageID: before }) })
    tell("fork", [status, steady(forked), yield* messages(idOf(forked)), yield* session(idOf(forked))])
  }
  const prompts = (yield* messages(first)).map(infoOf).filter(isOfUser).map(idOf)
  tell("revert", steadyAnswer(yield* send("POST", `/session/${first}/revert`, { messageID: prompts[1] })))
  tell("hidden", yield* messages(first))
  tell("fork of reverted", (yield* ids(idOf((yield* send("POST", `/session/${first}/fork`, {}))[1]))).length)
  tell("again", steadyAnswer(yield* send("POST", `/session/${first}/revert`, { messageID: all.at(-1) })))
  tell("unrevert", steadyAnswer(yield* send("POST", `/session/${first}/unrevert`)))
  tell("unrevert again", steadyAnswer(yield* send("POST", `/session/${first}/unrevert`)))
  tell("nothing", steadyAnswer(yield* send("POST", `/session/${first}/revert`, { messageID: "msg_zzzz" })))
  yield* ask(first, [replace("a.txt", "A2", "A3"), replace("b.txt", "B", "C"), { text: "third" }])
  yield* send("POST", `/session/${first}/revert`, { messageID: prompts[1] })
  yield* ask(first, [replace("a.txt", "A1", "A4"), write("b.txt", "D\n"), { text: "fourth" }])
  tell("after a revert", [yield* messages(first), yield* session(first)])

  const second = yield* make
  yield* ask(second, [{ text: "first" }])
  tell("compact", yield* send("POST", `/session/${second}/summarize`, model))
  yield* ask(second, [{ text: "second" }])
  tell("compacted", [yield* messages(second), yield* session(second)])
  yield* send("POST", `/session/${second}/revert`, { messageID: (yield* ids(second))[0] })
  tell("compact reverted", yield* send("POST", `/session/${second}/summarize`, model))
  tell("compacted again", yield* messages(second))

  const third = yield* make
  yield* ask(third, [{ text: "first" }], "no summary")
  tell("no summary", yield* send("POST", `/session/${third}/summarize`, model))
  tell("left", yield* messages(third))
  yield* ask(third, [{ text: "second" }])
  tell("eaten", yield* messages(third))
  for (const id of (yield* ids(third)).slice(2)) {
    tell("delete", yield* send("DELETE", `/session/${third}/message/${id}`))
  }
  yield* ask(third, [{ text: "third" }])
  tell("answered", yield* messages(third))

  const fourth = yield* make
  tell("unknown model", yield* send("POST", `/session/${fourth}/summarize`, { providerID: "a", modelID: "b" }))
  tell("left", yield* messages(fourth))
  yield* ask(fourth, [{ text: "first" }])
  tell("eaten", yield* messages(fourth))

  const busy = yield* make
  const asked = yield* send("POST", `/session/${busy}/prompt_async`, {
    parts: [{ type: "text", text: ScriptedModel.prompt("go", [{ text: "held", gate: "history" }]) }]
  }).pipe(
    Effect.ignore
  )
  const isBusy = Effect.map(send("GET", "/session/status"), ([, statuses]) => Predicate.hasProperty(statuses, busy))
  yield* Effect.repeat(isBusy, { until: (isBusy) => isBusy, schedule: Schedule.spaced("20 millis") })
  tell("busy", [
    asked,
    yield* send("POST", `/session/${busy}/revert`, { messageID: "msg_1" }),
    yield* send("POST", `/session/${busy}/unrevert`),
    yield* send("DELETE", `/session/${busy}/message/msg_1`)
  ])
  yield* send("POST", `/session/${busy}/abort`)

  for (const verb of ["fork", "revert", "unrevert", "summarize"]) {
    tell(verb, yield* send("POST", `/session/ses_unknown000/${verb}`, { messageID: "msg_1", ...model }))
  }
  tell("bad fork", yield* send("POST", `/session/${second}/fork`, { messageID: "nope" }))
  tell("bad revert", yield* send("POST", `/session/${second}/revert`, { messageID: "nope" }))
  tell("bad summarize", yield* send("POST", `/session/${second}/summarize`, {}))
  return makeNormaliser(target.directory)(said)
})

const { edit: replace, write } = words

const rule = { permission: "webfetch", pattern: "*", action: "allow" }

const infoOf = (message: unknown): unknown => Predicate.hasProperty(message, "info") ? message.info : undefined

const isOfUser = (info: unknown): boolean => Predicate.hasProperty(info, "role") && info.role === "user"

/** The list of changed files comes some time after the answer. */
const withoutSummary = (message: unknown): unknown => {
  if (!Predicate.hasProperty(message, "info") || !Predicate.isObject(message)) return message
  const { info } = message
  if (!isOfUser(info) || !Predicate.isObject(info)) return message
  return { ...message, info: { ...info, summary: undefined } }
}

/** A session without its summary of changes, which the fake does not count, and the text of a diff. */
const steady = (session: unknown): unknown => {
  if (!Predicate.isObject(session)) return session
  const { cost, revert, summary: _summary, ...info }: Record<string, unknown> = { ...session }
  return {
    ...info,
    cost: Number(cost).toFixed(8),
    ...(Predicate.isObject(revert) && { revert: { ...revert, diff: undefined } })
  }
}

const steadyAnswer = ([status, session]: readonly [number, unknown]) => [status, steady(session)]
