import { types } from 'node:util'

/**
 * Returns what app code has thrown if its type, code and text can be read; else an error that says so. App code may
 * throw anything, and a Proxy or a getter can throw again while it is looked at.
 */
export function readable (thrown: unknown): unknown {
  try {
    if (types.isProxy(thrown)) return unreadable()
    const { code, message } = Object(thrown) as { code?: unknown, message?: unknown }
    return typeof code === 'symbol' || typeof message === 'symbol' ? unreadable() : thrown
  } catch {
    return unreadable()
  }
}

/** Describes what app code has thrown, for the text of a log entry. Never throws. */
export function describe (thrown: unknown): string {
  try {
    return String((Object(thrown) as { message?: unknown }).message ?? thrown)
  } catch {
    return unreadable().message
  }
}

function unreadable (): Error {
  return new Error('what was thrown cannot be read')
}
