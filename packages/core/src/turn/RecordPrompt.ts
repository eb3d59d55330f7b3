/**
 * The prompts of a turn: the prompt that an earlier owner of its message recorded and perhaps posted, the prompt of this owner, and
 * the prompt that tells the agent what is wrong with its answer or what was refused.
 *
 * Owns: the ids and the record, which is written before the first byte is sent. Does not own: posting (`Drive`).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type { SessionId } from "../domain/Ids.ts"
import { makePromptIds } from "../domain/Ids.ts"
import type { PromptPart } from "../domain/Prompt.ts"
import { retrying } from "../domain/Retrying.ts"
import { TurnCancelled, TurnTakenOver, TurnUnfinished } from "../domain/TurnError.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import * as LiveReply from "../drive/LiveReply.ts"
import { baseline, readExchange } from "../drive/ReadExchange.ts"
import { readSubagents } from "../drive/ReadSubagents.ts"
import { Client } from "../opencode/Client.ts"
import * as Exchange from "../reply/Exchange.ts"
import * as Reply from "../reply/Reply.ts"
import type { StoredMessage } from "../store/SessionStore.ts"
import { SessionStore } from "../store/SessionStore.ts"
import type { IdentifiedPrompt, PromptRecord } from "../store/StoredMessage.ts"
import { checkAgents } from "./CheckAgents.ts"
import type { EnsuredSession } from "./EnsureSession.ts"
import { limitTools } from "./LimitTools.ts"
import * as Output from "./Output.ts"
import type { TurnInput } from "./TurnInput.ts"
import { toPrompt } from "./TurnInput.ts"

/**
 * What an earlier owner of the message recorded, and perhaps posted, before it went away.
 *
 * @category getters
 * @since 0.1.0
 */
export const recordedFor = ({ promptRecord }: StoredMessage, sessionId: SessionId): IdentifiedPrompt | undefined => {
  const ids = promptRecord?.prompt.ids
  return promptRecord === null || ids === undefined || promptRecord.sessionId !== sessionId
    ? undefined
    : { ...promptRecord, prompt: { ...promptRecord.prompt, ids } }
}

/**
 * Makes the prompt and its ids, and writes them before the first byte is sent.
 *
 * @category steps
 * @since 0.1.0
 */
export const recordPrompt = Effect.fnUntraced(function*<E, R>(
  input: TurnInput<E, R>,
  message: StoredMessage,
  session: EnsuredSession
) {
  const { sessionId } = session
  const tools = yield* limitTools(input.tools, session)
  const outputSchema = message.draft?.outputSchema
  const prompt = {
    ...(yield* toPrompt(input, message.prompt)),
    ...(tools !== undefined && { tools }),
    ...(outputSchema !== undefined && { format: Output.toFormat(outputSchema) })
  }
  yield* checkAgents(prompt)
  const ids = yield* makePromptIds(yield* baseline(sessionId), prompt.parts.length)
  const request: IdentifiedPrompt = { sessionId, prompt: { ...prompt, ids } }
  yield* record(message, request)
  return request
})

/**
 * Makes the next prompt of the same turn and writes its ids. Its text says what is wrong with the last answer, or what was refused.
 *
 * @category steps
 * @since 0.1.0
 */
export const recordRepair = Effect.fnUntraced(function*(
  { earlier = [], prompt: { ids: { promptId }, ...choices }, refusals = 0, sessionId }: IdentifiedPrompt,
  { messages }: Exchange.Exchange,
  { text, why }: { readonly text: string; readonly why: "invalid" | "refused" },
  message: StoredMessage
) {
  const newestMessageId = messages.reduce((newest, { info }) => (info.id > newest ? info.id : newest), promptId)
  const ids = yield* makePromptIds({ newestMessageId, sessionUpdatedMillis: 0 }, 1)
  const parts: ReadonlyArray<PromptPart> = [{ type: "text", text }]
  const refused = why === "refused" ? refusals + 1 : refusals
  const repair: IdentifiedPrompt = {
    sessionId,
    prompt: { ...choices, parts, ids },
    earlier: [...earlier, promptId],
    ...(refused > 0 && { refusals: refused })
  }
  yield* record(message, repair)
  return repair
})

/**
 * Looks for the answer to a prompt that may have been posted before.
 *
 * **Details**
 *
 * Ids whose answer has ended must not be posted again: the model would be asked anew where it ended with an error, or is a
 * structured one (1.18.33). `isBusy`: the prompt was not posted, and its session works on something else.
 *
 * @category steps
 * @since 0.1.0
 */
export const findAnswer = Effect.fnUntraced(function*(
  { prompt: { ids: { promptId } }, sessionId }: IdentifiedPrompt,
  live: LiveReply.LiveReply
) {
  const client = yield* Client
  const statuses = yield* retrying(client.statuses)
  const exchange = yield* readExchange({ sessionId, promptId })
  if (!exchange.isAccepted) return { exchange: undefined, isBusy: !(yield* untilIdle(sessionId)) }
  live.update((reply) => Exchange.merge(exchange, Reply.markGap(reply)))
  if (Exchange.isFinal(exchange)) return { exchange, isBusy: false }
  if (statuses.has(sessionId)) return { exchange: undefined, isBusy: false }
  if (Exchange.isFinalWhenIdle(exchange)) return { exchange, isBusy: false }
  if (exchange.isCurrent) return { exchange: undefined, isBusy: false }
  return yield* new TurnUnfinished({ sessionId, reposts: 0, isSuperseded: true })
})

/**
 * The answers to the prompts before the last one, and what their subagents did, as far as the server has them: they cost something.
 *
 * @category steps
 * @since 0.1.0
 */
export const recallEarlier = Effect.fnUntraced(
  function*({ earlier = [], prompt, sessionId }: IdentifiedPrompt, live: LiveReply.LiveReply) {
    if (earlier.length === 0) return
    const exchanges = yield* Effect.forEach(
      [...earlier, prompt.ids.promptId],
      (promptId) => readExchange({ sessionId, promptId })
    )
    for (const [index, exchange] of exchanges.slice(0, -1).entries()) {
      const recalled = yield* LiveReply.make
      recalled.begin(exchange)
      recalled.update((reply) => Exchange.reconcile(exchange, reply))
      yield* readSubagents(recalled, begunMillis(exchanges[index + 1]))
      live.addEarlier(recalled.current())
    }
  }
)

/**
 * Waits until the session works on nothing, for a while: a turn that was just cancelled may be stopping there, and its abort
 * would stop whatever runs. `false`: it works on. A server that cannot tell is prompted all the same.
 *
 * @category steps
 * @since 0.1.0
 */
export const untilIdle = Effect.fnUntraced(function*(sessionId: SessionId): Effect.fn.Return<boolean, never, Client> {
  const client = yield* Client
  const isIdle = Effect.map(client.statuses, (statuses) => !statuses.has(sessionId))
  return yield* isIdle.pipe(
    Effect.repeat({ until: (isIdle) => isIdle, schedule: Schedule.spaced("100 millis") }),
    Effect.timeoutOption(yield* TurnPolicy.SessionIdle),
    Effect.map(Option.isSome),
    Effect.orElseSucceed(() => true)
  )
})

// internal

/** When the server got a prompt, by its own clock. One that was posted again is younger than its answer (1.18.33). */
const begunMillis = (exchange: Exchange.Exchange | undefined): number =>
  exchange?.messages.reduce((first, { info }) => Math.min(first, info.createdMillis), Infinity) ?? Infinity

/** Writes the prompt's ids before the first byte of it is sent. */
const record = Effect.fnUntraced(function*(message: StoredMessage, request: PromptRecord) {
  const store = yield* SessionStore
  if (yield* retrying(store.recordPrompt(message.id, message.epoch, request))) return
  const now = yield* retrying(store.getState(message.id))
  return yield* Option.isSome(now) && now.value.status === "cancelled"
    ? new TurnCancelled({ messageId: message.id })
    : new TurnTakenOver({ messageId: message.id })
})
