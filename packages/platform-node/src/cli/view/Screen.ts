/**
 * Renders a turn for a person: folds reply updates into text for the two streams.
 *
 * **Responsibilities**
 * - The text of the answer goes to `answer` as it arrives (`ScreenAnswer`). Reasoning, tools, to-dos, subagents (`ScreenSubagents`)
 *   and everything else go to `progress`. A structured answer is written to `answer` at the end, and nothing else is.
 * - The end shows the changed files and the cost (`Summary`).
 * - Control characters from a model or a server never reach the terminal.
 *
 * **Not responsibilities**: writing (`Streams`), asking (`TerminalGate`).
 */
import type { Part, ToolPart } from "@opencode-turn/core/Part"
import type { ReplyUpdate, Reset } from "@opencode-turn/core/ReplyUpdate"
import { describeRetry, describeTodo, describeTool } from "../../terminal/Describe.ts"
import { escapeJson, line } from "../../terminal/TerminalText.ts"
import type { Ending } from "./Ending.ts"
import * as ScreenAnswer from "./ScreenAnswer.ts"
import { aside, chain, closeAnswer, closeLine, lines, row, type Screen, type Step } from "./ScreenState.ts"
import * as ScreenSubagents from "./ScreenSubagents.ts"
import { describeName, type Summarized, summary } from "./Summary.ts"

export { make, type Options, pause, type Screen, type Step, type Write } from "./ScreenState.ts"

/** The fields of an ending that the screen shows. */
export type ShownEnding = Summarized & Pick<Ending, "content" | "message">

/** Shows an update. */
export const update = (self: Screen, update: ReplyUpdate): Step => {
  switch (update._tag) {
    case "TextDelta":
      return self.options.hasValue
        ? aside(self, update.partId, "saying", update.delta)
        : ScreenAnswer.showText(self, update.partId, update.delta)
    case "ReasoningDelta":
      return aside(self, update.partId, "thinking", update.delta)
    case "PartChanged":
      return showPart(self, update.part)
    case "PartRemoved":
      return ScreenAnswer.takeBack(self, update.partId)
    case "TodosChanged":
      return lines(self, update.todos.map((todo) => `  ${describeTodo(todo)}`))
    case "Asked":
      return update.openedBy === undefined && !self.subagents.has(update.ask.sessionId)
        ? lines(self, ScreenSubagents.linesOfAsk(self, update.ask))
        : ScreenSubagents.showAsk(self, update.ask)
    case "AskResolved":
    // The end of the turn reports the failure, and the conversation.
    case "Failed":
    case "Started":
      return [self, []]
    case "Retrying":
      return lines(self, [describeRetry(update.retry)])
    case "SubagentUpdate":
      return ScreenSubagents.update(self, update.sessionId, update.update)
    case "SubagentChanged":
      return ScreenSubagents.change(self, update.subagent)
    case "Reset":
      return reset(self, update)
  }
}

/** Shows how long the tool in the last line has been running, if that line can be drawn over. Call it about once a second. */
export const tick = (self: Screen, nowMillis: number): Step => {
  const { redrawable, working } = self
  if (working === undefined || redrawable?.id !== working.part.id) return [self, []]
  const { part, sinceMillis = nowMillis } = working
  const elapsedMillis = nowMillis - sinceMillis
  const ticked: Screen = { ...self, working: { part, sinceMillis } }
  return elapsedMillis < longMillis
    ? [ticked, []]
    : row(ticked, part.id, (width) => describeTool(part, width, elapsedMillis))
}

/** Shows a line of the command itself. */
export const note = (self: Screen, text: string): Step => lines(self, [line(text)])

/** Shows the rest of the result, and the summary of a stored turn. */
export const finish = (self: Screen, result: ShownEnding): Step =>
  chain(
    self,
    (screen) => ScreenAnswer.compare(screen, result.reply.parts),
    (screen) => ScreenSubagents.restore(screen, result.subagents),
    (screen) =>
      self.options.hasValue && result.status === "completed"
        ? ScreenAnswer.showValue(screen, escapeJson(result.content))
        : [screen, []],
    closeAnswer,
    (screen) => {
      // A person needs the conversation's name to show the stored turn or to continue it.
      if (result.message === undefined) return [screen, []]
      const hasWorked = result.reply.parts.length > 0 || result.usage.total.tokens.input > 0
      return lines(
        screen,
        result.status === "completed" || hasWorked ? summary(result, self.options.columns - 1) : [describeName(result)]
      )
    }
  )

// internal

const reset = (self: Screen, { parts, reason, subagents }: Reset): Step =>
  chain(
    self,
    (screen) =>
      reason === "recreated" || reason === "repaired" || reason === "refused"
        ? ScreenAnswer.restart(screen, restarts[reason]) :
        [screen, []],
    (screen) => ScreenAnswer.compare(screen, parts),
    (screen) => ScreenSubagents.restore(screen, subagents)
  )

const restarts = {
  recreated: "the session was lost: the agent starts again without the earlier conversation",
  repaired: "the answer did not fit the schema: the agent was told why and was asked again",
  refused: "refusals stopped the agent: it was told what was refused and why, and goes on without it"
}

const showPart = (self: Screen, part: Part): Step => {
  switch (part.type) {
    case "text": {
      if (self.options.hasValue) return showAside(self, part, "saying")
      const shown = self.texts.find(({ id }) => id === part.id)?.text ?? ""
      if (part.text === "") return ScreenAnswer.takeBack(self, part.id)
      return part.text.length > shown.length && part.text.startsWith(shown)
        ? ScreenAnswer.showText(self, part.id, part.text.slice(shown.length))
        : [self, []]
    }
    case "reasoning":
      return showAside(self, part, "thinking")
    case "tool":
      // The input is unknown until the tool runs.
      if (part.status === "pending") return [self, []]
      return chain(
        self,
        (screen) => row(withWorking(screen, part), part.id, (width) => describeTool(part, width)),
        (screen) => ScreenSubagents.showBelow(screen, part.id)
      )
    case "file":
      return lines(self, [`file ${line(part.filename ?? "")} (${line(part.mediaType)})`])
    case "patch":
      return lines(self, [`changed ${part.files.map(line).join(", ")}`])
    case "step-finish":
    case "todos":
      return [self, []]
  }
}

/** A tool that runs longer than this is drawn with its running time. */
const longMillis = 3000

const withWorking = (self: Screen, part: ToolPart): Screen => {
  const { working } = self
  if (part.status === "running") {
    return { ...self, working: { part, sinceMillis: working?.part.id === part.id ? working.sinceMillis : undefined } }
  }
  return working?.part.id === part.id ? { ...self, working: undefined } : self
}

/** Shows the text of a part shown as progress that is not on the screen yet. Its line ends with the part. */
const showAside = (
  self: Screen,
  part: Extract<Part, { readonly type: "text" | "reasoning" }>,
  label: string
): Step => {
  if (part.text === "") return ScreenAnswer.takeBack(self, part.id)
  const shown = self.asides.get(part.id) ?? ""
  return chain(
    self,
    (screen) =>
      part.text.length > shown.length && part.text.startsWith(shown)
        ? aside(screen, part.id, label, part.text.slice(shown.length))
        : [screen, []],
    (screen) => (part.isComplete && screen.unfinished === "aside" ? closeLine(screen) : [screen, []])
  )
}
