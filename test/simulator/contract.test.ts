import { isDeepStrictEqual } from 'node:util'
import { createClient } from 'redis'
import t from 'tap'
import { BUFFERS } from '../../lib/backends/redis/commands.ts'
import { allScripts } from '../../lib/backends/redis/scripts.ts'
import * as scripts from '../../lib/backends/redis/scripts.ts'
import { startRedis } from '../helpers/redis.ts'
import { Random } from './random.ts'
import { RedisServer } from './redis-model.ts'
import { ErrorReply } from './redis-store.ts'

const ROUNDS = 3_000
/** Few, so that operations meet, and one of the wrong type now and then. */
const KEYS = ['a', 'b', 'c']

/** Arguments of the commands and scripts that the model is asked for, at random. */
function newOperation (random: Random): string[] {
  const key = () => random.pick(KEYS)
  const field = () => random.pick(['e', 's', 'x', '\u00ff\u0000 bytes'])
  const number = () => String(random.between(0, 12))
  const limit = () => String(random.between(1, 12))
  const range = () => random.pick(['-', '+', number(), `${number()}-0`])
  const evaluate = ({ text }: scripts.RedisScript, keys: string[], ...args: string[]) => ['EVAL', text, String(keys.length), ...keys, ...args]
  const streams = () => random.pick([['a', 'b'], ['b', 'c'], ['c', 'a']])
  const epoch = () => `epoch-${random.between(0, 2)}`
  const known = () => [
    epoch(), epoch(), number(), random.pick(['', `${number()} instance `]), random.pick(['', epoch(), `${epoch()} ${epoch()}`])
  ]
  const presence = ['members', 'until', 'users']
  const member = () => random.pick(['{"user":"ann"}', '{"user":"böb","info":[1,{"a":null}]}', '{"user":1}', '["list"]', 'not JSON', '7'])
  const read = (): [keys: string[], ...args: string[]] => [
    streams(), '60000', '60000', random.pick(['XRANGE', 'XREVRANGE']), range(), range(), number(), random.pick(['0', '40']), ...known()
  ]
  const operations: Array<() => string[]> = [
    () => ['DEL', key()],
    () => ['HSET', key(), field(), number(), field(), number()],
    () => ['HGET', key(), field()],
    () => ['HMGET', key(), field(), field()],
    () => ['HDEL', key(), field(), field()],
    () => ['HINCRBY', key(), 's', number()],
    () => ['INCR', 'count'],
    () => ['ZADD', 'd', number(), field(), number(), field()],
    () => ['ZREM', 'd', field()],
    () => ['ZRANGEBYSCORE', 'd', '-inf', number()],
    () => ['ZREMRANGEBYSCORE', 'd', number(), number()],
    () => ['XADD', key(), ...random.chance(0.5) ? ['MAXLEN', number()] : [], `${number()}-${number()}`, 'd', 'x'],
    () => ['XRANGE', key(), range(), range(), 'COUNT', limit()],
    () => ['XREVRANGE', key(), range(), range(), 'COUNT', limit()],
    () => ['XLEN', key()],
    () => ['EXISTS', key()],
    () => ['HEXISTS', key(), field()],
    () => ['HLEN', key()],
    () => ['ZCARD', 'd'],
    () => ['PEXPIRE', key(), random.pick(['0', '60000'])],
    () => evaluate(scripts.publishWithHistory, [...streams(), ...random.chance(0.3) ? ['result'] : []],
      `j ${number()} instance 0\n`, number(), '60000', '60000', 'PUBLISH', 'pub', '60000', ...known()),
    () => evaluate(scripts.publishOnce, [random.pick(['result', 'other result']), 'sequences'], 'a', 'b', 'i', 'PUBLISH', 'pub', '60000'),
    () => evaluate(scripts.beginEpoch, [key()], epoch()),
    () => evaluate(scripts.readHistory, ...read()),
    () => ['EVALSHA', scripts.readHistory.sha1, '2', ...read().flat()],
    () => ['EVALSHA', random.pick(allScripts).sha1, '0'], // a script without its keys
    () => evaluate(scripts.addMembers, presence, '60000', field(), member(), field(), member()),
    () => evaluate(scripts.removeMember, presence, field()),
    () => evaluate(scripts.listMembers, presence),
    () => evaluate(scripts.countMembers, presence, '60000'),
    () => evaluate(scripts.setSession, [key()], '60000', '1', field(), number(), field()),
    () => evaluate(scripts.countInWindow, ['window'], '60000'),
    () => ['SCRIPT', 'FLUSH']
  ]
  return random.pick(operations)()
}

t.test('the model of Redis replies as Redis does', async (t) => {
  const redis = await startRedis(t)
  const client = createClient({ url: redis.url, RESP: 3 })
  await client.connect()
  t.teardown(() => client.destroy())
  const model = new RedisServer()
  const seed = Number(process.env.SEED ?? 1)
  const random = new Random(seed)
  t.comment(`to run it again: SEED=${seed} npx tap --disable-coverage test/simulator/contract.test.ts`)
  const differences: unknown[] = []
  for (let i = 0; i < ROUNDS && differences.length < 3; i++) {
    const operation = newOperation(random)
    const bytes = operation.map(argument => Buffer.from(argument, 'latin1'))
    const real = await client.sendCommand(bytes, BUFFERS).then(text, errorCode)
    const modelled = await Promise.resolve().then(() => model.run(operation)).then(text, errorCode)
    if (!isDeepStrictEqual(comparable(operation, modelled), comparable(operation, real))) differences.push({ operation, modelled, real })
  }
  t.strictSame(differences, [])
})

t.test('what the model does not know is an error, not a wrong answer', async (t) => {
  t.throws(() => new RedisServer().run(['GETDEL', 'key']), { message: /^the model of Redis has no GETDEL/ })
})

function text (reply: unknown): unknown {
  if (Array.isArray(reply)) return reply.map(text)
  return Buffer.isBuffer(reply) ? reply.toString('latin1') : reply
}

/** The texts differ, the first word does not. */
function errorCode (error: Error): string {
  if (!(error instanceof ErrorReply) && !/Error|Reply/.test(error.constructor.name)) throw error
  return `error ${error.message.split(' ', 1)}`
}

/** Time passes while Redis answers, and its hashes have no order. */
function comparable ([command, script]: string[], reply: unknown): unknown {
  if (command === 'EVAL' && script === scripts.countInWindow.text && Array.isArray(reply)) return reply[0]
  if (command === 'EVAL' && script === scripts.listMembers.text && Array.isArray(reply)) return reply.toSorted()
  return reply
}
