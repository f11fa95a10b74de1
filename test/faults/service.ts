import { appendFileSync } from 'node:fs'
import { setTimeout as wait } from 'node:timers/promises'
import t from 'tap'
import type { Test } from 'tap'
import type { Options } from '../../index.ts'
import { startApp } from '../helpers/app.ts'
import type { App } from '../helpers/app.ts'
import { startBalancer } from '../helpers/balancer.ts'
import type { Balancer } from '../helpers/balancer.ts'
import { randomPrefix } from '../helpers/prefix.ts'
import { startRedis } from '../helpers/redis.ts'
import type { RedisOptions, RedisServer } from '../helpers/redis.ts'
import type { SdkClient, SdkSubscription } from '../helpers/sdk.ts'
import { wireClient, wires } from '../helpers/streams.ts'
import { until } from '../helpers/until.ts'
import { check, violations } from './checker.ts'
import type { Acknowledged, Counts, Entry, Numbered } from './checker.ts'
import { FaultProxy } from './proxy.ts'
import { logOf } from './sdk-log.ts'

const CHANNEL = 'room'
/** Clients per instance that stay, and that are away during the fault: of each kind one for every way to connect. */
const STAYING = 3
const AWAY = 3
/** Publications of each publisher that are acknowledged before the fault, and after it. */
const USUAL = 20
/** Milliseconds between two publications of a publisher. */
const PACE = 5
/** The last publications are repeated until they have arrived everywhere, so many times at most. */
const LAST_ROUNDS = 20

/** One instance, with a link to Redis that can be broken. */
export interface Instance extends App {
  readonly proxy: FaultProxy
  publisher: Publisher
}

/** Publishes all the time, whether it succeeds or not. */
class Publisher {
  readonly name: string
  /** Publications acknowledged. */
  acked = 0
  readonly #app: App['app']
  readonly #acknowledged: Acknowledged[]
  readonly #pipelined: number
  readonly #underWay = new Set<Promise<unknown>>()
  #number = 0
  #stopped = false
  #running: Promise<void> | undefined

  constructor (name: string, { app }: App, acknowledged: Acknowledged[], pipelined: number) {
    this.name = name
    this.#app = app
    this.#acknowledged = acknowledged
    this.#pipelined = pipelined
  }

  start (): void {
    this.#running = this.#run()
  }

  end (): void {
    this.#stopped = true
  }

  async stop (): Promise<void> {
    this.end()
    await this.#running
  }

  /** Resolves to the publication, or to undefined if it was not acknowledged. */
  async publish (): Promise<Numbered | undefined> {
    const publication = { publisher: this.name, number: ++this.#number }
    try {
      const { offset = 0, epoch = '' } = await this.#app.realtime.publish(CHANNEL, publication)
      this.#acknowledged.push({ ...publication, offset, epoch })
      this.acked++
      return publication
    } catch {
      return undefined
    }
  }

  async #run (): Promise<void> {
    while (!this.#stopped) {
      const publishing = this.publish().finally(() => this.#underWay.delete(publishing))
      this.#underWay.add(publishing)
      await wait(PACE)
      if (this.#underWay.size >= this.#pipelined) await Promise.race(this.#underWay)
    }
    await Promise.all(this.#underWay)
  }
}

/** Some instances, clients of each, and what is known of the publications. */
export class Service {
  readonly t: Test
  readonly redis: RedisServer
  readonly instances: Instance[] = []
  readonly acknowledged: Acknowledged[] = []
  readonly #options: Options
  readonly #pipelined: number
  readonly #clients: Array<{ client: SdkClient, subscription: SdkSubscription, log: Entry[], isAway: boolean }> = []
  readonly #balancer: Balancer
  #started = 0

  constructor (t: Test, redis: RedisServer, balancer: Balancer, pipelined: number) {
    this.t = t
    this.redis = redis
    this.#balancer = balancer
    this.#pipelined = pipelined
    this.#options = { keyPrefix: randomPrefix(), fallback: true, channels: { '': { subscribe: true, history: { size: 5_000, ttl: '10m' } } } }
  }

  async startInstance (): Promise<Instance> {
    const proxy = await FaultProxy.start(this.redis.port)
    this.t.teardown(() => proxy.close())
    const app = await startApp(this.t, { ...this.#options, redis: `redis://127.0.0.1:${proxy.port}` })
    const publisher = new Publisher(`publisher ${++this.#started}`, app, this.acknowledged, this.#pipelined)
    this.t.teardown(() => publisher.end()) // a test that fails before its end leaves it running
    const instance = { ...app, proxy, publisher }
    this.instances.push(instance)
    this.#balancer.targets.push(app.url)
    return instance
  }

  /** Takes an instance away, as a deployment does: no more connections, then it drains. */
  async replace (instance: Instance): Promise<Instance> {
    const next = await this.startInstance()
    next.publisher.start()
    this.instances.splice(this.instances.indexOf(instance), 1)
    this.#balancer.targets.splice(this.#balancer.targets.indexOf(instance.url), 1)
    await instance.publisher.stop()
    await instance.app.close()
    return next
  }

  async connectClients (): Promise<void> {
    const staying = STAYING * this.instances.length
    for (let i = 0; i < staying + AWAY * this.instances.length; i++) {
      const client = wireClient(this.t, this.#balancer.url, wires[i % staying % wires.length]!)
      const subscription = client.subscribe(CHANNEL)
      const log = logOf(subscription.sub, this.acknowledged, client.dec)
      await subscription.subscribed()
      this.#clients.push({ client, subscription, log, isAway: i >= staying })
    }
  }

  /** Some clients leave, and come back later. */
  leave (): void {
    for (const { client, isAway } of this.#clients) if (isAway) client.client.disconnect()
  }

  comeBack (): void {
    for (const { client, isAway } of this.#clients) if (isAway) client.client.connect()
  }

  /** Resolves when every publisher, or those of some instances, had so many more publications acknowledged. */
  async published (count: number, instances = this.instances): Promise<void> {
    const goals = instances.map(({ publisher }) => ({ publisher, goal: publisher.acked + count }))
    await until(() => goals.every(({ publisher, goal }) => publisher.acked >= goal), `${count} more publications of each`, 60_000)
  }

  /** Resolves when an instance has noticed that Redis is away, or that it is back. */
  async ready ({ app }: Instance, ready: boolean): Promise<void> {
    await until(async () => (await app.inject('/ready')).json().redis === (ready ? 'up' : 'down'), ready ? 'Redis is back' : 'Redis is away', 60_000)
  }

  async allReady (ready: boolean): Promise<void> {
    await Promise.all(this.instances.map(instance => this.ready(instance, ready)))
  }

  /** Publishes until the last publications have reached everybody, so that every gap before them shows. */
  async settle (): Promise<Counts> {
    await Promise.all(this.instances.map(({ publisher }) => publisher.stop()))
    for (let round = 0; round < LAST_ROUNDS; round++) {
      const last = await Promise.all(this.instances.map(({ publisher }) => until(() => publisher.publish(), 'the last one is published', 60_000)))
      if (await this.#arrived(last as Numbered[])) break
    }
    return check(this.acknowledged, this.#clients.map(({ log }) => log))
  }

  /** False if they have not arrived soon. */
  #arrived (last: Numbered[]): Promise<boolean> {
    const have = (subscription: SdkSubscription) => {
      const data = (subscription.data as Numbered[]).slice(-last.length * 10)
      return last.every(one => data.some(({ publisher, number }) => publisher === one.publisher && number === one.number))
    }
    return until(() => this.#clients.every(({ subscription }) => have(subscription)), 'the last ones arrive', 1_000).then(() => true, () => false)
  }
}

export interface FaultOptions {
  redis?: RedisOptions
  /** Publications of a publisher that are under way at a time. */
  pipelined?: number
}

/**
 * Breaks something under traffic: two instances publish all the time, clients of both listen, others are away during
 * the fault. Nothing that was acknowledged may be lost without a word, come twice or out of order, whatever fails.
 */
export function testFault (name: string, fault: (service: Service) => Promise<void>, options: FaultOptions = {}): void {
  t.test(name, { timeout: 240_000 }, async (t) => {
    const service = new Service(t, await startRedis(t, options.redis), await startBalancer(t, []), options.pipelined ?? 1)
    await service.startInstance()
    await service.startInstance()
    await service.connectClients()
    for (const { publisher } of service.instances) publisher.start()
    await service.published(USUAL)
    service.leave()
    await fault(service)
    service.comeBack()
    await service.published(USUAL)
    const counts = await service.settle()
    t.comment(JSON.stringify(counts))
    if (process.env.FAULT_ROWS !== undefined) appendFileSync(process.env.FAULT_ROWS, `${JSON.stringify({ name, ...counts })}\n`)
    t.ok(counts.delivered > 0)
    const broken = Object.fromEntries(violations.map(violation => [violation, counts[violation]]))
    t.strictSame(broken, Object.fromEntries(violations.map(violation => [violation, 0])))
  })
}

t.setTimeout(600_000)
