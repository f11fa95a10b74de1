import t from 'tap'
import { compileFilter } from '../../lib/model/tags-filter.ts'
import type { FilterNode } from '../../lib/model/tags-filter.ts'
import { newPublication } from '../../lib/model/publication.ts'

function matches (filter: FilterNode, tags?: Record<string, string>): boolean {
  const publication = newPublication('i', { kind: 'json', payload: Buffer.from('1') })
  return compileFilter(filter).matches({ ...publication, ...(tags !== undefined && { tags }) })
}

/** Why a filter is refused; '' if it is taken. */
function refusal (filter: FilterNode): string {
  try {
    compileFilter(filter)
    return ''
  } catch (error) {
    const { reply } = error as { reply: { code: number, message: string } }
    return reply.code === 107 ? reply.message : String(error)
  }
}

const leaf = (cmp: string, value?: string | string[], key = 'k'): FilterNode => {
  return { key, cmp, ...(typeof value === 'string' && { val: value }), ...(Array.isArray(value) && { vals: value }) }
}

t.test('each comparison says what it says in the reference, also where the tag is missing or empty', async (t) => {
  // The tag `k` in the columns: missing, empty, and with a value.
  const rows: Array<[filter: FilterNode, missing: boolean, empty: boolean, values: Record<string, boolean>]> = [
    [leaf('eq', 'a'), false, false, { a: true, A: false, ab: false }],
    [leaf('neq', 'a'), true, true, { a: false, A: true, ab: true }],
    [leaf('in', ['a', 'b']), false, false, { a: true, b: true, c: false }],
    [leaf('in', ['a', '']), true, true, { a: true, c: false }],
    [leaf('nin', ['a', 'b']), true, true, { a: false, b: false, c: true }],
    [leaf('nin', ['a', '']), false, false, { a: false, c: true }],
    [leaf('ex'), false, true, { a: true }],
    [leaf('nex'), true, false, { a: false }],
    [leaf('sw', 'ab'), false, false, { ab: true, abc: true, cab: false }],
    [leaf('ew', 'ab'), false, false, { ab: true, abc: false, cab: true }],
    [leaf('ct', 'ab'), false, false, { ab: true, cabc: true, ba: false }],
    [leaf('lt', '10'), false, false, { 9: true, 10: false, 9.99: true, '-11': true, '1e0': false, abc: false, ' 9': false }],
    [leaf('lte', '10'), false, false, { 9: true, '10.0': true, '+10': true, 10.01: false }],
    [leaf('gt', '-1.5'), false, false, { '-1.5': false, '-1.49': true, '-2': false, 0: true }],
    [leaf('gte', '0.1'), false, false, { '0.1000': true, '0.0999999999999999999': false, '.1': false, '1.': false, NaN: false, Infinity: false }],
    [leaf('gt', '9007199254740992'), false, false, { '9007199254740993': true, '09007199254740992': false, '9007199254740992.0000000000000000001': true }],
    [leaf('gt', 'ten'), false, false, { 11: false, ten: false, eleven: false }]
  ]
  for (const [filter, missing, empty, values] of rows) {
    const name = JSON.stringify(filter)
    t.equal(matches(filter, {}), missing, `${name}: missing`)
    t.equal(matches(filter), missing, `${name}: no tags at all`)
    t.equal(matches(filter, { k: '' }), empty, `${name}: empty`)
    for (const [value, expected] of Object.entries(values)) t.equal(matches(filter, { k: value }), expected, `${name}: ${value}`)
  }
})

t.test('nodes are joined by and, or and not', async (t) => {
  const both: FilterNode = { op: 'and', nodes: [leaf('eq', '1', 'a'), leaf('eq', '1', 'b')] }
  const either: FilterNode = { op: 'or', nodes: both.nodes! }
  t.strictSame([matches(both, { a: '1' }), matches(both, { a: '1', b: '1' })], [false, true])
  t.strictSame([matches(either, { a: '1' }), matches(either, { c: '1' })], [true, false])
  t.strictSame([matches({ op: 'not', nodes: [either] }, { b: '1' }), matches({ op: 'not', nodes: [either] })], [false, true])
})

t.test('a tag that is named like a member of objects is a tag like any other', async (t) => {
  for (const key of ['constructor', '__proto__', 'toString']) {
    t.equal(matches(leaf('ex', undefined, key), {}), false)
    t.equal(matches(leaf('neq', 'x', key), {}), true)
    t.equal(matches(leaf('ex', undefined, key), JSON.parse(`{ "${key}": "1" }`)), true)
  }
})

t.test('what the reference refuses is refused, with the reason', async (t) => {
  const deep = (levels: number): FilterNode => levels === 1 ? leaf('ex') : { op: 'not', nodes: [deep(levels - 1)] }
  const wide = (nodes: number): FilterNode => ({ op: 'or', nodes: Array.from({ length: nodes - 1 }, () => leaf('ex')) })
  const refused: Array<[filter: FilterNode, reason: RegExp | '']> = [
    [{}, /cmp .* must be one of eq, neq, .*, nex$/],
    [{ op: 'xor', nodes: [leaf('ex')] }, /op .* must be and, or, not, or empty/],
    [{ key: 'k', cmp: 'like', val: 'a' }, /cmp .* must be one of/],
    [{ key: 'k', cmp: 'constructor', val: 'a' }, /cmp .* must be one of/],
    ...['eq', 'neq', 'sw', 'ew', 'ct', 'lt', 'lte', 'gt', 'gte'].flatMap((cmp): Array<[FilterNode, RegExp | '']> => [
      [{ key: 'k', cmp }, /needs val, and no vals/],
      [{ key: 'k', cmp, val: '' }, /needs val, and no vals/],
      [{ key: 'k', cmp, val: '1', vals: ['1'] }, /needs val, and no vals/],
      [{ cmp, val: '1' }, /needs a key/],
      [{ key: 'k', cmp, val: '1', vals: [] }, '']
    ]),
    ...['in', 'nin'].flatMap((cmp): Array<[FilterNode, RegExp | '']> => [
      [{ key: 'k', cmp }, /needs vals, and no val/],
      [{ key: 'k', cmp, val: 'a', vals: ['a'] }, /needs vals, and no val/],
      [{ cmp, vals: ['a'] }, /needs a key/],
      [{ key: 'k', cmp, vals: [''] }, '']
    ]),
    ...['ex', 'nex'].flatMap((cmp): Array<[FilterNode, RegExp | '']> => [
      [{ key: 'k', cmp, val: 'a' }, /takes neither val nor vals/],
      [{ key: 'k', cmp, vals: ['a'] }, /takes neither val nor vals/],
      [{ cmp }, '']
    ]),
    [{ op: 'and' }, /op and .* needs nodes/],
    [{ op: 'or', nodes: [] }, /op or .* needs nodes/],
    [{ op: 'not' }, /op not .* needs exactly one node/],
    [{ op: 'not', nodes: [leaf('ex'), leaf('ex')] }, /op not .* needs exactly one node/],
    [{ op: 'and', nodes: [leaf('ex'), {}] }, /cmp .* must be one of/],
    [deep(8), ''],
    [deep(9), /at most 8 levels/],
    [wide(64), ''],
    [wide(65), /at most 64 nodes/],
    [leaf('eq', 'x'.repeat(4_093)), ''],
    [leaf('eq', 'x'.repeat(4_094)), /at most 4096 bytes/],
    [leaf('eq', 'é'.repeat(2_047)), /at most 4096 bytes/],
    [leaf('in', Array.from({ length: 5_000 }, () => '')), /at most 4096 bytes/]
  ]
  for (const [filter, reason] of refused) {
    const name = JSON.stringify(filter).slice(0, 100)
    if (reason === '') t.equal(refusal(filter), '', `taken: ${name}`)
    else t.match(refusal(filter), new RegExp(`^bad request: .*${reason.source}`), name)
  }
})

t.test('equal filters have the same id, whatever is left out and in which order values come', async (t) => {
  const same: FilterNode[] = [
    { key: 'k', cmp: 'in', vals: ['a', 'b'] },
    { vals: ['b', 'a', 'a'], cmp: 'in', key: 'k', op: '', val: '' },
    { key: 'k', cmp: 'in', vals: ['a', 'b'], nodes: [{ cmp: 'ex', key: 'ignored' }] }
  ]
  t.equal(new Set(same.map(filter => compileFilter(filter).id)).size, 1)
  const different: FilterNode[] = [
    leaf('in', ['a,b']), leaf('in', ['a', 'b']), leaf('nin', ['a', 'b']), leaf('eq', 'a'), leaf('eq', 'a', 'l'), leaf('ex'),
    { op: 'not', nodes: [leaf('ex')] }, { op: 'and', nodes: [leaf('ex')] }, { op: 'or', nodes: [leaf('ex')] },
    { op: 'and', nodes: [leaf('ex'), leaf('ex')] }, { op: 'and', nodes: [{ op: 'and', nodes: [leaf('ex')] }, leaf('ex')] }
  ]
  t.equal(new Set(different.map(filter => compileFilter(filter).id)).size, different.length)
})
