import { createRoot } from "react-dom/client"
import { Chat, load } from "./chat.tsx"

// The conversation stands in the address: /#ticket-42.
const conversation = decodeURIComponent(location.hash.slice(1)) || "chat"
const root = document.querySelector("#chat")
if (root !== null) {
  const initial = await load(conversation)
  createRoot(root).render(<Chat conversation={conversation} initial={initial} />)
}
