/** Where a prompt is written and files are added. A draft survives a reload. */
import { effect } from "@preact/signals"
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks"
import { goTo } from "../state/Model.ts"
import { full, makeId, refused, send, sending, takeBack } from "../state/Send.ts"
import type { PromptPart } from "../state/Types.ts"

type FilePart = Extract<PromptPart, { readonly type: "file" }>

export const Composer = ({ conversationId }: { readonly conversationId: string | undefined }) => {
  const place = `opencode-turn draft ${conversationId ?? ""}`
  const [text, setText] = useState(() => sessionStorage.getItem(place) ?? "")
  const [files, showFiles] = useState<ReadonlyArray<File>>([])
  const held = useRef<ReadonlyArray<File>>([])
  const setFiles = (next: ReadonlyArray<File>) => {
    held.current = next
    showFiles(next)
  }
  const [problem, setProblem] = useState<string>()
  const field = useRef<HTMLTextAreaElement>(null)
  const isSending = sending.value !== undefined

  useEffect(() => {
    keepDraft(place, text)
    const area = field.current
    if (area === null) return
    area.style.height = "auto"
    area.style.height = `${Math.min(area.scrollHeight, window.innerHeight / 3)}px`
  }, [text])
  // A refused prompt comes back to where it was written, also when the person was elsewhere or loaded the page anew. As a layout effect this
  // ends with the composer: those of `useEffect` and `useSignalEffect` live until the next frame, and would take the words along.
  useLayoutEffect(() =>
    effect(() => {
      const back = refused.value
      if (back === undefined || back.conversationId !== conversationId) return
      refused.value = undefined
      setText((text) => text.trim() === "" ? back.text : `${back.text}\n${text}`)
      setProblem(back.problem)
    }), [conversationId])
  // A touch keyboard would cover the page.
  useEffect(() => {
    if (matchMedia("(hover: hover)").matches) field.current?.focus()
  }, [])

  const submit = async () => {
    // What is typed or added and what is drawn may be a frame apart.
    const text = field.current?.value ?? ""
    const files = held.current
    if (sending.peek() !== undefined || (text.trim() === "" && files.length === 0)) return
    setProblem(undefined)
    setText("")
    setFiles([])
    // Enter twice in one frame sends once.
    if (field.current !== null) field.current.value = ""
    const read = await Promise.all(files.map(readFile)).catch(() => undefined)
    if (read === undefined) {
      setText(text)
      setFiles(files)
      return setProblem("a file cannot be read: remove it, or add it again")
    }
    const prompt = read.length === 0
      ? text
      : [...(text.trim() === "" ? [] : [{ type: "text" as const, text }]), ...read]
    const outcome = await send({ conversationId, key: makeId(), prompt })
    if (!outcome.ok) return setFiles(files)
    if (conversationId === undefined) goTo({ page: "conversation", id: outcome.value.conversationId })
  }

  const add = (list: FileList | null | undefined) => setFiles([...held.current, ...Array.from(list ?? [])])

  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault()
        void submit()
      }}
      onDragOver={(event) => event.preventDefault()}
      onDrop={(event) => {
        event.preventDefault()
        add(event.dataTransfer?.files)
      }}
    >
      {problem !== undefined && <p class="problem" role="alert">{problem}</p>}
      {isSending && full.value === undefined && (
        <p class="note" role="status">Sending… It is sent once, whatever becomes of the connection.</p>
      )}
      {isSending && full.value !== undefined && (
        <p class="problem" role="alert">
          Not sent yet, {full.value}. It is tried again. <button type="button" onClick={takeBack}>Take it back</button>
        </p>
      )}
      {files.length > 0 && (
        <ul class="chips">
          {files.map(({ name }, at) => (
            <li key={at} class="chip">
              {name}
              <button
                type="button"
                class="quiet"
                aria-label={`Remove ${name}`}
                onClick={() => setFiles(files.filter((_, place) => place !== at))}
              >
                ×
              </button>
            </li>
          ))}
        </ul>
      )}
      <div class="row">
        <label class="attach" title="Add files">
          <input
            type="file"
            multiple
            class="unseen"
            aria-label="Add files"
            onChange={({ currentTarget }) => {
              add(currentTarget.files)
              currentTarget.value = ""
            }}
          />
          <span aria-hidden="true">+</span>
        </label>
        <textarea
          ref={field}
          rows={1}
          value={text}
          aria-label="Prompt"
          placeholder="Write to the agent"
          onInput={({ currentTarget }) => setText(currentTarget.value)}
          onPaste={(event) => {
            if ((event.clipboardData?.files.length ?? 0) === 0) return
            event.preventDefault()
            add(event.clipboardData?.files)
          }}
          onKeyDown={(event) => {
            if (event.key !== "Enter" || event.shiftKey || event.isComposing) return
            event.preventDefault()
            void submit()
          }}
        />
        <button type="submit" class="primary" disabled={isSending || (text.trim() === "" && files.length === 0)}>
          Send
        </button>
      </div>
    </form>
  )
}

// internal

const keepDraft = (place: string, text: string): void => {
  try {
    if (text === "") sessionStorage.removeItem(place)
    else sessionStorage.setItem(place, text)
  } catch {
    // A text that is larger than the storage: then a reload loses it.
  }
}

/** OpenCode takes text of any kind as text/plain alone, while a browser names its kind by the file's name. */
const typeOf = async (file: File): Promise<string> => {
  if (/^(?:image\/(?!svg)|application\/pdf$)/.test(file.type)) return file.type
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer())
    return text.includes("\0") && file.type !== "" ? file.type : "text/plain"
  } catch {
    return file.type === "" ? "application/octet-stream" : file.type
  }
}

const readFile = async (file: File): Promise<FilePart> => {
  const mediaType = await typeOf(file)
  return new Promise((resolve, reject) => {
    const reader = new FileReader()
    reader.addEventListener("error", () => reject(reader.error))
    reader.addEventListener("load", () =>
      resolve({
        type: "file",
        mediaType,
        // The browser writes a type of its own where it knows none.
        url: String(reader.result).replace(/^data:[^,]*?(;base64)?,/, `data:${mediaType}$1,`),
        filename: file.name
      }))
    reader.readAsDataURL(file)
  })
}
