/** What waits for a person, over all conversations, oldest first. */
import { asks, conversations, hrefOf, nowMillis } from "../state/Model.ts"
import { excerptOf, when } from "../text/Format.ts"
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
  conversations.value.flatMap(({ conversationId, newestTurn }) => conversationId === id ? excerptOf(newestTurn) : [])[0]
    ?.slice(0, 120) || id
