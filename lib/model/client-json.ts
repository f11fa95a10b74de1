import secureJson from 'secure-json-parse'

/** Levels of data that every function can follow. The call stack ends some thousand levels down. */
export const MAX_DEPTH = 1_000

/**
 * True if JSON of a client may have a key that changes the prototype of what it is merged into. "proto" is in
 * `__proto__` and in `constructor.prototype`; its letters can only be written otherwise as \u00….
 */
export function isSuspect (text: string): boolean {
  return text.includes('proto') || text.includes('\\u00')
}

/** Refuses such a key, as Fastify does in bodies. @throws SyntaxError */
export function checkKeys (value: unknown): void {
  if (typeof value === 'object' && value !== null) secureJson.scan(value)
}
