import t from 'tap'
import { startApp } from '../helpers/app.ts'
import { randomPrefix } from '../helpers/prefix.ts'
import { startRedis } from '../helpers/redis.ts'

/** ms: longer than a command may take. */
const LONG_TURN = 2_200

function block (): void {
  const end = performance.now() + LONG_TURN
  while (performance.now() < end);
}

const endOfTurn = () => new Promise(resolve => { setImmediate(resolve) })

t.test('a publish that Redis answers in time is not refused because this process stood still', async t => {
  const redis = await startRedis(t)
  const { app } = await startApp(t, { redis: redis.url, keyPrefix: randomPrefix(), channels: { kept: { history: { size: 10, ttl: '1m' } } } })
  await app.realtime.publish('kept:a', 'Redis knows the script from now on')

  await t.test('before the command was sent', async t => {
    const published = app.realtime.publish('kept:a', 'hello')
    block()
    t.match(await published, { offset: 2 })
  })

  await t.test('while the answer lay unread', async t => {
    const published = app.realtime.publish('kept:a', 'hello')
    await endOfTurn()
    block()
    t.match(await published, { offset: 3 })
  })
})
