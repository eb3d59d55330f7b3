/**
 * Shows what subagents do. Each subagent stands below the tool that opened it, two columns deeper.
 *
 * ```
 * ● Delegating look around
 *   ▸ general: look around
 *   ✓ Ran ls src 0.2 s
 *   “There are three files, …”
 *   ◂ done $0.0012
 * ✓ Delegated look around 3.4 s
 * ```
 *
 * **Responsibilities**: every line shows which subagent it belongs to. A line begins with the subagent's name unless it follows a line
 * of the same subagent and no other subagent runs.
 *
 * **Not responsibilities**: the subagent's text and reasoning. Its tool hands that text to the agent, whose answer the screen shows.
 * The end of a subagent shows its last text part, cut to one line.
 */
import type { Ask } from "@opencode-turn/core/Ask"
import type { PartId, SessionId } from "@opencode-turn/core/Ids"
import type { Part } from "@opencode-turn/core/Part"
import type { SessionUpdate } from "@opencode-turn/core/ReplyUpdate"
import type { Subagent, SubagentStatus } from "@opencode-turn/core/Subagent"
import { isAborted, wordsOf } from "@opencode-turn/core/UpstreamFailure"
import { zero } from "@opencode-turn/core/Usage"
import { describeAsk, nameAsk, titleOf } from "../../terminal/AskText.ts"
import { describeCost, describeRetry, describeTodo, describeTool } from "../../terminal/Describe.ts"
import { fit, line } from "../../terminal/TerminalText.ts"
import { chain, lines, type Place, row, type Screen, type ShownSubagent, type Step, widthAt } from "./ScreenState.ts"

/** Shows that a subagent was opened, was linked to its tool, or ended. */
export const change = (self: Screen, subagent: Subagent): Step => {
  const before = self.subagents.get(subagent.sessionId)
  const known: ShownSubagent = before === undefined
    ? { subagent, name: nameOf(self, subagent), shown: "nothing", said: undefined }
    // A subagent that had ended received another prompt.
    : before.shown === "end" && subagent.status === "running"
    ? { ...before, subagent, shown: "nothing", said: undefined }
    : { ...before, subagent }
  const next = put(self, known)
  if (subagent.status !== "running") {
    return known.shown === "end" ? [next, []] : end(next, known, endings[subagent.status])
  }
  // The session opens before the line of its tool is shown.
  return subagent.openedBy !== undefined && self.tools.has(subagent.openedBy) ? open(next, known) : [next, []]
}

/** Shows the subagents of a tool once the tool's line is shown. */
export const showBelow = (self: Screen, toolId: PartId): Step =>
  chain(
    self,
    ...[...self.subagents.values()]
      .filter(({ subagent }) => subagent.openedBy === toolId)
      .map((known) => (screen: Screen) => open(screen, known))
  )

/** Shows an update of a subagent. */
export const update = (self: Screen, sessionId: SessionId, update: SessionUpdate): Step => {
  const known = find(self, sessionId)
  switch (update._tag) {
    case "TextDelta":
    case "ReasoningDelta":
      return [self, []]
    case "PartChanged":
      return showPart(self, known, update.part)
    case "PartRemoved":
      return [known.said?.id === update.partId ? put(self, { ...known, said: undefined }) : self, []]
    case "TodosChanged":
      return say(self, known, update.todos.map((todo) => `  ${describeTodo(todo)}`))
    case "Retrying":
      return say(self, known, [describeRetry(update.retry)])
    case "Failed":
      return isAborted(update.failure)
        ? [self, []]
        : say(self, known, [`✗ it failed: ${line(wordsOf(update.failure))}`])
  }
}

/** Shows a subagent's ask, always with the subagent's name: a person decides on it. */
export const showAsk = (self: Screen, ask: Ask): Step => {
  const known = find(self, ask.sessionId)
  return chain(
    self,
    (screen) => open(screen, known),
    (screen) =>
      lines(screen, linesOfAsk(screen, ask), {
        before: `${indentOf(screen, known)}${known.name} | `,
        speaker: ask.sessionId
      })
  )
}

/** The lines of an ask, of an agent or a subagent. */
export const linesOfAsk = ({ options }: Screen, ask: Ask): ReadonlyArray<string> =>
  (options.areAsksNamed ? [nameAsk(ask)] : describeAsk(ask)).map((text) => `? ${text}`)

/** Replaces the known subagents by these, and shows which of them began or ended. */
export const restore = (self: Screen, subagents: ReadonlyArray<Subagent>): Step => {
  const left = subagents.flatMap(({ sessionId }) => {
    const known = self.subagents.get(sessionId)
    return known === undefined ? [] : [[sessionId, known] as const]
  })
  return chain(
    { ...self, subagents: new Map(left) },
    ...subagents.map((subagent) => (screen: Screen) => change(screen, subagent))
  )
}

// internal

const put = (self: Screen, known: ShownSubagent): Screen => ({
  ...self,
  subagents: new Map([...self.subagents, [known.subagent.sessionId, known]])
})

/** Finds a subagent. An update may arrive before the subagent is announced; then nothing else is known of it. */
const find = (self: Screen, sessionId: SessionId): ShownSubagent => {
  const known = self.subagents.get(sessionId)
  if (known !== undefined) return known
  const subagent: Subagent = { sessionId, parentId: sessionId, title: "", status: "running", text: "", usage: zero }
  return { subagent, name: nameOf(self, subagent), shown: "nothing", said: undefined }
}

/** Shows the subagent's first line, once. */
const open = (self: Screen, known: ShownSubagent): Step => {
  const current = self.subagents.get(known.subagent.sessionId) ?? known
  if (current.shown !== "nothing") return [self, []]
  const { agent, sessionId, title } = current.subagent
  const next = put(self, { ...current, shown: "opening" })
  // Shows the name that its lines may begin with, if the title does not show it.
  const alias = current.name === shortNameOf(current.subagent) ? "" : ` (${current.name})`
  return lines(next, [`▸ ${line(agent ?? "subagent")}: ${titleOf(title)}${alias}`], {
    before: indentOf(next, current),
    speaker: sessionId
  })
}

const end = (self: Screen, known: ShownSubagent, ending: string): Step => {
  const { text, usage } = known.subagent
  const said = line(known.said?.text ?? text.split("\n\n").at(-1) ?? "")
  return chain(
    self,
    (screen) => open(screen, known),
    (screen) => {
      const place = placeOf(screen, known)
      const [closed, writes] = lines(screen, [
        ...(said === "" ? [] : [fit(`“${said}”`, widthAt(screen, place))]),
        `◂ ${ending} ${describeCost(usage.cost)}`
      ], place)
      return [put(closed, { ...known, shown: "end" }), writes]
    }
  )
}

const endings: Record<Exclude<SubagentStatus, "running">, string> = {
  completed: "done",
  error: "failed",
  cancelled: "cancelled"
}

const showPart = (self: Screen, known: ShownSubagent, part: Part): Step => {
  switch (part.type) {
    case "text":
      return [part.text === "" ? self : put(self, { ...known, said: { id: part.id, text: part.text } }), []]
    case "tool":
      if (part.status === "pending") return [self, []]
      return chain(
        self,
        (screen) => open(screen, known),
        (screen) => row(screen, part.id, (width) => describeTool(part, width), placeOf(screen, known)),
        (screen) => showBelow(screen, part.id)
      )
    case "file":
      return say(self, known, [`file ${line(part.filename ?? "")} (${line(part.mediaType)})`])
    case "patch":
      return say(self, known, [`changed ${part.files.map(line).join(", ")}`])
    case "reasoning":
    case "step-finish":
    case "todos":
      return [self, []]
  }
}

const say = (self: Screen, known: ShownSubagent, texts: ReadonlyArray<string>): Step =>
  chain(self, (screen) => open(screen, known), (screen) => lines(screen, texts, placeOf(screen, known)))

/** Omits the name only if the line above belongs to the subagent or to one below it, and no subagent runs beside it. */
const placeOf = (self: Screen, known: ShownSubagent): Place => {
  const { sessionId } = known.subagent
  const isBelow = (id: SessionId | undefined): boolean => id !== undefined && lineageOf(self, id).includes(sessionId)
  const lineage = lineageOf(self, sessionId)
  const isAlone = [...self.subagents.values()].every(({ shown, subagent }) =>
    shown !== "opening" || isBelow(subagent.sessionId) || lineage.includes(subagent.sessionId)
  )
  const indent = indentOf(self, known)
  return { before: isAlone && isBelow(self.speaker) ? indent : `${indent}${known.name} | `, speaker: sessionId }
}

/** A subagent and its ancestors, without the turn's own session. */
const lineageOf = (self: Screen, id: SessionId): ReadonlyArray<SessionId> => {
  const lineage: Array<SessionId> = [id]
  let parent = self.subagents.get(id)?.subagent.parentId
  while (parent !== undefined && self.subagents.has(parent) && !lineage.includes(parent)) {
    lineage.push(parent)
    parent = self.subagents.get(parent)?.subagent.parentId
  }
  return lineage
}

const indentOf = (self: Screen, { subagent }: ShownSubagent): string =>
  "  ".repeat(lineageOf(self, subagent.sessionId).length)

const nameOf = (self: Screen, subagent: Subagent): string => {
  const name = shortNameOf(subagent)
  const taken = new Set([...self.subagents.values()].map((known) => known.name))
  let unique = name
  for (let count = 2; taken.has(unique); count++) unique = `${name} #${count}`
  return unique
}

const shortNameOf = ({ agent, title }: Subagent): string => fit(titleOf(title) || (agent ?? "subagent"), 24)
