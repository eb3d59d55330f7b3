/**
 * The servers that the honesty scripts run on: the real one and the fake of a line, in a plain folder and in a repository, with the same
 * configuration.
 */
import { NodeHttpClient, NodeServices } from "@effect/platform-node"
import * as OpencodeServer from "@opencode-turn/platform-node/OpencodeServer"
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"
import * as FakeServer from "@opencode-turn/testing/FakeServer"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { environment, opencodeConfig } from "@opencode-turn/testing/ScriptedProvider"
import { Context, Effect, FileSystem, Layer, Redacted } from "effect"
import { execFileSync } from "node:child_process"
import type { Line } from "../support/OpencodeGlobalSetup.ts"
import * as SharedOpencode from "../support/SharedOpencode.ts"
import type { Target } from "./Script.ts"
import { summary } from "./Script.ts"

/** The same on both servers of a line. */
export interface Pair {
  readonly fake: Target
  readonly real: Target
}

/** Where a script runs. */
export type Place = "plain" | "repository"

export class Pairs extends Context.Service<Pairs, Readonly<Record<Place, Pair>>>()("honesty/Pairs") {}

/** The fakes of both lines, without a real server. */
export class Fakes extends Context.Service<Fakes, Readonly<Record<Line, Readonly<Record<Place, Target>>>>>()(
  "honesty/Fakes"
) {}

/** A folder that no server has. */
export const nowhere = "/nowhere/at/all"

const files = {
  "old.txt": "one\ntwo\nthree\n",
  "long.txt": Array.from({ length: 30 }, (_, line) => `line ${line + 1}\n`).join(""),
  "gone.txt": "bye\n"
}

/** Rules of the configuration. 2.x reads those of 1.x under its own names. */
const rules = {
  webfetch: "ask",
  bash: { "*": "allow", "echo asked*": "ask", "printf *": "ask", "test *": "ask", "echo denied*": "deny" },
  edit: { "*": "allow", "*asked/*": "ask" }
} as const

const agents = {
  /** Its sessions may open subagents. */
  nester: { mode: "subagent", permission: { task: "allow" } },
  /** It asks for every command and every subagent. */
  asker: { mode: "primary", permission: { bash: "ask", task: "ask", question: "allow" } },
  /** It has no shell, and may not open every subagent. */
  denier: { mode: "primary", permission: { bash: "deny", task: { "gen*": "deny" } } }
} as const

const config = {
  permission: rules,
  subagent_depth: 2,
  experimental: { subagent_depth: 2 },
  agent: Object.fromEntries(
    Object.entries(agents).map(([name, agent]) => [name, { ...agent, description: name, prompt: `You are ${name}.` }])
  )
}

const toRules = (rules: Readonly<Record<string, Action | Readonly<Record<string, Action>>>>) =>
  Object.entries(rules).flatMap(([permission, rule]) =>
    typeof rule === "string"
      ? [{ permission, pattern: "*", action: rule }]
      : Object.entries(rule).map(([pattern, action]) => ({ permission, pattern, action }))
  )
type Action = "allow" | "ask" | "deny"

const password = Redacted.make("honest")

const makeFolder = Effect.fnUntraced(function*(place: Place) {
  const fs = yield* FileSystem.FileSystem
  const folder = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-honesty-" })
  const directory = `${folder}/${place}`
  yield* fs.makeDirectory(directory)
  for (const [name, content] of Object.entries(files)) yield* fs.writeFileString(`${directory}/${name}`, content)
  return directory
})

const makeRepository = (directory: string) => {
  const git = (...args: ReadonlyArray<string>) => execFileSync("git", args, { cwd: directory, stdio: "ignore" })
  git("init", "--quiet")
  git("add", ...Object.keys(files))
  git("-c", "user.name=test", "-c", "user.email=test@example.com", "commit", "--quiet", "--message", "first")
}

const makeFake = Effect.fnUntraced(function*(line: Line, place: Place, directory: string) {
  const fake = yield* FakeOpencode.make({
    line,
    directory,
    password,
    summary,
    git: place === "repository",
    files,
    permission: toRules(rules),
    subagentDepth: config.subagent_depth,
    agents: Object.fromEntries(
      Object.entries(agents).map(([name, { mode, permission }]) => [name, { mode, permission: toRules(permission) }])
    )
  })
  yield* fake.missing([nowhere])
  const served = yield* Layer.build(
    FakeServer.layer().pipe(Layer.provide(Layer.succeed(FakeOpencode.FakeOpencode, fake)))
  )
  const { release } = fake
  // Like those of the scripted model, without the calls that offer no tools.
  const modelCalls = Effect.map(fake.modelRequests, (requests) => requests.filter(({ isTitle }) => !isTitle).length)
  const { url } = Context.get(served, FakeServer.FakeServer)
  return { url, directory, password, modelCalls, release }
})

const platform = Layer.mergeAll(NodeServices.layer, NodeHttpClient.layerUndici)

/** 1.x keeps what a person allowed for good for all folders, so it needs a server of its own. */
const serverOf = Effect.fnUntraced(function*(line: Line, folder: string) {
  return line === "2.x"
    ? yield* SharedOpencode.serverOf(line)
    : yield* OpencodeServer.make({ home: `${folder}/home`, directory: folder, password, environment: environmentOf1x })
})

const { OPENCODE_DISABLE_PROJECT_CONFIG: _, ...environmentOf1x } = environment({})

/** The real server and the fake of a line. */
export const layerPairs = (line: Line) =>
  Layer.effect(
    Pairs,
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const model = yield* ScriptedModel.ScriptedModel
      const server = yield* serverOf(line, yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-home-" }))
      const pairIn = Effect.fnUntraced(function*(place: Place) {
        const directory = yield* makeFolder(place)
        yield* SharedOpencode.configure(directory, { ...opencodeConfig(model), ...config })
        if (place === "repository") makeRepository(directory)
        const { password, url } = server
        const { modelCalls, release } = model
        return {
          fake: yield* makeFake(line, place, directory),
          real: { url, directory, password, modelCalls, release }
        }
      })
      return { plain: yield* pairIn("plain"), repository: yield* pairIn("repository") }
    })
  ).pipe(Layer.provide(ScriptedModel.layer({ summary })), Layer.provideMerge(platform))

const fakesOf = (line: Line) =>
  Effect.all({
    plain: makeFake(line, "plain", "/project"),
    repository: makeFake(line, "repository", "/project")
  })

export const layerFakes = Layer.effect(
  Fakes,
  Effect.gen(function*() {
    return { "1.x": yield* fakesOf("1.x"), "2.x": yield* fakesOf("2.x") }
  })
).pipe(Layer.provideMerge(platform))
