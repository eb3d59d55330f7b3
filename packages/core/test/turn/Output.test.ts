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

const readAs = <A>(schema: Schema.Codec<A, unknown>, text: string) =>
  Output.read(Output.fromSchema(schema), exchangeOf(undefined, Make.text("prt_1", text)))
const readText = (text: string) => readAs(Person, text)

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

const ada = { name: "Ada", age: 36, tags: ["a }", "```", "[1]"] }
const inOneLine = JSON.stringify(ada)
const inLines = JSON.stringify(ada, undefined, 2)
const noJson: Output.Issues = [{ path: "", message: "it is no JSON" }]
const several: Output.Issues = [{
  path: "",
  message: "it holds several JSON values, and it is not clear which one is meant: give only one"
}]

const Words = Schema.Array(
  Schema.Literals([
    "Ada",
    "is",
    "36",
    "é",
    ".",
    ",",
    "\n",
    "\n\n",
    "`b`",
    "- ",
    "**",
    "'",
    "\"",
    ":",
    "}",
    "]",
    "[1] "
  ])
).check(Schema.isMaxLength(12))
const Value = Schema.Struct({
  name: Schema.String,
  age: Schema.Int.check(Schema.isGreaterThan(0)),
  tags: Schema.Array(Schema.String)
})
const Written = Schema.Struct({
  value: Value,
  indent: Schema.Literals([0, 2]),
  language: Schema.Literals(["", "json", " JSON ", "jsonc"]),
  fence: Schema.Literals(["```", "````", "~~~"])
})
const block = ({ fence, indent, language, value }: typeof Written.Type) =>
  `${fence}${language}\n${JSON.stringify(value, undefined, indent)}\n${fence}`
const put = (written: typeof Written.Type, inBlock: boolean) =>
  inBlock ? `\n${block(written)}\n` : JSON.stringify(written.value)

describe("an answer without a structured value", () => {
  for (
    const [name, text] of [
      ["alone", inOneLine],
      ["with space around it", `\n  ${inOneLine}\n`],
      ["in a block of code", "```json\n" + inLines + "\n```"],
      ["in a block of code without a language", "```\n" + inOneLine + "\n```"],
      ["in a block of code with spaces at its fences", "  ``` JSON \r\n" + inLines + "\r\n  ```  "],
      ["in a block of code with longer fences", "````json5 title=a\n" + inLines + "\n````"],
      ["in a block of code with other fences", "~~~\n" + inLines + "\n~~~"],
      ["in a block of code on one line", "Here: \n```json " + inOneLine + " ```"],
      ["in a block of code whose last line has the fence", "```json\n" + inLines + "```\nThat is all."],
      ["in a block of code that is not closed", "Here it is:\n```json\n" + inLines],
      ["in a block of code behind words", "I looked {everywhere} [1].\n\n```json\n" + inLines + "\n```"],
      ["in a block of code before words", "```json\n" + inLines + "\n```\n\nI hope that it helps (see [2])."],
      ["in the one block of code that is JSON", "```sh\ncat a\n```\nThis gave:\n```\n" + inLines + "\n```\nDone."],
      [
        "in the one block of code that fits",
        "```json\n{\"name\":1}\n```\nis wrong, so:\n```json\n" + inLines + "\n```"
      ],
      [
        "in two blocks of code that are the same",
        "```json\n" + inLines + "\n```\nIn short:\n```\n" + inOneLine + "\n```"
      ],
      ["behind a sentence", `This is Ada. ${inOneLine}`],
      ["behind a sentence, as code", `The value is \`${inOneLine}\`.`],
      ["behind a sentence that quotes \"{", `I was told to quote "{: ${inOneLine}`],
      ["on lines of its own", `This is Ada:\n\n${inLines}\n\nI hope that it helps.`],
      ["before a sentence on the next line", `${inLines}\nI hope that it helps.`],
      ["behind a list of things to do", `- [ ] ask Ada\n- [x] write\n${inOneLine}`]
    ] as const
  ) {
    it.effect(`is read from the JSON of its text, ${name}`, () =>
      Effect.gen(function*() {
        assert.deepStrictEqual((yield* readText(text)).value, ada)
      }))
  }

  for (
    const [name, text, issues] of [
      ["no JSON", "Ada is 36.", noJson],
      ["no text", "  ", [{ path: "", message: "there is no value" }]],
      ["a value among its words", `I would say ${inOneLine}, but I do not know.`, noJson],
      ["two values that fit", `Either ${inOneLine} or {"name":"Eve","age":1,"tags":[]}`, several],
      [
        "a value in a block of code and another one",
        "```\n" + inLines + "\n```\n{\"name\":\"Eve\",\"age\":1,\"tags\":[]}",
        several
      ],
      ["a value inside of a program", "```ts\nconst ada = " + inOneLine + "\n```", noJson],
      ["a value inside of a list", `[${inOneLine}]`, [{ path: "", message: "Expected object" }]],
      ["half a value", inOneLine.slice(0, -1), noJson],
      ["very many values", Array.from({ length: 100 }, (_, index) => `{"a":${index}}`).join("\n"), several],
      ["an empty block of code", "```\n```", noJson]
    ] as const
  ) {
    it.effect(`is told what is wrong with it as a whole if it has ${name}`, () =>
      Effect.gen(function*() {
        const [issue, ...others] = yield* Effect.flip(readText(text))
        assert.lengthOf(others, 0)
        assert.strictEqual(issue.path, "")
        assert.include(issue.message, issues[0]?.message)
      }))
  }

  it.effect("is told what is wrong with the last value that is set apart from its words", () =>
    Effect.gen(function*() {
      const text =
        "```json\n{\"age\":1}\n```\nor rather\n```json\n{\"name\":\"Ada\",\"age\":0,\"tags\":[]}\n```\n{} is none."
      assert.deepStrictEqual((yield* Effect.flip(readText(text))).map(({ path }) => path), ["age"])
    }))

  it.effect("of a type other than an object is read from blocks of code and from lines of its own", () =>
    Effect.gen(function*() {
      const Numbers = Schema.Array(Schema.Int)
      assert.deepStrictEqual((yield* readAs(Numbers, "They are:\n[1, 2]\nThat is all.")).value, [1, 2])
      assert.deepStrictEqual((yield* readAs(Numbers, "They are:\n```json\n[1, 2]\n```")).value, [1, 2])
      assert.deepStrictEqual((yield* readAs(Numbers, "They are {\"value\":[1, 2]}")).value, [1, 2])
      assert.deepStrictEqual((yield* readAs(Schema.Int, "It is:\n```\n42\n```")).value, 42)
      assert.deepStrictEqual(yield* Effect.flip(readAs(Numbers, "I found none, see [1]")), noJson)
      assert.deepStrictEqual(yield* Effect.flip(readAs(Schema.Int, "It is 42")), noJson)
    }))

  it.effect.prop("is the value of its one block of code, whatever words stand around it", {
    before: Words,
    after: Words,
    written: Written
  }, ({ after, before, written }) =>
    Effect.gen(function*() {
      const text = `${before.join(" ")}\n${block(written)}\n${after.join(" ")}`
      assert.deepStrictEqual((yield* readText(text)).value, written.value)
    }))

  it.effect.prop("is the object behind its last word, whatever words stand before it", {
    before: Words,
    written: Written
  }, ({ before, written: { indent, value } }) =>
    Effect.gen(function*() {
      const text = `${before.join(" ")} ${JSON.stringify(value, undefined, indent)}`
      assert.deepStrictEqual((yield* readText(text)).value, value)
    }))

  it.effect.prop("is none of two values that differ, wherever they stand", {
    first: Written,
    second: Written,
    words: Words,
    isBlock: Schema.Tuple([Schema.Boolean, Schema.Boolean])
  }, ({ first, isBlock, second, words }) =>
    Effect.gen(function*() {
      const [one, other] = [first, { ...second, value: { ...second.value, age: first.value.age + 1 } }]
      const text = `${put(one, isBlock[0])} ${words.join(" ")} ${put(other, isBlock[1])}`
      assert.deepStrictEqual(yield* Effect.flip(readText(text)), several)
    }))

  it.effect("is searched in a time that grows with its length, whatever it holds", () =>
    Effect.gen(function*() {
      const many = 50_000
      for (
        const text of [
          "```" + "\n".repeat(many),
          "```json" + " ".repeat(many),
          "`".repeat(many),
          "```\n".repeat(many),
          "```\n[1,\n" + "[1]```\n".repeat(many),
          "[".repeat(many),
          "{\"a\":".repeat(many),
          "[\"\\\"".repeat(many),
          "[1] ".repeat(many),
          "a {} ".repeat(many) + "b",
          "{\n".repeat(many) + "}\n".repeat(many),
          "[".repeat(many) + "]".repeat(many) + "x"
        ]
      ) {
        const [{ path }] = yield* Effect.flip(readText(`x${text}`))
        assert.strictEqual(path, "")
      }
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
