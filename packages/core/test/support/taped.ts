/** A server that answers every prompt with a recorded turn under the ids of that prompt. Its events and messages may be odd. */
import * as Client from "@opencode-turn/core/Client"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import * as MemorySessionStore from "@opencode-turn/core/MemorySessionStore"
import * as Tracer from "@opencode-turn/core/Tracer"
import { runTurn } from "@opencode-turn/core/Turn"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import type { FakeRequest, FakeResponse } from "@opencode-turn/testing/FakeHttp"
import * as FakeHttp from "@opencode-turn/testing/FakeHttp"
import * as FakeHttpClient from "@opencode-turn/testing/FakeHttpClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { readdirSync, readFileSync } from "node:fs"

/** JSON as a server sends it. */
export type Wire = Readonly<Record<string, unknown>>

export interface Recording {
  readonly name: string
  readonly sessionId: string
  readonly promptId: string
  readonly events: ReadonlyArray<Wire>
  readonly messages: ReadonlyArray<Wire>
}

/** The events that a server sends of a turn, and the messages that it stores. */
export interface Told {
  readonly events: ReadonlyArray<unknown>
  readonly messages: ReadonlyArray<unknown>
}

const utf8 = new TextEncoder()
const frame = (event: unknown) => utf8.encode(`data: ${JSON.stringify(event)}\n\n`)

const idOf = (message: unknown): unknown =>
  Predicate.hasProperty(message, "info") && Predicate.hasProperty(message.info, "id") ? message.info.id : undefined

/** The same values with the ids of another prompt. */
const renamed = (value: ReadonlyArray<unknown>, names: ReadonlyArray<readonly [string, string]>) =>
  JSON.parse(names.reduce((json, [from, to]) => json.replaceAll(from, to), JSON.stringify(value)))

/**
 * The server answers the first prompt with `told`, and a second one as the recording says. Each message of `told` can be read under its
 * recorded id, because the id in the message itself may be odd.
 */
export const makeServer = (recording: Recording, told: Told) => {
  const events = Queue.unbounded<Uint8Array>()
  return Effect.gen(function*() {
    const queue = yield* events
    const stored: Array<{ readonly id: string; readonly message: unknown }> = []
    let prompts = 0
    const created = recording.events.find(({ type }) => type === "session.created")
    const session = Predicate.hasProperty(created?.["properties"], "info") ? created["properties"].info : {}

    const answer = (body: string) => {
      const promptId: unknown = JSON.parse(body).messageID
      const n = prompts++
      const bits = BigInt(`0x${String(promptId).slice(4, 16)}`)
      const ids = recording.messages.map(idOf).map(String)
      const names = ids.map((id, index): readonly [string, string] =>
        id === recording.promptId
          ? [id, String(promptId)]
          : n === 0
          ? [id, id]
          : [id, `msg_${(bits + BigInt(index + 1)).toString(16).padStart(12, "0")}second${id.slice(22)}`]
      )
      const parts = n === 0 ? [] : [["\"prt_", "\"prt_2"] as const]
      const said = n === 0 ? told : { events: recording.events, messages: recording.messages }
      const messages: ReadonlyArray<unknown> = renamed(said.messages, [...names, ...parts])
      messages.forEach((message, index) => stored.push({ id: names[index]?.[1] ?? "", message }))
      const sent: ReadonlyArray<unknown> = renamed(said.events, [...names, ...parts])
      Queue.offerAllUnsafe(queue, sent.map(frame))
    }

    const handle = ({ body, method, path, query }: FakeRequest): FakeResponse => {
      const own = `/session/${recording.sessionId}`
      if (path === "/global/health") return FakeHttp.json(200, { healthy: true, version: "1.18.33" })
      if (path === "/event") {
        const hello = Stream.make(frame({ type: "server.connected", properties: {} }))
        return {
          _tag: "Events",
          headers: { "content-type": "text/event-stream" },
          stream: Stream.concat(hello, Stream.fromQueue(queue))
        }
      }
      if (path === "/path") return FakeHttp.json(200, { directory: recordedDirectory(recording) })
      if (path === "/session/status") return FakeHttp.json(200, {})
      if (method === "POST" && path.endsWith("/prompt_async")) {
        answer(body)
        return { _tag: "Body", status: 204, headers: {}, body: "" }
      }
      if (method === "POST" && path === "/session") return FakeHttp.json(200, session)
      if (method !== "GET") return FakeHttp.json(200, true)
      if (path === own) return FakeHttp.json(200, session)
      if (path === `${own}/message`) {
        return FakeHttp.json(200, stored.slice(-Number(query["limit"])).map(({ message }) => message))
      }
      const one = stored.find(({ id }) => path === `${own}/message/${id}`)
      if (one !== undefined) return FakeHttp.json(200, one.message)
      return path.includes("/message/") ? FakeHttp.json(404, { name: "NotFoundError" }) : FakeHttp.json(200, [])
    }
    return { handle: (request: FakeRequest) => Effect.sync(() => handle(request)), prompts: () => prompts, stored }
  })
}

/** Runs a turn to its end. Undefined if it has not ended after an hour of the test clock. */
const turn = Effect.fnUntraced(function*(messageId: string) {
  const fiber = yield* runTurn({ conversationId: "c", messageId, prompt: "go" }).pipe(
    // The recordings have one prompt. A refusal with a reason would need a second one, which tells the agent the reason.
    Effect.provideService(HumanGate.HumanGate, () => Effect.succeed({ _tag: "Reject" })),
    Effect.forkChild
  )
  // A turn that does not wait for the clock ends soon. A turn that waits for it gets an hour.
  for (let yields = 0; yields < 2000 && fiber.pollUnsafe() === undefined; yields++) yield* Effect.yieldNow
  for (let second = 0; second < 3600 && fiber.pollUnsafe() === undefined; second++) yield* TestClock.adjust("1 second")
  const exit = fiber.pollUnsafe()
  return exit === undefined ? undefined : yield* exit
})

export interface Ended {
  readonly first: TurnResult | undefined
  readonly second: TurnResult | undefined
  readonly prompts: number
}

/** The recordings are older than this, so that no retry in them is announced for later. */
const recordedMillis = Date.UTC(2026, 10, 24)

/** Runs a turn against `told`, and then the next turn of the same conversation if that is wanted. */
export const runTwice = Effect.fnUntraced(function*(recording: Recording, told: Told, isNextRun: boolean) {
  const server = yield* makeServer(recording, told)
  yield* TestClock.setTime(recordedMillis)
  return yield* Effect.gen(function*() {
    const first = yield* turn("first")
    const prompts = server.prompts()
    const ended: Ended = { first, second: isNextRun ? yield* turn("second") : undefined, prompts }
    return ended
  }).pipe(
    Effect.scoped,
    Effect.provide(Layer.mergeAll(
      Layer.provide(
        Client.layer({ baseUrl: "http://taped.test" }),
        FakeHttpClient.layerHttpClient(server.handle)
      ),
      MemorySessionStore.layer,
      Tracer.layerNoop
    ))
  )
})

/** The folder of the recorded sessions, read from the recording and not from the events that may be odd. */
const recordedDirectory = ({ events }: Recording): string =>
  /"directory":"([^"]*)"/.exec(JSON.stringify(events))?.[1] ?? "/"

const directory = new URL("../fixtures/", import.meta.url)

export const recordings: ReadonlyArray<Recording> = readdirSync(directory).filter((name) => name.endsWith(".json")).map(
  (file) => {
    const { events, ...recording } = JSON.parse(readFileSync(new URL(file, directory), "utf8"))
    // The fake server announces a live connection itself. A later `server.connected` would stand for a restart.
    return { name: file.replace(".json", ""), ...recording, events: events.slice(1) }
  }
)
