import t from 'tap'
import { likelyMeant } from '../../lib/model/spelling.ts'

t.test('the likely name is the nearest one, unless all are far off', async (t) => {
  const known = ['path', 'sdkPath', 'user', 'info', 'ttl', 'max', 'maxConnections', 'maxConnectionAge', 'idempotencyKey']
  for (const [name, meant] of [
    ['maxConnection', 'maxConnections'],
    ['maxConnectionsAge', 'maxConnectionAge'],
    ['idempotencykey', 'idempotencyKey'],
    ['PATH', 'path'],
    ['inof', 'info'],
    ['userId', 'user'],
    ['tll', 'ttl'],
    ['min', undefined],
    ['', undefined],
    ['something', undefined]
  ] as const) {
    t.equal(likelyMeant(name, known), meant, name)
  }
})
