import type { EndedTurn } from "#drive/ReadArtifacts"
import { fromReplies, readArtifacts } from "#drive/ReadArtifacts"
import { assert, describe, it } from "@effect/vitest"
import { PartId } from "@opencode-turn/core/Ids"
import type { Part, ToolPart } from "@opencode-turn/core/Part"
import * as Reply from "@opencode-turn/core/Reply"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import { connect, empty, json, withClient } from "../support/http.ts"
import * as Make from "../support/make.ts"

const done = (fields: Partial<ToolPart>): ToolPart => Make.tool("prt_2", { status: "completed", ...fields })
const read = done({ tool: "read", files: [] })
const bash = done({ tool: "bash" })
const write = done({
  tool: "write",
  files: [{ path: "/repo/a.txt", change: "added", contentKey: "content" }],
  input: { content: "x" }
})
const patch: Part = { type: "patch", id: PartId.make("prt_3"), messageId: Make.answerId, files: ["/repo/b.txt"] }
const wireDiff = { file: "b.txt", patch: "", additions: 1, deletions: 0, status: "added" }

const turn = (parts: ReadonlyArray<Part>, fields: Partial<EndedTurn> = {}): EndedTurn => ({
  sessionId: Make.root,
  sessions: [{ sessionId: Make.root, promptIds: [Make.promptId], parts }],
  directory: "/repo",
  worktree: "/repo",
  isStructured: false,
  end: "completed",
  ...fields
})

/** Reads while a server answers one after the other, the last one for ever; time passes as fast as it can. */
const reading = Effect.fnUntraced(function*(ended: EndedTurn, ...answers: ReadonlyArray<() => Response>) {
  let asked = 0
  const server = connect(() => (answers[Math.min(asked++, answers.length - 1)] ?? (() => empty(500)))())
  const fiber = yield* Effect.forkChild(withClient(server)(readArtifacts(ended)))
  yield* TestClock.adjust("10 seconds")
  const artifacts = yield* Fiber.join(fiber)
  for (const { method, path, query } of server.requests()) {
    assert.deepStrictEqual([method, path, query], ["GET", "/session/ses_root/diff", { messageID: Make.promptId }])
  }
  return {
    requests: server.requests().length,
    files: artifacts.files.map(({ change, path }) => `${change} ${path}`),
    reasons: artifacts.unread.map(({ reason, sessionId }) => {
      assert.strictEqual(sessionId, Make.root)
      return reason
    })
  }
})
const answer = (...files: ReadonlyArray<object>) => () => json(files)

describe("a turn makes no request for its files", () => {
  it.effect("if it wrote nothing", () =>
    Effect.gen(function*() {
      for (const parts of [[], [Make.text("prt_1", "hello")], [Make.text("prt_1", "hello"), read]]) {
        assert.deepStrictEqual(yield* reading(turn(parts)), { requests: 0, files: [], reasons: [] })
      }
    }))

  it.effect("outside of a repository: changes of shell commands are marked as unknown", () =>
    Effect.gen(function*() {
      for (const worktree of ["/", undefined]) {
        assert.deepStrictEqual(yield* reading(turn([write], { worktree })), {
          requests: 0,
          files: ["added a.txt"],
          reasons: []
        })
        const other = { ...bash, id: PartId.make("prt_9"), tool: "github_push" }
        const { reasons } = yield* reading(
          turn([other, write, bash, { ...bash, id: PartId.make("prt_8") }], { worktree })
        )
        assert.deepStrictEqual(reasons, [
          "what bash, github_push changed is not known: the folder is in no repository"
        ])
      }
    }))

  it.effect("after a structured answer: changes of a shell command are known by name alone", () =>
    Effect.gen(function*() {
      const { files, reasons, requests } = yield* reading(turn([write, bash, patch], { isStructured: true }))
      assert.strictEqual(requests, 0)
      assert.deepStrictEqual(files, ["added a.txt", "unknown b.txt"])
      assert.deepStrictEqual(reasons, [])
      const stopped = turn([write, bash, patch], { isStructured: true, end: "stopped" })
      assert.deepStrictEqual((yield* reading(stopped)).reasons, [
        "the turn did not end well: what bash changed in its last step may be missing"
      ])
    }))
})

describe("a turn asks the server for its files", () => {
  it.effect("once, if the server's account is complete", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* reading(turn([bash, patch]), answer(wireDiff)), {
        requests: 1,
        files: ["added b.txt"],
        reasons: []
      })
    }))

  it.effect("also for the changes that a subagent may have made", () =>
    Effect.gen(function*() {
      const task = done({ tool: "task", files: [], subagent: Make.child })
      assert.strictEqual((yield* reading(turn([task]), answer(wireDiff))).files.length, 1)
      // Without a repository, and without the subagent's parts, nobody knows.
      const { reasons } = yield* reading(turn([task], { worktree: "/" }))
      assert.deepStrictEqual(reasons, ["what task changed is not known: the folder is in no repository"])
      const sessions = [
        { sessionId: Make.root, promptIds: [], parts: [task] },
        { sessionId: Make.child, promptIds: [], parts: [read] }
      ]
      assert.deepStrictEqual((yield* reading(turn([], { worktree: "/", sessions }))).reasons, [])
    }))

  it.effect("with a request for a subtask, whose files the account of the turn leaves out", () =>
    Effect.gen(function*() {
      const task = done({ tool: "task", files: [], subagent: Make.child })
      const prompt = Make.user("msg_30").id
      const subtask = (own: ReadonlyArray<Part>) =>
        turn([], {
          sessions: [
            { sessionId: Make.root, promptIds: [Make.promptId], parts: [task, ...own] },
            { sessionId: Make.child, promptIds: [prompt], parts: [bash, patch] }
          ]
        })
      const server = connect(({ path }) => json(path === "/session/ses_child/diff" ? [wireDiff] : []))
      const { files, unread } = yield* withClient(server)(readArtifacts(subtask([])))
      assert.deepStrictEqual(files.map(({ change, path }) => `${change} ${path}`), ["added b.txt"])
      assert.deepStrictEqual(unread, [])
      assert.deepStrictEqual(server.requests().map(({ path, query }) => [path, query["messageID"]]), [
        ["/session/ses_root/diff", Make.promptId],
        ["/session/ses_child/diff", prompt]
      ])
      // A step of the turn itself names the file: its account knows what became of it.
      const called = yield* reading(subtask([{ ...patch, id: PartId.make("prt_4") }]), answer())
      assert.deepStrictEqual(called, { requests: 4, files: [], reasons: [] })
    }))

  it.effect("again for a while, if the account lags behind", () =>
    Effect.gen(function*() {
      for (const end of ["completed", "failed"] as const) {
        const lagging = yield* reading(turn([write, patch], { end }), answer(), answer(), answer(wireDiff))
        assert.deepStrictEqual(lagging, { requests: 3, files: ["added a.txt", "added b.txt"], reasons: [] })
      }
    }))

  it.effect("at most four times: files that the account of a completed turn still lacks were not changed", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* reading(turn([bash, patch]), answer()), { requests: 4, files: [], reasons: [] })
    }))

  it.effect("and marks files that the account of a failed turn lacks as possibly changed", () =>
    Effect.gen(function*() {
      const failed = yield* reading(turn([write, patch], { end: "failed" }), answer())
      assert.deepStrictEqual(failed.files, ["added a.txt", "unknown b.txt"])
      assert.deepStrictEqual(failed.reasons, [
        "the turn did not end well: the server's account may lack its last step"
      ])
    }))

  it.effect("once after it was stopped, because no account has its last step", () =>
    Effect.gen(function*() {
      const stopped = yield* reading(turn([bash, patch], { end: "stopped" }), answer())
      assert.deepStrictEqual(stopped, {
        requests: 1,
        files: ["unknown b.txt"],
        reasons: [
          "the turn did not end well: the server's account may lack its last step, and what bash changed in it"
        ]
      })
      assert.deepStrictEqual((yield* reading(turn([write], { end: "stopped" }), answer())).reasons, [])
    }))

  it.effect("and says what the server did not answer, beside the files that its parts name", () =>
    Effect.gen(function*() {
      const failing = yield* reading(turn([write, patch]), () => empty(400))
      assert.deepStrictEqual(failing.files, ["added a.txt", "unknown b.txt"])
      assert.match(failing.reasons.join(), /^the server's account of the changes could not be read: .*400/)
    }))

  it.effect("and waits no longer than the end of a turn may take", () =>
    Effect.gen(function*() {
      const server = connect(() => Effect.never)
      const fiber = yield* Effect.forkChild(
        withClient(server)(readArtifacts(turn([write]))).pipe(
          Effect.provideService(TurnPolicy.StopTimeout, Duration.seconds(3))
        )
      )
      yield* TestClock.adjust(2999)
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust(1)
      const { files, unread } = yield* Fiber.join(fiber)
      assert.strictEqual(files.length, 1)
      assert.deepStrictEqual(unread.map(({ reason }) => reason), [
        "the server's account of the changes could not be read: the server did not answer within 3000 ms"
      ])
    }))
})

describe("the replies of a turn", () => {
  it("give its sessions, and the folder that its newest message names", () => {
    const reply = Make.fold(
      Make.message(Make.assistant(Make.answerId, { directory: "/repo/app", worktree: "/repo" })),
      Make.part(write),
      Make.opened(Make.child, Make.root),
      Make.message(Make.user("msg_30", { sessionId: Make.child })),
      Make.message(Make.assistant("msg_31", { sessionId: Make.child, parentId: Make.user("msg_30").id })),
      Make.part({ ...bash, id: PartId.make("prt_32"), messageId: Make.assistant("msg_31").id }, Make.child)
    )
    const earlier = Reply.make({ sessionId: Make.root, promptId: Make.user("msg_05").id })
    const ended = fromReplies([earlier], reply, { isStructured: false, end: "completed" })
    const sessions = ended.sessions.map(({ parts, promptIds, sessionId }) => [
      sessionId,
      promptIds,
      parts.map(({ id }) => id)
    ])
    assert.deepStrictEqual<unknown>(
      { ...ended, sessions },
      {
        sessionId: Make.root,
        directory: "/repo/app",
        worktree: "/repo",
        isStructured: false,
        end: "completed",
        sessions: [
          [Make.root, [Make.promptId], ["prt_2"]],
          [Make.child, ["msg_30"], ["prt_32"]],
          [Make.root, [], []]
        ]
      }
    )
  })

  it("give no folder while no message is known", () => {
    const ended = fromReplies([], Make.empty, { isStructured: true, end: "stopped" })
    assert.deepInclude(ended, { directory: undefined, worktree: undefined, isStructured: true, end: "stopped" })
  })
})
