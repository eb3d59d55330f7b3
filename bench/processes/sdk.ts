/**
 * `@opencode-ai/sdk`: `streams` subscriptions, each of which counts the events and folds those of its own turn, or, if there
 * are no turns to fold, nothing.
 */
import { createOpencodeClient } from "@opencode-ai/sdk"
import { begin, flag, int, text } from "../Child.ts"
import { partId, sessionId } from "../Wire.ts"

const client = createOpencodeClient({ baseUrl: text("url") })
const expected = int("events")
const streams = int("streams")
const isFolding = flag("fold")
let ended = 0

const subscriptions = await Promise.all(
  Array.from({ length: streams }, async (_, turn) => {
    const { stream } = await client.event.subscribe()
    const events = stream[Symbol.asyncIterator]()
    await events.next() // server.connected
    return { events, turn }
  })
)
await new Promise((resolve) => setTimeout(resolve, 200))
const finish = begin()

const read = async ({ events, turn }: (typeof subscriptions)[number]) => {
  const own = sessionId(turn)
  const parts = new Map<string, string>()
  for (let seen = 0; seen < expected; seen++) {
    const { done, value } = await events.next()
    if (done === true) throw new Error("the stream ended")
    if (!isFolding || !("sessionID" in value.properties) || value.properties.sessionID !== own) continue
    const { properties } = value
    if ("delta" in properties && typeof properties.delta === "string") {
      parts.set(partId(turn), (parts.get(partId(turn)) ?? "") + properties.delta)
    }
  }
  if (++ended === streams) finish()
}
await Promise.all(subscriptions.map(read))
