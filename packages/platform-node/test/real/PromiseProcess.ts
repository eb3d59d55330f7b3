/**
 * A program without Effect that runs one turn through the Promise API, and attaches to it. It prints each update that it is
 * told with its offset, a line each, and has its settings from the environment.
 */
import { openTurns } from "@opencode-turn/platform-node/promise"

const [messageId = "", conversation = "", prompt = ""] = process.argv.slice(2)
await using turns = await openTurns()

const follow = async () => {
  for await (const { offset, update } of turns.attach(messageId)) {
    console.log(JSON.stringify({ offset, update }))
  }
}

let following: Promise<void> | undefined
for await (const update of turns.stream({ conversation, messageId, prompt })) {
  if (update._tag === "Started") following = follow()
}
await following
