import Fastify from 'fastify'
import { generateKeyPairSync } from 'node:crypto'
import { totalmem } from 'node:os'
import { createClient, createCluster } from 'redis'
import t from 'tap'
import cloudRunWebSocket from '../../index.ts'
import type { Options } from '../../index.ts'
import { resolveOptions } from '../../lib/options/resolve.ts'
import { secretOf } from '../helpers/secrets.ts'

const noEnv = {}
const resolve = (options: unknown, env: NodeJS.ProcessEnv = noEnv) => resolveOptions(options as Options, env)
const noop = () => {}

interface Case {
  /** As the message names it. */
  name: string
  /** What is given, and what becomes of it where that is something else. */
  valid: Array<[given: unknown, resolved?: unknown]>
  invalid: unknown[]
  allowed: RegExp
}

const path = { valid: [['/'], ['/a/b'], [false]] as Case['valid'], invalid: ['ws', '', true, 1, null, {}], allowed: /a path that starts with '\/', or false/ }
const handler = { valid: [[noop]] as Case['valid'], invalid: ['a', true, null, {}], allowed: /a function/ }
const count = { valid: [[1], [12_345]] as Case['valid'], invalid: [0, -1, 1.5, Number.NaN, Infinity, '10', null, true], allowed: /a whole number of at least 1/ }
const auto = { valid: [['auto'], [false]] as Case['valid'], invalid: [true, 'on', null, {}], allowed: /'auto' or false/ }
const time = (min: number): Omit<Case, 'name'> => ({
  valid: [[min], [3_000_000, 3_000_000], ['50m', 3_000_000], ['50 minutes', 3_000_000], [min + 0.6, min + 1]],
  invalid: [min - 1, -5, Number.NaN, Infinity, 'soon', '', null, true, {}],
  allowed: new RegExp(`a duration of at least ${min} ms: .*'57m'`)
})
const limitOf = (name: string): Case[] => [
  { name, valid: [[{ max: 2, timeWindow: '1s' }, { max: 2, timeWindow: 1_000 }], [false]], invalid: [true, 5, 'x', [], null], allowed: /\{ max, timeWindow \}/ },
  { name: `${name}.max`, ...count, valid: [] },
  { name: `${name}.timeWindow`, ...time(1), valid: [] }
]

const apiKey = 'an API key that nobody can guess'.replaceAll(' ', '-')
const [secret, other] = [secretOf('first'), secretOf('second')] as const
const publicKey = generateKeyPairSync('ed25519').publicKey.export({ type: 'spki', format: 'pem' }) as string

const fallbackPaths = {
  httpStreamPath: '/connection/http_stream', ssePath: '/connection/sse', emulationPath: '/emulation', uniSsePath: '/connection/uni_sse'
}

const cases: Case[] = [
  { name: 'path', ...path },
  { name: 'healthPath', ...path },
  { name: 'readyPath', ...path },
  { name: 'sdkPath', ...path },
  {
    name: 'apiPath',
    valid: [[false], ['/api'], ['/a/b']],
    invalid: ['/', '/api/', 'api', '', true, 1, null, {}],
    allowed: /a path that starts with '\/' and does not end with one, or false/
  },
  {
    name: 'api',
    valid: [
      [{ key: apiKey }, { key: [apiKey], authorize: undefined }],
      [{ key: [apiKey, 'x'.repeat(16)] }, { key: [apiKey, 'x'.repeat(16)], authorize: undefined }],
      [{ authorize: noop }, { key: undefined, authorize: noop }]
    ],
    invalid: [true, 'x', [], null],
    allowed: /\{ key \} or \{ authorize \}/
  },
  {
    name: 'api.key',
    valid: [],
    invalid: ['', 'x'.repeat(15), `${apiKey}\n`, `${apiKey} ${apiKey}`, 'ü'.repeat(16), [], [apiKey, 'x'], 1, null],
    allowed: /a string of at least 16 printable ASCII characters/
  },
  { name: 'api.authorize', valid: [], invalid: ['a', true, null, {}], allowed: /a function/ },
  { name: 'plain', valid: [[{}, { envelope: false }], [{ envelope: true }]], invalid: [true, 'envelope', [], null], allowed: /an object with envelope/ },
  { name: 'plain.envelope', valid: [], invalid: ['yes', 1, null], allowed: /true or false/ },
  {
    name: 'fallback',
    valid: [
      [false],
      [true, fallbackPaths],
      [{}, fallbackPaths],
      [{ ssePath: '/events', httpStreamPath: false }, { ...fallbackPaths, ssePath: '/events', httpStreamPath: false }],
      [
        { httpStreamPath: false, ssePath: false, emulationPath: false },
        { ...fallbackPaths, httpStreamPath: false, ssePath: false, emulationPath: false }
      ]
    ],
    invalid: ['true', 1, [], null],
    allowed: /false, true or \{ httpStreamPath\?, ssePath\?, emulationPath\?, uniSsePath\? \}/
  },
  { name: 'fallback.httpStreamPath', ...path, valid: [] },
  { name: 'fallback.ssePath', ...path, valid: [] },
  { name: 'fallback.emulationPath', ...path, valid: [] },
  { name: 'fallback.uniSsePath', ...path, valid: [] },
  { name: 'redisReadiness', valid: [['start'], ['always']], invalid: ['never', '', true, false, null, {}], allowed: /'start' or 'always'/ },
  { name: 'inspectPath', ...path },
  { name: 'inspect', valid: [[{ authorize: noop }]], invalid: [true, 'ada', [], null], allowed: /\{ authorize \}/ },
  { name: 'inspect.authorize', valid: [], invalid: ['ada', true, null, {}], allowed: /a function/ },
  { name: 'keyPrefix', valid: [['a'], ['my-service:v2']], invalid: ['', 'a b', '{a}', 1, null, false], allowed: /a non-empty string without whitespace or braces/ },
  { name: 'maxConnections', ...count },
  { name: 'maxPayload', ...count },
  { name: 'maxBufferedBytes', ...count },
  {
    name: 'compression',
    valid: [[true, { minBytes: 128, level: 6, memLevel: 8 }], [false], [{ minBytes: 0, level: 1 }, { minBytes: 0, level: 1, memLevel: 8 }]],
    invalid: ['gzip', 1, null, []],
    allowed: /true, false or \{ minBytes\?, level\?, memLevel\? \}/
  },
  { name: 'compression.minBytes', valid: [], invalid: [-1, 1.5, '128', null], allowed: /a whole number of at least 0/ },
  { name: 'compression.level', valid: [], invalid: [0, 10, '6', null], allowed: /a whole number from 1 to 9/ },
  { name: 'compression.memLevel', valid: [], invalid: [0, 10, '8', null], allowed: /a whole number from 1 to 9/ },
  { name: 'memoryLimit', ...count, valid: [...count.valid, [false]], invalid: count.invalid.filter(value => value !== false) },
  { name: 'maxConnectionAge', ...time(1_000), valid: [[1_000], ['50m', 3_000_000], [false]] },
  { name: 'requestTimeout', ...time(1_000) },
  { name: 'heartbeat', valid: [[{}, { interval: 25_000, timeout: 10_000 }], [{ interval: '5s' }, { interval: 5_000, timeout: 10_000 }]], invalid: [true, false, 5, [], null], allowed: /an object with interval, timeout/ },
  { name: 'heartbeat.interval', ...time(10), valid: [] },
  { name: 'heartbeat.timeout', ...time(10), valid: [] },
  {
    name: 'allowedOrigins',
    valid: [['*'], [[]], [['https://Example.com', /\.example\.com$/], ['https://example.com', /\.example\.com$/]], [['http://localhost:8080']], [['capacitor://localhost']]],
    invalid: ['https://example.com', true, null, {}, ['example.com'], ['https://example.com/'], ['https://example.com/path'], [1]],
    allowed: /'\*', or a list of origins such as 'https:\/\/example.com' and regular expressions/
  },
  {
    name: 'rateLimit',
    valid: [
      [false, { connections: false, messages: false }],
      [{}, { connections: { max: 6_000, timeWindow: 60_000 }, messages: { max: 1_000, timeWindow: 10_000 } }],
      [{ messages: false }, { connections: { max: 6_000, timeWindow: 60_000 }, messages: false }]
    ],
    invalid: [true, 5, 'x', [], null],
    allowed: /an object with connections, messages/
  },
  ...limitOf('rateLimit.connections'),
  ...limitOf('rateLimit.messages'),
  {
    name: 'trustedProxies',
    valid: [[0], [1], [5], [noop]],
    invalid: [-1, 1.5, Number.NaN, Infinity, '1', true, null, {}, ['169.254.0.0/16']],
    allowed: /a whole number of at least 0, or a function that returns the address/
  },
  { name: 'authenticate', ...handler },
  { name: 'onConnect', ...handler },
  { name: 'onMessage', ...handler },
  { name: 'onDisconnect', ...handler },
  { name: 'onOccupied', ...handler },
  { name: 'onVacated', ...handler },
  { name: 'onUserOnline', ...handler },
  { name: 'onUserOffline', ...handler },
  { name: 'gracePeriod', ...time(0), valid: [[0], ['10s', 10_000], ['1h', 3_600_000]], allowed: /at least 0 ms and at most 3600000 ms/ },
  { name: 'onSubscribe', ...handler },
  { name: 'onPublish', ...handler },
  { name: 'onRpc', ...handler },
  {
    name: 'methods',
    valid: [[{}, new Map()], [{ add: { handler: noop } }, new Map([['add', { handler: noop, schema: undefined, concurrent: false }]])]],
    invalid: [[], 'add', true, null],
    allowed: /an object of methods by name/
  },
  {
    name: 'token',
    valid: [
      [{ secret }, { secret }],
      [{ secret: [secret, other], issuer: 'i', audience: 'j' }, { secret: [secret, other], issuer: 'i', audience: 'j' }],
      [{ secret: 'ü'.repeat(16) }],
      [{ publicKey }, { publicKey }],
      [{ jwksUrl: 'https://example.com/keys' }, { jwksUrl: 'https://example.com/keys' }]
    ],
    invalid: [true, 'x', [], null],
    allowed: /an object with secret, publicKey, jwksUrl, issuer, audience/
  },
  {
    name: 'token.secret',
    valid: [],
    invalid: ['', 'a', secret.slice(1), 'ü'.repeat(15), [], [secret, 'b'], [[secret]], publicKey, ` ${publicKey}`, [secret, publicKey], Buffer.from(secret), 1, null],
    allowed: /a string of at least 32 bytes .*public key .* token\.publicKey/
  },
  { name: 'token.issuer', valid: [], invalid: ['', 1, null], allowed: /a non-empty string/ },
  { name: 'token.audience', valid: [], invalid: ['', 1, null], allowed: /a non-empty string/ },
  { name: 'token.jwksUrl', valid: [], invalid: ['', 'example.com', 1, null], allowed: /a URL/ },
  {
    name: 'shutdown',
    valid: [[false], [{}, { signals: true, timeout: 8_000 }], [{ signals: false, timeout: '3s' }, { signals: false, timeout: 3_000 }]],
    invalid: [true, 8_000, 'x', [], null],
    allowed: /an object with signals, timeout/
  },
  { name: 'shutdown.signals', valid: [], invalid: ['yes', 1, null], allowed: /true or false/ },
  { name: 'shutdown.timeout', ...time(100), valid: [] },
  { name: 'telemetry', ...auto },
  {
    name: 'logging',
    valid: [
      ['auto', { destination: 'stdout', messages: false }],
      [false],
      [{}, { destination: 'stdout', messages: false }],
      [{ destination: 'api' }, { destination: 'api', messages: false }],
      [{ messages: { ratio: 0.01 } }, { destination: 'stdout', messages: { ratio: 0.01, content: false } }],
      [{ messages: { ratio: 1, content: true } }, { destination: 'stdout', messages: { ratio: 1, content: true } }]
    ],
    invalid: [true, 'on', null, []],
    allowed: /'auto', false or \{ destination\?, messages\? \}/
  },
  { name: 'logging.destination', valid: [], invalid: ['file', true, null], allowed: /'stdout' or 'api'/ },
  { name: 'logging.messages', valid: [], invalid: [true, 0.5, [], null], allowed: /false or \{ ratio, content\? \}/ },
  { name: 'logging.messages.ratio', valid: [], invalid: [0, -1, 1.1, Number.NaN, '1', null, true], allowed: /a number above 0 and up to 1/ },
  { name: 'logging.messages.content', valid: [], invalid: ['yes', 1, null], allowed: /true or false/ },
  { name: 'logLevel', valid: [['warn'], ['my-level']], invalid: ['', 1, null, {}], allowed: /a level of the app's logger, such as 'warn'/ },
  { name: 'logSerializers', valid: [[{}], [{ user: String }]], invalid: [true, [], null, { user: 'name' }], allowed: /an object of functions by field/ },
  { name: 'channels', valid: [[{}, new Map()], [{ chat: undefined }, new Map()]], invalid: [true, 'chat', [], null], allowed: /an object of rules by namespace/ },
  { name: 'channels.chat', valid: [], invalid: [true, 'x', [], null], allowed: /an object with subscribe, publish, presence, joinLeave, history, publishLimit, token/ },
  { name: 'channels.chat.subscribe', valid: [], invalid: ['yes', 1, null], allowed: /a function/ },
  { name: 'channels.chat.publish', valid: [], invalid: ['yes', 1, null], allowed: /a function/ },
  { name: 'channels.chat.presence', valid: [], invalid: ['yes', 1, null], allowed: /true or false/ },
  { name: 'channels.chat.joinLeave', valid: [], invalid: ['yes', 1, null], allowed: /true or false/ },
  { name: 'channels.chat.token', valid: [], invalid: ['yes', 1, null], allowed: /true or false/ },
  { name: 'channels.chat.delta', valid: [], invalid: ['fossil', 1, null], allowed: /true or false/ },
  { name: 'channels.chat.history', valid: [], invalid: [true, 100, [], null], allowed: /\{ size, ttl, recover \}, such as \{ size: 100, ttl: '10m' \}/ },
  { name: 'channels.chat.history.size', ...count, valid: [] },
  { name: 'channels.chat.history.ttl', ...time(1_000), valid: [] },
  { name: 'channels.chat.history.recover', valid: [], invalid: [true, 'newest', '', null, 1], allowed: /'stream' or 'cache'/ },
  { name: 'channels.chat.publishLimit', valid: [], invalid: [true, 5, [], null], allowed: /\{ max, timeWindow \}/ },
  { name: 'channels.chat.publishLimit.max', ...count, valid: [] },
  { name: 'channels.chat.publishLimit.timeWindow', ...time(1), valid: [] },
  { name: 'channels.chat.schema', valid: [], invalid: [true, 'x', [], null, noop], allowed: /a JSON Schema, or a Standard Schema/ },
  {
    name: 'redis',
    valid: [
      [false, undefined],
      ['redis://127.0.0.1:6379', { kind: 'standalone', options: { url: 'redis://127.0.0.1:6379' } }],
      ['rediss://user:word@redis.example.com:6380/1', { kind: 'standalone', options: { url: 'rediss://user:word@redis.example.com:6380/1' } }],
      [{ url: 'redis://127.0.0.1' }, { kind: 'standalone', options: { url: 'redis://127.0.0.1' } }],
      [{ socket: { host: 'redis' } }, { kind: 'standalone', options: { socket: { host: 'redis' } } }],
      [{ rootNodes: [{ url: 'redis://a' }] }, { kind: 'cluster', options: { rootNodes: [{ url: 'redis://a' }] } }]
    ],
    invalid: [true, 6379, null, [], 'http://127.0.0.1:6379', '127.0.0.1:6379', ''],
    allowed: /a URL/
  },
  { name: 'redis.url', valid: [], invalid: ['http://127.0.0.1', 'localhost', 6379], allowed: /a URL that starts with 'redis:\/\/' or 'rediss:\/\/'/ },
  { name: 'redis.rootNodes', valid: [], invalid: [[], {}, 'redis://a', null], allowed: /a list of at least one \{ url \} or \{ socket \}/ }
]

/** What an option needs beside it. */
const siblings: Record<string, object> = {
  apiPath: { api: { key: apiKey } },
  api: { apiPath: '/api' },
  inspectPath: { inspect: { authorize: noop } },
  max: { timeWindow: 1_000 },
  timeWindow: { max: 1 },
  size: { ttl: 1_000 },
  ttl: { size: 1 },
  content: { ratio: 1 }
}

function at (name: string, value: unknown): Record<string, unknown> {
  const [key, ...rest] = name.split('.')
  const inner = rest.length === 0 ? value : at(rest.join('.'), value)
  return { ...(siblings[key!] ?? {}), [key!]: inner }
}

const pick = (object: unknown, name: string) => name.split('.').reduce((value, key) => (value as Record<string, unknown>)[key], object)

t.test('a token needs exactly one source of keys, and what was given never shows', async (t) => {
  for (const token of [{}, { issuer: 'i' }, { secret: secretOf('hush'), jwksUrl: 'https://example.com' }, { secret: [] }, { publicKey: 'hush' }, { publicKey: 5 }, { publicKey: generateKeyPairSync('x25519').publicKey.export({ type: 'spki', format: 'pem' }) }]) {
    t.throws(() => resolve({ token } as unknown as Options), { code: 'FST_CRWS_INVALID_OPTION', message: /^(?!.*hush)/ }, Object.keys(token).join())
  }
})

t.test('the HTTP API needs a path, and one way to say who may call it; its keys never show', async (t) => {
  const throws = (options: object, message: RegExp) => t.throws(() => resolve(options), { code: 'FST_CRWS_INVALID_OPTION', message })
  throws({ apiPath: '/api' }, /"api": got nothing, expected who may call the HTTP API/)
  throws({ api: { key: apiKey } }, /"apiPath": got nothing, expected the path.*'\/api', or false/)
  throws({ apiPath: '/api', api: {} }, /"api": got neither key nor authorize, expected one of them/)
  throws({ apiPath: '/api', api: { key: apiKey, authorize: noop } }, /"api": got both key and authorize/)
  throws({ apiPath: '/api', api: { key: undefined } }, /"api\.key": got undefined \(is it read from an environment variable that is not set\?\)/)
  throws({ apiPath: '/api', api: { key: 'hush hush hush hush' } }, /^(?!.*hush)/)
  throws({ apiPath: '/api', api: 'hush hush hush hush' }, /^(?!.*hush)/)
  t.equal(resolve({ apiPath: false, api: { key: apiKey } }).apiPath, false, 'false turns it off')
})

t.test('the SDKs transports of fallback need the route for posts', async (t) => {
  const throws = (options: object, message: RegExp) => t.throws(() => resolve(options), { code: 'FST_CRWS_INVALID_OPTION', message })
  throws({ fallback: { emulationPath: false } }, /"fallback\.emulationPath": got false, expected a path, as the routes at httpStreamPath and ssePath need it/)
  throws({ fallback: { emulationPath: false, ssePath: false } }, /"fallback\.emulationPath": got false/)
})

t.test('every option has its default', async (t) => {
  t.strictSame(resolve({}), {
    path: '/ws',
    sdkPath: '/connection/websocket',
    plain: { envelope: false },
    fallback: false,
    healthPath: '/health',
    readyPath: '/ready',
    apiPath: false,
    api: undefined,
    redisReadiness: 'start',
    inspectPath: false,
    inspect: undefined,
    redis: undefined,
    keyPrefix: 'ws',
    maxConnections: 950,
    maxConnectionAge: 57 * 60_000,
    requestTimeout: 3_600_000,
    heartbeat: { interval: 25_000, timeout: 10_000 },
    maxPayload: 65_536,
    maxBufferedBytes: 1_048_576,
    compression: false,
    memoryLimit: Math.min(process.constrainedMemory(), totalmem()),
    allowedOrigins: 'same-host',
    rateLimit: { connections: { max: 6_000, timeWindow: 60_000 }, messages: { max: 1_000, timeWindow: 10_000 } },
    trustedProxies: 0,
    authenticate: undefined,
    token: undefined,
    channels: new Map(),
    onConnect: undefined,
    onMessage: undefined,
    onDisconnect: undefined,
    onOccupied: undefined,
    onVacated: undefined,
    onUserOnline: undefined,
    onUserOffline: undefined,
    gracePeriod: 10_000,
    onSubscribe: undefined,
    onPublish: undefined,
    onRpc: undefined,
    methods: new Map(),
    shutdown: { signals: true, timeout: 8_000 },
    telemetry: 'auto',
    logging: { destination: 'stdout', messages: false },
    logLevel: undefined,
    logSerializers: undefined
  })
})

t.test('an option that is undefined takes its default', async (t) => {
  const names = Object.keys(resolve({}))
  t.strictSame(resolve(Object.fromEntries(names.map(name => [name, undefined]))), resolve({}))
})

t.test('every option is tested here', async (t) => {
  const tested = new Set(cases.map(({ name }) => name.split('.', 1)[0]))
  t.strictSame([...tested].sort(), Object.keys(resolve({})).sort())
})

for (const { name, valid, invalid, allowed } of cases) {
  t.test(`option ${name}`, async (t) => {
    for (const [given, resolved = given] of valid) {
      const value = pick(resolve(at(name, given)), name)
      t.strictSame(value, given === false && name === 'redis' ? undefined : resolved, `takes ${String(given)}`)
    }
    for (const given of invalid) {
      const error = t.throws(() => resolve(at(name, given)), { code: 'FST_CRWS_INVALID_OPTION' }, `refuses ${String(given)}`)
      const { message } = error as Error
      t.match(message, `"${name}"`, 'names the option')
      t.match(message, /: got .+, expected /, 'names the value')
      t.match(message, allowed, 'says what is allowed')
    }
  })
}

t.test('the resolved options can not be changed', async (t) => {
  const resolved = resolve({ heartbeat: {}, allowedOrigins: ['https://a.example'], rateLimit: false })
  for (const part of [resolved, resolved.heartbeat, resolved.rateLimit, resolved.allowedOrigins, resolve({}).shutdown]) {
    t.ok(Object.isFrozen(part))
  }
})

t.test('channel rules are completed', async (t) => {
  const subscribe = () => true
  const { channels } = resolve({ channels: { chat: { subscribe, presence: true, history: { size: 10, ttl: '10m' }, publishLimit: { max: 5, timeWindow: '1s' } }, '': {} } })
  t.strictSame(channels.get('chat'), {
    subscribe, publish: false, presence: true, joinLeave: false, history: { size: 10, ttl: 600_000, recover: 'stream' }, publishLimit: { max: 5, timeWindow: 1_000 }, token: false, batchDelay: 0, slow: 'close', schema: undefined, stream: false, tagsFilter: false, delta: false, compaction: false, compression: true, presenceFor: 'subscribers'
  })
  t.strictSame(channels.get(''), { subscribe: false, publish: false, presence: false, joinLeave: false, history: undefined, publishLimit: undefined, token: false, batchDelay: 0, slow: 'close', schema: undefined, stream: false, tagsFilter: false, delta: false, compaction: false, compression: true, presenceFor: 'subscribers' })
  t.match(resolve({ channels: { chat: { history: { size: 1, ttl: '1m', recover: 'cache' } } } }).channels.get('chat'), { history: { recover: 'cache' } })
  t.match(resolve({ channels: { chat: { batchDelay: '5ms', slow: 'latest' } } }).channels.get('chat'), { batchDelay: 5, slow: 'latest' })
  t.throws(() => resolve({ channels: { chat: { batchDelay: '2s' } } }), { code: 'FST_CRWS_INVALID_OPTION', message: /"channels.chat.batchDelay".*at least 0 ms and at most 1000 ms/ })
  t.throws(() => resolve({ channels: { chat: { slow: 'drop' } } }), { code: 'FST_CRWS_INVALID_OPTION', message: /"channels.chat.slow": got 'drop'.*'close'.*'latest'/ })
  for (const presenceFor of ['subscribers', 'everybody', subscribe]) {
    t.equal(resolve({ channels: { chat: { presence: true, presenceFor } } }).channels.get('chat')!.presenceFor, presenceFor)
  }
  for (const presenceFor of [true, 'nobody']) {
    const error = { code: 'FST_CRWS_INVALID_OPTION', message: /"channels.chat.presenceFor".*'subscribers', 'everybody' or a function/ }
    t.throws(() => resolve({ channels: { chat: { presenceFor } } }), error)
  }
  t.throws(() => resolve({ channels: { chat: { presenceFor: 'everybody' } } }), {
    code: 'FST_CRWS_INVALID_OPTION', message: /"channels.chat.presenceFor": got a value without presence, expected 'subscribers', or another value with presence: true/
  })
  t.throws(() => resolve({ channels: { 'chat:room': {} } }), { code: 'FST_CRWS_INVALID_OPTION', message: /'chat:room'.*the part of a channel before the first ':'/ })
})

t.test('half a limit or half a history is none', async (t) => {
  t.throws(() => resolve({ rateLimit: { messages: { max: 1 } } }), { code: 'FST_CRWS_INVALID_OPTION', message: /"rateLimit.messages.timeWindow".*go together/ })
  t.throws(() => resolve({ rateLimit: { connections: { timeWindow: 1 } } }), { code: 'FST_CRWS_INVALID_OPTION', message: /"rateLimit.connections.max".*go together/ })
  t.throws(() => resolve({ channels: { chat: { history: { size: 1 } } } }), { code: 'FST_CRWS_INVALID_OPTION', message: /"channels.chat.history.ttl".*grow forever/ })
  t.throws(() => resolve({ channels: { chat: { history: { ttl: 1_000 } } } }), { code: 'FST_CRWS_INVALID_OPTION', message: /"channels.chat.history.size".*grow forever/ })
  t.throws(() => resolve({ logging: { messages: { content: true } } }), { code: 'FST_CRWS_INVALID_OPTION', message: /"logging.messages.ratio".*above 0/ })
})

t.test('a misspelt option is an error at any depth, and says what is known there', async (t) => {
  for (const [options, name, known] of [
    [{ maxConnection: 1 }, 'maxConnection', /maxConnections/],
    [{ heartbeat: { timout: 1 } }, 'heartbeat.timout', /heartbeat\.interval, heartbeat\.timeout/],
    [{ rateLimit: { message: false } }, 'rateLimit.message', /rateLimit\.connections, rateLimit\.messages/],
    [{ rateLimit: { messages: { max: 1, timeWindow: 1, ban: 1 } } }, 'rateLimit.messages.ban', /rateLimit\.messages\.max, rateLimit\.messages\.timeWindow/],
    [{ shutdown: { signal: true } }, 'shutdown.signal', /shutdown\.signals, shutdown\.timeout/],
    [{ logging: { message: false } }, 'logging.message', /logging\.destination, logging\.messages/],
    [{ channels: { chat: { histroy: {} } } }, 'channels.chat.histroy', /channels\.chat\.history/],
    [{ channels: { chat: { history: { size: 1, ttl: 1_000, max: 1 } } } }, 'channels.chat.history.max', /channels\.chat\.history\.size/],
    [JSON.parse('{ "__proto__": {} }'), '__proto__', /path/],
    [{ toString: noop }, 'toString', /path/]
  ] as Array<[object, string, RegExp]>) {
    const error = t.throws(() => resolve(options), { code: 'FST_CRWS_UNKNOWN_OPTION', message: known })
    t.match((error as Error).message, `"${name}"`)
  }
})

t.test('what is no object of options is refused', async (t) => {
  for (const options of ['x', 1, []]) t.throws(() => resolve(options), { code: 'FST_CRWS_INVALID_OPTION', message: /"options"/ })
})

t.test('the maximum age follows the request timeout and lies below it', async (t) => {
  t.equal(resolve({ requestTimeout: '5m' }).maxConnectionAge, 285_000)
  t.equal(resolve({ requestTimeout: '5m', maxConnectionAge: '4m' }).maxConnectionAge, 240_000)
  t.equal(resolve({ requestTimeout: '5m', maxConnectionAge: false }).maxConnectionAge, false)
  for (const maxConnectionAge of ['5m', '6m']) {
    t.throws(() => resolve({ requestTimeout: '5m', maxConnectionAge }), { code: 'FST_CRWS_INVALID_OPTION', message: /"maxConnectionAge".*less than requestTimeout \(300000 ms\)/ })
  }
})

t.test('the request timeout comes from CLOUD_RUN_TIMEOUT_SECONDS', async (t) => {
  const env = { CLOUD_RUN_TIMEOUT_SECONDS: '300' }
  t.match(resolve({}, env), { requestTimeout: 300_000, maxConnectionAge: 285_000 })
  t.match(resolve({ requestTimeout: '10m' }, env), { requestTimeout: 600_000 }, 'but the option comes first')
  t.match(resolve({ requestTimeout: '10m' }, { CLOUD_RUN_TIMEOUT_SECONDS: 'x' }), { requestTimeout: 600_000 }, 'and then the variable is not read')
  t.equal(resolve({}, { CLOUD_RUN_TIMEOUT_SECONDS: '' }).requestTimeout, 3_600_000)
  for (const CLOUD_RUN_TIMEOUT_SECONDS of ['5m', '0', '-1', '1.5']) {
    t.throws(() => resolve({}, { CLOUD_RUN_TIMEOUT_SECONDS }), { code: 'FST_CRWS_INVALID_OPTION', message: /env CLOUD_RUN_TIMEOUT_SECONDS.*a whole number of seconds/ })
  }
})

t.test('without the option, Redis comes from the environment', async (t) => {
  const REDIS_URL = 'redis://10.0.0.3:6379'
  t.match(resolve({}, { REDIS_URL }).redis, { kind: 'standalone', options: { socket: { host: '10.0.0.3', port: 6379 } } })
  t.equal(resolve({}, {}).redis, undefined)
  t.equal(resolve({ redis: false }, { REDIS_URL }).redis, undefined, 'false: not even with the variable')
  t.strictSame(resolve({ redis: 'redis://mine' }, { REDIS_URL }).redis, { kind: 'standalone', options: { url: 'redis://mine' } })
  const broken = { REDIS_URL: 'http://x', REDIS_AUTH: 'password', REDIS_CA_FILE: '/nowhere' }
  t.strictSame(resolve({ redis: 'redis://mine' }, broken).redis, { kind: 'standalone', options: { url: 'redis://mine' } }, 'the rest of it neither')
  t.throws(() => resolve({}, broken), { code: 'FST_CRWS_INVALID_OPTION', message: /env REDIS_URL/ })
})

t.test('a client of the host is told apart from options', async (t) => {
  const client = createClient()
  const cluster = createCluster({ rootNodes: [{ url: 'redis://127.0.0.1:1' }] })
  t.strictSame(resolve({ redis: client }).redis?.kind, 'client')
  t.strictSame(resolve({ redis: cluster }).redis?.kind, 'cluster-client')
})

t.test('a password never shows in a message', async (t) => {
  const secret = 'sw0rdf1sh'
  const values: unknown[] = [
    `http://user:${secret}@host:6379`,
    `http://:${secret}@host`,
    `redis//user:${secret}@host`,
    `user:${secret}@host:6379`,
    `http://user:with/${secret}@host`,
    `http://user:with@${secret}@host`,
    `redis://:with#${secret}@host`,
    `redis://:${secret} ${secret}@ho st`
  ]
  for (const value of values) {
    const inOptions = [value, { url: value }, { rootNodes: value }, [value], { rootNodes: { url: value } }].map(redis => ({ redis }))
    for (const options of inOptions) {
      const { message } = t.throws(() => resolve(options), { code: 'FST_CRWS_INVALID_OPTION' }) as Error
      t.notMatch(message, secret)
    }
    t.notMatch((t.throws(() => resolve({}, { REDIS_URL: value as string })) as Error).message, secret)
  }
})

t.test('of options that hold secrets a message shows the type and no more', async (t) => {
  const hush = 'sw0rdf1sh'
  const bytes = Buffer.from(hush)
  const shown = /sw0rdf1sh|73 77 30|115, 119/ // as text, and the first bytes as inspect shows them
  const wrong: [options: object, type: string][] = [
    [{ token: hush }, 'String'],
    [{ token: [hush] }, 'Array'],
    [{ token: { secret: hush } }, 'String'],
    [{ token: { secret: { value: hush } } }, 'Object'],
    [{ token: { secret: bytes } }, 'Uint8Array'],
    [{ token: { secret: new Uint8Array(bytes) } }, 'Uint8Array'],
    [{ token: { secret: [hush] } }, 'String'],
    [{ token: { publicKey: { key: hush } } }, 'Object'],
    [{ token: { jwksUrl: `ftp://example.com/keys?key=${hush}` } }, 'String'],
    [{ token: { jwksUrl: { href: hush } } }, 'Object'],
    [{ token: { issuer: [hush] } }, 'Array'],
    [{ redis: hush }, 'String'],
    [{ redis: [hush] }, 'Array'],
    [{ redis: { url: hush } }, 'String'],
    [{ redis: { url: { password: hush } } }, 'Object'],
    [{ redis: { url: `http://host?password=${hush}` } }, 'String'],
    [{ redis: { rootNodes: { password: hush } } }, 'Object']
  ]
  for (const [options, type] of wrong) {
    const { message } = t.throws(() => resolve(options), { code: 'FST_CRWS_INVALID_OPTION' }) as Error
    t.match(message, `: got a value of type ${type}, expected `)
    t.notMatch(message, shown)
  }
  for (const env of [{ REDIS_URL: hush }, { REDISHOST: 'redis', REDISPORT: hush }]) {
    t.notMatch((t.throws(() => resolve({}, env), { message: /a value of type String/ }) as Error).message, shown)
  }
  const both = t.throws(() => resolve({ token: { secret, publicKey } }), { code: 'FST_CRWS_INVALID_OPTION' }) as Error
  t.equal(both.message, 'Invalid option "token": got secret and publicKey, expected exactly one of secret, publicKey, jwksUrl')
})

t.test('a URL in a message has no credentials and no query', async (t) => {
  const { message } = t.throws(() => resolve({ allowedOrigins: ['https://ada:hush@example.com/path?key=hush'] })) as Error
  t.notMatch(message, /hush/)
  t.match(message, "got 'https://***@example.com/path?***', expected")
  t.match((t.throws(() => resolve({ allowedOrigins: ['https://example.com/a?key=hush#b', 1] })) as Error).message, "'https://example.com/a?***'")
  t.match((t.throws(() => resolve({ allowedOrigins: /https?:/ })) as Error).message, 'got /https?:/, expected', 'what is no URL is shown as it is')
})

t.test('register rejects with the error', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await t.rejects(async () => await app.register(cloudRunWebSocket, { maxConnections: 0 }), { code: 'FST_CRWS_INVALID_OPTION' })
})
