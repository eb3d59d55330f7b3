/**
 * The page, built of the sources as they are, and a headless Chromium from the registry. It is unpacked once: two workers that did so at
 * the same time would find half a program.
 */
import chromium from "@sparticuz/chromium"
import { spawnSync } from "node:child_process"
import type { TestProject } from "vitest/node"
import { build, isFresh } from "../../viewer/build.ts"

/** The program, or why there is none. */
export type Chromium = { readonly program: string } | { readonly reason: string }

declare module "vitest" {
  interface ProvidedContext {
    readonly chromium: Chromium
  }
}

export default async (project: TestProject) => {
  if (!isFresh()) await build()
  project.provide("chromium", await find())
}

const find = async (): Promise<Chromium> => {
  try {
    const program = process.env["CHROMIUM_BIN"] ?? (await chromium.executablePath())
    const { error, status, stderr } = spawnSync(program, ["--version"], { encoding: "utf8" })
    return status === 0 ? { program } : { reason: error?.message ?? stderr.trim() }
  } catch (error) {
    return { reason: String(error) }
  }
}
