/**
 * Checks the parts of a prompt before anything is posted.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { PromptFile, PromptPart } from "../domain/Prompt.ts"
import { InvalidInput } from "../domain/TurnError.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import * as DataUrl from "./DataUrl.ts"
import * as Media from "./Media.ts"

/**
 * Checks a prompt that was given as text or as parts, and gives its parts.
 *
 * **Details**
 *
 * The check refuses what OpenCode 1.18.33 accepts and then answers with endless silence, or silently leaves out: broken
 * `data:` and `file:` URLs, URLs that it does not read, media types that it does not know, and a second subtask.
 * `TurnPolicy.MaxAttachmentBytes` limits the total size of the files inside the prompt.
 *
 * **Gotchas**
 *
 * The check does not look whether a file on the server's disk exists, or whether an image is intact behind its first
 * bytes.
 *
 * @category constructors
 * @since 0.1.0
 */
export const promptParts = Effect.fnUntraced(function*(
  prompt: string | ReadonlyArray<PromptPart>
): Effect.fn.Return<ReadonlyArray<PromptPart>, InvalidInput> {
  const all: ReadonlyArray<PromptPart> = typeof prompt === "string" ? [{ type: "text", text: prompt }] : prompt
  if (all.every((part) => part.type === "text" && part.text.trim() === "")) {
    return yield* invalid("it is empty: say what the agent is to do")
  }
  for (const [index, part] of all.entries()) {
    const problem = problemOf(part)
    if (problem !== undefined) return yield* invalid(`${nameOf(part, index)}: ${problem}`)
  }
  if (all.filter(({ type }) => type === "subtask").length > 1) {
    return yield* invalid("it has more than one subtask, and only the last would run: send a prompt for each")
  }
  const limit = yield* TurnPolicy.MaxAttachmentBytes
  const size = all.reduce((sum, part) => sum + carriedBytes(part), 0)
  if (size > limit) {
    return yield* invalid(
      `its files have ${size} bytes together, more than the ${limit} of TurnPolicy.MaxAttachmentBytes: send fewer or smaller ones, ` +
        "or name files on the server's disk by file: URL"
    )
  }
  return all
})

/**
 * How messages name a part.
 *
 * @category getters
 * @since 0.1.0
 */
export const nameOf = (part: PromptPart, index: number): string => {
  const name = part.type === "file" && part.filename !== undefined ? ` ${JSON.stringify(part.filename)}` : ""
  return `part ${index + 1}, the ${part.type}${name}`
}

/**
 * The bytes of a file that is inside of the prompt.
 *
 * @category getters
 * @since 0.1.0
 */
export const carriedBytes = (part: PromptPart): number => {
  const data = part.type === "file" ? DataUrl.parse(part.url) : undefined
  return data === undefined ? 0 : DataUrl.byteLength(data) ?? 0
}

// internal

const invalid = (reason: string) => new InvalidInput({ field: "prompt", reason })

/** The flaw of a part with its remedy, or `undefined`. */
const problemOf = (part: PromptPart): string | undefined => {
  switch (part.type) {
    case "text":
      return undefined
    case "file":
      return mediaTypeProblem(part.mediaType) ?? urlProblem(part)
    case "agent":
      return part.name.trim() === "" ? "it names no agent" : undefined
    case "subtask":
      if (part.agent.trim() === "") return "it names no agent"
      return part.prompt.trim() === "" ? "its prompt is empty: say what the agent is to do" : undefined
  }
}

const mediaTypeProblem = (mediaType: string): string | undefined => {
  if (mediaType === "image/svg+xml") return "OpenCode cannot read SVG as an image: send it as text/plain"
  return /^(?:text\/plain|image\/[a-z0-9.+-]+|application\/(?:pdf|x-directory))$/.test(mediaType)
    ? undefined
    : `OpenCode takes no ${
      JSON.stringify(mediaType)
    }, only text/plain, image/*, application/pdf and application/x-directory, ` +
      "in lower case and without parameters: send text of any kind as text/plain"
}

const urlProblem = ({ mediaType, url }: PromptFile): string | undefined => {
  const parsed = URL.canParse(url) ? new URL(url) : undefined
  switch (parsed?.protocol) {
    case undefined:
      return `${JSON.stringify(url.slice(0, 100))} is not a URL: use Attachment.fromPath for a file on this machine`
    case "data:":
      return dataProblem(mediaType, DataUrl.parse(url))
    case "file:":
      if (parsed?.host !== "") return "a file: URL of another host cannot be read: use file:///path"
      if (!/^\s*file:\//i.test(url)) return "its file: URL is relative: use file:///path"
      return /%2f/i.test(parsed.pathname)
        ? "its file: URL has an encoded slash (%2F), which no path can have"
        : undefined
    case "http:":
    case "https:":
      return "OpenCode does not fetch it: use Attachment.fromUrl, which does"
    default:
      return `OpenCode does not read ${parsed?.protocol} URLs: use a data: or a file: URL`
  }
}

const dataProblem = (mediaType: string, data: DataUrl.DataUrl | undefined): string | undefined => {
  if (data === undefined) return "its data: URL is malformed: data:<media type>;base64,<data>"
  if (mediaType === "application/x-directory") return "a folder needs a file: URL"
  const size = DataUrl.byteLength(data)
  if (size === undefined) {
    return `the data of its URL is ${
      data.isBase64 ? "no base64 (RFC 4648, padded, without spaces)" : "not percent-encoded UTF-8"
    }`
  }
  if (mediaType === "text/plain") return undefined
  if (!data.isBase64) return "its data: URL must be base64: data:<media type>;base64,<data>"
  if (size === 0) return "it is empty"
  return Media.isSniffed(mediaType) && Media.sniff(DataUrl.head(data) ?? new Uint8Array()) === undefined
    ? `its data does not begin as ${mediaType} does`
    : undefined
}
