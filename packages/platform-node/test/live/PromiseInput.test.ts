import { assert, it } from "@effect/vitest"
import { openTurns } from "@opencode-turn/platform-node/promise"

// Nothing here reaches a server.
const settings = { baseUrl: "http://127.0.0.1:9", database: "memory" }

const open = () => openTurns(settings)

/** Calls as a program without types does. */
const call = (target: object, name: string, ...args: ReadonlyArray<unknown>): Promise<unknown> =>
  Promise.resolve(Reflect.apply(Reflect.get(target, name), target, args))

const reasonOf = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(() => assert.fail("it succeeded"), (error: unknown) => error)

const first = async (updates: unknown) => {
  assert(typeof updates === "object" && updates !== null && Symbol.asyncIterator in updates)
  return await call(Object(Reflect.apply(Object(updates[Symbol.asyncIterator]), updates, [])), "next")
}

const turn = { conversation: "c", prompt: "Go." }

it("refuses an argument that cannot be used, and names it", async () => {
  await using turns = await open()
  const refused: ReadonlyArray<readonly [string, Promise<unknown>]> = [
    ["options", call(turns, "run")],
    ["conversation", call(turns, "run", {})],
    ["prompt", call(turns, "run", { conversation: "c" })],
    ["prompt", call(turns, "run", { conversation: "c", prompt: [{}] })],
    ["conversation", call(turns, "stream", {}).then(first)],
    ["whenBusy", call(turns, "run", { ...turn, whenBusy: "foo" })],
    ["maxQueued", call(turns, "run", { ...turn, maxQueued: -1 })],
    ["signal", call(turns, "run", { ...turn, signal: 1 })],
    ["messageId", call(turns, "attach", "").then(first)],
    ["messageId", call(turns, "attach").then(first)],
    ["from", call(turns, "attach", "m", { from: 3 }).then(first)],
    ["messageId", call(turns, "cancel", "")],
    ["options", call(turns, "fork")],
    ["into", call(turns, "fork", { conversation: "c" })],
    ["at", call(turns, "fork", { conversation: "c", into: "d", at: 3 })],
    ["messageId", call(turns, "revert")],
    ["conversation", call(turns, "unrevert")],
    ["conversation", call(turns, "compact", "")],
    ["model", call(turns, "compact", "c", { model: 3 })],
    ["signal", call(turns, "compact", "c", { signal: 3 })],
    ["askId", call(turns, "answer", "", { _tag: "Reject" })],
    ["answer", call(turns, "answer", "per_1")],
    ["limit", call(turns, "pendingAsks", { limit: -1 })],
    ...["30d", Number.NaN, -1, Infinity, undefined].map((age) =>
      ["olderThanMillis", call(turns, "prune", age)] as const
    )
  ]
  for (const [field, promise] of refused) {
    const error = await reasonOf(promise)
    assert(error instanceof Error)
    assert.deepInclude(Object(error), { _tag: "InvalidInput", field })
    assert.include(error.message, `invalid ${field}: it is `)
  }
})

it("refuses a field that it does not know, also inside of an option, and says which there are", async () => {
  await using turns = await open()
  const refused: ReadonlyArray<readonly [string, Promise<unknown>, RegExp]> = [
    ["budget.cots", call(turns, "run", { ...turn, budget: { cots: 1 } }), /cost, tokens/],
    ["budget.maxSteps", call(turns, "stream", { ...turn, budget: { steps: 1, maxSteps: 2 } }).then(first), /steps/],
    ["whenbusy", call(turns, "run", { ...turn, whenbusy: "reject" }), /whenBusy/],
    ["worker", call(turns, "run", { ...turn, worker: true }), /conversation/],
    ["model", call(turns, "fork", { conversation: "c", into: "d", model: "p/m" }), /conversation, at, into/],
    ["conversationId", call(turns, "pendingAsks", { conversationId: "c" }), /conversation/],
    ["form", call(turns, "attach", "m", { form: "x" }).then(first), /from/],
    ["variant", call(turns, "compact", "c", { variant: "high" }), /model, signal/]
  ]
  for (const [field, promise, known] of refused) {
    const error = await reasonOf(promise)
    assert(error instanceof Error)
    assert.deepInclude(Object(error), { _tag: "InvalidInput", field })
    assert.match(error.message, /is not known, only /)
    assert.match(error.message, known)
  }
  const setting = await reasonOf(call({ openTurns }, "openTurns", { ...settings, budget: { cots: 12345 } }))
  assert(setting instanceof Error)
  assert.deepInclude(Object(setting), { _tag: "InvalidConfig", setting: "budget.cots" })
  assert.notInclude(setting.message, "12345")
})

it("refuses what is inside of an option and cannot be used, and names its place", async () => {
  await using turns = await open()
  const rule = { permission: "bash", pattern: "*", action: "deny" }
  const refused: ReadonlyArray<readonly [string, unknown]> = [
    ["budget.cost", { budget: { cost: "5" } }],
    ["budget.wallClock", { budget: { wallClock: "tomorrow" } }],
    ["tools", { tools: { bash: "no" } }],
    ["metadata", { metadata: { when: new Date(0) } }],
    ["permission", { permission: [{ ...rule, messge: "no" }] }],
    ["prompt", { prompt: [{ type: "text", text: "Go.", txt: "Go." }] }]
  ]
  for (const [field, options] of refused) {
    const error = await reasonOf(call(turns, "run", { ...turn, ...Object(options) }))
    assert(error instanceof Error)
    assert.deepInclude(Object(error), { _tag: "InvalidInput", field })
    assert.match(error.message, /: it is not /)
  }
  const answer = await reasonOf(call(turns, "answer", "per_1", { _tag: "Reject", mesage: "no" }))
  assert.deepInclude(Object(answer), { _tag: "InvalidInput", field: "answer" })
})

it("takes an option that is undefined for one that was not given", async () => {
  await using turns = await open()
  assert.deepStrictEqual(await call(turns, "pendingAsks", { limit: undefined, other: undefined }), [])
})

it("refuses settings that cannot be used, and repeats no secret", async () => {
  const refused: ReadonlyArray<readonly [string, unknown]> = [
    ["gate", "foo"],
    ["requestTimeoutMillis", -1],
    ["requestTimeoutMillis", Number.NaN],
    ["whenBusy", "foo"],
    ["maxQueued", -1],
    ["worker", "yes"],
    ["telemetry", "http://127.0.0.1:4318"],
    ["password", 12345],
    ["baseUrl", "http://user:12345@127.0.0.1:9"]
  ]
  for (const [setting, value] of refused) {
    const error = await reasonOf(call({ openTurns }, "openTurns", { ...settings, [setting]: value }))
    assert(error instanceof Error)
    assert.deepInclude(Object(error), { _tag: "InvalidConfig", setting })
    assert.match(error.message, new RegExp(`^${setting} (is not|holds) `))
    assert.notInclude(error.message, "12345")
  }
})

it("says that the turns are closed", async () => {
  const turns = await open()
  await turns.close()
  await turns.close()
  for (
    const promise of [
      turns.run(turn),
      turns.cancel("m"),
      turns.prune(1),
      first(turns.attach("m")),
      first(turns.stream(turn))
    ]
  ) {
    const error = await reasonOf(promise)
    assert(error instanceof Error)
    assert.deepInclude(Object(error), { _tag: "TurnsClosed" })
    assert.include(error.message, "closed")
  }
})

it("keeps the reason of a signal that has aborted", async () => {
  await using turns = await open()
  const reason = new Error("enough")
  const signal = AbortSignal.abort(reason)
  assert.strictEqual(await reasonOf(turns.run({ ...turn, signal })), reason)
})

it("ends what runs and what is read when the turns are closed", async () => {
  const turns = await open()
  const running = reasonOf(turns.run(turn))
  const reader = turns.stream({ ...turn, conversation: "d" })[Symbol.asyncIterator]()
  const reading = reasonOf(reader.next())
  await turns.close()
  for (const error of [await running, await reading]) {
    assert(error instanceof Error)
    assert.deepInclude(Object(error), { _tag: "TurnsClosed" })
  }
  assert.deepStrictEqual(await reader.next(), { done: true, value: undefined })
})
