import { declare, onBoth } from "../honesty/Honesty.ts"
import { agents, answers } from "../honesty/Routes2x.ts"

declare("2.x", {
  "the agents": onBoth(agents),
  "the shapes of answers and errors": onBoth(answers)
})
