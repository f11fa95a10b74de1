import type { Hub } from '../hub/hub.ts'
import type { Member, Presence } from '../model/presence.ts'
import type { Connections } from './connections.ts'

/** The presence list in which every instance is a member. */
const INSTANCES_CHANNEL = '\u0000instances'

/** One instance of your app, as `app.realtime.info()` returns it. */
export interface InstanceInfo {
  /** Random id of the process. */
  instance: string
  /** Connections that the instance holds. */
  connections: number
  /** Channels with a subscription on the instance. */
  channels: number
  /** Seconds since it started. */
  uptime: number
  /** Cloud Run's revision (env K_REVISION); '' elsewhere. */
  revision: string
}

/** The instances of the app. Each keeps a record of itself in a presence list, so that none has to be asked. */
export class InstanceRegistry {
  readonly #instance: string
  readonly #startedAt = Date.now()
  readonly #connections: Connections
  readonly #hub: Hub
  readonly #presence: Presence

  constructor (instance: string, connections: Connections, hub: Hub, presence: Presence) {
    this.#instance = instance
    this.#connections = connections
    this.#hub = hub
    this.#presence = presence
  }

  get own (): InstanceInfo {
    return {
      instance: this.#instance,
      connections: this.#connections.size,
      channels: this.#hub.channels,
      uptime: Math.round((Date.now() - this.#startedAt) / 1_000),
      revision: process.env.K_REVISION ?? ''
    }
  }

  /** The figures of this instance are current; those of the others are as old as their last record. */
  async list (): Promise<InstanceInfo[]> {
    const { own } = this
    const infos = (await this.#presence.list(INSTANCES_CHANNEL)).map(({ info }): unknown => info)
    return [own, ...infos.filter(isInstanceInfo).filter(({ instance }) => instance !== own.instance)]
  }

  async record (): Promise<void> {
    const { own } = this
    const info: unknown = own // its type is not the app's: this list is ours
    await this.#presence.add(INSTANCES_CHANNEL, [{ client: own.instance, user: '', info } as Member])
  }

  async remove (): Promise<void> {
    await this.#presence.remove(INSTANCES_CHANNEL, this.#instance)
  }
}

/** Others can write to Redis, too. */
function isInstanceInfo (info: unknown): info is InstanceInfo {
  return typeof (info as Partial<InstanceInfo> | null | undefined)?.instance === 'string'
}
