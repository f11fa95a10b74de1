import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'

/** From the client to the server, and back. */
export type Direction = 'up' | 'down'

interface Link {
  readonly client: Socket
  readonly server: Socket
  /** Bytes were swallowed: TCP never delivers what comes after a hole, so the link must be cut. */
  torn: boolean
}

/** A TCP proxy that does to a link what networks do. Faults hold for all links, also for new ones, until `heal`. */
export class FaultProxy {
  /** Where new connections go. */
  target: number
  readonly #listener: Server
  readonly #links = new Set<Link>()
  readonly #swallowed = new Set<Direction>()
  #delay = 0
  #bytesPerSecond = Infinity
  #refusing = false
  /** Resolves when the links are not frozen any more. */
  #thawed: Promise<void> | undefined
  #thaw: () => void = () => {}

  private constructor (target: number, listener: Server) {
    this.target = target
    this.#listener = listener
    listener.on('connection', client => this.#open(client))
  }

  static async start (target: number): Promise<FaultProxy> {
    const listener = createServer()
    listener.listen(0, '127.0.0.1')
    await once(listener, 'listening')
    return new FaultProxy(target, listener)
  }

  get port (): number { return (this.#listener.address() as AddressInfo).port }

  /** Cuts every link. New ones may come at once. */
  cut (): void {
    for (const { client, server } of this.#links) {
      client.resetAndDestroy()
      server.resetAndDestroy()
    }
  }

  /** Cuts every link, and lets nobody connect. */
  refuse (): void {
    this.#refusing = true
    this.cut()
  }

  /** Bytes in these directions vanish, while every connection stays open: a half-open link, or a dead one. */
  swallow (...directions: Direction[]): void {
    for (const direction of directions) this.#swallowed.add(direction)
  }

  /** Every byte arrives so many milliseconds later. */
  delay (ms: number): void {
    this.#delay = ms
  }

  /** Each direction of each link carries so many bytes a second. */
  throttle (bytesPerSecond: number): void {
    this.#bytesPerSecond = bytesPerSecond
  }

  /** Nothing is read any more. What is sent meanwhile arrives after `heal`. */
  freeze (): void {
    this.#thawed ??= new Promise(resolve => { this.#thaw = resolve })
  }

  /** Ends all faults. Links with a hole are cut. */
  heal (): void {
    this.#refusing = false
    this.#swallowed.clear()
    this.#delay = 0
    this.#bytesPerSecond = Infinity
    this.#thaw()
    this.#thawed = undefined
    for (const { client, server, torn } of this.#links) {
      if (!torn) continue
      client.destroy()
      server.destroy()
    }
  }

  async close (): Promise<void> {
    this.#listener.close()
    this.heal()
    this.cut()
    await once(this.#listener, 'close')
  }

  #open (client: Socket): void {
    client.on('error', () => {}) // 'close' follows
    if (this.#refusing) {
      client.resetAndDestroy()
      return
    }
    const server = connect(this.target, '127.0.0.1')
    server.on('error', () => {})
    const link = { client, server, torn: false }
    this.#links.add(link)
    const end = () => {
      client.destroy()
      server.destroy()
      this.#links.delete(link)
    }
    client.on('close', end)
    server.on('close', end)
    this.#carry(link, 'up', client, server).catch(end)
    this.#carry(link, 'down', server, client).catch(end)
  }

  async #carry (link: Link, direction: Direction, from: Socket, to: Socket): Promise<void> {
    let written: Promise<unknown> = Promise.resolve()
    for await (const chunk of from as AsyncIterable<Buffer>) {
      await this.#thawed
      if (link.torn || this.#swallowed.has(direction)) {
        link.torn = true
        continue
      }
      if (this.#bytesPerSecond < Infinity) await wait(chunk.length / this.#bytesPerSecond * 1_000)
      const due = Date.now() + this.#delay
      // One after the other, however late the timers of a busy process are: TCP swaps no bytes.
      written = written.then(async () => {
        if (due > Date.now()) await wait(due - Date.now())
        if (!to.write(chunk)) await once(to, 'drain')
      })
      if (this.#delay === 0) await written
    }
    await written
    to.end()
  }
}
