import { assert, describe, it } from "@effect/vitest"
import type { Account, SessionParts } from "@opencode-turn/core/Artifact"
import * as Artifact from "@opencode-turn/core/Artifact"
import type { SessionId } from "@opencode-turn/core/Ids"
import { MessageId, PartId } from "@opencode-turn/core/Ids"
import type { FileDiff } from "@opencode-turn/core/Part"
import type { FileChange, Part } from "@opencode-turn/core/Part"
import * as Schema from "effect/Schema"
import { child, root, tool } from "../support/make.ts"

const place = { directory: "/repo/app", worktree: "/repo" }

/** A tool call at a given time that changed these files. */
const call = (at: number, files: ReadonlyArray<FileChange>, input: Record<string, unknown> = {}): Part =>
  tool(idAt("prt", at), { tool: "write", status: "completed", files, input })

const write = (at: number, path: string, change: FileChange["change"], content: string): Part =>
  call(at, [{ path, change, contentKey: "content" }], { content })

/** The `patch` part of a step with a given start and end. */
const patch = (since: number, at: number, ...files: ReadonlyArray<string>): Part => ({
  type: "patch",
  id: PartId.make(idAt("prt", at)),
  messageId: MessageId.make(idAt("msg", since)),
  files
})

const idAt = (prefix: string, at: number) => `${prefix}_${String(at).padStart(12, "0")}abc`

/** The ids of a part of a step of OpenCode 2.x, which have the time at which the step began. */
const ofStep = (since: number, suffix: string) => ({
  id: PartId.make(`${idAt("prt", since)}.${suffix}`),
  messageId: MessageId.make(idAt("msg", since))
})
const wrote = (since: number, callId: string, path: string, change: FileChange["change"]): Part =>
  tool("prt_0", {
    ...ofStep(since, `tool${callId}`),
    status: "completed",
    files: [{ path, change, contentKey: "content" }],
    input: { content: "x\n" }
  })
const opens = (since: number, subagent: SessionId): Part =>
  tool("prt_0", { ...ofStep(since, "toolcall_0"), status: "completed", files: [], subagent })
const written = (since: number, ...files: ReadonlyArray<string>): Part => ({
  type: "patch",
  ...ofStep(since, "written"),
  files
})

const of = (sessionId: SessionId, ...parts: ReadonlyArray<Part>): SessionParts => ({ sessionId, parts })
const diff = (path: string, change: FileDiff["change"], additions = 0, deletions = 0): FileDiff => ({
  path,
  change,
  additions,
  deletions
})
const complete = (...files: ReadonlyArray<FileDiff>): Account => ({ files, covered: [root] })
const partial = (...files: ReadonlyArray<FileDiff>): Account => ({ files, covered: [] })

const unknown = { additions: undefined, deletions: undefined, content: undefined, mediaType: undefined }
const typeOf = (...parts: ReadonlyArray<Part>) => Artifact.fromParts([of(root, ...parts)], place)[0]?.mediaType
const changes = (...args: Parameters<typeof Artifact.fromParts>) =>
  Artifact.fromParts(...args).map(({ change, path }) => `${change} ${path}`)

describe("the parts alone", () => {
  it("list what a call changed, with its counts, its content and its session", () => {
    const files = Artifact.fromParts([
      of(
        root,
        write(1, "/repo/app/new.txt", "added", "a\nb"),
        call(2, [{ path: "/repo/app/old.txt", change: "modified", additions: 3, deletions: 1 }])
      ),
      of(child, write(3, "/repo/app/src/b.ts", "modified", "b\n"))
    ], place)
    assert.deepStrictEqual<unknown>(files, [
      {
        path: "new.txt",
        change: "added",
        additions: 2,
        deletions: 0,
        content: "a\nb",
        mediaType: "text/plain",
        sessionIds: [root]
      },
      {
        path: "old.txt",
        change: "modified",
        additions: 3,
        deletions: 1,
        content: undefined,
        mediaType: "text/plain",
        sessionIds: [root]
      },
      { ...unknown, path: "src/b.ts", change: "modified", content: "b\n", mediaType: "text/plain", sessionIds: [child] }
    ])
  })

  it("count the lines of a new file", () => {
    for (const [content, lines] of [["", 0], ["a", 1], ["a\n", 1], ["a\n\n", 2], ["\n", 1]] as const) {
      const [file] = Artifact.fromParts([of(root, write(1, "a", "added", content))], place)
      assert.strictEqual(file?.additions, lines, JSON.stringify(content))
    }
  })

  it("name both sessions that changed a file, and keep the last content", () => {
    const files = Artifact.fromParts([
      of(root, write(5, "a.txt", "modified", "last")),
      of(child, write(2, "/repo/app/a.txt", "added", "first"))
    ], place)
    assert.deepStrictEqual<unknown>(files, [
      {
        path: "a.txt",
        change: "added",
        additions: 1,
        deletions: 0,
        content: "last",
        mediaType: "text/plain",
        sessionIds: [child, root]
      }
    ])
  })

  it("drop content and counts that a later change invalidated", () => {
    const edit = { path: "a.txt", change: "modified", additions: 1, deletions: 1 } as const
    const [file] = Artifact.fromParts([
      of(root, write(1, "a.txt", "modified", "x"), call(2, [edit]), call(3, [edit]))
    ], place)
    assert.deepStrictEqual<unknown>(file, {
      ...unknown,
      path: "a.txt",
      change: "modified",
      mediaType: "text/plain",
      sessionIds: [root]
    })
  })

  it("tell the media type by the name, and that of another text by its content or its counted lines", () => {
    assert.strictEqual(typeOf(write(1, "page.html", "added", "<p>")), "text/html")
    assert.strictEqual(typeOf(write(1, "src/a.ts", "added", "export {}")), "text/plain")
    assert.strictEqual(typeOf(write(1, "fake.png", "added", "no pixels")), "text/plain")
    assert.strictEqual(typeOf(call(1, [{ path: "a.rs", change: "modified", additions: 1 }])), "text/plain")
    assert.strictEqual(typeOf(call(1, [{ path: "Makefile", change: "modified", deletions: 1 }])), "text/plain")
    assert.strictEqual(typeOf(patch(1, 9, "/repo/app/chart.png")), "image/png")
    assert.strictEqual(typeOf(patch(1, 9, "/repo/app/data.json")), "application/json")
    assert.isUndefined(typeOf(patch(1, 9, "/repo/app/a.ts")))
    assert.isUndefined(typeOf(patch(1, 9, "/repo/app/Makefile")))
  })

  it("count a call once that is passed twice", () => {
    const edit = call(1, [{ path: "a.txt", change: "modified", additions: 1, deletions: 2 }])
    const [file] = Artifact.fromParts([of(root, edit), of(root, edit)], place)
    assert.deepInclude(file, { additions: 1, deletions: 2 })
  })

  it("know only the name of a file that a shell command changed", () => {
    const files = Artifact.fromParts([of(root, patch(1, 9, "/repo/app/made.txt"))], place)
    assert.deepStrictEqual<unknown>(files, [{
      ...unknown,
      path: "made.txt",
      change: "unknown",
      mediaType: "text/plain",
      sessionIds: []
    }])
  })

  it("ignore a patch for a file that a call of its step changed, or a subagent's call", () => {
    const sessions = [
      of(root, write(2, "/repo/app/a", "added", "x"), patch(1, 9, "/repo/app/a", "/repo/app/b")),
      of(child, write(4, "/repo/app/b", "added", "y"), patch(3, 5, "/repo/app/b"))
    ]
    assert.deepStrictEqual(changes(sessions, place), ["added a", "added b"])
    assert.deepStrictEqual(Artifact.fromParts(sessions, place).map(({ content }) => content), ["x", "y"])
  })

  it("learn from a later step's patch that something else changed the file", () => {
    const sessions = [
      of(root, write(2, "/repo/app/a", "added", "x"), patch(1, 3, "/repo/app/a"), patch(4, 6, "/repo/app/a"))
    ]
    assert.deepStrictEqual<unknown>(Artifact.fromParts(sessions, place), [
      { ...unknown, path: "a", change: "unknown", sessionIds: [root] }
    ])
  })

  describe("of OpenCode 2.x", () => {
    it("know what a subagent did within a step of its opener", () => {
      const sessions = [
        of(
          root,
          opens(1, child),
          written(1, "/repo/app/a", "/repo/app/b"),
          wrote(5, "call_9", "b", "modified"),
          written(5, "b")
        ),
        of(
          child,
          wrote(2, "call_1", "a", "added"),
          written(2, "/repo/app/a"),
          wrote(3, "call_1", "b", "added"),
          written(3, "b")
        )
      ]
      const files = Artifact.fromParts(sessions, place)
      const [a, b] = files
      assert.deepInclude(a, { path: "a", change: "added", additions: 1, deletions: 0, sessionIds: [child] })
      assert.deepInclude(b, { path: "b", change: "added", sessionIds: [child, root] })
      assert.deepStrictEqual(Artifact.fromParts(sessions.toReversed(), place), files)
    })

    it("are in the order of the calls within a step, whatever these are called", () => {
      const step = of(root, wrote(1, "call_b", "a", "added"), wrote(1, "call_a", "a", "modified"), written(1, "a"))
      assert.deepStrictEqual(changes([step], place), ["added a"])
    })

    it("learn from the last step of a subagent what no call told, before its opener goes on", () => {
      const sessions = [
        of(root, opens(1, child), written(1, "a"), wrote(5, "call_1", "a", "modified"), written(5, "a")),
        of(child, wrote(2, "call_1", "c", "added"), written(2, "a", "c"))
      ]
      assert.deepStrictEqual(changes(sessions, place), ["unknown a", "added c"])
    })

    it("end, also if two sessions claim to have opened each other", () => {
      const sessions = [of(root, opens(1, child), written(1, "a")), of(child, opens(2, root), written(2, "b"))]
      assert.deepStrictEqual(changes(sessions, place), ["unknown a", "unknown b"])
    })
  })

  const Op = Schema.Struct({
    session: Schema.Literals([root, child]),
    file: Schema.Literals(["a", "b", "c"]),
    removes: Schema.Boolean,
    key: Schema.Int
  })
  const existed = new Set(["a"])
  const history = (ops: ReadonlyArray<typeof Op.Type>) => {
    const now = new Set(existed)
    const told: Array<{ readonly session: SessionId; readonly part: Part; readonly key: number }> = []
    for (const [at, { file, key, removes, session }] of ops.entries()) {
      if (removes && !now.has(file)) continue
      const part = removes
        ? call(at, [{ path: file, change: "deleted" }])
        : write(at, file, now.has(file) ? "modified" : "added", `${at}`)
      told.push({ session, part, key })
      if (removes) now.delete(file)
      else now.add(file)
    }
    return { told, now }
  }
  const partsOf = (session: SessionId, told: ReturnType<typeof history>["told"]): SessionParts =>
    of(session, ...told.filter((one) => one.session === session).map(({ part }) => part))

  it.prop("give the net change of each file", { ops: Schema.Array(Op) }, ({ ops }) => {
    const { now, told } = history(ops)
    const touched = new Set(
      told.flatMap(({ part }) => (part.type === "tool" ? part.files ?? [] : [])).map((f) => f.path)
    )
    const expected = [...touched].toSorted().flatMap((file) => {
      const [before, after] = [existed.has(file), now.has(file)]
      return before || after ? [`${!after ? "deleted" : before ? "modified" : "added"} ${file}`] : []
    })
    assert.deepStrictEqual(changes([partsOf(root, told), partsOf(child, told)], place), expected)
  })

  it.prop("give the same result in any order and with repeated parts", { ops: Schema.Array(Op) }, ({ ops }) => {
    const { told } = history(ops)
    const inOrder = Artifact.fromParts([partsOf(root, told), partsOf(child, told)], place)
    const shuffled = told.toSorted((self, that) => self.key - that.key)
    const again = [partsOf(child, shuffled), partsOf(root, shuffled), partsOf(child, told)]
    assert.deepStrictEqual(Artifact.fromParts(again, place), inOrder)
  })
})

describe("the server's account", () => {
  it("decides change and counts, and leaves content and sessions to the parts", () => {
    const files = Artifact.fromParts(
      [of(root, write(2, "/repo/app/a", "added", "x"), patch(1, 3, "/repo/app/a"))],
      place,
      complete(diff("app/a", "modified", 5, 4))
    )
    assert.deepStrictEqual<unknown>(files, [
      {
        path: "a",
        change: "modified",
        additions: 5,
        deletions: 4,
        content: "x",
        mediaType: "text/plain",
        sessionIds: [root]
      }
    ])
  })

  it("names what only a shell command changed, also outside of the session's folder", () => {
    const account = complete(diff("app/sub/made.txt", "added", 1), diff("other/gone.txt", "deleted", 0, 9))
    assert.deepStrictEqual(changes([of(root, patch(1, 3, "/repo/app/sub/made.txt"))], place, account), [
      "deleted /repo/other/gone.txt",
      "added sub/made.txt"
    ])
  })

  it("gives no content for a removed file", () => {
    const [file] = Artifact.fromParts(
      [of(root, write(2, "/repo/app/a", "modified", "x"), patch(1, 3, "/repo/app/a"))],
      place,
      complete(diff("app/a", "deleted", 0, 1))
    )
    assert.deepStrictEqual<unknown>(file, {
      path: "a",
      change: "deleted",
      additions: 0,
      deletions: 1,
      content: undefined,
      mediaType: "text/plain",
      sessionIds: [root]
    })
  })

  it("removes a file that was created and removed again, once the account is complete", () => {
    const sessions = [
      of(root, write(2, "/repo/app/a", "added", "x"), patch(1, 3, "/repo/app/a"), patch(4, 5, "/repo/app/a"))
    ]
    assert.deepStrictEqual(changes(sessions, place, complete()), [])
    assert.deepStrictEqual(changes(sessions, place, partial()), ["unknown a"])
    assert.deepStrictEqual(changes(sessions, place, complete(diff("app/a", "added", 1))), ["added a"])
  })

  it("removes no file of a session that it does not cover", () => {
    const sessions = [of(child, write(2, "/repo/app/a", "added", "x"), patch(1, 3, "/repo/app/a"))]
    assert.deepStrictEqual(changes(sessions, place, complete()), ["added a"])
    const called = [...sessions, of(root, patch(0, 4, "/repo/app/a"))]
    assert.deepStrictEqual(changes(called, place, complete()), [])
  })

  it("removes no file that it cannot see: ignored by git, or elsewhere on the disk", () => {
    const sessions = [
      of(root, write(2, "/repo/app/dist/out.js", "added", "x"), write(3, "/etc/hosts", "modified", "y"))
    ]
    assert.deepStrictEqual(changes(sessions, place, complete()), ["modified /etc/hosts", "added dist/out.js"])
  })

  it("is combined with the parts if it may be incomplete", () => {
    const sessions = [of(root, write(2, "/repo/app/a", "added", "x"), patch(1, 3, "/repo/app/a", "/repo/app/b"))]
    assert.deepStrictEqual(changes(sessions, place, partial(diff("app/c", "modified", 1))), [
      "added a",
      "unknown b",
      "modified c"
    ])
  })
})

const pathFrom = (path: string, directory: string | undefined) =>
  Artifact.fromParts([of(root, write(1, path, "added", ""))], { directory, worktree: undefined })[0]?.path

describe("paths", () => {
  it("are relative to the session's folder if they lie inside", () => {
    assert.strictEqual(pathFrom("/w/a/b.txt", "/w"), "a/b.txt")
    assert.strictEqual(pathFrom("/w/a/b.txt", "/w/"), "a/b.txt")
    assert.strictEqual(pathFrom("./a//b/../c.txt", "/w"), "a/c.txt")
    assert.strictEqual(pathFrom("/world/a", "/w"), "/world/a")
    assert.strictEqual(pathFrom("../a", "/w/x"), "/w/a")
    assert.strictEqual(pathFrom("/a", "/"), "a")
    assert.strictEqual(pathFrom("a.txt", undefined), "a.txt")
    assert.strictEqual(pathFrom("/a.txt", undefined), "/a.txt")
  })

  it("on Windows have slashes, and match any spelling of the drive", () => {
    assert.strictEqual(pathFrom("C:\\w\\a\\b.txt", "C:\\w"), "a/b.txt")
    assert.strictEqual(pathFrom("c:/w/a.txt", "C:\\w"), "a.txt")
    assert.strictEqual(pathFrom("a\\b.txt", "C:\\w"), "a/b.txt")
    assert.strictEqual(pathFrom("D:\\a.txt", "C:\\w"), "D:/a.txt")
    assert.strictEqual(pathFrom("\\\\host\\share\\a.txt", "\\\\host\\share"), "a.txt")
  })

  it("may have a backslash on other systems", () => {
    assert.strictEqual(pathFrom("/w/a\\b.txt", "/w"), "a\\b.txt")
  })

  it("of a Windows repository's account name the same files as the parts", () => {
    const windows = { directory: "C:\\repo\\app", worktree: "C:/repo" }
    const files = Artifact.fromParts(
      [of(root, write(2, "C:\\repo\\app\\a.txt", "added", "x"))],
      windows,
      complete(diff("app/a.txt", "added", 1))
    )
    assert.deepStrictEqual(files.map(({ content, path }) => [path, content]), [["a.txt", "x"]])
  })
})
