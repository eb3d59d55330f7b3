/**
 * Markdown as elements. Nothing of a text becomes HTML: each element is made here, and its text is set as text.
 */
import type { MarkedToken, Token, Tokens } from "marked"
import type { ComponentChildren, VNode } from "preact"
import { memo } from "preact/compat"
import { useRef } from "preact/hooks"
import { grow, noBlocks, plain, safeHref } from "./Blocks.ts"
import { Copy } from "./Copy.tsx"

export const Markdown = ({ isComplete, text }: { readonly text: string; readonly isComplete: boolean }) => {
  const blocks = useRef(noBlocks)
  blocks.current = grow(blocks.current, text, isComplete)
  return (
    <div class="markdown">
      {blocks.current.tokens.map((token, index) => <Block key={index} token={token} raw={token.raw} />)}
    </div>
  )
}

// internal

/** Redrawn only where its text changed. */
const Block = memo(
  ({ token }: { readonly token: Token; readonly raw: string }) => block(token, 0),
  (before, after) => before.raw === after.raw && before.token.type === after.token.type
)

/** How deep quotes and lists are drawn. What lies deeper is shown as text. */
const maxDepth = 40

const block = (given: Token, depth: number): VNode | null => {
  const token = known(given)
  if (depth > maxDepth) return <p>{given.raw}</p>
  switch (token?.type) {
    case "space":
    case "def":
      return null
    case "code":
      return <Code text={token.text} language={token.lang ?? ""} />
    case "heading": {
      // The page has headings of its own, above those of an answer.
      const Heading = headings[Math.min(token.depth, 4) - 1] ?? "h6"
      return <Heading>{inlines(token.tokens, depth)}</Heading>
    }
    case "hr":
      return <hr />
    case "checkbox":
      return <input type="checkbox" disabled checked={token.checked} />
    case "blockquote":
      return <blockquote>{blocks(token.tokens, depth + 1)}</blockquote>
    case "list":
      return token.ordered
        ? <ol start={typeof token.start === "number" ? token.start : 1}>{items(token, depth)}</ol>
        : <ul>{items(token, depth)}</ul>
    case "table":
      return (
        <div class="scroll" tabIndex={0} role="group" aria-label="Table">
          <table>
            <thead>
              <tr>{token.header.map((cell, index) => <th key={index}>{inlines(cell.tokens, depth)}</th>)}</tr>
            </thead>
            <tbody>
              {token.rows.map((row, index) => (
                <tr key={index}>{row.map((cell, place) => <td key={place}>{inlines(cell.tokens, depth)}</td>)}</tr>
              ))}
            </tbody>
          </table>
        </div>
      )
    case "paragraph":
      return <p>{inlines(token.tokens, depth)}</p>
    case "text":
      return <>{token.tokens === undefined ? plain(token.text) : inlines(token.tokens, depth)}</>
    default:
      return <p>{given.raw}</p>
  }
}

const headings = ["h3", "h4", "h5", "h6"] as const

const blocks = (tokens: ReadonlyArray<Token>, depth: number): ComponentChildren =>
  tokens.map((token) => block(token, depth))

const items = (list: Tokens.List, depth: number): ComponentChildren =>
  list.items.map((item, index) => (
    <li key={index} class={item.task ? "task" : undefined}>
      {blocks(item.tokens, depth + 1)}
    </li>
  ))

const inlines = (tokens: ReadonlyArray<Token> | undefined, depth: number): ComponentChildren =>
  (tokens ?? []).map((token) => inline(token, depth + 1))

const inline = (given: Token, depth: number): ComponentChildren => {
  const token = known(given)
  if (depth > maxDepth) return given.raw
  switch (token?.type) {
    case "strong":
      return <strong>{inlines(token.tokens, depth)}</strong>
    case "em":
      return <em>{inlines(token.tokens, depth)}</em>
    case "del":
      return <del>{inlines(token.tokens, depth)}</del>
    case "codespan":
      return <code>{token.text}</code>
    case "br":
      return <br />
    case "checkbox":
      return <input type="checkbox" disabled checked={token.checked} />
    case "link":
      return <Link href={token.href}>{inlines(token.tokens, depth)}</Link>
    case "image":
      // An image would tell its host who reads this, and when.
      return <Link href={token.href}>{`image: ${token.text === "" ? token.href : token.text}`}</Link>
    case "escape":
      return plain(token.text)
    case "text":
      return token.tokens === undefined ? plain(token.text) : inlines(token.tokens, depth)
    default:
      return given.raw
  }
}

const Link = ({ children, href }: { readonly href: string; readonly children: ComponentChildren }) => {
  const safe = safeHref(href)
  return safe === undefined
    ? <span>{children} ({href})</span>
    : <a href={safe} title={safe} target="_blank" rel="noopener noreferrer">{children}</a>
}

const Code = ({ language, text }: { readonly text: string; readonly language: string }) => (
  <figure class="code">
    <figcaption>
      <span>{language.split(/\s/)[0]}</span>
      <Copy text={text} />
    </figcaption>
    <pre tabIndex={0}><code>{text}</code></pre>
  </figure>
)

/** The token as one of those that the lexer makes without extensions. */
const known = (token: Token): MarkedToken | undefined => isKnown(token) ? token : undefined

const isKnown = (token: Token): token is MarkedToken => kinds.has(token.type)

const kinds = new Set([
  "blockquote",
  "br",
  "checkbox",
  "code",
  "codespan",
  "def",
  "del",
  "em",
  "escape",
  "heading",
  "hr",
  "html",
  "image",
  "link",
  "list",
  "paragraph",
  "space",
  "strong",
  "table",
  "text"
])
