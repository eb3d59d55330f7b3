/**
 * What the routes of `AgUiApi` do.
 *
 * **Not responsibilities**: the events (`AgUiEvents`), who may call and what is whose (`Access`, `Ownership`), the running of turns (`Runs`).
 *
 * @since 0.1.0
 */
import { Answer, checkAnswer, PermissionReply, QuestionAnswers } from "@opencode-turn/core/Ask"
import { type AttachedUpdate, attachTurn } from "@opencode-turn/core/AttachTurn"
import type { AskId, AssistantMessageId, ConversationId } from "@opencode-turn/core/Ids"
import { retrying } from "@opencode-turn/core/Retrying"
import type { MessageState } from "@opencode-turn/core/SessionStore"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import type { StoredAsk } from "@opencode-turn/core/StoredAsk"
import { answerAsk } from "@opencode-turn/core/StoredGate"
import { isOpen } from "@opencode-turn/core/StoredMessage"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Asking from "../Asking.ts"
import * as Events from "../Events.ts"
import * as Following from "../Following.ts"
import { GatewayApi } from "../GatewayApi.ts"
import { Unprocessable } from "../GatewayError.ts"
import { ProductInput } from "../Handlers.ts"
import { choices } from "../Middleware.ts"
import { checkReach, ownAsk, ownConversation, stored, storeFailed, unknown } from "../Ownership.ts"
import { Runs } from "../Runs.ts"
import { CurrentUser } from "../User.ts"
import type { RunAgentInput } from "./AgUiApi.ts"
import * as AgUiEvents from "./AgUiEvents.ts"
import * as Chats from "./Chats.ts"

/**
 * @category layers
 * @since 0.1.0
 */
export const layer = HttpApiBuilder.group(
  GatewayApi,
  "agUi",
  Effect.fnUntraced(function*(handlers) {
    const runs = yield* Runs
    const product = yield* ProductInput
    const store = yield* SessionStore

    /** Goes on with the turn that asked. */
    const resume = Effect.fnUntraced(function*(
      payload: RunAgentInput,
      mayFollow: Following.MayFollow,
      [first, ...others]: readonly [Resume, ...ReadonlyArray<Resume>]
    ) {
      const { asked: { messageId }, give } = yield* prepare(payload.threadId, first)
      const rest = yield* Effect.forEach(others, (other) => prepare(payload.threadId, other))
      yield* give
      for (const { give } of rest) yield* give
      return toResponse(
        store,
        mayFollow,
        yield* Asking.told,
        AgUiEvents.start({ ...runOf(payload), isNew: false, earlier: upToPrompt(payload.messages) }, messageId),
        messageId
      )
    })

    return handlers.handleAll({
      run: Effect.fnUntraced(function*({ payload }) {
        const { messages, resume: [first, ...others] = [], runId, threadId } = payload
        yield* ownConversation(threadId)
        const user = yield* CurrentUser
        const mayFollow = yield* Following.begin(runs, threadId)
        if (first !== undefined) return yield* resume(payload, mayFollow, [first, ...others])
        const prompt = yield* promptOf(payload)
        const choices = yield* choicesOf(payload.forwardedProps)
        const { state } = yield* runs.start(user, {
          conversationId: threadId,
          key: JSON.stringify(["ag-ui", runId]),
          keyName: "runId",
          prompt,
          choices: { ...choices, ...product({ ...choices, prompt }, user, threadId) }
        })
        return toResponse(
          store,
          mayFollow,
          yield* Asking.told,
          AgUiEvents.start({ ...runOf(payload), isNew: true, earlier: messages }, state.id),
          state.id
        )
      }),

      connect: Effect.fnUntraced(function*({ payload }) {
        const { threadId } = payload
        yield* ownConversation(threadId)
        const mayFollow = yield* Following.begin(runs, threadId)
        const state = yield* Chats.running(threadId)
        const earlier = yield* historyOf(threadId, state)
        return toResponse(
          store,
          mayFollow,
          yield* Asking.told,
          AgUiEvents.start({ ...runOf(payload), isNew: false, earlier }, state?.id),
          state?.id
        )
      })
    })
  })
)

// internal

type Resume = NonNullable<RunAgentInput["resume"]>[number]

const runOf = ({ runId, state, threadId }: RunAgentInput) => ({ threadId, runId, state })

/** How many of the newest turns a client is told that connects. */
const maxHistory = 50

/** The thread's messages before the answer of the turn that runs. */
const historyOf = Effect.fnUntraced(function*(threadId: ConversationId, running: MessageState | undefined) {
  const store = yield* SessionStore
  const messages = yield* stored(retrying(store.listMessages(threadId, maxHistory)))
  return messages.flatMap((message) =>
    message.id === running?.id
      ? [AgUiEvents.promptOf(message)]
      // What waits behind it is told when it runs.
      : isOpen(message.status)
      ? []
      : AgUiEvents.messagesOf(message)
  )
})

/** What stands behind the last prompt is the answer that the run goes on with. */
const upToPrompt = (messages: RunAgentInput["messages"]) =>
  messages.slice(0, messages.findLastIndex(({ role }) => role === "user") + 1)

/** Checks an answer, so that none of a run is given where another one cannot be. */
const prepare = Effect.fnUntraced(function*(threadId: ConversationId, resume: Resume) {
  const { interruptId } = resume
  const asked = yield* ownAsk(interruptId)
  if (asked.conversationId !== threadId) return yield* unknown("ask", interruptId)
  const answer = answerOf(asked, resume)
  if (answer === undefined) return yield* unfit(interruptId, "the payload has not the form of responseSchema")
  yield* checkReach(answer)
  const flaw = checkAnswer(asked.ask, answer)
  if (flaw !== undefined) return yield* unfit(interruptId, flaw)
  const give = answerAsk(interruptId, answer).pipe(
    Effect.catchTags({
      StoreError: storeFailed,
      UnknownAsk: () => Effect.fail(unknown("ask", interruptId)),
      // Somebody else was first, or it needs no answer any more: the run shows how the turn went on.
      AskClosed: () => Effect.void,
      InvalidAnswer: ({ message }) => Effect.fail(unfit(interruptId, message))
    })
  )
  return { asked, give }
})

const unfit = (id: AskId, message: string) =>
  new Unprocessable({
    message: `resume of ${JSON.stringify(id)}: ${message}`,
    advice: "answer as the responseSchema of the interrupt says, or with the status cancelled"
  })

/** A payload that the interrupt describes, or an answer as `POST /asks/{askId}/answer` takes it. */
const answerOf = ({ ask }: StoredAsk, { payload, status }: Resume): Answer | undefined => {
  if (status === "cancelled") return { _tag: "Reject" }
  if (isAnswer(payload)) return payload
  if (ask._tag === "Permission") return isReply(payload) ? { _tag: "Permission", reply: payload } : undefined
  return Predicate.hasProperty(payload, "answers") && isAnswers(payload.answers)
    ? { _tag: "Answers", answers: payload.answers }
    : undefined
}

const isAnswer = Schema.is(Answer)
const isReply = Schema.is(PermissionReply)
const isAnswers = Schema.is(QuestionAnswers)

/** What else a client forwards is its own. */
const choicesOf = (props: unknown) => {
  const text = (name: string): string | undefined =>
    Predicate.hasProperty(props, name) && Predicate.isString(props[name]) ? props[name] : undefined
  return Effect.mapError(
    decodeChoices(
      Chats.choices({ agent: text("agent"), model: text("model"), title: text("title"), variant: text("variant") })
    ),
    () =>
      new Unprocessable({
        message: "agent, model, variant or title in forwardedProps is too long",
        advice: "GET /openapi.json says at POST /conversations/{conversationId}/turns how long they may be"
      })
  )
}

const decodeChoices = Schema.decodeEffect(Schema.Struct(choices))

/** The last message of the thread as a prompt: its text, and its files where they are inside it. */
const promptOf = ({ messages }: RunAgentInput) => {
  const last = messages.at(-1)
  if (last?.role !== "user") {
    return Effect.fail(
      new Unprocessable({
        message: "the last message of the thread is not the user's",
        advice: "send a message of the user, resume with the interrupts of the run before, or POST to /ag-ui/connect"
      })
    )
  }
  const { content } = last
  return Chats.decodePrompt(
    Predicate.isString(content)
      ? [{ type: "text", text: content }]
      : Array.isArray(content)
      ? content.map(toPromptPart)
      : []
  )
}

const toPromptPart = (part: unknown): unknown => {
  if (!Predicate.hasProperty(part, "source")) {
    return Predicate.hasProperty(part, "text") ? { type: "text", text: part.text } : part
  }
  const { source } = part
  return Predicate.hasProperty(source, "value") && Predicate.hasProperty(source, "mimeType")
    ? {
      type: "file",
      mediaType: source.mimeType,
      url: `data:${String(source.mimeType)};base64,${String(source.value)}`
    }
    : source
}

/** An update, or asks that the store holds open: the turn waits for people. */
type News = AttachedUpdate | { readonly _tag: "Waits"; readonly ids: ReadonlyArray<AskId> }

const toResponse = (
  store: SessionStore["Service"],
  mayFollow: Following.MayFollow,
  told: Asking.Told,
  [begun, first]: ReturnType<typeof AgUiEvents.start>,
  id: AssistantMessageId | undefined
) => {
  const start = Stream.succeed(Events.encode(toText(first)))
  if (id === undefined) {
    return Events.toResponse(
      Stream.concat(start, Stream.succeed(Events.encode(toText(AgUiEvents.end(begun)[1])))),
      store
    )
  }
  const events = newsOf(id, begun.isBegun, told).pipe(
    Stream.mapAccum(() => begun, (told, news) => {
      const [next, events] = news._tag === "Waits"
        ? AgUiEvents.interrupt(told, news.ids)
        : AgUiEvents.apply(told, news)
      return [next, [{ text: toText(events), isOver: next.isOver }]]
    }),
    Stream.takeUntil(({ isOver }) => isOver),
    Stream.map(({ text }) => text),
    Stream.filter((text) => text !== ""),
    Stream.map(Events.encode)
  )
  return Events.toResponse(Stream.concat(start, Events.open(mayFollow, events, failed)), store)
}

const toText = (events: ReadonlyArray<AgUiEvents.AgUiEvent>): string => events.map(Chats.toEvent).join("")

/** The client's verifier takes it anywhere. */
const failed = ({ message }: { readonly message: string }): string =>
  Chats.toEvent({ type: "RUN_ERROR", message, code: "StreamFailed" })

/**
 * The updates of a turn, and when it waits. An ask that some other gate answers, rules for example, is not in the store, and interrupts
 * nothing. A run that goes on is told the whole state first: its place in the turn is unknown.
 */
const newsOf = (id: AssistantMessageId, isNew: boolean, told: Asking.Told) =>
  Stream.unwrap(Effect.gen(function*() {
    const store = yield* SessionStore
    const scope = yield* Effect.scope
    const waits = yield* Queue.unbounded<News, Cause.Done>()
    const watch = (askId: AskId) =>
      store.askChanges(askId).pipe(
        Stream.mapEffect(() => retrying(store.getAsk(askId))),
        Stream.filter((ask) => Option.isSome(ask) && ask.value.status === "open"),
        Stream.take(1),
        // With it all others that are open, so that one run can answer them.
        Stream.mapEffect(() => retrying(store.listAsks({ messageId: id, limit: Infinity }))),
        Stream.runForEach((asks) => Queue.offer(waits, { _tag: "Waits", ids: asks.map(({ id }) => id) })),
        // A store that fails ends the updates too.
        Effect.ignore,
        Effect.forkIn(scope)
      )
    const updates = attachTurn(id, isNew ? {} : { from: "unknown" }).pipe(
      Stream.map((attached): News => told(attached).update),
      Stream.tap((news) => {
        switch (news._tag) {
          case "Asked":
            return watch(news.ask.id)
          case "Reset":
            return Effect.forEach(news.asks, ({ ask }) => watch(ask.id))
          default:
            return Effect.void
        }
      })
    )
    return Stream.merge(updates, Stream.fromQueue(waits), { haltStrategy: "left" })
  }))
