/**
 * A program without Effect that opens turns and closes them. It sends telemetry if its argument says so, as the environment tells.
 */
import { openTurns } from "@opencode-turn/platform-node/promise"

const turns = await openTurns({ database: "memory", telemetry: process.argv[2] === "telemetry" })
await turns.close()
