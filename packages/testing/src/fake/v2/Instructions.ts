/**
 * The instructions of a session on the fake OpenCode 2.x, which clients give it, and what the model is told of them (0.0.0-next-16350): those of
 * the beginning stand before everything else, and a change is told where it came.
 *
 * @since 0.1.0
 */
import type { ModelMessage } from "../../model/ModelScript.ts"
import type { State, StoredSession } from "./State.ts"

/**
 * Tells the model what it has not been told. It is said before the inputs of a step become messages.
 *
 * @category combinators
 * @since 0.1.0
 */
export const tell = (state: State, session: StoredSession): void => {
  const { instructions, messages, told } = session
  if (told === undefined) {
    session.told = { initial: instructions, changes: [], now: instructions }
    state.record(session, "session.instructions.updated", { delta: {} }, { version: 2 })
    return
  }
  const keys = [...new Set([...told.now.keys(), ...instructions.keys()])]
  const texts = keys.flatMap((key) => {
    const before = told.now.get(key)
    const after = instructions.get(key)
    if (JSON.stringify(before) === JSON.stringify(after)) return []
    return after === undefined
      ? [`The context under "${key}" no longer applies. Disregard it.`]
      : before === undefined
      ? [blockOf(key, after)]
      : [`The context under "${key}" changed and supersedes the previous value:\n${blockOf(key, after)}`]
  })
  if (texts.length === 0) return
  const text = `<system-update>\n${texts.join("\n\n")}\n</system-update>`
  session.told = { ...told, now: instructions, changes: [...told.changes, { at: messages.length, text }] }
  state.record(session, "session.instructions.updated", { delta: {} }, { version: 2 })
}

/**
 * What the model reads before everything else.
 *
 * @category getters
 * @since 0.1.0
 */
export const beginning = ({ told }: StoredSession): ReadonlyArray<ModelMessage> =>
  told === undefined || told.initial.size === 0 ? [] : [{
    role: "system",
    text: [...told.initial].map(([key, value]) => blockOf(key, value)).join("\n\n"),
    toolCalls: []
  }]

/**
 * What the model reads before the message with this number.
 *
 * @category getters
 * @since 0.1.0
 */
export const before = ({ told }: StoredSession, at: number): ReadonlyArray<ModelMessage> =>
  (told?.changes ?? []).flatMap((
    change
  ) => (change.at === at ? [{ role: "user", text: change.text, toolCalls: [] }] : []))

// internal

const blockOf = (key: string, value: unknown): string =>
  `<context key="${key}">\n${typeof value === "string" ? value : JSON.stringify(value, null, 2)}\n</context>`
