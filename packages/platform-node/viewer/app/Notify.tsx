/** Notifications of the system: a turn is done, or asks. */
import { effect, signal } from "@preact/signals"
import { announcement, asks, conversations, goTo, isOpen } from "../state/Model.ts"

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
  let running: ReadonlySet<string> = new Set()
  effect(() => {
    const now = new Set<string>()
    for (const { conversationId, newestTurn: { excerpt, messageId, status } } of conversations.value) {
      if (isOpen(status)) now.add(messageId)
      else if (running.has(messageId)) {
        tell(`The turn ${words[status] ?? "ended"}: ${excerpt.slice(0, 100)}`, conversationId)
      }
    }
    running = now
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
