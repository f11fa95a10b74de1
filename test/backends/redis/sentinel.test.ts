import { createSentinel } from 'redis'
import t from 'tap'
import type { Test } from 'tap'
import { history, range, startNode } from '../broker-contract.ts'
import type { Node } from '../broker-contract.ts'
import { randomPrefix } from '../../helpers/prefix.ts'
import { command, PRIMARY, startRedis, startReplicated, startSentinels } from '../../helpers/redis.ts'
import type { RedisServer } from '../../helpers/redis.ts'
import { until } from '../../helpers/until.ts'

const deep = { size: 100_000, ttl: 60_000 }

function sentinelOptions (sentinels: RedisServer[]) {
  return { name: PRIMARY, sentinelRootNodes: sentinels.map(({ port }) => ({ host: '127.0.0.1', port })) }
}

/** One Sentinel that knows one server, and no replica. */
async function startOne (t: Test, redis: RedisServer): Promise<RedisServer> {
  return startRedis(t, { sentinel: [`sentinel monitor ${PRIMARY} 127.0.0.1 ${redis.port} 1`] })
}

/** Publishes one after the other until it is stopped. Remembers what was acknowledged. */
function startPublishing (node: Node, channel: string) {
  const acknowledged: number[] = []
  const failed = new Set<string>()
  let next = 0
  const stopping = new AbortController()
  const ended = (async () => {
    while (!stopping.signal.aborted) {
      const i = ++next
      await node.publish(channel, i, { history: deep }).then(() => { acknowledged.push(i) }, error => { failed.add(error.code) })
      await new Promise(setImmediate) // a publish that is refused at once gives way to nobody
    }
  })()
  const stop = () => {
    stopping.abort()
    return ended
  }
  return { acknowledged, failed, stop }
}

t.test('a failover under traffic loses nothing that was acknowledged, and links come back by themselves', async (t) => {
  const { primary, replica, synced } = await startReplicated(t)
  const sentinels = await startSentinels(t, primary)
  const redis = sentinelOptions(sentinels)
  const prefix = randomPrefix()
  const [listener, publisher] = [await startNode(t, redis, prefix), await startNode(t, redis, prefix)]
  await listener.subscribe('room', true)
  const before = startPublishing(publisher, 'room')
  await until(() => before.acknowledged.length > 50, 'publications are acknowledged')
  await before.stop()
  await synced()
  await primary.kill()
  const first = before.acknowledged.length
  const after = startPublishing(publisher, 'room')
  t.teardown(() => after.stop())
  await until(() => after.acknowledged.length > 50, 'publications are acknowledged by the other server', 60_000)
  await after.stop()
  await listener.up()
  t.match(await command(replica.port, ['ROLE']), /^master/)
  await listener.arrived('room', first + after.acknowledged.length)
  const got = listener.data('room') as number[]
  t.strictSame(got.slice(0, first), before.acknowledged)
  t.strictSame(got.slice(first).filter(i => after.acknowledged.includes(i)), after.acknowledged)
  t.strictSame(listener.publications('room').map(({ offset }) => offset), range(1, got.length))
  t.strictSame(listener.missedBefore, [])
  t.strictSame(Array.from(after.failed).filter(code => !/^FST_CRWS_REDIS_(UNAVAILABLE|NO_ANSWER)$/.test(code)), [])
  t.match(listener.states.map(({ up }) => up), [true, false, true])

  // And back: a planned failover, which cuts the links of the server that is demoted.
  await primary.restart()
  await until(async () => (await command(primary.port, ['ROLE'])).startsWith('slave'), 'it is a replica of the other', 60_000)
  await until(async () => /connected/.test(await command(primary.port, ['ROLE'])), 'it is in sync', 60_000)
  await until(() => command(sentinels[0]!.port, ['SENTINEL', 'FAILOVER', PRIMARY]), 'the Sentinels agree to it', 60_000)
  await until(async () => (await command(primary.port, ['ROLE'])).startsWith('master'), 'it is the primary again', 60_000)
  await until(() => publisher.publish('room', 'end', { history: deep, idempotencyKey: 'end' }), 'it takes publications', 60_000)
  await until(() => listener.data('room').at(-1) === 'end', 'they arrive', 60_000)
  // The link may still be at the other server, which sends what it replicates, until it looks at the role.
  await until(async () => /,1$/.test(await command(primary.port, ['PUBSUB', 'NUMSUB', `${prefix}:pub:{room}`])), 'it is subscribed at the new primary', 30_000)
})

t.test('a primary that freezes is left for the one that the Sentinels name', async (t) => {
  const { primary } = await startReplicated(t)
  const redis = sentinelOptions(await startSentinels(t, primary))
  const node = await startNode(t, redis, randomPrefix())
  await node.subscribe('room', true)
  await node.publish('room', 1, { history })
  await node.arrived('room', 1)
  primary.freeze()
  await node.down()
  await node.up()
  await node.publish('room', 2, { history })
  await until(() => node.data('room').at(-1) === 2, 'it arrives', 30_000)
})

t.test('a primary that the Sentinels have replaced is left, though it does not know', async (t) => {
  const [old, other] = [await startRedis(t), await startRedis(t)]
  const sentinel = await startOne(t, old)
  const node = await startNode(t, sentinelOptions([sentinel]), randomPrefix())
  await node.subscribe('room', false)
  await command(sentinel.port, ['SENTINEL', 'REMOVE', PRIMARY])
  await command(sentinel.port, ['SENTINEL', 'MONITOR', PRIMARY, '127.0.0.1', String(other.port), '1'])
  await node.down()
  t.match(node.states.at(-1)!.reason, new RegExp(`the Sentinels name 127.0.0.1:${other.port} as the primary now, not 127.0.0.1:${old.port}`))
  await node.up()
  await node.publish('room', 1)
  await node.arrived('room', 1)
  t.match(await command(other.port, ['CLIENT', 'LIST']), /cmd=subscribe|sub=1/)
})

t.test('Sentinels that are away, and one that does not know the name, are passed over', async (t) => {
  const redis = await startRedis(t)
  const [gone, frozen, stranger, sentinel] = await Promise.all([
    startRedis(t, { sentinel: [] }), startOne(t, redis), startRedis(t, { sentinel: [] }), startOne(t, redis)
  ])
  await gone.kill()
  frozen.freeze()
  const node = await startNode(t, sentinelOptions([gone, frozen, stranger, sentinel]), randomPrefix())
  await node.up()
  await node.subscribe('room', false)
  await node.publish('room', 1)
  await node.arrived('room', 1)
  await sentinel.kill()
  await node.publish('room', 2)
  t.equal(node.broker.up, true, 'nobody needs a Sentinel while the links hold')
  await command(redis.port, ['CLIENT', 'KILL', 'TYPE', 'normal'])
  await node.down()
  await until(() => node.publish('room', 3).catch(({ cause }) => /no Sentinel names a primary.*it knows no primary named primary/.test(cause.message)), 'the reason is told', 30_000)
  await sentinel.restart()
  await node.up()
})

t.test('servers and Sentinels have users, and addresses of another network', async (t) => {
  const redis = await startRedis(t)
  const sentinel = await startRedis(t, { sentinel: [`sentinel monitor ${PRIMARY} 127.0.0.2 ${redis.port} 1`] })
  await command(redis.port, ['ACL', 'SETUSER', 'default', 'resetpass', '>secret'])
  await command(sentinel.port, ['ACL', 'SETUSER', 'default', 'resetpass', '>password'])
  const address = { host: '127.0.0.1', port: redis.port }
  const options = {
    ...sentinelOptions([sentinel]),
    nodeClientOptions: { password: 'secret' },
    sentinelClientOptions: { password: 'password' }
  }
  const key = `127.0.0.2:${redis.port}`
  for (const nodeAddressMap of [{ [key]: address }, (name: string) => name === key ? address : undefined]) {
    for (const given of [{ ...options, nodeAddressMap }, createSentinel({ ...options, nodeAddressMap })]) {
      const node = await startNode(t, given, randomPrefix())
      await node.up()
      await node.subscribe('room', true)
      await node.publish('room', 1, { history })
      await node.arrived('room', 1)
    }
  }
})

t.test('closed while it asks a Sentinel, it opens no link', async (t) => {
  const redis = await startRedis(t)
  const sentinel = await startOne(t, redis)
  sentinel.freeze()
  const node = await startNode(t, sentinelOptions([sentinel]), randomPrefix())
  t.match(node.states, [{ up: false, reason: /no Sentinel names a primary .*no answer within 1 s|not connected yet/ }])
  sentinel.thaw()
  await node.broker.close()
  t.equal(node.broker.up, false)
})
