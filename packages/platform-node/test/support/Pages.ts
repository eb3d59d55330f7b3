/** Pages on a gateway: the clients of the AI SDK and of AG-UI themselves, without a browser. */
import { HttpAgent } from "@ag-ui/client"
import { AbstractChat, type ChatState, DefaultChatTransport, type UIMessage } from "ai"
import { Effect } from "effect"
import type * as Gateways from "./Gateways.ts"

/** What `useChat` is in a page, without React. */
export class Chat extends AbstractChat<UIMessage> {
  constructor(gateway: Gateways.TestGateway, messages: ReadonlyArray<UIMessage> = [], id = "c") {
    const waiting = new Set<() => void>()
    const state: ChatState<UIMessage> = {
      status: "ready",
      error: undefined,
      messages: [...messages],
      pushMessage: (message) => {
        state.messages = [...state.messages, structuredClone(message)]
        for (const look of waiting) look()
      },
      popMessage: () => {
        state.messages = state.messages.slice(0, -1)
      },
      replaceMessage: (index, message) => {
        state.messages = state.messages.with(index, structuredClone(message))
        for (const look of waiting) look()
      },
      snapshot: (value) => structuredClone(value)
    }
    super({ id, state, transport: transport(gateway) })
    this.#waiting = waiting
  }

  readonly #waiting: Set<() => void>

  /** The newest message, once it is as it should be. */
  until(isEnough: (message: UIMessage) => boolean): Effect.Effect<UIMessage> {
    return Effect.callback<UIMessage>((resume) => {
      const look = () => {
        const last = this.lastMessage
        if (last !== undefined && isEnough(last)) {
          this.#waiting.delete(look)
          resume(Effect.succeed(last))
        }
      }
      this.#waiting.add(look)
      look()
    })
  }
}

/** A transport that calls the gateway as the page of its user does. */
export const transport = (gateway: Gateways.TestGateway) =>
  new DefaultChatTransport<UIMessage>({
    api: "/ai-sdk",
    fetch: (path, init) =>
      gateway.request(String(path), {
        ...(init?.method !== undefined && { method: init.method }),
        ...(typeof init?.body === "string" && { body: init.body }),
        ...(init?.signal instanceof AbortSignal && { signal: init.signal })
      })
  })

/** The text of a message. */
export const textOf = (message: UIMessage | undefined): string =>
  message?.parts.map((part) => part.type === "text" ? part.text : "").join("") ?? ""

/** The calls that wait for an approval. */
export const asks = ({ parts }: UIMessage) =>
  parts.flatMap((part) => part.type === "dynamic-tool" && part.state === "approval-requested" ? [part] : [])

/** The client of AG-UI, whose own verifier fails on an event that may not come where it comes. */
export const agentOf = (gateway: Gateways.TestGateway, url = "/ag-ui", messages: ReadonlyArray<object> = []) =>
  new HttpAgent({
    url,
    threadId: "c",
    initialMessages: JSON.parse(JSON.stringify(messages)),
    fetch: (path, init) =>
      gateway.request(path, {
        method: "POST",
        ...(typeof init.body === "string" && { body: init.body }),
        ...(init.signal instanceof AbortSignal && { signal: init.signal })
      })
  })
