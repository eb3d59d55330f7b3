/**
 * Splits the bytes of an event stream into events.
 *
 * **Contract**
 *
 * Each event is one or more `data:` lines and a blank line. Lines end with LF, CRLF or CR, as in the WHATWG standard.
 * There is no SSE `id:` and no `retry:`. A read may hold many events, or a piece of one. The decoder keeps an incomplete
 * event as a list of chunks and joins them once, so that a large event costs linear time. It decodes a block of complete
 * events from UTF-8 once.
 *
 * **Not responsibilities**: what the data of an event means (`v1/Events`, `v2/Events`).
 *
 * @since 0.1.0
 */
import * as Bytes from "effect/Bytes"
import type { ServerEvent } from "../domain/TurnEvent.ts"

/**
 * Translates the data of one event; `undefined` for an event that the domain ignores.
 *
 * @category models
 * @since 0.1.0
 */
export type Decode = (data: string) => ServerEvent | ReadonlyArray<ServerEvent> | undefined

/**
 * Decodes the bytes of one connection.
 *
 * **Details**
 *
 * `push` takes one read and gives the events that it completed; an unreadable event is `Unread`. `dropped` counts the
 * events that the domain ignores: events of an unknown type, and unreadable deltas. `hasFrame` tells whether anything
 * was complete so far, even a comment. `push` throws a `RangeError` for an event of more than `maxEventBytes`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Decoder {
  readonly push: (bytes: Uint8Array) => ReadonlyArray<ServerEvent>
  readonly dropped: () => number
  readonly hasFrame: () => boolean
}

/**
 * @category constructors
 * @since 0.1.0
 */
export const makeDecoder = (decode: Decode, maxEventBytes = defaultMaxEventBytes): Decoder => {
  // The decoder removes a byte order mark itself, because it counts at the start of the stream only.
  const utf8 = new TextDecoder("utf-8", { ignoreBOM: true })
  let isFirst = true
  let pending: Array<Uint8Array> = []
  let pendingBytes = 0
  // The last two bytes of the previous reads: a blank line may begin in one read and end in the next.
  let last = newline
  let lastButOne = 0
  let dropped = 0
  let hasFrame = false

  const decodeBlock = (block: string): ReadonlyArray<ServerEvent> => {
    const events: Array<ServerEvent> = []
    let start = 0
    while (start < block.length) {
      const blank = block.indexOf("\n\n", start)
      const end = blank === -1 ? block.length : blank
      hasFrame ||= end > start
      const data = dataOf(block, start, end)
      if (data !== "") {
        const decoded = decode(data)
        if (decoded === undefined) dropped++
        else if (isList(decoded)) events.push(...decoded)
        else events.push(decoded)
      }
      start = end + 2
    }
    return events
  }

  /**
   * Finds the index behind the last blank line in `bytes`, or -1. A line ends with LF, CR or CRLF. A CR ends it at
   * once; an LF after it, perhaps in the next read, ends no other line.
   */
  const behindBlankLine = (bytes: Uint8Array): number => {
    const byteAt = (index: number) => (index >= 0 ? bytes[index] : index === -1 ? last : lastButOne)
    const before = (byte: number, at: number) => (at <= 0 ? -1 : bytes.lastIndexOf(byte, at - 1))
    let lf = before(newline, bytes.length)
    let cr = before(carriageReturn, bytes.length)
    while (lf !== -1 || cr !== -1) {
      const at = Math.max(lf, cr)
      const isPair = at === lf && byteAt(at - 1) === carriageReturn
      if (isLineEnd(byteAt(isPair ? at - 2 : at - 1))) return at + 1
      if (at === lf) lf = before(newline, at)
      else cr = before(carriageReturn, at)
    }
    return -1
  }

  return {
    dropped: () => dropped,
    hasFrame: () => hasFrame,
    push: (bytes) => {
      if (bytes.length === 0) return []
      const end = behindBlankLine(bytes)
      lastButOne = bytes.at(-2) ?? last
      last = bytes.at(-1) ?? last
      if (end === -1) {
        pendingBytes += bytes.length
        if (pendingBytes > maxEventBytes) throw new RangeError(`an event of more than ${maxEventBytes} bytes`)
        pending.push(bytes)
        return []
      }
      const complete = bytes.subarray(0, end)
      const block = pendingBytes === 0 ? complete : Bytes.concat([...pending, complete])
      // The read is a view of the socket's buffer, so the rest is copied: one event would otherwise keep 64 KB alive.
      pending = end === bytes.length ? [] : [bytes.slice(end)]
      pendingBytes = bytes.length - end
      const decoded = utf8.decode(block)
      const text = isFirst && decoded.startsWith(byteOrderMark) ? decoded.slice(1) : decoded
      isFirst = false
      return decodeBlock(text.includes("\r") ? text.replaceAll(/\r\n?/g, "\n") : text)
    }
  }
}

/**
 * The limit of one event: 64 MiB. It is far above OpenCode's events (tool outputs are cut at some 50 KB, attachments
 * are not), and bounds the memory that a broken server can take.
 *
 * @category constants
 * @since 0.1.0
 */
export const defaultMaxEventBytes = 64 * 1024 * 1024

// internal

const isList = (decoded: ServerEvent | ReadonlyArray<ServerEvent>): decoded is ReadonlyArray<ServerEvent> =>
  Array.isArray(decoded)

const newline = 10
const carriageReturn = 13
const byteOrderMark = "\uFEFF"

const isLineEnd = (byte: number | undefined): boolean => byte === newline || byte === carriageReturn

/** The data of the event between `start` and the blank line at `end` of `block`. */
const dataOf = (block: string, start: number, end: number): string =>
  // OpenCode sends one line, which is sliced out of the block without a copy.
  block.startsWith("data: ", start) && block.indexOf("\n", start) === end
    ? block.slice(start + 6, end)
    : block.slice(start, end).split("\n").filter((line) => line === "data" || line.startsWith("data:"))
      .map((line) => line.slice(line.startsWith("data: ") ? 6 : 5))
      .join("\n")
