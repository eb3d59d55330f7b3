/** The viewers of a gateway's turns: each reads one to its end, and tells whether it came. Slow ones read 1 KB a second until the others are done. */
import { request } from "node:http"
import { int, text } from "../Child.ts"

const ids = text("ids").split(",")
const options = { headers: { authorization: `Bearer ${text("token")}` } }

/** Whether the stream came to its end. `kilobytes` a second are read; all at once without. */
const follow = (id: string, isSlow: boolean) =>
  new Promise<boolean>((resolve) => {
    const asked = request(`${text("origin")}/turns/${id}/updates`, options, (response) => {
      let tail = ""
      const seen = (chunk: string) => {
        tail = (tail + chunk).slice(-100_000)
        if (tail.includes("\"type\":\"turn.finished\"")) resolve(true)
      }
      response.setEncoding("utf8")
      if (!isSlow) response.on("data", seen)
      else setInterval(() => response.read(1024), 1000)
      response.on("end", () => resolve(tail.includes("turn.finished")))
      response.on("error", () => resolve(false))
    })
    asked.on("error", () => resolve(false))
    asked.end()
  })

const idOf = (n: number) => ids[n % ids.length] ?? ""
for (let n = 0; n < int("slow"); n++) void follow(idOf(n), true)
const ends = await Promise.all(Array.from({ length: int("viewers") }, (_, n) => follow(idOf(n), false)))
process.send?.({ ended: ends.filter(Boolean).length }, undefined, {}, () => process.exit(0))
