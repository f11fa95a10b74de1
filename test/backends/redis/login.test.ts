import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createClient, createCluster, createSentinel } from 'redis'
import t from 'tap'
import type { Test } from 'tap'
import { history, range, startNode } from '../broker-contract.ts'
import type { Node as Instance } from '../broker-contract.ts'
import { fileCredentials } from '../../../index.ts'
import type { RedisOption } from '../../../index.ts'
import { temporaryFolder } from '../../helpers/certificates.ts'
import { randomPrefix } from '../../helpers/prefix.ts'
import { command, PRIMARY, startRedis, startRedisCluster } from '../../helpers/redis.ts'
import type { RedisServer } from '../../helpers/redis.ts'
import { until } from '../../helpers/until.ts'

/** A user `app`, whose password can be changed on all servers, and is in a file. */
async function setUp (t: Test, servers: RedisServer[]) {
  const path = join(await temporaryFolder(t), 'password')
  const onAll = async (...args: string[]) => { for (const { port } of servers) await command(port, args) }
  const setUser = (...rules: string[]) => onAll('ACL', 'SETUSER', 'app', ...rules)
  await setUser('on', '>first', '~*', '&*', '+@all')
  await writeFile(path, 'first\n')
  const killAll = async () => {
    for (const type of ['normal', 'pubsub']) await onAll('CLIENT', 'KILL', 'TYPE', type)
  }
  return { path, setUser, killAll, credentialsProvider: fileCredentials(path, 'app') }
}

/** Publishes until one is acknowledged after another. */
async function publishAll (node: Instance, from: number, to: number) {
  for (const i of range(from, to)) {
    await until(() => node.publish('room', i, { history, idempotencyKey: String(i) }), `${i} is acknowledged`, 60_000)
  }
}

async function rotates (t: Test, redis: RedisOption, { path, setUser, killAll }: Awaited<ReturnType<typeof setUp>>) {
  const prefix = randomPrefix()
  const [listener, publisher] = [await startNode(t, redis, prefix), await startNode(t, redis, prefix)]
  await listener.up()
  await publisher.up()
  await listener.subscribe('room', true)
  await publishAll(publisher, 1, 20)
  await setUser('resetpass', '>second')
  await publishAll(publisher, 21, 40) // open connections are not asked again
  t.strictSame(listener.states.map(({ up }) => up), [true])
  await killAll()
  await until(() => listener.reasons.length > 0, 'the old password is refused', 30_000)
  t.match(listener.reasons, [`WRONGPASS invalid username-password pair or user is disabled. The password was that of the file ${path}. Is it the current password of Redis?`])
  await writeFile(path, 'second')
  await publishAll(publisher, 41, 60)
  await listener.arrived('room', 60)
  t.strictSame(listener.data('room'), range(1, 60))
  t.strictSame(listener.missedBefore, [])

  await rm(path)
  await killAll()
  // It may have been read before while it was being written, and found empty.
  await until(() => listener.reasons.includes(`no password for Redis: the file ${path} cannot be read (ENOENT)`), 'the file is missed', 30_000)
  await writeFile(path, 'second')
  await publishAll(publisher, 61, 80)
  await listener.arrived('room', 80)
  t.strictSame(listener.data('room'), range(1, 80))
  t.strictSame(listener.missedBefore, [])
}

t.test('a password that changes is read anew for every connection: one server', async (t) => {
  const redis = await startRedis(t)
  const account = await setUp(t, [redis])
  await rotates(t, { url: redis.url, credentialsProvider: account.credentialsProvider }, account)
})

t.test('a password that changes is read anew for every connection: a client of the app', async (t) => {
  const redis = await startRedis(t)
  const account = await setUp(t, [redis])
  await rotates(t, createClient({ url: redis.url, credentialsProvider: account.credentialsProvider }), account)
})

t.test('a password that changes is read anew for every connection: Sentinel', async (t) => {
  const redis = await startRedis(t)
  const sentinel = await startRedis(t, { sentinel: [`sentinel monitor ${PRIMARY} 127.0.0.1 ${redis.port} 1`] })
  const account = await setUp(t, [redis])
  const { credentialsProvider } = account
  const options = { name: PRIMARY, sentinelRootNodes: [{ host: '127.0.0.1', port: sentinel.port }], nodeClientOptions: { credentialsProvider } }
  await rotates(t, createSentinel(options), account)
})

t.test('a password that changes is read anew for every connection: a cluster', async (t) => {
  const { nodes, rootNodes } = await startRedisCluster(t)
  const account = await setUp(t, nodes)
  await rotates(t, { rootNodes, defaults: { credentialsProvider: account.credentialsProvider } }, account)
})

t.test('a password that changes is read anew for every connection: a cluster client of the app', async (t) => {
  const { nodes, rootNodes } = await startRedisCluster(t)
  const account = await setUp(t, nodes)
  await rotates(t, createCluster({ rootNodes, defaults: { credentialsProvider: account.credentialsProvider } }), account)
})

t.test('with two passwords valid at the same time nobody notices the change', async (t) => {
  const redis = await startRedis(t)
  const { path, setUser, killAll, credentialsProvider } = await setUp(t, [redis])
  const node = await startNode(t, { url: redis.url, credentialsProvider }, randomPrefix())
  await node.subscribe('room', true)
  await setUser('>second')
  await killAll()
  await publishAll(node, 1, 10)
  await writeFile(path, 'second\n')
  await setUser('<first')
  await killAll()
  await publishAll(node, 11, 20)
  await node.arrived('room', 20)
  t.strictSame(node.data('room'), range(1, 20))
  t.strictSame([node.missedBefore, node.reasons], [[], []], 'no password was refused')
})

t.test('requirepass may change as well', async (t) => {
  const redis = await startRedis(t)
  await command(redis.port, ['ACL', 'SETUSER', 'admin', 'on', 'nopass', '~*', '&*', '+@all'])
  const path = join(await temporaryFolder(t), 'password')
  await writeFile(path, 'first')
  const admin = createClient({ url: `redis://admin:any@127.0.0.1:${redis.port}` })
  t.teardown(() => admin.destroy())
  await admin.connect()
  await admin.configSet('requirepass', 'first')
  const node = await startNode(t, { url: redis.url, credentialsProvider: fileCredentials(path) }, randomPrefix())
  await node.up()
  await node.subscribe('room', true)
  await admin.configSet('requirepass', 'second')
  await writeFile(path, 'second')
  for (const type of ['NORMAL', 'PUBSUB']) await admin.sendCommand(['CLIENT', 'KILL', 'TYPE', type, 'SKIPME', 'yes'])
  await publishAll(node, 1, 10)
  await node.arrived('room', 10)
  t.strictSame(node.missedBefore, [])
})

t.test('a login that is refused at the start says where the password comes from, and does not show it', async (t) => {
  const redis = await startRedis(t)
  const { nodes } = await startRedisCluster(t)
  for (const { port } of [redis, ...nodes]) await command(port, ['ACL', 'SETUSER', 'app', 'on', '>right', '~*', '&*', '+@all'])
  const rootNodes = nodes.map(({ port }) => ({ socket: { host: '127.0.0.1', port } }))
  const login = { username: 'app', password: 'hush' }
  const cluster = { rootNodes, defaults: login }
  for (const options of [{ ...login, socket: { port: redis.port } }, cluster, createCluster(cluster)]) {
    const node = await startNode(t, options as RedisOption, randomPrefix())
    const reason = /^WRONGPASS .*\. The password was that of the option redis\. Is it the current password of Redis\?$/
    await until(() => node.publish('room', 1).catch(({ cause }) => reason.test(cause.message)), 'the reason is told', 30_000)
    t.match([...node.states.map(({ reason }) => reason), ...node.reasons].at(-1), reason)
    t.notMatch(JSON.stringify([node.states, node.reasons]), /hush/)
  }
})

t.test('a password that is wanted, and not given, is told with where to put it', async (t) => {
  const redis = await startRedis(t)
  await command(redis.port, ['CONFIG', 'SET', 'requirepass', 'right'])
  const refusedFor = async (option: RedisOption | undefined, env: NodeJS.ProcessEnv, reason: RegExp) => {
    const node = await startNode(t, option, randomPrefix(), undefined, env)
    await until(() => node.publish('room', 1).catch(({ cause }) => reason.test(cause.message)), String(reason), 30_000)
  }
  await refusedFor(redis.url, {}, /^NOAUTH .*\. Give the option redis a password, or a credentialsProvider: iamCredentials\(\) or fileCredentials\(\)$/)
  await refusedFor(undefined, { REDIS_URL: redis.url }, /^NOAUTH .*\. Set REDIS_PASSWORD_FILE, or REDIS_AUTH=iam, or put a password into REDIS_URL$/)
  await refusedFor(undefined, { REDISHOST: '127.0.0.1', REDISPORT: String(redis.port) }, /put a password into REDIS_URL, in place of REDISHOST$/)
  await refusedFor(undefined, { REDIS_URL: `redis://:hush@127.0.0.1:${redis.port}` }, /^WRONGPASS .*\. The password was that of REDIS_URL\. Is it the current password/)
})
