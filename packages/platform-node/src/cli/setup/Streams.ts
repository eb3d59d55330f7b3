/**
 * Where the command line writes: the answer to standard output, everything about it to standard error.
 *
 * *Responsibilities*: what both streams are, and writes that are done before the process ends.
 *
 * *Not responsibilities*: a closed standard output (`Cli` stops the command then), what is written.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { type BigIntStats, fstatSync } from "node:fs"

/** The two streams. Writing never fails: nobody is left to be told. */
export class Output extends Context.Service<Output, {
  readonly answer: (text: string) => Effect.Effect<void>
  readonly progress: (text: string) => Effect.Effect<void>
  /** Whether both streams end on the same screen, or in the same pipe or file (`2>&1`). */
  readonly isShared: boolean
  /** Whether progress is shown on a screen, where a line can be drawn over. */
  readonly isScreen: boolean
  readonly hasColor: boolean
  /** The width of the screen; 100 where it is not known. */
  readonly columns: () => number
}>()("@opencode-turn/platform-node/cli/Output") {}

/** The streams of this process. `NO_COLOR` and `TERM=dumb` are respected. */
export const layer: Layer.Layer<Output> = Layer.sync(Output, () => fromStreams(process.stdout, process.stderr))

/** All of it to standard output, for a command whose progress is what people want to see. */
export const layerStdout: Layer.Layer<Output> = Layer.sync(Output, () => fromStreams(process.stdout, process.stdout))

/** Whether two file descriptors are of one pipe, file or device. */
export const isSameTarget = (one: number, other: number): boolean => {
  const [a, b] = [stat(one), stat(other)]
  // Not every system numbers its pipes.
  return a !== undefined && b !== undefined && a.ino !== 0n && a.dev === b.dev && a.ino === b.ino
}

// internal

/** Nothing of a stream that is closed. */
const stat = (fd: number): BigIntStats | undefined => {
  try {
    return fstatSync(fd, { bigint: true })
  } catch {
    return undefined
  }
}

type OutputStream = NodeJS.WriteStream & { readonly fd: number }

const fromStreams = (answer: OutputStream, progress: OutputStream): Output["Service"] => {
  const isScreen = progress.isTTY === true && process.env["TERM"] !== "dumb"
  return Output.of({
    answer: (text) => write(answer, text),
    progress: (text) => write(progress, text),
    isShared: answer === progress || (answer.isTTY === true && progress.isTTY === true) ||
      isSameTarget(answer.fd, progress.fd),
    isScreen,
    hasColor: isScreen && (process.env["NO_COLOR"] ?? "") === "",
    // A terminal that nobody gave a size says 0.
    columns: () => (progress.isTTY === true && progress.columns > 0 ? progress.columns : 100)
  })
}

/** Waits until the text has left, so that it is not lost when the process ends. */
const write = (stream: NodeJS.WriteStream, text: string): Effect.Effect<void> =>
  text === ""
    ? Effect.void
    : Effect.callback((resume) => {
      stream.write(text, () => resume(Effect.void))
    })
