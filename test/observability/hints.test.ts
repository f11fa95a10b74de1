import fastifyWebsocket from '@fastify/websocket'
import Fastify from 'fastify'
import t from 'tap'
import type { Test } from 'tap'
import cloudRunWebSocket from '../../index.ts'
import type { End, Options } from '../../index.ts'
import { cloudLogging } from '../../lib/google/cloud-logging.ts'
import { CommonAge } from '../../lib/observability/hints/common-age.ts'
import { Hints } from '../../lib/observability/hints/hints.ts'
import { Logs } from '../../lib/observability/logs.ts'
import { resolveOptions } from '../../lib/options/resolve.ts'
import { startApp } from '../helpers/app.ts'
import { stopClock } from '../helpers/clock.ts'
import { setEnvironment } from '../helpers/environment.ts'
import { collectLog } from '../helpers/log.ts'
import type { Entry } from '../helpers/log.ts'
import { randomPrefix } from '../helpers/prefix.ts'
import { startRedis } from '../helpers/redis.ts'
import { secretOf } from '../helpers/secrets.ts'
import { until } from '../helpers/until.ts'
import { connect } from '../helpers/ws-client.ts'

const MINUTE = 60_000
const HOUR = 3_600_000

function newLog () {
  const { logger, entries } = collectLog(cloudLogging())
  const hints = () => entries.filter(({ event }) => event === 'hint')
  return { logger, hints, given: (hint: string) => until(() => hints().find(entry => entry.hint === hint)!, `the hint ${hint}`) }
}

/** Hints by themselves, and the names of those that were given. */
function newHints (options: Options = {}, env: NodeJS.ProcessEnv = { K_SERVICE: 'chat' }, redis: NodeJS.ProcessEnv = {}) {
  const given: Entry[] = []
  const log = { warn: (fields: Entry, msg: string) => given.push({ ...fields, msg }) } as never
  const logs = new Logs({ log, cloud: false, close: async () => {} }, resolveOptions({}, {}).logging)
  return { hints: new Hints(resolveOptions(options, redis), logs, env), given, names: () => given.map(({ hint }) => hint) }
}

const end = (cause: End['cause']): End => ({ code: 1006, reason: '', cause })

function onCloudRun (t: Test, more: Record<string, string> = {}): void {
  setEnvironment(t, { K_SERVICE: 'chat', GCE_METADATA_HOST: '127.0.0.1:1', ...more })
}

t.test('on Cloud Run a service without Redis, or with too little concurrency, gets a hint at the start', async t => {
  onCloudRun(t, { CLOUD_RUN_CONCURRENCY: '80' })
  const { logger, hints } = newLog()
  await startApp(t, {}, { logger })
  t.match(hints(), [
    { severity: 'WARNING', hint: 'no_redis', command: 'gcloud run services update chat --update-env-vars=REDIS_URL=redis://HOST:6379', message: /REDIS_URL.*gcloud run services update chat --max-instances=1/ },
    { severity: 'WARNING', hint: 'concurrency', command: 'gcloud run services update chat --concurrency=1000', concurrency: 80, maxConnections: 950 }
  ])
  t.equal(hints().length, 2)
})

t.test('with fallback, a service whose connections leave no request for a post gets a hint at the start', async t => {
  onCloudRun(t, { CLOUD_RUN_CONCURRENCY: '950', CLOUD_RUN_MAX_INSTANCES: '1' })
  for (const fallback of [false, true]) {
    const { logger, hints } = newLog()
    await startApp(t, { fallback }, { logger })
    t.match(hints(), fallback ? [{ hint: 'concurrency', concurrency: 950, maxConnections: 950, message: /so is each post of fallback/ }] : [])
    t.equal(hints().length, fallback ? 1 : 0)
  }
})

t.test('a Google access token that goes to Redis without TLS gets a hint at the start', async t => {
  const hinted = (env: NodeJS.ProcessEnv) => {
    const { given, hints } = newHints({}, {}, env)
    hints.started(0)
    return given
  }
  const iam = { REDIS_AUTH: 'iam' }
  const unsafe = { hint: 'iam_without_tls', command: 'REDIS_CA_FILE=/secrets/redis-ca/ca.pem' }
  t.match(hinted({ ...iam, REDISHOST: 'a' }), [unsafe])
  t.match(hinted({ ...iam, REDIS_URL: 'redis://a', REDIS_CLUSTER: 'true' }), [unsafe])
  t.strictSame(hinted({ ...iam, REDIS_URL: 'rediss://a' }), [])
  t.strictSame(hinted({ ...iam, REDIS_URL: 'rediss://a', REDIS_CLUSTER: 'true' }), [])
  t.strictSame(hinted({ REDIS_URL: 'redis://a' }), [])
})

t.test('on Cloud Run a trustProxy that is wrong there gets a hint at the start', async t => {
  onCloudRun(t)
  for (const [trustProxy, effect] of [[true, /a client can choose its own address/], [1 as never, /all clients have the same address/]] as Array<[true, RegExp]>) {
    const { logger, given, hints } = newLog()
    await startApp(t, { redis: false }, { logger, trustProxy })
    t.match(await given('trust_proxy'), { severity: 'WARNING', trustProxy, command: 'app.register(cloudRunWebSocket, { trustedProxies: 1 })', message: effect })
    t.equal(hints().filter(({ hint }) => hint === 'trust_proxy').length, 1)
  }
  const right = newLog()
  await startApp(t, { trustedProxies: 1 }, { logger: right.logger, trustProxy: true })
  await startApp(t, {}, { logger: right.logger, trustProxy: '169.254.0.0/16' })
  await startApp(t, {}, { logger: right.logger })
  setEnvironment(t, { K_SERVICE: undefined })
  await startApp(t, {}, { logger: right.logger, trustProxy: true })
  t.strictSame(right.hints().filter(({ hint }) => hint === 'trust_proxy'), [])
})

t.test('a function trustedProxies that gives no address gets one hint, and the address of the socket counts', async t => {
  const functions: Array<[string, () => unknown]> = [
    ['a promise', async () => '203.0.113.1'],
    ['a promise', async () => { throw new Error('no') }],
    ['an exception (TypeError)', () => { throw new TypeError('no') }],
    ['undefined', () => undefined],
    ['null', () => null],
    ['a string that is not an address', () => 'ann']
  ]
  for (const [type, trustedProxies] of functions) {
    const { logger, given, hints } = newLog()
    const { url } = await startApp(t, { trustedProxies: trustedProxies as never }, { logger })
    for (let i = 0; i < 2; i++) await connect(t, `${url}/ws`)
    t.match(await given('trusted_proxies'), { severity: 'WARNING', type, command: /trustedProxies: request => / })
    t.equal(hints().length, 1)
  }
  const { logger, hints } = newLog()
  const { url } = await startApp(t, { trustedProxies: () => '203.0.113.1' }, { logger })
  await connect(t, `${url}/ws`)
  t.strictSame(hints(), [])
})

t.test("bounds of the app's own @fastify/websocket that are wider than ours get a hint at the start", async t => {
  const startWith = async (options: object) => {
    const { logger, hints } = newLog()
    const app = Fastify({ logger })
    t.teardown(() => app.close())
    await app.register(fastifyWebsocket, { options })
    await app.register(async scope => { await scope.register(cloudRunWebSocket, { maxPayload: 1_000, shutdown: { signals: false } }) })
    await app.ready()
    return hints()
  }
  const [none, ...more] = await startWith({})
  t.strictSame(more, [], 'one entry')
  t.match(none, {
    severity: 'WARNING',
    hint: 'websocket_bounds',
    command: 'app.register(websocket, { options: { maxPayload: 1000, maxFragments: 64, maxBufferedChunks: 1024 } })',
    message: /maxPayload 104857600 instead of 1000, maxFragments 16384 instead of 64, maxBufferedChunks 262144 instead of 1024/
  })
  t.match(await startWith({ maxPayload: 0, maxFragments: 64, maxBufferedChunks: 1_024 }), [{ message: /maxPayload without limit instead of 1000/ }])
  t.strictSame(await startWith({ maxPayload: 1_000, maxFragments: 64, maxBufferedChunks: 1_024 }), [])
  const { logger, hints } = newLog()
  await startApp(t, {}, { logger })
  t.strictSame(hints(), [], 'ours has them')
})

t.test('a ws that does not know these bounds gets a hint at the start', async t => {
  const { hints, given } = newHints({}, {})
  const wanted = { maxPayload: 1_000, maxFragments: 64, maxBufferedChunks: 1_024 }
  hints.webSocketServer(wanted, { maxPayload: 1_000, maxFragments: undefined, maxBufferedChunks: undefined }, false, 0)
  t.match(given, [{ hint: 'websocket_version', command: 'npm update ws', msg: /does not know maxFragments and maxBufferedChunks.*8\.23\.0/ }])
  t.equal(given.length, 1)
})

t.test('a service that is configured well, and a laptop, get no hint at the start', async t => {
  const right = newHints({ redis: 'redis://127.0.0.1:1' }, { K_SERVICE: 'chat', CLOUD_RUN_CONCURRENCY: '1000' })
  const alone = newHints({}, { K_SERVICE: 'chat', CLOUD_RUN_MAX_INSTANCES: '1' })
  const laptop = newHints({}, { K_SERVICE: '', CLOUD_RUN_CONCURRENCY: '80' })
  for (const { hints } of [right, alone, laptop]) hints.started(0)
  t.strictSame([right, alone, laptop].map(({ names }) => names()), [[], [], []])
})

t.test('connections that break at one age hint at a request timeout', async t => {
  const advance = stopClock(t)
  onCloudRun(t)
  const { logger, given, hints } = newLog()
  const { app, url } = await startApp(t, { requestTimeout: '60m' }, { logger })
  const clients = []
  for (let i = 0; i < 20; i++) {
    clients.push(await connect(t, `${url}/ws`))
    advance(2_000)
  }
  advance(260_000) // the first of them is 300 s old
  for (const [i, { socket }] of clients.entries()) {
    t.notOk(hints().some(({ hint }) => hint === 'request_timeout'))
    socket.terminate()
    await until(() => [...app.realtime.connections].length === 19 - i, 'it is gone')
    advance(2_000)
  }
  t.match(await given('request_timeout'), { severity: 'WARNING', age: 300, command: 'gcloud run services update chat --timeout=3600', message: /break at an age of 300 s/ })
  t.equal(hints().filter(({ hint }) => hint === 'request_timeout').length, 1)
})

t.test('clients that vanish at random do not hint at a request timeout', async t => {
  const gone = (ages: number[], spacing = 2_000) => {
    const commonAge = new CommonAge()
    return ages.map((age, i) => commonAge.add(age, i * spacing)).at(-1)
  }
  const times = (n: number, age: (i: number) => number) => Array.from({ length: n }, (_, i) => age(i))
  t.equal(gone(times(20, i => 300_000 + i * 50)), 300_700)
  t.equal(gone([...times(5, i => 20_000 + i * 9_000), ...times(15, () => 300_000)]), 300_000, 'most of them will do')
  t.equal(gone([...times(6, i => 20_000 + i * 9_000), ...times(14, () => 300_000)]), undefined)
  t.equal(gone(times(19, () => 300_000)), undefined, 'they are too few')
  t.equal(gone(times(20, i => 300_000 + i * 200)), undefined, 'the ages are too far apart')
  t.equal(gone(times(20, i => 20_000 + i * 100)), undefined, 'for young ones sooner')
  t.equal(gone(times(20, () => 5_000)), undefined, 'those of a broken client')
  t.equal(gone(times(500, () => 300_000), 10), undefined, 'one event that took all')
  const found = times(200, () => gone(times(100, () => Math.random() * 600_000))!)
  t.strictSame(found.filter(age => age !== undefined), [], 'at random')
})

t.test('connections that end at the request timeout, or do not break, do not hint at one', async t => {
  const { hints, names } = newHints({ maxConnectionAge: false, requestTimeout: '5m' })
  for (let i = 0; i < 50; i++) {
    hints.ended(end('abnormal'), 300_000, i * 2_000)
    hints.ended(end('client'), 200_000, i * 2_000)
  }
  t.strictSame(names(), [])
})

t.test('a process that stalls without using the CPU hints at CPU throttling', async t => {
  const advance = stopClock(t)
  onCloudRun(t)
  const { logger, given, hints } = newLog()
  await startApp(t, { heartbeat: { interval: 50, timeout: 50 } }, { logger })
  // The clock jumps, but the process uses no CPU meanwhile. A sweep after which this process has imported something
  // does not count.
  await until(() => {
    advance(1_150)
    return hints().some(({ hint }) => hint === 'cpu_throttling')
  }, 'three stalls')
  t.match(await given('cpu_throttling'), { severity: 'WARNING', late: Number, command: 'gcloud run services update chat --no-cpu-throttling' })
})

t.test('a process that is busy, or stalls now and then, does not hint at CPU throttling', async t => {
  const busy = newHints()
  const seldom = newHints()
  const laptop = newHints({}, {})
  for (let i = 1; i < 100; i++) {
    busy.hints.swept(i * 5_000, 2_000, 0, i * 1_500)
    seldom.hints.swept(i * 6 * MINUTE, 2_000, 0, i)
    laptop.hints.swept(i * 5_000, 2_000, 0, i)
  }
  t.strictSame([busy, seldom, laptop].map(({ names }) => names()), [[], [], []])
  const { hints, names } = newHints()
  for (let i = 1; i < 3; i++) hints.swept(i * MINUTE, 2_000, 0, 100 + i)
  t.strictSame(names(), [], 'twice is not enough')
  hints.swept(3 * MINUTE, 2_000, 0, 104)
  t.strictSame(names(), ['cpu_throttling'])
})

t.test('an instance that is not ready for long hints at the reason', async t => {
  const advance = stopClock(t)
  const redis = await startRedis(t)
  const { logger, given, hints } = newLog()
  const options = { redis: redis.url, keyPrefix: randomPrefix(), maxConnections: 1, redisReadiness: 'always' } as const
  const { app, url } = await startApp(t, options, { logger })
  const ready = async () => (await app.inject('/ready')).json().reasons
  const client = await connect(t, `${url}/ws`)
  t.strictSame(await ready(), ['full'])
  advance(110_000)
  await ready()
  t.strictSame(hints(), [])
  client.socket.close()
  await until(async () => (await ready()).length === 0, 'it is ready for a moment')
  await connect(t, `${url}/ws`)
  await ready()
  advance(110_000)
  await ready()
  t.strictSame(hints(), [], 'it begins anew')
  advance(20_000)
  await ready()
  t.match(await given('not_ready_full'), { severity: 'WARNING', seconds: Number, reasons: ['full'], command: 'app.register(cloudRunWebSocket, { maxConnections: 2 })' })
  await redis.kill()
  await until(async () => (await ready()).includes('redis'), 'Redis is away')
  t.match(await given('not_ready_redis'), { severity: 'WARNING', reasons: ['full', 'redis'], command: 'redis-cli -u REDIS_URL ping' })
  t.equal(hints().length, 2)
})

t.test('each platform has its own command, with what is known filled in', async (t) => {
  const pod = { KUBERNETES_SERVICE_HOST: '10.0.0.1', HOSTNAME: 'chat-7d9f8b6c5d-x2x7z', OTEL_SERVICE_NAME: 'talk' }
  const cases: Array<[NodeJS.ProcessEnv, string, string, string, string, string]> = [
    [{ K_SERVICE: 'chat', CLOUD_RUN_MAX_INSTANCES: '100' },
      'gcloud run services update chat --timeout=3600',
      'gcloud run services update chat --no-cpu-throttling --cpu=2',
      'gcloud run services update chat --network=NETWORK --subnet=SUBNET --vpc-egress=private-ranges-only',
      'gcloud run services update chat --memory=1Gi',
      'gcloud run services update chat --max=200 --max-instances=200'],
    [{ K_SERVICE: 'chat' }, '--timeout', '--cpu', '--network', '--memory', '--max-instances=100'],
    [pod, 'gcpbackendpolicy chat ', 'deployment/chat --requests=cpu=2', 'networkpolicy', 'deployment/chat --requests=memory=2Gi', 'hpa chat '],
    [{ GAE_SERVICE: 'chat' }, "requestTimeout: '120s'", 'cpu: 2', 'subnetwork_name', 'memory_gb: 2', 'max_num_instances: 100'],
    [{}, "requestTimeout: '120s'", "timeout: '20s'", 'redis-cli', 'memoryLimit: ', 'maxConnections: 1900']
  ]
  for (const [env, ...commands] of cases) {
    const { hints, given } = newHints({ redis: 'redis://127.0.0.1:1' }, env)
    for (let i = 0; i < 20; i++) hints.ended(end('abnormal'), 120_000, i * 2_000)
    for (let i = 0; i < 20; i++) hints.ended(end('heartbeat'), 1_000, i)
    hints.swept(MINUTE, 0, 0, 0)
    for (const reason of ['redis', 'memory', 'full']) for (const now of [0, 2 * MINUTE]) hints.probed([reason], now)
    t.strictSame(given.map(({ hint }) => hint), ['request_timeout', 'dead_connections', 'not_ready_redis', 'not_ready_memory', 'not_ready_full'])
    for (const [i, command] of commands.entries()) t.ok(given[i]!.command.includes(command), `${given[i]!.command} has ${command}`)
  }
})

t.test('memory that stays short gives a hint', async t => {
  const { hints, names } = newHints()
  for (let i = 0; i < 3; i++) hints.probed(['memory'], i * MINUTE)
  t.strictSame(names(), ['not_ready_memory'])
})

t.test('a start or a drain that takes long gives no hint', async t => {
  const { hints, names } = newHints()
  for (const reason of ['starting', 'draining']) for (let i = 0; i < 10; i++) hints.probed([reason], i * MINUTE)
  t.strictSame(names(), [])
})

t.test('many peers without a pong hint at a broken network', async t => {
  const { logger, given, hints } = newLog()
  const { app, url } = await startApp(t, { heartbeat: { interval: 500, timeout: 100 } }, { logger })
  const clients = await Promise.all(Array.from({ length: 25 }, () => connect(t, `${url}/ws`)))
  for (const { socket } of clients) socket.pause()
  t.match(await given('dead_connections'), { severity: 'WARNING', dead: Number, connections: Number, command: "app.register(cloudRunWebSocket, { heartbeat: { timeout: '20s' } })" })
  await until(() => [...app.realtime.connections].length === 0, 'all are gone')
  t.equal(hints().length, 1)
})

t.test('a few peers without a pong do not', async t => {
  const { hints, names } = newHints()
  let now = 0
  const interval = (dead: number, connections: number) => {
    for (let i = 0; i < dead; i++) hints.ended(end('heartbeat'), 100_000, now)
    for (let i = 0; i < 25; i++) hints.swept(now += 1_000, 0, connections, 0)
  }
  interval(9, 10)
  interval(9, 10)
  interval(0, 700)
  interval(50, 700)
  interval(0, 700)
  interval(0, 700)
  t.strictSame(names(), [])
  interval(10, 0)
  interval(10, 0)
  t.strictSame(names(), ['dead_connections'])
})

t.test('a hint is given again after an hour, and not before', async t => {
  const { hints, names } = newHints()
  for (const time of [0, HOUR - 1, HOUR, HOUR + 1]) hints.started(time)
  t.strictSame(names(), ['no_redis', 'no_redis'])
})

t.test('a token alone leaves the plain route open to anybody, which is told once, anywhere', async (t) => {
  const token = { secret: secretOf('hints') }
  const onMessage = () => {}
  for (const options of [{ token, onMessage }, { token, onConnect: onMessage, path: '/live' }]) {
    const { hints, names, given } = newHints({ redis: false, ...options }, {})
    hints.started(0)
    hints.started(1)
    t.strictSame(names(), ['open_path'])
    t.match(given[0], { command: 'app.register(cloudRunWebSocket, { path: false })', msg: /^Anybody can connect to \/(ws|live) .*authenticate/ })
  }
  const right = [{ onMessage }, { token }, { token, onMessage, path: false as const }, { token, onMessage, authenticate: () => ({}) }]
  for (const options of right) {
    const { hints, names } = newHints({ redis: false, ...options }, {})
    hints.started(0)
    t.strictSame(names(), [])
  }
  const { logger, hints } = newLog()
  await startApp(t, { redis: false, token, onMessage }, { logger })
  t.match(hints(), [{ hint: 'open_path', path: '/ws' }])
})
