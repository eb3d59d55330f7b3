/** A button that copies a text. */
import { useState } from "preact/hooks"

export const Copy = ({ text }: { readonly text: string }) => {
  const [isCopied, setCopied] = useState(false)
  // Only pages of this machine, or with TLS, may write to the clipboard.
  if (!("clipboard" in navigator)) return null
  return (
    <button
      type="button"
      class="quiet"
      onClick={() =>
        void navigator.clipboard.writeText(text).then(() => {
          setCopied(true)
          setTimeout(() => setCopied(false), 1_500)
        }, () => undefined)}
    >
      {isCopied ? "Copied" : "Copy"}
    </button>
  )
}
