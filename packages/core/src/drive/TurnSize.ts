/**
 * How much a turn holds, and whether that is more than `TurnPolicy.Budget` allows.
 *
 * A server that goes on opening parts, sessions and requests would take all of a process, and no turn beside this one would get on.
 *
 * @since 0.1.0
 */
import { BudgetExceeded } from "../domain/TurnError.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import * as Reply from "../reply/Reply.ts"

/**
 * The first limit of size that the reply is over. Costs the number of subagents.
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
