import * as Events from "#gateway/Events"
import * as GatewayApi from "#gateway/GatewayApi"
import * as TurnJson from "#gateway/TurnJson"
import { assert, describe, it } from "@effect/vitest"
import { AssistantMessageId, ConversationId } from "@opencode-turn/core/Ids"
import { SessionStore, StoreError } from "@opencode-turn/core/SessionStore"
import type { TurnServices } from "@opencode-turn/core/Turn"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import type { Step } from "@opencode-turn/testing/ModelScript"
import { Effect, Fiber, Latch, Option, Schema, type Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { setImmediate } from "node:timers/promises"
import * as Spans from "../../../core/test/support/spans.ts"
import * as Gateways from "../support/Gateways.ts"

const { passing, start, textOf } = Gateways

const test = <E>(
  name: string,
  body: () => Effect.Effect<void, E, TurnServices | FakeOpencode | Gateways.Reports | Scope.Scope>
) => it.effect(name, () => Effect.provide(Effect.scoped(body()), Gateways.layer))

/** Says two words, waits at the gate `half`, and then says the third. */
const halfway: ReadonlyArray<Step> = [{ text: "one two three", gate: "half", gateAfter: 2 }]

const asking: ReadonlyArray<Step> = [{ tool: "bash", args: { command: "git push", description: "Push" } }, {
  text: "Done."
}]

/** Every command asks. */
const input = () => ({ permission: [{ permission: "bash", pattern: "*", action: "ask" }] as const })

const Page = <A>(item: Schema.Codec<A, unknown>) =>
  Schema.Struct({ items: Schema.Array(item), next: Schema.NullOr(Schema.String) })
const Conversations = Page(GatewayApi.Conversation)
const Turns = Page(TurnJson.Turn)
const Asks = Page(TurnJson.Ask)

const begin = Effect.fnUntraced(function*(
  gateway: Gateways.TestGateway,
  steps: ReadonlyArray<Step>,
  { conversation = "c", key }: { readonly conversation?: string; readonly key?: string } = {}
) {
  const answer = yield* gateway.call(`/conversations/${conversation}/turns`, {
    body: start(steps),
    headers: key === undefined ? {} : { "idempotency-key": key }
  })
  assert.strictEqual(answer.status, 202, answer.text)
  return answer.as(GatewayApi.StartedTurn)
})

/** Follows a turn to its end. */
const finish = Effect.fnUntraced(function*(gateway: Gateways.TestGateway, messageId: string) {
  const events = yield* (yield* gateway.follow(`/turns/${messageId}/updates`)).rest
  const last = events.at(-1)?.data
  assert(last?.type === "turn.finished")
  return { events, turn: last.turn }
})

const isHalf = (events: ReadonlyArray<Gateways.Event>) => textOf(events) === "one two "

describe("a turn", () => {
  test("is stored when its start is answered, streams, and ends with its whole state", () =>
    Effect.gen(function*() {
      const gateway = yield* Gateways.open()
      const started = yield* begin(gateway, [{ text: "Hello." }])
      assert.deepInclude(started, { conversationId: ConversationId.make("c"), isNew: true })
      const { events, turn } = yield* finish(gateway, started.messageId)
      assert.strictEqual(events[0]?.data.type, "turn.started")
      assert.strictEqual(textOf(events), "Hello.")
      assert.deepInclude(turn, { messageId: started.messageId, status: "completed", content: "Hello." })
      const snapshot = yield* gateway.call(`/turns/${started.messageId}`)
      assert.deepStrictEqual(snapshot.as(TurnJson.Turn), turn)
      const [line] = turn.prompt
      assert(line?.type === "text")
      assert.isTrue(line.text.startsWith("Do it."))
    }))

  test("tells its end, its list and its state the stored account", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const gateway = yield* Gateways.open()
      const { messageId } = yield* begin(gateway, [...asking.slice(0, 1), { text: "Done." }])
      const { turn } = yield* finish(gateway, messageId)
      const stored = yield* store.getMessage(messageId)
      const account = Option.getOrThrow(stored).account
      assert(account !== null)
      const { firstTokenMillis, models, timing } = account
      assert.deepStrictEqual(models.map(({ steps }) => steps), [2])
      assert.deepInclude(turn, { firstTokenMillis, models, timing, finish: "stop" })
      const list = (yield* gateway.call("/conversations/c/turns")).as(Turns)
      assert.deepInclude(list.items[0], { firstTokenMillis, models, timing })
    }))

  test("belongs to the trace of the request that started it, and does not end with it", () =>
    Effect.gen(function*() {
      const traceId = "1".repeat(32)
      const { spans } = yield* Spans.recorded(Effect.gen(function*() {
        const gateway = yield* Gateways.open()
        const answer = yield* gateway.call("/conversations/c/turns", {
          body: start([{ text: "Hello." }]),
          headers: { traceparent: `00-${traceId}-${"2".repeat(16)}-01` }
        })
        const { turn } = yield* finish(gateway, answer.as(GatewayApi.StartedTurn).messageId)
        assert.strictEqual(turn.status, "completed")
      }))
      const [agent] = Spans.named(spans, "invoke_agent")
      assert.strictEqual(agent?.traceId, traceId)
      assert.lengthOf(spans.filter(({ name, traceId: id }) => name === "chat m" && id === traceId), 1)
    }))

  test("is one for one key in one conversation, however often and however many at once ask for it", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const gateway = yield* Gateways.open()
      const all = yield* Effect.forEach(
        Array.from({ length: 20 }),
        () => begin(gateway, halfway, { key: "k" }),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(new Set(all.map(({ messageId }) => messageId)).size, 1)
      assert.lengthOf(all.filter(({ isNew }) => isNew), 1)
      const [first] = all
      assert(first !== undefined)
      yield* fake.release("half")
      yield* finish(gateway, first.messageId)
      // Also after its end, and by a gateway that began later.
      const other = yield* Gateways.open()
      assert.deepStrictEqual(yield* begin(other, halfway, { key: "k" }), {
        ...first,
        status: "completed",
        isNew: false
      })
      assert.strictEqual(yield* fake.modelCalls, 1)
      const elsewhere = yield* begin(gateway, [{ text: "x" }], { key: "k", conversation: "d" })
      assert.notStrictEqual(elsewhere.messageId, first.messageId)
      const again = yield* begin(gateway, [{ text: "x" }], { key: "l" })
      assert.notStrictEqual(again.messageId, first.messageId)
      const reused = yield* gateway.call("/conversations/c/turns", {
        body: { prompt: "Something else." },
        headers: { "idempotency-key": "k" }
      })
      assert.deepStrictEqual([reused.status, reused.tag], [422, "Unprocessable"])
    }))

  test("waits behind the others of its conversation, or is refused where it may not", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const gateway = yield* Gateways.open()
      const patient = yield* begin(gateway, halfway)
      const second = yield* begin(gateway, [{ text: "Second." }])
      assert.strictEqual(second.status, "queued")
      const hasty = yield* Effect.provideService(Gateways.open(), TurnPolicy.WhenBusy, "reject")
      const busy = yield* hasty.call("/conversations/c/turns", { body: start([{ text: "Third." }]) })
      assert.deepStrictEqual([busy.status, busy.tag], [409, "Busy"])
      yield* fake.release("half")
      yield* finish(gateway, patient.messageId)
      const { turn } = yield* passing(finish(gateway, second.messageId))
      assert.strictEqual(turn.content, "Second.")
      assert.lengthOf((yield* gateway.call("/conversations/c/turns")).as(Turns).items, 2)
    }))

  test("goes on behind any offset with exactly the rest", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const gateway = yield* Gateways.open()
      const { messageId } = yield* begin(gateway, [
        { reasoning: "Hm.", tool: "bash", args: { command: "ls" } },
        ...halfway
      ])
      const first = yield* gateway.follow(`/turns/${messageId}/updates`)
      const known = yield* first.until(isHalf)
      const ways = (id: string) => [
        gateway.follow(`/turns/${messageId}/updates?from=${encodeURIComponent(id)}`),
        gateway.follow(`/turns/${messageId}/updates`, { headers: { "last-event-id": id } }),
        gateway.follow(`/turns/${messageId}/updates?from=0`, { headers: { "last-event-id": id } })
      ]
      const others = yield* Effect.forEach(known.flatMap(({ id = "" }) => ways(id)), (way) => way)
      yield* fake.release("half")
      const whole = yield* first.rest
      assert.strictEqual(textOf(whole), "one two three")
      for (const [place, other] of others.entries()) {
        const seen = Math.floor(place / 3)
        const rest = yield* other.rest
        if (seen === 0) continue
        assert.deepStrictEqual(rest, whole.slice(seen + 1))
      }
    }))

  test("that a page has seen to its end is not sent again", () =>
    Effect.gen(function*() {
      const gateway = yield* Gateways.open()
      const { messageId } = yield* begin(gateway, [{ text: "Hello." }])
      const { events } = yield* finish(gateway, messageId)
      const end = events.at(-1)?.id ?? ""
      const again = yield* gateway.call(`/turns/${messageId}/updates`, { headers: { "last-event-id": end } })
      assert.deepStrictEqual([again.status, again.text], [204, ""])
      // A page that lost the connection before the end is told the end.
      const before = events.at(-2)?.id ?? ""
      const rest = yield* (yield* gateway.follow(`/turns/${messageId}/updates?from=${before}`)).rest
      assert.deepStrictEqual(rest.at(-1), events.at(-1))
    }))

  test("goes on when its page leaves, and when the request that started it is cut off", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const gateway = yield* Gateways.open()
      const abort = new AbortController()
      const request = gateway.request("/conversations/c/turns", {
        body: start(halfway),
        headers: { "idempotency-key": "k" },
        signal: abort.signal
      })
      abort.abort()
      yield* Effect.promise(() => request.catch(() => undefined))
      const { messageId } = yield* begin(gateway, halfway, { key: "k" })
      const page = yield* gateway.follow(`/turns/${messageId}/updates`)
      yield* page.until(isHalf)
      yield* page.leave
      const left = new AbortController()
      const other = yield* gateway.follow(`/turns/${messageId}/updates`, { signal: left.signal })
      yield* other.until(isHalf)
      left.abort()
      yield* fake.release("half")
      const { turn } = yield* finish(gateway, messageId)
      assert.deepInclude(turn, { status: "completed", content: "one two three" })
      assert.strictEqual(yield* fake.modelCalls, 1)
    }))

  test("is stopped on demand and keeps its text; stopping it again changes nothing, and one that ended cannot be stopped", () =>
    Effect.gen(function*() {
      const gateway = yield* Gateways.open()
      const { messageId } = yield* begin(gateway, halfway)
      const page = yield* gateway.follow(`/turns/${messageId}/updates`)
      yield* page.until(isHalf)
      const stopped = yield* gateway.call(`/turns/${messageId}/cancel`, { method: "POST" })
      assert.strictEqual(stopped.status, 200, stopped.text)
      const turn = stopped.as(TurnJson.Turn)
      assert.deepInclude(turn, { status: "cancelled", content: "one two " })
      const events = yield* page.rest
      assert.deepInclude(events.at(-1)?.data, { type: "turn.finished" })
      const again = yield* passing(gateway.call(`/turns/${messageId}/cancel`, { method: "POST" }))
      assert.deepInclude(again.as(TurnJson.Turn), { status: "cancelled", content: "one two " })
      const done = yield* begin(gateway, [{ text: "Hello." }])
      yield* finish(gateway, done.messageId)
      const late = yield* gateway.call(`/turns/${done.messageId}/cancel`, { method: "POST" })
      assert.deepStrictEqual([late.status, late.tag], [409, "TooLate"])
    }))

  test("is encoded once for all who are told the same of it at once, wherever they began", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const gateway = yield* Gateways.open()
      const { messageId } = yield* begin(gateway, [
        { text: "one two three", gate: "half", gateAfter: 2 }
      ])
      const early = yield* gateway.follow(`/turns/${messageId}/updates`)
      const seen = yield* early.until(isHalf)
      yield* early.leave
      const starts = [undefined, undefined, seen.at(-1)?.id]
      const reading = yield* Effect.forEach(starts, (from) =>
        Effect.forkScoped(
          Stream.runCollect(Events.ofTurn(messageId, from, Effect.succeed(true), (attached) => attached)),
          { startImmediately: true }
        ))
      // All have read what there is, and wait.
      yield* Effect.promise(() => setImmediate())
      yield* fake.release("half")
      const [one = [], other = [], late = []] = yield* Effect.forEach(reading, Fiber.join)
      const decoder = new TextDecoder()
      const textsOf = (all: ReadonlyArray<Uint8Array>) => all.map((bytes) => decoder.decode(bytes)).join("")
      assert.strictEqual(textsOf(one), textsOf(other))
      assert.include(textsOf(one), " three")
      assert.isTrue(textsOf(one).endsWith(textsOf(late).replace(": attached\n\n", "")))
      const isShared = (bytes: Uint8Array) => other.includes(bytes) && late.includes(bytes)
      assert.isNotEmpty(one.slice(1).filter(isShared))
    }))

  test("whose stream is silent says that it is alive every 15 seconds", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const gateway = yield* Gateways.open()
      const { messageId } = yield* begin(gateway, halfway)
      const page = yield* gateway.follow(`/turns/${messageId}/updates`)
      yield* page.until(isHalf)
      assert.isTrue(page.text().startsWith(": attached\n\n"))
      assert.notInclude(page.text(), ": alive")
      yield* TestClock.adjust("15 seconds")
      yield* TestClock.adjust("15 seconds")
      yield* fake.release("half")
      yield* page.rest
      assert.lengthOf(page.text().match(/^: alive$/gm) ?? [], 2)
    }))

  test("whose store fails ends its stream with a word about it, which is no end of the turn", () =>
    Effect.gen(function*() {
      const reports = yield* Gateways.Reports
      const store = yield* SessionStore
      const messageId = AssistantMessageId.make("m")
      const conversationId = ConversationId.make("c")
      yield* store.claim({ id: messageId, conversationId, prompt: [] })
      const failure = new StoreError({ operation: "changes", reason: "SECRET", isRetryable: false })
      const gateway = yield* Effect.updateService(Gateways.open(), SessionStore, (store) => ({
        ...store,
        changes: () => Stream.concat(Stream.succeed(undefined), Stream.fail(failure))
      }))
      const page = yield* gateway.follow("/turns/m/updates")
      const events = yield* page.rest
      assert.deepStrictEqual(events.map(({ data, id }) => [data.type, id]), [["stream.failed", undefined]])
      assert.notInclude(page.text(), "SECRET")
      assert.deepStrictEqual(reports, [failure])
    }))

  test("shows no owner, no lease, no system prompt and no file of its prompt", () =>
    Effect.gen(function*() {
      const gateway = yield* Gateways.open({ input: () => ({ system: "SECRET-SYSTEM", tools: { bash: false } }) })
      const secret = Buffer.from("SECRET-FILE").toString("base64")
      const { prompt } = start([{ text: "Hello." }])
      const body = {
        prompt: [
          { type: "text", text: prompt },
          { type: "file", mediaType: "text/plain", filename: "a.txt", url: `data:text/plain;base64,${secret}` }
        ]
      }
      const started = yield* gateway.call("/conversations/c/turns", { body })
      const { messageId } = started.as(GatewayApi.StartedTurn)
      const page = yield* gateway.follow(`/turns/${messageId}/updates`)
      const events = yield* page.rest
      assert.strictEqual(events.at(-1)?.data.type, "turn.finished")
      const store = yield* SessionStore
      const row = Option.getOrThrow(yield* store.getMessage(AssistantMessageId.make(messageId)))
      assert.include(JSON.stringify(row), secret)
      const list = yield* gateway.call("/conversations/c/turns")
      const shown = yield* gateway.call(`/turns/${messageId}`)
      assert.deepStrictEqual(shown.as(TurnJson.Turn).prompt[1], {
        type: "file",
        mediaType: "text/plain",
        filename: "a.txt"
      })
      for (const text of [page.text(), list.text, shown.text]) {
        for (const word of ["SECRET", secret, "owner", "lease", "epoch"]) assert.notInclude(text, word)
      }
    }))
})

describe("what an agent asks", () => {
  test("stands in the inbox until it is answered; the first answer counts, and the same one may be repeated", () =>
    Effect.gen(function*() {
      const gateway = yield* Gateways.open({ input })
      const { messageId } = yield* begin(gateway, asking)
      const page = yield* gateway.follow(`/turns/${messageId}/updates`)
      const events = yield* page.until((events) => events.some(({ data }) => data.type === "asked"))
      const asked = events.at(-1)?.data
      assert(asked?.type === "asked")
      const inbox = (yield* gateway.call("/asks")).as(Asks)
      assert.deepStrictEqual(inbox.items.map(({ id, status }) => [id, status]), [[asked.ask.id, "open"]])
      const path = `/asks/${asked.ask.id}/answer`
      const wrong = yield* gateway.call(path, { body: { _tag: "Answers", answers: [["yes"]] } })
      assert.deepStrictEqual([wrong.status, wrong.tag], [422, "Unprocessable"])
      const once = { _tag: "Permission", reply: { reply: "once" } } as const
      for (let time = 0; time < 2; time++) {
        const answered = yield* gateway.call(path, { body: once })
        assert.deepInclude(answered.as(TurnJson.Ask), { status: "answered", answer: once })
      }
      const other = yield* gateway.call(path, { body: { _tag: "Reject" } })
      assert.deepStrictEqual([other.status, other.tag], [409, "TooLate"])
      const rest = yield* page.rest
      assert.isTrue(rest.some(({ data }) => data.type === "answered"))
      assert.strictEqual((yield* gateway.call(`/turns/${messageId}`)).as(TurnJson.Turn).content, "Done.")
      assert.deepStrictEqual((yield* gateway.call("/asks")).as(Asks), { items: [], next: null })
    }))

  test("may be answered by a page that was told of it before it was stored", () =>
    Effect.gen(function*() {
      const writing = yield* Latch.make()
      const opens = yield* Latch.make()
      const gateway = yield* Effect.updateService(Gateways.open({ input }), SessionStore, (store) => ({
        ...store,
        openAsk: (asked) => Effect.andThen(opens.open, writing.whenOpen(store.openAsk(asked)))
      }))
      const { messageId } = yield* begin(gateway, asking)
      const page = yield* gateway.follow(`/turns/${messageId}/updates`)
      const asked = (yield* page.until((events) => events.some(({ data }) => data.type === "asked"))).at(-1)?.data
      assert(asked?.type === "asked")
      yield* opens.await
      const once = { _tag: "Permission", reply: { reply: "once" } } as const
      const answering = yield* Effect.forkChild(
        gateway.call(`/asks/${asked.ask.id}/answer`, { body: once }),
        { startImmediately: true }
      )
      yield* Effect.promise(() => setImmediate())
      yield* writing.open
      assert.deepInclude((yield* Fiber.join(answering)).as(TurnJson.Ask), { status: "answered", answer: once })
      assert.strictEqual(textOf(yield* page.rest), "Done.")
    }))

  test("is listed over all conversations, oldest first, in pages, or of one conversation", () =>
    Effect.gen(function*() {
      const gateway = yield* Gateways.open({ input })
      for (const conversation of ["a", "b", "c", "d", "e"]) {
        const { messageId } = yield* begin(gateway, asking, { conversation })
        const page = yield* gateway.follow(`/turns/${messageId}/updates`)
        yield* page.until((events) => events.some(({ data }) => data.type === "asked"))
        yield* page.leave
      }
      const pages: Array<string> = []
      let after: string | null = ""
      while (after !== null) {
        const page: typeof Asks.Type = (yield* gateway.call(`/asks?limit=2${after}`)).as(Asks)
        pages.push(page.items.map(({ conversationId }) => conversationId).join(""))
        after = page.next === null ? null : `&after=${page.next}`
      }
      assert.deepStrictEqual(pages, ["ab", "cd", "e"])
      const one = (yield* gateway.call("/asks?conversationId=c")).as(Asks)
      assert.deepStrictEqual(one.items.map(({ conversationId }) => conversationId), ["c"])
    }))
})

describe("lists", () => {
  test("of conversations begin with the newest turn, and lead through all of them page by page", () =>
    Effect.gen(function*() {
      const gateway = yield* Gateways.open()
      for (const conversation of ["a", "b", "c", "d", "e", "a"]) {
        yield* finish(gateway, (yield* begin(gateway, [{ text: conversation }], { conversation })).messageId)
      }
      const pages: Array<string> = []
      let before: string | null = ""
      while (before !== null) {
        const page: typeof Conversations.Type = (yield* gateway.call(`/conversations?limit=2${before}`)).as(
          Conversations
        )
        pages.push(page.items.map(({ conversationId }) => conversationId).join(""))
        before = page.next === null ? null : `&before=${page.next}`
      }
      assert.deepStrictEqual(pages, ["ae", "dc", "b"])
    }))

  test("of turns give the newest ones, oldest first, and lead to the older ones", () =>
    Effect.gen(function*() {
      const gateway = yield* Gateways.open()
      for (const text of ["1", "2", "3", "4", "5"]) {
        yield* finish(gateway, (yield* begin(gateway, [{ text }])).messageId)
      }
      const pages: Array<string> = []
      let before: string | null = ""
      while (before !== null) {
        const page: typeof Turns.Type = (yield* gateway.call(`/conversations/c/turns?limit=2${before}`)).as(Turns)
        pages.push(page.items.map(({ content }) => content).join(""))
        before = page.next === null ? null : `&before=${page.next}`
      }
      assert.deepStrictEqual(pages, ["45", "23", "1"])
      assert.deepStrictEqual((yield* gateway.call("/conversations/none/turns")).as(Turns), { items: [], next: null })
    }))
})

describe("the gateway", () => {
  test("says that it runs, and whether the OpenCode server answers", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const gateway = yield* Gateways.open()
      const health = yield* gateway.call("/health", { token: null })
      assert.deepStrictEqual([health.status, health.text], [200, `{"status":"ok"}`])
      const connection = Effect.map(gateway.call("/connection"), (answer) => answer.as(GatewayApi.Connection))
      assert.deepInclude(yield* connection, { state: "connected", reason: null })
      yield* fake.kill
      assert.deepInclude(yield* connection, { state: "connected" })
      yield* TestClock.adjust("6 seconds")
      assert.deepInclude(yield* connection, { state: "unreachable", version: null })
      yield* fake.start
      yield* TestClock.adjust("6 seconds")
      assert.deepInclude(yield* connection, { state: "connected" })
    }))

  test("carries on the turn of a gateway that ended in the middle of it", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const { known, messageId } = yield* Effect.scoped(Effect.gen(function*() {
        const gateway = yield* Gateways.open()
        const { messageId } = yield* begin(gateway, halfway)
        const page = yield* gateway.follow(`/turns/${messageId}/updates`)
        return { known: yield* page.until(isHalf), messageId }
      }))
      const gateway = yield* Gateways.open()
      const from = encodeURIComponent(known.at(-1)?.id ?? "")
      const page = yield* gateway.follow(`/turns/${messageId}/updates?from=${from}`)
      yield* page.until((events) => events.length > 0)
      yield* TestClock.adjust("1 second")
      yield* fake.release("half")
      const rest = yield* page.rest
      assert.strictEqual(textOf([...known, ...rest]), "one two three")
      assert.strictEqual((yield* gateway.call(`/turns/${messageId}`)).as(TurnJson.Turn).status, "completed")
      assert.strictEqual(yield* fake.modelCalls, 1)
    }))
})
