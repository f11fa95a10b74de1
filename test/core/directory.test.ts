import t from 'tap'
import type { Test } from 'tap'
import type { Options } from '../../index.ts'
import { sharedMemory } from '../../testing.ts'
import { startApp } from '../helpers/app.ts'
import type { App } from '../helpers/app.ts'
import { collectLog } from '../helpers/log.ts'
import { randomPrefix } from '../helpers/prefix.ts'
import { startRedis, startRedisCluster } from '../helpers/redis.ts'
import { startServer } from '../helpers/server-process.ts'
import { until } from '../helpers/until.ts'
import { connect } from '../helpers/ws-client.ts'

t.setTimeout(120_000)
const redis = await startRedis(t)

const handlers: Options = {
  channels: { room: {} },
  authenticate: ({ headers }) => ({ user: headers['x-user'] as string ?? '', meta: headers['x-channels'] ?? '' }),
  onConnect: async (connection) => {
    for (const channel of (connection.meta as string).split(',').filter(Boolean)) await connection.subscribe(channel)
    connection.send('ready')
  },
  onMessage: connection => connection.unsubscribe('room:2')
}

async function open (t: Test, { url }: App, user: string, channels = '') {
  const client = await connect(t, `${url}/ws`, { headers: { 'x-user': user, 'x-channels': channels } })
  await client.next()
  return client
}

async function testDirectory (t: Test, options: Options, instances: number): Promise<void> {
  const apps = await Promise.all(Array.from({ length: instances }, () => startApp(t, { ...handlers, ...options })))
  const [a, b] = [apps[0]!, apps.at(-1)!]
  for (const { app: { realtime } } of apps) {
    t.equal(await realtime.isOnline('ada'), false)
    t.strictSame(await realtime.users(), [])
    t.strictSame(await realtime.channels(), [])
  }
  const ada = await open(t, a, 'ada', 'room:1,room:2,zoo')
  await open(t, b, 'ada', 'room:1')
  await open(t, b, 'bob', 'room:2,Ärger')
  await open(t, a, '', 'room:1')
  for (const { app: { realtime } } of apps) {
    t.equal(await realtime.isOnline('ada'), true)
    t.equal(await realtime.isOnline('bob'), true)
    t.equal(await realtime.isOnline('bo'), false)
    t.strictSame(await realtime.users(), [{ user: 'ada', connections: 2 }, { user: 'bob', connections: 1 }])
    t.strictSame(await realtime.users({ prefix: 'b' }), [{ user: 'bob', connections: 1 }])
    t.strictSame(await realtime.channels(), [
      { channel: 'room:1', clients: 3 }, { channel: 'room:2', clients: 2 }, { channel: 'zoo', clients: 1 }, { channel: 'Ärger', clients: 1 }
    ])
    t.strictSame(await realtime.channels({ prefix: 'room:', limit: 1 }), [{ channel: 'room:1', clients: 3 }])
    t.strictSame(await realtime.channels({ limit: 2, after: 'room:1' }), [{ channel: 'room:2', clients: 2 }, { channel: 'zoo', clients: 1 }])
  }
  ada.send('leave room:2')
  await until(async () => (await b.app.realtime.channels({ prefix: 'room:2' }))[0]?.clients === 1, 'she has left it')
  ada.socket.close()
  await until(async () => (await b.app.realtime.users())[0]?.connections === 1, 'her first connection is gone')
  t.equal(await a.app.realtime.isOnline('ada'), true)
}

t.test('who is online, and which channels have subscribers, on one instance in memory', t => testDirectory(t, { redis: false }, 1))
t.test('who is online over a shared memory', t => testDirectory(t, { redis: sharedMemory() }, 2))
t.test('who is online over Redis', t => testDirectory(t, { redis: redis.url, keyPrefix: randomPrefix() }, 3))
t.test('who is online over a cluster', async (t) => {
  const { rootNodes } = await startRedisCluster(t)
  await testDirectory(t, { redis: { rootNodes }, keyPrefix: randomPrefix() }, 2)
})

t.test('a thousand users and more are asked about in few questions, and listed page by page', async (t) => {
  const options = { ...handlers, redis: redis.url, keyPrefix: randomPrefix() }
  const [a, b] = await Promise.all([startApp(t, options), startApp(t, options)])
  const names = Array.from({ length: 120 }, (_, i) => `user-${String(i).padStart(3, '0')}`)
  await Promise.all(names.map((user, i) => open(t, i % 3 === 0 ? a : b, user)))
  const strangers = Array.from({ length: 1_500 }, (_, i) => `stranger-${i}`)
  const online = await Promise.all([...names, ...strangers].map(user => a.app.realtime.isOnline(user)))
  t.strictSame(online, [...names.map(() => true), ...strangers.map(() => false)])
  const listed: string[] = []
  for (;;) {
    const page = await b.app.realtime.users({ limit: 50, after: listed.at(-1) })
    if (page.length === 0) break
    t.ok(page.length <= 50)
    listed.push(...page.map(({ user }) => user))
  }
  t.strictSame(listed, names)
})

t.test('an instance that was killed is left out, and the log says so once', async (t) => {
  const options = { redis: redis.url, keyPrefix: randomPrefix() }
  const { logger, entries } = collectLog()
  const { app, url } = await startApp(t, { ...handlers, ...options }, { logger })
  const { child, exited } = await startServer(t, { options })
  await until(async () => (await app.realtime.info()).length === 2, 'both are there')
  child.kill('SIGKILL')
  await exited
  await open(t, { app, url }, 'ada')
  for (let i = 0; i < 20; i++) t.strictSame(await app.realtime.users(), [{ user: 'ada', connections: 1 }])
  t.equal(await app.realtime.isOnline('bob'), false)
  const [incomplete, ...more] = entries.filter(({ event }) => event === 'survey.incomplete')
  t.match(incomplete, { level: 40, question: 'users', msg: /^Answers to users are incomplete: without a reply from \S+, which has crashed/ })
  t.strictSame(more, [])
})

t.test('wrong arguments reject with a coded error, and so does everything while Redis is down', async (t) => {
  const own = await startRedis(t)
  const { app: { realtime } } = await startApp(t, { ...handlers, redis: own.url })
  const code = 'FST_CRWS_INVALID_ARGUMENT'
  await t.rejects(realtime.isOnline(''), { code })
  await t.rejects(realtime.isOnline(7 as never), { code })
  await t.rejects(realtime.users({ prefx: 'a' } as never), { code, message: /did you mean `prefix`/ })
  await t.rejects(realtime.users({ prefix: 7 as never }), { code, message: /Invalid prefix/ })
  await t.rejects(realtime.users({ after: 7 as never }), { code, message: /Invalid after/ })
  for (const limit of [0, -1, 1.5, 10_001, '5']) {
    await t.rejects(realtime.channels({ limit: limit as never }), { code, message: /Invalid limit/ })
  }
  await own.kill()
  for (const call of [() => realtime.users(), () => realtime.channels(), () => realtime.isOnline('ada')]) {
    await t.rejects(call as () => Promise<unknown>, { code: /^FST_CRWS_REDIS_(UNAVAILABLE|NO_ANSWER)$/ })
  }
})
