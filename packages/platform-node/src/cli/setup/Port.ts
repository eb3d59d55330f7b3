/**
 * Why a command cannot listen on a port, and what to do about it.
 */
import type * as HttpServerError from "effect/http/HttpServerError"
import * as Predicate from "effect/Predicate"
import { failed, type Failure } from "./Failure.ts"

/** The failure of a command that listens on the port that `flag` names. */
export const explained =
  (address: { readonly host: string; readonly port: number }, flag: string) =>
  ({ cause }: HttpServerError.ServeError): Failure => failed(whyNot(address, flag, cause))

// internal

const whyNot = ({ host, port }: { readonly host: string; readonly port: number }, flag: string, cause: unknown) => {
  const code = Predicate.hasProperty(cause, "code") ? cause.code : undefined
  switch (code) {
    case "EADDRINUSE":
      return `port ${port} of ${host} is in use: choose another ${flag}, or 0 for any that is free`
    case "EADDRNOTAVAIL":
    case "ENOTFOUND":
      return `this machine has no address ${host}: choose another --host`
    case "EACCES":
      return `this user may not listen on port ${port}: choose another ${flag}`
    default:
      return `cannot listen on port ${port} of ${host}${Predicate.isError(cause) ? `: ${cause.message}` : ""}`
  }
}
