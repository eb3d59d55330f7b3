/**
 * The measuring side: starts servers and measured processes, and repeats measurements in alternating order.
 */
import { type ChildProcess, fork } from "node:child_process"
import { once } from "node:events"
import { fileURLToPath } from "node:url"

/** The arguments of a process: `--name=value` each. */
export type Options = Readonly<Record<string, string | number | boolean>>

/** What a measured process reports. */
export type Numbers = Readonly<Record<string, number>>

/** A server in a process of its own. */
export interface Server extends AsyncDisposable {
  /** How a client finds it. */
  readonly options: Options
  /** Lets it send what the measured client waits for. */
  readonly go: () => void
  /** What it counted so far. */
  readonly count: () => Promise<Numbers>
}

/** Starts `processes/<program>.ts` as a server and waits until it listens. */
export const startServer = async (program: string, options: Options = {}): Promise<Server> => {
  const child = start(program, options)
  const address = await message(child)
  return {
    options: toOptions(address),
    go: () => child.send("go"),
    count: () => {
      child.send("count")
      return message(child).then(toNumbers)
    },
    [Symbol.asyncDispose]: async () => {
      const exit = once(child, "exit")
      child.disconnect()
      await exit
    }
  }
}

/**
 * Runs `processes/<program>.ts` once, against the server if there is one, and gives what it reports, with what the server
 * had counted when the client was ready.
 */
export const measure = async (
  program: string,
  options: Options = {},
  server?: Server
): Promise<Numbers> => {
  const child = start(program, { ...server?.options, ...options })
  const exit = once(child, "exit")
  const timer = setTimeout(() => child.kill("SIGKILL"), maxMillis)
  try {
    let next = await message(child)
    let counted: Numbers = {}
    if (next === "ready") {
      const report = message(child)
      if (server !== undefined) {
        counted = await server.count()
        server.go()
      }
      next = await report
    }
    await exit
    return { ...counted, ...toNumbers(next) }
  } finally {
    clearTimeout(timer)
  }
}

/**
 * Measures each of the jobs `rounds` times, forwards in one round and backwards in the next, so that a machine that grows
 * slower or busier is unfair to none of them.
 */
export const alternate = async <A>(
  rounds: number,
  jobs: ReadonlyArray<() => Promise<A>>
): Promise<ReadonlyArray<ReadonlyArray<A>>> => {
  const results = jobs.map((): Array<A> => [])
  for (let round = 0; round < rounds; round++) {
    const order = jobs.map((_, index) => (round % 2 === 0 ? index : jobs.length - 1 - index))
    for (const index of order) {
      const job = jobs[index]
      if (job !== undefined) results[index]?.push(await job())
    }
  }
  return results
}

/** The middle one. */
export const median = (values: ReadonlyArray<number>): number => {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}

/** The median of the ratios of each round: what made a whole round slow is not in it. */
export const ratio = (values: ReadonlyArray<number>, to: ReadonlyArray<number>): number =>
  median(values.map((value, round) => value / (to[round] ?? Number.NaN)))

// internal

/** No measurement takes a tenth of this. */
const maxMillis = 300_000

const start = (program: string, options: Options): ChildProcess =>
  fork(
    fileURLToPath(new URL(`processes/${program}.ts`, import.meta.url)),
    Object.entries(options).map(([name, value]) => `--${name}=${value}`),
    { execArgv: ["--no-warnings", "--expose-gc"] }
  )

const message = (child: ChildProcess): Promise<unknown> =>
  new Promise((resolve, reject) => {
    const onExit = (code: number | null) => reject(new Error(`${child.spawnargs.join(" ")} exited with ${code}`))
    child.once("exit", onExit)
    child.once("message", (message) => {
      child.off("exit", onExit)
      resolve(message)
    })
  })

const entries = (message: unknown): ReadonlyArray<readonly [string, unknown]> => {
  if (typeof message !== "object" || message === null) throw new Error(`not a report: ${String(message)}`)
  return Object.entries(message)
}

const toNumbers = (message: unknown): Numbers =>
  Object.fromEntries(entries(message).map(([name, value]) => [name, Number(value)]))

const toOptions = (message: unknown): Options =>
  Object.fromEntries(entries(message).map(([name, value]) => [name, String(value)]))
