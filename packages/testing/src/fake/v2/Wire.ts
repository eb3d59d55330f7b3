/**
 * The shapes of OpenCode 2.x on the wire, as far as the fake uses them.
 *
 * @since 0.1.0
 */
import type { Tokens } from "../Answer.ts"
import type { Properties } from "../Events.ts"
import type { Change } from "../Files.ts"

/**
 * @category models
 * @since 0.1.0
 */
export interface ModelRef {
  readonly id: string
  readonly providerID: string
  readonly variant?: string
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Failure {
  readonly type: string
  readonly message: string
  readonly [key: string]: unknown
}

/**
 * A session as `GET /api/session/{id}` gives it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Session {
  readonly id: string
  readonly parentID?: string
  readonly projectID: string
  readonly agent?: string
  readonly model?: ModelRef
  readonly cost: number
  readonly tokens: Tokens
  readonly time: { readonly created: number; readonly updated: number; readonly idle?: number }
  readonly title: string
  readonly location: { readonly directory: string }
  readonly subpath?: string
  /** Where a copied session comes from. */
  readonly fork?: { readonly sessionID: string; readonly messageID?: string }
  /** What is taken back until the next prompt. */
  readonly revert?: Revert
  /** The last three are the release's. */
  readonly metadata?: Properties
  readonly permissions?: ReadonlyArray<PermissionRule>
  readonly outcome?: Outcome
}

/**
 * @category models
 * @since 0.1.0
 */
export type Outcome = "failed" | "interrupted" | "succeeded"

/**
 * @category models
 * @since 0.1.0
 */
export interface PermissionRule {
  readonly action: string
  readonly resource: string
  readonly effect: "allow" | "ask" | "deny"
}

/**
 * Something that was posted to a session and becomes a message when its turn comes: with the next step (`steer`), or after everything
 * else (`queue`).
 *
 * @category models
 * @since 0.1.0
 */
export interface Input {
  readonly id: string
  readonly sessionID: string
  readonly type: "synthetic" | "user"
  readonly data: { readonly text: string; readonly [key: string]: unknown }
  readonly delivery: "queue" | "steer"
  readonly createdMillis: number
  readonly admittedSeq: number
}

/**
 * @category models
 * @since 0.1.0
 */
export type Content =
  | { readonly type: "text"; readonly text: string }
  | {
    readonly type: "reasoning"
    readonly text: string
    readonly state?: Properties
    readonly time: { readonly created: number; readonly completed?: number }
  }
  | ToolContent

/**
 * @category models
 * @since 0.1.0
 */
export interface ToolContent {
  readonly type: "tool"
  readonly id: string
  readonly name: string
  readonly executed: boolean
  readonly state: ToolState
  readonly time: { readonly created: number; readonly ran?: number; readonly completed?: number }
}

/**
 * @category models
 * @since 0.1.0
 */
export type ToolState =
  | { readonly status: "streaming"; readonly input: string }
  | { readonly status: "running"; readonly input: Properties; readonly metadata?: Properties }
  | {
    readonly status: "completed"
    readonly input: Properties
    readonly content: ReadonlyArray<Properties>
    readonly metadata?: Properties
  }
  | {
    readonly status: "error"
    readonly input: Properties
    readonly error: Failure
    readonly metadata?: Properties
  }

/**
 * @category models
 * @since 0.1.0
 */
export interface Assistant {
  readonly id: string
  readonly type: "assistant"
  readonly agent: string
  readonly model: ModelRef
  readonly content: ReadonlyArray<Content>
  readonly finish?: string
  readonly cost?: number
  readonly tokens?: Tokens
  readonly error?: Failure
  readonly retry?: Properties
  readonly snapshot?: Properties
  readonly time: { readonly created: number; readonly completed?: number }
}

/**
 * An order to summarise a session.
 *
 * @category models
 * @since 0.1.0
 */
export interface Order {
  readonly id: string
  readonly sessionID: string
  readonly createdMillis: number
  readonly admittedSeq: number
}

/**
 * A revert that is pending: its first message, and what it did to the files since the snapshot.
 *
 * @category models
 * @since 0.1.0
 */
export interface Revert {
  readonly messageID: string
  readonly snapshot?: string
  readonly files: ReadonlyArray<Change>
}

/**
 * A summary of the messages before it, or the order for one.
 *
 * @category models
 * @since 0.1.0
 */
export interface Compaction {
  readonly id: string
  readonly type: "compaction"
  readonly status: "completed" | "failed" | "running"
  readonly reason: "auto" | "manual"
  readonly summary?: string
  readonly recent?: string
  readonly error?: Failure
  /** The last three are the release's. */
  readonly model?: ModelRef
  readonly cost?: number
  readonly tokens?: Tokens
  readonly time: { readonly created: number }
}

/**
 * A stored message. Those that are neither a prompt nor an answer have other types.
 *
 * @category models
 * @since 0.1.0
 */
export type Message =
  | Assistant
  | Compaction
  | {
    readonly id: string
    readonly type: "synthetic" | "user"
    readonly text: string
    readonly time: { readonly created: number }
    readonly [key: string]: unknown
  }
  | {
    readonly id: string
    readonly type: "agent-switched" | "idle" | "model-switched"
    readonly time: { readonly created: number }
    readonly [key: string]: unknown
  }

/**
 * An event. Those with `durable` stand in the log of their session.
 *
 * @category models
 * @since 0.1.0
 */
export interface Event {
  readonly id: string
  readonly created: number
  readonly type: string
  readonly data: Properties
  readonly durable?: { readonly aggregateID: string; readonly seq: number; readonly version: number }
  readonly location?: { readonly directory: string }
}
