/**
 * The events of OpenCode 1.18.33, as it writes them: the same fields, ids of the same length, one event per HTTP chunk.
 *
 * A text delta is some 270 bytes on the wire, 86 of them text.
 */

/** The delta of a long, fast answer. */
export const delta = "The quick brown fox jumps over the lazy dog, and the model goes on to say more of it.\n"

/** The turn's session; as every id here, of the length of a real one. */
export const sessionId = (turn: number): string => `ses_${id(turn)}`
/** The user message that the turn posts. */
export const promptId = (turn: number): string => `msg_${id(2 * turn)}`
/** The one part of that message. */
export const promptPartId = (turn: number): string => `prt_${id(2 * turn)}`
/** The assistant message that answers it. */
export const messageId = (turn: number): string => `msg_${id(2 * turn + 1)}`
/** The one part of that answer. */
export const partId = (turn: number): string => `prt_${id(2 * turn + 1)}`

/** A stored session. */
export const session = (id: string) => ({
  id,
  slug: "bench",
  version: "1.18.33",
  projectID: "global",
  directory: "/bench",
  title: "bench",
  time: { created: 1, updated: 1 }
})

/** The server's folder. */
export const place = { home: "/", state: "/", config: "/", worktree: "/bench", directory: "/bench" }

/** What an event stream begins with. */
export const connected = JSON.stringify({ id: `evt_${id(0)}`, type: "server.connected", properties: {} })

/** The two events that open the turn's answer: its message, and its text part. */
export const opening = (turn: number, type: "text" | "tool" = "text"): ReadonlyArray<string> => [
  JSON.stringify({
    id: eventId(),
    type: "message.updated",
    properties: {
      sessionID: sessionId(turn),
      info: {
        id: messageId(turn),
        sessionID: sessionId(turn),
        role: "assistant",
        parentID: promptId(turn),
        modelID: "m",
        providerID: "scripted",
        mode: "build",
        agent: "build",
        path: { cwd: "/bench", root: "/bench" },
        cost: 0,
        tokens: { input: 0, output: 0, reasoning: 0, cache: { read: 0, write: 0 } },
        time: { created: 1 }
      }
    }
  }),
  type === "text" ? textPart(turn, "") : toolPart(turn, "")
]

/** One delta of the turn's text part. */
export const textDelta = (turn: number, text = delta): string =>
  JSON.stringify({
    id: eventId(),
    type: "message.part.delta",
    properties: {
      sessionID: sessionId(turn),
      messageID: messageId(turn),
      partID: partId(turn),
      field: "text",
      delta: text
    }
  })

/** The turn's tool call, ended with this output. */
export const toolPart = (turn: number, output: string): string =>
  partUpdated(turn, {
    type: "tool",
    callID: "call_bench",
    tool: "bash",
    state: output === ""
      ? { status: "running", input: { command: "cat" }, time: { start: 1 } }
      : {
        status: "completed",
        input: { command: "cat" },
        title: "cat",
        output,
        metadata: {},
        time: { start: 1, end: 2 }
      }
  })

/**
 * The answers of `turns` turns, one event of each in turn, as the bytes of a chunked body: first what opens them, then
 * `deltas` deltas each.
 */
export const answers = (turns: number, deltas: number): Buffer => {
  const frames: Array<string> = []
  for (let turn = 0; turn < turns; turn++) frames.push(...opening(turn).map(chunk))
  for (let index = 0; index < deltas; index++) {
    for (let turn = 0; turn < turns; turn++) frames.push(chunk(textDelta(turn)))
  }
  return Buffer.from(frames.join(""))
}

/** One turn whose tool printed `bytes` bytes, as the bytes of a chunked body. */
export const bigAnswer = (bytes: number): Buffer => {
  const line = "an output line of 64 bytes, with an escaped line break at the end\n"
  const output = line.repeat(Math.ceil(bytes / (line.length + 1)))
  return Buffer.from([...opening(0, "tool"), toolPart(0, output)].map(chunk).join(""))
}

/** One event as one HTTP chunk. */
export const chunk = (json: string): string => {
  const event = frame(json)
  return `${Buffer.byteLength(event).toString(16)}\r\n${event}\r\n`
}

/** One event of an event stream. */
export const frame = (json: string): string => `data: ${json}\n\n`

// internal

function id(value: number): string {
  return `${value.toString(16).padStart(12, "0")}abcdefghijklmn`
}

let events = 0
const eventId = () => `evt_${id(++events)}`

const textPart = (turn: number, text: string) => partUpdated(turn, { type: "text", text, time: { start: 1 } })

const partUpdated = (turn: number, part: object) =>
  JSON.stringify({
    id: eventId(),
    type: "message.part.updated",
    properties: {
      sessionID: sessionId(turn),
      part: { id: partId(turn), sessionID: sessionId(turn), messageID: messageId(turn), ...part },
      time: 1
    }
  })
