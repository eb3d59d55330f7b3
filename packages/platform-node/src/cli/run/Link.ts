/**
 * `opencode-turn link`: a new link that signs a browser in to a gateway that runs.
 *
 * The token signs the link, and is sent to nobody: another program may listen where the gateway is expected.
 */
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import { linkMinutes, makeLink } from "../../gateway/Access.ts"
import * as HttpLayer from "../../live/HttpLayer.ts"
import * as LiveLayer from "../../live/LiveLayer.ts"
import { failed, type Failure, usage } from "../setup/Failure.ts"
import { Streams } from "../setup/Streams.ts"
import * as Token from "../setup/Token.ts"

/** The options of the command line. */
export interface Options {
  readonly url: string
  readonly json: boolean
}

/** Prints a link to the gateway at the URL. */
export const link = Effect.fnUntraced(
  function*(options: Options): Effect.fn.Return<void, Failure, Streams | FileSystem.FileSystem> {
    const url = yield* Effect.mapError(LiveLayer.checkUrl("--url", options.url), ({ message }) => usage(message))
    const base = url.replace(/\/$/, "")
    yield* HttpClient.get(`${base}/health`).pipe(
      Effect.flatMap(HttpClientResponse.filterStatusOk),
      Effect.timeout("5 seconds"),
      Effect.provide(HttpLayer.layer),
      Effect.mapError(() => failed(`no gateway answers at ${base}: start opencode-turn serve, or name its --url`))
    )
    const { token } = yield* Token.find
    const made = `${base}${yield* makeLink(token)}`
    const { answer, progress } = yield* Streams
    yield* answer(options.json ? `${JSON.stringify({ type: "link", link: made })}\n` : `${made}\n`)
    if (!options.json) yield* progress(`signs a browser in, once, within ${linkMinutes} minutes\n`)
  }
)
