/**
 * The contract of `SessionStore` as a test suite that every implementation passes.
 *
 * **Responsibilities**: the contract of any store, observed only through its methods.
 *
 * **Not responsibilities**: the properties of one implementation: files, migrations, undecodable rows.
 *
 * **Gotchas**
 *
 * This module registers vitest tests, so it works inside a vitest run only, with `vitest` and `@effect/vitest` installed.
 *
 * **Example** (Testing your own store)
 *
 * ```ts
 * // test/MyStore.test.ts
 * import { describeSessionStore } from "@opencode-turn/testing/SessionStoreContract"
 * import { layer } from "../MyStore.ts"
 *
 * describeSessionStore("MyStore", layer)
 * ```
 *
 * @since 0.1.0
 */
import { layer as sharing } from "@effect/vitest"
import type { SessionStore } from "@opencode-turn/core/SessionStore"
import type * as Layer from "effect/Layer"
import { asks } from "./Asks.ts"
import { cancels } from "./Cancels.ts"
import { claims } from "./Claims.ts"
import { housekeeping } from "./Housekeeping.ts"
import { ids } from "./Ids.ts"
import { isolation } from "./Isolation.ts"
import { journals } from "./Journals.ts"
import { leases } from "./Leases.ts"
import { queue } from "./Queue.ts"
import { races } from "./Races.ts"
import { reading } from "./Reading.ts"
import { reverts } from "./Reverts.ts"
import { sequences } from "./Sequences.ts"
import { sessions } from "./Sessions.ts"
import { snapshots } from "./Snapshots.ts"
import { watching } from "./Watching.ts"
import { writes } from "./Writes.ts"

/**
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** The number of races between a cancel and a terminal write. Default: 1,000. */
  readonly rounds?: number | undefined
}

/**
 * Registers the contract's tests for one store.
 *
 * **Details**
 *
 * The store is built once for all tests, under the test clock, and may already hold data, because every test makes its own
 * conversations. The rows that the tests prune ended before the time of the test clock, which starts in 1970.
 *
 * @category testing
 * @since 0.1.0
 */
export const describeSessionStore = <E>(
  name: string,
  layer: Layer.Layer<SessionStore, E>,
  options: Options = {}
): void =>
  sharing(layer)(`${name}: the contract of SessionStore`, (it) => {
    sessions(it)
    claims(it)
    leases(it)
    queue(it)
    housekeeping(it)
    writes(it)
    snapshots(it)
    journals(it)
    cancels(it)
    races(it, options.rounds ?? 1_000)
    reading(it)
    watching(it)
    asks(it)
    isolation(it)
    reverts(it)
    ids(it)
    sequences(it)
  })
