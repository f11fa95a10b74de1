import t from 'tap'
import type { Test } from 'tap'
import { ClientError } from '../../index.ts'
import type { Options } from '../../index.ts'
import { startApp } from '../helpers/app.ts'
import type { App } from '../helpers/app.ts'
import { stopClock } from '../helpers/clock.ts'
import { connectionsOf } from '../helpers/connections.ts'
import { collectLog } from '../helpers/log.ts'
import { randomPrefix } from '../helpers/prefix.ts'
import { startRedis } from '../helpers/redis.ts'
import { encodings } from '../helpers/sdk.ts'
import type { Encoding } from '../helpers/sdk.ts'
import { encodeCommands, sdkCodec } from '../helpers/sdk-codec.ts'
import { until } from '../helpers/until.ts'
import { connect } from '../helpers/ws-client.ts'
import type { Client } from '../helpers/ws-client.ts'

const generous: Options['rateLimit'] = { messages: { max: 100_000, timeWindow: '1m' } }

/** A client of no SDK, which has connected. */
class Attacker {
  readonly client: Client
  readonly #encoding: Encoding
  readonly #replies: any[] = []
  #decoded = 0

  constructor (client: Client, encoding: Encoding) {
    this.client = client
    this.#encoding = encoding
  }

  get replies (): any[] {
    for (const message of this.client.messages.slice(this.#decoded)) {
      this.#decoded++
      this.#replies.push(...typeof message === 'string' ? message.split('\n').map(line => JSON.parse(line)) : sdkCodec.decodeReplies(message))
    }
    return this.#replies
  }

  send (...commands: object[]): void {
    this.client.socket.send(encodeCommands(this.#encoding, commands))
  }

  async reply (id: number): Promise<any> {
    return until(() => this.replies.find(reply => reply.id === id), `the reply to command ${id}`)
  }
}

async function attacker (t: Test, { url }: App, encoding: Encoding = 'json'): Promise<Attacker> {
  const protocols = encoding === 'json' ? 'centrifuge-json' : 'centrifuge-protobuf'
  const one = new Attacker(await connect(t, `${url}/connection/websocket`, { protocols }), encoding)
  one.send({ id: 1, connect: {} })
  await one.reply(1)
  return one
}

function range (from: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => from + i)
}

const poisoned = ['{"__proto__":{"admin":true}}', '{"a":[{"\\u005f_proto__":{"admin":true}}]}', '{"constructor":{"prototype":{"admin":true}}}']
const harmless = ['{"text":"__proto__ constructor prototype"}', '{"constructor":"x"}', '{"a":"\\u0041"}', '"__proto__"']

/** An error whose code can be read so many times. */
function throwsAfter (looks: number): Error {
  const get = () => {
    if (looks-- === 0) throw new Error('acme')
    return 'CODE'
  }
  return Object.defineProperty(new Error('acme'), 'code', { get })
}

for (const encoding of encodings) {
  t.test(`at most eight commands of a connection overlap, and all of a frame are answered (${encoding})`, async (t) => {
    const waiting: Array<() => void> = []
    let started = 0
    const app = await startApp(t, {
      rateLimit: generous,
      onRpc: (_connection, method) => {
        started++
        return new Promise<string>(resolve => { waiting.push(() => resolve(method)) })
      }
    })
    const one = await attacker(t, app, encoding)
    one.send(...range(10, 500).map(id => ({ id, rpc: { method: String(id) } })))
    one.send({ id: 9, rpc: { method: 'last' } })
    await until(() => started === 8 && connectionsOf(app.app)[0]!.received === 3, 'both frames are there')
    const done: number[] = []
    let most = 0
    while (done.length < 501) {
      most = Math.max(most, started - done.length)
      await until(() => waiting.length > 0, 'one more has begun')
      done.push(started)
      waiting.shift()!()
    }
    t.equal(most, 8)
    await one.reply(9)
    const ids = one.replies.map(({ id }) => id).filter(id => id > 1)
    t.strictSame(ids, [...range(10, 500), 9], 'in order, as they ended in order')
  })
}

t.test('publishes and messages do not count among them', async (t) => {
  const sent: unknown[] = []
  const app = await startApp(t, {
    channels: { room: { publish: true } }, onRpc: () => new Promise(() => {}), onMessage: (_connection, data) => { sent.push(data) }
  })
  const one = await attacker(t, app)
  one.send(...range(10, 8).map(id => ({ id, rpc: {} })), { send: { data: 'hello' } }, { id: 2, publish: { channel: 'room:1', data: 1 } })
  await one.reply(2)
  t.strictSame(sent, ['hello'])
})

t.test('a client that sends on while eight commands hang is paused, and when it goes nothing is left', async (t) => {
  const ends: string[] = []
  let started = 0
  const app = await startApp(t, {
    rateLimit: generous,
    onRpc: () => {
      started++
      return new Promise(() => {})
    },
    onDisconnect: (_connection, { cause }) => { ends.push(cause) }
  })
  const one = await attacker(t, app)
  for (let i = 0; i < 200; i++) one.send(...range(1_000 * i, 1_000).map(id => ({ id, rpc: {} })))
  const connection = connectionsOf(app.app)[0]!
  await until(() => connection.paused, 'the socket is paused')
  one.client.socket.terminate()
  await until(() => {
    connection.sweep(connection.pingAt, 0, 1, 1) // the pings of a paused socket, without the time between them
    return connectionsOf(app.app).length === 0
  }, 'its place is free')
  await until(() => ends.length === 1, 'onDisconnect does not wait for what hangs')
  t.equal(started, 8)
})

t.test('the rest of a frame is not handled when its connection has ended', async (t) => {
  let calls = 0
  const app = await startApp(t, {
    rateLimit: generous,
    onRpc: async (connection) => {
      calls++
      await new Promise(resolve => setImmediate(resolve))
      connection.close()
    }
  })
  const one = await attacker(t, app)
  one.send(...range(2, 900).map(id => ({ id, rpc: {} })))
  await one.client.closed
  t.ok(calls <= 8, `${calls} calls`)
})

t.test('990 subscribes of one channel wait their turn in the frame, not in memory', async (t) => {
  let asked = 0
  const app = await startApp(t, {
    rateLimit: generous,
    channels: { room: { subscribe: () => { asked++; return new Promise(() => {}) } } }
  })
  const one = await attacker(t, app)
  one.send(...range(2, 990).map(id => ({ id, subscribe: { channel: 'room:1' } })), { send: {} })
  await until(() => asked === 1, 'the rule is asked')
  one.send({ id: 1_000, presence: { channel: 'room:1' } })
  await until(() => connectionsOf(app.app)[0]!.received === 3, 'all has come')
  t.equal(asked, 1)
  t.ok(connectionsOf(app.app)[0]!.open)
})

for (const where of ['memory', 'Redis'] as const) {
  t.test(`what a client reads costs what it weighs (${where})`, async (t) => {
    const redis = where === 'Redis' ? (await startRedis(t)).url : false
    const app = await startApp(t, {
      keyPrefix: randomPrefix(),
      redis,
      rateLimit: { messages: { max: 50, timeWindow: '1h' } },
      channels: { room: { subscribe: true, history: { size: 100, ttl: '1m' } } }
    })
    for (let i = 0; i < 20; i++) await app.app.realtime.publish('room:1', 'x'.repeat(10_000))
    const one = await attacker(t, app)
    one.send({ id: 2, subscribe: { channel: 'room:1' } })
    await one.reply(2)
    const history = (id: number) => ({ id, history: { channel: 'room:1', limit: 300 } })
    one.send(history(3), { id: 4, history: { channel: 'room:1' } })
    t.equal((await one.reply(3)).history.publications.length, 20, '200 KB')
    t.match(await one.reply(4), { history: { offset: 20 } }, 'a small one beside it')
    one.send(history(5))
    t.match(await one.reply(5), { error: { code: 111 } }, 'the first has used up 49 tokens more')
  })
}

/** An instance where 20 commands an hour are allowed, and one history has 200 KB. */
async function startWithHistory (t: Test): Promise<App> {
  const app = await startApp(t, {
    rateLimit: { messages: { max: 20, timeWindow: '1h' } },
    channels: { room: { subscribe: true, publish: true, history: { size: 20, ttl: '1m' } } }
  })
  for (let i = 0; i < 20; i++) await app.app.realtime.publish('room:1', 'x'.repeat(10_000))
  return app
}

t.test('a client that owes for what it has read may go on sending', async (t) => {
  const one = await attacker(t, await startWithHistory(t))
  one.send({ id: 2, subscribe: { channel: 'room:1' } }, { id: 3, history: { channel: 'room:1', limit: -1 } })
  t.equal((await one.reply(3)).history.publications.length, 20)
  for (const id of range(4, 10)) one.send({ id, publish: { channel: 'room:1', data: 1 } })
  t.match(await one.reply(13), { publish: {} })
  one.send({ id: 14, history: { channel: 'room:1' } })
  t.match(await one.reply(14), { error: { code: 111 } })
})

for (const encoding of encodings) {
  t.test(`who leaves a channel and comes back pays for what it recovers (${encoding})`, async (t) => {
    const app = await startWithHistory(t)
    const { epoch } = await app.app.realtime.history('room:1', { limit: 0 })
    const recover = { channel: 'room:1', recover: true, epoch }
    const one = await attacker(t, app, encoding)
    one.send({ id: 2, subscribe: recover })
    t.equal((await one.reply(2)).subscribe.publications.length, 20, 'as after a reconnect, which is free')
    for (const [id, count] of [[3, 20], [5, undefined]] as const) {
      one.send({ id, unsubscribe: { channel: 'room:1' } }, { id: id + 1, subscribe: recover })
      const { subscribe, error } = await one.reply(id + 1)
      t.equal(subscribe?.publications.length, count)
      if (count === undefined) t.match(error, { code: 111 }, 'it owes for the second')
    }
    one.send({ id: 7, subscribe: { channel: 'room:1' } })
    t.match(await one.reply(7), { subscribe: { epoch } }, 'without recovery it may come back')
  })
}

t.test('a client that has left more channels than it may be in pays for whatever it recovers', async (t) => {
  const app = await startApp(t, { rateLimit: { messages: { max: 300, timeWindow: '1h' } }, channels: { room: { subscribe: true, history: { size: 5, ttl: '1m' } } } })
  for (let i = 0; i < 5; i++) await app.app.realtime.publish('room:new', 'x'.repeat(100_000))
  const { epoch } = await app.app.realtime.history('room:new', { limit: 0 })
  const one = await attacker(t, app)
  for (const i of range(0, 130)) {
    one.send({ id: 10 + 2 * i, subscribe: { channel: `room:${i}` } }, { id: 11 + 2 * i, unsubscribe: { channel: `room:${i}` } })
    await one.reply(11 + 2 * i)
  }
  const recover = { channel: 'room:new', recover: true, epoch }
  const codes: unknown[] = []
  for (const id of [2, 4, 6, 8]) {
    one.send({ id, subscribe: recover }, { id: id + 1, unsubscribe: { channel: 'room:new' } })
    codes.push((await one.reply(id)).error?.code)
    await one.reply(id + 1)
  }
  t.strictSame(codes, [undefined, undefined, undefined, 111], '500 KB cost 123 of 300, from the first on')
})

t.test('sustained reading is bounded, and a debt is paid back', async (t) => {
  const app = await startApp(t, {
    heartbeat: { interval: '1h', timeout: '10s' },
    rateLimit: { messages: { max: 10, timeWindow: '10s' } },
    channels: { room: { subscribe: true, history: { size: 10, ttl: '1m' } } }
  })
  for (let i = 0; i < 10; i++) await app.app.realtime.publish('room:1', 'x'.repeat(8_000))
  const later = stopClock(t)
  const one = await attacker(t, app)
  one.send({ id: 2, subscribe: { channel: 'room:1' } })
  await one.reply(2)
  const history = async (id: number) => {
    one.send({ id, history: { channel: 'room:1', limit: 10 } })
    return (await one.reply(id)).error?.code ?? 'read'
  }
  for (const id of [10, 20, 30, 40]) {
    t.equal(await history(id), 'read')
    t.equal(await history(id + 1), 111, '80 KB cost twenty tokens, and ten are owed')
    later(11_000)
  }
  t.equal(one.client.socket.readyState, 1)
})

for (const encoding of encodings) {
  t.test(`publishLimit holds for a user, however often it connects and whatever it does in between (${encoding})`, async (t) => {
    const app = await startApp(t, {
      rateLimit: generous,
      authenticate: ({ headers }) => ({ user: String(headers['x-user'] ?? '') }),
      channels: { slow: { publish: true, publishLimit: { max: 2, timeWindow: '1h' } } }
    })
    const open = async (user?: string) => {
      const protocols = encoding === 'json' ? 'centrifuge-json' : 'centrifuge-protobuf'
      const headers = user === undefined ? {} : { 'x-user': user }
      const raw = new Attacker(await connect(t, `${app.url}/connection/websocket`, { protocols, headers }), encoding)
      raw.send({ id: 1, connect: {} })
      await raw.reply(1)
      return raw
    }
    const publish = async (one: Attacker, id: number, channel = 'slow:a') => {
      one.send({ id, publish: { channel, data: 1 } })
      return (await one.reply(id)).error?.code ?? 'published'
    }
    const ann = await open('ann')
    t.strictSame([await publish(ann, 2), await publish(ann, 3), await publish(ann, 4)], ['published', 'published', 111])
    ann.send(...range(10, 300).map(id => ({ id, publish: { channel: `slow:${id}`, data: 1 } })))
    await ann.reply(309)
    t.equal(await publish(ann, 5), 111, 'other channels in between change nothing')
    ann.client.socket.close()
    t.equal(await publish(await open('ann'), 2), 111, 'nor does a new connection')
    t.equal(await publish(await open('bob'), 2), 'published', 'others are not concerned')
    const [nobody, other] = [await open(), await open()]
    t.strictSame([await publish(nobody, 2), await publish(nobody, 3), await publish(nobody, 4)], ['published', 'published', 111])
    t.equal(await publish(other, 2), 'published', 'who is unknown is a user of its own')
  })

  t.test(`JSON with a key that changes prototypes reaches no handler (${encoding})`, async (t) => {
    const seen: unknown[] = []
    const app = await startApp(t, {
      channels: { room: { publish: true } },
      onRpc: (_connection, _method, data) => { seen.push(data) },
      onMessage: (_connection, data) => { seen.push(data) },
      onPublish: (_connection, _channel, data) => { seen.push(data) }
    })
    for (const json of poisoned) {
      for (const name of ['rpc', 'publish', 'send']) {
        const one = await attacker(t, app, encoding)
        const id = name === 'send' ? '' : '"id":2,'
        if (encoding === 'json') {
          one.client.socket.send(`{${id}"${name}":{"channel":"room:1","data":${json}}}`)
          t.match(await one.client.closed, { code: 3501 }, `${name} ${json}`)
        } else {
          one.send({ ...(name !== 'send' && { id: 2 }), [name]: { channel: 'room:1', data: Buffer.from(json) } }, { id: 3, ping: {} })
          await one.reply(3)
          if (name !== 'send') t.match(await one.reply(2), { error: { code: 107 } }, `${name} ${json}`)
        }
      }
    }
    t.strictSame(seen, [])
    const one = await attacker(t, app, encoding)
    for (const [i, json] of harmless.entries()) {
      if (encoding === 'json') one.client.socket.send(`{"id":${i + 2},"rpc":{"data":${json}}}`)
      else one.send({ id: i + 2, rpc: { data: Buffer.from(json) } })
      await one.reply(i + 2)
    }
    t.strictSame(seen, harmless.map(json => JSON.parse(json)))
  })

  t.test(`only a ClientError reaches a client with its text (${encoding})`, async (t) => {
    const { logger, entries } = collectLog()
    const thrown: Record<string, () => unknown> = {
      client: () => new ClientError(404, 'no such order'),
      google: () => Object.assign(new Error('No such object: acme-payroll/salaries.csv'), { code: 404, errors: [] }),
      mongo: () => Object.assign(new Error('WriteConflict in acme.salaries'), { code: 112 }),
      lookalike: () => ({ code: 404, message: 'acme' }),
      proxy: () => new Proxy(new Error('acme'), { get () { throw new Error('trap') } }),
      symbol: () => Object.assign(new Error('x'), { message: Symbol('m') }),
      getter: () => Object.defineProperty(new Error('x'), 'code', { get () { throw new Error('getter') } }),
      prototype: () => Object.create(new Proxy({}, { getPrototypeOf () { throw new Error('trap') } })),
      twice: () => throwsAfter(1),
      textless: () => Object.assign(new ClientError(404, ''), { message: { text: 'acme' } }),
      null: () => null
    }
    const app = await startApp(t, { onRpc: (_connection, method) => { throw thrown[method]!() } }, { logger })
    const one = await attacker(t, app, encoding)
    const errors: Record<string, unknown> = {}
    for (const [i, method] of Object.keys(thrown).entries()) {
      one.send({ id: i + 2, rpc: { method } })
      errors[method] = (await one.reply(i + 2)).error.code
    }
    const internal = 100
    t.strictSame(errors, {
      client: 404,
      google: internal,
      mongo: internal,
      lookalike: internal,
      proxy: internal,
      symbol: internal,
      getter: internal,
      prototype: internal,
      twice: internal,
      textless: internal,
      null: internal
    })
    t.notMatch(JSON.stringify(one.replies), /acme/)
    t.match(JSON.stringify(one.replies), /no such order/)
    t.equal(entries.filter(({ event, level }) => event === 'connection.failed' && level === 50).length, 10)
  })

  t.test(`an error that can be looked at twice and not again ends its connection and nothing else (${encoding})`, async (t) => {
    const app = await startApp(t, { onRpc: () => { throw throwsAfter(2) } })
    const [one, other] = [await attacker(t, app, encoding), await attacker(t, app, encoding)]
    one.send({ id: 2, rpc: {} })
    t.match(await one.client.closed, { code: 3004 })
    other.send({ id: 2, ping: {} })
    t.match(await other.reply(2), { error: { code: 108 } })
  })
}

t.test('data with a key that changes prototypes is a bad request also where a rule has failed before it is read', async (t) => {
  const app = await startApp(t, { channels: { room: { subscribe: () => { throw new Error('the database is away') } } } })
  const one = await attacker(t, app, 'protobuf')
  one.send({ id: 2, subscribe: { channel: 'room:1', data: Buffer.from(poisoned[0]!) } })
  t.match(await one.reply(2), { error: { code: 107 } })
  one.send({ id: 3, subscribe: { channel: 'room:1', data: Buffer.from(harmless[0]!) } })
  t.match(await one.reply(3), { error: { code: 100 } })
})
