/** An OpenCode server of one function: an `HttpClient` that answers in memory and keeps what it was asked. */
import { assert } from "@effect/vitest"
import * as Client from "@opencode-turn/core/Client"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientError from "effect/http/HttpClientError"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Layer from "effect/Layer"

export interface Asked {
  readonly method: string
  readonly path: string
  readonly query: Readonly<Record<string, string>>
  readonly headers: Readonly<Record<string, string>>
  readonly body: unknown
}

/** The connection, not an answer: `cause` is what `fetch` would throw. */
export class Broken extends Data.TaggedError("Broken")<{ readonly cause: Error }> {}

/** The value has at least these fields, deeply equal; `name` tells which of many it was. */
export const assertFields = (value: unknown, fields: object, name?: string): void => {
  for (const [key, field] of Object.entries(fields)) assert.deepPropertyVal(value, key, field, name)
}

export const json = (body: unknown, init: ResponseInit = {}): Response =>
  new Response(JSON.stringify(body), { ...init, headers: { "content-type": "application/json", ...init.headers } })

export const html = (status = 200): Response =>
  new Response("<!doctype html><html>secret page</html>", { status, headers: { "content-type": "text/html" } })

export const empty = (status: number, headers: Record<string, string> = {}): Response =>
  new Response(null, { status, headers })

/** The routes by which the lines of OpenCode are told apart. */
export const probes: ReadonlyArray<string> = ["/global/health", "/api/info", "/api/health"]

/** How a server of 2.x answers the probes. */
export const probed2x = (line: "release" | "beta") => ({ path }: Asked): Response =>
  path === "/api/info" && line === "release"
    ? json({ version: "2.0.21", pid: 1, urls: [], paths: {} })
    : path === "/api/health" && line === "beta"
    ? json({ healthy: true, version: "0.0.0-next-16350", pid: 1 })
    : empty(404)

/** A client that is connected to `answer`; `asked` is what it sent, the probes of the version included. */
export const connect = (
  answer: (asked: Asked) => Response | Effect.Effect<Response, Broken>,
  health: (asked: Asked) => Response | Effect.Effect<Response, Broken> = () =>
    json({ healthy: true, version: "1.18.33" })
) => {
  const asked: Array<Asked> = []
  const client = HttpClient.make((request, url) => {
    const body = request.body._tag === "Uint8Array"
      ? JSON.parse(new TextDecoder().decode(request.body.body))
      : undefined
    const entry: Asked = {
      method: request.method,
      path: url.pathname,
      query: Object.fromEntries(url.searchParams),
      headers: { ...request.headers },
      body
    }
    asked.push(entry)
    const answered = isProbe(entry) ? health(entry) : answer(entry)
    return (Effect.isEffect(answered) ? answered : Effect.succeed(answered)).pipe(
      Effect.map((response) => HttpClientResponse.fromWeb(request, response)),
      Effect.mapError(({ cause }) =>
        new HttpClientError.HttpClientError({ reason: new HttpClientError.TransportError({ request, cause }) })
      )
    )
  })
  return { asked, client, requests: () => asked.filter((entry) => !isProbe(entry)) }
}

const isProbe = ({ path }: Asked): boolean => probes.some((probe) => path.endsWith(probe))

/** Gives an effect a `Client` of such a server. */
export const withClient = ({ client }: Pick<ReturnType<typeof connect>, "client">) =>
  Effect.provide(
    Layer.provide(
      Client.layer({ baseUrl: "http://127.0.0.1:4096" }),
      Layer.succeed(HttpClient.HttpClient, client)
    )
  )
