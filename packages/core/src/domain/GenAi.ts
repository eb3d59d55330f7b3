/**
 * The words of OpenTelemetry's conventions for generative AI (semantic-conventions-genai 0.1.0) for what OpenCode calls otherwise.
 *
 * @since 0.1.0
 */
import type { ToolPart } from "./Part.ts"
import type { ModelRef } from "./Prompt.ts"
import type { Tokens } from "./Usage.ts"

/**
 * The provider of a model, by the name of the conventions where they have one.
 *
 * @category conversions
 * @since 0.1.0
 */
export const providerName = ({ providerId }: Pick<ModelRef, "providerId">): string =>
  providerNames.get(providerId) ?? providerId

/**
 * All input tokens. OpenCode (1.18.33) tells those that the cache served or took apart.
 *
 * @category conversions
 * @since 0.1.0
 */
export const inputTokens = ({ cacheRead, cacheWrite, input }: Tokens): number => input + cacheRead + cacheWrite

/**
 * All output tokens. OpenCode (1.18.33) tells those of reasoning apart.
 *
 * @category conversions
 * @since 0.1.0
 */
export const outputTokens = ({ output, reasoning }: Tokens): number => output + reasoning

/**
 * The `error.type` of a tool call: `Refused` if a person or a rule refused it, `_OTHER` for any other failure, because tools fail with texts.
 *
 * @category conversions
 * @since 0.1.0
 */
export const toolErrorType = ({ isRefused, refusal, status }: ToolPart): string | undefined => {
  if (isRefused === true || refusal !== undefined) return "Refused"
  return status === "error" ? "_OTHER" : undefined
}

// internal

const providerNames = new Map([
  ["amazon-bedrock", "aws.bedrock"],
  ["azure", "azure.ai.openai"],
  ["google", "gcp.gemini"],
  ["google-vertex", "gcp.vertex_ai"],
  ["google-vertex-anthropic", "gcp.vertex_ai"],
  ["mistral", "mistral_ai"],
  ["moonshotai", "moonshot_ai"],
  ["xai", "x_ai"]
])
