/**
 * The stored state of the fake OpenCode 2.x, and the only functions that change it. Each change sends the event of the real server and
 * writes it into the log of its session.
 *
 * **Responsibilities**: sessions, inputs, messages, logs, permissions and forms.
 *
 * **Not responsibilities**: the order of changes in a run (`Execution`, `Step`), requests (`Routes`).
 *
 * Values are replaced, never changed in place, so a returned value never changes.
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type { Tokens } from "../Answer.ts"
import { addTokens, zeroTokens } from "../Answer.ts"
import type { Events, Properties } from "../Events.ts"
import * as Files from "../Files.ts"
import type { IdGenerator } from "../Ids.ts"
import type { Names } from "./Names.ts"
import type { Assistant, Event, Input, Message, ModelRef, Order, PermissionRule, Session } from "./Wire.ts"

/**
 * @category models
 * @since 0.1.0
 */
export interface StoredSession {
  info: Session
  readonly directory: string
  readonly log: Array<Event>
  /** The readers who follow the log. */
  readonly followers: Set<(event: Event) => void>
  /** The inputs that are no message yet, in the order of their arrival. */
  pending: ReadonlyArray<Input>
  messages: ReadonlyArray<Message>
  seq: number
  isDeleted: boolean
  /** The order to summarise the session that is not carried out yet. */
  order: Order | undefined
  /** What clients tell the model for the whole session, and what of it the model was told. */
  instructions: ReadonlyMap<string, unknown>
  told: Told | undefined
  /** What a managed server does about the session when it starts: it carries on what a shutdown or a crash stopped. */
  claim: "crashed" | "none" | "running" | "shutdown"
}

/**
 * What the model was told of a session's instructions: those of the beginning, the changes since, each before the message with its number, and the instructions that they amount to.
 *
 * @category models
 * @since 0.1.0
 */
export interface Told {
  readonly initial: ReadonlyMap<string, unknown>
  readonly changes: ReadonlyArray<{ readonly at: number; readonly text: string }>
  readonly now: ReadonlyMap<string, unknown>
}

/**
 * How an ask ended. A rejection without a message ends the run.
 *
 * @category models
 * @since 0.1.0
 */
export type AskResult =
  | { readonly _tag: "Allowed" }
  | { readonly _tag: "Answered"; readonly answer: Properties }
  | { readonly _tag: "Rejected"; readonly message: string | undefined }

/**
 * @category models
 * @since 0.1.0
 */
export interface Ask {
  readonly kind: "form" | "permission"
  readonly info: { readonly id: string; readonly sessionID: string; readonly [key: string]: unknown }
  readonly result: Deferred.Deferred<AskResult>
}

/**
 * @category models
 * @since 0.1.0
 */
export interface SettledForm {
  readonly info: Ask["info"]
  readonly state: Properties
}

/**
 * @category models
 * @since 0.1.0
 */
export interface NewSession {
  readonly id?: string | undefined
  readonly directory: string
  readonly parentID?: string | undefined
  readonly title?: string | undefined
  readonly agent?: string | undefined
  readonly model?: ModelRef | undefined
  readonly metadata?: Properties | undefined
  readonly permissions?: ReadonlyArray<PermissionRule> | undefined
  readonly fork?: Session["fork"] | undefined
}

/**
 * @category models
 * @since 0.1.0
 */
export interface State {
  readonly names: Names
  readonly now: () => number
  readonly ids: IdGenerator
  readonly files: Files.Files
  readonly session: (id: string) => StoredSession | undefined
  /** The sessions, newest first. */
  readonly sessions: () => ReadonlyArray<StoredSession>
  /** A second session with the id of the first is the first. */
  readonly createSession: (fields: NewSession) => StoredSession
  readonly updateSession: (session: StoredSession, changes: Partial<Session>) => void
  readonly deleteSession: (session: StoredSession) => void
  /** The input with this id, of any session, also if it is a message by now. */
  readonly input: (id: string) => Input | undefined
  readonly admit: (session: StoredSession, input: Pick<Input, "data" | "delivery" | "id" | "type">) => Input
  /** Accepts an order to summarise. */
  readonly order: (session: StoredSession, id: string) => Order
  /** Makes an input a message. */
  readonly promote: (session: StoredSession, input: Input) => void
  readonly withdraw: (session: StoredSession, input: Input) => void
  /** Changes when the turn of an input that waits comes. */
  readonly redeliver: (session: StoredSession, input: Input, delivery: Input["delivery"]) => void
  readonly addMessage: (session: StoredSession, message: Message) => void
  readonly changeAssistant: (
    session: StoredSession,
    id: string,
    change: (message: Assistant) => Assistant
  ) => void
  /** Adds the cost of a step to its session. */
  readonly spend: (session: StoredSession, cost: number, tokens: Tokens) => void

  /** Sends an event that is also in the log, and gives its id. */
  readonly record: (session: StoredSession, type: string, data?: Properties, options?: EventOptions) => string
  /** When an event of a folder was last stored. */
  readonly storedMillis: (directory: string) => number
  /** Sends an event that only the readers of that moment get. */
  readonly tell: (session: StoredSession, type: string, data: Properties, options?: EventOptions) => void

  readonly ask: (kind: Ask["kind"], session: StoredSession, fields: Properties) => Ask
  readonly findAsk: (kind: Ask["kind"], sessionId: string, id: string) => Ask | undefined
  /** A form that was answered or cancelled, and how. */
  readonly settledForm: (sessionId: string, id: string) => SettledForm | undefined
  readonly asks: (kind: Ask["kind"], session: (session: StoredSession) => boolean) => ReadonlyArray<Ask["info"]>
  readonly resolve: (ask: Ask, result: AskResult, type: string, data: Properties) => void
  /** Removes an ask that nobody waits for any more. */
  readonly drop: (ask: Ask) => void
  /** Drops what a crash loses: open asks. */
  readonly forget: () => void
}

/**
 * @category models
 * @since 0.1.0
 */
export interface EventOptions {
  /** The version of the event's shape. */
  readonly version?: number
  /** Whether the event says in which folder it happened. */
  readonly isLocated?: boolean
  /** Whether the event is in the log alone. */
  readonly isInternal?: boolean
}

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: {
  readonly names: Names
  readonly events: Events
  readonly ids: IdGenerator
  readonly now: () => number
  readonly files: Files.Files
}): State => {
  const { events, files, ids, names, now } = options
  const sessions = new Map<string, StoredSession>()
  const inputs = new Map<string, Input>()
  const asks = new Map<string, Ask>()
  const settled = new Map<string, SettledForm>()
  const stored = new Map<string, number>()

  const send = (
    session: StoredSession,
    type: string,
    data: Properties,
    durable: { readonly seq: number; readonly version: number } | undefined,
    isLocated: boolean
  ) => {
    if (session.isDeleted) return ids.ascending("evt")
    const sessionID = session.info.id
    return events.publish(type, data, undefined, ({ id }) => {
      const event: Event = {
        id,
        created: now(),
        type,
        ...(durable !== undefined && { durable: { aggregateID: sessionID, ...durable } }),
        data
      }
      if (durable !== undefined) {
        session.log.push(event)
        for (const follow of session.followers) follow(event)
      }
      return isLocated ? { ...event, location: { directory: session.directory } } : event
    })
  }

  const record: State["record"] = (
    session,
    type,
    data = {},
    { isInternal = false, isLocated = true, version = 1 } = {}
  ) => {
    stored.set(session.directory, now())
    const told = { sessionID: session.info.id, ...data }
    const durable = { seq: session.seq++, version }
    if (!isInternal) return send(session, type, told, durable, isLocated)
    const event: Event = {
      id: ids.ascending("evt"),
      created: now(),
      type,
      durable: { aggregateID: session.info.id, ...durable },
      data: told
    }
    session.log.push(event)
    for (const follow of session.followers) follow(event)
    return event.id
  }

  const tell: State["tell"] = (session, type, data, { isLocated = true } = {}) => {
    send(session, type, data, undefined, isLocated)
  }

  const deleteSession: State["deleteSession"] = (session) => {
    for (const child of sessions.values()) if (child.info.parentID === session.info.id) deleteSession(child)
    record(session, "session.deleted")
    session.isDeleted = true
    sessions.delete(session.info.id)
  }

  return {
    names,
    now,
    ids,
    files,
    session: (id) => sessions.get(id),
    sessions: () => [...sessions.values()].toReversed(),
    createSession: ({ agent, directory, fork, id = ids.session(), metadata, model, parentID, permissions, title }) => {
      const existing = sessions.get(id)
      if (existing !== undefined) return existing
      const created = now()
      const subpath = Files.relative(files.worktree(directory), directory)
      const session: StoredSession = {
        info: {
          id,
          ...(parentID !== undefined && { parentID }),
          ...(fork !== undefined && { fork }),
          projectID: files.isRepository ? repositoryId : "global",
          ...(agent !== undefined && { agent }),
          ...(model !== undefined && { model: { variant: "default", ...model } }),
          cost: 0,
          tokens: zeroTokens,
          time: { created, updated: created },
          title: title ?? `New session - ${new Date(created).toISOString()}`,
          location: { directory },
          ...(subpath !== "" && { subpath }),
          ...(metadata !== undefined && { metadata }),
          ...(permissions !== undefined && { permissions })
        },
        directory,
        log: [],
        followers: new Set(),
        pending: [],
        messages: [],
        seq: 0,
        isDeleted: false,
        order: undefined,
        instructions: new Map(),
        told: undefined,
        claim: "none"
      }
      sessions.set(id, session)
      announce(session, model)
      return session
    },
    updateSession,
    deleteSession,
    input: (id) => inputs.get(id),
    admit: (session, { data, delivery, id, type }) => {
      const input: Input = {
        id,
        sessionID: session.info.id,
        type,
        data,
        delivery,
        createdMillis: now(),
        admittedSeq: session.seq
      }
      inputs.set(id, input)
      session.pending = [...session.pending, input]
      record(session, names.admitted, names.admission(input))
      return input
    },
    order: (session, id) => {
      const order = { id, sessionID: session.info.id, createdMillis: now(), admittedSeq: session.seq }
      session.order = order
      record(session, names.ordered, names.orderOf(order))
      return order
    },
    promote: (session, input) => {
      session.pending = session.pending.filter(({ id }) => id !== input.id)
      const { id, type } = input
      session.messages = [...session.messages, { id, type, ...input.data, time: { created: now() } }]
      record(session, names.promoted, names.promotion(input))
    },
    withdraw: (session, input) => {
      session.pending = session.pending.filter(({ id }) => id !== input.id)
      inputs.delete(input.id)
      record(session, "session.inbox.cancelled", { inboxID: input.id })
    },
    redeliver: (session, input, delivery) => {
      const changed = { ...input, delivery }
      inputs.set(input.id, changed)
      session.pending = session.pending.map((other) => (other.id === input.id ? changed : other))
      record(session, "session.inbox.delivery.changed", { inboxID: input.id, delivery })
    },
    addMessage: (session, message) => {
      session.messages = [...session.messages, message]
    },
    changeAssistant: (session, id, change) => {
      session.messages = session.messages.map((message) =>
        message.type === "assistant" && message.id === id ? change(message) : message
      )
    },
    spend: (session, cost, tokens) => {
      session.info = {
        ...session.info,
        cost: session.info.cost + cost,
        tokens: addTokens(session.info.tokens, tokens)
      }
      const { info } = session
      tell(
        session,
        "session.usage.updated",
        { sessionID: info.id, cost: info.cost, tokens: info.tokens },
        { isLocated: false }
      )
    },
    record,
    storedMillis: (directory) => stored.get(directory) ?? 0,
    tell,
    ask: (kind, session, fields) => {
      const info = { id: ids.ascending(kind === "form" ? "frm" : "per"), sessionID: session.info.id, ...fields }
      const ask: Ask = { kind, info, result: Deferred.makeUnsafe<AskResult>() }
      asks.set(info.id, ask)
      if (kind === "form") tell(session, "form.created", { form: info })
      else tell(session, "permission.asked", info)
      return ask
    },
    findAsk: (kind, sessionId, id) => {
      const ask = asks.get(id)
      return ask?.kind === kind && ask.info.sessionID === sessionId ? ask : undefined
    },
    settledForm: (sessionId, id) => {
      const form = settled.get(id)
      return form?.info.sessionID === sessionId ? form : undefined
    },
    asks: (kind, isMeant) =>
      [...asks.values()].flatMap((ask) => {
        const session = sessions.get(ask.info.sessionID)
        return ask.kind === kind && session !== undefined && isMeant(session) ? [ask.info] : []
      }),
    resolve: (ask, result, type, data) => {
      asks.delete(ask.info.id)
      if (ask.kind === "form") settled.set(ask.info.id, { info: ask.info, state: stateOf(result) })
      const session = sessions.get(ask.info.sessionID)
      if (session !== undefined) tell(session, type, data)
      Deferred.doneUnsafe(ask.result, Effect.succeed(result))
    },
    drop: (ask) => {
      if (!asks.delete(ask.info.id) || ask.kind !== "form") return
      const session = sessions.get(ask.info.sessionID)
      settled.set(ask.info.id, { info: ask.info, state: { status: "cancelled" } })
      if (session !== undefined) tell(session, "form.cancelled", { id: ask.info.id, sessionID: ask.info.sessionID })
    },
    forget: () => {
      asks.clear()
    }
  }

  /** The beta sends the session as 1.x does, and leaves the event out of the log. */
  function announce(session: StoredSession, model: ModelRef | undefined) {
    const { id, location, subpath, time, ...rest } = session.info
    const fields = { ...rest, ...(model !== undefined && { model }) }
    if (names.edition === "release") {
      const { cost: _cost, tokens: _tokens, ...flat } = fields
      record(session, "session.created", { ...flat, location, slug, version: names.version })
      return
    }
    record(session, "session.created", {
      info: {
        id,
        slug,
        directory: session.directory,
        path: subpath ?? "",
        ...fields,
        version: names.version,
        time
      }
    })
    session.log.length = 0
  }
}

// internal

const updateSession: State["updateSession"] = (session, changes) => {
  session.info = { ...session.info, ...changes, time: { ...session.info.time, ...changes.time } }
}

const stateOf = (result: AskResult): Properties =>
  result._tag === "Answered"
    ? { status: "answered", answer: result.answer }
    : {
      status: "cancelled",
      ...(result._tag === "Rejected" && result.message !== undefined && { message: result.message })
    }

const slug = "fake-session"

/** OpenCode names a project after the first commit of its repository. */
const repositoryId = "1".repeat(40)
