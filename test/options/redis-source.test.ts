import { createClient, createCluster, createSentinel } from 'redis'
import t from 'tap'
import { sharedMemory } from '../../lib/backends/memory/shared.ts'
import { fileCredentials } from '../../lib/options/redis-files.ts'
import { redisSource } from '../../lib/options/redis-source.ts'

t.test('Redis is named by a URL, options, cluster options or a client', async (t) => {
  t.strictSame(redisSource('redis://10.0.0.3:6379', 'redis'), { kind: 'standalone', options: { url: 'redis://10.0.0.3:6379' } })
  t.match(redisSource('rediss://ada:secret@redis.example/2', 'redis'), { kind: 'standalone' })
  t.strictSame(redisSource({}, 'redis'), { kind: 'standalone', options: {} })
  t.strictSame(redisSource({ url: 'redis://a', database: 1 }, 'redis'), { kind: 'standalone', options: { url: 'redis://a', database: 1 } })
  t.strictSame(redisSource({ socket: { host: 'a', port: 1 } }, 'redis'), { kind: 'standalone', options: { socket: { host: 'a', port: 1 } } })
  t.strictSame(redisSource({ rootNodes: [{ url: 'redis://a' }] }, 'redis'), { kind: 'cluster', options: { rootNodes: [{ url: 'redis://a' }] } })
  const client = createClient()
  t.equal(redisSource(client, 'redis')?.kind, 'client')
  t.equal(redisSource(client.duplicate(), 'redis')?.kind, 'client')
  t.equal(redisSource(createCluster({ rootNodes: [{ url: 'redis://a' }] }), 'redis')?.kind, 'cluster-client')
  t.equal(redisSource(false, 'redis'), undefined)
})

t.test('the memory that apps of one process share is taken as it is', async (t) => {
  const memory = sharedMemory()
  t.equal(redisSource(memory, 'redis'), memory)
  t.throws(() => redisSource({ kind: 'memory', rootNodes: [] }, 'redis'), { code: 'FST_CRWS_INVALID_OPTION' }, 'its kind alone is not enough')
})

t.test('Sentinels are named by options, or by a client for them, whose options are taken', async (t) => {
  const options = { name: 'primary', sentinelRootNodes: [{ host: 'a', port: 26379 }], nodeClientOptions: { password: 'secret' } }
  t.strictSame(redisSource(options, 'redis'), { kind: 'sentinel', options })
  t.match(redisSource(createSentinel(options), 'redis'), { kind: 'sentinel', options })
  t.match(redisSource(createSentinel(options).duplicate(), 'redis'), { kind: 'sentinel', options })
})

t.test('anything else is refused, with its name and without its password', async (t) => {
  const refused = (value: unknown, message: RegExp) => {
    t.throws(() => redisSource(value, 'redis'), { code: 'FST_CRWS_INVALID_OPTION', message }, String(message))
  }
  refused('', /"redis": got an empty string \(is it read from an environment variable that is not set\?\)/)
  for (const value of ['localhost:6379', 'http://localhost', 'redis']) refused(value, /"redis": got a value of type String, expected a URL that starts with 'redis:\/\/' or 'rediss:\/\/'/)
  for (const value of [true, null, 6379, [], ['redis://a'], () => {}]) refused(value, /"redis": got .*a URL such as/)
  for (const rootNodes of [[], 'redis://a', undefined, {}]) refused({ rootNodes }, /"redis.rootNodes"/)
  const sentinelRootNodes = [{ host: 'a', port: 26379 }]
  for (const name of [undefined, '', 1]) refused({ name, sentinelRootNodes }, /"redis.name"/)
  for (const nodes of [[], undefined, 'a:26379', [{ host: 'a' }], [{ url: 'redis://a' }], [null]]) refused({ name: 'a', sentinelRootNodes: nodes }, /"redis.sentinelRootNodes"/)
  refused({ name: 'a', sentinelRootNodes, nodeClientOptions: { url: 'redis://a' } }, /"redis.nodeClientOptions.url"/)
  for (const url of ['localhost', 1, null]) refused({ url }, /"redis.url"/)
  t.throws(() => redisSource('http://ada:secret@localhost', 'redis'), { message: /^(?!.*(?:secret|localhost))/ })
})

t.test('a credentialsProvider together with a password in the URL is refused: node-redis would never ask it', async (t) => {
  const credentialsProvider = fileCredentials('/secrets/redis')
  const message = /"redis(\.rootNodes)?\.url": got a value of type String, expected a URL without user and password/
  const refused = (value: unknown) => t.throws(() => redisSource(value, 'redis'), { code: 'FST_CRWS_INVALID_OPTION', message })
  for (const url of ['rediss://:hush@a', 'rediss://ada@a']) {
    refused({ url, credentialsProvider })
    refused({ rootNodes: [{ url }], defaults: { credentialsProvider } })
    t.ok(redisSource({ url }, 'redis'))
    t.ok(redisSource({ rootNodes: [{ url }], defaults: {} }, 'redis'))
  }
  t.ok(redisSource({ url: 'rediss://a', credentialsProvider }, 'redis'))
})

t.test('a URL with a % that is no code is refused, instead of ending the process later', async (t) => {
  t.throws(() => redisSource('redis://:50%hush@a', 'redis'), { code: 'FST_CRWS_INVALID_OPTION', message: /"redis".*percent-encoded, as by encodeURIComponent\(\)(?!.*hush)/ })
})
