import { inspect } from 'node:util'
import { InvalidArgumentError } from './errors.ts'

/** Fields of a session: anything that JSON can carry. A field that is set to undefined is removed. */
export type SessionFields = Record<string, unknown>

/** Milliseconds that a session lives after it was last set, unless the app says otherwise: one hour. */
export const SESSION_TTL = 3_600_000

/** State of users, shared by all instances. A field's value is a JSON string. */
export interface SessionStore {
  /** Returns the fields. The map MUST be empty if there is no session: never set, deleted or expired. */
  get (user: string): Promise<Map<string, string>>
  /** Sets fields, or removes them if undefined; keeps all others. The session MUST expire `ttl` milliseconds later. */
  set (user: string, fields: Map<string, string | undefined>, ttl: number): Promise<void>
  /** Deletes a session, if there is one. */
  delete (user: string): Promise<void>
}

/**
 * Encodes fields that the app sets.
 * @throws FST_CRWS_INVALID_ARGUMENT if they are no object, or JSON cannot carry a value.
 */
export function encodeFields (fields: SessionFields): Map<string, string | undefined> {
  if (typeof fields !== 'object' || fields === null || Array.isArray(fields)) {
    throw new InvalidArgumentError('session fields', inspect(fields), 'an object')
  }
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

/** Decodes fields that a store returned. */
export function decodeFields (fields: Map<string, string>): SessionFields {
  return Object.fromEntries(Array.from(fields, ([name, json]) => [name, JSON.parse(json)]))
}
