import { CentClient } from 'cent.js'
import t from 'tap'
import type { Test } from 'tap'
import type { Connection, Options } from '../../../index.ts'
import { sharedMemory } from '../../../testing.ts'
import { startApp } from '../../helpers/app.ts'
import { randomPrefix } from '../../helpers/prefix.ts'
import { startRedis } from '../../helpers/redis.ts'
import { SdkClient } from '../../helpers/sdk.ts'
import { until } from '../../helpers/until.ts'

t.setTimeout(120_000)

const apiKey = 'the-key-of-the-backend'
const channels = {
  chat: { subscribe: true, publish: true, history: { size: 100, ttl: '1m' }, presence: true },
  news: { subscribe: true }
}

/** Two instances, of which the API of the first is called, and one client at each. */
async function startPair (t: Test, redis: Options['redis'] = sharedMemory()) {
  const options: Options = {
    redis,
    keyPrefix: randomPrefix(),
    apiPath: '/api',
    api: { key: apiKey },
    channels,
    authenticate: request => ({ user: new URL(request.url, 'http://a').searchParams.get('user') ?? '', info: { name: 'Ada' } as never })
  }
  const [one, two] = await Promise.all([startApp(t, options), startApp(t, options)])
  const clients = [one, two].map(({ url }, i) => {
    const client = new SdkClient(`${url}/connection/websocket?user=user-${i}`, 'json')
    t.teardown(() => client.client.disconnect())
    return client
  })
  await Promise.all(clients.map(client => client.connected()))
  const post = async (method: string, body: unknown, headers: Record<string, string> = {}) => {
    const response = await fetch(`${one.url.replace('ws', 'http')}/api${method && `/${method}`}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-api-key': apiKey, ...headers },
      body: typeof body === 'string' ? body : JSON.stringify(body)
    })
    return { status: response.status, text: await response.text(), type: response.headers.get('content-type') }
  }
  const call = async (method: string, body: unknown) => JSON.parse((await post(method, body)).text)
  const [first, second] = clients as [SdkClient, SdkClient]
  return { apps: [one.app, two.app] as const, url: `${one.url.replace('ws', 'http')}/api`, first, second, post, call }
}

/** Everything that cent.js, a library for Centrifugo as it is on npm, can do. */
async function testLibrary (t: Test, redis?: Options['redis']) {
  const { url, first, second } = await startPair(t, redis)
  const cent = new CentClient({ url, apiKey })
  const subs = [first, second].map(client => client.subscribe('chat:1'))
  await Promise.all(subs.map(sub => sub.subscribed()))

  const { offset, epoch } = await cent.publish({ channel: 'chat:1', data: { text: 'hello' }, tags: { a: 'b' } })
  t.equal(offset, 1)
  t.match(await cent.broadcast({ channels: ['chat:1', 'chat:2', 'news:1', 'nowhere:1', ''], data: { text: 'all' } }), {
    responses: [
      { result: { offset: 2, epoch } }, { result: { offset: 1 } }, { result: {} },
      { error: { code: 102, message: 'unknown channel' } }, { error: { code: 107, message: /^bad request: .*non-empty/ } }
    ]
  })
  for (const sub of subs) {
    await sub.arrived(2)
    t.strictSame(sub.data, [{ text: 'hello' }, { text: 'all' }])
    t.strictSame(sub.events.publication[0]?.tags, { a: 'b' })
  }
  await cent.publish({ channel: 'chat:1', data: { text: 'not kept' }, skip_history: true })
  await subs[1]!.arrived(3)

  t.strictSame(await cent.getPresenceStats({ channel: 'chat:1' }), { num_clients: 2, num_users: 2 })
  t.strictSame((await cent.getPresence({ channel: 'chat:1' })).presence[first.id], { client: first.id, user: 'user-0', conn_info: { name: 'Ada' } } as never)
  t.strictSame(await cent.getHistory({ channel: 'chat:1', limit: 1, reverse: true }), {
    publications: [{ data: { text: 'all' }, offset: 2 }], offset: 2, epoch
  })
  t.strictSame(await cent.getHistory({ channel: 'chat:1' }), { publications: [], offset: 2, epoch }, 'without a limit the position alone')
  t.strictSame(await cent.getHistory({ channel: 'chat:1', limit: -1, since: { offset: 1, epoch: epoch! } }), {
    publications: [{ data: { text: 'all' }, offset: 2 }], offset: 2, epoch
  })
  t.strictSame(await cent.getChannels({ pattern: 'chat:*' }), { channels: { 'chat:1': { num_clients: 2 } } })
  const { nodes } = await cent.getInfo({})
  t.strictSame(nodes.map(node => [node.num_clients, node.num_users, node.num_channels]), [[1, 1, 1], [1, 1, 1]])

  await cent.removeHistory({ channel: 'chat:1' })
  t.strictSame(await cent.getHistory({ channel: 'chat:1', limit: 10 }), { publications: [], offset: 2, epoch })

  await cent.unsubscribe({ user: 'user-1', channel: 'chat:1' })
  t.match(await subs[1]!.unsubscribed(), { code: 2000 })
  await cent.subscribe({ user: 'user-1', channel: 'news:1' })
  await until(() => second.events.subscribed[0]?.channel === 'news:1', 'the other instance has subscribed its client')
  await cent.disconnect({ user: 'user-1' })
  t.match(await second.disconnected(), { code: 3503 })

  await t.rejects(cent.publish({ channel: 'nowhere:1', data: {} }))
  t.strictSame(await cent.pipeline([
    { method: 'publish', params: { channel: 'chat:3', data: { n: 1 } } }, { method: 'presence_stats', params: { channel: 'chat:3' } }
  ] as never), [{ offset: 1, epoch: (await cent.getHistory({ channel: 'chat:3' })).epoch }, { num_clients: 0, num_users: 0 }] as never)
}

t.test("a library for Centrifugo's API works as it is, with two instances over Redis", async (t) => {
  const redis = await startRedis(t)
  await testLibrary(t, redis.url)
})

t.test("a library for Centrifugo's API works as it is, with two instances in a shared memory", async (t) => {
  await testLibrary(t)
})

t.test('what pycent, gocent and phpcent send is understood', async (t) => {
  const { post, call } = await startPair(t)
  // pycent leaves out what is None; phpcent sends defaults, and a list for an empty object; gocent 3 sends commands.
  t.match(await call('publish', { channel: 'chat:1', data: { input: 'hello' }, idempotency_key: 'a' }), { result: { offset: 1 } })
  t.match(await call('publish', { channel: 'chat:1', data: { input: 'again' }, idempotency_key: 'a' }), { result: { offset: 1 } })
  t.match(await call('subscribe', { channel: 'chat:1', user: 'user-0', client: '' }), { result: {} })
  t.match(await call('history', { channel: 'chat:1', limit: 0, reverse: false, since: [] }), { error: { code: 107, message: 'bad request: since is not an object' } })
  t.match(await call('channels', { pattern: '' }), { result: { channels: { 'chat:1': { num_clients: 1 } } } })
  t.match(await call('info', {}), { result: { nodes: [{}, {}] } })
  t.strictSame(await call('batch', {
    commands: [
      { publish: { channel: 'chat:2', data: 1, skip_history: true } }, { publish: { channel: 'x:1', data: 1 } }, { presence_stats: { channel: 'chat:2' } },
      { rpc: { method: 'a' } }, {}, { publish: {}, history: {} }, 'publish'
    ]
  }), {
    replies: [
      { publish: {} }, { error: { code: 102, message: 'unknown channel' } }, { presence_stats: { num_clients: 0, num_users: 0 } },
      { error: { code: 108, message: 'not available' } }, ...Array(3).fill({ error: { code: 104, message: 'method not found' } })
    ]
  })
  const commands = [1, 2, 3].map(n => ({ publish: { channel: 'chat:3', data: n } }))
  t.match(await call('batch', { commands, parallel: true }), { replies: [{ publish: { offset: 1 } }, { publish: { offset: 2 } }, { publish: { offset: 3 } }] })
  const gocent = await post('', '{"method":"publish","params":{"channel":"chat:4","data":{}}}\n{"id":7,"method":"HISTORY_REMOVE","params":{"channel":"news:1"}}\n', {
    'x-api-key': '', authorization: `apikey ${apiKey}`
  })
  t.equal(gocent.status, 401, 'an empty X-API-Key is a wrong one')
  const { status, text, type } = await post('', '{"method":"publish","params":{"channel":"chat:4","data":{}}}\n{"id":7,"method":"HISTORY_REMOVE","params":{"channel":"news:1"}}\n')
  t.equal(status, 200)
  t.match(type, /^application\/json/)
  t.match(text.split('\n').map(line => JSON.parse(line)), [{ result: { offset: 1 } }, { id: 7, error: { code: 108, message: 'not available' } }])
  t.match(JSON.parse((await post('', '{\n  "method": "info"\n}')).text), { result: { nodes: [{}, {}] } })
})

t.test('binary data, who published, and text arrive as they are', async (t) => {
  const { apps, call, first } = await startPair(t)
  const sub = await first.subscribe('chat:1').subscribed()
  await sub.sub.publish('by a client')
  await call('publish', { channel: 'chat:1', data: 'text' })
  await call('publish', { channel: 'chat:1', b64data: Buffer.from([0, 255]).toString('base64') })
  const { publications } = await apps[1].realtime.history('chat:1')
  t.strictSame(publications.map(({ data }) => data), ['by a client', 'text', Buffer.from([0, 255])])
  t.match(await call('history', { channel: 'chat:1', limit: 5 }), {
    result: {
      publications: [
        { data: 'by a client', offset: 1, info: { client: first.id, user: 'user-0', conn_info: { name: 'Ada' } } }, { data: 'text' }, { b64data: 'AP8=' }
      ]
    }
  })
  t.match(await call('publish', { channel: 'chat:1', data: null }), { result: { offset: 4 } }, 'null is data')
})

t.test('one connection of a user can be subscribed, from a position, unsubscribed and disconnected', async (t) => {
  const { apps, call, first } = await startPair(t)
  const { result: { epoch } } = await call('publish', { channel: 'chat:1', data: 1 })
  await call('publish', { channel: 'chat:1', data: 2 })
  const who = { user: 'user-0', client: first.id }
  t.strictSame(await call('subscribe', { ...who, user: 'user-1', channel: 'chat:1' }), { result: {} }, 'not of this user: nothing happens')
  await call('subscribe', { ...who, channel: 'chat:1', recover_since: { offset: 1, epoch } })
  await until(() => first.data('chat:1').length > 0, 'it has what was published after the position')
  t.strictSame(first.data('chat:1'), [2])
  await call('unsubscribe', { ...who, channel: 'chat:1' })
  await until(() => first.events.unsubscribed[0]?.channel === 'chat:1', 'it is unsubscribed')
  await call('disconnect', { ...who, whitelist: [first.id] })
  await call('disconnect', { ...who, user: '' })
  await call('disconnect', { ...who, whitelist: ['another'], disconnect: { code: 4600, reason: 'bye' } })
  t.strictSame(await first.disconnected(), { code: 4600, reason: 'bye' })
  await until(() => Array.from(apps[0].realtime.connections).length === 0, 'it has gone')
})

t.test('all connections of a user but some can be disconnected', async (t) => {
  const { url, call, first } = await startPair(t)
  const again = new SdkClient(`${url.replace('http', 'ws').replace('/api', '')}/connection/websocket?user=user-0`, 'json')
  t.teardown(() => again.client.disconnect())
  await again.connected()
  await call('disconnect', { user: 'user-0', whitelist: [again.id] })
  t.match(await first.disconnected(), { code: 3503 })
  await call('publish', { channel: 'news', data: 1 })
  t.equal(again.events.disconnected.length, 0)
})

t.test('a login can be ended, and its end be moved', async (t) => {
  const { apps, call, first, second } = await startPair(t)
  t.strictSame(await call('refresh', { user: 'user-0', expire_at: Math.floor(Date.now() / 1_000) + 3_600 }), { result: {} })
  t.strictSame(await call('refresh', { user: 'user-0', client: first.id }), { result: {} }, 'it does not end')
  t.match(await call('refresh', { user: 'user-0', expire_at: Date.now() }), { error: { code: 107, message: /looks like milliseconds/ } })
  await call('refresh', { user: 'user-0', expired: true })
  await first.connected(2)
  t.match(first.events.connecting.at(-1), { code: 3005, reason: 'connection expired' })
  await call('refresh', { user: 'user-1', client: second.id, expire_at: Math.floor(Date.now() / 1_000) - 1 })
  await second.connected(2)
  t.equal(Array.from(apps[1].realtime.connections).length, 1)
})

t.test('after its history was removed, a client that has everything recovers, and one that is behind cannot', async (t) => {
  const redis = await startRedis(t)
  const { call, first, second } = await startPair(t, redis.url)
  const { result: { epoch } } = await call('publish', { channel: 'chat:1', data: 1 })
  await call('publish', { channel: 'chat:1', data: 2 })
  await call('history_remove', { channel: 'chat:1' })
  const upToDate = await first.subscribe('chat:1', { since: { offset: 2, epoch } }).subscribed()
  t.match(upToDate.events.subscribed[0], { wasRecovering: true, recovered: true })
  const behind = await second.subscribe('chat:1', { since: { offset: 1, epoch } }).subscribed()
  t.match(behind.events.subscribed[0], { wasRecovering: true, recovered: false })
  await call('publish', { channel: 'chat:1', data: 3 })
  for (const sub of [upToDate, behind]) t.strictSame((await sub.arrived(1)).offsets, [3])
})

t.test('what this API does not have is refused, and never ignored where it would change the meaning', async (t) => {
  const { call } = await startPair(t)
  const refused = async (method: string, params: unknown, code: number, message: RegExp) => {
    t.match(await call(method, params), { error: { code, message } }, `${method} ${JSON.stringify(params).slice(0, 100)}`)
  }
  const chat = { channel: 'chat:1', data: 1 }
  await refused('publish', { ...chat, version: 3 }, 108, /^not available: version$/)
  t.match(await call('publish', { ...chat, version: 0, version_epoch: '', delta: true, new_field: false }), { result: {} }, 'unset, or of no matter')
  await refused('publish', { ...chat, skiphistory: true }, 107, /^bad request: there is no parameter skiphistory$/)
  await refused('publish', { ...chat, tags: { a: 1 } }, 107, /tags is not an object of strings/)
  await refused('publish', { ...chat, skip_history: 'yes' }, 107, /skip_history is not true or false/)
  await refused('publish', { channel: 'chat:1' }, 107, /neither data nor b64data/)
  await refused('publish', { channel: 'chat:1', b64data: 'a!' }, 107, /b64data is not base64/)
  await refused('publish', { data: 1 }, 107, /a channel is a non-empty string/)
  await refused('publish', { channel: '\u0000control', data: {} }, 107, /control characters/)
  await refused('publish', [], 107, /not an object/)
  await refused('broadcast', { data: 1 }, 107, /channels is empty/)
  await refused('broadcast', { channels: ['a', 1], data: 1 }, 107, /channels is not a list of strings/)
  await refused('broadcast', { channels: Array(10_001).fill('a'), data: 1 }, 106, /limit exceeded/)
  await refused('subscribe', { user: 'a', channel: 'chat:1', session: 's' }, 108, /session/)
  await refused('subscribe', { user: 'a', channel: 'chat:1', info: { a: 1 } }, 108, /info/)
  await refused('subscribe', { user: 'a', channel: 'chat:1', override: { presence: { value: true } } }, 108, /override/)
  await refused('subscribe', { user: 'a', channel: 'news:1', recover_since: { offset: 1, epoch: 'e' } }, 108, /^not available$/)
  await refused('subscribe', { user: 'a', channel: 'chat:1', recover_since: { offset: -1 } }, 107, /below 0/)
  await refused('subscribe', { channel: 'chat:1' }, 107, /Invalid user/)
  await refused('unsubscribe', { user: 'a' }, 107, /Invalid channel/)
  await refused('unsubscribe', { user: 'a', channel: 'x:1' }, 102, /unknown channel/)
  await refused('disconnect', { user: '' }, 107, /Invalid user/)
  await refused('disconnect', { user: 'a', disconnect: { code: 12 } }, 107, /12/)
  await refused('disconnect', { user: 'a', whitelist: Array(1_001).fill('b') }, 107, /whitelist has 1001 ids; at most 1000 are allowed$/)
  await refused('disconnect', { user: 'a', whitelist: ['b'.repeat(256)] }, 107, /an id in whitelist is longer than 255 characters$/)
  t.strictSame(await call('disconnect', { user: 'a', whitelist: Array(1_000).fill('b'.repeat(255)) }), { result: {} })
  await refused('presence', { channel: 'news:1' }, 108, /not available/)
  await refused('presence_stats', { channel: 'news:1' }, 108, /not available/)
  await refused('history', { channel: 'news:1' }, 108, /not available/)
  await refused('history_remove', { channel: 'news:1' }, 108, /not available/)
  await refused('history', { channel: 'chat:1', limit: 1, since: { offset: 1, epoch: 'gone' } }, 112, /unrecoverable position/)
  await refused('history', { channel: 'chat:1', limit: 1.5 }, 107, /limit is not a whole number/)
  await refused('channels', { pattern: '[' }, 107, /pattern/)
  await refused('channels', { pattern: 'a'.repeat(256) }, 107, /pattern is not valid, or longer than 255 characters/)
  await refused('info', { verbose: true }, 107, /verbose/)
  await refused('map_publish', {}, 108, /not available/)
  await refused('toString', {}, 104, /method not found/)
  for (const innermost of ['', '1']) {
    const nested = (levels: number) => `{"channel":"chat:1","data":${'['.repeat(levels)}${innermost}${']'.repeat(levels)}}`
    t.match(await call('publish', nested(1_000)), { result: { offset: Number } }, `a thousand levels around '${innermost}'`)
    await refused('publish', nested(1_001), 107, /nested more than 1000 levels/)
  }
})

async function testManyChannels (t: Test, redis?: Options['redis']) {
  const { apps, call } = await startPair(t, redis)
  const [one, two] = apps.map(app => Array.from(app.realtime.connections)[0]!) as [Connection, Connection]
  // What answers is imported at the first question, and an answer has a second: not long on a busy machine.
  await until(async () => (await call('info', {})).result.nodes.length === 2, 'both instances answer')
  // Redis has two seconds for each command: on a busy machine that is too little for thousands at once.
  for (let i = 0; i < 9_999; i += 101) await Promise.all(Array.from({ length: 101 }, (_, j) => one.subscribe(`many:${i + j}`)))
  await two.subscribe('few:1')
  t.equal(Object.keys((await call('channels', {})).result.channels).length, 10_000)
  await two.subscribe('few:2')
  t.match(await call('channels', {}), {
    error: { code: 107, message: /^bad request: more than 10000 channels match \*\. Ask with a narrower pattern, such as chat:\*, or use app.realtime.channels/ }
  })
  t.strictSame(await call('channels', { pattern: 'few:*' }), { result: { channels: { 'few:1': { num_clients: 1 }, 'few:2': { num_clients: 1 } } } })
  await Promise.all(['x', 'y'].map(name => one.subscribe(name)))
  t.match(await call('channels', { pattern: '[mxy]*' }), { error: { code: 107, message: /more than 10000 channels match \[mxy\]\*/ } }, 'of one instance alone')
}

t.test('no more than 10,000 channels are listed, on all instances together', async (t) => {
  await testManyChannels(t)
})

t.test('the same over Redis', async (t) => {
  const redis = await startRedis(t)
  await testManyChannels(t, redis.url)
})

t.test('an error has an HTTP status if the caller asks for that', async (t) => {
  const { post } = await startPair(t)
  const transport = { 'x-centrifugo-error-mode': 'transport' }
  for (const [method, params, status, code] of [
    ['publish', {}, 400, 107], ['publish', { channel: 'x:1', data: 1 }, 404, 102], ['presence', { channel: 'news:1' }, 400, 108], ['x', {}, 404, 104],
    ['history', { channel: 'chat:1', since: { epoch: 'gone', offset: 1 } }, 416, 112], ['broadcast', { channels: Array(10_001).fill('a'), data: 1 }, 400, 106]
  ] as const) {
    const answered = await post(method, params, transport)
    t.equal(answered.status, status)
    t.match(JSON.parse(answered.text), { code, message: /./ })
  }
  t.match(await post('publish', { channel: 'news', data: 1 }, transport), { status: 200, text: '{"result":{}}' })
})

t.test('while Redis is down, a call is answered with error 100', async (t) => {
  const redis = await startRedis(t)
  const { post } = await startPair(t, redis.url)
  await redis.kill()
  await until(async () => JSON.parse((await post('publish', { channel: 'chat:1', data: 1 })).text).error !== undefined, 'Redis is away')
  t.match(JSON.parse((await post('publish', { channel: 'chat:1', data: 1 })).text), { error: { code: 100, message: 'internal server error', temporary: true } })
  t.equal((await post('publish', { channel: 'chat:1', data: 1 }, { 'x-centrifugo-error-mode': 'transport' })).status, 500)
})
