/**
 * Reads the `data:` URLs of prompts.
 *
 * @since 0.1.0
 */
import * as Base64 from "effect/encoding/Base64"
import * as Result from "effect/Result"

/** `mediaType` has no parameters and is in lower case; `data` is still encoded. */
export interface DataUrl {
  readonly mediaType: string
  readonly isBase64: boolean
  readonly data: string
}

export const make = (mediaType: string, bytes: Uint8Array): string => `data:${mediaType};base64,${Base64.encode(bytes)}`

/**
 * Parses the URL as OpenCode does: `;base64` in lower case, right before the comma (1.18.33). `undefined` if the URL is
 * malformed.
 */
export const parse = (url: string): DataUrl | undefined => {
  const comma = url.indexOf(",")
  if (!url.startsWith("data:") || comma === -1) return undefined
  const header = url.slice("data:".length, comma)
  return {
    mediaType: (header.split(";", 1)[0] ?? "").trim().toLowerCase(),
    isBase64: header.endsWith(";base64"),
    data: url.slice(comma + 1)
  }
}

/** The number of bytes, without decoding base64; `undefined` if they cannot be decoded. */
export const byteLength = ({ data, isBase64 }: DataUrl): number | undefined => {
  if (!isBase64) return Result.getOrUndefined(percentDecode(data))?.length
  const padding = data.endsWith("==") ? 2 : data.endsWith("=") ? 1 : 0
  // The search looks only for a forbidden character: a pattern for the whole text would keep a state for each of its
  // repetitions.
  const isValid = data.length % 4 === 0 && !/[^A-Za-z0-9+/]/.test(data.slice(0, data.length - padding))
  return isValid ? data.length / 4 * 3 - padding : undefined
}

/** The decoded bytes. */
export const decode = ({ data, isBase64 }: DataUrl): Uint8Array | undefined =>
  Result.getOrUndefined<Uint8Array, unknown>(isBase64 ? Base64.decode(data) : percentDecode(data))

/** The first few bytes. */
export const head = ({ data, isBase64 }: DataUrl): Uint8Array | undefined =>
  isBase64 ? Result.getOrUndefined(Base64.decode(data.slice(0, 32))) : undefined

// internal

const percentDecode = (data: string): Result.Result<Uint8Array, unknown> =>
  Result.try(() => new TextEncoder().encode(decodeURIComponent(data)))
