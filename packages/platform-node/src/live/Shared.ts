/**
 * Layers that a process builds once for each setting, however often it provides them.
 *
 * @since 0.1.0
 */
import type * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as RcMap from "effect/RcMap"
import * as Scope from "effect/Scope"

/**
 * Gives a layer for each setting. All layers of equal settings share one context, which closes when nobody has used it for
 * `idleTimeToLive`. The context is built with the defaults of every reference, and not with those of the first user.
 */
export const make = <Settings, A, E>(options: {
  readonly layer: (settings: Settings) => Layer.Layer<A, E>
  readonly idleTimeToLive: (settings: Settings) => Duration.Input
}): (settings: Settings) => Layer.Layer<A, E> => {
  const { idleTimeToLive, layer } = options
  // The scope never closes: what lives as long as the process is closed by its end.
  const contexts: RcMap.RcMap<Settings, Context.Context<A>, E> = Effect.runSync(
    RcMap.make({ lookup: (settings: Settings) => Layer.build(layer(settings)), idleTimeToLive }).pipe(
      Effect.provideService(Scope.Scope, Scope.makeUnsafe())
    )
  )
  return (settings) => Layer.effectContext(RcMap.get(contexts, settings))
}
