/**
 * Provides everything that a turn needs, wired from the configuration.
 *
 * **Responsibilities**: reading the settings, explaining an invalid one in one line, and building the HTTP client, the store and the
 * tracer.
 *
 * **Not responsibilities**: starting a server (`OpencodeServer`), answering asks (`HumanGate`).
 *
 * | setting | meaning | default |
 * |---|---|---|
 * | `OPENCODE_BASE_URL` | where the server is | `http://127.0.0.1:4096` |
 * | `OPENCODE_SERVER_PASSWORD` | the server's password | none |
 * | `OPENCODE_TIMEOUT` | the limit of one request: `30 seconds`, `90s`, or plain milliseconds | 30 seconds |
 * | `OPENCODE_DIRECTORY` | the project's folder on the server | the server's own |
 * | `OPENCODE_TURN_DATABASE` | a SQLite file, `memory`, or a `postgres://` URL | `opencode-turn/turns.db` in `$XDG_DATA_HOME` or `~/.local/share` |
 *
 * **Example**
 * ```ts
 * Effect.runPromise(runTurn({ conversationId: "42", prompt: "What changed?" }).pipe(Effect.provide(LiveLayer)))
 * ```
 *
 * @since 0.1.0
 */
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
import * as HttpLayer from "./HttpLayer.ts"
import * as Shared from "./Shared.ts"

/**
 * Settings given in code. The configuration supplies the missing ones.
 *
 * **Details**
 *
 * `workspace` is the id of an OpenCode workspace. `requestTimeout` limits one request; the limits of a turn are in `TurnPolicy`.
 * `database` is `memory`, the path of a SQLite file, which is created with its folder if it is missing, or the URL of an existing
 * PostgreSQL database (`postgres://` or `postgresql://`).
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
  /** The destination of trace events. Default: `Tracer.layerSpan()`. */
  readonly tracer?: Layer.Layer<Tracer.Tracer> | undefined
}

/**
 * The place of the store: a file, `memory`, or a URL. A URL that may hold a password is redacted.
 *
 * @category models
 * @since 0.1.0
 */
export type Database = string | Redacted.Redacted

/**
 * A setting is invalid. `reason` never holds the value of a secret.
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
 * The services that the layer provides.
 *
 * @category models
 * @since 0.1.0
 */
export type Live = Client.Client | SessionStore.SessionStore | Tracer.Tracer

/**
 * A live layer with settings from code; the configuration supplies the missing ones.
 *
 * @category layers
 * @since 0.1.0
 */
export const make = (options: Options = {}): Layer.Layer<Live, InvalidConfig | SessionStore.StoreError> =>
  Layer.mergeAll(layerClient(options), layerStore(options.database), options.tracer ?? Tracer.layerSpan())

/**
 * The live layer of the configuration. `LiveLayer.make` builds one with settings from code.
 *
 * **Details**
 *
 * A process has one connection and one store for equal settings, in however many calls it provides this layer. They close when no
 * call has used them for 2 seconds; a store in memory stays. A layer of `LiveLayer.make` is built by each call that provides it, so
 * build it once with a `ManagedRuntime`.
 *
 * @category layers
 * @since 0.1.0
 */
export const LiveLayer: Layer.Layer<Live, InvalidConfig | SessionStore.StoreError> & { readonly make: typeof make } =
  Object.assign(Layer.suspend(() => layerShared), { make })

/**
 * The client alone, over undici; on Bun, over its `fetch`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerClient = (
  options: Omit<Options, "database" | "tracer"> = {}
): Layer.Layer<Client.Client, InvalidConfig> => Layer.unwrap(Effect.map(clientOptions(options), layerOfClient))

/**
 * The store alone: PostgreSQL at a URL, SQLite at a path, or memory. Without an argument, the configuration decides.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerStore = (
  database?: Database
): Layer.Layer<SessionStore.SessionStore, InvalidConfig | SessionStore.StoreError> =>
  Layer.unwrap(Effect.gen(function*() {
    const given = database ?? (yield* databaseSetting)
    return layerOfStore(yield* checkDatabase("database", Redacted.isRedacted(given) ? Redacted.value(given) : given))
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
  return join(yield* dataFolder, "turns.db")
})

/**
 * The folder for what this program keeps of its own. It need not exist.
 *
 * @category settings
 * @since 0.1.0
 */
export const dataFolder: Effect.Effect<string, InvalidConfig> = Effect.gen(function*() {
  // The XDG specification says that a relative path is to be ignored.
  const data = yield* setting("XDG_DATA_HOME")
  const folder = data !== undefined && isAbsolute(data) ? data : join(homedir(), ".local", "share")
  return join(folder, "opencode-turn")
})

/**
 * Whether the text begins like the URL of a PostgreSQL database.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isPostgresUrl = (database: string): boolean => /^postgres(ql)?:/i.test(database)

/**
 * Checks that a text names a database: a file, `memory`, or the URL of a PostgreSQL database. The reason does not repeat the text,
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
 * Reads a setting from the configuration; `undefined` if it is missing or empty.
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
 * Checks the address of a server. An invalid address fails with the name of its setting.
 *
 * @category settings
 * @since 0.1.0
 */
export const checkUrl = (name: string, url: string): Effect.Effect<string, InvalidConfig> => {
  const reason = whyNoServerUrl(url)
  return reason === undefined ? Effect.succeed(url) : Effect.fail(new InvalidConfig({ setting: name, reason }))
}

// internal

const layerOfClient = (options: Parameters<typeof Client.layer>[0]): Layer.Layer<Client.Client> =>
  Client.layer(options).pipe(Layer.provide(HttpLayer.layer))

const layerOfStore = (place: string): Layer.Layer<SessionStore.SessionStore, SessionStore.StoreError> =>
  Layer.unwrap(Effect.gen(function*() {
    if (isPostgresUrl(place)) return SqlSessionStore.layerPostgres({ url: Redacted.make(place) })
    // Fresh, so that two live layers do not share their conversations.
    if (isMemory(place)) return Layer.fresh(MemorySessionStore.layer)
    yield* makeFolder(place)
    return SqlSessionStore.layerSqlite({ filename: place })
  }))

const sharedClient = Shared.make({ layer: layerOfClient, idleTimeToLive: () => "2 seconds" })

/** A store in memory keeps the conversations of a process for its later calls. */
const sharedStore = Shared.make({
  layer: layerOfStore,
  idleTimeToLive: (place) => (isMemory(place) ? Infinity : "2 seconds")
})

const layerShared: Layer.Layer<Live, InvalidConfig | SessionStore.StoreError> = Layer.unwrap(Effect.gen(function*() {
  const options = yield* clientOptions({})
  const database = yield* databaseSetting
  const place = yield* checkDatabase("database", Redacted.isRedacted(database) ? Redacted.value(database) : database)
  return Layer.mergeAll(sharedClient(options), sharedStore(place), Tracer.layerSpan())
}))

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
        reason: `is not a duration above zero: ${JSON.stringify(text)}. Write ${DurationText.example}`
      })
  )
})

const isMemory = (path: string): boolean => path === "memory" || path === ":memory:"

// A reason never repeats its value, which may hold a password.

const whyNoServerUrl = (text: string): string | undefined => {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    return "is not an http or https URL, for example http://127.0.0.1:4096"
  }
  if (!isDecodable(url.username) || !isDecodable(url.password)) return malformedEscape
  if (/[?#]/.test(text)) {
    return "is more than the address of a server: leave out everything after the ? or the #, because it is not sent"
  }
  return undefined
}

const whyNoPostgresUrl = (text: string): string | undefined => {
  const url = URL.canParse(text) ? new URL(text) : undefined
  // If a special character of a password is not encoded, the rest of the password becomes a path, and messages show paths.
  if (
    url === undefined || !/^postgres(?:ql)?:\/\//i.test(text) || url.hash !== "" ||
    url.pathname.includes("@") || url.search.includes("@")
  ) {
    return "cannot be read as a URL: write postgres://user:password@host:5432/database, with special characters percent-encoded"
  }
  return [url.hostname, url.username, url.password, url.pathname].every(isDecodable) ? undefined : malformedEscape
}

/** Refuses the address of another database or driver. It would become a file name, and messages show file names. */
const whyNoFile = (text: string): string | undefined => {
  if (text.trim() === "") return "is empty: name a file, memory, or a postgres:// URL"
  if (isMemory(text)) return undefined
  if (text !== text.trim()) return "begins or ends with a blank: name a file, memory, or a postgres:// URL"
  if (/^file:/i.test(text)) return "is a file: URI: write only the path of the file, or memory"
  // A single letter before a colon is a Windows drive.
  if (/^(?:[a-z][a-z0-9+.-]+:|\/\/|:)/i.test(text)) {
    return "is the URL of another kind of database: name a file (./NAME if its name holds a colon), memory, or a postgres:// URL"
  }
  if (connectionWord.test(text) || (serverAddress.test(text) && !/^\.{0,2}\//.test(text))) {
    return "looks like the address of a database server: write it as postgres://user:password@host:5432/database"
  }
  return undefined
}

/** Matches a word of a connection string of libpq (`host=h password=x`) or ADO (`Server=h;Pwd=x`), or of a query. */
const connectionWord =
  /(?:^|[\s;?&,])(?:host|hostaddr|server|data source|port|dbname|database|user|username|user id|uid|\w*password|passwd|pwd|\w*token|\w*secret|service)\s*=/i

/**
 * Matches what a path does not begin with, but the address of a server may: a password before an `@`, a scheme further on
 * (`psql "postgres://…"`), a setting of its own (`DATABASE_URL=…`), a quotation mark, a line of `.pgpass`.
 */
const serverAddress = /:[^:@]*@|:\/\/|^\s*\w+\s*=|^["'`]|^[^:]*:\d+:/

const malformedEscape =
  "holds a % that does not begin an escape: percent-encode special characters of user and password, a % as %25"

const isDecodable = (text: string): boolean => Option.isSome(decode(text))

const decode = Option.liftThrowable(decodeURIComponent)

/** Creates the folder for its owner alone, because conversations are private. */
const makeFolder = (path: string) =>
  Effect.tryPromise({
    try: () => mkdir(dirname(path), { recursive: true, mode: 0o700 }),
    catch: (cause) =>
      new SessionStore.StoreError({
        operation: "open",
        reason: `cannot create the folder of the SQLite database ${JSON.stringify(path)}` +
          `${Predicate.isError(cause) ? ` (${cause.message.replace(/, .*$/, "")})` : ""}; choose another path`,
        isRetryable: false
      })
  })
