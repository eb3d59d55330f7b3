/**
 * What a person has to know of the call for which OpenCode 2.x asks. It names the file of an edit and the agent of a subagent alone, where
 * 1.x shows the change and the task (0.0.0-next-16350).
 *
 * @since 0.1.0
 */

/**
 * The `metadata` that 1.x gives an ask of such a call, from its input: the change as a `diff`, or the `description` of the task.
 *
 * @category translations
 * @since 0.1.0
 */
export const metadataOf = (
  tool: string,
  { content, description, newString, oldString, path }: Readonly<Record<string, unknown>>
): { readonly diff?: string; readonly description?: string } => {
  if (tool === "subagent") return typeof description === "string" ? { description } : {}
  if (typeof path !== "string") return {}
  if (tool === "write" && typeof content === "string") return { diff: diffOf(path, "", content) }
  return tool === "edit" && typeof oldString === "string" && typeof newString === "string"
    ? { diff: diffOf(path, oldString, newString) }
    : {}
}

// internal

/**
 * The lines that are given up and those in their place, between the ones that both texts begin and end with. It takes no longer than
 * reading both, because a model may write any number of lines.
 */
const diffOf = (path: string, before: string, after: string): string => {
  const old = linesOf(before)
  const now = linesOf(after)
  const shorter = Math.min(old.length, now.length)
  let start = 0
  while (start < shorter && old[start] === now[start]) start++
  let end = 0
  while (end < shorter - start && old[old.length - 1 - end] === now[now.length - 1 - end]) end++
  return [
    `--- ${path}`,
    `+++ ${path}`,
    ...old.slice(0, start).map((line) => ` ${line}`),
    ...old.slice(start, old.length - end).map((line) => `-${line}`),
    ...now.slice(start, now.length - end).map((line) => `+${line}`),
    ...old.slice(old.length - end).map((line) => ` ${line}`),
    ""
  ].join("\n")
}

/** What follows the last line break is a line unless it is empty. */
const linesOf = (text: string): ReadonlyArray<string> => {
  const lines = text.split("\n")
  return lines.at(-1) === "" ? lines.slice(0, -1) : lines
}
