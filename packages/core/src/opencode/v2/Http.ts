/**
 * OpenCode 2.x over HTTP: its routes and their bodies, those of the release and those of its beta where they differ.
 *
 * **Gotchas** (0.0.0-next-16350)
 *
 * - The server takes any absolute path as a folder, also one that does not exist. It answers 500 when it lists the files of such a path.
 * - Agent and model belong to the session, so they are set before a prompt that names others.
 * - A system text is an instruction of the session. The model is told when it changes and when it is gone, at the next step.
 * - An ask is answered under its own session, and a form by the keys of its fields.
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
import * as Contained from "../../domain/Contained.ts"
import type { AskId } from "../../domain/Ids.ts"
import { MessageId, SessionId } from "../../domain/Ids.ts"
import type { Message } from "../../domain/Message.ts"
import type { Prompt } from "../../domain/Prompt.ts"
import * as Usage from "../../domain/Usage.ts"
import type { RequestError } from "../ClientError.ts"
import {
  AskNotFound,
  DecodeError,
  MessageNotFound,
  SessionBusy,
  SessionNotFound,
  type StatusError,
  UnknownDirectory,
  UnsupportedOperation
} from "../ClientError.ts"
import type { Dialect, MessagePage, SessionTree } from "../Dialect.ts"
import * as EventConnection from "../EventConnection.ts"
import { each, maybe } from "../Lenient.ts"
import { type Options, type Requests, segment } from "../Requests.ts"
import { keepsMetadata } from "../SessionWishes.ts"
import { toDiff, toUsage, WireDiff, WireTokens } from "../WireValues.ts"
import { carryOut, compact } from "./Compact.ts"
import { makeDecoder } from "./Events.ts"
import * as Runs from "./Runs.ts"
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
  const isBeta = () => requests.server()?.line === "2.x-beta"
  const folder = options.directory === undefined ? undefined : withoutLastSlashes(options.directory)
  const location = folder === undefined ? {} : { "location[directory]": folder }
  const inFolder = { urlParams: location }

  let place: Wire.Place = { directory: folder, worktree: undefined }
  const findDirectory: Effect.Effect<string, RequestError | UnknownDirectory> = Effect.gen(function*() {
    const { directory, project } = yield* requestJson(
      "path",
      Wire.WireLocation,
      HttpClientRequest.get("/api/location", inFolder)
    )
    yield* request("list files", HttpClientRequest.get("/api/fs/list", inFolder))
    place = { directory, worktree: project?.directory }
    return directory
  }).pipe(
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

  const unsupported = (operation: string) => Effect.fail(new UnsupportedOperation({ operation, origin }))

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

  /** The end of the session's log; nothing if the server has none. */
  const logTail = (id: SessionId) => {
    const read = (after: number) =>
      request(
        "read log",
        HttpClientRequest.get(experimental(id, "/log"), { urlParams: { after: String(after), follow: "false" } })
      ).pipe(Effect.map(logOf))
    return Effect.gen(function*() {
      const seq = (yield* read(Number.MAX_SAFE_INTEGER)).findLast(({ type }) => type === "log.synced")?.seq ?? 0
      return yield* read(Math.max(0, seq - tailLength))
    }).pipe(
      Effect.catchTag("StatusError", (error) => (error.isRetryable ? Effect.fail(error) : Effect.undefined))
    )
  }

  /** How the last step of the session ended, from the end of its log. A server without a log leaves it open. */
  const runEnd = (id: SessionId): Effect.Effect<Wire.RunEnd, RequestError> =>
    Effect.map(logTail(id), (tail) => {
      if (tail === undefined) return "open"
      const step = tail.findLastIndex(({ type = "" }) => type.startsWith("session.step."))
      const ends = tail.slice(step + 1).filter(({ type = "" }) => type.startsWith("session.execution."))
      // A prompt that is posted again begins and ends a run without a step, and so does a summary.
      const end = ends.find(({ type }) => type !== started)
      return end === undefined || ends.at(-1)?.type === started
        ? "running"
        : end.type !== "session.execution.interrupted"
        ? "ended"
        : end.data?.reason === "shutdown"
        ? "shutdown"
        : "stopped"
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
    const end = isNewest && !Wire.isSettled(wire) ? yield* runEnd(id) : "open"
    const ordered = Wire.toMessages(wire, id, place, end)
    if (isNewest) runs.learn(id, ordered.input, ordered.messages.at(-1))
    yield* reportUnread(id, ordered)
    return {
      messages: ordered.messages.map(redaction.message),
      ...(ordered.unread.length > 0 && { unread: ordered.unread }),
      before: Option.fromUndefinedOr(cursor),
      ...(isNewest && Wire.toCompactions(newestFirst).isLeft && { hasOrder: true }),
      size
    }
  })

  const statuses: Dialect["statuses"] = requestJson(
    "session status",
    WireActive,
    HttpClientRequest.get("/api/session/active")
  ).pipe(
    Effect.map(({ data }) => new Map(Object.keys(data).map((id) => [SessionId.make(id), { type: "busy" as const }])))
  )

  const forms = Effect.suspend(() =>
    requestJson(
      "list questions",
      Wire.within(each(Wire.WireForm)),
      HttpClientRequest.get(isBeta() ? "/api/form/request" : "/api/form", inFolder)
    )
  ).pipe(Effect.map(({ data }) => data))
  const permissions = requestJson(
    "list permissions",
    Wire.within(each(Wire.WirePermission)),
    HttpClientRequest.get("/api/permission/request", inFolder)
  ).pipe(Effect.map(({ data }) => data.map(Wire.toPermission)))

  const known = (id: SessionId) =>
    Effect.map(
      requestJson("get session", Wire.within(Wire.WireKnownSession), HttpClientRequest.get(session(id))),
      ({ data }) => data
    )

  const getSession: Dialect["getSession"] = (id) =>
    known(id).pipe(Effect.map((wire) => Wire.toSession({ id, ...wire })), orSessionNotFound(id))

  /** Sets what the prompt chooses, where the session has another choice. */
  const choose = Effect.fnUntraced(function*(
    id: SessionId,
    { agent, model, variant }: Pick<Prompt, "agent" | "model" | "variant">
  ) {
    if (agent === undefined && model === undefined && variant === undefined) return
    const data = yield* known(id)
    if (agent !== undefined && data.agent !== agent) {
      yield* request("choose agent", post(session(id, "/agent"), { agent }))
    }
    const chosen = model === undefined ? data.model : { providerID: model.providerId, id: model.modelId }
    if (chosen === undefined) return
    const wanted = variant ?? (model === undefined ? data.model?.variant : undefined)
    const isSame = chosen.id === data.model?.id && chosen.providerID === data.model.providerID &&
      (wanted ?? "default") === (data.model.variant ?? "default")
    if (isSame) return
    yield* request(
      "choose model",
      post(session(id, "/model"), { model: { ...chosen, ...(wanted !== undefined && { variant: wanted }) } })
    )
  })

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
        HttpClientRequest.get(session(id, `/message/${segment(messageId)}`))
      ).pipe(
        Effect.map(({ data }) => Wire.toCompaction(data)),
        Effect.catchIf(isNotFound, () => Effect.undefined)
      ),
    usage: (messageId: MessageId) => Effect.map(logTail(id), (tail = []) => usageOf(tail, messageId)),
    stop: interrupt(id)
  })

  const defaultModel = Effect.map(
    requestJson(
      "default model",
      Schema.Struct({ data: maybe(Wire.WireModel) }),
      HttpClientRequest.get("/api/model/default", inFolder)
    ),
    ({ data }) => data
  )

  /** Whether the server knows the model, or has a default one. It learns its models when it first works in the folder. */
  const hasModel = (model: typeof Wire.WireModel.Type | undefined) =>
    model === undefined
      ? Effect.map(defaultModel, (usual) => usual !== undefined)
      : requestJson("list models", Wire.within(each(Wire.WireModel)), HttpClientRequest.get("/api/model", inFolder))
        .pipe(
          Effect.map(({ data }) =>
            data.some(({ id, providerID }) => id === model.id && providerID === model.providerID)
          )
        )

  const instruction = (id: SessionId) => {
    const path = `/instructions/entries/${instructionKey}`
    return isBeta() ? session(id, path) : experimental(id, path)
  }

  const takeBackInstruction = (id: SessionId) =>
    request("take back instructions", HttpClientRequest.delete(instruction(id))).pipe(
      Effect.catchIf(isNotFound, () => Effect.void),
      Effect.asVoid
    )

  /** Makes the prompt's system text the session's, and no other one: that of an earlier prompt is taken back. */
  const instruct = (id: SessionId, { system: value }: Prompt) =>
    value === undefined ? takeBackInstruction(id) : request(
      "give instructions",
      HttpClientRequest.put(instruction(id)).pipe(HttpClientRequest.bodyJsonUnsafe({ value }))
    ).pipe(
      // The session is missing, or the route.
      Effect.catchIf(isNotFound, () => Effect.andThen(known(id), unsupported("give a prompt a system text")))
    )

  const checked = ({ parts, tools }: Prompt) =>
    tools !== undefined
      ? unsupported("limit the tools of a prompt")
      : parts.some(({ type }) => type === "subtask")
      ? unsupported("begin a prompt with a subtask")
      : Effect.void

  const prompt: Dialect["prompt"] = (id, prompt) =>
    Effect.andThen(
      checked(prompt),
      Effect.andThen(
        Effect.andThen(instruct(id, prompt), choose(id, prompt)),
        request("prompt", post(session(id, "/prompt"), Wire.fromPrompt(prompt)))
      ).pipe(Effect.asVoid, orSessionNotFound(id))
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

  /** Removes inputs that wait. The beta cannot do it. */
  const removeInputs = (id: SessionId, isGone: (input: typeof WirePending.Type) => boolean) =>
    Effect.flatMap(pending(id), (waiting) =>
      Effect.forEach(
        waiting.filter(isGone),
        (input) =>
          Effect.ignore(request("remove input", HttpClientRequest.delete(session(id, `/inbox/${segment(input.id)}`)))),
        { discard: true }
      ))

  const hasMessage = (id: SessionId, messageId: MessageId) =>
    request("get message", HttpClientRequest.get(session(id, `/message/${segment(messageId)}`))).pipe(
      Effect.as(true),
      Effect.catchIf(isNotFound, () => Effect.succeed(false))
    )

  /** The newest input or step of a session. Marks of the server, as of another model, may follow it. */
  const newest = (id: SessionId) =>
    Effect.map(
      page(id, pageSize, undefined),
      ({ data }) => Wire.toMessages(data.toReversed(), id, place, "open").messages.at(-1)?.info.id
    )

  /**
   * Whether a session goes on by itself. A managed server resumes what its end had stopped, at any time after its start. Posting the prompt
   * again settles whether it does: the run that this begins has nothing to do and asks no model, but its start takes from the session the
   * mark by which the server would resume it. If the server was faster, the session is at work, or has gone on already.
   */
  const goesOn = Effect.fnUntraced(function*(id: SessionId, input: Prompt) {
    const before = yield* newest(id)
    yield* prompt(id, input)
    const state = Effect.gen(function*() {
      const isActive = (yield* statuses).has(id)
      return (yield* newest(id)) !== before ? "on" as const : isActive ? "unknown" as const : "still" as const
    })
    const settled = yield* Effect.repeat(state, { schedule: untilSettled, until: (state) => state !== "unknown" })
    return settled === "on"
  })

  const carryOn: Dialect["carryOn"] = Effect.fnUntraced(function*(id, input) {
    const { promptId } = input.ids
    if (!(yield* hasMessage(id, promptId))) return yield* prompt(id, input)
    // What waits would begin before the answer is whole.
    if ((yield* waitingIn(id)).length > 0) yield* instruct(id, input)
    else if (yield* goesOn(id, input)) return
    let count = 1
    while (yield* hasMessage(id, continuation(promptId, count))) count++
    yield* request(
      "carry on",
      post(session(id, "/synthetic"), {
        id: continuation(promptId, count),
        text: continueText,
        description: "Continue after an interruption",
        metadata: { source: "opencode-turn" },
        // Before everything that waits.
        delivery: "steer"
      })
    )
  }, (effect, id) => orSessionNotFound(id)(effect))

  /**
   * Stops subagents before the session that opened them: the end of one in the background is told to its opener, which then works again.
   */
  const stopTree = Effect.fnUntraced(function*({ root, subagents }: SessionTree) {
    const tree = [...subagents.toReversed(), root]
    const isStill = Effect.map(statuses, (active) => tree.every((id) => !active.has(id)))
    const stop = Effect.forEach(tree, (id) => Effect.catchIf(interrupt(id), isNotFound, () => Effect.void), {
      discard: true
    })
    if (!isBeta()) yield* removeInputs(root, () => true)
    yield* Effect.repeat(Effect.andThen(stop, isStill), { schedule: untilStill, until: (isStill) => isStill })
  })

  const dialect: Dialect = {
    origin,
    health,
    directory: Cache.get(directories, ""),

    agents: requestJson("list agents", Wire.within(each(Wire.WireAgent)), HttpClientRequest.get("/api/agent", inFolder))
      .pipe(Effect.map(({ data }) => data.map(Wire.toAgent))),

    tellsUnknownAgents: Effect.succeed(true),

    createSession: Effect.fnUntraced(function*({ metadata, parentId, permission, title }) {
      const directory = yield* Cache.get(directories, "")
      if (permission !== undefined && isBeta()) return yield* unsupported("give a session permission rules")
      const { data } = yield* requestJson(
        "create session",
        Wire.within(Wire.WireSession),
        post("/api/session", {
          location: { directory },
          ...(parentId !== undefined && { parentID: parentId }),
          ...(!isBeta() && {
            ...(title !== undefined && { title }),
            ...(permission !== undefined && { permissions: Wire.fromRules(permission) }),
            ...(metadata !== undefined && { metadata })
          })
        })
      )
      if (title !== undefined && isBeta()) {
        yield* request("rename session", post(session(data.id, "/rename"), { title }))
      }
      return { ...Wire.toSession(data), ...(title !== undefined && { title }) }
    }),

    getSession,

    updateSession: Effect.fnUntraced(function*(id, { metadata, permission, title }) {
      if (permission !== undefined && isBeta()) return yield* unsupported("give a session permission rules")
      if (metadata !== undefined && isBeta()) return yield* unsupported("keep metadata with a session")
      const changes = { ...(title !== undefined && { title }) }
      yield* (isBeta()
        ? title === undefined ? Effect.void : request("update session", post(session(id, "/rename"), changes))
        : request(
          "update session",
          HttpClientRequest.patch(session(id)).pipe(
            HttpClientRequest.bodyJsonUnsafe({
              ...changes,
              ...(metadata !== undefined && { metadata }),
              ...(permission !== undefined && { permissions: Wire.fromRules(permission) })
            })
          )
        )).pipe(orSessionNotFound(id))
      const updated = yield* getSession(id)
      return metadata === undefined || keepsMetadata(metadata, updated)
        ? updated
        : yield* unsupported("keep metadata with a session")
    }),

    deleteSession: (id) =>
      request("delete session", HttpClientRequest.delete(session(id))).pipe(Effect.asVoid, orSessionNotFound(id)),

    abortSession: (id) => Effect.asVoid(interrupt(id)),

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
      yield* hasModel(model === undefined ? before : { id: model.modelId, providerID: model.providerId }).pipe(
        Effect.repeat({ schedule: untilListed, until: (isListed) => isListed })
      )
      // A summary of 2.x leaves the revert pending, and tells of what the revert hides.
      if (revert !== undefined) {
        yield* orSessionNotFound(id)(request("commit revert", HttpClientRequest.post(session(id, "/revert/commit"))))
      }
      const work = compact(compacting(id), id)
      if (model === undefined) return yield* work
      // The summary alone is by this model.
      const usual = before ?? (yield* defaultModel)
      if (usual === undefined) return yield* choose(id, { model }).pipe(Effect.andThen(work), orSessionNotFound(id))
      return yield* choose(id, { model }).pipe(
        Effect.andThen(work),
        Effect.ensuring(Effect.ignore(choose(id, {
          model: { providerId: usual.providerID, modelId: usual.id },
          ...(usual.variant !== undefined && { variant: usual.variant })
        }))),
        orSessionNotFound(id)
      )
    }),

    dropCompaction: Effect.fnUntraced(function*(id) {
      if ((yield* statuses).has(id)) return
      if (isBeta()) yield* carryOut(compacting(id))
      else yield* removeInputs(id, ({ type }) => type === "compaction")
    }, (effect, id) => orSessionNotFound(id)(effect)),

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
        HttpClientRequest.get(session(sessionId, `/message/${segment(messageId)}`))
      ).pipe(
        Effect.flatMap(({ data }) => {
          const { input, step } = runs.of(sessionId)
          const parentId = step?.id === messageId ? step.parentId : input
          const message = Wire.toMessages([data], sessionId, place, "open", parentId).messages[0]
          return message === undefined
            ? Effect.fail(new DecodeError({ operation: "get message", reason: "id is missing" }))
            : Effect.succeed(redaction.message(message))
        }),
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

    promptAndWait: (id, input) =>
      withTimeout("send message", whenReady).pipe(
        Effect.andThen(prompt(id, input)),
        Effect.andThen(requestText("send message", waiting(id, isBeta()))),
        Effect.andThen(listMessages(id, { limit: 1 })),
        Effect.flatMap(({ messages }) => {
          const last: Message | undefined = messages.at(-1)
          return last === undefined
            ? Effect.fail(new DecodeError({ operation: "send message", reason: "there is no message" }))
            : Effect.succeed(last)
        }),
        orSessionNotFound(id)
      ),

    questions: Effect.map(forms, (forms) => forms.map(Wire.toQuestion)),

    answerQuestion: (askId, answers) =>
      listed(forms, askId).pipe(
        Effect.flatMap((form) =>
          request(
            "answer question",
            post(session(form.sessionID, `/form/${segment(askId)}/reply`), { answer: Wire.fromAnswers(form, answers) })
          )
        ),
        Effect.asVoid,
        orAskNotFound(askId)
      ),

    rejectQuestion: (askId) =>
      listed(forms, askId).pipe(
        Effect.flatMap((form) => {
          const path = session(form.sessionID, `/form/${segment(askId)}`)
          return request(
            "reject question",
            isBeta() ? HttpClientRequest.post(`${path}/cancel`) : HttpClientRequest.delete(path)
          )
        }),
        Effect.asVoid,
        orAskNotFound(askId)
      ),

    permissions,

    answerPermission: (askId, { reply, ...rest }) =>
      listed(permissions, askId).pipe(
        Effect.flatMap(({ sessionId }) =>
          request(
            "answer permission",
            post(session(sessionId, `/permission/${segment(askId)}/reply`), {
              ...rest,
              ...(isBeta() ? { reply } : { decision: reply })
            })
          )
        ),
        Effect.asVoid,
        orAskNotFound(askId)
      ),

    todos: () => Effect.succeed([]),

    diff: (id, promptId) =>
      isBeta()
        ? unsupported("tell what a turn changed")
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

const started = "session.execution.started"

/** The events at the end of a log among which the end of the last run is: behind it come only names and costs. */
const tailLength = 20

/** A run without work ends within milliseconds, or once the server has loaded the folder. */
const untilSettled = Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("1 second")])

/** An order to summarise fails at a server that has not learned its models yet, as after a restart (0.0.0-next-16350). */
const untilListed = Schedule.max([Schedule.spaced("100 millis"), Schedule.during("3 seconds")])

/** A session that a subagent in the background wakes is stopped again, for at most this time. */
const untilStill = Schedule.max([Schedule.spaced("100 millis"), Schedule.during("5 seconds")])

/** The name of the system text among the instructions of a session. The model sees it. */
const instructionKey = "opencode-turn"

const continueText =
  "You were interrupted, because the server stopped. Go on where you were, and do not repeat work that is done."

/**
 * The id of the n-th input by which a session goes on with a prompt. It sorts right behind the prompt.
 *
 * The ids are known before the prompt is sent, and stored with it. Whoever carries on, and whatever it has seen, posts the first of them that
 * is not a message yet. So at most one of them waits at a time, and a worker that comes late posts one that the server has already. An id
 * that depends on the newest message would not have that: between the looks of two workers a managed server may have gone on and died again.
 */
const continuation = (promptId: MessageId, count: number): MessageId => {
  const [, hex = "", rest = ""] = /^msg_([0-9a-f]{12})(.*)$/.exec(promptId) ?? []
  return hex === ""
    ? MessageId.make(`${promptId}c${count}`)
    : MessageId.make(`msg_${(BigInt(`0x${hex}`) + BigInt(count)).toString(16).padStart(12, "0")}${rest}`)
}

const WirePending = Schema.Struct({ id: Schema.String, type: maybe(Schema.String) })

const WireActive = Schema.Struct({ data: Schema.Record(SessionId, Schema.Unknown) })

const WireLogEntry = Schema.Struct({
  type: maybe(Schema.String),
  seq: maybe(Schema.Finite),
  data: maybe(Schema.Struct({
    reason: maybe(Schema.String),
    inputID: maybe(Schema.String),
    source: maybe(Schema.String),
    cost: maybe(Schema.Finite),
    tokens: maybe(WireTokens)
  }))
})
const decodeLogEntry = Schema.decodeUnknownOption(Schema.fromJsonString(WireLogEntry))

/** The entries of a log, which comes as an event stream that ends. */
const logOf = (body: string): ReadonlyArray<typeof WireLogEntry.Type> =>
  body.split("\n").flatMap((line) =>
    line.startsWith("data:") ? Option.toArray(decodeLogEntry(line.slice("data:".length).trim())) : []
  )

/**
 * What the summary took that the order asked for. The session's messages do not tell it. The beta has an event of its own for that, and the
 * release tells it with the summary as well.
 */
const usageOf = (log: ReadonlyArray<typeof WireLogEntry.Type>, orderId: MessageId): Usage.Usage => {
  const begun = log.findLastIndex(({ data, type }) =>
    type === "session.compaction.started" && data?.inputID === orderId
  )
  const behind = log.slice(begun + 1)
  const used = behind.find(({ data, type }) => type === "session.usage.recorded" && data?.source === "compaction") ??
    behind.find(({ type }) => type === "session.compaction.ended")
  return begun < 0 ? Usage.zero : toUsage(used?.data?.cost, used?.data?.tokens)
}

const isServerError = (error: RequestError | UnknownDirectory): error is StatusError =>
  error._tag === "StatusError" && error.status === 500

const post = (path: string, body: Record<string, unknown>) =>
  HttpClientRequest.post(path).pipe(HttpClientRequest.bodyJsonUnsafe(body))

const experimental = (id: SessionId, rest: string) => `/api/experimental/session/${segment(id)}${rest}`

const session = (id: SessionId, rest = "") => `/api/session/${segment(id)}${rest}`

const waiting = (id: SessionId, isBeta: boolean) =>
  HttpClientRequest.post(isBeta ? session(id, "/wait") : experimental(id, "/wait"))

const hasStatus = (error: { readonly _tag: string }, status: number): error is StatusError =>
  error._tag === "StatusError" && "status" in error && error.status === status

const isNotFound = (error: { readonly _tag: string }): error is StatusError => hasStatus(error, 404)

const orSessionNotFound = (sessionId: SessionId) =>
<A, E extends { readonly _tag: string }>(
  effect: Effect.Effect<A, E>
): Effect.Effect<A, E | SessionNotFound> =>
  Effect.catchIf(
    effect,
    (error): boolean => isNotFound(error),
    (): Effect.Effect<A, E | SessionNotFound> => Effect.fail(new SessionNotFound({ sessionId }))
  )

/** A session that works answers 409 to a revert. */
const orSessionBusy =
  (sessionId: SessionId) =>
  <A, E extends { readonly _tag: string }>(effect: Effect.Effect<A, E>): Effect.Effect<A, E | SessionBusy> =>
    Effect.catchIf(
      effect,
      (error): boolean => hasStatus(error, 409),
      (): Effect.Effect<A, E | SessionBusy> => Effect.fail(new SessionBusy({ sessionId }))
    )

/** The beta answers 404 to the second reply to a permission, and 409 to that to a form. */
const orAskNotFound =
  (askId: AskId) =>
  <A, E extends { readonly _tag: string }>(effect: Effect.Effect<A, E>): Effect.Effect<A, E | AskNotFound> =>
    Effect.catchIf(
      effect,
      (error): boolean => isNotFound(error) || hasStatus(error, 409),
      (): Effect.Effect<A, E | AskNotFound> => Effect.fail(new AskNotFound({ askId }))
    )

/** The ask as the server lists it, because its answer goes to its session. */
const listed = <A extends { readonly id: AskId }>(
  list: Effect.Effect<ReadonlyArray<A>, RequestError>,
  askId: AskId
): Effect.Effect<A, RequestError | AskNotFound> =>
  Effect.flatMap(list, (asks) => {
    const ask = asks.find(({ id }) => id === askId)
    return ask === undefined ? Effect.fail(new AskNotFound({ askId })) : Effect.succeed(ask)
  })
