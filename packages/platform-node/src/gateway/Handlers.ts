/**
 * What the routes of `GatewayApi` do.
 *
 * **Not responsibilities**: who may call (`Access`), what is whose (`Ownership`), the running of turns (`Runs`).
 *
 * @since 0.1.0
 */
import { Client } from "@opencode-turn/core/Client"
import { AskId, type ConversationId, idFlaw } from "@opencode-turn/core/Ids"
import { forkConversation, revertTurn, unrevertTurn } from "@opencode-turn/core/Operations"
import { retrying } from "@opencode-turn/core/Retrying"
import { type MessageState, SessionStore, type StoreError } from "@opencode-turn/core/SessionStore"
import { answerAsk } from "@opencode-turn/core/StoredGate"
import { isOpen } from "@opencode-turn/core/StoredMessage"
import type { TurnInput } from "@opencode-turn/core/TurnInput"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as SchemaIssue from "effect/SchemaIssue"
import { Access, linkMinutes } from "./Access.ts"
import * as Asking from "./Asking.ts"
import * as Events from "./Events.ts"
import * as Following from "./Following.ts"
import { Authorized, type Connection, GatewayApi, Readable, type StartTurn, Written } from "./GatewayApi.ts"
import { BodyTooLarge, InvalidRequest, NotFound, TooLate, Unprocessable, UnsupportedMediaType } from "./GatewayError.ts"
import {
  checkReach,
  isOwn,
  newConversation,
  ownAsk,
  ownAskSoon,
  ownConversation,
  ownTurn,
  stored,
  storeFailed,
  unknown
} from "./Ownership.ts"
import { Runs } from "./Runs.ts"
import * as TurnJson from "./TurnJson.ts"
import { CurrentUser, type User } from "./User.ts"

/**
 * What the product says of a turn besides what its client says: system prompt, tools, permissions, the model. It replaces the client's
 * own choices.
 *
 * @category models
 * @since 0.1.0
 */
export class ProductInput extends Context.Service<
  ProductInput,
  (start: StartTurn, user: User, conversationId: ConversationId) => Partial<TurnInput>
>()("@opencode-turn/platform-node/gateway/ProductInput") {}

/**
 * Finds the user of each request.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerAuthorized: Layer.Layer<Authorized, never, Access> = Layer.effect(
  Authorized,
  Effect.map(Access, (access) =>
    Authorized.of((handler) =>
      Effect.gen(function*() {
        const user = yield* access.userOf(yield* HttpServerRequest.HttpServerRequest)
        return yield* Effect.provideService(handler, CurrentUser, user)
      })
    ))
)

/**
 * Says which field of a request does not fit.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerReadable: Layer.Layer<Readable> = HttpApiMiddleware.layerSchemaErrorTransform(
  Readable,
  (error) =>
    error.kind === "Body" || error.kind === "ResponseHeaders"
      ? Effect.die(error)
      : Effect.fail(
        new InvalidRequest({
          message: `${slots[error.kind]} of the request: ${issuesOf(error.cause.issue)}`,
          advice: "GET /openapi.json describes what each route takes"
        })
      )
)

/**
 * Reads the body before it is decoded, so that what is wrong with it is an answer and no defect. The request keeps what was read.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWritten: Layer.Layer<Written> = Layer.succeed(
  Written,
  Written.of((handler) =>
    Effect.gen(function*() {
      const request = yield* HttpServerRequest.HttpServerRequest
      if (!/^application\/json(?:;|$)/i.test(request.headers["content-type"] ?? "application/json")) {
        return yield* new UnsupportedMediaType({
          message: "the body of the request is not JSON",
          advice: "send it as application/json"
        })
      }
      const limit = yield* HttpIncomingMessage.MaxBodySize
      // Before the body comes, which may take its time.
      if (limit !== undefined && Number(request.headers["content-length"]) > limit) return yield* tooLarge
      yield* Effect.mapError(request.text, ({ reason }) =>
        reason._tag === "RequestParseError" && reason.reason === "BodyTooLarge"
          ? tooLarge
          : new InvalidRequest({ message: "the body of the request cannot be read", advice: "send it again" }))
      return yield* handler
    })
  )
)

/**
 * The routes of turns.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerTurns = HttpApiBuilder.group(
  GatewayApi,
  "turns",
  Effect.fnUntraced(function*(handlers) {
    const runs = yield* Runs
    const product = yield* ProductInput
    const store = yield* SessionStore
    return handlers.handleAll({
      start: Effect.fnUntraced(function*({ headers, params: { conversationId }, payload }) {
        yield* ownConversation(conversationId)
        const user = yield* CurrentUser
        const { prompt, ...choices } = payload
        const { isNew, state } = yield* runs.start(user, {
          conversationId,
          key: headers["idempotency-key"],
          prompt: typeof prompt === "string" ? [{ type: "text", text: prompt }] : prompt,
          choices: { ...choices, ...product(payload, user, conversationId) }
        })
        return { messageId: state.id, conversationId, status: state.status, isNew }
      }),

      get: Effect.fnUntraced(function*({ params: { messageId } }) {
        yield* ownTurn(messageId)
        const message = yield* stored(retrying(store.getMessage(messageId)))
        return TurnJson.toTurn(yield* Effect.fromOption(message, () => unknown("turn", messageId)))
      }),

      attach: Effect.fnUntraced(function*({ headers, params: { messageId }, query }) {
        const state = yield* ownTurn(messageId)
        // The header is newer: a browser that reconnects sends it to the address that it was given at first.
        const from = headers["last-event-id"] ?? query.from
        const place = from === undefined ? undefined : Events.parseOffset(from)
        if (place?.isEnd === true && !isOpen(state.status)) return HttpServerResponse.empty({ status: 204 })
        const mayFollow = yield* Following.begin(runs, state.conversationId)
        return Events.toResponse(Events.ofTurn(messageId, place?.offset, mayFollow, yield* Asking.told), store)
      }),

      cancel: Effect.fnUntraced(function*({ params: { messageId } }) {
        return yield* stopTurn(runs, yield* ownTurn(messageId))
      }),

      revert: Effect.fnUntraced(function*({ params: { messageId } }) {
        const { conversationId } = yield* ownTurn(messageId)
        return TurnJson.toTurn(yield* runs.operate(conversationId, revertTurn(messageId)))
      })
    })
  })
)

/**
 * The routes of conversations.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConversations = HttpApiBuilder.group(
  GatewayApi,
  "conversations",
  Effect.fnUntraced(function*(handlers) {
    const runs = yield* Runs
    const store = yield* SessionStore
    return handlers.handleAll({
      fork: Effect.fnUntraced(function*({ params: { conversationId }, payload: { at, into } }) {
        yield* ownConversation(conversationId)
        if (into !== undefined) yield* ownConversation(into)
        const target = into ?? (yield* newConversation)
        return TurnJson.toTurn(
          yield* runs.operate(conversationId, forkConversation({ conversationId, at, into: target }))
        )
      }),

      unrevert: Effect.fnUntraced(function*({ params: { conversationId } }) {
        yield* ownConversation(conversationId)
        return TurnJson.toTurn(yield* runs.operate(conversationId, unrevertTurn(conversationId)))
      }),

      compact: Effect.fnUntraced(function*({ params: { conversationId }, payload: { model } }) {
        yield* ownConversation(conversationId)
        const { id, status } = yield* runs.compact(yield* CurrentUser, { conversationId, model })
        return { messageId: id, conversationId, status, isNew: true }
      }),

      list: Effect.fnUntraced(function*({ query: { before, limit = defaultLimit } }) {
        const beforePosition = yield* toPosition(before)
        const page = yield* ownPage({
          limit,
          most: maxScanned,
          first: beforePosition,
          read: (beforePosition) => store.listConversations({ limit: batch, beforePosition }),
          cursorOf: ({ position }) => position
        })
        return {
          items: page.items.map((state) => ({
            conversationId: state.conversationId,
            newestTurn: TurnJson.toSummary(state)
          })),
          next: page.next === undefined ? null : String(page.next)
        }
      }),

      begin: () => Effect.map(newConversation, (conversationId) => ({ conversationId })),

      turns: Effect.fnUntraced(function*({ params: { conversationId }, query: { before, limit = defaultLimit } }) {
        yield* ownConversation(conversationId)
        const beforePosition = yield* toPosition(before)
        const messages = yield* stored(retrying(store.listMessages(conversationId, limit, beforePosition)))
        const [oldest] = messages
        if (oldest === undefined) return { items: [], next: null }
        const older = yield* retrying(store.listByStatus({ conversationId, limit: 1, beforePosition: oldest.position }))
          .pipe(
            // The next older row cannot be read: those before it still can.
            Effect.orElseSucceed(() => [undefined])
          )
        return { items: messages.map(TurnJson.toTurn), next: older.length > 0 ? String(oldest.position) : null }
      })
    })
  })
)

/**
 * The routes of asks.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerAsks = HttpApiBuilder.group(
  GatewayApi,
  "asks",
  Effect.fnUntraced(function*(handlers) {
    const store = yield* SessionStore
    return handlers.handleAll({
      list: Effect.fnUntraced(function*({ query: { after, conversationId, limit = defaultLimit } }) {
        if (conversationId !== undefined) yield* ownConversation(conversationId)
        const page = yield* ownPage({
          limit,
          // To the end, because the place where it stopped would be the id of somebody else's ask.
          most: Infinity,
          first: yield* ownPlace(after),
          read: (after) => store.listAsks({ conversationId, limit: batch, after }),
          cursorOf: ({ id }) => id
        })
        return { items: page.items.map(yield* Asking.toldAsk), next: page.next ?? null }
      }),

      answer: Effect.fnUntraced(function*({ params: { askId }, payload }) {
        yield* ownAskSoon(askId)
        yield* checkReach(payload)
        return yield* answerAsk(askId, payload).pipe(
          Effect.map(yield* Asking.toldAsk),
          Effect.catchTags({
            StoreError: storeFailed,
            UnknownAsk: () => Effect.fail(unknown("ask", askId)),
            AskClosed: ({ message }) =>
              Effect.fail(new TooLate({ message, advice: "GET /asks lists what still waits for an answer" })),
            InvalidAnswer: ({ message }) =>
              Effect.fail(new Unprocessable({ message, advice: "answer what was asked, see docs/PEOPLE.md" }))
          })
        )
      })
    })
  })
)

/**
 * The routes of the gateway itself.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerService = HttpApiBuilder.group(
  GatewayApi,
  "service",
  Effect.fnUntraced(function*(handlers) {
    const client = yield* Client
    const access = yield* Access
    const connection = yield* Effect.cachedWithTTL(checkConnection(client), "5 seconds")
    return handlers.handleAll({
      health: () => Effect.succeed({ status: "ok" as const }),
      connection: () => connection,
      link: Effect.fnUntraced(function*() {
        const path = yield* access.makeLink
        if (path === undefined) {
          return yield* new NotFound({ message: "this gateway makes no links", advice: "its product signs people in" })
        }
        return { path, expiresMillis: (yield* Clock.currentTimeMillis) + linkMinutes * 60_000 }
      })
    })
  })
)

/**
 * Stops a turn, and gives what became of it.
 *
 * @category turns
 * @since 0.1.0
 */
export const stopTurn = (runs: Runs["Service"], state: MessageState) =>
  runs.cancel(state).pipe(
    Effect.map(TurnJson.toTurn),
    Effect.catchTags({
      StoreError: storeFailed,
      UnknownMessage: () => Effect.fail(unknown("turn", state.id)),
      AlreadyFinished: ({ status }) =>
        Effect.fail(
          new TooLate({ message: `the turn has ended (${status})`, advice: "there is nothing left to stop" })
        )
    })
  )

// internal

const tooLarge = new BodyTooLarge({
  message: "the body of the request is too large",
  advice: "send fewer or smaller files"
})

const defaultLimit = 20

/** How many rows are read at once to find those of a user, and how many conversations for one page. */
const batch = 100
const maxScanned = 1_000

const slots = { Params: "the path", Headers: "the headers", Query: "the query", Payload: "the body" }

const formatIssue = SchemaIssue.makeFormatterStandardSchemaV1()

/** The first issues in words. */
const issuesOf = (issue: SchemaIssue.Issue): string =>
  formatIssue(issue).issues.slice(0, 5).map(({ message, path = [] }) => {
    const field = path.map((part) => String(typeof part === "object" ? part.key : part)).join(".")
    return `${field === "" ? "" : `${field}: `}${message.slice(0, 300)}`
  }).join("; ")

const toPosition = (cursor: string | undefined): Effect.Effect<number | undefined, InvalidRequest> =>
  cursor === undefined || /^\d{1,15}$/.test(cursor)
    ? Effect.succeed(cursor === undefined ? undefined : Number(cursor))
    : Effect.fail(
      new InvalidRequest({
        message: "the query of the request: before is no place in a list",
        advice: "pass the `next` of the page before"
      })
    )

/** The ask behind which a page begins. That of somebody else is unknown, and a page behind an unknown one begins at the start. */
const ownPlace = Effect.fnUntraced(function*(after: string | undefined) {
  if (after === undefined || idFlaw(after) !== undefined) return undefined
  const id = AskId.make(after)
  return yield* ownAsk(id).pipe(Effect.as(id), Effect.catchTags({ NotFound: () => Effect.undefined }))
})

/**
 * The user's rows of a long list, read page by page. At most `most` rows are read for one page, which may then be short, and `next`
 * leads on.
 */
const ownPage = Effect.fnUntraced(function*<A extends { readonly conversationId: ConversationId }, C>(
  { cursorOf, first, limit, most, read }: {
    readonly limit: number
    readonly most: number
    readonly first: C | undefined
    readonly read: (cursor: C | undefined) => Effect.Effect<ReadonlyArray<A>, StoreError>
    readonly cursorOf: (row: A) => C
  }
) {
  const items: Array<A> = []
  const known = new Map<ConversationId, boolean>()
  let cursor = first
  for (let count = 0; count < most;) {
    const rows = yield* stored(retrying(read(cursor)))
    if (rows.length === 0) return { items, next: undefined }
    for (const row of rows) {
      const isTheirs = known.get(row.conversationId) ?? (yield* isOwn(row.conversationId))
      known.set(row.conversationId, isTheirs)
      // Only where another row follows is there a next page. It begins behind a row of the user's, whose id may be shown.
      if (isTheirs && items.length === limit) return { items, next: cursorOf(items[limit - 1] ?? row) }
      if (isTheirs) items.push(row)
      cursor = cursorOf(row)
    }
    count += rows.length
  }
  return { items, next: cursor }
})

const checkConnection = (client: Client["Service"]): Effect.Effect<Connection> =>
  Effect.gen(function*() {
    const checkedMillis = yield* Clock.currentTimeMillis
    return yield* client.health.pipe(
      Effect.timeout("2 seconds"),
      Effect.match({
        onSuccess: ({ version }): Connection => ({ state: "connected", version, reason: null, checkedMillis }),
        onFailure: ({ _tag }): Connection => ({ state: "unreachable", version: null, reason: _tag, checkedMillis })
      })
    )
  })
