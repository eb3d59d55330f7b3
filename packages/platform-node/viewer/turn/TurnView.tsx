/** A turn: what was asked of the agent, what it does and says, and how it ended. */
import { useErrorBoundary, useState } from "preact/hooks"
import { isOpen, nowMillis, stop, type TurnModel } from "../state/Model.ts"
import type { Turn } from "../state/Types.ts"
import { cost, count, duration, tokens, when } from "../text/Format.ts"
import { Actions, OperationTitle } from "./Actions.tsx"
import { AskCard } from "./AskCard.tsx"
import { Elapsed } from "./Elapsed.tsx"
import { LooseSubagents, Parts } from "./Parts.tsx"
import { Timeline } from "./Timeline.tsx"

export const TurnView = ({ turn }: { readonly turn: TurnModel }) => {
  const stored = turn.stored.value
  // What one turn holds must not take the others away.
  const [error] = useErrorBoundary()
  if (error !== undefined) return <p class="banner bad" role="alert">This turn cannot be shown: {String(error)}</p>
  return (
    <article class={stored.revertedBy === null ? "turn" : "turn reverted"} aria-labelledby={turn.id}>
      <h2 class="unseen" id={turn.id}>Turn of {when(stored.createdMillis, nowMillis.peek())}</h2>
      {stored.operation === null ? <Prompt turn={stored} /> : <OperationTitle turn={stored} />}
      <div class="reply" aria-busy={isOpen(stored.status)}>
        <Parts reply={turn.reply.root} turn={turn} />
        <LooseSubagents turn={turn} />
        {stored.isFallback && stored.operation === null && <p>{stored.content}</p>}
        {turn.reply.asks.value.map(({ ask }) => <AskCard key={ask.id} ask={ask} from={askedBy(turn, ask.sessionId)} />)}
        <Ending turn={turn} />
        {stored.status !== "queued" && stored.operation === null && <Timeline turn={turn} />}
      </div>
    </article>
  )
}

// internal

const Prompt = ({ turn: { createdMillis, prompt } }: { readonly turn: Turn }) => (
  <div class="prompt">
    {prompt.map((part, index) => {
      switch (part.type) {
        case "text":
          return <p key={index}>{part.text}</p>
        case "file":
          return <p key={index} class="chip">{part.filename ?? part.mediaType}</p>
        case "agent":
          return <p key={index} class="chip">@{part.name}</p>
        case "subtask":
          return <p key={index} class="chip">{part.agent}: {part.description}</p>
      }
    })}
    <time dateTime={new Date(createdMillis).toISOString()}>{when(createdMillis, nowMillis.peek())}</time>
  </div>
)

const askedBy = (turn: TurnModel, sessionId: string): string => {
  const subagent = turn.reply.subagents.value.find((subagent) => subagent.sessionId === sessionId)
  return subagent === undefined ? "The agent asks" : `The subagent ${subagent.agent ?? ""} asks: ${subagent.title}`
}

const Ending = ({ turn }: { readonly turn: TurnModel }) => {
  const stored = turn.stored.value
  return isOpen(stored.status) ? <Running turn={turn} /> : (
    <>
      {stored.error !== null && (
        <p class="banner bad" role="status">
          <b>{stored.error.tag}</b>: {stored.error.message}
        </p>
      )}
      <p class={`ending ${stored.status}`}>
        <span class="mark" role="img" aria-hidden="true" /> {words[stored.status]}
        {stored.finishedMillis !== null && ` · ${duration(stored.finishedMillis - stored.createdMillis)}`}
        {(stored.operation === null || tokens(stored.usage) > 0) &&
          ` · ${cost(stored.usage.cost)} · ${count(tokens(stored.usage))} tokens`}
        {stored.models.length > 1
          ? stored.models.map((share) => ` · ${share.model} ${cost(share.cost)}`).join("")
          : stored.model !== null && ` · ${stored.model}`}
        {stored.revertedBy !== null && " · taken back"}
      </p>
      <Actions turn={turn} />
    </>
  )
}

const words: Readonly<Record<Turn["status"], string>> = {
  queued: "queued",
  pending: "running",
  completed: "completed",
  cancelled: "stopped",
  error: "ended with an error"
}

const Running = ({ turn }: { readonly turn: TurnModel }) => {
  const [problem, setProblem] = useState<string>()
  const [isStopping, setStopping] = useState(false)
  const stored = turn.stored.value
  const isAsking = turn.reply.asks.value.length > 0
  return (
    <p class="ending running">
      <span class="mark" role="img" aria-hidden="true" /> {turn.follow.value === "lost"
        ? "The connection is lost; the turn goes on"
        : stored.status === "queued"
        ? "queued behind another turn"
        : isAsking
        ? "waits for your answer"
        : "running"} · <Elapsed fromMillis={stored.createdMillis} toMillis={undefined} />
      <button
        type="button"
        class="stop"
        disabled={isStopping}
        onClick={() => {
          setStopping(true)
          void stop(turn).then((outcome) => {
            setStopping(false)
            setProblem(outcome.ok ? undefined : outcome.message)
          })
        }}
      >
        {isStopping ? "Stopping…" : "Stop"}
      </button>
      {problem !== undefined && <span role="alert">{problem}</span>}
    </p>
  )
}
