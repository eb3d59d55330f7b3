/** What waits for a person, over all conversations, oldest first. */
import { asks, conversations, hrefOf, nowMillis } from "../state/Model.ts"
import { when } from "../text/Format.ts"
import { AskCard } from "../turn/AskCard.tsx"

export const Inbox = () => (
  <div class="column">
    <h2>Inbox</h2>
    {asks.value.length === 0 && <p class="note">Nothing waits for you.</p>}
    {asks.value.map(({ ask, conversationId, createdMillis, id }) => (
      <AskCard
        key={id}
        ask={ask}
        from={
          <>
            <a href={hrefOf({ page: "conversation", id: conversationId })}>{nameOf(conversationId)}</a>
            {` · ${when(createdMillis, nowMillis.peek())}`}
          </>
        }
      />
    ))}
  </div>
)

// internal

const nameOf = (id: string): string =>
  conversations.value.find(({ conversationId }) => conversationId === id)?.newestTurn.excerpt.slice(0, 120) || id
