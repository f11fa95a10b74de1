import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import { createSentinel } from 'redis'
import { expect, test } from 'tstyche'
import cloudRunWebSocket, { ClientError, cloudLogging, type Connection, type Options, type Realtime } from '../../index.ts'
import { fakeConnection, sharedMemory, testClient, webSocketOf } from '../../testing.ts'

const app = Fastify()

test('the app has realtime', () => {
  expect<FastifyInstance['realtime']>().type.toBe<Realtime>()
  expect(app.realtime.publish).type.toBeCallableWith('chat:lobby', { text: 'hello' }, { history: false })
})

test('every option may be left out', () => {
  expect(app.register).type.toBeCallableWith(cloudRunWebSocket)
  expect(app.register).type.toBeCallableWith(cloudRunWebSocket, {})
  expect<Options>().type.toBeAssignableWith({})
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

test('the helpers for tests take any app, and show nothing of ws', () => {
  expect<Options>().type.toBeAssignableWith({ redis: sharedMemory() })
  expect(testClient).type.toBeCallableWith(Fastify({ https: {} }), { path: '/ws', headers: { cookie: 'a=b' }, query: { a: 'b' } })
  expect(testClient).type.not.toBeCallableWith(app, { url: '/ws' })
  expect(webSocketOf).type.toBeCallableWith(() => app)
  expect(fakeConnection({ user: 'ann' })).type.toBeAssignableTo<Connection>()
  expect(fakeConnection).type.not.toBeCallableWith({ name: 'ann' })
})
