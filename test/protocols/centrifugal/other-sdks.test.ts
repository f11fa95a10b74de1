import { SignJWT } from 'jose'
import type { JWTPayload } from 'jose'
import t from 'tap'
import type { Test } from 'tap'
import type { Options } from '../../../index.ts'
import { startApp } from '../../helpers/app.ts'
import type { App } from '../../helpers/app.ts'
import { secretOf } from '../../helpers/secrets.ts'
import { sdkCodec } from '../../helpers/sdk-codec.ts'
import { until } from '../../helpers/until.ts'
import { connect } from '../../helpers/ws-client.ts'
import type { Client } from '../../helpers/ws-client.ts'

// What SDKs in other languages send, byte for byte. The one for JavaScript runs in sdk.test.ts and tokens.test.ts.
// Python: centrifuge-python 0.5.0, whose JSON is that of json.dumps. Go: centrifuge-go 0.12. Java: centrifuge-java 0.7,
// which speaks Protobuf alone and sends one command a frame.

const secret = secretOf('of the tests')
const PATH = '/connection/websocket'
const HOUR = 3_600
const options: Options = {
  token: { secret },
  onRpc: (_connection, method, data) => ({ method, data }),
  channels: { chat: { publish: true, presence: true, joinLeave: true, token: true, history: { size: 10, ttl: '1m' } } }
}

const sign = (claims: JWTPayload) => new SignJWT(claims).setProtectedHeader({ alg: 'HS256' }).sign(Buffer.from(secret))
const later = () => Math.floor(Date.now() / 1_000) + HOUR
const connectionToken = () => sign({ sub: 'ada', exp: later() })
const subscriptionToken = (channel: string) => sign({ sub: 'ada', channel, exp: later() })

/** Sends one frame and returns the reply to its command. */
async function call (client: Client, bytes: string | Buffer, id: number): Promise<any> {
  client.send(bytes)
  return until(() => client.messages.flatMap(decode).find(reply => Number(reply.id) === id), `the reply to command ${id}`)
}

function decode (message: string | Buffer): any[] {
  if (typeof message !== 'string') return sdkCodec.decodeReplies(message)
  return message.split('\n').map(line => JSON.parse(line))
}

/** A Protobuf message of these fields, in this order. */
function message (...fields: [number: number, value: string | number | Buffer][]): Buffer {
  return Buffer.concat(fields.flatMap(([number, value]) => {
    if (typeof value === 'number') return [varint(number << 3), varint(value)]
    const bytes = Buffer.from(value)
    return [varint(number << 3 | 2), varint(bytes.length), bytes]
  }))
}

function varint (value: number): Buffer {
  return value < 128 ? Buffer.of(value) : Buffer.concat([Buffer.of(value % 128 + 128), varint(Math.floor(value / 128))])
}

/** A frame of one command: its length, then its id (field 1) and the request, whose field the name stands for. */
function command (id: number, field: number, request: Buffer): Buffer {
  const bytes = message([1, id], [field, request])
  return Buffer.concat([varint(bytes.length), bytes])
}

/** `commands`: what is sent and what comes back. The ids count from 1, as in all SDKs. */
async function exchange (t: Test, client: Client, commands: [bytes: string | Buffer, reply: object][]): Promise<void> {
  for (const [i, [bytes, reply]] of commands.entries()) t.match(await call(client, bytes, i + 1), reply, bytes.toString('latin1').slice(0, 40))
  t.equal(client.socket.readyState, client.socket.OPEN)
}

function test (name: string, run: (t: Test, app: App) => Promise<void>): void {
  t.test(name, async t => run(t, await startApp(t, options)))
}

test('Python in JSON: spaces, escapes for all that is not ASCII, a sub_refresh without a channel', async (t, { app, url }) => {
  const client = await connect(t, `${url}${PATH}`)
  const channel = 'chat:\ud83d\ude00'
  await exchange(t, client, [
    [`{"id": 1, "connect": {"token": "${await connectionToken()}", "name": "python"}}`, { connect: { expires: true, ping: 25, pong: true } }],
    [`{"id": 2, "subscribe": {"channel": "chat:\\ud83d\\ude00", "token": "${await subscriptionToken(channel)}"}}`, { subscribe: { expires: true, positioned: true } }],
    [`{"id": 3, "sub_refresh": {"token": "${await subscriptionToken(channel)}"}}`, { sub_refresh: { expires: true, ttl: Number } }],
    [`{"id": 4, "refresh": {"token": "${await connectionToken()}"}}`, { refresh: { expires: true, ttl: Number } }],
    ['{"id": 5, "publish": {"channel": "chat:\\ud83d\\ude00", "data": {"text": "h\\u00e9"}}}', { publish: {} }],
    ['{"id": 6, "history": {"channel": "chat:\\ud83d\\ude00", "limit": 10, "reverse": false}}', { history: { publications: [{ data: { text: 'hé' } }] } }],
    ['{"id": 7, "presence": {"channel": "chat:\\ud83d\\ude00"}}', { presence: { presence: Object } }],
    ['{"id": 8, "presence_stats": {"channel": "chat:\\ud83d\\ude00"}}', { presence_stats: { num_clients: 1, num_users: 1 } }],
    ['{"id": 9, "rpc": {"method": "echo", "data": [1, null]}}', { rpc: { data: { method: 'echo', data: [1, null] } } }],
    ['{}\n{"id": 10, "unsubscribe": {"channel": "chat:\\ud83d\\ude00"}}', { unsubscribe: {} }]
  ])
  t.strictSame((await app.realtime.history(channel)).publications.map(({ data }) => data), [{ text: 'hé' }])
})

test('Python in Protobuf: a sub_refresh without a channel, a pong of one byte', async (t, { url }) => {
  const client = await connect(t, `${url}${PATH}`, { protocols: 'centrifuge-protobuf' })
  await exchange(t, client, [
    [command(1, 4, message([1, await connectionToken()], [4, 'python'])), { connect: { expires: true } }],
    [command(2, 5, message([1, 'chat:a'], [2, await subscriptionToken('chat:a')])), { subscribe: { expires: true } }],
    [command(3, 15, message([2, await subscriptionToken('chat:a')])), { sub_refresh: { expires: true } }],
    [Buffer.concat([Buffer.of(0), command(4, 14, message([1, await connectionToken()]))]), { refresh: { expires: true } }]
  ])
})

test('Go in JSON: no spaces, fields in the order of the schema, none that is zero', async (t, { app, url }) => {
  const client = await connect(t, `${url}${PATH}?cf_protocol_version=v2`)
  await exchange(t, client, [
    [`{"id":1,"connect":{"token":"${await connectionToken()}","name":"go"}}`, { connect: { expires: true } }],
    [`{"id":2,"subscribe":{"channel":"chat:a","token":"${await subscriptionToken('chat:a')}","recoverable":true,"join_leave":true}}`, { subscribe: { recoverable: true } }],
    [`{"id":3,"sub_refresh":{"channel":"chat:a","token":"${await subscriptionToken('chat:a')}"}}`, { sub_refresh: { expires: true } }],
    ['{"id":4,"publish":{"channel":"chat:a","data":{"text":"\\u003cb\\u003e"}}}', { publish: {} }],
    ['{}\n{"id":5,"rpc":{"data":{},"method":"echo"}}', { rpc: { data: { method: 'echo', data: {} } } }],
    ['{"id":6,"history":{"channel":"chat:a"}}', { history: { offset: 1 } }]
  ])
  client.send('{"send":{"data":{}}}')
  t.strictSame(await client.closed, { code: 3508, reason: 'not available' }, 'without onMessage')
  t.strictSame((await app.realtime.history('chat:a')).publications.map(({ data }) => data), [{ text: '<b>' }])
})

test('Java in Protobuf: server-side subscriptions that are not recovered are entries with an empty message', async (t, { url }) => {
  const client = await connect(t, `${url}${PATH}?format=protobuf`, { protocols: 'centrifuge-protobuf' })
  const subs = message([1, 'chat:server'], [2, message()])
  await exchange(t, client, [
    [command(1, 4, message([1, await connectionToken()], [3, subs], [4, 'java'], [5, '0.7.0'])), { connect: { expires: true } }],
    [command(2, 5, message([1, 'chat:a'], [2, await subscriptionToken('chat:a')], [9, 1], [10, 1])), { subscribe: { positioned: true } }],
    [command(3, 15, message([1, 'chat:a'], [2, await subscriptionToken('chat:a')])), { sub_refresh: { expires: true } }],
    [command(4, 7, message([1, 'chat:a'], [2, '{"text":"hi"}'])), { publish: {} }],
    [Buffer.concat([Buffer.of(0), command(5, 10, message([1, 'chat:a'], [7, 10], [8, message()]))]), { history: { publications: Array } }],
    [command(6, 13, message([1, '1'], [2, 'echo'])), { rpc: { data: Uint8Array } }],
    [command(7, 6, message([1, 'chat:a'])), { unsubscribe: {} }]
  ])
})

t.test('a sub_refresh without a channel is verified like any other', async (t) => {
  const { url } = await startApp(t, options)
  const subscribed = async () => {
    const client = await connect(t, `${url}${PATH}`)
    await call(client, `{"id":1,"connect":{"token":"${await connectionToken()}"}}`, 1)
    await call(client, `{"id":2,"subscribe":{"channel":"chat:a","token":"${await subscriptionToken('chat:a')}"}}`, 2)
    return client
  }
  const refresh = (token: string) => JSON.stringify({ id: 3, sub_refresh: { token } })
  const client = await subscribed()
  const answers: [token: string, code: number][] = [
    [await sign({ sub: 'ada', channel: 'chat:a', exp: 1 }), 109],
    [await sign({ sub: 'ada', channel: 'chat:a', expire_at: 1 }), 110],
    [await subscriptionToken('chat:b'), 103]
  ]
  for (const [i, [token, code]] of answers.entries()) {
    t.match(await call(client, refresh(token).replace('3', String(i + 3)), i + 3), { error: { code } })
  }
  const wrong = [
    'a.b.c',
    await connectionToken(),
    await sign({ sub: 'bob', channel: 'chat:a', exp: later() }),
    await sign({ sub: 'ada', channel: ['chat:a'], exp: later() }),
    await new SignJWT({ sub: 'ada', channel: 'chat:a' }).setProtectedHeader({ alg: 'HS256' }).sign(Buffer.from(secretOf('of somebody else')))
  ]
  for (const token of wrong) {
    const client = await subscribed()
    client.send(refresh(token))
    t.strictSame(await client.closed, { code: 3500, reason: 'invalid token' })
  }
  client.send('{"id":9,"sub_refresh":{}}')
  t.strictSame(await client.closed, { code: 3501, reason: 'bad request' })
})
