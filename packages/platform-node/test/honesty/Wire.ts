/**
 * Requests and events of the servers that the honesty scripts run on, and what both lines normalise.
 */
import { Effect, Predicate, Queue, Schema, Stream } from "effect"
import type { HttpClientResponse } from "effect/http"
import { HttpClient, HttpClientRequest } from "effect/http"
import type { Target } from "./Script.ts"

export type Method = "DELETE" | "GET" | "PATCH" | "POST" | "PUT"

/** Sends requests with the credentials of the target; `about` adds what each request of its line says. */
export const executing = (
  { password, url }: Target,
  about: (request: HttpClientRequest.HttpClientRequest) => HttpClientRequest.HttpClientRequest = (request) => request
) =>
  Effect.map(
    HttpClient.HttpClient,
    (client) => (method: Method, path: string, body?: unknown): Effect.Effect<HttpClientResponse.HttpClientResponse> =>
      client.execute(
        HttpClientRequest.make(method)(url + path).pipe(
          HttpClientRequest.basicAuth("opencode", password),
          about,
          body === undefined ? (request) => request : HttpClientRequest.bodyJsonUnsafe(body)
        )
      ).pipe(Effect.orDie)
  )

/** What the server says to somebody without credentials. */
export const unauthorized = Effect.fnUntraced(function*({ url }: Target, path: string) {
  const client = yield* HttpClient.HttpClient
  const { headers, status, text } = yield* client.get(url + path)
  return [status, headers["www-authenticate"], yield* text]
})

/** The events of a server: all that came, and the next one that fits. */
export interface Events<E> {
  readonly all: ReadonlyArray<E>
  readonly next: (fits: (event: E) => boolean) => Effect.Effect<E>
}

export const listen = Effect.fnUntraced(function*<E extends { readonly type: string }>(
  response: Effect.Effect<HttpClientResponse.HttpClientResponse>,
  schema: Schema.Codec<E, unknown>
) {
  const decode = Schema.decodeEffect(Schema.fromJsonString(schema))
  const queue = yield* Queue.unbounded<E>()
  const all: Array<E> = []
  yield* response.pipe(
    Effect.map(({ stream }) => stream),
    Stream.unwrap,
    Stream.decodeText,
    Stream.splitLines,
    Stream.filter((line) => line.startsWith("data: ")),
    Stream.mapEffect((line) => decode(line.slice("data: ".length))),
    Stream.runForEach((event) =>
      Effect.suspend(() => {
        all.push(event)
        return Queue.offer(queue, event)
      })
    ),
    Effect.forkScoped
  )
  const events: Events<E> = { all, next: (fits) => Effect.repeat(Queue.take(queue), { until: fits }) }
  yield* events.next(({ type }) => type === "server.connected")
  return events
})

/** The next of both, in any order. */
export const both = Effect.fnUntraced(
  function*<E>({ next }: Events<E>, one: (event: E) => boolean, two: (event: E) => boolean) {
    const first = yield* next((event) => one(event) || two(event))
    return one(first) ? [first, yield* next(two)] as const : [yield* next(one), first] as const
  }
)

/** A response as it is compared: its JSON, or its text. */
export const bodyOf = (response: HttpClientResponse.HttpClientResponse) =>
  Effect.map(
    Effect.orDie(response.text),
    (text): unknown => (typeOf(response) === "application/json" ? JSON.parse(text) : text)
  )

export const typeOf = ({ headers }: HttpClientResponse.HttpClientResponse) => headers["content-type"]?.split(";", 1)[0]

export const asArray = (value: unknown): ReadonlyArray<unknown> => Array.isArray(value) ? value : []

export const field = (value: unknown, name: string): unknown =>
  Predicate.hasProperty(value, name) ? value[name] : undefined

export const textOf = (value: unknown, name: string): string => {
  const found = field(value, name)
  return typeof found === "string" ? found : ""
}

export const idOf = (value: unknown): string => textOf(value, "id")

/** Replaces ids by their order of appearance. */
export const makeNaming = () => {
  const names = new Map<string, string>()
  return (id: string) => {
    const prefix = id.slice(0, 3)
    const known = names.get(id) ??
      `${prefix}-${[...names.values()].filter((value) => value.startsWith(prefix)).length + 1}`
    names.set(id, known)
    return known
  }
}
