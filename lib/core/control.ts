import type { Broker } from '../model/broker.ts'
import { CONTROL_CHANNEL } from '../model/channel-rules.ts'
import type { Instance } from './connections.ts'
import type { Publication } from '../model/publication.ts'
import type { Publisher } from './publisher.ts'

/** Whom a command is about: every connection of a user, or one connection. */
export type Target = { user: string } | { client: string }

export type Command =
  | { type: 'disconnect', code: number, reason: string } & Target
  | { type: 'subscribe' | 'unsubscribe', user: string, channel: string }

/**
 * What every instance does because one of them said so. Commands travel like publications, in a channel with history,
 * so that an instance that lost its link to Redis carries them out when it is back.
 */
export class Control {
  readonly #broker: Broker
  readonly #publisher: Publisher
  readonly #instance: Instance
  #listening: Promise<void> | undefined
  #listens = false

  constructor (broker: Broker, publisher: Publisher, instance: Instance) {
    this.#broker = broker
    this.#publisher = publisher
    this.#instance = instance
  }

  /** Whether commands arrive, at the latest when Redis is back. */
  get listens (): boolean { return this.#listens }

  /** Resolves when commands arrive. While Redis is away it rejects; the bridge and the heartbeat call it again. */
  listen (): Promise<void> {
    this.#listening ??= this.#broker.subscribe(CONTROL_CHANNEL, true).then(() => { this.#listens = true }, (error: unknown) => {
      this.#listening = undefined
      throw error
    })
    return this.#listening
  }

  /** Resolves when the command is stored: every instance that lives gets it. */
  async send (command: Command): Promise<void> {
    await this.#publisher.command(command)
  }

  receive ({ payload }: Publication): void {
    const json = payload.toString()
    this.#run(json).catch((error: unknown) => this.#instance.observer.controlFailed(json, error))
  }

  async #run (json: string): Promise<void> {
    const command = JSON.parse(json) as Command
    const connections = this.#connections(command)
    if (command.type === 'disconnect') {
      const { code, reason } = command
      for (const connection of connections) connection.expel({ code, reason, cause: 'server' })
    } else if (command.type === 'subscribe' || command.type === 'unsubscribe') {
      await Promise.all(connections.map(connection => connection[command.type](command.channel)))
    } else {
      throw new Error('it is of a kind that this version does not know')
    }
  }

  #connections (target: Target) {
    if ('user' in target) return this.#instance.connectionsOf(target.user)
    const connection = this.#instance.connections.get(target.client)
    return connection === undefined ? [] : [connection]
  }
}
