/**
 * Faults of single requests to the fake OpenCode: which request is hit, and what becomes of it.
 *
 * Owns the faults as values and their bookkeeping. Faults of the event stream are `Events`', a crash of the server is
 * `FakeOpencode`'s.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { FakeRequest, FakeResponse } from "./Http.ts"
import { html, json, unknownError } from "./Http.ts"

/**
 * Which requests are meant: by method and path, or by a function. A path is compared as a whole; a pattern need only match.
 *
 * @category models
 * @since 0.1.0
 */
export type RequestMatcher =
  | { readonly method?: string; readonly path?: string | RegExp }
  | ((request: FakeRequest) => boolean)

/**
 * What becomes of a request. `serve` lets the server act on it.
 *
 * @category models
 * @since 0.1.0
 */
export type Fault = (
  serve: Effect.Effect<FakeResponse>,
  gate: (name: string) => Effect.Effect<void>,
  request: FakeRequest
) => Effect.Effect<FakeResponse>

/**
 * Answers with a status, in the server's shape of such an error, without acting.
 *
 * @category constructors
 * @since 0.1.0
 */
export const status = (code: number, headers: Readonly<Record<string, string>> = {}): Fault => () =>
  Effect.succeed(
    code === 401
      ? {
        _tag: "Body",
        status: 401,
        headers: { "www-authenticate": "Basic realm=\"Secure Area\"", ...headers },
        body: ""
      }
      : code >= 500
      ? unknownError(code)
      : json(code, { name: "InjectedFault", data: { message: `injected ${code}` } }, headers)
  )

/**
 * Breaks the connection without acting.
 *
 * @category constructors
 * @since 0.1.0
 */
export const reset: Fault = () => Effect.succeed({ _tag: "Reset" })

/**
 * Acts, and breaks the connection instead of answering.
 *
 * @category constructors
 * @since 0.1.0
 */
export const lostAnswer: Fault = (serve) => Effect.as(serve, { _tag: "Reset" })

/**
 * Acts, and answers with the beginning of something that is no JSON.
 *
 * @category constructors
 * @since 0.1.0
 */
export const malformed: Fault = (serve) =>
  Effect.map(serve, (response) =>
    response._tag === "Body"
      ? { ...response, headers: { "content-type": "application/json" }, status: 200, body: "{\"id\": \"trunc" }
      : response)

/**
 * Answers with the page of a web application, as a proxy or another program on that port does. Does not act.
 *
 * @category constructors
 * @since 0.1.0
 */
export const htmlPage: Fault = () => Effect.succeed(html)

/**
 * Never answers, and does not act.
 *
 * @category constructors
 * @since 0.1.0
 */
export const hang: Fault = () => Effect.never

/**
 * Acts, and never answers.
 *
 * @category constructors
 * @since 0.1.0
 */
export const hangAfter: Fault = (serve) => Effect.andThen(serve, Effect.never)

/**
 * Acts and answers late, by the `Clock`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const delay = (duration: Duration.Input): Fault => (serve) =>
  Effect.delay(serve, Duration.fromInputUnsafe(duration))

/**
 * Waits at a gate before it acts.
 *
 * @category constructors
 * @since 0.1.0
 */
export const holdAt = (name: string): Fault => (serve, gate) => Effect.andThen(gate(name), serve)

/**
 * Acts, and waits at a gate before it answers.
 *
 * @category constructors
 * @since 0.1.0
 */
export const holdAnswerAt = (name: string): Fault => (serve, gate) => Effect.tap(serve, () => gate(name))

/**
 * The faults that still have to hit.
 *
 * @category models
 * @since 0.1.0
 */
export interface FaultPlan {
  readonly add: (matcher: RequestMatcher, fault: Fault, times: number) => void
  /** Takes the fault that hits the request; of several the one that was added first. */
  readonly take: (request: FakeRequest) => Fault | undefined
  readonly clear: () => void
}

/**
 * @category constructors
 * @since 0.1.0
 */
export const makePlan = (): FaultPlan => {
  const rules: Array<{ readonly matcher: RequestMatcher; readonly fault: Fault; times: number }> = []
  return {
    add: (matcher, fault, times) => {
      rules.push({ matcher, fault, times })
    },
    take: (request) => {
      const rule = rules.find(({ matcher, times }) => times > 0 && matches(matcher, request))
      if (rule !== undefined) rule.times--
      return rule?.fault
    },
    clear: () => {
      rules.length = 0
    }
  }
}

// internal

const matches = (matcher: RequestMatcher, request: FakeRequest): boolean => {
  if (typeof matcher === "function") return matcher(request)
  const { method, path } = matcher
  return (method === undefined || method === request.method) &&
    (path === undefined || (typeof path === "string" ? path === request.path : path.test(request.path)))
}
