/**
 * `opencode-turn run`: runs one turn on a running server, or on one that it starts.
 */
import * as Attachment from "@opencode-turn/core/Attachment"
import { Client } from "@opencode-turn/core/Client"
import { AssistantMessageId, ConversationId, idFlaw, makeId } from "@opencode-turn/core/Ids"
import * as TurnOutput from "@opencode-turn/core/Output"
import { parseModel, type PromptPart } from "@opencode-turn/core/Prompt"
import { retrying } from "@opencode-turn/core/Retrying"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { EnsureSession, LimitTools } from "@opencode-turn/core/steps"
import { isOpen } from "@opencode-turn/core/StoredMessage"
import * as Tracer from "@opencode-turn/core/Tracer"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import type * as Prompt from "effect/cli/Prompt"
import type * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Path from "effect/Path"
import type { ChildProcessSpawner } from "effect/process/ChildProcessSpawner"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stdio from "effect/Stdio"
import { line } from "../../terminal/TerminalText.ts"
import * as Connection from "../setup/Connection.ts"
import * as Database from "../setup/Database.ts"
import { failed, type Failure, fromError, usage } from "../setup/Failure.ts"
import { readMetadata, readTools } from "../setup/Pairs.ts"
import * as Permissions from "../setup/Permissions.ts"
import { Stop } from "../setup/Stop.ts"
import { Streams } from "../setup/Streams.ts"
import * as Ending from "../view/Ending.ts"
import * as TurnView from "../view/TurnView.ts"

/** The options of the command line; `undefined` for a missing one. */
export interface Options extends Connection.Flags {
  readonly conversation: string | undefined
  readonly database: string | undefined
  readonly agent: string | undefined
  readonly model: string | undefined
  readonly system: string | undefined
  readonly tools: ReadonlyArray<string>
  readonly metadata: ReadonlyArray<string>
  readonly permission: Permissions.Mode | undefined
  readonly whenBusy: "queue" | "reject" | "replace" | undefined
  readonly timeout: Duration.Duration | undefined
  readonly files: ReadonlyArray<string>
  readonly schema: string | undefined
  readonly json: boolean
  readonly prompt: string | undefined
}

/** The services that every command may use. */
export type Services = Streams | Stop | Prompt.Environment | ChildProcessSpawner | Stdio.Stdio

/** Runs the turn, and fails unless it completed. */
export const run = Effect.fnUntraced(
  function*(options: Options): Effect.fn.Return<void, Failure, Services | Scope.Scope> {
    const permission = options.permission ?? ((yield* canAsk) ? "ask" : "deny")
    const view = yield* options.json
      ? TurnView.json
      : TurnView.human({ hasValue: options.schema !== undefined, permission })
    const result = yield* Effect.tapError(
      attempt({ ...options, permission }, view),
      (failure) => view.fail(failure, options.conversation)
    )
    yield* Ending.toExit(result)
  },
  Effect.scoped
)

// internal

const attempt = Effect.fnUntraced(function*(
  options: Options & { readonly permission: Permissions.Mode },
  view: TurnView.View
): Effect.fn.Return<TurnResult, Failure, Services | Scope.Scope> {
  // Checks the whole command line before starting or storing anything.
  const text = yield* readPrompt(options.prompt)
  const files = yield* Effect.forEach(options.files, readFile)
  const prompt: ReadonlyArray<PromptPart> = [{ type: "text", text }, ...files]
  const output = options.schema === undefined ? undefined : yield* readSchema(options.schema)
  if (options.model !== undefined) {
    yield* Effect.mapError(parseModel(options.model), (error) => usage(error.message))
  }
  if (options.agent === "") return yield* usage("--agent is empty: leave it out, or name one")
  const { permission } = options
  if (permission === "ask" && !(yield* canAsk)) {
    return yield* usage("--permission ask needs a terminal to ask at: choose store, allow or deny")
  }
  const tools = yield* readTools(options.tools)
  if (tools !== undefined && permission !== "allow") {
    return yield* usage(
      `--tool needs --permission allow: OpenCode would drop the rules of --permission ${permission} for it`
    )
  }
  const metadata = yield* readMetadata(options.metadata)
  if (options.conversation === "") return yield* usage("--conversation is empty: leave it out, or name one")
  const flaw = idFlaw(options.conversation ?? "none")
  if (flaw !== undefined) return yield* usage(`--conversation cannot be stored: ${flaw}`)
  const flags = yield* Connection.settings(options)
  const database = yield* Database.open(options.database)
  if (permission === "store") yield* Database.mustBeShared(database)
  const { store } = database

  const rules = Permissions.rules(permission)
  const server = yield* Connection.connect(flags, view, rules)
  const conversationId = ConversationId.make(options.conversation ?? (yield* makeId("conv")))
  const messageId = AssistantMessageId.make(yield* makeId("asm"))
  const { now: onQuit, onStop } = yield* Stop
  const streams = yield* Streams
  yield* onStop({
    slow: view.note("stopping … (Ctrl-C again leaves the turn unfinished, for opencode-turn resume)"),
    second: letGo(messageId, view).pipe(Effect.provideContext(store), Effect.provideService(Streams, streams))
  })

  const turn = Effect.gen(function*() {
    const folder = yield* Effect.provide(
      prepareSession(conversationId, rules, {
        isFolderNamed: flags.directory !== undefined,
        hasMetadata: metadata !== undefined,
        view
      }),
      Connection.client(server, server.directory)
    ).pipe(TurnView.tellSilence(view.note(TurnView.silence)))
    return yield* TurnView.run(
      {
        conversationId,
        messageId,
        prompt,
        agent: options.agent,
        model: options.model,
        system: options.system,
        output,
        tools,
        metadata,
        ...(rules.length > 0 && { permission: rules })
      },
      { view, permission, onQuit }
    ).pipe(
      Effect.mapError(fromError),
      Effect.provide(Layer.merge(Connection.client(server, folder ?? server.directory), Tracer.layerNoop)),
      given(TurnPolicy.Budget, options.timeout && { wallClock: options.timeout }),
      given(TurnPolicy.WhenBusy, options.whenBusy)
    )
  })
  return yield* Effect.raceFirst(turn, server.ended).pipe(Effect.provideContext(store))
})

const given = <A>(reference: Context.Reference<A>, value: A | undefined) => <B, E, R>(effect: Effect.Effect<B, E, R>) =>
  value === undefined ? effect : Effect.provideService(effect, reference, value)

/**
 * Leaves a stopping turn to `resume`: pending, without an owner, and in a new epoch, so that late writes of the stop have no effect. A
 * turn that has ended stays as it is.
 */
const letGo = (id: AssistantMessageId, view: TurnView.View): Effect.Effect<void, never, SessionStore | Streams> =>
  Effect.gen(function*() {
    const store = yield* SessionStore
    const message = Option.getOrUndefined(yield* store.getMessage(id))
    if (message === undefined || !isOpen(message.status)) return
    if (!(yield* store.release(id, message.epoch))) return
    const taken = yield* store.takeOver(id, { owner: yield* makeId("run"), millis: 0 })
    if (Option.isSome(taken)) yield* store.release(id, taken.value.epoch)
    yield* view.pause
    const { progress } = yield* Streams
    yield* progress(
      `opencode-turn: stopped. The turn is left unfinished; opencode-turn resume carries it on ` +
        `(${id}, conversation ${line(message.conversationId)})\n`
    )
  }).pipe(Effect.ignore)

const readPrompt = Effect.fnUntraced(function*(argument: string | undefined) {
  if (argument !== undefined && argument !== "-") {
    return argument.trim() === "" ? yield* usage("the prompt is empty: say what the agent should do") : argument
  }
  const stdio = yield* Stdio.Stdio
  if (argument === undefined && (yield* stdio.stdinIsTerminal)) {
    return yield* usage(
      `the prompt is missing: opencode-turn run "what the agent should do", or send it to standard input`
    )
  }
  const bytes = yield* Effect.mapError(
    Attachment.atMost(stdio.stdin, maxPromptBytes),
    (error) => failed(`standard input cannot be read: ${error.message}`)
  )
  if (bytes === undefined) {
    return yield* usage(
      `standard input has more than ${maxPromptBytes} bytes: put it into a file that the agent can read, and name the file`
    )
  }
  const text = new TextDecoder().decode(bytes)
  return text.trim() === ""
    ? yield* usage("the prompt on standard input is empty: say what the agent should do")
    : text.trimEnd()
})

const readFile = (path: string): Effect.Effect<PromptPart, Failure, FileSystem.FileSystem | Path.Path> =>
  Effect.mapError(Attachment.fromPath(path), (error) => usage(`--file: ${error.reason}`))

const readSchema = Effect.fnUntraced(function*(path: string): Effect.fn.Return<
  TurnOutput.Output<unknown>,
  Failure,
  FileSystem.FileSystem
> {
  if (path === "") return yield* usage("--schema is empty: name a file with a JSON Schema")
  const refuse = (reason: string) => usage(`--schema: ${JSON.stringify(line(path))} ${reason}`)
  const bytes = yield* Effect.mapError(
    Attachment.readRegularFile(path, {
      maxBytes: maxSchemaBytes,
      folder: "name a file with a JSON Schema",
      tooLarge: ""
    }),
    refuse
  )
  const text = new TextDecoder().decode(bytes)
  if (text.trim() === "") return yield* refuse("is empty: write a JSON Schema into it")
  const json = yield* Effect.mapError(decodeJson(text), () => refuse("is not JSON"))
  return yield* Effect.mapError(TurnOutput.fromJsonSchema(json), (error) => refuse(`cannot be used: ${error.reason}`))
})

/** No model reads more. Larger input belongs into a file that the agent reads. */
const maxPromptBytes = 10 * 1024 * 1024

/** The schema is sent with every call of the model. */
const maxSchemaBytes = 1024 * 1024

const decodeJson = Schema.decodeUnknownEffect(Schema.fromJsonString(Schema.Unknown))

/** Whether a person can be asked at a terminal. */
const canAsk: Effect.Effect<boolean, never, Stdio.Stdio> = Effect.gen(function*() {
  const stdio = yield* Stdio.Stdio
  return (yield* stdio.stdinIsTerminal) && (yield* stdio.stderrIsTerminal)
})

/**
 * Prepares the session of an existing conversation for the turn, and returns its folder.
 *
 * The session keeps its old rules. The new rules are added after them, and the last matching rule counts. The session stays in the
 * folder where it began.
 */
const prepareSession = Effect.fnUntraced(function*(
  conversationId: ConversationId,
  permission: ReturnType<typeof Permissions.rules>,
  { hasMetadata, isFolderNamed, view }: {
    readonly isFolderNamed: boolean
    readonly hasMetadata: boolean
    readonly view: TurnView.View
  }
) {
  const store = yield* SessionStore
  const client = yield* Client
  const sessionId = Option.getOrUndefined(yield* Effect.mapError(store.getSession(conversationId), fromError))
  if (sessionId === undefined) return undefined
  const prepared = Effect.gen(function*() {
    if (isFolderNamed) yield* EnsureSession.checkDirectory(sessionId)
    const { directory, permission: known } = yield* permission.length === 0
      ? retrying(client.getSession(sessionId))
      : retrying(client.updateSession(sessionId, { permission }))
    if (hasMetadata) yield* view.note("the conversation has its session already, which keeps its own metadata")
    if (permission.length > 0 && LimitTools.isLimited(known)) {
      yield* view.note(
        "the tools that --tool took away in the turn before stay away: this turn's rules stand behind them"
      )
    }
    const asked = yield* Effect.option(retrying(client.directory))
    if (directory !== "" && Option.exists(asked, (folder) => folder !== directory)) {
      yield* view.note(`the conversation works in ${line(directory)}, where it began`)
    }
    return directory
  })
  return yield* prepared.pipe(
    // The turn makes a lost session anew, with the rules. It finds a mismatch as well, and is stored with it.
    Effect.catchTag(["SessionNotFound", "DirectoryMismatch"], () => Effect.undefined),
    Effect.mapError(fromError)
  )
})
