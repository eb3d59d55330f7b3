/**
 * How the fake OpenCode answers prompts: the loop of a session, its steps, and what ends them.
 *
 * Responsibilities: accepting a prompt, asking the script for each step, the order of everything that happens in a turn, retries,
 * compaction, aborts and crashes.
 *
 * Not responsibilities: storing and announcing (`FakeState`), tools (`FakeToolRun`), HTTP (`FakeRoutes`).
 *
 * ```
 *             prompt                      no step is due
 *   (idle) ───────────▶ busy ──▶ step ──────────────────────────▶ idle
 *                         ▲        │ refused or filtered ────────▶ idle
 *                         └────────┤ failed for good ──▶ idle ──▶ message with its error ──▶ idle again
 *                  tool calls,     │ aborted ─────────▶ idle ──▶ open parts, message ─────▶ idle again
 *                  newer prompt,   └ crashed ─────────▶ (nothing: all stays as it is)
 *                  compaction
 * ```
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Failures from "./FakeFailure.ts"
import type * as FakePayload from "./FakePayload.ts"
import type { FakeState, StoredSession } from "./FakeState.ts"
import { modelOf } from "./FakeState.ts"
import * as FakeStep from "./FakeStep.ts"
import type * as FakeToolRun from "./FakeToolRun.ts"
import type { Assistant, Failure, Message, ModelRef, PermissionRule, User } from "./FakeWire.ts"
import { zeroTokens } from "./FakeWire.ts"
import type { ModelRequest, Script } from "./ModelScript.ts"

/**
 * @category models
 * @since 0.1.0
 */
export interface FakeTurn {
  /** Accepts a prompt: stores it and sees that it is answered. `undefined` for an unknown agent. */
  readonly prompt: (session: StoredSession, body: FakePayload.Prompt) => User | undefined
  /** Waits until the session is at rest; `rejected` if it could not even begin to answer. */
  readonly settled: (session: StoredSession) => Effect.Effect<"answered" | "rejected">
  /** Stops the session and its subagents; done when the session says that it is idle. */
  readonly abort: (session: StoredSession) => Effect.Effect<void>
  /** Stops everything at once and leaves it as it is. */
  readonly crash: Effect.Effect<void>
  /** The calls of the model so far. */
  readonly modelRequests: () => ReadonlyArray<ModelRequest>
  /** Allows from now on, in every session, what a person allowed for always. */
  readonly allowAlways: (permission: string, patterns: ReadonlyArray<string>) => void
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly state: FakeState
  readonly script: Script
  /** A script that belongs to a user message without being in its text. */
  readonly scriptOf: (messageId: string) => string | undefined
  /** Permission rules of the configuration, for every session. */
  readonly permission: ReadonlyArray<PermissionRule>
  readonly gate: (name: string) => Effect.Effect<void>
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  /** How long the session is idle before a message that failed or was aborted is stored: some 2 ms on the real server. */
  readonly raceDelay: Duration.Duration
}

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options): FakeTurn => {
  const { fork, script, state } = options
  const runs = new Map<StoredSession, Run>()
  const modelRequests: Array<ModelRequest> = []
  let approved: ReadonlyArray<PermissionRule> = []

  const race = Duration.isZero(options.raceDelay) ? Effect.void : Effect.sleep(options.raceDelay)

  const ask = (session: StoredSession, model: ModelRef, tools: ReadonlyArray<string>) => {
    const earlier = modelRequests.slice()
    const request: ModelRequest = {
      model: model.modelID,
      messages: FakeStep.history(state.messages(session), options.scriptOf),
      tools,
      isTitle: false,
      sessionId: session.info.id,
      body: undefined
    }
    modelRequests.push(request)
    return script(request, earlier)
  }

  const services: FakeToolRun.Services = {
    state,
    gate: options.gate,
    rules: (session) => [...options.permission, ...session.info.permission ?? [], ...approved],
    openSubagent: (parent, title, agent) =>
      state.createSession({
        directory: parent.info.directory,
        parentID: parent.info.id,
        title: `${title} (@${agent} subagent)`,
        agent,
        permission: [{ permission: "task", pattern: "*", action: "deny" }]
      }),
    runSubagent: (child, text, agent, parent) =>
      Effect.gen(function*() {
        prompt(child, { parts: [{ type: "text", text }], agent, model: modelOf(parent) ?? FakeStep.defaultModel })
        yield* settled(child)
        const last = state.messages(child).at(-1)
        return { text: last === undefined ? "" : lastText(last), error: last && FakeStep.refusalOf(last) }
      }).pipe(Effect.onInterrupt(() =>
        runs.get(child)?.isCrashed === true ? Effect.void : Effect.andThen(abort(child), settled(child))
      ))
  }

  const newAssistant = (session: StoredSession, user: User, fields: Partial<Assistant> = {}): Assistant => ({
    id: state.ids.ascending("msg"),
    parentID: user.id,
    role: "assistant",
    mode: user.agent,
    agent: user.agent,
    path: { cwd: session.info.directory, root: "/" },
    cost: 0,
    tokens: zeroTokens,
    modelID: user.model.modelID,
    providerID: user.model.providerID,
    time: { created: state.now() },
    sessionID: session.info.id,
    ...fields
  })

  /** Makes steps until none is due. The session is idle afterwards unless the failure is still to be stored. */
  const loop = Effect.fnUntraced(function*(session: StoredSession, run: Run) {
    while (true) {
      state.setStatus(session, { type: "busy" })
      const user = newestUser(session)
      if (user === undefined || isAnswered(session, user)) break
      if (!FakeStep.isKnownModel(user.model)) {
        run.isRejected = true
        const unknown = Failures.unknownModel(user.model)
        state.fail(session, unknown)
        state.setStatus(session, { type: "idle" })
        state.fail(session, Failures.withStack("ProviderModelNotFoundError", unknown))
        return
      }
      if (isCompaction(session, user)) {
        yield* compact(session, run, user)
        continue
      }
      const info = newAssistant(session, user)
      const step = FakeStep.make(services, session, info)
      run.step = step
      state.putAssistant(session, info)
      state.summarize(session, user.id)
      const end = yield* step.run((tools) => ask(session, user.model, tools))
      run.step = undefined
      if (end._tag === "Failed") {
        yield* failed(session, step, end.error)
        state.summarize(session, user.id)
        return
      }
      if (end._tag === "Overflowed") {
        overflow(session, user, step, end.message)
        continue
      }
      if (end._tag === "Stopped") break
    }
    state.setStatus(session, { type: "idle" })
    const user = newestUser(session)
    if (user !== undefined) state.summarize(session, user.id)
  })

  /** The session is idle before the message holds its error, and says so again afterwards (1.18.33). */
  const failed = Effect.fnUntraced(function*(
    session: StoredSession,
    step: FakeStep.FakeStep,
    error: Failure
  ) {
    state.fail(session, error)
    state.setStatus(session, { type: "idle" })
    yield* race
    step.close({ error })
    state.setStatus(session, { type: "idle" })
  })

  const aborted = Effect.fnUntraced(function*(session: StoredSession, run: Run) {
    run.isEnding = true
    if (run.step !== undefined) state.fail(session, Failures.aborted)
    state.setStatus(session, { type: "idle" })
    run.stopped.openUnsafe()
    if (run.step === undefined) return
    yield* race
    run.step.abort()
    state.setStatus(session, { type: "idle" })
  })

  const overflow = (session: StoredSession, user: User, step: FakeStep.FakeStep, message: string) => {
    state.fail(session, Failures.contextOverflow(message))
    step.close({})
    const order = postUser(session, user)
    const ids = { id: state.ids.ascending("prt"), messageID: order.id, sessionID: session.info.id }
    state.putPart(session, { ...ids, type: "compaction", auto: true, overflow: true })
  }

  const compact = Effect.fnUntraced(function*(session: StoredSession, run: Run, user: User) {
    const info = newAssistant(session, user, { mode: "compaction", agent: "compaction", summary: true })
    const step = FakeStep.make(services, session, info)
    run.step = step
    state.putAssistant(session, info)
    yield* step.run(() => ({ text: "Scripted title" }))
    run.step = undefined
    const order = postUser(session, user)
    state.putPart(session, {
      id: state.ids.ascending("prt"),
      messageID: order.id,
      sessionID: session.info.id,
      type: "text",
      text: "Go on with the next step, if there is one.",
      synthetic: true,
      metadata: { compaction_continue: true },
      time: { start: state.now(), end: state.now() }
    })
    state.compacted(session)
  })

  const postUser = (session: StoredSession, { agent, model }: Pick<User, "agent" | "model">, id?: string): User => {
    const info: User = {
      id: id ?? state.ids.ascending("msg"),
      role: "user",
      sessionID: session.info.id,
      time: { created: state.now() },
      agent,
      model
    }
    state.postUser(session, info)
    return info
  }

  const newestUser = (session: StoredSession): User | undefined => {
    const info = state.lastPosted(session, "user")
    return info?.role === "user" ? info : undefined
  }

  const isAnswered = (session: StoredSession, user: User): boolean => {
    const last = state.lastPosted(session, "assistant")
    return last?.role === "assistant" && last.parentID === user.id && last.finish !== undefined &&
      last.finish !== "tool-calls"
  }

  const begin = (session: StoredSession): void => {
    const run: Run = {
      stopped: Latch.makeUnsafe(),
      ended: Deferred.makeUnsafe(),
      step: undefined,
      fiber: undefined,
      isEnding: false,
      isCrashed: false,
      isRejected: false,
      isWanted: false
    }
    runs.set(session, run)
    run.fiber = fork(
      // The answer to the prompt leaves before the turn begins.
      Effect.andThen(Effect.yieldNow, loop(session, run)).pipe(
        Effect.onInterrupt(() => (run.isCrashed ? Effect.void : aborted(session, run))),
        Effect.ensuring(
          Effect.sync(() => {
            runs.delete(session)
            run.stopped.openUnsafe()
            Deferred.doneUnsafe(run.ended, Effect.succeed(run.isRejected ? "rejected" : "answered"))
            if (run.isWanted) begin(session)
          })
        )
      )
    )
  }

  const prompt: FakeTurn["prompt"] = (session, body) => {
    const agent = body.agent ?? session.info.agent ?? "build"
    if (!Failures.agents.includes(agent) && agent !== session.info.agent) {
      const unknown = Failures.unknownAgent(agent)
      state.fail(session, unknown)
      state.fail(session, Failures.withStack("UnknownError", Failures.unknownError("UnknownError")))
      return undefined
    }
    const model = body.model ?? modelOf(session) ?? FakeStep.defaultModel
    if (session.info.agent !== agent || session.info.model?.id !== model.modelID) {
      state.updateSession(session, {
        agent,
        model: { id: model.modelID, providerID: model.providerID, variant: "default" }
      })
    }
    const user = postUser(session, { agent, model }, body.messageID)
    for (const { id, ...part } of body.parts) {
      state.putPart(session, {
        id: id ?? state.ids.ascending("prt"),
        ...part,
        messageID: user.id,
        sessionID: session.info.id
      })
    }
    state.updateSession(session, {})
    if (body.noReply !== true) {
      const run = runs.get(session)
      if (run === undefined) begin(session)
      else if (run.isEnding) run.isWanted = true
    }
    return user
  }

  const settled: FakeTurn["settled"] = (session) =>
    Effect.suspend(() => {
      const run = runs.get(session)
      return run === undefined ? Effect.succeed("answered") : Deferred.await(run.ended)
    })

  const abort: FakeTurn["abort"] = (session) =>
    Effect.suspend(() => {
      const run = runs.get(session)
      if (run === undefined) return Effect.void
      run.fiber?.interruptUnsafe()
      return run.stopped.await
    })

  return {
    prompt,
    settled,
    abort,
    crash: Effect.suspend(() => {
      for (const run of runs.values()) run.isCrashed = true
      return Fiber.interruptAll([...runs.values()].flatMap(({ fiber }) => fiber ?? []))
    }),
    modelRequests: () => modelRequests.slice(),
    allowAlways: (permission, patterns) => {
      approved = [...approved, ...patterns.map((pattern) => ({ permission, pattern, action: "allow" as const }))]
    }
  }
}

// internal

interface Run {
  /** Opens when the session said that it is idle after an abort. */
  readonly stopped: Latch.Latch
  readonly ended: Deferred.Deferred<"answered" | "rejected">
  step: FakeStep.FakeStep | undefined
  fiber: Fiber.Fiber<void> | undefined
  /** A prompt that arrives now is answered by a run of its own. */
  isEnding: boolean
  isCrashed: boolean
  isRejected: boolean
  isWanted: boolean
}

const isCompaction = (session: StoredSession, user: User): boolean =>
  [...session.messages.get(user.id)?.parts.values() ?? []].some((part) => part.type === "compaction")

const lastText = ({ parts }: Message): string => {
  const last = parts.findLast((part) => part.type === "text")
  return last?.type === "text" ? last.text : ""
}
