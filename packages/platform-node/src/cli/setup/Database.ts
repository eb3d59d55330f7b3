/**
 * The store that a command works on: `--database`, else the setting.
 *
 * *Responsibilities*: no password on a command line, which others can read; a command that only reads makes no database.
 *
 * *Not responsibilities*: what the setting may be, and opening it (`LiveLayer`).
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

/** An open store, and its name for people, without a secret. */
export interface Opened {
  readonly name: string
  /** Whether other processes can open it too. */
  readonly isShared: boolean
  readonly store: Context.Context<SessionStore>
}

/** The store, made if there is none. */
export const open = Effect.fnUntraced(
  function*(flag: string | undefined): Effect.fn.Return<Opened, Failure, Scope.Scope> {
    const database = yield* find(flag)
    const store = yield* Effect.mapError(Layer.build(LiveLayer.layerStore(database)), fromError)
    return { name: nameOf(database), isShared: database !== "memory" && database !== ":memory:", store }
  }
)

/** The store of a command that has nothing to do without one. */
export const openExisting = Effect.fnUntraced(
  function*(flag: string | undefined): Effect.fn.Return<Opened, Failure, Scope.Scope | FileSystem.FileSystem> {
    const database = yield* find(flag)
    const fs = yield* FileSystem.FileSystem
    const exists = Redacted.isRedacted(database) || (yield* Effect.orElseSucceed(fs.exists(database), () => false))
    if (!exists) {
      return yield* failed(`there is no database ${nameOf(database)}: name the one that was used with --database`)
    }
    return yield* open(flag)
  }
)

/** What waits in a store that is this process's own waits for ever. */
export const mustBeShared = ({ isShared, name }: Opened): Effect.Effect<void, Failure> =>
  isShared ? Effect.void : Effect.fail(usage(
    `--permission store keeps what is asked for other processes to answer, and none of them can open the database ${name}: ` +
      "name a file or a postgres:// URL with --database"
  ))

// internal

const find = (flag: string | undefined): Effect.Effect<LiveLayer.Database, Failure> => {
  if (flag === undefined) return Effect.mapError(LiveLayer.databaseSetting, (error) => usage(error.message))
  // Before anything else: what cannot be read as a URL may hold a password all the same.
  if (LiveLayer.isPostgresUrl(flag) && mayHoldPassword(flag)) {
    return Effect.fail(usage(
      "--database is a URL with a password, which others can read on a command line: " +
        "set OPENCODE_TURN_DATABASE to it instead"
    ))
  }
  return LiveLayer.checkDatabase("--database", flag).pipe(
    Effect.map((checked) => LiveLayer.isPostgresUrl(checked) ? Redacted.make(checked) : checked),
    Effect.mapError((error) => usage(error.message))
  )
}

/** What cannot be read as a URL may hold anything, and a password with a `/` or `#` in it moves the `@` elsewhere. */
const mayHoldPassword = (text: string): boolean => {
  if (!URL.canParse(text)) return true
  const { password, searchParams } = new URL(text)
  return password !== "" || /:[^:@]*@/.test(text.replace(/^\w+:/, "")) ||
    [...searchParams.keys()].some((name) => /pass(?!file)|pwd|secret|token/i.test(name))
}

const nameOf = (database: LiveLayer.Database): string =>
  Redacted.isRedacted(database) ? SqlFailure.postgresDatabase(database).name : JSON.stringify(database)
