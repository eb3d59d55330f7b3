/**
 * The store that a command uses: `--database`, else the setting.
 *
 * **Responsibilities**: refusing a password on the command line, which other users can read; keeping a command that only reads from
 * creating a database.
 *
 * **Not responsibilities**: checking the setting, opening the store (`LiveLayer`).
 */
import type { SessionStore } from "@opencode-turn/core/SessionStore"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as LiveLayer from "../../live/LiveLayer.ts"
import * as SqlFailure from "../../sql/SqlFailure.ts"
import { failed, type Failure, fromError, usage } from "./Failure.ts"

/** An open store, with a name that contains no secret. */
export interface Opened {
  readonly name: string
  /** Whether other processes can open it. */
  readonly isShared: boolean
  readonly store: Context.Context<SessionStore>
}

/** Opens the store, and creates it if it is missing. */
export const open = Effect.fnUntraced(
  function*(flag: string | undefined): Effect.fn.Return<Opened, Failure, Scope.Scope> {
    const database = yield* find(flag)
    const store = yield* Effect.mapError(Layer.build(LiveLayer.layerStore(database)), fromError)
    return { name: nameOf(database), isShared: database !== "memory" && database !== ":memory:", store }
  }
)

/** Opens a store that must exist. */
export const openExisting = Effect.fnUntraced(
  function*(flag: string | undefined): Effect.fn.Return<Opened, Failure, Scope.Scope | FileSystem.FileSystem> {
    const database = yield* find(flag)
    if (database === "memory" || database === ":memory:") {
      return yield* usage(
        `the database ${nameOf(database)} belongs to one process and cannot be shared: ` +
          "name a file or a postgres:// URL with --database or OPENCODE_TURN_DATABASE"
      )
    }
    const fs = yield* FileSystem.FileSystem
    const exists = Redacted.isRedacted(database) || (yield* Effect.orElseSucceed(fs.exists(database), () => false))
    if (!exists) {
      return yield* failed(`there is no database ${nameOf(database)}: name the right one with --database`)
    }
    return yield* open(flag)
  }
)

/** Refuses a store that only this process can open: no other process could answer its asks. */
export const mustBeShared = ({ isShared, name }: Opened): Effect.Effect<void, Failure> =>
  isShared ? Effect.void : Effect.fail(usage(
    `--permission store needs a database that other processes can open, and ${name} is not one: ` +
      "name a file or a postgres:// URL with --database"
  ))

// internal

const find = (flag: string | undefined): Effect.Effect<LiveLayer.Database, Failure> => {
  if (flag === undefined) return Effect.mapError(LiveLayer.databaseSetting, (error) => usage(error.message))
  // This check comes first: a text that is not a valid URL may still hold a password.
  if (LiveLayer.isPostgresUrl(flag) && mayHoldPassword(flag)) {
    return Effect.fail(usage(
      "--database is a URL with a password, which others can read on a command line: " +
        "set it in OPENCODE_TURN_DATABASE instead"
    ))
  }
  return LiveLayer.checkDatabase("--database", flag).pipe(
    Effect.map((checked) => LiveLayer.isPostgresUrl(checked) ? Redacted.make(checked) : checked),
    Effect.mapError((error) => usage(error.message))
  )
}

/** A text that is not a valid URL may hold a password, and a password with `/` or `#` moves the `@` out of the user part. */
const mayHoldPassword = (text: string): boolean => {
  if (!URL.canParse(text)) return true
  const { password, searchParams } = new URL(text)
  return password !== "" || /:[^:@]*@/.test(text.replace(/^\w+:/, "")) ||
    [...searchParams.keys()].some((name) => /pass(?!file)|pwd|secret|token/i.test(name))
}

const nameOf = (database: LiveLayer.Database): string =>
  Redacted.isRedacted(database) ? SqlFailure.postgresDatabase(database).name : JSON.stringify(database)
