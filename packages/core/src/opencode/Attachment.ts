/**
 * Files and images as parts of a prompt: from bytes, from this machine's disk, or from the web.
 *
 * **Responsibilities**: a media type that OpenCode accepts, the size limit, and errors that tell the remedy.
 *
 * **Not responsibilities**: files on the server's own disk; a part with a `file:` URL names those.
 *
 * The part holds the content itself (a base64 `data:` URL), so the server needs no access to its source.
 *
 * **Example**
 * ```ts
 * const screenshot = yield* Attachment.fromPath("./login.png")
 * yield* runTurn({ conversationId, prompt: [{ type: "text", text: "What is wrong here?" }, screenshot] })
 * ```
 *
 * @since 0.1.0
 */
import * as Bytes from "effect/Bytes"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Mime from "effect/http/Mime"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import type * as PlatformError from "effect/PlatformError"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import type { PromptFile } from "../domain/Prompt.ts"
import { InvalidInput } from "../domain/TurnError.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import * as DataUrl from "./DataUrl.ts"
import * as Media from "./Media.ts"

/**
 * Overrides for what the name and the bytes suggest. The agent reads `filename`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly mediaType?: string | undefined
  readonly filename?: string | undefined
}

/**
 * Makes a part from bytes.
 *
 * **Details**
 *
 * Images and PDFs are sent with the media type of their first bytes. Everything else must be UTF-8 text and is sent as
 * `text/plain`, whatever its media type: OpenCode fails the turn for JSON as `application/json` (1.18.33). An empty
 * text is sent; an empty image is refused.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromBytes = (
  options: Options & { readonly bytes: Uint8Array }
): Effect.Effect<PromptFile, InvalidInput> => {
  const { bytes, filename } = options
  return toPart(filename === undefined ? "the file" : JSON.stringify(filename), bytes, options)
}

/**
 * Makes a part from a file on this machine's disk, with the file's name.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromPath = Effect.fn("Attachment.fromPath")(function*(
  path: string,
  options: Options = {}
): Effect.fn.Return<PromptFile, InvalidInput, FileSystem.FileSystem | Path.Path> {
  const limit = yield* TurnPolicy.MaxAttachmentBytes
  const name = JSON.stringify(path)
  const bytes = yield* Effect.mapError(
    readRegularFile(path, {
      maxBytes: limit,
      folder: "name its files, or, if the server has it too, send its file: URL as application/x-directory",
      tooLarge: tooLargeAdvice
    }),
    (why) => invalid(`${name} ${why}`)
  )
  const { basename } = yield* Path.Path
  return yield* toPart(name, bytes, { ...options, filename: options.filename ?? basename(path) })
})

/**
 * Makes a part from a URL. The content is downloaded within {@link downloadTimeout}; a `data:` URL is decoded.
 *
 * **Gotchas**
 *
 * - The download contacts any host and follows redirects. Check URLs from strangers, or they reach hosts that only this machine can
 *   reach.
 * - No credentials are sent, and a URL with credentials is refused.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromUrl = Effect.fn("Attachment.fromUrl")(function*(
  url: string,
  options: Options = {}
): Effect.fn.Return<PromptFile, InvalidInput, HttpClient.HttpClient> {
  const parsed = URL.canParse(url) ? new URL(url) : undefined
  switch (parsed?.protocol) {
    case "data:":
      return yield* fromDataUrl(url, options)
    case "file:":
      return yield* invalid(
        "a file: URL is not downloaded: use fromPath, or send it as it is for a file on the server's disk"
      )
    case "http:":
    case "https:":
      return yield* parsed === undefined || parsed.username !== "" || parsed.password !== ""
        ? invalid("the URL has a user name or a password: download it yourself, and use fromBytes")
        : download(parsed, options)
    case undefined:
      return yield* invalid(
        `${JSON.stringify(url.slice(0, 100))} is not a URL: use fromPath for a file on this machine`
      )
    default:
      return yield* invalid(`${parsed?.protocol} URLs are not downloaded: use http: or https:`)
  }
})

/**
 * The limit of a download: 30 s. It is enough for `TurnPolicy.MaxAttachmentBytes` over a slow line, and a person waits
 * for the turn.
 *
 * @category constants
 * @since 0.1.0
 */
export const downloadTimeout: Duration.Duration = Duration.seconds(30)

/**
 * Reads a regular file of at most `maxBytes`. Fails with words that follow the file's name.
 *
 * **Details**
 *
 * Devices, pipes and sockets are refused, also behind a link, because they may have no end. `folder` and `tooLarge`
 * tell the remedy.
 *
 * @category steps
 * @since 0.1.0
 */
export const readRegularFile = Effect.fnUntraced(function*(
  path: string,
  options: { readonly maxBytes: number; readonly folder: string; readonly tooLarge: string }
): Effect.fn.Return<Uint8Array, string, FileSystem.FileSystem> {
  const { folder, maxBytes, tooLarge } = options
  const fs = yield* FileSystem.FileSystem
  const { size, type } = yield* Effect.mapError(fs.stat(path), whyUnreadable)
  if (type === "Directory") return yield* Effect.fail(`is a folder: ${folder}`)
  if (type !== "File") return yield* Effect.fail("is not a regular file")
  if (size > maxBytes) return yield* Effect.fail(`has ${size} bytes, and the limit is ${maxBytes} bytes${tooLarge}`)
  // The file may grow in the meantime, and some system files report no size, so the read itself is limited.
  const bytes = yield* Effect.mapError(atMost(fs.stream(path), maxBytes), whyUnreadable)
  return bytes ?? (yield* Effect.fail(`has more, and the limit is ${maxBytes} bytes${tooLarge}`))
})

/**
 * Collects the bytes of a stream, or gives `undefined` and stops once there are more than `maxBytes`.
 *
 * @category steps
 * @since 0.1.0
 */
export const atMost = <E, R>(
  stream: Stream.Stream<Uint8Array, E, R>,
  maxBytes: number
): Effect.Effect<Uint8Array | undefined, E, R> =>
  Effect.suspend(() => {
    const chunks: Array<Uint8Array> = []
    let size = 0
    return Stream.runForEachWhile(stream, (chunk) =>
      Effect.sync(() => {
        size += chunk.length
        if (size <= maxBytes) chunks.push(chunk)
        return size <= maxBytes
      })).pipe(Effect.map(() => (size <= maxBytes ? Bytes.concat(chunks) : undefined)))
  })

/**
 * The reason why a file is unreadable, in words that follow its name.
 *
 * @category getters
 * @since 0.1.0
 */
export const whyUnreadable = ({ reason }: PlatformError.PlatformError): string => {
  switch (reason._tag) {
    case "NotFound":
      return "does not exist: check the path, relative ones begin at the working directory"
    case "PermissionDenied":
      return "may not be read: check its permissions"
    default:
      return `cannot be read (${reason._tag})`
  }
}

// internal

const invalid = (reason: string) => new InvalidInput({ field: "file", reason })

const tooLargeAdvice = " (TurnPolicy.MaxAttachmentBytes): send a part of it, or put it where the agent can read it"

const tooLarge = (name: string, size: string, limit: number) =>
  invalid(`${name} has ${size}, and the limit is ${limit} bytes${tooLargeAdvice}`)

const toPart = Effect.fnUntraced(function*(
  name: string,
  bytes: Uint8Array,
  { filename, mediaType }: Options
): Effect.fn.Return<PromptFile, InvalidInput> {
  const limit = yield* TurnPolicy.MaxAttachmentBytes
  if (bytes.length > limit) return yield* tooLarge(name, `${bytes.length} bytes`, limit)
  const type = yield* Effect.fromResult(mediaTypeOf(name, bytes, mediaType ?? typeByName(filename ?? "")))
  return {
    type: "file",
    mediaType: type,
    url: DataUrl.make(type, bytes),
    ...(filename !== undefined && { filename })
  }
})

/** The media type to send. The bytes decide before the name: tables of media types take `.ts` for a video. */
const mediaTypeOf = (
  name: string,
  bytes: Uint8Array,
  declared: string | undefined
): Result.Result<string, InvalidInput> => {
  const claimed = essence(declared ?? "")
  const seen = Media.sniff(bytes)
  if (Media.isImage(claimed) || claimed === "application/pdf") {
    if (seen !== undefined) return Result.succeed(seen)
    if (bytes.length === 0) return Result.fail(invalid(`${name} is empty, and no ${claimed}`))
    return Media.isSniffed(claimed)
      ? Result.fail(invalid(`${name} is no ${claimed}: its first bytes differ`))
      : Result.succeed(claimed)
  }
  if (Media.isText(bytes)) return Result.succeed("text/plain")
  if (seen !== undefined) return Result.succeed(seen)
  return Result.fail(
    invalid(
      `${name} is ${
        claimed === "" ? "binary" : claimed
      }, neither an image, a PDF, nor text in UTF-8: OpenCode takes nothing else, so ` +
        "convert it, or put it where the agent's tools can read it"
    )
  )
}

const typeByName = (filename: string): string | undefined => Option.getOrUndefined(Mime.getType(filename))

/** A media type without its parameters. */
const essence = (mediaType: string): string => (mediaType.split(";", 1)[0] ?? "").trim().toLowerCase()

const fromDataUrl = Effect.fnUntraced(function*(url: string, options: Options) {
  const limit = yield* TurnPolicy.MaxAttachmentBytes
  const data = DataUrl.parse(url)
  const size = data === undefined ? undefined : DataUrl.byteLength(data)
  if (size !== undefined && size > limit) return yield* tooLarge("the data: URL", `${size} bytes`, limit)
  const bytes = data === undefined ? undefined : DataUrl.decode(data)
  if (bytes === undefined) {
    return yield* invalid("the data: URL is malformed: data:<media type>;base64,<data>")
  }
  return yield* fromBytes({ ...options, bytes, mediaType: options.mediaType ?? data?.mediaType })
})

const download = Effect.fnUntraced(function*(url: URL, options: Options) {
  // The name leaves out the query, which may hold secrets.
  const name = `${url.origin}${url.pathname}`
  const limit = yield* TurnPolicy.MaxAttachmentBytes
  const http = HttpClient.followRedirects(yield* HttpClient.HttpClient, maxRedirects)
  const [response, bytes] = yield* http.get(url).pipe(
    Effect.flatMap((response) => Effect.map(read(name, response, limit), (bytes) => [response, bytes] as const)),
    Effect.provideService(FetchHttpClient.RequestInit, { credentials: "omit" }),
    Effect.catchTag(
      "HttpClientError",
      ({ reason }) => Effect.fail(invalid(`${name} cannot be downloaded (${reason._tag})`))
    ),
    Effect.timeoutOrElse({
      duration: downloadTimeout,
      orElse: () => Effect.fail(invalid(`${name} was not downloaded within ${Duration.format(downloadTimeout)}`))
    })
  )
  const said = essence(response.headers["content-type"] ?? "")
  const filename = options.filename ?? nameIn(url)
  return yield* toPart(name, bytes, {
    mediaType: options.mediaType ?? (said === "" || said === "application/octet-stream" ? undefined : said),
    ...(filename !== undefined && { filename })
  })
})

const read = Effect.fnUntraced(function*(
  name: string,
  response: HttpClientResponse.HttpClientResponse,
  limit: number
) {
  if (response.status < 200 || response.status >= 300) return yield* invalid(`${name} answered ${response.status}`)
  const announced = Number(response.headers["content-length"])
  if (announced > limit) return yield* tooLarge(name, `${announced} bytes`, limit)
  const bytes = yield* atMost(response.stream, limit)
  return bytes ?? (yield* tooLarge(name, "more", limit))
})

const maxRedirects = 5

/** The last segment of the path. */
const nameIn = ({ pathname }: URL): string | undefined => {
  const last = pathname.slice(pathname.lastIndexOf("/") + 1)
  return last === "" ? undefined : Result.getOrElse(Result.try(() => decodeURIComponent(last)), () => last)
}
