/**
 * Tests of properties that hold in every order of all operations.
 */
import { assert } from "@effect/vitest"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import type { StoredMessage } from "@opencode-turn/core/SessionStore"
import { isOpen } from "@opencode-turn/core/StoredMessage"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/testing/TestClock"
import { completed, failed, leaseOf, newConversation, newTurnOf, recordOf, type StoreTests } from "./Samples.ts"

export const sequences = (it: StoreTests): void => {
  it.effect.prop(
    "moves every message forward only, with at most one pending, whatever is asked in whatever order",
    { steps: Schema.Array(Schema.Literals(steps)).check(Schema.isMaxLength(20)) },
    ({ steps }) =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const conversationId = yield* newConversation
        const turns = [yield* newTurnOf(conversationId), yield* newTurnOf(conversationId)] as const
        let before: ReadonlyArray<StoredMessage> = []
        for (const step of steps) {
          const turn = turns[step.endsWith("the first") ? 0 : 1]
          yield* ask(step, turn, before.find((message) => message.id === turn.id)?.epoch ?? 1)
          const after = yield* store.listMessages(conversationId, 10)
          assert.isAtMost(after.filter((message) => message.status === "pending").length, 1)
          for (const old of before) {
            const now = after.find((message) => message.id === old.id)
            if (now === undefined) return assert.fail("a message is gone")
            assert.isAtLeast(now.epoch, old.epoch)
            assert.isAtLeast(now.revision, old.revision)
            assert.include([0, now.epoch - old.epoch], now.takeovers - old.takeovers)
            if (now.revision === old.revision) {
              assert.deepStrictEqual(now, { ...old, owner: now.owner, leaseUntilMillis: now.leaseUntilMillis })
            }
            if (old.status === "pending") assert.notStrictEqual(now.status, "queued")
            if (!isOpen(old.status)) {
              assert.deepInclude(now, { status: old.status, finishedMillis: old.finishedMillis, epoch: old.epoch })
            }
            if (step.startsWith("an old owner")) assert.deepStrictEqual(now, old)
          }
          before = after
        }
      })
  )
}

const steps = [
  "claim the first",
  "claim the second",
  "lease the first",
  "lease the second",
  "queue the second",
  "take over the first",
  "take over the second",
  "release the first",
  "release the second",
  "let a second pass",
  "finalize the first",
  "finalize the second",
  "fail the first",
  "cancel the first",
  "cancel the second",
  "take a snapshot of the first",
  "keep the partial reply of the first",
  "record the prompt of the second",
  "an old owner finalizes the first",
  "an old owner renews the first",
  "an old owner takes a snapshot of the first",
  "an old owner records the prompt of the second"
] as const

const ask = Effect.fnUntraced(function*(
  step: (typeof steps)[number],
  turn: Effect.Success<ReturnType<typeof newTurnOf>>,
  epoch: number
) {
  const store = yield* SessionStore
  switch (step) {
    case "claim the first":
    case "claim the second":
      return yield* Effect.exit(store.claim(turn))
    case "lease the first":
    case "lease the second":
      return yield* Effect.exit(store.claim({ ...turn, lease: leaseOf("a") }))
    case "queue the second":
      return yield* Effect.exit(store.claim({ ...turn, whenBusy: "queue", lease: leaseOf("b") }))
    case "take over the first":
    case "take over the second":
      return yield* store.takeOver(turn.id, leaseOf("c"))
    case "release the first":
    case "release the second":
      return yield* store.release(turn.id, epoch)
    case "let a second pass":
      return yield* TestClock.adjust("1 second")
    case "finalize the first":
    case "finalize the second":
      return yield* store.finalize(turn.id, epoch, completed)
    case "fail the first":
      return yield* store.finalize(turn.id, epoch, failed)
    case "cancel the first":
    case "cancel the second":
      return yield* Effect.exit(store.cancel(turn.id, "stopped"))
    case "take a snapshot of the first":
      return yield* store.snapshot(turn.id, epoch, completed)
    case "keep the partial reply of the first":
      return yield* store.keepPartial(turn.id, epoch, completed)
    case "record the prompt of the second":
      return yield* store.recordPrompt(turn.id, epoch, recordOf(turn.prompt))
    case "an old owner finalizes the first":
      return yield* store.finalize(turn.id, epoch - 1, completed)
    case "an old owner renews the first":
      return yield* store.renew(turn.id, epoch - 1, { millis: 60_000 })
    case "an old owner takes a snapshot of the first":
      return yield* store.snapshot(turn.id, epoch - 1, completed)
    case "an old owner records the prompt of the second":
      return yield* store.recordPrompt(turn.id, epoch - 1, recordOf(turn.prompt))
  }
})
