import * as AnyDialect from "#opencode/AnyDialect"
import type { MessagePage } from "#opencode/Dialect"
import { assert, describe, it } from "@effect/vitest"
import type { ClientError } from "@opencode-turn/core/ClientError"
import { AskId, MessageId, PartId, SessionId } from "@opencode-turn/core/Ids"
import type { Prompt } from "@opencode-turn/core/Prompt"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpClient from "effect/http/HttpClient"
import { TestClock } from "effect/testing"
import { type Asked, assertFields, connect, empty, json, probed2x } from "../../support/http.ts"

type Line = "release" | "beta"

const sessionId = SessionId.make("ses_1")
const child = SessionId.make("ses_2")
const promptId = MessageId.make("msg_223c00000001aaaaaaaaaaaaaa")
const stepId = MessageId.make("msg_223c00000009bbbbbbbbbbbbbb")

/** A client of a server of the line, in a folder, or in the server's own (`null`). */
const dialect = Effect.fnUntraced(function*(
  line: Line,
  answer: (asked: Asked) => Response,
  directory: string | null = "/workspace"
) {
  const server = connect(answer, probed2x(line))
  const client = yield* AnyDialect.make({
    baseUrl: "http://127.0.0.1:4096",
    ...(directory !== null && { directory })
  }).pipe(
    Effect.provideService(HttpClient.HttpClient, server.client)
  )
  const sent = () =>
    server.requests().filter(({ method }) => method !== "GET").map(({ body, method, path }) => [method, path, body])
  return { client, server, sent }
})

const session = { id: sessionId, title: "", location: { directory: "/workspace" } }
const form = {
  id: "frm_1",
  sessionID: child,
  fields: [
    { key: "q0", title: "Colour", description: "Which?", type: "string", options: [{ value: "Red", label: "Red" }] },
    { key: "q1", type: "multiselect" }
  ]
}
const permission = {
  id: "per_1",
  sessionID: child,
  action: "shell",
  resources: ["ls"],
  source: { messageID: stepId, id: "c" }
}

const agent = (id: string, permissions: ReadonlyArray<object> | undefined, mode = "primary") => ({
  id,
  mode,
  permissions
})

const answers = ({ method, path }: Asked): Response =>
  path === "/api/location"
    ? json({ directory: "/workspace", project: { directory: "/" } })
    : path === "/api/session" && method === "POST" || path === "/api/session/ses_1"
    ? json({ data: session })
    : path.startsWith("/api/form")
    ? json({ data: [form] })
    : path === "/api/permission/request"
    ? json({ data: [permission] })
    : path === "/api/session/active"
    ? json({ data: {} })
    : path.endsWith("/inbox") || path.endsWith("/pending")
    ? json({ data: [{ id: "msg_parked" }] })
    : method === "GET"
    ? json({ data: [] })
    : empty(204)

const prompt: Prompt & { readonly ids: { readonly promptId: MessageId; readonly partIds: ReadonlyArray<PartId> } } = {
  ids: { promptId, partIds: [PartId.make("prt_1")] },
  parts: [{ type: "text", text: "Do it." }]
}

describe("the metadata of a session of 2.x", () => {
  const metadata = { ticket: "42" }

  it.effect("is sent to the release, which shows whether it keeps it", () =>
    Effect.gen(function*() {
      const keeping = yield* dialect("release", (asked) =>
        asked.path === "/api/session/ses_1" && asked.method === "GET"
          ? json({ data: { ...session, metadata: { ...metadata, other: 1 } } })
          : answers(asked))
      assert.deepStrictEqual((yield* keeping.client.updateSession(sessionId, { metadata })).metadata, {
        ...metadata,
        other: 1
      })
      assert.deepStrictEqual(keeping.sent(), [["PATCH", "/api/session/ses_1", { metadata }]])
      const dropping = yield* dialect("release", answers)
      const error = yield* Effect.flip(dropping.client.updateSession(sessionId, { metadata }))
      assertFields(error, { _tag: "UnsupportedOperation", operation: "keep metadata with a session" })
    }))

  it.effect("is refused on the beta before anything is sent", () =>
    Effect.gen(function*() {
      const { client, sent } = yield* dialect("beta", answers)
      const error = yield* Effect.flip(client.updateSession(sessionId, { title: "new", metadata }))
      assertFields(error, { _tag: "UnsupportedOperation", operation: "keep metadata with a session" })
      assert.deepStrictEqual(sent(), [])
    }))
})

describe("the bodies of 2.x", () => {
  const both = ["release", "beta"] as const
  it.effect.each(both)("answer asks under the session that asks: %s", (line) =>
    Effect.gen(function*() {
      const { client, sent } = yield* dialect(line, answers)
      yield* client.answerQuestion(AskId.make("frm_1"), [["Red"], ["a", "b"]])
      yield* client.rejectQuestion(AskId.make("frm_1"))
      yield* client.answerPermission(AskId.make("per_1"), { reply: "reject", message: "No." })
      assert.deepStrictEqual(sent(), [
        ["POST", "/api/session/ses_2/form/frm_1/reply", { answer: { q0: "Red", q1: ["a", "b"] } }],
        line === "beta"
          ? ["POST", "/api/session/ses_2/form/frm_1/cancel", undefined]
          : ["DELETE", "/api/session/ses_2/form/frm_1", undefined],
        [
          "POST",
          "/api/session/ses_2/permission/per_1/reply",
          { message: "No.", ...(line === "beta" ? { reply: "reject" } : { decision: "reject" }) }
        ]
      ])
      assertFields(yield* Effect.flip(client.answerPermission(AskId.make("per_9"), { reply: "once" })), {
        _tag: "AskNotFound"
      })
    }))

  it.effect.each(both)(
    "list asks of the folder that the server chose if the client names none: %s",
    (line) =>
      Effect.gen(function*() {
        const { client, server } = yield* dialect(line, answers, null)
        yield* client.questions
        yield* client.permissions
        assert.deepStrictEqual(server.requests().map(({ path, query }) => [path, query]), [
          ["/api/location", {}],
          [line === "beta" ? "/api/form/request" : "/api/form", { "location[directory]": "/workspace" }],
          ["/api/permission/request", { "location[directory]": "/workspace" }]
        ])
      })
  )

  it.effect.each(both)("create a session with what the line can keep: %s", (line) =>
    Effect.gen(function*() {
      const { client, sent } = yield* dialect(line, answers)
      yield* client.createSession({ title: "t", metadata: { a: 1 } })
      const location = { directory: "/workspace" }
      assert.deepStrictEqual(
        sent(),
        line === "beta"
          ? [["POST", "/api/session", { location }], ["POST", "/api/session/ses_1/rename", { title: "t" }]]
          : [["POST", "/api/session", { location, title: "t", metadata: { a: 1 } }]]
      )
      if (line === "beta") return
      yield* client.createSession({ permission: [{ permission: "bash", pattern: "*", action: "deny" }] })
      assert.deepStrictEqual(sent().at(-1)?.[2], {
        location,
        permissions: [{ action: "shell", resource: "*", effect: "deny" }]
      })
    }))

  it.effect.each(both)(
    "make no session that is not below the one that it should be below: %s",
    (line) =>
      Effect.gen(function*() {
        const { client, sent } = yield* dialect(line, answers)
        const error = yield* Effect.flip(client.createSession({ parentId: child }))
        assertFields(error, { _tag: "UnsupportedOperation", operation: "make a session below another one" })
        assert.deepStrictEqual(
          sent(),
          line === "beta"
            ? []
            : [
              ["POST", "/api/session", { location: { directory: "/workspace" }, parentID: child }],
              ["DELETE", "/api/session/ses_1", undefined]
            ]
        )
        if (line === "beta") return
        const keeping = yield* dialect(
          line,
          (asked) => asked.path === "/api/session" ? json({ data: { ...session, parentID: child } }) : answers(asked)
        )
        assert.strictEqual((yield* keeping.client.createSession({ parentId: child })).parentId, child)
      })
  )

  it.effect("stop nothing where the session is gone, and say so of no stop", () =>
    Effect.gen(function*() {
      const { client } = yield* dialect("release", (asked) =>
        asked.path.endsWith("/interrupt") ? empty(404) : answers(asked))
      yield* client.abortSession(sessionId)
    }))

  it.effect("have no rules on the beta, whose agents go by its configuration: a session without its rules is not made", () =>
    Effect.gen(function*() {
      let agents: ReadonlyArray<object> = []
      const { client, sent, server } = yield* dialect(
        "beta",
        (asked) => asked.path === "/api/agent" ? json({ data: agents }) : answers(asked)
      )
      const permission = [{ permission: "bash", pattern: "*", action: "ask" }] as const
      const asks: ReadonlyArray<Effect.Effect<void, ClientError>> = [
        client.checkRules(permission),
        Effect.asVoid(client.createSession({ permission })),
        Effect.asVoid(client.updateSession(sessionId, { permission }))
      ]
      const allowing = [{ action: "*", resource: "*", effect: "allow" }]
      const asking = [...allowing, { action: "shell", resource: "*", effect: "ask" }]
      const weak = [
        [agent("build", allowing)],
        [agent("build", asking), agent("mine", allowing, "all")],
        [agent("build", asking), agent("old", undefined)],
        [agent("build", [...asking, { action: "shell", resource: "git *", effect: 7 }])]
      ]
      for (agents of weak) {
        for (const ask of asks) {
          assertFields(yield* Effect.flip(ask), { _tag: "UnsupportedOperation", field: "permission" })
        }
      }
      assert.deepStrictEqual(sent(), [])
      agents = [agent("build", asking), agent("general", allowing, "subagent"), {
        ...agent("title", allowing),
        hidden: true
      }]
      for (const ask of asks) yield* ask
      assert.deepStrictEqual(sent(), [["POST", "/api/session", { location: { directory: "/workspace" } }]])
      // It lists its agents once it has loaded the folder.
      agents = []
      const waiting = yield* Effect.forkChild(client.checkRules(permission))
      yield* TestClock.adjust("3 seconds")
      assert.isUndefined(waiting.pollUnsafe())
      agents = [agent("build", asking)]
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(waiting)
      agents = []
      const failing = yield* Effect.forkChild(Effect.flip(client.checkRules(permission)))
      yield* TestClock.adjust("20 seconds")
      assertFields(yield* Fiber.join(failing), { _tag: "UnsupportedOperation", reason: "it lists no agents" })
      const before = server.requests().length
      yield* client.checkRules([])
      assert.strictEqual(server.requests().length, before)
    }))

  it.effect("ask for a value in words, and send files and mentions beside the text", () =>
    Effect.gen(function*() {
      const { client, sent } = yield* dialect("release", answers)
      const url = "data:text/plain;base64,aGk="
      yield* client.prompt(sessionId, {
        parts: [
          { type: "text", text: "Read." },
          { type: "file", mediaType: "text/plain", url, filename: "a.txt" },
          { type: "agent", name: "general" }
        ],
        format: { type: "json_schema", schema: { type: "object" } }
      })
      assertFields(sent().at(-1)?.[2], { files: [{ uri: url, name: "a.txt" }], agents: [{ name: "general" }] })
      assert.match(
        JSON.stringify(sent().at(-1)?.[2]),
        /Read\..*call the subagent tool with the agent: general.*JSON Schema/
      )
    }))

  it.effect.each(both)(
    "give the system text of a prompt to its session, and take it back: %s",
    (line) =>
      Effect.gen(function*() {
        const { client, sent } = yield* dialect(line, answers)
        const path = `/api/${line === "beta" ? "" : "experimental/"}session/ses_1/instructions/entries/opencode-turn`
        const system = "Be brief."
        yield* client.prompt(sessionId, { ...prompt, system })
        yield* client.endPrompt(sessionId, { ...prompt, system })
        yield* client.endPrompt(sessionId, prompt)
        yield* client.prompt(sessionId, prompt)
        assert.deepStrictEqual(
          sent().map(([method, path, body]) => [method, path, method === "PUT" ? body : undefined]),
          [
            ["PUT", path, { value: system }],
            ["POST", "/api/session/ses_1/prompt", undefined],
            ["DELETE", path, undefined],
            ["DELETE", path, undefined],
            ["POST", "/api/session/ses_1/prompt", undefined]
          ]
        )
      })
  )

  it.effect("refuse a system text where the server takes none, and tell a session that is gone", () =>
    Effect.gen(function*() {
      let isGone = false
      const { client, sent } = yield* dialect(
        "release",
        (asked) =>
          asked.path.includes("/instructions/") || (isGone && asked.path === "/api/session/ses_1")
            ? empty(404)
            : answers(asked)
      )
      const ask = client.prompt(sessionId, { ...prompt, system: "Be brief." })
      assertFields(yield* Effect.flip(ask), { _tag: "UnsupportedOperation" })
      isGone = true
      assertFields(yield* Effect.flip(ask), { _tag: "SessionNotFound" })
      assert.deepStrictEqual(sent().filter(([method]) => method === "POST"), [])
      isGone = false
      yield* client.prompt(sessionId, prompt)
      assert.lengthOf(sent().filter(([method]) => method === "POST"), 1)
    }))

  const impossible: ReadonlyArray<readonly [string, Partial<Prompt>]> = [
    ["limits of the tools", { tools: { shell: false } }],
    ["a subtask", { parts: [{ type: "subtask", description: "d", prompt: "p", agent: "general" }] }]
  ]
  it.effect.each(impossible)("refuse %s before anything is sent", ([, fields]) =>
    Effect.gen(function*() {
      const { client, sent } = yield* dialect("release", answers)
      const error = yield* Effect.flip(client.prompt(sessionId, { ...prompt, ...fields }))
      assertFields(error, { _tag: "UnsupportedOperation" })
      assert.deepStrictEqual(sent(), [])
    }))
})

/** A server whose session has a prompt with a step that broke off. `onPost` is what comes of each post; the state is what is listed next. */
const broken = (
  onPost: (state: Broken, path: string, body: Readonly<Record<string, unknown>>) => void = () => {},
  state: Broken = { messages: [input(promptId), halfStep(stepId)], pending: [], isActive: false }
) => {
  const answer = (asked: Asked): Response => {
    const { body, method, path } = asked
    if (method === "POST") {
      onPost(state, path, typeof body === "object" && body !== null ? { ...body } : {})
      return empty(204)
    }
    const id = /^\/api\/session\/ses_1\/message\/(.*)$/.exec(path)?.[1]
    const found = state.messages.find((message) => message.id === id)
    return id !== undefined
      ? found === undefined ? empty(404) : json({ data: found })
      : path === "/api/session/ses_1/message"
      ? json({ data: state.messages.toReversed() })
      : path.endsWith("/inbox") || path.endsWith("/pending")
      ? json({ data: state.pending })
      : path === "/api/session/active"
      ? json({ data: state.isActive ? { ses_1: { type: "running" } } : {} })
      : answers(asked)
  }
  return { state, answer }
}

interface Broken {
  messages: ReadonlyArray<{ readonly id: string }>
  pending: ReadonlyArray<{ readonly id: string }>
  isActive: boolean
}

const input = (id: string, type = "user") => ({ id, type, time: { created: 1 }, text: "Do it." })
const halfStep = (id: string) => ({
  id,
  type: "assistant",
  time: { created: 2 },
  content: [{ type: "text", text: "" }]
})

const laterStep = halfStep("msg_223c00000010bbbbbbbbbbbbbb")
const [first, second] = ["msg_223c00000002aaaaaaaaaaaaaa", "msg_223c00000003aaaaaaaaaaaaaa"] as const

const posts = (sent: ReadonlyArray<ReadonlyArray<unknown>>) =>
  sent.filter(([method]) => method === "POST").map(([, path, body]) => [
    String(path).replace("/api/session/ses_1/", ""),
    typeof body === "object" && body !== null && "id" in body ? body.id : undefined
  ])

/** The id under which a session of this state is told to go on. */
const continuationOf = (state: Broken) =>
  Effect.gen(function*() {
    const { client, sent } = yield* dialect("beta", broken(undefined, state).answer)
    yield* client.carryOn(sessionId, prompt)
    return posts(sent()).at(-1)?.[1]
  })

describe("an idle session of 2.x whose prompt has no whole answer", () => {
  it.effect("is posted the same prompt while that waits, and nothing else", () =>
    Effect.gen(function*() {
      const { answer } = broken(undefined, { messages: [], pending: [{ id: promptId }], isActive: false })
      const { client, sent } = yield* dialect("beta", answer)
      yield* client.carryOn(sessionId, prompt)
      assert.deepStrictEqual(posts(sent()), [["prompt", promptId]])
    }))

  it.effect.each(["release", "beta"] as const)(
    "is posted the same prompt, so that the server will not go on by itself, and is told to go on then: %s",
    (line) =>
      Effect.gen(function*() {
        const { client, sent } = yield* dialect(line, broken().answer)
        yield* client.carryOn(sessionId, prompt)
        assert.deepStrictEqual(posts(sent()), [["prompt", promptId], ["synthetic", first]])
        assertFields(sent().at(-1)?.[2], { delivery: "steer", metadata: { source: "opencode-turn" } })
      })
  )

  it.effect("is not told to go on before the run that the post began has ended", () =>
    Effect.gen(function*() {
      const { answer, state } = broken((state, path) => {
        if (path.endsWith("/prompt")) state.isActive = true
      })
      const { client, sent } = yield* dialect("beta", answer)
      const fiber = yield* Effect.forkChild(client.carryOn(sessionId, prompt), { startImmediately: true })
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(posts(sent()), [["prompt", promptId]])
      state.isActive = false
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(posts(sent()), [["prompt", promptId], ["synthetic", first]])
    }))

  it.effect("is left alone if the server goes on by itself, before its model has said a word and after it has ended", () =>
    Effect.gen(function*() {
      for (const isActive of [true, false]) {
        const { answer, state } = broken((state) => {
          state.isActive = true
        })
        const { client, sent } = yield* dialect("beta", answer)
        const fiber = yield* Effect.forkChild(client.carryOn(sessionId, prompt), { startImmediately: true })
        yield* TestClock.adjust("10 seconds")
        state.messages = [...state.messages, laterStep]
        state.isActive = isActive
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(fiber)
        assert.deepStrictEqual(posts(sent()), [["prompt", promptId]])
      }
    }))

  it.effect("is told to go on under the same id by workers that saw different messages, until the session has that id", () =>
    Effect.gen(function*() {
      const messages = [input(promptId), halfStep(stepId)]
      const more = [...messages, laterStep]
      assert.strictEqual(yield* continuationOf({ messages: more, pending: [], isActive: false }), first)
      const gone = [...messages, input(first, "synthetic")]
      assert.strictEqual(yield* continuationOf({ messages: gone, pending: [], isActive: false }), second)
      const longGone = [input(first, "synthetic"), ...Array.from({ length: 99 }, (_, n) => halfStep(`msg_8${n}`))]
      assert.strictEqual(
        yield* continuationOf({ messages: [input(promptId), ...longGone], pending: [], isActive: false }),
        second
      )
    }))

  it.effect("is told to go on at once if something waits in it, which the same prompt would wake", () =>
    Effect.gen(function*() {
      const { answer, state } = broken()
      state.pending = [{ id: "msg_parked" }]
      const { client, sent } = yield* dialect("beta", answer)
      yield* client.carryOn(sessionId, prompt)
      assert.deepStrictEqual(posts(sent()), [["synthetic", first]])
    }))
})

const logged = (type: string, reason?: string) =>
  `data: ${JSON.stringify({ type: `session.${type}`, data: { sessionID: sessionId, reason } })}`

describe("a revert of 2.x", () => {
  it.effect.each(["release", "beta"] as const)("is staged, and cleared again: %s", (line) =>
    Effect.gen(function*() {
      const { client, sent } = yield* dialect(line, (asked) =>
        asked.path === "/api/session/ses_1"
          ? json({ data: { ...session, revert: { messageID: promptId, files: [] } } })
          : answers(asked))
      assertFields(yield* client.revertSession(sessionId, promptId), { revertedFrom: promptId })
      yield* client.unrevertSession(sessionId)
      assert.deepStrictEqual(sent(), [
        ["POST", "/api/session/ses_1/revert/stage", { messageID: promptId }],
        line === "beta"
          ? ["POST", "/api/session/ses_1/revert/clear", undefined]
          : ["DELETE", "/api/session/ses_1/revert", undefined]
      ])
    }))

  it.effect("changes nothing if the session does not have the message, and fails if it works", () =>
    Effect.gen(function*() {
      const { client } = yield* dialect(
        "beta",
        (asked) =>
          asked.path.endsWith("/revert/stage")
            ? empty(404)
            : asked.path.endsWith("/revert/clear")
            ? empty(409)
            : answers(asked)
      )
      assertFields(yield* client.revertSession(sessionId, promptId), { revertedFrom: undefined })
      assertFields(yield* Effect.flip(client.unrevertSession(sessionId)), { _tag: "SessionBusy", sessionId })
    }))

  it.effect("names the message of a fork as each release does", () =>
    Effect.gen(function*() {
      const { client, sent } = yield* dialect("release", (asked) =>
        asked.path.endsWith("/fork") ? json({ data: session }) : answers(asked))
      yield* client.forkSession(sessionId, { before: promptId })
      yield* client.forkSession(sessionId, {})
      assert.deepStrictEqual(
        sent().map(([, , body]) =>
          body
        ),
        [{ messageID: promptId, before: promptId }, {}]
      )
    }))
})

const told = (entry: object) => `data: ${JSON.stringify(entry)}\n\n`

const logOf = (entries: ReadonlyArray<object>, seq = 9) =>
  new Response([...entries, { type: "log.synced", seq }].map(told).join(""), {
    headers: { "content-type": "text/event-stream" }
  })

const isOrder = ({ method, path }: Asked) => method === "POST" && path === "/api/session/ses_1/compact"

const costOf = ({ messages }: MessagePage) =>
  messages.flatMap(({ parts }) => parts.flatMap((part) => (part.type === "step-finish" ? [part.cost] : [])))

/** How often a log was read. */
const reads = ({ server }: { readonly server: ReturnType<typeof connect> }) =>
  server.requests().filter(({ path }) => path.endsWith("/log")).length

describe("a summary of 2.x", () => {
  const orderId = "msg_order"
  const used = {
    type: "session.usage.recorded",
    data: { source: "compaction", cost: 0.5, tokens: { input: 10, output: 5 } }
  }
  const compaction = (status: string, fields: object = {}) => ({
    id: orderId,
    type: "compaction",
    time: { created: 3 },
    status,
    reason: "manual",
    ...fields
  })
  const written = compaction("completed", { summary: "What was said.", recent: "" })
  const prompted = { id: promptId, type: "user", time: { created: 1 }, text: "Do it." }

  /** A server whose order becomes the messages, one with each look. */
  const writing = (states: ReadonlyArray<object | undefined>, fields: object = {}) => {
    let looks = 0
    return (asked: Asked): Response => {
      if (isOrder(asked)) return json({ data: { id: orderId, sessionID: sessionId, type: "compaction" } })
      if (asked.path === `/api/session/ses_1/message/${orderId}`) {
        const state = states[Math.min(looks++, states.length - 1)]
        return state === undefined ? empty(404) : json({ data: state })
      }
      if (asked.path === "/api/session/ses_1/message") return json({ data: [prompted], cursor: {} })
      if (asked.path.endsWith("/log")) {
        return logOf([
          { type: "session.compaction.started", data: { inputID: orderId } },
          used,
          { type: "session.compaction.ended", data: {} }
        ])
      }
      if (asked.path === "/api/session/ses_1") return json({ data: { ...session, ...fields } })
      if (asked.path === "/api/model/default") return json({ data: { id: "usual", providerID: "p" } })
      return answers(asked)
    }
  }

  it.effect.each(["release", "beta"] as const)(
    "is ordered, waited for, and told with what it took: %s",
    (line) =>
      Effect.gen(function*() {
        const { client, sent } = yield* dialect(line, writing([written]))
        assertFields(yield* client.compactSession(sessionId), {
          messageId: orderId,
          text: "What was said.",
          isNew: true
        })
        assertFields((yield* client.compactSession(sessionId)).usage, { cost: 0.5 })
        assert.deepStrictEqual(sent().slice(0, 2), [
          ["POST", "/api/session/ses_1/compact", {}],
          ["POST", line === "beta" ? "/api/session/ses_1/wait" : "/api/experimental/session/ses_1/wait", undefined]
        ])
      })
  )

  it.effect("is waited for again while the session is idle before its order", () =>
    Effect.gen(function*() {
      const { client, sent } = yield* dialect("beta", writing([undefined, compaction("running"), written]))
      const fiber = yield* Effect.forkChild(client.compactSession(sessionId), { startImmediately: true })
      yield* TestClock.adjust("1 second")
      assertFields(yield* Fiber.join(fiber), { text: "What was said." })
      assert.lengthOf(sent().filter(([, path]) => path === "/api/session/ses_1/compact"), 1)
    }))

  it.effect("fails with the server's reason, or if nothing comes of the order", () =>
    Effect.gen(function*() {
      const reason = { type: "provider.no-route", message: "Model unavailable: a/b" }
      const { client } = yield* dialect("beta", writing([compaction("failed", { error: reason })]))
      assertFields(yield* Effect.flip(client.compactSession(sessionId)), {
        _tag: "CompactionFailed",
        reason: reason.message
      })
      const { client: never } = yield* dialect("beta", writing([undefined]))
      const fiber = yield* Effect.forkChild(Effect.flip(never.compactSession(sessionId)), { startImmediately: true })
      yield* TestClock.adjust("1 minute")
      assertFields(yield* Fiber.join(fiber), { _tag: "CompactionFailed", reason: "there is no summary" })
    }))

  it.effect("that fails tells what it took in vain", () =>
    Effect.gen(function*() {
      const { client } = yield* dialect(
        "beta",
        writing([compaction("failed", { error: { type: "x", message: "no" } })])
      )
      const error = yield* Effect.flip(client.compactSession(sessionId))
      assert(error._tag === "CompactionFailed")
      assert.strictEqual(error.usage.cost, 0.5)
    }))

  it.effect("that an answer needs costs what its message tells, or what the session's log does, which is read once", () =>
    Effect.gen(function*() {
      const step = { id: "msg_z", type: "assistant", content: [], time: { created: 9, completed: 9 }, finish: "stop" }
      const serve = (fields: object, log: (after: number) => Response) =>
        dialect("beta", (asked) =>
          asked.path === "/api/session/ses_1/message"
            ? json({ data: [step, { ...written, id: "msg_auto", reason: "auto", ...fields }, prompted], cursor: {} })
            : asked.path.endsWith("/log")
            ? log(Number(asked.query["after"]))
            : answers(asked))

      const told = yield* serve({ cost: 0.25, tokens: used.data.tokens }, () => empty(404))
      assert.deepStrictEqual(costOf(yield* told.client.listMessages(sessionId, { limit: 10 })), [0.25])
      assert.strictEqual(reads(told), 0)

      // The summary is far from the end of the log.
      const logged = yield* serve(
        {},
        (after) =>
          logOf(
            after > 700 ?
              [] :
              [{ id: "evt_auto", type: "session.compaction.started", data: { reason: "auto" } }, used, {
                type: "session.compaction.ended",
                data: { reason: "auto" }
              }],
            1000
          )
      )
      for (let count = 0; count < 2; count++) {
        assert.deepStrictEqual(costOf(yield* logged.client.listMessages(sessionId, { limit: 10 })), [0.5])
      }
      assert.strictEqual(reads(logged), 3)

      const without = yield* serve({}, () => empty(404))
      for (let count = 0; count < 2; count++) {
        assert.deepStrictEqual(costOf(yield* without.client.listMessages(sessionId, { limit: 10 })), [])
      }
      assert.strictEqual(reads(without), 1)
    }))

  const ends: ReadonlyArray<readonly [string, ReadonlyArray<object>, boolean]> = [
    ["a summary", [written], false],
    ["a summary and marks of the server", [
      { id: "msg_9", type: "model-switched", time: { created: 9 } },
      compaction("failed", { id: "msg_8" }),
      written
    ], false],
    ["a prompt behind a summary", [prompted, written], true],
    ["a shell command behind a summary", [{ id: "msg_9", type: "shell", time: { created: 9 } }, written], true]
  ]
  it.effect.each(ends)("of a session that ends with %s", ([, messages, isNew]) =>
    Effect.gen(function*() {
      const serve = writing([written])
      const { client } = yield* dialect("beta", (asked) =>
        asked.path === "/api/session/ses_1/message" ? json({ data: messages, cursor: {} }) : serve(asked))
      const summary = yield* client.compactSession(sessionId)
      assertFields(summary, { text: "What was said.", isNew })
      assert.strictEqual(summary.usage.cost, 0.5)
    }))

  it.effect("is ordered once more if the session had an order that its server did not live to carry out", () =>
    Effect.gen(function*() {
      const serve = writing([compaction("failed"), written])
      const { client, sent } = yield* dialect("beta", (asked) =>
        asked.path === "/api/session/ses_1/message"
          ? json({ data: [compaction("running"), prompted], cursor: {} })
          : serve(asked))
      assertFields(yield* client.compactSession(sessionId), { text: "What was said.", isNew: true })
      assert.lengthOf(sent().filter(([, path]) => path === "/api/session/ses_1/compact"), 2)
    }))

  it.effect.each(["release", "beta"] as const)(
    "that its server did not live to write is in no prompt's way: %s",
    (line) =>
      Effect.gen(function*() {
        const serve = writing([compaction("failed")])
        let isBusy = true
        const { client, sent } = yield* dialect(line, (asked) =>
          asked.path === "/api/session/ses_1/message"
            ? json({ data: [compaction("running"), prompted], cursor: {} })
            : asked.path === "/api/session/active"
            ? json({ data: isBusy ? { ses_1: { type: "running" } } : {} })
            : /\/(inbox|pending)$/.test(asked.path)
            ? json({ data: [{ id: "msg_parked", type: "user" }, { id: orderId, type: "compaction" }] })
            : serve(asked))
        assertFields(yield* client.listMessages(sessionId, { limit: 1 }), { hasOrder: true })
        yield* client.dropCompaction(sessionId)
        assert.deepStrictEqual(sent(), [])
        isBusy = false
        yield* client.dropCompaction(sessionId)
        assert.deepStrictEqual(
          sent().map(([method, path]) => [method, path]),
          line === "beta"
            ? [["POST", "/api/session/ses_1/compact"], ["POST", "/api/session/ses_1/wait"]]
            : [["DELETE", `/api/session/ses_1/inbox/${orderId}`]]
        )
      })
  )

  it.effect("is not ordered while the server does not know the model yet", () =>
    Effect.gen(function*() {
      let models: ReadonlyArray<object> = []
      const serve = writing([written], { model: { id: "m", providerID: "p" } })
      const { client, sent } = yield* dialect("beta", (asked) =>
        asked.path === "/api/model" ? json({ data: models }) : serve(asked))
      const fiber = yield* Effect.forkChild(client.compactSession(sessionId), { startImmediately: true })
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(sent(), [])
      models = [{ id: "m", providerID: "p" }]
      yield* TestClock.adjust("1 second")
      assertFields(yield* Fiber.join(fiber), { isNew: true })
    }))

  it.effect("makes a pending revert final before it is ordered", () =>
    Effect.gen(function*() {
      const { client, sent } = yield* dialect("beta", writing([written], { revert: { messageID: promptId } }))
      yield* client.compactSession(sessionId)
      assert.deepStrictEqual(sent().slice(0, 2).map(([, path]) => path), [
        "/api/session/ses_1/revert/commit",
        "/api/session/ses_1/compact"
      ])
    }))

  it.effect("is by the named model, and what comes after it by the session's own", () =>
    Effect.gen(function*() {
      for (
        const [model, usual] of [
          [{ id: "own", providerID: "p", variant: "high" }, { id: "own", providerID: "p", variant: "high" }],
          [undefined, { id: "usual", providerID: "p" }]
        ]
      ) {
        let chosen: object | undefined = model
        const serve = writing([written])
        const { client, sent } = yield* dialect("beta", (asked) => {
          if (asked.path === "/api/session/ses_1/model") {
            chosen = JSON.parse(JSON.stringify(asked.body)).model
            return empty(204)
          }
          return asked.path === "/api/session/ses_1"
            ? json({ data: { ...session, ...(chosen !== undefined && { model: chosen }) } })
            : serve(asked)
        })
        const summary = yield* Effect.forkChild(client.compactSession(sessionId, { providerId: "p", modelId: "small" }))
        yield* TestClock.adjust("1 minute")
        yield* Fiber.join(summary)
        assert.deepStrictEqual(
          sent().filter(([, path]) => path !== "/api/session/ses_1/wait").map(([, , body]) => body),
          [
            { model: { id: "small", providerID: "p" } },
            {},
            { model: usual }
          ]
        )
      }
    }))

  it.effect("that is interrupted stops the model", () =>
    Effect.gen(function*() {
      const serve = writing([compaction("running")])
      const { client, sent } = yield* dialect("beta", serve)
      const fiber = yield* Effect.forkChild(client.compactSession(sessionId), { startImmediately: true })
      yield* TestClock.adjust("50 millis")
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(sent().at(-1)?.[1], "/api/session/ses_1/interrupt")
    }))
})

describe("a step of 2.x that was interrupted", () => {
  const step = [logged("execution.started"), logged("step.started"), logged("step.failed")]
  const byPerson = logged("execution.interrupted", "user")
  const byServer = logged("execution.interrupted", "shutdown")
  const [started, succeeded] = [logged("execution.started"), logged("execution.succeeded")]
  const logs: ReadonlyArray<readonly [string, ReadonlyArray<string>, string | undefined]> = [
    ["a person did it", [...step, byPerson], "MessageAbortedError"],
    ["the server went down", [...step, byServer], undefined],
    ["the server went down, and the prompt was posted again", [...step, byServer, started, succeeded], undefined],
    ["the server went down, and goes on by itself", [...step, byServer, started], undefined],
    ["the server has gone on meanwhile", [...step, byServer, started, logged("step.started")], undefined]
  ]
  it.effect.each(logs)("is told apart by the session's log: %s", ([, log, name]) =>
    Effect.gen(function*() {
      const message = {
        id: stepId,
        type: "assistant",
        time: { created: 2, completed: 3 },
        content: [],
        finish: "error",
        error: { type: "aborted", message: "Step interrupted" }
      }
      const { client } = yield* dialect("beta", ({ path, query }) =>
        path.endsWith("/log")
          ? new Response(
            `${query["after"] === "0" ? log.join("\n\n") : ""}\n\ndata: {"type":"log.synced","seq":9}\n\n`,
            { headers: { "content-type": "text/event-stream" } }
          )
          : json({ data: [message, { id: promptId, type: "user", time: { created: 1 }, text: "" }] }))
      const { messages } = yield* client.listMessages(sessionId, { limit: 10 })
      const info = messages.at(-1)?.info
      assert(info?.role === "assistant")
      assert.deepStrictEqual([info.error?.name, info.completedMillis], [name, name === undefined ? undefined : 3])
    }))
})

describe("a tree of sessions of 2.x", () => {
  const stops = [["POST", "/api/session/ses_2/interrupt"], ["POST", "/api/session/ses_1/interrupt"]]
  const removals = [promptId, "msg_goon", "msg_word"].map((id) => ["DELETE", `/api/session/ses_1/inbox/${id}`])
  const inbox = [
    { id: promptId },
    { id: "msg_goon", payload: { metadata: { source: "opencode-turn" } } },
    { id: "msg_word", payload: { metadata: { source: "subagent", childID: child } } },
    { id: "msg_other", payload: { metadata: { source: "subagent", childID: "ses_9" } } },
    { id: "msg_later" }
  ]
  const cases = [
    ["release", "was read", [...removals, ...stops]],
    ["release", "still waits", removals],
    ["beta", "was read", stops],
    // The beta removes nothing, and its session may not go on.
    ["beta", "still waits", stops]
  ] as const
  it.effect.each(cases)(
    "is stopped from its leaves, with what is its own in the inbox: %s, its prompt %s",
    ([line, what, requests]) =>
      Effect.gen(function*() {
        const { client, sent } = yield* dialect(line, (asked) =>
          asked.method === "GET" && asked.path.endsWith("/inbox")
            ? json({ data: inbox })
            : asked.path.endsWith(`/message/${promptId}`) && what === "still waits"
            ? empty(404)
            : answers(asked))
        yield* client.stopTree({ root: sessionId, subagents: [child], promptId })
        assert.deepStrictEqual(sent().map(([method, path]) => [method, path]), [...requests])
      })
  )
})

const step = (n: number) => ({
  id: `msg_${n}`,
  type: "assistant",
  time: { created: n, completed: n },
  finish: n === 4 ? "stop" : "tool-calls",
  content: []
})

describe("messages of 2.x", () => {
  it.effect("are read on until the prompt of the first one is found", () =>
    Effect.gen(function*() {
      const { client, server } = yield* dialect("beta", ({ path, query }) =>
        path !== "/api/session/ses_1/message"
          ? json({ data: [] })
          : query["cursor"] === "older"
          ? json({ data: [step(2), { id: "msg_1", type: "user", time: { created: 1 }, text: "" }], cursor: {} })
          : json({ data: [step(4), step(3)], cursor: { next: "older" } }))
      const { before, messages } = yield* client.listMessages(sessionId, { limit: 2 })
      assert.deepStrictEqual(
        messages.map(({ info }) => (info.role === "assistant" ? [info.id, info.parentId] : [info.id])),
        [["msg_1"], ["msg_2", "msg_1"], ["msg_3", "msg_1"], ["msg_4", "msg_1"]]
      )
      assert.strictEqual(before._tag, "None")
      assert.deepStrictEqual(server.requests().map(({ query }) => query), [
        { limit: "2", order: "desc" },
        { limit: "50", cursor: "older" }
      ])
    }))
})
