/**
 * The honesty scripts on OpenCode 1.x.
 */
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { Effect, Function, Predicate, Schedule, Schema } from "effect"
import { HttpClientRequest } from "effect/http"
import type { Ask, End, Prompt, Script, Seen, Talk, Target, Words } from "./Script.ts"
import { asArray, bodyOf, both, executing, field, idOf, listen, makeNaming, textOf } from "./Wire.ts"

export const words: Words = {
  line: "1.x",
  shell: (command) => ({ tool: "bash", args: { command, description: "run" } }),
  read: (filePath) => ({ tool: "read", args: { filePath } }),
  write: (filePath, content) => ({ tool: "write", args: { filePath, content } }),
  edit: (filePath, oldString, newString) => ({ tool: "edit", args: { filePath, oldString, newString } }),
  fetch: (url) => ({ tool: "webfetch", args: { url, format: "text" } }),
  ask: (...questions) => ({ tool: "question", args: { questions: questions.map((question) => ({ ...question })) } }),
  subagent: (steps, { agent = "general", ...fields } = {}) => ({
    tool: "task",
    args: { description: "look", prompt: ScriptedModel.prompt("look", steps), subagent_type: agent, ...fields }
  })
}

const Event = Schema.Struct({
  type: Schema.String,
  properties: Schema.Record(Schema.String, Schema.Unknown)
})
type Event = typeof Event.Type

/** Sends a request about the target's folder. */
export const sending = (target: Target) =>
  executing(target, HttpClientRequest.setUrlParam("directory", target.directory))

const bodyOfPrompt = ({ fields, files = [], id, mentions = [], steps }: Prompt, script: Script) => ({
  // Our own ids sort before the ids of any server whose clock shows the current time.
  ...(id !== undefined && { messageID: `msg_00000000000${id}00000000000000` }),
  ...(script.agent !== undefined && { agent: script.agent }),
  ...(script.model !== undefined && { model: { providerID: script.model.providerID, modelID: script.model.id } }),
  parts: [
    {
      ...(id !== undefined && { id: `prt_00000000000${id}00000000000000` }),
      type: "text",
      text: ScriptedModel.prompt("go", steps)
    },
    ...files.map(({ mime, name, url }) => ({ type: "file", mime, url, ...(name !== undefined && { filename: name }) })),
    ...mentions.map((name) => ({ type: "agent", name }))
  ],
  ...fields
})

const idlesOf: Readonly<Record<End, number>> = { answered: 1, refused: 1, failed: 2, stopped: 2 }

/** Runs a script, and reads everything that the server says about it. */
export const run = Effect.fnUntraced(function*(target: Target, script: Script) {
  const execute = yield* sending(target)
  const send: Talk["send"] = (method, path, body) =>
    Effect.flatMap(
      execute(method, path, body),
      (response) => response.status === 204 ? Effect.succeed(204) : bodyOf(response)
    )
  const stream = yield* listen(execute("GET", "/event"), Event)
  const { all: events, next } = stream
  const before = yield* target.modelCalls
  const session = yield* send("POST", "/session", { title: "honest", ...script.session })
  const sessionId = idOf(session)
  const isOfRoot = (type: string) => (event: Event) =>
    event.type === type && event.properties["sessionID"] === sessionId
  const post: Talk["post"] = (prompt) =>
    send("POST", `/session/${sessionId}/prompt_async`, bodyOfPrompt(prompt, script))
  const isAsked = (kind: "permission" | "question") => ({ type }: Event) => type === `${kind}.asked`
  const permit = ({ id }: Ask, body: object) => send("POST", `/permission/${id}/reply`, body)
  const childrenOf = (id: string) => Effect.map(send("GET", `/session/${id}/children`), asArray)
  const talk: Talk = {
    sessionId,
    send,
    post,
    asks: Effect.map(both(stream, isAsked("permission"), isAsked("question")), ([permission, question]) => ({
      permission: askOf(permission),
      question: askOf(question)
    })),
    permission: Effect.map(next(isAsked("permission")), askOf),
    question: Effect.map(next(isAsked("question")), askOf),
    allow: (ask, reply) => permit(ask, { reply }),
    refuse: (ask, message) => permit(ask, { reply: "reject", ...(message !== undefined && { message }) }),
    answer: ({ id }, answers) => send("POST", `/question/${id}/reply`, { answers }),
    dismiss: ({ id }) => send("POST", `/question/${id}/reject`),
    pieces: (count) => Effect.replicateEffect(next(({ type }) => type === "message.part.delta"), count),
    printed: (output) => next(({ properties }) => JSON.stringify(properties).includes(`"output":"${output}\\n"`)),
    called: next(({ properties, type }) =>
      type === "message.part.updated" && JSON.stringify(properties).includes(`"status":"completed"`)
    ),
    retried: next(({ properties, type }) =>
      type === "session.status" && textOf(properties["status"], "type") === "retry"
    ),
    stored: next(({ properties, type }) => type === "message.updated" && field(properties["info"], "role") === "user"),
    failed: next(isOfRoot("session.error")),
    ended: next(isOfRoot("session.idle")),
    children: Effect.map(childrenOf(sessionId), (children) => children.map(idOf)),
    stop: (id = sessionId) => send("POST", `/session/${id}/abort`),
    release: target.release
  }
  const accepted = yield* post(typeof script.prompt === "function" ? script.prompt(target.directory) : script.prompt)
  if (script.during !== undefined) yield* script.during(talk)

  const { ends = ["answered"] } = script
  const told = script.told1x ?? { idles: ends.reduce((idles, end) => idles + idlesOf[end], 0), errors: 0 }
  const countOf = (type: string) => events.filter(isOfRoot(type)).length
  while (countOf("session.idle") < told.idles || countOf("session.error") < told.errors) {
    yield* next((event) => isOfRoot("session.idle")(event) || isOfRoot("session.error")(event))
  }
  const ids = messageIds(events, sessionId)
  const promptId = ids[0] ?? ""
  if (script.repository === "written" && !isComplete(promptId, events)) {
    yield* next((event) => isComplete(promptId, [event]))
  }

  const children = yield* childrenOf(sessionId)
  const grandchildren = (yield* Effect.forEach(children.map(idOf), childrenOf)).flat()
  const sessions = [sessionId, ...[...children, ...grandchildren].map(idOf)]
  const messagesOf = Effect.forEach(sessions, (id) => send("GET", `/session/${id}/message`))
  const isAtWork = Effect.gen(function*() {
    const status = yield* send("GET", "/session/status")
    return sessions.some((id) => Predicate.hasProperty(status, id)) ||
      /"status":"(?:pending|running)"/.test(JSON.stringify(yield* messagesOf))
  })
  const isRacy = script.isRacy === true || script.isRacy === "1.x"
  if (isRacy) yield* Effect.repeat(isAtWork, { while: (isAtWork) => isAtWork, schedule: Schedule.spaced("20 millis") })

  const even = isRacy ? withEvenStops : Function.identity<ReadonlyArray<unknown>>
  const messages = even(yield* messagesOf)
  const wire = makeNormaliser(target.directory)({
    accepted,
    events: isRacy ? [] : sessions.map((id) => timeless(events, id)),
    messages,
    singles: even(yield* Effect.forEach(ids, (id) => send("GET", `/session/${sessionId}/message/${id}`))),
    status: Object.entries(Object(yield* send("GET", "/session/status"))).filter(([id]) => sessions.includes(id)),
    todos: yield* send("GET", `/session/${sessionId}/todo`),
    asks: yield* Effect.forEach(
      ["/permission", "/question"],
      (path) =>
        Effect.map(
          send("GET", path),
          (asks) => asArray(asks).filter((ask) => sessions.includes(textOf(ask, "sessionID")))
        )
    ),
    children,
    grandchildren,
    diffs: yield* Effect.forEach(
      [`?messageID=${promptId}`, ""],
      (query) => send("GET", `/session/${sessionId}/diff${query}`)
    )
  })
  const calls = script.isRacy === true ? 0 : (yield* target.modelCalls) - before
  const seen: Seen = { wire, account: { calls, sessions: messages.map((list) => accountsOf(asArray(list))) } }
  return seen
}, Effect.scoped)

// internal

const askOf = ({ properties }: Event): Ask => ({
  id: idOf(properties),
  sessionId: textOf(properties, "sessionID"),
  about: asArray(properties["patterns"]).join()
})

/** The messages of a session in the words of both lines. 1.x puts an order before a summary that it needs, and an input behind it. */
const accountsOf = (messages: ReadonlyArray<unknown>): ReadonlyArray<string> =>
  messages.flatMap((message, index) => {
    if (isSummary(message)) {
      return [field(field(message, "info"), "error") === undefined ? "sums up" : "sums up nothing"]
    }
    const isBetween = isSummary(messages[index - 1]) || isSummary(messages[index + 1])
    return isBetween && field(field(message, "info"), "role") === "user" ? [] : accountOf(message)
  })

const isSummary = (message: unknown): boolean => field(field(message, "info"), "summary") === true

/** A message in the words of both lines. */
const accountOf = (message: unknown): ReadonlyArray<string> => {
  const info = field(message, "info")
  if (field(info, "role") === "user") return ["prompt"]
  const error = textOf(field(info, "error"), "name")
  return [
    ...asArray(field(message, "parts")).flatMap((part) => {
      const text = textOf(part, "text").trim()
      switch (field(part, "type")) {
        case "text":
          return text === "" ? [] : [`says ${text}`]
        case "reasoning":
          return text === "" ? [] : [`thinks ${text}`]
        case "tool":
          // A call of a tool that the session does not have is stored as one of this tool, which ran.
          if (textOf(part, "tool") === "invalid") {
            return [`${toolOf(textOf(field(field(part, "state"), "input"), "tool"))} failed`]
          }
          return [
            `${toolOf(textOf(part, "tool"))} ${
              field(field(part, "state"), "status") === "completed" ? "ran" : "failed"
            }`
          ]
        default:
          return []
      }
    }),
    ...(error === "" ? [] : [error === "MessageAbortedError" ? "stopped" : "failed"])
  ]
}

const toolOf = (name: string): string => ({ bash: "shell", task: "subagent" })[name] ?? name

/** Whether a prompt's message lists the files that its turn has changed. */
const isComplete = (promptId: string, events: ReadonlyArray<Event>): boolean =>
  events.some(({ properties: { info }, type }) =>
    type === "message.updated" && idOf(info) === promptId && Predicate.hasProperty(info, "summary") &&
    JSON.stringify(info.summary).includes("last.txt")
  )

/** Reads each message of a session by its id, because a list does not show all of them. */
const messageIds = (events: ReadonlyArray<Event>, sessionId: string): ReadonlyArray<string> => [
  ...new Set(
    events.flatMap(({ properties, type }) =>
      type === "message.updated" && properties["sessionID"] === sessionId ? [idOf(properties["info"])] : []
    )
  )
]

/**
 * The events of one session without those that depend on timing on the real server:
 * - The server sends some events at any time, also after the end of the turn: `session.updated`, `session.diff`, and a user message again with
 *   its summary.
 * - A running tool reports at any rate, so only the first report of each part is kept.
 * - The event that opens a message is made of a reference and may be written when the message is complete, so its content varies.
 */
const timeless = (events: ReadonlyArray<Event>, sessionId: string): ReadonlyArray<Event> => {
  const seen = new Set<string>()
  const isFirst = (id: string) => !seen.has(id) && seen.add(id).has(id)
  return events.flatMap(({ properties, type }) => {
    const { info, part, sessionID } = properties
    if (sessionID !== sessionId || type === "session.updated" || type === "session.diff") return []
    if (type === "message.updated" && Predicate.hasProperty(info, "role")) {
      if (isFirst(idOf(info))) return [{ type, properties: { opened: idOf(info), role: info.role } }]
      if (info.role === "user") return []
    }
    if (Predicate.hasProperty(part, "state") && isRunning(part.state) && !isFirst(idOf(part))) return []
    return [{ type, properties }]
  })
}

/**
 * A command that is stopped ends in one of two ways on the real server (1.18.33): its turn gives it up, or the command itself tells its end
 * before.
 */
const withEvenStops = (value: ReadonlyArray<unknown>): ReadonlyArray<unknown> => value.map(evenStop)

const evenStop = (value: unknown): unknown =>
  Array.isArray(value)
    ? value.map(evenStop)
    : typeof value !== "object" || value === null
    ? value
    : isStopped(value)
    ? { status: "stopped", input: field(value, "input") }
    : Object.fromEntries(Object.entries(value).map(([key, item]) => [key, evenStop(item)]))

const isStopped = (state: object): boolean =>
  field(state, "status") === "error"
    ? field(state, "error") === "Tool execution aborted"
    : textOf(state, "output").includes("User aborted the command")

const isPrinting = (value: object): boolean => isRunning(value) && !Predicate.hasProperty(value, "title")

const isRunning = (value: unknown): boolean => Predicate.hasProperty(value, "status") && value.status === "running"

/**
 * Replaces ids by their order of appearance, and everything that depends on time, place or chance: the output of a running tool so far,
 * whether a user message has its summary yet, and OpenCode's own texts for its model.
 */
export const makeNormaliser = (directory: string) => {
  const name = makeNaming()
  const text = (value: string) =>
    value
      .replaceAll(directory, "/directory")
      .replaceAll(/\b(?:ses|msg|prt|per|que|call)_[0-9A-Za-z-]{8,}/g, name)
      .replace(/^01[0-9A-Z]{24}$/, "call of a subtask")
      .replace(/^[0-9a-f]{40}$/, "hash")
      .replace(/ Did you mean: .*$/s, "")
      .replace(/\n {4}at .*$/s, "")
  const visit = (key: string, value: unknown): unknown => {
    if (key === "time" && typeof value === "object" && value !== null) return Object.keys(value).sort()
    if (["time", "next", "slug", "responseHeaders", "url", "ref"].includes(key)) return "…"
    if (typeof value === "string") return text(value)
    if (Array.isArray(value)) return value.map((item) => visit("", item))
    if (typeof value === "object" && value !== null) {
      const isUser = Predicate.hasProperty(value, "role") && value.role === "user"
      return Object.fromEntries(
        Object.entries(value)
          .filter(([key]) => !(isUser && key === "summary") && !(key === "metadata" && isPrinting(value)))
          .sort(([left], [right]) => (left < right ? -1 : 1))
          .map(([key, item]) => [key, key === "text" && "synthetic" in value ? "…" : visit(key, item)])
      )
    }
    return value
  }
  return (value: unknown) => visit("", value)
}
