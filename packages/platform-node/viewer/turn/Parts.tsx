/** The parts of a reply in their order, with the subagents that its tools opened: each one a branch that opens. */
import type { SessionReply } from "../state/Fold.ts"
import { nowMillis, readInside, type TurnModel } from "../state/Model.ts"
import type { Part, Subagent, ToolPart } from "../state/Types.ts"
import { cost, count, tokens } from "../text/Format.ts"
import { Markdown } from "../text/Markdown.tsx"
import { Fold } from "./Fold.tsx"
import { failureOf } from "./Times.ts"
import { ToolView } from "./ToolView.tsx"

export const Parts = ({ reply, turn }: { readonly reply: SessionReply; readonly turn: TurnModel }) => (
  <>
    {reply.order.value.map((id) => <PartOf key={id} id={id} reply={reply} turn={turn} />)}
    {!reply.order.value.some((id) => reply.part(id).peek()?.type === "todos") && <Todos reply={reply} />}
    <Retrying reply={reply} />
  </>
)

/** The subagents that no tool call is known to have opened. */
export const LooseSubagents = ({ turn }: { readonly turn: TurnModel }) => {
  const all = turn.reply.subagents.value
  const ids = new Set(all.map(({ sessionId }) => sessionId))
  const loose = all.filter(({ openedBy, parentId }) => openedBy === undefined && !ids.has(parentId))
  return <>{loose.map((subagent) => <SubagentView key={subagent.sessionId} subagent={subagent} turn={turn} />)}</>
}

// internal

const PartOf = (
  { id, reply, turn }: { readonly id: string; readonly reply: SessionReply; readonly turn: TurnModel }
) => {
  const part = reply.part(id).value
  if (part?.type === "todos") return <Todos reply={reply} />
  return part === undefined ? null : <PartView part={part} turn={turn} />
}

const PartView = ({ part, turn }: { readonly part: Part; readonly turn: TurnModel }) => {
  switch (part.type) {
    case "text":
      return part.text === "" ? null : <Markdown text={part.text} isComplete={part.isComplete} />
    case "reasoning":
      return part.text === "" ? null : (
        <Fold
          kind="reasoning"
          summary={<span class="title">{part.isComplete ? "Reasoning" : "Thinking…"}</span>}
        >
          {() => <Markdown text={part.text} isComplete={part.isComplete} />}
        </Fold>
      )
    case "tool":
      return (
        <>
          <ToolView part={part} />
          {subagentsOf(part, turn).map((subagent) => (
            <SubagentView key={subagent.sessionId} subagent={subagent} turn={turn} />
          ))}
        </>
      )
    case "file":
      return <p class="file">File: {part.filename ?? part.mediaType}</p>
    case "patch":
      return part.files.length === 0 ?
        null :
        (
          <Fold
            kind="patch"
            summary={
              <span class="title">{`Changed ${part.files.length} ${part.files.length === 1 ? "file" : "files"}`}</span>
            }
          >
            {() => (
              <ul class="files">
                {part.files.map((file) => (
                  <li key={file}>
                    <code>{file}</code>
                  </li>
                ))}
              </ul>
            )}
          </Fold>
        )
    case "step-finish":
    case "todos":
      return null
  }
}

const subagentsOf = (part: ToolPart, turn: TurnModel): ReadonlyArray<Subagent> =>
  turn.reply.subagents.value.filter(({ openedBy, sessionId }) => openedBy === part.id || sessionId === part.subagent)

const SubagentView = ({ subagent, turn }: { readonly subagent: Subagent; readonly turn: TurnModel }) => (
  <Fold
    kind={`subagent ${subagent.status}`}
    onOpen={() => readInside(turn)}
    summary={
      <>
        <span class="mark" role="img" aria-label={subagent.status} title={subagent.status} />
        <b class="name">{subagent.agent ?? "subagent"}</b>
        <span class="title">{subagent.title}</span>
        <Asking subagent={subagent} turn={turn} />
        <span class="elapsed">
          {cost(subagent.usage.cost)} · {count(tokens(subagent.usage))}
        </span>
      </>
    }
  >
    {() => <Inside subagent={subagent} turn={turn} />}
  </Fold>
)

const Asking = ({ subagent, turn }: { readonly subagent: Subagent; readonly turn: TurnModel }) =>
  turn.reply.asks.value.some(({ ask }) => ask.sessionId === subagent.sessionId)
    ? <span class="badge">asks</span>
    : null

const Inside = ({ subagent, turn }: { readonly subagent: Subagent; readonly turn: TurnModel }) => (
  <>
    <Said subagent={subagent} turn={turn} />
    {failureOf(subagent) !== undefined && <p class="banner bad">It failed: {failureOf(subagent)}</p>}
  </>
)

const Said = ({ subagent, turn }: { readonly subagent: Subagent; readonly turn: TurnModel }) => {
  const reply = turn.reply.session(subagent.sessionId)
  if (reply.order.value.length > 0) return <Parts reply={reply} turn={turn} />
  return subagent.text === ""
    ? <p class="note">{subagent.status === "running" ? "It has not said anything yet." : "It said nothing."}</p>
    : <Markdown text={subagent.text} isComplete />
}

const Todos = ({ reply }: { readonly reply: SessionReply }) => {
  const todos = reply.todos.value
  if (todos.length === 0) return null
  const done = todos.filter(({ status }) => status === "completed").length
  return (
    <section class="todos" aria-label="To-dos">
      <p class="label">To-dos · {done} of {todos.length}</p>
      <ul>
        {todos.map(({ content, status }, index) => (
          <li key={index} class={status}>
            <span class="mark" role="img" aria-label={status.replace("_", " ")} /> <span class="words">{content}</span>
          </li>
        ))}
      </ul>
    </section>
  )
}

const Retrying = ({ reply }: { readonly reply: SessionReply }) => {
  const retry = reply.retry.value
  if (retry === undefined) return null
  const seconds = Math.ceil((retry.nextMillis - nowMillis.value) / 1_000)
  return (
    <p class="banner warn" role="status">
      The model's provider failed: {retry.message}. Try {retry.attempt + 1}
      {seconds > 0 ? ` begins in ${seconds} s` : " has begun"}.
    </p>
  )
}
