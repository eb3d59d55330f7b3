import * as MemorySessionStore from "@opencode-turn/core/MemorySessionStore"
import { describeSessionStore } from "@opencode-turn/testing/SessionStoreContract"

describeSessionStore("MemorySessionStore", MemorySessionStore.layer, { rounds: 10_000 })
