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
import { type BigIntStats, fstatSync } from "node:fs"

/** The two streams. A write never fails, because nobody could read about the failure. */
export class Streams extends Context.Service<Streams, {
  readonly answer: (text: string) => Effect.Effect<void>
  readonly progress: (text: string) => Effect.Effect<void>
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

// internal

/** `undefined` for a closed stream. */
const stat = (fd: number): BigIntStats | undefined => {
  try {
    return fstatSync(fd, { bigint: true })
  } catch {
    return undefined
  }
}

type OutputStream = NodeJS.WriteStream & { readonly fd: number }

const fromStreams = (answer: OutputStream, progress: OutputStream): Streams["Service"] => {
  const isScreen = progress.isTTY === true && process.env["TERM"] !== "dumb"
  return Streams.of({
    answer: (text) => write(answer, text),
    progress: (text) => write(progress, text),
    isShared: answer === progress || (answer.isTTY === true && progress.isTTY === true) ||
      isSameTarget(answer.fd, progress.fd),
    isScreen,
    hasColor: isScreen && (process.env["NO_COLOR"] ?? "") === "",
    // A terminal without a configured size reports 0.
    columns: () => (progress.isTTY === true && progress.columns > 0 ? progress.columns : 100)
  })
}

/** Waits until the text is written, so that it is not lost when the process ends. */
const write = (stream: NodeJS.WriteStream, text: string): Effect.Effect<void> =>
  text === ""
    ? Effect.void
    : Effect.callback((resume) => {
      stream.write(text, () => resume(Effect.void))
    })
