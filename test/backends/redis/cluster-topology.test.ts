import { execFile } from 'node:child_process'
import { setImmediate, setTimeout as wait } from 'node:timers/promises'
import { promisify } from 'node:util'
import { createClient } from 'redis'
import t from 'tap'
import type { Test } from 'tap'
import { decodePayload } from '../../../lib/model/publication.ts'
import { range } from '../broker-contract.ts'
import { owns, publishUntilStored, setUpCluster } from '../../helpers/cluster-nodes.ts'
import { findProgram } from '../../helpers/programs.js'
import { command, startRedis, startRedisCluster } from '../../helpers/redis.ts'
import type { RedisServer } from '../../helpers/redis.ts'
import { until } from '../../helpers/until.ts'

const cluster = await startRedisCluster(t)

/** Moves a slot with all it holds, as `redis-cli --cluster reshard` does. */
async function moveSlot (
  nodes: RedisServer[], slot: string, from: RedisServer, to: RedisServer,
  finish = (args: string[]): Promise<unknown> => command(from.port, args)
): Promise<void> {
  const id = async ({ port }: RedisServer) => command(port, ['CLUSTER', 'MYID'])
  const [fromId, toId] = [await id(from), await id(to)]
  await command(to.port, ['CLUSTER', 'SETSLOT', slot, 'IMPORTING', fromId])
  await command(from.port, ['CLUSTER', 'SETSLOT', slot, 'MIGRATING', toId])
  for (;;) {
    const keys = await command(from.port, ['CLUSTER', 'GETKEYSINSLOT', slot, '10'])
    if (keys === '') break
    await command(from.port, ['MIGRATE', '127.0.0.1', String(to.port), '', '0', '5000', 'KEYS', ...keys.split(',')])
  }
  await command(to.port, ['CLUSTER', 'SETSLOT', slot, 'NODE', toId])
  await finish(['CLUSTER', 'SETSLOT', slot, 'NODE', toId])
  for (const { port } of nodes) await command(port, ['CLUSTER', 'SETSLOT', slot, 'NODE', toId])
}

/** Moves the slot of a key from the first node to the second. The first one is frozen when it is told to let go. */
async function moveSlotAsleep (t: Test, key: string, meanwhile: () => Promise<void>): Promise<void> {
  const [first, second] = cluster.nodes as [RedisServer, RedisServer]
  const slot = await command(first.port, ['CLUSTER', 'KEYSLOT', key])
  const admin = createClient({ url: first.url })
  t.teardown(() => admin.destroy())
  await admin.connect()
  await moveSlot(cluster.nodes, slot, first, second, async (args) => {
    first.freeze()
    const reply = admin.sendCommand(args)
    await meanwhile()
    first.thaw()
    return reply
  })
}

t.test('a channel whose slot moves to another node is found again, back and forth', async (t) => {
  const { nodes } = cluster
  const [first, second] = nodes as [RedisServer, RedisServer]
  const { keys, listener, publisher, channels: [channel] } = await setUpCluster(t, cluster)
  const slot = await command(first.port, ['CLUSTER', 'KEYSLOT', keys.stream(channel)])
  let published = 0
  const stop = new AbortController()
  t.teardown(() => stop.abort())
  const publishing = (async () => {
    while (!stop.signal.aborted) await publishUntilStored(publisher, channel, ++published, { size: 100_000, ttl: 60_000 })
  })()
  const more = () => until(() => listener.data(channel).at(-1) as number >= published - 3 && published > 0, 'publications arrive', 30_000)
  for (const [from, to] of [[first, second], [second, first], [first, second]] as const) {
    await more()
    await moveSlot(nodes, slot, from, to)
    t.equal(await owns(to.port, keys.stream(channel)), true)
    const before = published
    await until(() => published > before + 20, 'publishes go on', 30_000)
    await listener.arrived(channel, before + 20)
  }
  stop.abort()
  await publishing
  await listener.arrived(channel, published + 1)
  t.strictSame(listener.data(channel), range(0, published))
  t.strictSame((await listener.broker.history(channel, { limit: 1, reverse: true })).publications.map(decodePayload), [published])
  t.strictSame(listener.missedBefore, [])
  await listener.up()

  // A new subscriber that has never heard of the move, in a channel that was left meanwhile.
  listener.broker.unsubscribe(channel)
  await publisher.subscribe(channel, true)
  await publishUntilStored(listener, channel, 'end')
  await publisher.arrived(channel, 1)
  t.strictSame(publisher.data(channel), ['end'])
})

t.test('a channel that is left at the moment its slot moves does not come back', async (t) => {
  const { keys, listener, publisher, channels: [channel] } = await setUpCluster(t, cluster)
  // The node finds both when it wakes up: that the slot is gone, and then that the channel is left.
  await moveSlotAsleep(t, keys.stream(channel), async () => {
    await setImmediate()
    listener.broker.unsubscribe(channel)
    await setImmediate()
  })
  await publishUntilStored(publisher, channel, 1)
  await listener.subscribe(channel, true)
  await publishUntilStored(publisher, channel, 2)
  await listener.arrived(channel, 2)
  t.strictSame(listener.data(channel), [0, 2])
  t.strictSame(listener.missedBefore, [])
})

t.test('a slot that moves while a ping is under way, when node-redis does not hear of it, is found out all the same', async (t) => {
  const { keys, listener, publisher, channels: [channel] } = await setUpCluster(t, cluster)
  // 1.5 s: until the next ping of every link waits for its answer, which nobody can see from here.
  await moveSlotAsleep(t, keys.stream(channel), () => wait(1_500))
  for (const i of range(1, 5)) await publishUntilStored(publisher, channel, i)
  await listener.arrived(channel, 6)
  t.strictSame(listener.data(channel), range(0, 5))
  t.strictSame(listener.missedBefore, [])
})

t.test('a node that crashes for good is replaced by its replica', async (t) => {
  const [first, second, third] = cluster.nodes as [RedisServer, RedisServer, RedisServer]
  const replica = await startRedis(t, { args: ['--cluster-enabled', 'yes', '--cluster-node-timeout', '2000'] })
  const firstId = await command(first.port, ['CLUSTER', 'MYID'])
  await promisify(execFile)(findProgram('redis-cli')!, ['--cluster', 'add-node', `127.0.0.1:${replica.port}`, `127.0.0.1:${first.port}`, '--cluster-slave', '--cluster-master-id', firstId])
  await until(async () => /master_link_status:up/.test(await command(replica.port, ['INFO', 'replication'])), 'the replica has a copy', 30_000)
  for (const { port } of [second, third]) await until(async () => (await command(port, ['CLUSTER', 'NODES'])).includes(`:${replica.port}@`), 'the others know it', 30_000)
  const { keys, listener, publisher, channels: [channel] } = await setUpCluster(t, cluster)
  await command(first.port, ['WAIT', '1', '5000'], 10_000)
  const replicaOwns = () => owns(replica.port, keys.stream(channel))

  await first.kill()
  await until(replicaOwns, 'the replica takes over', 60_000)
  for (const i of range(1, 5)) await publishUntilStored(publisher, channel, i)
  await listener.arrived(channel, 6)
  await listener.up()
  await publishUntilStored(publisher, channel, 6)
  await listener.arrived(channel, 7)
  t.strictSame(listener.data(channel), range(0, 6))

  // It comes back as the replica of its replica.
  await first.restart()
  await until(async () => /role:slave/.test(await command(first.port, ['INFO', 'replication'])), 'the first is a replica', 30_000)
  await until(async () => /master_link_status:up/.test(await command(first.port, ['INFO', 'replication'])), 'it has a copy', 30_000)
  await publishUntilStored(publisher, channel, 7)
  await listener.arrived(channel, 8)
  t.strictSame(listener.data(channel), range(0, 7))
  t.strictSame(listener.missedBefore, [])
})
