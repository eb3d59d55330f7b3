import { NodeHttpClient, NodeServices } from "@effect/platform-node"
import { assert, it } from "@effect/vitest"
import * as OpencodeServer from "@opencode-turn/platform-node/OpencodeServer"
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"
import * as FakeServer from "@opencode-turn/testing/FakeServer"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { environment, opencodeConfig } from "@opencode-turn/testing/ScriptedProvider"
import { Context, Effect, FileSystem, Layer, Predicate, Queue, Redacted, Schedule, Schema, Stream } from "effect"
import { HttpClient, HttpClientRequest, HttpClientResponse } from "effect/http"
import { ChildProcess, ChildProcessSpawner } from "effect/process"

/** A server with OpenCode's HTTP API, and the gates of its model. */
interface Target {
  readonly url: string
  /** The directory of its requests; the server's own directory by default. */
  readonly directory?: string
  readonly password: Redacted.Redacted<string>
  readonly release: (gate: string) => Effect.Effect<void>
}

interface Pair {
  readonly real: Target
  readonly fake: Target
}

/** The servers that work in a plain folder, and those that work in a repository with one commit. */
class Targets extends Context.Service<Targets, Pair & { readonly repository: Pair }>()("test/Targets") {}

/** The files of the repository. */
const files = {
  "old.txt": "one\ntwo\nthree\n",
  "long.txt": Array.from({ length: 30 }, (_, line) => `line ${line + 1}\n`).join(""),
  "gone.txt": "bye\n"
}

const makeRepository = Effect.fnUntraced(function*(directory: string) {
  const fs = yield* FileSystem.FileSystem
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  yield* fs.makeDirectory(directory)
  for (const [name, content] of Object.entries(files)) yield* fs.writeFileString(`${directory}/${name}`, content)
  const author = ["-c", "user.name=test", "-c", "user.email=test@example.invalid"]
  for (const args of [["init", "--quiet"], ["add", "."], [...author, "commit", "--quiet", "--message", "first"]]) {
    yield* spawner.string(ChildProcess.make("git", args, { cwd: directory }))
  }
})

const password = Redacted.make("honest")

/** The answer to a call for a summary. */
const summary = ({ messages }: ScriptedModel.ModelRequest): ScriptedModel.Step =>
  messages.some(({ text }) => text.includes("no summary"))
    ? { fail: 400, message: "no summary" }
    : { text: "the summary" }

const targets = Layer.effect(
  Targets,
  Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    const model = yield* ScriptedModel.ScriptedModel
    const folder = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-honesty-" })
    const directory = `${folder}/project`
    yield* fs.makeDirectory(directory)
    const config = {
      ...opencodeConfig(model),
      permission: { webfetch: "ask", bash: { "printf *": "ask" } },
      subagent_depth: 2,
      agent: { nester: { mode: "subagent", description: "nests", prompt: "you nest", permission: { task: "allow" } } }
    }
    const server = yield* OpencodeServer.make({
      home: `${folder}/home`,
      directory,
      password,
      environment: environment(config)
    })
    const repository = `${folder}/repository`
    yield* makeRepository(repository)
    const options: FakeOpencode.Options = {
      directory,
      password,
      summary,
      git: false,
      permission: [
        { permission: "webfetch", pattern: "*", action: "ask" },
        { permission: "bash", pattern: "printf *", action: "ask" }
      ],
      subagentDepth: 2,
      agents: {
        nester: { mode: "subagent", permission: [{ permission: "task", pattern: "*", action: "allow" }] }
      }
    }
    const serve = Effect.fnUntraced(function*(options: FakeOpencode.Options) {
      const fake = yield* FakeOpencode.make(options)
      const served = yield* Layer.build(
        FakeServer.layer().pipe(Layer.provide(Layer.succeed(FakeOpencode.FakeOpencode, fake)))
      )
      return { ...Context.get(served, FakeServer.FakeServer), password, release: fake.release }
    })
    const real = { url: server.url, password, release: model.release }
    return {
      real,
      fake: yield* serve(options),
      repository: {
        real: { ...real, directory: repository },
        fake: { ...yield* serve({ ...options, directory: repository, git: true, files }), directory: repository }
      }
    }
  })
).pipe(Layer.provide(ScriptedModel.layer({ summary })))

const platform = Layer.provideMerge(targets, Layer.mergeAll(NodeServices.layer, NodeHttpClient.layerUndici))

const Event = Schema.Struct({
  type: Schema.String,
  properties: Schema.Record(Schema.String, Schema.Unknown)
})
type Event = typeof Event.Type
const decodeEvent = Schema.decodeEffect(Schema.fromJsonString(Event))

/** A conversation with a target: sends requests and reads the event stream. */
interface Talk {
  readonly sessionId: string
  readonly send: (method: "GET" | "POST", path: string, body?: object) => Effect.Effect<unknown>
  /** Waits for the next event that fits, and drops the events before it. */
  readonly next: (fits: (event: Event) => boolean) => Effect.Effect<Event>
  readonly gate: Pick<Target, "release">
}

interface Scenario {
  readonly name: string
  readonly session?: object
  readonly prompt: object | ((directory: string) => object)
  readonly during?: (talk: Talk) => Effect.Effect<unknown>
  /** How a test knows the end: the number of times that the root session is idle, or otherwise the number of errors. */
  readonly idles?: number
  readonly errors?: number
  /** Order and number of the events are random, so only the stored messages are compared, once no session works. */
  readonly isRacy?: boolean
  /** The scenario runs in the repository. If it writes there, it ends when the diff of the turn exists. */
  readonly repository?: "read" | "written"
}

const run = Effect.fnUntraced(function*(target: Target, scenario: Scenario) {
  const client = yield* HttpClient.HttpClient
  const authorized = HttpClientRequest.basicAuth("opencode", target.password)
  const about = target.directory === undefined
    ? (request: HttpClientRequest.HttpClientRequest) => request
    : HttpClientRequest.setUrlParam("directory", target.directory)
  const send: Talk["send"] = (method, path, body) =>
    client.execute(
      HttpClientRequest.make(method)(target.url + path).pipe(
        authorized,
        about,
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
    about,
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
  const body = typeof scenario.prompt === "function" ? scenario.prompt(target.directory ?? "") : scenario.prompt
  const accepted = yield* send("POST", `/session/${sessionId}/prompt_async`, body)
  if (scenario.during !== undefined) yield* scenario.during(talk)
  const isOfRoot = (type: string) => (event: Event) =>
    event.type === type && event.properties["sessionID"] === sessionId
  for (let idle = 0; idle < (scenario.idles ?? 0); idle++) yield* next(isOfRoot("session.idle"))
  for (let error = 0; error < (scenario.errors ?? 0); error++) yield* next(isOfRoot("session.error"))

  const promptId = messageIds(events, sessionId)[0] ?? ""
  if (scenario.repository === "written" && !isComplete(promptId, events)) {
    yield* next((event) => isComplete(promptId, [event]))
  }

  const childrenOf = (id: string) => Effect.map(send("GET", `/session/${id}/children`), asArray)
  const children = yield* childrenOf(sessionId)
  const grandchildren = (yield* Effect.forEach(children.map(idOf), childrenOf)).flat()
  const sessions = [sessionId, ...[...children, ...grandchildren].map(idOf)]
  const isAtWork = Effect.gen(function*() {
    const status = yield* send("GET", "/session/status")
    const messages = yield* Effect.forEach(sessions, (id) => send("GET", `/session/${id}/message`))
    return sessions.some((id) => Predicate.hasProperty(status, id)) ||
      /"status":"(?:pending|running)"/.test(JSON.stringify(messages))
  })
  if (scenario.isRacy === true) {
    yield* Effect.repeat(isAtWork, { while: (isAtWork) => isAtWork, schedule: Schedule.spaced("20 millis") })
  }

  const normalise = makeNormaliser()
  return normalise({
    accepted,
    events: scenario.isRacy === true ? [] : sessions.map((id) => timeless(events, id)),
    messages: yield* Effect.forEach(sessions, (id) => send("GET", `/session/${id}/message`)),
    singles: yield* Effect.forEach(
      messageIds(events, sessionId),
      (id) => send("GET", `/session/${sessionId}/message/${id}`)
    ),
    status: yield* send("GET", "/session/status"),
    todos: yield* send("GET", `/session/${sessionId}/todo`),
    asks: yield* Effect.forEach(
      ["/permission", "/question"],
      (path) =>
        Effect.map(send("GET", path), (asks) => asArray(asks).filter((ask) => sessions.includes(sessionOf(ask))))
    ),
    children,
    grandchildren,
    diffs: yield* Effect.forEach(
      [`?messageID=${promptId}`, ""],
      (query) => send("GET", `/session/${sessionId}/diff${query}`)
    )
  })
}, Effect.scoped)

/** Whether a prompt's message lists the files that its turn has changed. */
const isComplete = (promptId: string, events: ReadonlyArray<Event>): boolean =>
  events.some(({ properties: { info }, type }) =>
    type === "message.updated" && idOf(info) === promptId && Predicate.hasProperty(info, "summary") &&
    JSON.stringify(info.summary).includes("last.txt")
  )

const asArray = (value: unknown): ReadonlyArray<unknown> => Array.isArray(value) ? value : []

const sessionOf = (value: unknown): string =>
  Predicate.hasProperty(value, "sessionID") && typeof value.sessionID === "string" ? value.sessionID : ""

/** Reads each message of a session by its id, because a list does not show all of them. */
const messageIds = (events: ReadonlyArray<Event>, sessionId: string): ReadonlyArray<string> => [
  ...new Set(
    events.flatMap(({ properties, type }) =>
      type === "message.updated" && properties["sessionID"] === sessionId ? [idOf(properties["info"])] : []
    )
  )
]

const idOf = (value: unknown): string =>
  Predicate.hasProperty(value, "id") && typeof value.id === "string" ? value.id : ""

/**
 * The events of one session without those that depend on timing on the real server:
 * - The server sends some events at any time, also after the end of the turn: `session.updated`, `session.diff`, and a user message again with
 *   its summary.
 * - A running tool reports at any rate, so only the first report of each part is kept.
 * - The event that opens a message is made of a reference and may be written when the message is complete, so its content varies.
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
 * Replaces ids by their order of appearance, and everything that depends on time, place or chance: the output of a running tool so far,
 * whether a user message has its summary yet, and OpenCode's own texts for its model.
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
      .replace(/^01[0-9A-Z]{24}$/, "call of a subtask")
      .replace(/^[0-9a-f]{40}$/, "hash")
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

/** Waits until that many permissions were asked, and then answers the first one. */
const answerFirst = (count: number, body: object) => (talk: Talk) =>
  Effect.gen(function*() {
    const asked = yield* Effect.replicateEffect(talk.next(({ type }) => type === "permission.asked"), count)
    return yield* talk.send("POST", `/permission/${idOf(asked[0]?.properties)}/reply`, body)
  })

/** Waits until the first prompt is answered, and then prompts again. */
const thenPrompt = (body: object) => (talk: Talk) =>
  Effect.andThen(
    talk.next(({ type }) => type === "session.idle"),
    talk.send("POST", `/session/${talk.sessionId}/prompt_async`, body)
  )

const task = (steps: ReadonlyArray<ScriptedModel.Step>, fields: object = {}) => ({
  tool: "task",
  args: { description: "look", prompt: ScriptedModel.prompt("look", steps), subagent_type: "general", ...fields }
})

const write = (filePath: string, content: string) => ({ tool: "write", args: { filePath, content } })

const bash = (command: string) => ({ tool: "bash", args: { command, description: "run" } })
const question = {
  tool: "question",
  args: {
    questions: [{ question: "Which?", header: "Pick", options: [{ label: "A", description: "first" }] }]
  }
}
const asksForBash = { permission: [{ permission: "bash", pattern: "*", action: "ask" }] }

const schema = { type: "object", properties: { n: { type: "integer" } }, required: ["n"] }
const format = { type: "json_schema", schema }
const structured = (n: number | string) => ({ tool: "StructuredOutput", args: { n } })

/** A prompt of a text and these parts. If a subtask counts as the first step, the second step answers the prompt. */
const withParts = (...parts: ReadonlyArray<object>) => {
  const text = ScriptedModel.prompt("go", [{ text: "first" }, { text: "second" }])
  return { parts: [{ type: "text", text }, ...parts] }
}

const subtask = (steps: ReadonlyArray<ScriptedModel.Step>, fields: object = {}) => ({
  type: "subtask",
  prompt: ScriptedModel.prompt("look", steps),
  description: "look",
  agent: "general",
  ...fields
})

/** An answer that is aborted before it is complete. */
const slow: ScriptedModel.Step = { text: "never said", delayMillis: 10_000 }

/** An image of one pixel. */
const png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

const isIdle = (talk: Talk) =>
  talk.next(({ properties, type }) => type === "session.idle" && properties["sessionID"] === talk.sessionId)

/** A prompt with our own ids. They sort before the ids of any server whose clock shows the current time. */
const identified = (digit: number, steps: ReadonlyArray<ScriptedModel.Step>) => ({
  messageID: `msg_00000000000${digit}00000000000000`,
  parts: [{ id: `prt_00000000000${digit}00000000000000`, type: "text", text: ScriptedModel.prompt("go", steps) }]
})
const again = identified(1, [{ text: "once" }])
const structuredAgain = { ...identified(3, [structured(1), structured(2)]), format }
const whileBusy = identified(2, [{ text: "a b", gate: "busy" }])

/** Waits until that many deltas have arrived. */
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
    idles: 1,
    isRacy: true
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
  { name: "an answer of thoughts alone", prompt: prompt([{ reasoning: "let me think" }]), idles: 1 },
  {
    name: "thoughts that are too long",
    prompt: prompt([{ reasoning: "let me think", finish: "length" }]),
    idles: 1
  },
  { name: "an answer that is too long before its first word", prompt: prompt([{ finish: "length" }]), idles: 1 },
  { name: "an answer with nothing in it", prompt: prompt([{}]), idles: 1 },
  { name: "an answer of blank text", prompt: prompt([{ text: " \n\t " }]), idles: 1 },
  { name: "an answer that begins and ends with blank text", prompt: prompt([{ text: "\n\n done \n" }]), idles: 1 },
  { name: "a content filter before the first word", prompt: prompt([{ finish: "content_filter" }]), idles: 1 },
  { name: "a tool call and then nothing", prompt: prompt([bash("echo hi"), {}]), idles: 1 },
  {
    name: "blank text beside a tool call, and then thoughts",
    prompt: prompt([{ text: "\n", ...bash("echo hi") }, { reasoning: "done" }]),
    idles: 1
  },
  {
    name: "a content filter after a tool call",
    prompt: prompt([bash("echo hi"), { text: "half", finish: "content_filter" }]),
    idles: 1
  },
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
    name: "a context that is full after an earlier prompt, twice",
    prompt: prompt([{ text: "one" }]),
    during: thenPrompt(prompt([
      bash("echo hi"),
      { fail: 413, message: "prompt is too long", times: 2 },
      { text: "two" }
    ])),
    idles: 1
  },
  {
    name: "a context that is full after an earlier prompt, with a format",
    prompt: prompt([{ text: "one" }]),
    during: thenPrompt(prompt([{ fail: 413, message: "prompt is too long" }, structured(1)], { format })),
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
    name: "a subagent whose permission is granted for always, and then not asked any more",
    prompt: prompt([
      task([bash("printf a"), bash("printf b"), { text: "child done" }]),
      { text: "root done" }
    ]),
    during: answer("permission", "reply", { reply: "always" }),
    idles: 1
  },
  {
    name: "a subagent of a subagent",
    prompt: prompt([
      task([task([bash("echo leaf"), { text: "leaf done" }]), { text: "middle done" }], { subagent_type: "nester" }),
      { text: "root done" }
    ]),
    idles: 1
  },
  {
    name: "subagents that are too deep",
    prompt: prompt([
      task([
        task([task([{ text: "x" }]), { text: "leaf done" }], { subagent_type: "nester" }),
        task([task([{ text: "x" }]), { text: "leaf done" }]),
        { text: "middle done" }
      ], { subagent_type: "nester" }),
      { text: "root done" }
    ]),
    idles: 1
  },
  {
    name: "a subagent whose model fails",
    prompt: prompt([task([{ fail: 400, message: "bad child" }]), { text: "root done" }]),
    idles: 1
  },
  {
    name: "a subagent whose answer is filtered",
    prompt: prompt([task([{ text: "half", finish: "content_filter" }]), { text: "root done" }]),
    idles: 1
  },
  {
    name: "a subagent that says nothing",
    prompt: prompt([task([{}]), { text: "root done" }]),
    idles: 1
  },
  {
    name: "a subagent that does not exist",
    prompt: prompt([task([{ text: "x" }], { subagent_type: "nope" }), { text: "root done" }]),
    idles: 1
  },
  {
    name: "a session of a subagent that does not exist",
    prompt: prompt([task([{ text: "x" }], { task_id: "bogus" }), { text: "root done" }]),
    idles: 1
  },
  {
    name: "a session of a subagent that is unknown",
    prompt: prompt([task([{ text: "x" }], { task_id: "ses_unknown000" }), { text: "root done" }]),
    idles: 1
  },
  {
    name: "a primary agent as a subagent that inherits rules",
    session: {
      permission: [
        { permission: "bash", pattern: "rm *", action: "deny" },
        { permission: "bash", pattern: "ls", action: "ask" },
        { permission: "external_directory", pattern: "/x/*", action: "allow" }
      ]
    },
    prompt: prompt([task([{ text: "x" }], { subagent_type: "plan" }), { text: "root done" }]),
    idles: 1
  },
  {
    name: "a subagent that is called again in its session",
    prompt: prompt([task([{ text: "child done" }]), { text: "root done" }]),
    during: (talk) =>
      Effect.gen(function*() {
        yield* isIdle(talk)
        const [child] = asArray(yield* talk.send("GET", `/session/${talk.sessionId}/children`))
        const again = task([{ text: "child again" }], { task_id: idOf(child), subagent_type: "nester" })
        yield* talk.send("POST", `/session/${talk.sessionId}/prompt_async`, prompt([again, { text: "root again" }]))
      }),
    idles: 1
  },
  {
    name: "a task that is asked for",
    session: { permission: [{ permission: "task", pattern: "*", action: "ask" }] },
    prompt: prompt([task([{ text: "child done" }]), { text: "root done" }]),
    during: answer("permission", "reply", { reply: "once" }),
    idles: 1
  },
  {
    name: "a task that is rejected",
    session: { permission: [{ permission: "task", pattern: "*", action: "ask" }] },
    prompt: prompt([task([{ text: "never said" }]), { text: "never said" }]),
    during: answer("permission", "reply", { reply: "reject" }),
    idles: 1
  },
  {
    name: "a tool call that a rule denies",
    session: { permission: [{ permission: "task", pattern: "gen*", action: "deny" }] },
    prompt: prompt([task([{ text: "x" }]), { text: "root done" }]),
    idles: 1
  },
  {
    name: "a script of several commands",
    session: asksForBash,
    prompt: prompt([bash("echo a && git status --short || echo b | head -1; echo a"), { text: "never said" }]),
    during: answer("permission", "reply", { reply: "reject" }),
    idles: 1
  },
  {
    name: "two permissions of which one is rejected with a message",
    session: asksForBash,
    prompt: prompt([{ ...bash("echo a"), tools: [bash("echo b")] }, { text: "never said" }]),
    during: answerFirst(2, { reply: "reject", message: "use ls" }),
    idles: 1
  },
  ...(["not a", undefined] as const).map((message) => ({
    name: `two permissions of which one is granted before the other is rejected ${
      message === undefined ? "without" : "with"
    } a message`,
    session: asksForBash,
    prompt: prompt([{ ...bash("echo a"), tools: [bash("echo b")] }, { text: "I see" }]),
    during: (talk: Talk) =>
      Effect.gen(function*() {
        const asked = yield* Effect.replicateEffect(talk.next(({ type }) => type === "permission.asked"), 2)
        yield* talk.send("POST", `/permission/${idOf(asked[1]?.properties)}/reply`, { reply: "once" })
        yield* talk.next(({ properties, type }) =>
          type === "message.part.updated" && JSON.stringify(properties).includes(`"status":"completed"`)
        )
        yield* talk.send("POST", `/permission/${idOf(asked[0]?.properties)}/reply`, {
          reply: "reject",
          ...(message !== undefined && { message })
        })
      }),
    idles: 1
  })),
  {
    name: "a permission that is rejected while a question stays open",
    session: asksForBash,
    prompt: prompt([{ ...bash("echo a"), tools: [question] }, { text: "I see" }]),
    during: (talk) =>
      Effect.gen(function*() {
        const permission = yield* talk.next(({ type }) => type === "permission.asked")
        const asked = yield* talk.next(({ type }) => type === "question.asked")
        yield* talk.send("POST", `/permission/${idOf(permission.properties)}/reply`, {
          reply: "reject",
          message: "not a"
        })
        yield* talk.send("POST", `/question/${idOf(asked.properties)}/reply`, { answers: [["A"]] })
      }),
    idles: 1
  },
  {
    name: "three permissions of which one is granted for always",
    session: asksForBash,
    prompt: prompt([{ ...bash("true a"), tools: [bash("true b"), bash("ls -a")] }, { text: "done" }]),
    during: (talk) =>
      Effect.gen(function*() {
        const asked = yield* Effect.replicateEffect(talk.next(({ type }) => type === "permission.asked"), 3)
        yield* talk.send("POST", `/permission/${idOf(asked[0]?.properties)}/reply`, { reply: "always" })
        yield* talk.send("POST", `/permission/${idOf(asked[2]?.properties)}/reply`, { reply: "reject" })
      }),
    idles: 1,
    isRacy: true
  },
  {
    name: "a question with all kinds of answers",
    prompt: prompt([
      {
        tool: "question",
        args: {
          questions: ["One?", "Many?", "None?", "Empty?"].map((question) => ({
            question,
            header: "Pick",
            multiple: true,
            options: []
          }))
        }
      },
      { text: "done" }
    ]),
    during: answer("question", "reply", { answers: [["A"], ["B", "C"], [], [""], ["surplus"]] }),
    idles: 1
  },
  {
    name: "an abort while a subagent runs a command",
    // A fast answer of the model would sometimes be complete before the abort reaches the turn.
    prompt: prompt([task([bash("echo up; sleep 60"), { text: "never said" }]), slow]),
    during: (talk) =>
      Effect.andThen(
        talk.next(({ properties }) => JSON.stringify(properties).includes("\"output\":\"up\\n\"")),
        talk.send("POST", `/session/${talk.sessionId}/abort`)
      ),
    idles: 1,
    isRacy: true
  },
  {
    name: "an abort while a subagent asks, and the answer to what is still asked",
    prompt: prompt([
      task([{ tool: "read", args: { filePath: "/etc/hostname" } }, { text: "never said" }]),
      { text: "root done" }
    ]),
    during: (talk) =>
      Effect.gen(function*() {
        const asked = yield* talk.next(({ type }) => type === "permission.asked")
        yield* talk.send("POST", `/session/${talk.sessionId}/abort`)
        yield* talk.send("POST", `/permission/${idOf(asked.properties)}/reply`, { reply: "reject" })
      }),
    idles: 1,
    isRacy: true
  },
  {
    name: "an abort of a subagent",
    prompt: prompt([task([{ text: "child hangs", ending: "hang" }]), { text: "root done" }]),
    during: (talk) =>
      Effect.gen(function*() {
        yield* deltas(talk, 2)
        const [child] = asArray(yield* talk.send("GET", `/session/${talk.sessionId}/children`))
        yield* talk.send("POST", `/session/${idOf(child)}/abort`)
      }),
    idles: 1
  },
  {
    name: "a text file as a part",
    repository: "read",
    prompt: (directory) =>
      withParts(
        { type: "file", mime: "text/plain", filename: "old.txt", url: `file://${directory}/old.txt` },
        { type: "file", mime: "text/plain", url: `file://${directory}/long.txt?start=2&end=4` },
        { id: "prt_000000000005000000000000000", type: "file", mime: "text/plain", url: `file://${directory}/gone.txt` }
      ),
    idles: 1
  },
  {
    name: "a text as data",
    prompt: withParts(
      { type: "file", mime: "text/plain", filename: "d.txt", url: "data:text/plain;base64,aGVsbG8K" },
      { type: "file", mime: "text/plain", url: "data:text/plain,hi%20there" }
    ),
    idles: 1
  },
  {
    name: "a text file that is missing",
    prompt: withParts({ type: "file", mime: "text/plain", filename: "n.txt", url: "file:///nonexistent/n.txt" }),
    idles: 1
  },
  {
    name: "a text that is not fetched",
    prompt: withParts({ type: "file", mime: "text/plain", url: "http://127.0.0.1:9/n.txt" }),
    idles: 1
  },
  {
    name: "a picture and a document that the model does not take",
    prompt: withParts(
      { type: "file", mime: "image/png", filename: "p.png", url: `data:image/png;base64,${png}` },
      { type: "file", mime: "application/pdf", filename: "p.pdf", url: "data:application/pdf;base64,JVBERi0xLjQK" }
    ),
    idles: 1
  },
  {
    name: "a file of a kind that no model takes, and the prompt after it",
    prompt: withParts({ type: "file", mime: "application/json", url: "data:application/json,{}" }),
    during: (talk) =>
      Effect.andThen(
        Effect.replicateEffect(isIdle(talk), 2),
        talk.send("POST", `/session/${talk.sessionId}/prompt_async`, prompt([{ text: "next" }]))
      ),
    idles: 1
  },
  ...Object.entries({
    "a picture that is missing": "file:///nonexistent/n.png",
    "a picture that is broken": "data:image/png;base64,AAAA",
    "a picture elsewhere": "http://127.0.0.1:9/n.png",
    "an address that is none": "not a url"
  }).map(([name, url]): Scenario => ({
    name,
    prompt: withParts({ type: "file", mime: "image/png", filename: "n.png", url }),
    errors: 1
  })),
  {
    name: "a mention of an agent",
    prompt: withParts({ type: "agent", name: "general" }, { type: "agent", name: "nobody" }),
    idles: 1
  },
  {
    name: "a subtask",
    prompt: withParts(subtask([{ text: "child done" }])),
    idles: 1
  },
  {
    name: "a subtask without a text, of an agent that is no subagent",
    prompt: { parts: [subtask([bash("echo a"), { text: "child done" }], { agent: "build" })] },
    idles: 1
  },
  {
    name: "a subtask with a command",
    prompt: withParts(subtask([{ text: "child done" }], { command: "c" })),
    idles: 1
  },
  {
    name: "two subtasks",
    prompt: withParts(subtask([{ text: "never said" }]), subtask([{ text: "child done" }])),
    idles: 1
  },
  {
    name: "a subtask that fails",
    prompt: withParts(subtask([{ fail: 400, message: "childbad" }])),
    idles: 1
  },
  {
    name: "a subtask with a structured answer",
    prompt: {
      ...prompt([{ text: "skipped" }, structured(1)], { format }),
      parts: [
        { type: "text", text: ScriptedModel.prompt("go", [{ text: "skipped" }, structured(1)]) },
        subtask([{ text: "child done" }])
      ]
    },
    idles: 1
  },
  {
    name: "a subtask whose permission is asked for",
    prompt: withParts(subtask([{ tool: "read", args: { filePath: "/etc/hostname" } }, { text: "never said" }])),
    during: answer("permission", "reply", { reply: "reject" }),
    idles: 1
  },
  {
    name: "a subtask of an agent that does not exist, and the prompt after it",
    prompt: withParts(subtask([{ text: "never said" }], { agent: "nope" })),
    during: (talk) =>
      Effect.andThen(
        Effect.replicateEffect(talk.next(({ type }) => type === "session.error"), 2),
        talk.send("POST", `/session/${talk.sessionId}/prompt_async`, prompt([{ text: "never said" }]))
      ),
    idles: 1,
    errors: 1
  },
  {
    name: "an abort of a subtask",
    prompt: {
      parts: [
        { type: "text", text: ScriptedModel.prompt("go", [{ text: "skipped" }, slow]) },
        subtask([bash("echo up; sleep 60"), { text: "never said" }])
      ]
    },
    during: (talk) =>
      Effect.andThen(
        talk.next(({ properties }) => JSON.stringify(properties).includes("\"output\":\"up\\n\"")),
        talk.send("POST", `/session/${talk.sessionId}/abort`)
      ),
    idles: 1,
    isRacy: true
  },
  {
    name: "files that are written, edited, deleted and patched",
    repository: "written",
    prompt: prompt([
      write("new.txt", "x\ny"),
      write("old.txt", "one\n2\nthree\nfour\n"),
      { tool: "edit", args: { filePath: "long.txt", oldString: "line 15\n", newString: "line xv\nand more\n" } },
      { tool: "edit", args: { filePath: "old.txt", oldString: "nowhere", newString: "x" } },
      { tool: "edit", args: { filePath: "old.txt", oldString: "e", newString: "x" } },
      { tool: "edit", args: { filePath: "old.txt", oldString: "one", newString: "one" } },
      { tool: "edit", args: { filePath: "edited.txt", oldString: "", newString: "made by an edit\n" } },
      { tool: "write", args: { content: "nowhere" } },
      write("last.txt", "the end\n"),
      { text: "done" }
    ]),
    idles: 1
  },
  {
    name: "a subagent that writes files",
    repository: "written",
    prompt: prompt([task([write("sub/deep/last.txt", "child\n"), { text: "child done" }]), { text: "done" }]),
    idles: 1
  },
  {
    name: "files that were written before a failure",
    repository: "written",
    prompt: prompt([write("before/last.txt", "a\n"), { fail: 400, message: "bad" }]),
    idles: 2
  },
  {
    name: "a write that is asked for",
    repository: "written",
    session: { permission: [{ permission: "edit", pattern: "*", action: "ask" }] },
    prompt: prompt([write("asked/last.txt", "a\nb\n"), { text: "done" }]),
    during: answer("permission", "reply", { reply: "once" }),
    idles: 1
  },
  {
    name: "files that are written where there is no repository",
    prompt: prompt([write("plain.txt", "a\n"), write("plain.txt", "b\n"), { text: "done" }]),
    idles: 1
  },
  {
    name: "a to-do list that is not one",
    prompt: prompt([{ tool: "todowrite", args: { todos: [{ content: "a", status: "weird" }] } }, { text: "done" }]),
    idles: 1
  },
  {
    name: "a structured answer",
    prompt: prompt([{ reasoning: "hm", text: "thinking", ...structured(1) }, { text: "never said" }], { format }),
    idles: 1
  },
  {
    name: "a structured answer that follows a tool and does not fit",
    prompt: prompt([bash("echo a"), structured("no"), { text: "x" }], { format }),
    idles: 1
  },
  {
    name: "two structured answers at once",
    prompt: prompt([{ ...structured(1), tools: [structured(2), bash("echo a")] }, { text: "x" }], { format }),
    idles: 1,
    isRacy: true
  },
  {
    name: "a structured answer that is asked for and not given",
    prompt: prompt([bash("echo a"), { text: "{\"n\":1}" }, structured(1)], {
      format: { ...format, retryCount: 0 }
    }),
    idles: 1
  },
  {
    name: "a structured answer whose finish is another",
    prompt: prompt([{ ...structured(1), finish: "stop" }, { text: "x" }], { format }),
    idles: 1
  },
  {
    name: "a structured answer that is too long",
    prompt: prompt([{ text: "half", finish: "length" }, structured(1)], { format }),
    idles: 1
  },
  {
    name: "a structured answer that is filtered",
    prompt: prompt([{ text: "half", finish: "content_filter" }, structured(1)], { format }),
    idles: 1
  },
  {
    name: "a structured answer whose model fails",
    prompt: prompt([{ fail: 400, message: "bad" }], { format }),
    idles: 2
  },
  {
    name: "a structured answer of which a tool is rejected",
    session: asksForBash,
    prompt: prompt([bash("echo hi"), { text: "never said" }], { format }),
    during: answer("permission", "reply", { reply: "reject" }),
    idles: 1
  },
  {
    name: "a structured answer whose context is full",
    prompt: prompt([{ fail: 413, message: "prompt is too long" }, structured(1)], { format }),
    idles: 1
  },
  {
    name: "a structured prompt that is posted again when it is answered",
    prompt: structuredAgain,
    during: (talk) =>
      Effect.andThen(
        talk.next(({ type }) => type === "session.idle"),
        talk.send("POST", `/session/${talk.sessionId}/prompt_async`, structuredAgain)
      ),
    idles: 1
  },
  {
    name: "a structured prompt that is posted again without its format",
    prompt: { ...identified(4, [structured(1)]), format },
    during: (talk) =>
      Effect.andThen(
        talk.next(({ type }) => type === "session.idle"),
        talk.send("POST", `/session/${talk.sessionId}/prompt_async`, identified(4, [structured(1), { text: "plain" }]))
      ),
    idles: 1
  },
  {
    name: "a format that says text",
    prompt: prompt([{ text: "as usual" }], { format: { type: "text" } }),
    idles: 1
  },
  {
    name: "a call of StructuredOutput that nobody asked for",
    prompt: prompt([structured(1), { text: "done" }]),
    idles: 1
  },
  {
    name: "a tool call whose finish says that it is the end",
    prompt: prompt([{ ...bash("echo a"), finish: "stop" }, { text: "done" }]),
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

/** Formats that the server refuses in a prompt. */
const formats: ReadonlyArray<object> = [
  { type: "json_schema" },
  { type: "json_schema", schema: "x" },
  { type: "json_schema", schema: [1] },
  { ...format, retryCount: -1 },
  { ...format, retryCount: 1.5 },
  { type: "nope" }
]

/** Requests by method, path (`*` is the session) and body. Their answers are compared unchanged. */
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
  ["POST", "/session/*/prompt_async", { parts: [{ type: "file", url: "data:," }] }],
  ["POST", "/session/*/prompt_async", { parts: [{ type: "agent" }] }],
  ["POST", "/session/*/prompt_async", { parts: [{ type: "subtask", prompt: "x", description: "y" }] }],
  ["POST", "/session/*/prompt_async", { parts: [{ type: "nope" }] }],
  ["GET", "/session/*/diff"],
  ["GET", "/session/*/diff?messageID=x"],
  ["GET", "/session/*/diff?messageID=msg_nope"],
  ["GET", "/session/ses_unknown000/diff"],
  ["GET", "/session/ses_unknown000/diff?messageID=msg_nope"],
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
  ...formats.map((format) => ["POST", "/session/*/prompt_async", { ...prompt([]), format }] as const),
  ["POST", "/session/*/message", { ...prompt([structured(1)]), format }],
  ["POST", "/session/*/message", { ...prompt([]), noReply: true, format }],
  ["GET", "/session/*/message"],
  ["GET", "/session/*/message?limit=2"],
  ["GET", "/session/*/message?limit=3"],
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

const model = { providerID: "scripted", modelID: "m" }

/** Forks, reverts and compactions of a session, and what its next prompts find. */
const history = Effect.fnUntraced(function*(target: Target) {
  const client = yield* HttpClient.HttpClient
  const about = target.directory === undefined
    ? (request: HttpClientRequest.HttpClientRequest) => request
    : HttpClientRequest.setUrlParam("directory", target.directory)
  const send = (method: "DELETE" | "GET" | "POST", path: string, body?: unknown) =>
    Effect.gen(function*() {
      const response = yield* client.execute(
        HttpClientRequest.make(method)(target.url + path).pipe(
          HttpClientRequest.basicAuth("opencode", target.password),
          about,
          body === undefined ? (request) => request : HttpClientRequest.bodyJsonUnsafe(body)
        )
      )
      return [response.status, yield* response.json] as const
    })
  const said: Array<unknown> = []
  const tell = (what: string, value: unknown) => said.push([what, value])
  const make = Effect.map(
    send("POST", "/session", { title: "history", metadata: { a: 1 }, permission: [rule] }),
    ([, session]) => idOf(session)
  )
  const ask = (id: string, steps: ReadonlyArray<ScriptedModel.Step>, text = "go") =>
    send("POST", `/session/${id}/message`, { parts: [{ type: "text", text: ScriptedModel.prompt(text, steps) }] })
  const messages = (id: string) =>
    Effect.map(send("GET", `/session/${id}/message`), ([, list]) => asArray(list).map(withoutSummary))
  const ids = (id: string) => Effect.map(messages(id), (all) => all.map((message) => idOf(infoOf(message))))
  const session = (id: string) => Effect.map(send("GET", `/session/${id}`), ([, info]) => steady(info))

  const first = yield* make
  yield* ask(first, [write("a.txt", "A1\n"), { text: "first" }])
  yield* ask(first, [write("a.txt", "A2\n"), write("b.txt", "B\n"), { text: "second" }])
  const all = yield* ids(first)
  for (const before of [undefined, ...all, "msg_zzzz"]) {
    const [status, forked] = yield* send("POST", `/session/${first}/fork`, { ...(before && { messageID: before }) })
    tell("fork", [status, steady(forked), yield* messages(idOf(forked)), yield* session(idOf(forked))])
  }
  const prompts = (yield* messages(first)).map(infoOf).filter(isOfUser).map(idOf)
  tell("revert", steadyAnswer(yield* send("POST", `/session/${first}/revert`, { messageID: prompts[1] })))
  tell("hidden", yield* messages(first))
  tell("fork of reverted", (yield* ids(idOf((yield* send("POST", `/session/${first}/fork`, {}))[1]))).length)
  tell("again", steadyAnswer(yield* send("POST", `/session/${first}/revert`, { messageID: all.at(-1) })))
  tell("unrevert", steadyAnswer(yield* send("POST", `/session/${first}/unrevert`)))
  tell("unrevert again", steadyAnswer(yield* send("POST", `/session/${first}/unrevert`)))
  tell("nothing", steadyAnswer(yield* send("POST", `/session/${first}/revert`, { messageID: "msg_zzzz" })))
  yield* ask(first, [replace("a.txt", "A2", "A3"), replace("b.txt", "B", "C"), { text: "third" }])
  yield* send("POST", `/session/${first}/revert`, { messageID: prompts[1] })
  yield* ask(first, [replace("a.txt", "A1", "A4"), write("b.txt", "D\n"), { text: "fourth" }])
  tell("after a revert", [yield* messages(first), yield* session(first)])

  const second = yield* make
  yield* ask(second, [{ text: "first" }])
  tell("compact", yield* send("POST", `/session/${second}/summarize`, model))
  yield* ask(second, [{ text: "second" }])
  tell("compacted", [yield* messages(second), yield* session(second)])
  yield* send("POST", `/session/${second}/revert`, { messageID: (yield* ids(second))[0] })
  tell("compact reverted", yield* send("POST", `/session/${second}/summarize`, model))
  tell("compacted again", yield* messages(second))

  const third = yield* make
  yield* ask(third, [{ text: "first" }], "no summary")
  tell("no summary", yield* send("POST", `/session/${third}/summarize`, model))
  tell("left", yield* messages(third))
  yield* ask(third, [{ text: "second" }])
  tell("eaten", yield* messages(third))
  for (const id of (yield* ids(third)).slice(2)) {
    tell("delete", yield* send("DELETE", `/session/${third}/message/${id}`))
  }
  yield* ask(third, [{ text: "third" }])
  tell("answered", yield* messages(third))

  const fourth = yield* make
  tell("unknown model", yield* send("POST", `/session/${fourth}/summarize`, { providerID: "a", modelID: "b" }))
  tell("left", yield* messages(fourth))
  yield* ask(fourth, [{ text: "first" }])
  tell("eaten", yield* messages(fourth))

  const busy = yield* make
  const asked = yield* send("POST", `/session/${busy}/prompt_async`, prompt([{ text: "held", gate: "history" }])).pipe(
    Effect.ignore
  )
  const isBusy = Effect.map(send("GET", "/session/status"), ([, statuses]) => Predicate.hasProperty(statuses, busy))
  yield* Effect.repeat(isBusy, { until: (isBusy) => isBusy, schedule: Schedule.spaced("20 millis") })
  tell("busy", [
    asked,
    yield* send("POST", `/session/${busy}/revert`, { messageID: "msg_1" }),
    yield* send("POST", `/session/${busy}/unrevert`),
    yield* send("DELETE", `/session/${busy}/message/msg_1`)
  ])
  yield* send("POST", `/session/${busy}/abort`)

  for (const verb of ["fork", "revert", "unrevert", "summarize"]) {
    tell(verb, yield* send("POST", `/session/ses_unknown000/${verb}`, { messageID: "msg_1", ...model }))
  }
  tell("bad fork", yield* send("POST", `/session/${second}/fork`, { messageID: "nope" }))
  tell("bad revert", yield* send("POST", `/session/${second}/revert`, { messageID: "nope" }))
  tell("bad summarize", yield* send("POST", `/session/${second}/summarize`, {}))
  return makeNormaliser()(said)
})

const replace = (filePath: string, oldString: string, newString: string) => ({
  tool: "edit",
  args: { filePath, oldString, newString }
})

const rule = { permission: "webfetch", pattern: "*", action: "allow" }

const infoOf = (message: unknown): unknown => Predicate.hasProperty(message, "info") ? message.info : undefined

const isOfUser = (info: unknown): boolean => Predicate.hasProperty(info, "role") && info.role === "user"

/** The list of changed files comes some time after the answer. */
const withoutSummary = (message: unknown): unknown => {
  if (!Predicate.hasProperty(message, "info") || !Predicate.isObject(message)) return message
  const { info } = message
  if (!isOfUser(info) || !Predicate.isObject(info)) return message
  return { ...message, info: { ...info, summary: undefined } }
}

/** A session without its summary of changes, which the fake does not count, and the text of a diff. */
const steady = (session: unknown): unknown => {
  if (!Predicate.isObject(session)) return session
  const { cost, revert, summary: _summary, ...info }: Record<string, unknown> = { ...session }
  return {
    ...info,
    cost: Number(cost).toFixed(8),
    ...(Predicate.isObject(revert) && { revert: { ...revert, diff: undefined } })
  }
}

const steadyAnswer = ([status, session]: readonly [number, unknown]) => [status, steady(session)]

/** The agents without their texts, and without the rules about the server's own folders. */
const agents = Effect.fnUntraced(function*({ password, url }: Target) {
  const client = yield* HttpClient.HttpClient
  const response = yield* HttpClientRequest.get(`${url}/agent`).pipe(
    HttpClientRequest.basicAuth("opencode", password),
    client.execute
  )
  const list = yield* HttpClientResponse.schemaBodyJson(Schema.Array(Agent))(response)
  return list.map((agent) => ({
    ...agent,
    permission: agent.permission.filter(({ pattern }) => !/opencode\//.test(pattern))
  }))
})

const Agent = Schema.Struct({
  name: Schema.String,
  mode: Schema.String,
  native: Schema.Boolean,
  hidden: Schema.optionalKey(Schema.NullOr(Schema.Boolean)),
  permission: Schema.Array(Schema.Struct({
    permission: Schema.String,
    pattern: Schema.String,
    action: Schema.String
  })),
  options: Schema.JsonObject
})

// Child processes use real time, so there is no test clock.
it.layer(platform, { excludeTestServices: true, timeout: "5 minutes" })("The fake OpenCode and the real one", (it) => {
  for (const scenario of scenarios) {
    it.effect(`agree about ${scenario.name}`, () =>
      Effect.gen(function*() {
        const { repository, ...plain } = yield* Targets
        const { fake, real } = scenario.repository === undefined ? plain : repository
        const fakeRun = yield* run(fake, scenario)
        const realRun = yield* run(real, scenario)
        assert.deepStrictEqual(fakeRun, realRun)
      }))
  }

  it.effect("agree about forks, reverts and compactions in a folder", () =>
    Effect.gen(function*() {
      const { fake, real } = yield* Targets
      assert.deepStrictEqual(yield* history(fake), yield* history(real))
    }))

  it.effect("agree about forks, reverts and compactions in a repository", () =>
    Effect.gen(function*() {
      const { repository: { fake, real } } = yield* Targets
      assert.deepStrictEqual(yield* history(fake), yield* history(real))
    }))

  it.effect("agree about the agents and their permissions", () =>
    Effect.gen(function*() {
      const { fake, real } = yield* Targets
      assert.deepStrictEqual(yield* agents(fake), yield* agents(real))
    }))

  it.effect("agree about the shapes of answers and errors", () =>
    Effect.gen(function*() {
      const { fake, real } = yield* Targets
      assert.deepStrictEqual(yield* answers(fake), yield* answers(real))
    }))
})
