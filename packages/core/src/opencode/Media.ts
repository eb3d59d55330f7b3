/**
 * Recognises media types by bytes.
 *
 * @since 0.1.0
 */
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

// internal

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
