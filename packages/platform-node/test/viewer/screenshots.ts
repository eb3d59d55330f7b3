/**
 * Makes pictures of the page's main states, in `node_modules/.cache/screenshots` or the folder that is named, by the demo's turn. With
 * `--docs` it makes those of `docs/images`.
 */
import chromium from "@sparticuz/chromium"
import { type ChildProcess, spawn } from "node:child_process"
import { mkdirSync } from "node:fs"
import { join } from "node:path"
import { chromium as driver, type Page } from "playwright-core"

const root = join(import.meta.dirname, "../../../..")
const [argument] = process.argv.slice(2)
const isDocs = argument === "--docs"
const folder = isDocs ? join(root, "docs/images") : argument ?? join(root, "node_modules/.cache/screenshots")
mkdirSync(folder, { recursive: true })

/** The demo, and its link. */
const startDemo = () =>
  new Promise<{ readonly demo: ChildProcess; readonly link: string }>((resolve, reject) => {
    const demo = spawn(process.execPath, [join(root, "packages/platform-node/bin/opencode-turn.js"), "demo", "--web"], {
      stdio: ["ignore", "pipe", "inherit"]
    })
    let text = ""
    demo.stdout.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk
      const [link] = /http:\/\/\S+\/login#\S+/.exec(text) ?? []
      if (link !== undefined) resolve({ demo, link })
    })
    demo.on("exit", (code) => reject(new Error(`the demo ended (${code}): ${text}`)))
  })

const inDocs = new Set(["subagent", "timeline", "phone-asks"])

const shoot = async (page: Page, name: string) => {
  if (isDocs && !inDocs.has(name)) return
  // A picture is of what is drawn, and not of a frame before it.
  await page.waitForTimeout(300)
  await page.screenshot({ path: join(folder, `${name}.png`) })
  console.log(`${name}.png`)
}

const { demo, link } = await startDemo()
const browser = await driver.launch({
  args: ["--no-sandbox"],
  executablePath: process.env["CHROMIUM_BIN"] ?? (await chromium.executablePath())
})
try {
  const context = await browser.newContext({
    viewport: isDocs ? { width: 960, height: 640 } : { width: 1160, height: 820 },
    colorScheme: "light"
  })
  const page = await context.newPage()
  page.setDefaultTimeout(60_000)
  await page.goto(link)
  await page.getByLabel("Prompt", { exact: true }).waitFor()
  // The link of the demo opens its turn.
  await page.getByRole("link", { name: "New conversation" }).click()
  await page.locator(".welcome").waitFor()
  await shoot(page, "new")
  await page.locator(".side a", { hasText: "Write three lines" }).click()
  await page.getByRole("heading", { name: "Permission: bash" }).waitFor()
  await shoot(page, "permission")
  await page.getByRole("button", { name: "Allow once" }).click()
  await page.getByText("The subagent general asks").waitFor()
  await page.locator("details.subagent > summary").click()
  await shoot(page, "subagent")
  await page.getByRole("link", { name: /Inbox/ }).click()
  await page.getByRole("heading", { name: "Permission: bash" }).waitFor()
  await shoot(page, "inbox")
  await page.getByRole("button", { name: "Allow once" }).click()
  await page.goBack()
  await page.getByText("Which line shall I improve?").waitFor()
  await page.getByLabel("two", { exact: false }).first().check()
  await shoot(page, "question")
  await page.getByRole("button", { name: "Answer" }).click()
  await page.getByRole("heading", { name: "Permission: edit" }).waitFor()
  await shoot(page, "edit")
  const { height = 0, width = 0 } = page.viewportSize() ?? {}
  await page.emulateMedia({ colorScheme: "dark" })
  await page.setViewportSize({ width: 390, height: 640 })
  await shoot(page, "phone-asks")
  await page.emulateMedia({ colorScheme: "light" })
  await page.setViewportSize({ width, height })
  await page.getByRole("button", { name: "Allow once" }).click()
  await page.locator(".ending.completed").waitFor()
  await shoot(page, "done")
  const timeline = page.locator("details.timeline > summary")
  if (await timeline.count() > 0) {
    await timeline.first().click()
    await timeline.first().scrollIntoViewIfNeeded()
    await shoot(page, "timeline")
  }
  await page.locator("details.tool > summary", { hasText: "edit" }).first().click()
  await page.locator(".diff").first().scrollIntoViewIfNeeded()
  await shoot(page, "diff")
  await page.getByRole("button", { name: "Take back…" }).click()
  await page.getByRole("dialog").waitFor()
  await shoot(page, "take-back")
  await page.getByRole("dialog").getByRole("button", { name: "Take back" }).click()
  await page.getByRole("button", { name: "Bring the turns back" }).scrollIntoViewIfNeeded()
  await shoot(page, "taken-back")
  await page.getByRole("button", { name: "Bring the turns back" }).click()
  await page.locator(".turn.reverted").waitFor({ state: "detached" })
  await page.getByRole("button", { name: "Fork from here" }).click()
  await page.getByRole("link", { name: "Open the fork" }).waitFor()
  await page.getByRole("button", { name: "Open elsewhere" }).click()
  await page.locator("code.link").waitFor()
  await shoot(page, "forked")
  await page.emulateMedia({ colorScheme: "dark" })
  await shoot(page, "dark")
  await page.setViewportSize({ width: 390, height: 780 })
  await shoot(page, "phone")
  await page.goto(`${new URL(page.url()).origin}/#/new`)
  await shoot(page, "phone-list")
  const stranger = await (await browser.newContext()).newPage()
  await stranger.goto(new URL(link).origin)
  await stranger.getByText("not signed in").waitFor()
  await shoot(stranger, "signed-out")
} finally {
  await browser.close()
  demo.removeAllListeners("exit")
  demo.kill("SIGTERM")
}
