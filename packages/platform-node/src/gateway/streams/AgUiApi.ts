/**
 * The routes for clients of AG-UI 1.0: `new HttpAgent({ url: "/ag-ui", threadId })`.
 *
 * @since 0.1.0
 */
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as OpenApi from "effect/http-api/OpenApi"
import * as Schema from "effect/Schema"
import { Busy, NotFound, Unprocessable } from "../GatewayError.ts"
import { askId, Authorized, conversationId, Readable, textEvent, Written } from "../Middleware.ts"

/**
 * A run of a client.
 *
 * **Details**
 *
 * The thread is the conversation. Of `messages` only the last one is the prompt, because OpenCode keeps the conversation. `resume` answers
 * the interrupts of the run before. `agent`, `model`, `variant` and `title` may stand in `forwardedProps`; `tools` and `context` of the
 * client are ignored.
 *
 * @category models
 * @since 0.1.0
 */
export const RunAgentInput = Schema.Struct({
  threadId: conversationId,
  runId: Schema.NonEmptyString.check(Schema.isMaxLength(255)),
  messages: Schema.Array(
    Schema.StructWithRest(Schema.Struct({ id: Schema.String, role: Schema.String }), [
      Schema.Record(Schema.String, Schema.Unknown)
    ])
  ),
  state: Schema.optionalKey(Schema.Unknown),
  forwardedProps: Schema.optionalKey(Schema.Unknown),
  resume: Schema.optionalKey(
    Schema.Array(
      Schema.Struct({
        interruptId: askId,
        status: Schema.Literals(["resolved", "cancelled"]),
        payload: Schema.optionalKey(Schema.Unknown)
      })
    ).check(Schema.isMaxLength(1_000))
  )
}).annotate({ identifier: "RunAgentInput" })
/**
 * @category models
 * @since 0.1.0
 */
export interface RunAgentInput extends Schema.Schema.Type<typeof RunAgentInput> {}

/**
 * @category groups
 * @since 0.1.0
 */
export class AgUi extends HttpApiGroup.make("agUi")
  .add(
    HttpApiEndpoint.post("run", "/ag-ui", {
      payload: RunAgentInput,
      success: HttpApiSchema.StreamSse({ events: textEvent }),
      error: [Unprocessable, NotFound, Busy]
    }).middleware(Written).annotateMerge(OpenApi.annotations({
      summary: "Run a turn for a client of AG-UI",
      description:
        "Answers with the events of the run. A run whose turn waits for a person ends with an interrupt, and its turn goes on " +
        "with the run that resumes it. The same runId is the same turn."
    })),
    HttpApiEndpoint.post("connect", "/ag-ui/connect", {
      payload: RunAgentInput,
      success: HttpApiSchema.StreamSse({ events: textEvent }),
      error: [Unprocessable, NotFound]
    }).middleware(Written).annotateMerge(OpenApi.annotations({
      summary: "Follow a thread",
      description: "A run that begins with the messages of the thread, and tells the turn that runs, if one does."
    }))
  )
  .middleware(Authorized)
  .middleware(Readable)
  // A client sends its tools and its context besides.
  .annotate(HttpApi.PayloadParseOptions, { onExcessProperty: "ignore" })
{}
