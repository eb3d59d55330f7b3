/**
 * The messages of a session as a server of either line gives them, read without the code under test.
 */
import { Schema } from "effect"
import type { Line } from "../support/OpencodeGlobalSetup.ts"

/** The fields of a server message that the checks need. */
export const RawMessage = Schema.Struct({
  info: Schema.Struct({
    id: Schema.String,
    role: Schema.String,
    parentID: Schema.optionalKey(Schema.String)
  }),
  parts: Schema.Array(Schema.Struct({ type: Schema.String, text: Schema.optionalKey(Schema.String) }))
})
export interface RawMessage extends Schema.Schema.Type<typeof RawMessage> {}

type Read = (url: string, password: string, sessionId: string) => Promise<ReadonlyArray<RawMessage>>

/** Reads all messages of a session, oldest first. */
export const read: Record<Line, Read> = {
  "1.x": async (url, password, sessionId) => decodeMessages(await get(`${url}/session/${sessionId}/message`, password)),

  // A step does not name its prompt: it answers the user's message before it, also behind an input that the server or a turn wrote.
  "2.x": async (url, password, sessionId) => {
    const messages: Array<RawMessage> = []
    let prompt: string | undefined
    let query = "order=asc"
    while (true) {
      const { cursor, data } = decodePage(
        await get(`${url}/api/session/${sessionId}/message?limit=${pageSize}&${query}`, password)
      )
      for (const { content = [], id, text, type } of data) {
        if (type === "user") {
          prompt = id
          messages.push({ info: { id, role: "user" }, parts: [{ type: "text", text: text ?? "" }] })
        }
        if (type === "assistant") {
          messages.push({
            info: { id, role: "assistant", ...(prompt !== undefined && { parentID: prompt }) },
            parts: content
          })
        }
      }
      if (data.length < pageSize || cursor?.next == null) return messages
      query = `cursor=${encodeURIComponent(cursor.next)}`
    }
  }
}

// internal

const pageSize = 100

const get = async (url: string, password: string): Promise<unknown> => {
  const response = await fetch(url, { headers: { authorization: `Basic ${btoa(`opencode:${password}`)}` } })
  if (!response.ok) throw new Error(`the server answered ${response.status}`)
  return await response.json()
}

const decodeMessages = Schema.decodeUnknownSync(Schema.Array(RawMessage))

const decodePage = Schema.decodeUnknownSync(Schema.Struct({
  data: Schema.Array(Schema.Struct({
    id: Schema.String,
    type: Schema.String,
    text: Schema.optionalKey(Schema.String),
    content: Schema.optionalKey(RawMessage.fields.parts)
  })),
  cursor: Schema.optionalKey(Schema.Struct({ next: Schema.optionalKey(Schema.NullOr(Schema.String)) }))
}))
