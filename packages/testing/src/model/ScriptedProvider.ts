/**
 * The OpenCode configuration whose only model is a scripted model.
 *
 * **Responsibilities**: the provider's entry, and the environment of a server without network.
 *
 * **Not responsibilities**: starting the server. The caller adds a `HOME`, the `XDG_*` folders, `PATH` and a password.
 */
import { fileURLToPath } from "node:url"

/**
 * The id of the provider.
 *
 * @category constants
 * @since 0.1.0
 */
export const providerId = "scripted"

/**
 * The id of the model; OpenCode's name for it is `scripted/m`.
 *
 * @category constants
 * @since 0.1.0
 */
export const modelId = "m"

/**
 * The configuration for `OPENCODE_CONFIG_CONTENT`: one provider, one model, and no feature that uses the network.
 *
 * **Details**
 *
 * A million input tokens cost 1 dollar, output 2, cached input 0.5. The context holds 100,000 tokens, an answer 10,000.
 *
 * @category constructors
 * @since 0.1.0
 */
export const opencodeConfig = (model: { readonly url: string }) => ({
  formatter: false,
  lsp: false,
  share: "disabled",
  autoupdate: false,
  model: `${providerId}/${modelId}`,
  small_model: `${providerId}/${modelId}`,
  provider: {
    [providerId]: {
      name: "Scripted provider",
      id: providerId,
      env: [],
      npm: "@ai-sdk/openai-compatible",
      models: {
        [modelId]: {
          id: modelId,
          name: "Scripted model",
          attachment: false,
          reasoning: true,
          temperature: false,
          tool_call: true,
          release_date: "2026-01-01",
          limit: { context: 100_000, output: 10_000 },
          cost: { input: 1, output: 2, cache_read: 0.5, cache_write: 0 },
          options: {}
        }
      },
      // The provider's package requires a key; the scripted model ignores it.
      options: { apiKey: "unused", baseURL: model.url }
    }
  }
})

/**
 * The `OPENCODE_*` variables that configure a server, and keep it off the network and away from a project's own settings.
 *
 * **Details**
 *
 * Other settings belong into the configuration: `environment({ ...opencodeConfig(model), permission: { bash: "ask" } })` also makes
 * subagents ask, which the permissions of a session do not.
 *
 * @category constructors
 * @since 0.1.0
 */
export const environment = (config: object): Record<string, string> => ({
  OPENCODE_CONFIG_CONTENT: JSON.stringify(config),
  OPENCODE_DISABLE_AUTOUPDATE: "1",
  OPENCODE_DISABLE_LSP_DOWNLOAD: "1",
  OPENCODE_DISABLE_MODELS_FETCH: "1",
  OPENCODE_DISABLE_PROJECT_CONFIG: "1",
  // OpenCode (1.18) rebuilds its whole list of models for each folder, which takes 1.5 s of a processor for unused models.
  OPENCODE_MODELS_PATH: fileURLToPath(new URL("../../models.json", import.meta.url)),
  OPENCODE_PURE: "1"
})
