/**
 * A route for browsers: a turn belongs to the process and the store, not to the request. A page that is reloaded in the middle of a word goes on
 * where it was.
 */
import { NodeRuntime } from "@effect/platform-node"
import { attachTurn, runTurn } from "@opencode-turn/core"
import { AssistantMessageId } from "@opencode-turn/core/Ids"
import { toWire } from "@opencode-turn/core/WireUpdate"
import { Console, Effect, FiberMap, Schedule, Schema, Stream } from "effect"
import * as ScriptedOpencode from "../support/ScriptedOpencode.ts"

const Started = Schema.Struct({ messageId: Schema.String })
const Start = Schema.Struct({ conversation: Schema.String, prompt: Schema.String, key: Schema.String })

/** Handles `POST /turns` and `GET /turns/{id}`, in any server that knows `Request` and `Response`. */
const makeHandler = Effect.gen(function*() {
  const running = yield* FiberMap.make<string>()
  return Effect.fnUntraced(function*(request: Request) {
    if (request.method === "POST") {
      const body = yield* Effect.promise(() => request.json())
      const { conversation, key, prompt } = yield* Schema.decodeUnknownEffect(Start)(body)
      // The browser's key makes the request idempotent: sent twice, it is one turn.
      const messageId = `answer-${key}`
      yield* FiberMap.run(running, messageId, runTurn({ conversationId: conversation, messageId, prompt }), {
        onlyIfMissing: true
      })
      return Response.json({ messageId })
    }
    const messageId = AssistantMessageId.make(new URL(request.url).pathname.split("/").at(-1) ?? "")
    const from = request.headers.get("last-event-id") ?? undefined
    const events = attachTurn(messageId, { from }).pipe(
      // The turn may be about to be stored.
      Stream.retry(Schedule.max([Schedule.spaced("100 millis"), Schedule.recurs(20)])),
      Stream.map(({ offset, update }) => {
        const line = update._tag === "Finished"
          ? { type: "turn.finished", status: update.message.status, content: update.message.content }
          : toWire(update)
        return `id: ${offset}\ndata: ${JSON.stringify(line)}\n\n`
      }),
      Stream.encodeText
    )
    return new Response(yield* Stream.toReadableStreamEffect(events), {
      headers: { "content-type": "text/event-stream", "cache-control": "no-store" }
    })
  })
})

/** Stands for a page: it reads events until it has seen enough, or the turn has ended. */
const readPage = (response: Response, isEnough: (text: string) => boolean) =>
  Effect.promise(async () => {
    let [text, last, isFinished, rest] = ["", "", false, ""]
    const decoder = new TextDecoder()
    for await (const chunk of response.body ?? []) {
      rest += decoder.decode(chunk, { stream: true })
      for (let end = rest.indexOf("\n\n"); end >= 0; end = rest.indexOf("\n\n")) {
        const [id = "", data = ""] = rest.slice(0, end).split("\ndata: ")
        rest = rest.slice(end + 2)
        last = id.slice(4)
        const event = JSON.parse(data)
        if (event.type === "text.delta") text += event.delta
        if (event.type === "reset") text = event.parts.map((part: { text?: string }) => part.text ?? "").join("")
        isFinished = event.type === "turn.finished"
        if (isEnough(text) || isFinished) return { text, last, isFinished }
      }
    }
    return { text, last, isFinished }
  })

const program = Effect.gen(function*() {
  const handle = yield* makeHandler
  const url = "http://localhost/turns"
  const start = { conversation: "page-7", prompt: "Tell me.", key: "1" }
  const posted = yield* handle(new Request(url, { method: "POST", body: JSON.stringify(start) }))
  const { messageId } = yield* Schema.decodeUnknownEffect(Started)(yield* Effect.promise(() => posted.json()))
  const first = yield* readPage(yield* handle(new Request(`${url}/${messageId}`)), (text) => text.length > 3)
  yield* Console.log(`the page is reloaded: ${first.isFinished ? "too late" : "in the middle of the answer"}`)
  const headers = { "last-event-id": first.last }
  const rest = yield* readPage(yield* handle(new Request(`${url}/${messageId}`, { headers })), () => false)
  yield* Console.log(first.text + rest.text)
})

const steps = [{ text: "Nothing is lost, and nothing is shown twice.", chunks: 8, chunkDelayMillis: 200 }]
NodeRuntime.runMain(Effect.scoped(program).pipe(Effect.provide(ScriptedOpencode.layer(steps))))
