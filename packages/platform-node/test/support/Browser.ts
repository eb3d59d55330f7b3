/**
 * A headless Chromium from the registry. Where the platform has none, the tests that need one are skipped and say why.
 */
import { Context, Effect, Layer, type Scope } from "effect"
import {
  type Browser as Driven,
  type BrowserContextOptions,
  chromium as driver,
  type Locator,
  type Page
} from "playwright-core"
import { inject } from "vitest"
import type { Chromium } from "./ViewerGlobalSetup.ts"

const found: Chromium = inject("chromium")

/** Why there is no browser here; undefined where there is one. */
export const whyNone: string | undefined = "reason" in found ? found.reason : undefined

export class Browser extends Context.Service<Browser, Driven>()("test/Browser") {}

export const layer = Layer.effect(
  Browser,
  Effect.acquireRelease(
    Effect.promise(() =>
      // The package's own flags switch the web's security off, and its single process does not outlive a closed profile.
      driver.launch({
        args: ["--no-sandbox"],
        headless: true,
        ...("program" in found && { executablePath: found.program })
      })
    ),
    (browser) => Effect.promise(() => browser.close())
  )
)

/** A page in a profile of its own, and what went wrong in it. */
export const newPage = Effect.fnUntraced(function*(
  options: BrowserContextOptions = {}
): Effect.fn.Return<{ readonly page: Page; readonly problems: ReadonlyArray<string> }, never, Browser | Scope.Scope> {
  const browser = yield* Browser
  const context = yield* Effect.acquireRelease(
    Effect.promise(() => browser.newContext({ viewport: { width: 1100, height: 800 }, ...options })),
    (context) => Effect.promise(() => context.close())
  )
  // Nothing here is about how long something takes.
  context.setDefaultTimeout(120_000)
  const page = yield* Effect.promise(() => context.newPage())
  const problems: Array<string> = []
  page.on("pageerror", (error) => problems.push(error.message))
  page.on("console", (message) => {
    // Chromium writes a line for each request that fails, which the tests bring about on purpose.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) {
      problems.push(message.text())
    }
  })
  page.on("dialog", (dialog) => {
    problems.push(`dialog: ${dialog.message()}`)
    void dialog.dismiss()
  })
  return { page, problems }
})

/** Waits until a field holds a text. */
export const hasValue = (field: Locator, text: string): Effect.Effect<void> =>
  Effect.promise(() =>
    field.evaluate((element, text) =>
      new Promise<void>((resolve) => {
        const look = () => {
          if ("value" in element && element.value === text) resolve()
          else setTimeout(look, 16)
        }
        look()
      }), text)
  )
