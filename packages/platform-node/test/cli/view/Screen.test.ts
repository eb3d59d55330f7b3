import * as Screen from "#cli/view/Screen"
import * as Describe from "#terminal/Describe"
import { assert, it } from "@effect/vitest"
import { AskId, PartId, SessionId } from "@opencode-turn/core/Ids"
import type { ReplyUpdate } from "@opencode-turn/core/ReplyUpdate"
import { zero } from "@opencode-turn/core/Usage"
import {
  changed,
  delta,
  ids,
  messageId,
  piped,
  play,
  removed,
  reset,
  result,
  terminal,
  textPart,
  thought,
  tool
} from "../../support/ScreenPlay.ts"

it("writes nothing but the text parts to the answer, joined by a blank line, with a newline at the end", () => {
  const first = textPart("prt_1", "I run it.")
  const second = textPart("prt_2", "It said hi.")
  const { answer, progress } = play(piped, [
    thought("prt_0", "let me "),
    thought("prt_0", "think"),
    changed(textPart("prt_1", "", false)),
    delta("prt_1", "I run "),
    delta("prt_1", "it."),
    changed(tool({})),
    changed(first),
    changed(tool({ status: "completed", title: "echo hi", startedMillis: 0, endedMillis: 1500 })),
    delta("prt_2", "It said hi.")
  ], result("completed", first, second))
  assert.strictEqual(answer, "I run it.\n\nIt said hi.\n")
  assert.strictEqual(
    progress,
    "thinking: let me think\n● Running echo hi\n✓ Ran echo hi 1.5 s\n" +
      "completed · 0 tokens in, 0 out · $0 · 1.2 s · conversation c1\n"
  )
})

it("never continues a line of one stream with one of the other on a screen that they share", () => {
  const { both } = play(terminal, [
    delta("prt_1", "I run it."),
    changed(tool({})),
    delta("prt_2", "It said hi."),
    thought("prt_3", "done"),
    delta("prt_4", "Bye.")
  ], result("completed", textPart("prt_1", "I run it."), textPart("prt_2", "It said hi."), textPart("prt_4", "Bye.")))
  assert.strictEqual(
    both,
    "I run it.\n● Running echo hi\n\nIt said hi.\nthinking: done\n\nBye.\n" +
      "completed · 0 tokens in, 0 out · $0 · 1.2 s · conversation c1\n"
  )
})

it("draws a tool's line over the one before, unless something came between", () => {
  const over = "\u001b[1A\u001b[2K\r"
  const done = tool({ status: "completed", title: "echo hi" })
  assert.strictEqual(
    play(terminal, [changed(tool({})), changed(tool({})), changed(done)]).both,
    `● Running echo hi\n${over}✓ Ran echo hi\n`
  )
  assert.notInclude(play(terminal, [changed(tool({})), delta("prt_1", "x"), changed(done)]).both, over)
  assert.notInclude(play(piped, [changed(tool({})), changed(done)]).both, over)
})

/** What each tick writes. */
const ticks = (screen: Screen.Screen, ...millis: ReadonlyArray<number>) => {
  let shown = screen
  return millis.map((nowMillis) => {
    const [next, writes] = Screen.tick(shown, nowMillis)
    shown = next
    return writes.map(({ text }) => text).join("")
  })
}

it("shows the running time of a tool in its line while that is the last line", () => {
  const running = Screen.update(Screen.make(terminal), changed(tool({})))[0]
  const over = "\u001b[1A\u001b[2K\r"
  assert.deepStrictEqual(ticks(running, 1000, 3999, 4000, 4100, 5000, 66_000), [
    "",
    "",
    `${over}● Running echo hi 3 s\n`,
    "",
    `${over}● Running echo hi 4 s\n`,
    `${over}● Running echo hi 1 min 5 s\n`
  ])
  const [interrupted] = Screen.update(running, thought("prt_1", "meanwhile"))
  assert.deepStrictEqual(ticks(interrupted, 0, 60_000), ["", ""])
  const [ended] = Screen.update(running, changed(tool({ status: "completed", title: "echo hi" })))
  assert.deepStrictEqual(ticks(ended, 0, 60_000), ["", ""])
  assert.deepStrictEqual(ticks(Screen.update(Screen.make(piped), changed(tool({})))[0], 0, 60_000), ["", ""])
})

it("adds the text of a closed part that its deltas lack", () => {
  assert.strictEqual(play(piped, [delta("prt_1", "abc"), changed(textPart("prt_1", "abcdef"))]).answer, "abcdef")
})

it("adds the text of a reset that was not shown yet, also in new parts", () => {
  const { answer } = play(piped, [
    delta("prt_1", "abc"),
    reset(textPart("prt_1", "abcdef"), textPart("prt_2", "more"))
  ])
  assert.strictEqual(answer, "abcdef\n\nmore")
})

it("says that the record differs, and shows the text again", () => {
  const end = result("completed", textPart("prt_2", "after it"))
  const { answer, progress } = play(piped, [delta("prt_1", "a b c"), reset(textPart("prt_2", "after it"))], end)
  assert.strictEqual(answer, "a b c\nafter it\n")
  assert.strictEqual(progress.match(/the server's record differs/g)?.length, 1)
})

it("says which text is taken back, and begins the next one on a line of its own", () => {
  const end = result("completed", textPart("prt_2", "all of it"))
  const notes =
    "the agent takes this back: half of it\n↻ the model failed (attempt 1), OpenCode plans to retry: reset\n"
  const summary = "completed · 0 tokens in, 0 out · $0 · 1.2 s · conversation c1\n"
  for (const removal of [removed("prt_1"), changed(textPart("prt_1", "", false))]) {
    const updates: ReadonlyArray<ReplyUpdate> = [
      delta("prt_1", "half\nof it"),
      removal,
      { _tag: "Retrying", retry: { attempt: 1, message: "reset", nextMillis: 0 } },
      delta("prt_2", "all of it")
    ]
    const { answer, progress } = play(piped, updates, end)
    assert.strictEqual(answer, "half\nof it\nall of it\n")
    assert.strictEqual(progress, `${notes}${summary}`)
    assert.strictEqual(play(terminal, updates, end).both, `half\nof it\n${notes}all of it\n${summary}`)
  }
})

const retrying = (message: string): ReplyUpdate => ({
  _tag: "Retrying",
  retry: { attempt: 1, message, nextMillis: 0 }
})

it("says no more of a failure than the server did", () => {
  const again = "↻ the model failed (attempt 1), OpenCode plans to retry"
  assert.strictEqual(play(piped, [retrying(""), retrying("reset")]).progress, `${again}\n${again}: reset\n`)
  assert.strictEqual(
    play(piped, [changed(tool({ status: "error", error: " " }))]).progress,
    "✗ Running echo hi: it failed\n"
  )
})

it("says nothing of parts that are taken back before they showed text", () => {
  const { both } = play(piped, [
    changed(textPart("prt_1", "", false)),
    changed(textPart("prt_1", "", false)),
    removed("prt_1"),
    changed(tool({ status: "pending" })),
    removed("prt_tool")
  ])
  assert.strictEqual(both, "")
})

it("adds text at the end that no update contained", () => {
  const end = result("completed", textPart("prt_1", "all of it"))
  assert.strictEqual(play(piped, [delta("prt_1", "all")], end).answer, "all of it\n")
  assert.strictEqual(play(piped, [], end).answer, "all of it\n")
})

it("leaves the answer empty without text, and names the conversation of every stored turn", () => {
  for (const status of ["cancelled", "error", "failed"] as const) {
    const shown = play(piped, [], result(status))
    assert.deepStrictEqual([shown.answer, shown.progress], ["", `${status} · conversation c1\n`])
  }
  const { answer, progress } = play(piped, [], result("completed"))
  assert.deepStrictEqual(
    [answer, progress],
    ["", "completed · 0 tokens in, 0 out · $0 · 1.2 s · conversation c1\n"]
  )
})

it("prints no summary if no turn is stored", () => {
  const end = { ...result("failed"), message: undefined }
  assert.deepStrictEqual(play(piped, [], end), { answer: "", progress: "", both: "" })
})

it("shows to-dos, retries and asks", () => {
  const { progress } = play(piped, [
    {
      _tag: "TodosChanged",
      todos: [{ content: "first", status: "completed" }, { content: "second", status: "in_progress" }]
    },
    { _tag: "Retrying", retry: { attempt: 2, message: "overloaded", nextMillis: 0 } },
    {
      _tag: "Asked",
      openedBy: undefined,
      ask: {
        _tag: "Permission",
        id: AskId.make("per_1"),
        sessionId: ids.sessionId,
        permission: "bash",
        patterns: ["echo hi"],
        always: [],
        metadata: {}
      }
    }
  ])
  assert.deepStrictEqual(progress.split("\n"), [
    "  ☑ first",
    "  ◐ second",
    "↻ the model failed (attempt 2), OpenCode plans to retry: overloaded",
    "? permission bash: echo hi",
    ""
  ])
})

it("only names an ask that a prompt shows in full", () => {
  const asked: ReplyUpdate = {
    _tag: "Asked",
    openedBy: undefined,
    ask: {
      _tag: "Permission",
      id: AskId.make("per_1"),
      sessionId: ids.sessionId,
      permission: "bash",
      patterns: ["echo hi"],
      always: [],
      metadata: {}
    }
  }
  assert.strictEqual(play({ ...piped, areAsksNamed: true }, [asked]).progress, "? permission bash\n")
})

const escape = "\u001b]52;c;AAAA\u0007\u009b2J\r\u202e"

it("neutralises text of models and servers wherever it is shown", () => {
  const session = ids.sessionId
  const child = SessionId.make("ses_2")
  const updates: ReadonlyArray<ReplyUpdate> = [
    delta("prt_1", escape),
    thought("prt_2", escape),
    changed(tool({ input: { command: escape } })),
    changed(tool({ status: "error", tool: escape, title: escape, error: escape })),
    changed({ type: "file", id: PartId.make("prt_3"), messageId, mediaType: escape, url: escape, filename: escape }),
    changed({ type: "patch", id: PartId.make("prt_4"), messageId, files: [escape] }),
    { _tag: "TodosChanged", todos: [{ content: escape, status: "pending" }] },
    { _tag: "Retrying", retry: { attempt: 1, message: escape, nextMillis: 0 } },
    {
      _tag: "SubagentChanged",
      subagent: {
        sessionId: child,
        parentId: session,
        title: escape,
        agent: escape,
        status: "completed",
        text: escape,
        usage: zero
      }
    },
    {
      _tag: "Asked",
      openedBy: PartId.make("prt_5"),
      ask: {
        _tag: "Permission",
        id: AskId.make("per_1"),
        sessionId: session,
        permission: escape,
        patterns: [escape],
        always: [escape],
        metadata: {}
      }
    },
    {
      _tag: "SubagentUpdate",
      sessionId: child,
      openedBy: undefined,
      update: { _tag: "Failed", failure: { name: escape, message: escape, isRetryable: false } }
    },
    {
      _tag: "Asked",
      openedBy: undefined,
      ask: {
        _tag: "Question",
        id: AskId.make("que_1"),
        sessionId: session,
        questions: [{ question: escape, header: escape, options: [], multiple: false, custom: true }]
      }
    }
  ]
  const { both } = play(piped, updates, result("completed", textPart("prt_1", escape)))
  assert.notMatch(both, /(?![\n\t])[\p{Cc}\p{Bidi_Control}]/u)
  assert.isAbove(both.match(/␛\]52;c;AAAA␇/g)?.length ?? 0, 12)
})

it("uses colour codes only with colour", () => {
  const updates = [thought("prt_1", "hm"), changed(tool({}))]
  assert.include(play({ ...terminal, hasColor: true }, updates).both, "\u001b[2mthinking: hm\u001b[22m")
  assert.notInclude(play(terminal, updates).both, "\u001b")
})

it("writes cost and duration in the units that fit", () => {
  assert.deepStrictEqual([0, 0.000165, 0.0099, 0.0123, 0.5, 12.345].map(Describe.describeCost), [
    "$0",
    "$0.000165",
    "$0.0099",
    "$0.012",
    "$0.50",
    "$12.35"
  ])
  assert.deepStrictEqual([0, 1234, 59_900, 61_000, 600_000].map(Describe.describeDuration), [
    "0.0 s",
    "1.2 s",
    "59.9 s",
    "1 min 1 s",
    "10 min 0 s"
  ])
})

it("says that an answer did not fit, and that the session was lost", () => {
  for (
    const [reason, words] of [
      ["repaired", "did not fit the schema"],
      ["refused", "refusals stopped the agent"],
      ["recreated", "session was lost"]
    ] as const
  ) {
    const { progress } = play(piped, [delta("prt_1", "abc"), { ...reset(), reason }])
    assert.include(progress, words)
  }
})

it("writes only the value to the answer, and the agent's earlier text to the progress", () => {
  const options = { ...piped, hasValue: true }
  const updates = [
    thought("prt_0", "hm"),
    delta("prt_1", "I look "),
    delta("prt_1", "at it."),
    changed(textPart("prt_1", "I look at it, twice.")),
    reset(textPart("prt_1", "I looked at it.")),
    delta("prt_2", "Done.")
  ]
  const completed = { ...result("completed", textPart("prt_2", "Done.")), content: `{\n  "text": "\u202e"\n}` }
  const { answer, progress } = play(options, updates, completed)
  assert.strictEqual(answer, `{\n  "text": "\\u202e"\n}\n`)
  assert.match(progress, /^thinking: hm\nsaying: I look at it\.\nsaying: Done\.\ncompleted · [^\n]*\n$/)
  assert.strictEqual(play(options, updates, { ...completed, ...result("error") }).answer, "")
})
