/**
 * An in-memory OpenCode server with the routes, events and order of events of opencode 1.18.33, or of OpenCode 2.x. A script replaces the
 * model, and faults occur on demand.
 *
 * **Responsibilities**: the controls of a test, credentials, the record of requests, crashes, and a `Client` over the fake without a
 * network. `FakeServer` serves the same fake over HTTP.
 *
 * **Not responsibilities**: executing tools, titles of sessions, projects and files.
 *
 * The fake needs no real time. Delays, heartbeats and retries follow the `Clock` of the layer's build; everything else happens as
 * soon as the fibers run.
 *
 * @example
 * ```ts
 * it.effect("says hello", () =>
 *   Effect.gen(function*() {
 *     const client = yield* Client
 *     const session = yield* client.createSession({})
 *     const message = yield* client.sendMessage(session.id, FakeOpencode.prompt("hi", [{ text: "hello" }]))
 *     assert.strictEqual(message.parts[0].text, "hello")
 *   }).pipe(Effect.provide(FakeOpencode.layerTest())))
 * ```
 *
 * @since 0.1.0
 */
import type { Client } from "@opencode-turn/core/Client"
import * as CoreClient from "@opencode-turn/core/Client"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type { ModelRequest, Script, Step } from "../model/ModelScript.ts"
import { fromPrompt, prompt as promptText, scriptedSummary } from "../model/ModelScript.ts"
import * as Faults from "./Faults.ts"
import { layerHttpClient } from "./HttpClient.ts"
import * as Routes from "./Routes.ts"
import * as Events from "./state/Events.ts"
import type { Files } from "./state/Files.ts"
import { make as makeFiles } from "./state/Files.ts"
import type { FakeRequest, FakeResponse, RecordedRequest } from "./state/Http.ts"
import * as State from "./state/State.ts"
import type { Event, IdGenerator, Message, PermissionRule } from "./state/Wire.ts"
import { makeIds } from "./state/Wire.ts"
import type { AgentOptions, Agents } from "./tools/Agent.ts"
import { make as makeAgents } from "./tools/Agent.ts"
import * as Turn from "./turn/Turn.ts"
import * as Execution from "./v2/Execution.ts"
import { make as makeNames } from "./v2/Names.ts"
import * as Routes2x from "./v2/Routes.ts"
import * as State2x from "./v2/State.ts"
import type { Message as Message2x } from "./v2/Wire.ts"

/**
 * Writes a prompt that carries its script: `ModelScript.prompt`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const prompt = promptText

/**
 * The options of the fake.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * The server: `1.x` (the default) is 1.18.33, `2.x` the beta 0.0.0-next-16350, and `2.x release` that beta under the names of 2.0.21, which
   * could only be read.
   */
  readonly line?: "1.x" | "2.x" | "2.x release" | undefined
  /** Whether the server of 2.x is the managed one, which carries on by itself what a restart stopped; `false` by default. */
  readonly managed?: boolean | undefined
  /** If set, every request needs Basic authentication of the user `opencode`. */
  readonly password?: Redacted.Redacted<string> | undefined
  /** The server's working directory; `/project` by default. */
  readonly directory?: string | undefined
  /** Picks the model's answers; `ModelScript.fromPrompt` by default. */
  readonly script?: Script | undefined
  /** Picks the answer to a call that asks for a summary of the conversation; "Scripted summary" by default. */
  readonly summary?: ((request: ModelRequest) => Step) | undefined
  /** Permission rules of the server's configuration. Unlike the rules of a session, they also apply to subagents. */
  readonly permission?: ReadonlyArray<PermissionRule> | undefined
  /** Agents of the configuration in addition to the built-in ones, by name. */
  readonly agents?: Readonly<Record<string, AgentOptions>> | undefined
  /**
   * `subagent_depth` of the configuration. The default is 1: subagents cannot call subagents. An agent whose sessions may call some also
   * needs a rule about `task`.
   */
  readonly subagentDepth?: number | undefined
  /**
   * Whether the directory is a repository; it is by default. Without a repository there are no diffs, no `patch` parts and no
   * snapshots, and the worktree is `/`.
   */
  readonly git?: boolean | undefined
  /** The initial files: contents by path, relative to the directory. */
  readonly files?: Readonly<Record<string, string>> | undefined
  /**
   * The time between the idle status of a failed or aborted session and the error in its message. It is about 2 ms on the real server,
   * and zero by default here, so that nothing waits for the clock.
   */
  readonly raceDelay?: Duration.Input | undefined
  /**
   * The time after a step, or after the end of a turn, until the user message has its summary and `GET /session/{id}/diff` its files.
   * It is 20 to 400 ms on the real server, and zero by default here.
   */
  readonly summaryDelay?: Duration.Input | undefined
}

/**
 * The fake and its controls.
 *
 * @category services
 * @since 0.1.0
 */
export class FakeOpencode extends Context.Service<FakeOpencode, {
  /** Answers a request as the server does. Both transports call it. */
  readonly handle: (request: FakeRequest) => Effect.Effect<FakeResponse>

  /**
   * Sets the script of the next prompt, of any session or of one. It replaces a script in the prompt's text. Several scripts queue up; a
   * later prompt without a queued script uses the script in its text.
   */
  readonly script: (steps: ReadonlyArray<Step>, sessionId?: string) => Effect.Effect<void>
  /** The calls of the model. */
  readonly modelRequests: Effect.Effect<ReadonlyArray<ModelRequest>>
  readonly modelCalls: Effect.Effect<number>

  /** Applies the fault to the next `times` matching requests (1 by default). */
  readonly fail: (matcher: Faults.RequestMatcher, fault: Faults.Fault, times?: number) => Effect.Effect<void>
  /** Never answers the next matching request, and does not act on it. */
  readonly hang: (matcher: Faults.RequestMatcher) => Effect.Effect<void>
  /** Replaces the set of missing folders. All other folders exist; initially none is missing. */
  readonly missing: (directories: ReadonlyArray<string>) => Effect.Effect<void>
  /** Removes the faults that have not occurred. */
  readonly clearFaults: Effect.Effect<void>

  /** Sends an event to every connection, bypassing `dropEvents` and `duplicateEvents`. An event without an `id` gets one. */
  readonly emit: (event: Omit<Event, "id"> & { readonly id?: string }) => Effect.Effect<void>
  /** Ends all event connections cleanly. */
  readonly cutEvents: Effect.Effect<void>
  /** Keeps event connections open, but sends no more events or heartbeats on them. */
  readonly muteEvents: Effect.Effect<void>
  readonly unmuteEvents: Effect.Effect<void>
  /** Drops the next `times` matching events (all by default). */
  readonly dropEvents: (predicate: Events.EventPredicate, times?: number) => Effect.Effect<void>
  /** Sends the next `times` matching events (all by default) twice. */
  readonly duplicateEvents: (predicate: Events.EventPredicate, times?: number) => Effect.Effect<void>
  /** The number of open event connections. */
  readonly eventConnections: Effect.Effect<number>

  /** Kills the server: connections break, turns stay as they are, statuses and asks are lost. */
  readonly kill: Effect.Effect<void>
  /**
   * Ends the server of 2.x as `SIGTERM` does: what was streamed is stored, and the runs are interrupted. It is `kill` for 1.x, which stores
   * nothing either (1.18.33).
   */
  readonly terminate: Effect.Effect<void>
  /** Starts the server again with its stored data. */
  readonly start: Effect.Effect<void>
  /** `kill` and `start`. */
  readonly restart: Effect.Effect<void>
  /** Deletes a session without the client's knowledge. */
  readonly deleteSession: (sessionId: string) => Effect.Effect<void>

  /** Completes once something has reached the gate, even if it has ended since. */
  readonly reached: (gate: string) => Effect.Effect<void>
  /** Opens the gate for everything that waits at it or reaches it later. */
  readonly release: (gate: string) => Effect.Effect<void>

  /** Every request so far, in order of arrival. */
  readonly requests: Effect.Effect<ReadonlyArray<RecordedRequest>>
  /** The ids of the sessions, newest first. */
  readonly sessions: Effect.Effect<ReadonlyArray<string>>
  /** The stored messages of a session of 1.x, oldest first; empty for an unknown session. */
  readonly messages: (sessionId: string) => Effect.Effect<ReadonlyArray<Message>>
  /** The stored messages of a session of 2.x, oldest first; empty for an unknown session. */
  readonly messages2x: (sessionId: string) => Effect.Effect<ReadonlyArray<Message2x>>
  readonly userMessageCount: (sessionId: string) => Effect.Effect<number>
  readonly password: Redacted.Redacted<string> | undefined
}>()("@opencode-turn/testing/FakeOpencode") {}

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  options: Options = {}
): Effect.fn.Return<FakeOpencode["Service"], never, Scope.Scope> {
  const clock = yield* Clock.Clock
  const fibers = yield* FiberSet.make<unknown>()
  const fork = yield* FiberSet.runtime(fibers)()
  const now = () => clock.currentTimeMillisUnsafe()
  const ids = makeIds(now)
  const directory = options.directory ?? "/project"
  const files = makeFiles({ directory, isRepository: options.git ?? true, files: options.files ?? {} })
  const faults = Faults.makePlan()
  const gates = makeGates()
  const scripts = makeScripts()
  const requests: Array<RecordedRequest> = []
  const agents = makeAgents({ agents: options.agents ?? {}, permission: options.permission ?? [] })
  let missing: ReadonlyArray<string> = []
  let isUp = true
  /** Opens when the server dies, so that its unfinished responses break. */
  let death = Latch.makeUnsafe()
  const site: Site = {
    options,
    ids,
    now,
    files,
    directory,
    agents,
    // Core asks for a folder of this name, which no machine has, to learn what the server says of such a folder.
    isFolder: (directory) => !missing.includes(directory) && directory !== "/.opencode-turn-missing",
    script: options.script ?? fromPrompt,
    scripts,
    gate: gates.pass,
    fork: (effect) => fork(effect),
    untilDeath: Effect.suspend(() => death.await)
  }
  const face = options.line === undefined || options.line === "1.x" ? makeFace1x(site) : makeFace2x(site)
  const { events } = face
  const authorization = options.password &&
    `Basic ${btoa(`opencode:${Redacted.value(options.password)}`)}`

  const handle = (request: FakeRequest): Effect.Effect<FakeResponse> =>
    Effect.suspend(() => {
      const isAuthorized = authorization === undefined || request.headers["authorization"] === authorization
      requests.push(record(request, isAuthorized))
      if (!isUp) return Effect.succeed(reset)
      const serve = Effect.suspend(() => {
        return isAuthorized
          ? face.handle(request)
          : Faults.status(401)(Effect.never, gates.pass, request)
      })
      const fault = faults.take(request)
      return Effect.raceFirst(
        fault === undefined ? serve : fault(serve, gates.pass, request),
        Effect.as(death.await, reset)
      )
    })

  const kill = Effect.suspend(() => {
    isUp = false
    death.openUnsafe()
    events.end("reset")
    return face.crash
  })
  const terminate = Effect.suspend(() =>
    Effect.andThen(
      face.shutDown,
      Effect.sync(() => {
        isUp = false
        death.openUnsafe()
        events.end("clean")
      })
    )
  )
  const start = Effect.sync(() => {
    if (isUp) return
    death = Latch.makeUnsafe()
    isUp = true
    face.resume()
  })

  return FakeOpencode.of({
    handle,
    script: (steps, sessionId) => Effect.sync(() => scripts.add(steps, sessionId)),
    modelRequests: Effect.sync(face.modelRequests),
    modelCalls: Effect.sync(() => face.modelRequests().length),
    fail: (matcher, fault, times = 1) => Effect.sync(() => faults.add(matcher, fault, times)),
    hang: (matcher) => Effect.sync(() => faults.add(matcher, Faults.hang, 1)),
    missing: (directories) =>
      Effect.sync(() => {
        missing = directories
      }),
    clearFaults: Effect.sync(faults.clear),
    emit: ({ id, properties, type }) =>
      Effect.sync(() => events.send(face.toWire({ id: id ?? ids.ascending("evt"), type, properties }))),
    cutEvents: Effect.sync(() => events.end("clean")),
    muteEvents: Effect.sync(() => events.setMuted(true)),
    unmuteEvents: Effect.sync(() => events.setMuted(false)),
    dropEvents: (predicate, times = Infinity) => Effect.sync(() => events.spoil("drop", predicate, times)),
    duplicateEvents: (predicate, times = Infinity) => Effect.sync(() => events.spoil("duplicate", predicate, times)),
    eventConnections: Effect.sync(events.connections),
    kill,
    terminate,
    start,
    restart: Effect.andThen(kill, start),
    deleteSession: (id) => Effect.sync(() => face.deleteSession(id)),
    reached: gates.reached,
    release: gates.release,
    requests: Effect.sync(() => requests.slice()),
    sessions: Effect.sync(face.sessions),
    messages: (id) => Effect.sync(() => face.messages(id)),
    messages2x: (id) => Effect.sync(() => face.messages2x(id)),
    userMessageCount: (id) => Effect.sync(() => face.userMessageCount(id)),
    password: options.password
  })
})

/**
 * A fake OpenCode that lives as long as the layer's scope.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options = {}): Layer.Layer<FakeOpencode> => Layer.effect(FakeOpencode, make(options))

/**
 * The real client of `core` over the fake: requests, responses and the event stream are passed in memory, without a network.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerClient: Layer.Layer<Client, never, FakeOpencode> = Layer.unwrap(
  Effect.map(
    FakeOpencode,
    (fake) =>
      CoreClient.layer({ baseUrl: "http://fake", ...(fake.password !== undefined && { password: fake.password }) })
        .pipe(
          Layer.provide(layerHttpClient(fake.handle))
        )
  )
)

/**
 * The fake and its client, which is everything that a test of a turn needs.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerTest = (options: Options = {}): Layer.Layer<FakeOpencode | Client> =>
  Layer.provideMerge(layerClient, layer(options))

// internal

/** What both faces get. */
interface Site {
  readonly options: Options
  readonly ids: IdGenerator
  readonly now: () => number
  readonly files: Files
  readonly directory: string
  readonly agents: Agents
  readonly isFolder: (directory: string) => boolean
  readonly script: Script
  readonly scripts: ReturnType<typeof makeScripts>
  readonly gate: (name: string) => Effect.Effect<void>
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  readonly untilDeath: Effect.Effect<void>
}

/** A line of OpenCode behind the controls. */
interface Face {
  readonly events: Events.Events
  readonly handle: (request: FakeRequest) => Effect.Effect<FakeResponse>
  readonly toWire: (event: Event) => object
  readonly modelRequests: () => ReadonlyArray<ModelRequest>
  readonly crash: Effect.Effect<void>
  readonly shutDown: Effect.Effect<void>
  readonly resume: () => void
  readonly deleteSession: (id: string) => void
  readonly sessions: () => ReadonlyArray<string>
  readonly messages: (id: string) => ReadonlyArray<Message>
  readonly messages2x: (id: string) => ReadonlyArray<Message2x>
  readonly userMessageCount: (id: string) => number
}

const makeFace1x = (site: Site): Face => {
  const { agents, directory, files, fork, gate, ids, isFolder, now, options, script, scripts } = site
  const events = Events.make(ids)
  const state = State.make({ events, ids, now, files })
  const turn = Turn.make({
    state,
    script,
    scriptOf: scripts.of,
    summary: options.summary ?? (() => scriptedSummary),
    agents,
    subagentDepth: options.subagentDepth ?? 1,
    gate,
    fork,
    raceDelay: Duration.fromInputUnsafe(options.raceDelay ?? Duration.zero),
    summaryDelay: Duration.fromInputUnsafe(options.summaryDelay ?? Duration.zero)
  })
  const services = { state, turn, events, agents, directory, isFolder, onPrompt: scripts.bind }
  const messages = (id: string) => {
    const session = state.session(id)
    return session === undefined ? [] : state.messages(session)
  }
  const crash = Effect.andThen(turn.crash, Effect.sync(state.forget))
  return {
    events,
    handle: (request) => Routes.handle(services, request),
    toWire: (event) => event,
    modelRequests: turn.modelRequests,
    crash,
    shutDown: crash,
    resume: () => {},
    deleteSession: (id) => {
      const session = state.session(id)
      if (session !== undefined) state.deleteSession(session)
    },
    sessions: () => state.sessions().map(({ info }) => info.id),
    messages,
    messages2x: () => [],
    userMessageCount: (id) => messages(id).filter(({ info }) => info.role === "user").length
  }
}

const makeFace2x = (site: Site): Face => {
  const { agents, directory, files, fork, gate, ids, isFolder, now, options, script, scripts, untilDeath } = site
  const events = Events.make(ids, pulse2x)
  const names = makeNames(options.line === "2.x release" ? "release" : "beta")
  const state = State2x.make({ names, events, ids, now, files })
  const execution = Execution.make({
    state,
    script,
    scriptOf: scripts.of,
    agents,
    subagentDepth: options.subagentDepth ?? 1,
    gate,
    fork
  })
  const services = { state, execution, events, agents, directory, isFolder, onPrompt: scripts.bind, untilDeath }
  const messages = (id: string) => state.session(id)?.messages ?? []
  const forget = Effect.sync(state.forget)
  return {
    events,
    handle: (request) => Routes2x.handle(services, request),
    toWire: ({ id, properties, type }) => ({ id, created: now(), type, data: properties }),
    modelRequests: execution.modelRequests,
    crash: Effect.andThen(execution.crash, forget),
    shutDown: Effect.andThen(execution.shutDown, forget),
    resume: () => execution.resume(options.managed ?? false),
    deleteSession: (id) => {
      const session = state.session(id)
      if (session !== undefined) state.deleteSession(session)
    },
    sessions: () => state.sessions().map(({ info }) => info.id),
    messages: () => [],
    messages2x: messages,
    userMessageCount: (id) => messages(id).filter(({ type }) => type === "user").length
  }
}

/** OpenCode 2.x beats with a comment, at once and then every 15 s (0.0.0-next-16350). */
const pulse2x: Events.Pulse = {
  greeting: (ids) => `${Events.frame({ id: ids.ascending("evt"), type: "server.connected", data: {} })}: heartbeat\n\n`,
  heartbeat: () => ": heartbeat\n\n",
  heartbeatMillis: 15_000
}

const reset: FakeResponse = { _tag: "Reset" }

const record = ({ body, headers, method, path, query }: FakeRequest, isAuthorized: boolean): RecordedRequest => {
  const { authorization: _authorization, ...others } = headers
  return { method, path, query, headers: others, body: parse(body), isAuthorized }
}

const parse = (body: string): unknown => {
  if (body === "") return undefined
  try {
    return JSON.parse(body)
  } catch {
    return body
  }
}

const makeGates = () => {
  const gates = new Map<string, { readonly reached: Latch.Latch; readonly opened: Latch.Latch }>()
  const of = (name: string) => {
    let gate = gates.get(name)
    if (gate === undefined) {
      gate = { reached: Latch.makeUnsafe(), opened: Latch.makeUnsafe() }
      gates.set(name, gate)
    }
    return gate
  }
  return {
    pass: (name: string): Effect.Effect<void> =>
      Effect.suspend(() => Effect.andThen(of(name).reached.open, of(name).opened.await)),
    reached: (name: string): Effect.Effect<void> => Effect.suspend(() => of(name).reached.await),
    release: (name: string): Effect.Effect<void> => Effect.suspend(() => Effect.asVoid(of(name).opened.open))
  }
}

/** Scripts without a prompt yet, and scripts with a prompt, by the id of its message. */
const makeScripts = () => {
  const waiting: Array<{ readonly script: string; readonly sessionId: string | undefined }> = []
  const bound = new Map<string, string>()
  return {
    add: (steps: ReadonlyArray<Step>, sessionId?: string) => {
      waiting.push({ script: JSON.stringify([steps]), sessionId })
    },
    bind: (sessionId: string, messageId: string) => {
      const index = waiting.findIndex((entry) => entry.sessionId === undefined || entry.sessionId === sessionId)
      const [entry] = index === -1 ? [] : waiting.splice(index, 1)
      if (entry !== undefined) bound.set(messageId, entry.script)
    },
    of: (messageId: string) => bound.get(messageId)
  }
}
