import { register } from 'node:module'
import { pino } from 'pino'
import t from 'tap'
import type { Test } from 'tap'
import { cloudLogging } from '../../index.ts'
import { CloudLoggingApi } from '../../lib/google/logging-api.ts'
import { toApiEntry } from '../../lib/google/logging-client.ts'
import { logEvents } from '../../lib/observability/log-events.ts'
import { startApp } from '../helpers/app.ts'
import { setEnvironment } from '../helpers/environment.ts'
import { plain, startLoggingServer } from '../helpers/logging-server.ts'
import type { LoggingServer } from '../helpers/logging-server.ts'
import type { Entry } from '../helpers/log.ts'
import { startMetadataServer } from '../helpers/metadata.ts'
import { until } from '../helpers/until.ts'
import { connect } from '../helpers/ws-client.ts'

const rejections: unknown[] = []
process.on('unhandledRejection', error => { rejections.push(error) })

const metadata = await startMetadataServer(t)
Object.assign(process.env, { K_SERVICE: 'chat', K_REVISION: 'chat-7', K_CONFIGURATION: 'chat', ...metadata.env })

t.test('the events have the levels of the list', async (t) => {
  t.match(logEvents, { 'logging.failed': 'error', 'logging.restored': 'info', 'logging.dropped': 'warn' })
})

/** A logger to the API, and what goes to stdout instead. */
function newLog (t: Test) {
  const stdout: Entry[] = []
  const api = new CloudLoggingApi({ write: line => { stdout.push(JSON.parse(line)) } })
  t.teardown(() => api.close())
  return { api, stdout, log: pino(cloudLogging({ project: 'project-1' }), api), about: (event: keyof typeof logEvents) => stdout.filter(entry => entry.event === event) }
}

const entriesOf = ({ requests }: LoggingServer) => requests.flatMap(({ entries }) => entries)
const payloads = (server: LoggingServer): Entry[] => entriesOf(server).map(({ jsonPayload }) => plain(jsonPayload))

t.test('entries of an app reach Cloud Logging with the resource of the instance, in the trace of their upgrade', async (t) => {
  const server = await startLoggingServer(t)
  setEnvironment(t, { GOOGLE_CLOUD_PROJECT: 'project-1' }) // the first entries may come before the metadata server has answered
  const { app, url } = await startApp(t, { logging: { destination: 'api' }, onMessage: () => { throw new TypeError('boom') } })
  const client = await connect(t, `${url}/ws?token=secret`, { headers: { traceparent: `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01` } })
  client.send('x')
  await client.closed
  await until(() => server.requests.length > 0, 'the first request', 30_000)
  const entry = (event: string) => until(() => entriesOf(server).find(({ jsonPayload }) => plain(jsonPayload).event === event)!, event)
  const opened = await entry('connection.opened')
  const failed = await entry('connection.failed')
  const closed = await entry('connection.closed')
  const { logName, resource, labels } = server.requests[0]!
  t.equal(logName, 'projects/project-1/logs/fastify-cloud-run-websocket')
  t.strictSame(resource, { type: 'cloud_run_revision', labels: { project_id: 'project-1', service_name: 'chat', revision_name: 'chat-7', location: 'europe-west1', configuration_name: 'chat' } })
  t.strictSame(labels, { instanceId: '00bf4bf02d' })
  const { id } = opened.operation
  t.match(opened, {
    severity: 'INFO',
    trace: `projects/project-1/traces/${'a'.repeat(32)}`,
    spanId: 'b'.repeat(16),
    traceSampled: true,
    labels: { websocket_protocol: 'plain' },
    operation: { id: /.+/, producer: 'fastify-cloud-run-websocket', first: true },
    httpRequest: { requestMethod: 'GET', requestUrl: /\/ws$/, status: 101, protocol: 'HTTP/1.1' }
  })
  t.ok(Math.abs(opened.timestamp.seconds * 1_000 - Date.now()) < 60_000)
  t.match(plain(opened.jsonPayload), { message: /^WebSocket connection of .* opened$/, connection: id, protocol: 'plain' })
  t.match(plain(failed.jsonPayload), { '@type': /ReportedErrorEvent/, stack_trace: /TypeError: boom/, serviceContext: { service: 'chat', version: 'chat-7' }, err: { type: 'TypeError' } })
  t.match(closed, { severity: 'INFO', operation: { id, last: true }, trace: /a{32}/ })
  t.ok(opened.insertId < failed.insertId && failed.insertId < closed.insertId, 'entries of the same time stay in order')
  t.notMatch(JSON.stringify(server.requests), /secret/)
  await app.close()
  t.ok(payloads(server).some(({ event }) => event === 'drain.finished'), 'what was left is sent at close')
})

t.test('many entries are one request, of 500 entries or 1 MB at the most', async (t) => {
  const server = await startLoggingServer(t)
  const { api, log, stdout } = newLog(t)
  for (let i = 0; i < 1_200; i++) log.info({ i }, 'x')
  await until(() => entriesOf(server).length === 1_200, 'all are there')
  t.strictSame(server.requests.map(({ entries }) => entries.length), [500, 500, 200])
  t.strictSame(payloads(server).map(({ i }) => i), Array.from({ length: 1_200 }, (_, i) => i))
  server.requests.length = 0
  for (let i = 0; i < 20; i++) log.info('x'.repeat(100_000))
  await until(() => entriesOf(server).length === 20, 'all are there')
  t.strictSame(server.requests.map(({ entries }) => entries.length), [10, 10])
  await api.close()
  t.strictSame(stdout, [])
  log.info('late')
  t.match(stdout, [{ message: 'late' }], 'after the end there is still stdout')
})

t.test('an API that refuses is one line that says what to do; entries go to stdout until it takes them again', async (t) => {
  const server = await startLoggingServer(t)
  server.behave('PERMISSION_DENIED')
  const { api, log, stdout, about } = newLog(t)
  log.info('first')
  await until(() => about('logging.failed').length === 1, 'the line')
  t.match(stdout, [
    { severity: 'ERROR', event: 'logging.failed', reason: /PERMISSION_DENIED/, message: /--role=roles\/logging\.logWriter/, '@type': /ReportedErrorEvent/ },
    { severity: 'INFO', message: 'first' }
  ])
  log.info('at once')
  t.match(stdout.at(-1), { message: 'at once' })
  const again = (count: number) => until(() => {
    log.info('again')
    return server.requests.length >= count
  }, 'it is tried again')
  await again(2)
  server.behave('OK')
  await again(3)
  await until(() => about('logging.restored').length === 1, 'it is there again', 20_000)
  t.equal(about('logging.failed').length, 1, 'said once')
  log.info('last')
  await api.close()
  t.equal(payloads(server).at(-1)!.message, 'last')
  t.notOk(stdout.some(({ message }) => message === 'last'))
})

t.test('a server that is not there, or never answers, keeps nobody waiting', async (t) => {
  const server = await startLoggingServer(t)
  const { api, log, stdout, about } = newLog(t)
  log.info('first')
  await until(() => server.requests.length === 1, 'it works')
  const gone = await startLoggingServer(t)
  gone.stop()
  const other = newLog(t)
  other.log.info('x')
  server.behave('hang')
  log.info('second')
  await until(() => server.requests.length === 2, 'it is sent')
  for (let i = 0; i < 10_050; i++) log.warn({ i }, 'x')
  const before = Date.now()
  await api.close()
  t.ok(Date.now() - before < 5_000, `${Date.now() - before} ms`)
  t.match(stdout[0], { message: 'second' })
  t.equal(stdout.filter(({ message }) => message === 'x').length, 10_000)
  t.match(about('logging.dropped'), [{ severity: 'WARNING', count: 50, message: /50 log entries dropped/ }])

  await until(() => other.about('logging.failed').length === 1, 'the line')
  t.match(other.stdout, [{ reason: /UNAVAILABLE/, message: /It is retried/ }, { message: 'x' }])
})

t.test('a request that is not answered fails after five seconds; what waits takes no more memory than it may', async (t) => {
  const server = await startLoggingServer(t)
  server.behave('hang')
  const { log, stdout, about } = newLog(t)
  log.info('first')
  await until(() => server.requests.length === 1, 'it is sent')
  for (let i = 0; i < 200; i++) log.info('x'.repeat(100_000))
  await until(() => about('logging.failed').length === 1, 'it gave up', 15_000)
  t.match(stdout[0]!.reason, /DEADLINE_EXCEEDED|did not answer/)
  const kept = stdout.filter(({ message }) => message.startsWith('xxx')).length
  t.ok(kept > 100 && kept < 170, `${kept} of 200 were kept`)
  t.match(about('logging.dropped'), [{ count: 200 - kept }])
})

t.test('a process that ends before it has a client writes to stdout', async (t) => {
  const server = await startLoggingServer(t)
  const { api, log, stdout } = newLog(t)
  log.info('x')
  await api.close()
  t.match(stdout, [{ message: 'x' }])
  t.equal(server.requests.length, 0)
})

t.test('elsewhere the resource is the project', async (t) => {
  const server = await startLoggingServer(t)
  setEnvironment(t, { K_SERVICE: undefined, GOOGLE_CLOUD_PROJECT: 'mine' })
  const { log } = newLog(t)
  log.info('x')
  await until(() => server.requests.length === 1, 'it is sent')
  t.match(server.requests[0], { logName: 'projects/mine/logs/fastify-cloud-run-websocket', resource: { type: 'global', labels: { project_id: 'mine' } } })
  t.strictSame(server.requests[0]!.labels ?? {}, {})
})

t.test('on App Engine and GKE the resource is the one of what is read from stdout there', async (t) => {
  const server = await startLoggingServer(t)
  Object.assign(metadata.values, { '/instance/attributes/cluster-name': 'main', '/instance/attributes/cluster-location': 'europe-west1' })
  const cases: Array<[Record<string, string>, object]> = [
    [{ GAE_SERVICE: 'chat', GAE_VERSION: 'v2', GAE_INSTANCE: 'aef-1' }, { resource: { type: 'gae_app', labels: { project_id: 'mine', module_id: 'chat', version_id: 'v2', zone: 'europe-west1-1' } }, labels: { instanceId: 'aef-1' } }],
    [{ GAE_SERVICE: '', KUBERNETES_SERVICE_HOST: '10.0.0.1', POD_NAME: 'chat-0', POD_NAMESPACE: 'live' }, { resource: { type: 'k8s_pod', labels: { project_id: 'mine', cluster_name: 'main', location: 'europe-west1', namespace_name: 'live', pod_name: 'chat-0' } } }]
  ]
  for (const [i, [env, expected]] of cases.entries()) {
    setEnvironment(t, { K_SERVICE: undefined, GOOGLE_CLOUD_PROJECT: 'mine', ...env })
    const { log } = newLog(t)
    log.info('x')
    await until(() => server.requests.length === i + 1, 'it is sent')
    t.match(server.requests[i], expected)
  }
})

t.test('every field of a line has its place', async (t) => {
  const time = '2026-11-24T07:00:00.123Z'
  t.strictSame(toApiEntry({ severity: 'INFO', time, httpRequest: { status: 200, latency: '1.5s' }, a: [1, null, { b: true }], half: '\ud83d' }, 'id'), {
    severity: 'INFO',
    timestamp: { seconds: Date.parse(time) / 1_000 - 0.123, nanos: 123_000_000 },
    insertId: 'id',
    httpRequest: { status: 200, latency: { seconds: 1, nanos: 500_000_000 } },
    jsonPayload: { fields: { a: { listValue: { values: [{ numberValue: 1 }, { nullValue: 0 }, { structValue: { fields: { b: { boolValue: true } } } }] } }, half: { stringValue: '\ufffd' } } }
  })
})

t.test('without the package a line says how to install it, and all goes to stdout for good', async (t) => {
  const hook = `export async function resolve (name, context, next) {
    if (name === '@google-cloud/logging') throw Object.assign(new Error("Cannot find package '@google-cloud/logging'"), { code: 'ERR_MODULE_NOT_FOUND' })
    return next(name, context)
  }`
  register(`data:text/javascript,${encodeURIComponent(hook)}`) // the last test here: nobody gets it any more
  const { api, log, stdout, about } = newLog(t)
  log.info('first')
  await until(() => about('logging.failed').length === 1, 'the line')
  t.match(stdout[0], { reason: /Cannot find package/, message: /npm install @google-cloud\/logging/ })
  log.info('second')
  await api.close()
  t.strictSame(stdout.slice(1).map(({ message }) => message), ['first', 'second'])
})

t.test('nothing of all that left a rejection unhandled', async (t) => {
  t.strictSame(rejections, [])
})
