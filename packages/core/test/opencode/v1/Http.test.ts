import * as AnyDialect from "#opencode/AnyDialect"
import type { Dialect } from "#opencode/Dialect"
import type * as Requests from "#opencode/Requests"
import { assert, describe, it } from "@effect/vitest"
import { AskId, MessageId, PartId, SessionId } from "@opencode-turn/core/Ids"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Tracer from "effect/Tracer"
import { inspect } from "node:util"
import type { Asked } from "../../support/http.ts"
import { assertFields, Broken, connect, empty, html, json } from "../../support/http.ts"
import * as Spans from "../../support/spans.ts"

const origin = "http://127.0.0.1:4096"
const sessionId = SessionId.make("ses_1")
const messageId = MessageId.make("msg_1")
const askId = AskId.make("per_1")
const canary = "canary-7f3a9"

const wireSession = { id: "ses_1", title: "t", directory: "/workspace", time: { created: 1, updated: 2 } }
const wirePaths = { directory: "/workspace" }
const wireMessage = {
  info: { role: "user", id: "msg_1", sessionID: "ses_1", time: { created: 1 } },
  parts: []
}

const dialect = (server: ReturnType<typeof connect>, options: Partial<Requests.Options> = {}) =>
  Effect.provideService(AnyDialect.make({ baseUrl: origin, ...options }), HttpClient.HttpClient, server.client)

/** Every operation of a dialect, by name. */
const operations = (client: Dialect): Readonly<Record<string, Effect.Effect<unknown, { readonly _tag: string }>>> => ({
  createSession: client.createSession({}),
  getSession: client.getSession(sessionId),
  updateSession: client.updateSession(sessionId, { title: "new" }),
  deleteSession: client.deleteSession(sessionId),
  abortSession: client.abortSession(sessionId),
  children: client.children(sessionId),
  statuses: client.statuses,
  listMessages: client.listMessages(sessionId, { limit: 2 }),
  getMessage: client.getMessage(sessionId, messageId),
  prompt: client.prompt(sessionId, { parts: [] }),
  promptAndWait: client.promptAndWait(sessionId, { parts: [] }),
  questions: client.questions,
  answerQuestion: client.answerQuestion(askId, [["A"]]),
  rejectQuestion: client.rejectQuestion(askId),
  permissions: client.permissions,
  answerPermission: client.answerPermission(askId, { reply: "once" }),
  todos: client.todos(sessionId),
  agents: client.agents,
  diff: client.diff(sessionId, messageId),
  forkSession: client.forkSession(sessionId, {}),
  revertSession: client.revertSession(sessionId, messageId),
  unrevertSession: client.unrevertSession(sessionId),
  compactSession: client.compactSession(sessionId, { providerId: "p", modelId: "m" }),
  dropCompaction: client.dropCompaction(sessionId),
  events: Stream.runDrain(client.events)
})

const request = (
  name: string,
  use: (client: Dialect) => Effect.Effect<unknown, unknown>,
  answer: unknown,
  expected: { readonly method: string; readonly path: string; readonly query?: object; readonly body?: unknown },
  result?: object
) =>
  it.effect(name, () =>
    Effect.gen(function*() {
      const server = connect(({ path }) =>
        path === "/path" ? json(wirePaths) : answer === undefined ? empty(204) : json(answer)
      )
      const client = yield* dialect(server)
      const value = yield* use(client)
      const requests = server.requests().filter(({ path }) => path !== "/path" && path !== "/file")
      const [asked] = requests
      assert.lengthOf(requests, 1)
      const { body, method, path, query } = asked ?? server.asked[0] ?? assert.fail("nothing was asked")
      assert.deepStrictEqual({ method, path, query, body }, { query: {}, body: undefined, ...expected })
      if (result !== undefined) assertFields(value, result)
    }))

describe("requests", () => {
  request(
    "create a session",
    (client) =>
      client.createSession({
        title: "t",
        parentId: sessionId,
        permission: [{ permission: "bash", pattern: "*", action: "ask" }]
      }),
    { ...wireSession, permission: [{ permission: "bash", pattern: "*", action: "ask" }] },
    {
      method: "POST",
      path: "/session",
      body: {
        title: "t",
        parentID: "ses_1",
        permission: [{ permission: "bash", pattern: "*", action: "ask" }]
      }
    },
    { id: "ses_1", createdMillis: 1 }
  )
  request("create a session without options", (client) => client.createSession({}), wireSession, {
    method: "POST",
    path: "/session",
    body: {}
  })
  request("get a session", (client) => client.getSession(sessionId), wireSession, {
    method: "GET",
    path: "/session/ses_1"
  }, { id: "ses_1" })
  request("ids are encoded", (client) => client.getSession(SessionId.make("../x?y")), wireSession, {
    method: "GET",
    path: "/session/..%2Fx%3Fy"
  })
  request("update a session", (client) => client.updateSession(sessionId, { title: "new" }), wireSession, {
    method: "PATCH",
    path: "/session/ses_1",
    body: { title: "new" }
  }, { id: "ses_1" })
  request("delete a session", (client) => client.deleteSession(sessionId), true, {
    method: "DELETE",
    path: "/session/ses_1"
  })
  request("fork a session", (client) => client.forkSession(sessionId, {}), wireSession, {
    method: "POST",
    path: "/session/ses_1/fork",
    body: {}
  }, { id: "ses_1", model: undefined, revertedFrom: undefined })
  request(
    "fork a session at a message",
    (client) => client.forkSession(sessionId, { before: messageId }),
    wireSession,
    {
      method: "POST",
      path: "/session/ses_1/fork",
      body: { messageID: "msg_1" }
    }
  )
  request(
    "revert a session",
    (client) => client.revertSession(sessionId, messageId),
    {
      ...wireSession,
      model: { id: "m", providerID: "p", variant: "default" },
      revert: { messageID: "msg_1", snapshot: "1234", diff: "diff --git" }
    },
    { method: "POST", path: "/session/ses_1/revert", body: { messageID: "msg_1" } },
    {
      revertedFrom: "msg_1",
      model: { providerId: "p", modelId: "m" }
    }
  )
  request("undo the revert of a session", (client) => client.unrevertSession(sessionId), wireSession, {
    method: "POST",
    path: "/session/ses_1/unrevert"
  }, { revertedFrom: undefined })
  request("abort a session", (client) => client.abortSession(sessionId), true, {
    method: "POST",
    path: "/session/ses_1/abort"
  })
  request("list children", (client) => client.children(sessionId), [wireSession], {
    method: "GET",
    path: "/session/ses_1/children"
  })
  request(
    "statuses",
    (client) => Effect.map(client.statuses, (statuses) => ({ all: [...statuses] })),
    { ses_1: { type: "busy" }, ses_2: { type: "something new" } },
    { method: "GET", path: "/session/status" },
    { all: [["ses_1", { type: "busy" }], ["ses_2", { type: "busy" }]] }
  )
  request(
    "list messages before a cursor",
    (client) => client.listMessages(sessionId, { limit: 2, before: "cur=sor" }),
    [wireMessage],
    { method: "GET", path: "/session/ses_1/message", query: { limit: "2", before: "cur=sor" } },
    { before: Option.none() }
  )
  request("get a message", (client) => client.getMessage(sessionId, messageId), wireMessage, {
    method: "GET",
    path: "/session/ses_1/message/msg_1"
  }, { parts: [] })
  request(
    "prompt",
    (client) =>
      client.prompt(sessionId, {
        ids: { promptId: messageId, partIds: [PartId.make("prt_1")] },
        parts: [{ type: "text", text: "go" }]
      }),
    undefined,
    {
      method: "POST",
      path: "/session/ses_1/prompt_async",
      body: { messageID: "msg_1", parts: [{ id: "prt_1", type: "text", text: "go" }] }
    }
  )
  request(
    "prompt and wait",
    (client) => client.promptAndWait(sessionId, { parts: [{ type: "text", text: "go" }] }),
    wireMessage,
    { method: "POST", path: "/session/ses_1/message", body: { parts: [{ type: "text", text: "go" }] } },
    { parts: [] }
  )
  request("questions", (client) => client.questions, [], { method: "GET", path: "/question" })
  request("answer a question", (client) => client.answerQuestion(askId, [["A"], ["B", "C"]]), true, {
    method: "POST",
    path: "/question/per_1/reply",
    body: { answers: [["A"], ["B", "C"]] }
  })
  request("reject a question", (client) => client.rejectQuestion(askId), true, {
    method: "POST",
    path: "/question/per_1/reject"
  })
  request("permissions", (client) => client.permissions, [], { method: "GET", path: "/permission" })
  request(
    "answer a permission",
    (client) => client.answerPermission(askId, { reply: "reject", message: "use ls" }),
    true,
    { method: "POST", path: "/permission/per_1/reply", body: { reply: "reject", message: "use ls" } }
  )
  request(
    "agents",
    (client) => Effect.map(client.agents, (all) => ({ all })),
    [
      { name: "general", description: "d", mode: "subagent", native: true, permission: [], options: {} },
      { name: "title", mode: "primary", hidden: true },
      { name: "mine", mode: "subagent", hidden: null }
    ],
    { method: "GET", path: "/agent" },
    {
      all: [
        { name: "general", isHidden: false },
        { name: "title", isHidden: true },
        { name: "mine", isHidden: false }
      ]
    }
  )
  request(
    "the changes of a prompt",
    (client) => Effect.map(client.diff(sessionId, messageId), (all) => ({ all })),
    [
      { file: "sub/old.txt", patch: "@@ -1 +1 @@", additions: 1, deletions: 2, status: "modified" },
      { file: "older server", before: "", after: "x", additions: 1, deletions: 0 }
    ],
    { method: "GET", path: "/session/ses_1/diff", query: { messageID: "msg_1" } },
    {
      all: [
        { path: "sub/old.txt", change: "modified", additions: 1, deletions: 2 },
        { path: "older server", change: "unknown", additions: 1, deletions: 0 }
      ]
    }
  )
  request(
    "a prompt of every kind of part",
    (client) =>
      client.prompt(sessionId, {
        ids: { promptId: messageId, partIds: ["a", "b", "c", "d"].map((id) => PartId.make(`prt_${id}`)) },
        parts: [
          { type: "file", mediaType: "image/png", url: "data:image/png;base64,AA==", filename: "a.png" },
          { type: "agent", name: "general" },
          { type: "subtask", description: "look", prompt: "look around", agent: "explore" },
          {
            type: "subtask",
            description: "d",
            prompt: "p",
            agent: "general",
            model: { providerId: "anthropic", modelId: "claude" }
          }
        ]
      }),
    undefined,
    {
      method: "POST",
      path: "/session/ses_1/prompt_async",
      body: {
        messageID: "msg_1",
        parts: [
          { id: "prt_a", type: "file", mime: "image/png", url: "data:image/png;base64,AA==", filename: "a.png" },
          { id: "prt_b", type: "agent", name: "general" },
          { id: "prt_c", type: "subtask", description: "look", prompt: "look around", agent: "explore" },
          {
            id: "prt_d",
            type: "subtask",
            description: "d",
            prompt: "p",
            agent: "general",
            model: { providerID: "anthropic", modelID: "claude" }
          }
        ]
      }
    }
  )
  request("to-dos", (client) => client.todos(sessionId), [{ content: "a", status: "done" }], {
    method: "GET",
    path: "/session/ses_1/todo"
  })

  it.effect("the cursor of the next page is the server's header", () =>
    Effect.gen(function*() {
      const client = yield* dialect(connect(() => json([wireMessage], { headers: { "x-next-cursor": "older" } })))
      const page = yield* client.listMessages(sessionId, { limit: 1 })
      assert.deepStrictEqual(page.before, Option.some("older"))
      assert.lengthOf(page.messages, 1)
    }))

  it.effect("the directory and the workspace go with every request but the probe, below the base path, with the password", () =>
    Effect.gen(function*() {
      const server = connect(({ path }) =>
        path.endsWith("/event")
          ? new Response("")
          : path.endsWith("prompt_async")
          ? empty(204)
          : json(path.endsWith("/path") ? wirePaths : path.endsWith("/file") ? [{ name: "a.txt" }] : [])
      )
      const client = yield* dialect(server, {
        baseUrl: `${origin}/base//`,
        directory: "/a b%20c",
        workspace: "w1",
        password: Redacted.make("s3cret")
      })
      for (const operation of Object.values(operations(client))) yield* Effect.exit(operation)
      // A new session first sends two requests about the folder, and a compaction lists the messages before and after it.
      assert.lengthOf(server.requests(), Object.keys(operations(client)).length + 4)
      for (const { headers, method, path, query } of server.requests()) {
        assert.match(path, /^\/base\/[a-z]/)
        assertFields(query, { workspace: "w1" })
        assert.notProperty(query, "directory")
        const isNew = method === "POST" && path === "/base/session"
        assert.strictEqual(headers["x-opencode-directory"], isNew ? "%2Fworkspace" : "%2Fa%20b%2520c")
        assert.strictEqual(headers["authorization"], `Basic ${btoa("opencode:s3cret")}`)
        assert.strictEqual(headers["accept"], path.endsWith("/event") ? "text/event-stream" : "application/json")
      }
      assert.strictEqual(client.origin, origin)
    }))

  it.effect("without a password no credentials are sent; credentials in the URL are removed from it", () =>
    Effect.gen(function*() {
      const open = connect(() => json([]))
      yield* Effect.flatMap(dialect(open), (client) => client.questions)
      assert.isUndefined(open.asked[0]?.headers["authorization"])
      const server = connect(() => json([]))
      const client = yield* dialect(server, { baseUrl: "http://opencode:p%40ss@host:1" })
      yield* client.questions
      assert.strictEqual(client.origin, "http://host:1")
      assert.strictEqual(server.asked[0]?.headers["authorization"], `Basic ${btoa("opencode:p@ss")}`)
    }))
})

const failing = (
  answer: (asked: Asked) => Response | Effect.Effect<Response, Broken>,
  options?: Partial<Requests.Options>
) => Effect.flatMap(dialect(connect(answer), options), (client) => Effect.flip(client.getSession(sessionId)))

describe("failures", () => {
  it.effect("a connection that is refused or reset is a transport error with the innermost reason", () =>
    Effect.gen(function*() {
      const cause = new TypeError("fetch failed", { cause: new Error("connect ECONNREFUSED 127.0.0.1:4096") })
      const error = yield* failing(() => Effect.fail(new Broken({ cause })))
      assertFields(error, {
        _tag: "TransportError",
        operation: "get session",
        origin,
        reason: "connect ECONNREFUSED 127.0.0.1:4096"
      })
      const silent = yield* failing(() =>
        Effect.fail(new Broken({ cause: Object.assign(new Error(""), { code: "ECONNRESET" }) }))
      )
      assertFields(silent, { reason: "ECONNRESET" })
    }))

  it.effect("a body that is cut is a transport error", () =>
    Effect.gen(function*() {
      const body = new ReadableStream({
        start: (controller) => {
          controller.enqueue(new TextEncoder().encode(`{"id":`))
          controller.error(new Error("terminated"))
        }
      })
      assert.strictEqual((yield* failing(() => new Response(body)))._tag, "TransportError")
    }))

  it.effect("a late response is a timeout, even if only its body is late", () =>
    Effect.gen(function*() {
      for (const answer of [Effect.never, new Response(new ReadableStream({}))]) {
        const fiber = yield* Effect.forkChild(failing(() => answer, { requestTimeout: "3 seconds" }))
        yield* TestClock.adjust("3 seconds")
        assertFields(yield* Fiber.join(fiber), { _tag: "RequestTimeout", operation: "get session", millis: 3000 })
      }
    }))

  it.effect("a hanging probe fails all its waiting requests at the same time", () =>
    Effect.gen(function*() {
      const client = yield* dialect(connect(() => json([]), () => Effect.never))
      const fiber = yield* Effect.forkChild(Effect.all(
        Array.from({ length: 5 }, () => Effect.flip(client.questions)),
        { concurrency: "unbounded" }
      ))
      yield* TestClock.adjust("30 seconds")
      const errors = yield* Fiber.join(fiber)
      assert.deepStrictEqual(errors.map((error) => error._tag), Array.from({ length: 5 }, () => "RequestTimeout"))
    }))

  it.effect("waiting for an answer ignores the time limit of a request", () =>
    Effect.gen(function*() {
      const client = yield* dialect(connect(() => Effect.delay(Effect.sync(() => json(wireMessage)), "1 hour")))
      const fiber = yield* Effect.forkChild(client.promptAndWait(sessionId, { parts: [] }))
      yield* TestClock.adjust("1 hour")
      assert.strictEqual((yield* Fiber.join(fiber)).info.id, "msg_1")
    }))

  it.effect("an error about an unexpected shape names the missing field and its path, and hides the found value", () =>
    Effect.gen(function*() {
      const client = yield* dialect(connect(() => json({ ...wireSession, id: [canary] })))
      const wrong = yield* Effect.flip(client.createSession({}))
      assert.strictEqual(wrong._tag, "DecodeError")
      assert.include(wrong.message, `at ["id"]`)
      const broken = yield* failing(() => new Response(`{"id": ${canary}`))
      assertFields(broken, { _tag: "DecodeError", reason: "it is not JSON" })
      for (const error of [wrong, broken]) assert.notInclude(inspect(error), canary)
    }))

  const shapes: ReadonlyArray<readonly [string, Response, object]> = [
    [
      "a named error",
      json({ name: "BadRequest", data: { message: "Missing key\n  at [\"parts\"]", kind: "Payload" } }, {
        status: 400
      }),
      { status: 400, name: "BadRequest", detail: "Missing key\n  at [\"parts\"]", isRetryable: false }
    ],
    [
      "a tagged error",
      json({ _tag: "BadRequest" }, { status: 400 }),
      { status: 400, name: "BadRequest", detail: "", isRetryable: false }
    ],
    [
      "a server error",
      json({ name: "UnknownError", data: { message: "Unexpected server error.", ref: "err_1" } }, { status: 500 }),
      { status: 500, name: "UnknownError", detail: "Unexpected server error.", isRetryable: true }
    ],
    [
      "no JSON at all",
      new Response("Unsupported content-type: text/plain", { status: 415 }),
      { status: 415, name: "error", detail: "", isRetryable: false }
    ],
    ["too many requests", empty(429), { status: 429, isRetryable: true }],
    ["a proxy's page", html(502), { status: 502, isRetryable: true }],
    ["a redirect", empty(302, { location: "http://elsewhere/" }), { status: 302, name: "redirect", isRetryable: false }]
  ]
  it.effect.each(shapes)("%s", ([, response, expected]) =>
    Effect.gen(function*() {
      const error = yield* failing(() => response)
      assert.strictEqual(error._tag, "StatusError")
      for (const [key, value] of Object.entries(expected)) assert.propertyVal(error, key, value)
    }))

  it.effect("a long explanation is cut", () =>
    Effect.gen(function*() {
      const error = yield* failing(() => json({ name: "E", data: { message: "x".repeat(5000) } }, { status: 400 }))
      assert.isTrue(error._tag === "StatusError" && error.detail.length === 300)
    }))

  it.effect("a redirect is not followed", () =>
    Effect.gen(function*() {
      const server = connect(() => empty(307, { location: "http://elsewhere/session" }))
      yield* Effect.flatMap(dialect(server), (client) => Effect.flip(client.getSession(sessionId)))
      assert.lengthOf(server.requests(), 1)
    }))

  it.effect("401 and 403 mean the password, on every route", () =>
    Effect.gen(function*() {
      for (const status of [401, 403]) {
        const client = yield* dialect(connect(() => empty(status), () => json({ healthy: true, version: "1.0.0" })))
        for (const [name, operation] of Object.entries(operations(client))) {
          assertFields(yield* Effect.flip(operation), { _tag: "Unauthorized", origin, status }, name)
        }
      }
    }))

  it.effect("404 names the unknown object", () =>
    Effect.gen(function*() {
      const notFound = json({ name: "NotFoundError", data: { message: "Session not found: ses_1" } }, { status: 404 })
      const client = yield* dialect(connect(() => notFound.clone()))
      const tags: Record<string, string> = {}
      for (const [name, operation] of Object.entries(operations(client))) {
        tags[name] = (yield* Effect.flip(operation))._tag
      }
      assert.deepStrictEqual(tags, {
        agents: "StatusError",
        diff: "StatusError",
        createSession: "StatusError",
        getSession: "SessionNotFound",
        updateSession: "SessionNotFound",
        deleteSession: "SessionNotFound",
        forkSession: "SessionNotFound",
        revertSession: "SessionNotFound",
        unrevertSession: "SessionNotFound",
        compactSession: "SessionNotFound",
        dropCompaction: "SessionNotFound",
        abortSession: "StatusError",
        children: "SessionNotFound",
        statuses: "StatusError",
        listMessages: "SessionNotFound",
        getMessage: "MessageNotFound",
        prompt: "SessionNotFound",
        promptAndWait: "SessionNotFound",
        questions: "StatusError",
        answerQuestion: "AskNotFound",
        rejectQuestion: "AskNotFound",
        permissions: "StatusError",
        answerPermission: "AskNotFound",
        todos: "SessionNotFound",
        events: "StatusError"
      })
    }))

  it.effect("409 means that the session works, where that matters", () =>
    Effect.gen(function*() {
      const busy = { _tag: "SessionBusyError", sessionID: "ses_1", message: "Session is busy: ses_1" }
      const client = yield* dialect(connect(() => json(busy, { status: 409 })))
      for (const refused of [client.revertSession(sessionId, messageId), client.unrevertSession(sessionId)]) {
        assertFields(yield* Effect.flip(refused), { _tag: "SessionBusy", sessionId, isRetryable: false })
      }
    }))

  it.effect("an HTML page means another server, on every route", () =>
    Effect.gen(function*() {
      for (const status of [200, 404]) {
        const client = yield* dialect(connect(() => html(status)))
        for (const [name, operation] of Object.entries(operations(client))) {
          assertFields(
            yield* Effect.flip(operation),
            { _tag: "UnsupportedServer", seen: `an HTML page (${status})` },
            name
          )
        }
      }
    }))
})

const broken = () => json({ name: "UnknownError", data: { message: "Unexpected server error." } }, { status: 500 })

const folders = (listed: (header: string | undefined) => Response, directory?: string) => {
  const server = connect(({ headers, path }) =>
    path === "/path"
      ? json({ directory: "/real" })
      : path === "/file"
      ? listed(headers["x-opencode-directory"])
      : json(wireSession)
  )
  return Effect.map(dialect(server, directory === undefined ? {} : { directory }), (client) => ({ client, server }))
}

describe("the folder", () => {
  it.effect("is checked once while it exists, and again after half a minute", () =>
    Effect.gen(function*() {
      const { client, server } = yield* folders(() => json([{ name: "a.txt" }]), "/link")
      assert.strictEqual(yield* client.directory, "/real")
      yield* client.createSession({})
      assert.strictEqual(yield* client.directory, "/real")
      assert.lengthOf(server.requests(), 3)
      yield* TestClock.adjust("31 seconds")
      yield* client.directory
      assert.lengthOf(server.requests(), 5)
    }))

  it.effect("that is missing fails with its name before a session is created, and is checked again", () =>
    Effect.gen(function*() {
      let isThere = false
      const { client, server } = yield* folders(
        (header) => header === "%2F" || isThere ? json([{ name: "real" }]) : broken(),
        "/typo"
      )
      const error = yield* Effect.flip(client.createSession({}))
      assertFields(error, { _tag: "UnknownDirectory", directory: "/typo", isRetryable: false })
      assert.include(error.message, `"/typo"`)
      assert.isTrue(server.requests().every(({ method }) => method === "GET"))
      isThere = true
      yield* client.createSession({})
    }))

  it.effect("that is a file is named too, although the server fails every request about it", () =>
    Effect.gen(function*() {
      const server = connect(({ headers }) => headers["x-opencode-directory"] === "%2F" ? json([]) : broken())
      const client = yield* dialect(server, { directory: "/a/file" })
      const error = yield* Effect.flip(client.createSession({}))
      assertFields(error, { _tag: "UnknownDirectory", directory: "/a/file", isRetryable: false })
    }))

  it.effect("that is missing is named too if the server can list its own folder and not the root", () =>
    Effect.gen(function*() {
      const { client } = yield* folders((header) => header === undefined ? json([]) : broken(), "/typo")
      assertFields(yield* Effect.flip(client.directory), { _tag: "UnknownDirectory", directory: "/typo" })
    }))

  it.effect("is not blamed if the server can list no folder at all", () =>
    Effect.gen(function*() {
      const { client } = yield* folders(broken, "/fine")
      assertFields(yield* Effect.flip(client.directory), { _tag: "StatusError", status: 500, isRetryable: true })
    }))

  it.effect("without files is looked for in its parent, by a server that lists no files of missing folders", () =>
    Effect.gen(function*() {
      const { client } = yield* folders((header) => json(header === "%2F" ? [{ name: "real" }] : []), "/link")
      assert.strictEqual(yield* client.directory, "/real")
      const other = yield* folders(() => json([]), "/typo")
      assertFields(yield* Effect.flip(other.client.createSession({})), { _tag: "UnknownDirectory", directory: "/typo" })
      assert.isTrue(other.server.requests().every(({ method }) => method === "GET"))
    }))

  it.effect("without files exists, if the server fails for a missing folder, although its parent does not list it", () =>
    Effect.gen(function*() {
      const { client } = yield* folders(
        (header) => header?.includes("opencode-turn-missing") === true ? broken() : json([]),
        "/link"
      )
      assert.strictEqual(yield* client.directory, "/real")
    }))

  it.effect("of a new session is encoded once more, because the server decodes it again", () =>
    Effect.gen(function*() {
      const server = connect(({ path }) =>
        path === "/path"
          ? json({ directory: "/x/a%20b" })
          : json(path === "/file" ? [{ name: "a.txt" }] : { ...wireSession, directory: "/x/a%2520b" })
      )
      const client = yield* dialect(server, { directory: "/x/a%20b" })
      const made = yield* client.createSession({})
      assert.strictEqual(made.directory, "/x/a%20b")
      const headers = server.requests().map(({ headers, path }) => [path, headers["x-opencode-directory"]])
      assert.deepStrictEqual(headers, [
        ["/path", "%2Fx%2Fa%2520b"],
        ["/file", "%2Fx%2Fa%2520b"],
        ["/session", "%2Fx%2Fa%252520b"]
      ])
    }))
})

describe("spans of requests", () => {
  it.effect("hold neither the directory nor the query, path, password or body, and reach the server", () =>
    Effect.gen(function*() {
      const spans: Array<Tracer.NativeSpan> = []
      const tracer = Tracer.make({
        span: (options) => {
          const span = new Tracer.NativeSpan(options)
          spans.push(span)
          return span
        }
      })
      const answers: ReadonlyArray<() => Response | Effect.Effect<Response, Broken>> = [
        () => json(wireSession),
        () => json({ name: "NotFoundError" }, { status: 404 }),
        () => empty(503),
        () => empty(401),
        () => Effect.fail(new Broken({ cause: new Error("reset") }))
      ]
      let isTraced = true
      for (const answer of answers) {
        const server = connect(answer)
        const client = yield* dialect(server, {
          baseUrl: `http://opencode:${canary}@127.0.0.1:4096/${canary}`,
          directory: `/${canary}`,
          workspace: canary
        })
        for (const operation of Object.values(operations(client))) {
          yield* Effect.exit(operation).pipe(
            Effect.withTracer(tracer),
            Effect.provideService(TurnPolicy.TraceDetail, "pipeline")
          )
        }
        isTraced &&= server.asked.every(({ headers }) => headers["traceparent"] !== undefined)
      }
      assert.isTrue(isTraced)
      assert.isAbove(spans.length, 60)
      for (const { attributes, name, status } of spans) {
        assert.match(name, /^OpenCode [a-z ]+$/)
        const shown = inspect([name, [...attributes], status], { depth: 20 })
        for (const secret of [canary, btoa(`opencode:${canary}`), "limit=", "?"]) assert.notInclude(shown, secret)
        assert.strictEqual(attributes.get("server.address"), "127.0.0.1")
      }
    }))

  it.effect("are not written by default, and the span around a request reaches the server", () =>
    Effect.gen(function*() {
      const server = connect(() => json([]))
      const client = yield* dialect(server)
      const { spans } = yield* Spans.recorded(Effect.withSpan(client.questions, "turn"))
      assert.deepStrictEqual(Spans.tree(spans), ["turn"])
      const [span] = spans
      assert.deepStrictEqual(
        server.asked.map(({ headers }) => headers["traceparent"]),
        server.asked.map(() => `00-${span?.traceId}-${span?.spanId}-01`)
      )
    }))
})

const slowly = (response: Response) => Effect.as(Effect.sleep("2.5 seconds"), response)

describe("the probe", () => {
  it.effect("is sent before the first request, once for all requests", () =>
    Effect.gen(function*() {
      const server = connect(() => json([]))
      const client = yield* dialect(server)
      assert.lengthOf(server.asked, 0)
      yield* Effect.all([client.questions, client.permissions, client.questions], { concurrency: "unbounded" })
      yield* client.questions
      assert.deepStrictEqual(server.asked.map(({ path }) => path), [
        "/global/health",
        "/question",
        "/permission",
        "/question",
        "/question"
      ])
    }))

  it.effect("is repeated after a failure, and no request is sent before it succeeds", () =>
    Effect.gen(function*() {
      let isReady = false
      const server = connect(
        () => json([]),
        () => (isReady ? json({ healthy: true, version: "1.18.33" }) : empty(503))
      )
      const client = yield* dialect(server)
      assertFields(yield* Effect.flip(client.questions), { _tag: "StatusError", status: 503, isRetryable: true })
      assert.lengthOf(server.requests(), 0)
      isReady = true
      yield* client.questions
      assert.lengthOf(server.asked, 3)
    }))

  it.effect("gives a slow server time: one that takes 2.5 s for everything is reached, and probed once", () =>
    Effect.gen(function*() {
      const server = connect(() => slowly(json([])), () => slowly(json({ healthy: true, version: "1.18.33" })))
      const client = yield* dialect(server)
      const first = yield* Effect.forkChild(client.questions)
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(yield* Fiber.join(first), [])
      const probes = server.asked.length - server.requests().length
      const second = yield* Effect.forkChild(client.questions)
      yield* TestClock.adjust("2.5 seconds")
      assert.deepStrictEqual(yield* Fiber.join(second), [])
      assert.strictEqual(server.asked.length - server.requests().length, probes)
    }))

  it.effect("that hangs in a cold start is joined by another, within the limit of the request", () =>
    Effect.gen(function*() {
      let probes = 0
      const server = connect(
        () => json([]),
        () => ++probes < 3 ? Effect.never : json({ healthy: true, version: "1.18.33" })
      )
      const fiber = yield* Effect.forkChild(Effect.flatMap(dialect(server), (client) => client.questions))
      yield* TestClock.adjust("4 seconds")
      assert.deepStrictEqual(yield* Fiber.join(fiber), [])
      assert.strictEqual(probes, 3)
    }))

  it.effect("is not repeated for a request that was interrupted or ran out of time", () =>
    Effect.gen(function*() {
      let hangs = false
      const server = connect(() => (hangs ? Effect.never : json([])))
      const client = yield* dialect(server, { requestTimeout: "3 seconds" })
      yield* client.questions
      hangs = true
      const stopped = yield* Effect.forkChild(client.questions, { startImmediately: true })
      yield* Fiber.interrupt(stopped)
      const late = yield* Effect.forkChild(Effect.flip(client.questions))
      yield* TestClock.adjust("3 seconds")
      assertFields(yield* Fiber.join(late), { _tag: "RequestTimeout", operation: "list questions", millis: 3000 })
      hangs = false
      yield* client.questions
      assert.lengthOf(server.asked.filter(({ path }) => path === "/global/health"), 1)
    }))

  it.effect("is repeated after a broken connection", () =>
    Effect.gen(function*() {
      let isBroken = false
      const server = connect(() => (isBroken ? Effect.fail(new Broken({ cause: new Error("reset") })) : json([])))
      const client = yield* dialect(server)
      yield* client.questions
      isBroken = true
      assertFields(yield* Effect.flip(client.questions), { _tag: "TransportError", reason: "reset" })
      isBroken = false
      yield* client.questions
      assert.lengthOf(server.asked.filter(({ path }) => path === "/global/health"), 2)
    }))

  it.effect("is the same as a call of `health`, which counts as one", () =>
    Effect.gen(function*() {
      const server = connect(() => json([]))
      const client = yield* dialect(server)
      assertFields(yield* client.health, { version: "1.18.33" })
      yield* client.questions
      assert.lengthOf(server.asked, 2)
    }))

  it.effect.each(["1.18.33", "1.0.0-beta.1", "v1.2.3", "0.0.0-dev-202601010000"])(
    "takes version %s",
    (version) =>
      Effect.gen(function*() {
        const client = yield* dialect(connect(() => json([]), () => json({ healthy: true, version })))
        assert.deepStrictEqual(yield* client.questions, [])
      })
  )

  const others: ReadonlyArray<readonly [string, () => Response, string]> = [
    ["2.x", () => json({ healthy: true, version: "2.0.1" }), "OpenCode 2.0.1"],
    ["10.x", () => json({ healthy: true, version: "10.0.0" }), "OpenCode 10.0.0"],
    ["a page", () => html(), "an HTML page (200)"],
    ["no such route", () => empty(404), "404 for GET /global/health"],
    ["another JSON", () => json({ status: "ok" }), "something other than OpenCode's health"],
    ["a text", () => new Response("ok"), "something other than OpenCode's health"]
  ]
  it.effect.each(others)("refuses a server that answers with %s", ([, health, seen]) =>
    Effect.gen(function*() {
      const server = connect(() => json([]), health)
      const client = yield* dialect(server)
      assertFields(yield* Effect.flip(client.questions), { _tag: "UnsupportedServer", origin, seen })
      assert.lengthOf(server.requests(), 0)
    }))
})

describe("a known server", () => {
  const pages: ReadonlyArray<readonly [string, () => Response]> = [
    ["a page with the status 200", () => html()],
    ["a page with the status 404", () => html(404)],
    ["a text", () => new Response("Closed for maintenance.")],
    ["another JSON", () => json({ status: "maintenance" })],
    ["a redirect", () => empty(302, { location: "/login" })]
  ]
  /** A server that another program replaces for a while. */
  const replaced = Effect.gen(function*() {
    let page: (() => Response) | undefined
    const health = () => page?.() ?? json({ healthy: true, version: "1.18.33" })
    const server = connect(({ path }) => page?.() ?? json(path.endsWith("/status") ? {} : []), health)
    const client = yield* dialect(server)
    yield* client.questions
    return {
      client,
      replaceBy: (by: (() => Response) | undefined) => {
        page = by
      }
    }
  })

  it.effect.each(pages)("may come back after %s, so the request is retryable", ([, page]) =>
    Effect.gen(function*() {
      const { client, replaceBy } = yield* replaced
      replaceBy(page)
      const requests = [
        client.questions,
        client.statuses,
        client.abortSession(sessionId),
        client.answerPermission(askId, { reply: "once" }),
        client.health
      ]
      for (const request of requests) {
        const error = yield* Effect.flip(request)
        assert.isTrue(error._tag !== "AskNotFound" && error.isRetryable, `${error._tag}: ${error.message}`)
      }
      const lost = yield* Effect.flip(Stream.runDrain(client.events))
      assert.isTrue(lost.isRetryable, lost.message)
      replaceBy(undefined)
      assert.deepStrictEqual(yield* client.questions, [])
    }))

  it.effect("may lack a route, which is not retried", () =>
    Effect.gen(function*() {
      const client = yield* dialect(connect(({ path }) => (path === "/question" ? html() : json([]))))
      yield* client.permissions
      assertFields(yield* Effect.flip(client.questions), { _tag: "UnsupportedServer", isRetryable: false })
    }))

  it.effect("may send a page on a route that it answered before, so the request is retryable", () =>
    Effect.gen(function*() {
      let isAway = false
      const client = yield* dialect(connect(() => (isAway ? html() : json([]))))
      yield* client.questions
      isAway = true
      assertFields(yield* Effect.flip(client.questions), { _tag: "TransportError", isRetryable: true })
    }))

  it.effect("may have another version now, which is not retried", () =>
    Effect.gen(function*() {
      const { client, replaceBy } = yield* replaced
      replaceBy(() => json({ healthy: true, version: "2.0.0" }))
      assertFields(yield* Effect.flip(client.health), { _tag: "UnsupportedServer", isRetryable: false })
    }))
})

const events = (body: ReadableStream | string, init?: ResponseInit) =>
  Effect.map(
    dialect(connect(() => new Response(body, { headers: { "content-type": "text/event-stream" }, ...init }))),
    (client) => client.events
  )
const frame = (type: string, properties: object = {}) => `data: ${JSON.stringify({ type, properties })}\n\n`

describe("the event stream", () => {
  it.effect("gives a list of events for each read, and ends with the connection", () =>
    Effect.gen(function*() {
      const encoder = new TextEncoder()
      const reads = [frame("server.connected") + frame("server.heartbeat"), "data: {", frame("server.heartbeat")]
      const body = new ReadableStream({
        start: (controller) => {
          for (const read of reads) controller.enqueue(encoder.encode(read))
          controller.close()
        }
      })
      const lists = yield* Stream.runCollect(yield* events(body))
      assert.deepStrictEqual(lists.map((list) => list.map((event) => event._tag)), [
        ["Connected", "Heartbeat"],
        [],
        ["Unread"]
      ])
    }))

  it.effect.each([
    ["a comment", ": hello\n\n"],
    ["an event without a type", `data: {"id":"evt_1","type":null,"properties":{}}\n\n`],
    ["what is not JSON", "data: {\n\n"],
    ["an event of an unknown type", frame("plugin.added")]
  ])("counts as open after %s", ([, first]) =>
    Effect.gen(function*() {
      const lists = yield* Stream.runCollect(yield* events(first + frame("server.heartbeat")))
      assert.deepStrictEqual(lists.flat().map(({ _tag }) => _tag), ["Connected", "Heartbeat"])
    }))

  it.effect("counts as open once if the server says so right after a comment", () =>
    Effect.gen(function*() {
      const lists = yield* Stream.runCollect(yield* events(`: hello\n\n${frame("server.connected")}`))
      assert.deepStrictEqual(lists.flat().map(({ _tag }) => _tag), ["Connected"])
    }))

  it.effect("does not count as open if it is not an event stream", () =>
    Effect.gen(function*() {
      const init = { headers: { "content-type": "text/plain" } }
      assert.deepStrictEqual((yield* Stream.runCollect(yield* events("Closed.\n\nSorry.\n\n", init))).flat(), [])
    }))

  it.effect("fails when the connection breaks", () =>
    Effect.gen(function*() {
      const body = new ReadableStream({ start: (controller) => controller.error(new Error("other side closed")) })
      assertFields(yield* Effect.flip(Stream.runDrain(yield* events(body))), {
        _tag: "TransportError",
        operation: "open event stream",
        reason: "other side closed"
      })
    }))

  it.effect("fails if it does not open in time, and afterwards may be silent without a limit", () =>
    Effect.gen(function*() {
      const hanging = yield* dialect(connect(() => Effect.never))
      const opening = yield* Effect.forkChild(Effect.flip(Stream.runDrain(hanging.events)))
      yield* TestClock.adjust("30 seconds")
      assert.strictEqual((yield* Fiber.join(opening))._tag, "RequestTimeout")

      const silent = yield* Effect.forkChild(Stream.runDrain(yield* events(new ReadableStream({}))))
      yield* TestClock.adjust("1 hour")
      assert.isUndefined(silent.pollUnsafe())
      yield* Fiber.interrupt(silent)
    }))

  it.effect("probes again after a connection ended", () =>
    Effect.gen(function*() {
      const server = connect(() => new Response(""))
      const client = yield* dialect(server)
      yield* Stream.runDrain(client.events)
      yield* Stream.runDrain(client.events)
      const both = ["/global/health", "/event"]
      assert.deepStrictEqual(server.asked.map(({ path }) => path), [...both, ...both])
    }))

  it.effect("does not probe a server that has answered since the loss of a connection", () =>
    Effect.gen(function*() {
      const server = connect(({ path }) => (path === "/event" ? new Response("") : json({})))
      const client = yield* dialect(server)
      yield* client.statuses
      yield* Stream.runDrain(client.events)
      assert.deepStrictEqual(server.asked.map(({ path }) => path), ["/global/health", "/session/status", "/event"])
    }))

  it.effect("gives an unanswered connection five seconds", () =>
    Effect.gen(function*() {
      const client = yield* dialect(connect(({ path }) => (path === "/event" ? Effect.never : json({}))))
      const fiber = yield* Effect.forkChild(Effect.flip(Stream.runDrain(client.events)))
      yield* TestClock.adjust("4999 millis")
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assertFields(yield* Fiber.join(fiber), { _tag: "RequestTimeout", operation: "open event stream", millis: 5000 })
    }))

  it.effect("fails with the server's error for a status other than success", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Stream.runDrain(yield* events("", { status: 503 })))
      assertFields(error, { _tag: "StatusError", status: 503, isRetryable: true })
    }))
})

it.effect("the password is in no error", () =>
  Effect.gen(function*() {
    const password = Redacted.make(canary)
    const basic = btoa(`opencode:${canary}`)
    const answers: ReadonlyArray<() => Response | Effect.Effect<Response, Broken>> = [
      () => empty(401),
      () => empty(302, { location: `http://opencode:${canary}@elsewhere/` }),
      () => json({ name: "NotFoundError" }, { status: 404 }),
      () => json({ name: canary, data: { message: `${"x".repeat(295)}${canary} Basic ${basic}` } }, { status: 500 }),
      () => json({ _tag: basic, message: `Authorization: Basic ${basic}, password ${canary}` }, { status: 400 }),
      () => Effect.fail(new Broken({ cause: new Error(`no route to http://opencode:${canary}@host`) })),
      () => json({ nothing: "fits" }),
      () => new Response("{"),
      () => html(),
      () => Effect.fail(new Broken({ cause: new Error("reset") }))
    ]
    const options: ReadonlyArray<Partial<Requests.Options>> = [
      { password },
      { baseUrl: `http://opencode:${canary}@127.0.0.1:4096` },
      { baseUrl: `opencode:${canary}@127.0.0.1:4096`, password },
      { baseUrl: `//opencode:${canary}@127.0.0.1:4096`, password },
      { baseUrl: `http://opencode:${canary}@127.0.0.1:port`, password }
    ]
    let count = 0
    for (const answer of answers) {
      for (const option of options) {
        const client = yield* dialect(connect(answer), option)
        assert.notInclude(client.origin, canary)
        for (const operation of Object.values(operations(client))) {
          const exit = yield* Effect.exit(operation)
          if (Exit.isSuccess(exit)) continue
          count++
          for (const error of exit.cause.reasons.filter(Cause.isFailReason).map((reason) => reason.error)) {
            const shown = [inspect(error, { depth: 20 }), JSON.stringify(error), String(error)]
            for (const text of [...shown, Cause.pretty(exit.cause)]) {
              assert.notInclude(text, canary)
              assert.notInclude(text, basic)
            }
          }
        }
      }
    }
    assert.isAbove(count, 300)
  }))

const utf8 = (text: string) => btoa(String.fromCharCode(...new TextEncoder().encode(text)))

it.effect("no form of the password is in an error of a message, a session or a tool", () =>
  Effect.gen(function*() {
    const secret = `pässword/"${canary}"`
    const forms = [secret, utf8(`opencode:${secret}`), utf8(secret), encodeURIComponent(secret), JSON.stringify(secret)]
    const said = `it failed for ${forms.join(", ")}`
    const error = {
      name: "APIError",
      data: { message: said, isRetryable: false, metadata: { url: `http://h/${forms[3]}` } }
    }
    const info = { role: "assistant", id: "msg_2", sessionID: "ses_1", parentID: "msg_1", time: { created: 1 }, error }
    const part = {
      type: "tool",
      id: "prt_1",
      sessionID: "ses_1",
      messageID: "msg_2",
      callID: "c1",
      tool: "bash",
      state: { status: "error", input: {}, error: said, time: { start: 1, end: 2 } }
    }
    const stream = frame("session.error", { sessionID: "ses_1", error }) +
      frame("message.updated", { sessionID: "ses_1", info }) +
      frame("message.part.updated", { sessionID: "ses_1", part }) +
      frame("session.status", { sessionID: "ses_1", status: { type: "retry", attempt: 1, message: said, next: 1 } })
    const server = connect(({ path }) =>
      path.endsWith("/event")
        ? new Response(stream, { headers: { "content-type": "text/event-stream" } })
        : json(path.endsWith("/message") ? [{ info, parts: [part] }] : { info, parts: [part] })
    )
    const client = yield* dialect(server, { password: Redacted.make(secret) })
    const told = [
      (yield* client.listMessages(sessionId, { limit: 2 })).messages,
      [yield* client.getMessage(sessionId, messageId)],
      Array.from(yield* Stream.runCollect(client.events)).flat()
    ]
    assert.deepStrictEqual(told.map((all) => all.length), [1, 1, 5])
    for (const text of [JSON.stringify(told), inspect(told, { depth: 20 })]) {
      assert.include(text, "it failed for <redacted>")
      assert.notInclude(text, canary)
      for (const form of forms.slice(1, 4)) assert.notInclude(text, form)
    }
  }))

it.effect("`fetch` must not follow redirects", () =>
  Effect.gen(function*() {
    const modes: Array<RequestInit["redirect"]> = []
    const fetch: typeof globalThis.fetch = (_input, init) => {
      modes.push(init?.redirect)
      return Promise.resolve(empty(302, { location: "http://elsewhere/" }))
    }
    const client = yield* Effect.provide(AnyDialect.make({ baseUrl: origin }), FetchHttpClient.layer)
    const error = yield* Effect.flip(Effect.provideService(client.questions, FetchHttpClient.Fetch, fetch))
    assertFields(error, { _tag: "StatusError", name: "redirect" })
    assert.deepStrictEqual([...new Set(modes)], ["manual"])
  }))
