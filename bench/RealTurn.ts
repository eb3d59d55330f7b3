/**
 * The job that is measured on the real server: a prompt and an answer of 60 deltas, sixty times in one session, after one that
 * is not counted.
 */
import { prompt } from "../packages/testing/src/model/ModelScript.ts"
import { begin } from "./Child.ts"

const answer = "word after word ".repeat(20)
const counted = 60

/** What the turn asks: the scripted model reads its answer out of it. */
export const question = prompt("go on", [{ text: answer, chunks: 60 }])

/** Runs the turns one after the other; `turn` gives the text of its answer. */
export const measureTurns = async (turn: () => Promise<string>): Promise<void> => {
  const checked = async () => {
    const text = await turn()
    if (text !== answer) throw new Error(`not the answer: ${text.slice(0, 100)}`)
  }
  await checked()
  const finish = begin()
  for (let count = 0; count < counted; count++) await checked()
  finish({ turns: counted })
}
