import { exportJWK, exportSPKI, generateKeyPair, SignJWT, UnsecuredJWT } from 'jose'
import type { CryptoKey, JWK, JWTPayload } from 'jose'
import t from 'tap'
import type { Test } from 'tap'
import type { Options } from '../../../index.ts'
import { connectionsOf } from '../../helpers/connections.ts'
import { startKeyServer } from '../../helpers/key-server.ts'
import { startRedis } from '../../helpers/redis.ts'
import { encodings, sdkClient, startInstances } from '../../helpers/sdk.ts'
import type { Encoding } from '../../helpers/sdk.ts'
import { secretOf } from '../../helpers/secrets.ts'
import { until } from '../../helpers/until.ts'

t.jobs = 6 // two of which do nothing but wait
t.setTimeout(300_000)
const redis = await startRedis(t)

/** Some of these wait long; so they run side by side. */
function test (name: string, run: (t: Test) => Promise<void>): void {
  t.test(name, { buffered: true }, run)
}

function inBoth (name: string, run: (t: Test, encoding: Encoding) => Promise<void>): void {
  for (const encoding of encodings) test(`${encoding}: ${name}`, t => run(t, encoding))
}

const secret = secretOf('of the tests')
const now = () => Math.floor(Date.now() / 1_000)
const later = () => now() + 3_600

interface Signing { alg?: string, key?: CryptoKey | string | undefined, kid?: string | undefined }
type Claims = { [Name in keyof JWTPayload]?: unknown }

/** A token as a host's backend makes it. */
function sign (claims: Claims, { alg = 'HS256', key = secret, kid }: Signing = {}): Promise<string> {
  return new SignJWT(claims as JWTPayload).setProtectedHeader({ alg, ...(kid !== undefined && { kid }) }).sign(typeof key === 'string' ? Buffer.from(key) : key)
}

async function start (t: Test, options: Options = {}, n = 1): Promise<{ url: string, users: () => string[], app: Awaited<ReturnType<typeof startInstances>>[number]['app'] }> {
  const [one] = await startInstances(t, n, { token: { secret }, ...options })
  return { ...one!, users: () => Array.from(one!.app.realtime.connections, ({ user }) => user) }
}

const invalid = { code: 3500, reason: 'invalid token' }
const room = { subscribe: true, publish: true, presence: true, history: { size: 10, ttl: '1m' } } as const

// First, because it takes as long as all the others together.
inBoth('a connection and a subscription that are not refreshed end some time after their tokens', async (t, encoding) => {
  const [one] = await startInstances(t, 1, { token: { secret }, channels: { room } }, redis)
  const never = new Promise<string>(() => {})
  const tokens = [await sign({ sub: 'alice', exp: now() + 3 }), never, await sign({ sub: 'alice' })]
  const client = await sdkClient(t, one!.url, encoding, { getToken: async () => tokens.shift()! }).connected()
  const other = await sdkClient(t, one!.url, encoding, { token: await sign({ sub: 'bob' }) }).connected()
  const subTokens = [await sign({ sub: 'bob', channel: 'room:1', exp: now() + 3 }), never]
  const subscription = await other.subscribe('room:1', { getToken: async () => subTokens.shift() ?? sign({ sub: 'bob', channel: 'room:1' }) }).subscribed()
  const longer = await other.subscribe('room:2', { getToken: () => sign({ sub: 'bob', channel: 'room:2', exp: later() }) }).subscribed()

  await until(() => client.events.connecting.length > 1, 'the connection has ended', 60_000)
  t.match(client.events.connecting[1], { code: 3005, reason: 'connection expired' })
  await until(() => subscription.events.subscribing.length > 1, 'the subscription has ended', 60_000)
  t.match(subscription.events.subscribing[1], { code: 2501, reason: 'subscription expired' })
  await subscription.subscribed(2)
  await one!.app.realtime.publish('room:1', 1)
  await subscription.arrived(1)
  t.equal(other.events.connected.length, 1)
  t.equal(longer.events.subscribing.length, 1)
})

inBoth('a token says who the client is', async (t, encoding) => {
  const { url, app } = await start(t, { channels: { room } })
  const token = await sign({ sub: 'alice', info: { name: 'Alice' }, meta: { plan: 'gold' }, channels: ['room:a', 'room:b'], exp: later() })
  const client = await sdkClient(t, url, encoding, { token }).connected()
  const [connection] = app.realtime.connections
  t.match(connection, { user: 'alice', info: { name: 'Alice' }, meta: { plan: 'gold' } })
  t.strictSame(Array.from(connection!.channels).sort(), ['room:a', 'room:b'])
  await client.publish('room:a', 1)
  await until(() => client.events.publication.length === 1, 'its publication')
  t.strictSame(client.dec(client.events.publication[0]!.info!.connInfo), { name: 'Alice' })

  const b64info = Buffer.from(JSON.stringify({ name: 'Bob' })).toString('base64')
  await sdkClient(t, url, encoding, { token: await sign({ sub: 'bob', b64info }) }).connected()
  t.match(Array.from(app.realtime.connections)[1], { user: 'bob', info: { name: 'Bob' } })
  // No user is nobody in particular.
  await sdkClient(t, url, encoding, { token: await sign({}) }).connected()
  t.match(Array.from(app.realtime.connections)[2], { user: '' })
})

inBoth('a token that is not right ends the connection for good', async (t, encoding) => {
  const { url, users } = await start(t, { token: { secret, issuer: 'me', audience: 'chat' } })
  const good = { sub: 'alice', iss: 'me', aud: 'chat', exp: later() }
  const parts = (await sign(good)).split('.')
  const tokens: Record<string, string> = {
    'no token at all': 'nonsense',
    'three parts of nonsense': 'a.b.c',
    'another secret': await sign(good, { key: 'another secret' }),
    'no signature': new UnsecuredJWT(good).encode(),
    'a signature cut off': `${parts[0]}.${parts[1]}.`,
    'claims changed': [parts[0], Buffer.from(JSON.stringify({ ...good, sub: 'bob' })).toString('base64url'), parts[2]].join('.'),
    'another issuer': await sign({ ...good, iss: 'you' }),
    'no issuer': await sign({ ...good, iss: undefined }),
    'another audience': await sign({ ...good, aud: ['news'] }),
    'a subscription token': await sign({ ...good, channel: 'room:1' }),
    'a user that is no text': await sign({ ...good, sub: 42 }),
    'channels that are no list': await sign({ ...good, channels: 'room:1' }),
    'channels that are no texts': await sign({ ...good, channels: [1] }),
    'an end that is no number': await sign({ ...good, expire_at: 'soon' }),
    'info that is no text': await sign({ ...good, b64info: 1 }),
    'info that is no JSON': await sign({ ...good, b64info: Buffer.from('{').toString('base64') })
  }
  const ends = Object.entries(tokens).map(async ([name, token]) => [name, await sdkClient(t, url, encoding, { token }).disconnected()])
  t.strictSame(await Promise.all(ends), Object.keys(tokens).map(name => [name, invalid]))
  await sdkClient(t, url, encoding, { token: await sign({ ...good, aud: ['news', 'chat'] }) }).connected()
  await until(() => users().length === 1, 'nobody else is left')
  t.strictSame(users(), ['alice'])
})

inBoth('without a token where one is needed nobody comes in, and with one where none can be verified', async (t, encoding) => {
  const { url } = await start(t)
  t.strictSame(await sdkClient(t, url, encoding).disconnected(), { code: 3501, reason: 'bad request' })
  const open = await start(t, { token: undefined })
  t.strictSame(await sdkClient(t, open.url, encoding, { token: await sign({ sub: 'alice' }) }).disconnected(), invalid)
  await sdkClient(t, open.url, encoding).connected()
})

inBoth('a token goes before what authenticate has found out', async (t, encoding) => {
  const { url, app } = await start(t, { authenticate: () => ({ user: 'cookie', meta: { from: 'cookie' }, info: 1 }) })
  await sdkClient(t, url, encoding).connected()
  await sdkClient(t, url, encoding, { token: await sign({ sub: 'token' }) }).connected()
  t.match(Array.from(app.realtime.connections), [{ user: 'cookie', meta: { from: 'cookie' }, info: 1 }, { user: 'token', meta: { from: 'cookie' }, info: undefined }])
  const trusting = await start(t, { token: undefined, authenticate: () => ({ user: 'cookie' }) })
  await sdkClient(t, trusting.url, encoding, { token: 'for somebody else' }).connected()
  t.strictSame(trusting.users(), ['cookie'])
})

inBoth('for an expired token the SDK gets a new one', async (t, encoding) => {
  const { url, users } = await start(t)
  for (const claims of [{ exp: now() - 10 }, { nbf: later() }]) {
    let calls = 0
    const getToken = async () => {
      calls++
      return sign({ sub: `alice ${Object.keys(claims).join()}`, exp: later() })
    }
    const client = await sdkClient(t, url, encoding, { token: await sign({ sub: 'alice', ...claims }), getToken }).connected()
    t.equal(calls, 1)
    t.match(client.events.error, [{ error: { code: 109, message: 'token expired' } }])
  }
  t.strictSame(users().sort(), ['alice exp', 'alice nbf'])
  t.match(await sdkClient(t, url, encoding, { token: await sign({ exp: now() - 10 }) }).disconnected(), { code: 1, reason: 'unauthorized' })
})

inBoth('a connection may end at another time than its token', async (t, encoding) => {
  const { url } = await start(t)
  t.strictSame(await sdkClient(t, url, encoding, { token: await sign({ exp: later(), expire_at: now() - 1 }) }).disconnected(), { code: 110, reason: 'expired' })
  let calls = 0
  const getToken = async () => {
    calls++
    return sign({ sub: 'alice', exp: now() + 1, expire_at: 0 })
  }
  const client = sdkClient(t, url, encoding, { token: await sign({ sub: 'alice', exp: later(), expire_at: now() + 2 }), getToken })
  await until(() => calls === 1, 'it is refreshed')
  await client.rpc('any', 1).catch(() => {})
  t.equal(client.events.connected.length, 1)
})

inBoth('a client brings new tokens while it is connected', async (t, encoding) => {
  const { url } = await start(t)
  let calls = 0
  const getToken = async () => {
    calls++
    return sign({ sub: 'alice', exp: now() + 2 })
  }
  const client = await sdkClient(t, url, encoding, { getToken }).connected()
  // Each one of them was taken: the time of the next comes with the answer.
  await until(() => calls >= 4, 'three new tokens', 60_000)
  t.equal(client.events.connected.length, 1)
  t.strictSame(client.events.error, [])
})

inBoth('a new token must be right, for the same user and for the same channels', async (t, encoding) => {
  const { url, users } = await start(t, { channels: { room } })
  const refreshedBy = async (claims: Claims, key?: string) => {
    const tokens = [await sign({ sub: 'alice', exp: now() + 2, channels: ['room:a'] }), await sign(claims, { key })]
    return sdkClient(t, url, encoding, { getToken: async () => tokens.shift() ?? sign({ sub: 'alice', exp: later(), channels: ['room:a', 'room:b'] }) })
  }
  const alice = { sub: 'alice', exp: later(), channels: ['room:a'] }
  const [other, wrong, over] = await Promise.all([refreshedBy({ ...alice, sub: 'bob' }), refreshedBy(alice, 'another secret'), refreshedBy({ ...alice, expire_at: 1 })])
  t.strictSame(await other.disconnected(), invalid)
  t.strictSame(await wrong.disconnected(), invalid)
  t.strictSame(await over.disconnected(), { code: 110, reason: 'expired' })

  const forChannel = await refreshedBy({ ...alice, channel: 'room:a' })
  await until(() => forChannel.events.disconnected.length > 0, 'a subscription token is none for a connection')
  t.match(forChannel.events.disconnected[0], { code: 3500 })
  const [more, expired] = await Promise.all([refreshedBy({ ...alice, channels: ['room:a', 'room:b'] }), refreshedBy({ ...alice, exp: 1 })])
  await more.connected(2)
  t.match(more.events.connecting.at(-1), { code: 3010, reason: 'insufficient state' })
  t.strictSame(more.events.subscribed.map(({ channel }) => channel), ['room:a', 'room:a', 'room:b'])
  await expired.connected(2)
  t.match(expired.events.connecting.find(({ code }) => code === 3005), { reason: 'connection expired' })
  await until(() => users().length === 2, 'the others are gone')
})

const keyAlgorithms = [
  ['RS256', { modulusLength: 2048 }], ['RS384', { modulusLength: 2048 }], ['RS512', { modulusLength: 2048 }],
  ['ES256', {}], ['ES384', {}], ['ES512', {}], ['EdDSA', {}], ['Ed25519', {}]
] as const

test('tokens are signed with any of the usual algorithms, but only with that of the key', async (t) => {
  for (const alg of ['HS256', 'HS384', 'HS512']) {
    const { url, users } = await start(t)
    await sdkClient(t, url, 'json', { token: await sign({ sub: alg }, { alg }) }).connected()
    t.strictSame(users(), [alg])
  }
  const foreign = await generateKeyPair('RS256')
  for (const [alg, options] of keyAlgorithms) {
    const { publicKey, privateKey } = await generateKeyPair(alg, { ...options, extractable: true })
    const pem = await exportSPKI(publicKey)
    const { url, users } = await start(t, { token: { publicKey: pem } })
    for (const encoding of encodings) {
      await sdkClient(t, url, encoding, { token: await sign({ sub: alg }, { alg, key: privateKey }) }).connected()
    }
    t.strictSame(users(), [alg, alg])
    const tokens = {
      'the public key taken for a secret': await sign({ sub: 'mallory' }, { alg: 'HS256', key: pem }),
      'the same with the line breaks of another system': await sign({ sub: 'mallory' }, { alg: 'HS256', key: pem.replaceAll('\n', '\r\n') }),
      'no signature': new UnsecuredJWT({ sub: 'mallory' }).encode(),
      'the key of somebody else': await sign({ sub: 'mallory' }, { alg: 'RS256', key: foreign.privateKey })
    }
    const ends = Object.entries(tokens).map(async ([name, token]) => [name, await sdkClient(t, url, 'json', { token }).disconnected()])
    t.strictSame(await Promise.all(ends), Object.keys(tokens).map(name => [name, invalid]), alg)
  }
  // And the other way round: a secret is no key.
  const { url } = await start(t)
  t.strictSame(await sdkClient(t, url, 'json', { token: await sign({}, { alg: 'RS256', key: foreign.privateKey }) }).disconnected(), invalid)
})

inBoth('while a secret is changed, tokens of both are taken', async (t, encoding) => {
  const [newer, old, older] = ['new', 'old', 'older'].map(secretOf) as [string, string, string]
  const { url, users } = await start(t, { token: { secret: [newer, old] } })
  for (const key of [newer, old]) await sdkClient(t, url, encoding, { token: await sign({ sub: key }, { key }) }).connected()
  t.strictSame(users(), [newer, old])
  t.strictSame(await sdkClient(t, url, encoding, { token: await sign({}, { key: older }) }).disconnected(), invalid)
  const client = sdkClient(t, url, encoding, { token: await sign({ exp: 1 }, { key: old }), getToken: () => sign({ sub: 'again' }, { key: newer }) })
  await client.connected()
  t.match(client.events.error, [{ error: { code: 109 } }])
})

async function newKey (kid: string, alg = 'RS256'): Promise<{ jwk: JWK, signing: Signing }> {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true })
  return { jwk: { ...await exportJWK(publicKey), kid, alg, use: 'sig' }, signing: { alg, key: privateKey, kid } }
}

inBoth('keys come from a key server, also those that it has later', async (t, encoding) => {
  const [rsa, ec, ed, newer, foreign] = await Promise.all([newKey('rsa'), newKey('ec', 'ES256'), newKey('ed', 'EdDSA'), newKey('newer'), newKey('rsa')])
  const server = await startKeyServer(t)
  server.keys = [rsa.jwk, ec.jwk, ed.jwk]
  const { url, users } = await start(t, { token: { jwksUrl: server.url, issuer: 'me' }, channels: { room } })
  const connect = async (sub: string, signing: Signing) => sdkClient(t, url, encoding, { token: await sign({ sub, iss: 'me' }, signing) })
  const [first] = await Promise.all((await Promise.all([connect('rsa', rsa.signing), connect('ec', ec.signing), connect('ed', ed.signing)])).map(client => client.connected()))
  t.equal(server.fetched, 1)

  // The key server changes its keys right after we have asked it.
  server.keys = [newer.jwk]
  const client = await connect('newer', newer.signing)
  const subscription = first!.subscribe('room:1', { token: await sign({ sub: 'rsa', iss: 'me', channel: 'room:1' }, newer.signing) })
  await client.connected()
  await subscription.subscribed()
  t.strictSame(users().sort(), ['ec', 'ed', 'newer', 'rsa'])
  const errors = [...client.events.error, ...subscription.events.error].map(({ error: { code, message } }) => ({ code, message }))
  t.strictSame(errors, errors.map(() => ({ code: 100, message: 'internal server error' })))
  t.equal(server.fetched, 2)

  t.strictSame(await (await connect('gone', rsa.signing)).disconnected(), invalid, 'a key that was taken back')
  t.strictSame(await (await connect('forged', { ...foreign.signing, kid: 'newer' })).disconnected(), invalid)
  const token = await sign({ iss: 'me' }, { alg: 'HS256', key: JSON.stringify(newer.jwk), kid: 'newer' })
  t.strictSame(await sdkClient(t, url, encoding, { token }).disconnected(), invalid)
})

inBoth('a client that leaves while its token is verified has not been there', async (t, encoding) => {
  const { signing, jwk } = await newKey('a')
  const server = await startKeyServer(t)
  let answer!: () => void
  server.answer = response => { answer = () => response.end(JSON.stringify({ keys: [jwk] })) }
  const { url, app } = await start(t, { token: { jwksUrl: server.url } })
  const client = sdkClient(t, url, encoding, { token: await sign({ sub: 'alice' }, signing) })
  await until(() => server.fetched === 1, 'the key is asked for')
  const [connection] = connectionsOf(app)
  client.client.disconnect()
  await until(() => connectionsOf(app).length === 0, 'it has left')
  answer()
  await new Promise<void>(resolve => { connection!.inbox.run('behind connect', resolve) })
  t.equal(await app.realtime.isOnline('alice'), false)
})

inBoth('while the key server is away clients wait for it, and known keys are used on', async (t, encoding) => {
  const [key, more] = await Promise.all([newKey('a'), newKey('b')])
  const server = await startKeyServer(t)
  server.keys = [key.jwk]
  const outages: Array<[string, () => unknown, () => unknown]> = [
    ['it answers 503', () => { server.status = 503 }, () => { server.status = 200 }],
    ['it answers nonsense', () => { server.keys = 'none' as never }, () => { server.keys = [key.jwk] }],
    ['it does not listen', () => server.stop(), () => server.start()]
  ]
  for (const [name, goes, comes] of outages) {
    const { url, users } = await start(t, { token: { jwksUrl: server.url } })
    await goes()
    const client = sdkClient(t, url, encoding, { token: await sign({ sub: name }, key.signing) })
    await until(() => client.events.error.length > 1, 'it tries again')
    t.match(client.events.error[0], { error: { code: 100, message: 'internal server error' } }, name)
    await comes()
    await client.connected()
    await goes()
    await sdkClient(t, url, encoding, { token: await sign({ sub: name }, key.signing) }).connected()
    t.strictSame(users(), [name, name])
    await comes()
  }
  // Without `kid` more than one key may be meant.
  server.keys = [key.jwk, more.jwk]
  const { url } = await start(t, { token: { jwksUrl: server.url } })
  t.strictSame(await sdkClient(t, url, encoding, { token: await sign({}, { ...key.signing, kid: undefined }) }).disconnected(), invalid)
})

inBoth('a subscription token lets its bearer into a channel, and gives it what it names', async (t, encoding) => {
  const { url, app } = await start(t, {
    channels: { room: { ...room, subscribe: false }, secret: { ...room, token: true } },
    onSubscribe: (_connection, channel) => channel === 'room:more' ? { data: 'from onSubscribe' } : undefined
  })
  const client = await sdkClient(t, url, encoding, { token: await sign({ sub: 'alice' }) }).connected()
  const token = (channel: string, claims = {}) => sign({ sub: 'alice', channel, exp: later(), ...claims })
  const given = await client.subscribe('room:1', { token: await token('room:1', { client: client.id, info: { role: 'admin' }, data: { topic: 'cats' } }) }).subscribed()
  t.strictSame(client.dec(given.events.subscribed[0]!.data), { topic: 'cats' })
  t.match(await app.realtime.presence('room:1'), [{ user: 'alice', channelInfo: { role: 'admin' } }])
  const base64 = (data: unknown) => Buffer.from(JSON.stringify(data)).toString('base64')
  const encoded = await client.subscribe('room:2', { getToken: () => token('room:2', { b64info: base64([1]), b64data: base64({ topic: 'dogs' }) }) }).subscribed()
  t.strictSame(client.dec(encoded.events.subscribed[0]!.data), { topic: 'dogs' })
  t.match(await app.realtime.presence('room:2'), [{ channelInfo: [1] }])
  const more = await client.subscribe('room:more', { token: await token('room:more', { data: 'from the token', info: 'from the token' }) }).subscribed()
  t.strictSame(client.dec(more.events.subscribed[0]!.data), 'from onSubscribe')
  t.match(await app.realtime.presence('room:more'), [{ channelInfo: 'from the token' }])

  const denied = { code: 103, reason: 'permission denied' }
  t.strictSame(await client.subscribe('room:none').unsubscribed(), denied, 'the rules hold without a token')
  t.strictSame(await client.subscribe('secret:none').unsubscribed(), denied, 'a token is needed')
  await client.subscribe('secret:1', { token: await token('secret:1') }).subscribed()
  const tokens = {
    nonsense: 'a.b.c',
    forged: await sign({ sub: 'alice', channel: 'secret:2' }, { key: 'another secret' }),
    'no JSON': await token('secret:2', { b64data: base64(1).slice(1) })
  }
  const ends: [string, object][] = []
  for (const [name, token] of Object.entries(tokens)) {
    const subscription = client.subscribe('secret:2', { token })
    ends.push([name, await subscription.unsubscribed()])
    client.client.removeSubscription(subscription.sub)
  }
  t.strictSame(ends, Object.keys(tokens).map(name => [name, denied]))
  t.strictSame(await client.subscribe('unknown:1', { token: await token('unknown:1') }).unsubscribed(), { code: 102, reason: 'unknown channel' })

  let calls = 0
  const getToken = async () => {
    calls++
    return token('secret:3')
  }
  const renewed = await client.subscribe('secret:3', { token: await token('secret:3', { exp: 1 }), getToken }).subscribed()
  t.equal(calls, 1)
  t.strictSame(renewed.events.unsubscribed, [])
  t.strictSame(await client.subscribe('secret:4', { token: await token('secret:4', { expire_at: 1 }) }).unsubscribed(), { code: 110, reason: 'expired' })
  t.equal(client.events.connected.length, 1)
})

inBoth('a subscription token for something or somebody else ends the connection for good', async (t, encoding) => {
  const { url } = await start(t, { channels: { room } })
  const wrong = [{ channel: 'room:2' }, { channel: undefined }, { sub: 'bob' }, { sub: undefined }, { client: 'another' }]
  const ends = await Promise.all(wrong.map(async (claims) => {
    const client = await sdkClient(t, url, encoding, { token: await sign({ sub: 'alice' }) }).connected()
    client.subscribe('room:1', { token: await sign({ sub: 'alice', channel: 'room:1', ...claims }) })
    return { claims, ...await client.disconnected() }
  }))
  t.strictSame(ends, wrong.map(claims => ({ claims, ...invalid })))
  const { url: open } = await start(t, { token: undefined, channels: { room } })
  const client = await sdkClient(t, open, encoding).connected()
  t.strictSame(await client.subscribe('room:1', { token: await sign({ channel: 'room:1' }) }).unsubscribed(), { code: 103, reason: 'permission denied' }, 'nobody can verify it')
})

inBoth('a client brings new tokens for a subscription', async (t, encoding) => {
  const { url } = await start(t, { channels: { room } })
  const client = await sdkClient(t, url, encoding, { token: await sign({ sub: 'alice' }) }).connected()
  let calls = 0
  const getToken = async () => {
    calls++
    return sign({ sub: 'alice', channel: 'room:1', exp: now() + 2, ...(calls === 4 && { expire_at: 0 }) })
  }
  const subscription = await client.subscribe('room:1', { getToken }).subscribed()
  await until(() => calls === 4, 'three new tokens', 60_000)
  await client.publish('room:1', 1)
  await subscription.arrived(1)
  t.equal(subscription.events.subscribed.length, 1)
  t.strictSame(subscription.events.error, [])

  const refreshedBy = async (channel: string, claims: Claims, key?: string) => {
    const tokens = [await sign({ sub: 'alice', channel, exp: now() + 2 }), await sign({ sub: 'alice', channel, ...claims }, { key })]
    return client.subscribe(channel, { getToken: async () => tokens.shift() ?? sign({ sub: 'alice', channel }) })
  }
  t.strictSame(await (await refreshedBy('room:2', { expire_at: 1 })).unsubscribed(), { code: 110, reason: 'expired' })
  const late = await refreshedBy('room:3', { exp: 1 })
  t.strictSame(await late.unsubscribed(), { code: 109, reason: 'token expired' })
  await refreshedBy('room:4', {}, 'another secret')
  t.strictSame(await client.disconnected(), invalid)
})
