/**
 * What a session of OpenCode 2.x is to work by for a prompt. Agent, model and variant belong to the session, and the prompt names none of them,
 * so each prompt sets all that it does not find as it should be. A choice of an earlier prompt, or of a process that died before its prompt, is
 * then in nobody's way.
 *
 * **Gotchas** (0.0.0-next-16350)
 *
 * - The server accepts any choice. A prompt for an unknown agent waits in the session for ever, and goes ahead of the next prompt. A prompt for
 *   an unknown model or variant fails.
 * - The server does not use the model that an agent is set up with. Its own clients choose that model, and so does this one.
 * - The lists of agents and models are empty until the server has loaded the folder. The default model is told only then.
 * - The empty name chooses the default agent.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { ModelRef, Prompt } from "../../domain/Prompt.ts"
import type { Upstream } from "../../domain/TurnError.ts"
import type { RequestError } from "../ClientError.ts"
import { noVariant, unknownAgent, unknownModel, unknownVariant } from "../UnknownChoice.ts"
import * as Wire from "./Wire.ts"

/**
 * What the server has. `usualModel` is its default one; the answer comes once the folder is loaded.
 *
 * @category models
 * @since 0.1.0
 */
export interface Catalog {
  readonly agents: Effect.Effect<ReadonlyArray<typeof Wire.WireAgent.Type>, RequestError>
  readonly models: Effect.Effect<ReadonlyArray<typeof Wire.WireListedModel.Type>, RequestError>
  readonly usualModel: Effect.Effect<typeof Wire.WireListedModel.Type | undefined, RequestError>
}

/**
 * What a session works by. Without an agent it is the server's default one, and so with the model.
 *
 * @category models
 * @since 0.1.0
 */
export interface Choice {
  readonly agent?: string | undefined
  readonly model?: typeof Wire.WireModel.Type | undefined
}

/**
 * What the session is to work by. Fails if the server does not have it.
 *
 * @category constructors
 * @since 0.1.0
 */
export const of = Effect.fnUntraced(function*(
  { agent, model, variant }: Pick<Prompt, "agent" | "model" | "variant">,
  session: Choice,
  catalog: Catalog
): Effect.fn.Return<Choice, RequestError | Upstream> {
  const listed = agent === undefined ? undefined : yield* findAgent(agent, catalog)
  const own = model === undefined ? listed?.model : undefined
  const base = model === undefined ? own ?? session.model : { id: model.modelId, providerID: model.providerId }
  const wanted = variant ?? own?.variant ?? noVariant
  // What the session has is left to the server, and so is what the server chooses by itself.
  if (model === undefined && own === undefined && wanted === noVariant) {
    return { agent, model: base && { ...base, variant: wanted } }
  }
  const found = base === undefined ? yield* catalog.usualModel : yield* findModel(base, catalog)
  if (found === undefined) return base === undefined ? { agent } : yield* unknownModel(refOf(base))
  const variants = found.variants?.map(({ id }) => id)
  if (wanted !== noVariant && variants !== undefined && !variants.includes(wanted)) {
    return yield* unknownVariant(refOf(found), wanted, variants)
  }
  return { agent, model: { id: found.id, providerID: found.providerID, variant: wanted } }
})

/**
 * Whether both are the same model with the same variant.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isSameModel = (left: Choice["model"], right: Choice["model"]): boolean =>
  left?.id === right?.id && left?.providerID === right?.providerID &&
  (left?.variant ?? noVariant) === (right?.variant ?? noVariant)

/**
 * The agent that a server chooses by itself, unless its configuration names another one.
 *
 * @category getters
 * @since 0.1.0
 */
export const usualAgent = (agents: ReadonlyArray<typeof Wire.WireAgent.Type>): string | undefined => {
  const names = agents.flatMap((agent) =>
    agent.mode === "subagent" || agent.hidden === true ? [] : [Wire.toAgent(agent).name]
  )
  return names.find((name) => name === "build") ?? names[0]
}

/**
 * The name of a model alone.
 *
 * @category conversions
 * @since 0.1.0
 */
export const withoutVariant = (model: Named | undefined): Named | undefined =>
  model && { id: model.id, providerID: model.providerID }

/**
 * @category conversions
 * @since 0.1.0
 */
export const refOf = ({ id, providerID }: Named): ModelRef => ({
  providerId: providerID,
  modelId: id
})

// internal

type Named = Pick<typeof Wire.WireModel.Type, "id" | "providerID">

/** Looks again once the folder is loaded. */
const find = <A>(
  list: Effect.Effect<ReadonlyArray<A>, RequestError>,
  isIt: (entry: A) => boolean,
  { usualModel }: Catalog
) =>
  Effect.gen(function*() {
    const found = (yield* list).find(isIt)
    if (found !== undefined) return { found, listed: [] }
    yield* usualModel
    const listed = yield* list
    return { found: listed.find(isIt), listed }
  })

const findAgent = Effect.fnUntraced(function*(name: string, catalog: Catalog) {
  const { found, listed } = yield* find(catalog.agents, (agent) => Wire.toAgent(agent).name === name, catalog)
  return found ?? (yield* unknownAgent(name, listed.map(Wire.toAgent)))
})

const findModel = (
  { id, providerID }: Named,
  catalog: Catalog
) =>
  Effect.map(
    find(catalog.models, (model) => model.id === id && model.providerID === providerID, catalog),
    ({ found }) => found
  )
