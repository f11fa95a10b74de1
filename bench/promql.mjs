import { parser } from '@prometheus-io/lezer-promql'

/** ms for which a sample counts as the current one, before `scale`. */
const LOOKBACK = 60_000
const UNITS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/**
 * As much of PromQL as the dashboard and the alerts use. All else is an error. The samples are in memory, by metric
 * name: `{ labels, samples: [[ms, value]] }`.
 */
export class PromQL {
  #series
  #scale
  #trees = new Map()

  /** `scale`: what every window is multiplied with, for a run in which time goes faster than in a service. */
  constructor (series, scale = 1) {
    this.#series = series
    this.#scale = scale
  }

  /** `[{ labels, value }]` at that time. */
  evaluate (query, time) {
    if (!this.#trees.has(query)) this.#trees.set(query, parse(query))
    const result = this.#run(this.#trees.get(query), time)
    return Array.isArray(result) ? result : [{ labels: {}, value: result }]
  }

  #run (node, time) {
    const handler = handlers[node.name]
    if (handler === undefined) throw new Error(`${node.name} is not known here: ${node.text}`)
    return handler(node, time, (child, at = time) => this.#run(child, at), this)
  }

  /** What the selector's series had last. */
  instant (selector, time) {
    return this.#matching(selector).flatMap(({ labels, samples }) => {
      const last = samples.findLast(([at]) => at <= time)
      return last === undefined || last[0] <= time - LOOKBACK * this.#scale ? [] : [{ labels, value: last[1] }]
    })
  }

  /** What its series had within a window. */
  range (selector, window, time) {
    const from = time - this.scaled(window)
    return this.#matching(selector).map(({ labels, samples }) => ({ labels, samples: samples.filter(([at]) => at > from && at <= time) }))
  }

  /** ms */
  scaled (duration) {
    const parts = Array.from(duration.matchAll(/(\d+)(ms|[smhd])/g))
    return this.#scale * parts.reduce((sum, [, count, unit]) => sum + count * UNITS[unit], 0)
  }

  #matching (selector) {
    const [{ text: name }, ...matchers] = selector.children[0].children
    return (this.#series.get(JSON.parse(name)) ?? []).filter(({ labels }) => matchers.every(matcher => matches(matcher, labels)))
  }
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
  OffsetExpr: ({ children: [child, , offset] }, time, run, data) => run(child, time - data.scaled(offset.text)),

  AggregateExpr ({ children }, time, run) {
    const [operator, modifier] = children
    const labels = modifier.name === 'AggregateModifier' ? modifier.children[1].children.map(({ text }) => unquoted(text)) : []
    const groups = new Map()
    for (const one of run(children.at(-1).children[0])) {
      const kept = Object.fromEntries(labels.flatMap(label => label in one.labels ? [[label, one.labels[label]]] : []))
      const group = groups.get(key(kept)) ?? { labels: kept, values: [] }
      groups.set(key(kept), group)
      group.values.push(one.value)
    }
    return Array.from(groups.values(), ({ labels, values }) => ({ labels, value: aggregates[operator.text](values) }))
  },

  FunctionCall ({ children: [name, { children: args }] }, time, run, data) {
    if (name.text in overWindow) {
      const [selector, window] = args[0].children
      return data.range(selector, window.text, time).flatMap(({ labels, samples }) => {
        return samples.length < 2 ? [] : [{ labels, value: overWindow[name.text](samples, time - data.scaled(window.text), time) }]
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

function key (labels) {
  return JSON.stringify(Object.entries(labels).sort())
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
function growth (samples) {
  return samples.reduce((total, [, value], i) => i === 0 ? 0 : total + (value < samples[i - 1][1] ? value : value - samples[i - 1][1]), 0)
}

/**
 * Extends a change to the ends of the window as Prometheus does it: where samples reach near enough, and for a counter
 * not to before it was zero.
 */
function extrapolated (change, samples, from, to, isCounter) {
  const [[firstAt, first], [lastAt]] = [samples[0], samples.at(-1)]
  const sampled = lastAt - firstAt
  const between = sampled / (samples.length - 1)
  const zeroAt = isCounter && change > 0 ? sampled * first / change : Infinity
  const beyond = gap => gap < between * 1.1 ? gap : between / 2
  return change * (sampled + Math.min(beyond(firstAt - from), zeroAt) + beyond(to - lastAt)) / sampled
}

const increase = (samples, from, to) => extrapolated(growth(samples), samples, from, to, true)
const overWindow = {
  increase,
  rate: (samples, from, to) => increase(samples, from, to) / (to - from) * 1_000,
  delta: (samples, from, to) => extrapolated(samples.at(-1)[1] - samples[0][1], samples, from, to, false)
}

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
