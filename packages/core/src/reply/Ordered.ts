/**
 * An immutable list with lookup by key, for the large collections of a reply.
 *
 * A change copies one chunk of the list and a path of the index instead of the whole list. Copying whole lists in a
 * turn of 20,000 parts would copy 200 million references and search as many. Values keep the order in which their keys
 * came.
 *
 * @since 0.1.0
 */
import * as HashMap from "effect/HashMap"
import * as Option from "effect/Option"

/**
 * **Details**
 *
 * `chunks` hold the values at their `places`, and `undefined` at the place of a removed value. `length` counts the
 * places.
 *
 * @category models
 * @since 0.1.0
 */
export interface Ordered<K, V> {
  readonly keyOf: (value: V) => K
  readonly places: HashMap.HashMap<K, number>
  readonly chunks: ReadonlyArray<ReadonlyArray<V | undefined>>
  readonly length: number
}

/** A list of the values; the last value with the same key counts. */
export const fromIterable = <K, V>(keyOf: (value: V) => K, values: Iterable<V>): Ordered<K, V> => {
  const byKey = new Map<K, V>()
  for (const value of values) byKey.set(keyOf(value), value)
  const all = [...byKey.values()]
  const chunks: Array<ReadonlyArray<V>> = []
  for (let start = 0; start < all.length; start += chunkLength) chunks.push(all.slice(start, start + chunkLength))
  let place = 0
  const places = HashMap.fromIterable(Array.from(byKey.keys(), (key) => [key, place++] as const))
  return { keyOf, places, chunks, length: all.length }
}

/** The number of values. */
export const size = <K, V>({ places }: Ordered<K, V>): number => HashMap.size(places)

/** Whether there is a value with the key. */
export const has = <K, V>(self: Ordered<K, V>, key: K): boolean => HashMap.has(self.places, key)

/** The value with the key. */
export const get = <K, V>(self: Ordered<K, V>, key: K): V | undefined => {
  const place = placeOf(self, key)
  return place === undefined ? undefined : at(self, place)
}

/** A number that sorts the key by its place in this version of the list. */
export const placeOf = <K, V>({ places }: Ordered<K, V>, key: K): number | undefined =>
  Option.getOrUndefined(HashMap.get(places, key))

/** Replaces the value with the same key at its place, or appends the value. */
export const set = <K, V>(self: Ordered<K, V>, value: V): Ordered<K, V> => {
  const { chunks, keyOf, length } = self
  const key = keyOf(value)
  const place = placeOf(self, key)
  if (place !== undefined) {
    return at(self, place) === value ? self : { keyOf, places: self.places, chunks: put(chunks, place, value), length }
  }
  return {
    keyOf,
    places: HashMap.set(self.places, key, length),
    chunks: length % chunkLength === 0 ? [...chunks, [value]] : put(chunks, length, value),
    length: length + 1
  }
}

/** Removes the value with the key; returns `self` if there is none. */
export const remove = <K, V>(self: Ordered<K, V>, key: K): Ordered<K, V> => {
  const { chunks, keyOf, length } = self
  const place = placeOf(self, key)
  if (place === undefined) return self
  const places = HashMap.remove(self.places, key)
  const left = { keyOf, places, chunks: put(chunks, place, undefined), length }
  // A rebuild skips every removed place once, so it costs no more than the removals did.
  return HashMap.size(places) * 2 < length ? fromIterable(keyOf, values(left)) : left
}

/** The values in their order. */
export const values = <K, V>({ chunks }: Ordered<K, V>): ReadonlyArray<V> =>
  chunks.flatMap((chunk) => chunk.filter((value) => value !== undefined))

/** The last value that satisfies the predicate. */
export const findLast = <K, V>(
  { chunks }: Ordered<K, V>,
  isMeant: (value: V) => boolean
): V | undefined => {
  for (let index = chunks.length - 1; index >= 0; index--) {
    const found = chunks[index]?.findLast((value) => value !== undefined && isMeant(value))
    if (found !== undefined) return found
  }
  return undefined
}

/** Maps the values and drops those that become `undefined`; returns `self` if none changed. */
export const map = <K, V>(self: Ordered<K, V>, f: (value: V) => V | undefined): Ordered<K, V> => {
  const before = values(self)
  const after: Array<V> = []
  for (const value of before) {
    const mapped = f(value)
    if (mapped !== undefined) after.push(mapped)
  }
  return after.length === before.length && after.every((value, place) => value === before[place])
    ? self
    : fromIterable(self.keyOf, after)
}

/**
 * The values that an earlier version of the list lacks or holds differently. The cost grows with the differences, not
 * with the list.
 */
export const news = <K, V>(self: Ordered<K, V>, before: Ordered<K, V>): ReadonlyArray<V> => {
  const all: Array<V> = []
  for (const [index, chunk] of self.chunks.entries()) {
    const old = before.chunks[index]
    if (chunk === old) continue
    for (const [place, value] of chunk.entries()) {
      if (value !== undefined && value !== old?.[place] && value !== get(before, self.keyOf(value))) all.push(value)
    }
  }
  return all
}

// internal

/** A list of 20,000 has 157 chunks: a change copies 285 references. */
const chunkLength = 128

const at = <K, V>({ chunks }: Ordered<K, V>, place: number): V | undefined =>
  chunks[Math.floor(place / chunkLength)]?.[place % chunkLength]

const put = <V>(
  chunks: ReadonlyArray<ReadonlyArray<V | undefined>>,
  place: number,
  value: V | undefined
): ReadonlyArray<ReadonlyArray<V | undefined>> => {
  const index = Math.floor(place / chunkLength)
  const chunk = [...chunks[index] ?? []]
  chunk[place % chunkLength] = value
  return chunks.with(index, chunk)
}
