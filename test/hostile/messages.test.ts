import type { FastifyRequest } from 'fastify'
import { once } from 'node:events'
import t from 'tap'
import type { Test } from 'tap'
import type { End, Options } from '../../index.ts'
import { startApp } from '../helpers/app.ts'
import { connectionsOf } from '../helpers/connections.ts'
import { stopClock } from '../helpers/clock.ts'
import { collectLog } from '../helpers/log.ts'
import { CLOSE, frame, openRaw, PING, TEXT, upgradeRequest } from '../helpers/raw-socket.ts'
import type { RawSocket } from '../helpers/raw-socket.ts'
import { until } from '../helpers/until.ts'
import { connect } from '../helpers/ws-client.ts'

const PONG = 10
/** No ping is due in the time of a test. */
const quiet: Options['heartbeat'] = { interval: '5m', timeout: 50 }

async function upgraded (t: Test, url: string): Promise<RawSocket> {
  const raw = await openRaw(t, url)
  raw.socket.write(upgradeRequest('/ws'))
  await raw.head()
  return raw
}

function never (): Promise<never> {
  return new Promise(() => {})
}

t.test('messages that wait for a slow handler are bounded in bytes, and all are handled in order', async (t) => {
  const handled: string[] = []
  let goOn = () => {}
  const slow = new Promise<void>(resolve => { goOn = resolve })
  const { app, url } = await startApp(t, {
    onMessage: async (_connection, data) => {
      await slow
      handled.push(String(data).slice(0, 2))
    }
  })
  const client = await connect(t, `${url}/ws`)
  const sent = Array.from({ length: 30 }, (_, i) => String(i).padStart(2, '0'))
  for (const one of sent) client.send(one.padEnd(60_000, 'x'))
  const connection = await until(() => connectionsOf(app)[0], 'the connection')
  await until(() => connection!.paused, 'the socket is paused')
  t.ok(connection!.bytesReceived < 262_144 + 3 * 65_536, `${connection!.bytesReceived} bytes of 1.8 MB`)
  goOn()
  await until(() => handled.length === sent.length, 'all are handled')
  t.strictSame(handled, sent)
  t.equal(client.socket.readyState, 1)
})

t.test('thousands of empty messages in one packet do not wait for a handler that hangs', async (t) => {
  const { app, url } = await startApp(t, { onMessage: never })
  const raw = await upgraded(t, url)
  raw.socket.write(Buffer.concat(Array.from({ length: 10_000 }, () => frame(TEXT, ''))))
  const [connection] = await until(() => connectionsOf(app), 'the connection')
  await until(() => connectionsOf(app).length === 0, 'it is ended')
  t.ok(connection!.received > 2_000)
  t.match(raw.received().toString('latin1'), /too many messages/)
})

t.test('messages that wait for a slow handler count as of their arrival', async (t) => {
  let handled = 0
  let goOn = () => {}
  const slow = new Promise<void>(resolve => { goOn = resolve })
  const { app, url } = await startApp(t, {
    heartbeat: { interval: '1h', timeout: '10s' },
    rateLimit: { messages: { max: 20, timeWindow: 1_000 } },
    onMessage: async () => {
      await slow
      handled++
    }
  })
  const client = await connect(t, `${url}/ws`)
  const [connection] = connectionsOf(app)
  const later = stopClock(t)
  for (let i = 1; i <= 60; i++) {
    client.send('x')
    await until(() => connection!.received === i, 'the message has come')
    later(100)
  }
  later(10_000)
  goOn()
  await until(() => handled === 60, 'ten a second of twenty allowed: all are handled')
  t.ok(connection!.open)
})

t.test('what the app does first does not count as messages of the client', async (t) => {
  const { app, url } = await startApp(t, { rateLimit: { messages: { max: 10, timeWindow: 1_000 } }, onMessage: () => {} })
  const client = await connect(t, `${url}/ws`)
  const [connection] = connectionsOf(app)
  for (let i = 0; i < 200; i++) connection!.inbox.run('subscribe', never) // as the channels of an identity, while Redis is slow
  client.send('x')
  await until(() => connection!.received === 1, 'the message has come')
  t.ok(connection!.open)
  t.notOk(connection!.paused)
})

t.test('a client that goes while its socket is paused for a slow handler is noticed', async (t) => {
  const { app, url } = await startApp(t, { heartbeat: { interval: 50, timeout: 50 }, onMessage: never })
  const raw = await upgraded(t, url)
  // More than Node reads ahead of a paused stream: then it reads no end of the connection either.
  raw.socket.write(Buffer.concat(Array.from({ length: 300 }, () => frame(TEXT, 'x'.repeat(1_000)))))
  const connection = await until(() => connectionsOf(app)[0], 'the connection')
  await until(() => connection!.paused && connection!.pongBy !== 0, 'the socket is paused, and a ping is on its way')
  raw.socket.destroy()
  await until(() => connectionsOf(app).length === 0, 'its place is free')
})

t.test('a client behind a slow handler has a minute more to answer, and no longer', async (t) => {
  const ends: End[] = []
  const { app, url } = await startApp(t, { heartbeat: { interval: '5m', timeout: '10s' }, onMessage: never })
  const raw = await upgraded(t, url)
  raw.socket.write(Buffer.concat(Array.from({ length: 70 }, () => frame(TEXT, 'x'))))
  const connection = await until(() => connectionsOf(app)[0], 'the connection')
  await until(() => connection!.paused, 'the socket is paused')
  const sweep = (now: number) => connection!.sweep(now, 0, 300_000, 10_000)
  const pinged = Date.now() + 300_000
  sweep(pinged)
  sweep(pinged + 69_000)
  t.ok(connection!.open, 'a slow handler is not its fault')
  sweep(pinged + 71_000)
  await until(() => connectionsOf(app).length === 0, 'it is gone')
  t.strictSame(ends, [], 'onDisconnect waits for the messages before it')
})

for (const [name, opcode] of [['pongs that nobody asked for', PONG], ['pings', PING]] as const) {
  t.test(`${name} cost as much as messages`, async (t) => {
    const ends: End[] = []
    const { app, url } = await startApp(t, {
      heartbeat: quiet,
      rateLimit: { messages: { max: 10, timeWindow: '1m' } },
      onMessage: (connection, data) => connection.send(data),
      onDisconnect: (_connection, end) => { ends.push(end) }
    })
    const raw = await upgraded(t, url)
    raw.socket.write(Buffer.concat(Array.from({ length: 10 }, () => frame(opcode, 'x'))))
    raw.socket.write(frame(TEXT, 'dropped'))
    await until(() => raw.received().includes('FST_CRWS_MESSAGE_RATE'), 'the message is refused')
    t.equal(connectionsOf(app).length, 1)
    raw.socket.write(Buffer.concat(Array.from({ length: 11 }, () => frame(opcode, 'x'))))
    await until(() => raw.received().includes('too many messages'), 'the close frame')
    raw.socket.write(frame(CLOSE, ''))
    await raw.ended
    await until(() => ends.length === 1, 'onDisconnect')
    t.match(ends, [{ code: 1008, cause: 'policy' }])
  })
}

t.test('the answer to a ping is free', async (t) => {
  const { app, url } = await startApp(t, {
    heartbeat: { interval: 20, timeout: '10s' }, rateLimit: { messages: { max: 1, timeWindow: '1h' } }
  })
  const client = await connect(t, `${url}/ws`)
  let pings = 0
  client.socket.on('ping', () => { pings++ })
  await until(() => pings === 10, 'ten pings')
  t.equal(connectionsOf(app).length, 1)
})

for (const how of ['a violation', 'an exception in a handler', 'a disconnect by the app']) {
  t.test(`who goes on sending after ${how} is cut off at once, and sees the reason`, async (t) => {
    const { app, url } = await startApp(t, {
      heartbeat: quiet,
      rateLimit: { messages: { max: 10, timeWindow: '1m' } },
      onMessage: async ({ id }) => {
        if (how === 'an exception in a handler') throw new Error('x')
        if (how === 'a disconnect by the app') await app.realtime.disconnect({ client: id })
      }
    })
    Object.assign(app.websocketServer.options, { closeTimeout: 3_600_000 }) // `ws` alone would cut it later
    const raw = await upgraded(t, url)
    const later = stopClock(t)
    raw.socket.write(Buffer.concat(Array.from({ length: how === 'a violation' ? 30 : 1 }, () => frame(TEXT, 'x'))))
    await until(() => /too many messages|internal error|force disconnect/.test(raw.received().toString('latin1')), 'the close frame')
    const connection = connectionsOf(app)[0]!
    const { received } = connection
    raw.socket.write(frame(TEXT, 'in flight'))
    later(249)
    await until(() => connection.received === received + 1, 'what was in flight is read')
    later(1)
    raw.socket.write(frame(TEXT, 'more'))
    await once(raw.socket, 'close', { signal: AbortSignal.timeout(10_000) })
    await until(() => connectionsOf(app).length === 0, 'it is gone')
  })
}

t.test('a client that owes too much is ended, whatever made it so', async (t) => {
  const ends: End[] = []
  const { app, url } = await startApp(t, {
    heartbeat: quiet,
    maxBufferedBytes: 100_000,
    onConnect: (_connection, request: FastifyRequest) => {
      // Neither a message nor a publication: as the pongs were of `ws` before 8.21, which anybody could ask for.
      const pong = Buffer.concat([Buffer.from([0x8a, 125]), Buffer.alloc(125)])
      request.raw.socket.write(Buffer.concat(Array.from({ length: 100_000 }, () => pong)))
    },
    onDisconnect: (_connection, end) => { ends.push(end) }
  })
  const raw = await openRaw(t, url)
  raw.socket.pause()
  raw.socket.write(upgradeRequest('/ws'))
  await until(() => connectionsOf(app).length === 1, 'the connection')
  await until(() => connectionsOf(app).every(({ open }) => !open), 'it is closed')
  raw.socket.destroy()
  await until(() => ends.length === 1, 'onDisconnect')
  t.match(ends, [{ code: 3008, cause: 'slow' }])
})

t.test('a peer that has said goodbye is gone at its close frame, whether or not it ends the TCP connection', async (t) => {
  const ends: End[] = []
  const { app, url } = await startApp(t, {
    channels: { room: { presence: true } },
    onConnect: connection => connection.subscribe('room:1'),
    onDisconnect: (_connection, end) => { ends.push(end) }
  })
  const raw = await openRaw(t, url)
  raw.socket.write(upgradeRequest('/ws'))
  await raw.head()
  await until(async () => (await app.realtime.presence('room:1')).length === 1, 'it is there')
  raw.socket.allowHalfOpen = true // it does not end its side when we end ours; `ws` gives up after 30 s
  raw.socket.write(frame(CLOSE, Buffer.concat([Buffer.from([4_000 >> 8, 4_000 & 255]), Buffer.from('bye')])))
  await until(() => ends.length === 1, 'onDisconnect')
  t.strictSame(ends, [{ code: 4_000, reason: 'bye', cause: 'client' }])
  t.strictSame(await app.realtime.presence('room:1'), [])
  t.strictSame(connectionsOf(app), [])
  t.ok(raw.received().includes('bye'), 'the goodbye was answered')
})

/** What a handler may throw, and what cannot be read, or not at once. */
const monsters: Record<string, () => unknown> = {
  nothing: () => undefined,
  null: () => null,
  'a symbol': () => Symbol('s'),
  'a Proxy whose every trap throws': () => new Proxy(new Error('x'), new Proxy({}, { get: () => () => { throw new Error('trap') } })),
  'a revoked Proxy': () => {
    const { proxy, revoke } = Proxy.revocable({}, {})
    revoke()
    return proxy
  },
  'an error whose message is a symbol': () => Object.assign(new Error('x'), { message: Symbol('m') }),
  'an error whose code is a symbol': () => Object.assign(new Error('x'), { code: Symbol('c') }),
  'an error whose message throws': () => Object.defineProperty(new Error('x'), 'message', { get () { throw new Error('getter') } }),
  'an error whose code throws': () => Object.defineProperty(new Error('x'), 'code', { get () { throw new Error('getter') } }),
  'an error whose stack throws': () => Object.defineProperty(new Error('x'), 'stack', { get () { throw new Error('getter') } }),
  'an error with a field that throws': () => Object.defineProperty(new Error('x'), 'more', { enumerable: true, get () { throw new Error('getter') } }),
  'an error whose cause throws': () => new Error('x', { cause: Object.defineProperty(new Error('y'), 'message', { get () { throw new Error('getter') } }) }),
  'an object without a prototype': () => Object.create(null),
  'an object whose text throws': () => ({ message: { toString () { throw new Error('text') } } }),
  'an object whose toString throws': () => ({ toString () { throw new Error('text') } })
}

t.test('whatever a handler throws ends its connection and nothing else, and has an entry', async (t) => {
  for (const [name, make] of Object.entries(monsters)) {
    const { logger, entries } = collectLog()
    const { url } = await startApp(t, {
      onConnect: (connection) => { connection.meta = name },
      onMessage: async (_connection, data) => {
        if (data === 'later') await null
        throw make()
      }
    }, { logger })
    for (const when of ['now', 'later']) {
      const client = await connect(t, `${url}/ws`)
      client.send(when)
      t.match(await client.closed, { code: 1011 }, `${name}, ${when}`)
    }
    const failed = entries.filter(({ event }) => event === 'connection.failed')
    t.equal(failed.length, 2, name)
    t.match(failed[0], { level: 50, handler: 'onMessage', msg: /^onMessage failed: ./ }, name)
  }
})

t.test('a call of the app that rejects with something that cannot be read is logged too', async (t) => {
  const { logger, entries } = collectLog()
  const { app } = await startApp(t, {}, { logger })
  const data = { toJSON: () => { throw monsters['a Proxy whose every trap throws']!() } }
  app.realtime.publish('news', data).catch(() => {})
  await until(() => entries.some(({ event }) => event === 'call.failed'), 'the entry')
})
