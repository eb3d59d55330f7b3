import * as AnyDialect from "#opencode/AnyDialect"
import type { Dialect } from "#opencode/Dialect"
import { assert, it } from "@effect/vitest"
import { AskId, MessageId, SessionId } from "@opencode-turn/core/Ids"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as Stream from "effect/Stream"
import { assertFields, connect, empty, json } from "../../support/http.ts"

const mebibyte = 1024 * 1024
const sessionId = SessionId.make("ses_1")
const messageId = MessageId.make("msg_1")
const askId = AskId.make("per_1")

/** Every operation of a server. */
const operations = (client: Dialect): ReadonlyArray<Effect.Effect<unknown, { readonly _tag: string }>> => [
  client.createSession({}),
  client.getSession(sessionId),
  client.updateSession(sessionId, { title: "new" }),
  client.deleteSession(sessionId),
  client.abortSession(sessionId),
  client.children(sessionId),
  client.statuses,
  client.listMessages(sessionId, { limit: 2 }),
  client.getMessage(sessionId, messageId),
  client.prompt(sessionId, { parts: [] }),
  client.promptAndWait(sessionId, { parts: [] }),
  client.questions,
  client.answerQuestion(askId, [["A"]]),
  client.rejectQuestion(askId),
  client.permissions,
  client.answerPermission(askId, { reply: "once" }),
  client.todos(sessionId),
  client.agents,
  client.diff(sessionId, messageId),
  client.forkSession(sessionId, {}),
  client.revertSession(sessionId, messageId),
  client.unrevertSession(sessionId),
  client.compactSession(sessionId, { providerId: "p", modelId: "m" }),
  client.dropCompaction(sessionId),
  Stream.runDrain(client.events)
]

/** A body without an end, and the number of bytes that were read of it. */
const endless = (chunkBytes: number) => {
  const chunk = new Uint8Array(chunkBytes).fill(" ".charCodeAt(0))
  let sent = 0
  let cancelled = 0
  const response = (init: ResponseInit) =>
    new Response(
      new ReadableStream({
        pull: (controller) => {
          sent += chunk.length
          controller.enqueue(chunk)
        },
        cancel: () => void cancelled++
      }),
      { headers: { "content-type": "application/json" }, ...init }
    )
  return { response, sent: () => sent, cancelled: () => cancelled }
}

const dialect = (server: ReturnType<typeof connect>) =>
  Effect.provideService(AnyDialect.make({ baseUrl: "http://127.0.0.1:4096" }), HttpClient.HttpClient, server.client)

it.effect("reads an endless response up to 64 MiB, then cancels it and says so", () =>
  Effect.gen(function*() {
    const body = endless(mebibyte)
    const client = yield* dialect(connect(() => body.response({ status: 200 })))
    const error = yield* Effect.flip(client.listMessages(sessionId, { limit: 2 }))
    assertFields(error, { _tag: "AnswerTooLarge", isRetryable: false })
    assert.strictEqual(error.message, "OpenCode's answer is larger than 64 MiB (list messages)")
    assert.isAtMost(body.sent(), 68 * mebibyte)
    assert.strictEqual(body.cancelled(), 1)
  }))

it.effect("no operation reads the body of an error beyond 64 KiB, and each fails with the status", () =>
  Effect.gen(function*() {
    for (const index of operations(yield* dialect(connect(() => empty(204)))).keys()) {
      const body = endless(1024)
      const client = yield* dialect(connect(() => body.response({ status: 500 })))
      const error = yield* Effect.flip(operations(client)[index] ?? Effect.void)
      const name = `operation ${index}`
      assertFields(error, { _tag: "StatusError", status: 500, detail: "its details are larger than 64 KiB" }, name)
      assert.isAtMost(body.sent(), 68 * 1024, name)
      assert.strictEqual(body.cancelled(), 1, name)
    }
  }))

it.effect("cancels an endless health response too", () =>
  Effect.gen(function*() {
    const body = endless(mebibyte)
    const client = yield* dialect(connect(() => json([]), () => body.response({ status: 200 })))
    assertFields(yield* Effect.flip(client.agents), { _tag: "AnswerTooLarge", operation: "health" })
    assert.isAtMost(body.sent(), 68 * mebibyte)
  }))

it.effect("counts a compressed response by its decompressed size", () =>
  Effect.gen(function*() {
    const chunk = new Uint8Array(mebibyte)
    let left = 80
    const zeros = new ReadableStream<Uint8Array<ArrayBuffer>>({
      pull: (controller) => (left-- > 0 ? controller.enqueue(chunk) : controller.close())
    })
    const packed = yield* Effect.promise(() => new Response(zeros.pipeThrough(new CompressionStream("gzip"))).blob())
    assert.isBelow(packed.size, mebibyte)
    // `fetch` does the same with a `content-encoding`.
    const unpacked = packed.stream().pipeThrough(new DecompressionStream("gzip"))
    const client = yield* dialect(connect(() => new Response(unpacked)))
    assertFields(yield* Effect.flip(client.agents), { _tag: "AnswerTooLarge", operation: "list agents" })
  }))

it.effect("joins a response in pieces, even inside a character", () =>
  Effect.gen(function*() {
    const bytes = new TextEncoder().encode(JSON.stringify([{ name: "bäu€😀" }]))
    const pieces = (index = 0) =>
      new ReadableStream({
        pull: (controller) =>
          index < bytes.length ? controller.enqueue(bytes.slice(index, ++index)) : controller.close()
      })
    const client = yield* dialect(connect(() => new Response(pieces())))
    assert.deepStrictEqual((yield* client.agents).map(({ name }) => name), ["bäu€😀"])
  }))
