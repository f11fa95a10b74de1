import websocket from '@fastify/websocket'
import Fastify from 'fastify'
import type { AddressInfo, Socket } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import t from 'tap'
import type { WebSocket } from 'ws'
import cloudRunWebSocket from '../../index.ts'
import type { End, Options } from '../../index.ts'
import { startApp } from '../helpers/app.ts'
import { connectionsOf, MUCH } from '../helpers/connections.ts'
import { frame, openRaw, TEXT, upgradeRequest } from '../helpers/raw-socket.ts'
import { until } from '../helpers/until.ts'
import { connect } from '../helpers/ws-client.ts'

/** Sweeps often, so that what happens with a sweep happens soon. */
const quickSweep: Options = { heartbeat: { interval: '10s', timeout: 50 } }

t.test('too many messages are dropped, said once, and handled again after a while', async (t) => {
  const handled: unknown[] = []
  const { app, url } = await startApp(t, {
    rateLimit: { messages: { max: 10, timeWindow: 500 } },
    onMessage: (_connection, data) => { handled.push(data) }
  })
  const client = await connect(t, `${url}/ws`)
  for (let i = 0; i < 15; i++) client.send(String(i))
  t.match(JSON.parse(String(await client.next())), { type: 'error', code: 'FST_CRWS_MESSAGE_RATE', message: /at most 10 in 500 ms/ })
  await until(() => connectionsOf(app)[0]?.received === 15, 'all have arrived')
  t.strictSame(handled.slice(0, 10), ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
  t.ok(handled.length < 15)
  await until(() => {
    client.send('late')
    return handled.at(-1) === 'late'
  }, 'a message is handled again')
  t.equal(client.socket.readyState, 1)
})

t.test('a member whose info JSON can no longer carry leaves without a leave event, and the process lives', async (t) => {
  const unhandled: unknown[] = []
  const record = (error: unknown) => { unhandled.push(error) }
  process.on('unhandledRejection', record)
  t.teardown(() => process.off('unhandledRejection', record))
  const ends: End[] = []
  const { app, url } = await startApp(t, {
    channels: { room: { joinLeave: true } },
    authenticate: () => ({ user: 'bob', info: {} }),
    onConnect: async (connection) => {
      await connection.subscribe('room:1')
      Object.assign(connection.info as object, { n: 1n })
      connection.send('ready')
    },
    onDisconnect: (_connection, end) => { ends.push(end) }
  })
  const client = await connect(t, `${url}/ws`)
  t.equal(await client.next(), 'ready')
  client.socket.close(1000)
  await until(() => ends.length === 1, 'onDisconnect')
  t.strictSame(connectionsOf(app), [])
  await wait(0) // rejections are reported after the turn
  t.strictSame(unhandled, [])
})

t.test('a flooder is closed with 1008, everybody else goes on', async (t) => {
  const ends: End[] = []
  const { url } = await startApp(t, {
    rateLimit: { messages: { max: 20, timeWindow: '1m' } },
    onMessage: (connection, data) => connection.send(data),
    onDisconnect: (_connection, end) => { ends.push(end) }
  })
  const [good, bad] = await Promise.all([connect(t, `${url}/ws`), connect(t, `${url}/ws`)])
  for (let i = 0; i < 1_000; i++) bad.send('x')
  t.strictSame(await bad.closed, { code: 1008, reason: 'too many messages' })
  t.equal(bad.messages.filter(message => String(message).includes('FST_CRWS_MESSAGE_RATE')).length, 1)
  t.equal(bad.messages.length, 21)
  await until(() => ends.length === 1, 'onDisconnect')
  t.match(ends, [{ code: 1008, reason: 'too many messages', cause: 'policy' }])
  good.send('fine')
  t.equal(await good.next(), 'fine')
})

t.test('without a message limit nothing is dropped', async (t) => {
  let handled = 0
  const { url } = await startApp(t, { rateLimit: { messages: false }, onMessage: () => { handled++ } })
  const client = await connect(t, `${url}/ws`)
  for (let i = 0; i < 5_000; i++) client.send('x')
  await until(() => handled === 5_000, 'all messages')
})

t.test('a client that does not read is dropped with 3008, everybody else goes on', async (t) => {
  const maxBufferedBytes = 200_000
  const chunk = 'x'.repeat(50_000)
  const ends: End[] = []
  const { app, url } = await startApp(t, {
    maxBufferedBytes,
    heartbeat: { interval: '1m', timeout: '1m' },
    onConnect: async (connection) => { await connection.subscribe('news') },
    onDisconnect: (_connection, end) => { ends.push(end) }
  })
  const reader = await connect(t, `${url}/ws`)
  const slow = await connect(t, `${url}/ws`)
  await until(() => connectionsOf(app).every(({ channels }) => channels.has('news')), 'both are subscribed')
  slow.socket.pause()
  let published = 0
  while (ends.length === 0 && published < 2_000) {
    await app.realtime.publish('news', chunk)
    published++
    await new Promise(resolve => setImmediate(resolve))
  }
  await until(() => ends.length === 1, 'the slow one is gone')
  t.match(ends, [{ code: 3008, reason: 'slow', cause: 'slow' }])
  await until(() => reader.messages.length === published, 'the other one has everything')
  slow.socket.resume()
  const { code } = await slow.closed
  t.ok(code === 3008 || code === 1006, 'it is told, unless it was cut first')
  t.ok(slow.messages.length < published)
})

t.test('what arrives in several channels in one turn is one write to the socket, or a few if it is much, and is not taken for a debt', async (t) => {
  const names = Array.from({ length: 8 }, (_, i) => `room${i}`)
  const { app, url } = await startApp(t, {
    maxBufferedBytes: 100_000, heartbeat: { interval: '1m', timeout: '1m' }, onConnect: async (connection) => { await Promise.all(names.map(name => connection.subscribe(name))) }
  })
  const sockets: Socket[] = []
  app.server.on('connection', socket => sockets.push(socket))
  const client = await connect(t, `${url}/ws`)
  const [connection] = connectionsOf(app)
  await until(() => connection!.channels.size === names.length, 'it is in all of them')
  const [socket] = sockets as [Socket]
  let writes = 0
  for (const method of ['_write', '_writev'] as const) {
    const write = socket[method]!
    socket[method] = function (this: Socket, ...args: unknown[]) {
      writes++
      Reflect.apply(write, this, args)
    }
  }
  const publish = async (text: string) => {
    await app.realtime.broadcast(names, text)
    await Promise.all(names.map(() => client.next()))
  }
  await publish('short')
  t.equal(writes, 1)
  writes = 0
  await publish('x'.repeat(20_000))
  t.ok(writes > 1 && writes <= 3, `${writes} writes`) // of four messages each, and the rest of them
  t.ok(connection!.open, 'all together were more than it may owe')
})

t.test('where only the last value matters, who keeps up gets every value, however much comes in another channel in that turn', async (t) => {
  const { app, url } = await startApp(t, {
    channels: { price: { slow: 'latest' } },
    onConnect: async (connection) => {
      await connection.subscribe('room')
      await connection.subscribe('price:a')
    }
  })
  const client = await connect(t, `${url}/ws`)
  const [connection] = connectionsOf(app)
  await until(() => connection!.channels.size === 2, 'it is in both')
  const much = 'x'.repeat(40_000)
  await Promise.all([app.realtime.publish('room', much), app.realtime.publish('price:a', '1'), app.realtime.publish('price:a', '2')])
  t.strictSame([await client.next(), await client.next(), await client.next()], [much, '1', '2'])
})

t.test('what a slow client was sent stays bounded, however much is sent', async (t) => {
  const { app, url } = await startApp(t, { maxBufferedBytes: 100_000, heartbeat: { interval: '1m', timeout: '1m' } })
  const client = await connect(t, `${url}/ws`)
  client.socket.pause()
  const [connection] = connectionsOf(app)
  const results: boolean[] = []
  for (let i = 0; i < 5_000; i++) results.push(connection!.send('x'.repeat(10_000)))
  const sent = results.indexOf(false)
  t.ok(sent > 0 && sent < 5_000, 'from some message on nothing is taken')
  t.notOk(results.slice(sent).includes(true))
  t.equal(connection!.open, false)
  t.equal(connection!.sent, sent)
})

t.test('where only the last value matters, a client that does not read gets that when it reads again', async (t) => {
  const { app, url } = await startApp(t, {
    channels: { price: { slow: 'latest' } }, heartbeat: { interval: '1m', timeout: '1m' }, onConnect: async (connection) => { await connection.subscribe('price:a') }
  })
  const reader = await connect(t, `${url}/ws`)
  const slow = await connect(t, `${url}/ws`)
  await until(() => connectionsOf(app).every(({ channels }) => channels.has('price:a')), 'both are subscribed')
  slow.socket.pause()
  const chunk = 'x'.repeat(100_000)
  const count = 300 // far more than the sockets between them hold
  for (let i = 1; i <= count; i++) {
    await app.realtime.publish('price:a', `${i} ${chunk}`)
    await until(() => reader.messages.length === i, 'the other one has it')
  }
  const [, connection] = connectionsOf(app)
  t.ok(connection!.open, 'it owes little')
  t.ok(connection!.sent < count)
  slow.socket.resume()
  const numbers = () => slow.messages.map(message => Number.parseInt(String(message)))
  await until(() => numbers().at(-1) === count, 'it has the last one')
  t.strictSame(numbers(), numbers().toSorted((a, b) => a - b), 'in order')
  t.equal(numbers().length, connection!.sent)
  await app.realtime.publish('price:a', 'again')
  await until(() => slow.messages.at(-1) === 'again', 'it goes on as before')
})

t.test('a connection that is closed while it owes something gets the last value first', async (t) => {
  const { app, url } = await startApp(t, {
    channels: { price: { slow: 'latest' } }, maxBufferedBytes: 100_000_000, heartbeat: { interval: '1m', timeout: '1m' }, onConnect: async (connection) => { await connection.subscribe('price:a') }
  })
  const slow = await connect(t, `${url}/ws`)
  const [connection] = connectionsOf(app)
  await until(() => connection!.channels.has('price:a'), 'it is subscribed')
  slow.socket.pause()
  connection!.send(MUCH)
  await app.realtime.publish('price:a', 'old')
  await app.realtime.publish('price:a', 'last')
  await new Promise(resolve => setImmediate(resolve))
  t.equal(connection!.sent, 1)
  connection!.close(4000, 'enough')
  slow.socket.resume()
  t.strictSame(await slow.closed, { code: 4000, reason: 'enough' })
  t.strictSame(slow.messages.slice(1), ['last'])
})

t.test('a connection that becomes too slow while it is closed ends as slow, once', async (t) => {
  const ends: End[] = []
  const entries: string[] = []
  const { app, url } = await startApp(t, {
    maxBufferedBytes: 100_000,
    heartbeat: { interval: '1m', timeout: '1m' },
    onDisconnect: (_connection, end) => { ends.push(end) },
    onConnect: async (connection) => { for (const channel of ['a', 'b', 'c']) await connection.subscribe(channel) }
  }, { logger: { stream: { write: (line: string) => { entries.push(JSON.parse(line).event) } } } })
  const slow = await connect(t, `${url}/ws`)
  const [connection] = connectionsOf(app)
  await until(() => connection!.channels.size === 3, 'it is subscribed')
  slow.socket.pause()
  for (const channel of ['a', 'b', 'c']) app.realtime.publish(channel, MUCH).catch(t.fail)
  connection!.close(4000, 'enough')
  slow.socket.resume()
  await until(() => ends.length === 1, 'it has ended')
  t.match(ends, [{ code: 3008, cause: 'slow' }])
  t.equal(entries.filter(event => event === 'connection.slow').length, 1)
})

t.test('a connection that is too slow for its goodbye ends as slow', async (t) => {
  const maxBufferedBytes = 100_000
  const ends: End[] = []
  const { app, url } = await startApp(t, { maxBufferedBytes, heartbeat: { interval: '1m', timeout: '1m' }, onDisconnect: (_connection, end) => { ends.push(end) } })
  const sockets: WebSocket[] = []
  app.websocketServer.on('connection', socket => sockets.push(socket))
  const client = await connect(t, `${url}/ws`)
  client.socket.pause()
  const [connection] = connectionsOf(app)
  while (sockets[0]!.bufferedAmount < maxBufferedBytes - 20_000) connection!.send('x'.repeat(10_000))
  while (sockets[0]!.bufferedAmount < maxBufferedBytes - 20) connection!.send('x')
  t.ok(connection!.open, 'it owes almost as much as it may')
  const closed = app.close()
  await until(() => !connection!.open, 'the drain has begun')
  client.socket.resume()
  const { code } = await client.closed
  await closed
  t.equal(code, 3008)
  t.match(ends, [{ code, cause: 'slow' }], 'the host is told what the client got')
})

t.test('a handler slower than its client: the socket is not read, nothing is lost, the order is kept', async (t) => {
  const total = 20_000
  const handled: number[] = []
  let release = () => {}
  const held = new Promise<void>(resolve => { release = resolve })
  const { app, url } = await startApp(t, {
    rateLimit: false,
    heartbeat: { interval: 100, timeout: 1_000 },
    onMessage: async (_connection, data) => {
      await held
      handled.push(Number(String(data).slice(0, 8)))
    }
  })
  const client = await connect(t, `${url}/ws`)
  const padding = 'x'.repeat(1_000)
  for (let i = 0; i < total; i++) client.send(String(i).padStart(8, '0') + padding)
  const [connection] = connectionsOf(app)
  let before = -1
  await until(async () => {
    const stands = connection!.received === before && before > 0
    before = connection!.received
    await wait(100)
    return stands
  }, 'the socket is not read any more')
  t.ok(connection!.received < total, `only ${connection!.received} messages were taken`)
  t.ok(client.socket.bufferedAmount > 0, 'the rest waits at the client')
  await until(() => connection!.pongBy !== 0, 'a ping whose pong lies unread')
  connection!.sweep(connection!.pongBy + 1, 0, 100, 1_000)
  t.ok(connection!.open, 'for a client that waits for us no heartbeat is missed')
  release()
  await until(() => handled.length === total, 'all messages', 60_000)
  t.ok(handled.every((value, i) => value === i))
  t.ok(connection!.open)
})

t.test('a socket that is not read can still be closed', async (t) => {
  const ends: End[] = []
  const { app, url } = await startApp(t, {
    rateLimit: false,
    onMessage: () => new Promise(() => {}),
    onDisconnect: (_connection, end) => { ends.push(end) }
  })
  const client = await connect(t, `${url}/ws`)
  for (let i = 0; i < 2_000; i++) client.send('x'.repeat(1_000))
  const [connection] = connectionsOf(app)
  await until(() => connection!.received > 64, 'many are waiting')
  connection!.close(4000, 'enough')
  t.strictSame(await client.closed, { code: 4000, reason: 'enough' })
})

t.test('close takes 1000 and 3000 to 4999, and a reason that fits', async (t) => {
  const { app, url } = await startApp(t)
  const open = async () => {
    const client = await connect(t, `${url}/ws`)
    return { client, connection: connectionsOf(app).at(-1)! }
  }
  const { client, connection } = await open()
  for (const code of [999, 1001, 1005, 1006, 1015, 2999, 5000, 3000.5, Number.NaN, '1000', null]) {
    t.throws(() => connection.close(code as number), { code: 'FST_CRWS_INVALID_ARGUMENT', message: /close code/ })
  }
  for (const reason of ['x'.repeat(124), 'ü'.repeat(62), '1', '{"a":1}', 5, null]) {
    t.throws(() => connection.close(1000, reason as string), { code: 'FST_CRWS_INVALID_ARGUMENT', message: /close reason/ })
  }
  t.ok(connection.open)
  connection.close()
  t.strictSame(await client.closed, { code: 1000, reason: 'closed by the server' })
  for (const [code, reason] of [[3000, 'x'.repeat(123)], [4999, 'x'], [1000, 'ü'.repeat(61)]] as const) {
    const { client, connection } = await open()
    connection.close(code, reason)
    connection.close(4000, 'the first one counts')
    t.strictSame(await client.closed, { code, reason })
  }
})

t.test('after the end send gives false and subscribe rejects', async (t) => {
  let atEnd: unknown[] = []
  const { app, url } = await startApp(t, {
    onDisconnect: async (connection) => {
      atEnd = [connection.send('x'), [...connection.channels], await connection.subscribe('b').catch((error: { code: string }) => error.code)]
    }
  })
  const client = await connect(t, `${url}/ws`)
  const [connection] = connectionsOf(app)
  await connection!.subscribe('a')
  connection!.close()
  t.equal(connection!.send('x'), false, 'from close() on')
  await t.rejects(connection!.subscribe('b'), { code: 'FST_CRWS_CONNECTION_CLOSED', message: connection!.id })
  await client.closed
  await until(() => atEnd.length > 0, 'onDisconnect')
  t.strictSame(atEnd, [false, ['a'], 'FST_CRWS_CONNECTION_CLOSED'], 'onDisconnect still sees its channels')
  connection!.close()
  await connection!.unsubscribe('a')
  await t.rejects(connection!.subscribe('a\n'), { code: 'FST_CRWS_INVALID_CHANNEL' })
  await t.rejects(connection!.unsubscribe(''), { code: 'FST_CRWS_INVALID_CHANNEL' })
})

t.test('a connection that ends while it subscribes is in no channel', async (t) => {
  const { app, url } = await startApp(t, { channels: { room: { presence: true } } })
  const client = await connect(t, `${url}/ws`)
  const [connection] = connectionsOf(app)
  const subscribed = connection!.subscribe('room:1')
  connection!.close()
  await t.rejects(subscribed, { code: 'FST_CRWS_CONNECTION_CLOSED' })
  await client.closed
  await until(async () => (await app.realtime.info())[0]!.channels === 0, 'nobody is in it')
  t.strictSame(await app.realtime.presence('room:1'), [])
})

t.test('subscribe and unsubscribe take effect in the order of the calls', async (t) => {
  const { app, url } = await startApp(t, { channels: { room: { presence: true } } })
  await connect(t, `${url}/ws`)
  const [connection] = connectionsOf(app)
  const calls: Promise<unknown>[] = []
  for (let i = 0; i < 50; i++) calls.push(connection!.subscribe('room:1'), connection!.unsubscribe('room:1'))
  await Promise.all(calls)
  t.strictSame([...connection!.channels], [])
  t.strictSame(await app.realtime.presence('room:1'), [])
  await Promise.all([connection!.unsubscribe('room:1'), connection!.subscribe('room:1'), connection!.subscribe('room:1')])
  t.strictSame([...connection!.channels], ['room:1'])
  t.equal((await app.realtime.presence('room:1')).length, 1)
  t.equal((await app.realtime.info())[0]!.channels, 1)
})

t.test('an identity that expires ends its connection with 3005', async (t) => {
  const ends: End[] = []
  const { url } = await startApp(t, {
    ...quickSweep,
    authenticate: ({ headers }) => ({ user: 'ann', expiresAt: Number(headers['x-expires']) }),
    onDisconnect: (_connection, end) => { ends.push(end) }
  })
  const past = await connect(t, `${url}/ws`, { headers: { 'x-expires': String(Date.now() / 1_000 - 10) } })
  t.strictSame(await past.closed, { code: 3005, reason: 'connection expired' })
  const openedAt = Date.now()
  const soon = await connect(t, `${url}/ws`, { headers: { 'x-expires': String(openedAt / 1_000 + 0.5) } })
  const later = await connect(t, `${url}/ws`, { headers: { 'x-expires': String(openedAt / 1_000 + 3_600) } })
  t.strictSame(await soon.closed, { code: 3005, reason: 'connection expired' })
  t.ok(Date.now() >= openedAt + 500, 'not before')
  t.equal(later.socket.readyState, 1)
  await until(() => ends.length === 2, 'onDisconnect')
  t.match(ends[1], { code: 3005, cause: 'policy' })
})

t.test('an old connection gets the shutdown notice and 1012, not all at once', async (t) => {
  const ends: End[] = []
  const ages: number[] = []
  const { url } = await startApp(t, {
    ...quickSweep,
    maxConnectionAge: '1s',
    onDisconnect: ({ connectedAt }, end) => {
      ends.push(end)
      ages.push(Date.now() - connectedAt)
    }
  })
  const clients = await Promise.all(Array.from({ length: 20 }, () => connect(t, `${url}/ws`)))
  for (const client of clients) {
    t.strictSame(await client.closed, { code: 1012, reason: 'connection is old, connect again' })
    t.strictSame(client.messages.map(message => JSON.parse(String(message))), [{ type: 'shutdown', message: 'connection is old, connect again', reconnect: true }])
  }
  await until(() => ends.length === 20, 'onDisconnect')
  t.ok(ends.every(({ cause }) => cause === 'deadline'))
  t.ok(ages.every(age => age >= 890), 'at most a tenth early')
})

t.test('the age at which connections are closed is spread over a tenth', async (t) => {
  const { app, url } = await startApp(t, { maxConnectionAge: '50m' })
  await Promise.all(Array.from({ length: 50 }, () => connect(t, `${url}/ws`)))
  const ages = connectionsOf(app).map(({ connectedAt, deadline }) => deadline - connectedAt)
  t.ok(ages.every(age => age > 44.9 * 60_000 && age <= 50 * 60_000 + 1_000))
  t.ok(Math.max(...ages) - Math.min(...ages) > 60_000)
  const never = await startApp(t, { maxConnectionAge: false })
  await connect(t, `${never.url}/ws`)
  t.equal(connectionsOf(never.app)[0]!.deadline, Infinity)
})

t.test('a peer that does not answer a close is cut', async (t) => {
  const ends: End[] = []
  const { app, url } = await startApp(t, { ...quickSweep, onDisconnect: (_connection, end) => { ends.push(end) } })
  const raw = await openRaw(t, url)
  raw.socket.write(upgradeRequest('/ws'))
  await raw.head()
  const [connection] = connectionsOf(app)
  connection!.close(4000, 'go')
  await raw.ended
  await until(() => ends.length === 1, 'onDisconnect')
  t.match(ends, [{ code: 4000, reason: 'go', cause: 'server' }])
})

t.test('a connection that breaks is abnormal', async (t) => {
  const ends: End[] = []
  const { url } = await startApp(t, { onDisconnect: (_connection, end) => { ends.push(end) } })
  const client = await connect(t, `${url}/ws`)
  client.socket.terminate()
  await until(() => ends.length === 1, 'onDisconnect')
  const raw = await openRaw(t, url)
  raw.socket.write(upgradeRequest('/ws'))
  await raw.head()
  raw.socket.resetAndDestroy()
  await until(() => ends.length === 2, 'onDisconnect')
  t.strictSame(ends, Array(2).fill({ code: 1006, reason: '', cause: 'abnormal' }))
  const silent = await connect(t, `${url}/ws`)
  silent.socket.close()
  await until(() => ends.length === 3, 'onDisconnect')
  t.strictSame(ends[2], { code: 1005, reason: '', cause: 'client' })
})

t.test('messages that were under way when the server closed are still handled', async (t) => {
  const handled: unknown[] = []
  const { app, url } = await startApp(t, { onMessage: (_connection, data) => { handled.push(data) } })
  const raw = await openRaw(t, url)
  raw.socket.write(upgradeRequest('/ws'))
  await raw.head()
  const [connection] = connectionsOf(app)
  connection!.close()
  raw.socket.write(frame(TEXT, 'last'))
  await until(() => handled.length === 1, 'the last message')
  t.strictSame(handled, ['last'])
})

t.test('who was disconnected is not heard any more, though it goes on sending', async (t) => {
  const handled: unknown[] = []
  const { app, url } = await startApp(t, {
    authenticate: () => ({ user: 'troll' }),
    onMessage: (_connection, data) => { handled.push(data) }
  })
  const raw = await openRaw(t, url)
  raw.socket.write(upgradeRequest('/ws'))
  await raw.head()
  await app.realtime.disconnect('troll')
  const [connection] = connectionsOf(app)
  await until(() => connection?.open === false, 'it is closing')
  const { received } = connection!
  for (let i = 0; i < 5; i++) raw.socket.write(frame(TEXT, 'and another thing'))
  await until(() => connection!.received === received + 5, 'all of it has come')
  t.strictSame(handled, [])
})

t.test('what was queued behind a message whose handler fails later is not handled', async (t) => {
  const handled: unknown[] = []
  const { promise, reject } = withResolvers()
  const { app, url } = await startApp(t, {
    onMessage: (_connection, data) => {
      handled.push(data)
      return promise
    }
  })
  const client = await connect(t, `${url}/ws`)
  for (let i = 1; i <= 10; i++) client.send(String(i))
  const [connection] = connectionsOf(app)
  await until(() => connection!.received === 10, 'all are here')
  reject(new Error('boom'))
  t.match(await client.closed, { code: 1011 })
  t.strictSame(handled, ['1'])
})

function withResolvers () {
  let reject: (error: Error) => void = () => {}
  const promise = new Promise<void>((_resolve, _reject) => { reject = _reject })
  return { promise, reject }
}

t.test('where the host compresses messages, publications are compressed too, in order with all else', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(websocket, { options: { perMessageDeflate: { threshold: 0 } } })
  await app.register(cloudRunWebSocket, {
    shutdown: { signals: false, timeout: 2_000 },
    async onConnect (connection) {
      await connection.subscribe('news')
      connection.send('ready')
    },
    async onMessage (connection) {
      for (let i = 0; i < 20; i++) await app.realtime.publish('news', `publication ${i}`)
      connection.send('done')
    }
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const client = await connect(t, `ws://127.0.0.1:${(app.server.address() as AddressInfo).port}/ws`, { perMessageDeflate: true })
  t.match(client.socket.extensions, /permessage-deflate/)
  t.equal(await client.next(), 'ready')
  client.send('go')
  for (let i = 0; i < 20; i++) t.equal(await client.next(), `publication ${i}`)
  t.equal(await client.next(), 'done')
})
