/**
 * Broken and hostile servers: bodies, pages and event streams without end, and values that no server should send.
 *
 * **Responsibilities**: each behaviour as a `Fault`, and {@link behaviours}, a table of all behaviours with the requests that each one
 * affects.
 *
 * **Not responsibilities**: faults of an honest server in trouble (`Faults`), crashes (`FakeOpencode`), storms of events (`Storm`).
 *
 * **Example** (Running your own turn against each of them)
 *
 * ```ts
 * for (const behaviour of Hostile.behaviours()) {
 *   it.effect(`the turn ends: ${behaviour.name}`, () =>
 *     Effect.gen(function*() {
 *       yield* Hostile.unleash(behaviour)
 *       const result = yield* myTurn
 *       assert.isTrue(result.status === "completed" || result.error !== undefined)
 *     }).pipe(Effect.provide(FakeOpencode.layerTest())))
 * }
 * ```
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { gzipSync } from "node:zlib"
import { ConnectionReset } from "./Events.ts"
import { FakeOpencode } from "./FakeOpencode.ts"
import type { Fault, RequestMatcher } from "./Faults.ts"
import * as Faults from "./Faults.ts"
import { type FakeResponse, json, text } from "./Http.ts"

/**
 * A behaviour: its description, the requests that it affects, and its fault.
 *
 * @category models
 * @since 0.1.0
 */
export interface Behaviour {
  readonly name: string
  readonly hits: RequestMatcher
  readonly fault: Fault
}

/**
 * Applies the behaviour to the fake until its faults are cleared (`FakeOpencode.clearFaults`).
 *
 * @category running
 * @since 0.1.0
 */
export const unleash = ({ fault, hits }: Behaviour): Effect.Effect<void, never, FakeOpencode> =>
  Effect.flatMap(FakeOpencode, (fake) => fake.fail(hits, fault, Infinity))

/**
 * All behaviours, each with its requests. Some of them count what they send, so every call makes new ones.
 *
 * **Gotchas**
 *
 * `gzip bomb` needs a client that decompresses, and therefore `FakeServer`: the in-memory client reads its bytes as a broken response.
 *
 * @category constructors
 * @since 0.1.0
 */
export const behaviours = (): ReadonlyArray<Behaviour> => [
  ...Object.entries<Fault>({
    "an answer that never ends": endlessBody,
    "an error that never ends": endlessError,
    "a compressed answer that never ends": gzipBomb,
    "an answer that drips": drippingBody("1 second"),
    "headers that never come": Faults.hang,
    "a body that never comes": stalledBody,
    "a body that breaks in the middle": cutBody,
    "half a JSON": Faults.malformed,
    "an answer nested a million levels deep": deepJson(1_000_000),
    "a page of HTML": Faults.htmlPage,
    "an error page of HTML": htmlError,
    "an answer of another type": otherType,
    "a redirect": redirect("http://198.51.100.1/elsewhere"),
    "a status without a body": emptyStatus(204),
    "a status that is not modified": emptyStatus(304),
    "a status that informs": emptyStatus(103)
  }).flatMap(([name, fault]) =>
    Object.entries(requests).map(([request, hits]) => ({ name: `${name}, for ${request}`, hits, fault }))
  ),
  ...Object.entries<Fault>({
    "pages with ever another message": endlessPages(),
    "the same page with the same cursor": samePage("same"),
    "the same page with other cursors": samePage("other"),
    "empty pages with cursors": emptyPages(),
    "messages of another session": foreignMessages
  }).map(([name, fault]) => ({ name, hits: afterPrompt(requests["the messages"]), fault })),
  ...Object.entries<Fault>({
    "an event that never ends": endlessEvent,
    "one event of 65 MiB": hugeEvent(65 * 1024 * 1024),
    "one event of 10 MiB": hugeEvent(10 * 1024 * 1024),
    "events of nobody without end": eventFlood,
    "events that are no events": brokenEvents
  }).map(([name, fault]) => ({ name, hits: requests["the events"], fault })),
  ...Object.entries<Fault>({
    "numbers above all bounds": absurdNumbers("1e308"),
    "numbers below zero": absurdNumbers("-1e308"),
    "numbers that are no JSON": absurdNumbers("1e999"),
    "ids with a lone surrogate": oddIds("\\ud800"),
    "ids with NUL": oddIds("\\u0000"),
    "ids with pieces of a path": oddIds("/../.."),
    "ids of 1 MB": oddIds("x".repeat(1024 * 1024)),
    "message ids of 1 MB": oddIds("x".repeat(1024 * 1024), "msg"),
    "part ids of 1 MB": oddIds("x".repeat(1024 * 1024), "prt"),
    "call ids of 1 MB": oddIds("x".repeat(1024 * 1024), "call"),
    "ask ids of 1 MB": oddIds("x".repeat(1024 * 1024), "per|que"),
    "ask ids with pieces of a path": oddIds("/../..", "per|que"),
    "texts with NUL and a lone surrogate": oddTexts("\\u0000\\ud800")
  }).map(([name, fault]) => ({ name, hits: () => true, fault })),
  { name: "errors that repeat the credentials", hits: () => true, fault: credentialsInError },
  { name: "a tool input nested 50,000 levels deep", hits: () => true, fault: deepInput(50_000) }
]

/**
 * The requests of a turn, by their subject.
 *
 * @category constants
 * @since 0.1.0
 */
export const requests = {
  "the health": { method: "GET", path: "/global/health" },
  "the folder": { method: "GET", path: "/path" },
  "a new session": { method: "POST", path: "/session" },
  "the session": { method: "GET", path: /^\/session\/(?!status$)[^/]+$/ },
  "the status": { method: "GET", path: "/session/status" },
  "the messages": { method: "GET", path: /^\/session\/[^/]+\/message$/ },
  "the prompt": { method: "POST", path: /\/prompt_async$/ },
  "the events": { method: "GET", path: "/event" },
  "the end": { method: "GET", path: /\/(?:children|diff|todo)$|^\/(?:permission|question)$/ }
} as const satisfies Readonly<Record<string, RequestMatcher>>

// Bodies

/**
 * Answers with blanks that never end, and does not act.
 *
 * @category constructors
 * @since 0.1.0
 */
export const endlessBody: Fault = () => Effect.succeed(stream(200, Stream.forever(Stream.succeed(blanks))))

/**
 * Answers with an error whose details never end, and does not act.
 *
 * @category constructors
 * @since 0.1.0
 */
export const endlessError: Fault = () => Effect.succeed(stream(500, Stream.forever(Stream.succeed(blanks))))

/**
 * Answers with an endless compressed body whose every KiB expands to a MiB, and does not act.
 *
 * @category constructors
 * @since 0.1.0
 */
export const gzipBomb: Fault = () =>
  Effect.sync(() =>
    stream(200, Stream.forever(Stream.succeed(gzipSync(new Uint8Array(1024 * 1024).fill(blank)))), {
      "content-encoding": "gzip"
    })
  )

/**
 * Answers with one blank after another, with a pause before each, by the `Clock`. Does not act.
 *
 * @category constructors
 * @since 0.1.0
 */
export const drippingBody = (pause: Duration.Input): Fault => () =>
  Effect.succeed(
    stream(
      200,
      Stream.forever(Stream.fromEffect(Effect.delay(Effect.succeed(blanks.subarray(0, 1)), pause)))
    )
  )

/**
 * Answers with headers but never with a body. Does not act.
 *
 * @category constructors
 * @since 0.1.0
 */
export const stalledBody: Fault = () => Effect.succeed(stream(200, Stream.never))

/**
 * Acts, answers with the first half of the body, and breaks the connection.
 *
 * @category constructors
 * @since 0.1.0
 */
export const cutBody: Fault = (serve) =>
  Effect.map(serve, (response) => {
    if (response._tag !== "Body") return response
    const bytes = encoder.encode(response.body)
    const half = Stream.succeed(bytes.subarray(0, bytes.length / 2))
    return stream(response.status, Stream.concat(half, Stream.fail(new ConnectionReset())), response.headers)
  })

/**
 * Answers with nested lists, and does not act.
 *
 * @category constructors
 * @since 0.1.0
 */
export const deepJson = (levels: number): Fault => () =>
  Effect.sync(() => text(200, "application/json", "[".repeat(levels) + "]".repeat(levels)))

/**
 * Acts, and says that the answer is a picture.
 *
 * @category constructors
 * @since 0.1.0
 */
export const otherType: Fault = (serve) =>
  Effect.map(
    serve,
    (response) =>
      response._tag === "Reset"
        ? response
        : { ...response, headers: { ...response.headers, "content-type": "image/png" } }
  )

/**
 * Answers like a proxy without a server behind it: 502 and a page of HTML. Does not act.
 *
 * @category constructors
 * @since 0.1.0
 */
export const htmlError: Fault = () =>
  Effect.succeed(text(502, "text/html", "<html><head><title>502 Bad Gateway</title></head></html>"))

/**
 * Redirects the client, and does not act.
 *
 * @category constructors
 * @since 0.1.0
 */
export const redirect = (location: string): Fault => () => Effect.succeed(text(302, "", "", { location }))

/**
 * Answers with a status without a body, and does not act. Over a network, Node does not send a status below 200 as a response.
 *
 * @category constructors
 * @since 0.1.0
 */
export const emptyStatus = (status: number): Fault => () => Effect.succeed(text(status, "", ""))

/**
 * Answers with an error that repeats the request's credentials, and does not act.
 *
 * @category constructors
 * @since 0.1.0
 */
export const credentialsInError: Fault = (_serve, _gate, { headers }) =>
  Effect.succeed(json(500, {
    name: `Error ${headers["authorization"]}`,
    data: { message: `the request failed: authorization: ${headers["authorization"]}` }
  }))

// Pages

/**
 * Answers each page of a session's messages with another foreign message, newer than all others, and with a new cursor.
 *
 * @category constructors
 * @since 0.1.0
 */
export const endlessPages = (delay: Duration.Input = Duration.zero): Fault => {
  let count = 0
  return (_serve, _gate, { path }) =>
    Effect.delay(
      Effect.sync(() => {
        count++
        return json(200, [stranger(path, `msg_ffffff${String(count).padStart(6, "0")}Stranger`)], {
          "x-next-cursor": `cursor_${count}`
        })
      }),
      Duration.fromInputUnsafe(delay)
    )
}

/**
 * Answers each page of a session's messages with the same message and a cursor, which is either always the same or always new.
 *
 * @category constructors
 * @since 0.1.0
 */
export const samePage = (cursor: "same" | "other"): Fault => {
  let count = 0
  return (_serve, _gate, { path }) =>
    Effect.sync(() =>
      json(200, [stranger(path, "msg_ffffffffffffStranger")], {
        "x-next-cursor": `cursor_${cursor === "same" ? 0 : ++count}`
      })
    )
}

/**
 * Answers each page of a session's messages with an empty page and a new cursor.
 *
 * @category constructors
 * @since 0.1.0
 */
export const emptyPages = (): Fault => {
  let count = 0
  return () => Effect.sync(() => json(200, [], { "x-next-cursor": `cursor_${++count}` }))
}

/**
 * Acts, and marks each message and part in the response as belonging to another session.
 *
 * @category constructors
 * @since 0.1.0
 */
export const foreignMessages: Fault = rewritten((text) =>
  text.replaceAll(/"sessionID":"[^"]*"/g, `"sessionID":"ses_somebodyElse"`)
)

// Events

/**
 * An event stream with a single line that never ends.
 *
 * @category constructors
 * @since 0.1.0
 */
export const endlessEvent: Fault = onEvents((events) =>
  Stream.concat(
    Stream.take(events, 1),
    Stream.concat(Stream.succeed(dataField), Stream.forever(Stream.succeed(blanks)))
  )
)

/**
 * An event stream that begins with one event of at least `bytes` bytes, and then continues as usual.
 *
 * @category constructors
 * @since 0.1.0
 */
export const hugeEvent = (bytes: number): Fault =>
  onEvents((events) =>
    Stream.concat(
      Stream.take(events, 1),
      Stream.concat(
        Stream.fromArray([
          encoder.encode(`data: {"id":"evt_1","type":"huge","properties":{"text":"`),
          ...Array.from({ length: Math.ceil(bytes / blanks.length) }, () => blanks),
          encoder.encode(`"}}\n\n`)
        ]),
        events
      )
    )
  )

/**
 * An event stream that contains only events of an unknown session, as fast as they are read.
 *
 * @category constructors
 * @since 0.1.0
 */
export const eventFlood: Fault = onEvents((events) => {
  const event = `data: {"id":"evt_1","type":"session.idle","properties":{"sessionID":"ses_somebodyElse"}}\n\n`
  const many = encoder.encode(event.repeat(1000))
  return Stream.concat(Stream.take(events, 1), Stream.forever(Stream.fromEffect(Effect.as(Effect.yieldNow, many))))
})

/**
 * An event stream with an invalid event before each event: invalid JSON, JSON of other shapes, unknown types, unknown fields.
 *
 * @category constructors
 * @since 0.1.0
 */
export const brokenEvents: Fault = onEvents((events) =>
  Stream.map(events, (bytes) => Buffer.concat([notEvents, bytes]))
)

// Values

/**
 * Acts, and replaces every number in the response, or in the events.
 *
 * @category constructors
 * @since 0.1.0
 */
export const absurdNumbers = (number: string): Fault =>
  rewritten((text) => text.replaceAll(/(?<=":)-?\d[\d.e+-]*(?=[,}])/g, () => number))

/**
 * Acts, and appends this piece of JSON to every id in the response, or in the events. `kinds` are the prefixes of the affected ids:
 * sessions, messages, parts, calls and asks by default.
 *
 * @category constructors
 * @since 0.1.0
 */
export const oddIds = (end: string, kinds = "ses|msg|prt|call|per|que"): Fault => {
  const ids = new RegExp(`(?<=")(?:${kinds})_\\w+(?=")`, "g")
  return rewritten((text) => text.replaceAll(ids, (id) => id + end))
}

/**
 * Acts, and appends this piece of JSON to every text of an agent, in the response or in the events.
 *
 * @category constructors
 * @since 0.1.0
 */
export const oddTexts = (end: string): Fault =>
  rewritten((text) => text.replaceAll(/"(?:text|title|output|delta|error|message)":"[^"\\]+(?=")/g, (it) => it + end))

/**
 * Acts, and replaces every tool input that is not empty by an object of that many levels, in the response or in the events.
 *
 * @category constructors
 * @since 0.1.0
 */
export const deepInput = (levels: number): Fault =>
  rewritten((text) =>
    text.replaceAll(/"input":\{"[^{}]*\}/g, () => `"input":${`{"a":`.repeat(levels)}1${"}".repeat(levels)}`)
  )

/**
 * Acts, and changes the text of the response. In an event stream it changes every piece separately, because the fake sends whole events.
 *
 * @category constructors
 * @since 0.1.0
 */
export function rewritten(change: (text: string) => string): Fault {
  return (serve) =>
    Effect.map(serve, (response): FakeResponse => {
      switch (response._tag) {
        case "Body":
          return { ...response, body: change(response.body) }
        case "Events":
          return {
            ...response,
            stream: Stream.map(response.stream, (bytes) => encoder.encode(change(decoder.decode(bytes))))
          }
        case "Reset":
          return response
      }
    })
}

/**
 * Acts, and changes an event stream, which arrives in whole events. Other responses stay unchanged.
 *
 * @category constructors
 * @since 0.1.0
 */
export function onEvents(
  change: (events: Stream.Stream<Uint8Array, ConnectionReset>) => Stream.Stream<Uint8Array, ConnectionReset>
): Fault {
  return (serve) =>
    Effect.map(
      serve,
      (response) => response._tag === "Events" ? { ...response, stream: change(response.stream) } : response
    )
}

// internal

/** Waits until a prompt was posted, because an earlier fault would change the prompt's id. */
const afterPrompt = ({ method, path }: { readonly method: string; readonly path: RegExp }): RequestMatcher => {
  let isPrompted = false
  return (request) => {
    isPrompted ||= request.method === "POST" && requests["the prompt"].path.test(request.path)
    return isPrompted && request.method === method && path.test(request.path)
  }
}

const encoder = new TextEncoder()
const decoder = new TextDecoder()

const blank = " ".charCodeAt(0)
const blanks = new Uint8Array(64 * 1024).fill(blank)
const dataField = encoder.encode("data: ")

const notEvents = encoder.encode(
  [
    ":comment",
    "id: 7",
    "retry: 0",
    "field: without a meaning",
    "data",
    "data: ",
    "data: no JSON",
    "data: null",
    "data: []",
    "data: \"text\"",
    `data: {"type":"unheard.of","properties":{}}`,
    `data: {"type":"session.idle"}`,
    `data: {"type":"message.updated","properties":{"info":{}}}`,
    `data: {"type":"message.part.updated","properties":{"part":null}}`
  ].map((line) => `${line}\n\n`).join("")
)

const stream = (
  status: number,
  bytes: Stream.Stream<Uint8Array, ConnectionReset>,
  headers: Readonly<Record<string, string>> = {}
): FakeResponse => ({
  _tag: "Events",
  status,
  headers: { "content-type": "application/json", ...headers },
  stream: bytes
})

/** A response to the prompt of another client. */
const stranger = (path: string, id: string) => ({
  info: {
    role: "assistant",
    id,
    sessionID: path.split("/")[2],
    parentID: "msg_ffffff000000Prompt",
    time: { created: 1, completed: 2 },
    finish: "stop"
  },
  parts: []
})
