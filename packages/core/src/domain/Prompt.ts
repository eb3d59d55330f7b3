/**
 * The models of a prompt: its parts, and the agent, the model and the options that it chooses.
 *
 * **Not responsibilities**: checking a part (`PromptCheck`), turning files into parts (`Attachment`), and checking
 * which agents a server has (`CheckAgents`).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { PromptIds } from "./Ids.ts"
import { InvalidInput } from "./TurnError.ts"

/**
 * A model and its provider: `anthropic/claude-sonnet-4-5` is provider `anthropic`, model `claude-sonnet-4-5`.
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
 * A part of a prompt.
 *
 * **Details**
 *
 * - `text`: the words of the prompt.
 * - `file`: a file or image inside the prompt (a `data:` URL, see `Attachment`), or one on the server's own disk (a `file:` URL; a
 *   folder too, as `application/x-directory`). Text of any kind is `text/plain`: OpenCode refuses types other than that, `image/*`
 *   and `application/pdf` (1.18.33).
 * - `agent`: mentions a subagent; OpenCode asks the model to call it.
 * - `subtask`: runs a subagent before the model is called; the model then reads the subagent's answer. A prompt has at most one.
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
  Schema.Struct({ type: Schema.Literal("agent"), name: Schema.String }),
  Schema.Struct({
    type: Schema.Literal("subtask"),
    description: Schema.String,
    prompt: Schema.String,
    agent: Schema.String,
    model: Schema.optionalKey(ModelRef)
  })
])
/**
 * @category models
 * @since 0.1.0
 */
export type PromptPart = typeof PromptPart.Type

/**
 * A file or an image.
 *
 * @category models
 * @since 0.1.0
 */
export type PromptFile = Extract<PromptPart, { readonly type: "file" }>

/**
 * The caller's choices for the agent of a turn, from the input to the stored prompt; what is left out the server chooses.
 *
 * **Details**
 *
 * `variant`: one of the model's variants, for example of its reasoning effort. `tools` offers a tool or takes it away, by a pattern of its
 * name; the last one that matches counts.
 *
 * @category models
 * @since 0.1.0
 */
export const AgentChoices = Schema.Struct({
  agent: Schema.optionalKey(Schema.String),
  variant: Schema.optionalKey(Schema.String),
  system: Schema.optionalKey(Schema.String),
  tools: Schema.optionalKey(Schema.Record(Schema.String, Schema.Boolean))
})
/**
 * @category models
 * @since 0.1.0
 */
export interface AgentChoices extends Schema.Schema.Type<typeof AgentChoices> {}

/**
 * A prompt as it is posted. With `ids` it may be posted repeatedly and is answered once; without them the server
 * chooses the ids. `format` asks for a value of a JSON Schema instead of text.
 *
 * @category models
 * @since 0.1.0
 */
export const Prompt = Schema.Struct({
  ids: Schema.optionalKey(PromptIds),
  parts: Schema.Array(PromptPart),
  ...AgentChoices.fields,
  model: Schema.optionalKey(ModelRef),
  format: Schema.optionalKey(Schema.Record(Schema.String, Schema.Unknown))
})
/**
 * @category models
 * @since 0.1.0
 */
export interface Prompt extends Schema.Schema.Type<typeof Prompt> {}

/**
 * The model of the form `provider/model`; undefined if the text has another form.
 *
 * @category conversions
 * @since 0.1.0
 */
export const modelOf = (text: string): ModelRef | undefined => {
  const slash = text.indexOf("/")
  return slash > 0 && slash < text.length - 1 && !/\s/.test(text)
    ? { providerId: text.slice(0, slash), modelId: text.slice(slash + 1) }
    : undefined
}

/**
 * Parses `provider/model`. The model's own name may contain slashes: `openrouter/anthropic/claude-sonnet-4-5`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const parseModel = (text: string): Effect.Effect<ModelRef, InvalidInput> => {
  const model = modelOf(text)
  return model !== undefined
    ? Effect.succeed(model)
    : Effect.fail(
      new InvalidInput({
        field: "model",
        reason: `${JSON.stringify(text)} does not have the form provider/model, for example anthropic/claude-sonnet-4-5`
      })
    )
}
