/**
 * Everything that a turn needs, wired from the configuration.
 *
 * *Responsibilities*: reading the settings, with one line of text for one that is wrong; the HTTP client, the store and the
 * tracer that go with them.
 *
 * *Not responsibilities*: starting a server (`OpencodeServer`), who answers when the agent asks (`HumanGate`).
 *
 * | setting | meaning | default |
 * |---|---|---|
 * | `OPENCODE_BASE_URL` | where the server is | `http://127.0.0.1:4096` |
 * | `OPENCODE_SERVER_PASSWORD` | the server's password | none |
 * | `OPENCODE_TIMEOUT` | how long one request may take: `30 seconds`, `90s`, or plain milliseconds | 30 seconds |
 * | `OPENCODE_DIRECTORY` | the project's folder on the server | the server's own |
 * | `OPENCODE_TURN_DATABASE` | the SQLite file of the store, `memory`, or a `postgres://` URL | `opencode-turn/turns.db` in `$XDG_DATA_HOME` or `~/.local/share` |
 *
 * **Example**
 * ```ts
 * Effect.runPromise(runTurn({ conversationId: "42", prompt: "What changed?" }).pipe(Effect.provide(LiveLayer)))
 * ```
 *
 * @since 0.1.0
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as Client from "@opencode-turn/core/Client"
import * as MemorySessionStore from "@opencode-turn/core/MemorySessionStore"
import * as SessionStore from "@opencode-turn/core/SessionStore"
import * as Tracer from "@opencode-turn/core/Tracer"
import * as Config from "effect/Config"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { mkdir } from "node:fs/promises"
import { homedir } from "node:os"
import { dirname, isAbsolute, join } from "node:path"
import * as SqlSessionStore from "../sql/SqlSessionStore.ts"
import * as DurationText from "./DurationText.ts"

/**
 * Settings given in code. What is left out is read from the configuration.
 *
 * **Details**
 *
 * `workspace` is the id of an OpenCode workspace. `requestTimeout` is for one request, not for a turn (`TurnPolicy` has those
 * limits). `database` is the path of a SQLite file, made with its folder if it is missing, or `memory`, or the URL of a
 * PostgreSQL database that exists (`postgres://` or `postgresql://`).
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly baseUrl?: string | undefined
  readonly password?: Redacted.Redacted<string> | undefined
  readonly directory?: string | undefined
  readonly workspace?: string | undefined
  readonly requestTimeout?: Duration.Input | undefined
  readonly database?: Database | undefined
  /** Where trace events go. Default: `Tracer.layerSpan()`. */
  readonly tracer?: Layer.Layer<Tracer.Tracer> | undefined
}

/**
 * Where the store is: a file or `memory`, or a URL, which is redacted where it may hold a password.
 *
 * @category models
 * @since 0.1.0
 */
export type Database = string | Redacted.Redacted

/**
 * A setting that cannot be used. `reason` never holds the value of a secret.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidConfig extends Schema.TaggedError<InvalidConfig>()("InvalidConfig", {
  setting: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `${this.setting} ${this.reason}`
  }
}

/**
 * What the layer provides.
 *
 * @category models
 * @since 0.1.0
 */
export type Live = Client.Client | SessionStore.SessionStore | Tracer.Tracer

/**
 * A live layer whose settings are given in code, as far as they are given.
 *
 * @category layers
 * @since 0.1.0
 */
export const make = (options: Options = {}): Layer.Layer<Live, InvalidConfig | SessionStore.StoreError> =>
  Layer.mergeAll(layerClient(options), layerStore(options.database), options.tracer ?? Tracer.layerSpan())

/**
 * The live layer of the configuration, and `LiveLayer.make` for one with settings from code.
 *
 * @category layers
 * @since 0.1.0
 */
export const LiveLayer: Layer.Layer<Live, InvalidConfig | SessionStore.StoreError> & { readonly make: typeof make } =
  Object.assign(Layer.suspend(() => make()), { make })

/**
 * The client alone, over undici.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerClient = (
  options: Omit<Options, "database" | "tracer"> = {}
): Layer.Layer<Client.Client, InvalidConfig> =>
  Layer.unwrap(Effect.map(clientOptions(options), Client.layer)).pipe(Layer.provide(NodeHttpClient.layerUndici))

/**
 * The store alone: PostgreSQL at the URL, SQLite at the path, or in memory. Without either: the one of the configuration.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerStore = (
  database?: Database
): Layer.Layer<SessionStore.SessionStore, InvalidConfig | SessionStore.StoreError> =>
  Layer.unwrap(Effect.gen(function*() {
    const given = database ?? (yield* databaseSetting)
    const place = yield* checkDatabase("database", Redacted.isRedacted(given) ? Redacted.value(given) : given)
    if (isPostgresUrl(place)) return SqlSessionStore.layerPostgres({ url: Redacted.make(place) })
    // Not `MemorySessionStore.layer`: layers are built once per reference, and two live layers would share its conversations.
    if (isMemory(place)) return Layer.effect(SessionStore.SessionStore, MemorySessionStore.make)
    yield* makeFolder(place)
    return SqlSessionStore.layerSqlite({ filename: place })
  }))

/**
 * The database of the configuration. A URL is redacted.
 *
 * @category settings
 * @since 0.1.0
 */
export const databaseSetting: Effect.Effect<Database, InvalidConfig> = Effect.gen(function*() {
  const configured = yield* setting("OPENCODE_TURN_DATABASE")
  if (configured !== undefined) {
    yield* checkDatabase("OPENCODE_TURN_DATABASE", configured)
    return isPostgresUrl(configured) ? Redacted.make(configured) : configured
  }
  // The specification of these folders says that a relative path is to be ignored.
  const data = yield* setting("XDG_DATA_HOME")
  const folder = data !== undefined && isAbsolute(data) ? data : join(homedir(), ".local", "share")
  return join(folder, "opencode-turn", "turns.db")
})

/**
 * Whether it is the URL of a PostgreSQL database, by its beginning.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isPostgresUrl = (database: string): boolean => /^postgres(ql)?:/i.test(database)

/**
 * Checks that a text can be a database: a file, `memory`, or the URL of a PostgreSQL one. The reason does not repeat the text,
 * which may hold a password.
 *
 * @category settings
 * @since 0.1.0
 */
export const checkDatabase = (name: string, database: string): Effect.Effect<string, InvalidConfig> => {
  const reason = isPostgresUrl(database) ? whyNoPostgresUrl(database) : whyNoFile(database)
  return reason === undefined ? Effect.succeed(database) : Effect.fail(new InvalidConfig({ setting: name, reason }))
}

/**
 * A setting of the configuration; `undefined` where it is missing or empty.
 *
 * @category settings
 * @since 0.1.0
 */
export const setting = (name: string): Effect.Effect<string | undefined, InvalidConfig> =>
  Config.option(Config.String(name)).pipe(
    Effect.map((value) => (Option.isSome(value) && value.value !== "" ? value.value : undefined)),
    Effect.mapError(() => new InvalidConfig({ setting: name, reason: "cannot be read as text from the configuration" }))
  )

/**
 * Checks that a server's address can be used, and names the setting that it came from if not.
 *
 * @category settings
 * @since 0.1.0
 */
export const checkUrl = (name: string, url: string): Effect.Effect<string, InvalidConfig> => {
  const reason = whyNoServerUrl(url)
  return reason === undefined ? Effect.succeed(url) : Effect.fail(new InvalidConfig({ setting: name, reason }))
}

// internal

const clientOptions = Effect.fnUntraced(function*(options: Options) {
  const password = options.password ?? (yield* passwordSetting)
  if (options.directory === "") {
    return yield* new InvalidConfig({ setting: "directory", reason: "is empty: leave it out, or name a folder" })
  }
  const directory = options.directory ?? (yield* setting("OPENCODE_DIRECTORY"))
  return {
    baseUrl: yield* checkUrl(
      options.baseUrl === undefined ? "OPENCODE_BASE_URL" : "baseUrl",
      options.baseUrl ?? (yield* setting("OPENCODE_BASE_URL")) ?? "http://127.0.0.1:4096"
    ),
    password,
    directory,
    workspace: options.workspace,
    requestTimeout: options.requestTimeout ?? (yield* timeoutSetting)
  }
})

const passwordSetting = Effect.map(
  setting("OPENCODE_SERVER_PASSWORD"),
  (password) => (password === undefined ? undefined : Redacted.make(password))
)

const timeoutSetting = Effect.gen(function*() {
  const text = yield* setting("OPENCODE_TIMEOUT")
  if (text === undefined) return undefined
  return yield* Effect.fromOption(
    DurationText.parse(text),
    () =>
      new InvalidConfig({
        setting: "OPENCODE_TIMEOUT",
        reason: `is not a duration: ${JSON.stringify(text)}. Write ${DurationText.example}`
      })
  )
})

const isMemory = (path: string): boolean => path === "memory" || path === ":memory:"

// No reason repeats what it is about: the text may hold a password.

const whyNoServerUrl = (text: string): string | undefined => {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    return "is not an http or https URL, for example http://127.0.0.1:4096"
  }
  if (!isDecodable(url.username) || !isDecodable(url.password)) return malformedEscape
  if (/[?#]/.test(text)) {
    return "is not the address of a server alone: leave out what follows the ? or the #, which is not sent"
  }
  return undefined
}

const whyNoPostgresUrl = (text: string): string | undefined => {
  const url = URL.canParse(text) ? new URL(text) : undefined
  // What stands behind a special character of a password that is not encoded is taken for a path, which messages name.
  if (
    url === undefined || !/^postgres(?:ql)?:\/\//i.test(text) || url.hash !== "" ||
    url.pathname.includes("@") || url.search.includes("@")
  ) {
    return "is not a URL that can be read: write postgres://user:password@host:5432/database, with special characters percent-encoded"
  }
  return [url.hostname, url.username, url.password, url.pathname].every(isDecodable) ? undefined : malformedEscape
}

/** What is meant for another database, or for another driver, would become the name of a file, which messages repeat. */
const whyNoFile = (text: string): string | undefined => {
  if (text.trim() === "") return "is empty: name a file, memory, or a postgres:// URL"
  if (isMemory(text)) return undefined
  if (text !== text.trim()) return "begins or ends with a blank: name a file, memory, or a postgres:// URL"
  if (/^file:/i.test(text)) return "is a file: URI: name the path of the file alone, or memory"
  // A letter and a colon are a drive of Windows.
  if (/^(?:[a-z][a-z0-9+.-]+:|\/\/|:)/i.test(text)) {
    return "is a URL of another kind of database: name a file (./NAME where its name holds a colon), memory, or a postgres:// URL"
  }
  if (connectionWord.test(text) || (/:[^:@/]*@/.test(text) && !/^\.{0,2}\//.test(text))) {
    return "looks like what a database server is reached with: write it as postgres://user:password@host:5432/database"
  }
  return undefined
}

/** A word of a connection string of libpq (`host=h password=x`) or ADO (`Server=h;Pwd=x`), or of a query. */
const connectionWord =
  /(?:^|[\s;?&,])(?:host|hostaddr|server|data source|port|dbname|database|user|username|user id|uid|password|passwd|pwd|service)\s?=/i

const malformedEscape =
  "holds a % that begins no escape: write special characters of user and password percent-encoded, a % as %25"

const isDecodable = (text: string): boolean => Option.isSome(decode(text))

const decode = Option.liftThrowable(decodeURIComponent)

/** Conversations are nobody else's business: a folder made here is the user's alone. */
const makeFolder = (path: string) =>
  Effect.tryPromise({
    try: () => mkdir(dirname(path), { recursive: true, mode: 0o700 }),
    catch: (cause) =>
      new SessionStore.StoreError({
        operation: "open",
        reason: `the folder of the SQLite database ${JSON.stringify(path)} cannot be made` +
          `${Predicate.isError(cause) ? ` (${cause.message.replace(/, .*$/, "")})` : ""}; choose another path`,
        isRetryable: false
      })
  })
