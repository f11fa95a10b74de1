import type { AddressInfo } from 'node:net'
import t from 'tap'
import { importBlock } from '../helpers/docs.ts'
import { setEnvironment } from '../helpers/environment.ts'
import { startRedis } from '../helpers/redis.ts'
import { sdkClient } from '../helpers/sdk.ts'

const redis = await startRedis(t)
setEnvironment(t, { PORT: '0', REDIS_URL: redis.url })

t.test('the server listens, answers, and stops', async (t) => {
  const { app } = await importBlock(t, 'docs/listening.md', 'server', 'app')
  t.teardown(() => app.close())
  const client = sdkClient(t, `ws://127.0.0.1:${(app.server.address() as AddressInfo).port}`, 'json')
  const subscription = await client.subscribe('chat:lobby').subscribed()
  await client.publish('chat:lobby', '/time')
  await subscription.arrived(2)
  t.match(subscription.data, ['/time', /^It is \d{4}-/])
  t.equal((await app.inject({ method: 'POST', url: '/mute' })).statusCode, 200)
})
