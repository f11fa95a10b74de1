import type { Test } from 'tap'
import { history, startNode } from '../backends/broker-contract.ts'
import type { Node } from '../backends/broker-contract.ts'
import type { HistorySettings } from '../../lib/model/broker.ts'
import { RedisKeys } from '../../lib/backends/redis/keys.ts'
import { randomPrefix } from './prefix.ts'
import { command } from './redis.ts'
import type { RedisCluster } from './redis.ts'
import { until } from './until.ts'

/**
 * Starts an instance that listens and one that publishes. Each node has a channel with history. The channels are in the
 * order of the nodes.
 */
export async function setUpCluster (t: Test, cluster: RedisCluster) {
  const prefix = randomPrefix()
  const keys = new RedisKeys(prefix)
  const { rootNodes, nodes } = cluster
  const [listener, publisher] = [await startNode(t, { rootNodes }, prefix), await startNode(t, { rootNodes }, prefix)]
  const channels: string[] = []
  for (const { port } of nodes) {
    for (let i = 0; ; i++) {
      const channel = `room-${i}`
      if (channels.includes(channel) || !await owns(port, keys.stream(channel))) continue
      channels.push(channel)
      break
    }
  }
  for (const channel of channels) {
    await listener.subscribe(channel, true)
    await publisher.publish(channel, 0, { history })
    await listener.arrived(channel, 1)
  }
  return { prefix, keys, listener, publisher, channels: channels as [string, string, string] }
}

export async function owns (port: number, key: string): Promise<boolean> {
  return command(port, ['EXISTS', key]).then(() => true, () => false)
}

/** Publishes repeatedly until Redis has stored the publication. */
export function publishUntilStored (node: Node, channel: string, data: unknown, settings: HistorySettings = history) {
  return until(() => node.publish(channel, data, { history: settings, idempotencyKey: `key ${data}` }), `${data} is stored`, 60_000)
}
