import { once } from 'node:events'
import t from 'tap'
import { ClientError } from '../../index.ts'
import type { Options } from '../../index.ts'
import { startApp } from '../helpers/app.ts'
import { collectLog } from '../helpers/log.ts'
import { frame, openRaw, PING, TEXT, upgradeRequest } from '../helpers/raw-socket.ts'
import { encodings, sdkClient } from '../helpers/sdk.ts'
import { until } from '../helpers/until.ts'
import { connect, rejected } from '../helpers/ws-client.ts'

/** Sweeps often. */
const heartbeat = { interval: '10s', timeout: 50 }

/** Refuses with the code in the header x-code. Any other client is let in. */
const refusing: Options['authenticate'] = ({ headers }) => {
  if (headers['x-code'] !== undefined) throw new ClientError(Number(headers['x-code']), 'sign in again')
  return { user: 'ann' }
}
const refused = { headers: { 'x-code': '4401' } }

t.test('an authenticate that throws a close code keeps SDK clients out, and they are told why', async (t) => {
  for (const [code, reason] of [[4501, 'sign in again'], [3500, 'session expired'], [4999, '']] as const) {
    const { app, url } = await startApp(t, { authenticate: () => { throw new ClientError(code, reason) } })
    for (const encoding of encodings) {
      const client = sdkClient(t, url, encoding)
      t.strictSame(await client.disconnected(), { code, reason: reason || 'closed by the server' }, encoding)
      t.equal(client.client.state, 'disconnected')
      t.equal(client.events.connecting.length, 1, 'it has not tried again')
      t.equal(client.events.connected.length, 0)
    }
    t.equal([...app.realtime.connections].length, 0)
  }
})

t.test('below 3500 and from 4000 to 4499 SDK clients come back, and get in when they may', async (t) => {
  for (const code of [3000, 4401]) {
    let times = 0
    const { url } = await startApp(t, {
      authenticate: () => {
        if (times++ === 0) throw new ClientError(code, 'not yet')
        return { user: 'ann' }
      }
    })
    const client = sdkClient(t, url, 'json')
    await client.connected()
    t.equal(times, 2)
    t.equal(client.events.disconnected.length, 0)
  }
})

t.test('a plain client is told code and reason, no handler sees it, and the log says why it was rejected', async (t) => {
  const { logger, entries } = collectLog()
  const calls: string[] = []
  const { url } = await startApp(t, {
    authenticate: refusing,
    onConnect: () => { calls.push('onConnect') },
    onMessage: () => { calls.push('onMessage') },
    onDisconnect: () => { calls.push('onDisconnect') }
  }, { logger })
  const client = await connect(t, `${url}/ws?token=secret`, refused)
  client.send('hello')
  t.strictSame(await client.closed, { code: 4401, reason: 'sign in again' })
  t.strictSame(client.messages, [])
  t.strictSame(calls, [])
  const events = entries.filter(({ event }) => event !== undefined && event !== 'plugin.started')
  t.match(events, [{
    event: 'connection.rejected', level: 40, error: 'auth', code: 4401, path: '/ws', msg: 'WebSocket connection to /ws rejected (auth): sign in again'
  }])
  t.equal(events.length, 1)
})

t.test('a refused client that does not answer is cut within seconds, and holds a place until then', async (t) => {
  const { app, url } = await startApp(t, { maxConnections: 1, authenticate: refusing })
  const silent = await openRaw(t, url)
  silent.socket.write(upgradeRequest('/ws', { 'x-code': '4401' }))
  t.match(await silent.head(), /^HTTP\/1.1 101 /)
  t.match(await rejected(`${url}/ws`), { statusCode: 503, body: /FST_CRWS_CAPACITY/ })
  t.equal((await app.inject('/ready')).statusCode, 503)
  await silent.ended
  await until(() => connect(t, `${url}/ws`).then(() => true, () => false), 'there is room')
  t.match(await rejected(`${url}/ws`, refused), { statusCode: 503 }, 'a full instance asks nobody who it is')
})

t.test('refused clients that do not answer hold no more than a tenth of the places; others are refused with 401', async (t) => {
  const { logger, entries } = collectLog()
  const { url } = await startApp(t, { maxConnections: 20, authenticate: refusing }, { logger })
  const silent = await Promise.all([openRaw(t, url), openRaw(t, url)])
  for (const { socket, head } of silent) {
    socket.write(upgradeRequest('/ws', { 'x-code': '4401' }))
    t.match(await head(), /^HTTP\/1.1 101 /)
  }
  t.match(await rejected(`${url}/ws`, refused), { statusCode: 401, body: /sign in again/ })
  t.match(entries.filter(({ event }) => event === 'connection.rejected').at(-1), { error: 'auth', code: 4401, httpRequest: undefined })
  await connect(t, `${url}/ws`)
  await Promise.all(silent.map(({ ended }) => ended))
  t.match(await (await connect(t, `${url}/ws`, refused)).closed, { code: 4401 })
})

t.test('a refused client that goes on sending is cut at once', async (t) => {
  const { url } = await startApp(t, { authenticate: refusing })
  for (const opcode of [TEXT, PING]) {
    const raw = await openRaw(t, url)
    raw.socket.write(upgradeRequest('/ws', { 'x-code': '4401' }))
    await raw.head()
    const sending = setInterval(() => raw.socket.write(frame(opcode, 'x')), 5)
    await once(raw.socket, 'close')
    clearInterval(sending)
  }
  const invalid = await openRaw(t, url)
  invalid.socket.write(upgradeRequest('/ws', { 'x-code': '4401' }))
  await invalid.head()
  invalid.socket.write(frame(TEXT, 'x', { masked: false }))
  await invalid.ended
})

t.test('refused clients count for the limit of their address', async (t) => {
  const { url } = await startApp(t, { authenticate: refusing, rateLimit: { connections: { max: 2, timeWindow: '1m' } } })
  for (let i = 0; i < 2; i++) t.match(await (await connect(t, `${url}/ws`, refused)).closed, { code: 4401 })
  t.match(await rejected(`${url}/ws`, refused), { statusCode: 429 })
})

t.test('app.close() does not wait for refused clients longer than for others, and lets none in', async (t) => {
  const { logger, entries } = collectLog()
  let release = () => {}
  const held = new Promise<void>(resolve => { release = resolve })
  const { app, url } = await startApp(t, {
    shutdown: { signals: false, timeout: 1_000 },
    authenticate: async ({ headers }) => {
      if (headers['x-wait'] !== undefined) await held
      throw new ClientError(4501, 'sign in again')
    }
  }, { logger })
  const silent = await openRaw(t, url)
  silent.socket.write(upgradeRequest('/ws'))
  await silent.head()
  const late = rejected(`${url}/ws`, { headers: { 'x-wait': '1' } })
  await until(() => entries.filter(({ req }) => req?.url === '/ws').length === 2, 'the second upgrade')
  const closing = app.close()
  await until(() => entries.some(({ event }) => event === 'drain.started'), 'the drain')
  release()
  t.match(await late, { statusCode: 503 })
  await Promise.all([closing, silent.ended])
})

t.test('onConnect may refuse with a close code too, and what the client has sent is not handled', async (t) => {
  const { logger, entries } = collectLog()
  const calls: unknown[] = []
  const { url } = await startApp(t, {
    heartbeat,
    onConnect: async () => {
      await new Promise(resolve => setImmediate(resolve))
      throw new ClientError(4501, 'no seat for you')
    },
    onMessage: (_connection, data) => { calls.push(data) },
    onDisconnect: (_connection, end) => { calls.push(end) }
  }, { logger })
  const client = await connect(t, `${url}/ws`)
  client.send('hello')
  t.strictSame(await client.closed, { code: 4501, reason: 'no seat for you' })
  for (const encoding of encodings) {
    const sdk = sdkClient(t, url, encoding)
    t.strictSame(await sdk.disconnected(), { code: 4501, reason: 'no seat for you' })
    t.equal(sdk.events.connecting.length, 1)
  }
  await until(() => calls.length === 3, 'onDisconnect')
  t.strictSame(calls, Array(3).fill({ code: 4501, reason: 'no seat for you', cause: 'server' }))
  t.strictSame(entries.filter(({ level }) => level >= 40), [])
})

t.test('on the plain route a ClientError without a close code closes with 1008 and its text; it is no error of the app', async (t) => {
  const { logger, entries } = collectLog()
  let text = 'the room is full'
  const { url } = await startApp(t, {
    onConnect: (_connection, { headers }) => { if (headers['x-full'] !== undefined) throw new ClientError(403, text) },
    onMessage: async () => { throw new ClientError(400, text) }
  }, { logger })
  t.strictSame(await (await connect(t, `${url}/ws`, { headers: { 'x-full': '1' } })).closed, { code: 1008, reason: text })
  text = 'ü'.repeat(100)
  const client = await connect(t, `${url}/ws`)
  client.send('x')
  t.strictSame(await client.closed, { code: 1008, reason: 'ü'.repeat(61) })
  t.strictSame(entries.filter(({ level }) => level >= 40), [])
})

t.test('a close code that another handler of an SDK client throws ends its connection', async (t) => {
  const { url } = await startApp(t, { onRpc: () => { throw new ClientError(4501, 'banned') } })
  for (const encoding of encodings) {
    const sdk = sdkClient(t, url, encoding)
    await sdk.connected()
    sdk.rpc('x', {}).catch(() => {})
    t.strictSame(await sdk.disconnected(), { code: 4501, reason: 'banned' })
  }
})

t.test('a ClientError whose text comes from the client is no error of the app', async (t) => {
  const { logger, entries } = collectLog()
  const { url } = await startApp(t, {
    authenticate: ({ headers }) => {
      if (headers['x-room'] !== undefined) throw new ClientError(4404, String(headers['x-room']))
      return {}
    },
    onMessage: (_connection, data) => { throw new ClientError(4400, String(data)) }
  }, { logger })
  t.strictSame(await (await connect(t, `${url}/ws`, { headers: { 'x-room': '7' } })).closed, { code: 4404, reason: '7.' })
  for (const [text, reason] of [['null', 'null.'], ['x'.repeat(500), 'x'.repeat(123)]] as const) {
    const client = await connect(t, `${url}/ws`)
    client.send(text)
    t.strictSame(await client.closed, { code: 4400, reason })
  }
  t.strictSame(entries.filter(({ level }) => level >= 50), [])
})
