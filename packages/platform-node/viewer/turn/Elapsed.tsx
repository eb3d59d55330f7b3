/** How long something took, or takes so far. */
import { nowMillis } from "../state/Model.ts"
import { duration } from "../text/Format.ts"

export const Elapsed = (
  { fromMillis, toMillis }: { readonly fromMillis: number | undefined; readonly toMillis: number | undefined }
) => {
  if (fromMillis === undefined) return null
  const millis = (toMillis ?? nowMillis.value) - fromMillis
  return <span class="elapsed">{duration(millis)}</span>
}
