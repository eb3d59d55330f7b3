/**
 * Paths from the server in one spelling: with `/`, and absolute where the folder is known.
 *
 * @since 0.1.0
 */

/** Resolves a path against a folder. A backslash separates names on Windows only; elsewhere it is part of a name. */
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

/** Removes the folder from a resolved path that lies inside it. */
export const within = (folder: string | undefined, path: string): string => {
  if (folder === undefined) return path
  const resolved = resolve(undefined, folder)
  const prefix = resolved.endsWith("/") ? resolved : `${resolved}/`
  return path.startsWith(prefix) ? path.slice(prefix.length) : path
}

/** Quotes a path for a message. Control characters are escaped; a backslash stays a single character. */
export const quoted = (path: string): string => JSON.stringify(path).replaceAll("\\\\", "\\")

// internal

const isOfWindows = (path: string): boolean => /^(?:[A-Za-z]:[\\/]|\\\\)/.test(path)
