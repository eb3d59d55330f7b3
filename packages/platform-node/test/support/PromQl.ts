/**
 * What a query of Prometheus reads, by Prometheus' own grammar.
 */
import { parser } from "@prometheus-io/lezer-promql"

/** A metric, and the labels by which a query selects or groups it. */
export interface Read {
  readonly metric: string
  readonly labels: ReadonlyArray<string>
}

/** The metrics that a query reads. Throws for a query that Prometheus would refuse. */
export const readsOf = (query: string): ReadonlyArray<Read> => {
  const reads: Array<Read & { readonly from: number; readonly to: number }> = []
  const groups: Array<{ readonly labels: Array<string>; readonly from: number; readonly to: number }> = []
  const selectors: Array<{ readonly from: number; readonly to: number; metric: string; labels: Array<string> }> = []
  parser.parse(query).iterate({
    enter: ({ from, name, node, to, type }) => {
      const text = query.slice(from, to)
      if (type.isError) throw new Error(`no query at ${from}: ${query}`)
      if (name === "AggregateExpr") groups.push({ from, to, labels: [] })
      if (name === "VectorSelector") selectors.push({ from, to, metric: "", labels: [] })
      const selector = selectors.findLast((one) => one.from <= from && to <= one.to)
      if (name === "Identifier" && selector !== undefined) selector.metric = text
      if (name !== "LabelName") return
      if (node.parent?.name === "GroupingLabels") {
        groups.findLast((one) => one.from <= from && to <= one.to)?.labels.push(text)
      } else selector?.labels.push(text)
    }
  })
  for (const { from, labels, metric, to } of selectors) {
    const grouped = groups.filter((group) => group.from <= from && to <= group.to).flatMap((group) => group.labels)
    reads.push({ from, to, metric, labels: [...new Set([...labels, ...grouped])] })
  }
  if (reads.length === 0) throw new Error(`it reads nothing: ${query}`)
  return reads.map(({ labels, metric }) => ({ labels, metric }))
}
