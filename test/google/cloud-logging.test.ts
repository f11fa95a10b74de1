import Fastify from 'fastify'
import type { FastifyServerOptions } from 'fastify'
import { pino } from 'pino'
import t from 'tap'
import type { Test } from 'tap'
import cloudRunWebSocket, { cloudLogging } from '../../index.ts'
import type { CloudLoggingOptions, Options } from '../../index.ts'
import { boundLabels } from '../../lib/google/log-entry.ts'
import { isCloudLogger } from '../../lib/google/cloud-logging.ts'
import { readTrace } from '../../lib/google/trace-context.ts'
import { startApp } from '../helpers/app.ts'
import { connectionsOf } from '../helpers/connections.ts'
import { setEnvironment } from '../helpers/environment.ts'
import type { Entry } from '../helpers/log.ts'
import { startMetadataServer } from '../helpers/metadata.ts'
import { startServer } from '../helpers/server-process.ts'
import { streamClient } from '../helpers/streams.ts'
import { until } from '../helpers/until.ts'
import { connect, rejected } from '../helpers/ws-client.ts'

const traceId = '0af7651916cd43dd8448eb211c80319c'
const spanId = 'b7ad6b7169203331'
const traceparent = `00-${traceId}-${spanId}-01`
const traced = {
  'logging.googleapis.com/trace': `projects/project-1/traces/${traceId}`,
  'logging.googleapis.com/spanId': spanId,
  'logging.googleapis.com/trace_sampled': true
}
const operation = 'logging.googleapis.com/operation'
const labels = 'logging.googleapis.com/labels'
const reported = 'type.googleapis.com/google.devtools.clouderrorreporting.v1beta1.ReportedErrorEvent'

/** Parsed lines, and the logger options that write them. No name may be twice in a line: which one counts is open. */
function newLog (options: CloudLoggingOptions = { project: 'project-1', service: 'chat', version: 'chat-1' }) {
  const entries: Entry[] = []
  const stream = {
    write: (line: string) => {
      entries.push(JSON.parse(line))
      const names = [...line.matchAll(/"(logging\.googleapis\.com\/\w+|severity|time|httpRequest|@type)":/g)].map(([, name]) => name)
      if (new Set(names).size < names.length) throw new Error(`a name is twice in ${line}`)
    }
  }
  const of = (event: string): Promise<Entry> => until(() => entries.find(entry => entry.event === event)!, `an entry for ${event}`)
  const ours = () => entries.filter(({ event }) => event !== undefined && event !== 'plugin.started')
  return { entries, logger: { ...cloudLogging(options), stream }, stream, of, ours }
}

t.test('an entry has severity, message and time', async (t) => {
  const { logger, stream, entries } = newLog()
  const log: Record<string, any> = pino({ ...logger, level: 'trace', customLevels: { notice: 35 } }, stream)
  for (const level of ['trace', 'debug', 'info', 'notice', 'warn', 'error', 'fatal'] as const) log[level]({ a: 1 }, 'hello %s', 'you')
  t.strictSame(entries.map(({ severity }) => severity), ['DEBUG', 'DEBUG', 'INFO', 'INFO', 'WARNING', 'ERROR', 'CRITICAL'])
  const { time, ...first } = entries[0]!
  t.strictSame(first, { severity: 'DEBUG', a: 1, message: 'hello you' })
  t.match(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
  t.ok(Math.abs(Date.parse(time) - Date.now()) < 60_000)
})

t.test("remoteIp is the address behind trusted proxies, also in Fastify's own entries", async (t) => {
  const { logger, entries, of } = newLog()
  const { app, url } = await startApp(t, { trustedProxies: 1 }, { logger })
  app.log.info({ req: { url: '/mine', headers: {} } }, 'of the app')
  const headers = { 'x-forwarded-for': '192.0.2.1, 203.0.113.1' }
  await fetch(`${url.replace('ws', 'http')}/nowhere`, { headers })
  await connect(t, `${url}/ws`, { headers })
  t.equal((await of('connection.opened')).httpRequest.remoteIp, '203.0.113.1')
  const addresses = entries.filter(({ httpRequest }) => httpRequest?.userAgent !== undefined).map(({ httpRequest }) => httpRequest.remoteIp)
  t.ok(addresses.length >= 2)
  t.strictSame(new Set(addresses), new Set(['203.0.113.1']))
})

t.test('an error has the form of Error Reporting, a warning has not', async (t) => {
  const { logger, stream, entries } = newLog()
  const log = pino(logger, stream)
  log.error(new TypeError('boom', { cause: new Error('deeper') }))
  log.error({ err: 'only a text' }, 'failed')
  log.warn({ err: new Error('a client did it') }, 'refused')
  const [error, text, warning] = entries as [Entry, Entry, Entry]
  t.match(error, { severity: 'ERROR', message: 'boom', '@type': reported, serviceContext: { service: 'chat', version: 'chat-1' }, err: { type: 'TypeError' } })
  t.match(error.stack_trace, /^TypeError: boom\n {4}at .*cloud-logging\.test\.ts[^]*\nCaused by: Error: deeper\n {4}at /)
  t.match(text, { '@type': reported, message: 'failed', err: 'only a text', stack_trace: undefined })
  t.match(warning, { severity: 'WARNING', err: { message: 'a client did it', stack: /at / }, '@type': undefined, stack_trace: undefined, serviceContext: undefined })
  const nameless = newLog({})
  const broken = Object.assign(new Error('boom'), { stack: undefined })
  pino(nameless.logger, nameless.stream).fatal({ err: Object.assign(broken, { cause: Object.assign(new Error('deeper'), { stack: undefined }) }) })
  t.match(nameless.entries[0], { severity: 'CRITICAL', stack_trace: 'Error: boom\nCaused by: deeper', serviceContext: undefined })
  const unversioned = newLog({ service: 'chat' })
  pino(unversioned.logger, unversioned.stream).error('x')
  t.strictSame(unversioned.entries[0]!.serviceContext, { service: 'chat' })
})

t.test("a request's entries have its data, without its query, and its trace", async (t) => {
  const { logger, entries } = newLog()
  const app = Fastify({ logger })
  t.teardown(() => app.close())
  app.get('/hello', async ({ log }) => {
    log.info('in the handler')
    log.child({ part: 1 }).info('and deeper')
    return 'hi'
  })
  app.get('/broken', async () => { throw new Error('boom') })
  const { default: cloudRunWebSocket } = await import('../../index.ts')
  await app.register(cloudRunWebSocket, { shutdown: false })
  await app.inject({ url: '/hello?token=secret', headers: { host: 'example.com', 'x-forwarded-proto': 'https', 'user-agent': 'tap', traceparent } })
  const [incoming, handler, deeper, completed] = entries.filter(({ event }) => event === undefined) as [Entry, Entry, Entry, Entry]
  const { latency, ...request } = completed.httpRequest
  t.strictSame(request, { requestMethod: 'GET', requestUrl: 'https://example.com/hello', status: 200, userAgent: 'tap', remoteIp: '127.0.0.1', protocol: 'HTTP/1.1' })
  t.match(latency, /^\d+\.\d{6}s$/)
  const { status, ...beforehand } = request
  t.match(incoming, { message: 'incoming request', httpRequest: beforehand, ...traced, req: undefined })
  t.match(handler, { message: 'in the handler', ...traced })
  t.match(deeper, { message: 'and deeper', part: 1, reqId: handler.reqId, ...traced })
  t.match(completed, { message: 'request completed', ...traced, res: undefined, responseTime: undefined })
  t.notMatch(JSON.stringify(entries), /secret/)

  entries.length = 0
  await app.inject({ url: '/broken', headers: { 'x-cloud-trace-context': `${traceId}/10;o=0` } })
  const error = entries.find(({ severity }) => severity === 'ERROR')
  t.match(error, { message: 'boom', '@type': reported, stack_trace: /Error: boom/, httpRequest: { status: 500, requestUrl: /^http:\/\/.*\/broken$/ }, 'logging.googleapis.com/spanId': '000000000000000a', 'logging.googleapis.com/trace_sampled': false })
})

t.test('what is called req and res and is no request stays as it is', async (t) => {
  const { logger, stream, entries } = newLog()
  const log = pino(logger, stream)
  log.info({ req: { id: 5 }, responseTime: 3, trace: 'mine' }, 'x')
  t.match(entries[0], { req: { id: 5 }, responseTime: 3, trace: 'mine', httpRequest: undefined })
})

t.test('the trace is that of traceparent, else of X-Cloud-Trace-Context', async (t) => {
  const legacy = `${traceId}/255;o=1`
  const fromLegacy = { traceId, spanId: '00000000000000ff', sampled: true }
  for (const [headers, trace] of [
    [{ traceparent }, { traceId, spanId, sampled: true }],
    [{ traceparent: `00-${traceId}-${spanId}-00` }, { traceId, spanId, sampled: false }],
    [{ traceparent: `cc-${traceId}-${spanId}-03-more` }, { traceId, spanId, sampled: true }],
    [{ traceparent, 'x-cloud-trace-context': '1'.repeat(32) }, { traceId, spanId, sampled: true }],
    [{ 'x-cloud-trace-context': legacy }, fromLegacy],
    [{ 'x-cloud-trace-context': traceId.toUpperCase() }, { traceId, spanId: undefined, sampled: false }],
    [{ 'x-cloud-trace-context': `${traceId}/18446744073709551615` }, { traceId, spanId: 'f'.repeat(16), sampled: false }],
    [{ 'x-cloud-trace-context': `${traceId}/18446744073709551616` }, { traceId, spanId: undefined, sampled: false }],
    ...[`00-${traceId}-${spanId}-01-more`, `ff-${traceId}-${spanId}-01`, `00-${'0'.repeat(32)}-${spanId}-01`, `00-${traceId}-${'0'.repeat(16)}-01`, `cc-${traceId}-${spanId}-01-${'x'.repeat(200)}`, 'x', '']
      .map(wrong => [{ traceparent: wrong, 'x-cloud-trace-context': legacy }, fromLegacy] as const),
    ...['0'.repeat(32), 'x', `${traceId}/x`, ''].map(wrong => [{ 'x-cloud-trace-context': wrong }, undefined] as const),
    [{}, undefined]
  ] as const) t.strictSame(readTrace(headers), trace, JSON.stringify(headers))
})

t.test('without a project there is no trace; on Cloud Run the metadata server is asked for it, and nobody waits', async (t) => {
  const metadata = await startMetadataServer(t)
  const send = (log: ReturnType<typeof newLog>) => pino(log.logger, log.stream).info({ req: { headers: { traceparent }, url: '/', method: 'GET' } }, 'x')
  const elsewhere = newLog({})
  send(elsewhere)
  t.equal(elsewhere.entries[0]!['logging.googleapis.com/trace'], undefined)
  setEnvironment(t, { K_SERVICE: 'chat', ...metadata.env })
  const onCloudRun = newLog({})
  send(onCloudRun)
  t.equal(onCloudRun.entries[0]!['logging.googleapis.com/spanId'], undefined)
  await until(() => {
    send(onCloudRun)
    return onCloudRun.entries.at(-1)!['logging.googleapis.com/trace'] === traced['logging.googleapis.com/trace']
  }, 'the project is known')
  setEnvironment(t, { GOOGLE_CLOUD_PROJECT: 'mine' })
  const given = newLog({})
  send(given)
  t.match(given.entries[0], { 'logging.googleapis.com/trace': `projects/mine/traces/${traceId}`, httpRequest: { requestMethod: 'GET', requestUrl: '/' } })
})

t.test('on GKE and App Engine the project and the service are known too', async (t) => {
  const metadata = await startMetadataServer(t)
  metadata.values['/instance/attributes/cluster-name'] = 'main'
  const gke = { KUBERNETES_SERVICE_HOST: '10.0.0.1', HOSTNAME: 'chat-7d9f8b6c5d-x2x7z', GAE_SERVICE: undefined }
  const appEngine = { KUBERNETES_SERVICE_HOST: undefined, GAE_SERVICE: 'chat', GAE_VERSION: 'v2' }
  for (const [env, serviceContext] of [[gke, { service: 'chat' }], [appEngine, { service: 'chat', version: 'v2' }]] as const) {
    setEnvironment(t, { ...metadata.env, ...env })
    const { logger, stream, entries } = newLog({ service: undefined })
    await until(() => {
      pino(logger, stream).error({ req: { headers: { traceparent }, url: '/', method: 'GET' } }, 'x')
      return entries.at(-1)!['logging.googleapis.com/trace'] === traced['logging.googleapis.com/trace']
    }, 'the project is known')
    t.strictSame(entries.at(-1)!.serviceContext, serviceContext)
  }
})

t.test('an entry has at most 64 labels, all of them texts', async (t) => {
  const { logger, stream, entries } = newLog({ labels: { team: 'chat' } })
  const log = pino(logger, stream)
  log.info('x')
  log.info({ [labels]: { room: 7 } }, 'x')
  t.strictSame(entries.map(entry => entry[labels]), [{ team: 'chat' }, { room: '7', team: 'chat' }])
  const many = boundLabels(Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`${i}-`.padEnd(600, 'x'), 'y'.repeat(100_000)])))
  t.equal(Object.keys(many).length, 64)
  for (const [name, value] of Object.entries(many)) {
    t.ok(name.length <= 512)
    t.match(value, /^y{8192}… \(cut, 100000 characters\)$/)
  }
})

t.test('an entry is well below 256 KB, and says what was cut', async (t) => {
  const { logger, stream, entries } = newLog()
  const sizes: number[] = []
  const log = pino(logger, { write: (line: string) => { stream.write(line); sizes.push(Buffer.byteLength(line)) } })
  log.info({ a: 'é'.repeat(500_000), b: { c: [1, 'ü'.repeat(20_000)], n: null } }, 'm'.repeat(300_000))
  log.info({ list: Array.from({ length: 5_000 }, (_, i) => `${i}`.repeat(20)) })
  log.info({ map: Object.fromEntries(Array.from({ length: 50_000 }, (_, i) => [`key ${i}`, i])) }, 'x')
  log.info({ deep: JSON.parse('{"x":'.repeat(50) + `"${'y'.repeat(200_000)}"` + '}'.repeat(50)) }, 'x')
  log.info(Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`f${i}`, Array.from({ length: 20 }, () => Array.from({ length: 20 }, () => 'x'.repeat(200)))])), 'm'.repeat(2_000))
  log.info('y'.repeat(100_000))
  const [text, list, map, deep, all, fits] = entries as [Entry, Entry, Entry, Entry, Entry, Entry]
  t.match(text, { severity: 'INFO', a: /^é{16384}… \(cut, 500000 characters\)$/, message: /^m{16384}… \(cut, 300000 characters\)$/, b: { c: [1, /^ü{16384}…/], n: null } })
  t.equal(list.list.length, 1_001)
  t.match(list.list[1_000], /… \(cut, 5000 members\)/)
  t.equal(map.map['…'], 'cut, 50000 members')
  t.match(JSON.stringify(deep), /… \(cut\)/)
  t.match(all, { severity: 'INFO', time: String, message: /^m{1024}… \(cut, 2000 characters\)$/, cut: /all other fields/ })
  t.match(fits, { message: 'y'.repeat(100_000) })
  for (const size of sizes) t.ok(size <= 131_072, `${size} bytes`)
})

const connected = async (t: Test, options: Options, fastify: FastifyServerOptions, headers: Record<string, string> = {}) => {
  const { app, url } = await startApp(t, { authenticate: () => ({ user: 'ann' }), ...options }, fastify)
  const client = await connect(t, `${url}/ws?token=secret`, { headers: { 'user-agent': 'tap', ...headers } })
  return { app, url, client }
}

t.test('a stream over HTTP has the status that its client got, and no query', async (t) => {
  const { logger, of, entries } = newLog()
  const { url } = await startApp(t, { fallback: true }, { logger })
  await streamClient(t, url, 'sse', 'json', { name: 'secret' }).connected()
  t.match(await of('connection.opened'), { httpRequest: { status: 200, requestUrl: /\/connection\/sse$/ } })
  t.notMatch(JSON.stringify(entries), /secret|cf_connect/)
})

t.test('the entries of a connection are one operation in the trace of its upgrade', async (t) => {
  const { logger, of, entries } = newLog()
  const { client } = await connected(t, { onMessage: () => { throw new TypeError('boom') } }, { logger }, { traceparent })
  client.send('x')
  const closed = await of('connection.closed')
  const opened = await of('connection.opened')
  const failed = await of('connection.failed')
  const { connection: id } = opened
  t.match(opened, { severity: 'INFO', message: 'WebSocket connection of user ann opened', user: 'ann', ...traced, [labels]: { websocket_protocol: 'plain' } })
  t.strictSame(opened.httpRequest, { requestMethod: 'GET', requestUrl: opened.httpRequest.requestUrl, status: 101, userAgent: 'tap', remoteIp: '127.0.0.1', protocol: 'HTTP/1.1' })
  t.match(opened.httpRequest.requestUrl, /^http:\/\/127\.0\.0\.1:\d+\/ws$/)
  const producer = 'fastify-cloud-run-websocket'
  t.strictSame([opened, failed, closed].map(entry => entry[operation]), [
    { id, producer, first: true },
    { id, producer },
    { id, producer, last: true }
  ])
  t.match(failed, { severity: 'ERROR', '@type': reported, stack_trace: /TypeError: boom/, serviceContext: { service: 'chat' }, ...traced })
  t.match(closed, { severity: 'INFO', connection: id, cause: 'error', ...traced })
  t.notMatch(JSON.stringify(entries), /secret/)
})

t.test("an SDK's socket that ends before it has connected has one entry, which is all of its operation", async (t) => {
  const { logger, of, entries } = newLog()
  const { url } = await startApp(t, {}, { logger })
  const client = await connect(t, `${url}/connection/websocket`)
  client.socket.close()
  const { connection: id, [operation]: own } = await of('connection.closed')
  t.strictSame(own, { id, producer: 'fastify-cloud-run-websocket', first: true, last: true })
  t.equal(entries.filter(({ connection }) => connection === id).length, 1)
})

t.test('where requests have no logger of their own, no trace stays on that of the app', async (t) => {
  const entries: Entry[] = []
  const app = Fastify({ loggerInstance: pino(cloudLogging({ project: 'project-1' }), { write: (line: string) => { entries.push(JSON.parse(line)) } }), childLoggerFactory: logger => logger })
  t.teardown(() => app.close())
  await app.register(cloudRunWebSocket, { shutdown: { signals: false } })
  await app.inject({ url: '/nowhere', headers: { traceparent } })
  app.log.info('later')
  t.notOk(entries.find(({ message }) => message === 'later')!['logging.googleapis.com/trace'])
})

t.test('a connection without a trace header remembers none', async (t) => {
  const { logger, of } = newLog()
  const { app } = await connected(t, {}, { logger })
  t.equal((await of('connection.opened'))['logging.googleapis.com/trace'], undefined)
  t.equal(connectionsOf(app)[0]!.trace, undefined)
})

t.test('a refused upgrade has its status, and is a warning', async (t) => {
  const { logger, of, entries } = newLog()
  const { app, url } = await connected(t, { maxConnections: 1 }, { logger })
  await rejected(`${url}/ws?token=secret`, { headers: { traceparent } })
  t.match(await of('connection.rejected'), { severity: 'WARNING', error: 'capacity', httpRequest: { status: 503, requestUrl: /\/ws$/ }, ...traced, '@type': undefined })
  entries.length = 0
  await rejected(`${url}/ws`, { headers: { origin: 'https://evil.example' } })
  t.match(await of('connection.rejected'), { httpRequest: { status: 403 } })
  entries.length = 0
  for (const connection of app.realtime.connections) connection.meta = 'kept'
  const client = await connect(t, `${url}/connection/websocket`).catch(() => undefined)
  t.equal(client, undefined)
  const closed = app.close()
  await until(() => connectionsOf(app).every(({ open }) => !open), 'the drain has begun')
  await rejected(`${url}/ws`).catch(() => {}) // it may be too late for an answer
  await closed
})

t.test('on Cloud Run and App Engine a logger of another form is passed over for one on stdout', async (t) => {
  const cloudRun = { K_SERVICE: 'chat', K_REVISION: 'chat-7', GAE_SERVICE: undefined }
  const appEngine = { K_SERVICE: undefined, GAE_SERVICE: 'chat', GAE_VERSION: 'chat-7' }
  const other = { logger: { stream: { write: (line: string) => { t.notMatch(line, /"event"/) } } } }
  for (const [env, fastify] of [[cloudRun, other], [cloudRun, {}], [appEngine, other]] as const) {
    setEnvironment(t, { ...env, GOOGLE_CLOUD_PROJECT: 'project-1' })
    const lines = captureStdout(t)
    const { app, client } = await connected(t, { onMessage: () => { throw new Error('boom') } }, fastify as FastifyServerOptions, { traceparent })
    client.send('x')
    await client.closed
    await until(() => lines().some(({ event }) => event === 'connection.closed'), 'the last entry')
    t.match(lines().filter(({ event }) => event?.startsWith('connection.')), [
      { event: 'connection.opened', severity: 'INFO', ...traced },
      { event: 'connection.failed', severity: 'ERROR', serviceContext: { service: 'chat', version: 'chat-7' } },
      { event: 'connection.closed', severity: 'INFO', [operation]: { last: true } }
    ])
    await app.close()
    lines.restore()
  }
})

t.test('the last entry of a process that is stopped is on stdout', async (t) => {
  setEnvironment(t, { K_SERVICE: 'chat', GOOGLE_CLOUD_PROJECT: 'project-1', GCE_METADATA_HOST: '127.0.0.1:1', CLOUD_RUN_MAX_INSTANCES: '1' })
  const { child, urls: [url], log, exited } = await startServer(t)
  await connect(t, `${url}/ws`, { headers: { traceparent } })
  child.kill('SIGTERM')
  t.strictSame(await exited, { code: 0, signal: null })
  // Not in order: an entry may still be on its way, in another thread of pino's, when the exit writes those after it.
  const ours = log.filter(({ event }) => event !== undefined)
  const entries = new Map(ours.map(entry => [entry.event, entry]))
  for (const event of ['plugin.started', 'drain.started']) t.match(entries.get(event), { severity: 'INFO' })
  t.match(entries.get('connection.opened'), { severity: 'INFO', ...traced })
  t.match(entries.get('connection.closed'), { [operation]: { last: true }, ...traced })
  t.match(entries.get('drain.finished'), { severity: 'INFO', message: /closed/ })
  t.equal(ours.length, 5)
})

t.test("the host's level holds there too, as far as pino knows it", async (t) => {
  setEnvironment(t, { K_SERVICE: 'chat', GOOGLE_CLOUD_PROJECT: 'project-1', CLOUD_RUN_MAX_INSTANCES: '1' })
  const log = pino({ customLevels: { loud: 70 }, level: 'loud' }, { write: () => {} })
  for (const [loggerInstance, expected] of [[pino({ level: 'error' }, { write: () => {} }), []], [pino({ level: 'silent' }, { write: () => {} }), []], [log, ['plugin.started', 'connection.opened']]] as const) {
    const lines = captureStdout(t)
    const { app } = await connected(t, {}, { loggerInstance })
    t.strictSame(lines().map(({ event }) => event), expected)
    await app.close()
    lines.restore()
  }
})

t.test('elsewhere, and on a Kubernetes, entries are as the host writes all others', async (t) => {
  setEnvironment(t, { KUBERNETES_SERVICE_HOST: '10.0.0.1', GCE_METADATA_HOST: '127.0.0.1:1' })
  const entries: Entry[] = []
  const stream = { write: (line: string) => { entries.push(JSON.parse(line)) } }
  const { app } = await connected(t, {}, { logger: { stream } }, { traceparent })
  const opened = entries.find(({ event }) => event === 'connection.opened')!
  t.match(opened, { level: 30, msg: /opened/, httpRequest: undefined, [operation]: undefined })
  t.equal(connectionsOf(app)[0]!.trace, undefined)
  t.notOk(isCloudLogger(app.log))
  t.ok(isCloudLogger(Fastify({ loggerInstance: pino(cloudLogging({ project: 'p' })) }).log))
})

t.test('messages have entries by chance, without what is in them', async (t) => {
  const { logger, ours } = newLog()
  const { app, client } = await connected(t, { logging: { messages: { ratio: 1 } }, onConnect: connection => connection.subscribe('a'), onMessage: (connection, data) => connection.send(data) }, { logger })
  client.send('secret')
  await client.next()
  await app.realtime.publish('a', 'more')
  await client.next()
  const messages = ours().filter(({ event }) => event.startsWith('message.'))
  t.match(messages, [
    { event: 'message.received', severity: 'INFO', connection: /.+/, user: 'ann', protocol: 'plain', bytes: 6, binary: false, [operation]: { id: /.+/ } },
    { event: 'message.sent', bytes: 6 },
    { event: 'message.sent', bytes: 4 }
  ])
  t.notMatch(JSON.stringify(messages), /secret|more"/)
})

t.test('with content they show the first KB of it', async (t) => {
  const { logger, ours } = newLog()
  const { client } = await connected(t, {
    logging: { messages: { ratio: 1, content: true } },
    onMessage: (connection, data) => connection.send(data)
  }, { logger })
  client.send('x'.repeat(5_000))
  await client.next()
  client.send(Buffer.from([1, 2, 255]))
  await client.next()
  t.match(ours().filter(({ event }) => event === 'message.received'), [
    { content: 'x'.repeat(1_024), cut: true, bytes: 5_000, binary: false },
    { content: 'AQL/', cut: undefined, bytes: 3, binary: true }
  ])
})

t.test('the share of messages is about the ratio', async (t) => {
  const { logger, ours } = newLog()
  const { client } = await connected(t, { logging: { messages: { ratio: 0.1 } }, rateLimit: false, onMessage: (connection, data) => { if (data === 'last') connection.send(data) } }, { logger })
  for (let i = 0; i < 2_000; i++) client.send('x')
  client.send('last')
  await client.next()
  const count = ours().filter(({ event }) => event === 'message.received').length
  t.ok(count > 100 && count < 320, `${count} of 2000`)
})

/** Lines of JSON that go to stdout meanwhile; what tap writes goes on to it. */
function captureStdout (t: Test): { (): Entry[], restore (): void } {
  const { stdout } = process
  const lines: string[] = []
  const write = stdout.write
  const restore = () => { stdout.write = write }
  stdout.write = function (this: typeof stdout, chunk: string | Uint8Array, ...rest: any[]) {
    if (typeof chunk !== 'string' || !chunk.startsWith('{')) return write.call(this, chunk, ...rest)
    lines.push(chunk)
    return true
  } as typeof write
  t.teardown(restore)
  return Object.assign(() => lines.map(line => JSON.parse(line) as Entry), { restore })
}
