/** Turns on the fake OpenCode: all that a test gives them and looks at, in one layer. */
import { assert, it } from "@effect/vitest"
import { Client } from "@opencode-turn/core/Client"
import { AssistantMessageId, ConversationId } from "@opencode-turn/core/Ids"
import * as MemorySessionStore from "@opencode-turn/core/MemorySessionStore"
import type { Part } from "@opencode-turn/core/Part"
import type { ReplyUpdate } from "@opencode-turn/core/ReplyUpdate"
import { SessionStore, StoreError } from "@opencode-turn/core/SessionStore"
import * as Tracer from "@opencode-turn/core/Tracer"
import type { TurnUpdate } from "@opencode-turn/core/Turn"
import { detailsOf } from "@opencode-turn/core/TurnError"
import type { TurnError } from "@opencode-turn/core/TurnError"
import type { TurnInput } from "@opencode-turn/core/TurnInput"
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as ErrorReporter from "effect/ErrorReporter"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"

export type Store = SessionStore["Service"]

export interface Options {
  readonly fake?: FakeOpencode.Options
  /** Replaces methods of the store in memory. */
  readonly store?: (store: Store) => Partial<Store>
  /** Replaces methods of the client. */
  readonly client?: (client: Client["Service"]) => Partial<Client["Service"]>
  readonly trace?: Tracer.Options
}

export interface Report {
  readonly message: string
  readonly severity: string
  readonly attributes: Readonly<Record<string, unknown>>
  readonly error: Error
}

/** What the test looks at besides the fake, the store and the trace. */
export class Watch extends Context.Service<Watch, {
  /** What the error reporter got. */
  readonly reports: Effect.Effect<ReadonlyArray<Report>>
  /** How many fibers wait for the clock. */
  readonly sleepers: Effect.Effect<number>
}>()("test/Watch") {}

export type Services = FakeOpencode.FakeOpencode | Client | SessionStore | Tracer.Tracer | Tracer.TraceLog | Watch

const layerWatch = Layer.unwrap(Effect.gen(function*() {
  const clock = yield* Clock.Clock
  const reports: Array<Report> = []
  let sleepers = 0
  const counting: Clock.Clock = {
    ...clock,
    sleep: (duration) =>
      Effect.acquireUseRelease(
        Effect.sync(() => {
          sleepers++
        }),
        () => clock.sleep(duration),
        () =>
          Effect.sync(() => {
            sleepers--
          })
      )
  }
  return Layer.mergeAll(
    Layer.succeed(Clock.Clock, counting),
    Layer.succeed(
      Watch,
      Watch.of({ reports: Effect.sync(() => reports.slice()), sleepers: Effect.sync(() => sleepers) })
    ),
    ErrorReporter.layer([
      ErrorReporter.make(({ attributes, error, severity }) => {
        reports.push({ message: error.message, severity, attributes, error })
      })
    ])
  )
}))

const replaced = <A extends object>(self: A, replace?: (self: A) => Partial<A>): A => ({ ...self, ...replace?.(self) })

export const layer = (options: Options = {}): Layer.Layer<Services> => {
  const client = Layer.effect(Client, Effect.map(Client, (client) => Client.of(replaced(client, options.client))))
  const store = Layer.effect(
    SessionStore,
    Effect.map(MemorySessionStore.make, (store) => SessionStore.of(replaced(store, options.store)))
  )
  return Layer.mergeAll(
    Layer.provideMerge(Layer.provide(client, FakeOpencode.layerClient), FakeOpencode.layer(options.fake)),
    store,
    Tracer.layerCollect(options.trace)
  ).pipe(Layer.provideMerge(layerWatch))
}

/** A test after which no connection stays open, no fiber waits for the clock and no message is pending. */
export const test = <E>(
  name: string,
  body: () => Effect.Effect<void, E, Services | Scope.Scope>,
  options?: Options
) =>
  it.effect(name, () =>
    Effect.gen(function*() {
      yield* Effect.scoped(body())
      yield* rest
      const fake = yield* FakeOpencode.FakeOpencode
      const watch = yield* Watch
      // A live event connection is kept for the next turn: its silence and its idle time are counted, and the fake's heart beats.
      const kept = yield* fake.eventConnections
      assert.strictEqual(yield* watch.sleepers, 3 * kept, "fibers that wait for the clock")
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(yield* fake.eventConnections, 0, "open connections")
      assert.strictEqual(yield* watch.sleepers, 0, "fibers that wait for the clock")
    }).pipe(Effect.provide(layer(options))))

/** Lets everything run that does not wait for the clock. */
export const rest: Effect.Effect<void> = Effect.repeat(Effect.yieldNow, { times: 200 })

export const conversationId = ConversationId.make("conversation")
export const messageId = AssistantMessageId.make("message")

export const turn = <E = never, R = never>(
  steps: ReadonlyArray<Step>,
  input: Partial<TurnInput<E, R>> = {}
): TurnInput<E, R> => ({ conversationId, messageId, prompt: FakeOpencode.prompt("Do it.", steps), ...input })

export const events = Effect.flatMap(Tracer.TraceLog, (log) => log.events)
export const names = Effect.map(events, (all) => all.map((event) => event.name.replace("opencode.", "")))
/** The payloads of one trace event. */
export const payloads = (name: Tracer.TraceName) =>
  Effect.map(events, (all) => all.flatMap((event) => (event.name === `opencode.${name}` ? [event.payload] : [])))
export const reports = Effect.flatMap(Watch, (watch) => watch.reports)
export const features = Effect.map(reports, (all) => all.map((report) => report.attributes["feature"]))

export const row = Effect.flatMap(
  SessionStore,
  (store) => Effect.map(store.getMessage(messageId), Option.getOrUndefined)
)

export const cancel = Effect.flatMap(SessionStore, (store) => store.cancel(messageId, "Stopped."))

/** The requests whose path ends like this. */
export const requests = (method: string, path: RegExp) =>
  Effect.flatMap(
    FakeOpencode.FakeOpencode,
    (fake) =>
      Effect.map(fake.requests, (all) => all.filter((request) => request.method === method && path.test(request.path)))
  )
export const prompts = requests("POST", /\/prompt_async$/)
export const aborts = requests("POST", /\/abort$/)
export const deletions = requests("DELETE", /^\/session\//)

export const unavailable = (operation: string, isRetryable = true) =>
  new StoreError({ operation, reason: "the disk is on fire", isRetryable })

/** The text that a reader of the updates shows in the end. */
export const readText = (updates: ReadonlyArray<ReplyUpdate | TurnUpdate>): string => {
  let texts = new Map<string, string>()
  for (const update of updates) {
    switch (update._tag) {
      case "TextDelta":
        texts.set(update.partId, (texts.get(update.partId) ?? "") + update.delta)
        break
      case "PartChanged":
        if (update.part.type === "text") texts.set(update.part.id, update.part.text)
        else texts.delete(update.part.id)
        break
      case "PartRemoved":
        texts.delete(update.partId)
        break
      case "Reset":
        texts = new Map(textsOf(update.parts))
        break
      default:
    }
  }
  return [...texts.values()].filter((text) => text !== "").join("\n\n")
}

const textsOf = (parts: ReadonlyArray<Part>): ReadonlyArray<readonly [string, string]> =>
  parts.flatMap((part) => (part.type === "text" ? [[part.id, part.text] as const] : []))

/** The error that a turn ended with, as its message is to hold it. */
export const storedError = (error: TurnError | undefined) =>
  error === undefined ? null : { tag: error._tag, message: error.message, details: detailsOf(error) }
