/**
 * The floor: one event stream read by undici, cut at the last blank line, each event parsed and folded into its session's
 * text. Nothing is checked, nothing survives a fault; below this a client in JavaScript cannot go by much.
 */
import { request } from "undici"
import { begin, int, text } from "../Child.ts"

interface Turn {
  readonly parts: Map<string, string>
  events: number
}

const turns = new Map<string, Turn>()
const expected = int("events")
let events = 0
let finish: (() => void) | undefined

const fold = (json: string): void => {
  const { properties, type } = JSON.parse(json)
  if (type === "server.connected") {
    setTimeout(() => {
      finish = begin()
    }, 200)
    return
  }
  const id: string = properties.sessionID
  let turn = turns.get(id)
  if (turn === undefined) {
    turn = { parts: new Map(), events: 0 }
    turns.set(id, turn)
  }
  turn.events++
  if (type === "message.part.delta") {
    turn.parts.set(properties.partID, (turn.parts.get(properties.partID) ?? "") + properties.delta)
  } else if (type === "message.part.updated") {
    turn.parts.set(properties.part.id, properties.part.text ?? properties.part.state.output ?? "")
  }
  if (++events === expected) finish?.()
}

const { body } = await request(`${text("url")}/event`)
let pending: Array<Buffer> = []
body.on("readable", () => {
  for (let read: Buffer | null = body.read(); read !== null; read = body.read()) {
    const end = read.lastIndexOf("\n\n")
    if (end === -1) {
      pending.push(read)
      continue
    }
    const rest = read.subarray(0, end)
    const block = pending.length === 0 ? rest : Buffer.concat([...pending, rest])
    pending = end + 2 === read.length ? [] : [read.subarray(end + 2)]
    for (const event of block.toString("utf8").split("\n\n")) fold(event.slice(6))
  }
})
