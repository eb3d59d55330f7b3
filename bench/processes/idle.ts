/**
 * What turns cost that wait for a model: `turns` of them on one client, all prompted, none answered. They are driven by
 * `drive` alone or, with `whole`, run by `runTurn` over the memory store.
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { AssistantMessageId, ConversationId, MessageId, PartId, SessionId } from "../../packages/core/src/domain/Ids.ts"
import * as Tracer from "../../packages/core/src/domain/Tracer.ts"
import { drive } from "../../packages/core/src/drive/Drive.ts"
import * as LiveReply from "../../packages/core/src/drive/LiveReply.ts"
import * as Client from "../../packages/core/src/opencode/Client.ts"
import * as MemorySessionStore from "../../packages/core/src/store/MemorySessionStore.ts"
import { runTurn } from "../../packages/core/src/turn/Turn.ts"
import { begin, flag, heapBytes, int, text } from "../Child.ts"
import * as Wire from "../Wire.ts"

const turns = int("turns")
const isWhole = flag("whole")
/** As many at once as they may be while they start, so that the pool of connections stays small. */
const startingAtOnce = 8
const idleMillis = 100

const driven = Effect.fnUntraced(function*(index: number) {
  const live = yield* LiveReply.make
  const sessionId = SessionId.make(Wire.sessionId(index))
  const ids = { promptId: MessageId.make(Wire.promptId(index)), partIds: [PartId.make(Wire.promptPartId(index))] }
  live.begin({ sessionId, promptId: ids.promptId })
  yield* drive(
    { sessionId, prompt: { parts: [{ type: "text", text: "go" }], ids } },
    live,
    {
      conversationId: ConversationId.make(`bench ${index}`),
      messageId: AssistantMessageId.make(`asm_${index}`),
      confirm: Effect.void
    }
  )
})

const whole = (index: number) => runTurn({ conversationId: `bench ${index}`, prompt: "go" })

/** Ends the process if the turn ends: it was to wait for its model. */
const waiting = <A, E, R>(turn: Effect.Effect<A, E, R>) =>
  Effect.onExit(turn, (exit) =>
    Effect.sync(() => {
      console.error("a turn that was to wait has ended:", exit)
      process.exit(1)
    }))

let prompted = 0
const Counting = Layer.effect(
  Client.Client,
  Effect.map(Client.Client, (client) =>
    Client.Client.of({
      ...client,
      prompt: (id, prompt) => Effect.tap(client.prompt(id, prompt), () => Effect.sync(() => prompted++))
    }))
)
const Live = Counting.pipe(
  Layer.provide(Client.layer({ baseUrl: text("url") })),
  Layer.merge(Tracer.layerNoop),
  Layer.merge(MemorySessionStore.layer),
  Layer.provide(NodeHttpClient.layerUndiciNoDispatcher),
  // A connection that is not used is closed soon, so that none is left when the heap is measured.
  Layer.provide(
    NodeHttpClient.layerDispatcherOptions({ keepAliveTimeout: idleMillis, keepAliveMaxTimeout: idleMillis })
  )
)

const startTurns = Effect.fnUntraced(function*(from: number, to: number) {
  for (let next = from; next < to; next += startingAtOnce) {
    const end = Math.min(next + startingAtOnce, to)
    for (let index = next; index < end; index++) {
      yield* Effect.forkChild(isWhole ? waiting(whole(index)) : waiting(driven(index)))
    }
    yield* Effect.repeat(Effect.sleep(1), { until: () => prompted >= end })
  }
  // The pool looks for idle connections once a second.
  yield* Effect.sleep(1500)
})

await Effect.runPromise(
  Effect.gen(function*() {
    // Until then most of what they run is compiled, which would count as theirs.
    const warm = 256
    yield* startTurns(0, warm)
    const before = yield* Effect.promise(heapBytes)
    yield* startTurns(warm, warm + turns)
    const heldBytes = (yield* Effect.promise(heapBytes)) - before
    const finish = begin()
    // The parent asks the server now how many connections there are.
    yield* Effect.sleep(300)
    finish({ heldBytes, perTurnBytes: heldBytes / turns })
    return yield* Effect.never
  }).pipe(Effect.provide(Live))
)
