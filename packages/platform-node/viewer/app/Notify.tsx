/** Notifications of the system: a turn is done, or asks. */
import { effect, signal } from "@preact/signals"
import { announcement, asks, conversations, goTo, isOpen, readTurn } from "../state/Model.ts"
import type { TurnSummary } from "../state/Types.ts"
import { excerptOf } from "../text/Format.ts"

export const NotifyButton = () =>
  permission.value !== "default" ? null : (
    <button
      type="button"
      class="quiet"
      onClick={() =>
        void Notification.requestPermission().then((given) => {
          permission.value = given
        })}
    >
      Notify me
    </button>
  )

/** Watches what ends and what is asked, and tells it. */
export const watch = (): void => {
  let known: ReadonlySet<string> | undefined
  effect(() => {
    const before = known
    known = new Set(asks.value.map(({ id }) => id))
    for (const { ask, conversationId, id } of asks.value) {
      if (before?.has(id) !== false) continue
      tell(
        ask._tag === "Permission" ? `The agent asks for a permission: ${ask.permission}` : "The agent asks a question",
        conversationId
      )
    }
  })
  const running = new Set<string>()
  effect(() => {
    const newest = new Map<string, TurnSummary>(
      conversations.value.map(({ newestTurn }) => [newestTurn.messageId, newestTurn])
    )
    for (const turn of newest.values()) if (isOpen(turn.status)) running.add(turn.messageId)
    for (const id of running) {
      const turn = newest.get(id)
      // The list does not tell of a turn behind which another one was begun.
      if (turn === undefined) void readTurn(id).then((read) => end(running, id, read))
      else end(running, id, turn)
    }
  })
  effect(() => {
    const waiting = asks.value.length
    const isRunning = conversations.value.some(({ newestTurn }) => isOpen(newestTurn.status))
    document.title = `${waiting > 0 ? `(${waiting}) ` : isRunning ? "… " : ""}opencode-turn`
  })
}

// internal

const permission = signal<NotificationPermission>("Notification" in window ? Notification.permission : "denied")

const words: Readonly<Record<string, string>> = {
  completed: "is done",
  cancelled: "was stopped",
  error: "ended with an error"
}

/** Tells the end of a turn, once. Nothing is told of one that is gone. */
const end = (running: Set<string>, id: string, turn: TurnSummary | "gone" | undefined): void => {
  if (turn === undefined || (turn !== "gone" && isOpen(turn.status)) || !running.delete(id) || turn === "gone") return
  tell(`The turn ${words[turn.status] ?? "ended"}: ${excerptOf(turn).slice(0, 100)}`, turn.conversationId)
}

const tell = (text: string, conversationId: string): void => {
  announcement.value = text
  if (!document.hidden || permission.peek() !== "granted") return
  try {
    const notification = new Notification("opencode-turn", { body: text, tag: conversationId })
    notification.addEventListener("click", () => {
      window.focus()
      goTo({ page: "conversation", id: conversationId })
    })
  } catch {
    // Some phones show notifications only of a service worker.
  }
}
