import * as UiMessageChunks from "#gateway/streams/UiMessageChunks"
import * as UiMessages from "#gateway/streams/UiMessages"
import { assert, describe, it } from "@effect/vitest"
import type { AttachedUpdate } from "@opencode-turn/core/AttachTurn"
import { AskId, MessageId, PartId } from "@opencode-turn/core/Ids"
import { readUIMessageStream, type UIMessage, type UIMessageChunk, uiMessageChunkSchema } from "ai"
import { Effect, Schema } from "effect"
import * as Updates from "./Updates.ts"

/** The chunks of each update. */
const write = (updates: ReadonlyArray<AttachedUpdate>): ReadonlyArray<UiMessageChunks.UiMessageChunk> => {
  let written = UiMessageChunks.empty
  return updates.flatMap((update) => {
    const [next, chunks] = UiMessageChunks.apply(written, update)
    written = next
    return chunks
  })
}

const validate = Effect.fnUntraced(function*(chunk: unknown) {
  const schema = uiMessageChunkSchema()
  const checked = yield* Effect.promise(async () => schema.validate?.(JSON.parse(JSON.stringify(chunk))))
  assert(checked?.success === true, JSON.stringify(chunk))
  return checked.value
})

/** The message that the AI SDK reads, as JSON: what is undefined in it says nothing. */
const read = Effect.fnUntraced(function*(chunks: ReadonlyArray<unknown>) {
  const valid = yield* Effect.forEach(chunks, validate)
  return yield* Effect.promise(async (): Promise<UIMessage | undefined> => {
    const stream = new ReadableStream<UIMessageChunk>({
      start: (controller) => {
        for (const chunk of valid) controller.enqueue(chunk)
        controller.close()
      }
    })
    const failures: Array<unknown> = []
    let last: UIMessage | undefined
    for await (const message of readUIMessageStream({ stream, onError: (error) => failures.push(error) })) {
      last = message
    }
    // An `error` chunk is told to the page; anything else is a stream that cannot be read.
    assert.deepStrictEqual(failures.filter((failure) => !`${failure}`.includes("the model failed")), [])
    return last === undefined ? last : JSON.parse(JSON.stringify(last))
  })
})

const isSameAfterReload = Effect.fnUntraced(function*(
  updates: ReadonlyArray<Parameters<typeof Updates.replay>[0][number]>,
  cut: number,
  status: "completed" | "cancelled" | "error"
) {
  const seen = updates.slice(0, cut)
  const replayed = Updates.replay(seen)
  assert.deepStrictEqual(yield* read(write(replayed)), yield* read(write(seen)))
  const rest: ReadonlyArray<AttachedUpdate> = [...updates.slice(cut), Updates.ending(updates, status)]
  const message = yield* read(write([...seen, ...rest]))
  assert.deepStrictEqual(yield* read(write([...replayed, ...rest])), message)
  assert.deepStrictEqual(yield* read(write(rest.slice(-1))), message)
  // So does a page that begins with the stored messages.
  const last = rest.at(-1)
  assert(last?._tag === "Finished")
  assert.deepStrictEqual(JSON.parse(JSON.stringify(UiMessages.answerOf(last.message))), message)
})

const partId = PartId.make("prt_1")
const messageId = MessageId.make("msg_1")

describe("a UI message", () => {
  it.effect.prop("is the same before and after a reload in the middle, for any updates", {
    picks: Updates.Picks,
    at: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 40 })),
    status: Schema.Literals(["completed", "cancelled", "error"])
  }, ({ at, picks, status }) => {
    const updates = Updates.toUpdates(picks)
    return isSameAfterReload(updates, 1 + at % updates.length, status)
  }, { arbitrary: { runs: 200 } })

  it.effect.each(Updates.tapes)(
    "is the same wherever the page of a recorded turn is loaded anew: $name",
    ({ updates }) =>
      Effect.forEach(
        // Each place costs a few readings of the whole turn.
        Array.from({ length: 12 }, (_, place) => 1 + Math.floor(place * updates.length / 12)),
        (cut) => isSameAfterReload(updates, cut, "completed")
      )
  )

  it.effect("shows a permission as the approval of its call, input first, and takes it away with the answer", () =>
    Effect.gen(function*() {
      const call = {
        type: "tool",
        id: partId,
        messageId,
        callId: "call_1",
        tool: "bash",
        status: "pending",
        input: {}
      } as const
      const ask = {
        _tag: "Permission",
        id: AskId.make("per_1"),
        sessionId: Updates.sessionId,
        permission: "bash",
        patterns: ["git push"],
        always: ["git *"],
        metadata: { command: "git push" },
        tool: { messageId, callId: "call_1" }
      } as const
      const asked: ReadonlyArray<AttachedUpdate> = [
        Updates.started,
        { _tag: "PartChanged", part: call },
        { _tag: "Asked", ask, openedBy: undefined }
      ]
      assert.deepStrictEqual(write(asked).map(({ type }) => type), [
        "start",
        "tool-input-start",
        "tool-input-available",
        "tool-approval-request"
      ])
      const waiting = yield* read(write(asked))
      assert.deepInclude(waiting?.parts[0], {
        type: "dynamic-tool",
        state: "approval-requested",
        providerExecuted: true,
        input: { command: "git push" },
        approval: {
          id: "per_1",
          requestReason: "bash: git push",
          descriptor: {
            sessionId: Updates.sessionId,
            permission: "bash",
            patterns: ["git push"],
            always: ["git *"]
          }
        }
      })
      const answered: ReadonlyArray<AttachedUpdate> = [
        ...asked,
        { _tag: "AskResolved", askId: ask.id },
        { _tag: "PartChanged", part: { ...call, status: "completed", input: { command: "git push" }, output: "ok" } }
      ]
      const [part] = (yield* read(write(answered)))?.parts ?? []
      assert.deepInclude(part, { state: "output-available", output: "ok" })
      assert.notProperty(part, "approval")
    }))

  it.effect("grows by deltas alone while a text streams", () =>
    Effect.sync(() => {
      const open = { type: "text", id: partId, messageId, text: "", isComplete: false } as const
      const chunks = write([
        Updates.started,
        { _tag: "PartChanged", part: open },
        { _tag: "TextDelta", partId, delta: "one " },
        { _tag: "TextDelta", partId, delta: "two" },
        { _tag: "PartChanged", part: { ...open, text: "one two", isComplete: true } }
      ])
      assert.deepStrictEqual(chunks.slice(1), [
        { type: "text-start", id: "prt_1" },
        { type: "text-delta", id: "prt_1", delta: "one " },
        { type: "text-delta", id: "prt_1", delta: "two" },
        { type: "text-end", id: "prt_1" }
      ])
    }))

  it.effect("tells at its end what the turn used and how it ended", () =>
    Effect.gen(function*() {
      const completed = write([Updates.started, Updates.ending([])])
      assert.deepInclude(completed.at(-1), { type: "finish", finishReason: "stop" })
      assert.deepInclude((yield* read(completed))?.metadata, {
        status: "completed",
        cost: 0.5,
        model: "scripted/m",
        conversationId: "c"
      })
      const { account } = Updates.ending([]).message
      assert.deepInclude((yield* read(completed))?.metadata, {
        models: account?.models,
        timing: account?.timing,
        firstTokenMillis: 7
      })
      const failed = write([Updates.started, Updates.ending([], "error", "Sorry.")])
      assert.deepStrictEqual(failed.slice(-3).map(({ type }) => type), ["message-metadata", "error", "finish"])
      assert.deepInclude((yield* read(failed))?.parts[0], { type: "text", text: "Sorry." })
      const stopped = write([Updates.started, Updates.ending([], "cancelled")])
      assert.deepStrictEqual(stopped.slice(-2).map(({ type }) => type), ["abort", "finish"])
    }))
})
