/**
 * The real path: `turns` turns driven by `drive` over the live client, each folding into its `LiveReply`; where they are
 * observed, each has a watcher whose updates are read as an application reads them.
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { AssistantMessageId, ConversationId, MessageId, PartId, SessionId } from "../../packages/core/src/domain/Ids.ts"
import * as Tracer from "../../packages/core/src/domain/Tracer.ts"
import { drive } from "../../packages/core/src/drive/Drive.ts"
import * as LiveReply from "../../packages/core/src/drive/LiveReply.ts"
import * as Client from "../../packages/core/src/opencode/Client.ts"
import { begin, flag, int, text } from "../Child.ts"
import * as Wire from "../Wire.ts"

const turns = int("turns")
const eventsPerTurn = int("events") / turns
const isObserved = flag("observed")
let prompted = 0
let ended = 0
let finish: (() => void) | undefined

const turn = Effect.fnUntraced(function*(index: number) {
  const live = yield* LiveReply.make
  const sessionId = SessionId.make(Wire.sessionId(index))
  const ids = { promptId: MessageId.make(Wire.promptId(index)), partIds: [PartId.make(Wire.promptPartId(index))] }
  let isEnded = false
  const endOnce = () => {
    if (isEnded || live.current().eventCount < eventsPerTurn) return
    isEnded = true
    if (++ended === turns) finish?.()
  }
  live.begin({ sessionId, promptId: ids.promptId })
  if (isObserved) {
    const updates = yield* live.watch
    yield* Stream.fromQueue(updates).pipe(
      Stream.runForEach((update) =>
        Effect.sync(() => {
          if (update._tag === "Reset") throw new Error("the watcher was too slow")
          endOnce()
        })
      ),
      Effect.forkChild
    )
  }
  yield* drive(
    { sessionId, prompt: { parts: [{ type: "text", text: "go" }], ids } },
    isObserved ? live : {
      ...live,
      flush: () => {
        live.flush()
        endOnce()
      }
    },
    {
      conversationId: ConversationId.make(`bench ${index}`),
      messageId: AssistantMessageId.make(`asm_${index}`),
      confirm: Effect.void
    }
  )
})

/** Measuring begins when every prompt was accepted and nothing is left to do but to wait. */
const Counting = Layer.effect(
  Client.Client,
  Effect.map(Client.Client, (client) =>
    Client.Client.of({
      ...client,
      prompt: (id, prompt) =>
        Effect.tap(client.prompt(id, prompt), () =>
          Effect.sync(() => {
            if (++prompted === turns) {
              setTimeout(() => {
                finish = begin()
              }, 200)
            }
          }))
    }))
)

const Live = Counting.pipe(
  Layer.provide(Client.layer({ baseUrl: text("url") })),
  Layer.merge(Tracer.layerNoop),
  Layer.provide(NodeHttpClient.layerUndici)
)

await Effect.runPromise(
  Effect.forEach(Array.from({ length: turns }, (_, index) => index), turn, {
    concurrency: "unbounded",
    discard: true
  }).pipe(Effect.provide(Live))
)
