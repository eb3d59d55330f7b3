import { assert, describe, it } from "@effect/vitest"
import type { TurnServices } from "@opencode-turn/core/Turn"
import * as Gateway from "@opencode-turn/platform-node/gateway"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import type { Step } from "@opencode-turn/testing/ModelScript"
import type { UIMessage } from "ai"
import { Effect, Schema, type Scope } from "effect"
import { TestClock } from "effect/testing"
import * as Gateways from "../../support/Gateways.ts"
import { asks, Chat, textOf, transport } from "../../support/Pages.ts"

const test = <E>(
  name: string,
  body: () => Effect.Effect<void, E, TurnServices | FakeOpencode | Gateways.Reports | Scope.Scope>
) => it.effect(name, () => Effect.provide(Effect.scoped(body()), Gateways.layer))

/** The user's words, with what the model is to say. */
const prompt = (steps: ReadonlyArray<Step>): string => Gateways.start(steps).prompt

const halfway: ReadonlyArray<Step> = [{ text: "one two three", gate: "half", gateAfter: 2 }]
const isHalf = (message: UIMessage) => textOf(message) === "one two "

const Messages = Schema.Struct({ items: Schema.Array(Schema.Any), next: Schema.NullOr(Schema.String) })

/** The messages with which a page begins. */
const load = Effect.fnUntraced(function*(gateway: Gateways.TestGateway, query = "") {
  const answer = yield* gateway.call(`/ai-sdk/c/messages${query}`)
  assert.strictEqual(answer.status, 200, answer.text)
  return answer.as(Messages)
})

/** A chat of one message. */
const user = (...parts: ReadonlyArray<unknown>) => [{ id: "m", role: "user", parts }]

const json = (value: unknown): unknown => JSON.parse(JSON.stringify(value))

describe("a page of the AI SDK", () => {
  test("sends a message and gets the turn as its answer, which its history tells in the same words", () =>
    Effect.gen(function*() {
      const gateway = yield* Gateways.open()
      const chat = new Chat(gateway)
      yield* Effect.promise(() =>
        chat.sendMessage({
          text: prompt([
            { reasoning: "Hm.", text: "Let me see.", tool: "bash", args: { command: "ls", description: "List" } },
            { text: "Hello." }
          ])
        })
      )
      assert.deepStrictEqual([chat.status, chat.error], ["ready", undefined])
      const answer = chat.lastMessage
      assert.deepStrictEqual(
        answer?.parts.flatMap((part) => part.type === "data-step" ? [] : [part.type]),
        ["reasoning", "text", "dynamic-tool", "text"]
      )
      assert.deepInclude(answer?.metadata, { status: "completed", conversationId: "c" })
      const { items, next } = yield* load(gateway)
      assert.deepStrictEqual([items.length, next], [2, null])
      assert.deepStrictEqual(items[1], json(answer))
      assert.strictEqual(textOf(items[0]), textOf(chat.messages[0]))
    }))

  test("that is loaded anew in the middle of a word builds the same message, and nothing is asked of the model again", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const gateway = yield* Gateways.open()
      const first = new Chat(gateway)
      const whole = first.sendMessage({ text: prompt(halfway) })
      const half = yield* first.until(isHalf)
      const left = new Chat(gateway)
      const leaving = left.resumeStream()
      yield* left.until(isHalf)
      yield* Effect.promise(() => left.stop())
      yield* Effect.promise(() => leaving)
      const { items } = yield* load(gateway)
      // The answer that runs is told by its stream.
      assert.lengthOf(items, 1)
      const second = new Chat(gateway, items)
      const resumed = second.resumeStream()
      assert.deepStrictEqual(json(yield* second.until(isHalf)), json(half))
      yield* fake.release("half")
      yield* Effect.promise(() => Promise.all([whole, resumed]))
      assert.strictEqual(textOf(second.lastMessage), "one two three")
      assert.deepStrictEqual(json(second.lastMessage), json(first.lastMessage))
      assert.lengthOf(second.messages, 2)
      assert.strictEqual(yield* fake.modelCalls, 1)
      // Nothing runs any more, for longer than a page takes to ask.
      yield* TestClock.adjust("31 seconds")
      assert.isNull(yield* Effect.promise(() => transport(gateway).reconnectToStream({ chatId: "c" })))
      const { headers, status } = yield* gateway.call("/ai-sdk/c/stream")
      assert.deepStrictEqual([status, headers.get("content-type")], [204, null])
    }))

  test("that keeps its messages replays the running one in its place", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const gateway = yield* Gateways.open()
      const chat = new Chat(gateway)
      const sent = chat.sendMessage({ text: prompt(halfway) })
      yield* chat.until(isHalf)
      yield* Effect.promise(() => chat.stop())
      yield* Effect.promise(() => sent)
      const resumed = chat.resumeStream()
      yield* fake.release("half")
      yield* Effect.promise(() => resumed)
      assert.deepStrictEqual(chat.messages.map(textOf).slice(1), ["one two three"])
      assert.strictEqual(yield* fake.modelCalls, 1)
    }))

  test("that asks for the stream a moment after the end gets the answer, once, and nothing later", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const gateway = yield* Gateways.open()
      const chat = new Chat(gateway)
      const sent = chat.sendMessage({ text: prompt(halfway) })
      yield* chat.until(isHalf)
      // This page read the messages before the end, and asks for the stream behind it.
      const before = new Chat(gateway, (yield* load(gateway)).items)
      assert.deepStrictEqual(before.messages.map(({ role }) => role), ["user"])
      yield* fake.release("half")
      yield* Effect.promise(() => sent)
      const after = new Chat(gateway, (yield* load(gateway)).items)
      for (const page of [before, after]) {
        yield* Effect.promise(() => page.resumeStream())
        assert.deepStrictEqual([page.status, page.error], ["ready", undefined])
        assert.deepStrictEqual(json(page.messages), (yield* load(gateway)).items)
      }
      yield* TestClock.adjust("31 seconds")
      assert.strictEqual((yield* gateway.call("/ai-sdk/c/stream")).status, 204)
    }))

  test("shows a permission as an approval, and goes on with its answer", () =>
    Effect.gen(function*() {
      const gateway = yield* Gateways.open({
        input: () => ({ permission: [{ permission: "bash", pattern: "*", action: "ask" }] })
      })
      const chat = new Chat(gateway)
      const sent = chat.sendMessage({
        text: prompt([{ tool: "bash", args: { command: "git push", description: "Push" } }, { text: "Done." }])
      })
      const [part] = asks(yield* chat.until((message) => asks(message).length > 0))
      assert.deepInclude(part, { toolName: "bash", providerExecuted: true })
      assert.strictEqual(part?.approval.requestReason, "bash: git push")
      assert.deepInclude(part?.input, { command: "git push" })
      const id = part?.approval.id ?? ""
      // A page that is loaded anew shows the same.
      const other = new Chat(gateway)
      const watching = other.resumeStream()
      yield* other.until((message) => asks(message)[0]?.approval.id === id)
      yield* Effect.promise(async () => chat.addToolApprovalResponse({ id, approved: true }))
      const answered = yield* gateway.call(`/asks/${id}/answer`, {
        body: { _tag: "Permission", reply: { reply: "once" } }
      })
      assert.strictEqual(answered.status, 200, answered.text)
      yield* Effect.promise(() => Promise.all([sent, watching]))
      assert.strictEqual(textOf(chat.lastMessage), "Done.")
      assert.deepStrictEqual(json(other.lastMessage), json(chat.lastMessage))
      const { items } = yield* load(gateway)
      assert.deepStrictEqual(items[1], json(chat.lastMessage))
    }))

  test("stops its turn by a route of its own, and keeps what was streamed", () =>
    Effect.gen(function*() {
      const gateway = yield* Gateways.open()
      const chat = new Chat(gateway)
      const sent = chat.sendMessage({ text: prompt(halfway) })
      yield* chat.until(isHalf)
      const stopped = yield* gateway.call("/ai-sdk/c/stop", { method: "POST" })
      assert.strictEqual(stopped.status, 200, stopped.text)
      yield* Effect.promise(() => sent)
      assert.strictEqual(textOf(chat.lastMessage), "one two ")
      assert.deepInclude(chat.lastMessage?.metadata, { status: "cancelled" })
      const again = yield* gateway.call("/ai-sdk/c/stop", { method: "POST" })
      assert.strictEqual(again.status, 204)
    }))

  test("that repeats a message is the same turn, and one that wants another answer is another turn", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const gateway = yield* Gateways.open()
      const chat = new Chat(gateway)
      yield* Effect.promise(() => chat.sendMessage({ text: prompt([{ text: "Hello." }]) }))
      const [message] = chat.messages
      assert(message !== undefined)
      const body = { id: "c", messages: [message], trigger: "submit-message" }
      const repeated = yield* gateway.call("/ai-sdk", { body })
      assert.deepStrictEqual(
        [repeated.status, repeated.headers.get("x-vercel-ai-ui-message-stream"), yield* fake.modelCalls],
        [200, "v1", 1]
      )
      assert.isTrue(repeated.text.endsWith("data: [DONE]\n\n"))
      yield* Effect.promise(() => chat.regenerate())
      assert.strictEqual(yield* fake.modelCalls, 2)
      const { items, next } = yield* load(gateway, "?limit=1")
      assert.lengthOf(items, 2)
      const older = yield* load(gateway, `?limit=1&before=${next}`)
      assert.deepStrictEqual([older.items.length, older.next], [2, null])
    }))

  test("sends files inside the message, and is told what is wrong with any other chat", () =>
    Effect.gen(function*() {
      const gateway = yield* Gateways.open()
      const file = { type: "file", mediaType: "text/plain", url: "data:text/plain;base64,SGk=", filename: "hi.txt" }
      const text = { type: "text", text: prompt([{ text: "Hello." }]) }
      const post = (messages: unknown, more: object = {}) =>
        gateway.call("/ai-sdk", { body: { id: "c", messages, ...more } })
      const sent = yield* post(user(text, file, { type: "data-mine", data: 1 }), { mine: true })
      assert.strictEqual(sent.status, 200, sent.text)
      const { items } = yield* load(gateway)
      assert.deepStrictEqual(items[0].parts[1], {
        type: "data-file",
        data: { mediaType: "text/plain", filename: "hi.txt" }
      })
      const refused = [
        yield* post(user()),
        yield* post(user({ ...file, url: "https://example.com/a.png" })),
        yield* post(user({ ...file, url: "file:///etc/passwd" })),
        yield* post(user({ type: "text", text: 1 })),
        yield* post([{ id: "m", role: "assistant", parts: [text] }]),
        yield* post(user(...Array.from({ length: 1_001 }, () => text)))
      ]
      // Neither depth nor length of what does not count is a failure.
      const deep = `${"[".repeat(100_000)}${"]".repeat(100_000)}`
      const odd = yield* gateway.call("/ai-sdk", {
        body: `{"id":"c","messages":[{"id":"m","role":"user","parts":[${deep}]}],"x":${deep}}`
      })
      assert.oneOf(odd.status, [400, 422])
      assert.deepStrictEqual(refused.map(({ tag }) => tag), refused.map(() => "Unprocessable"))
      const unreadable = [yield* post([]), yield* post("no"), yield* post([{ role: "user" }])]
      assert.deepStrictEqual(unreadable.map(({ tag }) => tag), unreadable.map(() => "InvalidRequest"))
    }))

  test("gets nothing of others' chats, and has the limits of every client", () =>
    Effect.gen(function*() {
      const gateway = yield* Gateways.open({
        authorize: (request) => {
          const id = request.headers.get("authorization")?.slice("Bearer ".length)
          return id === undefined ? undefined : Gateway.ofPrefix(id, `${id}-`)
        },
        maxStreams: 1,
        maxTurns: 1
      })
      const post = (id: string, token: string | null = "ann", headers: Record<string, string> = {}) =>
        gateway.call("/ai-sdk", {
          body: { id, messages: [{ id, role: "user", parts: [{ type: "text", text: prompt(halfway) }] }] },
          token,
          headers
        })
      const own = yield* Effect.promise(() =>
        gateway.request("/ai-sdk", {
          body: {
            id: "ann-1",
            messages: [{ id: "m", role: "user", parts: [{ type: "text", text: prompt(halfway) }] }]
          },
          token: "ann"
        })
      )
      assert.strictEqual(own.status, 200)
      const stranger = { token: "bob" }
      const refused = [
        yield* post("ann-1", "bob"),
        yield* gateway.call("/ai-sdk/ann-1/stream", stranger),
        yield* gateway.call("/ai-sdk/ann-1/messages", stranger),
        yield* gateway.call("/ai-sdk/ann-1/stop", { ...stranger, method: "POST" })
      ]
      assert.deepStrictEqual(refused.map(({ status, tag }) => [status, tag]), refused.map(() => [404, "NotFound"]))
      const [nobody, site, more] = [
        yield* post("ann-1", null),
        yield* post("ann-1", "ann", { origin: "https://evil.example" }),
        yield* post("ann-2")
      ]
      assert.deepStrictEqual([nobody, site, more].map(({ status }) => status), [401, 403, 429])
      assert.strictEqual((yield* gateway.call("/ai-sdk/ann-1/stream", { token: "ann" })).status, 429)
      yield* Effect.promise(async () => own.body?.cancel())
    }))
})
