import t from 'tap'
import type { Options } from '../../../index.ts'
import { FaultProxy } from '../../faults/proxy.ts'
import { startBalancer } from '../../helpers/balancer.ts'
import { randomPrefix } from '../../helpers/prefix.ts'
import { startRedis } from '../../helpers/redis.ts'
import { startInstances } from '../../helpers/sdk.ts'
import { streamClient, streamTransports } from '../../helpers/streams.ts'
import { until } from '../../helpers/until.ts'

/** What an SDK says of a command when its transport was closed: it has not waited for the command's own timeout. */
const CONNECTION_CLOSED = 11
/** Milliseconds for which SDKs wait for an answer by default. */
const SDK_TIMEOUT = 5_000

for (const frozen of ['streams', 'posts'] as const) {
  t.test(`the link to Redis of the instance with the ${frozen} freezes: clients hear of it in time, and miss nothing`, async (t) => {
    const redis = await startRedis(t)
    const proxy = await FaultProxy.start(redis.port)
    t.teardown(() => proxy.close())
    const noted: unknown[] = []
    const options: Options = {
      fallback: true,
      keyPrefix: randomPrefix(),
      channels: { room: { subscribe: true, history: { size: 1_000, ttl: '10m' } } },
      onRpc: (_connection, _method, data) => { noted.push(data) }
    }
    const [broken] = await startInstances(t, 1, options, { url: `redis://127.0.0.1:${proxy.port}` })
    const [sound] = await startInstances(t, 1, options, redis)
    const [streams, posts] = frozen === 'streams' ? [broken!, sound!] : [sound!, broken!]
    const [streamBalancer, postBalancer] = [await startBalancer(t, [streams.url]), await startBalancer(t, [posts.url])]
    const clients = streamTransports.map(([transport, encoding]) => {
      return streamClient(t, streamBalancer.url, transport, encoding, { timeout: SDK_TIMEOUT }, postBalancer.url)
    })
    const subscriptions = await Promise.all(clients.map(client => client.subscribe('room:1').subscribed()))
    let count = 0
    const publish = async () => { for (let i = 0; i < 10; i++) await sound!.app.realtime.publish('room:1', count++) }
    await publish()
    await Promise.all(subscriptions.map(subscription => subscription.arrived(count)))

    proxy.freeze()
    const calls = await Promise.allSettled(clients.map((client, i) => client.rpc('note', i)))
    t.strictSame(calls.map(call => call.status === 'rejected' && call.reason.code), clients.map(() => CONNECTION_CLOSED))
    await publish()
    for (const balancer of [streamBalancer, postBalancer]) {
      balancer.targets = [sound!.url]
      balancer.cut() // `fetch` would use the connections that it has
    }
    await Promise.all(clients.map(client => client.connected(2)))
    await publish()
    await Promise.all(subscriptions.map(subscription => subscription.arrived(count)))
    proxy.heal()
    await until(async () => (await broken!.app.inject('/ready')).json().redis === 'up', 'the link is back', 30_000)
    await publish()
    await Promise.all(subscriptions.map(subscription => subscription.arrived(count)))
    await Promise.all(clients.map((client, i) => client.rpc('note', i)))
    for (const { data } of subscriptions) t.strictSame(data, Array.from({ length: count }, (_, i) => i), 'each once, in order')
    t.strictSame(noted.sort(), clients.map((_, i) => i), 'what was called in vain does not take effect later')
  })
}
