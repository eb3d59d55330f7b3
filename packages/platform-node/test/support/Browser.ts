/**
 * A headless Chromium from the registry. Where the platform has none, the tests that need one are skipped and say why.
 */
import { assert } from "@effect/vitest"
import { Context, Duration, Effect, Equal, Layer, Schedule, type Scope } from "effect"
import { type Browser as Driven, type BrowserContextOptions, chromium as driver, type Page } from "playwright-core"
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

/** Does something with a page. */
export const act = <A>(f: () => Promise<A>): Effect.Effect<A> => Effect.promise(f)

/** How long a page has for what it is to show. */
const limit = "2 minutes"

/**
 * Reads from a page until it gives the expected value, and fails with the difference where it never does.
 *
 * A page draws a change in a later frame than its cause, and the parts of a change in different frames. One part that is there says
 * nothing about the others.
 */
export const shows = Effect.fnUntraced(function*<A>(read: () => Promise<A>, expected: A) {
  let last: A | undefined
  const isShown = Effect.map(act(read), (value) => Equal.equals(last = value, expected))
  yield* Effect.repeat(isShown, { schedule: Schedule.spaced("20 millis"), until: (holds) => holds }).pipe(
    Effect.timeoutOption(limit)
  )
  assert.deepStrictEqual(last, expected)
})

/**
 * Waits for something that the page does only every ten seconds, without the ten seconds: its clock, which the test has installed, is set
 * forward meanwhile.
 */
export const hurried = <A, E, R>(page: Page, awaited: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.raceFirst(
    awaited,
    Effect.forever(Effect.andThen(act(() => page.clock.fastForward(10_000)), Effect.sleep("500 millis")))
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
  context.setDefaultTimeout(Duration.toMillis(limit))
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
