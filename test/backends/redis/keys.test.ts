import t from 'tap'
import { RedisKeys } from '../../../lib/backends/redis/keys.ts'

const names = ['room', 'a:b', 'a b', '{', '}', '{}', '{x}', 'x}y', '%', '%7B', '%7D', '%25', '', 'ž', '*']
const keys = new RedisKeys('ws')
const kinds = ['pubsub', 'stream', 'position', 'members', 'membersUntil', 'session', 'rateLimit'] as const

t.test('a key says what it is and whose', async (t) => {
  t.equal(keys.pubsub('chat:1'), 'ws:pub:{chat:1}')
  t.equal(keys.stream('chat:1'), 'ws:stream:{chat:1}')
  t.equal(keys.position('chat:1'), 'ws:position:{chat:1}')
  t.equal(keys.result('chat:1', 'my key'), 'ws:result:{chat:1}:my key')
  t.equal(keys.members('chat:1'), 'ws:members:{chat:1}')
  t.equal(keys.membersUntil('chat:1'), 'ws:members-until:{chat:1}')
  t.equal(keys.session('ada'), 'ws:session:{ada}')
  t.equal(keys.rateLimit('::1'), 'ws:rate-limit:{::1}')
})

t.test('no two names share a key', async (t) => {
  const all = names.flatMap(name => [...kinds.map(kind => keys[kind](name)), keys.result(name, 'a'), keys.result(name, '')])
  t.equal(new Set(all).size, all.length)
})

t.test('all that belongs to a name has the same hash tag, whatever the name', async (t) => {
  // As Redis does it: between the first { and the first } after it, if that is not empty.
  const tagOf = (key: string) => /\{([^}]+)\}/.exec(key)?.[1]
  for (const name of names) {
    const tags = new Set([...kinds.map(kind => tagOf(keys[kind](name))), tagOf(keys.result(name, '{other}'))])
    t.equal(tags.size, 1, name)
    t.not([...tags][0], undefined)
  }
  t.equal(new Set(names.map(name => tagOf(keys.stream(name)))).size, names.length)
})
