import { REDIS_FAILURES } from '../model/errors.ts'
import type { LogEvent } from './log-events.ts'
import { RecentTexts } from '../util/recent-texts.ts'
import { describe } from '../util/thrown.ts'

/** Counts the failures before this one that had the same cause and no entry. */
export interface Repeats {
  readonly omitted?: number
}

/** Lets failures have an entry once a minute for each cause. A Redis that refuses commands fails those of everybody. */
export class RepeatedFailures {
  /** Each event has its own, so that many causes of one cannot hide another. */
  readonly #causes = new Map<LogEvent, RecentTexts>()

  /** Returns what the entry says of those left out. undefined: it is left out itself. */
  take (event: LogEvent, error: unknown): Repeats | undefined {
    const causes = this.#causes.get(event) ?? new RecentTexts()
    this.#causes.set(event, causes)
    const omitted = causes.take(causeOf(error), Date.now())
    if (omitted === undefined) return undefined
    return omitted > 0 ? { omitted } : {}
  }

  /** The same if Redis has failed. Each failure of the app's own code has an entry. */
  takeRedis (event: LogEvent, error: unknown): Repeats | undefined {
    return isRedisFailure(error) ? this.take(event, error) : {}
  }
}

function isRedisFailure (error: unknown): error is Error & { code: string } {
  return REDIS_FAILURES.has((error as { code?: unknown } | undefined | null)?.code)
}

/** The message of our error is the same for all that Redis replies. Its cause tells them apart. */
function causeOf (error: unknown): string {
  return isRedisFailure(error) ? `${error.code} ${describe(error.cause)}` : describe(error)
}
