import t from 'tap'
import type { Test } from 'tap'
import { ClusterCommands } from '../../../lib/backends/redis/cluster-commands.ts'
import { ClusterSubscriber } from '../../../lib/backends/redis/cluster-subscriber.ts'
import { StandaloneEndpoint } from '../../../lib/backends/redis/endpoint.ts'
import { RedisKeys } from '../../../lib/backends/redis/keys.ts'
import { StandaloneSubscriber } from '../../../lib/backends/redis/subscriber.ts'
import type { RedisSubscriber } from '../../../lib/backends/redis/subscriber.ts'
import { randomPrefix } from '../../helpers/prefix.ts'
import { command, startRedis, startRedisCluster } from '../../helpers/redis.ts'
import { until } from '../../helpers/until.ts'

const keys = new RedisKeys(randomPrefix())

/**
 * Leaves a channel and enters it again in the same turn. Then messages from before arrive for the first listener,
 * which asks again to be unsubscribed.
 */
async function comeBackAtOnce (t: Test, subscriber: RedisSubscriber, publish: (pubsub: string) => Promise<unknown>): Promise<void> {
  const pubsub = randomPrefix()
  const received: string[] = []
  const gone = () => { received.push('for the listener that has left') }
  await subscriber.subscribe(pubsub, gone)
  subscriber.unsubscribe(pubsub, gone)
  const subscribed = subscriber.subscribe(pubsub, message => { received.push(String(message)) })
  for (let i = 0; i < 20; i++) {
    subscriber.unsubscribe(pubsub, gone)
    await Promise.resolve() // before the subscribe is sent, and after it
  }
  await subscribed
  await publish(pubsub)
  await until(() => received.length > 0, 'the message arrives')
  t.strictSame(received, ['hello'])
}

t.test('a channel that was left and entered at once is not silenced by a message from before, on one server', async (t) => {
  const redis = await startRedis(t)
  const subscriber = new StandaloneSubscriber(new StandaloneEndpoint({ kind: 'standalone', options: { url: redis.url } }), keys, () => {})
  t.teardown(() => subscriber.close())
  await new Promise<void>(resolve => subscriber.open({ lost () {}, restored () {}, changed: resolve }))
  await comeBackAtOnce(t, subscriber, pubsub => command(redis.port, ['PUBLISH', pubsub, 'hello']))
})

t.test('a channel that was left and entered at once is not silenced by a message from before, on a cluster', async (t) => {
  const { rootNodes } = await startRedisCluster(t)
  const commands = new ClusterCommands({ kind: 'cluster', options: { rootNodes } }, keys)
  const subscriber = new ClusterSubscriber(commands)
  t.teardown(() => Promise.all([commands.close(), subscriber.close()]))
  await new Promise<void>(resolve => commands.open(resolve))
  await comeBackAtOnce(t, subscriber, pubsub => commands.send(pubsub, ['SPUBLISH', pubsub, 'hello']))
})
