/**
 * What `drive` does with one turn's events beside reading them: the fold, the updates of a watcher, the prompt's state, its size and its
 * budget. The events are made before the clock starts, and every few of them are flushed, as a slow stream brings them.
 *
 * `shape` is what the turn consists of: `steps` with a text and a tool each, `tools` of one message, or `subagents` with a step each.
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { AssistantMessageId, ConversationId, MessageId, PartId, SessionId } from "../../packages/core/src/domain/Ids.ts"
import type { AssistantMessage } from "../../packages/core/src/domain/Message.ts"
import type { ToolPart, WirePart } from "../../packages/core/src/domain/Part.ts"
import * as Tracer from "../../packages/core/src/domain/Tracer.ts"
import type { TurnEvent } from "../../packages/core/src/domain/TurnEvent.ts"
import * as TurnPolicy from "../../packages/core/src/domain/TurnPolicy.ts"
import * as Usage from "../../packages/core/src/domain/Usage.ts"
import { drive } from "../../packages/core/src/drive/Drive.ts"
import * as LiveReply from "../../packages/core/src/drive/LiveReply.ts"
import * as Client from "../../packages/core/src/opencode/Client.ts"
import type { Subscriber } from "../../packages/core/src/opencode/EventHub.ts"
import * as Reply from "../../packages/core/src/reply/Reply.ts"
import { begin, int, text } from "../Child.ts"

const count = int("count")
const root = SessionId.make("ses_0")
const promptId = MessageId.make("msg_0")
const flushEvery = 4

const digits = (value: number) => String(value).padStart(9, "0")
let events = 0
const base = (sessionId: SessionId) => ({ eventId: `evt_${digits(++events)}`, sessionId })

const message = (sessionId: SessionId, id: string, parentId: MessageId, isEnded: boolean): TurnEvent => {
  const info: AssistantMessage = {
    role: "assistant",
    id: MessageId.make(id),
    sessionId,
    parentId,
    createdMillis: 1,
    completedMillis: isEnded ? 2 : undefined,
    finish: isEnded ? "tool-calls" : undefined,
    error: undefined,
    usage: Usage.zero,
    isSummary: false,
    structured: undefined,
    directory: undefined,
    worktree: undefined,
    agent: "build",
    model: { providerId: "scripted", modelId: "m" }
  }
  return { _tag: "MessageUpdated", ...base(sessionId), info }
}

const part = (sessionId: SessionId, part: WirePart): TurnEvent => ({ _tag: "PartUpdated", ...base(sessionId), part })

const tool = (sessionId: SessionId, messageId: string, id: string, fields: Partial<ToolPart> = {}): TurnEvent =>
  part(sessionId, {
    type: "tool",
    id: PartId.make(id),
    messageId: MessageId.make(messageId),
    callId: `call_${id}`,
    tool: "bash",
    status: "completed",
    input: { command: id },
    output: id,
    ...fields
  })

const step = (sessionId: SessionId, parentId: MessageId, name: string): ReadonlyArray<TurnEvent> => {
  const id = `msg_${name}`
  const messageId = MessageId.make(id)
  const partId = PartId.make(`prt_${name}_a`)
  const said = { type: "text", id: partId, messageId } as const
  return [
    message(sessionId, id, parentId, false),
    part(sessionId, { ...said, text: "", isComplete: false }),
    { _tag: "PartDelta", ...base(sessionId), messageId, partId, field: "text", delta: "some words" },
    part(sessionId, { ...said, text: "some words", isComplete: true }),
    tool(sessionId, id, `prt_${name}_b`, { status: "running" }),
    tool(sessionId, id, `prt_${name}_b`),
    part(sessionId, {
      type: "step-finish",
      id: PartId.make(`prt_${name}_c`),
      messageId,
      reason: "tool-calls",
      ...Usage.zero
    }),
    message(sessionId, id, parentId, true)
  ]
}

const subagent = (name: string): ReadonlyArray<TurnEvent> => {
  const sessionId = SessionId.make(`ses_${name}`)
  const called = { tool: "task", title: name, subagent: sessionId }
  return [
    { _tag: "SessionOpened", ...base(sessionId), parentId: root, title: name, agent: "general" },
    tool(root, "msg_1", `prt_${name}`, { ...called, status: "running" }),
    { _tag: "StatusChanged", ...base(sessionId), status: { type: "busy" } },
    ...step(sessionId, MessageId.make(`msg_${name}`), `${name}_1`),
    { _tag: "StatusChanged", ...base(sessionId), status: { type: "idle" } },
    tool(root, "msg_1", `prt_${name}`, called)
  ]
}

const storm = Array.from({ length: count }, (_, index) => digits(index + 1)).flatMap((name) => {
  switch (text("shape")) {
    case "steps":
      return step(root, promptId, name)
    case "tools":
      return [tool(root, "msg_1", `prt_${name}`, { status: "running" }), tool(root, "msg_1", `prt_${name}`)]
    default:
      return subagent(name)
  }
})

let subscriber: Subscriber | undefined
/** The client of a server that says nothing; the events go to the subscriber directly. */
const Silent = Layer.effect(
  Client.Client,
  Effect.map(Client.Client, (client) =>
    Client.Client.of({
      ...client,
      prompt: () => Effect.void,
      subscribe: (_id, only) =>
        Effect.sync(() => {
          subscriber = only
          return { adopt: () => {}, connected: Effect.void }
        })
    }))
).pipe(
  Layer.provide(Client.layer({ baseUrl: "http://127.0.0.1:1" })),
  Layer.merge(Tracer.layerNoop),
  Layer.provide(NodeHttpClient.layerUndici)
)

await Effect.runPromise(
  Effect.gen(function*() {
    const live = yield* LiveReply.make
    live.begin({ sessionId: root, promptId })
    const updates = yield* live.watch
    yield* Effect.forkChild(Stream.runDrain(Stream.fromQueue(updates)))
    const prompt = { parts: [{ type: "text" as const, text: "go" }], ids: { promptId, partIds: [] } }
    yield* Effect.forkChild(
      drive({ sessionId: root, prompt }, live, {
        conversationId: ConversationId.make("bench"),
        messageId: AssistantMessageId.make("asm_1"),
        confirm: Effect.void
      })
    )
    yield* Effect.sleep(50)
    if (subscriber === undefined) throw new Error("drive did not subscribe")
    const { onEvent, onFlush } = subscriber
    onEvent(message(root, "msg_1", promptId, false))
    const finish = begin()
    for (let from = 0; from < storm.length; from += flushEvery) {
      for (const event of storm.slice(from, from + flushEvery)) onEvent(event)
      onFlush()
      yield* Effect.yieldNow
    }
    if (Reply.size(live.current()).parts < count) throw new Error("parts were dropped")
    finish({ events: storm.length })
    return yield* Effect.never
  }).pipe(
    // Nothing is spent, but all of it is counted.
    Effect.provideService(TurnPolicy.Budget, {
      cost: 1,
      subagents: Infinity,
      messages: Infinity,
      parts: Infinity
    }),
    Effect.provideService(TurnPolicy.MaxIdleSteps, Infinity),
    Effect.provide(Silent)
  )
)
