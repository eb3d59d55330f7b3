/** The conversations, the one with the newest turn first. */
import {
  asks,
  conversations,
  hrefOf,
  isOpen,
  nowMillis,
  olderConversations,
  readOlderConversations,
  route
} from "../state/Model.ts"
import { excerptOf, when } from "../text/Format.ts"
import { SignIns } from "./SignIns.tsx"

export const Sidebar = () => {
  const now = route.value
  const asking = new Set(asks.value.map(({ conversationId }) => conversationId))
  return (
    <nav class="side" aria-label="Conversations">
      <a class="new" href={hrefOf({ page: "new" })} aria-current={now.page === "new" ? "page" : undefined}>
        New conversation
      </a>
      <ul>
        {conversations.value.map(({ conversationId, newestTurn }) => (
          <li key={conversationId}>
            <a
              href={hrefOf({ page: "conversation", id: conversationId })}
              aria-current={now.page === "conversation" && now.id === conversationId ? "page" : undefined}
            >
              <span
                class={`mark ${asking.has(conversationId) ? "asks" : newestTurn.status}`}
                role="img"
                aria-label={asking.has(conversationId)
                  ? "asks"
                  : isOpen(newestTurn.status)
                  ? "running"
                  : newestTurn.status}
              />
              <span class="excerpt">{excerptOf(newestTurn) || conversationId}</span>
              <time dateTime={new Date(newestTurn.createdMillis).toISOString()}>
                {when(newestTurn.createdMillis, nowMillis.peek())}
              </time>
            </a>
          </li>
        ))}
      </ul>
      {conversations.value.length === 0 && <p class="note">No conversations yet.</p>}
      {olderConversations.value !== null && (
        <button
          type="button"
          class="quiet"
          onClick={() => void readOlderConversations()}
        >
          Older conversations
        </button>
      )}
      <SignIns />
    </nav>
  )
}
