/**
 * The table of versions and scripts in docs/SERVERS.md.
 */

/** What a script came to on a version: `failure` says what did not hold. */
export interface Outcome {
  readonly version: string
  readonly script: string
  readonly failure: string | undefined
}

const start = "<!-- pnpm versions: this table is written by the command -->"
const end = "<!-- end of the table -->"

/** Writes a row for each script, a column for each version, and a note for each failure. */
export const render = (outcomes: ReadonlyArray<Outcome>): string => {
  const versions = [...new Set(outcomes.map(({ version }) => version))].toSorted(byAge)
  const notes: Array<string> = []
  const noteOf = (failure: string): number => {
    const note = reasonIn(failure)
    if (!notes.includes(note)) notes.push(note)
    return notes.indexOf(note) + 1
  }
  const cell = (version: string, script: string): string => {
    const outcome = outcomes.find((outcome) => outcome.version === version && outcome.script === script)
    if (outcome === undefined) return ""
    return outcome.failure === undefined ? "yes" : `no (${noteOf(outcome.failure)})`
  }
  const rows = [...new Set(outcomes.map(({ script }) => script))].map((script) =>
    `| ${[script, ...versions.map((version) => cell(version, script))].join(" | ")} |`
  )
  return [
    `| | ${versions.join(" | ")} |`,
    `| --- |${" --- |".repeat(versions.length)}`,
    ...rows,
    ...(notes.length > 0 ? [""] : []),
    ...notes.map((note, index) => `${index + 1}. ${note}`)
  ].join("\n")
}

/** The betas of 2.x have the version 0.0.0-…, and come last. */
const byAge = (left: string, right: string): number =>
  Number(left.startsWith("0.")) - Number(right.startsWith("0.")) ||
  left.localeCompare(right, undefined, { numeric: true })

/** What an assertion or an error says, without its name, the values that it compared, and the server's address. */
const reasonIn = (failure: string): string =>
  (failure.split("\n", 1)[0] ?? "")
    .replace(/^AssertionError \[\w+\]: /, "")
    .replace(/^the turn ended with (?=UnsupportedOperation)/, "")
    .replace(/OpenCode at \S+ cannot do this \((.*?)\)(?:: .*)?$/, "$1")

/** Puts the table between the marks of the page. */
export const replaceIn = (page: string, table: string): string => {
  const from = page.indexOf(start)
  const to = page.indexOf(end)
  if (from === -1 || to === -1) throw new Error(`the page has no ${start} and ${end}`)
  return `${page.slice(0, from)}${start}\n\n${table}\n\n${page.slice(to)}`
}
