/**
 * What the agent did to files in a turn: its parts, and the server's own account of the changes where there is one.
 *
 * **Responsibilities**: whether the server is asked at all, that it takes a bounded time and never fails, and a reason for everything
 * that may be missing.
 *
 * **Not responsibilities**: how parts and account are put together (`Artifact`).
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type { MessageId, SessionId } from "../domain/Ids.ts"
import type { ToolPart } from "../domain/Part.ts"
import { retrying } from "../domain/Retrying.ts"
import { step } from "../domain/Tracing.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import { Client } from "../opencode/Client.ts"
import type { RequestError } from "../opencode/ClientError.ts"
import type { Account, Artifacts, Place, SessionParts } from "../reply/Artifact.ts"
import * as Artifact from "../reply/Artifact.ts"
import * as Reply from "../reply/Reply.ts"

/**
 * A session of a turn. `promptIds` are the prompts that it answered, as far as their accounts may be asked for.
 *
 * @category models
 * @since 0.1.0
 */
export interface EndedSession extends SessionParts {
  readonly promptIds: ReadonlyArray<MessageId>
}

/**
 * A turn that has ended.
 *
 * **Details**
 *
 * `sessionId` is the turn's own session; `sessions` are this one and those of its subagents, a subagent behind who called it.
 * `isStructured`: it asked for a value of a JSON Schema. `end`: `stopped` is one that was aborted, also for a limit or a deadline;
 * `failed` one that its model or OpenCode failed.
 *
 * @category models
 * @since 0.1.0
 */
export interface EndedTurn extends Place {
  readonly sessionId: SessionId
  readonly sessions: ReadonlyArray<EndedSession>
  readonly isStructured: boolean
  readonly end: "completed" | "failed" | "stopped"
}

/**
 * The turn of which these are the replies, the last one to its last prompt. What the earlier ones did is known from their parts alone.
 *
 * @category conversions
 * @since 0.1.0
 */
export const fromReplies = (
  earlier: ReadonlyArray<Reply.Reply>,
  last: Reply.Reply,
  fields: Pick<EndedTurn, "isStructured" | "end">
): EndedTurn => {
  const place = Reply.messages(last).findLast(({ info }) => info.directory !== undefined)?.info
  return {
    ...fields,
    sessionId: last.sessionId,
    sessions: [
      ended(last, [last.promptId]),
      ...Reply.subagentStates(last).map(({ reply }) => ended(reply, Array.from(reply.session.continuations))),
      ...earlier.flatMap(Reply.replies).map((reply) => ended(reply, []))
    ],
    directory: place?.directory,
    worktree: place?.worktree
  }
}

/**
 * Reads the artifacts of a turn, within `TurnPolicy.StopTimeout`.
 *
 * **Details**
 *
 * Nothing is asked where no tool was called that could have written, nor outside of a repository, of which the server has no account
 * (1.18.33). The account of the turn's own session has what its `task` calls changed as well; a subagent whose files it does not have (that
 * of a subtask part) is asked for its own. The account of a turn that was stopped lacks its last step, and one that has just ended may be
 * complete some 400 ms later only: what it should have and has not is waited for, 600 ms. Where the server keeps no account of a
 * repository (`Dialect.diff`), the calls of tools tell what became of their files, and each step names those that shell commands changed.
 *
 * **Gotchas**
 *
 * What shell commands changed is not known, and nothing tells so, outside of the session's folder, in files that git ignores, and with
 * `snapshot: false` in the server's configuration.
 *
 * @category steps
 * @since 0.1.0
 */
export const readArtifacts = Effect.fnUntraced(function*(
  turn: EndedTurn
): Effect.fn.Return<Artifacts, never, Client> {
  if (!mayHaveWritten(turn)) return Artifact.none
  const { end, sessionId, sessions } = turn
  const untold = toolsWithoutAccount(turn)
  const unread = (...reasons: ReadonlyArray<string>) => reasons.map((reason) => ({ sessionId, reason }))

  if (!isInRepository(turn)) {
    return {
      files: Artifact.fromParts(sessions, turn),
      unread: untold === "" ? [] : unread(`what ${untold} changed is not known: the folder is in no repository`)
    }
  }

  const read = yield* Effect.result(readAccount(turn))
  if (Result.isFailure(read)) {
    return {
      files: Artifact.fromParts(sessions, turn),
      unread: unread(`the server's account of the changes could not be read: ${read.failure}`)
    }
  }
  const account = read.success
  if (account === undefined) {
    const isUntold = end !== "completed" && untold !== ""
    return {
      files: Artifact.fromParts(sessions, turn),
      unread: isUntold
        ? unread(`the turn did not end well: what ${untold} changed in its last step may be missing`)
        : []
    }
  }
  const isWhole = end === "completed" || (untold === "" && lacking(turn, account, sessions).length === 0)
  const alsoUntold = untold === "" ? "" : `, and what ${untold} changed in it`
  return {
    files: Artifact.fromParts(sessions, turn, end === "completed" ? account : { ...account, covered: [] }),
    unread: isWhole
      ? []
      : unread(`the turn did not end well: the server's account may lack its last step${alsoUntold}`)
  }
}, step("Turn.readArtifacts"))

// internal

const ended = (reply: Reply.Reply, promptIds: ReadonlyArray<MessageId>): EndedSession => ({
  sessionId: reply.sessionId,
  promptIds,
  parts: Reply.parts(reply)
})

const isInRepository = ({ worktree }: EndedTurn): boolean => worktree !== undefined && worktree !== "/"

/** Whether any part tells of a changed file, or is of a call that may have changed one without a word. */
const mayHaveWritten = ({ sessions }: EndedTurn): boolean =>
  sessions.some(({ parts }) =>
    parts.some((part) =>
      part.type === "patch" ||
      (part.type === "tool" && (part.files === undefined || part.files.length > 0 || part.subagent !== undefined))
    )
  )

/** Names of tools whose file changes are unknown, including those of subagents without parts. */
const toolsWithoutAccount = ({ sessions }: EndedTurn): string => {
  const known = new Set(sessions.map(({ sessionId }) => sessionId))
  const isUntold = ({ files, subagent }: ToolPart) =>
    files === undefined || (subagent !== undefined && !known.has(subagent))
  const tools = sessions.flatMap(({ parts }) => parts.filter((part) => part.type === "tool").filter(isUntold))
  return [...new Set(tools.map(({ tool }) => tool))].toSorted().join(", ")
}

/** The account of the turn's own session, and of the sessions of whose changes it has not all; nothing where the server keeps none. */
const readAccount = Effect.fnUntraced(
  function*(turn: EndedTurn): Effect.fn.Return<Account | undefined, RequestError, Client> {
    const own = turn.sessions.filter(({ sessionId }) => sessionId === turn.sessionId)
    let account = yield* Effect.repeat(readOwn(turn, none, own), {
      schedule: turn.end === "stopped" ? Schedule.recurs(0) : late,
      until: (account) => account === undefined || lacking(turn, account, own).length === 0
    })
    for (const session of turn.sessions) {
      if (account === undefined) break
      if (own.includes(session) || session.promptIds.length === 0) continue
      if (uncovered(turn, account, session).length > 0) account = yield* readOwn(turn, account, [session])
    }
    return account
  },
  Effect.mapError(({ message }) => message),
  (effect) =>
    Effect.flatMap(TurnPolicy.StopTimeout, (limit) =>
      Effect.timeoutOrElse(effect, {
        duration: limit,
        orElse: () => Effect.fail(`the server did not answer within ${Duration.toMillis(limit)} ms`)
      }))
)

const none: Account = { files: [], covered: [] }

/** What these sessions have in accounts of their own, beside another account: that knows what became of it afterwards. */
const readOwn = Effect.fnUntraced(function*(turn: EndedTurn, account: Account, sessions: ReadonlyArray<EndedSession>) {
  const client = yield* Client
  const prompts = sessions.flatMap(({ promptIds, sessionId }) => promptIds.map((promptId) => ({ promptId, sessionId })))
  const read = yield* Effect.forEach(
    prompts,
    ({ promptId, sessionId }) => retrying(client.diff(sessionId, promptId, turn))
  )
  const files = read.filter(Predicate.isNotUndefined)
  return files.length < read.length ? undefined : {
    files: [...files.flat(), ...account.files],
    covered: [...account.covered, ...sessions.map(({ sessionId }) => sessionId)]
  }
})

const late = Schedule.spaced("200 millis").pipe(Schedule.upTo({ times: 3 }))

/** The files that `patch` parts of these sessions name, and the account does not. */
const lacking = (place: Place, account: Account, sessions: ReadonlyArray<EndedSession>): ReadonlyArray<string> => {
  const counted = new Set(Artifact.fromParts([], place, account).map(({ path }) => path))
  return patched(place, sessions).filter((path) => !counted.has(path))
}

/** Those of a session that no covered session names either: it was called by none of their steps. */
const uncovered = (turn: EndedTurn, account: Account, session: EndedSession): ReadonlyArray<string> => {
  const covered = turn.sessions.filter(({ sessionId }) => account.covered.includes(sessionId))
  const named = new Set(patched(turn, covered))
  return lacking(turn, account, [session]).filter((path) => !named.has(path))
}

const patched = (place: Place, sessions: ReadonlyArray<EndedSession>): ReadonlyArray<string> =>
  Artifact.fromParts(
    sessions.map(({ parts, sessionId }) => ({ sessionId, parts: parts.filter(({ type }) => type === "patch") })),
    place
  ).map(({ path }) => path)
