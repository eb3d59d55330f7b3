/**
 * What a prompt sets for its session, because OpenCode 2.x cannot set it for one prompt: agent, model, variant, system text.
 *
 * **Gotchas** (0.0.0-next-16350)
 *
 * A system text is an instruction of the session. The model is told when it changes and when it is gone, at the next step.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Schema from "effect/Schema"
import type { SessionId } from "../../domain/Ids.ts"
import type { Prompt } from "../../domain/Prompt.ts"
import { UnsupportedOperation } from "../ClientError.ts"
import type { Dialect } from "../Dialect.ts"
import { each, maybe } from "../Lenient.ts"
import type { Requests } from "../Requests.ts"
import { hasStatus, isNotFound, post } from "../Statuses.ts"
import * as Choice from "./Choice.ts"
import { experimental, session } from "./Routes.ts"
import * as Wire from "./Wire.ts"

/**
 * `location` are the parameters that name the client's folder.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  { origin, request, requestJson }: Pick<Requests, "origin" | "request" | "requestJson">,
  { isBeta, location, statuses }: {
    readonly isBeta: () => boolean
    readonly location: Readonly<Record<string, string>>
    readonly statuses: Dialect["statuses"]
  }
) => {
  const unsupported = (operation: string, more: Pick<UnsupportedOperation, "field" | "reason">) =>
    Effect.fail(new UnsupportedOperation({ operation, origin, ...more }))

  const known = (id: SessionId) =>
    Effect.map(
      requestJson("get session", Wire.within(Wire.WireKnownSession), HttpClientRequest.get(session(id))),
      ({ data }) => data
    )

  const inFolder = { urlParams: location }
  const catalog: Choice.Catalog = {
    agents: requestJson(
      "list agents",
      Wire.within(each(Wire.WireAgent)),
      HttpClientRequest.get("/api/agent", inFolder)
    ).pipe(Effect.map(({ data }) => data)),
    models: requestJson(
      "list models",
      Wire.within(each(Wire.WireListedModel)),
      HttpClientRequest.get("/api/model", inFolder)
    ).pipe(Effect.map(({ data }) => data)),
    usualModel: requestJson(
      "default model",
      Schema.Struct({ data: maybe(Wire.WireListedModel) }),
      HttpClientRequest.get("/api/model/default", inFolder)
    ).pipe(Effect.map(({ data }) => data))
  }

  /** Fails if the server does not have what the prompt chooses. */
  const check = Effect.fnUntraced(function*(id: SessionId | undefined, prompt: Prompt) {
    const { agent, model, variant } = prompt
    if (agent === undefined && model === undefined && variant === undefined) return
    yield* Choice.of(prompt, id === undefined ? {} : yield* known(id), catalog)
  })

  const setModel = (id: SessionId, model: typeof Wire.WireModel.Type) =>
    request("choose model", post(session(id, "/model"), { model }))

  const setAgent = (id: SessionId, agent: string) => request("choose agent", post(session(id, "/agent"), { agent }))

  /** The server's default agent has no name here. Where the empty one does not choose it, its own name does. */
  const unsetAgent = (id: SessionId) =>
    setAgent(id, "").pipe(
      Effect.andThen(known(id)),
      Effect.map(({ agent }) => agent === undefined),
      Effect.catchIf((error) => hasStatus(error, 400), () => Effect.succeed(false)),
      Effect.flatMap((isUnset) => isUnset ? Effect.undefined : Effect.map(catalog.agents, Choice.usualAgent)),
      Effect.flatMap((name) => name === undefined ? Effect.void : setAgent(id, name))
    )

  /** Makes the session work by what the prompt is to have. */
  const choose = Effect.fnUntraced(function*(id: SessionId, prompt: Prompt) {
    const now = yield* known(id)
    const wanted = yield* Choice.of(prompt, now, catalog).pipe(
      Effect.catchTag("Upstream", ({ reason }) => unsupported("prompt a session", { reason }))
    )
    const isSameAgent = wanted.agent === now.agent
    const isSameModel = Choice.isSameModel(wanted.model, now.model)
    if (isSameAgent && isSameModel) return
    // What another prompt works by stays as it is, unless this one names something else.
    const isNamed = prompt.agent !== undefined || prompt.model !== undefined || prompt.variant !== undefined
    if (!isNamed && (yield* statuses).has(id)) return
    if (!isSameAgent) yield* wanted.agent === undefined ? unsetAgent(id) : setAgent(id, wanted.agent)
    if (!isSameModel && wanted.model !== undefined) yield* setModel(id, wanted.model)
  })

  /** Whether the server knows the model, or has a default one. It learns its models when it first works in the folder. */
  const hasModel = (model: typeof Wire.WireModel.Type | undefined) =>
    model === undefined
      ? Effect.map(catalog.usualModel, (usual) => usual !== undefined)
      : Effect.map(catalog.models, (models) =>
        models.some(({ id, providerID }) => id === model.id && providerID === model.providerID))

  const instruction = (id: SessionId) => {
    const path = `/instructions/entries/${instructionKey}`
    return isBeta() ? session(id, path) : experimental(id, path)
  }

  const takeBackInstruction = (id: SessionId) =>
    request("take back instructions", HttpClientRequest.delete(instruction(id))).pipe(
      Effect.catchIf(isNotFound, () => Effect.void),
      Effect.asVoid
    )

  /** Makes the prompt's system text the session's, and no other one: that of an earlier prompt is taken back. */
  const instruct = (id: SessionId, { system: value }: Prompt) =>
    value === undefined ? takeBackInstruction(id) : request(
      "give instructions",
      HttpClientRequest.put(instruction(id)).pipe(HttpClientRequest.bodyJsonUnsafe({ value }))
    ).pipe(
      Effect.asVoid,
      // The session is missing, or the route.
      Effect.catchIf(isNotFound, () =>
        Effect.andThen(
          known(id),
          unsupported("give a prompt a system text", { field: "system" })
        ))
    )

  return {
    known,
    agents: catalog.agents,
    usualModel: catalog.usualModel,
    check,
    choose,
    setModel,
    hasModel,
    instruct,
    takeBackInstruction
  }
}

// internal

/** The name of the system text among the instructions of a session. The model sees it. */
const instructionKey = "opencode-turn"
