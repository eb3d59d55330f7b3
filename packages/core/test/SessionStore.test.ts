import * as SessionStore from "@opencode-turn/core/SessionStore"
import { describeSessionStore } from "@opencode-turn/testing/SessionStoreContract"

describeSessionStore("SessionStore.layerMemory", SessionStore.layerMemory, { rounds: 10_000 })
