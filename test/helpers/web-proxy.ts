import { createServer, request as ask } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import { setTimeout as wait } from 'node:timers/promises'
import type { Owner } from './chat.ts'

/** What a proxy between a browser and the service does to what passes. */
export interface WebProxyHabits {
  /** 'refuse': answers 403. 'close': closes the connection. 'strip': passes the request on, but not as an upgrade. */
  upgrades: 'refuse' | 'close' | 'strip'
  /** Paths that it answers with 403. */
  forbidden?: RegExp
  /**
   * 'nginx': holds a response back until it has 4 KB of it, unless `X-Accel-Buffering: no` forbids it. 'blocks': does
   * not care for the header, but holds nothing for more than 50 ms.
   */
  buffers?: 'nginx' | 'blocks'
  /** Milliseconds after which a response is cut on which nothing came. */
  maxIdle?: number
  /** Milliseconds after which every response is cut. */
  maxAge?: number
}

/** Bytes that a proxy holds back. */
const BLOCK = 4_096
/** Milliseconds after which a proxy passes on part of a block. */
const PATIENCE = 50

/** A proxy of somebody's company. */
export class WebProxy {
  readonly url: string
  /** Ports of the instances behind it, which get requests in turn. */
  targets: number[]
  /** Responses that it has cut. */
  cut = 0
  #turn = 0
  readonly #habits: WebProxyHabits

  private constructor (port: number, targets: number[], habits: WebProxyHabits) {
    this.url = `http://localhost:${port}`
    this.targets = targets
    this.#habits = habits
  }

  static async start (t: Owner, targets: number[], habits: WebProxyHabits): Promise<WebProxy> {
    const server = createServer((request, response) => proxy.#forward(request, response))
    server.on('upgrade', (request, socket) => proxy.#upgrade(request, socket))
    await new Promise<void>(resolve => { server.listen(0, resolve) })
    const proxy = new WebProxy((server.address() as AddressInfo).port, targets, habits)
    t.teardown(() => {
      server.closeAllConnections()
      server.close()
    })
    return proxy
  }

  #upgrade (request: IncomingMessage, socket: Duplex): void {
    const { upgrades } = this.#habits
    const answer = (status: number) => socket.end(`HTTP/1.1 ${status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`)
    if (upgrades === 'close') socket.destroy()
    else if (upgrades === 'refuse') answer(403)
    else this.#ask(request).on('response', ({ statusCode }) => answer(statusCode!)).end()
  }

  #ask ({ method, url, headers }: IncomingMessage) {
    const { connection, upgrade, ...rest } = headers
    return ask({ port: this.targets[this.#turn++ % this.targets.length], host: 'localhost', method, path: url, headers: rest, agent: false })
  }

  #forward (request: IncomingMessage, response: ServerResponse): void {
    if (this.#habits.forbidden?.test(request.url!)) {
      response.writeHead(403).end()
      return
    }
    const asked = this.#ask(request)
    asked.on('error', () => response.destroy())
    response.on('close', () => asked.destroy())
    asked.on('response', answer => {
      answer.on('error', () => response.destroy())
      answer.on('aborted', () => response.destroy())
      this.#pass(answer, response).catch(() => response.destroy())
    })
    request.pipe(asked)
  }

  async #pass (answer: IncomingMessage, response: ServerResponse): Promise<void> {
    const { buffers, maxIdle = Infinity, maxAge = Infinity } = this.#habits
    const { connection, 'transfer-encoding': encoding, ...headers } = answer.headers
    const held = buffers === 'nginx' && headers['x-accel-buffering'] === 'no' ? undefined : buffers
    const isStream = headers['content-length'] === undefined && !/^text\/(html|css)|javascript/.test(String(headers['content-type']))
    const cut = () => {
      this.cut++
      response.destroy()
      answer.destroy()
    }
    const head = () => { if (!response.headersSent) response.writeHead(answer.statusCode!, headers).flushHeaders() }
    const stops = new AbortController()
    const after = (ms: number) => isStream && ms !== Infinity && wait(ms, undefined, stops).then(cut, () => {})
    let idle: NodeJS.Timeout | undefined
    after(maxAge)
    if (held === undefined) head()
    let waiting = Buffer.alloc(0)
    const pass = () => {
      if (response.destroyed) return
      head()
      response.write(waiting)
      waiting = Buffer.alloc(0)
    }
    const watch = () => {
      clearTimeout(idle)
      if (isStream && maxIdle !== Infinity) idle = setTimeout(cut, maxIdle)
    }
    watch()
    let partial: NodeJS.Timeout | undefined
    try {
      for await (const chunk of answer) {
        watch()
        waiting = Buffer.concat([waiting, chunk as Buffer])
        if (held === undefined || waiting.length >= BLOCK) pass()
        else if (held === 'blocks') partial ??= setTimeout(() => { partial = undefined; pass() }, PATIENCE)
      }
      pass()
      response.end()
    } finally {
      clearTimeout(idle)
      clearTimeout(partial)
      stops.abort()
    }
  }
}
