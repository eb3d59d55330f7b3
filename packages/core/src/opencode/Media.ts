/**
 * Recognises media types by bytes and by names.
 *
 * @since 0.1.0
 */
import * as Mime from "effect/http/Mime"
import * as Option from "effect/Option"
import * as Result from "effect/Result"

/** The type of an image or a PDF by its first bytes; `undefined` for other bytes. */
export const sniff = (bytes: Uint8Array): string | undefined =>
  signatures.find(({ at, text }) => startsWith(bytes, at, text))?.mediaType

/** Whether {@link sniff} knows the type. Bytes of a claimed known type that do not look like it are broken. */
export const isSniffed = (mediaType: string): boolean => signatures.some((known) => known.mediaType === mediaType)

/** Whether the type is a pixel image. An SVG counts as text: OpenCode cannot decode it (1.18.33). */
export const isImage = (mediaType: string): boolean => mediaType.startsWith("image/") && mediaType !== "image/svg+xml"

/** Whether the bytes are UTF-8 without a NUL. No common binary format is. */
export const isText = (bytes: Uint8Array): boolean =>
  !bytes.includes(0) && Result.isSuccess(Result.try(() => new TextDecoder("utf-8", { fatal: true }).decode(bytes)))

/** The type of a file: by its first bytes for images and PDFs, else by its name where the name fits what the bytes are. */
export const ofBytes = (path: string, bytes: Uint8Array): string => {
  const seen = sniff(bytes)
  if (seen !== undefined) return seen
  if (isText(bytes)) return ofText(path)
  const named = byName(path)
  return named === undefined || isSniffed(named) ? "application/octet-stream" : named
}

/** The type of a file that is known to be text. */
export const ofText = (path: string): string => {
  const named = byName(path)
  return named !== undefined && isTextual.test(named) ? named : "text/plain"
}

/** The type of a file whose name is all that is known; `undefined` for a name that tells none, or more than one. */
export const ofName = (path: string): string | undefined => {
  const named = byName(path)
  return named === undefined || isAlsoSource.has(named) ? undefined : named
}

// internal

const byName = (path: string): string | undefined => Option.getOrUndefined(Mime.getType(path))

/** Types of which only a text can be a file. */
const isTextual =
  /^(?:text\/.+|application\/(?:json|json5|node|sql|toml|xml|(?:ld|manifest|schema|geo|problem)\+json|(?:xhtml|atom|rss|xslt)\+xml)|image\/svg\+xml)$/

/** What tables of media types take for sources of TypeScript, of Rust, and of Graphviz. */
const isAlsoSource: ReadonlySet<string> = new Set(["video/mp2t", "application/rls-services+xml", "application/msword"])

const signatures = [
  { mediaType: "image/png", at: 0, text: "\x89PNG\r\n\x1a\n" },
  { mediaType: "image/jpeg", at: 0, text: "\xff\xd8\xff" },
  { mediaType: "image/gif", at: 0, text: "GIF8" },
  { mediaType: "image/webp", at: 8, text: "WEBP" },
  { mediaType: "application/pdf", at: 0, text: "%PDF-" }
]

const startsWith = (bytes: Uint8Array, at: number, text: string): boolean => {
  for (let index = 0; index < text.length; index++) if (bytes[at + index] !== text.charCodeAt(index)) return false
  return true
}
