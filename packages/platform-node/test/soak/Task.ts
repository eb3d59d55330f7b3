/** The task of a worker process. It is passed in the environment variable `SOAK_TASK`, because it holds passwords. */
import * as Schema from "effect/Schema"
import { points } from "./CrashPoint.ts"

export const Database = Schema.Struct({
  kind: Schema.Literals(["SQLite", "PostgreSQL"]),
  /** A path or a URL. */
  location: Schema.String
})
export interface Database extends Schema.Schema.Type<typeof Database> {}

/**
 * Without a turn the worker takes over the turns of others. `action` is what it does to itself at `point`, after it has announced the point;
 * without an action it continues.
 */
export const Task = Schema.Struct({
  database: Database,
  server: Schema.Struct({ url: Schema.String, password: Schema.String, directory: Schema.String }),
  turn: Schema.optionalKey(Schema.Struct({
    conversationId: Schema.String,
    messageId: Schema.String,
    prompt: Schema.String
  })),
  /** The seed of the soak. */
  seed: Schema.Int,
  point: Schema.optionalKey(Schema.Literals(points)),
  action: Schema.optionalKey(Schema.Literals(["kill", "freeze"]))
})
export interface Task extends Schema.Schema.Type<typeof Task> {}
