import Fastify from 'fastify'
import type { FastifyRequest } from 'fastify'
import type { AddressInfo } from 'node:net'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import cloudRunWebSocket from '../../../index.ts'
import { connectionsOf } from '../../helpers/connections.ts'
import { openRaw } from '../../helpers/raw-socket.ts'
import { openStream } from '../../helpers/streams.ts'
import { until } from '../../helpers/until.ts'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

t.test('the body of a request leaves the memory before the request does: while its stream is open, or a post waits', async (t) => {
  const brought: Array<WeakRef<object>> = []
  const app = Fastify()
  t.teardown(() => app.close())
  app.addHook('preParsing', (_request, _reply, payload, done) => {
    payload.on('data', (chunk: Buffer) => brought.push(new WeakRef(chunk)))
    done()
  })
  const requests: FastifyRequest[] = []
  app.addHook('preHandler', async (request) => {
    brought.push(new WeakRef(request.body as Buffer))
    requests.push(request)
  })
  await app.register(cloudRunWebSocket, {
    fallback: true,
    shutdown: { signals: false, timeout: 500 },
    onMessage: () => new Promise(() => {})
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const url = `ws://127.0.0.1:${(app.server.address() as AddressInfo).port}`
  const gone = async () => {
    await until(() => {
      collectGarbage()
      return brought.every(one => one.deref() === undefined)
    }, 'they are gone')
    brought.length = 0
  }

  const stream = await openStream(t, url)
  const { session, node } = (await stream.reply(1)).connect
  await gone()
  const send = { send: { data: 1 } }
  for (let i = 0; i <= 64; i++) await stream.post(send)
  t.ok(connectionsOf(app)[0]!.paused)
  await gone()
  const { socket } = await openRaw(t, url)
  const body = JSON.stringify({ session, node, data: JSON.stringify(send), more: 'x'.repeat(100_000) })
  socket.write(`POST /emulation HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`)
  await until(() => requests.length === 67, 'the post waits')
  await gone()
})
