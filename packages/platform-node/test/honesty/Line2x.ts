/**
 * The honesty scripts on OpenCode 2.x.
 */
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { Effect, Predicate, Schedule, Schema } from "effect"
import type { Ask, Prompt, Script, Seen, Talk, Target, Words } from "./Script.ts"
import { asArray, bodyOf, both, executing, field, idOf, listen, makeNaming, textOf } from "./Wire.ts"

export const words: Words = {
  line: "2.x",
  shell: (command) => ({ tool: "shell", args: { command, description: "run" } }),
  read: (path) => ({ tool: "read", args: { path } }),
  write: (path, content) => ({ tool: "write", args: { path, content } }),
  edit: (path, oldString, newString) => ({ tool: "edit", args: { path, oldString, newString } }),
  fetch: (url) => ({ tool: "webfetch", args: { url, format: "text" } }),
  ask: (...questions) => ({ tool: "question", args: { questions: questions.map((question) => ({ ...question })) } }),
  subagent: (steps, { agent = "general", ...fields } = {}) => ({
    tool: "subagent",
    args: { agent, description: "look", prompt: ScriptedModel.prompt("look", steps), ...fields }
  })
}

const Event = Schema.Struct({
  type: Schema.String,
  data: Schema.Record(Schema.String, Schema.Unknown),
  durable: Schema.optionalKey(Schema.Struct({ seq: Schema.Int, version: Schema.Int, aggregateID: Schema.String })),
  location: Schema.optionalKey(Schema.Unknown)
})
type Event = typeof Event.Type

const bodyOfPrompt = ({ fields, files, id, mentions, steps }: Prompt) => ({
  ...(id !== undefined && { id: `msg_honest${String(id).padStart(8, "0")}` }),
  text: ScriptedModel.prompt("go", steps),
  ...(files !== undefined && {
    files: files.map(({ name, url }) => ({ uri: url, ...(name !== undefined && { name }) }))
  }),
  ...(mentions !== undefined && { agents: mentions.map((name) => ({ name })) }),
  ...fields
})

const isEnd = ({ type }: Event) => /^session\.execution\.(?:succeeded|failed|interrupted)$/.test(type)

const isPermission = ({ type }: Event) => type === "permission.asked"

const isForm = ({ type }: Event) => type === "form.created"

const askOf = ({ data, type }: Event): Ask => {
  const info = type === "form.created" ? data["form"] : data
  return { id: idOf(info), sessionId: textOf(info, "sessionID"), about: asArray(data["resources"]).join() }
}

const isPiece = ({ type }: Event) => /^session\.(?:text|reasoning|compaction)\.delta$/.test(type)

/** Runs a script, and reads everything that the server says about it. */
export const run = Effect.fnUntraced(function*(target: Target, script: Script) {
  const execute = yield* executing(target)
  const send: Talk["send"] = (method, path, body) =>
    Effect.flatMap(execute(method, path, body), (response) =>
      response.status === 204
        ? Effect.succeed(204)
        : Effect.map(bodyOf(response), (json) => response.status === 200 ? json : { status: response.status, json }))
  const stream = yield* listen(execute("GET", "/api/event"), Event)
  const { all: events, next } = stream
  const before = yield* target.modelCalls
  const created = yield* send("POST", "/api/session", {
    location: { directory: target.directory },
    ...(script.agent !== undefined && { agent: script.agent }),
    ...(script.model !== undefined && { model: script.model }),
    ...script.session
  })
  const sessionId = idOf(field(created, "data"))
  const session = `/api/session/${sessionId}`
  const post: Talk["post"] = (prompt) => send("POST", `${session}/prompt`, bodyOfPrompt(prompt))
  const isEndOfRoot = (event: Event) => isEnd(event) && event.data["sessionID"] === sessionId
  const permit = (ask: Ask, body: object) =>
    send("POST", `/api/session/${ask.sessionId}/permission/${ask.id}/reply`, body)
  const form = (ask: Ask, action: "cancel" | "reply", body?: object) =>
    send("POST", `/api/session/${ask.sessionId}/form/${ask.id}/${action}`, body)
  const childrenOf = (id: string) =>
    Effect.map(send("GET", `/api/session?parentID=${id}&order=asc`), (answer) => asArray(field(answer, "data")))
  const talk: Talk = {
    sessionId,
    send,
    post,
    asks: Effect.map(both(stream, isPermission, isForm), ([permission, form]) => ({
      permission: askOf(permission),
      question: askOf(form)
    })),
    permission: Effect.map(next(isPermission), askOf),
    question: Effect.map(next(isForm), askOf),
    allow: (ask, reply) => permit(ask, { reply }),
    refuse: (ask, message) => permit(ask, { reply: "reject", ...(message !== undefined && { message }) }),
    answer: (ask, answers) =>
      form(ask, "reply", {
        answer: Object.fromEntries(
          answers.flatMap((given, index) =>
            given.length === 0 ? [] : [[`q${index}`, given.length === 1 ? given[0] : given]]
          )
        )
      }),
    dismiss: (ask) => form(ask, "cancel"),
    pieces: (count) => Effect.replicateEffect(next(isPiece), count),
    // What a command prints is told at its end (0.0.0-next-16350).
    printed: () =>
      next(({ data, type }) => type === "session.tool.progress" && Predicate.hasProperty(data["metadata"], "shellID")),
    called: next(({ type }) => type === "session.tool.success"),
    retried: next(({ type }) => type === "session.retry.scheduled"),
    stored: Effect.void,
    failed: next((event) => isEndOfRoot(event) && event.type === "session.execution.failed"),
    ended: next(isEndOfRoot),
    children: Effect.map(childrenOf(sessionId), (children) => children.map(idOf)),
    stop: (id = sessionId) => send("POST", `/api/session/${id}/interrupt`),
    release: target.release
  }
  const accepted = yield* post(typeof script.prompt === "function" ? script.prompt(target.directory) : script.prompt)
  const said = script.during === undefined ? undefined : yield* script.during(talk)
  const { after = [] } = script
  if (after.length > 0) yield* talk.ended
  const answers = yield* Effect.forEach(after, (act) => act(talk))
  while (events.filter(isEndOfRoot).length < (script.ends ?? ["answered"]).length) yield* next(isEnd)

  const children = yield* childrenOf(sessionId)
  const grandchildren = (yield* Effect.forEach(children.map(idOf), childrenOf)).flat()
  const sessions = [sessionId, ...[...children, ...grandchildren].map(idOf)]
  const active = Effect.map(send("GET", "/api/session/active"), (answer) => JSON.stringify(field(answer, "data")))
  yield* Effect.repeat(active, {
    until: (ids) => !sessions.some((id) => ids.includes(id)),
    schedule: Schedule.spaced("20 millis")
  })

  const isRacy = script.isRacy === true || script.isRacy === "2.x"
  const messages = yield* Effect.forEach(
    sessions,
    (id) => send("GET", `/api/session/${id}/message?order=asc&limit=100`)
  )
  const logOf = (id: string) =>
    Effect.map(
      Effect.flatMap(execute("GET", `/api/experimental/session/${id}/log`), bodyOf),
      (text) =>
        String(text).split("\n")
          .filter((line) => line.startsWith("data: "))
          .map((line): unknown => JSON.parse(line.slice("data: ".length)))
          .filter((entry) => !isOfTitle(entry) && textOf(entry, "type") !== "log.synced")
          .map(loggedOf)
    )
  const wire = makeNormaliser(target.directory, script.chance)({
    created,
    accepted,
    said: script.isSaid === true ? said : undefined,
    answers,
    events: isRacy ? [] : sessions.map((id) => ofSession(events, id)),
    logs: isRacy ? [] : yield* Effect.forEach(sessions, logOf),
    messages,
    session: yield* send("GET", session),
    pending: yield* send("GET", `${session}/pending`),
    asks: yield* Effect.forEach(["permission", "form"], (kind) => send("GET", `${session}/${kind}`)),
    children,
    grandchildren
  })
  const calls = script.isRacy === true ? 0 : (yield* target.modelCalls) - before
  const seen: Seen = {
    wire,
    account: { calls, sessions: messages.map((page) => asArray(field(page, "data")).flatMap(accountOf)) }
  }
  return seen
}, Effect.scoped)

// internal

/** A message in the words of both lines. */
const accountOf = (message: unknown): ReadonlyArray<string> => {
  const type = textOf(message, "type")
  if (type === "user") return ["prompt"]
  if (type === "compaction") return [textOf(message, "status") === "completed" ? "sums up" : "sums up nothing"]
  if (type !== "assistant") return []
  const error = textOf(field(message, "error"), "type")
  return [
    ...asArray(field(message, "content")).flatMap((part) => {
      const text = textOf(part, "text").trim()
      switch (field(part, "type")) {
        case "text":
          return text === "" ? [] : [`says ${text}`]
        case "reasoning":
          return text === "" ? [] : [`thinks ${text}`]
        case "tool":
          return [`${textOf(part, "name")} ${field(field(part, "state"), "status") === "completed" ? "ran" : "failed"}`]
        default:
          return []
      }
    }),
    ...(error === "" ? [] : [error === "aborted" ? "stopped" : "failed"])
  ]
}

/** The server makes a title of the first prompt, at any time. The fake makes none. */
const isOfTitle = (event: unknown) =>
  textOf(event, "type") === "session.renamed" ||
  (textOf(event, "type") === "session.usage.recorded" && textOf(field(event, "data"), "source") === "title")

/** An event of the log, with what only the log tells: the usage of a summary, and the id that its message has. */
const loggedOf = (entry: unknown) => {
  const type = textOf(entry, "type")
  const data = field(entry, "data")
  if (type === "session.usage.recorded") return { type, data }
  return type === "session.compaction.started" && textOf(data, "reason") === "auto"
    ? { type, of: textOf(entry, "id").replace("evt_", "msg_") }
    : type
}

/**
 * The events of one session without those that depend on chance:
 * - those of titles, and the sums of usage, which count the title;
 * - the instructions, of which the fake knows nothing.
 *
 * The numbers of the log count the events that are compared.
 */
const ofSession = (events: ReadonlyArray<Event>, id: string) => {
  let seq = 0
  return events.flatMap(({ data, durable, location, type }) => {
    const form = data["form"]
    const owner = Predicate.hasProperty(form, "sessionID") ? form.sessionID : data["sessionID"]
    if (owner !== id || isOfTitle({ type, data }) || type === "session.usage.updated") return []
    const numbered = durable === undefined ? {} : { durable: { version: durable.version, seq: seq++ } }
    return [{
      type,
      data: type === "session.instructions.updated" ? {} : data,
      ...numbered,
      isLocated: location !== undefined
    }]
  })
}

/** The first one counts the events of the session, with those of its title. */
const chances = ["admittedSeq", "at", "timeCreated", "slug", "title", "cursor", "subpath", "path"]

/** Replaces ids by their order of appearance, and everything that depends on time, place or chance. */
export const makeNormaliser = (directory: string, chance: ReadonlyArray<string> = []) => {
  const name = makeNaming()
  const text = (value: string) =>
    value
      .replaceAll(directory, "/directory")
      .replaceAll(/\b(?:ses|msg|per|frm|sh|call)_[0-9A-Za-z-]{8,}/g, name)
      .replace(/\b[0-9a-f]{40}\b/, "hash")
      .replace(/New session - .*/, "New session")
  const visit = (key: string, value: unknown): unknown => {
    if (key === "time" && typeof value === "object" && value !== null) return Object.keys(value).sort()
    if ([...chances, ...chance].includes(key)) return "…"
    // The number of an event as it came counts those of the title.
    if (key === "durable" && Predicate.hasProperty(value, "aggregateID")) return "…"
    if (typeof value === "string") return text(value)
    if (Array.isArray(value)) return value.map((item) => visit("", item))
    if (typeof value === "object" && value !== null) {
      // A session counts its title.
      const isSession = Predicate.hasProperty(value, "location") || Predicate.hasProperty(value, "projectID")
      return Object.fromEntries(
        Object.entries(value)
          .filter(([key]) => !(isSession && (key === "cost" || key === "tokens")))
          .sort(([left], [right]) => (left < right ? -1 : 1))
          .map(([key, item]) => [key, visit(key, item)])
      )
    }
    return value
  }
  return (value: unknown) => visit("", value)
}
