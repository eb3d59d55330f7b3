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
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type { ModelRequest, Step } from "../model/ModelScript.ts"
import { fromPrompt, prompt as promptText, scriptedSummary } from "../model/ModelScript.ts"
import { make as makeAgents } from "./Agent.ts"
import type { Event, EventPredicate } from "./Events.ts"
import type { Options, Site } from "./Face.ts"
import * as Faults from "./Faults.ts"
import { make as makeFiles } from "./Files.ts"
import type { FakeRequest, FakeResponse, RecordedRequest } from "./Http.ts"
import { layerHttpClient } from "./HttpClient.ts"
import { makeIds } from "./Ids.ts"
import { make as makeModels } from "./Models.ts"
import { make as makeFace1x } from "./v1/Face.ts"
import type { Message } from "./v1/Wire.ts"
import { make as makeFace2x } from "./v2/Face.ts"
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
export type { Options } from "./Face.ts"

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
  readonly dropEvents: (predicate: EventPredicate, times?: number) => Effect.Effect<void>
  /** Sends the next `times` matching events (all by default) twice. */
  readonly duplicateEvents: (predicate: EventPredicate, times?: number) => Effect.Effect<void>
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
    models: makeModels(options.models ?? {}),
    // Core asks for a folder of this name, which no machine has, to learn what the server says of such a folder.
    isFolder: (directory) => !missing.includes(directory) && directory !== "/.opencode-turn-missing",
    script: options.script ?? fromPrompt,
    summary: options.summary ?? (() => scriptedSummary),
    subagentDepth: options.subagentDepth ?? 1,
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
