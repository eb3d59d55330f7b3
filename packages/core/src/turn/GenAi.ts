/**
 * The attributes of spans and metrics by the conventions of OpenTelemetry for generative AI (semantic-conventions-genai 0.1.0).
 *
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import type { Part, ToolPart } from "../domain/Part.ts"
import type { ModelRef, PromptPart } from "../domain/Prompt.ts"
import type { SubagentStatus } from "../domain/Subagent.ts"
import type { TraceContent } from "../domain/TurnPolicy.ts"
import type { UpstreamFailure } from "../domain/UpstreamFailure.ts"
import type { Tokens, Usage } from "../domain/Usage.ts"

/** Attributes of a span. Those that are undefined are left out. */
export type Attributes = Readonly<Record<string, unknown>>

/** The server's address, from its origin. */
export const ofServer = (origin: string): Attributes => {
  if (!URL.canParse(origin)) return {}
  const { hostname, port, protocol } = new URL(origin)
  const known = port === "" ? { "http:": 80, "https:": 443 }[protocol] : Number(port)
  return { "server.address": hostname, "server.port": known }
}

/** The model that was called. */
export const ofModel = (model: ModelRef | undefined): Attributes =>
  model === undefined ? {} : {
    "gen_ai.provider.name": providerName(model),
    "gen_ai.request.model": model.modelId
  }

/** OpenCode's name of a provider, or the conventions' name for the same. */
export const providerName = ({ providerId }: ModelRef): string => providers.get(providerId) ?? providerId

/** Token counts. */
export const ofUsage = ({ tokens }: Usage): Attributes => ({
  "gen_ai.usage.input_tokens": inputTokens(tokens),
  "gen_ai.usage.output_tokens": outputTokens(tokens),
  "gen_ai.usage.cache_read.input_tokens": tokens.cacheRead,
  "gen_ai.usage.cache_write.input_tokens": tokens.cacheWrite,
  "gen_ai.usage.reasoning.output_tokens": tokens.reasoning
})

/** The input tokens of the conventions include what the cache held. */
export const inputTokens = ({ cacheRead, cacheWrite, input }: Tokens): number => input + cacheRead + cacheWrite

/** The output tokens of the conventions include the reasoning. */
export const outputTokens = ({ output, reasoning }: Tokens): number => output + reasoning

/** Why a model step failed: the error, and OpenCode's name of it. */
export const ofStepError = (error: UpstreamFailure | undefined): Attributes =>
  error === undefined ? {} : { "error.type": "Upstream", "opencode.upstream.error": error.name }

/** Why a tool call failed. */
export const toolError = ({ isRefused, refusal, status }: ToolPart): string | undefined => {
  if (status !== "error") return undefined
  return isRefused === true || refusal !== undefined ? "Refused" : "ToolFailed"
}

/** Why a subagent failed. */
export const subagentError = (status: SubagentStatus | undefined): string | undefined =>
  status === "error" ? "SubagentFailed" : undefined

/** The content that may be written under an attribute's name, as JSON. A redactor that fails lets nothing through. */
export const content = (policy: TraceContent, name: string, value: () => unknown): Attributes => {
  if (policy === false) return {}
  const json = JSON.stringify(value())
  return { [name]: policy === true ? json : Result.getOrUndefined(Result.try(() => policy(name, json))) }
}

/** A user's prompt as a message. */
export const fromPrompt = (prompt: ReadonlyArray<PromptPart>): unknown => [{
  role: "user",
  parts: prompt.map((part) =>
    part.type === "text" ? { type: "text", content: cut(part.text) } : { type: "generic", kind: part.type }
  )
}]

/** What the model said in one step as a message. */
export const fromParts = (parts: ReadonlyArray<Part>, finish: string | undefined): unknown => [{
  role: "assistant",
  parts: parts.flatMap((part): ReadonlyArray<object> => {
    switch (part.type) {
      case "text":
      case "reasoning":
        return [{ type: part.type, content: cut(part.text) }]
      case "tool":
        return [{ type: "tool_call", id: part.callId, name: part.tool, arguments: cutAll(part.input) }]
      default:
        return []
    }
  }),
  ...(finish !== undefined && { finish_reason: finish })
}]

/** A text as an answer. */
export const fromText = (text: string, finish: string | undefined): unknown => [{
  role: "assistant",
  parts: [{ type: "text", content: cut(text) }],
  ...(finish !== undefined && { finish_reason: finish })
}]

/** The beginning of a text. A tool may print megabytes, and no collector takes them. */
export const cut = (text: string): string => text.length <= maxText ? text : `${text.slice(0, maxText)}…`.toWellFormed()

/** Arguments whose texts are cut. */
export const cutAll = (input: Readonly<Record<string, unknown>>): unknown =>
  Object.fromEntries(
    Object.entries(input).map(([key, value]) => [key, typeof value === "string" ? cut(value) : value])
  )

// internal

const maxText = 32_768

const providers: ReadonlyMap<string, string> = new Map([
  ["amazon-bedrock", "aws.bedrock"],
  ["azure", "azure.ai.openai"],
  ["google", "gcp.gemini"],
  ["google-vertex", "gcp.vertex_ai"],
  ["google-vertex-anthropic", "gcp.vertex_ai"],
  ["mistral", "mistral_ai"],
  ["moonshotai", "moonshot_ai"],
  ["xai", "x_ai"]
])
