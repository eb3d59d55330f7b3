/**
 * The two streams of the command line: the answer on standard output, everything else on standard error.
 *
 * **Responsibilities**: the properties of both streams, and writes that finish before the process ends.
 *
 * **Not responsibilities**: a closed standard output (`Main` then stops the command), the texts.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { type BigIntStats, fstatSync } from "node:fs"

/** The two streams. A write never fails, because nobody could read about the failure. */
export class Streams extends Context.Service<Streams, {
  readonly answer: (text: string) => Effect.Effect<void>
  readonly progress: (text: string) => Effect.Effect<void>
  /** Writes a line that belongs to no turn to standard error, or once nobody holds such lines back. */
  readonly aside: (text: string) => Effect.Effect<void>
  /** Holds those lines back until the scope closes, so that none breaks into what is streamed or drawn. */
  readonly holdAsides: Effect.Effect<void, never, Scope.Scope>
  /** Whether both streams reach the same screen, pipe or file (`2>&1`). */
  readonly isShared: boolean
  /** Whether progress goes to a screen, which allows drawing over a line. */
  readonly isScreen: boolean
  readonly hasColor: boolean
  /** The width of the screen, or 100 if it is unknown. */
  readonly columns: () => number
}>()("@opencode-turn/platform-node/cli/Streams") {}

/** The streams of this process. The layer respects `NO_COLOR` and `TERM=dumb`. */
export const layer: Layer.Layer<Streams> = Layer.sync(Streams, () => fromStreams(process.stdout, process.stderr))

/** Both streams on standard output, for a command whose progress is its result. */
export const layerStdout: Layer.Layer<Streams> = Layer.sync(Streams, () => fromStreams(process.stdout, process.stdout))

/** Whether two file descriptors refer to the same pipe, file or device. */
export const isSameTarget = (one: number, other: number): boolean => {
  const [a, b] = [stat(one), stat(other)]
  // Some systems do not number their pipes.
  return a !== undefined && b !== undefined && a.ino !== 0n && a.dev === b.dev && a.ino === b.ino
}

/** What is used of a stream of the process. */
export interface OutputStream {
  write(text: string, written: () => void): unknown
  readonly fd: number
  readonly isTTY?: boolean
  readonly columns?: number
}

/** Both streams with their properties. */
export const fromStreams = (answer: OutputStream, progress: OutputStream): Streams["Service"] => {
  const asides: Array<string> = []
  let holders = 0
  const release = Effect.suspend(() => {
    holders--
    return holders > 0 ? Effect.void : write(progress, asides.splice(0).join(""))
  })
  const isScreen = progress.isTTY === true && process.env["TERM"] !== "dumb"
  return Streams.of({
    answer: (text) => write(answer, text),
    progress: (text) => write(progress, text),
    aside: (text) =>
      Effect.suspend(() => {
        if (holders === 0) return write(progress, text)
        if (asides.length < maxAsides) asides.push(text)
        return Effect.void
      }),
    holdAsides: Effect.acquireRelease(
      Effect.sync(() => {
        holders++
      }),
      () => release
    ),
    isShared: answer === progress || (answer.isTTY === true && progress.isTTY === true) ||
      isSameTarget(answer.fd, progress.fd),
    isScreen,
    hasColor: isScreen && (process.env["NO_COLOR"] ?? "") === "",
    // A terminal without a configured size reports 0.
    columns: () => {
      const { columns = 0, isTTY } = progress
      return isTTY === true && columns > 0 ? columns : 100
    }
  })
}

// internal

/** A turn may last for hours, and what it leaves out has been told by then. */
const maxAsides = 100

/** `undefined` for a closed stream. */
const stat = (fd: number): BigIntStats | undefined => {
  try {
    return fstatSync(fd, { bigint: true })
  } catch {
    return undefined
  }
}

/** Waits until the text is written, so that it is not lost when the process ends. */
const write = (stream: OutputStream, text: string): Effect.Effect<void> =>
  text === ""
    ? Effect.void
    : Effect.callback((resume) => {
      stream.write(text, () => resume(Effect.void))
    })
