import t from 'tap'
import type { Test } from 'tap'
import { iamCredentials } from '../../index.ts'
import { googleHeaders, tokenCredentials } from '../../lib/google/credentials.ts'
import { setEnvironment } from '../helpers/environment.ts'
import { collectLog } from '../helpers/log.ts'
import { startMetadataServer } from '../helpers/metadata.ts'
import { randomPrefix } from '../helpers/prefix.ts'
import { command, startRedis, startRedisCluster } from '../helpers/redis.ts'
import type { RedisServer } from '../helpers/redis.ts'
import { sdkClient } from '../helpers/sdk.ts'
import { startApp } from '../helpers/app.ts'
import { range, startNode } from '../backends/broker-contract.ts'
import { until } from '../helpers/until.ts'

/** Nothing but the metadata server has credentials. */
async function startGoogle (t: Test) {
  const metadata = await startMetadataServer(t)
  setEnvironment(t, { ...metadata.env, GOOGLE_APPLICATION_CREDENTIALS: undefined, HOME: '/nowhere' })
  return metadata
}

/**
 * Redis as Memorystore with IAM authentication: new connections need a token that is valid now. Its own commands need
 * none, over a user of their own.
 */
async function startIamRedis (t: Test, servers: RedisServer[]) {
  const metadata = await startGoogle(t)
  const onAll = async (...args: string[]) => { for (const { port } of servers) await command(port, args) }
  const guard = { mayConnect: true }
  await onAll('ACL', 'SETUSER', 'default', 'nopass') // for `command`
  await onAll('ACL', 'SETUSER', 'gate', 'on', 'resetpass', '~*', '&*', '+@all')
  metadata.issued = async token => { if (guard.mayConnect) await onAll('ACL', 'SETUSER', 'gate', `>${token}`) }
  return {
    metadata,
    guard,
    /** All tokens of the past are void, and all connections end. */
    async expire () {
      await onAll('ACL', 'SETUSER', 'gate', 'resetpass')
      for (const type of ['normal', 'pubsub']) await onAll('CLIENT', 'KILL', 'TYPE', type)
    }
  }
}

/** As `iamCredentials`, for the user of the test's Redis: the default user is for `command`. */
function gateCredentials () {
  const { credentials, ...rest } = iamCredentials()
  return { ...rest, credentials: async () => ({ ...await credentials(), username: 'gate' }) }
}

const tokensOf = ({ asked }: { asked: readonly string[] }) => asked.filter(path => path.endsWith('/token')).length

t.test('each call gets a token of its own, for the user default', async (t) => {
  await startGoogle(t)
  const { credentials, type } = iamCredentials()
  t.equal(type, 'async-credentials-provider')
  t.strictSame(await credentials(), { username: 'default', password: 'token-1' })
  t.strictSame(await credentials(), { username: 'default', password: 'token-2' })
})

t.test('a package that is missing, or no credentials, is a reason that says what to do', async (t) => {
  const metadata = await startGoogle(t)
  const missing = Object.assign(new Error("Cannot find package 'google-auth-library'"), { code: 'ERR_MODULE_NOT_FOUND' })
  const text = 'no Google access token for Redis: a package is missing. Run: npm install google-auth-library'
  await t.rejects(tokenCredentials(() => Promise.reject(missing)).credentials(), { message: text })
  const withoutCode = new Error(missing.message)
  await t.rejects(tokenCredentials(() => Promise.reject(withoutCode)).credentials(), { message: text })
  metadata.values['/instance/service-accounts/default/token'] = 'not found'
  const { message } = await iamCredentials().credentials().then(() => t.fail(), error => error)
  t.match(message, /^no Google access token for Redis: .*\. On Google Cloud, give the service a service account; elsewhere, set GOOGLE_APPLICATION_CREDENTIALS$/)
  metadata.values['/instance/service-accounts/default/token'] = 'hang'
  await t.rejects(iamCredentials().credentials(), { message: /none within 3 s/ })
})

t.test('a metadata server that was not there at first is found later', async (t) => {
  const library = await import('google-auth-library')
  const { gcpMetadata } = library
  gcpMetadata.setGCPResidency(false) // on a machine of Google's the library would take the server for granted
  t.teardown(() => {
    gcpMetadata.setGCPResidency(null)
    gcpMetadata.resetIsAvailableCache()
  })
  const { env, values } = await startGoogle(t)
  values['/instance'] = values['/instance/'] = 'attributes/' // by which the library sees that it is there
  const { credentials } = iamCredentials()
  const headers = googleHeaders(library, 'project-1')
  setEnvironment(t, { METADATA_SERVER_DETECTION: undefined, GCE_METADATA_HOST: '127.0.0.1:1' })
  await t.rejects(credentials(), { message: /^no Google access token for Redis/ })
  await t.rejects(headers())
  setEnvironment(t, { GCE_METADATA_HOST: env.GCE_METADATA_HOST })
  t.match(await headers(), { authorization: /^Bearer token-/ })
  t.match(await credentials(), { password: /^token-/ })
})

t.test('every connection has a new token, and an instance that is refused one mends itself: SDK clients see no gap', async (t) => {
  const redis = await startRedis(t)
  const { metadata, guard, expire } = await startIamRedis(t, [redis])
  const log = collectLog()
  const options = {
    redis: { url: redis.url, credentialsProvider: gateCredentials() },
    keyPrefix: randomPrefix(),
    channels: { chat: { subscribe: true, history: { size: 100, ttl: '1m' } } }
  } as const
  const { app, url } = await startApp(t, options, { logger: log.logger })
  await until(async () => (await app.inject('/ready')).statusCode === 200, 'it is ready', 30_000)
  const before = tokensOf(metadata)
  t.ok(before >= 2, 'one for each of the two connections')
  const client = await sdkClient(t, url, 'json').connected()
  const sub = await client.subscribe('chat:1').subscribed()
  const publish = (i: number) => until(() => app.realtime.publish('chat:1', i, { idempotencyKey: String(i) }), `${i} is acknowledged`, 60_000)
  for (const i of range(1, 10)) await publish(i)
  t.equal(tokensOf(metadata), before, 'an open connection needs no further token')

  guard.mayConnect = false
  await expire()
  const refusals = () => log.entries.filter(({ event, reason }) => event === 'bridge.down' && /^WRONGPASS/.test(reason))
  await until(() => refusals().length > 0, 'the refusal is told', 30_000)
  t.match(refusals(), [{
    reason: /The password was a Google access token \(iamCredentials\(\)\), fetched for this attempt\. The service account needs the role roles\/memorystore\.dbConnectionUser/,
    msg: /^Redis refused the password: WRONGPASS/
  }])
  t.notMatch(JSON.stringify(log.entries), /token-\d/)
  guard.mayConnect = true
  for (const i of range(11, 20)) await publish(i)
  await sub.arrived(20)
  t.strictSame(sub.data, range(1, 20))
  t.equal(sub.events.subscribed.length, 1, 'nobody subscribed again')
  t.ok(tokensOf(metadata) > before)
  t.equal(refusals().length, 1, 'told once')
})

t.test('REDIS_AUTH=iam logs in at one server and at every node of a cluster, with every new connection', async (t) => {
  const { nodes } = await startRedisCluster(t)
  const single = await startRedis(t)
  const metadata = await startGoogle(t)
  let tokens: string[] = []
  for (const { port } of [...nodes, single]) {
    await command(port, ['ACL', 'SETUSER', 'default', 'resetpass', ...range(1, 200).map(i => `>token-${i}`)], 10_000)
  }
  metadata.issued = token => { tokens.push(token) }
  for (const env of [{ REDIS_URL: single.url }, { REDISHOST: '127.0.0.1', REDISPORT: String(nodes[0]!.port), REDIS_CLUSTER: 'true' }]) {
    tokens = []
    const node = await startNode(t, undefined, randomPrefix(), undefined, { ...env, REDIS_AUTH: 'iam' })
    await node.up()
    await Promise.all(range(1, 12).map(i => node.subscribe(`room-${i}`, false)))
    await Promise.all(range(1, 12).map(i => node.publish(`room-${i}`, i)))
    for (const i of range(1, 12)) await node.arrived(`room-${i}`, 1)
    t.ok(tokens.length >= 2)
    t.equal(new Set(tokens).size, tokens.length, 'no token is used twice')
  }
})

t.test('REDIS_AUTH=iam without credentials is told in bridge.down and in the error of a publish', async (t) => {
  const redis = await startRedis(t)
  const { values } = await startGoogle(t)
  values['/instance/service-accounts/default/token'] = 'not found'
  setEnvironment(t, { REDIS_URL: redis.url, REDIS_AUTH: 'iam' })
  const log = collectLog()
  const { app } = await startApp(t, { keyPrefix: randomPrefix() }, { logger: log.logger })
  const reason = /^no Google access token for Redis: .*give the service a service account/
  await until(() => app.realtime.publish('room', 1).catch(({ cause }) => reason.test(cause.message)), 'the reason is told', 30_000)
  t.match(log.entries.filter(({ event }) => event === 'bridge.down').at(-1), { reason })
  t.match((await app.inject('/ready')).json(), { reasons: ['redis'], redis: 'down' })
  values['/instance/service-accounts/default/token'] = undefined
  await until(() => app.realtime.publish('room', 1), 'it publishes as soon as there are some', 30_000)
})
