/** The page: the list beside, what is open, and the state of the connection above. */
import { useEffect, useRef } from "preact/hooks"
import { gateway } from "../state/Api.ts"
import { announcement, asks, goTo, hrefOf, open, openCode, route } from "../state/Model.ts"
import { refused } from "../state/Send.ts"
import { focusFirst } from "../turn/AskCard.tsx"
import { Conversation } from "./Conversation.tsx"
import { Inbox } from "./Inbox.tsx"
import { NotifyButton } from "./Notify.tsx"
import { Sidebar } from "./Sidebar.tsx"

export const App = () => {
  const now = route.value
  const menu = useRef<HTMLDetailsElement>(null)
  useKeys()
  useEffect(() => {
    if (menu.current !== null) menu.current.open = false
  }, [now])
  if (gateway.value === "signed-out") return <SignedOut />
  return (
    <div class={`app at-${now.page}`}>
      <header class="top">
        <h1 class="brand">
          <a href={hrefOf({ page: "new" })}>opencode-turn</a>
        </h1>
        <a class="back" href={hrefOf({ page: "new" })}>‹ All</a>
        <ConnectionState />
        <NotifyButton />
        <a class="inbox-link" href={hrefOf({ page: "inbox" })} aria-current={now.page === "inbox" ? "page" : undefined}>
          Inbox
          {asks.value.length > 0 && (
            <span class="badge" aria-label={`${asks.value.length} waiting`}>{asks.value.length}</span>
          )}
        </a>
      </header>
      <Sidebar />
      <main id="main" tabIndex={-1}>
        {refused.value !== undefined && (
          <p class="banner bad" role="alert">
            A prompt was not sent: {refused.value.problem}.{" "}
            <a
              href={hrefOf(
                refused.value.conversationId === undefined
                  ? { page: "new" }
                  : { page: "conversation", id: refused.value.conversationId }
              )}
            >
              Back to it
            </a>
          </p>
        )}
        {now.page === "inbox"
          ? <Inbox />
          : <Conversation key={now.page === "new" ? "" : now.id} conversation={open.value} />}
      </main>
      <p class="unseen" role="status" aria-live="polite">{announcement.value}</p>
    </div>
  )
}

// internal

const SignedOut = () => (
  <main class="alone">
    <h1>opencode-turn</h1>
    <p>
      This browser is not signed in. Open the link that <code>opencode-turn serve</code> printed, or a new one of{" "}
      <code>opencode-turn link</code>. Each link signs one browser in, within 10 minutes.
    </p>
    <button type="button" onClick={() => location.reload()}>Try again</button>
  </main>
)

const ConnectionState = () => {
  const server = openCode.value
  const [kind, text] = gateway.value === "connecting"
    ? ["", "Connecting…"]
    : gateway.value === "lost"
    ? ["bad", "No connection to the gateway"]
    : server === undefined
    ? ["", "Connected"]
    : server.state === "connected"
    ? ["good", `OpenCode ${server.version ?? ""}`]
    : ["bad", "OpenCode does not answer"]
  return <span class={`connection ${kind}`} role="status" title={server?.reason ?? undefined}>{text}</span>
}

/** Keys of the page, where nobody types. */
const useKeys = () =>
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const isTyping = event.target instanceof HTMLElement &&
        event.target.closest("input, textarea, select, [contenteditable]") !== null
      // A dialog has keys of its own.
      if (document.querySelector("dialog[open]") !== null) return
      if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return
      if (isTyping) {
        // The way out of a field, to where the other keys work.
        if (event.key === "Escape") document.querySelector<HTMLElement>("#main")?.focus()
        return
      }
      if (event.key === "p") focusFirst()
      else if (event.key === "i") goTo({ page: "inbox" })
      else if (event.key === "c") goTo({ page: "new" })
      else if (event.key === "/") {
        const field = document.querySelector("textarea")
        if (field === null) return
        event.preventDefault()
        field.focus()
      }
    }
    document.addEventListener("keydown", onKey)
    return () => document.removeEventListener("keydown", onKey)
  }, [])
