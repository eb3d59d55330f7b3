/**
 * Runs a turn and shows it, for people or for programs.
 *
 * *Responsibilities*: the updates in their order, the prompts between them, and the end of the turn, which is shown however it
 * came about, also when the command is interrupted.
 *
 * *Not responsibilities*: the services of the turn, exit codes.
 */
import type { Client } from "@opencode-turn/core/Client"
import type { Gate } from "@opencode-turn/core/HumanGate"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import { type AskId, AssistantMessageId } from "@opencode-turn/core/Ids"
import type { ReplyUpdate } from "@opencode-turn/core/ReplyUpdate"
import { SessionStore, type StoredMessage, type StoreError } from "@opencode-turn/core/SessionStore"
import type { Tracer } from "@opencode-turn/core/Tracer"
import { streamTurn } from "@opencode-turn/core/Turn"
import type { TurnInput } from "@opencode-turn/core/TurnInput"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import type * as Prompt from "effect/cli/Prompt"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import * as TerminalGate from "../../terminal/TerminalGate.ts"
import { line } from "../../terminal/TerminalText.ts"
import type { Failure } from "../setup/Failure.ts"
import type { Mode } from "../setup/Permissions.ts"
import * as StoreGate from "../setup/StoreGate.ts"
import { Output } from "../setup/Streams.ts"
import type { Ending } from "./Ending.ts"
import * as JsonLines from "./JsonLines.ts"
import * as Screen from "./Screen.ts"

/** Shows a turn. */
export interface View {
  readonly update: (update: ReplyUpdate) => Effect.Effect<void>
  /** Shows a line of our own. */
  readonly note: (text: string) => Effect.Effect<void>
  /** Shows the time that passes; to be run about once a second. */
  readonly tick: Effect.Effect<void>
  /** Makes room for something else that uses the terminal. */
  readonly pause: Effect.Effect<void>
  /** Shows that the turn waits, and for which one, if that is known. */
  readonly wait: (waiting: StoredMessage, running: StoredMessage | undefined) => Effect.Effect<void>
  readonly finish: (ending: Ending) => Effect.Effect<void>
  /** Shows the failure of a command whose turn came to no end. People are told on standard error in any case. */
  readonly fail: (failure: Failure, conversation: string | undefined) => Effect.Effect<void>
}

/** For people, see `Screen`; `hasValue` where the answer is a value. */
export const human = Effect.fnUntraced(function*(
  options: { readonly hasValue?: boolean; readonly permission?: Mode } = {}
): Effect.fn.Return<View, never, Output> {
  const output = yield* Output
  let screen = Screen.make({
    ...output,
    columns: output.columns(),
    hasValue: options.hasValue === true,
    // The prompt tells all of it, and so does the note on how it is answered.
    areAsksNamed: options.permission === "ask" || options.permission === "store"
  })
  const show = (step: (screen: Screen.Screen) => Screen.Step) =>
    Effect.suspend(() => {
      const [next, writes] = step({ ...screen, options: { ...screen.options, columns: output.columns() } })
      screen = next
      return Effect.forEach(writes, ({ text, to }) => output[to](text), { discard: true })
    })
  return {
    update: (update) => show((screen) => Screen.update(screen, update)),
    note: (text) => show((screen) => Screen.note(screen, text)),
    tick: Effect.flatMap(Clock.currentTimeMillis, (nowMillis) => show((screen) => Screen.tick(screen, nowMillis))),
    pause: show(Screen.pause),
    wait: (waiting, running) => show((screen) => Screen.note(screen, describeWait(waiting, running))),
    finish: (ending) => show((screen) => Screen.finish(screen, ending)),
    fail: () => Effect.void
  }
})

/** For programs, see `JsonLines`. What only people want to know is left out. The last line is the end, once. */
export const json: Effect.Effect<View, never, Output> = Effect.map(Output, (output) => {
  let hasEnded = false
  const end = (text: string) =>
    Effect.suspend(() => {
      if (hasEnded) return Effect.void
      hasEnded = true
      return output.answer(text)
    })
  return {
    update: (update) => output.answer(JsonLines.fromUpdate(update)),
    note: () => Effect.void,
    tick: Effect.void,
    pause: Effect.void,
    wait: (waiting, running) => output.answer(JsonLines.fromWait(waiting, running)),
    finish: (ending) => end(JsonLines.fromEnding(ending)),
    fail: (failure, conversation) => end(JsonLines.fromFailure(failure, conversation))
  }
})

/**
 * Runs the turn. Its end is shown before this ends, and also when this is interrupted, once the turn has been stopped.
 */
export const run = Effect.fnUntraced(function*(
  input: TurnInput,
  options: { readonly view: View; readonly permission: Mode; readonly onQuit: Effect.Effect<void> }
): Effect.fn.Return<
  TurnResult | undefined,
  StoreError,
  Client | SessionStore | Tracer | Output | Prompt.Environment
> {
  const { view } = options
  // Whoever holds it has the terminal: the updates, or one prompt.
  const terminal = yield* Semaphore.make(1)
  const asked = new Map<AskId, Deferred.Deferred<void>>()
  const shownAsk = (id: AskId) => {
    const known = asked.get(id) ?? Deferred.makeUnsafe<void>()
    asked.set(id, known)
    return known
  }
  const alone: Alone = (ask, effect) =>
    // An ask that was found after a gap in the stream is not among the updates: the wait for its turn is bounded.
    Deferred.await(shownAsk(ask.id)).pipe(
      Effect.timeoutOption("250 millis"),
      Effect.andThen(terminal.withPermit(Effect.andThen(view.pause, effect)))
    )
  let result: TurnResult | undefined
  let hasBegun = false
  const begin = Effect.sync(() => {
    hasBegun = true
  })

  yield* streamTurn({
    ...input,
    onTurnFinished: (finished) =>
      Effect.sync(() => {
        result = finished
      })
  }).pipe(
    Stream.runForEach((update) =>
      update._tag === "Finished" ? Effect.void : terminal.withPermit(view.update(update)).pipe(
        Effect.andThen(Effect.sync(() => {
          if (update._tag === "Asked") Deferred.doneUnsafe(shownAsk(update.ask.id), Effect.void)
        })),
        Effect.andThen(begin)
      )
    ),
    Effect.raceFirst(
      tellWait(
        input.messageId,
        (waiting, running) => terminal.withPermit(Effect.andThen(begin, view.wait(waiting, running)))
      )
    ),
    Effect.raceFirst(
      terminal.withPermit(view.tick).pipe(Effect.repeat(Schedule.spaced("1 second")), Effect.andThen(Effect.never))
    ),
    tellSilence(Effect.suspend(() => (hasBegun ? Effect.void : terminal.withPermit(view.note(silence))))),
    Effect.provideService(HumanGate.HumanGate, yield* gateOf(options.permission, view, alone, options.onQuit)),
    Effect.ensuring(Effect.suspend(() => (result === undefined ? Effect.void : view.finish(result))))
  )
  return result
})

/** Tells that the server says nothing, where it takes long to. */
export const tellSilence =
  (tell: Effect.Effect<void>) => <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.flatMap(
      Effect.forkChild(Effect.delay(tell, "10 seconds")),
      (telling) => Effect.ensuring(effect, Fiber.interrupt(telling))
    )

/** What is told then. */
export const silence = "no word from the server yet; Ctrl-C gives up"

// internal

type Alone = NonNullable<TerminalGate.Options["alone"]>

const describeWait = (waiting: StoredMessage, running: StoredMessage | undefined): string =>
  `conversation ${line(waiting.conversationId)} is busy${running === undefined ? "" : ` with ${running.id}`}: ` +
  "this turn waits for the one before it"

/** Tells, once, when the turn waits for others of its conversation. Never ends. */
const tellWait = (
  id: string | undefined,
  tell: View["wait"]
): Effect.Effect<never, never, SessionStore> =>
  Effect.gen(function*() {
    if (id === undefined) return
    const store = yield* SessionStore
    const messageId = AssistantMessageId.make(id)
    const claimed = yield* store.changes(messageId).pipe(
      Stream.mapEffect(() => store.getMessage(messageId)),
      Stream.filter(Option.isSome),
      Stream.runHead
    )
    const message = Option.getOrUndefined(Option.flatten(claimed))
    if (message?.status !== "queued") return
    const others = yield* store.listMessages(message.conversationId, (yield* TurnPolicy.MaxQueued) + 2)
    yield* tell(message, others.find(({ status }) => status === "pending"))
  }).pipe(
    // A store that fails here fails the turn as well, which says so.
    Effect.ignore,
    Effect.andThen(Effect.never)
  )

const gateOf = Effect.fnUntraced(function*(
  mode: Mode,
  view: View,
  alone: Alone,
  onQuit: Effect.Effect<void>
): Effect.fn.Return<Gate, never, SessionStore | Prompt.Environment> {
  switch (mode) {
    case "ask":
      return yield* TerminalGate.make({ alone, onQuit })
    case "store":
      return yield* StoreGate.make((ask, asking) =>
        alone(ask, Effect.forEach(StoreGate.describe(ask, asking), view.note, { discard: true }))
      )
    case "allow":
    case "deny": {
      const gate = mode === "allow" ? HumanGate.allow : HumanGate.deny
      return (ask, asking) =>
        Effect.tap(
          gate(ask, asking),
          (answer) => alone(ask, view.note(answer._tag === "Permission" ? "allowed once" : "refused: nobody is asked"))
        )
    }
  }
})
