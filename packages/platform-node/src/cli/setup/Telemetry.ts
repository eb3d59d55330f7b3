/**
 * Sends the telemetry of a command where the environment names a collector.
 */
import * as Layer from "effect/Layer"
import * as Telemetry from "../../live/Telemetry.ts"
import { type Failure, usage } from "./Failure.ts"
import * as Reports from "./Reports.ts"
import type { Streams } from "./Streams.ts"

/** The exporters of the environment. What they cannot send is told on standard error, and changes nothing. */
export const layer: Layer.Layer<never, Failure, Streams> = Telemetry.layer.pipe(
  Layer.catch((error) => Layer.effectDiscard(usage(error.message))),
  Layer.provide(Reports.layer)
)
