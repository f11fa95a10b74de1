import { createClient, createCluster, createSentinel } from 'redis'
import t from 'tap'
import { redisAddress } from '../../lib/options/redis-address.ts'
import { redisSource } from '../../lib/options/redis-source.ts'
import type { RedisSource } from '../../lib/options/redis-source.ts'

t.test('the address of Redis has hosts and ports and no credentials', async (t) => {
  const sentinels = { name: 'primary', sentinelRootNodes: [{ host: 'a', port: 26379 }, { host: 'b', port: 26379 }] }
  const rootNodes = [{ url: 'redis://ada:hush@a:7000' }, { socket: { host: 'b', port: 7001 } }]
  for (const [redis, address] of [
    ['redis://ada:hush@10.0.0.3:6380/1?x=hush', '10.0.0.3:6380'],
    ['rediss://redis.example', 'redis.example:6379'],
    ['redis://[::1]:6380', '[::1]:6380'],
    ['redis://', 'localhost:6379'],
    [{}, 'localhost:6379'],
    [{ socket: { host: 'a' }, password: 'hush' }, 'a:6379'],
    [{ socket: { path: '/run/redis.sock' } }, '/run/redis.sock'],
    [{ socket: { path: undefined, host: 'a' } }, 'a:6379'],
    [{ rootNodes }, 'a:7000, b:7001 (cluster)'],
    [sentinels, 'a:26379, b:26379 (Sentinels for primary)'],
    [createClient({ url: 'redis://:hush@a:1' }), 'a:1'],
    [createClient(), 'localhost:6379'],
    [{ duplicate: () => {}, connect: () => {} }, 'localhost:6379'],
    [createCluster({ rootNodes }), 'the addresses of your cluster client'],
    [createSentinel(sentinels), 'a:26379, b:26379 (Sentinels for primary)']
  ] as const) {
    t.equal(redisAddress(redisSource(redis, 'redis') as RedisSource), address)
  }
})
