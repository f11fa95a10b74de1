import { InvalidArgumentError } from './errors.ts'

export type SessionFields = Record<string, unknown>

/** ms that a session lives without being set again: one hour. */
export const SESSION_TTL = 3_600_000

/**
 * State of a user that every instance sees. A value is the JSON text of a field; undefined means "remove this field".
 */
export interface SessionStore {
  /** The fields; none when there is no session (never set, deleted or expired). */
  get (user: string): Promise<Map<string, string>>
  /** Sets these fields, keeps the others, and lets the session live for `ttl` ms from now. */
  set (user: string, fields: Map<string, string | undefined>, ttl: number): Promise<void>
  delete (user: string): Promise<void>
}

/** @throws FST_CRWS_INVALID_ARGUMENT for a value that JSON can not carry. */
export function encodeFields (fields: SessionFields): Map<string, string | undefined> {
  if (typeof fields !== 'object' || fields === null || Array.isArray(fields)) throw new InvalidArgumentError('session fields', String(fields), 'an object')
  return new Map(Object.entries(fields).map(([name, value]) => [name, value === undefined ? undefined : encodeField(name, value)]))
}

function encodeField (name: string, value: unknown): string {
  let why = `a ${typeof value}`
  try {
    const json = JSON.stringify(value)
    if (json !== undefined) return json
  } catch (error) {
    why = String(error)
  }
  throw new InvalidArgumentError(`session field "${name}"`, why, 'anything that JSON can carry')
}

export function decodeFields (fields: Map<string, string>): SessionFields {
  return Object.fromEntries(Array.from(fields, ([name, json]) => [name, JSON.parse(json)]))
}
