import { once } from 'node:events'
import { createServer } from 'node:http'
import type { ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { JWK } from 'jose'
import type { Test } from 'tap'

export interface KeyServer {
  url: string
  keys: JWK[]
  status: number
  /** Number of requests so far. */
  fetched: number
  /** Answers in place of keys and status. */
  answer: ((response: ServerResponse) => void) | undefined
  stop (): Promise<void>
  start (): Promise<void>
}

/** A server with a JSON Web Key Set. */
export async function startKeyServer (t: Test): Promise<KeyServer> {
  const server = createServer((_request, response) => {
    keyServer.fetched++
    if (keyServer.answer !== undefined) return keyServer.answer(response)
    response.writeHead(keyServer.status, { 'Content-Type': 'application/json', Connection: 'close' })
    response.end(keyServer.status === 200 ? JSON.stringify({ keys: keyServer.keys }) : 'away')
  })
  let port = 0
  const keyServer: KeyServer = {
    url: '',
    keys: [],
    status: 200,
    fetched: 0,
    answer: undefined,
    async start () {
      server.listen(port, '127.0.0.1')
      await once(server, 'listening')
      port = (server.address() as AddressInfo).port
    },
    async stop () { await new Promise(resolve => server.close(resolve)) }
  }
  await keyServer.start()
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  keyServer.url = `http://127.0.0.1:${port}/keys`
  return keyServer
}
