/**
 * OpenCode 1.18.33 behind the controls of the fake.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Events from "../Events.ts"
import type { Face, Site } from "../Face.ts"
import * as Routes from "./Routes.ts"
import * as State from "./State.ts"
import * as Turn from "./Turn.ts"

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = (site: Site): Face => {
  const {
    agents,
    directory,
    files,
    fork,
    gate,
    ids,
    isFolder,
    models,
    now,
    options,
    script,
    scripts,
    subagentDepth,
    summary
  } = site
  const events = Events.make(ids, pulse)
  const state = State.make({ events, ids, now, files })
  const turn = Turn.make({
    state,
    script,
    scriptOf: scripts.of,
    summary,
    agents,
    models,
    subagentDepth,
    gate,
    fork,
    raceDelay: Duration.fromInputUnsafe(options.raceDelay ?? Duration.zero),
    summaryDelay: Duration.fromInputUnsafe(options.summaryDelay ?? Duration.zero)
  })
  const services = { state, turn, events, agents, models, directory, isFolder, onPrompt: scripts.bind }
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

// internal

/** OpenCode 1.x beats with an event, every 10 s (1.18.33). */
const pulse: Events.Pulse = {
  greeting: (ids) => Events.frame({ id: ids.ascending("evt"), type: "server.connected", properties: {} }),
  heartbeat: (ids) => Events.frame({ id: ids.ascending("evt"), type: "server.heartbeat", properties: {} }),
  heartbeatMillis: 10_000
}
