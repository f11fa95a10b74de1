import { Type } from '@fastify/type-provider-typebox'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import { type } from 'arktype'
import { Centrifuge } from 'centrifuge'
import type { PublicationContext, Subscription } from 'centrifuge'
import Fastify from 'fastify'
import { expect, test } from 'tstyche'
import * as v from 'valibot'
import { z } from 'zod'
import cloudRunWebSocket, { defineChannels, defineMethods } from '../../../index.ts'
import type { ChannelData, ChannelsOf, Connection, ContractOf, InputOf, MethodsOf, Options, OutputOf, SentOf } from '../../../index.ts'
import type { TypedClient, TypedSubscription } from '../../../types.ts'

// An extension holds for a whole program: these tests have one of their own.

const app = Fastify()

const channels = defineChannels({
  chat: {
    schema: z.object({ text: z.string(), at: z.coerce.number<string>() }),
    subscribe: connection => connection.meta.tenant === 'acme',
    publish (connection, channel, data) {
      expect(connection).type.toBe<Connection>()
      expect(channel).type.toBe<string>()
      expect(data).type.toBe<{ text: string, at: number }>()
      return data.text !== ''
    },
    history: { size: 10, ttl: '1m' }
  },
  valibot: {
    async publish (_connection, _channel, data) {
      expect(data).type.toBe<{ id: number }>()
      return true
    },
    schema: v.object({ id: v.pipe(v.string(), v.transform(Number)) })
  },
  ark: { schema: type({ n: 'number' }) },
  box: {
    schema: Type.Object({ state: Type.Union([Type.Literal('open'), Type.Literal('paid')]) }),
    publish: (_connection, _channel, { state }) => state === 'open'
  },
  json: { schema: { type: 'object', required: ['text'], properties: { text: { type: 'string' } } } },
  none: { publish: true },
  '': { schema: z.number() }
})

const methods = defineMethods({
  'todo.add': {
    schema: z.object({ title: z.string(), due: z.string().transform(text => new Date(text)).optional() }),
    async handler (connection, { title, due }) {
      expect(due).type.toBe<Date | undefined>()
      await app.realtime.publish('chat:todos', { text: title, at: 1 })
      return { title, by: connection.user }
    }
  },
  double: { schema: Type.Number(), handler: (_connection, data) => data * 2, concurrent: true },
  whoami: { handler: connection => connection.user }
})

declare module '../../../index.ts' {
  interface RealtimeTypes {
    meta: { tenant: string }
    typeProvider: TypeBoxTypeProvider
    channels: ChannelsOf<typeof channels>
    methods: MethodsOf<typeof methods>
  }
}

test('what channels carry is the output of their schemas, and what clients publish is the input', () => {
  expect<ChannelsOf<typeof channels>>().type.toBe<{
    readonly chat: { text: string, at: number }
    readonly valibot: { id: number }
    readonly ark: { n: number }
    readonly box: { state: 'open' | 'paid' }
    readonly json: { text: string }
    readonly none: unknown
    readonly '': number
  }>()
  expect<SentOf<typeof channels>['chat']>().type.toBe<{ text: string, at: string }>()
  expect<SentOf<typeof channels>['valibot']>().type.toBe<{ id: string }>()
  expect<ChannelData<'chat:lobby'>>().type.toBe<{ text: string, at: number }>()
  expect<ChannelData<'news'>>().type.toBe<number>()
})

test('publish and history have the types of the schemas', async () => {
  expect(app.realtime.publish).type.toBeCallableWith('chat:lobby', { text: 'hi', at: 1 })
  expect(app.realtime.publish).type.not.toBeCallableWith('chat:lobby', { text: 'hi', at: '1' })
  expect(app.realtime.publish).type.not.toBeCallableWith('box:1', { state: 'shut' })
  const { publications: [first] } = await app.realtime.history('box:1')
  expect(first!.data).type.toBe<{ state: 'open' | 'paid' }>()
})

test('methods have the data of their schemas and the results of their handlers', () => {
  expect<MethodsOf<typeof methods>['todo.add']>().type.toBe<{
    data: { title: string, due?: Date | undefined }
    sent: { title: string, due?: string | undefined }
    result: { title: string, by: string }
  }>()
  expect<MethodsOf<typeof methods>['double']>().type.toBe<{ data: number, sent: number, result: number }>()
  expect<MethodsOf<typeof methods>['whoami']>().type.toBe<{ data: unknown, sent: unknown, result: string }>()
})

test('what is defined is what the options take', () => {
  expect(app.register).type.toBeCallableWith(cloudRunWebSocket, { channels, methods })
  expect<Options>().type.toBeAssignableWith({ channels, methods })
  expect<Options>().type.toBeAssignableWith({ channels: { other: { schema: { type: 'string' }, publish: true } } })
  expect<Options>().type.not.toBeAssignableWith({ channels: { other: { schema: 'string' } } })
  expect<Options>().type.not.toBeAssignableWith({ methods: { double: { handler: () => 'two' } } })
  expect(defineChannels).type.not.toBeCallableWith({ chat: { publishes: true } })
  expect(defineChannels).type.not.toBeCallableWith({ chat: { schema: 'string' } })
  expect(defineMethods).type.not.toBeCallableWith({ add: { schema: z.string() } })
  expect(defineMethods).type.not.toBeCallableWith({ add: { handler: () => 1, concurrent: 'yes' } })
})

test('onPublish gets what any of the channels carries', () => {
  const options: Options = { onPublish (_connection, _channel, data) { expect(data).type.toBe<unknown>() } }
  expect(options).type.toBe<Options>()
})

test('the input and output of a schema', () => {
  type Length = z.ZodPipe<z.ZodString, z.ZodTransform<number, string>>
  expect<InputOf<Length>>().type.toBe<string>()
  expect<OutputOf<Length>>().type.toBe<number>()
  expect<OutputOf<undefined>>().type.toBe<unknown>()
})

type Contract = ContractOf<typeof channels, typeof methods>
const client = new Centrifuge('ws://localhost') as TypedClient<Centrifuge, Contract>

test('a subscription of the SDK has the types of its channel', async () => {
  const subscription = client.newSubscription('chat:lobby', { recoverable: true })
  expect(subscription.publish).type.toBeCallableWith({ text: 'hi', at: '1' })
  expect(subscription.publish).type.not.toBeCallableWith({ text: 'hi', at: 1 })
  subscription.on('publication', context => {
    expect(context.data).type.toBe<{ text: string, at: number }>()
    expect(context.offset).type.toBe<number | undefined>()
  })
  subscription.on('subscribed', context => expect(context.recovered).type.toBe<boolean>())
  expect(subscription.on).type.not.toBeCallableWith('publicatoin', () => {})
  const { publications: [first], offset } = await subscription.history({ limit: 1 })
  expect(first!.data).type.toBe<{ text: string, at: number }>()
  expect(offset).type.toBe<number>()
  expect(client.newSubscription).type.not.toBeCallableWith('chat:lobby', { recover: true })
  expect(client.removeSubscription).type.toBeCallableWith(subscription)
  expect(client.getSubscription('none:1')?.publish).type.toBe<((data: unknown) => ReturnType<Subscription['publish']>) | undefined>()
  expect(client.publish).type.not.toBeCallableWith('valibot:1', { id: 1 })
  expect((await client.history('ark:1', { limit: 1 })).publications[0]!.data).type.toBe<{ n: number }>()
  client.connect()
})

test('a call of the SDK has the types of its method', async () => {
  const { data } = await client.rpc('todo.add', { title: 'tea', due: '2030-01-01' })
  expect(data).type.toBe<{ title: string, by: string }>()
  expect(client.rpc).type.not.toBeCallableWith('todo.add')
  expect(client.rpc).type.not.toBeCallableWith('todo.add', { titel: 'tea' })
  expect(client.rpc).type.not.toBeCallableWith('todo.remove', 1)
  expect(client.rpc).type.toBeCallableWith('whoami')
})

test('a contract may be written by hand', async () => {
  const simple = new Centrifuge('ws://localhost') as TypedClient<Centrifuge, {
    channels: { chat: { text: string } }
    methods: { add: { data: number, result: string } }
  }>
  expect(simple.newSubscription('chat:1').publish).type.not.toBeCallableWith(1)
  expect((await simple.rpc('add', 1)).data).type.toBe<string>()
  expect(simple.rpc).type.not.toBeCallableWith('add', '1')
  const one = new Centrifuge('ws://localhost').newSubscription('a') as TypedSubscription<Subscription, number>
  one.once('publication', ({ data, channel }) => {
    expect(data).type.toBe<number>()
    expect(channel).type.toBe<PublicationContext['channel']>()
  })
})
