/** A unified diff, with its signs as text, so that nobody has to see colours. */
export const Diff = ({ isWhole = false, text }: { readonly text: string; readonly isWhole?: boolean }) => {
  const lines = text.replace(/\n$/, "").split("\n").filter((line) => !noise.test(line))
  return (
    <pre class={isWhole ? "diff whole" : "diff"} tabIndex={0} aria-label="Changes">
      {(isWhole ? lines : lines.slice(0, maxLines)).map((line, index) => <span key={index} class={kindOf(line)}>{`${line}\n`}</span>)}
      {!isWhole && lines.length > maxLines && <span class="note">{`${lines.length - maxLines} more lines`}</span>}
    </pre>
  )
}

// internal

const maxLines = 2_000

/** Lines that say what the ones behind them say. */
const noise = /^(?:Index: |={20,}$|\\ No newline)/

const kindOf = (line: string): string =>
  /^(?:\+\+\+|---|diff ) ?/.test(line)
    ? "head"
    : line.startsWith("@@")
    ? "hunk"
    : line.startsWith("+")
    ? "added"
    : line.startsWith("-")
    ? "removed"
    : "same"
