import { promptParts } from "#opencode/PromptCheck"
import { assert, describe, it } from "@effect/vitest"
import * as Attachment from "@opencode-turn/core/Attachment"
import type { PromptFile } from "@opencode-turn/core/Prompt"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import * as ByteSize from "effect/ByteSize"
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import * as Fiber from "effect/Fiber"
import * as FileSystem from "effect/FileSystem"
import * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as PlatformError from "effect/PlatformError"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import type { Asked } from "../support/http.ts"
import { Broken, connect, empty } from "../support/http.ts"

const utf8 = (text: string) => new TextEncoder().encode(text)
const png = Uint8Array.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0, 0])
const gif = Uint8Array.from([...utf8("GIF89a"), 0, 255])
const zip = Uint8Array.from([0x50, 0x4b, 3, 4, 0, 0])

const contentOf = ({ mediaType, url }: PromptFile) => {
  const prefix = `data:${mediaType};base64,`
  assert.isTrue(url.startsWith(prefix), url)
  return Result.getOrThrow(Base64.decode(url.slice(prefix.length)))
}
const withLimit = (limit: number) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.provideService(effect, TurnPolicy.MaxAttachmentBytes, limit)

describe("bytes", () => {
  const cases: ReadonlyArray<readonly [string, Uint8Array, Attachment.Options, string]> = [
    ["an image", png, { mediaType: "image/png" }, "image/png"],
    ["an image by its name", png, { filename: "A.PNG" }, "image/png"],
    ["an image by its bytes alone", png, {}, "image/png"],
    ["an image with the name of another kind", gif, { filename: "a.png" }, "image/gif"],
    ["an image that nobody knows by its bytes", zip, { mediaType: "image/heic" }, "image/heic"],
    ["a PDF", utf8("%PDF-1.7\n"), { filename: "a.pdf" }, "application/pdf"],
    ["text that begins like a PDF", utf8("%PDF- is how they begin"), { filename: "a.md" }, "text/plain"],
    ["JSON", utf8("{}"), { mediaType: "application/json" }, "text/plain"],
    ["Markdown", utf8("# hé"), { filename: "a.md" }, "text/plain"],
    ["TypeScript, a video by its name", utf8("const a = 1"), { filename: "a.ts" }, "text/plain"],
    ["YAML of no known media type", utf8("a: 1"), { filename: "a.unknown" }, "text/plain"],
    ["an SVG", utf8("<svg/>"), { filename: "a.svg" }, "text/plain"],
    ["a text with parameters", utf8("a"), { mediaType: "Text/Plain; charset=utf-8" }, "text/plain"],
    ["an empty text", utf8(""), { filename: "a.txt" }, "text/plain"]
  ]
  it.effect.each(cases)("of %s", ([, bytes, options, mediaType]) =>
    Effect.gen(function*() {
      const part = yield* Attachment.fromBytes({ bytes, ...options })
      assert.strictEqual(part.mediaType, mediaType)
      assert.deepStrictEqual(contentOf(part), bytes)
      assert.strictEqual(part.filename, options.filename)
      // A prompt accepts every part that is made here.
      assert.lengthOf(yield* promptParts([part]), 1)
    }))

  const refused: ReadonlyArray<readonly [string, Uint8Array, Attachment.Options, string]> = [
    ["an archive", zip, { filename: "a.zip" }, "application/zip"],
    ["an archive that is said to be text", zip, { mediaType: "text/plain" }, "text/plain"],
    ["text that is not UTF-8", Uint8Array.from([0xe9, 0x20]), { filename: "a.txt" }, "UTF-8"],
    ["text that is said to be an image", utf8("a"), { filename: "a.png" }, "no image/png"],
    ["an empty image", utf8(""), { mediaType: "image/heic" }, "empty"],
    ["a nameless binary", zip, {}, "the file is binary"]
  ]
  it.effect.each(refused)("of %s are refused", ([, bytes, options, words]) =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Attachment.fromBytes({ bytes, ...options }))
      assert.strictEqual(error.field, "file")
      assert.include(error.message, words)
    }))

  it.effect("up to the limit are accepted, and no more", () =>
    Effect.gen(function*() {
      yield* Attachment.fromBytes({ bytes: utf8("1234") }).pipe(withLimit(4))
      const error = yield* Attachment.fromBytes({ bytes: utf8("12345"), filename: "a" }).pipe(withLimit(4), Effect.flip)
      assert.match(error.message, /"a" has 5 bytes, and the limit is 4 bytes/)
    }))
})

/** A disk with one file. `read` counts the chunks that were read from it. */
const disk = (
  file: { readonly type?: FileSystem.File.Type; readonly size?: number; readonly chunks?: Iterable<Uint8Array> }
) => {
  let read = 0
  const none = Option.none()
  const info: FileSystem.File.Info = {
    type: file.type ?? "File",
    mtime: none,
    atime: none,
    birthtime: none,
    dev: 0n,
    ino: none,
    mode: 0o644,
    nlink: none,
    uid: none,
    gid: none,
    rdev: none,
    size: ByteSize.bytes(file.size ?? 0),
    blksize: none,
    blocks: none
  }
  const layer = Layer.merge(
    Path.layer,
    FileSystem.layerNoop({
      stat: () => Effect.succeed(info),
      stream: () =>
        Stream.tap(Stream.fromIterable(file.chunks ?? []), () =>
          Effect.sync(() => {
            read++
          }))
    })
  )
  return { layer, read: () => read }
}

const failing = (tag: PlatformError.SystemErrorTag) => {
  const error = PlatformError.systemError({ _tag: tag, module: "FileSystem", method: "stat", pathOrDescriptor: "x" })
  return Layer.merge(Path.layer, FileSystem.layerNoop({ stat: () => Effect.fail(error) }))
}

const reasonOf = (layer: Layer.Layer<FileSystem.FileSystem | Path.Path>) =>
  Effect.map(Effect.flip(Effect.provide(Attachment.fromPath("a/b"), layer)), ({ message }) => message)

function* endlessly(bytes: Uint8Array) {
  while (true) yield bytes
}

describe("a file of the disk", () => {
  it.effect("keeps its name unless the options give another", () =>
    Effect.gen(function*() {
      const { layer } = disk({ size: 5, chunks: [utf8("he"), utf8("llo")] })
      const part = yield* Effect.provide(Attachment.fromPath("/some/where/notes.md"), layer)
      assert.deepStrictEqual(part, {
        type: "file",
        mediaType: "text/plain",
        url: "data:text/plain;base64,aGVsbG8=",
        filename: "notes.md"
      })
      const renamed = yield* Effect.provide(Attachment.fromPath("/x", { filename: "y.txt" }), layer)
      assert.strictEqual(renamed.filename, "y.txt")
    }))

  it.effect("that is too large is not read", () =>
    Effect.gen(function*() {
      const { layer, read } = disk({ size: 9, chunks: [utf8("123456789")] })
      const error = yield* Attachment.fromPath("big.txt").pipe(withLimit(8), Effect.provide(layer), Effect.flip)
      assert.include(error.message, "\"big.txt\" has 9 bytes, and the limit is 8 bytes")
      assert.strictEqual(read(), 0)
    }))

  it.effect("without an end, or growing, is read up to the limit", () =>
    Effect.gen(function*() {
      const { layer, read } = disk({ size: 0, chunks: endlessly(utf8("1234")) })
      const error = yield* Attachment.fromPath("/proc/endless").pipe(withLimit(8), Effect.provide(layer), Effect.flip)
      assert.include(error.message, "\"/proc/endless\" has more")
      assert.isAtMost(read(), 4)
    }))

  it.effect("that is unreadable is refused with its path and a remedy", () =>
    Effect.gen(function*() {
      assert.include(yield* reasonOf(failing("NotFound")), "\"a/b\" does not exist: check the path")
      assert.include(yield* reasonOf(failing("PermissionDenied")), "\"a/b\" may not be read: check its permissions")
      assert.include(yield* reasonOf(failing("Busy")), "\"a/b\" cannot be read (Busy)")
      assert.include(yield* reasonOf(disk({ type: "Directory" }).layer), "\"a/b\" is a folder")
      assert.include(yield* reasonOf(disk({ type: "FIFO" }).layer), "\"a/b\" is not a regular file")
    }))
})

const download = (
  answer: (asked: Asked) => Response | Effect.Effect<Response, Broken>,
  url = "https://example.com/docs/a%20b.md?token=canary",
  options?: Attachment.Options
) => {
  const server = connect(answer)
  const part = Effect.provideService(Attachment.fromUrl(url, options), HttpClient.HttpClient, server.client)
  return { asked: server.asked, part, reason: Effect.map(Effect.flip(part), ({ message }) => message) }
}
const typed = (type: string, body: ConstructorParameters<typeof Response>[0], headers = {}) =>
  new Response(body, { headers: { "content-type": type, ...headers } })

const unasked = (url: string) => download(() => assert.fail("asked"), url)

describe("a URL", () => {
  it.effect("is downloaded, and named by its path", () =>
    Effect.gen(function*() {
      const { asked, part } = download(() => typed("text/markdown; charset=utf-8", "# hi"))
      assert.deepStrictEqual(yield* part, {
        type: "file",
        mediaType: "text/plain",
        url: "data:text/plain;base64,IyBoaQ==",
        filename: "a b.md"
      })
      assert.deepStrictEqual(asked.map(({ query }) => query), [{ token: "canary" }])
      assert.isUndefined(asked[0]?.headers["authorization"])
    }))

  it.effect("gives an image by its content type, or by its bytes if the server does not know the type", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* download(() => typed("image/png", png), "https://a.b").part).mediaType, "image/png")
      const part = yield* download(() => typed("application/octet-stream", zip), "https://a.b/x.heic").part
      assert.deepInclude(part, { mediaType: "image/heic", filename: "x.heic" })
      assert.include(yield* download(() => typed("image/png", "<html>"), "https://a.b/x.png").reason, "no image/png")
    }))

  it.effect("follows redirects", () =>
    Effect.gen(function*() {
      const { part } = download(({ path }) =>
        path === "/moved" ? typed("text/plain", "here") : empty(302, { location: "/moved" })
      )
      assert.strictEqual(new TextDecoder().decode(contentOf(yield* part)), "here")
    }))

  it.effect("whose response is too long is given up at the limit", () =>
    Effect.gen(function*() {
      const announced = download(() => typed("text/plain", "123456789", { "content-length": "9" }))
      assert.include(yield* announced.reason.pipe(withLimit(8)), "has 9 bytes")
      let pulled = 0
      const body = new ReadableStream<Uint8Array>({
        pull: (controller) => {
          pulled++
          controller.enqueue(utf8("1234"))
        }
      })
      assert.include(yield* download(() => typed("text/plain", body)).reason.pipe(withLimit(8)), "has more")
      assert.isBelow(pulled, 10)
    }))

  it.effect("that is too slow is given up, even in the middle of the response", () =>
    Effect.gen(function*() {
      for (const answer of [Effect.never, typed("text/plain", new ReadableStream({}))]) {
        const fiber = yield* Effect.forkChild(download(() => answer).reason)
        yield* TestClock.adjust(Attachment.downloadTimeout)
        assert.include(yield* Fiber.join(fiber), "was not downloaded within 30s")
      }
    }))

  it.effect("that fails is named without its query", () =>
    Effect.gen(function*() {
      const reasons = [
        yield* download(() => empty(404)).reason,
        yield* download(() => Effect.fail(new Broken({ cause: new Error("ECONNREFUSED") }))).reason,
        yield* download(() => typed("application/zip", zip)).reason
      ]
      assert.include(reasons[0], "answered 404")
      assert.include(reasons[1], "cannot be downloaded")
      assert.include(reasons[2], "application/zip")
      for (const reason of reasons) {
        assert.include(reason, "https://example.com/docs/a%20b.md")
        assert.notInclude(reason, "canary")
      }
    }))

  it.effect("of data is decoded; any other kind is refused without a request", () =>
    Effect.gen(function*() {
      const part = yield* unasked("data:application/json,%7B%7D").part
      assert.deepStrictEqual(part, { type: "file", mediaType: "text/plain", url: "data:text/plain;base64,e30=" })
      assert.include(yield* unasked("data:text/plain;base64,@").reason, "malformed")
      assert.include(yield* unasked("data:,12345").reason.pipe(withLimit(4)), "5 bytes")
      assert.include(yield* unasked("file:///etc/passwd").reason, "fromPath")
      assert.include(yield* unasked("./a.txt").reason, "fromPath")
      assert.include(yield* unasked("ftp://a/b").reason, "http: or https:")
      const secret = yield* unasked("https://me:canary@example.com/").reason
      assert.include(secret, "password")
      assert.notInclude(secret, "canary")
    }))
})
