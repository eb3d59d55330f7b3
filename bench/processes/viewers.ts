/**
 * A gateway with streaming turns, each followed by several viewers in a process of their own. Some of these read 1 KB a second. It reports the
 * gateway's own cost, and how many viewers saw the end.
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as Layer from "effect/Layer"
import { fork } from "node:child_process"
import { once } from "node:events"
import { monitorEventLoopDelay } from "node:perf_hooks"
import * as Tracer from "../../packages/core/src/domain/Tracer.ts"
import * as Client from "../../packages/core/src/opencode/Client.ts"
import * as MemorySessionStore from "../../packages/core/src/store/MemorySessionStore.ts"
import * as Gateway from "../../packages/platform-node/src/gateway/Gateway.ts"
import * as FakeOpencode from "../../packages/testing/src/fake/FakeOpencode.ts"
import { begin, int, text } from "../Child.ts"

const turns = int("turns")
const viewers = int("viewers")
const slow = int("slow")
const deltas = 400
const token = "a-token-of-the-benchmark"

const live = Layer.mergeAll(
  Client.layer({ baseUrl: text("url") }).pipe(Layer.provide(NodeHttpClient.layerUndici)),
  MemorySessionStore.layer,
  Tracer.layerNoop
)
const gateway = await Gateway.open({ token, live, maxTurns: turns })
const port = await gateway.listen({ host: "127.0.0.1", port: 0 })
const origin = `http://127.0.0.1:${port}`

const prompt = FakeOpencode.prompt("Tell me.", [
  { text: "word after word ".repeat(deltas), chunks: deltas, chunkDelayMillis: 20_000 / deltas }
])
const started = async (_: unknown, n: number): Promise<string> => {
  const response = await fetch(`${origin}/conversations/c${n}/turns`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({ prompt })
  })
  const { messageId } = Object(await response.json())
  return String(messageId)
}
const ids = await Promise.all(Array.from({ length: turns }, started))

const delay = monitorEventLoopDelay({ resolution: 1 })
delay.enable()
const finish = begin()
const reader = fork(new URL("./viewers-reader.ts", import.meta.url), [
  `--origin=${origin}`,
  `--token=${token}`,
  `--ids=${ids.join(",")}`,
  `--viewers=${viewers}`,
  `--slow=${slow}`
])
let rssBytes = 0
const sampling = setInterval(() => {
  rssBytes = Math.max(rssBytes, process.memoryUsage().rss)
}, 200)
const [{ ended }] = await once(reader, "message")
clearInterval(sampling)
finish({ ended, rssBytes, p99Millis: delay.percentile(99) / 1e6 })
