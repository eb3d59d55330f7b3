/**
 * The pieces in which a scripted text is sent.
 */

/** Splits a text into this number of pieces, or behind each word. */
export const split = (text: string, chunks: number | undefined): ReadonlyArray<string> => {
  if (text === "") return []
  if (chunks === undefined) return text.match(/\S+\s*|\s+/g) ?? []
  const size = Math.ceil(text.length / chunks)
  return Array.from(
    { length: Math.ceil(text.length / size) },
    (_, index) => text.slice(index * size, (index + 1) * size)
  )
}
