import type { FastifyInstance } from 'fastify'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import type { Test } from 'tap'
import { importBlock } from '../helpers/docs.ts'
import { setEnvironment } from '../helpers/environment.ts'
import { sdkClient } from '../helpers/sdk.ts'
import { until } from '../helpers/until.ts'

setEnvironment(t, { PORT: '0' })

async function run (t: Test, block: Promise<Record<string, unknown>>) {
  const { app } = await block as { app: FastifyInstance }
  t.teardown(() => app.close())
  const url = `ws://127.0.0.1:${(app.server.address() as AddressInfo).port}`
  return sdkClient(t, url, 'json').connected()
}

t.test('a schema of zod trims, converts and refuses', async (t) => {
  const client = await run(t, importBlock(t, 'docs/messages.md', 'zod-schema', 'app'))
  const chat = await client.subscribe('chat:lobby').subscribed()
  await client.publish('chat:lobby', { text: ' hello ', at: 0 })
  t.strictSame(await until(() => chat.data[0], 'the message'), { text: 'hello', at: '1970-01-01T00:00:00.000Z' })
  await t.rejects(client.publish('chat:lobby', { text: 5 }), { code: 107, message: 'bad request: data/text: Invalid input: expected string, received number' })
})

t.test('JSON Schema and TypeBox follow the ajv options and the shared schemas of the app', async (t) => {
  const client = await run(t, importBlock(t, 'docs/messages.md', 'json-schema', 'app'))
  await client.publish('bids:1', { amount: 5 })
  await t.rejects(client.publish('bids:1', { amount: '5' }), { code: 107, message: 'bad request: data/amount must be integer' })
  await client.publish('moods:1', { mood: 'good' })
  await t.rejects(client.publish('moods:1', { mood: 'so so' }), { code: 107 })
})

t.test('methods answer, and refuse', async (t) => {
  const client = await run(t, importBlock(t, 'docs/messages.md', 'methods', 'app'))
  t.strictSame(await client.rpc('todo.add', { title: ' tea ' }), { title: 'tea', count: 1 })
  t.strictSame(await client.rpc('todo.list', null), ['tea'])
  await t.rejects(client.rpc('todo.add', { title: 'tea' }), { code: 409, message: 'there is one with this title' })
  await t.rejects(client.rpc('todo.add', { title: '' }), { code: 107, message: /^bad request: data\/title: / })
  await t.rejects(client.rpc('toString', null), { code: 104 })
})
