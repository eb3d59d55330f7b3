/**
 * OpenCode 2.x behind the controls of the fake: the beta, or the beta under the names of the release.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Events from "../Events.ts"
import type { Face, Site } from "../Face.ts"
import * as Execution from "./Execution.ts"
import { make as makeNames } from "./Names.ts"
import * as Routes from "./Routes.ts"
import * as State from "./State.ts"

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
    summary,
    untilDeath
  } = site
  const events = Events.make(ids, pulse)
  const names = makeNames(options.line === "2.x release" ? "release" : "beta")
  const state = State.make({ names, events, ids, now, files })
  const execution = Execution.make({
    state,
    script,
    scriptOf: scripts.of,
    summary,
    agents,
    models,
    subagentDepth,
    deltaWords: options.deltaWords ?? 1,
    inactivityMillis: Duration.toMillis(Duration.fromInputUnsafe(options.inactivity ?? "1 hour")),
    gate,
    fork
  })
  const services = { state, execution, events, agents, models, directory, isFolder, onPrompt: scripts.bind, untilDeath }
  const messages = (id: string) => state.session(id)?.messages ?? []
  const forget = Effect.sync(state.forget)
  return {
    events,
    handle: (request) => Routes.handle(services, request),
    toWire: ({ id, properties, type }) => ({ id, created: now(), type, data: properties }),
    modelRequests: execution.modelRequests,
    crash: Effect.andThen(execution.crash, forget),
    shutDown: Effect.andThen(execution.shutDown, forget),
    resume: () => {
      execution.revive()
      if (options.managed !== true) return
      if (options.resumeDelay === undefined) return execution.resume()
      const resume = Effect.delay(Effect.sync(execution.resume), options.resumeDelay)
      fork(Effect.raceFirst(resume, untilDeath))
    },
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

// internal

/** OpenCode 2.x beats with a comment, at once and then every 15 s (0.0.0-next-16350). */
const pulse: Events.Pulse = {
  greeting: (ids) => `${Events.frame({ id: ids.ascending("evt"), type: "server.connected", data: {} })}: heartbeat\n\n`,
  heartbeat: () => ": heartbeat\n\n",
  heartbeatMillis: 15_000
}
