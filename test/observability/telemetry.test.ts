import { metrics } from '@opentelemetry/api'
import { AggregationTemporality, InMemoryMetricExporter, MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics'
import Fastify from 'fastify'
import type { FastifyBaseLogger } from 'fastify'
import { execFile } from 'node:child_process'
import dns from 'node:dns'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { get } from 'node:http'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setImmediate as endOfTurn, setTimeout as wait } from 'node:timers/promises'
import { promisify } from 'node:util'
import t from 'tap'
import type { Test } from 'tap'
import cloudRunWebSocket from '../../index.ts'
import { metricNames, registeredProvider } from '../../lib/observability/instruments.ts'
import { Logs } from '../../lib/observability/logs.ts'
import { resolveOptions } from '../../lib/options/resolve.ts'
import { processMetricNames } from '../../lib/observability/otel/process-metrics.ts'
import { Telemetry } from '../../lib/observability/otel/telemetry.ts'
import { telemetrySettings } from '../../lib/observability/otel/environment.ts'
import type { Load } from '../../lib/observability/otel/sdk.ts'
import { startApp } from '../helpers/app.ts'
import { buildPackage } from '../helpers/built-package.ts'
import { setEnvironment } from '../helpers/environment.ts'
import { startMetadataServer } from '../helpers/metadata.ts'
import { startOtlpServer } from '../helpers/otlp.ts'
import { until } from '../helpers/until.ts'
import { connect, rejected } from '../helpers/ws-client.ts'

type Entry = Record<string, any>

const cloudRun = { K_SERVICE: 'chat', K_REVISION: 'chat-00042-abc', K_CONFIGURATION: 'chat' }

function startLog () {
  const entries: Entry[] = []
  const stream = { write: (line: string) => { entries.push(JSON.parse(line)) } }
  return { stream, ours: () => entries.filter(({ event }) => String(event).startsWith('telemetry.')), log: Fastify({ logger: { stream } }).log as FastifyBaseLogger }
}

const load: Load = name => import(name)

/** One that is closed when the test ends. */
function newTelemetry (t: Test, { load: loadPackage = load, budget = 3_000 }: { load?: Load, budget?: number } = {}) {
  const { log, ours } = startLog()
  const telemetry = new Telemetry(new Logs({ log, cloud: false, close: async () => {} }, resolveOptions({}, {}).logging), loadPackage)
  t.teardown(() => telemetry.close(budget))
  return { telemetry, entries: ours }
}

const flush = () => (metrics.getMeterProvider() as MeterProvider).forceFlush()

const unhandled: unknown[] = []
process.on('unhandledRejection', error => { unhandled.push(error) })
t.teardown(() => { if (unhandled.length > 0) throw unhandled[0] })

await t.test('with OTEL_EXPORTER_OTLP_ENDPOINT an app sends its metrics there, those of before the SDK too', async (t) => {
  const otlp = await startOtlpServer(t)
  setEnvironment(t, { OTEL_EXPORTER_OTLP_ENDPOINT: otlp.url, OTEL_SERVICE_NAME: 'shop', OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=test,service.instance.id=pod-7' })
  const log = startLog()
  const { app, url } = await startApp(t, { onMessage: (connection, data) => connection.send(data) }, { logger: { stream: log.stream } })
  const client = await connect(t, `${url}/ws`)
  client.send('four')
  await client.next()
  await rejected(`${url}/ws`, { headers: { origin: 'https://other.example' } })
  t.equal(registeredProvider(), undefined, 'there is no SDK yet')

  await until(() => log.ours().length > 0, 'the SDK has started')
  await until(() => otlp.requests.length === 1, 'a first export, long before the first interval has passed')
  t.match(otlp.latest(metricNames.closed), { client: 0, drain: 0, abnormal: 0 })
  t.match(log.ours(), [{ event: 'telemetry.started', level: 30, url: `${otlp.url}/v1/metrics`, interval: 60_000 }])
  await until(async () => {
    await wait(100) // delays are measured every 20 ms, and each flush starts anew
    await flush()
    return otlp.latest(processMetricNames.eventLoopDelay)[''] !== undefined
  }, 'delays were measured')
  t.strictSame(otlp.latest(metricNames.messages), { 'plain receive': 1, 'plain transmit': 1, 'json receive': 0, 'json transmit': 0, 'protobuf receive': 0, 'protobuf transmit': 0 })
  t.strictSame(otlp.latest(metricNames.rejected), { capacity: 0, origin: 1, auth: 0, auth_failed: 0, rate_limit: 0, draining: 0 })
  t.strictSame(otlp.latest(metricNames.missed), { '': 0 })
  t.ok(otlp.latest(processMetricNames.memory)['']! > 10_000_000)
  t.ok(otlp.latest(processMetricNames.eventLoopDelay)['']! >= 0)
  t.strictSame(otlp.requests.at(-1)!.metrics.filter(({ name }) => !name.startsWith('websocket.')).map(({ name, unit, kind }) => ({ name, unit, kind })), [
    { name: 'nodejs.eventloop.delay.p99', unit: 's', kind: 'Gauge' },
    { name: 'process.memory.usage', unit: 'By', kind: 'UpDownCounter' }
  ])
  t.match(otlp.requests[0]!.resource, { 'service.name': 'shop', 'deployment.environment.name': 'test', 'service.instance.id': 'pod-7', 'telemetry.sdk.language': 'nodejs' })
  t.equal(otlp.requests[0]!.headers.authorization, undefined)

  await app.close()
  t.strictSame(otlp.latest(metricNames.drainDuration), { '': 1 }, 'the last values are sent when the app closes')
  t.strictSame(otlp.latest(metricNames.duration), { 'plain drain': 1 })
  t.match(otlp.latest(metricNames.closed), { drain: 1, client: 0 })
  t.ok(otlp.requests.every(({ path }) => path === '/v1/metrics'), 'no traces, no logs')
  t.equal(registeredProvider(), undefined, 'the global SDK is as it was')
})

await t.test('the start does not wait for the import of OpenTelemetry, unless the host has brought it', async (t) => {
  const folder = t.testdir({
    'server.mjs': `
      import Fastify from 'fastify'
      import { once } from 'node:events'
      import { createRequire, register } from 'node:module'
      import { setTimeout as wait } from 'node:timers/promises'
      import cloudRunWebSocket from './dist/index.js'
      const { cache } = createRequire(import.meta.url)
      const imported = () => Object.keys(cache).some(file => file.includes('@opentelemetry/api'))
      const [telemetry, host = ''] = process.argv.slice(2)
      if (host.startsWith('missing')) register('data:text/javascript,' + encodeURIComponent("export const resolve = (name, context, next) => next(name.replace('@opentelemetry/api', 'not-there'), context)"))
      // As it is where a package manager gives the API to the app, but not to the plugin.
      if (host === 'missing for us') globalThis[Symbol.for('opentelemetry.js.api.1')] = { version: '1.9.1' }
      if (host === 'before') (await import('@opentelemetry/api')).diag.setLogger(console)
      const seen = []
      const failures = []
      const app = Fastify({ logger: { stream: { write: line => { if (line.includes('telemetry.failed')) failures.push(JSON.parse(line).msg) } } } })
      app.addHook('onListen', async () => { seen.push(imported()) })
      await app.register(cloudRunWebSocket, { telemetry: telemetry === 'auto' ? 'auto' : false })
      const exporter = host === 'meanwhile' ? await registerTracer() : undefined
      await app.listen({ port: 0, host: '127.0.0.1' })
      if (exporter) {
        const { default: WebSocket } = await import('ws')
        await once(new WebSocket(\`ws://127.0.0.1:\${app.server.address().port}/ws\`), 'open')
        seen.push(exporter.getFinishedSpans().map(({ name }) => name))
      }
      while (telemetry === 'auto' && !imported() && failures.length === 0) await wait(20)
      await app.close()
      console.log(JSON.stringify([...seen, imported(), ...failures]))

      async function registerTracer () {
        const { InMemorySpanExporter, NodeTracerProvider, SimpleSpanProcessor } = await import('@opentelemetry/sdk-trace-node')
        const exporter = new InMemorySpanExporter()
        new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }).register()
        return exporter
      }
    `
  })
  await buildPackage(folder)
  const start = async (telemetry: string, host = '', environment = {}) => {
    const env = { PATH: process.env.PATH, ...environment }
    const { stdout } = await promisify(execFile)(process.execPath, [join(folder, 'server.mjs'), telemetry, host], { env })
    return JSON.parse(stdout.trim().split('\n').at(-1)!)
  }
  const [auto, before, meanwhile, missing, missingForUs, off] = await Promise.all([
    start('auto'),
    start('auto', 'before'),
    start('auto', 'meanwhile'),
    start('auto', 'missing', { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4318' }),
    start('auto', 'missing for us'),
    start('false')
  ])
  t.strictSame(auto, [false, true], 'after it')
  t.strictSame(before, [true, true])
  t.strictSame(meanwhile, [true, ['GET /ws'], true], 'the first upgrade has its span')
  t.match(missing, [false, false, /npm install @opentelemetry\/api @opentelemetry\/sdk-node/], 'the app works without it')
  t.match(missingForUs, [false, false, /npm install @opentelemetry\/api;/], 'an SDK of the app needs nothing else')
  t.strictSame(off, [false, false], 'not at all')
})

await t.test('on Cloud Run they go to Google with the resource of this instance and a token', async (t) => {
  const otlp = await startOtlpServer(t)
  const metadata = await startMetadataServer(t)
  metadata.lifetime.seconds = 1 // so that every request needs a new one
  setEnvironment(t, { ...cloudRun, ...metadata.env, GOOGLE_CLOUD_TELEMETRY_ENDPOINT: otlp.url, OTEL_RESOURCE_ATTRIBUTES: 'service.instance.id=the-same-for-all,team=chat' })
  const { telemetry, entries } = newTelemetry(t)
  await telemetry.start()
  metrics.getMeter('host').createCounter('orders').add(1)
  await flush()
  await flush()
  t.strictSame(entries().map(({ event }) => event), ['telemetry.started'])
  t.equal(otlp.requests.length, 2)
  const tokens = otlp.requests.map(({ headers }) => headers.authorization)
  t.ok(tokens.every(token => /^Bearer token-\d+$/.test(String(token))))
  t.equal(new Set(tokens).size, 2, 'a fresh one each time')
  const { 'telemetry.sdk.name': _name, 'telemetry.sdk.version': _version, 'telemetry.sdk.language': _language, ...resource } = otlp.requests[0]!.resource
  t.strictSame(resource, {
    'gcp.project_id': 'project-1',
    'cloud.provider': 'gcp',
    'cloud.account.id': 'project-1',
    'cloud.platform': 'gcp_cloud_run',
    'cloud.region': 'europe-west1',
    'faas.name': 'chat',
    'faas.version': 'chat-00042-abc',
    'faas.instance': '00bf4bf02d',
    'service.name': 'chat',
    'service.version': 'chat-00042-abc',
    'service.instance.id': '00bf4bf02d',
    team: 'chat'
  })
})

await t.test('on GKE and on App Engine flexible they go to Google too', async (t) => {
  const otlp = await startOtlpServer(t)
  const metadata = await startMetadataServer(t)
  Object.assign(metadata.values, { '/instance/attributes/cluster-name': 'main', '/instance/attributes/cluster-location': 'europe-west1' })
  const gke = { KUBERNETES_SERVICE_HOST: '10.0.0.1', HOSTNAME: 'chat-7d9f8b6c5d-x2x7z', POD_NAMESPACE: 'live' }
  const appEngine = { GAE_SERVICE: 'chat', GAE_VERSION: 'v2', GAE_INSTANCE: 'aef-1', GOOGLE_CLOUD_PROJECT: 'mine' }
  for (const [env, resource] of [
    [gke, { 'gcp.project_id': 'project-1', 'cloud.region': 'europe-west1', 'k8s.cluster.name': 'main', 'k8s.namespace.name': 'live', 'service.name': 'chat', 'service.instance.id': 'chat-7d9f8b6c5d-x2x7z' }],
    [appEngine, { 'gcp.project_id': 'mine', 'cloud.region': 'europe-west1', cluster: '__gae__', 'service.name': 'chat', 'service.instance.id': 'aef-1' }]
  ] as const) {
    await t.test(resource['service.instance.id'], async (t) => {
      setEnvironment(t, { ...env, ...metadata.env, GOOGLE_CLOUD_TELEMETRY_ENDPOINT: otlp.url })
      const { telemetry, entries } = newTelemetry(t)
      await telemetry.start()
      await flush()
      t.match(otlp.requests.at(-1), { headers: { authorization: /^Bearer token-/ }, resource })
      t.strictSame(entries().map(({ event }) => event), ['telemetry.started'])
    })
  }
})

/** Sends what asks for names of Google's to this machine. */
function lookUpHere (t: Test): void {
  const { lookup } = dns
  t.teardown(() => { dns.lookup = lookup })
  dns.lookup = ((name: string, options: object, done: (error: Error | null, addresses: object[]) => void) => {
    if (name.endsWith('.googleapis.com')) done(null, [{ address: '127.0.0.1', family: 4 }])
    else lookup(name, options, done as never)
  }) as never
}

await t.test("where OTEL_EXPORTER_OTLP_ENDPOINT is Google's, they go there from anywhere, with a token and the project of the credentials", async (t) => {
  const folder = t.testdir()
  const [keyFile, certificate] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
  await promisify(execFile)('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-subj', '/CN=telemetry.googleapis.com', '-addext', 'subjectAltName=DNS:telemetry.googleapis.com', '-keyout', keyFile, '-out', certificate])
  const otlp = await startOtlpServer(t, { key: readFileSync(keyFile, 'utf8'), cert: readFileSync(certificate, 'utf8') })
  const metadata = await startMetadataServer(t)
  lookUpHere(t)
  const env = {
    ...metadata.env,
    PATH: '/nowhere', // else the library would ask gcloud for its project
    OTEL_EXPORTER_OTLP_ENDPOINT: `https://telemetry.googleapis.com:${otlp.port}`,
    OTEL_EXPORTER_OTLP_CERTIFICATE: certificate,
    OTEL_SERVICE_NAME: 'chat',
    OTEL_RESOURCE_ATTRIBUTES: 'cloud.region=europe-west1'
  }
  for (const [more, project] of [
    [{ GOOGLE_CLOUD_PROJECT: 'mine' }, 'mine'],
    [{ GOOGLE_CLOUD_QUOTA_PROJECT: 'billed' }, 'billed'],
    [{ OTEL_RESOURCE_ATTRIBUTES: 'location=europe-west1,gcp.project_id=given' }, 'given'],
    [{}, 'project-1']
  ] as Array<[Record<string, string>, string]>) {
    await t.test(project, async (t) => {
      setEnvironment(t, { ...env, ...more })
      const { telemetry, entries } = newTelemetry(t)
      await telemetry.start()
      await flush()
      t.match(entries(), [{ event: 'telemetry.started', url: `https://telemetry.googleapis.com:${otlp.port}/v1/metrics` }])
      t.match(otlp.requests.at(-1), { path: '/v1/metrics', headers: { authorization: /^Bearer token-/ }, resource: { 'gcp.project_id': project, 'service.name': 'chat' } })
      otlp.status = 403
      await flush()
      otlp.status = 200
      t.match(entries().at(-1), { cause: 'forbidden', msg: /roles\/telemetry\.metricsWriter/ }, "said as Google's")
    })
  }
  setEnvironment(t, env)
  const wrong: Array<[Record<string, string | undefined>, string, RegExp]> = [
    [{ OTEL_RESOURCE_ATTRIBUTES: undefined }, 'setup', /has to know the region/],
    [{ GOOGLE_APPLICATION_CREDENTIALS: '/nowhere/key.json' }, 'credentials', /key\.json.*GOOGLE_APPLICATION_CREDENTIALS and GOOGLE_CLOUD_PROJECT/]
  ]
  for (const [without, cause, msg] of wrong) {
    await t.test(cause, async (t) => {
      setEnvironment(t, without)
      const { telemetry, entries } = newTelemetry(t)
      await telemetry.start()
      t.match(entries(), [{ event: 'telemetry.failed', cause, msg }])
    })
  }
})

await t.test('on Cloud Run with a collector they go there, without a token', async (t) => {
  const otlp = await startOtlpServer(t)
  const metadata = await startMetadataServer(t)
  metadata.values['/instance/id'] = undefined
  setEnvironment(t, { ...cloudRun, ...metadata.env, OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: `${otlp.url}/custom` })
  const { telemetry } = newTelemetry(t)
  await telemetry.start()
  await flush()
  t.match(otlp.requests, [{ path: '/custom', headers: { authorization: undefined }, resource: { 'gcp.project_id': 'project-1', 'service.instance.id': /^[0-9a-f-]{36}$/ } }])
})

await t.test('without Cloud Run and without an endpoint, or where OpenTelemetry is turned off, nothing is imported, asked or said', async (t) => {
  const metadata = await startMetadataServer(t)
  const nothing: Load = async () => { throw new Error('imported') }
  for (const env of [{}, { ...cloudRun, OTEL_SDK_DISABLED: 'TRUE' }, { ...cloudRun, OTEL_METRICS_EXPORTER: 'none' }, { ...cloudRun, OTEL_METRICS_EXPORTER: 'prometheus, console' }]) {
    await t.test(JSON.stringify(env), async (t) => {
      setEnvironment(t, { ...metadata.env, ...env as Record<string, string> })
      const { telemetry, entries } = newTelemetry(t, { load: nothing })
      await telemetry.start()
      t.equal(registeredProvider(), undefined)
      t.strictSame(entries(), [])
    })
  }
  t.strictSame(metadata.asked, [])
})

await t.test("the host's own SDK wins, whether it comes before or while ours is imported", async (t) => {
  const otlp = await startOtlpServer(t)
  setEnvironment(t, { OTEL_EXPORTER_OTLP_ENDPOINT: otlp.url })
  const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE)
  const host = new MeterProvider({
    readers: [new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 })]
  })
  t.teardown(() => host.shutdown())
  let imported = 0
  const loadThen: Load = name => {
    imported++
    metrics.setGlobalMeterProvider(host)
    return load(name)
  }
  for (const imports of [3, 3]) {
    const { telemetry, entries } = newTelemetry(t, { load: loadThen })
    await telemetry.start()
    t.equal(imported, imports)
    t.equal(registeredProvider(), host)
    await telemetry.close(100)
    t.equal(registeredProvider(), host)
    t.strictSame(entries(), [])
  }
  metrics.disable()
  t.strictSame(otlp.requests, [])
})

await t.test('a package that is missing is said once, with how to install it, and the app works', async (t) => {
  const otlp = await startOtlpServer(t)
  const metadata = await startMetadataServer(t)
  setEnvironment(t, { ...cloudRun, ...metadata.env, GOOGLE_CLOUD_TELEMETRY_ENDPOINT: otlp.url })
  for (const missing of ['@opentelemetry/sdk-node', '@opentelemetry/sdk-metrics', '@opentelemetry/exporter-metrics-otlp-proto', 'google-auth-library']) {
    const without: Load = name => name === missing ? import(`${missing}-that-is-not-there` as never) : load(name)
    const one = newTelemetry(t, { load: without })
    const two = newTelemetry(t, { load: without })
    await Promise.all([one.telemetry.start(), two.telemetry.start()])
    t.match([...one.entries(), ...two.entries()], [{
      event: 'telemetry.failed', level: 40, cause: 'package', msg: /npm install @opentelemetry\/api @opentelemetry\/sdk-node @opentelemetry\/sdk-metrics @opentelemetry\/exporter-metrics-otlp-proto google-auth-library/
    }], missing)
    t.equal(registeredProvider(), undefined)
    await Promise.all([one.telemetry.close(100), two.telemetry.close(100)])
  }
})

await t.test('that the API is missing is said where metrics are wanted, or where the app has an SDK, and nowhere else', async (t) => {
  const registered = Symbol.for('opentelemetry.js.api.1')
  const { [registered]: before } = globalThis as Record<symbol, unknown>
  t.teardown(() => Object.assign(globalThis, { [registered]: before }))
  const cases: Array<[collector: string | undefined, sdk: object | undefined, said: RegExp | undefined]> = [
    [undefined, undefined, undefined],
    ['http://127.0.0.1:4318', undefined, /npm install @opentelemetry\/api @opentelemetry\/sdk-node/],
    [undefined, { version: '1.9.1' }, /npm install @opentelemetry\/api;/]
  ]
  for (const [collector, sdk, said] of cases) {
    setEnvironment(t, { OTEL_EXPORTER_OTLP_ENDPOINT: collector })
    if (sdk === undefined) Reflect.deleteProperty(globalThis, registered)
    else Object.assign(globalThis, { [registered]: sdk })
    const { telemetry, entries } = newTelemetry(t)
    let missing: Promise<unknown> | undefined
    const bind = async () => {
      missing = import('@opentelemetry/api-that-is-not-there' as never)
      await missing
    }
    const app = Fastify()
    await telemetry.attach(app, { bind })
    await app.listen({ port: 0, host: '127.0.0.1' })
    await until(() => missing !== undefined, 'the API was asked for')
    await t.rejects(missing!, { message: /^Cannot find package/ }) // a loader such as that of the coverage takes the code away
    await endOfTurn()
    if (said === undefined) t.strictSame(entries(), [])
    else t.match(await until(() => entries()[0], 'the entry'), { event: 'telemetry.failed', msg: said })
    await app.close()
    await telemetry.close(100)
  }
})

await t.test('what else keeps the SDK from starting is said too', async (t) => {
  const metadata = await startMetadataServer(t)
  metadata.values['/instance/region'] = undefined
  setEnvironment(t, { ...cloudRun, ...metadata.env })
  const unknown = newTelemetry(t)
  await unknown.telemetry.start()
  t.match(unknown.entries(), [{ event: 'telemetry.failed', cause: 'setup', msg: /has to know the region.*metadata server.*cloud\.region=REGION/ }])
  await unknown.telemetry.close(100)

  setEnvironment(t, { OTEL_EXPORTER_OTLP_ENDPOINT: 'no URL' })
  const wrong = newTelemetry(t)
  await wrong.telemetry.start()
  t.match(wrong.entries(), [{ event: 'telemetry.failed', cause: 'setup', msg: /Invalid URL/ }])
})

await t.test('a backend that refuses is said once for each cause, and that it works again', async (t) => {
  const otlp = await startOtlpServer(t)
  const metadata = await startMetadataServer(t)
  setEnvironment(t, { ...cloudRun, ...metadata.env, GOOGLE_CLOUD_TELEMETRY_ENDPOINT: otlp.url })
  const { telemetry, entries } = newTelemetry(t)
  await telemetry.start()
  for (const status of [401, 401, 403, 403, 429, 429, 503, 503, 400, 400, 200, 200, 403]) {
    otlp.status = status
    await flush()
    await endOfTurn() // by then it is clear that the export has no other batch
  }
  t.equal(otlp.requests.length, 13)
  t.match(entries().map(({ event, level, cause, status, msg }) => ({ event, level, cause, status, msg })), [
    { event: 'telemetry.started', level: 30 },
    { event: 'telemetry.failed', level: 40, cause: 'unauthenticated', status: 401, msg: /service account/ },
    { event: 'telemetry.failed', level: 40, cause: 'forbidden', status: 403, msg: /roles\/telemetry\.metricsWriter/ },
    { event: 'telemetry.failed', level: 40, cause: 'rate_limit', status: 429, msg: /OTEL_METRIC_EXPORT_INTERVAL/ },
    { event: 'telemetry.failed', level: 40, cause: 'unavailable', status: 503, msg: /next export/ },
    { event: 'telemetry.failed', level: 40, cause: 'refused', status: 400, msg: /Bad Request/ },
    { event: 'telemetry.recovered', level: 30 },
    { event: 'telemetry.failed', level: 40, cause: 'forbidden', status: 403 }
  ])
  otlp.status = 200
})

await t.test('a collector that refuses or is not there is told apart from Google', async (t) => {
  const otlp = await startOtlpServer(t)
  const unused = createServer().listen(0, '127.0.0.1')
  await new Promise(resolve => unused.once('listening', resolve))
  const { port } = unused.address() as AddressInfo
  await new Promise(resolve => unused.close(resolve))
  setEnvironment(t, { OTEL_EXPORTER_OTLP_ENDPOINT: otlp.url })
  const refusing = newTelemetry(t)
  await refusing.telemetry.start()
  for (const status of [401, 403]) {
    otlp.status = status
    await flush()
  }
  t.match(refusing.entries(), [{}, { cause: 'unauthenticated', msg: /OTEL_EXPORTER_OTLP_HEADERS/ }, { cause: 'forbidden' }])
  await refusing.telemetry.close(1_000)

  setEnvironment(t, { OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}/` })
  const absent = newTelemetry(t, { budget: 100 })
  await absent.telemetry.start()
  await absent.telemetry.close(100)
  await until(() => absent.entries().some(({ cause }) => cause === 'no_answer'), 'the export was given up')
  t.match(absent.entries().at(-1), { msg: /ECONNREFUSED.*Is the collector running/ })
})

await t.test('without credentials nothing is sent, and the reason is said', async (t) => {
  const otlp = await startOtlpServer(t)
  const metadata = await startMetadataServer(t)
  setEnvironment(t, { ...cloudRun, ...metadata.env, GOOGLE_CLOUD_TELEMETRY_ENDPOINT: otlp.url, GOOGLE_APPLICATION_CREDENTIALS: '/nowhere/key.json' })
  const { telemetry, entries } = newTelemetry(t)
  await telemetry.start()
  await flush()
  t.match(entries().at(-1), { event: 'telemetry.failed', cause: 'credentials', msg: /key\.json/ })
  t.strictSame(otlp.requests, [])
})

await t.test('metrics arrive again when every batch of an export has', async (t) => {
  const otlp = await startOtlpServer(t)
  setEnvironment(t, { OTEL_EXPORTER_OTLP_ENDPOINT: otlp.url })
  const { telemetry, entries } = newTelemetry(t)
  await telemetry.start()
  const counter = metrics.getMeter('host').createCounter('orders')
  for (let i = 0; i < 450; i++) counter.add(1, { shop: i })
  for (const statuses of [[400, 400, 400], [200, 400, 200], [400, 200, 200], [200, 200, 400], [], []]) {
    otlp.statuses = statuses
    await flush()
    await endOfTurn()
  }
  t.equal(otlp.requests.length, 18)
  t.match(entries().map(({ event }) => event), ['telemetry.started', 'telemetry.failed', 'telemetry.recovered'])
})

await t.test('a backend that hangs keeps closing for no longer than the budget, and nothing else at all', async (t) => {
  const otlp = await startOtlpServer(t)
  otlp.status = 'hang'
  setEnvironment(t, { OTEL_EXPORTER_OTLP_ENDPOINT: otlp.url })
  const { telemetry, entries } = newTelemetry(t)
  await telemetry.start()
  const startedAt = Date.now()
  await telemetry.close(300)
  t.ok(Date.now() - startedAt < 3_000)
  t.equal(otlp.requests.length, 1)
  t.match(entries(), [{ event: 'telemetry.started' }, { event: 'telemetry.failed', level: 40, cause: 'flush', msg: /300 ms/ }])
  t.equal(registeredProvider(), undefined)
})

await t.test('the last metrics arrive though a request of the host is never answered', async (t) => {
  const otlp = await startOtlpServer(t)
  setEnvironment(t, { OTEL_EXPORTER_OTLP_ENDPOINT: otlp.url })
  const app = Fastify({ forceCloseConnections: false })
  app.get('/never', () => new Promise(() => {}))
  await app.register(cloudRunWebSocket, { shutdown: { signals: false, timeout: 2_000 } })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  await until(() => registeredProvider() !== undefined, 'the SDK has started')
  const client = await connect(t, `ws://127.0.0.1:${port}/ws`)
  await flush()
  t.strictSame(otlp.latest(metricNames.active), { plain: 1, json: 0, protobuf: 0 })
  const unanswered = get(`http://127.0.0.1:${port}/never`).on('error', () => {})
  await once(unanswered, 'socket')
  const closed = app.close()
  await client.closed
  await until(() => otlp.latest(metricNames.active).plain === 0, 'the last export')
  t.equal(otlp.latest(metricNames.drainDuration)[''], 1)
  unanswered.destroy()
  await closed
})

await t.test('no request has more than 200 points, and none is lost', async (t) => {
  const otlp = await startOtlpServer(t)
  setEnvironment(t, { OTEL_EXPORTER_OTLP_ENDPOINT: otlp.url })
  const { telemetry } = newTelemetry(t)
  await telemetry.start()
  const counter = metrics.getMeter('host').createCounter('orders')
  for (let i = 0; i < 450; i++) counter.add(1, { shop: i })
  await flush()
  const counts = otlp.requests.map(({ metrics }) => metrics.reduce((sum, { points }) => sum + points.length, 0))
  t.ok(counts.every(count => count <= 200), counts.join())
  t.equal(otlp.requests.flatMap(({ metrics }) => metrics.filter(({ name }) => name === 'orders').flatMap(({ points }) => points)).length, 450)
})

await t.test('several apps in a process share one SDK, and their sums, until the last one is closed', async (t) => {
  const otlp = await startOtlpServer(t)
  setEnvironment(t, { OTEL_EXPORTER_OTLP_ENDPOINT: otlp.url })
  const log = startLog()
  const apps = await Promise.all([10, 20].map(maxConnections => startApp(t, { maxConnections }, { logger: { stream: log.stream } })))
  const clients = await Promise.all([apps[0]!, apps[1]!, apps[1]!].map(({ url }) => connect(t, `${url}/ws`)))
  await until(() => registeredProvider(), 'the SDK has started')
  await until(async () => {
    await flush()
    return otlp.latest(metricNames.active).plain === 3
  }, 'both are seen')
  t.strictSame(otlp.latest(metricNames.limit), { '': 30 })
  t.strictSame(otlp.latest(metricNames.up), { '': 1 })
  for (const { socket } of clients) socket.send('1003')
  await Promise.all(clients.map(({ closed }) => closed))
  await apps[0]!.app.close()
  await flush()
  t.strictSame(otlp.latest(metricNames.limit), { '': 20 })
  t.match(otlp.latest(metricNames.messages), { 'plain receive': 3 }, 'what the closed one has counted is still there')
  t.match(otlp.latest(metricNames.io), { receive: 12 })
  await apps[1]!.app.close()
  t.equal(registeredProvider(), undefined)
  t.strictSame(log.ours().map(({ event }) => event), ['telemetry.started'])
})

await t.test('an app that closes before or during the import leaves nothing behind', async (t) => {
  const otlp = await startOtlpServer(t)
  setEnvironment(t, { OTEL_EXPORTER_OTLP_ENDPOINT: otlp.url })
  const { app } = await startApp(t)
  await app.close()

  const early = newTelemetry(t)
  await early.telemetry.close(100)
  await early.telemetry.start()
  const during = newTelemetry(t)
  const started = during.telemetry.start()
  await during.telemetry.close(100)
  await started
  let importing = (): void => {}
  const isImporting = new Promise<void>(resolve => { importing = resolve })
  const late = newTelemetry(t, {
    load: async name => {
      importing()
      return await load(name)
    }
  })
  const lateStarted = late.telemetry.start()
  await isImporting
  await late.telemetry.close(100)
  await lateStarted
  t.equal(registeredProvider(), undefined)
  t.strictSame([...early.entries(), ...during.entries(), ...late.entries()], [])
  t.strictSame(otlp.requests, [])
})

await t.test('telemetry false starts nothing', async (t) => {
  setEnvironment(t, { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1' })
  const { app } = await startApp(t, { telemetry: false })
  await app.close()
  t.equal(registeredProvider(), undefined)
})

t.test("settings come from OpenTelemetry's environment variables", async (t) => {
  const google = 'https://telemetry.googleapis.com/v1/metrics'
  const settings = { collector: undefined, google, anywhere: false, interval: 60_000 }
  t.strictSame(telemetrySettings({}), settings)
  t.strictSame(telemetrySettings({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://localhost:4318/', OTEL_METRICS_EXPORTER: 'console,otlp', OTEL_METRIC_EXPORT_INTERVAL: '30000' }), { ...settings, collector: 'http://localhost:4318/v1/metrics', interval: 30_000 })
  t.strictSame(telemetrySettings({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://a', OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: 'http://b/m', OTEL_METRIC_EXPORT_INTERVAL: '5' }), { ...settings, collector: 'http://b/m', interval: 10_000 })
  t.match(telemetrySettings({ OTEL_EXPORTER_OTLP_ENDPOINT: ' ', OTEL_METRIC_EXPORT_INTERVAL: 'often', OTEL_SDK_DISABLED: 'false' }), { collector: undefined, interval: 60_000 })
})

t.test("an endpoint that is Google's is no collector, whichever variable names it, but only with TLS", async (t) => {
  const target = (env: NodeJS.ProcessEnv) => {
    const { collector, google, anywhere } = telemetrySettings(env)!
    return anywhere ? { google } : { collector }
  }
  t.strictSame(target({ OTEL_EXPORTER_OTLP_ENDPOINT: 'https://telemetry.googleapis.com' }), { google: 'https://telemetry.googleapis.com/v1/metrics' })
  t.strictSame(target({ OTEL_EXPORTER_OTLP_ENDPOINT: 'https://TELEMETRY.googleapis.com:443/' }), { google: 'https://TELEMETRY.googleapis.com:443/v1/metrics' })
  for (const url of ['https://telemetry.googleapis.com/v1/metrics', 'https://telemetry-chat.p.googleapis.com/v1/metrics', 'https://telemetry.europe-west1.rep.googleapis.com/v1/metrics']) {
    t.strictSame(target({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318', OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: url }), { google: url })
  }
  for (const url of ['http://telemetry.googleapis.com/m', 'https://googleapis.com.example/m', 'https://evilgoogleapis.com/m', 'https://example.com/telemetry.googleapis.com', 'no URL']) {
    t.strictSame(target({ OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: url }), { collector: url }, 'gets no token')
  }
})
