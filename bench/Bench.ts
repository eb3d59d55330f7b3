/**
 * A benchmark, and what it comes to.
 */

/** How long a run may take, and so how often everything is measured. */
export interface Size {
  readonly isQuick: boolean
  /** Measurements of each job. */
  readonly rounds: number
}

/** One line of the result. */
export interface Row {
  readonly name: string
  /** The median, with its unit. */
  readonly measured: string
  /** How it compares to what the goal is about, unless it is that itself. */
  readonly ratio?: number | undefined
  /** The most that the ratio may be. */
  readonly goal?: number | undefined
  /** What the ratio is to. */
  readonly against?: string | undefined
}

/** Something to measure. */
export interface Bench {
  readonly name: string
  readonly title: string
  readonly run: (size: Size) => Promise<ReadonlyArray<Row> | string>
}

/** Whether the row has a goal and meets it. */
export const isMet = ({ goal, ratio }: Row): boolean | undefined =>
  goal === undefined || ratio === undefined ? undefined : ratio <= goal

/** The bench's result as lines of text. */
export const table = (rows: ReadonlyArray<Row>): string => {
  const cells = rows.map((row) => {
    const met = isMet(row)
    return [
      row.name,
      row.measured,
      row.ratio === undefined ? "" : `${row.ratio.toFixed(2)} × ${row.against ?? ""}`,
      row.goal === undefined ? "" : `≤ ${row.goal}`,
      met === undefined ? "" : met ? "met" : "NOT MET"
    ]
  })
  const widths = cells.reduce<ReadonlyArray<number>>(
    (widths, row) => row.map((cell, column) => Math.max(cell.length, widths[column] ?? 0)),
    []
  )
  return cells
    .map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ").trimEnd())
    .map((line) => `  ${line}\n`)
    .join("")
}
