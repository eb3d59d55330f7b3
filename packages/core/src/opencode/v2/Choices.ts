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
import { each, maybe } from "../Lenient.ts"
import type { Requests } from "../Requests.ts"
import { isNotFound, post } from "../Statuses.ts"
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
  { isBeta, location }: { readonly isBeta: () => boolean; readonly location: Readonly<Record<string, string>> }
) => {
  const known = (id: SessionId) =>
    Effect.map(
      requestJson("get session", Wire.within(Wire.WireKnownSession), HttpClientRequest.get(session(id))),
      ({ data }) => data
    )

  /** Sets what the prompt chooses, where the session has another choice. */
  const choose = Effect.fnUntraced(function*(
    id: SessionId,
    { agent, model, variant }: Pick<Prompt, "agent" | "model" | "variant">
  ) {
    if (agent === undefined && model === undefined && variant === undefined) return
    const data = yield* known(id)
    if (agent !== undefined && data.agent !== agent) {
      yield* request("choose agent", post(session(id, "/agent"), { agent }))
    }
    const chosen = model === undefined ? data.model : { providerID: model.providerId, id: model.modelId }
    if (chosen === undefined) return
    const wanted = variant ?? (model === undefined ? data.model?.variant : undefined)
    const isSame = chosen.id === data.model?.id && chosen.providerID === data.model.providerID &&
      (wanted ?? "default") === (data.model.variant ?? "default")
    if (isSame) return
    yield* request(
      "choose model",
      post(session(id, "/model"), { model: { ...chosen, ...(wanted !== undefined && { variant: wanted }) } })
    )
  })

  const defaultModel = Effect.map(
    requestJson(
      "default model",
      Schema.Struct({ data: maybe(Wire.WireModel) }),
      HttpClientRequest.get("/api/model/default", { urlParams: location })
    ),
    ({ data }) => data
  )

  /** Whether the server knows the model, or has a default one. It learns its models when it first works in the folder. */
  const hasModel = (model: typeof Wire.WireModel.Type | undefined) =>
    model === undefined
      ? Effect.map(defaultModel, (usual) => usual !== undefined)
      : requestJson(
        "list models",
        Wire.within(each(Wire.WireModel)),
        HttpClientRequest.get("/api/model", { urlParams: location })
      ).pipe(
        Effect.map(({ data }) => data.some(({ id, providerID }) => id === model.id && providerID === model.providerID))
      )

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
          Effect.fail(new UnsupportedOperation({ operation: "give a prompt a system text", origin, field: "system" }))
        ))
    )

  return { known, choose, defaultModel, hasModel, instruct, takeBackInstruction }
}

// internal

/** The name of the system text among the instructions of a session. The model sees it. */
const instructionKey = "opencode-turn"
