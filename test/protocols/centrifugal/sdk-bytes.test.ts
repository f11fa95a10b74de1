import { isUtf8 } from 'node:buffer'
import { once } from 'node:events'
import t from 'tap'
import type { Test } from 'tap'
import WebSocket from 'ws'
import { ClientError } from '../../../index.ts'
import type { Connection, End, Options } from '../../../index.ts'
import { startApp } from '../../helpers/app.ts'
import { randomPrefix } from '../../helpers/prefix.ts'
import { frame, openRaw, TEXT, upgradeRequest } from '../../helpers/raw-socket.ts'
import { startRedis } from '../../helpers/redis.ts'
import { encodings } from '../../helpers/sdk.ts'
import type { Encoding } from '../../helpers/sdk.ts'
import { encodeCommands, sdkCodec } from '../../helpers/sdk-codec.ts'
import { secretOf } from '../../helpers/secrets.ts'
import { until } from '../../helpers/until.ts'
import { connect } from '../../helpers/ws-client.ts'
import type { Client, ConnectOptions } from '../../helpers/ws-client.ts'

// What no SDK sends, and what all of them rely on without a word. Both encodings have to behave the same.

const PATH = '/connection/websocket'

const decoders: Record<Encoding, (message: string | Buffer) => any[]> = {
  json: message => {
    if (typeof message !== 'string') throw new Error('JSON came in a binary frame')
    return message.split('\n').map(line => compact(JSON.parse(line), isZero))
  },
  protobuf: message => {
    if (typeof message === 'string') throw new Error('Protobuf came in a text frame')
    return sdkCodec.decodeReplies(message).map(reply => compact(reply, value => isZero(value) || isEmptyMap(value)))
  }
}

/** Replies of both encodings in one form: without zeros, which Protobuf leaves out, and with payloads as values. */
function compact (value: any, isNothing: (value: unknown) => boolean): any {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(member => compact(member, isNothing))
  if ('low' in value && 'high' in value) return Number(String(value))
  const members = Object.entries(value).map(([key, member]): [string, unknown, boolean] => [key, member, key === 'data' || key.endsWith('_info')])
  return Object.fromEntries(members
    .filter(([, member, isPayload]) => isPayload || !isNothing(member))
    .map(([key, member, isPayload]) => [key, isPayload ? payloadValue(member) : compact(member, isNothing)]))
}

function payloadValue (value: unknown): unknown {
  if (!(value instanceof Uint8Array)) return value
  const bytes = Buffer.from(value)
  try {
    return isUtf8(bytes) ? JSON.parse(bytes.toString()) : bytes
  } catch {
    return bytes
  }
}

function parse (text: string): any {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function isZero (value: unknown): boolean {
  return !value || (Array.isArray(value) && value.length === 0)
}

/** The SDK's decoder makes up empty maps; messages have a class of their own. */
function isEmptyMap (value: unknown): boolean {
  return typeof value === 'object' && value?.constructor === Object && Object.keys(value).length === 0
}

/** A client that sends what it is told to, and takes note of everything. */
class RawClient {
  readonly encoding: Encoding
  readonly client: Client
  /** Replies and pushes, pings left out. */
  readonly replies: any[] = []
  #lastId = 0
  #taken = 0

  constructor (client: Client, encoding: Encoding) {
    this.client = client
    this.encoding = encoding
    for (const message of client.messages) this.#receive(message)
    client.socket.on('message', (data: Buffer, isBinary: boolean) => this.#receive(isBinary ? data : data.toString()))
  }

  #receive (message: string | Buffer): void {
    this.replies.push(...decoders[this.encoding](message).filter(reply => Object.keys(reply).length > 0))
  }

  /** All in one frame. */
  send (...commands: object[]): void {
    this.client.send(encodeCommands(this.encoding, commands))
  }

  sendBytes (bytes: string | Buffer): void {
    this.client.socket.send(bytes, { binary: this.encoding === 'protobuf' })
  }

  /** The result of one command, or the reply without its id if it is an error. */
  async call (name: string, request: object): Promise<any> {
    const id = ++this.#lastId + 1_000
    this.send({ id, [name]: request })
    const { id: _, ...reply } = await this.reply(id)
    return reply[name] ?? reply
  }

  reply (id: number): Promise<any> {
    return until(() => this.replies.find(reply => reply.id === id), `the reply to command ${id}`)
  }

  /** The next push not handed out yet. */
  async push (): Promise<any> {
    const pushes = () => this.replies.filter(({ push }) => push !== undefined)
    await until(() => pushes().length > this.#taken, 'a push')
    return pushes()[this.#taken++].push
  }

  get pushes (): any[] { return this.replies.filter(({ push }) => push !== undefined).map(({ push }) => push) }

  /** How the server closed it. The JavaScript SDK would misread a reason that is empty or JSON. `ws` says 1009. */
  async closed (): Promise<{ code: number, reason: string }> {
    await until(() => this.client.socket.readyState === WebSocket.CLOSED, 'the connection is closed', 30_000)
    const end = await this.client.closed
    if (end.code !== 1009 && (end.reason === '' || parse(end.reason) !== undefined)) throw new Error(`code ${end.code} came with the reason '${end.reason}'`)
    return end
  }

  get open (): boolean { return this.client.socket.readyState === WebSocket.OPEN }
}

async function openClient (
  t: Test, url: string, encoding: Encoding, options: ConnectOptions & { query?: string } = {}
): Promise<RawClient> {
  const protocols = encoding === 'protobuf' ? { protocols: 'centrifuge-protobuf' } : {}
  return new RawClient(await connect(t, `${url}${PATH}${options.query ?? ''}`, { ...protocols, ...options }), encoding)
}

async function connected (t: Test, url: string, encoding: Encoding, options: ConnectOptions & { query?: string } = {}): Promise<RawClient> {
  const client = await openClient(t, url, encoding, options)
  await client.call('connect', {})
  return client
}

/** For both encodings, each with an app of its own. */
function test (
  name: string, options: () => Options,
  run: (t: Test, app: Awaited<ReturnType<typeof startLogged>>, encoding: Encoding) => Promise<void>
): void {
  inBoth(name, async (t, encoding) => run(t, await startLogged(t, options()), encoding))
}

/** Together with others, as most of it is waiting. */
t.jobs = 4
function inBoth (name: string, run: (t: Test, encoding: Encoding) => Promise<void>): void {
  for (const encoding of encodings) t.test(`${name} (${encoding})`, { buffered: true }, t => run(t, encoding))
}

async function startLogged (t: Test, options: Options) {
  const logs: any[] = []
  const stream = { write: (line: string) => { logs.push(JSON.parse(line)) } }
  return { logs, ...await startApp(t, { keyPrefix: randomPrefix(), ...options }, { logger: { level: 'info', stream } }) }
}

const error = (code: number) => ({ error: errors[code] })
const errors: Record<number, object> = {
  100: { code: 100, message: 'internal server error', temporary: true },
  102: { code: 102, message: 'unknown channel' },
  103: { code: 103, message: 'permission denied' },
  105: { code: 105, message: 'already subscribed' },
  106: { code: 106, message: 'limit exceeded' },
  107: { code: 107, message: 'bad request' },
  108: { code: 108, message: 'not available' },
  110: { code: 110, message: 'expired' },
  111: { code: 111, message: 'too many requests', temporary: true },
  112: { code: 112, message: 'unrecoverable position' }
}
const badRequest = { code: 3501, reason: 'bad request' }

const channels: Options['channels'] = {
  '': { subscribe: true, publish: true },
  chat: { subscribe: true, publish: true, presence: true, history: { size: 400, ttl: '10m' } },
  plain: { subscribe: true, publish: true },
  tagged: { subscribe: true, tagsFilter: true },
  secret: { presence: true, history: { size: 10, ttl: '10m' } }
}
const everything = (): Options => ({ channels })

/** What only time brings about; all of it at once. */
t.test('in the course of time', { buffered: true }, async (t) => {
  t.jobs = 6
  const later = (name: string, run: (t: Test, encoding: Encoding) => Promise<void>): void => {
    for (const encoding of encodings) t.test(`${name} (${encoding})`, { buffered: true }, t => run(t, encoding))
  }

  later('who does not connect in ten seconds is closed with 3502', async (t, encoding) => {
    const ends: End[] = []
    const { url, app } = await startApp(t, { onDisconnect: (_connection, end) => { ends.push(end) } })
    const openedAt = Date.now()
    const [client, other] = await Promise.all([openClient(t, url, encoding), connected(t, url, encoding)])
    t.strictSame(await client.closed(), { code: 3502, reason: 'stale' })
    t.ok(Date.now() - openedAt >= 10_000)
    await until(() => [...app.realtime.connections].length === 1, 'it is gone')
    t.strictSame(ends, [], 'the host never heard of it')
    t.ok(other.open)
  })

  later('who does not close after an error to connect is closed', async (t, encoding) => {
    const { url } = await startApp(t, { onConnect: () => { throw new ClientError(403, 'no') } })
    const client = await openClient(t, url, encoding)
    client.send({ id: 1, connect: {} })
    t.match(await client.closed(), { code: 3005 })
    t.strictSame(client.replies, [{ id: 1, error: { code: 403, message: 'no' } }])
  })

  later('a subscription that its client can not refresh ends with 2501 when it expires, the connection goes on', async (t, encoding) => {
    const connections: Connection[] = []
    const { app, url } = await startApp(t, {
      channels,
      heartbeat: { interval: '5m', timeout: '1m' }, // the first ping comes too late to matter
      onConnect: (connection) => { connections.push(connection) },
      onSubscribe: (_connection, channel) => channel === 'plain:a' ? { expiresAt: Date.now() / 1_000 + 1, data: 'welcome' } : { expiresAt: Date.now() / 1_000 + 3_600 }
    })
    const client = await connected(t, url, encoding)
    t.strictSame(await client.call('subscribe', { channel: 'plain:a' }), { data: 'welcome' }, 'only who has a token is told to bring a new one')
    await client.call('subscribe', { channel: 'plain:b' })
    await until(() => client.pushes.length === 1, 'the end of the subscription', 10_000)
    t.strictSame(client.pushes, [{ channel: 'plain:a', unsubscribe: { code: 2501, reason: 'subscription expired' } }])
    t.strictSame([...connections[0]!.channels], ['plain:b'])
    await app.realtime.publish('plain:a', 'nobody is here')
    await app.realtime.publish('plain:b', 'here')
    await until(() => client.pushes.length === 2, 'the other channel')
    t.match(client.pushes[1], { channel: 'plain:b', pub: { data: 'here' } })
  })
})

test('any command before connect, and a pong, closes with 3501', everything, async (t, { url }, encoding) => {
  const early: object[] = [
    {}, { id: 1 }, { send: { data: 1 } }, { connect: {} }, { id: 1, ping: {} }, { id: 1, subscribe: { channel: 'a' } }, { id: 1, unsubscribe: { channel: 'a' } },
    { id: 1, publish: { channel: 'a', data: 1 } }, { id: 1, presence: { channel: 'a' } }, { id: 1, presence_stats: { channel: 'a' } }, { id: 1, history: { channel: 'a' } },
    { id: 1, rpc: { method: 'a' } }, { id: 1, refresh: { token: 'x' } }, { id: 1, sub_refresh: { channel: 'a', token: 'x' } }
  ]
  const outcomes = await Promise.all(early.map(async (command) => {
    const client = await openClient(t, url, encoding)
    client.send(command, { id: 2, connect: {} })
    return { command, end: await client.closed(), replies: client.replies }
  }))
  t.strictSame(outcomes, early.map(command => ({ command, end: badRequest, replies: [] })))
})

test('a second connect closes with 3501', everything, async (t, { url }, encoding) => {
  const client = await connected(t, url, encoding)
  client.send({ id: 2, connect: {} })
  t.strictSame(await client.closed(), badRequest)
  const hasty = await openClient(t, url, encoding)
  hasty.send({ id: 1, connect: {} }, { id: 2, connect: {} })
  t.strictSame(await hasty.closed(), badRequest)
  t.equal(hasty.replies[0].connect.client.length, 36, 'the first one was answered')
})

test('a frame that is empty, can not be decoded or is of the other kind closes with 3501', everything, async (t, { url, logs }, encoding) => {
  const bad: Record<Encoding, Array<string | Buffer>> = {
    json: ['', '\n', '\n\n\n', ' ', 'rubbish', '[]', 'null', '17', '{"id":', '{"id":"1","ping":{}}', '{"id":1,"subscribe":[]}', '{"id":1,"ping":{}}\nrubbish', '[{"id":1,"ping":{}}]'],
    protobuf: [Buffer.alloc(0), Buffer.from([1]), Buffer.from([2, 8]), Buffer.from('{"id":1}'), Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), Buffer.from([0, 0, 5, 1])]
  }
  const outcomes: object[] = []
  for (const bytes of bad[encoding]) {
    const [early, late] = await Promise.all([openClient(t, url, encoding), connected(t, url, encoding)])
    early.sendBytes(bytes)
    late.sendBytes(bytes)
    outcomes.push({ bytes: bytes.toString(), ends: [await early.closed(), await late.closed()] })
  }
  t.strictSame(outcomes, bad[encoding].map(bytes => ({ bytes: bytes.toString(), ends: [badRequest, badRequest] })))
  const other = await connected(t, url, encoding)
  other.client.socket.send(encodeCommands(encoding, [{ id: 1, ping: {} }]), { binary: encoding === 'json' })
  t.strictSame(await other.closed(), badRequest, 'of the other kind')
  t.strictSame(logs.filter(({ level }) => level >= 50), [], 'what a client causes is no error')
})

test('without an id everything but send counts as a pong, with an id there must be a request', everything, async (t, { app, url }, encoding) => {
  const client = await connected(t, url, encoding)
  client.send({}, { subscribe: { channel: 'a' } }, { rpc: {} }, { connect: {} }, { refresh: {} })
  t.strictSame(await client.call('ping', {}), error(108))
  t.equal(client.replies.length, 2)
  t.strictSame([...app.realtime.connections].map(({ channels }) => channels.size), [0])
  client.send({ id: 5 })
  t.strictSame(await client.closed(), badRequest)
})

test('the first request of a command counts, in the order of the protocol', everything, async (t, { url }, encoding) => {
  const client = await connected(t, url, encoding)
  client.send({ id: 1, sub_refresh: {}, unsubscribe: { channel: 'a' }, rpc: {} })
  t.strictSame(await client.reply(1), { id: 1, unsubscribe: {} })
})

inBoth('subscribes in the frame of the connect wait for it, and no publication is ahead of its subscribe reply', async (t, encoding) => {
  let open = () => {}
  const gate = new Promise<void>(resolve => { open = resolve })
  // Publishes at every step of the subscribe that goes on from here.
  const subscribe = async (_connection: Connection, channel: string) => {
    await new Promise(resolve => setImmediate(resolve))
    ;(async () => { for (let i = 0; i < 50; i++) await app.realtime.publish(channel, ++n) })()
    return true
  }
  let waiting = 0
  const { app, url } = await startApp(t, {
    channels: { chat: { ...channels!.chat, subscribe }, plain: { ...channels!.plain, subscribe } },
    authenticate: async () => {
      await new Promise(resolve => setImmediate(resolve))
      return { user: 'ann', channels: ['chat:own'] }
    },
    onConnect: async () => {
      waiting++
      await gate
    }
  })
  const names = ['chat:a', 'chat:b', 'plain:c', 'chat:d']
  let n = 0
  const publish = () => Promise.all([...names, 'chat:own'].map(channel => app.realtime.publish(channel, ++n)))
  await publish()
  const client = await openClient(t, url, encoding)
  client.send({ id: 1, connect: {} }, ...names.map((channel, i) => ({ id: i + 2, subscribe: { channel } })))
  client.send({ id: 10, rpc: {} })
  await until(() => waiting === 1, 'onConnect')
  await publish()
  t.strictSame(client.replies, [], 'nothing comes ahead of the reply to connect')
  open()
  await until(async () => {
    await publish()
    return [1, 2, 3, 4, 5].every(id => client.replies.some(reply => reply.id === id))
  }, 'all subscribe replies')
  await publish()
  await until(() => client.pushes.filter(({ pub }) => pub?.data > n - 5).length === 5, 'the last publication of each channel')
  t.equal(client.replies[0].id, 1)
  t.strictSame(await client.reply(10), { id: 10, ...error(108) })
  const own = client.replies[0].connect.subs['chat:own']
  for (const [i, channel] of [...names, 'chat:own'].entries()) {
    const at = channel === 'chat:own' ? 0 : client.replies.findIndex(({ id }) => id === i + 2)
    const reply = channel === 'chat:own' ? own : client.replies[at].subscribe
    const pushes = client.replies.map(({ push }, index) => ({ push, index })).filter(({ push }) => push?.channel === channel)
    t.ok(pushes.every(({ index }) => index > at), `${channel}: publications follow the reply`)
    const data = pushes.map(({ push }) => push.pub.data)
    t.strictSame(data, data.toSorted((a, b) => a - b), `${channel}: in order`)
    if (channel === 'plain:c') continue
    t.match(reply, { recoverable: true, positioned: true, epoch: String })
    t.strictSame(pushes.map(({ push }) => push.pub.offset), pushes.map((_, j) => reply.offset + j + 1), `${channel}: none is missing`)
  }
})

t.test('commands that arrive ahead of the answer to the upgrade are taken', { buffered: true }, async (t) => {
  let admit = () => {}
  const gate = new Promise<void>(resolve => { admit = resolve })
  let asked = false
  const { url } = await startApp(t, {
    channels,
    authenticate: async () => {
      asked = true
      await gate
      return { user: 'ann' }
    }
  })
  const raw = await openRaw(t, url)
  raw.socket.write(Buffer.concat([Buffer.from(upgradeRequest(PATH)), frame(TEXT, '{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"chat:a"}}')]))
  await until(() => asked, 'authenticate')
  raw.socket.write(frame(TEXT, '{"id":3,"publish":{"channel":"chat:a","data":"mine"}}'))
  admit()
  await until(() => raw.received().includes('"data":"mine"'), 'its own publication')
  const text = raw.received().toString()
  t.ok(text.indexOf('{"id":1,"connect":') < text.indexOf('{"id":2,"subscribe":'))
  t.ok(text.indexOf('{"id":2,"subscribe":') < text.indexOf('"data":"mine"'))
  t.match(text, '{"id":3,"publish":{}}')
})

test('replies come as they are ready', () => ({
  onRpc: (_connection, method) => method === 'fast' ? 'fast' : new Promise(resolve => release.set(method, () => resolve(method)))
}), async (t, { url }, encoding) => {
  const client = await connected(t, url, encoding)
  client.send({ id: 1, rpc: { method: `slow-${encoding}` } }, { id: 2, rpc: { method: 'fast' } })
  t.strictSame(await client.reply(2), { id: 2, rpc: { data: 'fast' } })
  t.notOk(client.replies.some(({ id }) => id === 1))
  release.get(`slow-${encoding}`)!()
  t.strictSame(await client.reply(1), { id: 1, rpc: { data: `slow-${encoding}` } })
})
const release = new Map<string, () => void>()

test('every command that names no channel closes with 3501', everything, async (t, { url }, encoding) => {
  const names = ['subscribe', 'unsubscribe', 'publish', 'presence', 'presence_stats', 'history', 'sub_refresh']
  const ends = await Promise.all(names.map(async (name) => {
    const client = await connected(t, url, encoding)
    client.send({ id: 1, [name]: { data: 1 } })
    return { name, ...await client.closed() }
  }))
  t.strictSame(ends, names.map(name => ({ name, ...badRequest })))
})

test('a channel has a name of at most 255 bytes without control characters', everything, async (t, { url }, encoding) => {
  const client = await connected(t, url, encoding)
  t.strictSame(await client.call('subscribe', { channel: 'x'.repeat(255) }), {})
  t.strictSame(await client.call('subscribe', { channel: 'ü'.repeat(127) }), {})
  const bad = ['x'.repeat(256), 'ü'.repeat(128), 'a\nb', 'a\u007f', '\u0000control']
  const commands = bad.flatMap(channel => ['subscribe', 'publish', 'presence', 'history'].map(name => ({ name, channel })))
  const replies = await Promise.all(commands.map(async ({ name, channel }) => {
    return { name, channel, ...await client.call(name, { channel, data: 1 }) }
  }))
  t.strictSame(replies, commands.map(command => ({ ...command, ...error(107) })))
})

test('no client reaches the channel in which instances command each other', () => ({
  channels: { '': { subscribe: true, publish: true, history: { size: 10, ttl: '10m' }, presence: true } },
  authenticate: request => ({ user: String(request.headers['x-user']) })
}), async (t, { app, url }, encoding) => {
  const victim = await connected(t, url, encoding, { headers: { 'x-user': 'victim' } })
  const attacker = await connected(t, url, encoding, { headers: { 'x-user': 'attacker' } })
  const command = { type: 'disconnect', user: 'victim', code: 3500, reason: 'gone' }
  t.strictSame(await attacker.call('subscribe', { channel: '\u0000control' }), error(107))
  t.strictSame(await attacker.call('publish', { channel: '\u0000control', data: command }), error(107))
  t.strictSame(await attacker.call('subscribe', { channel: '\u0000instances' }), error(107))
  await app.realtime.subscribe('victim', 'news')
  t.match(await victim.push(), { channel: 'news', subscribe: { positioned: true } }, 'commands of the host still arrive')
  t.strictSame(victim.replies.length, 2)
})

test('subscribe answers what it does not have as the protocol says', () => ({
  channels,
  authenticate: () => ({ user: 'ann', channels: ['plain:server'] }),
  onSubscribe: (_connection, channel) => channel === 'plain:expired' ? { expiresAt: 1 } : undefined
}), async (t, { url }, encoding) => {
  const client = await connected(t, url, encoding)
  t.strictSame(await client.call('subscribe', { channel: 'nowhere:a' }), error(102))
  t.strictSame(await client.call('subscribe', { channel: 'secret:a' }), error(103))
  t.strictSame(await client.call('subscribe', { channel: 'plain:#bob' }), error(103))
  t.strictSame(await client.call('subscribe', { channel: 'plain:#bob,ann' }), {})
  t.strictSame(await client.call('subscribe', { channel: 'plain:a', token: 'x.y.z' }), error(103), 'nobody can verify tokens here')
  t.strictSame(await client.call('subscribe', { channel: 'plain:expired' }), error(110))
  const noFilter = { error: { code: 107, message: 'bad request: the namespace does not allow tags filters' } }
  for (const tf of [{ op: 'and' }, {}]) t.strictSame(await client.call('subscribe', { channel: 'plain:a', tf }), noFilter)
  const filtered = { channel: 'tagged:a', tf: { key: 'k', cmp: 'ex' } }
  t.strictSame(await client.call('subscribe', { ...filtered, tf: {} }), {
    error: { code: 107, message: 'bad request: cmp in a tags filter must be one of eq, neq, sw, ew, ct, lt, lte, gt, gte, in, nin, ex, nex' }
  })
  t.strictSame(await client.call('subscribe', { ...filtered, delta: 'fossil' }), {
    error: { code: 107, message: 'bad request: a tags filter and delta do not go together' }
  })
  t.strictSame(await client.call('subscribe', filtered), {})
  const types = await Promise.all([1, 2, 3, 4].map(type => client.call('subscribe', { channel: 'plain:a', type })))
  t.strictSame(types, Array(4).fill(error(108)))
  t.strictSame(await client.call('subscribe', { channel: 'plain:server' }), error(105), 'the host has subscribed it')
  t.strictSame(await client.call('subscribe', { channel: 'plain:a', delta: 'fossil', positioned: true, recoverable: true, join_leave: true, recover: true, flag: 3 }), {}, 'full publications in a channel without history')
  t.strictSame(await client.call('subscribe', { channel: 'plain:a' }), error(105))
  client.send({ id: 1, subscribe: { channel: 'chat:a', delta: 'fossil' } }, { id: 2, subscribe: { channel: 'chat:a' } })
  const { subscribe } = await client.reply(1)
  t.strictSame(subscribe, { recoverable: true, positioned: true, epoch: subscribe.epoch }, 'no delta')
  t.strictSame(await client.reply(2), { id: 2, ...error(105) }, 'while the first one is under way')
  client.send({ id: 3, subscribe: { channel: 'plain:b', delta: 'vcdiff' } })
  t.strictSame(await client.closed(), badRequest)
})

test('unsubscribe succeeds whether or not it was subscribed, and makes room for the next subscribe', everything, async (t, { app, url }, encoding) => {
  const client = await connected(t, url, encoding)
  t.strictSame(await client.call('unsubscribe', { channel: 'nowhere:a' }), {})
  client.send({ id: 1, subscribe: { channel: 'plain:a' } }, { id: 2, unsubscribe: { channel: 'plain:a' } }, { id: 3, subscribe: { channel: 'plain:a' } }, { id: 4, unsubscribe: { channel: 'plain:a' } }, { id: 5, unsubscribe: { channel: 'plain:a' } })
  await client.reply(5)
  t.strictSame(client.replies.slice(2), [
    { id: 1, subscribe: {} },
    { id: 2, unsubscribe: {} },
    { id: 3, subscribe: {} },
    { id: 4, unsubscribe: {} },
    { id: 5, unsubscribe: {} }
  ])
  await app.realtime.publish('plain:a', 'nobody is here')
  await client.call('ping', {})
  t.strictSame(client.pushes, [])
})

test('one connection has 128 channels at the most', everything, async (t, { url }, encoding) => {
  const client = await connected(t, url, encoding)
  client.send(...Array.from({ length: 130 }, (_, i) => ({ id: i + 1, subscribe: { channel: `plain:${i + 1}` } })))
  await Promise.all([client.reply(128), client.reply(129), client.reply(130)])
  const replies = client.replies.filter(({ id }) => id <= 130)
  t.strictSame(replies.filter(({ error }) => error !== undefined), [{ id: 129, ...error(106) }, { id: 130, ...error(106) }])
  await client.call('unsubscribe', { channel: 'plain:1' })
  t.strictSame(await client.call('subscribe', { channel: 'plain:129' }), {})
  t.strictSame(await client.call('subscribe', { channel: 'plain:130' }), error(106))
})

test('publish needs data, a known channel and leave', () => ({
  channels,
  authenticate: () => ({ user: 'ann', info: { name: 'Ann' } }),
  onPublish: (_connection, channel, data) => channel === 'plain:refused' ? false : data === 'text' ? { tags: { by: 'host' } } : data === 0 ? { data: 'zero' } : undefined
}), async (t, { url }, encoding) => {
  const client = await connected(t, url, encoding)
  await client.call('subscribe', { channel: 'chat:a' })
  t.strictSame(await client.call('publish', { channel: 'chat:a' }), error(107))
  t.strictSame(await client.call('publish', { channel: 'chat:a', data: 1, type: 1 }), error(108))
  t.strictSame(await client.call('publish', { channel: 'nowhere:a', data: 1 }), error(102))
  t.strictSame(await client.call('publish', { channel: 'secret:a', data: 1 }), error(103))
  t.strictSame(await client.call('publish', { channel: 'plain:#bob', data: 1 }), error(103))
  t.strictSame(await client.call('publish', { channel: 'plain:refused', data: 1 }), error(103))
  t.strictSame(await client.call('publish', { channel: 'plain:elsewhere', data: 1 }), {}, 'without being subscribed')
  const sent = [{ text: 'a\nb' }, 'text', 0, null, false, ['ü']]
  const replies = await Promise.all(sent.map(data => client.call('publish', { channel: 'chat:a', data })))
  t.strictSame(replies, sent.map(() => ({})))
  await until(() => client.pushes.length === sent.length, 'all publications')
  const { pushes } = client
  t.strictSame(pushes.map(({ channel, pub: { data, offset } }) => ({ channel, data, offset })), sent.map((data, i) => ({ channel: 'chat:a', data: data === 0 ? 'zero' : data, offset: i + 1 })))
  t.match(pushes, sent.map(() => ({ pub: { info: { user: 'ann', client: String, conn_info: { name: 'Ann' } } } })))
  t.strictSame(pushes.map(({ pub }) => pub.tags), sent.map(data => data === 'text' ? { by: 'host' } : undefined), 'the host adds and changes')
  t.strictSame(pushes.map(({ pub }) => typeof pub.epoch), sent.map((_, i) => i === 0 ? 'string' : 'undefined'), 'the first publication of a stream tells its epoch')
})

t.test('what one encoding publishes the other one can read', { buffered: true }, async (t) => {
  const { url } = await startApp(t, { channels })
  const [json, protobuf] = await Promise.all([connected(t, url, 'json'), connected(t, url, 'protobuf')])
  for (const client of [json, protobuf]) await client.call('subscribe', { channel: 'plain:a' })
  const bytes: [sent: Buffer, inJson: unknown, inProtobuf: unknown][] = [
    [Buffer.from('{\n  "pretty": [\r\n1 ]\n}\n'), { pretty: [1] }, { pretty: [1] }],
    [Buffer.from([0, 255, 10]), 'AP8K', Buffer.from([0, 255, 10])],
    [Buffer.from([0x22, 0xff, 0x22]), 'Iv8i', Buffer.from([0x22, 0xff, 0x22])], // looks like JSON, but is no UTF-8
    [Buffer.from('not json'), 'bm90IGpzb24=', Buffer.from('not json')]
  ]
  const got: [reply: object, inJson: unknown, inProtobuf: unknown][] = []
  for (const [data] of bytes) {
    got.push([await protobuf.call('publish', { channel: 'plain:a', data }), (await json.push()).pub.data, (await protobuf.push()).pub.data])
  }
  t.strictSame(got, bytes.map(([, inJson, inProtobuf]) => [{}, inJson, inProtobuf]))
  t.ok(json.client.messages.every(message => !String(message).includes('\n')))
  await protobuf.call('publish', { channel: 'plain:a', data: Buffer.from('{"id":1234567890123456789,"one":1.0}') })
  await until(() => json.client.messages.some(message => String(message).includes('{"id":1234567890123456789,"one":1.0}')), 'every digit as it was sent')
})

test('what the host tells a client of its own making is checked before anything is sent', () => ({
  channels,
  onPublish: (_connection, _channel, data) => ({ tags: data as Record<string, string> }),
  onSubscribe: (_connection, channel) => channel === 'plain:nan' ? { expiresAt: Number.NaN } : channel === 'plain:info' ? { info: 1n } : undefined
}), async (t, { app, url, logs }, encoding) => {
  const client = await connected(t, url, encoding)
  await client.call('subscribe', { channel: 'chat:a' })
  const tags = [{ kind: null }, { kind: ['x'] }, { kind: 1 }, ['x'], 'x']
  t.strictSame(await Promise.all(tags.map(data => client.call('publish', { channel: 'chat:a', data }))), tags.map(() => error(100)))
  t.strictSame(await client.call('publish', { channel: 'chat:a', data: { kind: 'right' } }), {})
  t.match(await client.push(), { pub: { tags: { kind: 'right' }, offset: 1 } })
  t.strictSame(await client.call('subscribe', { channel: 'plain:nan' }), error(100))
  t.strictSame(await client.call('subscribe', { channel: 'plain:info' }), error(100))
  t.equal(logs.filter(({ event, err }) => event === 'connection.failed' && /^FST_CRWS_INVALID_/.test(err.code)).length, 7)
  await t.rejects(app.realtime.publish('chat:a', 1, { tags: { kind: 1 } as never }), { code: 'FST_CRWS_INVALID_ARGUMENT' })
})

test('a handler may put its client out of the channel it is about', () => ({
  channels,
  onPublish: async (connection, channel, data) => {
    if (data !== 'abuse') return
    await connection.unsubscribe(channel)
    return false
  }
}), async (t, { url }, encoding) => {
  const client = await connected(t, url, encoding)
  await client.call('subscribe', { channel: 'plain:a' })
  t.strictSame(await client.call('publish', { channel: 'plain:a', data: 'abuse' }), error(103))
  t.match(await client.push(), { channel: 'plain:a', unsubscribe: { code: 2000 } })
  t.strictSame(await client.call('publish', { channel: 'plain:a', data: 'fine' }), {})
})

/** Takes so long to encode that what expires meanwhile has expired. */
function slowInfo (expiresAt: number) {
  return {
    toJSON () {
      while (Date.now() / 1_000 <= expiresAt);
      return {}
    }
  }
}

test('a subscription that expires on its way in is refused, and of one that has expired nothing stays', () => ({
  channels: { slow: { subscribe: true } },
  onSubscribe: (_connection, channel) => {
    const expiresAt = Date.now() / 1_000 + 0.3
    return { expiresAt, ...(channel === 'slow:late' && { info: { expiresAt, ...slowInfo(expiresAt) } }) }
  }
}), async (t, { app, url }, encoding) => {
  const client = await connected(t, url, encoding)
  t.strictSame(await client.call('subscribe', { channel: 'slow:late' }), error(110))
  await app.realtime.publish('slow:late', 'nobody is here')
  client.send({ id: 1, subscribe: { channel: 'slow:a' } })
  const { subscribe } = await client.reply(1)
  t.strictSame(subscribe, {})
  t.match(await client.push(), { channel: 'slow:a', unsubscribe: { code: 2501 } })
  t.strictSame(await client.call('unsubscribe', { channel: 'slow:a' }), {})
  await app.realtime.publish('slow:a', 'nobody is here')
  t.strictSame(await client.call('unsubscribe', { channel: 'x'.repeat(300) }), {}, 'nor there')
  t.equal(client.pushes.length, 1)
})

test('closing with 1000 tells an SDK that it is not to come back', () => ({ channels }), async (t, { app, url }, encoding) => {
  const client = await connected(t, url, encoding)
  for (const connection of app.realtime.connections) connection.close(1000, 'bye')
  t.strictSame(await client.closed(), { code: 3503, reason: 'bye' })
})

test('data that is nested too deep to be written again is refused or sent on as it came, and is no error of ours', everything, async (t, { url, logs }, encoding) => {
  const client = await connected(t, url, encoding)
  const deep = '['.repeat(20_000) + ']'.repeat(20_000)
  if (encoding === 'json') client.sendBytes(`{"id":1,"publish":{"channel":"plain:a","data":${deep}}}`)
  else client.send({ id: 1, publish: { channel: 'plain:a', data: Buffer.from(deep) } })
  t.strictSame(await client.reply(1), encoding === 'json' ? { id: 1, ...error(107) } : { id: 1, publish: {} })
  t.strictSame(await client.call('publish', { channel: 'plain:a', data: 1 }), {})
  t.strictSame(logs.filter(({ level }) => level >= 50), [])
})

test('history has all forms of the protocol', everything, async (t, { app, url }, encoding) => {
  const client = await connected(t, url, encoding)
  const subscribed = { channel: 'chat:a' }
  t.strictSame(await client.call('history', { channel: 'nowhere:a' }), error(102))
  t.strictSame(await client.call('history', { channel: 'plain:a' }), error(108))
  t.strictSame(await client.call('history', subscribed), error(103))
  for (let i = 1; i <= 5; i++) await app.realtime.publish('chat:a', i, { tags: { n: String(i) } })
  await client.call('subscribe', subscribed)
  const { epoch } = await client.call('history', subscribed)
  t.strictSame(await client.call('history', subscribed), { epoch, offset: 5 }, 'without a limit the position alone')
  const get = async (request: object) => (await client.call('history', { ...subscribed, ...request })).publications?.map(({ data }: any) => data)
  t.strictSame(await get({ limit: -1 }), [1, 2, 3, 4, 5])
  t.strictSame(await get({ limit: 2 }), [1, 2])
  t.strictSame(await get({ limit: -1, since: { offset: 2, epoch } }), [3, 4, 5])
  t.strictSame(await get({ limit: 1, since: { offset: 2 } }), [3], 'any epoch')
  t.strictSame(await get({ limit: -1, since: {} }), [1, 2, 3, 4, 5])
  t.strictSame(await get({ limit: -1, since: { offset: 5, epoch } }), undefined)
  t.strictSame(await get({ limit: 2, reverse: true }), [5, 4])
  t.strictSame(await get({ limit: -1, since: { offset: 3, epoch }, reverse: true }), [2, 1])
  t.strictSame(await get({ limit: -1, since: { offset: 1, epoch }, reverse: true }), undefined)
  t.strictSame(await client.call('history', { ...subscribed, limit: 1, since: { epoch }, reverse: true }), error(107))
  t.strictSame(await client.call('history', { ...subscribed, limit: 1, since: { offset: 2, epoch: 'another' } }), error(112))
  t.match(await client.call('history', { ...subscribed, limit: 1 }), { epoch, offset: 5, publications: [{ data: 1, offset: 1, tags: { n: '1' } }] })
  for (let i = 6; i <= 310; i++) await app.realtime.publish('chat:a', i)
  t.equal((await get({ limit: -1 })).length, 300, 'no more than 300 at once')
  t.equal((await get({ limit: 1_000 })).length, 300)
})

test('what needs a subscription waits for the subscribe of the same frame', () => ({ ...everything(), onSubscribe: () => new Promise(resolve => { setTimeout(resolve, 20) }) }), async (t, { app, url }, encoding) => {
  await app.realtime.publish('chat:a', 1)
  const client = await connected(t, url, encoding)
  client.send({ id: 1, subscribe: { channel: 'chat:a' } }, { id: 2, history: { channel: 'chat:a', limit: 1 } }, { id: 3, presence: { channel: 'chat:a' } }, { id: 4, presence_stats: { channel: 'chat:a' } })
  t.match(await client.reply(2), { history: { offset: 1, publications: [{ data: 1 }] } })
  t.equal(Object.keys((await client.reply(3)).presence.presence).length, 1)
  t.match(await client.reply(4), { presence_stats: { num_clients: 1, num_users: 1 } })
})

test('presence and its figures', () => ({
  channels, authenticate: request => ({ user: String(request.headers['x-user'] ?? ''), info: { id: request.headers['x-user'] } })
}), async (t, { url }, encoding) => {
  const client = await connected(t, url, encoding, { headers: { 'x-user': 'ann' } })
  for (const name of ['presence', 'presence_stats']) {
    t.strictSame(await client.call(name, { channel: 'nowhere:a' }), error(102))
    t.strictSame(await client.call(name, { channel: 'plain:a' }), error(108))
    t.strictSame(await client.call(name, { channel: 'chat:a' }), error(103))
  }
  await client.call('subscribe', { channel: 'chat:a' })
  const { presence } = await client.call('presence', { channel: 'chat:a' })
  t.match(Object.values(presence), [{ user: 'ann', conn_info: { id: 'ann' } }])
  const [other] = await Promise.all([connected(t, url, encoding, { headers: { 'x-user': 'ann' } })])
  await other.call('subscribe', { channel: 'chat:a' })
  t.strictSame(await client.call('presence_stats', { channel: 'chat:a' }), { num_clients: 2, num_users: 1 })
})

test('rpc without a handler is not available', everything, async (t, { url }, encoding) => {
  const client = await connected(t, url, encoding)
  t.strictSame(await client.call('rpc', { method: 'sum', data: 1 }), error(108))
})

test('rpc gives what the handler gives, and errors that are meant for the client', () => ({
  onRpc: async (connection, method, data) => {
    if (method === 'echo') return data
    if (method === 'who') return { open: connection.open, protocol: connection.protocol }
    if (method === 'bytes') return Buffer.from([0, 255])
    if (method === 'unsendable') return { big: 1n }
    if (method === 'nothing') throw undefined // eslint-disable-line no-throw-literal
    if (method === 'text') throw 'a text' // eslint-disable-line no-throw-literal
    const { code, message } = data as { code: number, message: string }
    if (method === 'refuse') throw new ClientError(code, message)
    throw Object.assign(new Error(message), { code })
  }
}), async (t, { url, logs }, encoding) => {
  const client = await connected(t, url, encoding)
  const values = [{ a: 1 }, 'text', 0, false, null]
  t.strictSame(await Promise.all(values.map(data => client.call('rpc', { method: 'echo', data }))), values.map(data => ({ data })))
  t.strictSame(await client.call('rpc', { method: 'echo' }), {}, 'no data, and the result is there all the same')
  t.strictSame(await client.call('rpc', { method: 'who' }), { data: { open: true, protocol: encoding } })
  t.strictSame(await client.call('rpc', { method: 'bytes' }), { data: encoding === 'json' ? 'AP8=' : Buffer.from([0, 255]) })
  const errors = [400, 402, 1999].map(code => ({ code, message: 'no money' }))
  t.strictSame(await Promise.all(errors.map(data => client.call('rpc', { method: 'refuse', data }))), errors.map(error => ({ error })))
  const silent = await client.call('rpc', { method: 'refuse', data: { code: 403, message: '' } })
  t.strictSame(silent, { error: { code: 403, message: 'error' } }, 'a message is always there')
  t.strictSame(logs.filter(({ event }) => event === 'connection.failed'), [], 'errors for the client are no news for the operator')
  const failing = [
    ...[0, 99, 103, 112, 399, 400, 404, 1999, 2000, 400.5, '400', null, 'ECONNREFUSED'].map(code => ({ data: { code, message: 'secret' } })),
    ...['unsendable', 'nothing', 'text'].map(method => ({ method }))
  ]
  const replies: object[] = []
  for (const request of failing) replies.push({ request, ...await client.call('rpc', request) })
  t.strictSame(replies, failing.map(request => ({ request, ...error(100) })))
  const failed = logs.filter(({ event }) => event === 'connection.failed')
  t.equal(failed.length, failing.length)
  t.match(failed[0], { level: 50, err: { message: 'secret', stack: /sdk-bytes\.test/ } })
})

test('send without a handler closes with 3508', everything, async (t, { url }, encoding) => {
  const client = await connected(t, url, encoding)
  client.send({ send: { data: 1 } })
  t.strictSame(await client.closed(), { code: 3508, reason: 'not available' })
})

const sent: Record<Encoding, unknown[]> = { json: [], protobuf: [] }
test('send is never answered, its handler fails the connection', () => ({
  onMessage: async (connection, data) => {
    sent[connection.protocol as Encoding].push(data)
    if (data === 'refused') throw new ClientError(400, 'for nobody')
    if (data === 'fail') throw new Error('broken')
  }
}), async (t, { url, logs }, encoding) => {
  const client = await connected(t, url, encoding)
  client.send({ send: { data: { a: 1 } } }, { send: {} }, { id: 7, send: { data: 'with an id' } }, { send: { data: 'refused' } }, { send: { data: 'last' } })
  t.strictSame(await client.call('ping', {}), error(108))
  t.strictSame(sent[encoding], [{ a: 1 }, undefined, 'with an id', 'refused', 'last'])
  t.equal(client.replies.length, 2)
  client.send({ send: { data: 'fail' } }, { send: { data: 'never' } })
  t.strictSame(await client.closed(), { code: 3004, reason: 'internal server error' })
  t.equal(sent[encoding].at(-1), 'fail')
  t.match(logs.filter(({ event }) => event === 'connection.failed'), [{ err: { message: 'broken', stack: String } }])
})

test('commands that come too fast get 111, and who goes on all the same is closed with 3013', () => ({
  rateLimit: { messages: { max: 5, timeWindow: '1m' } },
  onRpc: () => 1
}), async (t, { url }, encoding) => {
  const client = await connected(t, url, encoding)
  client.send({}, {}, ...Array.from({ length: 8 }, (_, i) => ({ id: i + 1, rpc: {} })))
  await client.reply(8)
  t.strictSame(client.replies.filter(({ error }) => error !== undefined), [4, 5, 6, 7, 8].map(id => ({ id, ...error(111) })), 'one was the connect, and one a pong too many')
  t.ok(client.open)
  client.send({})
  t.strictSame(await client.closed(), { code: 3013, reason: 'too many requests' })
})

test('publications that come too fast get 111 in their namespace alone', () => ({
  channels: { fast: { publish: true }, slow: { publish: true, publishLimit: { max: 2, timeWindow: '1m' } } }
}), async (t, { url }, encoding) => {
  const [client, other] = await Promise.all([connected(t, url, encoding), connected(t, url, encoding)])
  const publish = (channel: string, from = client) => from.call('publish', { channel, data: 1 })
  t.strictSame([await publish('slow:a'), await publish('slow:a'), await publish('slow:a'), await publish('slow:a')], [{}, {}, error(111), error(111)])
  t.strictSame(await publish('fast:a'), {})
  t.strictSame(await publish('slow:a', other), {}, 'every client for itself')
  t.ok(client.open)
})

test('refresh closes with 3501 where nothing is to be refreshed', () => ({ channels, token: { secret: secretOf('x') }, authenticate: () => ({ user: 'ann' }) }), async (t, { url }, encoding) => {
  const ends = await Promise.all([{}, { token: '' }, { token: 'a.b.c' }].map(async (refresh) => {
    const client = await connected(t, url, encoding)
    client.send({ id: 1, refresh })
    return client.closed()
  }))
  t.strictSame(ends, [badRequest, badRequest, badRequest])
  const client = await connected(t, url, encoding)
  t.strictSame(await client.call('sub_refresh', { channel: 'plain:a', token: 'x' }), error(103))
  await client.call('subscribe', { channel: 'plain:a' })
  t.strictSame(await client.call('sub_refresh', { channel: 'plain:a' }), error(107))
  t.strictSame(await client.call('sub_refresh', { channel: 'plain:a', token: 'x', type: 4 }), error(108))
  client.send({ id: 1, sub_refresh: { channel: 'plain:a', token: 'x' } })
  t.strictSame(await client.closed(), badRequest)
})

test('a connect without credentials where tokens are taken closes with 3501, with a wrong one with 3500', () => ({ token: { secret: secretOf('x') } }), async (t, { url }, encoding) => {
  const [none, wrong] = await Promise.all([openClient(t, url, encoding), openClient(t, url, encoding)])
  none.send({ id: 1, connect: {} })
  wrong.send({ id: 1, connect: { token: 'a.b.c' } })
  t.strictSame(await none.closed(), badRequest)
  t.strictSame(await wrong.closed(), { code: 3500, reason: 'invalid token' })
})

test('after an error to connect the rest of the frame is dropped and further commands close with 3501', () => ({
  channels,
  onConnect: (connection) => {
    connection.send('never seen')
    throw new ClientError(1000, 'come back tomorrow')
  },
  onRpc: () => { throw new Error('never called') }
}), async (t, { url, logs }, encoding) => {
  const client = await openClient(t, url, encoding)
  client.send({ id: 1, connect: {} }, { id: 2, subscribe: { channel: 'plain:a' } }, { id: 3, rpc: {} })
  t.strictSame(await client.reply(1), { id: 1, error: { code: 1000, message: 'come back tomorrow' } })
  t.ok(client.open, 'it is for the client to close')
  client.send({ id: 4, rpc: {} })
  t.strictSame(await client.closed(), badRequest)
  t.notOk(client.replies.some(({ id }) => id > 1))
  t.strictSame(logs.filter(({ level }) => level >= 50), [])
})

test('an exception in onConnect is a temporary error with its stack in the log: SDKs come back', () => ({
  onConnect: async () => { throw new Error('the database is away') }
}), async (t, { url, logs }, encoding) => {
  const client = await openClient(t, url, encoding)
  client.send({ id: 1, connect: {} })
  t.strictSame(await client.reply(1), { id: 1, ...error(100) })
  t.match(logs.filter(({ event }) => event === 'connection.failed'), [{ level: 50, err: { message: 'the database is away', stack: /sdk-bytes/ } }])
})

test('a handler may close the connection instead of answering', () => ({
  onConnect: (connection, request) => { if (request.headers['x-bad'] === '1') connection.close(4500, 'you are banned') },
  onRpc: connection => connection.close(4001, 'come again')
}), async (t, { url }, encoding) => {
  const bad = await openClient(t, url, encoding, { headers: { 'x-bad': '1' } })
  bad.send({ id: 1, connect: {} }, { id: 2, rpc: {} })
  t.strictSame(await bad.closed(), { code: 4500, reason: 'you are banned' })
  t.strictSame(bad.replies, [])
  const client = await connected(t, url, encoding)
  client.send({ id: 1, rpc: {} })
  t.strictSame(await client.closed(), { code: 4001, reason: 'come again' })
})

test('the server pings with an empty reply within the interval it has announced, and closes with 3012 when no pong comes', () => ({
  heartbeat: { interval: '1s', timeout: 300 }
}), async (t, { url }, encoding) => {
  const ping = { json: '{}', protobuf: Buffer.from([0]) }[encoding]
  const client = await openClient(t, url, encoding)
  t.match(await client.call('connect', {}), { ping: 1, pong: true })
  const count = () => client.client.messages.filter(message => message.toString() === ping.toString()).length
  for (let i = 1; i <= 3; i++) {
    await until(() => count() === i, `ping ${i}`)
    client.sendBytes(ping) // an empty command looks the same
  }
  t.ok(client.open)
  t.strictSame(await client.closed(), { code: 3012, reason: 'no pong' })
})

test('with cf_ws_frame_ping_pong the pings are those of WebSocket', () => ({
  heartbeat: { interval: '1s', timeout: 300 }
}), async (t, { url }, encoding) => {
  const client = await openClient(t, url, encoding, { query: '?cf_ws_frame_ping_pong=true' })
  const { ping, pong } = await client.call('connect', {})
  t.strictSame([ping, pong], [undefined, undefined])
  await once(client.client.socket, 'ping')
  await once(client.client.socket, 'ping')
  t.equal(client.client.messages.length, 1, 'nothing but the reply to connect')
  const silent = await openClient(t, url, encoding, { query: '?cf_ws_frame_ping_pong=true', autoPong: false })
  await silent.call('connect', {})
  t.strictSame(await silent.closed(), { code: 3012, reason: 'no pong' })
  t.ok(client.open)
})

t.test('the subprotocol and the URL say which encoding it is', { buffered: true }, async (t) => {
  const { url } = await startApp(t)
  const cases: [offered: string[], query: string, echoed: string, encoding: Encoding][] = [
    [[], '', '', 'json'],
    [[], '?cf_protocol_version=v2', '', 'json'],
    [[], '?format=json', '', 'json'],
    [[], '?format=protobuf', '', 'protobuf'],
    [[], '?cf_protocol=protobuf', '', 'protobuf'],
    [['centrifuge-json'], '', 'centrifuge-json', 'json'],
    [['centrifuge-protobuf'], '', 'centrifuge-protobuf', 'protobuf'],
    [['centrifuge-protobuf'], '?format=json', 'centrifuge-protobuf', 'protobuf'],
    [['centrifuge-json', 'centrifuge-protobuf'], '', 'centrifuge-protobuf', 'protobuf'],
    [['centrifuge-protobuf', 'centrifuge-json'], '', 'centrifuge-protobuf', 'protobuf'],
    [['graphql-ws'], '', 'graphql-ws', 'json'],
    [['graphql-ws', 'centrifuge-json'], '', 'centrifuge-json', 'json'],
    [['graphql-ws', 'centrifuge-protobuf'], '', 'centrifuge-protobuf', 'protobuf']
  ]
  const seen = await Promise.all(cases.map(async ([protocols, query,, encoding]) => {
    const client = new RawClient(await connect(t, `${url}${PATH}${query}`, { protocols }), encoding)
    return { protocols, query, echoed: client.client.socket.protocol, reply: await client.call('connect', {}) }
  }))
  t.strictSame(seen.map(({ echoed }) => echoed), cases.map(([,, echoed]) => echoed))
  t.match(seen, cases.map(([protocols, query]) => ({ protocols, query, reply: { client: /^[0-9a-f-]{36}$/, ping: 25, pong: true } })))
})

test('a message that is too big closes with 1009', () => ({ maxPayload: 10_000 }), async (t, { url }, encoding) => {
  const client = await connected(t, url, encoding)
  client.send({ id: 1, rpc: { method: 'x'.repeat(10_001) } })
  t.equal((await client.closed()).code, 1009)
})

test('at a drain clients are closed with 3001', everything, async (t, { app, url }, encoding) => {
  const [client, early] = await Promise.all([connected(t, url, encoding), openClient(t, url, encoding)])
  const closed = app.close()
  t.strictSame([await client.closed(), await early.closed()], Array(2).fill({ code: 3001, reason: 'shutdown' }))
  await closed
})

test('at their maximum age clients are closed with 3011', () => ({ maxConnectionAge: '1s' }), async (t, { url }, encoding) => {
  const client = await connected(t, url, encoding)
  t.strictSame(await client.closed(), { code: 3011, reason: 'force reconnect' })
})

test('a client that does not read is closed with 3008', () => ({ channels, maxBufferedBytes: 1_000_000 }), async (t, { app, url }, encoding) => {
  const client = await connected(t, url, encoding)
  await client.call('subscribe', { channel: 'plain:a' })
  client.client.socket.pause()
  const [connection] = app.realtime.connections
  await until(async () => {
    await app.realtime.publish('plain:a', 'x'.repeat(500_000))
    return !connection!.open
  }, 'it is dropped')
  client.client.socket.resume()
  t.strictSame(await client.closed(), { code: 3008, reason: 'slow' })
})

test('what the host subscribes later is told by a push, and what it unsubscribes', () => ({ channels, authenticate: () => ({ user: 'ann' }) }), async (t, { app, url }, encoding) => {
  await app.realtime.publish('chat:a', 'before')
  const client = await connected(t, url, encoding)
  await app.realtime.subscribe('ann', 'chat:a')
  const { epoch } = await app.realtime.history('chat:a')
  t.strictSame(await client.push(), { channel: 'chat:a', subscribe: { recoverable: true, positioned: true, epoch, offset: 1 } })
  await app.realtime.publish('chat:a', 'after')
  t.strictSame(await client.push(), { channel: 'chat:a', pub: { data: 'after', offset: 2 } })
  t.strictSame(await client.call('subscribe', { channel: 'chat:a' }), error(105))
  t.strictSame(await client.call('unsubscribe', { channel: 'chat:a' }), {}, 'which is not for the client to end')
  await app.realtime.unsubscribe('ann', 'chat:a')
  t.strictSame(await client.push(), { channel: 'chat:a', unsubscribe: { code: 2000, reason: 'server unsubscribe' } })
  await app.realtime.publish('chat:a', 'nobody is here')
  await app.realtime.subscribe('ann', 'plain:a')
  t.strictSame(await client.push(), { channel: 'plain:a', subscribe: {} }, 'without a position where there is no history')
})

test('what the host sends to one client comes as a message', () => ({ onConnect: connection => { connection.send('early') } }), async (t, { app, url }, encoding) => {
  const client = await connected(t, url, encoding)
  t.ok(client.replies[0].connect, 'after the reply to connect')
  const [connection] = app.realtime.connections
  for (const data of [{ a: 'b\n' }, 0, null]) connection!.send(data)
  connection!.send(Buffer.from([0, 255]))
  const data = [await client.push(), await client.push(), await client.push(), await client.push(), await client.push()]
  t.strictSame(data, ['early', { a: 'b\n' }, 0, null, encoding === 'json' ? 'AP8=' : Buffer.from([0, 255])].map(data => ({ message: { data } })))
})

test('who is disconnected by the host gets a code and a reason', () => ({ authenticate: () => ({ user: 'ann' }) }), async (t, { app, url }, encoding) => {
  const clients = await Promise.all([connected(t, url, encoding), connected(t, url, encoding)])
  const [first] = app.realtime.connections
  first!.close()
  await app.realtime.disconnect('ann')
  t.strictSame(await Promise.all(clients.map(client => client.closed())), Array(2).fill({ code: 3503, reason: 'force disconnect' }))
})

inBoth('when Redis comes back empty client-side subscriptions are told 2500, server-side ones connect again after 3010', async (t, encoding) => {
  const redis = await startRedis(t)
  const { app, url } = await startApp(t, {
    redis: redis.url,
    keyPrefix: randomPrefix(),
    channels,
    authenticate: request => ({ channels: request.headers['x-server'] === '1' ? ['chat:a'] : [] })
  })
  const client = await connected(t, url, encoding)
  const server = await connected(t, url, encoding, { headers: { 'x-server': '1' } })
  const plain = await connected(t, url, encoding)
  const { epoch } = await client.call('subscribe', { channel: 'chat:a' })
  await plain.call('subscribe', { channel: 'plain:a' })
  await app.realtime.publish('chat:a', 1)
  t.match(await client.push(), { pub: { data: 1, offset: 1, epoch } })
  await redis.restart()
  t.strictSame(await client.push(), { channel: 'chat:a', unsubscribe: { code: 2500, reason: 'insufficient state' } })
  t.strictSame(await server.closed(), { code: 3010, reason: 'insufficient state' })
  // It is out, and may come in again as the SDK does it.
  const again = await client.call('subscribe', { channel: 'chat:a', recover: true, epoch, offset: 1 })
  t.match(again, { was_recovering: true, recoverable: true, positioned: true, epoch: String })
  t.not(again.epoch, epoch)
  t.notOk(again.recovered)
  t.strictSame(await client.call('unsubscribe', { channel: 'chat:a' }), {})
  t.strictSame(await client.call('subscribe', { channel: 'chat:a', recover: true, epoch, offset: 1, flag: 2 }), error(112), 'rather an error than a hole')
  t.ok(plain.open)
  t.strictSame(plain.pushes, [], 'a channel without history has no position to lose')
})

t.test('data that no handler can use is refused, though the command has failed for another reason before', async (t) => {
  const redis = await startRedis(t)
  const { url } = await startApp(t, { redis: redis.url, keyPrefix: randomPrefix(), authenticate: () => ({ channels: ['news'] }) })
  await redis.kill()
  const client = await openClient(t, url, 'protobuf')
  t.strictSame(await client.call('connect', { data: JSON.parse('{"__proto__":{"admin":true}}') }), error(107))
})

inBoth('a publish does not wait for Redis to acknowledge the one before, up to a bound, and stays behind it', async (t, encoding) => {
  const redis = await startRedis(t)
  const handled: string[] = []
  const { app, url } = await startApp(t, {
    redis: redis.url,
    keyPrefix: randomPrefix(),
    rateLimit: false,
    channels: { chat: { subscribe: true, publish: true, history: { size: 1_000, ttl: '1m' } } },
    onPublish: async (_connection, _channel, data) => { handled.push(String(data)) },
    onMessage: (_connection, data) => { handled.push(String(data)) }
  })
  const client = await connected(t, url, encoding)
  await client.call('subscribe', { channel: 'chat:a' })
  const texts = Array.from({ length: 300 }, (_, i) => `publication ${i}`)
  const publish = (data: string, i: number) => ({ id: 10 + i, publish: { channel: 'chat:a', data } })
  redis.freeze()
  client.send(...texts.slice(0, 10).map(publish), { send: { data: 'after ten' } })
  await until(() => handled.includes('after ten'), 'Redis is not waited for')
  t.notOk(client.replies.some(({ publish }) => publish !== undefined), 'though it has acknowledged none')
  client.send(...texts.slice(10).map((data, i) => publish(data, i + 10)), { send: { data: 'after all' } })
  await until(() => handled.length > 64, 'more are under way')
  t.notOk(handled.includes('after all'), 'but not all')
  redis.thaw()
  await until(() => handled.includes('after all') && client.pushes.length === texts.length, 'all are there')
  t.strictSame(handled.filter(text => text.startsWith('publication')), texts)
  t.strictSame(client.pushes.map(({ pub }) => pub.data), texts)
  t.strictSame((await app.realtime.history('chat:a')).publications.map(({ data }) => data), texts)
  const replies = await Promise.all(texts.map((_, i) => client.reply(10 + i)))
  t.strictSame(replies, texts.map((_, i) => ({ id: 10 + i, publish: {} })), 'each is acknowledged')
})

test('publications of one turn share messages, of 16 or 64 KB at the most', () => ({ channels }), async (t, { app, url }, encoding) => {
  const client = await connected(t, url, encoding)
  await client.call('subscribe', { channel: 'plain:a' })
  const { messages } = client.client
  const before = messages.length
  const sizes = [40_000, 40_000, 20_000, 100_000, ...Array.from({ length: 20 }, () => 10)]
  await Promise.all(sizes.map(size => app.realtime.publish('plain:a', 'x'.repeat(size))))
  await until(() => client.pushes.length === sizes.length, 'all are there')
  t.strictSame(client.pushes.map(({ pub }) => pub.data.length), sizes)
  t.strictSame(messages.slice(before).map(message => decoders[encoding](message).length), [1, 2, 1, 16, 4])
})
