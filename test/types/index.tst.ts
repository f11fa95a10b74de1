import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import { createSentinel } from 'redis'
import { expect, test } from 'tstyche'
import cloudRunWebSocket, {
  type ChannelData, type ChannelsOf, ClientError, cloudLogging, defineChannels, type ChannelOptions, type CloudLoggingOptions,
  type CompressionOptions, type ConnectDetails, type Connection, createPublisher, type FallbackOptions,
  type HistoryOptions, type Identity, type LoggingOptions, type Member, type Options, type PublishChange, type PublishedData,
  fileCredentials, iamCredentials, type PublishOptions, type Realtime, resourceAttributes, type SubscribeGrant, type SubscribeOptions,
  type SubscribeResult, type StandalonePublisher, type StandardSchema, type TokenOptions
} from '../../index.ts'
import { fakeConnection, sharedMemory, testClient, webSocketOf } from '../../testing.ts'

const app = Fastify()
declare const own: StandardSchema<string, number>

test('without a type provider only Standard Schemas have types', () => {
  const channels = defineChannels({ json: { schema: { type: 'string' } }, own: { schema: own } })
  expect<ChannelsOf<typeof channels>>().type.toBe<{ readonly json: unknown, readonly own: number }>()
  expect(app.register).type.toBeCallableWith(cloudRunWebSocket, { channels })
  expect(app.register).type.toBeCallableWith(cloudRunWebSocket, {
    methods: { double: { schema: own, handler: (_connection: Connection, data: unknown) => data, concurrent: true } }
  })
})

test('the app has realtime', () => {
  expect<FastifyInstance['realtime']>().type.toBe<Realtime>()
  expect(app.realtime.publish).type.toBeCallableWith('chat:lobby', { text: 'hello' }, { history: false })
})

test('every option may be left out', () => {
  expect(app.register).type.toBeCallableWith(cloudRunWebSocket)
  expect(app.register).type.toBeCallableWith(cloudRunWebSocket, {})
  expect<Options>().type.toBeAssignableWith({})
})

test('options of fallback and compression have types of their own', () => {
  expect<FallbackOptions>().type.toBeAssignableWith({ ssePath: '/events', uniSsePath: false as const })
  expect<CompressionOptions>().type.toBeAssignableWith({ minBytes: 256, level: 3 })
  expect(app.register).type.toBeCallableWith(cloudRunWebSocket, { fallback: { ssePath: '/events' }, compression: { level: 3 } })
  expect(app.register).type.not.toBeCallableWith(cloudRunWebSocket, { fallback: { ssepath: '/events' } })
  expect(app.register).type.not.toBeCallableWith(cloudRunWebSocket, { compression: { threshold: 3 } })
  expect<Connection['transport']>().type.toBe<'websocket' | 'http_stream' | 'sse' | 'uni_sse'>()
})

test('a misspelt option is an error', () => {
  expect(app.register).type.toBeCallableWith(cloudRunWebSocket, { maxConnections: 10 })
  expect(app.register).type.not.toBeCallableWith(cloudRunWebSocket, { maxConnection: 10 })
  expect<Options>().type.not.toBeAssignableWith({ maxConnection: 10 })
})

test('Redis is named in several forms', () => {
  expect<Options>().type.toBeAssignableWith({ redis: 'redis://10.0.0.3' })
  expect<Options>().type.toBeAssignableWith({ redis: { rootNodes: [{ url: 'redis://10.0.0.3' }] } })
  expect<Options>().type.toBeAssignableWith({ redis: { name: 'primary', sentinelRootNodes: [{ host: '10.0.0.3', port: 26379 }] } })
  expect<Options>().type.toBeAssignableWith({ redis: createSentinel({ name: 'primary', sentinelRootNodes: [] }) })
  for (const credentialsProvider of [iamCredentials(), fileCredentials('/password'), fileCredentials('/password', 'ada')]) {
    expect<Options>().type.toBeAssignableWith({ redis: { url: 'rediss://10.0.0.3', credentialsProvider } })
    expect<Options>().type.toBeAssignableWith({ redis: { rootNodes: [{ url: 'rediss://10.0.0.3' }], defaults: { credentialsProvider } } })
    expect<Options>().type.toBeAssignableWith({
      redis: { name: 'primary', sentinelRootNodes: [{ host: '10.0.0.3', port: 26379 }], nodeClientOptions: { credentialsProvider } }
    })
  }
})

test('handlers get a typed connection', () => {
  app.register(cloudRunWebSocket, {
    onConnect (connection, request) {
      expect(connection).type.toBe<Connection>()
      expect(request).type.toBe<FastifyRequest>()
    },
    onMessage (connection, data) {
      expect(connection.user).type.toBe<string>()
      expect(connection.send).type.toBeCallableWith(data)
    }
  })
})

test('the logger options go to Fastify as they are, or with more', () => {
  expect(Fastify).type.toBeCallableWith({ logger: cloudLogging() })
  expect(Fastify).type.toBeCallableWith({ logger: { ...cloudLogging({ project: 'mine', labels: { team: 'chat' } }), level: 'debug' } })
  expect(cloudLogging).type.not.toBeCallableWith({ projectId: 'mine' })
})

test("the attributes for a resource of the app's own SDK need no argument", () => {
  expect(resourceAttributes()).type.toBe<Promise<Record<string, string>>>()
  expect(resourceAttributes).type.not.toBeCallableWith({})
})

test('logging takes a destination and messages', () => {
  expect<Options>().type.toBeAssignableWith({ logging: { destination: 'api' as const, messages: { ratio: 0.01 } } })
  expect<Options>().type.toBeAssignableWith({ logging: 'auto' as const })
  expect<Options>().type.not.toBeAssignableWith({ logging: { destination: 'file' as const } })
  expect<Options>().type.not.toBeAssignableWith({ logging: { messages: { content: true } } })
})

test('trusted proxies are a number, or a function that returns the address', () => {
  expect<Options>().type.toBeAssignableWith({ trustedProxies: 1 })
  expect<Options>().type.toBeAssignableWith({ trustedProxies: (request: FastifyRequest) => request.headers['x-client'] as string })
  expect<Options>().type.not.toBeAssignableWith({ trustedProxies: true })
  expect<Options>().type.not.toBeAssignableWith({ trustedProxies: () => 1 })
})

test('a ClientError has a code and a text', () => {
  expect(ClientError).type.toBeConstructableWith(404, 'no such room')
  expect(ClientError).type.not.toBeConstructableWith('no such room')
  expect(new ClientError(404, 'no such room').code).type.toBe<number>()
})

/** The type with undefined allowed for every optional property. */
type Loose<T> = { [Name in keyof T]: object extends Pick<T, Name> ? T[Name] | undefined : T[Name] }
/** Fastify's own options: `register` takes both, and these have no undefined. */
type FastifysOwn = 'prefix' | 'logLevel' | 'logSerializers'

test('with exactOptionalPropertyTypes every optional property takes undefined', () => {
  expect<Omit<Options, FastifysOwn>>().type.toBeAssignableWith<Loose<Omit<Options, FastifysOwn>>>()
  expect<NonNullable<Options['heartbeat']>>().type.toBeAssignableWith({ interval: undefined, timeout: undefined })
  expect<ChannelOptions>().type.toBeAssignableWith<Loose<ChannelOptions>>()
  expect<ConnectDetails>().type.toBeAssignableWith<Loose<ConnectDetails>>()
  expect<HistoryOptions>().type.toBeAssignableWith<Loose<HistoryOptions>>()
  expect<Identity>().type.toBeAssignableWith<Loose<Identity>>()
  expect<LoggingOptions>().type.toBeAssignableWith<Loose<LoggingOptions>>()
  expect<PublishChange>().type.toBeAssignableWith<Loose<PublishChange>>()
  expect<PublishedData>().type.toBeAssignableWith<Loose<PublishedData>>()
  expect<PublishOptions>().type.toBeAssignableWith<Loose<PublishOptions>>()
  expect<SubscribeGrant>().type.toBeAssignableWith<Loose<SubscribeGrant>>()
  expect<SubscribeOptions>().type.toBeAssignableWith<Loose<SubscribeOptions>>()
  expect<SubscribeResult>().type.toBeAssignableWith<Loose<SubscribeResult>>()
  expect<TokenOptions>().type.toBeAssignableWith({ secret: 's', issuer: undefined, audience: undefined })
  expect<CloudLoggingOptions>().type.toBeAssignableWith<Loose<CloudLoggingOptions>>()
  expect(app.realtime.disconnect).type.toBeCallableWith('ann', { code: undefined, reason: undefined })
  expect(app.realtime.sessions.set).type.toBeCallableWith('ann', {}, { ttl: undefined })
})

test('options that were put together first go to register as they are', () => {
  const options: Options = { keyPrefix: process.env.KEY_PREFIX, logLevel: 'warn', logSerializers: { user: String } }
  expect(app.register).type.toBeCallableWith(cloudRunWebSocket, options)
})

test('onSubscribe grants a snapshot with the position that the history returned', () => {
  expect<Options>().type.toBeAssignableWith({ onSubscribe: async () => ({ data: 1, since: { offset: 1, epoch: 'e' } }) })
  expect<Options>().type.not.toBeAssignableWith({ onSubscribe: async () => ({ data: 1, since: 1 }) })
})

test('without an extension meta, info and the data of channels are unknown', () => {
  expect<Connection['meta']>().type.toBe<unknown>()
  expect<Connection['info']>().type.toBe<unknown>()
  expect<Identity['meta']>().type.toBe<unknown>()
  expect<Member['info']>().type.toBe<unknown>()
  expect<ChannelData<'chat:lobby'>>().type.toBe<unknown>()
  expect(app.realtime.publish).type.toBeCallableWith('chat:lobby', 'anything')
  expect(app.realtime.broadcast).type.toBeCallableWith(['chat:lobby', 'news'], 'anything')
  app.realtime.history('chat:lobby').then(({ publications: [first] }) => expect(first!.data).type.toBe<unknown>())
  expect<Options>().type.toBeAssignableWith({
    channels: {
      chat: {
        publish (_connection: Connection, _channel: string, data: unknown) {
          expect(data).type.toBe<unknown>()
          return true
        }
      }
    }
  })
})

test('rules of a namespace get a typed connection, and unknown data', () => {
  app.register(cloudRunWebSocket, {
    channels: {
      chat: {
        publish (connection, channel, data) {
          expect(connection).type.toBe<Connection>()
          expect(channel).type.toBe<string>()
          expect(data).type.toBe<unknown>()
          return true
        }
      }
    }
  })
})

test('a test fakes a connection and realtime without a cast', () => {
  const connection: Connection = {
    id: '1',
    user: '42',
    info: undefined,
    meta: undefined,
    protocol: 'plain',
    transport: 'websocket',
    connectedAt: 0,
    channels: new Set(['news']),
    open: true,
    send: () => true,
    subscribe: async () => ({}),
    unsubscribe: async () => {},
    request: async () => undefined,
    close () {}
  }
  const realtime: Realtime = {
    connections: [connection],
    sessions: { get: async () => undefined, set: async () => {}, delete: async () => {} },
    listen: async channel => ({ channel, stop: async () => {} }),
    stream: async () => ({ id: '1', text: '', end: 'done', offset: 1, epoch: 'e' }),
    stopStream: async () => {},
    publish: async () => ({}),
    broadcast: async () => [],
    history: async () => ({ publications: [], offset: 0, epoch: '' }),
    presence: async () => [{ client: '1', user: '42' }],
    presenceStats: async () => ({ clients: 1, users: 1 }),
    subscribe: async () => {},
    unsubscribe: async () => {},
    disconnect: async () => {},
    send: async () => {},
    isOnline: async () => false,
    users: async () => [],
    channels: async () => [],
    info: async () => []
  }
  expect(realtime.connections).type.toBe<Iterable<Connection>>()
})

test('whatever may be left out may also be undefined, where exactOptionalPropertyTypes tells the two apart', () => {
  const none = undefined
  expect<Options>().type.toBeAssignableWith({ path: none, redis: none, channels: none, heartbeat: { interval: none }, rateLimit: none })
  expect<Options>().type.toBeAssignableWith({ channels: { chat: none, news: { subscribe: none, publish: none, history: none } } })
  expect<Identity>().type.toBeAssignableWith({ user: none, info: none, channels: none, expiresAt: none, meta: none })
  expect(app.realtime.publish).type.toBeCallableWith('news', 1, { idempotencyKey: none, tags: none, history: none, except: none })
  expect(app.realtime.history).type.toBeCallableWith('news', { limit: none, since: none, reverse: none })
  expect(app.realtime.disconnect).type.toBeCallableWith('42', { code: none, reason: none })
  expect(app.realtime.users).type.toBeCallableWith({ prefix: none, limit: none, after: none })
  expect(app.realtime.sessions.set).type.toBeCallableWith('42', {}, { ttl: none })
  expect<Connection>().type.toBeAssignableTo<{ subscribe: (channel: string, options: { since: undefined }) => Promise<object> }>()
  expect<ReturnType<NonNullable<Options['onSubscribe']>>>().type.toBeAssignableWith({ data: none, info: none, expiresAt: none })
  expect<ReturnType<NonNullable<Options['onPublish']>>>().type.toBeAssignableWith({ data: none, tags: none, idempotencyKey: none, history: none, except: none })
  expect(cloudLogging).type.toBeCallableWith({ project: none, service: none, version: none, labels: none })
})

test('the helpers for tests take any app, and show nothing of ws', () => {
  expect<Options>().type.toBeAssignableWith({ redis: sharedMemory() })
  expect(testClient).type.toBeCallableWith(Fastify({ https: {} }), { path: '/ws', headers: { cookie: 'a=b' }, query: { a: 'b' } })
  expect(testClient).type.not.toBeCallableWith(app, { url: '/ws' })
  expect(webSocketOf).type.toBeCallableWith(() => app)
  expect(fakeConnection({ user: 'ann' })).type.toBeAssignableTo<Connection>()
  expect(fakeConnection).type.not.toBeCallableWith({ name: 'ann' })
})

test('a publisher has the calls that need no connections', () => {
  expect(createPublisher()).type.toBe<Promise<StandalonePublisher>>()
  expect<StandalonePublisher['publish']>().type.toBe<Realtime['publish']>()
  expect<StandalonePublisher['disconnect']>().type.toBe<Realtime['disconnect']>()
  expect<StandalonePublisher>().type.toBeAssignableTo<AsyncDisposable>()
  expect(createPublisher).type.toBeCallableWith({ redis: sharedMemory(), logger: console, channels: { chat: { history: { size: 1, ttl: '1m' } } } })
  expect(createPublisher).type.toBeCallableWith({ logger: app.log })
  expect(createPublisher).type.not.toBeCallableWith({ path: '/ws' })
})

test('the HTTP API takes a key, keys or a function, and one of these', () => {
  expect<Options>().type.toBeAssignableWith({ apiPath: '/api', api: { key: 'a' } })
  expect<Options>().type.toBeAssignableWith({ apiPath: '/api', api: { key: ['a', 'b'] } })
  expect<Options>().type.toBeAssignableWith({ apiPath: '/api', api: { authorize: async (request: FastifyRequest) => request.ip === '10.0.0.1' } })
  expect<Options>().type.not.toBeAssignableWith({ apiPath: '/api', api: { key: 'a', authorize: () => true } })
})
