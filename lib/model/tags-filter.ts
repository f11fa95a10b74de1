import { clientErrors, ReplyError } from './error-replies.ts'
import type { Publication } from './publication.ts'

/** A node of a tags filter as clients send it (centrifugal.dev/docs/server/publication_filtering). */
export interface FilterNode {
  /** 'and', 'or' or 'not' of `nodes`; without it the node is a leaf, which looks at one tag. */
  op?: string
  key?: string
  cmp?: string
  val?: string
  vals?: string[]
  nodes?: FilterNode[]
}

/** A filter that was checked. */
export interface TagsFilter {
  /** The same for all filters that are equal. */
  readonly id: string
  /** True for a publication that the subscriber wants. */
  readonly matches: (publication: Publication) => boolean
}

type Tags = Readonly<Record<string, string>>
type Test = (tags: Tags) => boolean
/** What is checked and counted of one filter. */
interface Size { nodes: number, bytes: number }

/** Levels of a filter. */
export const MAX_FILTER_DEPTH = 8
/** Nodes of a filter: each may be tested for every publication. */
const MAX_FILTER_NODES = 64
/** Bytes of the keys and values of a filter, and one for each of them. */
const MAX_FILTER_BYTES = 4_096

/** Tests of one tag against one value. The tag is there. */
const ofValue: Readonly<Record<string, (value: string) => (tag: string) => boolean>> = {
  eq: value => tag => tag === value,
  neq: value => tag => tag !== value,
  sw: value => tag => tag.startsWith(value),
  ew: value => tag => tag.endsWith(value),
  ct: value => tag => tag.includes(value),
  lt: value => comparison(value, order => order < 0),
  lte: value => comparison(value, order => order <= 0),
  gt: value => comparison(value, order => order > 0),
  gte: value => comparison(value, order => order >= 0)
}
const COMPARISONS = [...Object.keys(ofValue), 'in', 'nin', 'ex', 'nex']

const NO_TAGS: Tags = {}
/** A decimal number. Digits after the point beyond these are none that the reference takes. */
const DECIMAL = /^([+-]?)(\d{1,200})(?:\.(\d{1,19}))?$/
const FRACTION_DIGITS = 19

/**
 * Checks a filter as the reference does, and within our limits.
 * @throws ReplyError (107), whose message says what is wrong
 */
export function compileFilter (root: FilterNode): TagsFilter {
  const [id, test] = compile(root, 1, { nodes: 0, bytes: 0 })
  return { id: JSON.stringify(id), matches: ({ tags = NO_TAGS }) => test(tags) }
}

/** The error for a tags filter that is not taken. */
export function filterRefused (reason: string): ReplyError {
  return new ReplyError({ ...clientErrors.badRequest, message: `bad request: ${reason}` }, reason)
}

/** Returns what tells the node from others, and its test. */
function compile (node: FilterNode, depth: number, size: Size): [id: unknown[], test: Test] {
  if (depth > MAX_FILTER_DEPTH) throw filterRefused(`a tags filter has at most ${MAX_FILTER_DEPTH} levels`)
  if (++size.nodes > MAX_FILTER_NODES) throw filterRefused(`a tags filter has at most ${MAX_FILTER_NODES} nodes`)
  const { op = '', nodes = [] } = node
  if (op === '') return compileLeaf(node, size)
  if (op !== 'and' && op !== 'or' && op !== 'not') throw filterRefused('op in a tags filter must be and, or, not, or empty')
  if (op === 'not' ? nodes.length !== 1 : nodes.length === 0) {
    throw filterRefused(`op ${op} in a tags filter needs ${op === 'not' ? 'exactly one node' : 'nodes'}`)
  }
  const parts = nodes.map(part => compile(part, depth + 1, size))
  const tests = parts.map(([, test]) => test)
  const id = [op, ...parts.map(([id]) => id)]
  if (op === 'not') return [id, tags => !tests[0]!(tags)]
  return [id, op === 'and' ? tags => tests.every(test => test(tags)) : tags => tests.some(test => test(tags))]
}

function compileLeaf (leaf: FilterNode, size: Size): [id: unknown[], test: Test] {
  const { key = '', cmp = '', val = '', vals = [] } = leaf
  for (const text of [key, val, ...vals]) size.bytes += Buffer.byteLength(text) + 1
  if (size.bytes > MAX_FILTER_BYTES) throw filterRefused(`the keys and values of a tags filter have at most ${MAX_FILTER_BYTES} bytes`)
  checkLeaf(key, cmp, val, vals)
  if (cmp === 'ex') return [[cmp, key], tags => Object.hasOwn(tags, key)]
  if (cmp === 'nex') return [[cmp, key], tags => !Object.hasOwn(tags, key)]
  if (cmp === 'in' || cmp === 'nin') {
    const values = new Set(vals)
    // As in the reference, a tag that is missing counts as the empty string.
    const isIn = (tags: Tags) => values.has(Object.hasOwn(tags, key) ? tags[key]! : '')
    return [[cmp, key, ...Array.from(values).toSorted()], cmp === 'in' ? isIn : tags => !isIn(tags)]
  }
  const test = ofValue[cmp]!(val)
  return [[cmp, key, val], tags => Object.hasOwn(tags, key) ? test(tags[key]!) : cmp === 'neq']
}

function checkLeaf (key: string, cmp: string, val: string, vals: string[]): void {
  if (!COMPARISONS.includes(cmp)) throw filterRefused(`cmp in a tags filter must be one of ${COMPARISONS.join(', ')}`)
  if (cmp === 'ex' || cmp === 'nex') {
    if (val !== '' || vals.length > 0) throw filterRefused(`cmp ${cmp} in a tags filter takes neither val nor vals`)
  } else if (cmp === 'in' || cmp === 'nin') {
    if (val !== '' || vals.length === 0) throw filterRefused(`cmp ${cmp} in a tags filter needs vals, and no val`)
  } else if (val === '' || vals.length > 0) {
    throw filterRefused(`cmp ${cmp} in a tags filter needs val, and no vals`)
  }
  if (key === '' && cmp !== 'ex' && cmp !== 'nex') throw filterRefused(`cmp ${cmp} in a tags filter needs a key`)
}

/** Tests a tag by its order relative to a number. What is no decimal number has none. */
function comparison (value: string, accepts: (order: number) => boolean): (tag: string) => boolean {
  const limit = scaled(value)
  if (limit === undefined) return () => false
  return (tag) => {
    const number = scaled(tag)
    return number !== undefined && accepts(number < limit ? -1 : number > limit ? 1 : 0)
  }
}

/** A decimal number as a whole one, exactly. */
function scaled (text: string): bigint | undefined {
  const [match, sign, whole = '', fraction = ''] = DECIMAL.exec(text) ?? []
  if (match === undefined) return undefined
  const magnitude = BigInt(whole + fraction.padEnd(FRACTION_DIGITS, '0'))
  return sign === '-' ? -magnitude : magnitude
}
