/**
 * Compares the size of a turn with the limits of `TurnPolicy.Budget`.
 *
 * A server that keeps opening parts, sessions and asks would use up the process, and starve all other turns in it.
 *
 * @since 0.1.0
 */
import { BudgetExceeded } from "../domain/TurnError.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import * as Reply from "../reply/Reply.ts"

/**
 * The first limit of size that the reply exceeds. Takes time in proportion to the number of subagents.
 *
 * @category predicates
 * @since 0.1.0
 */
export const exceeded = (limits: TurnPolicy.Budget, reply: Reply.Reply): BudgetExceeded | undefined => {
  const size = Reply.size(reply)
  for (const limit of TurnPolicy.sizes) {
    const allowed = limits[limit] ?? TurnPolicy.defaultSize[limit]
    if (size[limit] > allowed) return new BudgetExceeded({ limit, allowed, value: size[limit] })
  }
  return undefined
}
