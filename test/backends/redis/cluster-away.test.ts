import { setTimeout as wait } from 'node:timers/promises'
import t from 'tap'
import { history, newNode, range, startNode } from '../broker-contract.ts'
import { publishUntilStored, setUpCluster } from '../../helpers/cluster-nodes.ts'
import { randomPrefix } from '../../helpers/prefix.ts'
import { command, startRedisCluster } from '../../helpers/redis.ts'
import type { RedisServer } from '../../helpers/redis.ts'
import { until } from '../../helpers/until.ts'

const cluster = await startRedisCluster(t, { persist: true, args: ['--cluster-require-full-coverage', 'no'] })

t.test('a cluster that is not there at the start is found when it comes', async (t) => {
  const { nodes, rootNodes } = await startRedisCluster(t)
  await Promise.all(nodes.map(node => node.kill()))
  const node = await startNode(t, { rootNodes }, randomPrefix())
  t.equal(node.broker.up, false)
  t.match(node.states, [{ up: false, reason: /\w/ }])
  await t.rejects(node.publish('room', 1), { code: 'FST_CRWS_REDIS_UNAVAILABLE' })
  await t.rejects(node.subscribe('room', true), { code: 'FST_CRWS_REDIS_UNAVAILABLE' })
  const early = await startNode(t, { rootNodes }, randomPrefix())
  await early.broker.close() // while it tries
  await Promise.all(nodes.map(node => node.restart()))
  await node.up()
  await until(() => node.subscribe('room', true).then(() => true), 'the cluster serves again', 60_000)
  await until(() => node.publish('room', 'now', { history, idempotencyKey: 'key' }), 'the cluster takes it', 60_000)
  await node.arrived('room', 1)
  t.strictSame(node.data('room'), ['now'])
  t.equal(early.broker.up, false)
})

t.test('a node that crashes and comes back costs its channels nothing, and the others notice little', async (t) => {
  const [first] = cluster.nodes as [RedisServer]
  const { listener, publisher, channels: [channel, elsewhere] } = await setUpCluster(t, cluster)

  await first.kill()
  await listener.down()
  t.match(listener.states.at(-1), { up: false, reason: /\w/ })
  for (const i of range(1, 3)) {
    await t.rejects(publisher.publish(channel, `away ${i}`, { history }), { code: /^FST_CRWS_REDIS_(UNAVAILABLE|NO_ANSWER)$/ })
    await publishUntilStored(publisher, elsewhere, i)
  }
  await listener.arrived(elsewhere, 4)
  t.strictSame(listener.data(elsewhere), range(0, 3))

  await first.restart()
  for (const i of range(1, 5)) await publishUntilStored(publisher, channel, i)
  await listener.arrived(channel, 6)
  await listener.up()
  await publishUntilStored(publisher, channel, 6)
  await listener.arrived(channel, 7)
  t.strictSame(listener.data(channel), range(0, 6), 'nothing that was rejected appears')
  t.strictSame(listener.missedBefore, [])
})

t.test('a node that freezes fails what needs it in time, and closing too', async (t) => {
  const [first] = cluster.nodes as [RedisServer]
  const { listener, publisher, channels: [channel] } = await setUpCluster(t, cluster)
  first.freeze()
  await t.rejects(publisher.publish(channel, 'frozen', { history }), { code: /^FST_CRWS_REDIS_(UNAVAILABLE|NO_ANSWER)$/ })
  await t.rejects(publisher.subscribe(channel, true), { code: /^FST_CRWS_REDIS_(UNAVAILABLE|NO_ANSWER)$/ })
  await until(async () => {
    publisher.publish(channel, 'frozen', { history }).catch(() => {}) // as above; every write begins node-redis' own timeout anew
    await wait(100)
    return !listener.broker.up
  }, 'the listener knows', 30_000)
  await publisher.broker.close()
  first.thaw()
  await listener.up()
  for (const i of range(1, 3)) await publishUntilStored(listener, channel, i)
  await until(() => listener.data(channel).at(-1) === 3, 'the last one arrives', 30_000)
  t.strictSame(listener.data(channel).filter(data => data !== 'frozen'), range(0, 3))
  t.strictSame(listener.missedBefore, [])
})

t.test('closing while the cluster is looked for keeps no link to it when it answers after all', async (t) => {
  const { nodes, rootNodes } = cluster
  for (const node of nodes) node.freeze()
  const node = newNode({ rootNodes }, randomPrefix())
  const started = node.broker.start(node)
  await until(() => process.getActiveResourcesInfo().includes('TCPSocketWrap'), 'a node is asked')
  await node.broker.close()
  for (const node of nodes) node.thaw()
  await started
  for (const { port } of nodes) {
    await until(async () => {
      const clients = await command(port, ['CLIENT', 'LIST'], 5_000)
      return clients.trim().split('\n').length === 1 // the one that asks
    }, 'no link is left', 10_000)
  }
  t.equal(node.broker.up, false)
})

t.test('cutting the Pub/Sub links to all nodes over and over loses nothing and doubles nothing', async (t) => {
  const { listener, publisher, channels } = await setUpCluster(t, cluster)
  const count = 150
  const publishing = Promise.all(channels.map(async (channel) => {
    for (const i of range(1, count)) await publisher.publish(channel, i, { history: { size: count, ttl: 60_000 } })
  }))
  const [first] = channels
  let killed = 0
  while (listener.publications(first).length < count - 50) {
    for (const { port } of cluster.nodes) killed += Number(await command(port, ['CLIENT', 'KILL', 'TYPE', 'pubsub'], 10_000))
    const before = listener.publications(first).length
    await until(() => listener.publications(first).length > before, 'publications arrive again', 30_000)
  }
  await publishing
  for (const channel of channels) {
    await listener.arrived(channel, count + 1)
    t.strictSame(listener.data(channel), range(0, count))
  }
  t.ok(killed > 3, `${killed} links were cut`)
  t.strictSame(listener.missedBefore, [])
})
