/**
 * Reverts, forks, summaries and instructions of the fake OpenCode 2.x against the real beta: the same scripts on both, and everything that both say is
 * compared.
 */
import { NodeHttpClient, NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"
import * as FakeServer from "@opencode-turn/testing/FakeServer"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { opencodeConfig } from "@opencode-turn/testing/ScriptedProvider"
import { Context, Effect, FileSystem, Layer, Predicate, Queue, Schedule, Schema, Stream } from "effect"
import type { Redacted } from "effect"
import { HttpClient, HttpClientRequest } from "effect/http"
import { execFileSync } from "node:child_process"
import * as SharedOpencode from "../support/SharedOpencode.ts"

/** A server with the API of 2.x, and its model. */
interface Target {
  readonly url: string
  readonly password: Redacted.Redacted<string>
  readonly directory: string
  readonly modelCalls: Effect.Effect<number>
  readonly reached: (gate: string) => Effect.Effect<void>
  readonly release: (gate: string) => Effect.Effect<void>
}

interface Pair {
  readonly real: Target
  readonly fake: Target
}

/** The servers in a plain folder, and in a repository. */
class Targets extends Context.Service<Targets, { readonly plain: Pair; readonly repository: Pair }>()("test/Targets") {}

const files = { "old.txt": "one\ntwo\n" }

/** A folder that no server has. */
const nowhere = "/nowhere/at/all"

const rules = { webfetch: "ask", bash: { "*": "allow", "echo asked*": "ask", "echo denied*": "deny" } } as const

const targets = Layer.effect(
  Targets,
  Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    const model = yield* ScriptedModel.ScriptedModel
    const server = yield* SharedOpencode.serverOf("2.x")
    const folder = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-honesty-" })
    const pairIn = Effect.fnUntraced(function*(name: string, isRepository: boolean) {
      const directory = `${folder}/${name}`
      yield* fs.makeDirectory(directory)
      yield* fs.writeFileString(`${directory}/old.txt`, files["old.txt"])
      yield* SharedOpencode.configure(directory, { ...opencodeConfig(model), permission: rules })
      if (isRepository) makeRepository(directory)
      const fake = yield* FakeOpencode.make({
        line: "2.x",
        directory,
        password: server.password,
        git: isRepository,
        files,
        permission: [
          { permission: "webfetch", pattern: "*", action: "ask" },
          ...Object.entries(rules.bash).map(([pattern, action]) => ({ permission: "bash", pattern, action }))
        ]
      })
      yield* fake.missing([nowhere])
      const served = yield* Layer.build(
        FakeServer.layer().pipe(Layer.provide(Layer.succeed(FakeOpencode.FakeOpencode, fake)))
      )
      const { reached, release } = fake
      return {
        real: { ...model, ...server, directory },
        fake: {
          url: Context.get(served, FakeServer.FakeServer).url,
          password: server.password,
          directory,
          // Like those of the scripted model, without the calls that offer no tools.
          modelCalls: Effect.map(fake.modelRequests, (requests) => requests.filter(({ isTitle }) => !isTitle).length),
          reached,
          release
        }
      }
    })
    return { plain: yield* pairIn("plain", false), repository: yield* pairIn("repository", true) }
  })
).pipe(Layer.provide(ScriptedModel.layer()))

const makeRepository = (directory: string) => {
  const git = (...args: ReadonlyArray<string>) => execFileSync("git", args, { cwd: directory, stdio: "ignore" })
  git("init", "--quiet")
  git("add", ".")
  git("-c", "user.name=test", "-c", "user.email=test@example.com", "commit", "--quiet", "--message", "first")
}

const platform = Layer.provideMerge(targets, Layer.mergeAll(NodeServices.layer, NodeHttpClient.layerUndici))

const Event = Schema.Struct({
  type: Schema.String,
  data: Schema.Record(Schema.String, Schema.Unknown),
  durable: Schema.optionalKey(Schema.Struct({ seq: Schema.Int, version: Schema.Int, aggregateID: Schema.String })),
  location: Schema.optionalKey(Schema.Unknown)
})
type Event = typeof Event.Type
const decodeEvent = Schema.decodeUnknownEffect(Schema.fromJsonString(Event))

/** A conversation with a target. */
interface Talk {
  readonly sessionId: string
  readonly target: Target
  readonly send: (method: "DELETE" | "GET" | "POST" | "PUT", path: string, body?: object) => Effect.Effect<unknown>
  /** Waits for the next event that fits, and drops the events before it. */
  readonly next: (fits: (event: Event) => boolean) => Effect.Effect<Event>
}

interface Scenario {
  readonly name: string
  /** The body of the session. */
  readonly session?: object
  readonly prompt: object
  readonly during?: (talk: Talk) => Effect.Effect<unknown>
  /** What is done after the first run, in order. The answers are compared. */
  readonly after?: ReadonlyArray<(talk: Talk) => Effect.Effect<unknown>>
  /** How many runs of the root session have ended at the end; 1 by default. */
  readonly runs?: number
  /** The order of events varies, so only what is stored is compared. */
  readonly isRacy?: boolean
  readonly isRepository?: boolean
}

const isEnd = ({ type }: Event) => /^session\.execution\.(?:succeeded|failed|interrupted)$/.test(type)

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
      Effect.flatMap((response) =>
        response.status === 204
          ? Effect.succeed(204)
          : Effect.map(response.json, (json) => response.status === 200 ? json : { status: response.status, json })
      ),
      Effect.orDie
    )

  const queue = yield* Queue.unbounded<Event>()
  const events: Array<Event> = []
  yield* HttpClientRequest.get(`${target.url}/api/event`).pipe(
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

  const before = yield* target.modelCalls
  const created = yield* send("POST", "/api/session", {
    location: { directory: target.directory },
    ...scenario.session
  })
  const sessionId = idOf(dataOf(created))
  const session = `/api/session/${sessionId}`
  const talk = { sessionId, target, send, next }
  const accepted = yield* send("POST", `${session}/prompt`, scenario.prompt)
  if (scenario.during !== undefined) yield* scenario.during(talk)
  const after = scenario.after ?? []
  if (after.length > 0) yield* next((event) => isEnd(event) && event.data["sessionID"] === sessionId)
  const answers = yield* Effect.forEach(after, (act) => act(talk))
  const hasEnded = () =>
    events.filter((event) => isEnd(event) && event.data["sessionID"] === sessionId).length >= (scenario.runs ?? 1)
  while (!hasEnded()) yield* next(isEnd)

  const children = asArray(dataOf(yield* send("GET", `/api/session?parentID=${sessionId}&order=asc`)))
  const sessions = [sessionId, ...children.map(idOf)]
  const active = Effect.map(send("GET", "/api/session/active"), (answer) => JSON.stringify(dataOf(answer)))
  yield* Effect.repeat(active, {
    until: (ids) => !sessions.some((id) => ids.includes(id)),
    schedule: Schedule.spaced("20 millis")
  })

  const normalise = makeNormaliser(target.directory)
  return normalise({
    calls: (yield* target.modelCalls) - before,
    created,
    accepted,
    answers,
    events: scenario.isRacy === true ? [] : sessions.map((id) => ofSession(events, id)),
    logs: scenario.isRacy === true ? [] : yield* Effect.forEach(sessions, (id) => logOf(target, id)),
    messages: yield* Effect.forEach(sessions, (id) => send("GET", `/api/session/${id}/message?order=asc&limit=100`)),
    session: yield* send("GET", session),
    pending: yield* send("GET", `${session}/pending`),
    asks: yield* Effect.forEach(["permission", "form"], (kind) => send("GET", `${session}/${kind}`)),
    children
  })
}, Effect.scoped)

/** The log of a session, and what stands in it behind its fourth entry. */
const logOf = Effect.fnUntraced(function*({ password, url }: Target, id: string) {
  const client = yield* HttpClient.HttpClient
  const response = yield* HttpClientRequest.get(`${url}/api/experimental/session/${id}/log`).pipe(
    HttpClientRequest.basicAuth("opencode", password),
    client.execute
  )
  const text = yield* Stream.mkString(Stream.decodeText(response.stream))
  const lines = text.split("\n").filter((line) => line.startsWith("data: "))
  const events = lines.map((line): { readonly type: string } => JSON.parse(line.slice("data: ".length)))
  return events.filter(({ type }) => !isOfTitle(type) && type !== "log.synced").map(({ type }) => type)
})

/** The server makes a title of the first prompt, at any time. The fake makes none. */
const isOfTitle = (type: string) => ["session.renamed", "session.usage.recorded"].includes(type)

/**
 * The events of one session without those that depend on chance:
 * - those of titles, and the sums of usage, which count the title;
 * - the instructions, of which the fake knows nothing.
 *
 * The numbers of the log count the events that are compared.
 */
const ofSession = (events: ReadonlyArray<Event>, id: string) => {
  let seq = 0
  return events.flatMap(({ data, durable, location, type }) => {
    const form = data["form"]
    const owner = Predicate.hasProperty(form, "sessionID") ? form.sessionID : data["sessionID"]
    if (owner !== id || isOfTitle(type) || type === "session.usage.updated") return []
    const numbered = durable === undefined ? {} : { durable: { version: durable.version, seq: seq++ } }
    return [{
      type,
      data: type === "session.instructions.updated" ? {} : data,
      ...numbered,
      isLocated: location !== undefined
    }]
  })
}

const dataOf = (value: unknown): unknown => Predicate.hasProperty(value, "data") ? value.data : undefined

const asArray = (value: unknown): ReadonlyArray<unknown> => Array.isArray(value) ? value : []

const idOf = (value: unknown): string =>
  Predicate.hasProperty(value, "id") && typeof value.id === "string" ? value.id : ""

/** Replaces ids by their order of appearance, and everything that depends on time, place or chance. */
const makeNormaliser = (directory: string) => {
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
      .replaceAll(directory, "/directory")
      .replaceAll(/\b(?:ses|msg|per|frm|sh|call)_[0-9A-Za-z-]{8,}/g, name)
      .replace(/\b[0-9a-f]{40}\b/, "hash")
      .replace(/New session - .*/, "New session")
  const visit = (key: string, value: unknown): unknown => {
    if (key === "time" && typeof value === "object" && value !== null) return Object.keys(value).sort()
    if (["at", "timeCreated", "slug", "title", "cursor", "subpath", "path", "patch", "admittedSeq"].includes(key)) {
      return "…"
    }
    if (typeof value === "string") return text(value)
    if (Array.isArray(value)) return value.map((item) => visit("", item))
    if (typeof value === "object" && value !== null) {
      // A session counts its title.
      const isSession = Predicate.hasProperty(value, "location") || Predicate.hasProperty(value, "projectID")
      return Object.fromEntries(
        Object.entries(value)
          .filter(([key]) => !(isSession && (key === "cost" || key === "tokens")))
          .sort(([left], [right]) => (left < right ? -1 : 1))
          .map(([key, item]) => [key, visit(key, item)])
      )
    }
    return value
  }
  return (value: unknown) => visit("", value)
}

const prompt = (steps: ReadonlyArray<ScriptedModel.Step>, fields: object = {}) => ({
  text: ScriptedModel.prompt("go", steps),
  ...fields
})

const shell = (command: string): ScriptedModel.Step => ({ tool: "shell", args: { command, description: "d" } })

const until = (type: string) => (talk: Talk) => talk.next((event) => event.type === type)

const then = (...acts: ReadonlyArray<(talk: Talk) => Effect.Effect<unknown>>) => (talk: Talk) =>
  Effect.forEach(acts, (act) => act(talk), { discard: true })

const released = (gate: string) => ({ target }: Talk) => target.release(gate)

const post = (body: object, path = "prompt") => (talk: Talk) =>
  talk.send("POST", `/api/session/${talk.sessionId}/${path}`, body)

const call = (method: "DELETE" | "GET" | "PUT", path: string, body?: object) => (talk: Talk) =>
  talk.send(method, `/api/session/${talk.sessionId}${path}`, body)

/** Posts again to the session, and waits until it is idle. */
const again = (body: object, path = "prompt") => (talk: Talk) =>
  Effect.tap(post(body, path)(talk), () => post({}, "wait")(talk))

/** The first message of the session with the role. */
const firstOf = (talk: Talk, type: string) =>
  Effect.map(
    talk.send("GET", `/api/session/${talk.sessionId}/message?order=asc&limit=100`),
    (page) =>
      idOf(asArray(dataOf(page)).find((message) => Predicate.hasProperty(message, "type") && message.type === type))
  )

/** Takes back what the session said from its first prompt on. */
const stage = (talk: Talk) =>
  Effect.flatMap(firstOf(talk, "user"), (messageID) => post({ messageID }, "revert/stage")(talk))

/** Forks the session before its last answer, and gives what the fork holds. */
const fork = (talk: Talk) =>
  Effect.gen(function*() {
    const copy = yield* Effect.flatMap(firstOf(talk, "assistant"), (messageID) => post({ messageID }, "fork")(talk))
    return [copy, yield* talk.send("GET", `/api/session/${idOf(dataOf(copy))}/message?order=asc`)]
  })

const scenarios: ReadonlyArray<Scenario> = [
  {
    name: "a revert that is undone",
    prompt: prompt([{ tool: "write", args: { path: "made.txt", content: "a\n" } }, { text: "Written." }]),
    isRepository: true,
    after: [
      stage,
      call("GET", ""),
      stage,
      post({ messageID: "msg_unknown" }, "revert/stage"),
      post({}, "revert/clear"),
      post({}, "wait"),
      call("GET", "")
    ],
    runs: 2
  },
  {
    name: "a revert that the next prompt makes final",
    prompt: prompt([{ text: "Never said." }]),
    after: [stage, again(prompt([{ text: "Said." }])), call("GET", "")],
    runs: 2
  },
  {
    name: "a revert that is made final",
    prompt: prompt([{ text: "Never said." }]),
    after: [stage, post({}, "revert/commit"), post({}, "revert/commit"), call("GET", "/message")]
  },
  {
    name: "a revert while the session works",
    prompt: prompt([{ text: "one two", gate: "works", gateAfter: 1 }]),
    during: then(
      until("session.text.delta"),
      stage,
      post({}, "revert/clear"),
      post({}, "revert/commit"),
      released("works")
    )
  },
  { name: "a fork", prompt: prompt([shell("echo one"), { text: "Done." }]), after: [fork] },
  {
    name: "summaries",
    prompt: prompt([shell("echo one"), { text: "Done." }]),
    after: [
      again({ id: "msg_summary_of_one" }, "compact"),
      post({ id: "msg_summary_of_one" }, "compact"),
      again({}, "compact"),
      again(prompt([{ text: "Two." }])),
      again(prompt([{ text: "Three." }])),
      again({}, "compact")
    ],
    runs: 6
  },
  {
    name: "a summary by an unknown model",
    prompt: prompt([{ text: "Done." }]),
    after: [post({ model: { providerID: "nobody", id: "x" } }, "model"), again({}, "compact")],
    runs: 2
  },
  {
    name: "a summary that is ordered twice in the middle of a run",
    prompt: prompt([{ ...shell("echo one"), text: "I look.", gate: "order", gateAfter: 1 }, { text: "Never said." }]),
    during: then(until("session.text.delta"), post({}, "compact"), post({}, "compact"), released("order"))
  },
  {
    name: "a summary that the model needs",
    prompt: prompt([{ text: "One." }]),
    after: [again(prompt([{ ...shell("echo one"), usage: { input: 95_000, output: 5 } }, { text: "Done." }]))],
    runs: 2
  },
  {
    name: "instructions that change",
    prompt: prompt([{ text: "One." }]),
    after: [
      call("PUT", "/instructions/entries/a", { value: "Be brief." }),
      call("GET", "/instructions/entries"),
      again(prompt([{ text: "Two." }])),
      again(prompt([{ text: "Three." }])),
      call("PUT", "/instructions/entries/a", { value: { of: "another shape" } }),
      call("DELETE", "/instructions/entries/b"),
      again(prompt([{ text: "Four." }])),
      call("DELETE", "/instructions/entries/a"),
      again(prompt([{ text: "Five." }])),
      call("PUT", "/instructions/entries/a", { value: "x".repeat(8193) })
    ],
    runs: 5
  }
]

// Child processes use real time, so there is no test clock.
describe.skipIf(SharedOpencode.isMissing("2.x"))("on OpenCode 2.x", () => {
  it.layer(platform, { excludeTestServices: true, timeout: "5 minutes" })("the fake and the real one", (it) => {
    for (const scenario of scenarios) {
      it.effect(`agree about ${scenario.name}`, () =>
        Effect.gen(function*() {
          const { plain, repository } = yield* Targets
          const { fake, real } = scenario.isRepository === true ? repository : plain
          const fakeRun = yield* run(fake, scenario)
          const realRun = yield* run(real, scenario)
          assert.deepStrictEqual(fakeRun, realRun)
        }))
    }
  })
})
