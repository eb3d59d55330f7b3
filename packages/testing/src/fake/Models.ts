/**
 * The models of the fake OpenCode, all of the provider of `ScriptedProvider`.
 *
 * @since 0.1.0
 */
import { modelId, providerId } from "../model/ScriptedProvider.ts"

/**
 * A model, and the names of its variants.
 *
 * @category models
 * @since 0.1.0
 */
export interface Model {
  readonly id: string
  readonly providerID: string
  readonly variants: ReadonlyArray<string>
  /** Whether the server lists it, and cannot call it. */
  readonly isBroken: boolean
}

/**
 * The variants of a model, or that the server cannot call it.
 *
 * @category models
 * @since 0.1.0
 */
export type ModelOptions = ReadonlyArray<string> | "broken"

/**
 * @category models
 * @since 0.1.0
 */
export interface Models {
  /** The server's default model comes first. */
  readonly list: ReadonlyArray<Model>
  readonly usual: Model
  readonly find: (providerID: string, id: string) => Model | undefined
}

/**
 * Makes models of their names and those of their variants.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Readonly<Record<string, ModelOptions>>): Models => {
  const toModel = (id: string): Model => {
    const variants = options[id] ?? []
    return {
      id,
      providerID: providerId,
      variants: variants === "broken" ? [] : variants,
      isBroken: variants === "broken"
    }
  }
  const usual = toModel(modelId)
  const list = [usual, ...Object.keys(options).filter((id) => id !== modelId).map(toModel)]
  return {
    list,
    usual,
    find: (providerID, id) => list.find((model) => model.id === id && model.providerID === providerID)
  }
}
