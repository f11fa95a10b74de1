import t from 'tap'
import type { Test } from 'tap'
import type { Connection, Options } from '../../../index.ts'
import { startApp } from '../../helpers/app.ts'
import { collectLog } from '../../helpers/log.ts'
import { sdkClient } from '../../helpers/sdk.ts'
import { until } from '../../helpers/until.ts'
import { connect } from '../../helpers/ws-client.ts'
import type { Client } from '../../helpers/ws-client.ts'

async function start (t: Test, options: Options = {}) {
  const log = collectLog()
  const { app, url } = await startApp(t, { redis: false, ...options }, { logger: log.logger })
  const client = await connect(t, `${url}/ws`)
  const [connection] = app.realtime.connections as Iterable<Connection>
  const failures = () => log.entries.filter(({ level }) => level >= 40)
  return { app, url, client, connection: connection!, failures }
}

const nextRequest = async (client: Client) => JSON.parse(String(await client.next()))
const send = (client: Client, message: object) => client.send(JSON.stringify(message))

t.test('the server asks a client, and the client answers', async (t) => {
  const seen: unknown[] = []
  const { client, connection, failures } = await start(t, { onMessage: (_connection, data) => { seen.push(data) } })
  const first = connection.request('confirm', { amount: 5 })
  const second = connection.request('name', undefined, { timeout: '1m' })
  const asked = [await nextRequest(client), await nextRequest(client)]
  t.match(asked, [{ id: String, method: 'confirm', data: { amount: 5 } }, { id: String, method: 'name' }])
  t.notOk('data' in asked[1])
  send(client, { id: asked[1].id, result: 'Ann' })
  send(client, { id: asked[0].id, result: { yes: true } })
  t.strictSame(await Promise.all([first, second]), [{ yes: true }, 'Ann'])

  const bytes = connection.request('bytes', Buffer.from([0, 255]))
  const { id } = await nextRequest(client)
  t.match(JSON.parse(String(client.messages.at(-1))), { data: 'AP8=', encoding: 'base64' })
  send(client, { id })
  t.equal(await bytes, undefined, 'an answer may be empty')
  client.send('{"id":"server-1","result":"again"}')
  await until(() => seen.length === 1, 'what nobody has asked for is a message like any other')
  t.strictSame(failures(), [])
})

t.test('a handler may await an answer, whatever the client has sent before it', async (t) => {
  const seen: string[] = []
  const { client } = await start(t, {
    onConnect: async connection => { seen.push(`hello ${await connection.request('name')}`) },
    onMessage: async (connection, data) => {
      seen.push(String(data))
      if (data === 'ask') seen.push(String(await connection.request('more')))
    },
    rateLimit: false
  })
  const { id } = await nextRequest(client)
  for (let i = 0; i < 100; i++) client.send(String(i)) // the socket would be paused at 64
  send(client, { id, result: 'Ann' })
  await until(() => seen.length === 101, 'all are handled')
  t.strictSame(seen, ['hello Ann', ...Array.from({ length: 100 }, (_, i) => String(i))])
  client.send('ask')
  client.send('behind')
  const { id: more } = await nextRequest(client)
  send(client, { id: more, result: 'much' })
  await until(() => seen.at(-1) === 'behind', 'the message behind')
  t.strictSame(seen.slice(-3), ['ask', 'much', 'behind'])
})

t.test('a request that is made while the socket is paused gets its answer', async (t) => {
  let go = () => {}
  const gate = new Promise<void>(resolve => { go = resolve })
  const seen: unknown[] = []
  const { client, connection } = await start(t, {
    onMessage: async (connection, data) => {
      if (data !== 'first') return seen.push(data)
      await gate
      seen.push(await connection.request('late'))
    },
    rateLimit: false
  })
  client.send('first')
  for (let i = 0; i < 80; i++) client.send('more')
  await until(() => (connection as Connection & { paused: boolean }).paused, 'the socket is paused')
  go()
  const { id } = await nextRequest(client)
  send(client, { id, result: 'in time' })
  await until(() => seen.length === 81, 'all are handled')
  t.equal(seen[0], 'in time')
})

t.test('every failure has its code', async (t) => {
  const { client, connection, failures, url, app } = await start(t)
  await t.rejects(connection.request('slow', undefined, { timeout: 20 }), { code: 'FST_CRWS_REQUEST_TIMEOUT', message: /slow within 20 ms/ })
  const { id: late } = await nextRequest(client)
  send(client, { id: late, result: 'ignored' }) // without onMessage a message would close with 1003

  const answers: Array<[object, object]> = [
    [{ error: { code: 409, message: 'taken' } }, { code: 409, message: 'taken' }],
    [{ error: 'text' }, { code: 100, message: 'error' }],
    [{ error: { code: 'x', message: {} } }, { code: 100, message: 'error' }],
    [{ error: { code: 1, message: 'x'.repeat(1_000) } }, { code: 1, message: 'x'.repeat(255) }],
    [JSON.parse('{"result":{"__proto__":{"admin":true}}}'), { code: 107, message: /prototype/ }],
    [{ result: JSON.parse(`${'['.repeat(2_000)}${']'.repeat(2_000)}`) }, { code: 107, message: /nested too deep/ }]
  ]
  for (const [answer, reply] of answers) {
    const asked = connection.request('confirm')
    const { id } = await nextRequest(client)
    send(client, { id, ...answer })
    await t.rejects(asked, { code: 'FST_CRWS_REQUEST_REFUSED', reply }, JSON.stringify(reply))
  }
  await t.rejects(connection.request(''), { code: 'FST_CRWS_INVALID_ARGUMENT' })
  await t.rejects(connection.request('x', 1n), { code: 'FST_CRWS_INVALID_DATA' })
  await t.rejects(connection.request('x', 1, { timeout: 'soon' }), { code: 'FST_CRWS_INVALID_ARGUMENT' })
  await t.rejects(connection.request('x', 1, { timeOut: 1 } as object), { code: 'FST_CRWS_INVALID_ARGUMENT', message: /timeout/ })

  const unset = connection.request('confirm')
  send(client, { ...await nextRequest(client), result: 'yes', error: null, method: null, subscribe: null })
  t.equal(await unset, 'yes', 'null is a field that was not set')

  const pending = Array.from({ length: 64 }, () => connection.request('many'))
  await t.rejects(connection.request('one more'), { code: 'FST_CRWS_REQUEST_LIMIT' })
  const settled = Promise.allSettled(pending)
  client.socket.close()
  for (const one of await settled) t.match(one, { status: 'rejected', reason: { code: 'FST_CRWS_CONNECTION_CLOSED' } })
  await t.rejects(connection.request('gone'), { code: 'FST_CRWS_CONNECTION_CLOSED' })

  const sdk = await sdkClient(t, url, 'json').connected()
  const [ofSdk] = app.realtime.connections as Iterable<Connection>
  await t.rejects(ofSdk!.request('x'), { code: 'FST_CRWS_REQUEST_UNSUPPORTED', message: /option methods/ })
  t.equal(ofSdk!.id, sdk.id)
  const caused = failures().filter(({ call, err }) => call !== 'request' || /TIMEOUT|REFUSED|CLOSED/.test(err.code))
  t.strictSame(caused, [], 'what a client causes is in no entry')
})

t.test('a handler that lets the failure of a request pass has not failed: the connection goes on', async (t) => {
  const seen: unknown[] = []
  const { client, failures } = await start(t, {
    methods: { ask: { handler: connection => connection.request('confirm') } },
    onMessage: async (connection, data) => {
      seen.push(data)
      await connection.request('confirm')
    }
  })
  for (const message of ['one', 'two']) {
    client.send(message)
    const { id } = await nextRequest(client)
    send(client, { id, error: { code: 1, message: 'no' } })
  }
  send(client, { id: 7, method: 'ask' })
  const { id } = await nextRequest(client)
  send(client, { id, error: { code: 1, message: 'no' } })
  t.strictSame(await nextRequest(client), { id: 7, error: { code: 100, message: 'internal server error' } })
  t.strictSame(seen, ['one', 'two'])
  t.strictSame(failures(), [])
  t.equal(client.socket.readyState, client.socket.OPEN)
})

t.test('a command is no answer, whatever its id', async (t) => {
  const { client, connection } = await start(t, {
    plain: { envelope: true },
    channels: { room: { subscribe: true, publish: true } },
    methods: { twice: { handler: (_connection, data) => [data, data] } }
  })
  const asked = connection.request('confirm')
  const { id } = await nextRequest(client)
  send(client, { id, subscribe: 'room:1' })
  t.strictSame(await nextRequest(client), { id, result: {} })
  send(client, { id, unsubscribe: 'room:1' })
  t.strictSame(await nextRequest(client), { id, result: {} })
  send(client, { id, publish: 'room:1', data: 1 })
  t.strictSame(await nextRequest(client), { id, result: {} })
  send(client, { id, method: 'twice', data: 1 })
  t.strictSame(await nextRequest(client), { id, result: [1, 1] })
  send(client, { id, result: 'ok' })
  t.equal(await asked, 'ok')
})

t.test('hostile answers harm nobody, and late ones are ignored', async (t) => {
  const seen: unknown[] = []
  const { client, connection, failures } = await start(t, { onMessage: (_connection, data) => { seen.push(data) } })
  const asked = connection.request('confirm')
  const { id } = await nextRequest(client)
  const junk = [
    `{"id":"${id}`, `"${id}"`, `["${id}"]`, `{"id":["${id}"],"result":1}`, '{"id":"server-999","result":1}', `{"id":"${id}","method":"x"}`,
    `{"x":"${id}","result":1}`, 'null'
  ]
  for (const text of junk) client.send(text)
  client.send(Buffer.from(JSON.stringify({ id, result: 1 })))
  await until(() => seen.length === junk.length + 1, "they are the app's messages")
  send(client, { id, result: 'ok' })
  t.equal(await asked, 'ok')
  for (const count of [64, 6]) {
    const outcome = await Promise.allSettled(Array.from({ length: count }, (_, i) => connection.request('slow', i, { timeout: 20 })))
    t.strictSame(new Set(outcome.map(({ status }) => status)), new Set(['rejected']))
  }
  await until(() => client.messages.length === 71, 'all were asked')
  const before = seen.length
  const ids = client.messages.slice(1).map(text => JSON.parse(String(text)).id)
  for (const late of ids.slice(-64)) send(client, { id: late, result: 'late' })
  client.send('end')
  await until(() => seen.at(-1) === 'end', 'the end')
  t.equal(seen.length, before + 1, 'of late answers the last 64 are known, and ignored')
  t.strictSame(failures(), [])
})
