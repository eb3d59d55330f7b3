/**
 * Stops the sessions of a turn on OpenCode 1.x.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { Ask } from "../../domain/Ask.ts"
import type { RequestError } from "../ClientError.ts"
import type { Dialect, SessionTree } from "../Dialect.ts"

/**
 * The requests that stopping a tree takes.
 *
 * @category models
 * @since 0.1.0
 */
export type Requests = Pick<
  Dialect,
  "abortSession" | "answerPermission" | "permissions" | "questions" | "rejectQuestion"
>

/**
 * Rejects the open asks of the tree and aborts its sessions. A session that cannot be reached is left to the server.
 *
 * @category steps
 * @since 0.1.0
 */
export const stopTree = Effect.fnUntraced(function*(
  requests: Requests,
  tree: SessionTree,
  isHurried: boolean
): Effect.fn.Return<void, RequestError> {
  if (!isHurried) yield* rejectAsks(requests, tree)
  yield* abortSessions(requests, tree)
  // An ask that came between the rejections and the abort would stay listed.
  yield* rejectAsks(requests, tree)
})

// internal

/** OpenCode aborts running subagents with their root (1.18.33); asking for each as well costs little. */
const abortSessions = ({ abortSession }: Requests, { root, subagents }: SessionTree) =>
  Effect.forEach([root, ...subagents], abortSession, { concurrency: maxPosts, discard: true })

/**
 * Rejects the open asks of the tree. A session whose subagent asks survives its abort and calls its model again, and the asks stay listed
 * forever (1.18.33). Neither happens once the asks are rejected.
 */
const rejectAsks = Effect.fnUntraced(function*(requests: Requests, { root, subagents }: SessionTree) {
  const sessions = new Set([root, ...subagents])
  const isOurs = ({ sessionId }: Ask) => sessions.has(sessionId)
  const reject = (asks: Iterable<Ask>) =>
    Effect.forEach(
      asks,
      ({ _tag, id }) =>
        Effect.ignore(
          _tag === "Question" ? requests.rejectQuestion(id) : requests.answerPermission(id, { reply: "reject" })
        ),
      { concurrency: maxPosts, discard: true }
    )
  const questions = yield* Effect.orElseSucceed(requests.questions, () => [])
  const listed = Effect.map(Effect.orElseSucceed(requests.permissions, () => []), (asks) => asks.filter(isOurs))
  // The first permission that is rejected takes the others of its session with it (1.18.33).
  const permissions = yield* listed
  const first = new Map(permissions.toReversed().map((ask) => [ask.sessionId, ask]))
  yield* reject(first.values())
  yield* reject(questions.filter(isOurs))
  if (first.size < permissions.length) yield* reject(yield* listed)
})

/** How many requests stop a turn at once: 4. A turn that asks thousands of things must not keep those of other turns waiting. */
const maxPosts = 4
