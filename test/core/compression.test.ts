import websocket from '@fastify/websocket'
import Fastify from 'fastify'
import { createHash } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import { constants, deflateRawSync, inflateRawSync } from 'node:zlib'
import t from 'tap'
import type { Test } from 'tap'
import WebSocket from 'ws'
import cloudRunWebSocket from '../../index.ts'
import type { Connection, Options } from '../../index.ts'
import { startApp } from '../helpers/app.ts'
import { launchBrowser } from '../helpers/browser.ts'
import { connectionsOf, MUCH } from '../helpers/connections.ts'
import { frame, openRaw, TEXT, upgradeRequest } from '../helpers/raw-socket.ts'
import { startRedis } from '../helpers/redis.ts'
import { encodings, sdkClient, startInstances } from '../helpers/sdk.ts'
import { until } from '../helpers/until.ts'
import { connect } from '../helpers/ws-client.ts'
import type { Client } from '../helpers/ws-client.ts'

const RSV1 = 4
const news = async (connection: Connection) => {
  await connection.subscribe('news')
  connection.send('ready')
}

/** About 2 KB that get much smaller. */
const text = (i: number) => `${i} ${JSON.stringify(Array.from({ length: 40 }, (_, n) => ({ id: n, name: `the name of ${n}`, price: (i * 7 + n * 13) % 97 })))}`

/** Bytes on the wire from here on. */
function wireOf ({ socket }: Client): () => number {
  const { _socket } = socket as unknown as { _socket: { bytesRead: number } }
  const before = _socket.bytesRead
  return () => _socket.bytesRead - before
}

const subscriber = async (t: Test, url: string, perMessageDeflate: false | Record<string, unknown>) => {
  const client = await connect(t, `${url}/ws`, { perMessageDeflate })
  t.equal(await client.next(), 'ready')
  return client
}

t.test('without the option nothing is offered', async (t) => {
  const { url } = await startApp(t)
  const { socket } = await connect(t, `${url}/ws`, { perMessageDeflate: true })
  t.equal(socket.extensions, '')
})

t.test('clients that take compressed messages get them, with any window; the others get the same messages as they are', async (t) => {
  const { app, url } = await startApp(t, { compression: true, onConnect: news })
  const windows = [8, 9, 10, 11, 12, 13, 14, 15]
  const plain = await subscriber(t, url, false)
  const compressed = await subscriber(t, url, {})
  const limited = await Promise.all(windows.map(serverMaxWindowBits => subscriber(t, url, { serverMaxWindowBits })))
  t.equal(plain.socket.extensions, '')
  for (const { socket } of [compressed, ...limited]) t.equal(socket.extensions, 'permessage-deflate')
  const wire = [plain, compressed, ...limited].map(wireOf)
  // The last ones repeat what is far behind, as far as windows reach and farther.
  const sent = [...Array.from({ length: 20 }, (_, i) => text(i)), ...[250, 256, 512, 4_096, 33_000].map(n => `${randomText(n)}`.repeat(3)), 'z'.repeat(300_000)]
  for (const one of sent) await app.realtime.publish('news', one)
  await app.realtime.publish('news', Buffer.alloc(5_000, 7))
  for (const client of [plain, compressed, ...limited]) {
    for (const one of sent) t.ok(await client.next() === one)
    t.strictSame(await client.next(), Buffer.alloc(5_000, 7))
  }
  const [asItIs = 0, small = 0, ...rest] = wire.map(bytes => bytes())
  t.ok(small < asItIs / 3, `${small} of ${asItIs} bytes`)
  for (const bytes of rest) t.ok(bytes < asItIs * 0.6, `${bytes} of ${asItIs} bytes`)
})

/** Text that repeats nothing for long. */
function randomText (length: number): string {
  let state = length
  return Array.from({ length }, () => String.fromCharCode(33 + ((state = (state * 1_103_515_245 + 12_345) & 0x7fffffff) >> 16) % 90)).join('')
}

t.test('short messages, and those that do not get smaller, go as they are', async (t) => {
  const { app, url } = await startApp(t, { compression: { minBytes: 100, level: 9, memLevel: 9 }, onConnect: news })
  const client = await openRaw(t, url)
  client.socket.write(upgradeRequest('/ws', { 'Sec-WebSocket-Extensions': 'permessage-deflate' }))
  const head = await client.head()
  t.match(head, /Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover/)
  const noise = Buffer.concat(Array.from({ length: 40 }, (_, i) => createHash('sha512').update(String(i)).digest()))
  const start = Buffer.byteLength(head) + 4 + 2 + 'ready'.length
  await until(() => client.received().length === start, 'it is ready')
  await app.realtime.publish('news', 'x'.repeat(99))
  await app.realtime.publish('news', noise)
  await app.realtime.publish('news', 'x'.repeat(100))
  const end = start + 2 + 99 + 4 + noise.length
  await until(() => client.received().length > end + 2, 'all is here')
  const received = client.received()
  t.equal(received[start], 0x81)
  t.equal(received[start + 101], 0x82)
  t.equal(received[end], 0x81 | RSV1 << 4)
  const deflated = received.subarray(end + 2)
  t.equal(received[end + 1], deflated.length)
  t.not(deflated.subarray(-4).toString('hex'), '0000ffff')
  t.equal(inflateRawSync(Buffer.concat([deflated, Buffer.from([0, 0, 255, 255])]), { finishFlush: constants.Z_SYNC_FLUSH }).toString(), 'x'.repeat(100))
})

t.test('a batch is compressed once for all clients with the same window', async (t) => {
  const { app, url } = await startApp(t, { compression: true, onConnect: news })
  const raws = await Promise.all([1, 2, 3].map(async () => {
    const raw = await openRaw(t, url)
    raw.socket.write(upgradeRequest('/ws', { 'Sec-WebSocket-Extensions': 'permessage-deflate' }))
    await until(() => raw.received().includes('ready'), 'it is ready')
    return raw
  }))
  const written: unknown[] = []
  for (const connection of connectionsOf(app)) {
    const { outbox } = connection
    const { writeBatch } = outbox
    outbox.writeBatch = batch => {
      written.push(batch)
      writeBatch.call(outbox, batch)
    }
  }
  await app.realtime.publish('news', text(1))
  await until(() => written.length === 3 && raws.every(raw => raw.received().length > 300), 'all have it')
  const [batch] = written as [{ deflated: Map<unknown, { bytes: Buffer }>, bytes: undefined }]
  t.equal(new Set(written).size, 1)
  t.equal(batch.bytes, undefined, 'nobody needs it as it is')
  t.equal(batch.deflated.size, 1)
  const [{ bytes } = { bytes: Buffer.alloc(0) }] = batch.deflated.values()
  for (const raw of raws) t.ok(raw.received().includes(bytes))
})

t.test('subscriptions with different filters share what is compressed, too', async (t) => {
  const { app, url } = await startApp(t, { compression: true, channels: { news: { subscribe: true, tagsFilter: true } } })
  const raws = await Promise.all(['a', 'b', 'c'].map(async (val) => {
    const raw = await openRaw(t, url)
    raw.socket.write(upgradeRequest('/connection/websocket', { 'Sec-WebSocket-Extensions': 'permessage-deflate' }))
    await raw.head()
    const subscribe = { id: 2, subscribe: { channel: 'news:a', tf: { key: 'of', cmp: 'neq', val } } }
    raw.socket.write(frame(TEXT, `{"id":1,"connect":{}}\n${JSON.stringify(subscribe)}`))
    await until(() => raw.received().includes('"id":2'), 'it is subscribed')
    return raw
  }))
  const compressed = new Set<unknown>()
  for (const { outbox } of connectionsOf(app)) {
    const { writeBatch } = outbox
    outbox.writeBatch = batch => {
      writeBatch.call(outbox, batch)
      for (const { frames } of batch.deflated!.values()) compressed.add(frames[0]!.payload)
    }
  }
  const publish = async (...texts: string[]) => {
    const before = raws.map(raw => raw.received().length)
    await Promise.all(texts.map(text => app.realtime.publish('news:a', text, { tags: { of: 'd' } })))
    await until(() => raws.every((raw, i) => raw.received().length > before[i]! + 100), 'all have it')
  }
  await publish(text(1))
  t.equal(compressed.size, 1)
  await publish(text(2), text(3), text(4))
  t.equal(compressed.size, 2, 'several at once, too')
})

t.test('replies and publications stay in order, and the counted bytes are those on the wire', async (t) => {
  const { app, url } = await startApp(t, {
    compression: true,
    onConnect: news,
    async onMessage (connection, data) {
      const i = Number(data)
      for (let n = 0; n < 5; n++) {
        await app.realtime.publish('news', `${i} ${n} published ${text(n)}`)
        connection.send(`${i} ${n} sent ${n % 2 === 0 ? text(n) : ''}`)
      }
    }
  })
  const clients = await Promise.all([false, {}, { serverMaxWindowBits: 10 }].map(deflate => subscriber(t, url, deflate as false)))
  const total = 40
  for (let i = 0; i < total; i++) for (const client of clients) client.send(String(i))
  for (const client of clients) {
    await until(() => client.messages.length === 1 + total * 5 * 4, 'all messages are here', 30_000)
    // Its own answer follows its own publication, whoever else publishes meanwhile.
    const sent = client.messages.filter(one => String(one).includes(' sent '))
    t.strictSame(sent.map(one => String(one).split(' sent ')[0]), Array.from({ length: total * 5 }, (_, k) => `${Math.floor(k / 5)} ${k % 5}`))
    for (const [at, one] of client.messages.entries()) {
      const [, key] = /^(\d+ \d+) sent /.exec(String(one)) ?? []
      if (key !== undefined) t.ok(client.messages.slice(0, at).some(earlier => String(earlier).startsWith(`${key} published`)))
    }
  }
  const [plain, ...compressed] = connectionsOf(app)
  for (const one of compressed) t.ok(one.bytesSent < plain!.bytesSent / 2, `${one.bytesSent} of ${plain!.bytesSent} bytes`)
  t.equal(plain!.sent, compressed[0]!.sent)
})

for (const backend of ['memory', 'Redis'] as const) {
  t.test(`SDKs in JSON and Protobuf, with and without compression, share a channel, with ${backend}`, async (t) => {
    const redis = backend === 'Redis' ? await startRedis(t) : undefined
    const apps = await startInstances(t, redis === undefined ? 1 : 2, {
      compression: true,
      channels: { chat: { subscribe: true, publish: true, history: { size: 100, ttl: '1m' }, batchDelay: 5 } }
    }, redis)
    const all = apps.flatMap(({ url }) => encodings.flatMap(encoding => [true, false].map(deflate => {
      const client = sdkClient(t, url, encoding, deflate ? {} : { websocket: Plain })
      return { client, sub: client.subscribe('chat:1') }
    })))
    await Promise.all(all.map(({ sub }) => sub.subscribed()))
    const [first] = all
    const documents = Array.from({ length: 40 }, (_, i) => ({ i, text: text(i) }))
    await Promise.all(documents.map(document => first!.client.publish('chat:1', document)))
    for (const { sub } of all) {
      await sub.arrived(documents.length)
      t.strictSame(sub.data, documents)
    }
    // The whole history in one reply, to one client alone.
    for (const { app, url } of apps) {
      for (const encoding of encodings) {
        const late = sdkClient(t, url, encoding)
        await late.connected()
        const sub = await late.subscribe('chat:1', { since: { offset: 0, epoch: first!.sub.events.subscribed[0]!.streamPosition!.epoch } }).subscribed()
        await sub.arrived(documents.length)
        t.strictSame(sub.data, documents)
        const [connection] = connectionsOf(app).filter(({ id }) => id === late.id)
        t.ok(connection!.bytesSent < 40_000, `${connection!.bytesSent} bytes`)
      }
    }
    const saved = apps.flatMap(({ app }) => connectionsOf(app)).toSorted((a, b) => a.bytesSent - b.bytesSent)
    t.ok(saved[0]!.bytesSent < saved.at(-1)!.bytesSent / 3)
  })
}

/** A WebSocket that offers no compression. */
class Plain extends WebSocket {
  constructor (url: string, protocols?: string | string[]) {
    super(url, protocols, { perMessageDeflate: false })
  }
}

t.test('Chromium negotiates it, in order with clients that do not', async (t) => {
  const { app, url } = await startApp(t, {
    compression: true, allowedOrigins: '*', onConnect: news, onMessage: (_connection, data) => app.realtime.publish('news', data)
  })
  const other = await subscriber(t, url, false)
  const page = await (await launchBrowser(t)).newPage()
  const received = await page.evaluate(async ([url, long]) => {
    const socket = new WebSocket(`${url}/ws`)
    const messages: string[] = [socket.extensions]
    await new Promise<void>(resolve => {
      socket.onmessage = (event) => {
        const data = String(event.data)
        messages.push(data)
        if (data === 'ready') for (let i = 0; i < 50; i++) socket.send(`${i} ${i % 3 === 0 ? long : ''}`)
        else if (data.startsWith('49 ')) resolve()
      }
    })
    return [socket.extensions, ...messages.slice(1)]
  }, [url, text(1)] as const)
  const expected = Array.from({ length: 50 }, (_, i) => `${i} ${i % 3 === 0 ? text(1) : ''}`)
  t.match(received[0], /^permessage-deflate; .*no_context_takeover/)
  t.strictSame(received.slice(1), ['ready', ...expected])
  for (const one of expected) t.equal(await other.next(), one)
})

t.test('a namespace without compression sends nothing compressed, and neither do replies then', async (t) => {
  const { app, url } = await startApp(t, {
    compression: true,
    channels: {
      secret: { subscribe: true, compression: false, slow: 'latest', history: { size: 10, ttl: '1m' } },
      open: { subscribe: true, history: { size: 10, ttl: '1m' } }
    }
  })
  const client = sdkClient(t, url, 'json')
  const secret = await client.subscribe('secret:1').subscribed()
  const open = await client.subscribe('open:1').subscribed()
  const [connection] = connectionsOf(app)
  const sent = async (what: () => Promise<unknown>) => {
    const before = connection!.bytesSent
    await what()
    return connection!.bytesSent - before
  }
  const size = text(1).length
  t.ok(await sent(() => Promise.all([app.realtime.publish('secret:1', text(1)), secret.arrived(1)])) > size)
  t.ok(await sent(() => Promise.all([app.realtime.publish('open:1', text(1)), open.arrived(1)])) < size / 2)
  t.ok(await sent(() => secret.sub.history({ limit: 10 })) > size)
  t.ok(await sent(() => open.sub.history({ limit: 10 })) > size)
})

t.test('what a client has sent compressed is read, and nothing that inflates stays in memory', async (t) => {
  const received: string[] = []
  const { app, url } = await startApp(t, { compression: true, onMessage: (_connection, data) => { received.push(String(data)) } })
  const sockets: WebSocket[] = []
  app.websocketServer.on('connection', socket => sockets.push(socket))
  const client = await connect(t, `${url}/ws`, { perMessageDeflate: { threshold: 0 } })
  const all = Array.from({ length: 100 }, (_, i) => text(i))
  for (const one of all) client.send(one)
  await until(() => received.length === all.length, 'all are here')
  t.strictSame(received, all)
  const [socket] = sockets as unknown as [{ _extensions: { 'permessage-deflate': { _inflate: unknown, _deflate: unknown } } }]
  t.match(socket._extensions['permessage-deflate'], { _inflate: null, _deflate: null })
})

const upgraded = async (t: Test, url: string) => {
  const raw = await openRaw(t, url)
  raw.socket.write(upgradeRequest('/ws', { 'Sec-WebSocket-Extensions': 'permessage-deflate' }))
  await raw.head()
  return raw
}
const deflated = (data: Buffer) => deflateRawSync(data, { finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, -4)

for (const [what, payload, end] of [
  ['what is not compressed as it says', Buffer.from('this was never compressed'), { code: 1007, cause: 'policy' }],
  ['a bomb', deflated(Buffer.alloc(10_000_000)), { code: 1009, cause: 'policy' }]
] as const) {
  t.test(`${what} closes that connection alone, with ${end.code}`, async (t) => {
    const ends: unknown[] = []
    const { app, url } = await startApp(t, {
      compression: true, onConnect: news, onMessage () {}, onDisconnect: (_connection, how) => { ends.push(how) }
    })
    const other = await subscriber(t, url, {})
    const raw = await upgraded(t, url)
    t.ok(payload.length < 65_536)
    const head = Buffer.from([0x80 | RSV1 << 4 | TEXT, 0x80 | 126, payload.length >> 8, payload.length & 255, 0, 0, 0, 0])
    raw.socket.write(Buffer.concat([frame(TEXT, deflated(Buffer.from('fine')), { rsv: RSV1 }), head, payload]))
    await until(() => ends.length === 1, 'it is closed')
    t.match(ends, [end])
    t.ok((await raw.ended).includes(Buffer.from([0x88, 2, end.code >> 8, end.code & 255])))
    await app.realtime.publish('news', text(1))
    t.equal(await other.next(), text(1))
  })
}

t.test('a slow client is closed by what waits for it on the wire', async (t) => {
  const { app, url } = await startApp(t, { compression: true, maxBufferedBytes: 100_000, onConnect: news })
  const client = await subscriber(t, url, {})
  const fast = await subscriber(t, url, {})
  const [slow] = connectionsOf(app)
  client.socket.pause()
  // Far more than it may owe, but not when compressed: nobody is closed.
  for (let i = 0; i < 100; i++) await app.realtime.publish('news', 'x'.repeat(20_000))
  t.ok(slow!.open)
  await until(async () => {
    await app.realtime.publish('news', randomText(60_000))
    return !slow!.open
  }, 'it is closed', 30_000)
  await until(() => fast.messages.length > 100, 'the other one goes on')
  client.socket.resume()
  t.match(await client.closed, { code: 3008 })
})

async function startOwn (t: Test, perMessageDeflate: boolean | Record<string, unknown>, options: Options) {
  const entries: Array<Record<string, unknown>> = []
  const app = Fastify({ logger: { level: 'warn', stream: { write: (line: string) => { entries.push(JSON.parse(line)) } } } })
  t.teardown(() => app.close())
  await app.register(websocket, { options: { perMessageDeflate, maxPayload: 65_536, maxFragments: 64, maxBufferedChunks: 1_024 } })
  await app.register(cloudRunWebSocket, { shutdown: { signals: false, timeout: 2_000 }, ...options })
  await app.listen({ port: 0, host: '127.0.0.1' })
  return { app, entries, url: `ws://127.0.0.1:${(app.server.address() as AddressInfo).port}` }
}

t.test("with the app's own WebSocket server the bytes are shared too, whatever it negotiates", async (t) => {
  const { app, url, entries } = await startOwn(t, { threshold: 0 }, {
    compression: true,
    onConnect: news,
    async onMessage (connection) {
      for (let i = 0; i < 20; i++) await app.realtime.publish('news', text(i))
      connection.send('done')
    }
  })
  const client = await subscriber(t, url, { threshold: 0 })
  t.match(client.socket.extensions, /permessage-deflate/)
  for (let round = 0; round < 2; round++) {
    client.send('go')
    for (let i = 0; i < 20; i++) t.ok(await client.next() === text(i))
    t.equal(await client.next(), 'done')
  }
  const [connection] = connectionsOf(app)
  t.ok(connection!.bytesSent < 40 * text(1).length / 2)
  t.strictSame(entries, [])
})

t.test("a hint says that the app's own WebSocket server compresses nothing", async (t) => {
  const { url, entries } = await startOwn(t, false, { compression: true, onConnect: news })
  t.match(entries, [{ hint: 'websocket_compression', msg: /offers no permessage-deflate/ }])
  const client = await subscriber(t, url, {})
  t.equal(client.socket.extensions, '')
})

t.test('a client that skipped publications gets the newest one compressed', async (t) => {
  const { app, url } = await startApp(t, {
    compression: true, channels: { '': { slow: 'latest' }, raw: { compression: false } }, maxBufferedBytes: 100_000_000, onConnect: news
  })
  const client = await subscriber(t, url, {})
  client.socket.pause()
  const [connection] = connectionsOf(app)
  connection!.send(MUCH) // as it is: what goes to one client may be of `raw`, too
  const { bytesSent } = connection!
  const last = `the last ${text(1)}`
  for (const one of [text(2), text(3), last]) await app.realtime.publish('news', one)
  client.socket.resume()
  await until(() => client.messages.at(-1) === last, 'it has the last one')
  t.equal(client.messages.length, 3)
  t.ok(connection!.bytesSent - bytesSent < last.length)
})
