/**
 * What the page knows: the conversations, the one that is open with its turns, what is asked, and the state of the connection.
 *
 * **Details**
 *
 * Lists are asked for every few seconds, and at once where this page or another tab changed something. Only the turn that runs is
 * followed: a browser has six connections to a host, which all tabs share.
 */
import { batch, computed, effect, type ReadonlySignal, type Signal, signal } from "@preact/signals"
import type { Seen } from "../turn/Times.ts"
import type { Outcome } from "./Api.ts"
import { call, gateway, path } from "./Api.ts"
import { makeReply, type Reply } from "./Fold.ts"
import { follow, type FollowState } from "./Follow.ts"
import { noted, withStored } from "./Seen.ts"
import type { Answer, Connection, Conversation, Page, StartedTurn, StoredAsk, Turn } from "./Types.ts"

/** A turn with its reply. */
export interface TurnModel {
  readonly id: string
  /** As it was stored when the page last asked. */
  readonly stored: Signal<Turn>
  readonly reply: Reply
  readonly follow: Signal<FollowState | undefined>
  /** What it waits for, see `Seen`. */
  readonly seen: Signal<ReadonlyArray<Seen>>
}

/** The conversation that is open. */
export interface OpenConversation {
  readonly id: string
  readonly turns: Signal<ReadonlyArray<TurnModel>>
  readonly older: Signal<string | null>
  readonly state: Signal<"loading" | "ready" | "unknown">
}

/** What the page shows. */
export type Route =
  | { readonly page: "conversation"; readonly id: string }
  | { readonly page: "inbox" }
  | { readonly page: "new" }

export const conversations = signal<ReadonlyArray<Conversation>>([])
export const olderConversations = signal<string | null>(null)
export const asks = signal<ReadonlyArray<StoredAsk>>([])
export const openCode = signal<Connection | undefined>(undefined)
export const route = signal<Route>({ page: "new" })
export const open = signal<OpenConversation | undefined>(undefined)
/** What a screen reader is told. */
export const announcement = signal("")
/** The time, while something runs that shows it. */
export const nowMillis = signal(Date.now())

/** Whether a status is one of a turn that has not ended. */
export const isOpen = (status: Turn["status"]): boolean => status === "pending" || status === "queued"

export const runningTurn: ReadonlySignal<TurnModel | undefined> = computed(() =>
  open.value?.turns.value.find(({ stored }) => isOpen(stored.value.status))
)

/** Where a page stands in the address. */
export const hrefOf = (to: Route): string =>
  to.page === "conversation" ? path`#/c/${to.id}` : to.page === "inbox" ? "#/inbox" : "#/new"

export const goTo = (to: Route): void => {
  location.hash = hrefOf(to)
}

/** A turn of the open conversation. */
export const findTurn = (messageId: string): TurnModel | undefined =>
  open.peek()?.turns.peek().find(({ id }) => id === messageId)

/** Answers an ask. */
export const answer = async (askId: string, given: Answer): Promise<Outcome<StoredAsk>> => {
  const outcome = await call<StoredAsk>(path`asks/${askId}/answer`, given)
  void changed()
  return outcome
}

/** Stops a turn. */
export const stop = async (turn: TurnModel): Promise<Outcome<Turn>> => {
  const outcome = await call<Turn>(path`turns/${turn.id}/cancel`, {})
  if (outcome.ok) {
    settle(turn, outcome.value)
    noteEnd(outcome.value)
  }
  void changed()
  return outcome
}

/** Begins a conversation under an id of the gateway's with what was said up to a turn. The same id again is the same conversation. */
export const fork = (turn: TurnModel, into: string): Promise<Outcome<Turn>> => {
  const { conversationId } = turn.stored.peek()
  return operate(path`conversations/${conversationId}/fork`, { at: turn.id, into })
}

/** Takes back a turn and those after it. */
export const revert = (turn: TurnModel): Promise<Outcome<Turn>> => operate(path`turns/${turn.id}/revert`)

/** Undoes the revert of a conversation. */
export const unrevert = (conversationId: string): Promise<Outcome<Turn>> =>
  operate(path`conversations/${conversationId}/unrevert`)

/** Has a conversation summarised, which runs as a turn does. */
export const compact = (conversationId: string): Promise<Outcome<StartedTurn>> =>
  operate(path`conversations/${conversationId}/compact`)

/** A turn as it is stored, "gone" where there is none, and undefined where nobody answered. */
export const readTurn = async (messageId: string): Promise<Turn | "gone" | undefined> => {
  const outcome = await call<Turn>(path`turns/${messageId}`)
  return outcome.ok ? outcome.value : outcome.status === 404 ? "gone" : undefined
}

/** Reads the older turns of the open conversation. */
export const readOlder = async (): Promise<void> => {
  const current = open.peek()
  const before = current?.older.peek()
  if (current === undefined || before == null) return
  const outcome = await call<Page<Turn>>(path`conversations/${current.id}/turns` + path`?before=${before}`)
  if (!outcome.ok) return
  batch(() => {
    current.turns.value = [...outcome.value.items.map(makeTurn), ...current.turns.peek()]
    current.older.value = outcome.value.next
  })
}

/** Reads the older conversations. */
export const readOlderConversations = async (): Promise<void> => {
  const before = olderConversations.peek()
  if (before === null) return
  const outcome = await call<Page<Conversation>>(path`conversations?before=${before}`)
  if (!outcome.ok) return
  batch(() => {
    const known = new Set(conversations.peek().map(({ conversationId }) => conversationId))
    const more = outcome.value.items.filter(({ conversationId }) => !known.has(conversationId))
    conversations.value = [...conversations.peek(), ...more]
    olderConversations.value = outcome.value.next
  })
}

/** Reads what a finished turn's subagents did, which its row does not hold. */
export const readInside = (turn: TurnModel): void => {
  if (turn.follow.peek() === undefined) followTurn(turn)
}

/** Tells the other tabs that something changed, and looks again. */
export const changed = async (): Promise<void> => {
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a channel reaches pages of its own origin only
  tabs.postMessage("changed")
  await refresh()
}

/** Begins: reads the address, and looks at the gateway again and again. */
export const start = (): void => {
  readRoute()
  window.addEventListener("hashchange", readRoute)
  effect(() => {
    const now = route.value
    show(now.page === "conversation" ? now.id : undefined)
  })
  tabs.addEventListener("message", () => void refresh())
  document.addEventListener("visibilitychange", () => void refresh())
  window.addEventListener("online", () => void refresh())
  const poll = async () => {
    await refresh()
    setTimeout(poll, gateway.peek() !== "connected" ? 1_000 : document.hidden ? 10_000 : 3_000)
  }
  void poll()
  setInterval(() => {
    if (runningTurn.peek() !== undefined) nowMillis.value = Date.now()
  }, 500)
}

// internal

const operate = async <A>(path: string, body: object = {}): Promise<Outcome<A>> => {
  const outcome = await call<A>(path, body)
  await changed()
  return outcome
}

const readRoute = () => {
  const [, kind, id = ""] = /^#\/(c|inbox|new)(?:\/(.*))?$/.exec(location.hash) ?? []
  route.value = kind === "c"
    ? { page: "conversation", id: decode(id) }
    : kind === "inbox"
    ? { page: "inbox" }
    : { page: "new" }
}

const tabs = new BroadcastChannel("opencode-turn")

const decode = (text: string): string => {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

let connectionMillis = 0

/** The number of the newest question: an answer that comes behind that of a newer one is old. */
let newest = 0

const refresh = async (): Promise<void> => {
  const own = ++newest
  const [listed, asked] = await Promise.all([
    call<Page<Conversation>>("conversations"),
    call<Page<StoredAsk>>("asks?limit=100")
  ])
  if (own !== newest) return
  if (listed.ok) {
    batch(() => {
      const ids = new Set(listed.value.items.map(({ conversationId }) => conversationId))
      const older = conversations.peek().filter(({ conversationId }) => !ids.has(conversationId))
      if (conversations.peek().length <= listed.value.items.length) olderConversations.value = listed.value.next
      conversations.value = [...listed.value.items, ...older]
    })
    const current = open.peek()
    const latest = listed.value.items.find(({ conversationId }) => conversationId === current?.id)?.newestTurn
    const isNews = latest !== undefined && findTurn(latest.messageId) === undefined
    const isBehind = runningTurn.peek()?.follow.peek() !== "live" && runningTurn.peek() !== undefined
    if (current !== undefined && (current.state.peek() !== "ready" || isNews || isBehind || isOutdated)) {
      await readTurns(current)
    }
  }
  if (asked.ok) asks.value = asked.value.items
  if (Date.now() - connectionMillis > 10_000) {
    connectionMillis = Date.now()
    const connection = await call<Connection>("connection")
    openCode.value = connection.ok ? connection.value : undefined
  }
}

const followed = new Map<string, () => void>()

const show = (id: string | undefined): void => {
  if (open.peek()?.id === id) return
  for (const leave of followed.values()) leave()
  followed.clear()
  if (id === undefined) {
    open.value = undefined
    return
  }
  const made: OpenConversation = { id, turns: signal([]), older: signal(null), state: signal("loading") }
  open.value = made
  void readTurns(made)
}

/** Whether the turns that are shown may have changed since they were read. */
let isOutdated = false

/** An operation may have changed older turns, whose updates nobody follows. */
const noteEnd = ({ operation }: Turn) => {
  if (operation !== null) isOutdated = true
}

/** The number of the newest reading of turns: one that ends behind a newer one is old. */
let newestReading = 0

const readTurns = async (current: OpenConversation): Promise<void> => {
  const own = ++newestReading
  isOutdated = false
  // All that are shown, because a revert changes older ones too.
  const limit = Math.min(Math.max(current.turns.peek().length + 1, 20), 100)
  const outcome = await call<Page<Turn>>(path`conversations/${current.id}/turns` + `?limit=${limit}`)
  if (open.peek() !== current || own !== newestReading) return
  if (!outcome.ok) {
    isOutdated = true
    if (outcome.status === 404) current.state.value = "unknown"
    return
  }
  batch(() => {
    const known = new Map(current.turns.peek().map((turn) => [turn.id, turn]))
    for (const turn of outcome.value.items) {
      const before = known.get(turn.messageId)
      if (before === undefined) known.set(turn.messageId, makeTurn(turn))
      // Its end came while the list was on its way.
      else if (isOpen(turn.status) && !isOpen(before.stored.peek().status)) continue
      else if (before.follow.peek() !== "live") settle(before, turn)
      // One that has ended is followed only for what its subagents did.
      else if (!isOpen(before.stored.peek().status)) before.stored.value = turn
    }
    if (current.state.peek() !== "ready") current.older.value = outcome.value.next
    current.turns.value = [...known.values()].sort((one, other) =>
      one.stored.peek().createdMillis - other.stored.peek().createdMillis
    )
    current.state.value = "ready"
  })
  followRunning()
}

const makeTurn = (turn: Turn): TurnModel => {
  const made: TurnModel = {
    id: turn.messageId,
    stored: signal(turn),
    reply: makeReply(),
    follow: signal(undefined),
    seen: signal(withStored([], turn))
  }
  if (!isOpen(turn.status)) made.reply.show(turn)
  return made
}

/** Takes over what is stored of a turn. The reply of one that runs comes as updates. */
const settle = (turn: TurnModel, stored: Turn): void => {
  turn.stored.value = stored
  turn.seen.value = withStored(turn.seen.peek(), stored)
  if (isOpen(stored.status)) return
  turn.reply.show(stored)
  followed.get(turn.id)?.()
  followed.delete(turn.id)
}

/** The turns behind the one that runs wait for it. */
const followRunning = (): void => {
  const running = runningTurn.peek()
  if (running !== undefined && !followed.has(running.id)) followTurn(running)
}

const followTurn = (turn: TurnModel): void => {
  let root = turn.stored.peek().sessionId
  const leave = follow({
    messageId: turn.id,
    onState: (state) => {
      turn.follow.value = state
    },
    onUpdates: (updates) =>
      batch(() => {
        // A turn that waited for another one tells by its first update that it runs.
        if (turn.stored.peek().status === "queued") turn.stored.value = { ...turn.stored.peek(), status: "pending" }
        let end: Turn | undefined
        turn.reply.apply(updates.flatMap((update) => {
          if (update.type === "turn.finished") end = update.turn
          if (update.type === "turn.started") root = update.sessionId
          turn.seen.value = noted(turn.seen.peek(), update, root, Date.now())
          return update.type === "turn.finished" || update.type === "stream.failed" ? [] : [update]
        }))
        // The inbox holds an ask a moment after its turn tells of it.
        if (updates.some(({ type }) => type === "asked" || type === "answered")) setTimeout(() => void refresh(), 300)
        if (end === undefined) return
        const wasOpen = isOpen(turn.stored.peek().status)
        turn.stored.value = end
        turn.reply.show(end)
        followed.delete(turn.id)
        if (!wasOpen) return
        noteEnd(end)
        void changed().then(followRunning)
      })
  })
  followed.set(turn.id, leave)
}
