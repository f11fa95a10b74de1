import t from 'tap'
import type { Test } from 'tap'
import type { Options } from '../../../index.ts'
import { startApp } from '../../helpers/app.ts'
import { startRedis } from '../../helpers/redis.ts'
import { startInstances } from '../../helpers/sdk.ts'
import type { SdkClient } from '../../helpers/sdk.ts'
import { nameOf, wireClient, wires } from '../../helpers/streams.ts'
import type { Wire } from '../../helpers/streams.ts'

t.setTimeout(60_000)
const redis = await startRedis(t)

const rule = { subscribe: true, presence: true } as const
const options: Options = {
  fallback: true,
  authenticate: ({ query }) => ({ user: (query as { user: string }).user }),
  channels: {
    room: rule,
    open: { ...rule, presenceFor: 'everybody' },
    off: { subscribe: true },
    team: {
      ...rule,
      presenceFor: async (connection, channel) => {
        if (channel === 'team:broken') throw new Error('the database is down')
        return connection.user === 'ann'
      }
    }
  }
}

function overEach (name: string, run: (t: Test, wire: Wire) => Promise<void>): void {
  for (const wire of wires) t.test(`${nameOf(wire)}: ${name}`, t => run(t, wire))
}

function clientOf (t: Test, url: string, wire: Wire, user: string): Promise<SdkClient> {
  return wireClient(t, `${url}/connection/websocket?user=${user}`, wire).connected()
}

/** The users whom a client sees, and the figures; or the code of the error for both. */
async function seen ({ client }: SdkClient, channel: string): Promise<unknown> {
  const presence = client.presence(channel).then(({ clients }) => Object.values(clients).map(({ user }) => user).toSorted())
  const stats = client.presenceStats(channel).then(({ numClients, numUsers }) => [numClients, numUsers])
  const [who, figures] = await Promise.all([presence, stats].map(answer => answer.catch(({ code }: { code: number }) => code)))
  return who === figures ? who : [who, figures]
}

overEach('by default subscribers may ask, with everybody all clients, with a function those whom it allows', async (t, wire) => {
  const [one, two] = await startInstances(t, 2, options, redis)
  const bob = await clientOf(t, two!.url, wire, 'bob')
  for (const channel of ['room:1', 'open:1', 'open:#bob', 'team:1', 'off:1']) await bob.subscribe(channel).subscribed()
  const ann = await clientOf(t, one!.url, wire, 'ann')
  t.strictSame(await seen(ann, 'room:1'), 103)
  t.strictSame(await seen(bob, 'room:1'), [['bob'], [1, 1]])
  t.strictSame(await seen(ann, 'open:1'), [['bob'], [1, 1]])
  t.strictSame(await seen(ann, 'open:nobody'), [[], [0, 0]])
  t.strictSame(await seen(ann, 'team:1'), [['bob'], [1, 1]])
  t.strictSame(await seen(bob, 'team:1'), 103, 'the function decides about subscribers, too')
  t.strictSame(await seen(ann, 'open:#bob'), 103, 'the channel is for another user')
  t.strictSame(await seen(bob, 'open:#bob'), [['bob'], [1, 1]])
  t.strictSame(await seen(ann, 'off:1'), 108)
  t.strictSame(await seen(ann, 'unknown:1'), 102)
})

overEach('a presenceFor that throws is error 100, and the log names it', async (t, wire) => {
  const logs: any[] = []
  const { url } = await startApp(t, options, { logger: { level: 'error', stream: { write: (line: string) => { logs.push(JSON.parse(line)) } } } })
  const ann = await clientOf(t, url, wire, 'ann')
  t.strictSame(await seen(ann, 'team:broken'), 100)
  t.match(logs, [{ msg: /channels\['team'\]\.presenceFor/, err: { message: 'the database is down' } }, {}])
})

overEach('whoever asks pays for it as a subscriber does', async (t, wire) => {
  const { url } = await startApp(t, { ...options, rateLimit: { connections: false, messages: { max: 5, timeWindow: '1h' } } })
  const ann = await clientOf(t, url, wire, 'ann')
  const codes: unknown[] = []
  for (let i = 0; i < 5; i++) codes.push(await ann.client.presence('open:1').then(() => 0, ({ code }: { code: number }) => code))
  t.strictSame(codes, [0, 0, 0, 0, 111])
})
