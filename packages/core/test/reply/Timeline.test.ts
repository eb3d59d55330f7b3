import { millisFrom } from "#reply/EventOrder"
import * as Moments from "#reply/Moments"
import * as Timeline from "#reply/Timeline"
import { assert, describe, it } from "@effect/vitest"
import { AskId, MessageId } from "@opencode-turn/core/Ids"
import * as Metrics from "@opencode-turn/core/Metrics"
import * as Reply from "@opencode-turn/core/Reply"
import * as Timing from "@opencode-turn/core/Timing"
import type { TurnEvent } from "@opencode-turn/core/TurnEvent"
import * as Usage from "@opencode-turn/core/Usage"
import * as Schema from "effect/Schema"
import * as Make from "../support/make.ts"
import type { Tape } from "../support/tapes.ts"
import { empty, isTurnEvent, tape, tapes } from "../support/tapes.ts"

interface Folded {
  readonly reply: Reply.Reply
  readonly moments: Moments.Moments
}

/** The server's time of an event, near that of the recorded messages. */
const sentMillis = ({ messages }: Tape, { eventId }: TurnEvent): number => {
  const near = messages[0]?.info.createdMillis ?? 0
  return near - (millisFrom(eventId, near) ?? 0)
}

/** Folds a recording as a process does whose clock is `ahead` of the server's. The events need 2 ms to arrive. */
const play = (tape: Tape, ahead = 0, events: ReadonlyArray<TurnEvent> = tape.events.filter(isTurnEvent)): Folded =>
  events.reduce<Folded>(({ moments, reply: before }, event) => {
    const [after, told] = Reply.fold(before, event)
    const now = () => sentMillis(tape, event) + ahead + 2
    return { reply: after, moments: Moments.apply(moments, { event, told, before, after }, now) }
  }, { reply: empty(tape), moments: Moments.empty })

const within = (startedMillis: number, endedMillis: number): Timeline.Bounds => ({
  startedMillis,
  takenMillis: startedMillis,
  endedMillis,
  queued: undefined
})

const boundsOf = (tape: Tape, ahead = 0): Timeline.Bounds => {
  const times = tape.events.filter(isTurnEvent).map((event) => sentMillis(tape, event) + ahead)
  return within(Math.min(...times), Math.max(...times) + 10)
}

const timelineOf = (tape: Tape, ahead = 0): Timeline.Timeline => {
  const { moments, reply } = play(tape, ahead)
  return Timeline.make({ earlier: [], current: Reply.closeSubagents(reply) }, moments, boundsOf(tape, ahead))
}

/** The timeline in few words, with times since the start of the turn. */
const shown = (timeline: Timeline.Timeline) => {
  const since = (interval: { readonly startedMillis: number; readonly endedMillis: number }) =>
    `${interval.startedMillis - timeline.startedMillis}-${interval.endedMillis - timeline.startedMillis}`
  const runOf = (run: Timeline.AgentRun): object => ({
    [`${run.agent} ${since(run)}`]: [
      ...run.steps.map(({ answeredMillis, finish, firstMillis, model, startedMillis }) => {
        const first = firstMillis === undefined ? "?" : firstMillis - startedMillis
        const name = model && Timeline.nameOf(model)
        return `${name} ${since({ startedMillis, endedMillis: answeredMillis })} first ${first} ${finish}`
      }),
      ...run.asks.map((ask) => `${ask.kind} ${ask.name} ${since(ask)}`),
      ...run.retries.map((retry) => `retry ${retry.attempt} ${since(retry)}`),
      ...run.tools.map((tool) =>
        tool.run === undefined
          ? `${tool.part.tool} ${since(tool)}`
          : { [`${tool.part.tool} ${since(tool)}`]: runOf(tool.run) }
      ),
      ...run.subagents.map(runOf)
    ]
  })
  return runOf(timeline.root)
}

describe("a recorded turn", () => {
  it("has a step of each model call, and its tools, with the times of the stream", () => {
    assert.deepStrictEqual(shown(timelineOf(tape("tool_bash"))), {
      "build 0-2109": [
        "compat/m 1077-1845 first 736 tool-calls",
        "compat/m 2023-2097 first 48 stop",
        "bash 1845-2004"
      ]
    })
  })

  it("shows how long a person was asked", () => {
    const timeline = timelineOf(tape("permission"))
    assert.deepStrictEqual(shown(timeline), {
      "build 0-705": [
        "compat/m 34-90 first 48 tool-calls",
        "compat/m 635-694 first 39 stop",
        "permission bash 89-615",
        "bash 90-626"
      ]
    })
    assert.deepStrictEqual(Timing.make(timeline), {
      queueMillis: 0,
      peopleMillis: 526,
      modelMillis: 114,
      toolsMillis: 11,
      retriesMillis: 0,
      orphanedMillis: 0,
      otherMillis: 54
    })
  })

  it("shows how long a person was asked, also if the stream told that late, or a list that is older than the answer", () => {
    const late = { ...Make.asked("per_2248e378b001PLsG8khBzfz5R9"), eventId: undefined }
    const before = Make.fold(Make.message(Make.assistant()))
    const [asked, answered] = [Reply.apply(before, late), before]
    const askedMillis = 1_795_916_829_834 - 7_200_000
    const times = [[before, asked, 4000], [asked, answered, 5000], [answered, asked, 6000], [
      asked,
      answered,
      6001
    ]] as const
    const moments = times.reduce(
      (moments, [before, after, millis]) => Moments.sync(moments, before, after, () => askedMillis + millis),
      Moments.empty
    )
    const [wait, ...others] = Moments.waits(moments)
    assert.lengthOf(others, 0)
    assert.closeTo(wait?.fromMillis ?? 0, askedMillis, 1000)
    assert.strictEqual(wait?.toMillis, askedMillis + 6001)
  })

  it("shows how long a person was asked as the process saw it, if it reads all events late", () => {
    const events = tape("permission").events.filter(isTurnEvent)
    const end = events.findIndex(({ _tag }) => _tag === "AskResolved")
    const { moments, reply } = play(tape("permission"), 0, events.slice(0, end))
    const [wait] = Moments.waits(moments)
    const answered = Reply.syncAsks(reply, [], reply)
    const nowMillis = (wait?.fromMillis ?? 0) + 2 + 526
    const late = { ...moments, offsetMillis: 1000 }
    const [ended] = Moments.waits(Moments.sync(late, reply, answered, () => nowMillis))
    assert.strictEqual((ended?.toMillis ?? 0) - (ended?.fromMillis ?? 0), 526)
  })

  it("has the run of a subagent in the call that opened it", () => {
    assert.deepStrictEqual(shown(timelineOf(tape("child_ask"))), {
      "build 0-328": [
        "scripted/m 67-101 first 27 tool-calls",
        "scripted/m 265-311 first 41 stop",
        {
          "task 101-257": {
            "general 120-252": [
              "scripted/m 120-163 first 40 tool-calls",
              "scripted/m 201-252 first 45 stop",
              "permission external_directory 164-179",
              "read 163-194"
            ]
          }
        }
      ]
    })
  })

  it("shows how long a session waited before it called its model again, and that the model did nothing then", () => {
    const timeline = timelineOf(tape("cut"))
    assert.deepStrictEqual(shown(timeline), {
      "build 0-2526": ["scripted/m 22-2509 first 68 stop", "retry 1 475-2482"]
    })
    const { modelMillis, retriesMillis } = Timing.make(timeline)
    assert.deepStrictEqual([modelMillis, retriesMillis], [480, 2007])
  })

  it("ends a step that a crash of the server cut off at its last sign of life", () => {
    assert.deepStrictEqual(shown(timelineOf(tape("resume"))), {
      "build 0-2821": [
        "scripted/m 30-77 first 40 tool-calls",
        "scripted/m 208-244 first 36 undefined",
        "scripted/m 2325-2806 first 468 stop",
        "bash 77-190"
      ]
    })
  })

  it("is the same by a clock that is an hour ahead of the server's", () => {
    for (const name of ["permission", "child_ask", "cut", "resume"]) {
      // The times of the messages are those of the server and count from their arrival, 2 ms later.
      const sameClock = shown(timelineOf(tape(name)))
      assert.deepStrictEqual(shown(timelineOf(tape(name), 3_600_000)), sameClock)
      assert.deepStrictEqual(shown(timelineOf(tape(name), -3_600_000)), sameClock)
    }
  })

  it("has the same steps and tools if only the server's record tells of it", () => {
    const { ids, messages } = tape("tool_bash")
    const recorded = Timeline.make(
      { earlier: [], current: Reply.fromMessages(ids, messages) },
      Moments.empty,
      boundsOf(tape("tool_bash"))
    )
    assert.deepStrictEqual(shown(recorded), {
      "build 0-2109": [
        "compat/m 1075-1843 first ? tool-calls",
        "compat/m 2021-2095 first ? stop",
        "bash 1843-2002"
      ]
    })
  })

  it("has the usage of the reply, divided by model", () => {
    for (const recording of tapes) {
      const { moments, reply } = play(recording)
      const current = Reply.closeSubagents(reply)
      const timeline = Timeline.make({ earlier: [], current }, moments, boundsOf(recording))
      const total = Usage.sum(Timeline.usageByModel(timeline))
      assert.deepStrictEqual(total, Reply.turnUsage(current).total, recording.name)
    }
    const [model, ...others] = Timeline.usageByModel(timelineOf(tape("subagent")))
    assert.deepStrictEqual([model?.model, model?.steps, others], ["compat/m", 4, []])
  })

  it("tells when the model began to answer, unless another process saw that", () => {
    const timeline = timelineOf(tape("tool_bash"))
    assert.strictEqual(Timeline.firstTokenMillis(timeline), 1077 + 736)
    assert.isUndefined(Timeline.firstTokenMillis(timelineOf(tape("llm400"))))
    const { moments, reply } = play(tape("tool_bash"))
    const { endedMillis } = boundsOf(tape("tool_bash"))
    const later = within(endedMillis - 100, endedMillis)
    assert.isUndefined(Timeline.firstTokenMillis(Timeline.make({ earlier: [], current: reply }, moments, later)))
  })
})

const call = (id: string, startedMillis: number, endedMillis: number) =>
  Make.part(Make.tool(id, { tool: "task", status: "completed", subagent: Make.child, startedMillis, endedMillis }))
const prompt = (id: string, createdMillis: number) =>
  Make.message(Make.user(id, { sessionId: Make.child, createdMillis }))
const step = (id: string, prompt: string, createdMillis: number, completedMillis: number) =>
  Make.message(Make.ended(id, {
    sessionId: Make.child,
    parentId: MessageId.make(prompt),
    createdMillis,
    completedMillis
  }))

describe("a session that is called twice", () => {
  it("has a run for each call", () => {
    const reply = Make.fold(
      Make.message(Make.assistant()),
      Make.opened(Make.child, Make.root),
      call("prt_a", 10, 20),
      prompt("msg_31", 11),
      step("msg_32", "msg_31", 12, 18),
      call("prt_b", 30, 40),
      prompt("msg_33", 31),
      step("msg_34", "msg_33", 32, 38)
    )
    const timeline = Timeline.make({ earlier: [], current: Reply.closeSubagents(reply) }, Moments.empty, within(0, 50))
    const runs = timeline.root.tools.map(({ run }) => run?.steps.map(({ messageId }) => messageId))
    assert.deepStrictEqual<unknown>(runs, [["msg_32"], ["msg_34"]])
    assert.lengthOf(Timeline.runs(timeline), 3)
  })
})

const Millis = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 300 }))
const Between = Schema.Tuple([Millis, Millis])
const Several = Schema.Array(Between)

interface Shares {
  readonly steps: typeof Several.Type
  readonly tools: typeof Several.Type
  readonly asks: typeof Several.Type
  readonly retries: typeof Several.Type
}
const Shares = { steps: Several, tools: Several, asks: Several, retries: Several }

const interval = ([a, b]: typeof Between.Type) => ({ startedMillis: Math.min(a, b), endedMillis: Math.max(a, b) })
const runOf = ({ asks, retries, steps, tools }: Shares, run?: Timeline.AgentRun): Timeline.AgentRun => ({
  sessionId: Make.root,
  agent: "build",
  status: undefined,
  startedMillis: 0,
  endedMillis: 300,
  steps: steps.map((between): Timeline.ModelStep => ({
    messageId: Make.answerId,
    sessionId: Make.root,
    agent: "build",
    model: undefined,
    firstMillis: undefined,
    chunks: undefined,
    answeredMillis: interval(between).endedMillis,
    finish: "stop",
    error: undefined,
    usage: Usage.zero,
    isSummary: false,
    ...interval(between)
  })),
  tools: tools.map((between, index): Timeline.ToolRun => ({
    part: Make.tool("prt_1"),
    sessionId: Make.root,
    run: index === 0 ? run : undefined,
    ...interval(between)
  })),
  asks: asks.map((between): Timeline.AskWait => ({
    id: AskId.make("per_1"),
    sessionId: Make.root,
    kind: "permission",
    name: "bash",
    tool: undefined,
    isResolved: true,
    ...interval(between)
  })),
  retries: retries.map((between): Timeline.RetryWait => ({
    sessionId: Make.root,
    attempt: 1,
    message: "",
    ...interval(between)
  })),
  subagents: []
})

describe("the timing", () => {
  it.prop(
    "adds up to the duration, whatever overlaps, and gives each moment to the first purpose that holds",
    { root: Schema.Struct(Shares), child: Schema.Struct(Shares), bounds: Between, taken: Millis, waited: Several },
    ({ bounds, child, root, taken, waited: [queued] }) => {
      const { endedMillis, startedMillis } = interval(bounds)
      const timeline: Timeline.Timeline = {
        startedMillis,
        endedMillis,
        takenMillis: Math.max(startedMillis, Math.min(taken, endedMillis)),
        queued: queued && interval(queued),
        root: runOf(root, root.tools.length === 0 ? undefined : runOf(child))
      }
      const timing = Timing.make(timeline)
      assert.strictEqual(Timing.total(timing), endedMillis - startedMillis)
      assert.deepStrictEqual(timing, momentByMoment(timeline))
    }
  )

  it.prop("adds up for a recorded turn of which any events were missed", {
    name: Schema.Literals(["child_ask", "cut", "permission", "resume", "todo"]),
    missed: Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 120 })))
  }, ({ missed, name }) => {
    const events = tape(name).events.filter(isTurnEvent).filter((_, index) => !missed.includes(index))
    const { moments, reply } = play(tape(name), 0, events)
    const bounds = boundsOf(tape(name))
    const timing = Timing.make(Timeline.make({ earlier: [], current: Reply.closeSubagents(reply) }, moments, bounds))
    assert.strictEqual(Timing.total(timing), bounds.endedMillis - bounds.startedMillis)
    for (const purpose of Metrics.purposes) assert.isAtLeast(timing[`${purpose}Millis`], 0)
  })
})

/** The same by looking at each millisecond. */
const momentByMoment = (timeline: Timeline.Timeline): Timing.Timing => {
  const { endedMillis, queued, startedMillis, takenMillis } = timeline
  const runs = Timeline.runs(timeline)
  const timing = { ...Timing.zero }
  for (let at = startedMillis; at < endedMillis; at++) {
    const holds = ({ endedMillis, startedMillis }: Pick<Timeline.ToolRun, "startedMillis" | "endedMillis">) =>
      startedMillis <= at && at < endedMillis
    const isAtModel = ({ retries, steps }: Timeline.AgentRun) => steps.some(holds) && !retries.some(holds)
    if (queued !== undefined && holds(queued)) timing.queueMillis++
    else if (runs.some(({ asks }) => asks.some(holds))) timing.peopleMillis++
    else if (runs.some(isAtModel)) timing.modelMillis++
    else if (runs.some(({ tools }) => tools.some((tool) => tool.run === undefined && holds(tool)))) timing.toolsMillis++
    else if (runs.some(({ retries }) => retries.some(holds))) timing.retriesMillis++
    else if (runs.some(({ tools }) => tools.some(holds))) timing.toolsMillis++
    else if (at < takenMillis) timing.orphanedMillis++
    else timing.otherMillis++
  }
  return timing
}
