import { assert, it } from "@effect/vitest"
import type { Step } from "@opencode-turn/testing/ModelScript"
import { prompt, ScriptedModel } from "@opencode-turn/testing/ScriptedModel"
import axe from "axe-core"
import { Deferred, Effect, Layer } from "effect"
import type { Page } from "playwright-core"
import { describe } from "vitest"
import * as Browser from "../support/Browser.ts"
import { act } from "../support/Browser.ts"
import { layerSharedOf } from "../support/CliProcess.ts"
import * as ServeProcess from "../support/ServeProcess.ts"

const release = (gate: string) => Effect.flatMap(ScriptedModel, (model) => model.release(gate))

/** Writes a prompt and sends it. */
const send = (page: Page, steps: ReadonlyArray<Step>, text = "Do it.") =>
  act(async () => {
    await page.getByLabel("Prompt", { exact: true }).fill(prompt(text, steps))
    await page.keyboard.press("Enter")
  })

const seen = (page: Page, text: string) => act(() => page.getByText(text).first().waitFor())

/** Waits until the answer of the agent holds the text. The prompt holds it too, because it carries the script. */
const said = (page: Page, text: string) => act(() => page.locator(".reply").getByText(text).first().waitFor())

const ended = (page: Page, count = 1) => act(() => page.locator(".ending.completed").nth(count - 1).waitFor())

/** The texts of the answer. */
const answer = (page: Page) => () => page.locator(".reply .markdown").allInnerTexts()

/** What the timeline of the turn says, where it is open. */
const timeline = (page: Page) => async () => ({
  shares: await page.locator(".shares").innerText(),
  lines: await page.locator(".timeline tbody tr").allInnerTexts()
})

/** A page that is signed in at a gateway. */
const opened = Effect.gen(function*() {
  const { serve } = yield* ServeProcess.place
  const gateway = yield* serve()
  const { page, problems } = yield* Browser.newPage()
  yield* act(() => page.goto(gateway.link))
  yield* act(() => page.getByLabel("Prompt", { exact: true }).waitFor())
  return { serve, gateway, page, problems }
})

/** A session's own rules do not reach its subagents (1.18.33). */
const layer = Layer.merge(layerSharedOf({ permission: { bash: "ask" } }), Browser.layer)

describe.skipIf(Browser.whyNone !== undefined)(`the page in Chromium ${Browser.whyNone ?? ""}`, () => {
  it.layer(layer, { excludeTestServices: true })("on a real OpenCode", (it) => {
    it.effect("shows a turn as it streams, and goes on in the middle of a word after a reload", () =>
      Effect.gen(function*() {
        const { page, problems } = yield* opened
        yield* send(page, [{
          text: "Some **bold** words and unfin-ished ones.",
          chunks: 10,
          gate: "word",
          gateAfter: 6
        }])
        const before = ["Some bold words and unfin-"]
        yield* Browser.shows(answer(page), before)
        yield* act(() => page.reload())
        yield* Browser.shows(answer(page), before)
        yield* release("word")
        yield* ended(page)
        yield* Browser.shows(answer(page), ["Some bold words and unfin-ished ones."])
        assert.deepStrictEqual(problems, [])
      }).pipe(Effect.scoped))

    it.effect("shows the permission that a subagent asks for, and a click answers it", () =>
      Effect.gen(function*() {
        const { page, problems } = yield* opened
        const inside = prompt("Look.", [
          { tool: "bash", args: { command: "echo found", description: "Look around" } },
          { text: "I found it." }
        ])
        yield* send(page, [
          { tool: "task", args: { description: "Look around", prompt: inside, subagent_type: "general" } },
          { text: "All done." }
        ])
        // The gateway's sessions ask for a subagent, too.
        yield* said(page, "Permission: task")
        yield* act(() => page.getByRole("button", { name: "Allow once" }).click())
        yield* said(page, "The subagent general asks: Look around")
        yield* act(() => page.locator(".inbox-link .badge", { hasText: "1" }).waitFor())
        yield* Browser.shows(() => page.title(), "(1) opencode-turn")
        yield* act(() => page.getByRole("link", { name: "Inbox" }).click())
        yield* seen(page, "Permission: bash")
        yield* act(() => page.getByRole("button", { name: "Allow once" }).click())
        yield* act(() => page.goBack())
        yield* ended(page)
        yield* act(() => page.locator(".reply .markdown", { hasText: /^All done\.$/ }).waitFor())
        yield* act(() => page.locator("details.subagent > summary").click())
        yield* said(page, "I found it.")
        yield* act(() => page.locator("details.subagent details.tool > summary").click())
        yield* act(() => page.getByLabel("Output", { exact: true }).getByText("found").waitFor())
        assert.deepStrictEqual(problems, [])
      }).pipe(Effect.scoped))

    it.effect("stops a turn, shows it in a second tab, and keeps what was streamed", () =>
      Effect.gen(function*() {
        const { page, problems } = yield* opened
        yield* send(page, [{ text: "first words and never the rest", gate: "stop", gateAfter: 2 }])
        yield* said(page, "first words")
        const other = yield* act(() => page.context().newPage())
        yield* act(() => other.goto(page.url()))
        yield* said(other, "first words")
        yield* act(() => other.getByRole("button", { name: "Stop" }).click())
        for (const tab of [page, other]) {
          yield* act(() => tab.locator(".ending.cancelled").waitFor())
          yield* Browser.shows(answer(tab), ["first words"])
        }
        assert.deepStrictEqual(problems, [])
      }).pipe(Effect.scoped))

    it.effect("goes on where it was when the gateway is killed and started again in the middle of a turn", () =>
      Effect.gen(function*() {
        const { gateway, page, problems, serve } = yield* opened
        yield* send(page, [{ text: "first words and the rest", gate: "killed", gateAfter: 2 }])
        yield* said(page, "first words")
        yield* gateway.running.kill("SIGKILL")
        yield* gateway.running.finished
        yield* seen(page, "No connection to the gateway")
        yield* serve(new URL(gateway.url).port)
        yield* act(() => page.getByText("No connection to the gateway").waitFor({ state: "detached" }))
        yield* release("killed")
        yield* ended(page)
        yield* Browser.shows(answer(page), ["first words and the rest"])
        yield* Browser.shows(() => page.locator(".turn").count(), 1)
        assert.deepStrictEqual(problems, [])
      }).pipe(Effect.scoped))

    it.effect("shows that a turn is queued behind another one, and follows it when it begins", () =>
      Effect.gen(function*() {
        const { page, problems } = yield* opened
        yield* send(page, [{ text: "first words and the rest", gate: "before", gateAfter: 2 }])
        yield* said(page, "first words")
        yield* send(page, [{ text: "second words and the rest", gate: "behind", gateAfter: 2 }])
        yield* act(() => page.locator(".turn").nth(1).getByText("queued behind another turn").waitFor())
        yield* release("before")
        const second = page.locator(".turn").nth(1)
        yield* act(() => second.locator(".markdown", { hasText: "second words" }).waitFor())
        yield* act(() => second.locator(".ending", { hasText: "running" }).waitFor())
        yield* release("behind")
        yield* ended(page, 2)
        yield* Browser.shows(answer(page), ["first words and the rest", "second words and the rest"])
        assert.deepStrictEqual(problems, [])
      }).pipe(Effect.scoped))

    it.effect("is answered by keys alone: a permission by y, a question by its options and Enter", () =>
      Effect.gen(function*() {
        const { page, problems } = yield* opened
        yield* send(page, [
          {
            tool: "bash",
            args: { command: "echo by-key", description: "Say it" },
            tools: [{ tool: "bash", args: { command: "echo again", description: "Say it again" } }]
          },
          {
            tool: "question",
            args: {
              questions: [{
                question: "Which?",
                header: "Choice",
                options: [{ label: "left", description: "l" }, { label: "right", description: "r" }],
                multiple: false
              }]
            }
          },
          { text: "Thank you." }
        ])
        yield* said(page, "Permission: bash")
        yield* act(async () => {
          // Both ask at once; the answer to one leads to the other.
          await page.locator(".ask").nth(1).waitFor()
          await page.getByRole("button", { name: "Allow once" }).first().focus()
          await page.keyboard.press("y")
          await page.locator(".ask").nth(1).waitFor({ state: "detached" })
          await page.locator(".ask .decision:focus").waitFor()
          await page.keyboard.press("y")
          await page.locator(".ask legend").waitFor()
          await page.getByRole("radio", { name: "left" }).focus()
          await page.keyboard.press("ArrowDown")
          await page.keyboard.press("Enter")
        })
        yield* ended(page)
        yield* act(() => page.locator("details.tool > summary", { hasText: "question" }).press("Enter"))
        yield* act(() => page.getByLabel("Output", { exact: true }).getByText("right").waitFor())
        yield* act(() => page.locator(".reply .markdown", { hasText: /^Thank you\.$/ }).waitFor())
        assert.deepStrictEqual(problems, [])
      }).pipe(Effect.scoped))

    it.effect("sends a file, and shows a finished turn with the inside of its subagent and its timeline to a new tab", () =>
      Effect.gen(function*() {
        const { page, problems } = yield* opened
        yield* act(() =>
          page.getByLabel("Add files").setInputFiles({
            name: "notes <b>.txt",
            mimeType: "text/plain",
            buffer: Buffer.from("one two")
          })
        )
        const inside = prompt("Look.", [
          { fail: 503, message: "busy inside" },
          { tool: "bash", args: { command: "echo found", description: "Look around" } },
          { reasoning: "Hm.", text: "I found it." }
        ])
        yield* send(page, [
          { fail: 503, message: "busy" },
          { tool: "task", args: { description: "Look around", prompt: inside, subagent_type: "general" } },
          { text: "All done.", usage: { input: 1_000, output: 500 } }
        ])
        yield* said(page, "Permission: task")
        yield* act(() => page.getByRole("button", { name: "Allow once" }).click())
        yield* said(page, "Permission: bash")
        yield* act(() => page.getByRole("button", { name: "Allow once" }).click())
        yield* ended(page)
        const other = yield* act(() => page.context().newPage())
        yield* act(() => other.goto(page.url()))
        yield* ended(other)
        yield* act(() => other.locator(".prompt .chip", { hasText: "notes <b>.txt" }).waitFor())
        yield* act(() => other.locator("details.subagent > summary").click())
        yield* said(other, "I found it.")
        yield* act(() => other.locator("details.subagent details.reasoning > summary").waitFor())
        for (const tab of [page, other]) {
          yield* act(async () => {
            await tab.locator("details.timeline > summary").click()
            await tab.locator(".lane .span.tool", { hasText: "task" }).waitFor()
            await tab.locator("details.table > summary").click()
            await tab.locator(".timeline tbody tr").nth(8).waitFor()
          })
        }
        // The first tab watched the turn to its end; the other one still reads what the subagent did.
        const { lines, shares } = yield* act(timeline(page))
        yield* Browser.shows(timeline(other), { lines, shares })
        const kinds = lines.map((line) => line.split("\t").slice(0, 2).join(" "))
        assert.includeMembers(kinds, [
          "agent Step 1",
          "agent task",
          "agent Step 2",
          "general: Look around (@general subagent) Step 1",
          "agent wait: permission task",
          "general: Look around (@general subagent) wait: permission bash"
        ])
        assert.lengthOf(kinds.filter((kind) => kind.startsWith("agent retry: ")), 1, kinds.join("\n"))
        assert.lengthOf(kinds.filter((kind) => / subagent\) retry: /.test(kind)), 1, kinds.join("\n"))
        assert.match(lines.join("\n"), /Step 2\t\S+ s\t\S+ s\tdone\t1\.5k\t\$0\.0020/)
        assert.deepStrictEqual(problems, [])
      }).pipe(Effect.scoped))

    it.effect("lets its connection go while nobody sees it, tells the end, and then shows what came meanwhile", () =>
      Effect.gen(function*() {
        const { page, problems } = yield* opened
        const told = yield* Deferred.make<string>()
        yield* act(async () => {
          await page.exposeFunction("tell", (body: string) => Deferred.doneUnsafe(told, Effect.succeed(body)))
          await page.addInitScript(`
            window.Notification = class extends EventTarget {
              static permission = "granted"
              constructor(title, { body }) { super(); window.tell(body) }
            }
            window.look = (isHidden) => {
              Object.defineProperty(document, "hidden", { value: isHidden, configurable: true })
              document.dispatchEvent(new Event("visibilitychange"))
            }
          `)
          await page.clock.install()
          await page.reload()
        })
        yield* send(page, [{ text: "first words and the rest", gate: "hidden", gateAfter: 2 }], "Watch.")
        yield* said(page, "first words")
        yield* act(async () => {
          const left = page.waitForEvent("requestfailed", (request) => request.url().endsWith("/updates"))
          await page.evaluate("look(true)")
          await page.clock.fastForward(31_000)
          await left
        })
        yield* release("hidden")
        assert.match(yield* Browser.hurried(page, Deferred.await(told)), /^The turn is done: Watch\./)
        yield* act(() => page.evaluate("look(false)"))
        yield* ended(page)
        yield* Browser.shows(answer(page), ["first words and the rest"])
        assert.deepStrictEqual(problems, [])
      }).pipe(Effect.scoped))

    it.effect("has no flaw that the rules for accessible pages know of, light and wide, dark and narrow", () =>
      Effect.gen(function*() {
        const { page, problems } = yield* opened
        yield* send(page, [
          {
            reasoning: "Hm.",
            text: "# Head\n\n| a | b |\n|---|---|\n| 1 | [link](https://a.example) |\n\n```sh\nls\n```",
            tool: "todowrite",
            args: { todos: [{ content: "One", status: "in_progress", priority: "high" }] }
          },
          { tool: "write", args: { filePath: "axe.txt", content: "one\n" } },
          { text: "Done." }
        ])
        yield* said(page, "Permission: edit")
        const flaws = act(async () => {
          const found: Array<string> = []
          // Colours and widths do not depend on each other.
          for (const [colorScheme, width] of [["light", 1100], ["dark", 390]] as const) {
            await page.emulateMedia({ colorScheme, reducedMotion: "reduce" })
            await page.setViewportSize({ width, height: 800 })
            const results: axe.AxeResults = await page.evaluate(
              `${axe.source}; axe.run(document, { resultTypes: ["violations"] })`
            )
            for (const { id, nodes } of results.violations) {
              found.push(`${colorScheme} ${width} ${id}: ${nodes[0]?.html} ${nodes[0]?.failureSummary}`)
            }
            const wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
            if (wide !== 0) found.push(`${colorScheme} ${width}: wider than the window`)
          }
          await page.setViewportSize({ width: 1100, height: 800 })
          return found
        })
        assert.deepStrictEqual(yield* flaws, [])
        yield* act(() => page.getByRole("link", { name: "Inbox" }).click())
        yield* act(() => page.locator("h2", { hasText: "Inbox" }).waitFor())
        assert.deepStrictEqual(yield* flaws, [])
        yield* act(() => page.getByRole("button", { name: "Allow once" }).click())
        yield* act(() => page.goBack())
        yield* ended(page)
        yield* act(async () => {
          for (const summary of await page.locator(".turn summary").all()) await summary.click()
          await page.locator("details.table > summary").click()
        })
        assert.deepStrictEqual(yield* flaws, [])
        yield* act(async () => {
          await page.getByRole("button", { name: "Open elsewhere" }).click()
          await page.locator("code.link").waitFor()
          await page.getByRole("button", { name: "Take back…" }).click()
          await page.getByRole("dialog").waitFor()
        })
        assert.deepStrictEqual(yield* flaws, [])
        yield* act(async () => {
          await page.getByRole("dialog").getByRole("button", { name: "Take back" }).click()
          await page.locator(".turn.reverted").waitFor()
          await page.getByRole("button", { name: "Bring the turns back" }).waitFor()
        })
        assert.deepStrictEqual(yield* flaws, [])
        yield* act(() => page.getByRole("link", { name: "New conversation" }).click())
        yield* act(() => page.locator(".welcome").waitFor())
        assert.deepStrictEqual(yield* flaws, [])
        assert.deepStrictEqual(problems, [])
      }).pipe(Effect.scoped))
  })
})
