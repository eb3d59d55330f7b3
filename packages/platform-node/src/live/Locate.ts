/**
 * Finds OpenCode's binary on `PATH` or in the npm package, and recognizes files that are not a binary.
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as Result from "effect/Result"
import { createRequire } from "node:module"

/** Tells a stub of `opencode-ai` (half a kilobyte) from a binary (more than a hundred megabytes). */
const smallestBinaryBytes = 1_000_000

const isBinary = Effect.fnUntraced(function*(file: string) {
  const fs = yield* FileSystem.FileSystem
  return yield* fs.stat(file).pipe(
    Effect.map((info) => info.type === "File" && info.size >= smallestBinaryBytes),
    Effect.orElseSucceed(() => false)
  )
})

const isWindows = process.platform === "win32"

/** The absolute folders of `PATH`. A relative or empty entry means a folder of the working directory, so it is left out. */
export const searchPath = Effect.gen(function*() {
  const path = yield* Path.Path
  const folders = (yield* Config.String("PATH").pipe(Config.withDefault(""))).split(isWindows ? ";" : ":")
  return folders.filter((folder) => path.isAbsolute(folder))
})

/** Finds a program by its path, or by its name in the folders. */
export const findCommand = Effect.fnUntraced(function*(command: string, searched: ReadonlyArray<string>) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const hasFolder = command.includes("/") || (isWindows && command.includes("\\"))
  const folders = hasFolder ? [""] : searched
  const names = isWindows && !command.endsWith(".exe") ? [`${command}.exe`, command] : [command]
  const candidates = folders.flatMap((folder) => names.map((name) => path.resolve(folder, name)))
  return yield* Effect.findFirst(candidates, (file) =>
    fs.stat(file).pipe(
      Effect.map((info) => info.type === "File"),
      Effect.orElseSucceed(() => false)
    ))
})

/** What OpenCode is called on `PATH`: 1.x and 2.x have the first name, a beta of 2.x has the second one. */
const names = ["opencode", "opencode2"]

/** Finds the binary as `OpencodeServer.locate` says, with the package resolved from the file `origin`. A failure is what was looked for. */
export const search = Effect.fnUntraced(function*(
  origin: string,
  { command, directory = "." }: { readonly command?: string | undefined; readonly directory?: string | undefined }
): Effect.fn.Return<Result.Result<string, Array<string>>, Config.ConfigError, FileSystem.FileSystem | Path.Path> {
  const configured = command ?? (yield* Config.String("OPENCODE_BIN").pipe(Config.withDefault("")))
  const folders = yield* searchPath
  if (configured !== "") return Result.fromOption(yield* findCommand(configured, folders), () => [configured])

  const installed = yield* findInstalled(origin)
  if (Option.isSome(installed)) return Result.succeed(installed.value)

  const path = yield* Path.Path
  const project = path.resolve(directory) + path.sep
  // `npm run` puts these folders at the front of `PATH`.
  const isOfProject = (folder: string) =>
    path.normalize(folder).startsWith(project) && path.normalize(folder).split(path.sep).includes("node_modules")
  const allowed = folders.filter((folder) => !isOfProject(folder))
  for (const name of names) {
    const found = yield* findCommand(name, allowed)
    if (Option.isSome(found)) return Result.succeed(found.value)
  }
  return Result.fail(["the package opencode-ai", ...names.map((name) => `${name} on PATH`)])
})

/** Finds the binary of the npm package `opencode-ai`, resolved from the file `origin`. */
export const findInstalled = Effect.fnUntraced(function*(origin: string) {
  const path = yield* Path.Path
  const launcher = resolveManifest(origin, "opencode-ai")
  if (Option.isNone(launcher)) {
    return Option.none()
  }
  const name = `opencode-${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`
  const candidates = [
    path.join(path.dirname(launcher.value), "bin", "opencode.exe"),
    // The baseline build runs on every CPU. The other build needs AVX2 and dies of an illegal instruction without it.
    ...["-baseline", "", "-baseline-musl", "-musl"].flatMap((suffix) =>
      Option.match(resolveManifest(launcher.value, name + suffix), {
        onNone: () => [],
        onSome: (manifest) => [
          path.join(path.dirname(manifest), "bin", process.platform === "win32" ? "opencode.exe" : "opencode")
        ]
      })
    )
  ]
  return yield* Effect.findFirst(candidates, isBinary)
})

const resolveManifest = (origin: string, name: string): Option.Option<string> =>
  Option.liftThrowable(() => createRequire(origin).resolve(`${name}/package.json`))()
