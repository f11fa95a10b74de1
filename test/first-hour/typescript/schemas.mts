import Fastify from 'fastify'
import cloudRunWebSocket, { defineChannels, defineMethods } from 'fastify-cloud-run-websocket'
import type { ChannelsOf, ContractOf, StandardSchema } from 'fastify-cloud-run-websocket'
import type { SdkClientLike, TypedClient } from 'fastify-cloud-run-websocket/types'

// What zod, valibot and arktype return.
declare const message: StandardSchema<{ text: string, mood?: string }, { text: string, mood: string }>

const channels = defineChannels({
  todos: { subscribe: true, publish: (connection, _channel, data) => data.text !== connection.user, schema: message },
  json: { schema: { type: 'object' } }
})

const methods = defineMethods({
  add: { schema: message, handler: async (connection, { text, mood }) => ({ text, mood, by: connection.user }) },
  count: { handler: () => 1, concurrent: true }
})

const app = Fastify()
await app.register(cloudRunWebSocket, { channels, methods })

export const carried: ChannelsOf<typeof channels>['todos'] = { text: 'tea', mood: 'good' }
// @ts-expect-error: what is carried has a mood
export const sent: ChannelsOf<typeof channels>['todos'] = { text: 'tea' }

declare const client: TypedClient<SdkClientLike, ContractOf<typeof channels, typeof methods>>
await client.newSubscription('todos:all').publish({ text: 'tea' })
const { data } = await client.rpc('add', { text: 'tea' })
export const by: string = data.by
export const count: number = (await client.rpc('count')).data
// @ts-expect-error: there is no such method
await client.rpc('remove', 1)
