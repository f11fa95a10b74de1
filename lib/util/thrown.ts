import { inspect, types } from 'node:util'

/**
 * Returns what app code has thrown if it is an error that can be looked at, or a primitive value; else an error that
 * describes it. App code may throw anything, and a Proxy or a getter can throw again while it is looked at.
 */
export function readable (thrown: unknown): unknown {
  if (Object(thrown) !== thrown || isReadableError(thrown as object)) return thrown
  return new Error(describe(thrown))
}

/** Describes what app code has thrown, for the text of a log entry. Never throws. */
export function describe (thrown: unknown): string {
  try {
    const { message, name } = Object(thrown) as { message?: unknown, name?: unknown }
    if (message === '') return `${String(name)} without a message`
    if (message !== undefined) return String(message)
    if (typeof thrown === 'string' && thrown !== '') return thrown
    return Object(thrown) === thrown ? inspect(thrown, { depth: 0 }) : `${inspect(thrown)} was thrown`
  } catch {
    return 'what was thrown cannot be read'
  }
}

function isReadableError (thrown: object): boolean {
  try {
    return !hasTraps(thrown) && thrown instanceof Error && hasReadableText(thrown) && hasReadableText(thrown)
  } catch {
    return false // a getter has thrown; the second look is for one that throws only then
  }
}

/** True if looking at its fields or its class may run code of a Proxy. */
function hasTraps (thrown: object): boolean {
  for (let one: object | null = thrown; one !== null; one = Object.getPrototypeOf(one)) {
    if (types.isProxy(one)) return true
  }
  return false
}

function hasReadableText ({ code, message }: Error & { code?: unknown }): boolean {
  return typeof message === 'string' && typeof code !== 'symbol'
}
