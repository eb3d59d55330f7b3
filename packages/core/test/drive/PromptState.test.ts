import type { Action, News, PromptState as State } from "#drive/PromptState"
import * as PromptState from "#drive/PromptState"
import * as Exchange from "#reply/Exchange"
import { assert, describe, it } from "@effect/vitest"
import type { Message } from "@opencode-turn/core/Message"
import * as Reply from "@opencode-turn/core/Reply"
import { BudgetExceeded } from "@opencode-turn/core/TurnError"
import type { TurnEvent } from "@opencode-turn/core/TurnEvent"
import * as Duration from "effect/Duration"
import { StreamLost } from "../../src/opencode/ClientError.ts"
import {
  answerId,
  assistant,
  busy,
  child,
  ended,
  failed,
  failure,
  fold,
  idle,
  message,
  permission,
  promptId,
  retry,
  root,
  status,
  stored,
  text,
  user
} from "../support/make.ts"

const limits: PromptState.Limits = {
  firstEventMillis: 120_000,
  finalExchangeMillis: 30_000,
  pollMillis: 500,
  activityTickMillis: 300_000,
  maxReposts: 2,
  maxIdleSteps: 8,
  absenceMillis: 600_000,
  budget: { wallClock: Duration.hours(1) }
}

type Step = News | { readonly after: number }

/** Applies the news in their order, each at the time to which the steps before it came. */
const run = (steps: ReadonlyArray<Step>, changes: Partial<PromptState.Limits> = {}) => {
  let nowMillis = 0
  let state = PromptState.make({ sessionId: root, promptId, spentMillis: 0, limits: { ...limits, ...changes } })
  let actions: ReadonlyArray<Action> = []
  for (const step of steps) {
    if ("after" in step) {
      nowMillis += step.after
      continue
    }
    const [next, wanted] = PromptState.next(state, step, nowMillis)
    state = next
    actions = wanted
  }
  return { state, actions, nowMillis }
}

const after = (millis: number): Step => ({ after: millis })
const event = (...events: ReadonlyArray<TurnEvent>): News => {
  const last = events.at(-1)
  assert(last !== undefined)
  const [reply, told] = Reply.fold(fold(...events.slice(0, -1)), last)
  assert(told !== undefined)
  return { _tag: "Folded", told, reply }
}
const prompting: News = { _tag: "Prompting" }
const woken: News = { _tag: "Woken" }
const heard: News = { _tag: "Heard", hasText: false }
const lost: News = { _tag: "Lost", error: new StreamLost({ origin: "http://server", reason: "cut" }) }
const back: News = { _tag: "Back" }
const asks = (isBlocked: boolean): News => ({ _tag: "Changed", asks: { isBlocked } })
const exchangeOf = (...messages: ReadonlyArray<Message>) =>
  Exchange.fromMessages({ sessionId: root, promptId }, messages)
const looked = (
  view: PromptState.View | undefined,
  fields: Partial<Extract<News, { _tag: "Looked" }>> = {}
): News => ({
  _tag: "Looked",
  view,
  hasCaughtUp: false,
  retries: [],
  failure: undefined,
  trouble: undefined,
  ...fields
})

const prompt = stored(user(), text("prt_1", "go"))
const final = exchangeOf(prompt, stored(ended(), text("prt_2", "done")))
const unfinished = exchangeOf(prompt, stored(assistant(), text("prt_2", "do")))
const followed = exchangeOf(prompt, stored(assistant()), stored(user("msg_30_other")))
const accepted = exchangeOf(prompt)
const isIdle = (exchange: Exchange.Exchange): News => looked({ exchange, isIdle: true })
const isWorking = (exchange: Exchange.Exchange): News => looked({ exchange, isIdle: false })

/** The answer has begun, and its session says that it is idle. */
const begun = [prompting, event(message(user()), message(assistant()))]
const inDoubt = [...begun, event(idle()), woken]
/** The second look at an unfinished answer, when its session has been idle for long enough. */
const secondLook = [...inDoubt, isIdle(unfinished), after(250), woken]

const tagsOf = (actions: ReadonlyArray<Action>) =>
  actions.map((action) =>
    action._tag === "Look" ? `Look ${action.kind}` : action._tag === "Fail" ? `Fail ${action.error._tag}` : action._tag
  )

/** What the failure of a drive tells of what was heard last. */
const lastOf = (steps: ReadonlyArray<Step>) => {
  const [end] = run(steps).actions
  assert(end?._tag === "Fail" && end.error._tag === "TurnTimeout")
  return end.error.last?.name
}

/** Until when a look may wait. */
const untilMillis = (steps: ReadonlyArray<Step>) => {
  const look = run(steps).actions.find((action) => action._tag === "Look")
  assert(look !== undefined)
  return look.untilMillis
}

describe("news of the stream", () => {
  it.each<{
    readonly name: string
    readonly news: ReadonlyArray<Step>
    readonly state: Partial<State>
    readonly pending: Partial<PromptState.Pending>
  }>([
    {
      name: "a stored prompt begins the turn",
      news: [prompting, event(message(user()))],
      state: { hasStarted: true, endedMillis: undefined },
      pending: {}
    },
    {
      name: "another prompt's message does not",
      news: [prompting, event(message(user("msg_05_other")))],
      state: { hasStarted: false },
      pending: {}
    },
    {
      name: "an idle before anything of the turn was seen counts for nothing",
      news: [prompting, event(idle())],
      state: { hasStarted: false },
      pending: { isIdle: false }
    },
    {
      name: "an idle counts once the record has something of the answer",
      news: [prompting, after(120_000), woken, isWorking(unfinished), event(idle())],
      state: { hasStarted: false, hasAnswer: true },
      pending: { isIdle: true }
    },
    {
      name: "busy takes an idle back",
      news: [...begun, event(idle()), event(busy())],
      state: {},
      pending: { isIdle: false, isBusy: true }
    },
    {
      name: "busy before the prompt begins nothing",
      news: [event(busy())],
      state: { hasStarted: false },
      pending: { isBusy: true }
    },
    {
      name: "the end of the last message moves the deadlines",
      news: [...begun, after(40), event(message(assistant()), message(ended()))],
      state: { endedMillis: 40 },
      pending: { hasEnded: true, isIdle: false }
    },
    {
      name: "a message after the end takes the end back",
      news: [
        ...begun,
        event(message(ended())),
        event(message(ended()), message(assistant("msg_40_more")))
      ],
      state: { endedMillis: undefined },
      pending: {}
    },
    {
      name: "a message that ended with an error is as good as an idle",
      news: [...begun, event(message(assistant(answerId, { error: failure("APIError") })))],
      state: {},
      pending: { isIdle: true }
    },
    {
      name: "a failure of the session is looked at",
      news: [prompting, event(failed("APIError"))],
      state: { hasStarted: true },
      pending: { hasFailed: true }
    },
    {
      name: "a status of a subagent is no news of the turn's session",
      news: [...begun, event(idle(child))],
      state: {},
      pending: { isIdle: false }
    },
    {
      name: "a lost stream is both a state and news",
      news: [...begun, lost],
      state: { lost: lost.error },
      pending: { lost: lost.error, hasGap: false }
    },
    {
      name: "a stream that is back leaves a gap",
      news: [...begun, lost, back],
      state: { lost: undefined },
      pending: { lost: lost.error, hasGap: true }
    },
    {
      name: "what may count is checked with the flush",
      news: [...begun, event(status({ type: "retry", attempt: 1, message: "slow down", nextMillis: 5 }))],
      state: { hasCounted: true, isCheckDue: false },
      pending: {}
    },
    {
      name: "and once for a flush",
      news: [...begun, event(retry(1)), event(retry(2)), heard],
      state: { hasCounted: false, isCheckDue: true },
      pending: {}
    },
    {
      name: "events are progress",
      news: [...begun, after(10), heard],
      state: { heardMillis: 10, progressMillis: 10, firstTextMillis: undefined },
      pending: {}
    },
    {
      name: "the first text is noted once",
      news: [...begun, after(10), { _tag: "Heard", hasText: true }, after(10), heard],
      state: { firstTextMillis: 10, heardMillis: 20 },
      pending: {}
    },
    {
      name: "a stream that comes back is no progress",
      news: [...begun, after(10), lost, after(10), back],
      state: { heardMillis: 0, progressMillis: 0 },
      pending: {}
    },
    {
      name: "an ask is progress, and stops the clock",
      news: [...begun, after(10), asks(true), after(1000)],
      state: { isBlocked: true, stillSinceMillis: 10, progressMillis: 10 },
      pending: { hasAsks: true }
    },
    {
      name: "an answer lets the clock go on",
      news: [...begun, after(10), asks(true), after(1000), asks(false), after(5), heard],
      state: { isBlocked: false, stillSinceMillis: undefined, stoodMillis: 1000, heardMillis: 15 },
      pending: {}
    },
    {
      name: "the clock runs while a person is asked on a lost stream",
      news: [...begun, after(10), asks(true), after(1000), lost, after(7), heard],
      state: { isBlocked: true, stillSinceMillis: undefined, heardMillis: 17 },
      pending: {}
    },
    {
      name: "and stands still again when the stream is back",
      news: [...begun, asks(true), lost, after(7), back, after(1000), heard],
      state: { stillSinceMillis: 7, heardMillis: 7 },
      pending: {}
    },
    {
      name: "a sign of life is a tick every five minutes, also while the clock stands still",
      news: [...begun, asks(true), after(300_000), { _tag: "Heartbeat" }],
      state: { tickMillis: 300_000 },
      pending: { isTickDue: true }
    },
    {
      name: "but not sooner",
      news: [...begun, after(299_999), { _tag: "Heartbeat" }],
      state: { tickMillis: 0 },
      pending: { isTickDue: false }
    },
    {
      name: "after a tick that failed with the next one",
      news: [...begun, { _tag: "TickFailed" }, after(1), { _tag: "Heartbeat" }],
      state: { tickMillis: 1 },
      pending: { isTickDue: true }
    },
    {
      name: "of several announced retries the longest counts",
      news: [10, 30, 20].map((waitMillis): News => ({
        _tag: "RetryAnnounced",
        retry: { message: "slow down", nextMillis: 1, waitMillis }
      })),
      state: {},
      pending: { retry: { message: "slow down", nextMillis: 1, waitMillis: 30 } }
    }
  ])("$name", ({ news, pending, state }) => {
    const end = run(news)
    assert.deepInclude(end.state, state)
    assert.deepInclude(end.state.pending, pending)
    assert.deepStrictEqual(end.actions.filter(({ _tag }) => _tag !== "Look"), [])
  })

  it("that change nothing give back the same state", () => {
    const { nowMillis, state } = run([...begun, heard])
    const heartbeat: News = { _tag: "Heartbeat" }
    for (const news of [heard, heartbeat, event(idle(child)), event(message(user("msg_05_other")))]) {
      assert.strictEqual(PromptState.next(state, news, nowMillis)[0], state, news._tag)
    }
  })

  it("of a failure are another prompt's until this one has left; those of a failure or an ask are another prompt's after the answer ended", () => {
    const asked: TurnEvent = { _tag: "Asked", eventId: undefined, sessionId: root, ask: permission("per_1") }
    const isOfOther = (steps: ReadonlyArray<Step>) =>
      [failed("APIError"), asked, busy()].map((event) => PromptState.isOfOther(run(steps).state, event))
    assert.deepStrictEqual(isOfOther([]), [true, false, false])
    assert.deepStrictEqual(isOfOther(begun), [false, false, false])
    assert.deepStrictEqual(isOfOther([...begun, event(message(ended()))]), [true, true, false])
  })
})

describe("the loop", () => {
  it.each<{ readonly name: string; readonly news: ReadonlyArray<Step>; readonly actions: ReadonlyArray<string> }>([
    { name: "has nothing to do without news", news: [...begun, woken], actions: [] },
    { name: "reads the exchange after an idle", news: [...begun, event(idle()), woken], actions: ["Look forEnd"] },
    {
      name: "reads what a gap hid",
      news: [...begun, event(idle()), lost, back, woken],
      actions: ["ReportLost", "Look afterGap"]
    },
    { name: "looks after a failure", news: [...begun, event(failed("APIError")), woken], actions: ["Look plain"] },
    { name: "looks when the first event is late", news: [prompting, after(120_000), woken], actions: ["Look plain"] },
    { name: "but not before", news: [prompting, after(119_999), woken], actions: [] },
    {
      name: "looks when no idle follows the end",
      news: [...begun, event(message(ended())), woken, after(500), woken],
      actions: ["Look plain"]
    },
    { name: "reports a lost stream", news: [...begun, lost, woken], actions: ["ReportLost"] },
    { name: "takes asks to the gate", news: [...begun, asks(true), woken], actions: ["SyncAsks"] },
    {
      name: "ticks, and takes asks to the gate",
      news: [...begun, asks(true), after(300_000), heard, woken],
      actions: ["Tick", "SyncAsks"]
    },
    { name: "takes its news once", news: [...begun, asks(true), woken, woken], actions: [] },
    {
      name: "ends with a stream that will not be opened again",
      news: [...begun, { ...lost, _tag: "Closed" }, woken],
      actions: ["Fail StreamLost"]
    },
    {
      name: "ends with its session",
      news: [...begun, event({ _tag: "SessionDeleted", eventId: undefined, sessionId: root }), woken],
      actions: ["Fail SessionNotFound"]
    },
    {
      name: "ends when the model is to be called again after the turn's time",
      news: [
        ...begun,
        { _tag: "RetryAnnounced", retry: { message: "no", nextMillis: 1, waitMillis: 3_700_000 } },
        woken
      ],
      actions: ["Fail Upstream"]
    },
    {
      name: "waits for any retry while a person is asked",
      news: [
        ...begun,
        asks(true),
        { _tag: "RetryAnnounced", retry: { message: "no", nextMillis: 1, waitMillis: 3_700_000 } },
        woken
      ],
      actions: ["SyncAsks"]
    }
  ])("$name", ({ actions, news }) => {
    assert.deepStrictEqual(tagsOf(run(news).actions), actions)
  })
})

describe("a look", () => {
  it.each<{
    readonly name: string
    readonly news: ReadonlyArray<Step>
    readonly actions: ReadonlyArray<string>
    readonly state?: Partial<State>
  }>([
    { name: "at an answer that is final is the end", news: [...inDoubt, isWorking(final)], actions: ["End"] },
    {
      name: "at a session that works goes on, and reports once that the end is waited for",
      news: [...inDoubt, after(100), isWorking(unfinished)],
      actions: ["ReportWaiting"],
      state: {
        hasAnswer: true,
        hasWaited: true,
        waitingMillis: 100,
        ending: { sinceMillis: 0, idleSinceMillis: undefined, nextLookMillis: 600 }
      }
    },
    {
      name: "of the next poll does not report again",
      news: [...inDoubt, isWorking(unfinished), after(500), woken, isWorking(unfinished)],
      actions: []
    },
    {
      name: "that finds the session idle is followed by a second one soon",
      news: [...inDoubt, isIdle(unfinished)],
      actions: ["ReportWaiting"],
      state: { ending: { sinceMillis: 0, idleSinceMillis: 0, nextLookMillis: 250 } }
    },
    {
      name: "is not decided by while the session says busy again",
      news: [...inDoubt, isIdle(unfinished), event(busy()), woken],
      actions: [],
      state: { ending: undefined }
    },
    {
      name: "that finds it idle a second time posts the same ids again",
      news: [...secondLook, isIdle(unfinished)],
      actions: ["Post"],
      state: { reposts: 1 }
    },
    {
      name: "after that is put off for longer",
      news: [...secondLook, isIdle(unfinished), { _tag: "Reposted", sinceMillis: 250 }],
      actions: [],
      state: { ending: { sinceMillis: 250, idleSinceMillis: undefined, nextLookMillis: 1250 } }
    },
    {
      name: "posts nothing on a lost stream",
      news: [...secondLook, lost, isIdle(unfinished)],
      actions: [],
      state: { reposts: 0 }
    },
    {
      name: "posts nothing that another prompt follows",
      news: [...secondLook, isIdle(followed)],
      actions: ["Fail TurnUnfinished"]
    },
    {
      name: "ends with the failure of the session",
      news: [...secondLook, looked({ exchange: unfinished, isIdle: true }, { failure: failure("APIError") })],
      actions: ["End"]
    },
    {
      name: "ends without an answer where the stream was unbroken",
      news: [...secondLook, isIdle(accepted)],
      actions: ["End"]
    },
    {
      name: "but posts again where something may have been missed",
      news: [...begun, lost, back, woken, isIdle(accepted), after(250), woken, isIdle(accepted)],
      actions: ["Post"],
      state: { hadGap: true }
    },
    {
      name: "calls a session stale that was idle and silent",
      news: [prompting, after(120_000), woken, isIdle(accepted)],
      actions: ["Fail StaleSession"]
    },
    {
      name: "waits on for a session that works and says nothing",
      news: [prompting, after(120_000), woken, isWorking(accepted)],
      actions: [],
      state: { waitingMillis: 120_000, ending: undefined }
    },
    {
      name: "that the server does not answer leaves the turn in doubt",
      news: [...inDoubt, looked(undefined)],
      actions: ["ReportWaiting"]
    },
    {
      name: "that the server does not answer after a failure leaves the turn in doubt, too",
      news: [...begun, event(failed("APIError")), woken, looked(undefined)],
      actions: ["ReportWaiting"],
      state: { ending: { sinceMillis: 0, idleSinceMillis: undefined, nextLookMillis: 500 } }
    },
    {
      name: "posts nothing where a message that cannot be read may be the answer",
      news: [
        ...secondLook,
        isIdle({ ...unfinished, unread: { lost: [], hidden: ["messages[1].info.role"], other: [] } })
      ],
      actions: ["Fail DecodeError"]
    },
    {
      name: "gives up when its time is over",
      news: [...inDoubt, looked(undefined), after(30_000), woken, looked(undefined)],
      actions: ["Fail TurnTimeout"]
    },
    {
      name: "posts nothing when its time is over",
      news: [...inDoubt, isIdle(unfinished), after(30_000), woken, isIdle(unfinished)],
      actions: ["Fail TurnTimeout"]
    },
    {
      name: "after a gap is progress where it brought something",
      news: [
        ...begun,
        lost,
        back,
        woken,
        after(70),
        looked({ exchange: unfinished, isIdle: false }, { hasCaughtUp: true })
      ],
      actions: [],
      state: { progressMillis: 70, isCheckDue: true }
    },
    {
      name: "after a gap is none where it brought nothing",
      news: [...begun, lost, back, woken, after(70), isWorking(unfinished)],
      actions: [],
      state: { progressMillis: 0, isCheckDue: false }
    },
    {
      name: "ends the turn for a retry that comes too late",
      news: [
        ...begun,
        lost,
        back,
        woken,
        looked({ exchange: unfinished, isIdle: false }, {
          retries: [{ message: "no", nextMillis: 1, waitMillis: 3_700_000 }]
        })
      ],
      actions: ["Fail Upstream"]
    }
  ])("$name", ({ actions, news, state = {} }) => {
    const end = run(news)
    assert.deepStrictEqual(tagsOf(end.actions), actions)
    assert.deepInclude(end.state, { looking: undefined, ...state })
  })

  it("posts as often as the policy says", () => {
    const again = [
      isIdle(unfinished),
      { _tag: "Reposted", sinceMillis: 0 },
      after(2000),
      woken
    ] satisfies ReadonlyArray<Step>
    const idle = [isIdle(unfinished), after(250), woken] satisfies ReadonlyArray<Step>
    const { actions } = run([...secondLook, ...again, ...idle, ...again, ...idle, isIdle(unfinished)])
    const [end] = actions
    assert(end?._tag === "Fail" && end.error._tag === "TurnUnfinished")
    assert.strictEqual(end.error.reposts, 2)
  })

  it("names in its failure the last error of the reply, or why the server could not be asked", () => {
    const unreachable: News = { _tag: "Unreachable", failure: failure("ConnectionFailed") }
    const until = [...inDoubt, unreachable, looked(undefined), after(30_000), woken]
    assert.strictEqual(lastOf([...until, looked(undefined)]), "ConnectionFailed")
    assert.strictEqual(lastOf([...until, looked(undefined, { trouble: failure("APIError") })]), "APIError")
  })

  it("waits for its answer as long as the final exchange may take, and one poll at least", () => {
    assert.strictEqual(untilMillis(inDoubt), 30_000)
    assert.strictEqual(untilMillis([...inDoubt, looked(undefined), after(29_900), woken]), 30_400)
  })
})

describe("the size of the reply", () => {
  it("is weighed when it may have grown, and the first limit that it crosses stays", () => {
    const tooLarge = new BudgetExceeded({ limit: "parts", allowed: 1, value: 2 })
    const changed: News = { _tag: "Changed", asks: undefined }
    const fine = run([...begun, { _tag: "Weighed", tooLarge: undefined }])
    assert.isFalse(fine.state.hasGrown)
    const grown = run([...begun, { _tag: "Weighed", tooLarge: undefined }, changed])
    assert.isTrue(grown.state.hasGrown)
    const over = run([...begun, { _tag: "Weighed", tooLarge }, changed, { _tag: "Weighed", tooLarge: undefined }])
    assert.strictEqual(over.state.tooLarge, tooLarge)
  })
})

describe("a server that is gone", () => {
  const goneDue = (steps: ReadonlyArray<Step>) => PromptState.goneDue(run(steps, { absenceMillis: 1000 }).state)

  it.each<{ readonly name: string; readonly news: ReadonlyArray<Step>; readonly dueMillis: number }>([
    { name: "never while the stream is there", news: [...begun, after(5000)], dueMillis: Infinity },
    { name: "from the loss of the stream on", news: [...begun, after(300), lost], dueMillis: 1300 },
    { name: "from the first loss on", news: [...begun, after(300), lost, after(400), lost], dueMillis: 1300 },
    {
      name: "from its last answer on",
      news: [...begun, after(300), lost, after(1000), { _tag: "Reachable" }],
      dueMillis: 2300
    },
    { name: "not once the stream is back", news: [...begun, lost, after(400), back], dueMillis: Infinity },
    {
      name: "by a clock that goes on although a person is asked",
      news: [...begun, asks(true), after(5000), lost, after(400)],
      dueMillis: 1000
    }
  ])("is waited for, $name", ({ dueMillis, news }) => {
    assert.strictEqual(goneDue(news), dueMillis)
  })
})
