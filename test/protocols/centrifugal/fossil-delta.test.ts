import { Centrifuge } from 'centrifuge/build/protobuf'
import { isUtf8 } from 'node:buffer'
import t from 'tap'
import { createDelta, MAX_BYTES } from '../../../lib/protocols/centrifugal/fossil-delta.ts'

/** What an SDK makes of a patch. It checks the length and the checksum. */
function applied (base: Buffer, data: Buffer): Buffer {
  const { _codec: codec } = new Centrifuge('ws://127.0.0.1') as unknown as {
    _codec: { applyDeltaIfNeeded (publication: object, base: Buffer): { newData: Uint8Array } }
  }
  return Buffer.from(codec.applyDeltaIfNeeded({ delta: true, data }, base).newData)
}

function check (base: Buffer, target: Buffer): Buffer | undefined {
  const delta = createDelta(base, target)
  if (delta === undefined) return undefined
  if (!applied(base, delta).equals(target)) throw new Error(`not the same: ${base.toString('hex')} ${target.toString('hex')}`)
  if (delta.length >= target.length) throw new Error('larger than the data')
  return delta
}

/** Whole numbers below a limit, the same ones for a seed. */
let state = 11
function random (limit: number): number {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
  return Math.floor(state / 2 ** 32 * limit)
}

function bytes (length: number, values: number): Buffer {
  return Buffer.from(Array.from({ length }, () => random(values)))
}

t.test('the format is that of Fossil', async (t) => {
  const base = Buffer.from('the quick brown fox jumps over the lazy dog, and so on and so on and so on')
  const target = Buffer.from('the quick brown fox jumps over the lazy cat, and so on and so on and so on')
  t.match(check(base, target)?.toString(), /^1A\nd@0,3:catV@g,[\w~]+;$/)
  t.equal(check(base, base)?.toString().slice(0, 8), '1A\n1A@0,')
})

t.test('where a patch is not smaller, there is none', async (t) => {
  for (const [base, target] of [['', ''], ['', 'x'], ['x', ''], ['a', 'a'], ['a'.repeat(20), 'a'.repeat(20)], ['a'.repeat(500), 'b'.repeat(500)]] as const) {
    t.equal(createDelta(Buffer.from(base), Buffer.from(target)), undefined)
  }
  t.equal(createDelta(bytes(2_000, 256), bytes(2_000, 256)), undefined)
})

t.test('what is too large is not patched, up to there it is', async (t) => {
  const largest = Buffer.alloc(MAX_BYTES, 'x')
  t.equal(check(largest, largest)?.length, 16)
  t.equal(createDelta(largest, Buffer.alloc(MAX_BYTES + 1, 'x')), undefined)
  t.equal(createDelta(Buffer.alloc(MAX_BYTES + 1, 'x'), largest), undefined)
})

t.test('data that is made to take long does not', async (t) => {
  const same = Buffer.alloc(MAX_BYTES, 0x80)
  t.ok(check(same, same)!.length < 100, 'no character ends in it')
  const spotted = Buffer.from(same)
  for (let i = 0; i < MAX_BYTES; i += 17) spotted[i] = i % 251
  check(same, spotted)
  check(spotted, same)
  t.ok(check(spotted, spotted)!.length < 100)
})

t.test('any bytes come back as they were', async (t) => {
  let patches = 0
  for (let round = 0; round < 2_000; round++) {
    const base = bytes(random(600), 1 + random(256))
    const parts: Buffer[] = []
    for (let i = random(5); i >= 0; i--) {
      const from = random(base.length + 1)
      parts.push(base.subarray(from, from + random(300)), bytes(random(20), 256))
    }
    if (check(base, Buffer.concat(parts)) !== undefined) patches++
  }
  t.ok(patches > 500, `${patches} patches`)
})

t.test('a patch of text is text, wherever it is cut', async (t) => {
  const characters = ['é', 'è', '日', '本', 'x', '😀', '😁', '"', 'ñ']
  let patches = 0
  for (let round = 0; round < 2_000; round++) {
    const text = Array.from({ length: random(200) }, () => characters[random(characters.length)]!)
    const next = text.slice()
    for (let i = random(4); i >= 0; i--) next.splice(random(next.length + 1), random(3), characters[random(characters.length)]!)
    const delta = check(Buffer.from(text.join('')), Buffer.from(next.join('')))
    if (delta === undefined) continue
    patches++
    if (!isUtf8(delta)) throw new Error(`not text: ${delta.toString('hex')}`)
  }
  t.ok(patches > 1_000, `${patches} patches`)
})
