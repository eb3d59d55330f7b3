/**
 * The OpenCode server of a command: one that runs, or one of its own.
 *
 * *Responsibilities*: which one, its start and its early end, clients of it, and the folder that a conversation lives in.
 *
 * *Not responsibilities*: how a server is started (`OpencodeServer`).
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import { Client } from "@opencode-turn/core/Client"
import type { RequestError } from "@opencode-turn/core/ClientError"
import type { SessionId } from "@opencode-turn/core/Ids"
import { retrying } from "@opencode-turn/core/Retrying"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import type * as Path from "effect/Path"
import type { ChildProcessSpawner } from "effect/process/ChildProcessSpawner"
import type * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { resolve } from "node:path"
import * as LiveLayer from "../../live/LiveLayer.ts"
import * as OpencodeServer from "../../live/OpencodeServer.ts"
import { describeDuration } from "../../terminal/Describe.ts"
import type { View } from "../view/TurnView.ts"
import { failed, type Failure, usage } from "./Failure.ts"

/** What the command line says. */
export interface Flags {
  readonly url: string | undefined
  readonly directory: string | undefined
}

/** A server that answers. `ended` fails when one of our own ends by itself. */
export interface Server {
  readonly baseUrl: string
  readonly password: Redacted.Redacted | undefined
  readonly directory: string | undefined
  readonly ended: Effect.Effect<never, Failure>
}

/** The flags, checked and completed from the settings. */
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

/** The server at the URL; without one, a server in the directory for the duration of the scope. */
export const connect = Effect.fnUntraced(function*(
  { directory, url }: Flags,
  view: View
): Effect.fn.Return<Server, Failure, Spawning | Scope.Scope> {
  if (url !== undefined) return { baseUrl: url, password: undefined, directory, ended: Effect.never }
  const folder = resolve(directory ?? ".")
  const fs = yield* FileSystem.FileSystem
  const isDirectory = yield* fs.stat(folder).pipe(
    Effect.map((info) => info.type === "Directory"),
    Effect.orElseSucceed(() => false)
  )
  if (!isDirectory) return yield* usage(`there is no directory ${quoted(folder)}: choose another --directory`)
  // Named in each request: the server decodes its own working directory, so that one in `a%20b` would work in `a b` (1.18.33).
  return { ...(yield* start({ directory: folder }, view)), directory: folder }
})

/** Starts a server for the duration of the scope, and tells of it. */
export const start = Effect.fnUntraced(function*(
  options: OpencodeServer.Options,
  view: View
): Effect.fn.Return<Server, Failure, Spawning | Scope.Scope> {
  yield* view.note(`starting OpenCode in ${options.directory ?? "."} …`)
  const startedMillis = yield* Clock.currentTimeMillis
  const server = yield* OpencodeServer.make(options).pipe(
    Effect.provide(NodeHttpClient.layerUndici),
    Effect.mapError((error) => failed(error.message, error._tag))
  )
  yield* view.note(
    `OpenCode is ready on ${server.url} (${describeDuration((yield* Clock.currentTimeMillis) - startedMillis)})`
  )
  const ended = Effect.flatMap(server.exited, (exitCode) =>
    Effect.fail(failed(
      `OpenCode ended in the middle of the turn (${exitCode === null ? "by a signal" : `exit code ${exitCode}`}): ` +
        `run the command again, with --conversation to go on`
    )))
  return { baseUrl: server.url, password: server.password, directory: undefined, ended }
})

/** A client of the server for a folder; without one, for the server's own. */
export const client = (
  server: Pick<Server, "baseUrl" | "password">,
  directory: string | undefined
): Layer.Layer<Client, Failure> =>
  Layer.catch(
    LiveLayer.layerClient({ ...server, directory }),
    (error) => Layer.effectContext(Effect.fail(usage(error.message)))
  )

/** The folder of a session, whose events reach nobody who listens in another one (1.18); none for a session that is lost. */
export const folderOf = (sessionId: SessionId): Effect.Effect<string | undefined, RequestError, Client> =>
  Effect.flatMap(Client, (client) => retrying(client.getSession(sessionId))).pipe(
    Effect.map(({ directory }) => directory),
    Effect.catchTag("SessionNotFound", () => Effect.undefined)
  )

// internal

/** A backslash is shown as the one character that it is. */
const quoted = (path: string): string => JSON.stringify(path).replaceAll("\\\\", "\\")

const hasUserInfo = ({ password, username }: URL): boolean => username !== "" || password !== ""

type Spawning = ChildProcessSpawner | FileSystem.FileSystem | Path.Path

const orUsage = <A, E extends { readonly message: string }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.mapError(effect, (error) => usage(error.message))
