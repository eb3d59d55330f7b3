import type { HttpAgent } from "@ag-ui/client"
import { assert, describe, it } from "@effect/vitest"
import type { TurnServices } from "@opencode-turn/core/Turn"
import * as Gateway from "@opencode-turn/platform-node/gateway"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import type { Step } from "@opencode-turn/testing/ModelScript"
import { Effect, type Scope } from "effect"
import * as Gateways from "../../support/Gateways.ts"
import { agentOf } from "../../support/Pages.ts"

const test = <E>(
  name: string,
  body: () => Effect.Effect<void, E, TurnServices | FakeOpencode | Gateways.Reports | Scope.Scope>
) => it.effect(name, () => Effect.provide(Effect.scoped(body()), Gateways.layer))

interface Interrupt {
  readonly id: string
  readonly reason: string
  readonly message?: string | undefined
  readonly subagentRunId?: string | undefined
}

const say = (agent: HttpAgent, steps: ReadonlyArray<Step>) => {
  agent.addMessage({ id: `m${agent.messages.length}`, role: "user", content: Gateways.start(steps).prompt })
}

const run = (agent: HttpAgent, parameters: Parameters<HttpAgent["runAgent"]>[0] = {}) =>
  Effect.promise(() => agent.runAgent(parameters))

const halfway: ReadonlyArray<Step> = [{ text: "one two three", gate: "half", gateAfter: 2 }]

const rolesOf = ({ messages }: HttpAgent) => messages.map(({ role }) => role)
const lastOf = ({ messages }: HttpAgent) => messages.at(-1)?.content

/** Every command asks. */
const input = () => ({ permission: [{ permission: "bash", pattern: "*", action: "ask" }] as const })
const asking: ReadonlyArray<Step> = [{ tool: "bash", args: { command: "git push", description: "Push" } }, {
  text: "Done."
}]

const body = (threadId: string, more: object = {}) => ({
  threadId,
  runId: "r1",
  messages: [{ id: "m", role: "user", content: Gateways.start([{ text: "Hello." }]).prompt }],
  tools: [],
  context: [],
  ...more
})

describe("a client of AG-UI", () => {
  test("runs a turn and gets its messages, and a client that connects later is told the whole thread", () =>
    Effect.gen(function*() {
      const gateway = yield* Gateways.open()
      const agent = agentOf(gateway)
      say(agent, [{ reasoning: "Hm.", tool: "bash", args: { command: "ls", description: "List" } }, { text: "Hello." }])
      yield* run(agent)
      assert.deepStrictEqual(rolesOf(agent), ["user", "reasoning", "assistant", "tool", "assistant"])
      assert.strictEqual(lastOf(agent), "Hello.")
      const other = agentOf(gateway, "/ag-ui/connect")
      yield* run(other)
      assert.deepStrictEqual(rolesOf(other), rolesOf(agent))
      assert.deepStrictEqual(other.messages.slice(1), agent.messages.slice(1))
      // The thread goes on.
      say(agent, [{ text: "Again." }])
      yield* run(agent)
      assert.deepStrictEqual([agent.messages.length, lastOf(agent)], [7, "Again."])
    }))

  test("ends its run with an interrupt where the turn waits, and goes on with the resume", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const gateway = yield* Gateways.open({ input })
      const agent = agentOf(gateway)
      say(agent, asking)
      yield* run(agent)
      const [interrupt]: ReadonlyArray<Interrupt> = agent.pendingInterrupts
      assert(interrupt !== undefined)
      assert.deepInclude(interrupt, { reason: "permission", message: "bash: git push" })
      // A page that is loaded anew is interrupted in the same way.
      const other = agentOf(gateway, "/ag-ui/connect")
      yield* run(other)
      assert.deepStrictEqual(other.pendingInterrupts, agent.pendingInterrupts)
      yield* run(agent, { resume: [{ interruptId: interrupt.id, status: "resolved", payload: { reply: "once" } }] })
      assert.deepStrictEqual(agent.pendingInterrupts, [])
      assert.deepStrictEqual(rolesOf(agent), ["user", "assistant", "tool", "assistant"])
      assert.strictEqual(lastOf(agent), "Done.")
      assert.strictEqual(yield* fake.modelCalls, 2)
      // An answer that came too late shows how the turn went on.
      const late = agentOf(gateway, "/ag-ui", other.messages)
      yield* run(late, { resume: [{ interruptId: interrupt.id, status: "cancelled" }] })
      assert.strictEqual(lastOf(late), "Done.")
    }))

  test("is told by the names of AG-UI that a runId stands for another prompt, or that a choice is too long", () =>
    Effect.gen(function*() {
      const gateway = yield* Gateways.open()
      assert.strictEqual((yield* gateway.call("/ag-ui", { body: body("c") })).status, 200)
      const messages = [{ id: "m", role: "user", content: "Something else." }]
      const again = yield* gateway.call("/ag-ui", { body: body("c", { messages }) })
      assert.strictEqual(again.status, 422)
      assert.include(again.text, "this runId was sent before")
      const long = { runId: "r2", forwardedProps: { title: "x".repeat(1_025) } }
      assert.strictEqual((yield* gateway.call("/ag-ui", { body: body("c", long) })).status, 422)
      const others = { runId: "r3", forwardedProps: { model: { name: "of another client" } } }
      assert.strictEqual((yield* gateway.call("/ag-ui", { body: body("c", others) })).status, 200)
    }))

  test("of a subagent that asks is interrupted too, and the subagent goes on", () =>
    Effect.gen(function*() {
      const gateway = yield* Gateways.open()
      const agent = agentOf(gateway)
      const inner = Gateways.start([
        { text: "Let me see.", tool: "read", args: { filePath: "/etc/hostname" } },
        { text: "Found it." }
      ]).prompt
      say(agent, [
        { tool: "task", args: { description: "look", prompt: inner, subagent_type: "general" } },
        { text: "All done." }
      ])
      yield* run(agent)
      const [interrupt]: ReadonlyArray<Interrupt> = agent.pendingInterrupts
      assert.isString(interrupt?.subagentRunId)
      yield* run(agent, {
        resume: [{ interruptId: interrupt?.id ?? "", status: "resolved", payload: { reply: "once" } }]
      })
      assert.strictEqual(
        agent.messages.findLast((message) => message.subagentRunId === undefined)?.content,
        "All done."
      )
      const said = agent.messages.filter(({ subagentRunId }) => subagentRunId === interrupt?.subagentRunId)
      assert.strictEqual(said.at(-1)?.content, "Found it.")
    }))

  test("that leaves in the middle of a word cancels nothing, and follows on by connecting", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const gateway = yield* Gateways.open()
      const agent = agentOf(gateway)
      say(agent, halfway)
      const isHalf = yield* Effect.callback<void>((resume) => {
        agent.subscribe({
          onMessagesChanged: ({ messages }) => {
            if (messages.at(-1)?.content === "one two ") resume(Effect.void)
          }
        })
        void agent.runAgent({ runId: "first" })
      })
      assert.isUndefined(isHalf)
      agent.abortRun()
      const other = agentOf(gateway, "/ag-ui/connect")
      const following = other.runAgent()
      yield* fake.release("half")
      yield* Effect.promise(() => following)
      assert.strictEqual(lastOf(other), "one two three")
      assert.strictEqual(yield* fake.modelCalls, 1)
    }))

  test("is told what is wrong with a run, gets nothing of others' threads, and has the limits of every client", () =>
    Effect.gen(function*() {
      const gateway = yield* Gateways.open({
        input,
        authorize: (request) => {
          const id = request.headers.get("authorization")?.slice("Bearer ".length)
          return id === undefined ? undefined : Gateway.ofPrefix(id, `${id}-`)
        },
        maxStreams: 1
      })
      const post = (
        body: object,
        token: string | null = "ann",
        path = "/ag-ui",
        headers: Record<string, string> = {}
      ) => gateway.call(path, { body, token, headers })
      const asked = yield* post(body("ann-1", {
        messages: [{ id: "m", role: "user", content: [{ type: "text", text: Gateways.start(asking).prompt }] }]
      }))
      assert.include(asked.text, "\"interrupt\"")
      const [ask] = (yield* gateway.call("/asks", { token: "ann" })).text.match(/per_\w+/) ?? []
      const resume = (more: object) => ({ resume: [{ interruptId: ask, status: "resolved", ...more }] })
      // None of several answers is given where one of them cannot be.
      const mixed = {
        resume: [
          { interruptId: ask, status: "resolved", payload: { reply: "once" } },
          { interruptId: "per_none", status: "resolved", payload: { reply: "once" } }
        ]
      }
      assert.strictEqual((yield* post(body("ann-1", mixed))).status, 404)
      assert.include((yield* gateway.call("/asks", { token: "ann" })).text, String(ask))
      const refused = [
        yield* post(body("ann-1"), "bob"),
        yield* post(body("ann-1"), "bob", "/ag-ui/connect"),
        // Of another's thread, by a thread of their own.
        yield* post(body("bob-1", resume({ payload: { reply: "once" } })), "bob"),
        yield* post(body("ann-2", resume({ payload: { reply: "once" } })))
      ]
      assert.deepStrictEqual(refused.map(({ status, tag }) => [status, tag]), refused.map(() => [404, "NotFound"]))
      const unfit = [
        yield* post(body("ann-1", resume({ payload: { reply: "perhaps" } }))),
        yield* post(body("ann-1", resume({}))),
        yield* post(body("ann-1", { messages: [] })),
        yield* post(body("ann-1", { messages: [{ id: "m", role: "assistant", content: "x" }] })),
        yield* post(body("ann-1", {
          messages: [{
            id: "m",
            role: "user",
            content: [{ type: "image", source: { type: "url", value: "http://x", mimeType: "image/png" } }]
          }]
        }))
      ]
      assert.deepStrictEqual(unfit.map(({ tag }) => tag), unfit.map(() => "Unprocessable"))
      const others = [
        yield* post(body("ann-1"), null),
        yield* post(body("ann-1"), "ann", "/ag-ui", { origin: "https://evil.example" }),
        yield* post({ ...body("ann-1"), runId: "" })
      ]
      assert.deepStrictEqual(others.map(({ status }) => status), [401, 403, 400])
      const open = yield* Effect.promise(() =>
        gateway.request("/ag-ui", {
          body: body("ann-3", { messages: [{ id: "m", role: "user", content: Gateways.start(halfway).prompt }] }),
          token: "ann"
        })
      )
      assert.strictEqual((yield* post(body("ann-3"), "ann", "/ag-ui/connect")).status, 429)
      yield* Effect.promise(async () => open.body?.cancel())
    }))
})
