/**
 * What a server answers that is broken or hostile: bodies and pages without an end, and values that no server should send.
 *
 * Each is a `Fault`: give it to `FakeOpencode.fail`, for as many requests as it is to hit, and see that your turn ends.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { json } from "./FakeHttp.ts"
import type { Fault } from "./Faults.ts"

/**
 * Answers with blanks that never end, and does not act.
 *
 * @category constructors
 * @since 0.1.0
 */
export const endlessBody: Fault = () =>
  Effect.succeed({
    _tag: "Events",
    headers: { "content-type": "application/json" },
    stream: Stream.forever(Stream.succeed(blanks))
  })

/**
 * Answers each page of a session's messages with one more message of somebody else, newer than all others, and a cursor that no page
 * had before.
 *
 * @category constructors
 * @since 0.1.0
 */
export const endlessPages = (delay: Duration.Input = Duration.zero): Fault => {
  let count = 0
  return (_serve, _gate, { path }) =>
    Effect.delay(
      Effect.sync(() => {
        count++
        return json(200, [stranger(path, `msg_ffffff${String(count).padStart(6, "0")}Stranger`)], {
          "x-next-cursor": `cursor_${count}`
        })
      }),
      Duration.fromInputUnsafe(delay)
    )
}

/**
 * Answers each page of a session's messages with the same one, and with a cursor: always the same one, or ever another one.
 *
 * @category constructors
 * @since 0.1.0
 */
export const samePage = (cursor: "same" | "other"): Fault => {
  let count = 0
  return (_serve, _gate, { path }) =>
    Effect.sync(() =>
      json(200, [stranger(path, "msg_ffffffffffffStranger")], {
        "x-next-cursor": `cursor_${cursor === "same" ? 0 : ++count}`
      })
    )
}

/**
 * Answers each page of a session's messages with none, and with a cursor that no page had before.
 *
 * @category constructors
 * @since 0.1.0
 */
export const emptyPages = (): Fault => {
  let count = 0
  return () => Effect.sync(() => json(200, [], { "x-next-cursor": `cursor_${++count}` }))
}

// internal

const blanks = new Uint8Array(64 * 1024).fill(" ".charCodeAt(0))

/** An answer to a prompt of somebody else. */
const stranger = (path: string, id: string) => ({
  info: {
    role: "assistant",
    id,
    sessionID: path.split("/")[2],
    parentID: "msg_ffffff000000Prompt",
    time: { created: 1, completed: 2 },
    finish: "stop"
  },
  parts: []
})
