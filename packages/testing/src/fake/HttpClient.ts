/**
 * An `HttpClient` whose server is a function: requests and responses are passed in memory.
 *
 * Bodies are Effect streams instead of web streams, so that a test clock notices all work of a response and advances only once that
 * work has settled.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Cookies from "effect/http/Cookies"
import * as Headers from "effect/http/Headers"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientError from "effect/http/HttpClientError"
import type * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import * as UrlParams from "effect/http/UrlParams"
import * as Inspectable from "effect/Inspectable"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { pipeArguments } from "effect/Pipeable"
import type * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type { FakeRequest, FakeResponse } from "./Http.ts"

/**
 * @category layers
 * @since 0.1.0
 */
export const layerHttpClient = (
  handle: (request: FakeRequest) => Effect.Effect<FakeResponse>
): Layer.Layer<HttpClient.HttpClient> => Layer.succeed(HttpClient.HttpClient, make(handle))

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = (handle: (request: FakeRequest) => Effect.Effect<FakeResponse>): HttpClient.HttpClient =>
  HttpClient.make((request, url) =>
    Effect.flatMap(
      handle({
        method: request.method,
        path: decodeURIComponent(url.pathname),
        query: Object.fromEntries(url.searchParams),
        headers: { ...request.headers, ...contentType(request) },
        body: bodyOf(request)
      }),
      (response) =>
        response._tag === "Reset"
          ? Effect.fail(broken(request))
          : Effect.succeed(new MemoryResponse(request, url, response))
    )
  )

// internal

const contentType = ({ body }: HttpClientRequest.HttpClientRequest): Readonly<Record<string, string>> =>
  body._tag === "Uint8Array" ? { "content-type": body.contentType } : {}

const bodyOf = ({ body }: HttpClientRequest.HttpClientRequest): string =>
  body._tag === "Uint8Array" ? decoder.decode(body.body) : ""

const broken = (request: HttpClientRequest.HttpClientRequest) =>
  new HttpClientError.HttpClientError({
    reason: new HttpClientError.TransportError({ request, description: "the connection was reset" })
  })

const encoder = new TextEncoder()
const decoder = new TextDecoder()

class MemoryResponse extends Inspectable.Class implements HttpClientResponse.HttpClientResponse {
  readonly [HttpIncomingMessage.TypeId]: typeof HttpIncomingMessage.TypeId = HttpIncomingMessage.TypeId
  readonly [HttpClientResponse.TypeId]: typeof HttpClientResponse.TypeId = HttpClientResponse.TypeId
  readonly request: HttpClientRequest.HttpClientRequest
  readonly url: string
  readonly status: number
  readonly headers: Headers.Headers
  readonly cookies = Cookies.empty
  readonly remoteAddress = Option.none()
  readonly stream: Stream.Stream<Uint8Array, HttpClientError.HttpClientError>
  readonly text: Effect.Effect<string, HttpClientError.HttpClientError>

  constructor(
    request: HttpClientRequest.HttpClientRequest,
    url: URL,
    response: Exclude<FakeResponse, { readonly _tag: "Reset" }>
  ) {
    super()
    this.request = request
    this.url = url.href
    this.status = response.status ?? 200
    this.headers = Headers.fromInput(response.headers)
    this.stream = response._tag === "Body"
      ? Stream.make(encoder.encode(response.body))
      : Stream.mapError(response.stream, () => broken(request))
    this.text = response._tag === "Body"
      ? Effect.succeed(response.body)
      : Stream.mkString(Stream.decodeText(this.stream))
  }

  get json(): Effect.Effect<Schema.Json, HttpClientError.HttpClientError> {
    return Effect.flatMap(this.text, (text) =>
      Effect.try({
        try: (): Schema.Json => JSON.parse(text),
        catch: (cause) =>
          new HttpClientError.HttpClientError({
            reason: new HttpClientError.DecodeError({ request: this.request, response: this, cause })
          })
      }))
  }

  get arrayBuffer(): Effect.Effect<ArrayBuffer, HttpClientError.HttpClientError> {
    return Effect.map(this.text, (text) => encoder.encode(text).buffer)
  }

  get urlParamsBody(): Effect.Effect<UrlParams.UrlParams, HttpClientError.HttpClientError> {
    return Effect.map(this.text, (text) => UrlParams.fromInput(new URLSearchParams(text)))
  }

  get formData(): Effect.Effect<FormData, HttpClientError.HttpClientError> {
    return Effect.die("the fake sends no forms")
  }

  get upgrade(): Effect.Effect<never, HttpClientError.HttpClientError> {
    return Effect.die("the fake upgrades no connections")
  }

  toJSON(): unknown {
    return HttpIncomingMessage.inspect(this, { _id: "HttpClientResponse", status: this.status })
  }

  pipe() {
    // oxlint-disable-next-line prefer-rest-params
    return pipeArguments(this, arguments)
  }
}
