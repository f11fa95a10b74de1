import Fastify from 'fastify'
import { expect, test } from 'tstyche'
import cloudRunWebSocket, {
  type ChannelData, type ChannelOptions, type Connection, type Identity, type Member, type Options, type PublishChange
} from '../../../index.ts'

// An extension holds for a whole program: these tests have one of their own.

interface ChatMessage { text: string }
interface Order { id: number }

declare module '../../../index.ts' {
  interface RealtimeTypes {
    meta: { tenant: string } | undefined
    info: { name: string }
    channels: { chat: ChatMessage, orders: Order, '': number }
  }
}

const { realtime } = Fastify()
declare const someChannel: string
declare const room: number

test('meta and info of a connection, an identity and a member', () => {
  expect<Connection['meta']>().type.toBe<{ tenant: string } | undefined>()
  expect<Connection['info']>().type.toBe<{ name: string }>()
  expect<Identity>().type.toBeAssignableWith({ user: '42', info: { name: 'Ann' }, meta: { tenant: 'acme' } })
  expect<Identity>().type.toBeAssignableWith({ user: '42', info: undefined, meta: undefined })
  expect<Identity>().type.not.toBeAssignableWith({ user: '42', info: { nick: 'Ann' } })
  expect<Identity>().type.not.toBeAssignableWith({ user: '42', meta: { tenant: 7 } })
  expect<Member['info']>().type.toBe<{ name: string } | undefined>()
})

test('a handler sets meta, and reads it', () => {
  expect(Fastify().register).type.toBeCallableWith(cloudRunWebSocket, {
    onConnect (connection: Connection) { connection.meta = { tenant: 'acme' } },
    onMessage (connection: Connection) { return connection.meta?.tenant.toUpperCase() }
  })
})

test('the data of a channel follows its namespace', () => {
  expect<ChannelData<'chat:lobby'>>().type.toBe<ChatMessage>()
  expect<ChannelData<`chat:${number}`>>().type.toBe<ChatMessage>()
  expect<ChannelData<'chat:a:b'>>().type.toBe<ChatMessage>()
  expect<ChannelData<'news'>>().type.toBe<number>()
  expect<ChannelData<'other:1'>>().type.toBe<unknown>()
  expect<ChannelData>().type.toBe<unknown>()
  expect<ChannelData<'chat:lobby' | 'orders:1'>>().type.toBe<ChatMessage | Order>()
})

test('publish checks the data', () => {
  expect(realtime.publish).type.toBeCallableWith('chat:lobby', { text: 'hello' })
  expect(realtime.publish).type.toBeCallableWith('chat:lobby', { text: 'hello' }, { history: false })
  expect(realtime.publish).type.not.toBeCallableWith('chat:lobby', { txt: 'hello' })
  expect(realtime.publish).type.not.toBeCallableWith('chat:lobby', 'hello')
  expect(realtime.publish).type.toBeCallableWith(`chat:${room}`, { text: 'hello' })
  expect(realtime.publish).type.not.toBeCallableWith(`chat:${room}`, { id: 1 })
  expect(realtime.publish).type.toBeCallableWith('news', 7)
  expect(realtime.publish).type.not.toBeCallableWith('news', { text: 'hello' })
})

test('publish takes any data where the namespace is not known, or has no type', () => {
  expect(realtime.publish).type.toBeCallableWith(someChannel, 'anything')
  expect(realtime.publish).type.toBeCallableWith('other:1', 'anything')
})

test('broadcast takes what all of the channels carry', () => {
  expect(realtime.broadcast).type.toBeCallableWith(['chat:1', 'chat:2'], { text: 'hello' })
  expect(realtime.broadcast).type.not.toBeCallableWith(['chat:1', 'orders:2'], { text: 'hello' })
  expect(realtime.broadcast).type.toBeCallableWith(['chat:1', 'orders:2'], { text: 'hello', id: 2 })
  expect(realtime.broadcast).type.toBeCallableWith([someChannel], 'anything')
})

test('history returns the data of the channel', () => {
  expect(realtime.history('chat:lobby')).type.toBe<Promise<{
    publications: { data: ChatMessage, offset: number, epoch: string, time: number, tags?: Record<string, string> | undefined }[]
    offset: number
    epoch: string
  }>>()
  realtime.history(someChannel).then(({ publications: [first] }) => expect(first!.data).type.toBe<unknown>())
})

test('the rules of a namespace get its data', () => {
  const options: Options = {
    channels: {
      chat: {
        publish (connection, channel, data) {
          expect(connection).type.toBe<Connection>()
          expect(channel).type.toBe<string>()
          expect(data).type.toBe<ChatMessage>()
          return data.text !== ''
        },
        subscribe: connection => connection.meta?.tenant === 'acme'
      },
      orders: { publish: (_connection, _channel, data) => data.id > 0 },
      other: {
        publish (_connection, _channel, data) {
          expect(data).type.toBe<unknown>()
          return true
        }
      },
      off: undefined
    }
  }
  expect(options).type.toBe<Options>()
  expect<ChannelOptions<ChatMessage>>().type.toBeAssignableWith({ publish: (_c: Connection, _channel: string, data: ChatMessage) => data.text !== '' })
  expect<ChannelOptions<ChatMessage>>().type.not.toBeAssignableWith({ publish: 'yes' })
  expect<Options>().type.not.toBeAssignableWith({ channels: { chat: { publishes: true } } })
  expect<Options>().type.not.toBeAssignableWith({ channels: { other: { publishes: true } } })
})

test('a change of what a client publishes has the type that it is given', () => {
  expect<PublishChange<ChannelData<'chat:lobby'>>>().type.toBeAssignableWith({ data: { text: 'hello' } })
  expect<PublishChange<ChannelData<'chat:lobby'>>>().type.not.toBeAssignableWith({ data: 'hello' })
})
