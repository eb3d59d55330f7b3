/**
 * Makes an idle session of OpenCode 2.x go on with a prompt whose answer is missing or unfinished.
 *
 * **Details** (0.0.0-next-16350)
 *
 * A prompt that the model has not read is posted again. One that it has read would not be read twice: an input of our own makes the session
 * go on, once for each death of the server.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { MessageId, type PromptIds } from "../../domain/Ids.ts"

/**
 * The requests that it takes. `newest` is the newest input or step of the session, `hasWaiting` says whether inputs wait, `isActive` whether
 * the session works. `dropOrder` drops an order to summarise that its server left. `post` posts the prompt, `instruct` sets its system text
 * alone, and `postOwn` posts an input that no person wrote.
 *
 * @category models
 * @since 0.1.0
 */
export interface Requests<E> {
  readonly hasMessage: (id: MessageId) => Effect.Effect<boolean, E>
  readonly hasWaiting: Effect.Effect<boolean, E>
  readonly newest: Effect.Effect<MessageId | undefined, E>
  readonly isActive: Effect.Effect<boolean, E>
  readonly dropOrder: Effect.Effect<void, E>
  readonly post: Effect.Effect<void, E>
  readonly instruct: Effect.Effect<void, E>
  readonly postOwn: (input: Readonly<Record<string, unknown>>) => Effect.Effect<void, E>
}

/**
 * The mark of the inputs by which a session goes on.
 *
 * @category constants
 * @since 0.1.0
 */
export const source = "opencode-turn"

/**
 * @category steps
 * @since 0.1.0
 */
export const carryOn = Effect.fnUntraced(function*<E>(
  requests: Requests<E>,
  { promptId }: PromptIds
): Effect.fn.Return<void, E> {
  const { dropOrder, hasMessage, hasWaiting, instruct, post, postOwn } = requests
  // The run that carries it out fails.
  yield* dropOrder
  if (!(yield* hasMessage(promptId))) return yield* post
  // What waits would begin before the answer is whole.
  if (yield* hasWaiting) yield* instruct
  else if (yield* goesOn(requests)) return
  let count = 1
  while (yield* hasMessage(continuation(promptId, count))) count++
  yield* postOwn({
    id: continuation(promptId, count),
    text: continueText,
    description: "Continue after an interruption",
    metadata: { source },
    // Before everything that waits.
    delivery: "steer"
  })
})

// internal

/**
 * Whether a session goes on by itself. A managed server resumes what its end had stopped, at any time after its start. Posting the prompt
 * again settles whether it does: the run that this begins has nothing to do and asks no model, but its start takes from the session the
 * mark by which the server would resume it. If the server was faster, the session is at work, or has gone on already.
 */
const goesOn = Effect.fnUntraced(function*<E>(
  { isActive, newest, post }: Requests<E>
): Effect.fn.Return<boolean, E> {
  const before = yield* newest
  yield* post
  const state = Effect.gen(function*() {
    const mayWork = yield* isActive
    return (yield* newest) !== before ? "on" as const : mayWork ? "unknown" as const : "still" as const
  })
  const settled = yield* Effect.repeat(state, { schedule: untilSettled, until: (state) => state !== "unknown" })
  return settled === "on"
})

/** A run without work ends within milliseconds, or once the server has loaded the folder. */
const untilSettled = Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("1 second")])

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
