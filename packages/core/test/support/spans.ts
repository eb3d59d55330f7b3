/** Spans in memory, as an exporter would receive them. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"

export interface Recorder {
  readonly tracer: Tracer.Tracer
  /** The sampled spans that have ended. */
  readonly spans: () => ReadonlyArray<Tracer.NativeSpan>
}

export const make = (): Recorder => {
  const ended: Array<Tracer.NativeSpan> = []
  return {
    spans: () => ended,
    tracer: Tracer.make({
      span: (options) => {
        const span = new Tracer.NativeSpan(options)
        const { end } = span
        span.end = (...args) => {
          if (span.status._tag === "Started" && span.sampled) ended.push(span)
          end.call(span, ...args)
        }
        return span
      }
    })
  }
}

/** Runs an effect with a recorder, and gives its value with the spans. */
export const recorded = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const recorder = make()
    return Effect.map(Effect.withTracer(effect, recorder.tracer), (value) => ({ value, spans: recorder.spans() }))
  })

export type Tree = string | { readonly [name: string]: ReadonlyArray<Tree> }

const startOf = ({ status }: Tracer.NativeSpan): bigint => status.startTime

/** The names of the spans as a tree, siblings by their start, with their errors and events. */
export const tree = (spans: ReadonlyArray<Tracer.NativeSpan>): ReadonlyArray<Tree> => {
  const known = new Set(spans.map(({ spanId }) => spanId))
  const below = (parent: string | undefined): ReadonlyArray<Tree> =>
    spans
      .filter((span) => {
        const id = Option.getOrUndefined(span.parent)?.spanId
        return parent === undefined ? id === undefined || !known.has(id) : id === parent
      })
      .toSorted((a, b) => startOf(a) < startOf(b) ? -1 : startOf(a) > startOf(b) ? 1 : 0)
      .map((span): Tree => {
        const children = below(span.spanId)
        const name = nameOf(span)
        return children.length === 0 ? name : { [name]: children }
      })
  return below(undefined)
}

const nameOf = ({ attributes, events, name, status }: Tracer.NativeSpan): string => {
  const error = attributes.get("error.type")
  const exit = status._tag === "Ended" && Exit.isFailure(status.exit)
    ? Cause.hasInterruptsOnly(status.exit.cause) ? " (interrupted)" : " (failed)"
    : ""
  const retries = events.filter(([event]) => event === "opencode.retry").length
  return `${name}${error === undefined ? "" : ` ${error}`}${exit}${retries === 0 ? "" : ` ${retries} retries`}`
}

export const attributesOf = (span: Tracer.NativeSpan | undefined): Record<string, unknown> =>
  Object.fromEntries(span?.attributes ?? [])

export const named = (spans: ReadonlyArray<Tracer.NativeSpan>, name: string) =>
  spans.filter((span) => span.name === name)

/** The sum of a number over all spans that have it. */
export const sum = (spans: ReadonlyArray<Tracer.NativeSpan>, attribute: string): number =>
  spans.reduce((sum, { attributes }) => sum + Number(attributes.get(attribute) ?? 0), 0)
