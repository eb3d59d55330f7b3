/**
 * What a prompt chooses of a server: its agent, its model, and a variant of the model.
 *
 * A server accepts a choice that it does not have, and fails after that. OpenCode 1.x keeps a wrong model for all later prompts of the session
 * that name none, and 2.x a wrong agent and a wrong variant as well. So a choice is looked up before anything is sent.
 *
 * @since 0.1.0
 */
import type { ModelRef } from "../domain/Prompt.ts"
import { Upstream } from "../domain/TurnError.ts"
import type { Agent } from "./Dialect.ts"

/**
 * What a newer server of 1.x says of an agent that it does not have (1.18.33).
 *
 * @category errors
 * @since 0.1.0
 */
export const unknownAgent = (agent: string, agents: ReadonlyArray<Agent>): Upstream =>
  unknown(
    `Agent not found: ${JSON.stringify(agent)}. Available agents: ${
      agents.flatMap(({ isHidden, name }) => (isHidden ? [] : [name])).toSorted().join(", ")
    }`
  )

/**
 * What 1.18.33 says of a model that it does not have.
 *
 * @category errors
 * @since 0.1.0
 */
export const unknownModel = (model: ModelRef): Upstream => unknown(`Model not found: ${nameOf(model)}.`)

/**
 * @category errors
 * @since 0.1.0
 */
export const unknownVariant = (model: ModelRef, variant: string, variants: ReadonlyArray<string>): Upstream =>
  unknown(
    `Variant not found: ${JSON.stringify(variant)}. ${nameOf(model)} has ${
      variants.length === 0 ? "no variants" : variants.join(", ")
    }`
  )

/**
 * The variant of a model that has no other one. It is the same as none.
 *
 * @category constants
 * @since 0.1.0
 */
export const noVariant = "default"

// internal

const unknown = (reason: string) => new Upstream({ name: "UnknownError", reason, isRetryable: false })

const nameOf = ({ modelId, providerId }: ModelRef): string => `${providerId}/${modelId}`
