/**
 * What a reply holds: deltas of one part decoded and folded in memory, and the heap that is left of them. With `rope` the
 * same text as `text += delta`, for comparison.
 */
import { MessageId, SessionId } from "../../packages/core/src/domain/Ids.ts"
import { makeDecoder } from "../../packages/core/src/opencode/v1/Events.ts"
import * as Reply from "../../packages/core/src/reply/Reply.ts"
import { flag, heapBytes, int, report, text } from "../Child.ts"
import * as Wire from "../Wire.ts"

const deltas = int("deltas")
const delta = text("delta")
const isRope = flag("rope")
const perRead = 200

let reply = Reply.make({
  sessionId: SessionId.make(Wire.sessionId(0)),
  promptId: MessageId.make(Wire.promptId(0))
})
let rope = ""
const decoder = makeDecoder()
const read = (events: ReadonlyArray<string>) => {
  for (const event of decoder.push(Buffer.from(events.map(Wire.frame).join("")))) {
    if (event._tag === "Connected" || event._tag === "Heartbeat" || event._tag === "Unread") continue
    if (!isRope) reply = Reply.apply(reply, event)
    else if (event._tag === "PartDelta") rope += event.delta
  }
}

read(Wire.opening(0))
const before = await heapBytes()
for (let sent = 0; sent < deltas; sent += perRead) {
  read(Array.from({ length: perRead }, () => Wire.textDelta(0, delta)))
}
const heldBytes = await heapBytes() - before
// Read only now: reading makes the text flat.
const length = isRope ? rope.length : Reply.text(reply).length
if (length !== deltas * delta.length) throw new Error(`${length} characters of ${deltas * delta.length}`)
report({ heldBytes, textBytes: length })
