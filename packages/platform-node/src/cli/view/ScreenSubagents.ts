/**
 * What subagents do, on the screen: each below the tool that opened it, two columns deeper.
 *
 * ```
 * ● task look around
 *   ▸ general: look around
 *   ✓ bash ls src 0.2 s
 *   “There are three files, …”
 *   ◂ done $0.0012
 * ✓ task look around 3.4 s
 * ```
 *
 * *Responsibilities*: a reader knows whose each line is. A line that does not stand below its own subagent's, or is written while
 * others run beside it, begins with the subagent's name.
 *
 * *Not responsibilities*: what it says and thinks. Its tool gives that to the agent, whose answer is the answer; of its text the
 * last part is shown at its end, cut to a line.
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

/** A subagent was opened, became known to its tool, or ended. */
export const change = (self: Screen, subagent: Subagent): Step => {
  const before = self.subagents.get(subagent.sessionId)
  const known: ShownSubagent = before === undefined
    ? { subagent, name: nameOf(self, subagent), shown: "nothing", said: undefined }
    // One that had ended was given more to do.
    : before.shown === "end" && subagent.status === "running"
    ? { ...before, subagent, shown: "nothing", said: undefined }
    : { ...before, subagent }
  const next = put(self, known)
  if (subagent.status !== "running") {
    return known.shown === "end" ? [next, []] : end(next, known, endings[subagent.status])
  }
  // Its session is opened before the line of its tool is shown.
  return subagent.openedBy !== undefined && self.tools.has(subagent.openedBy) ? open(next, known) : [next, []]
}

/** The line of a tool is shown: what stands below it may follow. */
export const showBelow = (self: Screen, toolId: PartId): Step =>
  chain(
    self,
    ...[...self.subagents.values()]
      .filter(({ subagent }) => subagent.openedBy === toolId)
      .map((known) => (screen: Screen) => open(screen, known))
  )

/** What a subagent does. */
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

/** What a subagent asks, with its name in any case: a person is to decide for it. */
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

/** What is asked, whoever asks. */
export const linesOfAsk = ({ options }: Screen, ask: Ask): ReadonlyArray<string> =>
  (options.areAsksNamed ? [nameAsk(ask)] : describeAsk(ask)).map((text) => `? ${text}`)

/** Takes these for all that there are, and shows which of them have begun or ended. */
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

/** What is known of a subagent, be it nothing: an update may come before it is told that there is one. */
const find = (self: Screen, sessionId: SessionId): ShownSubagent => {
  const known = self.subagents.get(sessionId)
  if (known !== undefined) return known
  const subagent: Subagent = { sessionId, parentId: sessionId, title: "", status: "running", text: "", usage: zero }
  return { subagent, name: nameOf(self, subagent), shown: "nothing", said: undefined }
}

/** The line that it begins with, once. */
const open = (self: Screen, known: ShownSubagent): Step => {
  const current = self.subagents.get(known.subagent.sessionId) ?? known
  if (current.shown !== "nothing") return [self, []]
  const { agent, sessionId, title } = current.subagent
  const next = put(self, { ...current, shown: "opening" })
  // Its lines may begin with a name that its title does not tell.
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

/** Without its name only where the line above is its own, or that of a subagent below it, and nobody runs beside it. */
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

/** A subagent and those above it, up to the turn's own session, which is not among them. */
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
