/**
 * OpenCode 1.x over HTTP: its routes and their bodies. `Requests` sends them.
 *
 * **Gotchas**
 *
 * - `/event`, `/session/status`, `/permission` and `/question` cover one directory, so a client sees only its own (1.18.33).
 * - The server decodes the header `x-opencode-directory` once and the query's `directory` twice, so the directory goes into the header.
 *   It also decodes a session's stored directory on each route of the session (1.18.33): see `sessionHeader`.
 *
 * @since 0.1.0
 */
import * as Cache from "effect/Cache"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type { PermissionRule } from "../../domain/Ask.ts"
import * as Contained from "../../domain/Contained.ts"
import { type MessageId, SessionId } from "../../domain/Ids.ts"
import type { Message } from "../../domain/Message.ts"
import type { Prompt } from "../../domain/Prompt.ts"
import * as Usage from "../../domain/Usage.ts"
import type { RequestError, SessionNotFound } from "../ClientError.ts"
import {
  AskNotFound,
  CompactionFailed,
  DecodeError,
  MessageNotFound,
  UnknownDirectory,
  UnsupportedOperation
} from "../ClientError.ts"
import type { Dialect, MessagePage } from "../Dialect.ts"
import * as EventConnection from "../EventConnection.ts"
import { type Decodable, each } from "../Lenient.ts"
import { type Options, type Requests, segment } from "../Requests.ts"
import { keepsMetadata, keepsRules } from "../SessionWishes.ts"
import { isBusy, isNotFound, isServerError, orSessionBusy, orSessionNotFound, post } from "../Statuses.ts"
import { noVariant, unknownAgent, unknownModel } from "../UnknownChoice.ts"
import { toDiff, WireDiff } from "../WireValues.ts"
import { compact, type Listed, takeBack } from "./Compact.ts"
import { makeDecoder } from "./Events.ts"
import * as OldServers from "./OldServers.ts"
import { stopTree } from "./StopTree.ts"
import * as Wire from "./Wire.ts"

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  options: Pick<Options, "directory" | "workspace">,
  requests: Requests
): Effect.fn.Return<Dialect> {
  const { directory } = options
  const { decoded, health, orAway, origin, read, redaction, send, whenReady, withTimeout } = requests
  const ownHeader = directory === undefined ? {} : directoryHeader(directory)
  const workspaceParam = options.workspace === undefined ? {} : { workspace: options.workspace }

  const located = (request: HttpClientRequest.HttpClientRequest, header = ownHeader) =>
    request.pipe(HttpClientRequest.setHeaders(header), HttpClientRequest.setUrlParams(workspaceParam))
  const request = (operation: string, request: HttpClientRequest.HttpClientRequest, header = ownHeader) =>
    requests.request(operation, located(request, header))
  const requestText = (operation: string, request: HttpClientRequest.HttpClientRequest) =>
    requests.requestText(operation, located(request))
  const requestJson = <S extends Decodable>(
    operation: string,
    schema: S,
    request: HttpClientRequest.HttpClientRequest,
    header = ownHeader
  ) => requests.requestJson(operation, schema, located(request, header))

  const listsFiles = (header: typeof ownHeader) =>
    requestJson(
      "list files",
      Schema.Unknown,
      HttpClientRequest.get("/file", { urlParams: { path: "" } }),
      header
    )

  /** The root may hold a file that a server cannot list (1.17.0); then its own folder tells. */
  const listsAnything = Effect.catchIf(listsFiles(directoryHeader("/")), isServerError, () => listsFiles({}))

  const orUnknownDirectory = (directory: string | undefined) => <A>(request: Effect.Effect<A, RequestError>) =>
    directory === undefined ? request : Effect.catchIf(
      request,
      isServerError,
      (error) =>
        Effect.matchEffect(listsAnything, {
          onFailure: () => Effect.fail(error),
          onSuccess: () => Effect.fail(new UnknownDirectory({ origin, directory }))
        })
    )

  /**
   * The server accepts any path as a folder, and creates sessions in folders that do not exist (1.18.33). It answers
   * 500 when it lists the files of such a path, and 500 to every request about a file where it looks for settings of the
   * project. If it can list another folder, the folder is at fault and not the server.
   */
  const findDirectory: Effect.Effect<string, RequestError | UnknownDirectory> = Effect.gen(function*() {
    const { directory } = yield* requestJson("path", Wire.WirePaths, HttpClientRequest.get("/path")).pipe(
      orUnknownDirectory(options.directory)
    )
    const files = yield* orUnknownDirectory(options.directory ?? directory)(listsFiles(ownHeader))
    const isEmpty = Array.isArray(files) && files.length === 0
    if (options.directory !== undefined && isEmpty && !(yield* mayExist(directory))) {
      return yield* new UnknownDirectory({ origin, directory: options.directory })
    }
    return directory
  })

  /**
   * Whether a folder without files can exist. Some servers list no files of a folder that does not exist (1.1.65 to 1.15.13). Such a
   * server does the same for a folder that nobody has, and then the parent has to list the folder.
   */
  const mayExist = Effect.fnUntraced(function*(directory: string) {
    const at = directory.lastIndexOf("/")
    const name = directory.slice(at + 1)
    if (at < 0 || name === "") return true
    const siblings = yield* listsFiles(directoryHeader(directory.slice(0, at) || "/")).pipe(
      Effect.catchIf(isServerError, () => Effect.succeed([]))
    )
    if (
      Array.isArray(siblings) && siblings.some((entry) => Predicate.hasProperty(entry, "name") && entry.name === name)
    ) return true
    return yield* listsFiles(directoryHeader(missingDirectory)).pipe(
      Effect.as(false),
      Effect.catchIf(isServerError, () => Effect.succeed(true))
    )
  })
  const directories = yield* Cache.makeWith(() => findDirectory, {
    capacity: 1,
    timeToLive: (exit) => (Exit.isSuccess(exit) ? directoryMillis : 0)
  })
  const workingDirectory = Cache.get(directories, "")

  /** Reads a requested message; the request already tells some of its fields. */
  const oneMessage = Effect.fnUntraced(function*(operation: string, body: string, within: Wire.Within) {
    const message = Wire.toMessage(
      yield* decoded(operation, Schema.Record(Schema.String, Schema.Unknown), body),
      within
    )
    if (Option.isNone(message)) return yield* new DecodeError({ operation, reason: "info.id is missing" })
    return redaction.message(message.value)
  })

  /** Sessions whose unreadable fields were reported. They are not reported again with every page. */
  const reported = new Set<SessionId>()
  const reportUnread = (
    sessionId: SessionId,
    operation: string,
    { messages, unread = [] }: Pick<MessagePage, "messages" | "unread">
  ): Effect.Effect<void> => {
    const fields = [...unread.map(({ field }) => field), ...messages.flatMap(unreadFields)]
    const [first] = fields
    if (first === undefined || reported.has(sessionId)) return Effect.void
    reported.add(sessionId)
    for (const oldest of reported) if (reported.size > maxReported) reported.delete(oldest)
    return Contained.report(
      "unreadable messages",
      { session: sessionId, count: String(fields.length) },
      Cause.fail(new DecodeError({ operation, reason: `the field ${first} is missing or odd` }))
    )
  }

  /** The newest messages: enough to hold an order to compact with its summary. */
  const listed = (id: SessionId) =>
    requestJson(
      "list messages",
      Schema.Array(Schema.Unknown),
      HttpClientRequest.get(session(id, "/message"), { urlParams: { limit: "10" } })
    ).pipe(
      Effect.map((wire) =>
        wire.flatMap((entry): ReadonlyArray<Listed> =>
          Option.match(Wire.toMessage(entry, { sessionId: id }), {
            onNone: () => [],
            onSome: (message) => [{ message: redaction.message(message), isOrder: Wire.isOrder(entry) }]
          })
        )
      ),
      orSessionNotFound(id)
    )

  const compacting = (id: SessionId) => ({
    list: listed(id),
    remove: (messageId: MessageId) =>
      request("delete message", HttpClientRequest.delete(session(id, `/message/${segment(messageId)}`))).pipe(
        Effect.asVoid,
        // The session works, perhaps on this very summary.
        Effect.catchIf(isBusy, () => Effect.void)
      )
  })

  const flaws = Effect.map(withTimeout("health", whenReady), ({ version }) => OldServers.flawsOf(version))
  const unsupported = (operation: string, field: NonNullable<UnsupportedOperation["field"]>) =>
    Effect.fail(new UnsupportedOperation({ operation, origin, field }))

  /** Fails before anything is sent, if subagents would have what the rules deny. */
  const mayDeny = (rules: ReadonlyArray<PermissionRule>) =>
    Effect.flatMap(flaws, ({ freesSubagents }) =>
      freesSubagents && OldServers.denyBesideSubagents(rules)
        ? unsupported(
          "keep subagents to the permission rules of a session, before 1.17: deny the permission \"task\" as well",
          "permission"
        )
        : Effect.void)

  /** Fails before anything is sent, if nothing would follow, or if subagents of the prompt would have what is taken away from the session. */
  const mayPrompt = Effect.fnUntraced(function*(
    id: SessionId,
    { agent, parts, tools }: Prompt
  ): Effect.fn.Return<void, RequestError | SessionNotFound> {
    const { freesSubagents, hidesUnknownAgents } = yield* flaws
    if (hidesUnknownAgents && agent !== undefined && (yield* dialect.agents).every(({ name }) => name !== agent)) {
      return yield* unsupported(`prompt the agent ${JSON.stringify(agent)}, which it does not have`, "agent")
    }
    if (!freesSubagents) return
    const opensSubagents = parts.some(({ type }) => type === "subtask" || type === "agent")
    const rules = tools !== undefined && Object.keys(tools).length > 0
      ? OldServers.rulesOf(tools)
      : opensSubagents
      ? (yield* dialect.getSession(id)).permission
      : []
    if (opensSubagents ? OldServers.hasDenial(rules) : tools !== undefined && OldServers.denyBesideSubagents(rules)) {
      return yield* unsupported(
        "keep subagents from the tools that are taken away, before 1.17: take away \"task\" as well, and begin no subagent",
        tools === undefined ? "prompt" : "tools"
      )
    }
  })

  /** The models that can be used. A server that does not list them leaves it open which these are. */
  const models = requestJson("list models", Wire.WireProviders, HttpClientRequest.get("/config/providers")).pipe(
    Effect.catchIf(isNotFound, () => Effect.undefined)
  )

  const dialect: Dialect = {
    origin,
    health,
    directory: workingDirectory,
    checkRules: mayDeny,

    agents: requestJson("list agents", each(Wire.WireAgent), HttpClientRequest.get("/agent")).pipe(
      Effect.map((agents) => agents.map(Wire.toAgent))
    ),

    createSession: Effect.fnUntraced(function*({ metadata, parentId, permission, title }) {
      if (permission !== undefined) yield* mayDeny(permission)
      const resolved = yield* workingDirectory
      const made = Wire.toSession(
        yield* requestJson(
          "create session",
          Wire.WireSession,
          post("/session", {
            ...(title !== undefined && { title }),
            ...(parentId !== undefined && { parentID: parentId }),
            ...(permission !== undefined && { permission }),
            ...(metadata !== undefined && { metadata })
          }),
          directory === undefined ? ownHeader : sessionHeader(resolved)
        )
      )
      if (permission === undefined || keepsRules(permission, made)) return made
      yield* Effect.ignore(dialect.deleteSession(made.id))
      return yield* unsupported("give a session permission rules", "permission")
    }),

    getSession: (id) =>
      requestJson("get session", Wire.WireKnownSession, HttpClientRequest.get(session(id))).pipe(
        Effect.map((wire) => Wire.toSession({ id, ...wire })),
        orSessionNotFound(id)
      ),

    updateSession: Effect.fnUntraced(function*(id, patch) {
      const { metadata, permission } = patch
      if (permission !== undefined && (yield* flaws).freesSubagents) {
        yield* mayDeny([...(yield* dialect.getSession(id)).permission, ...permission])
      }
      const updated = yield* requestJson(
        "update session",
        Wire.WireKnownSession,
        HttpClientRequest.patch(session(id)).pipe(HttpClientRequest.bodyJsonUnsafe(patch))
      ).pipe(Effect.map((wire) => Wire.toSession({ id, ...wire })), orSessionNotFound(id))
      // 1.1.65 to 1.3.2 change the title alone, and servers before 1.15 keep no metadata.
      if (permission !== undefined && !keepsRules(permission, updated)) {
        return yield* unsupported("change the permission rules of a session", "permission")
      }
      if (metadata !== undefined && !keepsMetadata(metadata, updated)) {
        return yield* unsupported("keep metadata with a session", "metadata")
      }
      return updated
    }),

    deleteSession: (id) =>
      request("delete session", HttpClientRequest.delete(session(id))).pipe(Effect.asVoid, orSessionNotFound(id)),

    abortSession: (id) => Effect.asVoid(request("abort session", HttpClientRequest.post(session(id, "/abort")))),

    stopTree: (tree, { isHurried = false } = {}) => stopTree(dialect, tree, isHurried),

    forkSession: (id, { before }) =>
      requestJson(
        "fork session",
        Wire.WireSession,
        post(session(id, "/fork"), { ...(before !== undefined && { messageID: before }) })
      ).pipe(Effect.map(Wire.toSession), orSessionNotFound(id)),

    revertSession: (id, from) =>
      requestJson("revert session", Wire.WireKnownSession, post(session(id, "/revert"), { messageID: from })).pipe(
        Effect.map((wire) => Wire.toSession({ id, ...wire })),
        orSessionNotFound(id),
        orSessionBusy(id)
      ),

    unrevertSession: (id) =>
      requestJson("unrevert session", Wire.WireKnownSession, HttpClientRequest.post(session(id, "/unrevert"))).pipe(
        Effect.map((wire) => Wire.toSession({ id, ...wire })),
        orSessionNotFound(id),
        orSessionBusy(id)
      ),

    compactSession: Effect.fnUntraced(function*(id, model) {
      const by = model ?? (yield* dialect.getSession(id)).model
      if (by === undefined) {
        return yield* new CompactionFailed({ sessionId: id, reason: "the session has no prompt", usage: Usage.zero })
      }
      return yield* compact({
        ...compacting(id),
        order: withTimeout("compact session", whenReady).pipe(
          Effect.andThen(
            requestText(
              "compact session",
              post(session(id, "/summarize"), { providerID: by.providerId, modelID: by.modelId })
            )
          ),
          Effect.asVoid,
          orSessionNotFound(id)
        ),
        abort: dialect.abortSession(id)
      }, id)
    }),

    dropCompaction: (id) => takeBack(compacting(id)),

    children: (id) =>
      requestJson("list children", each(Wire.WireSession), HttpClientRequest.get(session(id, "/children")))
        .pipe(Effect.map((children) => children.map(Wire.toSession)), orSessionNotFound(id)),

    statuses: requestJson(
      "session status",
      Wire.WireStatuses,
      HttpClientRequest.get("/session/status")
    ).pipe(
      Effect.map((statuses) =>
        new Map(Object.entries(statuses).map(([id, status]) => [SessionId.make(id), Wire.toStatus(status)]))
      )
    ),

    listMessages: Effect.fnUntraced(
      function*(id, { before, limit }) {
        const operation = "list messages"
        const get = HttpClientRequest.get(session(id, "/message"), { acceptJson: true }).pipe(
          HttpClientRequest.setUrlParams({ limit: String(limit), ...(before !== undefined && { before }) })
        )
        const [body, cursor] = yield* withTimeout(
          operation,
          Effect.gen(function*() {
            yield* whenReady
            const response = yield* send(operation, located(get))
            return [yield* orAway(operation)(read(operation, response)), response.headers["x-next-cursor"]] as const
          })
        )
        const wire = yield* decoded(operation, Schema.Array(Schema.Unknown), body)
        const page = Wire.toMessages(wire, id)
        yield* reportUnread(id, operation, page)
        return {
          ...page,
          messages: page.messages.map(redaction.message),
          before: Option.fromUndefinedOr(cursor),
          ...(before === undefined && Wire.endsInCompaction(wire, page.messages) && { hasOrder: true }),
          size: body.length
        }
      },
      (effect, id) => orSessionNotFound(id)(effect)
    ),

    getMessage: (sessionId, messageId) =>
      request(
        "get message",
        HttpClientRequest.get(session(sessionId, `/message/${segment(messageId)}`))
      ).pipe(
        Effect.flatMap((body) => oneMessage("get message", body, { sessionId, messageId })),
        Effect.catchIf(isNotFound, () => Effect.fail(new MessageNotFound({ sessionId, messageId })))
      ),

    checkPrompt: Effect.fnUntraced(function*({ agent, model }) {
      if (agent !== undefined && (yield* flaws).hidesUnknownAgents) {
        const agents = yield* dialect.agents
        if (agents.every(({ name }) => name !== agent)) return yield* unknownAgent(agent, agents)
      }
      // The session would keep it for prompts that name none (1.18.33).
      const listed = model && (yield* models)
      if (model !== undefined && listed !== undefined && Wire.findModel(listed, model) === undefined) {
        return yield* unknownModel(model)
      }
    }),

    takesVariant: (model, variant) =>
      Effect.map(models, (listed) => {
        const variants = listed && Wire.findModel(listed, model)?.variants
        return variants === undefined || variant === noVariant || variants.includes(variant)
      }),

    prompt: (id, prompt) =>
      Effect.andThen(
        mayPrompt(id, prompt),
        request("prompt", post(session(id, "/prompt_async"), Wire.fromPrompt(prompt))).pipe(
          Effect.asVoid,
          orSessionNotFound(id)
        )
      ),

    hasPrompt: (id, promptId) =>
      dialect.getMessage(id, promptId).pipe(
        Effect.as(true),
        Effect.catchTag("MessageNotFound", () => Effect.succeed(false)),
        // It is there, and cannot be read: 1.18.33 answers 400 for a prompt with a `format`.
        Effect.catchIf(isUnreadable, () => Effect.succeed(true))
      ),

    // The same ids again make 1.18.33 call the model with what it has.
    carryOn: (id, prompt) => dialect.prompt(id, prompt),

    endPrompt: () => Effect.void,

    promptAndWait: (id, prompt) =>
      Effect.andThen(
        mayPrompt(id, prompt),
        withTimeout("send message", whenReady).pipe(
          Effect.andThen(requestText("send message", post(session(id, "/message"), Wire.fromPrompt(prompt)))),
          Effect.flatMap((body) => oneMessage("send message", body, { sessionId: id })),
          orSessionNotFound(id)
        )
      ),

    questions: requestJson("list questions", each(Wire.WireQuestion), HttpClientRequest.get("/question")).pipe(
      Effect.map((questions) => questions.map(Wire.toQuestion))
    ),

    answerQuestion: (askId, answers) =>
      request("answer question", post(`/question/${segment(askId)}/reply`, { answers })).pipe(
        Effect.asVoid,
        Effect.catchIf(isNotFound, () => Effect.fail(new AskNotFound({ askId })))
      ),

    rejectQuestion: (askId) =>
      request("reject question", HttpClientRequest.post(`/question/${segment(askId)}/reject`)).pipe(
        Effect.asVoid,
        Effect.catchIf(isNotFound, () => Effect.fail(new AskNotFound({ askId })))
      ),

    permissions: requestJson(
      "list permissions",
      each(Wire.WirePermission),
      HttpClientRequest.get("/permission")
    ).pipe(Effect.map((permissions) => permissions.map(Wire.toPermission))),

    answerPermission: (askId, reply) =>
      request("answer permission", post(`/permission/${segment(askId)}/reply`, { ...reply })).pipe(
        Effect.asVoid,
        Effect.catchIf(isNotFound, () => Effect.fail(new AskNotFound({ askId })))
      ),

    todos: (id) =>
      requestJson("list todos", each(Wire.WireTodo), HttpClientRequest.get(session(id, "/todo"))).pipe(
        Effect.map((todos) => todos.map(Wire.toTodo)),
        orSessionNotFound(id)
      ),

    diff: (id, promptId, { isStructured } = { isStructured: false }) =>
      isStructured
        ? Effect.undefined
        : requestJson(
          "diff",
          each(WireDiff),
          HttpClientRequest.get(session(id, "/diff"), { urlParams: { messageID: promptId } })
        ).pipe(Effect.map((files) => files.map(toDiff))),

    events: EventConnection.open(
      requests,
      located(HttpClientRequest.get("/event", { accept: "text/event-stream" })),
      makeDecoder
    )
  }
  return dialect
})

// internal

/** The number of sessions that are remembered as reported. */
const maxReported = 1000

/** The unreadable fields of a message, each with the message's id. */
const unreadFields = ({ altered = [], info, unread = [] }: Message): ReadonlyArray<string> => [
  ...(info.role === "opaque" ? [`${info.field} of ${info.id}`] : []),
  ...altered.map((field) => `${field} of ${info.id}`),
  ...unread.map(({ field }) => `${field} of ${info.id}`)
]

/** A folder that no machine has. */
const missingDirectory = "/.opencode-turn-missing"

/** How long a found folder counts as existing. Turns within this time send no request for it. */
const directoryMillis = 30_000

/**
 * The server decodes the header once. It decodes the `directory` of a query twice, so that `a%20b` becomes the folder
 * `a b` (1.18.33). A lone surrogate occurs in no folder's name and cannot be encoded.
 */
const directoryHeader = (directory: string) => ({
  "x-opencode-directory": encodeURIComponent(directory.toWellFormed())
})

/**
 * Encodes the directory of a new session once more. The server decodes a session's stored directory again on each of
 * its routes, so a session of `a%20b` would work in `a b` (1.18.33). The encoded path does not have to exist.
 */
const sessionHeader = (directory: string) =>
  directoryHeader(Wire.decodeDirectory(directory) === directory ? directory : directory.replaceAll("%", "%25"))

const session = (id: SessionId, rest = "") => `/session/${segment(id)}${rest}`

const isUnreadable = (error: RequestError): boolean =>
  error._tag === "DecodeError" || (error._tag === "StatusError" && error.status === 400)
