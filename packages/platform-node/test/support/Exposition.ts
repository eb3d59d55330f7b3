/**
 * A strict reader of the text format of Prometheus (0.0.4), with the rules of `promtool check metrics`.
 */

/** One line of numbers. */
export interface Sample {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

/** The lines of one metric. */
export interface Family {
  readonly name: string
  readonly type: string
  readonly help: string
  readonly samples: ReadonlyArray<Sample>
}

/** Reads a page, and throws for anything that Prometheus would refuse or promtool would complain about. */
export const parse = (text: string): ReadonlyMap<string, Family> => {
  const families = new Map<string, { name: string; type: string; help: string; samples: Array<Sample> }>()
  let current: { name: string; type: string; help: string; samples: Array<Sample> } | undefined
  if (!text.endsWith("\n")) throw new Error("the page does not end with a line break")
  for (const line of text.slice(0, -1).split("\n")) {
    const [, keyword, name = "", rest = ""] = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line) ?? []
    if (keyword === "HELP") {
      if (!/^[a-zA-Z_:][\w:]*$/.test(name)) throw new Error(`no name of a metric: ${line}`)
      if (families.has(name)) throw new Error(`${name} stands in two places`)
      if (/\\(?![\\n])/.test(rest)) throw new Error(`a wrong escape: ${line}`)
      current = { name, type: "", help: rest, samples: [] }
      families.set(name, current)
    } else if (keyword === "TYPE") {
      if (current?.name !== name) throw new Error(`${name} has no help before its type`)
      if (current.type !== "" || current.samples.length > 0) throw new Error(`${name} has its type too late`)
      if (!/^(?:counter|gauge|histogram|summary|untyped)$/.test(rest)) throw new Error(`no type: ${line}`)
      current.type = rest
    } else {
      const sample = readSample(line)
      if (current === undefined || !namesOf(current).includes(sample.name)) {
        throw new Error(`${sample.name} does not belong to ${current?.name}`)
      }
      current.samples.push(sample)
    }
  }
  for (const family of families.values()) check(family)
  return families
}

const namesOf = ({ name, type }: Pick<Family, "name" | "type">): ReadonlyArray<string> =>
  type === "histogram" ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name]

const readSample = (line: string): Sample => {
  const match = /^(?<name>[a-zA-Z_:][\w:]*)(?:\{(?<labels>.*)\})? (?<value>\S+)$/.exec(line)
  if (match?.groups === undefined) throw new Error(`no sample: ${line}`)
  const { labels = "", name = "", value = "" } = match.groups
  if (!/^(?:[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?|[+-]Inf|NaN)$/.test(value)) throw new Error(`no number: ${line}`)
  return { name, labels: readLabels(labels), value: Number(value.replace("Inf", "Infinity")) }
}

const readLabels = (text: string): Readonly<Record<string, string>> => {
  const labels: Record<string, string> = {}
  let rest = text
  while (rest !== "") {
    const match = /^(?<name>[a-zA-Z_]\w*)="(?<value>(?:[^"\\\n]|\\[\\"n])*)"(?:,(?=[a-zA-Z_])|$)/.exec(rest)
    if (match?.groups === undefined) throw new Error(`no labels: ${text}`)
    const { name = "", value = "" } = match.groups
    if (name in labels) throw new Error(`${name} stands twice in ${text}`)
    if (name.startsWith("__")) throw new Error(`${name} is Prometheus' own`)
    labels[name] = value.replaceAll(/\\(.)/g, (_, escaped: string) => (escaped === "n" ? "\n" : escaped))
    rest = rest.slice(match[0].length)
  }
  return labels
}

const check = (family: Family): void => {
  const { help, name, samples, type } = family
  if (type === "") throw new Error(`${name} has no type`)
  if (help === "") throw new Error(`${name} has no help`)
  if (samples.length === 0) throw new Error(`${name} has no samples`)
  const series = samples.map((sample) => `${sample.name} ${JSON.stringify(Object.entries(sample.labels).toSorted())}`)
  if (new Set(series).size !== series.length) throw new Error(`${name} has a series twice`)
  if ((type === "counter") !== name.endsWith("_total")) throw new Error(`${name} is a ${type}`)
  if (/_(?:milliseconds|ms|minutes|hours|counter|gauge|histogram|bucket|sum|count)(?:_|$)/.test(name)) {
    throw new Error(`${name} has a unit or a type that promtool refuses`)
  }
  if (/[A-Z]/.test(name.replaceAll("USD", ""))) throw new Error(`${name} is no snake case`)
  if (type === "counter" && samples.some(({ value }) => !(value >= 0))) throw new Error(`${name} fell`)
  if (type === "histogram") checkHistogram(family)
}

const checkHistogram = ({ name, samples }: Family): void => {
  const groups = new Map<string, Array<Sample>>()
  for (const sample of samples) {
    const { le: _, ...labels } = sample.labels
    const key = JSON.stringify(Object.entries(labels).toSorted())
    groups.set(key, [...groups.get(key) ?? [], sample])
  }
  for (const [labels, group] of groups) {
    const valuesOf = (suffix: string) => group.filter((sample) => sample.name === `${name}_${suffix}`)
    const buckets = valuesOf("bucket")
    const bounds = buckets.map((bucket) => Number((bucket.labels["le"] ?? "").replace("+Inf", "Infinity")))
    const [count, ...counts] = valuesOf("count")
    if (count === undefined || counts.length > 0 || valuesOf("sum").length !== 1) {
      throw new Error(`${name}${labels} has not one sum and one count`)
    }
    if (bounds.at(-1) !== Infinity || buckets.at(-1)?.value !== count.value) {
      throw new Error(`${name}${labels} has not all values in its last bucket`)
    }
    for (const [index, bucket] of buckets.entries()) {
      const before = buckets[index - 1]
      if (before === undefined) continue
      if (!((bounds[index] ?? NaN) > (bounds[index - 1] ?? NaN)) || bucket.value < before.value) {
        throw new Error(`the buckets of ${name}${labels} do not grow`)
      }
    }
  }
}
