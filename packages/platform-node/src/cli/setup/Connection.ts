/**
 * The OpenCode server of a command: a running one, or one that the command starts.
 *
 * **Responsibilities**: choosing the server, its start and its early end, its clients, and the folder of a conversation.
 *
 * **Not responsibilities**: starting a server process (`OpencodeServer`).
 */
import type { PermissionRule } from "@opencode-turn/core/Ask"
import { Client } from "@opencode-turn/core/Client"
import type { RequestError } from "@opencode-turn/core/ClientError"
import type { ConversationId, SessionId } from "@opencode-turn/core/Ids"
import { retrying } from "@opencode-turn/core/Retrying"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import type * as Path from "effect/Path"
import type { ChildProcessSpawner } from "effect/process/ChildProcessSpawner"
import * as RcMap from "effect/RcMap"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import { basename, resolve } from "node:path"
import * as HttpLayer from "../../live/HttpLayer.ts"
import * as LiveLayer from "../../live/LiveLayer.ts"
import * as OpencodeServer from "../../live/OpencodeServer.ts"
import { describeDuration } from "../../terminal/Describe.ts"
import type { View } from "../view/TurnView.ts"
import { failed, type Failure, fromError, usage } from "./Failure.ts"
import * as Permissions from "./Permissions.ts"

/** The flags of the command line. */
export interface Flags {
  readonly url: string | undefined
  readonly directory: string | undefined
}

/** A server that answers. `ended` fails when a server that the command started ends by itself. */
export interface Server {
  readonly baseUrl: string
  readonly password: Redacted.Redacted | undefined
  readonly directory: string | undefined
  readonly ended: Effect.Effect<never, Failure>
}

/** Checks the flags and adds the settings. */
export const settings = Effect.fnUntraced(function*(flags: Flags): Effect.fn.Return<Flags, Failure> {
  const name = flags.url === undefined ? "OPENCODE_BASE_URL" : "--url"
  const given = flags.url ?? (yield* orUsage(LiveLayer.setting("OPENCODE_BASE_URL")))
  const url = given === undefined ? undefined : yield* orUsage(LiveLayer.checkUrl(name, given))
  if (flags.url !== undefined && hasUserInfo(new URL(flags.url))) {
    return yield* usage(
      "--url holds a user name or a password, which others can read on a command line: set OPENCODE_SERVER_PASSWORD to the " +
        "password instead"
    )
  }
  if (flags.directory === "") return yield* usage("--directory is empty: leave it out, or name a folder")
  const directory = flags.directory ?? (yield* orUsage(LiveLayer.setting("OPENCODE_DIRECTORY")))
  return { url, directory: directory === undefined ? undefined : resolve(directory) }
})

/**
 * Connects to the server at the URL; without a URL, starts a server in the directory for as long as the scope lives. Sessions of the server
 * that starts can have these rules.
 */
export const connect = Effect.fnUntraced(function*(
  { directory, url }: Flags,
  view: View,
  rules: ReadonlyArray<PermissionRule> = []
): Effect.fn.Return<Server, Failure, Spawning | Scope.Scope> {
  if (url !== undefined) return { baseUrl: url, password: undefined, directory, ended: Effect.never }
  const folder = resolve(directory ?? ".")
  const fs = yield* FileSystem.FileSystem
  const isDirectory = yield* fs.stat(folder).pipe(
    Effect.map((info) => info.type === "Directory"),
    Effect.orElseSucceed(() => false)
  )
  if (!isDirectory) return yield* usage(`there is no directory ${quoted(folder)}: choose another --directory`)
  // Each request names the folder: 1.18.33 decodes its own working directory, so a server in `a%20b` would work in `a b`.
  return { ...(yield* startWith(rules, { directory: folder }, view)), directory: folder }
})

/** Fails if the sessions of a server cannot have these rules. A server that does not answer is left to the turns to find out. */
export const checkRules = (
  server: Server,
  rules: ReadonlyArray<PermissionRule>
): Effect.Effect<void, Failure, Scope.Scope> =>
  rules.length === 0 ? Effect.void : Effect.gen(function*() {
    const { checkRules } = Context.get(yield* Layer.build(client(server, server.directory)), Client)
    yield* checkRules(rules).pipe(
      Effect.catchIf((error) => error._tag !== "UnsupportedOperation", () => Effect.void),
      Effect.mapError(fromError)
    )
  })

/**
 * Starts a server whose sessions can have these rules. One that takes none for a session gets them in its configuration, for which it has to
 * start again, unless its name tells that it is such a one.
 */
const startWith = Effect.fnUntraced(function*(
  rules: ReadonlyArray<PermissionRule>,
  options: OpencodeServer.Options,
  view: View
): Effect.fn.Return<Server, Failure, Spawning | Scope.Scope> {
  if (rules.length === 0) return yield* start(options, view)
  const configured = Effect.gen(function*() {
    const content = yield* orUsage(LiveLayer.setting("OPENCODE_CONFIG_CONTENT"))
    return { OPENCODE_CONFIG_CONTENT: yield* Permissions.intoConfiguration(content, rules) }
  })
  const command = yield* Effect.mapError(OpencodeServer.locate(options), startFailed)
  if (!basename(command).startsWith(betaName)) {
    const life = yield* Scope.fork(yield* Effect.scope)
    const server = yield* Scope.provide(life)(start(options, view))
    const checked = yield* Effect.result(Effect.scoped(checkRules({ ...server, directory: options.directory }, rules)))
    if (Result.isSuccess(checked)) return server
    yield* Scope.close(life, Exit.void)
    yield* view.note("it takes permissions in its configuration only, so it starts once more")
  }
  const server = yield* start({ ...options, environment: yield* configured }, view)
  yield* Effect.scoped(checkRules({ ...server, directory: options.directory }, rules))
  return server
})

/** Starts a server for as long as the scope lives, and tells the person. */
export const start = Effect.fnUntraced(function*(
  options: OpencodeServer.Options,
  view: View
): Effect.fn.Return<Server, Failure, Spawning | Scope.Scope> {
  yield* view.note(`starting OpenCode in ${options.directory ?? "."} …`)
  const startedMillis = yield* Clock.currentTimeMillis
  const server = yield* OpencodeServer.make(options).pipe(
    Effect.provide(HttpLayer.layer),
    Effect.mapError(startFailed)
  )
  yield* view.note(
    `OpenCode is ready on ${server.url} (${describeDuration((yield* Clock.currentTimeMillis) - startedMillis)})`
  )
  const ended = Effect.flatMap(server.exited, (exitCode) =>
    Effect.fail(failed(
      `OpenCode ended during the turn (${exitCode === null ? "by a signal" : `exit code ${exitCode}`}): ` +
        `run the command again, and continue the turn's conversation with --conversation`
    )))
  return { baseUrl: server.url, password: server.password, directory: undefined, ended }
})

/** A client for a folder of the server; without a folder, for the server's default project. */
export const client = (
  server: Pick<Server, "baseUrl" | "password">,
  directory: string | undefined
): Layer.Layer<Client, Failure> =>
  Layer.catch(
    LiveLayer.layerClient({ ...server, directory }),
    (error) => Layer.effectContext(Effect.fail(usage(error.message)))
  )

/** A client for each folder, kept while it is used and for 10 seconds more. Without a folder, that of the server. */
export type Clients = (folder: string | undefined) => Effect.Effect<Context.Context<Client>, Failure, Scope.Scope>

/** Makes the clients of a server. A session's events reach only subscribers in its folder (1.18). */
export const makeClients = (server: Server): Effect.Effect<Clients, never, Scope.Scope> =>
  Effect.map(
    RcMap.make({
      lookup: (folder: string) => Layer.build(client(server, folder === "" ? undefined : folder)),
      idleTimeToLive: "10 seconds"
    }),
    (clients) => (folder) => RcMap.get(clients, folder ?? server.directory ?? "")
  )

/** The folder of a session, or `undefined` for a lost one. A session's events reach only subscribers in its folder (1.18). */
export const folderOf = (sessionId: SessionId): Effect.Effect<string | undefined, RequestError, Client> =>
  Effect.flatMap(Client, (client) => retrying(client.getSession(sessionId))).pipe(
    Effect.map(({ directory }) => directory),
    Effect.catchTag("SessionNotFound", () => Effect.undefined)
  )

/** The client for the folder of a conversation. Where it cannot be found, the turn itself says why. */
export const clientOf = (
  conversationId: ConversationId,
  home: Client["Service"],
  clients: Clients
): Effect.Effect<Client["Service"], never, SessionStore | Scope.Scope> =>
  Effect.gen(function*() {
    const store = yield* SessionStore
    const sessionId = yield* Effect.fromOption(yield* store.getSession(conversationId))
    return Context.get(yield* clients(yield* home.directoryOf(sessionId)), Client)
  }).pipe(
    Effect.timeout("2 seconds"),
    Effect.orElseSucceed(() => home)
  )

// internal

/** What the betas of OpenCode 2.x are called. */
const betaName = "opencode2"

const startFailed = (error: OpencodeServer.OpencodeServerError): Failure => failed(error.message, error._tag)

/** Quotes a path and shows a backslash as one character. */
const quoted = (path: string): string => JSON.stringify(path).replaceAll("\\\\", "\\")

const hasUserInfo = ({ password, username }: URL): boolean => username !== "" || password !== ""

type Spawning = ChildProcessSpawner | FileSystem.FileSystem | Path.Path

const orUsage = <A, E extends { readonly message: string }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.mapError(effect, (error) => usage(error.message))
