import { readFileSync } from 'node:fs'
import { createClient } from 'redis'
import t from 'tap'
import type { Test } from 'tap'
import { history, startNode } from '../broker-contract.ts'
import { startApp } from '../../helpers/app.ts'
import { collectLog } from '../../helpers/log.ts'
import { randomPrefix } from '../../helpers/prefix.ts'
import { command, startRedis, startRedisCluster } from '../../helpers/redis.ts'
import { sdkClient } from '../../helpers/sdk.ts'
import { until } from '../../helpers/until.ts'

/** The rules of docs/operations.md's `ACL SETUSER`, for this prefix. */
function rulesOfTheDocs (prefix: string): string[] {
  const page = readFileSync(new URL('../../../docs/operations.md', import.meta.url), 'utf8')
  const [, rules = ''] = /^\s*ACL SETUSER app (.*)$/m.exec(page) ?? []
  return rules.replaceAll('ws:*', `${prefix}:*`).replace('>PASSWORD', '>secret').split(' ')
}

async function setUp (t: Test) {
  const redis = await startRedis(t)
  const prefix = randomPrefix()
  const acl = (...rules: string[]) => command(redis.port, ['ACL', 'SETUSER', 'app', ...rules])
  await acl(...rulesOfTheDocs(prefix))
  return { redis, prefix, acl, url: `redis://app:secret@127.0.0.1:${redis.port}` }
}

t.test('a user with the rights that the docs list can do everything', async (t) => {
  const { redis, prefix, url } = await setUp(t)
  const log = collectLog()
  const channels = {
    chat: { subscribe: true, publish: true, history: { size: 10, ttl: '1m' } },
    room: { subscribe: true, publish: true, presence: true, joinLeave: true }
  } as const
  const { app, url: appUrl } = await startApp(t, { redis: url, keyPrefix: prefix, channels }, { logger: log.logger })
  await until(async () => (await app.inject('/ready')).statusCode === 200, 'it is ready', 30_000)
  const client = await sdkClient(t, appUrl, 'json').connected()
  const [chat, room] = [await client.subscribe('chat:1').subscribed(), await client.subscribe('room:1').subscribed()]
  const { realtime } = app
  await realtime.publish('chat:1', 1)
  await realtime.publish('chat:1', 2, { idempotencyKey: 'key' })
  await realtime.publish('room:1', 3)
  await realtime.publish('room:1', 4, { idempotencyKey: 'key' })
  await chat.arrived(2)
  await room.arrived(2)
  t.equal((await realtime.history('chat:1')).publications.length, 2)
  t.equal((await realtime.history('chat:1', { reverse: true, limit: 1 })).publications.length, 1)
  t.equal((await realtime.presence('room:1')).length, 1)
  await realtime.sessions.set('ada', { a: 1, b: undefined })
  t.strictSame(await realtime.sessions.get('ada'), { a: 1 })
  await realtime.sessions.delete('ada')
  await realtime.subscribe('nobody', 'room:2')
  t.equal((await realtime.info()).length, 1)
  await command(redis.port, ['CLIENT', 'KILL', 'TYPE', 'normal'])
  await command(redis.port, ['CLIENT', 'KILL', 'TYPE', 'pubsub'])
  await until(async () => (await app.inject('/ready')).statusCode === 200 && log.entries.some(({ event }) => event === 'bridge.up'), 'it is back', 30_000)
  await until(() => realtime.publish('chat:1', 5), 'it publishes')
  await chat.arrived(3)
  client.client.disconnect()
  await until(async () => (await realtime.presence('room:1')).length === 0, 'it is gone')
  t.strictSame(log.entries.filter(({ event }) => event === 'call.failed' || event === 'connection.failed'), [])
  const admin = await createClient({ url: redis.url }).connect()
  t.teardown(() => admin.destroy())
  // From 7.2 on node-redis says its name and version. It needs no answer.
  const refused = (await admin.aclLog()).filter(({ object }) => object !== 'client|setinfo')
  t.strictSame(refused, [], 'nothing else was refused')
})

t.test('a user with the rights that the docs list can use a cluster', async (t) => {
  const { nodes } = await startRedisCluster(t)
  const prefix = randomPrefix()
  for (const { port } of nodes) await command(port, ['ACL', 'SETUSER', 'app', ...rulesOfTheDocs(prefix)])
  const rootNodes = nodes.map(({ port }) => ({ socket: { host: '127.0.0.1', port } }))
  const node = await startNode(t, { rootNodes, defaults: { username: 'app', password: 'secret' } }, prefix)
  await node.up()
  await node.subscribe('room', true)
  await node.publish('room', 1, { history })
  await node.arrived('room', 1)
  for (const { port } of nodes) await command(port, ['ACL', 'SETUSER', 'app', '-spublish'])
  const other = await startNode(t, { rootNodes, defaults: { username: 'app', password: 'secret' } }, prefix)
  await until(() => other.publish('room', 2).catch(({ cause }) => /\+spublish/.test(cause.message)), 'the reason is told', 30_000)
  t.equal(other.broker.up, false)
  for (const { port } of nodes) await command(port, ['ACL', 'SETUSER', 'app', '+spublish'])
  await other.up()
})

t.test('an app without a right is not ready, says once which one, and is ready when it is given', async (t) => {
  const { prefix, acl, url } = await setUp(t)
  await acl('-xadd', '-publish', '-ping')
  const log = collectLog()
  const { app } = await startApp(t, { redis: url, keyPrefix: prefix }, { logger: log.logger })
  const ready = async () => (await app.inject('/ready')).json()
  t.match(await ready(), { status: 'unavailable', reasons: ['redis'] })
  const reason = 'the Redis user lacks rights, which ACL SETUSER gives: +ping +publish +xadd'
  await until(() => app.realtime.publish('room', 1).catch(({ cause }) => cause.message.includes(reason)), 'the reason is told', 30_000)
  // A busy machine may take longer than the two seconds that the app waits for Redis.
  t.match(log.entries.filter(({ event }) => event === 'bridge.down'), [{ reason: /lacks rights.*\+ping \+publish \+xadd|not connected yet/ }])
  await acl('+xadd', '+publish', '+ping')
  await until(async () => (await ready()).status === 'ready', 'it is ready', 30_000)
  await app.realtime.publish('room', 1)
  t.equal(log.entries.filter(({ event }) => event === 'bridge.down').length, 1)
})

t.test('each right that the docs list is needed, or is one of those that are not asked for', async (t) => {
  const { redis, prefix } = await setUp(t)
  const rules = rulesOfTheDocs(prefix)
  // The first is not necessary, the others are for clusters alone.
  const others = ['+script|load', '+spublish', '+ssubscribe', '+sunsubscribe', '+client|info', '+cluster|slots', '+asking']
  const needed = rules.filter(rule => /^[+~&]/.test(rule) && !others.includes(rule))
  t.ok(needed.length > 20)
  await Promise.all(needed.map(async (rule, i) => {
    await command(redis.port, ['ACL', 'SETUSER', `app-${i}`, ...rules.filter(other => other !== rule)], 10_000)
    const node = await startNode(t, `redis://app-${i}:secret@127.0.0.1:${redis.port}`, prefix)
    const lacks = new RegExp(`ACL SETUSER gives:.* ${rule.replace(/[+*|]/g, '\\$&')}( |$)`)
    // Each of the two links tries what it needs.
    const reasons = () => Promise.allSettled([node.publish('room', 1), node.subscribe('room', false)])
    await until(async () => (await reasons()).some(one => one.status === 'rejected' && lacks.test(one.reason.cause.message)), `${rule} is missed`, 60_000)
    t.equal(node.broker.up, false, rule)
  }))
})

t.test('what a user can do is tried without a trace', async (t) => {
  const { redis, prefix, url } = await setUp(t)
  const node = await startNode(t, url, prefix)
  await node.up()
  t.equal(await command(redis.port, ['KEYS', `${prefix}:*`]), '')
})
