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

  t.test(`a stream that would wait behind another one in its socket is refused, over ${transport}`, async (t) => {
    const { app, url } = await startApp(t, options)
    const { socket, received } = await openRaw(t, url)
    socket.write(request.repeat(3))
    await until(() => received().includes('connect'), 'the first is open')
    await turnOfEventLoop()
    t.equal(connectionsOf(app).length, 1)
    connectionsOf(app)[0]!.close()
    await until(() => received().toString().split('HTTP/1.1 400').length === 3, 'the others are refused')
    socket.destroy()
    await until(() => connectionsOf(app).length === 0, 'no connection is left')
  })
}
