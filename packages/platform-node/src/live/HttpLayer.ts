/**
 * The HTTP client of the platform.
 *
 * @since 0.1.0
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import type * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"

/**
 * Undici; on Bun, Bun's own `fetch`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<HttpClient.HttpClient> = Layer.suspend(() =>
  process.versions["bun"] === undefined ? NodeHttpClient.layerUndici : layerBun
)

// internal

/** Bun puts a package of its own in undici's place, which sends no requests. Its `fetch` breaks a silent stream unless it is told not to. */
const unlimited: RequestInit & { readonly timeout: false } = { timeout: false }

const layerBun = Layer.provide(NodeHttpClient.layerFetch, Layer.succeed(NodeHttpClient.RequestInit, unlimited))
