/**
 * `opencode-turn answer`: a person's answer to what an agent asks, given from any process.
 */
import type { Answer, Ask, Question } from "@opencode-turn/core/Ask"
import { RequestId } from "@opencode-turn/core/Ids"
import { retrying } from "@opencode-turn/core/Retrying"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { RequestClosed, UnknownRequest } from "@opencode-turn/core/StoredAsk"
import * as StoredGate from "@opencode-turn/core/StoredGate"
import type * as Prompt from "effect/cli/Prompt"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stdio from "effect/Stdio"
import { line } from "../internal/TerminalText.ts"
import * as TerminalGate from "../TerminalGate.ts"
import * as Database from "./Database.ts"
import { describeAsk } from "./Describe.ts"
import { type Failure, fromError, usage } from "./Failure.ts"
import * as JsonLines from "./JsonLines.ts"
import { Output } from "./Output.ts"
import { Stop } from "./Stop.ts"

/** What the command line says. */
export interface Options {
  readonly database: string | undefined
  readonly allow: "once" | "always" | undefined
  /** Empty for a rejection without a message. */
  readonly reject: string | undefined
  readonly answers: ReadonlyArray<string>
  readonly json: boolean
  readonly request: string
}

/** Stores the answer, and prints what was answered. */
export const answer = Effect.fnUntraced(
  function*(
    options: Options
  ): Effect.fn.Return<void, Failure, Output | Stop | Stdio.Stdio | Prompt.Environment | Scope.Scope> {
    const given = [options.allow, options.reject, options.answers[0]].filter((value) => value !== undefined)
    if (given.length > 1) return yield* usage("only one of --allow, --reject and --answer can be the answer")
    const { store } = yield* Database.openExisting(options.database)
    const output = yield* Output
    const answered = yield* Effect.gen(function*() {
      const ask = yield* findOpen(RequestId.make(options.request))
      return yield* StoredGate.answerRequest(
        ask.id,
        given.length === 0 ? yield* askPerson(ask) : answerOf(ask, options)
      )
    }).pipe(
      Effect.provideContext(store),
      Effect.mapError((error) => {
        if (error._tag === "CliFailure") return error
        return error._tag === "InvalidAnswer" ? usage(error.message) : fromError(error)
      })
    )
    yield* output.answer(
      options.json
        ? JsonLines.fromAsk(answered)
        : `answered ${line(answered.id)} · conversation ${line(answered.conversationId)}\n`
    )
  },
  Effect.scoped
)

// internal

/** Before anybody is asked: an answer that nobody waits for is not to be thought about. */
const findOpen = Effect.fnUntraced(function*(requestId: RequestId) {
  const store = yield* SessionStore
  const stored = Option.getOrUndefined(yield* retrying(store.getAsk(requestId)))
  if (stored === undefined) return yield* new UnknownRequest({ requestId })
  if (stored.status !== "open") return yield* new RequestClosed({ requestId, status: stored.status })
  return stored.ask
})

const askPerson = Effect.fnUntraced(function*(ask: Ask) {
  const stdio = yield* Stdio.Stdio
  if (!((yield* stdio.stdinIsTerminal) && (yield* stdio.stderrIsTerminal))) {
    return yield* usage("the answer is missing: --allow, --reject or --answer (at a terminal you are asked)")
  }
  const { progress } = yield* Output
  if (ask._tag === "Permission") yield* progress(describeAsk(ask).map((text) => `? ${text}\n`).join(""))
  const { now } = yield* Stop
  return yield* TerminalGate.prompt(ask).pipe(
    Effect.catchTag("QuitError", () => Effect.andThen(now, Effect.never))
  )
})

const answerOf = (ask: Ask, { allow, answers, reject }: Options): Answer => {
  if (allow !== undefined) return { _tag: "Permission", reply: { reply: allow } }
  if (reject !== undefined) return reject === "" ? { _tag: "Reject" } : { _tag: "Reject", message: reject }
  const questions = ask._tag === "Question" ? ask.questions : []
  return { _tag: "Answers", answers: answers.map((text, index) => choose(questions[index], text)) }
}

/** An empty text leaves a question unanswered. Commas separate labels only where all of it is labels: text may hold commas. */
const choose = (question: Question | undefined, text: string): ReadonlyArray<string> => {
  if (text === "") return []
  const pieces = text.split(",").map((piece) => piece.trim())
  const isOffered = (label: string) => question?.options.some((option) => option.label === label) === true
  return question?.multiple === true && !isOffered(text) && pieces.every(isOffered) ? pieces : [text]
}
