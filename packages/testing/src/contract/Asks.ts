/**
 * Tests of asks: opened, answered once, withdrawn, moved, listed, deleted, and watched.
 */
import { assert } from "@effect/vitest"
import type { Answer } from "@opencode-turn/core/Ask"
import { AskId, type AssistantMessageId, type ConversationId } from "@opencode-turn/core/Ids"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as TestClock from "effect/testing/TestClock"
import {
  answersOf,
  completed,
  contents,
  hostileIds,
  newAsk,
  newTurn,
  newTurnOf,
  numbers,
  once,
  permissionOf,
  questionOf,
  race,
  stored,
  type StoreTests,
  terminals
} from "./Samples.ts"
import { watch } from "./Watching.ts"

export const asks = (it: StoreTests): void => {
  // opening

  it.effect("stores an ask as open, with the time of the clock", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* pendingTurn
      const { id } = yield* newAsk
      for (const ask of [permissionOf(id, "git push"), questionOf((yield* newAsk).id, "Which one?")]) {
        assert.deepStrictEqual(yield* store.getAsk(ask.id), Option.none())
        yield* TestClock.adjust("1234 millis")
        const createdMillis = yield* Clock.currentTimeMillis
        const opened = yield* store.openAsk({ ...turn, ask })
        assert.deepStrictEqual(opened, {
          ...turn,
          id: ask.id,
          ask,
          status: "open",
          answer: null,
          createdMillis,
          closedMillis: null
        })
        assert.deepStrictEqual(yield* store.getAsk(ask.id), Option.some(opened))
      }
    }))

  it.effect("keeps an ask open while its message waits in the queue", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const first = yield* pendingTurn
      const next = yield* newTurnOf(first.conversationId)
      yield* store.claim({ ...next, whenBusy: "queue" })
      const { id } = yield* openAsk({ messageId: next.id, conversationId: next.conversationId })
      assert.deepInclude(yield* store.answerAsk(id, once), { status: "answered", messageId: next.id })
    }))

  it.effect("changes nothing when the same message opens its ask again", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* pendingTurn
      const opened = yield* openAsk(turn)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* store.openAsk({ ...turn, ask: permissionOf(opened.id, "other") }), opened)
      assert.deepStrictEqual(yield* askOf(opened.id), opened)
    }))

  it.effect("moves an open ask to another message that opens it, and keeps its time", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const [before, after] = [yield* pendingTurn, yield* pendingTurn]
      const moved = yield* openAsk(before)
      const stays = yield* openAsk(before)
      const younger = yield* openAsk(after)
      yield* TestClock.adjust("1 second")
      const ask = permissionOf(moved.id, "git push --force")
      const opened = yield* store.openAsk({ ...after, ask })
      assert.deepStrictEqual(opened, { ...moved, ...after, ask })
      assert.deepStrictEqual(yield* askOf(moved.id), opened)
      assert.deepStrictEqual(yield* listed({ messageId: before.messageId }), [stays.id])
      assert.deepStrictEqual(yield* listed({ conversationId: before.conversationId }), [stays.id])
      assert.deepStrictEqual(yield* listed({ messageId: after.messageId }), [moved.id, younger.id])
      assert.deepStrictEqual(yield* listed({ conversationId: after.conversationId }), [moved.id, younger.id])

      yield* store.cancel(before.messageId, "")
      assert.deepStrictEqual(yield* askOf(moved.id), opened)
      assert.deepInclude(yield* askOf(stays.id), { status: "withdrawn" })
    }))

  it.effect("keeps the answer when the ask is opened again", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const [before, after] = [yield* pendingTurn, yield* pendingTurn]
      const { id } = yield* openAsk(before)
      const answered = yield* store.answerAsk(id, once)
      for (const turn of [before, after]) {
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(yield* store.openAsk({ ...turn, ask: permissionOf(id, "other") }), answered)
      }
      yield* store.finalize(before.messageId, 1, completed)
      assert.deepStrictEqual(yield* store.openAsk({ ...after, ask: permissionOf(id, "other") }), answered)
      assert.deepStrictEqual(yield* askOf(id), answered)
    }))

  it.effect("reopens an ask whose message ended before an answer came, but not an ask that somebody withdrew", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const [before, after] = [yield* pendingTurn, yield* pendingTurn]
      const [unanswered, withdrawn] = [yield* openAsk(before), yield* openAsk(before)]
      yield* store.withdrawAsk(withdrawn.id)
      yield* store.finalize(before.messageId, 1, completed)
      assert.deepStrictEqual(yield* store.openAsk({ ...after, ask: unanswered.ask }), { ...unanswered, ...after })
      assert.deepInclude(yield* store.openAsk({ ...after, ask: withdrawn.ask }), { ...before, status: "withdrawn" })
      assert.deepStrictEqual(yield* listed({ messageId: after.messageId }), [unanswered.id])
      assert.deepInclude(yield* store.answerAsk(unanswered.id, once), { status: "answered" })
    }))

  // answering

  it.effect("stores the first answer with the time of the clock, accepts the same answer again, and refuses any other", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* pendingTurn
      const opened = yield* openAsk(turn)
      yield* TestClock.adjust("5 seconds")
      const closedMillis = yield* Clock.currentTimeMillis
      const answered = yield* store.answerAsk(opened.id, once)
      assert.deepStrictEqual(answered, { ...opened, status: "answered", answer: once, closedMillis })
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(yield* store.answerAsk(opened.id, once), answered)
      for (const answer of answersOf("late")) {
        assert.deepStrictEqual(yield* refusal(opened.id, answer), ["AskClosed", "answered"])
      }
      assert.isFalse(yield* store.withdrawAsk(opened.id))
      yield* store.cancel(turn.messageId, "")
      assert.deepStrictEqual(yield* store.answerAsk(opened.id, once), answered)
      assert.deepStrictEqual(yield* askOf(opened.id), answered)
    }))

  it.effect("refuses an answer to an ask that was withdrawn or does not exist", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const opened = yield* openAsk(yield* pendingTurn)
      yield* TestClock.adjust("5 seconds")
      const closedMillis = yield* Clock.currentTimeMillis
      assert.isTrue(yield* store.withdrawAsk(opened.id))
      yield* TestClock.adjust("5 seconds")
      assert.isFalse(yield* store.withdrawAsk(opened.id))
      assert.deepStrictEqual(yield* refusal(opened.id, once), ["AskClosed", "withdrawn"])
      assert.deepStrictEqual(yield* askOf(opened.id), { ...opened, status: "withdrawn", closedMillis })

      const { id } = yield* newAsk
      const error = yield* Effect.flip(store.answerAsk(id, once))
      assert.deepInclude(error, { _tag: "UnknownAsk", askId: id })
      assert.isFalse(yield* store.withdrawAsk(id))
      assert.deepStrictEqual(yield* store.getAsk(id), Option.none())
    }))

  it.effect.each(terminals)(
    "withdraws what is unanswered when its message ends as $status",
    (outcome) =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const turn = yield* pendingTurn
        const [unanswered, other] = [yield* openAsk(turn), yield* openAsk(turn)]
        const answered = yield* store.answerAsk(other.id, once)
        yield* TestClock.adjust("5 seconds")
        yield* store.finalize(turn.messageId, 1, outcome)
        const closedMillis = yield* Clock.currentTimeMillis
        yield* TestClock.adjust("5 seconds")

        const withdrawn = { ...unanswered, status: "withdrawn", closedMillis } as const
        assert.deepStrictEqual(yield* askOf(unanswered.id), withdrawn)
        assert.deepStrictEqual(yield* store.openAsk({ ...turn, ask: unanswered.ask }), withdrawn)
        assert.deepStrictEqual(yield* refusal(unanswered.id, once), ["AskClosed", "withdrawn"])
        assert.isFalse(yield* store.withdrawAsk(unanswered.id))
        assert.deepStrictEqual(yield* askOf(unanswered.id), withdrawn)
        assert.deepStrictEqual(yield* askOf(other.id), answered)
        assert.deepStrictEqual(yield* listed(turn), [])
      })
  )

  it.effect("stores an ask as withdrawn if its message has ended or does not exist", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const [ended, missing] = [yield* pendingTurn, yield* newTurn]
      yield* store.cancel(ended.messageId, "")
      for (const turn of [ended, { messageId: missing.id, conversationId: missing.conversationId }]) {
        const opened = yield* openAsk(turn)
        assert.deepInclude(opened, { ...turn, status: "withdrawn", closedMillis: opened.createdMillis })
        assert.deepStrictEqual(yield* askOf(opened.id), opened)
        assert.deepStrictEqual(yield* refusal(opened.id, once), ["AskClosed", "withdrawn"])
        assert.deepStrictEqual(yield* listed(turn), [])
      }
    }))

  it.effect.each(contents)("reads asks and answers back unchanged: $name", ({ text }) =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* pendingTurn
      // Each holds the text several times: of a long one, one answer is enough.
      for (const answer of answersOf(text).slice(0, text.length > 100_000 ? 1 : undefined)) {
        for (const make of [questionOf, permissionOf]) {
          const ask = make((yield* newAsk).id, text)
          assert.deepStrictEqual((yield* store.openAsk({ ...turn, ask })).ask, ask)
          const answered = yield* store.answerAsk(ask.id, answer)
          assert.deepInclude(answered, { ask, answer, status: "answered" })
          assert.deepStrictEqual(yield* askOf(ask.id), answered)
        }
      }
    }))

  it.effect.each(hostileIds)(
    "takes $name as the id of an ask and nothing else",
    ({ id: hostile }) =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const turn = yield* pendingTurn
        const bystander = yield* openAsk(turn)
        const id = AskId.make(`${hostile}${bystander.id}${hostile}`)
        assert.deepStrictEqual(yield* store.getAsk(id), Option.none())
        const opened = yield* store.openAsk({ ...turn, ask: permissionOf(id, hostile) })
        assert.deepStrictEqual(yield* store.listAsks({ ...turn, limit: 9 }), [bystander, opened])
        assert.deepInclude(yield* store.answerAsk(id, once), { id, status: "answered" })
        assert.deepStrictEqual(yield* askOf(bystander.id), bystander)
      })
  )

  // lists

  it.effect("lists open asks, oldest first: of a conversation, of a message, or all", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const left = yield* pendingTurn
      const right = yield* pendingTurn
      const next = yield* newTurnOf(left.conversationId)
      yield* store.claim({ ...next, whenBusy: "queue" })
      const waiting = { messageId: next.id, conversationId: next.conversationId }
      // Several asks share a millisecond, and their ids are random.
      const turns = [left, right, waiting, left, right, waiting, left]
      const opened = yield* Effect.forEach(turns, openAsk)
      const [answered, , , withdrawn] = opened
      if (answered === undefined || withdrawn === undefined) return assert.fail("nothing was opened")
      yield* store.answerAsk(answered.id, once)
      yield* store.withdrawAsk(withdrawn.id)

      const open = opened.filter((ask) => ask !== answered && ask !== withdrawn)
      const idsOf = (turn: typeof left) => open.filter((ask) => ask.messageId === turn.messageId).map(({ id }) => id)
      assert.deepStrictEqual(
        yield* store.listAsks({ conversationId: right.conversationId, limit: 9 }),
        open.filter((ask) => ask.messageId === right.messageId)
      )
      for (const turn of [left, right, waiting]) {
        assert.deepStrictEqual(yield* listed({ messageId: turn.messageId }), idsOf(turn))
        assert.deepStrictEqual(yield* listed(turn), idsOf(turn))
      }
      const ofLeft = open.filter((ask) => ask.conversationId === left.conversationId).map(({ id }) => id)
      assert.deepStrictEqual(yield* listed({ conversationId: left.conversationId }), ofLeft)
      assert.deepStrictEqual(yield* listed({ ...right, conversationId: left.conversationId }), [])
      const ours = new Set(opened.map(({ id }) => id))
      assert.deepStrictEqual((yield* listed({})).filter((id) => ours.has(id)), open.map(({ id }) => id))

      for (const limit of [1, 2, 2.9]) {
        assert.deepStrictEqual(
          yield* listed({ conversationId: left.conversationId, limit }),
          ofLeft.slice(0, Math.floor(limit))
        )
        assert.lengthOf(yield* listed({ limit }), Math.floor(limit))
      }
      for (const limit of [3, 1000, Number.MAX_SAFE_INTEGER]) {
        assert.deepStrictEqual(yield* listed({ conversationId: left.conversationId, limit }), ofLeft)
      }
      for (const limit of [0, -1, NaN]) assert.deepStrictEqual(yield* listed({ limit }), [])
    }))

  it.effect("lists the open asks behind one, also where it is open no more, and from the first where it was deleted", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* pendingTurn
      const { conversationId } = turn
      const opened = (yield* Effect.replicateEffect(openAsk(turn), 5)).map(({ id }) => id)
      const behind = (after: AskId | undefined, limit = 9) => listed({ conversationId, after, limit })
      for (const [place, id] of opened.entries()) {
        assert.deepStrictEqual(yield* behind(id), opened.slice(place + 1))
        assert.deepStrictEqual(yield* behind(id, 2), opened.slice(place + 1, place + 3))
      }
      const [first, second, third] = opened
      if (first === undefined || second === undefined || third === undefined) return assert.fail("nothing was opened")
      yield* store.answerAsk(second, once)
      yield* store.withdrawAsk(third)
      for (const id of [second, third]) assert.deepStrictEqual(yield* behind(id), opened.slice(3))
      assert.deepStrictEqual(yield* behind(first), opened.slice(3))
      const elsewhere = yield* openAsk(yield* pendingTurn)
      assert.deepStrictEqual(yield* behind(elsewhere.id), [])
      for (const unknown of ["per_unknown", "", "a\0b", "\uD800", "x".repeat(600), ...hostileIds.map(({ id }) => id)]) {
        assert.deepStrictEqual(yield* behind(AskId.make(unknown)), [first, ...opened.slice(3)])
      }
    }))

  it.effect("changes neither the message nor its revision when its asks change", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* pendingTurn
      const before = yield* stored(turn.messageId)
      const [first, second] = [yield* openAsk(turn), yield* openAsk(turn)]
      yield* store.answerAsk(first.id, once)
      yield* store.withdrawAsk(second.id)
      assert.deepStrictEqual(yield* stored(turn.messageId), before)
    }))

  it.effect("deletes all asks of the messages that it prunes, and no others", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const [old, pending] = [yield* pendingTurn, yield* pendingTurn]
      const gone = yield* Effect.replicateEffect(openAsk(old), 3)
      const kept = yield* Effect.replicateEffect(openAsk(pending), 2)
      const moved = yield* openAsk(old)
      yield* store.openAsk({ ...pending, ask: moved.ask })
      for (const [n, { id }] of [...gone, ...kept].entries()) if (n % 3 === 0) yield* store.answerAsk(id, once)
      for (const { id } of gone.slice(1, 2)) yield* store.withdrawAsk(id)
      yield* store.finalize(old.messageId, 1, completed)
      const before = yield* Effect.forEach([...kept, moved], ({ id }) => askOf(id))
      yield* TestClock.adjust("1 milli")
      yield* store.prune(yield* Clock.currentTimeMillis)
      for (const { id } of gone) {
        assert.deepStrictEqual(yield* store.getAsk(id), Option.none())
        assert.deepInclude(yield* Effect.flip(store.answerAsk(id, once)), { _tag: "UnknownAsk" })
      }
      assert.deepStrictEqual(yield* Effect.forEach([...kept, moved], ({ id }) => askOf(id)), before)
    }))

  // races

  it.effect("stores one of 100 concurrent answers, and refuses the others with AskClosed", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const { id } = yield* openAsk(yield* pendingTurn)
      const results = yield* Effect.forEach(
        numbers(100),
        (n) => Effect.result(store.answerAsk(id, { _tag: "Reject", message: `answer ${n}` })),
        { concurrency: "unbounded" }
      )
      const winners = results.filter(Result.isSuccess).map(({ success }) => success)
      assert.deepStrictEqual(winners, [yield* askOf(id)])
      const losers = results.filter(Result.isFailure).map(({ failure }) => failure)
      assert.lengthOf(losers, 99)
      for (const failure of losers) {
        assert.deepInclude(failure, { _tag: "AskClosed", askId: id, status: "answered" })
      }
    }))

  it.effect("stores one ask when 100 messages open it at the same time, and the answer that comes between", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const ask = yield* newAsk
      const turns = yield* Effect.replicateEffect(pendingTurn, 100)
      const first = turns.slice(0, 1)
      yield* Effect.forEach(first, (turn) => store.openAsk({ ...turn, ask }))
      const [answered, opened] = yield* Effect.all([
        store.answerAsk(ask.id, once),
        Effect.forEach(turns, (turn) => store.openAsk({ ...turn, ask }), { concurrency: "unbounded" })
      ], { concurrency: 2 })
      assert.deepStrictEqual(yield* askOf(ask.id), answered)
      for (const seen of opened) {
        if (seen.status === "answered") assert.deepStrictEqual(seen, answered)
        else assert.deepInclude(seen, { id: ask.id, status: "open", createdMillis: answered.createdMillis })
      }
      assert.deepStrictEqual(yield* listed({ messageId: answered.messageId }), [])
    }))

  it.effect("opens a new ask once when 100 messages open it at the same time", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const ask = yield* newAsk
      const turns = yield* Effect.replicateEffect(pendingTurn, 100)
      yield* Effect.forEach(turns, (turn) => store.openAsk({ ...turn, ask }), { concurrency: "unbounded" })
      const found = (yield* listed({})).filter((id) => id === ask.id)
      assert.deepStrictEqual(found, [ask.id])
      assert.include(turns.map(({ messageId }) => messageId), (yield* askOf(ask.id)).messageId)
    }))

  it.effect("has one winner whenever an answer races a withdrawal", () =>
    inRounds((n) =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const { id } = yield* openAsk(yield* pendingTurn)
        const answer = Effect.map(Effect.result(store.answerAsk(id, once)), (answered) => ({ answered }))
        const withdraw = Effect.map(store.withdrawAsk(id), (isWithdrawn) => ({ isWithdrawn }))
        const { answered, isWithdrawn } = n % 2 === 0 ? yield* race(answer, withdraw) : yield* race(withdraw, answer)
        assert.strictEqual(Result.isSuccess(answered), !isWithdrawn)
        if (Result.isFailure(answered)) assert.deepInclude(answered.failure, { status: "withdrawn" })
        assert.deepInclude(
          yield* askOf(id),
          isWithdrawn ? { status: "withdrawn", answer: null } : { status: "answered", answer: once }
        )
      })
    ))

  it.effect("either stores or refuses an answer that races the end of its message, and never changes that decision", () =>
    inRounds((n) =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const turn = yield* pendingTurn
        const { id } = yield* openAsk(turn)
        const answer = Effect.map(Effect.result(store.answerAsk(id, once)), (answered) => ({ answered }))
        const end = Effect.map(store.finalize(turn.messageId, 1, completed), (isEnded) => ({ isEnded }))
        const { answered, isEnded } = n % 2 === 0 ? yield* race(answer, end) : yield* race(end, answer)
        assert.isTrue(isEnded)
        if (Result.isFailure(answered)) {
          assert.deepInclude(answered.failure, { _tag: "AskClosed", status: "withdrawn" })
        }
        assert.deepInclude(
          yield* askOf(id),
          Result.isSuccess(answered) ? answered.success : { status: "withdrawn", answer: null }
        )
      })
    ))

  // watching

  it.effect("shows a watcher the ask at once, and then each of its changes", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const [before, after] = [yield* pendingTurn, yield* pendingTurn]
      const ask = yield* newAsk
      const news = [yield* watch(store.askChanges(ask.id)), yield* watch(store.askChanges(ask.id))]
      for (const { next } of news) yield* next
      const changes = [
        store.openAsk({ ...before, ask }),
        store.openAsk({ ...after, ask }),
        store.answerAsk(ask.id, once),
        Effect.andThen(
          Effect.andThen(store.cancel(after.messageId, ""), TestClock.adjust("1 milli")),
          Effect.flatMap(Clock.currentTimeMillis, store.prune)
        )
      ]
      for (const change of changes) {
        for (const { forget } of news) yield* forget
        yield* change
        for (const { next } of news) yield* next
      }
    }))

  it.effect("tells a watcher that the ask was withdrawn, whether by somebody or by the end of its message", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* pendingTurn
      const [first, second] = [yield* openAsk(turn), yield* openAsk(turn)]
      const [ofFirst, ofSecond] = [yield* watch(store.askChanges(first.id)), yield* watch(store.askChanges(second.id))]
      yield* ofFirst.next
      yield* ofSecond.next
      yield* ofFirst.forget
      yield* store.withdrawAsk(first.id)
      yield* ofFirst.next
      yield* ofSecond.forget
      yield* store.finalize(turn.messageId, 1, completed)
      yield* ofSecond.next
      assert.deepInclude(yield* askOf(second.id), { status: "withdrawn" })
    }))
}

const pendingTurn = Effect.gen(function*() {
  const store = yield* SessionStore
  const turn = yield* newTurn
  yield* store.claim(turn)
  return { messageId: turn.id, conversationId: turn.conversationId }
})

const openAsk = Effect.fnUntraced(function*(
  turn: { readonly messageId: AssistantMessageId; readonly conversationId: ConversationId }
) {
  const store = yield* SessionStore
  return yield* store.openAsk({ ...turn, ask: yield* newAsk })
})

const askOf = Effect.fnUntraced(function*(id: AskId) {
  const store = yield* SessionStore
  return yield* Effect.fromOption(yield* store.getAsk(id))
})

const listed = Effect.fnUntraced(function*(
  filter: {
    readonly messageId?: AssistantMessageId
    readonly conversationId?: ConversationId
    readonly after?: AskId | undefined
    readonly limit?: number
  }
) {
  const store = yield* SessionStore
  const found = yield* store.listAsks({ limit: Infinity, ...filter })
  for (const { status } of found) assert.strictEqual(status, "open")
  return found.map(({ id }) => id)
})

/** The error of a refused answer. */
const refusal = Effect.fnUntraced(function*(id: AskId, answer: Answer) {
  const store = yield* SessionStore
  const error = yield* Effect.flip(store.answerAsk(id, answer))
  return error._tag === "AskClosed" ? [error._tag, error.status] : [error._tag]
})

const inRounds = <E>(round: (n: number) => Effect.Effect<void, E, SessionStore>) =>
  Effect.forEach(numbers(100), round, { concurrency: 50, discard: true })
