/**
 * The gateway as the page calls it.
 *
 * **Responsibilities**: requests under the page's own path, and one outcome for success, refusal and a lost connection.
 */
import type { GatewayError } from "@opencode-turn/platform-node/GatewayApi"
import { signal } from "@preact/signals"

/** What became of a request. Without a status the gateway did not answer. */
export type Outcome<A> =
  | { readonly ok: true; readonly value: A }
  | { readonly ok: false; readonly status: number | undefined; readonly message: string; readonly advice: string }

/** Whether the gateway answers, and knows who asks. */
export const gateway = signal<"connecting" | "connected" | "lost" | "signed-out">("connecting")

/** The address of a route, below the path of the page. */
export const address = (path: string): URL => new URL(path.replace(/^\//, ""), new URL(".", document.baseURI))

/** What says who asks, besides the cookie: the key that a one-time link gave to pages of this origin and path. */
export const keyHeaders = (): Readonly<Record<string, string>> => {
  const key = storedKey()
  return key === "" ? {} : { "x-opencode-turn-key": key }
}

/** Whether this browser was signed in by a link, and not by a product. */
export const hasKey = (): boolean => storedKey() !== ""

/** Forgets the key, for all tabs. The cookie opens nothing without it. */
export const signOut = (): void => {
  localStorage.removeItem(keyName)
  seen(401)
}

/** Notes what an answer says of the connection. */
export const seen = (status: number | undefined): void => {
  gateway.value = status === undefined ? "lost" : status === 401 ? "signed-out" : "connected"
}

/** Calls a route. */
export const call = async <A>(
  path: string,
  body?: unknown,
  headers?: Readonly<Record<string, string>>
): Promise<Outcome<A>> => {
  try {
    const response = await fetch(address(path), {
      ...(body !== undefined && { method: "POST", body: JSON.stringify(body) }),
      headers: { ...keyHeaders(), ...(body !== undefined && { "content-type": "application/json" }), ...headers },
      signal: AbortSignal.timeout(limitMillis)
    })
    const json = await response.json()
    seen(response.status)
    if (response.ok) return { ok: true, value: json }
    const { advice, message }: GatewayError.GatewayError = json
    return { ok: false, status: response.status, message, advice }
  } catch {
    seen(undefined)
    return { ok: false, status: undefined, message: "the gateway does not answer", advice: "it is tried again" }
  }
}

/** A path with its ids escaped. */
export const path = (parts: TemplateStringsArray, ...ids: ReadonlyArray<string>): string =>
  String.raw({ raw: parts }, ...ids.map(encodeURIComponent))

// internal

/** As the page of the link writes it, see the gateway's `Login`. */
const keyName = `opencode-turn key ${address(".").pathname}`

/** Read at each call, because another tab may sign in or out. */
const storedKey = (): string => {
  try {
    return localStorage.getItem(keyName) ?? ""
  } catch {
    // A browser that keeps nothing.
    return ""
  }
}

/** Longer than the gateway itself takes for a slow store. */
const limitMillis = 60_000
