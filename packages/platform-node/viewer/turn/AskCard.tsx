/** What an agent asks, with its answers as buttons and keys. */
import type { ComponentChildren } from "preact"
import { useRef, useState } from "preact/hooks"
import { expose, sanitize } from "../../src/terminal/VisibleText.ts"
import { answer } from "../state/Model.ts"
import type { Answer, Ask } from "../state/Types.ts"
import { json } from "../text/Format.ts"
import { Diff } from "./Diff.tsx"

/** Leads to the first ask of the page, or gives false where nothing is asked. */
export const focusFirst = (): boolean => {
  const [first] = openCards()
  first?.focus()
  return first !== undefined
}

export const AskCard = ({ ask, from }: { readonly ask: Ask; readonly from: ComponentChildren }) => {
  const [state, setState] = useState<"open" | "sending" | "answered" | { readonly problem: string }>("open")
  const card = useRef<HTMLElement>(null)
  const give = async (given: Answer) => {
    setState("sending")
    const outcome = await answer(ask.id, given)
    setState(outcome.ok ? "answered" : { problem: `${outcome.message}: ${outcome.advice}` })
    if (outcome.ok) focusNext(card.current)
  }
  const isBusy = state === "sending" || state === "answered"
  return (
    <section
      ref={card}
      class="ask"
      aria-label={ask._tag === "Permission" ? "The agent asks for a permission" : "The agent asks"}
    >
      <p class="from">{from}</p>
      {ask._tag === "Permission"
        ? <Permission ask={ask} give={give} isBusy={isBusy} />
        : <Questions ask={ask} give={give} isBusy={isBusy} />}
      {typeof state === "object" && <p class="problem" role="alert">{state.problem}</p>}
      {state === "answered" && <p class="note" role="status">Answered.</p>}
    </section>
  )
}

// internal

/** What a person decides on is shown as it is: also what is invisible, changes the order of the text, or stands behind empty lines. */
const exposed = (text: string): string =>
  expose(sanitize(text)).replaceAll(
    /\n(?:[\t ]*\n){3,}/g,
    (blank) => `\n⏎ ${blank.split("\n").length - 2} empty lines\n`
  )

/** The card goes away with its answer: who answers by keys goes on with the next one, or at the page itself. */
const focusNext = (card: HTMLElement | null): void => {
  const focused = document.activeElement
  if (card === null || (focused !== document.body && !card.contains(focused))) return
  const next = openCards().find((other) => !card.contains(other)) ?? document.querySelector<HTMLElement>("#main")
  next?.focus()
}

/**
 * The cards that wait. Each gets the focus itself, and never a button of it: Enter and the blank do nothing there, so that nobody allows
 * what they have not looked at yet.
 */
const openCards = (): ReadonlyArray<HTMLElement> =>
  Array.from(document.querySelectorAll<HTMLElement>(".ask .decision[aria-busy='false']"))

interface Props<A extends Ask> {
  readonly ask: A
  readonly give: (answer: Answer) => Promise<void>
  readonly isBusy: boolean
}

type PermissionAsk = Extract<Ask, { readonly _tag: "Permission" }>
type QuestionAsk = Extract<Ask, { readonly _tag: "Question" }>

const Permission = ({ ask: { always, metadata, patterns, permission }, give, isBusy }: Props<PermissionAsk>) => {
  const field = useRef<HTMLInputElement>(null)
  const reply = (reply: "once" | "always") => void give({ _tag: "Permission", reply: { reply } })
  const reject = () => {
    const reason = field.current?.value.trim() ?? ""
    void give({ _tag: "Reject", ...(reason !== "" && { message: reason }) })
  }
  const keys: Readonly<Record<string, () => void>> = { y: () => reply("once"), a: () => reply("always"), n: reject }
  const diff = metadata["diff"]
  const command = metadata["command"]
  const rest = Object.entries(metadata).filter(([name, value]) =>
    !["diff", "command", "filediff"].includes(name) && value !== "" && value !== undefined
  )
  return (
    <div
      class="decision"
      role="group"
      tabIndex={-1}
      aria-label={`Permission: ${permission}`}
      aria-busy={isBusy}
      onKeyDown={(event) => {
        const isTyping = event.target instanceof HTMLInputElement
        // A key that is held down answers one ask, and not the next ones that get the focus.
        if (isTyping || isBusy || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return
        const act = keys[event.key]
        if (act === undefined) return
        event.preventDefault()
        act()
      }}
    >
      <h3>Permission: {permission}</h3>
      {typeof command === "string"
        ? <pre tabIndex={0} class="whole">{exposed(command)}</pre>
        : (
          <ul class="patterns">
            {patterns.map((pattern) => (
              <li key={pattern}>
                <code>{exposed(pattern)}</code>
              </li>
            ))}
          </ul>
        )}
      {typeof diff === "string" && <Diff text={exposed(diff)} isWhole />}
      {rest.length > 0 && diff === undefined && (
        <pre class="small whole" tabIndex={0}>{exposed(json(Object.fromEntries(rest)))}</pre>
      )}
      <div class="buttons">
        <button type="button" class="primary" disabled={isBusy} onClick={() => reply("once")} aria-keyshortcuts="y">
          Allow once <kbd>y</kbd>
        </button>
        {always.length > 0 && (
          <button
            type="button"
            disabled={isBusy}
            onClick={() => reply("always")}
            aria-keyshortcuts="a"
            title={`Allows from now on: ${always.join(", ")}`}
          >
            Always <kbd>a</kbd>
          </button>
        )}
        <button type="button" class="danger" disabled={isBusy} onClick={reject} aria-keyshortcuts="n">
          Refuse <kbd>n</kbd>
        </button>
        <input
          ref={field}
          disabled={isBusy}
          aria-label="Reason for a refusal"
          placeholder="Reason for a refusal, Enter refuses: the model reads it"
          onKeyDown={(event) => {
            if (event.key !== "Enter" || event.repeat || event.isComposing || isBusy) return
            event.preventDefault()
            reject()
          }}
        />
      </div>
      {always.length > 0 && (
        <p class="note">
          Always allows <code>{exposed(always.join(", "))}</code> for all conversations of this server.
        </p>
      )}
    </div>
  )
}

/** The answers are read from the form itself: what is typed and what is drawn may be a frame apart. */
const Questions = ({ ask: { questions }, give, isBusy }: Props<QuestionAsk>) => {
  const [isEmpty, setEmpty] = useState(false)
  const submit = (form: HTMLFormElement) => {
    const data = new FormData(form)
    const answers = questions.map(({ multiple }, at) => {
      const labels = data.getAll(`option ${at}`).map(String)
      const own = String(data.get(`own ${at}`) ?? "").trim()
      return own === "" ? labels : multiple ? [...labels, own] : [own]
    })
    const isWithout = answers.every((labels) => labels.length === 0)
    setEmpty(isWithout)
    if (!isWithout) void give({ _tag: "Answers", answers })
  }
  return (
    <form
      class="decision"
      tabIndex={-1}
      aria-busy={isBusy}
      onSubmit={(event) => {
        event.preventDefault()
        if (!isBusy) submit(event.currentTarget)
      }}
    >
      {questions.map(({ custom, header, multiple, options, question }, at) => (
        <fieldset key={at} disabled={isBusy}>
          <legend>
            {header !== "" && <b>{`${header}: `}</b>}
            {question}
          </legend>
          {options.map(({ description, label }) => (
            <label key={label} class="option">
              <input
                type={multiple ? "checkbox" : "radio"}
                name={`option ${at}`}
                value={label}
                onChange={({ currentTarget }) => {
                  const own = currentTarget.form?.elements.namedItem(`own ${at}`)
                  if (!multiple && own instanceof HTMLInputElement) own.value = ""
                }}
              />
              <span>
                {label}
                {description !== "" && <small>{description}</small>}
              </span>
            </label>
          ))}
          {(custom || options.length === 0) && (
            <input
              name={`own ${at}`}
              onInput={({ currentTarget }) => {
                if (multiple || currentTarget.value === "") return
                for (const radio of currentTarget.closest("fieldset")?.querySelectorAll("input") ?? []) {
                  if (radio.type === "radio") radio.checked = false
                }
              }}
              aria-label={`Your own answer to: ${question}`}
              placeholder="Your own answer"
            />
          )}
        </fieldset>
      ))}
      {isEmpty && <p class="problem" role="alert">Choose an answer, or write one.</p>}
      <div class="buttons">
        <button type="submit" class="primary" disabled={isBusy}>Answer</button>
        <button type="button" disabled={isBusy} onClick={() => void give({ _tag: "Reject" })}>Dismiss</button>
      </div>
    </form>
  )
}
