/**
 * Finds and stops a process and its descendants, including those outside its process group. OpenCode gives every shell tool its own
 * group (1.18), so a signal to the server's group does not reach a running tool.
 *
 * Everything here is synchronous, because Node's `exit` event may be the last chance to use it. Each scan reads one file per process on
 * Linux and runs one `ps` on other systems. Windows has neither, so the list is empty there, and the spawner's `taskkill /T` walks
 * the tree.
 *
 * **Gotchas**: a process whose parent died before the first scan is not found. The system gives it another parent, so the tree no
 * longer shows its origin.
 */
import { execFileSync } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"

/** A process id with the start time that distinguishes it from a later process with the same id. */
export interface Process {
  readonly pid: number
  readonly startedAt: string
}

interface Entry extends Process {
  readonly parent: number
}

/** Finds the running process with that id. */
export const find = (pid: number): Process | undefined => list().find((entry) => entry.pid === pid)

/**
 * Stops a process and its descendants, and returns them.
 *
 * A stopped process cannot fork, so the list is complete once a scan finds no new process.
 */
export const freeze = (root: Process): ReadonlyArray<Process> => {
  const frozen = new Map<number, Process>()
  for (;;) {
    const found = descendants(list(), root).filter((entry) => !frozen.has(entry.pid))
    if (found.length === 0) {
      return [...frozen.values()]
    }
    for (const entry of found) {
      send(entry, "SIGSTOP")
      frozen.set(entry.pid, entry)
    }
  }
}

/** Keeps the processes that still run; a zombie does not. */
export const running = (processes: ReadonlyArray<Process>): ReadonlyArray<Process> => {
  const alive = list()
  return processes.filter((process) => alive.some((entry) => isSame(entry, process)))
}

/** Sends `SIGTERM` to every process, and continues the stopped ones so that they can handle it. */
export const terminate = (processes: ReadonlyArray<Process>): void => {
  for (const process of running(processes)) {
    send(process, "SIGTERM")
    send(process, "SIGCONT")
  }
}

/** Kills a process and its descendants. */
export const kill = (root: Process): void => {
  for (const process of freeze(root)) {
    send(process, "SIGKILL")
  }
}

// internal

const isSame = (left: Process, right: Process) => left.pid === right.pid && left.startedAt === right.startedAt

const descendants = (entries: ReadonlyArray<Entry>, root: Process): ReadonlyArray<Entry> => {
  const tree = entries.filter((entry) => isSame(entry, root))
  for (const parent of tree) {
    // The loop also visits the entries that it appends.
    tree.push(...entries.filter((entry) => entry.parent === parent.pid))
  }
  return tree
}

/** Skips a process that has ended, or whose id now belongs to another process. */
const send = (target: Process, signal: NodeJS.Signals): void => {
  try {
    process.kill(target.pid, signal)
  } catch {}
}

const list = (): ReadonlyArray<Entry> => {
  switch (process.platform) {
    case "win32":
      return []
    case "linux":
      return attempt(() => readdirSync("/proc"))
        .filter((name) => /^\d+$/.test(name))
        .flatMap((name) => attempt(() => fromStat(readFileSync(`/proc/${name}/stat`, "utf8"))))
    default:
      return attempt(() => fromPs(execFileSync("ps", ["-A", "-o", "pid=,ppid=,stat=,lstart="], { encoding: "utf8" })))
  }
}

/** Processes may end during a scan, and a container may hide `/proc` or lack `ps`. The result is then empty. */
const attempt = <A>(read: () => ReadonlyArray<A>): ReadonlyArray<A> => {
  try {
    return read()
  } catch {
    return []
  }
}

/** Reads `pid (name) state ppid … starttime`. The name may hold blanks and parentheses, so the fields are counted from its end. */
const fromStat = (stat: string): ReadonlyArray<Entry> => {
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
  const [state, parent] = fields
  const startedAt = fields[19]
  return state === undefined || state === "Z" || startedAt === undefined
    ? []
    : [{ pid: Number.parseInt(stat, 10), parent: Number(parent), startedAt }]
}

const fromPs = (table: string): ReadonlyArray<Entry> =>
  table.split("\n").flatMap((line) => {
    const [pid, parent, state, ...startedAt] = line.trim().split(/\s+/)
    return state === undefined || state.startsWith("Z")
      ? []
      : [{ pid: Number(pid), parent: Number(parent), startedAt: startedAt.join(" ") }]
  })
