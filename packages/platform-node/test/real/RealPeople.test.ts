/**
 * People and subagents against a real OpenCode: who is asked, what becomes of the answer, and what a tree of sessions adds up to.
 */
import { assert } from "@effect/vitest"
import type { Answer, Ask } from "@opencode-turn/core/Ask"
import * as Client from "@opencode-turn/core/Client"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import type { SessionId } from "@opencode-turn/core/Ids"
import { runTurn, streamTurn } from "@opencode-turn/core/Turn"
import * as Usage from "@opencode-turn/core/Usage"
import * as OpencodeServer from "@opencode-turn/platform-node/OpencodeServer"
import * as FaultProxy from "@opencode-turn/testing/FaultProxy"
import type { Step } from "@opencode-turn/testing/ScriptedModel"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { Effect, Fiber, Layer, Ref, Stream } from "effect"
import { existsSync } from "node:fs"
import { onBothLines } from "../support/BothLines.ts"
import * as RealServer from "../support/RealServer.ts"
import { gate, isIdle, turn, until } from "../support/RealTurns.ts"

const used = { input: 1000, output: 100 }

const once: Answer = { _tag: "Permission", reply: { reply: "once" } }

/** What the server itself says that the messages of a session used. */
const serverUsage = Effect.fnUntraced(function*(sessionId: SessionId) {
  const client = yield* Client.Client
  const { messages } = yield* client.listMessages(sessionId, { limit: 100 })
  return Usage.sum(messages.flatMap(({ info }) => (info.role === "assistant" ? [info.usage] : [])))
})

/** The messages that the model was sent last with a prompt that holds this text. */
const historyOf = Effect.fnUntraced(function*(text: string) {
  const model = yield* ScriptedModel.ScriptedModel
  const requests = yield* model.requests
  const last = requests.findLast(({ isTitle, messages }) =>
    !isTitle && messages.some((message) => message.text.includes(text))
  )
  return (last?.messages ?? []).map((message) => message.text).join("\n")
})

onBothLines(
  "people and subagents on the real server",
  {
    layerOf: RealServer.onLine(RealServer.nested),
    exceptions: {
      "a refusal's message reaches the model, of the default gate as well":
        "2.x gives the model no reason of a refused permission"
    }
  },
  (it, tools) => {
    const task = (agent: "general" | "nester", name: string, steps: ReadonlyArray<Step>): Step => ({
      ...tools.task(name, steps, { agent }),
      usage: used
    })

    it.effect("the root, its subagent and the subagent's subagent are each answered, and add up", () =>
      Effect.gen(function*() {
        const person = yield* gate(once, once, once)
        const updates = Array.from(
          yield* Stream.runCollect(streamTurn(turn([
            { ...tools.shell("echo root"), usage: used },
            task("nester", "the child", [
              { ...tools.shell("echo child"), usage: used },
              task("general", "the grandchild", [
                { ...tools.shell("echo grandchild"), usage: used },
                { text: "The grandchild is done.", usage: used }
              ]),
              { text: "The child is done.", usage: used }
            ]),
            { text: "The root is done.", usage: used }
          ]))).pipe(person.provide)
        )
        const last = updates.at(-1)
        assert(last?._tag === "Finished")
        const { result } = last
        assert.strictEqual(result.status, "completed", result.error?.message)
        assert.strictEqual(result.content, "The root is done.")
        const asked = yield* person.asked
        const [child, grandchild] = result.subagents
        assert(result.sessionId !== undefined && child !== undefined && grandchild !== undefined)
        assert.deepEqual(asked.map(({ sessionId }) => sessionId), [
          result.sessionId,
          child.sessionId,
          grandchild.sessionId
        ])

        assert.deepEqual(
          result.subagents.map(({ agent, status, text }) => [agent, status, text]),
          [["nester", "completed", "The child is done."], ["general", "completed", "The grandchild is done."]]
        )
        assert.deepEqual([child.parentId, grandchild.parentId], [result.sessionId, child.sessionId])
        const opener = result.reply.tools.find(({ subagent }) => subagent === child.sessionId)
        assert.strictEqual(child.openedBy, opener?.id)
        assert.isDefined(grandchild.openedBy)

        const [root, ofChild, ofGrandchild] = yield* Effect.forEach(
          [result.sessionId, child.sessionId, grandchild.sessionId],
          serverUsage
        )
        assert(root !== undefined && ofChild !== undefined && ofGrandchild !== undefined)
        assert.isAbove(ofGrandchild.cost, 0)
        assert.deepEqual(result.usage.root, root)
        assert.deepEqual(child.usage, ofChild)
        assert.deepEqual(grandchild.usage, ofGrandchild)
        assert.deepEqual(result.usage.subagents, Usage.sum([ofChild, ofGrandchild]))
        assert.deepEqual(result.usage.total, Usage.sum([root, ofChild, ofGrandchild]))
        assert.deepEqual(result.message?.usage, result.usage.total)
        assert.deepEqual(result.message?.subagents, result.subagents)

        // What is shown on the way is marked with its session and the tool part that opened it.
        const ask = updates.find((update) => update._tag === "Asked" && update.ask.sessionId === grandchild.sessionId)
        assert(ask?._tag === "Asked")
        assert.strictEqual(ask.openedBy, grandchild.openedBy)
        const streamed = updates.flatMap((update) =>
          update._tag === "SubagentUpdate" && update.sessionId === child.sessionId && update.update._tag === "TextDelta"
            ? [update.update.delta]
            : []
        )
        assert.strictEqual(streamed.join(""), "The child is done.")
      }))

    it.effect("an ask that came while the stream was cut is found and answered", () =>
      Effect.gen(function*() {
        const server = yield* OpencodeServer.OpencodeServer
        const proxy = yield* FaultProxy.FaultProxy
        const model = yield* ScriptedModel.ScriptedModel
        const person = yield* gate(once)
        const running = yield* Effect.forkChild(
          runTurn(turn([
            task("general", "unheard", [
              { ...tools.shell("echo unheard"), delayMillis: 10, gate: "unheard", text: "I ask.", gateAfter: 0 },
              { text: "The child was heard." }
            ]),
            { text: "All heard." }
          ])).pipe(person.provide, Effect.provide(RealServer.layerClient(server, proxy.url)))
        )
        yield* model.reached("unheard")
        yield* proxy.refuse(true)
        assert.strictEqual(yield* proxy.cutEvents, 1)
        yield* model.release("unheard")
        const client = yield* Client.Client
        yield* until(
          Effect.map(client.permissions, (asks) => asks.some(({ patterns }) => patterns.includes("echo unheard")))
        )
        assert.lengthOf(yield* person.asked, 0)
        yield* proxy.refuse(false)
        const result = yield* Fiber.join(running)
        assert.strictEqual(result.content, "All heard.", result.error?.message)
        assert.lengthOf(yield* person.asked, 1)
        assert.strictEqual(result.subagents[0]?.text, "I ask.\n\nThe child was heard.")
      }).pipe(
        Effect.provide(Layer.unwrap(Effect.map(OpencodeServer.OpencodeServer, ({ url }) => FaultProxy.layer(url))))
      ))

    it.effect("an answer of another client interrupts the gate", () =>
      Effect.gen(function*() {
        const client = yield* Client.Client
        const interrupted = yield* Ref.make(0)
        const asked = yield* Ref.make<ReadonlyArray<Ask>>([])
        const running = yield* Effect.forkChild(
          runTurn(turn([tools.shell("echo elsewhere"), { text: "Answered elsewhere." }])).pipe(
            Effect.provideService(HumanGate.HumanGate, (ask) =>
              Ref.update(asked, (all) => [...all, ask]).pipe(
                Effect.andThen(Effect.never),
                Effect.onInterrupt(() => Ref.update(interrupted, (count) => count + 1))
              ))
          )
        )
        yield* until(Effect.map(Ref.get(asked), (all) => all.length > 0))
        const [ask] = yield* Ref.get(asked)
        assert(ask !== undefined)
        yield* client.answerPermission(ask.id, { reply: "once" })
        const result = yield* Fiber.join(running)
        assert.strictEqual(result.content, "Answered elsewhere.", result.error?.message)
        assert.strictEqual(yield* Ref.get(interrupted), 1)
        assert.lengthOf(yield* Ref.get(asked), 1)
      }))

    it.effect("a refusal's message reaches the model, of the default gate as well", () =>
      Effect.gen(function*() {
        const reason = "Use the blue one instead."
        const person = yield* gate({ _tag: "Reject", message: reason })
        const steps = [tools.shell("echo red"), { text: "Blue it is." }]
        const told = yield* runTurn(turn(steps, { prompt: ScriptedModel.prompt("Told why.", steps) })).pipe(
          person.provide
        )
        assert.strictEqual(told.content, "Blue it is.")
        assert.include(yield* historyOf("Told why."), reason)
        assert.isUndefined(told.reply.tools[0]?.isRefused)

        const refused = yield* runTurn(turn(steps, { prompt: ScriptedModel.prompt("Nobody there.", steps) }))
        assert.strictEqual(refused.content, "Blue it is.")
        assert.include(yield* historyOf("Nobody there."), "Nobody is here to answer.")
      }))

    it.effect("rules see each command of a line, however it is written", () =>
      Effect.gen(function*() {
        const { directory } = yield* RealServer.Workplace
        const asked: Array<Ask> = []
        const { shell } = tools.names
        const rules = HumanGate.rules([{ permission: shell, pattern: "echo *", action: "allow" }])
        const lines = [
          "echo a && echo 'b; c' | echo d",
          "echo a && touch one",
          "echo $(touch two)",
          "echo \"$(touch three)\"",
          "echo a # it's\ntouch four # it's",
          "cd . && echo a"
        ]
        const { reply } = yield* runTurn(turn([...lines.map(tools.shell), { text: "Done." }])).pipe(
          Effect.provideService(HumanGate.HumanGate, (ask, asking) => {
            asked.push(ask)
            return rules(ask, asking)
          })
        )
        const isAllowed = reply.tools.map(({ error }) => error === undefined)
        assert.deepStrictEqual(isAllowed, [true, false, false, false, false, true])
        assert.deepStrictEqual(["one", "two", "three", "four"].filter((name) => existsSync(`${directory}/${name}`)), [])
        // The line stays whole for people.
        assert.deepStrictEqual(asked.map((ask) => ask._tag === "Permission" && ask.metadata["command"]), lines)
        const [first] = asked
        assert(first?._tag === "Permission")
        assert.deepStrictEqual(first.patterns, ["echo a", "echo 'b; c'", "echo d"])
      }), 60_000)

    it.effect("a refusal without a message fails the subagent that asked, and its turn goes on", () =>
      Effect.gen(function*() {
        const person = yield* gate({ _tag: "Permission", reply: { reply: "reject" } })
        const result = yield* runTurn(turn([
          task("general", "is refused", [tools.shell("echo refused"), { text: "never" }]),
          { text: "It was refused." }
        ])).pipe(person.provide)
        assert.strictEqual(result.content, "It was refused.", result.error?.message)
        assert.deepEqual(result.subagents.map(({ status, text }) => [status, text]), [["error", ""]])
      }))

    it.effect("a permission that is allowed always is not asked for again, not even by subagents", () =>
      Effect.gen(function*() {
        // 2.x keeps it for all folders of its server, which other tests share: no other one allows this command.
        const person = yield* gate({ _tag: "Permission", reply: { reply: "always" } })
        const result = yield* runTurn(turn([
          tools.shell("printf evermore"),
          tools.shell("printf evermore"),
          task("general", "prints", [tools.shell("printf evermore"), { text: "Printed." }]),
          { text: "All printed." }
        ])).pipe(person.provide)
        assert.strictEqual(result.content, "All printed.", result.error?.message)
        assert.lengthOf(yield* person.asked, 1)
        assert.deepEqual(result.reply.tools.slice(0, 2).map(tools.printed), ["evermore", "evermore"])
      }))

    it.effect("a person who takes 3 seconds answers several questions with labels and a free text", () =>
      Effect.gen(function*() {
        const options = ["red", "green"].map((label) => ({ label, description: label }))
        const questions = [
          { question: "Which colour?", header: "Colour", options },
          { question: "Which sizes?", header: "Sizes", options, multiple: true },
          { question: "Whose name?", header: "Name", options: [] }
        ]
        const asked = yield* Ref.make<ReadonlyArray<Ask>>([])
        const result = yield* runTurn(turn([{ tool: "question", args: { questions } }, { text: "Thank you." }])).pipe(
          Effect.provideService(HumanGate.HumanGate, (ask) =>
            Ref.update(asked, (all) => [...all, ask]).pipe(
              Effect.andThen(Effect.sleep("3 seconds")),
              Effect.as<Answer>({ _tag: "Answers", answers: [["green"], ["red", "green"], ["Ada's, of course"]] })
            ))
        )
        assert.strictEqual(result.content, "Thank you.", result.error?.message)
        const [ask] = yield* Ref.get(asked)
        assert(ask?._tag === "Question")
        assert.deepEqual(ask.questions.map(({ multiple, question }) => [question, multiple]), [
          ["Which colour?", false],
          ["Which sizes?", true],
          ["Whose name?", false]
        ])
        assert.include(
          result.reply.tools[0]?.output,
          `"Which colour?"="green", "Which sizes?"="red, green", "Whose name?"="Ada's, of course"`
        )
      }))

    it.effect("a stopped turn leaves no session busy, nor anything asked, whatever its subagents are at", () =>
      Effect.gen(function*() {
        const client = yield* Client.Client
        const { directory } = yield* RealServer.Workplace
        const has = (name: string) => Effect.sync(() => existsSync(`${directory}/${name}`))
        const running = [task("general", "sleeps", [tools.shell("touch started.txt && sleep 60"), { text: "never" }])]
        const asking = [
          task("general", "asks", [tools.shell("echo asked"), { text: "never" }]),
          tools.shell("touch stopped.txt")
        ]
        for (
          const [steps, isThere] of [
            [running, has("started.txt")],
            [asking, Effect.map(client.permissions, (asks) => asks.length > 0)]
          ] as const
        ) {
          const gate: HumanGate.Gate = (ask) =>
            ask._tag === "Permission" && ask.patterns.some((pattern) => pattern.includes("sleep 60"))
              ? Effect.succeed(once)
              : Effect.never
          const fiber = yield* Effect.forkChild(
            runTurn(turn([...steps, { text: "never" }])).pipe(Effect.provideService(HumanGate.HumanGate, gate))
          )
          yield* until(isThere)
          yield* Fiber.interrupt(fiber)
          yield* until(isIdle)
          assert.deepEqual(yield* client.permissions, [])
        }
        // A session whose subagent asks goes on with its next step, unless the ask is rejected before the abort.
        assert.isFalse(yield* has("stopped.txt"))
      }))
  }
)

onBothLines(
  "asks on the real server",
  { layerOf: RealServer.onLine({ config: { permission: { edit: "ask", task: "ask" } } }) },
  (it, tools) => {
    it.effect("show a person what an edit changes, and what a subagent is to do", () =>
      Effect.gen(function*() {
        const { directory } = yield* RealServer.Workplace
        const person = yield* gate(once, once, once)
        const result = yield* runTurn(turn([
          tools.write(`${directory}/asked.txt`, "one\ntwo\n"),
          tools.edit(`${directory}/asked.txt`, "two", "TWO"),
          tools.task("look around", [{ text: "Nothing there." }]),
          { text: "Done." }
        ])).pipe(person.provide)
        assert.strictEqual(result.content, "Done.", result.error?.message)
        const told = (yield* person.asked).map((ask) => (ask._tag === "Permission" ? ask.metadata : {}))
        const changes = told.map(({ diff }) =>
          String(diff ?? "").split("\n").filter((line) => /^[-+](?![-+])/.test(line))
        )
        assert.deepStrictEqual(changes, [["+one", "+two"], ["-two", "+TWO"], []])
        assert.strictEqual(told[2]?.["description"], "look around")
      }))
  }
)
