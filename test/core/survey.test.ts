import t from 'tap'
import type { Test } from 'tap'
import type { Question } from '../../lib/core/survey.ts'
import { encodePayload, newPublication } from '../../lib/model/publication.ts'
import { sharedMemory } from '../../testing.ts'
import { startCore } from '../helpers/core.ts'
import type { CoreInstance } from '../helpers/core.ts'
import { randomPrefix } from '../helpers/prefix.ts'
import { startRedis, startRedisCluster } from '../helpers/redis.ts'
import type { Options } from '../../index.ts'
import { until } from '../helpers/until.ts'

const double: Question<number, number> = { name: 'double', isAnswer: value => typeof value === 'number' }
const redis = await startRedis(t)

/** Instances that all double a number. */
async function startAll (t: Test, count: number, given?: Options): Promise<CoreInstance[]> {
  const options = given ?? { redis: redis.url, keyPrefix: randomPrefix() }
  const instances = await Promise.all(Array.from({ length: count }, () => startCore(t, options)))
  for (const { core } of instances) core.survey.answer(double, number => number * 2)
  return instances
}

async function testAnswers (t: Test, options: Options): Promise<void> {
  const instances = await startAll(t, 3, options)
  const expected = instances.map(({ id }) => [id, 14])
  for (const { core } of instances) {
    const { of, missing } = await core.survey.ask(double, 7)
    t.strictSame(Array.from(of).toSorted(), expected)
    t.strictSame(missing, [])
  }
  const many = await Promise.all(Array.from({ length: 500 }, (_, i) => instances[i % 3]!.core.survey.ask(double, i)))
  const wrong = many.filter(({ of, missing }, i) => missing.length > 0 || Array.from(of.values()).some(answer => answer !== i * 2))
  t.strictSame(wrong, [], 'each of many questions at once gets its own answers')
}

t.test('every instance answers, each of many questions at once', async (t) => {
  await testAnswers(t, { redis: redis.url, keyPrefix: randomPrefix() })
})

t.test('every instance answers on a cluster', async (t) => {
  const { rootNodes } = await startRedisCluster(t)
  await testAnswers(t, { redis: { rootNodes }, keyPrefix: randomPrefix() })
})

t.test('every instance answers in a shared memory', async (t) => {
  await testAnswers(t, { redis: sharedMemory() })
})

t.test('a single instance asks nobody but itself', async (t) => {
  const [{ core, id }] = await startAll(t, 1, {}) as [CoreInstance]
  const { of, missing } = await core.survey.ask(double, 2)
  t.strictSame([Array.from(of), missing], [[[id, 4]], []])
})

t.test('an instance that has crashed is missing, and nobody waits for it a second time', async (t) => {
  const [asking, living, crashed] = await startAll(t, 3) as [CoreInstance, CoreInstance, CoreInstance]
  await crashed.crash()
  const first = await asking.core.survey.ask(double, 1)
  t.strictSame(first.missing, [crashed.id])
  t.strictSame(Array.from(first.of.keys()).toSorted(), [asking.id, living.id].toSorted())
  // A hundred questions that each waited a second would run into the timeout of this test.
  for (let i = 0; i < 100; i++) {
    const { of, missing } = await asking.core.survey.ask(double, i)
    t.strictSame([of.size, missing], [2, [crashed.id]])
  }
})

t.test('who was silent is waited for again once it has recorded itself, and its answer counts at any time', async (t) => {
  const [asking, slow] = await startAll(t, 2) as [CoreInstance, CoreInstance]
  let release = () => {}
  slow.core.survey.answer(double, number => new Promise<number>(resolve => { release = () => resolve(number * 2) }))
  t.strictSame((await asking.core.survey.ask(double, 1)).missing, [slow.id])
  release() // too late
  slow.core.survey.answer(double, number => number * 2)
  t.strictSame((await asking.core.survey.ask(double, 1)).missing, [slow.id])
  await until(async () => {
    await slow.core.registry.record()
    return (await asking.core.survey.ask(double, 1)).missing.length === 0
  }, 'it is asked again')
  await slow.core.registry.remove()
  t.strictSame((await asking.core.survey.ask(double, 1)).missing, [], 'who has left is not missed')
})

t.test('an instance that does not know the question, or fails, is missing at once and the rest answers', async (t) => {
  const [asking, other, failing] = await startAll(t, 3) as [CoreInstance, CoreInstance, CoreInstance]
  const news: Question<null, string> = { name: 'news' }
  asking.core.survey.answer(news, () => 'asking')
  failing.core.survey.answer(news, () => { throw new Error('it broke') })
  for (let i = 0; i < 50; i++) {
    const { of, missing } = await asking.core.survey.ask(news, null)
    t.strictSame(Array.from(of), [[asking.id, 'asking']])
    t.strictSame(missing.toSorted(), [other.id, failing.id].toSorted())
  }
  t.match(failing.entries.find(({ event }) => event === 'control.failed'), { level: 40, msg: /it broke/ })
  t.strictSame(other.entries.filter(({ event }) => event === 'control.failed'), [])
  await t.rejects(other.core.survey.ask(news, null), /nothing answers the question news/)
  await t.rejects(failing.core.survey.ask(news, null), /it broke/)
})

t.test('while Redis is down a question rejects with a coded error', async (t) => {
  const own = await startRedis(t)
  const instances = await startAll(t, 2, { redis: own.url, keyPrefix: randomPrefix() })
  const { survey } = instances[0]!.core
  await own.kill()
  await t.rejects(survey.ask(double, 1), { code: /^FST_CRWS_REDIS_(UNAVAILABLE|NO_ANSWER)$/ })
  await own.restart()
  await until(async () => {
    for (const { core } of instances) await core.registry.record()
    return (await survey.ask(double, 1)).of.size === 2
  }, 'both answer again', 30_000)
})

t.test('what others write to Redis ends nothing: it is logged, and the living answer', async (t) => {
  const keyPrefix = randomPrefix()
  const [asking, other] = await startAll(t, 2, { redis: redis.url, keyPrefix }) as [CoreInstance, CoreInstance]
  const publish = (channel: string, data: unknown) => {
    return other.backend.broker.publish(channel, newPublication('evil', encodePayload(data)), { history: false })
  }
  await asking.core.survey.ask(double, 1) // it listens for answers now
  const logged = (text: string) => until(() => asking.entries.find(({ event, command }) => event === 'control.failed' && command.includes(text)), text)
  for (const data of [{ type: 'nothing' }, null, 7, 'text', [], { type: 'ask' }, { type: 'ask', id: {}, from: 'a' }]) await publish('\u0000questions', data)
  for (const data of [null, { id: 'none', from: other.id, answer: 1 }, {}]) await publish(`\u0000answers:${asking.id}`, data)
  await publish(`\u0000answers:${asking.id}`, Buffer.from('{"cut'))
  await logged('{"cut')
  await logged('"nothing"')

  other.core.survey.answer(double, () => 'long '.repeat(1_000) as unknown as number)
  t.strictSame((await asking.core.survey.ask(double, 1)).missing, [other.id])
  t.equal((await logged('long'))!.command.length, 500)

  // A record that no instance has written.
  await other.backend.presence.add('\u0000instances', [{ client: 'ghost', user: '' }, { client: 'ghosts', user: '', info: 7 as never }])
  other.core.survey.answer(double, number => number * 2)
  t.strictSame((await asking.core.survey.ask(double, 1)).missing, [])
})

t.test('questions take no place in the history of the commands', async (t) => {
  const keyPrefix = randomPrefix()
  const [asking] = await startAll(t, 2, { redis: redis.url, keyPrefix }) as [CoreInstance]
  await Promise.all(Array.from({ length: 20 }, () => asking.core.survey.ask(double, 1)))
  t.strictSame((await asking.backend.broker.history('\u0000control', { limit: 100 })).publications, [])
})

t.test('an instance that could not listen for answers tries again at the next question', async (t) => {
  const options = { redis: redis.url, keyPrefix: randomPrefix() }
  let fails = true
  const asking = await startCore(t, options, broker => ({
    up: true,
    start: listener => broker.start(listener),
    publish: (...args) => broker.publish(...args),
    subscribe: async (channel, ...args) => {
      if (fails && channel.startsWith('\u0000answers')) throw new Error('not now')
      await broker.subscribe(channel, ...args)
    },
    unsubscribe: channel => broker.unsubscribe(channel),
    history: (...args) => broker.history(...args),
    removeHistory: channel => broker.removeHistory(channel),
    close: () => broker.close()
  }))
  await startAll(t, 1, options)
  asking.core.survey.answer(double, number => number * 2)
  await t.rejects(asking.core.survey.ask(double, 1), /not now/)
  fails = false
  const { of, missing } = await asking.core.survey.ask(double, 1)
  t.strictSame([of.size, missing], [2, []])
})
