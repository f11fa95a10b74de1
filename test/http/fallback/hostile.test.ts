import Fastify from 'fastify'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { setImmediate as turnOfEventLoop } from 'node:timers/promises'
import t from 'tap'
import cloudRunWebSocket from '../../../index.ts'
import type { Options } from '../../../index.ts'
import { startApp } from '../../helpers/app.ts'
import { connectionsOf } from '../../helpers/connections.ts'
import { openRaw } from '../../helpers/raw-socket.ts'
import type { RawSocket } from '../../helpers/raw-socket.ts'
import { until } from '../../helpers/until.ts'

const options: Options = { fallback: true, channels: { news: { subscribe: true } }, shutdown: { signals: false, timeout: 500 } }
const connect = '{"id":1,"connect":{}}'

/** A request of each transport that opens a stream. */
const requests: ReadonlyArray<readonly [transport: string, request: string]> = [
  ['http_stream', `POST /connection/http_stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${connect.length}\r\n\r\n${connect}`],
  ['sse', `GET /connection/sse?cf_connect=${encodeURIComponent(connect)} HTTP/1.1\r\nHost: localhost\r\n\r\n`],
  ['uni_sse', 'GET /connection/uni_sse?channel=news:a HTTP/1.1\r\nHost: localhost\r\n\r\n']
]

for (const [transport, request] of requests) {
  t.test(`a client that has gone before its stream opens holds no place, over ${transport}`, async (t) => {
    for (const authenticate of [undefined, () => ({ user: 'ada' }), async () => ({ user: 'ada' })]) {
      const app = Fastify()
      t.teardown(() => app.close())
      const clients: RawSocket[] = []
      let went = false
      app.addHook('preValidation', async ({ raw: { socket } }) => {
        const closed = once(socket, 'close')
        clients[0]!.socket.destroy()
        await closed
        went = true
      })
      await app.register(cloudRunWebSocket, { ...options, ...(authenticate && { authenticate }) })
      await app.listen({ port: 0, host: '127.0.0.1' })
      clients.push(await openRaw(t, `ws://127.0.0.1:${(app.server.address() as AddressInfo).port}`))
      clients[0]!.socket.write(request)
      await until(() => went, 'it has gone, and its request goes on')
      await turnOfEventLoop()
      t.equal(connectionsOf(app).length, 0)
    }
  })

  t.test(`a stream that would wait behind another response in its socket is refused, over ${transport}`, async (t) => {
    const app = Fastify()
    t.teardown(() => app.close())
    let answer = () => {}
    app.get('/slow', (_request, reply) => { answer = () => { reply.send('late') } })
    await app.register(cloudRunWebSocket, options)
    await app.listen({ port: 0, host: '127.0.0.1' })
    let handled = 0
    app.server.on('request', () => { handled++ })
    const { socket, received } = await openRaw(t, `ws://127.0.0.1:${(app.server.address() as AddressInfo).port}`)
    socket.write(`GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n${request}`)
    await until(() => handled === 2, 'both have come')
    await turnOfEventLoop()
    answer()
    await until(() => received().includes('HTTP/1.1 400'), 'it is refused')
    t.equal(connectionsOf(app).length, 0)
  })

  t.test(`a client that asks behind its stream is cut off, over ${transport}`, async (t) => {
    const { app, url } = await startApp(t, options)
    const other = 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'
    const early = await openRaw(t, url)
    early.socket.write(request + other)
    await early.ended
    t.equal(connectionsOf(app).length, 0, 'its stream has not begun')
    const late = await openRaw(t, url)
    late.socket.write(request)
    await until(() => late.received().includes('connect'), 'the stream is open')
    late.socket.write(other.repeat(100))
    await late.ended
    await until(() => connectionsOf(app).length === 0, 'no connection is left')
  })

  t.test(`the socket of a stream that has ended serves other requests, over ${transport}`, async (t) => {
    const { app, url } = await startApp(t, options)
    const { socket, received } = await openRaw(t, url)
    socket.write(request)
    await until(() => received().includes('connect'), 'the stream is open')
    connectionsOf(app)[0]!.close()
    await until(() => received().toString().endsWith('0\r\n\r\n'), 'it has ended')
    socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
    await until(() => received().includes('HTTP/1.1 404'), 'it is answered')
    socket.destroy()
  })
}
