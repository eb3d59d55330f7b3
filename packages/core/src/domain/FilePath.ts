/**
 * Paths as a server writes them, in one spelling: absolute where that can be known, with `/`.
 *
 * @since 0.1.0
 */

/** A path against the folder that it is relative to. Backslashes separate on Windows only: elsewhere they are part of a name. */
export const resolve = (folder: string | undefined, path: string): string => {
  const isWindows = isOfWindows(path) || (folder !== undefined && isOfWindows(folder))
  const own = isWindows ? path.replaceAll("\\", "/") : path
  const base = isWindows ? folder?.replaceAll("\\", "/") : folder
  const full = base === undefined || /^(?:\/|[A-Za-z]:\/)/.test(own) ? own : `${base}/${own}`
  const [root = ""] = /^(?:[A-Za-z]:\/|\/*)/.exec(full) ?? []
  const names: Array<string> = []
  for (const name of full.slice(root.length).split("/")) {
    if (name === "..") names.pop()
    else if (name !== "" && name !== ".") names.push(name)
  }
  return `${isWindows ? root.toUpperCase() : root.slice(0, 1)}${names.join("/")}`
}

/** A resolved path without the folder, if it lies inside. */
export const within = (folder: string | undefined, path: string): string => {
  if (folder === undefined) return path
  const resolved = resolve(undefined, folder)
  const prefix = resolved.endsWith("/") ? resolved : `${resolved}/`
  return path.startsWith(prefix) ? path.slice(prefix.length) : path
}

/** A path in quotes, for a message. Control characters are escaped; a backslash is shown as the one character that it is. */
export const quoted = (path: string): string => JSON.stringify(path).replaceAll("\\\\", "\\")

// internal

const isOfWindows = (path: string): boolean => /^(?:[A-Za-z]:[\\/]|\\\\)/.test(path)
