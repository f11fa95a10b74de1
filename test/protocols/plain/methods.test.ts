import t from 'tap'
import type { Test } from 'tap'
import { ClientError } from '../../../index.ts'
import type { Options } from '../../../index.ts'
import { startApp } from '../../helpers/app.ts'
import { envelopeClient } from '../../helpers/envelope.ts'
import { collectLog } from '../../helpers/log.ts'
import { until } from '../../helpers/until.ts'

async function start (t: Test, options: Options) {
  const log = collectLog({ level: 'debug' })
  const { app, url } = await startApp(t, { redis: false, ...options }, { logger: log.logger })
  const client = await envelopeClient(t, url)
  const entries = (event: string) => log.entries.filter(entry => entry.event === event)
  return { app, url, client, entries }
}

const order: string[] = []
let release = () => {}
const held = () => new Promise<void>(resolve => { release = resolve })
const methods: Options['methods'] = {
  echo: { handler: (_connection, data) => data },
  nothing: { handler: () => {} },
  bytes: { handler: () => Buffer.from([0, 255]) },
  checked: { schema: { type: 'object', required: ['n'], properties: { n: { type: 'integer' } } }, handler: (_connection, data) => data },
  refuse: { handler: () => { throw new ClientError(409, 'it is taken') } },
  close: { handler: () => { throw new ClientError(4_009, 'go away') } },
  fail: { handler: () => { throw new Error('secret detail') } },
  unsendable: { handler: () => 1n },
  slow: { handler: async () => { order.push('slow'); await held(); order.push('slow done') } },
  quick: { handler: () => { order.push('quick') } },
  aside: { concurrent: true, handler: async () => { order.push('aside'); await held(); order.push('aside done') } }
}

for (const envelope of [false, true]) {
  t.test(`a method is called by name, and answers: envelope ${envelope}`, async (t) => {
    const seen: unknown[] = []
    const { client, entries } = await start(t, { methods, plain: { envelope }, onMessage: (_connection, data) => { seen.push(data) } })
    t.strictSame(await client.ask({ method: 'echo', data: { a: 'ü' } }), { id: 1, result: { a: 'ü' } })
    client.send('{"id":"own","method":"echo","data":"text"}')
    t.strictSame(await client.find(({ id }) => id === 'own'), { id: 'own', result: 'text' })
    t.strictSame(await client.ask({ method: 'nothing' }), { id: 2, result: null })
    t.strictSame(await client.ask({ method: 'bytes' }), { id: 3, result: 'AP8=', encoding: 'base64' })
    t.strictSame(await client.ask({ method: 'unknown' }), { id: 4, error: { code: 104, message: 'method not found' } })
    t.strictSame(await client.ask({ method: 'refuse' }), { id: 5, error: { code: 409, message: 'it is taken' } })
    t.match(await client.ask({ method: 'checked', data: {} }), { error: { code: 107, message: /^bad request: .*n/ } })
    t.strictSame(entries('connection.failed'), [])
    for (const method of ['fail', 'unsendable']) {
      t.match(await client.ask({ method }), { error: { code: 100, message: 'internal server error' } })
      t.match(entries('connection.failed').at(-1), { msg: new RegExp(`^methods\\['${method}'\\]`) })
    }
    client.send('{"method":"echo","data":1}')
    client.send('{"method":"refuse"}')
    t.strictSame(await client.find(message => !('id' in message)), { error: { code: 409, message: 'it is taken' } }, 'without an id only the error')
    for (const message of ['text', '{"a":1}', '[]', '7', 'null', '"method"', '{"subcribe":"x"}']) client.send(message)
    client.send(Buffer.from([1]))
    await until(() => seen.length === 8, "the app's own messages")
    t.strictSame(seen, ['text', '{"a":1}', '[]', '7', 'null', '"method"', '{"subcribe":"x"}', Buffer.from([1])])
    t.match(entries('command.refused')[0], { command: 'method', method: 'unknown', code: 104, reason: /no such method/ })
    client.send('{"method":"close"}')
    t.strictSame(await client.closed, { code: 4_009, reason: 'go away' })
  })
}

t.test('calls are handled in order, but for those of concurrent methods', async (t) => {
  const { client } = await start(t, { methods })
  order.length = 0
  const slow = client.ask({ method: 'slow' })
  const quick = client.ask({ method: 'quick' })
  await until(() => order.length === 1, 'the slow one')
  release()
  await Promise.all([slow, quick])
  t.strictSame(order, ['slow', 'slow done', 'quick'])
  order.length = 0
  const aside = client.ask({ method: 'aside' })
  await client.ask({ method: 'quick' })
  release()
  await aside
  t.strictSame(order, ['aside', 'quick', 'aside done'])
})

t.test('what is no command gets an error if the app takes no messages, and the connection stays', async (t) => {
  const { client, entries } = await start(t, { plain: { envelope: true } })
  const bad = 'bad request: a message must be a JSON object with subscribe or unsubscribe or publish'
  for (const message of ['', '{', 'null', '7', '[]', '{}', '{"method":"x"}', Buffer.from([1])]) {
    const count = client.messages.length
    client.send(message)
    await until(() => client.messages.length > count, 'the answer')
    t.strictSame(client.parsed.at(-1), { error: { code: 107, message: bad } }, String(message))
  }
  t.strictSame(await client.ask({ subcribe: 'x' }), { id: 1, error: { code: 107, message: bad } })
  t.strictSame(entries('connection.failed'), [])
})

t.test('hostile commands are answered, and harm nobody', async (t) => {
  const { client, entries } = await start(t, { methods, plain: { envelope: true }, channels: { '': { subscribe: true, publish: true } } })
  const answer = async (text: string) => {
    const count = client.messages.length
    client.send(text)
    await until(() => client.messages.length > count, 'the answer')
    return client.parsed[count]
  }
  for (const [text, message] of [
    ['{"id":{},"method":"echo"}', /id must be a number, or a string/],
    [`{"id":"${'x'.repeat(256)}","method":"echo"}`, /id must be/],
    ['{"id":1e999,"method":"echo"}', /id must be/],
    ['{"method":5}', /method must be a string/],
    ['{"subscribe":{"a":1}}', /subscribe must be a string: the name of a channel/],
    ['{"subscribe":"a","since":5}', /since must be a position/],
    ['{"method":"echo","data":{"__proto__":{"admin":true}}}', /prototype/],
    ['{"method":"echo","data":{"constructor":{"prototype":{}}}}', /prototype/],
    ['{"method":"echo","data":{"\\u005f_proto__":1}}', /prototype/]
  ] as const) t.match(await answer(text), { error: { code: 107, message } }, text)
  const deep = `${'['.repeat(20_000)}${']'.repeat(20_000)}`
  t.match(await answer(`{"method":"echo","data":${deep}}`), { error: { code: 107, message: /nested too deep/ } })
  t.match(await answer(`{"publish":"news","data":${deep}}`), { error: { code: 107, message: /nested too deep/ } })
  t.match(await answer('{"id":"","method":"echo","data":1}'), { id: '', result: 1 })
  t.match(await answer('{"id":0.5,"method":"toString"}'), { id: 0.5, error: { code: 104 } })
  t.match(await answer('{"id":1,"method":"__proto__"}'), { id: 1, error: { code: 104 } })
  t.strictSame(entries('connection.failed'), [])
  t.equal(({} as { admin?: boolean }).admin, undefined)
  t.equal(client.socket.readyState, client.socket.OPEN)
})

t.test('commands cost a token each: over the limit they get 111, and a flood is closed', async (t) => {
  const { client, entries } = await start(t, {
    methods, plain: { envelope: true }, rateLimit: { connections: false, messages: { max: 10, timeWindow: '1h' } }
  })
  const answers = await Promise.all(Array.from({ length: 12 }, () => client.ask({ method: 'echo', data: 1 })))
  t.equal(answers.filter(({ result }) => result === 1).length, 10)
  t.strictSame(answers[11], { id: 12, error: { code: 111, message: 'too many requests' } })
  for (let i = 0; i < 9; i++) client.send('junk')
  t.strictSame(await client.closed, { code: 1008, reason: 'too many messages' })
  t.strictSame(client.parsed.filter(message => message.id === undefined), [], 'a flood is not answered')
  t.strictSame(entries('connection.failed'), [])
  const { client: junk } = await start(t, { plain: { envelope: true }, rateLimit: { connections: false, messages: { max: 2, timeWindow: '1h' } } })
  for (let i = 0; i < 4; i++) junk.send('junk')
  await until(() => junk.messages.length === 3, 'two errors and one for the burst')
  t.strictSame(junk.parsed[2], { error: { code: 111, message: 'too many requests' } })
})

t.test('subscribes overlap, at most eight, and calls wait for them', async (t) => {
  const open: Array<() => void> = []
  const { client } = await start(t, {
    methods: { channels: { handler: connection => connection.channels.size } },
    plain: { envelope: true },
    channels: { '': { subscribe: true } },
    onSubscribe: () => new Promise(resolve => { open.push(resolve) })
  })
  const answers = Array.from({ length: 10 }, (_, i) => client.ask({ subscribe: `c${i}` }))
  const call = client.ask({ method: 'channels' })
  await until(() => open.length === 8, 'eight overlap')
  open.splice(0, 1)[0]!()
  await answers[0]
  await until(() => open.length === 8, 'the ninth begins when one is done')
  while (open.length > 0) open.shift()!()
  await until(() => open.length === 1, 'the tenth')
  open.shift()!()
  t.strictSame(await call, { id: 11, result: 10 })
  await Promise.all(answers)
  const rest = client.ask({ subscribe: 'late' })
  rest.catch(() => {})
  await until(() => open.length === 1, 'one more')
  client.send('{"method":"channels"}')
  client.socket.close()
  await client.closed
})

t.test("the app's own messages wait for earlier subscribes", async (t) => {
  let allow = () => {}
  const seen: unknown[] = []
  const { client } = await start(t, {
    plain: { envelope: true },
    channels: { '': { subscribe: true } },
    onSubscribe: () => new Promise(resolve => { allow = () => resolve(true) }),
    onMessage: (connection, data) => { seen.push([data, connection.channels.size]) }
  })
  const answer = client.ask({ subscribe: 'news' })
  client.send('mine')
  client.socket.ping()
  await new Promise(resolve => client.socket.once('pong', resolve))
  t.strictSame(seen, [])
  allow()
  await answer
  await until(() => seen.length === 1, 'the message')
  t.strictSame(seen, [['mine', 1]])
})

t.test('a log that cannot be written ends the connection, and nothing else', async (t) => {
  const write = (line: string) => { if (line.includes('connection.failed')) throw new Error('the disk is full') }
  const { url } = await startApp(t, { redis: false, methods }, { logger: { stream: { write } } })
  const client = await envelopeClient(t, url)
  client.send('{"method":"fail"}')
  t.strictSame(await client.closed, { code: 1011, reason: 'internal error' })
  t.strictSame(await (await envelopeClient(t, url)).ask({ method: 'echo', data: 1 }), { id: 1, result: 1 })
})
