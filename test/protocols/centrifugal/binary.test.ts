import t from 'tap'
import type { Options } from '../../../index.ts'
import { encodings, sdkClient, startInstances } from '../../helpers/sdk.ts'
import { startRedis } from '../../helpers/redis.ts'
import { until } from '../../helpers/until.ts'

const bytes = Buffer.from([0, 255])
const options: Options = {
  channels: { room: { subscribe: true, history: { size: 10, ttl: '1m' } } },
  methods: { bytes: { handler: () => bytes } },
  onRpc: () => bytes,
  onConnect: () => ({ data: bytes }),
  onSubscribe: () => ({ data: bytes })
}

for (const encoding of encodings) {
  t.test(`a Buffer is ${encoding === 'json' ? 'base64' : 'bytes'} wherever an SDK gets it, in ${encoding}`, async (t) => {
    const redis = await startRedis(t)
    const [one, two] = await startInstances(t, 2, options, redis)
    const client = await sdkClient(t, one!.url, encoding).connected()
    const expected = encoding === 'json' ? bytes.toString('base64') : bytes
    t.strictSame(client.dec(client.events.connected[0]!.data), expected, 'the reply to connect')
    const room = await client.subscribe('room:1').subscribed()
    t.strictSame(client.dec(room.events.subscribed[0]!.data), expected, 'the reply to subscribe')
    await two!.app.realtime.publish('room:1', bytes)
    await room.arrived(1)
    t.strictSame(room.data, [expected], 'a publication')
    const { publications } = await room.sub.history({ limit: 1 })
    t.strictSame(publications.map(one => room.dec(one)), [expected], 'the history')
    await two!.app.realtime.send({ everybody: true }, bytes)
    await until(() => client.messages.length > 0, 'the message')
    t.strictSame(client.messages, [expected], 'a message')
    for (const method of ['bytes', 'other']) t.strictSame(await client.rpc(method, {}), expected, `the result of ${method}`)
  })
}
