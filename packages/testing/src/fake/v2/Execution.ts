/**
 * The runs of the fake OpenCode 2.x. A session that gets an input is woken: one run makes inputs messages and takes steps until nothing is
 * due.
 *
 * **Responsibilities**: when inputs become messages, which step is due, subagents, interrupts, and what a crash or a shutdown leaves
 * behind.
 *
 * **Not responsibilities**: one step (`Step`).
 *
 * ```
 *           wake                 nothing is due
 * (idle) ─────────▶ execution.started ─────────▶ execution.succeeded
 *                       │   ▲    │ a model failed, an agent is unknown ──▶ execution.failed
 *                steps  │   │    │ interrupt, a refusal without a message ──▶ execution.interrupted
 *                       ▼   │    │ crash ──▶ nothing
 *             inputs become messages
 * ```
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { ModelMessage, ModelRequest, Script, Step as ModelStep } from "../../model/ModelScript.ts"
import { modelId, providerId } from "../../model/ScriptedProvider.ts"
import type { Agent, Agents } from "../Agent.ts"
import type { Models } from "../Models.ts"
import * as Compaction from "./Compaction.ts"
import * as Failures from "./Failure.ts"
import * as Instructions from "./Instructions.ts"
import * as Rules from "./Rules.ts"
import type { State, StoredSession } from "./State.ts"
import * as Step from "./Step.ts"
import * as Tool from "./Tool.ts"
import type { Services, SubagentEnd } from "./ToolRun.ts"
import * as ToolRun from "./ToolRun.ts"
import type { Failure, Input, Message, ModelRef, Outcome, PermissionRule } from "./Wire.ts"

/**
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly state: State
  readonly script: Script
  /** Picks the answer to a call that asks for a summary. */
  readonly summary: (request: ModelRequest) => ModelStep
  /** The script data of a message that is not in its text. */
  readonly scriptOf: (messageId: string) => string | undefined
  readonly agents: Agents
  readonly models: Models
  readonly subagentDepth: number
  /** How many words of the model one event tells of. */
  readonly deltaWords: number
  /** How long nothing may be stored in a folder in which the release runs something. */
  readonly inactivityMillis: number
  readonly gate: (name: string) => Effect.Effect<void>
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Execution {
  /** Begins a run if the session has none. A run with nothing to do is a pair of events. */
  readonly wake: (session: StoredSession) => void
  /** Whether the session runs. */
  readonly isRunning: (session: StoredSession) => boolean
  /** Waits until the session is idle. */
  readonly settled: (session: StoredSession) => Effect.Effect<void>
  /** Stops the run, and tells whether there was one. Inputs that wait go on waiting; with `isResumed` those that steer are taken at once. */
  readonly interrupt: (session: StoredSession, isResumed?: boolean) => Effect.Effect<boolean>
  /** Ends all runs as a crash does: nothing is stored. */
  readonly crash: Effect.Effect<void>
  /** Ends all runs as a shutdown does: what was streamed is stored. */
  readonly shutDown: Effect.Effect<void>
  /** Lives again after a crash or a shutdown. */
  readonly revive: () => void
  /** Carries on what was stopped and what nobody else has carried on since, as a managed server does after its start. */
  readonly resume: () => void
  readonly modelRequests: () => ReadonlyArray<ModelRequest>
  /** Remembers what a person allowed for good. */
  readonly allowAlways: Services["allowAlways"]
}

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options): Execution => {
  const { agents, fork, models, state } = options
  const runs = new Map<StoredSession, Run>()
  const modelRequests: Array<ModelRequest> = []
  const allowed = new Map<string, ReadonlyArray<PermissionRule>>()
  let isCrashed = false
  let isShuttingDown = false

  const rules: Services["rules"] = (session) => [
    ...(agents.find(agentOf(session))?.permission ?? []).map(Rules.fromRule1x),
    ...(isSubagent(session) && !mayOpen(agents.find(agentOf(session)))
      ? [{ action: "subagent", resource: "*", effect: "deny" } as const]
      : []),
    ...session.info.permissions ?? [],
    ...allowed.get(session.directory) ?? []
  ]

  const missingOf = (model: ModelRef): Failure | undefined => {
    const known = models.find(model.providerID, model.id)
    if (known === undefined) return Failures.unknownModel(model)
    if (known.isBroken) return Failures.brokenModel(model)
    const { variant = "default" } = model
    return variant === "default" || known.variants.includes(variant) ? undefined : Failures.unknownVariant(model)
  }

  /** The number of sessions above this one. */
  function depthOf({ info }: StoredSession): number {
    const parent = info.parentID === undefined ? undefined : state.session(info.parentID)
    return parent === undefined ? 0 : depthOf(parent) + 1
  }

  const allowAlways: Services["allowAlways"] = (session, rules) => {
    allowed.set(session.directory, [...allowed.get(session.directory) ?? [], ...rules])
  }

  const services: Services = {
    state,
    gate: options.gate,
    rules,
    allowAlways,
    isCrashed: () => isCrashed,
    openSubagent: (parent, { agent, description }) => {
      const { subagentDepth: limit } = options
      const found = agents.find(agent)
      if (depthOf(parent) >= limit) {
        return `Subagent depth limit reached (${limit}). ` +
          "Increase \"experimental.subagent_depth\" to allow nested subagents."
      }
      if (found === undefined) return `Unknown agent: ${agent}`
      if (found.mode === "primary") return `Agent ${agent} cannot run as a subagent`
      return state.createSession({
        directory: parent.directory,
        parentID: parent.info.id,
        title: description,
        agent,
        model: parent.info.model
      })
    },
    promptSubagent: (child, { prompt }) => {
      const text = `You are a subagent spawned by another session.\n${prompt}`
      state.admit(child, { id: state.ids.ascending("msg"), type: "user", data: { text }, delivery: "steer" })
      wake(child)
    },
    awaitSubagent: (child) =>
      Effect.map(ended(child), (run) => endOf(child, run)).pipe(
        Effect.onInterrupt(() => isCrashed || isShuttingDown ? Effect.void : interrupt(child))
      ),
    followSubagent: (parent, child, { agent, description }) => {
      fork(Effect.map(ended(child), (run) => {
        if (isCrashed || isShuttingDown) return
        const end = endOf(child, run)
        const stateOf = { Answered: "completed", Cancelled: "cancelled", Failed: "error" }[end._tag]
        const said = end._tag === "Answered"
          ? end.text
          : end._tag === "Failed"
          ? end.error.message
          : "Subagent cancelled"
        state.admit(parent, {
          id: state.ids.ascending("msg"),
          type: "synthetic",
          data: {
            text:
              `<subagent id="${child.info.id}" state="${stateOf}" description="${description}">\n${said}\n</subagent>`,
            description,
            metadata: { source: "subagent", childID: child.info.id, agent: Rules.titleOf(agent), state: stateOf }
          },
          delivery: "steer"
        })
        wake(parent)
      }))
    }
  }

  const summarising: Compaction.Services = {
    state,
    gate: options.gate,
    isCrashed: () => isCrashed,
    modelOf,
    hasModel: (session) => missingOf(modelOf(session)) === undefined,
    ask: (session, prompt) => {
      const request: ModelRequest = {
        model: modelOf(session).id,
        messages: [{ role: "user", text: prompt, toolCalls: [] }],
        tools: [],
        isTitle: true,
        isSummary: true,
        sessionId: session.info.id,
        body: undefined
      }
      modelRequests.push(request)
      return options.summary(request)
    }
  }

  /** Makes the inputs messages whose turn it is: all that steer, else the first of the queue. */
  const promote = (session: StoredSession, mayTakeQueued: boolean): boolean => {
    const steering = nextOf(session, "steer")
    const next = steering.length > 0 || !mayTakeQueued ? steering : nextOf(session, "queue").slice(0, 1)
    for (const input of next) state.promote(session, input)
    return next.length > 0
  }

  const ask = (session: StoredSession, offered: ReadonlyArray<string>) => {
    const earlier = modelRequests.slice()
    const request: ModelRequest = {
      model: modelOf(session).id,
      messages: history(session, options.scriptOf),
      tools: offered,
      isTitle: false,
      isSummary: false,
      sessionId: session.info.id,
      body: undefined
    }
    modelRequests.push(request)
    return options.script(request, earlier)
  }

  const offeredTo = (session: StoredSession): ReadonlyArray<string> =>
    Tool.names.filter((tool) => {
      const action = tool === "write" ? "edit" : tool
      const last = rules(session).findLast((rule) => rule.action === "*" || rule.action === action)
      return last?.effect !== "deny" || last.resource !== "*"
    })

  /** Takes steps until nothing is due. */
  const loop = Effect.fnUntraced(function*(session: StoredSession, run: Run) {
    state.record(session, "session.execution.started", {}, unlocated)
    session.claim = "running"
    ToolRun.failLost(services, session)
    const broken = yield* Compaction.carryOut(summarising, session)
    if (broken !== undefined) return finish(session, run, "failed", { error: broken })
    const agent = agentOf(session)
    if (session.pending.length > 0 && agents.find(agent) === undefined) {
      return finish(session, run, "failed", { error: Failures.unknownAgent(agent) })
    }
    if (session.pending.length > 0) Instructions.tell(state, session)
    let isDue = promote(session, run.takesQueued) || run.isResumed
    let mayShorten = true
    while (isDue) {
      const model = modelOf(session)
      const missing = missingOf(model)
      if (missing !== undefined) return finish(session, run, "failed", { error: missing })
      if (Compaction.isFull(session)) {
        const error = yield* Compaction.shorten(summarising, session)
        if (error !== undefined) return finish(session, run, "failed", { error })
      }
      const offered = offeredTo(session)
      const step = Step.make(services, session, {
        agent,
        model,
        offered,
        deltaWords: options.deltaWords,
        ask: () => ask(session, offered),
        shorten: mayShorten ? Compaction.shorten(summarising, session) : undefined
      })
      run.step = step
      const end = yield* step.run
      run.step = undefined
      if (end._tag === "Failed") return finish(session, run, "failed", { error: end.error })
      mayShorten = end._tag !== "Shortened"
      if (end._tag === "Shortened") continue
      if (end._tag === "Refused") return finish(session, run, "interrupted", { reason: "shutdown" })
      const failure = yield* Compaction.carryOut(summarising, session)
      if (failure !== undefined) return finish(session, run, "failed", { error: failure })
      if (end._tag === "Calls" || session.pending.length > 0) Instructions.tell(state, session)
      isDue = promote(session, run.takesQueued && end._tag === "Finished") || end._tag === "Calls"
    }
    finish(session, run, "succeeded", {})
  })

  const finish = (
    session: StoredSession,
    run: Run,
    outcome: Outcome,
    data: { readonly error?: Failure; readonly reason?: string }
  ) => {
    run.outcome = outcome
    run.failure = data.error
    // An interruption that has no stated cause keeps the claim of a release (read, not measured).
    session.claim = data.reason === "shutdown" && state.names.edition === "release" ? "shutdown" : "none"
    if (state.names.edition === "release" && data.reason !== "shutdown") {
      state.addMessage(session, {
        id: state.ids.ascending("msg"),
        type: "idle",
        outcome,
        ...(data.error !== undefined && { error: data.error }),
        time: { created: state.now() }
      })
      state.updateSession(session, { outcome, time: { ...session.info.time, idle: state.now() } })
    }
    state.record(session, `session.execution.${outcome}`, { ...data }, unlocated)
  }

  /** Ends once nothing was stored in the folder of a run of the release for too long. */
  const untilInactive = (session: StoredSession, run: Run): Effect.Effect<void> => {
    if (state.names.edition === "beta") return Effect.never
    const left = Effect.sync(() => state.storedMillis(session.directory) + options.inactivityMillis - state.now())
    return Effect.repeat(Effect.flatMap(left, (millis) => Effect.as(Effect.sleep(millis), undefined)), {
      while: () => Effect.map(left, (millis) => millis > 0)
    }).pipe(Effect.tap(() =>
      Effect.sync(() => {
        run.reason = "inactivity"
      })
    ))
  }

  const begin = (session: StoredSession, isResumed: boolean, takesQueued = true): Run => {
    const run: Run = {
      ended: Deferred.makeUnsafe(),
      isResumed,
      takesQueued,
      fiber: undefined,
      step: undefined,
      reason: "user",
      outcome: undefined,
      failure: undefined
    }
    runs.set(session, run)
    run.fiber = fork(
      // The answer to the prompt leaves before the run begins.
      Effect.andThen(Effect.yieldNow, loop(session, run)).pipe(
        Effect.onInterrupt(() =>
          Effect.sync(() => {
            if (isCrashed) return
            run.step?.stop()
            finish(session, run, "interrupted", { reason: run.reason })
            if (run.reason === "shutdown") session.claim = "shutdown"
          })
        ),
        Effect.raceFirst(untilInactive(session, run)),
        Effect.ensuring(Effect.sync(() => {
          runs.delete(session)
          Deferred.doneUnsafe(run.ended, Effect.succeed(run))
          if (!isCrashed && run.outcome === "succeeded" && takesQueued && session.pending.length > 0) {
            begin(session, false)
          }
        }))
      )
    )
    return run
  }

  const wake = (session: StoredSession) => {
    if (!isCrashed && !session.isDeleted && !runs.has(session)) begin(session, false)
  }

  /** Waits for the run of a session that was woken. */
  const ended = (session: StoredSession): Effect.Effect<Run> =>
    Effect.suspend(() => {
      const run = runs.get(session)
      return run === undefined ? Effect.die("the session does not run") : Deferred.await(run.ended)
    })

  const settled = (session: StoredSession): Effect.Effect<void> =>
    Effect.suspend(() => {
      const run = runs.get(session)
      return run === undefined ? Effect.void : Effect.andThen(Deferred.await(run.ended), settled(session))
    })

  const stop = (run: Run, reason: Run["reason"]) =>
    Effect.suspend(() => {
      run.reason = reason
      run.fiber?.interruptUnsafe()
      return Deferred.await(run.ended)
    })

  const interrupt = (session: StoredSession, isResumed = false): Effect.Effect<boolean> =>
    Effect.suspend(() => {
      const run = runs.get(session)
      return run === undefined ? Effect.succeed(false) : Effect.as(stop(run, "user"), true)
    }).pipe(
      Effect.tap(() =>
        Effect.sync(() => {
          if (isResumed && !runs.has(session) && nextOf(session, "steer").length > 0) begin(session, false, false)
        })
      )
    )

  return {
    wake,
    isRunning: (session) => runs.has(session),
    settled,
    interrupt,
    crash: Effect.suspend(() => {
      isCrashed = true
      for (const session of runs.keys()) session.claim = "crashed"
      return Fiber.interruptAll([...runs.values()].flatMap(({ fiber }) => fiber ?? []))
    }),
    shutDown: Effect.suspend(() => {
      isShuttingDown = true
      return Effect.forEach([...runs.values()], (run) => stop(run, "shutdown"), {
        concurrency: "unbounded",
        discard: true
      })
    }).pipe(Effect.andThen(Effect.sync(() => {
      isCrashed = true
    }))),
    revive: () => {
      isCrashed = false
      isShuttingDown = false
    },
    resume: () => {
      const isRelease = state.names.edition === "release"
      for (const session of state.sessions()) {
        const isWanted = session.claim === "shutdown" || (session.claim === "crashed" && isRelease)
        if (runs.has(session) || !isWanted) continue
        if (isRelease) {
          // The release has given up the claims of subagents.
          if (isSubagent(session)) continue
          const text = "The server restarted while you were working. Continue from where you left off."
          const id = state.ids.ascending("msg")
          state.addMessage(session, { id, type: "synthetic", text, time: { created: state.now() } })
          state.record(session, "session.synthetic", { messageID: id, text })
        }
        begin(session, true)
      }
    },
    modelRequests: () => modelRequests.slice(),
    allowAlways
  }
}

// internal

interface Run {
  readonly ended: Deferred.Deferred<Run>
  /** Whether the run carries on another one, and takes a step although no input came. */
  readonly isResumed: boolean
  /** Whether the run also takes what waits for the end of an answer. */
  readonly takesQueued: boolean
  fiber: Fiber.Fiber<void> | undefined
  step: Step.Step | undefined
  /** Why the run is interrupted. */
  reason: "inactivity" | "shutdown" | "user"
  outcome: Outcome | undefined
  failure: Failure | undefined
}

const agentOf = ({ info }: StoredSession) => info.agent ?? "build"

const modelOf = ({ info }: StoredSession): ModelRef => info.model ?? { id: modelId, providerID: providerId }

/** Whether an agent's sessions may open subagents although they are subagents: it has a rule about that. */
const mayOpen = (agent: Agent | undefined) => agent?.permission.some(({ permission }) => permission === "task") ?? false

const isSubagent = ({ info }: StoredSession) => info.parentID !== undefined

const nextOf = (session: StoredSession, delivery: Input["delivery"]) =>
  session.pending.filter((input) => input.delivery === delivery)

const endOf = (child: StoredSession, run: Run): SubagentEnd => {
  if (run.outcome === "interrupted") return { _tag: "Cancelled" }
  if (run.failure !== undefined) return { _tag: "Failed", error: run.failure }
  const last = child.messages.findLast((message) => message.type === "assistant")
  const text = last?.content.findLast((content) => content.type === "text")
  return { _tag: "Answered", text: text?.type === "text" ? text.text : "" }
}

const unlocated = { isLocated: false }

/** The messages of a session as the model receives them. */
const history = (
  session: StoredSession,
  scriptOf: (messageId: string) => string | undefined
): ReadonlyArray<ModelMessage> => {
  const { checkpoint, from } = Compaction.visible(session.messages)
  return [
    ...Instructions.beginning(session),
    ...(checkpoint === undefined ? [] : [{ role: "user", text: checkpoint, toolCalls: [] }]),
    ...session.messages.slice(from).flatMap((message, index) => [
      ...Instructions.before(session, from + index),
      ...messagesOf(message, scriptOf)
    ])
  ]
}

const messagesOf = (
  message: Message,
  scriptOf: (messageId: string) => string | undefined
): ReadonlyArray<ModelMessage> => {
  if (message.type === "user" || message.type === "synthetic") {
    const script = scriptOf(message.id)
    return [{ role: "user", text: script === undefined ? message.text : `${script} ${message.text}`, toolCalls: [] }]
  }
  if (message.type !== "assistant") return []
  const text = message.content.flatMap((content) => (content.type === "text" ? [content.text] : [])).join("\n")
  const tools = message.content.flatMap((content) => (content.type === "tool" ? [content] : []))
  if (text === "" && tools.length === 0) return []
  return [
    { role: "assistant", text, toolCalls: tools.map(({ name }) => name) },
    ...tools.map(({ state }) => ({
      role: "tool",
      text: state.status === "completed"
        ? state.content.map((content) => String(content["text"])).join("\n")
        : state.status === "error"
        ? state.error.message
        : "",
      toolCalls: []
    }))
  ]
}
