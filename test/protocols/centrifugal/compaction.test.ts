import t from 'tap'
import type { Test } from 'tap'
import type { App } from '../../helpers/app.ts'
import { startBalancer } from '../../helpers/balancer.ts'
import { startRedis } from '../../helpers/redis.ts'
import { encodings, sdkClient, startInstances } from '../../helpers/sdk.ts'
import type { Encoding } from '../../helpers/sdk.ts'
import { encodeCommands, sdkCodec } from '../../helpers/sdk-codec.ts'
import { until } from '../../helpers/until.ts'
import { connect } from '../../helpers/ws-client.ts'

t.setTimeout(120_000)
const redis = await startRedis(t)

const rule = { subscribe: true, publish: true, joinLeave: true } as const
const channels = {
  compact: { ...rule, compaction: true, history: { size: 10, ttl: '10m' } },
  both: { ...rule, compaction: true, delta: true },
  whole: rule
} as const

function everywhere (name: string, run: (t: Test, one: App, two: App, encoding: Encoding) => Promise<void>): void {
  for (const [where, n, store] of [['in memory', 1, undefined], ['across two instances', 2, redis]] as const) {
    for (const encoding of encodings) {
      t.test(`${where}, ${encoding}: ${name}`, async (t) => {
        const authenticate = () => ({ user: 'ann', channels: ['compact:server'] })
        const instances = await startInstances(t, n, { channels, authenticate }, store)
        await run(t, instances[0]!, instances[n - 1]!, encoding)
      })
    }
  }
}

/** A client that sends what it is told to, and keeps each reply and push with the bytes of its message. */
async function rawClient (t: Test, url: string, encoding: Encoding) {
  const protocols = encoding === 'protobuf' ? { protocols: 'centrifuge-protobuf' } : {}
  const client = await connect(t, `${url}/connection/websocket`, protocols)
  let id = 0
  const all = () => client.messages.flatMap((message): Array<{ bytes: number, reply: any }> => {
    const replies = typeof message === 'string' ? message.split('\n').map(line => JSON.parse(line)) : sdkCodec.decodeReplies(message)
    return replies.map(reply => ({ bytes: Buffer.byteLength(message), reply }))
  })
  return {
    async ask (name: string, request: object): Promise<any> {
      const own = ++id
      client.send(encodeCommands(encoding, [{ id: own, [name]: request }]))
      const { reply } = await until(() => all().find(({ reply }) => reply.id === own)!, `the reply to ${name}`)
      return reply[name]
    },
    pushes () {
      const pushes = all().filter(({ reply }) => reply.push)
      return pushes.map(({ bytes, reply: { push } }) => ({ bytes, push, id: Number(String(push.id ?? 0)) }))
    }
  }
}

everywhere('a client that takes numbers gets them in place of the name, and one that does not gets the name', async (t, one, two, encoding) => {
  const channel = 'compact:a-name-of-some-length'
  const [short, whole] = await Promise.all([rawClient(t, one.url, encoding), rawClient(t, one.url, encoding)])
  for (const client of [short, whole]) await client.ask('connect', { name: 'swift' })
  const { id } = await short.ask('subscribe', { channel, flag: 1 })
  const number = Number(String(id))
  t.ok(number > 0)
  t.notOk((await whole.ask('subscribe', { channel, flag: 2 })).id > 0)
  t.notOk((await short.ask('subscribe', { channel: 'whole:1', flag: 1 })).id > 0, 'the namespace has no compaction')
  await until(() => short.pushes().some(({ push, id }) => push.join && id === number), 'a join with the number')
  await two.app.realtime.publish(channel, { text: 'hello' })
  const [compact, named] = await Promise.all([short, whole].map(client => until(() => client.pushes().find(({ push }) => push.pub)!, 'a publication')))
  t.strictSame([compact!.id, compact!.push.channel || ''], [number, ''])
  t.strictSame([named!.id, named!.push.channel], [0, channel])
  t.equal(named!.bytes - compact!.bytes, encoding === 'json'
    ? `"channel":"${channel}"`.length - `"id":${number}`.length
    : (2 + channel.length) - 2)
  t.comment(`${encoding}: ${named!.bytes} bytes by name, ${compact!.bytes} by number`)
})

everywhere('the SDK goes on as before: publications, joins, leaves, recovery, unsubscribe, and a channel by the server', async (t, one, two, encoding) => {
  const balancer = await startBalancer(t, [one.url, two.url])
  const client = await sdkClient(t, balancer.url, encoding).connected()
  const other = await sdkClient(t, two.url, encoding).connected()
  const [a, b] = await Promise.all(['a', 'b'].map(name => client.subscribe(`compact:${name}`).subscribed()))
  const numberOf = (subscription: typeof a) => Number(String((subscription!.sub as unknown as { _id: unknown })._id))
  // In Protobuf this SDK drops what has a number: it is an object there, which is compared by identity.
  if (encoding === 'json') t.ok(numberOf(a) > 0 && numberOf(b) > 0 && numberOf(a) !== numberOf(b))
  else t.strictSame([numberOf(a), numberOf(b)], [0, 0])
  const others = await other.subscribe('compact:a').subscribed()
  await other.publish('compact:a', 1)
  await other.publish('compact:b', 'b1')
  await two.app.realtime.publish('compact:server', 's1')
  await a!.arrived(1)
  await b!.arrived(1)
  await until(() => client.data('compact:server').length === 1, 'the channel by the server')
  balancer.cut()
  await two.app.realtime.publish('compact:a', 2)
  await a!.subscribed(2)
  await two.app.realtime.publish('compact:a', 3)
  await a!.arrived(3)
  other.client.disconnect()
  await until(() => a!.events.leave.length >= 1, 'the leave')
  t.strictSame([a!.data, b!.data, others.data], [[1, 2, 3], ['b1'], [1, 2, 3]])
  // By the app: the push that ends it has the name.
  await one.app.realtime.unsubscribe('ann', 'compact:a')
  t.strictSame(await a!.unsubscribed(), { code: 2000, reason: 'server unsubscribe' })
  await two.app.realtime.publish('compact:a', 4)
  a!.sub.subscribe()
  await a!.subscribed(3)
  await two.app.realtime.publish('compact:a', 5)
  await a!.arrived(5)
  t.strictSame(a!.data, [1, 2, 3, 4, 5])
  t.equal(client.events.error.length, 0)
})

t.test('in Protobuf a client with a name that is not that of an SDK gets no number', async (t) => {
  const [one] = await startInstances(t, 1, { channels })
  for (const request of [{}, { name: 'js' }, { name: 'my app' }, { name: 'java' }]) {
    const client = await rawClient(t, one!.url, 'protobuf')
    await client.ask('connect', request)
    const { id } = await client.ask('subscribe', { channel: 'compact:1', flag: 3 })
    t.equal(Number(String(id)) > 0, request.name === 'java', JSON.stringify(request))
  }
})

everywhere('a number is never that of another channel, also after the last subscriber has left', async (t, one, _two, encoding) => {
  const client = await rawClient(t, one.url, encoding)
  await client.ask('connect', { name: 'swift' })
  const numbers = new Map<number, string>()
  for (let i = 0; i < 20; i++) {
    const channel = `compact:${i % 5}`
    const number = Number(String((await client.ask('subscribe', { channel, flag: 1 })).id))
    t.equal(numbers.get(number) ?? channel, channel)
    numbers.set(number, channel)
    await client.ask('unsubscribe', { channel })
  }
})

everywhere('deltas have the number, too', async (t, one, two, encoding) => {
  const client = await rawClient(t, one.url, encoding)
  await client.ask('connect', { name: 'swift' })
  const { id, delta } = await client.ask('subscribe', { channel: 'both:1', flag: 1, delta: 'fossil' })
  t.equal(delta, true)
  const sdk = await (await sdkClient(t, one.url, encoding).connected()).subscribe('both:1', { delta: 'fossil' }).subscribed()
  const values = [1, 2, 3].map(n => ({ text: 'the same words again and again, but for a number', n }))
  for (const value of values) await two.app.realtime.publish('both:1', value)
  await until(() => client.pushes().filter(({ push }) => push.pub).length === 3, 'three publications')
  const pushes = client.pushes().filter(({ push }) => push.pub)
  t.strictSame(pushes.map(({ id, push }) => [id, push.channel || '', push.pub.delta ?? false]), [false, true, true].map(delta => [Number(String(id)), '', delta]))
  await sdk.arrived(3)
  t.strictSame(sdk.data, values)
})
