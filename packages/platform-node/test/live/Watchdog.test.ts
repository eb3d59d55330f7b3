import { NodeServices } from "@effect/platform-node"
import { assert, it } from "@effect/vitest"
import { Effect, Schedule } from "effect"
import { spawn } from "node:child_process"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

const host = fileURLToPath(new URL("../support/GuardedHost.ts", import.meta.url))

/** A zombie has ended: nobody has read its exit code yet. */
const isRunning = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return !/^\d+ \(.*\) Z/s.test(readFileSync(`/proc/${pid}/stat`, "utf8"))
  } catch {
    return false
  }
}

it.layer(NodeServices.layer, { excludeTestServices: true })("the watchdog", (it) => {
  it.effect("ends the process and its children when the host is killed", () =>
    Effect.gen(function*() {
      const child = spawn(process.execPath, [host], { stdio: ["ignore", "pipe", "inherit"] })
      const pids = yield* Effect.callback<ReadonlyArray<number>>((resume) => {
        let text = ""
        child.stdout.on("data", (bytes) => {
          text += String(bytes)
          if (text.endsWith("\n")) resume(Effect.succeed(text.trim().split(" ").map(Number)))
        })
      })
      assert.lengthOf(pids, 2)
      assert.deepEqual(pids.map(isRunning), [true, true])
      child.kill("SIGKILL")
      yield* Effect.sync(() => pids.some(isRunning)).pipe(
        Effect.repeat({ while: (isAlive) => isAlive, schedule: Schedule.spaced("20 millis") })
      )
    }))
})
