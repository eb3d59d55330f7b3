/**
 * What the honesty scripts do on one line alone, and where the lines come to other results, with the reason.
 */
import type { Line } from "../support/OpencodeGlobalSetup.ts"

export interface Exception {
  /** The line that has it; on both, the scripts come to other results. */
  readonly only?: Line
  readonly because: string
  readonly scripts: ReadonlyArray<string>
}

export const exceptions: ReadonlyArray<Exception> = [
  {
    only: "1.x",
    because: "2.x has no to-do tool",
    scripts: ["a to-do list", "a to-do list that is not one"]
  },
  {
    only: "1.x",
    because: "2.x takes no format with a prompt",
    scripts: [
      "a structured answer",
      "a structured answer that follows a tool and does not fit",
      "two structured answers at once",
      "a structured answer that is asked for and not given",
      "a structured answer whose finish is another",
      "a structured answer that is too long",
      "a structured answer that is filtered",
      "a structured answer whose model fails",
      "a structured answer of which a tool is rejected",
      "a structured answer whose context is full",
      "a context that is full after an earlier prompt, with a format",
      "a structured prompt that is posted again when it is answered",
      "a structured prompt that is posted again without its format",
      "a format that says text"
    ]
  },
  {
    only: "1.x",
    because: "2.x takes no subtasks with a prompt",
    scripts: [
      "a subtask",
      "a subtask without a text, of an agent that is no subagent",
      "a subtask with a command",
      "two subtasks",
      "a subtask that fails",
      "a subtask with a structured answer",
      "a subtask whose permission is asked for",
      "a subtask of an agent that does not exist, and the prompt after it",
      "a stop of a subtask"
    ]
  },
  {
    only: "1.x",
    because: "the beta takes no rules for a session",
    scripts: ["a primary agent as a subagent that inherits rules"]
  },
  {
    only: "1.x",
    because: "a subagent of 2.x cannot be called again in its session",
    scripts: [
      "a session of a subagent that is none",
      "a session of a subagent that is unknown",
      "a subagent that is called again in its session"
    ]
  },
  {
    only: "1.x",
    because: "2.x asks for the two in any order, so that it is left to chance which of them is refused first",
    scripts: ["two permissions of which the first is refused with a reason"]
  },
  {
    only: "1.x",
    because: "what is given for good on 2.x is that command alone, so the next command goes on waiting",
    scripts: ["three permissions of which one is given for good"]
  },
  {
    only: "1.x",
    because: "2.x names each answer by its question, so no answer is surplus",
    scripts: ["a question with surplus answers"]
  },
  { only: "2.x", because: "1.x has no subagents in the background", scripts: ["a subagent in the background"] },
  {
    only: "2.x",
    because: "1.x takes one prompt after the other and no other input",
    scripts: [
      "a prompt for later and one for now",
      "an input that no person wrote",
      "a stop while a prompt waits, which is posted again",
      "a stop between two tries of the model while a prompt waits, which is posted again",
      "a failure while a prompt waits, which is posted again"
    ]
  },
  {
    only: "2.x",
    because: "1.x has no route for one question",
    scripts: [
      "the state of a question before and after its answer",
      "the state of a question before and after its dismiss"
    ]
  },
  {
    only: "2.x",
    because: "1.x has other routes and results for these, and `History1x` compares them",
    scripts: [
      "a revert that is undone",
      "a revert that the next prompt makes final",
      "a revert that is made final",
      "a revert while the session works",
      "a fork",
      "summaries",
      "a summary by an unknown model",
      "a summary that is ordered twice in the middle of a run",
      "a summary that the model needs",
      "a summary that gives nothing",
      "a summary that is stopped"
    ]
  },
  { only: "2.x", because: "1.x has no instructions of a session", scripts: ["instructions that change"] },
  {
    because: "2.x does not try again when the connection breaks after the first word",
    scripts: ["a connection of the model that breaks"]
  },
  {
    because: "an edit of 2.x makes no file",
    scripts: ["a file that an edit makes"]
  },
  {
    because: "2.x stores the step of a refused call as stopped",
    scripts: [
      "a permission that is refused",
      "one of two calls that is refused",
      "two permissions of which one is given before the other is refused without a reason",
      "a question that is dismissed",
      "a subagent that is refused",
      "a subagent that is asked for and refused"
    ]
  },
  {
    because: "1.x stores a command that was stopped as one that ran",
    scripts: [
      "a stop of a command",
      "a stop of a command in a repository"
    ]
  },
  {
    because: "2.x opens no primary agent as a subagent",
    scripts: ["a primary agent as a subagent"]
  },
  {
    because: "2.x gives the model files of any kind",
    scripts: ["a file of a kind that no model takes, and the prompt after it", "a picture that is broken"]
  },
  {
    because: "2.x refuses a prompt with a text that it cannot read; 1.x tells the model",
    scripts: [
      "a text file that is missing",
      "a text that is not fetched"
    ]
  }
]

export const exceptionOf = (name: string): Exception | undefined =>
  exceptions.find(({ scripts }) => scripts.includes(name))
