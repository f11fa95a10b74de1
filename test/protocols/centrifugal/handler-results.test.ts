import t from 'tap'
import type { Test } from 'tap'
import type { Options } from '../../../index.ts'
import { startApp } from '../../helpers/app.ts'
import { collectLog } from '../../helpers/log.ts'
import type { Entry } from '../../helpers/log.ts'
import { sdkClient } from '../../helpers/sdk.ts'
import { until } from '../../helpers/until.ts'

async function start (t: Test, options: Options) {
  const { logger, entries } = collectLog()
  const channels = { '': { subscribe: true, publish: true, history: { size: 5, ttl: '1m' } } }
  const { app, url } = await startApp(t, { redis: false, channels, ...options }, { logger })
  const client = await sdkClient(t, url, 'json').connected()
  const isFailure = ({ event, msg }: Entry, message: RegExp) => event === 'connection.failed' && message.test(msg)
  const failed = (message: RegExp) => until(() => entries.find(entry => isFailure(entry, message)), String(message))
  return { app, client, failed }
}

t.test('what onSubscribe returns is checked as options are', async (t) => {
  const answers: Record<string, object> = {
    misspelt: { dta: 1 }, late: { expiresAt: Date.now() + 60_000 }, right: { data: 1, info: 2, expiresAt: undefined }
  }
  const { client, failed } = await start(t, { onSubscribe: (_connection, channel) => answers[channel]! })
  const misspelt = client.subscribe('misspelt')
  t.match(await until(() => misspelt.events.error[0], 'the error'), { error: { code: 100 } }, 'the client is told nothing of it')
  t.ok(await failed(/result of onSubscribe: got the unknown field "dta" \(did you mean `data`\?\)/))
  client.subscribe('late')
  t.ok(await failed(/expiresAt from onSubscribe: got \d{13}, which looks like milliseconds, expected a Unix time in seconds: divide it by 1000/))
  const right = await client.subscribe('right').subscribed()
  t.match(right.events.subscribed[0], { data: 1 })
})

t.test('what onPublish returns is checked as options are', async (t) => {
  const { app, client, failed } = await start(t, { onPublish: (_connection, _channel, data) => data as object })
  await t.rejects(client.publish('room', { idempotencykey: 'x' }), { code: 100 })
  t.ok(await failed(/result of onPublish: got the unknown field "idempotencykey" \(did you mean `idempotencyKey`\?\)/))
  t.strictSame((await app.realtime.history('room')).publications, [])
  await client.publish('room', { data: 'changed', tags: { a: 'b' } })
  t.match((await app.realtime.history('room')).publications, [{ data: 'changed', tags: { a: 'b' } }])
})
