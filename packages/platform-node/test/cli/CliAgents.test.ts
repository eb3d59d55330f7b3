import { assert, it } from "@effect/vitest"
import { Client } from "@opencode-turn/core/Client"
import { SessionId } from "@opencode-turn/core/Ids"
import { prompt, ScriptedModel } from "@opencode-turn/testing/ScriptedModel"
import { Effect, FileSystem } from "effect"
import {
  errorLine,
  type Finished,
  hasScript,
  inTerminal,
  jsonLines,
  layerShared,
  live,
  Playground,
  progressOf
} from "../support/CliProcess.ts"

const lastLine = (finished: Finished) => jsonLines(finished).at(-1) ?? {}

const bash = (command: string) => ({ tool: "bash", args: { command, description: command } })

const task = (description: string, steps: Parameters<typeof prompt>[1]) => ({
  tool: "task",
  args: { description, prompt: prompt(description, steps), subagent_type: "general" }
})

const integer = JSON.stringify({ type: "object", properties: { n: { type: "integer" } }, required: ["n"] })

const answers = (n: string | number) => ({ text: "Here.", tool: "StructuredOutput", args: { n } })

/** A folder with these files. */
const folderWith = (files: Readonly<Record<string, string>>) =>
  Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    const folder = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-cli-" })
    for (const [name, text] of Object.entries(files)) yield* fs.writeFileString(`${folder}/${name}`, text)
    return folder
  })

/** The command line with a database of its own, and what waits there for an answer. */
const asking = Effect.gen(function*() {
  const playground = yield* Playground
  const env = { OPENCODE_TURN_DATABASE: `${yield* folderWith({})}/turns.db` }
  const run = (...args: ReadonlyArray<string>) => playground.run(args, { env })
  return {
    run,
    start: (...args: ReadonlyArray<string>) => playground.start(args, { env }),
    startInTerminal: (...args: ReadonlyArray<string>) =>
      playground.start(args, { env, wrapper: inTerminal, input: { open: true } }),
    firstAsk: Effect.map(run("asks", "--json"), (finished) => jsonLines(finished)[0] ?? {})
  }
})

const question = (options: Readonly<Record<string, unknown>>) => ({
  tool: "question",
  args: {
    questions: [{
      question: "Which colour?",
      header: "Colour",
      options: [{ label: "Red", description: "warm" }, { label: "Blue", description: "cold" }],
      ...options
    }]
  }
})

it.layer(layerShared, { excludeTestServices: true, timeout: "5 minutes" })("what a turn has besides text", (it) => {
  it.effect("shows a subagent below its tool and splits the cost, and prints the agent's answer alone", () =>
    Effect.gen(function*() {
      const { run } = yield* Playground
      const delegate = prompt("Delegate.", [
        task("look around", [{ text: "I look.", ...bash("echo hi") }, { text: "It said hi." }]),
        { text: "All done." }
      ])
      const human = yield* run(["run", "--permission", "allow", "--conversation", "delegate", delegate])
      assert.strictEqual(human.stdout, "All done.\n")
      assert.deepStrictEqual(progressOf(human).replaceAll(/\d+\.\d s/g, "T").split("\n"), [
        "● Delegating look around",
        "  ▸ general: look around",
        "  ● Running echo hi",
        "  ✓ Ran echo hi T",
        "  “It said hi.”",
        "  ◂ done $0.00004",
        "✓ Delegated look around T",
        "what bash changed is not known: the folder is in no repository",
        "completed · 40 tokens in, 20 out · $0.00008 ($0.00004 own, $0.00004 by a subagent) · T · conversation delegate",
        ""
      ])

      const json = yield* run(["run", "--json", "--permission", "allow", delegate])
      const types = jsonLines(json).map(({ type }) => type)
      assert.includeMembers(types, ["subagent", "subagent.update"])
      assert.strictEqual(types.filter((type) => type === "text.delta").length, 1)
      const { cost, subagents, usage } = lastLine(json)
      assert.strictEqual(cost, 0.00008)
      assert.deepStrictEqual(
        [Object(usage).root.cost, Object(usage).subagents.cost, Object(subagents)[0].text],
        [0.00004, 0.00004, "I look.\n\nIt said hi."]
      )
      const told = jsonLines(json).findLast(({ type }) => type === "subagent")?.["subagent"]
      assert.deepStrictEqual(Object.keys(Object(subagents)[0]).toSorted(), Object.keys(Object(told)).toSorted())
      const watched = yield* run(["watch", "--json", String(lastLine(json)["messageId"])])
      assert.deepStrictEqual(lastLine(watched)["usage"], usage)
      assert.deepStrictEqual(lastLine(watched)["subagents"], subagents)
    }))

  it.effect("ends with the changed files and the to-dos", () =>
    Effect.gen(function*() {
      const { run } = yield* Playground
      const args = [
        "--permission",
        "allow",
        prompt("Write.", [
          { tool: "write", args: { filePath: "written.txt", content: "one\ntwo\n" } },
          { tool: "fly", args: { to: "the moon" } },
          {
            tool: "todowrite",
            args: {
              todos: [
                { content: "Write", status: "completed", priority: "high" },
                { content: "Read", status: "pending", priority: "low" }
              ]
            }
          },
          { text: "Written." }
        ])
      ]
      const human = yield* run(["run", ...args])
      assert.match(human.stderr, /\nadded written\.txt \+2\nto-dos: 1 done, 1 open: Read\ncompleted · [^\n]*\n$/)
      const tools = human.stderr.match(/^[✓✗] .*(?= \d+\.\d s$|'fly')/gm)
      assert.deepStrictEqual(tools, [
        "✓ Wrote written.txt",
        "✗ Calling fly: The arguments provided to the tool are invalid: Model tried to call unavailable tool ",
        "✓ Planned 2 to-dos"
      ])
      const json = lastLine(yield* run(["run", "--json", ...args]))
      const [file, ...others] = Object(json["files"])
      assert.deepInclude(file, { path: "written.txt" })
      assert.deepStrictEqual([others, json["filesUnread"]], [[], []])
      assert.deepStrictEqual(Object(json["todos"]).map((todo: { readonly status: string }) => todo.status), [
        "completed",
        "pending"
      ])
    }))

  it.effect("sends the files of --file with the prompt", () =>
    Effect.gen(function*() {
      const { run } = yield* Playground
      const folder = yield* folderWith({ "a.txt": "the first canary", "b.json": `{"b":"the second canary"}` })
      const args = ["run", "--file", `${folder}/a.txt`, "--file", `${folder}/b.json`]
      const { code, stdout } = yield* run([...args, prompt("Read the canaries.", [{ text: "Read." }])])
      assert.deepStrictEqual([code, stdout], [0, "Read.\n"])
      const requests = yield* Effect.flatMap(ScriptedModel, (model) => model.requests)
      const seen = JSON.stringify(requests.findLast(({ isTitle }) => !isTitle))
      assert.include(seen, "the first canary")
      assert.include(seen, "the second canary")
    }))

  it.effect("takes the tools of --tool away in one turn, and gives the metadata of --metadata to a new session", () =>
    Effect.gen(function*() {
      const { run } = yield* Playground
      const offered = Effect.map(
        Effect.flatMap(ScriptedModel, (model) => model.requests),
        (requests) => requests.findLast(({ isTitle }) => !isTitle)?.tools ?? []
      )
      const again = ["run", "--conversation", "limited", "--permission"]
      const limited = [...again, "allow", "--tool", "*=false", "--tool", "read=true"]
      const metadata = ["--metadata", "ticket=42", "--metadata", "query=a=b"]
      const first = yield* run([...limited, ...metadata, "--json", prompt("Read.", [{ text: "Read." }])])
      assert.deepStrictEqual([first.code, yield* offered], [0, ["read"]])
      const session = yield* Effect.provide(
        Effect.flatMap(Client, (client) => client.getSession(SessionId.make(String(lastLine(first)["sessionId"])))),
        live
      )
      assert.deepStrictEqual(session.metadata, { ticket: "42", query: "a=b", conversationId: "limited" })

      const done = prompt("Do.", [{ text: "Done." }])
      const second = yield* run([...again, "allow", ...metadata, done])
      assert.include(yield* offered, "bash")
      assert.match(progressOf(second), /^the conversation has its session already, which keeps its own metadata\n/)

      yield* run([...limited, done])
      const ruled = yield* run([...again, "deny", done])
      assert.match(progressOf(ruled), /^the tools that --tool took away in the turn before stay away/)
      assert.notInclude(yield* offered, "glob")
      const refused = yield* run([...limited, done])
      assert.strictEqual(refused.code, 2)
      assert.match(
        errorLine(refused),
        /would drop \d+ permission rules of the session for it: begin another conversation$/
      )
    }))

  it.effect("prints the value that --schema asks for alone, after an answer that did not fit", () =>
    Effect.gen(function*() {
      const { run } = yield* Playground
      const folder = yield* folderWith({ "schema.json": integer })
      const args = ["run", "--schema", `${folder}/schema.json`]
      const human = yield* run([...args, prompt("Count.", [answers("two"), answers(2)])])
      assert.deepStrictEqual([human.code, human.stdout], [0, "{\n  \"n\": 2\n}\n"])
      assert.match(
        progressOf(human),
        /^saying: Here\.\n[^]*\nthe answer did not fit the schema[^\n]*\nsaying: Here\.\n/
      )

      const json = yield* run([...args, "--json", prompt("Count.", [answers(3)])])
      assert.deepInclude(lastLine(json), { status: "completed", output: { n: 3 }, error: null })
      const id = String(lastLine(json)["messageId"])
      assert.deepStrictEqual(lastLine(yield* run(["watch", "--json", id]))["output"], { n: 3 })
      assert.strictEqual((yield* run(["watch", id])).stdout, "{\n  \"n\": 3\n}\n")
    }))

  it.effect("exits with 1 and lists the issues if no answer fits the schema", () =>
    Effect.gen(function*() {
      const { run } = yield* Playground
      const folder = yield* folderWith({ "schema.json": integer })
      const never = prompt("Count.", [answers("one"), answers("two"), answers("three")])
      const finished = yield* run(["run", "--schema", `${folder}/schema.json`, never])
      assert.deepStrictEqual([finished.code, finished.stdout], [1, ""])
      assert.match(finished.stderr, /\nopencode-turn: the answer does not fit the schema: n: [^\n]+\n$/)
    }))

  it.effect("keeps asks with --permission store until another process answers them", () =>
    Effect.gen(function*() {
      const { firstAsk, run, start } = yield* asking
      const running = yield* start(
        "run",
        "--permission",
        "store",
        "--conversation",
        "stored",
        prompt("Ask.", [bash("echo hi"), question({ multiple: true }), { text: "Answered." }])
      )
      yield* running.printed("opencode-turn answer per_")
      const permission = yield* firstAsk
      const id = String(permission["askId"])
      assert.deepInclude(permission, { type: "ask", conversationId: "stored", status: "open" })
      const listed = yield* run("asks", "--conversation", "stored")
      assert.match(listed.stdout, /^per_\w+ {2}stored {2}\d+ s ago {2}permission bash: echo hi\n$/)
      assert.match(errorLine(yield* run("asks", "--conversation", "another")), /there are no open asks/)

      const wrong = yield* run("answer", id, "--answer", "Red")
      assert.strictEqual(wrong.code, 2)
      assert.match(errorLine(wrong), /asks for a permission: answer with --allow once/)
      const allowed = yield* run("answer", id, "--allow", "once")
      assert.deepStrictEqual([allowed.code, allowed.stdout], [0, `answered ${id} · conversation stored\n`])
      const again = yield* run("answer", id, "--allow", "once")
      assert.deepStrictEqual([again.code, again.stdout], [0, allowed.stdout])
      const late = yield* run("answer", id, "--reject")
      assert.strictEqual(late.code, 1)
      assert.match(errorLine(late), /already answered/)

      yield* running.printed("opencode-turn answer que_")
      const { askId } = yield* firstAsk
      const missing = yield* run("answer", String(askId))
      assert.strictEqual(missing.code, 2)
      assert.match(errorLine(missing), /the answer is missing/)
      const questions = yield* run("asks")
      assert.match(
        questions.stdout,
        /^que_\w+ {2}stored {2}\d+ s ago {2}question: Which colour\? \(several of: Red \| Blue; or any text\)\n$/
      )
      const answered = yield* run("answer", "--json", String(askId), "--answer", "Red, Blue")
      assert.deepInclude(lastLine(answered), {
        status: "answered",
        answer: { _tag: "Answers", answers: [["Red", "Blue"]] }
      })
      const finished = yield* running.finished
      const stderr = progressOf(finished)
      assert.deepStrictEqual([finished.code, finished.stdout], [0, "Answered.\n"])
      assert.match(stderr, /\n✓ Ran echo hi /)
      assert.match(
        stderr,
        /^\? permission bash\nwaiting for an answer: opencode-turn answer per_\w+ · permission bash: echo hi\n/
      )
      assert.match(stderr, /answer que_\w+ · question: Which colour\? \(several of: Red \| Blue; or any text\)\n/)
    }))

  it.effect.runIf(hasScript)(
    "asks with the arrow keys what waits in the store, and leaves it there on Ctrl-C",
    () =>
      Effect.gen(function*() {
        const { firstAsk, start, startInTerminal } = yield* asking
        const running = yield* start(
          "run",
          "--permission",
          "store",
          prompt("Ask.", [question({ multiple: true }), { text: "Thanks." }])
        )
        yield* running.printed("opencode-turn answer que_")
        const id = String((yield* firstAsk)["askId"])
        const left = yield* startInTerminal("answer", id)
        yield* left.printed("3. Something else")
        yield* left.type("\u0003")
        const quit = yield* left.finished
        assert.strictEqual(quit.code, 130)
        assert.isTrue(quit.stdout.endsWith("\n"), JSON.stringify(quit.stdout))
        assert.deepInclude(yield* firstAsk, { askId: id, status: "open" })

        const answering = yield* startInTerminal("answer", id)
        yield* answering.printed("3. Something else")
        yield* answering.type(" \u001b[B \r")
        const { code, stdout } = yield* answering.finished
        assert.strictEqual(code, 0)
        assert.include(stdout, `answered ${id}`)
        const json = yield* running.finished
        assert.strictEqual(json.stdout, "Thanks.\n")
      })
  )

  it.effect("goes on with the person's message after a rejection, also in a resumed turn", () =>
    Effect.gen(function*() {
      const { firstAsk, run, start } = yield* asking
      const running = yield* start(
        "run",
        "--permission",
        "store",
        prompt("Ask.", [bash("echo hi"), { text: "As you say." }])
      )
      yield* running.printed("opencode-turn answer per_")
      yield* running.kill("SIGKILL")
      yield* running.finished
      const { askId } = yield* firstAsk
      const resumed = yield* start("resume", "--permission", "store", "--json")
      yield* running.finished
      yield* run("answer", String(askId), "--reject=Leave it")
      const finished = yield* resumed.finished
      assert.deepInclude(lastLine(finished), { status: "completed", text: "As you say." })
      assert.include(JSON.stringify(lastLine(finished)["tools"]), "Leave it")
    }))
})
