import { createClient } from 'redis'
import t from 'tap'
import type { Test } from 'tap'
import { RedisKeys } from '../../../lib/backends/redis/keys.ts'
import type { RedisOption } from '../../../lib/options/redis-source.ts'
import { randomPrefix } from '../../helpers/prefix.ts'
import { startRedis, startRedisCluster } from '../../helpers/redis.ts'
import { startNode } from '../broker-contract.ts'
import { Holder, testOccupancy } from '../occupancy-contract.ts'

t.setTimeout(180_000)
const redis = await startRedis(t)

async function openHolder (t: Test, option: RedisOption, prefix: string, instance: string, gracePeriod: number) {
  const { backend } = await startNode(t, option, prefix)
  return new Holder(listener => backend.occupancy({ kind: 'users', instance, gracePeriod }, listener))
}

async function testOn (t: Test, option: RedisOption): Promise<void> {
  const prefixes = new Map<string, string>()
  testOccupancy(t, async (t, group, settings) => {
    const prefix = prefixes.get(group) ?? randomPrefix()
    prefixes.set(group, prefix)
    const { backend } = await startNode(t, option, prefix)
    return new Holder(listener => backend.occupancy(settings, listener))
  })
}

t.test('on Redis', t => testOn(t, redis.url))
t.test('on a cluster', async (t) => {
  const { rootNodes } = await startRedisCluster(t)
  await testOn(t, { rootNodes })
})
