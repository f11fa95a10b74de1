import { SignJWT } from 'jose'
import type { JWTPayload } from 'jose'
import t from 'tap'
import type { Test } from 'tap'
import { ClientError } from '../../../index.ts'
import type { End, Options } from '../../../index.ts'
import { startApp } from '../../helpers/app.ts'
import { collectLog } from '../../helpers/log.ts'
import type { Entry } from '../../helpers/log.ts'
import { encodings, sdkClient } from '../../helpers/sdk.ts'
import { secretOf } from '../../helpers/secrets.ts'
import { until } from '../../helpers/until.ts'
import { connect } from '../../helpers/ws-client.ts'

const secret = secretOf('of the tests')
const HOUR = 3_600
const now = () => Math.floor(Date.now() / 1_000)
const sign = (claims: object, key: string = secret) => new SignJWT(claims as JWTPayload).setProtectedHeader({ alg: 'HS256' }).sign(Buffer.from(key))

/** Without options the app's level is debug. */
async function start (t: Test, options: Options = {}, level = 'debug') {
  const { logger, entries } = collectLog({ level })
  const ends: End[] = []
  const onDisconnect = (_connection: unknown, end: End): void => { ends.push(end) }
  const { url, app } = await startApp(t, { redis: false, onDisconnect, ...options }, { logger })
  const of = (event: string): Entry[] => entries.filter(entry => entry.event === event)
  return { url, app, of, entries, ends }
}

for (const encoding of encodings) {
  t.test(`${encoding}: at level debug every error reply says in the log why`, async (t) => {
    const { url, of, entries } = await start(t, {
      channels: {
        room: { subscribe: true, publish: () => false, publishLimit: { max: 1, timeWindow: '10m' } },
        closed: {},
        tokens: { subscribe: true, token: true },
        own: { subscribe: true }
      },
      onSubscribe: (_connection, channel) => channel !== 'own:no',
      onRpc (_connection, method) { throw method === 'bug' ? new TypeError('a bug') : new ClientError(404, `no method ${method}`) }
    })
    const client = await sdkClient(t, url, encoding).connected()
    const refused: Array<[channel: string, code: number, reason: RegExp]> = [
      ['nowhere:1', 102, /the option channels has no such namespace/],
      ['closed:1', 103, /subscribe rule/],
      ['tokens:1', 103, /token rule .* subscription token/],
      ['own:no', 103, /onSubscribe returned false/],
      ['room:#42', 103, /limited to the users after its #/],
      ['x'.repeat(300), 107, /at most 255/]
    ]
    for (const [channel, code, reason] of refused) {
      await client.subscribe(channel).unsubscribed()
      const { level, msg, ...entry } = of('command.refused').at(-1)!
      t.match(entry, { connection: client.id, user: '', protocol: encoding, command: 'subscribe', channel: channel.slice(0, 255), code, reason })
      t.equal(level, 20)
      t.equal(msg, `Command subscribe of a client refused with ${code}: ${entry.reason}`)
    }
    const calls: Array<[call: () => Promise<unknown>, command: string, code: number, reason: RegExp, fields?: object]> = [
      [() => client.publish('room:1', 1), 'publish', 103, /publish rule/, { channel: 'room:1' }],
      [() => client.client.presence('room:1'), 'presence', 108, /keeps no presence/],
      [() => client.client.history('room:1'), 'history', 108, /keeps no history/],
      [() => client.rpc('add', 1), 'rpc', 404, /^no method add$/, { method: 'add' }],
      [() => client.rpc('bug', 1), 'rpc', 100, /^a bug$/, { method: 'bug' }]
    ]
    for (const [call, command, code, reason, fields] of calls) {
      await t.rejects(call(), { code })
      t.match(of('command.refused').at(-1), { command, code, reason, ...fields })
    }
    t.equal(of('command.refused').length, refused.length + calls.length)
    t.equal(entries.filter(({ level }) => level > 40).length, 1, 'only the bug is an error')
  })

  t.test(`${encoding}: a refused token says why, without the token, and so does the end of its connection`, async (t) => {
    const { url, of, entries, ends } = await start(t, { token: { secret, issuer: 'me' }, channels: { room: { token: true } } })
    const good = { sub: 'ann', iss: 'me', exp: now() + HOUR }
    const tokens: Array<[token: string, code: number, reason: RegExp]> = [
      ['nonsense', 3500, /^Invalid Compact JWS$/],
      [await sign(good, 'another secret'), 3500, /^signature verification failed$/],
      [await sign({ ...good, iss: 'you' }), 3500, /"iss"/],
      [await sign({ ...good, sub: 42 }), 3500, /^`sub` must be a string, got a number$/],
      [await sign({ ...good, sub: null }), 3500, /^`sub` must be a string, got an object or null$/],
      [await sign({ ...good, expire_at: 'soon' }), 3500, /^`expire_at` must be a number, got a string$/],
      [await sign({ ...good, channels: 'room:1' }), 3500, /^`channels` must be a list of strings$/],
      [await sign({ ...good, b64info: '{' }), 3500, /^`b64info` must be JSON in base64$/],
      [await sign({ ...good, channel: 'room:1' }), 3500, /^it is a subscription token/],
      ['', 3501, /^the client sent no token/]
    ]
    for (const [token, code, reason] of tokens) {
      t.match(await sdkClient(t, url, encoding, { token }).disconnected(), { code })
      const entry = of('token.refused').at(-1)!
      t.match(entry, { level: 20, command: 'connect', code, reason })
      await until(() => of('connection.closed').length === of('token.refused').length, 'the end is logged')
      t.match(of('connection.closed').at(-1), { connection: entry.connection, code, detail: entry.reason })
    }
    t.strictSame(of('command.refused'), [], 'nothing of this is an error reply')

    await sdkClient(t, url, encoding, { token: await sign({ ...good, exp: now() - 1 }), getToken: () => sign(good) }).connected()
    t.match(of('token.refused').at(-1), { code: 109, reason: 'it has expired' })
    t.match(of('command.refused'), [{ command: 'connect', code: 109, reason: 'it has expired' }])
    await sdkClient(t, url, encoding, { token: await sign({ ...good, nbf: now() + HOUR }), getToken: () => sign(good) }).connected()
    t.match(of('token.refused').at(-1), { code: 109, reason: 'it is not valid yet' })

    const claims: Array<[claims: object, reason: RegExp]> = [
      [{ channel: 'room:2' }, /`channel`/], [{ channel: 'room:1', sub: 'bob' }, /`sub`/], [{ channel: 'room:1', client: 'x' }, /`client`/]
    ]
    for (const [wrong, reason] of claims) {
      const client = await sdkClient(t, url, encoding, { token: await sign(good) }).connected()
      client.subscribe('room:1', { token: await sign({ ...good, ...wrong }) })
      t.match(await client.disconnected(), { code: 3500 })
      t.match(of('token.refused').at(-1), { user: 'ann', command: 'subscribe', channel: 'room:1', code: 3500, reason })
    }
    await until(() => ends.length > 2, 'onDisconnect is told')
    t.match(ends.at(-1), { code: 3500, detail: /`client`/ })

    const all = entries.map(entry => JSON.stringify(entry)).join('\n')
    t.notOk(all.includes(secret))
    t.strictSame(tokens.filter(([token]) => token.length > 20 && all.includes(token)), [])
    t.equal(entries.filter(({ level }) => level > 40).length, 0)
  })
}

t.test('a client that breaks the protocol is told 3501, and the log says what it did', async (t) => {
  const { url, of } = await start(t)
  const sent: Array<[messages: string[], detail: RegExp]> = [
    [['{'], /not valid in the json protocol/],
    [['{"id":1,"rpc":{}}'], /first command is not connect/],
    [['{"id":1,"connect":{}}', '{"id":2}'], /an id and nothing else/],
    [['{"id":1,"connect":{}}', '{"id":2,"connect":{}}'], /connect came twice/],
    [['{"id":1,"connect":{}}', '{"id":2,"subscribe":{}}'], /names no channel/]
  ]
  for (const [messages, detail] of sent) {
    const ended = of('connection.closed').length
    const client = await connect(t, `${url}/connection/websocket`)
    for (const message of messages) client.send(message)
    t.match(await client.closed, { code: 3501, reason: 'bad request' })
    await until(() => of('connection.closed').length > ended, 'the end is logged')
    t.match(of('connection.closed').at(-1), { level: 30, detail })
  }
})

t.test('commands that come too fast are said too', async (t) => {
  const { url, of } = await start(t, { rateLimit: { messages: { max: 2, timeWindow: '10m' } }, onRpc: () => 1 })
  const client = await sdkClient(t, url, 'json').connected()
  await client.rpc('x', 1)
  await t.rejects(client.rpc('x', 1), { code: 111 })
  t.match(of('command.refused'), [{ command: 'rpc', method: 'x', code: 111, reason: /rateLimit\.messages/ }])
})

t.test('above level debug nothing of this is written, and the level may change at any time', async (t) => {
  const { url, app, of } = await start(t, {}, 'info')
  const client = await sdkClient(t, url, 'json').connected()
  await t.rejects(client.rpc('x', 1), { code: 108 })
  t.strictSame(of('command.refused'), [])
  app.log.level = 'debug'
  await t.rejects(client.rpc('x', 1), { code: 108 })
  t.match(of('command.refused'), [{ reason: 'the app has neither methods nor onRpc' }])
})

t.test('a logger that does not say which levels it takes is asked for its own', async (t) => {
  const refused: object[] = []
  const note = (fields: { event?: string }): void => { if (fields?.event === 'command.refused') refused.push(fields) }
  const none = () => {}
  const loggerInstance = { level: 'info', debug: note, info: note, warn: note, error: note, fatal: note, trace: none, silent: none, child: () => loggerInstance }
  const { url } = await startApp(t, { redis: false }, { loggerInstance })
  const client = await sdkClient(t, url, 'json').connected()
  await t.rejects(client.rpc('x', 1), { code: 108 })
  t.equal(refused.length, 0)
  loggerInstance.level = 'trace'
  await t.rejects(client.rpc('x', 1), { code: 108 })
  t.equal(refused.length, 1)
})
