import type { Broker, ChannelListener, HistorySettings } from '../model/broker.ts'
import { checkClose } from '../model/close-codes.ts'
import { encodePayload, newPublication } from '../model/publication.ts'
import type { Publication } from '../model/publication.ts'
import type { Observer } from '../observability/observer.ts'
import { RecentTexts } from '../util/recent-texts.ts'
import type { Connection } from './connection.ts'
import type { Connections } from './connections.ts'
import { sendMessage } from './direct-message.ts'
import type { MessageFields } from './direct-message.ts'

/** Channel of the commands. No app can name it: a client that could publish there could do anything to anybody. */
const CONTROL_CHANNEL = '\u0000control'
/** Kept, so that an instance that lost its connection to Redis carries commands out later. */
const HISTORY: HistorySettings = { size: 1_000, ttl: 600_000 }

/** Characters of a command that failed in its log entry: the rest may be a message of 64 KiB, and private. */
const MAX_LOGGED = 500

/** What a command is about: every connection of a user, or one connection. */
export type Target = { user: string } | { client: string }

/** Who gets a message: a target, or every connection of every instance. */
export type Recipients = Target | { everybody: true }

export type Command =
  | { type: 'disconnect', code: number, reason: string } & Target
  | { type: 'subscribe', user: string, channel: string }
  | { type: 'unsubscribe', user: string, channel: string }
  | { type: 'message' } & MessageFields & Recipients
  | { type: 'stopStream', channel: string, id?: string | undefined, at: number }
  | { type: 'ask', id: string, from: string, question: string, about: unknown }

type CommandOf<Type extends Command['type']> = Extract<Command, { type: Type }>

/** Commands that every instance carries out. They travel like publications, in a channel with history. */
export class Control implements ChannelListener {
  readonly #instance: string
  readonly #broker: Broker
  readonly #connections: Connections
  readonly #observer: Observer
  #listening: Promise<void> | undefined
  #listens = false
  readonly #refusals = new RecentTexts()
  readonly #carriers = new Map<string, (command: never) => unknown>()

  constructor (instance: string, broker: Broker, connections: Connections, observer: Observer) {
    this.#instance = instance
    this.#broker = broker
    this.#connections = connections
    this.#observer = observer
    this.carry('disconnect', (command) => {
      const { code, reason } = checkClose(command.code, command.reason) // others can write to Redis, too
      for (const connection of this.#targets(command)) connection.disconnect({ code, reason, cause: 'server' })
    })
    this.carry('message', command => sendMessage(this.#targets(command), command))
    this.carry('subscribe', command => Promise.all(this.#targets(command).map(connection => connection.subscribe(command.channel))))
    this.carry('unsubscribe', command => Promise.all(this.#targets(command).map(connection => connection.unsubscribe(command.channel))))
  }

  /** Sets what carries out the commands of this kind on this instance. */
  carry<Type extends Command['type']> (type: Type, run: (command: CommandOf<Type>) => unknown): void {
    this.#carriers.set(type, run)
  }

  /** True once commands arrive, at the latest when Redis is back. */
  get listens (): boolean { return this.#listens }

  /**
   * Resolves when commands arrive. Rejects while Redis is down; the heartbeat and the return of Redis call it again.
   */
  listen (): Promise<void> {
    this.#listening ??= this.#broker.subscribe(CONTROL_CHANNEL, true, this).then(() => { this.#listens = true }, (error: unknown) => {
      this.#listening = undefined
      this.#refused(error as Error)
      throw error
    })
    return this.#listening
  }

  /** While Redis is down, `brokerDown` has said why. Else nobody would know why this instance is not ready. */
  #refused ({ message, cause }: Error): void {
    const reason = cause instanceof Error ? cause.message : message
    if (this.#broker.up && this.#refusals.isNew(reason, Date.now())) this.#observer.brokerRefuses(reason)
  }

  /** Resolves when the command is stored: every living instance gets it. */
  async send (command: Command): Promise<void> {
    await this.#broker.publish(CONTROL_CHANNEL, newPublication(this.#instance, encodePayload(command)), { history: HISTORY })
  }

  deliver ({ payload }: Publication): void {
    const json = payload.toString()
    this.#run(json).catch((error: unknown) => this.#observer.controlFailed(json.slice(0, MAX_LOGGED), error))
  }

  canAccept (): boolean { return true }

  missed (count: number, reason: string): void {
    this.#observer.commandsMissed(CONTROL_CHANNEL, count, reason)
  }

  positionLost (): void {}

  async #run (json: string): Promise<void> {
    const command = JSON.parse(json) as Command
    const run = this.#carriers.get(command.type)
    if (run === undefined) throw new Error('this version does not know commands of this kind')
    await run(command as never)
  }

  #targets (target: Recipients): Connection[] {
    if ('everybody' in target) return Array.from(this.#connections)
    if ('user' in target) return this.#connections.of(target.user)
    const connection = this.#connections.get(target.client)
    return connection === undefined ? [] : [connection]
  }
}
