/**
 * The reply of a running turn, and its watchers.
 *
 * **Responsibilities**: the current {@link Reply}, which the dispatcher of events changes synchronously; the updates for each watcher,
 * batched for each read of the stream, with text deltas joined; a bound on the updates that wait for a slow watcher.
 *
 * **Not responsibilities**: running the watchers (`Turn`).
 *
 * @since 0.1.0
 */
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import type { PartId } from "../domain/Ids.ts"
import { MessageId, SessionId } from "../domain/Ids.ts"
import type { ToolPart } from "../domain/Part.ts"
import type { Subagent } from "../domain/Subagent.ts"
import type { TurnEvent } from "../domain/TurnEvent.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import * as Usage from "../domain/Usage.ts"
import type { Wait } from "../domain/Wait.ts"
import * as Moments from "../reply/Moments.ts"
import * as Reply from "../reply/Reply.ts"
import * as ReplyUpdate from "../reply/ReplyUpdate.ts"
import * as Timeline from "../reply/Timeline.ts"
import type { Content } from "../store/StoredMessage.ts"

/**
 * **Details**
 *
 * - `begin`: starts the reply to a prompt. From the second one on, the reply so far joins the `earlier` ones, whose cost is the turn's as
 *   well, and watchers get a `Reset`. `addEarlier` adds a reply that was read back.
 * - `apply`: folds an event, and gives what it told. Watchers get the changes with the next `flush`.
 * - `update`: changes the reply by a function. If a reader would see the difference, watchers get the whole reply at once.
 * - `start`: tells the watchers where the turn works; `started` gives that again. `beginning`: why the reply last began anew, or undefined.
 * - `untilOther`: waits until the reply is another one than given. One fiber may wait at a time.
 * - `moments`: the times that the stream told so far. `recall`: adds the waits that an earlier owner of the turn stored.
 * - `end`: a watcher's queue ends once it is read.
 *
 * @category models
 * @since 0.1.0
 */
export interface LiveReply {
  readonly begin: (
    ids: { readonly sessionId: SessionId; readonly promptId: MessageId },
    reason?: Beginning
  ) => void
  readonly start: (started: ReplyUpdate.Started) => void
  readonly started: () => ReplyUpdate.Started | undefined
  readonly beginning: () => Beginning | undefined
  readonly current: () => Reply.Reply
  readonly earlier: () => ReadonlyArray<Reply.Reply>
  readonly addEarlier: (reply: Reply.Reply) => void
  readonly apply: (event: TurnEvent) => Reply.Told | undefined
  readonly flush: () => void
  readonly update: (f: (reply: Reply.Reply) => Reply.Reply) => void
  readonly moments: () => Moments.Moments
  readonly recall: (waits: ReadonlyArray<Wait>) => void
  /** Tells `listener` each change of the reply, once it is made, until the scope closes. There is one listener at a time. */
  readonly listen: (listener: Listener) => Effect.Effect<void, never, Scope.Scope>
  readonly untilOther: (known: Reply.Reply | undefined) => Effect.Effect<void>
  readonly watch: Effect.Effect<Queue.Dequeue<ReplyUpdate.ReplyUpdate, Cause.Done>>
  /** Gives `subscriber` the updates of each flush, in the call that makes them. After the end of the turn, it is told the end only. */
  readonly subscribe: (subscriber: Subscriber) => void
  readonly end: Effect.Effect<void>
}

/**
 * Why a reply begins anew: the session was lost, the answer did not fit its schema, or refusals stopped the agent.
 *
 * @category models
 * @since 0.1.0
 */
export type Beginning = "recreated" | "repaired" | "refused"

/**
 * Receives updates, and at last `undefined`.
 *
 * @category models
 * @since 0.1.0
 */
export type Subscriber = (updates: ReadonlyArray<ReplyUpdate.ReplyUpdate> | undefined) => void

/**
 * Receives the reply before and after a change.
 *
 * @category models
 * @since 0.1.0
 */
export type Listener = (before: Reply.Reply, after: Reply.Reply) => void

/**
 * @category constructors
 * @since 0.1.0
 */
export const make: Effect.Effect<LiveReply> = Effect.gen(function*() {
  const capacity = yield* TurnPolicy.ObserverBuffer
  const clock = yield* Clock.Clock
  const now = () => clock.currentTimeMillisUnsafe()
  const watchers: Array<Watcher> = []
  let reply = Reply.make({ sessionId: SessionId.make(""), promptId: MessageId.make("") })
  let moments = Moments.empty
  let batch: Array<ReplyUpdate.ReplyUpdate> = []
  const earlier: Array<Reply.Reply> = []
  let listener: Listener | undefined
  let started: ReplyUpdate.Started | undefined
  let beginning: Beginning | undefined
  let hasEnded = false
  const subscribers: Array<Subscriber> = []
  let onChange: (() => void) | undefined

  const change = (next: Reply.Reply) => {
    reply = next
    onChange?.()
  }

  const flush = () => {
    if (batch.length === 0) return
    for (const subscriber of subscribers) subscriber(batch)
    for (const watcher of watchers) {
      const { queue } = watcher
      if (Queue.sizeUnsafe(queue) + batch.length <= capacity) {
        for (const update of batch) offer(watcher, update)
      } else {
        while (Queue.takeUnsafe(queue) !== undefined) { /* one reset takes the place of all of them */ }
        offer(watcher, { _tag: "Reset", reason: "overflow", ...shown(self) })
      }
    }
    batch = []
  }

  const self = { current: () => reply, earlier: () => earlier }

  const isWatched = () => watchers.length > 0 || subscribers.length > 0

  const reset = (reason: Beginning | "reconciled", next: Reply.Reply) => {
    change(next)
    batch.push({ _tag: "Reset", reason, ...shown(self) })
    flush()
  }

  return {
    begin: (ids, reason = "recreated") => {
      const isFirst = reply.sessionId === ""
      const next = Reply.make(ids)
      if (isFirst) return change(next)
      moments = Moments.sync(moments, reply, next, now)
      earlier.push(Reply.closeSubagents(reply))
      beginning = reason
      reset(reason, next)
    },
    start: (update) => {
      started = update
      batch.push(update)
      flush()
    },
    started: () => started,
    beginning: () => beginning,
    ...self,
    addEarlier: (reply) => {
      earlier.push(reply)
    },
    apply: (event) => {
      const before = reply
      const [after, told] = Reply.fold(before, event)
      change(after)
      moments = Moments.apply(moments, { event, told, before, after }, now)
      if (isWatched()) {
        for (const update of ReplyUpdate.fromFold(before, after, told)) {
          const joined = join(batch.at(-1), update)
          if (joined === undefined) batch.push(update)
          else batch[batch.length - 1] = joined
        }
      }
      listener?.(before, after)
      return told
    },
    flush,
    update: (f) => {
      const before = reply
      const after = f(before)
      moments = Moments.sync(moments, before, after, now)
      if (!isWatched() || ReplyUpdate.isSameToReader(before, after)) change(after)
      else reset("reconciled", after)
      listener?.(before, after)
    },
    moments: () => moments,
    recall: (waits) => {
      if (waits.length > 0) moments = Moments.restore(moments, waits)
    },
    listen: (told) =>
      Effect.flatMap(Effect.scope, (scope) => {
        listener = told
        const stop = () => {
          listener = undefined
        }
        return Scope.addFinalizer(scope, Effect.sync(stop))
      }),
    untilOther: (known) =>
      Effect.callback((resume) => {
        const wake = () => {
          if (reply === known) return
          onChange = undefined
          resume(Effect.void)
        }
        onChange = wake
        wake()
        return Effect.sync(() => {
          if (onChange === wake) onChange = undefined
        })
      }),
    watch: Effect.gen(function*() {
      const queue = yield* Queue.unbounded<ReplyUpdate.ReplyUpdate, Cause.Done>()
      watchers.push({ queue, newest: undefined })
      return queue
    }),
    subscribe: (subscriber) => {
      if (hasEnded) subscriber(undefined)
      else subscribers.push(subscriber)
    },
    end: Effect.sync(() => {
      flush()
      hasEnded = true
      for (const subscriber of subscribers) subscriber(undefined)
      for (const { queue } of watchers) Queue.endUnsafe(queue)
    })
  }
})

/**
 * Cost and tokens of the turn so far, including the prompts before the last one.
 *
 * @category getters
 * @since 0.1.0
 */
export const usage = (self: LiveReply): Usage.TurnUsage => {
  const all = [...self.earlier(), self.current()].map(Reply.turnUsage)
  return {
    total: Usage.sum(all.map(({ total }) => total)),
    root: Usage.sum(all.map(({ root }) => root)),
    subagents: Usage.sum(all.map(({ subagents }) => subagents))
  }
}

/**
 * What the turn did and when.
 *
 * @category getters
 * @since 0.1.0
 */
export const timeline = (self: LiveReply, bounds: Timeline.Bounds): Timeline.Timeline =>
  Timeline.make({ earlier: self.earlier(), current: self.current() }, self.moments(), bounds)

/**
 * What the subagents did so far, including those of the prompts before the last one.
 *
 * @category getters
 * @since 0.1.0
 */
export const subagents = (self: LiveReply): ReadonlyArray<Subagent> =>
  [...self.earlier(), self.current()].flatMap(Reply.subagents)

/**
 * What the turn's own session said: the tool calls of the earlier answers, followed by the last answer.
 *
 * @category getters
 * @since 0.1.0
 */
export const result = (self: LiveReply): Reply.ReplyResult => {
  const last = Reply.result(self.current())
  const tools = earlierTools(self)
  return tools.length === 0 ? last : { ...last, parts: [...tools, ...last.parts], tools: [...tools, ...last.tools] }
}

/**
 * Shows what was stored of the turn, until the server says more. What belongs to the prompts before the last one is left out, because
 * their record was read.
 *
 * @category combinators
 * @since 0.1.0
 */
export const restore = (
  self: LiveReply,
  stored: Required<Pick<Content, "parts" | "subagents" | "waits">>
): void => {
  self.recall(stored.waits)
  const earlier = self.earlier().flatMap((reply) => Reply.replies(reply))
  const parts = stored.parts.filter(({ id }) => earlier.every((reply) => Reply.part(reply, id) === undefined))
  const subagents = stored.subagents.filter(({ openedBy, sessionId }) =>
    earlier.every((reply) =>
      openedBy === undefined ? reply.sessionId !== sessionId : Reply.part(reply, openedBy) === undefined
    )
  )
  if (parts.length === 0 && subagents.length === 0) return
  self.update((reply) => Reply.restore(reply, parts, subagents))
}

/**
 * The turn so far, as it is stored, without its account.
 *
 * @category getters
 * @since 0.1.0
 */
export const content = (self: LiveReply): Required<Omit<Content, "account">> => {
  const reply = self.current()
  const all = [...self.earlier(), reply]
  return {
    content: Reply.text(reply),
    isFallback: false,
    finish: Reply.finish(reply) ?? null,
    parts: [...earlierTools(self), ...Reply.parts(reply)],
    usage: usage(self).total,
    subagents: subagents(self),
    waits: Moments.waits(self.moments()),
    unstored: {
      partsOf: new Map(
        all.flatMap((reply) =>
          Reply.subagentStates(reply).map(({ reply, sessionId }) => [sessionId, Reply.parts(reply)] as const)
        )
      ),
      asks: ReplyUpdate.openAsks(reply),
      retry: reply.session.retry,
      failure: reply.session.failure
    }
  }
}

/**
 * The turn so far as a reader of its updates shows it.
 *
 * @category getters
 * @since 0.1.0
 */
export const shown = (self: Pick<LiveReply, "current" | "earlier">): ReplyUpdate.Shown => {
  const last = ReplyUpdate.shown(self.current())
  return {
    ...last,
    parts: [...earlierTools(self), ...last.parts],
    subagents: [...self.earlier().flatMap((reply) => ReplyUpdate.shown(reply).subagents), ...last.subagents]
  }
}

// internal

/** The ended tool calls of the prompts before the last one. They have run or were refused, and a later answer does not undo that. */
const earlierTools = (self: Pick<LiveReply, "earlier">): ReadonlyArray<ToolPart> =>
  self.earlier().flatMap((reply) => Reply.result(reply).tools)

type Delta = Extract<ReplyUpdate.SessionUpdate, { readonly _tag: "TextDelta" | "ReasoningDelta" }>

const isDelta = (update: ReplyUpdate.ReplyUpdate): update is Delta =>
  update._tag === "TextDelta" || update._tag === "ReasoningDelta"

/** The delta of an update, or the one that a subagent's update carries. A part id is unique in the whole tree. */
const deltaIn = (update: ReplyUpdate.ReplyUpdate): Delta | undefined => {
  const said = update._tag === "SubagentUpdate" ? update.update : update
  return isDelta(said) ? said : undefined
}

const withDelta = (update: ReplyUpdate.ReplyUpdate, delta: Delta): ReplyUpdate.ReplyUpdate =>
  update._tag === "SubagentUpdate" ? { ...update, update: delta } : delta

/** One update in place of both, if both are deltas of one part. */
const join = (
  last: ReplyUpdate.ReplyUpdate | undefined,
  update: ReplyUpdate.ReplyUpdate
): ReplyUpdate.ReplyUpdate | undefined => {
  const more = deltaIn(update)
  const delta = last === undefined || more === undefined ? undefined : deltaIn(last)
  return last === undefined || more === undefined || delta?.partId !== more.partId
    ? undefined
    : withDelta(last, { ...delta, delta: delta.delta + more.delta })
}

/** `newest` is the last update that was offered, if it is a delta: it grows for as long as it waits. */
interface Watcher {
  readonly queue: Queue.Queue<ReplyUpdate.ReplyUpdate, Cause.Done>
  newest: { readonly partId: PartId; delta: string } | undefined
}

/**
 * Offers an update, joined to the one before it if both are deltas of one part and that one still waits. A watcher then wakes up once
 * for several reads: with 200 turns of 500 deltas each, 100,000 updates become 15,000.
 */
const offer = (watcher: Watcher, update: ReplyUpdate.ReplyUpdate): void => {
  const { newest, queue } = watcher
  const delta = deltaIn(update)
  if (delta === undefined) {
    watcher.newest = undefined
    Queue.offerUnsafe(queue, update)
  } else if (
    newest?.partId === delta.partId && newest.delta.length < maxJoinedLength && Queue.sizeUnsafe(queue) > 0
  ) {
    newest.delta += delta.delta
  } else {
    const own = { ...delta }
    watcher.newest = own
    Queue.offerUnsafe(queue, withDelta(update, own))
  }
}

/** Bounds what waits for a watcher: this many characters for each of the `TurnPolicy.ObserverBuffer` updates. */
const maxJoinedLength = 4096
