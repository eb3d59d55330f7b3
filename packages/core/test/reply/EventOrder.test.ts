import { millisFrom } from "#reply/EventOrder"
import { assert, it } from "@effect/vitest"

// As 1.18.33 sent it: a retry in two hours.
const retry = { id: "evt_2248e378b001PLsG8khBzfz5R9", next: 1_795_916_829_834 }

it("tells how long after an event a time comes, by the server's clock alone", () => {
  assert.closeTo(millisFrom(retry.id, retry.next) ?? 0, 7_200_000, 1000)
  assert.isAtMost(millisFrom(retry.id, retry.next - 7_300_000) ?? 0, -99_000)
})

it("does not tell it where the id says nothing of the time", () => {
  assert.isUndefined(millisFrom(undefined, retry.next))
  assert.isUndefined(millisFrom("evt_short", retry.next))
})
