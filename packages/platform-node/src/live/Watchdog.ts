/**
 * Ends a process and its children if this process dies without cleaning up (`SIGKILL`, a crash).
 *
 * A shell waits at the end of a pipe that only this process holds. The system closes the pipe however this process dies. The watchdog
 * is not a Node process, because it must be cheap and must outlive this one. Without a POSIX shell there is no watchdog, and nothing
 * fails.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { spawn } from "node:child_process"

/**
 * Watches the process until the scope closes or the process ends; another process may get its id after that.
 *
 * @category constructors
 * @since 0.1.0
 */
export const guard = (pid: number, ended: Effect.Effect<unknown>): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function*() {
    const watchdog = yield* Effect.acquireRelease(
      Effect.sync(() => {
        // The watchdog has its own session, so that a Ctrl-C at the terminal does not reach it.
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

/** Stops a process before listing its children, so that it cannot start another one meanwhile. */
const script = `
cat > /dev/null
end() {
  kill -STOP "$1" 2> /dev/null
  for child in $(pgrep -P "$1" 2> /dev/null); do end "$child"; done
  kill -KILL "$1" 2> /dev/null
}
end "$1"
`
