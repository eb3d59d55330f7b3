import { NodeHttpClient, NodeServices } from "@effect/platform-node"
import { assert, it } from "@effect/vitest"
import * as OpencodeServer from "@opencode-turn/platform-node/OpencodeServer"
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"
import * as FakeServer from "@opencode-turn/testing/FakeServer"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { environment, opencodeConfig } from "@opencode-turn/testing/ScriptedProvider"
import { Context, Effect, FileSystem, Layer, Predicate, Queue, Redacted, Schema, Stream } from "effect"
import { HttpClient, HttpClientRequest } from "effect/http"

/** Something that speaks OpenCode's HTTP API, and the gates of its model. */
interface Target {
  readonly url: string
  readonly password: Redacted.Redacted<string>
  readonly release: (gate: string) => Effect.Effect<void>
}

class Targets extends Context.Service<Targets, { readonly real: Target; readonly fake: Target }>()("test/Targets") {}

const password = Redacted.make("honest")

const targets = Layer.effect(
  Targets,
  Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    const model = yield* ScriptedModel.ScriptedModel
    const folder = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-honesty-" })
    const directory = `${folder}/project`
    yield* fs.makeDirectory(directory)
    const config = { ...opencodeConfig(model), permission: { webfetch: "ask" } }
    const server = yield* OpencodeServer.make({
      home: `${folder}/home`,
      directory,
      password,
      environment: environment(config)
    })
    const fake = yield* FakeOpencode.make({
      directory,
      password,
      permission: [{ permission: "webfetch", pattern: "*", action: "ask" }]
    })
    const served = yield* Layer.build(
      FakeServer.layer().pipe(Layer.provide(Layer.succeed(FakeOpencode.FakeOpencode, fake)))
    )
    return {
      real: { url: server.url, password, release: model.release },
      fake: { ...Context.get(served, FakeServer.FakeServer), password, release: fake.release }
    }
  })
).pipe(Layer.provide(ScriptedModel.layer()))

const platform = Layer.provideMerge(targets, Layer.mergeAll(NodeServices.layer, NodeHttpClient.layerUndici))

const Event = Schema.Struct({
  type: Schema.String,
  properties: Schema.Record(Schema.String, Schema.Unknown)
})
type Event = typeof Event.Type
const decodeEvent = Schema.decodeEffect(Schema.fromJsonString(Event))

/** A conversation with a target: requests, and what came over its event stream. */
interface Talk {
  readonly sessionId: string
  readonly send: (method: "GET" | "POST", path: string, body?: object) => Effect.Effect<unknown>
  /** Waits for the next event that fits; what came before is passed over for good. */
  readonly next: (fits: (event: Event) => boolean) => Effect.Effect<Event>
  readonly gate: Pick<Target, "release">
}

interface Scenario {
  readonly name: string
  readonly session?: object
  readonly prompt: object
  readonly during?: (talk: Talk) => Effect.Effect<unknown>
  /** How the end is known: so many times the root session says that it is idle; or, without that, so many errors. */
  readonly idles?: number
  readonly errors?: number
}

const run = Effect.fnUntraced(function*(target: Target, scenario: Scenario) {
  const client = yield* HttpClient.HttpClient
  const authorized = HttpClientRequest.basicAuth("opencode", target.password)
  const send: Talk["send"] = (method, path, body) =>
    client.execute(
      HttpClientRequest.make(method)(target.url + path).pipe(
        authorized,
        body === undefined ? (request) => request : HttpClientRequest.bodyJsonUnsafe(body)
      )
    ).pipe(
      Effect.flatMap((response) => response.status === 204 ? Effect.succeed(204) : response.json),
      Effect.orDie
    )

  const queue = yield* Queue.unbounded<Event>()
  const events: Array<Event> = []
  yield* HttpClientRequest.get(`${target.url}/event`).pipe(
    authorized,
    client.execute,
    Effect.map((response) => response.stream),
    Stream.unwrap,
    Stream.decodeText,
    Stream.splitLines,
    Stream.filter((line) => line.startsWith("data: ")),
    Stream.mapEffect((line) => decodeEvent(line.slice("data: ".length))),
    Stream.runForEach((event) =>
      Effect.suspend(() => {
        events.push(event)
        return Queue.offer(queue, event)
      })
    ),
    Effect.forkScoped
  )
  const next: Talk["next"] = (fits) => Effect.repeat(Queue.take(queue), { until: fits })

  yield* next(({ type }) => type === "server.connected")
  const session = yield* send("POST", "/session", { title: "honest", ...scenario.session })
  const sessionId = idOf(session)
  const talk = { sessionId, send, next, gate: target }
  const accepted = yield* send("POST", `/session/${sessionId}/prompt_async`, scenario.prompt)
  if (scenario.during !== undefined) yield* scenario.during(talk)
  const isOfRoot = (type: string) => (event: Event) =>
    event.type === type && event.properties["sessionID"] === sessionId
  for (let idle = 0; idle < (scenario.idles ?? 0); idle++) yield* next(isOfRoot("session.idle"))
  for (let error = 0; error < (scenario.errors ?? 0); error++) yield* next(isOfRoot("session.error"))

  const children = yield* send("GET", `/session/${sessionId}/children`)
  const sessions = [sessionId, ...Array.isArray(children) ? children.map(idOf) : []]
  const normalise = makeNormaliser()
  return normalise({
    accepted,
    events: sessions.map((id) => timeless(events, id)),
    messages: yield* Effect.forEach(sessions, (id) => send("GET", `/session/${id}/message`)),
    status: yield* send("GET", "/session/status"),
    todos: yield* send("GET", `/session/${sessionId}/todo`),
    children
  })
}, Effect.scoped)

const idOf = (value: unknown): string =>
  Predicate.hasProperty(value, "id") && typeof value.id === "string" ? value.id : ""

/**
 * The events of one session, without what is a matter of time on the real server: what it sends whenever it gets round to it, also
 * after the end of the turn (`session.updated`, `session.diff`, a user message again with its summary); how often a running tool
 * reports, where the first report of each part is kept; and what a message holds when it is opened: the event is made of a
 * reference, and may be written when the message is complete already.
 */
const timeless = (events: ReadonlyArray<Event>, sessionId: string): ReadonlyArray<Event> => {
  const seen = new Set<string>()
  const isFirst = (id: string) => !seen.has(id) && seen.add(id).has(id)
  return events.flatMap(({ properties, type }) => {
    const { info, part, sessionID } = properties
    if (sessionID !== sessionId || type === "session.updated" || type === "session.diff") return []
    if (type === "message.updated" && Predicate.hasProperty(info, "role")) {
      if (isFirst(idOf(info))) return [{ type, properties: { opened: idOf(info), role: info.role } }]
      if (info.role === "user") return []
    }
    if (Predicate.hasProperty(part, "state") && isRunning(part.state) && !isFirst(idOf(part))) return []
    return [{ type, properties }]
  })
}

const isPrinting = (value: object): boolean => isRunning(value) && !Predicate.hasProperty(value, "title")

const isRunning = (value: unknown): boolean => Predicate.hasProperty(value, "status") && value.status === "running"

/**
 * Replaces ids by their order of appearance, and everything that depends on time, place or chance: what a running tool has printed
 * so far, whether a user message has got its summary yet, and OpenCode's own words to its model.
 */
const makeNormaliser = () => {
  const names = new Map<string, string>()
  const name = (id: string) => {
    const prefix = id.slice(0, 3)
    const known = names.get(id) ??
      `${prefix}-${[...names.values()].filter((value) => value.startsWith(prefix)).length + 1}`
    names.set(id, known)
    return known
  }
  const text = (value: string) =>
    value
      .replaceAll(/\b(?:ses|msg|prt|per|que|call)_[0-9A-Za-z-]{8,}/g, name)
      .replace(/ Did you mean: .*$/s, "")
      .replace(/\n {4}at .*$/s, "")
  const visit = (key: string, value: unknown): unknown => {
    if (key === "time" && typeof value === "object" && value !== null) return Object.keys(value).sort()
    if (["time", "next", "slug", "responseHeaders", "url", "ref"].includes(key)) return "…"
    if (typeof value === "string") return text(value)
    if (Array.isArray(value)) return value.map((item) => visit("", item))
    if (typeof value === "object" && value !== null) {
      const isUser = Predicate.hasProperty(value, "role") && value.role === "user"
      return Object.fromEntries(
        Object.entries(value)
          .filter(([key]) => !(isUser && key === "summary") && !(key === "metadata" && isPrinting(value)))
          .sort(([left], [right]) => (left < right ? -1 : 1))
          .map(([key, item]) => [key, key === "text" && "synthetic" in value ? "…" : visit(key, item)])
      )
    }
    return value
  }
  return (value: unknown) => visit("", value)
}

const prompt = (steps: ReadonlyArray<ScriptedModel.Step>, fields: object = {}) => ({
  parts: [{ type: "text", text: ScriptedModel.prompt("go", steps) }],
  ...fields
})

const answer = (kind: "permission" | "question", action: "reply" | "reject", body?: object) => (talk: Talk) =>
  Effect.gen(function*() {
    const asked = yield* talk.next(({ type }) => type === `${kind}.asked`)
    return yield* talk.send("POST", `/${kind}/${idOf(asked.properties)}/${action}`, body)
  })

const bash = (command: string) => ({ tool: "bash", args: { command, description: "run" } })
const question = {
  tool: "question",
  args: {
    questions: [{ question: "Which?", header: "Pick", options: [{ label: "A", description: "first" }] }]
  }
}
const asksForBash = { permission: [{ permission: "bash", pattern: "*", action: "ask" }] }

/** A prompt with ids of our own, which sort before those of any server with a clock of today. */
const identified = (digit: number, steps: ReadonlyArray<ScriptedModel.Step>) => ({
  messageID: `msg_00000000000${digit}00000000000000`,
  parts: [{ id: `prt_00000000000${digit}00000000000000`, type: "text", text: ScriptedModel.prompt("go", steps) }]
})
const again = identified(1, [{ text: "once" }])
const whileBusy = identified(2, [{ text: "a b", gate: "busy" }])

/** Waits until so many deltas have come. */
const deltas = (talk: Talk, count: number) =>
  Effect.repeat(talk.next(({ type }) => type === "message.part.delta"), { times: count - 1 })

const scenarios: ReadonlyArray<Scenario> = [
  { name: "plain text", prompt: prompt([{ text: "all is well" }]), idles: 1 },
  {
    name: "reasoning and a tool loop",
    prompt: prompt([
      {
        reasoning: "let me think",
        text: "I run it",
        ...bash("echo hi"),
        usage: { input: 100, output: 40, reasoning: 15, cacheRead: 30 }
      },
      { text: "done" }
    ]),
    idles: 1
  },
  {
    name: "two tools in one step",
    prompt: prompt([{ ...bash("echo a"), tools: [bash("echo b")] }, { text: "done" }]),
    idles: 1
  },
  {
    name: "a permission that is granted",
    session: asksForBash,
    prompt: prompt([bash("echo hi"), { text: "done" }]),
    during: answer("permission", "reply", { reply: "once" }),
    idles: 1
  },
  {
    name: "a permission that is rejected",
    session: asksForBash,
    prompt: prompt([bash("echo hi"), { text: "never said" }]),
    during: answer("permission", "reply", { reply: "reject" }),
    idles: 1
  },
  {
    name: "a permission that is rejected with a message",
    session: asksForBash,
    prompt: prompt([bash("echo hi"), { text: "I see" }]),
    during: answer("permission", "reply", { reply: "reject", message: "use ls" }),
    idles: 1
  },
  {
    name: "a question that is answered",
    prompt: prompt([question, { text: "done" }]),
    during: answer("question", "reply", { answers: [["A"]] }),
    idles: 1
  },
  {
    name: "a question that is dismissed",
    prompt: prompt([question, { text: "never said" }]),
    during: answer("question", "reject"),
    idles: 1
  },
  {
    name: "a to-do list",
    prompt: prompt([
      { tool: "todowrite", args: { todos: [{ content: "a", status: "pending", priority: "high" }] } },
      { text: "done" }
    ]),
    idles: 1
  },
  {
    name: "an unavailable tool",
    session: { permission: [{ permission: "bash", pattern: "*", action: "deny" }] },
    prompt: prompt([bash("echo hi"), { text: "done" }]),
    idles: 1
  },
  { name: "a failure for good", prompt: prompt([{ fail: 400, message: "bad" }]), idles: 2 },
  { name: "a content filter", prompt: prompt([{ text: "half", finish: "content_filter" }]), idles: 1 },
  { name: "an answer that is too long", prompt: prompt([{ text: "half", finish: "length" }]), idles: 1 },
  {
    name: "a failure that is tried again",
    prompt: prompt([{ fail: 500, message: "boom", headers: { "retry-after-ms": "50" } }, { text: "done" }]),
    idles: 1
  },
  {
    name: "a context that is full",
    prompt: prompt([{ fail: 413, message: "prompt is too long" }, { text: "done" }]),
    idles: 1
  },
  {
    name: "a connection of the model that breaks",
    prompt: prompt([{ text: "half of", gate: "cut", ending: "cut" }, { text: "done" }]),
    during: (talk) =>
      Effect.andThen(
        deltas(talk, 2),
        talk.gate.release("cut")
      ),
    idles: 1
  },
  {
    name: "an abort of a model that hangs",
    prompt: prompt([{ text: "some partial words", ending: "hang" }]),
    during: (talk) =>
      Effect.andThen(
        deltas(talk, 3),
        talk.send("POST", `/session/${talk.sessionId}/abort`)
      ),
    idles: 2
  },
  {
    name: "an abort while a permission is asked",
    session: asksForBash,
    prompt: prompt([bash("echo hi"), { text: "never said" }]),
    during: (talk) =>
      Effect.andThen(
        talk.next(({ type }) => type === "permission.asked"),
        talk.send("POST", `/session/${talk.sessionId}/abort`)
      ),
    idles: 2
  },
  {
    name: "an abort of a command",
    prompt: prompt([bash("echo a; sleep 60"), { text: "never said" }]),
    during: (talk) =>
      Effect.andThen(
        talk.next(({ properties }) => JSON.stringify(properties).includes("\"output\":\"a\\n\"")),
        talk.send("POST", `/session/${talk.sessionId}/abort`)
      ),
    idles: 2
  },
  {
    name: "an unknown model",
    prompt: prompt([{ text: "x" }], { model: { providerID: "nope", modelID: "zip" } }),
    idles: 1,
    errors: 1
  },
  { name: "an unknown agent", prompt: prompt([{ text: "x" }], { agent: "nope" }), errors: 2 },
  {
    name: "a subagent",
    prompt: prompt([
      {
        text: "I ask somebody",
        tool: "task",
        args: {
          description: "look",
          prompt: ScriptedModel.prompt("look", [bash("echo c"), { text: "child done" }]),
          subagent_type: "general"
        }
      },
      { text: "root done" }
    ]),
    idles: 1
  },
  {
    name: "a subagent whose permission is rejected",
    prompt: prompt([
      {
        tool: "task",
        args: {
          description: "look",
          prompt: ScriptedModel.prompt("look", [
            { tool: "read", args: { filePath: "/etc/hostname" } },
            { text: "never said" }
          ]),
          subagent_type: "general"
        }
      },
      { text: "root done" }
    ]),
    during: answer("permission", "reply", { reply: "reject" }),
    idles: 1
  },
  {
    name: "a subagent that a rule of the configuration makes ask",
    prompt: prompt([
      {
        tool: "task",
        args: {
          description: "look",
          prompt: ScriptedModel.prompt("look", [
            { tool: "webfetch", args: { url: "http://127.0.0.1:9/", format: "text" } },
            { text: "never said" }
          ]),
          subagent_type: "general"
        }
      },
      { text: "root done" }
    ]),
    during: answer("permission", "reply", { reply: "reject" }),
    idles: 1
  },
  {
    name: "a prompt that is posted again when it is answered",
    prompt: again,
    during: (talk) =>
      Effect.andThen(
        talk.next(({ type }) => type === "session.idle"),
        talk.send("POST", `/session/${talk.sessionId}/prompt_async`, again)
      ),
    idles: 1
  },
  {
    name: "a prompt that is posted again while it is being answered",
    prompt: whileBusy,
    during: (talk) =>
      deltas(talk, 2).pipe(
        Effect.andThen(talk.send("POST", `/session/${talk.sessionId}/prompt_async`, whileBusy)),
        Effect.andThen(talk.gate.release("busy"))
      ),
    idles: 1
  },
  {
    name: "a prompt that waits for the one before",
    prompt: prompt([{ text: "one", gate: "queue" }]),
    during: (talk) =>
      deltas(talk, 1).pipe(
        Effect.andThen(talk.send("POST", `/session/${talk.sessionId}/prompt_async`, prompt([{ text: "two" }]))),
        Effect.andThen(talk.gate.release("queue"))
      ),
    idles: 1
  },
  {
    name: "an abort while a subagent works",
    prompt: prompt([
      {
        tool: "task",
        args: {
          description: "look",
          prompt: ScriptedModel.prompt("look", [{ text: "child hangs", ending: "hang" }]),
          subagent_type: "general"
        }
      },
      { text: "never said" }
    ]),
    during: (talk) =>
      Effect.andThen(
        deltas(talk, 2),
        talk.send("POST", `/session/${talk.sessionId}/abort`)
      ),
    idles: 2
  }
]

/** Requests by method, path (`*` is the session) and body, whose answers are compared as they are. */
const requests: ReadonlyArray<readonly [method: "DELETE" | "GET" | "PATCH" | "POST", path: string, body?: unknown]> = [
  ["GET", "/session/*"],
  ["GET", "/session/*/message?limit=2"],
  ["GET", "/session/*/message?limit=abc"],
  ["GET", "/session/*/message?limit=2&before=garbage"],
  ["GET", "/session/*/message?before=x"],
  ["GET", "/session/*/message/msg_nope"],
  ["GET", "/session/*/message/nope"],
  ["GET", "/session/ses_unknown000"],
  ["GET", "/session/nope"],
  ["GET", "/session/ses_unknown000/message"],
  ["GET", "/session/ses_unknown000/children"],
  ["POST", "/session/ses_unknown000/prompt_async", prompt([])],
  ["POST", "/session/ses_unknown000/message", prompt([])],
  ["POST", "/session/ses_unknown000/abort"],
  ["DELETE", "/session/ses_unknown000"],
  ["PATCH", "/session/ses_unknown000", { title: "x" }],
  ["POST", "/session/*/prompt_async", {}],
  ["POST", "/session/*/prompt_async", { parts: "x" }],
  ["POST", "/session/*/prompt_async", { parts: [{ type: "text" }] }],
  ["POST", "/session/*/prompt_async", { messageID: "nope", parts: [] }],
  ["POST", "/session/*/prompt_async", { parts: [{ id: "zzz", type: "text", text: "x" }] }],
  ["POST", "/session/*/abort"],
  ["POST", "/session", { title: 5 }],
  ["POST", "/session", { permission: { bash: "ask" } }],
  ["PATCH", "/session/*", { title: "new" }],
  ["PATCH", "/session/*", { permission: [{ permission: "edit", pattern: "*", action: "ask" }] }],
  ["POST", "/permission/per_unknown000/reply", { reply: "once" }],
  ["POST", "/permission/per_unknown000/reply", { reply: "maybe" }],
  ["POST", "/question/que_unknown000/reply", { answers: [["A"]] }],
  ["POST", "/question/que_unknown000/reply", { answers: "A" }],
  ["POST", "/question/que_unknown000/reject"],
  ["POST", "/session/*/message", prompt([bash("echo hi"), { text: "done" }])],
  ["POST", "/session/*/message", prompt([{ fail: 400, message: "no" }])],
  ["POST", "/session/*/message", { ...prompt([]), noReply: true }],
  ["POST", "/session/*/message", { ...prompt([]), model: { providerID: "a", modelID: "b" } }],
  ["DELETE", "/session/*"],
  ["DELETE", "/session/*"]
]

const answers = Effect.fnUntraced(function*(target: Target) {
  const client = yield* HttpClient.HttpClient
  const authorized = HttpClientRequest.basicAuth("opencode", target.password)
  const execute = (method: "DELETE" | "GET" | "PATCH" | "POST", path: string, body: unknown) =>
    client.execute(
      HttpClientRequest.make(method)(target.url + path).pipe(
        authorized,
        body === undefined ? (request) => request : HttpClientRequest.bodyJsonUnsafe(body)
      )
    )
  const id = idOf(yield* Effect.flatMap(execute("POST", "/session", { title: "shapes" }), (response) => response.json))
  for (const text of ["one", "two"]) yield* execute("POST", `/session/${id}/message`, prompt([{ text }]))
  const normalise = makeNormaliser()
  const seen = yield* Effect.forEach(requests, ([method, path, body]) =>
    Effect.gen(function*() {
      const response = yield* execute(method, path.replace("*", id), body)
      const text = yield* response.text
      const type = response.headers["content-type"]?.split(";", 1)[0]
      const isJson = type === "application/json"
      return [
        `${method} ${path}`,
        response.status,
        type,
        "x-next-cursor" in response.headers,
        isJson ? JSON.parse(text) : text
      ]
    }))
  const open = yield* client.execute(HttpClientRequest.get(`${target.url}/session/${id}`))
  const page = yield* execute("GET", "/no-such-route", undefined)
  return [
    normalise(seen),
    [open.status, open.headers["www-authenticate"], yield* open.text],
    [page.status, page.headers["content-type"]?.split(";", 1)[0]]
  ]
})

// Child processes keep real time, hence no test clock.
it.layer(platform, { excludeTestServices: true, timeout: "60 seconds" })("The fake OpenCode and the real one", (it) => {
  for (const scenario of scenarios) {
    it.effect(`agree about ${scenario.name}`, () =>
      Effect.gen(function*() {
        const { fake, real } = yield* Targets
        const fakeRun = yield* run(fake, scenario)
        const realRun = yield* run(real, scenario)
        assert.deepStrictEqual(fakeRun, realRun)
      }))
  }

  it.effect("agree about the shapes of answers and errors", () =>
    Effect.gen(function*() {
      const { fake, real } = yield* Targets
      assert.deepStrictEqual(yield* answers(fake), yield* answers(real))
    }))
})
