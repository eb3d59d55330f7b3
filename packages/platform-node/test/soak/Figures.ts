/** The results of the rounds of a soak, in numbers. */
import type { Outcome, Result } from "./Round.ts"

export interface Figures {
  readonly rounds: number
  readonly turns: number
  readonly workersLost: number
  readonly serverKills: number
  readonly carrierKills: number
  readonly extraModelCalls: number
  readonly violations: ReadonlyArray<string>
  readonly outcomes: ReadonlyArray<Outcome>
}

export const of = (results: ReadonlyArray<Result>): Figures => {
  const outcomes = results.flatMap((result) => result.outcomes)
  return {
    rounds: results.length,
    turns: outcomes.length,
    workersLost: outcomes.filter(isLost).length,
    serverKills: sum(results, (result) => result.serverKills),
    carrierKills: sum(results, (result) => result.carrierKills),
    extraModelCalls: sum(outcomes, (outcome) => outcome.extraModelCalls),
    violations: [
      ...results.flatMap((result) => result.violations),
      ...outcomes.flatMap((outcome) => outcome.violations)
    ],
    outcomes
  }
}

/** One line for each end: how often it happened, the time until another worker took the turn, and the time until the turn was terminal. */
export const table = ({ outcomes }: Figures): string => {
  const ends = [...new Set(outcomes.map(({ end }) => end))].sort()
  const rows = ends.map((end) => {
    const those = outcomes.filter((outcome) => outcome.end === end)
    return [
      end,
      `${those.length}`,
      `${those.filter(({ isUnclaimed }) => isUnclaimed).length}`,
      `${those.filter(({ isUnbegun }) => isUnbegun).length}`,
      `${sum(those, ({ extraModelCalls }) => extraModelCalls)}`,
      spread(those.flatMap(({ toTakeOver }) => toTakeOver ?? [])),
      spread(those.flatMap(({ toTerminal }) => toTerminal ?? []))
    ]
  })
  return align([
    ["end of the worker", "turns", "unclaimed", "server away", "extra calls", "to take-over (s)", "to terminal (s)"],
    ...rows
  ])
}

/**
 * The number of turns that were taken over too late: more than 6 s after their worker died, or 2 s after it was asked to stop. A busy
 * machine may need longer, so this is not an invariant.
 */
export const late = ({ outcomes }: Figures): number =>
  outcomes.filter(({ end, toTakeOver }) => (toTakeOver ?? 0) > (end.startsWith("stopped") ? 2000 : 6000)).length

/** The median and the largest value, in seconds. */
export const spread = (millis: ReadonlyArray<number>): string => {
  const sorted = [...millis].sort((a, b) => a - b)
  const last = sorted.at(-1)
  if (last === undefined) return "–"
  const median = sorted[Math.floor(sorted.length / 2)] ?? last
  return `${seconds(median)} (max ${seconds(last)})`
}

// internal

const isLost = ({ end }: Outcome): boolean => end !== "spared"

const seconds = (millis: number): string => (millis / 1000).toFixed(1)

const sum = <A>(items: ReadonlyArray<A>, of: (item: A) => number): number =>
  items.reduce((total, item) => total + of(item), 0)

const align = (rows: ReadonlyArray<ReadonlyArray<string>>): string => {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  return rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ").trimEnd()).join("\n")
}
