import { fields, invalid, orLiteral } from './checks.ts'
import type { Check } from './checks.ts'

/** How messages are compressed. */
export interface CompressionOptions {
  /**
   * Messages with fewer bytes are not compressed.
   * @default 128
   */
  minBytes?: number | undefined
  /**
   * Level of zlib, 1 (fast) to 9 (small). Messages of more than 64 KiB take level 1, as nothing else runs meanwhile.
   * @default 6
   */
  level?: number | undefined
  /**
   * Memory of zlib while it compresses a message, 1 to 9: 2 ** (memLevel + 9) bytes beside the 128 KiB of its window.
   * None is kept.
   * @default 8
   */
  memLevel?: number | undefined
}

const between = (min: number, max: number): Check<number> => (value, name) => {
  if (Number.isSafeInteger(value) && value as number >= min && value as number <= max) return value as number
  throw invalid(name, value, max === Infinity ? `a whole number of at least ${min}` : `a whole number from ${min} to ${max}`)
}

const defaults = Object.freeze({ minBytes: 128, level: 6, memLevel: 8 })
const settings = fields({ minBytes: between(0, Infinity), level: between(1, 9), memLevel: between(1, 9) }, defaults, {
  allowed: 'true, false or { minBytes?, level?, memLevel? }'
})

export type Compression = ReturnType<typeof settings>

/** Checks the option `compression`. */
export const compression = orLiteral([false], (value, name): Compression => value === true ? defaults : settings(value, name))
