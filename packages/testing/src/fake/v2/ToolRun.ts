/**
 * The tool calls of the fake OpenCode 2.x, from the first piece of their input to their end, with their asks and subagents.
 *
 * **Responsibilities**: the order of a call's events, and its state in the message.
 *
 * **Not responsibilities**: the outcome of a call (`Tool`), the session of a subagent (`Execution`).
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type { Properties } from "../Events.ts"
import * as Failures from "./Failure.ts"
import * as Rules from "./Rules.ts"
import type { AskResult, State, StoredSession } from "./State.ts"
import * as Tool from "./Tool.ts"
import type { Content, Failure, PermissionRule, ToolContent, ToolState } from "./Wire.ts"

/**
 * What a call needs from the rest of the server.
 *
 * @category models
 * @since 0.1.0
 */
export interface Services {
  readonly state: State
  readonly gate: (name: string) => Effect.Effect<void>
  /** The rules of a session, weakest first. */
  readonly rules: (session: StoredSession) => ReadonlyArray<PermissionRule>
  /** Remembers what a person allowed for good. */
  readonly allowAlways: (session: StoredSession, rules: ReadonlyArray<PermissionRule>) => void
  /** Whether the server is dying: then nothing is stored any more. */
  readonly isCrashed: () => boolean
  /** Opens a subagent; a text says why there is none. */
  readonly openSubagent: (parent: StoredSession, task: Tool.Task) => StoredSession | string
  readonly promptSubagent: (child: StoredSession, task: Tool.Task) => void
  /** Waits for the end of a subagent. An interruption stops the subagent. */
  readonly awaitSubagent: (child: StoredSession) => Effect.Effect<SubagentEnd>
  /** Tells the parent of a subagent in the background about its end. */
  readonly followSubagent: (parent: StoredSession, child: StoredSession, task: Tool.Task) => void
}

/**
 * @category models
 * @since 0.1.0
 */
export type SubagentEnd =
  | { readonly _tag: "Answered"; readonly text: string }
  | { readonly _tag: "Failed"; readonly error: Failure }
  | { readonly _tag: "Cancelled" }

/**
 * A call whose input was streamed. `called` announces it, `run` does the rest; a refusal stops the run of the session.
 *
 * @category models
 * @since 0.1.0
 */
export interface ToolRun {
  readonly called: () => void
  readonly run: Effect.Effect<CallEnd>
}

/**
 * How a call ended. A refused call fails when the others of its step have ended.
 *
 * @category models
 * @since 0.1.0
 */
export type CallEnd = "ended" | { readonly refused: () => void }

/**
 * Runs calls side by side, and tells whether one was refused. The others go on to their ends (0.0.0-next-16350).
 *
 * @category combinators
 * @since 0.1.0
 */
export const all = (runs: ReadonlyArray<ToolRun>): Effect.Effect<"ended" | "refused"> =>
  Effect.map(Effect.all(runs.map(({ run }) => run), { concurrency: "unbounded" }), (ends) => {
    const refusals = ends.flatMap((end) => (end === "ended" ? [] : [end]))
    for (const { refused } of refusals) refused()
    return refusals.length > 0 ? "refused" : "ended"
  })

/**
 * Streams the input of a call.
 *
 * @category constructors
 * @since 0.1.0
 */
export const announce = (
  services: Services,
  session: StoredSession,
  messageID: string,
  name: string,
  plan: Tool.Plan
): ToolRun => {
  const { state } = services
  const callID = `call_${state.ids.ascending("prt").slice("prt_".length)}`
  const call: Call = { services, session, messageID, callID, name, plan }
  const text = JSON.stringify(plan.input)
  const created = state.now()
  state.changeAssistant(session, messageID, (message) => ({
    ...message,
    content: [...message.content, {
      type: "tool",
      id: callID,
      name,
      executed: false,
      state: { status: "streaming", input: "" },
      time: { created }
    }]
  }))
  record(call, "session.tool.input.started", { name })
  state.tell(session, "session.tool.input.delta", { sessionID: session.info.id, ...idsOf(call), delta: text })
  return {
    called: () => {
      record(call, "session.tool.input.ended", { text })
      put(call, { status: "running", input: plan.input, metadata: {} }, { ran: state.now() })
      record(call, "session.tool.called", { input: plan.input, executed: false })
    },
    run: execute(call).pipe(
      Effect.onInterrupt(() => Effect.sync(() => stop(call)))
    )
  }
}

/**
 * Marks the calls that a crash left running.
 *
 * @category combinators
 * @since 0.1.0
 */
export const failLost = (services: Services, session: StoredSession): void => {
  for (const message of session.messages) {
    if (message.type !== "assistant" || message.time.completed !== undefined) continue
    for (const content of message.content) {
      if (content.type !== "tool" || (content.state.status !== "running" && content.state.status !== "streaming")) {
        continue
      }
      const input = content.state.status === "running" ? content.state.input : {}
      const plan: Tool.Plan = {
        ...Tool.plan({ tool: "" }, { directory: "", files: services.state.files, offered: [] }),
        input
      }
      const { id: callID, name } = content
      fail({ services, session, messageID: message.id, callID, name, plan }, Failures.toolLost(name))
    }
  }
}

// internal

interface Call {
  readonly services: Services
  readonly session: StoredSession
  readonly messageID: string
  readonly callID: string
  readonly name: string
  readonly plan: Tool.Plan
}

const idsOf = ({ callID, messageID, services }: Call): Properties => ({
  assistantMessageID: messageID,
  ...services.state.names.callId(callID)
})

const record = (call: Call, type: string, data: Properties, version = 1) =>
  call.services.state.record(call.session, type, { ...idsOf(call), ...data }, { version })

const put = (
  { callID, messageID, services: { state }, session }: Call,
  next: ToolState,
  time: Partial<ToolContent["time"]> = {}
) =>
  state.changeAssistant(session, messageID, (message) => ({
    ...message,
    content: message.content.map((content) =>
      isCall(content, callID)
        ? { ...content, state: next, time: { ...content.time, ...time } }
        : content
    )
  }))

const succeed = (call: Call, texts: ReadonlyArray<string>, metadata?: Properties) => {
  const content = texts.map((text) => ({ type: "text", text }))
  const fields = { content, ...(metadata !== undefined && { metadata }) }
  put(call, { status: "completed", input: call.plan.input, ...fields }, { completed: call.services.state.now() })
  record(call, "session.tool.success", { ...fields, executed: false }, 2)
}

const fail = (call: Call, error: Failure, metadata?: Properties) => {
  const fields = { error, ...(metadata !== undefined && { metadata }) }
  put(call, { status: "error", input: call.plan.input, ...fields }, { completed: call.services.state.now() })
  record(call, "session.tool.failed", { ...fields, executed: false }, 2)
}

/** Ends a call that was stopped, unless it has ended. It keeps what it had told of itself. */
const stop = (call: Call) => {
  const { callID, messageID, services, session } = call
  const message = session.messages.find(({ id }) => id === messageID)
  const content = message?.type === "assistant" ? message.content.find((content) => isCall(content, callID)) : undefined
  if (content?.type !== "tool" || services.isCrashed()) return
  if (content.state.status === "streaming") fail(call, Failures.toolInterrupted)
  if (content.state.status !== "running") return
  const { metadata = {} } = content.state
  fail(call, Failures.toolInterrupted, Object.keys(metadata).length === 0 ? undefined : metadata)
}

const isCall = (content: Content, callID: string): content is ToolContent =>
  content.type === "tool" && content.id === callID

const execute = Effect.fnUntraced(function*(call: Call): Effect.fn.Return<CallEnd> {
  const { plan, services, session } = call
  const { action } = plan
  const { state } = services
  const permitted = yield* permit(call)
  if (permitted !== "allowed") return permitted
  for (const change of plan.files) state.files.tell(session.directory, change)
  if (action._tag === "Question") return yield* question(call, action.questions)
  if (action._tag === "Subagent") return yield* subagent(call, action)
  const shellID = state.ids.ascending("sh")
  if (plan.isProcess) {
    state.tell(session, "shell.created", { info: { id: shellID, status: "running", command: plan.input["command"] } })
    progress(call, { shellID })
  }
  for (const millis of plan.delaysMillis) yield* Effect.sleep(millis)
  if (plan.gate !== undefined) yield* services.gate(plan.gate)
  if (plan.hangs) return yield* Effect.never
  if (plan.isProcess) state.tell(session, "shell.exited", { id: shellID, exit: 0, status: "exited" })
  switch (action._tag) {
    case "Result": {
      succeed(call, action.content, action.metadata)
      break
    }
    case "Error": {
      fail(call, Failures.execution(action.error))
      break
    }
    case "Edit": {
      const edited = Tool.edited(state.files, session.directory, action)
      if (typeof edited === "string") {
        fail(call, Failures.execution(edited))
        break
      }
      for (const { after, isMoved, path } of edited.changes) state.files.write(path, after, { isMoved })
      succeed(call, [edited.text], edited.metadata)
    }
  }
  return "ended"
})

const progress = (call: Call, metadata: Properties) => {
  put(call, { status: "running", input: call.plan.input, metadata })
  call.services.state.tell(call.session, "session.tool.progress", {
    sessionID: call.session.info.id,
    ...idsOf(call),
    metadata
  })
}

/** Waits for a person. Whoever stops waiting takes the ask away. */
const answerOf = (call: Call, kind: "form" | "permission", fields: Properties): Effect.Effect<AskResult> => {
  const { isCrashed, state } = call.services
  return Effect.suspend(() => {
    const ask = state.ask(kind, call.session, fields)
    return Deferred.await(ask.result).pipe(
      Effect.onInterrupt(() => Effect.sync(() => isCrashed() ? undefined : state.drop(ask)))
    )
  })
}

const permit = Effect.fnUntraced(function*(call: Call): Effect.fn.Return<"allowed" | CallEnd> {
  const { callID, messageID, plan: { permission }, services, session } = call
  if (permission === undefined) return "allowed"
  const decision = permission.isForced ? "ask" : Rules.decide(services.rules(session), permission)
  if (decision === "allow") return "allowed"
  if (decision === "deny") {
    fail(call, Failures.denied(permission.action))
    return "ended"
  }
  const { action, metadata, resources, save } = permission
  const result = yield* answerOf(call, "permission", {
    action,
    resources,
    save,
    ...(metadata !== undefined && { metadata }),
    source: { type: "tool", messageID, ...services.state.names.callId(callID) }
  })
  if (result._tag !== "Rejected") return "allowed"
  if (result.message === undefined) return { refused: () => fail(call, Failures.declined) }
  fail(call, Failures.execution(cannotOf(call)))
  return "ended"
})

/** What the model is told of a call that a person refused. The person's message is not in it (0.0.0-next-16350). */
const cannotOf = ({ name, plan: { input } }: Call): string =>
  name === "shell"
    ? `Unable to execute command: ${String(input["command"])}`
    : name === "webfetch"
    ? `Unable to fetch ${String(input["url"])}`
    : `Unable to ${name} ${String(input["path"])}`

const question = Effect.fnUntraced(function*(
  call: Call,
  questions: ReadonlyArray<Tool.Question>
): Effect.fn.Return<CallEnd> {
  const { callID, messageID, services } = call
  const result = yield* answerOf(call, "form", {
    title: "Questions",
    metadata: { kind: "question", tool: { messageID, ...services.state.names.callId(callID) } },
    fields: questions.map(({ header, multiple, options, question }, index) => ({
      key: `q${index}`,
      title: header,
      description: question,
      type: multiple === true ? "multiselect" : "string",
      options: options.map(({ description, label }) => ({ value: label, label, description })),
      custom: true
    }))
  })
  if (result._tag === "Rejected" && result.message !== undefined) {
    fail(call, Failures.execution(result.message))
    return "ended"
  }
  if (result._tag !== "Answered") return { refused: () => fail(call, Failures.dismissed) }
  const answers = questions.map((_, index): ReadonlyArray<unknown> => {
    const given = result.answer[`q${index}`]
    return given === undefined ? [] : Array.isArray(given) ? given : [given]
  })
  const lines = questions.map(({ question }, index) => {
    const given = answers[index] ?? []
    return `"${question}"="${given.length === 0 ? "Unanswered" : given.join(", ")}"`
  })
  succeed(
    call,
    [`User has answered your questions: ${lines.join(", ")}. You can now continue with the user's answers in mind.`],
    { answers }
  )
  return "ended"
})

const subagent = Effect.fnUntraced(function*(call: Call, task: Tool.Task): Effect.fn.Return<CallEnd> {
  const { services, session } = call
  const child = services.openSubagent(session, task)
  if (typeof child === "string") {
    fail(call, Failures.execution(child))
    return "ended"
  }
  const sessionID = child.info.id
  const running = { metadata: { sessionID, status: "running" } }
  progress(call, running)
  services.promptSubagent(child, task)
  if (task.background === true) {
    services.followSubagent(session, child, task)
    const notice = `The subagent is working in the background (id: ${sessionID}). ` +
      "You will be notified automatically when it finishes. DO NOT sleep, poll, or proactively check on its progress."
    succeed(call, [notice], { sessionID, status: "running" })
    return "ended"
  }
  const end = yield* services.awaitSubagent(child)
  switch (end._tag) {
    case "Answered": {
      const text = end.text === "" ? "Subagent completed without a text response." : end.text
      succeed(call, [text], { sessionID, status: "completed" })
      break
    }
    case "Cancelled": {
      fail(call, Failures.execution("Subagent cancelled"), running)
      break
    }
    case "Failed":
      fail(call, Failures.subagentFailed(end.error), running)
  }
  return "ended"
})
