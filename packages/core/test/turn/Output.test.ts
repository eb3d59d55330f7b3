import * as Exchange from "#reply/Exchange"
import { assert, describe, it } from "@effect/vitest"
import * as Output from "@opencode-turn/core/Output"
import type { WirePart } from "@opencode-turn/core/Part"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Make from "../support/make.ts"

const Person = Schema.Struct({
  name: Schema.String,
  age: Schema.Int.check(Schema.isGreaterThan(0)),
  born: Schema.optionalKey(Schema.DateTimeUtc),
  tags: Schema.Array(Schema.String)
})

const exchangeOf = (structured: unknown, ...parts: ReadonlyArray<WirePart>) =>
  Exchange.fromMessages(Make.empty, [
    Make.stored(Make.user()),
    Make.stored(Make.ended(Make.answerId, { structured }), ...parts)
  ])

const readText = (text: string) =>
  Output.read(Output.fromSchema(Person), exchangeOf(undefined, Make.text("prt_1", text)))

const doubled = (combine: (half: object) => object) => ({
  type: "object",
  properties: { x: { $ref: "#/$defs/a0" } },
  $defs: Object.fromEntries([
    ...Array.from({ length: 20 }, (_, index) => [`a${index}`, combine({ $ref: `#/$defs/a${index + 1}` })]),
    ["a20", { type: "string" }]
  ])
})
const chained = (length: number) => ({
  $ref: `#/$defs/a${length}`,
  $defs: Object.fromEntries(Array.from({ length: length + 1 }, (_, index) => [
    `a${index}`,
    index === 0 ? { type: "string" } : { type: "array", items: { $ref: `#/$defs/a${index - 1}` } }
  ]))
})

describe("a schema", () => {
  it("is sent as the JSON Schema of its JSON form", () => {
    const { jsonSchema } = Output.fromSchema(Person)
    assert.strictEqual(jsonSchema["type"], "object")
    assert.deepStrictEqual(jsonSchema["required"], ["name", "age", "tags"])
    assert.deepNestedPropertyVal(jsonSchema, "properties.born.type", "string")
    assert.deepStrictEqual(Output.toFormat(jsonSchema), { type: "json_schema", schema: jsonSchema })
  })

  it("of a class is sent as the schema of its fields, whatever its name", () => {
    class User extends Schema.Class<User>("app/User ~1")({ name: Schema.String }) {}
    const { jsonSchema } = Output.fromSchema(User)
    assert.strictEqual(jsonSchema["type"], "object")
    assert.deepStrictEqual(jsonSchema["required"], ["name"])
  })

  it.effect("of a union accepts a value with a field of that name unchanged", () =>
    Effect.gen(function*() {
      const Kind = Schema.Union([
        Schema.Struct({ k: Schema.Literal("a"), value: Schema.Int }),
        Schema.Struct({ k: Schema.Literal("b") })
      ])
      const { value } = yield* Output.read(Output.fromSchema(Kind), exchangeOf({ k: "a", value: 1 }))
      assert.deepStrictEqual(value, { k: "a", value: 1 })
    }))

  it("that is recursive brings its definitions", () => {
    interface Tree {
      readonly children: ReadonlyArray<Tree>
    }
    const Tree = Schema.Struct({ children: Schema.Array(Schema.suspend((): Schema.Codec<Tree> => Tree)) }).annotate({
      identifier: "Tree"
    })
    const { jsonSchema } = Output.fromSchema(Tree)
    assert.property(jsonSchema, "$defs")
    assert.strictEqual(jsonSchema["type"], "object")
  })

  it.effect("decodes the structured value", () =>
    Effect.gen(function*() {
      const sent = { name: "Ada", age: 36, born: "1815-12-10T00:00:00.000Z", tags: [] }
      const { json, value } = yield* Output.read(Output.fromSchema(Person), exchangeOf(sent))
      assert.strictEqual(value.born?.epochMilliseconds, Date.UTC(1815, 11, 10))
      assert.deepStrictEqual(JSON.parse(json), sent)
    }))

  it.effect("leaves unknown fields out of both the value and its JSON", () =>
    Effect.gen(function*() {
      const sent = { name: "Ada", age: 36, tags: [], evil: 1 }
      const { json, value } = yield* Output.read(Output.fromSchema(Person), exchangeOf(sent))
      assert.notProperty(value, "evil")
      assert.deepStrictEqual(JSON.parse(json), { name: "Ada", age: 36, tags: [] })
    }))

  it.effect("names every issue with its path", () =>
    Effect.gen(function*() {
      const issues = yield* Effect.flip(
        Output.read(Output.fromSchema(Person), exchangeOf({ name: 1, age: -1, tags: ["a", 2] }))
      )
      assert.sameMembers(issues.map(({ path }) => path), ["name", "age", "tags[1]"])
      assert.isTrue(issues.every(({ message }) => message !== ""))
    }))

  it.effect("of a type other than an object is wrapped in one", () =>
    Effect.gen(function*() {
      const output = Output.fromSchema(Schema.Array(Schema.Int))
      const { schema } = Output.toFormat(output.jsonSchema)
      assert.deepNestedPropertyVal(schema, "type", "object")
      assert.deepNestedPropertyVal(schema, "properties.value", output.jsonSchema)
      assert.deepNestedPropertyVal(schema, "required", ["value"])
      const { json, value } = yield* Output.read(output, exchangeOf({ value: [1, 2] }))
      assert.deepStrictEqual(value, [1, 2])
      assert.deepStrictEqual(JSON.parse(json), [1, 2])
      const issues = yield* Effect.flip(Output.read(output, exchangeOf({ value: [1, "2"] })))
      assert.deepStrictEqual(issues.map(({ path }) => path), ["[1]"])
    }))
})

describe("an answer without a structured value", () => {
  for (
    const [name, text] of [
      ["alone", `{"name":"Ada","age":36,"tags":[]}`],
      ["in a block of code", "```json\n{\"name\":\"Ada\",\"age\":36,\"tags\":[]}\n```"],
      ["with space around it", `\n  {"name":"Ada","age":36,"tags":[]}\n`]
    ] as const
  ) {
    it.effect(`is read from the JSON of its text, ${name}`, () =>
      Effect.gen(function*() {
        assert.strictEqual((yield* readText(text)).value.name, "Ada")
      }))
  }

  it.effect("is searched in linear time, whatever it holds", () =>
    Effect.gen(function*() {
      for (
        const text of ["```" + "\n".repeat(200_000), "```json" + " ".repeat(200_000), "`".repeat(200_000), "```\n```"]
      ) {
        assert.deepStrictEqual(yield* Effect.flip(readText(`${text}x`)), [{ path: "", message: "it is no JSON" }])
        assert.deepStrictEqual(yield* Effect.flip(readText(text)), [{ path: "", message: "it is no JSON" }])
      }
    }))

  it.effect("has one issue as a whole if its text is not JSON, or if it has none", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* Effect.flip(readText("Ada is 36.")), [{ path: "", message: "it is no JSON" }])
      assert.deepStrictEqual(yield* Effect.flip(readText("  ")), [{ path: "", message: "there is no value" }])
    }))
})

describe("a JSON Schema", () => {
  const document = {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    type: "object",
    properties: { n: { type: "integer", minimum: 1 }, of: { $ref: "#/$defs/kind" } },
    required: ["n"],
    additionalProperties: false,
    $defs: { kind: { enum: ["a", "b"] } }
  }

  it.effect("is sent as it is, and checks values", () =>
    Effect.gen(function*() {
      const output = yield* Output.fromJsonSchema(document)
      assert.deepStrictEqual(output.jsonSchema, document)
      assert.deepStrictEqual((yield* Output.read(output, exchangeOf({ n: 1, of: "b" }))).value, { n: 1, of: "b" })
      const issues = yield* Effect.flip(Output.read(output, exchangeOf({ n: 0, of: "c" })))
      assert.sameMembers(issues.map(({ path }) => path), ["n", "of"])
    }))

  const hostile: ReadonlyArray<readonly [string, object, RegExp]> = [
    ["refers to itself", { $ref: "#/$defs/a", $defs: { a: { $ref: "#/$defs/a" } } }, /leads back to itself/],
    ["refers to its root", { type: "object", properties: { a: { $ref: "#" } } }, /leads back to itself/],
    [
      "refers to itself in a ring",
      { $ref: "#/$defs/a", $defs: { a: { anyOf: [{ $ref: "#/$defs/b" }] }, b: { allOf: [{ $ref: "#/$defs/a" }] } } },
      /leads back to itself/
    ],
    [
      "refers to a part of what refers to it",
      {
        $ref: "#/$defs/a",
        $defs: {
          a: { type: "object", properties: { b: { items: { $ref: "#/$defs/a/properties/b" }, type: "array" } } }
        }
      },
      /leads back to itself/
    ],
    [
      "has no end through its fields",
      {
        $ref: "#/$defs/tree",
        $defs: {
          tree: { type: "object", properties: { children: { type: "array", items: { $ref: "#/$defs/tree" } } } }
        }
      },
      /leads back to itself/
    ],
    [
      "doubles with each field",
      doubled((half) => ({ type: "object", properties: { l: half, r: half } })),
      /more than 10000/
    ],
    ["doubles with each choice", doubled((half) => ({ anyOf: [half, half] })), /more than 10000/],
    ["is nested through a chain of references", chained(5000), /nested more than 200 levels deep/],
    [
      "is nested without any",
      Array.from({ length: 5000 }).reduce<object>((items) => ({ type: "array", items }), { type: "string" }),
      /nested more than 200 levels deep/
    ],
    [
      "has nested quantifiers",
      { type: "object", properties: { a: { pattern: "^(a+)+$" } } },
      /\(a\+\)\+.*quantifiers are nested/
    ],
    [
      "has them for the names of fields",
      { type: "object", propertyNames: { pattern: "(a|a)*b" } },
      /quantifiers are nested/
    ],
    [
      "has them in a pattern for fields",
      { type: "object", patternProperties: { "^(a*)*$": {} }, additionalProperties: false },
      /quantifiers are nested/
    ]
  ]
  for (const [name, jsonSchema, expected] of hostile) {
    it.effect(`that ${name} is refused`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(Output.fromJsonSchema(jsonSchema))
        assert.strictEqual(error._tag, "InvalidInput")
        assert.match(error.message, expected)
      }))
  }

  it.effect("runs a slow pattern on short texts only, and shows the original pattern", () =>
    Effect.gen(function*() {
      for (
        const [pattern, fits, long] of [
          ["^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", "ada@example.com", `a@${".".repeat(100_000)}@`],
          ["\\s+$", "a ", `${" ".repeat(200_000)}a`],
          ["\\d+x|y", "12x", "1".repeat(200_000)]
        ] as const
      ) {
        const output = yield* Output.fromJsonSchema({ type: "object", properties: { a: { type: "string", pattern } } })
        assert.deepStrictEqual((yield* output.decode({ a: fits })).value, { a: fits })
        const issues = yield* Effect.flip(output.decode({ a: long }))
        const [issue, ...others] = issues
        assert.deepStrictEqual([issue.path, others], ["a", []])
        assert.isTrue(issue.message.startsWith(`Expected a string matching the RegExp ${pattern}, and of at most `))
        assert.match(issue.message, /of at most \d+ characters$/)
      }
    }))

  it.effect("runs a slow pattern on so many texts as take about a second, together", () =>
    Effect.gen(function*() {
      for (
        const [pattern, fits, long] of [["\\s+$", "a ", `${" ".repeat(7_000)}x`], [
          "a*a*b",
          "aab",
          "a".repeat(230)
        ]] as const
      ) {
        const jsonSchema = { type: "array", items: { type: "string", pattern } }
        const output = yield* Output.fromJsonSchema(jsonSchema)
        assert.lengthOf(
          Array.from(Object((yield* output.decode(Array.from({ length: 1_000 }, () => fits))).value)),
          1_000
        )
        const issues = yield* Effect.flip(output.decode(Array.from({ length: 2_000 }, () => long)))
        assert.deepStrictEqual(issues, [{
          path: "",
          message: "its texts are too long together for the patterns of the schema: give shorter or fewer texts"
        }])
      }
    }))

  it.effect("rejects an answer that is nested too deep", () =>
    Effect.gen(function*() {
      const deep = Array.from({ length: 100_000 }).reduce<unknown>((inner) => ({ inner }), 1)
      const outputs = [yield* Output.fromJsonSchema({ type: "object" }), Output.unchecked({ type: "object" })]
      for (const output of outputs) {
        const issues = yield* Effect.flip(Output.read(output, exchangeOf(deep)))
        assert.deepStrictEqual(issues, [{ path: "", message: "it is nested more than 200 levels deep" }])
      }
      const text = `${"[".repeat(100_000)}${"]".repeat(100_000)}`
      const issues = yield* Effect.flip(
        Output.read(Output.unchecked({ type: "array" }), exchangeOf(undefined, Make.text("prt_1", text)))
      )
      assert.deepStrictEqual(issues, [{ path: "", message: "it is nested more than 200 levels deep" }])
    }))

  it.effect("lists the first of thousands of issues, and counts the others", () =>
    Effect.gen(function*() {
      const output = yield* Output.fromJsonSchema({ type: "array", items: { type: "integer" } })
      const issues = yield* Effect.flip(output.decode(Array.from({ length: 5000 }, () => "x".repeat(1000))))
      assert.lengthOf(issues, 21)
      assert.deepStrictEqual(issues.at(-1), { path: "", message: "and 4980 more" })
      assert.isBelow(JSON.stringify(issues).length, 20_000)
      const named = yield* Output.fromJsonSchema({
        type: "object",
        properties: {},
        additionalProperties: { type: "integer" }
      })
      const [first] = yield* Effect.flip(named.decode({ ["k".repeat(100_000)]: "x" }))
      assert.isBelow(first.path.length, 600)
    }))

  it.effect("refuses additional properties only if it disallows them", () =>
    Effect.gen(function*() {
      const closed = yield* Output.fromJsonSchema({
        type: "object",
        properties: { a: { type: "object", properties: { x: { type: "string" } }, additionalProperties: false } }
      })
      const issues = yield* Effect.flip(Output.read(closed, exchangeOf({ a: { x: "1", y: 2 }, b: 3 })))
      assert.deepStrictEqual(issues.map(({ path }) => path), ["a.y"])
      const { json, value } = yield* Output.read(closed, exchangeOf({ a: { x: "1" }, b: 3 }))
      assert.deepStrictEqual(value, { a: { x: "1" }, b: 3 })
      assert.deepStrictEqual(JSON.parse(json), value)
    }))

  for (
    const [name, schema] of [
      ["no object", "string"],
      ["an array", []],
      ["a keyword that cannot be checked", { type: "array", contains: { type: "string" } }],
      ["of an unknown type", { type: "module" }],
      ["of an unknown type within", { type: "object", properties: { a: { type: "text" } } }],
      ["with keywords of another shape", { type: "object", required: "a" }],
      ["with keywords of another shape within", { type: "object", properties: { a: { minimum: "x" } } }],
      ["a reference to another document", { $ref: "https://example.com/schema.json" }]
    ] as const
  ) {
    it.effect(`is refused if it is ${name}`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(Output.fromJsonSchema(schema))
        assert.strictEqual(error.field, "output")
      }))
  }
})

it("a repair names each issue and its place", () => {
  const prompt = Output.repairPrompt([{ path: "tags[1]", message: "Expected string" }, {
    path: "",
    message: "too few"
  }])
  assert.include(prompt, "- tags[1]: Expected string\n- too few\n")
})
