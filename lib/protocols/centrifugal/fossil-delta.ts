/**
 * Patches in the format of Fossil (fossil-scm.org/home/doc/tip/www/delta_format.wiki), which SDKs decode. The package
 * `fossil-delta` makes them, too. This one cuts only between characters, so that a patch of text is text, and its work
 * is bounded: a client chooses what it publishes.
 */

/** Bytes of a block. Only what has a whole block of the base in common with it is copied. */
const BLOCK = 16
/** Blocks with the same hash that are compared at most. */
const MAX_TRIES = 8
/** Larger data is not patched: a patch is made between two turns of the event loop. */
export const MAX_BYTES = 65_536
/** Factor of the rolling hash, odd, and its power for the byte that leaves the window. */
const FACTOR = 0x01000193
const LEAVING = Array.from({ length: BLOCK - 1 }).reduce<number>(power => Math.imul(power, FACTOR), 1)

const DIGITS = Buffer.from('0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~')
const NEWLINE = 0x0A
const COLON = 0x3A
const AT = 0x40
const COMMA = 0x2C
const SEMICOLON = 0x3B
/** Digits of the largest number (32 bits), and a character after it. */
const MAX_NUMBER = 7

/** By hash: the first block of the base that has it, plus 1. By block: the next one with that hash, plus 1. */
const heads = new Uint16Array(MAX_BYTES / BLOCK * 2)
const chains = new Uint16Array(MAX_BYTES / BLOCK)
const output = Buffer.allocUnsafe(MAX_BYTES)

/** Returns what makes `target` of `base`; undefined if it would not be smaller, or if one of them is too large. */
export function createDelta (base: Buffer, target: Buffer): Buffer | undefined {
  const { length } = target
  if (length > MAX_BYTES || base.length > MAX_BYTES) return undefined
  const shift = indexBase(base)
  let at = writeNumber(0, length, NEWLINE)
  let done = 0
  while (done < length) {
    const start = findCopy(base, target, done, shift)
    const literal = start - done
    if (at + literal + 4 * MAX_NUMBER > length) return undefined
    if (literal > 0) {
      at = writeNumber(at, literal, COLON)
      at += target.copy(output, at, done, start)
    }
    if (start < length) {
      at = writeNumber(writeNumber(at, copyLength, AT), copyFrom, COMMA)
      done = start + copyLength
    } else {
      done = length
    }
  }
  at = writeNumber(at, checksum(target), SEMICOLON)
  return at < length ? Buffer.from(output.subarray(0, at)) : undefined
}

/** Enters the blocks of the base. Returns by how many bits a hash is shifted to give an index. */
function indexBase (base: Buffer): number {
  const blocks = Math.floor(base.length / BLOCK)
  const bits = Math.max(1, 32 - Math.clz32(blocks))
  heads.fill(0, 0, 1 << bits)
  for (let block = blocks - 1; block >= 0; block--) {
    const index = hashAt(base, block * BLOCK) >>> (32 - bits)
    chains[block] = heads[index]!
    heads[index] = block + 1
  }
  return 32 - bits
}

/** What `findCopy` found. */
let copyFrom = 0
let copyLength = 0

/** Returns where, from `done` on, a part of the base begins in the target. The end of the target: nowhere. */
function findCopy (base: Buffer, target: Buffer, done: number, shift: number): number {
  const last = target.length - BLOCK
  if (done > last) return target.length
  let hash = hashAt(target, done)
  for (let i = done; ; i++) {
    let best = 0
    let bestAt = 0
    for (let next = heads[hash >>> shift]!, tries = MAX_TRIES; next > 0 && tries > 0; next = chains[next - 1]!, tries--) {
      const block = (next - 1) * BLOCK
      let back = 0
      while (i - back > done && block - back > 0 && target[i - back - 1] === base[block - back - 1]) back++
      let ahead = 0
      while (i + ahead < target.length && block + ahead < base.length && target[i + ahead] === base[block + ahead]) ahead++
      if (back + ahead <= best) continue
      const start = characterAfter(target, i - back)
      const length = characterBefore(target, i + ahead) - start
      if (length < BLOCK || length <= best) continue
      best = length
      bestAt = start
      copyFrom = block + start - i
    }
    if (best > 0) {
      copyLength = best
      return bestAt
    }
    if (i === last) return target.length
    hash = Math.imul(hash - Math.imul(target[i]!, LEAVING), FACTOR) + target[i + BLOCK]! | 0
  }
}

function hashAt (data: Buffer, from: number): number {
  let hash = 0
  for (let i = from; i < from + BLOCK; i++) hash = Math.imul(hash, FACTOR) + data[i]! | 0
  return hash
}

/** Bytes of a character after its first one, at most. More of them in a row are no UTF-8. */
const MAX_CONTINUATION = 3

/** The first place at or after this one that is not within a character. */
function characterAfter (data: Buffer, at: number): number {
  let place = at
  while (place < data.length && isWithin(data[place]!)) if (++place > at + MAX_CONTINUATION) return at
  return place
}

function characterBefore (data: Buffer, at: number): number {
  let place = at
  while (place < data.length && isWithin(data[place]!)) if (--place < at - MAX_CONTINUATION) return at
  return place
}

/** True for the second and later bytes of a character in UTF-8 (RFC 3629). */
function isWithin (byte: number): boolean {
  return (byte & 0xC0) === 0x80
}

function writeNumber (at: number, number: number, end: number): number {
  let place = at
  let shift = 0
  while (shift < 30 && number >>> shift + 6 > 0) shift += 6
  for (; shift >= 0; shift -= 6) output[place++] = DIGITS[number >>> shift & 63]!
  output[place++] = end
  return place
}

/** The sum of the data as 32-bit numbers, the first byte of each the highest. */
function checksum (data: Buffer): number {
  let sum = 0
  const whole = data.length - data.length % 4
  for (let i = 0; i < whole; i += 4) sum = sum + (data[i]! << 24 | data[i + 1]! << 16 | data[i + 2]! << 8 | data[i + 3]!) | 0
  for (let i = whole; i < data.length; i++) sum = sum + (data[i]! << 24 - 8 * (i - whole)) | 0
  return sum >>> 0
}
