import { makeDecoder } from "#opencode/v2/Events"
import * as Runs from "#opencode/v2/Runs"
import type * as Wire from "#opencode/v2/Wire"
import * as Exchange from "#reply/Exchange"
import { assert, describe, it } from "@effect/vitest"
import { MessageId } from "@opencode-turn/core/Ids"
import * as Reply from "@opencode-turn/core/Reply"
import * as Predicate from "effect/Predicate"
import type { Tape } from "../../support/tapes2x.ts"
import * as Tapes from "../../support/tapes2x.ts"

const exchangeOf = (tape: Tape, end?: Wire.RunEnd, promptId = tape.promptId) =>
  Exchange.fromMessages({ sessionId: tape.sessionId, promptId }, Tapes.messagesOf(tape, end))

const recorded = (tape: Tape) => {
  const exchange = exchangeOf(tape)
  return Reply.fromMessages(exchange, exchange.messages)
}

/** The event as the release of 2.x names it. */
const released = (event: unknown): unknown => {
  if (!Predicate.isObject(event) || !Predicate.isObject(event["data"])) return event
  const { callID, info, input, inputID, source, ...data } = event["data"]
  const names = new Map([
    ["session.input.admitted", "session.inbox.enqueued"],
    ["session.input.promoted", "session.inbox.delivered"]
  ])
  const item = Predicate.isObject(input) && "delivery" in input
    ? { ...input, payload: input["data"], data: undefined }
    : undefined
  return {
    ...event,
    type: names.get(String(event["type"])) ?? event["type"],
    data: {
      ...data,
      ...(callID !== undefined && { id: callID }),
      ...(inputID !== undefined && { inboxID: inputID }),
      ...(item === undefined ? input !== undefined && { input } : { item }),
      ...(Predicate.isObject(info) && info),
      ...(Predicate.isObject(source) && { source: { ...source, id: source["callID"], callID: undefined } })
    }
  }
}

const failure = (name: string) => Tapes.streamed(Tapes.load(name)).session.failure

/** The turns that ended by themselves, without an end of their server. */
const whole = Tapes.names.filter((name) => !/^(?:kill|term)_/.test(name))

describe("the events of a beta of 2.x", () => {
  it("mean the same under the names of the release", () => {
    for (const name of Tapes.names) {
      const { events } = Tapes.load(name)
      assert.deepStrictEqual(Tapes.translate(events.map(released)), Tapes.translate(events), name)
    }
  })

  it("of a whole turn need no question to the server", () => {
    for (const name of whole) {
      assert.deepStrictEqual(Tapes.translate(Tapes.load(name).events).filter(({ _tag }) => _tag === "Unread"), [], name)
    }
  })

  it("end what the server's record shows as ended, too", () => {
    for (const name of whole.filter((name) => !["queue_steer", "unknown_model"].includes(name))) {
      assert.isTrue(Exchange.isFinalWhenIdle(exchangeOf(Tapes.load(name), "stopped")), name)
    }
  })
})

describe("a turn on a beta of 2.x", () => {
  it("that is refused without a message ends without an error, as on 1.x", () => {
    for (const name of ["permission_reject", "question_reject"]) {
      const tape = Tapes.load(name)
      const exchange = exchangeOf(tape, "shutdown")
      assert.isTrue(Exchange.isRefused(exchange), name)
      assert.isUndefined(Tapes.streamed(tape).session.failure, name)
    }
  })

  it("that a person stops ends as aborted", () => {
    for (const name of ["abort", "abort_question"]) {
      const tape = Tapes.load(name)
      assert.strictEqual(Tapes.streamed(tape).session.failure?.name, "MessageAbortedError", name)
      assert.strictEqual(exchangeOf(tape, "stopped").steps.at(-1)?.info.error?.name, "MessageAbortedError", name)
    }
  })

  it("that the server stops with itself is unfinished, until somebody prompts again", () => {
    const tape = Tapes.load("term_text")
    const alone = { ...tape, messages: tape.messages.slice(0, 2) }
    assert.isFalse(Exchange.isFinalWhenIdle(exchangeOf(alone, "shutdown")))
    assert.isUndefined(exchangeOf(alone, "shutdown").steps[0]?.info.error)
    // A managed server is back and has begun, without another message yet.
    assert.isFalse(Exchange.isFinalWhenIdle(exchangeOf(alone, "running")))
    assert.isFalse(exchangeOf(tape).isCurrent)
  })

  it("that a managed server goes on with by itself has both steps and ends with the second one", () => {
    const exchange = exchangeOf({ ...Tapes.load("term_text_service") })
    assert.lengthOf(exchange.steps, 2)
    assert.deepStrictEqual(exchange.steps.map(({ info }) => info.error), [undefined, undefined])
    assert.isTrue(Exchange.isFinal({ ...exchange, messages: exchange.messages }))
  })

  it("that was carried on after the server was killed is one exchange", () => {
    const exchange = exchangeOf(Tapes.load("kill_text_synthetic"))
    assert.lengthOf(exchange.steps, 2)
    assert.isTrue(exchange.isCurrent)
    assert.isTrue(Exchange.isFinal(exchange))
  })

  it("is unfinished after the server was killed", () => {
    const tape = Tapes.load("kill_text")
    const alone = { ...tape, messages: tape.messages.slice(0, 2) }
    assert.isFalse(Exchange.isFinalWhenIdle(exchangeOf(alone, "open")))
  })

  it("does not have what a subagent in the background makes of it later", () => {
    const tape = Tapes.load("subagent_background")
    const exchange = exchangeOf(tape)
    assert.lengthOf(exchange.steps, 2)
    assert.strictEqual(Reply.text(recorded(tape)), "parent did not wait")
    assert.strictEqual(Reply.text(Tapes.streamed(tape)), "parent did not wait")
  })

  it("has the answer behind its prompt, in whichever order the prompts were delivered", () => {
    const tape = Tapes.load("queue_steer")
    const texts = tape.messages.flatMap((message) =>
      Predicate.isObject(message) && message["type"] === "user" ? [MessageId.make(String(message["id"]))] : []
    ).map((promptId) => {
      const exchange = exchangeOf(tape, "ended", promptId)
      return Reply.text(Reply.fromMessages(exchange, exchange.messages))
    })
    assert.deepStrictEqual(texts, ["", "C steered done", "B queued done"])
  })

  it("fails with what the model's provider said", () => {
    assert.deepInclude(failure("llm400"), { name: "APIError", statusCode: 400, isRetryable: false })
    assert.deepInclude(failure("llm401"), { name: "APIError", statusCode: 401 })
    assert.deepInclude(failure("llm500_exhausted"), { name: "APIError", statusCode: 500, isRetryable: true })
    assert.strictEqual(failure("unknown_model")?.name, "provider.no-route")
  })

  it("names the session of its subagent while that runs", () => {
    const parts = Reply.parts(Tapes.streamed(Tapes.load("subagent")))
    const [part] = parts.filter((part) => part.type === "tool")
    assert.match(part?.subagent ?? "", /^ses_/)
    assert.lengthOf(Reply.subagentStates(Tapes.streamed(Tapes.load("subagent"))), 1)
  })
})

describe("a connection to 2.x", () => {
  it("takes the comments of an idle server for its heartbeat", () => {
    const decoder = makeDecoder(Runs.make(), () => Tapes.place)
    const push = (text: string) => decoder.push(new TextEncoder().encode(text))
    assert.deepStrictEqual(push(`data: {"id":"evt_1","type":"server.connected","data":{}}\n\n`), [{
      _tag: "Connected"
    }])
    assert.deepStrictEqual(push(": heartbeat\n\n"), [{ _tag: "Heartbeat" }])
    assert.deepStrictEqual(push(`data: {"type":"session.usage.updated","data":{}}\n\n`), [])
  })
})

describe("a client that has not seen the prompt", () => {
  it("has to read a step from the server, because nothing else tells whose it is", () => {
    const tape = Tapes.load("tool_shell")
    const step = tape.events.findIndex((event) => Predicate.isObject(event) && event["type"] === "session.step.started")
    const [first] = Tapes.translate(tape.events.slice(step))
    assert.deepStrictEqual(first, { _tag: "Unread", sessionId: tape.sessionId })
  })
})
