/**
 * Requests and responses of the fake OpenCode, independent of their transport.
 *
 * @since 0.1.0
 */
import type * as Stream from "effect/Stream"
import type { ConnectionReset } from "./Events.ts"

/**
 * A request. Header names are in lower case, and the path is decoded.
 *
 * @category models
 * @since 0.1.0
 */
export interface FakeRequest {
  readonly method: string
  readonly path: string
  readonly query: Readonly<Record<string, string>>
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/**
 * A response. The body of `Events` is sent piece by piece. `Reset` breaks the connection instead of responding.
 *
 * @category models
 * @since 0.1.0
 */
export type FakeResponse =
  | {
    readonly _tag: "Body"
    readonly status: number
    readonly headers: Readonly<Record<string, string>>
    readonly body: string
  }
  | {
    readonly _tag: "Events"
    /** The status; 200 by default. */
    readonly status?: number
    readonly headers: Readonly<Record<string, string>>
    readonly stream: Stream.Stream<Uint8Array, ConnectionReset>
  }
  | { readonly _tag: "Reset" }

/**
 * A recorded request. It contains whether the credentials were right, but not the credentials.
 *
 * @category models
 * @since 0.1.0
 */
export interface RecordedRequest extends Omit<FakeRequest, "body"> {
  /** The decoded JSON, the text of any other body, or `undefined` without a body. */
  readonly body: unknown
  readonly isAuthorized: boolean
}

/**
 * @category constructors
 * @since 0.1.0
 */
export const json = (
  status: number,
  value: unknown,
  headers: Readonly<Record<string, string>> = {}
): FakeResponse => ({
  _tag: "Body",
  status,
  headers: { "content-type": "application/json", ...headers },
  body: JSON.stringify(value)
})

/**
 * @category constructors
 * @since 0.1.0
 */
export const text = (
  status: number,
  contentType: string,
  body: string,
  headers: Readonly<Record<string, string>> = {}
): FakeResponse => ({
  _tag: "Body",
  status,
  headers: contentType === "" ? headers : { "content-type": contentType, ...headers },
  body
})

/**
 * The response of an unknown route: the page of the web application, with status 200.
 *
 * @category constructors
 * @since 0.1.0
 */
export const html: FakeResponse = text(
  200,
  "text/html;charset=UTF-8",
  "<!doctype html>\n<html lang=\"en\">\n  <head>\n    <title>OpenCode</title>\n  </head>\n</html>\n"
)

/**
 * The response to a failure of the server itself.
 *
 * @category constructors
 * @since 0.1.0
 */
export const unknownError = (status = 500): FakeResponse =>
  json(status, {
    name: "UnknownError",
    data: { message: "Unexpected server error. Check server logs for details.", ref: "err_00000000" }
  })
