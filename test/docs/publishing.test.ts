import type { AddressInfo } from 'node:net'
import t from 'tap'
import { importBlock } from '../helpers/docs.ts'
import { setEnvironment } from '../helpers/environment.ts'
import { startApp } from '../helpers/app.ts'
import { startRedis } from '../helpers/redis.ts'

const redis = await startRedis(t)
const key = 'a-key-for-the-backend'
setEnvironment(t, { PORT: '0', REDIS_URL: redis.url, API_KEY: key })

t.test('the worker publishes once a day, however often it runs', async (t) => {
  const { app } = await startApp(t, { channels: { news: { history: { size: 100, ttl: '1d' } } } })
  await importBlock(t, 'docs/publishing.md', 'worker')
  t.match(await app.realtime.history('news:all'), { offset: 1, publications: [{ data: { text: /^Good morning, it is \d{4}-/ } }] })
})

t.test('the app with an HTTP API takes what curl sends', async (t) => {
  const { app } = await importBlock(t, 'docs/publishing.md', 'api', 'app')
  t.teardown(() => app.close())
  const url = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}/api/publish`
  const body = '{ "channel": "chat:lobby", "data": { "text": "hello" }, "idempotency_key": "1" }'
  // The type is curl's.
  const post = (headers: Record<string, string>) => fetch(url, { method: 'POST', body, headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers } })
  t.match(await (await post({ 'x-api-key': key })).json(), { result: { offset: 1, epoch: /^[\w-]{8}$/ } })
  t.equal((await post({})).status, 401)
})
