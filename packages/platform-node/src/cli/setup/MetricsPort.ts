/**
 * A port of the loopback interface that shows the metrics of a command to Prometheus, without a token.
 *
 * Whoever works on this machine may read how much the turns cost. Pages in a browser may not: the guard refuses names of other hosts.
 */
import * as Effect from "effect/Effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import type * as Scope from "effect/Scope"
import * as Guard from "../../gateway/Guard.ts"
import * as Listen from "../../gateway/Listen.ts"
import * as PrometheusPage from "../../live/PrometheusPage.ts"
import type { Failure } from "./Failure.ts"
import * as Port from "./Port.ts"

/** Listens until the scope closes, and gives the address of the page. */
export const listen = (port: number): Effect.Effect<string, Failure, Scope.Scope> =>
  Listen.listen({ handle: Guard.guard({})(page) }, { host, port }).pipe(
    Effect.mapBoth({
      onSuccess: (port) => `http://${host}:${port}/metrics`,
      onFailure: Port.explained({ host, port }, "--metrics-port")
    })
  )

// internal

const host = "127.0.0.1"

const page = Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ method, url }) => {
  const isPage = /^\/metrics(?:\?|$)/.test(url) && (method === "GET" || method === "HEAD")
  return isPage ? PrometheusPage.response : Effect.succeed(HttpServerResponse.empty({ status: 404 }))
})
