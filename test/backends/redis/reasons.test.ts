import t from 'tap'
import type { Test } from 'tap'
import { RedisBroker } from '../../../lib/backends/redis/broker.ts'
import { RedisKeys } from '../../../lib/backends/redis/keys.ts'
import { NOT_CONNECTED_YET } from '../../../lib/backends/redis/link.ts'
import { randomPrefix } from '../../helpers/prefix.ts'

/** A broker whose connections do not come about, and what it has told once its start is over. */
async function startDown (t: Test) {
  let changed = () => {}
  const link = { ready: false, reason: NOT_CONNECTED_YET, open: (listener: () => void) => { changed = listener }, close: async () => {} }
  const subscriber = { ...link, open: () => {} }
  const broker = new RedisBroker(link as never, subscriber as never, new RedisKeys(randomPrefix()))
  t.teardown(() => broker.close())
  const told: string[] = []
  const tell = (reason: string) => { told.push(reason) }
  await broker.start({ missed: () => {}, stateChanged: (_up, reason) => tell(reason), stillDown: tell })
  return {
    told,
    /** An attempt to connect fails. */
    fail (reason: string) {
      link.reason = reason
      changed()
    }
  }
}

t.test('the first reason is told, though Redis was down before there was one', async (t) => {
  const { told, fail } = await startDown(t)
  t.strictSame(told, [NOT_CONNECTED_YET])
  for (const reason of [NOT_CONNECTED_YET, 'Connection timeout', 'Connection timeout', 'read ECONNRESET']) fail(reason)
  t.strictSame(told, [NOT_CONNECTED_YET, 'Connection timeout'], 'what comes after that is told only if somebody has to do something')
  fail('NOAUTH Authentication required.')
  t.equal(told.length, 3)
})

t.test('of reasons that are always new only the first ten are told', async (t) => {
  const { told, fail } = await startDown(t)
  for (let i = 0; i < 100; i++) fail(`the certificate of Redis is for ${i}`)
  t.equal(told.length, 10)
})
