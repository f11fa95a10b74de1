import { createServer, request as ask } from 'node:http'
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Owner } from './chat.ts'

/** What a proxy between a browser and the service does to what passes. */
export interface WebProxyHabits {
  /**
   * 'refuse': answers 403. 'close': closes the connection. 'strip': passes the request on, but not as an upgrade.
   * 'mute': lets the upgrade through, and nothing of what follows. 'pass': breaks nothing.
   */
  upgrades: 'refuse' | 'close' | 'strip' | 'mute' | 'pass'
  /** Paths that it answers with 403. */
  forbidden?: RegExp
  /**
   * 'nginx': holds a response back until it has 4 KB of it, unless `X-Accel-Buffering: no` forbids it. 'blocks': does
   * not care for the header, but holds nothing for more than 50 ms. 'whole': holds every response until its end.
   */
  buffers?: 'nginx' | 'blocks' | 'whole'
  /** Milliseconds after which a response is cut on which nothing came. */
  maxIdle?: number
  /** Milliseconds after which every response is cut. */
  maxAge?: number
}

/** Bytes that a proxy holds back. */
const BLOCK = 4_096
/** Milliseconds after which a proxy passes on part of a block. */
const PATIENCE = 50

/** A response that stays open. */
interface PassedStream {
  /** Pieces of it that came from the service. */
  pieces: number
}

/** A proxy of somebody's company. */
export class WebProxy {
  readonly url: string
  /** Ports of the instances behind it, which get requests in turn. */
  targets: number[]
  /** These may change. */
  habits: WebProxyHabits
  /** Responses that it has cut. */
  cut = 0
  /** Paths of all requests, without what follows a question mark. */
  readonly paths: string[] = []
  /** Those that are open now. */
  readonly streams = new Set<PassedStream>()
  #turn = 0

  private constructor (port: number, targets: number[], habits: WebProxyHabits) {
    this.url = `http://localhost:${port}`
    this.targets = targets
    this.habits = habits
  }

  static async start (t: Owner, targets: number[], habits: WebProxyHabits): Promise<WebProxy> {
    const sockets = new Set<Duplex>()
    const server = createServer((request, response) => proxy.#forward(request, response))
    server.on('upgrade', (request, socket) => {
      sockets.add(socket.on('close', () => sockets.delete(socket)))
      proxy.#upgrade(request, socket)
    })
    await new Promise<void>(resolve => { server.listen(0, resolve) })
    const proxy = new WebProxy((server.address() as AddressInfo).port, targets, habits)
    t.teardown(() => {
      server.closeAllConnections()
      server.close()
      for (const socket of sockets) socket.destroy()
    })
    return proxy
  }

  #upgrade (request: IncomingMessage, socket: Duplex): void {
    this.#note(request)
    const { upgrades } = this.habits
    const answer = (status: number) => socket.end(`HTTP/1.1 ${status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`)
    socket.on('error', () => {}) // 'close' follows
    if (upgrades === 'close') socket.destroy()
    else if (upgrades === 'refuse') answer(403)
    else this.#passUpgrade(request, socket, answer)
  }

  #passUpgrade (request: IncomingMessage, socket: Duplex, answer: (status: number) => void): void {
    const { upgrades } = this.habits
    const { connection, upgrade } = request.headers
    const asked = this.#ask(request, upgrades === 'strip' ? {} : { connection, upgrade })
    asked.on('error', () => socket.destroy())
    asked.on('response', ({ statusCode }) => answer(statusCode!))
    asked.on('upgrade', ({ rawHeaders }, service) => {
      const lines = rawHeaders.flatMap((name, i) => i % 2 === 0 ? [`${name}: ${rawHeaders[i + 1]}`] : [])
      socket.write(['HTTP/1.1 101 Switching Protocols', ...lines, '', ''].join('\r\n'))
      service.on('error', () => {}).on('close', () => socket.destroy())
      socket.on('close', () => service.destroy())
      if (upgrades === 'pass') service.pipe(socket).pipe(service)
      else service.resume()
    })
    asked.end()
  }

  /** `hop`: headers for the next hop only, which a proxy sets itself. */
  #ask ({ method, url, headers }: IncomingMessage, hop: OutgoingHttpHeaders = {}) {
    const { connection, upgrade, ...rest } = headers
    const port = this.targets[this.#turn++ % this.targets.length]
    return ask({ port, host: 'localhost', method, path: url, headers: { ...rest, ...hop }, agent: false })
  }

  #note ({ url }: IncomingMessage): void {
    this.paths.push(url!.split('?', 1)[0]!)
  }

  #forward (request: IncomingMessage, response: ServerResponse): void {
    this.#note(request)
    if (this.habits.forbidden?.test(request.url!)) {
      response.writeHead(403).end()
      return
    }
    const asked = this.#ask(request)
    asked.on('error', () => response.destroy())
    response.on('close', () => asked.destroy())
    asked.on('response', answer => {
      answer.on('error', () => response.destroy())
      answer.on('aborted', () => response.destroy())
      this.#pass(request.url!, answer, response).catch(() => response.destroy())
    })
    request.pipe(asked)
  }

  async #pass (url: string, answer: IncomingMessage, response: ServerResponse): Promise<void> {
    const { buffers, maxIdle, maxAge } = this.habits
    const { connection, 'transfer-encoding': encoding, ...headers } = answer.headers
    const held = buffers === 'nginx' && headers['x-accel-buffering'] === 'no' ? undefined : buffers
    const stream: PassedStream = { pieces: 0 }
    const isStream = url.startsWith('/connection/')
    let waiting = Buffer.alloc(0)
    let partial: NodeJS.Timeout | undefined
    const pass = () => {
      clearTimeout(partial)
      partial = undefined
      if (response.destroyed) return
      if (!response.headersSent) response.writeHead(answer.statusCode!, headers).flushHeaders()
      if (waiting.length > 0) response.write(waiting)
      waiting = Buffer.alloc(0)
    }
    const cut = () => {
      this.cut++
      response.destroy()
      answer.destroy()
    }
    const old = isStream && maxAge !== undefined ? setTimeout(cut, maxAge) : undefined
    let idle: NodeJS.Timeout | undefined
    let cutting: NodeJS.Immediate | undefined
    const watch = () => {
      clearTimeout(idle)
      clearImmediate(cutting)
      // A piece that has come while this process was busy is read before the immediate runs.
      if (isStream && maxIdle !== undefined) idle = setTimeout(() => { cutting = setImmediate(cut) }, maxIdle)
    }
    if (isStream) this.streams.add(stream)
    if (held === undefined) pass()
    watch()
    try {
      for await (const chunk of answer) {
        watch()
        stream.pieces++
        waiting = Buffer.concat([waiting, chunk as Buffer])
        if (held === undefined || (held !== 'whole' && waiting.length >= BLOCK)) pass()
        else if (held === 'blocks') partial ??= setTimeout(pass, PATIENCE)
      }
      pass()
      response.end()
    } finally {
      this.streams.delete(stream)
      for (const timer of [old, idle, partial]) clearTimeout(timer)
      clearImmediate(cutting)
    }
  }
}
