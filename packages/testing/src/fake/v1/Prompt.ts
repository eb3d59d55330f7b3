/**
 * Resolves the parts of a prompt before the fake OpenCode stores them (1.18.33).
 *
 * **Responsibilities**: the texts for files and agents, unreadable files, prompts that cannot be stored.
 *
 * **Not responsibilities**: subtasks, which are stored unchanged and run by `Subtask`.
 *
 * **Details**
 *
 * The server adds its own texts, marked as synthetic, and adds them again whenever a prompt is reposted. Files come from `Files`; only
 * the first bytes of a picture are checked.
 *
 * @since 0.1.0
 */
import type { Files } from "../Files.ts"
import type { IdGenerator } from "../Ids.ts"
import * as Failures from "./Failure.ts"
import type * as Payload from "./Payload.ts"
import type { Failure, FilePart, Part, PartBase } from "./Wire.ts"

/**
 * The parts to store, and failures that do not stop the prompt.
 *
 * @category models
 * @since 0.1.0
 */
export interface Resolved {
  readonly parts: ReadonlyArray<Part>
  readonly failures: ReadonlyArray<Failure>
}

/**
 * Resolves the parts of a prompt. It fails if the prompt cannot be stored.
 *
 * @category constructors
 * @since 0.1.0
 */
export const resolve = (
  services: { readonly files: Files; readonly ids: IdGenerator },
  owner: Pick<PartBase, "messageID" | "sessionID">,
  parts: Payload.Prompt["parts"]
): Resolved | Failure => {
  const { files, ids } = services
  const stored: Array<Part> = []
  const failures: Array<Failure> = []
  const synthetic = (text: string) => {
    stored.push({ id: ids.ascending("prt"), ...owner, type: "text", synthetic: true, text })
  }
  for (const { id, ...part } of parts) {
    // Ids in stream order: a part inserted before one without an id gets a smaller id.
    const keep = () => {
      stored.push({ id: id ?? ids.ascending("prt"), ...part, ...owner })
    }
    if (part.type === "agent") {
      keep()
      synthetic(
        ` Use the above message and context to generate a prompt and call the task tool with subagent: ${part.name}`
      )
      continue
    }
    if (part.type !== "file") {
      keep()
      continue
    }
    const resolved = resolveFile(files, part)
    if ("name" in resolved) return resolved
    resolved.texts.forEach(synthetic)
    if (resolved.failure !== undefined) failures.push(resolved.failure)
    if (resolved.file !== undefined) stored.push({ id: id ?? ids.ascending("prt"), ...resolved.file, ...owner })
  }
  return { parts: stored, failures }
}

/**
 * Why a message cannot be sent to the model: it contains a file of an unsupported type.
 *
 * @category getters
 * @since 0.1.0
 */
export const unsupported = (parts: ReadonlyArray<Part>): Failure | undefined => {
  const bad = parts.find((part) => part.type === "file" && !isSupported(part.mime))
  return bad?.type === "file"
    ? Failures.unknownError(`'file part media type ${bad.mime}' functionality not supported.`)
    : undefined
}

// internal

type Posted = Omit<FilePart, keyof PartBase>

interface ResolvedFile {
  readonly texts: ReadonlyArray<string>
  /** The part to store; `undefined` for a missing file. */
  readonly file: Posted | undefined
  readonly failure?: Failure
}

const isText = (mime: string) => mime === "text/plain" || mime === directoryType

const isSupported = (mime: string) => isText(mime) || mime.startsWith("image/") || mime === "application/pdf"

const directoryType = "application/x-directory"

const resolveFile = (files: Files, file: Posted): ResolvedFile | Failure => {
  const url = URL.parse(file.url)
  if (url === null) return Failures.unhandled(`TypeError: "${file.url}" cannot be parsed as a URL.`)
  if (url.protocol === "file:") return readFile(files, file, url)
  if (file.mime.startsWith("image/")) {
    const failure = pictureFailure(file.url)
    return failure ?? { texts: [], file }
  }
  if (url.protocol !== "data:" || file.mime !== "text/plain") return { texts: [], file }
  return { texts: [called({ filePath: file.filename }), decodeData(file.url)], file }
}

const readFile = (files: Files, file: Posted, url: URL): ResolvedFile | Failure => {
  const path = decodeURIComponent(url.pathname)
  const content = files.read(path)
  if (!isText(file.mime)) {
    if (content === undefined) return Failures.unhandled(`PlatformError: NotFound: FileSystem.readFile (${path})`)
    const data = btoa(String.fromCharCode(...new TextEncoder().encode(content)))
    return { texts: [called({ filePath: path })], file: { ...file, url: `data:${file.mime};base64,${data}` } }
  }
  const entries = files.entries(path)
  if (entries.length > 0) {
    const listing = `<path>${path}</path>\n<type>directory</type>\n<entries>\n${entries.join("\n")}\n\n` +
      `(${entries.length} entries)\n</entries>`
    return { texts: [called({ filePath: path }), listing], file: { ...file, mime: directoryType } }
  }
  const start = url.searchParams.get("start")
  const end = url.searchParams.get("end")
  const range = {
    ...(start !== null && { offset: Number(start) }),
    ...(start !== null && end !== null && { limit: Number(end) - Number(start) + 1 })
  }
  const texts = [called({ filePath: path, ...range })]
  if (content === undefined) {
    const reason = `File not found: ${path}`
    return {
      texts: [...texts, `Read tool failed to read ${path} with the following error: ${reason}`],
      file: undefined,
      failure: Failures.unknownError(reason)
    }
  }
  return { texts: [...texts, listing(path, content, range)], file }
}

/** The text of the `read` tool. */
const listing = (path: string, content: string, range: { readonly offset?: number; readonly limit?: number }) => {
  const lines = content.replace(/\n$/, "").split("\n")
  const first = range.offset ?? 1
  const last = Math.min(lines.length, first - 1 + (range.limit ?? lines.length))
  const shown = lines.slice(first - 1, last).map((line, index) => `${first + index}: ${line}`)
  const end = last === lines.length
    ? `(End of file - total ${lines.length} lines)`
    : `(Showing lines ${first}-${last} of ${lines.length}. Use offset=${last + 1} to continue.)`
  return `<path>${path}</path>\n<type>file</type>\n<content>\n${shown.join("\n")}\n\n${end}\n</content>`
}

const called = (input: object) => `Called the Read tool with the following input: ${JSON.stringify(input)}`

const decodeData = (url: string): string => {
  const comma = url.indexOf(",")
  const data = url.slice(comma + 1)
  return url.slice(0, comma).endsWith(";base64")
    ? new TextDecoder().decode(Uint8Array.from(atob(data), (char) => char.charCodeAt(0)))
    : decodeURIComponent(data)
}

const pictureFailure = (url: string): Failure | undefined => {
  const data = /^data:image\/[^,]*;base64,(.*)$/s.exec(url)?.[1]
  if (data === undefined) return Failures.unhandled("ImageInvalidDataUrlError: Image URL must be a base64 data URL")
  return pictureStarts.some((start) => data.startsWith(start))
    ? undefined
    : Failures.unhandled("ImageDecodeError: Image could not be decoded")
}

/** The first bytes of PNG, JPEG, GIF and WebP, in base64. */
const pictureStarts = ["iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR"]
