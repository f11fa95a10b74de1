import { randomBytes } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { request } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { Writable } from 'node:stream'
import t from 'tap'
import type { ClientSocket } from '../../lib/core/client-socket.ts'
import { Outbox } from '../../lib/core/outbox.ts'
import { startApp } from '../helpers/app.ts'
import { connectionsOf } from '../helpers/connections.ts'
import { httpOf } from '../helpers/streams.ts'
import { until } from '../helpers/until.ts'
import { connect } from '../helpers/ws-client.ts'

t.test('publications of every length arrive whole, also those of one turn together', async (t) => {
  const { app, url } = await startApp(t, {
    async onConnect (connection) {
      await connection.subscribe('news')
      connection.send('ready')
    }
  })
  const client = await connect(t, `${url}/ws`)
  t.equal(await client.next(), 'ready')
  const texts = [0, 1, 125, 126, 65_535, 65_536, 200_000].map(length => 'x'.repeat(length))
  await Promise.all(texts.map(text => app.realtime.publish('news', text)))
  for (const text of texts) t.equal((await client.next()).length, text.length)
  await app.realtime.publish('news', Buffer.alloc(70_000, 7))
  t.strictSame(await client.next(), Buffer.alloc(70_000, 7))
})

t.test('a stream that the client reads slowly goes on after publications in several of its channels', async (t) => {
  const { app, url } = await startApp(t, { fallback: true, maxBufferedBytes: 64_000_000, channels: { '': { subscribe: true } } })
  const asked = request(`${httpOf(url)}/connection/uni_sse?channel=a&channel=b`, { agent: false }).end()
  const [response] = await once(asked, 'response') as [IncomingMessage]
  t.teardown(() => asked.destroy())
  const [connection] = connectionsOf(app)
  while (connection!.outbox.bufferedBytes === 0) await app.realtime.publish('a', 'x'.repeat(1_000_000))
  await Promise.all([app.realtime.publish('a', 'first'), app.realtime.publish('b', 'first')])
  await app.realtime.publish('a', 'last')
  let end = ''
  response.on('data', (bytes: Buffer) => { end = (end + bytes.toString()).slice(-1_000) })
  await until(() => end.includes('"last"') && end.includes('{"channel":"b","data":"first"}'), 'the last publications')
})

t.test('a client that owes too much is said to be slow once', async (t) => {
  const { app, url } = await startApp(t, { compression: true, maxBufferedBytes: 1_000 })
  const client = await connect(t, `${url}/ws`)
  client.socket.pause()
  const [connection] = connectionsOf(app)
  let slow = 0
  const tooSlow = connection!.tooSlow.bind(connection)
  connection!.tooSlow = bytes => {
    slow++
    tooSlow(bytes)
  }
  while (connection!.open) connection!.send(randomBytes(1_000_000))
  t.equal(slow, 1)
})

t.test('of a response the socket is corked', async (t) => {
  const socket = new Writable()
  const response = Object.assign(new Writable({ write: () => {} }), { socket })
  const client = Object.assign(new EventEmitter(), { readyState: 1, bufferedAmount: 0, _socket: response })
  const owner = { logsMessages: false, frameSent () {}, tooSlow () {}, drained () {} }
  const outbox = new Outbox(client as unknown as ClientSocket, owner, 1_000)
  outbox.cork()
  t.strictSame([response.writableCorked, socket.writableCorked], [0, 1])
  outbox.uncork()
  t.strictSame([response.writableCorked, socket.writableCorked], [0, 0])
})

t.test('what was not corked is not uncorked', async (t) => {
  // From Node.js 22 on a response that is uncorked once too often keeps what it is given.
  let corked = 0
  class Output extends Writable {
    override cork () { corked++ }
    override uncork () { corked-- }
    override _write () {} // never done: it is owed to the client
  }
  const output = new Output()
  const send = (payload: Buffer) => output.write(payload)
  const socket = Object.assign(new EventEmitter(), { readyState: 1, bufferedAmount: 0, send, _socket: output })
  const owner = { logsMessages: false, frameSent () {}, tooSlow () {}, drained () {} }
  const outbox = new Outbox(socket as unknown as ClientSocket, owner, 1_000)
  outbox.cork()
  outbox.cork()
  t.equal(corked, 1)
  outbox.write({ payload: Buffer.from('x'), binary: false })
  t.equal(corked, 0, 'what is held back is not outstanding, and a congested output is not corked')
  outbox.uncork()
  outbox.cork()
  outbox.write({ payload: Buffer.from('x'), binary: false })
  outbox.uncork()
  t.equal(corked, 0)
})
