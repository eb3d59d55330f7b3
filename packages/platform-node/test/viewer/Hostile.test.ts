import * as Listen from "#gateway/Listen"
import type * as TurnJson from "#gateway/TurnJson"
import { assert, it } from "@effect/vitest"
import { AskId, AssistantMessageId, ConversationId, MessageId, PartId, SessionId } from "@opencode-turn/core/Ids"
import * as Usage from "@opencode-turn/core/Usage"
import * as Gateway from "@opencode-turn/platform-node/gateway"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import { Effect, Layer } from "effect"
import { describe } from "vitest"
import * as Browser from "../support/Browser.ts"
import { act } from "../support/Browser.ts"
import * as Gateways from "../support/Gateways.ts"

/** A page that is signed in at a gateway of this process. */
const opened = Effect.gen(function*() {
  const gateway = yield* Gateway.make({ token: Gateways.token, viewer: true })
  const port = yield* Effect.orDie(Listen.listen(gateway, { host: "127.0.0.1", port: 0 }))
  const { page, problems } = yield* Browser.newPage()
  const url = `http://127.0.0.1:${port}`
  yield* act(async () => page.goto(`${url}${await Effect.runPromise(gateway.makeLink)}`))
  yield* act(() => page.getByLabel("Prompt", { exact: true }).waitFor())
  return { page, problems, url }
})

/** What runs a script where a text becomes HTML, an address that is followed, or a style. */
const corpus = [
  `<script>xss()</script>`,
  `<img src=x onerror=xss()>`,
  `<svg onload=xss()><animate onbegin=xss() attributeName=x dur=1s>`,
  `<svg><script>xss()</script></svg>`,
  `"><img src=x onerror=xss()>`,
  `'><script>xss()</script>`,
  `</textarea><script>xss()</script>`,
  `</title><script>xss()</script>`,
  `<iframe srcdoc="<script>parent.xss()</script>"></iframe>`,
  `<iframe src="javascript:parent.xss()"></iframe>`,
  `<object data="javascript:xss()"></object><embed src="javascript:xss()">`,
  `<body onload=xss()><details open ontoggle=xss()><video><source onerror=xss()></video>`,
  `<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=x onerror=xss()&gt;">`,
  `<form action="javascript:xss()"><button>go</button></form><input autofocus onfocus=xss()>`,
  `<base href="https://evil.example/"><meta http-equiv="refresh" content="0;url=javascript:xss()">`,
  `<link rel=stylesheet href="https://evil.example/x.css"><style>@import "https://evil.example/y.css";</style>`,
  `[go](javascript:xss())`,
  `[go](JaVaScRiPt:xss() "title")`,
  `[go](data:text/html;base64,PHNjcmlwdD54c3MoKTwvc2NyaXB0Pg==)`,
  `[go](java&#115;cript:xss())`,
  `[go](&#x6A;avascript:xss())`,
  `[go](\u0001javascript:xss())`,
  `[go](vbscript:xss())`,
  `[go][ref]\n\n[ref]: javascript:xss()`,
  `<javascript:xss()>`,
  `![x](javascript:xss())`,
  `![x](https://evil.example/pixel.png)`,
  `![x" onerror="xss()](x)`,
  `[x](https://a.example/"onmouseover="xss())`,
  "```\"><script>xss()</script>\n</code></pre><script>xss()</script>\n```",
  "`</code><script>xss()</script>`",
  `| <img src=x onerror=xss()> | b |\n|---|---|\n| [go](javascript:xss()) | <script>xss()</script> |`,
  `- [ ] <img src=x onerror=xss()>\n  > <script>xss()</script>`,
  `# <script>xss()</script>`,
  `&lt;img src=x onerror=xss()&gt; &#60;script&#62;xss()&#60;/script&#62;`,
  `{{constructor.constructor('xss()')()}} \${xss()}`,
  `--- <img src=x onerror=xss()>\n+++ b\n@@ -1 +1 @@\n-<script>xss()</script>\n+<img src=x onerror=xss()>`,
  `\u202Etxt.exe\u2066 ../../<img src=x onerror=xss()>`,
  `__proto__`,
  `constructor`,
  `${">".repeat(500)} deep`,
  `${"- ".repeat(300)}deep`,
  `${"[".repeat(2_000)}`,
  `${"*".repeat(2_000)}a${"_".repeat(2_000)}`
]

const usage = Usage.zero

const session = SessionId.make("ses_sub")

/** A turn whose every text is the given one. */
const hostile = (text: string, place: number): TurnJson.Turn => {
  const id = (kind: string) => `${kind}_${place}`
  const ids = (kind: string) => ({ id: PartId.make(id(kind)), messageId: MessageId.make("msg_1") })
  const tool = (kind: string, status: "completed" | "error" | "running") => ({
    type: "tool" as const,
    ...ids(kind),
    callId: text,
    tool: text,
    status,
    input: { command: text, description: text, [text]: text },
    title: text,
    output: text,
    error: text,
    isRefused: status === "error",
    refusal: text,
    // 2.x gives a patch for each file in place of a diff.
    metadata: { ...(place % 2 === 0 ? { diff: text } : { files: [{ patch: text }, null, text] }), [text]: text },
    files: [{ path: text, change: "modified" as const, additions: 1, deletions: 1 }],
    startedMillis: 1,
    endedMillis: 2
  })
  const { command: _, ...input } = tool("x", "completed").input
  return {
    messageId: AssistantMessageId.make(id("asm")),
    conversationId: ConversationId.make(text),
    status: "error",
    excerpt: text,
    isFallback: true,
    finish: text,
    usage,
    error: { tag: text, message: text },
    models: [],
    timing: null,
    firstTokenMillis: null,
    revertedBy: null,
    operation: null,
    sessionId: SessionId.make("ses_1"),
    model: text,
    agent: text,
    createdMillis: place,
    finishedMillis: place + 1,
    offset: "1",
    prompt: [
      { type: "text", text },
      { type: "file", mediaType: text, filename: text },
      { type: "agent", name: text },
      { type: "subtask", agent: text, description: text }
    ],
    content: text,
    parts: [
      { type: "text", ...ids("text"), text, isComplete: true },
      { type: "reasoning", ...ids("reasoning"), text, isComplete: true },
      tool("tool", "completed"),
      tool("refused", "error"),
      { ...tool("plain", "running"), input, metadata: {} },
      { type: "file", ...ids("file"), mediaType: text, url: text, filename: text },
      { type: "patch", ...ids("patch"), files: [text] },
      { type: "todos", id: PartId.make(id("todos")), todos: [{ content: text, status: "pending", priority: text }] },
      { type: "step-finish", ...ids("step"), reason: text, cost: 0, tokens: usage.tokens }
    ],
    waits: [],
    subagents: [{
      sessionId: SessionId.make(`${session}${place}`),
      parentId: SessionId.make("ses_1"),
      openedBy: PartId.make(id("tool")),
      title: text,
      agent: text,
      status: "completed",
      text,
      usage
    }]
  }
}

const asks = (text: string, place: number): ReadonlyArray<typeof TurnJson.Ask.Type> => {
  const stored = (kind: string) => ({
    id: AskId.make(`${kind}_${place}`),
    messageId: AssistantMessageId.make("asm_0"),
    conversationId: ConversationId.make(text),
    status: "open" as const,
    answer: null,
    createdMillis: 1,
    closedMillis: null
  })
  const permission = { permission: text, patterns: [text], always: [text], sessionId: session }
  const id = (kind: string) => AskId.make(`${kind}_${place}`)
  return [
    {
      ...stored("per"),
      ask: { _tag: "Permission", id: id("per"), ...permission, metadata: { command: text, diff: text } }
    },
    { ...stored("meta"), ask: { _tag: "Permission", id: id("meta"), ...permission, metadata: { [text]: text } } },
    {
      ...stored("que"),
      ask: {
        _tag: "Question",
        id: id("que"),
        sessionId: session,
        questions: [{
          question: text,
          header: text,
          options: [{ label: text, description: text }],
          multiple: false,
          custom: true
        }]
      }
    }
  ]
}

const answer = (body: unknown) => ({ status: 200, contentType: "application/json", body: JSON.stringify(body) })

/** What must not be in the page, whatever the texts say. */
const forbidden = [
  "iframe, object, embed, frame, base, form[action], #app script, #app style, #app link, #app meta, #app img, #app svg script",
  "#app video, #app audio, #app source, #app math, a[href^='javascript' i], a[href^='data' i], a[href^='vbscript' i], [style*='evil']"
].join(", ")

const handlers = `Array.from(document.querySelectorAll("*"))
  .flatMap((element) => Array.from(element.attributes))
  .filter(({ name }) => name.startsWith("on") || name === "srcdoc").map(({ name, value }) => name + "=" + value)`

/** Opens all that can be opened, also what it finds inside. Holds as soon as nothing is closed and everything has its inside. */
const isAllOpen = `Array.from(document.querySelectorAll("details"))
  .map((details) => { details.open = true; return details.querySelector(":scope > .inside") !== null })
  .every((isMade) => isMade)`

describe.skipIf(Browser.whyNone !== undefined)(`the page in Chromium ${Browser.whyNone ?? ""}`, () => {
  it.layer(Layer.merge(Gateways.layer, Browser.layer), { excludeTestServices: true })("with hostile words", (it) => {
    it.effect("makes no element, no script and no request of what a model, a tool or a file's name says", () =>
      Effect.gen(function*() {
        const { page, problems, url } = yield* opened
        const turns = corpus.map(hostile)
        const foreign: Array<string> = []
        page.context().on("request", (request) => {
          if (!request.url().startsWith(url)) foreign.push(request.url())
        })
        yield* act(async () => {
          await page.addInitScript(`window.ran = []; window.xss = () => { window.ran.push(1) }`)
          await page.route(
            (address) => address.pathname === "/conversations",
            (route) =>
              route.fulfill(answer({
                items: turns.map((turn) => ({ conversationId: turn.conversationId, newestTurn: turn })),
                next: null
              }))
          )
          await page.route(
            (address) => address.pathname === "/asks",
            (route) => route.fulfill(answer({ items: corpus.flatMap(asks), next: null }))
          )
          await page.route(
            (address) => address.pathname.endsWith("/turns"),
            (route) => route.fulfill(answer({ items: turns, next: null }))
          )
          await page.route(
            (address) => address.pathname === "/connection",
            (route) =>
              route.fulfill(answer({ state: "unreachable", version: corpus[0], reason: corpus[1], checkedMillis: 1 }))
          )
          await page.route(
            (address) => address.pathname.endsWith("/updates"),
            (route) => route.fulfill({ status: 204 })
          )
        })
        yield* act(() => page.goto(`${url}/#/c/x`))
        yield* act(() => page.reload())
        yield* act(() => page.locator(".turn").nth(corpus.length - 1).waitFor())
        yield* Browser.shows(() => page.evaluate(isAllOpen), true)
        const check = act(async () => ({
          ran: await page.evaluate("window.ran"),
          elements: await page.locator(forbidden).evaluateAll((all) => all.map((element) => element.outerHTML)),
          handlers: await page.evaluate(handlers)
        }))
        const nothing = { ran: [], elements: [], handlers: [] }
        assert.deepStrictEqual(yield* check, nothing)
        // The words themselves are there to read.
        for (const words of ["<script>xss()</script>", "<iframe src=\"javascript:parent.xss()\"></iframe>"]) {
          yield* act(() => page.locator("#main", { hasText: words }).waitFor())
        }
        yield* act(() => page.goto(`${url}/#/inbox`))
        yield* act(() => page.locator(".ask").nth(corpus.length * 3 - 1).waitFor())
        assert.deepStrictEqual(yield* check, nothing)
        assert.deepStrictEqual([foreign, problems], [[], []])
      }).pipe(Effect.scoped))

    it.effect("answers keys while ten thousand updates come, and shows each of them once", () =>
      Effect.gen(function*() {
        const { page, problems } = yield* opened
        const words = Array.from({ length: 10_000 }, (_, index) => `w${index}`)
        const call = Gateways.of((request) => fetch(request), Effect.undefined, new URL(page.url()).origin)
        yield* act(() => page.goto(`${page.url()}#/c/long`))
        const steps = [{ text: words.join(" "), gate: "long", gateAfter: 1 }]
        yield* call.call("/conversations/long/turns", { body: Gateways.start(steps) })
        yield* act(() => page.locator(".reply .markdown", { hasText: "w0" }).waitFor())
        yield* Effect.flatMap(FakeOpencode, (fake) => fake.release("long"))
        // The page is asked something again and again while it draws; a frozen one would not answer.
        let asked = 0
        do {
          yield* act(() => page.getByLabel("Prompt", { exact: true }).fill(`typed ${asked++}`))
        } while (!(yield* act(() => page.locator(".ending.completed").isVisible())))
        yield* Browser.shows(async () => (await page.locator(".reply .markdown").innerText()).split(/\s+/), words)
        assert.deepStrictEqual(problems, [])
      }).pipe(Effect.scoped))
  })
})
