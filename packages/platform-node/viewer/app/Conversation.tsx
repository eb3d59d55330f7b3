/** A conversation: its turns, and the place to write the next prompt. */
import { useEffect, useRef } from "preact/hooks"
import { type OpenConversation, readOlder } from "../state/Model.ts"
import { TurnView } from "../turn/TurnView.tsx"
import { Composer } from "./Composer.tsx"

export const Conversation = ({ conversation }: { readonly conversation: OpenConversation | undefined }) => {
  const { content, scroller } = useStickToEnd()
  return (
    <div class="conversation">
      <div class="scroller" ref={scroller} tabIndex={-1}>
        <div class="column" ref={content}>
          {conversation === undefined ? <Welcome /> : <Turns conversation={conversation} />}
        </div>
      </div>
      <Composer conversationId={conversation?.id} />
    </div>
  )
}

// internal

const Welcome = () => (
  <div class="welcome">
    <h2>What is to be done?</h2>
    <p class="note">
      A turn goes on whatever becomes of this page: close it, reload it, come back. Keys: <kbd>Esc</kbd>{" "}
      leaves the field; then <kbd>/</kbd> writes, <kbd>c</kbd> begins a conversation, <kbd>i</kbd> opens the inbox,{" "}
      <kbd>p</kbd> leads to what is asked.
    </p>
  </div>
)

const Turns = ({ conversation: { older, state, turns } }: { readonly conversation: OpenConversation }) => (
  <>
    {state.value === "loading" && <p class="note">Loading…</p>}
    {state.value === "unknown" && <p class="note">There is no such conversation.</p>}
    {state.value === "ready" && turns.value.length === 0 && (
      <p class="note">There is no turn in this conversation: it is unknown, or yours to begin.</p>
    )}
    {older.value !== null && <button type="button" class="quiet" onClick={() => void readOlder()}>Older turns</button>}
    {turns.value.map((turn) => <TurnView key={turn.id} turn={turn} />)}
  </>
)

/** Keeps the end in sight while it grows, unless the reader scrolled away from it. */
const useStickToEnd = () => {
  const scroller = useRef<HTMLDivElement>(null)
  const content = useRef<HTMLDivElement>(null)
  useEffect(() => {
    const box = scroller.current
    const inner = content.current
    if (box === null || inner === null) return
    let isAtEnd = true
    const onScroll = () => {
      isAtEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 60
    }
    const observer = new ResizeObserver(() => {
      if (isAtEnd) box.scrollTop = box.scrollHeight
    })
    box.addEventListener("scroll", onScroll, { passive: true })
    observer.observe(inner)
    observer.observe(box)
    return () => {
      observer.disconnect()
      box.removeEventListener("scroll", onScroll)
    }
  }, [])
  return { scroller, content }
}
