/**
 * Patches as OpenCode writes and reads them: unified diffs, and the text of `apply_patch`.
 *
 * **Gotchas**
 *
 * The diff computes a longest common subsequence in `lines × lines` time and memory, which suffices for test files.
 *
 * @since 0.1.0
 */

/**
 * A diff of two texts, with the numbers of added and deleted lines.
 *
 * @category models
 * @since 0.1.0
 */
export interface Patch {
  readonly patch: string
  readonly additions: number
  readonly deletions: number
}

/**
 * The unified diff of a file.
 *
 * **Details**
 *
 * The tools show four lines around each change. The summary of a turn shows the whole file, with a tab after the file names.
 *
 * @category constructors
 * @since 0.1.0
 */
export const unified = (
  path: string,
  before: string,
  after: string,
  options: { readonly context: number; readonly suffix: string }
): Patch => {
  const lines = compare(cut(before), cut(after))
  const header = `Index: ${path}\n${"=".repeat(67)}\n--- ${path}${options.suffix}\n+++ ${path}${options.suffix}\n`
  const hunks = hunksOf(lines, options.context).map(([start, end]) => {
    const old = rangeOf(lines, start, end, "+")
    const now = rangeOf(lines, start, end, "-")
    return `@@ -${old} +${now} @@\n${lines.slice(start, end).map(printed).join("")}`
  })
  return {
    patch: header + hunks.join(""),
    additions: lines.filter(({ sign }) => sign === "+").length,
    deletions: lines.filter(({ sign }) => sign === "-").length
  }
}

/**
 * The part of an `apply_patch` text about one file. A hunk holds the old and the new lines.
 *
 * @category models
 * @since 0.1.0
 */
export type FilePatch =
  | { readonly type: "add"; readonly path: string; readonly content: string }
  | { readonly type: "delete"; readonly path: string }
  | {
    readonly type: "update"
    readonly path: string
    readonly movePath: string | undefined
    readonly hunks: ReadonlyArray<{ readonly before: ReadonlyArray<string>; readonly after: ReadonlyArray<string> }>
  }

/**
 * Parses a text for `apply_patch`; `undefined` if its beginning or its end is missing.
 *
 * @category decoding
 * @since 0.1.0
 */
export const parse = (patchText: string): ReadonlyArray<FilePatch> | undefined => {
  const text = /^\*\*\* Begin Patch\n(.*)^\*\*\* End Patch$/ms.exec(patchText.trim())?.[1]
  return text?.split(/^(?=\*\*\* (?:Add|Delete|Update) File: )/m).flatMap((section): ReadonlyArray<FilePatch> => {
    const [head = "", ...body] = section.replace(/\n$/, "").split("\n")
    const [, verb, path = ""] = /^\*\*\* (Add|Delete|Update) File: (.*)$/.exec(head) ?? []
    switch (verb) {
      case "Add":
        return [{ type: "add", path, content: body.map((line) => `${line.slice(1)}\n`).join("") }]
      case "Delete":
        return [{ type: "delete", path }]
      case "Update": {
        const movePath = /^\*\*\* Move to: (.*)$/.exec(body[0] ?? "")?.[1]
        const changes = movePath === undefined ? body : body.slice(1)
        return [{ type: "update", path, movePath, hunks: changes.join("\n").split(/^@@.*$/m).flatMap(toHunk) }]
      }
      default:
        return []
    }
  })
}

// internal

interface Line {
  readonly sign: " " | "+" | "-"
  readonly text: string
}

/** Lines with their line breaks. */
const cut = (text: string): ReadonlyArray<string> => text.split(/(?<=\n)/).filter((line) => line !== "")

const compare = (before: ReadonlyArray<string>, after: ReadonlyArray<string>): ReadonlyArray<Line> => {
  // The length of the longest common subsequence from each pair of positions to the ends.
  const common = before.concat("").map(() => after.concat("").map(() => 0))
  const at = (row: number, column: number) => common[row]?.[column] ?? 0
  for (let row = before.length - 1; row >= 0; row--) {
    for (let column = after.length - 1; column >= 0; column--) {
      const length = before[row] === after[column]
        ? at(row + 1, column + 1) + 1
        : Math.max(at(row + 1, column), at(row, column + 1))
      common[row]?.splice(column, 1, length)
    }
  }
  const lines: Array<Line> = []
  let row = 0
  let column = 0
  while (row < before.length || column < after.length) {
    const [old, now] = [before[row], after[column]]
    if (old !== undefined && old === now) {
      lines.push({ sign: " ", text: old })
      row++
      column++
    } else if (old !== undefined && (now === undefined || at(row + 1, column) >= at(row, column + 1))) {
      lines.push({ sign: "-", text: old })
      row++
    } else {
      lines.push({ sign: "+", text: now ?? "" })
      column++
    }
  }
  return lines
}

const hunksOf = (lines: ReadonlyArray<Line>, context: number): ReadonlyArray<readonly [number, number]> => {
  const hunks: Array<[number, number]> = []
  for (const [index, { sign }] of lines.entries()) {
    if (sign === " ") continue
    const [start, end] = [Math.max(0, index - context), Math.min(lines.length, index + 1 + context)]
    const last = hunks.at(-1)
    if (last !== undefined && start <= last[1]) last[1] = end
    else hunks.push([start, end])
  }
  return hunks
}

/** The position of a hunk in one of the two files, and its number of lines there. */
const rangeOf = (lines: ReadonlyArray<Line>, start: number, end: number, other: Line["sign"]): string => {
  const count = (part: ReadonlyArray<Line>) => part.filter(({ sign }) => sign !== other).length
  const length = count(lines.slice(start, end))
  return `${count(lines.slice(0, start)) + (length === 0 ? 0 : 1)},${length}`
}

const printed = ({ sign, text }: Line): string =>
  text.endsWith("\n") ? sign + text : `${sign}${text}\n\\ No newline at end of file\n`

const toHunk = (text: string) => {
  const lines = text.split("\n").filter((line) => line !== "")
  if (lines.length === 0) return []
  const without = (sign: string) => lines.filter((line) => !line.startsWith(sign)).map((line) => line.slice(1))
  return [{ before: without("+"), after: without("-") }]
}
