import { parser } from '@prometheus-io/lezer-promql'

/** ms for which a sample counts as the current one, as in Cloud Monitoring. */
const LOOKBACK = 300_000
const UNITS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/**
 * As much of PromQL as the dashboard and the alerts use. All else is an error. The samples are in memory, by metric
 * name, and seen from when they have arrived. Of a DELTA metric of Cloud Monitoring a sample is what was added.
 */
export class PromQL {
  #series
  #trees = new Map()

  constructor (series) {
    this.#series = series
  }

  /** `[{ labels, value }]` at that time. `interval` is what `${__interval}` stands for. */
  evaluate (query, time, interval = '60s') {
    const text = query.replaceAll('${__interval}', interval) // eslint-disable-line no-template-curly-in-string
    if (!this.#trees.has(text)) this.#trees.set(text, parse(text))
    const result = this.#run(this.#trees.get(text), time)
    return Array.isArray(result) ? result : [{ labels: {}, value: result }]
  }

  #run (node, time) {
    const handler = handlers[node.name]
    if (handler === undefined) throw new Error(`${node.name} is not known here: ${node.text}`)
    return handler(node, time, (child, at = time) => this.#run(child, at), this)
  }

  /** What the selector's series had last. */
  instant (selector, time) {
    return this.#matching(selector).flatMap(({ labels, times, values, arrivals = times }) => {
      const last = Math.min(indexAfter(times, time), indexAfter(arrivals, time)) - 1
      return last < 0 || times[last] <= time - LOOKBACK ? [] : [{ labels, value: values[last] }]
    })
  }

  /** What its series had within a window. */
  range (selector, window, time) {
    const from = time - window
    return this.#matching(selector).map(({ labels, times, values, arrivals = times, isDelta = false }) => {
      const first = indexAfter(times, from)
      const end = Math.max(first, Math.min(indexAfter(times, time), indexAfter(arrivals, time)))
      return { labels, isDelta, times, values, first, end, count: end - first }
    })
  }

  #matching (selector) {
    if (selector.matching === undefined) {
      const [name, matchers] = partsOf(selector)
      selector.matching = (this.#series.get(name) ?? []).filter(({ labels }) => matchers.every(matcher => matches(matcher, labels)))
    }
    return selector.matching
  }
}

/** A selector's metric, in braces as `{"a.b"}` or in front of them as `a_b{}`, and its matchers. */
export function partsOf ({ children }) {
  const matchers = children.find(({ name }) => name === 'LabelMatchers')?.children ?? []
  if (children[0].name === 'Identifier') return [children[0].text, matchers]
  return matchers[0]?.name === 'QuotedLabelName' ? [JSON.parse(matchers[0].text), matchers.slice(1)] : [undefined, matchers]
}

/** ms */
export function durationOf (text) {
  return Array.from(text.matchAll(/(\d+)(ms|[smhd])/g)).reduce((sum, [, count, unit]) => sum + count * UNITS[unit], 0)
}

/** Index of the first that is greater. */
function indexAfter (sorted, limit) {
  let [low, high] = [0, sorted.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if (sorted[middle] <= limit) low = middle + 1
    else high = middle
  }
  return low
}

/** @returns the tree, each node with its text; @throws where it can not be read to its end. */
export function parse (query) {
  const build = (node) => {
    if (node.type.isError) throw new SyntaxError(`not PromQL at ${node.from}: ${query.slice(node.from)}`)
    const children = []
    for (let child = node.firstChild; child !== null; child = child.nextSibling) children.push(build(child))
    return { name: node.name, text: query.slice(node.from, node.to), children }
  }
  return build(parser.parse(query).topNode)
}

function matches ({ children: [label, operator, wanted] }, labels) {
  const value = labels[unquoted(label.text)] ?? ''
  const text = unquoted(wanted.text)
  switch (operator.text) {
    case '=': return value === text
    case '!=': return value !== text
    case '=~': return new RegExp(`^(?:${text})$`).test(value)
    default: return !new RegExp(`^(?:${text})$`).test(value)
  }
}

function unquoted (text) {
  return text.startsWith('"') ? JSON.parse(text) : text
}

const handlers = {
  PromQL: ({ children: [child] }, time, run) => run(child),
  ParenExpr: ({ children: [child] }, time, run) => run(child),
  NumberDurationLiteral: ({ text }) => Number(text),
  VectorSelector: (node, time, run, data) => data.instant(node, time),

  AggregateExpr ({ children }, time, run) {
    const [operator, modifier] = children
    const labels = modifier.name === 'AggregateModifier' ? modifier.children[1].children.map(({ text }) => unquoted(text)) : []
    const vector = run(children.at(-1).children[0])
    if (labels.length === 0) {
      return vector.length === 0 ? [] : [{ labels: {}, value: aggregates[operator.text](vector.map(({ value }) => value)) }]
    }
    const groups = new Map()
    const kept = modifier.kept ??= new WeakMap()
    for (const one of vector) {
      if (!kept.has(one.labels)) {
        const ofGroup = labels.flatMap(label => label in one.labels ? [[label, one.labels[label]]] : [])
        kept.set(one.labels, Object.fromEntries(ofGroup))
      }
      const text = key(kept.get(one.labels))
      if (!groups.has(text)) groups.set(text, { labels: kept.get(one.labels), values: [] })
      groups.get(text).values.push(one.value)
    }
    return Array.from(groups.values(), ({ labels, values }) => ({ labels, value: aggregates[operator.text](values) }))
  },

  FunctionCall ({ children: [name, { children: args }] }, time, run, data) {
    if (name.text in overWindow) {
      const [selector, range] = args[0].children
      const window = range.window ??= durationOf(range.text)
      return data.range(selector, window, time).flatMap(samples => {
        const { least, of } = overWindow[samples.isDelta && name.text in overDeltas ? overDeltas[name.text] : name.text]
        return samples.count < least ? [] : [{ labels: samples.labels, value: of(samples, time - window, time) }]
      })
    }
    return functions[name.text](...args.map(arg => run(arg)))
  },

  BinaryExpr ({ children: [left, operator, right] }, time, run) {
    const [a, b] = [run(left), run(right)]
    if (operator.text in sets) return sets[operator.text](a, b)
    const apply = operators[operator.text]
    if (!Array.isArray(a) && !Array.isArray(b)) return apply(a, b)
    if (!Array.isArray(b)) return combine(a, () => b, apply)
    if (!Array.isArray(a)) return combine(b, () => a, (value, other) => apply(other, value))
    const others = new Map(b.map(({ labels, value }) => [key(labels), value]))
    return combine(a, labels => others.get(key(labels)), apply)
  }
}

/** A comparison leaves out what it is not true for. */
function combine (vector, other, apply) {
  return vector.flatMap(({ labels, value }) => {
    const against = other(labels)
    const result = against === undefined ? false : apply(value, against)
    if (result === false) return []
    return [{ labels, value: result === true ? value : result }]
  })
}

/** The same objects come at every evaluation. */
const keys = new WeakMap()

function key (labels) {
  let text = keys.get(labels)
  if (text === undefined) {
    const entries = Object.entries(labels)
    text = entries.length > 1 ? JSON.stringify(entries.sort()) : entries.join()
    keys.set(labels, text)
  }
  return text
}

const sum = values => values.reduce((total, value) => total + value, 0)
const aggregates = {
  sum,
  count: values => values.length,
  min: values => Math.min(...values),
  max: values => Math.max(...values),
  avg: values => sum(values) / values.length
}

const operators = {
  '+': (a, b) => a + b,
  '-': (a, b) => a - b,
  '*': (a, b) => a * b,
  '/': (a, b) => a / b,
  '>': (a, b) => a > b,
  '>=': (a, b) => a >= b,
  '<': (a, b) => a < b
}

const sets = {
  or: (a, b) => [...a, ...without(b, a)],
  and: (a, b) => without(a, without(a, b)),
  unless: without
}

function without (vector, other) {
  const keys = new Set(other.map(({ labels }) => key(labels)))
  return vector.filter(({ labels }) => !keys.has(key(labels)))
}

/** What a counter has grown by, resets included. */
function growth ({ values, first, end }) {
  let total = 0
  for (let i = first + 1; i < end; i++) total += values[i] < values[i - 1] ? values[i] : values[i] - values[i - 1]
  return total
}

/**
 * Extends the growth of a counter to the ends of the window as Prometheus does it: where samples reach near enough, and
 * not to before it was zero.
 */
function increase (samples, from, to) {
  const { times, values, first, end, count } = samples
  const change = growth(samples)
  const sampled = times[end - 1] - times[first]
  const between = sampled / (count - 1)
  const zeroAt = change > 0 ? sampled * values[first] / change : Infinity
  const beyond = gap => gap < between * 1.1 ? gap : between / 2
  return change * (sampled + Math.min(beyond(times[first] - from), zeroAt) + beyond(to - times[end - 1])) / sampled
}

function added ({ values, first, end }) {
  let total = 0
  for (let i = first; i < end; i++) total += values[i]
  return total
}

function highest ({ values, first, end }) {
  let most = -Infinity
  for (let i = first; i < end; i++) most = Math.max(most, values[i])
  return most
}

/** Functions over a window, and how many samples they need there at least. */
const overWindow = {
  increase: { least: 2, of: increase },
  rate: { least: 2, of: (samples, from, to) => increase(samples, from, to) / (to - from) * 1_000 },
  sum_over_time: { least: 1, of: added },
  count_over_time: { least: 1, of: ({ count }) => count },
  max_over_time: { least: 1, of: highest },
  'rate of deltas': { least: 1, of: (samples, from, to) => added(samples) / (to - from) * 1_000 }
}
/** What takes the place of a function where every sample says what was added since the one before it. */
const overDeltas = { increase: 'sum_over_time', rate: 'rate of deltas' }

const functions = {
  vector: value => [{ labels: {}, value }],
  clamp_min: (vector, least) => vector.map(({ labels, value }) => ({ labels, value: Math.max(value, least) })),

  /** Even within a bucket, as Prometheus does it. */
  histogram_quantile (quantile, vector) {
    const groups = new Map()
    for (const { labels: { le, ...labels }, value } of vector) {
      const group = groups.get(key(labels)) ?? { labels, buckets: [] }
      groups.set(key(labels), group)
      group.buckets.push({ upTo: Number(le.replace('+Inf', 'Infinity')), count: value })
    }
    return Array.from(groups.values()).flatMap(({ labels, buckets }) => {
      buckets.sort((a, b) => a.upTo - b.upTo)
      const rank = quantile * buckets.at(-1).count
      if (!(rank > 0)) return []
      const i = buckets.findIndex(({ count }) => count >= rank)
      const { upTo: from, count: below } = buckets[i - 1] ?? { upTo: 0, count: 0 }
      const { upTo, count } = buckets[i]
      return [{ labels, value: upTo === Infinity ? from : from + (upTo - from) * (rank - below) / (count - below) }]
    })
  }
}
