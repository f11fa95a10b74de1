import { setTimeout as wait } from 'node:timers/promises'
import { Client } from './client.mjs'
import { writeMessage } from './message.mjs'
import { channelsOf } from './placement.mjs'
import { Tally } from './tally.mjs'
import { wires } from './wires.mjs'

const CONNECT_TIMEOUT = 30_000
const CONNECTING = 32
/** ms without progress after which what has not come is lost. */
const STALLED = 3_000

/** Clients that are where a placement says, each in its channels, and a publisher at each of some servers. */
export class Crowd {
  #ports
  #tally = new Tally()
  #counter
  #subscribers = []
  #publishers = []
  #turn = 0

  constructor (ports, channels) {
    this.#ports = ports
    this.#counter = { tally: this.#tally, channels, sentAt: ports.map(() => []), firstNumber: ports.map(() => 0), onMessage: undefined }
  }

  async openPublishers (servers = this.#ports.keys()) {
    this.#publishers = await Promise.all(Array.from(servers, server => this.#open({ server, channels: [] }, 'publisher')))
  }

  /** `placement`: the server of each connection. */
  async gather (app, placement) {
    let next = 0
    await Promise.all(Array.from({ length: CONNECTING }, async () => {
      while (next < placement.length) {
        const i = next++
        this.#subscribers.push(await this.#open({ server: placement[i], channels: channelsOf(i, app) }, 'subscriber'))
      }
    }))
  }

  #open (place, role) {
    return new Client(wires.plain, { ...place, counter: this.#counter }).open(this.#ports[place.server], role, CONNECT_TIMEOUT)
  }

  /** Publishes at an even rate to the channels in turn, and waits until `expected` deliveries have come. */
  async publish ({ rate, total, expected }) {
    this.#tally.clear()
    const bytes = this.#bytesRead
    const startedAt = performance.now()
    for (let sent = 0; sent < total;) {
      const due = Math.min(total, 1 + Math.floor((performance.now() - startedAt) * rate / 1_000))
      for (; sent < due; sent++) this.#send()
      await wait(1)
    }
    await this.#arrived(expected)
    return { received: this.#tally.received, disordered: this.#tally.figures.disordered, bytes: this.#bytesRead - bytes }
  }

  #send () {
    const publisher = this.#publishers[this.#turn % this.#publishers.length]
    const { sentAt, channels } = this.#counter
    const times = sentAt[publisher.server]
    const message = writeMessage(publisher.server, times.length, this.#turn++ % channels)
    times.push(performance.now())
    publisher.socket.write(wires.plain.publication(message))
  }

  async #arrived (expected) {
    let before = -1
    let progressAt = performance.now()
    while (this.#tally.received < expected && performance.now() - progressAt < STALLED) {
      if (this.#tally.received > before) progressAt = performance.now()
      before = this.#tally.received
      await wait(10)
    }
  }

  get #bytesRead () {
    return this.#subscribers.reduce((sum, { socket }) => sum + socket.bytesRead, 0)
  }

  leave () {
    for (const { socket } of [...this.#subscribers, ...this.#publishers]) socket.resetAndDestroy()
    this.#subscribers = this.#publishers = []
  }
}
