import { execFile } from 'node:child_process'
import { chmodSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import protobuf from 'protobufjs'
import protojson from 'protobufjs/ext/protojson.js'
import t from 'tap'
import type { Test } from 'tap'
import { parse, PromQL } from '../../bench/promql.mjs'
import type { Series, Tree } from '../../bench/promql.mjs'
import { logEvents } from '../../lib/observability/log-events.ts'
import { metricNames } from '../../lib/observability/instruments.ts'

const root = join(import.meta.dirname, '../..')
const folder = join(root, 'example/monitoring')
const read = (file: string) => readFileSync(join(folder, file), 'utf8')
const alertFiles = readdirSync(join(folder, 'alerts')).map(file => `alerts/${file}`)

interface Widget { title: string, [kind: string]: unknown }
interface Tile { xPos?: number, yPos?: number, width: number, height: number, widget: Widget }
interface PrometheusCondition { query: string, duration: string, evaluationInterval: string, disableMetricValidation: boolean }
interface Alert {
  displayName: string
  severity: string
  documentation: { content: string }
  conditions: Array<{ displayName: string, conditionPrometheusQueryLanguage: PrometheusCondition }>
  alertStrategy: { autoClose: string }
}

const { tiles, columns } = (JSON.parse(read('dashboard.json')) as { mosaicLayout: { columns: number, tiles: Tile[] } }).mosaicLayout
const alerts = alertFiles.map(file => JSON.parse(read(file)) as Alert)
const queryOf = (alert: Alert) => alert.conditions[0]!.conditionPrometheusQueryLanguage.query
const runbook = read('runbook.md')

/** Every value of the key, at any depth. */
function all (value: unknown, key: string): string[] {
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([name, one]) => name === key ? [one as string] : all(one, key))
}

/** In the runbook a query stands in backticks and has a selector. */
const runbookQueries = Array.from(runbook.matchAll(/`([^`\n]*\{"[^`\n]*)`/g), ([, query]) => query!)
const queries = [...all(tiles, 'prometheusQuery'), ...alerts.map(queryOf), ...runbookQueries]

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
/** Values that the reference lists, by attribute. */
const valuesOf: Record<string, string> = {
  'websocket.close.cause': /^\| `websocket\.close\.cause` \| ([a-z, ]+) \|$/m.exec(reference)![1]!,
  'error.type': /^\| `error\.type` of a rejection \| ([a-z_, ]+) \|$/m.exec(reference)![1]!
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
  const [first, ...matchers] = selector.children[0]!.children
  if (first?.name !== 'QuotedLabelName') return [`no metric in ${selector.text}`]
  const name = unquoted(first.text)
  const base = emitted.has(name) ? name : name.replace(/_(bucket|count|sum)$/, '')
  const metric = emitted.get(base)
  if (metric === undefined) return [`${name} is not emitted`]
  const isHistogram = metric.kind === 'Histogram'
  const grows = isHistogram || metric.kind === 'Counter'
  const allowed = [...RESOURCE, ...metric.attributes, ...name.endsWith('_bucket') ? ['le'] : []]
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
  return known === undefined || known.split(',').map(one => one.trim()).includes(unquoted(matcher.children[2]!.text))
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
    'sum(up)': /no metric/,
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

t.test('every query of the dashboard and the alerts is about the one service on Cloud Run', async (t) => {
  const service = 'job="${SERVICE}", cluster="__run__"' // eslint-disable-line no-template-curly-in-string
  const isAboutService = (query: string) => query.includes(service) && query.split('{"').length === query.split(service).length
  const charts = all(tiles, 'prometheusQuery')
  t.strictSame([...charts, ...alerts.map(queryOf)].filter(query => !isAboutService(query)), [])
  const isShown = (metric: string) => charts.some(query => query.includes(`"${metric}`))
  t.strictSame(Object.values(metricNames).filter(metric => !isShown(metric)), [], 'every metric is in the dashboard')
})

// Google's own protos define what the APIs accept. Unknown fields, unknown enum values and wrong types are refused.

function check (client: string, type: string) {
  const protos = readFileSync(join(root, `node_modules/@google-cloud/${client}/build/protos/protos.json`), 'utf8')
  const message = protobuf.Root.fromJSON(JSON.parse(protos) as protobuf.INamespace).lookupType(type)
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
  checkObjective(read('slo.json'))

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
    [checkAlert, spoilt('alerts/bridge-down.json', '"60s"', '"1m"'), /invalid duration/],
    [checkAlert, spoilt('alerts/bridge-down.json', '"query"', '"promql"'), /unknown field/],
    [checkObjective, spoilt('slo.json', '"distributionCut"', '"cut"'), /unknown field/],
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

t.test('every alert can be created before its metric exists, and closes by itself', async (t) => {
  const seen = alerts.map(({ displayName, conditions: [condition], alertStrategy }) => {
    const { disableMetricValidation, evaluationInterval } = condition!.conditionPrometheusQueryLanguage
    return {
      displayName,
      disableMetricValidation,
      intervalIsAllowed: Number.parseInt(evaluationInterval) % 30 === 0,
      closes: Number.parseInt(alertStrategy.autoClose) >= 1_800
    }
  })
  t.strictSame(seen, alerts.map(({ conditions: [condition] }) => {
    return { displayName: `\${SERVICE}: ${condition!.displayName}`, disableMetricValidation: true, intervalIsAllowed: true, closes: true }
  }))
})

t.test('every alert has its section in the runbook, and every link in the runbook leads to a section', async (t) => {
  const parts = ['**It means**', '**Look at**', '**Do**']
  const names = alerts.map(({ conditions: [condition] }) => condition!.displayName)
  t.strictSame(names.filter(name => !parts.every(part => sections.get(name)?.includes(part))), [])
  const isLinked = (alert: Alert, i: number) => alert.documentation.content.endsWith(`(\${RUNBOOK}#${anchorOf(names[i]!)})`)
  t.strictSame(alerts.filter((alert, i) => !isLinked(alert, i)), [])
  const anchors = Array.from(sections.keys(), anchorOf)
  const links = Array.from(runbook.matchAll(/\]\(#([^)]+)\)/g), ([, link]) => link!)
  t.strictSame(links.filter(link => !anchors.includes(link)), [])
  t.equal([...sections.keys()].filter(name => /^\d\./.test(name)).length, 5, "the guide's five cases")
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

// The alerts, over samples of ten minutes, one every 30 s.

const MINUTE = 60_000
const END = 20 * MINUTE
const SERVICE = '${SERVICE}' // eslint-disable-line no-template-curly-in-string
const labels = { job: SERVICE, cluster: '__run__', location: 'europe-west1', instance: 'a' }

/** `value` at each minute since the beginning. */
function samples (name: string, attributes: Record<string, string>, value: (minute: number) => number): [string, Series] {
  return [name, { labels: { ...labels, ...attributes }, samples: Array.from({ length: 41 }, (_, i) => [i * MINUTE / 2, value(i / 2)]) }]
}

function fires (name: string, ...series: Array<[string, Series]>): boolean {
  const alert = alerts.find(({ conditions: [condition] }) => condition!.displayName === name)!
  const byName = new Map<string, Series[]>()
  for (const [metric, one] of series) byName.set(metric, [...byName.get(metric) ?? [], one])
  return new PromQL(byName).evaluate(queryOf(alert), END).length > 0
}

t.test('every alert fires when it should, and not before', async (t) => {
  const { up, missed, rejected, duration, active, limit, deliveryLag } = metricNames
  t.ok(fires('Bridge down', samples(up, {}, () => 1), samples(up, { instance: 'b' }, minute => minute < 15 ? 1 : 0)))
  t.notOk(fires('Bridge down', samples(up, {}, () => 1), samples(up, { instance: 'b' }, minute => minute < 15 ? 0 : 1)))

  t.ok(fires('Publications missed', samples(missed, {}, minute => minute < 18 ? 3 : 4)))
  t.notOk(fires('Publications missed', samples(missed, {}, () => 4)))
  const [name, fresh] = samples(missed, {}, () => 1)
  const late = fresh.samples.filter(([time]) => time > 18 * MINUTE)
  t.ok(fires('Publications missed', [name, { ...fresh, samples: late }]), 'also by a counter that did not exist before')

  const refusals = (perMinute: number, type: string) => samples(rejected, { 'error.type': type }, minute => minute * perMinute)
  const ended = (perMinute: number, cause: string) => {
    return samples(`${duration}_count`, { 'websocket.close.cause': cause }, minute => minute * perMinute)
  }
  const open = (perMinute: number) => samples(active, {}, minute => minute * perMinute)
  t.ok(fires('Too many rejections', refusals(10, 'capacity'), ended(50, 'client'), open(50)))
  t.ok(fires('Too many rejections', refusals(10, 'capacity'), open(0)), 'also when nobody gets in')
  t.notOk(fires('Too many rejections', refusals(4, 'capacity'), ended(50, 'client'), open(50)))
  t.notOk(fires('Too many rejections', refusals(1, 'capacity'), ended(2, 'client'), open(0)), 'a few')
  t.notOk(fires('Too many rejections', refusals(100, 'draining'), ended(50, 'client'), open(50)))

  t.ok(fires('Connections break', ended(40, 'abnormal'), ended(60, 'client')))
  t.notOk(fires('Connections break', ended(20, 'abnormal'), ended(80, 'client')))
  t.notOk(fires('Connections break', ended(1, 'abnormal')), 'a few')

  const full = (value: number, instance: string) => {
    return [samples(active, { instance }, () => value), samples(limit, { instance }, () => 950)]
  }
  t.ok(fires('Saturation', ...full(900, 'a'), ...full(800, 'b')))
  t.notOk(fires('Saturation', ...full(950, 'a'), ...full(500, 'b')))

  const lags = (late: number) => ['0.5', '1', '2.5', '+Inf'].map((le, i) => {
    return samples(`${deliveryLag}_bucket`, { le }, minute => minute * (i < 2 ? 100 - late : 100))
  })
  t.ok(fires('Delivery is late', ...lags(6)))
  t.notOk(fires('Delivery is late', ...lags(4)))
})

t.test('the evaluator refuses what it does not know', async (t) => {
  const promql = new PromQL(new Map())
  t.throws(() => promql.evaluate('sum({"a"}) / on (b) sum({"c"})', 0))
  t.throws(() => promql.evaluate('sin({"a"})', 0))
  t.throws(() => promql.evaluate('stddev({"a"})', 0) && promql.evaluate('-{"a"}', 0))
})

t.test('the picture in the docs is there and small', async (t) => {
  t.ok(statSync(join(folder, 'dashboard.png')).size < 300_000)
  t.ok(readFileSync(join(root, 'docs/operations.md'), 'utf8').includes('(../example/monitoring/dashboard.png)'))
})

// The script runs with programs on the PATH that record their calls. What they "create" exists from then on.

const fakeGcloud = `#!/bin/sh
printf '%s|' gcloud "$@" >> "$LOG"; echo >> "$LOG"
[ "$2" = print-access-token ] && echo secret-token && exit
[ "$GCLOUD_FAILS" = "$3" ] && echo 'PERMISSION_DENIED' >&2 && exit 1
for one in "$@"; do case $one in *.json) file=$one ;; esac; done
case $2-$3 in
  dashboards-list) [ -f "$STATE/dashboard.json" ] && printf 'projects/1/dashboards/7\\tabc=\\n' ;;
  policies-list)
    name=\${7#*=}
    file=$(grep -lF "\\"displayName\\": $name," "$STATE"/*) && printf 'projects/1/alertPolicies/%s\\t%s\\n' "\${file##*/}" "$KEPT" ;;
  *-create|*-update) cp "$file" "$STATE/" ;;
esac
exit 0
`
const fakeCurl = `#!/bin/sh
read -r header
printf '%s|' curl "$@" "$header" >> "$LOG"; echo >> "$LOG"
for one in "$@"; do case $one in https://*) url=$one ;; @*) file=\${one#@} ;; esac; done
case "$*" in
  *http_code*) [ -n "$CURL_ANSWERS" ] && printf "$CURL_ANSWERS" && exit; [ -f "$STATE/\${url##*/}" ] && printf 200 || printf 404 ;;
  *POST*) [ -n "$CURL_FAILS" ] && echo 'INVALID_ARGUMENT' && exit 22; cp "$file" "$STATE/\${url##*=}" ;;
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

t.test('apply.sh creates everything, and updates it the next time', async (t) => {
  const { state, tmp, apply } = fakes(t)
  const channels = ['--notification-channel', CHANNEL, '--notification-channel', `${CHANNEL}2`]
  const first = await apply([...ARGS, '--runbook', 'https://example.com/runbook.md', ...channels])
  t.equal(first.code, 0, first.stderr)
  t.match(first.calls, /^gcloud\|monitoring\|dashboards\|list\|--project\|my-project\|--filter\|displayName="chat WebSockets"\|/)
  t.equal(first.calls.match(/\|dashboards\|create\|--project\|my-project\|--config-from-file\|/g)?.length, 1)
  t.equal(first.calls.match(/\|policies\|create\|--project\|my-project\|--policy-from-file\|/g)?.length, alerts.length)
  t.equal(first.calls.split(`|--notification-channels|${CHANNEL},${CHANNEL}2|`).length - 1, alerts.length)
  const services = 'https://monitoring.googleapis.com/v3/projects/my-project/services'
  t.match(first.calls, `POST|${services}?service_id=chat-websocket|`)
  t.match(first.calls, `POST|${services}/chat-websocket/serviceLevelObjectives?service_level_objective_id=delivery|`)
  t.notMatch(first.calls, /\|update\||PATCH/)
  t.match(first.calls, /\|header = "Authorization: Bearer secret-token"\|$/m, 'the token comes through stdin, which is last here')
  t.notMatch(first.calls, /secret-token(?!"\|$)/m, 'and is in no argument')

  const created = readdirSync(state).map(file => readFileSync(join(state, file), 'utf8'))
  t.equal(created.length, 3 + alerts.length)
  t.strictSame(created.filter(text => /\$\{(SERVICE|RUNBOOK)\}/.test(text)), [], 'nothing is left to fill in')
  t.strictSame(created.filter(text => !text.includes('chat')), [])
  t.doesNotThrow(() => created.map(text => JSON.parse(text)))
  t.ok(created.some(text => text.includes('https://example.com/runbook.md#bridge-down')))

  const second = await apply(ARGS, { KEPT: CHANNEL })
  t.equal(second.code, 0, second.stderr)
  t.notMatch(second.calls, /\|create\||POST/)
  t.equal(second.calls.match(/\|dashboards\|update\|projects\/1\/dashboards\/7\|/g)?.length, 1)
  t.equal(new Set(second.calls.match(/\|policies\|update\|projects\/1\/alertPolicies\/[a-z-]+\.json\|/g)).size, alerts.length)
  t.equal(second.calls.split(`|--set-notification-channels|${CHANNEL}|`).length - 1, alerts.length, 'channels set by other means are kept')
  t.equal(second.calls.match(/PATCH/g)?.length, 2)
  const dashboard = JSON.parse(readFileSync(join(state, 'dashboard.json'), 'utf8')) as { etag: string }
  t.equal(dashboard.etag, 'abc=', 'of the version that it replaces')
  t.strictSame(readdirSync(tmp), [], 'it leaves nothing behind')
})

t.test('apply.sh --dry-run prints every command and calls nothing', async (t) => {
  const { apply } = fakes(t)
  const { code, stdout, calls } = await apply([...ARGS, '--dry-run'])
  t.equal(code, 0)
  t.equal(calls, '')
  const calledOn = /^gcloud monitoring (dashboards|policies) (list|create|update) .*--project my-project /gm
  t.equal(stdout.match(calledOn)?.length, 3 * (1 + alerts.length))
  t.equal(stdout.match(/^curl /gm)?.length, 6)
  const files = stdout.match(/\/\S+\.json/g)!
  t.doesNotThrow(() => files.map(path => JSON.parse(readFileSync(path, 'utf8'))), 'the files are there to look at')
})

t.test('apply.sh stops at the first failure, and at options that are wrong', async (t) => {
  const { apply } = fakes(t)
  for (const step of ['list', 'create']) {
    t.match(await apply(ARGS, { GCLOUD_FAILS: step }), { code: 1, stderr: /PERMISSION_DENIED/, calls: /^(?!.*policies)/s })
  }
  const refused = await apply(ARGS, { CURL_FAILS: 'yes' })
  t.match(refused, { code: 1, stderr: /INVALID_ARGUMENT/, calls: /^(?!.*serviceLevelObjectives)/s })
  t.match(await apply(ARGS, { CURL_ANSWERS: '403' }), { code: 1, stderr: /answered 403/ })
  const project = ['--project', 'my-project']
  const wrong = [[], project, [...ARGS, '--force'], [...project, '--service', 'a b'], [...ARGS, '--runbook'], [...ARGS, '--runbook', 'a"b']]
  for (const args of wrong) t.match(await apply(args), { code: 2, stderr: /usage: /, calls: '' }, args.join(' '))
  t.match(await apply(['--help']), { code: 0, stdout: /usage: / })
})
