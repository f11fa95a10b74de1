import { Type } from '@fastify/type-provider-typebox'
import ajvErrors from 'ajv-errors'
import { type } from 'arktype'
import Fastify from 'fastify'
import type { FastifyInstance, FastifyServerOptions } from 'fastify'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import type { Test } from 'tap'
import * as v from 'valibot'
import { z } from 'zod'
import cloudRunWebSocket, { defineChannels, defineMethods } from '../../index.ts'
import type { ChannelOptions, Options } from '../../index.ts'
import { collectLog } from '../helpers/log.ts'
import type { Entry } from '../helpers/log.ts'
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

interface StartOptions {
  readonly fastify?: FastifyServerOptions
  /** Called before the plugin is registered. */
  readonly before?: (app: FastifyInstance) => void
  /** Called after it. */
  readonly after?: (app: FastifyInstance) => void
}

async function start (t: Test, options: Options, { fastify, before, after }: StartOptions = {}) {
  const { logger, entries } = collectLog({ level: 'debug' })
  const app = Fastify({ logger, ...fastify })
  t.teardown(() => app.close())
  before?.(app)
  await app.register(cloudRunWebSocket, { redis: false, shutdown: { signals: false }, ...options })
  after?.(app)
  await app.listen({ port: 0, host: '127.0.0.1' })
  const url = `ws://127.0.0.1:${(app.server.address() as AddressInfo).port}`
  const of = (event: string): Entry[] => entries.filter(entry => entry.event === event)
  const published = async (channel: string) => (await app.realtime.history(channel)).publications.map(({ data }) => data)
  return { app, url, of, published }
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

t.test('Standard Schemas of three libraries, and of an app, parse what clients publish', async (t) => {
  const own = {
    '~standard': {
      version: 1 as const,
      vendor: 'own',
      validate: async (value: unknown) => value === 1 ? { value: 'one' } : { issues: [{ message: 'is not one', path: ['a', { key: 0 }] }] }
    }
  }
  const { url, published } = await start(t, {
    channels: defineChannels({
      valibot: { publish: true, history: { size: 5, ttl: '1m' }, schema: v.object({ id: v.pipe(v.string(), v.transform(Number)) }) },
      ark: { publish: true, history: { size: 5, ttl: '1m' }, schema: type({ n: 'number' }) },
      own: { publish: true, history: { size: 5, ttl: '1m' }, schema: own },
      text: { publish: true, history: { size: 5, ttl: '1m' }, schema: z.string().trim() },
      bytes: { publish: true, history: { size: 5, ttl: '1m' }, schema: z.instanceof(Uint8Array) }
    })
  })
  for (const encoding of encodings) {
    const client = await sdkClient(t, url, encoding).connected()
    await client.publish('valibot:1', { id: '7' })
    await client.publish('ark:1', { n: 7 })
    await client.publish('own:1', 1)
    await client.publish('text:1', ' hi ')
    t.strictSame(await errorOf(client.publish('valibot:1', { id: 7 })), refusal('data/id: Invalid type: Expected string but received 7'))
    t.strictSame(await errorOf(client.publish('ark:1', { n: '7' })), refusal('data/n: n must be a number (was a string)'))
    t.strictSame(await errorOf(client.publish('own:1', 2)), refusal('data/a/0: is not one'))
  }
  t.strictSame(await published('valibot:1'), [{ id: 7 }, { id: 7 }])
  t.strictSame(await published('ark:1'), [{ n: 7 }, { n: 7 }])
  t.strictSame(await published('own:1'), ['one', 'one'])
  t.strictSame(await published('text:1'), ['hi', 'hi'])
  const client = await sdkClient(t, url, 'protobuf').connected()
  await client.publish('bytes:1', Buffer.from([255, 0]))
  t.strictSame(await published('bytes:1'), [Buffer.from([255, 0])])
})

t.test('a string that a schema lets through is published as it is without one: as JSON', async (t) => {
  const { app, url } = await start(t, { channels: { with: { publish: true, schema: { type: 'string' } }, without: { publish: true } } })
  const received: unknown[] = []
  const client = await sdkClient(t, url, 'json').connected()
  const [connection] = Array.from(app.realtime.connections)
  for (const channel of ['with:1', 'without:1']) await connection!.subscribe(channel)
  for (const channel of ['with:1', 'without:1']) {
    await client.publish(channel, 'text')
    received.push(await until(() => client.data(channel)[0], channel))
  }
  t.strictSame(received, ['text', 'text'])
})

t.test("JSON Schema is compiled by the app's own compiler: shared schemas, ajv options and plugins, TypeBox", async (t) => {
  const { url, published } = await start(t, {
    channels: namespaces({
      ref: { $ref: 'message#' },
      later: { type: 'object', properties: { one: { $ref: 'later#/properties/one' } } },
      plugin: { type: 'object', required: ['text'], properties: { text: { type: 'string' } }, errorMessage: 'say something' },
      box: Type.Object({ state: Type.Union([Type.Literal('open'), Type.Literal('paid')]), n: Type.Integer({ minimum: 1 }) }),
      list: { type: 'array', items: { type: 'integer' } },
      none: {}
    })
  }, {
    fastify: { ajv: { customOptions: { allErrors: true, coerceTypes: false, removeAdditional: 'all' }, plugins: [ajvErrors.default as never] } },
    before: app => { app.addSchema({ $id: 'message', ...message }) },
    after: app => { app.addSchema({ $id: 'later', type: 'object', properties: { one: { type: 'integer', maximum: 5 } } }) }
  })
  const client = await sdkClient(t, url, 'json').connected()
  const refused = async (channel: string, data: unknown) => (await errorOf(client.publish(channel, data))).message
  await client.publish('ref:1', { text: 'hi', more: true })
  t.strictSame(await published('ref:1'), [{ text: 'hi', n: 1 }])
  t.equal(await refused('ref:1', { text: 7 }), 'bad request: data/text must be string')
  t.equal(await refused('later:1', { one: 6 }), 'bad request: data/one must be <= 5')
  t.equal(await refused('plugin:1', {}), 'bad request: data say something')
  t.equal(await refused('box:1', { state: 'open', n: 0 }), 'bad request: data/n must be >= 1')
  await client.publish('box:1', { state: 'paid', n: 1 })
  t.match(await refused('list:1', Array.from({ length: 5_000 }, () => 'x')), /^bad request: data\/0 must be integer$/, 'of thousands of errors, the first')
  await client.publish('none:1', [1, { a: null }])
  t.strictSame(await published('none:1'), [[1, { a: null }]])
})

t.test('data that is no object is coerced, too, as Fastify coerces a body', async (t) => {
  const { url, published } = await start(t, { channels: namespaces({ number: { type: 'number' } }) })
  const client = await sdkClient(t, url, 'json').connected()
  await client.publish('number:1', '7')
  t.strictSame(await published('number:1'), [7])
})

t.test('an asynchronous JSON Schema refuses what it rejects', async (t) => {
  const { url, of, published } = await start(t, {
    channels: namespaces({ async: { $async: true, type: 'object', properties: { value: { type: 'integer' }, error: { known: true } } } })
  }, {
    fastify: {
      ajv: {
        customOptions: {
          keywords: [{
            keyword: 'known',
            async: true,
            validate: async (_schema: unknown, data: unknown) => {
              if (data === 'down') throw new Error('the database is down')
              return data !== 'no'
            }
          }]
        } as never
      }
    }
  })
  const client = await sdkClient(t, url, 'json').connected()
  await client.publish('async:1', { value: 1, error: 'yes' })
  t.strictSame(await published('async:1'), [{ value: 1, error: 'yes' }], 'fields of the data have no meaning')
  t.strictSame(await errorOf(client.publish('async:1', { value: 'x' })), refusal('data/value must be integer'))
  t.match((await errorOf(client.publish('async:1', { error: 'no' }))).message, /^bad request: data\/error must pass "known" keyword/)
  t.match(await errorOf(client.publish('async:1', { error: 'down' })), { code: 100 })
  t.match(of('connection.failed'), [{ level: 50, msg: /channels\['async'\]\.schema failed: the database is down/ }])
})

t.test('a validator compiler of the app gets the schemas, in the scope of the plugin, and its answers count', async (t) => {
  const asked: unknown[] = []
  const answers: Record<string, (data: any) => unknown> = {
    value: data => ({ value: { was: data } }),
    error: () => ({ error: new Error('not today') }),
    list: () => ({ error: [{ message: 'a', path: ['b'] }] }),
    details: () => ({ error: { details: [{ message: '"b" is not allowed', path: [] }] } }),
    strings: async () => { throw Object.assign(new Error('all of it'), { errors: ['the first'] }) },
    false: () => false,
    asyncFalse: async () => false,
    true: () => true,
    undefined: () => undefined,
    object: () => ({ other: 1 })
  }
  const { url, published } = await start(t, {
    channels: namespaces(Object.fromEntries(Object.keys(answers).map(kind => [kind, { kind }])))
  }, {
    after: app => {
      app.setValidatorCompiler(({ schema, method, url, httpPart }: any) => {
        asked.push([url, method, httpPart])
        return answers[schema.kind]! as never
      })
    }
  })
  t.strictSame(asked[0], ["channels['value'].schema", 'POST', 'body'])
  t.equal(asked.length, Object.keys(answers).length, 'it compiles nothing but what the app has given')
  const client = await sdkClient(t, url, 'json').connected()
  const refused = async (channel: string) => (await errorOf(client.publish(channel, 1))).message
  t.equal(await refused('error:1'), 'bad request: not today')
  t.equal(await refused('list:1'), 'bad request: data/b: a')
  t.equal(await refused('details:1'), 'bad request: data: "b" is not allowed')
  t.equal(await refused('strings:1'), 'bad request: the first')
  for (const kind of ['false', 'asyncFalse']) t.equal(await refused(`${kind}:1`), 'bad request: data does not match the schema')
  for (const kind of ['value', 'true', 'undefined', 'object']) await client.publish(`${kind}:1`, 1)
  t.strictSame(await published('value:1'), [{ was: 1 }])
  for (const kind of ['true', 'undefined', 'object']) t.strictSame(await published(`${kind}:1`), [1])
})

t.test('an invalid schema stops the start, with the name of its namespace or method', async (t) => {
  const handler = () => 1
  const bad = { type: 'strnig' }
  const register = async (options: Options, after: (app: FastifyInstance) => void = () => {}) => {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(cloudRunWebSocket, { redis: false, shutdown: false, ...options })
    after(app)
    return app.ready()
  }
  await t.rejects(register({ channels: { chat: { schema: bad } } }), {
    code: 'FST_CRWS_INVALID_SCHEMA', message: /^Invalid schema channels\['chat'\]\.schema: .*type must be/
  })
  await t.rejects(register({ methods: { 'todo.add': { schema: { $ref: 'nowhere#' }, handler } } }), {
    code: 'FST_CRWS_INVALID_SCHEMA', message: /methods\['todo\.add'\]\.schema: can't resolve reference nowhere#/
  })
  const several: Options = { channels: { chat: { schema: bad }, right: { schema: message } }, methods: { add: { schema: bad, handler } } }
  await t.rejects(register(several), {
    message: /\n- channels\['chat'\]\.schema: .*\n- methods\['add'\]\.schema: /
  })
  await t.rejects(register({ channels: { chat: { schema: message } } }, app => app.setValidatorCompiler(() => 'x' as never)), {
    code: 'FST_CRWS_INVALID_SCHEMA', message: /did not return a function/
  })
  await t.resolves(register({ path: false, sdkPath: false, healthPath: false, readyPath: false, channels: { chat: { schema: message } } }))
})

t.test('the route that makes Fastify build its compiler answers like any that does not exist, and only JSON Schema adds it', async (t) => {
  const { app } = await start(t, { channels: namespaces({ json: message }) })
  const answer = await app.inject({ method: 'POST', url: '/fastify-cloud-run-websocket/schemas', payload: { a: 1 } })
  t.equal(answer.statusCode, 404)
  const { app: other } = await start(t, { channels: namespaces({ zod: z.string() }) })
  t.notMatch(other.printRoutes(), /schemas/)
})

t.test('a refusal is in the log at level debug, and no error', async (t) => {
  const { url, of } = await start(t, { channels: namespaces({ json: message }) })
  const client = await sdkClient(t, url, 'json').connected()
  await errorOf(client.publish('json:1', {}))
  t.match(of('command.refused'), [{
    level: 20,
    command: 'publish',
    channel: 'json:1',
    code: 107,
    reason: "channels['json'].schema refuses the data: data must have required property 'text'"
  }])
  t.strictSame(of('connection.failed'), [])
})

t.test('a reason is bounded and well-formed', async (t) => {
  const { url } = await start(t, { channels: namespaces({ strict: z.strictObject({}), half: z.string().refine(() => false, 'x'.repeat(199) + '😀') }) })
  const client = await sdkClient(t, url, 'json').connected()
  const { message: long } = await errorOf(client.publish('strict:1', { ['k'.repeat(10_000)]: 1 }))
  t.match(long, /^bad request: data: Unrecognized key: "k+…$/)
  t.ok(long.length < 230)
  const { message: half } = await errorOf(client.publish('half:1', ''))
  t.ok(half.isWellFormed() && half.endsWith('…'))
})

for (const encoding of encodings) {
  t.test(`${encoding}: what is hostile is refused, without an error in the log`, async (t) => {
    const tree: z.ZodType = z.lazy(() => z.array(tree))
    const { url, of } = await start(t, {
      channels: namespaces({
        json: message, tree, recursive: { $ref: 'tree#' }, any: {}, unknown: z.unknown()
      })
    }, { before: app => { app.addSchema({ $id: 'tree', type: 'array', items: { $ref: '#' } }) } })
    const client = await sdkClient(t, url, encoding).connected()
    let deep: unknown = []
    for (let i = 0; i < 2_000; i++) deep = [deep]
    const raw = (text: string) => encoding === 'json' ? JSON.parse(text) : Buffer.from(text)
    for (const namespace of ['tree', 'recursive', 'any', 'unknown']) {
      const answer = await client.publish(`${namespace}:1`, deep).then(() => 'published', ({ code }) => code)
      t.ok([107, 'published'].includes(answer), `${namespace}: ${answer}`)
    }
    t.match(await errorOf(client.publish('json:1', raw('[[[[[[[[[[1]]]]]]]]]]'))), refusal('data must be object'))
    if (encoding === 'protobuf') {
      t.match(await errorOf(client.publish('json:1', Buffer.from([255, 0]))), refusal('data is not JSON'))
      t.match(await errorOf(client.publish('json:1', raw('{"__proto__":{"text":"x"}}'))), { code: 107 })
    }
    t.strictSame(of('connection.failed'), [])
    t.equal(client.events.connected.length, 1)
  })
}

t.test('a schema that throws, or makes what JSON cannot carry, is a failure of the app', async (t) => {
  const { url, of } = await start(t, {
    channels: namespaces({
      throws: z.string().transform(() => { throw new TypeError('a bug') }),
      bigint: z.string().transform(BigInt),
      nothing: z.string().transform(() => undefined),
      circle: z.string().transform(() => {
        const a: { b?: object } = {}
        a.b = { a, again: a }
        return a
      }),
      noResult: { '~standard': { version: 1, vendor: 'own', validate: () => undefined } }
    }),
    methods: { add: { schema: z.string().transform(() => { throw new TypeError('a bug') }), handler: () => 1 } }
  })
  const client = await sdkClient(t, url, 'json').connected()
  const failures: Array<[call: Promise<unknown>, entry: RegExp]> = []
  const failing = (call: Promise<unknown>, entry: RegExp) => failures.push([call, entry])
  failing(client.publish('throws:1', ''), /channels\['throws'\]\.schema failed: a bug/)
  failing(client.publish('bigint:1', '1'), /channels\['bigint'\]\.schema failed: .*BigInt/)
  failing(client.publish('nothing:1', ''), /channels\['nothing'\]\.schema failed: .*undefined is not JSON/)
  failing(client.publish('circle:1', ''), /channels\['circle'\]\.schema failed: .*circular/)
  failing(client.publish('noResult:1', ''), /channels\['noResult'\]\.schema failed: /)
  failing(client.rpc('add', ''), /methods\['add'\]\.schema failed: a bug/)
  for (const [call] of failures) t.strictSame(await errorOf(call), { code: 100, message: 'internal server error' })
  const entries = of('connection.failed')
  t.equal(entries.length, failures.length)
  for (const [i, [, entry]] of failures.entries()) t.match(entries[i], { level: 50, msg: entry, err: { code: 'FST_CRWS_SCHEMA_FAILED', stack: /caused by: / } })
})

t.test('publishLimit counts what a schema refuses, and what costs nothing is refused before', async (t) => {
  let parsed = 0
  const limited = { subscribe: true, publishLimit: { max: 2, timeWindow: '10m' }, schema: z.unknown().refine(() => ++parsed > 100, 'no') }
  const { url } = await start(t, {
    channels: { rule: { ...limited, publish: () => true }, closed: limited, user: { ...limited, publish: true } }
  })
  const client = await sdkClient(t, url, 'json').connected()
  const codes = async (channel: string) => {
    const codes: number[] = []
    for (let i = 0; i < 3; i++) codes.push((await errorOf(client.publish(channel, i))).code)
    return codes
  }
  t.strictSame(await codes('rule:1'), [107, 107, 111])
  t.equal(parsed, 2)
  t.strictSame(await codes('closed:1'), [103, 103, 103])
  t.strictSame(await codes('user:#42'), [103, 103, 103])
  t.equal(parsed, 2)
})

t.test('what the app publishes is not checked, and what onPublish changes neither', async (t) => {
  const { app, url, published } = await start(t, {
    channels: namespaces({ json: message }), onPublish: (_connection, channel) => channel === 'json:2' ? { data: 'changed' } : undefined
  })
  await app.realtime.publish('json:1', 7)
  t.strictSame(await published('json:1'), [7])
  await sdkClient(t, url, 'json').publish('json:2', { text: 'hi' })
  t.strictSame(await published('json:2'), ['changed'])
})

for (const encoding of encodings) {
  t.test(`${encoding}: methods get what their schema makes of the data`, async (t) => {
    const { url, of } = await start(t, {
      methods: defineMethods({
        'todo.add': { schema: z.object({ title: z.string().trim() }), handler: (connection, { title }) => ({ title, by: connection.user }) },
        list: { schema: { type: 'object', properties: { limit: { type: 'integer', default: 10 } } }, handler: (_connection, data) => data },
        optional: { schema: z.undefined(), handler: (_connection, data) => [data === undefined] },
        required: { schema: { type: 'object' }, handler: () => 1 },
        echo: { handler: (_connection, data) => data },
        fail: { handler () { throw new Error('a secret') } }
      })
    })
    const client = await sdkClient(t, url, encoding).connected()
    t.strictSame(await client.rpc('todo.add', { title: ' tea ' }), { title: 'tea', by: '' })
    t.strictSame(await client.rpc('list', {}), { limit: 10 })
    t.strictSame(await client.rpc('echo', [1]), [1])
    t.strictSame(await errorOf(client.rpc('todo.add', {})), refusal('data/title: Invalid input: expected string, received undefined'))
    t.strictSame(client.dec((await client.client.rpc('optional', undefined)).data), [true])
    t.strictSame(await errorOf(client.client.rpc('required', undefined)), refusal('data must be object'))
    for (const name of ['todo', '', 'toString', '__proto__', 'constructor', 'x'.repeat(5_000)]) {
      t.strictSame(await errorOf(client.rpc(name, 1)), { code: 104, message: 'method not found' }, name.slice(0, 20))
    }
    t.strictSame(of('connection.failed'), [])
    t.match(await errorOf(client.rpc('fail', 1)), { code: 100 })
    t.match(of('connection.failed'), [{ handler: "methods['fail'].handler", msg: "methods['fail'].handler failed: a secret" }])
    t.match(of('command.refused')[0], { command: 'rpc', method: 'todo.add', code: 107 })
  })

  t.test(`${encoding}: methods are called in order, unless they are concurrent; onRpc is not`, async (t) => {
    const log: string[] = []
    const release = new Map<string, () => void>()
    const slow = (name: string) => new Promise<string>(resolve => {
      log.push(name)
      release.set(name, () => resolve(name))
    })
    const { url } = await start(t, {
      methods: {
        ordered: { handler: (_connection, data) => slow(`ordered ${data}`) },
        concurrent: { handler: (_connection, data) => slow(`concurrent ${data}`), concurrent: true }
      },
      onRpc: (_connection, method) => slow(method)
    })
    const client = await sdkClient(t, url, encoding).connected()
    const calls = [['concurrent', 1], ['concurrent', 2], ['other', 1], ['ordered', 1], ['ordered', 2]] as const
    const answers = calls.map(([method, data]) => client.rpc(method, data))
    await until(() => log.length === 4, 'four calls')
    t.strictSame(log, ['concurrent 1', 'concurrent 2', 'other', 'ordered 1'])
    release.get('ordered 1')!()
    t.equal(await answers[3], 'ordered 1')
    await until(() => log.length === 5, 'the last call')
    for (const name of ['concurrent 2', 'other', 'ordered 2', 'concurrent 1']) release.get(name)!()
    t.strictSame(await Promise.all(answers), ['concurrent 1', 'concurrent 2', 'other', 'ordered 1', 'ordered 2'])
  })
}
