/**
 * A script in the domain's words. It runs on the real server and on the fake of each line, and all that both say is compared.
 */
import type { ModelRequest, Step } from "@opencode-turn/testing/ModelScript"
import type { Effect, Redacted, Schema } from "effect"
import type { Line } from "../support/OpencodeGlobalSetup.ts"
import type { Method } from "./Wire.ts"

/** A server, its folder, and its model. */
export interface Target {
  readonly url: string
  readonly directory: string
  readonly password: Redacted.Redacted<string>
  readonly modelCalls: Effect.Effect<number>
  readonly release: (gate: string) => Effect.Effect<void>
}

/** A call of a tool: a step of the model, or one of several calls of a step. */
export interface Call {
  readonly tool: string
  readonly args: Schema.JsonObject
}

export interface Question {
  readonly question: string
  readonly header: string
  readonly options: ReadonlyArray<{ readonly label: string; readonly description: string }>
  readonly multiple?: boolean
}

/** How a line names its tools. */
export interface Words {
  readonly line: Line
  readonly shell: (command: string) => Call
  readonly read: (path: string) => Call
  readonly write: (path: string, content: string) => Call
  readonly edit: (path: string, before: string, after: string) => Call
  readonly fetch: (url: string) => Call
  readonly ask: (...questions: ReadonlyArray<Question>) => Call
  readonly subagent: (steps: ReadonlyArray<Step>, fields?: { readonly agent?: string }) => Call
}

export interface File {
  readonly name?: string
  readonly mime: string
  readonly url: string
}

export interface Prompt {
  readonly steps: ReadonlyArray<Step>
  /** Makes the prompt one of our own id: the same number gives the same id. */
  readonly id?: number
  readonly files?: ReadonlyArray<File>
  /** Agents that the prompt mentions. */
  readonly mentions?: ReadonlyArray<string>
  /** Fields of one line alone. */
  readonly fields?: object
}

/** Something that a session waits for. `about` is what a permission is asked for. */
export interface Ask {
  readonly id: string
  readonly sessionId: string
  readonly about: string
}

/** How a run of the root session ends: 1.x says of an answer and of a refusal once that it is idle, of the others twice. */
export type End = "answered" | "failed" | "refused" | "stopped"

/** A conversation with a server. What waits for something drops everything that came before it. */
export interface Talk {
  readonly sessionId: string
  readonly send: (method: Method, path: string, body?: object) => Effect.Effect<unknown>
  readonly post: (prompt: Prompt) => Effect.Effect<unknown>
  /** Waits for a permission and a question, in any order. */
  readonly asks: Effect.Effect<{ readonly permission: Ask; readonly question: Ask }>
  readonly permission: Effect.Effect<Ask>
  readonly question: Effect.Effect<Ask>
  readonly allow: (ask: Ask, how: "always" | "once") => Effect.Effect<unknown>
  readonly refuse: (ask: Ask, message?: string) => Effect.Effect<unknown>
  readonly answer: (ask: Ask, answers: ReadonlyArray<ReadonlyArray<string>>) => Effect.Effect<unknown>
  readonly dismiss: (ask: Ask) => Effect.Effect<unknown>
  /** Waits for that many pieces of thoughts, text or a summary, of any session. */
  readonly pieces: (count: number) => Effect.Effect<unknown>
  /** Waits until a command runs that has printed this. */
  readonly printed: (output: string) => Effect.Effect<unknown>
  /** Waits until a call has ended well. */
  readonly called: Effect.Effect<unknown>
  /** Waits until the model's next try is planned. */
  readonly retried: Effect.Effect<unknown>
  /** Waits until 1.x says that it has stored a prompt. 2.x has stored it when it answers. */
  readonly stored: Effect.Effect<unknown>
  /** Waits until the session says that it failed. */
  readonly failed: Effect.Effect<unknown>
  /** Waits for the next end of a run of the session. */
  readonly ended: Effect.Effect<unknown>
  readonly children: Effect.Effect<ReadonlyArray<string>>
  /** Stops the session, or another one. */
  readonly stop: (sessionId?: string) => Effect.Effect<unknown>
  readonly release: (gate: string) => Effect.Effect<void>
}

export type Act = (talk: Talk) => Effect.Effect<unknown>

export interface Script {
  readonly name: string
  readonly agent?: string
  readonly model?: { readonly providerID: string; readonly id: string }
  /** Fields of a new session of one line alone. */
  readonly session?: object
  readonly prompt: Prompt | ((directory: string) => Prompt)
  readonly during?: Act
  /** What `during` gives is compared on 2.x. */
  readonly isSaid?: boolean
  /** What is done behind the first run on 2.x, in this order. The answers are compared. */
  readonly after?: ReadonlyArray<Act>
  /** Fields that are chance in this script. */
  readonly chance?: ReadonlyArray<string>
  /** How the runs of the root session end; one is answered by default. */
  readonly ends?: ReadonlyArray<End>
  /** How 1.x tells the end of this script, if it does so otherwise: the idle and the error events of the root session. */
  readonly told1x?: { readonly idles: number; readonly errors: number }
  /**
   * The order of the events is chance, on one line or on both, so only what is stored is compared. On both, the number of calls is
   * chance as well.
   */
  readonly isRacy?: boolean | Line
  /** The script runs in the repository. If it writes there, 1.x ends when the turn's list of files exists. */
  readonly repository?: "read" | "written"
}

/** What a script has come to. */
export interface Seen {
  /** All that a line says, without what depends on time, place or chance. */
  readonly wire: unknown
  /** The same in the words of both lines: the model's calls, and what happened in each session, the root's first. */
  readonly account: { readonly calls: number; readonly sessions: ReadonlyArray<ReadonlyArray<string>> }
}

/** The summary that the model gives of a conversation, by what was said there. */
export const summary = ({ messages }: ModelRequest): Step => {
  const isSaid = (words: string) => messages.some(({ text }) => text.includes(words))
  return isSaid("no summary")
    ? { fail: 400, message: "no summary" }
    : isSaid("blank summary")
    ? { text: " ", usage: { input: 100, output: 10 } }
    : isSaid("slow summary")
    ? { text: "half of it", gate: "slow summary", gateAfter: 1 }
    : { text: "the summary", usage: { input: 100, output: 10 } }
}
