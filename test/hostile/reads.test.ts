import t from 'tap'
import type { Test } from 'tap'
import { startNode } from '../backends/broker-contract.ts'
import { startApp } from '../helpers/app.ts'
import { randomPrefix } from '../helpers/prefix.ts'
import { command, startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'
import { connect } from '../helpers/ws-client.ts'

// One subscribe right, and reads that cost more than the commands that ask for them.

const MEMBERS = 1_000
const room = { subscribe: true, publish: true, presence: true, history: { size: 100, ttl: '10m' } } as const

interface Reply {
  id: number
  error?: { code: number }
  history?: { publications: unknown[], offset: number }
  presence?: { presence: object }
  presence_stats?: object
}

/** An instance on a Redis of its own, and a client in room:1 that writes what it likes. */
async function setUp (t: Test) {
  const redis = await startRedis(t)
  const prefix = randomPrefix()
  const { app, url } = await startApp(t, { redis: redis.url, keyPrefix: prefix, channels: { room } })
  const { presence } = (await startNode(t, redis.url, prefix)).backend
  const { socket, messages } = await connect(t, `${url}/connection/websocket`)
  const replies = () => messages.flatMap(message => String(message).split('\n')).map(line => JSON.parse(line) as Reply)
  const ask = async (commands: object[]) => {
    socket.send(commands.map(one => JSON.stringify(one)).join('\n'))
    const ids = new Set(commands.map(one => (one as Reply).id))
    const all = await until(() => {
      const answers = replies().filter(({ id }) => ids.has(id))
      return answers.length === ids.size ? answers : undefined
    }, `${ids.size} replies`, 30_000)
    return all!
  }
  await ask([{ id: 1, connect: {} }])
  await ask([{ id: 2, subscribe: { channel: 'room:1' } }])
  /** How often Redis has run a command. */
  const calls = async (name: string) => {
    return Number(new RegExp(`cmdstat_${name}:calls=(\\d+)`).exec(await command(redis.port, ['INFO', 'commandstats']))?.[1] ?? 0)
  }
  const resetCalls = () => command(redis.port, ['CONFIG', 'RESETSTAT'])
  /** Members that another instance has, of a hundred users. */
  const addMembers = (count: number, name = 'member') => {
    return presence.add('room:1', Array.from({ length: count }, (_, i) => ({ client: `${name} ${i}`, user: `user ${i % 100}` })))
  }
  return { app, ask, calls, resetCalls, addMembers }
}

function many (count: number, method: string, request: object): object[] {
  return Array.from({ length: count }, (_, i) => ({ id: 10 + i, [method]: { channel: 'room:1', ...request } }))
}

t.test('hundreds of histories in one frame are a few reads, each of no more than a client may be sent', async (t) => {
  const { app, ask, calls, resetCalls } = await setUp(t)
  for (let i = 0; i < 100; i++) await app.realtime.publish('room:1', 'x'.repeat(60_000))
  await resetCalls()
  const [first] = await ask([{ id: 3, history: { channel: 'room:1', limit: 100 } }])
  t.equal(first!.history!.offset, 100)
  t.equal(first!.history!.publications.length, 8, 'of 60,000 bytes each')
  const answers = await ask(many(200, 'history', { limit: 100 }))
  t.ok(answers.filter(({ history }) => history !== undefined).length < 30, 'they cost what they weigh')
  t.ok(answers.some(({ error }) => error?.code === 111))
  t.ok(await calls('xrange') < 30, 'few reads')
  t.strictSame(await app.realtime.publish('room:1', 'still works').then(({ offset }) => offset), 101)
})

t.test('hundreds of statistics in one frame are a few looks at a counter', async (t) => {
  const { ask, calls, resetCalls, addMembers } = await setUp(t)
  await addMembers(MEMBERS - 1)
  await resetCalls()
  const answers = await ask(many(500, 'presence_stats', {}))
  t.match(answers[0], { presence_stats: { num_clients: MEMBERS, num_users: 101 } })
  t.equal(await calls('hvals'), 1, 'the users are counted once, and kept')
  t.ok(await calls('zcard') < 250, 'those that are under way together share one')
})

t.test('the members of a room are read once for all who ask at the same time, and not where they are too many', async (t) => {
  const { ask, calls, resetCalls, addMembers } = await setUp(t)
  await addMembers(MEMBERS - 1)
  await resetCalls()
  const [first] = await ask(many(5, 'presence', {}))
  t.equal(Object.keys(first!.presence!.presence).length, MEMBERS)
  t.ok(await calls('hvals') <= 5)
  await addMembers(1, 'one more')
  await resetCalls()
  const refused = await ask([{ id: 900, presence: { channel: 'room:1' } }])
  t.match(refused, [{ error: { code: 106 } }])
  t.equal(await calls('hvals'), 0)
})
