/**
 * Defines the commands that change a conversation besides turns: `fork`, `revert`, `unrevert` and `compact`.
 */
import { AssistantMessageId, makeId } from "@opencode-turn/core/Ids"
import { compactConversation, forkConversation, revertTurn, unrevertTurn } from "@opencode-turn/core/Operations"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { database, directory, json, message, url } from "./CommandFlags.ts"

const shared = {
  url,
  directory: directory(),
  database,
  json: json("Print the stored message as a JSON object instead")
}

const conversation = Argument.String("conversation").pipe(
  Argument.withMetavar("CONVERSATION"),
  Argument.withDescription("The conversation, as list prints it")
)

const given = (input: {
  readonly url: Option.Option<string>
  readonly directory: Option.Option<string>
  readonly database: Option.Option<string>
  readonly json: boolean
}) => ({
  url: Option.getOrUndefined(input.url),
  directory: Option.getOrUndefined(input.directory),
  database: Option.getOrUndefined(input.database),
  json: input.json
})

const loaded = Effect.promise(() => import("./run/Operate.ts"))

/** The command that forks a conversation. */
export const forkCommand = Command.make(
  "fork",
  {
    ...shared,
    at: Flag.String("at").pipe(
      Flag.withMetavar("MESSAGE"),
      Flag.withDescription("The turn that the fork ends with (default: the newest one that has ended)"),
      Flag.optional
    ),
    into: Flag.String("into").pipe(
      Flag.withMetavar("CONVERSATION"),
      Flag.withDescription("The name of the new conversation (default: a new one, which is printed)"),
      Flag.optional
    ),
    conversation
  },
  (input) =>
    Effect.gen(function*() {
      const { named, operate } = yield* loaded
      const conversationId = yield* named("the conversation", input.conversation)
      const into = yield* named("--into", Option.isSome(input.into) ? input.into.value : yield* makeId("conv"))
      const at = Option.getOrUndefined(input.at)
      yield* operate(given(input), {
        conversation: Effect.succeed(conversationId),
        run: forkConversation({ conversationId, at, into })
      })
    })
).pipe(
  Command.withDescription(
    "Begins a new conversation with what another one said, up to a turn. Both go on by themselves, in the same folder. A turn that " +
      "runs meanwhile is left out."
  ),
  Command.withShortDescription("Begin a conversation with a copy of another")
)

/** The command that reverts turns. */
export const revertCommand = Command.make(
  "revert",
  { ...shared, message },
  (input) =>
    Effect.gen(function*() {
      const { conversationOf, operate } = yield* loaded
      const id = AssistantMessageId.make(input.message)
      yield* operate(given(input), { conversation: conversationOf(id), run: revertTurn(id) })
    })
).pipe(
  Command.withDescription(
    "Takes back a turn and all after it: what the agent knows of them and, in a git repository, what they changed in the files. The " +
      "stored turns stay, and list marks them. unrevert undoes it until the next turn. Fails while a turn of the conversation runs."
  ),
  Command.withShortDescription("Take back a turn and those after it")
)

/** The command that undoes a revert. */
export const unrevertCommand = Command.make(
  "unrevert",
  { ...shared, conversation },
  (input) =>
    Effect.gen(function*() {
      const { named, operate } = yield* loaded
      const conversationId = yield* named("the conversation", input.conversation)
      yield* operate(given(input), { conversation: Effect.succeed(conversationId), run: unrevertTurn(conversationId) })
    })
).pipe(
  Command.withDescription(
    "Undoes the revert of a conversation. Files that somebody changed since then get their contents of before the revert. A turn or a " +
      "compaction since the revert has made it final."
  ),
  Command.withShortDescription("Undo a revert")
)

/** The command that compacts a conversation. */
export const compactCommand = Command.make(
  "compact",
  {
    ...shared,
    model: Flag.String("model").pipe(
      Flag.withMetavar("PROVIDER/MODEL"),
      Flag.withDescription("The model that writes the summary (default: that of the last turn)"),
      Flag.optional
    ),
    whenBusy: Flag.Literals("when-busy", ["queue", "reject"]).pipe(
      Flag.withDescription("What to do while a turn of the conversation runs: wait for it, or fail (default: queue)"),
      Flag.withDefault("queue")
    ),
    conversation
  },
  (input) =>
    Effect.gen(function*() {
      const { named, operate } = yield* loaded
      const conversationId = yield* named("the conversation", input.conversation)
      const model = Option.getOrUndefined(input.model)
      yield* operate(given(input), {
        conversation: Effect.succeed(conversationId),
        run: Effect.provideService(
          compactConversation(conversationId, { model }),
          TurnPolicy.WhenBusy,
          input.whenBusy
        )
      })
    })
).pipe(
  Command.withDescription(
    "Has a conversation summarised: from then on the model sees the summary in place of what was said. Prints the summary. Ctrl-C stops it."
  ),
  Command.withShortDescription("Put a summary in place of what was said")
)
