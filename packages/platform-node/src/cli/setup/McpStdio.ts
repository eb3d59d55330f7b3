/**
 * Standard input and output as the transport of MCP takes them.
 *
 * **Responsibilities**: a line that is no message is dropped, and told on standard error; a client that no longer reads is no failure.
 *
 * **Details**
 *
 * Effect's transport gives up a chunk of its input where one line of it cannot be read, with the messages beside that line.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Sink from "effect/Sink"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import { Streams } from "./Streams.ts"

/** The streams of this process for MCP. */
export const layer: Layer.Layer<Stdio.Stdio, never, Stdio.Stdio | Streams> = Layer.effect(
  Stdio.Stdio,
  Effect.gen(function*() {
    const stdio = yield* Stdio.Stdio
    const { answer, progress } = yield* Streams
    const encoder = new TextEncoder()
    const decoder = new TextDecoder()
    // The line itself may hold a prompt.
    const tell = (text: string) =>
      progress(`opencode-turn: a line of ${text.length} characters on standard input is no message of MCP\n`)
    return Stdio.make({
      ...stdio,
      stdin: stdio.stdin.pipe(
        Stream.decodeText,
        Stream.splitLines,
        Stream.filterEffect((text) => {
          if (isMessage(text)) return Effect.succeed(true)
          return Effect.as(text.trim() === "" ? Effect.void : tell(text), false)
        }),
        Stream.map((text) => encoder.encode(`${text}\n`))
      ),
      stdout: () => Sink.forEach((data) => answer(typeof data === "string" ? data : decoder.decode(data)))
    })
  })
)

// internal

const Message = Schema.Struct({
  jsonrpc: Schema.Literal("2.0"),
  method: Schema.optionalKey(Schema.String),
  id: Schema.optionalKey(Schema.Union([Schema.String, Schema.Finite, Schema.Null]))
})

const decode = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Union([Message, Schema.Array(Message)])))

/** A message names a method, or answers one by its id. A batch is left to the protocol, which may take none. */
const isMessage = (text: string): boolean =>
  Option.exists(
    decode(text),
    (read) => !("jsonrpc" in read) || read.method !== undefined || read.id !== undefined
  )
