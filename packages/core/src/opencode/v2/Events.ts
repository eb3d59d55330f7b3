/**
 * Translates the events of OpenCode 2.x to domain events. Those that carry a sequence can be replayed from a session's log; deltas and asks
 * cannot.
 *
 * One event may give several: the end of a run is the end of its last step, a failure, and an idle session. An interruption is told when
 * its reason is known, because a server that shuts down says the same of the step as a person who stopped it, and goes on later.
 *
 * @since 0.1.0
 */
import * as Brand from "effect/Brand"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type { MessageId, SessionId } from "../../domain/Ids.ts"
import { maxIdLength } from "../../domain/Ids.ts"
import type { ToolPart } from "../../domain/Part.ts"
import type { ServerEvent } from "../../domain/TurnEvent.ts"
import type { UpstreamFailure } from "../../domain/UpstreamFailure.ts"
import * as EventFrames from "../EventFrames.ts"
import { each, Json, maybe } from "../Lenient.ts"
import { CallId, MessageId as WireMessageId, Name, SessionId as WireSessionId, WireTokens } from "../WireValues.ts"
import type * as Runs from "./Runs.ts"
import * as Wire from "./Wire.ts"

/**
 * Decodes the bytes of one connection. What was known of the order of messages is forgotten, because events may have been missed before.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeDecoder = (runs: Runs.Runs, place: () => Wire.Place): EventFrames.Decoder => {
  runs.clear()
  const decoder = EventFrames.makeDecoder((data) => decodeEvent(data, runs, place()))
  return {
    ...decoder,
    // The heartbeat is a comment, and comes alone.
    push: (bytes) => {
      const events = decoder.push(bytes)
      return events.length === 0 && bytes[0] === colon ? [{ _tag: "Heartbeat" }] : events
    }
  }
}

/**
 * Decodes the JSON of one event; `undefined` for an event that the domain ignores, `Unread` for one that is to be read from the server.
 *
 * @category translations
 * @since 0.1.0
 */
export const decodeEvent = (
  json: string,
  runs: Runs.Runs,
  place: Wire.Place
): ServerEvent | ReadonlyArray<ServerEvent> | undefined => {
  const event = parse(json)
  if (!Predicate.isObject(event)) return unread(undefined)
  const { created, data, id, type } = event
  if (typeof type !== "string") return unread(data)
  if (type === "server.connected") return { _tag: "Connected" }
  const sort = deltas.get(type)
  const eventId = typeof id === "string" && id.startsWith("evt_") ? id : undefined
  if (sort !== undefined) return deltaOf(sort, data, eventId)
  const decode = decoders.get(type)
  const atMillis = typeof created === "number" ? created : 0
  return decode?.(data, { eventId, atMillis, runs, place })
}

// internal

const colon = 58

interface Around {
  readonly eventId: string | undefined
  readonly atMillis: number
  readonly runs: Runs.Runs
  readonly place: Wire.Place
}

const parse = (data: string): unknown => {
  try {
    return JSON.parse(data)
  } catch {
    return undefined
  }
}

const isId = (value: unknown): value is string => typeof value === "string" && value.length <= maxIdLength

const toSessionId = Brand.nominal<SessionId>()
const toMessageId = Brand.nominal<MessageId>()

const deltas = new Map<string, "text" | "reasoning">([
  ["session.text.delta", "text"],
  ["session.reasoning.delta", "reasoning"]
])

/** Deltas are nearly all of the traffic. The end of a block repeats its text, so an unreadable one is dropped. */
const deltaOf = (kind: "text" | "reasoning", data: unknown, eventId: string | undefined): ServerEvent | undefined => {
  if (!Predicate.isObject(data)) return undefined
  const { assistantMessageID, delta, ordinal, sessionID } = data
  if (typeof delta !== "string" || typeof ordinal !== "number" || !isId(assistantMessageID) || !isId(sessionID)) {
    return undefined
  }
  const messageId = toMessageId(assistantMessageID)
  const partId = Wire.partId(messageId, kind, ordinal)
  return { _tag: "PartDelta", eventId, sessionId: toSessionId(sessionID), messageId, partId, field: kind, delta }
}

type Told = ServerEvent | ReadonlyArray<ServerEvent> | undefined
type Decode = (data: unknown, around: Around) => Told

const decodeOwner = Schema.decodeUnknownOption(Schema.Struct({ sessionID: WireSessionId }))

/** The server must be asked about this event; without a session it may concern anybody's. */
const unread = (data: unknown): ServerEvent => ({
  _tag: "Unread",
  sessionId: Option.getOrUndefined(decodeOwner(data))?.sessionID
})

const on = <S extends Schema.Top & { readonly DecodingServices: never }>(
  schema: S,
  translate: (data: S["Type"], around: Around) => Told
): Decode => {
  const decode = Schema.decodeUnknownOption(schema)
  return (data, around) =>
    Option.match(decode(data), { onNone: () => unread(data), onSome: (decoded) => translate(decoded, around) })
}

const bySession = { sessionID: WireSessionId }
const inMessage = { ...bySession, assistantMessageID: WireMessageId }
/** The beta names a call `callID`, the release `id`. */
const inCall = { ...inMessage, callID: maybe(CallId), id: maybe(CallId) }
const callIdOf = ({ callID, id }: { readonly callID?: string; readonly id?: string }): string => callID ?? id ?? ""

const opened = on(
  Schema.Struct({
    sessionID: maybe(WireSessionId),
    parentID: maybe(WireSessionId),
    title: maybe(Schema.String),
    agent: maybe(Name),
    info: maybe(Wire.WireKnownSession)
  }),
  ({ agent, info, parentID, sessionID, title }, { eventId }) => {
    const id = sessionID ?? info?.id
    return id === undefined ? unread(undefined) : {
      _tag: "SessionOpened",
      eventId,
      sessionId: id,
      parentId: info?.parentID ?? parentID,
      title: info?.title ?? title ?? "",
      agent: info?.agent ?? agent
    }
  }
)

const WireInput = Schema.Struct({
  type: maybe(Schema.String),
  data: maybe(Schema.Struct({ metadata: maybe(Json) })),
  payload: maybe(Schema.Struct({ metadata: maybe(Json) }))
})

const enqueued = on(
  Schema.Struct({
    ...bySession,
    inputID: maybe(WireMessageId),
    inboxID: maybe(WireMessageId),
    input: maybe(WireInput),
    item: maybe(WireInput)
  }),
  ({ inboxID, input, inputID, item, sessionID }, { runs }) => {
    const id = inputID ?? inboxID
    const wire = input ?? item
    if (id !== undefined) {
      runs.of(sessionID).kinds.set(id, {
        type: wire?.type ?? "user",
        metadata: (wire?.data ?? wire?.payload)?.metadata
      })
    }
    return undefined
  }
)

const delivered = on(
  Schema.Struct({ ...bySession, inputID: maybe(WireMessageId), inboxID: maybe(WireMessageId) }),
  (data, { atMillis, eventId, runs }) => {
    const { sessionID } = data
    const id = data.inputID ?? data.inboxID
    const run = runs.of(sessionID)
    const input = id === undefined ? undefined : run.kinds.get(id)
    if (id === undefined || input === undefined) {
      // It was posted before the connection was opened, so that nobody knows who made it.
      run.input = undefined
      return unread(data)
    }
    run.kinds.delete(id)
    if (input.type !== "user" && input.type !== "synthetic") return undefined
    const isContinuation = input.type === "synthetic" && Wire.isContinuation(input.metadata, run.hasEnded)
    run.input = id
    run.worksFor = id
    run.hasEnded = false
    run.calledMillis = atMillis
    const base = { eventId, sessionId: sessionID }
    return [
      ...(isContinuation ? [{ _tag: "TurnContinued" as const, ...base, messageId: id }] : []),
      {
        _tag: "MessageUpdated",
        ...base,
        info: Wire.toInput({ id, sessionId: sessionID, createdMillis: atMillis, isContinuation })
      }
    ]
  }
)

/** Somebody takes back an input that waits. */
const cancelled = on(
  Schema.Struct({ ...bySession, inboxID: WireMessageId }),
  ({ inboxID, sessionID }, { eventId, runs }) => {
    runs.of(sessionID).kinds.delete(inboxID)
    return { _tag: "SessionFailed", eventId, sessionId: sessionID, promptId: inboxID, failure: Wire.aborted }
  }
)

const busy = (sessionId: SessionId, eventId: string | undefined): ServerEvent => ({
  _tag: "StatusChanged",
  eventId,
  sessionId,
  status: { type: "busy" }
})
const idle = (sessionId: SessionId, eventId: string | undefined): ServerEvent => ({
  _tag: "StatusChanged",
  eventId,
  sessionId,
  status: { type: "idle" }
})

/**
 * A run failed without a step to tell it. If it has not begun on this connection, nobody knows whose it is. A prompt that waits behind it has
 * not failed, so the server's record is read.
 */
const failedRun = ({ eventId, runs }: Around, sessionId: SessionId, failure: UpstreamFailure): ServerEvent => {
  const { hasBegun, worksFor: promptId } = runs.of(sessionId)
  return hasBegun || promptId !== undefined
    ? { _tag: "SessionFailed", eventId, sessionId, promptId, failure }
    : { _tag: "Unread", sessionId }
}

/**
 * The end of a run that leaves what waits behind it, so that whoever waits must know that the session worked until now, also if he saw nothing
 * of the run.
 */
const endOfRun = (sessionId: SessionId, eventId: string | undefined): ReadonlyArray<ServerEvent> => [
  busy(sessionId, eventId),
  idle(sessionId, eventId)
]

/** The step of a run, if it is the one that the event names. */
const stepOf = (runs: Runs.Runs, sessionId: SessionId, id: MessageId): Runs.Step | undefined => {
  const { step } = runs.of(sessionId)
  return step?.id === id ? step : undefined
}

const updated = (
  { eventId, place }: Around,
  sessionId: SessionId,
  step: Runs.Step,
  ending: Parameters<typeof Wire.assistant>[1] = {}
): ServerEvent => {
  const { agent, calledMillis, createdMillis, id, model, parentId } = step
  return {
    _tag: "MessageUpdated",
    eventId,
    sessionId,
    info: Wire.assistant(
      { id, sessionId, parentId, createdMillis, ...(calledMillis !== undefined && { calledMillis }) },
      { agent, model, ...ending },
      place
    )
  }
}

const stepStarted = on(
  Schema.Struct({ ...inMessage, agent: maybe(Name), model: maybe(Wire.WireModel) }),
  (data, around) => {
    const { agent, assistantMessageID: id, model, sessionID } = data
    const run = around.runs.of(sessionID)
    // The model is called again, for the same message.
    if (run.step?.id === id) return busy(sessionID, around.eventId)
    if (run.input === undefined) return unread(data)
    run.hasEnded = false
    run.model = model ?? run.model
    run.step = {
      id,
      parentId: run.input,
      createdMillis: around.atMillis,
      ...Wire.calledAt(run.calledMillis, around.atMillis),
      agent,
      model,
      calls: new Map(),
      hasCalls: false,
      isRefused: false,
      failed: undefined
    }
    return updated(around, sessionID, run.step)
  }
)

const stepUse = { cost: maybe(Schema.Finite), tokens: maybe(WireTokens) }

const partsOf = (
  { eventId }: Around,
  sessionId: SessionId,
  messageId: MessageId,
  end: Parameters<typeof Wire.stepEnd>[1]
): ReadonlyArray<ServerEvent> =>
  Wire.stepEnd(messageId, end).map((part) => ({ _tag: "PartUpdated", eventId, sessionId, part }))

const stepEnded = on(
  Schema.Struct({ ...inMessage, ...stepUse, finish: maybe(Schema.String), files: maybe(each(Schema.String)) }),
  (data, around) => {
    const { assistantMessageID: id, finish: told, sessionID, ...use } = data
    const run = around.runs.of(sessionID)
    const step = stepOf(around.runs, sessionID, id)
    const end = { ...use, finish: Wire.toFinish(told, step?.hasCalls ?? true) }
    const parts = partsOf(around, sessionID, id, end)
    if (step === undefined) return [...parts, unread(data)]
    run.step = undefined
    run.hasEnded = end.finish !== undefined && end.finish !== "tool-calls" && end.finish !== "unknown"
    run.calledMillis = run.hasEnded ? undefined : around.atMillis
    return [...parts, updated(around, sessionID, step, { ...end, completedMillis: around.atMillis })]
  }
)

const stepFailed = on(
  Schema.Struct({ ...inMessage, ...stepUse, error: Schema.optionalKey(Schema.Unknown) }),
  (data, around) => {
    const { assistantMessageID: id, error, sessionID, ...use } = data
    const step = stepOf(around.runs, sessionID, id)
    const parts = partsOf(around, sessionID, id, { ...use, finish: Wire.finishOf(error) ?? "error" })
    if (step === undefined) return [...parts, unread(data)]
    if (Wire.isAborted(error)) {
      step.failed = { completedMillis: around.atMillis, error: Wire.toFailure(error), ...use }
      return parts
    }
    around.runs.of(sessionID).step = undefined
    return [
      ...parts,
      updated(around, sessionID, step, {
        ...use,
        completedMillis: around.atMillis,
        finish: Wire.finishOf(error),
        error: Wire.toFailure(error ?? {})
      })
    ]
  }
)

const compaction = { ...bySession, reason: maybe(Schema.String) }

const summarised = (
  { eventId, place, runs }: Around,
  sessionId: SessionId,
  { createdMillis, id, parentId }: Runs.Summary,
  { model = runs.of(sessionId).model, ...ending }: Pick<
    Parameters<typeof Wire.assistant>[1],
    "completedMillis" | "cost" | "finish" | "model" | "tokens"
  > = {}
): ServerEvent => ({
  _tag: "MessageUpdated",
  eventId,
  sessionId,
  info: Wire.assistant({ id, sessionId, parentId, createdMillis }, { ...Wire.summary(model), ...ending }, place)
})

/** The server begins a summary because the answer needs it. Its message has the id of this event. */
const summaryStarted = on(Schema.Struct(compaction), (data, around) => {
  const { reason, sessionID } = data
  const { atMillis, eventId, runs } = around
  if (reason === "manual") return undefined
  const run = runs.of(sessionID)
  const id = eventId === undefined ? undefined : Wire.summaryId(eventId)
  if (run.input === undefined || id === undefined) return unread(data)
  run.calledMillis = undefined
  run.summary = { id, parentId: run.input, createdMillis: atMillis }
  return summarised(around, sessionID, run.summary)
})

/** The words of a summary are for nobody, but they show that the model is at work. */
const summaryGrown = on(Schema.Struct(bySession), ({ sessionID }, { eventId, runs }) => {
  const messageId = runs.of(sessionID).summary?.id
  return messageId === undefined ? undefined : {
    _tag: "PartDelta",
    eventId,
    sessionId: sessionID,
    messageId,
    partId: Wire.partId(messageId, "text", 0),
    field: "text",
    delta: ""
  }
})

/** What a summary took stands in the event of the release, and in the session's log alone on the beta, which has to be read. */
const summaryEnded = (finish: string | undefined) =>
  on(
    Schema.Struct({ ...compaction, ...stepUse, model: maybe(Wire.WireModel) }),
    (data, around) => {
      const { cost, model, reason, sessionID, tokens } = data
      if (reason === "manual") return undefined
      const run = around.runs.of(sessionID)
      const { summary } = run
      run.summary = undefined
      if (summary === undefined) return finish === undefined ? undefined : unread(data)
      const parts = partsOf(around, sessionID, summary.id, { cost, tokens, finish })
      // What fails with the summary tells why by itself.
      if (finish === undefined) return parts
      const completedMillis = around.atMillis
      run.calledMillis = completedMillis
      const told = summarised(around, sessionID, summary, { completedMillis, finish, cost, tokens, model })
      return tokens === undefined ? [told, unread(data)] : [...parts, told]
    }
  )

const interrupted = on(
  Schema.Struct({ ...bySession, reason: maybe(Schema.String) }),
  ({ reason, sessionID }, around) => {
    const run = around.runs.of(sessionID)
    const { step } = run
    run.step = undefined
    run.calledMillis = undefined
    const end = endOfRun(sessionID, around.eventId)
    if (step?.failed !== undefined && step.isRefused) {
      return [updated(around, sessionID, step, { ...step.failed, finish: "tool-calls", error: undefined }), ...end]
    }
    // The server goes down. Whether it goes on when it is back, or somebody else must make it, is found out then.
    if (reason === "shutdown") return end
    const stopped = reason === "inactivity" ? Wire.inactive : step?.failed?.error ?? Wire.aborted
    if (step?.failed !== undefined) {
      return [updated(around, sessionID, step, { ...step.failed, error: stopped }), ...end]
    }
    return [failedRun(around, sessionID, stopped), ...end]
  }
)

const failed = on(
  Schema.Struct({ ...bySession, error: Schema.optionalKey(Schema.Unknown) }),
  ({ error, sessionID }, around) => {
    around.runs.of(sessionID).step = undefined
    return [
      failedRun(around, sessionID, Wire.toFailure(error ?? {})),
      ...endOfRun(sessionID, around.eventId)
    ]
  }
)

const block = (type: "text" | "reasoning", isComplete: boolean) =>
  on(
    Schema.Struct({ ...inMessage, ordinal: Schema.Finite, text: maybe(Schema.String) }),
    ({ assistantMessageID: messageId, ordinal, sessionID, text = "" }, { eventId }) => ({
      _tag: "PartUpdated",
      eventId,
      sessionId: sessionID,
      part: { type, id: Wire.partId(messageId, type, ordinal), messageId, text, isComplete }
    })
  )

const WireCall = Schema.Struct({
  ...inCall,
  name: maybe(Schema.String),
  input: maybe(Json),
  content: Wire.WireToolState.fields.content,
  metadata: maybe(Json),
  error: Schema.optionalKey(Schema.Unknown)
})

/** Events tell of a call what is new, so the rest is kept until it ends. */
const call = (status: "streaming" | "running" | "completed" | "error") =>
  on(WireCall, (data, { atMillis, eventId, runs }) => {
    const { assistantMessageID: messageId, content, error, sessionID } = data
    const step = stepOf(runs, sessionID, messageId)
    const id = callIdOf(data)
    const before = step?.calls.get(id)
    const name = before?.name ?? data.name
    if (step === undefined || name === undefined) return unread(data)
    const isOver = status === "completed" || status === "error"
    const now: Runs.Call = {
      name,
      input: data.input ?? before?.input,
      metadata: data.metadata ?? before?.metadata,
      ran: before?.ran ?? (status === "streaming" ? undefined : atMillis)
    }
    step.hasCalls = true
    if (isOver) step.calls.delete(id)
    else step.calls.set(id, now)
    const state = {
      status,
      ...(now.input !== undefined && { input: now.input }),
      // The progress of a call is no part of what the server keeps of it.
      ...(isOver && data.metadata !== undefined && { metadata: data.metadata }),
      ...(content !== undefined && { content }),
      ...(status === "error" && { error: error ?? {} })
    }
    const subagent = Wire.subagentOf(name, now.metadata)
    const part: ToolPart = {
      ...Wire.toTool(messageId, id, name, state, {
        ...(now.ran !== undefined && { ran: now.ran }),
        ...(isOver && { completed: atMillis })
      }),
      ...(subagent !== undefined && { subagent })
    }
    step.isRefused ||= part.isRefused === true
    return { _tag: "PartUpdated", eventId, sessionId: sessionID, part }
  })

const retried = on(
  Schema.Struct({
    ...bySession,
    attempt: maybe(Schema.Finite),
    at: maybe(Schema.Finite),
    error: Schema.optionalKey(Schema.Unknown)
  }),
  ({ at, attempt, error, sessionID }, { eventId }) => ({
    _tag: "StatusChanged",
    eventId,
    sessionId: sessionID,
    // The event names the attempt that is to come.
    status: {
      type: "retry",
      attempt: Math.max(1, (attempt ?? 2) - 1),
      message: Wire.toFailure(error ?? {}).message,
      nextMillis: at ?? 0
    }
  })
)

const resolved = on(
  Schema.Struct({ ...bySession, requestID: maybe(Wire.AskId), id: maybe(Wire.AskId) }),
  (data, { eventId }) => {
    const askId = data.requestID ?? data.id
    return askId === undefined ? unread(data) : { _tag: "AskResolved", eventId, sessionId: data.sessionID, askId }
  }
)

const decoders = new Map<string, Decode>([
  ["session.created", opened],
  [
    "session.deleted",
    on(Schema.Struct(bySession), ({ sessionID }, { eventId, runs }) => {
      runs.forget(sessionID)
      return { _tag: "SessionDeleted", eventId, sessionId: sessionID }
    })
  ],
  ["session.input.admitted", enqueued],
  ["session.inbox.enqueued", enqueued],
  ["session.input.promoted", delivered],
  ["session.inbox.delivered", delivered],
  ["session.inbox.cancelled", cancelled],
  // The server tells the agent to go on, and nobody knows under which id.
  [
    "session.synthetic",
    on(Schema.Struct(bySession), (data, { runs }) => {
      runs.of(data.sessionID).input = undefined
      return unread(data)
    })
  ],
  [
    "session.execution.started",
    on(Schema.Struct(bySession), ({ sessionID }, { eventId, runs }) => {
      const run = runs.of(sessionID)
      run.hasBegun = true
      run.worksFor = undefined
      return busy(sessionID, eventId)
    })
  ],
  [
    "session.execution.succeeded",
    on(Schema.Struct(bySession), ({ sessionID }, { eventId }) => idle(sessionID, eventId))
  ],
  ["session.execution.failed", failed],
  ["session.execution.interrupted", interrupted],
  ["session.step.started", stepStarted],
  ["session.step.ended", stepEnded],
  ["session.step.failed", stepFailed],
  ["session.text.started", block("text", false)],
  ["session.text.ended", block("text", true)],
  ["session.reasoning.started", block("reasoning", false)],
  ["session.reasoning.ended", block("reasoning", true)],
  ["session.tool.input.started", call("streaming")],
  ["session.tool.called", call("running")],
  ["session.tool.progress", call("running")],
  ["session.tool.success", call("completed")],
  ["session.tool.failed", call("error")],
  ["session.retry.scheduled", retried],
  ["session.compaction.started", summaryStarted],
  ["session.compaction.delta", summaryGrown],
  ["session.compaction.ended", summaryEnded("stop")],
  ["session.compaction.failed", summaryEnded(undefined)],
  [
    "session.model.selected",
    on(Schema.Struct({ ...bySession, model: maybe(Wire.WireModel) }), ({ model, sessionID }, { runs }) => {
      const run = runs.of(sessionID)
      run.model = model ?? run.model
      return undefined
    })
  ],
  [
    "permission.asked",
    on(Wire.WirePermission, (wire, { eventId, runs }) => ({
      _tag: "Asked",
      eventId,
      sessionId: wire.sessionID,
      ask: Wire.toPermission(wire, runs)
    }))
  ],
  ["permission.replied", resolved],
  [
    "form.created",
    on(Schema.Struct({ form: Wire.WireForm }), ({ form }, { eventId }) => ({
      _tag: "Asked",
      eventId,
      sessionId: form.sessionID,
      ask: Wire.toQuestion(form)
    }))
  ],
  ["form.replied", resolved],
  ["form.cancelled", resolved]
])
