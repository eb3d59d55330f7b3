import { assert } from "@effect/vitest"
import { runTurn } from "@opencode-turn/core"
import { Client } from "@opencode-turn/core/Client"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import type { TurnInput } from "@opencode-turn/core/TurnInput"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import { Effect, Option } from "effect"
import * as Turns from "../support/turns.ts"

const { conversationId, messageId, prompts, row, test, turn } = Turns

/** A turn of the conversation, each under another id. */
const turnOf = (id: string, input: Partial<TurnInput> = {}) =>
  turn([{ text: `Said ${id}.` }], { ...input, messageId: id })

/** The tools that the model was offered last. */
const offered = Effect.gen(function*() {
  const fake = yield* FakeOpencode
  return (yield* fake.modelRequests).filter(({ isTitle }) => !isTitle).at(-1)?.tools ?? []
})

const session = Effect.gen(function*() {
  const client = yield* Client
  const store = yield* SessionStore
  return yield* client.getSession(Option.getOrThrow(yield* store.getSession(conversationId)))
})

test("the tools of a turn limit that turn alone", () =>
  Effect.gen(function*() {
    yield* runTurn(turnOf("a"))
    const all = yield* offered
    assert.includeMembers([...all], ["bash", "read", "write"])
    yield* runTurn(turnOf("b", { tools: { "*": false, read: true } }))
    assert.deepStrictEqual(yield* offered, ["read"])
    yield* runTurn(turnOf("c"))
    assert.deepStrictEqual(yield* offered, all)
    yield* runTurn(turnOf("d", { tools: { bash: false } }))
    assert.deepStrictEqual(yield* offered, all.filter((tool) => tool !== "bash"))
    yield* runTurn(turnOf("w", { tools: { write: false } }))
    assert.deepStrictEqual(yield* offered, all.filter((tool) => tool !== "write"))
    yield* runTurn(turnOf("e", { tools: {} }))
    assert.deepStrictEqual(yield* offered, all)
  }))

test("the tools of a turn are recorded with its prompt, so that it is posted again with them", () =>
  Effect.gen(function*() {
    yield* runTurn(turn([{ text: "Done." }], { tools: { bash: false, write: true } }))
    const [post] = yield* prompts
    const tools = { bash: false, write: true, "opencode-turn": false }
    assert.deepStrictEqual(Object(post?.body).tools, tools)
    const message = yield* row
    assert.deepStrictEqual(message?.promptRecord?.prompt.tools, tools)
    assert.deepStrictEqual(message?.draft?.tools, { bash: false, write: true })
  }))

test("tools are refused where the server would drop permission rules for them", () =>
  Effect.gen(function*() {
    const permission = [{ permission: "bash", pattern: "*", action: "ask" }] as const
    const both = yield* runTurn(turnOf("a", { permission, tools: { write: false } }))
    assert.deepInclude(both.error, { _tag: "InvalidInput", field: "tools" })
    assert.isUndefined(both.message)

    yield* runTurn(turnOf("b", { permission }))
    const later = yield* runTurn(turnOf("c", { tools: { write: false } }))
    assert.deepInclude(later.error, { _tag: "InvalidInput", field: "tools" })
    assert.lengthOf(yield* prompts, 1)
    assert.deepStrictEqual((yield* session).permission, permission)

    assert.strictEqual((yield* runTurn(turnOf("d"))).status, "completed")
    assert.deepStrictEqual((yield* session).permission, permission)
  }))

test("rules that were added after a limited turn are kept", () =>
  Effect.gen(function*() {
    const client = yield* Client
    yield* runTurn(turnOf("a", { tools: { bash: false } }))
    const rule = { permission: "edit", pattern: "*", action: "ask" } as const
    yield* client.updateSession((yield* session).id, { permission: [rule] })
    yield* runTurn(turnOf("b"))
    assert.deepStrictEqual((yield* session).permission.at(-1), rule)
  }))

test("a new session names its conversation, beside the metadata of the turn that makes it", () =>
  Effect.gen(function*() {
    yield* runTurn(turn([{ text: "Done." }], { metadata: { ticket: 42, labels: ["a"], conversationId: "another" } }))
    const metadata = { ticket: 42, labels: ["a"], conversationId }
    assert.deepStrictEqual((yield* session).metadata, metadata)
    yield* runTurn(turnOf("later", { metadata: { ticket: 43 } }))
    assert.deepStrictEqual((yield* session).metadata, metadata)
    assert.strictEqual((yield* row)?.id, messageId)
  }))
