/**
 * What the controls of the fake (`FakeOpencode`) and the line of OpenCode behind them (`v1/Face`, `v2/Face`) know of each other.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Redacted from "effect/Redacted"
import type { ModelRequest, Script, Step } from "../model/ModelScript.ts"
import type { AgentOptions, Agents } from "./Agent.ts"
import type { Event, Events } from "./Events.ts"
import type { Files } from "./Files.ts"
import type { FakeRequest, FakeResponse } from "./Http.ts"
import type { IdGenerator } from "./Ids.ts"
import type { ModelOptions, Models } from "./Models.ts"
import type { PermissionRule } from "./Permission.ts"
import type { Message } from "./v1/Wire.ts"
import type { Message as Message2x } from "./v2/Wire.ts"

/**
 * The options of the fake.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * The server: `1.x` (the default) is 1.18.33, `2.x` the beta 0.0.0-next-16350, and `2.x release` that beta under the names of 2.0.21, which
   * could only be read.
   */
  readonly line?: "1.x" | "2.x" | "2.x release" | undefined
  /** Whether the server of 2.x is the managed one, which carries on by itself what a restart stopped; `false` by default. */
  readonly managed?: boolean | undefined
  /**
   * The time without a stored event in a folder after which the release of 2.x stops whatever runs there, also what waits for a person; an
   * hour by default (read, not measured).
   */
  readonly inactivity?: Duration.Input | undefined
  /** How many words of the model one event of 2.x tells of; one by default, as the beta does. Releases put several together (read, not measured). */
  readonly deltaWords?: number | undefined
  /** The time from the start of a managed server until it carries on; zero by default. */
  readonly resumeDelay?: Duration.Input | undefined
  /** If set, every request needs Basic authentication of the user `opencode`. */
  readonly password?: Redacted.Redacted<string> | undefined
  /** The server's working directory; `/project` by default. */
  readonly directory?: string | undefined
  /** Picks the model's answers; `ModelScript.fromPrompt` by default. */
  readonly script?: Script | undefined
  /** Picks the answer to a call that asks for a summary of the conversation; "Scripted summary" by default. */
  readonly summary?: ((request: ModelRequest) => Step) | undefined
  /** Permission rules of the server's configuration. Unlike the rules of a session, they also apply to subagents. */
  readonly permission?: ReadonlyArray<PermissionRule> | undefined
  /** Agents of the configuration in addition to the built-in ones, by name. */
  readonly agents?: Readonly<Record<string, AgentOptions>> | undefined
  /** Models of the provider `scripted` by name, each with its variants, in addition to the default one, `m`, which they may give variants. */
  readonly models?: Readonly<Record<string, ModelOptions>> | undefined
  /**
   * `subagent_depth` of the configuration. The default is 1: subagents cannot call subagents. An agent whose sessions may call some also
   * needs a rule about `task`.
   */
  readonly subagentDepth?: number | undefined
  /**
   * Whether the directory is a repository; it is by default. Without a repository there are no diffs, no `patch` parts and no
   * snapshots, and the worktree is `/`.
   */
  readonly git?: boolean | undefined
  /** The initial files: contents by path, relative to the directory. */
  readonly files?: Readonly<Record<string, string>> | undefined
  /**
   * The time between the idle status of a failed or aborted session and the error in its message. It is about 2 ms on the real server,
   * and zero by default here, so that nothing waits for the clock.
   */
  readonly raceDelay?: Duration.Input | undefined
  /**
   * The time after a step, or after the end of a turn, until the user message has its summary and `GET /session/{id}/diff` its files.
   * It is 20 to 400 ms on the real server, and zero by default here.
   */
  readonly summaryDelay?: Duration.Input | undefined
}

/**
 * What both lines get.
 *
 * @category models
 * @since 0.1.0
 */
export interface Site {
  readonly options: Options
  readonly ids: IdGenerator
  readonly now: () => number
  readonly files: Files
  readonly directory: string
  readonly agents: Agents
  readonly models: Models
  readonly isFolder: (directory: string) => boolean
  readonly script: Script
  readonly summary: (request: ModelRequest) => Step
  readonly subagentDepth: number
  /** The scripts that a test gave apart from its prompts: the next prompt of a session takes one. */
  readonly scripts: {
    readonly bind: (sessionId: string, messageId: string) => void
    readonly of: (messageId: string) => string | undefined
  }
  readonly gate: (name: string) => Effect.Effect<void>
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  readonly untilDeath: Effect.Effect<void>
}

/**
 * A line of OpenCode behind the controls of a test.
 *
 * @category models
 * @since 0.1.0
 */
export interface Face {
  readonly events: Events
  readonly handle: (request: FakeRequest) => Effect.Effect<FakeResponse>
  readonly toWire: (event: Event) => object
  readonly modelRequests: () => ReadonlyArray<ModelRequest>
  readonly crash: Effect.Effect<void>
  readonly shutDown: Effect.Effect<void>
  readonly resume: () => void
  readonly deleteSession: (id: string) => void
  readonly sessions: () => ReadonlyArray<string>
  readonly messages: (id: string) => ReadonlyArray<Message>
  readonly messages2x: (id: string) => ReadonlyArray<Message2x>
  readonly userMessageCount: (id: string) => number
}
