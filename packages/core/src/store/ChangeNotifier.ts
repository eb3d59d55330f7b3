/**
 * Wakes the watchers of a key after a change: a building block of stores.
 *
 * **Responsibilities**: many watchers of many keys; a wake-up costs only the watchers of its own key.
 *
 * **Not responsibilities**: what changed, and how often. One wake-up may stand for several changes, so a watcher reads
 * the state itself. A slow watcher has at most one wake-up pending.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"

/**
 * @category models
 * @since 0.1.0
 */
export interface ChangeNotifier {
  /** Emits at once, and then after every {@link ChangeNotifier.notify} of the key. Never ends. */
  readonly watch: (key: string) => Stream.Stream<void>

  /** Wakes the watchers of the key. */
  readonly notify: (key: string) => void

  /** Wakes every watcher, for a store that may have missed changes. */
  readonly notifyAll: () => void
}

/**
 * @category constructors
 * @since 0.1.0
 */
export const make: Effect.Effect<ChangeNotifier> = Effect.sync(() => {
  const watchers = new Map<string, Set<Queue.Queue<void>>>()

  const add = Effect.fnUntraced(function*(key: string) {
    const queue = yield* Queue.sliding<void>(1)
    Queue.offerUnsafe(queue, undefined)
    const queues = watchers.get(key) ?? new Set()
    watchers.set(key, queues.add(queue))
    return queue
  })

  const remove = (key: string, queue: Queue.Queue<void>) =>
    Effect.suspend(() => {
      const queues = watchers.get(key)
      queues?.delete(queue)
      if (queues?.size === 0) watchers.delete(key)
      return Queue.shutdown(queue)
    })

  return {
    watch: (key) =>
      Stream.unwrap(
        Effect.map(Effect.acquireRelease(add(key), (queue) => remove(key, queue)), (queue) => Stream.fromQueue(queue))
      ),
    notify: (key) => wake(watchers.get(key) ?? []),
    notifyAll: () => {
      for (const queues of watchers.values()) wake(queues)
    }
  }
})

// internal

const wake = (queues: Iterable<Queue.Queue<void>>) => {
  for (const queue of queues) Queue.offerUnsafe(queue, undefined)
}
