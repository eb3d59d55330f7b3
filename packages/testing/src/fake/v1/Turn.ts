/**
 * The turns of the fake OpenCode: the loop of a session, its steps, and their ends.
 *
 * **Responsibilities**: accepting a prompt, asking the script for each step, the order of events in a turn, its subagents, compaction,
 * the state after aborts and crashes.
 *
 * **Not responsibilities**: storing and announcing (`State`), one step (`Step`), the sessions that an abort stops (`Abort`), HTTP
 * (`Routes`).
 *
 * ```
 *             prompt                      no step is due
 *   (idle) ───────────▶ busy ──▶ step ──────────────────────────▶ idle
 *                         ▲        │ refused or filtered ────────▶ idle
 *                         └────────┤ failed for good ──▶ idle ──▶ message with its error ──▶ idle again
 *                  tool calls,     │ aborted ─────────▶ idle ──▶ open parts, message ─────▶ idle again
 *                  newer prompt,   └ crashed ─────────▶ (nothing: the state stays unchanged)
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
import type { ModelRequest, Script, Step as ModelStep } from "../../model/ModelScript.ts"
import type { Agents } from "../Agent.ts"
import type { Models } from "../Models.ts"
import type { PermissionRule } from "../Permission.ts"
import type { Run } from "./Abort.ts"
import { abort as abortRun } from "./Abort.ts"
import * as Call from "./Call.ts"
import * as Failures from "./Failure.ts"
import * as History from "./History.ts"
import type * as Payload from "./Payload.ts"
import * as Prompt from "./Prompt.ts"
import type { State, StoredSession } from "./State.ts"
import { modelOf, textOf } from "./State.ts"
import * as Step from "./Step.ts"
import { make as makeSubagents } from "./Subagent.ts"
import * as Subtask from "./Subtask.ts"
import type { Assistant, Failure, Message, ModelRef, Part, SubtaskPart, User } from "./Wire.ts"
import { zeroTokens } from "./Wire.ts"

/**
 * @category models
 * @since 0.1.0
 */
export interface Turn {
  /** Accepts a prompt: stores it and starts its answer. `undefined` for an unknown agent. */
  readonly prompt: (session: StoredSession, body: Payload.Prompt) => User | undefined
  /** Orders a summary of the session, and starts it. `auto` also continues the turn afterwards. */
  readonly order: (session: StoredSession, model: ModelRef, auto: boolean) => void
  readonly isBusy: (session: StoredSession) => boolean
  /** Waits until the session is idle; `rejected` if its answer could not begin. */
  readonly settled: (session: StoredSession) => Effect.Effect<"answered" | "rejected">
  /** Stops the session and its subagents. It is done when the session reports that it is idle. */
  readonly abort: (session: StoredSession) => Effect.Effect<void>
  /** Stops everything at once, and leaves the state unchanged. */
  readonly crash: Effect.Effect<void>
  /** The calls of the model so far. */
  readonly modelRequests: () => ReadonlyArray<ModelRequest>
  /** Allows a permission in every session of the directory from now on, after a person chose `always`. A crash forgets it. */
  readonly allowAlways: (directory: string, permission: string, patterns: ReadonlyArray<string>) => void
  /** The permissions that were allowed this way in a directory. */
  readonly approved: (directory: string) => ReadonlyArray<PermissionRule>
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly state: State
  readonly script: Script
  /** The script of a user message that is not in its text. */
  readonly scriptOf: (messageId: string) => string | undefined
  /** Picks the answer to a call that asks for a summary. */
  readonly summary: (request: ModelRequest) => ModelStep
  readonly agents: Agents
  readonly models: Models
  /** The maximum nesting of subagents; 1 means that subagents cannot call subagents. */
  readonly subagentDepth: number
  readonly gate: (name: string) => Effect.Effect<void>
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  /** The time between the idle status and the storing of a failed or aborted message: about 2 ms on the real server. */
  readonly raceDelay: Duration.Duration
  /** The time after a step, and after the end, until the user message lists the changed files: 20 to 400 ms on the real server. */
  readonly summaryDelay: Duration.Duration
}

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options): Turn => {
  const { agents, fork, models, script, state } = options
  const runs = new Map<StoredSession, Run>()
  const modelRequests: Array<ModelRequest> = []
  const approvals = new Map<string, ReadonlyArray<PermissionRule>>()
  const approved: Turn["approved"] = (directory) => approvals.get(directory) ?? []

  const race = Duration.isZero(options.raceDelay) ? Effect.void : Effect.sleep(options.raceDelay)

  const ask = (session: StoredSession, model: ModelRef, tools: ReadonlyArray<string>) => {
    const earlier = modelRequests.slice()
    const request: ModelRequest = {
      model: model.modelID,
      messages: Step.history(state.messages(session), options.scriptOf),
      tools,
      isTitle: false,
      isSummary: false,
      sessionId: session.info.id,
      body: undefined
    }
    modelRequests.push(request)
    return script(request, earlier)
  }

  const services: Call.Services = {
    state,
    gate: options.gate,
    ruleset: ({ directory, info }) => ({
      rules: [...agents.find(info.agent ?? defaultAgent)?.permission ?? [], ...info.permission ?? []],
      approved: approved(directory)
    }),
    ...makeSubagents({
      state,
      agents,
      depth: options.subagentDepth,
      defaultModel: Step.defaultModel,
      runs,
      prompt: (session, body) => prompt(session, body),
      abort: (session) => Effect.andThen(abort(session), settled(session))
    })
  }

  const newAssistant = (session: StoredSession, user: User, fields: Partial<Assistant> = {}): Assistant => ({
    id: state.ids.ascending("msg"),
    parentID: user.id,
    role: "assistant",
    mode: user.agent,
    agent: user.agent,
    ...(user.model.variant !== undefined && { variant: user.model.variant }),
    path: { cwd: session.directory, root: state.files.worktree(session.directory) },
    cost: 0,
    tokens: zeroTokens,
    modelID: user.model.modelID,
    providerID: user.model.providerID,
    time: { created: state.now() },
    sessionID: session.info.id,
    ...fields
  })

  /** The work that the server does some time after each step. */
  const summarize = (session: StoredSession, userId: string) => {
    state.sum(session)
    if (Duration.isZero(options.summaryDelay)) state.summarize(session, userId)
    else fork(Effect.delay(Effect.sync(() => state.summarize(session, userId)), options.summaryDelay))
  }

  /** Runs steps until none is due. Afterwards the session is idle unless a failure still has to be stored. */
  const loop = Effect.fnUntraced(function*(session: StoredSession, run: Run) {
    while (true) {
      state.setStatus(session, { type: "busy" })
      const user = newestUser(session)
      if (user === undefined || isAnswered(session, user)) break
      if (models.find(user.model.providerID, user.model.modelID) === undefined) {
        const unknown = Failures.unknownModel(user.model)
        return reject(session, run, unknown, `ProviderModelNotFoundError: ${unknown.data.message}`)
      }
      if (History.isCompactionDue(state.messages(session))) {
        if (yield* compact(session, run, user)) continue
        return
      }
      const messages = state.messages(session)
      const subtask = Subtask.due(messages)
      if (subtask !== undefined) {
        if (yield* runSubtask(session, run, user, subtask)) continue
        return
      }
      const info = newAssistant(session, user)
      const step = Step.make(services, session, info, user)
      run.step = step
      state.putAssistant(session, info)
      summarize(session, user.id)
      if (run.isAbortDue) return yield* aborted(session, run)
      const unsupported = Prompt.unsupported(messages.flatMap(({ parts }) => parts))
      if (unsupported !== undefined) state.setStatus(session, { type: "busy" })
      const end: Step.StepEnd = unsupported === undefined
        ? yield* step.run((tools) => ask(session, user.model, tools))
        : { _tag: "Failed", error: unsupported }
      run.step = undefined
      if (end._tag === "Failed") {
        yield* failed(session, step, end.error)
        summarize(session, user.id)
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
    if (user !== undefined) summarize(session, user.id)
  })

  /** The session reports that it is idle before the message holds its error, and again afterwards (1.18.33). */
  const failed = Effect.fnUntraced(function*(
    session: StoredSession,
    step: Step.Step,
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
    run.isAborted = true
    // A step that waits for its next try ends without an error, as if it were an answer (1.18.33).
    const step = run.step?.isWaiting() === true ? undefined : run.step
    if (step === undefined) run.step?.close({})
    // The server usually sends no `session.error` in this case (1.18.33).
    if (step !== undefined && !run.isAbortDue) state.fail(session, Failures.aborted)
    state.setStatus(session, { type: "idle" })
    run.stopped.openUnsafe()
    if (step === undefined) return
    yield* race
    step.abort()
    state.setStatus(session, { type: "idle" })
  })

  /** Gives a subtask to its agent; `false` for an unknown agent, which ends the turn. */
  const runSubtask = Effect.fnUntraced(function*(
    session: StoredSession,
    run: Run,
    user: User,
    part: SubtaskPart
  ): Effect.fn.Return<boolean> {
    const info = newAssistant(session, user, {
      mode: part.agent,
      agent: part.agent,
      ...(part.model ?? user.model)
    })
    state.putAssistant(session, info)
    const { call, finish } = Subtask.start(services, session, info, part)
    if (agents.find(part.agent) === undefined) {
      reject(session, run, Failures.unknownAgent(part.agent, agents.available), "UnknownError: UnknownError")
      return false
    }
    run.isSubtask = true
    run.step = {
      calls: () => Call.isEnded(call) ? [] : [call],
      abort: () => {},
      close: () => {},
      isWaiting: () => false
    }
    yield* finish
    run.isSubtask = false
    run.step = undefined
    if (part.command !== undefined) {
      const next = postUser(session, withoutFormat(user))
      state.putPart(session, {
        id: state.ids.ascending("prt"),
        messageID: next.id,
        sessionID: session.info.id,
        type: "text",
        text: Subtask.continuation,
        synthetic: true
      })
    }
    return true
  })

  /** Ends a turn that cannot continue. Nothing handles the failure, so the server reports it once more. */
  const reject = (session: StoredSession, run: Run, failure: Failure, report: string) => {
    run.isRejected = true
    state.fail(session, failure)
    state.setStatus(session, { type: "idle" })
    state.fail(session, Failures.unhandled(report))
  }

  const overflow = (session: StoredSession, user: User, step: Step.Step, message: string) => {
    state.fail(session, Failures.contextOverflow(message))
    step.close({})
    const order = postUser(session, withoutFormat(user))
    const ids = { id: state.ids.ascending("prt"), messageID: order.id, sessionID: session.info.id }
    state.putPart(session, { ...ids, type: "compaction", auto: true, overflow: true })
  }

  /** Compacts the session and continues; `false` if that ends the turn: a prompt with a format cannot be reposted (1.18.33). */
  const compact = Effect.fnUntraced(function*(session: StoredSession, run: Run, user: User) {
    const info = newAssistant(session, user, { mode: "compaction", agent: "compaction", summary: true })
    const step = Step.make(services, session, info)
    run.step = step
    state.putAssistant(session, info)
    const end = yield* step.run(() => options.summary(summaryRequest(session, user)))
    run.step = undefined
    if (end._tag === "Failed") {
      yield* failed(session, step, end.error)
      return false
    }
    if (isManual(session)) {
      state.compacted(session)
      return true
    }
    const overflowed = replayed(state.messages(session), user.id)
    if (overflowed?.info.format !== undefined) {
      state.setStatus(session, { type: "idle" })
      state.fail(session, Failures.unknownError(`SchemaError: ${Failures.unreadableFormat(overflowed.info.format)}`))
      return false
    }
    if (overflowed === undefined) goOn(session, user)
    else replay(session, overflowed)
    state.compacted(session)
    return true
  })

  /** Continues after a summary with a message that says so. */
  const goOn = (session: StoredSession, user: User) => {
    const order = postUser(session, withoutFormat(user))
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
  }

  /** Continues after a summary with the prompt that was too large, as if it were posted again. */
  const replay = (session: StoredSession, { info, parts }: UserMessage) => {
    const order = postUser(session, info)
    for (const part of parts) {
      state.putPart(session, { ...part, id: state.ids.ascending("prt"), messageID: order.id })
    }
  }

  const postUser = (
    session: StoredSession,
    { agent, format, model, tools }: Pick<User, "agent" | "format" | "model" | "tools">,
    id?: string
  ): User => {
    const info: User = {
      id: id ?? state.ids.ascending("msg"),
      role: "user",
      sessionID: session.info.id,
      time: { created: state.now() },
      agent,
      model,
      ...(format !== undefined && { format }),
      ...(tools !== undefined && { tools })
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
      last.finish !== "tool-calls" && last.finish !== "unknown" && !hasToolCall(session, last.id)
  }

  const begin = (session: StoredSession): void => {
    const run: Run = {
      session,
      stopped: Latch.makeUnsafe(),
      ended: Deferred.makeUnsafe(),
      cancelled: Latch.makeUnsafe(),
      step: undefined,
      fiber: undefined,
      isEnding: false,
      isSubtask: false,
      isAborted: false,
      isCancelled: false,
      isAbortDue: false,
      isCrashed: false,
      isRejected: false,
      isWanted: false
    }
    runs.set(session, run)
    run.fiber = fork(
      // The response to the prompt leaves before the turn begins.
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

  const prompt: Turn["prompt"] = (session, body) => {
    const agent = body.agent ?? defaultAgent
    const known = agents.find(agent)
    if (known === undefined) {
      const unknown = Failures.unknownAgent(agent, agents.available)
      state.fail(session, unknown)
      state.fail(session, Failures.unhandled("UnknownError: UnknownError"))
      return undefined
    }
    History.cleanUp(state, session)
    const messageID = body.messageID ?? state.ids.ascending("msg")
    const owner = { messageID, sessionID: session.info.id }
    const resolved = Prompt.resolve(state, owner, body.parts)
    if ("name" in resolved) {
      state.fail(session, resolved)
      return undefined
    }
    // A wrong one of an earlier prompt counts as well (1.18.33).
    const { modelID, providerID } = body.model ?? known.model ?? modelOf(session) ?? newestUser(session)?.model ??
      Step.defaultModel
    const model = { providerID, modelID, ...(body.variant !== undefined && { variant: body.variant }) }
    const chosen = { id: modelID, providerID, variant: body.variant ?? "default" }
    const before = session.info.model
    const isSame = before?.id === modelID && before.providerID === providerID && before.variant === chosen.variant
    if (session.info.agent !== agent || !isSame) state.updateSession(session, { agent, model: chosen })
    for (const failure of resolved.failures) state.fail(session, failure)
    const user = postUser(session, {
      agent,
      model,
      ...(body.format && { format: body.format }),
      ...(body.tools && { tools: body.tools })
    }, messageID)
    for (const part of resolved.parts) state.putPart(session, part)
    const rules = Object.entries(body.tools ?? {}).map(([permission, isOffered]): PermissionRule => ({
      permission,
      pattern: "*",
      action: isOffered ? "allow" : "deny"
    }))
    // They take the place of the session's own rules (1.18.33).
    state.updateSession(session, rules.length === 0 ? {} : { permission: rules })
    if (body.noReply !== true) start(session)
    return user
  }

  const order: Turn["order"] = (session, model, auto) => {
    History.cleanUp(state, session)
    const info = postUser(session, { agent: newestUser(session)?.agent ?? defaultAgent, model })
    const ids = { id: state.ids.ascending("prt"), messageID: info.id, sessionID: session.info.id }
    state.putPart(session, { ...ids, type: "compaction", auto })
    start(session)
  }

  const start = (session: StoredSession) => {
    const run = runs.get(session)
    if (run === undefined) begin(session)
    else if (run.isEnding) run.isWanted = true
  }

  /** Whether a person gave the order that is being followed. */
  const isManual = (session: StoredSession): boolean => {
    const parts = state.messages(session).flatMap(({ parts }) => parts)
    const last = parts.findLast((part) => part.type === "compaction")
    return last?.type === "compaction" && !last.auto
  }

  /** The call for a summary, with the conversation as the text of its last message. */
  const summaryRequest = (session: StoredSession, { model }: User): ModelRequest => ({
    model: model.modelID,
    messages: [{ role: "user", text: state.messages(session).map(textOf).join("\n\n"), toolCalls: [] }],
    tools: [],
    isTitle: true,
    isSummary: true,
    sessionId: session.info.id,
    body: undefined
  })

  const settled: Turn["settled"] = (session) =>
    Effect.suspend(() => {
      const run = runs.get(session)
      return run === undefined ? Effect.succeed("answered") : Deferred.await(run.ended)
    })

  const abort: Turn["abort"] = (session) => abortRun(state, runs, session)

  return {
    prompt,
    order,
    isBusy: (session) => runs.has(session),
    settled,
    abort,
    crash: Effect.suspend(() => {
      approvals.clear()
      for (const run of runs.values()) run.isCrashed = true
      return Fiber.interruptAll([...runs.values()].flatMap(({ fiber }) => fiber ?? []))
    }),
    modelRequests: () => modelRequests.slice(),
    allowAlways: (directory, permission, patterns) => {
      const allowed = patterns.map((pattern) => ({ permission, pattern, action: "allow" as const }))
      approvals.set(directory, [...approved(directory), ...allowed])
    },
    approved
  }
}

// internal

const defaultAgent = "build"

/** A compaction loses the format: the rest is answered in plain text (1.18.33). */
const withoutFormat = ({ agent, model }: User) => ({ agent, model })

/** A message with a tool call does not end the turn, whatever its finish reason. */
const hasToolCall = (session: StoredSession, id: string): boolean =>
  [...session.messages.get(id)?.parts.values() ?? []].some(({ type }) => type === "tool")

const isOrder = (parts: ReadonlyArray<Part>): boolean => parts.some((part) => part.type === "compaction")

interface UserMessage {
  readonly info: User
  readonly parts: ReadonlyArray<Part>
}

/** The prompt before an order to compact. It is reposted only if the session has other messages since the previous order (1.18.33). */
const replayed = (messages: ReadonlyArray<Message>, orderId: string): UserMessage | undefined => {
  const order = messages.findIndex(({ info }) => info.id === orderId)
  const since = messages.slice(0, order).findLastIndex(({ parts }) => isOrder(parts))
  const prompts = messages.slice(since + 1, order).flatMap(({ info, parts }) =>
    info.role === "user" ? [{ info, parts }] : []
  )
  return prompts.length > 1 ? prompts.at(-1) : undefined
}
