import { history } from "../honesty/History1x.ts"
import { declare, onBoth } from "../honesty/Honesty.ts"
import { agents, answers } from "../honesty/Routes1x.ts"

declare("1.x", {
  "forks, reverts and compactions in a folder": onBoth(history),
  "forks, reverts and compactions in a repository": onBoth(history, "repository"),
  "the agents and their permissions": onBoth(agents),
  "the shapes of answers and errors": onBoth(answers)
})
