import * as Permissions from "#cli/setup/Permissions"
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"

const rules = [
  { permission: "bash", pattern: "*", action: "ask" },
  { permission: "edit", pattern: "*", action: "ask" }
] as const

const added = (content: string | undefined) =>
  Effect.map(Permissions.intoConfiguration(content, rules), (text): unknown => JSON.parse(text))

const both = [
  { action: "bash", resource: "*", effect: "ask" },
  { action: "edit", resource: "*", effect: "ask" }
]

it.effect("rules come last in a configuration of 2.x, and make one where there is none", () =>
  Effect.gen(function*() {
    for (const none of [undefined, "", " ", "{}"]) assert.deepStrictEqual(yield* added(none), { permissions: both })
    const rule = { action: "*", resource: "*", effect: "allow" }
    const content = { model: "a/b", permissions: [rule], mcp: { servers: {} } }
    assert.deepStrictEqual(yield* added(JSON.stringify(content)), { ...content, permissions: [rule, ...both] })
  }))

it.effect("rules come last in a configuration of 1.x, which 2.x reads as well", () =>
  Effect.gen(function*() {
    const told = [
      [{ provider: {} }, "{\"provider\":{},\"permission\":{\"bash\":\"ask\",\"edit\":\"ask\"}}"],
      [{ permission: "allow" }, "{\"permission\":{\"*\":\"allow\",\"bash\":\"ask\",\"edit\":\"ask\"}}"],
      [
        { permission: { edit: "deny", bash: { "git *": "allow" }, read: "allow" }, model: "a/b" },
        "{\"permission\":{\"read\":\"allow\",\"bash\":\"ask\",\"edit\":\"ask\"},\"model\":\"a/b\"}"
      ],
      [
        { mcp: { tickets: { type: "remote" } } },
        "{\"mcp\":{\"tickets\":{\"type\":\"remote\"}},\"permission\":{\"bash\":\"ask\",\"edit\":\"ask\"}}"
      ]
    ] as const
    for (const [content, expected] of told) {
      assert.strictEqual(yield* Permissions.intoConfiguration(JSON.stringify(content), rules), expected)
    }
  }))

it.effect("a configuration that cannot be read is named, and not replaced", () =>
  Effect.gen(function*() {
    for (const content of ["{", "[]", "7", "{} // with a word"]) {
      const { message } = yield* Effect.flip(Permissions.intoConfiguration(content, rules))
      assert.match(message, /^OPENCODE_CONFIG_CONTENT .*--permission allow$/)
    }
  }))
