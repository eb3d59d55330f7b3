/**
 * Stops the sessions of a turn on OpenCode 2.x.
 *
 * **Details** (0.0.0-next-16350)
 *
 * Subagents are stopped before the session that opened them: the end of one in the background is told to its opener, which then works again.
 *
 * A managed server that is asked to end marks the sessions that work, and goes on with each of them at any time after its next start. An
 * interrupt stops a run, and takes no mark from an idle session. The beginning of a run takes it. So a session that is idle because its
 * server ended gets its prompt once more: that begins a run without work, which asks no model.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { MessageId, type SessionId } from "../../domain/Ids.ts"
import type { SessionTree } from "../Dialect.ts"
import { maybe } from "../Lenient.ts"
import * as Wire from "./Wire.ts"

/**
 * The requests that it takes. `active` are the sessions that work. `newest` are the newest messages of a session, newest first. `repost` posts
 * a prompt again. `withdraw` removes what waits for the turn, where the server can do that; `true`: that was its prompt, which nobody has read.
 *
 * @category models
 * @since 0.1.0
 */
export interface Requests<E> {
  readonly active: Effect.Effect<ReadonlySet<SessionId>, E>
  readonly newest: (id: SessionId) => Effect.Effect<ReadonlyArray<unknown>, E>
  readonly runEnd: (id: SessionId) => Effect.Effect<Wire.RunEnd, E>
  readonly interrupt: (id: SessionId) => Effect.Effect<void, E>
  readonly repost: (id: SessionId, prompt: Readonly<Record<string, unknown>>) => Effect.Effect<void, E>
  readonly withdraw: Effect.Effect<boolean, E>
}

/**
 * Stops the tree, and whatever would make it go on. Another prompt that has followed in the root is left alone.
 *
 * @category steps
 * @since 0.1.0
 */
export const stopTree = Effect.fnUntraced(function*<E>(
  requests: Requests<E>,
  { prompt, promptId, root, subagents }: SessionTree
): Effect.fn.Return<void, E> {
  const { active, interrupt, newest, withdraw } = requests
  // What works in the session is somebody else's prompt.
  if (yield* withdraw) return
  const tree = [...subagents.toReversed(), root]
  // A server that ended stopped all of them at once.
  if (!(yield* active).has(root)) {
    yield* Effect.forEach(tree, (id) => takeMark(requests, id, id === root ? prompt : undefined), {
      concurrency: maxAtOnce,
      discard: true
    })
  }
  const stop = Effect.forEach(tree, interrupt, { discard: true })
  const hasFollowed = Effect.map(newest(root), (messages) => {
    const last = lastPrompt(messages)
    return promptId !== undefined && last !== undefined && last.id !== promptId
  })
  const isStill = Effect.map(active, (active) => tree.every((id) => !active.has(id)))
  const isDone = Effect.flatMap(isStill, (isStill) => isStill ? Effect.succeed(true) : hasFollowed)
  yield* stop
  yield* isDone.pipe(
    Effect.tap((isDone) => isDone ? Effect.void : stop),
    Effect.repeat({ schedule: untilStill, until: (isDone) => isDone })
  )
})

// internal

/** Begins a run without work in an idle session whose last run its server has broken off. */
const takeMark = Effect.fnUntraced(function*<E>(
  { newest, repost, runEnd }: Requests<E>,
  id: SessionId,
  prompt: SessionTree["prompt"]
): Effect.fn.Return<void, E> {
  const last = lastPrompt(yield* newest(id))
  if (last === undefined) return
  // The server would take other words under the same id for a conflict.
  const { agents = [], files = [], text } = last
  const isOurs = prompt !== undefined && last.id === prompt.ids.promptId
  if (!isOurs && agents.length + files.length > 0) return
  const again = isOurs ? Wire.fromPrompt(prompt) : { id: last.id, text }
  const end = yield* runEnd(id)
  if (end !== "ended" && end !== "stopped") yield* repost(id, again)
})

const WirePrompt = Schema.Struct({
  id: MessageId,
  type: Schema.Literal("user"),
  text: Schema.String,
  files: maybe(Schema.Array(Schema.Unknown)),
  agents: maybe(Schema.Array(Schema.Unknown))
})
const decodePrompt = Schema.decodeUnknownOption(WirePrompt)

/** The newest prompt of a session whose messages come newest first. */
const lastPrompt = (newestFirst: ReadonlyArray<unknown>): typeof WirePrompt.Type | undefined => {
  for (const message of newestFirst) {
    const prompt = Option.getOrUndefined(decodePrompt(message))
    if (prompt !== undefined) return prompt
  }
  return undefined
}

/** A session that a subagent in the background wakes is stopped again, for at most this time. */
const untilStill = Schedule.max([Schedule.spaced("100 millis"), Schedule.during("5 seconds")])

/** How many sessions are asked at once. A turn may have hundreds of subagents. */
const maxAtOnce = 4
