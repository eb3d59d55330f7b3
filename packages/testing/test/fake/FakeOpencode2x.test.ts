/**
 * The fake OpenCode 2.x where it cannot be compared with a real server in a few seconds: restarts, the end of retries, the log, and the names
 * of the release. The recordings of the beta are the measure.
 */
import { assert, it } from "@effect/vitest"
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"

const Answer = Schema.fromJsonString(Schema.Struct({ data: Schema.Record(Schema.String, Schema.Unknown) }))
const decodeAnswer = Schema.decodeUnknownEffect(Answer)

const send = Effect.fnUntraced(function*(method: "DELETE" | "GET" | "PATCH" | "POST", path: string, body?: object) {
  const fake = yield* FakeOpencode.FakeOpencode
  const [plain = "", query = ""] = path.split("?")
  return yield* fake.handle({
    method,
    path: plain,
    query: Object.fromEntries(new URLSearchParams(query)),
    headers: {},
    body: body === undefined ? "" : JSON.stringify(body)
  })
})

const statusOf = (...args: Parameters<typeof send>) =>
  Effect.map(send(...args), (response) => (response._tag === "Body" ? response.status : 0))

const dataOf = Effect.fnUntraced(function*(...args: Parameters<typeof send>) {
  const response = yield* send(...args)
  assert(response._tag === "Body")
  return (yield* decodeAnswer(response.body)).data
})

const open = Effect.map(dataOf("POST", "/api/session", {}), ({ id }) => String(id))

/** The names of the events in a session's log. */
const logOf = Effect.fnUntraced(function*(id: string, after?: number) {
  const response = yield* send(
    "GET",
    `/api/experimental/session/${id}/log${after === undefined ? "" : `?after=${after}`}`
  )
  assert(response._tag === "Events")
  const text = yield* Stream.mkString(Stream.decodeText(response.stream))
  return [...text.matchAll(/"type":"((?:session|log)\.[a-z.]+)"/g)].map(([, type = ""]) => type.replace("session.", ""))
})

const prompt = (id: string, steps: Parameters<typeof FakeOpencode.prompt>[1], fields: object = {}) =>
  send("POST", `/api/session/${id}/prompt`, { text: FakeOpencode.prompt("go", steps), ...fields })

/** A session whose answer has come to its second word, and its prompt. */
const halfway = Effect.gen(function*() {
  const fake = yield* FakeOpencode.FakeOpencode
  const id = yield* open
  const steps = [{ text: "one two three", gate: "half", gateAfter: 2 }, { text: "The rest." }]
  yield* prompt(id, steps, { id: "msg_halfway" })
  yield* fake.reached("half")
  return { id, repost: prompt(id, steps, { id: "msg_halfway" }) }
})

const settle = TestClock.adjust(0)

const texts = Effect.fnUntraced(function*(id: string) {
  const fake = yield* FakeOpencode.FakeOpencode
  return (yield* fake.messages2x(id)).map((message) =>
    message.type === "assistant"
      ? message.content.map((content) => (content.type === "text" ? content.text : content.type)).join()
      : message.type
  )
})

it.layer(FakeOpencode.layer({ line: "2.x" }))("the fake OpenCode 2.x", (it) => {
  it.effect("leaves a killed answer open and empty, does not go on with a repost, and goes on with an input of its own", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode.FakeOpencode
      const { id, repost } = yield* halfway
      const before = yield* fake.modelCalls
      yield* fake.restart
      yield* settle
      assert.deepStrictEqual(yield* texts(id), ["user", ""])
      assert.deepStrictEqual(yield* dataOf("GET", "/api/session/active"), {})
      yield* repost
      yield* settle
      assert.deepStrictEqual((yield* logOf(id)).slice(-3), ["execution.started", "execution.succeeded", "log.synced"])
      assert.strictEqual(yield* fake.modelCalls, before)

      yield* fake.release("half")
      yield* send("POST", `/api/session/${id}/synthetic`, { id: "msg_goon", text: "Continue." })
      yield* settle
      assert.deepStrictEqual(yield* texts(id), ["user", "", "synthetic", "one two three"])
      assert.strictEqual(yield* fake.userMessageCount(id), 1)
    }))

  it.effect("keeps what was streamed at a shutdown, and does not go on by itself", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode.FakeOpencode
      const id = yield* open
      yield* prompt(id, [{ text: "one two three", gate: "down", gateAfter: 2 }])
      yield* fake.reached("down")
      yield* fake.terminate
      yield* fake.start
      yield* settle
      assert.deepStrictEqual(yield* texts(id), ["user", "one two "])
      assert.deepStrictEqual((yield* logOf(id)).slice(-4), [
        "text.ended",
        "step.failed",
        "execution.interrupted",
        "log.synced"
      ])
    }))

  it.effect("gives up after five calls of the model for one step", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode.FakeOpencode
      const before = yield* fake.modelCalls
      const id = yield* open
      yield* prompt(id, [{ fail: 500, times: 9 }])
      yield* settle
      for (const seconds of [2, 4, 8]) yield* TestClock.adjust(`${seconds} seconds`)
      assert.strictEqual((yield* fake.modelCalls) - before, 4)
      yield* TestClock.adjust("16 seconds")
      assert.strictEqual((yield* fake.modelCalls) - before, 5)
      assert.deepStrictEqual((yield* logOf(id)).slice(-3), ["step.failed", "execution.failed", "log.synced"])
    }))

  it.effect("replays the log behind a number, and follows it", () =>
    Effect.gen(function*() {
      const id = yield* open
      yield* prompt(id, [{ text: "One." }])
      yield* settle
      assert.deepStrictEqual(yield* logOf(id, 7), ["step.ended", "execution.succeeded", "log.synced"])
      assert.deepStrictEqual(yield* logOf(id, 99), ["log.synced"])
      const response = yield* send("GET", `/api/experimental/session/${id}/log?after=9&follow=true`)
      assert(response._tag === "Events")
      const following = yield* response.stream.pipe(
        Stream.decodeText,
        Stream.map((text) => /"type":"([a-z.]+)"/.exec(text)?.[1]),
        Stream.take(3),
        Stream.runCollect,
        Effect.forkChild
      )
      yield* settle
      yield* prompt(id, [{ text: "Two." }])
      assert.deepStrictEqual(Array.from(yield* Fiber.join(following)), [
        "log.synced",
        "session.input.admitted",
        "session.execution.started"
      ])
    }))

  it.effect("has no route of the release and none of 1.x", () =>
    Effect.gen(function*() {
      const id = yield* open
      assert.deepStrictEqual(
        yield* Effect.forEach(["/api/health", "/api/info", "/global/health", `/api/session/${id}/inbox`], (path) =>
          statusOf("GET", path)),
        [200, 404, 404, 404]
      )
    }))
})

it.layer(FakeOpencode.layer({ line: "2.x", managed: true }))("the managed one", (it) => {
  it.effect("goes on by itself after a shutdown, and not after a crash", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode.FakeOpencode
      const { id } = yield* halfway
      yield* fake.terminate
      yield* fake.release("half")
      yield* fake.start
      yield* settle
      assert.deepStrictEqual(yield* texts(id), ["user", "one two ", "one two three"])
      const other = yield* open
      yield* prompt(other, [{ text: "one two three", gate: "crash", gateAfter: 2 }])
      yield* fake.reached("crash")
      yield* fake.restart
      yield* settle
      assert.deepStrictEqual(yield* texts(other), ["user", ""])
    }))
})

it.layer(FakeOpencode.layer({
  line: "2.x release",
  managed: true,
  permission: [
    { permission: "bash", pattern: "*", action: "ask" }
  ]
}))("the release", (it) => {
  it.effect("has its own names for inputs, calls and answers", () =>
    Effect.gen(function*() {
      const id = yield* open
      const answer = yield* Effect.flatMap(
        prompt(id, [{ tool: "shell", args: { command: "echo hi" } }, { text: "Ran." }], { id: "msg_mine" }),
        (response) => response._tag === "Body" ? decodeAnswer(response.body) : Effect.die("no answer")
      )
      assert.containsAllKeys(answer.data, ["payload", "time"])
      yield* settle
      const asks = yield* send("GET", `/api/session/${id}/permission`)
      assert(asks._tag === "Body")
      const [, ask = ""] = /"id":"(per_[^"]*)"/.exec(asks.body) ?? []
      const path = `/api/session/${id}/permission/${ask}/reply`
      assert.strictEqual(yield* statusOf("POST", path, { reply: "once" }), 400)
      assert.strictEqual(yield* statusOf("POST", path, { decision: "once" }), 204)
      yield* settle
      const log = yield* logOf(id)
      assert.includeMembers(log, ["created", "inbox.enqueued", "inbox.delivered", "tool.success"])
      assert.deepInclude(yield* dataOf("GET", `/api/session/${id}`), { outcome: "succeeded" })
      assert.deepStrictEqual(
        yield* Effect.forEach(
          ["/api/health", "/api/info", `/api/session/${id}/pending`, `/api/session/${id}/inbox`],
          (path) => statusOf("GET", path)
        ),
        [404, 200, 404, 200]
      )
    }))

  it.effect("goes on by itself after a crash too, and says so in the session", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode.FakeOpencode
      const { id } = yield* halfway
      yield* fake.kill
      yield* fake.release("half")
      yield* fake.start
      yield* settle
      assert.deepStrictEqual((yield* texts(id)).slice(0, 4), ["user", "", "synthetic", "one two three"])
    }))

  it.effect("removes an input that waits, and takes one that is gone for removed", () =>
    Effect.gen(function*() {
      const id = yield* open
      yield* prompt(id, [{ text: "Never." }], { id: "msg_waits", resume: false })
      const path = `/api/session/${id}/inbox/msg_waits`
      assert.deepStrictEqual(yield* Effect.forEach([path, path], (path) => statusOf("DELETE", path)), [204, 204])
      assert.deepStrictEqual((yield* logOf(id)).filter((type) => type.startsWith("inbox.")), [
        "inbox.enqueued",
        "inbox.cancelled"
      ])
      assert.deepStrictEqual(yield* texts(id), [])
    }))

  it.effect("takes a prompt under a known id for the first one, whatever else it says", () =>
    Effect.gen(function*() {
      const id = yield* open
      const path = `/api/session/${id}/prompt`
      yield* send("POST", path, { id: "msg_first", text: "first", resume: false })
      const again = { id: "msg_first", text: "second", delivery: "queue", resume: false }
      assert.strictEqual(yield* statusOf("POST", path, again), 200)
      const waiting = yield* send("GET", `/api/session/${id}/inbox`)
      assert(waiting._tag === "Body")
      assert.include(waiting.body, "first\"")
      assert.notInclude(waiting.body, "second")
      assert.strictEqual(yield* statusOf("POST", `/api/session/${yield* open}/prompt`, again), 409)
      assert.strictEqual(yield* statusOf("POST", `/api/session/${id}/synthetic`, again), 409)
    }))

  it.effect("lets an input that waits steer, which wakes the session, and lets no other one", () =>
    Effect.gen(function*() {
      const id = yield* open
      yield* prompt(id, [{ text: "Now." }], { id: "msg_later", resume: false, delivery: "queue" })
      const path = `/api/session/${id}/inbox/msg_later`
      assert.strictEqual(yield* statusOf("PATCH", path, { delivery: "queue" }), 409)
      assert.strictEqual(yield* statusOf("PATCH", `${path}_gone`, { delivery: "steer" }), 409)
      assert.strictEqual(yield* statusOf("PATCH", path, { delivery: "soon" }), 400)
      assert.strictEqual(yield* statusOf("PATCH", path, { delivery: "steer" }), 204)
      yield* settle
      assert.deepStrictEqual(yield* texts(id), ["user", "Now.", "idle"])
      assert.include(yield* logOf(id), "inbox.delivery.changed")
    }))

  it.effect("goes on with what steers after an interrupt that says so, and leaves what waits for the end", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode.FakeOpencode
      const id = yield* open
      yield* prompt(id, [{ text: "one two three", gate: "resume", gateAfter: 2 }])
      yield* fake.reached("resume")
      yield* prompt(id, [{ text: "Later." }], { id: "msg_behind", delivery: "queue" })
      yield* prompt(id, [{ text: "Now." }], { id: "msg_before" })
      yield* send("POST", `/api/session/${id}/interrupt?resume=true`)
      yield* settle
      assert.deepStrictEqual(yield* texts(id), ["user", "one two ", "idle", "user", "Now.", "idle"])
    }))

  it.effect("stops what runs in a folder in which nothing happens for an hour, also what waits for a person", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode.FakeOpencode
      const id = yield* open
      yield* prompt(id, [{ tool: "shell", args: { command: "echo hi" } }, { text: "Never said." }])
      yield* settle
      yield* TestClock.adjust("59 minutes")
      const other = yield* open
      yield* prompt(other, [{ text: "Something happens." }])
      yield* settle
      yield* TestClock.adjust("59 minutes")
      assert.notInclude(yield* logOf(id), "execution.interrupted")
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual((yield* logOf(id)).slice(-4), [
        "tool.failed",
        "step.failed",
        "execution.interrupted",
        "log.synced"
      ])
      assert.strictEqual((yield* fake.messages2x(id)).at(-1)?.type, "idle")
    }))
})

const question = {
  tool: "question",
  args: { questions: [{ question: "Which?", header: "Pick", options: [{ label: "A", description: "first" }] }] }
} as const

/** A session that asks a question, and the path of its form. */
const asking = Effect.gen(function*() {
  const id = yield* open
  yield* prompt(id, [question, { text: "Gone on." }])
  yield* settle
  const forms = yield* send("GET", `/api/session/${id}/form`)
  assert(forms._tag === "Body")
  const [, form = ""] = /"id":"(frm_[^"]*)"/.exec(forms.body) ?? []
  return { id, path: `/api/session/${id}/form/${form}` }
})

/** Whether the list has a form. */
const listsForms = (path: string) =>
  Effect.map(send("GET", path), (response) => response._tag === "Body" && response.body.includes("frm_"))

const closings = [
  ["an answer", "POST", "/reply", { answer: { q0: "A" } }, { status: "answered", answer: { q0: "A" } }, "Gone on."],
  ["a dismissal", "DELETE", "", undefined, { status: "cancelled" }, undefined],
  [
    "a dismissal that says why",
    "DELETE",
    "?message=Nobody+is+here.",
    undefined,
    { status: "cancelled", message: "Nobody is here." },
    "Gone on."
  ]
] as const

it.layer(FakeOpencode.layer({ line: "2.x release" }))("a form of the release", (it) => {
  it.effect.each(closings)("keeps its state after %s", ([, method, rest, body, state, text]) =>
    Effect.gen(function*() {
      const { id, path } = yield* asking
      assert.deepInclude(yield* dataOf("GET", path), { state: { status: "pending" }, sessionID: id })
      assert.strictEqual(yield* statusOf(method, `${path}${rest}`, body), 204)
      yield* settle
      assert.deepInclude(yield* dataOf("GET", path), { state })
      assert.strictEqual(yield* statusOf("GET", `${path}/state`), 404)
      assert.strictEqual(yield* statusOf(method, `${path}${rest}`, body), 409)
      assert.strictEqual((yield* texts(id)).find((said) => said === "Gone on."), text)
    }))

  it.effect("is listed for its folder only if the folder is named", () =>
    Effect.gen(function*() {
      yield* asking
      assert.isFalse(yield* listsForms("/api/form"))
      assert.isTrue(yield* listsForms("/api/form?location[directory]=/project"))
    }))
})

it.layer(FakeOpencode.layer({ line: "2.x", deltaWords: 2 }))("the events of a text", (it) => {
  it.effect("may tell of several words at once, and tell of all of them", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode.FakeOpencode
      const deltas: Array<unknown> = []
      yield* fake.dropEvents(({ properties, type }) => {
        if (type === "session.text.delta") deltas.push(properties["delta"])
        return false
      })
      yield* prompt(yield* open, [{ text: "one two three" }])
      yield* settle
      assert.deepStrictEqual(deltas, ["one two ", "three"])
    }))
})

it.layer(FakeOpencode.layer({ line: "2.x", permission: [{ permission: "bash", pattern: "*", action: "ask" }] }))(
  "a refusal",
  (it) => {
    it.effect("takes the other permissions of its session along without its message, which ends the run", () =>
      Effect.gen(function*() {
        const id = yield* open
        const tools = ["echo a", "echo b"].map((command) => ({ tool: "shell", args: { command } }))
        yield* prompt(id, [{ tools }, { text: "Never." }])
        yield* settle
        const asks = yield* send("GET", `/api/session/${id}/permission`)
        assert(asks._tag === "Body")
        const [ask = "", ...others] = [...asks.body.matchAll(/"id":"(per_[^"]*)"/g)].map(([, ask = ""]) => ask)
        assert.strictEqual(others.length, 1)
        const path = `/api/session/${id}/permission/${ask}/reply`
        assert.strictEqual(yield* statusOf("POST", path, { reply: "reject", message: "Not a." }), 204)
        yield* settle
        assert.deepStrictEqual(
          (yield* logOf(id)).slice(-5),
          ["tool.failed", "tool.failed", "step.failed", "execution.interrupted", "log.synced"]
        )
        const left = yield* send("GET", `/api/session/${id}/permission`)
        assert(left._tag === "Body" && !left.body.includes("per_"))
      }))
  }
)
