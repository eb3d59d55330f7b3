/** The metrics of a test, which has a registry of its own. */
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"

/** Gives an effect an empty registry. */
export const fresh = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.suspend(() => Effect.provideService(effect, Metric.MetricRegistry, new Map()))

/** Each series by its name and the values of its attributes: a number, or how many values it has and their sum. */
export const all: Effect.Effect<Readonly<Record<string, number | readonly [count: number, sum: number]>>> = Effect.map(
  Metric.snapshot,
  (series) =>
    Object.fromEntries(series.map((one) => {
      const { unit: _, ...attributes } = one.attributes ?? {}
      const name = [one.id, ...Object.values(attributes)].join(" ")
      switch (one.type) {
        case "Counter":
          return [name, Number(one.state.count)]
        case "Gauge":
          return [name, Number(one.state.value)]
        case "Histogram":
          return [name, [one.state.count, one.state.sum]]
        default:
          throw new Error(`${one.id} is a ${one.type}`)
      }
    }))
)

/** The series whose names begin like this. */
export const named = (prefix: string) =>
  Effect.map(all, (series) => Object.fromEntries(Object.entries(series).filter(([name]) => name.startsWith(prefix))))
