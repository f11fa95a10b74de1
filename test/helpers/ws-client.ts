import { EventEmitter, once } from 'node:events'
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import { text } from 'node:stream/consumers'
import type { Test } from 'tap'
import WebSocket, { type ClientOptions } from 'ws'

export interface ConnectOptions extends ClientOptions {
  protocols?: string | string[]
}

export interface Client {
  socket: WebSocket
  /** All messages received, including those that `next` has returned. Text frames are strings, binary ones Buffers. */
  messages: Array<string | Buffer>
  /** Returns the oldest message not returned yet. Rejects at the timeout, or when the socket closes first. */
  next (timeout?: number): Promise<string | Buffer>
  send (data: string | Buffer): void
  closed: Promise<{ code: number, reason: string }>
}

export interface Refusal {
  statusCode: number
  headers: IncomingHttpHeaders
  body: string
}

/** Opens a WebSocket that misses no message, however early the message comes. */
export async function connect (t: Test, url: string, options: ConnectOptions = {}): Promise<Client> {
  const socket = new WebSocket(url, options.protocols, options)
  t.teardown(() => socket.terminate())

  const messages: Array<string | Buffer> = []
  let taken = 0
  const changes = new EventEmitter()
  changes.setMaxListeners(0)
  socket.on('message', (data: Buffer, isBinary: boolean) => {
    messages.push(isBinary ? data : data.toString())
    changes.emit('change')
  })
  const closed = new Promise<{ code: number, reason: string }>((resolve) => {
    socket.on('close', (code, reason) => {
      resolve({ code, reason: reason.toString() })
      changes.emit('change')
    })
  })

  await once(socket, 'open')
  // Later errors show in `closed`.
  socket.on('error', () => {})

  return {
    socket,
    messages,
    closed,
    send: (data) => socket.send(data),
    async next (timeout = 10_000) {
      const signal = AbortSignal.timeout(timeout)
      while (messages.length === taken) {
        if (socket.readyState === WebSocket.CLOSED) throw new Error('closed before the next message')
        await once(changes, 'change', { signal }).catch(() => {
          throw new Error(`no message within ${timeout} ms`)
        })
      }
      return messages[taken++]!
    }
  }
}

/** Returns the answer to an upgrade that the server refuses. */
export async function rejected (url: string, options: ConnectOptions = {}): Promise<Refusal> {
  const socket = new WebSocket(url, options.protocols, options)
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    socket.on('unexpected-response', (_request, response) => resolve(response))
    socket.on('error', reject)
    socket.on('open', () => {
      socket.terminate()
      reject(new Error('the upgrade was accepted'))
    })
  })
  const body = await text(response)
  // With a listener for 'unexpected-response' we must end the request.
  socket.terminate()
  return { statusCode: response.statusCode!, headers: response.headers, body }
}
