/**
 * The routes of OpenCode 2.x on the fake: the meaning of a request, and the shapes of responses and errors (0.0.0-next-16350).
 *
 * **Not responsibilities**: state (`State`), runs (`Execution`), credentials and faults, which are handled earlier.
 *
 * @since 0.1.0
 */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type { Agents } from "../Agent.ts"
import type { ConnectionReset, Events, Properties } from "../Events.ts"
import { frame } from "../Events.ts"
import { withValue } from "../Expected.ts"
import type { FakeRequest, FakeResponse } from "../Http.ts"
import { json, text } from "../Http.ts"
import type { Models } from "../Models.ts"
import type { Execution } from "./Execution.ts"
import * as History from "./History.ts"
import type { Edition } from "./Names.ts"
import * as Rules from "./Rules.ts"
import type { Ask, AskResult, SettledForm, State, StoredSession } from "./State.ts"
import type { Event, Input } from "./Wire.ts"

/**
 * @category models
 * @since 0.1.0
 */
export interface Services {
  readonly state: State
  readonly execution: Execution
  readonly events: Events
  readonly agents: Agents
  readonly models: Models
  /** The server's own directory, which is the default of every request. */
  readonly directory: string
  readonly isFolder: (directory: string) => boolean
  /** Called after a new prompt was stored. */
  readonly onPrompt: (sessionId: string, messageId: string) => void
  /** Ends the streams of logs when the server dies. */
  readonly untilDeath: Effect.Effect<void>
}

/**
 * Answers a request.
 *
 * @category combinators
 * @since 0.1.0
 */
export const handle = (services: Services, request: FakeRequest): Effect.Effect<FakeResponse> => {
  for (const { edition, method, path, run } of routes) {
    if (method !== request.method || (edition !== undefined && edition !== services.state.names.edition)) continue
    const match = path.exec(request.path)
    if (match === null) continue
    const type = request.headers["content-type"]
    if (request.body !== "" && type !== undefined && !type.startsWith("application/json")) {
      return Effect.succeed(text(415, "text/plain", `Unsupported content-type: ${type}`))
    }
    const response = run(services, request, match[1] ?? "", match[2] ?? "")
    return Effect.isEffect(response) ? response : Effect.succeed(response)
  }
  return Effect.succeed(text(404, "", ""))
}

// internal: routes

type Run = (
  services: Services,
  request: FakeRequest,
  first: string,
  second: string
) => Effect.Effect<FakeResponse> | FakeResponse

interface Route {
  readonly method: string
  readonly path: RegExp
  readonly run: Run
  readonly edition: "beta" | "release" | undefined
}

const route = (method: string, path: string, run: Run, edition?: Route["edition"]): Route => ({
  method,
  path: new RegExp(`^${path.replaceAll("*", "([^/]+)")}$`),
  run,
  edition
})

const failure = (status: number, tag: string, fields: Properties): FakeResponse =>
  json(status, { _tag: tag, ...fields })

const invalid = (message: string, kind: "Params" | "Payload" | "Query") =>
  failure(400, "InvalidRequestError", { message, kind })

const sessionNotFound = (id: string) =>
  failure(404, "SessionNotFoundError", { sessionID: id, message: `Session not found: ${id}` })

const withSession =
  (run: (services: Services, session: StoredSession, request: FakeRequest, second: string) => ReturnType<Run>): Run =>
  (services, request, id, second) => {
    if (!id.startsWith("ses")) {
      return failure(400, "InvalidRequestError", { message: "Invalid session ID", field: "sessionID" })
    }
    const session = services.state.session(id)
    return session === undefined ? sessionNotFound(id) : run(services, session, request, second)
  }

const withBody = <A>(
  schema: Schema.Codec<A, unknown>,
  run: (body: A, services: Services, session: StoredSession, second: string) => ReturnType<Run>
): Run => {
  const read = decodeBody(schema)
  return withSession((services, session, request, second) => {
    const body = read(request)
    return Result.isFailure(body) ? body.failure : run(body.success, services, session, second)
  })
}

const decodeBody = <A>(schema: Schema.Codec<A, unknown>) => {
  const decode = Schema.decodeUnknownResult(schema)
  return ({ body }: FakeRequest): Result.Result<A, FakeResponse> => {
    const parsed = Result.try((): unknown => body === "" ? {} : JSON.parse(body))
    if (Result.isFailure(parsed)) return Result.fail(invalid("Invalid JSON: SyntaxError: JSON Parse error", "Payload"))
    return Result.mapError(
      decode(parsed.success),
      ({ message }) => invalid(withValue(message, parsed.success), "Payload")
    )
  }
}

const nothing = text(204, "", "")

const answer = (data: unknown) => json(200, { data })

const directoryOf = ({ directory }: Services, { query }: FakeRequest): string =>
  query["location[directory]"] ?? query["directory"] ?? directory

/** An answer about a folder. The server fails for a folder that it cannot open. */
const located = (services: Services, request: FakeRequest, data: (directory: string) => unknown): FakeResponse =>
  inLocation(services, request, (location) => ({ location, data: data(location.directory) }))

const inLocation = (
  services: Services,
  request: FakeRequest,
  body: (location: { readonly directory: string; readonly project: object }) => unknown
): FakeResponse => {
  const { files } = services.state
  const directory = directoryOf(services, request)
  if (!services.isFolder(directory)) return text(500, "", "")
  const project = { id: files.isRepository ? "1".repeat(40) : "global", directory: files.worktree(directory) }
  return json(200, body({ directory, project }))
}

const entriesOf = ({ state: { files } }: Services, directory: string) =>
  files.entries(directory).map((name) => ({ path: name, type: name.endsWith("/") ? "directory" : "file" }))

// internal: pages

const Cursor = Schema.fromJsonString(Schema.Struct({
  id: Schema.String,
  order: Schema.Literals(["asc", "desc"]),
  direction: Schema.Literals(["next", "previous"])
}))
const decodeCursor = Schema.decodeUnknownResult(Schema.StringFromBase64Url.pipe(Schema.decodeTo(Cursor)))
const encodeCursor = Schema.encodeSync(Schema.StringFromBase64Url.pipe(Schema.decodeTo(Cursor)))

/** A page of entries that are given oldest first. */
const pageOf = <A extends { readonly id: string }>(
  entries: ReadonlyArray<A>,
  { query }: FakeRequest
): FakeResponse => {
  const limit = Number(query["limit"] ?? 50)
  if (!Number.isInteger(limit)) return invalid(`Expected an integer, got ${limit}\n  at ["limit"]`, "Query")
  const named = query["cursor"]
  if (named !== undefined && query["order"] !== undefined) {
    return failure(400, "InvalidRequestError", { message: "Cursor cannot be combined with order", field: "order" })
  }
  const cursor = named === undefined ? undefined : decodeCursor(named)
  if (cursor !== undefined && Result.isFailure(cursor)) {
    return failure(400, "InvalidCursorError", { message: "Invalid cursor" })
  }
  const order = cursor?.success.order ?? (query["order"] === "asc" ? "asc" : "desc")
  const ordered = order === "asc" ? entries : entries.toReversed()
  const at = cursor === undefined ? -1 : ordered.findIndex(({ id }) => id === cursor.success.id)
  const page = cursor?.success.direction === "previous"
    ? ordered.slice(Math.max(0, at - limit), Math.max(0, at))
    : ordered.slice(at + 1, at + 1 + limit)
  const pointTo = (entry: A | undefined, direction: "next" | "previous") =>
    entry === undefined ? null : encodeCursor({ id: entry.id, order, direction })
  return json(200, {
    data: page,
    cursor: { previous: pointTo(page[0], "previous"), next: pointTo(page.at(-1), "next") }
  })
}

// internal: bodies

const MessageId = Schema.String.check(Schema.isStartingWith("msg_"))
const Delivery = Schema.Literals(["steer", "queue"])
const Model = Schema.Struct({
  id: Schema.String,
  providerID: Schema.String,
  variant: Schema.optionalKey(Schema.String)
})
  .annotate({ identifier: "Model.Ref" })
const Rule = Schema.Struct({
  action: Schema.String,
  resource: Schema.String,
  effect: Schema.Literals(["allow", "ask", "deny"])
})
const Metadata = Schema.Record(Schema.String, Schema.Unknown)

const NewSession = Schema.Struct({
  id: Schema.optionalKey(Schema.NullOr(Schema.String.check(Schema.isStartingWith("ses")))),
  agent: Schema.optionalKey(Schema.NullOr(Schema.String)),
  model: Schema.optionalKey(Schema.NullOr(Model)),
  location: Schema.optionalKey(Schema.NullOr(
    Schema.Struct({ directory: Schema.String }).annotate({ identifier: "Location.Ref" })
  )),
  title: Schema.optionalKey(Schema.String),
  metadata: Schema.optionalKey(Metadata),
  permissions: Schema.optionalKey(Schema.Array(Rule)),
  parentID: Schema.optionalKey(Schema.String)
})

const Patch = Schema.Struct({
  title: Schema.optionalKey(Schema.String),
  metadata: Schema.optionalKey(Metadata),
  permissions: Schema.optionalKey(Schema.Array(Rule))
})

const File = Schema.Struct({
  uri: Schema.String,
  name: Schema.optionalKey(Schema.String),
  description: Schema.optionalKey(Schema.String)
})

const Prompt = Schema.Struct({
  id: Schema.optionalKey(MessageId),
  text: Schema.String,
  files: Schema.optionalKey(Schema.Array(File)),
  agents: Schema.optionalKey(Schema.Array(Schema.Struct({ name: Schema.String }))),
  metadata: Schema.optionalKey(Metadata),
  delivery: Schema.optionalKey(Delivery),
  resume: Schema.optionalKey(Schema.Boolean)
})

const Synthetic = Schema.Struct({
  id: Schema.optionalKey(MessageId),
  text: Schema.String,
  description: Schema.optionalKey(Schema.String),
  metadata: Schema.optionalKey(Metadata),
  delivery: Schema.optionalKey(Delivery),
  resume: Schema.optionalKey(Schema.Boolean)
})

/** A file as the server stores it: its bytes instead of its address. A text says why it cannot. */
const inline = ({ state }: Services, { uri, ...file }: typeof File.Type): Properties | string => {
  if (uri.startsWith("file://")) {
    const { pathname, searchParams } = new URL(uri)
    const path = decodeURIComponent(pathname)
    const content = state.files.read(path)
    if (content === undefined) return `Unable to read attachment: ${uri}`
    const [start, end] = [searchParams.get("start"), searchParams.get("end")]
    const part = start === null
      ? content
      : content.split("\n").slice(Number(start) - 1, end === null ? undefined : Number(end)).join("\n")
    return {
      name: path.slice(path.lastIndexOf("/") + 1),
      ...file,
      mime: "text/plain",
      data: btoa(part),
      source: { type: "uri", uri }
    }
  }
  const [, mime = "text/plain", base64, content] = /^data:([^;,]*)(;base64)?,(.*)$/s.exec(uri) ?? []
  if (content === undefined) return `${URL.canParse(uri) ? "Unsupported" : "Invalid"} attachment URI: ${uri}`
  const data = base64 === undefined ? btoa(decodeURIComponent(content)) : content
  return { ...file, mime: mimeOf(mime, data), data, source: { type: "inline" } }
}

/** The server believes the bytes, and not the address. A text of any kind is plain text. */
const mimeOf = (mime: string, data: string): string => {
  if (mime === "application/pdf") return mime
  if (!mime.startsWith("image/")) return "text/plain"
  return pictures.some((start) => data.startsWith(start)) ? mime : "application/octet-stream"
}

/** How the bytes of a PNG, a JPEG, a GIF and a WebP begin. */
const pictures = ["iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR"]

interface Posted {
  readonly id?: string
  readonly delivery?: Input["delivery"]
  readonly resume?: boolean
}

/** Accepts an input once for each id, and wakes the session every time. */
const post = (
  services: Services,
  session: StoredSession,
  type: Input["type"],
  data: Input["data"],
  { delivery = "steer", id, resume = true }: Posted
): FakeResponse => {
  const { execution, state } = services
  const known = id === undefined ? undefined : state.input(id)
  if (known !== undefined) {
    const isSame = known.type === type && known.delivery === delivery &&
      JSON.stringify(known.data) === JSON.stringify(data)
    const isOther = known.sessionID !== session.info.id || known.type !== type
    // A release ignores what else a repost says (read, not measured).
    if (isOther || (!isSame && state.names.edition === "beta")) {
      const what = type === "user" ? "Prompt message" : "Synthetic input"
      return failure(409, "ConflictError", {
        resource: known.id,
        message: `${what} ID conflicts with an existing durable record: ${known.id}`
      })
    }
    if (resume) execution.wake(session)
    return answer(state.names.answer(known))
  }
  const input = state.admit(session, { id: id ?? state.ids.ascending("msg"), type, data, delivery })
  if (type === "user") services.onPrompt(session.info.id, input.id)
  if (resume) execution.wake(session)
  return answer(state.names.answer(input))
}

// internal: asks

const permissionNotFound = (id: string) =>
  failure(404, "PermissionNotFoundError", { requestID: id, message: `Permission request not found: ${id}` })

const replyPermission: Run = withSession((services, session, request, id) => {
  const { execution, state } = services
  const { decision } = state.names
  const body = decodeBody(Schema.Struct({
    [decision]: Schema.Literals(["once", "always", "reject"]),
    message: Schema.optionalKey(Schema.String)
  }))(request)
  if (Result.isFailure(body)) return body.failure
  const ask = state.findAsk("permission", session.info.id, id)
  if (ask === undefined) return permissionNotFound(id)
  const reply = body.success[decision]
  if (reply === "always") {
    const rules = strings(ask.info["save"]).map((resource) => ({
      action: String(ask.info["action"]),
      resource,
      effect: "allow" as const
    }))
    execution.allowAlways(session, rules)
  }
  const { message } = body.success
  const settle = (ask: Ask, result: AskResult) =>
    state.resolve(ask, result, "permission.replied", { sessionID: session.info.id, requestID: ask.info.id, reply })
  settle(ask, reply === "reject" ? { _tag: "Rejected", message } : { _tag: "Allowed" })
  if (reply === "reject") {
    // What is refused takes the other permissions of its session along, without its message (0.0.0-next-16350).
    for (const { id } of state.asks("permission", (other) => other === session)) {
      const other = state.findAsk("permission", session.info.id, id)
      if (other !== undefined) settle(other, { _tag: "Rejected", message: undefined })
    }
  }
  return nothing
})

const strings = (value: unknown): ReadonlyArray<string> => Array.isArray(value) ? value.map(String) : []

/** Runs with an open form; a settled one is told from one that never was. */
const withForm = (run: (state: State, ask: Ask, request: FakeRequest) => FakeResponse): Run =>
  withSession(({ state }, session, request, id) => {
    const ask = state.findAsk("form", session.info.id, id)
    if (ask !== undefined) return run(state, ask, request)
    return state.settledForm(session.info.id, id) === undefined
      ? formNotFound(id)
      : failure(409, "FormAlreadySettledError", { id, message: `Form already settled: ${id}` })
  })

const formNotFound = (id: string) => failure(404, "FormNotFoundError", { id, message: `Form not found: ${id}` })

/** A form with its state, open or settled. */
const shownForm = (show: (form: SettledForm, edition: Edition) => unknown): Run =>
  withSession(({ state }, session, _, id) => {
    const ask = state.findAsk("form", session.info.id, id)
    const form = ask === undefined
      ? state.settledForm(session.info.id, id)
      : { info: ask.info, state: { status: "pending" } }
    return form === undefined ? formNotFound(id) : answer(show(form, state.names.edition))
  })

const readAnswer = decodeBody(Schema.Struct({ answer: Schema.Record(Schema.String, Schema.Unknown) }))

const replyForm = withForm((state, ask, request) => {
  const body = readAnswer(request)
  if (Result.isFailure(body)) return body.failure
  const { answer } = body.success
  const { id, sessionID } = ask.info
  const keys = Array.isArray(ask.info["fields"]) ? ask.info["fields"].map(({ key }) => String(key)) : []
  const wrong = Object.keys(answer).find((key) => !keys.includes(key))
  if (wrong !== undefined) {
    return failure(400, "FormInvalidAnswerError", { id, message: `Unknown field: ${wrong}` })
  }
  state.resolve(ask, { _tag: "Answered", answer }, "form.replied", { id, sessionID, answer })
  return nothing
})

/** What the steps from one message to another one, or to the end, changed in a repository (read, not measured). */
const diffed: Run = withSession(({ state: { files } }, session, { query: { from, to } }) => {
  const first = from === undefined ? 0 : History.placeOf(session, from)
  if (first < 0) return messageNotFound(session, from ?? "")
  const last = to === undefined ? session.messages.length : History.placeOf(session, to) + 1
  const spans = session.messages.slice(first, last).flatMap((message) => {
    const { end, start } = message.type === "assistant" ? message.snapshot ?? {} : {}
    return typeof start === "string" && typeof end === "string" ? [{ start, end }] : []
  })
  const [begin, end] = [spans[0]?.start, spans.at(-1)?.end]
  return answer(begin === undefined || end === undefined ? [] : files.diffs(session.directory, begin, end))
})

/** A message says to the agent why nobody answered, and the agent goes on (read, not measured). */
const cancelForm = withForm((state, ask, { query }) => {
  const { id, sessionID } = ask.info
  const message = state.names.edition === "release" ? query["message"] : undefined
  state.resolve(ask, { _tag: "Rejected", message }, "form.cancelled", { id, sessionID })
  return nothing
})

// internal: the log

const isNatural = (text: string) => /^\d+$/.test(text)

const log: Run = withSession((services, session, { query }) => {
  const named = query["after"]
  if (named !== undefined && !isNatural(named)) {
    const given = Number(named)
    return Number.isInteger(given)
      ? invalid(`Expected a value greater than or equal to 0, got ${named}\n  at ["after"]`, "Query")
      : invalid(`Expected an integer, got ${given}\n  at ["after"]`, "Query")
  }
  const after = named === undefined ? -1 : Number(named)
  const isLater = ({ durable }: Event) => (durable?.seq ?? 0) > after
  const aggregateID = session.info.id
  const replay = () => [
    ...session.log.filter(isLater).map(frame),
    frame({ type: "log.synced", aggregateID, seq: session.seq - 1 })
  ]
  const stream = query["follow"] === "true" ? followed(services, session, replay) : Stream.fromArray(replay())
  return {
    _tag: "Events",
    headers: { "content-type": "text/event-stream", "cache-control": "no-cache, no-transform" },
    stream: Stream.encodeText(stream)
  }
})

const followed = (services: Services, session: StoredSession, replay: () => ReadonlyArray<string>) =>
  Stream.unwrap(Effect.gen(function*() {
    const queue = yield* Queue.unbounded<string, ConnectionReset | Cause.Done>()
    const follow = (event: Event) => void Queue.offerUnsafe(queue, frame(event))
    for (const text of replay()) Queue.offerUnsafe(queue, text)
    yield* Effect.acquireRelease(
      Effect.sync(() => session.followers.add(follow)),
      () => Effect.sync(() => session.followers.delete(follow))
    )
    yield* Effect.forkScoped(Effect.andThen(services.untilDeath, Effect.sync(() => Queue.endUnsafe(queue))))
    return Stream.fromQueue(queue)
  }))

const isOf = (directory: string) => (session: StoredSession) => session.directory === directory
const isSession = (session: StoredSession) => (other: StoredSession) => other === session

const stopped: Run = withSession(({ execution, state }, session, { query }) =>
  Effect.map(
    execution.interrupt(session, state.names.edition === "release" && query["resume"] === "true"),
    (interrupted) => state.names.edition === "beta" ? nothing : json(200, { interrupted })
  )
)

const settled: Run = withSession(({ execution }, session) => Effect.as(execution.settled(session), nothing))

const inbox: Run = withSession(({ state }, session) =>
  answer([
    ...session.pending.map(state.names.answer),
    ...(session.order === undefined ? [] : [state.names.orderAnswer(session.order)])
  ])
)

const messageNotFound = (session: StoredSession, id: string) =>
  failure(404, "MessageNotFoundError", {
    sessionID: session.info.id,
    messageID: id,
    message: `Message not found: ${id}`
  })

// internal: forks, reverts, summaries and instructions

const readFork = decodeBody(Schema.Struct({
  messageID: Schema.optionalKey(Schema.NullOr(MessageId)),
  before: Schema.optionalKey(Schema.NullOr(MessageId))
}))

const forked: Run = withSession(({ state }, session, request) => {
  const body = readFork(request)
  if (Result.isFailure(body)) return body.failure
  const before = body.success[state.names.edition === "beta" ? "messageID" : "before"] ?? undefined
  return before !== undefined && History.placeOf(session, before) < 0
    ? messageNotFound(session, before)
    : answer(History.fork(state, session, before).info)
})

/** A session that works cannot be reverted. */
const whileIdle = (run: (services: Services, session: StoredSession, request: FakeRequest) => FakeResponse): Run =>
  withSession((services, session, request) =>
    services.execution.isRunning(session)
      ? failure(409, "SessionBusyError", {
        sessionID: session.info.id,
        message: `Session is busy: ${session.info.id}`
      })
      : run(services, session, request)
  )

const readStage = decodeBody(Schema.Struct({
  messageID: MessageId,
  files: Schema.optionalKey(Schema.NullOr(Schema.Boolean))
}))

const staged = whileIdle(({ state }, session, request) => {
  const body = readStage(request)
  if (Result.isFailure(body)) return body.failure
  const { files, messageID } = body.success
  return History.placeOf(session, messageID) < 0
    ? messageNotFound(session, messageID)
    : answer(History.stage(state, session, messageID, files ?? true))
})

const cleared = whileIdle(({ execution, state }, session) => {
  History.clear(state, session)
  execution.wake(session)
  return nothing
})

const committed = whileIdle(({ state }, session) => {
  History.commit(state, session)
  return nothing
})

/** A session has one order at most. */
const ordered = withBody(
  Schema.Struct({ id: Schema.optionalKey(Schema.NullOr(MessageId)) }),
  ({ id }, { execution, state }, session) => {
    const known = session.order
    const isTaken = id !== undefined && id !== null && id !== known?.id &&
      (state.input(id) !== undefined || session.messages.some((message) => message.id === id))
    if (isTaken) {
      return failure(409, "ConflictError", {
        resource: id,
        message: `Compaction input ID conflicts with an existing durable record: ${id}`
      })
    }
    const order = known ?? state.order(session, id ?? state.ids.ascending("msg"))
    execution.wake(session)
    return answer(state.names.orderAnswer(order))
  }
)

const maxInstructionBytes = 8192

const readInstruction = decodeBody(Schema.Struct({ value: Schema.Json }))

const instructed: Run = withSession((_, session, request, key) => {
  const body = readInstruction(request)
  if (Result.isFailure(body)) return body.failure
  const actualBytes = new TextEncoder().encode(JSON.stringify(body.success.value)).length
  if (actualBytes > maxInstructionBytes) {
    return failure(413, "InstructionEntryValueTooLargeError", {
      actualBytes,
      maxBytes: maxInstructionBytes,
      message: `Instruction entry value is ${actualBytes} bytes; the limit is ${maxInstructionBytes} bytes`
    })
  }
  session.instructions = new Map([...session.instructions, [key, body.success.value]])
  return nothing
})

const uninstructed: Run = withSession((_, session, _request, key) => {
  session.instructions = new Map([...session.instructions].filter(([other]) => other !== key))
  return nothing
})

const instructions: Run = withSession((_, session) =>
  answer([...session.instructions].map(([key, value]) => ({ key, value })))
)

const switched = (
  session: StoredSession,
  state: State,
  message: { readonly type: "agent-switched" | "model-switched"; readonly [key: string]: unknown }
) => state.addMessage(session, { ...message, id: state.ids.ascending("msg"), time: { created: state.now() } })

const listOf = ({ list }: Models) =>
  list.map(({ id, providerID, variants }) => ({ id, providerID, name: id, variants: variants.map((id) => ({ id })) }))

const routes: ReadonlyArray<Route> = [
  route(
    "GET",
    "/api/health",
    ({ state }) => json(200, { healthy: true, version: state.names.version, pid: 1 }),
    "beta"
  ),
  route("GET", "/api/server", () => json(200, { urls: ["http://fake"] }), "beta"),
  route(
    "GET",
    "/api/info",
    ({ state }) => json(200, { version: state.names.version, pid: 1, urls: ["http://fake"], paths: { tmp: "/tmp" } }),
    "release"
  ),
  route("GET", "/api/location", (services, request) => inLocation(services, request, (location) => location)),
  route(
    "GET",
    "/api/fs/list",
    (services, request) => located(services, request, (directory) => entriesOf(services, directory))
  ),
  route("GET", "/api/event", ({ directory, events }) => ({
    _tag: "Events",
    headers: { "content-type": "text/event-stream", "cache-control": "no-cache, no-transform" },
    stream: events.connect({ directory, isGlobal: false })
  })),

  route("POST", "/api/session", (services, request) => {
    const { state } = services
    const body = decodeBody(NewSession)(request)
    if (Result.isFailure(body)) return body.failure
    const { agent, id, location, metadata, model, parentID, permissions, title } = body.success
    const isRelease = state.names.edition === "release"
    const session = state.createSession({
      id: id ?? undefined,
      agent: agent ?? undefined,
      model: model ?? undefined,
      directory: location?.directory ?? services.directory,
      ...(isRelease && { metadata, parentID, permissions, title })
    })
    return answer(session.info)
  }),
  route("GET", "/api/session", (services, request) => {
    const { directory, parentID } = request.query
    const found = services.state.sessions().filter(({ info }) =>
      (directory === undefined || info.location.directory === directory) &&
      (parentID === undefined || (info.parentID ?? "null") === parentID)
    )
    return pageOf(found.map(({ info }) => info).toReversed(), request)
  }),
  route("GET", "/api/session/active", ({ execution, state }) =>
    answer(Object.fromEntries(
      state.sessions().filter(execution.isRunning).map(({ info }) => [info.id, { type: "running" }])
    ))),
  route("GET", "/api/session/*", withSession((_, session) => answer(session.info))),
  route(
    "DELETE",
    "/api/session/*",
    withSession(({ execution, state }, session) =>
      Effect.map(execution.interrupt(session), () => {
        state.deleteSession(session)
        return nothing
      })
    )
  ),
  route(
    "POST",
    "/api/session/*/rename",
    withBody(Schema.Struct({ title: Schema.String }), ({ title }, { state }, session) => {
      state.updateSession(session, { title, time: { ...session.info.time, updated: state.now() } })
      state.record(session, "session.renamed", { title })
      return nothing
    }),
    "beta"
  ),
  route(
    "PATCH",
    "/api/session/*",
    withBody(Patch, (patch, { state }, session) => {
      state.updateSession(session, { ...patch, time: { ...session.info.time, updated: state.now() } })
      if (patch.title !== undefined) state.record(session, "session.renamed", { title: patch.title })
      return nothing
    }),
    "release"
  ),
  route(
    "POST",
    "/api/session/*/agent",
    withBody(Schema.Struct({ agent: Schema.String }), ({ agent }, { state }, session) => {
      // The empty name chooses the default agent.
      const { agent: _, ...others } = session.info
      session.info = agent === "" ? others : { ...others, agent }
      switched(session, state, { type: "agent-switched", agent })
      state.record(session, "session.agent.selected", { agent })
      return nothing
    })
  ),
  route(
    "POST",
    "/api/session/*/model",
    withBody(Schema.Struct({ model: Model }), ({ model }, { state }, session) => {
      const chosen = { variant: "default", ...model }
      const before = session.info.model
      const isSame = before?.id === chosen.id && before.providerID === chosen.providerID &&
        before.variant === chosen.variant
      if (isSame) return nothing
      state.updateSession(session, { model: chosen })
      switched(session, state, { type: "model-switched", model, ...(before !== undefined && { previous: before }) })
      state.record(session, "session.model.selected", { model })
      return nothing
    })
  ),

  route(
    "POST",
    "/api/session/*/prompt",
    withBody(Prompt, ({ agents, files = [], text, ...posted }, services, session) => {
      const stored = files.map((file) => inline(services, file))
      const wrong = stored.find((file) => typeof file === "string")
      if (wrong !== undefined) return failure(400, "InvalidRequestError", { message: wrong, field: "files" })
      History.commit(services.state, session)
      return post(services, session, "user", {
        text,
        ...(stored.length > 0 && { files: stored }),
        ...(agents !== undefined && { agents })
      }, posted)
    })
  ),
  route(
    "POST",
    "/api/session/*/synthetic",
    withBody(
      Synthetic,
      ({ delivery, id, resume, ...data }, services, session) =>
        post(services, session, "synthetic", data, {
          ...(delivery !== undefined && { delivery }),
          ...(id !== undefined && { id }),
          ...(resume !== undefined && { resume })
        })
    )
  ),
  route("GET", "/api/session/*/pending", inbox, "beta"),
  route("GET", "/api/session/*/inbox", inbox, "release"),
  route(
    "DELETE",
    "/api/session/*/inbox/*",
    withSession(({ state }, session, _, id) => {
      if (session.order?.id === id) {
        session.order = undefined
        state.record(session, "session.inbox.cancelled", { inboxID: id })
        return nothing
      }
      const input = session.pending.find((input) => input.id === id)
      // One that is gone is no failure (read, not measured).
      if (input !== undefined) state.withdraw(session, input)
      return nothing
    }),
    "release"
  ),
  route(
    "PATCH",
    "/api/session/*/inbox/*",
    withBody(Schema.Struct({ delivery: Delivery }), ({ delivery }, { execution, state }, session, id) => {
      const input = session.pending.find((input) => input.id === id)
      if (input === undefined || input.delivery === delivery) {
        return failure(409, "ConflictError", {
          resource: id,
          message: `Pending input cannot change to ${delivery}`
        })
      }
      state.redeliver(session, input, delivery)
      if (delivery === "steer") execution.wake(session)
      return nothing
    }),
    "release"
  ),
  route("POST", "/api/session/*/interrupt", stopped),
  route("POST", "/api/session/*/fork", forked),
  route("POST", "/api/session/*/revert/stage", staged),
  route("POST", "/api/session/*/revert/clear", cleared, "beta"),
  route("DELETE", "/api/session/*/revert", cleared, "release"),
  route("POST", "/api/session/*/revert/commit", committed),
  route("POST", "/api/session/*/compact", ordered),
  ...(["beta", "release"] as const).flatMap((edition) => {
    const entries = `/api/${edition === "beta" ? "" : "experimental/"}session/*/instructions/entries`
    return [
      route("GET", entries, instructions, edition),
      route("PUT", `${entries}/*`, instructed, edition),
      route("DELETE", `${entries}/*`, uninstructed, edition)
    ]
  }),
  route("POST", "/api/session/*/wait", settled, "beta"),
  route("POST", "/api/experimental/session/*/wait", settled, "release"),
  route("GET", "/api/experimental/session/*/log", log),
  route("GET", "/api/session/*/message", withSession((_, session, request) => pageOf(session.messages, request))),
  route(
    "GET",
    "/api/session/*/message/*",
    withSession((_, session, _request, id) => {
      if (!id.startsWith("msg_")) {
        return invalid(
          `Expected a string starting with "msg_", got ${JSON.stringify(id)}\n  at ["messageID"]`,
          "Params"
        )
      }
      const message = session.messages.find((message) => message.id === id)
      return message === undefined ? messageNotFound(session, id) : answer(message)
    })
  ),

  route(
    "GET",
    "/api/permission/request",
    (services, request) => located(services, request, (directory) => services.state.asks("permission", isOf(directory)))
  ),
  route(
    "GET",
    "/api/session/*/permission",
    withSession(({ state }, session) => answer(state.asks("permission", isSession(session))))
  ),
  route("POST", "/api/session/*/permission/*/reply", replyPermission),
  route(
    "GET",
    "/api/form/request",
    (services, request) => located(services, request, (directory) => services.state.asks("form", isOf(directory))),
    "beta"
  ),
  route(
    "GET",
    "/api/form",
    (services, request) =>
      located(
        services,
        request,
        // Without a name it is the server's own folder, in which no session needs to work (read, not measured).
        (directory) =>
          request.query["location[directory]"] === undefined ? [] : services.state.asks("form", isOf(directory))
      ),
    "release"
  ),
  route(
    "GET",
    "/api/session/*/form",
    withSession(({ state }, session) => answer(state.asks("form", isSession(session))))
  ),
  route(
    "GET",
    "/api/session/*/form/*",
    shownForm(({ info, state }, edition) => edition === "beta" ? info : { ...info, state })
  ),
  route("GET", "/api/session/*/form/*/state", shownForm(({ state }) => state), "beta"),
  route("POST", "/api/session/*/form/*/reply", replyForm),
  route("POST", "/api/session/*/form/*/cancel", cancelForm, "beta"),
  route("DELETE", "/api/session/*/form/*", cancelForm, "release"),
  route("GET", "/api/session/*/diff", diffed, "release"),

  route("GET", "/api/agent", (services, request) => located(services, request, () => Rules.agentsOf(services.agents))),
  route("GET", "/api/model", (services, request) => located(services, request, () => listOf(services.models))),
  route(
    "GET",
    "/api/model/default",
    (services, request) => located(services, request, () => listOf(services.models)[0])
  ),
  route(
    "GET",
    "/api/provider",
    (services, request) => located(services, request, () => [{ id: "scripted", name: "Scripted provider" }])
  )
]
