import { options, render } from "preact"
import { App } from "./app/App.tsx"
import { watch } from "./app/Notify.tsx"
import { start } from "./state/Model.ts"
import { leftover, send } from "./state/Send.ts"

// Once for each frame that is drawn, however many updates come.
options.debounceRendering = (draw) => {
  if (document.hidden) setTimeout(draw, 200)
  else requestAnimationFrame(draw)
}

const root = document.querySelector("#app")
if (root !== null) {
  root.replaceChildren()
  start()
  watch()
  render(<App />, root)
  const left = leftover()
  if (left !== undefined) void send(left)
}
