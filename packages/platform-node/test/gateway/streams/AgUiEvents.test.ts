import * as AgUiEvents from "#gateway/streams/AgUiEvents"
import { HttpAgent } from "@ag-ui/client"
import { EventSchema } from "@ag-ui/core/schemas"
import { assert, describe, it } from "@effect/vitest"
import type { AttachedUpdate } from "@opencode-turn/core/AttachTurn"
import { AskId, MessageId, PartId } from "@opencode-turn/core/Ids"
import type { ReplyUpdate } from "@opencode-turn/core/ReplyUpdate"
import { Effect, Schema } from "effect"
import * as Updates from "./Updates.ts"

const user = { id: "m", role: "user", content: "Do it." } as const

const run = { threadId: "c", runId: "r", earlier: [user], isNew: true, state: { mine: 1 } }

type Told = readonly [AgUiEvents.Written, ReadonlyArray<AgUiEvents.AgUiEvent>]

const write = (updates: ReadonlyArray<AttachedUpdate>, begun: Told = AgUiEvents.start(run, "asm_1")): Told =>
  updates.reduce<Told>(([self, events], update) => {
    const [after, more] = AgUiEvents.apply(self, update)
    return [after, [...events, ...more]]
  }, begun)

const end = ([self, events]: Told): ReadonlyArray<AgUiEvents.AgUiEvent> => [...events, ...AgUiEvents.end(self)[1]]

/** What the client of AG-UI makes of a run: its verifier fails on an event that may not come there. */
const read = Effect.fnUntraced(function*(
  events: ReadonlyArray<AgUiEvents.AgUiEvent>,
  agent = new HttpAgent({ url: "http://localhost/", threadId: "c", initialMessages: [user], initialState: { mine: 1 } })
) {
  const body = events.map((event) => `data: ${JSON.stringify(event)}\n\n`)
  for (const event of events) {
    const checked = EventSchema.safeParse(JSON.parse(JSON.stringify(event)))
    assert.isTrue(checked.success, `${JSON.stringify(event)} ${checked.error?.message}`)
  }
  agent.fetch = async () => new Response(body.join(""), { headers: { "content-type": "text/event-stream" } })
  const failure = yield* Effect.promise(() => agent.runAgent({ runId: "r" }).then(() => undefined, String))
  assert.isUndefined(failure)
  return agent
})

/** The order between the turn and its subagents is that in which they spoke. Reasoning and activities that are gone are emptied. */
const messagesOf = ({ messages }: HttpAgent): unknown =>
  JSON.parse(JSON.stringify(
    messages
      .filter(({ content, role }) =>
        (role !== "reasoning" && role !== "activity") || !["\"\"", "{}"].includes(JSON.stringify(content))
      )
      .toSorted((one, other) => one.id < other.id ? -1 : 1)
  ))

const holds = Effect.fnUntraced(function*(updates: ReadonlyArray<ReplyUpdate>, cut: number) {
  const last = Updates.ending(updates)
  const whole = yield* read(write([...updates, last])[1])
  const finished = write([...updates, last])[1].at(-1)
  assert.deepInclude(finished, { type: "RUN_FINISHED", outcome: { type: "success" } })
  assert.deepNestedInclude(finished, {
    "usage[0].model": "m",
    "usage[1].model": "small",
    "metadata.timing": last.message.account?.timing
  })
  // One run tells the beginning, and another one goes on with the rest.
  const first = yield* read(end(write(updates.slice(0, cut))))
  const later = AgUiEvents.start({ ...run, isNew: false }, "asm_1")
  const second = yield* read(
    write([...Updates.replay(updates.slice(0, cut)), ...updates.slice(cut), last], later)[1],
    first
  )
  assert.deepStrictEqual(messagesOf(second), messagesOf(whole))
  assert.deepStrictEqual(second.state, whole.state)
})

/** A client takes the id of a message for one kind of message, as OpenCode takes that of a part. */
const ofOneKind = (pick: (typeof Updates.Picks)["Type"][number]) =>
  pick.kind < 8 && pick.kind !== 4 ? { ...pick, kind: kinds[pick.id] ?? pick.kind } : pick

const kinds = [5, 1, 0, 3]

describe("a run of AG-UI", () => {
  it.effect.prop("passes the client's verifier and tells a later run's client the same messages, for any updates", {
    picks: Updates.Picks,
    at: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 40 }))
  }, ({ at, picks }) => {
    const updates = Updates.toUpdates(picks.map(ofOneKind))
    return holds(updates, 1 + at % updates.length)
  }, { arbitrary: { runs: 100 } })

  it.effect.each(Updates.tapes)(
    "passes the client's verifier for a recorded turn: $name",
    ({ updates }) => holds(updates, Math.ceil(updates.length / 2))
  )

  it.effect("ends with an interrupt where the turn waits for a person, and says how to answer", () =>
    Effect.gen(function*() {
      const call = {
        type: "tool",
        id: PartId.make("prt_1"),
        messageId: MessageId.make("msg_1"),
        callId: "call_1",
        tool: "bash",
        status: "pending",
        input: {}
      } as const
      const ask = {
        _tag: "Permission",
        id: AskId.make("per_1"),
        sessionId: Updates.sessionId,
        permission: "bash",
        patterns: ["git push"],
        always: ["git *"],
        metadata: {},
        tool: { messageId: call.messageId, callId: "call_1" }
      } as const
      const asked: ReadonlyArray<ReplyUpdate> = [
        Updates.started,
        { _tag: "PartChanged", part: call },
        { _tag: "Asked", ask, openedBy: undefined }
      ]
      const [self, events] = write(asked)
      const [ended, more] = AgUiEvents.interrupt(self, [ask.id])
      const agent = yield* read([...events, ...more])
      const [interrupt]: ReadonlyArray<object> = agent.pendingInterrupts
      assert.deepInclude(interrupt, {
        id: "per_1",
        reason: "permission",
        message: "bash: git push",
        toolCallId: "prt_1"
      })
      // Nothing is told behind the end of a run, and an ask that nobody waits with interrupts nothing.
      assert.deepStrictEqual(AgUiEvents.apply(ended, { _tag: "AskResolved", askId: ask.id })[1], [])
      assert.deepStrictEqual(AgUiEvents.interrupt(self, ["per_2"])[1], [])
    }))

  it.effect("that fails or is stopped says so, with what it used", () =>
    Effect.sync(() => {
      const [, failed] = write([Updates.started, Updates.ending([], "error", "Sorry.")])
      assert.deepInclude(failed.at(-1), { type: "RUN_ERROR", message: "the model failed", code: "Upstream" })
      const [, stopped] = write([Updates.started, Updates.ending([], "cancelled")])
      assert.deepInclude(stopped.at(-1), { type: "RUN_FINISHED", outcome: { type: "cancelled" } })
      for (const event of [failed.at(-1), stopped.at(-1)]) {
        assert.deepInclude(event?.["usage"], {
          provider: "scripted",
          model: "m",
          inputTokens: 1,
          outputTokens: 0,
          totalTokens: 1,
          reasoningTokens: 0,
          cachedInputTokens: 0,
          cacheWriteInputTokens: 0
        })
        assert.isTrue(EventSchema.safeParse(event).success)
      }
    }))
})
