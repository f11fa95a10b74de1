import { execFile } from 'node:child_process'
import { chmodSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'
import protobuf from 'protobufjs'
import protojson from 'protobufjs/ext/protojson.js'
import t from 'tap'
import type { Test } from 'tap'
import type { Policy } from '../../bench/incidents.mjs'
import { parse, partsOf, PromQL } from '../../bench/promql.mjs'
import type { Series, Tree } from '../../bench/promql.mjs'
import { logEvents } from '../../lib/observability/log-events.ts'
import { metricNames } from '../../lib/observability/instruments.ts'
import { policyFiles } from '../helpers/alerts.ts'

const root = join(import.meta.dirname, '../..')
const folder = join(root, 'example/monitoring')
const read = (file: string) => readFileSync(join(folder, file), 'utf8')
const alertFiles = policyFiles()
const alwaysFiles = alertFiles.filter(file => file.startsWith('alerts/'))
const objectiveFiles = readdirSync(folder).filter(file => file.startsWith('slo-'))
const logMetricFiles = readdirSync(join(folder, 'log-metrics')).map(file => `log-metrics/${file}`)

interface Widget { title: string, [kind: string]: unknown }
interface Tile { xPos?: number, yPos?: number, width: number, height: number, widget: Widget }
const { tiles, columns } = (JSON.parse(read('dashboard.json')) as { mosaicLayout: { columns: number, tiles: Tile[] } }).mosaicLayout
const alerts = alertFiles.map(file => JSON.parse(read(file)) as Policy)
const alertQueries = alerts.flatMap(({ conditions }) => conditions.map(condition => condition.conditionPrometheusQueryLanguage.query))
const runbook = read('runbook.md')

/** Every value of the key, at any depth. */
function all (value: unknown, key: string): string[] {
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([name, one]) => name === key ? [one as string] : all(one, key))
}

/** In the runbook a query stands in backticks and has a selector. */
const runbookQueries = Array.from(runbook.matchAll(/`([^`\n]*(?:\{"|_googleapis_com:)[^`\n]*)`/g), ([, query]) => query!)
// eslint-disable-next-line no-template-curly-in-string
const queries = [...all(tiles, 'prometheusQuery'), ...alertQueries, ...runbookQueries].map(query => query.replaceAll('${__interval}', '60s'))

// What the plugin emits, as the reference lists it. catalogue.test.ts and ../observability/metrics.test.ts compare that
// list with the code.

interface Emitted { kind: string, attributes: string[] }

const reference = readFileSync(join(root, 'docs/reference/metrics.md'), 'utf8')
const rows = reference.matchAll(/^\| `([a-z0-9._]+)` \| (\w+), \S+ \|([^|]*)\|.*\|$/gm)
const emitted = new Map<string, Emitted>([
  // Metrics of the process, which every instance emits too.
  ['nodejs.eventloop.delay.p99', { kind: 'Gauge', attributes: [] }],
  ['process.memory.usage', { kind: 'Gauge', attributes: [] }],
  ...Array.from(rows, ([, name = '', kind = '', attributes = '']): [string, Emitted] => {
    return [name, { kind, attributes: Array.from(attributes.matchAll(/`([a-z._]+)`/g), ([, attribute]) => attribute!) }]
  })
])
const RUN = ['monitored_resource', 'project_id', 'location', 'service_name', 'revision_name', 'configuration_name']
const VALKEY = ['monitored_resource', 'project_id', 'location', 'instance_id']
const REDIS = ['monitored_resource', 'project_id', 'region', 'instance_id', 'node_id']
interface LogMetric { name: string, metricDescriptor: { valueType: string, labels?: Array<{ key: string }> } }
/**
 * Google's own metrics, as PromQL names them, with the labels of the resource and the metric. From Google's lists of
 * metrics and of monitored resources, looked up in November 2026; the log-based ones are in log-metrics.
 */
const googles = new Map<string, Emitted>(Object.entries({
  'run_googleapis_com:request_count': { kind: 'Counter', attributes: [...RUN, 'response_code', 'response_code_class'] },
  'run_googleapis_com:container_instance_count': { kind: 'Gauge', attributes: [...RUN, 'state'] },
  'run_googleapis_com:container_billable_instance_time': { kind: 'Counter', attributes: RUN },
  'run_googleapis_com:container_memory_utilizations': { kind: 'Histogram', attributes: RUN },
  'run_googleapis_com:container_max_request_concurrencies': { kind: 'Histogram', attributes: [...RUN, 'state'] },
  'memorystore_googleapis_com:instance_memory_maximum_utilization': { kind: 'Gauge', attributes: VALKEY },
  'memorystore_googleapis_com:instance_cpu_maximum_utilization': { kind: 'Gauge', attributes: VALKEY },
  'memorystore_googleapis_com:instance_stats_total_evicted_keys_count': { kind: 'Counter', attributes: VALKEY },
  'redis_googleapis_com:stats_memory_usage_ratio': { kind: 'Gauge', attributes: REDIS },
  'redis_googleapis_com:stats_evicted_keys': { kind: 'Counter', attributes: REDIS },
  'redis_googleapis_com:stats_cpu_utilization_main_thread': { kind: 'Counter', attributes: [...REDIS, 'space', 'relationship'] },
  'monitoring_googleapis_com:uptime_check_check_passed': { kind: 'Gauge', attributes: ['monitored_resource', 'host', 'checker_location'] },
  ...Object.fromEntries(logMetricFiles.map(file => {
    const { name, metricDescriptor } = JSON.parse(read(file)) as LogMetric
    const kind = metricDescriptor.valueType === 'DISTRIBUTION' ? 'Histogram' : 'Counter'
    return [`logging_googleapis_com:user_${name}`, { kind, attributes: [...RUN, ...(metricDescriptor.labels ?? []).map(({ key }) => key)] }]
  }))
}))
/** Values that the reference lists, by attribute. */
const valuesOf: Record<string, string> = {
  'websocket.close.cause': /^\| `websocket\.close\.cause` \| ([a-z, ]+) \|$/m.exec(reference)![1]!,
  'error.type': /^\| `error\.type` of a rejection \| ([a-z_, ]+); .* also ([a-z_, ]+) \|$/m.exec(reference)!.slice(1).join()
}

/** Labels of prometheus_target, the resource that OTLP metrics get. */
const RESOURCE = ['project_id', 'location', 'cluster', 'namespace', 'job', 'instance']
/** Functions for metrics that only grow, and for those that go up and down. */
const OF_COUNTERS = ['rate', 'increase']
const OF_GAUGES = ['deriv', 'delta']

/** Describes what is wrong with a query. @throws if the query does not parse */
function problems (query: string): string[] {
  const found: string[] = []
  const visit = (node: Tree, wrapper: string | undefined, grouping: string[]) => {
    const { name, children } = node
    if (name === 'VectorSelector') return found.push(...problemsOf(node, wrapper, grouping))
    const by = name === 'AggregateExpr' ? children.find(({ name }) => name === 'AggregateModifier') : undefined
    const labels = by?.children.find(({ name }) => name === 'GroupingLabels')?.children.map(({ text }) => unquoted(text)) ?? []
    const called = children.find(({ name }) => name === 'FunctionIdentifier')?.text
    for (const child of children) visit(child, called ?? wrapper, [...grouping, ...labels])
  }
  visit(parse(query), undefined, [])
  return found
}

function problemsOf (selector: Tree, wrapper: string | undefined, grouping: string[]): string[] {
  const [name, matchers] = partsOf(selector)
  if (name === undefined) return [`no metric in ${selector.text}`]
  const isGoogles = /_googleapis_com:/.test(name)
  const known = isGoogles ? googles : emitted
  const base = known.has(name) ? name : name.replace(/_(bucket|count|sum)$/, '')
  const metric = known.get(base)
  if (metric === undefined) return [`${name} is not emitted`]
  const isHistogram = metric.kind === 'Histogram'
  const grows = isHistogram || metric.kind === 'Counter'
  const allowed = [...isGoogles ? [] : RESOURCE, ...metric.attributes, ...name.endsWith('_bucket') ? ['le'] : []]
  return [
    ...isHistogram === (name === base) ? [`${name} has the wrong suffix`] : [],
    ...wrapper !== undefined && (grows ? OF_GAUGES : OF_COUNTERS).includes(wrapper) ? [`${wrapper} of ${name}`] : [],
    ...[...grouping, ...matchers.map(labelOf)].filter(label => !allowed.includes(label)).map(label => `${name} has no ${label}`),
    ...matchers.filter(matcher => !isPossible(base, matcher)).map(matcher => `${labelOf(matcher)} is never ${matcher.children[2]!.text}`)
  ]
}

function labelOf ({ children: [label] }: Tree): string {
  return unquoted(label!.text)
}

/** Whether the attribute of a connection's metric can have the value, as far as the reference lists its values. */
function isPossible (metric: string, matcher: Tree): boolean {
  const known = metric.startsWith('websocket.server.connection') ? valuesOf[labelOf(matcher)] : undefined
  const values = known?.split(',').map(one => one.trim())
  return values === undefined || unquoted(matcher.children[2]!.text).split('|').every(value => values.includes(value))
}

function unquoted (text: string): string {
  return text.startsWith('"') ? JSON.parse(text) as string : text
}

t.test('every query parses, and a query that is no PromQL does not', async (t) => {
  const parses = (query: string) => {
    try {
      parse(query)
      return true
    } catch {
      return false
    }
  }
  t.ok(queries.length > 40, `${queries.length} queries`)
  t.ok(runbookQueries.length > 8)
  t.strictSame(queries.filter(query => !parses(query)), [])
  const broken = [
    'sum(rate({"websocket.server.messages"}[5m])',
    'sum by ("websocket.protocol" ({"websocket.server.connection.active"})',
    'sum({"websocket.server.messages", job=chat})',
    'rate({"websocket.server.messages"}[5 minutes])',
    'sum(websocket.server.messages)',
    'sum({"websocket.server.messages"}) >',
    ''
  ]
  t.strictSame(broken.filter(parses), [])
})

t.test('every metric and attribute in a query is one that the plugin emits', async (t) => {
  t.strictSame(Object.values(metricNames).filter(name => !emitted.has(name)), [])
  t.strictSame(queries.filter(query => problems(query).length > 0).map(query => ({ query, problems: problems(query) })), [])
  const wrong = Object.entries({
    'sum({"websocket.server.connections"})': /is not emitted/,
    'sum(up)': /up is not emitted/,
    'sum({job="a"})': /no metric/,
    'sum(run_googleapis_com:requests)': /is not emitted/,
    'sum(run_googleapis_com:request_count{code="429"})': /has no code/,
    'sum(rate({"websocket.server.messages_count"}[5m]))': /wrong suffix/,
    'sum({"websocket.bridge.delivery.lag"})': /wrong suffix/,
    'sum by (user) ({"websocket.server.connection.active"})': /has no user/,
    'sum by (le) (rate({"websocket.bridge.delivery.lag_count"}[5m]))': /has no le/,
    'sum(rate({"websocket.server.io", "websocket.protocol"="plain"}[5m]))': /has no websocket.protocol/,
    'sum(rate({"websocket.server.connection.duration_count", "websocket.close.cause"="broken"}[5m]))': /is never "broken"/,
    'sum(rate({"websocket.server.connection.active"}[5m]))': /rate of/,
    'sum(delta({"websocket.server.messages"}[5m]))': /delta of/
  })
  t.match(wrong.map(([query]) => problems(query)), wrong.map(([, problem]) => [problem]))
})

/* eslint-disable no-template-curly-in-string */
t.test('every query of the dashboard and the alerts is about the one service, and every window of a chart is its interval', async (t) => {
  /** What a selector has to have, by how its metric's name begins. Of Memorystore and of hosts there may be others. */
  const scopes: Array<[RegExp, string]> = [
    [/^(websocket|nodejs|process)[.]/, 'job="${SERVICE}", cluster="${CLUSTER}"'],
    [/^(run|logging)_googleapis_com:/, 'monitored_resource="cloud_run_revision", service_name="${SERVICE}"']
  ]
  const selectors = (node: Tree): Tree[] => node.name === 'VectorSelector' ? [node] : node.children.flatMap(selectors)
  const charts = all(tiles, 'prometheusQuery')
  const strays = [...charts, ...alertQueries].flatMap(query => selectors(parse(query.replaceAll('${__interval}', '60s')))).filter(selector => {
    const scope = scopes.find(([form]) => form.test(partsOf(selector)[0]!))
    return scope !== undefined && !selector.text.includes(scope[1])
  })
  t.strictSame(strays.map(({ text }) => text), [])
  const isShown = (metric: string) => charts.some(query => query.includes(`"${metric}`))
  t.strictSame(Object.values(metricNames).filter(metric => !isShown(metric)), [], 'every metric is in the dashboard')
  const windows = charts.flatMap(query => Array.from(query.matchAll(/\[([^\]]+)\]/g), ([, window]) => window!))
  t.ok(windows.filter(window => window === '${__interval}').length > 20)
  t.strictSame([...new Set(windows)].filter(window => !['${__interval}', '5m', '1h'].includes(window)), [], 'or says what it is in its title or legend')
})

// Google's own protos define what the APIs accept. Unknown fields, unknown enum values and wrong types are refused.

function check (client: string, type: string) {
  const protos = readFileSync(join(root, `node_modules/@google-cloud/${client}/build/protos/protos.json`), 'utf8')
  const message = protobuf.Root.fromJSON(JSON.parse(protos) as protobuf.INamespace).lookupType(type)
  return (json: string) => protojson.fromJsonString(message, json)
}

/** The client of logging has the protos of metrics as text only. */
async function checkLogMetric () {
  const protos = new protobuf.Root()
  const folders = ['logging-api/build/protos', '../google-gax/build/protos', '../protobufjs'].map(path => join(root, 'node_modules/@google-cloud', path))
  protos.resolvePath = (_, path) => folders.map(folder => join(folder, path)).find(path => existsSync(path)) ?? path
  await protos.load('google/logging/v2/logging_metrics.proto')
  const message = protos.lookupType('google.logging.v2.LogMetric')
  return (json: string) => protojson.fromJsonString(message, json)
}

t.test('every file is what its API takes', async (t) => {
  const checkDashboard = check('monitoring-dashboards', 'google.monitoring.dashboard.v1.Dashboard')
  const checkAlert = check('monitoring', 'google.monitoring.v3.AlertPolicy')
  const checkService = check('monitoring', 'google.monitoring.v3.Service')
  const checkObjective = check('monitoring', 'google.monitoring.v3.ServiceLevelObjective')
  checkDashboard(read('dashboard.json'))
  for (const file of alertFiles) checkAlert(read(file))
  checkService(read('service.json'))
  for (const file of objectiveFiles) checkObjective(read(file))
  const checkMetric = await checkLogMetric()
  for (const file of logMetricFiles) checkMetric(read(file))

  const spoilt = (file: string, from: string, to: string) => {
    t.ok(read(file).includes(from), from)
    return read(file).replace(from, to)
  }
  const wrong: Array<[(json: string) => unknown, string, RegExp]> = [
    [checkDashboard, spoilt('dashboard.json', '"mosaicLayout"', '"mosaic"'), /unknown field: "mosaic"/],
    [checkDashboard, spoilt('dashboard.json', '"timeSeriesQuery"', '"query"'), /unknown field: "query"/],
    [checkDashboard, spoilt('dashboard.json', '"STACKED_AREA"', '"AREA"'), /unknown enum value: "AREA"/],
    [checkDashboard, spoilt('dashboard.json', '"xPos": 0', '"xPos": "left"'), /invalid integer/],
    [checkDashboard, spoilt('dashboard.json', '"sparkChartView"', '"gaugeView": {}, "sparkChartView"'), /oneof/],
    [checkAlert, spoilt('alerts/bridge-down.json', '"CRITICAL"', '"SEVERE"'), /unknown enum value/],
    [checkAlert, spoilt('alerts/bridge-down.json', '"0s"', '"1m"'), /invalid duration/],
    [checkAlert, spoilt('alerts/bridge-down.json', '"query"', '"promql"'), /unknown field/],
    [checkObjective, spoilt('slo-delivery.json', '"distributionCut"', '"cut"'), /unknown field/],
    [checkObjective, spoilt('slo-availability.json', '"badServiceFilter"', '"bad"'), /unknown field/],
    [checkObjective, spoilt('slo-redis.json', '"metricMeanInRange"', '"mean"'), /unknown field/],
    [checkMetric, spoilt('log-metrics/websocket_errors.json', '"INT64"', '"INT"'), /unknown enum value/],
    [checkMetric, spoilt('log-metrics/websocket_drain_duration.json', '"valueExtractor"', '"extractor"'), /unknown field/],
    [checkService, spoilt('service.json', '"custom": {}', '"custom": { "a": 1 }'), /unknown field/]
  ]
  for (const [checkIt, json, message] of wrong) t.throws(() => checkIt(json), { message })
})

t.test('the tiles fill the columns and do not overlap', async (t) => {
  const overlapping = (tiles: Tile[]) => {
    const taken = new Set<string>()
    return tiles.some(({ xPos = 0, yPos = 0, width, height }) => {
      if (width < 1 || height < 1 || xPos < 0 || xPos + width > columns) return true
      for (let x = xPos; x < xPos + width; x++) {
        for (let y = yPos; y < yPos + height; y++) {
          if (taken.size === taken.add(`${x} ${y}`).size) return true
        }
      }
      return false
    })
  }
  t.equal(columns, 48)
  t.notOk(overlapping(tiles))
  t.ok(overlapping([...tiles, { xPos: 47, yPos: 0, width: 1, height: 1, widget: { title: '' } }]))
  const bottom = Math.max(...tiles.map(({ yPos = 0, height }) => yPos + height))
  t.equal(tiles.reduce((sum, { width, height }) => sum + width * height, 0), bottom * columns, 'there are no holes')
  const kinds = ['xyChart', 'scorecard', 'logsPanel', 'incidentList']
  t.strictSame(kinds.filter(kind => !tiles.some(({ widget }) => kind in widget)), [], 'there are tiles of every kind')
  t.equal(new Set(tiles.map(({ widget }) => widget.title)).size, tiles.length, 'every tile has a title of its own')
})

const sections = new Map(runbook.split(/^## /m).slice(1).map(section => [section.slice(0, section.indexOf('\n')), section]))
/** The anchor that Markdown gives to a heading. */
const anchorOf = (heading: string) => heading.toLowerCase().replaceAll('.', '').replaceAll(' ', '-')

t.test('every alert can be created before its metric exists, closes by itself, and is found by its labels', async (t) => {
  const seen = alerts.map(({ displayName, documentation, userLabels, conditions, alertStrategy }, i) => {
    const conditionsAreRight = conditions.every(({ conditionPrometheusQueryLanguage: { disableMetricValidation, evaluationInterval } }) => {
      return disableMetricValidation && evaluationInterval === '60s' // as often as there is news
    })
    const closes = Number.parseInt(alertStrategy.autoClose) >= 1_800
    return { file: alertFiles[i], displayName, subject: documentation.subject, userLabels, conditionsAreRight, closes }
  })
  t.strictSame(seen, alertFiles.map((file, i) => {
    const { displayName } = alerts[i]!
    const userLabels = { service: '${SERVICE}', 'made-by': 'fastify-cloud-run-websocket', alert: basename(file, '.json') }
    return { file, displayName, subject: displayName, userLabels, conditionsAreRight: true, closes: true }
  }))
  t.ok(alerts.every(({ displayName, conditions }) => displayName.startsWith('${SERVICE}: ') && conditions.length <= 6))
  for (const kind of [alwaysFiles, alertFiles]) t.equal(new Set(kind.map(file => basename(file))).size, kind.length)
})

t.test('every alert has its section in the runbook, and every link in the runbook leads to a section', async (t) => {
  const parts = ['**It means**', '**Look at**', '**Do**']
  const names = [...new Set(alerts.map(({ displayName }) => displayName.replace('${SERVICE}: ', '')))]
  t.strictSame(names.filter(name => !parts.every(part => sections.get(name)?.includes(part))), [])
  const isLinked = ({ displayName, documentation }: Policy) => {
    return documentation.content.endsWith(`(\${RUNBOOK}#${anchorOf(displayName.replace('${SERVICE}: ', ''))})`)
  }
  t.strictSame(alerts.filter(alert => !isLinked(alert)), [])
  const anchors = Array.from(sections.keys(), anchorOf)
  const links = Array.from(runbook.matchAll(/\]\(#([^)]+)\)/g), ([, link]) => link!)
  t.strictSame(links.filter(link => !anchors.includes(link)), [])
  t.equal([...sections.keys()].filter(name => /^\d\./.test(name)).length, 5, "the guide's five cases")
  const others = [...sections.keys()].filter(name => !names.includes(name) && !/^\d\./.test(name))
  t.strictSame(others, [], 'no section is of an alert that is gone')
})

t.test('the runbook does not send anybody to a timeout that Google refuses', async (t) => {
  t.notMatch(runbook, /backend service must be 3600/)
  t.match(runbook, /its timeout\s+for\s+a\s+serverless\s+backend\s+is\s+60\s+minutes\s+and\s+cannot\s+be\s+changed/i)
})

t.test('the burn rates of the alerts are those of the objectives', async (t) => {
  const goals = objectiveFiles.map(file => (JSON.parse(read(file)) as { goal: number }).goal)
  t.strictSame(objectiveFiles.map((file, i) => [file, goals[i]]), [['slo-availability.json', 0.999], ['slo-delivery.json', 0.99], ['slo-redis.json', 0.995]])
  for (const [file, factor, long, short] of [['budget-fast', 14.4, '1h', '5m'], ['budget-slow', 6, '6h', '30m']] as const) {
    const { conditions } = JSON.parse(read(`alerts/${file}.json`)) as Policy
    const limits = conditions.map(({ conditionPrometheusQueryLanguage: { query } }) => {
      t.match(query, `[${long}]`)
      t.match(query, `[${short}]`)
      return Array.from(query.matchAll(/ > (0[.]\d+)/g), ([, limit]) => Number(limit))
    })
    t.strictSame(limits, goals.map(goal => Array.from({ length: 2 }, () => Number((factor * (1 - goal)).toFixed(4)))), file)
  }
})

t.test('log filters name entries that the plugin writes', async (t) => {
  const events = Object.keys(logEvents)
  const inRunbook = Array.from(runbook.matchAll(/jsonPayload\.event="([^"]+)"/g), ([, event]) => event!)
  t.strictSame(inRunbook.filter(event => !events.includes(event)), [])
  const filter = (tiles.find(({ widget }) => 'logsPanel' in widget)!.widget.logsPanel as { filter: string }).filter
  const unwanted = new RegExp(/^-jsonPayload\.event=~"(.*)"$/m.exec(filter)![1]!)
  const leftOut = events.filter(event => unwanted.test(event))
  t.match(leftOut, ['connection.opened', 'connection.closed'], 'the panel leaves out the entries of every connection')
  t.notOk(leftOut.some(event => !/^(connection\.(opened|closed)$|message)/.test(event)))
})

t.test('the evaluator looks back five minutes, and sees samples when they have arrived', async (t) => {
  const MINUTE = 60_000
  const of = (series: Partial<Series>) => new PromQL(new Map([['a', [{ labels: {}, times: [MINUTE, 2 * MINUTE], values: [1, 4], ...series }]]]))
  const value = (promql: PromQL, query: string, minute: number) => promql.evaluate(query, minute * MINUTE)[0]?.value
  t.equal(value(of({}), '{"a"}', 6.9), 4)
  t.equal(value(of({}), '{"a"}', 7.1), undefined)
  t.equal(value(of({ arrivals: [MINUTE, 3 * MINUTE] }), '{"a"}', 2.5), 1)
  t.equal(value(of({ arrivals: [MINUTE, 3 * MINUTE] }), 'increase({"a"}[5m])', 2.5), undefined, 'of one sample nothing can be said')
  t.equal(value(of({ isDelta: true }), 'increase({"a"}[5m])', 3), 5, 'but of one that says what was added')
  t.equal(value(of({}), 'count_over_time(a[${__interval}])', 2), 1, 'of 60 s')
  t.equal(value(of({}), 'max_over_time(a{b=""}[5m]) >= 4', 2), 4)
})
/* eslint-enable no-template-curly-in-string */

t.test('the evaluator refuses what it does not know', async (t) => {
  const promql = new PromQL(new Map())
  t.throws(() => promql.evaluate('sum({"a"}) / on (b) sum({"c"})', 0))
  t.throws(() => promql.evaluate('sin({"a"})', 0))
  t.throws(() => promql.evaluate('stddev({"a"})', 0) && promql.evaluate('-{"a"}', 0))
})

t.test('the page on costs counts the alerts that there are, and multiplies right', async (t) => {
  const page = readFileSync(join(root, 'docs/watching-costs.md'), 'utf8').replaceAll('\n', ' ')
  const selectors = (node: Tree): number => node.name === 'VectorSelector' ? 1 : node.children.reduce((sum, child) => sum + selectors(child), 0)
  const conditions = alwaysFiles.flatMap(file => (JSON.parse(read(file)) as Policy).conditions)
  const references = conditions.reduce((sum, condition) => sum + selectors(parse(condition.conditionPrometheusQueryLanguage.query)), 0)
  t.match(page, `refer to metrics ${references} times in ${conditions.length} conditions`)
  const minutes = 730 * 60
  const dollars = (value: number) => value < 1 ? `$${value.toFixed(2)}` : `$${Math.round(value)}`
  const row = (name: string) => new RegExp(`\\| ${name} \\|(( [^|]* \\|){4})`).exec(page)![1]!.split('|').slice(0, 4).map(cell => cell.trim())
  const number = (pattern: RegExp) => Number(pattern.exec(page)![1])
  const samples = number(/which makes (\d+) samples/)
  t.strictSame(row('metrics'), [1, 100, 278, 417].map(count => dollars(samples * minutes * count * 0.06 / 1e6)))
  t.equal(row('alerts and objectives')[0], dollars(references * (0.1 + minutes * 0.35 / 1e6)))
  const bytes = number(/`connection\.opened` \| (\d+)/) + number(/`connection\.closed` \| (\d+)/)
  const logs = (connections: number) => dollars(Math.max(0, connections * 730 * 60 / 54 * bytes / 2 ** 30 - 50) * 0.5)
  t.strictSame(row('log entries of the plugin').slice(1), [90_000, 250_200, 250_200].map(logs))
})

t.test('the picture in the docs is there and small', async (t) => {
  t.ok(statSync(join(folder, 'dashboard.png')).size < 360_000)
  t.ok(readFileSync(join(root, 'docs/operations.md'), 'utf8').includes('(../example/monitoring/dashboard.png)'))
})

// The script runs with programs on the PATH that record their calls. What they "create" exists from then on.

const fakeGcloud = `#!/bin/sh
printf '%s|' gcloud "$@" >> "$LOG"; echo >> "$LOG"
[ "$2" = print-access-token ] && echo secret-token && exit
case "$*" in *--help) [ -z "$OLD_GCLOUD" ] && exit; echo "Invalid choice: 'policies'" >&2; exit 2 ;; esac
[ "$GCLOUD_FAILS" = "$3" ] && echo 'PERMISSION_DENIED' >&2 && exit 1
for one in "$@"; do case $one in *.json) file=$one ;; esac; done
label () { sed -n 's/.*"'"$2"'": "\\(.*\\)".*/\\1/p' "$1" | head -1; }
owner () { label "$file" service | sed -e 's/^chat$//' -e 's/.$/&-/'; }
case $2-$3 in
  dashboards-list)
    printf 'projects/1/dashboards/6\\tvideo-chat\\tfastify-cloud-run-websocket\\txyz=\\nprojects/1/dashboards/5\\t\\t\\tq=\\n'
    for one in "$STATE"/*dashboard.json; do
      [ -f "$one" ] && printf 'projects/1/dashboards/7\\t%s\\tfastify-cloud-run-websocket\\tabc=\\n' "$(label "$one" service)"
    done ;;
  policies-list)
    printf 'projects/1/alertPolicies/of-another\\tvideo-chat\\tfastify-cloud-run-websocket\\tbridge-down\\tprojects/1/notificationChannels/9\\n'
    printf 'projects/1/alertPolicies/by-hand\\tchat\\t\\tbridge-down\\t\\n'
    for one in "$STATE"/*policy-*; do
      [ -f "$one" ] && printf 'projects/1/alertPolicies/%s\\t%s\\t%s\\t%s\\t%s\\n' "\${one##*/}" "$(label "$one" service)" "$(label "$one" made-by)" "$(label "$one" alert)" "$KEPT"
    done
    [ -n "$TWICE" ] && printf 'projects/1/alertPolicies/again\\tchat\\tfastify-cloud-run-websocket\\tbridge-down\\t\\n' ;;
  metrics-list) ls "$STATE" | sed -n 's/^metric-\\(.*\\)[.]json$/\\1/p' ;;
  uptime-list-configs) [ -f "$STATE/uptime" ] && printf 'projects/1/uptimeCheckConfigs/1\\tchat\\tfastify-cloud-run-websocket\\tchat.example.com\\n' ;;
  uptime-create) touch "$STATE/uptime" ;;
  dashboards-create|dashboards-update) cp "$file" "$STATE/$(owner)dashboard.json" ;;
  policies-create|policies-update) cp "$file" "$STATE/$(owner)policy-\${file##*/}" ;;
  metrics-create|metrics-update) cp "$file" "$STATE/metric-\${file##*/}" ;;
esac
exit 0
`
const fakeCurl = `#!/bin/sh
read -r header
printf '%s|' curl "$@" "$header" >> "$LOG"; echo >> "$LOG"
for one in "$@"; do case $one in https://*) url=$one ;; @*) file=\${one#@} ;; /*) output=$one ;; esac; done
key=$(echo "$url" | sed -e 's/[?].*=/_/' -e 's/.*my-project.//' | tr / _)
case "$*" in
  *http_code*) [ -n "$CURL_ANSWERS" ] && echo '{ "error": { "status": "SERVICE_DISABLED" } }' > "$output" && printf "$CURL_ANSWERS" && exit; [ -f "$STATE/$key" ] && printf 200 || printf 404 ;;
  *POST*) [ -n "$CURL_FAILS" ] && echo 'INVALID_ARGUMENT' && exit 22; cp "$file" "$STATE/$key" ;;
esac
`

function fakes (t: Test) {
  const dir = t.testdir({ bin: { gcloud: fakeGcloud, curl: fakeCurl }, state: {}, tmp: {}, log: '' })
  for (const name of ['gcloud', 'curl']) chmodSync(join(dir, 'bin', name), 0o755)
  const log = join(dir, 'log')
  return {
    state: join(dir, 'state'),
    tmp: join(dir, 'tmp'),
    async apply (args: string[], env: Record<string, string> = {}) {
      writeFileSync(log, '')
      const PATH = `${join(dir, 'bin')}:${process.env.PATH}`
      const allEnv = { PATH, LOG: log, STATE: join(dir, 'state'), TMPDIR: join(dir, 'tmp'), ...env }
      const result = await promisify(execFile)(join(folder, 'apply.sh'), args, { env: allEnv })
        .catch((error: { code: number, stdout: string, stderr: string }) => error)
      return { code: 'code' in result ? result.code : 0, stdout: result.stdout, stderr: result.stderr, calls: readFileSync(log, 'utf8') }
    }
  }
}

const ARGS = ['--project', 'my-project', '--service', 'chat']
const CHANNEL = 'projects/my-project/notificationChannels/1'
const EVERYTHING = ['--valkey', 'chat-valkey', '--redis', 'chat-redis', '--uptime', 'chat.example.com', '--region', 'europe-west1']

t.test('apply.sh creates everything, and updates it the next time', async (t) => {
  const { state, tmp, apply } = fakes(t)
  const channels = ['--notification-channel', CHANNEL, '--notification-channel', `${CHANNEL}2`]
  const first = await apply([...ARGS, ...EVERYTHING, ...channels])
  t.equal(first.code, 0, first.stderr)
  t.equal(first.stderr, '')
  t.match(first.calls, /^gcloud\|monitoring\|policies\|--help\|\n/, 'the first thing is to look whether this gcloud can do it')
  t.equal(first.calls.match(/\|dashboards\|create\|--project\|my-project\|--config-from-file\|/g)?.length, 1)
  t.equal(first.calls.match(/\|policies\|create\|--project\|my-project\|--policy-from-file\|/g)?.length, alerts.length)
  t.equal(first.calls.split(`|--notification-channels|${CHANNEL},${CHANNEL}2|`).length - 1, alerts.length)
  t.equal(first.calls.match(/^gcloud\|logging\|metrics\|create\|/gm)?.length, logMetricFiles.length)
  t.equal(first.calls.match(/\|uptime\|create\|/g)?.length, 1)
  const services = 'https://monitoring.googleapis.com/v3/projects/my-project/services'
  t.match(first.calls, `POST|${services}?service_id=chat-websocket|`)
  for (const id of ['availability', 'delivery', 'redis']) {
    t.match(first.calls, `POST|${services}/chat-websocket/serviceLevelObjectives?service_level_objective_id=${id}|`)
  }
  t.notMatch(first.calls, /\|update\||PATCH/)
  t.match(first.calls, /\|header = "Authorization: Bearer secret-token"\|$/m, 'the token comes through stdin, which is last here')
  t.notMatch(first.calls, /secret-token(?!"\|$)/m, 'and is in no argument')

  const created = readdirSync(state).filter(file => file !== 'uptime').map(file => readFileSync(join(state, file), 'utf8'))
  t.equal(created.length, 2 + alerts.length + objectiveFiles.length + logMetricFiles.length)
  t.strictSame(created.filter(text => /\$\{(SERVICE|RUNBOOK|CLUSTER|REDIS|VALKEY|HOST)\}/.test(text)), [], 'nothing is left to fill in')
  t.doesNotThrow(() => created.map(text => JSON.parse(text)))

  const second = await apply([...ARGS, ...EVERYTHING], { KEPT: CHANNEL })
  t.equal(second.code, 0, second.stderr)
  t.equal(second.stderr, '')
  t.notMatch(second.calls, /\|create\||POST/)
  t.equal(second.calls.match(/\|dashboards\|update\|projects\/1\/dashboards\/7\|/g)?.length, 1)
  t.equal(new Set(second.calls.match(/\|policies\|update\|projects\/1\/alertPolicies\/policy-[a-z-]+\.json\|/g)).size, alerts.length)
  t.equal(second.calls.split(`|--set-notification-channels|${CHANNEL}|`).length - 1, alerts.length, 'channels set by other means are kept')
  t.equal(second.calls.match(/^gcloud\|logging\|metrics\|update\|/gm)?.length, logMetricFiles.length)
  t.equal(second.calls.match(/PATCH/g)?.length, 1 + objectiveFiles.length)
  const dashboard = JSON.parse(readFileSync(join(state, 'dashboard.json'), 'utf8')) as { etag: string }
  t.equal(dashboard.etag, 'abc=', 'of the version that it replaces')
  t.strictSame(readdirSync(tmp), [], 'it leaves nothing behind')
})

t.test('apply.sh never touches what another service, or a hand, has made', async (t) => {
  const { apply } = fakes(t)
  for (const run of [1, 2]) {
    const { code, calls } = await apply(ARGS)
    t.equal(code, 0, `${run}`)
    t.notMatch(calls, /update\|projects\/1\/(alertPolicies\/(of-another|by-hand)|dashboards\/[56])/)
  }
  t.match(await apply(ARGS, { TWICE: 'yes' }), { code: 1, stderr: /several policies .*alert=bridge-down: delete all but one/ })
})

t.test('an alert contains its section of the runbook, or links to where it is published', async (t) => {
  const { state, apply } = fakes(t)
  const contents = () => readdirSync(state).filter(file => file.startsWith('policy-')).map(file => {
    return (JSON.parse(readFileSync(join(state, file), 'utf8')) as Policy).documentation.content
  })
  await apply([...ARGS, ...EVERYTHING])
  t.equal(contents().length, alerts.length)
  // Google takes 8,192 characters and 10,240 bytes.
  t.strictSame(contents().filter(text => !text.includes('**It means**') || !text.includes('**Do**') || text.length > 8_192), [])
  t.strictSame(contents().filter(text => /\]\(|\bSERVICE\b|\bREGION\b|\bREDIS\b/.test(text)), [], 'no dead link, nothing to fill in')
  t.ok(contents().some(text => text.includes('gcloud memorystore instances describe chat-valkey --location europe-west1')))
  await apply([...ARGS, ...EVERYTHING, '--runbook', 'https://example.com/runbook.md'])
  t.strictSame(contents().filter(text => !/\[runbook\]\(https:\/\/example\.com\/runbook\.md#[a-z0-9-]+\)$/.test(text)), [])
})

t.test('apply.sh says when nobody is notified, and when Redis is not watched', async (t) => {
  const { state, apply } = fakes(t)
  const { code, stderr } = await apply(ARGS)
  t.equal(code, 0)
  t.match(stderr, `${alwaysFiles.length} alerts notify nobody. Add a notification channel: --notification-channel`)
  t.match(stderr, /nothing watches the memory of Redis/)
  t.strictSame(readdirSync(state).filter(file => /policy-(memorystore|uptime)/.test(file)), [])
})

t.test('apply.sh for another cluster leaves out what only Cloud Run has', async (t) => {
  const { state, apply } = fakes(t)
  const { code, calls } = await apply([...ARGS, '--cluster', 'my-cluster'])
  t.equal(code, 0)
  t.notMatch(calls, /\|logging\||availability/)
  t.match(readFileSync(join(state, 'chat_my-cluster-policy-bridge-down.json'), 'utf8'), 'cluster=\\"my-cluster\\"')
})

t.test('apply.sh for one name on Cloud Run and on another cluster keeps what it has made apart', async (t) => {
  const { state, apply } = fakes(t)
  const other = ['--cluster', '__gae__']
  for (const args of [[], other]) {
    const { code, stderr, calls } = await apply([...ARGS, ...args])
    t.equal(code, 0, stderr)
    t.notMatch(calls, /\|(dashboards|policies)\|update\||PATCH/, 'nothing of another cluster is replaced')
  }
  for (const file of ['policy-bridge-down.json', 'dashboard.json']) {
    const [run, gae] = ['', 'chat___gae__-'].map(owner => readFileSync(join(state, owner + file), 'utf8'))
    t.match(run, /"displayName": "chat[: ][^]*cluster=\\"__run__\\"/)
    t.match(gae, /"displayName": "chat \(__gae__\)[: ][^]*cluster=\\"__gae__\\"/)
  }
  t.ok(['chat-websocket', 'chat-websocket---gae--'].every(id => existsSync(join(state, `services_${id}`))))
  t.notMatch((await apply([...ARGS, ...other])).calls, /\|(dashboards|policies)\|create\||POST/, 'it finds its own again')
  t.match(await apply([...ARGS, '--cluster', 'c'.repeat(60)]), { code: 2, stderr: /--service and --cluster may have 62 characters together/ })
})

t.test('apply.sh --dry-run prints every command and calls nothing', async (t) => {
  const { apply } = fakes(t)
  const { code, stdout, calls } = await apply([...ARGS, ...EVERYTHING, '--dry-run'])
  t.equal(code, 0)
  t.equal(calls, '')
  t.equal(stdout.match(/^gcloud monitoring (dashboards|policies) (create|update) .*--project my-project /gm)?.length, 2 * (1 + alerts.length))
  t.equal(stdout.match(/^gcloud monitoring (dashboards|policies) list /gm)?.length, 2)
  t.equal(stdout.match(/^gcloud logging metrics (create|update) /gm)?.length, 2 * logMetricFiles.length)
  t.equal(stdout.match(/^curl /gm)?.length, 3 * (1 + objectiveFiles.length))
  const files = stdout.match(/\/\S+\.json/g)!
  t.doesNotThrow(() => files.map(path => JSON.parse(readFileSync(path, 'utf8'))), 'the files are there to look at')
})

t.test('apply.sh stops before anything is made if gcloud is too old, at the first failure, and at options that are wrong', async (t) => {
  const { apply } = fakes(t)
  const old = await apply(ARGS, { OLD_GCLOUD: 'yes' })
  t.match(old, { code: 1, stderr: /no "gcloud monitoring policies". Update it: gcloud components update/, calls: /^gcloud.*--help\|\n$/ })
  for (const step of ['list', 'create']) {
    t.match(await apply(ARGS, { GCLOUD_FAILS: step }), { code: 1, stderr: /PERMISSION_DENIED/, calls: /^(?!.*policies\|(list|create))/s })
  }
  const refused = await apply(ARGS, { CURL_FAILS: 'yes' })
  t.match(refused, { code: 1, stderr: /INVALID_ARGUMENT/, calls: /^(?!.*serviceLevelObjectives)/s })
  t.match(await apply(ARGS, { CURL_ANSWERS: '403' }), {
    code: 1, stderr: /answered 403 for https:\/\/monitoring\.googleapis\.com\/\S*\/services\/chat-websocket: \{ "error": .*SERVICE_DISABLED/
  })
  const project = ['--project', 'my-project']
  const wrong = [
    [], project, [...ARGS, '--force'], [...project, '--service', 'a b'], [...ARGS, '--runbook'], [...ARGS, '--runbook', 'https://a"b'],
    [...ARGS, '--runbook', 'docs/runbook.md'], [...ARGS, '--redis', 'a/b'], [...ARGS, '--uptime', 'https://a'], [...ARGS, '--cluster', 'a b']
  ]
  for (const args of wrong) t.match(await apply(args), { code: 2, stderr: /usage: /, calls: '' }, args.join(' '))
  t.match(await apply(['--help']), { code: 0, stdout: /usage: / })
})
