import t from 'tap'
import { history, range, startNode } from '../broker-contract.ts'
import { startApp } from '../../helpers/app.ts'
import { startBalancer } from '../../helpers/balancer.ts'
import { collectLog } from '../../helpers/log.ts'
import { randomPrefix } from '../../helpers/prefix.ts'
import { command, startRedis, startReplicated } from '../../helpers/redis.ts'
import { until } from '../../helpers/until.ts'

const UNAVAILABLE = { code: 'FST_CRWS_REDIS_UNAVAILABLE' }

t.test('a primary that is demoted under open connections is left for the one that its address leads to now', async (t) => {
  const { primary, replica, synced } = await startReplicated(t)
  const balancer = await startBalancer(t, [primary.url])
  const prefix = randomPrefix()
  const node = await startNode(t, balancer.url.replace('ws:', 'redis:'), prefix)
  await node.subscribe('room', true)
  await node.publish('room', 1, { history })
  await node.arrived('room', 1)
  await Promise.all(range(1, 2_500).map(i => node.subscribe(`plain-${i}`, false)))
  await synced()
  await command(replica.port, ['REPLICAOF', 'NO', 'ONE'])
  await command(primary.port, ['REPLICAOF', '127.0.0.1', String(replica.port)])
  await t.rejects(node.publish('room', 'refused', { history }), { ...UNAVAILABLE, cause: { message: /READONLY|MASTERDOWN|LOADING/ } })
  await node.down()
  balancer.targets.splice(0, 1, replica.url)
  await node.up()
  await node.publish('room', 2, { history })
  await node.arrived('room', 2)
  t.strictSame(node.data('room'), [1, 2])
  t.strictSame(node.missedBefore, [])
  for (const channel of ['room', 'plain-1', 'plain-2500']) {
    t.match(await command(replica.port, ['PUBSUB', 'NUMSUB', `${prefix}:pub:{${channel}}`]), /,1$/, `${channel} has moved`)
  }
})

t.test('an instance whose server is a replica has no Redis, says so once, and has it when the server is the primary again', async (t) => {
  const { primary, replica } = await startReplicated(t)
  const log = collectLog()
  const { app } = await startApp(t, { redis: replica.url, keyPrefix: randomPrefix() }, { logger: log.logger })
  const down = () => log.entries.filter(({ event }) => event === 'bridge.down')
  const ready = async () => (await app.inject('/ready')).json()
  t.match(await ready(), { reasons: ['redis'], redis: 'down' })
  t.match(down(), [{ reason: /the server is a replica|not connected yet/ }])
  await t.rejects(app.realtime.publish('room', 1), UNAVAILABLE)
  await command(replica.port, ['REPLICAOF', 'NO', 'ONE'])
  await until(async () => (await ready()).status === 'ready', 'it is ready', 30_000)
  await app.realtime.publish('room', 1)
  await command(replica.port, ['REPLICAOF', '127.0.0.1', String(primary.port)])
  await until(async () => (await ready()).redis === 'down', 'it is noticed also while nothing is published', 30_000)
  t.equal(down().length, 2)
  t.strictSame(log.entries.filter(({ event }) => event === 'call.failed'), [])
})

t.test('a user that may not ask for the role is none the worse for it', async (t) => {
  const { primary, replica } = await startReplicated(t)
  for (const { port } of [primary, replica]) await command(port, ['ACL', 'SETUSER', 'app', 'on', '>secret', '~*', '&*', '+@all', '-role', '-info', '-hello'])
  const node = await startNode(t, `redis://app:secret@127.0.0.1:${primary.port}`, randomPrefix())
  await node.up()
  const other = await startNode(t, `redis://app:secret@127.0.0.1:${replica.port}`, randomPrefix())
  await until(() => other.publish('room', 1).catch(({ cause }) => /the server is a replica/.test(cause.message)), 'it is noticed', 30_000)
  t.equal(other.broker.up, false)
})

t.test('a server that loads its data is away, not a reason for an error', async (t) => {
  const redis = await startRedis(t, { persist: true, args: ['--key-load-delay', '2000', '--loading-process-events-interval-bytes', '1024', '--aof-use-rdb-preamble', 'no'] })
  const node = await startNode(t, redis.url, randomPrefix())
  await node.subscribe('room', true)
  for (let i = 0; i < 200; i++) await node.publish('room', 'x'.repeat(10_000), { history: { size: 1_000, ttl: 60_000 } })
  await node.arrived('room', 200)
  await redis.kill()
  await node.down()
  const restarted = redis.restart()
  const codes = new Set<string>()
  let done = false
  restarted.then(() => { done = true })
  await until(async () => {
    await node.publish('room', 'away', { history }).catch(({ code }) => codes.add(code))
    return done
  }, 'it has loaded', 60_000)
  await node.up()
  t.ok(codes.has(UNAVAILABLE.code))
  // One that is under way when the link leaves the server has no answer.
  t.strictSame(Array.from(codes).filter(code => code !== UNAVAILABLE.code && code !== 'FST_CRWS_REDIS_NO_ANSWER'), [])
  t.strictSame(node.missedBefore, [])
})
