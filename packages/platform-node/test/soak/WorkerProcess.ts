/** Runs `worker.ts` as a child process that ends with a scope. */
import { Deferred, Effect, type Scope } from "effect"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import type { Task } from "./Task.ts"

export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly atMillis: number
}

export interface WorkerProcess {
  readonly pid: number
  readonly ended: Effect.Effect<Ended>
  /** Waits for a line that begins with the word, and returns the time; undefined if the process ends before. */
  readonly said: (word: "started" | "reached") => Effect.Effect<number | undefined>
  readonly send: (signal: NodeJS.Signals) => Effect.Effect<void>
  /** Everything that it has written so far to both outputs. */
  readonly output: () => string
}

const program = fileURLToPath(new URL("worker.ts", import.meta.url))

/** Halves the time that a worker needs to start, because a soak starts hundreds of them. */
const cache = fileURLToPath(new URL("../../../../node_modules/.cache/compile", import.meta.url))

/** Starts a worker, which is killed when the scope closes. */
export const start = (task: Task): Effect.Effect<WorkerProcess, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const child = spawn(process.execPath, [program], {
        env: { ...process.env, NODE_COMPILE_CACHE: cache, SOAK_TASK: JSON.stringify(task) },
        stdio: ["ignore", "pipe", "pipe"]
      })
      let output = ""
      const started = Deferred.makeUnsafe<number | undefined>()
      const reached = Deferred.makeUnsafe<number | undefined>()
      const ended = Deferred.makeUnsafe<Ended>()
      const collect = (chunk: string) => {
        output = (output + chunk).slice(-8000)
        if (output.includes("started\n")) Deferred.doneUnsafe(started, Effect.succeed(Date.now()))
        if (output.includes("reached\n")) Deferred.doneUnsafe(reached, Effect.succeed(Date.now()))
      }
      child.stdout.setEncoding("utf8").on("data", collect)
      child.stderr.setEncoding("utf8").on("data", collect)
      let atMillis = 0
      child.on("exit", () => {
        atMillis = Date.now()
      })
      child.on("close", (code, signal) => {
        Deferred.doneUnsafe(started, Effect.undefined)
        Deferred.doneUnsafe(reached, Effect.undefined)
        Deferred.doneUnsafe(ended, Effect.succeed({ code, signal, atMillis }))
      })
      return {
        pid: child.pid ?? 0,
        ended: Deferred.await(ended),
        said: (word: "started" | "reached") => Deferred.await(word === "started" ? started : reached),
        send: (signal: NodeJS.Signals) => Effect.sync(() => void child.kill(signal)),
        output: () => output
      }
    }),
    (worker) => Effect.andThen(worker.send("SIGKILL"), worker.ended)
  )
