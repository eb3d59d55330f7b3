/**
 * A page on the gateway, with `useChat` of the AI SDK 7. It survives a reload in the middle of a word, shows what the agent asks, and stops the turn
 * itself and not only its stream.
 *
 * It is a component without a server: render `<Chat conversation="…" initial={await load("…")} />` in an app of yours that has `react`,
 * `ai` and `@ai-sdk/react`, and serve that app from the host of the gateway, for example by mounting the gateway in it.
 */
import { type UIMessage, useChat } from "@ai-sdk/react"
import { DefaultChatTransport, type DynamicToolUIPart } from "ai"
import { type ReactNode, useState } from "react"

/** Where the gateway is mounted. */
const gateway = ""

/**
 * The cookie and the key of its one-time link say who the user is; a page behind your product's own check needs no headers.
 */
const headers = () => ({ "x-opencode-turn-key": localStorage.getItem(`opencode-turn key ${gateway}/`) ?? "" })

const post = (path: string, body?: object) =>
  fetch(`${gateway}${path}`, {
    method: "POST",
    headers: { ...headers(), ...(body && { "content-type": "application/json" }) },
    ...(body && { body: JSON.stringify(body) })
  })

/** The stream itself takes the buttons away, on every page that shows them. */
const answer = (id: string, reply: "once" | "always" | "reject") =>
  post(`/asks/${encodeURIComponent(id)}/answer`, { _tag: "Permission", reply: { reply } })

/** What the page begins with. */
export const load = async (conversation: string): Promise<Array<UIMessage>> => {
  const response = await fetch(`${gateway}/ai-sdk/${encodeURIComponent(conversation)}/messages`, { headers: headers() })
  return (await response.json()).items
}

const transport = new DefaultChatTransport({
  api: `${gateway}/ai-sdk`,
  headers,
  // The gateway needs the last message only, because OpenCode keeps the conversation.
  prepareSendMessagesRequest: ({ body, id, messageId, messages, trigger }) => ({
    body: { ...body, id, messageId, trigger, messages: messages.slice(-1) }
  })
})

export const Chat = ({ conversation, initial }: { conversation: string; initial: Array<UIMessage> }): ReactNode => {
  const { error, messages, sendMessage, status } = useChat({
    id: conversation,
    messages: initial,
    resume: true,
    transport
  })
  const [text, setText] = useState("")
  const isBusy = status === "submitted" || status === "streaming"
  return (
    <main>
      {messages.map(({ id, parts, role }) => (
        <article key={id} aria-label={role}>
          {parts.map((part, place) => {
            switch (part.type) {
              case "text":
                return <p key={place}>{part.text}</p>
              case "reasoning":
                return <details key={place}>{part.text}</details>
              case "dynamic-tool":
                return <Tool key={part.toolCallId} part={part} />
              default:
                return part.type.startsWith("data-") && part.type !== "data-step" && (
                  <pre key={place}>{JSON.stringify(part, null, 2)}</pre>
                )
            }
          })}
        </article>
      ))}
      {error && <p role="alert">{error.message}</p>}
      <form
        action={() => {
          void sendMessage({ text })
          setText("")
        }}
      >
        <input aria-label="Message" value={text} onChange={({ target }) => setText(target.value)} />
        <button type="submit" disabled={text === ""}>Send</button>
        {isBusy && (
          <button type="button" onClick={() => post(`/ai-sdk/${encodeURIComponent(conversation)}/stop`)}>Stop</button>
        )}
      </form>
    </main>
  )
}

const Tool = ({ part }: { part: DynamicToolUIPart }): ReactNode => (
  <section>
    <code>{part.toolName}</code> {part.title} ({part.state})
    {part.state === "output-available" && <pre>{String(part.output)}</pre>}
    {part.state === "output-error" && <pre>{part.errorText}</pre>}
    {part.state === "approval-requested" && (
      <>
        <p>{part.approval.requestReason}</p>
        <button type="button" onClick={() => answer(part.approval.id, "once")}>Allow once</button>
        <button type="button" onClick={() => answer(part.approval.id, "always")}>Always allow</button>
        <button type="button" onClick={() => answer(part.approval.id, "reject")}>Deny</button>
      </>
    )}
  </section>
)
