/**
 * The measured side: a process that was started for one measurement, does one job, and tells its parent what it cost.
 */
import { parseArgs } from "node:util"

const { values } = parseArgs({ strict: false })

// Nobody is left to report to.
process.once("disconnect", () => process.exit(1))

/** An argument of this process. */
export const text = (name: string): string => {
  const value = values[name]
  if (typeof value !== "string") throw new Error(`--${name}=… is missing`)
  return value
}

/** An argument that is a number. */
export const int = (name: string): number => Number(text(name))

/** An argument that is there or not. */
export const flag = (name: string): boolean => values[name] === "true"

/**
 * Starts the clock and tells the parent, which lets the server go on. The function that it gives stops the clock, reports,
 * and ends the process.
 *
 * Garbage is collected before: 200 turns that start at once leave 30 MB of it, and the stream is not to pay for that.
 */
export const begin = (): (numbers?: Readonly<Record<string, number>>) => void => {
  globalThis.gc?.()
  const cpu = process.cpuUsage()
  const startMillis = performance.now()
  process.send?.("ready")
  return (numbers = {}) => {
    const { system, user } = process.cpuUsage(cpu)
    report({ cpuMillis: (user + system) / 1000, wallMillis: performance.now() - startMillis, ...numbers })
  }
}

/** Reports and ends the process. */
export const report = (numbers: Readonly<Record<string, number>>): void => {
  process.send?.(numbers, undefined, {}, () => process.exit(0))
}

/**
 * The heap that is in use after everything else was collected. A turn of the event loop lies between
 * the passes: what a weak reference was read from stays until then.
 */
export const heapBytes = async (): Promise<number> => {
  if (globalThis.gc === undefined) throw new Error("run with --expose-gc")
  for (let pass = 0; pass < 5; pass++) {
    globalThis.gc()
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  return process.memoryUsage().heapUsed
}
