/**
 * An OpenCode server that says what it was told to: prompts are accepted, sessions stay busy, and on "go" every open event
 * stream gets the same bytes, one HTTP chunk for each event, as fast as it takes them.
 */
import { createServer, type ServerResponse } from "node:http"
import type { AddressInfo, Socket } from "node:net"
import { flag, int, text } from "../Child.ts"
import * as Wire from "../Wire.ts"

const body = text("shape") === "big"
  ? Wire.bigAnswer(int("bytes"))
  : Wire.answers(int("turns"), int("deltas"))
const streams = new Set<ServerResponse>()
let sockets = 0
let mostStreams = 0
let accepted = 0

const server = createServer((request, response) => {
  const json = (value: unknown, status = 200) => {
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value))
  }
  request.resume()
  const path = (request.url ?? "").replace(/\?.*/, "")
  const [, resource, id, rest] = path.split("/")
  if (path === "/global/health") return json({ healthy: true, version: "1.18.33" })
  if (path === "/event") {
    streams.add(response)
    mostStreams = Math.max(mostStreams, streams.size)
    response.once("close", () => streams.delete(response))
    response.writeHead(200, { "content-type": "text/event-stream" }).write(Wire.frame(Wire.connected))
    return undefined
  }
  if (path === "/path") return json(Wire.place)
  if (resource !== "session") return json([])
  if (rest === "prompt_async") {
    accepted++
    response.writeHead(204).end()
    return undefined
  }
  if (rest === "message" || rest === "children") return json([])
  if (id === "status") return json({})
  return json(Wire.session(id ?? `ses_${String(accepted).padStart(12, "0")}${crypto.randomUUID().slice(0, 14)}`))
})
server.on("connection", (socket) => {
  sockets++
  socket.once("close", () => sockets--)
})

/** The bytes are chunks already, so they go past `response`: building them costs this process no time while it is read. */
const send = (socket: Socket, from = 0): void => {
  let at = from
  while (at < body.length) {
    const more = socket.write(body.subarray(at, at + sliceBytes))
    at += sliceBytes
    if (!more && at < body.length) {
      socket.once("drain", () => send(socket, at))
      return
    }
  }
}
const sliceBytes = 64 * 1024

process.on("message", (message) => {
  if (message === "count") process.send?.({ sockets, streams: streams.size, mostStreams, accepted })
  else if (!flag("quiet")) { for (const { socket } of streams) if (socket !== null) send(socket) }
})
process.on("disconnect", () => process.exit(0))
server.listen(0, "127.0.0.1", () => {
  const address = server.address() satisfies AddressInfo | string | null
  if (address !== null && typeof address === "object") {
    process.send?.({ url: `http://127.0.0.1:${address.port}` })
  }
})
