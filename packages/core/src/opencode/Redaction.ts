/**
 * Removes the server's password from the server's error texts. Some proxies and plugins repeat the failed request with
 * its headers, and error texts are printed, logged and stored.
 *
 * **Not responsibilities**: the answers of an agent. A password in its text or in the output of a tool stays there.
 */
import * as Base64 from "effect/encoding/Base64"
import * as Redacted from "effect/Redacted"
import type { Message, SessionStatus, StoredInfo } from "../domain/Message.ts"
import type { WirePart } from "../domain/Part.ts"
import type { ServerEvent } from "../domain/TurnEvent.ts"
import type { UpstreamFailure } from "../domain/UpstreamFailure.ts"

/** What replaces a secret. */
export const mark = "<redacted>"

/** The redaction of a server's texts. */
export interface Redaction {
  readonly text: (text: string) => string
  readonly message: (message: Message) => Message
  readonly event: (event: ServerEvent) => ServerEvent
}

/** Redacts these passwords, which travel as Basic credentials of the user `opencode`. */
export const make = (passwords: ReadonlyArray<Redacted.Redacted<string> | undefined>): Redaction => {
  const secrets = passwords.flatMap((password) => password === undefined ? [] : formsOf(Redacted.value(password)))
  const text = (text: string): string => secrets.reduce((before, secret) => before.replaceAll(secret, mark), text)

  const failure = (failure: UpstreamFailure): UpstreamFailure => ({
    ...failure,
    name: text(failure.name),
    message: text(failure.message),
    ...(failure.url !== undefined && { url: text(failure.url) })
  })
  const info = <Info extends StoredInfo>(info: Info): Info =>
    "error" in info && info.error !== undefined ? { ...info, error: failure(info.error) } : info
  const part = (part: WirePart): WirePart =>
    part.type === "tool" && part.error !== undefined ? { ...part, error: text(part.error) } : part
  const status = (status: SessionStatus): SessionStatus =>
    status.type === "retry" ? { ...status, message: text(status.message) } : status

  return {
    text,
    message: (message) => ({ ...message, info: info(message.info), parts: message.parts.map(part) }),
    event: (event) => {
      switch (event._tag) {
        case "SessionFailed":
          return { ...event, failure: failure(event.failure) }
        case "MessageUpdated":
          return { ...event, info: info(event.info) }
        case "PartUpdated":
          return { ...event, part: part(event.part) }
        case "StatusChanged":
          return { ...event, status: status(event.status) }
        default:
          return event
      }
    }
  }
}

// internal

/** All encodings of the password, longest first, because the plain credentials contain the password. */
const formsOf = (password: string): ReadonlyArray<string> => {
  const bytes = new TextEncoder().encode(`opencode:${password}`)
  const forms = [
    Base64.encode(bytes),
    Base64.encode(password),
    encodeURIComponent(password.toWellFormed()),
    JSON.stringify(password).slice(1, -1),
    password
  ]
  return [...new Set(forms)].filter((form) => form !== "").sort((left, right) => right.length - left.length)
}
