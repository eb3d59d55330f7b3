/**
 * The commands of a line for the shell. OpenCode 2.x asks for the whole line, where 1.x asks for each of its commands; a rule about commands
 * that saw the line alone would take `git status && rm -rf .` for a `git` (0.0.0-next-16350).
 *
 * Nothing is left out: where a quote may not be what it seems, the line is cut at everything that can begin a command. So there may be pieces
 * that are no commands, and an ask for them goes to a person.
 *
 * @since 0.1.0
 */

/**
 * The commands, in their order, as rules compare them: without words of the shell's own such as `if` before them, and without a `cd` beside
 * others, as in 1.x.
 *
 * @category translations
 * @since 0.1.0
 */
export const commandsOf = (line: string): ReadonlyArray<string> => {
  const quoted = isPlain.test(line) ? pieces(line, true) : undefined
  const commands = (quoted ?? pieces(line, false) ?? []).map(trimmed).filter((piece) =>
    hasWord.test(piece) && !closing.has(piece)
  )
  const others = commands.filter((command) => !isMove.test(command))
  return others.length > 0 ? others : commands.length > 0 ? commands : [line]
}

// internal

/** No substitution, here-document, comment or quote of another kind, in which a quotation mark means nothing or something else. */
const isPlain = /^(?!.*(?:`|\$[('"]|[<>]\(|<<|(?:^|[\s;&|()])#))/s

const separators = new Set([";", "&", "|", "\n", "(", ")", "`"])

/** The pieces between separators. `isQuoting`: quotation marks and backslashes count; nothing if a quotation does not end. */
const pieces = (line: string, isQuoting: boolean): ReadonlyArray<string> | undefined => {
  const found: Array<string> = []
  let quote = ""
  let start = 0
  for (let at = 0; at < line.length; at++) {
    const symbol = line.charAt(at)
    if (isQuoting && symbol === "\\" && quote !== "'") {
      at++
    } else if (isQuoting && (symbol === quote || (quote === "" && (symbol === "'" || symbol === "\"")))) {
      quote = quote === "" ? symbol : ""
    } else if (quote === "" && separators.has(symbol) && !(symbol === "&" && isRedirection(line, at))) {
      found.push(line.slice(start, at))
      start = at + 1
    }
  }
  return quote === "" ? [...found, line.slice(start)] : undefined
}

/** `2>&1`, `&>file`; not `\>&`, which ends a command. */
const isRedirection = (line: string, at: number): boolean =>
  /(?:^|[^\\])[<>]$/.test(line.slice(Math.max(0, at - 2), at)) || line.charAt(at + 1) === ">"

const opening = /^(?:(?:if|then|elif|else|do|while|until|time|!|\{)(?:\s+|$))+/
const closing = new Set(["fi", "done", "esac", "}"])
const hasWord = /[^\s"'$<>\\]/
const isMove = /^cd(?:\s[^<>]*)?$/

const trimmed = (piece: string): string => piece.trim().replace(opening, "").replace(/[$<>]$/, "").trim()
