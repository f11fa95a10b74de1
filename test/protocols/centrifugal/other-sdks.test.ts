import { SignJWT } from 'jose'
import type { JWTPayload } from 'jose'
import { once } from 'node:events'
import { request } from 'node:http'
import type { IncomingMessage } from 'node:http'
import t from 'tap'
import type { Test } from 'tap'
import type { Options } from '../../../index.ts'
import { startApp } from '../../helpers/app.ts'
import type { App } from '../../helpers/app.ts'
import { secretOf } from '../../helpers/secrets.ts'
import { sdkCodec } from '../../helpers/sdk-codec.ts'
import { httpOf } from '../../helpers/streams.ts'
import { until } from '../../helpers/until.ts'
import { connect } from '../../helpers/ws-client.ts'
import type { Client } from '../../helpers/ws-client.ts'

// What SDKs in other languages send, byte for byte. The one for JavaScript runs in sdk.test.ts and tokens.test.ts.
// Python: centrifuge-python 0.5.0, whose JSON is that of json.dumps. Go: centrifuge-go 0.12. Java: centrifuge-java 0.7,
// which speaks Protobuf alone and sends one command a frame. C#: centrifuge-csharp, which speaks Protobuf alone, and is
// the only one beside JavaScript's that has HTTP streaming.

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

/** A POST as .NET sends it: no user agent, and an encoding is not accepted. */
async function dotnetPost (url: string, body: Buffer, headers: Record<string, string> = {}): Promise<IncomingMessage> {
  const all = { ...headers, 'Content-Type': 'application/octet-stream', 'Content-Length': body.length }
  const [response] = await once(request(url, { method: 'POST', headers: all }).end(body), 'response')
  return response
}

/** Messages behind their length, as the SDK takes them from the stream one by one. */
function delimited (bytes: Buffer): Buffer[] {
  let [length, start] = [0, 0]
  for (let shift = 0; ; shift += 7) {
    if (start >= bytes.length) return []
    const byte = bytes[start++]!
    length |= (byte & 127) << shift
    if (byte < 128) break
  }
  const end = start + length
  return end > bytes.length ? [] : [bytes.subarray(start, end), ...delimited(bytes.subarray(end))]
}

t.test('C# over HTTP streaming: the connect command is the body, batches are posts, and a pong is one byte in a post', async (t) => {
  const { app, url } = await startApp(t, { ...options, fallback: true, heartbeat: { interval: '1s', timeout: '10s' } })
  const connecting = command(1, 4, message([1, await connectionToken()], [4, 'csharp'], [5, '1.0.0.0']))
  const response = await dotnetPost(`${httpOf(url)}/connection/http_stream`, connecting, { Accept: 'application/octet-stream' })
  t.equal(response.statusCode, 200)
  t.equal(response.headers['content-type'], 'application/octet-stream')
  let received = Buffer.alloc(0)
  response.on('data', (chunk: Buffer) => { received = Buffer.concat([received, chunk]) })
  const replies = () => delimited(received).flatMap(one => sdkCodec.decodeReplies(Buffer.concat([varint(one.length), one])))
  const reply = (id: number): Promise<any> => until(() => replies().find(reply => reply.id === id), `the reply to command ${id}`)
  const { session, node, ...connected } = (await reply(1)).connect
  t.match(connected, { expires: true, ping: 1, pong: true })

  const post = async (...commands: Buffer[]) => {
    const posted = await dotnetPost(`${httpOf(url)}/emulation`, message([1, node], [2, session], [3, Buffer.concat(commands)]))
    posted.resume()
    t.ok(posted.statusCode! >= 200 && posted.statusCode! < 300, 'any other status fails the post')
  }
  const token = await subscriptionToken('chat:a')
  await post(command(2, 5, message([1, 'chat:a'], [2, token], [9, 1], [10, 1], [11, 1])), command(3, 7, message([1, 'chat:a'], [2, '"hi"'])))
  t.match(await reply(2), { subscribe: { positioned: true, recoverable: true } })
  t.match(await reply(3), { publish: {} })
  await until(() => replies().some(({ push }) => push?.pub !== undefined && push.pub !== null), 'the publication')
  await post(command(4, 13, message([1, Buffer.from('[]')], [2, 'echo'])), command(5, 10, message([1, 'chat:a'], [7, 10])))
  t.equal(Buffer.from((await reply(4)).rpc.data).toString(), '{"method":"echo","data":[]}')
  t.match(await reply(5), { history: { publications: [{ data: Uint8Array }] } })

  const pings = () => delimited(received).filter(one => one.length === 0).length
  await until(() => pings() > 0, 'a ping')
  await post(Buffer.of(0))
  for (const connection of app.realtime.connections) connection.close(4500, 'go')
  await once(response, 'end')
  t.match(replies().at(-1), { push: { disconnect: { code: 4500, reason: 'go' } } }, 'the end comes as a message')
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
