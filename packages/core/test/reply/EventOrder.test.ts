import { millisFrom } from "#reply/EventOrder"
import { assert, it } from "@effect/vitest"

// 1.18.33 sent these values: a retry in two hours.
const retry = { id: "evt_2248e378b001PLsG8khBzfz5R9", next: 1_795_916_829_834 }

it("gives the time from an event to a later moment by the server's clock alone", () => {
  assert.closeTo(millisFrom(retry.id, retry.next) ?? 0, 7_200_000, 1000)
  assert.isAtMost(millisFrom(retry.id, retry.next - 7_300_000) ?? 0, -99_000)
  assert.strictEqual(millisFrom(retry.id.replace("evt", "per"), retry.next), millisFrom(retry.id, retry.next))
})

it("gives no time if the id holds none", () => {
  assert.isUndefined(millisFrom(undefined, retry.next))
  assert.isUndefined(millisFrom("evt_short", retry.next))
})
