/** A gateway over the fake OpenCode and a store in memory, called as a server calls it: with a `Request`. */
import * as TurnJson from "#gateway/TurnJson"
import * as MemorySessionStore from "@opencode-turn/core/MemorySessionStore"
import * as Tracer from "@opencode-turn/core/Tracer"
import type { TurnServices } from "@opencode-turn/core/Turn"
import * as Gateway from "@opencode-turn/platform-node/gateway"
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"
import type { Step } from "@opencode-turn/testing/ModelScript"
import { Context, Effect, ErrorReporter, Layer, Schema, Scope } from "effect"
import { HttpEffect, type HttpServerRequest } from "effect/http"
import { TestClock } from "effect/testing"
import { setImmediate } from "node:timers/promises"

export const token = "a-token-of-the-tests"

/** What the error reporter got. */
export class Reports extends Context.Service<Reports, Array<Error>>()("test/Reports") {}

const layerReports = Layer.unwrap(Effect.sync(() => {
  const reports: Array<Error> = []
  return Layer.merge(
    Layer.succeed(Reports, reports),
    ErrorReporter.layer([ErrorReporter.make(({ error }) => void reports.push(error))])
  )
}))

export const layer = Layer.mergeAll(
  Layer.provideMerge(FakeOpencode.layerClient, FakeOpencode.layer()),
  MemorySessionStore.layer,
  Tracer.layerNoop
).pipe(Layer.provideMerge(layerReports))

export interface CallOptions {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  /** Sent as JSON; a string as it is. */
  readonly body?: unknown
  readonly token?: string | null
  readonly signal?: AbortSignal
}

export interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  /** The body, which has to fit the schema and to hold nothing else. */
  readonly as: <A>(schema: Schema.Codec<A, unknown>) => A
  /** The tag of an error, which has to be whole. */
  readonly tag: string
}

/** An event of a stream. */
export interface Event {
  readonly id: string | undefined
  readonly data: TurnJson.TurnUpdate
}

/** An open stream of events. */
export interface Following {
  readonly response: Response
  /** The events so far and, where they do not suffice, the next ones until they do. */
  readonly until: (isEnough: (events: ReadonlyArray<Event>) => boolean) => Effect.Effect<ReadonlyArray<Event>>
  /** The whole text so far and, where it does not suffice, what comes until it does, or ends. */
  readonly untilText: (isEnough: (text: string) => boolean) => Effect.Effect<string>
  /** All events to the end of the stream. */
  readonly rest: Effect.Effect<ReadonlyArray<Event>>
  /** The whole text so far, comments included. */
  readonly text: () => string
  readonly leave: Effect.Effect<void>
}

export interface TestGateway {
  readonly handle: (request: Request) => Promise<Response>
  readonly request: (path: string, options?: CallOptions) => Promise<Response>
  readonly call: (path: string, options?: CallOptions) => Effect.Effect<Answer>
  readonly follow: (path: string, options?: CallOptions) => Effect.Effect<Following>
  readonly makeLink: Effect.Effect<string | undefined>
  /** Opens a new link as a browser does. */
  readonly signIn: Effect.Effect<Page>
}

/** What a browser sends that is signed in: its cookie, and the key of its page. */
export interface Page {
  readonly token: null
  readonly headers: { readonly cookie: string; readonly "x-opencode-turn-key": string }
}

/** Redeems a link, whose whole address this is. */
export const redeem = (
  link: string,
  handle: (request: Request) => Promise<Response>,
  headers: Readonly<Record<string, string>> = {}
) =>
  handle(
    new Request(link.replace(/#.*/, ""), {
      method: "POST",
      headers: { ...headers, "x-opencode-turn-code": new URL(link).hash.slice(1) }
    })
  )

/** What a browser that opened the link keeps of the answer. */
export const signedIn = async (response: Response): Promise<Page> => {
  const [cookie = ""] = (response.headers.get("set-cookie") ?? "").split("; ")
  const { key } = Schema.decodeUnknownSync(Schema.Struct({ home: Schema.String, key: Schema.String }))(
    await response.json()
  )
  return { token: null, headers: { cookie, "x-opencode-turn-key": key } }
}

/** Opens a gateway for as long as the scope lives. */
export const open = Effect.fnUntraced(function*(
  options: Partial<Gateway.Options> = {},
  origin?: string
): Effect.fn.Return<TestGateway, never, TurnServices | Scope.Scope> {
  const { handle, makeLink } = yield* raw(options)
  return of(handle, makeLink, origin)
})

/** The handler itself. */
export const raw = Effect.fnUntraced(function*(
  options: Partial<Gateway.Options> = {}
): Effect.fn.Return<
  { readonly handle: (request: Request) => Promise<Response>; readonly makeLink: Effect.Effect<string | undefined> },
  never,
  TurnServices | Scope.Scope
> {
  const credentials = options.authorize === undefined ? { token } : {}
  const { handle, makeLink } = yield* Effect.orDie(Gateway.make({ ...credentials, ...options } as Gateway.Options))
  const context = yield* Effect.context<TurnServices>()
  const web = HttpEffect.toWebHandlerWith<TurnServices, HttpServerRequest.HttpServerRequest | Scope.Scope>(
    Context.omit(Scope.Scope)(context)
  )(handle)
  return { handle: (request: Request) => web(request), makeLink }
})

/** Calls a handler. */
export const of = (
  handle: (request: Request) => Promise<Response>,
  makeLink: Effect.Effect<string | undefined> = Effect.undefined,
  origin = "http://localhost:4097"
): TestGateway => {
  const request = (path: string, options: CallOptions = {}) => {
    const { body, headers, method = body === undefined ? "GET" : "POST", signal } = options
    const given = options.token === undefined ? token : options.token
    return handle(
      new Request(`${origin}${path}`, {
        method,
        headers: {
          ...(given !== null && { authorization: `Bearer ${given}` }),
          ...(body !== undefined && { "content-type": "application/json" }),
          ...headers
        },
        ...(body !== undefined && { body: typeof body === "string" ? body : JSON.stringify(body) }),
        ...(signal !== undefined && { signal })
      })
    )
  }
  const call = (path: string, options?: CallOptions) =>
    Effect.promise(async (): Promise<Answer> => {
      const response = await request(path, options)
      const text = await response.text()
      return {
        status: response.status,
        headers: response.headers,
        text,
        as: (schema) =>
          Schema.decodeSync(Schema.fromJsonString(Schema.toCodecJson(schema)), { onExcessProperty: "error" })(text),
        get tag() {
          return decodeError(text)._tag
        }
      }
    })
  const follow = (path: string, options?: CallOptions) =>
    Effect.promise(async () => reading(await request(path, options)))
  const signIn = Effect.flatMap(
    makeLink,
    (link) => Effect.promise(async () => signedIn(await redeem(`${origin}${link}`, handle)))
  )
  return { handle, request, call, follow, makeLink, signIn }
}

/** An error of the gateway, which has no other fields. */
const decodeError = Schema.decodeSync(
  Schema.fromJsonString(
    Schema.Struct({ _tag: Schema.String, message: Schema.NonEmptyString, advice: Schema.NonEmptyString })
  ),
  { onExcessProperty: "error" }
)

const decodeUpdate = Schema.decodeSync(Schema.fromJsonString(Schema.toCodecJson(TurnJson.TurnUpdate)), {
  onExcessProperty: "error"
})

const toEvents = (text: string): ReadonlyArray<Event> =>
  text.split("\n\n").slice(0, -1).flatMap((block) => {
    const [, data] = /^data: (.*)$/m.exec(block) ?? []
    const [, id] = /^id: (.*)$/m.exec(block) ?? []
    return data === undefined ? [] : [{ id, data: decodeUpdate(data) }]
  })

const reading = (response: Response): Following => {
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader()
  let text = ""
  const untilText: Following["untilText"] = (isEnough) =>
    Effect.promise(async () => {
      while (!isEnough(text)) {
        const { done, value } = (await reader?.read()) ?? { done: true, value: undefined }
        if (done) return text
        text += value
      }
      return text
    })
  const until: Following["until"] = (isEnough) => Effect.map(untilText((text) => isEnough(toEvents(text))), toEvents)
  return {
    response,
    until,
    untilText,
    rest: until(() => false),
    text: () => text,
    leave: Effect.promise(async () => await reader?.cancel())
  }
}

/** A prompt for `POST /conversations/{id}/turns`, with what the model is to say. */
export const start = (steps: ReadonlyArray<Step>) => ({ prompt: FakeOpencode.prompt("Do it.", steps) })

/** The text that the events show: the reply of the turn's own session. */
export const textOf = (events: ReadonlyArray<Event>): string => {
  const parts = new Map<string, string>()
  for (const { data } of events) {
    if (data.type === "reset") {
      parts.clear()
      for (const part of data.parts) if (part.type === "text") parts.set(part.id, part.text)
    }
    if (data.type === "text.delta") parts.set(data.partId, (parts.get(data.partId) ?? "") + data.delta)
    if (data.type === "part" && data.part.type === "text") parts.set(data.part.id, data.part.text)
  }
  return Array.from(parts.values()).join("")
}

/** Lets the clock run while the effect does. */
export const passing = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.raceFirst(
    effect,
    Effect.forever(Effect.andThen(TestClock.adjust("250 millis"), Effect.promise(() => setImmediate())))
  )
