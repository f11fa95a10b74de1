import { sharedMemory, testClient } from 'fastify-cloud-run-websocket/testing'
import { expect, test } from 'vitest'
import { buildApp } from './app.js'

test('two apps share what is published, and a client misses no message', async () => {
  const redis = sharedMemory()
  const [one, two] = await Promise.all([buildApp({ redis }), buildApp({ redis })])
  const [ann, bob] = await Promise.all([testClient(one), testClient(two)])
  ann.send('hello')
  for (const client of [ann, bob]) expect(JSON.parse(String(await client.next()))).toEqual({ from: '', text: 'hello' })
  await Promise.all([one.close(), two.close()])
  expect(await bob.closed).toMatchObject({ code: 1001 })
})
