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

  /** Calls `listener` after every {@link ChangeNotifier.notify} of the key, until the function that it returns is called. */
  readonly listen: (key: string, listener: () => void) => () => void

  /** Wakes the watchers of the key. */
  readonly notify: (key: string) => void

  /** Wakes every watcher, for a store that may have missed changes. */
  readonly notifyAll: () => void
}

/**
 * @category constructors
 * @since 0.1.0
 */
export const make: Effect.Effect<ChangeNotifier> = Effect.sync(() => makeUnsafe())

/**
 * The same for a caller that makes it within a synchronous call.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeUnsafe = (): ChangeNotifier => {
  const listeners = new Map<string, Set<() => void>>()

  const listen: ChangeNotifier["listen"] = (key, listener) => {
    // A listener may be given twice, and each of the two ends by itself.
    const own = () => listener()
    const known = listeners.get(key) ?? new Set()
    listeners.set(key, known.add(own))
    return () => {
      known.delete(own)
      if (known.size === 0 && listeners.get(key) === known) listeners.delete(key)
    }
  }

  const open = Effect.fnUntraced(function*(key: string) {
    const queue = yield* Queue.sliding<void>(1)
    Queue.offerUnsafe(queue, undefined)
    return { queue, close: listen(key, () => void Queue.offerUnsafe(queue, undefined)) }
  })

  return {
    listen,
    watch: (key) =>
      Stream.unwrap(Effect.map(
        Effect.acquireRelease(open(key), ({ close, queue }) =>
          Effect.suspend(() => {
            close()
            return Queue.shutdown(queue)
          })),
        ({ queue }) => Stream.fromQueue(queue)
      )),
    notify: (key) => call(listeners.get(key) ?? []),
    notifyAll: () => {
      for (const known of Array.from(listeners.values())) call(known)
    }
  }
}

// internal

/** A listener that is called may end others. */
const call = (listeners: Iterable<() => void>) => {
  for (const listener of Array.from(listeners)) listener()
}
