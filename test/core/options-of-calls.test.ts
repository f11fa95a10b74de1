import t from 'tap'
import type { Test } from 'tap'
import type { Connection, Options } from '../../index.ts'
import { startApp } from '../helpers/app.ts'
import { collectLog } from '../helpers/log.ts'
import { until } from '../helpers/until.ts'
import { connect } from '../helpers/ws-client.ts'

const channels: Options['channels'] = { room: { history: { size: 5, ttl: '1m' } } }

async function start (t: Test) {
  const { app, url } = await startApp(t, { redis: false, channels })
  await connect(t, `${url}/ws`)
  const [connection] = await until(() => [...app.realtime.connections], 'the connection')
  return { realtime: app.realtime, connection: connection as Connection }
}

t.test('a misspelt option of a call is refused, and told with the one that was likely meant', async (t) => {
  const { realtime, connection } = await start(t)
  const refused = async (call: Promise<unknown>, message: RegExp) => {
    await t.rejects(call, { code: 'FST_CRWS_INVALID_ARGUMENT', statusCode: 400, message }, String(message))
  }
  const as = (options: object) => options as never
  await refused(realtime.publish('room:1', 'a', as({ idempotencykey: 'x' })), /options of publish: got the unknown field "idempotencykey" \(did you mean `idempotencyKey`\?\)/)
  await refused(realtime.broadcast(['room:1', 'room:2'], 'a', as({ tag: { a: 'b' } })), /options of publish: .*"tag" \(did you mean `tags`\?\)/)
  await refused(realtime.history('room:1', as({ limits: 1 })), /options of history: .*"limits" \(did you mean `limit`\?\)/)
  await refused(realtime.disconnect('ann', as({ reasons: 'x' })), /options of disconnect: .*"reasons" \(did you mean `reason`\?\)/)
  await refused(realtime.sessions.set('ann', { a: 1 }, as({ timeToLive: 1 })), /options of sessions\.set: .*"timeToLive", expected an object with ttl/)
  await refused(connection.subscribe('room:1', as({ from: { offset: 0, epoch: '' } })), /options of subscribe: .*"from", expected an object with since/)
  for (const options of [null, 5, 'history']) {
    await refused(realtime.publish('room:1', 'a', options as never), /options of publish: .*an object with idempotencyKey, tags, history/)
    await refused(realtime.history('room:1', options as never), /options of history/)
    await refused(connection.subscribe('room:1', options as never), /options of subscribe/)
  }
  t.strictSame(await realtime.history('room:1', {}).then(({ publications }) => publications), [], 'nothing was published')
  t.equal(await realtime.sessions.get('ann'), undefined)
  t.equal(connection.channels.size, 0)
})

t.test('an option that is undefined counts as left out', async (t) => {
  const { realtime, connection } = await start(t)
  t.match(await realtime.publish('room:1', 'a', { idempotencyKey: undefined, tags: undefined, history: undefined }), { offset: 1 })
  t.match(await realtime.history('room:1', { limit: undefined, since: undefined, reverse: undefined }), { publications: [{ data: 'a' }] })
  await realtime.sessions.set('ann', { a: 1 }, { ttl: undefined })
  await realtime.disconnect('ann', { code: undefined, reason: undefined })
  await connection.subscribe('room:1', { since: undefined })
  t.strictSame([...connection.channels], ['room:1'])
})

t.test('a handler that misspells an option is told so in the log', async (t) => {
  const { logger, entries } = collectLog()
  const { url } = await startApp(t, { redis: false, onConnect: connection => connection.subscribe('room:1', { sinse: 1 } as never) }, { logger })
  const client = await connect(t, `${url}/ws`)
  t.equal((await client.closed).code, 1011)
  t.match(entries.find(({ event }) => event === 'connection.failed'), { msg: /"sinse" \(did you mean `since`\?\)/ })
})
