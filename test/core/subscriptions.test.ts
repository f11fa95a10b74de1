import t from 'tap'
import type { Test } from 'tap'
import { startApp } from '../helpers/app.ts'
import { connectionsOf } from '../helpers/connections.ts'
import { randomPrefix } from '../helpers/prefix.ts'
import { startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'
import { connect } from '../helpers/ws-client.ts'

/** Two connections in a channel with presence. Redis keeps its data when it is killed. */
async function setUp (t: Test) {
  const redis = await startRedis(t, { persist: true })
  const { app, url } = await startApp(t, { redis: redis.url, keyPrefix: randomPrefix(), channels: { room: { presence: true } } })
  const clients = [await connect(t, `${url}/ws`), await connect(t, `${url}/ws`)]
  const connections = connectionsOf(app)
  for (const connection of connections) await connection.subscribe('room:1')
  const present = async () => (await app.realtime.presence('room:1')).map(({ client }) => client).sort()
  t.equal((await present()).length, 2)
  const ready = async () => (await app.inject('/ready')).json().redis === 'up'
  const kill = async () => {
    await redis.kill()
    await until(async () => !await ready(), 'Redis is away')
  }
  const restart = async () => {
    await redis.restart()
    await until(ready, 'Redis is back', 30_000)
  }
  return { app, clients, connections, present, kill, restart }
}

t.test('who leaves while Redis is away is on no presence list when it is back', async (t) => {
  const { app, clients, present, kill, restart } = await setUp(t)
  await kill()
  clients[0]!.socket.close()
  await until(() => connectionsOf(app).length === 1, 'one is gone')
  await restart()
  const [left] = connectionsOf(app)
  await until(async () => (await present()).length === 1, 'it is on the list no more')
  t.strictSame(await present(), [left!.id])
})

t.test('who left while Redis was away and has come back is on the presence list', async (t) => {
  const { connections, present, kill, restart } = await setUp(t)
  const [one, other] = connections
  await kill()
  await one!.unsubscribe('room:1')
  await other!.unsubscribe('room:1')
  const back = until(() => one!.subscribe('room:1'), 'it is in the channel again', 30_000) // tried again and again, also in the moment of the return
  await restart()
  await back
  await until(async () => (await present()).length === 1, 'the other one is not')
  t.strictSame(await present(), [one!.id])
})
