/** What an effect logs. */
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as References from "effect/References"

export interface Line {
  readonly level: string
  readonly text: string
  readonly fields: Readonly<Record<string, unknown>>
}

/** The lines from level Info on, as a logger without settings gets them. */
export const logged = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const lines: Array<Line> = []
    const logger = Logger.make(({ fiber, logLevel, message }) => {
      lines.push({
        level: logLevel,
        text: String(message),
        fields: fiber.getRef(References.CurrentLogAnnotations)
      })
    })
    return Effect.map(Effect.provide(effect, Logger.layer([logger])), (value) => ({ value, lines }))
  })
