/**
 * Runs a turn and shows it, to people or to programs.
 *
 * **Responsibilities**: showing updates in order, pausing them for prompts, and always showing the end of the turn, also after an
 * interruption.
 *
 * **Not responsibilities**: the services of the turn, exit codes.
 */
import type { Client } from "@opencode-turn/core/Client"
import type { Gate } from "@opencode-turn/core/HumanGate"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import { type AskId, AssistantMessageId } from "@opencode-turn/core/Ids"
import type { ReplyUpdate } from "@opencode-turn/core/ReplyUpdate"
import { type MessageState, SessionStore, type StoreError } from "@opencode-turn/core/SessionStore"
import type { Tracer } from "@opencode-turn/core/Tracer"
import { streamTurn } from "@opencode-turn/core/Turn"
import type { TurnInput } from "@opencode-turn/core/TurnInput"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import type * as Prompt from "effect/cli/Prompt"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import * as TerminalGate from "../../terminal/TerminalGate.ts"
import { line } from "../../terminal/TerminalText.ts"
import type { Failure } from "../setup/Failure.ts"
import type { Mode } from "../setup/Permissions.ts"
import * as StoreGate from "../setup/StoreGate.ts"
import { Streams } from "../setup/Streams.ts"
import type { Ending } from "./Ending.ts"
import * as JsonLines from "./JsonLines.ts"
import * as Screen from "./Screen.ts"

/** Shows a turn. */
export interface View {
  readonly update: (update: ReplyUpdate) => Effect.Effect<void>
  /** Shows a line of the command itself. */
  readonly note: (text: string) => Effect.Effect<void>
  /** Shows that time passes. Run it about once a second. */
  readonly tick: Effect.Effect<void>
  /** Makes room for another writer on the terminal. */
  readonly pause: Effect.Effect<void>
  /** Shows that the turn waits, and for which message, if it is known. */
  readonly wait: (waiting: MessageState, running: AssistantMessageId | undefined) => Effect.Effect<void>
  readonly finish: (ending: Ending) => Effect.Effect<void>
  /** Shows the failure of a command that ran no turn to its end. People always read it on standard error. */
  readonly fail: (failure: Failure, conversation: string | undefined) => Effect.Effect<void>
}

/** A view for people, see `Screen`; `hasValue` marks a structured answer. */
export const human = Effect.fnUntraced(function*(
  options: { readonly hasValue?: boolean; readonly permission?: Mode } = {}
): Effect.fn.Return<View, never, Streams> {
  const streams = yield* Streams
  let screen = Screen.make({
    ...streams,
    columns: streams.columns(),
    hasValue: options.hasValue === true,
    // The prompt shows the whole ask, and so does the note that says how to answer it.
    areAsksNamed: options.permission === "ask" || options.permission === "store"
  })
  const show = (step: (screen: Screen.Screen) => Screen.Step) =>
    Effect.suspend(() => {
      const [next, writes] = step({ ...screen, options: { ...screen.options, columns: streams.columns() } })
      screen = next
      return Effect.forEach(writes, ({ text, to }) => streams[to](text), { discard: true })
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

/** A view for programs, see `JsonLines`. It omits notes for people and writes the end once, as the last line. */
export const json: Effect.Effect<View, never, Streams> = Effect.map(Streams, (streams) => {
  let hasEnded = false
  const end = (text: string) =>
    Effect.suspend(() => {
      if (hasEnded) return Effect.void
      hasEnded = true
      return streams.answer(text)
    })
  return {
    update: (update) => streams.answer(JsonLines.fromUpdate(update)),
    note: () => Effect.void,
    tick: Effect.void,
    pause: Effect.void,
    wait: (waiting, running) => streams.answer(JsonLines.fromWait(waiting, running)),
    finish: (ending) => end(JsonLines.fromEnding(ending)),
    fail: (failure, conversation) => end(JsonLines.fromFailure(failure, conversation))
  }
})

/** Runs the turn and shows its end. After an interruption it first stops the turn, then shows the end. */
export const run = Effect.fnUntraced(function*(
  input: TurnInput,
  options: { readonly view: View; readonly permission: Mode; readonly onQuit: Effect.Effect<void> }
): Effect.fn.Return<
  TurnResult,
  StoreError,
  Client | SessionStore | Tracer | Streams | Prompt.Environment | Scope.Scope
> {
  const { view } = options
  yield* (yield* Streams).holdAsides
  // Its holder owns the terminal: either the updates or one prompt.
  const terminal = yield* Semaphore.make(1)
  const asked = new Map<AskId, Deferred.Deferred<void>>()
  const shownAsk = (id: AskId) => {
    const known = asked.get(id) ?? Deferred.makeUnsafe<void>()
    asked.set(id, known)
    return known
  }
  const alone: Alone = (ask, effect) =>
    // An ask that was found after a gap in the stream has no update, so this wait is bounded.
    Deferred.await(shownAsk(ask.id)).pipe(
      Effect.timeoutOption("250 millis"),
      Effect.andThen(terminal.withPermit(Effect.andThen(view.pause, effect)))
    )
  let ended: TurnResult | undefined
  const end = (result: TurnResult) =>
    Effect.sync(() => {
      ended = result
    })
  let hasBegun = false
  const begin = Effect.sync(() => {
    hasBegun = true
  })

  yield* streamTurn({
    ...input,
    // Also an interrupted turn ends, but its stream gives no result any more.
    onTurnFinished: end
  }).pipe(
    Stream.runForEach((update) =>
      // A turn that was taken over has not ended, so that only its stream gives its result.
      update._tag === "Finished" ? end(update.result) : terminal.withPermit(view.update(update)).pipe(
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
    Effect.ensuring(Effect.suspend(() => (ended === undefined ? Effect.void : view.finish(ended))))
  )
  // The stream of a turn gives `Finished` at last, or fails.
  return ended ?? (yield* Effect.die(new Error("the stream of the turn ended without a result")))
}, Effect.scoped)

/** Tells the person if the server stays silent for long. */
export const tellSilence =
  (tell: Effect.Effect<void>) => <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.flatMap(
      Effect.forkChild(Effect.delay(tell, "10 seconds")),
      (telling) => Effect.ensuring(effect, Fiber.interrupt(telling))
    )

/** The text of that note. */
export const silence = "the server has not answered yet; Ctrl-C stops waiting"

// internal

type Alone = NonNullable<TerminalGate.Options["alone"]>

const describeWait = (waiting: MessageState, running: AssistantMessageId | undefined): string =>
  `conversation ${line(waiting.conversationId)} is busy${running === undefined ? "" : ` with ${running}`}: ` +
  "this turn waits for the one before it"

/** Tells the person, once, that the turn waits for another turn of its conversation. Never ends. */
const tellWait = (
  id: string | undefined,
  tell: View["wait"]
): Effect.Effect<never, never, SessionStore> =>
  Effect.gen(function*() {
    if (id === undefined) return
    const store = yield* SessionStore
    const messageId = AssistantMessageId.make(id)
    const claimed = yield* store.changes(messageId).pipe(
      Stream.mapEffect(() => store.getState(messageId)),
      Stream.filter(Option.isSome),
      Stream.runHead
    )
    const message = Option.getOrUndefined(Option.flatten(claimed))
    if (message?.status !== "queued") return
    yield* tell(message, Option.getOrUndefined(yield* store.findBlocker(messageId)))
  }).pipe(
    // A failing store also fails the turn, and the turn reports it.
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
