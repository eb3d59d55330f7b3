/**
 * Reads back the files that an agent made, where this program shares their disk.
 *
 * **Responsibilities**: a bounded read of regular files, no way out of the folder through links or `..`, and the media type.
 *
 * **Not responsibilities**: which files a turn changed (`Artifact`), and files of a server on another machine.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Path from "effect/Path"
import { InvalidInput } from "../domain/TurnError.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import { readRegularFile, whyUnreadable } from "./Attachment.ts"
import * as Media from "./Media.ts"

/**
 * A file that was read back.
 *
 * @category models
 * @since 0.1.0
 */
export interface ArtifactFile {
  readonly path: string
  readonly bytes: Uint8Array
  readonly mediaType: string
}

/**
 * Reads a file of the agent's folder: `path` is that of an artifact, relative to the folder or absolute.
 *
 * **Details**
 *
 * Fails with `InvalidInput` for a file that lies outside of the folder, also behind a link of any directory on the way, for one that is no
 * regular file, and for one of more than `maxBytes` (`TurnPolicy.MaxAttachmentBytes` by default).
 *
 * **Gotchas**
 *
 * An agent that still runs can change the folder during the read. Read when its turn has ended.
 *
 * @category running
 * @since 0.1.0
 */
export const read = Effect.fn("ArtifactFile.read")(function*(
  folder: string,
  path: string,
  options: { readonly maxBytes?: number | undefined } = {}
): Effect.fn.Return<ArtifactFile, InvalidInput, FileSystem.FileSystem | Path.Path> {
  const fs = yield* FileSystem.FileSystem
  const paths = yield* Path.Path
  const maxBytes = options.maxBytes ?? (yield* TurnPolicy.MaxAttachmentBytes)
  const real = (name: string) => Effect.mapError(fs.realPath(name), (error) => invalid(name, whyUnreadable(error)))
  const root = yield* real(folder)
  const file = yield* real(paths.resolve(root, path))
  const inside = paths.relative(root, file)
  if (inside === "" || inside === ".." || inside.startsWith(`..${paths.sep}`) || paths.isAbsolute(inside)) {
    return yield* invalid(path, "lies outside of the folder")
  }
  const bytes = yield* Effect.mapError(
    readRegularFile(file, { maxBytes, folder: "name its files", tooLarge: "" }),
    (why) => invalid(path, why)
  )
  return { path, bytes, mediaType: mediaType(path, bytes) }
})

/**
 * The media type of a file: by its first bytes for images and PDFs, else by its name, else `text/plain` or `application/octet-stream`.
 *
 * @category getters
 * @since 0.1.0
 */
export const mediaType: (path: string, bytes: Uint8Array) => string = Media.ofBytes

// internal

const invalid = (path: string, why: string) =>
  new InvalidInput({ field: "artifact", reason: `${JSON.stringify(path)} ${why}` })
