import { createClient, createCluster } from 'redis'
import t from 'tap'
import { allScripts } from '../../../lib/backends/redis/scripts.ts'
import { history, range, startNode, testBroker } from '../broker-contract.ts'
import { randomPrefix } from '../../helpers/prefix.ts'
import { command, startRedisCluster } from '../../helpers/redis.ts'
import { until } from '../../helpers/until.ts'

const cluster = await startRedisCluster(t)

t.test('on a cluster named by its nodes', async (t) => {
  testBroker(t, async (t) => {
    const prefix = randomPrefix()
    const { rootNodes } = cluster
    return [await startNode(t, { rootNodes }, prefix), await startNode(t, { rootNodes }, prefix)]
  })
})

t.test('on a cluster client of the host', async (t) => {
  const client = createCluster({ rootNodes: cluster.rootNodes })
  await client.connect()
  t.teardown(() => client.destroy())
  testBroker(t, async (t) => {
    const prefix = randomPrefix()
    return [await startNode(t, client, prefix), await startNode(t, { rootNodes: cluster.rootNodes }, prefix)]
  })
})

t.test('a cluster client of the host stays open and usable when the broker is closed', async (t) => {
  const client = createCluster({ rootNodes: cluster.rootNodes })
  await client.connect()
  t.teardown(() => client.destroy())
  const node = await startNode(t, client, randomPrefix())
  await node.subscribe('room', true)
  await node.broker.close()
  t.equal(client.isOpen, true)
  for (const key of range(1, 20)) t.equal(await client.exists(`${randomPrefix()}-${key}`), 0)
  await t.rejects(node.publish('room', 1, { history }), { code: 'FST_CRWS_REDIS_UNAVAILABLE' })
  await t.rejects(node.subscribe('room', true), { code: 'FST_CRWS_REDIS_UNAVAILABLE' })
})

t.test('every node knows the scripts before it needs them, also after it has forgotten them', async (t) => {
  const { nodes, rootNodes } = cluster
  const hashes = allScripts.map(({ sha1 }) => sha1)
  const known = async () => (await Promise.all(nodes.map(({ port }) => command(port, ['SCRIPT', 'EXISTS', ...hashes])))).join()
  const all = nodes.flatMap(() => hashes.map(() => 1)).join()
  const forget = async () => {
    for (const { port } of nodes) await command(port, ['SCRIPT', 'FLUSH'])
    t.not(await known(), all)
  }
  await forget()
  const node = await startNode(t, { rootNodes }, randomPrefix())
  for (const key of range(1, 20)) await node.publish(`room-${key}`, 1)
  t.equal(await known(), all)
  await forget()
  for (const { port } of nodes) await command(port, ['CLIENT', 'KILL', 'TYPE', 'normal'])
  await until(async () => await known() === all, 'the links are back', 30_000)
})

t.test('presence, sessions and counts live in a cluster too, and every key has a time to live', async (t) => {
  const prefix = randomPrefix()
  const node = await startNode(t, { rootNodes: cluster.rootNodes }, prefix)
  const { presence, sessions, rateLimitStore } = node.backend
  const names = range(1, 10).map(i => `name-${i}`)
  const RateLimitStore = rateLimitStore!
  const store = new RateLimitStore()
  for (const name of names) {
    await node.publish(name, 1, { history, idempotencyKey: 'key' })
    await node.publish(`${name}-plain`, 1, { idempotencyKey: 'key' })
    await presence.add(name, [{ client: '1', user: name }])
    t.strictSame(await presence.list(name), [{ client: '1', user: name }])
    await sessions.set(name, new Map([['name', JSON.stringify(name)]]), 60_000)
    t.strictSame(await sessions.get(name), new Map([['name', JSON.stringify(name)]]))
    const count = await new Promise((resolve, reject) => {
      store.incr(name, (error, result) => error ? reject(error) : resolve(result), 60_000)
    })
    t.match(count, { current: 1 })
  }
  let count = 0
  for (const { url } of cluster.nodes) {
    const client = createClient({ url })
    await client.connect()
    const before = count
    for await (const keys of client.scanIterator({ MATCH: `${prefix}*`, COUNT: 1_000 })) {
      for (const key of keys) t.ok(await client.pTTL(key) > 0, key)
      count += keys.length
    }
    t.ok(count > before, 'every node has some')
    client.destroy()
  }
  t.equal(count, names.length * (3 + 2 + 2 + 1 + 1))
})
