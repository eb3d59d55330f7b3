/**
 * What both lines make of a scripted failure of the provider.
 *
 * @since 0.1.0
 */
import type { Failure as ScriptedFailure } from "../model/ModelScript.ts"

/**
 * The provider's message for a scripted failure.
 *
 * @category getters
 * @since 0.1.0
 */
export const messageOf = ({ fail, message }: ScriptedFailure): string => message ?? `scripted failure ${fail}`

/**
 * Whether the server retries the call.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isRetryable = ({ fail }: ScriptedFailure): boolean =>
  fail === 408 || fail === 409 || fail === 429 || fail >= 500

/**
 * The wait before the retry: the provider's value, else 2 s, 4 s, 8 s, at most 30 s.
 *
 * @category getters
 * @since 0.1.0
 */
export const retryMillis = (headers: Readonly<Record<string, string>> | undefined, attempt: number): number => {
  const millis = Number(headers?.["retry-after-ms"])
  if (Number.isFinite(millis)) return millis
  const seconds = Number(headers?.["retry-after"])
  return Number.isFinite(seconds) ? seconds * 1000 : Math.min(2000 * 2 ** (attempt - 1), 30_000)
}
