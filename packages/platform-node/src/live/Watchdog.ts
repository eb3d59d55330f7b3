/**
 * Ends a process and its children when this process dies without a chance to do so itself (`SIGKILL`, a crash).
 *
 * A shell waits at the end of a pipe that only this process holds; the system closes the pipe whatever this process dies of.
 * It is no Node process: it must be cheap, and outlive ours. Without a POSIX shell there is no watchdog, and nothing fails.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { spawn } from "node:child_process"

/**
 * Watches over the process until the scope closes, or until it has ended by itself: its id may be another's then.
 *
 * @category constructors
 * @since 0.1.0
 */
export const guard = (pid: number, ended: Effect.Effect<unknown>): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function*() {
    const watchdog = yield* Effect.acquireRelease(
      Effect.sync(() => {
        // A session of its own: a Ctrl-C at the terminal is not for it.
        const child = spawn("/bin/sh", ["-c", script, "opencode-turn-watchdog", String(pid)], {
          detached: true,
          stdio: ["pipe", "ignore", "ignore"]
        })
        child.on("error", () => {})
        child.stdin.on("error", () => {})
        child.unref()
        return child
      }),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    yield* Effect.forkScoped(Effect.andThen(ended, Effect.sync(() => watchdog.kill("SIGKILL"))))
  })

// internal

/** Stopped before its children are listed, so that none is added meanwhile. */
const script = `
cat > /dev/null
end() {
  kill -STOP "$1" 2> /dev/null
  for child in $(pgrep -P "$1" 2> /dev/null); do end "$child"; done
  kill -KILL "$1" 2> /dev/null
}
end "$1"
`
