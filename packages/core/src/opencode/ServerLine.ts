/**
 * The lines of OpenCode, and how a server shows its own.
 *
 * 1.18.33 serves `/api/health` and `/api/session` of an early 2.x beside its own routes, so an answer there does not make a server one of
 * 2.x. Its own `/global/health` is therefore asked first, and an answer without a version proves nothing.
 *
 * @since 0.1.0
 */
import type * as Arr from "effect/Array"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

/**
 * A server that was recognised. `2.x-beta` is a 2.x before its release, which has other names for some routes and fields.
 *
 * @category models
 * @since 0.1.0
 */
export interface Server {
  readonly line: "1.x" | "2.x" | "2.x-beta"
  readonly version: string
}

/**
 * A route that only servers of one line answer with their version. `versionIn` finds it in the answer, if OpenCode gave that.
 *
 * @category models
 * @since 0.1.0
 */
export interface Route {
  readonly path: string
  readonly line: Server["line"]
  readonly versionIn: (body: string) => string | undefined
  readonly isSupported: (version: string) => boolean
}

/**
 * At least one route, in the order in which they are asked.
 *
 * @category models
 * @since 0.1.0
 */
export type Routes = Arr.NonEmptyReadonlyArray<Route>

/**
 * The routes that tell the lines apart, or the one that a known line answers.
 *
 * @category getters
 * @since 0.1.0
 */
export const routesOf = (line?: Server["line"]): Routes => {
  switch (line) {
    case undefined:
      return [v1, v2, beta]
    case "1.x":
      return [v1]
    case "2.x":
      return [v2]
    case "2.x-beta":
      return [beta]
  }
}

// internal

const versionBy = (schema: Schema.Codec<{ readonly version: string }, unknown>) => {
  const decode = Schema.decodeUnknownOption(Schema.fromJsonString(schema))
  return (body: string): string | undefined => Option.getOrUndefined(decode(body))?.version
}
/** It is shown to people, so it is no longer than one. */
const Version = Schema.NonEmptyString.check(Schema.isMaxLength(100))
const inHealth = versionBy(Schema.Struct({ healthy: Schema.Boolean, version: Version }))
const inInfo = versionBy(Schema.Struct({ version: Version, pid: Schema.Finite }))
/** Many services have this route, and most of them tell a version there. */
const inHealthOfBeta = versionBy(Schema.Struct({ healthy: Schema.Boolean, version: Version, pid: Schema.Finite }))

/** A development build of OpenCode has version 0.0.0-…. */
const isOfMajor = (major: number) => {
  const pattern = new RegExp(`^v?(?:${major}|0\\.0\\.0)(?:\\.|-|$)`)
  return (version: string): boolean => pattern.test(version)
}

const v1: Route = { path: "/global/health", line: "1.x", versionIn: inHealth, isSupported: isOfMajor(1) }
const v2: Route = { path: "/api/info", line: "2.x", versionIn: inInfo, isSupported: isOfMajor(2) }
const beta: Route = { path: "/api/health", line: "2.x-beta", versionIn: inHealthOfBeta, isSupported: isOfMajor(2) }
