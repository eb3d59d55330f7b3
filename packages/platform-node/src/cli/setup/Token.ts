/**
 * The token of the gateway: `OPENCODE_TURN_TOKEN`, else a random one in a file that only its user can read.
 *
 * The file keeps the token over restarts, so that a page that is signed in stays so.
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Redacted from "effect/Redacted"
import { join } from "node:path"
import { isStrong, makeToken } from "../../gateway/Access.ts"
import * as LiveLayer from "../../live/LiveLayer.ts"
import { failed, type Failure, usage } from "./Failure.ts"

/** The token, and where a person finds it. */
export interface Found {
  readonly token: Redacted.Redacted
  readonly place: string
  /** Whether others could read the file until now. */
  readonly wasReadable: boolean
}

/** Reads the token, and makes one where there is none. */
export const find = Effect.gen(function*() {
  const given = yield* orUsage(LiveLayer.setting(name))
  if (given !== undefined) {
    if (!isStrong(given)) {
      return yield* usage(`${name} is not a token: write at least 16 characters without blanks`)
    }
    return { token: Redacted.make(given), place: name, wasReadable: false }
  }
  const folder = yield* orUsage(LiveLayer.dataFolder)
  const place = join(folder, "gateway-token")
  const fs = yield* FileSystem.FileSystem
  const token = yield* makeToken
  yield* fs.makeDirectory(folder, { recursive: true, mode: 0o700 }).pipe(
    Effect.andThen(fs.writeFileString(place, `${Redacted.value(token)}\n`, { flag: "wx", mode: 0o600 })),
    Effect.catchIf(({ reason }) => reason._tag === "AlreadyExists", () => Effect.void),
    Effect.mapError(() => failed(`cannot write ${place}: set ${name} instead`))
  )
  const text = yield* Effect.mapError(
    fs.readFileString(place),
    () => failed(`cannot read ${place}: set ${name} instead`)
  )
  if (!/^[\w-]{43}\n$/.test(text)) return yield* failed(`${place} holds no token: delete it, or set ${name}`)
  // A copy or an archive loses the mode. Windows has no such modes.
  const wasReadable = process.platform !== "win32" &&
    (yield* Effect.orElseSucceed(Effect.map(fs.stat(place), ({ mode }) => (mode & 0o077) !== 0), () => false))
  if (wasReadable) {
    yield* Effect.mapError(
      fs.chmod(place, 0o600),
      () => failed(`others can read ${place}: let only its user read it, or set ${name}`)
    )
  }
  return { token: Redacted.make(text.trim()), place, wasReadable }
}) satisfies Effect.Effect<Found, Failure, FileSystem.FileSystem>

// internal

const name = "OPENCODE_TURN_TOKEN"

const orUsage = <A>(effect: Effect.Effect<A, LiveLayer.InvalidConfig>) =>
  Effect.mapError(effect, (error) => usage(error.message))
