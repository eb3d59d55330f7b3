/**
 * The routes of OpenCode 1.x on the fake: the meaning of a request, and the shapes of responses and errors (1.18.33).
 *
 * **Not responsibilities**: state (`State`, `Turn`), credentials and faults, which are handled earlier.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { Agents } from "../Agent.ts"
import type { Events, Properties } from "../Events.ts"
import type { FakeRequest, FakeResponse } from "../Http.ts"
import { html, json, text, unknownError } from "../Http.ts"
import type { Models } from "../Models.ts"
import { evaluate } from "../Permission.ts"
import * as Failures from "./Failure.ts"
import * as History from "./History.ts"
import * as Payload from "./Payload.ts"
import type { AskResult, State, StoredSession } from "./State.ts"
import { decoded, version } from "./State.ts"
import type { Turn } from "./Turn.ts"
import type { AskInfo, Message } from "./Wire.ts"
import { zeroTokens } from "./Wire.ts"

/**
 * @category models
 * @since 0.1.0
 */
export interface Services {
  readonly state: State
  readonly turn: Turn
  readonly events: Events
  readonly agents: Agents
  readonly models: Models
  /** The server's own directory, which is the default of every request. */
  readonly directory: string
  /** Whether a folder exists; every folder does unless the test says otherwise. */
  readonly isFolder: (directory: string) => boolean
  /** Called after a new prompt was stored. */
  readonly onPrompt: (sessionId: string, messageId: string) => void
}

/**
 * Answers a request.
 *
 * @category combinators
 * @since 0.1.0
 */
export const handle = (services: Services, request: FakeRequest): Effect.Effect<FakeResponse> => {
  for (const { method, path, run } of routes) {
    if (method !== request.method) continue
    const match = path.exec(request.path)
    if (match !== null) return run(services, request, match[1] ?? "", match[2] ?? "")
  }
  return Effect.succeed(html)
}

/**
 * The directory of a request: its parameter, its header, or the server's own. The server decodes the parameter a second time and the
 * header once; a value that cannot be decoded stays unchanged (1.18.33).
 *
 * @category getters
 * @since 0.1.0
 */
export const directoryOf = (services: Services, { headers, query }: FakeRequest): string => {
  const named = query["directory"] || headers["x-opencode-directory"] || services.directory
  return normalize(services.directory, decoded(named))
}

// internal

/** Makes a path absolute, without `.`, `..` and repeated slashes. The fake has no links. */
const normalize = (base: string, directory: string): string => {
  const names: Array<string> = []
  for (const name of (directory.startsWith("/") ? directory : `${base}/${directory}`).split("/")) {
    if (name === "..") names.pop()
    else if (name !== "" && name !== ".") names.push(name)
  }
  return `/${names.join("/")}`
}

type Run = (
  services: Services,
  request: FakeRequest,
  first: string,
  second: string
) => Effect.Effect<FakeResponse>

interface Route {
  readonly method: string
  readonly path: RegExp
  readonly run: Run
}

const route = (method: string, path: string, run: Run): Route => ({
  method,
  path: new RegExp(`^${path.replaceAll("*", "([^/]+)")}$`),
  run
})

const sync = (run: (...args: Parameters<Run>) => FakeResponse): Run => (...args) => Effect.sync(() => run(...args))

const notFound = (message: string) => json(404, { name: "NotFoundError", data: { message } })

/** Runs with the session of the path. An id of another kind makes the server fail (1.18.33). */
const withSession = (
  run: (
    services: Services,
    session: StoredSession,
    request: FakeRequest,
    second: string
  ) => Effect.Effect<FakeResponse> | FakeResponse
): Run =>
(services, request, id, second) =>
  Effect.suspend(() => {
    if (!id.startsWith("ses")) return Effect.succeed(unknownError())
    const session = services.state.session(id)
    if (session === undefined) return Effect.succeed(notFound(`Session not found: ${id}`))
    const response = run(services, session, request, second)
    return Effect.isEffect(response) ? response : Effect.succeed(response)
  })

const Cursor = Schema.fromJsonString(Schema.Struct({ id: Schema.String, time: Schema.Finite }))
const decodeCursor = Schema.decodeUnknownResult(Schema.StringFromBase64Url.pipe(Schema.decodeTo(Cursor)))
const encodeCursor = Schema.encodeSync(Schema.StringFromBase64Url.pipe(Schema.decodeTo(Cursor)))

/** The newest `limit` messages before the cursor, oldest first, and the cursor of the next page. */
const listMessages = (
  messages: ReadonlyArray<Message>,
  { path, query }: FakeRequest
): FakeResponse => {
  const limit = query["limit"] === undefined ? 0 : Number(query["limit"])
  if (!Number.isInteger(limit)) {
    return Payload.badRequest(`Expected an integer, got ${limit}\n  at ["limit"]`, "Query")
  }
  const { before } = query
  const cursor = before === undefined ? undefined : decodeCursor(before)
  if (cursor !== undefined && (Result.isFailure(cursor) || limit === 0)) return Payload.plainBadRequest
  const older = cursor === undefined ? messages : messages.filter(({ info }) => info.id < cursor.success.id)
  if (limit <= 0 || older.length <= limit) {
    // The server checks only the last page (1.18.33).
    const unreadable = older.findIndex(isUnreadable)
    return unreadable === -1 ? json(200, older) : unreadableFormat(older[unreadable], `[${unreadable}]`)
  }
  const page = older.slice(-limit)
  const [first] = page
  if (first === undefined) return json(200, page)
  const next = encodeCursor({ id: first.info.id, time: first.info.time.created })
  return json(200, page, {
    "access-control-expose-headers": "Link, X-Next-Cursor",
    link: `<http://fake${path}?limit=${limit}&before=${next}>; rel="next"`,
    "x-next-cursor": next
  })
}

/** The server can store a format, but fails to encode it again (1.18.33). */
const isUnreadable = ({ info }: Message): boolean => info.role === "user" && info.format !== undefined

const unreadableFormat = (message: Message | undefined, at: string): FakeResponse => {
  const format = message?.info.role === "user" ? message.info.format : undefined
  return Payload.badRequest(Failures.unreadableFormat(format, at), "Body")
}

/** The files of a folder below the request's directory. A path that is not a folder makes the server fail (1.18.33). */
const listFiles = (services: Services, request: FakeRequest): FakeResponse => {
  const { path } = request.query
  if (path === undefined) return Payload.badRequest(`Missing key\n  at ["path"]`, "Query")
  const directory = directoryOf(services, request)
  const folder = normalize(directory, path)
  if (!services.isFolder(folder)) return unknownError()
  const nodes = services.state.files.entries(folder).map((entry) => {
    const isFolder = entry.endsWith("/")
    const name = isFolder ? entry.slice(0, -1) : entry
    return {
      name,
      path: `${path === "" ? "" : `${path}/`}${entry}`,
      absolute: `${folder}/${name}`,
      type: isFolder ? "directory" : "file",
      ignored: false
    }
  })
  return json(200, nodes)
}

const events = (isGlobal: boolean): Run =>
  sync((services, request) => ({
    _tag: "Events",
    headers: {
      "content-type": "text/event-stream",
      "cache-control": "no-cache, no-transform",
      "x-accel-buffering": "no"
    },
    stream: services.events.connect({ directory: directoryOf(services, request), isGlobal })
  }))

/** Resolves an ask in the request's directory. An ask whose turn was aborted still exists. */
const resolve = (
  services: Services,
  request: FakeRequest,
  kind: "permission" | "question",
  id: string,
  results: (asked: AskInfo, open: ReadonlyArray<AskInfo>) => ReadonlyMap<string, AskResult>,
  event: Properties
): FakeResponse => {
  const open = services.state.asks(kind, directoryOf(services, request))
  const asked = open.find((info) => info.id === id)
  if (asked !== undefined) {
    services.state.resolveAsks(kind, results(asked, open), event)
    return json(200, true)
  }
  const name = kind === "permission" ? "Permission" : "Question"
  return json(404, { _tag: `${name}NotFoundError`, requestID: id, message: `${name} request not found: ${id}` })
}

/**
 * Rejecting one permission rejects all asks of its session, without the message. Allowing one with `always` also allows those asks of its
 * session that the new rule covers, but no ask of another session.
 */
const replyPermission: Run = sync((services, request, id) => {
  const body = Payload.permissionReply(request)
  if (Result.isFailure(body)) return body.failure
  const { message, reply } = body.success
  const results = (asked: AskInfo, open: ReadonlyArray<AskInfo>): ReadonlyMap<string, AskResult> => {
    const others = open.filter((other) => other.id !== id && other.sessionID === asked.sessionID)
    if (reply === "reject") {
      return new Map<string, AskResult>([
        [id, { _tag: "Rejected", ...(message !== undefined && { message }) }],
        ...others.map((other) => [other.id, { _tag: "Rejected" }] as const)
      ])
    }
    const allowed = [asked]
    if (reply === "always") {
      const directory = directoryOf(services, request)
      services.turn.allowAlways(directory, String(asked["permission"]), strings(asked["always"]))
      const approved = services.turn.approved(directory)
      const isAllowed = (text: string, permission: string) => evaluate(approved, permission, text) === "allow"
      allowed.push(
        ...others.filter((other) =>
          strings(other["patterns"]).every((text) => isAllowed(text, String(other["permission"])))
        )
      )
    }
    return new Map(allowed.map((info) => [info.id, { _tag: "Allowed" }]))
  }
  return resolve(services, request, "permission", id, results, { reply })
})

const strings = (value: unknown): ReadonlyArray<string> => Array.isArray(value) ? value.filter(Predicate.isString) : []

const postPrompt = (isSync: boolean) =>
  withSession((services, session, request) => {
    const body = Payload.prompt(request)
    if (Result.isFailure(body)) return body.failure
    const { state, turn } = services
    const isNew = !session.messages.has(body.success.messageID ?? "")
    const user = turn.prompt(session, body.success)
    if (isNew && user !== undefined) services.onPrompt(session.info.id, user.id)
    if (!isSync) return text(204, "", "")
    if (user === undefined) return unknownError()
    const find = (id: string) => json(200, state.messages(session).find(({ info }) => info.id === id))
    if (body.success.noReply === true) return find(user.id)
    return Effect.map(turn.settled(session), (end) => {
      const last = state.lastPosted(session, "assistant")
      return end === "rejected" || last === undefined ? unknownError() : find(last.id)
    })
  })

/** What changes a session's history, unless the session works. */
const whenIdle = (
  run: (services: Services, session: StoredSession, request: FakeRequest, second: string) => FakeResponse
): Run =>
  withSession((services, session, request, second) => {
    const sessionID = session.info.id
    return services.turn.isBusy(session)
      ? json(409, { _tag: "SessionBusyError", sessionID, message: `Session is busy: ${sessionID}` })
      : run(services, session, request, second)
  })

const providersOf = ({ list, usual }: Models) => ({
  providers: [{
    id: usual.providerID,
    models: Object.fromEntries(list.map(({ id, providerID, variants }) => [id, {
      id,
      providerID,
      variants: Object.fromEntries(variants.map((variant) => [variant, {}]))
    }]))
  }],
  default: { [usual.providerID]: usual.id }
})

const routes: ReadonlyArray<Route> = [
  route("GET", "/global/health", sync(() => json(200, { healthy: true, version }))),
  route(
    "GET",
    "/path",
    sync((services, request) => {
      const directory = directoryOf(services, request)
      const worktree = services.state.files.worktree(directory)
      return json(200, { home: "/home", state: "/home/.local/state", config: "/home/.config", worktree, directory })
    })
  ),
  route("GET", "/file", sync(listFiles)),
  route("GET", "/agent", sync(({ agents }) => json(200, agents.list))),
  route("GET", "/config/providers", sync(({ models }) => json(200, providersOf(models)))),
  route("GET", "/event", events(false)),
  route("GET", "/global/event", events(true)),

  route(
    "POST",
    "/session",
    sync((services, request) => {
      const body = Payload.newSession(request)
      if (Result.isFailure(body)) return body.failure
      const directory = directoryOf(services, request)
      return json(200, services.state.createSession({ ...body.success, directory }).info)
    })
  ),
  route(
    "GET",
    "/session",
    sync((services, { query }) => {
      const limit = Number(query["limit"] ?? 100)
      const sessions = services.state.sessions().filter(({ info }) =>
        query["directory"] === undefined || info.directory === query["directory"]
      )
      return json(200, sessions.slice(0, limit).map(({ info }) => info))
    })
  ),
  route(
    "GET",
    "/session/status",
    sync((services, request) => json(200, services.state.statuses(directoryOf(services, request))))
  ),
  route("GET", "/session/*", withSession((_, session) => json(200, session.info))),
  route(
    "PATCH",
    "/session/*",
    withSession(({ state }, session, request) => {
      const body = Payload.sessionPatch(request)
      if (Result.isFailure(body)) return body.failure
      const { metadata, permission, time, title } = body.success
      state.updateSession(session, {
        ...(title !== undefined && { title }),
        ...(metadata !== undefined && { metadata }),
        ...(permission !== undefined && { permission: [...session.info.permission ?? [], ...permission] }),
        ...(time !== undefined && { time: { ...session.info.time, ...time } })
      })
      return json(200, session.info)
    })
  ),
  route(
    "DELETE",
    "/session/*",
    withSession(({ state }, session) => {
      state.deleteSession(session)
      return json(200, true)
    })
  ),
  route(
    "GET",
    "/session/*/children",
    withSession(({ state }, { info }) =>
      json(
        200,
        state.sessions().toReversed().filter((child) => child.info.parentID === info.id).map((child) => child.info)
      )
    )
  ),
  route(
    "POST",
    "/session/*/fork",
    withSession(({ state }, session, request) => {
      const body = Payload.fork(request)
      if (Result.isFailure(body)) return body.failure
      const { info } = History.fork(state, session, body.success.messageID)
      // The response is that of the empty session (1.18.33).
      return json(200, { ...info, cost: 0, tokens: zeroTokens })
    })
  ),
  route(
    "POST",
    "/session/*/revert",
    whenIdle(({ state }, session, request) => {
      const body = Payload.revert(request)
      if (Result.isFailure(body)) return body.failure
      History.revert(state, session, body.success.messageID)
      return json(200, session.info)
    })
  ),
  route(
    "POST",
    "/session/*/unrevert",
    whenIdle(({ state }, session) => {
      History.unrevert(state, session)
      return json(200, session.info)
    })
  ),
  route(
    "POST",
    "/session/*/summarize",
    withSession(({ turn }, session, request) => {
      const body = Payload.summarize(request)
      if (Result.isFailure(body)) return body.failure
      const { auto = false, ...model } = body.success
      turn.order(session, model, auto)
      return Effect.map(turn.settled(session), (end) => (end === "rejected" ? unknownError() : json(200, true)))
    })
  ),
  route(
    "DELETE",
    "/session/*/message/*",
    whenIdle(({ state }, session, _request, messageId) => {
      state.removeMessage(session, messageId)
      return json(200, true)
    })
  ),
  route("GET", "/session/*/todo", withSession((_, { todos }) => json(200, todos))),
  route(
    "GET",
    "/session/*/diff",
    sync(({ state }, { query }, id) => {
      const messageId = query["messageID"]
      if (messageId !== undefined && !messageId.startsWith("msg")) {
        const found = JSON.stringify(messageId)
        return Payload.badRequest(
          `Expected a string starting with "msg", got ${found}\n  at ["messageID"]`,
          "Query"
        )
      }
      if (messageId === undefined) return json(200, [])
      const session = state.session(id)
      if (session === undefined) return unknownError()
      const info = session.messages.get(messageId)?.info
      return json(200, info?.role === "user" ? info.summary?.diffs ?? [] : [])
    })
  ),
  route(
    "POST",
    "/session/*/abort",
    (services, _request, id) => {
      const session = services.state.session(id)
      return Effect.as(session === undefined ? Effect.void : services.turn.abort(session), json(200, true))
    }
  ),

  route(
    "GET",
    "/session/*/message",
    withSession(({ state }, session, request) => listMessages(state.messages(session), request))
  ),
  route("POST", "/session/*/message", postPrompt(true)),
  route("POST", "/session/*/prompt_async", postPrompt(false)),
  route(
    "GET",
    "/session/*/message/*",
    sync(({ state }, _request, id, messageId) => {
      if (!messageId.startsWith("msg")) {
        const message = `Expected a string starting with "msg", got ${JSON.stringify(messageId)}\n  at ["messageID"]`
        return Payload.badRequest(message, "Params")
      }
      const session = state.session(id)
      const message = session && state.messages(session).find(({ info }) => info.id === messageId)
      if (message === undefined) return notFound(`Message not found: ${messageId}`)
      return isUnreadable(message) ? unreadableFormat(message, "") : json(200, message)
    })
  ),

  route(
    "GET",
    "/permission",
    sync((services, request) => json(200, services.state.asks("permission", directoryOf(services, request))))
  ),
  route("POST", "/permission/*/reply", replyPermission),
  route(
    "GET",
    "/question",
    sync((services, request) => json(200, services.state.asks("question", directoryOf(services, request))))
  ),
  route(
    "POST",
    "/question/*/reply",
    sync((services, request, id) => {
      const body = Payload.questionReply(request)
      if (Result.isFailure(body)) return body.failure
      const { answers } = body.success
      return resolve(services, request, "question", id, () => new Map([[id, { _tag: "Answered", answers }]]), {
        answers
      })
    })
  ),
  route(
    "POST",
    "/question/*/reject",
    sync((services, request, id) =>
      resolve(services, request, "question", id, () => new Map([[id, { _tag: "Rejected" }]]), {})
    )
  )
]
