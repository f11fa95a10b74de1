import Fastify from 'fastify'
import type { FastifyInstance, FastifyServerOptions } from 'fastify'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'
import cloudRunWebSocket from '../../index.ts'
import type { Options } from '../../index.ts'

export interface App {
  app: FastifyInstance
  /** ws://127.0.0.1:port */
  url: string
}

/** Starts an instance that listens. It has no signal handlers by default: a test's process has several instances. */
export async function startApp (t: Test, options: Options = {}, fastifyOptions: FastifyServerOptions = {}): Promise<App> {
  const app = Fastify(fastifyOptions)
  t.teardown(() => app.close())
  await app.register(cloudRunWebSocket, { shutdown: { signals: false, timeout: 2_000 }, ...options })
  await app.listen({ port: 0, host: '127.0.0.1' })
  return { app, url: `ws://127.0.0.1:${(app.server.address() as AddressInfo).port}` }
}
