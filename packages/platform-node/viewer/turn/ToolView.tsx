/** A tool call: what it was given, what it gave, what it changed, and how long it took. */
import type { ToolPart } from "../state/Types.ts"
import { json } from "../text/Format.ts"
import { Diff } from "./Diff.tsx"
import { Elapsed } from "./Elapsed.tsx"
import { Fold } from "./Fold.tsx"

export const ToolView = ({ part }: { readonly part: ToolPart }) => {
  const { endedMillis, isRefused, startedMillis, status, tool } = part
  const word = isRefused === true ? "refused" : words[status]
  return (
    <Fold
      kind={`tool ${isRefused === true ? "refused" : status}`}
      summary={
        <>
          <span class="mark" role="img" aria-label={word} title={word} />
          <b class="name">{tool}</b>
          <span class="title">{titleOf(part)}</span>
          <Elapsed fromMillis={startedMillis} toMillis={status === "running" ? undefined : endedMillis} />
        </>
      }
    >
      {() => <Inside part={part} />}
    </Fold>
  )
}

// internal

const words = { pending: "waiting", running: "running", completed: "done", error: "failed" }

const titleOf = ({ input, title }: ToolPart): string => {
  const { command, description, filePath, path, pattern, query, url } = input
  const text = [description, title, command, pattern, filePath, path, query, url].find((value) =>
    typeof value === "string" && value !== ""
  )
  return typeof text === "string" ? text.slice(0, 300) : ""
}

/** What an edit changed. 2.x has a patch for each file. */
const diffOf = (metadata: ToolPart["metadata"] = {}): string | undefined => {
  const { diff, files } = metadata
  if (typeof diff === "string") return diff
  const patches = (Array.isArray(files) ? files : []).flatMap((file: unknown) =>
    typeof file === "object" && file !== null && "patch" in file && typeof file.patch === "string" ? [file.patch] : []
  )
  return patches.length === 0 ? undefined : patches.join("\n")
}

const Inside = ({ part: { error, files, input, metadata, output, refusal } }: { readonly part: ToolPart }) => {
  const diff = diffOf(metadata)
  const command = input["command"]
  const hasInput = Object.keys(input).length > 0
  return (
    <>
      {typeof command === "string" && <Text name="Command" text={command} />}
      {typeof command !== "string" && hasInput && diff === undefined && <Text name="Input" text={json(input)} />}
      {diff !== undefined && <Diff text={diff} />}
      {files !== undefined && files.length > 0 && (
        <ul class="files">
          {files.map(({ additions, change, deletions, path }) => (
            <li key={path}>
              {change} <code>{path}</code> {additions !== undefined && <ins>+{additions}</ins>}{" "}
              {deletions !== undefined && <del>−{deletions}</del>}
            </li>
          ))}
        </ul>
      )}
      {output !== undefined && output !== "" && <Text name="Output" text={output} />}
      {error !== undefined && <Text name="Error" text={error} />}
      {refusal !== undefined && <Text name="Refused" text={refusal} />}
    </>
  )
}

const Text = ({ name, text }: { readonly name: string; readonly text: string }) => (
  <>
    <p class="label">{name}</p>
    <pre tabIndex={0} aria-label={name}>{text.slice(0, maxLength)}</pre>
    {text.length > maxLength && <p class="note">{text.length - maxLength} more characters</p>}
  </>
)

/** A larger text would freeze the page. */
const maxLength = 100_000
