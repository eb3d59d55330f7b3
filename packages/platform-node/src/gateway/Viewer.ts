/**
 * The page for people: the files that `viewer/build.ts` makes, as the gateway serves them.
 *
 * **Responsibilities**: the routes of the files, with their types, their compressed forms and how long a browser may keep them.
 *
 * **Not responsibilities**: what the page does (`viewer/`), and who may read turns: the files hold none, and need no token.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import { readdirSync, readFileSync } from "node:fs"
import { extname } from "node:path"
import { fileURLToPath } from "node:url"
import { gzipSync } from "node:zlib"
import { Unavailable } from "./GatewayError.ts"
import * as Guard from "./Guard.ts"

/**
 * The page at `/`, and its files below `/assets`. `base` is the path under which the gateway is mounted, without a slash at its end.
 *
 * **Details**
 *
 * The addresses inside the page are relative to it, so that a mounted page without a slash at its end is led to the one with it.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (base: string): Layer.Layer<never, never, HttpRouter.HttpRouter> => {
  const files = read(folder)
  return Layer.mergeAll(
    HttpRouter.add(
      "GET",
      "/",
      Effect.map(
        HttpServerRequest.HttpServerRequest,
        (request) =>
          /^[^?]*\/(?:\?|$)/.test(request.originalUrl.replace(/^https?:\/\/[^/]+/, ""))
            ? respond(request, files.get("index.html"))
            : HttpServerResponse.redirect(`${base}/`)
      )
    ),
    HttpRouter.add(
      "GET",
      "/assets/:file",
      Effect.gen(function*() {
        const { file = "" } = yield* HttpRouter.params
        const found = files.get(`assets/${file}`)
        return found === undefined
          ? HttpServerResponse.empty({ status: 404 })
          : respond(yield* HttpServerRequest.HttpServerRequest, found)
      })
    )
  )
}

// internal

/** A file, as it is sent. */
interface File {
  readonly contentType: string
  readonly bytes: Uint8Array
  readonly zipped: Uint8Array
  /** Whether its name changes with its content. */
  readonly isForever: boolean
}

/** The same place seen from the sources and from what is built of them. */
const folder = fileURLToPath(new URL("../../dist/viewer/", import.meta.url))

const types: Readonly<Record<string, string>> = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml"
}

/** The files of the page; none where it is not built, which only happens in the repository. */
const read = (folder: string): ReadonlyMap<string, File> => {
  try {
    return new Map(
      readdirSync(folder, { recursive: true, encoding: "utf8" }).flatMap((path) => {
        const name = path.replaceAll("\\", "/")
        const contentType = types[extname(name)]
        if (contentType === undefined) return []
        const bytes = readFileSync(`${folder}/${path}`)
        return [[name, { contentType, bytes, zipped: gzipSync(bytes), isForever: name.startsWith("assets/") }] as const]
      })
    )
  } catch {
    return new Map()
  }
}

const respond = (
  request: HttpServerRequest.HttpServerRequest,
  file: File | undefined
): HttpServerResponse.HttpServerResponse => {
  if (file === undefined) {
    return Guard.toResponse(new Unavailable({ message: "the page is not built", advice: "run `pnpm build`" }))
  }
  const isZipped = acceptsGzip(request.headers["accept-encoding"] ?? "")
  return HttpServerResponse.uint8Array(isZipped ? file.zipped : file.bytes, {
    contentType: file.contentType,
    headers: {
      vary: "accept-encoding",
      ...(isZipped && { "content-encoding": "gzip" }),
      "cache-control": file.isForever ? "public, max-age=31536000, immutable" : "no-cache"
    }
  })
}

const acceptsGzip = (header: string): boolean =>
  header.split(",").some((part) => /^\s*gzip\s*(?:;\s*q=(?!0(?:\.0*)?\s*$)|$)/i.test(part))
