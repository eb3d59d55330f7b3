/**
 * A client of AG-UI on the gateway. It prints the answer as it streams, asks the person at the terminal where the turn waits, and goes on with the
 * answers. Start `opencode-turn serve`, and give its address and its token:
 *
 *   OPENCODE_TURN_TOKEN=… node examples/ag-ui/client.ts http://127.0.0.1:4097 "Fix the tests"
 */
import { HttpAgent } from "@ag-ui/client"
import { randomUUID } from "node:crypto"
import { createInterface } from "node:readline/promises"

const [url = "http://127.0.0.1:4097", prompt = "What is in this folder?"] = process.argv.slice(2)
const terminal = createInterface({ input: process.stdin, output: process.stdout })
const agent = new HttpAgent({
  url: `${url}/ag-ui`,
  threadId: "ticket-42",
  headers: { authorization: `Bearer ${process.env["OPENCODE_TURN_TOKEN"] ?? ""}` }
})
agent.subscribe({
  onTextMessageContentEvent: ({ event }) => void process.stdout.write(event.delta),
  onToolCallEndEvent: ({ toolCallArgs, toolCallName }) => console.log(`\n${toolCallName}`, toolCallArgs)
})

agent.addMessage({ id: randomUUID(), role: "user", content: prompt })
await agent.runAgent()
while (agent.pendingInterrupts.length > 0) {
  const resume = []
  for (const { id, message, reason } of agent.pendingInterrupts) {
    const words = await terminal.question(`\n${reason}: ${message}\n> `)
    resume.push(
      reason === "permission"
        ? { interruptId: id, status: "resolved" as const, payload: { reply: words === "yes" ? "once" : "reject" } }
        : { interruptId: id, status: "resolved" as const, payload: { answers: [[words]] } }
    )
  }
  await agent.runAgent({ resume })
}
terminal.close()
