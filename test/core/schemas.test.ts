import t from 'tap'
import { z } from 'zod'
import type { ChannelOptions, Options } from '../../index.ts'
import { startRedis } from '../helpers/redis.ts'
import { encodings, sdkClient, startInstances } from '../helpers/sdk.ts'
import { until } from '../helpers/until.ts'

const message = { type: 'object', required: ['text'], properties: { text: { type: 'string' }, n: { type: 'integer', default: 1 } } }

/** Namespaces of channels with history, in which everybody may do everything. */
function namespaces (schemas: Record<string, object>, rules: ChannelOptions = {}): Options['channels'] {
  return Object.fromEntries(Object.entries(schemas).map(([namespace, schema]) => {
    return [namespace, { subscribe: true, publish: true, history: { size: 10, ttl: '1m' }, schema, ...rules }]
  }))
}

const refusal = (reason: string | RegExp) => ({ code: 107, message: reason instanceof RegExp ? reason : `bad request: ${reason}` })

/** The code and the message of the error. The SDK's errors are plain objects. */
async function errorOf (call: Promise<unknown>): Promise<{ code: number, message: string }> {
  return call.then(() => { throw new Error('it was answered') }, ({ code, message }) => ({ code, message }))
}

for (const kind of ['memory', 'Redis']) {
  for (const encoding of encodings) {
    t.test(`${kind}, ${encoding}: what clients publish is parsed and checked once, before the rule and onPublish`, async (t) => {
      const redis = kind === 'Redis' ? await startRedis(t) : undefined
      const seen: unknown[] = []
      let parsed = 0
      const counted = z.object({ text: z.string().trim(), at: z.coerce.number().default(7) })
        .transform(data => ({ ...data, parsed: ++parsed }))
      const instances = await startInstances(t, redis === undefined ? 1 : 2, {
        channels: {
          ...namespaces({ zod: counted, json: message }),
          rule: { ...namespaces({ rule: counted })!.rule, publish: (_connection, _channel, data) => seen.push(data) > 0 }
        },
        onPublish (_connection, channel, data) { if (channel.startsWith('rule')) seen.push(data) }
      }, redis)
      const [one, two] = [instances[0], instances.at(-1)]
      const client = await sdkClient(t, one!.url, encoding).connected()
      const other = await sdkClient(t, two!.url, encoding).subscribe('rule:1').subscribed()
      await client.publish('rule:1', { text: ' hi ', at: '3', more: true })
      t.strictSame(seen, [{ text: 'hi', at: 3, parsed: 1 }, { text: 'hi', at: 3, parsed: 1 }])
      t.strictSame(await until(() => other.data[0], 'the publication'), { text: 'hi', at: 3, parsed: 1 })
      await client.publish('json:1', { text: 5, n: '7' })
      await client.publish('json:1', { text: 'hi' })
      const { publications } = await two!.app.realtime.history('json:1')
      t.strictSame(publications.map(({ data }) => data), [{ text: '5', n: 7 }, { text: 'hi', n: 1 }], "Fastify's defaults: coercion, defaults")
      t.strictSame(await errorOf(client.publish('zod:1', { text: 5 })), refusal('data/text: Invalid input: expected string, received number'))
      t.strictSame(await errorOf(client.publish('json:1', { text: [] })), refusal('data/text must be string'))
      t.strictSame(await errorOf(client.publish('json:1', 'text')), refusal('data must be object'))
      t.strictSame([parsed, client.events.connected.length], [1, 1])
    })
  }
}
