import Fastify from 'fastify'
import { OAuth2Client } from 'google-auth-library'
import { SignJWT } from 'jose'
import { generateKeyPairSync } from 'node:crypto'
import t from 'tap'
import type { Test } from 'tap'
import { createPublisher } from '../../index.ts'
import { startApp } from '../helpers/app.ts'
import { startKeyServer } from '../helpers/key-server.ts'
import { collectLog } from '../helpers/log.ts'
import { randomPrefix } from '../helpers/prefix.ts'
import { startRedis } from '../helpers/redis.ts'
import { connect } from '../helpers/ws-client.ts'

t.setTimeout(60_000)

const { pubsubPush } = await import(new URL('../../example/pubsub/push.mjs', import.meta.url).href)
const audience = 'https://pubsub-push-1.europe-west1.run.app'
const serviceAccount = 'pubsub-push@my-project.iam.gserviceaccount.com'
const keys = generateKeyPairSync('rsa', { modulusLength: 2_048 })
const others = generateKeyPairSync('rsa', { modulusLength: 2_048 })
const channels = { orders: { history: { size: 10, ttl: '1m' } } }

interface Claims { aud?: string, email?: string, email_verified?: boolean, iss?: string, exp?: string }

/** A token as Google signs it for a push subscription. */
function tokenOf ({ aud = audience, iss = 'https://accounts.google.com', exp = '1h', ...claims }: Claims = {}, key = keys.privateKey): Promise<string> {
  return new SignJWT({ email: serviceAccount, email_verified: true, ...claims })
    .setProtectedHeader({ alg: 'RS256', kid: 'one' }).setIssuer(iss).setAudience(aud).setSubject('1').setIssuedAt().setExpirationTime(exp).sign(key)
}

const messageOf = (data: string, attributes: object = { channel: 'orders:42' }, messageId = '1') => ({
  message: { data: Buffer.from(data).toString('base64'), attributes, messageId }, subscription: 'projects/my-project/subscriptions/orders-push'
})

/** The route of the example, in front of an app on the same Redis, with Google's keys from a server of the test. */
async function start (t: Test) {
  const [redis, keyServer] = await Promise.all([startRedis(t), startKeyServer(t)])
  keyServer.answer = response => {
    response.setHeader('content-type', 'application/json').setHeader('cache-control', 'public, max-age=3600')
    response.end(JSON.stringify({ one: keys.publicKey.export({ type: 'spki', format: 'pem' }) }))
  }
  const keyPrefix = randomPrefix()
  const { app, url } = await startApp(t, { redis: redis.url, keyPrefix, channels, onConnect: async (connection) => { await connection.subscribe('orders:42') } })
  const publisher = await createPublisher({ redis: redis.url, keyPrefix, channels })
  t.teardown(() => publisher.close())
  const { logger, entries } = collectLog()
  const service = Fastify({ logger })
  t.teardown(() => service.close())
  const client = new OAuth2Client({ endpoints: { oauth2FederatedSignonPemCertsUrl: keyServer.url } })
  await service.register(pubsubPush, {
    prefix: '/push', publish: publisher.publish, audience, serviceAccount, client, allows: (channel: string) => channel.startsWith('orders:')
  })
  const push = async (payload: object, token?: string) => service.inject({
    method: 'POST', url: '/push', payload, headers: token === undefined ? {} : { authorization: `Bearer ${token}` }
  })
  return { app, url, redis, keyServer, entries, push }
}

t.test('a push message of Pub/Sub reaches the clients, and comes once though it is delivered twice', async (t) => {
  const { app, url, push } = await start(t)
  const client = await connect(t, `${url}/ws`)
  const token = await tokenOf()
  t.match(await push(messageOf('{"state":"packed"}'), token), { statusCode: 204, body: '' })
  t.equal(await client.next(), '{"state":"packed"}')
  t.equal((await push(messageOf('{"state":"packed"}'), token)).statusCode, 204, 'it is acknowledged again')
  t.equal((await push(messageOf('{"state":"sent"}', { channel: 'orders:42' }, '2'), token)).statusCode, 204)
  t.equal(await client.next(), '{"state":"sent"}')
  t.equal((await app.realtime.history('orders:42')).publications.length, 2)
})

t.test('only Google can call it, for this subscription', async (t) => {
  const { app, push } = await start(t)
  const refused = async (token: string | undefined, statusCode: number) => t.equal((await push(messageOf('1'), token)).statusCode, statusCode)
  await refused(undefined, 401)
  await refused('no token', 401)
  await refused(await tokenOf({}, others.privateKey), 401)
  await refused(await tokenOf({ aud: 'https://another.run.app' }), 401)
  await refused(await tokenOf({ iss: 'https://example.com' }), 401)
  await refused(await tokenOf({ exp: '-1h' }), 401)
  await refused(await tokenOf({ email: 'another@my-project.iam.gserviceaccount.com' }), 403)
  await refused(await tokenOf({ email_verified: false }), 403)
  t.equal((await app.realtime.history('orders:42')).offset, 0)
})

t.test("while Google's certificates cannot be fetched, no token is refused: the answer is 503, and the log says why", async (t) => {
  const { push, keyServer, entries } = await start(t)
  const { answer } = keyServer
  const token = await tokenOf()
  await keyServer.stop()
  t.equal((await push(messageOf('1'), token)).statusCode, 503)
  t.match(entries.filter(({ level }) => level >= 40), [
    { level: 50, msg: "Google's certificates cannot be fetched, so no token can be verified", err: { message: /ECONNREFUSED/ } }
  ])
  await keyServer.start()
  keyServer.answer = undefined
  keyServer.status = 404
  t.equal((await push(messageOf('1'), token)).statusCode, 503, 'nor does an error answer say anything about the token')
  keyServer.answer = answer
  t.equal((await push(messageOf('1'), token)).statusCode, 204, 'the message that comes again is published')
  await keyServer.stop()
  t.equal((await push(messageOf('2', { channel: 'orders:42' }, '2'), token)).statusCode, 204, 'certificates are kept')
  t.equal((await push(messageOf('3'), 'no token')).statusCode, 401)
})

t.test('what cannot be published is sent again, and in the end to the dead-letter topic', async (t) => {
  const { redis, push } = await start(t)
  const token = await tokenOf()
  for (const message of [{}, { message: {} }, messageOf('1', {}), messageOf('{'), messageOf('1', { channel: 'admin:1' }), messageOf('1', { channel: 'orders:\n' })]) {
    t.equal((await push(message, token)).statusCode, 400)
  }
  await redis.kill()
  t.equal((await push(messageOf('1'), token)).statusCode, 503)
  await redis.restart()
})
