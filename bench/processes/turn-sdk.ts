/** The same turns with the SDK alone: subscribe, prompt, read events until the session is idle, read the messages. */
import { createOpencodeClient } from "@opencode-ai/sdk"
import { text } from "../Child.ts"
import { measureTurns, question } from "../RealTurn.ts"

const client = createOpencodeClient({
  baseUrl: text("url"),
  directory: text("directory"),
  headers: { authorization: `Basic ${Buffer.from(`opencode:${text("password")}`).toString("base64")}` }
})
const { data: session } = await client.session.create({ body: { title: "bench" } })
if (session === undefined) throw new Error("no session")

await measureTurns(async () => {
  const abort = new AbortController()
  const { stream } = await client.event.subscribe({ signal: abort.signal })
  const parts = new Map<string, string>()
  for await (const event of stream) {
    if (event.type === "server.connected") {
      await client.session.promptAsync({
        path: { id: session.id },
        body: { parts: [{ type: "text", text: question }] }
      })
    } else if (event.type === "message.part.updated" && event.properties.part.type === "text") {
      parts.set(event.properties.part.id, event.properties.part.text)
    } else if ("delta" in event.properties && "partID" in event.properties) {
      const id = String(event.properties.partID)
      parts.set(id, (parts.get(id) ?? "") + String(event.properties.delta))
    } else if (event.type === "session.idle" && event.properties.sessionID === session.id) {
      break
    }
  }
  abort.abort()
  const { data: messages = [] } = await client.session.messages({ path: { id: session.id }, query: { limit: 2 } })
  return messages.at(-1)?.parts.flatMap((part) => (part.type === "text" ? [part.text] : [])).join("") ?? ""
})
