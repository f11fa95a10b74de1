import { SamplingDecision } from '@opentelemetry/sdk-trace-node'
import Fastify from 'fastify'
import type { AddressInfo } from 'node:net'
import { createClient, RESP_TYPES } from 'redis'
import type { Test } from 'tap'
import type plugin from '../../index.ts'
import type { Options } from '../../index.ts'
import { RedisKeys } from '../../lib/backends/redis/keys.ts'
import { startRedis } from './redis.ts'
import { sdkClient } from './sdk.ts'
import { startTracer } from './tracer.ts'
import { until } from './until.ts'
import { connect } from './ws-client.ts'

/** A value on Redis: a string, [field, value] of a hash, [member, score] of a sorted set, [id, entry] of a stream. */
export type RedisValue = string | Array<[string, string]>

/** What one version has written to an empty Redis. Bytes are strings in latin1. */
export interface RedisRecording {
  keys: Record<string, { type: string, ttl: number, value: RedisValue }>
  /** Pub/Sub channel and message, in the order in which they were published. */
  messages: Array<[channel: string, message: string]>
  /** What differs in every recording, and the name that stands for it. */
  ids: Record<string, string>
}

export const PREFIX = 'recorded'

/** Of the instances that write, and of those that read what was written. */
export const options: Options = {
  keyPrefix: PREFIX,
  channels: {
    chat: { subscribe: true, publish: true, history: { size: 10, ttl: '10m' } },
    room: { subscribe: true, publish: true, presence: true, joinLeave: true },
    live: { subscribe: true, publish: true }
  },
  authenticate: ({ query }) => {
    const { user } = query as { user: string }
    return { user, info: { name: `${user} ž` } }
  },
  shutdown: { signals: false, timeout: 2_000 }
}

/** What is published to `chat:{1} %` and to `live:1`: every kind of payload, and with tags. */
export const published = [
  { data: 'grüße\n2' },
  { data: { a: [1, null, 'ž'] } },
  { data: Buffer.from([0, 255, 1, 10, 32]) },
  { data: 7, tags: { lang: 'de', ž: '👍' } }
]
export const KEPT = 'chat:{1} %'
export const LIVE = 'live:1'

const BYTES = { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } }

/** Sends commands whose arguments and replies are bytes, as strings in latin1. */
export async function openRedis (t: Test, url: string) {
  const client = createClient({ url, RESP: 2 })
  await client.connect()
  t.teardown(() => { client.destroy() })
  const send = async (...args: string[]): Promise<unknown> => {
    return toStrings(await client.sendCommand(args.map(arg => Buffer.from(arg, 'latin1')), BYTES))
  }
  return send
}

export type SendCommand = Awaited<ReturnType<typeof openRedis>>

function toStrings (reply: unknown): unknown {
  if (Buffer.isBuffer(reply)) return reply.toString('latin1')
  return Array.isArray(reply) ? reply.map(toStrings) : reply
}

/** Has an instance of this version do everything that writes to Redis. */
export async function record (t: Test, version: typeof plugin): Promise<RedisRecording> {
  const redis = await startRedis(t)
  const send = await openRedis(t, redis.url)
  const messages = await recordMessages(t, redis.url)
  let sampled = false
  startTracer(t, {
    shouldSample: () => ({ decision: sampled ? SamplingDecision.RECORD_AND_SAMPLED : SamplingDecision.NOT_RECORD }),
    toString: () => 'while `sampled` is set'
  })

  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(version, { ...options, redis: redis.url })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { realtime } = app
  const url = `ws://127.0.0.1:${(app.server.address() as AddressInfo).port}`

  for (const channel of [LIVE, KEPT]) {
    for (const { data, ...settings } of published) await realtime.publish(channel, data, settings)
    await realtime.publish(channel, 'once', { idempotencyKey: 'key' })
  }
  await realtime.publish('chat:2', 'not kept', { history: false })
  sampled = true
  await realtime.publish(LIVE, 'traced')
  await realtime.publish(KEPT, 'traced', { tags: { a: 'b' } })
  sampled = false

  const ann = await sdkClient(t, `${url}/connection/websocket?user=ann`, 'json').connected()
  const room = await ann.subscribe('room:1').subscribed()
  await ann.publish('room:1', { from: 'ann' })
  await ann.publish('chat:2', { from: 'ann' })
  room.sub.unsubscribe()
  await until(() => messages.at(-1)?.[1].includes('\n{"client"') && /^0 {2}- /.test(messages.at(-1)![1]), 'ann has left the room')
  room.sub.subscribe()
  await room.subscribed(2)

  const bob = await connect(t, `${url}/ws?user=bob`)
  const { id } = Array.from(realtime.connections).find(({ user }) => user === 'bob')!
  await realtime.sessions.set('bob {', { cart: [1, 'ž'], gone: 1 })
  await realtime.sessions.set('bob {', { gone: undefined, theme: 'dark' }, { ttl: '2h' })
  await realtime.subscribe('bob', LIVE)
  await realtime.unsubscribe('bob', LIVE)
  await realtime.disconnect({ client: id }, { code: 4001, reason: 'you' })
  await bob.closed
  await realtime.disconnect('carl')

  const [info] = await realtime.info()
  await realtime.publish(LIVE, 'end')
  await until(() => messages.at(-1)?.[1].endsWith('\nend'), 'everything was published')
  const keys = await readKeys(send)
  const epochs = Object.entries(keys).filter(([key]) => key.includes(':position:'))
    .map(([key, { value }]) => [(value as Array<[string, string]>).find(([field]) => field === 'e')![1], `<epoch of ${key}>`])
  return {
    keys,
    messages: messages.slice(),
    ids: { [info!.instance]: '<instance>', [ann.id]: '<ann>', [id]: '<bob>', ...Object.fromEntries(epochs) }
  }
}

async function recordMessages (t: Test, url: string): Promise<RedisRecording['messages']> {
  const client = createClient({ url })
  await client.connect()
  t.teardown(() => { client.destroy() })
  const messages: RedisRecording['messages'] = []
  const { rights } = new RedisKeys(PREFIX)
  await client.pSubscribe(`${PREFIX}:*`, (message, channel) => {
    if (channel.toString() === rights) return // an instance tries what it may do
    messages.push([channel.toString('latin1'), message.toString('latin1')])
  }, true)
  return messages
}

async function readKeys (send: SendCommand): Promise<RedisRecording['keys']> {
  const keys: RedisRecording['keys'] = {}
  for (const key of (await send('KEYS', '*') as string[]).toSorted()) {
    const type = await send('TYPE', key) as string
    keys[key] = { type, ttl: await send('PTTL', key) as number, value: await readValue(send, key, type) }
  }
  return keys
}

async function readValue (send: SendCommand, key: string, type: string): Promise<RedisValue> {
  if (type === 'string') return await send('GET', key) as string
  if (type === 'stream') {
    const entries = await send('XRANGE', key, '-', '+') as Array<[string, string[]]>
    return entries.map(([id, fields]) => [id, fields.join(' ')])
  }
  const flat = await send(...type === 'hash' ? ['HGETALL', key] : ['ZRANGE', key, '0', '-1', 'WITHSCORES']) as string[]
  return Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i]!, flat[2 * i + 1]!])
}

/** What two recordings have in common. Names stand for times, ids, traces and counters. TTLs are in minutes. */
export function normalize ({ keys, messages, ids }: RedisRecording): Pick<RedisRecording, 'keys' | 'messages'> {
  const names = (text: string) => Object.entries(ids).reduce((text, [id, name]) => text.replaceAll(id, name), text)
    .replace(/\b\d{13}\b/g, '<time>')
    .replace(/00-[0-9a-f]{32}-[0-9a-f]{16}-01/, '<trace>')
    .replace(/"(connections|channels|uptime)":\d+/g, '"$1":<count>')
  const namesIn = (value: RedisValue): RedisValue => {
    if (typeof value === 'string') return names(value)
    return value.map(([name, content]): [string, string] => [names(name), names(content)]).toSorted(([a], [b]) => a < b ? -1 : 1)
  }
  return {
    keys: Object.fromEntries(Object.entries(keys).map(([key, { type, ttl, value }]) => {
      return [key, { type, ttl: Math.ceil(ttl / 60_000), value: namesIn(value) }]
    })),
    messages: messages.map(([channel, message]) => [channel, names(message)])
  }
}
