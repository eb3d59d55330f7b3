import { assert, it } from "@effect/vitest"
import { ConversationId, SessionId } from "@opencode-turn/core/Ids"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import * as SqlSessionStore from "@opencode-turn/platform-node/SqlSessionStore"
import { Effect, Option } from "effect"
import * as Spans from "../../../core/test/support/spans.ts"

const work = Effect.gen(function*() {
  const store = yield* SessionStore
  const conversationId = ConversationId.make("c1")
  yield* store.setSession(conversationId, Option.none(), SessionId.make("ses_1"))
  yield* store.getSession(conversationId)
}).pipe(Effect.provide(SqlSessionStore.layerSqlite({ filename: ":memory:" })), Effect.withSpan("work"))

it.effect("statements have spans only if that is asked for, and neither then do they hold values", () =>
  Effect.gen(function*() {
    const { spans } = yield* Spans.recorded(work)
    assert.deepStrictEqual(Spans.tree(spans), ["work"])
    const all = yield* Spans.recorded(Effect.provideService(work, TurnPolicy.TraceDetail, "statements"))
    assert.isAbove(all.spans.length, 3)
    for (const span of all.spans) assert.notInclude(JSON.stringify(Spans.attributesOf(span)), "ses_1")
  }))
