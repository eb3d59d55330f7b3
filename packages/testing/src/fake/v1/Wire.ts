/**
 * The shapes of OpenCode 1.x on the wire, as far as the fake uses them (1.18.33).
 *
 * @since 0.1.0
 */

import type { Properties } from "../Events.ts"
import type { Change } from "../Files.ts"
import type { PermissionRule } from "../Permission.ts"

/**
 * `total` is absent until the step is finished, and in the sums of a session.
 *
 * @category models
 * @since 0.1.0
 */
export interface Tokens {
  readonly total?: number
  readonly input: number
  readonly output: number
  readonly reasoning: number
  readonly cache: { readonly read: number; readonly write: number }
}

/**
 * @category constants
 * @since 0.1.0
 */
export const zeroTokens: Tokens = { input: 0, output: 0, reasoning: 0, cache: { read: 0, write: 0 } }

/**
 * @category models
 * @since 0.1.0
 */
export interface Session {
  readonly id: string
  readonly slug: string
  readonly projectID: string
  readonly directory: string
  readonly path: string
  readonly parentID?: string
  readonly title: string
  readonly agent?: string
  readonly model?: { readonly id: string; readonly providerID: string; readonly variant?: string }
  readonly version: string
  readonly summary?: { readonly additions: number; readonly deletions: number; readonly files: number }
  readonly cost: number
  readonly tokens: Tokens
  readonly metadata?: Properties
  readonly permission?: ReadonlyArray<PermissionRule>
  readonly revert?: { readonly messageID: string; readonly snapshot?: string; readonly diff?: string }
  readonly time: { readonly created: number; readonly updated: number; readonly archived?: number }
}

/**
 * @category models
 * @since 0.1.0
 */
export type Status =
  | { readonly type: "idle" | "busy" }
  | { readonly type: "retry"; readonly attempt: number; readonly message: string; readonly next: number }

/**
 * @category models
 * @since 0.1.0
 */
export interface Failure {
  readonly name: string
  readonly data: { readonly message: string; readonly [key: string]: unknown }
}

/**
 * @category models
 * @since 0.1.0
 */
export interface ModelRef {
  /** Whatever the prompt named, also if the model does not have it (1.18.33). */
  readonly variant?: string
  readonly providerID: string
  readonly modelID: string
}

/**
 * The format of a prompt's answer. The server stores it with the prompt, but cannot list what it has stored (1.18.33).
 *
 * @category models
 * @since 0.1.0
 */
export type Format =
  | { readonly type: "text" }
  | { readonly type: "json_schema"; readonly schema: Properties; readonly retryCount: number }

/**
 * @category models
 * @since 0.1.0
 */
export interface User {
  readonly id: string
  readonly role: "user"
  readonly sessionID: string
  readonly time: { readonly created: number }
  readonly agent: string
  readonly model: ModelRef
  readonly format?: Format
  readonly tools?: Readonly<Record<string, boolean>>
  readonly summary?: { readonly diffs: ReadonlyArray<Change> }
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Assistant {
  readonly id: string
  readonly role: "assistant"
  readonly sessionID: string
  readonly parentID: string
  readonly mode: string
  readonly agent: string
  readonly variant?: string
  readonly path: { readonly cwd: string; readonly root: string }
  readonly cost: number
  readonly tokens: Tokens
  readonly modelID: string
  readonly providerID: string
  readonly summary?: true
  readonly time: { readonly created: number; readonly completed?: number }
  readonly finish?: string
  /** The arguments of the last call of `StructuredOutput`. The server does not validate them. */
  readonly structured?: Properties
  readonly error?: Failure
}

/**
 * @category models
 * @since 0.1.0
 */
export type MessageInfo = User | Assistant

/**
 * @category models
 * @since 0.1.0
 */
export interface PartBase {
  readonly id: string
  readonly messageID: string
  readonly sessionID: string
}

/**
 * @category models
 * @since 0.1.0
 */
export interface TextPart extends PartBase {
  readonly type: "text" | "reasoning"
  readonly text: string
  readonly synthetic?: true
  readonly metadata?: Properties
  readonly time?: { readonly start: number; readonly end?: number }
}

/**
 * @category models
 * @since 0.1.0
 */
export interface ToolPart extends PartBase {
  readonly type: "tool"
  readonly tool: string
  readonly callID: string
  readonly state: ToolState
}

/**
 * @category models
 * @since 0.1.0
 */
export interface FilePart extends PartBase {
  readonly type: "file"
  readonly mime: string
  readonly url: string
  readonly filename?: string
}

/**
 * @category models
 * @since 0.1.0
 */
export interface SubtaskPart extends PartBase {
  readonly type: "subtask"
  readonly prompt: string
  readonly description: string
  readonly agent: string
  readonly model?: ModelRef
  readonly command?: string
}

/**
 * `title` and `metadata` appear while the tool runs.
 *
 * @category models
 * @since 0.1.0
 */
export interface ToolState {
  readonly status: "pending" | "running" | "completed" | "error"
  readonly input: Properties
  readonly raw?: string
  readonly title?: string
  readonly output?: string
  readonly error?: string
  readonly metadata?: Properties
  readonly time?: { readonly start: number; readonly end?: number }
}

/**
 * @category models
 * @since 0.1.0
 */
export type Part =
  | TextPart
  | ToolPart
  | (PartBase & { readonly type: "step-start"; readonly snapshot?: string })
  | (PartBase & {
    readonly type: "step-finish"
    readonly reason: string
    readonly snapshot?: string
    readonly tokens: Tokens
    readonly cost: number
  })
  | (PartBase & { readonly type: "patch"; readonly hash: string; readonly files: ReadonlyArray<string> })
  | (PartBase & { readonly type: "compaction"; readonly auto: boolean; readonly overflow?: boolean })
  | FilePart
  | SubtaskPart
  | (PartBase & { readonly type: "agent"; readonly name: string })

/**
 * @category models
 * @since 0.1.0
 */
export interface Message {
  readonly info: MessageInfo
  readonly parts: ReadonlyArray<Part>
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Todo {
  readonly content: string
  readonly status: string
  readonly priority?: string
}

/**
 * An open permission or question, as in `*.asked`, `GET /permission` and `GET /question`.
 *
 * @category models
 * @since 0.1.0
 */
export interface AskInfo {
  readonly id: string
  readonly sessionID: string
  readonly tool: { readonly messageID: string; readonly callID: string }
  readonly [key: string]: unknown
}
