/**
 * The prompts of a turn: the prompt that an earlier owner of its message recorded and perhaps posted, the prompt of this owner, and
 * the prompt that tells the agent what is wrong with its answer or what was refused.
 *
 * **Responsibilities**: the ids and the record, which is written before the first byte is sent.
 *
 * **Not responsibilities**: posting (`Drive`), and what became of a prompt that an earlier owner recorded (`Recall`).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { SessionId } from "../domain/Ids.ts"
import { makePromptIds } from "../domain/Ids.ts"
import type { PromptPart } from "../domain/Prompt.ts"
import { retrying } from "../domain/Retrying.ts"
import { step } from "../domain/Tracing.ts"
import { TurnCancelled, TurnTakenOver } from "../domain/TurnError.ts"
import { baseline } from "../drive/ReadExchange.ts"
import { Client } from "../opencode/Client.ts"
import type * as Exchange from "../reply/Exchange.ts"
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
 * Checks that the server can take the prompt of a turn, before anything is made for it. What is an effect in the input is checked when it is
 * evaluated. `sessionId` is the session of the conversation, if it has one.
 *
 * @category steps
 * @since 0.1.0
 */
export const checkPrompt = Effect.fnUntraced(function*<E, R>(
  { agent, conversationId, model, system, tools, variant }: TurnInput<E, R>,
  message: StoredMessage,
  sessionId: SessionId | undefined
) {
  const parts = message.prompt
  yield* checkAgents({ parts })
  // Which variants there are depends on the model, and that on the agent.
  const choices = [agent, model, variant].some(Effect.isEffect)
    ? {}
    : { agent: given(agent), model: given(model), variant: given(variant) }
  const prompt = {
    ...yield* toPrompt<never, never>({ conversationId, prompt: parts, ...choices, system: given(system) }, parts),
    ...(tools !== undefined && { tools })
  }
  if (Object.keys(prompt).length === 1 && parts.every(({ type }) => type === "text")) return
  const client = yield* Client
  yield* retrying(client.checkPrompt(prompt, sessionId))
}, step("Turn.checkPrompt"))

/**
 * Makes the prompt and its ids, and writes them before the first byte is sent. Checks what `checkPrompt` could not.
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
  const { agent, model, system, variant } = input
  if ([agent, model, system, variant].some(Effect.isEffect)) {
    const client = yield* Client
    yield* retrying(client.checkPrompt(prompt, sessionId))
  }
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

// internal

const given = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined)

/** Writes the prompt's ids before the first byte of it is sent. */
const record = Effect.fnUntraced(function*(message: StoredMessage, request: PromptRecord) {
  const store = yield* SessionStore
  if (yield* retrying(store.recordPrompt(message.id, message.epoch, request))) return
  const now = yield* retrying(store.getState(message.id))
  return yield* Option.isSome(now) && now.value.status === "cancelled"
    ? new TurnCancelled({ messageId: message.id })
    : new TurnTakenOver({ messageId: message.id })
})
