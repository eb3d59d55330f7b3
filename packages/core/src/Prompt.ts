/**
 * What is said to an agent: the parts of a prompt and the choices that go with it.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { PromptIds } from "./Ids.ts"
import { InvalidInput } from "./TurnError.ts"

/**
 * Text, a file (by `data:`, `file:` or `http(s):` URL), or the mention of an agent.
 *
 * @category models
 * @since 0.1.0
 */
export const PromptPart = Schema.Union([
  Schema.Struct({ type: Schema.Literal("text"), text: Schema.String }),
  Schema.Struct({
    type: Schema.Literal("file"),
    mediaType: Schema.String,
    url: Schema.String,
    filename: Schema.optionalKey(Schema.String)
  }),
  Schema.Struct({ type: Schema.Literal("agent"), name: Schema.String })
])
/**
 * @category models
 * @since 0.1.0
 */
export type PromptPart = typeof PromptPart.Type

/**
 * A model by its provider: `anthropic/claude-sonnet-4-5` is provider `anthropic`, model `claude-sonnet-4-5`.
 *
 * @category models
 * @since 0.1.0
 */
export const ModelRef = Schema.Struct({ providerId: Schema.String, modelId: Schema.String })
/**
 * @category models
 * @since 0.1.0
 */
export interface ModelRef extends Schema.Schema.Type<typeof ModelRef> {}

/**
 * A prompt as it is posted. With `ids` it may be posted any number of times and is answered once; without them the
 * server chooses the ids. `format` asks for a value of a JSON Schema instead of text.
 *
 * @category models
 * @since 0.1.0
 */
export const Prompt = Schema.Struct({
  ids: Schema.optionalKey(PromptIds),
  parts: Schema.Array(PromptPart),
  agent: Schema.optionalKey(Schema.String),
  model: Schema.optionalKey(ModelRef),
  variant: Schema.optionalKey(Schema.String),
  system: Schema.optionalKey(Schema.String),
  format: Schema.optionalKey(Schema.Record(Schema.String, Schema.Unknown))
})
/**
 * @category models
 * @since 0.1.0
 */
export interface Prompt extends Schema.Schema.Type<typeof Prompt> {}

/**
 * The parts of a prompt given as text or as parts.
 *
 * @category constructors
 * @since 0.1.0
 */
export const parts = (
  prompt: string | ReadonlyArray<PromptPart>
): Effect.Effect<ReadonlyArray<PromptPart>, InvalidInput> => {
  const all: ReadonlyArray<PromptPart> = typeof prompt === "string" ? [{ type: "text", text: prompt }] : prompt
  return all.some((part) => part.type !== "text" || part.text.trim() !== "")
    ? Effect.succeed(all)
    : Effect.fail(new InvalidInput({ field: "prompt", reason: "it is empty: say what the agent is to do" }))
}

/**
 * Reads `provider/model`. The model's own name may contain slashes: `openrouter/anthropic/claude-sonnet-4-5`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const parseModel = (text: string): Effect.Effect<ModelRef, InvalidInput> => {
  const slash = text.indexOf("/")
  return slash > 0 && slash < text.length - 1 && !/\s/.test(text)
    ? Effect.succeed({ providerId: text.slice(0, slash), modelId: text.slice(slash + 1) })
    : Effect.fail(
      new InvalidInput({
        field: "model",
        reason: `${JSON.stringify(text)} is not of the form provider/model, for example anthropic/claude-sonnet-4-5`
      })
    )
}
