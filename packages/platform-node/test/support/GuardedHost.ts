/**
 * A program that starts a process with a child of its own in another session, lets a watchdog guard it, prints their ids, and
 * waits to be killed.
 */
import { guard } from "#live/Watchdog"
import { Effect } from "effect"
import { spawn } from "node:child_process"

const parent = spawn("/bin/sh", ["-c", "setsid sleep 1000 & echo $!; wait"], { stdio: ["ignore", "pipe", "ignore"] })

parent.stdout.once("data", (bytes) => {
  Effect.runFork(Effect.scoped(Effect.gen(function*() {
    yield* guard(parent.pid ?? 0, Effect.never)
    process.stdout.write(`${parent.pid} ${String(bytes).trim()}\n`)
    return yield* Effect.never
  })))
})
