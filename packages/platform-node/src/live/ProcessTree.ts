/**
 * A process and everything it started, also what left its process group: OpenCode gives every shell tool a group of its
 * own (1.18), so a signal to the server's group does not reach a running tool.
 *
 * Everything here is synchronous, because the last chance to use it is Node's `exit` event. One look costs a read per
 * process on Linux and one `ps` elsewhere. Windows has neither; there the list is empty, and `taskkill /T` of the
 * spawner walks the tree.
 *
 * *Not covered*: a process whose parent died before anybody looked. The system gives it to another parent, and the
 * tree no longer shows where it came from.
 */
import { execFileSync } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"

/** A process id together with the start time that tells it from a later process with the same id. */
export interface Process {
  readonly pid: number
  readonly startedAt: string
}

interface Entry extends Process {
  readonly parent: number
}

/** Finds the running process of that id. */
export const find = (pid: number): Process | undefined => list().find((entry) => entry.pid === pid)

/**
 * Stops a process and its descendants, and returns them.
 *
 * What is stopped cannot fork, so once a look finds nobody new, the list is complete.
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

/** Keeps those that still run; a zombie does not. */
export const running = (processes: ReadonlyArray<Process>): ReadonlyArray<Process> => {
  const alive = list()
  return processes.filter((process) => alive.some((entry) => isSame(entry, process)))
}

/** Asks every process to end, and lets those that were stopped go on to do so. */
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
    // The loop also visits what it appends.
    tree.push(...entries.filter((entry) => entry.parent === parent.pid))
  }
  return tree
}

/** A process that is gone already, or belongs to somebody else by now, is none of our business. */
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

/** Processes end while we read about them, and a container may hide `/proc` or lack `ps`: then there is nothing to see. */
const attempt = <A>(read: () => ReadonlyArray<A>): ReadonlyArray<A> => {
  try {
    return read()
  } catch {
    return []
  }
}

/** `pid (name) state ppid … starttime`; the name may hold blanks and parentheses, so the fields count from its end. */
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
