/**
 * OpenCode 2.x over HTTP: its routes and their bodies, those of the release and those of its beta where they differ.
 *
 * **Gotchas** (0.0.0-next-16350)
 *
 * - The server takes any absolute path as a folder, also one that does not exist. It answers 500 when it lists the files of such a path.
 * - Agent, model and system text belong to the session (`Choices`), so they are set before a prompt that names others.
 *
 * @since 0.1.0
 */
import * as Cache from "effect/Cache"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type { PermissionRule } from "../../domain/Ask.ts"
import * as Contained from "../../domain/Contained.ts"
import { makePromptIds, MessageId, SessionId } from "../../domain/Ids.ts"
import type { Message } from "../../domain/Message.ts"
import type { Prompt } from "../../domain/Prompt.ts"
import type { Usage } from "../../domain/Usage.ts"
import type { RequestError } from "../ClientError.ts"
import { DecodeError, MessageNotFound, UnknownDirectory, UnsupportedOperation } from "../ClientError.ts"
import type { Dialect, MessagePage, SessionTree } from "../Dialect.ts"
import * as EventConnection from "../EventConnection.ts"
import { each, Json, maybe } from "../Lenient.ts"
import { type Options, type Requests, segment } from "../Requests.ts"
import { keepsMetadata } from "../SessionWishes.ts"
import { hasStatus, isNotFound, isServerError, orSessionBusy, orSessionNotFound, post } from "../Statuses.ts"
import { toDiff, toUsage, WireDiff } from "../WireValues.ts"
import * as AgentRules from "./AgentRules.ts"
import * as Asks from "./Asks.ts"
import * as CarryOn from "./CarryOn.ts"
import * as Choice from "./Choice.ts"
import * as Choices from "./Choices.ts"
import { carryOut, compact } from "./Compact.ts"
import { makeDecoder } from "./Events.ts"
import * as Limits from "./Limits.ts"
import * as Log from "./Log.ts"
import { messageOf, session, waiting } from "./Routes.ts"
import * as Runs from "./Runs.ts"
import * as StopTree from "./StopTree.ts"
import * as Wire from "./Wire.ts"

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  options: Pick<Options, "directory">,
  requests: Requests
): Effect.fn.Return<Dialect> {
  const { decoded, health, origin, redaction, request, requestJson, requestText, whenReady, withTimeout } = requests
  const runs = Runs.make()
  const log = Log.make(requests)
  const isBeta = () => requests.server()?.line === "2.x-beta"
  const folder = options.directory === undefined ? undefined : withoutLastSlashes(options.directory)
  const location = folder === undefined ? {} : { "location[directory]": folder }
  const inFolder = { urlParams: location }
  const statuses: Dialect["statuses"] = requestJson(
    "session status",
    WireActive,
    HttpClientRequest.get("/api/session/active")
  ).pipe(
    Effect.map(({ data }) => new Map(Object.keys(data).map((id) => [SessionId.make(id), { type: "busy" as const }])))
  )
  const choices = Choices.make(requests, { isBeta, location, statuses })
  const { instruct, known, takeBackInstruction } = choices

  let place: Wire.Place = { directory: folder, worktree: undefined }
  const locate = requestJson("path", Wire.WireLocation, HttpClientRequest.get("/api/location", inFolder)).pipe(
    Effect.map(({ directory, project }) => {
      place = { directory, worktree: project?.directory }
      return directory
    })
  )
  const findDirectory: Effect.Effect<string, RequestError | UnknownDirectory> = Effect.tap(
    locate,
    request("list files", HttpClientRequest.get("/api/fs/list", inFolder))
  ).pipe(
    // The server can list another folder, so that the folder is at fault.
    Effect.catchIf(isServerError, (error) =>
      options.directory === undefined ? Effect.fail(error) : Effect.matchEffect(
        request("list files", HttpClientRequest.get("/api/fs/list", { urlParams: { "location[directory]": "/" } })),
        {
          onFailure: () => Effect.fail(error),
          onSuccess: () => Effect.fail(new UnknownDirectory({ origin, directory: options.directory ?? "" }))
        }
      ))
  )
  const directories = yield* Cache.makeWith(() => findDirectory, {
    capacity: 1,
    timeToLive: (exit) => (Exit.isSuccess(exit) ? directoryMillis : 0)
  })

  const asks = Asks.make(requests, {
    isBeta,
    runs,
    folder: Effect.suspend(() => place.directory === undefined ? locate : Effect.succeed(place.directory)).pipe(
      Effect.map((directory) => ({ "location[directory]": directory }))
    )
  })

  const unsupported = (operation: string, more: Pick<UnsupportedOperation, "field" | "reason"> = {}) =>
    Effect.fail(new UnsupportedOperation({ operation, origin, ...more }))

  /** The newest messages or those before a cursor, newest first. */
  const page = (id: SessionId, limit: number, cursor: string | undefined) =>
    Effect.gen(function*() {
      const operation = "list messages"
      const body = yield* request(
        operation,
        HttpClientRequest.get(session(id, "/message"), {
          urlParams: { limit: String(limit), ...(cursor === undefined ? { order: "desc" } : { cursor }) }
        })
      )
      const { cursor: cursors, data } = yield* decoded(operation, Wire.WirePage, body)
      return { data, next: data.length < limit ? undefined : cursors?.next, size: body.length }
    })

  /** Sessions whose unreadable fields were reported. They are not reported again with every page. */
  const reported = new Set<SessionId>()
  const reportUnread = (id: SessionId, { messages, unread }: Wire.Ordered): Effect.Effect<void> => {
    const fields = [
      ...unread.map(({ field }) => field),
      ...messages.flatMap(({ info, unread = [] }) => unread.map(({ field }) => `${field} of ${info.id}`))
    ]
    const [first] = fields
    if (first === undefined || reported.has(id)) return Effect.void
    reported.add(id)
    for (const oldest of reported) if (reported.size > maxReported) reported.delete(oldest)
    return Contained.report(
      "unreadable messages",
      { session: id, count: String(fields.length) },
      Cause.fail(
        new DecodeError({ operation: "list messages", reason: `the field ${first} is missing or odd` })
      )
    )
  }

  const toMessages = (
    wire: ReadonlyArray<unknown>,
    id: SessionId,
    end: Wire.RunEnd,
    before?: MessageId
  ): Effect.Effect<Wire.Ordered, RequestError> => {
    const untold = Wire.untoldSummaries(wire)
    return untold.length === 0
      ? Effect.succeed(Wire.toMessages(wire, id, place, end, { before }))
      : Effect.map(
        log.summaryUsage(id, untold),
        (usageOf) => Wire.toMessages(wire, id, place, end, { before, usageOf })
      )
  }

  /**
   * A page of at least `limit` messages, read on until it begins with an input: a step does not name the prompt that it answers.
   */
  const listMessages = Effect.fnUntraced(function*(
    id: SessionId,
    { before, limit }: { readonly limit: number; readonly before?: string }
  ): Effect.fn.Return<MessagePage, RequestError> {
    const newestFirst: Array<unknown> = []
    let cursor = before
    let size = 0
    for (let count = 0; count < maxPages; count++) {
      const { data, next, size: read } = yield* page(id, Math.max(limit, count === 0 ? 1 : pageSize), cursor)
      newestFirst.push(...data)
      size += read
      cursor = next
      if (cursor === undefined || Wire.isInput(newestFirst.at(-1)) || size > maxSize) break
    }
    const wire = newestFirst.toReversed()
    const isNewest = before === undefined
    const end = isNewest && !Wire.isSettled(wire) ? yield* log.runEnd(id) : "open"
    const ordered = yield* toMessages(wire, id, end)
    if (isNewest) runs.learn(id, ordered.input, ordered.messages.findLast(isNoSummary))
    yield* reportUnread(id, ordered)
    return {
      messages: ordered.messages.map(redaction.message),
      ...(ordered.unread.length > 0 && { unread: ordered.unread }),
      before: Option.fromUndefinedOr(cursor),
      ...(isNewest && Wire.toCompactions(newestFirst).isLeft && { hasOrder: true }),
      size
    }
  })

  const getSession: Dialect["getSession"] = (id) =>
    known(id).pipe(Effect.map((wire) => Wire.toSession({ id, ...wire })), orSessionNotFound(id))

  const interrupt = (id: SessionId) => request("abort session", HttpClientRequest.post(session(id, "/interrupt")))

  /** The requests that a compaction of the session takes. */
  const compacting = (id: SessionId) => ({
    newest: Effect.map(page(id, pageSize, undefined), ({ data }) => Wire.toCompactions(data)),
    order: Effect.map(
      requestJson(
        "compact session",
        Wire.within(Schema.Struct({ id: MessageId })),
        post(session(id, "/compact"), {})
      ),
      ({ data }) => data.id
    ).pipe(orSessionNotFound(id)),
    wait: Effect.asVoid(requestText("compact session", waiting(id, isBeta()))).pipe(orSessionNotFound(id)),
    find: (messageId: MessageId) =>
      requestJson(
        "get message",
        Wire.within(Schema.Unknown),
        HttpClientRequest.get(messageOf(id, messageId))
      ).pipe(
        Effect.map(({ data }) => Wire.toCompaction(data)),
        Effect.catchIf(isNotFound, () => Effect.undefined)
      ),
    usage: ({ id: summary, usage }: Wire.Compaction) =>
      usage === undefined
        ? Effect.map(log.summaryUsage(id, [summary]), (usageOf) => toUsed(usageOf(summary)))
        : Effect.succeed(toUsed(usage)),
    stop: interrupt(id)
  })

  const checked = Effect.fnUntraced(function*(prompt: Prompt) {
    if (prompt.tools !== undefined) return yield* unsupported("limit the tools of a prompt", { field: "tools" })
    if (prompt.parts.some(({ type }) => type === "subtask")) {
      return yield* unsupported("begin a prompt with a subtask", { field: "prompt" })
    }
    const flaw = Limits.flawOf(prompt, isBeta())
    if (flaw !== undefined) return yield* flaw
  })

  const prompt: Dialect["prompt"] = (id, prompt) =>
    checked(prompt).pipe(
      Effect.catchTag("InvalidInput", ({ field, reason }) =>
        unsupported("prompt a session", { reason: `${field}: ${reason}` })),
      Effect.andThen(choices.choose(id, prompt)),
      Effect.andThen(instruct(id, prompt)),
      Effect.andThen(request("prompt", post(session(id, "/prompt"), Wire.fromPrompt(prompt)))),
      Effect.asVoid,
      orSessionNotFound(id)
    )

  const pending = (id: SessionId) =>
    Effect.map(
      requestJson(
        "list inputs",
        Wire.within(each(WirePending)),
        HttpClientRequest.get(session(id, isBeta() ? "/pending" : "/inbox"))
      ),
      ({ data }) => data
    )

  const waitingIn = (id: SessionId) => Effect.catchIf(pending(id), isNotFound, () => Effect.succeed([]))

  /** Removes inputs that wait, and gives them. The beta cannot do it. */
  const removeInputs = (id: SessionId, isGone: (input: typeof WirePending.Type) => boolean) =>
    Effect.flatMap(waitingIn(id), (waiting) =>
      Effect.forEach(
        waiting.filter(isGone),
        (input) =>
          Effect.as(
            Effect.ignore(
              request("remove input", HttpClientRequest.delete(session(id, `/inbox/${segment(input.id)}`)))
            ),
            input
          )
      ))

  /** The model of the newest step of a session. */
  const lastModel = (id: SessionId) => Effect.map(page(id, pageSize, undefined), ({ data }) => Wire.lastModel(data))

  const hasMessage = (id: SessionId, messageId: MessageId) =>
    request("get message", HttpClientRequest.get(messageOf(id, messageId))).pipe(
      Effect.as(true),
      Effect.catchIf(isNotFound, () => Effect.succeed(false))
    )

  /** The newest input or step of a session. Marks of the server, as of another model, may follow it. */
  const newest = (id: SessionId) =>
    Effect.map(
      page(id, pageSize, undefined),
      ({ data }) => Wire.toMessages(data.toReversed(), id, place, "open").messages.at(-1)?.info.id
    )

  const dropCompaction: Dialect["dropCompaction"] = Effect.fnUntraced(function*(id) {
    // A run that was summarising for itself when its server died has left a message, and no order.
    const hasOrder = (yield* waitingIn(id)).some(({ type }) => type === "compaction")
    if (!hasOrder || (yield* statuses).has(id)) return
    if (isBeta()) yield* carryOut(compacting(id))
    else yield* removeInputs(id, ({ type }) => type === "compaction")
  }, (effect, id) => orSessionNotFound(id)(effect))

  const carryOn: Dialect["carryOn"] = (id, input) =>
    CarryOn.carryOn({
      hasMessage: (messageId) => hasMessage(id, messageId),
      hasWaiting: Effect.map(waitingIn(id), (waiting) => waiting.length > 0),
      newest: newest(id),
      isActive: Effect.map(statuses, (active) => active.has(id)),
      dropOrder: dropCompaction(id),
      post: prompt(id, input),
      instruct: instruct(id, input),
      postOwn: (own) => Effect.asVoid(request("carry on", post(session(id, "/synthetic"), own)))
    }, input.ids).pipe(orSessionNotFound(id))

  /** Removes what waits for the turn. `true`: that was its prompt, which nobody has read. The beta cannot remove anything. */
  const withdraw = Effect.fnUntraced(function*({ promptId, root, subagents }: SessionTree) {
    if (isBeta()) return false
    const removed = yield* removeInputs(root, isOf(promptId, subagents))
    if (promptId === undefined || removed.every(({ id }) => id !== promptId)) return false
    return !(yield* hasMessage(root, promptId))
  })

  const stopTree = (tree: SessionTree) =>
    StopTree.stopTree({
      active: Effect.map(statuses, (active) => new Set(active.keys())),
      newest: (id) =>
        page(id, pageSize, undefined).pipe(
          Effect.map(({ data }) => data),
          Effect.catchIf(isNotFound, () => Effect.succeed([]))
        ),
      runEnd: log.runEnd,
      interrupt: (id) => Effect.catchIf(Effect.asVoid(interrupt(id)), isNotFound, () => Effect.void),
      repost: (id, again) =>
        Effect.catchIf(
          Effect.asVoid(request("prompt", post(session(id, "/prompt"), again))),
          (error) => isNotFound(error) || hasStatus(error, 409),
          () => Effect.void
        ),
      withdraw: withdraw(tree)
    }, tree)

  const { agents } = choices

  const checkRules = Effect.fnUntraced(function*(rules: ReadonlyArray<PermissionRule> = []) {
    if (rules.length === 0 || !isBeta()) return
    const listed = yield* Effect.repeat(agents, { schedule: untilLoaded, until: ({ length }) => length > 0 })
    const reason = AgentRules.flawOf(
      listed.filter(({ hidden }) => hidden !== true).map(Wire.toAgentRules),
      AgentRules.fromRules(rules)
    )
    if (reason !== undefined) {
      return yield* unsupported("give a session permission rules", { field: "permission", reason })
    }
  })

  const dialect: Dialect = {
    origin,
    health,
    directory: Cache.get(directories, ""),

    agents: Effect.map(agents, (agents) => agents.map(Wire.toAgent)),
    checkRules,

    createSession: Effect.fnUntraced(function*({ metadata, parentId, permission, title }) {
      const directory = yield* Cache.get(directories, "")
      yield* checkRules(permission)
      const below = unsupported("make a session below another one")
      if (parentId !== undefined && isBeta()) return yield* below
      const { data } = yield* requestJson(
        "create session",
        Wire.within(Wire.WireSession),
        post("/api/session", {
          location: { directory },
          ...(parentId !== undefined && { parentID: parentId }),
          ...(!isBeta() && {
            ...(title !== undefined && { title }),
            ...(permission !== undefined && { permissions: AgentRules.fromRules(permission) }),
            ...(metadata !== undefined && { metadata })
          })
        })
      )
      if (parentId !== undefined && data.parentID !== parentId) {
        yield* request("delete session", HttpClientRequest.delete(session(data.id)))
        return yield* below
      }
      if (title !== undefined && isBeta()) {
        yield* request("rename session", post(session(data.id, "/rename"), { title }))
      }
      return { ...Wire.toSession(data), ...(title !== undefined && { title }) }
    }),

    getSession,

    updateSession: Effect.fnUntraced(function*(id, { metadata, permission, title }) {
      yield* checkRules(permission)
      if (metadata !== undefined && isBeta()) {
        return yield* unsupported("keep metadata with a session", { field: "metadata" })
      }
      const changes = { ...(title !== undefined && { title }) }
      yield* (isBeta()
        ? title === undefined ? Effect.void : request("update session", post(session(id, "/rename"), changes))
        : request(
          "update session",
          HttpClientRequest.patch(session(id)).pipe(
            HttpClientRequest.bodyJsonUnsafe({
              ...changes,
              ...(metadata !== undefined && { metadata }),
              ...(permission !== undefined && { permissions: AgentRules.fromRules(permission) })
            })
          )
        )).pipe(orSessionNotFound(id))
      const updated = yield* getSession(id)
      return metadata === undefined || keepsMetadata(metadata, updated)
        ? updated
        : yield* unsupported("keep metadata with a session", { field: "metadata" })
    }),

    deleteSession: (id) =>
      request("delete session", HttpClientRequest.delete(session(id))).pipe(Effect.asVoid, orSessionNotFound(id)),

    abortSession: (id) => Effect.asVoid(Effect.catchIf(interrupt(id), isNotFound, () => Effect.void)),

    stopTree: (tree) => stopTree(tree),

    forkSession: (id, { before }) =>
      requestJson(
        "fork session",
        Wire.within(Wire.WireSession),
        // The beta takes `messageID`, and newer releases take `before`. Each passes over the other's name, and copies everything without its own.
        post(session(id, "/fork"), { ...(before !== undefined && { messageID: before, before }) })
      ).pipe(Effect.map(({ data }) => Wire.toSession(data)), orSessionNotFound(id)),

    revertSession: (id, from) =>
      request("revert session", post(session(id, "/revert/stage"), { messageID: from })).pipe(
        // The session, or the message.
        Effect.catchIf(isNotFound, () => Effect.void),
        Effect.andThen(getSession(id)),
        orSessionBusy(id)
      ),

    unrevertSession: (id) =>
      request(
        "unrevert session",
        isBeta()
          ? HttpClientRequest.post(session(id, "/revert/clear"))
          : HttpClientRequest.delete(session(id, "/revert"))
      ).pipe(Effect.andThen(getSession(id)), orSessionNotFound(id), orSessionBusy(id)),

    compactSession: Effect.fnUntraced(function*(id, model) {
      const { model: before, revert } = yield* orSessionNotFound(id)(known(id))
      const by = model && { id: model.modelId, providerID: model.providerId }
      yield* choices.hasModel(by ?? before).pipe(
        Effect.repeat({ schedule: untilListed, until: (isListed) => isListed })
      )
      // A summary of 2.x leaves the revert pending, and tells of what the revert hides.
      if (revert !== undefined) {
        yield* orSessionNotFound(id)(request("commit revert", HttpClientRequest.post(session(id, "/revert/commit"))))
      }
      const usual = before ?? Choice.withoutVariant(yield* choices.usualModel)
      const asked = model ?? Wire.toModel(usual)
      const work = Effect.map(
        compact(compacting(id), id),
        (summary) => (summary.isNew ? { ...summary, model: summary.model ?? asked } : summary)
      )
      if (by === undefined) return yield* work
      // The summary alone is by this model. A process that died with the order may have left it to the session.
      const last = before !== undefined && Choice.isSameModel(Choice.withoutVariant(before), by)
        ? yield* orSessionNotFound(id)(lastModel(id))
        : undefined
      const own = last ?? usual
      const chosen = orSessionNotFound(id)(choices.setModel(id, by))
      if (own === undefined) return yield* Effect.andThen(chosen, work)
      return yield* chosen.pipe(
        Effect.andThen(work),
        Effect.ensuring(Effect.ignore(choices.setModel(id, own)))
      )
    }),

    dropCompaction,

    children: (id) =>
      requestJson(
        "list children",
        Wire.within(each(Wire.WireSession)),
        HttpClientRequest.get("/api/session", { urlParams: { parentID: id, limit: String(maxChildren) } })
      ).pipe(Effect.map(({ data }) => data.map(Wire.toSession)), orSessionNotFound(id)),

    statuses,

    listMessages: (id, page) => orSessionNotFound(id)(listMessages(id, page)),

    getMessage: (sessionId, messageId) =>
      requestJson(
        "get message",
        Wire.within(Schema.Unknown),
        HttpClientRequest.get(messageOf(sessionId, messageId))
      ).pipe(
        Effect.flatMap(({ data }) => {
          const { input, step } = runs.of(sessionId)
          return toMessages([data], sessionId, "open", step?.id === messageId ? step.parentId : input)
        }),
        Effect.flatMap(({ messages: [message] }) =>
          message === undefined
            ? Effect.fail(new DecodeError({ operation: "get message", reason: "id is missing" }))
            : Effect.succeed(redaction.message(message))
        ),
        Effect.catchIf(isNotFound, () => Effect.fail(new MessageNotFound({ sessionId, messageId })))
      ),

    prompt,

    hasPrompt: (id, promptId) =>
      Effect.flatMap(
        hasMessage(id, promptId),
        (isMessage) =>
          isMessage
            ? Effect.succeed(true)
            : Effect.map(waitingIn(id), (waiting) => waiting.some((input) => input.id === promptId))
      ),

    carryOn,

    endPrompt: (id, { system }) => (system === undefined ? Effect.void : takeBackInstruction(id)),

    checkPrompt: (prompt, id) =>
      Effect.andThen(
        checked(prompt),
        id === undefined ? choices.check(id, prompt) : orSessionNotFound(id)(choices.check(id, prompt))
      ),

    // The server refuses one that the model does not have.
    takesVariant: () => Effect.succeed(true),

    promptAndWait: Effect.fnUntraced(function*(id, input) {
      yield* withTimeout("send message", whenReady)
      const { updatedMillis } = yield* getSession(id)
      const floor = { newestMessageId: undefined, sessionUpdatedMillis: updatedMillis }
      const ids = input.ids ?? (yield* makePromptIds(floor, input.parts.length))
      yield* prompt(id, { ...input, ids })
      yield* requestText("send message", waiting(id, isBeta()))
      const { messages } = yield* listMessages(id, { limit: pageSize })
      return yield* Effect.fromNullishOr(answerTo(ids.promptId, messages)).pipe(
        Effect.mapError(() => new DecodeError({ operation: "send message", reason: "the prompt has no answer" }))
      )
    }, (effect, id) => orSessionNotFound(id)(effect)),

    ...asks,

    todos: () => Effect.succeed([]),

    diff: (id, promptId) =>
      isBeta()
        ? Effect.undefined
        : requestJson(
          "diff",
          Wire.within(each(WireDiff)),
          HttpClientRequest.get(session(id, "/diff"), { urlParams: { from: promptId } })
        ).pipe(Effect.map(({ data }) => data.map(toDiff))),

    events: EventConnection.open(
      requests,
      HttpClientRequest.get("/api/event", { accept: "text/event-stream" }),
      () => makeDecoder(runs, () => place)
    )
  }
  return dialect
})

// internal

/**
 * The last message of the answer to a prompt. A prompt that was delivered together with a later one has its answer behind that.
 */
const answerTo = (promptId: MessageId, messages: ReadonlyArray<Message>): Message | undefined => {
  const at = messages.findIndex(({ info }) => info.id === promptId)
  const behind = at < 0 ? [] : messages.slice(at + 1)
  const first = behind.findIndex(({ info }) => info.role === "assistant")
  if (first < 0) return undefined
  const next = behind.findIndex(({ info }, index) => index > first && info.role === "user" && !info.isContinuation)
  return behind.slice(0, next < 0 ? undefined : next).findLast(({ info }) => info.role === "assistant")
}

/** A slash at the end of a folder would make it another one. */
const withoutLastSlashes = (directory: string): string => {
  let end = directory.length
  while (end > 1 && directory[end - 1] === "/") end--
  return directory.slice(0, end)
}

/** The number of sessions that are remembered as reported. */
const maxReported = 1000

/** How long a found folder counts as existing. Turns within this time send no request for it. */
const directoryMillis = 30_000

/** The messages that are read at once until an input is found, at most so many pages, and so many characters. */
const pageSize = 50
const maxPages = 1000
const maxSize = 256 * 1024 * 1024

/** A session may have many children, and the answer says of each but a few hundred bytes. */
const maxChildren = 1000

/** An order to summarise fails at a server that has not learned its models yet, as after a restart (0.0.0-next-16350). */
const untilListed = Schedule.max([Schedule.spaced("100 millis"), Schedule.during("3 seconds")])

/** A server lists no agents until it has loaded the folder (0.0.0-next-16350). */
const untilLoaded = Schedule.max([Schedule.spaced("100 millis"), Schedule.during("10 seconds")])

const WirePending = Schema.Struct({
  id: Schema.String,
  type: maybe(Schema.String),
  payload: maybe(Schema.Struct({ metadata: maybe(Json) }))
})

/**
 * Whether an input that waits belongs to a turn: its prompt, what made it go on, and what its subagents in the background have to say. The
 * others are other clients', and wait for a run of their own.
 */
const isOf =
  (promptId: MessageId | undefined, subagents: ReadonlyArray<SessionId>) =>
  ({ id, payload }: typeof WirePending.Type): boolean => {
    const { childID, source } = payload?.metadata ?? {}
    return id === promptId || source === CarryOn.source || subagents.some((subagent) => subagent === childID)
  }

const WireActive = Schema.Struct({ data: Schema.Record(SessionId, Schema.Unknown) })

const isNoSummary = ({ info }: Message): boolean => info.role !== "assistant" || !info.isSummary

const toUsed = ({ cost, tokens }: Wire.Used = {}): Usage => toUsage(cost, tokens)
