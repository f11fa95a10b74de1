import t from 'tap'
import { startRedis } from '../../helpers/redis.ts'
import { startInstances } from '../../helpers/sdk.ts'
import { connectionsOf } from '../../helpers/connections.ts'
import { streamClient, streamTransports } from '../../helpers/streams.ts'
import { until } from '../../helpers/until.ts'
import type { Options } from '../../../index.ts'

const options: Options = {
  fallback: true,
  authenticate: ({ headers }) => ({ user: String(headers['user-agent'] ?? 'ada').slice(0, 4) }),
  onRpc: (_connection, method, data) => ({ method, data }),
  onMessage: (connection, data) => { connection.send({ echo: data }) },
  channels: { chat: { subscribe: true, publish: true, history: { size: 100, ttl: '1m' }, presence: true, joinLeave: true } }
}

for (const broker of ['memory', 'redis'] as const) {
  t.test(`broker in ${broker}`, async (t) => {
    const redis = broker === 'redis' ? await startRedis(t) : undefined
    for (const [transport, encoding] of streamTransports) {
      t.test(`the SDK speaks ${transport} in ${encoding} as it does a WebSocket`, async (t) => {
        const instances = await startInstances(t, redis === undefined ? 1 : 2, options, redis)
        const [one, other] = [instances[0]!, instances.at(-1)!]
        const client = streamClient(t, one.url, transport, encoding, {}, other.url)
        await client.connected()
        t.equal(client.events.connected[0]!.transport, transport)
        const [connection] = connectionsOf(one.app)
        t.match(connection, { transport, protocol: encoding, id: client.id })
        const subscription = await client.subscribe('chat:lobby').subscribed()
        await client.publish('chat:lobby', { text: 'hello' })
        await subscription.arrived(1)
        t.strictSame(subscription.data, [{ text: 'hello' }])
        t.strictSame(await client.rpc('echo', { n: 1 }), { method: 'echo', data: { n: 1 } })
        client.client.send(client.enc({ hi: true }))
        await until(() => client.messages.length > 0, 'the message')
        t.strictSame(client.messages, [{ echo: { hi: true } }])
        t.equal((await subscription.sub.presenceStats()).numClients, 1)
        t.equal((await subscription.sub.history({ limit: 10 })).publications.length, 1)
        await other.app.realtime.disconnect({ client: client.id }, { code: 4500, reason: 'go away' })
        t.strictSame(await client.disconnected(), { code: 4500, reason: 'go away' })
      })
    }
  })
}
