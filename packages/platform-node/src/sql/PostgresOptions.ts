/**
 * The options of a PostgreSQL store, without its driver.
 */
import type * as Duration from "effect/Duration"
import type * as Redacted from "effect/Redacted"

/**
 * The options of a PostgreSQL database.
 *
 * **Details**
 *
 * `url` has libpq's form: `postgres://user:password@host:5432/database?sslmode=require`. The pool opens up to `maxConnections` (10 by
 * default) on demand, and closes a connection that is idle for a minute. `connectTimeout` limits one attempt (5 s by default).
 *
 * @category models
 * @since 0.1.0
 */
export interface PostgresOptions {
  readonly url: Redacted.Redacted
  readonly maxConnections?: number | undefined
  readonly connectTimeout?: Duration.Input | undefined
}

/**
 * The size of the pool where the options leave it out.
 *
 * @category constants
 * @since 0.1.0
 */
export const defaultConnections = 10
