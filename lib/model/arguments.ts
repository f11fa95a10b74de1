import { inspect } from 'node:util'
import { InvalidArgumentError } from './errors.ts'
import { likelyMeant } from './spelling.ts'

/** Seconds, in the year 5138. A larger Unix time is one in milliseconds. */
const MAX_UNIX_TIME = 1e11

/**
 * Checks that an object from the app has no unknown fields: each is a misspelt one, which would be ignored. `what` is
 * the object's name in the error. Allocates nothing unless it throws: the options of a publish are checked here.
 * @throws FST_CRWS_INVALID_ARGUMENT
 */
export function checkFields (what: string, given: object, known: readonly string[]): void {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw new InvalidArgumentError(what, inspect(given, { depth: 0 }), `an object with ${known.join(', ')}`)
  }
  for (const field in given) {
    if (!known.includes(field)) throw unknownFields(what, given, known)
  }
}

function unknownFields (what: string, given: object, known: readonly string[]): Error {
  const unknown: string[] = []
  for (const field in given) {
    if (known.includes(field)) continue
    const meant = likelyMeant(field, known)
    unknown.push(`"${field}"${meant === undefined ? '' : ` (did you mean \`${meant}\`?)`}`)
  }
  const got = `the unknown field${unknown.length === 1 ? '' : 's'} ${unknown.join(', ')}`
  return new InvalidArgumentError(what, got, `an object with ${known.join(', ')}`)
}

/** @throws FST_CRWS_INVALID_ARGUMENT unless it is undefined or a Unix time in seconds. */
export function checkUnixTime (what: string, value: unknown): void {
  if (value === undefined || (Number.isFinite(value) && value as number <= MAX_UNIX_TIME)) return
  const allowed = 'a Unix time in seconds'
  if (!Number.isFinite(value)) throw new InvalidArgumentError(what, inspect(value), allowed)
  throw new InvalidArgumentError(what, `${value}, which looks like milliseconds`, `${allowed}: divide it by 1000`)
}
