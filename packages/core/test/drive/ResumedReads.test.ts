/**
 * A resumed turn first reads its stored answers. If the server hangs or never ends such a read, the turn still ends
 * within its budget.
 */
import { assert, it } from "@effect/vitest"
import { MessageId } from "@opencode-turn/core/Ids"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { resumeTurn } from "@opencode-turn/core/Turn"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import * as Faults from "@opencode-turn/testing/Faults"
import * as Hostile from "@opencode-turn/testing/Hostile"
import * as Effect from "effect/Effect"
import * as Carrying from "../support/carrying.ts"
import * as Turns from "../support/turns.ts"

const budgetMillis = 5000
/**
 * The time that the turn's end may take beyond the budget: the last read, the abort with its reads, and the subagents.
 */
const endMillis = 15_000

const isRead = { method: "GET", path: /\/message(?:\/[^/]+)?$/ }

const servers = [
  { server: "hangs", fault: () => Faults.hang },
  { server: "drips", fault: () => Hostile.drippingBody("1 second") },
  { server: "never sends a body", fault: () => Hostile.stalledBody },
  { server: "never ends its pages", fault: () => Hostile.endlessPages("1 second") }
]

it.effect.each(servers.flatMap((server) => [
  { ...server, read: "its answer", earlier: [] },
  { ...server, read: "the answers before it", earlier: [MessageId.make("msg_000000000001Earlier")] }
]))(
  "a resumed turn whose server $server when it reads $read ends within its budget",
  ({ earlier, fault }) =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const store = yield* SessionStore
      const left = yield* Carrying.leave([{ text: "words" }], {
        stage: "posted",
        draft: { policy: { budget: { wallClockMillis: budgetMillis } } }
      })
      const record = (yield* Carrying.rowOf(Turns.messageId))?.promptRecord ?? undefined
      assert(record !== undefined)
      yield* store.recordPrompt(left.id, left.row.epoch, { ...record, earlier })

      yield* fake.fail(isRead, fault(), Infinity)
      const fiber = yield* Effect.forkChild(resumeTurn(yield* Carrying.takeOver(left.id)))
      const { value: { error } } = yield* Carrying.ended(fiber, budgetMillis + endMillis)
      assert.deepInclude(error, { _tag: "BudgetExceeded", limit: "wallClock" })
      assert.isTrue(yield* Carrying.isEnded(Turns.messageId))
    }).pipe(Effect.provide(Turns.layer()))
)
