import { readFileSync } from 'node:fs'
import t from 'tap'
import cloudRunWebSocket from '../../index.ts'
import { startApp } from '../helpers/app.ts'
import { startRedis } from '../helpers/redis.ts'
import { KEPT, LIVE, normalize, openRedis, options, PREFIX, record } from '../helpers/redis-recording.ts'
import type { RedisRecording, SendCommand } from '../helpers/redis-recording.ts'
import { sdkClient } from '../helpers/sdk.ts'
import { until } from '../helpers/until.ts'
import { connect, rejected } from '../helpers/ws-client.ts'

// During a deployment instances of two versions share one Redis. What the older one has written is a fixture, made by
// fixtures/record-redis.ts from the commit da94dc0.

const older = JSON.parse(readFileSync(new URL('../fixtures/redis-recording.json', import.meta.url), 'utf8')) as RedisRecording
const idOf = (name: string) => Object.keys(older.ids).find(id => older.ids[id] === name)!
const epoch = idOf(`<epoch of ${PREFIX}:position:{chat:%7B1%7D %25}>`)
const annInfo = { name: 'ann ž' }

t.test('this version writes to Redis what the older one writes, but for times, ids and what is new', async (t) => {
  t.strictSame(withoutNew(normalize(await record(t, cloudRunWebSocket))), normalize(older))
})

t.test('this version goes on with what the older one has written', async (t) => {
  const redis = await startRedis(t)
  await restore(await openRedis(t, redis.url), older)
  const rateLimit = { connections: { max: 3, timeWindow: '1m' } }
  const { app: { realtime }, url } = await startApp(t, { ...options, redis: redis.url, rateLimit })

  const { publications, ...position } = await realtime.history(KEPT)
  t.strictSame(position, { offset: 6, epoch })
  t.match(publications, [
    { offset: 1, epoch, data: 'grüße\n2' },
    { offset: 2, epoch, data: { a: [1, null, 'ž'] } },
    { offset: 3, epoch, data: Buffer.from([0, 255, 1, 10, 32]) },
    { offset: 4, epoch, data: 7, tags: { lang: 'de', ž: '👍' } },
    { offset: 5, epoch, data: 'once' },
    { offset: 6, epoch, data: 'traced', tags: { a: 'b' } }
  ])
  t.strictSame(await realtime.publish(KEPT, 'once', { idempotencyKey: 'key' }), { offset: 5, epoch }, 'not once more')
  t.strictSame(await realtime.publish(KEPT, 'next'), { offset: 7, epoch })

  const members = [{ client: idOf('<ann>'), user: 'ann', info: annInfo }]
  t.strictSame(await realtime.presence('room:1'), members)
  t.strictSame(await realtime.sessions.get('bob {'), { cart: [1, 'ž'], theme: 'dark' })
  const [, ...others] = await realtime.info()
  t.strictSame(others, [{ instance: idOf('<instance>'), connections: 0, channels: 0, uptime: 0, revision: '' }])

  const client = await sdkClient(t, `${url}/connection/websocket?user=dora`, 'json').connected()
  const subscription = await client.subscribe(KEPT, { since: { offset: 4, epoch } }).arrived(3)
  t.match(subscription.events.subscribed, [{ wasRecovering: true, recovered: true }])
  t.strictSame(subscription.data, ['once', 'traced', 'next'])
  t.equal((await rejected(`${url}/ws`)).statusCode, 429, 'the older version has counted two upgrades, this one is the fourth')
})

t.test('clients of this version get what the older one publishes, and its commands', async (t) => {
  const redis = await startRedis(t)
  const send = await openRedis(t, redis.url)
  for (const [key, { value }] of Object.entries(older.keys)) {
    if (key.includes(':position:')) await send('HSET', key, ...fieldOf(value, 'e'))
  }
  const warnings: string[] = []
  const { app, url } = await startApp(t, {
    ...options,
    redis: redis.url,
    onConnect: async (connection, { query }) => {
      const { channel } = query as { channel?: string }
      if (channel !== undefined) await connection.subscribe(channel)
    }
  }, { logger: { level: 'warn', stream: { write: (line: string) => { warnings.push(line) } } } })
  const connectionOf = (name: string) => Array.from(app.realtime.connections).find(({ user }) => user === name)!
  const [live, kept, bob, carl] = await Promise.all([
    connect(t, `${url}/ws?user=live&channel=${encodeURIComponent(LIVE)}`),
    connect(t, `${url}/ws?user=kept&channel=${encodeURIComponent(KEPT)}`),
    connect(t, `${url}/ws?user=bob`),
    connect(t, `${url}/ws?user=carl`)
  ])
  await until(() => connectionOf('live').channels.size + connectionOf('kept').channels.size === 2, 'both are subscribed')
  const sdk = await sdkClient(t, `${url}/connection/websocket?user=dora`, 'json').connected()
  const [room, chat] = [sdk.subscribe('room:1'), sdk.subscribe('chat:2')]
  await Promise.all([room.subscribed(), chat.subscribed()])
  await until(() => room.events.join.length === 1, 'the SDK client has joined the room')

  const commands = older.messages.filter(([channel]) => channel.includes('\0control'))
  for (const message of older.messages) if (!commands.includes(message)) await publish(send, message)
  const sent = ['grüße\n2', '{"a":[1,null,"ž"]}', Buffer.from([0, 255, 1, 10, 32]), '7', 'once', 'traced']
  await until(() => live.messages.length >= 7 && kept.messages.length >= 6 && room.events.join.length >= 3, 'everything has arrived')
  t.strictSame(live.messages, [...sent, 'end'])
  t.strictSame(kept.messages, sent)
  const info = { client: idOf('<ann>'), user: 'ann', connInfo: annInfo }
  t.match(room.events.publication, [{ data: { from: 'ann' }, info }])
  t.match(room.events.join.slice(1), [{ info }, { info }])
  t.match(room.events.leave, [{ info }])
  t.match(chat.events.publication, [{ data: 'not kept' }, { data: { from: 'ann' }, offset: 1, info }])

  const [subscribe, unsubscribe, disconnectClient, disconnectUser] = commands as [Message, Message, Message, Message]
  await publish(send, subscribe)
  await until(() => connectionOf('bob').channels.has(LIVE), 'he is subscribed')
  await publish(send, unsubscribe)
  await until(() => connectionOf('bob').channels.size === 0, 'he is not subscribed any more')
  const [channel, command] = disconnectClient
  await publish(send, [channel, command.replace(idOf('<bob>'), connectionOf('bob').id)])
  t.strictSame(await bob.closed, { code: 4001, reason: 'you' })
  await publish(send, disconnectUser)
  t.strictSame(await carl.closed, { code: 3503, reason: 'force disconnect' })
  t.strictSame(warnings, [], 'nothing was missed, and nothing not understood')
})

/**
 * Leaves out what the older version does not write, and ignores: one kind of keys, a field of results, and the sequence
 * that Redis gives to a publication with an idempotency key.
 */
function withoutNew ({ keys, messages }: ReturnType<typeof normalize>): ReturnType<typeof normalize> {
  return {
    keys: Object.fromEntries(Object.entries(keys).filter(([key]) => !key.includes(':sequences:')).map(([key, { value, ...rest }]) => {
      return [key, { ...rest, value: typeof value === 'string' ? value : value.filter(([name]) => name !== 'entry') }]
    })),
    messages: messages.map(([channel, message]) => [channel, message.replace('<instance>+ 1', '<instance> 0')])
  }
}

type Message = RedisRecording['messages'][number]

function fieldOf (value: unknown, name: string): [string, string] {
  return (value as Array<[string, string]>).find(([field]) => field === name)!
}

/** As the scripts of the older version do it: the stream, the position and Pub/Sub in one step. */
async function publish (send: SendCommand, [pubsub, message]: Message): Promise<void> {
  const [, offset = '', epoch = '', publication = ''] = /^(\d+) (\S*) ([^]*)$/.exec(message)!
  if (epoch === '') {
    await send('PUBLISH', pubsub, message)
    return
  }
  await send('MULTI')
  await send('HSET', pubsub.replace(':pub:', ':position:'), 'e', epoch, 's', offset)
  await send('XADD', pubsub.replace(':pub:', ':stream:'), `${offset}-0`, 'd', publication)
  await send('PUBLISH', pubsub, message)
  await send('EXEC')
}

/** Members expire at a time: it is moved into the future, and the TTLs of all keys begin again. */
async function restore (send: SendCommand, { keys }: RedisRecording): Promise<void> {
  for (const [key, { type, ttl, value }] of Object.entries(keys)) {
    if (typeof value === 'string') await send('SET', key, value)
    else if (type === 'hash') await send('HSET', key, ...value.flat())
    else if (type === 'zset') await send('ZADD', key, ...value.flatMap(([member]) => [String(Date.now() + ttl), member]))
    else for (const [id, entry] of value) await send('XADD', key, id, 'd', entry.slice(2))
    await send('PEXPIRE', key, String(ttl))
  }
}
