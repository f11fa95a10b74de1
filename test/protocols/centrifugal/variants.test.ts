import t from 'tap'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { newPublication } from '../../../lib/model/publication.ts'
import { compileFilter } from '../../../lib/model/tags-filter.ts'
import { SdkEncoder } from '../../../lib/protocols/centrifugal/encoder.ts'
import { filteredEncoder } from '../../../lib/protocols/centrifugal/filter.ts'
import { jsonCodec } from '../../../lib/protocols/centrifugal/json-codec.ts'
import { Variants } from '../../../lib/protocols/centrifugal/variants.ts'
import { until } from '../../helpers/until.ts'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

t.test('a variant is one object while somebody has it, and leaves nothing behind', async (t) => {
  const variants = new Variants<{ name: string }>()
  const kept = variants.get('kept', () => ({ name: 'kept' }))
  t.equal(variants.get('kept', () => ({ name: 'another' })), kept)
  for (let i = 0; i < 1_000; i++) variants.get(`left ${i}`, () => ({ name: 'left' }))
  await until(() => {
    collectGarbage()
    return variants.size === 1
  }, 'the others are gone')
  t.equal(variants.get('kept', () => ({ name: 'another' })), kept)
})

t.test('a variant that is made again is not taken away with the one before', async (t) => {
  const variants = new Variants<{ name: string }>()
  const last: Array<{ name: string }> = []
  for (let i = 0; i < 100; i++) {
    variants.get('same', () => ({ name: 'left' }))
    collectGarbage()
    last[0] = variants.get('same', () => ({ name: 'made again' }))
    await new Promise(setImmediate)
    t.equal(variants.get('same', () => ({ name: 'another' })), last[0])
    last.length = 0
  }
})

t.test('a publication is encoded once for all filters of a channel that it matches', async (t) => {
  const base = new SdkEncoder(jsonCodec)
  const encoderOf = (channel: string, val: string) => filteredEncoder(base, channel, compileFilter({ key: 'k', cmp: 'sw', val }))
  const publication = { ...newPublication('i', { kind: 'json', payload: Buffer.from('1') }), tags: { k: 'abc' } }
  const [a, ab, x] = ['a', 'ab', 'x'].map(val => encoderOf('one', val))
  t.equal(encoderOf('one', 'a'), a)
  t.not(encoderOf('two', 'a'), a)
  t.ok(a!.publication('one', publication))
  t.equal(ab!.publication('one', publication), a!.publication('one', publication))
  t.equal(x!.publication('one', publication), undefined)
  t.not(encoderOf('two', 'a').publication('two', publication), a!.publication('one', publication), 'another channel has its own name in it')
})
