import t from 'tap'
import type { Options } from '../../index.ts'
import { UnkeptReads } from '../../lib/observability/hints/unkept.ts'
import { resolveOptions } from '../../lib/options/resolve.ts'
import { startApp } from '../helpers/app.ts'
import { collectLog } from '../helpers/log.ts'

const channels: Options['channels'] = { chat: { presence: true, history: { size: 10, ttl: '1m' } }, orders: {}, 'a-b': {} }

t.test('reading the history or the presence of a namespace that keeps none is answered as before, with one hint for each', async (t) => {
  const { logger, entries } = collectLog()
  const { app } = await startApp(t, { redis: false, channels }, { logger })
  const { realtime } = app
  for (let i = 0; i < 2; i++) {
    await realtime.history('chat:1')
    await realtime.presence('chat:1')
    await realtime.presenceStats('chat:1')
    t.match(await realtime.history('chats:1'), { publications: [], offset: 0 })
    t.strictSame(await realtime.presence('chats:1'), [])
    t.strictSame(await realtime.presenceStats('orders:1'), { clients: 0, users: 0 })
    t.match(await realtime.history('a-b:1'), { publications: [] })
    t.match(await realtime.history('lobby'), { publications: [] })
  }
  const there = "Known namespaces: 'chat', 'orders', 'a-b'."
  const missing = (namespace: string) => `its namespace '${namespace}' is not in the option channels. ${there}`
  const history = (namespace: string) => `channels: { ${namespace}: { history: { size: 100, ttl: '10m' } } }`
  const presence = (namespace: string) => `channels: { ${namespace}: { presence: true } }`
  const expected = [
    ['no_history', history('chats'), `The history of channel 'chats:1' is always empty: ${missing('chats')} Did you mean 'chat'? To keep it: `],
    ['no_presence', presence('chats'), `The presence of channel 'chats:1' is always empty: ${missing('chats')} Did you mean 'chat'? To keep it: `],
    ['no_presence', presence('orders'), `The presence of channel 'orders:1' is always empty: its namespace 'orders' keeps no presence. ${there} To keep it: `],
    ['no_history', history("'a-b'"), `The history of channel 'a-b:1' is always empty: its namespace 'a-b' keeps no history. ${there} To keep it: `],
    ['no_history', history("''"), `The history of channel 'lobby' is always empty: ${missing('')} To keep it: `]
  ].map(([hint, command, text]) => ({ level: 40, hint, command, msg: `${text}${command}`, namespaces: ['chat', 'orders', 'a-b'] }))
  const hints = entries.filter(({ event }) => event === 'hint').map(({ level, hint, command, msg, namespaces }) => ({ level, hint, command, msg, namespaces }))
  t.strictSame(hints, expected)
})

t.test('an app that reads any number of namespaces gets a bounded number of hints, and none without namespaces is named', async (t) => {
  const reads = new UnkeptReads(resolveOptions({}, {}).channels)
  t.match(reads.find('history', 'x:1')?.text, /The option has no namespaces\. To keep it$/)
  const told = Array.from({ length: 1_000 }, (_, i) => reads.find('history', `n${i}:1`)).filter(one => one !== undefined)
  t.equal(told.length, 99)
})
