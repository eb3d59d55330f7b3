/** Something that opens: what it holds is made only where it is open, so that a long turn stays light. */
import type { ComponentChildren } from "preact"
import { useState } from "preact/hooks"

export const Fold = (
  { children, isOpen: isOpenAtFirst = false, kind, onOpen, summary }: {
    readonly summary: ComponentChildren
    readonly kind: string
    readonly isOpen?: boolean
    readonly onOpen?: () => void
    readonly children: () => ComponentChildren
  }
) => {
  const [isOpen, setOpen] = useState(isOpenAtFirst)
  return (
    <details
      class={kind}
      open={isOpen}
      onToggle={({ currentTarget }) => {
        if (currentTarget.open && !isOpen) onOpen?.()
        setOpen(currentTarget.open)
      }}
    >
      <summary>{summary}</summary>
      {isOpen && <div class="inside">{children()}</div>}
    </details>
  )
}
