import * as Ordered from "#reply/Ordered"
import { assert, it } from "@effect/vitest"
import * as Schema from "effect/Schema"

interface Item {
  readonly id: number
  readonly text: string
}
const empty = Ordered.fromIterable(({ id }: Item) => id, [])
const item = (id: number, text = "") => ({ id, text })

const Change = Schema.Struct({
  id: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 9 })),
  text: Schema.optionalKey(Schema.String)
})
const changed = (list: Ordered.Ordered<number, Item>, { id, text }: typeof Change.Type) =>
  text === undefined ? Ordered.remove(list, id) : Ordered.set(list, item(id, text))

/** As many changes as a list of this size has chunks, so that some happen at the edges of chunks. */
const filled = (count: number) => Ordered.fromIterable(empty.keyOf, Array.from({ length: count }, (_, id) => item(id)))

it.prop("agrees with a map, and never changes an earlier version", {
  changes: Schema.Array(Change),
  size: Schema.Literals([0, 5, 127, 128, 129])
}, ({ changes, size }) => {
  const first = filled(size)
  const map = new Map(Ordered.values(first).map((item) => [item.id, item]))
  let list = first
  for (const change of changes) {
    const before = list
    const were = Ordered.values(before)
    list = changed(list, change)
    if (change.text === undefined) map.delete(change.id)
    else map.set(change.id, item(change.id, change.text))
    assert.deepStrictEqual(Ordered.values(list), [...map.values()])
    assert.strictEqual(Ordered.size(list), map.size)
    assert.deepStrictEqual(Ordered.get(list, change.id), map.get(change.id))
    assert.deepStrictEqual(Ordered.values(before), were)
    const known = new Set(were)
    assert.deepStrictEqual(Ordered.news(list, before), Ordered.values(list).filter((item) => !known.has(item)))
    const places = Ordered.values(list).map(({ id }) => Ordered.placeOf(list, id) ?? -1)
    assert.deepStrictEqual(places, places.toSorted((left, right) => left - right))
  }
  assert.deepStrictEqual(Ordered.findLast(list, () => true), Ordered.values(list).at(-1))
  assert.deepStrictEqual(
    Ordered.values(Ordered.map(list, (item) => (item.id % 2 === 0 ? item : undefined))),
    Ordered.values(list).filter(({ id }) => id % 2 === 0)
  )
})

it("returns itself if nothing changes", () => {
  const list = filled(200)
  assert.strictEqual(Ordered.remove(list, 200), list)
  assert.strictEqual(Ordered.map(list, (item) => item), list)
  const known = Ordered.get(list, 7)
  assert.isDefined(known)
  assert.strictEqual(known && Ordered.set(list, known), list)
})
