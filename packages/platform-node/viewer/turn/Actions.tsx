/** What a person may do with a conversation besides a turn: fork it, take turns back, bring them back, and have it summarised. */
import type { ComponentChildren } from "preact"
import { useEffect, useRef, useState } from "preact/hooks"
import { call, type Outcome } from "../state/Api.ts"
import {
  announcement,
  compact,
  fork,
  hrefOf,
  isOpen,
  open,
  revert,
  runningTurn,
  type TurnModel,
  unrevert
} from "../state/Model.ts"
import type { Turn } from "../state/Types.ts"
import { Markdown } from "../text/Markdown.tsx"
import { Fold } from "./Fold.tsx"

/** The actions of a turn that has ended. */
export const Actions = ({ turn }: { readonly turn: TurnModel }) => {
  const { conversationId, operation, revertedBy } = turn.stored.value
  const turns = open.value?.turns.value ?? []
  const isLast = turns.findLast(({ stored }) => isSaid(stored.value)) === turn
  const isRunning = runningTurn.value !== undefined
  const { busy, problem, run } = useAction()
  const [isConfirming, setConfirming] = useState(false)
  const [forked, setForked] = useState<string>()
  const into = useRef<string | undefined>(undefined)
  const isStanding = operation === null && revertedBy === null

  const makeFork = () =>
    run("Forking…", "The conversation was forked.", async () => {
      // A fork whose answer was lost is the same fork the next time.
      if (into.current === undefined) {
        const begun = await call<{ readonly conversationId: string }>("conversations", {})
        if (!begun.ok) return begun
        into.current = begun.value.conversationId
      }
      const outcome = await fork(turn, into.current)
      if (outcome.ok) setForked(outcome.value.conversationId)
      return outcome
    })

  return (
    <div class="actions" role="group" aria-label="This turn">
      {isStanding && forked === undefined && (
        <Button busy={busy} onClick={makeFork} title="Begins a conversation that knows what was said up to this turn">
          Fork from here
        </Button>
      )}
      {isStanding && (
        <Button
          busy={busy}
          isDisabled={isRunning}
          onClick={() => setConfirming(true)}
          title="Takes back this turn and those after it, with the files that they changed"
        >
          Take back…
        </Button>
      )}
      {isLast && isStanding && (
        <Button
          busy={busy}
          onClick={() => run("Asking for a summary…", "The summary is on its way.", () => compact(conversationId))}
          title="Puts a summary in place of what was said, so that the model reads less"
        >
          Summarise
        </Button>
      )}
      {operation?.type === "revert" && isPending(turn, turns) && (
        <Button
          busy={busy}
          isDisabled={isRunning}
          onClick={() => run("Bringing the turns back…", words.unrevert.done, () => unrevert(conversationId))}
          title="Until the next turn of the conversation"
        >
          Bring the turns back
        </Button>
      )}
      {busy !== undefined && <span role="status">{busy}</span>}
      {problem !== undefined && <p class="problem" role="alert">{problem}</p>}
      {forked !== undefined && (
        <p class="note">
          The conversation was forked. <a href={hrefOf({ page: "conversation", id: forked })}>Open the fork</a>
        </p>
      )}
      {isConfirming && (
        <ConfirmRevert
          turn={turn}
          onCancel={() => setConfirming(false)}
          onConfirm={() => {
            setConfirming(false)
            void run("Taking back…", words.revert.done, () => revert(turn))
          }}
        />
      )}
    </div>
  )
}

/** What stands in place of a prompt where a message is no turn. */
export const OperationTitle = ({ turn: { content, operation, status } }: { readonly turn: Turn }) => {
  if (operation === null) return null
  const { doing, done } = words[operation.type]
  return (
    <div class="operation">
      <p>
        {status === "completed" ? done : doing}
        {operation.type === "fork" && (
          <>
            {" "}
            <a href={hrefOf({ page: "conversation", id: operation.conversationId })}>Open what it was forked from</a>
          </>
        )}
      </p>
      {operation.type === "compact" && status === "completed" && (
        <Fold kind="summary" summary={<span class="title">Summary</span>}>
          {() => <Markdown text={content} isComplete />}
        </Fold>
      )}
    </div>
  )
}

// internal

const words = {
  fork: {
    doing: "Fork of a conversation.",
    done: "This conversation is a fork: the agent knows what was said before."
  },
  revert: { doing: "Taking turns back.", done: "Turns were taken back." },
  unrevert: { doing: "Bringing turns back.", done: "The turns that were taken back are here again." },
  compact: { doing: "Summary of the conversation.", done: "A summary takes the place of what was said before." }
}

/** Whether a message says something that the agent knows, and is no fork. */
const isSaid = ({ operation, revertedBy }: Turn): boolean =>
  (operation === null || operation.type === "compact") && revertedBy === null

/** Whether a revert can be undone, as far as the page knows. The gateway has the last word. */
const isPending = (turn: TurnModel, turns: ReadonlyArray<TurnModel>): boolean =>
  turns.some(({ stored }) => stored.value.revertedBy === turn.id) &&
  turns.slice(turns.indexOf(turn) + 1).every(({ stored }) => stored.value.operation?.type === "unrevert")

const useAction = () => {
  const [busy, setBusy] = useState<string>()
  const [problem, setProblem] = useState<string>()
  const run = async (words: string, done: string, action: () => Promise<Outcome<unknown>>) => {
    setBusy(words)
    setProblem(undefined)
    const outcome = await action()
    setBusy(undefined)
    if (outcome.ok) announcement.value = done
    else setProblem(`${outcome.message}: ${outcome.advice}`)
  }
  return { busy, problem, run }
}

const Button = ({ busy, children, isDisabled = false, onClick, title }: {
  readonly busy: string | undefined
  readonly children: ComponentChildren
  readonly isDisabled?: boolean
  readonly onClick: () => unknown
  readonly title: string
}) => (
  <button
    type="button"
    class="quiet"
    disabled={busy !== undefined || isDisabled}
    title={isDisabled ? "Not while a turn runs" : title}
    onClick={() => void onClick()}
  >
    {children}
  </button>
)

const maxFiles = 20

const isSure = "sure"

const ConfirmRevert = ({ onCancel, onConfirm, turn }: {
  readonly turn: TurnModel
  readonly onCancel: () => void
  readonly onConfirm: () => void
}) => {
  const dialog = useRef<HTMLDialogElement>(null)
  useEffect(() => dialog.current?.showModal(), [])
  const turns = open.value?.turns.value ?? []
  const taken = turns.slice(turns.indexOf(turn)).filter(({ stored: { value } }) =>
    value.operation === null && value.revertedBy === null && !isOpen(value.status)
  )
  const files = [
    ...new Set(
      taken.flatMap(({ stored }) => stored.value.parts.flatMap((part) => part.type === "patch" ? part.files : []))
    )
  ]
  const others = taken.length - 1
  return (
    <dialog
      ref={dialog}
      onClose={({ currentTarget }) => currentTarget.returnValue === isSure ? onConfirm() : onCancel()}
      aria-labelledby="revert-title"
      aria-describedby="revert-words"
    >
      <h2 id="revert-title">Take back {others === 0 ? "this turn" : `${taken.length} turns`}?</h2>
      <div id="revert-words">
        <p>
          The agent forgets this turn{others > 0 && ` and the ${others === 1 ? "one" : others} after it`}. Files that
          changed are as they were before, if the folder is a git repository. What commands did besides stays done.
        </p>
        {files.length > 0 && (
          <ul class="files">
            {files.slice(0, maxFiles).map((file) => (
              <li key={file}>
                <code>{file}</code>
              </li>
            ))}
            {files.length > maxFiles && <li>and {files.length - maxFiles} more</li>}
          </ul>
        )}
        <p>You can bring {others === 0 ? "it" : "them"} back until the next turn of the conversation.</p>
      </div>
      <div class="buttons">
        <button type="button" class="danger" onClick={() => dialog.current?.close(isSure)}>Take back</button>
        <button type="button" onClick={() => dialog.current?.close()} autofocus>Keep</button>
      </div>
    </dialog>
  )
}
