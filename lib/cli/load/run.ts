import { randomUUID } from 'node:crypto'
import { CONNECT_TIMEOUT } from './client.ts'
import type { Client, Run } from './client.ts'
import type { LoadOptions } from './options.ts'
import { OpenSamples } from './open-samples.ts'
import { PlainClient } from './plain-client.ts'
import type { Phase, Progress } from './progress.ts'
import { randomFrom } from './random.ts'
import type { Receiver } from './receiver.ts'
import { Schedule } from './schedule.ts'
import { SdkClient } from './sdk-client.ts'
import { Stream } from './stream.ts'
import { Tally } from './tally.ts'
import { tokensFor } from './tokens.ts'

const SECOND = 1_000
/** Milliseconds after the ramp that the last clients have to connect: longer than their timeouts. */
const CONNECT_GRACE = CONNECT_TIMEOUT + 2 * SECOND
/** Milliseconds after the traffic for clients to come back and recover: longer than any delay before a reconnect. */
const SETTLE = 30_000
/** Milliseconds without a delivery after which the rest counts as lost, if all clients are back. */
const QUIET = 3_000
/** Milliseconds that a server has to answer the close frames. */
const CLOSE = 5_000
/** Milliseconds of publications that are made up for if this process was busy. */
const MAX_BACKLOG = SECOND

/** One load test. */
export class LoadRun implements Run {
  readonly id = randomUUID().slice(0, 8)
  readonly options: LoadOptions
  readonly tally = new Tally()
  readonly schedule = new Schedule(now => this.#tick(now))
  readonly samples = new OpenSamples()
  readonly random: () => number
  readonly tokenOf: (index: number) => Promise<string | undefined>
  readonly startedAt = new Date()
  readonly receivers: readonly Receiver[]
  phase: Phase = 'ramp'
  /** How often the user wanted it to end. */
  stops = 0
  /** Milliseconds of traffic so far. */
  traffic = 0
  readonly #streams: readonly Stream[]
  readonly #clients: readonly Client[]
  /** For each stream the clients that may publish to it, and whose turn it is. */
  readonly #publishers: ReadonlyArray<{ readonly clients: readonly Client[], turn: number }>
  readonly #progress: Progress
  readonly #began = performance.now()
  #started = 0
  #due = 0
  #turn = 0
  #lastTick = 0
  #lastSecond = 0
  #wait: (() => void) | undefined

  constructor (options: LoadOptions, progress: Progress) {
    this.options = options
    this.random = randomFrom(options.seed)
    this.tokenOf = tokensFor(options, this.id)
    this.#progress = progress
    const { streams, clients, receivers, publishers } = options.protocol === 'sdk' ? sdkClients(this) : plainClients(this)
    this.#streams = streams
    this.#clients = clients
    this.#publishers = publishers.map(clients => ({ clients, turn: 0 }))
    this.receivers = receivers
  }

  get ending (): boolean {
    return this.phase === 'ending'
  }

  /** Clients that have begun to connect. */
  get started (): number {
    return this.#started
  }

  /** Publications that have not arrived, although later ones have. */
  get overdue (): number {
    return sum(this.receivers, receiver => receiver.overdue)
  }

  get lost (): number {
    return sum(this.receivers, receiver => receiver.lost)
  }

  /** Ends early: the first time with a wait for what is on its way, the second time at once. */
  stop (): void {
    this.stops++
  }

  /** Runs to the end. */
  async execute (): Promise<void> {
    this.schedule.start()
    await this.#until(() => this.#started === this.options.connections, this.options.ramp + CONNECT_GRACE)
    await this.#until(() => this.#allReady, CONNECT_GRACE)
    if (this.tally.opened > 0) {
      this.phase = 'traffic'
      await this.#until(() => this.tally.gone === this.#started, this.options.duration)
      this.phase = 'settling'
      await this.#settle()
    }
    this.phase = 'ending'
    await this.#close()
    this.schedule.stop()
  }

  /** Every client that has begun is connected, or will never be. */
  get #allReady (): boolean {
    return this.tally.open + this.tally.gone >= this.#started
  }

  async #settle (): Promise<void> {
    const { tally } = this
    let seen = tally.received
    let seenAt = performance.now()
    await this.#until(() => {
      if (tally.received !== seen || !this.#allReady) {
        seen = tally.received
        seenAt = performance.now()
      }
      const answered = this.#streams.every(stream => stream.waiting === 0)
      return (this.#allReady && answered && this.lost === 0) || performance.now() - seenAt > QUIET
    }, SETTLE, 1)
  }

  async #close (): Promise<void> {
    for (const client of this.#clients) client.close()
    await this.#until(() => this.tally.open === 0, CLOSE, Infinity)
    for (const client of this.#clients) client.cut('the server does not answer the close')
  }

  /** Resolves when it is done, after `ms` milliseconds, or when the user has wanted the end more than `stops` times. */
  #until (done: () => boolean, ms: number, stops = 0): Promise<void> {
    const end = performance.now() + ms
    return new Promise(resolve => {
      this.#wait = () => {
        if (done() || performance.now() >= end || this.stops > stops) {
          this.#wait = undefined
          resolve()
        }
      }
    })
  }

  #tick (now: number): void {
    if (this.phase === 'ramp') this.#connect(now)
    if (this.phase === 'traffic') this.#publish(now - this.#lastTick)
    this.#lastTick = now
    this.#wait?.()
    if (now - this.#lastSecond < SECOND) return
    this.#lastSecond = now
    const { tally, samples, phase } = this
    const seconds = Math.floor((now - this.#began) / SECOND)
    for (const client of this.#clients) client.check(now)
    samples.add(seconds, tally.open)
    this.#progress.show({ seconds, phase, tally, overdue: this.overdue, connections: this.options.connections })
    tally.latencyNow.reset()
  }

  #connect (now: number): void {
    const { ramp, connections } = this.options
    const due = Math.min(connections, Math.ceil((now - this.#began) / ramp * connections))
    while (this.#started < due && this.stops === 0) this.#clients[this.#started++]!.connect()
  }

  /** Sends what is due after another `ms` milliseconds, the streams in turn. */
  #publish (ms: number): void {
    this.traffic += ms
    this.#due += Math.min(ms, MAX_BACKLOG) * this.options.publish / SECOND
    for (; this.#due >= 1; this.#due--) {
      const index = this.#turn++ % this.#streams.length
      const publisher = this.#publisher(index)
      if (publisher === undefined) this.tally.unsent++
      else publisher.publish(this.#streams[index]!)
    }
  }

  /** The next client that can publish to this stream. */
  #publisher (index: number): Client | undefined {
    const { clients } = this.#publishers[index]!
    for (let i = 0; i < clients.length; i++) {
      const client = clients[this.#publishers[index]!.turn++ % clients.length]!
      if (client.mayPublish(this.#streams[index]!)) return client
    }
    return undefined
  }
}

interface Clients {
  readonly streams: Stream[]
  readonly clients: Client[]
  readonly receivers: Receiver[]
  /** By the index of a stream. */
  readonly publishers: Client[][]
}

/** Channels have the id of the run in their names, so that runs do not disturb each other. */
function sdkClients (run: LoadRun): Clients {
  const { connections, channels, channelPrefix, subscriptions } = run.options
  const streams = Array.from({ length: channels }, (_, i) => new Stream(`${channelPrefix}${run.id}-${i}`, i))
  const clients = Array.from({ length: connections }, (_, i) => {
    const own = Array.from({ length: subscriptions }, (_, j) => streams[(i * subscriptions + j) % channels]!)
    return new SdkClient(run, i, own)
  })
  const publishers = streams.map((): Client[] => [])
  for (const client of clients) {
    for (const { stream } of client.subscriptions.values()) publishers[stream.index]!.push(client)
  }
  const receivers = clients.flatMap(client => Array.from(client.subscriptions.values(), ({ receiver }) => receiver))
  return { streams, clients, receivers, publishers }
}

function plainClients (run: LoadRun): Clients {
  const streams = Array.from({ length: run.options.connections }, (_, i) => new Stream(`client ${i}`, i))
  const clients = streams.map((stream, i) => new PlainClient(run, i, stream))
  return { streams, clients, receivers: clients.map(({ receiver }) => receiver), publishers: clients.map(client => [client]) }
}

function sum<T> (list: readonly T[], value: (one: T) => number): number {
  return list.reduce((total, one) => total + value(one), 0)
}
