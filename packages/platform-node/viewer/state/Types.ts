/**
 * What the gateway sends and takes, by short names.
 */
import type {
  Connection,
  Conversation,
  StartedTurn,
  StartTurn,
  TurnJson
} from "@opencode-turn/platform-node/GatewayApi"

export type { Connection, Conversation, StartedTurn, StartTurn }
export type Turn = TurnJson.Turn
export type TurnSummary = TurnJson.TurnSummary
export type TurnUpdate = TurnJson.TurnUpdate
export type StoredAsk = typeof TurnJson.Ask.Type
export type Ask = StoredAsk["ask"]
export type Answer = NonNullable<StoredAsk["answer"]>
export type Part = Turn["parts"][number]
export type ToolPart = Extract<Part, { readonly type: "tool" }>
export type Subagent = Turn["subagents"][number]
export type Usage = Turn["usage"]
export type PromptPart = Exclude<StartTurn["prompt"], string>[number]

/** A page of a list. */
export interface Page<A> {
  readonly items: ReadonlyArray<A>
  readonly next: string | null
}
