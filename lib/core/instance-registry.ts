import { INSTANCES_CHANNEL } from '../model/channel-rules.ts'
import type { Hub } from '../hub/hub.ts'
import type { Instance } from './connections.ts'
import type { Presence } from '../model/presence.ts'

export interface InstanceInfo {
  instance: string
  connections: number
  channels: number
  /** Seconds since it started. */
  uptime: number
  /** Cloud Run's revision (env K_REVISION); '' elsewhere. */
  revision: string
}

/** Which instances there are: each keeps a record of itself in a presence list, so that nobody has to be asked. */
export class Instances {
  readonly #instance: Instance
  readonly #hub: Hub
  readonly #presence: Presence

  constructor (instance: Instance, hub: Hub, presence: Presence) {
    this.#instance = instance
    this.#hub = hub
    this.#presence = presence
  }

  get own (): InstanceInfo {
    const { id, startedAt, connections } = this.#instance
    return {
      instance: id,
      connections: connections.size,
      channels: this.#hub.channels,
      uptime: Math.round((Date.now() - startedAt) / 1_000),
      revision: process.env.K_REVISION ?? ''
    }
  }

  /** This instance's figures are those of now; those of the others as old as their last record. */
  async list (): Promise<InstanceInfo[]> {
    const { own } = this
    const others = (await this.#presence.list(INSTANCES_CHANNEL)).filter(({ client }) => client !== own.instance)
    return [own, ...others.map(({ info }) => info as InstanceInfo)]
  }

  async record (): Promise<void> {
    const { own } = this
    await this.#presence.add(INSTANCES_CHANNEL, [{ client: own.instance, user: '', info: own }])
  }

  async remove (): Promise<void> {
    await this.#presence.remove(INSTANCES_CHANNEL, this.#instance.id)
  }
}
