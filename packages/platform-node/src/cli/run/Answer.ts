/**
 * `opencode-turn answer`: stores a person's answer to an ask, from any process.
 */
import type { Answer, Ask, Question } from "@opencode-turn/core/Ask"
import { AskId } from "@opencode-turn/core/Ids"
import { retrying } from "@opencode-turn/core/Retrying"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { AskClosed, type StoredAsk, UnknownAsk } from "@opencode-turn/core/StoredAsk"
import * as StoredGate from "@opencode-turn/core/StoredGate"
import type * as Prompt from "effect/cli/Prompt"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Stdio from "effect/Stdio"
import * as TerminalGate from "../../terminal/TerminalGate.ts"
import { line } from "../../terminal/TerminalText.ts"
import * as AskedBy from "../setup/AskedBy.ts"
import * as Database from "../setup/Database.ts"
import { type Failure, fromError, usage } from "../setup/Failure.ts"
import { Stop } from "../setup/Stop.ts"
import { Streams } from "../setup/Streams.ts"
import * as JsonLines from "../view/JsonLines.ts"

/** The answer on the command line, if there is one. */
export interface Given {
  readonly allow: "once" | "always" | undefined
  /** Empty for a rejection without a message. */
  readonly reject: string | undefined
  readonly answers: ReadonlyArray<string>
}

/** The options of the command line. */
export interface Options extends Given {
  readonly database: string | undefined
  readonly json: boolean
  readonly ask: string
}

/** Stores the answer and prints the answered ask. */
export const answer = Effect.fnUntraced(
  function*(
    options: Options
  ): Effect.fn.Return<void, Failure, Streams | Stop | Stdio.Stdio | Prompt.Environment | Scope.Scope> {
    const givenCount = [options.allow, options.reject, options.answers[0]].filter((value) => value !== undefined).length
    if (givenCount > 1) return yield* usage("give only one of --allow, --reject and --answer")
    const { store } = yield* Database.openExisting(options.database)
    const streams = yield* Streams
    const answered = yield* Effect.gen(function*() {
      const stored = yield* find(AskId.make(options.ask))
      const answer = givenCount === 0
        ? yield* askPerson(yield* stillOpen(stored))
        : yield* Effect.mapError(Effect.fromResult(toAnswer(stored.ask, options)), usage)
      return yield* StoredGate.answerAsk(stored.id, answer)
    }).pipe(
      Effect.provideContext(store),
      Effect.mapError((error) => {
        if (error._tag === "CliFailure") return error
        return error._tag === "InvalidAnswer" ? usage(error.message) : fromError(error)
      })
    )
    yield* streams.answer(
      options.json
        ? JsonLines.fromAsk(answered)
        : `answered ${line(answered.id)} · conversation ${line(answered.conversationId)}\n`
    )
  },
  Effect.scoped
)

/** Turns the options into an answer to this ask, or says what is wrong and what to give instead. */
export const toAnswer = (ask: Ask, { allow, answers, reject }: Given): Result.Result<Answer, string> => {
  const id = line(ask.id)
  if (ask._tag === "Permission") {
    if (allow !== undefined) return Result.succeed({ _tag: "Permission", reply: { reply: allow } })
    if (reject === undefined) {
      return Result.fail(
        `${id} asks for a permission: answer with --allow once, --allow always or --reject; --reject=MESSAGE tells the agent why`
      )
    }
    return Result.succeed(toRejection(reject))
  }
  if (allow !== undefined) return Result.fail(`${id} is a question: answer with --answer, or dismiss it with --reject`)
  if (reject !== undefined) return Result.succeed(toRejection(reject))
  const { length } = ask.questions
  return answers.length === length
    ? Result.succeed({ _tag: "Answers", answers: answers.map((text, index) => choose(ask.questions[index], text)) })
    : Result.fail(
      `${id} has ${length === 1 ? "1 question" : `${length} questions`}, and the command line has ` +
        `${answers.length === 1 ? "1 answer" : `${answers.length} answers`}: ` +
        "give --answer once for each question, in order, with commas between several labels"
    )
}

// internal

const toRejection = (message: string): Answer => message === "" ? { _tag: "Reject" } : { _tag: "Reject", message }

const find = Effect.fnUntraced(function*(askId: AskId) {
  const store = yield* SessionStore
  const stored = Option.getOrUndefined(yield* retrying(store.getAsk(askId)))
  if (stored === undefined) return yield* new UnknownAsk({ askId })
  return stored
})

/** Checks this before prompting the person: an answer to a closed ask would be lost. */
const stillOpen = (stored: StoredAsk): Effect.Effect<StoredAsk, AskClosed> =>
  stored.status === "open"
    ? Effect.succeed(stored)
    : Effect.fail(new AskClosed({ askId: stored.id, status: stored.status }))

const askPerson = Effect.fnUntraced(function*(stored: StoredAsk) {
  const stdio = yield* Stdio.Stdio
  if (!((yield* stdio.stdinIsTerminal) && (yield* stdio.stderrIsTerminal))) {
    return yield* usage("the answer is missing: --allow, --reject or --answer (at a terminal you are asked)")
  }
  const { now } = yield* Stop
  const [[, subagent] = []] = yield* AskedBy.withAskers([stored])
  return yield* TerminalGate.prompt(stored.ask, { subagent }).pipe(
    Effect.catchTag("QuitError", () => Effect.andThen(now, Effect.never))
  )
})

/** An empty text leaves the question unanswered. Commas separate labels only if every piece is a label: a text may hold commas. */
const choose = (question: Question | undefined, text: string): ReadonlyArray<string> => {
  if (text === "") return []
  const pieces = text.split(",").map((piece) => piece.trim())
  const isOffered = (label: string) => question?.options.some((option) => option.label === label) === true
  return question?.multiple === true && !isOffered(text) && pieces.every(isOffered) ? pieces : [text]
}
