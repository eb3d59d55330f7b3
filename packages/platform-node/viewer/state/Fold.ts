/**
 * The reply of a turn, folded from its updates. docs/UPDATES.md says what each one means.
 *
 * **Details**
 *
 * The core's own fold (`Journal.apply`) brings its schemas along, which are larger than the whole page. A test feeds both the same
 * updates. Each part is a signal of its own, so that a delta redraws its part and nothing else.
 */
import { batch, computed, type ReadonlySignal, type Signal, signal } from "@preact/signals"
import type { Ask, Part, Subagent, TurnUpdate } from "./Types.ts"

type Update = Exclude<TurnUpdate, { readonly type: "turn.finished" | "stream.failed" }>
type SessionUpdate = Extract<Update, { readonly type: "subagent.update" }>["update"]
type Todos = Extract<SessionUpdate, { readonly type: "todos" }>["todos"]
type Retry = Omit<Extract<SessionUpdate, { readonly type: "retrying" }>, "type">

/** An open ask, and the tool part that opened the subagent which asks. */
export interface Asked {
  readonly ask: Ask
  readonly openedBy: string | null
}

/** The reply of one session. `retry` is gone with the next sign of life of the model. */
export interface SessionReply {
  readonly order: ReadonlySignal<ReadonlyArray<string>>
  readonly part: (id: string) => ReadonlySignal<Part | undefined>
  readonly todos: ReadonlySignal<Todos>
  readonly retry: ReadonlySignal<Retry | undefined>
}

/** The reply of a turn: that of its own session, and those of its subagents. */
export interface Reply {
  readonly root: SessionReply
  readonly subagents: ReadonlySignal<ReadonlyArray<Subagent>>
  readonly asks: ReadonlySignal<ReadonlyArray<Asked>>
  readonly session: (id: string) => SessionReply
  /** Applies updates, and shows them at once. */
  readonly apply: (updates: Iterable<Update>) => void
  /** Shows what is stored of a turn; what is known of the inside of its subagents stays. */
  readonly show: (stored: { readonly parts: ReadonlyArray<Part>; readonly subagents: ReadonlyArray<Subagent> }) => void
  /** The parts of a session in their order. */
  readonly partsOf: (sessionId?: string) => ReadonlyArray<Part>
}

export const makeReply = (): Reply => {
  const root = makeSession()
  const sessions = signal<ReadonlyMap<string, Session>>(new Map())
  const subagents = signal<ReadonlyMap<string, Subagent>>(new Map())
  const asks = signal<ReadonlyArray<Asked>>([])

  const session = (id: string): Session => {
    const known = sessions.peek().get(id)
    if (known !== undefined) return known
    const made = makeSession()
    sessions.value = new Map(sessions.peek()).set(id, made)
    return made
  }

  const apply = (update: Update): void => {
    switch (update.type) {
      case "turn.started":
        return
      case "reset": {
        root.replace(update.parts)
        for (const [id, known] of sessions.peek()) {
          if (!update.subagents.some(({ sessionId }) => sessionId === id)) known.replace([])
        }
        const shown = new Map<string, Subagent>()
        for (const { parts, ...subagent } of update.subagents) {
          shown.set(subagent.sessionId, subagent)
          session(subagent.sessionId).replace(parts)
        }
        subagents.value = shown
        asks.value = update.asks
        return
      }
      case "subagent":
        subagents.value = new Map(subagents.peek()).set(update.subagent.sessionId, update.subagent)
        return
      case "subagent.update":
        return session(update.sessionId).apply(update.update)
      case "asked":
        asks.value = [...without(asks.peek(), update.ask.id), { ask: update.ask, openedBy: update.openedBy }]
        return
      case "answered":
        asks.value = without(asks.peek(), update.askId)
        return
      default:
        root.apply(update)
    }
  }

  return {
    root,
    subagents: computed(() => [...subagents.value.values()]),
    asks,
    session,
    apply: (updates) =>
      batch(() => {
        for (const update of updates) apply(update)
      }),
    show: (stored) =>
      batch(() => {
        root.replace(stored.parts)
        subagents.value = new Map(stored.subagents.map((subagent) => [subagent.sessionId, subagent]))
        asks.value = []
      }),
    partsOf: (sessionId) => (sessionId === undefined ? root : session(sessionId)).parts()
  }
}

// internal

interface Session extends SessionReply {
  readonly apply: (update: SessionUpdate) => void
  readonly replace: (parts: ReadonlyArray<Part>) => void
  readonly parts: () => ReadonlyArray<Part>
}

const makeSession = (): Session => {
  const parts = new Map<string, Signal<Part | undefined>>()
  const order = signal<ReadonlyArray<string>>([])
  const todos = signal<Todos>([])
  const retry = signal<Retry | undefined>(undefined)

  const slot = (id: string): Signal<Part | undefined> => {
    const known = parts.get(id)
    if (known !== undefined) return known
    const made = signal<Part | undefined>(undefined)
    parts.set(id, made)
    return made
  }

  const set = (part: Part): void => {
    const place = slot(part.id)
    if (place.peek() === undefined) order.value = [...order.peek(), part.id]
    place.value = part
    if (part.type === "todos") todos.value = part.todos
  }

  const remove = (id: string): void => {
    if (slot(id).peek() === undefined) return
    slot(id).value = undefined
    order.value = order.peek().filter((other) => other !== id)
  }

  return {
    order,
    part: slot,
    todos,
    retry,
    parts: () => order.value.flatMap((id) => slot(id).value ?? []),
    replace: (all) => {
      const ids = new Set<string>(all.map(({ id }) => id))
      for (const [id, place] of parts) if (!ids.has(id)) place.value = undefined
      for (const part of all) slot(part.id).value = part
      order.value = [...ids]
      todos.value = all.findLast((part) => part.type === "todos")?.todos ?? []
      retry.value = undefined
    },
    apply: (update) => {
      switch (update.type) {
        case "part":
          retry.value = undefined
          return set(update.part)
        case "part.removed":
          return remove(update.partId)
        case "text.delta":
        case "reasoning.delta": {
          retry.value = undefined
          const part = slot(update.partId).peek()
          if (part?.type === "text" || part?.type === "reasoning") {
            slot(update.partId).value = { ...part, text: part.text + update.delta }
          }
          return
        }
        case "todos":
          todos.value = update.todos
          return
        case "retrying": {
          const { attempt, message, nextMillis } = update
          retry.value = { attempt, message, nextMillis }
          return
        }
        case "failed":
          // The turn itself then ends with the error, and a subagent is told with its own.
      }
    }
  }
}

const without = (asks: ReadonlyArray<Asked>, id: string): ReadonlyArray<Asked> =>
  asks.filter(({ ask }) => ask.id !== id)
