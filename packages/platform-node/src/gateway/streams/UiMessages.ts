/**
 * The stored turns of a conversation as messages of the AI SDK: what `useChat` begins with.
 *
 * **Responsibilities**: the answer is the message that the stream of its turn builds.
 *
 * @since 0.1.0
 */
import type { StoredMessage } from "@opencode-turn/core/SessionStore"
import * as TurnJson from "../TurnJson.ts"
import type { UiMessage } from "./AiSdkApi.ts"
import * as TurnView from "./TurnView.ts"
import * as UiMessageChunks from "./UiMessageChunks.ts"

/**
 * The prompt of a turn as the user's message. Of an attached file only its name and type are shown, as `data-file`.
 *
 * @category converting
 * @since 0.1.0
 */
export const promptOf = (message: StoredMessage): UiMessage => ({
  id: `${message.id}.prompt`,
  role: "user",
  metadata: { conversationId: message.conversationId, createdMillis: message.createdMillis },
  parts: TurnJson.toTurn(message).prompt.map((part) => {
    switch (part.type) {
      case "text":
        return part
      case "file":
        return { type: "data-file", data: { mediaType: part.mediaType, filename: part.filename } }
      case "agent":
        return { type: "text", text: `@${part.name}` }
      case "subtask":
        return { type: "text", text: part.description }
    }
  })
})

/**
 * The answer of a turn that has ended.
 *
 * @category converting
 * @since 0.1.0
 */
export const answerOf = (message: StoredMessage): UiMessage => ({
  id: message.id,
  role: "assistant",
  metadata: UiMessageChunks.endMetadataOf(message),
  parts: UiMessageChunks.itemsOf(TurnView.ofMessage(message)).map(toPart)
})

// internal

const toPart = (item: UiMessageChunks.Item): object => {
  switch (item.kind) {
    case "text":
    case "reasoning":
      return {
        type: item.kind,
        ...(item.kind === "reasoning" && { id: item.key }),
        text: item.text,
        state: item.isComplete ? "done" : "streaming"
      }
    case "file":
      return {
        type: "file",
        mediaType: item.mediaType,
        url: item.url,
        ...(item.filename !== undefined && { providerMetadata: { opencode: { filename: item.filename } } })
      }
    case "data":
      return { type: `data-${item.name}`, id: item.id, data: item.data }
    case "tool": {
      const { dynamic: _, ...head } = item.head
      return { type: "dynamic-tool", ...head, input: item.input, ...stateOf(item.phase) }
    }
  }
}

const stateOf = (phase: UiMessageChunks.ToolItem["phase"]): object => {
  switch (phase._tag) {
    case "streaming":
      return { state: "input-streaming" }
    case "running":
      return { state: "input-available" }
    case "asked": {
      const { approvalId: id, descriptor, reason } = phase
      return { state: "approval-requested", approval: { id, descriptor, requestReason: reason } }
    }
    case "denied": {
      const { approvalId: id, reason } = phase
      return { state: "output-denied", approval: { id, approved: false, ...(reason !== undefined && { reason }) } }
    }
    case "output":
      return {
        state: "output-available",
        output: phase.output,
        ...(phase.isPreliminary && { preliminary: true })
      }
    case "error":
      return { state: "output-error", errorText: phase.errorText }
  }
}
