/**
 * The patterns of OpenCode's permission rules.
 *
 * @since 0.1.0
 */

/**
 * Whether a pattern matches the whole text.
 *
 * **Details**
 *
 * `*` stands for any text, including an empty one, line breaks and `/`. `?` stands for one character (one UTF-16 unit).
 * Every other character stands for itself, in the same case. A backslash counts as a slash in both texts. A pattern
 * that ends in ` *` also matches without that ending: `git *` matches `git` and `git status`, but not `gitk`.
 *
 * @category predicates
 * @since 0.1.0
 */
export const matches = (pattern: string, text: string): boolean => {
  const glob = withSlashes(pattern)
  const subject = withSlashes(text)
  return isMatch(glob, subject) || (glob.endsWith(optionalEnd) && isMatch(glob.slice(0, -optionalEnd.length), subject))
}

// internal

const optionalEnd = " *"

const withSlashes = (text: string): string => text.replaceAll("\\", "/")

/**
 * Only the last `*` is retried, one character further each time. The server builds a regular expression, whose time
 * grows exponentially with the number of stars. Agents choose the texts, so this algorithm stays below length × length.
 */
const isMatch = (glob: string, text: string): boolean => {
  let place = 0
  let at = 0
  let lastStar = -1
  let starEnd = 0
  while (at < text.length) {
    const symbol = glob[place]
    if (symbol === "*") {
      lastStar = place++
      starEnd = at
    } else if (symbol === "?" || symbol === text[at]) {
      place++
      at++
    } else if (lastStar !== -1) {
      place = lastStar + 1
      at = ++starEnd
    } else {
      return false
    }
  }
  while (glob[place] === "*") place++
  return place === glob.length
}
