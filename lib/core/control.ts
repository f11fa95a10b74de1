import type { Broker, ChannelListener, HistorySettings } from '../model/broker.ts'
import { checkUnixTime } from '../model/arguments.ts'
import { checkClose } from '../model/close-codes.ts'
import { encodePayload, newPublication } from '../model/publication.ts'
import type { Position, Publication } from '../model/publication.ts'
import type { Observer } from '../observability/observer.ts'
import { RecentTexts } from '../util/recent-texts.ts'
import type { Connection } from './connection.ts'
import type { Connections } from './connections.ts'
import { sendMessage } from './direct-message.ts'
import type { MessageFields } from './direct-message.ts'

/** Channel of the commands. No app can name it: a client that could publish there could do anything to anybody. */
const CONTROL_CHANNEL = '\u0000control'
/** Channel of the questions. Nothing is kept there: nobody waits for an answer that comes late. */
const QUESTIONS_CHANNEL = '\u0000questions'
/** Kept, so that an instance that lost its connection to Redis carries commands out later. */
const HISTORY: HistorySettings = { size: 1_000, ttl: 600_000 }

/** Characters of a message between instances in the log entry that it failed: it may be of 64 KiB, and private. */
export const MAX_LOGGED = 500

/** What a command is about: every connection of a user, or one connection. */
export type Target = { user: string } | { client: string }

/** Who gets a message: a target, or every connection of every instance. */
export type Recipients = Target | { everybody: true }

/** The same, where one connection has to be of this user. Releases that do not know `of` go by the connection alone. */
export type Whose = { user: string } | { client: string, of: string }

export type Command =
  | { type: 'disconnect', code: number, reason: string } & (Target | Whose)
  | { type: 'disconnect-others', user: string, keep: string[], code: number, reason: string }
  | { type: 'subscribe', channel: string, since?: Position } & Whose
  | { type: 'unsubscribe', channel: string } & Whose
  | { type: 'refresh', expiresAt: number | null } & Whose
  | { type: 'message' } & MessageFields & Recipients
  | { type: 'stopStream', channel: string, id?: string | undefined, at: number }
  | Ask

/** A question to all instances, see `Survey`. */
export interface Ask { type: 'ask', id: string, from: string, question: string, about: unknown }

type CommandOf<Type extends Command['type']> = Extract<Command, { type: Type }>

/** Sends commands to all instances. */
export interface CommandSender {
  /** Resolves when the command is stored: every living instance gets it. */
  send (command: Exclude<Command, Ask>): Promise<void>
}

/** Sends commands on behalf of a process that has no connections, and so carries none out. */
export function commandSender (instance: string, broker: Broker): CommandSender {
  return {
    async send (command) {
      await broker.publish(CONTROL_CHANNEL, newPublication(instance, encodePayload(command)), { history: HISTORY })
    }
  }
}

/** Commands that every instance carries out. They travel like publications, in a channel with history. */
export class Control implements ChannelListener, CommandSender {
  readonly #instance: string
  readonly #broker: Broker
  readonly #connections: Connections
  readonly #observer: Observer
  #listening: Promise<void> | undefined
  #listens = false
  readonly #refusals = new RecentTexts()
  readonly #carriers = new Map<string, (command: never) => unknown>()
  readonly send: CommandSender['send']

  constructor (instance: string, broker: Broker, connections: Connections, observer: Observer) {
    this.#instance = instance
    this.send = commandSender(instance, broker).send
    this.#broker = broker
    this.#connections = connections
    this.#observer = observer
    this.carry('disconnect', (command) => {
      const { code, reason } = checkClose(command.code, command.reason) // others can write to Redis, too
      for (const connection of this.#targets(command)) connection.disconnect({ code, reason, cause: 'server' })
    })
    this.carry('message', command => sendMessage(this.#targets(command), command))
    this.carry('disconnect-others', ({ user, keep, ...command }) => {
      const { code, reason } = checkClose(command.code, command.reason)
      for (const connection of connections.of(user)) if (!keep.includes(connection.id)) connection.disconnect({ code, reason, cause: 'server' })
    })
    this.carry('refresh', command => this.#targets(command).forEach(connection => refresh(connection, command.expiresAt)))
    this.carry('subscribe', (command) => {
      const { channel, since } = command
      return Promise.all(this.#targets(command).map(connection => connection.subscribe(channel, since && { since })))
    })
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
    this.#listening ??= this.#subscribe().then(() => { this.#listens = true }, (error: unknown) => {
      this.#listening = undefined
      this.#refused(error as Error)
      throw error
    })
    return this.#listening
  }

  async #subscribe (): Promise<void> {
    const questions: ChannelListener = {
      deliver: publication => this.deliver(publication), canAccept: () => true, missed () {}, positionLost () {}
    }
    await this.#broker.subscribe(CONTROL_CHANNEL, true, this)
    try {
      await this.#broker.subscribe(QUESTIONS_CHANNEL, false, questions)
    } catch (error) {
      this.#broker.unsubscribe(CONTROL_CHANNEL) // else the next attempt would subscribe twice, and each command come twice
      throw error
    }
  }

  /** While Redis is down, `brokerDown` has said why. Else nobody would know why this instance is not ready. */
  #refused ({ message, cause }: Error): void {
    const reason = cause instanceof Error ? cause.message : message
    if (this.#broker.up && this.#refusals.isNew(reason, Date.now())) this.#observer.brokerRefuses(reason)
  }

  /** Resolves when the question is handed to Redis. Many of them take no place in the history of the commands. */
  async ask (question: Ask): Promise<void> {
    await this.#broker.publish(QUESTIONS_CHANNEL, newPublication(this.#instance, encodePayload(question)), { history: false })
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

  #targets (target: Recipients | Whose): Connection[] {
    if ('everybody' in target) return Array.from(this.#connections)
    if ('user' in target) return this.#connections.of(target.user)
    const connection = this.#connections.get(target.client)
    if (connection === undefined || ('of' in target && connection.user !== target.of)) return []
    return [connection]
  }
}

/**
 * Moves the end of a login. `expiresAt`: Unix time in seconds; null: it does not end. A time that has passed ends the
 * connection.
 */
function refresh (connection: Connection, expiresAt: number | null): void {
  if (expiresAt !== null) checkUnixTime('expiresAt', expiresAt)
  const until = expiresAt === null ? Infinity : expiresAt * 1_000
  if (until <= Date.now()) connection.end('expired')
  else connection.closeAt(until, 'expired')
}
