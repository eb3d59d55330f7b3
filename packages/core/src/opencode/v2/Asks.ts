/**
 * The questions and permissions of OpenCode 2.x. An ask is answered under its own session, and a form by the keys of its fields.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type { AskId } from "../../domain/Ids.ts"
import type { RequestError } from "../ClientError.ts"
import { AskNotFound } from "../ClientError.ts"
import type { Dialect } from "../Dialect.ts"
import { each } from "../Lenient.ts"
import { type Requests, segment } from "../Requests.ts"
import { post } from "../Statuses.ts"
import { orAskNotFound, session } from "./Routes.ts"
import type { Runs } from "./Runs.ts"
import * as Wire from "./Wire.ts"

/**
 * `folder` are the parameters that name the client's folder, also if the server chose it: the release lists the forms of one folder, and
 * without a name those of another one than a session's (read, not measured).
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  { request, requestJson }: Pick<Requests, "request" | "requestJson">,
  { folder, isBeta, runs }: {
    readonly isBeta: () => boolean
    readonly runs: Runs
    readonly folder: Effect.Effect<Readonly<Record<string, string>>, RequestError>
  }
): Pick<Dialect, "questions" | "answerQuestion" | "rejectQuestion" | "permissions" | "answerPermission"> => {
  const forms = Effect.flatMap(folder, (urlParams) =>
    requestJson(
      "list questions",
      Wire.within(each(Wire.WireForm)),
      HttpClientRequest.get(isBeta() ? "/api/form/request" : "/api/form", { urlParams })
    )).pipe(Effect.map(({ data }) => data))
  const permissions = Effect.flatMap(folder, (urlParams) =>
    requestJson(
      "list permissions",
      Wire.within(each(Wire.WirePermission)),
      HttpClientRequest.get("/api/permission/request", { urlParams })
    )).pipe(Effect.map(({ data }) => data.map((wire) => Wire.toPermission(wire, runs))))

  return {
    questions: Effect.map(forms, (forms) => forms.map(Wire.toQuestion)),

    answerQuestion: (askId, answers) =>
      listed(forms, askId).pipe(
        Effect.flatMap((form) =>
          request(
            "answer question",
            post(session(form.sessionID, `/form/${segment(askId)}/reply`), { answer: Wire.fromAnswers(form, answers) })
          )
        ),
        Effect.asVoid,
        orAskNotFound(askId)
      ),

    rejectQuestion: (askId, message) =>
      listed(forms, askId).pipe(
        Effect.flatMap((form) => {
          const path = session(form.sessionID, `/form/${segment(askId)}`)
          return request(
            "reject question",
            isBeta()
              ? HttpClientRequest.post(`${path}/cancel`)
              : HttpClientRequest.delete(path, message === undefined ? {} : { urlParams: { message } })
          )
        }),
        Effect.asVoid,
        orAskNotFound(askId)
      ),

    permissions,

    answerPermission: (askId, { reply, ...rest }) =>
      listed(permissions, askId).pipe(
        Effect.flatMap(({ sessionId }) =>
          request(
            "answer permission",
            post(session(sessionId, `/permission/${segment(askId)}/reply`), {
              ...rest,
              ...(isBeta() ? { reply } : { decision: reply })
            })
          )
        ),
        Effect.asVoid,
        orAskNotFound(askId)
      )
  }
}

// internal

/** The ask as the server lists it, because its answer goes to its session. */
const listed = <A extends { readonly id: AskId }>(
  list: Effect.Effect<ReadonlyArray<A>, RequestError>,
  askId: AskId
): Effect.Effect<A, RequestError | AskNotFound> =>
  Effect.flatMap(list, (asks) => {
    const ask = asks.find(({ id }) => id === askId)
    return ask === undefined ? Effect.fail(new AskNotFound({ askId })) : Effect.succeed(ask)
  })
