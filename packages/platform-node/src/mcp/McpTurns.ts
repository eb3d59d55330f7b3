/**
 * What the MCP tools do: turns that this process runs, and turns of any process that shares the store.
 *
 * ```
 *   run_turn ─▶ Runs.start ─┐
 *   attach ─────────────────┴▶ follow until the turn has ended, or waits for an answer, or the time is up
 *                               └ meanwhile: progress, where the client asked for it
 * ```
 *
 * **Responsibilities**: the result of each tool, and what a client that goes away leaves: its turns go on.
 *
 * **Not responsibilities**: the protocol (Effect's `McpServer`), the tools' shapes (`McpTools`).
 */
import type { Answer } from "@opencode-turn/core/Ask"
import { attachTurn } from "@opencode-turn/core/AttachTurn"
import { AskId, AssistantMessageId, ConversationId, makeId } from "@opencode-turn/core/Ids"
import { retrying } from "@opencode-turn/core/Retrying"
import { type MessageState, SessionStore, type StoredMessage, type StoreError } from "@opencode-turn/core/SessionStore"
import { AskClosed, type StoredAsk, UnknownAsk } from "@opencode-turn/core/StoredAsk"
import { answerAsk, pendingAsks } from "@opencode-turn/core/StoredGate"
import { isLeaseOver, isOpen } from "@opencode-turn/core/StoredMessage"
import * as ToolCall from "@opencode-turn/core/ToolCall"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import * as McpSchema from "effect/ai/McpSchema"
import * as McpServer from "effect/ai/McpServer"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Ref from "effect/Ref"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { createHash } from "node:crypto"
import type * as Runs from "../gateway/Runs.ts"
import * as TurnView from "../gateway/streams/TurnView.ts"
import * as User from "../gateway/User.ts"
import { describeAsk, describePermission } from "../terminal/AskText.ts"
import * as McpProgress from "./McpProgress.ts"
import * as McpTools from "./McpTools.ts"

/** Runs turns on a server of OpenCode. */
export interface Server {
  readonly runs: Runs.Runs["Service"]
  /** Carries a turn whose process is gone to its end, beside everything else. Does nothing where it is carried already. */
  readonly carry: (orphan: MessageState) => Effect.Effect<void>
}

/** What the tools stand on. */
export class McpTurns extends Context.Service<McpTurns, {
  /** The server, once it is ready: it may have to start. Nothing else waits for it. */
  readonly server: Effect.Effect<Server, McpTools.Failed>
  /** What each turn gets besides what the client says. */
  readonly choices: Runs.Start["choices"]
  /** The turns that this process started or carries on. */
  readonly own: Ref.Ref<ReadonlySet<AssistantMessageId>>
}>()("@opencode-turn/platform-node/mcp/McpTurns") {}

/** The handlers of all tools. */
export const layer = McpTools.toolkit.toLayer(Effect.gen(function*() {
  const server = yield* McpServer.McpServer
  const store = yield* SessionStore
  const turns = yield* McpTurns
  const inStore = Effect.provideContext(Context.make(SessionStore, store).pipe(Context.add(McpTurns, turns)))

  return McpTools.toolkit.of({
    run_turn: Effect.fnUntraced(function*({ agent, conversation, key, model, prompt, wait_seconds }) {
      const { runs } = yield* turns.server
      const conversationId = ConversationId.make(conversation ?? (yield* newConversation(key)))
      const { state } = yield* Effect.mapError(
        runs.start(client, {
          conversationId,
          key,
          prompt: [{ type: "text", text: prompt }],
          choices: {
            ...turns.choices,
            ...(model !== undefined && { model }),
            ...(agent !== undefined && { agent })
          }
        }),
        toFailed
      )
      yield* own(state.id)
      return yield* followed(server, state.id, wait_seconds)
    }, inStore),
    attach: ({ message, wait_seconds }) =>
      followed(server, AssistantMessageId.make(message), wait_seconds).pipe(inStore),
    cancel: Effect.fnUntraced(function*({ message }) {
      const id = AssistantMessageId.make(message)
      const state = yield* Effect.mapError(retrying(store.getState(id)), storeFailed)
      if (Option.isNone(state)) return yield* Effect.fail(unknownTurn(id))
      const { runs } = yield* turns.server
      const cancelled = yield* runs.cancel(state.value).pipe(
        // A turn that ended just now is as good.
        Effect.catchTag("AlreadyFinished", () => messageOf(id)),
        Effect.catchTag("UnknownMessage", () => Effect.fail(unknownTurn(id))),
        Effect.catchTag("StoreError", (error) => Effect.fail(storeFailed(error)))
      )
      return toTurn(cancelled, [], undefined)
    }, inStore),
    answer: Effect.fnUntraced(function*({ answers, ask, decision, reason }) {
      const given = toAnswer(decision, reason, answers)
      if ("error" in given) return yield* Effect.fail(given)
      const { conversationId, id, messageId } = yield* Effect.mapError(answerAsk(AskId.make(ask), given), toFailed)
      return {
        ask: id,
        message: messageId,
        conversation: conversationId,
        next: `the turn goes on: call attach with message ${messageId}`
      }
    }, inStore),
    list: Effect.fnUntraced(function*({ conversation, limit = 20, status }) {
      const conversationId = conversation === undefined ? undefined : ConversationId.make(conversation)
      const states = yield* Effect.mapError(
        retrying(store.listByStatus({ conversationId, status, limit })),
        storeFailed
      )
      return {
        turns: states.map((state) => ({
          message: state.id,
          conversation: state.conversationId,
          status: state.status,
          prompt: state.excerpt,
          error: state.error?.message ?? null,
          cost: state.usage.cost,
          created: DateTime.formatIso(DateTime.makeUnsafe(state.createdMillis))
        })),
        asks: yield* asksOf({ conversationId })
      }
    }, inStore)
  })
}))

/** Waits until every turn of this process has ended, or waits for an answer. */
export const untilIdle = Effect.gen(function*() {
  const { own } = yield* McpTurns
  yield* Effect.forEach(yield* Ref.get(own), (id) => Effect.ignore(follow(id, () => Effect.void)), {
    concurrency: "unbounded",
    discard: true
  })
})

// internal

/** The client at the other end of the pipe is one, and everything is its own. */
const client = User.ofPrefix("mcp", "")

/** The conversation of a call that names none: with a key it is the same for each repetition. */
const newConversation = (key: string | undefined): Effect.Effect<string> =>
  key === undefined
    ? makeId("con")
    : Effect.sync(() => `con_${createHash("sha256").update(key).digest("base64url")}`)

/** Follows a turn, tells its progress, and gives it as it is then. */
const followed = Effect.fnUntraced(function*(
  server: McpServer.McpServer["Service"],
  id: AssistantMessageId,
  waitSeconds = McpTools.defaultWaitSeconds
): Effect.fn.Return<McpTools.Turn, McpTools.Failed, SessionStore | McpTurns> {
  const report = yield* reporter(server)
  const view = yield* Effect.raceFirst(follow(id, report), carried(id)).pipe(
    Effect.timeoutOption(`${waitSeconds} seconds`),
    Effect.catchTags({
      UnknownMessage: () => Effect.fail(unknownTurn(id)),
      StoreError: (error) => Effect.fail(storeFailed(error))
    })
  )
  const message = view._tag === "Some" && view.value.end !== undefined ? view.value.end : yield* messageOf(id)
  return toTurn(message, yield* asksOf({ messageId: id }), Option.getOrUndefined(view))
})

const own = (id: AssistantMessageId) =>
  Effect.flatMap(McpTurns, ({ own }) => Ref.update(own, (all) => new Set([...all, id])))

/**
 * Carries the turn on whenever its process is gone. Never ends.
 *
 * **Details**
 *
 * Only a turn that a client asks for is carried on. A client starts this process unasked, and it must not run what somebody else left
 * behind, perhaps for another server.
 */
const carried = Effect.fnUntraced(function*(id: AssistantMessageId) {
  const store = yield* SessionStore
  const turns = yield* McpTurns
  const look = Effect.gen(function*() {
    const state = Option.getOrUndefined(yield* store.getState(id))
    if (state === undefined || !isOpen(state.status) || !isLeaseOver(state, yield* Clock.currentTimeMillis)) return
    const { carry } = yield* turns.server
    yield* own(id)
    yield* carry(state)
  })
  return yield* look.pipe(
    // The one who follows the turn tells what is wrong with the store, and the first call what is wrong with the server.
    Effect.ignore,
    Effect.repeat(Schedule.spaced(yield* TurnPolicy.SweepInterval)),
    Effect.andThen(Effect.never)
  )
})

/** Tells what a turn does until it has ended, or until the store has an ask of it that waits for an answer. */
const follow = Effect.fnUntraced(function*(
  id: AssistantMessageId,
  report: (view: TurnView.TurnView) => Effect.Effect<void>
) {
  const store = yield* SessionStore
  const view = yield* Ref.make(TurnView.empty)
  const news = yield* Latch.make()
  const isWaiting = yield* Deferred.make<void>()
  const watching = yield* FiberSet.make()
  const watched = new Set<AskId>()
  const watch = (ask: AskId) =>
    watched.has(ask) ? Effect.void : Effect.suspend(() => {
      watched.add(ask)
      const opened = store.askChanges(ask).pipe(
        Stream.mapEffect(() => store.getAsk(ask)),
        Stream.filter(Option.exists(({ status }) => status === "open")),
        Stream.runHead
      )
      // A store that fails is told by the turn's own updates.
      return FiberSet.run(
        watching,
        Effect.flatMap(Effect.orElseSucceed(opened, Option.none), (open) =>
          Option.isSome(open) ? Deferred.succeed(isWaiting, undefined) : Effect.void)
      )
    })
  const following = attachTurn(id).pipe(
    Stream.runForEach(({ update }) =>
      Effect.gen(function*() {
        const now = yield* Ref.updateAndGet(view, (before) => TurnView.apply(before, update))
        yield* news.open
        yield* Effect.forEach(now.asks, ({ ask }) => watch(ask.id), { discard: true })
      })
    )
  )
  const tell = Effect.flatMap(Ref.get(view), report)
  const reporting = news.await.pipe(
    Effect.andThen(news.close),
    Effect.andThen(tell),
    Effect.andThen(Effect.sleep(reportInterval)),
    Effect.forever
  )
  yield* Effect.raceAllFirst([following, Deferred.await(isWaiting), reporting])
  yield* tell
  yield* Effect.sleep(untilWritten)
  return yield* Ref.get(view)
}, Effect.scoped)

/** A client that shows the progress needs no more, and each one may cost the other agent a token. */
const reportInterval = "1 second"

/** The server writes progress in a fiber of its own. A client takes progress that comes behind the response for an error. */
const untilWritten = "50 millis"

/** Sends progress for the call that is handled, if its client asked for it. */
const reporter = Effect.fnUntraced(function*(server: McpServer.McpServer["Service"]) {
  const context = yield* Effect.serviceOption(McpSchema.McpRequestContext)
  const progressToken = Option.getOrUndefined(context)?.requestMetadata?.["progressToken"]
  if (!Predicate.isString(progressToken) && !Predicate.isNumber(progressToken)) return () => Effect.void
  const last = yield* Ref.make({ progress: 0, told: "" })
  return (view: TurnView.TurnView): Effect.Effect<void> =>
    Effect.gen(function*() {
      const message = McpProgress.describe(view)
      const data = McpProgress.toData(view)
      const told = JSON.stringify([message, data])
      const before = yield* Ref.get(last)
      if (before.told === told) return
      const progress = before.progress + 1
      yield* Ref.set(last, { progress, told })
      yield* server.notifications["notifications/progress"]({
        progressToken,
        progress,
        message,
        _meta: { "opencode-turn/turn": data }
      })
    })
})

const messageOf = Effect.fnUntraced(function*(
  id: AssistantMessageId
): Effect.fn.Return<StoredMessage, McpTools.Failed, SessionStore> {
  const store = yield* SessionStore
  const message = yield* Effect.mapError(retrying(store.getMessage(id)), storeFailed)
  return yield* Effect.fromOption(message, () => unknownTurn(id))
})

const asksOf = (filter: Parameters<typeof pendingAsks>[0]) =>
  pendingAsks(filter).pipe(
    Effect.mapBoth({ onSuccess: (all) => all.map(toWaiting), onFailure: storeFailed })
  )

const toTurn = (
  message: StoredMessage,
  asks: ReadonlyArray<McpTools.WaitingAsk>,
  view: TurnView.TurnView | undefined
): McpTools.Turn => {
  const { conversationId, error, finish, id } = message
  const hasEnded = !isOpen(message.status)
  const status = hasEnded
    ? message.status
    : asks.length > 0
    ? "waiting"
    : message.status === "queued"
    ? "queued"
    : "running"
  const parts = view === undefined || hasEnded ? message.parts : TurnView.parts(view.root)
  return {
    status,
    message: id,
    conversation: conversationId,
    content: view === undefined || hasEnded ? message.content : McpProgress.textOf(view),
    asks: hasEnded ? [] : asks,
    tools: parts.flatMap((part) => {
      if (part.type !== "tool") return []
      const { past, present } = ToolCall.describe(part)
      return [{ tool: part.tool, status: part.status, text: part.status === "completed" ? past : present }]
    }).slice(-shownTools),
    error: error === null ? null : { tag: error.tag, message: error.message },
    finish,
    cost: message.usage.cost,
    next: nextOf(status, id)
  }
}

const shownTools = 20

const nextOf = (status: McpTools.Turn["status"], id: string): string => {
  switch (status) {
    case "waiting":
      return `answer each ask with the tool answer, then call attach with message ${id}`
    case "running":
    case "queued":
      return `call attach with message ${id}, or cancel to stop it`
    case "completed":
      return "the turn is done: content is the answer"
    case "cancelled":
      return "the turn was stopped"
    case "error":
      return "the turn failed: error says why, and content is what the agent said before"
  }
}

const toWaiting = ({ ask, conversationId, id, messageId }: StoredAsk): McpTools.WaitingAsk => {
  const isPermission = ask._tag === "Permission"
  const hasDiff = isPermission && Predicate.isString(ask.metadata["diff"])
  return {
    ask: id,
    kind: isPermission ? "permission" : "question",
    text: [...describeAsk(ask), ...(hasDiff ? [describePermission(ask)] : [])].join("\n"),
    session: ask.sessionId,
    questions: isPermission ? [] : ask.questions.map(({ custom, multiple, options, question }) => ({
      question,
      options: options.map(({ label }) => label),
      multiple,
      custom
    })),
    message: messageId,
    conversation: conversationId
  }
}

const toAnswer = (
  decision: "once" | "always" | "reject" | undefined,
  reason: string | undefined,
  answers: ReadonlyArray<ReadonlyArray<string>> | undefined
): Answer | McpTools.Failed => {
  if ((decision === undefined) === (answers === undefined)) {
    return { error: "give either decision or answers", advice: "decision for a permission, answers for a question" }
  }
  if (answers !== undefined) return { _tag: "Answers", answers }
  if (decision === "once" || decision === "always") return { _tag: "Permission", reply: { reply: decision } }
  return { _tag: "Reject", ...(reason !== undefined && { message: reason }) }
}

const unknownTurn = (id: string): McpTools.Failed => ({
  error: `there is no turn ${JSON.stringify(id.slice(0, 100))}`,
  advice: "list tells the turns"
})

const storeFailed = ({ message: error }: StoreError): McpTools.Failed => ({ error, advice: "try again in a while" })

/** A failure with its words. What the gateway tells of HTTP has another name here. */
const toFailed = (
  error: { readonly message: string; readonly advice?: string }
): McpTools.Failed => ({
  error: error.message.replaceAll("Idempotency-Key", "key"),
  advice: error.advice?.replaceAll("Idempotency-Key", "key") ?? adviceOf(error)
})

const adviceOf = (error: { readonly message: string }): string =>
  error instanceof UnknownAsk || error instanceof AskClosed
    ? "list tells what waits for an answer"
    : "change the call as the error says"
