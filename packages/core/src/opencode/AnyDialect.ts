/**
 * The dialect of whatever server answers, which is found out once, with the first request.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as HttpClient from "effect/http/HttpClient"
import * as Stream from "effect/Stream"
import type { RequestError } from "./ClientError.ts"
import type { Dialect } from "./Dialect.ts"
import * as Requests from "./Requests.ts"
import type { Server } from "./ServerLine.ts"
import * as V1 from "./v1/Http.ts"
import * as V2 from "./v2/Http.ts"

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  options: Requests.Options
): Effect.fn.Return<Dialect, never, HttpClient.HttpClient> {
  const requests = yield* Requests.make(options)
  const v1 = yield* V1.make(options, requests)
  const v2 = yield* V2.make(options, requests)
  const dialectOf = ({ line }: Server): Dialect => (line === "1.x" ? v1 : v2)

  const found: Effect.Effect<Dialect, RequestError> = Effect.suspend(() => {
    const server = requests.server()
    return server === undefined
      ? Effect.map(requests.withTimeout("health", requests.whenReady), dialectOf)
      : Effect.succeed(dialectOf(server))
  })
  const ask = <A, E>(question: (dialect: Dialect) => Effect.Effect<A, E>): Effect.Effect<A, E | RequestError> =>
    Effect.flatMap(found, question)

  return {
    origin: requests.origin,
    health: requests.health,
    directory: ask((dialect) => dialect.directory),
    agents: ask((dialect) => dialect.agents),
    checkRules: (rules) => ask((dialect) => dialect.checkRules(rules)),
    createSession: (options) => ask((dialect) => dialect.createSession(options)),
    getSession: (id) => ask((dialect) => dialect.getSession(id)),
    updateSession: (id, patch) => ask((dialect) => dialect.updateSession(id, patch)),
    deleteSession: (id) => ask((dialect) => dialect.deleteSession(id)),
    abortSession: (id) => ask((dialect) => dialect.abortSession(id)),
    stopTree: (tree, options) => ask((dialect) => dialect.stopTree(tree, options)),
    forkSession: (id, options) => ask((dialect) => dialect.forkSession(id, options)),
    revertSession: (id, from) => ask((dialect) => dialect.revertSession(id, from)),
    unrevertSession: (id) => ask((dialect) => dialect.unrevertSession(id)),
    compactSession: (id, model) => ask((dialect) => dialect.compactSession(id, model)),
    dropCompaction: (id) => ask((dialect) => dialect.dropCompaction(id)),
    children: (id) => ask((dialect) => dialect.children(id)),
    statuses: ask((dialect) => dialect.statuses),
    listMessages: (id, page) => ask((dialect) => dialect.listMessages(id, page)),
    getMessage: (id, messageId) => ask((dialect) => dialect.getMessage(id, messageId)),
    checkPrompt: (prompt, id) => ask((dialect) => dialect.checkPrompt(prompt, id)),
    takesVariant: (model, variant) => ask((dialect) => dialect.takesVariant(model, variant)),
    prompt: (id, prompt) => ask((dialect) => dialect.prompt(id, prompt)),
    hasPrompt: (id, promptId) => ask((dialect) => dialect.hasPrompt(id, promptId)),
    carryOn: (id, prompt) => ask((dialect) => dialect.carryOn(id, prompt)),
    endPrompt: (id, prompt) => ask((dialect) => dialect.endPrompt(id, prompt)),
    promptAndWait: (id, prompt) => ask((dialect) => dialect.promptAndWait(id, prompt)),
    questions: ask((dialect) => dialect.questions),
    answerQuestion: (id, answers) => ask((dialect) => dialect.answerQuestion(id, answers)),
    rejectQuestion: (id, message) => ask((dialect) => dialect.rejectQuestion(id, message)),
    permissions: ask((dialect) => dialect.permissions),
    answerPermission: (id, reply) => ask((dialect) => dialect.answerPermission(id, reply)),
    todos: (id) => ask((dialect) => dialect.todos(id)),
    diff: (id, promptId, answer) => ask((dialect) => dialect.diff(id, promptId, answer)),
    events: Stream.unwrap(Effect.map(found, (dialect) => dialect.events))
  }
})
