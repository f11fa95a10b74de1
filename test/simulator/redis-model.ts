import { withDeadline } from '../../lib/backends/redis/commands.ts'
import type { RedisArgument, RedisCommands } from '../../lib/backends/redis/commands.ts'
import { allScripts } from '../../lib/backends/redis/scripts.ts'
import type { MessageListener, RedisSubscriber, SubscriberListener } from '../../lib/backends/redis/subscriber.ts'
import { RedisUnavailableError } from '../../lib/model/errors.ts'
import { runLua } from './lua.ts'
import type { Random } from './random.ts'
import { ErrorReply, RedisStore } from './redis-store.ts'
import type { Reply } from './redis-store.ts'
import { Wire } from './wire.ts'

/** Milliseconds after which a link that nobody answers is given up, as `watchAnswers` does it. */
const GIVE_UP = 4_000
/** Milliseconds between two attempts to connect. */
const RECONNECT: [number, number] = [50, 300]

/** A Redis server: data, scripts, Pub/Sub. */
export class RedisServer {
  store = new RedisStore()
  /** False: nobody can connect. */
  up = true
  readonly #scripts = new Map<string, string>()
  readonly #subscribers = new Map<string, Set<ModelSubscriber>>()

  /** Runs a command. @throws ErrorReply */
  run ([command, ...args]: readonly string[]): Reply {
    switch (command) {
      case 'PUBLISH':
      case 'SPUBLISH': return this.#publish(args[0]!, args[1]!)
      case 'EVAL': return this.#evaluate(args[0]!, args.slice(1))
      case 'EVALSHA': {
        const text = this.#scripts.get(args[0]!)
        if (text === undefined) throw new ErrorReply('NOSCRIPT No matching script. Please use EVAL.')
        return this.#evaluate(text, args.slice(1))
      }
      case 'SCRIPT': return this.#script(args[0]!)
      default: return this.store.run(command!, args)
    }
  }

  subscribe (pubsub: string, subscriber: ModelSubscriber): void {
    const subscribers = this.#subscribers.get(pubsub)
    if (subscribers === undefined) this.#subscribers.set(pubsub, new Set([subscriber]))
    else subscribers.add(subscriber)
  }

  unsubscribe (pubsub: string, subscriber: ModelSubscriber): void {
    this.#subscribers.get(pubsub)?.delete(subscriber)
  }

  /** Forgets a link that has ended. */
  forget (subscriber: ModelSubscriber): void {
    for (const subscribers of this.#subscribers.values()) subscribers.delete(subscriber)
  }

  #publish (pubsub: string, message: string): number {
    const subscribers = this.#subscribers.get(pubsub) ?? []
    for (const subscriber of subscribers) subscriber.push(pubsub, message)
    return Array.from(subscribers).length
  }

  #evaluate (text: string, [count, ...rest]: readonly string[]): Reply {
    for (const { sha1, text: known } of allScripts) if (known === text) this.#scripts.set(sha1, text)
    const keys = rest.slice(0, Number(count))
    return runLua(text, keys, rest.slice(Number(count)), (command, args) => this.run([command, ...args]))
  }

  #script (what: string): Reply {
    if (what === 'FLUSH') this.#scripts.clear()
    else for (const { sha1, text } of allScripts) this.#scripts.set(sha1, text)
    return 'OK'
  }
}

/** What both kinds of links have in common: a server, which a failover may change, and cuts. */
abstract class Link {
  readonly random: Random
  server: RedisServer
  wire: Wire | undefined
  ready = false
  reason = 'not connected yet'
  #closed = false
  #silent = false

  constructor (server: RedisServer, random: Random) {
    this.server = server
    this.random = random
  }

  /** Nothing that is sent arrives any more, in either direction, though the connection seems open. */
  silence (): void {
    if (this.wire === undefined || this.#silent) return
    this.#silent = true
    const { wire } = this
    wire.silent = true
    setTimeout(() => { if (this.wire === wire) this.cut() }, GIVE_UP)
  }

  cut (): void {
    if (this.wire === undefined) return
    this.wire.end()
    this.wire = undefined
    this.#silent = false
    this.ready = false
    this.reason = 'the connection was cut'
    this.lost()
    this.connect()
  }

  /** Connects to another server instead. */
  moveTo (server: RedisServer): void {
    this.cut()
    this.server = server
  }

  connect (): void {
    setTimeout(() => {
      if (this.#closed) return
      if (!this.server.up) return this.connect()
      this.wire = new Wire(this.random)
      this.connected(this.wire)
    }, this.random.between(...RECONNECT))
  }

  async close (): Promise<void> {
    this.#closed = true
    this.cut()
  }

  protected abstract connected (wire: Wire): void
  protected abstract lost (): void
}

/** The link for commands. */
export class ModelCommands extends Link implements RedisCommands {
  readonly publishCommand = 'PUBLISH'
  #changed: () => void = () => {}
  readonly #inFlight = new Set<(error: Error) => void>()

  open (changed: () => void): void {
    this.#changed = changed
    this.connect()
  }

  send (_key: string, args: RedisArgument[], buffers = false): Promise<unknown> {
    const { wire } = this
    if (!this.ready || wire === undefined) return Promise.reject(new RedisUnavailableError(this.reason))
    const command = args.map(one => typeof one === 'string' ? Buffer.from(one).toString('latin1') : one.toString('latin1'))
    return withDeadline(new Promise((resolve, reject) => {
      this.#inFlight.add(reject)
      wire.request(() => runSafely(this.server, command), reply => {
        this.#inFlight.delete(reject)
        if (reply instanceof ErrorReply) reject(reply)
        else resolve(decode(reply, buffers))
      })
    }))
  }

  protected connected (): void {
    this.server.run(['SCRIPT', 'LOAD'])
    this.ready = true
    this.#changed()
  }

  protected lost (): void {
    for (const reject of this.#inFlight) reject(new Error('Socket closed unexpectedly'))
    this.#inFlight.clear()
    this.#changed()
  }
}

/** The link for Pub/Sub. Like node-redis, it subscribes again after a cut. */
export class ModelSubscriber extends Link implements RedisSubscriber {
  /** The probability with which a message is lost on its way, though the link is whole. */
  lossy = 0
  #listener: SubscriberListener | undefined
  readonly #wanted = new Map<string, MessageListener>()
  readonly #listening = new Map<string, Set<MessageListener>>()
  readonly #inFlight = new Set<(error: Error) => void>()

  open (listener: SubscriberListener): void {
    this.#listener = listener
    this.connect()
  }

  isReady (): boolean { return this.ready }

  async subscribe (pubsub: string, listener: MessageListener): Promise<void> {
    const { wire } = this
    if (!this.ready || wire === undefined) throw new RedisUnavailableError(this.reason)
    this.#wanted.set(pubsub, listener)
    try {
      await withDeadline(new Promise<void>((resolve, reject) => {
        this.#inFlight.add(reject)
        wire.request(() => this.server.subscribe(pubsub, this), () => {
          this.#inFlight.delete(reject)
          this.#listeners(pubsub).add(listener)
          resolve()
        })
      }))
    } catch (error) {
      this.unsubscribe(pubsub, listener)
      throw error
    }
  }

  unsubscribe (pubsub: string, listener: MessageListener): void {
    const wanted = this.#wanted.get(pubsub)
    if (wanted === listener) this.#wanted.delete(pubsub)
    else if (wanted !== undefined) return
    const listeners = this.#listeners(pubsub)
    if (listeners.size > 1) listeners.delete(listener)
    else this.wire?.request(() => this.server.unsubscribe(pubsub, this), () => listeners.delete(listener))
  }

  /** A message is on its way. */
  push (pubsub: string, message: string): void {
    if (this.random.chance(this.lossy)) return
    this.wire?.down(() => {
      for (const listener of this.#listeners(pubsub)) listener(Buffer.from(message, 'latin1'))
    })
  }

  protected connected (wire: Wire): void {
    const channels = Array.from(this.#listening.keys()).filter(pubsub => this.#listeners(pubsub).size > 0)
    wire.request(() => channels.forEach(pubsub => this.server.subscribe(pubsub, this)), () => {
      this.ready = true
      for (const pubsub of this.#wanted.keys()) this.#listener?.restored(pubsub)
      this.#listener?.changed()
    })
  }

  protected lost (): void {
    this.server.forget(this)
    for (const reject of this.#inFlight) reject(new Error('Socket closed unexpectedly'))
    this.#inFlight.clear()
    for (const pubsub of this.#wanted.keys()) this.#listener?.lost(pubsub)
    this.#listener?.changed()
  }

  #listeners (pubsub: string): Set<MessageListener> {
    const known = this.#listening.get(pubsub)
    if (known !== undefined) return known
    const listeners = new Set<MessageListener>()
    this.#listening.set(pubsub, listeners)
    return listeners
  }
}

function runSafely (server: RedisServer, command: readonly string[]): Reply | ErrorReply {
  try {
    return server.run(command)
  } catch (error) {
    if (error instanceof ErrorReply) return error
    throw error
  }
}

/** Strings as the caller asked for them. */
function decode (reply: Reply, buffers: boolean): unknown {
  if (Array.isArray(reply)) return reply.map(one => decode(one, buffers))
  if (typeof reply !== 'string') return reply
  const bytes = Buffer.from(reply, 'latin1')
  return buffers ? bytes : bytes.toString()
}
