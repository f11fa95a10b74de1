import t from 'tap'
import { fakeConnection } from '../../testing.ts'

t.test('a fake connection writes down what a handler does with it', async (t) => {
  const connection = fakeConnection({ user: 'ann', channels: new Set(['room:1']) })
  t.match(connection, { user: 'ann', protocol: 'plain', open: true, info: undefined, closedWith: undefined })
  t.equal(connection.send({ n: 1 }), true)
  t.strictSame(await connection.subscribe('room:2'), {})
  await connection.unsubscribe('room:1')
  connection.meta = { tenant: 'a' }
  connection.close(4000, 'bye')
  connection.close()
  t.equal(connection.send('too late'), false)
  t.strictSame(connection.sent, [{ n: 1 }])
  t.strictSame(Array.from(connection.channels), ['room:2'])
  t.strictSame([connection.open, connection.closedWith, connection.meta], [false, { code: 4000, reason: 'bye' }, { tenant: 'a' }])
  t.not(fakeConnection().id, fakeConnection().id)
})

t.test('any part of it can be replaced', async (t) => {
  const sent: unknown[] = []
  const connection = fakeConnection({ id: '1', open: false, send: data => sent.push(data) > 0 })
  t.equal(connection.send('x'), true)
  t.strictSame([connection.id, connection.open, sent], ['1', false, ['x']])
})

t.test('a misspelt part is named', async (t) => {
  t.throws(() => fakeConnection({ usr: 'ann' } as object), { code: 'FST_CRWS_INVALID_ARGUMENT', message: /did you mean `user`/ })
})

t.test('a fake connection writes down what it is asked, and answers what the test says', async (t) => {
  const connection = fakeConnection()
  t.equal(await connection.request('confirm', { amount: 5 }), undefined)
  t.strictSame(connection.requests, [{ method: 'confirm', data: { amount: 5 } }])
  t.equal(await fakeConnection({ request: async () => 'yes' }).request('confirm'), 'yes')
})
