import Fastify from 'fastify'
import type { FastifyInstance } from 'fastify'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { request } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { connect as connectTls } from 'node:tls'
import t from 'tap'
import cloudRunWebSocket from '../../index.ts'
import { startApp } from '../helpers/app.ts'
import { createAuthority } from '../helpers/certificates.ts'

// Node.js would wait for a minute, and so would these tests.
t.setTimeout(30_000)

t.test('a socket in which nothing has come does not keep the app open', async (t) => {
  const { app } = await startApp(t)
  const accepted = once(app.server, 'connection')
  const socket = connect(portOf(app))
  await Promise.all([accepted, once(socket, 'connect')])
  const closed = once(socket, 'close')
  await app.close()
  await closed
})

t.test('a request that is under way is answered', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  let answer = (_text: string): void => {}
  const arrived = new Promise<void>((resolve) => {
    app.get('/', () => {
      resolve()
      return new Promise<string>(resolve => { answer = resolve })
    })
  })
  await app.register(cloudRunWebSocket, { shutdown: { signals: false, timeout: 500 } })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const silent = connect(portOf(app))
  await once(silent, 'connect')
  const asked = request({ port: portOf(app), agent: false }).end()
  const response = once(asked, 'response') as Promise<[IncomingMessage]>
  await arrived
  const closing = app.close()
  await once(silent, 'close')
  answer('all of it')
  t.equal(await text((await response)[0]), 'all of it')
  await closing
})

t.test('the same over TLS', async (t) => {
  const { cert, key } = await (await createAuthority(t)).issue({ cn: 'localhost' })
  const https = { cert: await readFile(cert), key: await readFile(key) }
  const app = Fastify({ https }) as unknown as FastifyInstance
  t.teardown(() => app.close())
  await app.register(cloudRunWebSocket, { shutdown: { signals: false, timeout: 500 } })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const accepted = once(app.server, 'secureConnection')
  const socket: Socket = connectTls({ port: portOf(app), rejectUnauthorized: false })
  await Promise.all([accepted, once(socket, 'secureConnect')])
  const closed = once(socket, 'close')
  await app.close()
  await closed
})

function portOf (app: FastifyInstance): number {
  return (app.server.address() as AddressInfo).port
}
