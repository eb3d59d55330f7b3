/**
 * The reply of a running turn, and who watches it.
 *
 * **Responsibilities**: the current {@link Reply}, changed synchronously by the dispatcher of events; the updates for each
 * watcher, batched for each read of the stream, text deltas joined; a bound on what waits for a slow watcher.
 *
 * **Not responsibilities**: running the watchers (`Turn`).
 *
 * @since 0.1.0
 */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import { MessageId, SessionId } from "./Ids.ts"
import * as Reply from "./Reply.ts"
import * as ReplyUpdate from "./ReplyUpdate.ts"
import type { TurnEvent } from "./TurnEvent.ts"
import * as TurnPolicy from "./TurnPolicy.ts"

/**
 * **Details**
 *
 * Until `begin` it is the reply to no prompt. `apply` folds an event; what changed reaches the watchers with the next
 * `flush`. `update` changes the reply without a word to them, `reset` makes them forget what they showed. After `end` a
 * watcher's queue ends once it is read.
 *
 * @category models
 * @since 0.1.0
 */
export interface LiveReply {
  readonly begin: (ids: { readonly sessionId: SessionId; readonly promptId: MessageId }) => void
  readonly current: () => Reply.Reply
  readonly apply: (event: TurnEvent) => void
  readonly flush: () => void
  readonly update: (f: (reply: Reply.Reply) => Reply.Reply) => void
  readonly reset: (reason: "recreated" | "reconciled", reply: Reply.Reply) => void
  readonly watch: Effect.Effect<Queue.Dequeue<ReplyUpdate.ReplyUpdate, Cause.Done>>
  readonly end: Effect.Effect<void>
}

/**
 * @category constructors
 * @since 0.1.0
 */
export const make: Effect.Effect<LiveReply> = Effect.gen(function*() {
  const capacity = yield* TurnPolicy.ObserverBuffer
  const watchers: Array<Queue.Queue<ReplyUpdate.ReplyUpdate, Cause.Done>> = []
  let reply = Reply.make({ sessionId: SessionId.make(""), promptId: MessageId.make("") })
  let batch: Array<ReplyUpdate.ReplyUpdate> = []

  const flush = () => {
    if (batch.length === 0) return
    const updates = batch
    batch = []
    for (const watcher of watchers) {
      if (Queue.sizeUnsafe(watcher) + updates.length <= capacity) {
        Queue.offerAllUnsafe(watcher, updates)
      } else {
        while (Queue.takeUnsafe(watcher) !== undefined) { /* one reset takes the place of all of them */ }
        Queue.offerUnsafe(watcher, { _tag: "Reset", reason: "overflow", reply })
      }
    }
  }

  const reset = (reason: "recreated" | "reconciled", next: Reply.Reply) => {
    reply = next
    batch.push({ _tag: "Reset", reason, reply })
    flush()
  }

  return {
    begin: (ids) => {
      const isFirst = reply.sessionId === ""
      const next = Reply.make(ids)
      if (isFirst) reply = next
      else reset("recreated", next)
    },
    current: () => reply,
    apply: (event) => {
      const before = reply
      reply = Reply.apply(before, event)
      if (watchers.length === 0) return
      const update = ReplyUpdate.fromEvent(before, reply, event)
      if (update === undefined) return
      const last = batch.at(-1)
      if (isDelta(update) && last !== undefined && isDelta(last) && last.partId === update.partId) {
        batch[batch.length - 1] = { ...last, delta: last.delta + update.delta }
      } else {
        batch.push(update)
      }
    },
    flush,
    update: (f) => {
      reply = f(reply)
    },
    reset,
    watch: Effect.gen(function*() {
      const watcher = yield* Queue.unbounded<ReplyUpdate.ReplyUpdate, Cause.Done>()
      watchers.push(watcher)
      return watcher
    }),
    end: Effect.sync(() => {
      flush()
      for (const watcher of watchers) Queue.endUnsafe(watcher)
    })
  }
})

// internal

const isDelta = (update: ReplyUpdate.ReplyUpdate) => update._tag === "TextDelta" || update._tag === "ReasoningDelta"
